"""Firing and energy, computed anew from the spikes of a naive model and the constants' YAML."""

from __future__ import annotations

import csv
from importlib import resources
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from recomputed import SAMPLES, Seen, assert_same, ones, reaching, simulated

from dsr_deploy.hardware.network import IntegerNetwork

Array = NDArray[Any]

SETS = ("loihi1-davies2018", "loihi1-sanafe", "45nm-horowitz2014")


@pytest.fixture(scope="module", params=[0, 700], ids=["if", "lif"])
def seen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    return simulated(request.param, tmp_path_factory.mktemp("runs") / "run")


def layer(name: str, trains: list[Array]) -> dict[str, Any]:
    """Return the sparsity of a layer, or of several together."""
    size = sum(train[0, 0].size for train in trains)
    spikes = sum(int(train.sum()) for train in trains)
    neurons = [train.sum((0, 1)) for train in trains]  # spikes of each neuron
    most = SAMPLES * 3
    return {
        "name": name,
        "neurons": size,
        "spikes": spikes,
        "firing_rate": spikes / (size * most),
        "spikes_per_sample": spikes / SAMPLES,
        "spikes_per_timestep": [
            sum(int(train[:, t].sum()) for train in trains) / SAMPLES for t in range(3)
        ],
        "dead": sum(int((n == 0).sum()) for n in neurons),
        "always_on": sum(int((n == most).sum()) for n in neurons),
        "dead_channels": sum(int((n.max((1, 2)) == 0).sum()) for n in neurons),
        "always_on_channels": sum(int((n.min((1, 2)) == most).sum()) for n in neurons),
    }


def sparsity(seen: Seen) -> dict[str, Any]:
    trains = {p.name: seen.sent[p.name] for p in seen.network.populations}
    layers = [layer(name, [train]) for name, train in trains.items()]
    total = layer("total", list(trains.values()))
    return {"samples": SAMPLES, "timesteps": 3, "layers": layers, "total": total}


def test_sparsity_is_what_the_spikes_say(seen: Seen) -> None:
    expected = sparsity(seen)
    columns = [key for key in expected["total"] if key not in ("name", "spikes_per_timestep")]
    for column in columns:  # a column that is 0 everywhere shows nothing
        assert any(line[column] for line in expected["layers"]), column
    assert_same(seen.read("reports/sparsity.json"), expected)
    assert_same(seen.read("reports/simulate.json")["sparsity"], expected)
    with (seen.run.reports / "sparsity.csv").open() as file:
        lines = list(csv.DictReader(file))
    for line, wanted in zip(lines, [*expected["layers"], expected["total"]], strict=True):
        steps = wanted["spikes_per_timestep"]
        cells = {key: wanted[key] for key in ["name", *columns]}
        cells |= {f"spikes_timestep_{t}": steps[t] for t in range(3)}
        found = {k: v if k == "name" else type(cells[k])(v) for k, v in line.items()}
        assert_same(found, cells)


def energies(seen: Seen) -> list[dict[str, Any]]:
    """Return a line per set of constants, network and part, in J per inference."""
    lines = []
    for name in SETS:
        constants = constant_set(name)
        lines += spiking(seen, name, constants)
        if constants["ann_mac"]:
            lines += conventional(seen.network, name, constants)
    return lines


def constant_set(name: str) -> Any:
    file = resources.files("dsr_deploy.hardware.energy") / f"{name}.yaml"
    return yaml.safe_load(file.read_text())


def spiking(seen: Seen, name: str, constants: Any) -> list[dict[str, Any]]:
    def pj(count: float, constant: Any) -> float | None:
        return None if constant is None else count / SAMPLES * constant["pj"] * 1e-12

    rows = []
    for p in seen.network.populations:
        for c in seen.network.incoming(p):
            sent = seen.sent[c.source]
            synops = ones(c, sent)
            messages = (sent != 0) & reaching(c, seen.network.shapes[c.source])
            per_synop = constants["synapse"][c.kind]
            if c.source == "input":
                per_synop = constants["payload_synapse"]
            rows.append({
                "part": f"{c.source}->{c.target}",
                "synapse": pj(synops, per_synop),
                "neuron": 0.0,
                "traffic": pj(messages.sum(), constants["message"]),
                "memory": pj(synops * (c.weight_bits + 2 * 32), constants["memory_bit"]),
                "hops": 0.0 if constants["hop"] else None,  # all on one tile
            })  # fmt: skip
        spikes = seen.sent[p.name]
        update = constants["neuron_update"]["lif" if p.decay else "if"]
        fired, updated = pj(spikes.sum(), constants["spike"]), pj(spikes.size, update)
        assert fired is not None
        assert updated is not None
        rows.append({
            "part": p.name,
            "synapse": 0.0,
            "neuron": fired + updated,
            "traffic": None,
            "memory": pj(spikes.size * 2 * 24, constants["memory_bit"]),
            "hops": None,
        })  # fmt: skip
    synops = sum(ones(c, seen.sent[c.source]) for c in seen.network.connections)
    return summed(name, "spiking", synops / SAMPLES, rows)


