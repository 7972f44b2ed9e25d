"""Run an exported network, event by event, over the test set: what a chip would do with it."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dsr_deploy import files, verify
from dsr_deploy.data.batches import Batches, batches
from dsr_deploy.data.dataset import Dataset, Split, TensorSplit
from dsr_deploy.engines.lava import require_python310
from dsr_deploy.engines.opening import Exported, open_engine
from dsr_deploy.errors import UserError
from dsr_deploy.hardware import bounds, network_file
from dsr_deploy.hardware.bounds import MembraneRange
from dsr_deploy.hardware.chip import Chip, parse_chip
from dsr_deploy.hardware.errors import NetworkError, ProfileError
from dsr_deploy.hardware.network import V_MAX, V_MIN, IntegerNetwork
from dsr_deploy.hardware.simulation import PopulationCounts, Simulation
from dsr_deploy.hardware.simulator import Simulator
from dsr_deploy.measures import energy, sparsity
from dsr_deploy.measures.chip_use import ChipUse, chip_use
from dsr_deploy.measures.energy import EnergyLine
from dsr_deploy.measures.sparsity import Sparsity
from dsr_deploy.parallel import distributed
from dsr_deploy.parallel.rank import Rank
from dsr_deploy.progress import Progress, Silent
from dsr_deploy.run import provenance, stage
from dsr_deploy.run.directory import RunDirectory
from dsr_deploy.run.hold import Held, hold
from dsr_deploy.run.stage import Stage
from dsr_deploy.run.trained import RESTORE, check_same_data, describe, keep_place, load_same_data

ENGINES = ("event", "lava")
EXPORTED = "export/loihi"
NETWORK = "network.safetensors"
PREDICTIONS = "predictions.json"

LAVA_SAMPLES = 20
"""Lava takes a thousand times as long."""

BATCH = 32
"""Samples between two movements of the progress bar; the result does not depend on it."""


@dataclass(frozen=True)
class LayerRange:
    """Membrane potentials of a layer before the reset: what was seen, and what is possible.

    ``proven_low`` and ``proven_high`` hold for any input whatever; ``register_used`` is the share
    of the 24-bit register that they take, 0 to 1.
    """

    name: str
    seen_low: int
    seen_high: int
    proven_low: int
    proven_high: int
    register_used: float


@dataclass(frozen=True)
class SimulationReport:
    """What a simulation showed.

    Attributes
    ----------
    network : its name
    bits : width that its weights were quantized to
    samples, timesteps : what was simulated
    engine : that confirmed the spikes: the event-driven simulator itself, or Lava as well
    accuracy : share of the samples whose class was found
    synops, updates : synaptic operations and neuron updates per sample, counted
    energy : of the spiking network under each set of constants, and of a conventional one
    chip : what the network takes of the chip that it was exported for
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
    sparsity: Sparsity
    energy: tuple[EnergyLine, ...]
    ranges: tuple[LayerRange, ...]
    chip: ChipUse
    made_from: str


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
    if threads is not None and threads < 1:
        raise UserError(f"threads {threads}; at least 1")
    if engine not in ENGINES:
        raise UserError(f"engine {engine!r}; known are {', '.join(ENGINES)}")
    if engine == "lava":
        require_python310()
    with distributed.process_group(torch.device("cpu")) as rank:
        said = (progress or Silent()) if rank.first else Silent()
        alone = hold(run, "simulate", "reports") if rank.first else contextlib.nullcontext()
        with alone as held:
            distributed.meet()  # the first has put the run in order
            return _simulate_together(run, samples, engine, threads, data_dir, rank, said, held)


