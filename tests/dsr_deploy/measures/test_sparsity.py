import csv
import io

import numpy as np
import pytest
import sample_run

from dsr_deploy.hardware import reference
from dsr_deploy.hardware.event.simulation import PopulationCounts, Simulation
from dsr_deploy.hardware.event.simulator import Simulator
from dsr_deploy.hardware.run import Run
from dsr_deploy.measures import sparsity
from dsr_deploy.measures.sparsity import LayerSparsity, Sparsity


def _counts(spikes: np.ndarray) -> PopulationCounts:
    """Count recorded spikes (N, T, C, H, W) as a simulation does."""
    return PopulationCounts(
        spikes=spikes.sum(axis=(0, 1)),
        per_timestep=spikes.sum(axis=(0, 2, 3, 4)),
        updates=spikes.size,
        u_min=0,
        u_max=0,
    )


def test_measure_counts_what_a_hand_counts() -> None:
    network = sample_run.network()
    conv = np.zeros((2, 3, 4, 8, 8), np.int64)
    conv[:, :, 1] = 1  # a whole channel at every timestep of every sample
    conv[0, 2, 0, 0, 0] = 1
    output = np.zeros((2, 3, 10, 1, 1), np.int64)
    output[1, 0, 7] = 1
    simulation = Simulation(
        samples=2,
        run=Run(np.zeros((2, 10), np.int64)),
        populations={"conv": _counts(conv), "output": _counts(output)},
        connections=(),
        input_events=0,
        timesteps=3,
    )
    assert sparsity.measure(network, simulation) == Sparsity(
        samples=2,
        timesteps=3,
        layers=(
            LayerSparsity(
                name="conv",
                neurons=256,
                spikes=385,
                firing_rate=385 / (256 * 6),
                spikes_per_sample=192.5,
                spikes_per_timestep=(64.0, 64.0, 64.5),
                dead=191,
                always_on=64,
                dead_channels=2,
                always_on_channels=1,
            ),
            LayerSparsity(
                name="output",
                neurons=10,
                spikes=1,
                firing_rate=1 / 60,
                spikes_per_sample=0.5,
                spikes_per_timestep=(0.5, 0.0, 0.0),
                dead=9,
                always_on=0,
                dead_channels=9,
                always_on_channels=0,
            ),
        ),
        total=LayerSparsity(
            name="total",
            neurons=266,
            spikes=386,
            firing_rate=386 / (266 * 6),
            spikes_per_sample=193.0,
            spikes_per_timestep=(64.5, 64.0, 64.5),
            dead=200,
            always_on=64,
            dead_channels=11,
            always_on_channels=1,
        ),
    )


def test_measure_agrees_with_the_spikes_of_the_reference() -> None:
    network = sample_run.network()
    payloads = sample_run.payloads()[:7]
    recorded = reference.run(network, payloads, record=True).spikes
    assert recorded is not None
    measured = sparsity.measure(network, Simulator(network).run(payloads))
    for layer in measured.layers:
        spikes = recorded[layer.name]
        assert layer.firing_rate == spikes.mean()
        assert layer.dead == int((~spikes.any(axis=(0, 1))).sum())
        assert layer.always_on == int(spikes.all(axis=(0, 1)).sum())


@pytest.fixture(scope="module")
def measured() -> Sparsity:
    network = sample_run.network()
    return sparsity.measure(network, Simulator(network).run(sample_run.payloads()[:5]))


def test_csv_has_a_line_per_layer_and_a_column_per_timestep(measured: Sparsity) -> None:
    lines = list(csv.DictReader(io.StringIO(sparsity.to_csv(measured))))
    assert [line["name"] for line in lines] == ["conv", "output", "total"]
    layer = measured.layers[0]
    assert int(lines[0]["spikes"]) == layer.spikes
    assert float(lines[0]["firing_rate"]) == layer.firing_rate
    steps = [float(lines[0][f"spikes_timestep_{t}"]) for t in range(3)]
    assert tuple(steps) == layer.spikes_per_timestep


def test_plot_has_a_bar_per_layer_and_a_line_for_all(measured: Sparsity) -> None:
    axes = sparsity.plot(measured, "title").axes[0]
    widths = [bar.get_width() for bar in axes.patches]
    assert widths == [layer.firing_rate for layer in measured.layers]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["conv", "output"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first layer is on top
    assert set(axes.lines[0].get_xdata()) == {measured.total.firing_rate}


def test_plot_over_time_has_the_rate_of_every_layer_at_every_timestep(measured: Sparsity) -> None:
    above, below = sparsity.plot_over_time(measured).axes[:2]
    rates = [
        [spikes / layer.neurons for spikes in layer.spikes_per_timestep]
        for layer in (*measured.layers, measured.total)
    ]
    assert below.images[0].get_array().tolist() == rates[:2]
    assert above.lines[0].get_ydata().tolist() == rates[2]
    assert above.lines[0].get_xdata().tolist() == [1, 2, 3]
    assert np.mean(rates[0]) == pytest.approx(measured.layers[0].firing_rate)
