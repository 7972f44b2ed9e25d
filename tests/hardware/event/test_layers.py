"""How a network is laid out for the kernels: weights, accumulators and geometry by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dsr_deploy.hardware.event.layers import Layer, prepare
from dsr_deploy.hardware.geometry import Shape
from dsr_deploy.hardware.network import (
    INPUT,
    Connection,
    Input,
    IntegerNetwork,
    Population,
)


def population(name: str, shape: Shape) -> Population:
    arrays = (np.full(shape[0], x, np.int32) for x in (0, 1, 1))
    return Population(name, shape, *arrays)


def network(
    first: Connection, *others: Connection, shape: Shape, framed: bool = False
) -> IntegerNetwork:
    """A population "a" and an output "out" that sees all of it, with weights of 1."""
    ones = (1.0,) * shape[0]
    made = first.output_shape(shape)
    reading = np.ones((1, int(np.prod(made))), np.int8)
    return IntegerNetwork(
        "laid out",
        1,
        Input(shape, ones, ones, 1.0, 1.0, framed=framed),
        (population("a", made), population("out", (1, 1, 1))),
        (first, Connection("a", "out", "linear", reading, 2), *others),
        (1,),
    )


def laid(net: IntegerNetwork, index: int = 0) -> Layer:
    return prepare(net, net.populations[index])


CONV = Connection(
    INPUT,
    "a",
    "conv",
    np.arange(-8, 16, dtype=np.int8).reshape(2, 2, 3, 2),
    8,
    exponent=3,
    stride=(2, 1),
    padding=(1, 2),
)


def test_a_convolution_is_transposed_with_its_rows_reversed_and_filled_up() -> None:
    (link,) = laid(network(CONV, shape=(2, 4, 5), framed=True)).links
    assert (link.index, link.source) == (0, INPUT)
    wiring = link.wiring
    assert wiring.weight.dtype == np.int8
    wanted = [
        [CONV.weight[out, c, y, x] for out in range(2)] + 6 * [0]
        for c in range(2)
        for y in range(3)
        for x in (1, 0)
    ]
    assert wiring.weight.reshape(-1, 8).tolist() == wanted
    # Rows in steps of 2 from one above: row 0 is the second of target 0's window, and so on.
    assert wiring.rows.tolist() == [[0, 1, 1], [0, 2, 2], [1, 1, 1], [1, 1, 2]]
    assert wiring.columns.tolist() == [[x + 1, 2, 0] for x in range(5)]
    assert wiring.fan.tolist() == [n * 4 for n in (1, 2, 1, 1) for _ in range(5)]
    sizes = wiring.channel, wiring.line, wiring.stride, wiring.target_line, wiring.target_pixel
    assert sizes == (3 * 2 * 8, 2 * 8, 2, 8 * 8, 8)
    assert (wiring.fan_in, wiring.per_group, wiring.groups) == (2, 8, 1)


def test_columns_that_one_pixel_meets_stand_together() -> None:
    conv = Connection(INPUT, "a", "conv", np.arange(5, dtype=np.int8).reshape(1, 1, 1, 5), 8,
                      stride=(1, 2), padding=(0, 2))  # fmt: skip
    (link,) = laid(network(conv, shape=(1, 1, 6), framed=True)).links
    assert link.wiring.weight.reshape(-1, 8)[:, 0].tolist() == [4, 2, 0, 3, 1]
    # Pixel 1 stands under column 3 of target 0, and under column 1 of target 1.
    assert link.wiring.columns.tolist() == [
        [0, 2, 1], [0, 2, 3], [0, 3, 0], [1, 2, 3], [1, 2, 0], [2, 1, 3],
    ]  # fmt: skip


def test_a_linear_connection_is_a_window_over_its_whole_source() -> None:
    weight = np.arange(-12, 12, dtype=np.int8).reshape(2, 12)
    net = network(Connection(INPUT, "a", "linear", weight, 8), shape=(2, 2, 3), framed=True)
    (link,) = laid(net).links
    window = weight.reshape(2, 2, 2, 3).transpose(1, 2, 3, 0)[:, :, ::-1]
    assert link.wiring.weight.reshape(-1, 8)[:, :2].tolist() == window.reshape(-1, 2).tolist()
    assert link.wiring.rows.tolist() == [[0, 1, 0], [0, 1, 1]]
    assert link.wiring.columns.tolist() == [[0, 1, 2], [0, 1, 1], [0, 1, 0]]
    assert (link.wiring.groups, link.wiring.target_pixel) == (1, 8)


def test_a_pool_and_an_identity_have_a_group_per_channel() -> None:
    weight = np.array([3, -5], np.int8)
    pool = Connection(INPUT, "a", "pool", weight, 8, kernel=(2, 3), stride=(2, 1))
    (link,) = laid(network(pool, shape=(2, 4, 5), framed=True)).links
    assert link.wiring.weight.tolist() == [3] * 6 + [-5] * 6
    assert (link.wiring.groups, link.wiring.per_group, link.wiring.channel) == (2, 1, 6)
    identity = Connection(INPUT, "a", "identity", weight, 8)
    (link,) = laid(network(identity, shape=(2, 4, 5), framed=True)).links
    assert link.wiring.weight.tolist() == [3, -5]
    assert (link.wiring.groups, link.wiring.line) == (2, 1)


def test_a_constant_image_is_held_and_all_else_is_sent() -> None:
    net = network(CONV, Connection(INPUT, "out", "linear", np.ones((1, 40), np.int8), 2, 5),
                  shape=(2, 4, 5))  # fmt: skip
    first, out = laid(net), laid(net, 1)
    assert (len(first.held), len(first.links)) == (1, 0)
    assert (first.held_exponent, first.exponent) == (3, 0)
    assert set(first.held[0].wiring.weight.tolist()) == set(range(-8, 16))
    assert (out.held_exponent, out.exponent) == (5, 0)
    assert ([x.index for x in out.held], [x.index for x in out.links]) == ([2], [1])
    assert [x.source for x in (*out.held, *out.links)] == [INPUT, "a"]
    assert out.population is net.populations[1]
    framed = laid(replace(net, input=replace(net.input, framed=True)), 1)
    assert ([x.index for x in framed.held], [x.index for x in framed.links]) == ([], [1, 2])


def test_sent_weights_are_in_units_of_the_smallest_exponent() -> None:
    net = network(CONV, Connection(INPUT, "out", "linear", np.ones((1, 40), np.int8), 2, 7),
                  shape=(2, 4, 5), framed=True)  # fmt: skip
    out = laid(replace(net, connections=(CONV, replace(net.connections[1], exponent=4),
                                         net.connections[2])), 1)  # fmt: skip
    assert out.exponent == 4
    assert [set(link.wiring.weight.tolist()) - {0} for link in out.links] == [{1}, {8}]


def single(weight: int, exponent: int = 0) -> Connection:
    return Connection("a", "out", "linear", np.array([[weight]], np.int8), 8, exponent)


def summed(*connections: Connection) -> Layer:
    """The layout of a neuron that hears the only neuron of "a" over these connections."""
    first = Connection(INPUT, "a", "linear", np.array([[1]], np.int8), 2)
    return laid(replace(network(first, shape=(1, 1, 1)), connections=(first, *connections)), 1)


@pytest.mark.parametrize(
    ("connections", "dtype"),
    [
        # The smallest exponent is applied afterwards, so the sum is in its units.
        ([single(127, 8), single(127, 8), single(1, 8)], np.int16),
        ([single(127, 8), single(-127, 8)], np.int16),
        ([single(127, 8), single(127, 7), single(1, 0)], np.int32),
        # 127 * 2**8 + 127 * 2 + 1 = 32767 just fits, one more does not.
        ([single(127, 8), single(127, 1), single(1, 0)], np.int16),
        ([single(127, 8), single(127, 1), single(2, 0)], np.int32),
        ([single(-127, 8), single(-127, 1), single(-1, 0)], np.int16),
        ([single(-127, 8), single(-127, 1), single(-2, 0)], np.int32),
    ],
)
def test_the_accumulator_is_the_narrowest_that_holds_every_sum(
    connections: list[Connection], dtype: type
) -> None:
    assert summed(*connections).total_dtype is dtype


def test_the_channel_of_the_largest_sum_decides() -> None:
    first = Connection(INPUT, "a", "linear", np.array([[1], [1], [127]], np.int8), 8)
    net = network(first, shape=(1, 1, 1), framed=True)
    assert laid(net).total_dtype is np.int16
    rows = np.array([[1, 0, 1], [1, 0, 0], [127, 127, 127]], np.int8)
    net = network(Connection(INPUT, "a", "linear", rows, 8), shape=(3, 1, 1), framed=True)
    assert laid(net).total_dtype is np.int32


def test_sums_beyond_32_bits_get_64() -> None:
    assert summed(single(127, 23), single(1)).total_dtype is np.int32
    wide = summed(*[single(127, 23)] * 3, single(1))
    assert wide.total_dtype is np.int64
    assert wide.v_dtype is np.int64
    assert [len(link.wiring.weight) for link in wide.links] == [0, 0, 0, 8]
    assert [len(link.wiring.wide) for link in wide.links] == [8, 8, 8, 0]


@pytest.mark.parametrize(("weight", "dtype"), [(127, np.int16), (128, np.int32)])
def test_frames_may_carry_any_int8_whatever_the_inputs_range(weight: int, dtype: type) -> None:
    # 128 * (127 + 127 + 1) = 32640 fits 16 bits, 128 * (127 + 127 + 2) does not.
    rows = np.array([[127, 127, weight - 126]], np.int8)
    net = network(Connection(INPUT, "a", "linear", rows, 8), shape=(3, 1, 1), framed=True)
    narrow = replace(net, input=replace(net.input, low=0, high=1))
    assert laid(narrow).total_dtype is dtype


@pytest.mark.parametrize(("exponent", "dtype"), [(1, np.int16), (2, np.int32)])
def test_an_exponent_of_frames_counts_in_their_sum(exponent: int, dtype: type) -> None:
    # 128 * 127 * 2 + 127 = 32639 fits 16 bits, twice as much does not.
    first = Connection(INPUT, "a", "linear", np.array([[1]], np.int8), 2)
    into = Connection(INPUT, "out", "linear", np.array([[127]], np.int8), 8, exponent)
    net = network(first, shape=(1, 1, 1), framed=True)
    wide = replace(net, connections=(first, single(127), into))
    assert laid(wide, 1).total_dtype is dtype


@pytest.mark.parametrize(
    ("weight", "exponent", "dtype"),
    [(127, 0, np.int8), (64, 1, np.int32), (63, 1, np.int8), (-127, 0, np.int8),
     (-64, 1, np.int32)],
)  # fmt: skip
def test_weights_stay_in_8_bits_where_they_fit(weight: int, exponent: int, dtype: type) -> None:
    layer = summed(single(weight, exponent), single(0))
    wiring = layer.links[0].wiring
    used, other = (wiring.weight, wiring.wide)[:: 1 if dtype is np.int8 else -1]
    assert used.tolist() == [weight << exponent, *[0] * 7]
    assert len(other) == 0


@pytest.mark.parametrize(
    ("weight", "narrow", "chunk"),
    [(0, True, 64), (1, True, 64), (3, True, 42), (7, True, 18), (31, True, 4), (32, False, 64),
     (-31, True, 4), (127, False, 64)],
)  # fmt: skip
def test_as_many_rows_meet_in_8_bits_as_cannot_leave_them(
    weight: int, narrow: bool, chunk: int
) -> None:
    wiring = summed(single(weight)).links[0].wiring
    assert (wiring.narrow, wiring.chunk) == (narrow, chunk)
    assert max(1, abs(weight)) * chunk <= (127 if narrow else 32767)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("number", "dtype"), [(1, np.int32), (2, np.int64)])
def test_potentials_take_32_bits_where_they_provably_fit(
    sign: int, number: int, dtype: type
) -> None:
    # In one timestep 127 * 2**23 per connection, of which twice as much just fits 32 bits.
    assert summed(*[single(sign * 127, 23)] * number).v_dtype is dtype


def test_potentials_that_grow_over_the_timesteps_take_64_bits() -> None:
    layer = summed(single(-127, 20))
    assert layer.v_dtype is np.int32
    first = Connection(INPUT, "a", "linear", np.array([[1]], np.int8), 2)
    net = replace(network(first, shape=(1, 1, 1)), connections=(first, single(-127, 20)))
    longer = replace(net, timesteps=9, readout=(1,) * 9)
    assert laid(longer, 1).v_dtype is np.int64
    assert laid(replace(longer, timesteps=8, readout=(1,) * 8), 1).v_dtype is np.int32


@pytest.mark.parametrize(
    ("shape", "width", "pixels"),
    [((16, 4, 5), 16, 5), ((10, 1, 1), 16, 1), ((120, 4, 5), 120, 5), ((128, 4, 5), 128, 1),
     ((8, 2, 3), 8, 3)],
)  # fmt: skip
def test_narrow_pixels_are_advanced_by_the_row(shape: Shape, width: int, pixels: int) -> None:
    conv = Connection(INPUT, "a", "conv", np.ones((shape[0], 1, 1, 1), np.int8), 2)
    layer = laid(network(conv, shape=(1, *shape[1:])))
    assert (layer.width, layer.pixels_of_chunk) == (width, pixels)
