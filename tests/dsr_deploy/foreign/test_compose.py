"""A chain of linear nodes and the one connection that it becomes give the same currents."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import foreign_graphs as graphs
import nir
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dsr_deploy.foreign import compose, simulate
from dsr_deploy.foreign.arithmetic import named
from dsr_deploy.foreign.network import Affine, Convolution, ForeignNetwork, Neurons


def sum_pool(kernel: Any = (2, 2), stride: Any = (2, 2), padding: Any = (0, 0)) -> nir.NIRNode:
    return nir.SumPool2d(*map(np.array, (kernel, stride, padding)))


def mean_pool(kernel: Any = (2, 2), stride: Any = (2, 2), padding: Any = (0, 0)) -> nir.NIRNode:
    return nir.AvgPool2d(*map(np.array, (kernel, stride, padding)))


def flatten(*shape: int) -> nir.NIRNode:
    return nir.Flatten({"input": np.array(shape)}, 0, -1)


def scale(*shape: int) -> nir.NIRNode:
    return nir.Scale(graphs.rng(1).normal(size=shape))


def currents(network: ForeignNetwork, inputs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what the chain as read gives: neurons that only pass it on are put in the place."""
    silent = {name: node for name, node in network.nodes.items() if not isinstance(node, Neurons)}
    last = next(name for name, node in network.nodes.items() if isinstance(node, Neurons))
    edges = tuple((a, "output" if b == last else b) for a, b in network.edges if a != last)
    return simulate.simulate(
        replace(network, nodes=silent, edges=edges), inputs, named("nir")
    ).output


def applied(
    composition: compose.Composition, inputs: NDArray[np.float64], shape: tuple[int, ...]
) -> NDArray[np.float64]:
    """Return what the connections and the bias give, for inputs of (1, N, ...)."""
    total = np.zeros((inputs.shape[1], *shape))
    for link in composition.links:
        part = torch.from_numpy(inputs[0])
        if isinstance(link.map, Affine):
            assert not link.map.bias.any()
            part = part.flatten(1) @ torch.from_numpy(link.map.weight).T
        elif link.map is not None:
            assert not link.map.bias.any()
            assert link.map.dilation == (1, 1)
            m = link.map
            part = torch.nn.functional.conv2d(
                part, torch.from_numpy(m.weight), None, m.stride, m.padding, 1, m.groups
            )
        total += part.numpy().reshape(total.shape)
    return total + composition.biases["end"]


def chain(shape: tuple[int, ...], *nodes: nir.NIRNode) -> ForeignNetwork:
    graph = graphs.chain(shape, *nodes, graphs.neurons("snntorch", ()))
    last = str(len(nodes))
    graph.nodes["end"] = graph.nodes.pop(last)
    graph.edges = [tuple("end" if name == last else name for name in edge) for edge in graph.edges]
    return graphs.read(graph)


CHAINS = {
    "conv": ((2, 7, 6), [graphs.conv(3, 2, bias=True)]),
    "dilated": ((2, 9, 8), [graphs.conv(3, 2, (3, 2), dilation=(2, 3))]),
    "groups": ((4, 7, 6), [graphs.conv(6, 4, groups=2, stride=(2, 1))]),
    "sum pool, padded conv": ((2, 8, 6), [sum_pool(), graphs.conv(3, 2, bias=True)]),
    "padded pool, padded conv": (
        (2, 8, 6),
        [sum_pool((2, 2), (2, 2), (1, 1)), graphs.conv(3, 2, padding=(2, 1))],
    ),
    "conv, pool": ((2, 8, 7), [graphs.conv(3, 2, bias=True), mean_pool((4, 2), (2, 2))]),
    "conv, conv": (
        (2, 9, 8),
        [graphs.conv(3, 2, (2, 3), bias=True), graphs.conv(2, 3, (3, 2), padding=(0, 0))],
    ),
    "strides": (
        (2, 12, 9),
        [
            graphs.conv(3, 2, stride=(2, 1), padding=(0, 1)),
            graphs.conv(2, 3, stride=(2, 3), padding=(0, 0)),
            mean_pool((1, 2), (1, 1)),
        ],
    ),
    "groups, groups": (
        (4, 8, 8),
        [graphs.conv(4, 4, groups=2), graphs.conv(4, 4, groups=2, padding=(0, 0))],
    ),
    "pool, pool": ((3, 8, 8), [sum_pool(), mean_pool((2, 2), (1, 1))]),
    "pool, depthwise": ((3, 8, 8), [sum_pool(), graphs.conv(3, 3, groups=3)]),
    "pool, flatten, linear": ((2, 9, 7), [mean_pool(), flatten(2, 4, 3), graphs.affine(5, 24)]),
    "conv, pool, flatten, linear": (
        (2, 9, 7),
        [
            graphs.conv(3, 2, stride=(2, 2), bias=True),
            mean_pool((2, 2), (2, 1)),
            flatten(3, 2, 3),
            graphs.affine(5, 18),
        ],
    ),
    "linear, linear": ((6,), [graphs.affine(4, 6), graphs.affine(3, 4)]),
    "scales": (
        (2, 6, 6),
        [scale(2, 1, 1), graphs.conv(3, 2), flatten(3, 6, 6), graphs.affine(4, 108), scale(4)],
    ),
    "scaled": ((2, 6, 6), [graphs.conv(3, 2, bias=True), scale(3, 1, 1)]),
    "flattened halfway, scaled": (
        (2, 4, 3),
        [
            graphs.conv(3, 2),
            nir.Flatten({"input": np.array([3, 4, 3])}, 0, 1),
            nir.Scale(np.repeat([0.5, 2, -3], 4).reshape(12, 1)),
            flatten(12, 3),
            graphs.affine(5, 36),
        ],
    ),
    "linear, scale": ((6,), [graphs.affine(4, 6), scale(4)]),
    "scale": ((6,), [scale(6)]),
    "nothing": ((2, 6, 6), []),
}


