"""Data sets in folders of image files, one folder per class."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from dsr_deploy.augmentation import DEFAULTS, Augmentation
from dsr_deploy.data.dataset import DataError, Dataset, FolderSplit, Progress, Split, TensorSplit
from dsr_deploy.data.decoding import MODES, Request, open_image, read, stream
from dsr_deploy.data.encoding import image_input
from dsr_deploy.hardware.json_text import LONGEST_TEXT

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)

SMALL_IMAGE: Final = 64
"""Images up to this side are taken as they are, larger ones are cut to size as ImageNet's."""

IN_MEMORY_BYTES: Final = 1 << 30
STATISTICS_SAMPLES: Final = 5000


def load_imagenet(
    directory: Path, image_size: int, augmentation: Augmentation = DEFAULTS["imagenet"]
) -> Dataset:
    """Return ImageNet, read from disk while training.

    Training images are random parts of random size; test images are resized to 8/7 of
    ``image_size`` (256 for 224) and cut to their centre.

    Raises
    ------
    DataError
        If folders are missing, empty or do not match.
    """
    shape = (3, image_size, image_size)
    # ImageNet's own test/ has no labels, so val/ goes first
    classes, train, test = _splits(directory, ("val", "test"), shape)
    return Dataset(
        name="imagenet",
        classes=classes,
        input=image_input(shape, IMAGENET_MEAN, IMAGENET_STD),
        # a few of its images are gray or CMYK
        train=replace(
            train, resize=True, crop=augmentation.crop, flip=augmentation.flip, convert=True
        ),
        test=replace(test, resize=True, convert=True),
    )


def load_imagefolder(
    directory: Path,
    image_size: int | None,
    augmentation: Augmentation = DEFAULTS["imagefolder"],
    progress: Progress | None = None,
) -> Dataset:
    """Return a data set of one's own.

    Images of up to 64 pixels a side are taken as they are and must all have the size of the
    first; they are shifted in training. Larger ones, and those whose size is not ``image_size``,
    are cut as ImageNet's. The first training image says whether all are gray or coloured. Mean and
    standard deviation are those of at most 5,000 training images, evenly spread.

    Up to 1 GB of pixels are decoded here and now, more are read from disk while training; a
    damaged file then shows when it is read.

    Raises
    ------
    DataError
        If folders are missing, empty or do not match, or an image is damaged or has another size
        or mode than the first.
    """
    classes, train, test = _splits(directory, ("test", "val"), (1, 1, 1))
    first = open_image(train.files[0])
    channels = {mode: channels for channels, mode in MODES.items()}.get(first.mode)
    if channels is None:
        raise DataError(
            f"{train.files[0]}: an image of mode {first.mode}; "
            "convert all to gray (L) or colour (RGB)"
        )
    height, width = (image_size, image_size) if image_size else (first.height, first.width)
    small = max(height, width) <= SMALL_IMAGE and first.size == (width, height)
    shape = (channels, height, width)
    train = replace(
        train,
        shape=shape,
        resize=not small,
        flip=augmentation.flip,
        padding=augmentation.padding(height, width) if small else 0,
        crop=augmentation.crop,
    )
    test = replace(test, shape=shape, resize=not small)
    total = len(train) + len(test)
    splits: tuple[Split, Split] = (train, test)
    if small and total * channels * height * width <= IN_MEMORY_BYTES:
        splits = (_decoded(train, 0, total, progress), _decoded(test, len(train), total, progress))
    mean, std = _statistics(splits[0])
    return Dataset("imagefolder", classes, image_input(shape, mean, std), *splits)


def _splits(
    directory: Path, tests: tuple[str, str], shape: tuple[int, int, int]
) -> tuple[tuple[str, ...], FolderSplit, FolderSplit]:
    """Return the classes, and the files for training and testing."""
    if not directory.is_dir():
        raise DataError(f"{directory}: there is no such directory")
    if not (directory / "train").is_dir():
        raise DataError(f"{directory}: there is no folder train/ with a folder per class in it")
    test = next((directory / name for name in tests if (directory / name).is_dir()), None)
    if test is None:
        raise DataError(f"{directory}: there is neither test/ nor val/ beside train/")
    classes, train_split = _list_files(directory / "train", shape)
    test_classes, test_split = _list_files(test, shape)
    if classes != test_classes:
        differing = sorted(set(classes) ^ set(test_classes))
        raise DataError(
            f"{directory}: train/ and {test.name}/ have different classes; "
            f"only one has {_few(differing)}"
        )
    return classes, train_split, test_split


