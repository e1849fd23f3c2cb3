"""What is said of a song: the same as a run makes of it, and every number where it comes from."""

# ruff: noqa: F811  (fixtures are imported by name)

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console

from tagger.audio.library import Found
from tagger.models.head import Gate, GenreHead
from tagger.pipeline.aggregate import Decision, decide
from tagger.pipeline.cache import PredictionCache
from tagger.pipeline.explain import Explanation, Moment, explain, why
from tagger.pipeline.options import DecisionPolicy
from tagger.pipeline.predict import Prediction
from tagger.pipeline.run import SongResult
from tagger.report.explanation import print_explanation
from tagger.tags import genre as tags
from tests.cli.test_tag import Run, genre_tag  # noqa: F401
from tests.support.fakes import GENRES, FakeModel, make_options
from tests.support.songs import make_song

ROOT = Path(__file__).parents[2]


def make_medley(path: Path, *parts: str, part_seconds: float = 10.0) -> Path:
    """A song whose parts FakeModel classifies as these genres; "" is silence."""
    amplitudes = [{"Blues": 0.05, "Classical": 0.2, "Rock": 0.8, "": 0.0}[part] for part in parts]
    time = np.arange(int(part_seconds * 16_000)) / 16_000
    tone = np.sin(2 * np.pi * 440 * time, dtype=np.float32)
    mono = np.concatenate([amplitude * tone for amplitude in amplitudes]).astype(np.float32)
    return make_song(path, rate=16_000, signal=np.stack([mono, mono]))


