"""What a command printed, beside what the README says it prints.

… stands for anything within a line, and alone on its line for any lines. Spaces at the ends of lines are not told
apart. What rests on the model's arithmetic may differ a little, for a processor rounds its products as it is built:
decimal numbers by `NUMBER_TOLERANCE`, bars by `BAR_TOLERANCE`. All else has to be the same: words, counts, layout.
"""

from __future__ import annotations

import re
from itertools import zip_longest

NUMBER_TOLERANCE = 0.02
BAR_TOLERANCE = 1  # blocks

#: A bar with the spaces that fill its column; a decimal number that is no part of a version; what stands for anything.
PIECE = re.compile(r"(?P<bar>[█▉▊▋▌▍▎▏]+ *)|(?P<number>(?<![\d.])\d+\.\d+(?![\d.…]))|(?P<any>…)")


def difference(expected: str, printed: str) -> str:
    """What is not as expected, in a line; "" where nothing is."""
    lines = [line.rstrip() for line in expected.rstrip().splitlines()]
    found = [line.rstrip() for line in printed.rstrip().splitlines()]
    said = _difference(lines, found)
    if said is None:  # where the two part, as far as that can be told before the first … of whole lines
        pairs = zip_longest(lines, found, fillvalue="(nothing)")
        said = next(f"{b!r} is not {a!r}" for a, b in pairs if a == "…" or _difference([a], [b]) != "")
    return said


def _difference(expected: list[str], printed: list[str]) -> str | None:
    """The number or bar that is too far from what is expected, "" where none is; None where more differs than these."""
    wanted = [piece[0] for line in expected for piece in PIECE.finditer(line) if not piece["any"]]
    found = re.fullmatch("\n".join(map(_line_pattern, expected)), "\n".join(printed))
    if found is None:
        return None
    return next((f"{a!r} is not {b!r}" for a, b in zip(found.groups(), wanted, strict=True) if not _is_near(a, b)), "")


def _line_pattern(line: str) -> str:
    """A pattern for a line, in which what is to be near is a group."""
    if line == "…":
        return r"[\s\S]*?"
    pattern, start = "", 0
    for piece in PIECE.finditer(line):
        pattern += re.escape(line[start : piece.start()]) + _pattern(piece)
        start = piece.end()
    return pattern + re.escape(line[start:])


def _pattern(piece: re.Match[str]) -> str:
    """A pattern for what may stand in the place of a piece; what is to be near it is a group."""
    if piece["any"]:
        return ".*?"
    if piece["number"]:
        return rf"(\d+\.\d{{{len(piece[0].partition('.')[2])}}})"
    return "([█▉▊▋▌▍▎▏]+ *)"


def _is_near(found: str, wanted: str) -> bool:
    if wanted[0].isdigit():
        return abs(float(found) - float(wanted)) < NUMBER_TOLERANCE + 1e-9
    is_filled = wanted != wanted.rstrip()  # then the column is as wide whatever the bar
    is_as_wide = not is_filled or len(found) == len(wanted)
    return is_as_wide and abs(len(found.rstrip()) - len(wanted.rstrip())) <= BAR_TOLERANCE
