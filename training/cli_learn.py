"""`genre-tag learn`."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tagger.cli.settings import CountOr, command_line, option
from tagger.errors import GenreTagError, JournalError, OutputError
from tagger.pipeline.options import PredictOptions, TagOptions

if TYPE_CHECKING:
    from tagger.models.description import Description
    from training.probe.outcome import Outcome
    from training.probe.songs import Gathering


logger = logging.getLogger(__name__)


@click.command(short_help="Learn the genres of a library from the songs in it that are tagged.")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option(
    "--genres",
    "vocabulary",
    type=click.Choice(["canonical", "own"]),
    default="canonical",
    show_default=True,
    help="Read tags as the 20 genres of the vocabulary, or as they are written: 'Shoegaze', 'Soundtrack'.",
)
@option(
    "--model",
    default=PredictOptions.model,
    metavar="NAME",
    help="What it begins from: 'starter' (built in), 'audioset', a checkpoint folder, or a hub id.",
)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER",
    help="Where the result is put.  [default: the user's folder for state]",
)  # fmt: skip
@option(
    "--snippets", type=CountOr("all"), default=PredictOptions.n_snippets,
    help="Snippets of each song, as in genre-tag tag: what is cached is not classified again.",
)  # fmt: skip
@option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", help="Where the model runs.")
@option("-j", "--jobs", type=CountOr("auto"), default="auto", help="Processes that decode.")
@click.option("--exclude", multiple=True, metavar="GLOB", help="Pass over files and folders of that name. Repeatable.")
def learn(paths: tuple[str, ...], vocabulary: str, model: str, out: Path | None, **settings: Any) -> None:
    """Learn the genres at PATH from its songs whose genre a person gave; the network stays as it is.

    \b
    genre-tag learn ~/Music           a new last layer for the model, kept if it is better
    genre-tag --model mine ~/Music    tag with the newest that was learned from this library

    What genre-tag wrote itself and nobody changed since does not count; what you decided in a review outweighs tags.
    Songs that are cached are not classified again.
    It is judged on songs of artists that it does not know, beside the model it began from, and kept only where it is
    better beyond chance. No file of music is changed.

    \b
    Exit codes: 0 fine, 2 wrong usage, 3 nothing could be done, 130 interrupted.
    """
    from tagger.evaluation.learned import new_folder, note_learned
    from tagger.models.checkpoint import read_last_layer
    from tagger.text import counted
    from training.probe.base import Base
    from training.probe.checkpoint import last_layer, write_checkpoint
    from training.probe.folds import learn as fit
    from training.probe.outcome import Outcome, write_run

    _check_out(out)
    description = _began_as(model, paths)
    gathering = _gather(paths, vocabulary, description, settings)
    tagged = gathering.tagged()
    base = Base.of(description.head, *read_last_layer(description), tagged.genres)
    learned = fit(tagged, base)
    outcome = Outcome.of(tagged, base, learned, description, list(gathering.told()))
    _show(outcome)
    if gathering.n_decided:
        click.echo(f"Decided on in a review: {counted(gathering.n_decided, 'song')}.")
    if not outcome.is_kept:
        return
    folder, library = out or new_folder(), [os.path.abspath(path) for path in paths]
    labels = _labels(description)
    write_checkpoint(folder / "checkpoint", description, last_layer(learned, base, tagged, labels), learned, tagged)
    write_run(folder, outcome, command_line(), {"genres": vocabulary, "model": description.name, "library": library})
    note_learned(folder, library)
    click.echo(f"Use it: genre-tag --model mine {paths[0]}")
    click.echo(f"What it confuses: genre-tag report {folder}")


def _check_out(out: Path | None) -> None:
    """Raise UsageError for a folder that holds something."""
    if out is not None and out.exists() and any(out.iterdir()):
        raise click.UsageError(f"--out {out}: there is something in it; name a new folder.")


def _began_as(model: str, paths: Sequence[str]) -> Description:
    """The model to begin from; of one that was learned itself, that which it began from. Raises ModelError."""
    from tagger.evaluation.learned import MINE, newest_for
    from tagger.models.description import TRAINING, describe, read_fitted

    if model == MINE:  # as a settings file may have it before anything was learned
        learned = newest_for(paths)
        model = PredictOptions.model if learned is None else str(learned.folder)
    description = describe(model)
    if not description.backbone:
        return description
    return describe(str(read_fitted(model, description.folder / TRAINING).get("began_as", "")))


def _gather(paths: Sequence[str], vocabulary: str, description: Description, settings: dict[str, Any]) -> Gathering:
    """The songs at these paths whose genre a person gave, with what the model makes of them."""
    from tagger.audio.library import common_folder
    from tagger.evaluation.provenance import Provenance
    from tagger.terminal.predicting import predicted, songs_at
    from training.probe.songs import gather

    songs = songs_at(paths, settings["exclude"])
    if not songs:
        raise GenreTagError("", f"no songs found in {', '.join(paths)}")
    n_snippets, jobs = settings["snippets"], settings["jobs"]
    options = PredictOptions(
        model=description.name,
        device=settings["device"],
        n_snippets=None if n_snippets == "all" else n_snippets,
        n_workers=None if jobs == "auto" else jobs,
        with_embeddings=True,
    )
    heap = Path(common_folder(path for path in paths if path != "-"))  # right in it no song belongs to another
    with predicted(songs, description, TagOptions(options)) as (screen, results):

        def tell(line: str) -> None:
            screen.tell(f"genre-tag: {line}")

        def on_damage(error: JournalError) -> None:
            tell(f"{error}: what was written then counts as a person's")

        provenance = Provenance.read(on_damage=on_damage)
        return gather(results, provenance, vocabulary, heap, _decided(tell))


def _decided(tell: Callable[[str], None]) -> dict[bytes, tuple[str, ...]]:
    """The genres that a person decided on in reviews, by the identity of songs."""
    from tagger.review.decisions import labels

    try:
        return labels()
    except OutputError as error:
        logger.debug("%s", error, exc_info=True)
        tell(f"{error}: what was decided in reviews is not learned from")
        return {}


def _labels(description: Description) -> tuple[str, ...]:
    """What the model calls its outputs."""
    from tagger.models.description import read_table

    id2label = read_table(description.name, description.folder)["id2label"]
    return tuple(id2label[str(index)] for index in range(len(id2label)))


def _show(outcome: Outcome) -> None:
    """Print how good it is, beside the model and the most frequent genre, over all songs and for each genre."""
    from rich.console import Console
    from rich.table import Table

    from tagger.text import printable

    tagged, comparison = outcome.tagged, outcome.comparison
    n_artists = int(tagged.artists.max()) + 1
    click.echo(f"{len(tagged.labels)} songs of {len(tagged.genres)} genres and {n_artists} artists.")
    if outcome.left_out:
        click.echo(printable(f"Left out: {'; '.join(outcome.left_out)}."))
    if tagged.n_nameless:
        told = f"Nothing tells whose {tagged.n_nameless} of them are: accuracy may be too good. Tag the artists."
        click.echo(told)
    table = Table(box=None, pad_edge=False)
    table.add_column("accuracy")
    for heading in ("songs", "artists", printable(outcome.description.name), "learned", "written", "right"):
        table.add_column(heading, justify="right")
    for each in outcome.of_genres():
        table.add_row(
            printable(each.genre), str(each.n_songs), str(each.n_artists), f"{each.before:.2f}", f"{each.after:.2f}",
            str(each.n_written), str(each.n_written_right),
        )  # fmt: skip
    table.add_section()
    n_written, n_right = outcome.written_right
    table.add_row(
        "all", str(len(tagged.labels)), str(n_artists), f"{comparison.before:.3f}", f"{comparison.after:.3f}",
        str(n_written), str(n_right),
    )  # fmt: skip
    Console(highlight=False, markup=False).print(table)
    for name, value, (low, high) in (
        (outcome.description.name, comparison.before, comparison.before_interval),
        ("learned", comparison.after, comparison.after_interval),
    ):
        click.echo(printable(f"{name}: {value:.3f} (95% interval {low:.3f} to {high:.3f}, by artists)"))
    click.echo(printable(f"always {outcome.majority}: {outcome.against_majority.before:.3f}"))
    click.echo(printable(f"Written by default: {outcome.learned.threshold.reason}."))
    click.echo(printable(outcome.verdict()))
