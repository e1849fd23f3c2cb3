"""The benchmark runs to its end and measures what it promises; how fast is not tested."""

import json
import math
import subprocess
import sys
from pathlib import Path

PROMISED = (
    *(f"decode {name}" for name in ("mp3", "flac", "m4a", "opus", "ogg")),
    "log-mel",
    *(f"starter, batch {n}" for n in (1, 8, 16)),
    "starter fp32, fastest",
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
    "peak memory, main process",
    "peak memory, with decoders",
    "second half of 15",
    "peak memory in 15",
)
ALONE = {name for name in PROMISED if name.startswith(("its ", "peak memory, ", "genre-tag FOLDER"))}  # beside nothing


def test_quick_run_measures_all_it_promises(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    command = [sys.executable, "-m", "tests.benchmark", "--quick", "--json", file]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=Path(__file__).parents[1])
    measured = json.loads(file.read_text(encoding="utf-8"))
    figures = {figure["name"]: figure for figure in measured["figures"]}
    assert set(PROMISED) <= set(figures)
    for name, figure in figures.items():
        numbers = [figure["value"]] if name in ALONE else [figure[key] for key in ("value", "beside_value", "ratio")]
        assert all(math.isfinite(number) and number > 0 for number in numbers), figure
    assert measured["machine"]["cores"] >= 1 and measured["machine"]["device"]
