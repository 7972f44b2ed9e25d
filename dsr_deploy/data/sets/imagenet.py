"""ImageNet, from folders on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dsr_deploy.data.augmentation import Augmentation
from dsr_deploy.data.source import Request, Source, TrainingRow

if TYPE_CHECKING:
    from dsr_deploy.data.dataset import Dataset

SIDE: Final = 224


def _load(request: Request) -> Dataset:
    from dsr_deploy.data.folders import load_imagenet

    return load_imagenet(request.directory, request.image_size or SIDE, request.augmentation)


IMAGENET: Final = Source(
    "imagenet",
    _load,
    TrainingRow("resnet18", "adam", epochs=90, lr=0.001, batch_size=144),  # Table S3
    Augmentation(flip=True, crop=0.08),
    table_timesteps=(5, 10, 15, 20),
    sizes="cut",
)
