"""The integer network: what a neuromorphic chip runs.

A network is a list of populations (spiking layers) in the order in which they
are evaluated, and connections that carry spikes between them. Everything is an
integer. :mod:`dsr_deploy.hardware.reference` defines the arithmetic, every other
engine must give the same spikes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from dsr_deploy.hardware.errors import NetworkError
from dsr_deploy.hardware.geometry import (
    LARGEST,
    Geometry,
    Kind,
    Pair,
    Shape,
    check_range,
)

INPUT: Final = "input"
"""Name of the source that stands for the network's input."""

DECAY_ONE: Final = 4096
"""A decay is a fraction of this number; Loihi stores it in 12 bits."""

V_BITS: Final = 24
"""Width of the signed membrane potential register, as on Loihi."""
V_MIN: Final = -(1 << (V_BITS - 1))
V_MAX: Final = (1 << (V_BITS - 1)) - 1

MAX_EXPONENT: Final = 23

Int8 = NDArray[np.int8]
Int32 = NDArray[np.int32]
Checked = TypeVar("Checked")
NeuronKind = Literal["if", "lif"]


@dataclass(frozen=True)
class Input:
    """What enters the network: one signed payload per pixel.

    A pixel ``p`` (uint8, or an event count) becomes the payload
    ``clip(round((p * pixel_scale - mean[c]) / (std[c] * step)), low, high)``, rounded
    half to even; the float network was trained on ``payload * step``, so nothing is lost here.

    Attributes
    ----------
    shape : (C, H, W)
    mean, std : per channel, after multiplication with ``pixel_scale``
    pixel_scale : 1/255 for images, 1 for event counts
    step : value of one payload unit
    low, high : smallest and largest payload, within int8
    framed : False if one image is shown at every timestep (payloads (N, C, H, W)),
        True if every timestep has its own frame (payloads (N, T, C, H, W))
    """

    shape: Shape
    mean: tuple[float, ...]
    std: tuple[float, ...]
    pixel_scale: float
    step: float
    low: int = -127
    high: int = 127
    framed: bool = False

    def __post_init__(self) -> None:
        _check_shape("input", self.shape)
        if not len(self.mean) == len(self.std) == self.shape[0]:
            raise NetworkError(
                f"input: {len(self.mean)} means and {len(self.std)} standard deviations "
                f"for {self.shape[0]} channels; give one of each per channel"
            )
        if not (-128 <= self.low <= self.high <= 127):
            raise NetworkError(
                f"input: payloads must be within -128 to 127, not {self.low} to {self.high}"
            )
        numbers = (*self.mean, *self.std, self.pixel_scale, self.step)
        if not np.all(np.isfinite(numbers)) or min(*self.std, self.pixel_scale, self.step) <= 0:
            raise NetworkError(
                "input: mean, std, pixel_scale and step must be finite, the last three positive"
            )


@dataclass(frozen=True, eq=False)
class Population:
    """A layer of spiking neurons with reset by subtraction.

    Attributes
    ----------
    name : unique in the network
    shape : (C, H, W); a fully connected layer is (C, 1, 1)
    bias : int32 (C,), added to the membrane potential at every timestep
    v_fire : int32 (C,), a neuron spikes when v >= v_fire (alpha * Vth)
    v_threshold : int32 (C,), subtracted at a spike (Vth); at least 1
    decay : 0 for IF; for LIF v is multiplied by (4096 - decay) / 4096
        and rounded toward zero, before the input is added
    start : first timestep on a pipelined chip; see :mod:`dsr_deploy.hardware.schedule`
    """

    name: str
    shape: Shape
    bias: Int32
    v_fire: Int32
    v_threshold: Int32
    decay: int = 0
    start: int = 0

    def __post_init__(self) -> None:
        where = f"population '{self.name}'"
        if not self.name or self.name == INPUT:
            raise NetworkError(f"{where}: the name must not be empty or '{INPUT}'")
        _check_shape(where, self.shape)
        for label in ("bias", "v_fire", "v_threshold"):
            _check_array(where, label, getattr(self, label), np.int32, (self.shape[0],))
        if not 0 <= self.decay < DECAY_ONE:
            raise NetworkError(f"{where}: decay must be 0 to {DECAY_ONE - 1}, not {self.decay}")
        if self.v_threshold.min() < 1:
            raise NetworkError(
                f"{where}: v_threshold must be at least 1, not {self.v_threshold.min()}"
            )
        if self.start < 0:
            raise NetworkError(f"{where}: start must be at least 0, not {self.start}")

    @property
    def size(self) -> int:
        """Number of neurons."""
        return int(np.prod(self.shape))

    @property
    def neuron(self) -> NeuronKind:
        return "lif" if self.decay else "if"


