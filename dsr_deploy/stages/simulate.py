"""Run an exported network, event by event, over the test set: what a chip would do with it."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dsr_deploy import files
from dsr_deploy.data.subset import evenly
from dsr_deploy.engines import load_engine
from dsr_deploy.engines.compare import compare_all
from dsr_deploy.engines.engine import Payloads, Runner
from dsr_deploy.engines.opening import open_exported, open_on_network
from dsr_deploy.errors import UserError
from dsr_deploy.formats.traces import Traces, to_npz
from dsr_deploy.hardware.chip import Chip, check_chip, load_chip
from dsr_deploy.hardware.core_load import CoreLoad
from dsr_deploy.hardware.errors import HardwareError
from dsr_deploy.hardware.format import network_file
from dsr_deploy.hardware.network import IntegerNetwork
from dsr_deploy.hardware.schedule import schedule
from dsr_deploy.measures import core_load
from dsr_deploy.measures.all import Measures, compute, report_files
from dsr_deploy.measures.measure import Subject
from dsr_deploy.parallel import distributed
from dsr_deploy.parallel.rank import Rank
from dsr_deploy.progress import Progress, Silent
from dsr_deploy.run import provenance
from dsr_deploy.run.directory import RunDirectory
from dsr_deploy.run.exported import PLACE, read_exported
from dsr_deploy.run.hold import Held, hold
from dsr_deploy.run.samples import Samples, check_data, of_test_set
from dsr_deploy.run.trained import describe, keep_place, load_same_data
from dsr_deploy.stages.counting import Tally, count, event_counter
from dsr_deploy.stages.export import DEFAULT_CHIP, narrowest
from dsr_deploy.stages.recording import TRACES, Recording, record

ENGINES = ("event", "lava")
PREDICTIONS = "predictions.json"
REPORT = "simulate.json"

LAVA_SAMPLES = 20
"""Lava takes a thousand times as long."""


@dataclass(frozen=True)
class Method:
    """How samples are simulated; no count depends on it.

    Attributes
    ----------
    engine : "event"; "lava" runs the samples in Lava's runtime as well and compares every spike
    threads : None for as many as there are cores
    """

    engine: str = "event"
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise UserError(f"threads must be at least 1, not {self.threads}")
        if self.engine not in ENGINES:
            raise UserError(f"engine {self.engine!r}: choose one of {', '.join(ENGINES)}")
        if obstacle := load_engine(self.engine).obstacle():
            raise UserError(f"{self.engine}: {obstacle}")

    @property
    def most(self) -> int | None:
        """Samples of a test set that are taken unless there is a number; None for all."""
        return LAVA_SAMPLES if self.engine == "lava" else None


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


@dataclass(frozen=True)
class SimulationReport(Measures, Outcome):
    """The outcome of a simulation and all measures of it."""


@dataclass(frozen=True, eq=False)
class Simulated:
    """A simulation of a network without a run.

    Attributes
    ----------
    predictions : the predicted classes, int64 (N,)
    subject : what the report's files are drawn of
    traces : what was recorded, if anything
    """

    report: SimulationReport
    predictions: NDArray[np.int64]
    subject: Subject
    traces: Traces | None

    @property
    def content(self) -> dict[str, bytes]:
        """The files of the report by name, drawn when they are asked for."""
        return _content(self.report, self.subject, self.traces)


def simulate(
    run: RunDirectory,
    samples: int | None = None,
    *,
    engine: str = "event",
    threads: int | None = None,
    data_dir: Path | None = None,
    recording: Recording | None = None,
    progress: Progress | None = None,
) -> SimulationReport:
    """Simulate the network that ``export --target loihi`` wrote, and write the reports.

    Every prediction is compared with that of the quantized network. Several processes take a share
    of the samples each; every one returns the whole report, the first writes it.

    Parameters
    ----------
    samples : how many, evenly spread over the test set; None for all, with Lava for at most 20
    engine, threads : see :class:`Method`
    data_dir : where the data lie now, if they were moved
    recording : traces to write as well

    Raises
    ------
    UserError
        If a file is missing or damaged, the data are not those of the network, a prediction or a
        spike differs, or there is no Lava where it was asked for.
    """
    method = Method(engine, threads)
    with distributed.process_group(torch.device("cpu")) as rank:
        progress = (progress or Silent()) if rank.first else Silent()
        alone = hold(run, "simulate", "reports") if rank.first else contextlib.nullcontext()
        with alone as held:
            distributed.meet()  # the first has put the run in order
            return _simulate_together(
                run, samples, method, data_dir, recording, rank, progress, held
            )


def simulate_network(
    network: IntegerNetwork,
    samples: Samples,
    method: Method,
    *,
    chip: str | None = None,
    digest: str | None = None,
    recording: Recording | None = None,
    progress: Progress | None = None,
) -> Simulated:
    """Return what ``network`` does with ``samples``; nothing else than a recording is written.

    Parameters
    ----------
    chip : for the cores, name of a profile or path of a YAML file; None is loihi2
    digest : SHA-256 of the network's file; None for the one that it would have
    recording : traces to return as well, and to write if it has a path

    Raises
    ------
    UserError
        If a membrane potential leaves its register, a spike differs, or the chip cannot run the
        network.
    """
    progress = progress or Silent()
    try:
        profile = _chip_for(network, chip)
        if recording is not None:
            recording.check(network, samples)
        tally = count(network, event_counter(network, method.threads), samples, progress)
        if method.engine == "lava":
            runners = {name: open_on_network(name, network) for name in ENGINES}
            _confirm(network, samples.payloads(), runners, progress)
        load = _load(network, profile, _some(samples), method.threads, progress)
        subject = Subject(network, narrowest(network), profile, tally.simulation, load)
        digest = digest or hashlib.sha256(network_file.to_bytes(network)).hexdigest()
        report = _report(subject, samples, tally.predictions, method.engine, digest)
        traces = _traces(network, samples, recording, method.threads, progress)
        return Simulated(report, tally.predictions, subject, traces)
    except HardwareError as error:
        raise UserError(str(error)) from None


def _chip_for(network: IntegerNetwork, name: str | None) -> Chip:
    """Return a chip; one that was chosen must be able to run the network."""
    chip = load_chip(name or DEFAULT_CHIP)
    if name is not None:
        check_chip(schedule(network), chip)
    return chip


def _simulate_together(
    run: RunDirectory,
    samples: int | None,
    method: Method,
    data_dir: Path | None,
    recording: Recording | None,
    rank: Rank,
    progress: Progress,
    held: Held | None,
) -> SimulationReport:
    exported = read_exported(run)
    network = exported.network
    with distributed.leader_first(rank):
        dataset = load_same_data(describe(run), progress, data_dir)
    check_data(network, dataset)
    if held is not None:
        held.check()
        keep_place(run, data_dir)
    provenance.tell(run, PLACE, progress)
    expected = _quantized_predictions(run, exported.bits, len(dataset.test))
    chosen = of_test_set(network, dataset, samples, method.most)
    if recording is not None:
        recording.check(network, chosen)
    share = chosen.part(np.arange(len(chosen))[rank.part(len(chosen))])
    threads = _threads(method, rank)
    counter = event_counter(network, threads)
    tally = count(network, counter, share, progress)
    if method.engine == "lava" and len(share):
        runners = {name: open_exported(name, exported) for name in ENGINES}
        _confirm(network, share.payloads(), runners, progress)
    tally = functools.reduce(_merge, distributed.gather(tally))
    _compare(run, tally.predictions, expected[chosen.numbers], chosen.numbers)
    some = _some(chosen)
    mine = some.part(np.arange(len(some))[rank.part(len(some))])
    load = _load(network, exported.chip, mine, threads, progress)
    load = functools.reduce(CoreLoad.merge, distributed.gather(load))
    subject = Subject(network, exported.bits, exported.chip, tally.simulation, load)
    report = _report(subject, chosen, tally.predictions, method.engine, exported.digest)
    if held is not None:
        traces = _traces(network, chosen, recording, method.threads, progress)
        content = _content(report, subject, traces)
        held.write_stage("reports", content, {provenance.KEY: exported.digest})
    return report


def _traces(
    network: IntegerNetwork,
    samples: Samples,
    recording: Recording | None,
    threads: int | None,
    progress: Progress,
) -> Traces | None:
    """Record traces, and write them where they are asked for."""
    if recording is None:
        return None
    traces = record(network, samples, recording, threads, progress)
    recording.write(traces, network)
    return traces


def _some(samples: Samples) -> Samples:
    """Return the samples of which the load of the cores is recorded."""
    return samples.part(evenly(len(samples), None, core_load.SAMPLES))


def _load(
    network: IntegerNetwork, chip: Chip, some: Samples, threads: int | None, progress: Progress
) -> CoreLoad:
    payloads = (part for part, _ in some.batches())
    return core_load.record(network, chip, payloads, len(some), threads, progress)


def _threads(method: Method, rank: Rank) -> int | None:
    """Return the threads of this process, of several on one machine."""
    if method.threads is not None or rank.world == 1:
        return method.threads
    return max(1, (os.cpu_count() or 1) // rank.local_world)


def _merge(first: Tally, second: Tally) -> Tally:
    return Tally(
        first.simulation.merge(second.simulation),
        np.concatenate([first.predictions, second.predictions]),
    )


def _content(report: SimulationReport, subject: Subject, traces: Traces | None) -> dict[str, bytes]:
    """Return the files of a report, by name."""
    content = report_files(report, subject)
    if traces is not None:
        content[TRACES] = to_npz(traces)
    content[REPORT] = files.to_json(dataclasses.asdict(report))
    return content


def _quantized_predictions(run: RunDirectory, bits: int, samples: int) -> NDArray[np.int64]:
    """Return the quantized network's predictions over the test set, (N,)."""
    quantized = run.read(f"quantized-{bits}", PREDICTIONS)
    predictions = np.array(quantized.json(PREDICTIONS))
    if predictions.shape != (samples,) or predictions.dtype != np.int64:
        quantize, export = run.command(f"quantize --bits {bits}"), run.command("export")
        raise UserError(
            f"{quantized.folder / PREDICTIONS}: {predictions.size} predictions for a test set of "
            f"{samples} samples; run `{quantize}` and `{export}` again"
        )
    return predictions


