"""What a simulation leads to: its report, and the files of that."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dsr_deploy import files
from dsr_deploy.data.subset import evenly
from dsr_deploy.formats.traces import Traces, to_npz
from dsr_deploy.hardware.chip import Chip
from dsr_deploy.hardware.core_load import CoreLoad
from dsr_deploy.hardware.network import IntegerNetwork
from dsr_deploy.measures import core_load
from dsr_deploy.measures.all import Measures, compute, report_files
from dsr_deploy.measures.measure import Subject
from dsr_deploy.progress import Progress
from dsr_deploy.run import provenance
from dsr_deploy.run.directory import RunDirectory
from dsr_deploy.run.samples import Samples
from dsr_deploy.run.tally import Tally
from dsr_deploy.stages.recording import TRACES

REPORT = "simulate.json"


@dataclass(frozen=True)
class Outcome:
    """What a simulation was of, and how well the network did.

    Attributes
    ----------
    network : its name
    bits : width that its weights were quantized to
    samples, timesteps : number of test samples, and of timesteps of each
    engine : that confirmed the spikes: the event-driven simulator itself, or Lava as well
    accuracy : share of the samples whose class was found; None without labels
    synops, updates : synaptic operations and neuron updates per sample, counted
    made_from : SHA-256 of the exported network
    source : what the samples are, for people
    partial : whether it was stopped before its end
    planned : samples that were to be simulated; None for as many as were
    """

    network: str
    bits: int
    samples: int
    timesteps: int
    engine: str
    accuracy: float | None
    synops: float
    updates: float
    made_from: str
    source: str = field(default="", kw_only=True)
    partial: bool = field(default=False, kw_only=True)
    planned: int | None = field(default=None, kw_only=True)

    @property
    def reached(self) -> str:
        """How far a partial simulation came, for people."""
        return reached(self.samples, self.planned or self.samples)


def reached(done: int, planned: int) -> str:
    """Return how far a simulation came: what follows the samples takes time as well."""
    if done == planned:
        return f"all {planned:,} samples, before its reports were finished"
    return f"{done:,} of {planned:,} samples"


@dataclass(frozen=True)
class SimulationReport(Measures, Outcome):
    """The outcome of a simulation and all measures of it."""


def read_simulated(run: RunDirectory) -> SimulationReport | None:
    """Read the report of a run's simulation; None if it was not simulated.

    Raises
    ------
    UserError
        If the report is damaged.
    """
    if not (run.path / provenance.SIMULATION).exists():
        return None
    return run.read_record(SimulationReport, "reports", REPORT)


@dataclass(frozen=True, eq=False)
class Simulated:
    """A simulation that was done, or stopped.

    Attributes
    ----------
    predictions : the predicted classes, int64 (N,)
    subject : what the report's files are drawn of
    traces : what was recorded, if anything
    """

    report: SimulationReport
    predictions: NDArray[np.int64]
    subject: Subject
    traces: Traces | None = None

    @property
    def content(self) -> dict[str, bytes]:
        """The files of the report by name, drawn when they are asked for."""
        content = report_files(self.report, self.subject)
        if self.traces is not None:
            content[TRACES] = to_npz(self.traces)
        content[REPORT] = files.to_json(dataclasses.asdict(self.report))
        return content


@dataclass(frozen=True, eq=False)
class Work:
    """A network, and the samples that it is simulated on.

    Attributes
    ----------
    digest : SHA-256 of the network's file
    """

    network: IntegerNetwork
    bits: int
    chip: Chip
    digest: str
    samples: Samples

    def loaded(self) -> Samples:
        """Return the samples of which the load of the cores is recorded."""
        return self.samples.part(evenly(len(self.samples), None, core_load.SAMPLES))

    def load(self, some: Samples, threads: int | None, progress: Progress) -> CoreLoad:
        """Record the load of the cores."""
        payloads = (part for part, _ in some.batches())
        return core_load.record(self.network, self.chip, payloads, len(some), threads, progress)

    def result(
        self, counted: Tally, load: CoreLoad, engine: str, traces: Traces | None = None
    ) -> Simulated:
        """Return the report of what was counted."""
        simulation, labels = counted.simulation, self.samples.labels
        done = simulation.samples
        accuracy = None
        if labels is not None:
            accuracy = float((counted.predictions == labels[:done]).mean())
        subject = Subject(self.network, self.bits, self.chip, simulation, load, accuracy)
        updates = sum(population.updates for population in simulation.populations.values())
        report = SimulationReport(
            network=self.network.name,
            bits=self.bits,
            samples=done,
            timesteps=simulation.timesteps,
            engine=engine,
            accuracy=accuracy,
            synops=sum(c.synops for c in simulation.connections) / done,
            updates=updates / done,
            made_from=self.digest,
            source=self.samples.source,
            **compute(subject),
        )
        return Simulated(report, counted.predictions, subject, traces)

    def stopped(self, counted: Tally, threads: int | None, progress: Progress) -> Simulated:
        """Return the report of the samples that were done before Ctrl-C, at least one."""
        done = self.samples.part(np.arange(counted.samples))
        few = done.part(evenly(len(done), None, core_load.AT_ONCE))  # the user waits
        partial = dataclasses.replace(self, samples=done)
        simulated = partial.result(counted, self.load(few, threads, progress), "event")
        report = dataclasses.replace(simulated.report, partial=True, planned=len(self.samples))
        return dataclasses.replace(simulated, report=report)
