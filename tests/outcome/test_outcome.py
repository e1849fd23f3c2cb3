"""What a run leaves: numbers that agree with their source, pictures that can be read, a card that says what is so."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from markdown_it import MarkdownIt
from matplotlib.figure import Figure
from matplotlib.image import imread

import training.outcome.outcome
from tagger.errors import OutputError
from tagger.evaluation.metrics import song_confidences, song_logits
from tagger.evaluation.predictions import Predictions
from tagger.report.plots import png
from training.outcome.calibrate import fit_min_confidence, fit_temperature
from training.outcome.card import model_card
from training.outcome.markdown import escaped
from training.outcome.outcome import (
    Contents,
    Interval,
    Outcome,
    SplitScores,
    contents,
    metrics,
    score_split,
    training_figure,
    write_outcome,
)

GENRES = ("Blues", "R&B | *Soul*", "<script>alert(1)</script>", "Folk, World, & Country_of_the_World")
HISTORY: list[dict[str, Any]] = [
    {"loss": 2.0, "learning_rate": 1e-5, "grad_norm": 1.0, "epoch": 0.5, "step": 1},
    {"loss": 1.5, "learning_rate": 5e-5, "grad_norm": 1.0, "epoch": 1.0, "step": 2},
    {"eval_loss": 1.6, "eval_accuracy": 0.5, "eval_f1": 0.4, "eval_mean_pooling_score": 0.6, "epoch": 1.0, "step": 2},
    {"loss": math.nan, "learning_rate": 2e-5, "grad_norm": math.nan, "epoch": 1.5, "step": 3},
    {"loss": 1.0, "learning_rate": 0.0, "grad_norm": 1.0, "epoch": 2.0, "step": 4},
    {"eval_loss": 1.7, "eval_accuracy": 0.6, "eval_f1": 0.5, "eval_mean_pooling_score": 0.6, "epoch": 2.0, "step": 4},
    {"train_runtime": 12.0, "train_loss": 1.5, "epoch": 2.0, "step": 4},
]


def prediction(genres: tuple[str, ...] = GENRES, n_songs: int = 60, temperature: float | None = None) -> Predictions:
    """What a seeded network said of three snippets of each song of validate and of test."""
    random = np.random.default_rng(8)
    song = np.repeat(np.arange(2 * n_songs), 3)
    labels = song % len(genres)
    logits = random.normal(size=(len(song), len(genres)))
    logits[np.arange(len(song)), labels] += random.normal(2, 2, size=2 * n_songs)[song]
    rows = {"validate": song < n_songs, "test": song >= n_songs}
    logits = logits.astype(np.float32)
    threshold = math.inf
    if temperature is None:
        fitted = song_logits(*(column[rows["validate"]] for column in (logits, labels, song)))
        temperature = fit_temperature(fitted.logits["mean"], fitted.labels)
        confidences = song_confidences(fitted.logits["mean"], temperature)
        threshold = fit_min_confidence(confidences, fitted.correct(), np.arange(n_songs) // 4).value
    return Predictions(
        genres=genres,
        temperature=temperature,
        min_confidence=threshold,
        splits=np.where(rows["validate"], "validate", "test").astype(object),
        songs=np.array([f"song{number}" for number in song], object),
        paths=np.array([f"/m/{number}.mp3" for number in song], object),
        artists=np.array([f"Artist {number // 4}" for number in song], object),
        starts_seconds=np.tile([10.0, 20.0, 30.0], 2 * n_songs),
        labels=labels,
        logits=logits,
    )


def held(predictions: Predictions) -> Contents:
    samples = [16_000 * 180] * len(predictions.songs)
    return contents(predictions.songs, predictions.artists, predictions.labels, samples, len(predictions.genres))


@pytest.fixture(scope="module")
def predictions() -> Predictions:
    return prediction()


@pytest.fixture
def outcome(predictions: Predictions, tmp_path: Path) -> Outcome:
    """A run on the songs of four genres, of which the third has few in train."""
    scores = {split: score_split(predictions.of_split(split), seed=0) for split in ("validate", "test")}
    found = song_logits(*(getattr(predictions.of_split("validate"), name) for name in ("logits", "labels", "songs")))
    confidences = song_confidences(found.logits["mean"], predictions.temperature or 1.0)
    folder = tmp_path / "a_run"
    folder.mkdir()
    return Outcome(
        folder=folder,
        genres=GENRES,
        model="audioset",
        n_parameters=86_194_186,
        snippet_seconds=5.0,
        argv=("genre-tag", "train", "--data", "my music", "--epochs", "2"),
        prepare_argv=("genre-tag", "prepare", "my songs.csv", "--snippet-seconds", "5"),
        options={"lr": 5e-5, "augment": True, "shift": "edge", "head_only": False, "data": Path("my music")},
        contents={
            "train": Contents((80, 90, 7, 85), 786, frozenset({"x", "y"}), 0, 13.1),
            **{split: held(predictions.of_split(split)) for split in scores},
        },
        scores=scores,
        temperature=predictions.temperature or 1.0,
        threshold=fit_min_confidence(confidences, found.correct(), np.arange(len(confidences))),
        history=HISTORY,
        timing_seconds={"training": 1234.5},
        environment={"genre-tag": "0.1.0", "device": "a | b"},
    )


def test_contents_count_songs_and_not_their_snippets() -> None:
    found = contents(
        songs=["a", "a", "b", "c", "a"],
        artists=["Björk", "Björk", " björk ", "", "Björk"],
        labels=[2, 2, 0, 2, 2],
        song_samples=[16_000 * 3600, 16_000 * 3600, 16_000 * 1800, 16_000 * 1800, 16_000 * 3600],
        n_genres=4,
    )
    assert found == Contents((1, 0, 2, 0), 5, frozenset({"björk"}), 1, 2.0)


def test_scores_of_a_split_agree_with_each_other(predictions: Predictions) -> None:
    test = predictions.of_split("test")
    found = score_split(test, seed=0)
    assert found.scores["mean_pooling_score"] == np.trace(found.confusion) / 60
    assert found.confusion.sum(axis=1).tolist() == [15] * 4
    for score, (low, high) in found.intervals.items():
        assert low < found.scores[score] < high
    assert set(found.intervals) == {"mean_pooling_score", "weighting_score", "voting_score", "max_pooling_score"}
    right = test.logits.reshape(60, 3, 4).mean(axis=1).argmax(axis=1) == test.labels[::3]
    assert found.scores["mean_pooling_score"] == right.mean()
    assert found.calibration.n_songs == 60
    assert found.calibration.precision > found.scores["mean_pooling_score"] > 0.5


def test_a_split_is_scored_when_temperature_and_threshold_are_known(predictions: Predictions) -> None:
    with pytest.raises(ValueError, match="fit them first"):
        score_split(replace(predictions, min_confidence=None), seed=0)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda o: {"scores": {"test": o.scores["test"]}}, "splits"),
        (lambda o: {"contents": {"train": o.contents["train"]}}, "splits"),
        (lambda o: {"contents": {**o.contents, "dev": o.contents["test"]}}, "splits"),
        (lambda o: {"genres": GENRES[:3]}, "4 numbers of songs for 3 genres"),
        (lambda o: {"contents": o.contents | {"test": o.contents["train"]}}, "test: the confusion has not"),
        (lambda o: {"scores": o.scores | {"test": shifted(o.scores["test"], 1.5)}}, "no share"),
        (lambda o: {"scores": o.scores | {"test": shifted(o.scores["test"], math.nan)}}, "no share"),
    ],
)
def test_an_outcome_that_contradicts_itself_is_a_bug(outcome: Outcome, change: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        replace(outcome, **change(outcome))


def shifted(scores: SplitScores, value: float) -> SplitScores:
    return replace(scores, scores={**scores.scores, "mean_pooling_score": value})


def strict(text: str) -> Any:
    return json.loads(text, parse_constant=pytest.fail)


def test_a_run_leaves_four_files(outcome: Outcome) -> None:
    write_outcome(outcome)
    names = {path.name for path in outcome.folder.iterdir()}
    assert names == {"metrics.json", "confusion.png", "training.png", "MODEL_CARD.md"}
    found = strict((outcome.folder / "metrics.json").read_text(encoding="utf-8"))
    assert found["scores"]["test"] == outcome.scores["test"].scores
    assert found["intervals"]["test"]["voting_score"] == list(outcome.scores["test"].intervals["voting_score"])
    assert found["confusion"]["validate"] == outcome.scores["validate"].confusion.tolist()
    counts = {"songs": 60, "snippets": 180, "artists": 15, "songs_without_artist": 0, "hours": 3.0}
    assert found["counts"]["test"] == counts | {"songs_of": dict.fromkeys(GENRES, 15)}
    assert found["calibration"]["temperature"] == outcome.temperature
    assert found["calibration"]["min_confidence"] == outcome.threshold.value
    assert found["calibration"]["test"]["coverage"] == outcome.scores["test"].calibration.coverage
    assert found["options"]["data"] == "my music"
    assert found["command"] == list(outcome.argv)
    pairs = found["confused_pairs"]["test"]
    assert pairs
    for pair in pairs:
        row, column = GENRES.index(pair["reference"]), GENRES.index(pair["predicted"])
        assert pair["n_songs"] == found["confusion"]["test"][row][column]
        assert pair["share"] == pair["n_songs"] / 15
    assert (outcome.folder / "MODEL_CARD.md").read_text(encoding="utf-8") == model_card(outcome)
    for picture in ("confusion.png", "training.png"):
        assert min(imread(outcome.folder / picture).shape[:2]) > 300


def test_numbers_that_json_has_no_word_for_are_null(outcome: Outcome) -> None:
    never = replace(outcome.threshold, value=math.inf, precision=math.nan)
    test = replace(
        outcome.scores["test"],
        scores={**outcome.scores["test"].scores, "f1": math.nan},
        calibration=replace(outcome.scores["test"].calibration, precision=math.nan),
    )
    found = metrics(replace(outcome, threshold=never, scores={**outcome.scores, "test": test}))
    found = strict(json.dumps(found, allow_nan=False))
    assert found["scores"]["test"]["f1"] is None
    assert found["calibration"]["test"]["precision"] is None
    assert found["calibration"]["min_confidence"] == {}
    with pytest.raises(TypeError, match="no place in JSON"):
        metrics(replace(outcome, options={"set": {1}}))


def test_a_folder_that_cannot_be_written_is_named(outcome: Outcome) -> None:
    lost = replace(outcome, folder=outcome.folder / "gone")
    with pytest.raises(OutputError, match="No such file") as caught:
        write_outcome(lost)
    assert caught.value.path == outcome.folder / "gone" / "confusion.png"


@pytest.mark.parametrize("name", ["confusion.png", "MODEL_CARD.md", "training.png", "metrics.json"])
def test_metrics_are_there_only_when_all_is(outcome: Outcome, name: str) -> None:
    (outcome.folder / name / "in the way").mkdir(parents=True)
    with pytest.raises(OutputError) as caught:
        write_outcome(outcome)
    assert caught.value.path == outcome.folder / name
    assert not (outcome.folder / "metrics.json").is_file()


def test_a_run_that_was_only_evaluated_has_no_curves(outcome: Outcome) -> None:
    write_outcome(replace(outcome, history=[{"eval_loss": 1.0, "epoch": 0}]))
    assert not (outcome.folder / "training.png").exists()
    assert "training.png" not in (outcome.folder / "MODEL_CARD.md").read_text(encoding="utf-8")


# Pictures


def test_pictures_are_made_without_global_figures() -> None:
    assert "pyplot" not in Path(training.outcome.outcome.__file__).read_text(encoding="utf-8")


def curve(figure: Figure, panel: int, label: str) -> tuple[list[float], list[float]]:
    (line,) = (line for line in figure.axes[panel].lines if line.get_label() == label)
    return list(map(float, line.get_xdata())), list(map(float, line.get_ydata()))


def test_curves_are_those_of_the_log() -> None:
    figure = training_figure(HISTORY)
    assert curve(figure, 0, "train") == ([0.5, 1.0, 2.0], [2.0, 1.5, 1.0])  # but for what is no number
    assert curve(figure, 0, "validate") == ([1.0, 2.0], [1.6, 1.7])
    assert curve(figure, 1, "songs, mean of logits") == ([1.0, 2.0], [0.6, 0.6])
    assert curve(figure, 1, "snippets") == ([1.0, 2.0], [0.5, 0.6])
    assert curve(figure, 2, "learning rate") == ([0.5, 1.0, 1.5, 2.0], [1e-5, 5e-5, 2e-5, 0.0])
    assert figure.axes[1].get_title() == "kept: epoch 1, 0.600 accuracy"  # the first of the best
    assert figure.axes[1].get_ylim() == (0, 1)
    assert png(figure) == png(training_figure(HISTORY))


def test_many_steps_get_a_running_mean() -> None:
    history = [{"loss": float(step % 2), "epoch": step / 100} for step in range(1, 401)]
    epochs, losses = curve(training_figure(history), 0, "train, mean of 10 in a row")
    assert len(losses) == 391
    assert set(losses) == {0.5}
    assert (epochs[0], epochs[-1]) == (0.1, 4.0)


# The model card


def card_of(outcome: Outcome) -> tuple[dict[str, Any], list[list[list[str]]], str]:
    """A card as a reader of Markdown sees it: its YAML, its tables cell by cell, and its other text."""
    text = model_card(outcome)
    front, body = re.fullmatch(r"---\n(.*?)\n---\n(.*)", text, re.DOTALL).groups()  # type: ignore[union-attr]
    tokens = MarkdownIt("commonmark").enable("table").parse(body)
    tables: list[list[list[str]]] = []
    prose = []
    in_table = False
    for token in tokens:
        assert token.type not in ("html_block", "html_inline")
        if token.type in ("table_open", "table_close"):
            in_table = token.type == "table_open"
            if in_table:
                tables.append([])
        elif token.type == "tr_open":
            tables[-1].append([])
        elif token.type == "inline":
            children = token.children or []
            assert not {child.type for child in children} & {"html_inline", "em_open", "link_open"}
            seen = "".join(child.content or " " * (child.type == "softbreak") for child in children)
            if in_table:
                tables[-1][-1].append(seen)
            else:
                prose.append(seen)
        elif token.type == "fence":
            prose.append(token.content)
    for table in tables:
        assert len({len(row) for row in table}) == 1
    return yaml.safe_load(front), tables, "\n".join(prose)


def table_of(tables: list[list[list[str]]], head: str) -> list[list[str]]:
    (found,) = (table for table in tables if table[0][0] == head)
    return found


def test_the_front_is_what_the_hub_reads(outcome: Outcome) -> None:
    front, *_ = card_of(outcome)
    assert front["license"] == "unknown"
    assert front["pipeline_tag"] == "audio-classification"
    assert {"audio-classification", "music-genre"} <= set(front["tags"])
    assert front["base_model"] == "MIT/ast-finetuned-audioset-10-10-0.4593"
    assert "base_model" not in card_of(replace(outcome, model="new-mini"))[0]
    assert "base_model" not in card_of(replace(outcome, model=str(outcome.folder)))[0]


def test_the_card_says_what_the_model_takes_and_all_that_makes_it_again(outcome: Outcome) -> None:
    *_, prose = card_of(outcome)
    assert "takes snippets of 5 s of mono audio at 16 kHz" in prose
    assert "takes snippets of 0.5 s of" in card_of(replace(outcome, snippet_seconds=0.5))[2]
    commands = [
        "$ genre-tag prepare 'my songs.csv' --snippet-seconds 5",
        "$ genre-tag train --data 'my music' --epochs 2",
    ]
    assert "\n".join(commands) in prose
    # What made a dataset of an earlier version is not known.
    unknown = card_of(replace(outcome, prepare_argv=()))[2]
    assert commands[1] in unknown and "genre-tag prepare" not in unknown


def test_the_card_has_every_score_with_its_interval(outcome: Outcome) -> None:
    _, tables, prose = card_of(outcome)
    table = table_of(tables, "songs: accuracy")
    assert table[0] == ["songs: accuracy", "validate, 60 songs", "test, 60 songs"]
    rows = {row[0]: row[1:] for row in table}
    for name, key in (
        ("mean, the default", "mean_pooling_score"),
        ("max", "max_pooling_score"),
        ("vote", "voting_score"),
    ):
        name = name.replace(",", "`,") if "," in name else name + "`"
        shown = rows[f"--aggregate {name}".replace("`", "")]
        for split, cell in zip(("validate", "test"), shown, strict=True):
            low, high = outcome.scores[split].intervals[key]
            assert cell == f"{outcome.scores[split].scores[key]:.3f} ({low:.3f} to {high:.3f})"
    assert rows["always R&B | *Soul*, the most frequent in train"] == ["0.250", "0.250"]
    assert rows["snippets: F1, mean of the genres"][1] == f"{outcome.scores['test'].scores['f1']:.3f}"
    assert "genre-tag --model" in prose
    assert f"{outcome.folder} ~/Music" in prose


def test_the_card_says_how_each_genre_is_classified(outcome: Outcome) -> None:
    _, tables, _ = card_of(outcome)
    table = table_of(tables, "genre")
    assert [row[0] for row in table[1:]] == list(GENRES)
    matrix = outcome.scores["test"].confusion
    for label, row in enumerate(table[1:]):
        recall, precision = matrix[label, label] / 15, matrix[label, label] / matrix[:, label].sum()
        assert row[1] == str((80, 90, 7, 85)[label])
        assert row[5:] == ["15", f"{recall:.3f}", f"{precision:.3f}"]
    pairs = table_of(tables, "reference")[1:]
    assert pairs
    for reference, predicted, n_songs, share in pairs:
        count = matrix[GENRES.index(reference), GENRES.index(predicted)]
        assert (n_songs, share) == (str(count), f"{count / 15:.3f}")


def test_the_card_says_calibrated_where_there_is_evidence(outcome: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tagger.models.head.LEAST_HELD_OUT", 60)
    monkeypatch.setattr("tagger.models.head.LEAST_OF_EACH", 15)
    assert "It is called calibrated: validate has 60 songs, 15 or more of each genre." in card_of(outcome)[2]
    monkeypatch.setattr("tagger.models.head.LEAST_OF_EACH", 16)
    assert "It is not called calibrated" in card_of(outcome)[2]


def test_the_card_says_how_sure_it_is(outcome: Outcome) -> None:
    _, tables, prose = card_of(outcome)
    test = outcome.scores["test"].calibration
    shown = next(table for table in tables if table[0][-1] == "share of those right")
    numbers = (test.error_before, test.error, test.coverage, test.precision)
    assert shown[2] == ["test", *(f"{number:.3f}" for number in numbers)]
    assert f"from a confidence of {outcome.threshold.value:g} on (fitted on 60 validation songs by 60 artists:" in prose
    assert len(table_of(tables, "confidence on test")) == 1 + len(test.bins)
    assert "It is not called calibrated: that takes 200 songs in validate, 20 of each genre." in prose
    never = replace(outcome.threshold, value=math.inf, reason="not fitted: no")
    assert "No genre is written unless --min-confidence is given (not fitted: no)." in card_of(
        replace(outcome, threshold=never)
    )[2].replace("`", "")


def test_the_card_says_how_it_was_made(outcome: Outcome) -> None:
    _, tables, prose = card_of(outcome)
    options = {"lr": "5e-05", "augment": "true", "shift": "edge", "head_only": "false", "data": "my music"}
    assert {row[0]: row[1] for row in table_of(tables, "option")[1:]} == options
    assert "$ genre-tag train --data 'my music' --epochs 2\n" in prose
    prediction = next(table for table in tables if table[0][-1] == "hours of songs")
    assert prediction[1] == ["train", "4", "262", "786", "2", "0", "13.1"]
    assert prediction[3] == ["test", "4", "60", "180", "15", "0", "3.0"]
    assert table_of(tables, "with")[1:] == [["genre-tag", "0.1.0"], ["device", "a | b"]]
    assert table_of(tables, "stage")[1:] == [["training", "1234 s"]]


def limits_of(outcome: Outcome) -> str:
    return card_of(outcome)[2].partition("Limits\n")[2]


def test_limits_name_what_is_wrong_with_the_split(outcome: Outcome) -> None:
    assert "The splits are artist-disjoint" in limits_of(outcome)
    assert outcome.shared_artists == ()
    train = outcome.contents["train"]
    shared = replace(train, artists=frozenset({"artist 0", "artist 20", "x"}))
    found = replace(outcome, contents={**outcome.contents, "train": shared})
    assert found.shared_artists == ("artist 0", "artist 20")
    assert "not artist-disjoint: 2 artist names are in more than one (artist 0, artist 20)" in limits_of(found)
    assert "The splits are artist-disjoint" not in limits_of(found)
    nameless = replace(outcome, contents={**outcome.contents, "train": replace(train, n_nameless=1)})
    assert "cannot be told of 1 song without an artist" in limits_of(nameless)
    assert "The splits are artist-disjoint" not in limits_of(nameless)


def test_limits_name_what_is_small(outcome: Outcome) -> None:
    low, high = outcome.scores["test"].intervals["mean_pooling_score"]
    limits = limits_of(outcome)
    assert (
        f"The test split is small: 60 songs, so that the interval of its score is {100 * (high - low):.1f} points"
        in limits
    )
    assert "<script>alert(1)</script> (7 in train, 15 in test)" in limits
    assert "Blues (15 in test)" in limits
    alone = replace(outcome, scores={"validate": outcome.scores["validate"]})
    assert "There is no test split" in limits_of(alone)
    assert "small" not in limits_of(alone)


def test_limits_do_not_take_an_interval_without_width_for_certainty(outcome: Outcome) -> None:
    assert "without width" not in limits_of(outcome)
    test = outcome.scores["test"]
    point = replace(test, intervals={**test.intervals, "mean_pooling_score": Interval(1.0, 1.0)})
    assert "without width" in limits_of(replace(outcome, scores={**outcome.scores, "test": point}))


@pytest.mark.parametrize(
    "name", ["a|b", "<b>x</b>", "`x`", "*x*_y_", "[x](y)", "a\\|b", "&lt;", "~~x~~", "$x$", "# x", "\\"]
)
def test_any_name_is_read_as_it_is_written(name: str) -> None:
    table = f"| {escaped(name)} | {escaped(name)} |\n|---|---|\n| {escaped(name)} | 1 |\n"
    tokens = MarkdownIt("commonmark").enable("table").enable("strikethrough").parse(table)
    cells = [token for token in tokens if token.type == "inline"]
    assert ["".join(child.content for child in cell.children or []) for cell in cells] == [name, name, name, "1"]


def test_a_card_can_be_written_whatever_the_command_line_holds(outcome: Outcome) -> None:
    argv = ("genre-tag", "train", "--data", "/m/caf\udce9\n```\n# x")
    write_outcome(replace(outcome, argv=argv, options={"data": argv[-1]}))
    card = (outcome.folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "caf\\udce9" in card
    fences = [token for token in MarkdownIt().parse(card) if token.type == "fence"]
    assert len(fences) == 2
    assert fences[1].content.endswith("\n```\n# x'\n")
