"""A spiking network: a topology with weights, trained at the level of representations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn

from dsr_deploy.models import dynamics
from dsr_deploy.models.layers import (
    Pixels,
    Signal,
    Spikes,
    TimeBatchNorm,
    drop,
    mean_current,
    temporal_covariance,
    temporal_variance,
    transmit,
)
from dsr_deploy.models.neuron import Neuron, Representation
from dsr_deploy.models.topology import INPUT, PopulationSpec, Topology, TopologyError

CHUNK_IMAGES = 128
"""Images convolved at once; bounds the memory of spikes unpacked to floats."""


class PopulationModule(nn.Module):
    """The weights of a population's connections, its BatchNorm and the height of its spikes."""

    def __init__(self, spec: PopulationSpec, shapes: dict[str, tuple[int, int, int]]) -> None:
        super().__init__()
        self.spec = spec
        self.weights = nn.ParameterDict()
        for index, connection in enumerate(spec.connections):
            channels, height, width = shapes[connection.source]
            if connection.kind == "conv":
                kernel = (connection.channels, channels, connection.kernel, connection.kernel)
                self.weights[str(index)] = nn.Parameter(torch.empty(kernel))
            elif connection.kind == "linear":
                kernel_size = (connection.channels, channels * height * width)
                self.weights[str(index)] = nn.Parameter(torch.empty(kernel_size))
        for weight in self.weights.values():
            nn.init.kaiming_normal_(weight, nonlinearity="relu")
        self.norm = TimeBatchNorm(shapes[spec.name][0]) if spec.norm else None
        self.height = nn.Parameter(torch.tensor(1.0))

    def weight(self, index: int) -> Tensor | None:
        """Return the weight of connection ``index``; None for a pool or an identity."""
        key = str(index)
        weight: Tensor | None = self.weights.get(key)
        return weight


@dataclass(eq=False)
class Activity:
    """What the populations did in one forward pass, by name.

    Attributes
    ----------
    rates : plain firing rate, 0 to 1
    spikes : bool (N, T, C, H, W); empty unless asked for
    """

    rates: dict[str, float] = field(default_factory=dict)
    spikes: dict[str, Tensor] = field(default_factory=dict)


