"""One page with everything that a run knows; a browser opens it without a network."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from markupsafe import Markup

from dsr_deploy.errors import UserError
from dsr_deploy.measures import chip_use, raster, tables
from dsr_deploy.measures.accuracy import Row
from dsr_deploy.measures.all import plots, sections
from dsr_deploy.measures.learning import curves
from dsr_deploy.measures.measure import Plot
from dsr_deploy.run import provenance, records, stage
from dsr_deploy.run.directory import RunDirectory
from dsr_deploy.run.exported import read_exported
from dsr_deploy.run.history import Result, read_history, read_result
from dsr_deploy.run.hold import hold
from dsr_deploy.run.trained import describe
from dsr_deploy.stages.export import Export
from dsr_deploy.stages.pages import picture, render
from dsr_deploy.stages.recording import read_traces
from dsr_deploy.stages.simulation import SimulationReport, read_simulated
from dsr_deploy.stages.summary import summarize

HEADINGS: Final = (
    ("training", "Training"),
    ("quantization", "Quantization"),
    ("chip", "Network on the chip"),
    ("simulation", "Simulation"),
    ("configuration", "Configuration"),
)
"""The page's parts, by their identifiers."""


def report(run: RunDirectory) -> Path:
    """Write reports/report.html of what is in ``run`` so far; return its path.

    Raises
    ------
    UserError
        If a file of the run is damaged.
    """
    describe(run)  # before anything is written
    with hold(run, "report", "reports") as held:
        path = run.reports / "report.html"
        held.write_bytes(path, render("report.html", _values(run)))
    return path


def _values(run: RunDirectory) -> dict[str, Any]:
    """Return what the template shows; None for a stage that has not been run."""
    about = describe(run)
    tested = read_result(run) if run.result.exists() else None
    rows = [
        run.read_record(Row, f"quantized-{bits}", "row.json") for bits in reversed(run.widths())
    ]
    exported = _exported(run)
    simulated = read_simulated(run)
    return {
        "name": run.path.resolve().name,
        "about": about,
        "config": dataclasses.asdict(about.config),
        "network": about.config.network,
        "headings": _headings(simulated),
        "summary": summarize(tested, rows, exported, simulated),
        "training": _training(run, tested),
        "stale": {place: str(line) for place, line in provenance.stale(run).items()},
        "quantization": tables.quantization(rows) if rows else None,
        "exported": exported and _chip(exported),
        "advise": run.command,
        "simulation": simulated and _simulation(simulated),
        "pictures": _pictures(simulated) if simulated else {},
        "traces": _traces(run, simulated, about.classes) if simulated else [],
    }


def _headings(simulated: SimulationReport | None) -> list[tuple[str, str]]:
    """Return the parts of the page, the measures after the simulation that they are of."""
    parts = list(HEADINGS)
    if simulated is not None:
        found = [(name, section.heading) for name, section in sections(simulated).items()]
        inner = [(name, heading) for name, heading in found if name != "chip"]
        place = parts.index(("simulation", "Simulation")) + 1
        parts[place:place] = [*inner, ("traces", "Spikes of one sample")]
    return parts


def _training(run: RunDirectory, tested: Result | None) -> dict[str, Any] | None:
    if not run.metrics.exists():
        return None
    epochs = read_history(run)
    if not epochs:
        return None
    return {
        "tested": tested,
        "epochs": len(epochs),
        "plot": picture(curves(epochs), "training"),
    }


def _exported(run: RunDirectory) -> Export | None:
    if not stage.is_there(run.path, "export/loihi"):
        return None
    written = run.read("export/loihi")
    where = str(written.folder / stage.MANIFEST)
    manifest = records.read(Export, written.record, where)
    if manifest.chip is None:
        raise UserError(f"{where}: field 'chip' is None, not an object; run its stage again")
    return manifest


def _chip(exported: Export) -> dict[str, Any]:
    assert exported.chip is not None
    return {
        "bits": exported.bits,
        "layers": tables.layers(exported.layers),
        "chip": chip_use.section(exported.chip),
    }


def _simulation(report: SimulationReport) -> dict[str, Any]:
    parts = sections(report)
    del parts["chip"]  # is above, with the exported network
    return {
        "bits": report.bits,
        "samples": report.samples,
        "reached": report.reached if report.partial else None,
        "accuracy": f"{report.accuracy:.2%}",
        "synops": f"{report.synops:,.0f}",
        "sections": parts,
    }


def _pictures(report: SimulationReport) -> dict[str, list[dict[str, str | Markup]]]:
    """Return the pictures of every measure that has some, by its name."""
    return {name: _drawn(name, found) for name, found in plots(report).items() if found}


def _drawn(name: str, found: Sequence[Plot]) -> list[dict[str, str | Markup]]:
    return [
        {"caption": plot.caption, "svg": picture(plot.figure, f"{name}-{number}")}
        for number, plot in enumerate(found)
    ]


def _traces(
    run: RunDirectory, report: SimulationReport, classes: Sequence[str]
) -> list[dict[str, str | Markup]]:
    """Return pictures of what ``simulate --record`` kept; none if it kept nothing."""
    traces = read_traces(run)
    if traces is None:
        return []
    network = None
    if stage.is_there(run.path, "export/loihi"):
        exported = read_exported(run)
        network = exported.network if exported.digest == report.made_from else None
    return _drawn("traces", raster.plots(traces, network, classes))
