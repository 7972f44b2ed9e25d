"""One page with everything that a run knows; a browser opens it without a network."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jinja2
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from dsr_deploy import config, files, provenance, stage, tables
from dsr_deploy.errors import UserError
from dsr_deploy.hardware.energy_constants import LOIHI2_STATEMENT
from dsr_deploy.hold import hold
from dsr_deploy.plots import draw, own_style
from dsr_deploy.run_directory import RunDirectory
from dsr_deploy.trained import read_history, read_result

TEMPLATES = Path(__file__).parent / "templates"


def report(run: RunDirectory) -> Path:
    """Write reports/report.html of what is in ``run`` so far; return its path.

    Raises
    ------
    UserError
        If a file of the run is damaged.
    """
    config.read(run.config)
    with hold(run, "report", "reports") as held:
        path = run.reports / "report.html"
        held.write_bytes(path, _page(run).encode())
    return path


def _page(run: RunDirectory) -> str:
    try:
        values = _values(run)
    except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        raise UserError(
            f"{run.path}: a file of the run is missing or damaged ({error!r}); run its stage again"
        ) from None
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template("report.html").render(values)


def _values(run: RunDirectory) -> dict[str, Any]:
    """Return what the template shows; None for a stage that has not been run."""
    about = files.read_json(run.config)
    return {
        "name": run.path.resolve().name,
        "config": about["config"],
        "samples": about["samples"],
        "classes": len(about["classes"]),
        "versions": about["versions"],
        "command": about["command"],
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
    tested = _objects(read_result(run)) if run.result.exists() else None
    return {
        "tested": tested,
        "epochs": len(epochs),
        "plot": _embed(draw(_curves(epochs), "svg")),
    }


def _curves(epochs: list[dict[str, Any]]) -> Figure:
    """Draw accuracies and the firing rate, epoch by epoch."""
    with own_style():
        figure = Figure(figsize=(7, 3.4), layout="constrained")
        axes = figure.add_subplot()
        places = [epoch["epoch"] for epoch in epochs]
        for name, label, colour in (
            ("train_accuracy", "training accuracy", "#88ccee"),
            ("validation_accuracy", "validation accuracy", "#4477aa"),
            ("firing_rate", "firing rate", "#cc6677"),
        ):
            if name == "validation_accuracy" and epochs[0].get(name) is None:
                continue  # no samples were held out
            values = [epoch[name] for epoch in epochs]
            axes.plot(places, values, marker=".", label=label, color=colour)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set(xlabel="epoch", ylim=(0, 1.02))
        axes.legend()
    return figure


def _quantization(run: RunDirectory) -> tables.Table | None:
    rows = [_read(run, f"quantized-{bits}", "row.json") for bits in reversed(run.widths())]
    return tables.quantization(rows) if rows else None


def _exported(run: RunDirectory) -> dict[str, Any] | None:
    if not stage.is_there(run.path, "export/loihi"):
        return None
    manifest = _objects(run.read("export/loihi").record)
    return {
        "bits": manifest.bits,
        "layers": tables.layers(manifest.layers),
        "chip": manifest.chip,
        "cores": tables.cores(manifest.chip),
    }


def _simulation(run: RunDirectory) -> dict[str, Any] | None:
    if not (run.path / provenance.SIMULATION).exists():
        return None
    written = run.read("reports", "simulate.json", "sparsity.svg")
    found = _objects(written.json("simulate.json"))
    sources = {line.constants: line for line in found.energy}
    return {
        "bits": found.bits,
        "samples": found.samples,
        "accuracy": f"{found.accuracy:.2%}",
        "synops": f"{found.synops:,.0f}",
        "plot": _embed(written.content["sparsity.svg"]),
        "sparsity": tables.sparsity(found.sparsity),
        "energy": tables.energy(found.energy),
        "ranges": tables.ranges(found.ranges),
        "sources": list(sources.values()),
        "loihi2": LOIHI2_STATEMENT,
    }


def _read(run: RunDirectory, place: str, name: str) -> Any:
    return _objects(run.read(place, name).json(name))


def _objects(value: Any) -> Any:
    """Return JSON objects as objects with attributes, as the tables take them."""
    return json.loads(json.dumps(value), object_hook=_object)


def _object(value: dict[str, Any]) -> SimpleNamespace:
    return SimpleNamespace(**value)


def _embed(svg: bytes) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode()
