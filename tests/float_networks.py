"""Random trained networks for the tests of what quantization makes of them.

``quantizations()`` is a hypothesis strategy of small float networks that no sane training would
leave behind, with the settings to quantize them by: random acyclic graphs with shortcuts;
BatchNorms with negative, zero, tiny and huge gains and odd statistics; heights and weights over
many orders of magnitude. The graph is drawn by hypothesis and shrinks; the numbers come from a seed
that hypothesis draws.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray

from dsr_deploy.hardware.network import Input, IntegerNetwork
from dsr_deploy.lowering.fold import fold
from dsr_deploy.lowering.quantized_network import QuantizedNetwork
from dsr_deploy.lowering.scale import Granularity
from dsr_deploy.models.network import PopulationModule, SpikingNetwork
from dsr_deploy.models.neuron import Neuron
from dsr_deploy.models.topology import INPUT, ConnectionSpec, PopulationSpec, Shape, Topology

Draw = Callable[[st.SearchStrategy[Any]], Any]

GAINS = (-1e20, -1e6, -2.0, -1e-3, 0.0, 1e-30, 0.5, 3.0, 1e6, 1e20)
SHIFTS = (-1e20, -1e4, -2.0, 0.0, 1e-9, 3.0, 1e5, 1e20)
VARIANCES = (0.0, 1e-12, 1e-3, 50.0, 1e9)
HEIGHTS = (1e-30, 1e-9, 1e-3, 30.0, 1e6, 1e20)
WEIGHT_SCALES = (0.0, 1e-20, 1e-9, 1e-2, 1e3, 1e15)


@dataclass(frozen=True, eq=False)
class Quantization:
    """A trained network and how to quantize it.

    Attributes
    ----------
    payloads : int8 (N, C, H, W), or (N, T, C, H, W) for a framed input, within the input's range
    """

    network: SpikingNetwork
    input: Input
    bits: int
    granularity: Granularity
    wide_ends: bool
    payloads: NDArray[np.int8]

    def model(self) -> QuantizedNetwork:
        """Fold and quantize the network, without fine-tuning."""
        folded = fold(self.network, self.input.step)
        return QuantizedNetwork(
            folded,
            self.network.neuron,
            self.input,
            self.bits,
            self.granularity,
            wide_ends=self.wide_ends,
        )

    def freeze(self, model: QuantizedNetwork) -> IntegerNetwork:
        return model.freeze("random", self.network.shapes, ())


@st.composite
def quantizations(draw: Draw, odd: Sequence[float] = (0.0, 0.1, 0.5)) -> Quantization:
    """Draw a network of 1 to 5 populations, at most 5 x 6 x 6 each, of 1 to 9 timesteps.

    Parameters
    ----------
    odd : possible shares of extreme parameters
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    topology = _topology(draw)
    neuron = Neuron(
        kind=draw(st.sampled_from(["if", "lif"])),
        timesteps=draw(st.integers(1, 9)),
        alpha=draw(st.sampled_from([0.05, 0.3, 0.5, 1.0])),
        v_threshold_min=1e-12,
        tau=draw(st.sampled_from([0.3, 1.0, 40.0])),
    )
    network = SpikingNetwork(topology, neuron).eval()
    share = draw(st.sampled_from(odd))
    for population in network.members():
        fill(population, rng, share)
    channels = topology.input_shape[0]
    low, high = draw(st.sampled_from([(-127, 127), (-128, 127), (-8, 8), (0, 127), (3, 7)]))
    shown = Input(
        topology.input_shape,
        (0.5,) * channels,
        (0.25,) * channels,
        1 / 255,
        draw(st.sampled_from([1 / 32, 1.0, 1e-6])),
        low,
        high,
        draw(st.booleans()),
    )
    frames = (neuron.timesteps,) if shown.framed else ()
    payloads = rng.integers(low, high + 1, (3, *frames, *shown.shape))
    payloads[rng.random(payloads.shape) < 0.1] = high
    return Quantization(
        network,
        shown,
        bits=draw(st.integers(2, 8)),
        granularity=draw(st.sampled_from(["channel", "layer"])),
        wide_ends=draw(st.booleans()),
        payloads=payloads.astype(np.int8),
    )


