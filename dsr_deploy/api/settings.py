"""The keywords of ``train``, for editors and type checkers; ``Config`` says what they mean."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

from dsr_deploy.data.source import OptimizerName
from dsr_deploy.run.config import NeuronName, PrecisionName


class Settings(TypedDict, total=False):
    """Values of :class:`dsr_deploy.run.config.Config`; what is not given is as on the command line.

    Network and data set are arguments of their own.
    """

    data_dir: str | Path | None
    image_size: int | None
    neuron: NeuronName
    timesteps: int
    v_threshold: float | None
    v_threshold_min: float
    alpha: float
    tau: float
    dt: float
    epochs: int
    batch_size: int
    optimizer: OptimizerName
    lr: float
    momentum: float
    weight_decay: float
    warmup_epochs: int
    validation: float
    flip: bool
    shift: float
    crop: float
    seed: int
    device: str
    precision: PrecisionName
