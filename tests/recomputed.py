"""A run that was exported and simulated, and what a naive model of its network does.

For tests that compute anew what the reports say.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import real_networks
import sample_run
from numpy.typing import NDArray
from real_networks import RealConnection, RealPopulation

from dsr_deploy.data.loading import load
from dsr_deploy.hardware.network import Connection, IntegerNetwork, Population
from dsr_deploy.models.topology import ConnectionSpec
from dsr_deploy.run.directory import RunDirectory
from dsr_deploy.stages.simulate import simulate

Array = NDArray[Any]

SAMPLES = 24
BITS = 4


def network(decay: int) -> IntegerNetwork:
    """Return a network with every kind of connection, a dead channel, and one that never rests."""
    rng = np.random.default_rng(4)
    shapes = {"conv": (6, 8, 8), "mixed": (6, 8, 8), "pool": (6, 4, 4), "output": (10, 1, 1)}

    def population(name: str) -> Population:
        count = shapes[name][0]
        scale = {"conv": 120, "mixed": 25, "pool": 14, "output": 20}[name]
        bias = rng.integers(-scale // 5, scale // 4, count).astype(np.int32)
        if name == "mixed":
            bias[:2] = -9000, 9000
        fire = rng.integers(scale // 2, scale, count).astype(np.int32)
        return Population(name, shapes[name], bias, fire, 2 * fire, decay)

    def weight(*shape: int) -> NDArray[np.int8]:
        return rng.integers(-7, 8, shape).astype(np.int8)

    shortcut = rng.integers(1, 20, 6).astype(np.int8)
    connections = (
        Connection("input", "conv", "conv", weight(6, 1, 3, 3), BITS, padding=(1, 1)),
        Connection("conv", "mixed", "conv", weight(6, 6, 3, 3), BITS, padding=(1, 1)),
        Connection("conv", "mixed", "identity", shortcut, 8, exponent=1),
        Connection("mixed", "pool", "pool", shortcut, 8, kernel=(2, 2), stride=(2, 2)),
        Connection("conv", "pool", "conv", weight(6, 6, 1, 1), BITS, stride=(2, 2)),
        Connection("pool", "output", "linear", weight(10, 96), BITS, exponent=1),
    )
    made = sample_run.network()
    populations = tuple(population(name) for name in shapes)
    return IntegerNetwork(
        "digits-every-kind", 3, made.input, populations, connections, (1, 2, 5), made.classes
    )


@dataclass(frozen=True, eq=False)
class Seen:
    """A run that was simulated, and what a naive model of it did with the same samples."""

    run: RunDirectory
    network: IntegerNetwork
    sent: dict[str, Array]  # int64 (N, T, C, H, W), payloads or spikes
    u: dict[str, Array]  # before the reset
    labels: Array

    def read(self, name: str) -> Any:
        return json.loads((self.run.path / name).read_text())


def spec_of(connection: Connection) -> ConnectionSpec:
    channels = len(connection.weight) if connection.kind in ("conv", "linear") else 0
    geometry = (connection.window, connection.stride, connection.padding, connection.groups)
    return ConnectionSpec(connection.source, connection.kind, channels, *geometry)


def simulated(decay: int, path: Path) -> Seen:
    """Export and simulate the network in ``path``, and run the naive model of it."""
    made = network(decay)
    run = sample_run.write(path, made)
    simulate(run, SAMPLES)
    chosen = np.arange(SAMPLES) * 360 // SAMPLES
    payloads = sample_run.payloads()[chosen].astype(np.int64)
    populations = []
    for p in made.populations:
        connections = []
        for c in made.incoming(p):
            weight = c.weight.astype(np.int64) << c.exponent
            connections.append(RealConnection(spec_of(c), weight, np.zeros_like(weight)))
        values = (x.astype(np.int64) for x in (p.bias, p.v_fire, p.v_threshold))
        nothing = np.zeros(p.shape[0], np.int64)
        populations.append(RealPopulation(p.name, tuple(connections), *values, nothing))
    kept = 4096 - decay
    frames = real_networks.frames(payloads, made.timesteps)
    found = real_networks.run(populations, frames, lambda v: np.sign(v) * (abs(v) * kept // 4096))
    sent = {"input": np.moveaxis(frames, 0, 1)}
    sent |= {name: spikes.astype(np.int64) for name, spikes in found.spikes.items()}
    labels = load("digits", timesteps=3).test.labels.numpy()[chosen]
    return Seen(run, made, sent, found.u, labels)


def unsealed(value: dict[str, Any]) -> dict[str, Any]:
    """Check the checksum that a JSON object holds, and return what it is of."""
    rest = {name: entry for name, entry in value.items() if name != "sha256"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    assert value["sha256"] == hashlib.sha256(text.encode()).hexdigest()
    return rest


def assert_same(found: Any, expected: Any, where: str = "") -> None:
    """Compare everything that JSON holds; numbers up to the order of a sum."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key, value in expected.items():
            assert_same(found[key], value, f"{where}.{key}")
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected), where
        for index, value in enumerate(expected):
            assert_same(found[index], value, f"{where}[{index}]")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-12), where
    else:
        assert found == expected, where


def ones(c: Connection, sent: Array) -> int:
    """Return how many synapses lead from the neurons that sent something, (N, T, C, H, W)."""
    active = (sent != 0).astype(np.int64).reshape(-1, *sent.shape[2:])
    return int(real_networks.transmit(spec_of(c), np.ones_like(c.weight, np.int64), active).sum())


def reaching(c: Connection, shape: tuple[int, int, int]) -> Array:
    """Return which source neurons have a synapse in a connection, bool (C, H, W)."""
    size = int(np.prod(shape))
    each = np.eye(size, dtype=np.int64).reshape(size, *shape)
    made = real_networks.transmit(spec_of(c), np.ones_like(c.weight, np.int64), each)
    return np.asarray(made.reshape(size, -1).any(1).reshape(shape))
