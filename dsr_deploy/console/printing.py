"""Standard output: escapes control characters, and treats a closed pipe as no error."""

from __future__ import annotations

import errno
import os
import sys
from typing import Any

import click

from dsr_deploy.errors import UserError
from dsr_deploy.parallel.rank import this_rank
from dsr_deploy.text import escaped


def echo(text: str) -> None:
    """Print to standard output.

    Raises
    ------
    UserError
        If it cannot be written.
    click.exceptions.Exit
        With code 1 if the reader has closed the pipe.
    """
    try:
        click.echo(escaped(text))
    except OSError as error:
        lost_output(error)


def result(as_json: bool, value: Any, text: str) -> None:
    """Print a command's result, as JSON or as text, in the first process only."""
    from dsr_deploy.console import summaries  # which takes long to import

    if this_rank().first:
        echo(summaries.to_json(value) if as_json else text)


def lost_output(error: OSError) -> None:
    """Raise the error of :func:`echo` for standard output that cannot be written."""
    # Discard the rest of the buffer, or the interpreter fails again when it exits.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if error.errno == errno.EPIPE:
        raise click.exceptions.Exit(1) from None
    raise UserError(
        f"standard output: cannot be written ({error.strerror}); send it elsewhere"
    ) from None
