"""Simulating samples batch by batch, in memory that does not grow with their number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsr_deploy.engines.engine import Payloads
from dsr_deploy.hardware.event.simulation import Simulation
from dsr_deploy.hardware.event.simulator import Simulator
from dsr_deploy.hardware.network import IntegerNetwork
from dsr_deploy.progress import Progress
from dsr_deploy.run.samples import Samples

Counter = Callable[[Payloads], Simulation]
"""Simulates one network on payloads, of which there may be none."""


@dataclass(frozen=True, eq=False)
class Tally:
    """What was counted of the first samples.

    Attributes
    ----------
    simulation : the counts alone
    predictions : the predicted classes, int64 (n,)
    """

    simulation: Simulation
    predictions: NDArray[np.int64]

    @property
    def samples(self) -> int:
        return self.simulation.samples


def event_counter(network: IntegerNetwork, threads: int | None) -> Counter:
    """Return the event-driven simulator of ``network``."""
    simulator = Simulator(network)
    return lambda payloads: simulator.run(payloads, threads=threads)


def count(network: IntegerNetwork, counter: Counter, samples: Samples, progress: Progress) -> Tally:
    """Return the counts over all samples, of which there may be none.

    Batches are added up as they come, so that no more is kept of a sample than its prediction.
    """
    whole = counter(no_payloads(network)).without_scores()
    predictions = np.zeros(len(samples), np.int64)
    correct = 0
    with progress.task("simulating", len(samples)) as task:
        for payloads, labels in samples.batches():
            part = counter(payloads)
            start = whole.samples
            predictions[start : start + len(payloads)] = part.run.predictions
            whole = whole.merge(part.without_scores())
            text = ""
            if labels is not None:
                correct += int((part.run.predictions == labels).sum())
                text = f"accuracy {correct / whole.samples:.1%}"
            task.advance(len(payloads), text)
    return Tally(whole, predictions)


def no_payloads(network: IntegerNetwork) -> Payloads:
    """Return the payloads of no sample."""
    frames = (network.timesteps,) if network.input.framed else ()
    return np.zeros((0, *frames, *network.input.shape), np.int8)
