"""A small labelled library, and a dataset of it, for tests."""

from pathlib import Path

import numpy as np

from tests.support.songs import make_song, synthesize
from training.dataset.data import Record
from training.dataset.options import PrepareOptions
from training.dataset.prepare import prepare

RATE = 16_000
GENRES = {"blues": "Blues", "jazz": "Jazz", "hiphop": "Hip-Hop"}


def make_library(root: Path) -> Path:
    """14 songs by 12 artists, in 3 folders of genres, with tags that say the same; and 3 that are of no use.

    One of jazz is short, one of blues is a copy of another artist's, at another bit rate and without its first seconds.
    """
    for number, (folder, genre) in enumerate(GENRES.items()):
        (root / folder).mkdir(parents=True)
        for artist in range(4):
            seconds = 4 if (folder, artist) == ("jazz", 3) else 14 + 3 * artist
            add_song(root / folder / f"{artist}.flac", seconds, 10 * number + artist, f"{genre} {artist}", genre)
    add_song(root / "jazz" / "0 again.flac", 16, 91, "JAZZ 0 feat. Somebody", "Jazz")
    copy = synthesize("music", 14, RATE, 1, seed=0)[:, 2 * RATE + 777 :]
    add_song(root / "blues" / "9.mp3", 0, 0, "Someone Else", "Blues", signal=copy, bit_rate=64_000)
    make_song(root / "hiphop" / "silent.flac", 20, rate=RATE, channels=1, signal="silence")
    make_song(root / "hiphop" / "tiny.flac", 0.5, rate=RATE, channels=1)
    (root / "jazz" / "broken.mp3").write_bytes(b"no song")
    return root


def add_song(
    path: Path, seconds: float, seed: int, artist: str, genre: str, signal: str | np.ndarray = "music", **how: object
) -> None:
    """A song of its own, with tags."""
    tags = {"artist": artist, "genre": genre}
    make_song(path, seconds, RATE, 1, signal, seed, metadata=tags, **how)  # type: ignore[arg-type]


def make_dataset(source: Path, folder: Path, force: bool = False, **options: object) -> Record:
    """Prepare with one worker."""
    return prepare(source, folder, PrepareOptions(**options), n_workers=1, force=force)  # type: ignore[arg-type]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
