"""What can go wrong in training in a way that a person can do something about."""

from __future__ import annotations

from tagger.errors import GenreTagError


class DatasetError(GenreTagError):
    """A source that cannot become a dataset, or a dataset that cannot be used; the reason names a way out."""


class TrainingError(GenreTagError):
    """A training that cannot begin or go on; the reason names a way out."""


class SourceError(GenreTagError):
    """A source of recordings that could not be had."""
