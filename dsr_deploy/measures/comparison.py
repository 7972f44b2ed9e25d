"""Several runs side by side: firing rates (Fig. S1), accuracy against operations, and energies."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dsr_deploy.measures.tables import Table
from dsr_deploy.text import escaped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FLOAT_BITS = 32
"""Width of the weights of a network that was trained and not quantized."""
MARKERS = "osD^vP*X"


@dataclass(frozen=True)
class Missing:
    """A stage that was not run, and the command that runs it."""

    stage: str
    command: str


@dataclass(frozen=True)
class Compared:
    """What one run contributes; None where its stage was not run.

    Attributes
    ----------
    name : of its directory
    timesteps : T
    float_accuracy : of the trained network on the test set, in 32 bits
    bits : of the network that was simulated
    quantized : accuracy of that network on the whole test set
    accuracy, samples : of the simulation
    synops : synaptic operations per sample, counted
    firing_rate, firing_rates : of all neurons, and by layer in order; of the simulation, and before
        there is one, of the trained network on the test set
    energy : J per inference by set of constants
    missing, stale : stages that were not run, and lines about those of an earlier network
    """

    name: str
    path: str
    dataset: str
    network: str
    neuron: str
    timesteps: int
    float_accuracy: float | None
    bits: int | None
    quantized: float | None
    accuracy: float | None
    samples: int | None
    synops: float | None
    firing_rate: float | None
    firing_rates: dict[str, float]
    energy: dict[str, float]
    missing: tuple[Missing, ...]
    stale: tuple[str, ...]


def labels(runs: Sequence[Compared]) -> list[str]:
    """Return a text for each run that no other has: its setting, and its name where that is needed.

    The network and the data set are told where the runs differ in them.
    """
    differing = _differing(runs)
    texts = [_setting(run, differing) for run in runs]
    counts = Counter(texts)
    texts = [
        f"{text} ({run.name})" if counts[text] > 1 else text
        for text, run in zip(texts, runs, strict=True)
    ]
    counts = Counter(texts)
    return [
        escaped(f"{text} {run.path}" if counts[text] > 1 else text, keep="")
        for text, run in zip(texts, runs, strict=True)
    ]


def _differing(runs: Sequence[Compared]) -> list[str]:
    """Return which of data set and network the runs differ in."""
    return [name for name in ("dataset", "network") if len({getattr(r, name) for r in runs}) > 1]


def _setting(run: Compared, differing: Sequence[str]) -> str:
    parts = [getattr(run, name) for name in differing]
    bits = FLOAT_BITS if run.bits is None else run.bits
    return ", ".join([*parts, run.neuron.upper(), f"T = {run.timesteps}", f"{bits} bits"])


def front(runs: Sequence[Compared]) -> list[Compared]:
    """Return the simulated runs that no other beats, the fewest operations first.

    One beats another on the same data set if it is not worse in accuracy nor in synaptic
    operations, and better in one of them.
    """
    known = [run for run in runs if _point(run) is not None]
    best = [run for run in known if not any(_beats(other, run) for other in known)]
    return sorted(best, key=lambda run: (run.dataset, *_expect(_point(run))))


def _point(run: Compared) -> tuple[float, float] | None:
    """Return operations and accuracy."""
    if run.synops is None or run.accuracy is None or math.isnan(run.accuracy):
        return None
    return run.synops, run.accuracy


def _expect(point: tuple[float, float] | None) -> tuple[float, float]:
    assert point is not None
    return point


def _beats(one: Compared, other: Compared) -> bool:
    (synops, accuracy), (others, less) = _expect(_point(one)), _expect(_point(other))
    return (
        one.dataset == other.dataset
        and synops <= others
        and accuracy >= less
        and (synops, accuracy) != (others, less)
    )


def results(runs: Sequence[Compared]) -> Table:
    """Tabulate setting, accuracies, firing rate and synaptic operations, a line per run.

    The network and the data set have columns where the runs differ in them.
    """
    differing = _differing(runs)
    heads = ("run", *differing, "neurons", "T", "bits", "in 32 bits", "quantized", "simulated",
             "samples", "firing rate", "synops/sample")  # fmt: skip
    return Table(
        heads,
        [
            (
                escaped(run.name, keep=""),
                *(escaped(getattr(run, name), keep="") for name in differing),
                run.neuron.upper(),
                str(run.timesteps),
                "-" if run.bits is None else str(run.bits),
                _percent(run.float_accuracy),
                _percent(run.quantized),
                _percent(run.accuracy),
                "-" if run.samples is None else f"{run.samples:,}",
                _percent(run.firing_rate),
                "-" if run.synops is None else f"{run.synops:,.0f}",
            )
            for run in runs
        ],
    )


def energies(runs: Sequence[Compared]) -> Table:
    """Tabulate the spiking network's energy per inference under each set of constants."""
    sets = _sets(runs)
    rows = []
    for run, label in zip(runs, labels(runs), strict=True):
        cells = (run.energy.get(name) for name in sets)
        shown = ("-" if joules is None else f"{joules * 1e9:,.1f} nJ" for joules in cells)
        rows.append((label, *shown))
    return Table(("run", *sets), rows)


