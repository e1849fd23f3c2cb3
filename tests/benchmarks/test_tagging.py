"""The benchmark runs to its end and measures what it promises; how fast is not tested."""

import json
import math
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tagger.models.checkpoint import load_checkpoint
from tagger.models.description import describe
from tagger.models.genre_model import GenreModel
from tests.benchmarks.tagging import (
    QUICK,
    Figure,
    check_script,
    extractor_of,
    make_songs,
    median_seconds,
    model_speeds,
    network_alone,
    run_speeds,
    snippets_of,
)
from tests.support.checkpoints import make_checkpoint

STOCK = ("transformers fp32", "transformers bf16", "OpenVINO")
OF_A_MODEL = (
    *(f"{{}}, batch {n}, {engine}" for n in (1, 8) for engine in (*STOCK, "log-mels too")),
    "{}",
    "{}, at its shapes",
    "{}, nominal",
    "{} run",
    "{} decoders alone",
    "{} model alone",
    "{} run, script on its snippets",
)
PROMISED = (
    *(f"decode {name}{which}" for name in ("mp3", "flac", "m4a", "opus", "ogg") for which in ("", ", all")),
    "log-mel",
    *(name.format("starter") for name in OF_A_MODEL),
    "starter run, mp3s alone",
    "starter run, --snippets auto",
    "starter run, script on whole songs",
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
BESIDE_NOTHING = re.compile(r".* alone|peak memory, .*|genre-tag FOLDER")


def check_figures(figures: Mapping[str, Mapping[str, Any]], promised: set[str]) -> None:
    """Fail unless all that is promised was measured, and compared where it can be."""
    assert promised <= set(figures)
    for name, figure in figures.items():
        is_compared = name == "starter run, mp3s alone" or not BESIDE_NOTHING.fullmatch(name)
        numbers = [figure[key] for key in (("value", "beside_value", "ratio") if is_compared else ("value",))]
        assert all(math.isfinite(number) and number > 0 for number in numbers), figure


def test_quick_run_measures_all_it_promises(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    command = [sys.executable, "-m", "tests.benchmarks.tagging", "--quick", "--json", file]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=Path(__file__).parents[2])
    measured = json.loads(file.read_text(encoding="utf-8"))
    check_figures({figure["name"]: figure for figure in measured["figures"]}, set(PROMISED))
    assert measured["machine"]["cores"] >= 1 and measured["machine"]["device"]


def test_other_models_are_measured_as_the_starter_is(tmp_path: Path) -> None:
    description = replace(describe(str(make_checkpoint(tmp_path / "model"))), name="other")
    songs = make_songs(tmp_path / "songs", replace(QUICK, song_seconds=3))[:2]
    measured = [*model_speeds(description, "cpu", songs, QUICK), *run_speeds(songs, description, "cpu", QUICK)]
    figures = {figure.name: {**vars(figure), "ratio": figure.ratio} for figure in measured}
    check_figures(figures, {name.format("other") for name in OF_A_MODEL})


def test_a_script_that_classifies_something_else_ends_the_benchmark(tmp_path: Path) -> None:
    description = describe(str(make_checkpoint(tmp_path / "model")))
    songs = make_songs(tmp_path / "songs", replace(QUICK, song_seconds=3))[:1]
    model = GenreModel.load(description, "cpu", "fp32")
    same = model.logits(snippets_of(songs, description.snippet_samples))
    check_script(lambda *_: same, songs, description, "cpu")
    for other in (same[:, ::-1], same + np.nan):
        with pytest.raises(SystemExit, match="differ"):
            check_script(lambda *_, logits=other: logits, songs, description, "cpu")


def test_the_network_alone_answers_what_the_model_answers(tmp_path: Path) -> None:
    description = describe(str(make_checkpoint(tmp_path / "model")))
    snippets = snippets_of(
        make_songs(tmp_path / "songs", replace(QUICK, song_seconds=3))[:2], description.snippet_samples
    )
    checkpoint = load_checkpoint(description)
    model, log_mels = GenreModel(checkpoint, "cpu", "fp32"), np.stack([checkpoint.log_mel(each) for each in snippets])
    np.testing.assert_array_equal(network_alone(checkpoint, model, log_mels)(), model.logits(snippets))
    np.testing.assert_allclose(extractor_of(description)(snippets), log_mels, rtol=0, atol=2e-4)


def test_more_of_something_a_second_and_fewer_milliseconds_are_both_faster() -> None:
    assert Figure("run", 12.0, "songs/s", "script", 4.0).ratio == 3
    assert Figure("decode", 4.0, "ms per song", "all", 12.0).ratio == 3
    assert Figure("alone", 4.0, "ms per song").ratio is None


def test_works_take_turns_and_the_first_turn_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([9, 9, 1, 4, 3, 6])
    now = 0.0

    def work() -> None:
        nonlocal now
        now += next(seconds)

    monkeypatch.setattr("time.perf_counter", lambda: now)
    assert median_seconds(3, work, work) == [2, 5]
