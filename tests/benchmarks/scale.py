"""What a library of a hundred thousand songs costs, beside what it costs to decode and classify them.

    python -m tests.benchmarks.scale 100000

The argument is the number of songs: small files, half of them in one folder and half in albums of twelve. Their
predictions are put into the cache by its own functions, so that what is measured is all the rest: to walk, to look, to
decide, to write, to undo, to report, to learn; and a cache of which a page is damaged.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from tagger.audio.library import find_songs
from tagger.models.description import STARTER, Description, describe
from tagger.pipeline.cache import Method, PredictionCache, cache_path
from tagger.pipeline.options import PredictOptions
from tagger.pipeline.predict import Prediction
from tagger.tags.genre import retag
from tests.benchmarks.tagging import Cost, default_settings, process_cost
from tests.support.songs import make_song

ALBUM_SONGS = 12
FEW = 1_000  # songs of a small run, to compare with
PAGE_BYTES = 4096  # of SQLite
LEARNED = ("Blues", "Country", "Folk", "Hip-Hop", "Jazz", "Metal", "Pop", "Rock")
WIDTH = 192  # of the built-in model's embeddings


def make_library(root: Path, n_songs: int) -> list[Path]:
    """Files of a tenth of a second, no two with the same samples: flat/0.wav …, albums/0/0.wav …"""
    one = make_song(root / "one.wav", seconds=0.1, rate=8_000, channels=1).read_bytes()
    (root / "one.wav").unlink()
    (root / "flat").mkdir()
    songs = [root / "flat" / f"{number}.wav" for number in range(n_songs // 2)]
    for number in range(n_songs - len(songs)):
        folder = root / "albums" / str(number // ALBUM_SONGS)
        folder.mkdir(parents=True, exist_ok=True)
        songs.append(folder / f"{number % ALBUM_SONGS}.wav")
    for number, song in enumerate(songs):
        song.write_bytes(one[:-8] + number.to_bytes(8, "little"))
    return songs


def genre_of(song: Path) -> int:
    """The label of a song's genre: an album has one."""
    return int(song.parent.name if song.parent.parent.name == "albums" else song.stem) % len(LEARNED)


def fill_cache(songs: list[Path], description: Description) -> None:
    """Predictions that are sure of a genre that the model writes, for songs that are to be known.

    Their embeddings lie about a place for each genre.
    """
    rng = np.random.default_rng(0)
    sure = np.zeros((5, len(description.head.genres)), np.float32)
    sure[:, description.head.genres.index("Classical")] = 20
    places = rng.standard_normal((len(LEARNED), WIDTH), np.float32)
    method = replace(Method.of(description, PredictOptions()), precision="fp32")
    with PredictionCache(cache_path(), sys.exit) as cache:
        for song in songs:
            embeddings = places[genre_of(song)] + 3 * rng.standard_normal((5, WIDTH), np.float32)
            prediction = Prediction(sure, (0.0,) * 5, 60.0, "", embeddings=embeddings)
            cache.remember(cache.look(song), method, prediction)


def tag_by_hand(songs: list[Path]) -> None:
    """Give songs a genre as another program would."""
    for song in songs:
        song.write_bytes(retag(song.read_bytes(), song.suffix, [LEARNED[genre_of(song)]]))


def seconds_of_walk(root: Path) -> float:
    """How long it takes to find all songs."""
    began = time.perf_counter()
    n_songs = sum(1 for _ in find_songs([str(root)]))
    seconds = time.perf_counter() - began
    assert n_songs > 0
    return seconds


def command(*words: object) -> Cost:
    """What a genre-tag command takes."""
    return process_cost(1, "-m", "tagger", *words)


def each(cost: Cost, n_songs: int) -> str:
    """The cost of a song; the processor's time is the one that does not tell of what else the machine does."""
    of_a_core, by_the_clock = (1e3 * seconds / n_songs for seconds in (cost.cpu_seconds, cost.seconds))
    return f"{of_a_core:.3g} ms of a core and {by_the_clock:.3g} ms by the clock a song"


def damage(cache: Path) -> None:
    """Overwrite a page in the middle of the cache's file."""
    with cache.open("r+b") as file:
        file.seek(cache.stat().st_size // PAGE_BYTES // 2 * PAGE_BYTES)
        file.write(b"\xa5" * PAGE_BYTES)


def n_cached() -> int:
    """Predictions that the cache holds."""
    with PredictionCache(cache_path(), lambda line: print(f"  {line}")) as cache:
        return sum(each.n_predictions for each in cache.contents().predictions)


def figures(root: Path, n_songs: int) -> Iterator[str]:
    """The figures, a line each, in the order of a life: found, known, written, taken back, reported, damaged."""
    began = time.perf_counter()
    songs = make_library(root, n_songs)
    yield f"{n_songs} files made in {time.perf_counter() - began:.0f} s"
    yield f"walk: {seconds_of_walk(root):.2f} s"
    began = time.perf_counter()
    fill_cache(songs, describe(STARTER))
    size = cache_path().stat().st_size / 1e6
    yield f"cache filled in {time.perf_counter() - began:.0f} s: {size:.0f} MB"
    for name in ("first look at the tags", "second run"):
        cost = command(root, "-q", "--json", os.devnull)
        yield f"{name}: {cost.seconds:.1f} s, {each(cost, n_songs)}, {cost.peak_mb:.0f} MB"
    n_few = min(FEW, n_songs // 8)
    n_others = n_songs // 2 - n_few
    for name, where in (("one folder", root / "flat"), ("albums", root / "albums")):
        few = command(where, "--write-tags", "-q", "--limit", n_few)
        others = command(where, "--write-tags", "-q")
        yield f"written in {name}, the first {n_few}: {each(few, n_few)}, start included"
        yield f"written in {name}, {n_others} more: {each(others, n_others)}, {others.peak_mb:.0f} MB"
        undone = command("undo", "last")
        yield f"undone in {name}, these {n_others}: {each(undone, n_others)}, {undone.peak_mb:.0f} MB"
    cost = command("report", root, "--format", "html", "--out", root / "report.html")
    size = (root / "report.html").stat().st_size / 1e6
    yield f"report: {cost.seconds:.1f} s, {each(cost, n_songs)}, {cost.peak_mb:.0f} MB, {size:.1f} MB of HTML"
    tag_by_hand(songs)
    for name in ("first look at the new tags, and a layer learned", "learned again"):
        cost = command("learn", root, "--out", root.with_name(name))
        yield f"{name}: {cost.seconds:.1f} s, {cost.cpu_seconds:.1f} s of a core, {cost.peak_mb:.0f} MB"
    n_before = n_cached()
    damage(cache_path())
    yield f"a page of the cache overwritten: {n_cached()} of {n_before} predictions are left"


def main() -> None:
    n_songs = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with TemporaryDirectory() as folder:
        os.environ["XDG_STATE_HOME"] = str(Path(folder, "state"))
        os.environ.update(default_settings())
        root = Path(folder, "music")
        root.mkdir()
        for line in figures(root, n_songs):
            print(line, flush=True)


if __name__ == "__main__":
    main()
