"""A spiking network: a topology with weights, trained at the level of representations."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn

from dsr_deploy.models import dynamics
from dsr_deploy.models.batchnorm import BatchStatistics, TimeBatchNorm
from dsr_deploy.models.currents import Precision, add_currents
from dsr_deploy.models.neuron import Neuron
from dsr_deploy.models.representation import Incoming, MeanInput, represent, temporal_covariance
from dsr_deploy.models.signals import Pixels, Signal, Spikes, drop
from dsr_deploy.models.topology import INPUT, PopulationSpec, Topology, TopologyError


class PopulationModule(nn.Module):
    """The weights of a population's connections, its BatchNorm and the height of its spikes."""

    def __init__(self, spec: PopulationSpec, shapes: dict[str, tuple[int, int, int]]) -> None:
        super().__init__()
        self.spec = spec
        self.weights = nn.ParameterDict()
        for index, connection in enumerate(spec.connections):
            shape = connection.weight_shape(shapes[connection.source])
            if shape is not None:
                self.weights[str(index)] = nn.Parameter(torch.empty(shape))
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
        self.precision: Precision = "fp32"
        self._workspace: Tensor | None = None
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

    def release_workspace(self) -> None:
        """Free the memory of the currents; the next forward pass takes it anew."""
        self._workspace = None

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
            return Pixels(pixels[None], pixels, pixels)
        weights = torch.tensor(self.neuron.weights, device=pixels.device, dtype=pixels.dtype)
        weighted = torch.einsum("ntchw,t->nchw", pixels, weights)
        return Pixels(pixels.transpose(0, 1), weighted, pixels.mean(1))

    @torch.no_grad()
    def _current(self, population: PopulationModule, signals: dict[str, Signal]) -> Tensor:
        """Return the summed currents, float32 (T, N, H, W, C), T = 1 if all are constant.

        They lie in one piece of memory that the next population uses again.
        """
        sources = [signals[c.source] for c in population.spec.connections]
        constant = all(isinstance(s, Pixels) and s.constant for s in sources)
        steps = 1 if constant else self.neuron.timesteps
        first = sources[0].representation
        channels, height, width = self.shapes[population.spec.name]
        shape = (steps, len(first), height, width, channels)
        size = math.prod(shape)
        if (
            self._workspace is None
            or self._workspace.device != first.device
            or len(self._workspace) < size
        ):
            self._workspace = torch.empty(size, device=first.device)
        total = self._workspace[:size].view(shape)
        for index, (spec, signal) in enumerate(
            zip(population.spec.connections, sources, strict=True)
        ):
            weight = population.weight(index)
            add_currents(total, spec, signal, weight, self.precision, fresh=index == 0)
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
        learns = torch.is_grad_enabled()
        with torch.no_grad():
            mean, total, square = dynamics.moments(current, neuron)
            stats = None
            if norm is not None:
                count = current.numel() // current.shape[-1]
                stats = (
                    norm.batch_statistics(total, square, count)
                    if self.training
                    else norm.running_statistics()
                )
            scale, shift = _affine(norm, stats, current)
            if before_firing is not None:
                before_firing(population, (mean * scale + shift).permute(0, 3, 1, 2))
            height = population.height.detach()
            v_threshold = height / neuron.height_per_threshold
            packed, rate = dynamics.fire(current, scale, shift, v_threshold, neuron)
            value = (rate * height).permute(0, 3, 1, 2)
            plain = None  # for IF the same, and without a backward pass nobody asks
            if neuron.kind == "lif" and learns:
                plain = dynamics.spike_counts(packed) * (height / neuron.timesteps)
                plain = plain.permute(0, 3, 1, 2)
        if learns:
            value = represent(
                value,
                population.height,
                self._mean_input(current, mean, stats),
                norm,
                self._incoming(population, current, signals),
                neuron,
                self.precision,
            )
        return Spikes(packed, height, value, value if plain is None else plain)

    @torch.no_grad()
    def _mean_input(
        self, current: Tensor, mean: Tensor, stats: BatchStatistics | None
    ) -> MeanInput:
        weighted = mean.permute(0, 3, 1, 2)
        if stats is None:
            return MeanInput(weighted, weighted, None)
        normalised = stats.normalise(weighted)
        plain = normalised
        if self.neuron.kind == "lif" and len(current) > 1:
            plain = stats.normalise(current.mean(0).permute(0, 3, 1, 2))
        return MeanInput(normalised, plain, stats.inverse_std, of_batch=self.training)

    @torch.no_grad()
    def _incoming(
        self, population: PopulationModule, current: Tensor, signals: dict[str, Signal]
    ) -> list[Incoming]:
        fluctuates = self.training and population.norm is not None and len(current) > 1
        incoming = []
        for index, spec in enumerate(population.spec.connections):
            signal, weight = signals[spec.source], population.weight(index)
            covariance = None
            if fluctuates and weight is not None:
                covariance = temporal_covariance(spec, current, signal, weight)
            incoming.append(Incoming(spec, signal, weight, covariance))
        return incoming

    def _observe(self, name: str, spikes: Spikes, activity: Activity, record: bool) -> None:
        timesteps = self.neuron.timesteps
        activity.rates[name] = dynamics.firing_rate(spikes.packed, timesteps)
        if record:
            train = dynamics.unpack(spikes.packed, timesteps)
            activity.spikes[name] = train.permute(1, 0, 4, 2, 3)


def _affine(
    norm: TimeBatchNorm | None, stats: BatchStatistics | None, current: Tensor
) -> tuple[Tensor, Tensor]:
    """Return scale and shift of the currents, float32 (C,)."""
    if norm is None or stats is None:
        ones = torch.ones(current.shape[-1], device=current.device)
        return ones, torch.zeros_like(ones)
    return norm.affine(stats)
