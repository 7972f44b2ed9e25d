"""Simulating samples batch by batch, in memory that does not grow with their number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dsr_deploy.engines import load_engine
from dsr_deploy.engines.engine import Payloads
from dsr_deploy.errors import UserError
from dsr_deploy.hardware.event.simulation import Simulation
from dsr_deploy.hardware.event.simulator import Simulator
from dsr_deploy.hardware.network import IntegerNetwork
from dsr_deploy.progress import Progress
from dsr_deploy.run.config import check_type
from dsr_deploy.run.samples import Samples
from dsr_deploy.run.tally import Tally
from dsr_deploy.training.device import resolve_device

Counter = Callable[[Payloads], Simulation]
"""Simulates one network on payloads, of which there may be none."""

ENGINES = ("event", "lava")

LAVA_SAMPLES = 20
"""Lava takes a thousand times as long."""


@dataclass(frozen=True)
class Method:
    """How samples are simulated; no count depends on it.

    Attributes
    ----------
    engine : "event"; "lava" runs the samples in Lava's runtime as well and compares every spike
    threads : of the event-driven simulator; None for as many as there are cores
    device : "cpu", "cuda", "cuda:N" or "auto", on which torch counts in place of the event-driven
        simulator; None for that one
    """

    engine: str = "event"
    threads: int | None = None
    device: str | None = None

    def __post_init__(self) -> None:
        if self.threads is not None:
            check_type("threads", self.threads, int)
            if self.threads < 1:
                raise UserError(f"threads must be at least 1, not {self.threads}")
        if self.engine not in ENGINES:
            raise UserError(f"engine {self.engine!r}: choose one of {', '.join(ENGINES)}")
        if obstacle := load_engine(self.engine).obstacle():
            raise UserError(f"{self.engine}: {obstacle}")
        if self.device is not None:
            resolve_device(self.device)

    @property
    def most(self) -> int | None:
        """Samples of a test set that are taken unless there is a number; None for all."""
        return LAVA_SAMPLES if self.engine == "lava" else None

    def counter(self, network: IntegerNetwork, progress: Progress) -> Counter:
        """Return what counts; say so if it must be compiled first.

        Raises
        ------
        UserError
            If the device has no room for the network, or does not add integers exactly.
        """
        if self.device is None:
            simulator = Simulator(network)
            if not simulator.is_compiled:
                progress.note("compiling the simulator for this machine, once: about 20 seconds")
            return lambda payloads: simulator.run(payloads, threads=self.threads)
        from dsr_deploy.engines.torch_counts import TorchCounter  # takes long to import

        return TorchCounter(network, resolve_device(self.device)).run


class Stopped(KeyboardInterrupt):
    """Ctrl-C came in the middle of counting.

    Attributes
    ----------
    tally : what was counted before
    """

    def __init__(self, tally: Tally) -> None:
        super().__init__()
        self.tally = tally


def count(
    network: IntegerNetwork,
    counter: Counter,
    samples: Samples,
    progress: Progress,
    begun: Tally | None = None,
) -> Tally:
    """Return the counts over all samples, of which there may be none.

    Batches are added up as they come, so that no more is kept of a sample than its prediction.

    Parameters
    ----------
    begun : of the first of these samples, which are then not simulated again

    Raises
    ------
    Stopped
        At Ctrl-C.
    """
    whole = counter(no_payloads(network)).without_scores() if begun is None else begun.simulation
    predictions = np.zeros(len(samples), np.int64)
    if begun is not None:
        predictions[: begun.samples] = begun.predictions
    try:
        with progress.task("simulating", len(samples)) as task:
            if whole.samples:
                task.advance(whole.samples)
            rest = samples.part(np.arange(whole.samples, len(samples)))
            for payloads, _ in rest.batches():
                part = counter(payloads)
                done = whole.samples + len(payloads)
                predictions[whole.samples : done] = part.run.predictions
                whole = whole.merge(part.without_scores())  # whole at any moment
                task.advance(len(payloads), _accuracy(samples, predictions[:done]))
    except KeyboardInterrupt:
        raise Stopped(Tally(whole, predictions[: whole.samples].copy())) from None
    return Tally(whole, predictions)


def _accuracy(samples: Samples, predictions: np.ndarray) -> str:
    if samples.labels is None:
        return ""
    return f"accuracy {(predictions == samples.labels[: len(predictions)]).mean():.1%}"


def no_payloads(network: IntegerNetwork) -> Payloads:
    """Return the payloads of no sample."""
    frames = (network.timesteps,) if network.input.framed else ()
    return np.zeros((0, *frames, *network.input.shape), np.int8)
