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
from dsr_deploy.hardware.chip import Chip
from dsr_deploy.hardware.energy.break_even import break_even_rate
from dsr_deploy.hardware.energy.constants import CONSTANT_SETS, LOIHI2_STATEMENT, load_constants
from dsr_deploy.hardware.energy.estimate import Energy, EnergyEstimate, estimate, estimate_ann
from dsr_deploy.hardware.event.simulation import Simulation
from dsr_deploy.hardware.mapping import map_network
from dsr_deploy.hardware.network import IntegerNetwork
from dsr_deploy.measures.measure import Measure, Section, Subject
from dsr_deploy.measures.tables import Table

SPIKING: Final = "spiking"
CONVENTIONAL: Final = "conventional, 8-bit"
BREAK_EVEN: Final = (
    "break-even: the mean firing rate below which the spiking network takes less than the "
    "conventional one. What spikes take is scaled with the rate; timesteps, input, neuron updates "
    "and each neuron's share of the spikes are held fixed."
)
HOPS: Final = (
    "hops: between the cores of the mapping, placed one after another, row by row; the energies "
    "are those of Loihi 1, whichever chip the network was mapped to."
)


@dataclass(frozen=True)
class EnergyLine:
    """Energy of one inference of a whole network, or of one of its parts.

    Attributes
    ----------
    constants, title, source, notes : of the set of constants
    network : the spiking network, or a conventional one of the same shape
    part : name of a population or connection, or "total"
    operations : of the whole network: synaptic operations or multiply-accumulates per inference
    synapse, neuron, traffic, memory, hops : J; None where the constants have no such term
    total : J, their sum
    break_even : of a whole spiking network, the mean firing rate at which the conventional one
        takes as much, see :mod:`dsr_deploy.hardware.energy.break_even`; None if the constants do
        not tell
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
    hops: float | None
    total: float
    break_even: float | None


def estimates(network: IntegerNetwork, simulation: Simulation, chip: Chip) -> list[EnergyLine]:
    """Return a line per set of constants, part and network: first the parts, then their total.

    The conventional network stands beside the spiking one wherever the constants allow it. Hops
    are those between the cores of ``chip``.
    """
    lines, mapping = [], map_network(network, chip)
    for name in CONSTANT_SETS:
        constants = load_constants(name)
        spiking = estimate(simulation, network, constants, mapping)
        lines += _lines(SPIKING, spiking, break_even_rate(simulation, network, spiking))
        if constants.ann_mac is not None:
            lines += _lines(CONVENTIONAL, estimate_ann(network, constants), None)
    return lines


def _lines(network: str, estimated: EnergyEstimate, even: float | None) -> list[EnergyLine]:
    parts = [_line(network, estimated, row.name, row.energy, None) for row in estimated.rows]
    return [*parts, _line(network, estimated, "total", estimated.energy, even)]


def _line(
    network: str, estimated: EnergyEstimate, part: str, energy: Energy, even: float | None
) -> EnergyLine:
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
        hops=energy.hops,
        total=energy.total,
        break_even=even,
    )


def to_csv(lines: list[EnergyLine]) -> str:
    """Return a line each; energies in J, empty where the constants have no such term."""
    terms = ("synapse", "neuron", "traffic", "memory", "hops")
    columns = ("constants", "network", "part", *terms, "total")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for line in lines:
        writer.writerow(getattr(line, name) for name in columns)
    return text.getvalue()


def table(totals: Sequence[EnergyLine]) -> Table:
    """Tabulate the energy per inference in nanojoules."""
    return Table(
        (
            "constants",
            "network",
            "synapses",
            "neurons",
            "traffic",
            "memory",
            "hops",
            "total",
            "break-even",
        ),
        [
            (
                line.constants,
                line.network,
                _nanojoules(line.synapse),
                _nanojoules(line.neuron),
                _nanojoules(line.traffic),
                _nanojoules(line.memory),
                _nanojoules(line.hops),
                _nanojoules(line.total),
                _rate(line.break_even),
            )
            for line in totals
        ],
    )


def _nanojoules(joules: float | None) -> str:
    return "-" if joules is None else f"{joules * 1e9:,.1f} nJ"


def _rate(even: float | None) -> str:
    """Return a firing rate at which two networks are even, or that there is none."""
    if even is None:
        return "-"
    if even == 0:
        return "never less"
    return "always less" if even > 1 else f"{even:.2%}"


def _totals(subject: Subject) -> tuple[EnergyLine, ...]:
    lines = estimates(subject.network, subject.simulation, subject.chip)
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
        (*notes, BREAK_EVEN, HOPS, LOIHI2_STATEMENT),
    )


def _files(totals: tuple[EnergyLine, ...], subject: Subject) -> dict[str, bytes]:
    return {
        "energy.csv": to_csv(estimates(subject.network, subject.simulation, subject.chip)).encode(),
        "energy.json": to_json([dataclasses.asdict(line) for line in totals]),
    }


MEASURE: Final = Measure(_totals, _section, _files)
