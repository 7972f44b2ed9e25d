"""The event-driven simulator: the integer network at the speed of its spikes.

It gives the spikes of :mod:`dsr_deploy.hardware.reference` for every network, on any number of
threads, and counts what a chip would do. Samples are independent: each thread takes a part of
them, and keeps one set of state arrays however many there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numba
import numpy as np
from numpy.typing import NDArray

from dsr_deploy.compiled import is_compiled
from dsr_deploy.hardware.encoding import check_payloads
from dsr_deploy.hardware.event import kernels
from dsr_deploy.hardware.event.layers import prepare
from dsr_deploy.hardware.event.simulation import Simulation
from dsr_deploy.hardware.event.worker import Worker
from dsr_deploy.hardware.network import IntegerNetwork
from dsr_deploy.hardware.run import Run


class Simulator:
    """An integer network, prepared for event-driven runs.

    Preparation transposes the weights once and proves, from the weights alone, which width of
    accumulator (16, 32 or 64 bits) no sum of each population can leave, and which width of
    potential (32 or 64 bits).
    """

    def __init__(self, network: IntegerNetwork) -> None:
        self.network = network
        self._layers = tuple(prepare(network, population) for population in network.populations)
        self._idle: list[Worker] = []

    @property
    def is_compiled(self) -> bool:
        """Whether the kernels were compiled on this machine before; else it takes a while."""
        return is_compiled(kernels.run)

    def run(
        self, payloads: NDArray[np.int8], *, record: bool = False, threads: int | None = None
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
            jobs = [pool.submit(self._part, payloads, part.tolist(), spikes) for part in parts]
        whole = jobs[0].result()
        for job in jobs[1:]:
            whole = whole.merge(job.result())
        return replace(whole, run=Run(whole.run.scores, spikes))

    def _part(
        self,
        payloads: NDArray[np.int8],
        samples: Sequence[int],
        spikes: dict[str, NDArray[np.bool_]] | None,
    ) -> Simulation:
        """Simulate some samples with the arrays of a worker that has nothing to do."""
        try:
            worker = self._idle.pop()
        except IndexError:
            worker = Worker(self.network, self._layers)
        simulation = worker.run(payloads, samples, spikes)
        self._idle.append(worker)
        return simulation