def conventional(made: IntegerNetwork, name: str, constants: Any) -> list[dict[str, Any]]:
    """Dense 8-bit layers: borders included, a weight, an activation and twice a sum per MAC."""
    rows, total = [], 0
    for p in made.populations:
        for c in made.incoming(p):
            fan_in = c.weight[0].size * (c.kernel[0] ** 2 if c.kind == "pool" else 1)
            macs = int(np.prod(p.shape)) * fan_in
            total += macs
            memory = macs * (8 + 8 + 2 * 32) * constants["memory_bit"]["pj"] * 1e-12
            synapse = macs * constants["ann_mac"]["pj"] * 1e-12
            part = f"{c.source}->{c.target}"
            rows.append({"part": part, "synapse": synapse, "neuron": 0.0, "memory": memory})
        written = np.prod(p.shape) * 8 * constants["memory_bit"]["pj"] * 1e-12
        rows.append({"part": p.name, "synapse": 0.0, "neuron": 0.0, "memory": float(written)})
    rows = [row | {"traffic": None, "hops": None} for row in rows]
    return summed(name, "conventional, 8-bit", total, rows)


def summed(name: str, kind: str, operations: float, rows: list[Any]) -> list[dict[str, Any]]:
    """Add the line of the total, and to each line the sum of its terms."""
    terms = ("synapse", "neuron", "traffic", "memory", "hops")
    total = {"part": "total"}
    for term in terms:
        values = [row[term] for row in rows if row[term] is not None]
        total[term] = sum(values) if values else None  # type: ignore[assignment]
    about = {"constants": name, "network": kind, "operations": operations}
    return [
        about | row | {"total": sum(row[term] or 0.0 for term in terms)} for row in [*rows, total]
    ]


def break_even(seen: Seen, lines: list[dict[str, Any]], name: str) -> float:
    """Return the firing rate at which energy(0) + rate * slope is that of the conventional one."""
    trains = [seen.sent[p.name] for p in seen.network.populations]
    spikes = sum(int(train.sum()) for train in trains)
    rate = spikes / sum(train.size for train in trains)
    of = [line for line in lines if line["constants"] == name]
    spiking = [line for line in of if line["network"] == "spiking"]
    slope = sum(
        line["total"]
        for line in spiking
        if "->" in line["part"] and not line["part"].startswith("input->")
    )
    slope += spikes / SAMPLES * constant_set(name)["spike"]["pj"] * 1e-12
    dense = of[-1]["total"]
    assert of[-1]["network"] == "conventional, 8-bit"
    return float(rate * (dense - (spiking[-1]["total"] - slope)) / slope)


def test_energy_is_counts_times_constants(seen: Seen) -> None:
    expected = energies(seen)
    with (seen.run.reports / "energy.csv").open() as file:
        lines = list(csv.DictReader(file))
    columns = ["constants", "network", "part", "synapse", "neuron", "traffic", "memory", "hops"]
    columns += ["total"]
    assert list(lines[0]) == columns
    for line, wanted in zip(lines, expected, strict=True):
        found: dict[str, Any] = {name: line[name] for name in columns[:3]}
        found |= {name: float(line[name]) if line[name] else None for name in columns[3:]}
        assert_same(found, {name: wanted[name] for name in columns}, str(line))
    totals = [line for line in expected if line["part"] == "total"]
    for column in set(columns[3:]) - {"hops"}:
        assert any(line[column] for line in totals), column
    for total in totals:
        told = constant_set(total["constants"])
        total |= {key: told[key] for key in ("title", "source", "notes")}
        total["break_even"] = None
        if total["network"] == "spiking" and told["ann_mac"]:
            total["break_even"] = break_even(seen, expected, total["constants"])
    assert_same(seen.read("reports/energy.json"), totals)
    assert_same(seen.read("reports/simulate.json")["energy"], totals)
