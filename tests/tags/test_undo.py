"""Taking a run back: the old bytes, else the old genre, else a reason."""

import itertools
import json
import os
import random
import tracemalloc
import zlib
from base64 import b64encode
from collections.abc import Callable
from datetime import datetime, timezone, tzinfo
from pathlib import Path

import pytest
from mutagen.flac import FLAC
from mutagen.id3 import ID3, TCON, TPE1

from tagger.errors import JournalError
from tagger.tags import undo as undo_module
from tagger.tags.genre import read_genres, retag
from tagger.tags.journal import Journal, journal_folder, new_run
from tagger.tags.undo import Run, Undone, list_runs, undo
from tagger.tags.verify import verify
from tests.support.tag_files import build, id3v1

NAMES = ["v23 with v1.mp3", "full.flac", "ape and v24 and v1.mp3", "id3 and info.wav", "none.mp3"]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def library(tmp_path: Path, state: Path) -> Path:
    """A library whose songs a run has made Techno."""
    folder = tmp_path / "library"
    (folder / "sub").mkdir(parents=True)
    with Journal.open(folder, ["genre-tag", "library"], state) as journal:
        for name in NAMES:
            song = folder / "sub" / name
            song.write_bytes(build(name))
            assert journal.write_genres(song, ["Techno"])
    return folder


def take_back(state: Path, run: Run | None = None, **options: object) -> dict[str, Undone]:
    run = run or list_runs(state)[0]
    with Journal.open(run.root, ["genre-tag", "undo"], state) as journal:
        return {Path(undone.path).name: undone for undone in undo(run, journal, **options)}  # type: ignore[arg-type]


def as_built(folder: Path) -> dict[str, bool]:
    return {name: (folder / "sub" / name).read_bytes() == build(name) for name in NAMES}


def test_runs_are_listed_newest_first(library: Path, state: Path) -> None:
    (run,) = list_runs(state)
    assert run.argv == ("genre-tag", "library") and run.n_writes == len(NAMES) and run.root == str(library)
    assert run.journal.stem == run.id and run.started.endswith("Z")
    take_back(state)
    assert [len(r.argv) for r in list_runs(state)] == [2, 2] and list_runs(state)[1].id == run.id
    assert list_runs(state.parent / "elsewhere") == []


