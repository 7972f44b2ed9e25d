"""The engine that runs an exported ONNX graph in onnxruntime.

The graph itself takes images and returns scores. For a comparison with other engines it is
opened: it is fed with payloads, as every engine is, and shows every spike. No node is added or
changed and only the encoding is taken out, compared as a table instead, so that what runs is
the file that was exported.

The graph's registers are wider than a chip's and it watches none of them. So this engine runs only
what is proven to keep to 24 bits, and refuses the rest before it starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.capi import onnxruntime_pybind11_state as runtime

from dsr_deploy.engines.engine import Engine, Runner
from dsr_deploy.formats.onnx import TARGET, to_onnx
from dsr_deploy.formats.onnx_about import IDENTITY, WIDTHS, least_runtime
from dsr_deploy.hardware import bounds
from dsr_deploy.hardware.encoding import PIXELS, check_payloads, payload_table
from dsr_deploy.hardware.errors import NetworkError
from dsr_deploy.hardware.format.json_text import printable
from dsr_deploy.hardware.format.network_content import difference, identity, widths_text
from dsr_deploy.hardware.network import IntegerNetwork
from dsr_deploy.hardware.run import Run

_BATCH: Final = 32
"""Samples at a time, so that memory does not grow with their number."""


class OnnxEngine:
    """An ONNX graph of an integer network, opened once.

    Parameters
    ----------
    data : the bytes of an ONNX file that ``network`` was exported to; without them it is converted
        anew
    where : names the file in errors
    record : keep every spike of every population

    Raises
    ------
    NetworkError
        If the file is damaged or not this network's, or this onnxruntime is too old for it.
    """

    def __init__(
        self,
        network: IntegerNetwork,
        data: bytes | None = None,
        *,
        where: str = "onnx",
        record: bool = False,
    ) -> None:
        self.network, self.where, self.record = network, where, record
        self._check_runtime()
        model = to_onnx(network) if data is None else load(network, data, where)
        names = [p.name for p in network.populations]
        try:
            table = _open(model, names if record else [])
            if not np.array_equal(table, payload_table(network.input)):
                raise _OtherNetworkError("it encodes pixels otherwise")
            self.session = _session(model)
        except (_OtherNetworkError, *_RUNTIME_ERRORS) as error:
            raise _refusal(where, error) from None

    def run(self, payloads: NDArray[np.int8]) -> Run:
        """Run on N samples.

        Parameters
        ----------
        payloads : int8, (N, C, H, W), or (N, T, C, H, W) for a framed input

        Raises
        ------
        PayloadError
            If the payloads do not fit the input.
        RegisterError
            If the range proof does not hold for them.
        NetworkError
            If the graph does not hold together.
        """
        check_payloads(self.network, payloads)
        _prove(self.network, payloads)
        try:
            parts = [
                self.session.run(None, {"payload": payloads[start : start + _BATCH]})
                for start in range(0, max(len(payloads), 1), _BATCH)
            ]
            outputs = [np.concatenate(part) for part in zip(*parts, strict=True)]
            return self._outcome(outputs, len(payloads))
        except (_OtherNetworkError, ValueError, *_RUNTIME_ERRORS) as error:
            raise _refusal(self.where, error) from None

    def _outcome(self, outputs: list[NDArray[Any]], samples: int) -> Run:
        """Return the outputs of the graph as a run, if they have the shapes of the network."""
        scores, _, *trains = outputs
        populations, steps = self.network.populations, (samples, self.network.timesteps)
        expected: list[tuple[int, ...]] = [(samples, self.network.output.shape[0])]
        expected += [(*steps, *p.shape) for p in populations] if self.record else []
        if [array.shape for array in (scores, *trains)] != expected:
            raise _OtherNetworkError("its outputs have other shapes")
        if not self.record:
            return Run(scores)
        spikes = zip(populations, trains, strict=True)
        return Run(scores, {p.name: train.view(np.bool_) for p, train in spikes})

    def _check_runtime(self) -> None:
        least, found = least_runtime(self.network), onnxruntime.__version__
        if _version(found) < _version(least):
            raise NetworkError(
                f"{self.where}: onnxruntime {found}; a graph with weights of "
                f"{widths_text(self.network)} bits needs {least} or newer: "
                f"`pip install 'onnxruntime>={least}'`"
            )


def _prove(network: IntegerNetwork, payloads: NDArray[np.int8]) -> None:
    """Raise RegisterError unless no such payloads, nor any of the input's, overflow a register."""
    low = int(payloads.min(initial=network.input.low))
    high = int(payloads.max(initial=network.input.high))
    bounds.check(replace(network, input=replace(network.input, low=low, high=high)))


def _version(text: str) -> tuple[int, int]:
    major, minor, *_ = text.split(".")
    return int(major), int(minor)


class _OtherNetworkError(Exception):
    """The graph is not one of ours, or of another network."""


_RUNTIME_ERRORS: Final = (
    runtime.Fail,
    runtime.InvalidArgument,
    runtime.InvalidGraph,
    runtime.InvalidProtobuf,
    runtime.NotImplemented,
    runtime.RuntimeException,
    UnicodeDecodeError,  # of a name, or of onnxruntime's own message about it
)


def _session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 4  # what goes wrong comes as an exception as well
    return onnxruntime.InferenceSession(
        model.SerializeToString(),
        quiet,
        providers=["CPUExecutionProvider"],
        enable_fallback=0,  # it would print, and try the same again
    )


def load(network: IntegerNetwork, data: bytes, where: str) -> onnx.ModelProto:
    """Return the model in the bytes of an ONNX file, if it says that it is of ``network``.

    Raises
    ------
    NetworkError
        If it does not, or is no ONNX file; ``where`` names it.
    """
    try:
        model = onnx.load_model_from_string(data)
        _check_identity(model, network)
    except DecodeError:
        raise NetworkError(f"{where}: not an ONNX file, or cut off; export it again") from None
    except (_OtherNetworkError, UnicodeDecodeError) as error:
        raise _refusal(where, error) from None
    return model


def _refusal(where: str, error: Exception) -> NetworkError:
    reason = printable(str(error).partition("\n")[0])
    return NetworkError(f"{where}: not the ONNX graph of this network ({reason}); export it again")


def _check_identity(model: onnx.ModelProto, network: IntegerNetwork) -> None:
    """Refuse the graph of another network by what its metadata say."""
    noted = {entry.key: entry.value for entry in model.metadata_props}
    if IDENTITY not in noted:
        raise _OtherNetworkError("it does not say of which network it is")
    if noted[IDENTITY] == identity(network):
        return
    raise _OtherNetworkError(difference(noted.get(WIDTHS, ""), widths_text(network)))


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
        codes: NDArray[np.int8] = numpy_helper.to_array(table).reshape(-1, PIXELS)
    except (KeyError, ValueError, TypeError):
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
    return codes


def _open_file(network: IntegerNetwork, content: Mapping[str, bytes], where: str) -> Runner:
    return OnnxEngine(network, content[TARGET.file], where=where, record=True).run


def _identify(network: IntegerNetwork, content: Mapping[str, bytes], where: str) -> onnx.ModelProto:
    # A damaged graph is not given to onnxruntime to find out whose it is.
    return load(network, content[TARGET.file], where)


ENGINE: Final = Engine("onnx", _open_file, file=TARGET.file, identify=_identify)
