"""genre-tag: classifies a song, writes its genre."""

__version__ = "0.1.0"
