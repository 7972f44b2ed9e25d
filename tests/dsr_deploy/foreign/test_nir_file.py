"""Foreign NIR files are read node by node, and everything wrong is named at once."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import foreign_graphs as graphs
import h5py
import nir
import numpy as np
import pytest

from dsr_deploy.errors import UserError
from dsr_deploy.foreign import hdf5, nir_file
from dsr_deploy.foreign.network import Affine, Convolution, Flatten, Neurons, Pool, Scale

AGAIN = "correct the layer, and export it again"


def small() -> nir.NIRGraph:
    return graphs.chain(
        (2, 8, 6),
        graphs.conv(4, 2, stride=(2, 1), bias=True),
        graphs.neurons("sinabs", (4, 4, 6)),
        nir.AvgPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])),
        nir.Flatten({"input": np.array([4, 2, 3])}, 0, -1),
        graphs.affine(5, 24),
        nir.Scale(np.full(5, 0.5)),
        graphs.neurons("sinabs", (5,)),
    )


def test_a_file_gives_its_nodes_edges_and_shapes() -> None:
    graph = small()
    network = graphs.read(graph)
    assert not network.obstacles
    assert list(network.shapes.values()) == [
        *((2, 8, 6), (4, 4, 6), (4, 4, 6), (4, 2, 3)),
        *((24,), (5,), (5,), (5,), (5,)),
    ]
    assert set(network.edges) == set(graph.edges)
    kinds = [type(network.nodes[str(i)]) for i in range(7)]
    assert kinds == [Convolution, Neurons, Pool, Flatten, Affine, Scale, Neurons]
    first = network.nodes["0"]
    assert isinstance(first, Convolution)
    assert first.stride == (2, 1)
    np.testing.assert_array_equal(first.weight, graph.nodes["0"].weight)
    np.testing.assert_array_equal(first.bias, graph.nodes["0"].bias)


def test_names_that_are_numbers_keep_their_order() -> None:
    layers = [graphs.affine(3, 3) for _ in range(11)]
    assert list(graphs.read(graphs.chain((3,), *layers)).nodes) == [
        "input",
        *map(str, range(11)),
        "output",
    ]


def test_the_process_of_its_own_reads_the_same(tmp_path: Path) -> None:
    path = tmp_path / "net.nir"
    path.write_bytes(graphs.to_bytes(small()))
    assert nir_file.read(path).shapes == graphs.read(small()).shapes


def test_what_the_nir_package_refuses_is_read() -> None:
    """One neuron's parameters for a layer, an output of (1, 1, 5), a batch in the Input."""
    graph = graphs.chain((1, 2, 8, 6), graphs.conv(4, 2), graphs.neurons("snntorch", ()))
    network = graphs.read(graph, {"node/nodes/output/shape": [1, 4, 8, 6]})
    assert not network.obstacles
    assert network.shapes["1"] == (4, 8, 6)
    with pytest.raises((ValueError, IndexError)):
        nir.NIRGraph(graph.nodes, graph.edges, type_check=True)


def test_parameters_with_a_batch_of_one_are_read() -> None:
    graph = graphs.chain((2, 8, 6), graphs.conv(4, 2), graphs.lif((1, 4, 8, 6), 2e-4, 1.0))
    node = graphs.read(graph).nodes["1"]
    assert isinstance(node, Neurons)
    assert node.tau is not None
    assert node.tau.shape == (4, 8, 6)


def test_parameters_of_each_channel_are_read() -> None:
    graph = graphs.chain((2, 8, 6), graphs.conv(4, 2), graphs.lif((4,), 2e-4, 1.0))
    graph.nodes["1"].v_threshold = np.array([1.0, 2, 3, 4])
    node = graphs.read(graph).nodes["1"]
    assert isinstance(node, Neurons)
    assert node.v_threshold is not None
    np.testing.assert_array_equal(node.v_threshold[:, 7, 5], [1, 2, 3, 4])


@pytest.mark.parametrize("first", [0, 1])
def test_a_flatten_may_count_the_batch(first: int) -> None:
    flatten = nir.Flatten({"input": np.array([2, 4, 3])}, first, -1)
    graph = graphs.chain((2, 4, 3), flatten, graphs.affine(5, 24))
    assert graphs.read(graph).shapes["0"] == (24,)


def test_no_leak_may_be_an_infinite_time_constant() -> None:
    graph = graphs.chain((3,), graphs.affine(2, 3), graphs.lif((2,), np.inf, np.inf))
    assert not graphs.read(graph).obstacles


@pytest.mark.parametrize(
    ("node", "line"),
    [
        (
            nir.Threshold(np.ones(3)),
            "Threshold: spikes without a membrane potential; use IF or LIF neurons",
        ),
        (
            nir.Delay(np.ones(3)),
            "Delay: a delay of its own; leave it out, and train without delays",
        ),
        (
            graphs.affine(2, 4),
            f"weights for 4 inputs after shape (3,); {AGAIN}",
        ),
        (graphs.conv(2, 3), f"it needs a source of (C, H, W), not (3,); {AGAIN}"),
        (nir.Scale(np.ones(4)), f"scale of shape (4,) after shape (3,); {AGAIN}"),
        (
            nir.Affine(np.full((2, 3), np.nan), np.zeros(2)),
            "weight holds a value that is not finite; export it again",
        ),
        (graphs.lif((3,), -1.0, 1.0), "LIF: tau must be positive, not -1; export it again"),
    ],
)
def test_a_node_that_does_not_fit_is_named(node: nir.NIRNode, line: str) -> None:
    network = graphs.read(graphs.chain((3,), node))
    assert graphs.obstacles(network) == [f"node '0': {line}"]


