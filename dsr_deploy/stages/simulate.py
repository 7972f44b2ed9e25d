"""Run an exported network, event by event, over the test set: what a chip would do with it."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dsr_deploy import files
from dsr_deploy.data.samples import Split
from dsr_deploy.data.subset import evenly, spread, take
from dsr_deploy.engines import load_engine
from dsr_deploy.engines.compare import compare_all
from dsr_deploy.engines.engine import Payloads, Runner
from dsr_deploy.engines.opening import open_exported, open_on_network
from dsr_deploy.errors import UserError
from dsr_deploy.hardware.chip import load_chip
from dsr_deploy.hardware.core_load import CoreLoad
from dsr_deploy.hardware.errors import HardwareError
from dsr_deploy.hardware.event.simulation import Simulation
from dsr_deploy.hardware.event.simulator import Simulator
from dsr_deploy.hardware.format import network_file
from dsr_deploy.hardware.network import IntegerNetwork
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
from dsr_deploy.run.samples import BATCH, check_data, payload_batches
from dsr_deploy.run.trained import describe, keep_place, load_same_data
from dsr_deploy.stages.export import DEFAULT_CHIP, narrowest

Batch = tuple[Payloads, NDArray[np.int64] | None]
"""Payloads and, where they are known, labels."""

ENGINES = ("event", "lava")
PREDICTIONS = "predictions.json"

LAVA_SAMPLES = 20
"""Lava takes a thousand times as long."""


@dataclass(frozen=True)
class Outcome:
    """What a simulation was of, and how well the network did.

    Attributes
    ----------
    network : its name
    bits : width that its weights were quantized to
    samples, timesteps : number of test samples, and of timesteps of each
    engine : that confirmed the spikes: the event-driven simulator itself, or Lava as well
    accuracy : share of the samples whose class was found; NaN without labels, which a run has
    synops, updates : synaptic operations and neuron updates per sample, counted
    made_from : SHA-256 of the exported network
    """

    network: str
    bits: int
    samples: int
    timesteps: int
    engine: str
    accuracy: float
    synops: float
    updates: float
    made_from: str


@dataclass(frozen=True)
class SimulationReport(Measures, Outcome):
    """The outcome of a simulation and all measures of it."""


def simulate(
    run: RunDirectory,
    samples: int | None = None,
    *,
    engine: str = "event",
    threads: int | None = None,
    data_dir: Path | None = None,
    progress: Progress | None = None,
) -> SimulationReport:
    """Simulate the network that ``export --target loihi`` wrote, and write the reports.

    Every prediction is compared with that of the quantized network. Several processes take a share
    of the samples each; every one returns the whole report, the first writes it.

    Parameters
    ----------
    samples : how many, evenly spread over the test set; None for all, with Lava for at most 20
    engine : "event"; "lava" runs them in Lava's runtime as well and compares every spike
    threads : None for as many as there are cores
    data_dir : where the data lie now, if they were moved

    Raises
    ------
    UserError
        If a file is missing or damaged, the data are not those of the network, a prediction or a
        spike differs, or there is no Lava where it was asked for.
    """
    _check(engine, threads)
    with distributed.process_group(torch.device("cpu")) as rank:
        progress = (progress or Silent()) if rank.first else Silent()
        alone = hold(run, "simulate", "reports") if rank.first else contextlib.nullcontext()
        with alone as held:
            distributed.meet()  # the first has put the run in order
            return _simulate_together(run, samples, engine, threads, data_dir, rank, progress, held)


def simulate_network(
    network: IntegerNetwork,
    payloads: Payloads,
    labels: NDArray[np.int64] | None = None,
    *,
    engine: str = "event",
    threads: int | None = None,
    progress: Progress | None = None,
) -> tuple[SimulationReport, NDArray[np.int64]]:
    """Return what ``network`` does with ``payloads``, and the predicted classes, (N,).

    The energy and the cores are those of loihi2. Nothing is written.

    Parameters
    ----------
    labels : (N,); without them the report's accuracy is NaN
    engine, threads : see :func:`simulate`

    Raises
    ------
    UserError
        If a membrane potential leaves its register, a spike differs, or there is no Lava where it
        was asked for.
    """
    _check(engine, threads)
    progress = progress or Silent()
    parts = [slice(start, start + BATCH) for start in range(0, len(payloads), BATCH)]
    stream = ((payloads[part], None if labels is None else labels[part]) for part in parts)
    try:
        simulation, predictions = _simulate(network, stream, len(payloads), threads, progress)
        if engine == "lava":
            runners = {name: open_on_network(name, network) for name in ENGINES}
            _confirm(network, payloads, runners, progress)
        chip = load_chip(DEFAULT_CHIP)
        some = payloads[evenly(len(payloads), None, core_load.SAMPLES)]
        load = core_load.record(network, chip, [some], len(some), threads, progress)
        subject = Subject(network, narrowest(network), chip, simulation, load)
        digest = hashlib.sha256(network_file.to_bytes(network)).hexdigest()
        accuracy = math.nan if labels is None else float((predictions == labels).mean())
        return _report(subject, engine, accuracy, digest), predictions
    except HardwareError as error:
        raise UserError(str(error)) from None


def _check(engine: str, threads: int | None) -> None:
    if threads is not None and threads < 1:
        raise UserError(f"threads must be at least 1, not {threads}")
    if engine not in ENGINES:
        raise UserError(f"engine {engine!r}: choose one of {', '.join(ENGINES)}")
    if obstacle := load_engine(engine).obstacle():
        raise UserError(f"{engine}: {obstacle}")


def _simulate_together(
    run: RunDirectory,
    samples: int | None,
    engine: str,
    threads: int | None,
    data_dir: Path | None,
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
    test, chosen = spread(dataset.test, samples, LAVA_SAMPLES if engine == "lava" else None)
    if threads is None and rank.world > 1:
        threads = max(1, (os.cpu_count() or 1) // rank.local_world)
    share = take(test, np.arange(len(test))[rank.part(len(test))])
    stream = _batches(network, share)
    simulation, predictions = _simulate(network, stream, len(share), threads, progress)
    if engine == "lava" and len(share):
        payloads = np.concatenate([part for part, _ in _batches(network, share)])
        runners = {name: open_exported(name, exported) for name in ENGINES}
        _confirm(network, payloads, runners, progress)
    simulation = functools.reduce(Simulation.merge, distributed.gather(simulation))
    predictions = np.concatenate(distributed.gather(predictions))
    _compare(run, predictions, expected[chosen], chosen)
    accuracy = float((predictions == test.labels.numpy()).mean())
    some = evenly(len(test), None, core_load.SAMPLES)
    mine = take(test, some[rank.part(len(some))])
    recorded = (payloads for payloads, _ in _batches(network, mine))
    load = core_load.record(network, exported.chip, recorded, len(mine), threads, progress)
    load = functools.reduce(CoreLoad.merge, distributed.gather(load))
    subject = Subject(network, exported.bits, exported.chip, simulation, load)
    report = _report(subject, engine, accuracy, exported.digest)
    if held is not None:
        content = report_files(report, subject)
        content["simulate.json"] = files.to_json(dataclasses.asdict(report))
        held.write_stage("reports", content, {provenance.KEY: exported.digest})
    return report


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


def _batches(network: IntegerNetwork, test: Split) -> Iterator[Batch]:
    """Yield the payloads and labels of ``test``, which may be empty."""
    for payloads, labels in payload_batches(network, test) if len(test) else ():
        yield payloads.numpy(), labels.numpy()


def _simulate(
    network: IntegerNetwork,
    stream: Iterable[Batch],
    samples: int,
    threads: int | None,
    progress: Progress,
) -> tuple[Simulation, NDArray[np.int64]]:
    """Return the counts over all batches, of which there may be none, and the predictions, (N,).

    Batches are added up as they come, so that no more is kept of a sample than its prediction.
    """
    simulator = Simulator(network)
    whole = simulator.run(_no_payloads(network)).without_scores()
    predictions, correct = [np.zeros(0, np.int64)], 0
    with progress.task("simulating", samples) as task:
        for payloads, labels in stream:
            part = simulator.run(payloads, threads=threads)
            whole = whole.merge(part.without_scores())
            predictions.append(part.run.predictions)
            text = ""
            if labels is not None:
                correct += int((predictions[-1] == labels).sum())
                text = f"accuracy {correct / whole.samples:.1%}"
            task.advance(len(payloads), text)
    return whole, np.concatenate(predictions)


def _no_payloads(network: IntegerNetwork) -> NDArray[np.int8]:
    frames = (network.timesteps,) if network.input.framed else ()
    return np.zeros((0, *frames, *network.input.shape), np.int8)


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


def _report(subject: Subject, engine: str, accuracy: float, digest: str) -> SimulationReport:
    simulation, samples = subject.simulation, subject.simulation.samples
    updates = sum(population.updates for population in simulation.populations.values())
    return SimulationReport(
        network=subject.network.name,
        bits=subject.bits,
        samples=samples,
        timesteps=simulation.timesteps,
        engine=engine,
        accuracy=accuracy,
        synops=sum(connection.synops for connection in simulation.connections) / samples,
        updates=updates / samples,
        made_from=digest,
        **compute(subject),
    )
