"""A report on a library: how the genres in its tags agree with what is predicted, and what is amiss with them.

    songs = list(find_songs(paths, exclude))
    results = tag_songs(songs, description, load_model, options, cache)  # without a journal nothing is written
    report = report_library(paths, results, description, options)

Songs are decided on as in a tagging run; those the cache knows need no model, and none is loaded if it knows all.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from tagger.evaluation.learned import Contradiction
from tagger.evaluation.provenance import NOTHING_WRITTEN, Provenance
from tagger.models.description import Description
from tagger.pipeline.aggregate import confidence_scale
from tagger.pipeline.genres import canonical, genre_key
from tagger.pipeline.options import TagOptions
from tagger.pipeline.run import SongResult, shortfall_of
from tagger.report.audit import Pair, Vocabulary, mixed_albums, most_used, singles, spellings
from tagger.report.document import Column, Matrix, Report, Song, Songs, Table
from tagger.tags.genre import Metadata, read_metadata
from tagger.text import counted

N_RANKED = 5  # genres told of each song
MOST_LISTED = 50  # of the songs that need a look
ALL = "songs"  # the key of the section that has every song
WRONG = "wrong_tags"  # of that with the songs whose tags seem wrong

#: What a song can be in a report on a library. "incomparable": its tag has only genres that the model does not know;
#: "written": this program wrote them, so that they would agree with themselves.
STATUSES = ("agrees", "differs", "incomparable", "written", "untagged", "unsure", "skipped", "failed")


def report_library(
    paths: Sequence[str],
    results: Iterable[SongResult],
    description: Description,
    options: TagOptions,
    read: Callable[[str], Metadata] = read_metadata,
    provenance: Provenance = NOTHING_WRITTEN,
    contradicted: Sequence[Contradiction] | None = None,
) -> Report:
    """How the tags of the music at `paths` agree with `results`, and what is amiss with them.

    `results` are those of a run by the model of that `description`, with these options; `read` gives a song's tags, and
    `provenance` says which of its genres this program wrote: these are not compared. `contradicted` are the songs whose
    tags a model that was learned from the library contradicts; None where there is none.
    """
    songs, written, n_cached = _songs(results, provenance)
    vocabulary = Vocabulary.of(description.head.genres, options.decide.names, most_used(songs))
    compared = {
        at: vocabulary.compare(song)
        for at, song in enumerate(songs)
        if song.reference and song.ranking and at not in written
    }
    for at in written:
        if songs[at].predicted:
            songs[at] = replace(songs[at], status="written")
    for at, pair in compared.items():
        if songs[at].predicted:
            songs[at] = replace(songs[at], status=pair.verdict)
    pairs = list(compared.values())
    return Report(
        "library",
        f"Genres in {', '.join(paths)}",
        _facts(paths, songs, pairs, n_cached, description, options) + _of_written(len(written)),
        (
            _confusion(pairs, vocabulary),
            _genres(pairs, songs, vocabulary),
            _disagreements(songs, pairs),
            *([] if contradicted is None else [_wrong_tags(songs, contradicted)]),
            _untagged(songs),
            spellings(songs),
            singles(songs),
            mixed_albums(songs, read),
            _unsure(songs),
            _unclassified(songs),
            Songs(ALL, "All songs", tuple(songs), "" if songs else "No songs were found.", n_brief=0),
        ),
    )


def _songs(results: Iterable[SongResult], provenance: Provenance) -> tuple[list[Song], set[int], int]:
    """The songs of these results, the places of those whose genres this program wrote, and how many are cached."""
    songs: list[Song] = []
    written, n_cached = set[int](), 0
    for result in results:
        persons = provenance.persons(result.path, result.old)
        if result.old and not persons:
            written.add(len(songs))
        songs.append(_song(replace(result, old=persons or result.old)))
        n_cached += result.cached
    return songs, written, n_cached


def _of_written(n_songs: int) -> tuple[tuple[str, str], ...]:
    """How many songs are left out of the comparison, as what they have is this program's."""
    told = f"{counted(n_songs, 'song')} with a genre that genre-tag wrote: not compared"
    return (("written", told),) if n_songs else ()


def all_songs(report: Report) -> tuple[Song, ...]:
    """Every song of a report on a library."""
    return next(section.songs for section in report.sections if isinstance(section, Songs) and section.key == ALL)