@pytest.fixture(scope="module")
def medley(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_medley(tmp_path_factory.mktemp("medley") / "medley.flac", "Blues", "", "Rock", "Rock")


@pytest.fixture
def explained(tmp_path: Path) -> Callable[..., Explanation]:
    """Explains a song with a fake model and a cache that lasts for the test."""

    def run(path: Path, model: FakeModel | None = None, may_load: bool = True, **options: object) -> Explanation:
        model = model or FakeModel(2.0)

        def load_model() -> FakeModel:
            assert may_load
            return model

        chosen = make_options(**{"n_snippets": None, **options})
        with PredictionCache(tmp_path / "cache.sqlite3", print) as cache:
            return explain(Found(path), model, load_model, chosen, cache)

    return run


def printed(explanation: Explanation, width: int = 80, **sources: str) -> str:
    console = Console(file=StringIO(), width=width, highlight=False)
    print_explanation(explanation, sources, console)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


# ---- along the song


def test_every_snippet_has_its_time_and_genre_and_silence_is_shown(
    explained: Callable[..., Explanation], medley: Path
) -> None:
    moments = explained(medley).moments
    assert [(moment.start_seconds, moment.end_seconds) for moment in moments] == [(0, 10), (10, 20), (20, 30), (30, 40)]
    best = [moment.decision.ranking[0] if moment.decision else None for moment in moments]
    sure = math.exp(2) / (math.exp(2) + 2)  # one logit of 2, two of 0
    assert [each and each[0] for each in best] == ["Blues", None, "Rock", "Rock"]
    assert [each[1] for each in best if each] == pytest.approx([sure] * 3)


def test_a_silent_place_is_known_the_second_time_too(explained: Callable[..., Explanation], medley: Path) -> None:
    first, second = explained(medley), explained(medley, may_load=False)
    assert second.result.cached and not first.result.cached
    assert second.moments == first.moments and second.aggregates == first.aggregates


@pytest.mark.parametrize(
    ("duration", "n_snippets", "prediction", "silent"),
    [
        (70.0, 5, (10.0, 30.0, 40.0, 50.0), [20.0]),
        (70.04, 5, (10.0, 20.0, 30.0, 40.0, 50.0), []),  # the header said 70 s
        (69.95, 5, (20.0, 30.0, 40.0, 50.0), [9.992]),
        (20.05, None, (0.0, 10.0), []),  # a third snippet would begin at 10.05
        (19.96, None, (0.0, 10.0), []),  # the header said 20 s
        (25.0, None, (0.0,), [10.0, 15.0]),
        (25.0, None, (), [0.0, 10.0, 15.0]),
        (7.0, 5, (0.0,), []),
        (7.0, 5, (), [0.0]),
        (0.5, 5, (), []),  # too short to be classified
    ],
)
def test_what_was_planned_and_not_classified_is_silent(
    monkeypatch: pytest.MonkeyPatch,
    duration: float,
    n_snippets: int | None,
    prediction: tuple[float, ...],
    silent: list,
) -> None:
    """The starts that were classified are those of the length in the header; the length itself is what was decoded."""
    answer = Prediction(
        np.zeros((len(prediction), 3), np.float32), prediction, duration, "" if prediction else "silent"
    )
    result = SongResult(Path("song.mp3"), "unsure", prediction=answer)
    monkeypatch.setattr("tagger.pipeline.explain.tag_songs", lambda *_: [result])
    model = FakeModel()
    moments = explain(Found(Path("song.mp3")), model, FakeModel, make_options(n_snippets=n_snippets), None).moments
    assert [moment.start_seconds for moment in moments if moment.decision is None] == pytest.approx(silent, abs=1e-3)
    assert [moment.start_seconds for moment in moments if moment.decision] == list(prediction)
    assert [moment.start_seconds for moment in moments] == sorted(moment.start_seconds for moment in moments)
    assert all(moment.end_seconds <= duration + 0.1 for moment in moments)


def test_a_snippet_may_fail_the_gate_alone(explained: Callable[..., Explanation], tmp_path: Path) -> None:
    head = GenreHead(("Blues", "Rock"), "softmax", members=((0,), (2,)), gate=Gate(music=2, speech=1))
    song = make_medley(tmp_path / "radio.flac", "Rock", "Classical", "Rock", "Rock")  # Classical is its speech
    explanation = explained(song, FakeModel(2.0, head))
    assert explanation.moments[1].decision.reason == "not music (music 0.50, speech 0.88)"
    assert explanation.result.decision.ranking[0][0] == "Rock"
    assert "0:10–0:20                    not music (music 0.50, speech 0.88)" in printed(explanation)


# ---- the song as a whole


def test_the_four_aggregations_are_those_of_a_run(explained: Callable[..., Explanation], medley: Path) -> None:
    rows = 2 * np.eye(3, dtype=np.float32)[[0, 2, 2]]
    options = {"min_confidence": 0.6, "max_genres": 2, "names": {"Rock": "Metal", "Blues": ""}}
    for aggregate in ("mean", "weighted", "vote", "max"):
        explanation = explained(medley, aggregate=aggregate, **options)
        assert list(explanation.aggregates) == ["mean", "weighted", "vote", "max"]
        assert explanation.aggregates[aggregate] == explanation.result.decision
        assert explanation.aggregates[aggregate] == decide(
            rows, FakeModel().head, DecisionPolicy(aggregate=aggregate, **options)
        )
    assert explanation.aggregates["vote"].ranking[0] == ("Metal", pytest.approx(2 / 3))


def test_what_each_way_with_a_genre_would_leave(explained: Callable[..., Explanation], tmp_path: Path) -> None:
    song = make_medley(tmp_path / "song.flac", "Rock")
    assert set(explained(song).outcomes.values()) == {("Rock",)}
    song.write_bytes(tags.retag(song.read_bytes(), ".flac", ["Pop"]))
    explanation = explained(song, existing="append")
    assert explanation.outcomes == {"keep": ("Pop",), "append": ("Pop", "Rock"), "replace": ("Rock",)}
    assert explanation.result.new == ("Pop", "Rock")
    before = song.read_bytes()
    assert explained(song, existing="replace").result.new == ("Rock",)
    assert song.read_bytes() == before  # explained, not written


@pytest.mark.parametrize(
    ("result", "sentence"),
    [
        (
            SongResult(
                Path(), "tagged", ("Pop",), ("Pop", "Rock", "Blues"),
                Decision(("Rock", "Blues"), (("Rock", 0.7), ("Blues", 0.2), ("Folk", 0.1)), "", (0.5, 0.15, 0.5)),
            ),
            "Pop; Rock; Blues would be written: Rock has 0.70 and needs 0.50, Blues has 0.20 and needs 0.15.",
        ),
        (SongResult(Path(), "unchanged", ("Pop",), ("Pop",)), "Left as it is: its genre is Pop already."),
        (
            SongResult(Path(), "kept", ("Pop", "Folk"), ("Pop", "Folk")),
            "Left as it is: its genre is Pop; Folk, and --existing keep leaves that alone.",
        ),
        (
            SongResult(Path(), "unsure", reason="Rock 0.30 is below 0.50"),
            "Left as it is, unsure: Rock 0.30 is below 0.50.",
        ),
        (SongResult(Path(), "skipped", reason="video"), "Left alone: video."),
        (SongResult(Path(), "failed", reason="empty file"), "It could not be decoded: empty file."),
    ],
    ids=lambda value: value.status if isinstance(value, SongResult) else "",
)  # fmt: skip
def test_the_decision_in_a_sentence(result: SongResult, sentence: str) -> None:
    assert why(result) == sentence


# ---- as it is printed


def test_all_of_it_on_80_columns(explained: Callable[..., Explanation], medley: Path, monkeypatch) -> None:
    monkeypatch.chdir(medley.parent)
    head = GenreHead(GENRES, "softmax", thresholds=(0.5, 0.5, math.inf), threshold_reason="tried on few songs.")
    explanation = explained(Path("medley.flac"), FakeModel(2.0, head))
    # Mean logits 2/3, 0, 4/3; each snippet weighs the same; the highest are 2, 0, 2.
    assert printed(explanation) == (
        "medley.flac\n"
        "0:40 long, 3 of 4 snippets of 10 s classified by fake\n"
        "\n"
        "along the song\n"
        " 0:00–0:10  █████████████     Blues 0.79  Classical 0.11  Rock 0.11\n"
        " 0:10–0:20                    silent\n"
        " 0:20–0:30  █████████████     Rock 0.79  Blues 0.11  Classical 0.11\n"
        " 0:30–0:40  █████████████     Rock 0.79  Blues 0.11  Classical 0.11\n"
        "\n"
        "as a whole\n"
        " ▸  mean      Rock 0.56  Blues 0.29  Classical 0.15  → unsure\n"
        "    weighted  Rock 0.56  Blues 0.29  Classical 0.15  → unsure\n"
        "    vote      Rock 0.67  Blues 0.33                  → unsure\n"
        "    max       Blues 0.47  Rock 0.47  Classical 0.06  → unsure\n"
        "\n"
        "▸          in force: --aggregate mean\n"
        "numbers    shares of 1, not calibrated: 0.80 does not mean that 80 % are right\n"
        "threshold  of the model: Rock is not written by default (tried on few songs)\n"
        "genre now  none\n"
        "decision   Left as it is, unsure: Rock 0.56, not written by default."
    )


def test_the_thresholds_of_all_genres_that_may_be_written(explained: Callable[..., Explanation], medley: Path) -> None:
    head = GenreHead(GENRES, "softmax", thresholds=(0.25, 0.5, 0.3), threshold_reason="so it is")
    explanation = explained(medley, FakeModel(2.0, head), max_genres=2)
    assert "of the model: Rock needs 0.30, Blues needs 0.25 (so it is)" in printed(explanation)
    assert "→ Rock; Blues" in printed(explanation)
    explanation = explained(medley, FakeModel(2.0, head), min_confidence=0.6)
    text = printed(explanation, min_confidence="environment")
    assert "threshold  of --min-confidence, by the environment: every genre needs 0.60" in text
    assert "so it is" not in text


def test_the_map_and_where_settings_come_from(explained: Callable[..., Explanation], medley: Path) -> None:
    explanation = explained(medley, aggregate="vote", names={"Rock": "Metal", "Blues": ""}, min_confidence=0.5)
    text = printed(explanation, aggregate="settings file", min_confidence="command line", map_file="default")
    assert "▸  vote      Metal 0.67  Blues 0.33" in text
    assert "in force: --aggregate vote, by the settings file" in text
    assert "map        Rock → Metal; Blues → (never written)\n" in text
    assert "numbers    the share of snippets that sound most like it\n" in text
    assert "decision   Metal would be written: Metal has 0.67 and needs 0.50." in text


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (
            GenreHead(GENRES, "softmax", temperature=1.5, n_held_out=(100, 50, 50)),
            "calibrated on 200 held-out songs",
        ),
        (GenreHead(GENRES, "softmax", temperature=1.5), "shares of 1, not called calibrated: that takes"),
        (GenreHead(GENRES, "sigmoid"), "each genre on its own"),
        (GenreHead(GENRES, "margin"), "the lead over the best other genre"),
    ],
    ids=["calibrated", "without evidence", "sigmoid", "margin"],
)
def test_what_the_numbers_are(explained: Callable[..., Explanation], medley: Path, head: GenreHead, words: str) -> None:
    assert words in printed(explained(medley, FakeModel(2.0, head)))


