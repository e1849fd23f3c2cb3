"""Small real audio files for tests: seeded signals, encoded by the FFmpeg inside PyAV."""

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import av
import numpy as np

# Suffix -> (container, codec). Matroska, CAF and raw AAC are there because users have them, not because they are liked.
FORMATS = {
    ".aac": ("adts", "aac"),
    ".ac3": ("ac3", "ac3"),
    ".aiff": ("aiff", "pcm_s16be"),
    ".au": ("au", "pcm_s16be"),
    ".caf": ("caf", "pcm_s16le"),
    ".flac": ("flac", "flac"),
    ".m4a": ("ipod", "aac"),
    ".m4b": ("ipod", "aac"),
    ".mka": ("matroska", "libopus"),
    ".mp2": ("mp2", "mp2"),
    ".mp3": ("mp3", "libmp3lame"),
    ".mp4": ("mp4", "aac"),
    ".oga": ("ogg", "flac"),
    ".ogg": ("ogg", "vorbis"),
    ".opus": ("opus", "libopus"),
    ".tta": ("tta", "tta"),
    ".w64": ("w64", "pcm_s16le"),
    ".wav": ("wav", "pcm_s16le"),
    ".wma": ("asf", "wmav2"),
    ".wv": ("wv", "wavpack"),
}
LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}


def synthesize(signal: str, seconds: float, rate: int, channels: int, seed: int = 0) -> np.ndarray:
    """A seeded waveform (channels, n_samples), float32 in [-1, 1]: "music", "noise" or "silence".

    Music is a random walk of decaying chords over bursts of noise: no two moments of it are alike, so that
    cross-correlation finds any shift. Its channels differ in level, not in time.
    """
    rng = np.random.default_rng(seed)
    n_samples = round(seconds * rate)
    if signal == "silence":
        return np.zeros((channels, n_samples), np.float32)
    noise = rng.standard_normal(n_samples).astype(np.float32)
    if signal == "noise":
        mono = 0.1 * noise
    elif signal == "music":
        mono = np.zeros(n_samples, np.float32)
        pitch = 45
        for onset in np.arange(0, seconds, 0.23):
            pitch = int(np.clip(pitch + rng.integers(-5, 6), 33, 69))
            first = round(onset * rate)
            time = np.arange(min(rate // 2, n_samples - first), dtype=np.float32) / rate
            tone = sum(
                np.sin(2 * np.pi * 440 * 2 ** ((pitch + step - 69) / 12) * k * time, dtype=np.float32) / k
                for step in (0, 4, 7)
                for k in (1, 2, 3)
            )
            mono[first : first + len(time)] += 0.08 * tone * np.exp(-6 * time)
            mono[first : first + len(time)] += (
                0.1 * noise[first : first + len(time)] * rng.random() * np.exp(-40 * time)
            )
    else:
        raise ValueError(f"no such signal: {signal}")
    return np.clip(mono * np.linspace(1, 0.5, channels, dtype=np.float32)[:, None], -1, 1)


def make_song(
    path: str | Path,
    seconds: float = 30.0,
    rate: int = 44_100,
    channels: int = 2,
    signal: str | np.ndarray = "music",
    seed: int = 0,
    codec: str | None = None,
    bit_rate: int | None = None,
    metadata: Mapping[str, str] | None = None,
    cover: bytes | None = None,
    options: Mapping[str, str] | None = None,
    container_options: Mapping[str, str] | None = None,
) -> Path:
    """Encode a song; the suffix picks container and codec, `signal` is a name or samples (channels, n_samples).

    `cover` is the bytes of a PNG, for .mp3, .flac, .mp4. `options` go to the codec, `container_options` to the muxer.
    `.dsf` and `.dff` have no encoder in FFmpeg: those two are written by hand.
    """
    path = Path(path)
    samples = synthesize(signal, seconds, rate, channels, seed) if isinstance(signal, str) else np.float32(signal)
    if path.suffix in (".dsf", ".dff"):
        path.write_bytes({".dsf": _dsf, ".dff": _dff}[path.suffix](_delta_sigma(samples), rate * 64))
        return path
    container_name, usual_codec = FORMATS[path.suffix]
    codec_options = {"strict": "-2", **(options or {})}  # the Vorbis encoder calls itself experimental
    # A file object, not a name: FFmpeg would read `%`, `:` and the like in a name as instructions.
    with path.open("wb") as file:
        muxer_options = dict(container_options or {})
        container = av.open(file, "w", format=container_name, container_options=muxer_options)
        with container:
            container.metadata.update(metadata or {})
            codec = codec or usual_codec
            codec_rate = 48_000 if codec == "libopus" else rate  # Opus knows no 44.1 kHz
            layout = LAYOUTS[len(samples)]
            stream: Any = container.add_stream(codec, rate=codec_rate, layout=layout, options=codec_options)
            if codec in ("tta", "wavpack"):  # their first choice is 8 bits
                stream.format = {"tta": "s16", "wavpack": "s16p"}[codec]
            if codec == "wmav2":
                stream.bit_rate = 128_000
            if bit_rate is not None:
                stream.bit_rate = bit_rate
            if cover is not None:
                _mux_cover(container, cover)
            for first in range(0, samples.shape[1], rate):
                block = samples[:, first : first + rate].T.reshape(1, -1)  # interleaved: PyAV fills 7 planes at most
                frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), "flt", layout)
                frame.sample_rate, frame.pts = rate, first
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return path


