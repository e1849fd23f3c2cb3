"""What safety costs: a genre written safely beside mutagen's own save in place, in turns: `make campaign-cost`.

An MP3 of 8 MB and a FLAC of 30 MB, with room for the tag and without (then all of the audio has to move). Medians.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import mutagen
from mutagen.flac import FLAC
from mutagen.id3 import TCON, TIT2

from tagger.tags import journal as journal_module
from tagger.tags.journal import Journal
from tests.support.songs import make_song

#: Parts of a safe write: what each calls in tagger.tags.journal. The rest reads, writes, forces to disk and renames.
PARTS = {
    "making the new bytes": ["retag"],
    "proving that only the genre changed": ["real_genres", "verify_genres", "verify"],
    "hashing, and telling how to undo": ["delta", "rebuild", "_summary"],
    "recording on the disk": ["Journal.append"],
}
REST = "reading, writing, forcing to disk"
MB = 1_000_000


def make_songs(folder: Path) -> dict[str, Path]:
    """Songs by description, with a title and no genre."""
    made = {
        "8 MB MP3": make_song(folder / "a.mp3", seconds=200, signal="noise", bit_rate=320_000),
        "30 MB FLAC": make_song(folder / "a.flac", seconds=202, signal="noise"),
    }
    songs = {}
    for name, path in made.items():
        for room, n_bytes in (("with room", 4000), ("no room", 0)):
            song = folder / f"{room}{path.suffix}"
            shutil.copy(path, song)
            tags: Any = mutagen.File(song)
            if isinstance(tags, FLAC):
                tags["TITLE"] = "A title"
            else:
                tags["TIT2"] = TIT2(encoding=3, text="A title")
            tags.save(padding=lambda info, n_bytes=n_bytes: n_bytes)
            songs[f"{name}, {room}"] = song
    return songs


def save_in_place(path: Path, genre: str, force: bool = False) -> None:
    """What a tagger does that takes no care; `force` forces it to disk, at least."""
    song: Any = mutagen.File(path)
    if isinstance(song, FLAC):
        song["GENRE"] = [genre]
    else:
        song["TCON"] = TCON(encoding=3, text=[genre])
    song.save()
    if force:
        with path.open("rb") as file:
            os.fsync(file.fileno())


@contextmanager
def timed_parts(seconds: dict[str, float]) -> Iterator[None]:
    """Adds up what each of PARTS takes within the block."""

    def timed(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                seconds[part] += time.perf_counter() - start

        return call

    with ExitStack() as stack:
        for part, names in PARTS.items():
            for name in names:
                owner: Any = Journal if "." in name else journal_module
                attribute = name.rpartition(".")[2]
                stack.enter_context(patch.object(owner, attribute, timed(part, getattr(owner, attribute))))
        yield


def main() -> None:
    """Measure, and print milliseconds and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=9)
    n_turns = parser.parse_args().turns
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (library := folder / "library").mkdir()
        songs = make_songs(folder)
        times: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        with Journal.open(library, [], folder / "state") as journal:
            for _ in range(n_turns):
                for name, source in songs.items():
                    ways: dict[str, Callable[[Path], object]] = {
                        "in place": lambda path: save_in_place(path, "Techno"),
                        "forced": lambda path: save_in_place(path, "Techno", force=True),
                        "safe": lambda path: journal.write_genres(path, ["Techno"], instead_of=()),
                    }
                    for way, write in ways.items():
                        path = library / f"{way}{source.suffix}"
                        shutil.copy(source, path)
                        os.sync()  # the copy is no part of it
                        parts: dict[str, float] = defaultdict(float)
                        start = time.perf_counter()
                        with timed_parts(parts):
                            write(path)
                        elapsed = time.perf_counter() - start
                        times[name][way].append(elapsed)
                        if way == "safe":
                            for part in PARTS:
                                times[name][part].append(parts[part])
                            times[name][REST].append(elapsed - sum(parts.values()))
        print(f"{'milliseconds, medians of ' + str(n_turns) + ' turns':28} in place  + fsync     safe    ratio")
        for name, source in songs.items():
            plain, forced, safe = (1000 * median(times[name][way]) for way in ("in place", "forced", "safe"))
            size = source.stat().st_size / MB
            print(f"{name:20} {size:5.1f} MB{plain:10.0f}{forced:9.0f}{safe:9.0f}{safe / plain:8.1f}x")
        for name in songs:
            whole = median(times[name]["safe"])
            shares = ", ".join(f"{100 * median(times[name][part]) / whole:.0f} % {part}" for part in (*PARTS, REST))
            print(f"{name}: {shares}")


if __name__ == "__main__":
    main()
