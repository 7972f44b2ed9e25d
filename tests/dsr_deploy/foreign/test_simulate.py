"""The float network as read, against a loop over single neurons and other frameworks' own steps."""

from __future__ import annotations

import math
from dataclasses import replace

import foreign_graphs as graphs
import nir
import numpy as np
import pytest
from numpy.typing import NDArray

from dsr_deploy.errors import UserError
from dsr_deploy.foreign import arithmetic, simulate

FRAMEWORKS = ("snntorch", "norse", "sinabs", "rockpool", "spikingjelly")


def step(framework: str, v: float, x: float, before: int) -> tuple[float, int]:
    """One neuron of ``graphs.neurons``, as each framework's code has it."""
    if framework == "snntorch":  # Leaky(beta=0.75)
        v = 0.75 * v + x - before
        return v, int(v > 1)
    if framework == "norse":  # LIFBoxCell(tau_mem_inv=250), dt 1 ms
        v += 1e-3 * 250 * (x - v)
        return (0.0, 1) if v > 0.25 else (v, 0)
    if framework == "sinabs":  # LIF(tau_mem=4, norm_input=False)
        v = math.exp(-0.25) * v + x
        spikes = int(v / 1) if v > 0 else 0
        return v - spikes, spikes
    if framework == "rockpool":
        v = math.exp(-0.25) * v + math.exp(-0.25) * x
        spikes = max(math.floor(v), 0)
        return v - spikes, spikes
    v += (x - v) / 2  # spikingjelly, LIFNode(tau=2, v_threshold=0.5)
    return (0.0, 1) if v >= 0.5 else (v, 0)