@pytest.mark.parametrize("width", [80, 100])
def test_long_and_strange_names_keep_their_place(
    explained: Callable[..., Explanation], medley: Path, width: int
) -> None:
    genres = ("B" * 200, "\u202eשלום\x1b[31m", "[red]音楽" * 20)
    explanation = explained(medley, FakeModel(2.0, GenreHead(genres, "softmax")))
    text = printed(explanation, width)
    assert all(cell_len(line) <= width for line in text.splitlines()[1:])  # but the path, which is to be copied
    assert "\x1b" not in text and "\u202e" not in text and "[red]" in text
    assert all(f"{start}–" in text for start in ("0:00", "0:10", "0:20", "0:30"))


# ---- the command


def test_the_command_says_why(genre_tag: Callable[..., Run], medley: Path) -> None:
    run = genre_tag("explain", medley, "--snippets", "all")
    assert run.code == 0 and run.err == ""
    assert "Rock would be written: Rock has 0.93 and needs 0.50." in " ".join(run.out.split())
    again = genre_tag("explain", medley, "--snippets", "all")
    assert again.out.replace(", cached", "") == run.out != again.out
    assert genre_tag("explain", medley, "--snippets", "all", "--reanalyze").out == run.out


def test_settings_hold_and_are_named(
    genre_tag: Callable[..., Run], medley: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.toml").write_text('snippets = "all"\naggregate = "vote"\njobs = 1\nlimit = 3\n')
    monkeypatch.setenv("GENRE_TAG_MIN_CONFIDENCE", "0.7")
    run = genre_tag("explain", medley)
    assert "in force: --aggregate vote, by the settings file" in run.out
    assert "of --min-confidence, by the environment: every genre needs 0.70" in run.out
    assert "unsure: Rock 0.67 is below 0.70." in run.out
    assert "by the command line" in genre_tag("explain", medley, "--min-confidence", "0.9").out


def test_the_run_and_its_explanation_agree(genre_tag: Callable[..., Run], medley: Path, tmp_path: Path) -> None:
    (tmp_path / "names.map").write_text("Rock = Metal\n")
    asked = ["--snippets", "all", "--map", tmp_path / "names.map", "--max-genres", "2", "--aggregate", "vote"]
    (told,) = genre_tag("--json", "-", *asked, medley).records
    explained = genre_tag("explain", "--json", *asked, medley).records[0]
    assert {**explained, "cached": False} == {**explained, **told}
    assert explained["aggregates"]["vote"]["scores"] == told["scores"]
    assert explained["aggregates"]["vote"]["scale"] == explained["scale"] == "share of snippets"
    assert [part["silent"] for part in explained["snippets"]] == [False, True, False, False]
    assert explained["needed"] == {"Metal": 0.5, "Blues": 0.5, "Classical": 0.5}
    assert explained["with_existing"] == {"keep": ["Metal"], "append": ["Metal"], "replace": ["Metal"]}


def test_a_genre_that_is_never_written_needs_null_in_json(
    genre_tag: Callable[..., Run], medley: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = GenreHead(GENRES, "softmax", thresholds=(0.5, 0.5, math.inf))
    for name in ("tagger.models.description.describe", "tagger.models.genre_model.GenreModel.load"):
        monkeypatch.setattr(name, lambda *_: FakeModel(head=head))
    (told,) = genre_tag("explain", "--json", medley).records
    assert told["needed"] == {"Rock": None, "Blues": 0.5, "Classical": 0.5}


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("nosuch.mp3", 2, "It could not be decoded: no such file or folder."),
        ("damaged.mp3", 1, "It could not be decoded:"),
        ("clip.mkv", 0, "Left alone: video."),
        ("notes.txt", 0, "Left alone: not a music file"),
    ],
)
def test_a_song_that_is_not_classified(
    genre_tag: Callable[..., Run], tmp_path: Path, name: str, code: int, words: str
) -> None:
    if code != 2:
        (tmp_path / name).write_bytes(b"no music" * 100)
    run = genre_tag("explain", tmp_path / name)
    assert run.code == code and f"decision {words}" in " ".join(run.out.split())
    assert "along the song" not in run.out and "threshold" not in run.out


