"""Read the NIR file of another framework, node by node.

The nir package refuses a whole file where one node's shape is not as it infers it: parameters
of one neuron for a whole layer, an output of (1, 1, 1) after (1,), kernels that are not square.
Here each node is read for itself and shapes follow the edges from the input; what is not
understood becomes an :class:`Obstacle`, and the rest is read all the same.
"""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np
from numpy.typing import NDArray

from dsr_deploy.errors import UserError
from dsr_deploy.foreign import hdf5
from dsr_deploy.foreign.network import (
    Affine,
    Convolution,
    Flatten,
    Float64,
    ForeignNetwork,
    Inlet,
    Neurons,
    NeuronType,
    Node,
    Obstacle,
    Outlet,
    Pair,
    Pool,
    Scale,
    Unknown,
)
from dsr_deploy.foreign.shapes import infer
from dsr_deploy.hardware.format.json_text import printable

MAX_GRAPH: Final = 2048
"""Most nodes, and most edges."""

_EXPORT_AGAIN: Final = "export it again"

_INSTEAD: Final = {
    "Conv1d": ("a convolution over one dimension", "use a Conv2d of height 1"),
    "Delay": ("a delay of its own", "leave it out, and train without delays"),
    "Threshold": ("spikes without a membrane potential", "use IF or LIF neurons"),
    "NIRGraph": ("a graph in the graph, as of recurrent layers", "write its nodes into one graph"),
}
"""Node types of NIR that are not read, and what would do."""

Fields = dict[str, NDArray[Any]]


class _FieldError(Exception):
    """A field of a node is not what it must be."""


def read(path: Path) -> ForeignNetwork:
    """Read a NIR file.

    Raises
    ------
    UserError
        If it is no NIR file, or too damaged to tell its nodes and edges.
    """
    return from_arrays(hdf5.read(path), str(path))


def from_arrays(arrays: hdf5.Arrays, where: str) -> ForeignNetwork:
    """Return the network in the arrays of a NIR file; ``where`` names it in errors.

    Raises
    ------
    UserError
        As :func:`read`.
    """
    if any(name.startswith("layer/") for name in arrays):
        raise UserError(
            f"{where}: an HDF5 file, perhaps a network of lava-dl; only files of NIR are read"
        )
    if str(arrays.get("node/type")) != "NIRGraph":
        raise UserError(f"{where}: an HDF5 file, but not one of NIR; {_EXPORT_AGAIN}")
    fields: dict[str, Fields] = {}
    for name, array in arrays.items():
        parts = name.split("/")
        if parts[:2] == ["node", "nodes"] and len(parts) > 3:
            fields.setdefault(parts[2], {})["/".join(parts[3:])] = array
    edges = _edges(arrays.get("node/edges"), set(fields), where)
    if max(len(fields), len(edges)) > MAX_GRAPH:
        raise UserError(
            f"{where}: {len(fields):,} nodes and {len(edges):,} edges, at most {MAX_GRAPH:,} of "
            "each are read; split the network"
        )
    nodes = {name: _node(of_node) for name, of_node in fields.items()}
    order, loops = _in_order(nodes, edges)
    network = ForeignNetwork({name: nodes[name] for name in order}, edges, {}, tuple(loops))
    return infer(network)


def _edges(found: Any, nodes: set[str], where: str) -> tuple[tuple[str, str], ...]:
    if found is None or found.dtype.kind != "U" or found.ndim != 2 or found.shape[1] != 2:
        raise UserError(f"{where}: its list of edges is missing or damaged; {_EXPORT_AGAIN}")
    edges = tuple(dict.fromkeys((str(a), str(b)) for a, b in found))
    for name in (name for edge in edges for name in edge):
        if name not in nodes:
            raise UserError(
                f"{where}: an edge names the node '{printable(name)}', which does not exist; "
                f"{_EXPORT_AGAIN}"
            )
    return edges


def _in_order(
    nodes: dict[str, Node], edges: tuple[tuple[str, str], ...]
) -> tuple[list[str], list[Obstacle]]:
    """Return the nodes, sources first, and an obstacle for each edge that closes a loop."""
    kept, names = list(edges), sorted(nodes, key=_natural)
    loops: list[Obstacle] = []
    while True:
        before: dict[str, list[str]] = {name: [] for name in names}
        for a, b in kept:
            before[b].append(a)
        try:
            return list(TopologicalSorter(before).static_order()), loops
        except CycleError as error:
            circle: list[str] = error.args[1]  # each is a source of the next
            pairs = list(pairwise(circle))
            # The edge that leaves neurons is the recurrent one.
            closing = next((e for e in pairs if isinstance(nodes[e[0]], Neurons)), pairs[0])
            kept.remove(closing)
            loops.append(
                Obstacle(
                    f"edge '{closing[0]}' to '{closing[1]}'",
                    "it closes a loop, a recurrent connection",
                    "populations must follow each other; train without recurrence",
                )
            )


def _natural(name: str) -> tuple[int, str]:
    """Sort the names 2 and 10 as numbers."""
    return (int(name) if name.isascii() and name.isdecimal() else -1, name)


def _node(fields: Fields) -> Node:
    kind = str(fields["type"]) if "type" in fields else ""
    try:
        return _known(kind, fields)
    except _FieldError as error:
        return Unknown(kind, str(error), _EXPORT_AGAIN)


