"""Energy per inference under every published set of constants, side by side.

No single number stands alone: which constants are chosen decides the verdict.
"""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from dsr_deploy.files import to_json
from dsr_deploy.hardware.energy import Energy, EnergyEstimate, estimate, estimate_ann
from dsr_deploy.hardware.energy_constants import CONSTANT_SETS, LOIHI2_STATEMENT, load_constants
from dsr_deploy.hardware.event.simulation import Simulation
from dsr_deploy.hardware.network import IntegerNetwork
from dsr_deploy.measures.measure import Measure, Section, Subject
from dsr_deploy.measures.tables import Table

SPIKING: Final = "spiking"
CONVENTIONAL: Final = "conventional, 8-bit"


@dataclass(frozen=True)
class EnergyLine:
    """Energy of one inference of a whole network, or of one of its parts.

    Attributes
    ----------
    constants, title, source, notes : of the set of constants
    network : the spiking network, or a conventional one of the same shape
    part : name of a population or connection, or "total"
    operations : of the whole network: synaptic operations or multiply-accumulates per inference
    synapse, neuron, traffic, memory : J; None where the constants have no such term
    total : J, their sum
    """

    constants: str
    title: str
    source: str
    notes: tuple[str, ...]
    network: str
    part: str
    operations: float
    synapse: float
    neuron: float
    traffic: float | None
    memory: float | None
    total: float


def estimates(network: IntegerNetwork, simulation: Simulation) -> list[EnergyLine]:
    """Return a line per set of constants, part and network: first the parts, then their total.

    The conventional network stands beside the spiking one wherever the constants allow it.
    """
    lines = []
    for name in CONSTANT_SETS:
        constants = load_constants(name)
        lines += _lines(SPIKING, estimate(simulation, network, constants))
        if constants.ann_mac is not None:
            lines += _lines(CONVENTIONAL, estimate_ann(network, constants))
    return lines


def _lines(network: str, estimated: EnergyEstimate) -> list[EnergyLine]:
    parts = [(row.name, row.energy) for row in estimated.rows]
    return [
        _line(network, estimated, part, energy)
        for part, energy in [*parts, ("total", estimated.energy)]
    ]


def _line(network: str, estimated: EnergyEstimate, part: str, energy: Energy) -> EnergyLine:
    constants = estimated.constants
    return EnergyLine(
        constants=constants.name,
        title=constants.title,
        source=constants.source,
        notes=constants.notes,
        network=network,
        part=part,
        operations=estimated.operations,
        synapse=energy.synapse,
        neuron=energy.neuron,
        traffic=energy.traffic,
        memory=energy.memory,
        total=energy.total,
    )


def to_csv(lines: list[EnergyLine]) -> str:
    """Return a line each; energies in J, empty where the constants have no such term."""
    columns = ("constants", "network", "part", "synapse", "neuron", "traffic", "memory", "total")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for line in lines:
        writer.writerow(getattr(line, name) for name in columns)
    return text.getvalue()


def table(totals: Sequence[EnergyLine]) -> Table:
    """Tabulate the energy per inference in nanojoules."""
    return Table(
        ("constants", "network", "synapses", "neurons", "traffic", "memory", "total"),
        [
            (
                line.constants,
                line.network,
                _nanojoules(line.synapse),
                _nanojoules(line.neuron),
                _nanojoules(line.traffic),
                _nanojoules(line.memory),
                _nanojoules(line.total),
            )
            for line in totals
        ],
    )


def _nanojoules(joules: float | None) -> str:
    return "-" if joules is None else f"{joules * 1e9:,.1f} nJ"


def _totals(subject: Subject) -> tuple[EnergyLine, ...]:
    lines = estimates(subject.network, subject.simulation)
    return tuple(line for line in lines if line.part == "total")


def _section(totals: tuple[EnergyLine, ...]) -> Section:
    sources = {line.constants: line for line in totals}
    notes: list[str] = []
    for name, line in sources.items():
        notes += [f"{name}: {line.title}; {line.source}", *(f"  {note}" for note in line.notes)]
    return Section(
        "Energy per inference",
        "Energy per inference, by several sets of constants, since they decide the comparison:",
        table(totals),
        (*notes, LOIHI2_STATEMENT),
    )


def _files(totals: tuple[EnergyLine, ...], subject: Subject) -> dict[str, bytes]:
    return {
        "energy.csv": to_csv(estimates(subject.network, subject.simulation)).encode(),
        "energy.json": to_json([dataclasses.asdict(line) for line in totals]),
    }


MEASURE: Final = Measure(_totals, _section, _files)
