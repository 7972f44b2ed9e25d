"""A trained network in its run, and the data that belong to it."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import platform
import shlex
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import torch

from dsr_deploy import files
from dsr_deploy.data.dataset import Dataset
from dsr_deploy.data.loading import load
from dsr_deploy.data.sets.tensors import TENSORS
from dsr_deploy.errors import UserError
from dsr_deploy.hardware.network import Input
from dsr_deploy.models.network import SpikingNetwork
from dsr_deploy.models.neuron import Neuron
from dsr_deploy.models.topology import Topology
from dsr_deploy.progress import Progress
from dsr_deploy.run import checkpoint, config, records, seal, topologies
from dsr_deploy.run.config import Config
from dsr_deploy.run.directory import RunDirectory

RESTORE: Final = (
    "restore the data that the network was trained on, name their place with --data-dir, or train "
    "again"
)


@dataclass(frozen=True)
class Description:
    """The content of config.json.

    Attributes
    ----------
    samples : for training and for testing
    labels : SHA-256 of their labels
    versions : of the packages that it was trained with
    command : that began it
    topology : of the network
    contents : what tells them from others, see :class:`dsr_deploy.data.Dataset`; empty in runs of
        before
    """

    config: Config
    input: Input
    classes: tuple[str, ...]
    samples: tuple[int, int]
    labels: str
    contents: tuple[str, str]
    versions: dict[str, str]
    command: str
    topology: Topology


@dataclass(frozen=True)
class _Counts:
    """Samples for training and for testing."""

    train: int
    test: int


@dataclass(frozen=True)
class _Digests:
    """What tells samples for training and for testing from others."""

    train: str = ""
    test: str = ""


@dataclass(frozen=True)
class _Stored:
    """The entries of config.json beside the configuration, which has a reader of its own."""

    input: Input
    classes: tuple[str, ...]
    samples: _Counts
    labels: str
    versions: dict[str, str]
    command: str
    contents: _Digests = _Digests()
    topology: Topology | None = None


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained float network, what it was trained on, and the SHA-256 of its checkpoint.

    ``doubt`` is what is to be said of the checkpoint, if anything.
    """

    description: Description
    network: SpikingNetwork
    digest: str
    doubt: str | None

    @property
    def config(self) -> Config:
        return self.description.config


def build(settings: Config, topology: Topology) -> SpikingNetwork:
    """Return the untrained network of ``settings`` and ``topology``."""
    neuron = Neuron(
        kind=settings.neuron,
        timesteps=settings.timesteps,
        alpha=settings.alpha,
        v_threshold_min=settings.v_threshold_min,
        tau=settings.tau,
        dt=settings.dt,
    )
    network = SpikingNetwork(topology, neuron, settings.v_threshold or 1.0)
    # as a plain module: its annotation in PyTorch differs by version
    cast(Any, network).to(memory_format=torch.channels_last)
    return network


def load_data(settings: Config, progress: Progress, *, download: bool = True) -> Dataset:
    """Load the data set of ``settings``, with a progress bar where it takes long."""
    with progress.task(f"reading {settings.dataset}", 1) as task:
        dataset = load(
            settings.dataset,
            settings.data_dir,
            timesteps=settings.timesteps,
            image_size=settings.image_size,
            augmentation=settings.augmentation,
            download=download,
        )
        task.advance()
    tell(dataset, progress)
    return dataset


def tell(dataset: Dataset, progress: Progress) -> None:
    """Say what a user should know of how the samples were found."""
    for note in dataset.notes:
        progress.note(note)


def load_same_data(
    description: Description, progress: Progress, data_dir: str | Path | None = None
) -> Dataset:
    """Load the data set that a run began with.

    Parameters
    ----------
    data_dir : where it lies now; None for where it lay before

    Raises
    ------
    UserError
        If it is not the same any more.
    """
    settings = description.config
    if data_dir is not None:
        settings = dataclasses.replace(settings, data_dir=str(data_dir))
    # no download: what is missing was moved
    dataset = load_data(settings, progress, download=False)
    check_same_data(dataset, description.input, description.classes)
    samples = _sample_counts(dataset)
    if samples != description.samples:
        raise UserError(
            f"data set '{dataset.name}': {samples[0]} training and {samples[1]} test samples, the "
            f"run began with {description.samples[0]} and {description.samples[1]}; {RESTORE}"
        )
    if labels_digest(dataset) != description.labels:
        raise UserError(
            f"data set '{dataset.name}': its labels changed since the run began; {RESTORE}"
        )
    for what, found, own in zip(
        ("training", "test"), dataset.contents, description.contents, strict=True
    ):
        if own and found != own:
            raise UserError(
                f"data set '{dataset.name}': its {what} samples changed since the run began; "
                f"{RESTORE}"
            )
    return dataclasses.replace(dataset, input=description.input)


