"""Whether samples are the same as before: digests of what they are."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from torch import Tensor

from dsr_deploy.data.samples import DataError
from dsr_deploy.hardware.format.regular_file import open_regular

MOST_BYTES: Final = 1 << 30
"""Of image files that are read for their digest; a second or two."""


def of_pixels(pixels: Tensor) -> str:
    """Return the SHA-256 of samples in memory, with their shape."""
    whole = hashlib.sha256(repr(tuple(pixels.shape)).encode())
    for sample in pixels.contiguous().split(256):
        whole.update(sample.numpy())
    return whole.hexdigest()


def of_files(folder: Path, files: Iterable[str]) -> str:
    """Return a SHA-256 of files, by their names within ``folder`` and what they hold.

    Of more than 1 GiB in all, names and sizes count alone: to read ImageNet takes minutes.

    Raises
    ------
    DataError
        If a file cannot be read.
    """
    paths = list(files)
    whole = hashlib.sha256()
    try:
        sizes = [os.stat(path).st_size for path in paths]
        read = sum(sizes) <= MOST_BYTES
        for path, size in zip(paths, sizes, strict=True):
            whole.update(f"{path.removeprefix(str(folder))}\n{size}\n".encode())
            if read:
                with open_regular(path) as file:
                    whole.update(file.read())
    except OSError as error:
        raise DataError(f"{error.filename}: it cannot be read ({error.strerror})") from None
    return whole.hexdigest()
