"""CIFAR10-DVS, recordings of an event camera."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dsr_deploy.data.augmentation import Augmentation
from dsr_deploy.data.source import Request, Source, TrainingRow

if TYPE_CHECKING:
    from dsr_deploy.data.dataset import Dataset


def _load(request: Request) -> Dataset:
    from dsr_deploy.data.events import load_cifar10_dvs

    return load_cifar10_dvs(
        request.directory,
        request.timesteps,
        request.augmentation,
        request.download,
        request.progress,
    )


CIFAR10_DVS: Final = Source(
    "cifar10-dvs",
    _load,
    TrainingRow("vgg11", "sgd", epochs=300, lr=0.05, batch_size=128),  # Table S3
    Augmentation(shift=1 / 12),  # 4 of 48 pixels
    timesteps=20,
    table_timesteps=(20,),
)
