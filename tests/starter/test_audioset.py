"""What makes the AudioSet head sure, by answers that are made up; and by mn04, where its weights are at hand."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tagger.audio.decode import decode
from tagger.models.head import Gate, GenreHead, audioset_head
from tagger.pipeline.aggregate import decide
from tagger.pipeline.options import DecisionPolicy
from training.starter import audioset
from training.starter.audioset import TABLE, Answered, Evidence, fit_biases, fit_table, with_bias
from training.starter.corpus import NO_MUSIC
from training.starter.evidence import genre_weights, kind, source_weights
from training.starter.labels import Song
from training.teachers.mn04 import FILE, Mn04

ROOT = Path(__file__).parent.parent.parent
TEACHERS = ROOT.parent / "shared" / "teachers"
SAMPLES = ROOT / "tagger" / "samples"
GENRES = ("Blues", "Jazz", "Rock")
HEAD = GenreHead(GENRES, "margin", members=((0,), (1, 2), (3,)), gate=Gate(music=4, speech=5), bias=(0.0,) * 6)


def song(genre: str, source: str, licence: str = "") -> Song:
    return Song(Path("a.ogg"), genre, "", source, "test", source, licence)


def answers(n_songs: int = 90, free: float = 3.0, seed: int = 0) -> list[Answered]:
    """Songs of 10 sources, and noise; Jazz gets `free` more from the network than it should, whatever the song."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(n_songs):
        label = i % 3
        logits = rng.normal(0, 0.5, (2, 6))
        logits[:, [0, 1, 3][label]] += 3.0
        logits[:, 1] += free
        logits[:, 4], logits[:, 5] = 4.0, -4.0
        kind_of = "debian:" if i % 2 else "github:"
        found.append(Answered(song(GENRES[label], f"{kind_of}{i % 10}"), logits))
    noise = np.tile([0.0, 9.0, 0.0, 0.0, -2.0, -4.0], (2, 1))
    return [*found, Answered(song(NO_MUSIC, "github:noises"), noise)]


def test_a_genre_that_is_always_named_gets_a_bias() -> None:
    evidence = Evidence(answers(), HEAD)
    assert (evidence.scores.argmax(axis=1) == evidence.labels).mean() < 0.6
    bias = evidence.bias(np.ones(len(evidence.labels), bool))
    assert (bias[1] - bias[[0, 2]] > 0.5).all()
    heads = evidence.heads_without_source()
    decisions = evidence.decisions(heads, 0.0)
    assert sum(each.genres == (GENRES[i % 3],) for i, each in enumerate(decisions[:-1])) > 80


def test_a_bias_that_nothing_speaks_for_stays_small() -> None:
    scores = np.tile([2.0, 0.0, 0.0], (3, 1))
    assert np.abs(fit_biases(scores, np.array([0, 0, 0]), np.ones(3))).max() < 1


def test_no_song_fits_the_bias_it_is_judged_by() -> None:
    some = answers()
    odd = [replace(each, song=song("Blues", "github:odd")) for each in some[1:30:3]]  # Jazz, called Blues there
    evidence = Evidence([*some, *odd], HEAD)
    heads = evidence.heads_without_source()
    without = Evidence(some, HEAD).bias(np.ones(len(some), bool))
    assert heads["github:odd"].bias == pytest.approx(with_bias(HEAD, without).bias)


def test_a_bias_goes_to_all_outputs_of_its_genre() -> None:
    assert with_bias(HEAD, np.array([1.0, 2.0, 3.0])).bias == (1.0, 2.0, 2.0, 3.0, 0.0, 0.0)


def test_the_gate_lets_nearly_all_labelled_music_pass() -> None:
    some = answers()
    assert Evidence(some, HEAD).least_music() == pytest.approx(0.95)
    for each in some[:5]:
        each.logits[:, 4] = 0.1  # of music .52
    assert Evidence(some, HEAD).least_music() == pytest.approx(0.5)


def test_the_least_confidence_holds_in_each_kind_of_source() -> None:
    some = answers(free=0.0)
    evidence = Evidence(some, HEAD)
    heads = dict.fromkeys(evidence.sources.tolist(), evidence.head)
    every = np.ones(len(some), bool)
    easy = evidence.least_confidence(*evidence.named(heads), every)
    for each in some[1:90:6]:  # half of the Jazz of Debian sounds of Rock
        each.logits[:, [1, 3]] = each.logits[:, [3, 1]]
    evidence = Evidence(some, HEAD)
    hard = evidence.least_confidence(*evidence.named(heads), every)
    assert easy < hard
    for value, is_enough in ((easy, False), (hard, True)):
        decisions = evidence.decisions(heads, value)
        games = [
            each for each, kind_ in zip(decisions, evidence.kinds, strict=True) if kind_ == "games" and each.genres
        ]
        truth = [
            s.song.genre for s, k, d in zip(some, evidence.kinds, decisions, strict=True) if k == "games" and d.genres
        ]
        share = np.mean([each.genres == (genre,) for each, genre in zip(games, truth, strict=True)])
        assert (share >= audioset.PRECISION) == is_enough


