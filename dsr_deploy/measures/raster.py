"""Pictures of recorded spikes and membrane potentials."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dsr_deploy.formats.traces import Traces
from dsr_deploy.hardware.network import IntegerNetwork
from dsr_deploy.measures.measure import Plot
from dsr_deploy.text import escaped

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_NEURONS: Final = 24
"""Of a layer in a raster plot; fewer where there are many layers."""
MOST_ROWS: Final = 400
FEWEST_NEURONS: Final = 4
POTENTIALS: Final = 4
"""Layers of which the potential of one neuron is drawn."""
GAP: Final = 2
"""Empty rows between two layers."""


class Trace(NamedTuple):
    """One neuron in one sample.

    Attributes
    ----------
    potential : int64 (T,), before the reset where the threshold is known, else after it
    spikes : bool (T,)
    fires_at : None if it is not known
    """

    layer: str
    neuron: tuple[int, int, int]
    potential: NDArray[np.int64]
    spikes: NDArray[np.bool_]
    fires_at: int | None


def plots(
    traces: Traces, network: IntegerNetwork | None, classes: Sequence[str] = ()
) -> tuple[Plot, ...]:
    """Draw the first recorded sample: its spikes and, where they were recorded, potentials.

    Parameters
    ----------
    network : that was recorded, for the thresholds; None if it is not known
    classes : their names
    """
    if not len(traces.samples) or not traces.spikes:
        return ()
    about = _sample(traces, classes)
    most = _per_layer(traces)
    fewer = any(spikes[0, 0].size > most for spikes in traces.spikes.values())
    rows = f"At most {most} neurons of each layer, evenly spread." if fewer else "Every neuron."
    drawn = [Plot(f"{about} A mark is a spike, a row a neuron. {rows}", raster(traces))]
    if found := list(chosen(traces, network)):
        what = "after the reset"
        if any(trace.fires_at is not None for trace in found):
            what = "before the reset; the dashed line is where it fires"
        caption = (
            f"{about} Membrane potential of a neuron (channel, row, column) in some of the layers, "
            f"{what}. Dots are spikes. It is a neuron with the median number of spikes of those in "
            "its layer that spike."
        )
        drawn.append(Plot(caption, plot_potentials(found)))
    return tuple(drawn)


def _sample(traces: Traces, classes: Sequence[str]) -> str:
    def name(number: int) -> str:
        known = 0 <= number < len(classes)
        return f"'{escaped(classes[number], keep='')}'" if known else str(number)

    predicted = name(int(traces.predictions[0]))
    label = "" if traces.labels is None else f"class {name(int(traces.labels[0]))}, "
    return f"Sample {traces.samples[0]}: {label}predicted {predicted}."


def _per_layer(traces: Traces) -> int:
    return max(FEWEST_NEURONS, min(MOST_NEURONS, MOST_ROWS // len(traces.spikes)))


def spread(size: int, most: int) -> NDArray[np.int64]:
    """Return at most ``most`` numbers below ``size``, evenly spread, the ends included."""
    return np.unique(np.linspace(0, size - 1, min(size, most)).round().astype(np.int64))


def raster(traces: Traces) -> Figure:
    """Draw the spikes of the first sample: a row per neuron, a column per timestep."""
    from matplotlib.colors import to_rgba
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    from dsr_deploy.measures.plots import SERIES, WIDTH, own_style

    most = _per_layer(traces)
    trains = [spikes[0].reshape(spikes.shape[1], -1) for spikes in traces.spikes.values()]
    blocks = [neurons[:, spread(neurons.shape[1], most)].T for neurons in trains]
    *tops, end = np.cumsum([0, *(len(block) + GAP for block in blocks)]).tolist()
    height, steps = end - GAP, len(trains[0])
    colours = np.zeros((height, steps, 4))  # transparent
    for layer, (top, block) in enumerate(zip(tops, blocks, strict=True)):
        rows = slice(top, top + len(block))
        colours[rows] = to_rgba(SERIES[layer % 2], 0.12)  # a band
        colours[rows][block] = to_rgba(SERIES[layer % 2])
    places = [top + len(block) / 2 for top, block in zip(tops, blocks, strict=True)]
    with own_style():
        figure = Figure(figsize=(WIDTH, min(9.0, 0.8 + 0.032 * height)), layout="constrained")
        axes = figure.add_subplot()
        extent = (0.5, steps + 0.5, height, 0)
        axes.imshow(colours, aspect="auto", interpolation="nearest", extent=extent)
        axes.set_yticks(places, [escaped(name, keep="") for name in traces.spikes])
        axes.tick_params(axis="y", length=0)
        axes.spines[:].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set(xlabel="timestep")
    return figure


def chosen(traces: Traces, network: IntegerNetwork | None) -> Iterator[Trace]:
    """Yield a neuron of some layers, evenly spread, with the first sample's potentials."""
    known = {} if network is None else {p.name: p for p in network.populations}
    layers = list(traces.potentials)
    for place in spread(len(layers), POTENTIALS) if layers else ():
        layer = layers[place]
        spikes, potential = traces.spikes[layer][0], traces.potentials[layer][0].astype(np.int64)
        neuron = _median(spikes.sum(axis=0))
        channel, row, column = neuron
        train = spikes[:, channel, row, column]
        values = potential[:, channel, row, column]
        population, fires_at = known.get(layer), None
        if population is not None:
            values = values + int(population.v_threshold[channel]) * train
            fires_at = int(population.v_fire[channel])
        yield Trace(layer, neuron, values, train, fires_at)


def _median(counts: NDArray[np.int64]) -> tuple[int, int, int]:
    """Return the neuron with the median count of those that spike; the first if none does."""
    flat = counts.reshape(-1)
    active = np.flatnonzero(flat)
    index = active[np.argsort(flat[active], kind="stable")[len(active) // 2]] if len(active) else 0
    channel, row, column = np.unravel_index(index, counts.shape)
    return int(channel), int(row), int(column)


def plot_potentials(found: Sequence[Trace]) -> Figure:
    """Draw membrane potentials, one below the other."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    from dsr_deploy.measures.plots import INK, SERIES, WIDTH, own_style

    with own_style():
        figure = Figure(figsize=(WIDTH, 0.5 + 1.15 * len(found)), layout="constrained")
        for axes, trace in zip(
            figure.subplots(len(found), 1, sharex=True, squeeze=False)[:, 0], found, strict=True
        ):
            steps = np.arange(1, len(trace.potential) + 1)
            axes.plot(steps, trace.potential, color=SERIES[0], linewidth=1.1)
            axes.plot(
                steps[trace.spikes], trace.potential[trace.spikes], "o", color=SERIES[1], ms=3.5
            )
            if trace.fires_at is not None:
                axes.axhline(trace.fires_at, color=INK, linewidth=0.8, linestyle="--")
            name = f"{trace.layer}, neuron {', '.join(map(str, trace.neuron))}"
            axes.set_title(escaped(name, keep=""), loc="left", fontsize=8)
            axes.margins(y=0.15)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set(xlabel="timestep")
    return figure
