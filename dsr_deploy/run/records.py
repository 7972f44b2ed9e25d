"""Read dataclasses from their JSON, checking every field by its type.

A file of a run may come from another machine, an older version or a text editor. Every field must
fit its class; an error names the field that does not.
"""

from __future__ import annotations

import dataclasses
import sys
import types
from dataclasses import dataclass, replace
from typing import (
    Any,
    Final,
    Literal,
    NoReturn,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from dsr_deploy.errors import UserError
from dsr_deploy.hardware.format.json_text import printable

Record = TypeVar("Record")

LARGEST_WHOLE: Final = (1 << 53) - 1
LARGEST: Final = sys.float_info.max

SHARES: Final = ("accuracy", "firing_rate", "firing_rates", "register_used", "_sparsity", "binds")
"""Endings of the names of numbers between 0 and 1."""
SIGNED: Final = (
    "v_fire", "v_threshold", "proven_range", "seen_low", "seen_high", "proven_low", "proven_high",
    "mean", "low", "high",
)  # fmt: skip
"""Names of the only numbers that may be negative."""
POSITIVE: Final = ("available", "bits", "samples", "timesteps")
"""Names of numbers that must be at least 1."""


def read(
    kind: type[Record], value: object, where: str, again: str = "run its stage again"
) -> Record:
    """Return ``value`` as the dataclass ``kind``, the inverse of :func:`dataclasses.asdict`.

    Unknown entries are ignored.

    Parameters
    ----------
    where : the file, for errors
    again : the way out, for errors

    Raises
    ------
    UserError
        If a field is missing, of another type, or a number that its name rules out.
    """
    record: Record = _object(kind, value, _Place(where, again))
    return record


@dataclass(frozen=True)
class _Place:
    """The file, path and name of a value."""

    file: str
    again: str
    path: str = ""
    name: str = ""

    def field(self, name: str) -> _Place:
        """Return the place of an object's field."""
        return replace(self, path=f"{self.path}.{name}" if self.path else name, name=name)

    def item(self, key: object) -> _Place:
        """Return the place of an item of a list or table."""
        return replace(self, path=f"{self.path}[{key}]")

    def refuse(self, value: object, wanted: str) -> NoReturn:
        """Raise UserError for a value that does not fit."""
        found = printable(repr(value), 60)
        if isinstance(value, list | dict):
            found = "a list" if isinstance(value, list) else "an object"
        subject = f"field '{self.path}'" if self.path else "it"
        self.fail(f"{subject} is {found}, not {wanted}")

    def fail(self, reason: str) -> NoReturn:
        """Raise UserError for this reason."""
        raise UserError(f"{self.file}: {reason}; {self.again}")


def _object(kind: Any, value: object, place: _Place) -> Any:
    if not isinstance(value, dict):
        place.refuse(value, "an object")
    hints = get_type_hints(kind)
    found = {}
    for field in dataclasses.fields(kind):
        inner = place.field(field.name)
        if field.name in value:
            found[field.name] = _value(hints[field.name], value[field.name], inner)
        elif field.default is dataclasses.MISSING:
            place.fail(f"field '{inner.path}' is missing")
    try:
        return kind(**found)
    except (ValueError, UserError) as error:  # its own checks
        inside = f" in '{place.path}'" if place.path else ""
        place.fail(f"{error}{inside}")


def _value(kind: Any, value: object, place: _Place) -> Any:
    """Return ``value`` as what the annotation ``kind`` says."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        (other,) = (k for k in inner if k is not type(None))
        return None if value is None else _value(other, value, place)
    if origin is Literal:
        if value not in inner:
            place.refuse(value, f"one of {', '.join(map(str, inner))}")
        return value
    if origin is tuple:
        return _tuple(inner, value, place)
    if origin is dict:
        if not isinstance(value, dict):
            place.refuse(value, "an object")
        return {k: _value(inner[1], v, place.item(k)) for k, v in value.items()}
    if dataclasses.is_dataclass(kind):
        return _object(kind, value, place)
    if kind is bool or kind is str:
        if not isinstance(value, kind):
            place.refuse(value, "true or false" if kind is bool else "text")
        return value
    return _number(kind, value, place)


def _tuple(kinds: tuple[Any, ...], value: object, place: _Place) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        place.refuse(value, "a list")
    if kinds[-1] is Ellipsis:
        kinds = kinds[:1] * len(value)
    if len(value) != len(kinds):
        place.refuse(value, f"a list of {len(kinds)}")
    pairs = enumerate(zip(kinds, value, strict=True))
    return tuple(_value(kind, item, place.item(i)) for i, (kind, item) in pairs)


def _number(kind: Any, value: object, place: _Place) -> int | float:
    wanted = "a whole number" if kind is int else "a number"
    if isinstance(value, bool) or not isinstance(value, int if kind is int else int | float):
        place.refuse(value, wanted)
    low = 1 if place.name in POSITIVE else -LARGEST_WHOLE if place.name in SIGNED else 0
    high = 1 if place.name.endswith(SHARES) else LARGEST_WHOLE if kind is int else LARGEST
    if not low <= value <= high:  # false for what is no number
        place.refuse(value, f"{wanted}, {low} to {high}")
    return value
