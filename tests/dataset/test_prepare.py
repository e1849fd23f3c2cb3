"""From a library to a dataset: what is in it, that it resumes, and what the command says."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from tagger.audio.decode import SAMPLE_RATE, decode
from tagger.cli import main as cli
from tagger.models.transformer import TorchLogMel
from tagger.terminal.signals import ENDING
from tests.support.labelled import GENRES, add_song, contents, make_dataset, make_library
from tests.support.songs import make_song, synthesize
from training.dataset import prepare, waveforms
from training.dataset.data import RECORD, Prepared, Record, load_prepared, read_record
from training.dataset.options import PrepareOptions
from training.dataset.songs import LabelledSong, LeftOut
from training.dataset.splits import SPLITS
from training.errors import DatasetError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_library(tmp_path_factory.mktemp("library") / "music")


@pytest.fixture(scope="module")
def dataset(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset that nobody changes."""
    folder = tmp_path_factory.mktemp("prepared") / "dataset"
    make_dataset(library, folder)
    return folder


@pytest.fixture
def copy(dataset: Path, tmp_path: Path) -> Path:
    """A dataset to change."""
    return Path(shutil.copytree(dataset, tmp_path / "dataset"))


@pytest.fixture
def nothing_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """No song may be decoded."""

    def fail(*_: object) -> None:
        raise AssertionError("a song was decoded again")

    monkeypatch.setattr(waveforms.WaveformStore, "add", fail)


def rows(prepared: Prepared, split: str | None = None) -> list[dict]:
    return [row for name in SPLITS if split in (None, name) for row in prepared.splits[name]]


def songs(folder: Path) -> dict[str, str]:
    """Folder and name of each song → its split."""
    prepared = load_prepared(folder)
    return {"/".join(Path(row["path"]).parts[-2:]): split for split in SPLITS for row in rows(prepared, split)}


# What is in it


def test_snippets_lie_where_the_product_classifies_them(dataset: Path) -> None:
    prepared = load_prepared(dataset)
    by_path: dict[str, list[dict]] = {}
    for row in rows(prepared):
        by_path.setdefault(row["path"], []).append(row)
    assert len(by_path) == 14
    for path, its_rows in by_path.items():
        prediction = decode(path, 5)
        # An MP3 says itself how long it is, to some ms.
        assert [row["start_seconds"] for row in its_rows] == pytest.approx(prediction.starts_seconds, abs=0.05)
        for row, waveform in zip(its_rows, prediction.waveforms, strict=True):
            place = [row[name] for name in ("shard", "first", "song_first", "song_samples")]
            kept = prepared.waveforms.snippet(*place, 160_000)
            assert row["first"] == row["song_first"] + round(row["start_seconds"] * SAMPLE_RATE)
            if path.endswith(".flac"):
                assert np.abs(kept / 2**15 - waveform).max() <= 0.5 / 2**15 + 1e-4


def test_rows_say_what_they_are_of(dataset: Path, library: Path) -> None:
    prepared = load_prepared(dataset)
    assert prepared.genres == ("blues", "hiphop", "jazz") and prepared.snippet_samples == 160_000
    for row in rows(prepared):
        path = Path(row["path"])
        assert prepared.genres[row["label"]] == path.parent.name and path.parent.parent == library
        assert len(row["song"]) == 64
    assert {type(value) for row in rows(prepared) for value in row.values()} == {str, int, float}
    artists = {Path(row["path"]).name: row["artist"] for row in rows(prepared) if "/jazz/" in row["path"]}
    assert artists["0 again.flac"] == "JAZZ 0 feat. Somebody"


def test_artists_and_recordings_are_on_one_side(dataset: Path) -> None:
    found = songs(dataset)
    assert found["jazz/0.flac"] == found["jazz/0 again.flac"]
    assert found["blues/0.flac"] == found["blues/9.mp3"]  # another artist's, but the same recording
    for genre in GENRES:
        assert {split for name, split in found.items() if name.startswith(genre)} == set(SPLITS)
    record = read_record(dataset)
    assert len(record.audit["duplicates"]) == 1 and record.audit["artist_disjoint"]


