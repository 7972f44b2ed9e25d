"""What a run begins with where neither the paper nor the user says, and earlier runs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from dsr_deploy.data.datasets import DATASETS
from dsr_deploy.data.source import TrainingRow
from dsr_deploy.errors import UserError
from dsr_deploy.run import config
from dsr_deploy.run.config import LifRow, from_dict, read, resolve


@pytest.mark.parametrize(
    ("dataset", "row"),
    [
        ("digits", ("resnet-tiny", "sgd", 30, 0.1, 64)),
        ("imagefolder", ("resnet20", "sgd", 30, 0.1, 64)),
    ],
)
def test_data_sets_without_a_row_in_the_paper(dataset: str, row: tuple[Any, ...]) -> None:
    found = resolve(dataset=dataset)
    assert (found.arch, found.optimizer, found.epochs, found.lr, found.batch_size) == row
    assert (found.tau, found.dt, found.validation) == (1.0, 1.0, 0.1)
    assert found.augmentation == DATASETS[dataset].augmentation


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5])
def test_a_share_of_up_to_a_half_is_held_out(share: float) -> None:
    assert resolve(validation=share).validation == share


@pytest.mark.parametrize("share", [-0.5, -1e-9, 0.5000001, 1.0])
def test_other_shares_are_refused(share: float) -> None:
    with pytest.raises(UserError) as error:
        resolve(validation=share)
    assert str(error.value) == f"validation must be 0 to 0.5, not {share}"


def test_a_crop_is_a_share_of_the_area() -> None:
    for crop in (0.01, 1.0):
        assert resolve(dataset="imagefolder", crop=crop).crop == crop
    for crop in (-0.5, 0.009, 1.5):
        with pytest.raises(UserError) as error:
            resolve(dataset="imagefolder", crop=crop)
        assert str(error.value) == f"crop must be 0.01 to 1, not {crop}"


def test_the_shortest_step_is_one_of_the_4096_of_a_chips_decay() -> None:
    assert resolve(neuron="lif", tau=4096.0, dt=1.0).dt == 1.0
    with pytest.raises(UserError, match=r"^dt / tau must be 1/4096 to 8, not 0\.000244116 "):
        resolve(neuron="lif", tau=4096.0, dt=0.9999)  # more than 1/4097


def test_rows_of_the_tables_are_read_only() -> None:
    row = TrainingRow("resnet18", "sgd", 1, 0.1, 2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        row.lr = 0.2  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        LifRow(1.0, 0.1, 1.0, 0.5).dt = 2.0  # type: ignore[misc]


@pytest.mark.parametrize(("dataset", "flip"), [("imagefolder", True), ("digits", False)])
def test_a_run_of_before_was_mirrored_if_of_images_and_held_out_nothing(
    dataset: str, flip: bool
) -> None:
    values = dataclasses.asdict(resolve(dataset=dataset))
    for name in ("flip", "shift", "crop", "validation"):
        del values[name]
    found = from_dict(values)
    assert (found.flip, found.validation) == (flip, 0.0)
    assert dataclasses.replace(found, flip=False, validation=0.1) == resolve(dataset=dataset)


def test_a_run_of_before_on_unknown_data_is_refused_by_name() -> None:
    values = dataclasses.asdict(resolve())
    for name in ("flip", "shift", "crop", "validation"):
        del values[name]
    for dataset in (7, "emoji"):
        with pytest.raises(UserError) as error:
            from_dict(values | {"dataset": dataset})
        assert str(error.value) == (
            "the configuration has missing or unknown entries: crop, flip, shift"
        )


def _stored(path: Path, **changes: Any) -> Path:
    """Write a config.json with its checksum, then with ``changes`` of its configuration."""
    value: dict[str, Any] = {"config": dataclasses.asdict(resolve()), "command": "dsr-deploy"}
    value["labels"] = "ab"
    value[config.KEY] = config.checksum_of(value)
    for name, change in changes.items():
        if name in value:
            value[name] = change
        else:
            value["config"][name] = change
    path.write_text(json.dumps(value))
    return path


@pytest.mark.parametrize(
    "change", [{}, {"command": "another"}, {"epochs": 40}, {"data_dir": "/x"}, {"device": "cpu"}]
)
def test_what_may_be_changed_by_hand_is_taken(tmp_path: Path, change: dict[str, Any]) -> None:
    found = read(_stored(tmp_path / "config.json", **change))
    for name, value in change.items():
        assert name == "command" or getattr(found, name) == value


@pytest.mark.parametrize("change", [{"lr": 0.2}, {"labels": "cd"}, {"neuron": "lif"}])
def test_what_may_not_be_changed_by_hand_is_noticed(tmp_path: Path, change: dict[str, Any]) -> None:
    path = _stored(tmp_path / "config.json", **change)
    with pytest.raises(UserError) as error:
        read(path)
    assert str(error.value) == (
        f"{path}: changed since training wrote it (its checksum does not match); restore it: only "
        "data_dir, device, epochs, precision may be changed"
    )
