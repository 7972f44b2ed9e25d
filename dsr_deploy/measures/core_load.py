"""The busiest core: a chip's timestep ends when it is done, whatever the others do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from dsr_deploy.hardware import core_load
from dsr_deploy.hardware.chip import Chip
from dsr_deploy.hardware.core_load import CoreLoad, LayerCounts
from dsr_deploy.hardware.event.simulator import Simulator
from dsr_deploy.hardware.mapping import map_network
from dsr_deploy.hardware.network import IntegerNetwork
from dsr_deploy.measures.measure import Measure, Section
from dsr_deploy.measures.tables import Table
from dsr_deploy.progress import Progress

SAMPLES: Final = 100
"""Most samples whose spikes are recorded for this measure."""

AT_ONCE: Final = 8
"""Samples recorded at a time: those of a ResNet-18 at T = 20 take 11 MB each."""

Array = NDArray[np.int64]
Term = Literal["synops", "updates", "reads"]
TERMS: Final[tuple[Term, ...]] = ("synops", "updates", "reads")


@dataclass(frozen=True)
class TermLoad:
    """One count of the busiest core, in means over samples and timesteps.

    Attributes
    ----------
    busiest : of the core that has most of it at that timestep
    mean : of all cores
    unevenness : busiest / mean; None if no core has any
    layer : that most often has the busiest core, the first among equals
    binds : share of the timesteps, 0 to 1, at which it is the largest of the three counts, the
        first among equals
    """

    term: Term
    busiest: float
    mean: float
    unevenness: float | None
    layer: str
    binds: float


@dataclass(frozen=True)
class LayerLoad:
    """The busiest core of a layer, in means over samples and timesteps.

    Attributes
    ----------
    synops, updates, reads : of the core of the layer that has most of it at that timestep
    unevenness : synaptic operations of the busiest core over the mean of the layer's cores; None
        if they have none
    binds : share of the timesteps, 0 to 1, at which the largest of all counts of all cores is in
        this layer, the first among equals
    """

    name: str
    cores: int
    synops: float
    updates: float
    reads: float
    unevenness: float | None
    binds: float


@dataclass(frozen=True)
class BusiestCore:
    """What the busiest core does at a timestep, by :mod:`dsr_deploy.hardware.core_load`.

    Attributes
    ----------
    samples : whose spikes were recorded for it
    largest : mean over samples and timesteps of the largest of all counts of all cores
    binding, binding_layer : the term and the layer that most often hold the largest count
    """

    chip: str
    samples: int
    cores: int
    largest: float
    binding: Term
    binding_layer: str
    terms: tuple[TermLoad, ...]
    layers: tuple[LayerLoad, ...]


def record(
    network: IntegerNetwork,
    chip: Chip,
    batches: Iterable[NDArray[np.int8]],
    samples: int,
    threads: int | None,
    progress: Progress,
) -> CoreLoad:
    """Simulate ``samples`` samples, recording their spikes, and count what each core does.

    Parameters
    ----------
    batches : of payloads, ``samples`` in all, which may be none
    """
    simulator, mapping = Simulator(network), map_network(network, chip)
    frames = (network.timesteps,) if network.input.framed else ()
    none = np.zeros((0, *frames, *network.input.shape), np.int8)

    def load(payloads: NDArray[np.int8]) -> CoreLoad:
        run = simulator.run(payloads, record=True, threads=threads).run
        assert run.spikes is not None
        return core_load.core_load(network, chip, mapping, payloads, run.spikes)

    whole = load(none)
    with progress.task("loading cores", samples) as task:
        for payloads in batches:
            for start in range(0, len(payloads), AT_ONCE):
                part = payloads[start : start + AT_ONCE]
                whole = whole.merge(load(part))
                task.advance(len(part), "")
    return whole


def busiest_core(network: IntegerNetwork, chip: Chip, load: CoreLoad) -> BusiestCore:
    """Return what the busiest core does; ``load`` is of at least one sample."""
    layers = load.by_layer(network)
    names, counts = list(layers), list(layers.values())
    most = np.stack([_most(layer) for layer in counts])  # (layers, terms, N, T)
    means = np.array([_means(layer) for layer in counts])  # (layers, terms), of a core
    cores = np.array([len(layer.updates) for layer in counts])
    shape = most.shape[:2]
    largest = most.reshape(-1, *most.shape[2:]).argmax(axis=0)  # which layer and term, (N, T)
    binds = np.bincount(largest.reshape(-1), minlength=most[:, :, 0, 0].size).reshape(shape)
    layer, term = np.unravel_index(binds.argmax(), shape)
    overall = (cores @ means) / cores.sum()
    return BusiestCore(
        chip=chip.name,
        samples=load.samples,
        cores=int(cores.sum()),
        largest=float(most.max(axis=(0, 1)).mean()),
        binding=TERMS[term],
        binding_layer=names[layer],
        terms=tuple(
            TermLoad(
                term=name,
                busiest=(busiest := float(most[:, i].max(axis=0).mean())),
                mean=float(overall[i]),
                unevenness=_ratio(busiest, overall[i]),
                layer=names[_most_often(most[:, i])],
                binds=float(binds[:, i].sum() / largest.size),
            )
            for i, name in enumerate(TERMS)
        ),
        layers=tuple(
            LayerLoad(
                name=name,
                cores=int(cores[i]),
                synops=float(most[i, 0].mean()),
                updates=float(most[i, 1].mean()),
                reads=float(most[i, 2].mean()),
                unevenness=_ratio(float(most[i, 0].mean()), means[i, 0]),
                binds=float(binds[i].sum() / largest.size),
            )
            for i, name in enumerate(names)
        ),
    )


def _most(counts: LayerCounts) -> Array:
    """Return each term of the core of a layer that has most of it, int64 (terms, N, T)."""
    synops, reads = counts.synops.max(axis=2), counts.reads.max(axis=2)
    return np.stack([synops, np.full_like(synops, counts.updates.max()), reads])


def _means(counts: LayerCounts) -> list[float]:
    """Return each term per core, sample and timestep."""
    return [float(count.mean()) for count in (counts.synops, counts.updates, counts.reads)]


def _most_often(counts: Array) -> int:
    """Return the layer that most often has the largest of ``counts``, (layers, N, T)."""
    return int(np.bincount(counts.argmax(axis=0).reshape(-1)).argmax())


def _ratio(busiest: float, mean: float) -> float | None:
    return float(busiest / mean) if mean else None


_NAMES: Final[dict[Term, str]] = {
    "synops": "synaptic operations",
    "updates": "neuron updates",
    "reads": "memory reads",
}


def table(load: BusiestCore) -> Table:
    """Tabulate the busiest core of each layer, and of all."""
    busiest = {term.term: f"{term.busiest:,.1f}" for term in load.terms}
    uneven = {term.term: term.unevenness for term in load.terms}
    rows: list[tuple[str, ...]] = [
        (
            layer.name,
            f"{layer.cores:,}",
            f"{layer.synops:,.1f}",
            f"{layer.updates:,.1f}",
            f"{layer.reads:,.1f}",
            _times(layer.unevenness),
            f"{layer.binds:.1%}",
        )
        for layer in load.layers
    ]
    most = (busiest.get(term, "-") for term in TERMS)
    rows.append(("all", f"{load.cores:,}", *most, _times(uneven.get("synops")), ""))
    return Table(
        ("busiest core", "cores", "synops", "updates", "reads", "of the mean", "binds"), rows
    )


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}x"


def section(load: BusiestCore) -> Section:
    """Return what the busiest core does at a timestep, layer by layer and in all."""
    shares = ", ".join(f"{_NAMES[term.term]} {term.binds:.1%}" for term in load.terms)
    places = ", ".join(f"{_NAMES[term.term]} in {term.layer}" for term in load.terms)
    return Section(
        "Busiest core",
        f"The cores of {load.chip} wait for the busiest one after every timestep. Its counts per "
        f"timestep, in means over {load.samples:,} samples whose spikes were recorded; "
        f"{_NAMES[load.binding]} in {load.binding_layer} bind most often:",
        table(load),
        (
            f"the largest of the three counts, by share of the timesteps: {shares}; one operation "
            "is taken to last as long as another",
            f"the busiest core of each is most often of: {places}",
            "of the mean: synaptic operations of the busiest core over those of the mean core",
            "binds: share of the timesteps at which the largest of all counts is in that layer",
            "reads: words of 64 bits of synaptic memory, by a rule that hardware/core_load.py "
            "states; the cores are those of the chip's own table",
        ),
    )


MEASURE: Final = Measure(
    lambda subject: busiest_core(subject.network, subject.chip, subject.load), section
)