@pytest.mark.parametrize("seed", range(3))
def test_no_seed_takes_them_apart(copy: Path, library: Path, seed: int, nothing_decoded: None) -> None:
    make_dataset(library, copy, force=True, seed=seed + 1)
    found = songs(copy)
    assert found["jazz/0.flac"] == found["jazz/0 again.flac"] and found["blues/0.flac"] == found["blues/9.mp3"]


def test_the_record_counts_what_is_there(dataset: Path) -> None:
    prepared, record = load_prepared(dataset), read_record(dataset)
    for split in SPLITS:
        here = rows(prepared, split)
        assert record.n_snippets[split] == len(here)
        for label, genre in enumerate(prepared.genres):
            assert record.n_songs[genre][split] == len({row["song"] for row in here if row["label"] == label})
            assert record.n_groups[genre][split] == len({row["group"] for row in here if row["label"] == label})
    assert sum(record.seconds.values()) == pytest.approx(
        sum({row["song"]: row["song_samples"] for row in rows(prepared)}.values()) / SAMPLE_RATE
    )
    assert record.fingerprint == prepared.fingerprint


def test_songs_that_cannot_be_decoded_are_named(dataset: Path, library: Path) -> None:
    left_out = {str(Path(path).relative_to(library)): why for path, why in read_record(dataset).left_out.items()}
    broken = left_out.pop("jazz/broken.mp3")
    assert broken.startswith(("cannot be decoded", "no audio"))
    assert left_out == {"hiphop/silent.flac": "silent", "hiphop/tiny.flac": "shorter than 1 s"}


def test_all_of_each_song_if_asked_for(copy: Path, library: Path, nothing_decoded: None) -> None:
    make_dataset(library, copy, force=True, n_snippets=None, snippet_seconds=4.0)
    prepared = load_prepared(copy)
    assert prepared.snippet_samples == 64_000
    path = str(library / "blues" / "0.flac")
    assert [row["start_seconds"] for row in rows(prepared) if row["path"] == path] == [0, 4, 8, 10]


def test_balance_is_for_training_alone(copy: Path, library: Path, nothing_decoded: None) -> None:
    before = read_record(copy)
    after = make_dataset(library, copy, force=True, balance="truncate")
    least = min(counts["train"] for counts in before.n_songs.values())
    for genre, counts in after.n_songs.items():
        assert counts == {**before.n_songs[genre], "train": least}
    assert after.n_unbalanced == sum(counts["train"] - least for counts in before.n_songs.values()) > 0
    assert after.unbalanced == {genre: counts["train"] - least for genre, counts in before.n_songs.items()}
    assert after.fingerprint == load_prepared(copy).fingerprint != before.fingerprint


def test_a_trial_is_spread_over_genres(library: Path, tmp_path: Path) -> None:
    useless = ("silent*", "tiny*", "broken*", "9.mp3")
    record = make_dataset(library, tmp_path / "dataset", limit=9, exclude=useless)  # one of jazz is the artist's second
    assert {genre: sum(counts.values()) for genre, counts in record.n_songs.items()} == dict.fromkeys(GENRES, 3)


