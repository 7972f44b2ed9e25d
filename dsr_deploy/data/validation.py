"""A validation part of the training samples: networks are chosen on it, never on the test set."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from dsr_deploy.data.samples import Split, TensorSplit


def hold_out(split: Split, share: float, seed: int) -> tuple[Split, Split | None]:
    """Part ``split`` in two: samples to train on, and samples to choose a network by.

    Stratified: each class gives the same share, rounded, but at least one sample, and keeps at
    least one. The parts follow from the labels, ``share`` and ``seed`` alone, so that every stage
    of a run holds out the same samples.

    Parameters
    ----------
    share : 0 to 0.5 of the samples; 0 holds out none
    seed : decides which ones

    Returns
    -------
    The training part and the validation part, both in the order of ``split``; the second is None
    if no sample is held out.
    """
    labels = split.labels.numpy()
    held = np.zeros(len(labels), dtype=np.bool_)
    rng = np.random.default_rng((seed, len(labels)))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = min(max(1, round(share * len(members))), len(members) - 1)
        held[rng.permutation(members)[:count]] = True
    if not share or not held.any():
        return split, None
    mask = torch.from_numpy(held)
    return _take(split, ~mask), _take(split, mask)


def _take(split: Split, mask: Tensor) -> Split:
    """Return the samples where ``mask``, bool (N,), is true."""
    if isinstance(split, TensorSplit):
        return dataclasses.replace(split, pixels=split.pixels[mask], labels=split.labels[mask])
    files = tuple(file for file, taken in zip(split.files, mask.tolist(), strict=True) if taken)
    return dataclasses.replace(split, files=files, labels=split.labels[mask])
