"""Which kinds of songs the FFmpeg inside PyAV can decode."""

from __future__ import annotations

from av import ffmpeg_version_info
from av.codec import Codec
from av.codec.codec import UnknownCodecError

#: Suffix of `library.SONG_SUFFIXES` -> FFmpeg's decoders of what is in such files, the usual one first.
DECODERS = {
    ".mp3": ("mp3",),
    ".mp2": ("mp2",),
    ".flac": ("flac",),
    ".ogg": ("vorbis", "opus", "flac", "speex"),
    ".oga": ("vorbis", "flac", "opus", "speex"),
    ".opus": ("opus",),
    ".spx": ("speex",),
    ".m4a": ("aac", "alac"),
    ".m4b": ("aac", "alac"),
    ".mp4": ("aac", "alac"),
    ".wma": ("wmav2", "wmav1", "wmapro", "wmalossless"),
    ".wav": ("pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_u8"),
    ".aif": ("pcm_s16be", "pcm_s24be", "pcm_s32be"),
    ".aiff": ("pcm_s16be", "pcm_s24be", "pcm_s32be"),
    ".aifc": ("pcm_s16be", "pcm_s16le", "pcm_f32be"),
    ".wv": ("wavpack",),
    ".mpc": ("mpc7", "mpc8"),
    ".ape": ("ape",),
    ".tak": ("tak",),
    ".tta": ("tta",),
    ".dsf": ("dsd_lsbf_planar",),
    ".dff": ("dsd_msbf", "dst"),
}


def missing_decoders() -> dict[str, tuple[str, ...]]:
    """Suffix -> the decoders of `DECODERS` that this FFmpeg was built without, of those suffixes that lack any."""
    absent = {suffix: tuple(name for name in names if not _has(name)) for suffix, names in DECODERS.items()}
    return {suffix: names for suffix, names in absent.items() if names}


def ffmpeg_version() -> str:
    """Version of the FFmpeg inside PyAV."""
    return str(ffmpeg_version_info)


def _has(decoder: str) -> bool:
    try:
        Codec(decoder, "r")
    except UnknownCodecError:
        return False
    return True