def test_silence_is_told_as_silence(genre_tag: Callable[..., Run], tmp_path: Path) -> None:
    run = genre_tag("explain", make_medley(tmp_path / "quiet.flac", "", ""))
    assert run.code == 0 and "0:03–0:13" in run.out and "unsure: silent." in run.out
    assert "0 of 2 snippets" in run.out and "as a whole" not in run.out


@pytest.mark.parametrize("path", ["", "-", "list.m3u8"])
def test_more_than_one_song_is_refused(genre_tag: Callable[..., Run], tmp_path: Path, path: str) -> None:
    run = genre_tag("explain", path if path == "-" else tmp_path / path)
    assert run.code == 2 and "name one song" in run.err and run.out == ""


def test_a_cache_that_cannot_be_used_is_told_and_no_hindrance(
    genre_tag: Callable[..., Run], medley: Path, nobody: Path
) -> None:
    (nobody / "state").write_text("in the way")
    run = genre_tag("explain", medley)
    assert run.code == 0 and "Rock would be written" in run.out and run.err.startswith("genre-tag: ")


# ---- the picture


def test_the_picture_is_drawn(genre_tag: Callable[..., Run], medley: Path, tmp_path: Path) -> None:
    target = tmp_path / "medley.PNG"
    assert genre_tag("explain", medley, "--png", target).code == 0
    assert target.read_bytes().startswith(b"\x89PNG\r\n")