def _simulate_together(
    run: RunDirectory,
    samples: int | None,
    engine: str,
    threads: int | None,
    data_dir: Path | None,
    rank: Rank,
    said: Progress,
    held: Held | None,
) -> SimulationReport:
    source = _read_exported(run)
    network, made_from = _network(source), source.digest(NETWORK)
    with distributed.leader_first(rank):
        dataset = load_same_data(describe(run), said, data_dir)
    check_data(network, dataset)
    if held is not None:
        held.check()
        keep_place(run, data_dir)
    bits, chip = _bits_and_chip(run, source)
    provenance.tell(run, "export/loihi", said)
    expected = _quantized_predictions(run, bits, len(dataset.test))
    test, chosen = spread(dataset.test, samples, LAVA_SAMPLES if engine == "lava" else None)
    if threads is None and rank.world > 1:
        threads = max(1, (os.cpu_count() or 1) // rank.local_world)
    share = take(test, np.arange(len(test))[rank.part(len(test))])
    simulation, predictions = _simulate(network, share, threads, said)
    if engine == "lava" and len(share):
        _confirm_in_lava(run, network, bits, share, said)
    simulation = functools.reduce(Simulation.merge, distributed.gather(simulation))
    predictions = np.concatenate(distributed.gather(predictions))
    _compare(run, predictions, expected[chosen], chosen)
    lines = energy.estimates(network, simulation)
    correct = predictions == test.labels.numpy()
    report = _report(network, bits, chip, engine, simulation, correct, lines, made_from)
    if held is not None:
        held.write_stage("reports", _files(report, lines), {provenance.KEY: made_from})
    return report


def exported(run: RunDirectory) -> Exported:
    """Read the exported integer network of a run, and what it was exported from.

    Raises
    ------
    UserError
        If it was not exported yet, or a file is damaged.
    """
    source = _read_exported(run)
    bits, _ = _bits_and_chip(run, source)
    return Exported(run, _network(source), bits)


def _read_exported(run: RunDirectory) -> Stage:
    if not stage.is_there(run.path, EXPORTED):
        command = run.command("export --target loihi")
        raise UserError(f"{run.path}: no exported network; run `{command}` first")
    return run.read(EXPORTED, NETWORK)


def _network(exported: Stage) -> IntegerNetwork:
    try:
        return network_file.from_bytes(exported.content[NETWORK], str(exported.folder / NETWORK))
    except NetworkError as error:
        raise UserError(str(error)) from None


def check_data(network: IntegerNetwork, dataset: Dataset) -> None:
    """Make sure that ``network`` can be tested with ``dataset``.

    Raises
    ------
    UserError
        If the data are not those that the network was trained on.
    """
    outputs = network.output.shape[0]
    if len(dataset.classes) > outputs:
        raise UserError(
            f"data set '{dataset.name}': it has {len(dataset.classes)} classes, the network "
            f"{outputs}; {RESTORE}"
        )
    check_same_data(dataset, network.input, network.classes)


def spread(
    split: Split, samples: int | None, most: int | None = None
) -> tuple[Split, NDArray[np.int64]]:
    """Return ``samples`` samples of ``split``, evenly spread, and their indices.

    Test sets often come ordered by class, so that the first ones would be of one class alone.

    Parameters
    ----------
    samples : None for all
    most : where ``samples`` is None, no more than so many

    Raises
    ------
    UserError
        If there are not so many.
    """
    whole = len(split)
    if samples is None and most is not None:
        samples = min(most, whole)
    if samples is None:
        return split, np.arange(whole)
    if not 1 <= samples <= whole:
        raise UserError(f"samples {samples}; 1 to {whole} are possible")
    chosen = np.arange(samples, dtype=np.int64) * whole // samples
    return take(split, chosen), chosen


def take(split: Split, samples: NDArray[np.int64]) -> Split:
    """Return the ``samples`` of ``split``, given by their indices, (N,)."""
    index = torch.from_numpy(samples)
    if isinstance(split, TensorSplit):
        return replace(split, pixels=split.pixels[index], labels=split.labels[index])
    names = tuple(split.files[i] for i in samples)
    return replace(split, files=names, labels=split.labels[index])


def test_payloads(
    run: RunDirectory,
    network: IntegerNetwork,
    samples: int | None,
    progress: Progress,
    data_dir: Path | None,
) -> NDArray[np.int8]:
    """Return what ``network`` sees of ``samples`` test samples, int8 (N, C, H, W), or framed.

    Parameters
    ----------
    samples : None for those of :data:`dsr_deploy.verify.SAMPLES` that there are

    Raises
    ------
    UserError
        If there are not so many, or they are not those of the network.
    """
    dataset = load_same_data(describe(run), progress, data_dir)
    check_data(network, dataset)
    test, _ = spread(dataset.test, samples, verify.SAMPLES)
    return np.concatenate([payloads.numpy() for payloads, _ in _stream(network, test)])


def _stream(network: IntegerNetwork, test: Split) -> Batches:
    return batches(test, network.input, BATCH, augment=False, seed=0, epoch=0, shuffle=False)


def _bits_and_chip(run: RunDirectory, exported: Stage) -> tuple[int, Chip]:
    """Return which of the quantized networks was exported, and for which chip."""
    where = f"{exported.folder / stage.MANIFEST}"
    again = f"run `{run.command('export --target loihi')}` again"
    bits = exported.record.get("bits")
    if not isinstance(bits, int):
        raise UserError(f"{where}: it names no bits; {again}")
    try:
        return bits, parse_chip(f"{where}: profile", exported.record.get(provenance.PROFILE))
    except ProfileError as error:
        raise UserError(f"{error}; {again}") from None


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


def _simulate(
    network: IntegerNetwork, test: Split, threads: int | None, progress: Progress
) -> tuple[Simulation, NDArray[np.int64]]:
    """Return the counts over ``test``, which may be empty, and the predictions, (N,).

    Batches are added up as they come, so that no more is kept of a sample than its prediction.
    """
    simulator = Simulator(network)
    whole = simulator.run(_no_payloads(network)).without_scores()
    predictions, correct = [np.zeros(0, np.int64)], 0
    with progress.task("simulating", len(test)) as task:
        for payloads, labels in _stream(network, test) if len(test) else ():
            part = simulator.run(payloads.numpy(), threads=threads)
            whole = whole.merge(part.without_scores())
            predictions.append(part.run.predictions)
            correct += int((predictions[-1] == labels.numpy()).sum())
            task.advance(len(labels), f"accuracy {correct / whole.samples:.1%}")
    return whole, np.concatenate(predictions)


def _no_payloads(network: IntegerNetwork) -> NDArray[np.int8]:
    frames = (network.timesteps,) if network.input.framed else ()
    return np.zeros((0, *frames, *network.input.shape), np.int8)


def _confirm_in_lava(
    run: RunDirectory, network: IntegerNetwork, bits: int, test: Split, progress: Progress
) -> None:
    """Refuse a network of which Lava makes other spikes than the event-driven simulator."""
    payloads = np.concatenate([payloads.numpy() for payloads, _ in _stream(network, test)])
    whole = Exported(run, network, bits)
    engines = {name: open_engine(name, whole) for name in ENGINES}
    found = verify.compare(network, payloads, engines, progress=progress)
    if not found.agreed:
        raise UserError(found.disagreement)


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
    network: IntegerNetwork,
    bits: int,
    chip: Chip,
    engine: str,
    simulation: Simulation,
    correct: NDArray[np.bool_],
    lines: list[EnergyLine],
    made_from: str,
) -> SimulationReport:
    samples = simulation.samples
    counts = simulation.populations
    proven = bounds.network_bounds(network)
    return SimulationReport(
        network=network.name,
        bits=bits,
        samples=samples,
        timesteps=network.timesteps,
        engine=engine,
        accuracy=float(correct.mean()),
        synops=sum(connection.synops for connection in simulation.connections) / samples,
        updates=sum(population.updates for population in counts.values()) / samples,
        sparsity=sparsity.measure(network, simulation),
        energy=tuple(line for line in lines if line.part == "total"),
        ranges=tuple(_range(name, seen, proven[name]) for name, seen in counts.items()),
        chip=chip_use(network, chip),
        made_from=made_from,
    )


def _range(name: str, seen: PopulationCounts, proven: MembraneRange) -> LayerRange:
    low, high = int(proven.u_low.min()), int(proven.u_high.max())
    return LayerRange(
        name=name,
        seen_low=seen.u_min,
        seen_high=seen.u_max,
        proven_low=low,
        proven_high=high,
        register_used=max(low / V_MIN, high / V_MAX),
    )


def _files(report: SimulationReport, lines: list[EnergyLine]) -> dict[str, bytes]:
    """Return every report, by the name of its file."""
    from dsr_deploy.measures import plots  # matplotlib takes a second to import

    title = f"{report.network}, T = {report.timesteps}, {report.bits}-bit weights"
    figure = sparsity.plot(report.sparsity, title)
    whole: dict[str, Any] = dataclasses.asdict(report)
    return {
        "sparsity.png": plots.draw(figure, "png"),
        "sparsity.svg": plots.draw(figure, "svg"),
        "sparsity.csv": sparsity.to_csv(report.sparsity).encode(),
        "sparsity.json": files.to_json(whole["sparsity"]),
        "energy.csv": energy.to_csv(lines).encode(),
        "energy.json": files.to_json(whole["energy"]),
        "simulate.json": files.to_json(whole),
    }
