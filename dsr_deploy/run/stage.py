"""The folder of a stage in a run: written completely or not at all, and checked when read.

Its ``manifest.json`` holds the stage's record and the SHA-256 of every other file, and is sealed
(:mod:`dsr_deploy.run.seal`). A new folder is written beside the old one, flushed, and replaces it
in two renames. A kill leaves folders with names of their own, which only :func:`put_in_order` reads
and, between the two renames, :func:`read`::

    .quantized-4.<16 digits>        not finished
    .quantized-4.<16 digits>.old    the folder before, set aside
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dsr_deploy import files
from dsr_deploy.errors import UserError
from dsr_deploy.hardware.format import json_text
from dsr_deploy.hardware.format.regular_file import read_regular
from dsr_deploy.run.seal import KEY, is_whole, seal

MANIFEST: Final = "manifest.json"
MAX_FILE: Final = 1 << 30
"""Most bytes of a file that is read."""
LEFTOVER: Final = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{16}(?P<old>\.old)?")


@dataclass(frozen=True)
class Stage:
    """Files read from a stage.

    Attributes
    ----------
    record : its manifest
    content : the requested files, by name
    """

    folder: Path
    record: dict[str, Any]
    content: dict[str, bytes]

    def digest(self, name: str) -> str:
        """Return the SHA-256 of a file, in hexadecimal."""
        return str(self.record["files"][name])

    def json(self, name: str) -> Any:
        """Return the value in a JSON file."""
        return json.loads(self.content[name])


def write(run: Path, place: str, content: Mapping[str, bytes], record: Mapping[str, Any]) -> None:
    """Write a stage completely or not at all; other files in its folder stay.

    Parameters
    ----------
    run : the run's directory, which must exist
    place : the folder in it, such as ``export/loihi``
    content : the files, by name
    record : JSON values for the manifest

    Raises
    ------
    UserError
        If it cannot be written; the earlier stage is then still there.
    """
    folder = run / place
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}
    manifest = seal({"stage": place, **record, "files": digests})
    try:
        target = folder.resolve()  # it may be a link to another disk
        if folder.parent != run:
            folder.parent.mkdir(exist_ok=True)
        fresh = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
        fresh.mkdir()
        try:
            for name, data in content.items():
                files.write_flushed(fresh / name, data)
            files.write_flushed(fresh / MANIFEST, files.to_json(manifest))
            if target.is_dir():
                shutil.copymode(target, fresh)
                _keep_others(target, fresh)
            files.flush_folder(fresh)
            _put_in_place(fresh, target)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    except OSError as error:
        why = error.strerror or error
        raise UserError(
            f"{folder}: cannot be written ({why}); the earlier files are kept"
        ) from None


def _keep_others(old: Path, new: Path) -> None:
    """Keep the files that a user, or another stage, put beside the stage's files."""
    own = {MANIFEST}
    with contextlib.suppress(UserError, TypeError, KeyError):
        own |= set(files.read_json(old / MANIFEST)["files"])
    for path in old.iterdir():
        if path.name in own or (new / path.name).exists() or LEFTOVER.fullmatch(path.name):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.copytree(path, new / path.name, symlinks=True, copy_function=_link)
        else:
            _link(path, new / path.name)


def _link(old: str | Path, new: str | Path) -> None:
    """Hard-link a file, or copy it where hard links are impossible."""
    try:
        os.link(old, new, follow_symlinks=False)
    except OSError:
        shutil.copy2(old, new, follow_symlinks=False)


def _put_in_place(fresh: Path, target: Path) -> None:
    aside = fresh.with_name(f"{fresh.name}.old")
    if target.exists() and not target.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    try:
        if target.exists():
            os.rename(target, aside)
        os.rename(fresh, target)
    except BaseException:
        if aside.exists() and not target.exists():
            os.rename(aside, target)
        raise
    with contextlib.suppress(OSError):  # it is in its place
        files.flush_folder(target.parent)
    shutil.rmtree(aside, ignore_errors=True)


