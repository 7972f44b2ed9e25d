"""Export the integer network for Lava/Loihi-style process models.

Two files: ``network.safetensors`` (docs/network-format.md), the graph, scheduled in time, with the
range proof done, which the simulator and the verifier read; and ``lava.json`` (docs/lava.md), the
processes that the Lava runner builds from it.
"""

from __future__ import annotations

from dataclasses import dataclass

from dsr_deploy.engines import lava as lava_engine
from dsr_deploy.hardware import bounds
from dsr_deploy.hardware.chip import Chip, check_chip
from dsr_deploy.hardware.network import IntegerNetwork
from dsr_deploy.hardware.schedule import schedule
from dsr_deploy.measures.chip_use import ChipUse, chip_use


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


def to_files(network: IntegerNetwork, chip: Chip) -> tuple[dict[str, bytes], ChipUse]:
    """Return the files for ``chip``, by name, and what the network takes of it.

    Raises
    ------
    ChipError
        If the chip cannot do what the network needs.
    """
    scheduled = schedule(network)
    check_chip(scheduled, chip)
    return lava_engine.to_files(scheduled), chip_use(scheduled, chip)


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
