"""Options shared by several commands, and those of a training."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

import click

from dsr_deploy import files
from dsr_deploy.data.datasets import DATASETS
from dsr_deploy.data.source import OptimizerName
from dsr_deploy.models.architectures import ARCHITECTURES
from dsr_deploy.run import config

Command = TypeVar("Command", bound=Callable[..., Any])


class File(click.Path):
    """A file, in whose path a leading ``~/`` means the user's home."""

    name = "file"

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: Any, ctx: Any) -> Path:
        """Return the path."""
        if not os.fspath(value):
            self.fail("the name is empty; name a file", param, ctx)
        return cast(Path, super().convert(files.at_home(value), param, ctx))


class Directory(click.Path):
    """A directory, in which a leading ``~/`` means the user's home."""

    name = "directory"

    def __init__(self, *, absolute: bool = False) -> None:
        super().__init__(path_type=Path)
        self.absolute = absolute

    def convert(self, value: Any, param: Any, ctx: Any) -> Path:
        """Return the path."""
        if not os.fspath(value):
            self.fail("the name is empty; use '.' for the current directory", param, ctx)
        path = cast(Path, super().convert(files.at_home(value), param, ctx))
        return Path(os.path.abspath(path)) if self.absolute else path


def common(command: Command, default: str = "runs/latest, the newest") -> Command:
    """Add the options that every command on a run has."""
    run = click.option(
        "--run", "directory", type=Directory(), metavar="DIR",
        help=f"Directory of the run.  [default: {default}]",
    )  # fmt: skip
    as_json = click.option(
        "--json", "as_json", is_flag=True, help="Print the result as JSON and nothing else."
    )
    return run(as_json(command))


def moved_data(command: Command) -> Command:
    """Add the option for data that were moved, to a command that reads a run's data set."""
    return click.option(
        "--data-dir", type=Directory(absolute=True), metavar="DIR",
        help="Directory of the data set, if it was moved since training.",
    )(command)  # fmt: skip


def training_options(command: Command) -> Command:
    """Add an option for every setting of :class:`dsr_deploy.run.config.Config`."""
    option = click.option
    options = [
        option("--dataset", type=click.Choice(tuple(DATASETS)), help="[default: digits]"),
        option("--data-dir", type=Directory(absolute=True), metavar="DIR",
               help="Directory of the data set, or where to download it; digits needs none. With "
               "--resume: where it was moved to."),
        option("--image-size", type=int, help="Side of the images in pixels."),
        option("--flip/--no-flip", default=None,
               help="Mirror every second training image. Do not use it where mirroring changes the "
               "class: arrows, letters, left and right hands.  [default: on for cifar10, "
               "cifar100 and imagenet, else off]"),
        option("--shift", type=float, metavar="SHARE",
               help="Training images that keep their size move by up to this share of it.  "
               "[default: 0.125; cifar10-dvs 1/12]"),
        option("--crop", type=float, metavar="SHARE",
               help="Training images that are cut to size (imagenet, large ones of imagefolder) "
               "keep at least this share of their area; 1: the centre, as in testing.  "
               "[default: 0.08]"),
        option("--arch", metavar="NAME",
               help=f"{', '.join(ARCHITECTURES)}, or a network of your own: FILE.py:FUNCTION, "
               "which is called with (input_shape, classes) and returns a Topology."),
        option("--neuron", type=click.Choice(get_args(config.NeuronName)),
               help="if integrates, lif also leaks.  [default: if]"),
        option("-T", "--timesteps", type=int, help="Number of timesteps per sample."),
        option("--validation", type=float,
               help="Share of the training samples held out to choose the best epoch; 0 takes the "
               "last epoch.  [default: 0.1; presets: 0]"),
        option("--epochs", type=int, help="Passes over the training data."),
        option("--batch-size", type=int, help="Samples per training step, over all processes."),
        option("--optimizer", type=click.Choice(get_args(OptimizerName))),
        option("--lr", type=float, help="Initial learning rate; decays to 0 along a cosine."),
        option("--momentum", type=float, help="Momentum of SGD."),
        option("--weight-decay", type=float, help="Decay of the weights, not of biases."),
        option("--warmup-epochs", type=int, help="Epochs in which the learning rate rises."),
        option("--v-threshold", type=float, help="Initial Vth.  [default: chosen from the data]"),
        option("--v-threshold-min", type=float, help="Lower bound of Vth in training."),
        option("--alpha", type=float, help="A neuron fires at alpha * Vth."),
        option("--tau", type=float, help="Time constant of LIF neurons."),
        option("--dt", type=float, help="Length of a timestep, in the unit of --tau."),
        option("--device", metavar="NAME", help="Where to compute: auto, cpu, cuda or cuda:N."),
        option("--precision", type=click.Choice(get_args(config.PrecisionName)),
               help="Arithmetic of convolutions in training."),
        option("--seed", type=int, help="Seed of all randomness.  [default: 0]"),
    ]  # fmt: skip
    for add in reversed(options):
        command = add(command)
    return command
