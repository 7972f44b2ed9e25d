"""What a run found, as tables for the terminal and for the page.

Each function takes the dataclass named in its signature, or anything with the same attributes.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from dsr_deploy.engines.compare import Verification
    from dsr_deploy.measures.accuracy import Row
    from dsr_deploy.measures.layers import LayerSummary


class Table(NamedTuple):
    """Text cells under headings."""

    headings: tuple[str, ...]
    rows: list[tuple[str, ...]]

    def __str__(self) -> str:
        """Align the columns, the first to the left, the others to the right."""
        cells = [self.headings, *self.rows]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = []
        for row in cells:
            first, *others = zip(row, widths, strict=True)
            aligned = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
            lines.append("  " + "  ".join(aligned).rstrip())
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        head, *rows = (map(html.escape, row) for row in (self.headings, *self.rows))
        body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
        headings = "".join(f"<th>{cell}</th>" for cell in head)
        return f"<table><thead><tr>{headings}</tr></thead><tbody>{body}</tbody></table>"


def quantization(rows: Sequence[Row]) -> Table:
    """Tabulate accuracies in 32 bits and in fewer (Table S4)."""
    return Table(
        (
            "weights",
            "neurons",
            "timesteps",
            "in 32 bits",
            "only rounded",
            "quantized",
            "taken after",
        ),
        [
            (
                f"{row.bits} bits",
                row.neuron.upper(),
                str(row.timesteps),
                f"{row.float_accuracy:.2%}",
                f"{row.post_training_accuracy:.2%}",
                f"{row.accuracy:.2%}",
                _taken(row),
            )
            for row in rows
        ],
    )


def _taken(row: Row) -> str:
    """Say which network a row is of; rows of version 0.1 do not know."""
    if not hasattr(row, "epoch"):
        return "unknown"
    return f"epoch {row.epoch} of {row.epochs}" if row.epoch else "rounding"


def layers(summary: Sequence[LayerSummary]) -> Table:
    """Tabulate the layers of an exported network."""
    return Table(
        ("layer", "shape", "neurons", "weights", "bits", "theta", "fires at", "delta", "start"),
        [
            (
                layer.name,
                "x".join(map(str, layer.shape)),
                f"{layer.neurons:,}",
                f"{layer.weights:,}",
                "+".join(map(str, layer.weight_bits)),
                _span(*layer.v_threshold),
                _span(*layer.v_fire),
                str(layer.decay),
                str(layer.start),
            )
            for layer in summary
        ],
    )


def engines(verification: Verification) -> Table:
    """Tabulate the baseline's spikes layer by layer, and how many of each engine differ."""
    differing = verification.differing
    rows = [
        (layer, f"{spikes:,}", *(f"{counts[layer]:,}" for counts in differing.values()))
        for layer, spikes in verification.spikes.items()
    ]
    totals = (f"{sum(counts.values()):,}" for counts in differing.values())
    rows.append(("in all", f"{sum(verification.spikes.values()):,}", *totals))
    scores = (f"{verification.scores_differ[name]:,}" for name in differing)
    rows.append(("samples of other scores", "", *scores))
    return Table(("layer", verification.baseline, *differing), rows)


def _span(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
