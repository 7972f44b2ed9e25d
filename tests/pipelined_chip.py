"""A pipelined chip, clock step by clock step: the oracle of schedules."""

from __future__ import annotations

from collections import deque
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from dsr_deploy.hardware import reference
from dsr_deploy.hardware.encoding import check_payloads
from dsr_deploy.hardware.network import INPUT, IntegerNetwork
from dsr_deploy.hardware.run import Run, read_scores

Int64 = NDArray[np.int64]
DelayLine: TypeAlias = "deque[Int64]"


def run_scheduled(
    network: IntegerNetwork, payloads: NDArray[np.int8], *, record: bool = False
) -> Run:
    """Run ``network`` clock step by clock step, as a pipelined chip does.

    The start steps and delays are taken as they stand. In each clock step every population
    updates from what arrives, all in parallel. A population is active for T clock steps from its
    start on: before, its membrane potential is 0, no bias acts and what arrives is lost;
    afterwards it is silent. For a scheduled network the result equals
    :func:`dsr_deploy.hardware.reference.run`.

    Parameters
    ----------
    payloads : int8, (N, C, H, W), or (N, T, C, H, W) for a framed input
    record : keep every spike of every population

    Returns
    -------
    Scores and spikes, where timestep t of a population is its clock step start + t.

    Raises
    ------
    PayloadError
        If the payloads do not fit the input.
    RegisterError
        If a membrane potential leaves 24 bits.
    """
    check_payloads(network, payloads)
    samples, timesteps = payloads.shape[0], network.timesteps
    v = {p.name: np.zeros((samples, *p.shape), np.int64) for p in network.populations}
    lines = [_silent_line(samples, network.shapes[c.source], c.delay) for c in network.connections]
    spikes = {
        p.name: np.zeros((samples, timesteps, *p.shape), np.bool_) for p in network.populations
    }
    for clock in range(max(p.start for p in network.populations) + timesteps):
        arriving = [line.popleft() for line in lines]
        sent = {
            name: np.zeros((samples, *shape), np.int64) for name, shape in network.shapes.items()
        }
        if clock < timesteps:
            sent[INPUT] += payloads[:, clock] if network.input.framed else payloads
        for population in network.populations:
            t = clock - population.start
            if not 0 <= t < timesteps:
                continue
            name = population.name
            current = population.bias.astype(np.int64)[:, None, None]
            for connection, arrived in zip(network.connections, arriving, strict=True):
                if connection.target == name:
                    summed = reference.transmit(connection, arrived)
                    current = current + (summed << connection.exponent)
            v[name], spikes[name][:, t] = reference.step(population, v[name], current)
            sent[name] += spikes[name][:, t]
        for connection, line in zip(network.connections, lines, strict=True):
            line.append(sent[connection.source])
    scores = read_scores(network.readout, spikes[network.output.name])
    return Run(scores, spikes if record else None)


def _silent_line(samples: int, shape: tuple[int, int, int], delay: int) -> DelayLine:
    """Return the spikes under way on a connection before the first clock step: none."""
    return deque([np.zeros((samples, *shape), np.int64)] * (delay + 1))
