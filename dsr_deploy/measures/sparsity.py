"""How few spikes a network needs: firing rates per layer (Fig. S1), as table, CSV and plot."""

from __future__ import annotations

import csv
import dataclasses
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from dsr_deploy.files import to_json
from dsr_deploy.hardware.event.simulation import Simulation
from dsr_deploy.hardware.network import IntegerNetwork
from dsr_deploy.measures.measure import Measure, Section, Subject
from dsr_deploy.measures.tables import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TOTAL = "total"


@dataclass(frozen=True)
class LayerSparsity:
    """What the neurons of one layer did, or those of all together.

    Attributes
    ----------
    neurons : how many there are
    spikes : over all samples and timesteps
    firing_rate : spikes per neuron and timestep, 0 to 1
    spikes_per_sample : mean over the samples
    spikes_per_timestep : mean over the samples, for each of the T timesteps
    dead, always_on : neurons that never spiked, and that spiked at every timestep of every sample
    dead_channels, always_on_channels : channels of which that holds for every neuron
    """

    name: str
    neurons: int
    spikes: int
    firing_rate: float
    spikes_per_sample: float
    spikes_per_timestep: tuple[float, ...]
    dead: int
    always_on: int
    dead_channels: int
    always_on_channels: int


@dataclass(frozen=True)
class Sparsity:
    """Firing of a network on ``samples`` samples of ``timesteps`` timesteps each."""

    samples: int
    timesteps: int
    layers: tuple[LayerSparsity, ...]
    total: LayerSparsity


def measure(network: IntegerNetwork, simulation: Simulation) -> Sparsity:
    """Count what a simulation of ``network`` on at least one sample showed."""
    moments = simulation.samples * simulation.timesteps
    layers = []
    for population in network.populations:
        counts = simulation.populations[population.name]
        spikes = int(counts.spikes.sum())
        per_channel = counts.spikes.reshape(len(counts.spikes), -1)
        layers.append(
            LayerSparsity(
                name=population.name,
                neurons=population.size,
                spikes=spikes,
                firing_rate=spikes / (population.size * moments),
                spikes_per_sample=spikes / simulation.samples,
                spikes_per_timestep=tuple((counts.per_timestep / simulation.samples).tolist()),
                dead=int((counts.spikes == 0).sum()),
                always_on=int((counts.spikes == moments).sum()),
                dead_channels=int((per_channel == 0).all(axis=1).sum()),
                always_on_channels=int((per_channel == moments).all(axis=1).sum()),
            )
        )
    return Sparsity(
        simulation.samples, simulation.timesteps, tuple(layers), _total(layers, moments)
    )


def _total(layers: list[LayerSparsity], moments: int) -> LayerSparsity:
    neurons, spikes = sum(x.neurons for x in layers), sum(x.spikes for x in layers)
    per_timestep = np.sum([layer.spikes_per_timestep for layer in layers], axis=0)
    return LayerSparsity(
        name=TOTAL,
        neurons=neurons,
        spikes=spikes,
        firing_rate=spikes / (neurons * moments),
        spikes_per_sample=sum(layer.spikes_per_sample for layer in layers),
        spikes_per_timestep=tuple(per_timestep.tolist()),
        dead=sum(layer.dead for layer in layers),
        always_on=sum(layer.always_on for layer in layers),
        dead_channels=sum(layer.dead_channels for layer in layers),
        always_on_channels=sum(layer.always_on_channels for layer in layers),
    )


def to_csv(sparsity: Sparsity) -> str:
    """Return a line per layer and one for the total; the columns are the fields' names.

    ``spikes_per_timestep`` becomes T columns, ``spikes_timestep_0`` and so on.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [field.name for field in dataclasses.fields(LayerSparsity)]
    names.remove("spikes_per_timestep")
    steps = [f"spikes_timestep_{t}" for t in range(sparsity.timesteps)]
    writer.writerow([*names, *steps])
    for layer in (*sparsity.layers, sparsity.total):
        writer.writerow([*(getattr(layer, name) for name in names), *layer.spikes_per_timestep])
    return text.getvalue()


def plot(sparsity: Sparsity, title: str) -> Figure:
    """Draw the firing rate of each layer as a bar and the total as a line (Fig. S1)."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    from dsr_deploy.measures.plots import own_style

    count = len(sparsity.layers)
    places = range(1, count + 1)
    total = sparsity.total.firing_rate
    with own_style():
        figure = Figure(figsize=(min(20.0, 3 + 0.32 * count), 4.2), layout="constrained")
        axes = figure.add_subplot()
        axes.bar(places, [layer.firing_rate for layer in sparsity.layers], color="#4477aa")
        axes.axhline(total, color="#cc6677", label=f"all neurons: {total:.2%}")
        axes.set_xticks(list(places), [layer.name for layer in sparsity.layers])
        axes.tick_params(axis="x", rotation=90, labelsize=8)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.margins(y=0.25)  # room for the legend
        axes.set(ylabel="firing rate", title=title)
        axes.legend()
    return figure


def table(sparsity: Sparsity) -> Table:
    """Tabulate firing rates and what they come from, layer by layer and in total."""
    return Table(
        ("layer", "neurons", "firing rate", "spikes/sample", "spikes/step", "dead", "always on"),
        [
            (
                layer.name,
                f"{layer.neurons:,}",
                f"{layer.firing_rate:.2%}",
                f"{layer.spikes_per_sample:,.1f}",
                f"{layer.spikes_per_sample / sparsity.timesteps:,.1f}",
                f"{layer.dead:,}",
                f"{layer.always_on:,}",
            )
            for layer in (*sparsity.layers, sparsity.total)
        ],
    )


def _section(sparsity: Sparsity) -> Section:
    return Section("Firing rates", "", table(sparsity), image="sparsity.svg")


def _files(sparsity: Sparsity, subject: Subject) -> dict[str, bytes]:
    from dsr_deploy.measures.plots import draw  # matplotlib takes a second to import

    figure = plot(sparsity, subject.title)
    return {
        "sparsity.png": draw(figure, "png"),
        "sparsity.svg": draw(figure, "svg"),
        "sparsity.csv": to_csv(sparsity).encode(),
        "sparsity.json": to_json(dataclasses.asdict(sparsity)),
    }


MEASURE: Final = Measure(
    lambda subject: measure(subject.network, subject.simulation), _section, _files
)
