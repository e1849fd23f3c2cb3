"""Names and lists as a person may see them: harmless in any terminal, and not wider than their place."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

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
    from rich.cells import cell_len, set_cell_size  # here: the others are for processes that have no terminal

    name = printable(name)
    if cells is not None and cell_len(name) > cells:
        name = set_cell_size(name, max(0, cells - 1)).rstrip() + "…"
    return name + "\u200e" if any(unicodedata.bidirectional(each) in ("R", "AL", "AN") for each in name) else name


def shortened(name: str, most: int) -> str:
    """A name that is harmless, of at most so many characters.

    >>> shortened("Drum & Bass", 11), shortened("Drum & Bass", 10)
    ('Drum & Bass', 'Drum & Ba…')
    """
    name = printable(name)
    return name if len(name) <= most else name[: most - 1] + "…"


def counted(number: int, noun: str) -> str:
    """A number of things.

    >>> counted(1, "song"), counted(2, "song")
    ('1 song', '2 songs')
    """
    return f"{number} {noun}{'s' * (number != 1)}"


def genres_text(genres: Sequence[str]) -> str:
    """Genres as people read them: `Jazz; Blues`, or a dash."""
    return printable("; ".join(genres)) or "–"


def one_line(error: BaseException, most: int = 200) -> str:
    r"""What an exception says, which may be a page, in a line of at most so many characters; what it is if it is mute.

    >>> one_line(ValueError("bad\nworse")), one_line(OSError(2, "No such file", "a.mp3")), one_line(KeyError())
    ('bad', 'No such file', 'KeyError')
    """
    text = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    return str(text).splitlines()[0][:most]


def first_sentence(error: BaseException) -> str:
    """What an exception says, without the advice behind it."""
    return one_line(error).partition(". ")[0]


def duration_text(seconds: float) -> str:
    """A length of time to plan by.

    >>> duration_text(1), duration_text(40), duration_text(1000), duration_text(20_000), duration_text(500_000)
    ('1 second', '40 seconds', '17 minutes', '5.6 hours', '5.8 days')
    """
    for unit, length in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.{0 if unit == 'minutes' else 1}f} {unit}"
    return f"{max(1, seconds):.0f} second{'s' * (seconds >= 1.5)}"
