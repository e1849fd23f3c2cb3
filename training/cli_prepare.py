"""`genre-tag prepare`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tagger.cli.settings import CountOr, command_line, option
from tagger.extras import need
from tagger.terminal.signals import exit_code
from training.dataset.options import PrepareOptions

if TYPE_CHECKING:
    from rich.table import Table

    from training.dataset.data import Record

PLAIN_PROGRESS_SECONDS = 10.0
MOST_NAMED = 20  # songs that are left out


class Shares(click.ParamType):
    """Three numbers, for train, validate and test."""

    name = "T,V,T"

    def get_metavar(self, *_: Any, **__: Any) -> str:
        return "TRAIN,VALIDATE,TEST"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, float, float]:
        if isinstance(value, tuple):
            return value
        try:
            train, validate, test = (float(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not three numbers like 70,15,15.", param, ctx)
        if not min(train, validate, test) > 0 or max(train, validate, test) == float("inf"):
            self.fail("each split needs a share above 0.", param, ctx)
        return train, validate, test


@click.command(short_help="Make a dataset to train on of songs that have a genre.")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), default="dataset", metavar="FOLDER", show_default=True)
@click.option(
    "--labels",
    type=click.Choice(["auto", "folders", "tags"]),
    default=PrepareOptions.labels,
    show_default=True,
    help="Whether sub-folders are the genres, or the songs' own tags tell; auto says what it took, and why.",
)
@click.option(
    "--map",
    "map_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File of 'Genre = Name' lines, for what folders, tables or tags say; 'Genre =' drops one.",
)
@click.option(
    "--snippets",
    type=CountOr("all"),
    default=PrepareOptions.n_snippets,
    show_default=True,
    help="Snippets of each song, spread evenly.",
)
@click.option(
    "--snippet-seconds",
    type=click.FloatRange(min=1, max=60),
    metavar="SECONDS",
    default=PrepareOptions.snippet_seconds,
    show_default=True,
)
@click.option(
    "--balance",
    type=click.Choice(["none", "sqrt", "truncate"]),
    default=PrepareOptions.balance,
    show_default=True,
    help="Leave songs of frequent genres out of training: down to the rarest (truncate) or half-way (sqrt).",
)
@click.option(
    "--split",
    type=Shares(),
    default=",".join(f"{share:g}" for share in PrepareOptions.split),
    show_default=True,
    help="Shares of the songs of each genre.",
)
@click.option(
    "--splits",
    type=click.Choice(["disjoint", "as-given"]),
    default=PrepareOptions.splits,
    show_default=True,
    help="Whether songs of a table with splits are left out whose artist or recording is in a later split too, or only"
    " named.",
)
@click.option("--seed", type=click.IntRange(min=0), metavar="N", default=PrepareOptions.seed, show_default=True)
@click.option("--drop-small", is_flag=True, help="Drop genres with songs of fewer than three artists.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["genre-tag", "notebook"]),
    default="genre-tag",
    show_default=True,
    help="notebook: also a DatasetDict of log-mels as the notebook reads it, 512 kB for 10 s, in"
    " FOLDER/music_lib_balanced.",
)
@click.option("--cache-features", is_flag=True, help="Compute the log-mels now: 256 kB a snippet.")
@option("-j", "--jobs", type=CountOr("auto"), default="auto", help="Processes that decode.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only N songs, spread over genres: a trial.")
@click.option("--exclude", multiple=True, metavar="GLOB", help="Pass over files and folders of that name. Repeatable.")
@click.option("--force", is_flag=True, help="Make a finished dataset again; what is decoded is kept.")
def prepare(
    source: Path, out: Path, map_file: Path | None, snippets: int | str, form: str, jobs: int | str, force: bool,
    **settings: Any,
) -> None:  # fmt: skip
    """Make a dataset of the songs at SOURCE: splits of snippets that share no artist, album or recording.

    SOURCE is a folder with a sub-folder per genre, a library whose songs have genre tags, or a table (.csv, .tsv)
    with the columns path, genre, and perhaps artist, album, album_artist, and split (train, validate,
    perhaps test), which then decides instead of --split. What a table says outweighs the songs' own tags.

    Every song is decoded once: 115 MB per hour. Stopped at any time, the same command goes on where it was.

    \b
    Exit codes: 0 fine, 2 wrong usage, 3 nothing could be done, 130 interrupted.
    """
    need("genre-tag prepare", "train")
    from tagger.pipeline.genres import read_map

    names = read_map(map_file) if map_file else {}
    settings["exclude"] = tuple(settings["exclude"])
    options = PrepareOptions(names=names, n_snippets=None if snippets == "all" else int(snippets), **settings)
    make_dataset(source, out, options, command_line(), None if jobs == "auto" else int(jobs), force, form)


def make_dataset(
    source: Path, folder: Path, options: PrepareOptions, argv: Sequence[str], n_workers: int | None = None,
    force: bool = False, form: str = "genre-tag",
) -> None:  # fmt: skip
    """Make a dataset, which the command `argv` makes again, and show what is in it. Raises DatasetError."""
    from tagger.terminal.screen import tell
    from training.dataset.prepare import prepare as make

    try:
        record = make(source, folder, options, argv=argv, n_workers=n_workers, force=force, watch=_watch, tell=tell)
        notebook = _for_notebook(folder, tell) if form == "notebook" else None
    except KeyboardInterrupt as error:
        tell("Interrupted. Decoded songs are kept; the same command goes on from here.")
        raise click.exceptions.Exit(exit_code()) from error
    _show(record, folder)
    if notebook is not None:
        click.echo(f"For the notebook: {notebook}, and the genres in {folder / 'genres.json'}")


def _for_notebook(folder: Path, tell: Callable[[str], None]) -> Path:
    from training.dataset.notebook import write_notebook

    tell("Computing the log-mels for the notebook.")
    return write_notebook(folder)


def _watch(items: Iterable[Any], what: str, total: int) -> Iterator[Any]:
    """The items, with a progress bar on a terminal, and a line every ten seconds elsewhere."""
    import sys

    from tqdm import tqdm

    if sys.stderr.isatty():
        yield from tqdm(items, what, total, file=sys.stderr, dynamic_ncols=True, leave=False)
        return
    started = said = time.monotonic()
    for n_done, item in enumerate(items, 1):
        yield item
        if time.monotonic() - said >= PLAIN_PROGRESS_SECONDS:
            said = time.monotonic()
            left = (total - n_done) * (said - started) / n_done
            click.echo(f"{what}: {n_done}/{total}, {left / 60:.0f} min left", err=True)


def _show(record: Record, folder: Path) -> None:
    """Print what is in a dataset, what is not, and what is to be said of its splits."""
    from rich.console import Console
    from rich.table import Table

    from tagger.text import printable

    table = Table(box=None, pad_edge=False, caption="songs (groups that share no artist)", caption_justify="left")
    table.add_column("genre")
    for heading in (*record.n_snippets, "hours"):
        table.add_column(heading, justify="right")
    for genre, n_songs in record.n_songs.items():
        cells = [f"{count} ({record.n_groups[genre][split]})" for split, count in n_songs.items()]
        table.add_row(printable(genre), *cells, f"{record.seconds[genre] / 3600:.1f}")
    sums = [sum(counts[split] for counts in record.n_songs.values()) for split in record.n_snippets]
    table.add_section()
    table.add_row("all", *map(str, sums), f"{sum(record.seconds.values()) / 3600:.1f}")
    console = Console(highlight=False, markup=False)
    console.print(table)
    if any(record.unbalanced.values()):
        console.print(_balance(record))
    n_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    n_snippets = ", ".join(f"{count} to {split}" for split, count in record.n_snippets.items())
    lines = [f"Snippets: {n_snippets}; {n_bytes / 1e9:.2f} GB in {folder}", *record.audit["lines"]]
    if record.n_unbalanced:
        lines.append(f"{record.n_unbalanced} songs are left out of training so that genres are even.")
    lines += _left_out(record)
    for line in lines:
        click.echo(printable(line))


def _balance(record: Record) -> Table:
    """How many songs of each genre there were to learn from, and what --balance took of them."""
    from rich.table import Table

    from tagger.text import printable

    table = Table(box=None, pad_edge=False)
    table.add_column("train")
    for heading in ("there", "taken", "left"):
        table.add_column(heading, justify="right")
    rows = {genre: (record.n_songs[genre]["train"], left) for genre, left in record.unbalanced.items()}
    for genre, (taken, left) in rows.items():
        table.add_row(printable(genre), *map(str, (taken + left, taken, left)))
    table.add_section()
    taken, left = (sum(counts) for counts in zip(*rows.values(), strict=True))
    table.add_row("all", *map(str, (taken + left, taken, left)))
    return table


def _left_out(record: Record) -> Iterator[str]:
    """The songs that are not in the dataset, and why."""
    if record.left_out:
        yield f"{len(record.left_out)} songs are left out:"
        for path, reason in list(record.left_out.items())[:MOST_NAMED]:
            yield f"  {path}: {reason}"
        if len(record.left_out) > MOST_NAMED:
            yield f"  and {len(record.left_out) - MOST_NAMED} more, named in prepare.json"
