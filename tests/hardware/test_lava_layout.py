"""The layouts that Lava computes in, against the definition; no Lava needed."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsr_deploy.hardware import bounds, reference
from dsr_deploy.hardware.errors import RegisterError
from dsr_deploy.hardware.geometry import Shape
from dsr_deploy.hardware.lava import layout
from dsr_deploy.hardware.network import (
    INPUT,
    Connection,
    Input,
)


@st.composite
def connections(draw: st.DrawFn, kinds: tuple[str, ...]) -> tuple[Connection, Shape, int]:
    """A connection, the shape of its source, and a seed."""
    kind = draw(st.sampled_from(kinds))
    groups = draw(st.integers(1, 3))
    per_group, out_per_group = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    kernel = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    stride = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    padding = (draw(st.integers(0, 2)), draw(st.integers(0, 2)))
    source = (groups * per_group, draw(st.integers(3, 6)), draw(st.integers(3, 6)))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)

    def weight(*shape: int) -> np.ndarray:
        return rng.integers(-127, 128, shape).astype(np.int8)

    exponent = draw(st.integers(0, 4))
    if kind == "conv":
        made = Connection(
            "a", "b", "conv", weight(groups * out_per_group, per_group, *kernel), 8, exponent,
            stride=stride, padding=padding, groups=groups,
        )  # fmt: skip
    elif kind == "pool":
        made = Connection(
            "a", "b", "pool", weight(source[0]), 8, exponent,
            kernel=kernel, stride=stride, padding=padding,
        )  # fmt: skip
    elif kind == "linear":
        made = Connection("a", "b", "linear", weight(4, int(np.prod(source))), 8, exponent)
    else:
        made = Connection("a", "b", "identity", weight(source[0]), 8, exponent)
    return made, source, seed


def sums(connection: Connection, sent: np.ndarray) -> np.ndarray:
    """What the definition makes of a (C, H, W) source, in (W, H, C) order."""
    made: np.ndarray = reference.transmit(connection, sent[None].astype(np.int64))[0]
    return made.transpose(2, 1, 0)


def true_convolution(x: np.ndarray, kernel: np.ndarray, connection: Connection) -> np.ndarray:
    """Convolve a padded (W, H, C) array as Lava's Conv documents it, one output at a time."""
    groups = len(kernel) if connection.kind == "pool" else connection.groups
    (stride_y, stride_x), (pad_y, pad_x) = connection.stride, connection.padding
    x = np.pad(x, ((pad_x, pad_x), (pad_y, pad_y), (0, 0)))
    out_channels, width, height, per_group = kernel.shape
    shape = ((x.shape[0] - width) // stride_x + 1, (x.shape[1] - height) // stride_y + 1)
    out = np.zeros((*shape, out_channels), np.int64)
    for i, j, o in np.ndindex(*out.shape):
        first = o // (out_channels // groups) * per_group
        for a, b, c in np.ndindex(width, height, per_group):
            pixel = x[i * stride_x + width - 1 - a, j * stride_y + height - 1 - b, first + c]
            out[i, j, o] += kernel[o, a, b, c] * int(pixel)
    return out


@settings(max_examples=60, deadline=None)
@given(connections(("conv", "pool")))
def test_the_kernel_for_lavas_conv_gives_the_definitions_sums(
    drawn: tuple[Connection, Shape, int],
) -> None:
    connection, source, seed = drawn
    sent = np.random.default_rng(seed).integers(-127, 128, source)
    got = true_convolution(
        sent.transpose(2, 1, 0), layout.conv_kernel(connection, source), connection
    )
    np.testing.assert_array_equal(got, sums(connection, sent) << connection.exponent)


@settings(max_examples=100, deadline=None)
@given(connections(("conv", "pool", "identity")))
def test_the_synapses_give_the_definitions_sums(drawn: tuple[Connection, Shape, int]) -> None:
    connection, source, seed = drawn
    sent = np.random.default_rng(seed).integers(-127, 128, source)
    synapses = layout.synapses(connection, source)
    out = np.zeros(int(np.prod(connection.output_shape(source))), np.int64)
    np.add.at(
        out,
        synapses.target,
        synapses.weight.astype(np.int64) * sent.transpose(2, 1, 0).ravel()[synapses.source],
    )
    np.testing.assert_array_equal(out, sums(connection, sent).ravel())
    assert not np.any(synapses.weight == 0)
    assert len({*zip(synapses.target, synapses.source, strict=True)}) == len(synapses.weight)


@settings(max_examples=30, deadline=None)
@given(connections(("linear",)))
def test_the_dense_weights_give_the_definitions_sums(drawn: tuple[Connection, Shape, int]) -> None:
    connection, source, seed = drawn
    sent = np.random.default_rng(seed).integers(-127, 128, source)
    got = layout.dense_weight(connection, source) @ sent.transpose(2, 1, 0).ravel()
    np.testing.assert_array_equal(got, sums(connection, sent).ravel())


@settings(max_examples=60, deadline=None)
@given(connections(("conv", "pool", "identity", "linear")))
def test_the_largest_sum_is_reached_without_borders_and_never_exceeded(
    drawn: tuple[Connection, Shape, int],
) -> None:
    connection, source, seed = drawn
    if connection.kind in ("conv", "pool"):
        connection = replace(connection, padding=(0, 0))
    bound = layout.largest_sum(connection, (-127, 127))
    rows = connection.weight.reshape(len(connection.weight), -1).astype(np.int64)
    taps = int(np.prod(connection.kernel))
    by_hand = 127 * taps * 2**connection.exponent * max(sum(map(abs, row.tolist())) for row in rows)
    assert bound == by_hand
    sent = np.random.default_rng(seed).integers(-127, 128, source)
    assert np.abs(sums(connection, sent) << connection.exponent).max() <= bound


def pool(channels: int, weight: int, exponent: int) -> Connection:
    return Connection(
        "a", "b", "pool", np.full(channels, weight, np.int8), 8, exponent, kernel=(2, 2)
    )


def takes_conv(connection: Connection, payload: int = 1, size: int = 4) -> bool:
    channels = connection.weight.shape[1] if connection.kind == "conv" else len(connection.weight)
    return layout.takes_conv(connection, (channels, size, size), (0, payload))


def test_lavas_conv_is_used_up_to_127_groups() -> None:
    assert takes_conv(pool(127, 1, 0))
    assert not takes_conv(pool(128, 1, 0))


def test_lavas_conv_is_used_up_to_24_bits() -> None:
    # 4 * 127 * 2**14 = 8 323 072 is the largest that fits, the register ends at 8 388 607
    assert takes_conv(pool(1, 127, 14))
    assert not takes_conv(pool(1, 127, 15))
    assert not takes_conv(pool(1, 127, 14), payload=2)


def test_lavas_conv_is_used_for_few_channel_pairs_and_for_very_many_synapses() -> None:
    few, many = (
        Connection("a", "b", "conv", np.ones((n, 16, 3, 3), np.int8), 8, padding=(1, 1))
        for n in (16, 17)
    )
    assert takes_conv(few)
    assert not takes_conv(many)
    # 17 * 16 * 9 * 40 * 40 = 3 916 800 synapses, 4 115 088 for 41 * 41
    assert not takes_conv(many, size=40)
    assert takes_conv(many, size=41)


def test_lavas_conv_is_not_used_for_linear_and_identity() -> None:
    assert not takes_conv(Connection("a", "b", "identity", np.ones(2, np.int8), 8))
    linear = Connection("a", "b", "linear", np.ones((2, 2), np.int8), 8)
    assert not layout.takes_conv(linear, (2, 1, 1), (0, 1))


def test_a_sum_beyond_32_bits_is_refused() -> None:
    layout.check_sum(pool(1, 127, 21), (0, 1))
    message = (
        "connection 'a->b': sums up to 2130706432, Lava holds up to 1073741823; "
        "give it a smaller exponent"
    )
    with pytest.raises(RegisterError, match=f"^{re.escape(message)}$"):
        layout.check_sum(pool(1, 127, 22), (0, 1))


def test_the_input_sends_its_payload_and_populations_send_one() -> None:
    network_input = Input((1, 2, 2), (0.0,), (1.0,), 1.0, 1.0, low=-128, high=3)
    connection = pool(1, 1, 0)
    assert bounds.payload_range(connection, network_input) == (0, 1)
    assert bounds.payload_range(replace(connection, source=INPUT), network_input) == (-128, 3)
