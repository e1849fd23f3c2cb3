"""The comparison that the README's console blocks are held to: what it lets pass, and what it does not."""

import pytest

from tests.console import difference

EXPECTED = """\
…/Music/Dvorak - Largo.opus
0:20 long, 4 snippets of 5 s
…
 0:03–0:08  ███████████       Classical 0.68  Electronic 0.11
Rock 1 ███
version 0.1.0, of torch 2.…
11 songs: 3 tagged; … s, … songs/s
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", ""),
        ("0.68", "0.66"),  # rounded in another way
        ("0.11", "0.13"),
        ("███████████       ", "██████████        "),
        ("███████████       ", "████████████      "),
        ("Rock 1 ███", "Rock 1 ██"),
        ("\n…\n", "\nany\n\nlines at all\n"),
        ("…/Music", "/home/x/Music"),
        ("2.…", "2.14.1+cpu"),
        ("… s, … songs/s", "3 s, 4.2 songs/s"),
        ("5 s\n", "5 s   \n"),  # ends of lines
    ],
)
def test_what_may_differ(old: str, new: str) -> None:
    assert difference(EXPECTED, EXPECTED.replace(old, new)) == ""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("0.68", "0.65"),
        ("0.68", "0.71"),
        ("0.68", "0.680"),
        ("0.11", "0.1"),
        ("0.68", "1.68"),
        ("███████████       ", "█████████         "),
        ("███████████       ", "█████████████     "),
        ("███████████       ", "██████████       "),  # the column is narrower
        ("███████████       ", "                  "),
        ("Rock 1 ███", "Rock 1 █████"),
        ("Rock 1", "Rock 2"),
        ("4 snippets", "5 snippets"),
        ("11 songs", "12 songs"),
        ("0:03", "0:04"),
        ("0.1.0", "0.1.1"),
        ("Classical", "Electronic"),
        ("0.68  Electronic", "0.68 Electronic"),
        ("version", "Version"),
        ("Rock 1 ███\n", ""),
        ("version", "one line more\nversion"),
        ("11 songs: 3 tagged; … s, … songs/s\n", ""),
    ],
)
def test_what_may_not(old: str, new: str) -> None:
    assert difference(EXPECTED, EXPECTED.replace(old, new)) != ""


def test_what_differs_is_named() -> None:
    assert difference("Rock 0.50\n", "Rock 0.60\n") == "'0.60' is not '0.50'"
    assert difference("a\nb\n", "a\nc\n") == "'c' is not 'b'"
    assert difference("a\n", "a\nb\n") == "'b' is not '(nothing)'"
    assert difference("a\nb\n", "a\n") == "'(nothing)' is not 'b'"


def test_any_lines_may_be_none_but_their_place_stays() -> None:
    assert difference("…\nlast\n", "\nlast\n") == ""
    assert difference("first\n…\n", "first\nsecond\nthird\n") == ""
    assert difference("first\n…\n", "second\n") != ""
