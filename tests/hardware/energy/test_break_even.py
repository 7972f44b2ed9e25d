"""The firing rate at which a spiking network takes what a conventional one takes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dsr_deploy.hardware.energy.break_even import break_even_rate
from dsr_deploy.hardware.energy.constants import Constant, ConstantSet, load_constants
from dsr_deploy.hardware.energy.estimate import estimate, estimate_ann
from dsr_deploy.hardware.event.simulator import Simulator
from dsr_deploy.hardware.network import INPUT, Connection, Input, IntegerNetwork, Population

HOROWITZ = load_constants("45nm-horowitz2014")
WITH_MEMORY = replace(HOROWITZ, ann_mac=Constant(90.0, "assumed"))


def network(hidden: int = 8, bias: int = 1) -> IntegerNetwork:
    """Every hidden neuron adds its bias at each timestep and fires at 4; the outputs never do."""

    def population(name: str, channels: int, bias: int) -> Population:
        each = np.ones(channels, np.int32)
        return Population(name, (channels, 1, 1), bias * each, 4 * each, 4 * each)

    return IntegerNetwork(
        name="rates",
        timesteps=4,
        input=Input((1, 1, 1), (0.0,), (1.0,), 1.0, 1.0),
        populations=(population("hidden", hidden, bias), population("out", 2, 0)),
        connections=(
            Connection(INPUT, "hidden", "linear", np.zeros((hidden, 1), np.int8), 8),
            Connection("hidden", "out", "linear", np.zeros((2, hidden), np.int8), 8),
        ),
        readout=(1,) * 4,
    )


PAYLOADS = np.ones((2, 1, 1, 1), np.int8)


def even_rate(net: IntegerNetwork, constants: ConstantSet) -> float | None:
    """Return the break-even rate of ``net`` on the payloads."""
    simulation = Simulator(net).run(PAYLOADS)
    return break_even_rate(simulation, net, estimate(simulation, net, constants))


def priced(synapse: float, mac: float, spike: float = 0.0, update: float = 0.0) -> ConstantSet:
    """Return constants without memory."""

    def pj(value: float) -> Constant:
        return Constant(value, "assumed")

    return replace(
        HOROWITZ,
        synapse=dict.fromkeys(HOROWITZ.synapse, pj(synapse)),
        payload_synapse=pj(0.5),
        neuron_update=dict.fromkeys(HOROWITZ.neuron_update, pj(update)),
        spike=pj(spike),
        memory_bit=None,
        ann_mac=pj(mac),
    )


def test_a_rate_worked_by_hand() -> None:
    # Per inference: 32 synops of the input, 8 spikes to 2 targets each, 40 updates; 8 + 16 MACs.
    rate = 8 / 40
    found = even_rate(network(), priced(synapse=3, mac=10, spike=4, update=1))
    # 240 pJ - 16 pJ of the input - 40 pJ of updates; spikes take 16 * 3 + 8 * 4 pJ.
    assert found == pytest.approx(rate * (240 - 16 - 40) / (48 + 32))


@pytest.mark.parametrize("constants", [WITH_MEMORY, priced(3, 10, 4, 1)])
def test_a_network_that_fires_at_that_rate_takes_what_the_conventional_one_takes(
    constants: ConstantSet,
) -> None:
    # One network fires once in four timesteps, one always: linear in between, so also beyond.
    slow, fast = network(bias=1), network(bias=4)
    counted = [Simulator(net).run(PAYLOADS) for net in (slow, fast)]
    rates = [8 / 40, 32 / 40]
    taken = [
        estimate(simulation, net, constants).energy.total
        for simulation, net in zip(counted, (slow, fast), strict=True)
    ]
    even = even_rate(slow, constants)
    assert even == pytest.approx(even_rate(fast, constants))
    assert even is not None
    at_even = taken[0] + (even - rates[0]) * (taken[1] - taken[0]) / (rates[1] - rates[0])
    assert at_even == pytest.approx(estimate_ann(slow, constants).energy.total)


def test_a_network_that_takes_more_without_a_spike_is_never_even() -> None:
    assert even_rate(network(), priced(3, mac=0.1)) == 0


def test_a_network_that_always_takes_less_is_even_above_1() -> None:
    found = even_rate(network(), priced(0.01, mac=10))
    assert found is not None
    assert found > 1


def test_there_is_no_rate_without_a_spike_or_a_multiply_accumulate() -> None:
    assert even_rate(network(bias=0), HOROWITZ) is None
    assert even_rate(network(), load_constants("loihi1-sanafe")) is None
    assert even_rate(network(), priced(0, mac=1)) is None
