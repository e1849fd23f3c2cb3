"""Who a song is: the same after any change of tags, another for any other music."""

import io
import os
import shutil
import struct
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import mutagen
import numpy as np
import pytest
from mutagen import apev2, flac, id3, mp4

from tagger.tags import identity
from tagger.tags.genre import retag
from tagger.tags.identity import BLOCK_BYTES, N_BLOCKS, identify
from tests.support import tag_files as files
from tests.support.songs import make_song, synthesize
from tests.support.tag_files import FILES, build

ENCODED = (
    ".aiff",
    ".flac",
    ".m4a",
    ".mp2",
    ".mp3",
    ".oga",
    ".ogg",
    ".opus",
    ".tta",
    ".wav",
    ".wma",
    ".wv",
    ".dsf",
    ".dff",
)
#: Of a given duration these take the same number of bytes whatever they sound like.
CONSTANT = (".aiff", ".mp2", ".mp3", ".wav", ".dsf", ".dff")
BIT_RATES = {".mp3": 192_000, ".mp2": 192_000, ".ogg": 256_000, ".opus": 256_000}
SAMPLED_BYTES = N_BLOCKS * BLOCK_BYTES


@cache
def song(suffix: str, seed: int = 0, seconds: float = 5.0) -> bytes:
    """A song long enough to be sampled."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"song{suffix}"
        seconds /= 5 if suffix in (".dsf", ".dff") else 1  # 64 times the samples
        make_song(path, seconds=seconds, seed=seed, bit_rate=BIT_RATES.get(suffix))
        data = path.read_bytes()
    assert len(data) > 1.5 * SAMPLED_BYTES
    return data


def identity_of(data: bytes, name: str = "song") -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        return identify(path)


@pytest.mark.parametrize("name", FILES)
def test_our_own_writing_changes_nobody(name: str) -> None:
    old, suffix = build(name), Path(name).suffix
    once = retag(old, suffix, ["Techno"])
    twice = retag(once, suffix, ["A genre of many words"] * 1000 if suffix != ".wma" else ["Pop"])
    assert once != old
    assert identity_of(old) == identity_of(once) == identity_of(twice)
    assert len(identity_of(old)) == 32


@pytest.mark.parametrize("suffix", ENCODED)
def test_our_own_writing_changes_no_sampled_song(suffix: str) -> None:
    old = song(suffix)
    once = retag(old, suffix, ["Techno"])
    twice = retag(once, suffix, ["A genre of many words"] * 4000 if suffix != ".wma" else ["Pop"])
    assert len({old, once, twice}) == 3
    assert identity_of(old) == identity_of(once) == identity_of(twice)


def edited(suffix: str, change: Callable[[Any], object], data: bytes | None = None, **options: object) -> bytes:
    """The song as mutagen saves it after a change."""
    file = BytesIO(data or song(suffix))
    file.name = f"song{suffix}"
    tags = mutagen.File(file)
    if tags.tags is None:
        tags.add_tags()
    change(tags)
    file.seek(0)
    tags.save(file, **options)
    return file.getvalue()


def add_cover(tags: Any) -> None:
    """A picture larger than any padding, and a title."""
    if isinstance(tags.tags, id3.ID3):
        tags.tags.add(id3.APIC(encoding=0, mime="image/png", type=3, desc="front", data=files.LARGE_COVER))
        tags.tags.add(id3.TIT2(encoding=3, text="Title"))
    elif isinstance(tags, mp4.MP4):
        tags["covr"] = [mp4.MP4Cover(files.LARGE_COVER, mp4.MP4Cover.FORMAT_PNG)]
    elif isinstance(tags, flac.FLAC):
        picture = flac.Picture()
        picture.data = files.LARGE_COVER
        tags.add_picture(picture)
    elif isinstance(tags.tags, apev2.APEv2):
        tags["Cover Art (Front)"] = b"cover.png\0" + files.LARGE_COVER
    else:
        tags["Comment"] = "long " * 60_000 if tags.__class__.__name__ != "ASF" else "long " * 6_000


@pytest.mark.parametrize("suffix", ENCODED)
def test_the_tags_of_others_change_nobody(suffix: str) -> None:
    old, with_cover = song(suffix), edited(suffix, add_cover)
    without = edited(suffix, lambda tags: tags.tags.clear(), with_cover)
    assert len(with_cover) > len(old) + 20_000
    assert without != with_cover
    assert identity_of(old) == identity_of(with_cover) == identity_of(without)


@pytest.mark.parametrize("suffix", [".mp3", ".flac", ".ogg", ".opus", ".m4a"])
@pytest.mark.parametrize("padding", [0, 100_000])
def test_padding_changes_nobody(suffix: str, padding: int) -> None:
    assert identity_of(song(suffix)) == identity_of(edited(suffix, add_cover, padding=lambda info: padding))


def test_an_mp4_song_with_its_index_in_front_is_the_same_when_it_moves(tmp_path: Path) -> None:
    path = make_song(tmp_path / "fast.m4a", seconds=4, container_options={"movflags": "faststart"})
    old = path.read_bytes()
    new = edited(".m4a", add_cover, old)
    assert new.index(b"mdat") > old.index(b"mdat") + 100_000
    assert identity_of(old) == identity_of(new)


@pytest.mark.parametrize("suffix", [".ogg", ".opus", ".oga"])
def test_ogg_pages_may_be_renumbered_on_the_edge_of_a_block(suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "BLOCK_BYTES", 1 << 20)  # all is read
    monkeypatch.setattr(identity, "CHUNK_BYTES", 5)  # and many an edge falls into the header of a page
    with_cover = edited(suffix, add_cover)
    assert with_cover.count(b"OggS") > song(suffix).count(b"OggS")
    assert identity_of(song(suffix)) == identity_of(with_cover)


@pytest.mark.parametrize("size", [struct.pack(">I4sQ", 1, b"mdat", 0), struct.pack(">I4s", 0, b"mdat")])
def test_an_mp4_box_may_have_a_long_size_or_none(tmp_path: Path, size: bytes) -> None:
    path = make_song(tmp_path / "fast.m4a", seconds=5, container_options={"movflags": "faststart"})
    head, name, audio = path.read_bytes().partition(b"mdat")
    assert len(audio) == int.from_bytes(head[-4:], "big") - 8  # the last box
    if len(size) == 16:
        size = size[:8] + struct.pack(">Q", 16 + len(audio))
    assert identity_of(head[:-4] + size + audio) == identity_of(head + name + audio)


def test_asf_data_without_a_size_goes_to_the_end() -> None:
    data = song(".wma")
    start = data.index(identity.ASF_DATA)
    n_bytes = struct.pack("<Q", len(data) - start)
    whole, unsized = (data[: start + 16] + size + data[start + 24 :] for size in (n_bytes, bytes(8)))
    assert identity_of(whole) == identity_of(unsized) == identity_of(whole + b"more")
    assert identity_of(whole) != identity_of(unsized + b"more")


@pytest.mark.parametrize(
    "around",
    [
        (files.tag23(), b""),
        (files.tag24(padding=5000) + files.id3v2(3, files.text(b"TIT2", "second")), b""),
        (b"", files.id3v1(12)),
        (b"", files.ape(Title="x")),
        (files.tag23(), files.ape(Title="x") + files.lyrics3() + files.id3v1(3)),
    ],
)
@pytest.mark.parametrize("suffix", [".mp3", ".flac", ".wv", ".tta"])
def test_tags_around_the_audio_change_nobody(suffix: str, around: tuple[bytes, bytes]) -> None:
    data = song(suffix).partition(b"APETAGEX")[0]
    assert identity_of(data) == identity_of(around[0] + data + around[1])


@pytest.mark.parametrize("suffix", ENCODED)
def test_other_music_is_another_song(suffix: str) -> None:
    assert identity_of(song(suffix)) != identity_of(song(suffix, seed=1))
    if suffix in CONSTANT:
        assert len(song(suffix)) == len(song(suffix, seed=1))


@pytest.mark.parametrize("suffix", ENCODED)
def test_a_song_cut_short_is_another_song(suffix: str) -> None:
    assert identity_of(song(suffix)) != identity_of(song(suffix, seconds=4.9))


def test_another_bit_rate_is_another_song(tmp_path: Path) -> None:
    same = [make_song(tmp_path / f"{rate}.mp3", seconds=4, bit_rate=rate) for rate in (128_000, 192_000)]
    assert identify(same[0]) != identify(same[1])


@pytest.mark.parametrize("suffix", [".wav", ".aiff"])
def test_the_same_samples_at_another_rate_are_another_song(suffix: str, tmp_path: Path) -> None:
    waveform = synthesize("music", 4, 44_100, 2)
    slow, fast = (make_song(tmp_path / f"{rate}{suffix}", rate=rate, signal=waveform) for rate in (44_100, 48_000))
    assert slow.stat().st_size == fast.stat().st_size
    assert identify(slow) != identify(fast)


@pytest.mark.parametrize("suffix", [".wav", ".aiff", ".mp3"])
def test_tracks_of_silence_differ_by_their_only_sound(suffix: str, tmp_path: Path) -> None:
    """Stems of one production: equal in length, silent but for a moment that no block need meet."""
    found = set()
    for number, moment in enumerate((0.8, 1.1, 1.5)):
        waveform = synthesize("silence", 6, 44_100, 2)
        first = round(moment * 44_100)
        waveform[:, first : first + 4410] = synthesize("noise", 0.1, 44_100, 2)
        path = make_song(tmp_path / f"{number}{suffix}", signal=waveform, bit_rate=320_000)
        found.add((path.stat().st_size, identify(path)))
    assert len({size for size, _ in found}) == 1
    assert len(found) == 3


def test_an_eighth_of_other_music_is_noticed_wherever_it_is(tmp_path: Path) -> None:
    original = synthesize("music", 8, 44_100, 2)
    path = make_song(tmp_path / "song.wav", signal=original)
    whole = identify(path)
    for start in np.linspace(0, 7, 23):
        changed = original.copy()
        first = round(start * 44_100)
        changed[:, first : first + round(1.15 * 44_100)] *= 0.5
        assert identify(make_song(path, signal=changed)) != whole


def test_what_it_does_not_see_is_a_byte_between_the_blocks() -> None:
    data = song(".wav")
    audio = data.index(b"data") + 8
    n_bytes = len(data) - audio
    flipped = {}
    for position in (0, n_bytes // 14, 2 * n_bytes // 14, n_bytes - 1):
        new = bytearray(data)
        new[audio + position] ^= 1
        flipped[position] = identity_of(bytes(new)) == identity_of(data)
    assert list(flipped.values()) == [False, True, False, False]


def test_neither_name_nor_suffix_nor_dates_matter(tmp_path: Path) -> None:
    for suffix in ENCODED:
        here, there = tmp_path / f"a{suffix}", tmp_path / "folder" / "b.bin"
        here.write_bytes(song(suffix))
        there.parent.mkdir(exist_ok=True)
        shutil.copy(here, there)
        os.utime(there, (0, 0))
        assert identify(here) == identify(there)


@pytest.mark.parametrize("suffix", [".flac", ".m4a", ".mp3", ".ogg", ".opus", ".wav", ".wma", ".wv"])
def test_little_of_the_file_is_read(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []

    class Counted(io.FileIO):
        def readinto(self, buffer: Any) -> int:
            reads.append(super().readinto(buffer))
            return reads[-1]

    path = make_song(tmp_path / f"long{suffix}", seconds=12, signal="noise")
    expected = identify(path)
    monkeypatch.setattr(identity, "open", lambda path, mode: io.BufferedReader(Counted(path, mode)), raising=False)
    assert identify(path) == expected
    assert len(reads) <= 30
    assert sum(reads) < 160_000


def test_what_cannot_be_read_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        identify(tmp_path / "missing.mp3")
    with pytest.raises(ValueError, match="not a regular file"):
        identify(tmp_path)
    (tmp_path / "empty.mp3").touch()
    with pytest.raises(ValueError, match="no audio in it"):
        identify(tmp_path / "empty.mp3")
    (tmp_path / "only tags.mp3").write_bytes(files.tag23() + files.id3v1(3))
    with pytest.raises(ValueError, match="no audio in it"):
        identify(tmp_path / "only tags.mp3")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.mp3")
        with pytest.raises(ValueError, match="not a regular file"):
            identify(tmp_path / "pipe.mp3")


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_has_an_identity_or_a_reason(name: str, tmp_path: Path) -> None:
    data, rng, path = build(name), np.random.default_rng(7), tmp_path / "song"
    for _ in range(30):
        damaged = bytearray(data[: rng.integers(1, len(data) + 1)])
        for position in rng.integers(0, min(len(damaged), 600), rng.integers(0, 6)):
            damaged[position] = rng.integers(0, 256)
        path.write_bytes(damaged)
        try:
            first = identify(path)
        except ValueError:
            continue
        assert identify(path) == first


@pytest.mark.parametrize(
    "name", ["plain.wma", "plain.dsf", "plain.m4a", "plain.dff", "plain.wav", "plain.ogg", "plain.ape"]
)
def test_absurd_sizes_in_a_header_do_no_harm(name: str, tmp_path: Path) -> None:
    data, path = build(name), tmp_path / "song"
    for start in range(4, 120):
        for number in (bytes([0xFF] * 4), bytes([0xFF] * 8), bytes([0x7F] + [0xFF] * 7), bytes([0xFF] * 7 + [0x7F])):
            path.write_bytes(data[:start] + number + data[start + len(number) :])
            with suppress(ValueError):  # no audio in it
                assert len(identify(path)) == 32