def _known(kind: str, fields: Fields) -> Node:
    if kind == "Input":
        return Inlet(tuple(_wholes(fields, "shape", 0, least=1)))
    if kind == "Output":
        if "shape" in fields and not fields["shape"].size:  # after neurons of one parameter each
            return Outlet(())
        return Outlet(tuple(_wholes(fields, "shape", 0, least=1)))
    if kind in get_args(NeuronType):
        return _neurons(kind, fields)  # type: ignore[arg-type]
    if kind in ("Linear", "Affine"):
        weight = _numbers(fields, "weight", 2)
        bias = _bias(fields, len(weight)) if kind == "Affine" else np.zeros(len(weight))
        return Affine(weight, bias)
    if kind == "Conv2d":
        return _convolution(fields)
    if kind in ("SumPool2d", "AvgPool2d"):
        kernel = _pair(fields, "kernel_size", 1)
        return Pool(kernel, _pair(fields, "stride", 1), _pair(fields, "padding", 0), kind[0] == "A")
    if kind == "Flatten":
        first = _wholes(fields, "start_dim", 1, least=-8)[0] if "start_dim" in fields else 1
        last = _wholes(fields, "end_dim", 1, least=-8)[0] if "end_dim" in fields else -1
        return Flatten(first, last)
    if kind == "Scale":
        return Scale(_numbers(fields, "scale", None))
    reason, way_out = _INSTEAD.get(
        kind, ("a type that is not read", "use IF or LIF neurons, Linear, Affine or Conv2d")
    )
    return Unknown(kind, f"{printable(kind) or 'a node without a type'}: {reason}", way_out)


def _neurons(kind: NeuronType, fields: Fields) -> Neurons:
    names = ["r"]
    names += ["v_threshold"] if kind in ("IF", "LIF", "CubaLIF") else []
    names += ["tau", "v_leak"] if kind in ("LIF", "LI") else []
    names += ["tau_mem", "tau_syn", "v_leak"] if kind.startswith("Cuba") else []
    endless = ("r", "tau", "tau_mem", "tau_syn")
    found = {name: _numbers(fields, name, None, infinite=name in endless) for name in names}
    if "v_threshold" in found:
        zero = np.zeros(())
        found["v_reset"] = _numbers(fields, "v_reset", None) if "v_reset" in fields else zero
    if kind.startswith("Cuba"):
        found["w_in"] = _numbers(fields, "w_in", None) if "w_in" in fields else np.ones(())
        found["tau"] = found.pop("tau_mem")
    for name in ("tau", "tau_syn"):
        if name in found and found[name].min() <= 0:
            raise _FieldError(f"{kind}: {name} must be positive, not {found[name].min():g}")
    return Neurons(kind, **found)


def _convolution(fields: Fields) -> Convolution:
    weight = _numbers(fields, "weight", 4)
    stride, dilation = _pair(fields, "stride", 1), _pair(fields, "dilation", 1)
    groups = _wholes(fields, "groups", 1, least=1)[0] if "groups" in fields else 1
    extent = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
    text = str(fields["padding"]) if fields.get("padding", weight).dtype.kind == "U" else ""
    if text == "valid":
        padding = (0, 0)
    elif text == "same":
        if extent[0] % 2 or extent[1] % 2:
            raise _FieldError("Conv2d: padding 'same' of an even kernel is not the same all round")
        padding = (extent[0] // 2, extent[1] // 2)
    else:
        padding = _pair(fields, "padding", 0)
    if len(weight) % groups:
        raise _FieldError(f"Conv2d: {len(weight)} channels in {groups} groups")
    return Convolution(weight, _bias(fields, len(weight)), stride, padding, dilation, groups)


def _bias(fields: Fields, length: int) -> Float64:
    bias = _numbers(fields, "bias", None) if "bias" in fields else np.zeros(length)
    if bias.size != length:
        raise _FieldError(f"bias has {bias.size} values, not {length}")
    return bias.reshape(length)


def _numbers(
    fields: Fields, name: str, dimensions: int | None, *, infinite: bool = False
) -> Float64:
    """Return a field of finite numbers; a time constant may be infinite, which is no leak."""
    array = fields.get(name)
    if array is None:
        raise _FieldError(f"{name} is missing")
    if array.dtype.kind not in "iuf" or not array.size:
        raise _FieldError(f"{name} holds no numbers")
    if dimensions is not None and array.ndim != dimensions:
        raise _FieldError(f"{name} has {array.ndim} dimensions, not {dimensions}")
    values = array.astype(np.float64)
    if np.isnan(values).any() or not (infinite or np.isfinite(values).all()):
        raise _FieldError(f"{name} holds a value that is not finite")
    return values


def _wholes(fields: Fields, name: str, length: int, *, least: int) -> list[int]:
    """Return a field of ``length`` whole numbers, 0 for any number of them."""
    array = fields.get(name)
    if array is None:
        raise _FieldError(f"{name} is missing")
    values = array.ravel()
    if array.dtype.kind not in "iu" or not 1 <= values.size <= 8 or length not in (0, values.size):
        raise _FieldError(f"{name} must be {length or 'some'} whole numbers")
    if values.min() < least or values.max() > 1 << 24:
        raise _FieldError(f"{name} must be at least {least}, not {values.min()}")
    return [int(value) for value in values]


def _pair(fields: Fields, name: str, least: int) -> Pair:
    if fields.get(name) is not None and fields[name].size == 1:
        value = _wholes(fields, name, 1, least=least)[0]
        return value, value
    height, width = _wholes(fields, name, 2, least=least)
    return height, width