def eighths(node: nir.NIRNode) -> nir.NIRNode:
    """Round weights to eighths: with whole inputs, float64 then has room for every sum."""
    for name in ("weight", "bias", "scale"):
        if hasattr(node, name):
            setattr(node, name, np.round(8 * getattr(node, name)) / 8)
    return node


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_becomes_one_connection(name: str) -> None:
    shape, nodes = CHAINS[name]
    network = chain(shape, *map(eighths, nodes))
    assert not network.obstacles
    composition = compose.compose(network)
    assert not composition.obstacles
    [link] = composition.links
    assert (link.source, link.target) == ("input", "end")
    assert link.path == tuple(map(str, range(len(nodes))))
    inputs = graphs.rng(2).integers(-3, 4, size=(1, 5, *shape)).astype(np.float64)
    expected = currents(network, inputs)[0]
    assert len(np.unique(expected)) > 5
    np.testing.assert_array_equal(applied(composition, inputs, network.shapes["end"]), expected)


def test_two_by_two_sums_before_a_padded_convolution_stay_a_convolution() -> None:
    [link] = compose.compose(chain((2, 8, 6), sum_pool(), graphs.conv(3, 2))).links
    assert isinstance(link.map, Convolution)
    assert link.map.weight.shape == (3, 2, 6, 6)
    assert (link.map.stride, link.map.padding) == ((2, 2), (2, 2))


def test_pools_of_each_channel_stay_in_groups() -> None:
    [link] = compose.compose(chain((3, 8, 8), sum_pool(), mean_pool())).links
    assert isinstance(link.map, Convolution)
    assert link.map.groups == 3
    np.testing.assert_array_equal(link.map.weight, np.full((3, 1, 4, 4), 0.25))


def test_ways_side_by_side_add_up_and_their_bias_counts_once() -> None:
    graph = graphs.chain(
        (3,), graphs.affine(4, 3), graphs.affine(4, 4), graphs.neurons("snntorch", ())
    )
    graph.nodes["short"] = graphs.affine(4, 3)
    graph.nodes["end"] = graph.nodes.pop("2")
    graph.edges = [("input", "0"), ("0", "1"), ("input", "short"), ("short", "1")]
    graph.edges += [("0", "end"), ("1", "end"), ("end", "output")]
    network = graphs.read(graph)
    composition = compose.compose(network)
    assert [link.path for link in composition.links] == [("0",), ("0", "1"), ("short", "1")]
    inputs = graphs.rng(4).normal(size=(1, 5, 3))
    np.testing.assert_allclose(
        applied(composition, inputs, (4,)), currents(network, inputs)[0], rtol=1e-12
    )


