"""The model card of a run: Markdown for people and for the Hugging Face hub, every number of it measured."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tagger.evaluation.metrics import N_RESAMPLES, confused_pairs
from tagger.models.description import HUB_IDS
from training.outcome.metrics import SONG_SCORES

if TYPE_CHECKING:
    from training.outcome.outcome import Outcome

FEW_SONGS = 20  # of a genre: one more that is right moves its recall by 5 points
SMALL_TEST = 200  # songs: the interval of a score is wider than 10 points


def model_card(outcome: Outcome) -> str:
    """The card as Markdown, behind the YAML that the hub reads."""
    parts = (_front, _what_it_is, _scores, _genres, _confidence, _data, _training, _limits)
    return "\n".join(part(outcome) for part in parts)


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


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose first column is set left and the others right."""
    lines = (heads, ["---", *["---:"] * (len(heads) - 1)], *rows)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _commands(*lines: str) -> str:
    """A fenced block with command lines, whatever is in them."""
    block = "\n".join(f"$ {line}" for line in lines)
    fence = "`" * max(3, *(1 + len(ticks) for ticks in re.findall("`+", block)), 0)
    return f"{fence}console\n{block}\n{fence}"


def _share(value: float) -> str:
    """A share of 0..1, or a dash for the share of nothing.

    >>> _share(0.5), _share(float("nan"))
    ('0.500', '–')
    """
    return "–" if math.isnan(value) else f"{value:.3f}"


def _ratio(part: int, whole: int) -> str:
    return _share(part / whole if whole else math.nan)


def _songs(number: int) -> str:
    return f"{number} song{'s' * (number != 1)}"


def _began_as(outcome: Outcome) -> str:
    """Where the weights come from, in full."""
    return HUB_IDS.get(outcome.model, outcome.model)


def _front(outcome: Outcome) -> str:
    base = _began_as(outcome)
    is_hub_id = re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", base) and not Path(base).exists()
    from_hub = f"base_model: {json.dumps(base)}\n" if is_hub_id else ""
    return f"""\
---
license: unknown  # yours to choose, as far as the weights it began as and the recordings it was trained on allow
library_name: transformers
pipeline_tag: audio-classification
{from_hub}tags:
- audio-classification
- music
- music-genre
- genre-tag
---
"""


def _what_it_is(outcome: Outcome) -> str:
    return f"""\
# {escaped(outcome.folder.name)}

An Audio Spectrogram Transformer (`ASTForAudioClassification`) that takes snippets of {outcome.snippet_seconds:g} s of
mono audio at 16 kHz and answers with one of {len(outcome.genres)} genres: {", ".join(map(escaped, outcome.genres))}.
It has {outcome.n_parameters / 1e6:.1f} million parameters and began as {escaped(_began_as(outcome))}.

To tag music with it:

{_commands(f"genre-tag --model {shlex.quote(str(outcome.folder))} ~/Music")}

To make it again:

{_commands(*(shlex.join(argv) for argv in (outcome.prepare_argv, outcome.argv) if argv))}
"""


def _scores(outcome: Outcome) -> str:
    prediction = outcome.scores
    names = sorted(SONG_SCORES, key=lambda name: name != "mean")
    rows = [
        [
            f"`--aggregate {name}`{', the default' * (name == 'mean')}",
            *(_with_interval(outcome, split, name) for split in prediction),
        ]
        for name in names
    ]
    train = outcome.contents["train"].n_songs
    common = train.index(max(train))
    counts = {split: outcome.contents[split].n_songs for split in prediction}
    chance = f"always {escaped(outcome.genres[common])}, the most frequent in train"
    rows.append([chance, *(_ratio(n_songs[common], sum(n_songs)) for n_songs in counts.values())])
    average = "mean of the genres" if len(outcome.genres) > 2 else escaped(outcome.genres[1])
    singles = {
        "song_macro_recall": "songs: recall, mean of the genres",
        "accuracy": "snippets: accuracy",
        "precision": f"snippets: precision, {average}",
        "recall": f"snippets: recall, {average}",
        "f1": f"snippets: F1, {average}",
    }
    rows += [[label, *(_share(split.scores[key]) for split in prediction.values())] for key, label in singles.items()]
    heads = ["songs: accuracy", *(f"{split}, {_songs(sum(n_songs))}" for split, n_songs in counts.items())]
    return f"""\
## Accuracy

A song's genre comes from the logits of its snippets by one of four aggregations. In brackets, 95 % intervals: a
percentile bootstrap over songs, {N_RESAMPLES} draws. The epoch, the temperature and the threshold were chosen on
validate, so its scores are too high; nothing was chosen on test.

{_table(heads, rows)}
"""


def _with_interval(outcome: Outcome, split: str, aggregation: str) -> str:
    """A song score of a split, with its interval."""
    key = SONG_SCORES[aggregation]
    low, high = outcome.scores[split].intervals[key]
    return f"{_share(outcome.scores[split].scores[key])} ({_share(low)} to {_share(high)})"