def _list_files(folder: Path, shape: tuple[int, int, int]) -> tuple[tuple[str, ...], FolderSplit]:
    """Return the classes and files of a folder; what has a name that starts with a dot is left out.

    Such are ``.DS_Store`` and ``.ipynb_checkpoints``, the latter with copies of images.
    """
    from torchvision.datasets.folder import make_dataset

    names = sorted(
        entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != "."
    )
    if not names:
        raise DataError(f"{folder}: it is empty; a folder per class belongs here")
    for name in names:
        if len(name) > LONGEST_TEXT or not name.isprintable():
            raise DataError(
                f"{folder}: a folder named {ascii(name)[:60]}; a class is named with at most "
                f"{LONGEST_TEXT} printable characters: rename it"
            )
    _check_links(folder)
    # Not by extension: a file that is no image is an error later, not left out in silence.
    samples = make_dataset(
        folder,
        {name: label for label, name in enumerate(names)},
        is_valid_file=lambda path: f"{os.sep}." not in path[len(str(folder)) :],
        allow_empty=True,
    )
    labels = torch.tensor([label for _, label in samples], dtype=torch.int64)
    counts = torch.bincount(labels, minlength=len(names))
    empty = [name for name, count in zip(names, counts.tolist(), strict=True) if not count]
    if empty:
        raise DataError(f"{folder}: there is no image of {_few(empty)}")
    files = tuple(path for path, _ in samples)
    return tuple(names), FolderSplit(files, labels, shape)


def _check_links(folder: Path) -> None:
    """Refuse links that lead to images which are found without them, or in circles."""
    seen: dict[str, str] = {}
    for path, _, _ in os.walk(folder, followlinks=True):
        place = os.path.realpath(path)
        if place in seen:
            raise DataError(f"{path}: the same folder as {seen[place]}; remove one of the two")
        seen[place] = path


def _few(names: list[str]) -> str:
    rest = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(f"'{name}'" for name in names[:5]) + rest


def _decoded(split: FolderSplit, before: int, total: int, progress: Progress | None) -> TensorSplit:
    """Return a split with its files in memory; ``before`` of ``total`` are there already."""

    def advance(done: int, _: int) -> None:
        if progress is not None:
            progress(before + done, total)

    pixels = read(split, range(len(split)), advance)
    return TensorSplit(pixels, split.labels, split.padding, split.flip)


def _statistics(split: Split) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation per channel, of pixels divided by 255."""
    sample = np.linspace(0, len(split) - 1, min(len(split), STATISTICS_SAMPLES)).astype(np.int64)
    if isinstance(split, TensorSplit):
        histogram = _histogram(split.pixels[torch.from_numpy(sample)])
    else:
        requests: list[list[Request]] = [
            [(int(file), None) for file in sample[start : start + 64]]
            for start in range(0, len(sample), 64)
        ]
        histogram = torch.stack([_histogram(batch) for batch in stream(split, requests)]).sum(dim=0)
    # Whole numbers up to here: the result does not depend on any order of summation.
    value = torch.arange(256, dtype=torch.float64) / 255
    weight = histogram / histogram.sum(dim=1, keepdim=True)
    mean = weight @ value
    variance = (weight * (value - mean[:, None]) ** 2).sum(dim=1)
    # A channel of one colour has nothing to scale. No channel can deviate by more than 1/2: with
    # that it leaves the payloads to the others.
    std = torch.where(variance > 0, variance.sqrt(), 0.5)
    return mean.tolist(), std.tolist()


def _histogram(pixels: Tensor) -> Tensor:
    """Return how often each value occurs per channel, float64 (C, 256) of (N, C, H, W)."""
    channels = pixels.shape[1]
    counts = [torch.bincount(pixels[:, c].flatten(), minlength=256) for c in range(channels)]
    return torch.stack(counts).to(torch.float64)
