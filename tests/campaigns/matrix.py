"""Every kind of song times every case of writing, on real files: `make campaign-matrix`.

Written with one genre, with three, and with one that fits no room: the genres come back, every other tag is equal to
mutagen (and to TagLib, where pytaglib is installed), the samples are equal to FFmpeg, a second write does nothing, and
undo gives back the same SHA-256. What is no song, or none that may be written, keeps every byte.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

from mediafile import FileTypeError, MediaFile

from tagger.errors import TagError
from tagger.tags.genre import read_genres
from tagger.tags.journal import Journal
from tagger.tags.undo import list_runs, undo
from tests.support.tag_files import FILES, UNDECODED, build, decoded
from tests.tags.test_genre import HTML, LEFT, ONE, SKIPPED, SUFFIXES, THREE, other_lines

CASES = {"one": ONE, "three": THREE, "large": ["Techno " * 3000 + "end"]}
CHECKS = ("genres", "other tags", "samples", "once", "undo", "mediafile", "TagLib")
#: Where TagLib does not show what was written, and why. All other tags it shows as before, everywhere.
BLIND_TAGLIB = {
    "v23 extended header.mp3": "it takes the extended header of v2.3 for a frame, and shows no tag at all",
    "ape in front.mp3": "it looks for APEv2 behind the audio alone",
    "v24 itunes sizes.mp3": "it guesses how sizes are meant frame by frame; wrong for a genre of 21 000 letters",
    "v24 itunes sizes no genre.mp3": "the same",
}


def taglib_reader() -> Callable[[Path], dict[str, Any] | None]:
    """What TagLib reads of a file, by name; None for what it cannot open, and for all where it is not installed."""
    try:
        taglib = import_module("taglib")
    except ImportError:
        return lambda path: None

    def read(path: Path) -> dict[str, Any] | None:
        try:
            with taglib.File(str(path)) as file:
                return {**file.tags, "unsupported": sorted(set(file.unsupported) - {"UNKNOWN/TCON"})}
        except OSError:
            return None

    return read


def try_song(name: str, genres: list[str], scratch: Path, read_taglib: Callable[[Path], Any]) -> Counter[str]:
    """Write and take back one song; the checks that held. AssertionError where one does not."""
    library, state = scratch / "library", scratch / "state"
    library.mkdir(parents=True)
    song, old, held = library / name, build(name), Counter[str]()
    song.write_bytes(old)
    before = read_taglib(song)
    try:
        with Journal.open(library, [], state) as journal:
            assert journal.write_genres(song, genres)
            assert not journal.write_genres(song, genres), f"{name}: written twice"
    except TagError as error:
        raise AssertionError(f"{name}: {error.reason}") from error
    new = song.read_bytes()
    held.update(["written", "once"])
    assert read_genres(song) == tuple(genres), name
    assert other_lines(new, name) == other_lines(old, name), name
    held.update(["genres", "other tags"])
    if name not in UNDECODED:
        assert decoded(new) == decoded(old), name
        held["samples"] += 1
    try:
        seen = MediaFile(song).genres
    except FileTypeError:
        seen = None
    if seen is not None and not name.startswith(("ape ", "mp3gain", "info", "only the", "garbage behind.wav")):
        assert seen in (genres, ["; ".join(genres)]), name
        held["mediafile"] += 1
    after = read_taglib(song)
    if before is not None and after is not None:
        now = after.pop("GENRE", None)
        assert name in BLIND_TAGLIB or now in (genres, ["; ".join(genres)]), name
        before.pop("GENRE", None)
        assert after == before, name
        held["TagLib"] += 1
    (run,) = list_runs(state)
    with Journal.open(library, [], state) as journal:
        assert [undone.result for undone in undo(run, journal)] == ["bytes"], name
    assert sha256(song.read_bytes()).digest() == sha256(old).digest(), name
    assert [path.name for path in library.iterdir()] == [name]
    held["undo"] += 1
    return held


def try_others(scratch: Path) -> Counter[str]:
    """Try to write what must not be written: how many were refused and skipped, every byte as before."""
    bad = {name: recipe() for name, (recipe, _) in {**LEFT, **SKIPPED}.items()}
    for suffix in SUFFIXES:
        for kind, content in (("empty", b""), ("text", b"hello\n"), ("zeros", bytes(5000)), ("page", HTML)):
            bad[f"{kind}{suffix}"] = content
    counts: Counter[str] = Counter()
    library = scratch / "others"
    library.mkdir()
    with Journal.open(library, [], scratch / "state of others") as journal:
        for name, data in bad.items():
            song = library / name
            song.write_bytes(data)
            try:
                journal.write_genres(song, ONE)
            except TagError as error:
                assert error.reason, name
                counts["refused" if error.refused else "skipped"] += 1
            assert song.read_bytes() == data, name
    assert sorted(path.name for path in library.iterdir()) == sorted(bad)
    return counts


def main() -> None:
    """Try all, and print which checks held for how many songs of each kind."""
    start = time.monotonic()
    read_taglib = taglib_reader()
    rows: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for case, genres in CASES.items():
            for number, name in enumerate(FILES):
                held = try_song(name, genres, Path(folder) / f"{case} {number}", read_taglib)
                rows.setdefault(Path(name).suffix, Counter()).update(held)
        others = try_others(Path(folder))
    total = sum(rows.values(), Counter[str]())
    columns = ("written", "refused", *CHECKS)
    print(f"{'':8}" + "".join(f"{column:>11}" for column in columns))
    for suffix, row in [*sorted(rows.items()), ("all", total)]:
        print(f"{suffix:8}" + "".join(f"{row[column]:>11}" for column in columns))
    print(
        f"{len(FILES)} songs in {len(rows)} formats x {len(CASES)} cases, {time.monotonic() - start:.0f} s: "
        f"{total['written']} written, {total['undo']} undone to the same SHA-256, {total['samples']} of the "
        f"{total['written']} decoded to the same samples (the others have no free decoder, or a tail tag that FFmpeg "
        f"decodes); {others['refused'] + total['refused']} refused, {others['skipped']} skipped, every byte as before"
    )


if __name__ == "__main__":
    sys.exit(main())
