"""The arrays of an HDF5 file that nobody vouches for.

HDF5 reads some damaged files for ever, and some crash it. :func:`read` therefore leaves the
reading to a process of its own and waits a limited time for it; ``python -m
dsr_deploy.foreign.hdf5 FILE`` is that process.
"""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
from numpy.typing import NDArray

from dsr_deploy.errors import UserError
from dsr_deploy.hardware.format.json_text import printable
from dsr_deploy.hardware.format.regular_file import read_regular

SIGNATURE: Final = b"\x89HDF\r\n\x1a\n"

MAX_FILE: Final = 1 << 30
MAX_BYTES: Final = 1 << 30
"""Most bytes of all arrays together, unpacked."""
MAX_ITEMS: Final = 100_000
MAX_DEPTH: Final = 16
SECONDS: Final = 60
"""How long the reading may take; a large file takes a few."""

_DAMAGED: Final = (
    *(OSError, RuntimeError, MemoryError, ArithmeticError),
    *(LookupError, ValueError, TypeError, AttributeError),
)
"""What h5py raises where HDF5 stumbles."""


class Hdf5Error(ValueError):
    """A file that is not read; the message is one line and tells why."""


Arrays = dict[str, NDArray[Any]]
_REFUSED: Final = 3
"""Exit code of the process where it says why in one line."""


def read(path: Path, *, seconds: float = SECONDS) -> Arrays:
    """Return every array in the file by its path in it, such as ``node/nodes/fc/weight``.

    Texts are arrays of str.

    Raises
    ------
    UserError
        If the file cannot be read, in one line that names it.
    """
    command = [sys.executable, "-P", "-m", "dsr_deploy.foreign.hdf5", str(path.absolute())]
    try:
        done = subprocess.run(command, capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise UserError(
            f"{path}: HDF5 did not end within {seconds:g} s; the file is damaged, export it again"
        ) from None
    if done.returncode == _REFUSED:
        reason = printable(done.stderr.decode(errors="replace").strip())
        raise UserError(f"{path}: {reason}")
    if done.returncode:
        raise UserError(f"{path}: HDF5 failed on it; the file is damaged, export it again")
    with np.load(io.BytesIO(done.stdout), allow_pickle=False) as packed:
        return {name: packed[name] for name in packed.files}


def from_bytes(data: bytes) -> Arrays:
    """Return every array in the bytes of an HDF5 file, as :func:`read`, in this process.

    Raises
    ------
    Hdf5Error
        If they are not a whole file, or hold more than the limits of this module.
    """
    if not data.startswith(SIGNATURE):
        raise Hdf5Error("not an HDF5 file; export it again")
    arrays: Arrays = {}
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            _collect(file, "", arrays)
    except Hdf5Error:
        raise
    except _DAMAGED as error:
        reason = printable(str(error).partition("\n")[0])
        raise Hdf5Error(f"not a whole HDF5 file ({reason}); export it again") from None
    return arrays


def _collect(group: h5py.Group, place: str, arrays: Arrays, depth: int = 0, used: int = 0) -> int:
    """Add the arrays of ``group`` to ``arrays``, and their bytes to ``used``, which is returned.

    Only what lies in the file itself is followed.
    """
    if depth > MAX_DEPTH:
        raise Hdf5Error(f"groups are nested more than {MAX_DEPTH} deep; export it again")
    for name in group:
        where = f"{place}{name}"
        if not name.isprintable():
            raise Hdf5Error(f"'{printable(where)}': a name of unprintable characters; rename it")
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise Hdf5Error(f"'{printable(where)}' is a link to elsewhere; export it again")
        item = group[name]
        if isinstance(item, h5py.Group):
            used = _collect(item, f"{where}/", arrays, depth + 1, used)
            continue
        if not isinstance(item, h5py.Dataset) or item.external or item.is_virtual:
            raise Hdf5Error(f"'{printable(where)}' is not an array in the file; export it again")
        used += item.nbytes
        if len(arrays) >= MAX_ITEMS or used > MAX_BYTES:
            raise Hdf5Error(
                f"it holds more than {MAX_ITEMS} arrays or {MAX_BYTES} bytes; split the network"
            )
        arrays[where] = _plain(item[()])
    return used


def _plain(value: Any) -> NDArray[Any]:
    """Return a dataset's value without Python objects: texts become str."""
    array = np.asarray(value)
    if array.dtype.kind not in "OS":
        if array.dtype.kind not in "biuf":
            raise Hdf5Error(f"an array of {array.dtype} is no number; export it again")
        return array
    texts = [
        item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item)
        for item in array.ravel()
    ]
    return np.array(texts, dtype=np.str_).reshape(array.shape)


def main() -> int:
    """Write the arrays of the file that the command line names to standard output, as npz."""
    try:
        arrays = from_bytes(read_regular(Path(sys.argv[1]), MAX_FILE))
    except OSError as error:
        sys.stderr.write(f"cannot be read ({error.strerror})")
        return _REFUSED
    except Hdf5Error as error:
        sys.stderr.write(str(error))
        return _REFUSED
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    sys.stdout.buffer.write(buffer.getvalue())
    return 0


if __name__ == "__main__":
    sys.exit(main())
