"""Where a threshold chosen from data lies, by a scripted network of one layer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dsr_deploy.training.thresholds import choose_thresholds


class OneLayer:
    """Stands for a network whose layer's mean inputs are known; notes what is done to it."""

    def __init__(self, mean_input: Tensor, tau: float = 1.0, least: float = 0.0) -> None:
        self.neuron, self.mean_input, self.least = SimpleNamespace(divisor=tau), mean_input, least
        self.height = torch.tensor(7.0, dtype=torch.float64)
        self.statistics = {"norm.running_mean": torch.tensor(5.0), "weight": torch.tensor(2.0)}
        self.done: list[Any] = []

    def train(self) -> None:
        self.done.append("train")

    def state_dict(self) -> dict[str, Tensor]:
        return self.statistics

    def load_state_dict(self, state: dict[str, Tensor], strict: bool) -> None:
        self.done.append(("load", {k: v.item() for k, v in state.items()}, strict))

    def clamp_thresholds(self) -> None:
        self.height.clamp_(min=self.least)

    def __call__(self, pixels: Tensor, *, before_firing: Any) -> None:
        self.done.append(("run", pixels, torch.is_grad_enabled()))
        self.statistics["norm.running_mean"].fill_(99.0)  # as a pass in training mode does
        before_firing(SimpleNamespace(height=self.height), self.mean_input)


def chosen(network: Any) -> float:
    choose_thresholds(network, torch.zeros(1))
    return float(network.height)


def test_the_quantile_is_of_positive_inputs_divided_by_the_time_constant() -> None:
    inputs = torch.tensor([-5.0, 0.0, *range(1, 102)])
    assert chosen(OneLayer(inputs)) == 100.0
    assert chosen(OneLayer(inputs, tau=4.0)) == 25.0


def test_of_a_large_layer_a_hundred_thousand_places_are_read_evenly() -> None:
    inputs = torch.arange(1.0, 1_000_001.0)  # float32 holds each
    places = np.linspace(0, 999_999, 100_000).astype(int)
    expected = np.quantile(places + 1.0, 0.99)
    assert chosen(OneLayer(inputs)) == pytest.approx(expected, abs=0.05)


def test_it_runs_once_in_training_mode_without_gradients_and_restores_statistics() -> None:
    network = OneLayer(torch.ones(3))
    assert chosen(network) == 1.0
    assert network.done == [
        "train",
        ("run", torch.zeros(1), False),
        ("load", {"norm.running_mean": 5.0}, False),
    ]


def test_no_threshold_is_chosen_below_its_bound() -> None:
    assert chosen(OneLayer(torch.full((3,), 0.25), least=0.5)) == 0.5
    assert chosen(OneLayer(torch.full((3,), 0.75), least=0.5)) == 0.75


def test_where_no_input_is_positive_the_threshold_stays() -> None:
    assert chosen(OneLayer(torch.tensor([0.0, -1.0]))) == 7.0
