"""Songs and plans for tests of a review: tones that FakeModel knows, and rows by the thousand."""

from pathlib import Path

import numpy as np

from tagger.review.plan import Row, write_plan
from tagger.tags.identity import identify
from tests.support.fakes import GENRES, make_tone


def make_songs(folder: Path, seconds: float = 11.0) -> list[Path]:
    """Three albums of a song of each genre."""
    paths = []
    for artist in ("Ann", "Bob", "Cid"):
        (folder / artist / "One").mkdir(parents=True)
        for number, genre in enumerate(GENRES):
            paths.append(folder / artist / "One" / f"{number + 1} {genre.lower()}.flac")
            make_tone(paths[-1], genre, seconds + len(paths) / 100)
    return paths


def row_for(path: Path, proposed: str = "Rock", **values: object) -> Row:
    """A row of a song as it is."""
    given = {"old": (), "confidence": 0.9, "second": "Jazz", "second_confidence": 0.05} | values
    return Row(str(path), identify(path), proposed=(proposed,), **given)  # type: ignore[arg-type]


def many_rows(n_rows: int, folder: str = "/music") -> list[Row]:
    """Rows of songs that there are not, ten on an album, one in four of them without a genre."""
    random = np.random.default_rng(0)
    genres = ("Rock", "Pop", "Jazz", "Blues", "Hip-Hop", "Electronic")
    rows = []
    for number in range(n_rows):
        first, second = random.choice(genres, 2, replace=False)
        confidence = float(random.uniform(0.3, 1))
        old = (str(random.choice(genres)),) if number % 4 else ()
        album = f"{folder}/Artist {number // 100:03}/Album {number // 10:04}"
        rows.append(
            Row(
                f"{album}/{number % 10 + 1:02} Song {number}.mp3", number.to_bytes(32, "big"), old, (str(first),),
                confidence, str(second), (1 - confidence) / 2, starts_seconds=(10.0, 60.0),
            )
        )  # fmt: skip
    return rows


def plan_of(path: Path, rows: list[Row]) -> Path:
    """A plan on disk."""
    write_plan(path, rows)
    return path
