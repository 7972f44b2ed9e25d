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

from dsr_deploy import config, files, provenance, tables
from dsr_deploy.errors import UserError
from dsr_deploy.hardware.energy_constants import LOIHI2_STATEMENT
from dsr_deploy.plots import draw, own_style
from dsr_deploy.run_directory import RunDirectory

TEMPLATES = Path(__file__).parent / "templates"


def report(run: RunDirectory) -> Path:
    """Write reports/report.html of what is in ``run`` so far; return its path.

    Raises
    ------
    UserError
        If a file of the run is damaged.
    """
    config.read(run.config)
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
    path = run.reports / "report.html"
    files.write_text(path, environment.get_template("report.html").render(values))
    return path


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
    epochs = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    tested = _read(run.result) if run.result.exists() else None
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
    rows = [_read(path) for path in run.path.glob("quantized-*/row.json")]
    if not rows:
        return None
    return tables.quantization(sorted(rows, key=lambda row: int(row.bits), reverse=True))


def _exported(run: RunDirectory) -> dict[str, Any] | None:
    path = run.export("loihi") / "manifest.json"
    if not path.exists():
        return None
    manifest = _read(path)
    return {
        "bits": manifest.bits,
        "layers": tables.layers(manifest.layers),
        "chip": manifest.chip,
        "cores": tables.cores(manifest.chip),
    }


def _simulation(run: RunDirectory) -> dict[str, Any] | None:
    path = run.reports / "simulate.json"
    if not path.exists():
        return None
    found = _read(path)
    sources = {line.constants: line for line in found.energy}
    return {
        "bits": found.bits,
        "samples": found.samples,
        "accuracy": f"{found.accuracy:.2%}",
        "synops": f"{found.synops:,.0f}",
        "plot": _embed((run.reports / "sparsity.svg").read_bytes()),
        "sparsity": tables.sparsity(found.sparsity),
        "energy": tables.energy(found.energy),
        "ranges": tables.ranges(found.ranges),
        "sources": list(sources.values()),
        "loihi2": LOIHI2_STATEMENT,
    }


def _read(path: Path) -> Any:
    """Read JSON objects as objects with attributes, as the tables take them."""
    return json.loads(json.dumps(files.read_json(path)), object_hook=_object)


def _object(value: dict[str, Any]) -> SimpleNamespace:
    return SimpleNamespace(**value)


def _embed(svg: bytes) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode()
