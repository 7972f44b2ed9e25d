"""The network that quantization trains: integers forward, representations backward.

The forward pass is the integer network itself, in :mod:`dsr_deploy.torch_engine`. DSR's backward
pass needs only representations, so the gradient is that of an ordinary network of clamps whose
weights are the rounded ones, passed straight through to real-valued latent parameters.

Each channel has a unit, the real value of one last bit of its membrane potential, fixed when the
network is made. Latent parameters are relative, so that one learning rate fits all:
weights to the largest integer, biases and thresholds to the threshold before quantization.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from dsr_deploy.fold import FoldedConnection, FoldedPopulation
from dsr_deploy.hardware.bounds import largest_shift
from dsr_deploy.hardware.network import (
    DECAY_ONE,
    INPUT,
    MAX_EXPONENT,
    Connection,
    Input,
    IntegerNetwork,
    Population,
)
from dsr_deploy.models.neuron import Neuron
from dsr_deploy.torch_engine import TorchConnection, TorchPopulation, Train, advance

Granularity = Literal["channel", "layer"]

CHANNELWISE_BITS = 8
"""Mantissa of a pool's or shortcut's weight on the chip; their scale is a power of two."""
MAX_FRACTION = 6
"""Fractional bits at most, as Loihi shifts its weights."""
RANGE_RESERVE = 2
"""Bits that the range proof leaves free at first, for weights that grow in fine-tuning."""
COARSEST_THRESHOLD = 15
"""A channel's unit is raised until its threshold and bias take at most this many bits."""
READOUT_ONE = 4096


@dataclass(frozen=True, eq=False)
class Scale:
    """How a population's real values become integers.

    Attributes
    ----------
    unit : float64 (C,), real value of one last bit of v
    exponents : of each connection
    """

    unit: Tensor
    exponents: tuple[int, ...]


class QuantizedPopulation(nn.Module):
    """Latent parameters of a population, and the integers they round to."""

    def __init__(
        self, folded: FoldedPopulation, neuron: Neuron, bits: tuple[int, ...], scale: Scale
    ) -> None:
        super().__init__()
        self.name, self.bits, self.scale = folded.name, bits, scale
        self.specs = tuple(connection.spec for connection in folded.connections)
        self.alpha = neuron.alpha
        self.decay = round(DECAY_ONE * (1 - neuron.leak)) if neuron.kind == "lif" else 0
        # Of the mean input, what makes a rate: 1 for IF; LIF's steady state has dt / (tau * gain).
        self.slope = neuron.dt / (neuron.tau * neuron.gain) if neuron.kind == "lif" else 1.0
        self.register_buffer("full", folded.v_threshold / scale.unit)
        self.full: Tensor
        self.threshold = nn.Parameter(torch.tensor(1.0))
        self.bias = nn.Parameter((folded.bias / folded.v_threshold).float())
        self.weights = nn.ParameterList(
            (
                connection.weight
                / _per_row(scale.unit, connection.weight)
                / (_largest(width) * 2.0**exponent)
            ).float()
            for connection, width, exponent in zip(
                folded.connections, bits, scale.exponents, strict=True
            )
        )

    def integer_weight(self, index: int) -> Tensor:
        """Return connection ``index``'s weights, whole numbers in float32, straight through."""
        largest = _largest(self.bits[index])
        return _round((self.weights[index] * largest).clamp(-largest, largest))

    def integer_bias(self) -> Tensor:
        """Return the bias, whole numbers in float64 (C,), straight through."""
        return _round(self.bias.double() * self.full)

    def integer_thresholds(self) -> tuple[Tensor, Tensor]:
        """Return v_fire and v_threshold, whole numbers in float64 (C,), straight through."""
        full = self.threshold.double() * self.full
        return _round(full * self.alpha).clamp(min=1), _round(full).clamp(min=1)

    def connection(self, index: int, weight: Tensor) -> TorchConnection:
        """Return connection ``index`` with ``weight``."""
        spec = self.specs[index]
        return TorchConnection(
            spec.source,
            spec.kind,
            weight,
            self.scale.exponents[index],
            (spec.kernel,) * 2 if spec.kind == "pool" else (1, 1),
            (spec.stride,) * 2,
            (spec.padding,) * 2,
        )

    def forward(
        self, trains: dict[str, Train], rates: dict[str, Tensor], weights: Tensor
    ) -> tuple[Train, Tensor]:
        """Return what the population sends, and its rate (N, C, H, W) with gradient.

        Parameters
        ----------
        trains, rates : of each source; the input's rate is its mean payload
        weights : float32 (T,), of the rate
        """
        v_fire, v_threshold = self.integer_thresholds()
        connections = tuple(
            self.connection(i, self.integer_weight(i)) for i in range(len(self.specs))
        )
        bias = self.integer_bias()
        population = TorchPopulation(
            self.name, bias.detach(), v_fire.detach(), v_threshold.detach(), self.decay, connections
        )
        packed, rate = advance(population, trains, weights, torch.float32)
        value = rate.permute(0, 3, 1, 2)
        if torch.is_grad_enabled():
            currents = [c(rates[c.source]) for c in connections]
            mean = torch.stack(currents).sum(0) if len(currents) > 1 else currents[0]
            level = self.slope / v_threshold
            relative = (mean + bias.float()[:, None, None]) * level.float()[:, None, None]
            value = relative.clamp(0, 1) + (value - relative.clamp(0, 1)).detach()
        return Train(packed=packed), value