@pytest.mark.parametrize("name", ["song.mp3", "picture", "picture.png/", "missing/picture.png"])
def test_no_other_file_is_drawn_over(genre_tag: Callable[..., Run], medley: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "song.mp3").write_bytes(b"a song")
    (tmp_path / "picture.png").mkdir()
    run = genre_tag("explain", medley, "--png", tmp_path / name)
    assert run.code in (2, 3) and str(tmp_path / name).rstrip("/") in run.err
    assert (tmp_path / "song.mp3").read_bytes() == b"a song"


def test_nothing_classified_is_nothing_drawn(genre_tag: Callable[..., Run], tmp_path: Path) -> None:
    song, target = make_medley(tmp_path / "quiet.flac", "", ""), tmp_path / "quiet.png"
    run = genre_tag("explain", song, "--png", target)
    assert run.code == 3 and "nothing was classified" in run.err and not target.exists()


def test_what_is_in_the_picture(explained: Callable[..., Explanation], medley: Path) -> None:
    from tagger.report.plots import explanation_figure, explanation_png

    explanation = explained(medley)
    (axes,) = explanation_figure(explanation).axes
    lines = {line.get_label(): line for line in axes.lines}
    assert list(lines) == ["Rock", "Blues", "Classical", "needed for Rock"]
    np.testing.assert_array_equal(lines["Rock"].get_xdata(), [5, 15, 25, 35])
    np.testing.assert_allclose(lines["Rock"].get_ydata(), [0.1065, math.nan, 0.787, 0.787], atol=1e-3)
    np.testing.assert_array_equal(lines["needed for Rock"].get_ydata(), [0.5, 0.5])
    (silence,) = axes.patches
    assert (silence.get_x(), silence.get_width()) == (10, 10)
    assert axes.get_title() == "medley.flac\nRock"
    assert explanation_png(explanation) == explanation_png(explanation)


def test_a_picture_of_names_that_mean_something_to_matplotlib(
    explained: Callable[..., Explanation], medley: Path
) -> None:
    from tagger.report.plots import explanation_figure, explanation_png

    explanation = explained(medley, FakeModel(2.0, GenreHead(("_Blues", "$x^{$", "R\n" * 200), "softmax")))
    long = replace(explanation.moments[0], start_seconds=0.0)
    many = replace(explanation, moments=tuple(Moment(t, t + 10, long.decision) for t in range(0, 1000, 10)))
    for each in (explanation, many):
        assert explanation_png(each).startswith(b"\x89PNG")
    assert "Blues" in [line.get_label() for line in explanation_figure(explanation).axes[0].lines]


# ---- for real


def test_a_real_song_and_the_built_in_model(nobody: Path) -> None:
    song = ROOT / "tagger" / "samples" / "Dvorak - Largo.opus"
    environment = {**os.environ, "COLUMNS": "80"}
    done = subprocess.run(
        [sys.executable, "-m", "tagger", "explain", str(song), "--json"],
        capture_output=True, text=True, env=environment, cwd=ROOT, check=True,
    )  # fmt: skip
    told = json.loads(done.stdout)
    assert told["status"] == "tagged" and told["new"] == ["Classical"]
    record = json.loads((ROOT / "tagger" / "models" / "starter" / "training.json").read_text(encoding="utf-8"))
    assert told["needed"]["Classical"] == record["min_confidence"]["Classical"] and told["needed"]["Folk"] is None
    assert [part["start_seconds"] for part in told["snippets"]] == told["starts_seconds"]
    assert all(part["scores"]["Classical"] > 0.46 for part in told["snippets"])
