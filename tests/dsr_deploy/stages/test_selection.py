"""Which network counts, and that the test set has no say in it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from dsr_deploy.data import loading
from dsr_deploy.data.batches import batches
from dsr_deploy.data.dataset import Dataset
from dsr_deploy.data.loading import load
from dsr_deploy.data.samples import Split, TensorSplit
from dsr_deploy.data.validation import hold_out
from dsr_deploy.hardware import reference
from dsr_deploy.hardware.format import network_file
from dsr_deploy.hardware.network import IntegerNetwork
from dsr_deploy.lowering import fine_tune
from dsr_deploy.lowering.fine_tune import Candidate
from dsr_deploy.run import config
from dsr_deploy.run.directory import RunDirectory
from dsr_deploy.run.history import Epoch, Result, chosen, read_result
from dsr_deploy.run.trained import load_trained
from dsr_deploy.stages import quantize, train
from dsr_deploy.stages.quantize import QuantizeConfig
from dsr_deploy.training import evaluate, loop
from dsr_deploy.training.evaluate import Evaluation

SMALL = {"timesteps": 1, "batch_size": 256, "precision": "fp32", "device": "cpu"}


def epoch(number: int, accuracy: float | None, loss: float | None) -> Epoch:
    return Epoch(number, 0.1, 1.0, 0.5, loss, accuracy, 0.1, {}, 1.0)


def test_the_best_epoch_is_the_most_accurate_on_the_validation_part() -> None:
    epochs = [epoch(1, 0.5, 0.1), epoch(2, 0.9, 0.7), epoch(3, 0.8, 0.2)]
    assert chosen(epochs).epoch == 2


def test_among_equally_accurate_epochs_the_lowest_loss_counts() -> None:
    epochs = [epoch(1, 0.9, 0.5), epoch(2, 0.9, 0.3), epoch(3, 0.9, 0.4)]
    assert chosen(epochs).epoch == 2


def test_without_a_validation_part_the_last_epoch_counts() -> None:
    epochs = [dataclasses.replace(epoch(n, None, None), train_loss=n) for n in (1, 2, 3)]
    assert chosen(epochs).epoch == 3


class Script:
    """Stands for ``evaluate``: tells the validation accuracies, and notes what was read."""

    def __init__(self, accuracies: list[float]) -> None:
        self.accuracies = iter(accuracies)
        self.read: list[int] = []

    def __call__(self, network: torch.nn.Module, split: Split, *rest: object) -> Evaluation:
        self.read.append(len(split))
        accuracy = 0.25 if len(split) == 360 else next(self.accuracies)
        return Evaluation(1.0, accuracy, {"output": 0.5})


def _train(path: Path, monkeypatch: pytest.MonkeyPatch, script: Script, **choice: float) -> None:
    monkeypatch.setattr(loop, "evaluate", script)
    train.train(config.resolve(**SMALL | choice), RunDirectory(path))


def _model(path: Path) -> dict[str, torch.Tensor]:
    return {k: v for k, v in load_file(path).items() if k.startswith("model.")}


def test_the_network_of_the_best_epoch_is_kept_and_alone_is_tested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "three").mkdir()
    script = Script([0.5, 0.9, 0.8])
    _train(tmp_path / "three", monkeypatch, script, epochs=3, warmup_epochs=0)
    assert script.read == [142, 142, 142, 360]
    run = RunDirectory(tmp_path / "three")
    result = read_result(run)
    digest = hashlib.sha256(run.best_checkpoint.read_bytes()).hexdigest()
    assert result == Result(
        epoch=2,
        epochs=3,
        chosen_by="validation accuracy",
        validation_accuracy=0.9,
        validation_samples=142,
        test_loss=1.0,
        test_accuracy=0.25,
        test_samples=360,
        firing_rate=0.5,
        firing_rates={"output": 0.5},
        made_from=digest,
    )
    # The third epoch went on from the second, so the two differ.
    best, latest = _model(run.best_checkpoint), _model(run.latest_checkpoint)
    assert any(not torch.equal(best[name], latest[name]) for name in best)


def test_the_papers_recipe_takes_the_last_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Script([])
    _train(tmp_path, monkeypatch, script, epochs=2, validation=0.0, warmup_epochs=0)
    assert script.read == [360]
    run = RunDirectory(tmp_path)
    result = read_result(run)
    assert (result.epoch, result.chosen_by) == (2, "last epoch")
    best, latest = _model(run.best_checkpoint), _model(run.latest_checkpoint)
    assert all(torch.equal(best[name], latest[name]) for name in best)
    for line in run.metrics.read_text().splitlines():
        assert json.loads(line)["validation_accuracy"] is None
        assert not [name for name in json.loads(line) if "test" in name]


@pytest.mark.parametrize(("preset", "share"), [(None, 0.1), ("cifar10-if-t5", 0.0)])
def test_presets_hold_out_nothing(preset: str | None, share: float) -> None:
    assert config.resolve(preset).validation == share


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """Return a run trained for two epochs, T = 2."""
    run = RunDirectory(tmp_path_factory.mktemp("run"))
    train.train(config.resolve(**SMALL | {"timesteps": 2, "epochs": 2}), run)
    return run


@pytest.fixture
def _spoiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turn the test images upside down and rotate their labels: all they could say is wrong."""
    read = loading.load

    def load(*args: object, **options: object) -> Dataset:
        digits = read(*args, **options)  # type: ignore[arg-type]
        test = digits.test
        assert isinstance(test, TensorSplit)
        wrong = dataclasses.replace(test, pixels=test.pixels.flip(2), labels=(test.labels + 1) % 10)
        return dataclasses.replace(digits, test=wrong)

    monkeypatch.setattr("dsr_deploy.run.trained.load", load)