class QuantizedNetwork(nn.Module):
    """A folded network with latent parameters.

    Parameters
    ----------
    folded : see :func:`dsr_deploy.fold.fold`
    neuron : the constants of the trained network
    input : the payloads
    bits : of convolutions and linear layers, 2 to 8, sign included
    granularity : one unit per channel, or one per layer
    wide_ends : 8 bits in the first and the last layer
    """

    def __init__(
        self,
        folded: tuple[FoldedPopulation, ...],
        neuron: Neuron,
        input: Input,
        bits: int,
        granularity: Granularity = "channel",
        *,
        wide_ends: bool = False,
    ) -> None:
        super().__init__()
        self.neuron, self.input = neuron, input
        populations = []
        for population in folded:
            ends = wide_ends and population in (folded[0], folded[-1])
            width = 8 if ends else bits
            widths = tuple(
                width if c.spec.kind in ("conv", "linear") else CHANNELWISE_BITS
                for c in population.connections
            )
            scale = choose_scale(population, neuron, input, widths, granularity)
            populations.append(QuantizedPopulation(population, neuron, widths, scale))
        self.populations = nn.ModuleList(populations)
        self.shapes: dict[str, tuple[int, int, int]] = {}
        self.height = folded[-1].height

    def members(self) -> list[QuantizedPopulation]:
        """Return the populations in order of evaluation."""
        return cast("list[QuantizedPopulation]", list(self.populations))

    def forward(self, payloads: Tensor) -> Tensor:
        """Return the representation of the output, (N, classes), of int8 payloads."""
        framed = self.input.framed
        frames = payloads.transpose(0, 1) if framed else payloads[None]
        weights = torch.tensor(self.neuron.weights, device=payloads.device)
        mean = payloads.float()
        if framed:
            mean = torch.einsum("ntchw,t->nchw", mean, weights)
        trains, rates = {INPUT: Train(payloads=frames)}, {INPUT: mean}
        last_use = {spec.source: p.name for p in self.members() for spec in p.specs}
        for population in self.members():
            trains[population.name], rates[population.name] = population(trains, rates, weights)
            for spec in population.specs:
                if last_use[spec.source] == population.name:
                    trains.pop(spec.source, None)
                    rates.pop(spec.source, None)
        return rates[population.name].flatten(1) * self.height

    @torch.no_grad()
    def freeze(
        self, name: str, shapes: dict[str, tuple[int, int, int]], classes: tuple[str, ...]
    ) -> IntegerNetwork:
        """Return the integers that the latent parameters round to, as a network.

        Parameters
        ----------
        shapes : (C, H, W) of each population
        """
        populations, connections = [], []
        for member in self.members():
            v_fire, v_threshold = member.integer_thresholds()
            populations.append(
                Population(
                    member.name,
                    shapes[member.name],
                    _int32(member.integer_bias()),
                    _int32(v_fire),
                    _int32(v_threshold),
                    member.decay,
                )
            )
            for index, width in enumerate(member.bits):
                c = member.connection(index, member.integer_weight(index))
                connections.append(
                    Connection(
                        c.source,
                        member.name,
                        c.kind,
                        c.weight.cpu().numpy().astype(np.int8),
                        width,
                        c.exponent,
                        c.kernel,
                        c.stride,
                        c.padding,
                    )
                )
        return IntegerNetwork(
            name,
            self.neuron.timesteps,
            self.input,
            tuple(populations),
            tuple(connections),
            readout(self.neuron),
            classes,
        )


