"""The event-driven simulator against the reference, and its counters against naive ones."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import integer_networks, payloads_for

from dsr_deploy.hardware import reference
from dsr_deploy.hardware.errors import PayloadError, RegisterError
from dsr_deploy.hardware.event.simulation import Simulation
from dsr_deploy.hardware.event.simulator import Simulator
from dsr_deploy.hardware.network import (
    INPUT,
    Connection,
    Input,
    IntegerNetwork,
    Population,
)


@pytest.fixture
def tiny() -> IntegerNetwork:
    """One neuron that sees two pixels of a constant image for three timesteps."""
    return IntegerNetwork(
        name="tiny",
        timesteps=3,
        input=Input((1, 1, 2), (0.0,), (1.0,), 1.0, 1.0),
        populations=(
            Population(
                name="out",
                shape=(1, 1, 1),
                bias=np.array([1], np.int32),
                v_fire=np.array([6], np.int32),
                v_threshold=np.array([4], np.int32),
            ),
        ),
        connections=(
            Connection(INPUT, "out", "linear", np.array([[2, -3]], np.int8), weight_bits=3),
        ),
        readout=(1, 10, 100),
    )


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_every_spike_and_score_is_the_references(data):
    network = data.draw(integer_networks())
    payloads = data.draw(payloads_for(network))
    expected = reference.run(network, payloads, record=True)
    found = Simulator(network).run(payloads, record=True, threads=data.draw(st.integers(1, 3)))
    assert_same_run(found, expected)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_sums_of_any_width_are_exact_or_refused_like_the_references(data):
    network = data.draw(integer_networks(in_range=False))
    payloads = data.draw(payloads_for(network, max_samples=1))
    try:
        expected = reference.run(network, payloads, record=True)
    except RegisterError as error:
        place = str(error).split(":")[0]
        with pytest.raises(RegisterError, match=f"^{place}: .* at timestep .* of sample 0 leaves"):
            Simulator(network).run(payloads)
    else:
        assert_same_run(Simulator(network).run(payloads, record=True), expected)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_counts_are_those_of_the_recorded_spikes(data):
    network = data.draw(integer_networks())
    payloads = data.draw(payloads_for(network))
    found = Simulator(network).run(payloads, threads=2)
    assert found.run.spikes is None
    spikes = reference.run(network, payloads, record=True).spikes
    assert spikes is not None
    for population in network.populations:
        counts, fired = found.populations[population.name], spikes[population.name]
        assert np.array_equal(counts.spikes, fired.sum((0, 1)))
        assert np.array_equal(counts.per_timestep, fired.sum((0, 2, 3, 4)))
        assert counts.updates == fired.size
        assert (counts.u_min, counts.u_max) == naive_extremes(
            network, payloads, spikes, population.name
        )
    shown = shown_payloads(network, payloads)
    assert found.input_events == np.count_nonzero(shown)
    for connection, counted in zip(network.connections, found.connections, strict=True):
        sent = shown != 0 if connection.source == INPUT else spikes[connection.source]
        assert counted.events == (sent & naive_targets(connection, sent.shape[2:])).sum()
        assert counted.synops == naive_synops(connection, sent)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_batches_merge_to_the_whole(data):
    network = data.draw(integer_networks())
    payloads = np.concatenate([data.draw(payloads_for(network)) for _ in range(3)])
    simulator = Simulator(network)
    whole = simulator.run(payloads, record=True, threads=1)
    batches = np.array_split(payloads, 3)
    merged = reduce(Simulation.merge, (simulator.run(batch, record=True) for batch in batches))
    assert_same_run(merged, whole.run)
    assert merged.samples == whole.samples == len(payloads)
    assert merged.connections == whole.connections
    assert merged.input_events == whole.input_events
    for name, counts in whole.populations.items():
        found = merged.populations[name]
        assert np.array_equal(found.spikes, counts.spikes)
        assert np.array_equal(found.per_timestep, counts.per_timestep)
        assert (found.updates, found.u_min, found.u_max) == (
            counts.updates,
            counts.u_min,
            counts.u_max,
        )


def test_batches_without_spikes_merge_without_them(tiny):
    simulator = Simulator(tiny)
    recorded = simulator.run(np.ones((1, 1, 1, 2), np.int8), record=True)
    plain = simulator.run(np.ones((1, 1, 1, 2), np.int8))
    assert recorded.merge(plain).run.spikes is None


def test_a_network_worked_by_hand(tiny):
    # u: 0 + 2*5 - 3*1 + 1 = 8, fires at 6, keeps 4; then 12, keeps 8; then 16, keeps 12.
    found = Simulator(tiny).run(np.array([[[[5, 1]]], [[[0, 0]]]], np.int8))
    assert found.run.scores.tolist() == [[1 + 10 + 100], [0]]
    counts = found.populations["out"]
    assert counts.spikes.tolist() == [[[3]]]
    assert counts.per_timestep.tolist() == [1, 1, 1]
    assert (counts.updates, counts.u_min, counts.u_max) == (6, 0, 16)
    assert (found.connections[0].events, found.connections[0].synops) == (6, 6)
    assert found.input_events == 6


def test_sums_beyond_32_bits_that_cancel_are_exact(tiny):
    # 127 * 128 * 2**23 is added and taken away again; one is left.
    (connection,) = tiny.connections

    def weighted(a: int, exponent: int) -> Connection:
        weight = np.array([[a, 0]], np.int8)
        return replace(connection, weight=weight, weight_bits=8, exponent=exponent)

    network = replace(
        tiny,
        input=replace(tiny.input, framed=True),
        connections=(weighted(127, 23), weighted(-127, 23), weighted(1, 0)),
    )
    payloads = np.full((1, 3, 1, 1, 2), -128, np.int8)
    found = Simulator(network).run(payloads).populations["out"]
    assert (found.u_min, found.u_max) == (3 * (1 - 128), 0)


def test_no_samples_give_empty_results(tiny):
    found = Simulator(tiny).run(np.zeros((0, 1, 1, 2), np.int8), record=True)
    assert found.samples == 0
    assert found.run.spikes is not None
    assert found.run.spikes["out"].shape == (0, 3, 1, 1, 1)
    assert found.populations["out"].updates == 0


def test_the_earliest_sample_that_leaves_the_register_is_named(tiny):
    network = with_weights(tiny, exponent=14)
    payloads = np.zeros((4, 1, 1, 2), np.int8)
    payloads[2:] = [[[127, -128]]]
    for threads in (1, 2, 4):
        with pytest.raises(RegisterError) as refused:
            Simulator(network).run(payloads, threads=threads)
        assert str(refused.value) == (
            "population 'out': membrane potential 10452993 at timestep 0 of sample 2 "
            "leaves the 24-bit register (-8388608 to 8388607)"
        )


@pytest.mark.parametrize(
    ("u", "fits"), [(2**23 - 1, 1), (2**23, 0), (-(2**23), 1), (-(2**23) - 1, 0)]
)
def test_a_register_may_be_just_full(tiny, u, fits):
    (out,) = tiny.populations
    full = replace(out, bias=np.array([u], np.int32), v_fire=np.array([2**31 - 1], np.int32))
    network = replace(tiny, populations=(full,), timesteps=1, readout=(1,))
    simulator = Simulator(network)
    if fits:
        counts = simulator.run(np.zeros((1, 1, 1, 2), np.int8)).populations["out"]
        assert (counts.u_min, counts.u_max) == (min(u, 0), max(u, 0))
        return
    with pytest.raises(RegisterError, match=f"^population 'out': membrane potential {u} at"):
        simulator.run(np.zeros((1, 1, 1, 2), np.int8))


def test_payloads_of_another_shape_are_refused(tiny):
    with pytest.raises(PayloadError) as refused:
        Simulator(tiny).run(np.zeros((1, 1, 2, 2), np.int8))
    assert str(refused.value) == (
        "input: payloads are int8 of shape (1, 1, 2, 2), not int8 of shape (N, 1, 1, 2)"
    )


def with_weights(network: IntegerNetwork, exponent: int) -> IntegerNetwork:
    (connection,) = network.connections
    return replace(network, connections=(replace(connection, exponent=exponent),))


def assert_same_run(found: Simulation, expected: reference.Run) -> None:
    assert np.array_equal(found.run.scores, expected.scores)
    assert found.run.spikes is not None
    assert expected.spikes is not None
    assert list(found.run.spikes) == list(expected.spikes)
    for name, spikes in expected.spikes.items():
        assert np.array_equal(found.run.spikes[name], spikes), name


def shown_payloads(network: IntegerNetwork, payloads: np.ndarray) -> np.ndarray:
    """What enters at every timestep, (N, T, C, H, W)."""
    return payloads if network.input.framed else np.stack([payloads] * network.timesteps, axis=1)


def naive_targets(connection: Connection, source: tuple[int, int, int]) -> np.ndarray:
    """Which neurons of the source lead anywhere, bool (C, H, W): each sends alone, through ones."""
    ones = replace(connection, weight=np.ones_like(connection.weight))
    alone = np.eye(int(np.prod(source)), dtype=np.int64).reshape(-1, *source)
    return (reference.transmit(ones, alone) != 0).any(axis=(1, 2, 3)).reshape(source)


def naive_synops(connection: Connection, sent: np.ndarray) -> int:
    """With weights of one, every delivery adds one to the sum."""
    ones = replace(connection, weight=np.ones_like(connection.weight))
    frames = (sent != 0).astype(np.int64).reshape(-1, *sent.shape[2:])
    return int(reference.transmit(ones, frames).sum())


def naive_extremes(
    network: IntegerNetwork, payloads: np.ndarray, spikes: dict[str, np.ndarray], name: str
) -> tuple[int, int]:
    """Extremes of u, recomputed from the spikes that arrive and leave."""
    population = next(p for p in network.populations if p.name == name)
    shown = shown_payloads(network, payloads)
    v = np.zeros((len(payloads), *population.shape), np.int64)
    low = high = 0
    for t in range(network.timesteps):
        u = np.trunc(v * (4096 - population.decay) / 4096).astype(np.int64)
        u += population.bias[:, None, None]
        for connection in network.incoming(population):
            sent = shown if connection.source == INPUT else spikes[connection.source]
            u += reference.transmit(connection, sent[:, t].astype(np.int64)) << connection.exponent
        low, high = min(low, int(u.min())), max(high, int(u.max()))
        v = u - population.v_threshold[:, None, None] * spikes[name][:, t]
    return low, high
