"""The integer network in torch: whole numbers carried in floats, at the speed of convolutions.

Float32 holds every integer below 2**24, so a convolution of integer weights with spikes is exact in
it, in any order of summation, as long as its partial sums stay below; where they might
not, float64 is used. TF32 and reduced precision are switched off, and a convolution on random
integers is checked once per device before its results are believed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dsr_deploy.engines.engine import Engine, Runner, same_network
from dsr_deploy.errors import UserError
from dsr_deploy.formats.loihi import NETWORK_FILE
from dsr_deploy.hardware import bounds
from dsr_deploy.hardware.encoding import check_payloads
from dsr_deploy.hardware.format import network_file
from dsr_deploy.hardware.geometry import Geometry, Shape
from dsr_deploy.hardware.network import (
    DECAY_ONE,
    INPUT,
    Connection,
    IntegerNetwork,
    Population,
)
from dsr_deploy.hardware.register import check_register
from dsr_deploy.hardware.run import Run, read_scores
from dsr_deploy.models import dynamics, int8_convolution
from dsr_deploy.models.currents import chunks
from dsr_deploy.models.int8_convolution import Int8Convolution

FLOAT_EXACT_FIRE = 1 << 30


class DeviceError(UserError):
    """A device does not add integers exactly."""


@dataclass(frozen=True, eq=False)
class TorchConnection:
    """A connection whose weights are whole numbers in a float tensor."""

    source: str
    geometry: Geometry
    weight: Tensor
    exponent: int

    def __call__(self, sent: Tensor) -> Tensor:
        """Return what the targets receive of ``sent``, (N, C, H, W)."""
        g = self.geometry
        if g.kind == "conv":
            current = F.conv2d(sent, self.weight, None, g.stride, g.padding, 1, g.groups)
        elif g.kind == "linear":
            current = F.linear(sent.flatten(1), self.weight)[:, :, None, None]
        else:
            if g.kind == "pool":
                high, wide = g.padding
                sent = F.pad(sent, (wide, wide, high, high))
                sent = F.avg_pool2d(sent, g.kernel, g.stride, divisor_override=1)
            current = sent * self.weight[:, None, None]
        return current * float(1 << self.exponent)

    def add_to(self, total: Tensor, source: Train) -> None:
        """Add what the targets receive at every timestep to ``total``, (T, N, H, W, C)."""
        if source.constant:
            total.add_(self(source.steps(0, 1, total.dtype)).permute(0, 2, 3, 1))
            return
        convolution = self._in_bytes(source, total)
        dtype = total.dtype if convolution is None else torch.uint8
        size = _samples(source) * math.prod(source.shape)
        for part, sent in chunks(total, size, lambda first, n: source.steps(first, n, dtype)):
            if convolution is None:
                part.add_(self(sent))
            else:
                flat = sent.flatten(1)[:, :, None, None] if self.geometry.kind == "linear" else sent
                convolution.add_to(part, flat)

    def _in_bytes(self, source: Train, total: Tensor) -> Int8Convolution | None:
        """Return the same connection on bytes: as exact, and faster; None where it is not."""
        if (
            source.packed is None
            or self.geometry.kind not in ("conv", "linear")
            or total.dtype != torch.float32
            or total.device.type != "cpu"
            or not int8_convolution.is_fast()
        ):
            return None
        weight = self.weight.to(torch.int8)
        weight = weight[:, :, None, None] if self.geometry.kind == "linear" else weight
        scale = torch.full((len(weight),), float(1 << self.exponent))
        g = self.geometry
        return Int8Convolution(weight, scale, g.stride, g.padding, g.groups)


@dataclass(frozen=True, eq=False)
class TorchPopulation:
    """A population's parameters as float64 tensors (C,), and its connections."""

    name: str
    bias: Tensor
    v_fire: Tensor
    v_threshold: Tensor
    decay: int
    connections: tuple[TorchConnection, ...]


