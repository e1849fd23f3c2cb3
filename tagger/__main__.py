"""`genre-tag`, and `python -m tagger`, which is the same."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import NoReturn


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit. Ctrl-C ends it without a word while its libraries are still being loaded."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from tagger.cli.main import main as run

    run(arguments)


if __name__ == "__main__":
    main()
