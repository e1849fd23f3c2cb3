"""Small songs in every container with the tags people have: FILES maps a file name to the recipe of its bytes."""

import base64
import struct
import tempfile
import zlib
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache
from hashlib import md5
from io import BytesIO
from pathlib import Path

import av
from mutagen import apev2, asf, flac, id3, mp4
from mutagen.oggflac import OggFLAC
from mutagen.oggopus import OggOpus
from mutagen.oggspeex import OggSpeex
from mutagen.oggvorbis import OggVorbis

from tests.support.songs import make_song, synthesize

DATA = Path(__file__).parents[1] / "data"
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAEklEQVR4nGP4z8CAFWEXHbQSACj/P8Fu7N9hAAAAAElFTkSuQmCC"
)
LARGE_COVER = PNG + bytes(range(256)) * 600  # 150 kB: more than one Ogg page, more than any padding


def build(name: str) -> bytes:
    """The bytes of the song called that in FILES."""
    return FILES[name]()


@cache
def song(suffix: str, codec: str | None = None, container: tuple[tuple[str, str], ...] = ()) -> bytes:
    """A second of music without tags (or with the encoder's name, where FFmpeg insists)."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"song{suffix}"
        muxer = {"id3v2_version": "0", **dict(container)} if suffix == ".mp3" else dict(container)
        make_song(path, seconds=1, codec=codec, container_options=muxer)
        return path.read_bytes().partition(b"APETAGEX")[0]  # FFmpeg signs WavPack files


def decoded(data: bytes) -> tuple[int, str]:
    """Number of samples and digest of everything FFmpeg decodes."""
    digest, n_samples = md5(), 0
    with av.open(BytesIO(data), metadata_errors="replace") as container:
        for packet in container.demux(audio=0):
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:  # what FFmpeg 7 makes of bytes behind the audio
                digest.update(b"undecodable")
                continue
            for frame in frames:
                digest.update(frame.to_ndarray().tobytes())
                n_samples += frame.samples
    return n_samples, digest.hexdigest()


# --- ID3


def id3v2(version: int, frames: bytes, padding: int = 0, flags: int = 0, extended: bytes = b"") -> bytes:
    """An ID3v2 tag around ready-made frames; flag 0x80 is unsynchronisation, 0x40 an extended header, 0x10 a footer."""
    body = extended + frames + bytes(padding)
    if flags & 0x80 and version < 4:
        body = body.replace(b"\xff", b"\xff\0")
    return b"ID3" + bytes([version, 0, flags]) + synchsafe(len(body)) + body


def synchsafe(number: int) -> bytes:
    return bytes(number >> shift & 0x7F for shift in (21, 14, 7, 0))


def frame(name: bytes, body: bytes, version: int = 3, flags: int = 0) -> bytes:
    """One frame with a plain size for v2.3 and a synchsafe one for v2.4."""
    size = synchsafe(len(body)) if version == 4 else struct.pack(">I", len(body))
    return name + size + struct.pack(">H", flags) + body


def frame22(name: bytes, body: bytes) -> bytes:
    return name + struct.pack(">I", len(body))[1:] + body


def text(name: bytes, value: str, version: int = 3) -> bytes:
    return frame(name, b"\0" + value.encode("latin-1"), version)


def rich_frames(version: int) -> bytes:
    """The frames DJ software, rippers and players leave behind, without a genre."""
    tags = id3.ID3()
    picture = id3.APIC(encoding=0, mime="image/png", type=3, desc="front", data=PNG)
    sub = [id3.TIT2(encoding=1, text="Kapitel ÄÖÜ")]
    for each in (
        id3.TIT2(encoding=1, text="Übermorgen 日本"),
        id3.TPE1(encoding=0, text="Someone"),
        id3.TALB(encoding=0, text="LP"),
        id3.TRCK(encoding=0, text="3/12"),
        id3.TBPM(encoding=0, text="128"),
        id3.TKEY(encoding=0, text="Am"),
        id3.TXXX(encoding=0, desc="replaygain_track_gain", text="-7.03 dB"),
        id3.TXXX(encoding=0, desc="EMPTY", text=""),
        id3.COMM(encoding=1, lang="deu", desc="", text="schön"),
        id3.COMM(encoding=0, lang="eng", desc="x", text="y"),
        id3.USLT(encoding=0, lang="eng", desc="", text="la la"),
        id3.PRIV(owner="www.amazon.com", data=bytes(range(256))),
        id3.GEOB(
            encoding=0,
            mime="application/octet-stream",
            filename="",
            desc="Serato Markers2",
            data=b"\xff\xfe\0\xe0" * 40,
        ),
        id3.UFID(owner="http://musicbrainz.org", data=b"0123"),
        id3.POPM(email="a@b.c", rating=196, count=7),
        id3.PCNT(count=9),
        id3.WXXX(encoding=0, desc="", url="http://example.org"),
        id3.WOAF(url="http://example.org"),
        id3.CHAP(element_id="c1", start_time=0, end_time=500, sub_frames=sub),
        id3.MCDI(data=b"toc" * 9),
        id3.CTOC(element_id="toc", flags=3, child_element_ids=["c1"], sub_frames=sub),
        picture,
        id3.TSOP(encoding=0, text="one, some"),
        id3.SYLT(encoding=0, lang="eng", format=2, type=1, desc="", text=[("la", 9)]),
    ):
        tags.add(each)
    if version == 3:
        for each in (
            id3.TYER(encoding=0, text="1999"),
            id3.TDAT(encoding=0, text="3112"),
            id3.TORY(encoding=0, text="1977"),
            id3.IPLS(encoding=0, people=[["producer", "x"]]),
            id3.RVAD(adjustments=[1, 1]),
            id3.TSIZ(encoding=0, text="9"),
            id3.TSOA(encoding=0, text="sort"),
        ):
            tags.add(each)
    else:
        for each in (
            id3.TDRC(encoding=0, text="1999-12-31"),
            id3.TDOR(encoding=0, text="1977"),
            id3.TMOO(encoding=3, text="sad"),
            id3.TIPL(encoding=0, people=[["producer", "x"]]),
            id3.RVA2(desc="track", channel=1, gain=-3, peak=0.5),
            id3.TSST(encoding=3, text="side a"),
        ):
            tags.add(each)
    file = BytesIO()
    tags.save(file, v2_version=version, v23_sep=None, padding=lambda info: 0)
    unknown = frame(b"XYZW", b"nobody knows", version) + frame(b"YTCP", b"\1", version)
    encrypted = frame(b"TENC", b"\x80secret", version, 0x0040 if version == 3 else 0x0004)
    old = frame(b"NCON", b"\1\2") + text(b"XSOP", "sort") + frame(b"EQUA", b"\x10\0\1\0\1") if version == 3 else b""
    unusual = (
        text(b"TPUB", "ends in NUL\0", version) + text(b"TCOM", "first", version) + text(b"TCOM", "second", version)
    )
    return unknown + encrypted + old + file.getvalue()[10:] + unusual


def rich22() -> bytes:
    cover = b"\0PNG\3front\0" + PNG
    frames = [
        (b"TT2", b"\0Title"),
        (b"TP1", b"\1\xff\xfe" + "Çelik".encode("utf-16-le")),
        (b"TYE", b"\x001999"),
        (b"TT3", b"\0\0"),
    ]
    frames += [(b"TSP", b"\0sort"), (b"COM", b"\0eng\0words"), (b"PIC", cover), (b"ULT", b"\0eng\0la")]
    return b"".join(frame22(name, body) for name, body in frames)


def id3v1(genre: int = 0, comment: bytes = b"a comment of 28 characters..") -> bytes:
    fields = [b"Old title".ljust(30, b"\0"), b"Old artist".ljust(30, b"\0"), b"Old album".ljust(30, b" "), b"1999"]
    return b"TAG" + b"".join(fields) + comment.ljust(28, b"\0") + b"\0\7" + bytes([genre])


def lyrics3(version: int = 2) -> bytes:
    body = b"LYRICSBEGIN" + (b"IND0000200LYR00011[00:01]la la" if version == 2 else b"[00:01]la la\r\n")
    return body + (b"%06dLYRICS200" % len(body) if version == 2 else b"LYRICSEND")


# --- APEv2


def ape(**items: str | Sequence[str] | bytes) -> bytes:
    tags = apev2.APEv2()
    for key, value in items.items():
        tags[key.replace("_", " ") if key.islower() else key] = list(value) if isinstance(value, list) else value
    file = BytesIO()
    tags.save(file)
    return file.getvalue()


GAIN = {"MP3GAIN_MINMAX": "100,200", "REPLAYGAIN_TRACK_GAIN": "-3 dB"}
RICH_APE = {"Title": "Üß", "Artist": ["One", "Two"], "Album": "LP", "Cover Art (Front)": b"cover.png\0" + PNG, **GAIN}


def at_ape(suffix: str, genre: Sequence[str] = (), tail: bytes = b"", **extra: str | Sequence[str] | bytes) -> bytes:
    return song(suffix) + ape(**RICH_APE, **({"Genre": list(genre)} if genre else {}), **extra) + tail


def monkeys_audio() -> bytes:
    """A header as Monkey's Audio 3.99 writes it and noise for audio: there is no free encoder."""
    header = struct.pack("<4sHHIIIIIII16s", b"MAC ", 3990, 0, 52, 24, 8, 44, 0, 900, 0, bytes(16))
    return header + struct.pack("<HHIIIHHI", 2000, 0, 73728, 44100, 1, 16, 2, 44100) + bytes(range(256)) * 4


