"""Which files are songs whose genre can be written, by what is in them; and what to say of all others."""

import errno
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from os import PathLike
from typing import BinaryIO

from mutagen import MutagenError

from tagger.errors import JournalError, TagError
from tagger.tags.layout.asf import ASF_HEADER, in_asf
from tagger.tags.layout.chunks import chunks, in_chunks, in_dsf
from tagger.tags.layout.head_and_tail import head_and_tail, id3v2_size, mpeg_start
from tagger.tags.layout.mp4 import in_mp4, mp4_boxes
from tagger.tags.layout.ogg import in_ogg
from tagger.tags.layout.place import Layout, at

_OGG = ("OggVorbis", "OggOpus", "OggFLAC", "OggSpeex")
SUFFIXES: dict[str, tuple[str, ...]] = {
    ".mp3": ("MP3",), ".mp2": ("MP3",), ".tta": ("TrueAudio",), ".dsf": ("DSF",), ".dff": ("DSDIFF",),
    ".wav": ("WAVE",), ".aif": ("AIFF",), ".aiff": ("AIFF",), ".aifc": ("AIFF",), ".flac": ("FLAC",), ".ogg": _OGG,
    ".oga": _OGG, ".opus": ("OggOpus",), ".spx": ("OggSpeex",), ".m4a": ("MP4",), ".m4b": ("MP4",), ".mp4": ("MP4",),
    ".wma": ("ASF",), ".wv": ("WavPack",), ".mpc": ("Musepack",), ".ape": ("MonkeysAudio",),
    ".tak": ("TAK",),
}  # fmt: skip
# What a file begins with, behind any ID3v2 tag; MPEG audio has no signature worth the name, its frames are looked for.
_SIGNATURES = (
    (0, b"RF64", "RF64"), (0, b"BW64", "RF64"), (0, b"RIFX", "RIFX"), (0, b"fLaC", "FLAC"), (4, b"ftyp", "MP4"),
    (8, b"WAVE", "WAVE"),
    (8, b"AIFF", "AIFF"), (8, b"AIFC", "AIFF"), (0, b"DSD ", "DSF"), (0, b"FRM8", "DSDIFF"), (0, b"wvpk", "WavPack"),
    (0, b"MPCK", "Musepack"), (0, b"MP+", "Musepack"),
    (0, b"MAC ", "MonkeysAudio"), (0, b"tBaK", "TAK"), (0, b"TTA", "TrueAudio"),
    (0, ASF_HEADER[:8], "ASF"), (0, b"\x1aE\xdf\xa3", "Matroska"),
    (0, b"caff", "CAF"), (0, b".snd", "AU"),
)  # fmt: skip
_OGG_KINDS = {b"\x01vorbis": "OggVorbis", b"OpusHead": "OggOpus", b"\x7fFLAC": "OggFLAC", b"Speex   ": "OggSpeex"}
HEAD_AND_TAIL = {
    "MP3": "id3", "TrueAudio": "id3", "FLAC": "vorbis", "WavPack": "ape", "Musepack": "ape", "MonkeysAudio": "ape",
    "TAK": "ape",
}  # fmt: skip
_LAYOUTS: dict[str, Callable[[BinaryIO], Layout]] = {
    **{kind: partial(head_and_tail, leading=tag) for kind, tag in HEAD_AND_TAIL.items()},
    **dict.fromkeys(("WAVE", "AIFF", "DSDIFF"), in_chunks),
    **dict.fromkeys(_OGG, in_ogg),
    "DSF": in_dsf,
    "MP4": in_mp4,
    "ASF": in_asf,
}


@contextmanager
def naming(path: str | PathLike[str]) -> Iterator[None]:
    """Whatever goes wrong with a file inside this block is a TagError that names it; a JournalError stays one.

    Broken files make mutagen and PyAV raise a dozen kinds of exception, IndexError and MemoryError among them, so
    everything but an interrupt is caught: one bad file must not end a run.
    """
    try:
        yield
    except JournalError:  # not this song's fault, and no reason to go on
        raise
    except TagError as error:
        is_lasting = error.is_lasting and not _is_passing(error.__cause__)
        raise TagError(path, error.reason, error.refused, is_lasting) from error
    except Exception as error:
        reason = re.sub(r"^'(<unknown>)?' ", "", getattr(error, "strerror", None) or str(error))
        if not (isinstance(error, (MutagenError, OSError)) or type(error) is ValueError) or not reason:
            reason = f"damaged, or not what its name says ({type(error).__name__}{f': {reason}' if reason else ''})"
        raise TagError(path, reason, is_lasting=not _is_passing(error)) from error


