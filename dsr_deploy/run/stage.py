"""A stage's folder in a run: it appears whole or not at all, and is read only as it was written.

``manifest.json`` in it holds what the stage says of itself and the SHA-256 of every other file, and
is sealed (:mod:`dsr_deploy.run.seal`). A new folder is written beside the old one, flushed, and
takes its place in two renames. What a kill leaves has a name of its own, which nobody reads but
:func:`put_in_order` and, between the two renames, :func:`read`::

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
    """What was read of a stage.

    Attributes
    ----------
    record : its manifest
    content : the files that were asked for, by name
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
    """Write a stage, whole or not at all; files of other names in its folder stay.

    Parameters
    ----------
    run : its directory, which must be there
    place : of the folder in it, such as ``export/loihi``
    content : the files, by name
    record : JSON values for the manifest

    Raises
    ------
    UserError
        If it cannot be written; then what was there before still is.
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
        raise UserError(f"{folder}: cannot be written ({why}); what was there is kept") from None


def _keep_others(old: Path, new: Path) -> None:
    """Take along what a user, or another stage, put beside the stage's files."""
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
    """Give a file a second name, or copy it where a file has one only."""
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
    """Read files of a stage, all of the same writing.

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
        # It may have changed places with a new one just now, or have been killed at that.
        for where in (folder, *_set_aside(folder), folder):
            with contextlib.suppress(UserError):
                return _read(where, folder, place, names, again)
        raise error from None


def is_there(run: Path, place: str) -> bool:
    """Whether a stage was written, whole or damaged."""
    folder = run / place
    return folder.exists() or bool(_set_aside(folder)) or folder.exists()


def _read(where: Path, folder: Path, place: str, names: tuple[str, ...], again: str) -> Stage:
    """Read a stage that lies in ``where`` for the time being."""
    manifest = folder / MANIFEST
    record = _manifest(where, folder, again)
    if (stage := record.get("stage")) != place:
        raise UserError(f"{manifest}: it is that of {stage}, not of {place}; run `{again}` again")
    content = {}
    for name in names:
        path = folder / name
        data = _bytes(where / name, path, again)
        if hashlib.sha256(data).hexdigest() != record["files"].get(name):
            raise UserError(
                f"{path}: damaged, or not the file that was written with {MANIFEST}; "
                f"run `{again}` again"
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
        raise UserError(f"{path}: its checksum does not match its content; run `{again}` again")
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
    """Return what was set aside for a new folder that is not in its place yet."""
    target = folder.resolve()
    if target.exists():
        return []
    return [path for path, name, old in _leftovers(target.parent) if old and name == target.name]


def _leftovers(parent: Path) -> list[tuple[Path, str, bool]]:
    """Return what has names of unfinished writes: path, whose it is, whether it was set aside."""
    try:
        paths = sorted(parent.iterdir())
    except OSError:
        return []
    matches = [(path, LEFTOVER.fullmatch(path.name)) for path in paths]
    return [(path, found["name"], bool(found["old"])) for path, found in matches if found]


def put_in_order(parent: Path, only: str | None = None) -> None:
    """Remove what was interrupted in a folder, and put back what it had set aside.

    Only for a process that alone writes there, or alone writes what has the name ``only``.

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