def tak() -> bytes:
    """The header of a TAK file and noise for audio: there is no free encoder."""
    fields = [(2, 6), (1, 4), (1, 4), (44100, 35), (0, 3), (44100 - 6000, 18), (16 - 8, 5), (2 - 1, 4), (0, 1)]
    bits, at = 0, 0
    for value, width in fields:
        bits, at = bits | value << at, at + width
    info = bits.to_bytes(10, "little") + b"crc"
    return b"tBaK" + b"\1" + len(info).to_bytes(3, "little") + info + b"\0\0\0\0" + bytes(range(256)) * 4


# --- Vorbis comments


def commented(data: bytes, kind: type, pictures: Sequence[bytes] = (), **comments: str | list[str]) -> bytes:
    """The FLAC or Ogg song with these comments, `_genre` spelled as written (both `Genre` and `GENRE` are possible)."""
    file = BytesIO(data)
    tags = kind(file)
    if tags.tags is None:
        tags.add_tags()
    tags.tags.extend(
        (key.lstrip("_"), v) for key, vs in comments.items() for v in ([vs] if isinstance(vs, str) else vs)
    )
    for picture in pictures:
        block = flac.Picture()
        block.data, block.mime, block.type = picture, "image/png", 3
        if kind is flac.FLAC:
            tags.add_picture(block)
        else:
            tags["METADATA_BLOCK_PICTURE"] = base64.b64encode(block.write()).decode()
    file.seek(0)
    tags.save(file, padding=lambda info: 0)
    return file.getvalue()