def _topology(draw: Draw) -> Topology:
    shape = (draw(st.integers(1, 4)), draw(st.integers(1, 6)), draw(st.integers(1, 6)))
    shapes: dict[str, Shape] = {INPUT: shape}
    populations = []
    for i in range(draw(st.integers(0, 4))):
        connections = [_connection(draw, shapes)]
        made = connections[0].output_shape(shapes[connections[0].source])
        for source in draw(st.lists(st.sampled_from(sorted(shapes)), max_size=2)):
            options = _shortcuts(source, shapes[source], made)
            if options:
                connections.append(draw(st.sampled_from(options)))
        name = f"layer{i}"
        populations.append(PopulationSpec(name, tuple(connections), norm=draw(st.booleans())))
        shapes[name] = made
    last = ConnectionSpec(list(shapes)[-1], "linear", draw(st.integers(1, 5)))
    populations.append(PopulationSpec("output", (last,), norm=draw(st.booleans())))
    return Topology("random", shape, tuple(populations))


def _connection(draw: Draw, shapes: dict[str, Shape]) -> ConnectionSpec:
    """Draw the connection that gives the target its shape."""
    names = list(shapes)
    source = draw(st.sampled_from([names[-1], *names]))
    kind = draw(st.sampled_from(["conv", "conv", "linear", "pool", "identity"]))
    channels = draw(st.integers(1, 5))
    own, *size = shapes[source]
    if kind == "linear":
        return ConnectionSpec(source, "linear", channels)
    if kind == "identity":
        return ConnectionSpec(source, "identity")
    sides = [_side(draw, side, kind) for side in size]
    kernel, stride, padding = zip(*sides, strict=True)
    if kind == "pool":
        return ConnectionSpec(source, "pool", 0, kernel, stride, padding)
    groups = draw(st.sampled_from([g for g in range(1, own + 1) if own % g == 0]))
    channels = groups * draw(st.integers(1, max(1, 5 // groups)))
    return ConnectionSpec(source, "conv", channels, kernel, stride, padding, groups)


def _side(draw: Draw, size: int, kind: str) -> tuple[int, int, int]:
    """Draw kernel, stride and padding along one side of an image."""
    padding = draw(st.integers(0, 2))
    kernel = draw(st.integers(1, min(4, size + 2 * padding)))
    # torch pools with a padding of at most half the window
    padding = min(padding, kernel // 2) if kind == "pool" else padding
    if size + 2 * padding < kernel:
        kernel, padding = 1, 0
    return (kernel, draw(st.integers(1, 3)), padding)


def _shortcuts(source: str, shape: Shape, made: Shape) -> list[ConnectionSpec]:
    """Return the further connections that fit a target of shape ``made``."""
    options = [
        ConnectionSpec(source, kind, made[0] if kind == "conv" else 0, kernel, stride, padding)
        for kind in ("conv", "pool")
        for kernel in (1, 2, 3)
        for stride in (1, 2)
        for padding in ((0, 1) if kernel > 1 else (0,))
        if min(shape[1:]) + 2 * padding >= kernel
    ]
    options += [ConnectionSpec(source, "identity"), ConnectionSpec(source, "linear", made[0])]
    return [option for option in options if option.output_shape(shape) == made]


@torch.no_grad()
def fill(population: PopulationModule, rng: np.random.Generator, odd: float = 0.0) -> None:
    """Draw a population's parameters; a share ``odd`` of them is extreme."""

    def draw(usual: NDArray[np.float64], extremes: tuple[float, ...]) -> torch.Tensor:
        extreme = rng.random(usual.shape) < odd
        return torch.from_numpy(np.where(extreme, rng.choice(extremes, usual.shape), usual)).float()

    for weight in population.weights.values():
        scale = draw(np.ones(len(weight)), WEIGHT_SCALES)
        drawn = torch.from_numpy(rng.normal(0, (2 / weight[0].numel()) ** 0.5, weight.shape))
        weight.copy_(drawn * scale.reshape(-1, *[1] * (weight.ndim - 1)))
    population.height.copy_(draw(np.exp(rng.normal(0, 1, ())), HEIGHTS))
    norm = population.norm
    if norm is None:
        return
    channels = len(norm.gamma)
    norm.gamma.copy_(draw(rng.normal(1, 1, channels), GAINS))
    norm.beta.copy_(draw(rng.normal(0.3, 1, channels), SHIFTS))
    norm.running_mean.copy_(draw(rng.normal(0, 0.5, channels), SHIFTS))
    norm.running_variance.copy_(draw(rng.uniform(0.1, 2, channels), VARIANCES))
