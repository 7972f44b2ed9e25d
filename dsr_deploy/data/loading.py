"""A data set by its name."""

from __future__ import annotations

from pathlib import Path

from dsr_deploy import files
from dsr_deploy.data.augmentation import Augmentation
from dsr_deploy.data.dataset import Dataset
from dsr_deploy.data.datasets import DATASETS
from dsr_deploy.data.samples import DataError, Progress
from dsr_deploy.data.source import Request


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
    name : one of :data:`dsr_deploy.data.datasets.DATASETS`
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
    source = DATASETS.get(name)
    if source is None:
        raise DataError(f"data set '{name}': choose one of {', '.join(DATASETS)}")
    if image_size is not None and source.sizes == "fixed":
        raise DataError(f"data set '{name}': its image size is fixed; leave image_size out")
    if image_size is not None and image_size < 1:
        raise DataError(f"data set '{name}': image_size must be at least 1, not {image_size}")
    if data_dir is None and source.needs_files:
        raise DataError(
            f"data set '{name}': its files are needed; give their directory with data_dir"
        )
    return source.load(
        Request(
            directory=files.at_home(data_dir or "."),
            timesteps=timesteps,
            image_size=image_size,
            augmentation=augmentation or source.augmentation,
            download=download,
            progress=progress,
        )
    )
