"""One file per checkpoint: the weights, and in the latest everything that a resume needs.

The order of the data, augmentation, dropout and learning rate follow from the seed and the epoch
(:mod:`dsr_deploy.stages.train`), so no random state has to be kept beside the optimizer's.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from dsr_deploy.errors import UserError
from dsr_deploy.files import write_bytes
from dsr_deploy.hardware.format.regular_file import check_regular
from dsr_deploy.run.config import FREE, Config, complete
from dsr_deploy.run.seal import KEY, Part, is_whole, seal

AGAIN: Final = "train again in another directory"
EARLIER: Final = frozenset(
    ("epoch", "test_accuracy", "validation_accuracy", "history", "config", "optimizer")
)
"""Metadata of checkpoints from before they had a checksum."""


def save(
    path: Path,
    network: torch.nn.Module,
    settings: Config,
    optimizer: torch.optim.Optimizer | None,
    about: Mapping[str, Any],
) -> None:
    """Write a checkpoint, completely or not at all.

    Parameters
    ----------
    settings : of the run that it belongs to
    optimizer : None for a checkpoint that no training continues from
    about : metadata, JSON values that :func:`load` returns
    """
    tensors = {f"model.{name}": value for name, value in network.state_dict().items()}
    if optimizer is not None:
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
    stored = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    metadata = dict(about) | {"config": dataclasses.asdict(settings)}
    if optimizer is not None:
        metadata["optimizer"] = type(optimizer).__name__  # SGD without momentum has no tensor
    sealed = json.dumps(seal(metadata, parts(stored)))
    write_bytes(path, safetensors.torch.save(stored, {"about": sealed}))


def load(
    path: Path,
    network: torch.nn.Module,
    settings: Config,
    optimizer: torch.optim.Optimizer | None = None,
) -> dict[str, Any]:
    """Read a checkpoint into ``network`` and ``optimizer``; return its metadata.

    Parameters
    ----------
    settings : of the run that the checkpoint must belong to
    optimizer : for a checkpoint that was saved with one

    Raises
    ------
    UserError
        If the file is missing, damaged, or of another network.
    """
    about, tensors = _read(path)
    own_settings = complete(about["config"])
    for name, wanted in dataclasses.asdict(settings).items():
        value = own_settings.get(name)
        if name not in FREE and value != wanted:
            raise UserError(
                f"{path}: from a run with {name} {value}, but config.json has {wanted}; they do "
                "not belong together"
            )
    model = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
    own = network.state_dict()
    shapes = {name: tuple(value.shape) for name, value in own.items()}
    held = {name: tuple(value.shape) for name, value in model.items()}
    for name in sorted(shapes.keys() | held.keys()):
        if shapes.get(name) != held.get(name):
            raise UserError(
                f"{path}: tensor '{name}' has shape {held.get(name, 'none')}, but the network in "
                f"config.json needs {shapes.get(name, 'none')}; they do not belong together"
            )
    if optimizer is not None:
        if "optimizer" not in about:
            raise UserError(
                f"{path}: it has no optimizer state, so no training can continue from it; {AGAIN}"
            )
        _load_optimizer(path, optimizer, tensors)
    network.load_state_dict(model)
    return about


def read_about(path: Path) -> dict[str, Any]:
    """Return the metadata of a checkpoint, after its checksum was checked.

    Raises
    ------
    UserError
        If the file is missing or damaged.
    """
    return _read(path)[0]


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return metadata and tensors of a checkpoint, after its checksum was checked."""
    try:
        check_regular(path)
        with safetensors.safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["about"])
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise UserError(f"{path}: not there; run `dsr-deploy train` first") from None
    except (safetensors.SafetensorError, OSError, KeyError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a complete checkpoint ({error}); {AGAIN}") from None
    if not isinstance(about, dict) or not isinstance(about.get("config"), dict):
        raise UserError(f"{path}: not a checkpoint of a training; {AGAIN}")
    earlier = KEY not in about and about.keys() <= EARLIER
    if not earlier and not is_whole(about, parts(tensors)):
        raise UserError(f"{path}: damaged (its checksum does not match); restore it, or {AGAIN}")
    return about, tensors


def doubt(about: Mapping[str, Any]) -> str | None:
    """Return a note about a checkpoint without a checksum; None if it has one."""
    if KEY in about:
        return None
    return (
        "the checkpoint has no checksum, because an earlier version wrote it: damage would go "
        "unnoticed"
    )


def parts(tensors: Mapping[str, Tensor]) -> Iterator[Part]:
    """Yield the parts of tensors that a checksum covers, in the order of their names."""
    for name in sorted(tensors):
        value = tensors[name]
        data = value.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
        yield f"{name} {value.dtype} {tuple(value.shape)}", data.tobytes()


def _load_optimizer(
    path: Path, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]
) -> None:
    whole = optimizer.state_dict()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        kind, _, rest = key.partition(".")
        index, _, name = rest.partition(".")
        if kind != "optimizer":
            continue
        fits = index.isdecimal() and int(index) < len(parameters)
        if not fits or value.shape not in ((), parameters[int(index)].shape):
            raise UserError(
                f"{path}: tensor '{key}' of shape {tuple(value.shape)} does not fit the optimizer "
                f"in config.json; {AGAIN}"
            )
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": whole["param_groups"]})
