"""The options that several commands have, and those of a training."""

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


class Directory(click.Path):
    """A directory, in which a leading ``~/`` means the user's home."""

    name = "directory"

    def __init__(self, *, absolute: bool = False) -> None:
        super().__init__(path_type=Path)
        self.absolute = absolute

    def convert(self, value: Any, param: Any, ctx: Any) -> Path:
        """Return the path."""
        if not os.fspath(value):
            self.fail("an empty name; '.' is the directory you are in", param, ctx)
        path = cast(Path, super().convert(files.at_home(value), param, ctx))
        return Path(os.path.abspath(path)) if self.absolute else path


def common(command: Command) -> Command:
    """Give a command the options that all have."""
    run = click.option(
        "--run", "directory", type=Directory(), metavar="DIR",
        help="Directory of the run.  [default: runs/latest, the newest]",
    )  # fmt: skip
    as_json = click.option(
        "--json", "as_json", is_flag=True, help="Print the result as JSON and nothing else."
    )
    return run(as_json(command))


def moved_data(command: Command) -> Command:
    """Give a command that reads a run's data the option that says where they lie now."""
    return click.option(
        "--data-dir", type=Directory(absolute=True), metavar="DIR",
        help="Where the data set is, if it was moved since the run was begun.",
    )(command)  # fmt: skip


def training_options(command: Command) -> Command:
    """Give a command an option for every value of :class:`dsr_deploy.run.config.Config`."""
    option = click.option
    options = [
        option("--dataset", type=click.Choice(tuple(DATASETS)), help="[default: digits]"),
        option("--data-dir", type=Directory(absolute=True), metavar="DIR",
               help="Where its files are, or are downloaded to; digits needs none. With --resume: "
               "where they are now, if they were moved."),
        option("--image-size", type=int, help="Side in pixels; for imagenet and imagefolder."),
        option("--flip/--no-flip", default=None,
               help="Mirror every second training image. Leave it off where a mirror image is of "
               "another class: arrows, letters, left and right.  [default: on for cifar10, "
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
               help="Neurons that integrate, or integrate and leak.  [default: if]"),
        option("-T", "--timesteps", type=int, help="How many steps a sample is shown."),
        option("--validation", type=float,
               help="Share of the training samples held out to choose a network by; with 0 the "
               "last epoch's is taken.  [default: 0.1; presets: 0]"),
        option("--epochs", type=int, help="Passes over the training data."),
        option("--batch-size", type=int, help="Samples per training step, of all processes."),
        option("--optimizer", type=click.Choice(get_args(OptimizerName))),
        option("--lr", type=float, help="Learning rate; falls as a cosine to 0."),
        option("--momentum", type=float, help="Of SGD."),
        option("--weight-decay", type=float, help="Of the weights alone."),
        option("--warmup-epochs", type=int, help="Epochs in which the learning rate rises."),
        option("--v-threshold", type=float, help="Initial Vth; left out, the data decide."),
        option("--v-threshold-min", type=float, help="Lower bound of the trained Vth."),
        option("--alpha", type=float, help="A neuron fires at alpha * Vth."),
        option("--tau", type=float, help="Time constant of LIF neurons."),
        option("--dt", type=float, help="Length of a timestep, in the unit of --tau."),
        option("--device", metavar="NAME", help="auto, cpu, cuda or cuda:N."),
        option("--precision", type=click.Choice(get_args(config.PrecisionName)),
               help="Arithmetic of the convolutions in training."),
        option("--seed", type=int, help="Makes a run repeatable.  [default: 0]"),
    ]  # fmt: skip
    for add in reversed(options):
        command = add(command)
    return command
