"""Run an exported network, event by event, over the test set: what a chip would do with it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dsr_deploy.engines.opening import open_exported
from dsr_deploy.errors import UserError
from dsr_deploy.parallel import distributed
from dsr_deploy.parallel.rank import Rank
from dsr_deploy.progress import Progress, Silent
from dsr_deploy.run import provenance
from dsr_deploy.run.directory import RunDirectory
from dsr_deploy.run.exported import PLACE, Exported, read_exported
from dsr_deploy.run.hold import Held, hold
from dsr_deploy.run.samples import Samples, check_data, of_test_set
from dsr_deploy.run.tally import PARTIAL, Tally
from dsr_deploy.run.trained import describe, keep_place, load_same_data
from dsr_deploy.stages.counting import Method
from dsr_deploy.stages.procedure import Procedure, Unfinished
from dsr_deploy.stages.recording import Recording
from dsr_deploy.stages.simulation import Simulated, SimulationReport, Work

PREDICTIONS = "predictions.json"


def simulate(
    run: RunDirectory,
    samples: int | None = None,
    *,
    engine: str = "event",
    threads: int | None = None,
    device: str | None = None,
    data_dir: Path | None = None,
    recording: Recording | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> SimulationReport:
    """Simulate the network that ``export --target loihi`` wrote, and write the reports.

    Every prediction is compared with that of the quantized network. Several processes take a share
    of the samples each; every one returns the whole report, the first writes it.

    Parameters
    ----------
    samples : how many, evenly spread over the test set; None for all, with Lava for at most 20
    engine, threads, device : see :class:`Method`
    data_dir : where the data lie now, if they were moved
    recording : traces to write as well
    resume : go on with the simulation that was stopped in this run

    Raises
    ------
    UserError
        If a file is missing or damaged, the data are not those of the network, a prediction or a
        spike differs, there is no Lava where it was asked for, or nothing to resume.
    Interrupted
        At Ctrl-C; the reports are then of the samples that were done.
    """
    method = Method(engine, threads, device)
    with distributed.process_group(torch.device("cpu")) as rank:
        if rank.world > 1 and (resume or device):
            option = "--resume" if resume else "--device"
            raise UserError(f"{option} is for one process; start it without torchrun")
        progress = (progress or Silent()) if rank.first else Silent()
        alone = hold(run, "simulate", "reports") if rank.first else contextlib.nullcontext()
        with alone as held:
            distributed.meet()  # the first has put the run in order
            exported = read_exported(run)
            chosen = _test_samples(run, exported, samples, method, data_dir, rank, progress, held)
            method = dataclasses.replace(method, threads=_threads(method, rank))
            procedure = _procedure(run, exported, chosen, method, held)
            procedure = dataclasses.replace(procedure, recording=recording, resume=resume)
            return procedure.carry_out(rank, progress).report


def _test_samples(
    run: RunDirectory,
    exported: Exported,
    samples: int | None,
    method: Method,
    data_dir: Path | None,
    rank: Rank,
    progress: Progress,
    held: Held | None,
) -> _Expected:
    """Return the chosen test samples, and what the quantized network predicted of them."""
    with distributed.leader_first(rank):
        dataset = load_same_data(describe(run), progress, data_dir)
    check_data(exported.network, dataset)
    if held is not None:
        held.check()
        keep_place(run, data_dir)
    provenance.tell(run, PLACE, progress)
    expected = _quantized_predictions(run, exported.bits, len(dataset.test))
    chosen = of_test_set(exported.network, dataset, samples, method.most)
    return _Expected(chosen, expected[chosen.numbers])


@dataclasses.dataclass(frozen=True, eq=False)
class _Expected:
    """Samples, and what the quantized network predicted of them, int64 (N,)."""

    samples: Samples
    predictions: NDArray[np.int64]


def _procedure(
    run: RunDirectory, exported: Exported, chosen: _Expected, method: Method, held: Held | None
) -> Procedure:
    """Return how the samples of a run are simulated; without ``held`` nothing is written."""
    work = Work(exported.network, exported.bits, exported.chip, exported.digest, chosen.samples)

    path = run.reports / PARTIAL

    def check(counted: Tally) -> None:
        done = counted.samples
        numbers = chosen.samples.numbers[:done]
        _compare(run, counted.predictions, chosen.predictions[:done], numbers)

    def publish(simulated: Simulated) -> None:
        if held is not None:
            record = {provenance.KEY: exported.digest}
            held.write_stage("reports", simulated.content, record)

    return Procedure(
        work=work,
        method=method,
        open_engine=lambda name: open_exported(name, exported),
        check=check,
        publish=publish,
        unfinished=None if held is None else Unfinished(path, held.write_bytes),
    )


def _threads(method: Method, rank: Rank) -> int | None:
    """Return the threads of this process, of several on one machine."""
    if method.threads is not None or rank.world == 1:
        return method.threads
    return max(1, (os.cpu_count() or 1) // rank.local_world)


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
