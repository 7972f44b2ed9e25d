"""The weight of each timestep in a score, in whole numbers."""

from __future__ import annotations

import math

import pytest

from dsr_deploy.lowering.quantized_network import readout
from dsr_deploy.models.neuron import Neuron


@pytest.mark.parametrize("timesteps", [1, 5])
def test_if_counts_every_timestep_once(timesteps: int) -> None:
    assert readout(Neuron("if", timesteps, 0.5, 0.01)) == (1,) * timesteps


def test_lif_forgets_what_is_long_ago() -> None:
    neuron = Neuron("lif", 4, 0.5, 0.01, tau=1.0, dt=math.log(2))
    assert readout(neuron) == (512, 1024, 2048, 4096)


def test_no_timestep_counts_for_nothing() -> None:
    neuron = Neuron("lif", 4, 0.5, 0.01, tau=1.0, dt=5.0)
    # 4096 * exp(-15), exp(-10), exp(-5), 1
    assert readout(neuron) == (1, 1, 28, 4096)


def test_readouts_are_the_weights_of_the_representation() -> None:
    neuron = Neuron("lif", 6, 0.5, 0.01, tau=1.0, dt=0.3)
    whole = readout(neuron)
    for weight, share in zip(whole, neuron.weights, strict=True):
        assert weight / sum(whole) == pytest.approx(share, rel=1e-3)