RICH_VORBIS = {
    "TITLE": "Ü 日本",
    "ARTIST": ["One", "Two"],
    "REPLAYGAIN_TRACK_GAIN": "-7 dB",
    "CHAPTER001": "00:00:00.000",
}


def another_ogg() -> bytes:
    """A second song, with a serial number of its own: radio recordings hold one after the other."""
    return song(".ogg", container=(("page_duration", "200000"),))


def flac_song(padding: int = 0, blocks: Sequence[tuple[int, bytes]] = (), **options: object) -> bytes:
    """A FLAC file with exactly that much padding and these further metadata blocks, (type, payload)."""
    data = commented(song(".flac"), flac.FLAC, **{**RICH_VORBIS, **options})  # type: ignore[arg-type]
    parts, at, last = [], 4, False
    while not last:
        last, code, size = data[at] >= 0x80, data[at] & 0x7F, int.from_bytes(data[at + 1 : at + 4], "big")
        if code != 1:
            parts.append((code, data[at + 4 : at + 4 + size]))
        at += 4 + size
    parts += [*blocks, *([(1, bytes(padding))] if padding else [])]
    ends = [0] * (len(parts) - 1) + [0x80]
    return b"fLaC" + b"".join(
        bytes([code | end]) + len(body).to_bytes(3, "big") + body for (code, body), end in zip(parts, ends, strict=True)
    ) + data[at:]  # fmt: skip


# --- MP4, ASF


def tagged_mp4(data: bytes, **atoms: object) -> bytes:
    file = BytesIO(data)
    tags = mp4.MP4(file)
    if tags.tags is None:
        tags.add_tags()
    cover = mp4.MP4Cover(PNG, mp4.MP4Cover.FORMAT_PNG)
    itunes = {"----:com.apple.iTunes:iTunSMPB": b" 00000000 00000840", "----:com.apple.iTunes:LABEL": [b"a", b"b"]}
    tags.tags.update({"\xa9nam": "Ü 日本", "trkn": [(3, 12)], "cpil": True, "tmpo": [128], "covr": [cover], **itunes})
    tags.tags.update(atoms)
    file.seek(0)
    tags.save(file)
    return file.getvalue()


