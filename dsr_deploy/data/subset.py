"""A part of a split, evenly spread or by index."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from dsr_deploy.data.samples import Split, TensorSplit
from dsr_deploy.errors import UserError


def evenly(whole: int, samples: int | None, most: int | None = None) -> NDArray[np.int64]:
    """Return the indices of ``samples`` of ``whole`` samples, evenly spread, in ascending order.

    Test sets often come ordered by class, so that the first ones would be of one class alone.

    Parameters
    ----------
    samples : None for all
    most : where ``samples`` is None, no more than so many

    Raises
    ------
    UserError
        If ``samples`` is no whole number, or there are not so many.
    """
    if samples is None:
        samples = whole if most is None else min(most, whole)
    if not isinstance(samples, int | np.integer):
        raise UserError(f"samples must be a whole number, not {samples!r}")
    if not 1 <= samples <= whole:
        raise UserError(f"samples must be 1 to {whole}, not {samples}")
    return np.arange(samples, dtype=np.int64) * whole // samples


def take(split: Split, samples: NDArray[np.int64]) -> Split:
    """Return the ``samples`` of ``split``, given by their indices, (N,)."""
    index = torch.from_numpy(samples)
    if isinstance(split, TensorSplit):
        return replace(split, pixels=split.pixels[index], labels=split.labels[index])
    names = tuple(split.files[i] for i in samples)
    return replace(split, files=names, labels=split.labels[index])
