"""Traces: every spike, and on request every membrane potential, of some layers and samples.

A ``.npz`` holds them under these names, each array with the samples first::

    spikes/<layer>      bool (S, T, C, H, W)
    potentials/<layer>  int32 (S, T, C, H, W), at the end of the timestep, after the reset
    samples             int64 (S,), the number of each sample in the data
    predictions         int64 (S,), the predicted classes
    labels              int64 (S,), if they are known

Before the reset, a membrane potential was ``potential + v_threshold * spike``.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsr_deploy.errors import UserError

SPIKES: Final = "spikes/"
POTENTIALS: Final = "potentials/"


@dataclass(frozen=True, eq=False)
class Traces:
    """What was recorded of S samples over T timesteps; layers stand in order of evaluation.

    Attributes
    ----------
    spikes : by layer, bool (S, T, C, H, W)
    potentials : by layer, int32 (S, T, C, H, W), at the end of each timestep, after the reset;
        of no layer unless they were asked for
    samples : int64 (S,), the number of each sample in the data
    predictions : int64 (S,)
    labels : int64 (S,), if they are known
    """

    spikes: dict[str, NDArray[np.bool_]]
    potentials: dict[str, NDArray[np.int32]]
    samples: NDArray[np.int64]
    predictions: NDArray[np.int64]
    labels: NDArray[np.int64] | None

    def __post_init__(self) -> None:
        count = len(self.samples)
        of_samples = {"samples": self.samples, "predictions": self.predictions}
        if self.labels is not None:
            of_samples["labels"] = self.labels
        for name, array in of_samples.items():
            _check(name, array, np.int64, (count,))
        steps = next(iter(self.spikes.values())).shape[1:2] if self.spikes else ()
        for layer, spikes in self.spikes.items():
            _check(SPIKES + layer, spikes, np.bool_, (count, *steps, *spikes.shape[2:]), 5)
        for layer, values in self.potentials.items():
            shape = self.spikes[layer].shape if layer in self.spikes else ()
            _check(POTENTIALS + layer, values, np.int32, shape)


def _check(
    name: str, array: NDArray[Any], dtype: type, shape: tuple[int, ...], ndim: int | None = None
) -> None:
    if array.dtype != dtype or array.shape != shape or array.ndim != (ndim or len(shape)):
        raise UserError(
            f"traces: '{name}' is {array.dtype} of shape {array.shape}, not {np.dtype(dtype)} of "
            f"shape {shape}"
        )


def to_npz(traces: Traces) -> bytes:
    """Return the ``.npz`` of traces, compressed; the same traces give the same bytes."""
    arrays: dict[str, NDArray[Any]] = {SPIKES + k: v for k, v in traces.spikes.items()}
    arrays |= {POTENTIALS + k: v for k, v in traces.potentials.items()}
    arrays |= {"samples": traces.samples, "predictions": traces.predictions}
    if traces.labels is not None:
        arrays["labels"] = traces.labels
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def of_npz(data: bytes) -> Traces:
    """Return the traces in the bytes of a ``.npz`` that was checked.

    Raises
    ------
    UserError
        As :func:`of_arrays`.
    """
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return of_arrays(dict(arrays))


def of_arrays(arrays: Mapping[str, NDArray[Any]]) -> Traces:
    """Return the traces in the arrays of a ``.npz``, by name.

    Raises
    ------
    UserError
        If one is missing, or of another type or shape.
    """
    missing = [name for name in ("samples", "predictions") if name not in arrays]
    if missing:
        raise UserError(f"traces: '{missing[0]}' is missing; simulate with --record again")
    return Traces(
        spikes=_below(SPIKES, arrays),
        potentials=_below(POTENTIALS, arrays),
        samples=arrays["samples"],
        predictions=arrays["predictions"],
        labels=arrays.get("labels"),
    )


def _below(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
