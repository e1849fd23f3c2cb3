"""Files of our own that are replaced as a whole."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

#: Names of files on their way to their place: hidden and not named as audio, so scanners and sync tools pass by.
TEMPORARY = re.compile(r"\.gtag-[0-9a-f]{16}\.tmp")


def temporary_name() -> str:
    """A name as TEMPORARY, which no file has yet."""
    return f".gtag-{secrets.token_hex(8)}.tmp"


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write what `path` shall hold; at every instant there is all of the old or all of the new.

    It takes its place, and is on the disk, when the block ends; when the block raises, `path` stays as it was. Raises
    OSError. Songs are replaced by `tagger.tags.swap`, which keeps far more of them.
    """
    temporary = path.with_name(temporary_name())
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink()
