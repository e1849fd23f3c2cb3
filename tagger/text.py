"""Names and lists as a person may see them: harmless in any terminal, and not wider than their place."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

#: Joiners that words of Persian and Indic scripts and emoji need; every other invisible character is escaped.
_JOINERS = "\u200c\u200d"


def printable(text: str) -> str:
    r"""Text with control characters, escapes, direction overrides and undecodable bytes spelt out.

    >>> printable("a\x1b[31m\n\u202e"), printable("caf\udce9"), printable("[red]")
    ('a\\x1b[31m\\n\\u202e', 'caf\\xe9', '[red]')
    """
    if text.isprintable():  # nearly always, and a library has many names
        return text
    return "".join(
        character
        if character.isprintable() or character in _JOINERS or unicodedata.category(character) == "Zs"
        else f"\\x{ord(character) - 0xDC00:02x}"
        if "\udc80" <= character <= "\udcff"
        else character.encode("unicode_escape").decode()
        for character in text
    )


def shown(name: str, cells: int | None = None) -> str:
    r"""A name that is harmless, cut to so many cells, and that leaves what stands to the right of it there.

    A mark behind a name of a right-to-left script ends its direction: numbers beside it would trade places with it
    where the terminal knows such scripts (Unicode Standard Annex 9, rule N1).

    >>> shown("\u05d0\u05d1") == "\u05d0\u05d1\u200e", shown("Jazz\x1b[2J")
    (True, 'Jazz\\x1b[2J')
    """
    name = printable(name)
    if cells is not None and cell_len(name) > cells:
        name = set_cell_size(name, max(0, cells - 1)).rstrip() + "…"
    return name + "\u200e" if any(unicodedata.bidirectional(each) in ("R", "AL", "AN") for each in name) else name


def genres_text(genres: Sequence[str]) -> str:
    """Genres as people read them: `Jazz; Blues`, or a dash."""
    return printable("; ".join(genres)) or "–"
