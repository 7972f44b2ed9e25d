"""The networks of the golden files, and ``python -P tests/golden_networks.py``, which writes them.

A golden file is never edited. If a change of the format or of the arithmetic is meant, write them
anew, look at the difference, and say in CHANGELOG.md what old files are worth now.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dsr_deploy.formats.onnx import to_bytes
from dsr_deploy.hardware import reference
from dsr_deploy.hardware.format import network_file
from dsr_deploy.hardware.geometry import Shape
from dsr_deploy.hardware.network import (
    INPUT,
    Connection,
    Input,
    IntegerNetwork,
    Population,
)
from dsr_deploy.hardware.run import Run
from dsr_deploy.hardware.schedule import schedule

FOLDER = Path(__file__).parent / "hardware" / "golden"
Kind = Literal["if", "lif"]
KINDS: tuple[Kind, ...] = ("if", "lif")
SAMPLES = 3


def golden_network(kind: Kind) -> IntegerNetwork:
    """Return a scheduled residual network with every kind of connection, 2 to 8 bits.

    The IF network is shown images, the LIF network frames.
    """
    decays = {"stem": 0, "block": 0, "out": 0} if kind == "if" else _LIF_DECAYS
    connections = (
        Connection(INPUT, "stem", "conv", _weight("stem", 4, 4, 1, 3, 3), 4, 1,
                   padding=(1, 1), groups=2),
        Connection("stem", "block", "conv", _weight("block", 8, 4, 4, 3, 3), 8,
                   stride=(2, 2), padding=(1, 1)),
        Connection("stem", "block", "pool", _weight("shortcut", 6, 4), 6, 2,
                   kernel=(2, 2), stride=(2, 2)),
        Connection("block", "mixed", "identity", _weight("one", 3, 4), 3, 4),
        Connection("stem", "mixed", "conv", _weight("mixed", 2, 4, 4, 2, 2), 2, 3,
                   stride=(2, 2)),
        Connection("mixed", "out", "linear", _weight("out", 8, 3, 16), 8),
    )  # fmt: skip
    network = IntegerNetwork(
        name=f"golden {kind}",
        timesteps=6,
        input=Input((2, 4, 4), (0.4, 0.5), (0.2, 0.3), 1 / 255, 1 / 16, framed=kind == "lif"),
        populations=(
            _population("stem", (4, 4, 4), 90, decays["stem"]),
            _population("block", (4, 2, 2), 70, decays["block"]),
            _population("mixed", (4, 2, 2), 20, decays["block"]),
            _population("out", (3, 1, 1), 90, decays["out"]),
        ),
        connections=connections,
        readout=(1,) * 6 if kind == "if" else (811, 1220, 1835, 2761, 3362, 4096),
        classes=("cat", "dog", "ünïcode"),
    )
    return schedule(network)


_LIF_DECAYS = {"stem": 1352, "block": 1, "out": 409}


def golden_payloads(network: IntegerNetwork) -> NDArray[np.int8]:
    frames = (network.timesteps,) if network.input.framed else ()
    payloads = np.maximum(_bytes(network.name, (SAMPLES, *frames, *network.input.shape)), -127)
    return payloads.astype(np.int8)


def summary(run: Run) -> dict[str, Any]:
    """Return the scores, and for each population its number of spikes and their digest.

    The digest is SHA-256 over the spikes (N, T, C, H, W) in C order, eight to a byte, the first in
    the highest bit.
    """
    assert run.spikes is not None
    return {
        "scores": run.scores.tolist(),
        "spikes": {
            name: {
                "count": int(train.sum()),
                "sha256": hashlib.sha256(np.packbits(train).tobytes()).hexdigest(),
            }
            for name, train in run.spikes.items()
        },
    }


def write_all() -> None:
    """Write every golden file anew."""
    for kind in KINDS:
        network = golden_network(kind)
        network_file.write(network, FOLDER / f"{kind}.safetensors")
        (FOLDER / f"{kind}.onnx").write_bytes(to_bytes(network))
        spikes = summary(reference.run(network, golden_payloads(network), record=True))
        (FOLDER / f"{kind}.json").write_text(json.dumps(spikes, indent=1) + "\n")


def _population(name: str, shape: Shape, level: int, decay: int) -> Population:
    spread = _bytes(name, (3, shape[0])).astype(np.int32) // 8
    return Population(
        name,
        shape,
        bias=spread[0],
        v_fire=level // 2 + spread[1],
        v_threshold=level + spread[2],
        decay=decay,
    )


def _weight(label: str, bits: int, *shape: int) -> NDArray[np.int8]:
    limit = (1 << (bits - 1)) - 1
    return np.clip(_bytes(label, shape) >> (8 - bits), -limit, limit)


def _bytes(label: str, shape: tuple[int, ...]) -> NDArray[np.int8]:
    """Return bytes that every machine and every version of numpy finds behind ``label``."""
    count = int(np.prod(shape))
    stream = hashlib.shake_256(label.encode()).digest(count)
    return np.frombuffer(stream, np.int8).reshape(shape)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    write_all()
