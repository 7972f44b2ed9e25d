"""The clocked simulation of a pipelined chip against the reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import integer_networks, payloads_for
from pipelined_chip import run_scheduled

from dsr_deploy.hardware import reference
from dsr_deploy.hardware.errors import PayloadError
from dsr_deploy.hardware.network import Connection, Input, IntegerNetwork, Population
from dsr_deploy.hardware.schedule import schedule

SETTINGS = settings(max_examples=30, deadline=None)


def population(name, channels, size=1, *, bias=0, v_fire=20, v_threshold=24, decay=0):
    arrays = (np.full(channels, x, np.int32) for x in (bias, v_fire, v_threshold))
    return Population(name, (channels, size, size), *arrays, decay)


def conv(source, target, rng, shape):
    weight = rng.integers(-7, 8, shape).astype(np.int8)
    padding = (shape[2] // 2, shape[3] // 2)
    return Connection(source, target, "conv", weight, 4, exponent=1, padding=padding)


def residual_network(*, framed=False, timesteps=6):
    """Two blocks: an identity shortcut over two convolutions, then a 1x1 convolution over two."""
    rng = np.random.default_rng(3)
    populations = [
        population("stem", 2, 4, bias=3),
        population("block1.a", 3, 4, bias=4, decay=1024),
        population("block1.out", 2, 4, bias=-1),
        population("block2.a", 3, 4),
        population("block2.b", 3, 4, bias=5),
        population("block2.out", 4, 4, bias=1, decay=300),
        population("classes", 3, bias=9),
    ]
    identity = Connection(
        "stem", "block1.out", "identity", np.array([7, -6], np.int8), 4, exponent=1
    )
    connections = [
        conv("input", "stem", rng, (2, 1, 3, 3)),
        conv("stem", "block1.a", rng, (3, 2, 3, 3)),
        conv("block1.a", "block1.out", rng, (2, 3, 3, 3)),
        identity,
        conv("block1.out", "block2.a", rng, (3, 2, 3, 3)),
        conv("block2.a", "block2.b", rng, (3, 3, 3, 3)),
        conv("block2.b", "block2.out", rng, (4, 3, 3, 3)),
        conv("block1.out", "block2.out", rng, (4, 2, 1, 1)),
        Connection("block2.out", "classes", "linear", rng.integers(-7, 8, (3, 64), np.int8), 4),
    ]
    source = Input((1, 4, 4), (0.0,), (1.0,), 1.0, 1.0, -3, 3, framed)
    readout = tuple(range(1, timesteps + 1))
    return IntegerNetwork(
        "residual", timesteps, source, tuple(populations), tuple(connections), readout
    )


def payloads(network, samples=5):
    frames = (network.timesteps,) if network.input.framed else ()
    rng = np.random.default_rng(7)
    return rng.integers(-3, 4, (samples, *frames, *network.input.shape)).astype(np.int8)


def assert_same(found, expected):
    np.testing.assert_array_equal(found.scores, expected.scores)
    for name, spikes in expected.spikes.items():
        np.testing.assert_array_equal(found.spikes[name], spikes, err_msg=name)


def test_start_is_the_longest_path_and_shortcuts_wait():
    scheduled = schedule(residual_network())
    assert {p.name: p.start for p in scheduled.populations} == {
        "stem": 1,
        "block1.a": 2,
        "block1.out": 3,
        "block2.a": 4,
        "block2.b": 5,
        "block2.out": 6,
        "classes": 7,
    }
    delays = {c.name: c.delay for c in scheduled.connections}
    assert {name: delay for name, delay in delays.items() if delay} == {
        "stem->block1.out": 1,
        "block1.out->block2.out": 2,
    }


def test_schedule_changes_nothing_else_and_is_stable():
    network = residual_network()
    once = schedule(network)
    twice = schedule(once)
    assert [(c.name, c.delay) for c in twice.connections] == [
        (c.name, c.delay) for c in once.connections
    ]
    assert [p.start for p in twice.populations] == [p.start for p in once.populations]
    for before, after in zip(network.connections, once.connections, strict=True):
        assert replace(after, delay=0).weight is before.weight
    assert (once.readout, once.timesteps, once.input) == (
        network.readout,
        network.timesteps,
        network.input,
    )


@pytest.mark.parametrize("framed", [False, True])
@pytest.mark.parametrize("timesteps", [1, 6])
def test_scheduled_network_gives_the_reference_spikes(framed, timesteps):
    network = residual_network(framed=framed, timesteps=timesteps)
    images = payloads(network)
    expected = reference.run(network, images, record=True)
    if timesteps > 1:
        assert all(0 < spikes.mean() < 1 for spikes in expected.spikes.values())
    assert_same(run_scheduled(schedule(network), images, record=True), expected)


@st.composite
def shortcut_networks(draw):
    """Draw a chain of convolutions with shortcuts between any of its populations."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    names = ["input", *"abcde"[: draw(st.integers(1, 5))]]
    populations, connections = [], []
    for position, name in enumerate(names[1:]):
        decay = draw(st.sampled_from([0, 512]))
        populations.append(population(name, 2, 3, bias=int(rng.integers(-3, 9)), decay=decay))
        connections.append(conv(names[position], name, rng, (2, 2, 3, 3)))
        shortcuts = [source for source in names[:position] if draw(st.booleans())]
        connections.extend(conv(source, name, rng, (2, 2, 1, 1)) for source in shortcuts)
    populations.append(population("classes", 3, bias=8))
    weight = rng.integers(-7, 8, (3, 18)).astype(np.int8)
    connections.append(Connection(names[-1], "classes", "linear", weight, 4))
    timesteps = draw(st.integers(1, 6))
    zeros, ones = (0.0, 0.0), (1.0, 1.0)
    source = Input((2, 3, 3), zeros, ones, 1.0, 1.0, -3, 3, draw(st.booleans()))
    return IntegerNetwork(
        "random", timesteps, source, tuple(populations), tuple(connections), (1,) * timesteps
    )


