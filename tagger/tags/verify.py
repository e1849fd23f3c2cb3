"""Proof that new bytes of a song differ from the old ones in the genre and nothing else."""

from collections.abc import Sequence
from hashlib import sha256
from io import BytesIO

import av

from tagger.tags import genre as tags
from tagger.tags import layout
from tagger.tags.pieces import pieces

# Files that are head tags | audio | tail tags: the bytes between can be compared as they are. In the others the
# container is woven anew around the audio, so FFmpeg, which had no part in the writing, takes the packets out again.
# (FFmpeg counts a tail tag of Monkey's Audio, and Lyrics3 behind an MP3, as audio: no packets from those.)
HEAD_AND_TAIL = frozenset({".mp3", ".mp2", ".tta", ".flac", ".wv", ".mpc", ".ape", ".ofr", ".tak"})


def verify(old: bytes, new: bytes, suffix: str) -> None:
    """Return if both are the same song with the same tags but for the genre; raises TagError (with no path) if not."""
    before, after = tags.inspect(old, suffix), tags.inspect(new, suffix)
    for name, tag in before.others.items():
        if after.others.get(name) != tag:
            raise tags.TagError("", f"cannot be written without changing other tags ({name})")
    before_pieces, after_pieces = pieces(old), pieces(new)
    for name, piece in before_pieces.items():
        if after_pieces.get(name) != piece:
            raise tags.TagError("", f"cannot be written without changing other parts ({name})")
    if after.stream != before.stream:
        raise tags.TagError("", "the stream would read differently")
    if coded_audio_digest(new, suffix) != coded_audio_digest(old, suffix):
        raise tags.TagError("", "the audio would change")


def verify_genres(new: bytes, suffix: str, genres: Sequence[str], id3v23_multi: tags.Multi) -> None:
    """Return if the song reads as having these genres: writing them again changes nothing. TagError if not."""
    if tags.retag(new, suffix, genres, id3v23_multi) is not new:
        raise tags.TagError("", "the genre would not read back as written")


def coded_audio_digest(data: bytes, suffix: str) -> bytes:
    """SHA-256 of the coded audio; of everything but the tags this program may edit, where that can be cut out.

    Raises ValueError when there is no audio, av.error.FFmpegError when FFmpeg cannot read the container.
    """
    digest = sha256()
    if suffix.lower() in HEAD_AND_TAIL:
        spans = layout.layout(BytesIO(data))
        if spans.audio.start == spans.audio.stop:
            raise ValueError("no audio in it")
        start = spans.audio.start if suffix.lower() == ".flac" else spans.id3v2.stop
        view = memoryview(data)
        digest.update(view[start : max(start, spans.ape.start)])
        digest.update(view[max(start, spans.ape.stop) : spans.id3v1.start])
        return digest.digest()
    n_packets = 0
    with av.open(BytesIO(data), metadata_errors="replace") as container:
        streams = [each for each in container.streams if not each.disposition & av.stream.Disposition.attached_pic]
        for packet in container.demux(streams):
            if packet.size:
                n_packets += 1
                digest.update(f"{packet.stream.index} {packet.pts} {packet.size};".encode())
                digest.update(bytes(packet))
        digest.update(repr(container.chapters()).encode())  # those of MP4 are a track that is not given out as packets
    if not n_packets:
        raise ValueError("no audio in it")
    return digest.digest()
