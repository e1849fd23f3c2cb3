"""How the embedded checkpoint is made: what it classifies, who teaches it, what is written of it.

corpus → teachers → prepare → train → release
"""

import click


class NothingDoneError(click.ClickException):
    """A command that could do nothing of what was asked."""

    exit_code = 3
