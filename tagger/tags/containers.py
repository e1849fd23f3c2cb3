"""The containers as mutagen reads and writes them: where each keeps its genre, and how to put one there.

A genre may live in several places of one song (an ID3v2 frame and the ID3v1 byte behind the audio, say). Each place
has one function to write it; frames, comments and items other than the genre are carried over, and where the tag is a
block of its own (`tagger.tags.layout`) the audio never passes through mutagen.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from io import BytesIO
from os import PathLike
from typing import Any, BinaryIO

from mutagen import FileType, MutagenError, PaddingInfo
from mutagen.aiff import AIFF
from mutagen.asf import ASF
from mutagen.dsdiff import DSDIFF
from mutagen.dsf import DSF
from mutagen.flac import FLAC
from mutagen.id3 import ID3, TCO, TCON, Frame, Frames, Frames_2_2, ID3NoHeaderError, ID3Tags, TextFrame
from mutagen.monkeysaudio import MonkeysAudio
from mutagen.mp3 import MP3
from mutagen.mp4 import MP4, Atoms
from mutagen.musepack import Musepack
from mutagen.ogg import OggPage
from mutagen.oggflac import OggFLAC
from mutagen.oggopus import OggOpus
from mutagen.oggspeex import OggSpeex
from mutagen.oggvorbis import OggVorbis
from mutagen.optimfrog import OptimFROG
from mutagen.tak import TAK
from mutagen.trueaudio import TrueAudio
from mutagen.wave import WAVE
from mutagen.wavpack import WavPack

from tagger.errors import TagError
from tagger.tags import layout
from tagger.tags.policies import Multi

Places = Mapping[str, tuple[str, ...]]  # where a genre lives → the values as stored there

_OGG = (OggVorbis, OggOpus, OggFLAC, OggSpeex)
_ID3_TAIL = (MP3, TrueAudio)
_ID3 = (*_ID3_TAIL, WAVE, AIFF, DSF, DSDIFF)
_APE = (WavPack, Musepack, MonkeysAudio, OptimFROG, TAK)
_HEAD_AND_TAIL = (*_ID3_TAIL, FLAC, *_APE)
_SUFFIXES: dict[str, tuple[type[FileType], ...]] = {
    ".mp3": (MP3,), ".mp2": (MP3,), ".tta": (TrueAudio,), ".dsf": (DSF,), ".dff": (DSDIFF,), ".wav": (WAVE,),
    ".aif": (AIFF,), ".aiff": (AIFF,), ".aifc": (AIFF,), ".flac": (FLAC,), ".ogg": _OGG, ".oga": _OGG,
    ".opus": (OggOpus,), ".spx": (OggSpeex,), ".m4a": (MP4,), ".m4b": (MP4,), ".mp4": (MP4,), ".wma": (ASF,),
    ".wv": (WavPack,), ".mpc": (Musepack,), ".ape": (MonkeysAudio,), ".ofr": (OptimFROG,), ".tak": (TAK,),
}  # fmt: skip
# What a file begins with, behind any ID3v2 tag; MPEG audio has no signature worth the name, its reader syncs.
_SIGNATURES: tuple[tuple[int, bytes, type[FileType] | str], ...] = (
    (28, b"\x01vorbis", OggVorbis), (28, b"OpusHead", OggOpus), (28, b"\x7fFLAC", OggFLAC), (28, b"Speex   ", OggSpeex),
    (0, b"OggS", "Ogg without a Vorbis, Opus, FLAC or Speex stream in front"), (0, b"fLaC", FLAC), (4, b"ftyp", MP4),
    (8, b"WAVE", WAVE), (8, b"AIFF", AIFF), (8, b"AIFC", AIFF), (0, b"DSD ", DSF), (0, b"FRM8", DSDIFF),
    (0, b"wvpk", WavPack), (0, b"MPCK", Musepack), (0, b"MP+", Musepack), (0, b"MAC ", MonkeysAudio),
    (0, b"OFR ", OptimFROG), (0, b"tBaK", TAK), (0, b"TTA", TrueAudio), (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", ASF),
    (0, b"\x1aE\xdf\xa3", "Matroska"), (0, b"caff", "CAF"), (0, b".snd", "AU"),
)  # fmt: skip


@contextmanager
def naming(path: str | PathLike[str]) -> Iterator[None]:
    """Whatever goes wrong with a file inside this block is a TagError that names it.

    Broken files make mutagen and PyAV raise a dozen kinds of exception, IndexError and MemoryError among them, so
    everything but an interrupt is caught: one bad file must not end a run.
    """
    try:
        yield
    except TagError as error:
        raise TagError(path, error.reason, error.refused) from error
    except Exception as error:
        reason = re.sub(r"^'(<unknown>)?' ", "", getattr(error, "strerror", None) or str(error))
        if not (isinstance(error, (MutagenError, OSError)) or type(error) is ValueError) or not reason:
            reason = f"damaged, or not what its name says ({type(error).__name__}{f': {reason}' if reason else ''})"
        raise TagError(path, reason) from error


class Song:
    """A song opened for its genre; raises TagError when it is none of the kinds that can be written safely."""

    def __init__(self, file: BinaryIO, suffix: str) -> None:
        self.file = file
        self.native: Any = _open(file, suffix)  # mutagen's stubs say that info and tags are None

    @property
    def is_tagged(self) -> bool:
        """Whether it has the tag its container is known for (ID3v2, Vorbis comments, APEv2, ...), empty or not."""
        return self.native.tags is not None

    def places(self) -> Places:
        """Where this song keeps, or is to keep, its genre, the leading place first, and what is stored there.

        A tag is never begun beside another one that holds title or artist: readers would see the new one only.
        """
        native = self.native
        leading = "id3" if isinstance(native, _ID3) else "ape" if isinstance(native, _APE) else _native_place(native)
        places = {leading: self._stored(leading)}
        beside = "info" if isinstance(native, WAVE) else "ape" if isinstance(native, _ID3_TAIL) else ""
        if beside and not self.is_tagged and _is_titled(self.file, beside):
            places = {beside: self._stored(beside)}
        elif beside and (genres := self._stored(beside)):
            places[beside] = genres
        if isinstance(native, _HEAD_AND_TAIL) and (genres := self._stored("id3v1")):
            places["id3v1"] = genres
        return places

    def names(self, place: str, values: Sequence[str]) -> tuple[str, ...]:
        """Genre names from stored values: "(17)Hard Rock" is Rock and Hard Rock, "17" is Rock (ID3v2.3 §4.2.1)."""
        if self._has_one_value(place):
            values = [part for value in values for part in value.split("; ")]
        return tuple(TCON(encoding=3, text=[clean(value) for value in values]).genres)

    def spelled(self, place: str, genres: Sequence[str], multi: Multi) -> tuple[str, ...]:
        """The values to store in that place for these genres."""
        if place == "id3v1":
            return (str(_ID3V1_NUMBERS.get(genres[0].casefold(), 255)),)
        if self._has_one_value(place) and not (place == "id3" and multi == "null"):
            return (genres[0],) if multi == "first" else ("; ".join(genres),)
        return tuple(genres)

    def put(self, data: bytes, places: Places) -> bytes:
        """The song's bytes with these values in these places; a place without values is left without a genre."""
        for place, values in places.items():
            data = _PUT[place](data, self.native, list(values))
        return data

    def stream(self) -> tuple[float, ...]:
        """Sample rate, channels, bits and seconds, 0 where the container does not say."""
        names = ["sample_rate", "channels", "bits_per_sample"]
        if not isinstance(self.native, MP3):  # mutagen guesses it from the size of the file, tail tags included
            names.append("length")
        return tuple(float(getattr(self.native.info, name, None) or 0) for name in names)

    def credits(self) -> tuple[str, str, str, str]:
        """Artist, album artist, album and title; several of one kind joined by "; ", "" where there is none."""
        native = self.native
        if isinstance(native, _ID3):
            places = ["id3", "info" if isinstance(native, WAVE) else "ape"]
            if not self.is_tagged:  # "id3" is then the ID3v1 block, with room for 30 letters
                places.reverse()
        else:
            places = ["ape" if isinstance(native, _APE) else _native_place(native)]
        found = [("", "", "", "")]
        for place in places:
            texts = [(key, clean(text)) for key, text in _texts(self.file, native, place)]
            artist, album_artist, album, title = (
                "; ".join(dict.fromkeys(text for key, text in texts if key == wanted and text))
                for wanted in _CREDITS[place]
            )
            found.append((artist, album_artist, album, title))
        artist, album_artist, album, title = (next(filter(None, texts), "") for texts in zip(*found, strict=True))
        return artist, album_artist, album, title

    def seconds(self) -> float:
        """About how long it is, by its headers; 0 where they do not say."""
        return float(getattr(self.native.info, "length", None) or 0)

    def others(self) -> dict[str, Any]:
        """Everything but the genre, read in full and comparable."""
        return _others(self.file, self.native)

    def _has_one_value(self, place: str) -> bool:
        """INFO and ID3v2.3 have room for one value (v2.2 too, which is written as v2.3)."""
        return place == "info" or (place == "id3" and self.is_tagged and self.native.tags.version < (2, 4))

    def _stored(self, place: str) -> tuple[str, ...]:
        if place == "id3":
            return tuple(self.native.tags["TCON"].text) if self.is_tagged and "TCON" in self.native.tags else ()
        if place == "ape":
            values = [value for _, key, value in _ape_items(self.file) if key.lower() == b"genre"]
            return tuple(part for value in values for part in value.decode().split("\0"))
        if place == "info":
            return tuple(_info_text(value) for name, value in _info_items(self.file) if name == b"IGNR")
        if place == "id3v1":
            block = layout.id3v1(self.file)
            return (str(block[127]),) if block else ()
        return tuple(str(value) for value in (self.native.tags or {}).get(_KEYS[place], ()))


