"""The integer network in NIR, the exchange format of the neuromorphic frameworks.

What NIR has words for stands in its nodes, as numbers that any reader computes right with;
what it has none for stands in their metadata. ``docs/nir.md`` says which is which, and
:mod:`dsr_deploy.formats.nir_reader` reads the same network back.

Everything is written for a timestep of :data:`DT` seconds, which most readers assume.
Values are integers in floating-point arrays, because most readers put them into a network of
floats as they are: a weight is ``int8 * 2**exponent``, which float32 holds exactly.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Container, Sequence
from dataclasses import asdict
from typing import Any, Final

import nir
import numpy as np
from numpy.typing import NDArray

from dsr_deploy.formats.target import Target
from dsr_deploy.hardware.format.network_content import checksum, describe, tensors_of, to_text
from dsr_deploy.hardware.geometry import Pair, Shape
from dsr_deploy.hardware.network import (
    DECAY_ONE,
    INPUT,
    Connection,
    IntegerNetwork,
    Population,
)

FORMAT: Final = "dsr-deploy integer network 1"
DT: Final = 1e-4
"""Seconds per timestep; NIR's neurons are in continuous time."""

SEAL: Final = b"\ndsr-deploy sha256 "
"""Stands behind the end of HDF5, where its readers do not look, before the digest of all of it."""

Float32 = NDArray[np.float32]
Nodes = dict[str, nir.NIRNode]


def to_bytes(network: IntegerNetwork) -> bytes:
    """Return the NIR file of ``network``; the same network gives the same bytes.

    It is HDF5 and, behind its end, the line ``dsr-deploy sha256 <digest>``.
    """
    buffer = io.BytesIO()
    nir.write(buffer, to_nir(network))
    content = buffer.getvalue()
    return content + SEAL + hashlib.sha256(content).hexdigest().encode() + b"\n"


def to_nir(network: IntegerNetwork) -> nir.NIRGraph:
    """Return ``network`` as a NIR graph.

    A population is an ``IF`` or ``LIF`` node. A connection is a ``Conv2d`` or an ``Affine``
    node, after a ``SumPool2d`` or ``Flatten`` where it needs one; the first connection into a
    population carries its bias.
    """
    nodes: Nodes = {
        "input": nir.Input(np.array(network.input.shape)),
        "output": nir.Output(np.array(network.output.shape)),
    }
    edges: list[tuple[str, str]] = []
    vectors = _vectors(network)
    if network.output.name in vectors:
        nodes["output"] = nir.Output(np.array(network.output.shape[:1]))
    key_of = {INPUT: "input"} | population_keys(network)
    for population in network.populations:
        nodes[key_of[population.name]] = _neurons(population, population.name in vectors)
    chains, has_bias = [], set()
    for connection in network.connections:
        source, target = key_of[connection.source], key_of[connection.target]
        bias = None if connection.target in has_bias else nodes[target].metadata["bias"]
        has_bias.add(connection.target)
        parts = _connection_nodes(network, connection, vectors, bias)
        chain = _add_chain(nodes, f"{target}_from_{source}", parts)
        chains.append(chain)
        edges += zip([source, *chain], [*chain, target], strict=True)
    edges.append((key_of[network.output.name], "output"))
    keys = [key_of[p.name] for p in network.populations]
    return nir.NIRGraph(nodes, edges, metadata=_metadata(network, keys, chains))


def population_keys(network: IntegerNetwork) -> dict[str, str]:
    """Return the key of the node of each population, by its name, in order of evaluation."""
    keys: dict[str, str] = {}
    for population in network.populations:
        keys[population.name] = _unique(population.name, {"input", "output", *keys.values()})
    return keys


def _metadata(
    network: IntegerNetwork, populations: Sequence[str], connections: Sequence[Sequence[str]]
) -> dict[str, Any]:
    """Return what is said of the whole network; HDF5 sorts nodes, so their order is here too."""
    return {
        "format": FORMAT,
        "checksum": checksum(to_text(describe(network)), tensors_of(network)),
        "name": network.name,
        "timesteps": network.timesteps,
        "dt": DT,
        "input": json.dumps(asdict(network.input)),
        "readout": json.dumps(list(network.readout)),
        "classes": json.dumps(list(network.classes)),
        "populations": json.dumps(populations),
        "connections": json.dumps(connections),
    }


def _vectors(network: IntegerNetwork) -> set[str]:
    """Return the populations that are (C,) in NIR: all around them is fully connected.

    NIR flattens but does not unflatten, so one that meets a (C, 1, 1) stays (C, 1, 1) itself.
    """
    found: set[str] = set()
    for population in reversed(network.populations):
        incoming = [c.kind == "linear" for c in network.incoming(population)]
        outgoing = [
            c.kind == "linear" and c.target in found
            for c in network.connections
            if c.source == population.name
        ]
        if all(incoming + outgoing):
            found.add(population.name)
    return found


