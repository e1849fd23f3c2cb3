"""What can go wrong in a way that a person can do something about: one base, and the kinds that callers tell apart.

Errors of libraries and of the system are given one of these names where they come in; the command line turns each into
one line and an exit code (`cli.main`).
"""

from __future__ import annotations

from os import PathLike, fspath


class GenreTagError(Exception):
    """Trouble with `path` (a file, folder, model, address; "" where the reason says all): in one line, the `reason`."""

    def __init__(self, path: str | PathLike[str], reason: str) -> None:
        super().__init__(path, reason)  # both, or it could not be sent from one process to another
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"{fspath(self.path)}: {self.reason}" if fspath(self.path) else self.reason


class SettingsError(GenreTagError):
    """A settings file or map of the user that cannot be used; the reason names the line or the key."""


class AudioError(GenreTagError):
    """A song that cannot be had or decoded."""


class TagError(GenreTagError):
    """A song that is left as it is. `refused`: damaged or not provably safe; otherwise skipped by a policy.

    `is_lasting`: it would be so again, while the file is the same; otherwise the system or another program is to blame.
    """

    def __init__(self, path: str | PathLike[str], reason: str, refused: bool = True, is_lasting: bool = True) -> None:
        super().__init__(path, reason)
        self.args = (path, reason, refused, is_lasting)
        self.refused, self.is_lasting = refused, is_lasting


class JournalError(GenreTagError):
    """A journal that cannot be written or read: no song may be written without one."""


class ModelError(GenreTagError):
    """A checkpoint, device or precision that cannot be used; the reason names a way out."""


class RunError(GenreTagError):
    """A run folder, or its log of predictions, that nothing can be told of; the reason names a way out."""


class OutputError(GenreTagError):
    """A file of ours (record, report, playlist, results) that cannot be written or read again."""


class MissingExtraError(GenreTagError):
    """A command that needs libraries which are not installed; the reason names what to install."""


class ClusterError(GenreTagError):
    """A cluster that cannot be reached, or does not go on."""
