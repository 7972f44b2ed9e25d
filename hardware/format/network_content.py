"""What the file of an integer network contains: the graph as JSON, the numbers as tensors.

:mod:`dsr_deploy.hardware.format.network_file` puts them into a container; docs/network-format.md
specifies both.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from dataclasses import fields
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from dsr_deploy.hardware.errors import NetworkError
from dsr_deploy.hardware.format import nibbles
from dsr_deploy.hardware.format.json_text import LONGEST_TEXT, printable
from dsr_deploy.hardware.format.strict_json import JsonObject
from dsr_deploy.hardware.geometry import Kind, Pair, Shape
from dsr_deploy.hardware.network import (
    Connection,
    Input,
    IntegerNetwork,
    Population,
)

FORMAT: Final = "dsr-deploy integer network"
VERSION: Final = 1

MAX_NEURONS: Final = 1 << 24
"""Most neurons of a population, and most values of an input, its padding included."""

PACKED_BITS: Final = 4
"""Weights of at most this many bits are stored two to a byte."""

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_READOUT_LIMIT: Final = (1 << 31) - 1
_VECTORS: Final = ("bias", "v_fire", "v_threshold")

Tensors = dict[str, NDArray[Any]]


def tensors_of(network: IntegerNetwork) -> Tensors:
    """Return the tensors of ``network`` by name, contiguous, weights packed."""
    packed = {
        name: nibbles.pack(np.ascontiguousarray(connection.weight))
        for name, connection in zip(weight_names(network), network.connections, strict=True)
        if connection.weight_bits <= PACKED_BITS
    }
    tensors = unpacked_tensors_of(network) | packed
    return {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}


def unpacked_tensors_of(network: IntegerNetwork) -> Tensors:
    """Return the tensors of ``network`` by name, weights as int8 in their own shape."""
    vectors = {
        f"{population.name}.{label}": getattr(population, label)
        for population in network.populations
        for label in _VECTORS
    }
    weights = (connection.weight for connection in network.connections)
    return vectors | dict(zip(weight_names(network), weights, strict=True))


def weight_names(network: IntegerNetwork) -> list[str]:
    """Return the name of each connection's tensor, in the order of the connections."""
    twins: Counter[tuple[str, str]] = Counter()
    return [_weight_name(c.source, c.target, twins) for c in network.connections]


def describe(network: IntegerNetwork) -> dict[str, Any]:
    """Return the graph as JSON: every field of the classes but the arrays."""
    source = network.input
    return {
        "format": FORMAT,
        "version": VERSION,
        "name": network.name,
        "timesteps": network.timesteps,
        "input": {
            "shape": source.shape,
            "mean": [float(mean) for mean in source.mean],
            "std": [float(std) for std in source.std],
            "pixel_scale": float(source.pixel_scale),
            "step": float(source.step),
            "low": source.low,
            "high": source.high,
            "framed": source.framed,
        },
        "populations": [
            {"name": p.name, "shape": p.shape, "decay": p.decay, "start": p.start}
            for p in network.populations
        ],
        "connections": [
            {f.name: getattr(c, f.name) for f in fields(c) if f.name != "weight"}
            | {"weight_shape": c.weight.shape}
            for c in network.connections
        ],
        "readout": network.readout,
        "classes": network.classes,
    }


def to_text(graph: dict[str, Any]) -> str:
    """Return the JSON text of what :func:`describe` returned; equal graphs give equal texts."""
    return json.dumps(graph, sort_keys=True, separators=(",", ":"), allow_nan=False)


def checksum(text: str, tensors: Tensors) -> str:
    """Return the SHA-256 of the JSON text and then of every tensor, in the order of the names."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        digest.update(tensors[name].tobytes())
    return digest.hexdigest()


def identity(network: IntegerNetwork) -> str:
    """Return the SHA-256 by which every export of ``network`` is known, in hexadecimal.

    It is the checksum of the network's file with each ``start`` and ``delay`` at 0: a schedule
    moves spikes on a pipelined chip, and makes no others.
    """
    graph = describe(network)
    for population in graph["populations"]:
        population["start"] = 0
    for connection in graph["connections"]:
        connection["delay"] = 0
    return checksum(to_text(graph), tensors_of(network))


def weight_widths(network: IntegerNetwork) -> tuple[int, ...]:
    """Return the widths that the weights have, in bits, ascending, each once."""
    return tuple(sorted({connection.weight_bits for connection in network.connections}))


def widths_text(network: IntegerNetwork) -> str:
    """Return the widths for people, and for the metadata of an export: ``4`` or ``4, 8``."""
    return ", ".join(map(str, weight_widths(network)))


def difference(widths: str, expected: str) -> str:
    """Say how a network of other :func:`identity` differs, by the widths of both, as text."""
    return f"weights of {widths} bits, not {expected}" if widths != expected else "other numbers"


def network_of(graph: JsonObject, tensors: Tensors) -> IntegerNetwork:
    """Build the network of the JSON's remaining fields; every tensor must be used."""
    left = dict(tensors)
    populations = tuple(
        _population(entry, left) for entry in graph.nested_list("populations", "population")
    )
    twins: Counter[tuple[str, str]] = Counter()
    connections = tuple(
        _connection(entry, left, twins) for entry in graph.nested_list("connections", "connection")
    )
    network = IntegerNetwork(
        name=graph.text("name"),
        timesteps=graph.whole("timesteps"),
        input=_input(graph.nested("input")),
        populations=populations,
        connections=connections,
        readout=graph.wholes("readout"),
        classes=graph.texts("classes"),
    )
    graph.finish()
    for name in sorted(left):
        raise NetworkError(f"tensor '{printable(name)}' belongs to nothing in the network")
    return network


