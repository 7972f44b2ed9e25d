"""Published energies per operation, each set by name, with its source and how certain it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib import resources
from typing import Any, Final, Literal, get_args

import yaml

from dsr_deploy.hardware.errors import ProfileError
from dsr_deploy.hardware.network import Kind

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
            raise ProfileError(f"pj {self.pj!r}; an energy is a number of at least 0")
        if self.certainty not in get_args(Certainty):
            raise ProfileError(
                f"certainty {self.certainty!r}; {', '.join(get_args(Certainty))} are known"
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
    neuron_update: dict[Literal["if", "lif"], Constant]
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
        raise ProfileError(f"energy constants '{name}'; {', '.join(CONSTANT_SETS)} are known")
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
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ProfileError(f"{where}: malformed YAML ({' '.join(str(error).split())})") from error
    wanted = [field.name for field in fields(ConstantSet) if field.name != "name"]
    found = _exactly(where, found, wanted)
    for key in ("title", "source", "static_power"):
        if not isinstance(found[key], str):
            raise ProfileError(f"{where}: {key} is {found[key]!r}, not text")
    if not isinstance(found["notes"], list) or not all(isinstance(n, str) for n in found["notes"]):
        raise ProfileError(f"{where}: notes are not a list of texts")
    synapse = _exactly(f"{where}: synapse", found["synapse"], get_args(Kind))
    update = _exactly(f"{where}: neuron_update", found["neuron_update"], ("if", "lif"))

    def optional(key: str) -> Constant | None:
        return None if found[key] is None else _constant(f"{where}: {key}", found[key])

    return ConstantSet(
        name=name,
        title=found["title"],
        source=found["source"],
        static_power=found["static_power"],
        notes=tuple(found["notes"]),
        synapse={k: _constant(f"{where}: synapse {k}", v) for k, v in synapse.items()},
        payload_synapse=_constant(f"{where}: payload_synapse", found["payload_synapse"]),
        neuron_update={k: _constant(f"{where}: neuron_update {k}", v) for k, v in update.items()},
        spike=_constant(f"{where}: spike", found["spike"]),
        message=optional("message"),
        memory_bit=optional("memory_bit"),
        ann_mac=optional("ann_mac"),
    )


def _constant(where: str, value: object) -> Constant:
    try:
        return Constant(**_exactly(where, value, ("pj", "certainty")))
    except ProfileError as error:
        raise ProfileError(
            str(error) if str(error).startswith(where) else f"{where}: {error}"
        ) from error


def _exactly(where: str, value: object, wanted: Any) -> dict[Any, Any]:
    """Return ``value`` if it is a mapping with the fields ``wanted``, no more and no fewer."""
    if not isinstance(value, Mapping):
        raise ProfileError(f"{where}: {value!r} is not a mapping")
    for key in wanted:
        if key not in value:
            raise ProfileError(f"{where}: field '{key}' is missing")
    for key in value:
        if key not in wanted:
            raise ProfileError(f"{where}: unknown field {key!r}")
    return dict(value)