def clean(genre: str) -> str:
    """One line of text without outer blanks or control characters."""
    return " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", genre).split())


def _open(file: BinaryIO, suffix: str) -> Any:
    """The song as mutagen reads it, ID3 frames other than the genre unparsed; TagError when it must not be written."""
    allowed = _SUFFIXES.get(suffix.lower())
    if allowed is None:
        raise TagError("", f"{suffix or 'no extension'} is not a kind of file that can be written", refused=False)
    if not file.read(1):
        raise TagError("", "empty file")
    found = _content(file) or allowed[0]
    if found == "RF64":
        raise TagError("", "RF64, a WAV above 4 GiB", refused=False)
    if isinstance(found, str) or found not in allowed:
        name = found if isinstance(found, str) else found.__name__
        raise TagError("", f"content is {name}, extension says {suffix.lower()}")
    file.seek(0)
    if found is MP4:
        return _check_mp4(file, MP4(file))
    if found not in _ID3:
        return found(file)
    if found is WAVE:
        _check_wave(file)
    tag = layout.cut_id3(file)
    if layout.has_footer(tag[:10]):
        raise TagError("", "ID3v2.4 tag with a footer")
    if len(tag) < layout.id3v2_size(tag[:10]):
        raise TagError("", "ID3v2 tag runs past its end")
    file.seek(0)
    return found(file, known_frames=_GenreFrames(), translate=False, load_v1=False)


