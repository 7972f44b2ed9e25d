"""The least time of an inference, worked by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from random_networks import random_network

from dsr_deploy.hardware.chip import load_chip
from dsr_deploy.hardware.core_load import CoreLoad, core_load
from dsr_deploy.hardware.energy.constants import CONSTANT_SETS, Duration, Times, load_constants
from dsr_deploy.hardware.event.simulator import Simulator
from dsr_deploy.hardware.mapping import map_network
from dsr_deploy.hardware.network import INPUT, Connection, Input, IntegerNetwork, Population
from dsr_deploy.hardware.time_bound import TimeBound, time_bound


def population(name: str, channels: int) -> Population:
    one = np.ones(channels, np.int32)
    return Population(name, (channels, 1, 1), 0 * one, one, one)


def network() -> IntegerNetwork:
    """Two layers and a way past the first; two timesteps."""
    return IntegerNetwork(
        name="two",
        timesteps=2,
        input=Input((1, 1, 1), (0.0,), (1.0,), 1.0, 1.0),
        populations=(population("a", 1), population("out", 1)),
        connections=(
            Connection(INPUT, "a", "conv", np.ones((1, 1, 1, 1), np.int8), 8),
            Connection("a", "out", "linear", np.ones((1, 1), np.int8), 8),
            Connection(INPUT, "out", "identity", np.ones(1, np.int8), 8),
        ),
        readout=(1, 1),
    )


def times(conv: float, linear: float, identity: float, update: float, barrier: float) -> Times:
    def ns(value: float) -> Duration:
        return Duration(value, "assumed")

    kinds = {"conv": ns(conv), "linear": ns(linear), "pool": ns(1e9), "identity": ns(identity)}
    return Times((), kinds, ns(update), ns(barrier))  # type: ignore[arg-type]


def counts(*rows: list[list[int]]) -> np.ndarray:
    return np.array(rows, np.int64)[:, :, None, :]


LOAD = CoreLoad(
    synops=(
        counts([[10, 30], [20, 0]], [[0, 0], [1, 1]]),  # of a, on two cores
        counts([[5], [7]], [[0], [0]]),  # of out, from a
        counts([[1], [0]], [[0], [2]]),  # of out, from the input
    ),
    reads=(counts([[9, 9], [9, 9]], [[9, 9], [9, 9]]),) * 3,
    neurons={"a": np.array([[4, 2]]), "out": np.array([[3]])},
)


def test_each_step_lasts_as_long_as_its_busiest_core() -> None:
    # The last layer is a step behind the first: steps (a 0), (a 1, out 0), (out 1).
    found = time_bound(network(), LOAD, times(2, 10, 100, 3, 1000))
    # Synapses: 60, max(40, 5 * 10 + 1 * 100), 70 and 0, max(2, 0), 200. Updates: 12, 12, 9.
    assert found.steps == 3
    assert found.synapses == pytest.approx((60 + 150 + 70 + 200) / 2 * 1e-9)
    assert found.updates == pytest.approx((12 + 12) / 2 * 1e-9)
    assert found.barrier == pytest.approx(3000e-9)
    assert found.total == pytest.approx((240 + 12 + 3000) * 1e-9)


def test_reads_take_no_time() -> None:
    none = replace(LOAD, reads=tuple(0 * reads for reads in LOAD.reads))
    spent = times(2, 10, 100, 3, 1000)
    assert time_bound(network(), none, spent) == time_bound(network(), LOAD, spent)


def test_the_whole_is_the_sum_of_its_parts() -> None:
    assert TimeBound(1, 1.0, 2.0, 4.0).total == 7.0


@pytest.mark.parametrize("seed", range(4))
def test_more_cores_never_take_longer_apart_from_the_barriers(seed: int) -> None:
    build = random_network(seed)
    net, payloads, chip = build.network(), build.payloads(2), load_chip("loihi2")
    spikes = Simulator(net).run(payloads, record=True).run.spikes
    assert spikes is not None
    constants = load_constants("loihi1-sanafe").times
    assert constants is not None
    small = replace(chip, neurons_per_core=replace(chip.neurons_per_core, value=30))
    one, many = (
        time_bound(net, core_load(net, c, map_network(net, c), payloads, spikes), constants)
        for c in (chip, small)
    )
    assert many.synapses + many.updates < one.synapses + one.updates
    assert (many.steps, many.barrier) == (one.steps, one.barrier)


def test_only_sets_with_times_have_them() -> None:
    found = {name: load_constants(name).times for name in CONSTANT_SETS}
    assert found["45nm-horowitz2014"] is None
    davies, sanafe = found["loihi1-davies2018"], found["loihi1-sanafe"]
    assert davies is not None
    assert sanafe is not None
    assert {kind: each.ns for kind, each in davies.synapse.items()} == dict.fromkeys(
        ("conv", "linear", "pool", "identity"), 3.5
    )
    assert (davies.neuron_update.ns, davies.barrier.ns) == (5.3, 113)
    assert {kind: each.ns for kind, each in sanafe.synapse.items()} == {
        "conv": 3.1, "linear": 3.8, "pool": 4.7, "identity": 4.7,
    }  # fmt: skip
    assert (sanafe.neuron_update.ns, sanafe.barrier.ns) == (6.0, 600)
