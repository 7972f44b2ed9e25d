"""The environment of this process: streams, variables and names that libraries depend on.

No import here takes long.
"""

from __future__ import annotations

import logging
import os
import pwd
import warnings
from typing import Any, Final

from dsr_deploy.errors import UserError
from dsr_deploy.text import one_line

MOST_THREADS: Final = 4096
"""With more, starting threads fails and ends the process."""

_NAMES: Final = ("LOGNAME", "USER", "LNAME", "USERNAME")


def prepare() -> None:
    """Set up this process, before anything imports torch, numba or matplotlib."""
    _open_standard_streams()
    # On a shared machine, threads that spin while they wait for each other make training ten
    # times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # Commands inherit the backend of a notebook, which cannot be imported outside of it.
    os.environ["MPLBACKEND"] = "agg"
    # matplotlib logs where it keeps its fonts.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    warnings.formatwarning = _warning
    _name_user()


def check() -> None:
    """Check variables whose values would make a library fail at import or end the process.

    Raises
    ------
    UserError
        If a variable is wrong; the message names it.
    """
    text = os.environ.get("NUMBA_NUM_THREADS")
    if text is None:
        return
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= MOST_THREADS):
        raise UserError(
            f"environment variable NUMBA_NUM_THREADS must be 1 to {MOST_THREADS}, not {text!r}; "
            "unset it for one thread per core"
        )


def _open_standard_streams() -> None:
    """Open closed streams: else the next file takes their number and receives what is printed."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:  # noqa: PERF203
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def _name_user() -> None:
    """Give a user without an entry in the password file, as in containers, a name and a home.

    torch asks for the name of a folder for its caches; without a home, ``~`` is taken for the name
    of a folder.
    """
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        if not any(os.environ.get(name) for name in _NAMES):
            os.environ["USER"] = f"uid{os.getuid()}"
        os.environ.setdefault("HOME", "/")


def _warning(message: Warning | str, *_: Any, **__: Any) -> str:
    """Return a library's warning as one line."""
    return f"warning: {one_line(str(message).partition(chr(10))[0])}\n"