def test_a_tagged_library_and_a_table_make_the_same_splits(library: Path, dataset: Path, tmp_path: Path) -> None:
    by_tag = make_dataset(library, tmp_path / "tags", labels="tags", exclude=("broken*", "tiny*", "silent*"))
    with (tmp_path / "songs.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["path", "genre", "artist"])
        for path in sorted(library.rglob("*.*")):
            if path.stem not in ("broken", "tiny", "silent"):
                table.writerow(
                    [os.path.relpath(path, tmp_path), GENRES[path.parent.name], f"{path.parent.name} {path.name[0]}"]
                )
    by_table = make_dataset(tmp_path / "songs.csv", tmp_path / "table")
    assert (
        load_prepared(tmp_path / "tags").genres
        == load_prepared(tmp_path / "table").genres
        == ("Blues", "Hip-Hop", "Jazz")
    )
    assert by_tag.n_songs == by_table.n_songs
    assert {name.lower(): counts for name, counts in by_tag.n_songs.items()}["jazz"] == read_record(dataset).n_songs[
        "jazz"
    ]
    assert by_tag.labels == "by their own tags: as asked for" and by_table.labels == "by the table"


def write_splits(file: Path, splits: dict[Path, str]) -> Path:
    """A table of songs that lie in folders of genres, with these splits and their own tags."""
    rows = [f"{path},{path.parent.name},{split}" for path, split in splits.items()]
    file.write_text("\n".join(["path,genre,split", *rows]), encoding="utf-8")
    return file


def test_a_table_that_says_the_splits_is_followed_and_audited(
    copy: Path, library: Path, tmp_path: Path, nothing_decoded: None
) -> None:
    by_number = {"0": "train", "1": "train", "2": "validate", "3": "test"}
    splits = {path: by_number[path.stem[0]] for path in sorted(library.rglob("[0-3].flac"))}
    splits[library / "hiphop" / "2.flac"] = "test"  # so that validate has no hiphop
    splits[library / "jazz" / "0 again.flac"] = "validate"  # by the artist of jazz/0
    splits[library / "blues" / "9.mp3"] = "test"  # the recording of blues/0
    told: list[str] = []
    source = write_splits(tmp_path / "songs.csv", splits)
    record = prepare.prepare(source, copy, PrepareOptions(), n_workers=1, force=True, tell=told.append)
    assert record.left_out == {
        str(library / "jazz" / "0.flac"): "left out of train: the same artist or recording is in validate",
        str(library / "blues" / "0.flac"): "left out of train: the same artist or recording is in test",
    }
    assert "2 songs are left out: the same artist or recording is in a split that is held out." in told
    prepared = load_prepared(copy)
    found = {Path(row["path"]): split for split in SPLITS for row in prepared.splits[split]}
    assert found == {path: split for path, split in splits.items() if str(path) not in record.left_out}
    assert record.n_songs["hiphop"] == {"train": 2, "validate": 0, "test": 2} and record.audit["artist_disjoint"]


def test_splits_can_be_taken_as_they_are_given_and_what_would_have_moved_is_told(
    copy: Path, library: Path, tmp_path: Path, nothing_decoded: None
) -> None:
    by_number = {"0": "train", "1": "train", "2": "validate", "3": "test"}
    splits = {path: by_number[path.stem[0]] for path in sorted(library.rglob("[0-3].flac"))}
    splits[library / "jazz" / "0 again.flac"] = "validate"  # by the artist of jazz/0
    splits[library / "blues" / "9.mp3"] = "test"  # the recording of blues/0
    source = write_splits(tmp_path / "songs.csv", splits)
    record = make_dataset(source, copy, force=True, splits="as-given")
    assert record.left_out == {} and record.options["splits"] == "as-given"
    crossing = {
        str(library / "jazz" / "0.flac"): "left out of train: the same artist or recording is in validate",
        str(library / "blues" / "0.flac"): "left out of train: the same artist or recording is in test",
    }
    assert record.audit["crossing"] == crossing and not record.audit["artist_disjoint"]
    assert record.audit["lines"][0].startswith(
        "NOT ARTIST-DISJOINT: splits are as given. 2 songs of 14 would have been left out, whose artist or recording is"
        " in a split that is held out, and scores are too high ("
    )
    assert all(path in record.audit["lines"][0] for path in crossing)
    prepared = load_prepared(copy)
    found = {Path(row["path"]): split for split in SPLITS for row in prepared.splits[split]}
    assert found == splits
    assert prepared.overlap.startswith("2 groups and 1 recording in more than one split (the group 'artist ")
    with pytest.raises(DatasetError, match="says no splits that could be taken"):
        make_dataset(library, copy, force=True, splits="as-given")


def test_a_dataset_of_an_earlier_version_is_not_made_again(copy: Path, library: Path, nothing_decoded: None) -> None:
    assert "splits" not in read_record(copy).options  # which had no such option
    assert make_dataset(library, copy) == read_record(copy)


def test_what_a_table_overrules_is_told(copy: Path, library: Path, tmp_path: Path, nothing_decoded: None) -> None:
    rows = [f"{path},{path.parent.name},{path}" for path in sorted(library.rglob("[0-2].flac"))]
    (tmp_path / "songs.csv").write_text("\n".join(["path,genre,artist", *rows]), encoding="utf-8")
    told: list[str] = []
    prepare.prepare(tmp_path / "songs.csv", copy, PrepareOptions(), n_workers=1, force=True, tell=told.append)
    (line,) = (line for line in told if "in their tags" in line)
    assert line.startswith(f"{len(rows)} songs have another artist in their tags than in the table, which counts: ")
    assert {row["artist"] for split in load_prepared(copy).splits.values() for row in split} <= set(
        map(str, library.rglob("*"))
    )


def test_a_table_without_a_test_split_is_taken_and_told_of(
    copy: Path, library: Path, tmp_path: Path, nothing_decoded: None
) -> None:
    splits = {path: "validate" if path.stem[0] == "2" else "train" for path in sorted(library.rglob("[0-2].flac"))}
    source, told = write_splits(tmp_path / "songs.csv", splits), []
    options = PrepareOptions(cache_features=True)
    record = prepare.prepare(source, copy, options, n_workers=1, force=True, tell=told.append)
    assert "No songs are in test: a training will be judged by validate, which chose its epoch, alone." in told
    assert record.n_snippets["validate"] > 0 == record.n_snippets["test"]
    prepared = load_prepared(copy)
    assert set(prepared.splits) == set(prepared.features) == {"train", "validate"} and not (copy / "test").exists()
    assert prepared.fingerprint == record.fingerprint
    make_dataset(library, copy, force=True)


def test_groups_that_leaving_out_makes_are_audited_too(tmp_path: Path) -> None:
    """Of the album's four songs two are by X: no majority, until the third artist's is left out."""
    songs = [LabelledSong(tmp_path / f"{i}.flac", "Pop", artist, "Hits", split=split) for i, (artist, split) in
             enumerate([("X", "train"), ("X", "train"), ("Y", "train"), ("Z", "test")])]  # fmt: skip
    other = LabelledSong(tmp_path / "other.flac", "Pop", "Y", split="test")
    left_out = LeftOut()
    kept = prepare._without_crossing(
        {str(i): each for i, each in enumerate([*songs, other])}, [], left_out, lambda line: None
    )
    assert list(kept) == ["3", "4"] and len(left_out.songs) == 3


@pytest.mark.parametrize(
    ("splits", "reason"),
    [
        ({"rock": ("train", "validate", "test"), "jazz": ("test", "test", "validate")}, "'jazz' has no songs in train"),
        ({"rock": ("train", "train", "test"), "jazz": ("train", "train", "test")}, "no songs are left in validate"),
        ({"rock": ("train", "validate", "test")}, "nothing to tell apart: songs of 1 genre: 'rock'"),
    ],
)
def test_splits_that_cannot_be_learned_from_are_told_before_anything_is_decoded(
    tmp_path: Path, splits: dict[str, tuple[str, ...]], reason: str
) -> None:
    music = small_library(tmp_path / "music", dict.fromkeys(splits, 3))
    given = {music / genre / f"{i}.flac": split for genre, each in splits.items() for i, split in enumerate(each)}
    with pytest.raises(DatasetError, match=reason):
        make_dataset(write_splits(tmp_path / "songs.csv", given), tmp_path / "dataset")
    assert not (tmp_path / "dataset").exists()


# Log-mels


def test_cached_features_are_those_of_the_waveforms(copy: Path, library: Path, nothing_decoded: None) -> None:
    make_dataset(library, copy, force=True, cache_features=True)
    prepared = load_prepared(copy)
    log_mel = TorchLogMel(n_frames=998, mean=0.0, std=0.5)
    for split in SPLITS:
        assert prepared.features[split].shape == (len(prepared.splits[split]), 998, 128)
        for row, cached in zip(rows(prepared, split), prepared.features[split], strict=True):
            place = [row[name] for name in ("shard", "first", "song_first", "song_samples")]
            waveform = torch.from_numpy(prepared.waveforms.snippet(*place, 160_000) / np.float32(2**15))
            assert torch.equal(torch.from_numpy(cached.copy()), log_mel(waveform[None])[0].half())
    make_dataset(library, copy, force=True)
    assert not (copy / "features").exists() and load_prepared(copy).features == {}


def test_features_go_on_where_a_run_died(
    copy: Path, library: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make_dataset(library, copy, force=True, cache_features=True)
    whole = contents(copy)
    monkeypatch.setattr("training.dataset.cache.BATCH", 4)
    prepared, n_bytes = load_prepared(copy), 998 * 128 * 2
    (copy / RECORD).unlink()
    part = copy / "features" / f"train.{prepared.fingerprint[:16]}.part"
    (copy / "features" / "train.f16").rename(part)
    with part.open("r+b") as file:
        file.write(bytes(8))  # what is there is believed, so that this tells whether it was made again
        file.truncate(9 * n_bytes + 99)
    (copy / "features" / "train.0123456789abcdef.part").write_bytes(b"of another dataset")
    make_dataset(library, copy, cache_features=True)
    after = contents(copy)
    assert after["features/train.f16"][:8] == bytes(8)
    assert after["features/train.f16"][8:] == whole["features/train.f16"][8:]
    assert {**after, "features/train.f16": b""} == {**whole, "features/train.f16": b""}


# Going on, and not doing things twice


def test_killed_at_any_time_it_goes_on_and_ends_the_same(library: Path, dataset: Path, tmp_path: Path) -> None:
    folder = tmp_path / "dataset"
    code = (
        "import sys; from pathlib import Path; from training.dataset.options import PrepareOptions\n"
        "from training.dataset.prepare import prepare\n"
        "if __name__ == '__main__':\n"
        "    prepare(Path(sys.argv[1]), Path(sys.argv[2]), PrepareOptions(), n_workers=1)\n"
    )
    script = tmp_path / "prepare.py"
    script.write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, str(script), str(library), str(folder)], env=environment)
    index = folder / "waveforms" / "index.jsonl"
    while process.poll() is None and not (index.exists() and index.read_bytes().count(b"\n") > 3):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    n_kept = index.read_bytes().count(b"\n") - 1
    assert n_kept >= 3 and not (folder / RECORD).exists()
    with pytest.raises(DatasetError, match="begun but not finished: the same genre-tag prepare"):
        load_prepared(folder)
    kept = (folder / "waveforms" / "00000.i16").stat().st_ino
    decoded: list[str] = []
    add = waveforms.WaveformStore.add
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            waveforms.WaveformStore, "add", lambda self, song, _: (decoded.append(song), add(self, song, _))[1]
        )
        make_dataset(library, folder)
    assert len(decoded) == 15 - n_kept  # with the silent one
    assert (folder / "waveforms" / "00000.i16").stat().st_ino == kept
    assert contents(folder) == contents(dataset)


