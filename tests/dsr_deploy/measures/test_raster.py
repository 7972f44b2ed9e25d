"""Pictures of recorded spikes and potentials, held against the arrays."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import sample_run
from matplotlib.colors import to_rgba

from dsr_deploy.formats.traces import Traces
from dsr_deploy.hardware import reference
from dsr_deploy.measures import plots, raster

CLASSES = tuple("abcdefghij")


@pytest.fixture(scope="module")
def traces() -> Traces:
    network, payloads = sample_run.network(), sample_run.payloads()[4:7]
    run = reference.run(network, payloads, record=True)
    assert run.spikes is not None
    rng = np.random.default_rng(0)
    potentials = {
        name: rng.integers(-99, 99, spikes.shape).astype(np.int32)
        for name, spikes in run.spikes.items()
    }
    numbers, labels = np.arange(4, 7), np.array([1, 2, 3])
    return Traces(run.spikes, potentials, numbers, run.predictions, labels)


def test_raster_has_a_row_per_chosen_neuron_and_a_mark_per_spike(traces: Traces) -> None:
    axes = raster.raster(traces).axes[0]
    marks = (np.asarray(axes.images[0].get_array())[..., 3] == 1).astype(int)
    chosen = np.linspace(0, 255, 24).round().astype(int)
    conv = traces.spikes["conv"][0].reshape(3, 256)[:, chosen].T
    output = traces.spikes["output"][0].reshape(3, 10).T
    assert marks.tolist() == np.concatenate([conv, np.zeros((2, 3)), output]).astype(int).tolist()
    assert conv.any()
    assert [label.get_text() for label in axes.get_yticklabels()] == ["conv", "output"]
    assert axes.get_yticks().tolist() == [12, 24 + 2 + 5]
    colours = np.asarray(axes.images[0].get_array())
    assert colours[:24][conv][0].tolist() == pytest.approx(to_rgba(plots.SERIES[0]))
    assert not colours[24:26].any()  # the gap is transparent


@pytest.mark.parametrize(
    ("size", "most", "numbers"),
    [(10, 4, [0, 3, 6, 9]), (3, 4, [0, 1, 2]), (1, 4, [0]), (9, 1, [0])],
)
def test_spread_is_even_and_has_both_ends(size: int, most: int, numbers: list[int]) -> None:
    assert raster.spread(size, most).tolist() == numbers


def test_potentials_are_before_the_reset_where_the_threshold_is_known(traces: Traces) -> None:
    network = sample_run.network()
    found = list(raster.chosen(traces, network))
    assert [trace.layer for trace in found] == ["conv", "output"]
    for trace, population in zip(found, network.populations, strict=True):
        c, y, x = trace.neuron
        after = traces.potentials[trace.layer][0, :, c, y, x].astype(int)
        spikes = traces.spikes[trace.layer][0, :, c, y, x]
        assert trace.spikes.tolist() == spikes.tolist()
        assert trace.potential.tolist() == (after + population.v_threshold[c] * spikes).tolist()
        assert trace.fires_at == population.v_fire[c]
    unknown = list(raster.chosen(traces, None))
    assert [trace.fires_at for trace in unknown] == [None, None]
    c, y, x = unknown[0].neuron
    assert unknown[0].potential.tolist() == traces.potentials["conv"][0, :, c, y, x].tolist()


def test_the_neuron_has_the_median_number_of_spikes(traces: Traces) -> None:
    for trace in raster.chosen(traces, None):
        counts = traces.spikes[trace.layer][0].sum(axis=0).reshape(-1)
        active = np.sort(counts[counts > 0])
        assert trace.spikes.sum() == active[len(active) // 2]


def test_a_silent_layer_shows_its_first_neuron(traces: Traces) -> None:
    silent = dataclasses.replace(
        traces, spikes={name: np.zeros_like(spikes) for name, spikes in traces.spikes.items()}
    )
    assert [trace.neuron for trace in raster.chosen(silent, None)] == [(0, 0, 0), (0, 0, 0)]
    assert len(raster.plots(silent, None)) == 2


def test_potentials_are_drawn_with_spikes_and_the_level_at_which_it_fires(traces: Traces) -> None:
    found = list(raster.chosen(traces, sample_run.network()))
    figure = raster.plot_potentials(found)
    for axes, trace in zip(figure.axes, found, strict=True):
        line, dots, level = axes.lines
        assert list(line.get_ydata()) == trace.potential.tolist()
        assert list(dots.get_xdata()) == (np.flatnonzero(trace.spikes) + 1).tolist()
        assert set(level.get_ydata()) == {trace.fires_at}
    assert len(raster.plot_potentials(list(raster.chosen(traces, None))).axes[0].lines) == 2


def test_captions_name_the_sample_and_what_was_left_out(traces: Traces) -> None:
    first, second = raster.plots(traces, sample_run.network(), CLASSES)
    predicted = CLASSES[traces.predictions[0]]
    assert first.caption == (
        f"Sample 4: class 'b', predicted '{predicted}'. A mark is a spike, a row a neuron. At most "
        "24 neurons of each layer, evenly spread."
    )
    assert "before the reset; the dashed line is where it fires" in second.caption
    bare = dataclasses.replace(
        traces, labels=None, potentials={}, spikes={"output": traces.spikes["output"]}
    )
    (only,) = raster.plots(bare, None)
    assert only.caption == (
        f"Sample 4: predicted {traces.predictions[0]}. A mark is a spike, a row a neuron. Every "
        "neuron."
    )


def test_nothing_recorded_draws_nothing(traces: Traces) -> None:
    assert raster.plots(dataclasses.replace(traces, spikes={}, potentials={}), None) == ()
