"""Data sets in folders of image files, one folder per class."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

from dsr_deploy.data.augmentation import Augmentation
from dsr_deploy.data.dataset import Dataset
from dsr_deploy.data.decoding import MODES, open_image, read
from dsr_deploy.data.encoding import image_input
from dsr_deploy.data.folder_tree import find
from dsr_deploy.data.samples import DataError, FolderSplit, Progress, Split, TensorSplit
from dsr_deploy.data.statistics import statistics

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)

SMALL_IMAGE: Final = 64
"""Images up to this side are taken as they are, larger ones are cut to size as ImageNet's."""

IN_MEMORY_BYTES: Final = 1 << 30


def load_imagenet(directory: Path, image_size: int, augmentation: Augmentation) -> Dataset:
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
    found = find(directory, ("val", "test"))
    for part in (found.train, found.test):
        open_image(part.files[0])  # if nothing can be read, no training is begun
    train, test = (FolderSplit(p.files, p.labels, shape) for p in (found.train, found.test))
    return Dataset(
        name="imagenet",
        classes=found.classes,
        input=image_input(shape, IMAGENET_MEAN, IMAGENET_STD),
        # a few of its images are gray or CMYK
        train=replace(
            train, resize=True, crop=augmentation.crop, flip=augmentation.flip, convert=True
        ),
        test=replace(test, resize=True, convert=True),
        contents=found.contents,
        notes=found.notes,
    )


def load_imagefolder(
    directory: Path,
    image_size: int | None,
    augmentation: Augmentation,
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
    found = find(directory, ("test", "val"))
    first = open_image(found.train.files[0])
    open_image(found.test.files[0])  # now, though it may be needed after an epoch only
    channels = {mode: channels for channels, mode in MODES.items()}.get(first.mode)
    if channels is None:
        raise DataError(
            f"{found.train.files[0]}: an image of mode {first.mode}; "
            "convert all to gray (L) or colour (RGB)"
        )
    height, width = (image_size, image_size) if image_size else (first.height, first.width)
    small = max(height, width) <= SMALL_IMAGE and first.size == (width, height)
    shape = (channels, height, width)
    train = FolderSplit(
        found.train.files,
        found.train.labels,
        shape,
        resize=not small,
        flip=augmentation.flip,
        padding=augmentation.padding(height, width) if small else 0,
        crop=augmentation.crop,
    )
    test = FolderSplit(found.test.files, found.test.labels, shape, resize=not small)
    total = len(train) + len(test)
    splits: tuple[Split, Split] = (train, test)
    if small and total * channels * height * width <= IN_MEMORY_BYTES:
        splits = (_decoded(train, 0, total, progress), _decoded(test, len(train), total, progress))
    mean, std = statistics(splits[0])
    input = image_input(shape, mean, std)
    return Dataset(
        "imagefolder", found.classes, input, *splits, contents=found.contents, notes=found.notes
    )


def _decoded(split: FolderSplit, before: int, total: int, progress: Progress | None) -> TensorSplit:
    """Return a split with its files in memory; ``before`` of ``total`` are there already."""

    def advance(done: int, _: int) -> None:
        if progress is not None:
            progress(before + done, total)

    pixels = read(split, range(len(split)), advance)
    return TensorSplit(pixels, split.labels, split.padding, split.flip)
