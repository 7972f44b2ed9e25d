"""What is in each layer of an integer network."""

from __future__ import annotations

from dataclasses import dataclass

from dsr_deploy.hardware import bounds
from dsr_deploy.hardware.network import IntegerNetwork
from dsr_deploy.hardware.schedule import schedule


@dataclass(frozen=True)
class LayerSummary:
    """A row of the readable summary; thresholds are those of the lowest and highest channel.

    Attributes
    ----------
    weights : stored numbers, those of pools and shortcuts included
    decay : in 1/4096, 0 for IF
    start : first timestep on a pipelined chip
    proven_range : smallest and largest value of v for any input whatsoever
    """

    name: str
    shape: tuple[int, int, int]
    neurons: int
    weights: int
    weight_bits: tuple[int, ...]
    v_fire: tuple[int, int]
    v_threshold: tuple[int, int]
    decay: int
    start: int
    proven_range: tuple[int, int]


def summarize(network: IntegerNetwork) -> list[LayerSummary]:
    """Return what is in each layer, with the range proof and the start steps of its schedule.

    Raises
    ------
    RegisterError
        If some input could overflow a register; names the layer and the channel.
    """
    proven = bounds.check(network)
    rows = []
    for population in schedule(network).populations:
        incoming = list(network.incoming(population))
        membrane = proven[population.name]
        rows.append(
            LayerSummary(
                name=population.name,
                shape=population.shape,
                neurons=population.size,
                weights=sum(connection.weight.size for connection in incoming),
                weight_bits=tuple(connection.weight_bits for connection in incoming),
                v_fire=(int(population.v_fire.min()), int(population.v_fire.max())),
                v_threshold=(int(population.v_threshold.min()), int(population.v_threshold.max())),
                decay=population.decay,
                start=population.start,
                proven_range=(int(membrane.low.min()), int(membrane.high.max())),
            )
        )
    return rows
