"""The text that each command prints at its end: what it did, and the next command."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dsr_deploy.measures import chip_use, tables
from dsr_deploy.measures import comparison as side_by_side
from dsr_deploy.measures.all import MEASURES, sections
from dsr_deploy.run.config import Config
from dsr_deploy.run.directory import RunDirectory

if TYPE_CHECKING:
    from dsr_deploy.engines.compare import Verification
    from dsr_deploy.measures.accuracy import Row
    from dsr_deploy.stages.compare import Comparison
    from dsr_deploy.stages.export import Export
    from dsr_deploy.stages.simulation import Simulated, SimulationReport


def to_json(result: Any) -> str:
    """Return dataclasses and paths, and lists and dictionaries of them, as JSON."""
    return json.dumps(result, indent=2, default=_plain)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else dataclasses.asdict(value)


def configuration(settings: Config) -> str:
    """Return a line per value."""
    unset = {"v_threshold": "from the data", "image_size": "the data set's own"}
    lines = []
    for name, value in vars(settings).items():
        lines.append(f"{name:16} {unset.get(name, 'none') if value is None else value}")
    return "\n".join(lines)


def trained(run: RunDirectory, settings: Config) -> tuple[dict[str, Any], str]:
    """Summarize a finished training from what it wrote; return the values and the text."""
    from dsr_deploy.run.history import read_history, read_result

    epochs, tested = read_history(run), read_result(run)
    result = {"run": str(run.path), "result": tested, "last": epochs[-1]}
    seconds = sum(epoch.seconds for epoch in epochs)
    held_out = tested.validation_accuracy
    choice = (
        "the last one: no samples were held out to choose by"
        if held_out is None
        else f"the best of {tested.epochs} on {tested.validation_samples:,} held-out "
        f"training samples ({held_out:.2%})"
    )
    text = (
        f"Trained {settings.network} with {settings.neuron.upper()} neurons and "
        f"{settings.timesteps} timesteps on {settings.dataset}: "
        f"{len(epochs)} epochs in {seconds:.0f} s.\n"
        f"  network        of epoch {tested.epoch}, {choice}\n"
        f"  test accuracy  {tested.test_accuracy:.2%} on {tested.test_samples:,} samples\n"
        f"  firing rate    {tested.firing_rate:.2%} of the neurons at each timestep\n"
        f"  written to     {_shortest(run.path)}\n\n"
        + _next(run, "quantize --bits 4", "quantizes its weights to integers of 4 bits")
    )
    return result, text


def quantized(run: RunDirectory, row: Row) -> str:
    """Return the row of Table S4 and what it means."""
    return (
        f"Quantized to {row.bits} bits: the weights and all arithmetic are integers.\n"
        f"Accuracy on {row.samples:,} test samples (a row of Table S4):\n\n"
        f"{tables.quantization([row])}\n\n"
        f"{_choice(row)}\n\n"
        f"{_extremes(row)}"
        f"  written to  {_shortest(run.quantized(row.bits))}\n\n"
        + _next(run, "export --target loihi", "writes the network for a chip")
    )


def _choice(row: Row) -> str:
    """Return how the network was chosen."""
    if not row.epochs:
        return "  not fine-tuned"
    if row.validation_accuracy is None:
        return "  the last epoch: no samples were held out to choose by"
    return (
        f"  the best on {row.validation_samples:,} held-out training samples "
        f"({row.validation_accuracy:.2%}), of the rounded network and those after each epoch"
    )


def _extremes(row: Row) -> str:
    """Return the layers with neurons that never or always spiked on the test set."""
    lines = [
        f"  {what}  {', '.join(f'{count:,} in {name}' for name, count in layers.items())}\n"
        for what, layers in (
            ("neurons that never spiked: ", row.dead),
            ("neurons that always spiked:", row.always_on),
        )
        if layers
    ]
    return "".join(lines) + ("\n" if lines else "")


def exported(run: RunDirectory, export: Export) -> str:
    """Return tables of the layers and of the chip they take, and where the files are."""
    layers = export.layers
    neurons, weights = sum(x.neurons for x in layers), sum(x.weights for x in layers)
    return (
        f"Exported {len(layers)} layers, {neurons:,} neurons and {weights:,} weights "
        f"for {export.chip.chip if export.chip else export.target}.\n"
        "Proven: no 24-bit register overflows, whatever the input.\n\n"
        f"{tables.layers(layers)}\n\n"
        "  theta is subtracted at a spike, delta is the leak in 1/4096, start the first timestep\n"
        + (f"\n{chip_use.section(export.chip)}\n\n" if export.chip else "")
        + f"  written to  {_shortest(run.export(export.target))}\n\n"
        + _after_export(run, export.target)
    )


def _after_export(run: RunDirectory, target: str) -> str:
    if target == "loihi":
        text = "runs it event by event and counts its spikes"
        return _next(run, "simulate --report sparsity", text)
    if run.export("loihi").exists():
        return _next(run, "verify", "proves that every engine gives the same spikes")
    return _next(run, "export --target loihi", "writes the file that simulate and verify read")


def check_part(part: str) -> None:
    """Raise BadParameter unless ``part`` is the name of a measure, or "all"."""
    if part not in (*MEASURES, "all"):
        choice = ", ".join((*MEASURES, "all"))
        raise click.BadParameter(f"{part!r}: choose one of {choice}", param_hint="--report")


def simulated(
    run: RunDirectory, report: SimulationReport, part: str, traces: Path | None = None
) -> str:
    """Return the accuracy, and the table of the measure ``part``, or all of them."""
    where = ", ".join(str(_shortest(path)) for path in (run.reports, traces) if path is not None)
    return "\n\n".join(
        [
            _counted(report, ", each prediction the same as the quantized network's"),
            *_tables(report, part),
            f"  written to  {where}",
            _next(run, "report", "puts all results on one page"),
        ]
    )


def simulated_file(
    report: SimulationReport, network: Path, written: Sequence[Path], part: str
) -> str:
    """Return the same of a network's file, with what the samples are and what was written."""
    where = ", ".join(str(_shortest(path)) for path in written)
    parts = [
        _counted(report, samples="samples"),
        f"  network  {network}\n  samples  {report.source}",
        *_tables(report, part),
    ]
    return "\n\n".join(parts + ([f"  written to  {where}"] if where else []))