def _confirm(
    network: IntegerNetwork,
    payloads: Payloads,
    runners: Mapping[str, Runner],
    progress: Progress,
) -> None:
    """Raise UserError if Lava makes other spikes than the event-driven simulator."""
    verification = compare_all(network, payloads, runners, progress)
    if not verification.agreed:
        raise UserError(verification.disagreement)


def _compare(
    run: RunDirectory,
    found: NDArray[np.int64],
    expected: NDArray[np.int64],
    samples: NDArray[np.int64],
) -> None:
    different = np.flatnonzero(found != expected)
    if len(different):
        first = different[0]
        raise UserError(
            f"test sample {samples[first]}: the simulator predicts class {found[first]}, the "
            f"quantized network predicted {expected[first]}; {len(different)} of {len(found)} "
            "predictions differ: export again if the network was quantized since, and let "
            f"`{run.command('verify')}` name the first spike that differs"
        )


def _report(
    subject: Subject,
    samples: Samples,
    predictions: NDArray[np.int64],
    engine: str,
    digest: str,
) -> SimulationReport:
    simulation = subject.simulation
    updates = sum(population.updates for population in simulation.populations.values())
    labels = samples.labels
    return SimulationReport(
        network=subject.network.name,
        bits=subject.bits,
        samples=simulation.samples,
        timesteps=simulation.timesteps,
        engine=engine,
        accuracy=None if labels is None else float((predictions == labels).mean()),
        synops=sum(c.synops for c in simulation.connections) / simulation.samples,
        updates=updates / simulation.samples,
        made_from=digest,
        source=samples.source,
        **compute(subject),
    )
