"""A trained network: what a run keeps of it, and loading it again with the data it belongs to."""

from __future__ import annotations

import dataclasses
import platform
import shlex
import sys
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch

from dsr_deploy import checkpoint, config, data, files
from dsr_deploy.config import Config
from dsr_deploy.data import Dataset
from dsr_deploy.errors import UserError
from dsr_deploy.hardware.network import Input
from dsr_deploy.models.architectures import topology
from dsr_deploy.models.network import SpikingNetwork
from dsr_deploy.models.neuron import Neuron
from dsr_deploy.models.topology import TopologyError
from dsr_deploy.progress import Progress
from dsr_deploy.run_directory import RunDirectory


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained float network and what it was trained on."""

    config: Config
    input: Input
    classes: tuple[str, ...]
    network: SpikingNetwork
    about: dict[str, Any]


def build(settings: Config, input: Input, classes: int) -> SpikingNetwork:
    """Return the untrained network of ``settings`` for such an input and number of classes."""
    neuron = Neuron(
        kind=settings.neuron,
        timesteps=settings.timesteps,
        alpha=settings.alpha,
        v_threshold_min=settings.v_threshold_min,
        tau=settings.tau,
        dt=settings.dt,
    )
    try:
        layout = topology(settings.arch, input.shape, classes)
        network = SpikingNetwork(layout, neuron, settings.v_threshold or 1.0)
    except TopologyError as error:
        raise UserError(str(error)) from None
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def load_data(settings: Config, progress: Progress) -> Dataset:
    """Load the data set of ``settings``, with a progress bar where it takes long."""
    with progress.task(f"reading {settings.dataset}", 1) as task:
        try:
            dataset = data.load(
                settings.dataset,
                settings.data_dir,
                timesteps=settings.timesteps,
                image_size=settings.image_size,
            )
        except data.DataError as error:
            raise UserError(str(error)) from None
        task.advance()
    return dataset


def load_trained(run: RunDirectory) -> Trained:
    """Load the best checkpoint of a run.

    Raises
    ------
    UserError
        If a file is missing or damaged.
    """
    stored = files.read_json(run.config)
    try:
        settings = config.from_dict(stored["config"])
        about_input: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in stored["input"].items()
        }
        input, classes = Input(**about_input), tuple(stored["classes"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{run.config}: not a run's configuration ({error}); train again") from None
    if not run.best_checkpoint.exists() and not run.latest_checkpoint.exists():
        raise UserError(
            f"{run.path}: its training was stopped in the first epoch; continue it with "
            f"`dsr-deploy train --resume --run {run.path}`"
        )
    network = build(settings, input, len(classes))
    about = checkpoint.load(run.best_checkpoint, network)
    return Trained(settings, input, classes, network.eval(), about)


def write_config(run: RunDirectory, settings: Config, dataset: Dataset) -> None:
    """Write config.json: all values, what the data are, versions and the command line."""
    packages = ("dsr-deploy", "torch", "torchvision", "spikingjelly", "numpy", "numba")
    value = {
        "config": dataclasses.asdict(settings),
        "input": dataclasses.asdict(dataset.input),
        "classes": list(dataset.classes),
        "samples": {"train": len(dataset.train), "test": len(dataset.test)},
        "versions": {"python": platform.python_version()} | {p: version(p) for p in packages},
        "command": shlex.join(sys.argv),
    }
    files.write_json(run.config, value)
