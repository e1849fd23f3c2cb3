"""Songs laid over one another, from a dataset of tones that can be told apart."""

import csv
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tagger.audio.decode import FULL_SCALE, SAMPLE_RATE, decode
from training.dataset.waveforms import Waveforms
from training.starter import mixes as module
from training.starter.corpus import NO_MUSIC
from training.starter.labels import read_songs
from training.starter.mixes import LEVEL, SECONDS, SPEEDS, Sources, mix, mixes

pytest.importorskip("torchaudio", reason="needs torchaudio")
HERTZ = {"music": 400, "more music": 1000, "speech": 2500}
N = 60 * SAMPLE_RATE


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    """A minute of each tone; the second song is three times as frequent in its genre."""
    (tmp_path / "waveforms").mkdir()
    seconds = np.arange(N) / SAMPLE_RATE
    tones = np.concatenate([np.sin(2 * np.pi * hertz * seconds) for hertz in HERTZ.values()])
    (tones * FULL_SCALE / 2).astype("<i2").tofile(tmp_path / "waveforms" / "00000.i16")
    places = [(0, index * N, N) for index in range(3)]
    return Sources(Waveforms(tmp_path), places[:2], places[2:], np.array([0.75, 0.25]))


def prediction(samples: np.ndarray) -> set[str]:
    """Which tones a mix has, at whatever speed."""
    spectrum = np.abs(np.fft.rfft(samples))
    of = {
        name: spectrum[int(hertz * min(SPEEDS) * SECONDS) : int(hertz * max(SPEEDS) * SECONDS) + 2].max()
        for name, hertz in HERTZ.items()
    }
    return {name for name, peak in of.items() if peak > 0.02 * max(of.values())}


def test_a_voice_is_as_long_and_as_loud_as_every_other_and_at_its_own_speed(sources: Sources) -> None:
    speeds = []
    for seed in range(8):
        voice = sources.speech_voice(np.random.default_rng(seed))
        assert voice.shape == (SECONDS * SAMPLE_RATE,) and voice.dtype == np.float32
        assert (voice == 0).any()  # the pauses
        voice = sources.music_voice(np.random.default_rng(seed))
        assert voice.shape == (SECONDS * SAMPLE_RATE,)
        assert np.sqrt(np.square(voice).mean()) == pytest.approx(LEVEL, rel=1e-3)
        hertz = np.abs(np.fft.rfft(voice)).argmax() / SECONDS
        speeds.append(min(hertz / HERTZ[name] for name in ("music", "more music") if hertz / HERTZ[name] >= 0.79))
    assert len(set(np.round(speeds, 2))) > 3
    assert all(min(SPEEDS) - 0.01 < speed < max(SPEEDS) + 0.01 for speed in speeds)


def test_a_short_song_is_repeated(sources: Sources) -> None:
    short = Sources(sources.waveforms, [(0, 0, 3 * SAMPLE_RATE)], sources.speech, np.ones(1))
    voice = short.music_voice(np.random.default_rng(0))
    assert np.abs(voice[-SAMPLE_RATE:]).max() > LEVEL


def test_mixes_hold_one_song_or_two_and_now_and_then_speech(sources: Sources) -> None:
    found = [prediction(mix(sources, np.random.default_rng([1, seed]))) for seed in range(40)]
    n_songs = [len(names - {"speech"}) for names in found]
    assert 1 in n_songs and 2 in n_songs
    assert 4 <= sum("speech" in names for names in found) <= 20
    assert all("music" in names or "more music" in names for names in found)


def test_a_mix_never_clips(sources: Sources) -> None:
    for seed in range(10):
        samples = mix(sources, np.random.default_rng(seed))
        assert samples.shape == (SECONDS * SAMPLE_RATE,) and samples.dtype == np.float32
        assert 0.09 < np.abs(samples).max() <= 0.951


def test_the_command_takes_what_is_in_both_and_makes_the_same_mixes_each_time(
    tmp_path: Path, sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["a.ogg", "b.ogg", "talk.ogg", "beep.ogg", "made.ogg"]
    kinds = ["", "Rock", NO_MUSIC, NO_MUSIC]
    evidence = ["", "tag", "speech", "noise"]
    with (tmp_path / "songs.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "genre", "evidence"])
        rows.writerows(zip(names, kinds, evidence, strict=False))

    class Dataset:
        waveforms = sources.waveforms
        splits = {  # noqa: RUF012
            "train": {
                "path": [str(tmp_path / name) for name in names],
                "label": [0, 1, 0, 0, 1],
                "shard": [0] * 5,
                "song_first": [0, N, 2 * N, 0, 0],
                "song_samples": [N] * 5,
            }
        }

    found = module.find_sources(Dataset(), tmp_path / "songs.csv")  # type: ignore[arg-type]
    assert found.music == [(0, 0, N), (0, N, N)]  # what was made is not in the table
    assert found.speech == [(0, 2 * N, N)]
    assert found.chances.tolist() == [0.5, 0.5]

    monkeypatch.setattr(module, "load_prepared", lambda folder: Dataset())
    for out in ("one", "two"):
        arguments = [tmp_path, tmp_path / "songs.csv", "--out", tmp_path / out, "--number", 3]
        done = CliRunner().invoke(mixes, list(map(str, arguments)))
        assert done.exit_code == 0, done.output
    songs = list(read_songs([tmp_path / "one" / "songs.csv"]))
    assert [(song.genre, song.split, song.album) for song in songs] == [("", "train", f"mix {i}") for i in range(3)]
    for song in songs:
        assert song.path.read_bytes() == (tmp_path / "two" / song.path.name).read_bytes()
        assert len(decode(song.path, 5, 5 * SAMPLE_RATE).waveforms) == 5


def test_without_speech_there_is_nothing_to_mix(
    tmp_path: Path, sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Dataset:
        waveforms = sources.waveforms
        splits = {"train": {name: [] for name in ("path", "label", "shard", "song_first", "song_samples")}}  # noqa: RUF012

    (tmp_path / "songs.csv").write_text("path,genre,evidence\na.ogg,,\n", encoding="utf-8")
    monkeypatch.setattr(module, "load_prepared", lambda folder: Dataset())
    done = CliRunner().invoke(mixes, [str(tmp_path), str(tmp_path / "songs.csv"), "--out", str(tmp_path / "out")])
    assert done.exit_code == 3
    assert "names no music, or no speech" in done.output
