import re
from pathlib import Path

import pytest

from dsr_deploy import config
from dsr_deploy.errors import UserError
from dsr_deploy.progress import Silent
from dsr_deploy.run_directory import RunDirectory
from dsr_deploy.train import train

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
        f"layer '{name}' has not fired in the first 1 steps; nothing behind it can learn: lower "
        "--v-threshold (or leave it out: it is then chosen from the data), or raise --timesteps"
        for name in sorted(epoch.firing_rates)
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
        "weights are not finite after epoch 1; lower --lr (it is 1e+38) or raise --warmup-epochs"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        train(settings, RunDirectory(tmp_path))
    assert not (tmp_path / "checkpoint").exists()
