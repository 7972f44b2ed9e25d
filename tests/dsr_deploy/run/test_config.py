"""Configurations: which values are refused, and where those come from that are not given."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from dsr_deploy.data.datasets import DATASETS
from dsr_deploy.errors import UserError
from dsr_deploy.run import config
from dsr_deploy.run.config import Config, from_dict, read, resolve


def refused(message: str) -> Any:
    return pytest.raises(UserError, match=f"^{re.escape(message)}$")


@pytest.mark.parametrize(
    ("name", "low", "high", "words"),
    [
        ("timesteps", 1, 1024, "1 to 1024"),
        ("epochs", 2, 100_000, None),
        ("batch_size", 2, 2**20, f"2 to {2**20}"),
        ("seed", 0, 2**31 - 1, f"0 to {2**31 - 1}"),
        ("image_size", 8, 1024, "8 to 1024"),
    ],
)
def test_whole_numbers_have_a_least_and_a_largest_value(
    name: str, low: int, high: int, words: str | None
) -> None:
    for value in (low, high):
        assert getattr(resolve(**{name: value}), name) == value
    for value in (low - 1, high + 1):
        if words is None:
            continue
        with refused(f"{name} must be {words}, not {value}"):
            resolve(**{name: value})


def test_epochs_and_their_warm_up() -> None:
    with refused("epochs must be 1 to 100000, not 0"):
        resolve(epochs=0, warmup_epochs=0)
    with refused("epochs must be 1 to 100000, not 100001"):
        resolve(epochs=100_001)
    with refused("warmup_epochs must be 0 to 100000, not -1"):
        resolve(warmup_epochs=-1)
    with refused("warmup_epochs must be 0 to 100000, not 100001"):
        resolve(warmup_epochs=100_001)
    assert resolve(epochs=1).warmup_epochs == 0
    assert resolve(epochs=2).warmup_epochs == 1
    assert resolve(epochs=100_000, warmup_epochs=99_999).warmup_epochs == 99_999
    with refused(
        "warmup_epochs must be below epochs, 5, not 5; lower warmup_epochs or raise epochs"
    ):
        resolve(epochs=5, warmup_epochs=5)


@pytest.mark.parametrize("name", ["v_threshold", "v_threshold_min", "lr"])
def test_numbers_lie_within_float32(name: str) -> None:
    given: dict[str, Any] = {"v_threshold_min": 1e-37} if name == "v_threshold" else {}
    for value in (1e-37, 1e38) if name != "v_threshold_min" else (1e-37,):
        assert getattr(resolve(**{**given, name: value}), name) == value
    for value in (0.9e-37, 1.1e38, 0.0, -1.0, float("nan")):
        with refused(f"{name} must be 1e-37 to 1e+38, not {value}"):
            resolve(**{**given, name: value})


@pytest.mark.parametrize("name", ["tau", "dt"])
def test_time_constants_lie_within_float32(name: str) -> None:
    for value in (0.0, 1.1e38):
        with refused(f"{name} must be 1e-37 to 1e+38, not {value}"):
            resolve(neuron="lif", **{name: value})


@pytest.mark.parametrize(
    ("name", "least", "largest", "beyond", "words"),
    [
        ("alpha", 1e-9, 1.0, (0.0, 1.001), "above 0 and at most 1"),
        ("momentum", 0.0, 0.999, (-0.001, 1.0), "at least 0 and below 1"),
        ("weight_decay", 0.0, 0.999, (-0.001, 1.0), "at least 0 and below 1"),
        ("shift", 0.0, 0.5, (-0.001, 0.501), "0 to 0.5"),
    ],
)
def test_shares_have_bounds(
    name: str, least: float, largest: float, beyond: tuple[float, float], words: str
) -> None:
    for value in (least, largest):
        assert getattr(resolve(**{name: value}), name) == value
    for value in beyond:
        with refused(f"{name} must be {words}, not {value}"):
            resolve(**{name: value})


def test_a_threshold_reaches_its_lower_bound() -> None:
    assert resolve(v_threshold=0.5, v_threshold_min=0.5).v_threshold == 0.5
    with refused(
        "v_threshold must be at least v_threshold_min, 0.5, not 0.4; raise v_threshold or lower "
        "v_threshold_min"
    ):
        resolve(v_threshold=0.4, v_threshold_min=0.5)


def test_a_step_of_lif_is_neither_too_short_nor_too_long_for_12_bits() -> None:
    for dt in (1 / 4096, 8.0):
        assert resolve(neuron="lif", tau=1.0, dt=dt).dt == dt
        assert resolve(neuron="lif", tau=2.0, dt=2 * dt).tau == 2.0
    for dt in (0.9 / 4096, 8.001):
        with refused(
            f"dt / tau must be 1/4096 to 8, not {dt:.6g} (outside, the chip's 12-bit decay rounds "
            "to no leak or to no memory)"
        ):
            resolve(neuron="lif", tau=1.0, dt=dt)


@pytest.mark.parametrize("name", ["tau", "dt"])
def test_if_neurons_have_no_time_constants(name: str) -> None:
    with refused(f"{name} 0.5: IF neurons do not leak; leave {name} out, or use neuron lif"):
        resolve(neuron="if", **{name: 0.5})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("epochs", True, "epochs must be a whole number, not True"),
        ("epochs", 2.5, "epochs must be a whole number, not 2.5"),
        ("lr", "fast", "lr must be a number, not 'fast'"),
        ("lr", False, "lr must be a number, not False"),
        ("device", 3, "device must be text, not 3"),
        ("data_dir", 3, "data_dir must be text or null, not 3"),
        ("image_size", "8", "image_size must be a whole number or null, not '8'"),
        ("flip", 1, "flip must be true or false, not 1"),
        ("neuron", "relu", "neuron 'relu': choose one of if, lif"),
    ],
)
def test_values_of_another_type_are_refused(name: str, value: object, message: str) -> None:
    values = dataclasses.asdict(resolve()) | {name: value}
    with refused(message):
        Config(**values)


def test_a_whole_number_is_a_number() -> None:
    assert resolve(lr=1).lr == 1


@pytest.mark.parametrize(
    ("chosen", "steps", "warm_up", "decay"),
    [
        ({}, 8, 1, 5e-4),
        ({"dataset": "imagefolder"}, 4, 1, 5e-4),
        ({"dataset": "cifar10"}, 4, 0, 5e-4),
        ({"dataset": "cifar10-dvs"}, 20, 0, 5e-4),
        ({"dataset": "imagenet"}, 4, 0, 0.0),
    ],
)
def test_a_data_set_brings_its_own_training(
    chosen: dict[str, str], steps: int, warm_up: int, decay: float
) -> None:
    found = resolve(**chosen)
    assert (found.dataset, found.neuron) == (chosen.get("dataset", "digits"), "if")
    assert (found.timesteps, found.warmup_epochs, found.weight_decay) == (steps, warm_up, decay)
    assert (found.momentum, found.seed, found.v_threshold) == (0.9, 0, None)


@pytest.mark.parametrize(
    ("dataset", "timesteps", "lr"),
    [("cifar10", 5, 0.05), ("cifar10", 6, 0.1), ("cifar100", 4, 0.05), ("imagenet", 5, 0.001),
     ("cifar10-dvs", 20, 0.05), ("digits", 5, 0.1)],
)  # fmt: skip
def test_few_timesteps_of_cifar_train_at_half_the_rate(
    dataset: str, timesteps: int, lr: float
) -> None:
    assert resolve(dataset=dataset, timesteps=timesteps).lr == lr


@pytest.mark.parametrize(
    ("timesteps", "nearest"), [(1, 5), (7, 5), (8, 10), (12, 10), (13, 15), (18, 20), (999, 20)]
)
def test_lif_takes_the_nearest_row_and_its_threshold_from_data(
    timesteps: int, nearest: int
) -> None:
    found, row = resolve(neuron="lif", timesteps=timesteps), config.LIF_ROWS[nearest]
    assert (found.alpha, found.dt, found.tau) == (row.alpha, row.dt, 1.0)
    assert (found.v_threshold, found.v_threshold_min) == (None, row.v_threshold_min)


def test_a_preset_is_the_papers_and_what_is_chosen_beats_it() -> None:
    found = resolve("cifar100-lif-t10")
    assert (found.dataset, found.neuron, found.timesteps) == ("cifar100", "lif", 10)
    assert (found.v_threshold, found.alpha, found.epochs) == (0.3, 0.4, 200)
    assert (found.lr, found.batch_size) == (0.1, 128)
    assert resolve("cifar10-if-t20").v_threshold == 6.0
    assert resolve("cifar10-if-t20", timesteps=3, lr=None).timesteps == 3
    on_digits = resolve("imagenet-if-t5", dataset="digits")
    assert (on_digits.dataset, on_digits.optimizer, on_digits.epochs) == ("digits", "adam", 90)


def test_presets_are_data_set_neuron_and_timesteps() -> None:
    names = config.presets()
    assert len(names) == len(set(names)) == 3 * 2 * 4 + 2
    assert {"cifar10-if-t5", "cifar100-lif-t15", "imagenet-if-t10", "cifar10-dvs-lif-t20"} <= {
        *names
    }
    assert not any("dvs" in name and not name.endswith("t20") for name in names)
    with pytest.raises(UserError, match=r"^preset 'cifar10': choose one of cifar10-if-t5, "):
        resolve("cifar10")
    with refused(f"dataset 'mnist': choose one of {', '.join(DATASETS)}"):
        resolve(dataset="mnist")
    with pytest.raises(UserError, match=r"^arch 'lenet': choose one of "):
        resolve(arch="lenet")


def test_what_a_run_stores_is_read_again(tmp_path: Path) -> None:
    settings = resolve("imagenet-lif-t15", seed=7)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"config": dataclasses.asdict(settings)}))
    assert read(path) == settings


@pytest.mark.parametrize(
    ("change", "odd"),
    [({"lr": None}, "lr"), ({"speed": 1}, "speed"), ({"tau": None, "xyz": 2}, "tau, xyz")],
)
def test_missing_and_unknown_entries_are_named(change: dict[str, object], odd: str) -> None:
    values = dataclasses.asdict(resolve())
    for name, value in change.items():
        if value is None:
            del values[name]
        else:
            values[name] = value
    with refused(f"the configuration has missing or unknown entries: {odd}"):
        from_dict(values)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[]", "it has no entry 'config'"),
        ("{}", "it has no entry 'config'"),
        ('{"config": 5}', "it has no entry 'config'"),
        ("{", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, content: str, reason: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(content)
    with refused(
        f"{path}: not a run's configuration ({reason}); train again, and name another directory "
        "with --run DIR"
    ):
        read(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with refused(f"{path}: cannot be read (No such file or directory)"):
        read(path)
