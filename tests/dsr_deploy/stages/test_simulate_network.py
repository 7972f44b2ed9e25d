"""Simulating any network's file: the same numbers as of a run and of an object."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sample_run
from random_networks import random_network

import dsr_deploy as dd
from dsr_deploy.data.loading import load
from dsr_deploy.data.samples import TensorSplit
from dsr_deploy.errors import UserError
from dsr_deploy.hardware import reference
from dsr_deploy.hardware.format import network_file
from dsr_deploy.hardware.schedule import schedule
from dsr_deploy.progress import Silent
from dsr_deploy.stages.counting import Method
from dsr_deploy.stages.simulate import simulate
from dsr_deploy.stages.simulate_network import Given, Places, simulate_file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the file of the sample network, as its export writes it."""
    path = tmp_path / "network.safetensors"
    network_file.write(schedule(sample_run.network()), path)
    return path


def _save(path: Path, array: Any) -> Path:
    np.save(path, array)
    return path


def _digits() -> tuple[np.ndarray, np.ndarray]:
    test = load("digits", timesteps=3).test
    assert isinstance(test, TensorSplit)
    return test.pixels.numpy(), test.labels.numpy()


def _refused(message: str) -> pytest.RaisesExc[UserError]:
    return pytest.raises(UserError, match=f"^{re.escape(message)}$")


def test_a_file_an_object_and_a_run_give_the_same(path: Path, tmp_path: Path) -> None:
    run = sample_run.write(tmp_path / "run")
    pixels, labels = _digits()
    inputs, known = _save(tmp_path / "x.npy", pixels), _save(tmp_path / "y.npy", labels)
    own = dataclasses.asdict(simulate(run, 40))
    chosen = np.arange(40) * 9
    payloads = _save(tmp_path / "p.npy", sample_run.payloads()[chosen])
    few = _save(tmp_path / "z.npy", labels[chosen])
    sources = {
        "test samples of digits": Given(dataset="digits", samples=40),
        f"pixels (uint8) of {inputs}, encoded by the network's input": Given(
            inputs=inputs, labels=known, samples=40
        ),
        f"payloads (int8) of {payloads}, taken as they are": Given(inputs=payloads, labels=few),
    }
    for source, given in sources.items():
        simulated = simulate_file(path, given, Method())
        assert dataclasses.asdict(simulated.report) == own | {"source": source}
        expected = reference.run(sample_run.network(), sample_run.payloads()[chosen])
        assert simulated.predictions.tolist() == expected.predictions.tolist()
    result = dd.simulate(str(path), pixels, labels, samples=40)
    assert dataclasses.asdict(result.report) == own | {
        "source": "pixels (uint8) of data, encoded by the network's input",
        "made_from": result.report.made_from,
    }


def test_without_labels_there_is_no_accuracy(path: Path, tmp_path: Path) -> None:
    inputs = _save(tmp_path / "x.npy", sample_run.payloads()[:7])
    report = simulate_file(path, Given(inputs=inputs), Method()).report
    assert (report.accuracy, report.samples) == (None, 7)
    assert report.neurobench.classification_accuracy is None


def test_an_npz_may_hold_both(path: Path, tmp_path: Path) -> None:
    pixels, labels = _digits()
    np.savez(tmp_path / "both.npz", inputs=pixels[:20], labels=labels[:20], other=0)
    np.savez(tmp_path / "one.npz", anything=pixels[:20])
    both = simulate_file(path, Given(inputs=tmp_path / "both.npz"), Method()).report
    named = Given(inputs=tmp_path / "one.npz", labels=tmp_path / "both.npz")
    assert both.accuracy is not None
    assert simulate_file(path, named, Method()).report.accuracy == both.accuracy
    alone = simulate_file(path, Given(inputs=tmp_path / "one.npz"), Method()).report
    assert alone.accuracy is None


@pytest.mark.parametrize("seed", range(4))
def test_frames_and_images_of_any_network(tmp_path: Path, seed: int) -> None:
    build = random_network(seed)
    network, payloads = build.network(), build.payloads(5)
    network_file.write(network, tmp_path / "n.safetensors")
    given = Given(inputs=_save(tmp_path / "x.npy", payloads))
    simulated = simulate_file(tmp_path / "n.safetensors", given, Method(threads=1))
    expected = reference.run(network, payloads, record=True)
    assert simulated.predictions.tolist() == expected.predictions.tolist()
    assert expected.spikes is not None
    assert {x.name: x.spikes for x in simulated.report.sparsity.layers} == {
        name: int(train.sum()) for name, train in expected.spikes.items()
    }