@dataclass(frozen=True, eq=False)
class Train:
    """What a source sends: packed spikes, or payloads (T or 1, N, C, H, W)."""

    packed: Tensor | None = None
    payloads: Tensor | None = None

    @property
    def shape(self) -> Shape:
        """Return (C, H, W) of a sample at one timestep."""
        if self.packed is not None:
            _, _, height, width, channels = self.packed.shape
            return (channels, height, width)
        assert self.payloads is not None
        channels, height, width = self.payloads.shape[2:]
        return (channels, height, width)

    @property
    def constant(self) -> bool:
        return self.payloads is not None and len(self.payloads) == 1

    def steps(self, first: int, count: int, dtype: torch.dtype) -> Tensor:
        """Return (count * N, C, H, W), channels last in memory."""
        if self.packed is not None:
            out = dynamics.expand(self.packed, first, count, dtype)
            return out.flatten(0, 1).permute(0, 3, 1, 2)
        assert self.payloads is not None
        part = self.payloads[first : first + count].flatten(0, 1).to(dtype)
        return part.contiguous(memory_format=torch.channels_last)


class Advanced(NamedTuple):
    """What one population did over all timesteps.

    Attributes
    ----------
    packed : its spikes, uint8 (ceil(T / 8), N, H, W, C)
    rate : float32 (N, H, W, C)
    low, high : extremes of the membrane potential before the reset
    """

    packed: Tensor
    rate: Tensor
    low: int
    high: int


@torch.no_grad()
def advance(
    population: TorchPopulation, trains: dict[str, Train], weights: Tensor, dtype: torch.dtype
) -> Advanced:
    """Run one population over all timesteps.

    Parameters
    ----------
    trains : what each source sends
    weights : float32 (T,), of the rate
    dtype : float32 or float64, that of the convolutions

    Raises
    ------
    RegisterError
        If a membrane potential leaves 24 bits.
    """
    sources = [trains[connection.source] for connection in population.connections]
    steps = 1 if all(source.constant for source in sources) else len(weights)
    channels, height, width = population.connections[0].geometry.output_shape(sources[0].shape)
    current = torch.zeros(
        (steps, _samples(sources[0]), height, width, channels), dtype=dtype, device=weights.device
    )
    for connection, source in zip(population.connections, sources, strict=True):
        connection.add_to(current, source)
    packed, rate, (least, most) = dynamics.fire_integer(
        current,
        population.bias,
        population.v_fire.clamp(-FLOAT_EXACT_FIRE, FLOAT_EXACT_FIRE),
        population.v_threshold,
        (DECAY_ONE - population.decay) / DECAY_ONE,
        weights,
    )
    check_register(population.name, least, most)
    return Advanced(packed, rate, least, most)


