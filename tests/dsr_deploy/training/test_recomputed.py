"""Every value that train and quantize write, computed anew from networks, samples and labels."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from recomputed import assert_same, unsealed
from torch import Tensor

from dsr_deploy.data.encoding import encode
from dsr_deploy.data.loading import load
from dsr_deploy.data.samples import TensorSplit
from dsr_deploy.data.validation import hold_out
from dsr_deploy.hardware import reference
from dsr_deploy.hardware.format import network_file
from dsr_deploy.hardware.network import Input
from dsr_deploy.lowering.fold import fold
from dsr_deploy.lowering.quantized_network import QuantizedNetwork
from dsr_deploy.models.architectures import topology
from dsr_deploy.models.network import Activity, SpikingNetwork
from dsr_deploy.run import checkpoint, config
from dsr_deploy.run.config import Config
from dsr_deploy.run.directory import RunDirectory
from dsr_deploy.run.trained import build
from dsr_deploy.stages.quantize import QuantizeConfig, quantize
from dsr_deploy.stages.train import train
from dsr_deploy.training.device import resolve_precision

Array = NDArray[Any]

EPOCHS, BATCH = 2, 64
CHOICE = {"timesteps": 2, "epochs": EPOCHS, "batch_size": BATCH, "precision": "fp32"}


@dataclass(frozen=True, eq=False)
class Digits:
    """Payloads and labels of the three parts, as samples are split for the run's seed."""

    train: tuple[Tensor, Tensor]
    validation: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    input: Input


@dataclass(frozen=True, eq=False)
class Trained:
    """A finished run, and what its losses were computed from: outputs and labels of each batch."""

    run: RunDirectory
    settings: Config
    batches: list[tuple[Tensor, Tensor]]
    digits: Digits

    def read(self, name: str) -> Any:
        return json.loads((self.run.path / name).read_text())

    def network(self, path: Path) -> SpikingNetwork:
        made = build(self.settings, topology(self.settings.arch, self.digits.input.shape, 10))
        checkpoint.load(path, made, self.settings)
        return made.eval()