def _genres(outcome: Outcome) -> str:
    heads = ["genre", "songs in train"]
    for split in outcome.scores:
        heads += [f"in {split}", "recall", "precision"]
    rows = []
    for label, genre in enumerate(outcome.genres):
        row = [escaped(genre), str(outcome.contents["train"].n_songs[label])]
        for matrix in (prediction.confusion for prediction in outcome.scores.values()):
            n_songs, n_classified, n_right = matrix[label].sum(), matrix[:, label].sum(), matrix[label, label]
            row += [str(n_songs), _ratio(n_right, n_songs), _ratio(n_right, n_classified)]
        rows.append(row)
    split = outcome.judged
    pairs = [
        [escaped(pair.reference), escaped(pair.predicted), str(pair.n_songs), _share(pair.share)]
        for pair in confused_pairs(outcome.scores[split].confusion, outcome.genres)
    ]
    return f"""\
## Its genres

Recall: share of the songs of a genre that are predicted as it. Precision: share of the songs predicted as it that are.

{_table(heads, rows)}

Genres of which more than a tenth is predicted as one other, on {split}{":" if pairs else ": none."}

{_table(["reference", "predicted", "songs", "share of the reference"], pairs) if pairs else ""}

![Shares of each genre's songs by predicted genre, on {split}](confusion.png)
"""


def _confidence(outcome: Outcome) -> str:
    threshold, split = outcome.threshold, outcome.judged
    least = (
        f"A genre is written from a confidence of {threshold.value:g} on"
        if math.isfinite(threshold.value)
        else "No genre is written unless `--min-confidence` is given"
    )
    each = ((name, prediction.calibration) for name, prediction in outcome.scores.items())
    rows = ([name, *map(_share, (c.error_before, c.error, c.coverage, c.precision))] for name, c in each)
    bins = (
        [f"{b.low:g} to {b.high:g}", str(b.n_songs), _share(b.confidence), _share(b.accuracy)]
        for b in outcome.scores[split].calibration.bins
    )
    return f"""\
## How sure it is

Confidence is softmax(m / {outcome.temperature:g}) of the mean m of a song's logits, a temperature fitted on validate.
{least} ({escaped(threshold.reason)}).

{_table(["", "error at temperature 1", "error", "share written", "share of those right"], rows)}

The error is the mean distance of confidence and share right over bins of confidence. Chance alone makes it some 0.12
where 50 songs are calibrated perfectly, 0.06 where 200 are, 0.03 where 1000 are.

{_table([f"confidence on {split}", "songs", "mean confidence", "share right"], bins)}
"""


def _data(outcome: Outcome) -> str:
    rows = (
        [
            split,
            str(sum(number > 0 for number in held.n_songs)),
            *map(str, (sum(held.n_songs), held.n_snippets, len(held.artists), held.n_nameless)),
            f"{held.hours:.1f}",
        ]
        for split, held in outcome.contents.items()
    )
    return f"""\
## Training data

{_table(["", "genres", "songs", "snippets", "artists", "songs without artist", "hours of songs"], rows)}
"""


def _training(outcome: Outcome) -> str:
    options = ([escaped(name), _value(value)] for name, value in outcome.options.items())
    times = ([escaped(name), f"{seconds:.0f} s"] for name, seconds in outcome.timing_seconds.items())
    environment = ([escaped(name), escaped(what)] for name, what in outcome.environment.items())
    return f"""\
## How it was trained

{_table(["option", "value"], options)}

{"![Loss, scores on validate, and learning rate, by epoch](training.png)" if outcome.is_trained else ""}

{_table(["stage", "time"], times)}

{_table(["with", ""], environment)}
"""


def _value(value: Any) -> str:
    """The value of an option: text and paths as they are, all else as JSON has it."""
    return escaped(value if isinstance(value, str | Path) else json.dumps(value, default=str, ensure_ascii=False))


def _limits(outcome: Outcome) -> str:
    limits = [*_artist_limits(outcome)]
    if "test" in outcome.scores:
        n_test = sum(outcome.contents["test"].n_songs)
        low, high = outcome.scores["test"].intervals[SONG_SCORES["mean"]]
        which = "**The test split is small**:" if n_test < SMALL_TEST else "The test split has"
        limits.append(
            f"{which} {_songs(n_test)}, so that the interval of its score is {100 * (high - low):.1f} points wide."
        )
        if low == high:
            limits.append(
                "An interval without width is no certainty: a bootstrap cannot see beyond the songs it draws from."
            )
    else:
        limits.append("**There is no test split**: all scores are of the songs that chose the epoch, and too high.")
    few = []
    for label, genre in enumerate(outcome.genres):
        counts = {split: outcome.contents[split].n_songs[label] for split in ("train", outcome.judged)}
        if min(counts.values()) < FEW_SONGS:
            named = ", ".join(f"{number} in {split}" for split, number in counts.items() if number < FEW_SONGS)
            few.append(f"{escaped(genre)} ({named})")
    if few:
        limits.append(f"Genres with fewer than {FEW_SONGS} songs, whose numbers say little: {', '.join(few)}.")
    limits.append(
        f"It knows these {len(outcome.genres)} genres and no others: other music, speech and noise are predicted as "
        "one of them too. How many of such songs would be written was not measured."
    )
    return "## Limits\n\n" + "\n".join(f"- {limit}" for limit in limits) + "\n"


def _artist_limits(outcome: Outcome) -> list[str]:
    """What may be wrong with the split."""
    shared, n_nameless = outcome.shared_artists, sum(held.n_nameless for held in outcome.contents.values())
    limits = []
    if shared:
        are = "names are" if len(shared) > 1 else "name is"
        some = ", ".join(map(escaped, shared[:5])) + ", …" * (len(shared) > 5)
        limits.append(
            f"**The splits are not artist-disjoint**: {len(shared)} artist {are} in more than one ({some}). A network "
            "knows the other songs of an artist again, so its scores are too high."
        )
    elif not n_nameless:
        limits.append("The splits are artist-disjoint: no artist name is in more than one.")
    if n_nameless:
        limits.append(
            f"Whether the splits are artist-disjoint cannot be told of {_songs(n_nameless)} without an artist."
        )
    return limits
