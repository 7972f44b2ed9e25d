"""One page with everything that a run knows; a browser opens it without a network."""

from __future__ import annotations

import base64
import dataclasses
from pathlib import Path
from typing import Any

import jinja2

from dsr_deploy.errors import UserError
from dsr_deploy.measures import chip_use, tables
from dsr_deploy.measures.accuracy import Row
from dsr_deploy.measures.all import sections
from dsr_deploy.measures.learning import curves
from dsr_deploy.measures.plots import draw
from dsr_deploy.run import provenance, records, stage
from dsr_deploy.run.directory import RunDirectory
from dsr_deploy.run.history import read_history, read_result
from dsr_deploy.run.hold import hold
from dsr_deploy.run.records import Record
from dsr_deploy.run.trained import describe
from dsr_deploy.stages.export import Export
from dsr_deploy.stages.simulate import SimulationReport
from dsr_deploy.text import escaped

TEMPLATES = Path(__file__).parents[1] / "templates"


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
        held.write_bytes(path, _page(run).encode())
    return path


def _page(run: RunDirectory) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        finalize=lambda value: escaped(value) if type(value) is str else value,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template("report.html").render(_values(run))


def _values(run: RunDirectory) -> dict[str, Any]:
    """Return what the template shows; None for a stage that has not been run."""
    about = describe(run)
    return {
        "name": run.path.resolve().name,
        "about": about,
        "config": dataclasses.asdict(about.config),
        "network": about.config.network,
        "training": _training(run),
        "stale": {place: str(line) for place, line in provenance.stale(run).items()},
        "quantization": _quantization(run),
        "exported": _exported(run),
        "advise": run.command,
        "simulation": _simulation(run),
    }


def _training(run: RunDirectory) -> dict[str, Any] | None:
    if not run.metrics.exists():
        return None
    epochs = read_history(run)
    if not epochs:
        return None
    return {
        "tested": read_result(run) if run.result.exists() else None,
        "epochs": len(epochs),
        "plot": _embed(draw(curves(epochs), "svg")),
    }


def _quantization(run: RunDirectory) -> tables.Table | None:
    rows = [_read(Row, run, f"quantized-{bits}", "row.json") for bits in reversed(run.widths())]
    return tables.quantization(rows) if rows else None


def _exported(run: RunDirectory) -> dict[str, Any] | None:
    if not stage.is_there(run.path, "export/loihi"):
        return None
    written = run.read("export/loihi")
    where = str(written.folder / stage.MANIFEST)
    manifest = records.read(Export, written.record, where)
    if manifest.chip is None:
        raise UserError(f"{where}: field 'chip' is None, not an object; run its stage again")
    return {
        "bits": manifest.bits,
        "layers": tables.layers(manifest.layers),
        "chip": chip_use.section(manifest.chip),
    }


def _simulation(run: RunDirectory) -> dict[str, Any] | None:
    if not (run.path / provenance.SIMULATION).exists():
        return None
    report = _read(SimulationReport, run, "reports", "simulate.json")
    parts = sections(report)
    del parts["chip"]  # is above, with the exported network
    images = [section.image for section in parts.values() if section.image]
    content = run.read("reports", *images).content
    return {
        "bits": report.bits,
        "samples": report.samples,
        "accuracy": f"{report.accuracy:.2%}",
        "synops": f"{report.synops:,.0f}",
        "sections": list(parts.values()),
        "images": {name: _embed(content[name]) for name in images},
    }


def _read(kind: type[Record], run: RunDirectory, place: str, name: str) -> Record:
    """Return what a stage wrote as a dataclass."""
    written = run.read(place, name)
    return records.read(kind, written.json(name), str(written.folder / name))


def _embed(svg: bytes) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode()
