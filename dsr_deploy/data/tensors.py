"""Samples that a user has in memory: as bytes, with labels, in a file of their own."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import safetensors
import safetensors.numpy
import torch
from torch import Tensor

from dsr_deploy import files
from dsr_deploy.data.encoding import event_input, image_input
from dsr_deploy.data.samples import DataError, TensorSplit
from dsr_deploy.data.statistics import statistics
from dsr_deploy.errors import UserError
from dsr_deploy.hardware.errors import HardwareError
from dsr_deploy.hardware.format.regular_file import check_regular
from dsr_deploy.hardware.network import Input

FILE: Final = "data.safetensors"
FORMS: Final = "(N, H, W), (N, C, H, W) or (N, T, C, H, W)"
BYTE: Final = 255
COUNT: Final = 127
"""Largest event count that a payload holds."""


@dataclass(frozen=True, eq=False)
class Gathered:
    """What a data set is made of."""

    classes: tuple[str, ...]
    input: Input
    train: TensorSplit
    test: TensorSplit
    notes: tuple[str, ...] = ()
    name: str = "tensors"


def gather(
    train: Any,
    test: Any,
    classes: Sequence[str] | None,
    value_range: tuple[float, float] | None,
) -> Gathered:
    """Return samples and labels as bytes and whole numbers; see ``Dataset.from_tensors``.

    Raises
    ------
    DataError
        If they do not belong together, or a value is out of its range.
    """
    if classes is None:
        classes = getattr(train, "classes", None)
    parts = {"train": _pair("train", train), "test": _pair("test", test)}
    whole = {name: _is_whole(samples) for name, (samples, _) in parts.items()}
    if whole["train"] != whole["test"]:
        raise DataError("train and test: one has whole numbers, the other floats; give one kind")
    counts = whole["train"] and parts["train"][0].ndim == 5 and value_range is None
    low, high = _range(value_range, whole["train"])
    splits = []
    for name, (samples, labels) in parts.items():
        pixels = _bytes(name, samples, low, high)
        splits.append(TensorSplit(pixels, whole_labels(name, labels, len(pixels))))
    first, second = splits
    if first.pixels.shape[1:] != second.pixels.shape[1:]:
        raise DataError(
            f"test: samples of shape {tuple(second.pixels.shape[1:])}, those of train have "
            f"{tuple(first.pixels.shape[1:])}"
        )
    names = _classes(classes, *splits)
    notes = []
    if not whole["train"]:
        notes.append(
            f"samples of floats, {low:g} to {high:g}, became bytes in {BYTE} steps of "
            f"{(high - low) / BYTE:.4g}: training, quantization and the chip see the bytes"
        )
    if counts and (most := int(max(s.pixels.max() for s in splits))) > COUNT:
        notes.append(f"event counts of up to {most}: those above {COUNT} count as {COUNT}")
    return Gathered(names, _input(first, counts=counts), first, second, tuple(notes))


def _pair(name: str, given: Any) -> tuple[Tensor, Tensor]:
    """Return samples and labels of a pair, or of a data set with a length."""
    if isinstance(given, tuple | list) and len(given) == 2:
        return (as_tensor(f"{name}: samples", given[0]), as_tensor(f"{name}: labels", given[1]))
    if not (hasattr(given, "__getitem__") and hasattr(given, "__len__")):
        raise DataError(
            f"{name}: give a pair (samples, labels), or a torch Dataset that has a length, not "
            f"{type(given).__name__}"
        )
    samples, labels = [], []
    for index in range(len(given)):
        item = given[index]
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise DataError(
                f"{name}: its item {index} must be a sample and its label, not "
                f"{type(item).__name__}"
            )
        samples.append(_sample(f"{name}: item {index}", item[0]))
        labels.append(int(item[1]))
        if samples[-1].shape != samples[0].shape:
            raise DataError(
                f"{name}: its item {index} has the shape {tuple(samples[-1].shape)}, the first "
                f"{tuple(samples[0].shape)}; bring all to one size"
            )
    if not samples:
        raise DataError(f"{name}: it has no samples")
    return torch.stack(samples), torch.tensor(labels)


def _sample(where: str, value: Any) -> Tensor:
    """Return a sample as a tensor; an image of PIL has its channels last."""
    if hasattr(value, "getbands"):
        pixels = torch.from_numpy(np.array(value))
        return pixels if pixels.ndim == 2 else pixels.permute(2, 0, 1).contiguous()
    return as_tensor(where, value)


def as_tensor(where: str, value: Any) -> Tensor:
    """Return numbers as a tensor on the CPU; ``where`` names them in errors.

    Raises
    ------
    DataError
        If they are no numbers.
    """
    if isinstance(value, Tensor):
        return value.detach().cpu()
    try:
        return torch.from_numpy(np.ascontiguousarray(value))
    except (TypeError, ValueError):
        raise DataError(
            f"{where}: must be a tensor or an array of numbers, not {type(value).__name__}"
        ) from None


def _is_whole(samples: Tensor) -> bool:
    return not samples.is_floating_point() and not samples.is_complex()


def _range(value_range: tuple[float, float] | None, whole: bool) -> tuple[float, float]:
    given = value_range or ((0.0, float(BYTE)) if whole else (0.0, 1.0))
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise DataError(f"value_range must be two numbers, the lower first, not {given!r}")
    low, high = given
    if not (np.isfinite((low, high)).all() and low < high):
        raise DataError(f"value_range must be two numbers, the lower first, not {value_range}")
    if whole and not 0 <= low < high <= BYTE:
        raise DataError(
            f"value_range of whole numbers must lie within 0 to {BYTE}, not ({low:g}, {high:g}); "
            "convert the samples to floats for another"
        )
    return float(low), float(high)


def _bytes(name: str, samples: Tensor, low: float, high: float) -> Tensor:
    """Return samples as uint8 (N, C, H, W) or (N, T, C, H, W)."""
    if samples.ndim == 3:
        samples = samples[:, None]
    if samples.numel() == 0:
        raise DataError(f"{name}: there are no samples, the shape is {tuple(samples.shape)}")
    if samples.ndim not in (4, 5):
        raise DataError(f"{name}: samples must be of shape {FORMS}, not {tuple(samples.shape)}")
    if samples.is_complex():
        raise DataError(f"{name}: samples must be real numbers, not {samples.dtype}")
    if missing := int((samples != samples).sum()):
        raise DataError(f"{name}: samples must be numbers; {missing:,} values are NaN")
    least, most = samples.min().item(), samples.max().item()
    if not (low <= least and most <= high):
        raise DataError(
            f"{name}: samples must lie within {low:g} to {high:g}, not {least:g} to {most:g}; "
            "give their own value_range"
        )
    if _is_whole(samples):
        return samples.to(torch.uint8, copy=True).contiguous()  # the user may go on writing
    return ((samples.double() - low) / (high - low) * BYTE).round().to(torch.uint8).contiguous()


def whole_labels(name: str, labels: Tensor, count: int) -> Tensor:
    """Return ``count`` labels as int64 (N,), a copy; ``name`` names their part in errors.

    Raises
    ------
    DataError
        If they are not whole numbers from 0, or not so many.
    """
    if not _is_whole(labels) or labels.dtype == torch.bool or labels.ndim != 1:
        raise DataError(
            f"{name}: labels must be whole numbers of shape (N,), not {labels.dtype} of "
            f"{tuple(labels.shape)}"
        )
    if len(labels) != count:
        raise DataError(f"{name}: {count} samples need as many labels, not {len(labels)}")
    if labels.min() < 0:
        raise DataError(f"{name}: labels must be at least 0, not {int(labels.min())}")
    return labels.to(torch.int64, copy=True)


def _classes(
    classes: Sequence[str] | None, train: TensorSplit, test: TensorSplit
) -> tuple[str, ...]:
    """Return a name per label."""
    largest = int(max(train.labels.max(), test.labels.max()))
    names = tuple(map(str, range(largest + 1) if classes is None else classes))
    if len(names) < 2:
        raise DataError(f"classes must be at least 2, not {len(names)}")
    if largest >= len(names):
        raise DataError(
            f"labels must be 0 to {len(names) - 1}, as there are {len(names)} classes, not "
            f"{largest}"
        )
    return names


def _input(train: TensorSplit, *, counts: bool) -> Input:
    channels, height, width = train.pixels.shape[-3:]
    if counts:
        return event_input((channels, height, width))
    made = image_input((channels, height, width), *statistics(train))
    return dataclasses.replace(made, framed=train.pixels.ndim == 5)


def write(path: Path, made: Gathered) -> None:
    """Write samples and labels, whole or not at all.

    Raises
    ------
    DataError
        If the file cannot be written.
    """
    about = {
        "name": made.name,
        "classes": list(made.classes),
        "input": dataclasses.asdict(made.input),
    }
    parts = {"train": made.train, "test": made.test}
    values = {f"{name}.pixels": split.pixels.numpy() for name, split in parts.items()}
    values |= {f"{name}.labels": split.labels.numpy() for name, split in parts.items()}
    try:
        files.make_folder(path.parent)
        files.write_bytes(path, safetensors.numpy.save(values, {"about": json.dumps(about)}))
    except UserError as error:
        raise DataError(str(error)) from None


def read(path: Path) -> Gathered:
    """Read what :func:`write` wrote.

    Raises
    ------
    DataError
        If the file is missing or damaged.
    """
    try:
        check_regular(path)
        with safetensors.safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["about"])
            train, test = (
                TensorSplit(file.get_tensor(f"{name}.pixels"), file.get_tensor(f"{name}.labels"))
                for name in ("train", "test")
            )
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in about["input"].items()
        }
        made = Gathered(
            tuple(map(str, about["classes"])), Input(**values), train, test, name=str(about["name"])
        )
        _check_read(made)
    except FileNotFoundError:
        raise DataError(f"{path}: not there; Dataset.save writes it") from None
    except (
        safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError, UserError,
        HardwareError, AttributeError, RecursionError,
    ) as error:  # fmt: skip
        raise DataError(f"{path}: no data set, or damaged ({error}); write it again") from None
    return made


def _check_read(made: Gathered) -> None:
    ndim = 5 if made.input.framed else 4
    for split in (made.train, made.test):
        if split.pixels.ndim != ndim or tuple(split.pixels.shape[-3:]) != made.input.shape:
            raise ValueError(f"samples of shape {tuple(split.pixels.shape)}")
        if not len(split) or not 0 <= split.labels.min() <= split.labels.max() < len(made.classes):
            raise ValueError("labels out of range")
