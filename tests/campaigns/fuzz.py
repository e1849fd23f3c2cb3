"""Damaged songs by the thousand: `make campaign-fuzz`. The test command tries 200 of them.

Every song is written or left alone to the byte, for a reason; nothing crashes, nothing hangs, no temporary file stays;
what was written is undone to the same bytes, and decodes to the same samples as before.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tagger.errors import TagError
from tagger.tags.genre import read_genres
from tagger.tags.journal import Journal
from tagger.tags.undo import list_runs, undo
from tests.support.tag_files import FILES, UNDECODED, build, decoded

GENRES = ["Techno", "R&B/Soul"]
OUTCOMES = ("written", "refused", "skipped", "unchanged")
HANG_SECONDS = 20


class HangError(BaseException):
    """A song that takes for ever; nothing that catches errors of songs catches it."""


@contextmanager
def time_limit() -> Iterator[None]:
    """Raise HangError when the block takes longer than HANG_SECONDS, where there are signals for that."""
    if not hasattr(signal, "SIGALRM"):
        yield
        return

    def give_up(*_: object) -> None:
        raise HangError

    previous = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(HANG_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def mutated(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """The song with a few bytes flipped, counted up, cut out, doubled, taken from another song, or cut off.

    Most of it near the ends, where the tags are.
    """
    new = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        near = rng.choice([200, 2000, len(new)])
        at = rng.randrange(min(near, len(new)))
        at = at if rng.random() < 0.7 else len(new) - 1 - at
        kind = rng.randrange(8)
        if kind == 0:
            new[at] = rng.randrange(256)
        elif kind == 1:
            new[at : at + 4] = rng.choice([bytes(4), b"\xff" * 4, b"\x7f\xff\xff\xff", rng.randbytes(4)])
        elif kind == 2:
            del new[at : at + rng.choice([1, 7, 200])]
        elif kind == 3:
            new[at:at] = new[at : at + rng.choice([1, 16, 300])]
        elif kind == 4 and len(new) > 400:
            del new[-rng.randrange(1, len(new) // 2) :]
        elif kind == 5:  # sizes that are off by a little
            order = rng.choice(["big", "little"])
            number = int.from_bytes(new[at : at + 4], order) + rng.choice([-8, -1, 1, 8])  # type: ignore[arg-type]
            new[at : at + 4] = (number % 2**32).to_bytes(4, order)  # type: ignore[arg-type]
        elif kind == 6:
            start = rng.randrange(len(other))
            new[at : at + rng.choice([0, 16, 300])] = other[start : start + rng.choice([16, 300])]
        else:  # one song behind another
            new += other[: rng.choice([128, 1000, len(other)])]
    return bytes(new)


def fuzz(folder: Path, state: Path, n_songs: int, seed: int, names: list[str]) -> dict[str, Counter[str]]:
    """The outcome of that many damaged songs in `folder`: suffix -> outcome -> count. AssertionError for a bug."""
    rng = random.Random(seed)
    counts: dict[str, Counter[str]] = {Path(name).suffix: Counter() for name in names}
    written: dict[Path, tuple[str, bytes]] = {}
    with Journal.open(folder, state=state) as journal:
        for number in range(n_songs):
            suffix = rng.choice(sorted(counts))
            name, other = rng.choices([each for each in names if each.endswith(suffix)], k=2)
            data = mutated(rng, build(name), build(other))
            song = folder / f"{number}{suffix}"
            song.write_bytes(data)
            told = f"seed {seed}, song {number}, made of {name} and {other}"
            with time_limit():
                is_readable = True
                try:
                    read_genres(song)
                except TagError as error:  # a run would leave it at that
                    assert error.reason, told
                    is_readable = False
                try:
                    outcome = "written" if journal.write_genres(song, GENRES) else "unchanged"
                except TagError as error:
                    assert error.reason, told
                    outcome = "refused" if error.refused else "skipped"
                counts[suffix][outcome] += 1
                if outcome == "written":
                    written[song] = name, data
                    assert not is_readable or read_genres(song) == tuple(GENRES), told
                else:
                    assert song.read_bytes() == data, told
                    song.unlink()
    assert not list(folder.glob(".gtag-*")), "temporary files are left"
    for song, (name, data) in written.items():
        new = song.read_bytes()
        if name not in UNDECODED and b"APETAGEX" not in new and b"LYRICSBEGIN" not in new:  # FFmpeg may decode those
            samples = _samples(data)
            if samples[0]:  # else it would not even have been classified
                assert _samples(new) == samples, f"seed {seed}, {song.name}, made of {name}"
                counts[song.suffix]["decoded"] += 1
    (run,) = list_runs(state)
    assert {undone.result for undone in undo(run, None)} == {"bytes"}
    with Journal.open(folder, state=state) as journal:
        assert {undone.result for undone in undo(run, journal)} == {"bytes"}
    for song, (name, data) in written.items():
        assert song.read_bytes() == data, f"seed {seed}, {song.name}, made of {name}"
    return counts


def _samples(data: bytes) -> tuple[int, str]:
    """What FFmpeg decodes, or why it does not."""
    try:
        return decoded(data)
    except Exception as error:
        return 0, type(error).__name__


def main() -> None:
    """Fuzz with the seeds from `--seed` on, and print the song's statuss of each kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--songs", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        (folder := Path(scratch) / "library").mkdir()
        counts = fuzz(folder, Path(scratch) / "state", options.songs, options.seed, list(FILES))
    total: Counter[str] = sum(counts.values(), Counter())
    columns = (*OUTCOMES, "decoded")
    print(f"{'':8}" + "".join(f"{outcome:>11}" for outcome in columns))
    for suffix, count in [*sorted(counts.items()), ("all", total)]:
        print(f"{suffix:8}" + "".join(f"{count[outcome]:>11}" for outcome in columns))
    print(
        f"{options.songs} damaged songs, seed {options.seed}, {time.monotonic() - start:.0f} s: no crash, no hang, "
        f"{total['written']} written and undone to the same bytes, the others unchanged to the byte; "
        f"{total['decoded']} of the written decoded before and after, to the same samples"
    )


if __name__ == "__main__":
    sys.exit(main())