@pytest.mark.usefixtures("_spoiled")
def test_training_chooses_the_same_network_whatever_the_test_set(
    run: RunDirectory, tmp_path: Path
) -> None:
    other = RunDirectory(tmp_path)
    train.train(config.resolve(**SMALL | {"timesteps": 2, "epochs": 2}), other)
    assert _model(other.best_checkpoint).keys() == _model(run.best_checkpoint).keys()
    for name, value in _model(other.best_checkpoint).items():
        assert torch.equal(value, _model(run.best_checkpoint)[name])
    first, second = (json.loads(r.result.read_text()) for r in (run, other))
    assert first["test_accuracy"] != second["test_accuracy"]
    assert first["epoch"] == second["epoch"]


def test_quantization_takes_the_best_of_the_rounded_and_the_fine_tuned(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Candidate] = []
    candidate = fine_tune._candidate
    accuracies = iter([0.6, 0.7, 0.9, 0.8])

    def scripted(*args: object) -> Candidate:
        made.append(dataclasses.replace(candidate(*args), accuracy=next(accuracies), loss=1.0))  # type: ignore[arg-type]
        return made[-1]

    monkeypatch.setattr(fine_tune, "_candidate", scripted)
    row = quantize.quantize(run, QuantizeConfig(bits=3, epochs=3, lr=0.01, device="cpu"))
    assert (row.epoch, row.epochs, row.validation_accuracy) == (2, 3, 0.9)
    written = network_file.read(run.quantized(3) / "network.safetensors")
    assert _integers(written) == _integers(made[2].network)
    assert len({tuple(_integers(c.network)) for c in made}) == 4


def test_a_fine_tuning_that_makes_it_worse_leaves_the_rounded_network(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate = fine_tune._candidate
    accuracies = iter([0.9, 0.6])

    def scripted(*args: object) -> Candidate:
        return dataclasses.replace(candidate(*args), accuracy=next(accuracies))  # type: ignore[arg-type]

    monkeypatch.setattr(fine_tune, "_candidate", scripted)
    row = quantize.quantize(run, QuantizeConfig(bits=5, epochs=1, lr=10.0, device="cpu"))
    assert (row.epoch, row.epochs) == (0, 1)
    assert row.accuracy == row.post_training_accuracy


def _integers(network: IntegerNetwork) -> list[bytes]:
    return [c.weight.tobytes() for c in network.connections]


def test_what_is_said_of_the_validation_part_is_true_of_what_is_written(run: RunDirectory) -> None:
    row = quantize.quantize(run, QuantizeConfig(bits=4, epochs=1, device="cpu"))
    digits = load("digits", timesteps=2)
    _, held = hold_out(digits.train, 0.1, 0)
    assert held is not None
    written = network_file.read(run.quantized(4) / "network.safetensors")
    stream = batches(held, digits.input, 142, augment=False, seed=0, epoch=0, shuffle=False)
    payloads, labels = next(iter(stream))
    predictions = reference.run(written, payloads.numpy()).predictions
    assert row.validation_accuracy == float(np.mean(predictions == labels.numpy()))
    assert row.validation_samples == 142


def test_without_a_validation_part_quantization_takes_the_last_epoch(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    train.train(config.resolve(**SMALL | {"epochs": 1, "validation": 0.0}), run)
    row = quantize.quantize(run, QuantizeConfig(bits=4, epochs=1, lr=10.0, device="cpu"))
    assert (row.epoch, row.validation_accuracy, row.validation_samples) == (1, None, 0)


def test_evaluation_counts_each_sample_once(run: RunDirectory) -> None:
    digits = load("digits", timesteps=2)
    network = load_trained(run).network
    cpu = torch.device("cpu")
    whole = evaluate.evaluate(network, digits.test, digits.input, cpu, 128)
    small = evaluate.evaluate(network, digits.test, digits.input, cpu, 7)
    assert whole.accuracy == small.accuracy
    assert whole.loss == pytest.approx(small.loss, rel=1e-6)