@SETTINGS
@given(shortcut_networks())
def test_any_network_of_shortcuts_keeps_its_spikes(network):
    images = payloads(network, samples=2)
    assert_same(
        run_scheduled(schedule(network), images, record=True),
        reference.run(network, images, record=True),
    )


def test_without_delays_the_shortcuts_of_a_residual_network_come_early():
    network = residual_network()
    images = payloads(network)
    expected = reference.run(network, images, record=True)
    scheduled = schedule(network)
    hasty = replace(
        scheduled, connections=tuple(replace(c, delay=0) for c in scheduled.connections)
    )
    found = run_scheduled(hasty, images, record=True)
    same = {name: np.array_equal(found.spikes[name], s) for name, s in expected.spikes.items()}
    assert same["stem"]
    assert same["block1.a"]
    assert not same["block1.out"]
    assert not same["classes"]


def test_one_delay_too_many_is_seen_as_well():
    network = residual_network()
    images = payloads(network)
    expected = reference.run(network, images, record=True)
    scheduled = schedule(network)
    late = replace(
        scheduled,
        connections=(
            *scheduled.connections[:-1],
            replace(scheduled.connections[-1], delay=1),
        ),
    )
    found = run_scheduled(late, images, record=True)
    np.testing.assert_array_equal(found.spikes["block2.out"], expected.spikes["block2.out"])
    assert not np.array_equal(found.spikes["classes"], expected.spikes["classes"])


def test_bias_waits_for_the_start_step():
    # A bias of 20 fires a neuron at v_fire = 20 in its first step; 24 come off, 20 come on.
    network = IntegerNetwork(
        "bias",
        4,
        Input((1, 1, 1), (0.0,), (1.0,), 1.0, 1.0),
        (population("first", 1, bias=20), population("second", 1, bias=20)),
        (
            Connection("input", "first", "identity", np.array([0], np.int8), 8),
            Connection("first", "second", "identity", np.array([0], np.int8), 8),
        ),
        (1, 1, 1, 1),
    )
    found = run_scheduled(schedule(network), np.zeros((1, 1, 1, 1), np.int8), record=True)
    # u = 20, 16, 36, 32
    for spikes in found.spikes.values():
        assert spikes.ravel().tolist() == [True, False, True, True]
    assert found.scores.tolist() == [[3]]


