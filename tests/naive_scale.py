"""The choice of a unit once more, channel by channel in loops, from the docstrings alone."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsr_deploy.hardware import bounds
from dsr_deploy.hardware.network import INPUT, V_MAX, Input
from dsr_deploy.lowering.fold import FoldedPopulation
from dsr_deploy.models.neuron import Neuron

Array = NDArray[Any]
FACTORS = np.linspace(0.3, 1.0, 71)


def largest(bits: int) -> int:
    return 2 ** (bits - 1) - 1


def rounding_error(values: Array, step: float, bits: int) -> float:
    if step == 0:
        return 0.0
    whole = np.clip(np.rint(values / step), -largest(bits), largest(bits))
    return float(((whole * step - values) ** 2).sum())


def best_step(values: Array, bits: int) -> float:
    """The step of least squared error among 71 below the one that clips nothing."""
    top = float(np.abs(values).max()) / largest(bits)
    errors = [rounding_error(values, float(top * f), bits) for f in FACTORS]
    return float(top * FACTORS[int(np.argmin(errors))])


def tie_powers(rows: list[Array], bits: int) -> tuple[int, ...]:
    """Powers of two, the smallest 0, by which weighted connections differ in scale."""
    best, least = (0,) * len(rows), math.inf
    for others in itertools.product(range(-4, 5), repeat=len(rows) - 1):
        powers = tuple(p - min(0, *others) for p in (0, *others)) if others else (0,)
        error = 0.0
        for c in range(len(rows[0])):
            scaled = [r[c] / 2.0**p for r, p in zip(rows, powers, strict=True)]
            step = best_step(np.concatenate(scaled), bits)
            error += sum(
                rounding_error(s, step, bits) * 4.0**p for s, p in zip(scaled, powers, strict=True)
            )
        if error < least:
            best, least = powers, error
    return best


def finest(
    population: FoldedPopulation,
    neuron: Neuron,
    input: Input,
    widths: tuple[int, ...],
    step: float,
    ties: dict[int, int],
    c: int,
) -> int:
    """The most powers of two by which channel ``c``'s step can be divided; -1 for none."""
    low = high = 0
    for i, connection in enumerate(population.connections):
        tie = 2 ** ties.get(i, 0)
        whole = np.rint(connection.weight.numpy()[c].reshape(-1) / (step * tie))
        if i in ties:
            whole = np.clip(whole, -largest(widths[i]), largest(widths[i]))
        else:
            whole = np.repeat(whole, connection.spec.kernel[0] * connection.spec.kernel[1])
        most = max(abs(input.low), abs(input.high)) if connection.spec.source == INPUT else 1
        least = -most if connection.spec.source == INPUT else 0
        for w in whole:
            low += int(min(w * least, w * most)) * tie
            high += int(max(w * least, w * most)) * tie
    found = -1
    threshold = population.v_threshold / step
    for shift in range(24):
        values = np.rint(
            np.array([float(population.bias[c]) / step, threshold * neuron.alpha, threshold])
            * 2.0**shift
        )
        if np.abs(values).max() > 2**31 - 1:
            continue
        bias, fire, full = (int(v) for v in values)
        reached = bounds.membrane_range(
            (low << shift) + bias,
            (high << shift) + bias,
            v_fire=fire,
            v_threshold=max(full, 1),
            decay=round(4096 * (1 - neuron.leak)),
            timesteps=neuron.timesteps,
        )
        if reached.low >= -(V_MAX // 4) and reached.high <= V_MAX // 4:
            found = shift
    return found


def choose_scale(
    population: FoldedPopulation,
    neuron: Neuron,
    input: Input,
    widths: tuple[int, ...],
    granularity: str,
) -> tuple[list[float], tuple[int, ...]]:
    """Return the unit of each channel and the exponent of each connection."""
    weights = [connection.weight.numpy() for connection in population.connections]
    weighted = [i for i, w in enumerate(weights) if w.ndim > 1]
    channels = range(len(weights[0]))
    ties: dict[int, int] = {}
    if weighted:
        rows = [weights[i].reshape(len(channels), -1) for i in weighted]
        bits = widths[weighted[0]]
        ties = dict(zip(weighted, tie_powers(rows, bits), strict=True))
        joined = np.concatenate(
            [r / 2.0 ** ties[i] for i, r in zip(weighted, rows, strict=True)], 1
        )
        if granularity == "layer":
            steps = [best_step(joined.reshape(-1), bits)] * len(channels)
        else:
            steps = [best_step(joined[c], bits) for c in channels]
    else:
        steps = [max(abs(float(w[c])) for w in weights) / 127 for c in channels]
    for c in channels:
        level = max(population.v_threshold, 1e-30)
        steps[c] = max(steps[c], max(abs(float(population.bias[c])), level) / 2**15)
    if granularity == "layer":
        steps = [max(steps)] * len(channels)
    while True:
        fine = [finest(population, neuron, input, widths, steps[c], ties, c) for c in channels]
        if min(fine) >= 0:
            break
        for c in channels:
            if granularity == "layer" or fine[c] < 0:
                steps[c] *= 2
    fraction = min(6, *fine) if len(fine) > 1 else min(6, fine[0])
    units = [step / 2.0**fraction for step in steps]
    exponents = []
    for i, w in enumerate(weights):
        if i in ties:
            exponents.append(fraction + ties[i])
            continue
        needed = max(abs(float(w[c])) / units[c] for c in channels)
        exponents.append(next((e for e in range(23) if needed <= largest(widths[i]) * 2**e), 23))
    return units, tuple(exponents)