def test_no_song_chooses_the_threshold_it_is_judged_by() -> None:
    some = answers(free=0.0)
    odd = [replace(each, song=song(each.song.genre, "github:odd")) for each in some[:30]]
    evidence = Evidence([*odd, *some[30:]], HEAD)
    named, confidences = evidence.named(dict.fromkeys(evidence.sources.tolist(), evidence.head))
    is_odd = evidence.sources == "github:odd"
    confidences[is_odd], named[is_odd] = 0.99, (evidence.labels[is_odd] + 1) % 3  # surer than all, and wrong
    every = np.ones(len(named), bool)
    least, without = (evidence.least_confidence(named, confidences, rows) for rows in (every, ~is_odd))
    assert without < least
    is_written = evidence.written_without_source(named, confidences)
    assert is_written[is_odd].all()  # the others did not know
    assert is_written[~is_odd].tolist() != (confidences[~is_odd] >= without).tolist()  # and they did


def test_what_is_written_holds_as_if_genres_were_alike() -> None:
    labels = np.array([0] * 8 + [1] * 2 + [-1])
    weights = genre_weights(labels)
    assert weights[labels == 0].sum() == pytest.approx(weights[labels == 1].sum())
    assert weights[labels >= 0].mean() == pytest.approx(1) and weights[-1] == 1
    of_sources = source_weights(["a"] * 4 + ["b"])
    assert of_sources[:4].sum() / of_sources[4] == pytest.approx(2)


@pytest.mark.parametrize(
    ("source", "licence", "expected"),
    [
        ("debian:neverball-data", "GPL-2+", "games"),
        ("github:a/b", "CC-BY-3.0", "free"),
        ("github:a/b", "none stated in repo", "other"),
        ("github:a/b", "CC BY-NC-ND 2.5", "other"),
    ],
)
def test_kinds_of_sources(source: str, licence: str, expected: str) -> None:
    assert kind(song("Rock", source, licence)) == expected


def test_the_table_is_what_the_head_reads(tmp_path: Path) -> None:
    table = tmp_path / "table.json"
    shutil.copy(TABLE, table)
    head = audioset_head()
    rng = np.random.default_rng(3)
    found = []
    for i in range(60):
        logits = rng.normal(-4, 0.5, (1, 527))
        logits[:, 137] = 4.0
        logits[:, 216], logits[:, 219] = 3.0, (-4.0, 2.0)[i % 2]  # Pop is always ahead
        found.append(Answered(song(("Pop", "Rock")[i % 2], f"debian:{i % 5}"), logits))
    told = fit_table(found, table)
    fitted = json.loads(table.read_text(encoding="utf-8"))["fitted"]
    assert fitted["bias"]["Pop"] > fitted["bias"]["Rock"]
    assert set(fitted["bias"]) == set(head.genres)
    assert "of 60 recordings" in fitted["reason"]
    assert any(line.startswith("with biases, sources left out: 60 recordings, top-1 1.000") for line in told)


@pytest.mark.skipif(not (TEACHERS / FILE).exists(), reason="needs the weights of mn04")
def test_mn04_knows_the_bundled_clips_and_writes_none_wrongly() -> None:
    pytest.importorskip("torchaudio", reason="needs torchaudio")
    network, right, written = Mn04(TEACHERS), [], []
    of = {"Bach": "Classical", "Beethoven": "Classical", "Dvorak": "Classical", "Pachelbel": "Classical"}
    of |= {"Four on the Floor": "Electronic", "Power Chords": "Rock", "Twelve-Bar Shuffle": "Blues"}
    of |= {"Walking Bass": "Jazz", "Off-Beat": "Reggae", "Waves": ""}
    for path in sorted(SAMPLES.iterdir()):
        genre = next((genre for start, genre in of.items() if path.name.startswith(start)), None)
        if genre is None:
            continue
        waveforms = decode(path, 5, audioset.SNIPPET_SAMPLES).waveforms
        logits = network(torch.from_numpy(waveforms)).numpy()
        ranked = decide(logits, audioset_head(), DecisionPolicy(min_confidence=0.0)).ranking
        right.append(bool(ranked) and ranked[0][0] == genre)
        written += [(genre, *decide(logits, audioset_head(), DecisionPolicy()).genres)]
    assert len(right) == 10 and sum(right) >= 7
    assert [each for each in written if len(each) == 2 and each[0] != each[1]] == []
    assert [each for each in written if len(each) == 2]  # some are sure enough