class SpikingNetwork(nn.Module):
    """Execute a topology of DSR neurons.

    Parameters
    ----------
    topology : checked on construction
    neuron : constants of all neurons
    v_threshold : initial Vth of every population

    Raises
    ------
    TopologyError
        If the topology's connections do not meet.
    """

    def __init__(self, topology: Topology, neuron: Neuron, v_threshold: float = 1.0) -> None:
        super().__init__()
        self.topology, self.neuron = topology, neuron
        self.precision = torch.float32
        shapes = topology.shapes()
        self.shapes = shapes
        self.populations = nn.ModuleList(
            PopulationModule(spec, shapes) for spec in topology.populations
        )
        for population in self.members():
            population.height.data.fill_(v_threshold * neuron.height_per_threshold)
        self._last_use = {
            connection.source: spec.name
            for spec in topology.populations
            for connection in spec.connections
        }

    def members(self) -> list[PopulationModule]:
        """Return the populations in order of evaluation."""
        return cast("list[PopulationModule]", list(self.populations))

    def clamp_thresholds(self) -> None:
        """Raise every Vth to its lower bound; call it after each step of the optimizer."""
        lowest = self.neuron.v_threshold_min * self.neuron.height_per_threshold
        with torch.no_grad():
            for population in self.members():
                population.height.clamp_(min=lowest)

    def forward(
        self,
        pixels: Tensor,
        activity: Activity | None = None,
        *,
        record: bool = False,
        before_firing: Callable[[PopulationModule, Tensor], None] | None = None,
    ) -> Tensor:
        """Return the representation of the output population, (N, classes).

        Parameters
        ----------
        pixels : float32 (N, C, H, W), shown at every timestep, or (N, T, C, H, W)
        activity : receives the firing rates, and with ``record`` the spikes
        before_firing : called with each population and its mean input (N, C, H, W)
            before its neurons run
        """
        signals: dict[str, Signal] = {INPUT: self._input(pixels)}
        for population in self.members():
            spec = population.spec
            current = self._current(population, signals)
            spikes = self._spike(population, current, signals, before_firing)
            if activity is not None:
                self._observe(spec.name, spikes, activity, record)
            if spec.dropout and self.training:
                spikes = drop(spikes, spec.dropout)
            signals[spec.name] = spikes
            for connection in spec.connections:
                if self._last_use[connection.source] == spec.name:
                    signals.pop(connection.source, None)
        return spikes.representation.flatten(1)

    def _input(self, pixels: Tensor) -> Pixels:
        timesteps = self.neuron.timesteps
        framed = pixels.ndim == 5
        if framed and pixels.shape[1] != timesteps:
            raise TopologyError(f"input: {pixels.shape[1]} frames for {timesteps} timesteps")
        if tuple(pixels.shape[-3:]) != self.topology.input_shape:
            raise TopologyError(
                f"input: images of shape {tuple(pixels.shape[-3:])}; the network takes "
                f"{self.topology.input_shape}"
            )
        if not framed:
            return Pixels(pixels[None], pixels)
        weights = torch.tensor(self.neuron.weights, device=pixels.device, dtype=pixels.dtype)
        return Pixels(pixels.transpose(0, 1), torch.einsum("ntchw,t->nchw", pixels, weights))

    @torch.no_grad()
    def _current(self, population: PopulationModule, signals: dict[str, Signal]) -> Tensor:
        """Return the summed currents, float32 (T, N, H, W, C), T = 1 if all are constant."""
        sources = [signals[c.source] for c in population.spec.connections]
        frames = [s.frames for s in sources if isinstance(s, Pixels)]
        constant = len(frames) == len(sources) and all(len(f) == 1 for f in frames)
        steps = 1 if constant else self.neuron.timesteps
        samples = sources[0].representation.shape[0]
        channels, height, width = self.shapes[population.spec.name]
        device = sources[0].representation.device
        total = torch.empty((steps, samples, height, width, channels), device=device)
        chunk = max(1, CHUNK_IMAGES // samples)
        for first in range(0, steps, chunk):
            count = min(chunk, steps - first)
            part = total[first : first + count].flatten(0, 1).permute(0, 3, 1, 2)
            for index, (spec, signal) in enumerate(
                zip(population.spec.connections, sources, strict=True)
            ):
                weight = population.weight(index)
                sent = signal.steps(first, count)
                if weight is not None and self.precision != torch.float32:
                    made = transmit(spec, sent.to(self.precision), weight.to(self.precision))
                else:
                    made = transmit(spec, sent, weight)
                part.copy_(made) if index == 0 else part.add_(made)
        return total

    def _spike(
        self,
        population: PopulationModule,
        current: Tensor,
        signals: dict[str, Signal],
        before_firing: Callable[[PopulationModule, Tensor], None] | None,
    ) -> Spikes:
        """Normalise the currents and run the neurons; the representation carries the gradient."""
        norm, neuron = population.norm, self.neuron
        with torch.no_grad():
            mean, total, square = dynamics.moments(current, neuron)
        mean_input = mean.permute(0, 3, 1, 2)
        if torch.is_grad_enabled():
            connections = population.spec.connections
            mean_input = mean_current(
                mean_input,
                [(c, signals[c.source], population.weight(i)) for i, c in enumerate(connections)],
            )
        if norm is None:
            scale, shift = torch.ones_like(total).float(), torch.zeros_like(total).float()
        else:
            count = current.numel() // current.shape[-1]
            stats = (
                norm.batch_statistics(total, square, count)
                if self.training
                else norm.running_statistics()
            )
            scale, shift = norm.affine(stats)
            over_time = self._over_time(population, current, signals)
            mean_input = norm(mean_input, stats, over_time)
        if before_firing is not None:
            before_firing(population, mean_input.detach())
        height = population.height.detach()
        v_threshold = height / neuron.height_per_threshold
        packed, rate = dynamics.fire(current, scale, shift, v_threshold, neuron)
        value = (rate * height).permute(0, 3, 1, 2)
        if torch.is_grad_enabled():
            value = Representation.apply(mean_input, population.height, value, neuron)  # type: ignore[no-untyped-call]
        return Spikes(packed, float(height), value)

    def _over_time(
        self, population: PopulationModule, current: Tensor, signals: dict[str, Signal]
    ) -> Tensor | None:
        """Return the variance over time, (C,), as a function of the weights it matters for.

        A weight also acts on the deviation that BatchNorm divides by, through the fluctuation of
        the currents over time. With few inputs per neuron (linear, 1x1 convolution) the gradient
        needs that path (cosine 0.72 without it in a trained classifier) and it costs little; with
        a 3x3 window it would cost as much as the forward pass, and the cosine is 0.996 without.
        """
        if not (self.training and torch.is_grad_enabled()) or len(current) == 1:
            return None
        parts = []
        for index, spec in enumerate(population.spec.connections):
            weight = population.weight(index)
            if weight is not None and spec.kernel == 1:
                chunk = max(1, CHUNK_IMAGES // current.shape[1])
                with torch.no_grad():
                    covariance = temporal_covariance(spec, current, signals[spec.source], chunk)
                parts.append(temporal_variance(weight, covariance))
        return torch.stack(parts).sum(0) if parts else None

    def _observe(self, name: str, spikes: Spikes, activity: Activity, record: bool) -> None:
        timesteps = self.neuron.timesteps
        activity.rates[name] = dynamics.firing_rate(spikes.packed, timesteps)
        if record:
            train = dynamics.unpack(spikes.packed, timesteps)
            activity.spikes[name] = train.permute(1, 0, 4, 2, 3)
