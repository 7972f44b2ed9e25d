"""One thread of the event-driven simulator, and its arrays.

A thread runs one population after the other through a block, which is some samples of a few
timesteps or some timesteps of one sample: the weights stay in the cache, and the events of a block
are all that is kept of it, whatever T and the number of samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from dsr_deploy.hardware.errors import RegisterError
from dsr_deploy.hardware.event import kernels
from dsr_deploy.hardware.event.arrays import WORD, Events, Neurons, Wiring
from dsr_deploy.hardware.event.layers import Layer, Link, filled
from dsr_deploy.hardware.event.simulation import ConnectionCounts, PopulationCounts, Simulation
from dsr_deploy.hardware.geometry import Shape
from dsr_deploy.hardware.network import DECAY_ONE, INPUT, IntegerNetwork
from dsr_deploy.hardware.register import check_register
from dsr_deploy.hardware.run import Run, read_scores

Int8 = NDArray[np.int8]
Int64 = NDArray[np.int64]
Spikes = dict[str, NDArray[np.bool_]]
Item = TypeVar("Item")

BLOCK: Final = 32
"""Timesteps, of all its samples together, of a block at most."""

_MOST_COUNTED: Final = int(np.iinfo(np.uint16).max)

_SILENT: Final = Wiring(
    weight=np.zeros(0, np.int8),
    wide=np.zeros(0, np.int32),
    rows=np.zeros((0, 3), np.int32),
    columns=np.zeros((0, 3), np.int32),
    fan=np.zeros(0, np.int32),
    channel=0, line=0, stride=1, target_line=0, target_pixel=0, fan_in=1, per_group=1, groups=1,
    chunk=1, narrow=True,
)  # fmt: skip
"""No connection."""


class Worker:
    """Simulates samples, one after the other."""

    def __init__(self, network: IntegerNetwork, layers: Sequence[Layer]) -> None:
        self.network = network
        self._block = min(BLOCK, network.timesteps)
        self._samples = BLOCK // self._block
        rows = self._block * self._samples
        index = _index_type(network)
        shape = network.input.shape
        frames = rows if network.input.framed else self._samples
        self._input = _events(shape, frames, index, payloads=True)
        self.states: dict[str, State] = {}
        for layer in layers:
            sent = {name: state.sent for name, state in self.states.items()} | {INPUT: self._input}
            self.states[layer.population.name] = State(layer, sent, rows, index)

    def run(self, payloads: Int8, samples: Sequence[int], spikes: Spikes | None) -> Simulation:
        """Simulate ``payloads[samples]``; write their spikes into ``spikes`` if it is given."""
        network = self.network
        self._input_events = 0
        for state in self.states.values():
            state.clear(network.timesteps)
        output = np.zeros((len(samples), network.timesteps, *network.output.shape), np.bool_)
        for first in range(0, len(samples), self._samples):
            slots = range(first, min(first + self._samples, len(samples)))
            group = [samples[slot] for slot in slots]
            try:
                self._run_group(payloads, group, spikes, output[first:], self._block)
            except RegisterError:
                # Another population may leave its register earlier in the order of evaluation.
                for sample in group:
                    self._run_group(payloads, [sample], None, output[first:], 1)
                raise
        return self._result(read_scores(network.readout, output))

    def _run_group(
        self,
        payloads: Int8,
        samples: Sequence[int],
        spikes: Spikes | None,
        output: NDArray[np.bool_],
        block: int,
    ) -> None:
        """Run some samples, from the first timestep to the last in blocks."""
        network = self.network
        for first in range(0, network.timesteps, block):
            times = range(first, min(first + block, network.timesteps))
            self._enter(payloads, samples, times)
            for name, state in self.states.items():
                low, high = state.run(len(samples), times)
                check_register(name, low, high, _moment(samples, times))
                if spikes is not None:
                    state.unpack(spikes[name][samples[0] : samples[-1] + 1], times)
            self.states[network.output.name].unpack(output[: len(samples)], times)

    def _enter(self, payloads: Int8, samples: Sequence[int], times: range) -> None:
        """List the events of what is shown to the samples."""
        framed = self.network.input.framed
        if not framed and times[0]:
            return  # the image is held
        shown = [(s, t) for s in samples for t in times] if framed else [(s,) for s in samples]
        for row, place in enumerate(shown):
            frame = payloads[place]
            kernels.pack(
                frame.reshape(len(frame), -1),
                self._input.starts[row],
                self._input.channels[row],
                self._input.payloads[row],
            )
            events = int(self._input.starts[row, -1])
            self._input_events += events if framed else events * self.network.timesteps

    def _result(self, scores: Int64) -> Simulation:
        """Return what was counted, channels first again."""
        timesteps = self.network.timesteps
        connections = [ConnectionCounts(0, 0)] * len(self.network.connections)
        for state in self.states.values():
            for link, counts in state.connections(timesteps):
                connections[link.index] = counts
        return Simulation(
            samples=len(scores),
            run=Run(scores),
            populations={
                name: state.population(timesteps * len(scores))
                for name, state in self.states.items()
            },
            connections=tuple(connections),
            input_events=self._input_events,
            timesteps=timesteps,
        )


class State:
    """One population in one thread."""

    def __init__(
        self, layer: Layer, sent: dict[str, Events], rows: int, index: type[np.integer[Any]]
    ) -> None:
        self.layer = layer
        self.neurons = _neurons(layer)
        self.sent = _events(layer.population.shape, rows, index)
        self.held = _filled([link.wiring for link in layer.held], 2, _SILENT)
        self.wirings = _filled([link.wiring for link in layer.links], 4, _SILENT)
        # A silent wire reads nothing of its source.
        self.sources = _filled([sent[link.source] for link in layer.links], 4, self.sent)
        self.image = sent[INPUT]
        self.clear(0)

    def clear(self, timesteps: int) -> None:
        """Forget what was counted."""
        self.neurons.counts[:] = 0
        self._counted_steps = 0
        self._spikes = np.zeros(len(self.neurons.counts), np.int64)
        self._counted = np.zeros((len(self.held) + len(self.wirings), 2), np.int64)
        self._per_timestep = np.zeros(timesteps, np.int64)
        self._extremes = (0, 0)

    def run(self, samples: int, times: range) -> tuple[int, int]:
        """Run a block; return the extremes of the potential before the reset."""
        rows = samples * len(times)
        if self._counted_steps + rows > _MOST_COUNTED:
            self._widen_counts()
        self._counted_steps += rows
        low, high = kernels.run(
            samples, len(times), times[0] == 0, self.held, self.image, self.wirings,
            self.sources, self.neurons, self.sent, self._counted,
        )  # fmt: skip
        self._extremes = min(low, self._extremes[0]), max(high, self._extremes[1])
        number = self.sent.starts[:rows, -1].reshape(samples, -1)
        self._per_timestep[times.start : times.stop] += number.sum(axis=0)
        return low, high

    def unpack(self, spikes: NDArray[np.bool_], times: range) -> None:
        """Write the spikes of a block into ``spikes``, (samples, T, C, H, W)."""
        rows = iter(range(len(spikes) * len(times)))
        for sample in spikes:
            for moment in sample[times.start : times.stop]:
                row = next(rows)
                flags = moment.reshape(len(moment), -1)
                kernels.unpack(self.sent.starts[row], self.sent.channels[row], flags)

    def connections(self, timesteps: int) -> list[tuple[Link, ConnectionCounts]]:
        """Return what each connection carried; an image is delivered at every timestep."""
        held = self._counted[: len(self.layer.held)] * timesteps
        sent = self._counted[len(self.held) :]
        rows = [*held.tolist(), *sent.tolist()]
        links = (*self.layer.held, *self.layer.links)
        return [(link, ConnectionCounts(*row)) for link, row in zip(links, rows, strict=False)]

    def population(self, moments: int) -> PopulationCounts:
        """Return what the neurons did in all samples and timesteps, of which there are so many."""
        self._widen_counts()
        channels, height, width = self.layer.population.shape
        spikes = self._spikes.reshape(height, width, -1)[:, :, :channels].transpose(2, 0, 1)
        return PopulationCounts(
            spikes=np.ascontiguousarray(spikes),
            per_timestep=self._per_timestep,
            updates=self.layer.population.size * moments,
            u_min=self._extremes[0],
            u_max=self._extremes[1],
        )

    def _widen_counts(self) -> None:
        self._spikes += self.neurons.counts
        self.neurons.counts[:] = 0
        self._counted_steps = 0


def _filled(items: list[Item], least: int, item: Item) -> tuple[Item, ...]:
    """Fill up with ``item`` to a power of two: the kernel is compiled for every length."""
    length = least
    while length < len(items):
        length *= 2
    return (*items, *[item] * (length - len(items)))


def _neurons(layer: Layer) -> Neurons:
    """Return the arrays of a population."""
    population, width, pixels = layer.population, layer.width, layer.pixels_of_chunk
    channels = population.shape[0]
    chunk = pixels * width
    chunks = population.size // channels // pixels

    def parameter(values: NDArray[np.int32], fill: int) -> NDArray[Any]:
        padded = np.pad(values, (0, width - channels), constant_values=fill)
        return np.tile(padded.astype(layer.v_dtype), pixels)

    bias = parameter(population.bias, 0)
    return Neurons(
        v=np.zeros((chunks, chunk), layer.v_dtype),
        total=np.zeros((chunks, chunk), layer.total_dtype),
        constant=np.tile(bias, (chunks if layer.held else 1, 1)),
        bias=bias,
        v_fire=parameter(population.v_fire, int(np.iinfo(np.int32).max)),
        v_threshold=parameter(population.v_threshold, 1),
        counts=np.zeros(chunks * chunk, np.uint16),
        bits=np.zeros(chunk // 8 + WORD, np.uint8),
        held_exponent=layer.held_exponent,
        exponent=layer.exponent,
        keep=DECAY_ONE - population.decay,
        width=width,
        holds=bool(layer.held),
    )


def _events(
    shape: Shape, rows: int, index: type[np.integer[Any]], *, payloads: bool = False
) -> Events:
    """Return room for what a source of ``shape`` sends in ``rows`` moments."""
    channels, height, width = shape
    neurons = filled(channels) * height * width
    return Events(
        # Not cleared: what is never written takes no memory.
        starts=np.zeros((rows, height * width + 1), np.int32),
        channels=np.empty((rows, neurons), index),
        payloads=np.empty((rows, neurons if payloads else 0), np.int8),
    )


def _index_type(network: IntegerNetwork) -> type[np.integer[Any]]:
    """Return the narrowest type that numbers the channels of every source."""
    most = max(filled(shape[0]) for shape in network.shapes.values())
    return np.uint16 if most <= np.iinfo(np.uint16).max else np.int32


def _moment(samples: Sequence[int], times: range) -> str:
    return f"timestep {times[0]} of sample {samples[0]}"
