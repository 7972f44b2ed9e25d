"""Hops of the simple placement, against a loop over every spike and core."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from random_networks import random_network

from dsr_deploy.hardware import reference
from dsr_deploy.hardware.chip import Chip, load_chip
from dsr_deploy.hardware.energy.constants import load_constants
from dsr_deploy.hardware.energy.estimate import estimate
from dsr_deploy.hardware.energy.hops import HopCounts, count_hops
from dsr_deploy.hardware.event.simulator import Simulator
from dsr_deploy.hardware.mapping import Mapping, map_network
from dsr_deploy.hardware.network import INPUT, Connection, IntegerNetwork


def small(neurons: int) -> Chip:
    chip = load_chip("loihi2")
    return replace(chip, neurons_per_core=replace(chip.neurons_per_core, value=neurons))


def core_numbers(network: IntegerNetwork, mapping: Mapping) -> dict[str, np.ndarray]:
    """Return the number of each neuron's core, (C, H, W) by population; 0 for the input."""
    numbers, first = {INPUT: np.zeros(network.input.shape, int)}, 0
    for p, mapped in zip(network.populations, mapping.populations, strict=True):
        channels, rows = -(-p.shape[0] // mapped.channel_groups), -(-p.shape[1] // mapped.row_bands)
        numbers[p.name] = np.zeros(p.shape, int)
        for c, y in np.ndindex(p.shape[:2]):
            numbers[p.name][c, y] = first + (c // channels) * mapped.row_bands + y // rows
        first += mapped.cores
    return numbers


def naive(c: Connection, sent: np.ndarray, cores: dict[str, np.ndarray], width: int, per: int):
    """Send each neuron's spikes, (C, H, W), to each core that a single spike of it reaches."""
    found = [0, 0, 0]
    one = replace(c, weight=np.ones_like(c.weight))
    for at in np.ndindex(sent.shape):
        spike = np.zeros((1, *sent.shape), np.int64)
        spike[(0, *at)] = 1
        reached = reference.transmit(one, spike)[0] > 0
        tile = cores[c.source][at] // per
        for core in np.unique(cores[c.target][reached]):
            other = core // per
            found[0] += sent[at]
            found[1] += sent[at] * abs(tile % width - other % width)
            found[2] += sent[at] * abs(tile // width - other // width)
    return HopCounts(*map(float, found))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("width", "per"), [(3, 2), (8, 4)])
def test_messages_and_hops_are_those_of_a_loop_over_all_spikes(
    seed: int, width: int, per: int
) -> None:
    build = random_network(seed)
    network, payloads = build.network(), np.maximum(build.payloads(2), 1)  # all pixels send
    mapping = map_network(network, small(25))
    simulation = Simulator(network).run(payloads)
    found = count_hops(simulation, network, mapping, width, per)
    cores = core_numbers(network, mapping)
    assert mapping.cores > 3 * per * width or (width, per) == (8, 4)
    for c, hops in zip(network.connections, found, strict=True):
        if c.source == INPUT:
            sent = np.full(network.input.shape, 2 * network.timesteps)
        else:
            sent = simulation.populations[c.source].spikes
        assert hops == naive(c, sent, cores, width, per)


def test_pixels_share_what_the_input_sent() -> None:
    build = random_network(1)
    network, payloads = build.network(), np.maximum(build.payloads(2), 1)
    mapping = map_network(network, small(25))
    full, none = (Simulator(network).run(p) for p in (payloads, payloads * 0))
    half = full.merge(none)  # half of the events, from any of the pixels
    whole, other = (count_hops(s, network, mapping, 3, 2)[0] for s in (full, half))
    assert whole.east_west > 0
    assert other == whole
    assert count_hops(none, network, mapping, 3, 2)[0] == HopCounts(0.0, 0.0, 0.0)


@pytest.mark.parametrize("name", ["loihi1-davies2018", "loihi1-sanafe"])
def test_hops_are_a_term_of_their_own_where_there_is_a_mapping(name: str) -> None:
    build = random_network(2)
    network, constants = build.network(), load_constants(name)
    mapping, simulation = map_network(network, small(25)), Simulator(network).run(build.payloads(2))
    without, found = (estimate(simulation, network, constants, m) for m in (None, mapping))
    assert constants.hop is not None
    hops = count_hops(
        simulation, network, mapping, constants.hop.mesh_width, constants.hop.cores_per_tile
    )
    spent = {"loihi1-davies2018": (3.0, 4.0), "loihi1-sanafe": (3.0, 4.2)}[name]
    rows = {row.name: row.energy for row in found.rows}
    for c, counts in zip(network.connections, hops, strict=True):
        pj = counts.east_west * spent[0] + counts.north_south * spent[1]
        assert rows[c.name].hops == pytest.approx(pj * 1e-12 / 2)
    assert without.energy.hops is None
    assert found.energy.hops == pytest.approx(found.energy.total - without.energy.total)
    assert found.energy.hops


def test_a_set_without_hops_has_no_such_term() -> None:
    build = random_network(2)
    network = build.network()
    mapping, simulation = map_network(network, small(25)), Simulator(network).run(build.payloads(1))
    constants = load_constants("45nm-horowitz2014")
    assert estimate(simulation, network, constants, mapping).energy.hops is None