def numeric_genre(data: bytes, number: bytes) -> bytes:
    """The MP4 song with its ©gen atom (of two letters) turned into a `gnre` atom."""
    old = atom(b"\xa9gen", atom(b"data", struct.pack(">II", 1, 0) + b"Ab"))
    new = atom(b"gnre", atom(b"data", struct.pack(">II", 0, 0) + number))
    assert old in data
    return data.replace(old, new)


def atom(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body) + 8) + name + body


def fragmented(flags: str = "") -> bytes:
    """An MP4 song in five pieces; without flags with positions from the start of the file, and a table of them."""
    return song(".m4a", container=(("movflags", "frag_keyframe+empty_moov" + flags), ("frag_duration", "200000")))


def with_chapters() -> bytes:
    """An audiobook: its chapters are a second track, whose positions move with those of the audio."""
    chapters = [(0, 500, "One"), (500, 1000, "Two")]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "book.m4b"
        with av.open(path, "w", format="ipod", container_options={"movflags": "faststart"}) as container:
            stream = container.add_stream("aac", rate=44_100, layout="mono")
            container.set_chapters([
                {"id": i, "start": start, "end": end, "time_base": Fraction(1, 1000), "metadata": {"title": title}}
                for i, (start, end, title) in enumerate(chapters)
            ])  # fmt: skip
            frame = av.AudioFrame.from_ndarray(synthesize("music", 1, 44_100, 1), "fltp", "mono")
            frame.sample_rate = 44_100
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return tagged_mp4(path.read_bytes())


def made_by_ffmpeg_wma() -> bytes:
    """FFmpeg writes title and artist twice, the artist both times under one name."""
    with tempfile.TemporaryDirectory() as folder:
        tags = {"title": "A Title", "artist": "Someone", "album": "LP", "date": "1999"}
        return make_song(Path(folder) / "a.wma", seconds=1, metadata=tags).read_bytes()


def tagged_asf(**attributes: object) -> bytes:
    file = BytesIO(song(".wma"))
    tags = asf.ASF(file)
    tags.tags.update({"Title": "Ü 日本", "WM/Year": "1999", "WM/TrackNumber": 3, "WM/Picture": b"\3" + bytes(70_000)})
    tags.tags.update(
        {"WM/MediaClassPrimaryID": asf.ASFValue(bytes(16), asf.GUID), "Artist": ["One", "Two"], **attributes}
    )
    file.seek(0)
    tags.save(file)
    return file.getvalue()


# --- WAV, AIFF


def chunk(name: bytes, body: bytes, order: str = "<") -> bytes:
    return name + struct.pack(f"{order}I", len(body)) + body + bytes(len(body) % 2)


def info(**items: bytes) -> bytes:
    return chunk(b"LIST", b"INFO" + b"".join(chunk(name.encode(), value + b"\0") for name, value in items.items()))


def wav(before: bytes = b"", after: bytes = b"", codec: str = "pcm_s16le", odd: bool = False) -> bytes:
    """A WAV song with only fmt and data, chunks around data, and perhaps an odd number of bytes of it."""
    source = song(".wav", codec)
    at = source.index(b"data")
    audio = source[at + 8 :][: 20_001 if odd else 20_000]
    if odd:  # 8-bit mono is the only PCM with odd sizes
        fmt = chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, 44100, 44100, 1, 8))
    else:
        fmt = source[12 : source.index(b"LIST") if b"LIST" in source[:at] else at]
    body = b"WAVE" + fmt + before + chunk(b"data", audio) + after
    return b"RIFF" + struct.pack("<I", len(body)) + body


INFO = {"INAM": b"Title", "IART": b"Artist", "ISFT": b"Lavf", "ICMT": b"odd"}


def aiff(after: bytes = b"") -> bytes:
    body = song(".aiff")[8:]
    body += after
    return b"FORM" + struct.pack(">I", len(body)) + body


def dff(tag: bytes) -> bytes:
    body = song(".dff")[12:] + b"ID3 " + struct.pack(">Q", len(tag)) + tag + bytes(len(tag) % 2)
    return b"FRM8" + struct.pack(">Q", len(body)) + body


def dsf(tag: bytes) -> bytes:
    data = song(".dsf")
    return data[:12] + struct.pack("<QQ", len(data) + len(tag), len(data)) + data[28:] + tag