@dataclass(frozen=True, eq=False)
class Connection:
    """Weights from a source to a population, scaled by a power of two.

    Every incoming spike (or payload) adds ``weight * payload * 2**exponent`` to its targets.

    Attributes
    ----------
    source, target : name of a population; the source may be ``"input"``
    kind : ``"conv"``, weight int8 (C_out, C_in / groups, KH, KW), cross-correlation as in torch;
        ``"linear"``, weight int8 (out, in), the source flattened in (C, H, W) order;
        ``"pool"``, weight int8 (C,): each channel's window is summed and multiplied by it;
        ``"identity"``, weight int8 (C,): one-to-one
    weight_bits : 2 to 8, sign included; weights are within +-(2**(weight_bits-1) - 1)
    exponent : 0 to 23
    kernel : (KH, KW) of a pool; (1, 1) for the others, which carry it in their weights' shape
    stride, padding : (height, width); padding is zeros
    groups : of a conv
    delay : extra timesteps on a pipelined chip; see :mod:`dsr_deploy.hardware.schedule`
    """

    source: str
    target: str
    kind: Kind
    weight: Int8
    weight_bits: int
    exponent: int = 0
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    groups: int = 1
    delay: int = 0

    @property
    def name(self) -> str:
        return f"{self.source}->{self.target}"

    def __post_init__(self) -> None:
        where = f"connection '{self.name}'"
        self._at_its_place(lambda: self.geometry)
        _check_array(where, "weight", self.weight, np.int8, self.weight.shape)
        _check_range(where, "weight_bits", self.weight_bits, 2, 8)
        limit = (1 << (self.weight_bits - 1)) - 1
        largest = int(np.abs(self.weight.astype(np.int16)).max(initial=0))
        if largest > limit:
            raise NetworkError(
                f"{where}: weights of {self.weight_bits} bits must be {-limit} to {limit}, one has "
                f"magnitude {largest}"
            )
        _check_range(where, "exponent", self.exponent, 0, MAX_EXPONENT)
        _check_range(where, "delay", self.delay, 0, LARGEST)

    @cached_property
    def geometry(self) -> Geometry:
        """Which neurons it joins."""
        return Geometry(
            self.kind, self.weight.shape, self.kernel, self.stride, self.padding, self.groups
        )

    @property
    def window(self) -> Pair:
        """(KH, KW), the extent of the kernel."""
        return self.geometry.window

    def output_shape(self, source: Shape) -> Shape:
        """Return the (C, H, W) of the target for a source of shape ``source``.

        Raises
        ------
        NetworkError
            If the weights do not fit the source.
        """
        return self._at_its_place(lambda: self.geometry.output_shape(source))

    def as_convolution(self, source: Shape) -> Int8:
        """Return its weights as those of a convolution, int8 (C_out, C_in / groups, KH, KW).

        The rest of that convolution is :meth:`Geometry.as_convolution`.
        """
        shape = self.geometry.as_convolution(source).weight_shape
        if self.kind in ("pool", "identity"):
            return np.broadcast_to(self.weight[:, None, None, None], shape)
        return self.weight.reshape(shape)

    def _at_its_place(self, check: Callable[[], Checked]) -> Checked:
        try:
            return check()
        except NetworkError as error:
            raise NetworkError(f"connection '{self.name}': {error}") from None


