"""The benchmark runs to its end and measures what it promises; how fast is not tested."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path

PROMISED = (
    *(f"decode {name}" for name in ("mp3", "flac", "m4a", "opus", "ogg")),
    "log-mel",
    *(f"starter, batch {n}" for n in (1, 8, 16)),
    "starter fp32, fastest, nominal",
    "starter fp32, fastest, as computed",
    "starter fp32, fastest, share of ceiling",
    "run, model loaded",
    "its decoders alone",
    "its model alone",
    "run, --snippets auto",
    "run beside script, same snippets",
    "run beside script, all snippets",
    "a song known before",
    "genre-tag FOLDER",
    "the same again",
    "genre-tag --help",
    "start to loaded model",
    "genre-tag SONG",
    "peak memory, main process",
    "peak memory, with decoders",
    "second half of 15",
    "peak memory in 15",
)
BESIDE_NOTHING = re.compile(r"its .*|peak memory, .*|genre-tag FOLDER|.* share of ceiling")


def test_quick_run_measures_all_it_promises(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    command = [sys.executable, "-m", "tests.benchmark", "--quick", "--json", file]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=Path(__file__).parents[1])
    measured = json.loads(file.read_text(encoding="utf-8"))
    figures = {figure["name"]: figure for figure in measured["figures"]}
    assert set(PROMISED) <= set(figures)
    for name, figure in figures.items():
        numbers = (
            [figure["value"]]
            if BESIDE_NOTHING.fullmatch(name)
            else [figure[key] for key in ("value", "beside_value", "ratio")]
        )
        assert all(math.isfinite(number) and number > 0 for number in numbers), figure
    assert measured["machine"]["cores"] >= 1 and measured["machine"]["device"]
