"""Published energies and times per operation, by set, with the source and how certain it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from importlib import resources
from typing import Any, Final, Literal, TypeVar, get_args

from dsr_deploy.hardware import profile
from dsr_deploy.hardware.errors import ProfileError
from dsr_deploy.hardware.geometry import LARGEST, Kind
from dsr_deploy.hardware.network import NeuronKind

Built = TypeVar("Built")
Certainty = Literal["primary", "secondary", "unchecked", "assumed"]
"""Read in the source itself, quoted from it elsewhere, from memory, or our own assumption."""

CONSTANT_SETS: Final = ("loihi1-davies2018", "loihi1-sanafe", "45nm-horowitz2014")

LOIHI2_STATEMENT: Final = (
    "Loihi 2: no energy per operation has been published, so none is estimated. Intel states "
    "ratios of speed to Loihi 1 (2x for a neuron update, 5x for a synaptic operation, 10x for "
    "spike generation), from which no energy follows."
)


def _check(unit: str, value: object, certainty: object) -> None:
    """Raise ProfileError if a value or its certainty is not allowed; ``unit`` names the value."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise ProfileError(f"{unit} must be a number of at least 0, not {profile.show(value)}")
    if certainty not in get_args(Certainty):
        raise ProfileError(
            f"certainty {profile.show(certainty)}: choose one of {', '.join(get_args(Certainty))}"
        )


@dataclass(frozen=True)
class Constant:
    """An energy per operation, in pJ."""

    pj: float
    certainty: Certainty

    def __post_init__(self) -> None:
        _check("pj", self.pj, self.certainty)


@dataclass(frozen=True)
class Duration:
    """A time per operation, in ns."""

    ns: float
    certainty: Certainty

    def __post_init__(self) -> None:
        _check("ns", self.ns, self.certainty)


@dataclass(frozen=True)
class Hop:
    """What a message takes from one tile to the next, and the mesh that it crosses.

    Attributes
    ----------
    east_west, north_south : per tile
    mesh_width : tiles in a row
    cores_per_tile : between which a message makes no hop
    """

    east_west: Constant
    north_south: Constant
    mesh_width: int
    cores_per_tile: int

    def __post_init__(self) -> None:
        for label in ("mesh_width", "cores_per_tile"):
            value = getattr(self, label)
            if type(value) is not int or not 1 <= value <= LARGEST:
                raise ProfileError(
                    f"{label} must be a whole number, 1 to {LARGEST}, not {profile.show(value)}"
                )


@dataclass(frozen=True)
class Times:
    """The least times of operations that one core does one after another.

    Attributes
    ----------
    notes : what a reader must know before believing a bound
    synapse : per synaptic operation, by kind of connection
    neuron_update : per neuron and timestep
    barrier : at the end of a timestep
    """

    notes: tuple[str, ...]
    synapse: dict[Kind, Duration]
    neuron_update: Duration
    barrier: Duration


@dataclass(frozen=True)
class ConstantSet:
    """One source's energies; None where the source has no such term.

    Attributes
    ----------
    name, title, source, static_power : for people
    notes : what a reader must know before believing a number
    synapse : per synaptic operation of a spike, by kind of connection
    payload_synapse : per synaptic operation of the input, whose payload is a number
    neuron_update : per neuron and timestep, ``if`` and ``lif``
    spike : per spike, at the neuron that fires
    message : per spike and connection in which its neuron has a target
    memory_bit : per bit read or written
    ann_mac : per 8-bit multiply-accumulate of a conventional network
    hop : per message and tile that it crosses
    times : of operations, for a lower bound of the time per inference
    """

    name: str
    title: str
    source: str
    static_power: str
    notes: tuple[str, ...]
    synapse: dict[Kind, Constant]
    payload_synapse: Constant
    neuron_update: dict[NeuronKind, Constant]
    spike: Constant
    message: Constant | None
    memory_bit: Constant | None
    ann_mac: Constant | None
    hop: Hop | None
    times: Times | None


def load_constants(name: str) -> ConstantSet:
    """Return the set ``name``, one of ``CONSTANT_SETS``.

    Raises
    ------
    ProfileError
        If there is no such set.
    """
    if name not in CONSTANT_SETS:
        raise ProfileError(f"energy constants '{name}': choose one of {', '.join(CONSTANT_SETS)}")
    file = resources.files("dsr_deploy.hardware.energy") / f"{name}.yaml"
    return parse_constants(name, file.read_text(encoding="utf-8"))


def parse_constants(name: str, text: str) -> ConstantSet:
    """Return the set that the YAML ``text`` holds.

    Raises
    ------
    ProfileError
        If it is malformed, or a field is missing, unknown or of the wrong type.
    """
    where = f"energy constants '{name}'"
    entries = profile.parse(where, text, [f.name for f in fields(ConstantSet) if f.name != "name"])
    title, source, static_power = (
        profile.line(f"{where}: {key}", entries[key]) for key in ("title", "source", "static_power")
    )
    synapse = profile.exactly(f"{where}: synapse", entries["synapse"], get_args(Kind))
    update = profile.exactly(
        f"{where}: neuron_update", entries["neuron_update"], get_args(NeuronKind)
    )

    def optional(key: str) -> Constant | None:
        return None if entries[key] is None else _constant(f"{where}: {key}", entries[key])

    return ConstantSet(
        name=name,
        title=title,
        source=source,
        static_power=static_power,
        notes=_notes(where, entries["notes"]),
        synapse={k: _constant(f"{where}: synapse {k}", v) for k, v in synapse.items()},
        payload_synapse=_constant(f"{where}: payload_synapse", entries["payload_synapse"]),
        neuron_update={k: _constant(f"{where}: neuron_update {k}", v) for k, v in update.items()},
        spike=_constant(f"{where}: spike", entries["spike"]),
        message=optional("message"),
        memory_bit=optional("memory_bit"),
        ann_mac=optional("ann_mac"),
        hop=None if entries["hop"] is None else _hop(f"{where}: hop", entries["hop"]),
        times=None if entries["times"] is None else _times(f"{where}: times", entries["times"]),
    )


def _notes(where: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ProfileError(f"{where}: notes must be a list of lines, not {profile.show(value)}")
    return tuple(profile.line(f"{where}: a note", note) for note in value)


def _hop(where: str, value: object) -> Hop:
    entry = profile.exactly(where, value, [f.name for f in fields(Hop)])
    for key in ("east_west", "north_south"):
        entry[key] = _constant(f"{where}: {key}", entry[key])
    return _built(where, Hop, entry)


def _times(where: str, value: object) -> Times:
    entry = profile.exactly(where, value, [f.name for f in fields(Times)])
    synapse = profile.exactly(f"{where}: synapse", entry["synapse"], get_args(Kind))
    return Times(
        notes=_notes(where, entry["notes"]),
        synapse={k: _duration(f"{where}: synapse {k}", v) for k, v in synapse.items()},
        neuron_update=_duration(f"{where}: neuron_update", entry["neuron_update"]),
        barrier=_duration(f"{where}: barrier", entry["barrier"]),
    )


def _constant(where: str, value: object) -> Constant:
    return _built(where, Constant, profile.exactly(where, value, ("pj", "certainty")))


def _duration(where: str, value: object) -> Duration:
    return _built(where, Duration, profile.exactly(where, value, ("ns", "certainty")))


def _built(where: str, kind: Callable[..., Built], entry: Mapping[str, Any]) -> Built:
    """Return what ``kind`` makes of the fields; an error says where they stand."""
    try:
        return kind(**entry)
    except ProfileError as error:
        raise ProfileError(f"{where}: {error}") from error