class TorchEngine:
    """Run an integer network in torch."""

    def __init__(self, network: IntegerNetwork, device: torch.device | str = "cpu") -> None:
        self.network, self.device = network, torch.device(device)
        self.dtype = torch.float32 if _exact_in_float32(network) else torch.float64
        check_exact(self.device, self.dtype)
        self.populations = [
            _population(population, list(network.incoming(population)), self.dtype, self.device)
            for population in network.populations
        ]
        self._last_use = {c.source: c.target for c in network.connections}

    def run(
        self,
        payloads: NDArray[np.int8],
        *,
        record: bool = False,
        counts: dict[str, Tensor] | None = None,
    ) -> Run:
        """Run on int8 payloads, as :func:`dsr_deploy.hardware.reference.run` does.

        Parameters
        ----------
        counts : receives how often each neuron spiked, added to what is there: by population,
            int64 (H, W, C)

        Raises
        ------
        PayloadError
            If the payloads do not fit the input.
        RegisterError
            If a membrane potential leaves 24 bits.
        """
        timesteps = self.network.timesteps
        spikes = {}
        for name, done in self.advance_all(payloads):
            if counts is not None:
                spiked = dynamics.spike_counts(done.packed).sum(0)
                counts[name] = counts.get(name, 0) + spiked
            if record:
                train = dynamics.unpack(done.packed, timesteps).permute(1, 0, 4, 2, 3)
                spikes[name] = train.cpu().numpy()
        return Run(self.scores(done.packed), spikes if record else None)

    def advance_all(self, payloads: NDArray[np.int8]) -> Iterator[tuple[str, Advanced]]:
        """Yield what each population does, by name, in order of evaluation, the output last.

        No more is kept than later populations need. Raises as :meth:`run`.
        """
        network = self.network
        check_payloads(network, payloads)
        frames = torch.from_numpy(payloads).to(self.device)
        frames = frames.transpose(0, 1) if network.input.framed else frames[None]
        trains = {INPUT: Train(payloads=frames)}
        weights = torch.ones(network.timesteps, device=self.device)
        for population in self.populations:
            done = advance(population, trains, weights, self.dtype)
            trains[population.name] = Train(packed=done.packed)
            yield population.name, done
            for connection in population.connections:
                if self._last_use[connection.source] == population.name:
                    trains.pop(connection.source, None)

    def scores(self, packed: Tensor) -> NDArray[np.int64]:
        """Return the scores of the output's spikes, int64 (N, classes)."""
        out = dynamics.unpack(packed, self.network.timesteps).permute(1, 0, 4, 2, 3)
        return read_scores(self.network.readout, out.cpu().numpy())


@cache
def check_exact(device: torch.device, dtype: torch.dtype = torch.float32) -> None:
    """Make sure, once, that convolutions of ``dtype`` on ``device`` add integers exactly.

    Raises
    ------
    DeviceError
        If they do not.
    """
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    generator = torch.Generator().manual_seed(0)
    for channels, size in ((16, 8), (64, 16), (256, 4)):
        sent = (torch.rand(4, channels, size, size, generator=generator) < 0.5).double()
        weight = torch.randint(-127, 128, (channels, channels, 3, 3), generator=generator).double()
        found = F.conv2d(sent.to(device, dtype), weight.to(device, dtype), padding=1)
        if not torch.equal(found.cpu().double(), F.conv2d(sent, weight, padding=1)):
            name = str(dtype).removeprefix("torch.")
            raise DeviceError(
                f"device '{device}': its {name} convolutions do not add integers exactly; "
                "use the device cpu"
            )


def _population(
    population: Population, incoming: list[Connection], dtype: torch.dtype, device: torch.device
) -> TorchPopulation:
    def tensor(array: NDArray[np.generic], kind: torch.dtype) -> Tensor:
        return torch.from_numpy(array.astype(np.float64)).to(device, kind)

    return TorchPopulation(
        population.name,
        tensor(population.bias, torch.float64),
        tensor(population.v_fire, torch.float64),
        tensor(population.v_threshold, torch.float64),
        population.decay,
        tuple(
            TorchConnection(c.source, c.geometry, tensor(c.weight, dtype), c.exponent)
            for c in incoming
        ),
    )


def _exact_in_float32(network: IntegerNetwork) -> bool:
    """Whether no sum of connections can reach 2**24 in magnitude."""
    for population in network.populations:
        total = np.zeros(population.shape[0], np.int64)
        for connection in network.incoming(population):
            payloads = bounds.payload_range(connection, network.input)
            total += bounds.partial_sum_bound(connection, payloads) << connection.exponent
        if total.max() >= bounds.FLOAT32_EXACT:
            return False
    return True


def _samples(train: Train) -> int:
    tensor = train.packed if train.packed is not None else train.payloads
    assert tensor is not None
    return tensor.shape[1]


def _open(network: IntegerNetwork, content: Mapping[str, bytes], where: str) -> Runner:
    quantized = network_file.from_bytes(content[NETWORK_FILE], where)
    engine = TorchEngine(same_network(quantized, network, where))
    return lambda payloads: engine.run(payloads, record=True)


ENGINE: Final = Engine(None, _open)
