"""The shapes of a foreign network, along its edges from the input."""

from __future__ import annotations

from dataclasses import fields, replace
from math import prod
from typing import Any, Final

import numpy as np

from dsr_deploy.foreign.network import (
    Affine,
    Convolution,
    Flatten,
    Float64,
    ForeignNetwork,
    Inlet,
    Neurons,
    Node,
    Obstacle,
    Outlet,
    Pool,
    Scale,
    Shape,
    Unknown,
)
from dsr_deploy.hardware.errors import NetworkError
from dsr_deploy.hardware.geometry import places

_EXPORT_AGAIN: Final = "correct the layer, and export it again"

MAX_VALUES: Final = 1 << 24
"""Of a layer, as in an integer network."""


class _ShapeError(Exception):
    """A node does not fit what comes in."""


def infer(network: ForeignNetwork) -> ForeignNetwork:
    """Return ``network`` with shapes, and an obstacle for each node that does not fit its input.

    Parameters of neurons get the shape of their node. A Flatten that counts the batch, as some
    exporters write it, counts without it afterwards.
    """
    shapes: dict[str, Shape] = {}
    nodes: dict[str, Node] = {}
    obstacles = list(network.obstacles)
    for name, node in network.nodes.items():
        nodes[name] = node
        if isinstance(node, Unknown):
            obstacles.append(Obstacle(f"node '{name}'", node.reason, node.way_out))
            continue
        if isinstance(node, Inlet):
            shapes[name] = _plain(node.shape)
            if prod(node.shape) > MAX_VALUES:
                text = f"an input of {prod(node.shape):,} values, at most {MAX_VALUES:,} are read"
                obstacles.append(Obstacle(f"node '{name}'", text, _EXPORT_AGAIN))
                del shapes[name]
            continue
        sources = network.sources(name)
        incoming = {shapes[source] for source in sources if source in shapes}
        try:
            if not sources:
                raise _ShapeError("nothing leads to it")
            if len(incoming) > 1:
                raise _ShapeError(f"its sources have the shapes {_list(incoming)}, which differ")
            if incoming:
                nodes[name], shapes[name] = _fitted(node, incoming.pop(), network, name)
        except _ShapeError as error:
            obstacles.append(Obstacle(f"node '{name}'", str(error), _EXPORT_AGAIN))
    return replace(network, nodes=nodes, shapes=shapes, obstacles=tuple(obstacles))


def flattened(shape: Shape, first: int, last: int) -> Shape:
    """Return ``shape`` with its dimensions ``first`` to ``last``, both included, as one."""
    end = last % len(shape)
    return (*shape[:first], prod(shape[first : end + 1]), *shape[end + 1 :])


def _plain(shape: Shape) -> Shape:
    """Drop leading ones of batch and time."""
    while len(shape) > 3 and shape[0] == 1:
        shape = shape[1:]
    return shape


def _list(shapes: set[Shape]) -> str:
    return " and ".join(map(str, sorted(shapes)))


def _fitted(node: Node, shape: Shape, network: ForeignNetwork, name: str) -> tuple[Node, Shape]:
    """Return the node as it is after ``shape``, and the shape of its output."""
    if isinstance(node, Neurons):
        return _broadcast(node, shape), shape
    if isinstance(node, Outlet):
        # some exporters write 1 where parameters are one for all neurons
        if prod(node.shape) not in (1, prod(shape)):
            raise _ShapeError(f"an Output of shape {node.shape} after {shape}")
        return node, shape
    if isinstance(node, Affine):
        if shape != node.weight.shape[1:]:
            raise _ShapeError(f"weights for {node.weight.shape[1]} inputs after shape {shape}")
        return node, node.weight.shape[:1]
    if isinstance(node, Scale):
        return Scale(_as(node.factor, shape, "scale")), shape
    if isinstance(node, Flatten):
        return _flatten(node, shape, network, name)
    assert isinstance(node, Convolution | Pool)
    return node, _windowed(node, shape)


def _windowed(node: Convolution | Pool, shape: Shape) -> Shape:
    if len(shape) != 3:
        raise _ShapeError(f"it needs a source of (C, H, W), not {shape}")
    if isinstance(node, Pool):
        channels, window = shape[0], node.kernel
    else:
        channels, window = len(node.weight), node.window
        if (heard := node.weight.shape[1] * node.groups) != shape[0]:
            raise _ShapeError(f"weights for {heard} channels after shape {shape}")
    axes = zip(shape[1:], window, node.stride, node.padding, strict=True)
    try:
        height, width = (places(*axis) for axis in axes)
    except NetworkError as error:
        raise _ShapeError(str(error)) from None
    padded = prod(n + 2 * p for n, p in zip(shape[1:], node.padding, strict=True)) * shape[0]
    if (largest := max(padded, channels * height * width)) > MAX_VALUES:
        raise _ShapeError(f"{largest:,} values with its padding, at most {MAX_VALUES:,} are read")
    return channels, height, width


def _flatten(
    node: Flatten, shape: Shape, network: ForeignNetwork, name: str
) -> tuple[Flatten, Shape]:
    """Try the dimensions as they are, then counted with a batch; what follows must take them."""
    wanted = {
        following.weight.shape[1]
        for target in network.targets(name)
        if isinstance(following := network.nodes[target], Affine)
    }
    options = []
    for shift in (0, 1):
        first = node.first - shift if node.first > 0 else node.first
        last = node.last - shift if node.last > 0 else node.last
        if first < 0:
            first += len(shape)
        if -len(shape) <= last < len(shape) and 0 <= first <= last % len(shape):
            options.append((Flatten(first, last), flattened(shape, first, last)))
    for option in options:
        if not wanted or (len(option[1]) == 1 and wanted == {option[1][0]}):
            return option
    if not options:
        raise _ShapeError(f"dimensions {node.first} to {node.last} after shape {shape}")
    return options[0]


def _broadcast(node: Neurons, shape: Shape) -> Neurons:
    fitted: dict[str, Any] = {
        field.name: _as(values, shape, field.name)
        for field in fields(node)
        if isinstance(values := getattr(node, field.name), np.ndarray)
    }
    return replace(node, **fitted)


def _as(values: Float64, shape: Shape, label: str) -> Float64:
    """Return one value as (), several in ``shape``; dimensions of size 1 do not matter."""
    if values.size == 1:
        return values.reshape(())
    if tuple(n for n in values.shape if n != 1) == tuple(n for n in shape if n != 1):
        return values.reshape(shape)
    if len(values.shape) == len(shape) and all(
        n in (1, size) for n, size in zip(values.shape, shape, strict=True)
    ):
        return np.broadcast_to(values, shape)
    if values.shape == shape[:1]:
        return np.broadcast_to(values.reshape(-1, *(1,) * (len(shape) - 1)), shape)
    raise _ShapeError(f"{label} of shape {values.shape} after shape {shape}")
