"""A run in a few numbers: what was trained, what each step cost, whether it fits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dsr_deploy.measures.accuracy import Row
from dsr_deploy.measures.energy import SPIKING
from dsr_deploy.measures.tables import Table
from dsr_deploy.run.history import Result
from dsr_deploy.stages.export import Export
from dsr_deploy.stages.simulation import SimulationReport


@dataclass(frozen=True)
class Summary:
    """The top of a report.

    Attributes
    ----------
    cards : a label, a number and what it is of, the most important first
    steps : the accuracy after each step, and what the step cost
    """

    cards: tuple[tuple[str, str, str], ...]
    steps: Table


def summarize(
    tested: Result | None,
    rows: Sequence[Row],
    exported: Export | None,
    simulated: SimulationReport | None,
) -> Summary:
    """Return the summary of what there is."""
    return Summary(
        tuple(_cards(tested, rows, exported, simulated)), _steps(tested, rows, simulated)
    )


def _cards(
    tested: Result | None,
    rows: Sequence[Row],
    exported: Export | None,
    simulated: SimulationReport | None,
) -> Iterator[tuple[str, str, str]]:
    yield from _accuracy(tested, rows, simulated)
    if simulated is not None:
        rate = simulated.sparsity.total.firing_rate
        yield "firing rate", f"{rate:.2%}", "spikes per neuron and timestep"
        yield "synaptic operations", f"{simulated.synops:,.0f}", "per sample, counted"
    elif tested is not None:
        yield "firing rate", f"{tested.firing_rate:.2%}", "of the network in 32 bits"
    if exported is not None and exported.chip is not None:
        chip = exported.chip
        of = "" if chip.cores_available is None else f" of {chip.cores_available:,}"
        verdict = "it fits, by what can be known" if chip.fits else "it does not fit"
        yield f"cores of {chip.chip}", f"{chip.cores:,}{of}", verdict
    if simulated is not None:
        totals = sorted(line.total * 1e6 for line in simulated.energy if line.network == SPIKING)
        if totals:
            sets = f"per sample, by {len(totals)} sets of constants"
            yield "energy", f"{totals[0]:,.3g} to {totals[-1]:,.3g} \N{MICRO SIGN}J", sets


def _accuracy(
    tested: Result | None, rows: Sequence[Row], simulated: SimulationReport | None
) -> Iterator[tuple[str, str, str]]:
    """Yield the accuracy of the furthest step."""
    before = None if tested is None else tested.test_accuracy
    chosen = [row for row in rows if simulated is None or row.bits == simulated.bits]
    if chosen:
        row = chosen[-1]
        label = f"accuracy with {row.bits}-bit integers"
        note = f"{_change(row.accuracy, row.float_accuracy)} to 32 bits, {row.samples:,} samples"
        yield label, f"{row.accuracy:.2%}", note
    elif before is not None and tested is not None:
        yield "accuracy in 32 bits", f"{before:.2%}", f"{tested.test_samples:,} test samples"


def _steps(tested: Result | None, rows: Sequence[Row], simulated: SimulationReport | None) -> Table:
    found: list[tuple[str, ...]] = []
    if tested is not None:
        found.append(
            ("trained, 32 bits", f"{tested.test_accuracy:.2%}", "", f"{tested.test_samples:,}")
        )
    for row in rows:
        samples, before = f"{row.samples:,}", row.float_accuracy
        for step, accuracy in (
            (f"only rounded to {row.bits} bits", row.post_training_accuracy),
            (f"quantized to {row.bits} bits", row.accuracy),
        ):
            found.append((step, f"{accuracy:.2%}", _change(accuracy, before), samples))
    if simulated is not None:
        step = f"simulated, {simulated.bits} bits"
        same = "as quantized"
        found.append((step, f"{simulated.accuracy:.2%}", same, f"{simulated.samples:,}"))
    return Table(("step", "accuracy", "to 32 bits", "test samples"), found)


def _change(accuracy: float, before: float) -> str:
    """Return the difference in percentage points."""
    points = 100 * (accuracy - before)
    return f"{points:+.2f} points".replace("-", "\N{MINUS SIGN}")
