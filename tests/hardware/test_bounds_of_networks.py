"""The range proof of whole networks: searches reach half of what it says, and nothing beyond."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from dsr_deploy.hardware import bounds, reference
from dsr_deploy.hardware.errors import RegisterError
from dsr_deploy.hardware.event.simulator import Simulator
from dsr_deploy.hardware.geometry import Shape
from dsr_deploy.hardware.network import (
    INPUT,
    V_MAX,
    Connection,
    Input,
    IntegerNetwork,
    Population,
)

Payloads = NDArray[np.int8]
Reached = dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]]

STEP = reference.step


class Builder:
    """Draws weights and levels from a seed."""

    def __init__(self, seed: int, decay: int) -> None:
        self.rng, self.decay = np.random.default_rng(seed), decay

    def weight(self, *shape: int) -> NDArray[np.int8]:
        return self.rng.integers(-127, 128, shape).astype(np.int8)

    def population(self, name: str, shape: Shape, level: int) -> Population:
        def draw(low: int, high: int) -> NDArray[np.int32]:
            return self.rng.integers(low, high, shape[0]).astype(np.int32)

        bias, v_fire = draw(-level // 8, level // 8), draw(level // 4, level)
        return Population(name, shape, bias, v_fire, draw(level // 2, level), self.decay)


def frames(shape: Shape, low: int, high: int) -> Input:
    return Input(shape, (0.0,) * shape[0], (1.0,) * shape[0], 1.0, 1.0, low, high, framed=True)


def convolutional(seed: int, decay: int) -> IntegerNetwork:
    """Return three layers that narrow, 36 pixels to 36, 12 and 2 neurons, with a shortcut."""
    draw = Builder(seed, decay)
    return IntegerNetwork(
        "convolutional",
        4,
        frames((4, 3, 3), -8, 8),
        (
            draw.population("first", (4, 3, 3), 600),
            draw.population("second", (3, 2, 2), 600),
            draw.population("third", (2, 1, 1), 300),
        ),
        (
            Connection(INPUT, "first", "conv", draw.weight(4, 4, 1, 1), 8),
            Connection("first", "second", "conv", draw.weight(3, 4, 3, 3), 8,
                       stride=(2, 2), padding=(1, 1)),
            Connection(INPUT, "second", "conv", draw.weight(3, 4, 2, 2), 8),
            Connection("second", "third", "linear", draw.weight(2, 12), 8),
        ),
        (1,) * 4,
    )  # fmt: skip


def tiny(seed: int, decay: int) -> IntegerNetwork:
    """Return three pixels of 0 or 1, three neurons that follow them, then two and one.

    Each of the two has a source that makes it fire: the proof takes every neuron for able to.
    """
    draw = Builder(seed, decay)
    mixed = draw.weight(2, 3)
    np.fill_diagonal(mixed, 127)
    level = np.full(3, 64, np.int32)
    follow = Population("first", (3, 1, 1), np.zeros(3, np.int32), level, level, decay)
    return IntegerNetwork(
        "tiny",
        4,
        frames((3, 1, 1), 0, 1),
        (
            follow,
            draw.population("second", (2, 1, 1), 90),
            draw.population("third", (1, 1, 1), 90),
        ),
        (
            Connection(INPUT, "first", "identity", np.full(3, 64, np.int8), 8),
            Connection("first", "second", "linear", mixed, 8),
            Connection("second", "third", "linear", draw.weight(1, 2), 8),
        ),
        (1,) * 4,
    )


def observe(network: IntegerNetwork, payloads: Payloads) -> Reached:
    """Run the reference; return the extremes of v and u per sample and channel, (N, C) each."""
    reached: Reached = {}

    def watched(
        population: Population, v: NDArray[np.int64], current: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        after, fired = STEP(population, v, current)
        u = after + population.v_threshold.astype(np.int64)[:, None, None] * fired
        low, high = np.minimum(u, after).min((2, 3)), u.max((2, 3))
        before = reached.get(population.name, (np.zeros_like(low), np.zeros_like(high)))
        reached[population.name] = np.minimum(before[0], low), np.maximum(before[1], high)
        return after, fired

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "step", watched)
        reference.run(network, payloads)
    return reached


def assert_within(reached: Reached, proven: dict[str, bounds.MembraneRange]) -> None:
    for name, (low, high) in reached.items():
        membrane = proven[name]
        assert (low >= membrane.low).all(), name
        assert (high <= membrane.high).all(), name


def furthest(proven: bounds.MembraneRange) -> tuple[int, int, int]:
    """Return channel, side (0 low, 1 high) and magnitude of a population's largest bound."""
    sides = np.stack([-proven.low, proven.high])
    side, channel = np.unravel_index(int(sides.argmax()), sides.shape)
    return int(channel), int(side), int(sides.max())


