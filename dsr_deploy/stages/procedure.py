"""The steps of a simulation, wherever its network and its samples come from.

Ctrl-C keeps what was counted, so that the same command goes on from there to the same result.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dsr_deploy import files
from dsr_deploy.engines.compare import compare_all
from dsr_deploy.engines.engine import Runner
from dsr_deploy.errors import UserError
from dsr_deploy.hardware.core_load import CoreLoad
from dsr_deploy.parallel import distributed
from dsr_deploy.parallel.rank import Rank
from dsr_deploy.progress import Progress
from dsr_deploy.run import stage, tally
from dsr_deploy.run.samples import Samples
from dsr_deploy.run.tally import Tally
from dsr_deploy.stages.counting import ENGINES, Counter, Method, Stopped, count, no_payloads
from dsr_deploy.stages.recording import Recording, record
from dsr_deploy.stages.simulation import Simulated, Work, reached


class Interrupted(KeyboardInterrupt):
    """Ctrl-C stopped a simulation; the message says what was done, and what goes on.

    Attributes
    ----------
    simulated : the samples that were done; None if there are none, or Ctrl-C came once more
    """

    def __init__(self, message: str, simulated: Simulated | None = None) -> None:
        super().__init__(message)
        self.simulated = simulated


@dataclass(frozen=True)
class Unfinished:
    """The file of what was counted before Ctrl-C.

    Attributes
    ----------
    write : writes it, completely or not at all
    """

    path: Path
    write: Callable[[Path, bytes], None]

    def keep(self, work: Work, counted: Tally) -> None:
        """Write what was counted."""
        of = tally.origin(work.digest, work.samples)
        self.write(self.path, tally.to_bytes(counted, of))

    def read(self, work: Work, counter: Counter) -> Tally:
        """Return what was counted.

        Raises
        ------
        UserError
            If nothing was, or it is of another network or other samples.
        """
        if not self.path.exists():
            raise UserError(
                f"{self.path}: not there, so no simulation was stopped here; simulate without "
                "--resume"
            )
        data = files.read_bytes(self.path, stage.MAX_FILE)
        of = tally.origin(work.digest, work.samples)
        empty = counter(no_payloads(work.network)).without_scores()
        return tally.from_bytes(data, str(self.path), of, empty)


@dataclass(frozen=True, eq=False)
class Procedure:
    """A simulation, and what its results are checked by and go to.

    Attributes
    ----------
    open_engine : opens an engine for the comparison of every spike, by its name
    check : raises UserError if a prediction is not what it must be
    publish : writes the results, whole or partial
    unfinished : where a simulation that is stopped is kept; None if it is not
    resume : go on from there
    """

    work: Work
    method: Method
    open_engine: Callable[[str], Runner]
    recording: Recording | None = None
    check: Callable[[Tally], None] = lambda counted: None
    publish: Callable[[Simulated], None] = lambda simulated: None
    unfinished: Unfinished | None = None
    resume: bool = False

    def carry_out(self, rank: Rank, progress: Progress) -> Simulated:
        """Simulate, check and publish; several processes take a share of the samples each.

        Raises
        ------
        UserError
            If a spike or a prediction differs, something cannot be written, or there is nothing
            to resume.
        Interrupted
            At Ctrl-C, after what was counted is kept and published as a partial result.
        """
        work, counted = self.work, None
        if self.recording is not None:
            self.recording.check(work.network, work.samples)
        counter = self.method.counter(work.network, progress)
        begun = None
        if self.resume and self.unfinished is not None:
            begun = self.unfinished.read(work, counter)
        try:
            share = work.samples.part(_part(work.samples, rank))
            counted = count(work.network, counter, share, progress, begun)
            return self._finish(counted, share, rank, progress)
        except KeyboardInterrupt as stop:
            if rank.world > 1:
                raise
            done = stop.tally if isinstance(stop, Stopped) else counted
            raise self._interrupted(done, progress) from None

    def _finish(self, counted: Tally, share: Samples, rank: Rank, progress: Progress) -> Simulated:
        work, threads = self.work, self.method.threads
        if self.method.engine == "lava" and len(share):
            self._confirm(share, progress)
        counted = functools.reduce(Tally.merge, distributed.gather(counted))
        self.check(counted)
        some = work.loaded()
        load = work.load(some.part(_part(some, rank)), threads, progress)
        load = functools.reduce(CoreLoad.merge, distributed.gather(load))
        traces = None
        if self.recording is not None and rank.first:
            traces = record(work.network, work.samples, self.recording, threads, progress)
            self.recording.write(traces, work.network)
        simulated = work.result(counted, load, self.method.engine, traces)
        self.publish(simulated)
        if self.unfinished is not None:
            self.unfinished.path.unlink(missing_ok=True)
        return simulated

    def _confirm(self, share: Samples, progress: Progress) -> None:
        """Raise UserError if Lava makes other spikes than the event-driven simulator."""
        runners = {name: self.open_engine(name) for name in ENGINES}
        verification = compare_all(self.work.network, share.payloads(), runners, progress)
        if not verification.agreed:
            raise UserError(verification.disagreement)

    def _interrupted(self, done: Tally | None, progress: Progress) -> Interrupted:
        if done is None or not done.samples:
            return Interrupted("stopped before the first samples were done")
        message = f"stopped after {reached(done.samples, len(self.work.samples))}; "
        if self.unfinished is None:
            message += "nothing of it is kept"
        else:
            self.unfinished.keep(self.work, done)
            message += "the same command with --resume goes on from there"
        try:
            self.check(done)
            simulated = self.work.stopped(done, self.method.threads, progress)
            self.publish(simulated)
        except KeyboardInterrupt:  # once more; what was counted is kept
            return Interrupted(message)
        return Interrupted(message, simulated)


def _part(samples: Samples, rank: Rank) -> np.ndarray:
    """Return the places of the samples that this process takes."""
    return np.arange(len(samples))[rank.part(len(samples))]
