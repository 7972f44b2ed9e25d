"""A data set by its name.

The readers are imported where they are called: torchvision takes seconds to import, and the
default data set does without.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from dsr_deploy import files
from dsr_deploy.data.augmentation import DEFAULTS, Augmentation
from dsr_deploy.data.dataset import DataError, Dataset, Progress

DATASETS: Final = ("digits", "cifar10", "cifar100", "imagenet", "imagefolder", "cifar10-dvs")


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
