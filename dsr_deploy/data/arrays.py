"""Arrays in files of numpy, ``.npy`` and ``.npz``: read with checks, however large they are."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsr_deploy.data.samples import DataError
from dsr_deploy.hardware.format.json_text import printable
from dsr_deploy.hardware.format.regular_file import check_regular, open_regular

Array = NDArray[Any]

MOST_UNPACKED: Final = 4 << 30
"""Most bytes that a ``.npz`` may unpack to. A ``.npy`` is not loaded, and has no limit."""


def read_arrays(path: Path) -> dict[str, Array]:
    """Return the arrays of a file by name: those of a ``.npz``, or that of a ``.npy`` as ``""``.

    The file's content decides which it is. A ``.npy`` stays on disk until it is used.

    Raises
    ------
    DataError
        If the file cannot be read, is damaged or of another kind, or holds Python objects.
    """
    try:
        check_regular(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        if zipfile.is_zipfile(path):
            return _unpacked(path)
        return {"": np.lib.format.open_memmap(path, mode="r")}
    except DataError:
        raise
    except Exception as error:  # numpy's readers raise whatever they stumble over
        raise _damaged(path, error) from None


def one_of(arrays: dict[str, Array], path: Path, name: str) -> Array:
    """Return the array of ``path`` called ``name``, or its only one.

    Raises
    ------
    DataError
        If it has several, and none of that name.
    """
    if name in arrays:
        return arrays[name]
    if len(arrays) == 1:
        return next(iter(arrays.values()))
    names = ", ".join(map(printable, sorted(arrays))) or "none"
    raise DataError(f"{path}: no array '{name}' among its arrays ({names}); name one so")


def _unpacked(path: Path) -> dict[str, Array]:
    with zipfile.ZipFile(path) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    if size > MOST_UNPACKED:
        raise DataError(
            f"{path}: {size:,} bytes unpacked, at most {MOST_UNPACKED:,} are allowed; save its "
            "arrays as .npy, which has no limit"
        )
    # not by its path, as numpy leaves a damaged file open
    with open_regular(path) as file, np.load(file, allow_pickle=False) as loaded:
        arrays = {name: loaded[name] for name in loaded.files}
    if strange := [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]:
        raise ValueError(f"'{strange[0]}' is no array")
    return arrays


def _damaged(path: Path, error: Exception) -> DataError:
    reason = printable(str(error).partition("\n")[0], 100) or type(error).__name__
    return DataError(
        f"{path}: no array of numpy, or damaged ({reason}); write it with numpy.save or numpy.savez"
    )