def test_nothing_is_written_but_what_is_asked_for(path: Path, tmp_path: Path) -> None:
    run = sample_run.write(tmp_path / "run")
    before = set(tmp_path.rglob("*"))
    given = Given(dataset="digits", samples=10)
    simulate_file(path, given, Method())
    assert set(tmp_path.rglob("*")) == before
    places = Places(tmp_path / "new" / "out", tmp_path / "p.npy")
    simulated = simulate_file(path, given, Method(), places=places)
    assert np.load(tmp_path / "p.npy").tolist() == simulated.predictions.tolist()
    simulate(run, 10)
    names = {file.name for file in (tmp_path / "new" / "out").iterdir()}
    assert names == {file.name for file in run.reports.iterdir()}
    stored = json.loads((tmp_path / "new" / "out" / "simulate.json").read_text())
    assert stored == json.loads(json.dumps(dataclasses.asdict(simulated.report)))
    (tmp_path / "new" / "out" / "mine.txt").write_text("mine")
    simulate_file(path, given, Method(), places=places)
    assert (tmp_path / "new" / "out" / "mine.txt").read_text() == "mine"
    assert not list((tmp_path / "new").rglob(".*"))


def test_an_error_leaves_what_was_there(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    inputs = _save(tmp_path / "x.npy", np.zeros((2, 1, 8, 9), np.int8))
    with pytest.raises(UserError):
        simulate_file(path, Given(inputs=inputs), Method(), places=Places(out, tmp_path / "p.npy"))
    assert list(out.iterdir()) == []
    assert not (tmp_path / "p.npy").exists()


def test_a_place_that_cannot_be_written_is_named_before_the_work(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = Given(dataset="digits")
    monkeypatch.setattr("dsr_deploy.stages.simulate_network.network_file", None)  # no work is begun
    (tmp_path / "file").write_text("mine")
    for places, message in (
        (Places(tmp_path / "file"), f"{tmp_path}/file: cannot be written (Not a directory)"),
        (Places(None, tmp_path), f"{tmp_path}: it is a folder; name a file"),
        (
            Places(None, tmp_path / "file" / "p.npy"),
            f"{tmp_path}/file: cannot be written (Not a directory)",
        ),
        (
            Places(tmp_path),
            f"{tmp_path}: the folder is written anew as a whole, so it cannot hold the current "
            "directory; name another, such as ./reports",
        ),
    ):
        monkeypatch.chdir(tmp_path)
        with _refused(message):
            simulate_file(path, given, Method(), places=places)
    run = sample_run.write(tmp_path / "run")
    with _refused(f"{run.reports}: it belongs to a run; name another folder with --out"):
        simulate_file(path, given, Method(), places=Places(run.reports))


FORM = "pixels (uint8, 0 to 16) or payloads (int8, -8 to 8) of shape (N, 1, 8, 8); convert it"


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((2, 1, 8, 8), 0.5), f"float64 of shape (2, 1, 8, 8), from 0.5 to 0.5; it must be "
         f"{FORM}"),
        (np.full((2, 1, 8, 8), np.nan, np.float32), "float32 of shape (2, 1, 8, 8), with NaN; it "
         f"must be {FORM}"),
        (np.append(np.zeros(2000), np.nan), "float64 of shape (2001,), with NaN; it must be "
         f"{FORM}"),
        (np.zeros((2, 1, 8, 8), np.int64), "int64 of shape (2, 1, 8, 8), from 0 to 0; it must be "
         f"{FORM}"),
        (np.zeros((2, 1, 8, 8), bool), f"bool of shape (2, 1, 8, 8); it must be {FORM}"),
        (np.float32(1), f"float32 of shape (), from 1 to 1; it must be {FORM}"),
        (np.zeros((2, 8, 8, 1), np.uint8), "shape (2, 8, 8, 1), the network takes (N, 1, 8, 8); "
         "move the channels before height and width"),
        (np.zeros((2, 8, 8), np.uint8), "shape (2, 8, 8), the network takes (N, 1, 8, 8); give the "
         "only channel an axis of 1 before height and width"),
        (np.zeros((1, 8, 8), np.int8), "shape (1, 8, 8), the network takes (N, 1, 8, 8); give a "
         "single sample a first axis of 1"),
        (np.zeros((2, 3, 8, 8), np.int8), "shape (2, 3, 8, 8), the network takes (N, 1, 8, 8)"),
        (np.zeros((0, 1, 8, 8), np.int8), "it must have at least 1 sample, not 0"),
        (np.full((2, 1, 8, 8), 255, np.uint8), "pixels must be 0 to 16, not 255 to 255; scale "
         "them"),
        (np.full((2, 1, 8, 8), -128, np.int8), "payloads must be -8 to 8, not -128 to -128"),
    ],
)  # fmt: skip
def test_inputs_that_do_not_fit_are_named(
    path: Path, tmp_path: Path, array: Any, message: str
) -> None:
    inputs = _save(tmp_path / "x.npy", array)
    with _refused(f"{inputs}: {message}"):
        simulate_file(path, Given(inputs=inputs), Method())


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(3, np.int64), "2 samples need as many labels, not 3"),
        (np.array([0, 10]), "labels must be 0 to 9, not 10"),
        (np.array([0, -1]), "labels must be at least 0, not -1"),
        (np.array([0, 0.5]), "labels must be whole numbers of shape (N,), not torch.float64 of "
         "(2,)"),
        (np.array(["a", "b"]), "labels must be whole numbers of shape (N,), not <U1"),
    ],
)  # fmt: skip
def test_labels_that_do_not_fit_are_named(
    path: Path, tmp_path: Path, array: Any, message: str
) -> None:
    inputs = _save(tmp_path / "x.npy", sample_run.payloads()[:2])
    labels = _save(tmp_path / "y.npy", array)
    with _refused(f"{labels}: {message}"):
        simulate_file(path, Given(inputs=inputs, labels=labels), Method())


