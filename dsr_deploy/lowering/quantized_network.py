"""The network that quantization trains: integers forward, representations backward.

The forward pass is the integer network itself, in :mod:`dsr_deploy.engines.torch`. DSR's backward
pass needs only representations, so the gradient is that of an ordinary network of clamps whose
weights are the rounded ones, passed straight through to real-valued latent parameters.

Each channel has a unit, the real value of the last bit of its membrane potential, fixed when the
network is created. Latent parameters are relative, so that one learning rate fits all:
weights to the largest integer, biases and thresholds to the threshold before quantization.
"""

from __future__ import annotations

import math
from typing import TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dsr_deploy.engines.torch import TorchConnection, TorchPopulation, Train, advance
from dsr_deploy.hardware.errors import NetworkError
from dsr_deploy.hardware.geometry import Geometry
from dsr_deploy.hardware.network import (
    DECAY_ONE,
    INPUT,
    Connection,
    Input,
    IntegerNetwork,
    Population,
)
from dsr_deploy.lowering.fold import FoldedPopulation
from dsr_deploy.lowering.scale import (
    CHANNELWISE_BITS,
    Granularity,
    Scale,
    choose_scale,
    largest_weight,
    per_row,
)
from dsr_deploy.models.neuron import Neuron

Integer = TypeVar("Integer", np.int8, np.int32)

READOUT_ONE = 4096


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
        # Rate per mean input: 1 for IF; dt / (tau * gain) in the steady state of LIF.
        self.slope = neuron.dt / (neuron.tau * neuron.gain) if neuron.kind == "lif" else 1.0
        self.register_buffer("full", folded.v_threshold / scale.unit)
        self.full: Tensor
        self.threshold = nn.Parameter(torch.tensor(1.0))
        self.bias = nn.Parameter((folded.bias / folded.v_threshold).float())
        self.weights = nn.ParameterList(
            (
                connection.weight
                / per_row(scale.unit, connection.weight)
                / (largest_weight(width) * 2.0**exponent)
            ).float()
            for connection, width, exponent in zip(
                folded.connections, bits, scale.exponents, strict=True
            )
        )

    def integer_weight(self, index: int) -> Tensor:
        """Return connection ``index``'s weights, integers in float32, straight through."""
        largest = largest_weight(self.bits[index])
        return _round(_clamp(self.weights[index] * largest, -largest, largest))

    def integer_bias(self) -> Tensor:
        """Return the bias, integers in float64 (C,), straight through."""
        return _round(self.bias.double() * self.full)

    def integer_thresholds(self) -> tuple[Tensor, Tensor]:
        """Return v_fire and v_threshold, integers in float64 (C,), straight through."""
        full = self.threshold.double() * self.full
        return _clamp(_round(full * self.alpha), 1), _clamp(_round(full), 1)

    def connection(self, index: int, weight: Tensor) -> TorchConnection:
        """Return connection ``index`` with ``weight``."""
        spec = self.specs[index]
        geometry = Geometry(
            spec.kind,
            tuple(weight.shape),
            spec.kernel if spec.kind == "pool" else (1, 1),
            spec.stride,
            spec.padding,
            spec.groups,
        )
        return TorchConnection(spec.source, geometry, weight, self.scale.exponents[index])

    def forward(
        self, trains: dict[str, Train], rates: dict[str, Tensor], weights: Tensor
    ) -> tuple[Train, Tensor]:
        """Return the spikes of the population, and its rate (N, C, H, W) with gradient.

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
        done = advance(population, trains, weights, torch.float32)
        value = done.rate.permute(0, 3, 1, 2)
        if torch.is_grad_enabled():
            currents = [c(rates[c.source]) for c in connections]
            mean = torch.stack(currents).sum(0) if len(currents) > 1 else currents[0]
            level = self.slope / v_threshold
            relative = (mean + bias.float()[:, None, None]) * level.float()[:, None, None]
            clamped = _clamp(relative, 0, 1)
            value = clamped + (value - clamped).detach()
        return Train(packed=done.packed), value


class QuantizedNetwork(nn.Module):
    """A folded network with latent parameters.

    Parameters
    ----------
    folded : see :func:`dsr_deploy.lowering.fold.fold`
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
            where = f"population '{member.name}'"
            v_fire, v_threshold = member.integer_thresholds()
            populations.append(
                Population(
                    member.name,
                    shapes[member.name],
                    _whole(where, "bias", member.integer_bias(), np.int32),
                    _whole(where, "v_fire", v_fire, np.int32),
                    _whole(where, "v_threshold", v_threshold, np.int32),
                    member.decay,
                )
            )
            for index, width in enumerate(member.bits):
                c = member.connection(index, member.integer_weight(index))
                connections.append(
                    Connection(
                        c.source,
                        member.name,
                        c.geometry.kind,
                        _whole(f"{where}, from '{c.source}'", "weight", c.weight, np.int8),
                        width,
                        c.exponent,
                        c.geometry.kernel,
                        c.geometry.stride,
                        c.geometry.padding,
                        c.geometry.groups,
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
    """Return an integer weight per timestep, proportional to the representation's."""
    if neuron.kind == "if":
        return (1,) * neuron.timesteps
    steps = range(neuron.timesteps - 1, -1, -1)
    return tuple(max(1, round(READOUT_ONE * neuron.leak**back)) for back in steps)


def _round(value: Tensor) -> Tensor:
    """Round half to even; the gradient passes unchanged."""
    return value + (value.round() - value).detach()


def _clamp(value: Tensor, low: float, high: float = math.inf) -> Tensor:
    """Clamp; the gradient passes at the bounds too, where PyTorch's stops from 2.15 on."""
    inside = (value >= low) & (value <= high)
    return torch.where(inside, value, value.detach().clamp(low, high))


def _whole(where: str, label: str, values: Tensor, dtype: type[Integer]) -> NDArray[Integer]:
    """Return whole numbers as integers; refuse those that are not finite or do not fit."""
    array = values.double().cpu().numpy()
    fits = np.abs(array) <= np.iinfo(dtype).max  # false for NaN
    if not fits.all():
        raise NetworkError(
            f"{where}: {label} {array[~fits][0]:g} is no {np.dtype(dtype)}; "
            "the training diverged or its values lie too far apart, use a lower learning rate"
        )
    return array.astype(dtype)
