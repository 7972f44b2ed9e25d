"""What each core does, against a loop over every pair of neurons."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from math import ceil

import numpy as np
import pytest
from random_networks import Builder, random_network

from dsr_deploy.hardware.chip import Chip, load_chip
from dsr_deploy.hardware.core_load import CoreLoad, core_load
from dsr_deploy.hardware.event.simulator import Simulator
from dsr_deploy.hardware.mapping import Mapping, PopulationMapping, map_network, part_of
from dsr_deploy.hardware.network import INPUT, Connection, IntegerNetwork

Counts = Counter[tuple[int, int, int, int]]


def small(neurons: int, *, index: int | None = None) -> Chip:
    """Return loihi2 with cores of so few neurons, and indices of so many bits."""
    chip = load_chip("loihi2")
    return replace(
        chip,
        neurons_per_core=replace(chip.neurons_per_core, value=neurons),
        kernel_index_bits=replace(chip.kernel_index_bits, value=index),
    )


def tiny_network(seed: int) -> Builder:
    """Every kind of connection, small enough for a loop over all pairs of neurons."""
    rng = np.random.default_rng(seed)

    def pick(*values: int) -> int:
        return int(rng.choice(values))

    framed = bool(rng.integers(2))
    build = Builder(seed, (pick(1, 2, 3), pick(4, 5), pick(5, 6)), pick(1, 2), 0, framed=framed)
    a = build.population(
        "a", build.conv(INPUT, 4, pick(1, 3), stride=pick(1, 2), padding=pick(1, 2))
    )
    b = build.population("b", build.conv(a, 4, 3, padding=1, groups=pick(1, 2, 4), bits=4))
    c = build.population("c", build.pool(b, 3, stride=1, padding=1), build.identity(a))
    d = build.population(
        "d", build.conv(c, 6, 3, stride=2, padding=1), build.conv(a, 6, 1, stride=2)
    )
    e = build.population("e", build.pool(d, 2, stride=pick(1, 2), padding=1))
    build.population("out", build.linear(e, 5, bits=4), build.linear(d, 5))
    return build


def targets(c: Connection, source: tuple[int, int, int], at: tuple[int, int, int]):
    """Yield the target neurons of the source neuron ``at``, one by one."""
    shape = c.output_shape(source)
    for o, ty, tx in np.ndindex(shape):
        if c.kind == "linear":
            yield o, ty, tx
            continue
        dy, dx = (
            at[1] - (ty * c.stride[0] - c.padding[0]),
            at[2] - (tx * c.stride[1] - c.padding[1]),
        )
        if not (0 <= dy < c.window[0] and 0 <= dx < c.window[1]):
            continue
        if c.kind == "conv":
            same = o // (shape[0] // c.groups) == at[0] // (source[0] // c.groups)
        else:
            same = o == at[0]
        if same:
            yield o, ty, tx


def naive(
    network: IntegerNetwork,
    c: Connection,
    mapped: PopulationMapping,
    sent: np.ndarray,
    index: int,
) -> tuple[Counts, Counts]:
    """Count synaptic operations and words by (sample, timestep, channel group, row band)."""
    shape = c.output_shape(network.shapes[c.source])
    channels, rows = -(-shape[0] // mapped.channel_groups), -(-shape[1] // mapped.row_bands)
    width = c.weight_bits + (0 if c.kind == "linear" else index)
    synops: Counts = Counter()
    reads: Counts = Counter()
    for at in np.ndindex(network.shapes[c.source]):
        cores = Counter(
            (o // channels, y // rows) for o, y, _ in targets(c, network.shapes[c.source], at)
        )
        for sample, t in zip(*np.nonzero(sent[(..., *at)]), strict=True):
            for (g, b), count in cores.items():
                synops[sample, t, g, b] += count
                reads[sample, t, g, b] += ceil(count * width / 64)
    return synops, reads


def dense(counts: Counts, shape: tuple[int, ...]) -> np.ndarray:
    found = np.zeros(shape, np.int64)
    for place, count in counts.items():
        found[place] = count
    return found


def loaded(
    network: IntegerNetwork, payloads: np.ndarray, chip: Chip
) -> tuple[CoreLoad, Mapping, dict[str, np.ndarray]]:
    mapping = map_network(network, chip)
    spikes = Simulator(network).run(payloads, record=True, threads=1).run.spikes
    assert spikes is not None
    frames = payloads if network.input.framed else payloads[:, None]
    sent = np.broadcast_to(frames != 0, (len(payloads), network.timesteps, *network.input.shape))
    return core_load(network, chip, mapping, payloads, spikes), mapping, {INPUT: sent, **spikes}


@pytest.mark.parametrize("seed", range(8))
def test_each_core_does_what_a_loop_over_all_pairs_of_neurons_counts(seed: int) -> None:
    build = tiny_network(seed)
    network, index = build.network(), 5 * (seed % 2)
    chip = small(6 + 12 * (seed % 3), index=index)
    load, mapping, sent = loaded(network, build.payloads(2), chip)
    cores = {mapped.name: mapped for mapped in mapping.populations}
    assert mapping.cores > len(cores)
    for c, synops, reads in zip(network.connections, load.synops, load.reads, strict=True):
        wanted = naive(network, c, cores[c.target], sent[c.source], index)
        np.testing.assert_array_equal(synops, dense(wanted[0], synops.shape), c.name)
        np.testing.assert_array_equal(reads, dense(wanted[1], reads.shape), c.name)


@pytest.mark.parametrize("seed", range(6))
def test_all_cores_together_do_what_the_simulator_counts(seed: int) -> None:
    build = random_network(seed)
    network, payloads = build.network(), build.payloads(3)
    load, _, _ = loaded(network, payloads, small(60))
    counted = Simulator(network).run(payloads)
    assert [int(synops.sum()) for synops in load.synops] == [c.synops for c in counted.connections]
    for name, counts in counted.populations.items():
        assert load.neurons[name].sum() * network.timesteps * 3 == counts.updates


def test_samples_are_joined_in_order() -> None:
    build = random_network(3)
    network, payloads, chip = build.network(), build.payloads(5), small(60)
    whole = loaded(network, payloads, chip)[0]
    first, last = (loaded(network, part, chip)[0] for part in (payloads[:2], payloads[2:]))
    joined = first.merge(last)
    assert (joined.samples, joined.neurons.keys()) == (5, whole.neurons.keys())
    for mine, wanted in zip(joined.synops + joined.reads, whole.synops + whole.reads, strict=True):
        np.testing.assert_array_equal(mine, wanted)


def test_a_core_holds_whole_parts_and_the_last_the_rest() -> None:
    assert part_of(10, 3).tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]
    assert part_of(4, 1).tolist() == [0, 0, 0, 0]
    assert part_of(3, 3).tolist() == [0, 1, 2]


@pytest.mark.parametrize("seed", range(6))
def test_the_fullest_core_is_the_one_that_the_mapping_describes(seed: int) -> None:
    build = random_network(seed)
    load, mapping, _ = loaded(build.network(), build.payloads(1), small(50))
    for mapped in mapping.populations:
        neurons = load.neurons[mapped.name]
        assert neurons.shape == (mapped.channel_groups, mapped.row_bands)
        assert (neurons > 0).all()
        assert neurons.max() == mapped.usage[0].used
        assert neurons.sum() == mapped.neurons
