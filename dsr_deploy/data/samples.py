"""Labelled samples, in memory or in image files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dsr_deploy.errors import UserError

Progress = Callable[[int, int], None]
"""Called with the number of samples read so far and in total."""


class DataError(UserError):
    """A data set is not there, or is not what it must be."""


@dataclass(frozen=True, eq=False)
class TensorSplit:
    """Samples in memory.

    Attributes
    ----------
    pixels : uint8 (N, C, H, W), or (N, T, C, H, W) of a framed input
    labels : int64 (N,)
    padding : augmentation shifts a sample by up to so many pixels, background 0 moves in
    flip : augmentation mirrors every second sample, left to right
    """

    pixels: Tensor
    labels: Tensor
    padding: int = 0
    flip: bool = False

    def __post_init__(self) -> None:
        if self.pixels.dtype != torch.uint8 or self.labels.dtype != torch.int64:
            raise DataError(
                f"samples of {self.pixels.dtype} with labels of {self.labels.dtype}; "
                "they are torch.uint8 and torch.int64"
            )
        if len(self.pixels) != len(self.labels):
            raise DataError(f"{len(self.pixels)} samples with {len(self.labels)} labels")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def frames(self) -> int:
        """Frames of a sample; 1 for an image."""
        return self.pixels.shape[1] if self.pixels.ndim == 5 else 1


@dataclass(frozen=True, eq=False)
class FolderSplit:
    """Samples in image files, decoded when they are needed.

    Attributes
    ----------
    files : path of each image
    labels : int64 (N,)
    shape : (C, H, W) of a decoded sample
    padding, flip : see :class:`TensorSplit`
    resize : False for images that have this shape already; True to cut them to it: a random
        part of random size under augmentation, else the centre
    crop : smallest part that augmentation cuts, as a share of an image's area; 1 for the centre
    convert : True to convert images of another mode (gray, CMYK, palette) to that of ``shape``,
        False to refuse them
    """

    files: tuple[str, ...]
    labels: Tensor
    shape: tuple[int, int, int]
    padding: int = 0
    flip: bool = False
    resize: bool = False
    crop: float = 1.0
    convert: bool = False

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def frames(self) -> int:
        """Frames of a sample: an image is one."""
        return 1


Split = TensorSplit | FolderSplit
