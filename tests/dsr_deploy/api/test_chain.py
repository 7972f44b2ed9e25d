"""The stages as functions: on objects, on run directories, and on what a user has in memory."""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path
from typing import Any

import chips
import numpy as np
import pytest
import sample_run
import torch

import dsr_deploy as dd
from dsr_deploy.api.settings import Settings
from dsr_deploy.console import cli
from dsr_deploy.data.encoding import encode
from dsr_deploy.hardware import reference
from dsr_deploy.measures.all import MEASURES
from dsr_deploy.run.config import Config, resolve

SHAPE = (2, 6, 9)


def mine(input_shape: tuple[int, int, int], classes: int) -> dd.Topology:
    """Describe a network with an oblong window, groups and a shortcut."""
    return dd.Topology(
        "mine",
        input_shape,
        (
            dd.population("a", dd.conv("input", 6, kernel=(1, 3), stride=(1, 2), groups=2)),
            dd.population("b", dd.conv("a", 6, groups=3), dd.identity("a")),
            dd.population("c", dd.pool("b", (3, 1)), norm=False),
            dd.population("output", dd.linear("c", classes)),
        ),
    )


def samples(count: int, *, frames: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Return bright left or right halves, or middles, as bytes."""
    generator = torch.Generator().manual_seed(count)
    labels = torch.arange(count) % 3
    shape = (count, *(() if frames is None else (frames,)), *SHAPE)
    pixels = torch.randint(0, 60, shape, generator=generator)
    for label in range(3):
        pixels[labels == label, ..., 3 * label : 3 * label + 3] += 60
    return pixels.to(torch.uint8), labels


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(message: str) -> Any:
    return pytest.raises(dd.UserError, match=f"^{re.escape(message)}$")


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Train a network of one's own on samples of one's own."""
    data = dd.Dataset.from_tensors(
        samples(96), samples(30), classes=("left", "middle", "right"), name="halves"
    )
    run = tmp_path_factory.mktemp("own") / "run"
    return dd.train(mine, data, run=run, timesteps=3, epochs=3, batch_size=16, validation=0.25)


def test_a_network_and_samples_of_ones_own_go_all_the_way(net: Any, tmp_path: Path) -> None:
    assert net.accuracy == net.result.test_accuracy > 0.5
    assert net.topology == mine(SHAPE, 3)
    assert (net.config.network, net.config.dataset, len(net.history)) == ("mine", "tensors", 3)
    assert repr(net) == (
        f"TrainedRun(mine with IF neurons, T = 3: {net.accuracy:.2%} on 30 test samples after "
        f"epoch {net.result.epoch} of 3, in {net.path})"
    )
    q = dd.quantize(net, bits=4, epochs=1)
    assert q.network.connections[0].groups == 2
    assert q.network.classes == ("left", "middle", "right")
    pixels, labels = samples(30)
    shown = dd.Dataset.from_tensors(samples(96), (pixels, labels)).test.pixels
    payloads = encode(q.network.input, shown).numpy()
    predictions = reference.run(q.network, payloads).predictions
    assert q.accuracy == float((predictions == labels.numpy()).mean())
    e = dd.export(q, "onnx", path=tmp_path / "for me")
    assert [path.name for path in e.files] == ["network.onnx"]
    assert e.files[0].read_bytes() == (net.path / "export/onnx/network.onnx").read_bytes()
    s = dd.simulate(q)
    assert s.accuracy == q.accuracy
    assert s.report.samples == 30
    v = dd.verify(q, samples=7)
    assert v
    assert {"torch", "event", "reference", "onnx", "nir"} <= set(v.engines)
    assert v.verification.samples == 7
    assert dd.report(q) == net.path / "reports" / "report.html"


def test_results_show_themselves_as_lines_tables_and_pictures(net: Any) -> None:
    q = dd.quantize(net, bits=5, epochs=0)
    e = dd.export(q, "loihi")
    written = (e.folder / "manifest.json").stat().st_mtime_ns
    s, v = dd.simulate(q, samples=3), dd.verify(q)
    for result in (net, q, e, s, v):
        line = repr(result)
        assert "\n" not in line
        assert line.startswith(f"{type(result).__name__}(")
        assert str(result).startswith(line.partition("(")[2][:-1])
        page = result._repr_html_()
        assert page.count("<table>") == len(list(result.tables())) == page.count("</table>")
    assert [len(list(result.tables())) for result in (net, q, e, s, v)] == [
        0,
        1,
        2,
        len(MEASURES),
        1,
    ]
    assert (e.folder / "manifest.json").stat().st_mtime_ns == written  # was of q: not done again
    assert "5 bits" in repr(q)
    assert repr(s).startswith(f"SimulationResult({s.accuracy:.2%} on 3 samples, ")
    assert repr(v).endswith("agree spike for spike on 20 samples)")
    for figure in (net.plot(), s.plot()):
        assert figure.axes


def test_another_width_is_exported_before_it_is_simulated(net: Any) -> None:
    first = dd.quantize(net, bits=8, epochs=0)
    dd.export(first)
    second = dd.quantize(net, bits=3, epochs=0)
    assert dd.simulate(second, samples=4).report.bits == 3
    assert dd.simulate(first, samples=4).report.bits == 8
    # a run as such is simulated as it was exported
    assert dd.simulate(net.path, samples=4).report.bits == 8
    assert net.quantized().bits == 3
    assert net.quantized(8).row == first.row


def test_a_chip_of_ones_own_stays_that_of_the_run(net: Any, tmp_path: Path) -> None:
    mine = chips.profile(tmp_path / "mine.yaml", lambda content: content.update(name="mine"),
                         "loihi2")  # fmt: skip
    q = dd.quantize(net, bits=7, epochs=0)
    assert dd.export(q, chip=mine).about.chip.chip == "mine"
    assert dd.simulate(q, samples=2).report.chip.chip == "mine"
    other = dd.quantize(net, bits=2, epochs=0)
    assert dd.simulate(other, samples=2).report.chip.chip == "mine"
    assert dd.export(other).about.chip.chip == "loihi2"
    mine.unlink()
    with refused(f"chip profile '{mine}': cannot be read (No such file or directory)"):
        dd.export(q, chip=str(mine))


def test_the_command_line_goes_on_with_a_run_of_python(
    net: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ["--run", str(net.path)]
    for line in (
        ["quantize", "--epochs", "0", "--bits", "6"],
        ["export"],
        ["simulate", "--samples", "5"],
        ["verify", "--samples", "5", "--engines", "torch,event"],
        ["report"],
    ):
        assert cli.run([*line, *run]) == 0, capsys.readouterr().err
    again = dd.load(net.path)
    assert (again.accuracy, again.topology) == (net.accuracy, net.topology)
    state = net.network.state_dict()
    assert all(
        torch.equal(value, state[name]) for name, value in again.network.state_dict().items()
    )


def test_a_stopped_training_goes_on_with_its_own_samples(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = dd.Dataset.from_tensors(samples(48), samples(9))
    options: Any = {"timesteps": 2, "epochs": 2, "batch_size": 16, "shift": 0.2}
    whole = dd.train(mine(SHAPE, 3), data, run="whole", **options)

    class Stopping:
        def __init__(self) -> None:
            from dsr_deploy.progress import Silent

            self.task = Silent().task

        def note(self, text: str) -> None:
            if text.startswith("epoch   1"):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dd.train(mine(SHAPE, 3), data, run="half", progress=Stopping(), **options)
    found = dd.resume("half")
    assert found.result.test_loss == whole.result.test_loss
    assert [epoch.train_loss for epoch in found.history] == [
        epoch.train_loss for epoch in whole.history
    ]


def test_frames_decide_the_timesteps(here: Path) -> None:
    data = dd.Dataset.from_tensors(samples(24, frames=4), samples(6, frames=4), name="my events")
    found = dd.train(mine, data, epochs=1, batch_size=8, neuron="lif")
    assert found.config.timesteps == 4
    assert found.path.name == "my-events-mine-lif-t4"
    assert dd.verify(dd.quantize(found, 8, epochs=0), samples=3)
    with refused("timesteps must be 4, a frame for each, not 5"):
        dd.train(mine, data, timesteps=5)


def test_nothing_is_left_of_a_training_that_cannot_begin(here: Path) -> None:
    data = dd.Dataset.from_tensors(samples(24), samples(6))
    with refused("network 'mine': it takes an input of 1x6x9, the data set's is 2x6x9"):
        dd.train(mine((1, 6, 9), 3), data)
    with pytest.raises(ZeroDivisionError):  # a user's own mistake, with his own traceback
        dd.train(lambda shape, classes: 1 / 0, data)  # type: ignore[arg-type, return-value]
    assert list(here.iterdir()) == []


def absent(input_shape: Any, classes: int) -> None:
    """Forget to return the topology."""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epoch": 3}, "train has no setting 'epoch'; did you mean epochs?"),
        ({"zzz": 3}, "train has no setting 'zzz'"),
        ({"data_dir": "x"}, "data_dir 'x': the samples are in memory; leave it out"),
        ({"image_size": 8}, "image_size 8: the samples are in memory; leave it out"),
        ({"arch": 3}, "arch must be a name, a Topology or a function that returns one, not int"),
        ({"arch": torch.nn.Flatten()}, "arch must be a name, a Topology or a function that returns "
         "one, not Flatten"),
        ({"arch": absent}, "arch: absent must return a Topology, not NoneType"),
        ({"dataset": (1, 2)}, "dataset must be a name or a Dataset, not tuple; "
         "Dataset.from_tensors makes one of samples and labels"),
        ({"epochs": "3"}, "epochs must be a whole number, not '3'"),
        ({"timesteps": "T"}, "timesteps must be a whole number, not 'T'"),
        ({"crop": 0.5}, "crop 0.5: the samples of tensors keep their size; leave crop out, or use "
         "shift"),
        ({"epochs": 0}, "epochs must be 1 to 100000, not 0"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(here: Path, arguments: dict[str, Any], message: str) -> None:
    data = dd.Dataset.from_tensors(samples(24), samples(6))
    with refused(message):
        dd.train(**{"arch": mine, "dataset": data} | arguments)
    assert list(here.iterdir()) == []


def test_a_run_is_found_by_its_path_or_is_the_newest(here: Path) -> None:
    with refused("no run in this directory yet; run `dsr-deploy train` first, or name a run with "
                 "--run DIR"):  # fmt: skip
        dd.load()
    data = dd.Dataset.from_tensors(samples(24), samples(6))
    made = dd.train(mine, data, epochs=1, batch_size=8)
    assert dd.load().result == dd.load(str(made.path)).result == made.result
    assert dd.quantize(epochs=0).bits == 4
    assert dd.export().target == "loihi"
    assert dd.simulate(samples=2).report.samples == 2


def test_report_compares_several_runs(here: Path) -> None:
    for name in ("a", "b"):
        sample_run.write(here / name)
    assert dd.report(["a", here / "b"], output="c.html") == Path("c.html")
    assert (here / "c.html").exists()
    assert dd.report(["a", "b"]) == Path("comparison.html")
    assert dd.report(["a"]) == Path("a/reports/report.html")
    with refused("output is for several runs; the page of one is in its run"):
        dd.report("a", output="c.html")
    with refused("an empty list; name the runs to compare"):
        dd.report([])


def test_the_settings_are_those_of_the_configuration() -> None:
    fields = {field.name for field in dataclasses.fields(Config)}
    assert set(Settings.__annotations__) == fields - {"arch", "dataset"}


def test_defaults_are_those_of_the_command_line(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Config] = []

    def stop(settings: Config, *_: object, **__: object) -> None:
        given.append(settings)
        raise dd.UserError("enough")

    monkeypatch.setattr("dsr_deploy.stages.train.train", stop)
    for arguments in ({}, {"arch": "resnet20", "dataset": "cifar10", "data_dir": "d"}):
        with refused("enough"):
            dd.train(**arguments)  # type: ignore[arg-type]
        assert cli.run(["train", *(f"--{n.replace('_', '-')}={v}" for n, v in arguments.items())])
        assert given.pop() == given.pop()
    with refused("enough"):
        dd.train(preset="cifar10-if-t20", data_dir=here)
    assert given == [resolve("cifar10-if-t20", data_dir=str(here))]
    assert np.isfinite(given[0].lr)
    assert "runs" not in {path.name for path in here.iterdir()}
    assert sys.modules["dsr_deploy"].train is dd.train
