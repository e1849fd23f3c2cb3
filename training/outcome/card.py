"""The model card of a run: Markdown for people and for the Hugging Face hub, every number of it measured."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment
from markupsafe import Markup

from tagger.evaluation.metrics import N_RESAMPLES, confused_pairs
from tagger.models.description import HUB_IDS
from tagger.models.head import LEAST_HELD_OUT, LEAST_OF_EACH, is_enough_evidence
from tagger.report.html import template_environment
from tagger.text import counted
from training.outcome.metrics import SONG_SCORES

if TYPE_CHECKING:
    from training.outcome.outcome import Outcome

FEW_SONGS = 20  # of a genre: one more that is right moves its recall by 5 points
SMALL_TEST = 200  # songs: the interval of a score is wider than 10 points


def model_card(outcome: Outcome) -> str:
    """The card as Markdown, behind the YAML that the hub reads."""
    began_as = HUB_IDS.get(outcome.model, outcome.model)  # where the weights come from, in full
    is_hub_id = re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", began_as) and not Path(began_as).exists()
    return markdown_templates("training.outcome").get_template("MODEL_CARD.md.j2").render(
        outcome=outcome,
        began_as=began_as,
        is_hub_id=is_hub_id,
        tag_command=f"genre-tag --model {shlex.quote(str(outcome.folder))} ~/Music",
        commands=[shlex.join(argv) for argv in (outcome.prepare_argv, outcome.argv) if argv],
        confused=confused_pairs(outcome.scores[outcome.judged].confusion, outcome.genres),
        few=_few(outcome),
        song_scores={name: SONG_SCORES[name] for name in sorted(SONG_SCORES, key=lambda name: name != "mean")},
        is_calibrated=is_enough_evidence(outcome.contents["validate"].n_songs),
        least_held_out=LEAST_HELD_OUT,
        least_of_each=LEAST_OF_EACH,
        n_resamples=N_RESAMPLES,
        few_songs=FEW_SONGS,
        small_test=SMALL_TEST,
    )  # fmt: skip


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


def _few(outcome: Outcome) -> dict[str, dict[str, int]]:
    """The genres with few songs in train, or where the model is judged: how many there."""
    found = {}
    for label, genre in enumerate(outcome.genres):
        counts = {split: outcome.contents[split].n_songs[label] for split in ("train", outcome.judged)}
        if few := {split: number for split, number in counts.items() if number < FEW_SONGS}:
            found[genre] = few
    return found
