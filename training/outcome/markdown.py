"""Markdown made of values that are not to be trusted: templates that escape all that goes into them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from tagger.report.html import template_environment
from tagger.text import counted


@cache
def markdown_templates(package: str) -> Environment:
    """The templates of Markdown in a package: whatever goes into them is `escaped` there."""
    templates = template_environment(package, lambda text: Markup(escaped(text)))
    templates.filters |= {
        "as_option": _as_option, "console": _console, "share": share, "share_of": _share_of,
        "songs": partial(counted, noun="song"),
    }  # fmt: skip
    templates.tests["finite"] = math.isfinite
    return templates


def escaped(text: object) -> str:
    r"""Text in one printable line that neither Markdown nor its tables nor HTML read anything into.

    >>> print(escaped("R&B | *Soul*"), escaped("<b>"), escaped("a\nb"), escaped("caf\udce9"))
    R&amp;B &#124; \*Soul\* &lt;b&gt; a b caf\\udce9
    """
    line = " ".join(str(text).split())
    line = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in line)
    line = re.sub(r"([\\`*_\[\]~#$])", r"\\\1", line)
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "&#124;")):
        line = line.replace(character, entity)
    return line


def share(value: float) -> str:
    """A share of 0..1, or a dash for the share of nothing.

    >>> share(0.5), share(float("nan"))
    ('0.500', '–')
    """
    return "–" if math.isnan(value) else f"{value:.3f}"


def _share_of(part: int, whole: int) -> str:
    return share(part / whole if whole else math.nan)


def _console(lines: Sequence[str]) -> Markup:
    """A fenced block with command lines, whatever is in them."""
    block = "\n".join(f"$ {line}" for line in lines)
    fence = "`" * max(3, *(1 + len(ticks) for ticks in re.findall("`+", block)), 0)
    return Markup(f"{fence}console\n{block}\n{fence}")


def _as_option(value: Any) -> str:
    """The value of an option: text and paths as they are, all else as JSON has it."""
    return str(value) if isinstance(value, str | Path) else json.dumps(value, default=str, ensure_ascii=False)
