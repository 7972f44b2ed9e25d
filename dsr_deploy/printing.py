"""Text for a terminal: what files and other machines say is shown, never obeyed."""

from __future__ import annotations

import errno
import os
import sys
from typing import Final

import click

from dsr_deploy.errors import UserError

LONGEST_LINE: Final = 1000


def escaped(text: str, keep: str = "\n") -> str:
    r"""Return ``text`` with an escape such as ``\x1b`` for all that is not plainly shown.

    Control characters move the cursor or write the clipboard, others reverse what is read.

    Parameters
    ----------
    keep : characters that may stay
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text
    )


def one_line(text: str) -> str:
    """Return ``text`` escaped, on one line, its middle left out where it is very long."""
    line = escaped(text.strip(), keep="")
    if len(line) <= LONGEST_LINE:
        return line
    half = LONGEST_LINE // 2
    return f"{line[:half]} ... {line[-half:]}"


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
