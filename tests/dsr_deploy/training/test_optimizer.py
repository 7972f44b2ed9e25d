"""How parameters move: the learning rate of each step, decay, momentum, and that they do move."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dsr_deploy.data.encoding import encode
from dsr_deploy.data.loading import load
from dsr_deploy.data.samples import TensorSplit
from dsr_deploy.hardware import reference
from dsr_deploy.hardware.network import IntegerNetwork
from dsr_deploy.lowering import fine_tune
from dsr_deploy.lowering.fold import fold
from dsr_deploy.lowering.quantized_network import QuantizedNetwork
from dsr_deploy.models.architectures import topology
from dsr_deploy.models.network import SpikingNetwork
from dsr_deploy.progress import Silent
from dsr_deploy.run import config
from dsr_deploy.run.config import Config
from dsr_deploy.run.directory import RunDirectory
from dsr_deploy.run.trained import build, load_trained
from dsr_deploy.stages import train
from dsr_deploy.training import loop
from dsr_deploy.training.optimizer import learning_rate, make_optimizer

SMALL = {"timesteps": 2, "precision": "fp32", "device": "cpu"}


def test_the_learning_rate_rises_in_a_line_and_falls_as_a_cosine() -> None:
    settings = config.resolve(epochs=10, warmup_epochs=2, lr=0.4)
    # From a sixteenth of an epoch's rise, since a step with rate 0 would be none.
    assert learning_rate(settings, 0) == pytest.approx(0.4 / 33)
    assert learning_rate(settings, 1) == pytest.approx(0.4 * 17 / 33)
    assert learning_rate(settings, 2 - 1e-9) == pytest.approx(0.4)
    assert learning_rate(settings, 2) == 0.4
    assert learning_rate(settings, 4) == pytest.approx(0.4 * (1 + 0.5**0.5) / 2)
    assert learning_rate(settings, 6) == pytest.approx(0.2)
    assert learning_rate(settings, 10) == 0


def test_without_warm_up_the_learning_rate_starts_at_its_height() -> None:
    settings = config.resolve(epochs=4, warmup_epochs=0, lr=0.4)
    moments = [learning_rate(settings, epoch) for epoch in (0, 1, 2, 3, 4)]
    assert moments == pytest.approx([0.4, 0.2 * (1 + 0.5**0.5), 0.2, 0.2 * (1 - 0.5**0.5), 0])


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_every_step_of_training_has_its_learning_rate(
    optimizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[list[float]] = []

    def watched(settings: Config, network: SpikingNetwork) -> torch.optim.Optimizer:
        made = make_optimizer(settings, network)
        made.register_step_pre_hook(
            lambda o, *_: rates.append([group["lr"] for group in o.param_groups])
        )
        return made

    monkeypatch.setattr(loop, "make_optimizer", watched)
    choice = {"epochs": 3, "warmup_epochs": 1, "batch_size": 640, "validation": 0.0, "timesteps": 1}
    settings = config.resolve(**SMALL | choice, optimizer=optimizer, lr=0.01)
    train.train(settings, RunDirectory(tmp_path))
    expected = [learning_rate(settings, step / 3) for step in range(9)]  # 1437 = 640 + 640 + 157
    np.testing.assert_allclose(rates, [[rate, rate] for rate in expected])


def small_network(**choice: Any) -> tuple[Config, SpikingNetwork]:
    settings = config.resolve(**SMALL | choice)
    torch.manual_seed(0)
    return settings, build(settings, topology(settings.arch, (1, 8, 8), 10))


def moved(optimizer: torch.optim.Optimizer, network: SpikingNetwork, grad: float) -> Any:
    """Return how far one step with the same gradient everywhere moves each parameter, by name."""
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    for parameter in network.parameters():
        parameter.grad = torch.full_like(parameter, grad)
    optimizer.step()
    return {name: p.detach() - before[name] for name, p in network.named_parameters()}


def decays(name: str) -> bool:
    """Weights of convolutions and the linear layer; not gamma, beta, height."""
    kinds = {"weights": True, "norm": False, "height": False}
    return kinds[name.split(".")[2]]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_weights_alone_decay(optimizer: str) -> None:
    settings, network = small_network(optimizer=optimizer, lr=0.5, weight_decay=0.25)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    steps = moved(make_optimizer(settings, network), network, 0.0)
    assert {name.split(".", 2)[2] for name in steps} == {
        "weights.0", "weights.1", "norm.gamma", "norm.beta", "height",
    }  # fmt: skip
    for name, step in steps.items():
        expected = torch.zeros_like(step)
        if decays(name) and optimizer == "sgd":
            expected = -0.5 * 0.25 * before[name]
        elif decays(name):  # Adam's first step has the size of the rate, if the weight has one
            large = before[name].abs() > 1e-3
            step, expected = step[large], -0.5 * before[name].sign()[large]
        torch.testing.assert_close(step, expected, rtol=1e-4, atol=1e-5, msg=name)


def test_decay_and_momentum_of_the_optimizers() -> None:
    settings, _ = small_network()
    assert (settings.momentum, settings.weight_decay) == (0.9, 5e-4)  # the authors' code's
    settings = config.resolve("imagenet-if-t5")
    assert settings.weight_decay == 0


def test_momentum_carries_steps_on() -> None:
    settings, network = small_network(lr=0.5, momentum=0.75, weight_decay=0.0)
    optimizer = make_optimizer(settings, network)
    for sum_of_past in (1.0, 1.75, 1.75 * 0.75 + 1):
        for name, step in moved(optimizer, network, 0.125).items():
            expected = torch.full_like(step, -0.5 * 0.125 * sum_of_past)
            torch.testing.assert_close(step, expected, rtol=1e-4, atol=1e-6, msg=name)


def test_no_step_leaves_a_threshold_below_its_bound(tmp_path: Path) -> None:
    choice = {"epochs": 1, "v_threshold": 0.5, "v_threshold_min": 0.5, "batch_size": 512}
    run = RunDirectory(tmp_path)
    train.train(config.resolve(**SMALL | choice), run)
    heights = [p.height.item() for p in load_trained(run).network.members()]
    assert min(heights) == 0.5
    assert max(heights) > 0.5


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    run = RunDirectory(tmp_path_factory.mktemp("run"))
    train.train(config.resolve(**SMALL | {"epochs": 3, "batch_size": 64}), run)
    return run


def learned(network: IntegerNetwork, payloads: Tensor, labels: Tensor) -> float:
    found = reference.run(network, payloads.numpy()).predictions
    return float(np.mean(found == labels.numpy()))


@pytest.mark.slow
def test_fine_tuning_improves_a_network_of_2_bits(trained: RunDirectory) -> None:
    """On what it learns from: that it steps, and in the right direction."""
    about = load_trained(trained)
    network, shown = about.network, about.description.input
    split = load("digits", timesteps=2).train
    assert isinstance(split, TensorSplit)
    model = QuantizedNetwork(fold(network, shown.step), network.neuron, shown, bits=2)

    def freeze() -> IntegerNetwork:
        return copy.deepcopy(model).freeze("digits", network.shapes, ())

    schedule = fine_tune.Schedule(epochs=3, lr=0.01, batch_size=64, seed=0)
    rounded, taken = fine_tune.fine_tune(
        model, freeze, split, None, schedule, torch.device("cpu"), Silent()
    )
    payloads = encode(shown, split.pixels[:300])
    before, after = (
        learned(made.network, payloads, split.labels[:300]) for made in (rounded, taken)
    )
    assert taken.epoch == 3
    assert after > before + 0.2
