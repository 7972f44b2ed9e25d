"""Energy lines: every set of constants, part by part, and what the CSV holds."""

from __future__ import annotations

import csv
import io
from dataclasses import astuple, replace

import pytest
import sample_run

from dsr_deploy.hardware.chip import load_chip
from dsr_deploy.hardware.energy.break_even import break_even_rate
from dsr_deploy.hardware.energy.constants import CONSTANT_SETS, load_constants
from dsr_deploy.hardware.energy.estimate import EnergyEstimate, estimate, estimate_ann
from dsr_deploy.hardware.event.simulator import Simulator
from dsr_deploy.hardware.mapping import map_network
from dsr_deploy.measures import energy
from dsr_deploy.measures.energy import EnergyLine

CHIP = load_chip("loihi1")
"""With cores of so few neurons that the network takes several."""


@pytest.fixture(scope="module")
def lines() -> list[EnergyLine]:
    network = sample_run.network()
    return energy.estimates(network, Simulator(network).run(sample_run.payloads()[:3]), CHIP)


def expected(
    network_name: str, estimated: EnergyEstimate, even: float | None
) -> list[tuple[object, ...]]:
    c = estimated.constants
    parts = [(row.name, row.energy) for row in estimated.rows]
    return [
        (c.name, c.title, c.source, c.notes, network_name, part, estimated.operations,
         e.synapse, e.neuron, e.traffic, e.memory, e.hops, e.total,
         even if part == "total" else None)
        for part, e in [*parts, ("total", estimated.energy)]
    ]  # fmt: skip


def test_each_set_of_constants_gives_its_parts_then_their_total(lines: list[EnergyLine]) -> None:
    network = sample_run.network()
    simulation = Simulator(network).run(sample_run.payloads()[:3])
    mapping, wanted = map_network(network, CHIP), []
    for name in CONSTANT_SETS:
        constants = load_constants(name)
        found = estimate(simulation, network, constants, mapping)
        even = break_even_rate(simulation, network, found)
        wanted += expected("spiking", found, even)
        if name == "45nm-horowitz2014":
            wanted += expected("conventional, 8-bit", estimate_ann(network, constants), None)
    assert [tuple(getattr(line, name) for name in line.__dataclass_fields__) for line in lines] == (
        wanted
    )
    assert all(len(astuple(line)) == 14 for line in lines)


def test_csv_has_a_line_each_with_nothing_where_a_term_is_missing(lines: list[EnergyLine]) -> None:
    rows = list(csv.reader(io.StringIO(energy.to_csv(lines))))
    names = ["constants", "network", "part", "synapse", "neuron", "traffic", "memory", "hops"]
    names += ["total"]
    assert rows[0] == names
    for row, line in zip(rows[1:], lines, strict=True):
        values = [getattr(line, name) for name in names]
        assert row == ["" if value is None else str(value) for value in values]
    assert energy.to_csv(lines).count("\r") == 0


@pytest.mark.parametrize(
    ("even", "shown"),
    [(None, "-"), (0.0, "never less"), (0.0831, "8.31%"), (1.0, "100.00%"), (1.2, "always less")],
)
def test_a_break_even_rate_is_shown_where_there_is_one(
    lines: list[EnergyLine], even: float | None, shown: str
) -> None:
    table = energy.table([replace(lines[0], break_even=even, hops=3e-9)])
    assert table.headings[-1] == "break-even"
    assert table.rows[0][-1] == shown
    assert table.rows[0][6] == "3.0 nJ"
