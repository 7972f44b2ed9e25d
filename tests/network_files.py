"""Network files taken apart and sealed again, as docs/network-format.md has it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

Tensors = dict[str, NDArray[Any]]


def header_of(data: bytes) -> dict[str, Any]:
    header: dict[str, Any] = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return header


def graph_of(data: bytes) -> dict[str, Any]:
    """Return the JSON of a network's file."""
    graph: dict[str, Any] = json.loads(header_of(data)["__metadata__"]["dsr-deploy"][65:])
    return graph


def sealed(text: str, tensors: Tensors) -> bytes:
    """Return a file of any JSON text and tensors, with a checksum that is right."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        digest.update(np.ascontiguousarray(tensors[name]).tobytes())
    return save(tensors, {"dsr-deploy": f"{digest.hexdigest()} {text}"})


def container(header: bytes | dict[str, Any], body: bytes = b"") -> bytes:
    """Return a safetensors file of any header, right or wrong, and any bytes after it."""
    if isinstance(header, dict):
        header = json.dumps(header).encode()
    return len(header).to_bytes(8, "little") + header + body
