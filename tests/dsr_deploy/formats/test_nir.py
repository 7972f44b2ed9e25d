"""A NIR file holds the integer network whole, and its nodes compute what the network computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import integer_networks, payloads_for
from numpy.typing import NDArray

from dsr_deploy.formats.nir import DT, to_bytes, to_nir
from dsr_deploy.formats.nir_reader import from_bytes, from_nir
from dsr_deploy.hardware import reference
from dsr_deploy.hardware.errors import NetworkError
from dsr_deploy.hardware.network import (
    INPUT,
    Connection,
    Input,
    IntegerNetwork,
    Population,
)

Float = NDArray[np.float64]


def population(name: str, shape: tuple[int, int, int], **changes: Any) -> Population:
    """Make a population that fires at 40 and subtracts 50."""
    level = np.full(shape[0], 40, np.int32)
    values = {"bias": np.zeros(shape[0], np.int32), "v_fire": level, "v_threshold": level + 10}
    return Population(name, shape, **(values | changes))


def perceptron(names: tuple[str, str] = ("hidden", "out"), **changes: Any) -> IntegerNetwork:
    """Make a network of two fully connected layers."""
    rng = np.random.default_rng(7)
    first, last = names
    network = IntegerNetwork(
        name="digits",
        timesteps=4,
        input=Input((1, 3, 3), (0.1307,), (0.3081,), 1 / 255, 0.05),
        populations=(population(first, (4, 1, 1)), population(last, (3, 1, 1), decay=1024)),
        connections=(
            Connection(INPUT, first, "linear", rng.integers(-7, 8, (4, 9)).astype(np.int8), 4, 2),
            Connection(first, last, "linear", rng.integers(-7, 8, (3, 4)).astype(np.int8), 4),
        ),
        readout=(4, 3, 2, 1),
        classes=("one", "two", "three"),
    )
    return replace(network, **changes)


def assert_equal(found: Any, expected: Any) -> None:
    """Compare two networks, or parts of them, field by field, types included."""
    assert type(found) is type(expected)
    for field in fields(expected):
        one, other = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(other, np.ndarray):
            assert one.dtype == other.dtype, field.name
            np.testing.assert_array_equal(one, other, err_msg=field.name, strict=True)
        elif field.name in ("populations", "connections"):
            assert len(one) == len(other)
            for a, b in zip(one, other, strict=True):
                assert_equal(a, b)
        else:
            assert type(one) is type(other), field.name
            assert one == other, field.name


@settings(max_examples=60, deadline=None)
@given(integer_networks(in_range=False))
def test_a_graph_holds_every_field(network: IntegerNetwork) -> None:
    assert_equal(from_nir(to_nir(network)), network)


@settings(max_examples=15, deadline=None)
@given(network=integer_networks())
def test_a_file_holds_every_field(
    tmp_path_factory: pytest.TempPathFactory, network: IntegerNetwork
) -> None:
    path = tmp_path_factory.mktemp("nir") / "network.nir"
    path.write_bytes(to_bytes(network))
    assert_equal(read(path), network)


def test_start_steps_and_delays_are_kept() -> None:
    network = perceptron()
    scheduled = replace(
        network,
        populations=tuple(replace(p, start=k) for k, p in enumerate(network.populations)),
        connections=tuple(replace(c, delay=k + 3) for k, c in enumerate(network.connections)),
    )
    assert_equal(from_nir(to_nir(scheduled)), scheduled)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_the_nodes_alone_give_the_spikes_of_if_networks(data: st.DataObject) -> None:
    network = data.draw(integer_networks(lif=False))
    sent = data.draw(payloads_for(network))
    expected = reference.run(network, sent, record=True).spikes
    assert expected is not None
    found = interpret(to_nir(network), sent, network)
    for name, spikes in expected.items():
        np.testing.assert_array_equal(found[name], spikes, err_msg=name)


def interpret(
    graph: nir.NIRGraph, sent: NDArray[np.int8], network: IntegerNetwork
) -> dict[str, NDArray[np.bool_]]:
    """Run a graph of IF nodes as docs/nir.md says: reset by subtraction, v from Vth - v_fire."""
    neurons = {k: node for k, node in graph.nodes.items() if isinstance(node, nir.IF)}
    fired: dict[str, Float] = {}
    v: dict[str, Float] = {}
    spikes: dict[str, list[NDArray[np.bool_]]] = {k: [] for k in neurons}

    def value(key: str) -> Float:
        if key in fired:
            return fired[key]
        return compute(graph.nodes[key], total(key))

    def total(key: str) -> Float:
        incoming = [value(a) for a, b in graph.edges if b == key]
        return np.asarray(np.sum(incoming, axis=0), np.float64)

    for t in range(network.timesteps):
        frame = sent[:, t] if network.input.framed else sent
        fired = {"input": frame.astype(np.float64)}
        for key, node in ((k, graph.nodes[k]) for k in neurons_in_order(network, neurons)):
            threshold = node.v_threshold.astype(np.float64)
            fire = node.metadata["v_fire"].astype(np.float64)
            start = threshold - fire.reshape(-1, *[1] * (threshold.ndim - 1))
            u = v.get(key, start) + DT * node.r * total(key)
            fired[key] = (u >= threshold).astype(np.float64)
            v[key] = u - threshold * fired[key]
            spikes[key].append(fired[key].astype(np.bool_))
    shapes = network.shapes
    recorded = {neurons[k].metadata["name"]: np.stack(s, axis=1) for k, s in spikes.items()}
    return {n: s.reshape(*s.shape[:2], *shapes[n]) for n, s in recorded.items()}


def neurons_in_order(network: IntegerNetwork, neurons: dict[str, nir.IF]) -> list[str]:
    key_of = {node.metadata["name"]: key for key, node in neurons.items()}
    return [key_of[p.name] for p in network.populations]


def compute(node: nir.NIRNode, x: Float) -> Float:
    """Apply a node without state to (N, ...)."""
    if isinstance(node, nir.Flatten):
        return x.reshape(len(x), -1)
    if isinstance(node, nir.Affine):
        return np.asarray(x @ node.weight.T + node.bias, np.float64)
    (ph, pw), (sh, sw) = node.padding, node.stride
    x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    kernel = node.kernel_size if isinstance(node, nir.SumPool2d) else node.weight.shape[2:]
    windows = np.lib.stride_tricks.sliding_window_view(x, tuple(kernel), axis=(2, 3))
    windows = windows[:, :, ::sh, ::sw]
    if isinstance(node, nir.SumPool2d):
        return np.asarray(windows.sum((4, 5)))
    made = np.einsum("nchwyx,ocyx->nohw", windows, node.weight)
    return np.asarray(made + node.bias[:, None, None], np.float64)


def test_fully_connected_layers_are_affine() -> None:
    graph = to_nir(perceptron())
    assert {key: type(node).__name__ for key, node in graph.nodes.items()} == {
        "input": "Input",
        "hidden_from_input_flatten": "Flatten",
        "hidden_from_input": "Affine",
        "hidden": "IF",
        "out_from_hidden": "Affine",
        "out": "LIF",
        "output": "Output",
    }
    weight = graph.nodes["hidden_from_input"].weight
    assert weight.dtype == np.float32
    np.testing.assert_array_equal(weight, perceptron().connections[0].weight * 4)
    np.testing.assert_array_equal(graph.nodes["output"].output_type["output"], [3])


def test_a_layer_beside_an_identity_keeps_its_three_dimensions() -> None:
    network = perceptron(
        populations=(population("hidden", (3, 1, 1)), population("out", (3, 1, 1))),
        connections=(
            Connection(INPUT, "hidden", "linear", np.ones((3, 9), np.int8), 4),
            Connection("hidden", "out", "linear", np.ones((3, 3), np.int8), 4),
            Connection("hidden", "out", "identity", np.ones(3, np.int8), 4),
        ),
    )
    graph = to_nir(network)
    assert type(graph.nodes["hidden_from_input"]) is nir.Conv2d
    assert graph.nodes["hidden_from_input"].weight.shape == (3, 1, 3, 3)
    assert {"out_from_hidden", "out_from_hidden_2"} <= graph.nodes.keys()
    np.testing.assert_array_equal(graph.nodes["output"].output_type["output"], [3, 1, 1])
    assert_equal(from_nir(graph), network)


def test_a_lif_node_leaks_its_decay_in_one_step() -> None:
    node = to_nir(perceptron()).nodes["out"]
    np.testing.assert_allclose(1 - DT / node.tau, (4096 - 1024) / 4096, rtol=1e-12)
    np.testing.assert_allclose(node.r * DT / node.tau, 1, rtol=1e-12)
    assert node.metadata["decay"] == 1024
    assert node.metadata["reset"] == "v - v_threshold"
    assert node.metadata["fires"] == "v >= v_fire"


def test_names_become_ones_that_hdf5_and_python_take(tmp_path: Path) -> None:
    network = perceptron(("block/0.conv", "block_0_conv"))
    (tmp_path / "network.nir").write_bytes(to_bytes(network))
    graph = nir.read(tmp_path / "network.nir")
    assert {"block_0_conv", "block_0_conv_2"} <= graph.nodes.keys()
    assert_equal(read(tmp_path / "network.nir"), network)


def test_nirs_own_type_check_accepts_square_kernels(tmp_path: Path) -> None:
    network = perceptron(
        populations=(population("conv", (4, 3, 3)), population("out", (3, 1, 1))),
        connections=(
            Connection(INPUT, "conv", "conv", np.ones((4, 1, 3, 3), np.int8), 8, padding=(1, 1)),
            Connection("conv", "out", "linear", np.ones((3, 36), np.int8), 8),
        ),
    )
    (tmp_path / "network.nir").write_bytes(to_bytes(network))
    assert len(nir.read(tmp_path / "network.nir", type_check=True).nodes) == 7


def test_the_same_network_gives_the_same_bytes() -> None:
    assert to_bytes(perceptron()) == to_bytes(perceptron())


def read(path: Path) -> IntegerNetwork:
    return from_bytes(path.read_bytes(), str(path))


def refusal(reader: Callable[..., IntegerNetwork], *arguments: Any) -> str:
    with pytest.raises(NetworkError) as caught:
        reader(*arguments)
    return str(caught.value)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "network.nir"
    path.write_bytes(to_bytes(perceptron()))
    path.write_bytes(path.read_bytes()[:-1000])
    assert refusal(read, path) == UNSEALED.format(path)


@pytest.mark.parametrize("content", [b"", b"no HDF5", to_bytes(perceptron())[:-1000]])
def test_what_is_no_hdf5_is_refused(content: bytes) -> None:
    message = refusal(from_bytes, sealed(content), "file")
    assert message.startswith("file: not a NIR file (")
    assert message.endswith("); export it again")


def test_a_file_with_a_corrupted_node_is_refused() -> None:
    content = to_bytes(perceptron())[: -len(sealed(b""))].replace(b"LIF", b"LOF")
    assert refusal(from_bytes, sealed(content), "file").startswith("file: not a NIR file (")


def test_a_graph_of_someone_else_is_refused() -> None:
    graph = nir.NIRGraph.from_list(nir.Affine(np.ones((2, 2)), np.ones(2)))
    assert refusal(from_nir, graph) == (
        "NIR graph: its metadata do not say 'dsr-deploy integer network 1'; only what dsr-deploy "
        "exported can be read, NIR alone leaves the reset and the integers open"
    )


def test_a_changed_weight_is_refused() -> None:
    graph = to_nir(perceptron())
    graph.nodes["out_from_hidden"].weight[0, 0] += 0.5
    assert refusal(from_nir, graph) == (
        "NIR graph: node 'out_from_hidden': weight is not what its metadata say; "
        "it was changed after the export, export it again"
    )


def test_a_weight_beyond_its_bits_is_refused() -> None:
    graph = to_nir(perceptron())
    graph.nodes["out_from_hidden"].weight[0, 0] = 100
    assert refusal(from_nir, graph) == (
        "NIR graph: connection 'hidden->out': weights of 4 bits must be -7 to 7, "
        "one has magnitude 100"
    )


def test_a_changed_reset_is_refused() -> None:
    network = perceptron(
        populations=(population("hidden", (4, 1, 1)), population("out", (3, 1, 1)))
    )
    graph = to_nir(network)
    graph.nodes["hidden"].v_reset[1] = 5
    assert refusal(from_nir, graph) == (
        "NIR graph: node 'hidden': v_reset is not what its metadata say; "
        "it was changed after the export, export it again"
    )


def test_a_lost_edge_is_refused() -> None:
    graph = to_nir(perceptron())
    graph.edges.pop()
    assert refusal(from_nir, graph) == (
        "NIR graph: an edge is not what its metadata say; "
        "it was changed after the export, export it again"
    )


UNSEALED = (
    "{}: it does not end with the digest of a NIR file that dsr-deploy exported; export it again"
)
RESEALED = "{}: the digest at its end is of another content; export it again"
CHANGED = (
    "NIR graph: the checksum does not match the network in it; it was changed after the export, "
    "export it again"
)


def test_negated_weights_are_refused() -> None:
    graph = to_nir(perceptron())
    graph.nodes["out_from_hidden"].weight *= -1
    assert refusal(from_nir, graph) == CHANGED


def sealed(content: bytes) -> bytes:
    return content + b"\ndsr-deploy sha256 " + sha256(content).hexdigest().encode() + b"\n"


def test_a_file_ends_with_the_digest_of_its_hdf5(tmp_path: Path) -> None:
    (tmp_path / "network.nir").write_bytes(to_bytes(perceptron()))
    data = (tmp_path / "network.nir").read_bytes()
    assert sealed(data[: -len(sealed(b""))]) == data
    with h5py.File(tmp_path / "network.nir") as file:
        assert file["node/nodes/hidden_from_input/weight"].shape == (4, 9)


def test_negated_weights_in_a_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "network.nir"
    path.write_bytes(to_bytes(perceptron()))
    path.write_bytes(path.read_bytes()[: -len(sealed(b""))])
    assert refusal(read, path) == UNSEALED.format(path)
    with h5py.File(path, "r+") as file:
        weight = file["node/nodes/hidden_from_input/weight"]
        weight[...] = -weight[...]
    path.write_bytes(sealed(path.read_bytes()))
    assert refusal(read, path) == CHANGED.replace("NIR graph", str(path))


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_no_damage_is_read(data: st.DataObject) -> None:
    """Not even by HDF5, which reads some damaged files for ever."""
    whole = to_bytes(perceptron())
    damaged = bytearray(whole)
    place = data.draw(st.integers(0, len(whole) - 1))
    damaged[place] ^= 1 << data.draw(st.integers(0, 7))
    message = refusal(from_bytes, bytes(damaged), "file")
    kinds = (UNSEALED, RESEALED)
    assert message in [kind.format("file") for kind in kinds]
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    assert refusal(from_bytes, cut, "file") in [kind.format("file") for kind in kinds]


@settings(max_examples=60, deadline=None)
@given(integer_networks(in_range=False), st.data())
def test_numbers_that_are_changed_consistently_are_refused(
    network: IntegerNetwork, data: st.DataObject
) -> None:
    """The graph of another network, with the checksum of this one, passes for neither."""
    graph, noted = to_nir(changed(network, data)), to_nir(network).metadata["checksum"]
    assert graph.metadata["checksum"] != noted
    graph.metadata["checksum"] = noted
    assert refusal(from_nir, graph) == CHANGED


def changed(network: IntegerNetwork, data: st.DataObject) -> IntegerNetwork:
    """Change one field of ``network`` to another that is possible."""
    index = data.draw(st.integers(0, len(network.populations) - 1))
    chosen = network.populations[index]
    label = data.draw(st.sampled_from(["bias", "v_fire", "v_threshold", "decay", "start", "T"]))
    if label == "T":
        return replace(network, timesteps=network.timesteps + 1, readout=(*network.readout, 1))
    value = getattr(chosen, label)
    other = value ^ 1 if label in ("decay", "start") else np.maximum(value, 2) ^ 1
    populations = list(network.populations)
    populations[index] = replace(chosen, **{label: other})
    return replace(network, populations=tuple(populations))


def test_a_file_without_a_checksum_is_refused() -> None:
    graph = to_nir(perceptron())
    del graph.metadata["checksum"]
    assert refusal(from_nir, graph) == (
        "NIR graph: its metadata are damaged ('checksum'); export it again"
    )


def test_lost_metadata_are_refused() -> None:
    graph = to_nir(perceptron())
    del graph.nodes["hidden"].metadata["v_fire"]
    assert refusal(from_nir, graph) == (
        "NIR graph: its metadata are damaged ('v_fire'); export it again"
    )
