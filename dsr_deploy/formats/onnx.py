"""The integer network as one ONNX graph: integers throughout, all timesteps in one call.

::

    image uint8 ── encode (Gather) ── payload int8 ── Scan over T ──┬─ scores int64 (N, classes)
                                                      one timestep  └─ spike_counts int64 (N, P)
                                                      of all layers

The body of the ``Scan`` is one timestep; its states are the membrane potentials, int32.
An image that is constant in time is weighted once, before the loop. Membrane potentials are
as wide as ONNX's integers, not 24 bits: the graph is exact for every network that keeps to its
registers, which :mod:`dsr_deploy.hardware.bounds` proves, and checks nothing itself;
:func:`dsr_deploy.stages.export.export` and the ONNX engine refuse what is not proven.

Weights are stored unsigned with a zero point, 128 for 8 bits and 8 for 4 bits (two to a byte).
onnxruntime's product of unsigned with signed bytes saturates on processors with AVX2 or
AVX-512 but without VNNI; of two unsigned bytes it is exact everywhere and the fastest.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, helper

from dsr_deploy.formats import onnx_about
from dsr_deploy.formats.onnx_parts import Constants, Part, value_info, zero_state
from dsr_deploy.formats.target import Target
from dsr_deploy.hardware.encoding import PIXELS, payload_table
from dsr_deploy.hardware.geometry import Shape
from dsr_deploy.hardware.network import (
    DECAY_ONE,
    INPUT,
    Connection,
    IntegerNetwork,
    Population,
)
from dsr_deploy.version import __version__

OPSET: Final = 21
"""The first opset with 4-bit integers."""

_IR_VERSION: Final = 10
_PAYLOAD_ZERO: Final = 128
"""Added to a payload to make it unsigned; as a zero point it also makes the padding."""


def to_bytes(network: IntegerNetwork) -> bytes:
    """Return the ONNX file of ``network``; the same network gives the same bytes."""
    return bytes(to_onnx(network).SerializeToString(deterministic=True))


def to_onnx(network: IntegerNetwork) -> onnx.ModelProto:
    """Return ``network`` as an ONNX model.

    onnxruntime runs it from version 1.23 on, or 1.18 where no weight has 4 bits or fewer.

    Input ``image``: uint8 (N, C, H, W), or (N, T, C, H, W) if the network's input is framed.
    Outputs: ``scores``, int64 (N, classes), and ``spike_counts``, int64 (N, populations), the
    spikes of each population over all timesteps. What the pixels are and which network it is
    stands in the model's texts and metadata, :mod:`dsr_deploy.formats.onnx_about`.

    Value names: the initial, running and final values of a population ``p`` are ``p.zero``,
    ``p.v``, ``p.u``, ``p.spike`` (uint8) and ``p.v_next``.
    """
    constants = Constants()
    before, body = Part(constants), Part(constants)
    payload = _encode(before, network)
    for population in network.populations:
        _membrane(before, body, network, population, payload)
    _read_out(body, network.output)
    _scan(before, body, network, payload)
    image = value_info("image", TensorProto.UINT8, _input_shape(network))
    image.doc_string = onnx_about.image_text(network)
    graph = helper.make_graph(
        constants.unpacking + before.nodes,
        "network",
        [image],
        [
            value_info("scores", TensorProto.INT64, ("N", network.output.shape[0])),
            value_info("spike_counts", TensorProto.INT64, ("N", len(network.populations))),
        ],
        list(constants.tensors.values()),
    )
    model = helper.make_model(
        graph,
        producer_name="dsr-deploy",
        producer_version=__version__,
        doc_string=onnx_about.model_text(network),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=_IR_VERSION,
    )
    helper.set_model_props(model, onnx_about.metadata(network))
    return model


def _encode(before: Part, network: IntegerNetwork) -> str:
    """Look up the payload of every pixel, and return what the populations read."""
    table = payload_table(network.input)
    row = np.arange(len(table), dtype=np.int32)[:, None, None] * PIXELS
    before.cast("image", "image_index", TensorProto.INT32)
    before.add("Add", ["image_index", before.constants.array("encode_row", row)], "encode_index")
    flat = before.constants.array("encode_table", table.ravel())
    before.add("Gather", [flat, "encode_index"], "payload")
    return "frame" if network.input.framed else "payload"


def _membrane(
    before: Part, body: Part, network: IntegerNetwork, population: Population, payload: str
) -> None:
    """Add one timestep of ``population``: integrate, spike, reset by subtraction, count."""
    name, constants = population.name, body.constants
    steady = [constants.array(f"{name}.bias", population.bias[:, None, None])]
    changing = []
    for index, connection in enumerate(network.connections):
        if connection.target != name:
            continue
        label = f"{index}:{connection.name}"
        shape = network.shapes[connection.source]
        if connection.source != INPUT:
            spikes = f"{connection.source}.spike"
            changing.append(_current(body, label, connection, spikes, shape))
        elif network.input.framed:
            changing.append(_current(body, label, connection, payload, shape))
        else:
            steady.append(_current(before, label, connection, payload, shape))
    drive = before.total(steady, f"{name}.drive")
    u = body.total([_decayed(body, population), drive, *changing], f"{name}.u")
    level = constants.array(f"{name}.v_fire", population.v_fire[:, None, None])
    reset = constants.array(f"{name}.v_threshold", population.v_threshold[:, None, None])
    fired = body.add("GreaterOrEqual", [u, level], f"{name}.fired")
    nothing = constants.array("zero", np.array(0, np.int32))
    subtracted = body.add("Where", [fired, reset, nothing], f"{name}.reset")
    body.add("Sub", [u, subtracted], f"{name}.v_next")
    body.cast(fired, f"{name}.spike", TensorProto.UINT8)
    body.cast(fired, f"{name}.one", TensorProto.INT32)
    axes = constants.array("axes_neurons", np.array([1, 2, 3], np.int64))
    body.add("ReduceSum", [f"{name}.one", axes], f"{name}.new", keepdims=0)
    body.add("Add", [f"{name}.count", f"{name}.new"], f"{name}.count_next")


def _decayed(body: Part, population: Population) -> str:
    """Return v after its decay, in 64 bits because the product needs 36."""
    name = population.name
    if not population.decay:
        return f"{name}.v"
    kept = np.array(DECAY_ONE - population.decay, np.int64)
    factor = body.constants.array(f"{name}.kept", kept)
    one = body.constants.array("decay_one", np.array(DECAY_ONE, np.int64))
    body.cast(f"{name}.v", f"{name}.v_wide", TensorProto.INT64)
    body.add("Mul", [f"{name}.v_wide", factor], f"{name}.product")
    body.add("Div", [f"{name}.product", one], f"{name}.quotient")  # rounds toward zero
    return body.cast(f"{name}.quotient", f"{name}.decayed", TensorProto.INT32)


def _current(part: Part, label: str, connection: Connection, sent: str, source: Shape) -> str:
    """Return the int32 current of what was sent: spikes, uint8, or the payload, int8."""
    constants = part.constants
    is_payload = connection.source == INPUT
    if connection.kind == "identity":
        wide = part.cast(sent, f"{label}.wide", TensorProto.INT32)
        return _times_weight(part, label, connection, wide)
    zero = constants.zero_point(_PAYLOAD_ZERO if is_payload else 0)
    if is_payload:
        sent = _unsigned(part, label, sent)
    if connection.kind == "pool":
        return _pooled(part, label, connection, sent, zero, source)
    current = f"{label}.current"
    weighted = f"{label}.weighted" if connection.exponent else current
    if connection.kind == "conv":
        weight, middle = constants.weight(
            f"{label}.weight", connection.weight, connection.weight_bits
        )
        part.add(
            "ConvInteger",
            [sent, weight, zero, middle],
            weighted,
            group=connection.groups,
            **_geometry(connection),
        )
    else:
        weight, middle = constants.weight(
            f"{label}.weight", connection.weight.T, connection.weight_bits
        )
        flat = part.reshape(sent, f"{label}.flat", (0, connection.weight.shape[1]))
        rows = part.add("MatMulInteger", [flat, weight, zero, middle], f"{label}.rows")
        part.reshape(rows, weighted, (0, len(connection.weight), 1, 1))
    if connection.exponent:
        power = constants.array(f"{label}.power", np.array(1 << connection.exponent, np.int32))
        part.add("Mul", [weighted, power], current)
    return current


def _unsigned(part: Part, label: str, payload: str) -> str:
    """Return the payload plus its zero point, uint8."""
    zero = part.constants.array("payload_zero", np.array(_PAYLOAD_ZERO, np.int32))
    wide = part.cast(payload, f"{label}.wide", TensorProto.INT32)
    shifted = part.add("Add", [wide, zero], f"{label}.shifted")
    return part.cast(shifted, f"{label}.unsigned", TensorProto.UINT8)


def _pooled(
    part: Part, label: str, connection: Connection, sent: str, zero: str, source: Shape
) -> str:
    """Sum each window, then weight its channel.

    Every channel is taken as an image of its own: onnxruntime's ConvInteger is slow in groups.
    """
    channels, height, width = connection.output_shape(source)
    ones = part.constants.array(f"{label}.ones", np.ones((1, 1, *connection.kernel), np.uint8))
    images = part.reshape(sent, f"{label}.images", (-1, 1, *source[1:]))
    part.add("ConvInteger", [images, ones, zero], f"{label}.windows", **_geometry(connection))
    sums = part.reshape(f"{label}.windows", f"{label}.sums", (-1, channels, height, width))
    return _times_weight(part, label, connection, sums)


def _times_weight(part: Part, label: str, connection: Connection, value: str) -> str:
    """Multiply by a pool's or identity's weight per channel and its power of two."""
    factor = connection.weight.astype(np.int32)[:, None, None] << connection.exponent
    name = part.constants.array(f"{label}.factor", factor)
    return part.add("Mul", [value, name], f"{label}.current")


def _geometry(connection: Connection) -> dict[str, list[int]]:
    return {
        "kernel_shape": list(connection.window),
        "strides": list(connection.stride),
        "pads": list(connection.padding) * 2,
    }


def _read_out(body: Part, output: Population) -> None:
    """Add the readout-weighted spikes of the output to the scores."""
    flat = body.reshape(f"{output.name}.spike", f"{output.name}.classes", (0, output.shape[0]))
    body.cast(flat, "readout_spike", TensorProto.INT64)
    body.add("Mul", ["readout_spike", "readout_now"], "readout_weighted")
    body.add("Add", ["score", "readout_weighted"], "score_next")


def _scan(before: Part, body: Part, network: IntegerNetwork, payload: str) -> None:
    """Run the body over time from zero states, and gather the spike counts."""
    constants, names = before.constants, [p.name for p in network.populations]
    readout = constants.array("readout", np.array(network.readout, np.int64))
    before.add("Shape", ["payload"], "samples", start=0, end=1)
    states = [
        *(
            zero_state(before, f"{p.name}.v", f"{p.name}.v_next", TensorProto.INT32, p.shape)
            for p in network.populations
        ),
        *(
            zero_state(before, f"{n}.count", f"{n}.count_next", TensorProto.INT32, ())
            for n in names
        ),
        zero_state(before, "score", "score_next", TensorProto.INT64, network.output.shape[:1]),
    ]
    sequences, slices, axes = [readout], [value_info("readout_now", TensorProto.INT64, ())], [0]
    if network.input.framed:
        sequences.append("payload")
        slices.append(value_info(payload, TensorProto.INT8, ("N", *network.input.shape)))
        axes.append(1)
    totals = [f"{n}.total" for n in names]
    step = helper.make_graph(
        body.nodes, "timestep", [s.before for s in states] + slices, [s.after for s in states]
    )
    before.nodes.append(
        helper.make_node(
            "Scan",
            [s.zero for s in states] + sequences,
            [f"{n}.v_last" for n in names] + totals + ["scores"],
            body=step,
            num_scan_inputs=len(sequences),
            scan_input_axes=axes,
        )
    )
    second = constants.array("axis_second", np.array([1], np.int64))
    columns = [before.add("Unsqueeze", [t, second], f"{t}.column") for t in totals]
    before.add("Concat", columns, "spike_counts_int32", axis=1)
    before.cast("spike_counts_int32", "spike_counts", TensorProto.INT64)


def _input_shape(network: IntegerNetwork) -> tuple[str | int, ...]:
    frames = (network.timesteps,) if network.input.framed else ()
    return ("N", *frames, *network.input.shape)


TARGET: Final = Target("network.onnx", lambda network: {"network.onnx": to_bytes(network)})
