"""What a data set is: samples, labels, and how a pixel becomes a payload."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dsr_deploy.hardware.network import Input

Progress = Callable[[int, int], None]
"""Called with the number of samples read so far and in total."""


class DataError(ValueError):
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


Split = TensorSplit | FolderSplit


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled samples for training and testing.

    Attributes
    ----------
    name : one of :data:`dsr_deploy.data.loading.DATASETS`
    classes : name of each label
    input : how a pixel becomes a payload
    train, test : the samples
    contents : what tells them from others, for training and for testing, see
        :mod:`dsr_deploy.data.digest`; empty if it is not known
    notes : what a user should know of how they were found, a line each
    """

    name: str
    classes: tuple[str, ...]
    input: Input
    train: Split
    test: Split
    contents: tuple[str, str] = ("", "")
    notes: tuple[str, ...] = ()
