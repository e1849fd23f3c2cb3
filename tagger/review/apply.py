"""What was decided on songs is written into them: by the journal that all writing goes through, or only shown."""

from __future__ import annotations

import logging
from functools import partial

from tagger.errors import TagError
from tagger.pipeline.run import SongResult
from tagger.review.plan import REJECT, Row, join_genres
from tagger.tags.genre import join_genres as as_values
from tagger.tags.genre import read_genres
from tagger.tags.genre import split_genres as genres_in_values
from tagger.tags.identity import identify
from tagger.tags.journal import Journal
from tagger.tags.policies import WriteOptions
from tagger.tags.swap import check_writable

logger = logging.getLogger(__name__)

#: Why a song that was decided on is left alone: it is not, or not tagged, as the plan has it.
OTHER_SONG = "is another recording than when the plan was made"
OTHER_GENRE = "its genre was changed since the plan was made"


def apply_row(row: Row, options: WriteOptions, journal: Journal | None) -> SongResult:
    """The status of a song once it has the genres that were decided on; without a journal nothing is written.

    A song that is not as the plan has it is skipped. Raises JournalError, with the song as it was.
    """
    result = partial(SongResult, row.path, old=row.old, new=row.old, identity=row.identity)
    new = row.wanted
    if new is None:
        return result(status="kept", reason="rejected" if row.decision == REJECT else "undecided")
    try:
        if identify(row.path) != row.identity:
            return result(status="skipped", reason=OTHER_SONG)
        values = read_genres(row.path)
        old = genres_in_values(values, options.separator)
        if old == new:
            return result(status="unchanged", old=old, new=new)
        if join_genres(old) != join_genres(row.old):
            return result(status="skipped", old=old, new=old, reason=OTHER_GENRE)
        if journal is None:
            check_writable(row.path, options.hardlinks)
            return result(status="tagged", new=new)
        is_written = journal.write_genres(
            row.path,
            as_values(new, options.separator),
            instead_of=values,
            id3v23_multi=options.id3v23_multi,
            preserve_mtime=options.preserve_mtime,
            hardlinks=options.hardlinks,
        )
        return result(status="tagged" if is_written else "unchanged", new=new, written=is_written)
    except TagError as error:
        logger.debug("%s is left alone", row.path, exc_info=True)
        return result(status="failed" if error.refused else "skipped", reason=error.reason)
    except FileNotFoundError:
        return result(status="failed", reason="no such file")
    except (OSError, ValueError) as error:
        logger.debug("%s is left alone", row.path, exc_info=True)
        return result(status="failed", reason=getattr(error, "strerror", None) or str(error))
