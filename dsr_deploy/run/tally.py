"""What was counted of a simulation so far, and the file that keeps it when it is stopped.

The file is safetensors: the counts and the predictions, and beside them what they are of. Its size
is that of the counts, not of the samples. It is sealed (:mod:`dsr_deploy.run.seal`).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from dsr_deploy.errors import UserError
from dsr_deploy.hardware.event.simulation import Simulation
from dsr_deploy.run.samples import Samples
from dsr_deploy.run.seal import Part, is_whole, seal

Array = NDArray[Any]
Record = TypeVar("Record")

PARTIAL: Final = "partial.safetensors"
"""The file, beside the reports."""

_ABOUT: Final = "about"
_LENGTH_BYTES: Final = 8


@dataclass(frozen=True, eq=False)
class Tally:
    """What was counted of the first samples.

    Attributes
    ----------
    simulation : the counts alone
    predictions : the predicted classes, int64 (n,)
    """

    simulation: Simulation
    predictions: NDArray[np.int64]

    @property
    def samples(self) -> int:
        return self.simulation.samples

    def merge(self, other: Tally) -> Tally:
        """Return the counts of both, the samples of ``other`` last."""
        predictions = np.concatenate([self.predictions, other.predictions])
        return Tally(self.simulation.merge(other.simulation), predictions)


@dataclass(frozen=True)
class Origin:
    """What a tally is of; no other option changes a count.

    Attributes
    ----------
    network : SHA-256 of its file
    samples : how many were to be simulated
    data : what they are, :attr:`Samples.digest`
    """

    network: str
    samples: int
    data: str


def origin(network: str, samples: Samples) -> Origin:
    """Return the origin of a tally of ``samples`` by the network of that digest."""
    return Origin(network, len(samples), samples.digest)


def to_bytes(tally: Tally, of: Origin) -> bytes:
    """Return the file of a tally."""
    tensors = dict(_arrays(tally.simulation)) | {"predictions": tally.predictions}
    about = seal(dataclasses.asdict(of), _parts(tensors))
    return safetensors.numpy.save(tensors, {_ABOUT: json.dumps(about)})


def from_bytes(data: bytes, where: str, of: Origin, empty: Simulation) -> Tally:
    """Return the tally in the bytes of a file.

    Parameters
    ----------
    where : the file, for errors
    of : what the tally must be of
    empty : the network's simulation of no sample

    Raises
    ------
    UserError
        If the file is damaged, of another version, or of another network or other samples.
    """
    afresh = "simulate without --resume to begin again"
    try:
        length = int.from_bytes(data[:_LENGTH_BYTES], "little")
        header = json.loads(data[_LENGTH_BYTES : _LENGTH_BYTES + length])
        about = json.loads(header["__metadata__"][_ABOUT])
        tensors: dict[str, Array] = safetensors.numpy.load(data)
        if not is_whole(about, _parts(tensors)):
            raise ValueError("its checksum does not match")
        found = Origin(about["network"], about["samples"], about["data"])
    except (
        SafetensorError, KeyError, ValueError, TypeError, AttributeError, RecursionError,
    ) as error:  # fmt: skip
        reason = str(error).partition("\n")[0]
        raise UserError(f"{where}: damaged ({reason}); {afresh}") from None
    if found.network != of.network:
        raise UserError(f"{where}: it was counted for another network; {afresh}")
    if found.samples != of.samples:
        raise UserError(
            f"{where}: {found.samples} samples were to be simulated, not {of.samples}; give "
            f"--samples {found.samples}, or {afresh}"
        )
    if found.data != of.data:
        raise UserError(f"{where}: it was counted on other samples; {afresh}")
    try:
        return Tally(_filled(empty, tensors), tensors["predictions"])
    except KeyError as error:
        raise UserError(f"{where}: {error} is missing, as in another version; {afresh}") from None


def _arrays(simulation: Simulation) -> Iterator[tuple[str, Array]]:
    """Yield every count of a simulation; a number is an array of one."""
    for place, record in _records(simulation):
        for field in dataclasses.fields(record):
            value = getattr(record, field.name)
            if isinstance(value, int | np.ndarray):
                yield f"{place}.{field.name}", np.atleast_1d(np.asarray(value))


def _records(simulation: Simulation) -> Iterator[tuple[str, Any]]:
    """Yield the records that a simulation consists of, by place."""
    yield "simulation", simulation
    for index, counts in enumerate(simulation.populations.values()):
        yield f"population.{index}", counts
    for index, carried in enumerate(simulation.connections):
        yield f"connection.{index}", carried


def _filled(empty: Simulation, tensors: Mapping[str, Array]) -> Simulation:
    """Return ``empty`` with the counts of a file that was checked."""
    places = {place: _with(record, place, tensors) for place, record in _records(empty)}
    populations = {
        name: places[f"population.{index}"] for index, name in enumerate(empty.populations)
    }
    connections = tuple(places[f"connection.{i}"] for i in range(len(empty.connections)))
    whole: Simulation = places["simulation"]
    return replace(whole, populations=populations, connections=connections)


def _with(record: Any, place: str, tensors: Mapping[str, Array]) -> Any:
    values: dict[str, Any] = {}
    for field in dataclasses.fields(record):
        before = getattr(record, field.name)
        if isinstance(before, int):
            values[field.name] = int(tensors[f"{place}.{field.name}"][0])
        elif isinstance(before, np.ndarray):
            values[field.name] = tensors[f"{place}.{field.name}"].astype(before.dtype)
    return replace(record, **values)


def _parts(tensors: Mapping[str, Array]) -> Iterator[Part]:
    for name in sorted(tensors):
        array = tensors[name]
        yield f"{name} {array.dtype} {array.shape}", np.ascontiguousarray(array).tobytes()