def read(run: Path, place: str, *names: str, again: str) -> Stage:
    """Read files of a stage that were written together.

    Parameters
    ----------
    again : the command that writes the stage

    Raises
    ------
    UserError
        If a file is missing, or not the one that the stage wrote.
    """
    folder = run / place
    try:
        return _read(folder, folder, place, names, again)
    except UserError as error:
        # A new folder may be replacing it right now, or the process that did was killed.
        for where in (folder, *_set_aside(folder), folder):
            with contextlib.suppress(UserError):
                return _read(where, folder, place, names, again)
        raise error from None


def is_there(run: Path, place: str) -> bool:
    """Whether a stage was written, even if it is damaged."""
    folder = run / place
    return folder.exists() or bool(_set_aside(folder)) or folder.exists()


def _read(where: Path, folder: Path, place: str, names: tuple[str, ...], again: str) -> Stage:
    """Read a stage whose files are in ``where`` at the moment."""
    manifest = folder / MANIFEST
    record = _manifest(where, folder, again)
    if (stage := record.get("stage")) != place:
        raise UserError(f"{manifest}: it belongs to {stage}, not to {place}; run `{again}` again")
    content = {}
    for name in names:
        path = folder / name
        data = _bytes(where / name, path, again)
        if hashlib.sha256(data).hexdigest() != record["files"].get(name):
            raise UserError(
                f"{path}: damaged, or not written together with {MANIFEST}; run `{again}` again"
            )
        content[name] = data
    return Stage(folder, record, content)


def _manifest(where: Path, folder: Path, again: str) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        record = json_text.parse(_bytes(where / MANIFEST, path, again))
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error}); run `{again}` again") from None
    if not isinstance(record, dict) or KEY not in record or "files" not in record:
        raise UserError(f"{path}: it has no checksum; run `{again}` again")
    if not is_whole(record):
        raise UserError(f"{path}: its checksum does not match; run `{again}` again")
    if not isinstance(record["files"], dict):
        raise UserError(f"{path}: it names no files; run `{again}` again")
    return record


def _bytes(where: Path, named: Path, again: str) -> bytes:
    try:
        return read_regular(where, MAX_FILE)
    except FileNotFoundError:
        raise UserError(f"{named}: not there; run `{again}` again") from None
    except OSError as error:
        raise UserError(
            f"{named}: cannot be read ({error.strerror}); run `{again}` again"
        ) from None


def _set_aside(folder: Path) -> list[Path]:
    """Return old folders that were set aside, if the new folder is not in place yet."""
    target = folder.resolve()
    if target.exists():
        return []
    return [path for path, name, old in _leftovers(target.parent) if old and name == target.name]


def _leftovers(parent: Path) -> list[tuple[Path, str, bool]]:
    """Return leftovers of interrupted writes: path, stage, and whether it was set aside."""
    try:
        paths = sorted(parent.iterdir())
    except OSError:
        return []
    matches = [(path, LEFTOVER.fullmatch(path.name)) for path in paths]
    return [(path, found["name"], bool(found["old"])) for path, found in matches if found]


def put_in_order(parent: Path, only: str | None = None) -> None:
    """Remove unfinished folders, and put back old ones that were set aside.

    Call it only in a process that holds the folder, or holds what is named ``only``.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    for path, name, old in _leftovers(parent):
        if only not in (None, name):
            continue
        if old and not (parent / name).exists():
            os.rename(path, parent / name)
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def check_writable(folder: Path) -> None:
    """Make sure that a folder, or the nearest existing one above it, can be written.

    Raises
    ------
    UserError
        If it cannot be, or a file is in its place.
    """
    try:
        try_to_write(folder)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror})") from None


def try_to_write(folder: Path) -> None:
    """Raise OSError if a folder, or the nearest existing one above it, cannot be written."""
    while not folder.exists():
        folder = folder.parent
    trial = folder / f".trial.{secrets.token_hex(8)}"  # is put in order if it stays
    trial.mkdir()
    trial.rmdir()
