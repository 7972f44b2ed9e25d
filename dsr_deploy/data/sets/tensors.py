"""Samples that a user gave in Python, and ``Dataset.save`` wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dsr_deploy.data.source import Request, Source, TrainingRow

if TYPE_CHECKING:
    from dsr_deploy.data.dataset import Dataset


def _load(request: Request) -> Dataset:
    from dsr_deploy.data.dataset import Dataset
    from dsr_deploy.data.samples import DataError

    dataset = Dataset.read(request.directory)
    if dataset.input.framed and (frames := dataset.train.frames) != request.timesteps:
        raise DataError(
            f"data set '{dataset.name}': timesteps must be {frames}, a frame for each, not "
            f"{request.timesteps}"
        )
    return dataset.augmented(request.augmentation)


TENSORS: Final = Source(
    "tensors",
    _load,
    # Not the paper's. Nothing is mirrored or moved: nobody knows what the samples are.
    TrainingRow("resnet-tiny", "sgd", epochs=30, lr=0.1, batch_size=64, warmup_epochs=1),
)