def _content(file: BinaryIO) -> type[FileType] | str | None:
    start = 0
    while True:
        file.seek(start)
        head = file.read(64)
        if not (step := layout.id3v2_size(head[:10])):
            break
        start += step
    if head[:4] in (b"RF64", b"BW64"):
        return "RF64"
    return next((what for at, magic, what in _SIGNATURES if head[at : at + len(magic)] == magic), None)


def _check_mp4(file: BinaryIO, song: Any) -> MP4:
    if song.info.codec[:4] in ("drms", "enca"):
        raise TagError("", f"DRM-protected ({song.info.codec[:4]})", refused=False)
    file.seek(0)
    movie = Atoms(file)[b"moov"]
    for track in movie.findall(b"trak"):
        if track[b"mdia", b"hdlr"].read(file)[1][8:12] == b"vide":
            raise TagError("", "has a video track", refused=False)
    genres = (song.tags or {}).get(_KEYS["mp4"], [])
    for atom in movie.findall(b"gnre", recursive=True):
        number = int.from_bytes(atom.read(file)[1][-2:], "big", signed=True)
        # 0 is no genre; mutagen counts it, and those below, from the end of its table.
        if -len(TCON.GENRES) < number < 1 and (wrong := TCON.GENRES[number - 1]) in genres:
            genres.remove(wrong)
    return song


