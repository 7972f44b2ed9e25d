"""Runs side by side, from made-up numbers."""

from __future__ import annotations

import csv
import io

import pytest

from dsr_deploy.measures import comparison
from dsr_deploy.measures.comparison import Compared


def _run(name: str, synops: float | None = None, accuracy: float | None = None,
         **other: object) -> Compared:  # fmt: skip
    values: dict[str, object] = {
        "path": f"runs/{name}",
        "dataset": "digits",
        "network": "resnet-tiny",
        "neuron": "if",
        "timesteps": 8,
        "float_accuracy": 0.9,
        "bits": 4,
        "quantized": 0.8,
        "samples": 100,
        "firing_rate": 0.25,
        "firing_rates": {"a": 0.125, "b": 0.5},
        "energy": {"x": 2e-9},
        "missing": (),
        "stale": (),
    }
    return Compared(name=name, synops=synops, accuracy=accuracy, **values | other)  # type: ignore[arg-type]


FEW, MANY = _run("few", 10.0, 0.5), _run("many", 30.0, 0.9)
WORSE, SAME = _run("worse", 20.0, 0.5), _run("same", 10.0, 0.5)


def test_front_has_what_no_other_beats_in_both() -> None:
    assert comparison.front([MANY, WORSE, FEW]) == [FEW, MANY]
    assert comparison.front([MANY, FEW, SAME]) == [FEW, SAME, MANY]  # neither beats the other
    assert comparison.front([_run("not simulated"), _run("no labels", 1.0, float("nan"))]) == []


def test_front_compares_within_a_data_set() -> None:
    other = _run("other", 20.0, 0.4, dataset="cifar10")
    assert comparison.front([FEW, other]) == [other, FEW]


@pytest.mark.parametrize(
    ("changes", "labels"),
    [
        ([{}, {"timesteps": 4}], ["IF, T = 8, 4 bits", "IF, T = 4, 4 bits"]),
        ([{}, {"neuron": "lif"}], ["IF, T = 8, 4 bits", "LIF, T = 8, 4 bits"]),
        ([{}, {"bits": None}], ["IF, T = 8, 4 bits", "IF, T = 8, 32 bits"]),
        (
            [{}, {"network": "vgg"}],
            ["resnet-tiny, IF, T = 8, 4 bits", "vgg, IF, T = 8, 4 bits"],
        ),
        ([{}, {}], ["IF, T = 8, 4 bits (0)", "IF, T = 8, 4 bits (1)"]),
    ],
)
def test_labels_say_what_differs(changes: list[dict[str, object]], labels: list[str]) -> None:
    runs = [_run(str(number), **change) for number, change in enumerate(changes)]
    assert comparison.labels(runs) == labels


def test_runs_of_one_name_are_told_apart_by_their_paths() -> None:
    runs = [_run("a", path="x/a"), _run("a", path="y/a")]
    assert comparison.labels(runs) == ["IF, T = 8, 4 bits (a) x/a", "IF, T = 8, 4 bits (a) y/a"]


def test_rates_are_drawn_by_position_with_the_total_in_the_legend() -> None:
    longer = _run("longer", timesteps=4, firing_rates={"a": 0.1, "c": 0.2, "d": 0.3})
    figure = comparison.plot_rates([FEW, longer])
    lines = figure.axes[0].lines
    assert [list(line.get_xdata()) for line in lines] == [[1, 2], [1, 2, 3]]
    assert [list(line.get_ydata()) for line in lines] == [[0.125, 0.5], [0.1, 0.2, 0.3]]
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["IF, T = 8, 4 bits: total 25.00%", "IF, T = 4, 4 bits: total 25.00%"]
    assert len({line.get_color() for line in lines}) == 2


def test_the_front_is_joined_and_every_simulated_run_is_a_point() -> None:
    runs = [MANY, WORSE, FEW, _run("not simulated")]
    figure = comparison.plot_front(runs)
    line = next(line for line in figure.axes[0].lines if line.get_linestyle() == "-")
    assert list(zip(line.get_xdata(), line.get_ydata(), strict=True)) == [(10, 0.5), (30, 0.9)]
    points = list(figure.axes[0].containers)
    assert [p[0].get_xydata().tolist() for p in points] == [[[30, 0.9]], [[20, 0.5]], [[10, 0.5]]]
    low, high = points[1][2][0].get_segments()[0][:, 1]  # 0.05 is sqrt(0.5 * 0.5 / 100)
    assert (low, high) == pytest.approx((0.45, 0.55))


def test_no_two_of_many_runs_look_the_same() -> None:
    runs = [_run(str(number)) for number in range(32)]
    lines = comparison.plot_rates(runs).axes[0].lines
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 32


def test_tables_leave_a_dash_where_a_stage_is_missing() -> None:
    bare = _run("bare", bits=None, quantized=None, samples=None, energy={}, firing_rates={"a": 0.1})
    runs = [MANY, bare]
    assert comparison.results(runs).rows == [
        ("many", "IF", "8", "4", "90.00%", "80.00%", "90.00%", "100", "25.00%", "30"),
        ("bare", "IF", "8", "-", "90.00%", "-", "-", "-", "25.00%", "-"),
    ]
    assert comparison.energies(runs).rows == [
        ("IF, T = 8, 4 bits", "2.0 nJ"), ("IF, T = 8, 32 bits", "-")
    ]  # fmt: skip
    assert comparison.rates(runs).rows == [
        ("total", "", "25.00%", "25.00%"),
        ("1", "a", "12.50%", "10.00%"),
        ("2", "b", "50.00%", ""),
    ]


def test_columns_name_the_network_where_runs_differ_in_it() -> None:
    assert comparison.results([FEW, MANY]).headings[:2] == ("run", "neurons")
    other = _run("other", network="vgg")
    assert comparison.results([FEW, other]).headings[:3] == ("run", "network", "neurons")


def test_csv_has_a_line_per_run_and_a_column_per_layer() -> None:
    lines = list(csv.DictReader(io.StringIO(comparison.to_csv([FEW, MANY]))))
    assert [line["name"] for line in lines] == ["few", "many"]
    assert (lines[0]["synops"], lines[0]["accuracy"]) == ("10.0", "0.5")
    assert (lines[0]["firing_rate_layer_2"], lines[0]["energy_x"]) == ("0.5", "2e-09")
