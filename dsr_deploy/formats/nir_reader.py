"""Read back the integer network that a NIR file holds.

Only what :mod:`dsr_deploy.formats.nir` wrote is read: NIR alone does not say when a neuron
fires, what is subtracted, or which integers the weights are. The network that was read is
converted again and compared with the file, and its checksum with the one that was written: a
number that is changed consistently is found too.
"""

from __future__ import annotations

import hashlib
import io
import json
from typing import Any, Final

import nir
import numpy as np
from numpy.typing import NDArray

from dsr_deploy.formats.nir import FORMAT, SEAL, to_nir
from dsr_deploy.hardware.errors import HardwareError, NetworkError
from dsr_deploy.hardware.format.json_text import printable
from dsr_deploy.hardware.geometry import Pair
from dsr_deploy.hardware.network import (
    Connection,
    Input,
    IntegerNetwork,
    Population,
)

_DAMAGED: Final = (
    *(OSError, RuntimeError, MemoryError),  # of HDF5
    *(LookupError, ValueError, TypeError, AttributeError, AssertionError),  # of nir
)


def from_bytes(data: bytes, where: str) -> IntegerNetwork:
    """Read the integer network from the bytes of a NIR file; ``where`` names it in errors.

    Raises
    ------
    NetworkError
        If they are no NIR file, were not written by dsr-deploy, or were changed since.
    """
    content, mark, digest = data.rpartition(SEAL)
    if not mark:
        raise NetworkError(
            f"{where}: it does not end with the digest of a NIR file that dsr-deploy exported; "
            "export it again"
        )
    if digest != hashlib.sha256(content).hexdigest().encode() + b"\n":
        raise NetworkError(f"{where}: the digest at its end is of another content; export it again")
    # Only now: HDF5 reads some damaged files for ever.
    try:
        # nir 1.0.8 checks types as if every kernel were square; from_nir checks them itself
        graph = nir.read(io.BytesIO(content), type_check=False)
    except _DAMAGED as error:
        reason = printable(str(error).partition("\n")[0])
        raise NetworkError(f"{where}: not a NIR file ({reason}); export it again") from None
    return from_nir(graph, where=where)


def from_nir(graph: nir.NIRGraph, *, where: str = "NIR graph") -> IntegerNetwork:
    """Return the integer network that :func:`to_nir` made ``graph`` of.

    Parameters
    ----------
    where : names the graph in errors

    Raises
    ------
    NetworkError
        If the graph was not made by dsr-deploy, or was changed since.
    """
    metadata = getattr(graph, "metadata", {})
    if metadata.get("format") != FORMAT:
        raise NetworkError(
            f"{where}: its metadata do not say '{FORMAT}'; only what dsr-deploy exported "
            "can be read, NIR alone leaves the reset and the integers open"
        )
    try:
        network, noted = _network(graph), metadata["checksum"]
        expected = to_nir(network)
        difference = _first_difference(expected, graph)
    except HardwareError as error:
        raise NetworkError(f"{where}: {error}") from None
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        raise NetworkError(
            f"{where}: its metadata are damaged ({error}); export it again"
        ) from None
    if difference:
        raise NetworkError(
            f"{where}: {difference} is not what its metadata say; "
            "it was changed after the export, export it again"
        )
    if noted != expected.metadata["checksum"]:
        raise NetworkError(
            f"{where}: the checksum does not match the network in it; "
            "it was changed after the export, export it again"
        )
    return network


def _network(graph: nir.NIRGraph) -> IntegerNetwork:
    metadata = graph.metadata
    described = json.loads(metadata["input"])
    for label in ("shape", "mean", "std"):
        described[label] = tuple(described[label])
    return IntegerNetwork(
        name=metadata["name"],
        timesteps=int(metadata["timesteps"]),
        input=Input(**described),
        populations=tuple(
            _population(graph.nodes[key]) for key in json.loads(metadata["populations"])
        ),
        connections=tuple(
            _connection(graph, chain) for chain in json.loads(metadata["connections"])
        ),
        readout=tuple(json.loads(metadata["readout"])),
        classes=tuple(json.loads(metadata["classes"])),
    )


def _population(node: nir.NIRNode) -> Population:
    threshold, metadata = node.v_threshold, node.metadata
    if threshold.ndim == 1:
        threshold = threshold[:, None, None]
    channels, height, width = threshold.shape
    return Population(
        name=metadata["name"],
        shape=(channels, height, width),
        bias=metadata["bias"],
        v_fire=metadata["v_fire"],
        v_threshold=threshold[:, 0, 0],
        decay=int(metadata["decay"]),
        start=int(metadata["start"]),
    )


def _connection(graph: nir.NIRGraph, chain: list[str]) -> Connection:
    weighted = graph.nodes[chain[-1]]
    metadata = weighted.metadata
    kind, exponent = metadata["kind"], int(metadata["exponent"])
    shaped = graph.nodes[chain[0]] if kind == "pool" else weighted
    moves = kind in ("conv", "pool")
    return Connection(
        source=metadata["source"],
        target=metadata["target"],
        kind=kind,
        weight=_weight(kind, weighted.weight, exponent, int(metadata["groups"])),
        weight_bits=int(metadata["weight_bits"]),
        exponent=exponent,
        kernel=_pair(shaped.kernel_size) if kind == "pool" else (1, 1),
        stride=_pair(shaped.stride) if moves else (1, 1),
        padding=_pair(shaped.padding) if moves else (0, 0),
        groups=int(metadata["groups"]),
        delay=int(metadata["delay"]),
    )


def _weight(
    kind: str, values: NDArray[np.floating[Any]], exponent: int, groups: int
) -> NDArray[np.int8]:
    """Undo what the export did to the weights; what is no int8 shows in the comparison."""
    if kind == "conv":
        rows, fan = len(values) // groups, values.shape[1] // groups
        values = np.concatenate(
            [values[g * rows : (g + 1) * rows, g * fan : (g + 1) * fan] for g in range(groups)]
        )
    elif kind == "linear":
        values = values.reshape(len(values), -1)
    else:
        values = values[:, :, 0, 0].diagonal()
    with np.errstate(invalid="ignore"):
        weight: NDArray[np.int8] = np.ldexp(values, -exponent).astype(np.int8)
    return weight


def _pair(values: NDArray[np.integer[Any]]) -> Pair:
    height, width = values
    return int(height), int(width)


def _first_difference(expected: nir.NIRGraph, found: nir.NIRGraph) -> str | None:
    """Name the first part of ``found``, but for the checksum, that is not as ``expected``."""
    if set(expected.edges) != set(found.edges) or len(expected.edges) != len(found.edges):
        return "an edge"
    if expected.nodes.keys() != found.nodes.keys():
        return "the list of nodes"
    for key, node in expected.nodes.items():
        here, there = node.to_dict(), found.nodes[key].to_dict()
        for label in sorted(here.keys() | there.keys()):
            if not _same(here.get(label), there.get(label)):
                return f"node '{key}': {label}"
    noted = {"checksum": found.metadata["checksum"]}
    return None if _same(expected.metadata | noted, found.metadata) else "the graph's metadata"


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[k], other[k]) for k in one)
    return np.array_equal(np.asarray(one), np.asarray(other))
