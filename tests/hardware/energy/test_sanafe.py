"""The energies of SANA-FE itself for the same network, spikes and cores, and where they differ."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dsr_deploy.hardware.chip import load_chip
from dsr_deploy.hardware.core_load import core_load
from dsr_deploy.hardware.energy.constants import load_constants
from dsr_deploy.hardware.energy.estimate import estimate
from dsr_deploy.hardware.energy.hops import count_hops
from dsr_deploy.hardware.event.simulation import Simulation
from dsr_deploy.hardware.event.simulator import Simulator
from dsr_deploy.hardware.mapping import Mapping, map_network
from dsr_deploy.hardware.network import INPUT, Connection, Input, IntegerNetwork, Population
from dsr_deploy.hardware.reference import transmit
from dsr_deploy.hardware.time_bound import time_bound

sanafe = pytest.importorskip("sanafe")
pytestmark = pytest.mark.slow

T = 40
SHOWN = 6
"""Timesteps with input; the others are long enough for every spike to reach the last layer."""
UNITS = {"conv": "conv", "linear": "dense", "pool": "sparse", "identity": "sparse"}
SIZE = 6
"""Of the image."""


def network() -> IntegerNetwork:
    """Each population hears one other, and fires where v > v_threshold, as SANA-FE has it."""
    rng = np.random.default_rng(5)

    def population(name: str, shape: tuple[int, int, int], low: int, high: int) -> Population:
        threshold = rng.integers(low, high, shape[0]).astype(np.int32)
        return Population(name, shape, 0 * threshold, threshold + 1, threshold)

    def weight(*shape: int) -> np.ndarray:
        return rng.integers(-3, 8, shape).astype(np.int8)

    one = {"padding": (1, 1)}
    return IntegerNetwork(
        name="sanafe",
        timesteps=T,
        input=Input((2, SIZE, SIZE), (0.0,) * 2, (1.0,) * 2, 1.0, 1.0, 0, 1, framed=True),
        populations=(
            population("a", (6, SIZE, SIZE), 15, 30),
            population("b", (6, SIZE, SIZE), 3, 6),
            population("c", (4, 3, 3), 30, 60),
            population("d", (4, 2, 2), 7, 12),
            population("out", (3, 1, 1), 20, 40),
        ),
        connections=(
            Connection(INPUT, "a", "conv", weight(6, 2, 3, 3), 4, **one),  # type: ignore[arg-type]
            Connection("a", "b", "identity", np.full(6, 3, np.int8), 4),
            Connection("b", "c", "conv", weight(4, 6, 3, 3), 4, stride=(2, 2), padding=(1, 1)),
            Connection("c", "d", "pool", np.full(4, 2, np.int8), 4, kernel=(2, 2)),
            Connection("d", "out", "linear", np.abs(weight(3, 16)), 4),
        ),
        readout=(1,) * T,
    )


def frames() -> np.ndarray:
    """Return one sample in which every pixel spikes three times, at random timesteps."""
    rng = np.random.default_rng(6)
    shown = np.zeros((1, T, 2, SIZE, SIZE), np.int8)
    for at in np.ndindex(2, SIZE, SIZE):
        shown[(0, rng.permutation(SHOWN)[:3], *at)] = 1
    return shown


def cores_of(made: IntegerNetwork, mapping: Mapping) -> dict[str, np.ndarray]:
    """Return the number of each neuron's core by population, in (C, H, W) order."""
    found, first = {}, 0
    for p, mapped in zip(made.populations, mapping.populations, strict=True):
        channel, row, _ = np.indices(p.shape)
        channels, rows = -(-p.shape[0] // mapped.channel_groups), -(-p.shape[1] // mapped.row_bands)
        found[p.name] = (first + channel // channels * mapped.row_bands + row // rows).reshape(-1)
        first += mapped.cores
    return found


def synapses(c: Connection, shape: tuple[int, int, int]) -> tuple[list[float], list[Any]]:
    """Return the weights of the pairs of neurons that are joined, and the pairs."""
    size = int(np.prod(shape))
    each = np.eye(size, dtype=np.int64).reshape(size, *shape)
    joined = transmit(replace(c, weight=np.ones_like(c.weight)), each).reshape(size, -1)
    weights = transmit(c, each).reshape(size, -1)
    pairs = np.argwhere(joined)
    return [float(weights[s, t]) for s, t in pairs], [(int(s), int(t)) for s, t in pairs]


def simulated_there(made: IntegerNetwork, mapping: Mapping, shown: np.ndarray) -> Any:
    """Return what SANA-FE finds, with our cores on its Loihi."""
    chip, net = sanafe.load_loihi(), sanafe.Network()

    def core(number: int) -> Any:
        tile = number // 4  # we number tiles by rows of eight, it by columns of four
        return chip.tiles[tile % 8 * 4 + tile // 8].cores[number % 4]

    groups = {INPUT: net.create_neuron_group("in", 2 * SIZE * SIZE)}
    for i, neuron in enumerate(groups[INPUT]):
        spikes = [bool(n) for n in shown[0].reshape(T, -1)[:, i]]
        neuron.set_attributes(
            soma_hw_name=f"loihi_inputs[{i}]", model_attributes={"spikes": spikes}
        )
        neuron.map_to_core(core(0))
    cores = cores_of(made, mapping)
    for p in made.populations:
        (incoming,) = made.incoming(p)
        unit = f"loihi_{UNITS[incoming.kind]}_synapse"
        group = net.create_neuron_group(
            p.name, p.size, default_synapse_hw_name=unit, soma_hw_name="loihi_lif"
        )
        thresholds = np.repeat(p.v_threshold, p.size // p.shape[0])
        for i, neuron in enumerate(group):
            neuron.set_attributes(
                log_spikes=True,
                model_attributes={
                    "threshold": float(thresholds[i]), "reset_mode": "soft", "force_update": True,
                },
            )  # fmt: skip
            neuron.map_to_core(core(int(cores[p.name][i])))
        groups[p.name] = group
    for c in made.connections:
        weights, pairs = synapses(c, made.shapes[c.source])
        groups[c.source].connect_neurons_sparse(groups[c.target], {"weight": weights}, pairs)
    loaded = sanafe.SpikingChip(chip)
    loaded.load(net)
    return loaded.sim(T, timing_model="simple", spike_trace=True, perf_trace=True)


@pytest.fixture(scope="module", params=[24, 6000], ids=["many cores", "a core each"])
def both(request: pytest.FixtureRequest) -> tuple[IntegerNetwork, Mapping, Simulation, Any]:
    chip, made = load_chip("loihi2"), network()
    chip = replace(chip, neurons_per_core=replace(chip.neurons_per_core, value=request.param))
    mapping = map_network(made, chip)
    ours = Simulator(made).run(frames(), record=True)
    return made, mapping, ours, simulated_there(made, mapping, frames())


def test_each_layer_spikes_a_timestep_later_there(both: Any) -> None:
    made, _, ours, theirs = both
    trace = [[str(neuron).rsplit(".", 1) for neuron in step] for step in theirs["spike_trace"]]
    for late, p in enumerate(made.populations, start=1):
        spikes = ours.run.spikes[p.name][0].reshape(T, -1)
        assert spikes.any(), p.name
        assert not spikes[T - late :].any(), p.name  # none of them is missed there
        for t in range(T):
            found = sorted(int(i) for name, i in trace[t] if name == p.name)
            wanted = np.flatnonzero(spikes[t - late]).tolist() if t >= late else []
            assert found == wanted, (p.name, t)


def test_energies_are_equal_but_for_messages_to_further_cores(both: Any) -> None:
    made, mapping, ours, theirs = both
    constants = load_constants("loihi1-sanafe")
    found, energy = estimate(ours, made, constants, mapping).energy, theirs["energy"]
    assert found.synapse == pytest.approx(energy["synapse"], rel=1e-9)
    assert found.neuron == pytest.approx(energy["soma"], rel=1e-9)
    hops = count_hops(ours, made, mapping, 8, 4)
    assert sum(h.east_west + h.north_south for h in hops) == sum(theirs["perf_trace"]["hops"])
    # One message to each core that holds a target; we charge one per connection.
    further = sum(h.messages for h in hops) - sum(c.events for c in ours.connections)
    assert found.traffic is not None
    assert found.hops is not None
    assert found.traffic + found.hops + further * 111.0e-12 == pytest.approx(
        energy["network"], rel=1e-9
    )
    assert found.total + further * 111.0e-12 == pytest.approx(energy["total"], rel=1e-9)
    assert (further > 0) == (mapping.cores > len(made.populations))


def test_the_least_time_is_no_longer_than_the_time_there(both: Any) -> None:
    made, mapping, ours, theirs = both
    times = load_constants("loihi1-sanafe").times
    assert times is not None
    load = core_load(made, load_chip("loihi2"), mapping, frames(), ours.run.spikes)
    bound = time_bound(made, load, times)
    late = bound.steps - T  # SANA-FE has stopped by then
    assert late == len(made.populations) - 1
    longest = max(neurons.max() for neurons in load.neurons.values())
    extra = late * (times.barrier.ns + longest * times.neuron_update.ns) * 1e-9
    share = (bound.total - extra) / theirs["sim_time"]
    assert round(share, 3) == {22: 0.437, 5: 0.606}[mapping.cores]  # docs/energy.md has them
