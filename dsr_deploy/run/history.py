"""The measurements of a training, per epoch and at its end, as its run keeps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsr_deploy import files
from dsr_deploy.errors import UserError
from dsr_deploy.run import checkpoint, records, seal
from dsr_deploy.run.checkpoint import AGAIN
from dsr_deploy.run.directory import RunDirectory


@dataclass(frozen=True)
class Epoch:
    """A line of metrics.jsonl. Accuracies and rates lie between 0 and 1.

    Attributes
    ----------
    lr : learning rate at the epoch's end
    validation_loss, validation_accuracy : None if no samples are held out
    firing_rate, firing_rates : of all neurons and by population, on the validation part, or on
        some of the epoch's training batches if there is none
    """

    epoch: int
    lr: float
    train_loss: float
    train_accuracy: float
    validation_loss: float | None
    validation_accuracy: float | None
    firing_rate: float
    firing_rates: dict[str, float]
    seconds: float


@dataclass(frozen=True)
class Result:
    """result.json: the chosen network, and its result on the test set.

    Attributes
    ----------
    epoch, epochs : the chosen epoch, and the number of epochs trained
    chosen_by : "validation accuracy", or "last epoch" if no samples are held out
    validation_accuracy, validation_samples : on the held-out samples; None and 0 without them
    test_loss, test_accuracy, test_samples : on the test set
    firing_rate, firing_rates : on the test set, of all neurons and by population
    made_from : SHA-256 of the checkpoint
    """

    epoch: int
    epochs: int
    chosen_by: str
    validation_accuracy: float | None
    validation_samples: int
    test_loss: float
    test_accuracy: float
    test_samples: int
    firing_rate: float
    firing_rates: dict[str, float]
    made_from: str


def chosen(epochs: Sequence[Epoch]) -> Epoch:
    """Return the epoch whose network later stages use.

    It has the highest validation accuracy and, among equals, the lowest validation loss. Without
    held-out samples it is the last epoch.
    """
    if epochs[-1].validation_accuracy is None:
        return epochs[-1]
    return max(epochs, key=lambda epoch: (epoch.validation_accuracy, -(epoch.validation_loss or 0)))


def of_checkpoint(path: Path, about: Mapping[str, Any]) -> list[Epoch]:
    """Return the epochs in the metadata of a checkpoint.

    Raises
    ------
    UserError
        If they are not all epochs from the first on.
    """
    epochs = _epochs(about.get("history"), f"{path}: its history", AGAIN)
    if not epochs:
        raise UserError(f"{path}: its history has no epochs; {AGAIN}")
    return epochs


def read_history(run: RunDirectory) -> list[Epoch]:
    """Return the epochs of a run.

    They come from the latest checkpoint, which has a checksum, or from metrics.jsonl if a user has
    removed the checkpoint.

    Raises
    ------
    UserError
        If it is damaged.
    """
    path = run.latest_checkpoint
    if path.exists():
        return of_checkpoint(path, checkpoint.read_about(path))
    return _epochs(files.read_json_lines(run.metrics), str(run.metrics), "remove it")


def read_result(run: RunDirectory) -> Result:
    """Return result.json, after its checksum was checked.

    Raises
    ------
    UserError
        If it is missing or damaged.
    """
    again = f"`{run.command('train --resume')}` writes it again"
    if not run.result.exists():
        raise UserError(f"{run.result}: not there; {again}")
    value = files.read_json(run.result)
    if not isinstance(value, dict) or not seal.is_whole(value):
        raise UserError(f"{run.result}: damaged (its checksum does not match); {again}")
    return records.read(Result, value, str(run.result), again)


def _epochs(lines: object, where: str, again: str) -> list[Epoch]:
    if not isinstance(lines, list):
        raise UserError(f"{where} is not a list of epochs; {again}")
    epochs = [
        records.read(Epoch, line, f"{where}, epoch {number}", again)
        for number, line in enumerate(lines, start=1)
    ]
    if [epoch.epoch for epoch in epochs] != list(range(1, len(epochs) + 1)):
        raise UserError(f"{where} must have every epoch from 1 on; {again}")
    return epochs
