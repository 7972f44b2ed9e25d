"""How a training went, epoch by epoch, as a picture."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from dsr_deploy.measures.plots import SERIES, WIDTH, own_style
from dsr_deploy.run.history import Epoch


def curves(epochs: Sequence[Epoch]) -> Figure:
    """Draw accuracies and the firing rate, epoch by epoch."""
    with own_style():
        figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
        axes = figure.add_subplot()
        places = [epoch.epoch for epoch in epochs]
        for name, label, colour in (
            ("train_accuracy", "training accuracy", SERIES[2]),
            ("validation_accuracy", "validation accuracy", SERIES[0]),
            ("firing_rate", "firing rate", SERIES[1]),
        ):
            values = [getattr(epoch, name) for epoch in epochs]
            if None in values:
                continue  # no samples were held out
            axes.plot(places, values, marker=".", label=label, color=colour)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set(xlabel="epoch", ylim=(0, 1.02))
        figure.legend(loc="outside upper center", ncols=3)
    return figure
