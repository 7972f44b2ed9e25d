"""Tables, cell by cell: every number stands in another column, in its own format."""

from __future__ import annotations

from types import SimpleNamespace as Fields
from typing import Any

import pytest

from dsr_deploy.hardware.mapping import Usage
from dsr_deploy.measures import chip_use, energy, ranges, sparsity, tables
from dsr_deploy.measures.tables import Table


def test_columns_are_as_wide_as_their_widest_cell_and_stand_two_apart() -> None:
    table = Table(("layer", "n", "of"), [("a", "10,000", "1"), ("a long name", "2", "")])
    assert str(table).split("\n") == [
        "  layer             n  of",
        "  a            10,000   1",
        "  a long name       2",
    ]


@pytest.mark.parametrize(
    ("chosen", "taken"),
    [
        ({"epoch": 3, "epochs": 10}, "epoch 3 of 10"),
        ({"epoch": 0, "epochs": 10}, "rounding"),
        ({}, "unknown"),
    ],
)
def test_quantization_shows_percent_and_which_network_it_is(
    chosen: dict[str, int], taken: str
) -> None:
    row = Fields(
        bits=4,
        neuron="lif",
        timesteps=8,
        float_accuracy=0.99444,
        post_training_accuracy=0.5,
        accuracy=0.98761,
        **chosen,
    )
    found = tables.quantization([row])  # type: ignore[list-item]
    assert dict(zip(found.headings, found.rows[0], strict=True)) == {
        "weights": "4 bits",
        "neurons": "LIF",
        "timesteps": "8",
        "in 32 bits": "99.44%",
        "only rounded": "50.00%",
        "quantized": "98.76%",
        "taken after": taken,
    }


def test_layers_show_spans_where_channels_differ() -> None:
    layer = Fields(
        name="conv",
        shape=(16, 8, 4),
        neurons=512,
        weights=12345,
        weight_bits=(4, 8),
        v_threshold=(1000, 1000),
        v_fire=(500, 2000),
        decay=3,
        start=7,
    )
    found = tables.layers([layer])  # type: ignore[list-item]
    assert dict(zip(found.headings, found.rows[0], strict=True)) == {
        "layer": "conv",
        "shape": "16x8x4",
        "neurons": "512",
        "weights": "12,345",
        "bits": "4+8",
        "theta": "1,000",
        "fires at": "500 to 2,000",
        "delta": "3",
        "start": "7",
    }


def test_sparsity_shows_layers_then_their_total_and_spikes_per_timestep() -> None:
    def layer(name: str, rate: float, spikes: float, dead: int, on: int) -> Any:
        return Fields(
            name=name, neurons=4096, firing_rate=rate, spikes_per_sample=spikes, dead=dead,
            always_on=on,
        )  # fmt: skip

    measured = Fields(
        timesteps=4,
        layers=(layer("conv", 0.12345, 5000.5, 1200, 3),),
        total=layer("total", 0.5, 6000.0, 0, 0),
    )
    found = sparsity.table(measured)  # type: ignore[arg-type]
    assert found.headings == (
        "layer", "neurons", "firing rate", "spikes/sample", "spikes/step", "dead", "always on",
    )  # fmt: skip
    assert found.rows == [
        ("conv", "4,096", "12.35%", "5,000.5", "1,250.1", "1,200", "3"),
        ("total", "4,096", "50.00%", "6,000.0", "1,500.0", "0", "0"),
    ]


def test_energy_is_in_nanojoules_with_a_dash_for_what_the_constants_lack() -> None:
    line = Fields(
        constants="loihi", network="spiking", synapse=1.25e-6, neuron=3.04e-9, traffic=None,
        memory=0.0, hops=2e-9, total=5.0, break_even=None,
    )  # fmt: skip
    found = energy.table([line])  # type: ignore[list-item]
    assert dict(zip(found.headings, found.rows[0], strict=True)) == {
        "constants": "loihi",
        "network": "spiking",
        "synapses": "1,250.0 nJ",
        "neurons": "3.0 nJ",
        "traffic": "-",
        "memory": "0.0 nJ",
        "hops": "2.0 nJ",
        "break-even": "-",
        "total": "5,000,000,000.0 nJ",
    }


def test_ranges_show_what_was_seen_what_is_proven_and_the_share_of_the_register() -> None:
    layer = Fields(
        name="conv", seen_low=-1000, seen_high=2000, proven_low=-30000, proven_high=40000,
        register_used=0.0048,
    )  # fmt: skip
    found = ranges.table([layer])  # type: ignore[list-item]
    assert found.rows == [("conv", "-1,000", "2,000", "-30,000", "40,000", "0.5%")]
    assert found.headings[1:] == ("lowest seen", "highest", "proven from", "to", "of 24 bits")


def test_cores_show_percent_of_each_limit_doubts_and_what_is_not_public() -> None:
    usage = (
        Usage("neurons_per_core", 1024, 8192, False),
        Usage("synaptic_memory_per_core", 10, 100, True),
        Usage("in_axons_per_core", 99, 1000, True),
    )
    layers = [
        Fields(name="conv", cores=1200, synapses=3456, usage=usage, fits=True,
               binding="neurons_per_core"),
        Fields(name="out", cores=1, synapses=9, usage=usage[:1], fits=False,
               binding="threshold_settings_per_core"),
    ]  # fmt: skip
    found = chip_use.table(Fields(layers=layers))  # type: ignore[arg-type]
    assert found.headings == (
        "layer", "cores", "synapses", "neurons", "memory", "in-axons", "out-axons", "thresholds",
        "most",
    )  # fmt: skip
    assert found.rows == [
        ("conv", "1,200", "3,456", "~12%", "10%", "9.9%", "?", "?", "neurons"),
        ("out", "1", "9", "~12%", "?", "?", "?", "?", "thresholds, too much"),
    ]


def test_engines_show_the_baselines_spikes_and_how_many_differ() -> None:
    verification = Fields(
        baseline="reference",
        spikes={"a": 1500, "b": 20},
        differing={"torch": {"a": 0, "b": 0}, "onnx": {"a": 1000, "b": 7}},
        scores_differ={"torch": 0, "onnx": 3, "of no run": 9},
    )
    found = tables.engines(verification)  # type: ignore[arg-type]
    assert found == Table(
        ("layer", "reference", "torch", "onnx"),
        [
            ("a", "1,500", "0", "1,000"),
            ("b", "20", "0", "7"),
            ("in all", "1,520", "0", "1,007"),
            ("samples of other scores", "", "0", "3"),
        ],
    )


@pytest.mark.parametrize(("used", "cell"), [(9, "9.0%"), (10, "10%"), (101, "101%")])
def test_small_percentages_have_a_decimal(used: int, cell: str) -> None:
    layer = Fields(name="a", cores=1, synapses=1, fits=True, binding="neurons_per_core",
                   usage=(Usage("neurons_per_core", used, 100, True),))  # fmt: skip
    found = chip_use.table(Fields(layers=[layer]))  # type: ignore[arg-type]
    assert found.rows[0][3] == cell
