"""One page about several runs: what ``dsr-deploy report RUN RUN`` writes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dsr_deploy import files
from dsr_deploy.errors import UserError
from dsr_deploy.measures import comparison
from dsr_deploy.measures.accuracy import Row
from dsr_deploy.measures.comparison import Compared, Missing
from dsr_deploy.measures.energy import SPIKING
from dsr_deploy.measures.plots import draw
from dsr_deploy.run import provenance, stage
from dsr_deploy.run.directory import RunDirectory
from dsr_deploy.run.history import read_result
from dsr_deploy.run.trained import describe
from dsr_deploy.stages.pages import picture, render
from dsr_deploy.stages.simulation import SimulationReport, read_simulated

OUTPUT: Final = Path("comparison.html")


@dataclass(frozen=True)
class Comparison:
    """A page about several runs.

    Attributes
    ----------
    report : the page
    files : what is written beside it: both plots as PNG and SVG, and all numbers as CSV
    """

    report: Path
    files: tuple[Path, ...]
    runs: tuple[Compared, ...]


def compare(runs: Sequence[RunDirectory], output: Path = OUTPUT) -> Comparison:
    """Write a page that compares ``runs``, at least two, and its plots and numbers beside it.

    Nothing in the runs is changed.

    Parameters
    ----------
    output : the page; the names of the other files begin with its own

    Raises
    ------
    UserError
        If a run is named twice, a file of one is damaged, or the page cannot be written.
    """
    if output.suffix != ".html" or output.is_dir():
        raise UserError(f"output must be a file that ends in .html, not '{output}'")
    real = [run.path.resolve() for run in runs]
    for place, path in enumerate(real):
        if path in real[:place]:
            raise UserError(f"{runs[place].path}: named twice; name each run once")
    compared = tuple(read(run) for run in runs)
    best = comparison.front(compared)
    plots = {}
    if any(run.firing_rates for run in compared):
        plots["rates"] = comparison.plot_rates(compared)
    if best:
        plots["front"] = comparison.plot_front(compared)
    page = render(
        "comparison.html",
        {
            "runs": compared,
            "labels": comparison.labels(compared),
            "results": comparison.results(compared),
            "rates": comparison.rates(compared),
            "energies": comparison.energies(compared),
            "plots": {name: picture(figure, name) for name, figure in plots.items()},
            "layers_differ": len({tuple(run.firing_rates) for run in compared}) > 1,
            "samples": sorted({run.samples for run in compared if run.samples is not None}),
            "datasets": sorted({run.dataset for run in compared}),
            "networks": sorted({run.network for run in compared}),
            "floats": sum(run.bits is None and bool(run.firing_rates) for run in compared),
            "best": best,
        },
    )
    beside = {f"{output.stem}.csv": comparison.to_csv(compared).encode()}
    for name, figure in plots.items():
        beside[f"{output.stem}-{name}.png"] = draw(figure, "png")
        beside[f"{output.stem}-{name}.svg"] = draw(figure, "svg")
    for name, content in beside.items():
        files.write_bytes(output.with_name(name), content)
    files.write_bytes(output, page)
    return Comparison(output, tuple(output.with_name(name) for name in beside), compared)


def read(run: RunDirectory) -> Compared:
    """Read what a run contributes to a comparison.

    Raises
    ------
    UserError
        If a file of the run is damaged.
    """
    about = describe(run)
    settings = about.config
    missing = []
    tested = read_result(run) if run.result.exists() else None
    if tested is None:
        missing.append(Missing("the test", run.command("train --resume")))
    if not run.widths():
        missing.append(Missing("quantization", run.command("quantize --bits 4")))
    if not stage.is_there(run.path, "export/loihi"):
        missing.append(Missing("the network on the chip", run.command("export --target loihi")))
    report = read_simulated(run)
    if report is None:
        missing.append(Missing("simulation", run.command("simulate")))
    elif report.partial:
        part = f"the simulation's end (stopped after {report.reached})"
        missing.append(Missing(part, run.command("simulate --resume")))
    found = Compared(
        name=run.path.resolve().name,
        path=str(run.path),
        dataset=settings.dataset,
        network=settings.network,
        neuron=settings.neuron,
        timesteps=settings.timesteps,
        float_accuracy=None if tested is None else tested.test_accuracy,
        bits=None,
        quantized=None,
        accuracy=None,
        samples=None,
        synops=None,
        firing_rate=None if tested is None else tested.firing_rate,
        firing_rates={} if tested is None else tested.firing_rates,
        energy={},
        missing=tuple(missing),
        stale=tuple(map(str, provenance.stale(run).values())),
    )
    return found if report is None else _with_simulation(run, found, report)


def _with_simulation(run: RunDirectory, found: Compared, report: SimulationReport) -> Compared:
    quantized = None
    if report.bits in run.widths():
        quantized = run.read_record(Row, f"quantized-{report.bits}", "row.json").accuracy
    return dataclasses.replace(
        found,
        bits=report.bits,
        quantized=quantized,
        accuracy=report.accuracy,
        samples=report.samples,
        synops=report.synops,
        firing_rate=report.sparsity.total.firing_rate,
        firing_rates={layer.name: layer.firing_rate for layer in report.sparsity.layers},
        energy={e.constants: e.total for e in report.energy if e.network == SPIKING},
    )
