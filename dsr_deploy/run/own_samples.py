"""A user's own samples for an integer network: in arrays, in files of numpy, or of a data set."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from dsr_deploy.data import arrays
from dsr_deploy.data.datasets import DATASETS
from dsr_deploy.data.encoding import encode
from dsr_deploy.data.loading import load
from dsr_deploy.data.subset import evenly
from dsr_deploy.data.tensors import as_tensor, whole_labels
from dsr_deploy.errors import UserError
from dsr_deploy.hardware.encoding import largest_pixel
from dsr_deploy.hardware.network import IntegerNetwork
from dsr_deploy.progress import Progress
from dsr_deploy.run.samples import BATCH, Int64, Payloads, Samples, check_data, of_test_set
from dsr_deploy.run.trained import tell

Array = NDArray[Any]

INPUTS: Final = "inputs"
LABELS: Final = "labels"
"""Names of the arrays in a ``.npz`` that has more than one."""

CHUNK: Final = 1 << 10
"""Samples of an array that are looked at at a time."""


def of_array(
    network: IntegerNetwork,
    values: Array,
    labels: Any,
    samples: int | None,
    where: str,
    labels_where: str | None = None,
) -> Samples:
    """Return samples of an array that ``network`` can see, evenly spread.

    Parameters
    ----------
    values : payloads, int8; or pixels, uint8, which the network's input turns into payloads;
        (N, C, H, W), or (N, T, C, H, W) for a framed input
    labels : whole numbers (N,), or None
    samples : how many; None for all
    where, labels_where : name the arrays in errors; None for the same

    Raises
    ------
    UserError
        If they do not fit the network, or there are not so many.
    """
    _check(network, values, where)
    known = None if labels is None else _known(network, labels, len(values), labels_where or where)
    numbers = evenly(len(values), samples)
    kind = "payloads (int8)" if values.dtype == np.int8 else "pixels (uint8)"
    taken = "taken as they are" if values.dtype == np.int8 else "encoded by the network's input"

    def read(chosen: Int64) -> Iterator[Payloads]:
        for start in range(0, len(chosen), BATCH):
            part = np.ascontiguousarray(values[chosen[start : start + BATCH]])
            if part.dtype == np.uint8:
                part = encode(network.input, torch.from_numpy(part)).numpy()
            yield part

    def identify() -> str:
        whole = hashlib.sha256(f"{values.dtype} {values.shape}".encode())
        for part in _chunks(values):
            whole.update(np.ascontiguousarray(part).tobytes())
        if known is not None:
            whole.update(known.tobytes())
        return whole.hexdigest()

    return Samples(
        numbers=numbers,
        labels=None if known is None else known[numbers],
        read=read,
        source=f"{kind} of {where}, {taken}",
        identify=identify,
    )


def of_files(
    network: IntegerNetwork, inputs: Path, labels: Path | None, samples: int | None
) -> Samples:
    """Return samples of a ``.npy`` or ``.npz`` file; see :func:`of_array`.

    Parameters
    ----------
    inputs : the only array of the file is taken, or the one that is called ``inputs``
    labels : likewise; None for those in ``inputs``, if that is a ``.npz`` with ``labels``

    Raises
    ------
    UserError
        If a file cannot be read, or its samples or labels do not fit the network.
    """
    content = arrays.read_arrays(inputs)
    values = arrays.one_of(content, inputs, INPUTS)
    known: Array | None = None
    if labels is not None:
        known = arrays.one_of(arrays.read_arrays(labels), labels, LABELS)
    elif len(content) > 1:
        known = content.get(LABELS)
    return of_array(network, values, known, samples, str(inputs), str(labels or inputs))


def of_dataset(
    network: IntegerNetwork,
    name: str,
    data_dir: str | Path | None,
    samples: int | None,
    most: int | None,
    progress: Progress,
) -> Samples:
    """Return test samples of a data set by its name, encoded by the network's own input.

    Raises
    ------
    UserError
        If the data set is not there, or its samples or classes do not fit the network.
    """
    source = DATASETS.get(name)
    _, height, width = network.input.shape
    cut = source is not None and source.sizes != "fixed" and height == width
    with progress.task(f"reading {name}", 1) as task:
        dataset = load(
            name, data_dir, timesteps=network.timesteps, image_size=height if cut else None
        )
        task.advance()
    tell(dataset, progress)
    check_data(network, dataset, own=False)
    return of_test_set(network, dataset, samples, most)


def _check(network: IntegerNetwork, values: Array, where: str) -> None:
    """Raise UserError unless an array holds samples for ``network``."""
    input = network.input
    frames = (network.timesteps,) if input.framed else ()
    form = ", ".join(map(str, (*frames, *input.shape)))
    if values.dtype not in (np.int8, np.uint8):
        raise UserError(
            f"{where}: {_described(values)}; it must be pixels (uint8, 0 to "
            f"{largest_pixel(input)}) or payloads (int8, {input.low} to {input.high}) of shape "
            f"(N, {form}); convert it"
        )
    if values.shape[1:] != (*frames, *input.shape):
        raise UserError(
            f"{where}: shape {values.shape}, the network takes (N, {form})"
            f"{_advice(values.shape, (*frames, *input.shape))}"
        )
    if not len(values):
        raise UserError(f"{where}: it must have at least 1 sample, not 0")
    low, high = map(int, _extremes(values))
    pixels = values.dtype == np.uint8
    least, most = (0, largest_pixel(input)) if pixels else (input.low, input.high)
    if not least <= low <= high <= most:
        kind, way = ("pixels", "; scale them") if pixels else ("payloads", "")
        raise UserError(f"{where}: {kind} must be {least} to {most}, not {low} to {high}{way}")


def _described(values: Array) -> str:
    """Return type, shape and range of an array that is of no use."""
    text = f"{values.dtype} of shape {values.shape}"
    if not values.size or values.dtype.kind not in "fiu":
        return text
    low, high = map(float, _extremes(np.atleast_1d(values)))
    if math.isnan(low):
        return f"{text}, with NaN"
    return f"{text}, from {low:g} to {high:g}"


def _advice(found: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    """Return what to do about common mistakes of shape."""
    if found == wanted:
        return "; give a single sample a first axis of 1"
    if found[1:] == (*wanted[:-3], *wanted[-2:], wanted[-3]):
        return "; move the channels before height and width"
    if wanted[-3] == 1 and found[1:] == (*wanted[:-3], *wanted[-2:]):
        return "; give the only channel an axis of 1 before height and width"
    return ""


def _known(network: IntegerNetwork, labels: Any, count: int, where: str) -> Int64:
    if isinstance(labels, np.ndarray):
        if labels.dtype.kind not in "iuf":
            raise UserError(
                f"{where}: labels must be whole numbers of shape (N,), not {labels.dtype}"
            )
        labels = np.array(labels)  # torch wants arrays that can be written
    known: Int64 = whole_labels(where, as_tensor("labels", labels), count).numpy()
    classes = network.output.shape[0]
    if known.max() >= classes:
        raise UserError(f"{where}: labels must be 0 to {classes - 1}, not {known.max()}")
    return known


def _extremes(values: Array) -> tuple[Any, Any]:
    """Return the least and the greatest value, both NaN if there is one, in one pass."""
    parts = [(part.min(), part.max()) for part in _chunks(values)]
    lows, highs = zip(*parts, strict=True)
    return np.min(lows), np.max(highs)


def _chunks(values: Array) -> Iterator[Array]:
    """Yield an array in parts, so that a file is never in memory as a whole."""
    for start in range(0, len(values), CHUNK):
        yield values[start : start + CHUNK]