def _song(result: SongResult) -> Song:
    """What is told of a song; where it has a genre and was classified as one, the status is still to be found."""
    decision = result.decision
    ranking = decision.ranking if decision else ()
    status, reason = result.status, result.reason
    if decision is not None:  # a song that cannot be written was classified all the same
        status = "untagged" if decision.genres else "unsure"
        shortfall = shortfall_of(result.prediction) if result.prediction else ""
        reason = "; ".join(filter(None, (decision.reason, shortfall)))
    return Song(
        path=str(result.path),
        reference=result.old,
        predicted=decision.genres if decision else (),
        confidence=ranking[0][1] if ranking else None,
        ranking=ranking[:N_RANKED],
        starts_seconds=result.starts_seconds,
        status=status,
        reason=reason,
    )


def _facts(
    paths: Sequence[str],
    songs: Sequence[Song],
    pairs: Sequence[Pair],
    n_cached: int,
    description: Description,
    options: TagOptions,
) -> tuple[tuple[str, str], ...]:
    n_of = Counter(song.status for song in songs)
    n_unclassified = n_of["failed"] + n_of["skipped"]
    n_sure = len(songs) - n_unclassified - n_of["unsure"]
    n_without = sum(not song.reference and song.status in ("untagged", "unsure") for song in songs)
    left_out = "".join(f", {n_of[status]} {status}" for status in ("failed", "skipped") if n_of[status])
    facts = [
        ("library", ", ".join(paths)),
        ("songs", f"{len(songs)}: {n_without} without genre{left_out}"),
        (
            "model",
            f"{description.name}; its confidences: {confidence_scale(description.head, options.decide.aggregate)}",
        ),
        ("predicted", f"{n_sure} sure enough for a genre, {n_of['unsure']} unsure; {n_cached} cached"),
    ]
    if n_of["unsure"] and options.decide.min_confidence is None and description.head.threshold_reason:
        facts.append(("unsure", description.head.threshold_reason))
    facts.append(("agreement", _agreement(pairs)))
    if n_incomparable := sum(pair.verdict == "incomparable" for pair in pairs):
        facts.append(("not compared", f"{counted(n_incomparable, 'song')} of genres the model does not know"))
    return tuple(facts)


def _agreement(pairs: Iterable[Pair]) -> str:
    """Share of the songs that are classified as their tags say."""
    verdicts = [(pair.verdict == "agrees", pair.is_sure) for pair in pairs if pair.verdict != "incomparable"]
    sure = [agrees for agrees, is_sure in verdicts if is_sure]
    if not verdicts:
        return "no song with a genre that the model knows was classified"
    share = f"{sum(agrees for agrees, _ in verdicts) / len(verdicts):.3f} of {counted(len(verdicts), 'song')}"
    return f"{share} with a genre the model knows" + (
        f"; {sum(sure) / len(sure):.3f} of the {len(sure)} it is sure of" if sure else "; it is sure of none"
    )


def _confusion(pairs: Iterable[Pair], vocabulary: Vocabulary) -> Matrix:
    """Songs by the genre in their tag and the one they are classified as."""
    cells = Counter((pair.reference, pair.predicted) for pair in pairs)
    references, predicted = (
        sorted({cell[side] for cell in cells}, key=lambda name: (name not in vocabulary.names, *_by_name(name)))
        for side in (0, 1)
    )
    counts = np.array([cells[row, column] for row in references for column in predicted], np.int64)
    note = (
        "Rows: the genre in the tag; of several the predicted one, else the first the model knows. Columns: the "
        "genre it is most like, sure or not. Tags are translated: what is rap to a tag is Hip-Hop to the model. Where "
        "they differ either may be wrong."
    )
    return Matrix(
        "confusion",
        "Tags and predictions",
        tuple(references),
        tuple(predicted),
        counts.reshape(len(references), len(predicted)),
        note if cells else "None: no song that has a genre was classified.",
    )


def _by_name(name: str) -> tuple[str, str]:
    return name.casefold(), name