def with_predictions(simulated: Simulated) -> dict[str, Any]:
    """Return all that was found of a network's file."""
    report = dataclasses.asdict(simulated.report)
    return report | {"predictions": simulated.predictions.tolist()}


def _counted(report: SimulationReport, remark: str = "", samples: str = "test samples") -> str:
    total = report.sparsity.total
    confirmed = "; Lava gave the same spikes" if report.engine == "lava" else ""
    accuracy = (
        "unknown, as there are no labels"
        if report.accuracy is None
        else f"{report.accuracy:.2%}{remark}"
    )
    partial = f"PARTIAL: stopped after {report.reached}.\n"
    return (
        f"{partial if report.partial else ''}"
        f"Simulated {report.samples:,} {samples} in integers only, {report.timesteps} "
        f"timesteps each{confirmed}.\n"
        f"  accuracy             {accuracy}\n"
        f"  firing rate          {total.firing_rate:.2%} of the neurons at each timestep\n"
        f"  synaptic operations  {report.synops:,.0f} per sample, counted"
    )


def _tables(report: SimulationReport, part: str) -> list[str]:
    return [str(section) for name, section in sections(report).items() if part in (name, "all")]


def verified(verification: Verification) -> str:
    """Return a table of the engines and whether they agree."""
    verdict = "all spikes agree" if verification.agreed else "they differ"
    count = len(verification.differing) + 1
    left_out = "".join(f"\n\n{n} was left out: {why}" for n, why in verification.left_out.items())
    return (
        f"{count} engines on {verification.samples:,} test samples: {verdict}.\n"
        f"Spikes of '{verification.baseline}', and how many differ in each other engine:\n\n"
        f"{tables.engines(verification)}{left_out}"
    )


def reported(path: Path) -> str:
    """Return where the page is."""
    return f"Wrote {_shortest(path)}: one page with all results of this run; open it in a browser."


def compared(comparison: Comparison) -> str:
    """Return the numbers side by side, what is missing, and where the page is."""
    runs = comparison.runs
    lines = [f"  {run.name}: {line}" for run in runs for line in run.stale]
    for run in runs:
        if run.missing:
            lacks = ", ".join(missing.stage for missing in run.missing)
            lines.append(f"  {run.name} lacks {lacks}; next: {run.missing[0].command}")
    others = ", ".join(path.name for path in comparison.files)
    parts = [
        f"Compared {len(runs)} runs.",
        str(side_by_side.results(runs)),
        "\n".join(lines),
        f"  written to  {_shortest(comparison.report)}: open it in a browser\n"
        f"  beside it   {others}",
    ]
    return "\n\n".join(part for part in parts if part)


def _shortest(path: Path) -> Path:
    """Return ``path`` relative to the current directory if it is inside it."""
    full, here = path.resolve(), Path.cwd()
    return full.relative_to(here) if full.is_relative_to(here) else full


def _next(run: RunDirectory, command: str, purpose: str) -> str:
    """Return the line that names the next command."""
    return f"Next: {run.command(command)}\n      {purpose}"
