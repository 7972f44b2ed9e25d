"""Networks of spiking neurons with weights of any kind, run by a naive model of a few lines.

The values may be real (float64) or whole (int64). Beside the spikes the model carries a doubt: how
far each membrane potential may be from that of a network whose values differ by as much as is said.
A sample in which no neuron comes nearer to its threshold than its doubt is clear: every such
network gives the same spikes for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsr_deploy.models.topology import INPUT, ConnectionSpec

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class RealConnection:
    """A weight per synapse (a pool and an identity: per channel), and what each may be off."""

    spec: ConnectionSpec
    weight: Array
    doubt: Array


@dataclass(frozen=True, eq=False)
class RealPopulation:
    """Parameters (C,): a neuron fires at ``v_fire`` and is lowered by ``v_threshold``.

    ``doubt`` is what the bias and either threshold may be off.
    """

    name: str
    connections: tuple[RealConnection, ...]
    bias: Array
    v_fire: Array
    v_threshold: Array
    doubt: Array


@dataclass(frozen=True, eq=False)
class RealRun:
    """What each population did, and which samples are clear, bool (N,).

    Attributes
    ----------
    spikes : bool (N, T, C, H, W)
    u : (N, T, C, H, W), membrane potentials before the reset
    """

    spikes: dict[str, Array]
    u: dict[str, Array]
    clear: Array


def run(
    populations: Sequence[RealPopulation],
    frames: Array,
    forget: Callable[[Array], Array],
    doubt_of_forgetting: Callable[[Array], Array] = np.zeros_like,
) -> RealRun:
    """Run a network timestep by timestep.

    Parameters
    ----------
    frames : (T, N, C, H, W)
    forget : what is left of a membrane potential after a timestep
    doubt_of_forgetting : how far that may be off
    """
    v: dict[str, Array] = {}
    doubts: dict[str, Array] = {}
    trains: dict[str, list[Array]] = {population.name: [] for population in populations}
    potentials: dict[str, list[Array]] = {population.name: [] for population in populations}
    clear = np.ones(frames.shape[1], bool)
    for frame in frames:
        sent = {INPUT: frame}
        for p in populations:
            current = _column(p.bias) + sum(
                transmit(c.spec, c.weight, sent[c.spec.source]) for c in p.connections
            )
            unsure = _column(p.doubt) + sum(
                transmit(c.spec, c.doubt, abs(sent[c.spec.source])) for c in p.connections
            )
            before = v.get(p.name, np.zeros_like(current))
            u = forget(before) + current
            doubt = forget(doubts.get(p.name, np.zeros_like(unsure))) + unsure
            doubt = doubt + doubt_of_forgetting(before)
            far = abs(u - _column(p.v_fire)) > doubt + _column(p.doubt)  # false where not a number
            clear &= far.all((1, 2, 3))
            spikes = u >= _column(p.v_fire)
            v[p.name] = u - _column(p.v_threshold) * spikes
            doubts[p.name] = doubt + _column(p.doubt) * spikes
            sent[p.name] = spikes.astype(frame.dtype)
            trains[p.name].append(spikes)
            potentials[p.name].append(u)
    joined, u_joined = (
        {name: np.stack(steps, 1) for name, steps in each.items()} for each in (trains, potentials)
    )
    return RealRun(joined, u_joined, clear)


def frames(payloads: Array, timesteps: int) -> Array:
    """Return (T, N, C, H, W) of (N, C, H, W), shown at every timestep, or (N, T, C, H, W)."""
    if payloads.ndim == 4:
        return np.broadcast_to(payloads, (timesteps, *payloads.shape))
    return np.moveaxis(payloads, 1, 0)


def transmit(spec: ConnectionSpec, weight: Array, sent: Array) -> Array:
    """Return what a connection makes of (N, C, H, W); a pool sums its window."""
    if spec.kind == "linear":
        return (sent.reshape(len(sent), -1) @ weight.T)[:, :, None, None]
    if spec.kind == "identity":
        return sent * _column(weight)
    high, wide = spec.padding
    padded = np.pad(sent, ((0, 0), (0, 0), (high, high), (wide, wide)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, spec.kernel, (2, 3))
    windows = windows[:, :, :: spec.stride[0], :: spec.stride[1]]  # (N, C, H, W, KH, KW)
    if spec.kind == "pool":
        return windows.sum((4, 5)) * _column(weight)
    parts = zip(np.split(windows, spec.groups, 1), np.split(weight, spec.groups), strict=True)
    made = [np.tensordot(part, kernel, ((1, 4, 5), (1, 2, 3))) for part, kernel in parts]
    return np.moveaxis(np.concatenate(made, 3), 3, 1)


def _column(per_channel: Array) -> Array:
    return per_channel[:, None, None]