WAY = "name the data set that the network is for"


def test_a_data_set_that_does_not_fit_is_named(path: Path, tmp_path: Path) -> None:
    network = sample_run.network()

    def changed(**changes: Any) -> Path:
        other = tmp_path / "other.safetensors"
        network_file.write(dataclasses.replace(network, **changes), other)
        return other

    given = Given(dataset="digits")
    with _refused(f"data set 'digits': class 9 is '9', the network's is 'x'; {WAY}"):
        simulate_file(changed(classes=(*"012345678", "x")), given, Method())
    scaled = dataclasses.replace(network.input, pixel_scale=1 / 255)
    with _refused(f"data set 'digits': pixels of 0 to 16, the network takes 0 to 255; {WAY}"):
        simulate_file(changed(input=scaled), given, Method())
    wide = random_network(1).network()
    network_file.write(wide, tmp_path / "wide.safetensors")
    with _refused(f"data set 'digits': it has 10 classes, the network 5; {WAY}"):
        simulate_file(tmp_path / "wide.safetensors", given, Method())
    # of other statistics, but of the same form: the network's own input encodes them
    shifted = dataclasses.replace(network.input, mean=(0.25,))
    assert simulate_file(changed(input=shifted), Given(dataset="digits", samples=5), Method())


def test_what_is_asked_for_in_two_ways_or_in_none_is_refused() -> None:
    with _refused("no samples; name them with --dataset NAME or --inputs FILE"):
        Given()
    with _refused("--dataset and --inputs exclude each other; name the samples with one"):
        Given(dataset="digits", inputs=Path("x"))
    with _refused("--labels: a data set has its own; leave it out"):
        Given(dataset="digits", labels=Path("x"))
    with _refused("--data-dir is for --dataset; leave it out"):
        Given(inputs=Path("x"), data_dir=Path("y"))


def test_a_chip_of_ones_choice_must_run_the_network(path: Path, tmp_path: Path) -> None:
    given = Given(dataset="digits", samples=2)
    assert simulate_file(path, given, Method(), chip="loihi2").report.chip.chip == "loihi2"
    with pytest.raises(UserError, match="loihi1"):
        simulate_file(path, given, Method(), chip="loihi1")
    with pytest.raises(UserError, match=r"^chip 'x': choose one of loihi1, loihi2"):
        simulate_file(path, given, Method(), chip="x")


def test_a_damaged_network_is_named(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=rf"^{re.escape(str(path))}: .*export it again$"):
        simulate_file(path, Given(dataset="digits"), Method())


def test_inputs_are_read_batch_by_batch(tmp_path: Path) -> None:
    given = Given(inputs=_save(tmp_path / "x.npy", sample_run.payloads()[:70]))
    samples = given.open(sample_run.network(), None, Silent())
    assert [len(part) for part, _ in samples.batches()] == [32, 32, 6]
