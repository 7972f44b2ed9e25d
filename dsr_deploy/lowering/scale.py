"""How a population's real values become integers: the unit of its membrane potential.

Weights decide the unit, the range proof how fine it may be.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dsr_deploy.hardware.bounds import largest_shift
from dsr_deploy.hardware.errors import NetworkError
from dsr_deploy.hardware.network import DECAY_ONE, INPUT, MAX_EXPONENT, V_MAX, Input
from dsr_deploy.lowering.fold import FoldedPopulation
from dsr_deploy.models.neuron import Neuron

Granularity = Literal["channel", "layer"]

CHANNELWISE_BITS = 8
"""Mantissa of a pool's or shortcut's weight on the chip; their scale is a power of two."""
MAX_FRACTION = 6
"""Most fractional bits: as far as Loihi shifts its weights."""
RANGE_RESERVE = 2
"""Bits that the range proof leaves free, for weights that grow in fine-tuning."""
FAR_BEYOND = 1 << 36
"""A current that no register holds, but int64 does, with all fractional bits."""
COARSEST_THRESHOLD = 15
"""A channel's unit is raised until its threshold and bias take at most this many bits."""


@dataclass(frozen=True, eq=False)
class Scale:
    """How a population's real values become integers.

    Attributes
    ----------
    unit : float64 (C,), real value of the last bit of v
    exponents : of each connection
    """

    unit: Tensor
    exponents: tuple[int, ...]


def choose_scale(
    population: FoldedPopulation,
    neuron: Neuron,
    input: Input,
    widths: tuple[int, ...],
    granularity: Granularity,
) -> Scale:
    """Choose a population's unit and its connections' exponents.

    Weighted connections share a step per channel, apart from a power of two each, chosen so that
    the squared error of the weights is least. Then the unit is the step divided by as many powers
    of two as the range proof leaves room for.

    Raises
    ------
    NetworkError
        If a folded value is not finite.
    """
    _check_finite(population)
    weighted = [i for i, c in enumerate(population.connections) if c.weight.ndim > 1]
    rows = {i: population.connections[i].weight.flatten(1) for i in weighted}
    if weighted:
        ties = _ties(rows, widths)
        step = _best_step([rows[i] / 2.0 ** ties[i] for i in weighted], widths[weighted[0]])
    else:
        ties = {}
        largest = torch.stack([c.weight.abs() for c in population.connections]).amax(0)
        step = largest / largest_weight(CHANNELWISE_BITS)
    if granularity == "layer" and weighted:
        step = _best_layer_step([rows[i] / 2.0 ** ties[i] for i in weighted], widths[weighted[0]])
    level = max(population.v_threshold, 1e-30)
    room = torch.maximum(population.bias.abs(), torch.full_like(population.bias, level))
    step = torch.maximum(step, room / 2.0**COARSEST_THRESHOLD)
    if granularity == "layer":
        step = step.amax().expand_as(step).clone()
    fractions = _fractions(population, neuron, input, widths, step, ties)
    while fractions.amin() < 0:
        # Even integer steps overflow the register (many timesteps, a wide fan-in, a huge shortcut),
        # so the weights give up their last bit.
        coarser = fractions < 0 if granularity == "channel" else torch.ones_like(fractions) > 0
        step = torch.where(coarser, step * 2, step)
        fractions = _fractions(population, neuron, input, widths, step, ties)
    fraction = min(MAX_FRACTION, int(fractions.amin()))
    unit = step / 2.0**fraction
    exponents = []
    for index, connection in enumerate(population.connections):
        if index in ties:
            exponents.append(fraction + ties[index])
        else:
            needed = float((connection.weight.abs() / unit).max()) / largest_weight(widths[index])
            exponents.append(min(MAX_EXPONENT, max(0, math.ceil(math.log2(max(needed, 1e-30))))))
    return Scale(unit, tuple(exponents))


def _check_finite(population: FoldedPopulation) -> None:
    values = [population.bias, *(connection.weight for connection in population.connections)]
    if not (math.isfinite(population.v_threshold) and all(v.isfinite().all() for v in values)):
        raise NetworkError(
            f"population '{population.name}': its weights, BatchNorm or threshold are not finite; "
            "the training diverged, train again with a lower learning rate"
        )


