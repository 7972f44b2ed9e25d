"""Export the integer network for Lava/Loihi-style process models.

Writes ``network.safetensors``, specified in ``docs/network-format.md``: the graph, scheduled in
time, with the range proof done. It is what the simulator, the verifier and the other targets read.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass

from dsr_deploy import files
from dsr_deploy.errors import UserError
from dsr_deploy.hardware import bounds, network_file
from dsr_deploy.hardware.network import IntegerNetwork, NetworkError
from dsr_deploy.hardware.schedule import schedule
from dsr_deploy.run_directory import RunDirectory


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


def export(run: RunDirectory, bits: int | None = None) -> list[LayerSummary]:
    """Write the quantized network of ``run`` for a chip; return a summary per layer.

    Parameters
    ----------
    bits : which quantized network; None is the newest

    Raises
    ------
    UserError
        If nothing was quantized, a file is damaged, or a register could overflow.
    """
    width = run.quantized_bits(bits)
    source = run.quantized(width) / "network.safetensors"
    try:
        network = schedule(network_file.read(source))
        summary = summarize(network)
    except NetworkError as error:
        raise UserError(str(error)) from None
    data = network_file.to_bytes(network)
    folder = run.export("loihi")
    files.write_bytes(folder / "network.safetensors", data)
    files.write_json(
        folder / "manifest.json",
        {
            "target": "loihi",
            "bits": width,
            "source": str(source.relative_to(run.path)),
            "files": {"network.safetensors": hashlib.sha256(data).hexdigest()},
            "layers": [dataclasses.asdict(layer) for layer in summary],
        },
    )
    return summary


def summarize(network: IntegerNetwork) -> list[LayerSummary]:
    """Return what is in each layer, with the range proof.

    Raises
    ------
    NetworkError
        If some input could overflow a register; names the layer and the channel.
    """
    proven = bounds.check(network)
    rows = []
    for population in network.populations:
        incoming = list(network.incoming(population))
        membrane = proven[population.name].membrane
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