def _input(entry: JsonObject) -> Input:
    result = Input(
        shape=entry.triple("shape"),
        mean=entry.numbers("mean"),
        std=entry.numbers("std"),
        pixel_scale=entry.number("pixel_scale"),
        step=entry.number("step"),
        low=entry.whole("low"),
        high=entry.whole("high"),
        framed=entry.flag("framed"),
    )
    entry.finish()
    return result


def _population(entry: JsonObject, left: Tensors) -> Population:
    name, shape = _name(entry, "name"), entry.triple("shape")
    bias, v_fire, v_threshold = (
        _take(left, f"{name}.{label}", np.int32, (shape[0],)) for label in _VECTORS
    )
    result = Population(
        name, shape, bias, v_fire, v_threshold, entry.whole("decay"), entry.whole("start")
    )
    entry.finish()
    return result


def _connection(entry: JsonObject, left: Tensors, twins: Counter[tuple[str, str]]) -> Connection:
    source, target = _name(entry, "source"), _name(entry, "target")
    bits, shape = entry.whole("weight_bits"), entry.wholes("weight_shape")
    if not 1 <= len(shape) <= 4 or min(shape) < 1:
        raise NetworkError(
            f"{entry.where}: weight_shape must be one to four positive whole numbers, "
            f"not {list(shape)[:8]}"
        )
    name = _weight_name(source, target, twins)
    if bits <= PACKED_BITS:
        packed = _take(left, name, np.uint8, ((math.prod(shape) + 1) // 2,))
        try:
            weight = nibbles.unpack(packed, shape)
        except ValueError as error:
            raise NetworkError(f"tensor '{name}': {error}") from error
    else:
        weight = _take(left, name, np.int8, shape)
    result = Connection(
        source=source,
        target=target,
        kind=cast(Kind, entry.text("kind")),  # the class checks it
        weight=weight,
        weight_bits=bits,
        exponent=entry.whole("exponent"),
        kernel=entry.pair("kernel"),
        stride=entry.pair("stride"),
        padding=entry.pair("padding"),
        groups=entry.whole("groups"),
        delay=entry.whole("delay"),
    )
    entry.finish()
    return result


def _name(entry: JsonObject, key: str) -> str:
    name = entry.text(key)
    _check_name(entry.where, name)
    return name


def _check_name(where: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise NetworkError(
            f"{where}: name '{printable(name, 60)}' must be letters, digits, '_', '.' and '-', "
            "and begin with a letter, a digit or '_'"
        )


def check_allowed(network: IntegerNetwork) -> None:
    """Check that the format allows the names and sizes of a network read or written."""
    for text in (network.name, *network.classes):
        if len(text) > LONGEST_TEXT or not text.isprintable():
            raise NetworkError(
                f"network: name '{printable(text, 60)}' must be printable and of at most "
                f"{LONGEST_TEXT} characters"
            )
    if any(abs(weight) > _READOUT_LIMIT for weight in network.readout):
        raise NetworkError(f"network: readout weights must be within +-{_READOUT_LIMIT}")
    for population in network.populations:
        _check_name("population", population.name)
        _check_size(f"population '{population.name}'", population.shape, (0, 0))
    _check_size("input", network.input.shape, (0, 0))
    for connection in network.connections:
        where = f"connection '{connection.name}'"
        _check_size(where, network.shapes[connection.source], connection.padding)


def _check_size(where: str, shape: Shape, padding: Pair) -> None:
    channels, height, width = shape
    size = channels * (height + 2 * padding[0]) * (width + 2 * padding[1])
    if size > MAX_NEURONS:
        raise NetworkError(
            f"{where}: {size} values with padding, at most {MAX_NEURONS} are allowed"
        )


def _weight_name(source: str, target: str, twins: Counter[tuple[str, str]]) -> str:
    """Name the weights; ``twins`` counts the connections between the same two, this one too."""
    earlier = twins[source, target]
    twins[source, target] += 1
    return f"{source}->{target}.weight" + (f".{earlier}" if earlier else "")


def _take(left: Tensors, name: str, dtype: type, shape: tuple[int, ...]) -> NDArray[Any]:
    """Remove a tensor from ``left`` and return a copy that can be written to."""
    if name not in left:
        raise NetworkError(f"tensor '{name}' is missing")
    tensor = left.pop(name)
    if tensor.dtype != dtype or tensor.shape != shape:
        raise NetworkError(
            f"tensor '{name}' is {tensor.dtype} of shape {tensor.shape}, "
            f"not {np.dtype(dtype)} of shape {shape}"
        )
    return tensor.copy()
