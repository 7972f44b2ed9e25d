"""The engine that runs an exported ONNX graph in onnxruntime.

The graph itself takes images and returns scores. For a comparison with other engines it is
opened: it is fed with payloads, as every engine is, and shows every spike. No node is added or
changed and only the encoding is taken out, compared as a table instead, so that what runs is
the file that was exported.

The graph's registers are wider than a chip's and it watches none of them. So this engine runs only
what is proven to keep to 24 bits, and refuses the rest before it starts.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.capi import onnxruntime_pybind11_state as runtime

from dsr_deploy.export.onnx import to_onnx
from dsr_deploy.hardware import bounds
from dsr_deploy.hardware.encoding import PIXELS, payload_table
from dsr_deploy.hardware.network import IntegerNetwork, NetworkError
from dsr_deploy.hardware.reference import check_payloads
from dsr_deploy.hardware.run import Run

_BATCH: Final = 32
"""Samples at a time, so that memory does not grow with their number."""


def run(
    network: IntegerNetwork,
    payloads: NDArray[np.int8],
    *,
    record: bool = False,
    file: Path | None = None,
) -> Run:
    """Run ``network`` in onnxruntime on N samples.

    Parameters
    ----------
    payloads : int8, (N, C, H, W), or (N, T, C, H, W) for a framed input
    record : keep every spike of every population
    file : an ONNX file that ``network`` was exported to; without one it is converted anew

    Raises
    ------
    NetworkError
        If the payloads do not fit the input, the range proof does not hold for them, or the file
        is not this network's.
    """
    check_payloads(network, payloads)
    _prove(network, payloads)
    where = "onnx" if file is None else str(file)
    model = to_onnx(network) if file is None else _load(file)
    names = [p.name for p in network.populations]
    try:
        if not np.array_equal(_open(model, names if record else []), payload_table(network.input)):
            raise _OtherNetworkError("it encodes pixels otherwise")
        session = _session(model)
        parts = [
            session.run(None, {"payload": payloads[start : start + _BATCH]})
            for start in range(0, max(len(payloads), 1), _BATCH)
        ]
    except (_OtherNetworkError, *_RUNTIME_ERRORS) as error:
        reason = str(error).partition("\n")[0]
        raise NetworkError(
            f"{where}: not the ONNX graph of this network ({reason}); export it again"
        ) from None
    scores, _, *spikes = (np.concatenate(batches) for batches in zip(*parts, strict=True))
    if not record:
        return Run(scores)
    return Run(scores, {n: s.view(np.bool_) for n, s in zip(names, spikes, strict=True)})


def _prove(network: IntegerNetwork, payloads: NDArray[np.int8]) -> None:
    """Raise NetworkError unless no such payloads, nor any of the input's, overflow a register."""
    low = int(payloads.min(initial=network.input.low))
    high = int(payloads.max(initial=network.input.high))
    bounds.check(replace(network, input=replace(network.input, low=low, high=high)))


class _OtherNetworkError(Exception):
    """The graph is not one of ours, or of another network."""


_RUNTIME_ERRORS: Final = (
    runtime.Fail,
    runtime.InvalidArgument,
    runtime.InvalidGraph,
    runtime.InvalidProtobuf,
    runtime.NotImplemented,
    runtime.RuntimeException,
)


def _session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )


def _load(file: Path) -> onnx.ModelProto:
    try:
        return onnx.load(file)
    except OSError as error:
        raise NetworkError(f"{file}: cannot be read ({error.strerror})") from None
    except DecodeError:
        raise NetworkError(f"{file}: not an ONNX file, or cut off; export it again") from None


def _open(model: onnx.ModelProto, recorded: list[str]) -> NDArray[np.int8]:
    """Make ``payload`` the input, and the spikes of the ``recorded`` populations outputs.

    Spikes are uint8 (N, T, C, H, W), named ``p.spikes``. Returns the table that encoded pixels.
    """
    graph = model.graph
    nodes = {name: node for node in graph.node for name in node.output}
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    try:
        encoding = [nodes[name] for name in ("image_index", "encode_index", "payload")]
        table, row = tensors["encode_table"], tensors["encode_row"]
        scan, (image,) = nodes["scores"], graph.input
        (body,) = (attribute.g for attribute in scan.attribute if attribute.name == "body")
    except (KeyError, ValueError):
        raise _OtherNetworkError("it was not written by dsr-deploy") from None
    for node in encoding:
        graph.node.remove(node)
    for tensor in (table, row):
        graph.initializer.remove(tensor)
    image.name = "payload"
    image.type.tensor_type.elem_type = TensorProto.INT8
    for name in recorded:
        body.output.append(helper.make_tensor_value_info(f"{name}.spike", TensorProto.UINT8, None))
        scan.output.append(f"{name}.spikes")
        graph.output.append(
            helper.make_tensor_value_info(f"{name}.spikes", TensorProto.UINT8, None)
        )
    if recorded:
        scan.attribute.append(helper.make_attribute("scan_output_axes", [1] * len(recorded)))
    flat: NDArray[np.int8] = numpy_helper.to_array(table)
    return flat.reshape(-1, PIXELS)
