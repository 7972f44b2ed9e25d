"""Export, simulate and verify on a network alone, and on samples of the user's own."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import chips
import golden_networks
import numpy as np
import pytest
import torch
import yaml

import dsr_deploy as dd
from dsr_deploy.data.encoding import encode
from dsr_deploy.engines import load_engine
from dsr_deploy.formats import load_target
from dsr_deploy.hardware import reference
from dsr_deploy.hardware.chip import load_chip
from dsr_deploy.hardware.event.simulator import Simulator
from dsr_deploy.hardware.format import network_file
from dsr_deploy.measures.all import MEASURES
from dsr_deploy.measures.chip_use import chip_use

HERE = {"torch", "event", "reference", "onnx", "nir"}
"""Engines that run wherever the tests do."""


@pytest.fixture(params=golden_networks.KINDS)
def network(request: pytest.FixtureRequest) -> dd.IntegerNetwork:
    return golden_networks.golden_network(request.param)


def an_if_network() -> dd.IntegerNetwork:
    return golden_networks.golden_network("if")


def refused(message: str) -> Any:
    return pytest.raises(dd.UserError, match=f"^{re.escape(message)}$")


def pixels(network: dd.IntegerNetwork, count: int = 30) -> torch.Tensor:
    frames = (network.timesteps,) if network.input.framed else ()
    generator = torch.Generator().manual_seed(5)
    shape = (count, *frames, *network.input.shape)
    return torch.randint(0, 256, shape, generator=generator).to(torch.uint8)


def test_a_network_shows_itself_in_a_line(network: dd.IntegerNetwork) -> None:
    assert repr(network) == (
        f"IntegerNetwork('{network.name}', 2x4x4 to 3 classes, T = 6: 4 populations, 99 neurons, "
        "300 weights of 2/3/4/6/8 bits)"
    )


@pytest.mark.parametrize("target", ["loihi", "onnx", "nir"])
def test_a_network_is_exported_to_a_folder(
    network: dd.IntegerNetwork, tmp_path: Path, target: str
) -> None:
    e = dd.export(network, target, path=tmp_path / "new" / "folder")
    content = load_target(target).write(network)
    assert e.files == tuple(tmp_path / "new" / "folder" / name for name in sorted(content))
    assert {path.name: path.read_bytes() for path in e.files} == content
    assert sorted(e.folder.iterdir()) == list(e.files)
    assert (e.run, e.target, e.about.bits) == (None, target, 2)
    assert repr(e) == f"ExportedFiles({target}: 4 layers, 99 neurons, 2 bits, in {e.folder})"
    assert len(list(e.tables())) == (2 if target == "loihi" else 1)
    with refused("a network without a run has no data of its own; give data, or a run"):
        dd.simulate(network)
    with refused("name a run directory, or give what a stage returned for one, not ExportedFiles"):
        dd.report(e)


def test_a_network_is_checked_against_a_chip_of_ones_own(tmp_path: Path) -> None:
    mine = chips.profile(
        tmp_path / "mine.yaml", lambda content: content.update(name="mine"), "loihi2"
    )
    use = dd.export(an_if_network(), chip=mine, path=tmp_path / "out").about.chip
    assert use == replace(chip_use(an_if_network(), load_chip("loihi2")), chip="mine")
    few = yaml.safe_load(mine.read_text())
    few["v_bits"]["value"] = 9
    mine.write_text(yaml.safe_dump(few))
    with pytest.raises(dd.UserError, match=r"^population 'stem', channel \d: the membrane .* mine"):
        dd.export(an_if_network(), chip=str(mine), path=tmp_path / "not")
    assert not (tmp_path / "not").exists()


def test_a_file_is_a_network(network: dd.IntegerNetwork, tmp_path: Path) -> None:
    path = tmp_path / "network.safetensors"
    network_file.write(network, path)
    held = dd.load(path)
    assert network_file.to_bytes(held) == path.read_bytes()
    one, two = (dd.export(which, "nir", path=tmp_path / "x") for which in (held, str(path)))
    assert one.files[0].read_bytes() == two.files[0].read_bytes()
    payloads = golden_networks.golden_payloads(network)
    assert dd.verify(path, payloads)
    assert dd.simulate(path, payloads).predictions is not None
    path.write_bytes(path.read_bytes()[:-1])
    for stage in (dd.load, dd.verify, dd.export):
        with pytest.raises(dd.UserError, match=rf"^{re.escape(str(path))}: .*export it again$"):
            stage(path)


def test_all_engines_run_a_network_on_payloads(network: dd.IntegerNetwork) -> None:
    payloads = golden_networks.golden_payloads(network)
    v = dd.verify(network, payloads, engines=tuple(HERE))
    assert v
    assert set(v.engines) == HERE
    assert v.engines[0] == "reference"
    spikes = reference.run(network, payloads, record=True).spikes
    assert spikes is not None
    assert v.verification.spikes == {name: int(train.sum()) for name, train in spikes.items()}
    assert (v.run, v.left_out, v.verification.samples) == (None, {}, 3)
    assert repr(v).endswith("agree spike for spike on 3 samples)")
    assert dd.verify(network, torch.from_numpy(payloads), engines="event", samples=2).engines == (
        "reference",
        "event",
    )


def test_an_engine_that_differs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    network = an_if_network()
    payloads = golden_networks.golden_payloads(network)
    other = replace(network, populations=(
        replace(network.populations[0], bias=network.populations[0].bias + np.int32(40)),
        *network.populations[1:],
    ))  # fmt: skip
    engine = load_engine("event")
    wrong = replace(
        engine, open=lambda *_: lambda part: Simulator(other).run(part, record=True).run
    )
    monkeypatch.setattr("dsr_deploy.engines.event.ENGINE", wrong)
    v = dd.verify(network, payloads, engines=("event",))
    assert not v
    assert repr(v).startswith(
        "VerificationResult(engine 'event' differs from 'reference': layer 'stem', timestep 0, "
    )


def test_engines_that_cannot_run_are_left_out_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = an_if_network()
    absent = replace(load_engine("lava"), obstacle=lambda: "not here")
    slow = replace(load_engine("onnx"), seconds=lambda network, samples: 60.0 * 60)
    monkeypatch.setattr("dsr_deploy.engines.lava.ENGINE", absent)
    monkeypatch.setattr("dsr_deploy.engines.onnx.ENGINE", slow)
    unnamed = replace(network, name="no\nname")  # the formats of files do not hold it
    v = dd.verify(network, pixels(network, 2))
    assert v.left_out == {
        "lava": "not here",
        "onnx": "it would take about 60 minutes; name it in engines to run it",
    }
    with refused("lava: not here"):
        dd.verify(network, pixels(network, 2), engines=("lava",))
    message = "network: name 'no?name' must be printable and of at most 200 characters"
    with refused(f"engine 'reference': {message}"):
        dd.verify(unnamed, pixels(network, 2))
    with refused(f"engine 'event': {message}"):
        dd.verify(unnamed, pixels(network, 2), engines=("event", "torch"))


def test_samples_become_the_payloads_of_the_networks_input(network: dd.IntegerNetwork) -> None:
    given = pixels(network)
    labels = torch.arange(30) % 3
    payloads = encode(network.input, given).numpy()
    predictions = reference.run(network, payloads).predictions
    s = dd.simulate(network, given, labels)
    assert s.predictions is not None
    assert s.predictions.tolist() == predictions.tolist()
    assert len(set(predictions.tolist())) > 1
    assert s.accuracy == float((predictions == labels.numpy()).mean())
    counted = Simulator(network).run(payloads)
    assert s.synops == sum(c.synops for c in counted.connections) / 30
    assert s.report.chip == chip_use(network, load_chip("loihi2"))
    assert (s.run, s.report.samples, s.report.bits, s.report.engine) == (None, 30, 2, "event")
    assert len(list(s.tables())) == len(MEASURES)
    chosen = np.arange(13) * 30 // 13
    right = np.where(np.isin(np.arange(30), chosen), predictions, (predictions + 1) % 3)
    few = dd.simulate(network, given.numpy(), right.tolist(), samples=13, threads=1)
    assert few.predictions is not None
    assert few.predictions.tolist() == predictions[chosen].tolist()
    assert few.accuracy == 1
    counted = Simulator(network).run(payloads[chosen])
    assert few.synops == sum(c.synops for c in counted.connections) / 13
    unknown = dd.simulate(network, payloads)
    assert math.isnan(unknown.accuracy)
    assert repr(unknown).startswith("SimulationResult(30 samples, ")
    assert unknown.synops == s.synops


def as_dataset(network: dd.IntegerNetwork, count: int = 30) -> dd.Dataset:
    labels = torch.arange(count) % 3
    data = dd.Dataset.from_tensors(
        (pixels(network), torch.arange(30) % 3), (pixels(network, count), labels),
        classes=network.classes,
    )  # fmt: skip
    return replace(data, input=network.input)


def test_a_data_set_is_tested_with_its_labels() -> None:
    network = an_if_network()
    data = as_dataset(network)
    s = dd.simulate(network, data)
    assert s.accuracy == dd.simulate(network, pixels(network), torch.arange(30) % 3).accuracy > 0
    assert s.report.samples == 30
    v = dd.verify(network, data, engines=("event",))
    assert v.verification.samples == 20
    assert dd.verify(network, pixels(network), engines=("event",)).verification.samples == 30
    other = replace(data, classes=("cat", "dog", "cow"))
    with pytest.raises(dd.UserError, match=r"^data set 'tensors': class 2 is 'cow', the network's"):
        dd.simulate(network, other)
    with refused("labels: the Dataset has its own; leave them out"):
        dd.simulate(network, data, torch.arange(30))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"data": "x"}, "data: must be a tensor or an array of numbers, not str"),
        (
            {"data": torch.zeros(2, 2, 4, 4)},
            "data must be a Dataset, or an array of payloads (int8) or samples (uint8), not "
            "Tensor of torch.float32",
        ),
        (
            {"data": np.zeros((2, 1, 4, 4), np.uint8)},
            "data: shape (2, 1, 4, 4), the network takes (N, 2, 4, 4)",
        ),
        (
            {"data": np.zeros((2, 1, 4, 4), np.int8)},
            "data: shape (2, 1, 4, 4), the network takes (N, 2, 4, 4)",
        ),
        (
            {"data": np.zeros((0, 2, 4, 4), np.int8)},
            "data: it must have at least 1 sample, not 0",
        ),
        (
            {"data": np.full((1, 2, 4, 4), -128, np.int8)},
            "data: payloads must be -127 to 127, not -128 to -128",
        ),
        ({"labels": [0, 1, 3]}, "data: labels must be 0 to 2, not 3"),
        ({"labels": [0, 1]}, "data: 3 samples need as many labels, not 2"),
        ({"labels": [0, 1, 0.5]}, "data: labels must be whole numbers of shape (N,), not "
         "torch.float64 of (3,)"),
        ({"data": None, "labels": [0]}, "labels without data; give both"),
        ({"samples": 4}, "samples must be 1 to 3, not 4"),
        ({"threads": 0}, "threads must be at least 1, not 0"),
        ({"samples": "3"}, "samples must be a whole number, not '3'"),
        ({"threads": "2"}, "threads must be a whole number, not '2'"),
        ({"chip": "x"},
         "chip 'x': choose one of loihi1, loihi2, or name a file that ends in .yaml"),
        ({"data": None, "chip": "loihi2"},
         "chip is for data of one's own; a run has that of its export"),
        ({"data_dir": "x"}, "data_dir is for the data of a run; leave it out where data are given"),
        (
            {"net": 3},
            "data are for an IntegerNetwork, its file or what quantize returned, not int; a run "
            "has its own",
        ),
        ({"net": 3, "data": None},
         "name a run directory, or give what a stage returned for one, not int"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_line(arguments: dict[str, Any], message: str) -> None:
    network = an_if_network()
    fitting = {"net": network, "data": golden_networks.golden_payloads(network)}
    with refused(message):
        dd.simulate(**fitting | arguments)


def test_an_export_of_a_network_needs_a_place_and_has_one_width(tmp_path: Path) -> None:
    message = "a network without a run needs a path for its files, and no bits"
    with refused(message):
        dd.export(an_if_network(), "onnx")
    with refused(message):
        dd.export(an_if_network(), "onnx", bits=4, path=tmp_path)
    with refused("chip 'loihi2' for target 'nir'; only the target loihi has chips"):
        dd.export(an_if_network(), "nir", chip="loihi2", path=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_register_that_may_overflow_is_named(tmp_path: Path) -> None:
    network = an_if_network()
    stem = replace(network.populations[0], bias=np.full(4, 1 << 22, np.int32))
    broken = replace(network, populations=(stem, *network.populations[1:]))
    with pytest.raises(dd.UserError, match=r"^population 'stem', channel 0: "):
        dd.export(broken, path=tmp_path)
    with pytest.raises(dd.UserError, match=r"^population 'stem': .* timestep \d of sample 0"):
        dd.simulate(broken, golden_networks.golden_payloads(broken))


def test_traces_are_those_of_the_reference(tmp_path: Path) -> None:
    network = an_if_network()
    given = pixels(network)
    assert dd.simulate(network, given).traces is None
    path = tmp_path / "t.npz"
    traces = dd.simulate(network, given, record=dd.Recording(samples=(4, 7), path=path)).traces
    assert traces is not None
    payloads = encode(network.input, given[[4, 7]]).numpy()
    expected = reference.run(network, payloads, record=True).spikes
    assert expected is not None
    for name, fired in expected.items():
        np.testing.assert_array_equal(traces.spikes[name], fired)
        np.testing.assert_array_equal(np.load(path)[f"spikes/{name}"], fired)
