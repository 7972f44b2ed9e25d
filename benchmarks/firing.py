"""Integer networks of the shapes people train, of random weights, that fire at a given rate."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from untrained import pictures

from dsr_deploy.engines.torch import FLOAT_EXACT_FIRE, TorchEngine, Train
from dsr_deploy.hardware.event import kernels
from dsr_deploy.hardware.event.layers import prepare
from dsr_deploy.hardware.event.worker import Worker
from dsr_deploy.hardware.network import DECAY_ONE, INPUT, IntegerNetwork, Population
from dsr_deploy.models import dynamics
from dsr_deploy.models.neuron import Neuron

STEPS = 12
"""Halvings of the interval in which a population's threshold lies, from 2**-6 to 2**6 times."""

BARE_SAMPLES = 2


def neuron(kind: str, timesteps: int) -> Neuron:
    """Return the neuron of a network, "if" or "lif"."""
    if kind == "if":
        return Neuron("if", timesteps, alpha=0.5, v_threshold_min=1e-3)
    return Neuron("lif", timesteps, alpha=0.3, v_threshold_min=1e-3, tau=1.0, dt=0.05)


@torch.no_grad()
def with_rate(network: IntegerNetwork, rate: float, samples: int = 2) -> IntegerNetwork:
    """Return the network with thresholds at which every population fires at ``rate``.

    Populations are set one after the other, from the input on, each in what the ones before send.
    """
    engine = TorchEngine(network)
    frames = torch.from_numpy(pictures(samples))[None]
    trains = {INPUT: Train(payloads=frames)}
    weights = torch.ones(network.timesteps)
    populations: list[Population] = []
    for population, ours in zip(network.populations, engine.populations, strict=True):
        sources = [trains[c.source] for c in ours.connections]
        steps = 1 if all(source.constant for source in sources) else network.timesteps
        channels, height, width = population.shape
        current = torch.zeros((steps, samples, height, width, channels), dtype=engine.dtype)
        for connection, source in zip(ours.connections, sources, strict=True):
            connection.add_to(current, source)

        def fired(factor: float, population: Population = population, current=current,
                  bias=ours.bias) -> tuple[Population, torch.Tensor, float]:  # fmt: skip
            scaled = _scaled(population, factor)
            fire, threshold = (
                torch.from_numpy(x.astype(np.float64)).clamp(-FLOAT_EXACT_FIRE, FLOAT_EXACT_FIRE)
                for x in (scaled.v_fire, scaled.v_threshold)
            )
            keep = (DECAY_ONE - population.decay) / DECAY_ONE
            packed, _, _ = dynamics.fire_integer(current, bias, fire, threshold, keep, weights)
            spikes = float(dynamics.spike_counts(packed).sum())
            return scaled, packed, spikes / (samples * network.timesteps * population.size)

        low, high = -6.0, 6.0
        for _ in range(STEPS):
            middle = (low + high) / 2
            low, high = (middle, high) if fired(2**middle)[2] > rate else (low, middle)
        scaled, packed, _ = fired(2**high)
        populations.append(scaled)
        trains[population.name] = Train(packed=packed)
    return replace(network, populations=tuple(populations))


def _scaled(population: Population, factor: float) -> Population:
    fire, threshold = (
        np.rint(x * factor).clip(1, 2**22).astype(np.int32)
        for x in (population.v_fire, population.v_threshold)
    )
    return replace(population, v_fire=fire, v_threshold=threshold)


def time_kernels(network: IntegerNetwork, payloads: NDArray[np.int8]) -> float:
    """Return the seconds per sample of the simulator's kernels alone, in one thread.

    A sample is simulated, and then what each population received is sent once more: scattered, and
    the neurons advanced, in one compiled call per population. What the simulator does besides,
    between the populations and between the samples, is left out.
    """
    worker = Worker(network, [prepare(network, population) for population in network.populations])
    seconds = 0.0
    for sample in range(len(payloads)):
        worker.run(payloads, [sample], None)
        for state in worker.states.values():
            arrays = (state.wirings, state.sources, state.neurons, state.sent)
            _send_again(0, *arrays)
            started = time.perf_counter()
            _send_again(network.timesteps, *arrays)
            seconds += time.perf_counter() - started
    return seconds / len(payloads)


@njit(nogil=True)  # type: ignore[misc, unused-ignore]
def _send_again(steps: int, wirings: Any, sources: Any, neurons: Any, sent: Any) -> None:
    total = neurons.total.reshape(-1)
    neurons.v[:] = 0
    for row in range(steps):
        for i in range(len(wirings)):
            source = sources[i]
            kernels.scatter(
                wirings[i], source.starts[row], source.channels[row], source.payloads[row], total
            )
        kernels.advance(neurons, sent.starts[row], sent.channels[row])
