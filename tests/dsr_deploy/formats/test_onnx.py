"""The exported ONNX graph computes what the reference computes, and says what it is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_runs
import onnxruntime
import pytest
import sample_run
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import integer_networks, payloads_for
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from dsr_deploy.errors import UserError
from dsr_deploy.formats.onnx import to_bytes, to_onnx
from dsr_deploy.hardware import reference
from dsr_deploy.hardware.encoding import payload_table
from dsr_deploy.hardware.errors import HardwareError, NetworkError, PayloadError, RegisterError
from dsr_deploy.hardware.format.network_content import identity
from dsr_deploy.hardware.network import (
    INPUT,
    Connection,
    Input,
    IntegerNetwork,
    Population,
)
from dsr_deploy.stages.export import export


def population(name: str, shape: tuple[int, int, int], **changes: Any) -> Population:
    """Make a population that fires at 40 and subtracts 50."""
    level = np.full(shape[0], 40, np.int32)
    values = {"bias": np.zeros(shape[0], np.int32), "v_fire": level, "v_threshold": level + 10}
    return Population(name, shape, **(values | changes))


def digits(name: str = "digits", framed: bool = False, bits: int = 8) -> IntegerNetwork:
    """Make a small network with every kind of connection, fed from input and populations."""
    rng = np.random.default_rng(7)
    limit = (1 << (bits - 1)) - 1

    def weight(*shape: int) -> NDArray[np.int8]:
        return rng.integers(-limit, limit + 1, shape).astype(np.int8)

    return IntegerNetwork(
        name=name,
        timesteps=4,
        input=Input((2, 6, 6), (0.4, 0.5), (0.2, 0.3), 1 / 255, 0.05, framed=framed),
        populations=(
            population("a", (4, 6, 6), decay=700),
            population("b", (4, 3, 3)),
            population("out", (3, 1, 1)),
        ),
        connections=(
            Connection(INPUT, "a", "conv", weight(4, 1, 3, 3), bits, padding=(1, 1), groups=2),
            Connection("a", "b", "pool", weight(4), bits, 2, kernel=(2, 2), stride=(2, 2)),
            Connection("b", "out", "linear", weight(3, 36), bits, 1),
            Connection(INPUT, "out", "linear", weight(3, 72), bits),
        ),
        readout=(4, 3, 2, 1),
        classes=("one", "two", "three"),
    )


def payloads(network: IntegerNetwork, samples: int) -> NDArray[np.int8]:
    frames = (network.timesteps,) if network.input.framed else ()
    shape = (samples, *frames, *network.input.shape)
    return np.random.default_rng(11).integers(-128, 128, shape).astype(np.int8)


def assert_same(network: IntegerNetwork, sent: NDArray[np.int8], **options: Any) -> None:
    """Compare every spike and every score of the engine with the reference."""
    expected = reference.run(network, sent, record=True)
    found = onnx_runs.run(network, sent, record=True, **options)
    assert expected.spikes is not None
    assert found.spikes is not None
    assert found.spikes.keys() == expected.spikes.keys()
    for name, spikes in expected.spikes.items():
        assert found.spikes[name].dtype == np.bool_
        np.testing.assert_array_equal(found.spikes[name], spikes, err_msg=name)
    assert found.scores.dtype == np.int64
    np.testing.assert_array_equal(found.scores, expected.scores)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_spike_is_the_references(data: st.DataObject) -> None:
    network = data.draw(integer_networks())
    assert_same(network, data.draw(payloads_for(network)))


def overflowing() -> IntegerNetwork:
    """Make a network that a payload of 127 takes to 127 * 127 * 2**10, twice."""
    level = np.full(1, 2**23 - 1, np.int32)
    weight = np.array([[127]], np.int8)
    return IntegerNetwork(
        name="overflowing",
        timesteps=2,
        input=Input((1, 1, 1), (0.0,), (1.0,), 1.0, 1.0, low=0, high=127),
        populations=(population("out", (1, 1, 1), v_fire=level, v_threshold=level),),
        connections=(Connection(INPUT, "out", "linear", weight, 8, 10),),
        readout=(1, 1),
    )


@pytest.mark.parametrize("payload", [0, 127])
def test_a_network_that_could_overflow_is_refused_whatever_it_is_shown(payload: int) -> None:
    sent = np.full((1, 1, 1, 1), payload, np.int8)
    with pytest.raises(RegisterError) as caught:
        onnx_runs.run(overflowing(), sent)
    assert str(caught.value) == (
        "population 'out', channel 0: the membrane potential may reach 24904702, the 24-bit "
        "register holds -8388608 to 8388607; lower the population with fewer fractional bits"
    )


@pytest.mark.parametrize("target", ["loihi", "onnx", "nir"])
def test_a_network_that_could_overflow_is_not_exported(tmp_path: Path, target: str) -> None:
    run = sample_run.write(tmp_path)
    sample_run.put_quantized(run, overflowing())
    before = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    with pytest.raises(UserError, match=r"^population 'out', channel 0: .* may reach 24904702"):
        export(run, target)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == before


def test_payloads_beyond_the_inputs_range_are_covered_by_the_proof() -> None:
    network = overflowing()
    narrow = replace(network, input=replace(network.input, high=31))
    assert_same(narrow, np.full((1, 1, 1, 1), 31, np.int8))
    with pytest.raises(RegisterError, match=r"^population 'out', channel 0: .* may reach 24904702"):
        onnx_runs.run(narrow, np.full((1, 1, 1, 1), 127, np.int8))


@pytest.mark.parametrize("framed", [False, True])
@pytest.mark.parametrize("bits", [8, 4, 2])
def test_every_kind_of_connection(framed: bool, bits: int) -> None:
    network = digits(framed=framed, bits=bits)
    assert_same(network, payloads(network, 5))


def test_products_of_the_largest_payloads_and_weights_do_not_saturate() -> None:
    # two products of unsigned with signed bytes overflow the int16 that AVX2 adds them in
    weight = np.array([[127] * 64, [-127] * 64], np.int8)
    threshold = np.full(2, 127 * 127 * 64, np.int32)
    network = IntegerNetwork(
        name="largest",
        timesteps=2,
        input=Input((64, 1, 1), (0.0,) * 64, (1.0,) * 64, 1.0, 1.0, low=-128),
        populations=(population("out", (2, 1, 1), v_fire=threshold, v_threshold=threshold),),
        connections=(Connection(INPUT, "out", "linear", weight, 8),),
        readout=(1, 1),
    )
    sent = np.full((2, 64, 1, 1), 127, np.int8)
    sent[1] = -128
    run = onnx_runs.run(network, sent)
    np.testing.assert_array_equal(run.scores, [[2, 0], [0, 2]])
    assert_same(network, sent)


def test_a_decayed_potential_is_rounded_toward_zero() -> None:
    # v = -3 after the first step; -3 * 2048 / 4096 = -1.5 becomes -1, and -1 + 1 fires at 0
    network = IntegerNetwork(
        name="decay",
        timesteps=2,
        input=Input((1, 1, 1), (0.0,), (1.0,), 1.0, 1.0, framed=True),
        populations=(
            population(
                "out",
                (1, 1, 1),
                decay=2048,
                v_fire=np.array([0], np.int32),
                v_threshold=np.array([5], np.int32),
            ),
        ),
        connections=(Connection(INPUT, "out", "linear", np.ones((1, 1), np.int8), 8),),
        readout=(10, 1),
    )
    sent = np.array([-3, 1], np.int8).reshape(1, 2, 1, 1, 1)
    np.testing.assert_array_equal(onnx_runs.run(network, sent).scores, [[1]])


def test_samples_are_run_in_parts() -> None:
    network = digits()
    assert_same(network, payloads(network, 67))


def test_no_samples_give_no_scores() -> None:
    network = digits()
    run = onnx_runs.run(network, payloads(network, 0))
    assert run.scores.shape == (0, 3)
    assert run.spikes is None


def test_names_of_populations_do_not_collide_with_the_graphs() -> None:
    names = {"a": "payload", "b": "readout", "out": "0:input->payload"}
    network = digits()
    network = replace(
        network,
        populations=tuple(replace(p, name=names[p.name]) for p in network.populations),
        connections=tuple(
            replace(c, source=names.get(c.source, c.source), target=names[c.target])
            for c in network.connections
        ),
    )
    assert_same(network, payloads(network, 3))


@pytest.mark.parametrize("framed", [False, True])
def test_the_exported_file_takes_images(tmp_path: Path, framed: bool) -> None:
    network = digits(framed=framed)
    (tmp_path / "network.onnx").write_bytes(to_bytes(network))
    session = onnxruntime.InferenceSession(
        tmp_path / "network.onnx", providers=["CPUExecutionProvider"]
    )
    frames = (4,) if framed else ()
    image = np.random.default_rng(3).integers(0, 256, (6, *frames, 2, 6, 6)).astype(np.uint8)
    scores, counts = session.run(["scores", "spike_counts"], {"image": image})
    table = payload_table(network.input)
    sent = np.stack([table[c][image[..., c, :, :]] for c in range(2)], axis=-3)
    expected = reference.run(network, sent, record=True)
    assert expected.spikes is not None
    np.testing.assert_array_equal(scores, expected.scores)
    np.testing.assert_array_equal(
        counts, np.stack([s.sum((1, 2, 3, 4)) for s in expected.spikes.values()], axis=1)
    )
    assert_same(network, sent, file=tmp_path / "network.onnx")


@settings(max_examples=15, deadline=None)
@given(integer_networks())
def test_the_checker_finds_nothing_and_no_value_is_a_float(network: IntegerNetwork) -> None:
    model = to_onnx(network)
    onnx.checker.check_model(model, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    (body,) = (a.g for n in inferred.graph.node for a in n.attribute if a.name == "body")
    kinds = {tensor.data_type for tensor in model.graph.initializer}
    for graph in (inferred.graph, body):
        values = (*graph.value_info, *graph.input, *graph.output)
        kinds |= {value.type.tensor_type.elem_type for value in values}
    assert kinds <= {
        TensorProto.BOOL,
        TensorProto.INT8,
        TensorProto.INT32,
        TensorProto.INT64,
        TensorProto.UINT4,
        TensorProto.UINT8,
    }


@pytest.mark.parametrize(("bits", "runtime"), [(8, "1.18"), (4, "1.23")])
def test_metadata_say_which_network_it_is_and_what_it_needs(bits: int, runtime: str) -> None:
    network = digits("small digits", bits=bits)
    model = to_onnx(network)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata == {
        "network": identity(network),
        "name": "small digits",
        "timesteps": "4",
        "populations": '["a", "b", "out"]',
        "classes": '["one", "two", "three"]',
        "readout": "[4, 3, 2, 1]",
        "weight_bits": str(bits),
        "pixels": "0 to 255",
        "encoding": "clip(round((pixel * pixel_scale - mean) / (std * step)), low, high)",
        "input": '{"shape": [2, 6, 6], "mean": [0.4, 0.5], "std": [0.2, 0.3], "pixel_scale": '
        '0.00392156862745098, "step": 0.05, "low": -127, "high": 127, "framed": false}',
        "onnxruntime": f"{runtime} or newer",
    }
    assert json.loads(metadata["populations"]) == ["a", "b", "out"]
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 21)]


def test_the_file_says_which_pixels_it_takes() -> None:
    network = sample_run.network()
    model = to_onnx(network)
    (image,) = model.graph.input
    assert image.doc_string == (
        "uint8 (N, 1, 8, 8), pixels from 0 to 16, shown at every timestep; the graph encodes them "
        "itself. Pixels of another range give wrong classes and no error."
    )
    assert model.doc_string == (
        "Integer network 'digits-sample' of 3 timesteps, weights of 4 bits; needs onnxruntime 1.23 "
        f"or newer.\nimage: {image.doc_string}\n"
        "scores: int64 (N, classes); the class is that of the largest, the first among equals.\n"
        "spike_counts: int64 (N, populations), the spikes of each over all timesteps."
    )
    (frames,) = to_onnx(digits(framed=True)).graph.input
    assert frames.doc_string.startswith(
        "uint8 (N, T, 2, 6, 6), pixels from 0 to 255, one frame for each timestep; "
    )


@pytest.mark.parametrize(
    ("bits", "found", "least"), [(4, "1.22.1", "1.23"), (8, "1.17.3", "1.18"), (2, "1.9.0", "1.23")]
)
def test_an_onnxruntime_that_is_too_old_is_named(
    monkeypatch: pytest.MonkeyPatch, bits: int, found: str, least: str
) -> None:
    monkeypatch.setattr(onnxruntime, "__version__", found)
    network = digits(bits=bits)
    with pytest.raises(NetworkError) as caught:
        onnx_runs.run(network, payloads(network, 1))
    assert str(caught.value) == (
        f"onnx: onnxruntime {found}; a graph with weights of {bits} bits needs {least} or newer: "
        f"`pip install 'onnxruntime>={least}'`"
    )


def test_four_bit_weights_take_half_a_byte() -> None:
    network = digits(bits=4)
    (stored,) = (
        t for t in to_onnx(network).graph.initializer if t.name == "0:input->a.weight.4bit"
    )
    weight = network.connections[0].weight
    assert stored.data_type == TensorProto.UINT4
    assert len(stored.raw_data) == weight.size // 2
    np.testing.assert_array_equal(numpy_helper.to_array(stored).astype(np.int8) - 8, weight)


def test_the_same_network_gives_the_same_bytes() -> None:
    assert to_bytes(digits()) == to_bytes(digits())


def test_payloads_of_another_shape_are_refused() -> None:
    with pytest.raises(PayloadError) as caught:
        onnx_runs.run(digits(), np.zeros((1, 2, 5, 6), np.int8))
    assert str(caught.value) == (
        "input: payloads are int8 of shape (1, 2, 5, 6), not int8 of shape (N, 2, 6, 6)"
    )


def refusal(network: IntegerNetwork, file: Path) -> str:
    with pytest.raises(NetworkError) as caught:
        onnx_runs.run(network, payloads(network, 2), record=True, file=file)
    return str(caught.value)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "network.onnx"
    file.write_bytes(to_bytes(digits()))
    file.write_bytes(file.read_bytes()[:-20])
    assert refusal(digits(), file) == (f"{file}: not an ONNX file, or cut off; export it again")


def test_a_graph_that_does_not_hold_together_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "network.onnx"
    model = to_onnx(digits())
    model.graph.node[-1].input[0] = "nothing"
    onnx.save(model, file)
    message = refusal(digits(), file)
    assert message.startswith(f"{file}: not the ONNX graph of this network ([ONNXRuntimeError] :")
    assert message.endswith("; export it again")


def test_a_graph_of_someone_else_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "network.onnx"
    model = onnx.helper.make_model(onnx.helper.make_graph([], "empty", [], []))
    onnx.save(model, file)
    assert refusal(digits(), file) == (
        f"{file}: not the ONNX graph of this network (it does not say of which network it is); "
        "export it again"
    )
    onnx.helper.set_model_props(model, {"network": identity(digits())})
    onnx.save(model, file)
    assert refusal(digits(), file) == (
        f"{file}: not the ONNX graph of this network (it was not written by dsr-deploy); "
        "export it again"
    )


@pytest.mark.parametrize(
    ("other", "apart"),
    [(digits(bits=2), "weights of 2 bits, not 8"), (digits("another name"), "other numbers")],
)
def test_the_graph_of_another_network_is_refused(
    tmp_path: Path, other: IntegerNetwork, apart: str
) -> None:
    file = tmp_path / "network.onnx"
    file.write_bytes(to_bytes(other))
    assert refusal(digits(), file) == (
        f"{file}: not the ONNX graph of this network ({apart}); export it again"
    )


def test_a_graph_with_fewer_timesteps_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "network.onnx"
    short = replace(digits(), timesteps=3, readout=(4, 3, 2))
    onnx.save(noting(to_onnx(short), digits()), file)
    assert refusal(digits(), file) == (
        f"{file}: not the ONNX graph of this network (its outputs have other shapes); "
        "export it again"
    )


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_refused_in_one_line_or_runs(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    whole = to_onnx(digits(bits=4)).SerializeToString()
    damaged = bytearray(whole)
    for place in data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=2)):
        damaged[place] ^= 1 << data.draw(st.integers(0, 7))
    file = tmp_path_factory.getbasetemp() / "damaged.onnx"
    file.write_bytes(damaged[: data.draw(st.sampled_from([len(whole), len(whole) // 2]))])
    message = ""
    try:
        onnx_runs.run(digits(bits=4), payloads(digits(), 1), record=True, file=file)
    except HardwareError as error:
        message = str(error)
    assert message.isprintable()
    assert message.startswith(f"{file}: not " if message else "")


def noting(model: onnx.ModelProto, network: IntegerNetwork) -> onnx.ModelProto:
    """Let ``model`` say that it is of ``network``."""
    for entry in model.metadata_props:
        if entry.key == "network":
            entry.value = identity(network)
    return model


def test_a_graph_that_encodes_otherwise_is_refused(tmp_path: Path) -> None:
    network = digits()
    file = tmp_path / "network.onnx"
    other = to_onnx(replace(network, input=replace(network.input, step=0.06)))
    onnx.save(noting(other, network), file)
    assert refusal(network, file) == (
        f"{file}: not the ONNX graph of this network (it encodes pixels otherwise); export it again"
    )


def test_a_graph_with_other_populations_is_refused(tmp_path: Path) -> None:
    network = digits()
    file = tmp_path / "network.onnx"
    other = replace(
        network,
        populations=(replace(network.populations[0], name="x"), *network.populations[1:]),
        connections=tuple(
            replace(
                c,
                source="x" if c.source == "a" else c.source,
                target="x" if c.target == "a" else c.target,
            )
            for c in network.connections
        ),
    )
    onnx.save(noting(to_onnx(other), network), file)
    message = refusal(network, file)
    assert message.startswith(f"{file}: not the ONNX graph of this network ([ONNXRuntimeError] :")