@dataclass(frozen=True, eq=False, repr=False)
class IntegerNetwork:
    """Populations in order of evaluation, their connections, and how the output is read.

    Attributes
    ----------
    name : for people
    timesteps : T, how long one sample is shown
    input : the payloads
    populations : sources come before their targets; the last one is the output, (classes, 1, 1)
    connections : grouped in the order of their targets
    readout : T weights; the score of a class is the sum over time of ``readout[t] * spike[t]``,
        the prediction is the class of the largest score, the lowest index among equals
    classes : a name per class
    """

    name: str
    timesteps: int
    input: Input
    populations: tuple[Population, ...]
    connections: tuple[Connection, ...]
    readout: tuple[int, ...]
    classes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        _check_range("network", "timesteps", self.timesteps, 1, LARGEST)
        if len(self.readout) != self.timesteps:
            raise NetworkError(
                f"network: {len(self.readout)} readout weights for {self.timesteps} timesteps"
            )
        if not self.populations:
            raise NetworkError("network: it has no population")
        shapes: dict[str, Shape] = {INPUT: self.input.shape}
        fed_by: dict[str, list[Connection]] = {}
        names = {population.name for population in self.populations}
        if len(names) != len(self.populations):
            raise NetworkError("network: two populations have the same name")
        for connection in self.connections:
            fed_by.setdefault(connection.target, []).append(connection)
            if connection.target not in names:
                raise NetworkError(
                    f"connection '{connection.name}': there is no population '{connection.target}'"
                )
        for population in self.populations:
            incoming = fed_by.get(population.name, [])
            if not incoming:
                raise NetworkError(f"population '{population.name}': no connection leads to it")
            for connection in incoming:
                if connection.source not in shapes:
                    reason = "comes later" if connection.source in names else "does not exist"
                    raise NetworkError(
                        f"connection '{connection.name}': its source {reason}; populations stand "
                        "in order of evaluation, without cycles"
                    )
                shape = connection.output_shape(shapes[connection.source])
                if shape != population.shape:
                    raise NetworkError(
                        f"connection '{connection.name}': gives shape {shape}, "
                        f"its target has {population.shape}"
                    )
            shapes[population.name] = population.shape
        if self.output.shape[1:] != (1, 1):
            raise NetworkError(
                f"population '{self.output.name}': the output has shape {self.output.shape}, "
                "it must be (classes, 1, 1)"
            )
        if self.classes and len(self.classes) != self.output.shape[0]:
            raise NetworkError(
                f"network: {len(self.classes)} class names for {self.output.shape[0]} outputs"
            )

    def __repr__(self) -> str:
        source = "x".join(map(str, self.input.shape))
        widths = "/".join(map(str, sorted({c.weight_bits for c in self.connections})))
        return (
            f"IntegerNetwork({self.name!r}, {source} to {self.output.shape[0]} classes, "
            f"T = {self.timesteps}: {len(self.populations)} populations, "
            f"{sum(p.size for p in self.populations):,} neurons, "
            f"{sum(c.weight.size for c in self.connections):,} weights of {widths} bits)"
        )

    @property
    def output(self) -> Population:
        return self.populations[-1]

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """(C, H, W) of every source by name, the input included."""
        return {INPUT: self.input.shape} | {p.name: p.shape for p in self.populations}

    def incoming(self, population: Population) -> Iterator[Connection]:
        """Yield the connections that lead to ``population``."""
        return (c for c in self.connections if c.target == population.name)


def _check_shape(where: str, shape: Shape) -> None:
    if len(shape) != 3 or any(not isinstance(n, int) or n < 1 for n in shape):
        raise NetworkError(
            f"{where}: shape must be three positive whole numbers (C, H, W), not {shape}"
        )


def _check_array(
    where: str, label: str, array: NDArray[np.generic], dtype: type, shape: tuple[int, ...]
) -> None:
    if array.dtype != dtype or array.shape != shape:
        raise NetworkError(
            f"{where}: {label} is {array.dtype} of shape {array.shape}, "
            f"not {np.dtype(dtype)} of shape {shape}"
        )


def _check_range(where: str, label: str, value: int, low: int, high: int) -> None:
    check_range(f"{where}: {label}", value, low, high)
