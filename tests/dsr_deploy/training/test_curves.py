"""TensorBoard reads the curves that a training writes."""

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dsr_deploy.errors import UserError
from dsr_deploy.training.curves import write_curves


def _read(folder: Path, name: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_tensorboard_reads_the_curves_of_a_resumed_training_once(tmp_path: Path) -> None:
    folder = tmp_path / "tensorboard"
    with write_curves(folder, 1) as curves:
        for epoch in (1, 2, 3):
            curves.add(epoch, {"loss": float(epoch), "rate": 0.5})
    with write_curves(folder, 3) as curves:  # killed before the checkpoint of epoch 3
        curves.add(3, {"loss": 4.0, "rate": 0.5})
    assert _read(folder, "loss") == [(1, 1.0), (2, 2.0), (3, 4.0)]
    assert _read(folder, "rate") == [(1, 0.5), (2, 0.5), (3, 0.5)]


def test_a_folder_that_is_gone_does_not_grow_again(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "tensorboard"
    with (
        pytest.raises(UserError, match=r"tensorboard: cannot be written \(No such file or directo"),
        write_curves(folder, 1),
    ):
        pass
    assert not list(tmp_path.iterdir())