def at(hour: int) -> type[datetime]:
    """A clock that stands."""

    class Clock(datetime):
        @classmethod
        def now(cls, zone: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime(2026, 11, 29, hour, tzinfo=zone)

    return Clock


def test_runs_keep_their_order_when_the_clock_goes_back(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    song = state.parent / "none.mp3"
    song.write_bytes(build("none.mp3"))
    for hour, genre in ((12, "Rock"), (9, "Jazz"), (9, "Folk"), (15, "Blues"), (3, "Soul")):
        monkeypatch.setattr("tagger.tags.journal.datetime", at(hour))
        with Journal.open(song.parent, ["genre-tag", genre], state) as journal:
            journal.write_genres(song, [genre])
    runs = list_runs(state)
    assert [run.argv[1] for run in runs] == ["Soul", "Blues", "Folk", "Jazz", "Rock"]
    assert [run.started[11:13] for run in runs] == ["03", "15", "09", "09", "12"]  # as the clock said
    assert {undone.result for undone in take_back(state, runs[0]).values()} == {"bytes"}
    assert read_genres(song) == ("Blues",)


@pytest.mark.parametrize("name", ["zzz", "20269999T000000.000000Z-0", "99991231T235959.999999Z-0", "20260101T0Z-0"])
def test_journals_of_other_names_do_not_move_the_clock(library: Path, state: Path, name: str) -> None:
    (journal_folder(state) / f"{name}.jsonl").write_text("whatever")
    before = list_runs(state)[0].id
    assert before < new_run(state) < f"{datetime.now(timezone.utc).year + 1}"


def test_what_is_taken_back_by_now_is_counted(library: Path, state: Path) -> None:
    def n_undone() -> list[int]:
        """Of every run, oldest first."""
        return [run.n_undone for run in list_runs(state)][::-1]

    (run,) = list_runs(state)
    assert n_undone() == [0]
    song = library / "sub" / "none.mp3"
    list(undo(run, None))  # a dry run
    assert n_undone() == [0]
    take_back(state, run, paths=[song])
    assert n_undone() == [1, 0]
    take_back(state, run)
    assert n_undone() == [5, 0, 0] and list_runs(state)[-1].n_writes == 5
    partly, wholly = list_runs(state)[1::-1]
    take_back(state, wholly)  # four songs have their new genre again
    assert n_undone() == [1, 0, 4, 0]
    take_back(state, partly)
    assert n_undone() == [0, 1, 4, 0, 0]
    take_back(state, list_runs(state)[0])
    assert n_undone() == [1, 0, 4, 0, 1, 0]
    take_back(state, run)
    assert [each.n_undone for each in list_runs(state)][-1] == 5


def test_what_could_not_be_taken_back_is_not_counted(library: Path, state: Path) -> None:
    song = library / "sub" / "none.mp3"
    song.write_bytes(retag(song.read_bytes(), ".mp3", ["Polka"]))
    (library / "sub" / "full.flac").unlink()
    assert sorted(each.result for each in take_back(state).values()) == ["bytes"] * 3 + ["conflict", "missing"]
    assert list_runs(state)[-1].n_undone == 3


def test_songs_of_one_number_in_several_journals_of_a_run_are_told_apart(tmp_path: Path, state: Path) -> None:
    """On a cluster, each process that writes has its own journal, and numbers its songs."""
    run = new_run(state)
    for writer in "ab":
        song = tmp_path / f"{writer}.mp3"
        song.write_bytes(build("none.mp3"))
        with Journal.open(tmp_path, [], state, run=run, writer=writer) as journal:
            journal.write_genres(song, ["Techno"])
    first, second = list_runs(state)
    assert first.id == second.id == run
    take_back(state, first)
    assert {each.journal: each.n_undone for each in list_runs(state)[1:]} == {first.journal: 1, second.journal: 0}


def test_a_journal_that_says_that_a_song_took_itself_back_is_read(library: Path, state: Path) -> None:
    (run,) = list_runs(state)
    line = json.dumps({"v": 1, "op": "undo", "n": 5, "of": run.id, "result": "bytes"}, separators=(",", ":"))
    with run.journal.open("a") as file:
        file.write(f"{line}\n" * 2)
    assert list_runs(state)[0].n_writes == 5


def test_the_bytes_come_back_newest_first(library: Path, state: Path) -> None:
    undone = take_back(state)
    assert [u.result for u in undone.values()] == ["bytes"] * len(NAMES) and list(undone) == NAMES[::-1]
    assert all(as_built(library).values())


def test_a_dry_run_touches_nothing(library: Path, state: Path) -> None:
    def stats() -> dict[Path, tuple[int, ...]]:
        return {path: (s.st_ino, s.st_mtime_ns, s.st_ctime_ns) for path in library.rglob("*") if (s := path.stat())}

    before = stats()
    (run,) = list_runs(state)
    assert {u.result for u in undo(run, None)} == {"bytes"}
    assert stats() == before
    assert list_runs(state) == [run]


def test_twice_is_once(library: Path, state: Path) -> None:
    (run,) = list_runs(state)
    take_back(state, run)
    assert {u.result for u in take_back(state, run).values()} == {"nothing"}
    assert all(as_built(library).values()) and len(list_runs(state)) == 2


def test_an_undo_can_be_undone(library: Path, state: Path) -> None:
    tagged = {name: (library / "sub" / name).read_bytes() for name in NAMES}
    take_back(state)
    assert {u.result for u in take_back(state, list_runs(state)[0]).values()} == {"bytes"}
    assert {name: (library / "sub" / name).read_bytes() for name in NAMES} == tagged


def test_chosen_songs_and_folders(library: Path, state: Path) -> None:
    (run,) = list_runs(state)
    assert list(take_back(state, run, paths=[library / "sub" / "none.mp3"])) == ["none.mp3"]
    assert take_back(state, run, paths=[library / "su"]) == {}
    assert as_built(library) == {name: name == "none.mp3" for name in NAMES}
    assert len(take_back(state, run, paths=[library / "sub"])) == len(NAMES)
    assert all(as_built(library).values())


def test_a_library_that_was_moved(library: Path, state: Path) -> None:
    moved = library.rename(library.parent / "moved")
    assert {u.result for u in take_back(state).values()} == {"missing"}
    assert {u.result for u in take_back(state, list_runs(state)[-1], root=moved).values()} == {"bytes"}
    assert all(as_built(moved).values())


def test_later_edits_of_other_tags_stay(library: Path, state: Path) -> None:
    song = library / "sub" / "full.flac"
    edited = FLAC(song)
    edited["ARTIST"] = "Somebody else"
    edited.save()
    for name in NAMES:
        if name.endswith(".mp3"):
            tags = ID3(library / "sub" / name)
            tags.add(TPE1(encoding=3, text="Somebody else"))
            tags.save(library / "sub" / name)
    undone = take_back(state)
    assert {u.result for name, u in undone.items() if not name.endswith(".wav")} == {"tags"}
    assert undone["full.flac"].reason == "other tags were changed since"
    assert FLAC(song)["ARTIST"] == ["Somebody else"] and read_genres(song) == ("Old",)
    assert read_genres(library / "sub" / "v23 with v1.mp3") == ("Old",)
    assert read_genres(library / "sub" / "none.mp3") == ()
    assert str(ID3(library / "sub" / "none.mp3")["TPE1"]) == "Somebody else"
    both = (library / "sub" / "ape and v24 and v1.mp3").read_bytes()
    assert b"Genre\0Old" in both and both[-1] == 12


def test_an_id3v1_block_that_came_since_is_left_without_a_genre(library: Path, state: Path) -> None:
    song = library / "sub" / "none.mp3"
    song.write_bytes(song.read_bytes() + id3v1(18))
    assert take_back(state)["none.mp3"].result == "tags"
    assert song.read_bytes().endswith(id3v1(255)) and read_genres(song) == ()


@pytest.mark.parametrize(("wrong", "reason"), [("audio", "audio"), ("genre", "read back")])
def test_a_genre_put_back_is_proven_too(
    library: Path, state: Path, monkeypatch: pytest.MonkeyPatch, wrong: str, reason: str
) -> None:
    song = library / "sub" / "none.mp3"
    song.write_bytes(song.read_bytes() + id3v1(18))
    theirs = song.read_bytes()

    numbers = itertools.count()

    def restore(data: bytes, suffix: str, places: object) -> bytes:
        return data[:-5000] + data[-4999:] if wrong == "audio" else retag(data, suffix, [f"Wrong {next(numbers)}"])

    monkeypatch.setattr(undo_module, "restore", restore)
    undone = take_back(state)["none.mp3"]
    assert undone.result == "failed" and reason in undone.reason
    assert song.read_bytes() == theirs


def test_a_genre_changed_since_is_a_conflict(library: Path, state: Path) -> None:
    song = library / "sub" / "none.mp3"
    tags = ID3(song)
    tags.setall("TCON", [TCON(encoding=3, text="Polka")])
    tags.save(song)
    theirs = song.read_bytes()
    (run,) = list_runs(state)
    undone = take_back(state, run)
    assert (undone["none.mp3"].result, undone["none.mp3"].reason) == ("conflict", "its genre has become Polka")
    assert song.read_bytes() == theirs
    assert take_back(state, run, force=True)["none.mp3"].result == "tags"
    assert read_genres(song) == ()


def test_a_song_that_cannot_be_written_back_says_why(library: Path, state: Path) -> None:
    song = library / "sub" / "none.mp3"
    song.chmod(0o444)
    (library / "sub" / "full.flac").write_bytes(b"no song any more")
    undone = take_back(state)
    assert (undone["none.mp3"].result, undone["none.mp3"].reason) == ("failed", "read-only")
    assert undone["full.flac"].result == "failed" and "full.flac" not in undone["full.flac"].reason
    song.chmod(0o644)


def test_a_record_without_a_delta_gives_back_the_genre(library: Path, state: Path) -> None:
    (path,) = journal_folder(state).iterdir()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines[1:]:
        line["delta"] = None
    path.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))
    assert {u.result for u in take_back(state).values()} == {"tags"}
    assert read_genres(library / "sub" / "full.flac") == ("Old",)


