"""The command ``simulate``, of a run or of the file of a network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dsr_deploy import files
from dsr_deploy.console import printing
from dsr_deploy.console.command import Stage
from dsr_deploy.console.options import Directory, File, common
from dsr_deploy.data.datasets import DATASETS
from dsr_deploy.errors import UserError
from dsr_deploy.parallel.rank import this_rank
from dsr_deploy.run import directory as run_directory

if TYPE_CHECKING:
    from dsr_deploy.stages.recording import Recording
    from dsr_deploy.stages.simulation import Simulated, SimulationReport

OF_A_FILE = ("dataset", "inputs", "labels", "chip", "out", "predictions")
"""Options that belong to --network."""


@click.command(
    cls=Stage,
    epilog="\b\n"
    "Example, 100 test samples and all tables:\n"
    "  dsr-deploy simulate --samples 100 --report all\n"
    "The file of a network, without a run:\n"
    "  dsr-deploy simulate --network network.safetensors --dataset cifar10 --data-dir data\n"
    "  dsr-deploy simulate --network network.safetensors --inputs pixels.npy --labels labels.npy",
)
@click.option("--report", "part", metavar="NAME", default="all", show_default=True,
              help="Which table to print, sparsity, energy, ranges, chip, load, time, neurobench "
              "or all; all are written.",
)  # fmt: skip
@click.option("--samples", type=int, help="Number of test samples, evenly spread.  [default: all]")
@click.option("--engine", type=click.Choice(["event", "lava"]), default="event", show_default=True,
              help="event is the simulator; lava also runs the samples in Lava and compares every "
              "spike, by default of 20 samples.",
)  # fmt: skip
@click.option("--threads", type=int, help="Samples to run at once.  [default: one per core]")
@click.option("--device", metavar="NAME",
              help="Let torch count the same on auto, cpu, cuda or cuda:N.  [default: the "
              "event-driven simulator on this machine's cores]",
)  # fmt: skip
@click.option("--resume", is_flag=True,
              help="Go on with a simulation that Ctrl-C stopped, with the same options.",
)  # fmt: skip
@click.option("--network", type=File(), metavar="FILE",
              help="A network.safetensors to simulate instead of a run's.")  # fmt: skip
@click.option("--dataset", type=click.Choice(tuple(DATASETS)),
              help="With --network: the test samples of a data set.")  # fmt: skip
@click.option(
    "--data-dir", type=Directory(absolute=True), metavar="DIR",
    help="Directory of the data set; of a run's, if it was moved since training.",
)  # fmt: skip
@click.option("--inputs", type=File(), metavar="FILE",
              help="With --network: a .npy or .npz of pixels, uint8, which the network's input "
              "encodes, or of payloads, int8.",
)  # fmt: skip
@click.option("--labels", type=File(), metavar="FILE",
              help="With --inputs: a .npy or .npz of whole numbers, for the accuracy.")  # fmt: skip
@click.option("--chip", metavar="NAME",
              help="With --network: chip for the cores and limits, as of export.  "
              "[default: loihi2]",
)  # fmt: skip
@click.option("--out", type=Directory(absolute=True), metavar="DIR",
              help="With --network: folder for the report files.  [default: none is written]",
)  # fmt: skip
@click.option("--predictions", type=File(), metavar="FILE",
              help="With --network: a .npy that gets the predicted classes.")  # fmt: skip
@click.option("--record", type=File(), metavar="FILE",
              help="Write the spikes of some samples: .npz, or .nir for NIRData; a run keeps them "
              "in reports/traces.npz as well.",
)  # fmt: skip
@click.option("--record-format", type=click.Choice(["npz", "nir", "nir-events"]),
              help="nir is a grid of time, nir-events a list.  [default: by FILE's ending]",
)  # fmt: skip
@click.option("--potentials", is_flag=True, default=None,
              help="With --record: membrane potentials too, after each timestep's reset.",
)  # fmt: skip
@click.option("--layers", metavar="NAMES",
              help="With --record: layers, separated by commas.  [default: all]")  # fmt: skip
@click.option("--record-samples", metavar="N|LIST",
              help="With --record: how many samples, evenly spread, or their numbers, such as 3,17 "
              "or 3, for one.  [default: 10]",
)  # fmt: skip
@common
def simulate(directory: Path | None, as_json: bool, part: str, **chosen: Any) -> None:
    """Run the exported network event by event, in integers only.

    Reads export/loihi/network.safetensors and the run's data set. Compares every prediction with
    the quantized network's, counts spikes and synaptic operations, estimates energy and time, and
    writes reports/: simulate.json with everything, sparsity.{csv,json,png,svg}, energy.{csv,json}
    and, with --record, traces.npz.

    With --network it takes any network's file and the samples that --dataset or --inputs name, and
    writes only what --out, --predictions and --record name.
    """
    from dsr_deploy.console import summaries

    summaries.check_part(part)
    if chosen["network"] is not None:
        _of_file(directory, as_json, part, Chosen(**chosen))
        return
    for name in OF_A_FILE:
        if chosen[name] is not None:
            raise click.UsageError(f"--{name} belongs to --network FILE")
    _of_run(directory, as_json, part, Chosen(**chosen))


def _recording(chosen: Chosen) -> Recording | None:
    """Return what is to be recorded."""
    from dsr_deploy.stages.recording import Recording

    if chosen.record is None:
        for name in ("record_format", "potentials", "layers", "record_samples"):
            if getattr(chosen, name) is not None:
                raise click.UsageError(f"--{name.replace('_', '-')} belongs to --record FILE")
        return None
    layers = None if chosen.layers is None else [x.strip() for x in chosen.layers.split(",")]
    return Recording(
        potentials=bool(chosen.potentials),
        layers=layers,
        samples=_samples_to_record(chosen.record_samples),
        path=chosen.record,
        format=chosen.record_format,
    )


def _samples_to_record(text: str | None) -> int | list[int] | None:
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    numbers = parts[:-1] if len(parts) > 1 and not parts[-1] else parts
    if not all(part.isascii() and part.isdecimal() for part in numbers):
        raise click.BadParameter(
            f"{text!r}: give a whole number, or several separated by commas",
            param_hint="--record-samples",
        )
    return [int(part) for part in numbers] if len(parts) > 1 else int(text)


@dataclass(frozen=True)
class Chosen:
    """The options that decide what is simulated, and how."""

    samples: int | None
    engine: str
    threads: int | None
    network: Path | None
    dataset: str | None
    data_dir: Path | None
    inputs: Path | None
    labels: Path | None
    chip: str | None
    out: Path | None
    predictions: Path | None
    record: Path | None
    record_format: str | None
    potentials: bool | None
    layers: str | None
    record_samples: str | None
    resume: bool
    device: str | None


def _of_run(directory: Path | None, as_json: bool, part: str, chosen: Chosen) -> None:
    from dsr_deploy.console import summaries
    from dsr_deploy.console.terminal import Terminal
    from dsr_deploy.stages.procedure import Interrupted
    from dsr_deploy.stages.simulate import simulate as simulate_run

    run = run_directory.find(directory)

    def show(report: SimulationReport) -> None:
        text = summaries.simulated(run, report, part, chosen.record)
        printing.result(as_json, report, text)

    try:
        report = simulate_run(
            run,
            chosen.samples,
            engine=chosen.engine,
            threads=chosen.threads,
            device=chosen.device,
            data_dir=chosen.data_dir,
            recording=_recording(chosen),
            resume=chosen.resume,
            progress=Terminal(),
        )
    except Interrupted as stop:
        if stop.simulated is not None:
            show(stop.simulated.report)
        raise
    show(report)


def _of_file(directory: Path | None, as_json: bool, part: str, chosen: Chosen) -> None:
    from dsr_deploy.console import summaries
    from dsr_deploy.console.terminal import Terminal
    from dsr_deploy.stages.counting import Method
    from dsr_deploy.stages.procedure import Interrupted
    from dsr_deploy.stages.simulate_network import Given, Places, simulate_file

    if directory is not None:
        raise click.UsageError("--network and --run exclude each other")
    if (world := this_rank().world) > 1:
        raise UserError(f"{world} processes were started for --network, which runs in one")
    assert chosen.network is not None
    network, out = chosen.network, chosen.out

    def show(simulated: Simulated, *more: Path | None) -> None:
        written = [path for path in (out, *more) if path is not None]
        text = summaries.simulated_file(simulated.report, network, written, part)
        printing.result(as_json, summaries.with_predictions(simulated), text)

    try:
        simulated = simulate_file(
            network,
            Given(chosen.dataset, chosen.data_dir, chosen.inputs, chosen.labels, chosen.samples),
            Method(chosen.engine, chosen.threads, chosen.device),
            chip=None if chosen.chip is None else str(files.at_home(chosen.chip)),
            places=Places(out, chosen.predictions),
            recording=_recording(chosen),
            resume=chosen.resume,
            progress=Terminal(),
        )
    except Interrupted as stop:
        if stop.simulated is not None:
            show(stop.simulated)
        raise
    show(simulated, chosen.predictions, chosen.record)
