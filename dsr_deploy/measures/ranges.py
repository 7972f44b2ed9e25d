"""Membrane potentials: what a simulation saw, and what is possible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from dsr_deploy.hardware import bounds
from dsr_deploy.hardware.bounds import MembraneRange
from dsr_deploy.hardware.event.simulation import PopulationCounts, Simulation
from dsr_deploy.hardware.network import V_MAX, V_MIN, IntegerNetwork
from dsr_deploy.measures.measure import Measure, Section
from dsr_deploy.measures.tables import Table


@dataclass(frozen=True)
class LayerRange:
    """Membrane potentials of a layer before the reset: what was seen, and what is possible.

    ``proven_low`` and ``proven_high`` hold for any input whatever; ``register_used`` is the share
    of the 24-bit register that they take, 0 to 1.
    """

    name: str
    seen_low: int
    seen_high: int
    proven_low: int
    proven_high: int
    register_used: float


def ranges(network: IntegerNetwork, simulation: Simulation) -> tuple[LayerRange, ...]:
    """Return the range of each layer, in order of evaluation."""
    proven = bounds.network_bounds(network)
    return tuple(
        _range(name, counts, proven[name]) for name, counts in simulation.populations.items()
    )


def _range(name: str, seen: PopulationCounts, proven: MembraneRange) -> LayerRange:
    low, high = int(proven.u_low.min()), int(proven.u_high.max())
    return LayerRange(
        name=name,
        seen_low=seen.u_min,
        seen_high=seen.u_max,
        proven_low=low,
        proven_high=high,
        register_used=max(low / V_MIN, high / V_MAX),
    )


def table(layers: Sequence[LayerRange]) -> Table:
    """Tabulate membrane potentials, seen and proven."""
    return Table(
        ("membrane potential", "lowest seen", "highest", "proven from", "to", "of 24 bits"),
        [
            (
                layer.name,
                f"{layer.seen_low:,}",
                f"{layer.seen_high:,}",
                f"{layer.proven_low:,}",
                f"{layer.proven_high:,}",
                f"{layer.register_used:.1%}",
            )
            for layer in layers
        ],
    )


def _section(layers: tuple[LayerRange, ...]) -> Section:
    return Section(
        "Membrane potentials",
        "Membrane potentials, seen in this simulation and proven for any input:",
        table(layers),
    )


MEASURE: Final = Measure(lambda subject: ranges(subject.network, subject.simulation), _section)
