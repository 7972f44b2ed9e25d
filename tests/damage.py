"""Ways in which a file can be other than it was written."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

DEEP = b"[" * 20_000 + b"]" * 20_000
ODD_JSON = (
    b"",
    b"null",
    b"[]",
    b"{}",
    b'"x"',
    b"NaN",
    b"1e999",
    DEEP,
    b'{"a":1,"a":2}',
    b"\xff\xfe",
)
ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**53, 10**400, 0.5, -0.5, 1e308, "", "x", "\x1b[31m\n",
    "y" * 5000, [], [0], {}, {"x": 1},
)  # fmt: skip


@dataclass(frozen=True)
class Damage:
    """What is done to a file, and in words what it was."""

    words: str
    apply: Callable[[Path], None]
    flip: bool = False

    def __repr__(self) -> str:
        return self.words


def damages(size: int, others: list[Path]) -> st.SearchStrategy[Damage]:
    """Return damages of a file of ``size`` bytes; ``others`` may take its place."""
    positions = st.integers(0, max(size - 1, 0))
    return st.one_of(
        st.tuples(positions, st.integers(0, 7)).map(_flip),
        positions.map(_cut),
        st.tuples(positions, st.binary(min_size=1, max_size=40)).map(_overwrite),
        st.binary(min_size=1, max_size=40).map(_append),
        st.sampled_from(ODD_JSON).map(_become),
        st.sampled_from(others).map(_replace),
        st.sampled_from([*_KINDS]).map(lambda kind: Damage(kind, _KINDS[kind])),
    )


def flips(size: int) -> st.SearchStrategy[Damage]:
    """Return all flips of a single bit."""
    return st.tuples(st.integers(0, size - 1), st.integers(0, 7)).map(_flip)


def _flip(place: tuple[int, int]) -> Damage:
    at, bit = place

    def apply(path: Path) -> None:
        data = bytearray(path.read_bytes())
        if data:
            data[at] ^= 1 << bit
        path.write_bytes(data)

    return Damage(f"bit {bit} of byte {at} flipped", apply, flip=True)


def _cut(size: int) -> Damage:
    return Damage(f"cut to {size} bytes", lambda path: os.truncate(path, size))


def _overwrite(change: tuple[int, bytes]) -> Damage:
    at, new = change

    def apply(path: Path) -> None:
        data = path.read_bytes()
        path.write_bytes(data[:at] + new + data[at + len(new) :])

    return Damage(f"{new!r} written at {at}", apply)


def _append(more: bytes) -> Damage:
    return Damage(f"{more!r} appended", lambda path: _write(path, path.read_bytes() + more))


def _become(data: bytes) -> Damage:
    return Damage(f"made {data[:20]!r}", lambda path: _write(path, data))


def _replace(other: Path) -> Damage:
    data = other.read_bytes()
    return Damage(f"replaced by {other.name}", lambda path: _write(path, data))


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _remove(path: Path) -> None:
    path.unlink()


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _link(target: str) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        path.unlink()
        path.symlink_to(path.name if target == "itself" else target)

    return apply


_KINDS: dict[str, Callable[[Path], None]] = {
    "removed": _remove,
    "made a FIFO": _fifo,
    "made a folder": _folder,
    "linked to itself": _link("itself"),
    "linked to nothing": _link("nothing"),
    "linked to /dev/zero": _link("/dev/zero"),
    "linked to /dev/null": _link("/dev/null"),
}


@st.composite
def changed_values(draw: st.DrawFn, path: Path) -> Damage:
    """Return another value of one entry of a JSON file, or its removal."""
    places = list(_places(json.loads(path.read_bytes())))
    keys = draw(st.sampled_from(places))
    remove = draw(st.booleans()) and draw(st.booleans())
    value = draw(st.sampled_from(ODD_VALUES))

    def apply(path: Path) -> None:
        whole = json.loads(path.read_bytes())
        inner = whole
        for key in keys[:-1]:
            inner = inner[key]
        if remove:
            del inner[keys[-1]]
        else:
            inner[keys[-1]] = value
        path.write_text(json.dumps(whole))

    done = "removed" if remove else f"made {str(value)[:20]!r}"
    return Damage(f"{'.'.join(map(str, keys))} {done}", apply)


def _places(value: Any, before: tuple[Any, ...] = ()) -> Any:
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = list(enumerate(value))[:3]
    for key, inner in items:
        yield (*before, key)
        yield from _places(inner, (*before, key))


def sealed_again(run: Path, path: Path) -> None:
    """Make the checksums of a run right for a file that was changed, as who means harm would."""
    from dsr_deploy.run import config, seal

    manifest = path.parent / "manifest.json"
    with contextlib.suppress(Exception):  # what is no JSON any more has no seal
        if path == run / "config.json":
            value = json.loads(path.read_bytes())
            path.write_text(json.dumps(value | {seal.KEY: config.checksum_of(value)}))
            return
        if path != manifest and manifest.exists():
            record = json.loads(manifest.read_bytes())
            record["files"][path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
            manifest.write_text(json.dumps(seal.seal(record)))
            return
        path.write_text(json.dumps(seal.seal(json.loads(path.read_bytes()))))
