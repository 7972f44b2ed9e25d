"""JSON from a file that nobody vouches for: whole, or a short reason why not."""

from __future__ import annotations

import json
import math
from typing import Any, Final, NoReturn

LONGEST_TEXT: Final = 200


def parse(data: str | bytes) -> Any:
    """Return the value of a JSON text, in UTF-8, without repeated fields, NaN or infinity.

    Raises
    ------
    ValueError
        If it is anything else, or nested too deeply; one short line.
    """
    try:
        text = data if isinstance(data, str) else data.decode()
        return json.loads(
            text, object_pairs_hook=unique, parse_constant=_refuse_constant, parse_float=_finite
        )
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not UTF-8") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError as error:
        raise ValueError(printable(str(error))) from None


def printable(text: str, longest: int = LONGEST_TEXT) -> str:
    """Return ``text`` as one line: cut, and with a question mark for what cannot be printed."""
    line = "".join(c if c.isprintable() else "?" for c in text[:longest])
    return line + ("..." if len(text) > longest else "")


def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Make a dictionary of a JSON object's fields, for ``json.loads``; refuse repeated ones."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a field occurs twice in one object")
    return fields


def _finite(text: str) -> float:
    """Return a number as :func:`json.loads` does, which makes infinity of ``1e999``."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{printable(text, 40)} is more than a double holds")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")