def keep_place(run: RunDirectory, data_dir: str | Path | None) -> None:
    """Note in config.json where the data lie now, for later commands.

    Call it once they were found to be the same.

    Raises
    ------
    UserError
        If it cannot be written.
    """
    if data_dir is None:
        return
    stored = files.read_json(run.config)
    if stored["config"]["data_dir"] != str(data_dir):
        stored["config"]["data_dir"] = str(data_dir)
        files.write_json(run.config, stored)


def check_same_data(dataset: Dataset, input: Input, classes: tuple[str, ...]) -> None:
    """Make sure that a network trained on such an input and classes can be tested with ``dataset``.

    Parameters
    ----------
    classes : empty if they are not known

    Raises
    ------
    UserError
        If the classes, the size of the images or their mean and deviation are others.
    """
    check_fits(dataset, input, classes, RESTORE)
    for name in ("mean", "std"):
        found_values, own_values = getattr(dataset.input, name), getattr(input, name)
        # Another machine may add them up in another order.
        if not np.allclose(found_values, own_values, rtol=1e-6, atol=0):
            raise UserError(
                f"data set '{dataset.name}': pixels of {name} {_few_digits(found_values)}, the "
                f"network was trained on {_few_digits(own_values)}; {RESTORE}"
            )


def check_fits(dataset: Dataset, input: Input, classes: tuple[str, ...], way: str) -> None:
    """Make sure that samples of ``dataset`` have the form of ``input``, and the same classes.

    Parameters
    ----------
    classes : empty if they are not known
    way : what to do, for errors

    Raises
    ------
    UserError
        If they have not.
    """
    where = f"data set '{dataset.name}'"
    if classes and dataset.classes != classes:
        pairs = itertools.zip_longest(dataset.classes, classes, fillvalue="none")
        index, (found, own) = next((i, pair) for i, pair in enumerate(pairs) if pair[0] != pair[1])
        raise UserError(f"{where}: class {index} is {found!r}, the network's is {own!r}; {way}")
    found_form, own_form = _form(dataset.input), _form(input)
    if found_form != own_form:
        raise UserError(f"{where}: {found_form}, the network takes {own_form}; {way}")


def describe(run: RunDirectory) -> Description:
    """Read config.json.

    Raises
    ------
    UserError
        If it is missing or damaged.
    """
    settings = config.read(run.config)
    again = "train again in another directory"
    stored = records.read(_Stored, files.read_json(run.config), str(run.config), again)
    samples, contents = stored.samples, stored.contents
    if settings.dataset == TENSORS.name and settings.data_dir is None:
        settings = dataclasses.replace(settings, data_dir=str(run.path))
    topology = stored.topology
    if topology is None:  # of an earlier version
        build = topologies.builder(settings.arch)
        topology = topologies.describe(build, stored.input.shape, len(stored.classes))
    return Description(
        config=settings,
        input=stored.input,
        classes=stored.classes,
        samples=(samples.train, samples.test),
        labels=stored.labels,
        versions=stored.versions,
        command=stored.command,
        contents=(contents.train, contents.test),
        topology=topology,
    )


def load_trained(run: RunDirectory) -> Trained:
    """Load the best checkpoint of a run.

    Raises
    ------
    UserError
        If a file is missing or damaged.
    """
    description = describe(run)
    if not run.best_checkpoint.exists():
        raise UserError(
            f"{run.path}: no epoch of its training is complete yet; continue it with "
            f"`{run.command('train --resume')}`, or train again if it failed"
        )
    settings = description.config
    network = build(settings, description.topology)
    digest = files.digest(run.best_checkpoint)
    about = checkpoint.load(run.best_checkpoint, network, settings)
    return Trained(description, network.eval(), digest, checkpoint.doubt(about))


def write_config(run: RunDirectory, settings: Config, dataset: Dataset, topology: Topology) -> None:
    """Write config.json: all values, what the data are, versions and the command line."""
    packages = ("dsr-deploy", "torch", "torchvision", "numpy", "numba")
    value = {
        "config": dataclasses.asdict(settings),
        "topology": dataclasses.asdict(topology),
        "input": dataclasses.asdict(dataset.input),
        "classes": list(dataset.classes),
        "samples": dict(zip(("train", "test"), _sample_counts(dataset), strict=True)),
        "labels": labels_digest(dataset),
        "contents": dict(zip(("train", "test"), dataset.contents, strict=True)),
        "versions": {"python": platform.python_version()} | {p: version(p) for p in packages},
        "command": shlex.join(sys.argv),
    }
    files.write_json(run.config, value | {seal.KEY: config.checksum_of(value)})


def _sample_counts(dataset: Dataset) -> tuple[int, int]:
    return len(dataset.train), len(dataset.test)


def labels_digest(dataset: Dataset) -> str:
    """Return the SHA-256 of the labels for training and testing, in their order, in hexadecimal."""
    labels = torch.cat((dataset.train.labels, dataset.test.labels)).numpy()
    return hashlib.sha256(labels.astype("<i8").tobytes()).hexdigest()


def _form(input: Input) -> str:
    channels, height, width = input.shape
    kind = "event frames" if input.framed else "images"
    return f"{kind} of {height}x{width} with {channels} channel{'s' * (channels != 1)}"


def _few_digits(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)
