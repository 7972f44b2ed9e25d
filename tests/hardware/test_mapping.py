"""The mapping against layouts counted by hand, and its totals against brute force."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsr_deploy.hardware import reference
from dsr_deploy.hardware.chip import load_chip
from dsr_deploy.hardware.mapping import _touched, map_network
from dsr_deploy.hardware.network import Connection, Input, IntegerNetwork, Population

SETTINGS = settings(max_examples=40, deadline=None)


def population(name, shape, *, v_fire=1):
    channels = shape[0]
    fire = np.broadcast_to(np.asarray(v_fire, np.int32), (channels,)).copy()
    return Population(
        name, shape, np.zeros(channels, np.int32), fire, np.full(channels, 9, np.int32)
    )


def network(shape, populations, connections):
    zeros, ones = (0.0,) * shape[0], (1.0,) * shape[0]
    source = Input(shape, zeros, ones, 1.0, 1.0, 0, 1)
    return IntegerNetwork("map", 1, source, tuple(populations), tuple(connections), (1,))


def two_layers():
    """16 channels of 32x32 from a 3x3 convolution, then 10 classes; 4-bit weights."""
    conv = Connection("input", "conv", "conv", np.ones((16, 3, 3, 3), np.int8), 4, padding=(1, 1))
    linear = Connection("conv", "classes", "linear", np.ones((10, 16 * 1024), np.int8), 4)
    populations = [
        population("conv", (16, 32, 32), v_fire=np.arange(16)),
        population("classes", (10, 1, 1)),
    ]
    return network((3, 32, 32), populations, [conv, linear])


def used(mapping, index):
    return {usage.limit: usage.used for usage in mapping.populations[index].usage}


def test_two_layers_on_loihi2_counted_by_hand():
    mapping = map_network(two_layers(), load_chip("loihi2"))
    conv, classes = mapping.populations
    # 16,384 neurons on cores of 8,192: two cores, and cut over the channels
    # each stores the kernels of 8 channels only.
    assert (conv.channel_groups, conv.row_bands, conv.cores) == (2, 1, 2)
    assert used(mapping, 0)["synaptic_memory_per_core"] == 8 * 27 * 4
    assert used(mapping, 0)["neurons_per_core"] == 8192
    assert conv.binding.limit == "neurons_per_core"
    assert conv.binding.percent == 100.0
    assert not conv.binding.certain
    # (3 * 32 - 2)**2 taps inside the image, 3 input and 16 output channels.
    assert conv.synapses == 94 * 94 * 3 * 16
    # 10 neurons with 16,384 synapses of 4 bits: one core of 1 Mbit.
    assert (classes.neurons, classes.cores, classes.synapses) == (10, 1, 163840)
    assert used(mapping, 1) == {
        "neurons_per_core": 10,
        "synaptic_memory_per_core": 163840 * 4,
    }
    assert classes.binding.limit == "synaptic_memory_per_core"
    assert classes.binding.percent == 62.5
    assert (mapping.cores, mapping.cores_available, mapping.fits) == (3, 120, True)


def test_uncertain_numbers_of_loihi2_are_named():
    assert map_network(two_layers(), load_chip("loihi2")).uncertain == (
        "neurons_per_core",
        "synaptic_memory_per_core",
        "in_axons_per_core",
        "out_axons_per_core",
        "threshold_settings_per_core",
        "shared_kernels",
        "kernel_index_bits",
    )
    assert map_network(two_layers(), load_chip("loihi1")).uncertain == (
        "threshold_settings_per_core",
    )


def test_a_linear_layer_that_listens_to_too_many_neurons_does_not_fit_loihi1():
    mapping = map_network(two_layers(), load_chip("loihi1"))
    conv, classes = mapping.populations
    assert conv.fits
    # 16 thresholds, 8 on a core: at least two groups of channels; 1,024 neurons on a core.
    assert conv.cores == 16
    assert used(mapping, 0)["threshold_settings_per_core"] <= 8
    assert not classes.fits
    assert classes.binding.limit == "in_axons_per_core"
    assert classes.binding.percent == 400.0
    assert not mapping.fits


def test_memory_of_shared_and_repeated_kernels():
    shared = load_chip("loihi1")
    repeated = replace(shared, shared_kernels=replace(shared.shared_kernels, value=False))
    conv = Connection("input", "conv", "conv", np.ones((2, 3, 3, 3), np.int8), 8, padding=(1, 1))
    out = Connection("conv", "out", "pool", np.ones(2, np.int8), 8, kernel=(4, 4))
    net = network(
        (3, 4, 4), [population("conv", (2, 4, 4)), population("out", (2, 1, 1))], [conv, out]
    )
    for chip, copies in ((shared, 2), (repeated, 32)):
        mapping = map_network(net, chip)
        # 27 weights of 8 bits with an index of 10 bits.
        assert used(mapping, 0) == {
            "neurons_per_core": 32,
            "synaptic_memory_per_core": copies * 27 * 18,
            "in_axons_per_core": 48,
            "out_axons_per_core": 32,
            "threshold_settings_per_core": 1,
        }
        assert used(mapping, 1)["synaptic_memory_per_core"] == 2 * 16 * 18


def test_out_axons_count_the_cores_of_every_target():
    # 64 channels of 8x8 are 4,096 neurons: 4 cores of loihi1. Row bands leave the
    # convolution fewer inputs per core, channel groups leave an identity fewer weights.
    weight = np.ones((64, 64, 3, 3), np.int8)
    net = network(
        (64, 8, 8),
        [
            *(population(name, (64, 8, 8)) for name in "abc"),
            population("out", (64, 1, 1)),
        ],
        [
            Connection("input", "a", "identity", np.ones(64, np.int8), 2),
            Connection("a", "b", "conv", weight, 2, padding=(1, 1)),
            Connection("b", "c", "identity", np.ones(64, np.int8), 2),
            Connection("a", "c", "identity", np.ones(64, np.int8), 2),
            Connection("c", "out", "pool", np.ones(64, np.int8), 2, kernel=(8, 8)),
        ],
    )
    mapping = map_network(net, load_chip("loihi1"))
    assert [(p.channel_groups, p.row_bands) for p in mapping.populations] == [
        (4, 1),
        (1, 4),
        (4, 1),
        (1, 1),
    ]
    assert mapping.fits
    # The convolution's three rows touch two bands; an identity, like the pool, one core.
    assert used(mapping, 0)["out_axons_per_core"] == 1024 * (2 + 1)
    assert used(mapping, 1)["out_axons_per_core"] == 1024
    # Two rows and the one above and below.
    assert used(mapping, 1)["in_axons_per_core"] == 64 * 4 * 8


@pytest.mark.parametrize(
    ("window", "stride", "listened"),
    [
        (1, 2, 2 * 4 * 4),  # of 8x8 pixels every second row and column
        (1, 3, 2 * 3 * 3),
        (2, 3, 2 * 6 * 6),  # three windows of two
        (3, 3, 2 * 6 * 6),
        (3, 2, 2 * 7 * 7),
    ],
)
def test_pixels_that_no_window_reads_take_no_axon(window, stride, listened):
    conv = Connection(
        "input", "a", "conv", np.ones((2, 2, window, window), np.int8), 8, stride=(stride, stride)
    )
    made = conv.output_shape((2, 8, 8))
    pool = Connection("a", "out", "pool", np.ones(2, np.int8), 8, kernel=made[1:])
    net = network((2, 8, 8), [population("a", made), population("out", (2, 1, 1))], [conv, pool])
    mapping = map_network(net, load_chip("loihi1"))
    assert mapping.populations[0].cores == 1
    assert used(mapping, 0)["in_axons_per_core"] == listened


def test_a_chip_without_enough_cores_is_not_enough():
    chip = load_chip("loihi2")
    small = replace(chip, cores=replace(chip.cores, value=2))
    mapping = map_network(two_layers(), small)
    assert all(p.fits for p in mapping.populations)
    assert not mapping.fits


@st.composite
def connections(draw):
    """Draw a connection and the shape of its source."""
    kind = draw(st.sampled_from(["conv", "pool", "identity", "linear"]))
    source = tuple(draw(st.integers(1, 5)) for _ in range(3))
    if kind == "linear":
        return Connection(
            "input", "out", kind, np.ones((3, int(np.prod(source))), np.int8), 8
        ), source
    if kind == "identity":
        return Connection("input", "out", kind, np.ones(source[0], np.int8), 8), source
    padding = (draw(st.integers(0, 3)), draw(st.integers(0, 3)))
    stride = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    window = tuple(
        draw(st.integers(1, size + 2 * p)) for size, p in zip(source[1:], padding, strict=True)
    )
    options = {"stride": stride, "padding": padding}
    if kind == "pool":
        weight = np.ones(source[0], np.int8)
        return Connection("input", "out", kind, weight, 8, kernel=window, **options), source
    groups = draw(st.sampled_from([1, source[0]]))
    weight = np.ones((2 * groups, source[0] // groups, *window), np.int8)
    return Connection("input", "out", kind, weight, 8, groups=groups, **options), source


@SETTINGS
@given(connections())
def test_synapses_are_the_ones_that_a_full_image_reaches(drawn):
    connection, source = drawn
    # With every weight 1 and every source neuron active, each synapse adds exactly 1.
    total = reference.transmit(connection, np.ones((1, *source), np.int64)).sum()
    assert connection.geometry.synapses(source) == total


@SETTINGS
@given(
    channels=st.integers(1, 20),
    height=st.integers(1, 12),
    width=st.integers(1, 20),
    neurons=st.integers(20, 300),
)
def test_cores_hold_all_neurons_and_none_holds_too_many(channels, height, width, neurons):
    chip = load_chip("loihi2")
    chip = replace(chip, neurons_per_core=replace(chip.neurons_per_core, value=neurons))
    shape = (channels, height, width)
    net = network(
        shape,
        [population("a", shape), population("out", (1, 1, 1))],
        [
            Connection("input", "a", "identity", np.ones(channels, np.int8), 2),
            Connection("a", "out", "linear", np.ones((1, channels * height * width), np.int8), 2),
        ],
    )
    first = map_network(net, chip).populations[0]
    fullest = first.usage[0].used
    assert fullest <= neurons
    assert fullest * first.cores >= first.neurons
    assert first.cores >= -(-first.neurons // neurons)


@pytest.mark.parametrize("name", ["loihi1", "loihi2"])
def test_populations_keep_the_network_order(name):
    mapping = map_network(two_layers(), load_chip(name))
    assert [p.name for p in mapping.populations] == ["conv", "classes"]


def test_parts_that_do_not_divide_are_rounded_up():
    chip = load_chip("loihi2")
    chip = replace(chip, neurons_per_core=replace(chip.neurons_per_core, value=2))
    net = network(
        (5, 1, 1),
        [population("out", (5, 1, 1))],
        [Connection("input", "out", "linear", np.ones((5, 5), np.int8), 2)],
    )
    (out,) = map_network(net, chip).populations
    assert (out.channel_groups, out.row_bands, out.cores) == (3, 1, 3)
    assert out.usage[0].used == 2


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("length", [1, 2, 3, 4, 7])
def test_a_run_touches_as_many_blocks_as_from_its_worst_beginning(length, size):
    starts = range(size)
    touched = [len({(start + i) // size for i in range(length)}) for start in starts]
    assert _touched(length, size) == max(touched)
