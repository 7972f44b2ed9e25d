"""Standard output: text goes there escaped, and a closed pipe is no error."""

from __future__ import annotations

import errno
import os
import sys

import click

from dsr_deploy.errors import UserError
from dsr_deploy.text import escaped


def echo(text: str) -> None:
    """Print to standard output.

    Raises
    ------
    UserError
        If it cannot be written.
    click.exceptions.Exit
        With code 1 if who reads has seen enough.
    """
    try:
        click.echo(escaped(text))
    except OSError as error:
        lost_output(error)


def lost_output(error: OSError) -> None:
    """Raise what :func:`echo` raises where standard output could not be written."""
    # What is left in the buffer goes nowhere, or the interpreter fails at its end once more.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if error.errno == errno.EPIPE:
        raise click.exceptions.Exit(1) from None
    raise UserError(
        f"standard output: cannot be written ({error.strerror}); send it elsewhere"
    ) from None
