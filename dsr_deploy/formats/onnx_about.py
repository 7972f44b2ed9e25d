"""What ``network.onnx`` says of itself: its input and outputs, and of which network it is."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Final

from dsr_deploy.hardware.encoding import largest_pixel
from dsr_deploy.hardware.format.network_content import identity, weight_widths, widths_text
from dsr_deploy.hardware.network import IntegerNetwork

IDENTITY: Final = "network"
WIDTHS: Final = "weight_bits"

ENCODING: Final = "clip(round((pixel * pixel_scale - mean) / (std * step)), low, high)"
"""Rounded half to even; docs/network-format.md."""


def metadata(network: IntegerNetwork) -> dict[str, str]:
    """Return the entries of the file's ``metadata_props``; docs/onnx.md explains each."""
    return {
        IDENTITY: identity(network),
        "name": network.name,
        "timesteps": str(network.timesteps),
        "populations": json.dumps([p.name for p in network.populations]),
        "classes": json.dumps(list(network.classes)),
        "readout": json.dumps(list(network.readout)),
        WIDTHS: widths_text(network),
        "pixels": f"0 to {largest_pixel(network.input)}",
        "encoding": ENCODING,
        "input": json.dumps(asdict(network.input)),
        "onnxruntime": f"{least_runtime(network)} or newer",
    }


def least_runtime(network: IntegerNetwork) -> str:
    """Return the oldest onnxruntime that runs the graph: older ones cast no 4-bit integers."""
    return "1.23" if weight_widths(network)[0] <= 4 else "1.18"


def image_text(network: IntegerNetwork) -> str:
    """Say what the input ``image`` is."""
    frames = ["T"] if network.input.framed else []
    shape = ", ".join(["N", *frames, *map(str, network.input.shape)])
    shown = "one frame for each timestep" if network.input.framed else "shown at every timestep"
    return (
        f"uint8 ({shape}), pixels from 0 to {largest_pixel(network.input)}, {shown}; the graph "
        "encodes them itself. Pixels of another range give wrong classes and no error."
    )


def model_text(network: IntegerNetwork) -> str:
    """Say what the whole file is."""
    return (
        f"Integer network '{network.name}' of {network.timesteps} timesteps, weights of "
        f"{widths_text(network)} bits; needs onnxruntime {least_runtime(network)} or newer.\n"
        f"image: {image_text(network)}\n"
        "scores: int64 (N, classes); the class is that of the largest, the first among equals.\n"
        "spike_counts: int64 (N, populations), the spikes of each over all timesteps."
    )
