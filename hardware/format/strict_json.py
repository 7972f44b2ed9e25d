"""JSON from a file that nobody vouches for: every field is asked for by name and type."""

from __future__ import annotations

import json
from typing import Any, Final, NoReturn

from dsr_deploy.hardware.errors import JsonError
from dsr_deploy.hardware.format.json_text import LONGEST_TEXT, parse, printable

LARGEST_WHOLE: Final = (1 << 53) - 1
"""Beyond it a reader that keeps numbers as doubles would see another one."""


def load_object(where: str, data: str | bytes) -> JsonObject:
    """Parse a text as :func:`parse` does; it must be one object."""
    try:
        value = parse(data)
    except ValueError as error:
        raise JsonError(f"{where}: malformed JSON ({error})") from error
    return JsonObject(where, value)


class JsonObject:
    """The fields of a JSON object, taken one by one; :meth:`finish` checks that none is left.

    ``where`` begins every error: ``population 2: field 'decay' is 0.5, not a whole number``.
    Every method raises JsonError if its field is missing or of another type.
    """

    def __init__(self, where: str, value: object) -> None:
        if not isinstance(value, dict):
            raise JsonError(f"{where}: {_show(value)} is not a JSON object")
        self.where = where
        self._left = dict(value)

    def whole(self, key: str) -> int:
        """Take an integer that a double holds exactly."""
        return self._whole(key, self._take(key))

    def number(self, key: str) -> float:
        """Take a number."""
        return self._number(key, self._take(key))

    def text(self, key: str, longest: int = LONGEST_TEXT) -> str:
        """Take a printable line of at most ``longest`` characters."""
        return self._text(key, self._take(key), longest)

    def flag(self, key: str) -> bool:
        """Take true or false."""
        value = self._take(key)
        if not isinstance(value, bool):
            self._refuse(key, value, "true or false")
        return value

    def wholes(self, key: str) -> tuple[int, ...]:
        """Take a list of integers."""
        return tuple(self._whole(key, item) for item in self._list(key))

    def pair(self, key: str) -> tuple[int, int]:
        """Take a list of two integers."""
        values = self.wholes(key)
        if len(values) != 2:
            self._refuse(key, list(values), "two whole numbers")
        return values[0], values[1]

    def triple(self, key: str) -> tuple[int, int, int]:
        """Take a list of three integers."""
        values = self.wholes(key)
        if len(values) != 3:
            self._refuse(key, list(values), "three whole numbers")
        return values[0], values[1], values[2]

    def numbers(self, key: str) -> tuple[float, ...]:
        """Take a list of numbers."""
        return tuple(self._number(key, item) for item in self._list(key))

    def texts(self, key: str) -> tuple[str, ...]:
        """Take a list of printable lines."""
        return tuple(self._text(key, item) for item in self._list(key))

    def nested(self, key: str) -> JsonObject:
        """Take an object; its errors begin with the field's name."""
        return JsonObject(key, self._take(key))

    def nested_list(self, key: str, singular: str) -> tuple[JsonObject, ...]:
        """Take a list of objects; their errors begin with ``singular`` and a number from 0 on."""
        return tuple(JsonObject(f"{singular} {i}", item) for i, item in enumerate(self._list(key)))

    def finish(self) -> None:
        """Check that every field was taken."""
        for key in sorted(self._left):
            raise JsonError(f"{self.where}: unknown field {_show(key)}")

    def _take(self, key: str) -> Any:
        if key not in self._left:
            raise JsonError(f"{self.where}: field '{key}' is missing")
        return self._left.pop(key)

    def _list(self, key: str) -> list[object]:
        value = self._take(key)
        if not isinstance(value, list):
            self._refuse(key, value, "a list")
        return value

    def _whole(self, key: str, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or abs(value) > LARGEST_WHOLE:
            self._refuse(key, value, "a whole number within 53 bits")
        return value

    def _number(self, key: str, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            self._refuse(key, value, "a number")
        try:
            return float(value)
        except OverflowError:
            self._refuse(key, value, "a number that a double holds")

    def _text(self, key: str, value: object, longest: int = LONGEST_TEXT) -> str:
        if not isinstance(value, str) or len(value) > longest or not value.isprintable():
            self._refuse(key, value, f"a printable line of at most {longest} characters")
        return value

    def _refuse(self, key: str, value: object, wanted: str) -> NoReturn:
        raise JsonError(f"{self.where}: field '{key}' is {_show(value)}, not {wanted}")


def _show(value: object) -> str:
    if isinstance(value, dict | list):
        return f"a JSON {'object' if isinstance(value, dict) else 'list'} of {len(value)}"
    return printable(json.dumps(value), 60)
