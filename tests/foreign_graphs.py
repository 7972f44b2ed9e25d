"""Tiny NIR graphs as each framework exports them, and what comes of reading them back."""

from __future__ import annotations

import io
from itertools import pairwise
from typing import Any

import h5py
import nir
import numpy as np
from numpy.typing import NDArray

from dsr_deploy.foreign import hdf5, nir_file
from dsr_deploy.foreign.network import ForeignNetwork

Float64 = NDArray[np.float64]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def conv(
    outputs: int, inputs: int, kernel: tuple[int, int] = (3, 3), *, bias: bool = False, **more: Any
) -> nir.Conv2d:
    numbers = rng(outputs * 100 + inputs)
    settings = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1} | more
    return nir.Conv2d(
        input_shape=None,
        weight=numbers.normal(size=(outputs, inputs // settings["groups"], *kernel)).astype("f4"),
        bias=(numbers.normal(size=outputs) * bias).astype("f4"),
        **settings,
    )


def affine(outputs: int, inputs: int, *, bias: bool = True) -> nir.Affine:
    numbers = rng(outputs * 1000 + inputs)
    return nir.Affine(
        numbers.normal(size=(outputs, inputs)).astype("f4"),
        (numbers.normal(size=outputs) * bias).astype("f4"),
    )


def lif(shape: tuple[int, ...], tau: float, r: float, v_threshold: float = 1.0) -> nir.LIF:
    return nir.LIF(
        tau=np.full(shape, tau),
        r=np.full(shape, r),
        v_leak=np.zeros(shape),
        v_threshold=np.full(shape, v_threshold),
        v_reset=np.zeros(shape),
    )


def neurons(framework: str, shape: tuple[int, ...]) -> nir.NIRNode:
    """Return neurons as a framework exports them; Leaky(beta=0.75) and the like."""
    if framework == "snntorch":
        return lif((1,), 1e-4 / 0.25, 4.0)
    if framework == "norse":
        return lif((1,), 4e-3, 1.0, 0.25)
    if framework == "sinabs":
        return lif(shape, 4.0, 1.0)
    if framework == "rockpool":
        return lif(shape, 4e-3, 4 * np.exp(-0.25))
    if framework == "spikingjelly":
        return lif(shape, 2e-4, 1.0, 0.5)
    raise ValueError(framework)


def chain(shape: tuple[int, ...], *nodes: nir.NIRNode) -> nir.NIRGraph:
    """Return a graph of nodes one after another, named 0, 1, ... as nirtorch does."""
    named: dict[str, nir.NIRNode] = {str(i): node for i, node in enumerate(nodes)}
    last = named[str(len(nodes) - 1)].output_type["output"]
    outputs = np.array([1]) if last is None else last
    named |= {"input": nir.Input(np.array(shape)), "output": nir.Output(outputs)}
    keys = ["input", *map(str, range(len(nodes))), "output"]
    return nir.NIRGraph(named, list(pairwise(keys)), type_check=False)


def to_bytes(graph: nir.NIRGraph, changes: dict[str, Any] | None = None) -> bytes:
    """Return the file of a graph; ``changes`` replaces or, with None, removes arrays in it."""
    described = _without_none(graph.to_dict())
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["version"] = nir.version
        _write(file.create_group("node"), described)
        for name, value in (changes or {}).items():
            if name in file:
                del file[name]
            if value is not None:
                file[name] = value
    return buffer.getvalue()


def read(graph: nir.NIRGraph, changes: dict[str, Any] | None = None) -> ForeignNetwork:
    return nir_file.from_arrays(hdf5.from_bytes(to_bytes(graph, changes)), "net.nir")


def obstacles(network: ForeignNetwork) -> list[str]:
    return list(map(str, network.obstacles))


def _without_none(described: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_none(value) if isinstance(value, dict) else value
        for key, value in described.items()
        if value is not None
    }


def _write(group: h5py.Group, described: dict[str, Any]) -> None:
    for key, value in described.items():
        if isinstance(value, dict):
            _write(group.create_group(key), value)
        else:
            group[key] = value
