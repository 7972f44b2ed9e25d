"""What a network takes of the chip it is exported for."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

from dsr_deploy.hardware.chip import Chip, Limit
from dsr_deploy.hardware.mapping import Usage, map_network
from dsr_deploy.hardware.network import IntegerNetwork
from dsr_deploy.measures.measure import Measure, Section
from dsr_deploy.measures.tables import Table


@dataclass(frozen=True)
class LayerUse:
    """A layer on its cores.

    Attributes
    ----------
    synapses : those outside the image left out
    usage : of each limit of a core that the chip has, on the layer's fullest core
    binding : the limit of which the layer uses most
    """

    name: str
    neurons: int
    synapses: int
    cores: int
    usage: tuple[Usage, ...]
    binding: str
    fits: bool


@dataclass(frozen=True)
class ChipUse:
    """A network on a chip, by the model of :mod:`dsr_deploy.hardware.mapping`.

    Attributes
    ----------
    fits : whether each layer fits its cores, and all cores one chip
    uncertain : numbers of the chip that could not be checked in a primary source
    not_public : limits that the chip must have and that nobody has published
    """

    chip: str
    fits: bool
    cores: int
    cores_available: int | None
    layers: tuple[LayerUse, ...]
    uncertain: tuple[str, ...]
    not_public: tuple[str, ...]


def chip_use(network: IntegerNetwork, chip: Chip) -> ChipUse:
    """Lay ``network`` on the cores of ``chip``."""
    mapping = map_network(network, chip)
    doubtful = {
        field.name: limit.value
        for field in fields(chip)
        if isinstance(limit := getattr(chip, field.name), Limit) and not limit.certain
    }
    return ChipUse(
        chip=chip.name,
        fits=mapping.fits,
        cores=mapping.cores,
        cores_available=mapping.cores_available,
        layers=tuple(
            LayerUse(
                name=layer.name,
                neurons=layer.neurons,
                synapses=layer.synapses,
                cores=layer.cores,
                usage=layer.usage,
                binding=layer.binding.limit,
                fits=layer.fits,
            )
            for layer in mapping.populations
        ),
        uncertain=tuple(name for name, value in doubtful.items() if value is not None),
        not_public=tuple(name for name, value in doubtful.items() if value is None),
    )


def table(use: ChipUse) -> Table:
    """Tabulate what each layer takes of its fullest core, in percent of the chip's limits."""
    columns = {
        "neurons_per_core": "neurons",
        "synaptic_memory_per_core": "memory",
        "in_axons_per_core": "in-axons",
        "out_axons_per_core": "out-axons",
        "threshold_settings_per_core": "thresholds",
    }
    rows = []
    for layer in use.layers:
        found = {usage.limit: usage for usage in layer.usage}
        cells = (_percent(found.get(limit)) for limit in columns)
        binding = columns.get(layer.binding, layer.binding) + ("" if layer.fits else ", too much")
        rows.append((layer.name, f"{layer.cores:,}", f"{layer.synapses:,}", *cells, binding))
    return Table(("layer", "cores", "synapses", *columns.values(), "most"), rows)


def _percent(usage: Usage | None) -> str:
    """Return ``?`` where the chip's limit is not public; a ``~`` marks an uncertain one."""
    if usage is None:
        return "?"
    percent = 100 * usage.used / usage.available
    return ("" if usage.certain else "~") + (
        f"{percent:.0f}%" if percent >= 10 else f"{percent:.1f}%"
    )


def section(use: ChipUse) -> Section:
    """Return whether a network fits a chip, and its cores layer by layer."""
    names = ", ".join(layer.name for layer in use.layers if not layer.fits)
    verdict = "it fits" if use.fits else "it does not fit"
    if names:
        verdict += f": too much for any core in {names}"
    of = "" if use.cores_available is None else f" of {use.cores_available:,}"
    notes = [f"~ a limit that no primary source confirms: {', '.join(use.uncertain)}"]
    if use.not_public:
        notes.append(f"? not public, so not checked: {', '.join(use.not_public)}")
    return Section(
        "Cores",
        f"On {use.chip} it takes {use.cores:,}{of} cores; by what can be known, {verdict}. "
        "In percent of the fullest core:",
        table(use),
        tuple(notes),
    )


MEASURE: Final = Measure(lambda subject: chip_use(subject.network, subject.chip), section)