def _is_passing(error: BaseException | None) -> bool:
    """Whether the system is to blame for an error, or one that mutagen has wrapped: not for what a file asks of it."""
    wrapped = [each for each in getattr(error, "args", ()) if isinstance(each, BaseException)]
    return any(
        isinstance(each, MemoryError) or (isinstance(each, OSError) and each.errno not in (None, errno.EINVAL))
        for each in (error, *wrapped)
    )


def layout_of(file: BinaryIO, suffix: str) -> tuple[str, Layout]:
    """What is in a song, and where its tags lie; TagError or ValueError when it must not be written."""
    allowed = SUFFIXES.get(suffix.lower())
    if allowed is None:
        raise TagError("", f"{suffix or 'no extension'} is not a kind of file that can be written", refused=False)
    if not at(file, 0, 1):
        raise TagError("", "empty file")
    start, found = _content(file)
    if found == "RF64":
        raise TagError("", "RF64, a WAV above 4 GiB", refused=False)
    if not found and allowed != ("MP3",):
        if not _is_mpeg_audio(file, start):
            raise TagError("", f"content is no {' or '.join(allowed)} that is known, extension says {suffix.lower()}")
        found = "MP3"
    if found and found not in allowed:
        raise TagError("", f"content is {found}, extension says {suffix.lower()}")
    kind = found or "MP3"
    if start and kind not in HEAD_AND_TAIL:
        raise TagError("", f"an ID3v2 tag in front of {kind}, where most players take it for the audio")
    if check := _CHECKS.get(kind):
        check(file)
    found_layout = _LAYOUTS[kind](file)
    if kind in HEAD_AND_TAIL and found_layout.audio.start == found_layout.audio.stop:
        raise TagError("", "no audio in it")
    return kind, found_layout


def _is_mpeg_audio(file: BinaryIO, start: int) -> bool:
    """Whether its frames begin right behind the ID3v2 tags: two by chance are somewhere in a megabyte of anything."""
    try:
        return mpeg_start(file, start) == start
    except ValueError:
        return False


def audio_span(file: BinaryIO) -> slice:
    """Where the coded audio lies in a file of head tags | audio | tail tags, whatever is in it."""
    _, kind = _content(file)
    try:
        return head_and_tail(file, HEAD_AND_TAIL.get(kind or "MP3", "ape")).audio
    except ValueError:
        if kind:
            raise
        return head_and_tail(file, "ape").audio  # whatever it is, its tags are found


def _content(file: BinaryIO) -> tuple[int, str]:
    """Where the content begins behind ID3v2 tags, and what it is; "" for what has no signature."""
    start = 0
    while step := id3v2_size(at(file, start, 10)):
        start += step
    head = at(file, start, 64)
    if head[:4] == b"OggS":
        return start, _ogg_content(file, start)
    return start, next((what for where, magic, what in _SIGNATURES if head[where : where + len(magic)] == magic), "")


def _ogg_content(file: BinaryIO, position: int) -> str:
    """The first stream of sound; others, a skeleton or pictures, may come first."""
    for _ in range(16):
        page = at(file, position, 27 + 255)
        if page[:4] != b"OggS" or not page[5] & 2:
            break
        n = page[26]
        body = at(file, position + 27 + n, 16)
        if kind := next((kind for magic, kind in _OGG_KINDS.items() if body.startswith(magic)), ""):
            return kind
        if body.startswith(b"\x80theora"):
            raise TagError("", "has a video track", refused=False)
        position += 27 + n + sum(page[27 : 27 + n])
    return "Ogg without a Vorbis, Opus, FLAC or Speex stream"


def _check_mp4(file: BinaryIO) -> None:
    boxes = [box for box in mp4_boxes(file, 0, file.seek(0, 2)) if box.path.startswith("moov/trak")]
    handlers = {at(file, box.payload + 8, 4) for box in boxes if box.path == "moov/trak/mdia/hdlr"}
    codecs = {at(file, box.payload + 12, 4) for box in boxes if box.path.endswith("stbl/stsd")}
    if found := codecs & {b"drms", b"enca"}:
        raise TagError("", f"DRM-protected ({found.pop().decode()})", refused=False)
    if b"vide" in handlers:
        raise TagError("", "has a video track", refused=False)
    if boxes and b"soun" not in handlers:
        raise TagError("", "MP4 without an audio track")


def _check_wave(file: BinaryIO) -> None:
    formats = [chunk for chunk in chunks(file) if chunk.name == b"fmt "]
    payload = at(file, formats[0].start, 26) if formats else b""
    codec = int.from_bytes(payload[:2], "little")
    if codec == 0xFFFE:  # WAVE_FORMAT_EXTENSIBLE: the codec is the head of the sub-format GUID
        codec = int.from_bytes(payload[24:26], "little")
    if codec not in (1, 3):
        raise TagError("", f"WAV holds codec {codec:#06x}, not PCM or float", refused=False)


_CHECKS = {"MP4": _check_mp4, "WAVE": _check_wave}