def test_a_delta_that_gives_other_bytes_is_not_believed(library: Path, state: Path) -> None:
    (path,) = journal_folder(state).iterdir()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines[1:]:
        line["delta"] = [["c", 0, line["after"]["size"]], ["l", b64encode(zlib.compress(b"x")).decode()]]
    path.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))
    before = {name: (library / "sub" / name).read_bytes() for name in NAMES}
    undone = take_back(state)
    assert {u.result for u in undone.values()} == {"failed"} and "old bytes" in undone["none.mp3"].reason
    assert {name: (library / "sub" / name).read_bytes() for name in NAMES} == before


def test_a_torn_last_line_is_a_song_that_was_not_written(library: Path, state: Path) -> None:
    (run,) = list_runs(state)
    data = run.journal.read_bytes()
    for torn in (data[:-40], data[:-1]):
        run.journal.write_bytes(torn)
        assert {undone.result for undone in undo(run, None)} == {"bytes"}
        assert len(list(undo(run, None))) == len(NAMES) - 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: line[:100] + b"\n" + line[100:],
        lambda line: line.replace(b'"op"', b'"po"'),
        lambda line: line.replace(b'"rel":"', b'"rel":0,"x":"'),
        lambda line: line.replace(b'"sha256"', b'"sha257"', 1),
        lambda line: line.replace(b'"after":{', b'"after":[],"x":{'),
        lambda line: b"[]",
        lambda line: b"null",
    ],
)
@pytest.mark.parametrize("number", [2, 5])
def test_a_damaged_record_is_named_and_the_others_are_taken_back(
    library: Path, state: Path, damage: Callable[[bytes], bytes], number: int
) -> None:
    (run,) = list_runs(state)
    lines = run.journal.read_bytes().split(b"\n")
    assert damage(lines[number - 1]) != lines[number - 1]
    lines[number - 1] = damage(lines[number - 1])
    run.journal.write_bytes(b"\n".join(lines))
    undone = list(undo(run, None))
    failed = [each for each in undone if each.result == "failed"]
    assert failed and failed[-1].path == str(run.journal) and f"line {number} is damaged" in failed[-1].reason
    assert [each.result for each in undone].count("bytes") == len(NAMES) - 1


