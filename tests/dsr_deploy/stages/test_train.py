import dataclasses
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from dsr_deploy.data.samples import DataError
from dsr_deploy.errors import UserError
from dsr_deploy.progress import Silent
from dsr_deploy.run import checkpoint, config
from dsr_deploy.run.directory import RunDirectory
from dsr_deploy.run.seal import seal
from dsr_deploy.stages.train import train
from dsr_deploy.training.device import resolve_device
from dsr_deploy.training.loop import Training

SMALL = {"timesteps": 1, "epochs": 1, "batch_size": 256, "precision": "fp32", "device": "cpu"}


class _Notes(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_a_layer_that_stays_silent_is_reported_with_a_way_out(tmp_path: Path) -> None:
    said = _Notes()
    # The first layer cannot reach such a threshold, so no layer behind it has any input.
    settings = config.resolve(**SMALL | {"batch_size": 1437}, v_threshold=1e6)
    epoch = train(settings, RunDirectory(tmp_path), progress=said)
    assert said.notes[:-1] == [
        f"no neuron has fired in the first 1 steps of {', '.join(sorted(epoch.firing_rates))}; "
        "nothing behind can learn: leave out v_threshold, which is then chosen from the data, or "
        "raise timesteps"
    ]


def test_thresholds_chosen_from_the_data_leave_no_layer_silent(tmp_path: Path) -> None:
    said = _Notes()
    epoch = train(config.resolve(**SMALL), RunDirectory(tmp_path), progress=said)
    assert min(epoch.firing_rates.values()) > 0
    assert len(said.notes) == 1
    assert said.notes[0].startswith("epoch   1/1  loss ")


def test_training_says_when_a_killed_run_could_be_resumed(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    found: list[tuple[bool, bool]] = []

    def begin() -> None:
        found.append((run.config.exists(), run.latest_checkpoint.exists()))

    train(config.resolve(**SMALL), run, on_begin=begin)
    assert found == [(True, False)]


def test_weights_that_are_not_finite_stop_the_training(tmp_path: Path) -> None:
    settings = config.resolve(**SMALL, lr=1e38)
    message = (
        "weights are not finite after epoch 1; train again in another directory, with a lower lr "
        "(it is 1e+38) or more warmup_epochs: resumed, this run would end the same"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        train(settings, RunDirectory(tmp_path))
    assert not (tmp_path / "checkpoint").exists()


class Stopped(Exception):
    pass


class StopsAfterAnEpoch(Silent):
    def note(self, text: str) -> None:
        if text.startswith("epoch "):
            raise Stopped


@pytest.mark.parametrize("choice", [{"momentum": 0.0}, {"optimizer": "adam", "lr": 0.001}])
def test_every_optimizer_resumes_to_the_same_bits(tmp_path: Path, choice: dict[str, Any]) -> None:
    settings = config.resolve(**SMALL | {"epochs": 2} | choice)
    whole, stopped = RunDirectory(tmp_path / "whole"), RunDirectory(tmp_path / "stopped")
    for run in (whole, stopped):
        run.path.mkdir()
    train(settings, whole)
    with pytest.raises(Stopped):
        train(settings, stopped, progress=StopsAfterAnEpoch())
    train(settings, stopped, resume=True)
    expected = load_file(whole.latest_checkpoint)
    found = load_file(stopped.latest_checkpoint)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_a_gpu_does_not_round_float32(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with torch.backends.cudnn.flags(allow_tf32=True):  # torch's default
        assert resolve_device(name) == torch.device("cuda")
        assert not torch.backends.cudnn.allow_tf32


@pytest.fixture
def stopped(tmp_path: Path) -> RunDirectory:
    """Return a run on a small image folder, stopped after the first of two epochs."""
    images = _image_folder(tmp_path / "images")
    run = RunDirectory(tmp_path / "run")
    settings = config.resolve(
        dataset="imagefolder", data_dir=str(images), arch="resnet-tiny", **SMALL | {"epochs": 2}
    )

    run.path.mkdir()
    with pytest.raises(Stopped):
        train(settings, run, progress=StopsAfterAnEpoch())
    return run


def _image_folder(folder: Path, brightness: int = 0) -> Path:
    rng = np.random.default_rng(0)
    for part, count in (("train", 6), ("test", 2)):
        for name in ("apple", "pear"):
            (folder / part / name).mkdir(parents=True, exist_ok=True)
            for index in range(count):
                pixels = rng.integers(0, 100, (8, 8, 3), dtype=np.uint8) + np.uint8(brightness)
                Image.fromarray(pixels).save(folder / part / name / f"{index}.png")
    return folder


def _resume(run: RunDirectory) -> int:
    settings = config.read(run.config)
    train(settings, run, resume=True)
    return len(run.metrics.read_text().splitlines())


def test_a_stopped_run_goes_on_with_the_same_data(stopped: RunDirectory) -> None:
    stopped.metrics.write_text('{"epo')  # what a user's editor may leave; the checkpoint has it all
    assert _resume(stopped) == 2
    stopped.metrics.unlink()
    assert _resume(stopped) == 2  # it had ended


RESTORE = (
    "restore the data that the network was trained on, name their place with --data-dir, or train "
    "again"
)


def test_a_run_does_not_go_on_with_brighter_images(stopped: RunDirectory) -> None:
    _image_folder(stopped.path.parent / "images", brightness=100)
    with pytest.raises(UserError) as error:
        _resume(stopped)
    assert re.fullmatch(
        r"data set 'imagefolder': pixels of mean 0\.58\d+, 0\.58\d+, 0\.58\d+, the network was "
        rf"trained on 0\.1\d+, 0\.1\d+, 0\.1\d+; {RESTORE}",
        str(error.value),
    )


def test_a_run_does_not_go_on_with_other_classes(stopped: RunDirectory) -> None:
    for part in ("train", "test"):
        folder = stopped.path.parent / "images" / part
        (folder / "apple").rename(folder / "zucchini")
    message = f"data set 'imagefolder': class 0 is 'pear', the network's is 'apple'; {RESTORE}"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        _resume(stopped)


def test_a_run_does_not_go_on_with_fewer_images(stopped: RunDirectory) -> None:
    (stopped.path.parent / "images" / "test" / "pear" / "0.png").unlink()
    message = (
        "data set 'imagefolder': 12 training and 3 test samples, the run began with 12 and 4; "
        + RESTORE
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        _resume(stopped)


def test_a_run_does_not_go_on_with_other_labels(stopped: RunDirectory) -> None:
    train = stopped.path.parent / "images" / "train"
    moved = sorted((train / "apple").iterdir())[0]
    moved.rename(train / "pear" / "other.png")
    message = f"data set 'imagefolder': its labels changed since the run began; {RESTORE}"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        _resume(stopped)


def test_a_run_does_not_go_on_from_the_checkpoint_of_another(
    stopped: RunDirectory, tmp_path: Path
) -> None:
    settings = dataclasses.replace(
        config.read(stopped.config), timesteps=2, epochs=1, warmup_epochs=0
    )
    other = RunDirectory(tmp_path / "other")
    other.path.mkdir()
    train(settings, other)
    shutil.copy(other.latest_checkpoint, stopped.latest_checkpoint)
    message = (
        f"{stopped.latest_checkpoint}: from a run with timesteps 2, but config.json has 1; they do "
        "not belong together"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        _resume(stopped)


def test_a_run_does_not_go_on_from_a_checkpoint_without_an_optimizer(stopped: RunDirectory) -> None:
    shutil.copy(stopped.best_checkpoint, stopped.latest_checkpoint)
    message = (
        f"{stopped.latest_checkpoint}: it has no optimizer state, so no training can continue "
        "from it; train again in another directory"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        _resume(stopped)


def test_data_that_make_no_batch_are_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = _image_folder(tmp_path / "images")
    # as many as seven processes would need
    monkeypatch.setattr(sys.modules["dsr_deploy.data.batches"], "MIN_SAMPLES_PER_RANK", 14)
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    settings = config.resolve(
        dataset="imagefolder", data_dir=str(images), arch="resnet-tiny", **SMALL
    )
    with pytest.raises(DataError, match="each process needs at least 14 samples"):
        train(settings, run)
    assert not run.config.exists()


def test_a_folder_for_events_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.tensorboard.write_text("in the way")
    message = (
        f"{run.tensorboard}: cannot be written (File exists); make room for it, then continue "
        "with --resume"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        train(config.resolve(**SMALL), run)


def test_without_tensorboard_there_are_no_curves_and_the_run_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)  # importing it fails
    run = RunDirectory(tmp_path)
    train(config.resolve(**SMALL), run)
    assert not run.tensorboard.exists()
    assert run.latest_checkpoint.exists()
    assert len(run.metrics.read_text().splitlines()) == 1


def test_a_run_that_began_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    train(config.resolve(**SMALL), run)
    before = run.best_checkpoint.read_bytes()
    message = (
        f"{run.path}: already holds a run; continue it with --resume, or name another directory"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        train(config.resolve(**SMALL, seed=1), run)
    assert run.best_checkpoint.read_bytes() == before


def _with_history(run: RunDirectory, history: Any) -> None:
    """Write the latest checkpoint again, whole, with another history."""
    path = run.latest_checkpoint
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        about = json.loads(file.metadata()["about"])
    sealed = seal(about | {"history": history}, checkpoint.parts(tensors))
    save_file(tensors, path, {"about": json.dumps(sealed)})


@pytest.mark.parametrize(
    ("history", "what"),
    [
        ([], "its history has no epochs"),
        ([{"epoch": 1}], "its history, epoch 1: field 'lr' is missing"),
        ([1], "its history, epoch 1: it is 1, not an object"),
    ],
)
def test_a_run_does_not_go_on_from_another_history(
    stopped: RunDirectory, history: Any, what: str
) -> None:
    _with_history(stopped, history)
    with pytest.raises(UserError) as error:
        _resume(stopped)
    assert str(error.value) == (
        f"{stopped.latest_checkpoint}: {what}; train again in another directory"
    )


def test_a_kill_between_the_two_checkpoints_is_made_good(stopped: RunDirectory) -> None:
    before = stopped.best_checkpoint.read_bytes()
    stopped.best_checkpoint.unlink()
    found: list[bytes] = []

    def begin() -> None:
        found.append(stopped.best_checkpoint.read_bytes())

    train(config.read(stopped.config), stopped, resume=True, on_begin=begin)
    assert found == [before]


def test_more_epochs_than_the_training_began_with_are_told(stopped: RunDirectory) -> None:
    said = _Notes()
    settings = dataclasses.replace(config.read(stopped.config), epochs=3)
    assert train(settings, stopped, resume=True, progress=said).epochs == 3
    assert said.notes[0] == (
        "config.json says 3 epochs, the training was begun with 2; the learning rate follows "
        "config.json from here on"
    )


def test_what_is_drawn_in_an_epoch_follows_from_seed_and_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    real = Training._train_epoch

    def noted(self: Any, epoch: int) -> Any:
        drawn.append(torch.initial_seed())
        torch.rand(epoch + 1)  # what is drawn in one epoch must not reach the next
        return real(self, epoch)

    monkeypatch.setattr(Training, "_train_epoch", noted)
    images = _image_folder(tmp_path / "images")
    seeds: list[list[int]] = []
    for name, seed in (("one", 3), ("again", 3), ("other", 4)):
        (tmp_path / name).mkdir()
        drawn.clear()
        choice = SMALL | {"dataset": "imagefolder", "data_dir": str(images), "arch": "resnet-tiny"}
        choice |= {"epochs": 2, "seed": seed, "warmup_epochs": 0}
        train(config.resolve(**choice), RunDirectory(tmp_path / name))
        seeds.append(drawn.copy())
    one, again, other = seeds
    assert one == again
    assert len({*one, *other}) == 4