def _fractions(
    population: FoldedPopulation,
    neuron: Neuron,
    input: Input,
    widths: tuple[int, ...],
    step: Tensor,
    ties: dict[int, int],
) -> Tensor:
    """Return by how many powers of two each step may be divided, int64 (C,); -1 for not at all."""
    low, high = torch.zeros_like(step), torch.zeros_like(step)
    for index, connection in enumerate(population.connections):
        quantum = step * 2.0 ** ties.get(index, 0)
        q = torch.round(connection.weight / per_row(quantum, connection.weight))
        if index in ties:
            q = q.clamp(-largest_weight(widths[index]), largest_weight(widths[index]))
        q = q.flatten(1) if q.ndim > 1 else q[:, None] * math.prod(connection.spec.kernel)
        most = max(abs(input.low), abs(input.high)) if connection.spec.source == INPUT else 1
        least = -most if connection.spec.source == INPUT else 0
        positive, negative = q.clamp(min=0).sum(1), q.clamp(max=0).sum(1)
        tie = 2 ** ties.get(index, 0)
        low += (positive * least + negative * most) * tie
        high += (positive * most + negative * least) * tie
    threshold = population.v_threshold / step
    shift = largest_shift(
        low.clamp(min=-FAR_BEYOND).numpy(),
        high.clamp(max=FAR_BEYOND).numpy(),
        (population.bias / step).numpy(),
        (threshold * neuron.alpha).numpy(),
        threshold.numpy(),
        round(DECAY_ONE * (1 - neuron.leak)) if neuron.kind == "lif" else 0,
        neuron.timesteps,
        limit=V_MAX >> RANGE_RESERVE,
    )
    return torch.from_numpy(shift)


def _ties(rows: dict[int, Tensor], widths: tuple[int, ...]) -> dict[int, int]:
    """Return, for weighted connections that share a step, the powers of two with least error."""
    indices = list(rows)
    if len(indices) == 1:
        return {indices[0]: 0}
    width = widths[indices[0]]
    best: tuple[float, dict[int, int]] | None = None
    for powers in itertools.product(range(-4, 5), repeat=len(indices) - 1):
        lowest = min(0, *powers)
        tied = {i: power - lowest for i, power in zip(indices, (0, *powers), strict=True)}
        scaled = [rows[i] / 2.0 ** tied[i] for i in indices]
        step = _best_step(scaled, width)
        error = sum(
            float(((_quantize(r, step, width) - r) * 2.0 ** tied[i]).square().sum())
            for i, r in zip(indices, scaled, strict=True)
        )
        if best is None or error < best[0]:
            best = (error, tied)
    assert best is not None
    return best[1]


def _best_step(rows: list[Tensor], bits: int) -> Tensor:
    """Return the step per channel (C,) of least squared rounding error, by search."""
    joined = torch.cat(rows, 1)
    top = joined.abs().amax(1) / largest_weight(bits)
    best, least = top.clone(), torch.full_like(top, torch.inf)
    for factor in torch.linspace(0.3, 1.0, 71, dtype=torch.float64):
        step = top * factor
        error = (_quantize(joined, step, bits) - joined).square().sum(1)
        better = error < least
        best, least = torch.where(better, step, best), torch.where(better, error, least)
    return best


def _best_layer_step(rows: list[Tensor], bits: int) -> Tensor:
    """Return one step for all channels, (C,), of least squared rounding error."""
    flat = torch.cat([r.flatten() for r in rows])[None]
    return _best_step([flat], bits).expand(len(rows[0])).clone()


def _quantize(rows: Tensor, step: Tensor, bits: int) -> Tensor:
    safe = torch.where(step > 0, step, torch.ones_like(step))[:, None]
    return (rows / safe).round().clamp(-largest_weight(bits), largest_weight(bits)) * safe


def largest_weight(bits: int) -> int:
    """Return the largest weight of ``bits`` bits, sign included; the smallest is its negative."""
    return (1 << (bits - 1)) - 1


def per_row(per_channel: Tensor, like: Tensor) -> Tensor:
    """View values per output channel, (C,), so that they broadcast over a weight like ``like``."""
    return per_channel.reshape(-1, *[1] * (like.ndim - 1))
