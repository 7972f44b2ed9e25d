"""The presets against the supplement, C.3, C.4, Tables S2 and S3, every number typed from it."""

from __future__ import annotations

from typing import Any

import pytest

from dsr_deploy.models.architectures import topology
from dsr_deploy.models.network import SpikingNetwork
from dsr_deploy.models.neuron import Neuron
from dsr_deploy.run import config
from dsr_deploy.training.optimizer import learning_rate

NEURON = ("v_threshold", "v_threshold_min", "dt", "alpha")
TABLE_S2 = {  # time steps: initial Vth, lower bound for Vth, dt, alpha
    20: (0.3, 0.0005, 0.05, 0.3),
    15: (0.3, 0.0005, 0.05, 0.4),
    10: (0.3, 0.0005, 0.05, 0.4),
    5: (0.6, 0.001, 0.1, 0.5),
}
TRAINING = ("arch", "optimizer", "epochs", "lr", "batch_size")
TABLE_S3 = {  # with the network of C.3
    "cifar10": ("resnet18", "sgd", 200, 0.1, 128),
    "cifar100": ("resnet18", "sgd", 200, 0.1, 128),
    "imagenet": ("resnet18", "adam", 90, 0.001, 144),
    "cifar10-dvs": ("vgg11", "sgd", 300, 0.05, 128),
}
TIMESTEPS = {
    "cifar10": (5, 10, 15, 20),
    "cifar100": (5, 10, 15, 20),
    "imagenet": (5, 10, 15, 20),
    "cifar10-dvs": (20,),
}
PRESETS = [
    (data, neuron, steps)
    for data, all_steps in TIMESTEPS.items()
    for neuron in ("if", "lif")
    for steps in all_steps
]


def values(settings: config.Config, names: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(getattr(settings, name) for name in names)


def test_there_is_a_preset_for_each_row_and_no_other() -> None:
    assert sorted(config.presets()) == sorted(f"{d}-{n}-t{t}" for d, n, t in PRESETS)


@pytest.mark.parametrize(("data", "neuron", "steps"), PRESETS)
def test_a_preset_is_the_papers(data: str, neuron: str, steps: int) -> None:
    settings = config.resolve(preset=f"{data}-{neuron}-t{steps}")
    assert values(settings, ("dataset", "neuron", "timesteps")) == (data, neuron, steps)
    expected = dict(zip(TRAINING, TABLE_S3[data], strict=True))
    if data.startswith("cifar") and steps == 5:
        expected["lr"] = 0.05  # C.4: 0.05 in place of 0.1 with 5 time steps
    assert values(settings, TRAINING) == tuple(expected.values())
    if neuron == "if":  # C.4
        assert values(settings, ("v_threshold", "v_threshold_min", "alpha")) == (6, 0.01, 0.5)
    else:
        assert values(settings, NEURON) == TABLE_S2[steps]
        assert settings.tau == 1
    # Cosine annealing from the first step, and no network chosen on held-out samples.
    assert values(settings, ("warmup_epochs", "validation")) == (0, 0)


@pytest.mark.parametrize("data", TABLE_S3)
def test_the_learning_rate_of_the_paper_is_a_cosine(data: str) -> None:
    settings = config.resolve(preset=f"{data}-if-t20")
    lr, epochs = settings.lr, settings.epochs
    assert learning_rate(settings, 0) == lr
    assert learning_rate(settings, epochs / 3) == pytest.approx(lr * 3 / 4)
    assert learning_rate(settings, epochs / 2) == pytest.approx(lr / 2)
    assert learning_rate(settings, epochs * 2 / 3) == pytest.approx(lr / 4)
    assert learning_rate(settings, epochs) == 0


@pytest.mark.parametrize("steps", [1, 4, 7, 8, 12, 13, 17, 18, 40])
def test_between_the_rows_of_table_s2_the_nearest_counts(steps: int) -> None:
    nearest = {1: 5, 4: 5, 7: 5, 8: 10, 12: 10, 13: 15, 17: 15, 18: 20, 40: 20}[steps]
    settings = config.resolve(neuron="lif", timesteps=steps)
    assert values(settings, NEURON[1:]) == TABLE_S2[nearest][1:]
    assert settings.v_threshold is None  # chosen from the data


@pytest.mark.parametrize("neuron", ["if", "lif"])
def test_a_preset_reaches_the_neurons(neuron: str) -> None:
    """From the configuration to the network: initial thresholds in the unit of Vth."""
    settings = config.resolve(preset=f"cifar10-{neuron}-t20")
    constants = Neuron(
        neuron,  # type: ignore[arg-type]
        settings.timesteps,
        settings.alpha,
        settings.v_threshold_min,
        settings.tau,
        settings.dt,
    )
    net = topology("resnet-tiny", (3, 8, 8), 10)
    network = SpikingNetwork(net, constants, settings.v_threshold or 0)
    height, lowest = (6, 0.01) if neuron == "if" else (0.3 / 0.05, 0.0005 / 0.05)
    for population in network.members():
        assert population.height.item() == pytest.approx(height)
        population.height.data.fill_(0)
    network.clamp_thresholds()
    for population in network.members():
        assert population.height.item() == pytest.approx(lowest)
