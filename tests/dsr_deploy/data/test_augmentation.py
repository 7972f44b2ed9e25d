"""Which augmentation a run has, where that is written, and what each option changes."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dsr_deploy.console import cli
from dsr_deploy.data.augmentation import Augmentation
from dsr_deploy.data.batches import batches
from dsr_deploy.data.dataset import Dataset
from dsr_deploy.data.datasets import DATASETS
from dsr_deploy.data.loading import load
from dsr_deploy.errors import UserError
from dsr_deploy.progress import Silent
from dsr_deploy.run import config
from dsr_deploy.run.directory import RunDirectory
from dsr_deploy.run.trained import describe, load_same_data

WORDS = ("arrows, letters, left and right", "imagefolder", "centre, as in testing", "1/12")


def test_help_says_what_is_mirrored_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["train", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert [word for word in WORDS if word not in text] == []


DEFAULTS = {
    "digits": (False, 0.125, 1.0),
    "cifar10": (True, 0.125, 1.0),
    "cifar100": (True, 0.125, 1.0),
    "imagenet": (True, 0.0, 0.08),
    "imagefolder": (False, 0.125, 0.08),
    "cifar10-dvs": (False, 1 / 12, 1.0),
    "tensors": (False, 0.0, 1.0),
}


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_data_set_begins_with_its_own_values(dataset: str) -> None:
    settings = config.resolve(dataset=dataset)
    assert (settings.flip, settings.shift, settings.crop) == DEFAULTS[dataset]


@pytest.mark.parametrize("preset", config.presets())
def test_a_preset_mirrors_what_the_paper_mirrors(preset: str) -> None:
    assert config.resolve(preset).flip == ("dvs" not in preset)
    # the same training on images that a user brings
    assert not config.resolve(preset, dataset="imagefolder").flip


def test_shares_of_a_side_become_whole_pixels() -> None:
    sides = {8: 1, 12: 1, 16: 2, 32: 4, 48: 6, 63: 7}
    assert {side: Augmentation(shift=1 / 8).padding(side, 5) for side in sides} == sides
    assert Augmentation(shift=1 / 12).padding(48, 48) == 4
    assert Augmentation(shift=0.5).padding(3, 8) == 4
    assert Augmentation().padding(64, 64) == 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"shift": 0.51}, "shift must be 0 to 0.5, not 0.51"),
        ({"shift": float("nan")}, "shift must be 0 to 0.5, not nan"),
        ({"dataset": "imagenet", "crop": 0.001}, "crop must be 0.01 to 1, not 0.001"),
        (
            {"crop": 0.5},
            "crop 0.5: the samples of digits keep their size; leave crop out, or use shift",
        ),
        (
            {"dataset": "imagenet", "shift": 0.1},
            "shift 0.1: the images of imagenet are cut to size; leave shift out, or use crop",
        ),
        ({"flip": 1}, "flip must be true or false, not 1"),
        ({"shift": True}, "shift must be a number, not True"),
    ],
)
def test_what_cannot_be_done_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        config.resolve(**values)


def test_the_options_are_shown_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    line = ["train", "--flip", "--shift", "0.25", "--epochs", "1", "-T", "1", "--arch"]
    assert cli.run([*line, "resnet-tiny", "--print-config"]) == 0
    shown = dict(text.split(maxsplit=1) for text in capsys.readouterr().out.splitlines())
    assert (shown["flip"], shown["shift"], shown["crop"]) == ("True", "0.25", "1.0")
    assert cli.run([*line, "resnet-tiny", "--batch-size", "1437", "--run", "run"]) == 0
    kept = json.loads(Path("run/config.json").read_text())["config"]
    assert (kept["flip"], kept["shift"], kept["crop"]) == (True, 0.25, 1.0)
    # what quantize fine-tunes with
    again = load_same_data(describe(RunDirectory(Path("run"))), Silent())
    assert (again.train.flip, again.train.padding, again.test.padding) == (True, 2, 0)
    capsys.readouterr()
    assert cli.run(["train", "--resume", "--run", "run", "--no-flip"]) == 1
    assert capsys.readouterr().err == (
        "error: run: the run was started with flip True, not False; leave the option out, or "
        "start a new run without --resume\n"
    )


@pytest.mark.parametrize("dataset", DATASETS)
def test_a_run_of_before_keeps_the_augmentation_that_it_had(dataset: str) -> None:
    settings = config.resolve(dataset=dataset)
    earlier = dataclasses.asdict(settings)
    for name in ("flip", "shift", "crop"):
        del earlier[name]
    expected = dataclasses.replace(settings, flip=True) if dataset == "imagefolder" else settings
    assert config.from_dict(earlier) == expected


@pytest.fixture
def arrows(tmp_path: Path) -> Path:
    """Images whose left half is bright, and those whose right half is."""
    for split in ("train", "test"):
        for label, name in enumerate(("left", "right")):
            for i in range(20):
                pixels = np.zeros((16, 16), np.uint8)
                pixels[:, 8 * label : 8 * label + 8] = 200
                path = tmp_path / split / name / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    return tmp_path


def _mirrored(data: Dataset) -> int:
    """Return how many training samples lie on the side of the other class."""
    stream = batches(data.train, data.input, 40, augment=True, seed=0, epoch=0, shuffle=True)
    ((payloads, labels),) = stream
    halves = payloads.float().unflatten(-1, (2, -1)).mean(dim=(1, 2, 4))
    return int((halves.argmax(1) != labels).sum())


def _load(directory: Path, **values: Any) -> Dataset:
    settings = config.resolve(dataset="imagefolder", **values)
    return load(
        "imagefolder",
        directory,
        timesteps=1,
        image_size=settings.image_size,
        augmentation=settings.augmentation,
    )


@pytest.mark.parametrize("size", [None, 12], ids=["as they are", "cut"])
def test_an_image_folder_is_mirrored_only_when_asked(arrows: Path, size: int | None) -> None:
    assert _mirrored(_load(arrows, image_size=size, crop=1.0)) == 0
    assert 10 < _mirrored(_load(arrows, image_size=size, crop=1.0, flip=True)) < 30


def test_without_shift_and_crop_training_sees_what_testing_sees(arrows: Path) -> None:
    for size in (None, 12):
        data = _load(arrows, image_size=size, shift=0.0, crop=1.0)
        assert data.train.padding == 0
        epochs = [
            [
                payloads
                for payloads, _ in batches(
                    data.train, data.input, 8, augment=augment, seed=0, epoch=0, shuffle=True
                )
            ]
            for augment in (True, False)
        ]
        assert all(torch.equal(*pair) for pair in zip(*epochs, strict=True))
    cut = _load(arrows, image_size=12)
    payloads, _ = next(iter(batches(cut.train, cut.input, 40, augment=True, seed=0, epoch=0,
                                    shuffle=True)))  # fmt: skip
    assert len(payloads.flatten(1).unique(dim=0)) > 2, "no part was cut at random"


def test_the_options_reach_the_digits() -> None:
    data = load("digits", timesteps=1, augmentation=Augmentation(flip=True, shift=0.25))
    assert (data.train.padding, data.train.flip) == (2, True)
    assert (data.test.padding, data.test.flip) == (0, False)