def _sets(runs: Sequence[Compared]) -> list[str]:
    """Return the sets of constants that any of the runs has energies of."""
    return list(dict.fromkeys(itertools.chain.from_iterable(run.energy for run in runs)))


def rates(runs: Sequence[Compared]) -> Table:
    """Tabulate the firing rates by the position of the layer, a column per run."""
    names = [list(run.firing_rates) for run in runs]
    rows = [("total", "", *(_percent(run.firing_rate) for run in runs))]
    for place, layers in enumerate(itertools.zip_longest(*names), start=1):
        found = dict.fromkeys(escaped(name, keep="") for name in layers if name is not None)
        cells = (
            "" if name is None else _percent(run.firing_rates[name])
            for name, run in zip(layers, runs, strict=True)
        )
        rows.append((str(place), ", ".join(found), *cells))
    return Table(("layer", "name", *labels(runs)), rows)


def _percent(share: float | None) -> str:
    return "-" if share is None or math.isnan(share) else f"{share:.2%}"


def to_csv(runs: Sequence[Compared]) -> str:
    """Return a line per run; energies in J, and the firing rate of each layer by its position."""
    sets = _sets(runs)
    plain = ("name", "path", "dataset", "network", "neuron", "timesteps", "float_accuracy", "bits",
             "quantized", "accuracy", "samples", "synops", "firing_rate")  # fmt: skip
    most = max((len(run.firing_rates) for run in runs), default=0)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    places = [f"firing_rate_layer_{place}" for place in range(1, most + 1)]
    writer.writerow([*plain, *(f"energy_{name}" for name in sets), *places])
    for run in runs:
        cells = [getattr(run, name) for name in plain]
        cells = [escaped(cell, keep="") if isinstance(cell, str) else cell for cell in cells]
        writer.writerow([*cells, *(run.energy.get(n) for n in sets), *run.firing_rates.values()])
    return text.getvalue()


def plot_rates(runs: Sequence[Compared]) -> Figure:
    """Draw the firing rate of each layer by its position, a line per run (Fig. S1).

    The legend has the rate of all neurons.
    """
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    with _axes(runs) as (figure, axes):
        for run, label, style in zip(runs, labels(runs), _styles(), strict=False):
            values = list(run.firing_rates.values())
            label = f"{label}: total {_percent(run.firing_rate)}"
            axes.plot(range(1, len(values) + 1), values, label=label, linewidth=1.2, **style)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set(xlabel="layer", ylabel="firing rate", ylim=(0, None))
        figure.legend(loc="outside lower left")
    return figure


def plot_front(runs: Sequence[Compared]) -> Figure:
    """Draw accuracy against synaptic operations, with its standard error; join the front."""
    from matplotlib.ticker import PercentFormatter

    from dsr_deploy.measures.plots import INK

    with _axes(runs) as (figure, axes):
        for run, label, style in zip(runs, labels(runs), _styles(), strict=False):
            if (point := _point(run)) is None or run.samples is None:
                continue
            error = math.sqrt(point[1] * (1 - point[1]) / run.samples)
            bar: dict[str, Any] = {"elinewidth": 0.8, "capsize": 2.0, "zorder": 2}
            axes.errorbar(*point, yerr=error, label=label, **style | bar | {"linestyle": ""})
        for _, group in itertools.groupby(front(runs), key=lambda run: run.dataset):
            line = [_expect(_point(run)) for run in group]
            axes.plot(*zip(*line, strict=True), color=INK, linewidth=0.8, zorder=1)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.xaxis.set_major_formatter(lambda value, _: _short(value))
        axes.set(xlabel="synaptic operations per sample", ylabel="accuracy")
        axes.margins(x=0.08, y=0.12)
        figure.legend(loc="outside lower left")
    return figure


def _short(value: float) -> str:
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:g}{letter}"
    return f"{value:g}"


def _styles() -> Iterator[dict[str, Any]]:
    """Yield a colour, a marker and a line for every run; no two of 32 are the same."""
    from dsr_deploy.measures.plots import SERIES

    for place in itertools.count():
        round_, colour = divmod(place, len(SERIES))
        yield {
            "color": SERIES[colour],
            "marker": MARKERS[place % len(MARKERS)],
            "markersize": 4.5,
            "linestyle": ("-", "--", ":", "-.")[round_ % 4],
        }


@contextlib.contextmanager
def _axes(runs: Sequence[Compared]) -> Iterator[tuple[Figure, Axes]]:
    """Begin a figure in our own style, high enough for a line of the legend per run."""
    from matplotlib.figure import Figure

    from dsr_deploy.measures.plots import WIDTH, own_style

    with own_style():
        figure = Figure(figsize=(WIDTH, 3.1 + 0.2 * len(runs)), layout="constrained")
        yield figure, figure.add_subplot()