def _check_wave(file: BinaryIO) -> None:
    formats = [c for c in layout.chunks(file) if c.name == b"fmt "]
    payload = layout.at(file, formats[0].start, 26) if formats else b""
    codec = int.from_bytes(payload[:2], "little")
    if codec == 0xFFFE:  # WAVE_FORMAT_EXTENSIBLE: the codec is the head of the sub-format GUID
        codec = int.from_bytes(payload[24:26], "little")
    if codec not in (1, 3):
        raise TagError("", f"WAV holds codec {codec:#06x}, not PCM or float", refused=False)


class _GenreFrames(dict[str, type[Frame]]):
    """Frames to parse: the genre alone. mutagen then hands every other frame back as it stood, to the byte.

    Membership still answers for every known frame: mutagen counts them to tell v2.4 tags with sizes by the standard
    from those iTunes wrote with plain integers.
    """

    def __init__(self) -> None:
        super().__init__(TCON=TCON, TCO=TCO)

    def __contains__(self, name: object) -> bool:
        return name in Frames or name in Frames_2_2


def _native_place(song: Any) -> str:
    return "mp4" if isinstance(song, MP4) else "asf" if isinstance(song, ASF) else "vorbis"


def _is_titled(file: BinaryIO, place: str) -> bool:
    """Whether the APEv2 tag or INFO list names the song."""
    if place == "ape":
        return any(key.lower() in (b"title", b"artist", b"album", b"genre") for _, key, _ in _ape_items(file))
    return any(name in (b"INAM", b"IART", b"IPRD", b"IGNR") for name, _ in _info_items(file))


def _ape_items(file: BinaryIO) -> list[tuple[int, bytes, bytes]]:
    span = layout.layout(file).ape
    return layout.ape_items(layout.at(file, span.start, span.stop - span.start))


def _info_items(file: BinaryIO) -> list[tuple[bytes, bytes]]:
    place = layout.info_chunk(file)
    return layout.info_items(layout.at(file, place.start, place.end - place.start)) if place else []


def _info_text(value: bytes) -> str:
    value = value.rstrip(b"\0")
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("cp1252", "replace")  # what Windows wrote before UTF-8 was usual


def _texts(file: BinaryIO, song: Any, place: str) -> Iterator[tuple[str, str]]:
    """Keys, as `_CREDITS` spells them, and texts of all that is in one place."""
    if place == "id3":
        frames = _id3(file, layout.cut_id3(file), parse_all=True)
        yield from ((key, str(text)) for key in _CREDITS["id3"] if key in frames for text in frames[key].text)
    elif place == "info":
        yield from ((name.decode("latin-1"), _info_text(value)) for name, value in _info_items(file))
    elif place == "ape":
        for _, key, value in _ape_items(file):
            yield from ((_spelled_plainly(key.decode()), text) for text in value.decode(errors="replace").split("\0"))
    elif place == "vorbis":
        yield from ((_spelled_plainly(key), text) for key, text in song.tags or ())
    elif place == "asf":
        yield from ((key, str(value)) for key, value in song.tags or ())
    else:
        yield from ((key, text) for key in _CREDITS["mp4"] for text in (song.tags or {}).get(key, ()))


def _spelled_plainly(key: str) -> str:
    """ "Album Artist", "ALBUMARTIST" and "album_artist" are one key."""
    return key.lower().replace(" ", "").replace("_", "")


def _put_native(data: bytes, song: Any, values: list[str]) -> bytes:
    """Vorbis comments, MP4 and ASF: woven into the container, so mutagen does the weaving."""
    key, file = _KEYS[_native_place(song)], BytesIO(data)
    if song.tags is None:
        song.add_tags()
    elif _native_place(song) == "vorbis" and song.tags.write(framing=False) not in _comments(file, song):
        raise TagError("", "a comment is not UTF-8 of the form key=value and would be changed")
    unreadable: dict[str, Any] = getattr(song.tags, "_failed_atoms", {})
    if isinstance(song, MP4):
        for name in ("gnre", key):  # atoms nobody can read would come back beside the new one
            unreadable.pop(name, None)
    if values:
        song.tags[key] = values
    elif key in song.tags:
        del song.tags[key]
    file.seek(0)
    song.save(file, padding=partial(_keep_padding, most=len(data)))
    new = file.getvalue()
    if isinstance(song, MP4) and len(new) != len(data):
        names = [atom.name for atom in Atoms(BytesIO(data)).atoms]
        if b"mfra" in names or b"sidx" in names[: names.index(b"moov")]:
            raise TagError("", "fragmented MP4 with a table of positions (mfra, sidx), which would be wrong afterwards")
    return new


