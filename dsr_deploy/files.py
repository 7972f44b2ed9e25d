"""Write files completely or not at all, and read them with checks."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from pathlib import Path
from typing import Any, Final

from dsr_deploy.errors import UserError
from dsr_deploy.hardware.format import json_text
from dsr_deploy.hardware.format.regular_file import open_regular, read_regular

MAX_JSON: Final = 64 << 20
"""Most bytes of a JSON file; Python's objects of it take up to twenty times as much memory."""
MAX_LINES: Final = 256 << 20
"""Most bytes of a file with a JSON value per line."""


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` through a temporary name, flushed to disk, then renamed.

    A missing folder is created, but none above it: a run that was moved is not created again under
    its old name.

    Raises
    ------
    UserError
        If the directory cannot be created or written.
    """
    try:
        path.parent.mkdir(exist_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        try:
            write_flushed(temporary, data)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from None


def write_flushed(path: Path, data: bytes) -> None:
    """Write a new file and flush it to disk; the umask decides who may read it."""
    with open(path, "xb") as file:  # not by tempfile, whose files are for their owner alone
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def flush_folder(path: Path) -> None:
    """Flush the names in a folder to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, completely or not at all."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, completely or not at all."""
    write_bytes(path, to_json(value))


def to_json(value: Any) -> bytes:
    """Return ``value`` as indented JSON in UTF-8."""
    return (json.dumps(value, indent=2) + "\n").encode()


def read_bytes(path: Path, most: int) -> bytes:
    """Read a regular file of at most ``most`` bytes.

    Raises
    ------
    UserError
        If it cannot be read, is larger, or is not a regular file.
    """
    try:
        return read_regular(path, most)
    except OSError as error:
        raise unreadable(path, error) from None


def read_json(path: Path) -> Any:
    """Return the value in a JSON file.

    Raises
    ------
    UserError
        If it cannot be read or is not JSON; see :func:`dsr_deploy.hardware.format.json_text.parse`.
    """
    try:
        return json_text.parse(read_bytes(path, MAX_JSON))
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error}); run its stage again") from None


def read_json_lines(path: Path) -> list[Any]:
    """Return the values in a file with one per line.

    Raises
    ------
    UserError
        As :func:`read_json`; names the line.
    """
    values = []
    for number, line in enumerate(read_bytes(path, MAX_LINES).split(b"\n"), start=1):
        try:
            values += [json_text.parse(line)] if line else []
        except ValueError as error:  # noqa: PERF203
            raise UserError(
                f"{path}: line {number} is not valid JSON ({error}); run its stage again"
            ) from None
    return values


def digest(path: Path) -> str:
    """Return the SHA-256 of a regular file, in hexadecimal.

    Raises
    ------
    UserError
        If it cannot be read.
    """
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: OSError) -> UserError:
    """Return the error of a file that cannot be opened or read."""
    return UserError(f"{path}: cannot be read ({error.strerror})")


def at_home(path: str | Path) -> Path:
    """Return ``path`` with a leading ``~/`` replaced by the user's home.

    Shells leave it in ``--run=~/x``. Only ``~/`` is replaced: ``~old`` is the name of a folder.

    Raises
    ------
    UserError
        If the home is not known.
    """
    text = os.fspath(path)
    if text != "~" and not text.startswith("~/"):
        plain = Path(text)
        # "./~/x" is Path("~/x"), which must not pass for the home later
        return plain.absolute() if plain.parts[:1] == ("~",) else plain
    try:
        return Path.home() / text[2:]
    except RuntimeError:
        raise UserError(f"{path}: ~ has no home directory here; give the full path") from None


def make_folder(path: Path) -> None:
    """Create a folder and those above it.

    Raises
    ------
    UserError
        If it cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be created ({error.strerror})") from None
