"""Images of the user's own, a folder per class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dsr_deploy.data.augmentation import Augmentation
from dsr_deploy.data.source import Request, Source, TrainingRow

if TYPE_CHECKING:
    from dsr_deploy.data.dataset import Dataset


def _load(request: Request) -> Dataset:
    from dsr_deploy.data.folders import load_imagefolder

    return load_imagefolder(
        request.directory, request.image_size, request.augmentation, request.progress
    )


IMAGEFOLDER: Final = Source(
    "imagefolder",
    _load,
    # not the paper's
    TrainingRow("resnet20", "sgd", epochs=30, lr=0.1, batch_size=64, warmup_epochs=1),
    # Not mirrored: in a user's images left and right may be what tells two classes apart.
    Augmentation(shift=1 / 8, crop=0.08),
    sizes="mixed",
)
