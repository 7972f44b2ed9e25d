"""Recordings of CIFAR10-DVS on disk: found, checked, read."""

from __future__ import annotations

import hashlib
import io
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsr_deploy.data import archives
from dsr_deploy.data.samples import DataError
from dsr_deploy.hardware.format.regular_file import open_regular

SENSOR: Final = 128
MAGIC: Final = b"#!AER-DAT2.0"
RECORD: Final = 8
"""Bytes of an event: its address and its time in microseconds, big-endian."""

LONGEST_HEADER: Final = 1 << 16
ENDS: Final = 1 << 12
"""Bytes at the beginning and at the end of a recording that its identity is made of."""

MIN_PER_CLASS: Final = 10
"""So that the last tenth of each class has one."""

Events = dict[str, NDArray[Any]]
"""Columns ``t``, ``x``, ``y`` (0 to 127) and ``p`` (0 or 1) of the events of a recording."""


@dataclass(frozen=True)
class Recordings:
    """The recordings of all classes, by class and name.

    Attributes
    ----------
    identity : SHA-256 of their names, their sizes, and their first and last 4 KiB
    """

    classes: tuple[str, ...]
    files: tuple[Path, ...]
    labels: tuple[int, ...]
    identity: str


def find(directory: Path, timesteps: int, download: bool) -> Recordings:
    """Return the recordings in ``extract/``, downloaded if need be.

    Where they were deleted, spikingjelly's conversion of them in ``events_np/`` takes their place.

    Raises
    ------
    DataError
        If there are none, or one is not a whole recording with an event for each timestep.
    """
    classes = archives.CLASSES
    folder = _folder(directory, download)
    suffix = ".aedat" if folder.name == "extract" else ".npz"
    by_class = _list(folder, classes, suffix)
    files = [file for name in classes for file in by_class[name]]

    def about(file: Path) -> bytes:
        return _check(file, timesteps if suffix == ".aedat" else None)

    identity = hashlib.sha256()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for file, found in zip(files, pool.map(about, files), strict=True):
            identity.update(f"{file.parent.name}/{file.name}\n".encode() + found)
    labels = [label for label, name in enumerate(classes) for _ in by_class[name]]
    return Recordings(classes, tuple(files), tuple(labels), identity.hexdigest())


def read(file: Path, timesteps: int) -> Events:
    """Return the events of a recording, or of spikingjelly's conversion of one.

    Raises
    ------
    DataError
        If it is damaged, or has no event for each timestep.
    """
    try:
        with open_regular(file) as stream:
            content = stream.read()
        events = _from_aedat(content) if file.suffix == ".aedat" else _from_arrays(content)
    except OSError as error:
        raise DataError(f"{file}: it cannot be read ({error.strerror})") from None
    except Exception as error:  # numpy raises several types on damaged archives
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{file}: it is damaged ({reason}); replace it") from None
    _check_number(file, len(events["t"]), timesteps)
    return events


def _folder(directory: Path, download: bool) -> Path:
    marker = directory / "events_np.building"
    if marker.exists():
        raise DataError(
            f"{marker}: spikingjelly was interrupted while it unpacked the recordings; delete this "
            "file, extract/ and events_np/ beside it"
        )
    places = (directory / "extract", directory / "events_np")
    if not any(place.is_dir() for place in places):
        if not download:
            raise DataError(
                f"{directory}: there is no folder extract/ with the recordings; put them there, or "
                "name their place with data_dir"
            )
        archives.download(directory)
    return next((place for place in places if place.is_dir()), places[0])


