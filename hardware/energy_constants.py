"""Published energies per operation, each set by name, with its source and how certain it is."""

from __future__ import annotations

from dataclasses import dataclass, fields
from importlib import resources
from typing import Final, Literal, get_args

from dsr_deploy.hardware import profile
from dsr_deploy.hardware.errors import ProfileError
from dsr_deploy.hardware.geometry import Kind
from dsr_deploy.hardware.network import (
    NeuronKind,
)

Certainty = Literal["primary", "secondary", "unchecked", "assumed"]
"""Read in the source itself, quoted from it elsewhere, from memory, or our own assumption."""

CONSTANT_SETS: Final = ("loihi1-davies2018", "loihi1-sanafe", "45nm-horowitz2014")

LOIHI2_STATEMENT: Final = (
    "Loihi 2: no energy per operation has been published, so none is estimated. Intel states "
    "ratios of speed to Loihi 1 (2x for a neuron update, 5x for a synaptic operation, 10x for "
    "spike generation), from which no energy follows."
)


@dataclass(frozen=True)
class Constant:
    """An energy per operation, in pJ."""

    pj: float
    certainty: Certainty

    def __post_init__(self) -> None:
        if isinstance(self.pj, bool) or not isinstance(self.pj, int | float) or not self.pj >= 0:
            raise ProfileError(f"pj must be a number of at least 0, not {profile.show(self.pj)}")
        if self.certainty not in get_args(Certainty):
            raise ProfileError(
                f"certainty {profile.show(self.certainty)}: choose one of "
                f"{', '.join(get_args(Certainty))}"
            )


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


def load_constants(name: str) -> ConstantSet:
    """Return the set ``name``, one of ``CONSTANT_SETS``.

    Raises
    ------
    ProfileError
        If there is no such set.
    """
    if name not in CONSTANT_SETS:
        raise ProfileError(f"energy constants '{name}': choose one of {', '.join(CONSTANT_SETS)}")
    file = resources.files("dsr_deploy.hardware") / "energy" / f"{name}.yaml"
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
    if not isinstance(entries["notes"], list):
        raise ProfileError(
            f"{where}: notes must be a list of lines, not {profile.show(entries['notes'])}"
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
        notes=tuple(profile.line(f"{where}: a note", note) for note in entries["notes"]),
        synapse={k: _constant(f"{where}: synapse {k}", v) for k, v in synapse.items()},
        payload_synapse=_constant(f"{where}: payload_synapse", entries["payload_synapse"]),
        neuron_update={k: _constant(f"{where}: neuron_update {k}", v) for k, v in update.items()},
        spike=_constant(f"{where}: spike", entries["spike"]),
        message=optional("message"),
        memory_bit=optional("memory_bit"),
        ann_mac=optional("ann_mac"),
    )


def _constant(where: str, value: object) -> Constant:
    entry = profile.exactly(where, value, ("pj", "certainty"))
    try:
        return Constant(**entry)
    except ProfileError as error:
        raise ProfileError(f"{where}: {error}") from error
