"""One file per checkpoint: weights, and for the latest all that a resume needs.

Order of the data, augmentation, dropout and learning rate follow from the seed and the epoch
(:mod:`dsr_deploy.train`), so no random state has to be kept beside the optimizer's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from dsr_deploy.errors import UserError
from dsr_deploy.files import write_bytes


def save(
    path: Path,
    network: torch.nn.Module,
    optimizer: torch.optim.Optimizer | None,
    about: Mapping[str, Any],
) -> None:
    """Write a checkpoint, whole or not at all.

    Parameters
    ----------
    optimizer : None for a checkpoint that is only loaded for use
    about : JSON values to read again with :func:`load`
    """
    tensors = {f"model.{name}": value for name, value in network.state_dict().items()}
    if optimizer is not None:
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
    whole = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_bytes(path, safetensors.torch.save(whole, {"about": json.dumps(dict(about))}))


def load(
    path: Path, network: torch.nn.Module, optimizer: torch.optim.Optimizer | None = None
) -> dict[str, Any]:
    """Read a checkpoint into ``network`` and ``optimizer``; return what was noted with it.

    Raises
    ------
    UserError
        If the file is missing, damaged, or of another network.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["about"])
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise UserError(f"{path}: not there; run `dsr-deploy train` first") from None
    except (safetensors.SafetensorError, OSError, KeyError, ValueError) as error:
        raise UserError(f"{path}: not a whole checkpoint ({error}); train again") from None
    model = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
    own = network.state_dict()
    shapes = {name: tuple(value.shape) for name, value in own.items()}
    found = {name: tuple(value.shape) for name, value in model.items()}
    for name in sorted(shapes.keys() | found.keys()):
        if shapes.get(name) != found.get(name):
            raise UserError(
                f"{path}: tensor '{name}' has shape {found.get(name, 'none')}, the network that "
                f"config.json describes needs {shapes.get(name, 'none')}; they "
                "do not belong together"
            )
    network.load_state_dict(model)
    if optimizer is not None:
        _load_optimizer(optimizer, tensors)
    return dict(about)


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            state.setdefault(int(index), {})[name] = value
    whole = optimizer.state_dict()
    optimizer.load_state_dict({"state": state, "param_groups": whole["param_groups"]})
