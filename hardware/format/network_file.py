"""The file of an integer network, ``network.safetensors``; docs/network-format.md specifies it.

Nothing in a file is believed before it is checked, and no size that it claims is allocated.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final

from safetensors import SafetensorError
from safetensors.numpy import load, save

from dsr_deploy.hardware.errors import HardwareError, NetworkError
from dsr_deploy.hardware.format.json_text import printable, unique
from dsr_deploy.hardware.format.network_content import (
    FORMAT,
    VERSION,
    check_allowed,
    checksum,
    describe,
    network_of,
    tensors_of,
    to_text,
)
from dsr_deploy.hardware.format.regular_file import read_regular
from dsr_deploy.hardware.format.strict_json import load_object
from dsr_deploy.hardware.network import IntegerNetwork

MAX_FILE: Final = 1 << 30
"""Most bytes of a file: a network of a billion weights has no chip to run on."""
MAX_HEADER: Final = 4 << 20
"""Most bytes of a header; Python's objects of its JSON take up to twenty times as much memory."""

_KEY: Final = "dsr-deploy"
_LENGTH_BYTES: Final = 8


def write(network: IntegerNetwork, path: Path) -> None:
    """Write ``network`` to ``path``: whole or, if anything fails, not at all.

    Raises
    ------
    NetworkError
        If the format cannot hold the network; see :func:`to_bytes`.
    """
    data = to_bytes(network)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read(path: Path) -> IntegerNetwork:
    """Read the network in ``path``.

    Raises
    ------
    NetworkError
        If the file cannot be read, or is anything but a whole, unchanged, valid network; one line
        that names it.
    """
    try:
        data = read_regular(path, MAX_FILE)
    except OSError as error:
        raise NetworkError(f"{path}: cannot be read ({error.strerror})") from None
    return from_bytes(data, str(path))


def to_bytes(network: IntegerNetwork) -> bytes:
    """Return the file of ``network``; equal networks give equal bytes.

    Raises
    ------
    NetworkError
        If a name has characters, or a shape or the file a size, that the format does not allow.
    """
    check_allowed(network)
    tensors = tensors_of(network)
    text = to_text(describe(network))
    # One key alone: safetensors writes several in an order that changes from run to run.
    data = save(tensors, {_KEY: f"{checksum(text, tensors)} {text}"})
    _header_length(data)
    if len(data) > MAX_FILE:
        raise NetworkError(f"network: {len(data)} bytes, at most {MAX_FILE} are allowed")
    return data


def from_bytes(data: bytes, where: str = "network") -> IntegerNetwork:
    """Read a network from the bytes of its file; ``where`` names it in errors.

    Raises
    ------
    NetworkError
        If the bytes are anything but a whole, unchanged, valid network.
    """
    try:
        return _parse(data)
    except HardwareError as error:
        raise NetworkError(f"{where}: {error}") from error


def _parse(data: bytes) -> IntegerNetwork:
    length = _header_length(data)
    try:
        tensors = load(data)
        header = json.loads(data[_LENGTH_BYTES : _LENGTH_BYTES + length], object_pairs_hook=unique)
    except (SafetensorError, KeyError, ValueError, TypeError, RecursionError) as error:
        raise NetworkError(
            f"not a whole safetensors file ({printable(str(error))}); export it again"
        ) from error
    metadata: dict[str, str] = header.get("__metadata__") or {}
    noted, _, text = metadata.get(_KEY, "").partition(" ")
    if not text:
        raise NetworkError(
            f"a safetensors file without '{_KEY}' in its metadata; `dsr-deploy export` writes one"
        )
    graph = load_object("network", text)
    if (name := graph.text("format")) != FORMAT:
        raise NetworkError(f"format must be '{FORMAT}', not '{name}'")
    if (version := graph.whole("version")) != VERSION:
        raise NetworkError(f"format version must be {VERSION}, not {version}; export it again")
    if checksum(text, tensors) != noted:
        raise NetworkError("the checksum does not match the content; export it again")
    network = network_of(graph, tensors)
    check_allowed(network)
    return network


def _header_length(data: bytes) -> int:
    length = int.from_bytes(data[:_LENGTH_BYTES], "little")
    if MAX_HEADER < length <= len(data):
        raise NetworkError(f"network: a header of {length} bytes, at most {MAX_HEADER} are allowed")
    return length