def tag23(genre: str = "Old", padding: int = 0) -> bytes:
    return id3v2(3, text(b"TCON", genre) + rich_frames(3), padding)


def tag24(genre: str = "Old", padding: int = 0) -> bytes:
    return id3v2(4, text(b"TCON", genre, 4) + rich_frames(4), padding)


def unsynchronised24() -> bytes:
    """v2.4 with unsynchronisation announced for the whole tag only, as old iTunes and others write it."""
    bodies = [(b"TIT2", b"\1\xff\xfeA\0"), (b"TCON", b"\0Old"), (b"PRIV", b"x\0\xff\xe0\xff\0\xff")]
    frames = b"".join(frame(name, body.replace(b"\xff", b"\xff\0"), 4) for name, body in bodies)
    return id3v2(4, frames, 20, 0x80)


def itunes24(genre: str = "") -> bytes:
    """v2.4 with plain frame sizes, an iTunes bug: 300 is written 0x012c, not 0x022c."""
    frames = frame(b"PRIV", b"x\0" + bytes(298)) + text(b"TIT2", "Title") + text(b"TPE1", "A")
    return id3v2(4, frames + (text(b"TCON", genre) if genre else b""))


def packed(name: bytes, value: str, version: int) -> bytes:
    """A compressed text frame, with its length before that as both versions want it."""
    body, size = b"\0" + value.encode("latin-1"), len(value) + 1
    length = synchsafe(size) if version == 4 else struct.pack(">I", size)
    return frame(name, length + zlib.compress(body), version, 0x0009 if version == 4 else 0x0080)


def without_comments(data: bytes) -> bytes:
    """The FLAC song with its stream info and nothing else in front of the audio."""
    audio = next(at for at in range(42, len(data)) if data[at : at + 2] == b"\xff\xf8")
    return b"fLaC\x80" + data[5:42] + data[audio:]


def damaged(data: bytes, start: int, new: bytes) -> bytes:
    """The song with other bytes from `start` on (from the end, where it is negative)."""
    start %= len(data)
    return data[:start] + new + data[start + len(new) :]


EXTENDED = b"\0\0\0\6\0\0" + struct.pack(">I", 9)  # header of v2.3 that announces the padding
EXTENDED_24 = synchsafe(12) + b"\1\x20" + b"\5" + bytes(5)  # of v2.4, with a checksum

