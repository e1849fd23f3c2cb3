"""What a person sees of a run: rows on stdout, progress and summary on stderr, every name made harmless."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click
from rich.cells import cell_len, set_cell_size
from tqdm import tqdm

from tagger import debug
from tagger.audio.library import Found
from tagger.debug import suppress
from tagger.pipeline.run import STATUSES, SongResult
from tagger.text import counted, genres_text, printable

if TYPE_CHECKING:
    from tagger.pipeline.cache import Contents
    from tagger.tags.undo import Run, Undone

_COLOURS = {"tagged": "green", "failed": "red", "skipped": "yellow", "unsure": "cyan"}
_PLAIN_PROGRESS_SECONDS = 10.0
_FIRST_PROGRESS_SECONDS = 2.0
_SILENT_WALK_SECONDS = 0.5
#: What can be listed of a run: a word of --show -> statuses.
SHOWN = {
    "all": frozenset(STATUSES),
    "changes": frozenset({"tagged"}),
    "unsure": frozenset({"unsure"}),
    "failed": frozenset({"failed"}),
    "kept": frozenset({"kept", "unchanged", "skipped"}),
}
MOST_ROWS = 50  # songs that are all listed by default; of more, those are left out that stay as they are
MOST_AGAIN = 10  # failures that are named once more behind a long list
MOST_ALIKE = 3  # songs named that fail for the same reason; a broken disk or copy leaves thousands of them


def outcome(result: SongResult, verbose: bool = False) -> str:
    """The status of a song, in one line without its name."""
    decision = result.decision
    ranking = decision.ranking if decision else ()
    top = ", ".join(f"{printable(genre)} {confidence:.2f}" for genre, confidence in ranking[: 3 if verbose else 1])
    reason = f": {printable(result.reason)}" if result.reason else ""
    if result.status == "tagged":
        line = f"{genres_text(result.old)} → {genres_text(result.new)}"
        if decision:  # none where a person decided
            line += f" ({top if verbose else f'{decision.confidence:.2f}'})"
        line += reason
    elif result.status in ("kept", "unchanged"):
        line = f"{genres_text(result.old)}  {result.status}" + (f" (predicted {top})" if top else "") + reason
    else:
        line = f"{result.status}{reason}"
        if result.status == "unsure" and verbose and top:
            line += f" ({top})"
        elif result.status == "unsure" and len(ranking) > 1:
            line += f"; then {printable(ranking[1][0])} {ranking[1][1]:.2f}"
    return line


def tell(line: str) -> None:
    """Print a line on stderr, above a progress bar if there is one."""
    tqdm.write(printable(line), file=sys.stderr)


class Progress:
    """How far a command has come: a bar on a terminal, else a line every ten seconds, on stderr. A context manager."""

    def __init__(self, n_songs: int, shown: bool = True) -> None:
        self._total, self._shown = n_songs, shown
        self._done = 0
        self._bar: tqdm[Any] | None = None
        self._said, self._n_said = time.monotonic(), 0
        self._pause = _FIRST_PROGRESS_SECONDS

    def __enter__(self) -> Progress:
        if self._shown and sys.stderr.isatty() and not debug.is_on():  # their lines would tear each other
            self._bar = tqdm(
                total=self._total, unit=" songs", file=sys.stderr, dynamic_ncols=True, leave=False,
                miniters=1,  # left to itself it learns from songs that were known, and stands still when one is not
            )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            with suppress(OSError):  # of a terminal that is gone
                self._bar.close()

    def print(self, line: str, file: TextIO) -> None:
        """Print a line, above the bar if there is one."""
        if self._bar is not None:
            tqdm.write(line, file=file)
        else:
            click.echo(line, file=file)

    def advance(self, notes: Mapping[str, int]) -> None:
        """One more song is done; `notes` are counts to be told beside."""
        self._done += 1
        now = time.monotonic()
        if self._done == 1:
            self._said, self._n_said = now, 1  # the model was loaded before
        if self._bar is not None:
            self._bar.set_postfix(notes, refresh=False)
            self._bar.update()
        elif self._shown and now - self._said >= self._pause:
            self._pause = _PLAIN_PROGRESS_SECONDS
            rate = (self._done - self._n_said) / (now - self._said)  # of late: songs that were known take no time
            self._said, self._n_said = now, self._done
            left = timedelta(seconds=round((self._total - self._done) / rate))
            words = "".join(f", {count} {note}" for note, count in notes.items())
            click.echo(f"{self._done}/{self._total} songs, {rate:.1f} songs/s, {left} left{words}", err=True)


def counting(found: Iterable[Found], shown: bool = True) -> Iterator[Found]:
    """Pass on what is found; where that takes long and stderr is a terminal, it shows how much there is so far."""
    hidden = not shown or not sys.stderr.isatty() or debug.is_on()
    with tqdm(
        found, desc="Looking for songs", unit=" found", file=sys.stderr, leave=False, disable=hidden,
        delay=_SILENT_WALK_SECONDS, bar_format="{desc}: {n_fmt}{unit}",
    ) as bar:  # fmt: skip
        yield from bar


class Screen:
    """Shows a run while it goes on. Use as a context manager; call `show` once per song."""

    def __init__(
        self, songs: Sequence[Found], *, rows: bool, progress: bool, verbose: bool, write_tags: bool,
        show: str | None = None,
    ) -> None:  # fmt: skip
        """`show` is one of `SHOWN`; None: all, but of more than `MOST_ROWS` songs what changes, failed or is unsure."""
        self._rows, self.verbose, self._write_tags = rows, verbose, write_tags
        self._n_songs = len(songs)
        self._is_long = len(songs) > MOST_ROWS
        self._shown = SHOWN[show or "all"]
        if show is None and self._is_long and not verbose:
            self._shown -= SHOWN["kept"]
        self._n_unlisted, self._may_list_all = 0, show is None
        self._failures: list[str] = []
        self._names_all_failures = verbose or show in ("all", "failed") or not self._is_long
        self._n_failed_for: Counter[str] = Counter()  # by reason; those that were known are not counted
        self._progress = Progress(self._n_songs, progress)
        self._root = _common_folder([str(found.where) for found in songs])
        self._columns = shutil.get_terminal_size((100, 24)).columns if sys.stdout.isatty() else None
        #: On a terminal, songs of a long list stand below the name of their folder: whether they do, and the last one.
        self._by_folder, self._folder = self._is_long and self._columns is not None, ""
        longest = max((cell_len(self._name(found.where)) for found in songs), default=0)
        self._name_cells = min(longest, 60 if self._columns is None else max(20, self._columns // 2))
        self.counts: Counter[str] = Counter()
        #: Why the model's thresholds are what they are; told when they left songs unsure.
        self.threshold_reason = ""
        self._genres: Counter[str] = Counter()
        self._n_cached = 0
        self._n_known_failures = 0
        self.n_below_threshold = 0
        #: Songs that had a genre.
        self.n_tagged_before = 0
        self._started = time.monotonic()

    @property
    def n_new_failures(self) -> int:
        """Songs that failed and are not known to: the exit code is to tell of these."""
        return self.counts["failed"] - self._n_known_failures

    def __enter__(self) -> Screen:
        self._progress.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.__exit__()

    def show(self, result: SongResult) -> None:
        """Count a song, print its row, move the progress on."""
        self.counts[result.status] += 1
        self._n_cached += result.cached
        is_old_news = result.status == "failed" and result.cached
        self._n_known_failures += is_old_news
        self.n_tagged_before += bool(result.old)
        self.n_below_threshold += result.status == "unsure" and bool(result.decision and result.decision.ranking)
        if result.status == "tagged":
            self._genres.update(result.decision.genres if result.decision else result.new)
        failures = [_failure(result)] if result.status == "failed" else []
        if (is_old_news and not self.verbose) or self._is_one_of_many(result, is_old_news):
            pass
        elif self._rows and result.status in self._shown:
            self._print_folder(result.path)
            self._progress.print(self._row(result), sys.stdout)
            self._failures += failures
        elif failures:
            self._progress.print(failures[0], sys.stderr)
        else:
            self._n_unlisted += self._rows
        self._progress.advance({each: self.counts[each] for each in ("failed", "unsure") if self.counts[each]})

    def _is_one_of_many(self, result: SongResult, is_old_news: bool) -> bool:
        """Whether a song failed for a reason that enough songs have been named for."""
        if result.status != "failed" or is_old_news or self._names_all_failures:
            return False
        self._n_failed_for[result.reason] += 1
        return self._n_failed_for[result.reason] > MOST_ALIKE

    def tell(self, line: str) -> None:
        """Say something that is about no song."""
        self._progress.print(printable(line), sys.stderr)

    def _print_folder(self, path: Path | str) -> None:
        """The name of the folder that the next songs are in, once; nothing where names of songs are whole."""
        folder = os.path.dirname(str(path).removeprefix(self._root))
        if self._by_folder and folder != self._folder:
            self._folder = folder
            name = cut_in_front(printable(folder or os.curdir), (self._columns or 0) - 2)
            self._progress.print(click.style(f"{name}{os.sep}", bold=True), sys.stdout)

    def _row(self, result: SongResult) -> str:
        name = self._name(result.path)
        if self._columns is not None or cell_len(name) <= self._name_cells:  # a file or a pipe has room for all of it
            name = set_cell_size(cut_in_front(name, self._name_cells), self._name_cells)
        row = f"{name}  {outcome(result, self.verbose)}"
        if self._columns is None:
            return row
        if cell_len(row) > self._columns and not self.verbose:
            row = set_cell_size(row, self._columns - 1).rstrip() + "…"
        return click.style(row, fg=_COLOURS.get(result.status))

    def _name(self, path: Path | str) -> str:
        below = str(path).removeprefix(self._root)
        return printable(f"  {os.path.basename(below)}" if self._by_folder and os.path.dirname(below) else below)

    def summary(self, stopped: str = "", advice: str = "") -> str:
        """Genre histogram, counts of every status and the speed, as lines folded for a terminal.

        `stopped` says why it is not all songs, `advice` what would help where songs are unsure.
        """
        lines = [f"failed: {failure}" for failure in self._failures[:MOST_AGAIN] if self._is_long]
        if len(self._failures) > MOST_AGAIN:
            lines.append(f"and {len(self._failures) - MOST_AGAIN} more that failed: --show failed")
        for reason, n_songs in self._n_failed_for.items():
            if n_songs > MOST_ALIKE:
                lines.append(f"failed: {n_songs - MOST_ALIKE} more of the same: {printable(reason)} (-v names them)")
        most = max(self._genres.values(), default=1)
        width = max((cell_len(printable(genre)) for genre in self._genres), default=0)
        for genre, count in self._genres.most_common():
            name = set_cell_size(printable(genre), width)
            lines.append(f"  {name} {count:>6} {'█' * max(1, round(30 * count / most))}")
        done = self.counts.total()
        elapsed = time.monotonic() - self._started
        named = {"tagged": "tagged" if self._write_tags else "would be tagged"}
        statuses = ", ".join(f"{self.counts[status]} {named.get(status, status)}" for status in STATUSES)
        heading = f"{done} of {self._n_songs} songs" if stopped else counted(done, "song")
        known = f"; {self._n_cached} cached" if self._n_cached else ""
        if self._n_known_failures:
            known += f", {self._n_known_failures} of them failed (-v lists them)"
        lines.append(f"{heading}: {statuses}{known}; {elapsed:.0f} s, {done / elapsed:.1f} songs/s")
        if stopped:
            lines.append(f"{stopped}. These songs are done; run the same command again for the others.")
        if self._n_unlisted and self._may_list_all:
            lines.append(f"Not listed: {self._n_unlisted} that stay as they are. --show all lists them.")
        if self.n_below_threshold and self.threshold_reason:
            lines.append(f"Unsure: {printable(self.threshold_reason)}.")
        if advice:
            lines.append(printable(advice))
        if not stopped and not self._write_tags and self.counts["tagged"]:
            lines.append("Nothing was written. Add --write-tags to write these genres into the files.")
        return "\n".join(map(folded, lines))


def _failure(result: SongResult) -> str:
    return f"{printable(str(result.path))}: {printable(result.reason)}"


def cut_in_front(name: str, n_cells: int) -> str:
    """A name in so many cells of a terminal, its beginning cut off where it is longer: its end says most.

    >>> cut_in_front("Artist/Album/Song.mp3", 12)
    '…um/Song.mp3'
    """
    if cell_len(name) <= n_cells:
        return name
    while name and cell_len(name) > n_cells - 1:
        name = name[1:]
    return f"…{name}"


def folded(line: str) -> str:
    """A line folded at words, where stderr is a terminal that is narrower; a bar stays as it is."""
    if not sys.stderr.isatty() or line.startswith(" "):
        return line
    width = shutil.get_terminal_size((100, 24)).columns
    wrapped = textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False, subsequent_indent="  ")
    return "\n".join(wrapped) or line


def _common_folder(paths: Sequence[str]) -> str:
    """What all paths begin with, up to a separator of folders, to leave out of their names; "" if there is nothing."""
    try:
        return os.path.join(os.path.commonpath([os.path.dirname(path) for path in paths]), "")
    except ValueError:  # no paths; absolute and relative ones; several drives
        return ""


def run_line(run: Run) -> str:
    """A run that can be undone, in one line."""
    songs = counted(run.n_writes, "song")
    if run.n_undone:
        songs += ", taken back" if run.n_undone == run.n_writes else f", {run.n_undone} taken back"
    return f"{run.id}  {run.started}  {songs}  {printable(shlex.join(run.argv))}"


_UNDONE = {"bytes": "every byte as before", "tags": "genre as before", "nothing": "is as before already"}


def undone_line(undone: Undone, dry_run: bool) -> str:
    """Whether a genre was taken back, in one line."""
    what = _UNDONE.get(undone.result, undone.result)
    reason = f": {printable(undone.reason)}" if undone.reason else ""
    would = "would be " if dry_run and undone.result in ("bytes", "tags") else ""
    return f"{printable(undone.path)}  {would}{what}{reason}"


def undone_summary(counts: Mapping[str, int], seconds: float, dry_run: bool) -> str:
    """How many songs each outcome of an undoing has, in one line; `counts` are by `Undone.result`."""
    named = {**_UNDONE, **{result: result for result in counts if result not in _UNDONE}}
    outcomes = ", ".join(f"{counts[result]} {name}" for result, name in named.items() if counts.get(result))
    note = ". Nothing was written" if dry_run else f"; {seconds:.0f} s"
    return f"{counted(sum(counts.values()), 'song')}: {outcomes}{note}"


def print_contents(contents: Contents) -> None:
    """Print what a cache holds, and a table of who has classified how many songs, the model used last at the top."""
    files, songs = counted(contents.n_files, "file"), counted(contents.n_songs, "song")
    size, failures = f"{contents.n_bytes / 1e6:.1f} MB", f"{contents.n_failures} that could not be decoded"
    click.echo(f"{printable(str(contents.path))}: {size}, {files}, {songs}, {failures}")
    if not contents.predictions:
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for heading in ("model", "precision", "snippets", "songs", "last used"):
        table.add_column(heading, justify="right" if heading in ("snippets", "songs") else "left")
    for each in contents.predictions:
        method = each.method
        n_snippets, n_predictions = str(method.n_snippets or "all"), str(each.n_predictions)
        table.add_row(Text(printable(method.label)), method.precision, n_snippets, n_predictions, each.last_used)
    Console(highlight=False).print(table)


def print_settings(title: str, rows: Sequence[tuple[str, object, str]]) -> None:
    """Print a table of settings: name, value, where the value comes from."""
    from rich.console import Console  # here, or every run would load it
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for heading in ("setting", "value", "from"):
        table.add_column(heading)
    for name, value, source in rows:
        table.add_row(name, Text(printable(_setting_text(value))), source)
    click.echo(printable(title))
    Console(highlight=False).print(table)


def _setting_text(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "–"
    return "–" if value is None else str(value)
