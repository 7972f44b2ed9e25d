"""One file per checkpoint: weights, and for the latest all that a resume needs.

Order of the data, augmentation, dropout and learning rate follow from the seed and the epoch
(:mod:`dsr_deploy.train`), so no random state has to be kept beside the optimizer's.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from dsr_deploy.config import Config
from dsr_deploy.errors import UserError
from dsr_deploy.files import write_bytes

IDENTITY: Final = (
    "dataset", "image_size", "arch", "neuron", "timesteps", "alpha", "tau", "dt",
    "v_threshold_min", "optimizer",
)  # fmt: skip
"""The settings without which weights mean nothing, or another network."""


def save(
    path: Path,
    network: torch.nn.Module,
    settings: Config,
    optimizer: torch.optim.Optimizer | None,
    about: Mapping[str, Any],
) -> None:
    """Write a checkpoint, whole or not at all.

    Parameters
    ----------
    settings : of the run that it belongs to
    optimizer : None for a checkpoint that is only loaded for use
    about : JSON values to read again with :func:`load`
    """
    tensors = {f"model.{name}": value for name, value in network.state_dict().items()}
    if optimizer is not None:
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
    whole = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    noted = dict(about) | {"config": dataclasses.asdict(settings)}
    if optimizer is not None:
        noted["optimizer"] = type(optimizer).__name__  # SGD without momentum has no tensor
    write_bytes(path, safetensors.torch.save(whole, {"about": json.dumps(noted)}))


def load(
    path: Path,
    network: torch.nn.Module,
    settings: Config,
    optimizer: torch.optim.Optimizer | None = None,
) -> dict[str, Any]:
    """Read a checkpoint into ``network`` and ``optimizer``; return what was noted with it.

    Parameters
    ----------
    settings : of the run that it must belong to
    optimizer : for a checkpoint that was saved with one

    Raises
    ------
    UserError
        If the file is missing, damaged, or of another network.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["about"])
            own_settings = dict(about["config"])
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise UserError(f"{path}: not there; run `dsr-deploy train` first") from None
    except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: not a whole checkpoint ({error}); train again, in another directory"
        ) from None
    for name in IDENTITY:
        found, wanted = own_settings.get(name), getattr(settings, name)
        if found != wanted:
            raise UserError(
                f"{path}: of a run with {name} {found}, config.json says {wanted}; they do not "
                "belong together"
            )
    model = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
    own = network.state_dict()
    shapes = {name: tuple(value.shape) for name, value in own.items()}
    held = {name: tuple(value.shape) for name, value in model.items()}
    for name in sorted(shapes.keys() | held.keys()):
        if shapes.get(name) != held.get(name):
            raise UserError(
                f"{path}: tensor '{name}' has shape {held.get(name, 'none')}, the network that "
                f"config.json describes needs {shapes.get(name, 'none')}; they "
                "do not belong together"
            )
    if optimizer is not None:
        if "optimizer" not in about:
            raise UserError(
                f"{path}: it holds no state of the optimizer, so no training goes on from it; "
                "train again, in another directory"
            )
        _load_optimizer(optimizer, tensors)
    network.load_state_dict(model)
    return dict(about)


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            state.setdefault(int(index), {})[name] = value
    whole = optimizer.state_dict()
    optimizer.load_state_dict({"state": state, "param_groups": whole["param_groups"]})
