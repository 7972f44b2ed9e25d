"""CIFAR-10 and CIFAR-100, read and downloaded by torchvision."""

from __future__ import annotations

import contextlib
import warnings
from functools import partial
from typing import TYPE_CHECKING, Final

from dsr_deploy.data.augmentation import Augmentation
from dsr_deploy.data.source import Request, Source, TrainingRow

if TYPE_CHECKING:
    from dsr_deploy.data.dataset import Dataset

# Per channel over all pixels of the training images, divided by 255.
NORMALISATION: Final = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
}

# Table S3; C.4 for 5 timesteps.
ROW: Final = TrainingRow("resnet18", "sgd", epochs=200, lr=0.1, batch_size=128, lr_of_few=0.05)

# The paper's: 4 of 32 pixels.
AUGMENTATION: Final = Augmentation(flip=True, shift=1 / 8)


def _load(name: str, request: Request) -> Dataset:
    """Return ``cifar10`` or ``cifar100``, read and downloaded by torchvision.

    Raises
    ------
    DataError
        If the files are missing or damaged and cannot be downloaded.
    """
    import numpy as np
    import torch
    from torchvision.datasets import CIFAR10 as READER10
    from torchvision.datasets import CIFAR100 as READER100

    from dsr_deploy.data import digest
    from dsr_deploy.data.dataset import Dataset
    from dsr_deploy.data.encoding import image_input
    from dsr_deploy.data.samples import DataError, TensorSplit

    directory, download = request.directory, request.download
    reader = READER10 if name == "cifar10" else READER100
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
                "data_dir"
            ) from None
        pixels = torch.from_numpy(np.ascontiguousarray(part.data.transpose(0, 3, 1, 2)))
        parts.append((pixels, torch.tensor(part.targets, dtype=torch.int64)))
    mean, std = NORMALISATION[name]
    return Dataset(
        name=name,
        classes=tuple(part.classes),
        input=image_input((3, 32, 32), mean, std),
        train=TensorSplit(
            *parts[0], request.augmentation.padding(32, 32), request.augmentation.flip
        ),
        test=TensorSplit(*parts[1]),
        contents=(digest.of_pixels(parts[0][0]), digest.of_pixels(parts[1][0])),
    )


CIFAR10: Final = Source(
    "cifar10", partial(_load, "cifar10"), ROW, AUGMENTATION, table_timesteps=(5, 10, 15, 20)
)
CIFAR100: Final = Source(
    "cifar100", partial(_load, "cifar100"), ROW, AUGMENTATION, table_timesteps=(5, 10, 15, 20)
)