def test_killed_after_decoding_it_ends_the_same(
    copy: Path, library: Path, dataset: Path, nothing_decoded: None
) -> None:
    (copy / RECORD).unlink()
    shutil.rmtree(copy / "validate")
    (copy / "train" / "state.json").write_text("{")
    make_dataset(library, copy)
    assert contents(copy) == contents(dataset)


def test_a_finished_dataset_is_left_as_it_is(copy: Path, library: Path, nothing_decoded: None) -> None:
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    assert make_dataset(library, copy) == read_record(copy)
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*")} == before


def test_other_options_need_to_be_forced(copy: Path, library: Path, nothing_decoded: None) -> None:
    before = contents(copy)
    with pytest.raises(
        DatasetError, match=r"other options \(snippets 5, now 3; seed 0, now 7\). --force makes it again"
    ):
        make_dataset(library, copy, seed=7, n_snippets=3)
    assert contents(copy) == before
    make_dataset(library, copy, force=True, seed=7, n_snippets=3)
    assert load_prepared(copy).fingerprint != json.loads(before[RECORD])["fingerprint"]
    make_dataset(library, copy, force=True)
    assert contents(copy) == before


def test_until_the_new_one_is_written_the_old_one_is_there(
    copy: Path, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = contents(copy)
    monkeypatch.setattr(prepare, "find_duplicates", interrupt)
    with pytest.raises(KeyboardInterrupt):
        make_dataset(library, copy, force=True, seed=1)
    assert contents(copy) == before
    monkeypatch.undo()
    monkeypatch.setattr(prepare, "write_record", interrupt)  # rows are new by then: neither the one nor the other
    with pytest.raises(KeyboardInterrupt):
        make_dataset(library, copy, force=True, seed=1)
    with pytest.raises(DatasetError, match="begun but not finished"):
        load_prepared(copy)


def test_where_it_is_called_from_does_not_matter(
    copy: Path, library: Path, monkeypatch: pytest.MonkeyPatch, nothing_decoded: None
) -> None:
    monkeypatch.chdir(library.parent)
    before = contents(copy)
    make_dataset(Path(library.name), copy)
    assert contents(copy) == before


def test_songs_that_came_since_need_to_be_forced_and_are_all_that_is_decoded(
    copy: Path, library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    music = Path(shutil.copytree(library, tmp_path / "music"))
    make_dataset(music, copy, force=True)
    add_song(music / "jazz" / "new.flac", 12, 77, "New", "Jazz")
    with pytest.raises(DatasetError, match=r"before songs or their tags changed. --force makes it again"):
        make_dataset(music, copy)
    added: list[str] = []
    add = waveforms.WaveformStore.add
    monkeypatch.setattr(
        waveforms.WaveformStore, "add", lambda self, song, _: (added.append(song), add(self, song, _))[1]
    )
    make_dataset(music, copy, force=True)
    assert len(added) == 1 and "jazz/new.flac" in songs(copy)


# Errors


def small_library(root: Path, n_songs: dict[str, int]) -> Path:
    """Very short songs: what is wrong is to be found before they are decoded."""
    for genre, count in n_songs.items():
        (root / genre).mkdir(parents=True)
        for i in range(count):
            path = root / genre / f"{i}.flac"
            make_song(
                path, 0.2, rate=16_000, channels=1, seed=hash((genre, i)) % 999, metadata={"artist": f"{genre}{i}"}
            )
    return root


@pytest.mark.parametrize(
    ("n_songs", "options", "reason"),
    [
        ({"rock": 3, "jazz": 2}, {}, r"'jazz' has songs of 2 artists .*, and three splits that share none need 3"),
        ({"rock": 1, "jazz": 2, "pop": 4}, {}, r"'rock' \(and 1 more genres\) has songs of 1 artist .* --drop-small"),
        ({"rock": 3, "jazz": 2}, {"drop_small": True}, "nothing to tell apart: songs of 1 genre: 'rock'"),
        ({"rock": 2, "jazz": 2}, {"drop_small": True}, "nothing to tell apart: songs of 0 genres"),
        ({"rock": 9, "jazz": 9}, {"names": {"jazz": "rock"}}, "nothing to tell apart: songs of 1 genre: 'rock'"),
        ({"rock": 9, "jazz": 9}, {"names": {"jazz": "", "rock": ""}}, "none of its 18 songs"),
    ],
)
def test_what_cannot_be_split_is_told_before_anything_is_decoded(
    tmp_path: Path, n_songs: dict[str, int], options: dict, reason: str
) -> None:
    source = small_library(tmp_path / "music", n_songs)
    with pytest.raises(DatasetError, match=reason) as raised:
        make_dataset(source, tmp_path / "dataset", **options)
    assert raised.value.path == source and not (tmp_path / "dataset").exists()


def test_duplicates_may_leave_a_genre_with_too_few_artists(tmp_path: Path) -> None:
    for genre in ("rock", "jazz"):
        (tmp_path / "music" / genre).mkdir(parents=True)
        for i in range(3):
            seed = {"rock": (0, 1, 0), "jazz": (2, 3, 4)}[genre][i]  # the third one of rock is the first one, louder
            gain = np.float32(0.5 + 0.1 * i)
            signal = gain * synthesize("music", 12, 16_000, 1, seed)
            add_song(tmp_path / "music" / genre / f"{i}.flac", 12, 0, f"{genre} {i}", genre, signal)
    with pytest.raises(DatasetError, match="'rock' has songs of 2 artists"):
        make_dataset(tmp_path / "music", tmp_path / "dataset")


def test_small_genres_are_dropped_if_asked_for(copy: Path, library: Path, tmp_path: Path) -> None:
    music = Path(shutil.copytree(library, tmp_path / "music"))
    shutil.copytree(small_library(tmp_path / "more", {"rock": 2}), music, dirs_exist_ok=True)
    record = make_dataset(music, copy, force=True, drop_small=True)
    assert set(record.n_songs) == set(GENRES)
    assert record.left_out[str(music / "rock" / "0.flac")].startswith(
        "'rock' has songs of 2 artists (albums or folders"
    )


def test_without_artists_each_song_stands_alone_and_that_is_said(tmp_path: Path) -> None:
    """The layout of GTZAN: a folder per genre, no tags."""
    for number, genre in enumerate(("blues", "rock")):
        (tmp_path / "music" / genre).mkdir(parents=True)
        for i in range(4):
            make_song(tmp_path / "music" / genre / f"{i}.au", 3, rate=22_050, channels=1, seed=10 * number + i)
    record = make_dataset(tmp_path / "music", tmp_path / "dataset")
    assert record.n_groups == record.n_songs and sum(map(sum, (c.values() for c in record.n_songs.values()))) == 8
    assert not record.audit["artist_disjoint"]
    assert record.audit["lines"][0].startswith("NOT ARTIST-DISJOINT: nothing tells whose 8 of the 8 songs are.")


@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_is_no_dataset_is_left_alone(library: Path, tmp_path: Path, what: str) -> None:
    target = tmp_path / "target"
    if what == "folder":
        target.mkdir()
        (target / "thesis.txt").write_text("mine")
    else:
        target.write_text("mine")
    with pytest.raises(DatasetError, match="holds something else, and is left alone: name a new folder with --out"):
        make_dataset(library, target, force=True)
    assert "mine" in (target / "thesis.txt" if what == "folder" else target).read_text()


def test_a_disk_that_is_too_small_is_told_beforehand(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nothing_decoded: None
) -> None:
    needed = 16_000 * 2 * 18 * 14 + prepare.SPARE_BYTES
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**12, 0, needed // 2))
    with pytest.raises(DatasetError, match=r"needs 0.3 GB, and its disk has 0.1 GB left: .* --out, .* --limit"):
        make_dataset(library, tmp_path / "dataset")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**12, 0, needed * 2))
    with pytest.raises(AssertionError, match="decoded"):
        make_dataset(library, tmp_path / "dataset")