def magnitude(reached: tuple[NDArray[np.int64], NDArray[np.int64]], channel: int, side: int):
    return (reached[1] if side else -reached[0])[:, channel]


@pytest.mark.parametrize("decay", [0, 700])
@pytest.mark.parametrize("seed", range(6))
def test_every_input_of_a_tiny_network_stays_within_the_bound_and_one_reaches_half(
    seed: int, decay: int
) -> None:
    network = tiny(seed, decay)
    every = np.array(list(itertools.product((0, 1), repeat=12)), np.int8)
    reached = observe(network, every.reshape(-1, 4, 3, 1, 1))
    proven = bounds.check(network)
    assert_within(reached, proven)
    for name, bound in proven.items():
        channel, side, most = furthest(bound)
        assert 2 * magnitude(reached[name], channel, side).max() >= most, name


def climb(
    network: IntegerNetwork,
    rng: np.random.Generator,
    score: Callable[[Reached], NDArray[np.int64]],
    enough: int,
    check: Callable[[Reached], None],
) -> tuple[int, Payloads]:
    """Search payloads of a large score by changing the best ones; return the best that was found.

    Every payload tried is handed to ``check``.
    """
    low, high = network.input.low, network.input.high
    tried = rng.choice([low, high], (48, network.timesteps, *network.input.shape)).astype(np.int8)
    best, top = tried[:1], -1
    for _ in range(100):
        reached = observe(network, tried)
        check(reached)
        found = score(reached)
        if found.max() > top:
            top, best = int(found.max()), tried[found.argmax()][None]
        if top >= enough:
            break
        tried = np.repeat(best, 48, axis=0)
        changed = rng.random(tried.shape) < rng.choice([0.02, 0.05, 0.2])
        tried[changed] = rng.integers(low, high + 1, changed.sum())
    return top, best


@pytest.mark.parametrize("decay", [0, 700])
@pytest.mark.parametrize("seed", range(6))
def test_a_search_reaches_half_of_the_bound_of_every_layer_and_never_more_than_all(
    seed: int, decay: int
) -> None:
    network = convolutional(seed, decay)
    proven = bounds.check(network)
    rng = np.random.default_rng(seed)
    for name, bound in proven.items():
        channel, side, most = furthest(bound)
        top, best = climb(
            network,
            rng,
            lambda reached, at=(name, channel, side): magnitude(reached[at[0]], *at[1:]),
            (most + 1) // 2,
            lambda reached: assert_within(reached, proven),
        )
        assert 2 * top >= most, f"{name}: {top} of {most}"
        counts = Simulator(network).run(best).populations[name]
        assert proven[name].low.min() <= counts.u_min
        assert counts.u_max <= proven[name].high.max()


def test_a_network_built_to_overflow_is_refused_where_an_input_overflows_it() -> None:
    # Channel 1 of the second layer: six spikes of 127 * 2**13 a step, for two steps.
    def level(channels: int, value: int) -> NDArray[np.int32]:
        return np.full(channels, value, np.int32)

    weight = np.ones((3, 6), np.int8)
    weight[1] = 127
    network = IntegerNetwork(
        "overflowing",
        2,
        frames((6, 1, 1), 0, 1),
        (
            Population("first", (6, 1, 1), level(6, 0), level(6, 1), level(6, 1)),
            Population("second", (3, 1, 1), level(3, 0), level(3, V_MAX), level(3, 1)),
            Population("out", (2, 1, 1), level(2, 0), level(2, 1), level(2, 1)),
        ),
        (
            Connection(INPUT, "first", "identity", np.ones(6, np.int8), 8),
            Connection("first", "second", "linear", weight, 8, exponent=13),
            Connection("second", "out", "linear", np.ones((2, 3), np.int8), 8),
        ),
        (1, 1),
    )
    reached = 2 * 6 * 127 * 2**13
    message = (
        f"population 'second', channel 1: the membrane potential may reach {reached}, the 24-bit "
        "register holds -8388608 to 8388607; lower the population with fewer fractional bits"
    )
    with pytest.raises(RegisterError, match=f"^{re.escape(message)}$"):
        bounds.check(network)
    worst = np.ones((1, 2, 6, 1, 1), np.int8)
    with pytest.raises(
        RegisterError, match=rf"^population 'second': membrane potential {reached} leaves"
    ):
        reference.run(network, worst)
    less = replace(
        network,
        connections=tuple(replace(c, exponent=max(0, c.exponent - 1)) for c in network.connections),
    )
    assert bounds.check(less)["second"].high.max() == reached // 2
    assert observe(less, worst)["second"][1].max() == reached // 2