def digits() -> Digits:
    loaded = load("digits", timesteps=2)
    kept, held = hold_out(loaded.train, 0.1, 0)
    parts = []
    for split in (kept, held, loaded.test):
        assert isinstance(split, TensorSplit)
        parts.append((encode(loaded.input, split.pixels), split.labels))
    return Digits(*parts, loaded.input)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    run = RunDirectory(tmp_path_factory.mktemp("run"))
    batches: list[tuple[Tensor, Tensor]] = []
    cross_entropy = F.cross_entropy

    def watched(outputs: Tensor, labels: Tensor, **options: Any) -> Tensor:
        if outputs.requires_grad:
            batches.append((outputs.detach().clone(), labels))
        return cross_entropy(outputs, labels, **options)

    settings = config.resolve(**CHOICE, device="cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "cross_entropy", watched)
        train(settings, run)
    return Trained(run, settings, batches, digits())


def losses(outputs: Tensor, labels: Tensor) -> Array:
    """Return each sample's cross entropy, in double."""
    values = outputs.double().numpy()
    shifted = values - values.max(1, keepdims=True)
    chosen = np.take_along_axis(shifted, labels.numpy()[:, None], 1)[:, 0]
    return np.asarray(np.log(np.exp(shifted).sum(1)) - chosen)


def share_correct(outputs: Tensor, labels: Tensor) -> float:
    return float((outputs.numpy().argmax(1) == labels.numpy()).mean())


@torch.no_grad()
def shown(
    network: SpikingNetwork, payloads: Tensor, input: Input
) -> tuple[Tensor, dict[str, Array]]:
    """Return the outputs and the spikes of a network."""
    activity = Activity()
    outputs = network(payloads.float() * input.step, activity, record=True)
    return outputs, {name: train.numpy() for name, train in activity.spikes.items()}


def rates(spikes: dict[str, Array]) -> tuple[float, dict[str, float]]:
    """Return the firing rate of all neurons together, and of each layer."""
    fired = sum(int(train.sum()) for train in spikes.values())
    moments = sum(train.size for train in spikes.values())
    return fired / moments, {name: float(train.mean()) for name, train in spikes.items()}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def near(value: float) -> Any:
    return pytest.approx(value, rel=1e-6)


def test_the_epochs_say_what_was_learned_and_seen(trained: Trained) -> None:
    lines = [json.loads(line) for line in trained.run.metrics.read_text().splitlines()]
    assert len(lines) == EPOCHS
    per_epoch = len(trained.batches) // EPOCHS
    for number, line in enumerate(lines, 1):
        seen = trained.batches[(number - 1) * per_epoch : number * per_epoch]
        outputs, labels = (torch.cat(each) for each in zip(*seen, strict=True))
        assert len(labels) == len(trained.digits.train[1])
        assert line["epoch"] == number
        # After the warm-up of one epoch a cosine from lr to 0 in the second.
        assert line["lr"] == near([0.1, 0.0][number - 1])
        assert line["train_loss"] == near(losses(outputs, labels).mean())
        assert line["train_accuracy"] == share_correct(outputs, labels)
        assert line["seconds"] > 0
    last = lines[-1]
    network = trained.network(trained.run.latest_checkpoint)
    payloads, labels = trained.digits.validation
    outputs, spikes = shown(network, payloads, trained.digits.input)
    every, each = rates(spikes)
    assert last["validation_loss"] == near(losses(outputs, labels).mean())
    assert last["validation_accuracy"] == share_correct(outputs, labels)
    assert last["firing_rate"] == near(every)
    assert last["firing_rates"] == near(each)  # type: ignore[arg-type]
    assert last.keys() == {
        "epoch", "lr", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy",
        "firing_rate", "firing_rates", "seconds",
    }  # fmt: skip


def test_the_result_says_what_the_chosen_network_does(trained: Trained) -> None:
    lines = [json.loads(line) for line in trained.run.metrics.read_text().splitlines()]
    order = sorted(lines, key=lambda e: (-e["validation_accuracy"], e["validation_loss"]))
    payloads, labels = trained.digits.test
    network = trained.network(trained.run.best_checkpoint)
    outputs, spikes = shown(network, payloads, trained.digits.input)
    every, each = rates(spikes)
    found = unsealed(trained.read("result.json"))
    for name, value in (("firing_rate", every), ("test_loss", losses(outputs, labels).mean())):
        assert found.pop(name) == near(value)
    assert found.pop("firing_rates") == near(each)  # type: ignore[arg-type]
    assert found == {
        "epoch": order[0]["epoch"],
        "epochs": EPOCHS,
        "chosen_by": "validation accuracy",
        "validation_accuracy": order[0]["validation_accuracy"],
        "validation_samples": len(trained.digits.validation[1]),
        "test_accuracy": share_correct(outputs, labels),
        "test_samples": 360,
        "made_from": digest(trained.run.best_checkpoint),
    }


def whole_accuracy(predictions: Array, labels: Tensor) -> float:
    return float((predictions == labels.numpy()).mean())


def test_a_row_of_table_s4_says_what_the_three_networks_do(
    trained: Trained, tmp_path: Path
) -> None:
    run = RunDirectory(shutil.copytree(trained.run.path, tmp_path / "run"))
    network = trained.network(run.best_checkpoint)
    norm = network.members()[0].norm
    assert norm is not None
    with torch.no_grad():
        norm.beta[2] = 20  # this channel will always fire
    checkpoint.save(run.best_checkpoint, network, trained.settings, None, {"epoch": 1})
    quantize(run, QuantizeConfig(bits=3, epochs=1, device="cpu"))
    shown_as, (payloads, labels) = trained.digits.input, trained.digits.test
    network.precision = resolve_precision("auto", torch.device("cpu"))
    outputs, _ = shown(network, payloads, shown_as)
    rounded = QuantizedNetwork(fold(network, shown_as.step), network.neuron, shown_as, 3)
    before = reference.run(rounded.freeze("r", network.shapes, ()), payloads.numpy())
    folder = run.quantized(3)
    written = network_file.read(folder / "network.safetensors")
    after = reference.run(written, payloads.numpy(), record=True)
    assert after.spikes is not None
    held, held_labels = trained.digits.validation
    on_held = reference.run(written, held.numpy())
    fired = {name: train.sum((0, 1)) for name, train in after.spikes.items()}
    row = json.loads((folder / "row.json").read_text())
    expected = {
        "neuron": "if",
        "timesteps": 2,
        "bits": 3,
        "float_accuracy": share_correct(outputs, labels),
        "post_training_accuracy": whole_accuracy(before.predictions, labels),
        "accuracy": whole_accuracy(after.predictions, labels),
        "epoch": 1,
        "epochs": 1,
        "validation_accuracy": whole_accuracy(on_held.predictions, held_labels),
        "validation_samples": len(held_labels),
        "samples": 360,
        "dead": {n: int((f == 0).sum()) for n, f in fired.items() if (f == 0).any()},
        "always_on": {n: int((f == 720).sum()) for n, f in fired.items() if (f == 720).any()},
        "made_from": digest(run.best_checkpoint),
    }
    columns = ("float_accuracy", "post_training_accuracy", "accuracy", "validation_accuracy")
    assert len({expected[name] for name in columns}) == 4  # none stands for another
    assert expected["dead"]
    assert expected["always_on"]
    assert_same(row, expected)
    assert json.loads((folder / "predictions.json").read_text()) == after.predictions.tolist()