def _list(folder: Path, classes: tuple[str, ...], suffix: str) -> dict[str, list[Path]]:
    """Return the recordings of each class, checked to be nothing else; hidden ones do not count."""
    found = {path.name for path in _visible(folder)}
    differing = sorted(found ^ set(classes))
    if differing:
        what = "does not belong here" if differing[0] in found else "is missing"
        raise DataError(
            f"{folder}: '{differing[0]}' {what}; it holds the folders {', '.join(classes)}"
        )
    by_class = {name: _visible(folder / name) for name in classes}
    for name, entries in by_class.items():
        for entry in entries:
            if entry.suffix != suffix:
                raise DataError(f"{entry}: this is not a recording ({suffix}); remove it")
        if len(entries) < MIN_PER_CLASS:
            raise DataError(
                f"{folder / name}: recordings: {len(entries)}; the last tenth of each class is for "
                f"testing, so {MIN_PER_CLASS} or more are needed"
            )
    return by_class


def _visible(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if entry.name[0] != ".")
    except OSError as error:
        raise DataError(f"{folder}: it cannot be read ({error.strerror})") from None


def _check(file: Path, timesteps: int | None) -> bytes:
    """Return what identifies a recording; refuse one without an event for each timestep.

    Parameters
    ----------
    timesteps : None for spikingjelly's conversion, which is checked when it is read
    """
    try:
        with open_regular(file) as stream:
            size = os.fstat(stream.fileno()).st_size
            head = stream.read(LONGEST_HEADER)
            stream.seek(max(0, size - ENDS))
            tail = stream.read()
    except OSError as error:
        raise DataError(f"{file}: it cannot be read ({error.strerror})") from None
    if timesteps is not None:
        _check_events(file, size, head, timesteps)
    elif not size:
        raise DataError(f"{file}: it is empty; delete events_np/")
    return f"{size}\n".encode() + hashlib.sha256(head[:ENDS] + tail).digest()


def _check_events(file: Path, size: int, head: bytes, timesteps: int) -> None:
    if not head:
        raise DataError(f"{file}: it is empty, not a recording; replace it")
    if not head.startswith(MAGIC):
        raise DataError(
            f"{file}: it begins with {head[:12].decode('latin-1')!a}, a recording with "
            f"'{MAGIC.decode()}'; replace it"
        )
    try:
        start = _header_length(head)
    except ValueError as error:
        raise DataError(f"{file}: it is damaged ({error}); replace it") from None
    events, rest = divmod(size - start, RECORD)
    if rest:
        raise DataError(
            f"{file}: {rest} of the {RECORD} bytes of its last event are there; replace it"
        )
    if not events:
        raise DataError(f"{file}: it has no events; replace it")
    _check_number(file, events, timesteps)


def _check_number(file: Path, events: int, timesteps: int) -> None:
    if events < timesteps:
        raise DataError(
            f"{file}: {events} events for {timesteps} timesteps; replace it, or lower the timesteps"
        )


def _header_length(content: bytes) -> int:
    """Return where the events begin: behind all lines that begin with #.

    An event does not: its first byte is 0, as addresses have 16 bits.
    """
    position = 0
    while content[position : position + 1] == b"#":
        end = content.find(b"\n", position, LONGEST_HEADER)
        if end < 0:
            raise ValueError("its header has no end")
        position = end + 1
    return position


def _from_aedat(content: bytes) -> Events:
    """Decode AEDAT 2.0 of a DVS128, with axes and polarity as spikingjelly turns them."""
    records = np.frombuffer(content, dtype=">u4", offset=_header_length(content)).reshape(-1, 2)
    address, time = records.astype(np.int64).T
    return {
        "t": time,
        "x": SENSOR - 1 - (address >> 8) % SENSOR,
        "y": SENSOR - 1 - (address >> 1) % SENSOR,
        "p": 1 - address % 2,
    }


def _from_arrays(content: bytes) -> Events:
    with np.load(io.BytesIO(content)) as arrays:
        events = {name: arrays[name].astype(np.int64) for name in ("t", "x", "y", "p")}
    if len({len(column) for column in events.values()}) != 1 or not len(events["t"]):
        raise ValueError("no events, or columns of different lengths")
    for name, most in (("x", SENSOR - 1), ("y", SENSOR - 1), ("p", 1)):
        if events[name].min() < 0 or events[name].max() > most:
            raise ValueError(f"{name} beyond 0 to {most}")
    return events
