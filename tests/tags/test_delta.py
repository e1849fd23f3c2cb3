"""Deltas give the old bytes back and stay small."""

import json
import random

from tagger.tags.genre import retag
from tagger.tags.journal import MAX_LITERAL_BYTES, delta, rebuild
from tests.support.tag_files import FILES, build


def edited(rng: random.Random, old: bytes) -> bytes:
    new = bytearray(old)
    for _ in range(rng.randrange(5)):
        at = rng.randrange(len(new) + 1)
        new[at : at + rng.randrange(300)] = rng.randbytes(rng.randrange(300))
    return bytes(new)


def test_any_edit_is_taken_back() -> None:
    rng = random.Random(7)
    for n_symbols in (2, 4, 256):
        for _ in range(300):
            old = bytes(rng.choices(range(n_symbols), k=rng.randrange(6000)))
            new = edited(rng, old)
            instructions = delta(new, old)
            assert instructions is not None
            assert rebuild(new, json.loads(json.dumps(instructions))) == old


def test_every_container_within_a_kilobyte() -> None:
    for name in FILES:
        old = build(name)
        new = retag(old, name[name.rindex(".") :], ["Techno", "Acid Jazz"])
        instructions = delta(new, old)
        assert instructions is not None and rebuild(new, instructions) == old
        assert len(json.dumps(instructions)) < 1300, name


def test_a_moved_cover_is_not_stored() -> None:
    cover = random.Random(1).randbytes(1_000_000)
    old, new = b"head" + cover + b"audio" * 9999, b"a longer head" + bytes(5000) + cover + b"audio" * 9999
    assert len(json.dumps(delta(new, old))) < 200


def test_changes_all_over_are_found_again() -> None:
    """Ogg pages carry a number and a checksum: every one changes when a page is put in front."""
    rng = random.Random(2)
    old = rng.randbytes(400_000)
    new = bytearray(old)
    for at in range(3000, len(new), 4100):
        new[at : at + 8] = rng.randbytes(8)
    instructions = delta(bytes(new[:2000]) + rng.randbytes(4500) + bytes(new[2000:]), old)
    assert instructions is not None and len(json.dumps(instructions)) < 8000


def test_no_delta_where_the_old_bytes_are_another_file() -> None:
    rng = random.Random(3)
    assert delta(rng.randbytes(1000), rng.randbytes(3 * MAX_LITERAL_BYTES)) is None
