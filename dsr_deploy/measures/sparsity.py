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
from dsr_deploy.measures.measure import Measure, Plot, Section, Subject
from dsr_deploy.measures.tables import Table
from dsr_deploy.text import escaped

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


def plot(sparsity: Sparsity, title: str = "") -> Figure:
    """Draw the firing rate of each layer as a bar, the first on top, and the total as a line."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    from dsr_deploy.measures.plots import INK, SERIES, WIDTH, own_style

    count = len(sparsity.layers)
    places = range(1, count + 1)
    total = sparsity.total.firing_rate
    rates = [layer.firing_rate for layer in sparsity.layers]
    with own_style():
        figure = Figure(figsize=(WIDTH, 1.1 + 0.2 * count), layout="constrained")
        axes = figure.add_subplot()
        axes.barh(places, rates, height=0.7, color=SERIES[0])
        axes.axvline(total, color=INK, linewidth=1, label=f"all neurons: {total:.2%}")
        axes.set_yticks(list(places), [escaped(layer.name, keep="") for layer in sparsity.layers])
        axes.set_ylim(count + 0.6, 0.4)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set(xlabel="firing rate", title=escaped(title, keep=""))
        figure.legend(loc="outside upper right")
    return figure


def plot_over_time(sparsity: Sparsity) -> Figure:
    """Draw the firing rate of each layer at each timestep in colours, and above it the total."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    from dsr_deploy.measures.plots import INK, WIDTH, own_style

    count, steps = len(sparsity.layers), sparsity.timesteps
    rates = [_over_time(layer) for layer in sparsity.layers]
    with own_style():
        figure = Figure(figsize=(WIDTH, 2.1 + 0.2 * count), layout="constrained")
        above, below = figure.subplots(
            2, 1, sharex=True, gridspec_kw={"height_ratios": (1.2, 0.4 + 0.2 * count)}
        )
        above.plot(
            range(1, steps + 1), _over_time(sparsity.total), color=INK, marker=".", linewidth=1
        )
        highest = max(_over_time(sparsity.total))
        above.set(ylabel="all neurons", ylim=(0, 1.15 * highest or 1))
        above.yaxis.set_major_formatter(PercentFormatter(1.0))
        image = below.imshow(
            rates, aspect="auto", interpolation="nearest", vmin=0, cmap="viridis",
            extent=(0.5, steps + 0.5, count + 0.5, 0.5),
        )  # fmt: skip
        names = [escaped(layer.name, keep="") for layer in sparsity.layers]
        below.set_yticks(range(1, count + 1), names)
        below.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        below.set(xlabel="timestep")
        figure.colorbar(image, ax=below, format=PercentFormatter(1.0), aspect=30, pad=0.02)
    return figure


def _over_time(layer: LayerSparsity) -> list[float]:
    """Return the firing rate at each timestep."""
    return [spikes / layer.neurons for spikes in layer.spikes_per_timestep]


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
    return Section("Firing rates", "", table(sparsity))


def _plots(sparsity: Sparsity) -> tuple[Plot, ...]:
    return (
        Plot(
            "Spikes per neuron and timestep; the line is the rate of all neurons.", plot(sparsity)
        ),
        Plot(
            "Spikes per neuron at each timestep: of all neurons, and layer by layer.",
            plot_over_time(sparsity),
        ),
    )


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
    lambda subject: measure(subject.network, subject.simulation), _section, _files, _plots
)
