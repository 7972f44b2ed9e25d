"""One file per checkpoint: weights, and for the latest all that a resume needs.

Order of the data, augmentation, dropout and learning rate follow from the seed and the epoch
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

AGAIN: Final = "train again, in another directory"
EARLIER: Final = frozenset(
    ("epoch", "test_accuracy", "validation_accuracy", "history", "config", "optimizer")
)
"""What was noted with checkpoints before they had a checksum."""


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
    sealed = json.dumps(seal(noted, parts(whole)))
    write_bytes(path, safetensors.torch.save(whole, {"about": sealed}))


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
    about, tensors = _read(path)
    own_settings = complete(about["config"])
    for name, wanted in dataclasses.asdict(settings).items():
        found = own_settings.get(name)
        if name not in FREE and found != wanted:
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
                f"{AGAIN}"
            )
        _load_optimizer(path, optimizer, tensors)
    network.load_state_dict(model)
    return about


def read_about(path: Path) -> dict[str, Any]:
    """Return what was noted with a checkpoint that is whole.

    Raises
    ------
    UserError
        If the file is missing or damaged.
    """
    return _read(path)[0]


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return what was noted with a checkpoint, and its tensors, after its checksum was checked."""
    try:
        check_regular(path)
        with safetensors.safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["about"])
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise UserError(f"{path}: not there; run `dsr-deploy train` first") from None
    except (safetensors.SafetensorError, OSError, KeyError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a whole checkpoint ({error}); {AGAIN}") from None
    if not isinstance(about, dict) or not isinstance(about.get("config"), dict):
        raise UserError(f"{path}: no checkpoint of a training; {AGAIN}")
    earlier = KEY not in about and about.keys() <= EARLIER
    if not earlier and not is_whole(about, parts(tensors)):
        raise UserError(
            f"{path}: damaged, its checksum does not match its content; restore it, or {AGAIN}"
        )
    return about, tensors


def doubt(about: Mapping[str, Any]) -> str | None:
    """Return what is to be said of a checkpoint of an earlier version; None if it is sealed."""
    if KEY in about:
        return None
    return (
        "the checkpoint has no checksum, since an earlier version wrote it: damage to it would not "
        "be seen"
    )


def parts(tensors: Mapping[str, Tensor]) -> Iterator[Part]:
    """Yield what a checksum covers of tensors, in the order of their names."""
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
                f"{path}: tensor '{key}' of shape {tuple(value.shape)} is no state of the "
                f"optimizer that config.json describes; {AGAIN}"
            )
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": whole["param_groups"]})