def test_a_window_larger_than_its_source_is_named() -> None:
    graph = graphs.chain((2, 8, 6), graphs.conv(4, 2, (3, 4), dilation=(1, 3)))
    assert graphs.obstacles(graphs.read(graph)) == [
        f"node '0': a window of 10 does not fit a source of 6 padded by 1; {AGAIN}"
    ]


def test_sizes_that_no_layer_has_are_refused_before_they_are_allocated() -> None:
    graph = graphs.chain((2, 8, 6), graphs.conv(4, 2, padding=(4000, 4000)))
    assert graphs.obstacles(graphs.read(graph)) == [
        "node '0': 256,320,096 values with its padding, at most 16,777,216 are read; " + AGAIN
    ]
    graph = graphs.chain((4097, 4096), nir.Scale(np.ones(1)))
    assert graphs.obstacles(graphs.read(graph)) == [
        "node 'input': an input of 16,781,312 values, at most 16,777,216 are read; " + AGAIN
    ]


def test_everything_wrong_is_named_at_once() -> None:
    graph = graphs.chain((3,), nir.Delay(np.ones(3)), graphs.affine(2, 3), graphs.affine(2, 4))
    graph.edges += [("input", "2"), ("input", "1")]
    network = graphs.read(graph, {"node/nodes/1/weight": None})
    assert graphs.obstacles(network) == [
        "node '0': Delay: a delay of its own; leave it out, and train without delays",
        "node '1': weight is missing; export it again",
        f"node '2': weights for 4 inputs after shape (3,); {AGAIN}",
    ]


def test_a_loop_is_named_and_the_rest_is_read() -> None:
    graph = graphs.chain((3,), graphs.affine(2, 3), graphs.neurons("sinabs", (2,)))
    graph.nodes["back"] = graphs.affine(2, 2)
    graph.edges += [("1", "back"), ("back", "1")]
    network = graphs.read(graph)
    assert graphs.obstacles(network) == [
        "edge '1' to 'back': it closes a loop, a recurrent connection; populations must follow "
        "each other; train without recurrence"
    ]
    assert list(network.nodes)[-1] == "output"


def test_graphs_that_take_minutes_to_order_are_refused() -> None:
    graph = graphs.chain((3,), *(graphs.affine(3, 3) for _ in range(46)))
    graph.edges += [(str(i), str(j)) for i in range(46) for j in range(46) if j not in (i, i + 1)]
    with pytest.raises(UserError) as raised:
        graphs.read(graph)
    assert str(raised.value) == (
        "net.nir: 48 nodes and 2,072 edges, at most 2,048 of each are read; split the network"
    )


Change = Callable[[bytes], bytes]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda data: b"", "not an HDF5 file; export it again"),
        (lambda data: b"{}", "not an HDF5 file; export it again"),
        (
            lambda data: graphs.to_bytes(small(), {"node/type": "NIRNode"}),
            "an HDF5 file, but not one of NIR; export it again",
        ),
        (
            lambda data: graphs.to_bytes(small(), {"node/edges": None}),
            "its list of edges is missing or damaged; export it again",
        ),
        (
            lambda data: graphs.to_bytes(small(), {"node/nodes/0": None}),
            "an edge names the node '0', which does not exist; export it again",
        ),
        (
            lambda data: graphs.to_bytes(small(), {"node/x": h5py.ExternalLink("a", "b")}),
            "'node/x' is a link to elsewhere; export it again",
        ),
        (
            lambda data: graphs.to_bytes(small(), {"node/a\nb": 1}),
            "'node/a?b': a name of unprintable characters; rename it",
        ),
    ],
)
def test_a_file_that_is_no_network_is_one_line(tmp_path: Path, change: Change, line: str) -> None:
    path = tmp_path / "net.nir"
    path.write_bytes(change(graphs.to_bytes(small())))
    with pytest.raises(UserError) as raised:
        nir_file.read(path)
    assert str(raised.value) == f"{path}: {line}"


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError) as raised:
        nir_file.read(tmp_path / "net.nir")
    assert str(raised.value) == f"{tmp_path}/net.nir: cannot be read (No such file or directory)"


def test_a_reader_that_does_not_end_is_stopped(tmp_path: Path) -> None:
    path = tmp_path / "net.nir"
    path.write_bytes(graphs.to_bytes(small()))
    with pytest.raises(UserError) as raised:
        hdf5.read(path, seconds=1e-3)
    assert str(raised.value) == (
        f"{path}: HDF5 did not end within 0.001 s; the file is damaged, export it again"
    )


def test_a_small_file_of_huge_arrays_is_refused() -> None:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.create_dataset("x", (1 << 28,), "f8", chunks=(1 << 20,), compression="gzip")
    assert len(buffer.getvalue()) < 10_000
    with pytest.raises(hdf5.Hdf5Error, match="more than 100000 arrays or 1073741824 bytes"):
        hdf5.from_bytes(buffer.getvalue())


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.9, 0.99])
def test_a_truncated_file_is_refused(keep: float) -> None:
    data = graphs.to_bytes(small())
    with pytest.raises(hdf5.Hdf5Error, match=r"^not a whole HDF5 file \(.*\); export it again$"):
        hdf5.from_bytes(data[: int(keep * len(data))])
