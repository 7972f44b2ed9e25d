"""The UCI digits: small, real, and carried by scikit-learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dsr_deploy.data.augmentation import Augmentation
from dsr_deploy.data.source import Request, Source, TrainingRow

if TYPE_CHECKING:
    from dsr_deploy.data.dataset import Dataset

TEST_SAMPLES: Final = 360
SPLIT_SEED: Final = 0


def _load(request: Request) -> Dataset:
    """Return the 1,797 handwritten digits of UCI that scikit-learn carries, 8x8, no download.

    Pixels are 0 to 16 and become the payloads -8 to 8, exactly: value ``payload / 8``, -1 to 1.
    """
    import numpy as np
    import torch
    from sklearn.datasets import load_digits as read_digits
    from sklearn.model_selection import train_test_split

    from dsr_deploy.data import digest
    from dsr_deploy.data.dataset import Dataset
    from dsr_deploy.data.samples import TensorSplit
    from dsr_deploy.hardware.network import Input

    images, labels = read_digits(return_X_y=True)
    pixels = torch.from_numpy(images.astype(np.uint8)).reshape(-1, 1, 8, 8)
    targets = torch.from_numpy(labels.astype(np.int64))
    train, test = train_test_split(
        np.arange(len(targets)),
        test_size=TEST_SAMPLES,
        random_state=SPLIT_SEED,
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
            pixels[train],
            targets[train],
            request.augmentation.padding(8, 8),
            request.augmentation.flip,
        ),
        test=TensorSplit(pixels[test], targets[test]),
        contents=(digest.of_pixels(pixels[train]), digest.of_pixels(pixels[test])),
    )


DIGITS: Final = Source(
    "digits",
    _load,
    # not the paper's
    TrainingRow("resnet-tiny", "sgd", epochs=30, lr=0.1, batch_size=64, warmup_epochs=1),
    Augmentation(shift=1 / 8),
    timesteps=8,
    needs_files=False,
)
