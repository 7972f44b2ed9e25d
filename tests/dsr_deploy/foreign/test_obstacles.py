"""What an integer network cannot hold of a foreign one, line by line."""

from __future__ import annotations

from dataclasses import replace

import foreign_graphs as graphs
import nir
import numpy as np
import pytest

from dsr_deploy.foreign import arithmetic, compose, obstacles
from dsr_deploy.foreign.arithmetic import Arithmetic

PLAIN = replace(arithmetic.named("nir"), reset="subtract")


def lines(graph: nir.NIRGraph, steps: Arithmetic = PLAIN) -> list[str]:
    network = graphs.read(graph)
    return list(map(str, obstacles.obstacles(network, compose.compose(network), steps)))


def ending_in(node: nir.NIRNode, size: int = 2) -> nir.NIRGraph:
    return graphs.chain((3,), graphs.affine(size, 3), node)


def lif(**changed: object) -> nir.LIF:
    node = graphs.lif((2,), 1e-3, 1.0)
    for name, value in changed.items():
        setattr(node, name, np.array(value))
    return node


def test_neurons_that_a_population_can_be_have_no_obstacle() -> None:
    assert lines(ending_in(lif(v_threshold=[1.0, 2.0], r=[1.0, 3.0]))) == []


@pytest.mark.parametrize(
    ("node", "line"),
    [
        (
            lif(tau=[1e-3, 2e-3]),
            "its leak differs between neurons, 0.9 to 0.95 of v stays; a population has one; "
            "train one tau per layer",
        ),
        (
            lif(tau=[5e-5, 5e-5]),
            "-1 of v stays in a timestep of 0.0001 s; it must be more than 0 and at most 1; "
            "check --dt",
        ),
        (
            lif(r=[1.0, np.inf]),
            "a current counts 0.1 to inf times; check r, tau and --dt",
        ),
        (
            lif(v_leak=[0.0, 0.5]),
            "it leaks to 0 to 0.5, a population to 0; train with v_leak = 0, a bias does the same",
        ),
        (
            lif(v_threshold=[1.0, 0.0]),
            "v_threshold must be positive, not 0; train with a positive threshold",
        ),
        (
            nir.CubaLIF(*(np.full(2, n) for n in (1e-3, 1e-3, 1.0, 0.0, 1.0))),
            "CubaLIF has a synaptic current, which no population has; use LIF neurons",
        ),
    ],
)
def test_neurons_that_no_population_can_be(node: nir.NIRNode, line: str) -> None:
    assert lines(ending_in(node)) == [f"node '1': {line}"]


def test_neurons_that_never_spike_are_named_and_so_is_the_output_that_reads_them() -> None:
    node = nir.LI(tau=np.full(2, 1e-3), r=np.ones(2), v_leak=np.zeros(2))
    assert lines(ending_in(node)) == [
        "node 'output': it reads '1', not the spikes of one population; "
        "end the network in IF or LIF neurons, one per class",
        "node '1': LI neurons do not spike; use IF or LIF neurons",
    ]


def test_what_a_framework_does_otherwise() -> None:
    assert lines(ending_in(lif()), replace(PLAIN, reset="zero", many=True)) == [
        "node '1': a spike sets v to 0, a population subtracts v_threshold; "
        "train it with reset by subtraction, and say so with --reset subtract",
        "node '1': in NIR it may fire several times in a timestep, a population once; "
        "train it to fire once, and say so with --spikes one",
    ]


def test_a_time_constant_too_small_for_numbers_is_named() -> None:
    assert lines(ending_in(lif(tau=[1e-320, 1e-320]))) == [
        "node '1': -inf of v stays in a timestep of 0.0001 s; it must be more than 0 and at most "
        "1; check --dt",
        "node '1': a current counts inf times; check r, tau and --dt",
    ]


def test_a_bias_that_exceeds_float64_is_named() -> None:
    huge = nir.Affine(np.full((2, 2), 1e-200), np.full(2, 1e200))
    graph = graphs.chain((2,), huge, nir.Affine(np.full((2, 2), 1e200), np.zeros(2)), lif())
    assert lines(graph) == [
        "node '2': the bias that reaches it exceeds float64; train smaller weights"
    ]


def test_a_subtraction_at_the_next_timestep_is_no_obstacle() -> None:
    assert lines(ending_in(lif()), replace(PLAIN, late=True)) == []


def test_parameters_of_each_neuron_and_a_bias_of_each_position() -> None:
    neurons = graphs.lif((3, 4, 3), 1e-3, 1.0)
    neurons.v_threshold = np.linspace(1, 2, 36).reshape(3, 4, 3)
    pool = nir.SumPool2d(*map(np.array, ((2, 2), (2, 2), (0, 0))))
    bias = graphs.conv(2, 2, (1, 1), padding=(0, 0), bias=True)
    graph = graphs.chain(
        *((2, 8, 6), pool, bias, graphs.conv(3, 2), neurons),
        nir.Flatten({"input": np.array([3, 4, 3])}, 0, -1),
        graphs.affine(2, 36),
        lif(),
    )
    found = lines(graph)
    assert found[0] == (
        "node '3': v_threshold differs between the neurons of a channel, 1 to 2; "
        "use one per channel"
    )
    assert found[1].startswith("node '3': the bias that reaches it differs within a channel, ")
    assert found[1].endswith("; leave out the bias of the layer before a padded one")
    assert len(found) == 2


def test_a_network_needs_neurons_one_input_and_one_output_of_classes() -> None:
    graph = graphs.chain((3,), graphs.affine(2, 3))
    assert lines(graph) == [
        "network: it has no neurons; put IF or LIF neurons after the layers",
        "node 'output': it reads '0', not the spikes of one population; "
        "end the network in IF or LIF neurons, one per class",
    ]
    graph = graphs.chain((2, 4, 4), graphs.conv(3, 2), graphs.lif((3, 4, 4), 1e-3, 1.0))
    assert lines(graph) == [
        "node 'output': an output of shape (3, 4, 4); end the network in one neuron per class"
    ]
    graph = ending_in(lif())
    graph.nodes["more"] = nir.Input(np.array([3]))
    graph.edges.append(("more", "0"))
    assert lines(graph) == ["network: it has 2 inputs; export it with one input"]
