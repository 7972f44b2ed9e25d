"""What a network takes of the chip it is exported for."""

from __future__ import annotations

from dataclasses import dataclass, fields

from dsr_deploy.hardware.chip import Chip, Limit
from dsr_deploy.hardware.mapping import Usage, map_network
from dsr_deploy.hardware.network import IntegerNetwork


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