def _put_id3(data: bytes, song: Any, values: list[str]) -> bytes:
    file = BytesIO(data)
    tag = layout.cut_id3(file)
    if tag[3:4] == b"\2" and ID3(BytesIO(tag), translate=False, load_v1=False).unknown_frames:
        raise TagError("", "ID3v2.2, which has to become 2.3, with a frame that nobody knows there")
    tags = _id3(file, tag, parse_all=False)
    version = 3 if (2, 0) <= tags.version < (2, 4) else 4
    tags.delall("TCON")
    if values:
        encoding = 3 if version == 4 else 0 if all(value.isascii() for value in values) else 1
        tags.add(TCON(encoding=encoding, text=values))
    room = BytesIO(tag + bytes(256))  # the zeros keep mutagen from taking the end of a frame for an ID3v1 block
    tags.save(room, v2_version=version, v23_sep=None, padding=partial(_keep_padding, most=len(data)))
    return layout.paste_id3(data, room.getvalue()[:-256])


def _id3(file: BinaryIO, tag: bytes, parse_all: bool) -> ID3:
    """The ID3v2 tag; without one, a new tag with what an ID3v1 block says, so that nothing hides it."""
    if not tag:
        try:
            return ID3(BytesIO(layout.id3v1(file)))
        except ID3NoHeaderError:
            return ID3()
    tags = _unparsed(tag)
    # Raw frames cannot be carried from v2.2 to v2.3, nor out of a v2.4 tag that is unsynchronised as a whole.
    if not parse_all and tags.version[1] != 2 and not (tags.version[1] == 4 and tags.f_unsynch):
        return tags
    tags = ID3(BytesIO(tag), translate=False, load_v1=False)
    if tags.version[1] == 2:
        found = dict(tags)
        tags.update_to_v23()
        for name in found.keys() - tags.keys():  # v2.2 frames whose v2.3 twin mutagen thinks too new, as TSP
            tags[name] = found[name]
        tags.unknown_frames = []
    return tags


def _unparsed(tag: bytes) -> ID3:
    """The tag with every frame but the genre as it stands."""
    return ID3(BytesIO(tag), known_frames=_GenreFrames(), translate=False, load_v1=False)


def _put_ape(data: bytes, song: Any, values: list[str]) -> bytes:
    span = layout.layout(BytesIO(data)).ape
    items = layout.ape_items(data[span])
    kept = [item for item in items if item[1].lower() != b"genre"]
    new = [(0, b"Genre", "\0".join(values).encode())] if values else []
    return data[: span.start] + layout.ape_tag(kept + new) + data[span.stop :]


def _put_info(data: bytes, song: Any, values: list[str]) -> bytes:
    file = BytesIO(data)
    kept = [item for item in _info_items(file) if item[0] != b"IGNR"]
    new = [(b"IGNR", value.encode() + b"\0") for value in values]
    return layout.with_chunk(data, layout.info_chunk(file), b"LIST", layout.info_payload(kept + new))


def _put_id3v1(data: bytes, song: Any, values: list[str]) -> bytes:
    return data[:-1] + bytes([int(values[0]) if values else 255])


def _comments(file: BinaryIO, song: Any) -> bytes:
    """The packet or block with the Vorbis comments, as stored."""
    if isinstance(song, FLAC):
        return next(layout.at(file, s.start, s.stop - s.start) for code, s in layout.flac_blocks(file) if code == 4)
    pages: list[OggPage] = []
    packets: list[bytes] = []
    file.seek(0)
    while len(packets) < 3 and not (len(packets) == 2 and pages[-1].complete):
        page = OggPage(file)
        if page.serial == song.info.serial:
            pages.append(page)
            packets = OggPage.to_packets(pages)
    return packets[1]


