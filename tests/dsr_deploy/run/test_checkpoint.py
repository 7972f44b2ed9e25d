"""A checkpoint is loaded as it was saved, or refused in one line."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from dsr_deploy.errors import UserError
from dsr_deploy.run import checkpoint, config, seal

SETTINGS = config.resolve()
HISTORY = [{"epoch": 1, "loss": 0.1}]
AGAIN = "train again in another directory"


def _network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))


def _optimizer(network: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a checkpoint after one step."""
    network = _network()
    optimizer = _optimizer(network)
    network(torch.ones(4, 3)).sum().backward()
    optimizer.step()
    path = tmp_path / "latest.safetensors"
    checkpoint.save(path, network, SETTINGS, optimizer, {"history": HISTORY})
    return path


def _load(path: Path) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Any]]:
    network = _network()
    optimizer = _optimizer(network)
    about = checkpoint.load(path, network, SETTINGS, optimizer)
    return about, network.state_dict(), optimizer.state_dict()


def _refused(message: str) -> pytest.RaisesExc[UserError]:
    return pytest.raises(UserError, match=f"^{re.escape(message)}$")


def test_a_checkpoint_gives_back_what_was_saved(path: Path) -> None:
    about, weights, optimizer = _load(path)
    assert about["history"] == HISTORY
    assert checkpoint.read_about(path) == about
    with safe_open(path, framework="pt") as file:
        for name, value in weights.items():
            assert torch.equal(value, file.get_tensor(f"model.{name}"))
        momentum = optimizer["state"][0]["momentum_buffer"]
        assert torch.equal(momentum, file.get_tensor("optimizer.0.momentum_buffer"))


def test_no_flipped_bit_is_loaded(path: Path) -> None:
    whole = path.read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << (place % 8)
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=rf"^{re.escape(str(path))}: .*{AGAIN}$") as error:
            _load(path)
        assert "\n" not in str(error.value)


def test_a_flipped_bit_is_called_damage(path: Path) -> None:
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 0x40
    path.write_bytes(damaged)
    with _refused(f"{path}: damaged (its checksum does not match); restore it, or {AGAIN}"):
        _load(path)


Edit = Callable[[dict[str, Any], dict[str, Tensor]], None]


def _rewritten(path: Path, edit: Edit, *, sealed: bool = True) -> None:
    """Change a checkpoint, and give it a checksum that is right if it is to have one."""
    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()["about"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    edit(about, tensors)
    if sealed:
        about = seal.seal(about, checkpoint.parts(tensors))
    save_file(tensors, path, {"about": json.dumps(about)})


def _add_tensor(name: str, *shape: int) -> Edit:
    return lambda about, tensors: tensors.update({name: torch.zeros(shape)})


@pytest.mark.parametrize("name", ["optimizer.x.momentum_buffer", "optimizer.9.y", "optimizer.1"])
def test_a_state_of_no_parameter_is_refused(path: Path, name: str) -> None:
    _rewritten(path, _add_tensor(name, 1))
    with _refused(
        f"{path}: tensor '{name}' of shape (1,) does not fit the optimizer in config.json; {AGAIN}"
    ):
        _load(path)


def test_a_state_of_another_shape_is_refused(path: Path) -> None:
    _rewritten(path, _add_tensor("optimizer.0.momentum_buffer", 5, 5))
    with _refused(
        f"{path}: tensor 'optimizer.0.momentum_buffer' of shape (5, 5) does not fit the "
        f"optimizer in config.json; {AGAIN}"
    ):
        _load(path)


def test_what_is_no_checkpoint_is_refused(path: Path) -> None:
    for about in ('{"history": []}', "[]", "1", '{"config": 1}'):
        save_file({"a": torch.zeros(1)}, path, {"about": about})
        with _refused(f"{path}: not a checkpoint of a training; {AGAIN}"):
            _load(path)


def test_a_checkpoint_of_an_earlier_version_is_loaded_and_doubted(path: Path) -> None:
    about, weights, _ = _load(path)
    assert checkpoint.doubt(about) is None
    _rewritten(path, lambda about, _: about.pop(seal.KEY), sealed=False)
    earlier, same, _ = _load(path)
    assert checkpoint.doubt(earlier) == (
        "the checkpoint has no checksum, because an earlier version wrote it: damage would go "
        "unnoticed"
    )
    assert all(torch.equal(same[name], weights[name]) for name in weights)
    # It is not enough to rename the checksum.
    _rewritten(path, lambda about, _: about.update(sha257="0"), sealed=False)
    with pytest.raises(UserError, match=r"damaged \(its checksum does not match"):
        _load(path)


def test_metadata_nested_too_deep_are_refused(path: Path) -> None:
    save_file({"a": torch.zeros(1)}, path, {"about": "[" * 10_000 + "]" * 10_000})
    with pytest.raises(
        UserError, match=rf"latest\.safetensors: not a complete checkpoint \(.*{AGAIN}$"
    ):
        _load(path)


def _other(name: str, value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return 1 if value is None else f"{value}x"


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(config.Config)])
def test_a_checkpoint_of_other_settings_is_refused_where_they_decide(path: Path, name: str) -> None:
    own = getattr(SETTINGS, name)
    other = _other(name, own)
    _rewritten(path, lambda about, _: about["config"].update({name: other}))
    if name in config.FREE:
        _load(path)
        return
    with _refused(
        f"{path}: from a run with {name} {other}, but config.json has {own}; they do not "
        "belong together"
    ):
        _load(path)


def test_the_same_network_is_saved_as_the_same_bytes(path: Path, tmp_path: Path) -> None:
    files = [tmp_path / "a", tmp_path / "b"]
    for file in files:
        checkpoint.save(file, _network(), SETTINGS, None, {"x": np.float64(0.1).item()})
    assert files[0].read_bytes() == files[1].read_bytes()
