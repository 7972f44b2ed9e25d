"""Profiles: YAML files of published numbers, each with its source; ours, and those of users."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from typing import Any, Final, TypeVar

import yaml

from dsr_deploy.hardware.errors import ProfileError
from dsr_deploy.hardware.format.json_text import printable

Key = TypeVar("Key", bound=str)

LONGEST_LINE: Final = 1000
"""Most characters of a name, a source or a note."""

_MALFORMED: Final = (
    yaml.YAMLError,
    # What PyYAML lets through of a tag that does not fit its value, or of too many brackets.
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)


class _Loader(yaml.SafeLoader):
    """Rejects a field that occurs twice, of which PyYAML would take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for place, key in enumerate(keys):
            if key in keys[:place]:
                raise yaml.YAMLError(f"field {key!r} occurs twice")
        return super().construct_mapping(node, deep=deep)


def parse(where: str, text: str | bytes, fields: Collection[str]) -> dict[str, Any]:
    """Return the fields of the mapping that a YAML text is.

    Parameters
    ----------
    where : what is read, for errors
    text : bytes are UTF-8
    fields : the mapping has these, no more and no fewer

    Raises
    ------
    ProfileError
        If the text is anything else; one line.
    """
    try:
        content = yaml.load(text if isinstance(text, str) else text.decode(), _Loader)
    except _MALFORMED as error:
        reason = printable(" ".join(str(error).split()) or "nested too deeply")
        raise ProfileError(f"{where}: malformed YAML ({reason}); repair the file") from error
    return exactly(where, content, fields)


def exactly(where: str, value: object, fields: Collection[Key]) -> dict[Key, Any]:
    """Return ``value`` if it is a mapping of ``fields``, no more and no fewer.

    Raises
    ------
    ProfileError
        If it is not.
    """
    if not isinstance(value, Mapping):
        raise ProfileError(f"{where}: must be a mapping, not {show(value)}")
    for field in fields:
        if field not in value:
            raise ProfileError(f"{where}: field '{field}' is missing")
    for key in value:
        if key not in fields:
            raise ProfileError(f"{where}: unknown field {show(key)}")
    return dict(value)


def line(where: str, value: object) -> str:
    """Return ``value`` if it is a printable line.

    Raises
    ------
    ProfileError
        If it is not.
    """
    if not isinstance(value, str) or not value.isprintable() or len(value) > LONGEST_LINE:
        raise ProfileError(
            f"{where} must be a printable line of at most {LONGEST_LINE} characters, "
            f"not {show(value)}"
        )
    return value


def show(value: object) -> str:
    """Return a value for an error, short and on one line."""
    if isinstance(value, list | dict):
        return f"a {'list' if isinstance(value, list) else 'mapping'} of {len(value)}"
    if isinstance(value, int) and abs(value) >= 1 << 64:  # str() of a huge one takes minutes
        return "a number of more than 64 bits"
    return printable(repr(value), 60)