def _keep_padding(info: PaddingInfo, most: int) -> int:
    """Room that is there stays as it is; mutagen would shrink it where it is large, and move the audio for nothing."""
    if info.padding > most:
        raise TagError("", "room for tags beyond the end of the file")
    return info.padding if info.padding >= 0 else info.get_default_padding()


_KEYS = {"vorbis": "GENRE", "mp4": "\xa9gen", "asf": "WM/Genre"}
# Artist, album artist, album, title.
_CREDITS = {
    "id3": ("TPE1", "TPE2", "TALB", "TIT2"),
    "ape": ("artist", "albumartist", "album", "title"),
    "info": ("IART", "", "IPRD", "INAM"),
    "vorbis": ("artist", "albumartist", "album", "title"),
    "mp4": ("\xa9ART", "aART", "\xa9alb", "\xa9nam"),
    "asf": ("Author", "WM/AlbumArtist", "WM/AlbumTitle", "Title"),
}
_PUT = {
    "vorbis": _put_native,
    "mp4": _put_native,
    "asf": _put_native,
    "id3": _put_id3,
    "ape": _put_ape,
    "info": _put_info,
    "id3v1": _put_id3v1,
}
_ID3V1_NUMBERS = {name.casefold(): number for number, name in enumerate(TCON.GENRES)}


def _others(file: BinaryIO, song: Any) -> dict[str, Any]:
    """Everything but the genre, in a form that can be compared."""
    others: dict[str, Any] = {}
    tags: Any = song.tags
    if isinstance(song, _HEAD_AND_TAIL):
        others["id3v1"] = layout.id3v1(file)[:127]
        others["ape"] = sorted(item for item in _ape_items(file) if item[1].lower() != b"genre")
    if isinstance(song, _ID3):
        tag = layout.cut_id3(file)
        id3 = _id3(file, tag, parse_all=True)
        others["id3"] = {key: _plain(frame) for key, frame in id3.items() if key != "TCON" and not _is_empty(frame)}
        others["id3 unknown"] = sorted(id3.unknown_frames)
        if tag and id3.version[1] != 2:  # mutagen drops a frame that it cannot parse
            others["id3 frames"] = sorted(frame[:4] for frame in _unparsed(tag).unknown_frames)
    if layout.at(file, 0, 4) in layout.CHUNK_FILES:
        info = layout.info_chunk(file)
        others["chunks"] = [
            (c.name, sha256(layout.at(file, c.start, c.end - c.start)).digest())
            for c in layout.chunks(file)
            if c.name.lower() != b"id3 " and c != info
        ]
        others["info"] = [item for item in _info_items(file) if item[0] != b"IGNR"]
    if isinstance(song, FLAC):
        blocks = [(code, layout.at(file, at.start, at.stop - at.start)) for code, at in layout.flac_blocks(file)]
        others["blocks"] = [(code, block) for code, block in blocks if code not in (1, 4)]  # padding, comments
    if isinstance(song, (FLAC, *_OGG)):
        others["comments"] = sorted((key, value) for key, value in tags or () if key.lower() != "genre")
        if tags is not None:
            others["vendor"] = tags.vendor
    if isinstance(song, MP4):
        atoms = [*(tags or {}).items(), *getattr(tags, "_failed_atoms", {}).items()]
        others["atoms"] = {key: value for key, value in atoms if key not in ("gnre", _KEYS["mp4"])}
        others["chapters"] = [(c.start, c.title) for c in song.chapters or ()]
    if isinstance(song, ASF):
        # A second value of a name moves to the metadata library, where no language and no stream are written as 0.
        others["attributes"] = sorted(
            (k, v.TYPE, str(v.value), v.language or 0, v.stream or 0) for k, v in tags if k != _KEYS["asf"]
        )
    return others


def _is_empty(frame: Frame) -> bool:
    return isinstance(frame, TextFrame) and not str(frame)  # mutagen does not write these back


def _plain(value: Any) -> Any:
    """A frame, with the frames inside a chapter, as dicts and lists."""
    if isinstance(value, ID3Tags):
        return {key: _plain(frame) for key, frame in value.items()}
    if isinstance(value, Frame):
        return type(value).__name__, {name: _plain(item) for name, item in vars(value).items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