def _neurons(population: Population, is_vector: bool) -> nir.NIRNode:
    """Return the IF or LIF node of a population."""
    shape = population.shape[:1] if is_vector else population.shape
    per_channel = (-1,) if is_vector else (-1, 1, 1)
    metadata = {
        "name": population.name,
        "fires": "v >= v_fire",
        "reset": "v - v_threshold",
        "v_fire": population.v_fire,
        "bias": population.bias,
        "decay": population.decay,
        "start": population.start,
    }
    threshold = np.ascontiguousarray(
        np.broadcast_to(population.v_threshold.reshape(per_channel), shape)
    )
    zero = np.zeros(shape, np.int32)
    if not population.decay:
        gain = np.full(shape, 1 / DT)
        return nir.IF(r=gain, v_threshold=threshold, v_reset=zero, metadata=metadata)
    # tau dv/dt = -v + r i, one Euler step of dt: v (1 - dt / tau) + i r dt / tau
    steps = DECAY_ONE / population.decay
    return nir.LIF(
        tau=np.full(shape, steps * DT),
        r=np.full(shape, steps),
        v_leak=zero,
        v_threshold=threshold,
        v_reset=zero,
        metadata=metadata,
    )


def _connection_nodes(
    network: IntegerNetwork,
    connection: Connection,
    vectors: Container[str],
    bias: NDArray[np.int32] | None,
) -> list[nir.NIRNode]:
    """Return the nodes of a connection from source to target; the last one has the weights."""
    source = network.shapes[connection.source]
    target = network.shapes[connection.target]
    offset = np.zeros(target[0], np.float32) if bias is None else bias.astype(np.float32)
    weight = np.ldexp(connection.weight.astype(np.float32), connection.exponent)
    before: list[nir.NIRNode] = []
    if connection.kind == "linear" and connection.target in vectors:
        if connection.source not in vectors:
            before = [nir.Flatten({"input": np.array(source)}, start_dim=0)]
        weighted = nir.Affine(weight, offset)
    elif connection.kind == "linear":
        weighted = _conv(weight.reshape(-1, *source), offset, source, target)
    elif connection.kind == "conv":
        dense = _ungrouped(weight, connection.groups)
        weighted = _conv(dense, offset, source, target, connection.stride, connection.padding)
    else:
        if connection.kind == "pool":
            geometry = (connection.kernel, connection.stride, connection.padding)
            before = [nir.SumPool2d(*map(np.array, geometry))]
        weighted = _conv(np.diag(weight)[:, :, None, None], offset, target, target)
    weighted.metadata = {
        "source": connection.source,
        "target": connection.target,
        "kind": connection.kind,
        "weight_bits": connection.weight_bits,
        "exponent": connection.exponent,
        "groups": connection.groups,
        "delay": connection.delay,
    }
    return [*before, weighted]


def _conv(
    weight: Float32,
    bias: Float32,
    source: Shape,
    target: Shape,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
) -> nir.Conv2d:
    """Return a Conv2d node from ``source`` to ``target``."""
    node = nir.Conv2d(source[1:], weight, stride, padding, (1, 1), 1, bias)
    # nir 1.0.8 takes every kernel for square here
    node.output_type = {"output": np.array(target)}
    return node


def _ungrouped(weight: Float32, groups: int) -> Float32:
    """Return the weights of a grouped convolution among zeros, (C_out, C_in, KH, KW).

    nir 1.0.8 refuses groups in its own type check when it reads a file.
    """
    outputs, fan, *kernel = weight.shape
    rows = outputs // groups
    dense = np.zeros((outputs, fan * groups, *kernel), np.float32)
    for g in range(groups):
        block = slice(g * rows, (g + 1) * rows)
        dense[block, g * fan : (g + 1) * fan] = weight[block]
    return dense


def _add_chain(nodes: Nodes, base: str, parts: Sequence[nir.NIRNode]) -> list[str]:
    """Add the nodes of a connection under names of their own, and return these."""
    chain = []
    for part in parts:
        kind = type(part).__name__.lower()
        chain.append(_unique(base if part is parts[-1] else f"{base}_{kind}", nodes))
        nodes[chain[-1]] = part
    return chain


def _unique(name: str, taken: Container[str]) -> str:
    """Return ``name`` in letters, digits and underscores, numbered if it is taken.

    A slash would be a group in HDF5, and readers turn names into attributes of a module.
    """
    plain = re.sub(r"\W", "_", name, flags=re.ASCII)
    if not plain[0].isalpha():
        plain = f"n{plain}"
    candidate, number = plain, 2
    while candidate in taken:
        candidate, number = f"{plain}_{number}", number + 1
    return candidate


TARGET: Final = Target("network.nir", lambda network: {"network.nir": to_bytes(network)})
