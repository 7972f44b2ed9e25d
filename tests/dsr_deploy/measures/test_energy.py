"""Energy lines: every set of constants, part by part, and what the CSV holds."""

from __future__ import annotations

import csv
import io
from dataclasses import astuple

import pytest
import sample_run

from dsr_deploy.hardware.energy import EnergyEstimate, estimate, estimate_ann
from dsr_deploy.hardware.energy_constants import CONSTANT_SETS, load_constants
from dsr_deploy.hardware.event.simulator import Simulator
from dsr_deploy.measures import energy
from dsr_deploy.measures.energy import EnergyLine


@pytest.fixture(scope="module")
def lines() -> list[EnergyLine]:
    network = sample_run.network()
    return energy.estimates(network, Simulator(network).run(sample_run.payloads()[:3]))


def expected(network_name: str, estimated: EnergyEstimate) -> list[tuple[object, ...]]:
    c = estimated.constants
    parts = [(row.name, row.energy) for row in estimated.rows]
    return [
        (c.name, c.title, c.source, c.notes, network_name, part, estimated.operations,
         e.synapse, e.neuron, e.traffic, e.memory, e.total)
        for part, e in [*parts, ("total", estimated.energy)]
    ]  # fmt: skip


def test_each_set_of_constants_gives_its_parts_then_their_total(lines: list[EnergyLine]) -> None:
    network = sample_run.network()
    simulation = Simulator(network).run(sample_run.payloads()[:3])
    wanted = []
    for name in CONSTANT_SETS:
        constants = load_constants(name)
        wanted += expected("spiking", estimate(simulation, network, constants))
        if name == "45nm-horowitz2014":
            wanted += expected("conventional, 8-bit", estimate_ann(network, constants))
    assert [tuple(getattr(line, name) for name in line.__dataclass_fields__) for line in lines] == (
        wanted
    )
    assert all(len(astuple(line)) == 12 for line in lines)


def test_csv_has_a_line_each_with_nothing_where_a_term_is_missing(lines: list[EnergyLine]) -> None:
    rows = list(csv.reader(io.StringIO(energy.to_csv(lines))))
    names = ["constants", "network", "part", "synapse", "neuron", "traffic", "memory", "total"]
    assert rows[0] == names
    for row, line in zip(rows[1:], lines, strict=True):
        values = [getattr(line, name) for name in names]
        assert row == ["" if value is None else str(value) for value in values]
    assert energy.to_csv(lines).count("\r") == 0
