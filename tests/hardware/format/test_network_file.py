"""The network's file: what is written is read, and nothing else is."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from network_files import graph_of, sealed
from networks import integer_networks
from safetensors.numpy import load, save

from dsr_deploy.hardware.errors import NetworkError
from dsr_deploy.hardware.format import nibbles
from dsr_deploy.hardware.format.network_file import from_bytes, read, to_bytes, write
from dsr_deploy.hardware.network import (
    INPUT,
    Connection,
    Input,
    IntegerNetwork,
    Population,
)


def neurons(name: str, channels: int) -> Population:
    return Population(
        name,
        (channels, 1, 1),
        bias=np.arange(channels, dtype=np.int32),
        v_fire=np.arange(channels, dtype=np.int32) - 1,
        v_threshold=np.arange(channels, dtype=np.int32) + 1,
        decay=409,
    )


@pytest.fixture
def network() -> IntegerNetwork:
    """Two populations, one of them fed twice by the same source, with 4 and with 8 bits."""
    return IntegerNetwork(
        name="a network",
        timesteps=2,
        input=Input((3, 1, 1), (0.1, 0.2, 0.3), (1.0, 2.0, 3.0), 1 / 255, 0.5),
        populations=(neurons("hidden", 1), neurons("out", 2)),
        connections=(
            Connection(INPUT, "hidden", "linear", np.array([[-7, 0, 7]], np.int8), 4),
            Connection("hidden", "out", "linear", np.array([[1], [-1]], np.int8), 2, exponent=3),
            Connection("hidden", "out", "linear", np.array([[127], [-127]], np.int8), 8),
        ),
        readout=(1, -1),
        classes=("cat", "dög"),
    )


@settings(max_examples=100, deadline=None)
@given(integer_networks(in_range=False))
def test_what_is_written_is_read(network):
    data = to_bytes(network)
    found = from_bytes(data)
    assert_equal(found, network)
    assert to_bytes(found) == data


@given(st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_weights_are_packed_two_to_a_byte(size, seed):
    weight = np.random.default_rng(seed).integers(-8, 8, size).astype(np.int8)
    packed = nibbles.pack(weight)
    assert packed.shape == ((size + 1) // 2,)
    assert np.array_equal(nibbles.unpack(packed, (size,)), weight)


def test_the_first_of_two_weights_stands_in_the_low_half():
    assert nibbles.pack(np.array([1, -1, -7], np.int8)).tolist() == [0xF1, 0x09]


def test_a_file_is_written_whole_and_read_from_its_path(network, tmp_path):
    path = tmp_path / "network.safetensors"
    path.write_bytes(b"the file before")
    write(network, path)
    assert path.read_bytes() == to_bytes(network)
    assert_equal(read(path), network)
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_file_before(network, tmp_path, monkeypatch):
    path = tmp_path / "network.safetensors"
    path.write_bytes(b"the file before")

    def full(_: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space left"):
        write(network, path)
    assert path.read_bytes() == b"the file before"
    assert list(tmp_path.iterdir()) == [path]


def test_tensors_have_the_specified_names_and_types(network):
    tensors = load(to_bytes(network))
    assert {name: (t.dtype.name, t.shape) for name, t in tensors.items()} == {
        "hidden.bias": ("int32", (1,)),
        "hidden.v_fire": ("int32", (1,)),
        "hidden.v_threshold": ("int32", (1,)),
        "out.bias": ("int32", (2,)),
        "out.v_fire": ("int32", (2,)),
        "out.v_threshold": ("int32", (2,)),
        "input->hidden.weight": ("uint8", (2,)),
        "hidden->out.weight": ("uint8", (1,)),
        "hidden->out.weight.1": ("int8", (2, 1)),
    }


def test_no_truncated_file_is_read(network):
    data = to_bytes(network)
    for length in [*range(0, len(data), 7), len(data) - 1]:
        with pytest.raises(NetworkError, match=r"^file: not a whole safetensors file \(.*$"):
            from_bytes(data[:length], "file")


def test_an_error_names_the_file(network, tmp_path):
    path = tmp_path / "network.safetensors"
    data = bytearray(to_bytes(network))
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(NetworkError) as refused:
        read(path)
    assert str(refused.value) == (
        f"{path}: the checksum does not match the content; export it again"
    )


def test_a_safetensors_file_of_something_else_is_refused():
    with pytest.raises(NetworkError) as refused:
        from_bytes(save({"weight": np.zeros(3, np.float32)}))
    assert str(refused.value) == (
        "network: a safetensors file without 'dsr-deploy' in its metadata; "
        "`dsr-deploy export` writes one"
    )


EDITS = {
    "version": (
        lambda g, t: g.update(version=2),
        "format version must be 1, not 2; export it again",
    ),
    "format": (
        lambda g, t: g.update(format="x\ny"),
        "network: field 'format' is \"x\\ny\", not a printable line of at most 200 characters",
    ),
    "other format": (
        lambda g, t: g.update(format="nir"),
        "format must be 'dsr-deploy integer network', not 'nir'",
    ),
    "missing field": (
        lambda g, t: g["populations"][1].pop("decay"),
        "population 1: field 'decay' is missing",
    ),
    "unknown field": (
        lambda g, t: g["connections"][0].update(colour="red"),
        'connection 0: unknown field "colour"',
    ),
    "wrong type": (
        lambda g, t: g["populations"][0].update(decay="409"),
        "population 0: field 'decay' is \"409\", not a whole number within 53 bits",
    ),
    "a flag for a number": (
        lambda g, t: g.update(timesteps=True),
        "network: field 'timesteps' is true, not a whole number within 53 bits",
    ),
    "a huge number": (
        lambda g, t: g.update(timesteps=10**30),
        f"network: field 'timesteps' is {10**30}, not a whole number within 53 bits",
    ),
    "a number beyond doubles": (
        lambda g, t: g["input"].update(step=10**400),
        f"input: field 'step' is {str(10**400)[:60]}..., not a number that a double holds",
    ),
    "an object for a list": (
        lambda g, t: g.update(readout={"a": 1}),
        "network: field 'readout' is a JSON object of 1, not a list",
    ),
    "a pair of three": (
        lambda g, t: g["connections"][0].update(stride=[1, 1, 1]),
        "connection 0: field 'stride' is a JSON list of 3, not two whole numbers",
    ),
    "a shape of two": (
        lambda g, t: g["populations"][0].update(shape=[1, 1]),
        "population 0: field 'shape' is a JSON list of 2, not three whole numbers",
    ),
    "framed": (
        lambda g, t: g["input"].update(framed=1),
        "input: field 'framed' is 1, not true or false",
    ),
    "readout": (
        lambda g, t: g.update(readout=[1, 2**31]),
        "network: readout weights must be within +-2147483647",
    ),
    "path as a name": (
        lambda g, t: g["populations"][0].update(name="../hidden"),
        "population 0: name '../hidden' must be letters, digits, '_', '.' and '-', and "
        "begin with a letter, a digit or '_'",
    ),
    "control characters": (
        lambda g, t: g["classes"].__setitem__(0, "cat\x1b[2J"),
        "network: field 'classes' is \"cat\\u001b[2J\", "
        "not a printable line of at most 200 characters",
    ),
    "unordered": (
        lambda g, t: g["populations"].reverse(),
        "connection 'hidden->out': its source comes later; populations stand in order of "
        "evaluation, without cycles",
    ),
    "cycle": (
        lambda g, t: (
            g["connections"].append({**g["connections"][2], "source": "out"})
            or t.update({"out->out.weight": np.zeros((2, 1), np.int8)})
        ),
        "connection 'out->out': its source comes later; populations stand in order of "
        "evaluation, without cycles",
    ),
    "huge shape": (
        lambda g, t: g["populations"][0].update(shape=[2**50, 1, 1]),
        f"tensor 'hidden.bias' is int32 of shape (1,), not int32 of shape ({2**50},)",
    ),
    "huge picture": (
        lambda g, t: huge_picture(g, t),
        f"population 'hidden': {2**32} values with padding, at most 16777216 are allowed",
    ),
    "huge weight": (
        lambda g, t: g["connections"][0].update(weight_shape=[2**40, 2**40]),
        f"tensor 'input->hidden.weight' is uint8 of shape (2,), not uint8 of shape ({2**79},)",
    ),
    "empty weight": (
        lambda g, t: g["connections"][0].update(weight_shape=[0, 3]),
        "connection 0: weight_shape must be one to four positive whole numbers, not [0, 3]",
    ),
    "missing tensor": (
        lambda g, t: t.pop("out.v_fire"),
        "tensor 'out.v_fire' is missing",
    ),
    "superfluous tensor": (
        lambda g, t: t.update({"more": np.zeros(1, np.int8)}),
        "tensor 'more' belongs to nothing in the network",
    ),
    "wrong dtype": (
        lambda g, t: t.update({"out.bias": t["out.bias"].astype(np.float32)}),
        "tensor 'out.bias' is float32 of shape (2,), not int32 of shape (2,)",
    ),
    "wrong shape": (
        lambda g, t: t.update({"hidden->out.weight.1": np.zeros((1, 2), np.int8)}),
        "tensor 'hidden->out.weight.1' is int8 of shape (1, 2), not int8 of shape (2, 1)",
    ),
    "unused half byte": (
        lambda g, t: t.update({"input->hidden.weight": np.array([9, 0x17], np.uint8)}),
        "tensor 'input->hidden.weight': the unused half of the last byte is not 0",
    ),
    "weight beyond its bits": (
        lambda g, t: t.update({"input->hidden.weight": np.array([8, 7], np.uint8)}),
        "connection 'input->hidden': weights of 4 bits must be -7 to 7, one has magnitude 8",
    ),
    "unknown kind": (
        lambda g, t: g["connections"][0].update(kind="lstm"),
        "connection 'input->hidden': kind 'lstm': choose one of conv, linear, pool, identity",
    ),
    "threshold": (
        lambda g, t: t.update({"hidden.v_threshold": np.zeros(1, np.int32)}),
        "population 'hidden': v_threshold must be at least 1, not 0",
    ),
}


def huge_picture(graph: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    """Make the hidden population a picture of 2**32 neurons, which takes a small file."""
    side, one = 2**16, np.ones(1, np.int32)
    graph["input"].update(shape=[1, side, side], mean=[0.0], std=[1.0])
    graph["populations"][0]["shape"] = [1, side, side]
    graph["populations"][1]["shape"] = [1, 1, 1]
    graph["connections"][0].update(kind="identity", weight_shape=[1])
    graph["connections"][1].update(kind="pool", weight_shape=[1], stride=[side, side])
    graph["connections"].pop()
    graph["classes"] = []
    del tensors["hidden->out.weight.1"]
    for name in ("input->hidden.weight", "hidden->out.weight"):
        tensors[name] = np.array([1], np.uint8)
    for label in ("bias", "v_fire", "v_threshold"):
        tensors[f"out.{label}"] = one


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_file_is_refused(network, name):
    edit, message = EDITS[name]
    tensors = load(to_bytes(network))
    graph = graph_of(to_bytes(network))
    edit(graph, tensors)
    with pytest.raises(NetworkError) as refused:
        from_bytes(sealed(json.dumps(graph), tensors), "file")
    assert str(refused.value) == f"file: {message}"


def test_names_that_cannot_be_read_are_not_written(network):
    hidden = replace(network.populations[0], name="a/b")
    connections = (
        replace(network.connections[0], target="a/b"),
        replace(network.connections[1], source="a/b"),
    )
    changed = replace(
        network, populations=(hidden, network.populations[1]), connections=connections
    )
    with pytest.raises(NetworkError, match=r"^population: name 'a/b' must be letters, digits"):
        to_bytes(changed)
    with pytest.raises(NetworkError, match=r"^network: name 'two\?lines' must be printable"):
        to_bytes(replace(network, name="two\nlines"))


def assert_equal(found: Any, expected: Any) -> None:
    """Compare two objects field by field; dataclasses with arrays have no ==."""
    assert type(found) is type(expected)
    for field in fields(expected):
        a, b = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(b, np.ndarray):
            assert a.dtype == b.dtype
            assert np.array_equal(a, b)
            assert a.flags.writeable
        elif field.name in ("populations", "connections"):
            for one, other in zip(a, b, strict=True):
                assert_equal(one, other)
        else:
            assert a == b
