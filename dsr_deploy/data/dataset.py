"""What a data set is, and loading one by its name.

The readers are imported where they are called: spikingjelly and torchvision take seconds to
import, and the default data set needs neither.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from dsr_deploy import files
from dsr_deploy.augmentation import DEFAULTS, Augmentation
from dsr_deploy.hardware.network import Input

DATASETS: Final = ("digits", "cifar10", "cifar100", "imagenet", "imagefolder", "cifar10-dvs")

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
    name : one of :data:`DATASETS`
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


def load(
    name: str,
    data_dir: str | Path | None = None,
    *,
    timesteps: int,
    image_size: int | None = None,
    augmentation: Augmentation | None = None,
    download: bool = True,
    progress: Progress | None = None,
) -> Dataset:
    """Load a data set.

    Parameters
    ----------
    name : one of :data:`DATASETS`
    data_dir : where its files are, or go when downloaded; ``digits`` needs none.
        A leading ``~/`` is the user's home. ``imagenet`` and ``imagefolder``: ``train/`` and
        ``test/`` or ``val/``, each with a folder per class. ``cifar10-dvs``: ``extract/`` with a
        folder of ``.aedat`` files per class; frames are kept beside it.
    timesteps : number of frames per sample of ``cifar10-dvs``; images have one for all timesteps
    image_size : side of the square to which ``imagenet`` (224 if None) and ``imagefolder``
        (None: the size of its first image) bring their images
    augmentation : what batches for training may do to a sample; None for the data set's own
    download : fetch the files of ``cifar10``, ``cifar100`` and ``cifar10-dvs`` if they are missing
    progress : called while many files are being read

    Raises
    ------
    DataError
        If the name is unknown, or files are missing, damaged or of the wrong kind.
    """
    if name not in DATASETS:
        raise DataError(f"data set '{name}' is unknown; there are {', '.join(DATASETS)}")
    if image_size is not None and name not in ("imagenet", "imagefolder"):
        raise DataError(f"data set '{name}': its image size is fixed; leave image_size out")
    if image_size is not None and image_size < 1:
        raise DataError(f"data set '{name}': image_size {image_size}; it is at least 1")
    augmentation = augmentation or DEFAULTS[name]
    if name == "digits":
        from dsr_deploy.data.images import load_digits

        return load_digits(augmentation)
    if data_dir is None:
        raise DataError(
            f"data set '{name}': its files are needed; give their directory with --data-dir"
        )
    directory = files.at_home(data_dir)
    if name == "cifar10-dvs":
        from dsr_deploy.data.events import load_cifar10_dvs

        return load_cifar10_dvs(directory, timesteps, augmentation, download, progress)
    if name in ("cifar10", "cifar100"):
        from dsr_deploy.data.images import load_cifar

        return load_cifar(name, directory, augmentation, download)
    from dsr_deploy.data.folders import load_imagefolder, load_imagenet

    if name == "imagenet":
        return load_imagenet(directory, image_size or 224, augmentation)
    return load_imagefolder(directory, image_size, augmentation, progress)
