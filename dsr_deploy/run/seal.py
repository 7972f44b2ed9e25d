"""Checksums of the files of a run, so that no flipped bit goes unnoticed.

A JSON object is sealed by one more entry, ``sha256``: the SHA-256 of all its other entries,
written with sorted keys and no spaces. Tensors that belong to it follow in the order of their
names, each as its name, its dtype, its shape and its bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

KEY: Final = "sha256"

Part = tuple[str, bytes]
"""A tensor's name, dtype and shape in words, and its bytes."""


def seal(value: Mapping[str, Any], parts: Iterable[Part] = ()) -> dict[str, Any]:
    """Return ``value`` with its checksum, over ``parts`` as well."""
    return {**value, KEY: checksum(value, parts)}


def is_whole(value: Mapping[str, Any], parts: Iterable[Part] = ()) -> bool:
    """Whether a sealed object, and the parts that belong to it, are unchanged."""
    return value.get(KEY) == checksum(value, parts)


def checksum(value: Mapping[str, Any], parts: Iterable[Part] = ()) -> str:
    """Return the SHA-256 of an object without its seal, and of parts, in hexadecimal."""
    plain = {name: entry for name, entry in value.items() if name != KEY}
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode())
    for words, data in parts:
        digest.update(f"\n{words}\n".encode())
        digest.update(data)
    return digest.hexdigest()
