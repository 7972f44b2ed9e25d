"""A part of a split, evenly spread or by index."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from dsr_deploy.data.dataset import Split, TensorSplit
from dsr_deploy.errors import UserError


def spread(
    split: Split, samples: int | None, most: int | None = None
) -> tuple[Split, NDArray[np.int64]]:
    """Return ``samples`` samples of ``split``, evenly spread, and their indices.

    Test sets often come ordered by class, so that the first ones would be of one class alone.

    Parameters
    ----------
    samples : None for all
    most : where ``samples`` is None, no more than so many

    Raises
    ------
    UserError
        If there are not so many.
    """
    whole = len(split)
    if samples is None and most is not None:
        samples = min(most, whole)
    if samples is None:
        return split, np.arange(whole)
    if not 1 <= samples <= whole:
        raise UserError(f"samples must be 1 to {whole}, not {samples}")
    chosen = np.arange(samples, dtype=np.int64) * whole // samples
    return take(split, chosen), chosen


def take(split: Split, samples: NDArray[np.int64]) -> Split:
    """Return the ``samples`` of ``split``, given by their indices, (N,)."""
    index = torch.from_numpy(samples)
    if isinstance(split, TensorSplit):
        return replace(split, pixels=split.pixels[index], labels=split.labels[index])
    names = tuple(split.files[i] for i in samples)
    return replace(split, files=names, labels=split.labels[index])
