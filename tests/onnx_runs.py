"""Running a network in onnxruntime, from a file where one is given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dsr_deploy.engines.onnx import OnnxEngine
from dsr_deploy.hardware.network import IntegerNetwork
from dsr_deploy.hardware.run import Run


def run(
    network: IntegerNetwork,
    payloads: NDArray[np.int8],
    *,
    record: bool = False,
    file: Path | None = None,
) -> Run:
    """Run ``network`` once."""
    data = None if file is None else file.read_bytes()
    where = "onnx" if file is None else str(file)
    return OnnxEngine(network, data, where=where, record=record).run(payloads)
