"""Files that nobody vouches for: only regular ones are read, and none of any size."""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path
from typing import Final

_KINDS: Final = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
}


def open_regular(path: str | Path) -> BufferedReader:
    """Open a regular file, or a link to one, for reading.

    Anything else is an error at once: to open a FIFO would wait for someone who writes to it, and
    some devices never end.

    Raises
    ------
    OSError
        If the file is not there, may not be read or is of another kind; ``strerror`` says which.
    """
    # Does not wait, and changes nothing for regular files.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
        if kind != stat.S_IFREG:
            name = _KINDS.get(kind, "something else")
            raise OSError(errno.EINVAL, f"it is {name}, not a regular file", str(path))
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def check_regular(path: str | Path) -> None:
    """Make sure that a library, which opens ``path`` itself, finds a regular file there.

    Raises
    ------
    OSError
        As :func:`open_regular`.
    """
    open_regular(path).close()


def read_regular(path: str | Path, most: int) -> bytes:
    """Return what is in a regular file of at most ``most`` bytes.

    Raises
    ------
    OSError
        As :func:`open_regular`, and if the file is larger.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise OSError(errno.EFBIG, f"{size:,} bytes, at most {most:,} are allowed", str(path))
        return file.read(size)