def _mux_cover(container: Any, cover: bytes) -> None:
    picture = container.add_stream("png")
    picture.width, picture.height, picture.pix_fmt = 8, 8, "rgb24"
    picture.disposition = av.stream.Disposition.attached_pic
    packet = av.Packet(cover)
    packet.stream, packet.pts, packet.dts = picture, 0, 0
    container.start_encoding()
    container.mux(packet)


def _delta_sigma(samples: np.ndarray) -> np.ndarray:
    """One-bit samples (channels, 64 × n_samples) in {0, 1}, by a first-order modulator: what a DSD file holds."""
    level = np.cumsum((np.repeat(samples, 64, axis=1).astype(np.float64) + 1) / 2, axis=1)
    return np.diff(np.floor(level), axis=1, prepend=0).astype(np.uint8)


def _dsf(bits: np.ndarray, rate: int) -> bytes:
    """Sony's DSF (specification 1.01): blocks of 4096 bytes per channel in turn, least significant bit first."""
    n_channels, n_bits = bits.shape
    rows = np.packbits(bits, axis=1, bitorder="little")
    rows = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 4096)), constant_values=0x69)
    data = rows.reshape(n_channels, -1, 4096).transpose(1, 0, 2).tobytes()
    layout = struct.pack("<4sQIIIIIIQII", b"fmt ", 52, 1, 0, n_channels, n_channels, rate, 1, n_bits, 4096, 0)
    body = layout + struct.pack("<4sQ", b"data", 12 + len(data)) + data
    return struct.pack("<4sQQQ", b"DSD ", 28, 28 + len(body), 0) + body


def _dff(bits: np.ndarray, rate: int) -> bytes:
    """Philips' DSDIFF 1.5: channels in turn byte by byte, most significant bit first."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">4sQ", name, len(body)) + body + b"\0" * (len(body) % 2)

    n_channels = len(bits)
    names = b"".join([b"SLFT", b"SRGT"][:n_channels]) if n_channels == 2 else b"SLFT"
    prop = b"SND " + chunk(b"FS  ", struct.pack(">I", rate))
    prop += chunk(b"CHNL", struct.pack(">H", n_channels) + names)
    prop += chunk(b"CMPR", b"DSD \x0enot compressed\0")
    data = np.packbits(bits, axis=1).T.tobytes()
    body = b"DSD " + chunk(b"FVER", b"\x01\x05\0\0") + chunk(b"PROP", prop) + chunk(b"DSD ", data)
    return struct.pack(">4sQ", b"FRM8", len(body)) + body
