"""What each command says at its end: what happened, in words, and the command that comes next."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsr_deploy import run_directory, tables
from dsr_deploy.config import Config
from dsr_deploy.run_directory import RunDirectory

if TYPE_CHECKING:
    from dsr_deploy.export.loihi import LayerSummary
    from dsr_deploy.quantize import Row
    from dsr_deploy.simulate import SimulationReport
    from dsr_deploy.verify import Verification


def to_json(result: Any) -> str:
    """Return dataclasses, and lists and dictionaries of them, as JSON."""
    return json.dumps(result, indent=2, default=dataclasses.asdict)


def configuration(settings: Config) -> str:
    """Return a line per value."""
    unset = {"v_threshold": "from the first batch", "image_size": "the data set's own"}
    lines = []
    for name, value in vars(settings).items():
        lines.append(f"{name:16} {unset.get(name, 'none') if value is None else value}")
    return "\n".join(lines)


def trained(run: RunDirectory, settings: Config) -> tuple[dict[str, Any], str]:
    """Summarize a finished training from what it wrote; return the values and the text."""
    epochs = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    best = max(epochs, key=lambda epoch: float(epoch["test_accuracy"]))
    result = {"run": str(run.path), "best": best, "last": epochs[-1]}
    seconds = sum(epoch["seconds"] for epoch in epochs)
    text = (
        f"Trained {settings.arch} with {settings.neuron.upper()} neurons and {settings.timesteps} "
        f"timesteps on {settings.dataset}: {len(epochs)} epochs in {seconds:.0f} s.\n"
        f"  test accuracy  {best['test_accuracy']:.2%} after epoch {best['epoch']}, the best one\n"
        f"  firing rate    {best['firing_rate']:.2%} of the neurons at each timestep\n"
        f"  written to     {_shown(run.path)}\n\n"
        + _next(run, "quantize --bits 4", "turns its weights into whole numbers of 4 bits")
    )
    return result, text


def quantized(run: RunDirectory, row: Row) -> str:
    """Return the row of Table S4 and what it means."""
    return (
        f"Quantized: the weights are whole numbers of {row.bits} bits now, all arithmetic is on "
        f"integers.\nAccuracy on {row.samples:,} test samples (a row of Table S4):\n\n"
        f"{tables.quantization([row])}\n\n"
        f"  written to  {_shown(run.quantized(row.bits))}\n\n"
        + _next(run, "export --target loihi", "lays the network out for a chip")
    )


def exported(run: RunDirectory, target: str, layers: Sequence[LayerSummary]) -> str:
    """Return a table of the layers and where they went."""
    neurons, weights = sum(x.neurons for x in layers), sum(x.weights for x in layers)
    return (
        f"Exported {len(layers)} layers, {neurons:,} neurons and {weights:,} weights "
        f"for {target}.\n"
        "No 24-bit register can overflow, whatever the input: this was proven.\n\n"
        f"{tables.layers(layers)}\n\n"
        "  theta is subtracted at a spike, delta is the leak in 1/4096, start the first timestep\n"
        f"  written to  {_shown(run.export(target))}\n\n" + _after_export(run, target)
    )


def _after_export(run: RunDirectory, target: str) -> str:
    if target == "loihi":
        text = "runs it event by event and counts its spikes"
        return _next(run, "simulate --report sparsity", text)
    if run.export("loihi").exists():
        return _next(run, "verify", "proves that every engine gives the same spikes")
    return _next(run, "export --target loihi", "makes the file that simulate and verify read")


def simulated(run: RunDirectory, report: SimulationReport, part: str) -> str:
    """Return the accuracy, and the tables of ``part``: sparsity, energy or all."""
    total = report.sparsity.total
    parts = [
        f"Simulated {report.samples:,} test samples on integers alone, {report.timesteps} "
        "timesteps each.\n"
        f"  accuracy             {report.accuracy:.2%}, each prediction the same as the quantized "
        "network's\n"
        f"  firing rate          {total.firing_rate:.2%} of the neurons at each timestep\n"
        f"  synaptic operations  {report.synops:,.0f} per sample, counted"
    ]
    if part in ("sparsity", "all"):
        parts.append(str(tables.sparsity(report.sparsity)))
    if part in ("energy", "all"):
        parts.append(_energy(report))
    if part == "all":
        parts.append(str(tables.ranges(report.ranges)))
    parts.append(f"  written to  {_shown(run.reports)}")
    parts.append(_next(run, "report", "puts everything on one page"))
    return "\n\n".join(parts)


def _energy(report: SimulationReport) -> str:
    from dsr_deploy.hardware.energy_constants import LOIHI2_STATEMENT

    sources = {line.constants: f"{line.title}; {line.source}" for line in report.energy}
    return (
        "Energy per inference; the constants decide the verdict, so no number stands alone:\n\n"
        f"{tables.energy(report.energy)}\n\n"
        + "".join(f"  {name}: {text}\n" for name, text in sources.items())
        + f"  {LOIHI2_STATEMENT}"
    )


def verified(verification: Verification) -> str:
    """Return a table of the engines and whether they agree."""
    said = "they agree, spike for spike" if verification.agreed else "they differ"
    count = len(verification.differing) + 1
    return (
        f"{count} engines on {verification.samples:,} test samples: {said}.\n\n"
        f"{tables.engines(verification)}"
    )


def disagreement(verification: Verification) -> str:
    """Name the first difference."""
    if verification.difference is not None:
        return str(verification.difference)
    name, count = next((n, count) for n, count in verification.scores_differ.items() if count)
    return (
        f"engine '{name}' differs from '{verification.baseline}': the same spikes, but other "
        f"scores in {count} samples"
    )


def reported(path: Path) -> str:
    """Say where the page is."""
    return f"Wrote {_shown(path)}: one page with everything this run knows; open it in a browser."


def _shown(path: Path) -> Path:
    """Return the shorter way to ``path`` from here."""
    whole, here = path.resolve(), Path.cwd()
    return whole.relative_to(here) if whole.is_relative_to(here) else whole


def _next(run: RunDirectory, command: str, purpose: str) -> str:
    """Return the line that names the next command; with --run unless the run is the newest."""
    newest = run_directory.LATEST.exists() and run_directory.LATEST.samefile(run.path)
    where = "" if newest else f" --run {_shown(run.path)}"
    return f"Next: dsr-deploy {command}{where}\n      {purpose}"