def readout(neuron: Neuron) -> tuple[int, ...]:
    """Return a whole weight per timestep, proportional to the representation's."""
    if neuron.kind == "if":
        return (1,) * neuron.timesteps
    steps = range(neuron.timesteps - 1, -1, -1)
    return tuple(max(1, round(READOUT_ONE * neuron.leak**back)) for back in steps)


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
    """
    weighted = [i for i, c in enumerate(population.connections) if c.weight.ndim > 1]
    rows = {i: population.connections[i].weight.flatten(1) for i in weighted}
    if weighted:
        ties = _ties(rows, widths, granularity)
        step = _best_step([rows[i] / 2.0 ** ties[i] for i in weighted], widths[weighted[0]])
    else:
        ties = {}
        largest = torch.stack([c.weight.abs() for c in population.connections]).amax(0)
        step = largest / _largest(CHANNELWISE_BITS)
    if granularity == "layer" and weighted:
        step = _best_layer_step([rows[i] / 2.0 ** ties[i] for i in weighted], widths[weighted[0]])
    level = max(population.v_threshold, 1e-30)
    room = torch.maximum(population.bias.abs(), torch.full_like(population.bias, level))
    step = torch.maximum(step, room / 2.0**COARSEST_THRESHOLD)
    if granularity == "layer":
        step = step.amax().expand_as(step).clone()
    return _with_fraction(population, neuron, input, widths, step, ties)


def _with_fraction(
    population: FoldedPopulation,
    neuron: Neuron,
    input: Input,
    widths: tuple[int, ...],
    step: Tensor,
    ties: dict[int, int],
) -> Scale:
    """Divide the step by the largest power of two for which the registers hold."""
    low = np.zeros(len(step), np.int64)
    high = np.zeros(len(step), np.int64)
    for index, connection in enumerate(population.connections):
        quantum = step * 2.0 ** ties.get(index, 0)
        q = torch.round(connection.weight / _per_row(quantum, connection.weight))
        if index in ties:
            q = q.clamp(-_largest(widths[index]), _largest(widths[index]))
        q = q.flatten(1) if q.ndim > 1 else q[:, None] * connection.spec.kernel**2
        most = max(abs(input.low), abs(input.high)) if connection.spec.source == INPUT else 1
        least = -most if connection.spec.source == INPUT else 0
        positive, negative = q.clamp(min=0).sum(1), q.clamp(max=0).sum(1)
        tie = 2 ** ties.get(index, 0)
        low += ((positive * least + negative * most) * tie).long().numpy()
        high += ((positive * most + negative * least) * tie).long().numpy()
    threshold = population.v_threshold / step
    fractions = largest_shift(
        low,
        high,
        (population.bias / step).numpy(),
        (threshold * neuron.alpha).numpy(),
        threshold.numpy(),
        round(DECAY_ONE * (1 - neuron.leak)) if neuron.kind == "lif" else 0,
        neuron.timesteps,
        limit=(1 << 23) - 1 >> RANGE_RESERVE,
    )
    fraction = min(MAX_FRACTION, int(fractions.min()))
    unit = step / 2.0**fraction
    exponents = []
    for index, connection in enumerate(population.connections):
        if index in ties:
            exponents.append(fraction + ties[index])
        else:
            needed = float((connection.weight.abs() / unit).max()) / _largest(widths[index])
            exponents.append(min(MAX_EXPONENT, max(0, math.ceil(math.log2(max(needed, 1e-30))))))
    return Scale(unit, tuple(exponents))


def _ties(
    rows: dict[int, Tensor], widths: tuple[int, ...], granularity: Granularity
) -> dict[int, int]:
    """Return, for weighted connections that share a step, the powers of two with least error."""
    indices = list(rows)
    if len(indices) == 1:
        return {indices[0]: 0}
    first, second = indices
    best: tuple[float, dict[int, int]] | None = None
    for power in range(-4, 5):
        tied = {first: max(0, -power), second: max(0, power)}
        scaled = [rows[i] / 2.0 ** tied[i] for i in indices]
        step = _best_step(scaled, widths[first])
        error = sum(
            float(((_quantize(r, step, widths[first]) - r) * 2.0 ** tied[i]).square().sum())
            for i, r in zip(indices, scaled, strict=True)
        )
        if best is None or error < best[0]:
            best = (error, tied)
    assert best is not None
    return best[1]


def _best_step(rows: list[Tensor], bits: int) -> Tensor:
    """Return the step per channel (C,) of least squared rounding error, by search."""
    joined = torch.cat(rows, 1)
    top = joined.abs().amax(1) / _largest(bits)
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
    return (rows / safe).round().clamp(-_largest(bits), _largest(bits)) * safe


def _largest(bits: int) -> int:
    return (1 << (bits - 1)) - 1


def _per_row(per_channel: Tensor, like: Tensor) -> Tensor:
    return per_channel.reshape(-1, *[1] * (like.ndim - 1))


def _round(value: Tensor) -> Tensor:
    """Round half to even; the gradient passes as if nothing had happened."""
    return value + (value.round() - value).detach()


def _int32(values: Tensor) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    return values.cpu().numpy().astype(np.int32)


__all__ = ["FoldedConnection", "QuantizedNetwork", "choose_scale", "readout"]
