"""The range proof against every sequence of currents, every input, and the reference."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsr_deploy.hardware import bounds, reference
from dsr_deploy.hardware.errors import RegisterError
from dsr_deploy.hardware.network import (
    V_MAX,
    V_MIN,
    Connection,
    Input,
    IntegerNetwork,
    Population,
)

SETTINGS = settings(max_examples=40, deadline=None)


def population(name, shape, *, bias=0, v_fire=10, v_threshold=10, decay=0):
    channels = (
        np.broadcast_to(np.asarray(x, np.int32), shape[:1]).copy()
        for x in (bias, v_fire, v_threshold)
    )
    return Population(name, shape, *channels, decay)


def network(shape, populations, connections, *, timesteps=3, framed=False, low=-127, high=127):
    ones = (1.0,) * shape[0]
    source = Input(shape, ones, ones, 1.0, 1.0, low, high, framed)
    return IntegerNetwork(
        "test", timesteps, source, tuple(populations), tuple(connections), (1,) * timesteps
    )


def linear(source, target, rows, **options):
    return Connection(source, target, "linear", np.array(rows, np.int8), 8, **options)


def reachable(low, high, v_fire, v_threshold, decay, timesteps):
    """Follow every sequence of currents; return the extremes of u and of v."""
    reached, all_u, all_v = {0}, set(), {0}
    for _ in range(timesteps):
        decayed = {int(v * (4096 - decay) / 4096) for v in reached}
        u_values = {v + a for v in decayed for a in range(low, high + 1)}
        reached = {u - v_threshold if u >= v_fire else u for u in u_values}
        all_u |= u_values
        all_v |= reached
    return min(all_u), max(all_u), min(all_v), max(all_v)


def proven(low, high, v_fire, v_threshold, decay, timesteps):
    found = bounds.membrane_range(
        low, high, v_fire=v_fire, v_threshold=v_threshold, decay=decay, timesteps=timesteps
    )
    return int(found.u_low), int(found.u_high), int(found.v_low), int(found.v_high)


NEURONS = {
    "low": st.integers(-30, 30),
    "width": st.integers(0, 25),
    "v_fire": st.integers(-40, 60),
    "v_threshold": st.integers(1, 60),
    "decay": st.sampled_from([0, 1, 700, 2048, 4095]),
    "timesteps": st.integers(1, 8),
}


@SETTINGS
@given(**NEURONS)
def test_no_sequence_of_currents_leaves_the_range(
    low, width, v_fire, v_threshold, decay, timesteps
):
    neuron = (low, low + width, v_fire, v_threshold, decay, timesteps)
    reached, bound = reachable(*neuron), proven(*neuron)
    assert bound[0] <= reached[0]
    assert bound[1] >= reached[1]
    assert bound[2] <= reached[2]
    assert bound[3] >= reached[3]


@SETTINGS
@given(**NEURONS)
def test_range_is_reached_when_currents_are_wide_or_constant(
    low, width, v_fire, v_threshold, decay, timesteps
):
    if width:  # wide enough to close the gap that a reset leaves
        v_threshold = min(v_threshold, 2 * width + 1)
    neuron = (low, low + width, v_fire, v_threshold, decay, timesteps)
    assert proven(*neuron) == reachable(*neuron)


def test_narrow_currents_and_a_large_reset_leave_a_gap_that_the_range_covers():
    # u is 9 or 10: v becomes 9 or -90, but the range holds all between, 0 + 9 among them.
    assert reachable(9, 10, 10, 100, 0, 1) == (9, 10, -90, 9)
    assert proven(9, 10, 10, 100, 0, 1) == (9, 10, -90, 9)


@pytest.mark.parametrize(
    ("neuron", "expected"),
    [
        # Never below v_fire: the potential grows by 7 - 3 per step after each spike.
        ((7, 7, -5, 3, 0, 4), (7, 19, 0, 16)),
        # Never reaches v_fire: 4 steps of -5.
        ((-5, -5, 10, 3, 0, 4), (-20, -5, -20, 0)),
        # Fires even from rest: v falls by 10 per step until it stays below v_fire = -5.
        ((0, 0, -5, 10, 0, 4), (-10, 0, -10, 0)),
        # Exactly at v_fire: every step fires and takes all of it away.
        ((10, 10, 10, 10, 0, 3), (10, 10, 0, 0)),
        # LIF with half of v kept, rounded toward zero: 9, 4 + 9 = 13, 6 + 9 = 15, 7 + 9 = 16.
        ((9, 9, 100, 100, 2048, 4), (9, 16, 0, 16)),
        ((-9, -9, 100, 100, 2048, 4), (-16, -9, -16, 0)),
    ],
)
def test_range_of_neurons_worked_by_hand(neuron, expected):
    assert proven(*neuron) == expected
    assert reachable(*neuron) == expected


def test_membrane_range_works_per_channel():
    found = bounds.membrane_range(
        np.array([-3, 0]),
        np.array([5, 8]),
        v_fire=np.array([10, 1]),
        v_threshold=np.array([10, 20]),
        decay=0,
        timesteps=5,
    )
    for channel, neuron in enumerate([(-3, 5, 10, 10, 0, 5), (0, 8, 1, 20, 0, 5)]):
        assert tuple(
            int(x[channel]) for x in (found.u_low, found.u_high, found.v_low, found.v_high)
        ) == proven(*neuron)
    np.testing.assert_array_equal(found.low, np.minimum(found.u_low, found.v_low))
    np.testing.assert_array_equal(found.high, np.maximum(found.u_high, found.v_high))


def test_enormous_currents_are_reported_and_do_not_wrap():
    found = bounds.membrane_range(
        -(1 << 49), 1 << 60, v_fire=1 << 30, v_threshold=1, decay=1, timesteps=1000
    )
    assert int(found.high) == 1 << 50
    assert int(found.low) == -(1 << 50)


def single_neuron(payloads, *, framed=True):
    """Return a network of one neuron fed by two pixels."""
    neuron = population("neuron", (1, 1, 1), bias=1, v_fire=4, v_threshold=3)
    rows = [[2, -1]]
    return network(
        (2, 1, 1),
        [neuron],
        [linear("input", "neuron", rows)],
        framed=framed,
        low=payloads[0],
        high=payloads[-1],
    )


def observe(net, payloads):
    """Run the reference; return u_low, u_high, v_low and v_high per population, (C,) each."""
    seen = {}

    def watched(pop, v, current):
        new, fired = STEP(pop, v, current)
        u = new + pop.v_threshold.astype(np.int64)[:, None, None] * fired
        axes = (0, 2, 3)
        now = np.stack([u.min(axes), -u.max(axes), new.min(axes), -new.max(axes)])
        now[2:] = np.minimum(now[2:], 0)  # v begins at 0
        seen[pop.name] = np.minimum(seen.get(pop.name, now), now)
        return new, fired

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "step", watched)
        reference.run(net, payloads)
    signs = np.array([[1], [-1], [1], [-1]])
    return {name: extremes * signs for name, extremes in seen.items()}


def assert_within(seen, membrane):
    assert (membrane.u_low <= seen[0]).all()
    assert (membrane.u_high >= seen[1]).all()
    assert (membrane.v_low <= seen[2]).all()
    assert (membrane.v_high >= seen[3]).all()


STEP = reference.step


@pytest.mark.parametrize("payloads", [(-1, 0, 1), (0, 1, 2), (1, 2, 3), (-3, -2)])
def test_all_inputs_of_a_single_neuron_reach_exactly_the_bound(payloads):
    net = single_neuron(payloads)
    every = np.array(list(itertools.product(payloads, repeat=6)), np.int8)
    seen = observe(net, every.reshape(-1, 3, 2, 1, 1))["neuron"]
    found = bounds.check(net)["neuron"]
    np.testing.assert_array_equal(seen, [found.u_low, found.u_high, found.v_low, found.v_high])


def test_constant_images_stay_within_the_bound():
    net = single_neuron((-2, -1, 0, 1, 2), framed=False)
    every = np.array(list(itertools.product(range(-2, 3), repeat=2)), np.int8)
    seen = observe(net, every.reshape(-1, 2, 1, 1))["neuron"]
    found = bounds.check(net)["neuron"]
    assert_within(seen, found)


@SETTINGS
@given(
    seed=st.integers(0, 2**32 - 1),
    padding=st.integers(0, 2),
    stride=st.integers(1, 2),
    decay=st.sampled_from([0, 900]),
    framed=st.booleans(),
    payload_range=st.sampled_from([(-4, 3), (0, 1), (2, 5)]),
)
def test_random_networks_stay_within_the_bound(seed, padding, stride, decay, framed, payload_range):
    rng = np.random.default_rng(seed)
    low, high = payload_range

    def weights(*shape):
        return rng.integers(-127, 128, shape).astype(np.int8)

    def layer(name, shape):
        bias, fire = rng.integers(-300, 300, 3), rng.integers(-500, 2000, 3)
        threshold = rng.integers(1, 2000, 3)
        return population(name, shape, bias=bias, v_fire=fire, v_threshold=threshold, decay=decay)

    options = {"stride": (stride, stride), "padding": (padding, padding)}
    first = Connection("input", "first", "conv", weights(3, 2, 2, 2), 8, exponent=2, **options)
    shape = first.output_shape((2, 3, 3))
    net = network(
        (2, 3, 3),
        [layer("first", shape), layer("second", shape), layer("out", (3, 1, 1))],
        [
            first,
            Connection("first", "second", "identity", weights(3), 8),
            Connection("input", "second", "conv", weights(3, 2, 2, 2), 8, **options),
            linear("second", "out", weights(3, int(np.prod(shape))), exponent=3),
            Connection("first", "out", "pool", weights(3), 8, kernel=shape[1:]),
        ],
        timesteps=4,
        framed=framed,
        low=low,
        high=high,
    )
    frames = (4,) if framed else ()
    payloads = rng.integers(low, high + 1, (8, *frames, 2, 3, 3)).astype(np.int8)
    found = bounds.check(net)
    for name, seen in observe(net, payloads).items():
        assert_within(seen, found[name])


def convolution(weight, **options):
    return Connection("input", "conv", "conv", np.array(weight, np.int8), 8, **options)


def test_current_of_a_convolution_is_exact_in_the_interior():
    kernel = np.array([[[[1, -2, 3]]], [[[-4, -5, -6]]]])
    conv = population("conv", (2, 1, 5), bias=[7, -7])
    out = population("out", (1, 1, 1))
    net = network(
        (1, 1, 5),
        [conv, out],
        [convolution(kernel, padding=(0, 1), exponent=2), linear("conv", "out", [[1] * 10])],
        low=-3,
        high=2,
    )
    low, high = bounds.current_range(net, conv)
    # Positive weights 4 and 0, negative weights -2 and -15, payloads -3 to 2, times 2**2.
    assert low.tolist() == [7 + 4 * (4 * -3 - 2 * 2), -7 + 4 * (-15 * 2)]
    assert high.tolist() == [7 + 4 * (4 * 2 - 2 * -3), -7 + 4 * (-15 * -3)]
    assert low.dtype == high.dtype == np.int64


def test_padding_lets_zeros_in():
    conv = population("conv", (1, 1, 2))
    out = population("out", (1, 1, 1))
    connections = [convolution([[[[1, 1]]]], padding=(0, 1), stride=(1, 2))]
    connections.append(linear("conv", "out", [[1, 1]]))
    net = network((1, 1, 2), [conv, out], connections, low=5, high=9)
    assert [x.tolist() for x in bounds.current_range(net, conv)] == [[0], [18]]
    assert [x.tolist() for x in bounds.current_range(net, out)] == [[0], [2]]


def test_pool_and_identity_count_their_window_and_add_up():
    first = population("first", (2, 2, 2))
    second = population("second", (2, 1, 1), bias=[1, 2])
    weight = np.array([3, -3], np.int8)
    net = network(
        (2, 2, 2),
        [first, second],
        [
            Connection("input", "first", "identity", weight, 8, exponent=1),
            Connection("input", "second", "pool", weight, 8, kernel=(2, 2)),
            Connection("first", "second", "pool", weight, 8, kernel=(2, 2), exponent=3),
        ],
        low=-1,
        high=2,
    )
    assert [x.tolist() for x in bounds.current_range(net, first)] == [[-6, -12], [12, 6]]
    # 4 * 3 * payload, 4 * 3 * 8 per spike, bias.
    assert [x.tolist() for x in bounds.current_range(net, second)] == [
        [1 - 12, 2 - 24 - 96],
        [1 + 24 + 96, 2 + 12],
    ]
    sums = [
        bounds.partial_sum_bound(c, bounds.payload_range(c, net.input)).tolist()
        for c in net.connections
    ]
    assert sums == [[6, 6], [24, 24], [12, 12]]


@pytest.mark.parametrize(
    # Four steps of 127 * 127 * 2**8; on the way up, one threshold of 1 goes off after the third.
    ("weight", "reached"),
    [(127, 4 * 127 * 127 * 256 - 1), (-127, -4 * 127 * 127 * 256)],
)
def test_overflow_names_population_channel_value_limit_and_way_out(weight, reached):
    out = population("out", (2, 1, 1), v_fire=V_MAX, v_threshold=1)
    into = linear("input", "out", [[1], [weight]], exponent=8)
    net = network((1, 1, 1), [out], [into], timesteps=4, low=0)
    message = (
        f"population 'out', channel 1: the membrane potential may reach {reached}, the 24-bit "
        f"register holds {V_MIN} to {V_MAX}; lower the population with fewer fractional bits"
    )
    with pytest.raises(RegisterError, match=f"^{re.escape(message)}$"):
        bounds.check(net)


def test_padding_of_negative_payloads_lets_zeros_in():
    conv = population("conv", (1, 1, 2))
    out = population("out", (1, 1, 1))
    connections = [convolution([[[[1, 1]]]], padding=(0, 1), stride=(1, 2))]
    connections.append(linear("conv", "out", [[1, 1]]))
    net = network((1, 1, 2), [conv, out], connections, low=-9, high=-5)
    assert [x.tolist() for x in bounds.current_range(net, conv)] == [[-18], [0]]


def test_the_channel_that_goes_furthest_is_named():
    # Channel 0 falls a little, channel 1 rises beyond the register, channel 2 falls further.
    out = population("out", (3, 1, 1), bias=[-5, V_MAX + 1, V_MIN - 1], v_fire=2**31 - 1)
    net = network((1, 1, 1), [out], [linear("input", "out", [[0]] * 3)], timesteps=1)
    with pytest.raises(RegisterError, match=f"channel 1: .* may reach {V_MAX + 1},"):
        bounds.check(net)
    lower = replace(out, bias=np.array([3, V_MAX + 1, V_MIN - 2], np.int32))
    with pytest.raises(RegisterError, match=f"channel 2: .* may reach {V_MIN - 2},"):
        bounds.check(replace(net, populations=(lower,)))


def test_a_lower_end_is_named_although_the_upper_one_is_positive():
    out = population("out", (1, 1, 1), bias=V_MIN + 100, v_fire=2**31 - 1)
    net = network(
        (1, 1, 1), [out], [linear("input", "out", [[101]], exponent=17)], timesteps=1, low=-1,
        high=0,
    )  # fmt: skip
    shifted = replace(out, bias=np.array([5], np.int32))
    reached = 5 - (101 << 17)
    with pytest.raises(RegisterError, match=f"may reach {reached},"):
        bounds.check(replace(net, populations=(shifted,)))


def test_of_two_ends_that_leave_the_register_equally_far_the_upper_one_is_named():
    # 521 weights of 127, payloads -128 to 127: high + low = -1, as of the register's own ends.
    rows = [[127] * 521]
    bias = (521 * 127 - 1) // 2
    out = population("out", (1, 1, 1), bias=bias, v_fire=2**31 - 1)
    net = network(
        (521, 1, 1), [out], [linear("input", "out", rows)], timesteps=1, low=-128, high=127
    )
    reached = bounds.current_range(net, out)
    assert [int(x[0]) for x in reached] == [V_MIN - 47685, V_MAX + 47685]
    with pytest.raises(RegisterError, match=f"may reach {V_MAX + 47685},"):
        bounds.check(net)


def test_a_register_that_is_just_full_passes_and_one_more_does_not():
    def net(bias):
        out = population("out", (1, 1, 1), bias=bias, v_fire=V_MAX, v_threshold=V_MAX)
        return network((1, 1, 1), [out], [linear("input", "out", [[0]])], timesteps=1)

    assert bounds.check(net(V_MAX))["out"].u_high.tolist() == [V_MAX]
    assert bounds.check(net(V_MIN))["out"].u_low.tolist() == [V_MIN]
    for bias in (V_MAX + 1, V_MIN - 1):
        with pytest.raises(RegisterError, match=f"may reach {bias},"):
            bounds.check(net(bias))


def test_a_reset_below_the_register_is_refused():
    # u is only -1, but a spike at v_fire = -1 subtracts a threshold as wide as the register.
    out = population("out", (1, 1, 1), bias=-1, v_fire=-1, v_threshold=-V_MIN)
    net = network((1, 1, 1), [out], [linear("input", "out", [[0]])], timesteps=1)
    with pytest.raises(RegisterError, match=f"may reach {V_MIN - 1},"):
        bounds.check(net)


def test_a_sum_that_float32_cannot_hold_is_refused():
    pixels = 1041
    out = population("out", (1, 1, 1))
    net = network((pixels, 1, 1), [out], [linear("input", "out", [[127] * pixels])], timesteps=1)
    message = (
        "connection 'input->out', channel 0: a partial sum may reach 16790289, float32 is exact "
        "below 16777216; use fewer weight bits or a smaller payload range"
    )
    assert bounds.partial_sum_bound(net.connections[0], (-127, 127)).tolist() == [16790289]
    with pytest.raises(RegisterError, match=f"^{re.escape(message)}$"):
        bounds.check(net)


@pytest.mark.parametrize(
    ("last", "place"), [(15, "population 'out'"), (16, "connection 'input->out'")]
)
def test_float32_is_exact_below_2_to_the_24(last, place):
    # 64 * (2064 * 127 + 16) is 2**24.
    row = [0, *[127] * 2064, last]
    out = population("out", (2, 1, 1))
    rows = [[1] * 2066, row]
    net = network(
        (2066, 1, 1), [out], [linear("input", "out", rows)], timesteps=1, low=-64, high=64
    )
    with pytest.raises(RegisterError, match=f"^{place}, channel 1: "):
        bounds.check(net)


@SETTINGS
@given(
    low=st.integers(-2000, 0),
    high=st.integers(0, 2000),
    bias=st.floats(-50, 50),
    v_threshold=st.floats(0.01, 3000),
    alpha=st.floats(0.2, 1),
    decay=st.sampled_from([0, 1, 2048]),
    timesteps=st.integers(1, 20),
)
def test_largest_shift_fits_and_one_more_bit_does_not(
    low, high, bias, v_threshold, alpha, decay, timesteps
):
    def fits(shift):
        b = round(bias * 2**shift)
        found = bounds.membrane_range(
            (low << shift) + b,
            (high << shift) + b,
            v_fire=round(alpha * v_threshold * 2**shift),
            v_threshold=max(round(v_threshold * 2**shift), 1),
            decay=decay,
            timesteps=timesteps,
        )
        held = round(v_threshold * 2**shift) < 2**31
        return held and found.low >= -V_MAX and found.high <= V_MAX

    found = bounds.largest_shift(
        [low], [high], [bias], [alpha * v_threshold], [v_threshold], decay, timesteps
    )
    (shift,) = found.tolist()
    assert 0 <= shift <= 23
    assert fits(shift)
    assert not any(fits(larger) for larger in range(shift + 1, 24))


def test_largest_shift_is_found_per_channel():
    # One step: 100, 1000 and 2**23 with thresholds that are never reached.
    high = np.array([100, 1000, 1 << 23])
    found = bounds.largest_shift([0, 0, 0], high, 0.0, 2000.0, 1.0, 0, 1)
    assert found.tolist() == [16, 13, -1]
    assert found.dtype == np.int64


def test_parameters_that_int32_cannot_hold_have_no_shift():
    found = bounds.largest_shift([0, 0], [1, 1], 0.0, [1.0, 2.0**31], 1.0, 0, 1)
    assert found.tolist() == [22, -1]


@pytest.mark.parametrize(
    ("neuron", "limit", "shift"),
    [
        # One step of a current of 5 or -5: 5 * 2**F.
        ((5, 0.0, 1e6, 1.0), 4, -1),
        ((5, 0.0, 1e6, 1.0), 5, 0),
        ((5, 0.0, 1e6, 1.0), 9, 0),
        ((5, 0.0, 1e6, 1.0), 10, 1),
        ((-5, 0.0, 1e6, 1.0), 4, -1),
        ((-5, 0.0, 1e6, 1.0), 5, 0),
        ((-5, 0.0, 1e6, 1.0), 10, 1),
        # A bias of 2.7 is rounded to 3, 5 and 11.
        ((0, 2.7, 1e6, 1.0), 2, -1),
        ((0, 2.7, 1e6, 1.0), 4, 0),
        ((0, 2.7, 1e6, 1.0), 10, 1),
        ((0, 2.7, 1e6, 1.0), 11, 2),
        # A bias against the current: -2, -4, -8.
        ((-5, 3.0, 1e6, 1.0), 7, 1),
        ((5, -3.0, 1e6, 1.0), 7, 1),
        # The largest parameter that int32 holds.
        ((1, 0.0, 2.0**31 - 1, 1.0), V_MAX, 0),
        ((1, 0.0, 2.0**31, 1.0), V_MAX, -1),
    ],
)
def test_largest_shifts_worked_by_hand(neuron, limit, shift):
    current, bias, v_fire, v_threshold = neuron
    found = bounds.largest_shift(
        [current], [current], [bias], [v_fire], [v_threshold], 0, 1, limit=limit
    )
    assert found.tolist() == [shift]


@pytest.mark.parametrize(("limit", "shift"), [(18, -1), (19, 0)])
def test_a_threshold_that_rounds_to_0_is_1(limit, shift):
    # Two steps of 10; a spike in between takes 1 away.
    found = bounds.largest_shift([10], [10], [0.0], [0.0], [0.2], 0, 2, limit=limit)
    assert found.tolist() == [shift]
