"""Compose what lies between two populations into one connection, in float64.

A foreign graph has chains without neurons between: a pool before a convolution, a Flatten before
a linear layer, a Scale, a bias in each. An integer network has one connection from spikes to a
membrane potential. A chain becomes

- a convolution, where all of it is convolutions and pools: the kernels are folded into each
  other and the strides multiply, ``K = (K2 - 1) * stride1 + K1``;
- a matrix, from the first linear layer on: what lies before it is transposed through its rows,
  and a Flatten permutes its columns.

Products of two float32 weights are exact in float64; sums of them are rounded to it. Biases are
what the chains give for inputs of 0.

Zeros around the second of two convolutions are not what the first gives there. They compose
where the first gives zeros as well: where its windows there lie wholly outside the source. A
bias of the first then differs at the border, which :attr:`Composition.biases` shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from math import prod
from typing import Final

import numpy as np
import torch
from torch.nn import functional

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
)
from dsr_deploy.foreign.simulate import evaluate
from dsr_deploy.hardware.geometry import places

MAX_PATHS: Final = 256
"""Most ways from populations or the input that lead to one population."""
MAX_LENGTH: Final = 64
"""Most nodes of such a way."""
MAX_WEIGHTS: Final = 1 << 28
"""Most weights of a connection, 2 GiB of them in float64."""


@dataclass(frozen=True, eq=False)
class Link:
    """One connection between two populations, or from the input to one.

    Attributes
    ----------
    source, target : nodes
    map : a Convolution without dilation or bias, an Affine without bias over the source
        flattened in the order (C, H, W), or None: one to one
    path : the nodes between
    """

    source: str
    target: str
    map: Convolution | Affine | None
    path: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Composition:
    """All connections of a network, and the bias of each population per timestep.

    Attributes
    ----------
    biases : by target, float64 of its shape
    obstacles : chains that do not compose
    """

    links: tuple[Link, ...]
    biases: dict[str, Float64]
    obstacles: tuple[Obstacle, ...]


@dataclass(frozen=True)
class _Refusal:
    """Why a node does not compose with those before it, and what would do."""

    reason: str
    way_out: str


def compose(network: ForeignNetwork) -> Composition:
    """Compose every chain that leads to neurons, where the shapes of its nodes are known."""
    links: list[Link] = []
    obstacles: list[Obstacle] = []
    biases: dict[str, Float64] = {}
    for target in network.neurons():
        if not _between(network, target) <= set(network.shapes):
            continue
        paths = list(islice(_paths(network, target), MAX_PATHS + 1))
        if len(paths) > MAX_PATHS or any(len(path) > MAX_LENGTH for path in paths):
            reason = f"more than {MAX_PATHS} ways or {MAX_LENGTH} layers lead to it"
            obstacles.append(Obstacle(f"node '{target}'", reason, "put neurons between"))
            continue
        biases[target] = _bias(network, target)
        for source, *path in paths:
            link = _link(network, source, target, path)
            if isinstance(link, Link):
                links.append(link)
            else:
                obstacles.append(link)
    return Composition(tuple(links), biases, tuple(dict.fromkeys(obstacles)))


def _link(network: ForeignNetwork, source: str, target: str, path: list[str]) -> Link | Obstacle:
    """Compose one way."""
    composed: Convolution | Affine | None = None
    here = network.shapes[source]
    for name in path:
        with np.errstate(over="ignore", invalid="ignore"):
            following = _then(composed, network.nodes[name], network.shapes[source], here)
        if following is not None and not isinstance(following, _Refusal):
            following = _finite(following)
        if isinstance(following, _Refusal):
            return Obstacle(f"node '{name}'", following.reason, following.way_out)
        composed = following
        here = network.shapes[name]
    return Link(source, target, composed, tuple(path))


def _between(network: ForeignNetwork, target: str) -> set[str]:
    """Return ``target`` and all that leads to it, back to neurons or the input."""
    found, open_ends = {target}, [target]
    while open_ends:
        for source in _sources(network, open_ends.pop()):
            if source not in found:
                found.add(source)
                if not isinstance(network.nodes[source], Neurons | Inlet):
                    open_ends.append(source)
    return found


def _sources(network: ForeignNetwork, target: str) -> list[str]:
    """Return the nodes that lead to ``target``, but for those that close a loop."""
    place = {name: i for i, name in enumerate(network.nodes)}
    return [source for source in network.sources(target) if place[source] < place[target]]


def _paths(network: ForeignNetwork, target: str, length: int = 0) -> Iterator[list[str]]:
    """Yield every way to ``target`` from neurons or the input: that node, then those between.

    A way that is too long begins with any node.
    """
    for source in _sources(network, target):
        if isinstance(network.nodes[source], Neurons | Inlet) or length >= MAX_LENGTH:
            yield [source]
        else:
            for path in _paths(network, source, length + 1):
                yield [*path, source]


def _bias(network: ForeignNetwork, target: str) -> Float64:
    """Return what reaches ``target`` where every population is silent, of its shape."""
    values: dict[str, torch.Tensor] = {}

    def value(name: str) -> torch.Tensor:
        if name not in values:
            node = network.nodes[name]
            shape = network.shapes[name]
            if isinstance(node, Neurons | Inlet) or not _sources(network, name):
                values[name] = torch.zeros((1, 1, *shape), dtype=torch.float64)
            else:
                values[name] = evaluate(node, incoming(name))
        return values[name]

    def incoming(name: str) -> torch.Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for source in _sources(network, name):
            total = total + value(source)
        return total

    return np.asarray(incoming(target)[0, 0].numpy(), np.float64)


def _finite(composed: Convolution | Affine) -> Convolution | Affine | _Refusal:
    if np.isfinite(composed.weight).all():
        return composed
    return _Refusal("its weights times those before it exceed float64", "train smaller weights")


def _then(
    first: Convolution | Affine | None, node: Node, source: Shape, here: Shape
) -> Convolution | Affine | _Refusal | None:
    """Return ``node`` after ``first``, which leads from shape ``source`` to shape ``here``."""
    if isinstance(node, Flatten | Outlet):
        return first
    if (count := _count(first, node, source, here)) > MAX_WEIGHTS:
        return _Refusal(
            f"as one connection with the layers before it, it takes {count:,} weights, "
            f"at most {MAX_WEIGHTS:,} are composed",
            "put neurons between, or make it smaller",
        )
    if isinstance(node, Scale):
        return _scaled(first, node.factor, source, here)
    if isinstance(node, Affine):
        rows = node.weight
        if isinstance(first, Affine):
            rows = rows @ first.weight
        elif isinstance(first, Convolution):
            rows = _transposed(rows, first, source, _output(first, source))
        return Affine(rows, np.zeros(len(rows)))
    assert isinstance(node, Convolution | Pool)
    second = plain(node, here[0])
    assert not isinstance(first, Affine), "its shape is (C,), which no convolution takes"
    if first is None:
        return second
    if second.padding != (0, 0) and not _pads_alike(first, second, source):
        return _Refusal(
            "its padding is of zeros, and the layer before it would give other values there",
            "pad that layer's source instead, or put neurons between",
        )
    return _folded(first, second)


def _count(first: Convolution | Affine | None, node: Node, source: Shape, here: Shape) -> int:
    """Count the weights that ``node`` after ``first`` takes, those on the way included."""
    if isinstance(node, Affine):
        return len(node.weight) * prod(source)
    if isinstance(node, Scale):
        return here[0] ** 2 if first is None and len(here) == 1 else 0
    assert isinstance(node, Convolution | Pool)
    rows: int
    if isinstance(node, Pool):
        rows, fan, groups, window = here[0], 1, here[0], node.kernel
    else:
        (rows, fan), groups, window = node.weight.shape[:2], node.groups, node.window
    if not isinstance(first, Convolution):
        return rows * fan * prod(window)
    sizes = zip(first.weight.shape[2:], first.stride, window, strict=True)
    folded: int = prod((n - 1) * stride + kernel for kernel, stride, n in sizes)
    middle = len(first.weight)
    if first.groups == groups == middle == rows:
        return rows * folded
    ungrouped = middle * source[0] * prod(first.weight.shape[2:])
    return max(rows * source[0] * folded, rows * middle * prod(window), ungrouped)


def plain(node: Convolution | Pool, channels: int) -> Convolution:
    """Return a pool or a dilated convolution as a convolution without dilation, bias left out."""
    if isinstance(node, Pool):
        weight = np.full((channels, 1, *node.kernel), 1 / prod(node.kernel) if node.mean else 1.0)
        return Convolution(weight, np.zeros(channels), node.stride, node.padding, groups=channels)
    rows, fan = node.weight.shape[:2]
    dy, dx = node.dilation
    spread = np.zeros((rows, fan, *node.window))
    spread[:, :, ::dy, ::dx] = node.weight
    return replace(node, weight=spread, bias=np.zeros(rows), dilation=(1, 1))


def _folded(first: Convolution, second: Convolution) -> Convolution:
    """Return ``second`` after ``first`` as one convolution."""
    depthwise = first.groups == second.groups == len(first.weight) == len(second.weight)
    one, two = (first, second) if depthwise else (_ungrouped(first), _ungrouped(second))
    (sy, sx), (ky, kx), (ly, lx) = one.stride, one.weight.shape[2:], two.weight.shape[2:]
    size = ((ly - 1) * sy + ky, (lx - 1) * sx + kx)
    weight = np.zeros((len(two.weight), one.weight.shape[1], *size))
    product = "om,omkl->omkl" if depthwise else "om,mikl->oikl"
    for y in range(ly):
        for x in range(lx):
            part = np.einsum(product, two.weight[:, :, y, x], one.weight)
            weight[:, :, y * sy : y * sy + ky, x * sx : x * sx + kx] += part
    padding = tuple(p + q * s for p, q, s in zip(one.padding, two.padding, one.stride, strict=True))
    stride = tuple(a * b for a, b in zip(one.stride, two.stride, strict=True))
    return Convolution(
        weight,
        np.zeros(len(weight)),
        (stride[0], stride[1]),
        (padding[0], padding[1]),
        groups=one.groups if depthwise else 1,
    )


def _pads_alike(first: Convolution, second: Convolution, source: Shape) -> bool:
    """Whether ``first`` would give zeros where ``second`` has its padding."""
    for size, kernel, stride, inner, outer in zip(
        source[1:], first.weight.shape[2:], first.stride, first.padding, second.padding, strict=True
    ):
        count = places(size, kernel, stride, inner)
        before = -stride - inner + kernel <= 0  # the window of position -1 ends at or before 0
        after = count * stride - inner >= size  # that of position `count` begins at or after
        if outer and not (before and after):
            return False
    return True


def _ungrouped(node: Convolution) -> Convolution:
    """Return a convolution in one group, with zeros between."""
    if node.groups == 1:
        return node
    outputs, fan, *kernel = node.weight.shape
    rows = outputs // node.groups
    dense = np.zeros((outputs, fan * node.groups, *kernel))
    for g in range(node.groups):
        block = slice(g * rows, (g + 1) * rows)
        dense[block, g * fan : (g + 1) * fan] = node.weight[block]
    return replace(node, weight=dense, groups=1)


def _output(node: Convolution, source: Shape) -> Shape:
    sizes = [
        places(*axis)
        for axis in zip(source[1:], node.weight.shape[2:], node.stride, node.padding, strict=True)
    ]
    return (len(node.weight), *sizes)


def _transposed(rows: Float64, node: Convolution, source: Shape, middle: Shape) -> Float64:
    """Return the matrix of a convolution and then ``rows``, over the flattened source."""
    extra = [
        size + 2 * padding - kernel - (out - 1) * stride
        for size, padding, kernel, out, stride in zip(
            source[1:], node.padding, node.weight.shape[2:], middle[1:], node.stride, strict=True
        )
    ]
    images = torch.from_numpy(rows.reshape(-1, *middle))
    # what of the source no window reaches stays zero
    back = functional.conv_transpose2d(
        images, torch.from_numpy(node.weight), None, node.stride, 0, 0, node.groups
    )
    back = functional.pad(back, (0, extra[1], 0, extra[0]))
    top, left = node.padding
    back = back[:, :, top : top + source[1], left : left + source[2]]
    return np.ascontiguousarray(back.reshape(len(rows), -1).numpy())


def _scaled(
    first: Convolution | Affine | None, factor: Float64, source: Shape, here: Shape
) -> Convolution | Affine | _Refusal:
    """Return a Scale after ``first``."""
    whole = np.broadcast_to(factor, here)
    if isinstance(first, Affine):
        return Affine(whole.reshape(-1, 1) * first.weight, first.bias)
    if first is None and len(here) == 1:
        return Affine(np.diag(whole), np.zeros(len(whole)))
    # a Flatten may have changed what the first dimension is
    whole = whole.reshape(source if first is None else _output(first, source))
    per_channel = whole.reshape(len(whole), -1)
    if (per_channel != per_channel[:, :1]).any():
        return _Refusal(
            "its factors differ between the positions of a channel",
            "use one factor per channel",
        )
    channel = per_channel[:, 0].reshape(-1, 1, 1, 1)
    if isinstance(first, Convolution):
        return replace(first, weight=channel * first.weight)
    return Convolution(channel.copy(), np.zeros(len(channel)), groups=len(channel))
