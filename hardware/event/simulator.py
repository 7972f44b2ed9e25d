"""The event-driven simulator: the integer network at the speed of its spikes.

It gives the spikes of :mod:`dsr_deploy.hardware.reference` for every network, on any number of
threads, and counts what a chip would do. Samples are independent: each thread takes a part of
them, and keeps one set of state arrays however many there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from dsr_deploy.hardware.encoding import check_payloads
from dsr_deploy.hardware.event import kernels
from dsr_deploy.hardware.event.layers import Layer, Link, prepare
from dsr_deploy.hardware.event.simulation import ConnectionCounts, PopulationCounts, Simulation
from dsr_deploy.hardware.network import DECAY_ONE, INPUT, IntegerNetwork
from dsr_deploy.hardware.register import check_register
from dsr_deploy.hardware.run import Run, read_scores

Int8 = NDArray[np.int8]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]


class Events(NamedTuple):
    """What a source sends at one timestep; see :mod:`dsr_deploy.hardware.event.kernels`."""

    starts: Int32
    channels: Int32
    payloads: Int8

    @property
    def number(self) -> int:
        return int(self.starts[-1])

    def carried(self, link: Link) -> int:
        """Count those that ``link`` carries: of source neurons that have a target in it."""
        if link.reached is None:
            return self.number
        return int(np.diff(self.starts)[link.reached].sum())


class Simulator:
    """An integer network, prepared for event-driven runs.

    Preparation transposes the weights once and proves, from the weights alone, which width of
    accumulator (16, 32 or 64 bits) no sum of each population can leave.
    """

    def __init__(self, network: IntegerNetwork) -> None:
        self.network = network
        self._layers = tuple(prepare(network, population) for population in network.populations)

    def run(
        self, payloads: Int8, *, record: bool = False, threads: int | None = None
    ) -> Simulation:
        """Simulate N samples.

        Parameters
        ----------
        payloads : int8, (N, C, H, W), or (N, T, C, H, W) for a framed input
        record : keep every spike of every population
        threads : how many samples at a time; None for as many as numba would use

        Raises
        ------
        PayloadError
            If the payloads do not fit the input.
        RegisterError
            If a membrane potential leaves 24 bits; the error is that of the earliest sample.
        """
        check_payloads(self.network, payloads)
        samples = len(payloads)
        spikes = None
        if record:
            steps = (samples, self.network.timesteps)
            spikes = {p.name: np.zeros((*steps, *p.shape), bool) for p in self.network.populations}
        workers = max(1, min(samples, threads or numba.get_num_threads()))
        parts = np.array_split(np.arange(samples), workers)
        with ThreadPoolExecutor(workers) as pool:
            jobs = [
                pool.submit(
                    _Worker(self.network, self._layers).run, payloads, part.tolist(), spikes
                )
                for part in parts
            ]
        whole = jobs[0].result()
        for job in jobs[1:]:
            whole = whole.merge(job.result())
        return replace(whole, run=Run(whole.run.scores, spikes))


class _State:
    """The changing arrays of one population in one thread; channels last."""

    def __init__(self, layer: Layer, timesteps: int) -> None:
        population = layer.population
        channels, height, width = population.shape
        pixels = height * width
        self.v = np.zeros((pixels, channels), np.int64)
        self.total = np.zeros((pixels, channels), layer.total_dtype)
        self.bias = population.bias.astype(np.int64)[None, :]
        self.constant = np.zeros((pixels if layer.held else 1, channels), np.int64)
        self.v_fire = population.v_fire.astype(np.int64)
        self.v_threshold = population.v_threshold.astype(np.int64)
        self.fired = np.zeros((pixels, channels), np.bool_)
        self.events = Events(
            np.zeros(pixels + 1, np.int32),
            np.zeros(pixels * channels, np.int32),
            np.ones(pixels * channels, np.int8),
        )
        self.counts = np.zeros((pixels, channels), np.int64)
        self.per_timestep = np.zeros(timesteps, np.int64)
        self.u_min, self.u_max = 0, 0


class _Worker:
    """Simulates some samples, one after the other, in one thread."""

    def __init__(self, network: IntegerNetwork, layers: Sequence[Layer]) -> None:
        self.network = network
        self.layers = layers

    def run(
        self, payloads: Int8, samples: Sequence[int], spikes: dict[str, NDArray[np.bool_]] | None
    ) -> Simulation:
        """Simulate ``payloads[samples]``; write their spikes into ``spikes`` if it is given."""
        network = self.network
        self.states = {
            layer.population.name: _State(layer, network.timesteps) for layer in self.layers
        }
        self.events = [0] * len(network.connections)
        self.synops = [0] * len(network.connections)
        self.input_events = 0
        output = np.zeros((len(samples), network.timesteps, *network.output.shape), np.bool_)
        for slot, sample in enumerate(samples):
            frame = self._begin(payloads[sample])
            for t in range(network.timesteps):
                if network.input.framed:
                    frame = _input_events(payloads[sample, t])
                self.input_events += frame.number
                for layer in self.layers:
                    state = self._step(layer, frame, f"timestep {t} of sample {sample}")
                    state.per_timestep[t] += state.events.number
                    if spikes is not None:
                        name = layer.population.name
                        _, height, width = layer.population.shape
                        fired = state.fired.reshape(height, width, -1)
                        spikes[name][sample, t] = fired.transpose(2, 0, 1)
                output[slot, t, :, 0, 0] = self.states[network.output.name].fired[0]
        return self._result(read_scores(network.readout, output))

    def _begin(self, payload: Int8) -> Events:
        """Clear the membrane potentials and compute the current of an image that never changes."""
        timesteps = self.network.timesteps
        image = None if self.network.input.framed else _input_events(payload)
        for layer in self.layers:
            state = self.states[layer.population.name]
            state.v[:] = 0
            state.constant[:] = state.bias
            for link in layer.held:
                assert image is not None, "only a constant image is held"
                synops = kernels.scatter(
                    *image, link.weight, state.constant.reshape(-1), link.window
                )
                self.events[link.index] += timesteps * image.carried(link)
                self.synops[link.index] += timesteps * synops
        return image or _input_events(payload[0])

    def _step(self, layer: Layer, frame: Events, when: str) -> _State:
        """Advance one population by one timestep."""
        population = layer.population
        state = self.states[population.name]
        for link in layer.links:
            sent = frame if link.source == INPUT else self.states[link.source].events
            self.events[link.index] += sent.carried(link)
            self.synops[link.index] += kernels.scatter(
                *sent, link.weight, state.total.reshape(-1), link.window
            )
        low, high = kernels.advance(
            state.v,
            state.total,
            layer.exponent,
            state.constant,
            state.v_fire,
            state.v_threshold,
            DECAY_ONE - population.decay,
            state.fired,
        )
        check_register(population.name, int(low), int(high), when)
        state.u_min = min(state.u_min, int(low))
        state.u_max = max(state.u_max, int(high))
        kernels.collect(state.fired, state.events.starts, state.events.channels, state.counts)
        return state

    def _result(self, scores: Int64) -> Simulation:
        """Return what was counted, channels first again."""
        populations = {}
        for layer in self.layers:
            population = layer.population
            state = self.states[population.name]
            _, height, width = population.shape
            counts = state.counts.reshape(height, width, -1).transpose(2, 0, 1)
            populations[population.name] = PopulationCounts(
                spikes=np.ascontiguousarray(counts),
                per_timestep=state.per_timestep,
                updates=population.size * self.network.timesteps * len(scores),
                u_min=state.u_min,
                u_max=state.u_max,
            )
        connections = tuple(
            ConnectionCounts(*counts) for counts in zip(self.events, self.synops, strict=True)
        )
        return Simulation(
            samples=len(scores),
            run=Run(scores),
            populations=populations,
            connections=connections,
            input_events=self.input_events,
            timesteps=self.network.timesteps,
        )


def _input_events(payload: Int8) -> Events:
    """List the payloads other than zero of one frame, int8 (C, H, W)."""
    by_pixel = payload.reshape(len(payload), -1).T
    pixels, channels = np.nonzero(by_pixel)
    starts = np.zeros(len(by_pixel) + 1, np.int32)
    np.cumsum(np.bincount(pixels, minlength=len(by_pixel)), out=starts[1:])
    return Events(starts, channels.astype(np.int32), by_pixel[pixels, channels])