def naive(framework: str, currents: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the spikes for currents of (T, neurons)."""
    spikes = np.zeros_like(currents)
    for n in range(currents.shape[1]):
        v, fired = 0.0, 0
        for t, current in enumerate(currents[:, n]):
            v, fired = step(framework, v, float(current), fired)
            spikes[t, n] = fired
    return spikes


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_neurons_step_as_their_framework_does(framework: str) -> None:
    graph = graphs.chain((6,), nir.Scale(np.full(6, 1.5)), graphs.neurons(framework, (6,)))
    network = graphs.read(graph)
    steps, _ = arithmetic.recognise(network)
    assert steps.exporter == arithmetic.named(framework).exporter
    assert steps.dt == pytest.approx(arithmetic.named(framework).dt)
    inputs = graphs.rng(3).normal(0.3, 1, size=(2, 40, 6))
    run = simulate.simulate(network, inputs, arithmetic.named(framework))
    for sample, spikes in zip(inputs, run.output, strict=True):
        expected = naive(framework, 1.5 * sample)
        assert expected.sum() > 20
        np.testing.assert_array_equal(spikes, expected)


@pytest.mark.parametrize(
    ("framework", "at_threshold"),
    [("snntorch", 0), ("norse", 0), ("sinabs", 1), ("rockpool", 1), ("spikingjelly", 1)],
)
def test_whether_a_neuron_fires_at_its_threshold(framework: str, at_threshold: int) -> None:
    ones = np.ones(1)
    graph = graphs.chain((1,), nir.IF(r=ones, v_threshold=ones, v_reset=0 * ones))
    chosen = replace(arithmetic.named(framework), dt=1.0)
    run = simulate.simulate(graphs.read(graph), np.ones((1, 1, 1)), chosen)
    assert run.output.item() == at_threshold


@pytest.mark.parametrize(("framework", "r"), [("norse", 1.0), ("spikingjelly", 1e4)])
def test_neurons_without_a_leak_take_each_input_once(framework: str, r: float) -> None:
    shape = (3,) if framework == "spikingjelly" else ()
    node = nir.IF(
        r=np.full(shape, r), v_threshold=np.full(shape, 1.0), v_reset=np.full(shape, 0.25)
    )
    network = graphs.read(graphs.chain((3,), node))
    steps, _ = arithmetic.recognise(network)
    assert steps == arithmetic.named(framework)
    run = simulate.simulate(network, np.full((1, 7, 3), 0.375), steps)
    # 0.375, 0.75, 1.125: fires; 0.625, 1.0: at the threshold; else 1.375
    times = [0, 0, 1, 0, 1, 0, 1] if framework == "spikingjelly" else [0, 0, 1, 0, 0, 1, 0]
    np.testing.assert_array_equal(run.output[0], np.tile(times, (3, 1)).T)


def test_a_whole_network_is_its_layers_one_after_another() -> None:
    """Convolution, pool, flatten and linear layers, as loops over their definition."""
    weight = graphs.conv(2, 1, (2, 3), bias=True)
    graph = graphs.chain(
        (1, 4, 5),
        weight,
        graphs.lif((2, 5, 5), 2e-4, 1.0, 0.5),
        nir.AvgPool2d(np.array([3, 2]), np.array([2, 3]), np.array([0, 0])),
        nir.Flatten({"input": np.array([2, 2, 2])}, 0, -1),
        graphs.affine(3, 8),
        graphs.lif((3,), 2e-4, 1.0, 0.5),
    )
    dense = graph.nodes["4"]
    inputs = graphs.rng(5).integers(0, 4, size=(1, 12, 1, 4, 5)).astype(np.float64)
    network = graphs.read(graph)
    run = simulate.simulate(network, inputs, arithmetic.named("spikingjelly"))
    hidden = np.zeros((12, 50))
    for t in range(12):
        padded = np.pad(inputs[0, t, 0], 1)
        hidden[t] = [
            float(weight.bias[o])
            + sum(
                float(weight.weight[o, 0, k, m]) * padded[i + k, j + m]
                for k in range(2)
                for m in range(3)
            )
            for o in range(2)
            for i in range(5)
            for j in range(5)
        ]
    first = naive("spikingjelly", hidden)
    np.testing.assert_array_equal(run.spikes["1"][0].reshape(12, -1), first)
    second = np.zeros((12, 3))
    for t in range(12):
        image = first[t].reshape(2, 5, 5)
        pooled = [
            image[c, 2 * i : 2 * i + 3, 3 * j : 3 * j + 2].sum() / 6
            for c in range(2)
            for i in range(2)
            for j in range(2)
        ]
        second[t] = [
            float(dense.bias[o]) + sum(float(w) * p for w, p in zip(row, pooled, strict=True))
            for o, row in enumerate(dense.weight)
        ]
    expected = naive("spikingjelly", second)
    assert expected.sum() > 3
    np.testing.assert_array_equal(run.output[0], expected)


def test_several_edges_into_a_node_add_up() -> None:
    graph = graphs.chain((2,), nir.Scale(np.full(2, 2.0)))
    graph.edges.append(("input", "output"))
    run = simulate.simulate(graphs.read(graph), np.ones((1, 1, 2)), arithmetic.named("nir"))
    np.testing.assert_array_equal(run.output, [[[3, 3]]])


def test_a_synaptic_current_decays_by_its_own_constant() -> None:
    """As Synaptic(alpha=0.5, beta=0.75): syn = alpha syn + x, mem = beta mem + syn."""
    one = np.ones(1)
    node = nir.CubaLIF(
        tau_syn=2e-4 * one,
        tau_mem=4e-4 * one,
        r=4 * one,
        v_leak=0 * one,
        v_threshold=one,
        w_in=2 * one,
    )
    network = graphs.read(graphs.chain((1,), node))
    assert arithmetic.recognise(network)[0] == arithmetic.named("snntorch")
    inputs = graphs.rng(7).normal(0.3, 0.7, size=(1, 50, 1))
    run = simulate.simulate(network, inputs, arithmetic.named("snntorch"))
    current = potential = fired = 0.0
    for x, spike in zip(inputs[0, :, 0], run.output[0, :, 0], strict=True):
        current = 0.5 * current + x
        potential = 0.75 * potential + current - fired
        fired = float(potential > 1)
        assert spike == fired
    assert run.output.sum() > 5
    with pytest.raises(UserError, match="CubaLIF of Norse: when its current reaches"):
        simulate.simulate(network, inputs, arithmetic.named("norse"))


def test_what_cannot_be_run_is_one_line() -> None:
    network = graphs.read(graphs.chain((3,), graphs.affine(2, 3)))
    with pytest.raises(UserError) as raised:
        simulate.simulate(network, np.ones((1, 1, 4)), arithmetic.named("nir"))
    assert str(raised.value) == "inputs must be (N, T) and (3,), not (1, 1, 4)"
    broken = graphs.read(graphs.chain((3,), graphs.affine(2, 4)))
    with pytest.raises(UserError, match=r"^node '0': weights for 4 inputs after shape"):
        simulate.simulate(broken, np.ones((1, 1, 3)), arithmetic.named("nir"))


def test_time_constants_of_norse_1_1_are_a_thousandth() -> None:
    """LIFBoxCell(tau_mem_inv=250) as 1.1.0 exports it keeps 0.75 of v, as in later versions."""
    network = graphs.read(graphs.chain((2,), graphs.lif((1,), 1e-3 / 250, 1.0, 0.25)))
    steps, reason = arithmetic.recognise(network)
    assert steps == replace(arithmetic.named("norse"), dt=1e-6)
    assert reason == (
        "node '0': LIF with r = 1, tau in seconds; tau a thousandth of what it is, as Norse 1.1.0 "
        "writes it"
    )
    inputs = graphs.rng(3).normal(0.3, 1, size=(1, 40, 2))
    run = simulate.simulate(network, inputs, steps)
    np.testing.assert_array_equal(run.output[0], naive("norse", inputs[0]))


def test_an_arithmetic_says_what_it_is() -> None:
    assert str(arithmetic.named("snntorch")) == (
        "read as snnTorch computes: dt 0.0001 s, v keeps 1 - dt / tau, a current counts "
        "r dt / tau times; a neuron fires above v_threshold, once in a timestep at most; a spike "
        "subtracts v_threshold at the next timestep"
    )
    with pytest.raises(UserError) as raised:
        arithmetic.named("nest")
    assert str(raised.value) == (
        "framework 'nest': choose one of snntorch, norse, sinabs, rockpool, spikingjelly, nir"
    )
    with pytest.raises(UserError) as raised:
        replace(arithmetic.named("nir"), dt=0.0)
    assert str(raised.value) == "dt must be a positive number of seconds, not 0"


def test_numbers_of_no_framework_are_taken_for_those_of_nir() -> None:
    network = graphs.read(graphs.chain((2,), graphs.lif((2,), 0.02, 0.3)))
    assert arithmetic.recognise(network) == (
        arithmetic.named("nir"),
        "no known framework writes such numbers",
    )