@pytest.mark.parametrize(
    ("shape", "first"),
    [
        ((2, 9, 8), sum_pool()),  # a row is left over, and the window after the last sees it
        ((2, 8, 8), sum_pool((3, 3), (2, 2))),
    ],
)
def test_padding_that_the_layer_before_would_fill_is_refused(
    shape: tuple[int, ...], first: nir.NIRNode
) -> None:
    composition = compose.compose(chain(shape, first, graphs.conv(3, 2)))
    assert not composition.links
    assert list(map(str, composition.obstacles)) == [
        "node '1': its padding is of zeros, and the layer before it would give other values there; "
        "pad that layer's source instead, or put neurons between"
    ]


@pytest.mark.parametrize(
    ("nodes", "place"),
    [
        ([scale(2, 8, 6), graphs.conv(3, 2)], "0"),
        ([nir.Flatten({"input": np.array([2, 8, 6])}, 0, 1), scale(16, 1)], "1"),
    ],
)
def test_factors_of_each_position_are_refused(nodes: list[nir.NIRNode], place: str) -> None:
    composition = compose.compose(chain((2, 8, 6), *nodes))
    assert list(map(str, composition.obstacles)) == [
        f"node '{place}': its factors differ between the positions of a channel; "
        "use one factor per channel"
    ]


def pooled(rows: int) -> list[nir.NIRNode]:
    return [mean_pool((64, 64), (64, 64)), flatten(1, 32, 32), graphs.affine(rows, 1024)]


@pytest.mark.parametrize(
    ("shape", "nodes", "place", "count"),
    [
        ((1 << 20,), [nir.Scale(np.ones(1))], 0, "1,099,511,627,776"),
        ((1, 2048, 2048), pooled(100), 2, "419,430,400"),
        (
            (1, 2048, 2048),
            [graphs.conv(512, 1, (2, 2), dilation=(2000, 2000), padding=(0, 0))],
            0,
            "2,050,048,512",
        ),
        (
            (1, 2048, 2048),
            [sum_pool(stride=(1000, 1000)), graphs.conv(512, 1, (2, 2))],
            1,
            "514,050,048",
        ),
        (
            (20000, 1, 1),
            [scale(20000, 1, 1), graphs.conv(1, 20000, (1, 1), padding=(0, 0))],
            1,
            "400,000,000",
        ),
    ],
)
def test_connections_too_large_are_refused_before_they_are_allocated(
    shape: tuple[int, ...], nodes: list[nir.NIRNode], place: int, count: str
) -> None:
    composition = compose.compose(chain(shape, *nodes))
    assert list(map(str, composition.obstacles)) == [
        f"node '{place}': as one connection with the layers before it, it takes {count} weights, "
        "at most 268,435,456 are composed; put neurons between, or make it smaller"
    ]


def test_weights_whose_product_exceeds_float64_are_refused() -> None:
    huge = [nir.Affine(np.full((2, 2), 1e200), np.zeros(2)) for _ in range(2)]
    composition = compose.compose(chain((2,), *huge))
    assert not composition.links
    assert list(map(str, composition.obstacles)) == [
        "node '1': its weights times those before it exceed float64; train smaller weights"
    ]


def test_what_cannot_be_read_is_left_out() -> None:
    network = chain((3,), nir.Delay(np.ones(3)), graphs.affine(2, 3))
    assert compose.compose(network).links == ()


def test_ways_that_multiply_are_refused() -> None:
    """Thirty pairs of ways side by side make 2**30 ways; a chain of 100 layers is one."""
    pairs = graphs.chain((2,), *(graphs.affine(2, 2) for _ in range(30)))
    for i in range(29):
        pairs.nodes[f"beside{i}"] = graphs.affine(2, 2)
        pairs.edges += [(str(i), f"beside{i}"), (f"beside{i}", str(i + 1))]
    long = graphs.chain((2,), *(graphs.affine(2, 2) for _ in range(100)))
    for graph, last in ((pairs, "29"), (long, "99")):
        graph.nodes["end"] = graphs.neurons("snntorch", ())
        graph.edges = [*(e for e in graph.edges if e[1] != "output"), (last, "end")]
        graph.edges.append(("end", "output"))
        composition = compose.compose(graphs.read(graph))
        assert not composition.links
        assert list(map(str, composition.obstacles)) == [
            "node 'end': more than 256 ways or 64 layers lead to it; put neurons between"
        ]


def test_an_output_in_the_middle_is_passed() -> None:
    graph = graphs.chain((3,), graphs.affine(2, 3), graphs.neurons("snntorch", ()))
    graph.edges = [("input", "0"), ("0", "output"), ("output", "1")]
    [link] = compose.compose(graphs.read(graph)).links
    assert link.path == ("0", "output")
