"""Batches of payloads, the same in every run.

Order and augmentation follow from the seed, the epoch and the position in the epoch alone: a
resumed run, any number of worker processes and any number of ranks see the same samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dsr_deploy.data.decoding import stream
from dsr_deploy.data.encoding import encode
from dsr_deploy.data.samples import DataError, Split, TensorSplit
from dsr_deploy.hardware.network import Input

MIN_SAMPLES_PER_RANK = 2
"""BatchNorm cannot train on a single sample."""


@dataclass(frozen=True, eq=False)
class Draws:
    """What happens to the sample at each position of an epoch.

    Attributes
    ----------
    shift : int64 (N, 2), window of the padded image: 0 to twice the padding, down and right
    flip : bool (N,), mirrored or not
    cut : int64 (N,), seeds of the random parts that are cut out of large images
    """

    shift: Tensor
    flip: Tensor
    cut: Tensor


@dataclass(frozen=True, eq=False)
class Batches:
    """The batches of one epoch for one rank; made by :func:`batches`.

    Iterating yields payloads, int8 (N, C, H, W) or (N, T, C, H, W), and labels, int64 (N,).
    """

    split: Split
    input: Input
    order: Tensor
    shares: tuple[tuple[int, int], ...]
    draws: Draws | None

    def __len__(self) -> int:
        return len(self.shares)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for (start, stop), pixels in zip(self.shares, self._pixels(), strict=True):
            if self.draws is not None:
                shift = self.draws.shift[start:stop]
                flip = self.draws.flip[start:stop]
                pixels = _shift_and_flip(pixels, self.split.padding, shift, flip)
            yield encode(self.input, pixels), self.split.labels[self.order[start:stop]]

    def _pixels(self) -> Iterator[Tensor]:
        """Yield the pixels of each share, before shift and flip."""
        if isinstance(self.split, TensorSplit):
            for start, stop in self.shares:
                yield self.split.pixels[self.order[start:stop]]
        else:
            yield from stream(self.split, map(self._requests, self.shares))

    def _requests(self, share: tuple[int, int]) -> list[tuple[int, int | None]]:
        files = self.order[slice(*share)].tolist()
        if self.draws is None:
            return [(file, None) for file in files]
        return list(zip(files, self.draws.cut[slice(*share)].tolist(), strict=True))


def batches(
    split: Split,
    input: Input,
    batch_size: int,
    *,
    augment: bool,
    seed: int,
    epoch: int,
    shuffle: bool,
    rank: int = 0,
    world: int = 1,
) -> Batches:
    """Return the batches of one epoch, or this rank's part of them.

    Every rank gets a contiguous share of each batch: together they see exactly what one would
    see alone. Shares of a last, incomplete batch may differ by one sample.

    A shuffled epoch is for training: its last batch is left out if it has fewer than two samples
    per rank, since BatchNorm cannot train on one. Otherwise every sample occurs.

    Parameters
    ----------
    split, input : of a :class:`~dsr_deploy.data.Dataset`
    batch_size : samples per batch, of all ranks together
    augment : shift, flip and cut as the split says
    seed, epoch : determine order and augmentation; at least 0
    shuffle : random order, else that of the split
    rank, world : number of this process, of how many

    Raises
    ------
    DataError
        If there are too few samples or a number is out of its range. While iterating: if a file
        is damaged.
    """
    each = MIN_SAMPLES_PER_RANK if shuffle else 1
    smallest = each * world
    fewer = " or start fewer processes" if world > 1 else ""
    if not 0 <= rank < world:
        raise DataError(f"batches: process {rank} of {world}; they are 0 to {world - 1}")
    if min(seed, epoch) < 0:
        raise DataError(f"batches: seed {seed}, epoch {epoch}; both are at least 0")
    # first, since a caller may limit the batch size to what the split has
    if len(split) < (smallest if shuffle else 1):
        raise DataError(
            f"batches: a split of size {len(split)}, processes: {world}; each process needs "
            f"at least {each} samples; add some to the data set{fewer}"
        )
    if batch_size < smallest:
        raise DataError(
            f"batches: batch size {batch_size}, processes: {world}; each process needs "
            f"at least {each} samples; raise the batch size{fewer}"
        )
    n = len(split)
    order = _generator(seed, epoch, 0).permutation(n) if shuffle else np.arange(n)
    shares = []
    for start in range(0, n, batch_size):
        size = min(batch_size, n - start)
        if shuffle and size < smallest:
            break
        shares.append((start + size * rank // world, start + size * (rank + 1) // world))
    return Batches(
        split=split,
        input=input,
        order=torch.from_numpy(order),
        shares=tuple(shares),
        draws=_draw(split, seed, epoch) if augment else None,
    )


def _generator(seed: int, epoch: int, purpose: int) -> np.random.Generator:
    return np.random.default_rng((seed, epoch, purpose))


def _draw(split: Split, seed: int, epoch: int) -> Draws:
    """Draw for the whole epoch at once, so that a sample depends on its position alone."""
    n = len(split)
    shift = _generator(seed, epoch, 1).integers(0, 2 * split.padding + 1, size=(n, 2))
    flip = _generator(seed, epoch, 2).integers(0, 2, size=n).astype(np.bool_)
    cut = _generator(seed, epoch, 3).integers(0, 1 << 62, size=n)
    return Draws(
        shift=torch.from_numpy(shift),
        flip=torch.from_numpy(flip & split.flip),
        cut=torch.from_numpy(cut),
    )


def _shift_and_flip(pixels: Tensor, padding: int, shift: Tensor, flip: Tensor) -> Tensor:
    """Cut a window out of each padded sample and mirror it; all frames of a sample alike."""
    n, height, width = len(pixels), *pixels.shape[-2:]
    if padding:
        planes = F.pad(pixels.reshape(n, -1, height, width), (padding,) * 4)
        windows = planes.unfold(2, height, 1).unfold(3, width, 1)
        # (n, C, 2 * padding + 1, 2 * padding + 1, H, W): one window per sample
        pixels = windows[torch.arange(n), :, shift[:, 0], shift[:, 1]].reshape(pixels.shape)
    mirrored = flip.reshape(-1, *[1] * (pixels.ndim - 1))
    return torch.where(mirrored, pixels.flip(-1), pixels)