def test_a_damaged_record_is_replaced_if_asked_for(copy: Path, library: Path, nothing_decoded: None) -> None:
    whole = contents(copy)
    (copy / RECORD).write_text("{")
    with pytest.raises(DatasetError, match="damaged; genre-tag prepare --force writes it again"):
        make_dataset(library, copy)
    make_dataset(library, copy, force=True)
    assert contents(copy) == whole


# The command


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(["prepare", *map(str, arguments)])
    return int(ended.value.code or 0)


@pytest.fixture(autouse=True)
def signals():
    """The command line takes Ctrl-C for itself."""
    before = {number: signal.getsignal(number) for number in ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_the_command_shows_what_is_in_a_dataset(copy: Path, library: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(library, "--out", copy) == 0
    shown = capsys.readouterr()
    lines = [line.split() for line in shown.out.splitlines()]
    assert lines[0] == ["genre", *SPLITS, "hours"]
    record = read_record(copy)
    for genre, line in zip(record.n_songs, lines[1:], strict=False):
        assert line[0] == genre and line[1] == str(record.n_songs[genre]["train"])
        assert line[2] == f"({record.n_groups[genre]['train']})"
    assert record.audit["lines"][0] in shown.out and f"{library / 'hiphop/tiny.flac'}: shorter than 1 s" in shown.out
    assert "17 songs, labelled by folders: 3 of 3 are named like genres." in shown.err
    assert "nothing to do" in shown.err


def test_the_command_shows_what_balance_took_and_left(
    copy: Path, library: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {genre: counts["train"] for genre, counts in read_record(copy).n_songs.items()}
    assert run(library, "--out", copy, "--force", "--balance", "truncate") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    at = lines.index(["train", "there", "taken", "left"])
    least = min(before.values())
    assert lines[at + 1 : at + 5] == [
        *([genre, str(there), str(least), str(there - least)] for genre, there in before.items()),
        ["all", str(sum(before.values())), str(3 * least), str(sum(before.values()) - 3 * least)],
    ]


def test_options_of_the_command_arrive(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = {}

    def take(source: Path, folder: Path, options: PrepareOptions, **how: object) -> Record:
        taken.update(source=source, folder=folder, options=options, **how)
        raise DatasetError(folder, "enough")

    monkeypatch.setattr("training.dataset.prepare.prepare", take)
    (tmp_path / "my.map").write_text("Jazz = Swing\n")
    arguments = ["--labels", "tags", "--map", tmp_path / "my.map", "--snippets", "all", "--snippet-seconds", "5"]
    arguments += [
        "--balance",
        "sqrt",
        "--split",
        "80,10,10",
        "--splits",
        "as-given",
        "--seed",
        "3",
        "--drop-small",
        "--cache-features",
    ]
    arguments += ["-j", "2", "--limit", "99", "--exclude", "a*", "--exclude", "b", "--force", "--out", "somewhere"]
    assert run(library, *arguments) == 3
    assert capsys.readouterr().err == "genre-tag: somewhere: enough\n"
    expected = PrepareOptions(
        "tags", {"Jazz": "Swing"}, ("a*", "b"), None, 5.0, "sqrt", (80.0, 10.0, 10.0), "as-given", 3, True, 99, True
    )
    assert (taken["options"], taken["folder"], taken["n_workers"], taken["force"]) == (
        expected,
        Path("somewhere"),
        2,
        True,
    )
    assert taken["argv"] == ["genre-tag", "prepare", *map(str, [library, *arguments])]
    run(library)
    assert (taken["options"], taken["folder"], taken["n_workers"]) == (PrepareOptions(), Path("dataset"), None)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["none"], 3, "none: no such file or folder"),
        ([], 2, "Missing argument 'SOURCE'"),
        (["x", "--split", "70,30"], 2, "'70,30' is not three numbers like 70,15,15"),
        (["x", "--split", "70,30,0"], 2, "each split needs a share above 0"),
        (["x", "--split", "nan,1,1"], 2, "each split needs a share above 0"),
        (["x", "--snippets", "0"], 2, "neither a count from 1 up nor 'all'"),
        (["x", "--map", "none"], 2, "none: No such file or directory"),
    ],
)
def test_what_is_wrong_is_one_line(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == code
    shown = capsys.readouterr().err
    assert message in shown and shown.count("\n") == 1


def test_ctrl_c_says_that_it_goes_on(library: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tagger", "prepare", str(library), "--out", str(tmp_path / "dataset"), "-j", "1"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    index = tmp_path / "dataset" / "waveforms" / "index.jsonl"
    while process.poll() is None and not (index.exists() and index.read_bytes().count(b"\n") > 1):
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert told.splitlines()[-1] == "Interrupted. Decoded songs are kept; the same command goes on from here."


def test_the_command_is_loaded_without_what_is_heavy() -> None:
    code = "import sys, training.cli_prepare; print(' '.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not set(loaded.stdout.split()) & {"torch", "numpy", "datasets", "av", "mutagen", "rich", "tqdm"}


def test_workers_load_nothing_heavy() -> None:
    code = "import sys, training.dataset.waveforms; print(' '.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not set(loaded.stdout.split()) & {"torch", "datasets", "transformers", "rich"}
