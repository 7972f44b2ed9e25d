"""Images that come as arrays: the UCI digits, CIFAR-10 and CIFAR-100."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path
from typing import Final

import numpy as np
import torch

from dsr_deploy.data import digest
from dsr_deploy.data.augmentation import DEFAULTS, Augmentation
from dsr_deploy.data.dataset import DataError, Dataset, TensorSplit
from dsr_deploy.data.encoding import image_input
from dsr_deploy.hardware.network import Input

DIGITS_TEST_SAMPLES: Final = 360
DIGITS_SPLIT_SEED: Final = 0

# Per channel over all pixels of the training images, divided by 255.
CIFAR_NORMALISATION: Final = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
}


def load_digits(augmentation: Augmentation = DEFAULTS["digits"]) -> Dataset:
    """Return the 1,797 handwritten digits of UCI that scikit-learn carries, 8x8, no download.

    Pixels are 0 to 16 and become the payloads -8 to 8, exactly: value ``payload / 8``, -1 to 1.
    """
    from sklearn.datasets import load_digits as read_digits
    from sklearn.model_selection import train_test_split

    images, labels = read_digits(return_X_y=True)
    pixels = torch.from_numpy(images.astype(np.uint8)).reshape(-1, 1, 8, 8)
    targets = torch.from_numpy(labels.astype(np.int64))
    train, test = train_test_split(
        np.arange(len(targets)),
        test_size=DIGITS_TEST_SAMPLES,
        random_state=DIGITS_SPLIT_SEED,
        stratify=labels,
    )
    return Dataset(
        name="digits",
        classes=tuple("0123456789"),
        # (p / 16 - 1/2) / (1/2 * 1/8) = p - 8, all powers of two
        input=Input(
            shape=(1, 8, 8),
            mean=(0.5,),
            std=(0.5,),
            pixel_scale=1 / 16,
            step=1 / 8,
            low=-8,
            high=8,
        ),
        train=TensorSplit(
            pixels[train], targets[train], augmentation.padding(8, 8), augmentation.flip
        ),
        test=TensorSplit(pixels[test], targets[test]),
        contents=(digest.of_pixels(pixels[train]), digest.of_pixels(pixels[test])),
    )


def load_cifar(name: str, directory: Path, augmentation: Augmentation, download: bool) -> Dataset:
    """Return ``cifar10`` or ``cifar100``, read and downloaded by torchvision.

    Raises
    ------
    DataError
        If the files are missing or damaged and cannot be downloaded.
    """
    from torchvision.datasets import CIFAR10, CIFAR100

    reader = CIFAR10 if name == "cifar10" else CIFAR100
    place = directory / reader.base_folder
    missing = [folder for folder in (directory, *directory.parents) if not folder.exists()]
    parts = []
    for train in (True, False):
        try:
            with warnings.catch_warnings():
                # numpy 2.4 warns about the old pickles that these data sets consist of
                warnings.simplefilter("ignore")
                part = reader(directory, train=train, download=download)
        except (OSError, RuntimeError) as error:
            for folder in missing:
                with contextlib.suppress(OSError):  # it is not there or not empty
                    folder.rmdir()
            # torchvision compares checksums before it unpickles anything
            reason = (
                f"the download failed ({error})" if download else "files are missing or damaged"
            )
            raise DataError(
                f"{place}: {reason}; unpack {reader.url} into {directory}, or name its place with "
                "--data-dir"
            ) from None
        pixels = torch.from_numpy(np.ascontiguousarray(part.data.transpose(0, 3, 1, 2)))
        parts.append((pixels, torch.tensor(part.targets, dtype=torch.int64)))
    mean, std = CIFAR_NORMALISATION[name]
    return Dataset(
        name=name,
        classes=tuple(part.classes),
        input=image_input((3, 32, 32), mean, std),
        train=TensorSplit(*parts[0], augmentation.padding(32, 32), augmentation.flip),
        test=TensorSplit(*parts[1]),
        contents=(digest.of_pixels(parts[0][0]), digest.of_pixels(parts[1][0])),
    )