FILES: dict[str, Callable[[], bytes]] = {
    "none.mp3": lambda: song(".mp3"),
    "v1.mp3": lambda: song(".mp3") + id3v1(17),
    "v22.mp3": lambda: id3v2(2, rich22() + frame22(b"TCO", b"\x00(17)"), 300) + song(".mp3"),
    "v22 itunes.mp3": lambda: id3v2(2, frame22(b"TCP", b"\x001")) + song(".mp3") + id3v1(0),
    "v23 full.mp3": lambda: tag23() + song(".mp3"),
    "v23 padded.mp3": lambda: tag23(padding=2000) + song(".mp3"),
    "v23 no genre.mp3": lambda: id3v2(3, rich_frames(3)) + song(".mp3"),
    "v23 unsynchronised.mp3": lambda: id3v2(3, text(b"TCON", "Old") + rich_frames(3), 9, 0x80) + song(".mp3"),
    "v23 extended header.mp3": lambda: id3v2(3, text(b"TCON", "Old"), 9, 0x40, EXTENDED) + song(".mp3"),
    "v23 compressed.mp3": lambda: id3v2(3, packed(b"TIT2", "x", 3) + packed(b"TCON", "Old", 3)) + song(".mp3"),
    "v24 compressed.mp3": lambda: id3v2(4, packed(b"TIT2", "x", 4) + packed(b"TCON", "Old", 4)) + song(".mp3"),
    "v24 extended header.mp3": lambda: id3v2(4, text(b"TCON", "Old", 4), 9, 0x40, EXTENDED_24) + song(".mp3"),
    # Damaged, and still songs: what is damaged stays so.
    "v23 cut in the audio.mp3": lambda: tag23() + song(".mp3")[:-3001],
    "v23 and garbage behind.mp3": lambda: tag23() + song(".mp3") + b"garbage" * 50,
    "v23 that says too little.mp3": lambda: damaged(tag23() + song(".mp3"), 6, b"\0\0\1\0"),
    "junk in front.mp3": lambda: b"junk" * 50 + song(".mp3"),
    "v23 two TCON.mp3": lambda: id3v2(3, text(b"TCON", "Rock") + text(b"TCON", "Pop")) + song(".mp3"),
    "v23 with v1.mp3": lambda: tag23() + song(".mp3") + id3v1(12),
    "v24 full.mp3": lambda: tag24() + song(".mp3"),
    "v24 much padding.mp3": lambda: tag24(padding=200_000) + song(".mp3"),
    "v24 unsynchronised.mp3": lambda: unsynchronised24() + song(".mp3"),
    "v24 itunes sizes.mp3": lambda: itunes24("Old") + song(".mp3"),
    "v24 itunes sizes no genre.mp3": lambda: itunes24() + song(".mp3"),
    "v24 with v1.mp3": lambda: tag24() + song(".mp3") + id3v1(0),
    "v24 no genre with v1.mp3": lambda: id3v2(4, rich_frames(4)) + song(".mp3") + id3v1(0),
    "stacked.mp3": lambda: tag24() + id3v2(3, text(b"TIT2", "second")) + song(".mp3"),
    "lyrics3.mp3": lambda: tag23() + song(".mp3") + lyrics3() + id3v1(12),
    "lyrics3v1.mp3": lambda: tag23() + song(".mp3") + lyrics3(1) + id3v1(12),
    "large cover.mp3": lambda: id3v2(3, frame(b"APIC", b"\0image/png\0\3\0" + LARGE_COVER)) + song(".mp3"),
    "layer2.mp2": lambda: tag23() + song(".mp2"),
    "ape behind no xing.mp3": lambda: song(".mp3", container=(("write_xing", "0"),)) + ape(**RICH_APE),
    "ape only.mp3": lambda: at_ape(".mp3", ["Old"]),
    "ape only with v1.mp3": lambda: at_ape(".mp3", tail=id3v1(12)),
    "ape in front.mp3": lambda: ape(**RICH_APE, Genre="Old") + song(".mp3"),
    "mp3gain.mp3": lambda: song(".mp3") + ape(**GAIN),
    "mp3gain with v1.mp3": lambda: song(".mp3") + ape(**GAIN) + id3v1(12),
    "ape and v24 and v1.mp3": lambda: tag24() + at_ape(".mp3", ["Old"], id3v1(12)),
    "ape and lyrics3 and v1.mp3": lambda: tag23() + at_ape(".mp3", ["Old"], lyrics3() + id3v1(12)),
    "gain and v24.mp3": lambda: tag24() + song(".mp3") + ape(**GAIN),
    "plain.flac": lambda: song(".flac"),
    "full.flac": lambda: flac_song(GENRE="Old"),
    "bare.flac": lambda: without_comments(song(".flac")),
    "cut.flac": lambda: flac_song(GENRE="Old")[:-5000],
    "a frame flipped.flac": lambda: damaged(flac_song(GENRE="Old"), -5000, b"\0\1\2"),
    "no checksum.flac": lambda: damaged(flac_song(GENRE="Old"), 26, bytes(16)),
    "padded.flac": lambda: flac_song(8192, GENRE="Old"),
    "cover.flac": lambda: flac_song(0, pictures=[LARGE_COVER]),
    "blocks.flac": lambda: flac_song(40, [(2, b"aPpLdata"), (3, bytes(8) + b"\0\0\0\0\0\0\0\0\x10\0"), (100, b"?")]),
    "id3 in front.flac": lambda: tag23() + flac_song(20),
    "v1 behind.flac": lambda: flac_song(20) + id3v1(12),
    "two spellings.flac": lambda: flac_song(_Genre="Rock", GENRE="Pop", genre="Jazz"),
    "plain.ogg": lambda: song(".ogg"),
    "full.ogg": lambda: commented(song(".ogg"), OggVorbis, **RICH_VORBIS, Genre="Old"),
    "cover.ogg": lambda: commented(song(".ogg"), OggVorbis, [LARGE_COVER], **RICH_VORBIS),
    "chained.ogg": lambda: commented(song(".ogg"), OggVorbis, **RICH_VORBIS) + another_ogg(),
    "r128.opus": lambda: commented(song(".opus"), OggOpus, R128_TRACK_GAIN="-512", **RICH_VORBIS),
    "flac.oga": lambda: commented(song(".oga"), OggFLAC, **RICH_VORBIS),
    "speech.spx": lambda: commented((DATA / "audio_tone.spx").read_bytes(), OggSpeex, **RICH_VORBIS),
    "plain.m4a": lambda: song(".m4a"),
    "full.m4a": lambda: tagged_mp4(song(".m4a"), **{"\xa9gen": "Old"}),
    "faststart.m4a": lambda: tagged_mp4(song(".m4a", container=(("movflags", "faststart"),)), **{"\xa9gen": "Old"}),
    "fragmented.m4a": lambda: fragmented("+default_base_moof+skip_trailer"),
    "lossless.m4a": lambda: tagged_mp4(song(".m4a", "alac")),
    "gnre.m4a": lambda: numeric_genre(tagged_mp4(song(".m4a"), **{"\xa9gen": "Ab"}), b"\0\x12"),
    "bad gnre.m4a": lambda: numeric_genre(tagged_mp4(song(".m4a"), **{"\xa9gen": "Ab"}), b"\x7f\xff"),
    "book.m4b": lambda: tagged_mp4(song(".m4b"), **{"\xa9gen": ["Rock", "Pop"]}),
    "chapters.m4b": with_chapters,
    "cut.m4a": lambda: tagged_mp4(song(".m4a", container=(("movflags", "faststart"),)))[:-3000],
    "song.mp4": lambda: tagged_mp4(song(".mp4")),
    "plain.wma": lambda: song(".wma"),
    "full.wma": lambda: tagged_asf(**{"WM/Genre": "Old"}),
    "of FFmpeg.wma": lambda: made_by_ffmpeg_wma(),
    "several.wma": lambda: tagged_asf(**{"WM/Genre": ["Old", "Older"]}),
    "plain.wav": lambda: wav(),
    "float.wav": lambda: wav(codec="pcm_f32le"),
    "24 bit.wav": lambda: wav(codec="pcm_s24le"),
    "info before.wav": lambda: wav(info(**INFO, IGNR=b"Old")),
    "info after.wav": lambda: wav(after=info(**INFO)),
    "only the encoder.wav": lambda: wav(after=info(ISFT=b"Lavf")),
    "bext.wav": lambda: wav(chunk(b"bext", b"desc".ljust(603, b"\0")), chunk(b"cue ", bytes(28))),
    "id3.wav": lambda: wav(after=chunk(b"id3 ", tag23())),
    "ID3.wav": lambda: wav(chunk(b"ID3 ", tag24())),
    "id3 and info.wav": lambda: wav(info(**INFO, IGNR=b"Old"), chunk(b"id3 ", tag24())),
    "odd.wav": lambda: wav(after=chunk(b"id3 ", tag24()), odd=True),
    "info with room.wav": lambda: wav(chunk(b"LIST", info(**INFO)[8:] + bytes(40)), info()),
    "garbage behind.wav": lambda: wav(after=info(ISFT=b"Lavf")) + b"garbage",
    "plain.aiff": lambda: song(".aiff"),
    "full.aif": lambda: aiff(chunk(b"ID3 ", tag23(), ">")),
    "plain.dsf": lambda: song(".dsf"),
    "full.dsf": lambda: dsf(tag23()),
    "plain.dff": lambda: song(".dff"),
    "full.dff": lambda: dff(tag24()),
    "plain.tta": lambda: song(".tta"),
    "full.tta": lambda: tag23() + song(".tta") + id3v1(12),
    "plain.wv": lambda: song(".wv"),
    "full.wv": lambda: at_ape(".wv", ["Old"]),
    "v1 behind.wv": lambda: at_ape(".wv", ["Old"], id3v1(12)),
    "plain.mpc": lambda: (DATA / "audio_tone.mpc").read_bytes(),
    "full.mpc": lambda: (DATA / "audio_tone.mpc").read_bytes() + ape(**RICH_APE, genre="Old"),
    "plain.ape": monkeys_audio,
    "full.ape": lambda: monkeys_audio() + ape(**RICH_APE, Genre=["Old", "Older"]) + id3v1(12),
    "full.tak": lambda: tak() + ape(**RICH_APE),
}  # fmt: skip

# Where FFmpeg cannot tell: headers made by hand with noise behind; tail tags, which it decodes as well; and a file that
# it knows by name only.
UNDECODED = {
    name
    for name in FILES
    if name.endswith((".ape", ".tak"))
    or name.startswith(("ape ", "mp3gain", "gain", "lyrics3", "v1 behind.wv", "junk in front"))
}
