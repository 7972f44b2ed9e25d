"""The range proof: no register overflows, whatever the input.

The weights bound the current into a neuron, and the current bounds its membrane potential
over all timesteps. Both bounds are intervals; the proof is that the intervals fit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dsr_deploy.hardware.errors import RegisterError
from dsr_deploy.hardware.network import (
    DECAY_ONE,
    INPUT,
    MAX_EXPONENT,
    V_BITS,
    V_MAX,
    V_MIN,
    Connection,
    Input,
    IntegerNetwork,
    Population,
)

Int64 = NDArray[np.int64]

FLOAT32_EXACT: Final = 1 << 24
"""Float32 holds every integer below this magnitude, so sums below it are exact in any order."""

_CEILING: Final = 1 << 50  # potentials are cut off here, so that int64 never overflows


@dataclass(frozen=True, eq=False)
class MembraneRange:
    """What a neuron's register may have to hold; every array int64, of one shape.

    Attributes
    ----------
    u_low, u_high : smallest and largest potential before the spike test, over all timesteps
    v_low, v_high : the same after the reset, the initial 0 included
    """

    u_low: Int64
    u_high: Int64
    v_low: Int64
    v_high: Int64

    @property
    def low(self) -> Int64:
        """Smallest value that the register holds at any moment."""
        return np.minimum(self.u_low, self.v_low)

    @property
    def high(self) -> Int64:
        """Largest value that the register holds at any moment."""
        return np.maximum(self.u_high, self.v_high)


def membrane_range(
    low: ArrayLike,
    high: ArrayLike,
    *,
    v_fire: ArrayLike,
    v_threshold: ArrayLike,
    decay: int,
    timesteps: int,
) -> MembraneRange:
    """Bound the membrane potential when each step's current lies anywhere in [low, high].

    Iterates the interval of v from 0::

        u = [trunc(v_low * (4096 - decay) / 4096) + low, trunc(v_high * ...) + high]
        silent, if u_low < v_fire:    v in [u_low, min(u_high, v_fire - 1)]
        spiking, if u_high >= v_fire: v in [max(u_low, v_fire), u_high] - v_threshold

    and takes the hull of the two. Rounding toward zero is monotone, so the ends of an interval
    stay its ends. The bound is always valid. It is reached by some sequence of currents wherever
    ``2 * (high - low) >= v_threshold - 1`` or ``low == high``: then the two branches leave no gap
    that the next step's current does not close.

    Parameters
    ----------
    low, high, v_fire, v_threshold : integers of shapes that broadcast; the bias is in the current
    decay : in 1/4096; 0 for IF
    timesteps : T, at least 1

    Returns
    -------
    Extremes over all T steps. Magnitudes beyond 2**50 are reported as 2**50.
    """
    low, high, v_fire, v_threshold = np.broadcast_arrays(
        *(np.asarray(x, np.int64) for x in (low, high, v_fire, v_threshold))
    )
    v_low = v_high = np.zeros(low.shape, np.int64)
    u_extremes = (np.full(low.shape, _CEILING), np.full(low.shape, -_CEILING))
    v_extremes = (v_low, v_high)
    for _ in range(timesteps):
        before = (v_low, v_high)
        u_low = np.clip(_decayed(v_low, decay) + low, -_CEILING, _CEILING)
        u_high = np.clip(_decayed(v_high, decay) + high, -_CEILING, _CEILING)
        silent, spiking = u_low < v_fire, u_high >= v_fire
        v_low = np.minimum(
            np.where(silent, u_low, _CEILING),
            np.where(spiking, np.maximum(u_low, v_fire) - v_threshold, _CEILING),
        )
        v_high = np.maximum(
            np.where(silent, np.minimum(u_high, v_fire - 1), -_CEILING),
            np.where(spiking, u_high - v_threshold, -_CEILING),
        )
        u_extremes = _widen(u_extremes, u_low, u_high)
        v_extremes = _widen(v_extremes, v_low, v_high)
        if all(map(np.array_equal, before, (v_low, v_high))):
            break  # every further step repeats this one
    return MembraneRange(*u_extremes, *v_extremes)


def payload_range(connection: Connection, input: Input) -> tuple[int, int]:
    """Return the smallest and largest payload that the connection's source sends.

    Parameters
    ----------
    input : of the network; a population sends 0 or 1
    """
    return (input.low, input.high) if connection.source == INPUT else (0, 1)


def connection_range(connection: Connection, payloads: tuple[int, int]) -> tuple[Int64, Int64]:
    """Bound what ``connection`` adds to a target neuron at one timestep, exponent included.

    Positive and negative weights are summed apart. A neuron at the border sees fewer of them,
    so the bound of a channel holds at each of its positions.

    Parameters
    ----------
    payloads : the smallest and largest, as of :func:`payload_range`

    Returns
    -------
    Smallest and largest sum, int64 (C_out,).
    """
    positive, negative = _weight_sums(connection)
    least, most = payloads
    if connection.padding != (0, 0):
        least, most = min(least, 0), max(most, 0)  # the padding sends zeros
    low = positive * least + negative * most
    high = positive * most + negative * least
    return low << connection.exponent, high << connection.exponent


def partial_sum_bound(connection: Connection, payloads: tuple[int, int]) -> Int64:
    """Bound the magnitude of every partial sum of a connection, before its exponent.

    This is Σ |weight| · max |payload|, int64 (C_out,), for ``payloads`` as in
    :func:`connection_range`. Below 2**24 a float32 convolution is exact in any order of summation.
    """
    positive, negative = _weight_sums(connection)
    return (positive - negative) * max(map(abs, payloads))


def current_range(network: IntegerNetwork, population: Population) -> tuple[Int64, Int64]:
    """Bound the current into a neuron at one timestep, with its bias: low and high, int64 (C,)."""
    low = high = population.bias.astype(np.int64)
    for connection in network.incoming(population):
        least, most = connection_range(connection, payload_range(connection, network.input))
        low, high = low + least, high + most
    return low, high


def network_bounds(network: IntegerNetwork) -> dict[str, MembraneRange]:
    """Return what each population's registers may have to hold, by name, whatever the input.

    The arrays are of shape (C,), one value per channel.
    """
    return {p.name: population_bounds(network, p) for p in network.populations}


def population_bounds(network: IntegerNetwork, population: Population) -> MembraneRange:
    """Return what the registers of one population may have to hold, as :func:`network_bounds`."""
    low, high = current_range(network, population)
    return membrane_range(
        low,
        high,
        v_fire=population.v_fire,
        v_threshold=population.v_threshold,
        decay=population.decay,
        timesteps=network.timesteps,
    )


def check(network: IntegerNetwork) -> dict[str, MembraneRange]:
    """Prove that no membrane potential overflows and that every sum is exact in float32.

    Returns
    -------
    The proven bounds, as :func:`network_bounds` gives them.

    Raises
    ------
    RegisterError
        If for some input a potential may leave the 24-bit register, or a partial sum may reach
        2**24; names the place and the channel that goes furthest.
    """
    bounds = network_bounds(network)
    for obstacle in _obstacles(network, bounds):
        raise RegisterError(obstacle)
    return bounds


def obstacles(network: IntegerNetwork, *, ranges: bool = True) -> Iterator[str]:
    """Yield every line that :func:`check` would raise, were it alone.

    Parameters
    ----------
    ranges : False leaves out the membrane potentials, which :func:`chip.obstacles` has too
    """
    yield from _obstacles(network, network_bounds(network) if ranges else {})


def _obstacles(network: IntegerNetwork, bounds: dict[str, MembraneRange]) -> Iterator[str]:
    for connection in network.connections:
        sums = partial_sum_bound(connection, payload_range(connection, network.input))
        channel = int(np.argmax(sums))
        if sums[channel] >= FLOAT32_EXACT:
            yield (
                f"connection '{connection.name}', channel {channel}: a partial sum may reach "
                f"{sums[channel]}, float32 is exact below {FLOAT32_EXACT}; "
                "use fewer weight bits or a smaller payload range"
            )
    for name, bound in bounds.items():
        low, high = bound.low, bound.high
        channel = int(np.argmax(np.maximum(high - V_MAX, V_MIN - low)))
        if high[channel] > V_MAX or low[channel] < V_MIN:
            above = high[channel] - V_MAX >= V_MIN - low[channel]
            yield (
                f"population '{name}', channel {channel}: the membrane potential may reach "
                f"{high[channel] if above else low[channel]}, the {V_BITS}-bit register holds "
                f"{V_MIN} to {V_MAX}; lower the population with fewer fractional bits"
            )


def largest_shift(
    low: ArrayLike,
    high: ArrayLike,
    bias: ArrayLike,
    v_fire: ArrayLike,
    v_threshold: ArrayLike,
    decay: int,
    timesteps: int,
    limit: int = V_MAX,
) -> Int64:
    """Return how many fractional bits each channel can have without leaving its register.

    With F fractional bits the current becomes ``[low, high] * 2**F`` and the other parameters
    become ``rint(x * 2**F)`` (a threshold at least 1). A population shares one F: the smallest
    of the result, and its ``argmin`` is the channel that binds. A lowering that rounds otherwise
    may differ in the last bit; :func:`check` has the last word on the finished network.

    Parameters
    ----------
    low, high : integers (C,), the weighted sum at F = 0 without the bias,
        as :func:`connection_range` gives it
    bias, v_fire, v_threshold : real numbers (C,), in units of one weight at F = 0
    decay, timesteps : as for :func:`membrane_range`
    limit : largest magnitude that the register holds

    Returns
    -------
    int64 (C,), 0 to 23; -1 where not even the unshifted values fit.
    """
    low, high = np.asarray(low, np.int64), np.asarray(high, np.int64)
    reals = np.stack(np.broadcast_arrays(bias, v_fire, v_threshold, low.astype(np.float64))[:3])
    largest = np.full(reals.shape[1:], -1, np.int64)
    for shift in range(MAX_EXPONENT + 1):
        scaled = np.rint(np.ldexp(reals, shift))
        held = (np.abs(scaled) <= np.iinfo(np.int32).max).all(axis=0)
        b, fire, threshold = np.where(held, scaled, 1).astype(np.int64)
        reached = membrane_range(
            (low << shift) + b,
            (high << shift) + b,
            v_fire=fire,
            v_threshold=np.maximum(threshold, 1),
            decay=decay,
            timesteps=timesteps,
        )
        fits = held & (reached.low >= -limit) & (reached.high <= limit)
        largest = np.where(fits, shift, largest)
    return largest


def _decayed(v: Int64, decay: int) -> Int64:
    """Multiply by (4096 - decay) / 4096, rounding toward zero."""
    decayed: Int64 = np.sign(v) * (np.abs(v) * (DECAY_ONE - decay) // DECAY_ONE)
    return decayed


def _widen(extremes: tuple[Int64, Int64], low: Int64, high: Int64) -> tuple[Int64, Int64]:
    return np.minimum(extremes[0], low), np.maximum(extremes[1], high)


def _weight_sums(connection: Connection) -> tuple[Int64, Int64]:
    """Sum a target neuron's positive and its negative weights, each int64 (C_out,)."""
    weight = connection.weight.astype(np.int64)
    per_channel = weight.reshape(len(weight), -1)
    taps = math.prod(connection.kernel)
    positive = np.maximum(per_channel, 0).sum(axis=1) * taps
    negative = np.minimum(per_channel, 0).sum(axis=1) * taps
    return positive, negative
