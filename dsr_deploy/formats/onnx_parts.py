"""What an ONNX graph is put together from: constants, nodes in order, and states of a loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper


class Constants:
    """Initializers by name, and the nodes that unpack the 4-bit ones."""

    def __init__(self) -> None:
        self.tensors: dict[str, TensorProto] = {}
        self.unpacking: list[NodeProto] = []

    def array(self, name: str, array: NDArray[Any]) -> str:
        self.tensors[name] = numpy_helper.from_array(array, name)
        return name

    def zero_point(self, value: int) -> str:
        return self.array(f"zero_point_{value}", np.array(value, np.uint8))

    def weight(self, name: str, weight: NDArray[np.int8], bits: int) -> tuple[str, str]:
        """Return the names of the unsigned weight and of its zero point.

        Two 4-bit weights share a byte, the first in its low half.
        """
        offset = 8 if bits <= 4 else 128
        unsigned = (weight.astype(np.int16) + offset).astype(np.uint8)
        if offset == 128:
            return self.array(name, unsigned), self.zero_point(offset)
        pairs = np.append(unsigned.ravel(), np.zeros(unsigned.size % 2, np.uint8)).reshape(-1, 2)
        packed = helper.make_tensor(
            f"{name}.4bit",
            TensorProto.UINT4,
            unsigned.shape,
            (pairs[:, 0] | pairs[:, 1] << 4).tobytes(),
            raw=True,
        )
        self.tensors[packed.name] = packed
        self.unpacking.append(helper.make_node("Cast", [packed.name], [name], to=TensorProto.UINT8))
        return name, self.zero_point(offset)


class Part:
    """Nodes in order: those before the loop, or those of one timestep."""

    def __init__(self, constants: Constants) -> None:
        self.constants = constants
        self.nodes: list[NodeProto] = []

    def add(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], **attributes))
        return output

    def cast(self, value: str, output: str, to: int) -> str:
        return self.add("Cast", [value], output, to=to)

    def reshape(self, value: str, output: str, shape: Sequence[int]) -> str:
        """Reshape; 0 keeps a dimension, one -1 is inferred."""
        wanted = self.constants.array(f"{output}.shape", np.array(shape, np.int64))
        return self.add("Reshape", [value, wanted], output)

    def total(self, terms: Sequence[str], output: str) -> str:
        """Add the terms, one or more."""
        partial = terms[0]
        for k, term in enumerate(terms[1:], start=2):
            last = k == len(terms)
            partial = self.add("Add", [partial, term], output if last else f"{output}.{k}")
        return partial


@dataclass(frozen=True)
class State:
    """A value that the loop carries: its zero, and how the body receives and returns it."""

    zero: str
    before: ValueInfoProto
    after: ValueInfoProto


def zero_state(before: Part, name: str, after: str, kind: int, shape: Sequence[int]) -> State:
    """Make a state of zeros, (N, *shape), int32 or int64."""
    dims = "samples"
    if shape:
        tail = before.constants.array(f"{name}.dims", np.array(shape, np.int64))
        dims = before.add("Concat", ["samples", tail], f"{name}.shape", axis=0)
    zero = helper.make_tensor("value", kind, [1], [0])
    before.add("ConstantOfShape", [dims], f"{name}.zero", value=zero)
    return State(
        f"{name}.zero",
        value_info(name, kind, ("N", *shape)),
        value_info(after, kind, ("N", *shape)),
    )


def value_info(name: str, kind: int, shape: Sequence[str | int]) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)
