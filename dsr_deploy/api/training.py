"""Training as a function, on names or on what a user has in memory."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from dsr_deploy import files
from dsr_deploy.api.notebook import usual_progress
from dsr_deploy.api.results import TrainedRun
from dsr_deploy.api.settings import Settings
from dsr_deploy.api.where import Where, full_path, run_of
from dsr_deploy.data.dataset import Dataset
from dsr_deploy.data.samples import TensorSplit
from dsr_deploy.data.sets.tensors import TENSORS
from dsr_deploy.errors import UserError
from dsr_deploy.models.architectures import Build
from dsr_deploy.models.topology import Topology
from dsr_deploy.progress import Progress
from dsr_deploy.run import config, topologies
from dsr_deploy.run.directory import beginning, default_name, link_latest
from dsr_deploy.stages import train as stage

if TYPE_CHECKING:
    from typing import Unpack

Network = str | Topology | Build


def train(
    arch: Network | None = None,
    dataset: str | Dataset | None = None,
    *,
    preset: str | None = None,
    run: str | Path | None = None,
    progress: Progress | None = None,
    **settings: Unpack[Settings],
) -> TrainedRun:
    """Train a spiking network, and keep everything in a run directory.

    Parameters
    ----------
    arch : name of an architecture, ``"FILE.py:FUNCTION"``, a ``Topology``, or a function that
        returns one for an input shape (C, H, W) and a number of classes; None is the data set's
    dataset : name of a data set, or samples in memory, of which the run keeps a copy; None is
        digits
    preset : a setting of the paper, such as ``"cifar10-if-t20"``
    run : directory of the run; None is a new one in ``runs/``
    settings : see :class:`dsr_deploy.run.config.Config`, for example ``timesteps=8, epochs=5``

    Raises
    ------
    UserError
        If a value cannot be, a file is missing, or the network does not fit the data.
    """
    chosen = _known(dict(settings))
    build = None
    if isinstance(arch, str):
        chosen["arch"] = arch
    elif arch is not None:
        name = arch.name if isinstance(arch, Topology) else getattr(arch, "__name__", "network")
        chosen["arch"] = topologies.GIVEN + name
        build = _builder(arch)
    samples = None
    if isinstance(dataset, Dataset):
        chosen |= _of_samples(dataset, chosen)
        samples = dataset
    elif dataset is not None:
        if not isinstance(dataset, str):
            raise UserError(
                f"dataset must be a name or a Dataset, not {type(dataset).__name__}; "
                "Dataset.from_tensors makes one of samples and labels"
            )
        chosen["dataset"] = dataset
    if chosen.get("data_dir") is not None:
        chosen["data_dir"] = str(full_path(chosen["data_dir"]))
    resolved = config.resolve(preset, **chosen)
    if samples is not None:
        samples = samples.augmented(resolved.augmentation)
    bars = progress or usual_progress()
    place = None if run is None else Path(files.at_home(run))
    of = resolved.dataset if samples is None else topologies.short_name(samples.name)

    with beginning(place, default_name(resolved, of)) as begun:
        result = stage.train(
            resolved,
            begun,
            progress=bars,
            on_begin=lambda: link_latest(begun, bars),
            dataset=samples,
            build=build,
        )
    return TrainedRun(begun, result)


def resume(run: Where = None, *, progress: Progress | None = None) -> TrainedRun:
    """Continue a training that was stopped, with its own settings.

    Raises
    ------
    UserError
        If there is no such run, or its data are not the same any more.
    """
    place = run_of(run)
    settings = config.read(place.config)
    bars = progress or usual_progress()
    return TrainedRun(place, stage.train(settings, place, resume=True, progress=bars))


def _known(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings whose names are all known."""
    for name in settings:
        if name not in Settings.__annotations__:
            near = difflib.get_close_matches(name, Settings.__annotations__, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UserError(f"train has no setting {name!r}{hint}")
    return settings


def _builder(network: Topology | Build) -> Build:
    if isinstance(network, Topology):
        return lambda input_shape, classes: network
    if not callable(network) or isinstance(network, nn.Module):
        raise UserError(
            "arch must be a name, a Topology or a function that returns one, not "
            f"{type(network).__name__}"
        )
    return network


def _of_samples(dataset: Dataset, chosen: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that samples in memory decide."""
    for name in ("data_dir", "image_size"):
        if chosen.get(name) is not None:
            raise UserError(f"{name} {chosen[name]!r}: the samples are in memory; leave it out")
    if not isinstance(dataset.train, TensorSplit):
        raise UserError(f"data set '{dataset.name}': give its name and data_dir instead")
    settings: dict[str, Any] = {"dataset": TENSORS.name}
    if dataset.input.framed:
        frames = dataset.train.frames
        if chosen.get("timesteps") not in (None, frames):
            raise UserError(
                f"timesteps must be {frames}, a frame for each, not {chosen['timesteps']}"
            )
        settings["timesteps"] = frames
    return settings