def test_nothing_is_under_way_before_the_first_clock_step():
    # Started at once, the neuron hears its input one clock step late: silence, then 7.
    network = IntegerNetwork(
        "at once",
        3,
        Input((1, 1, 1), (0.0,), (1.0,), 1.0, 1.0),
        (population("out", 1, v_fire=7),),
        (Connection("input", "out", "identity", np.array([7], np.int8), 8),),
        (1, 1, 1),
    )
    found = run_scheduled(network, np.ones((1, 1, 1, 1), np.int8), record=True)
    assert found.spikes["out"].ravel().tolist() == [False, True, False]


def test_spikes_are_kept_only_on_request():
    network = residual_network()
    assert run_scheduled(schedule(network), payloads(network)).spikes is None


def test_wrong_payloads_are_refused():
    network = residual_network()
    with pytest.raises(
        PayloadError, match=r"^input: payloads are int8 of shape \(2, 1, 4, 5\), not "
    ):
        run_scheduled(network, np.zeros((2, 1, 4, 5), np.int8))


def clocked_spikes(network, payloads, clocks):
    """Run a chip that knows of delays and start steps alone; return its spikes by clock step.

    Written anew for this test: every population looks up what its sources sent
    ``1 + delay`` clock steps ago.
    """
    history = {name: [] for name in network.shapes}
    v = {p.name: np.zeros((len(payloads), *p.shape), np.int64) for p in network.populations}
    for clock in range(clocks):
        framed = network.input.framed
        shown = clock < network.timesteps
        frame = payloads[:, min(clock, network.timesteps - 1)] if framed else payloads
        history["input"].append(frame.astype(np.int64) * shown)
        for p in network.populations:
            if not p.start <= clock < p.start + network.timesteps:
                history[p.name].append(np.zeros((len(payloads), *p.shape), np.int64))
                continue
            total = np.zeros_like(v[p.name]) + p.bias[:, None, None]
            for c in network.incoming(p):
                sent = history[c.source][clock - 1 - c.delay] if clock > c.delay else None
                if sent is not None:
                    total += reference.transmit(c, sent) << c.exponent
            v[p.name], fired = reference.step(p, v[p.name], total)
            history[p.name].append(fired.astype(np.int64))
    return {name: np.stack(sent, axis=1) for name, sent in history.items()}


@SETTINGS
@given(st.data())
def test_a_clocked_chip_gives_the_reference_spikes_shifted_by_the_start_steps(data):
    network = data.draw(integer_networks())
    images = data.draw(payloads_for(network))
    expected = reference.run(network, images, record=True).spikes
    scheduled = schedule(network)
    deepest = max(p.start for p in scheduled.populations)
    found = clocked_spikes(scheduled, images, deepest + network.timesteps)
    for p in scheduled.populations:
        last = p.start + network.timesteps
        np.testing.assert_array_equal(found[p.name][:, p.start : last], expected[p.name])
        assert not found[p.name][:, : p.start].any()
        assert not found[p.name][:, last:].any()
    assert_same(
        run_scheduled(scheduled, images, record=True), reference.run(network, images, record=True)
    )


@pytest.mark.parametrize("framed", [False, True])
@pytest.mark.parametrize("shortcut", ["stem->block1.out", "block1.out->block2.out"])
def test_without_any_one_delay_the_spikes_differ_from_its_target_on(shortcut, framed):
    network = residual_network(framed=framed)
    images = payloads(network)
    expected = reference.run(network, images, record=True).spikes
    hasty = replace(
        schedule(network),
        connections=tuple(
            replace(c, delay=0) if c.name == shortcut else c for c in schedule(network).connections
        ),
    )
    found = run_scheduled(hasty, images, record=True).spikes
    names = [p.name for p in network.populations]
    target = names.index(shortcut.split("->")[1])
    for name in names[:target]:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
    assert not np.array_equal(found[names[target]], expected[names[target]])
    assert not np.array_equal(found["classes"], expected["classes"])
