"""The geometry of a connection: which source neurons each target neuron hears."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from dsr_deploy.hardware.errors import NetworkError

Shape = tuple[int, int, int]
Pair = tuple[int, int]
Kind = Literal["conv", "linear", "pool", "identity"]

LARGEST: Final = 1 << 16
MOST_GROUPS: Final = 1 << 24
"""As many as a population may have channels, which a pool has a group for each."""

_DIMENSIONS: Final[dict[str, int]] = {"conv": 4, "linear": 2, "pool": 1, "identity": 1}
_ARTICLES: Final = {kind: f"{'an' if kind == 'identity' else 'a'} {kind}" for kind in _DIMENSIONS}


@dataclass(frozen=True)
class Geometry:
    """How the weights of a connection lie between its source and its target.

    Attributes
    ----------
    kind : ``"conv"``, ``"linear"``, ``"pool"`` or ``"identity"``, see
        :class:`dsr_deploy.hardware.network.Connection`
    weight_shape : (C_out, C_in / groups, KH, KW) of a conv, (out, in) of a linear, (C,) of others
    kernel : (KH, KW) of a pool; (1, 1) for the others, which carry it in their weights' shape
    stride, padding : (height, width); padding is zeros on both sides
    groups : of a conv

    Raises
    ------
    NetworkError
        If a value is out of its range, or the kind has no such value; without the place.
    """

    kind: Kind
    weight_shape: tuple[int, ...]
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    groups: int = 1

    def __post_init__(self) -> None:
        if self.kind not in _DIMENSIONS:
            raise NetworkError(f"kind {self.kind!r}: choose one of {', '.join(get_args(Kind))}")
        a_kind, ndim = _ARTICLES[self.kind], _DIMENSIONS[self.kind]
        if len(self.weight_shape) != ndim:
            raise NetworkError(
                f"the weight of {a_kind} must have {ndim} dimensions, not shape {self.weight_shape}"
            )
        check_range("groups", self.groups, 1, MOST_GROUPS)
        for label, low in (("kernel", 1), ("stride", 1), ("padding", 0)):
            for value in getattr(self, label):
                check_range(label, value, low, LARGEST)
        if self.kind != "pool" and self.kernel != (1, 1):
            raise NetworkError(f"only a pool has a kernel; leave out {self.kernel}")
        if self.kind in ("linear", "identity") and (self.stride, self.padding) != ((1, 1), (0, 0)):
            raise NetworkError(f"{a_kind} has no stride or padding; leave them out")
        if self.kind != "conv" and self.groups != 1:
            raise NetworkError(f"only a conv has groups; leave out {self.groups}")

    @property
    def window(self) -> Pair:
        """(KH, KW), the extent of the kernel."""
        if self.kind == "conv":
            return (self.weight_shape[2], self.weight_shape[3])
        return self.kernel

    @property
    def fan_in(self) -> int:
        """Number of source neurons that a target neuron hears, away from the border."""
        taps = self.kernel if self.kind == "pool" else (1, 1)
        return math.prod(self.weight_shape[1:]) * math.prod(taps)

    def output_shape(self, source: Shape) -> Shape:
        """Return the (C, H, W) of the target for a source of shape ``source``.

        Raises
        ------
        NetworkError
            If the weights do not fit the source; without the place.
        """
        channels, height, width = source
        if self.kind == "linear":
            if self.weight_shape[1] != channels * height * width:
                raise NetworkError(
                    f"weight of shape {self.weight_shape} for a source of "
                    f"{channels}x{height}x{width} = {channels * height * width} neurons"
                )
            return (self.weight_shape[0], 1, 1)
        out_channels = self.weight_shape[0]
        if self.kind == "conv":
            if self.weight_shape[1] * self.groups != channels or out_channels % self.groups:
                raise NetworkError(
                    f"weight of shape {self.weight_shape} in {self.groups} groups "
                    f"for a source of {channels} channels"
                )
        elif out_channels != channels:
            raise NetworkError(f"{out_channels} weights for a source of {channels} channels")
        sizes = zip((height, width), self.window, self.stride, self.padding, strict=True)
        rows, columns = (places(*axis) for axis in sizes)
        return (out_channels, rows, columns)

    def as_convolution(self, source: Shape) -> Geometry:
        """Return the convolution that joins the same neurons.

        A linear connection's window is its whole source; a pool and an identity have a group per
        channel.
        """
        if self.kind == "conv":
            return self
        if self.kind == "linear":
            return Geometry("conv", (self.weight_shape[0], *source))
        channels = self.weight_shape[0]
        shape = (channels, 1, *self.window)
        return Geometry("conv", shape, (1, 1), self.stride, self.padding, channels)

    def synapses(self, source: Shape) -> int:
        """Count the pairs of neurons that are joined, those outside the source left out."""
        conv = self.as_convolution(source)
        channels, *target = conv.output_shape(source)
        taps = 1
        for targets, size, k, s, p in zip(
            target, source[1:], conv.window, conv.stride, conv.padding, strict=True
        ):
            first = np.arange(targets) * s - p
            taps *= int((np.minimum(first + k, size) - np.maximum(first, 0)).clip(0).sum())
        return channels * conv.weight_shape[1] * taps

    def fan_out(self, source: Shape) -> NDArray[np.int64]:
        """Count the targets of each source neuron, int64 (C, H, W); outside the border are none."""
        conv = self.as_convolution(source)
        channels, *target = conv.output_shape(source)
        rows, columns = (
            heard(*axis).sum(axis=1)
            for axis in zip(source[1:], target, conv.window, conv.stride, conv.padding, strict=True)
        )
        each = np.outer(rows, columns) * (channels // conv.groups)
        return np.broadcast_to(each.astype(np.int64), source)


def heard(size: int, targets: int, window: int, stride: int, padding: int) -> NDArray[np.bool_]:
    """Return which places along an axis lie in the window of which target; (size, targets)."""
    place = np.arange(size)[:, None] - (np.arange(targets) * stride - padding)
    return (place >= 0) & (place < window)


def check_range(label: str, value: int, low: int, high: int) -> None:
    """Raise NetworkError unless ``value`` is a whole number from ``low`` to ``high``."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise NetworkError(f"{label} must be {low} to {high}, not {value!r}")


def places(size: int, window: int, stride: int, padding: int) -> int:
    """Count the places of a window along an axis.

    Raises
    ------
    NetworkError
        If there is none; without the place.
    """
    if size + 2 * padding < window:
        raise NetworkError(
            f"a window of {window} does not fit a source of {size} padded by {padding}"
        )
    return (size + 2 * padding - window) // stride + 1