def _genres(pairs: Iterable[Pair], songs: Iterable[Song], vocabulary: Vocabulary) -> Table:
    pairs_of: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        pairs_of[pair.reference].append(pair)
    n_classified = Counter(name for song in songs for name in song.predicted)
    rows = []
    for name in pairs_of.keys() | n_classified.keys():
        sure = [pair for pair in pairs_of[name] if pair.is_sure]
        others = Counter(pair.predicted for pair in pairs_of[name] if pair.predicted != name).most_common(1)
        is_known = name in vocabulary.names
        rows.append((
            name,
            len(pairs_of[name]),
            _share_agreed(pairs_of[name]) if is_known else None,
            len(sure),
            _share_agreed(sure) if is_known else None,
            f"{others[0][0]} ({others[0][1]})" if others else "–",
            n_classified[name],
        ))  # fmt: skip
    rows.sort(key=lambda row: (-row[1], -row[6], _by_name(row[0])))
    return Table(
        "genres",
        "Genres",
        (
            *(Column("genre"), Column("tagged", "count"), Column("agree", "share")),
            *(
                Column("sure", "count"),
                Column("sure agree", "share"),
                Column("else predicted as"),
                Column("predicted", "count"),
            ),
        ),
        tuple(rows),
        "Tagged: songs with the genre in their tag, and classified. Agree: share of them predicted as that; none for "
        "genres the model does not know. Sure: those sure enough to be written. Predicted: as it and sure enough, "
        "whatever the tag."
        if rows
        else "None: no song has a genre, and none is predicted surely enough as one.",
    )


def _share_agreed(pairs: Sequence[Pair]) -> float | None:
    return sum(pair.verdict == "agrees" for pair in pairs) / len(pairs) if pairs else None


def disagreements(songs: Iterable[Song]) -> list[Song]:
    """The songs that are classified well enough as something else than their tags say, the most confident first."""
    return sorted((song for song in songs if song.status == "differs"), key=lambda song: -(song.confidence or 0.0))


def _disagreements(songs: Iterable[Song], pairs: Iterable[Pair]) -> Songs:
    n_unsure = sum(pair.verdict == "differs" and not pair.is_sure for pair in pairs)
    more = f" {n_unsure} more where the model is unsure: see --min-confidence." if n_unsure else ""
    title = "Disagreements, the most confident first"
    return _listed("disagreements", title, disagreements(songs), "Look here for wrong tags.", more)


def _wrong_tags(songs: Sequence[Song], contradicted: Sequence[Contradiction]) -> Songs:
    """Songs that still have the tag which they were learned with, and which seems wrong."""
    by_path = {os.path.abspath(song.path): song for song in songs}
    found = []
    for each in contradicted:
        song = by_path.get(each.path)
        names = {genre_key(name) for tag in (song.reference if song else ()) for name in (tag, canonical(tag) or tag)}
        if song is not None and genre_key(each.genre) in names:
            (best, confidence), reason = each.ranking[0], f"{each.genre} got {each.confidence:.2f}"
            found.append(replace(
                song, predicted=(best,), confidence=confidence, ranking=each.ranking, reason=reason,
            ))  # fmt: skip
    note = (
        "By what was learned from this library's own tags without the artist of each song: compared is what songs of "
        "that genre usually get."
    )
    return _listed(WRONG, "Tags that seem wrong, the surest first", found, note)


def wrong_tags(report: Report) -> tuple[Song, ...]:
    """The songs of a report whose tags seem wrong, the surest first."""
    return next((each.songs for each in report.sections if isinstance(each, Songs) and each.key == WRONG), ())


def _untagged(songs: Iterable[Song]) -> Songs:
    found = [song for song in songs if not song.reference and song.status in ("untagged", "unsure")]
    found.sort(key=lambda song: (song.status == "unsure", -(song.confidence or 0.0)))
    note = "With --write-tags genre-tag would write what they are predicted as, but for those it is unsure of."
    return _listed("untagged", "Songs without genre, the most confident first", found, note)


def _unsure(songs: Iterable[Song]) -> Songs:
    return _listed("unsure", "Unsure songs", [song for song in songs if song.status == "unsure"])


def _unclassified(songs: Iterable[Song]) -> Songs:
    found = [song for song in songs if song.status in ("failed", "skipped")]
    return _listed("failed", "Failed and skipped songs", found)


def _listed(key: str, title: str, found: Sequence[Song], note: str = "", more: str = "") -> Songs:
    """A list of songs by themselves; of a long one the beginning, as all songs are in the report once more."""
    if len(found) > MOST_LISTED:
        note = (
            f"The first {MOST_LISTED} of {len(found)}; all are among the songs below, by their status. {note}".strip()
        )
    return Songs(key, title, tuple(found[:MOST_LISTED]), (note if found else "None.") + more)