@pytest.mark.parametrize("n_torn", [1, 2])
def test_a_torn_record_does_not_take_the_next_one_with_it(library: Path, state: Path, n_torn: int) -> None:
    """As an earlier version left it where a disk filled up and then had room again."""
    (run,) = list_runs(state)
    lines = run.journal.read_bytes().split(b"\n")
    lines[1 : 2 + n_torn] = [b"".join(line[:150] for line in lines[1 : 1 + n_torn]) + lines[1 + n_torn]]
    run.journal.write_bytes(b"\n".join(lines))
    (run,) = list_runs(state)
    assert run.n_writes == len(NAMES) - n_torn
    undone = list(undo(run, None))
    assert [Path(each.path).name for each in undone if each.result == "bytes"] == NAMES[n_torn:][::-1]
    failed = [each for each in undone if each.result == "failed"]
    assert len(failed) == n_torn and all("line 2 is damaged" in each.reason for each in failed)


def test_a_journal_that_is_gone_is_named(library: Path, state: Path) -> None:
    (run,) = list_runs(state)
    run.journal.unlink()
    with pytest.raises(JournalError, match="No such file"):
        list(undo(run, None))


def test_a_journal_that_fills_up_ends_the_undoing_before_its_song(
    library: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, n_calls = Journal.append, 0

    def fail(journal: Journal, record: dict[str, object]) -> None:
        nonlocal n_calls
        n_calls += 1
        if n_calls == 4:  # the head, and two records of the first song
            raise JournalError(journal.path, "No space left on device")
        append(journal, record)

    monkeypatch.setattr(Journal, "append", fail)
    with pytest.raises(JournalError, match=r"\.jsonl: No space left on device$"):
        take_back(state)
    assert [name for name, is_old in as_built(library).items() if is_old] == NAMES[-1:]
    assert {read_genres(library / "sub" / name) for name in NAMES[:-1]} == {("Techno",)}


def test_whatever_is_in_a_journal_harms_no_song(library: Path, state: Path) -> None:
    """A song is taken back in full, or in its genre, or not at all; no damage to the journal is a traceback."""
    (path,) = journal_folder(state).iterdir()
    intact, rng = path.read_bytes(), random.Random(4)
    tagged = {name: (library / "sub" / name).read_bytes() for name in NAMES}
    results = set()
    for _ in range(60):
        data = bytearray(intact)
        for _ in range(rng.randrange(1, 4)):
            at, n_bytes = rng.randrange(len(data)), rng.randrange(1, 40)
            kind = rng.randrange(3)
            if kind == 0:
                data[at] = rng.randrange(256)
            elif kind == 1:
                del data[at : at + n_bytes]
            else:
                data[at:at] = data[at : at + n_bytes]
        path.write_bytes(data)
        for run in list_runs(state):
            if run.journal == path:
                with Journal.open(library, ["genre-tag", "undo"], state.parent / "other") as journal:
                    results |= {undone.result for undone in undo(run, journal)}
        for name in NAMES:
            song = library / "sub" / name
            now = song.read_bytes()
            if now not in (tagged[name], build(name)):
                verify(build(name), now, song.suffix)
            song.write_bytes(tagged[name])
    assert {"bytes", "failed"} <= results


def test_journals_that_are_none(state: Path) -> None:
    folder = journal_folder(state)
    folder.mkdir(parents=True)
    (folder / "20260101T000000Z-0.jsonl").write_bytes(b"")
    assert list_runs(state) == []
    (folder / "20260101T000000Z-0.jsonl").write_text('{"v":1,"op":"run","run":"a","t":"","argv":[],"root":""}\n')
    assert list_runs(state) == []  # killed before its first song
    for text in ("{}", "hello", '{"v":99,"op":"run"}'):
        (folder / "20260101T000000Z-1.jsonl").write_text(text + "\n")
        damaged: list[JournalError] = []
        assert list_runs(state, damaged.append) == []
        assert [error.path for error in damaged] == [folder / "20260101T000000Z-1.jsonl"]


@pytest.mark.skipif(os.name != "posix", reason="POSIX names")
def test_names_of_whatever_bytes(tmp_path: Path, state: Path) -> None:
    names = [
        b"\xff\xfe.mp3", b"new\nline.mp3", b"carriage\rreturn.mp3", b"tab\t.mp3", b"\x1b[31mred\xe2\x80\xae.mp3",
        b"-rf.mp3", b" spaces .mp3", b"\\back\\slash.mp3", b"quote'\".mp3", b"$(x)`y`.mp3", b"*?[a].mp3", b"%41.mp3",
        b"x" * 251 + b".mp3", "e\u0301.mp3".encode(), "\u00e9.mp3".encode(), "日本.mp3".encode(),
    ]  # fmt: skip
    with Journal.open(tmp_path, [], state) as journal:
        for name in names:
            path = tmp_path / os.fsdecode(name)
            path.write_bytes(build("none.mp3"))
            assert journal.write_genres(path, ["Techno"])
    shown = [json.loads(line).get("show", "") for line in journal.path.read_text().splitlines()]
    assert all(text.isprintable() for text in shown) and shown[-1].endswith("日本.mp3")
    assert {u.result for u in take_back(state).values()} == {"bytes"}
    assert all((tmp_path / os.fsdecode(name)).read_bytes() == build("none.mp3") for name in names)


@pytest.mark.parametrize("block_bytes", [1, 7, 100, 1 << 20])
def test_lines_are_read_backwards_whatever_a_block_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int
) -> None:
    monkeypatch.setattr(undo_module, "BLOCK_BYTES", block_bytes)
    for content in (b"", b"torn", b"\n", b"one\n", b"one\ntorn", b"one\n\nthree\n", b"x" * 250 + b"\ny\n" + b"z" * 150):
        (tmp_path / "file").write_bytes(content)
        with (tmp_path / "file").open("rb") as file:
            assert list(undo_module._lines_backwards(file)) == content.split(b"\n")[-2::-1], content


def test_a_long_journal_is_not_held_in_memory(library: Path, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred thousand songs took half a gigabyte before the first one was taken back."""
    (run,) = list_runs(state)
    line = run.journal.read_bytes().splitlines(keepends=True)[-1]
    with run.journal.open("ab") as file:
        for _ in range(3000):
            file.write(line)
    monkeypatch.setattr(undo_module, "BLOCK_BYTES", 1 << 14)
    tracemalloc.start()
    try:
        assert sum(record is not None for _, record in undo_module._writes(run.journal)) == 3000 + len(NAMES)
        assert tracemalloc.get_traced_memory()[1] < run.journal.stat().st_size / 10
    finally:
        tracemalloc.stop()
