"""Hold a run, so that one process at a time works in it.

Before the work, holding a run checks that the results can be written, and clears what an
interrupted process left. Nothing is written once the run's name leads to another directory.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dsr_deploy import files
from dsr_deploy.errors import UserError
from dsr_deploy.hardware.errors import HardwareError
from dsr_deploy.run import stage
from dsr_deploy.run.directory import RunDirectory

LOCK: Final = ".lock"
FOLDERS: Final = (".", "checkpoint", "export", "reports")
"""Where files and stages are written."""


@dataclass(frozen=True)
class Held:
    """A run that only this process writes to.

    Attributes
    ----------
    directory : open descriptor of the run's directory; as long as it is open, no other has its
        inode number
    command : the command to run again if the run has moved
    """

    run: RunDirectory
    directory: int
    command: str

    def check(self) -> None:
        """Make sure that the run's name still leads to the directory in which the work began.

        Raises
        ------
        UserError
            If it was moved, removed or replaced.
        """
        if not self._same():
            raise UserError(
                f"{self.run.path}: no longer the directory where this work began (moved, removed "
                "or replaced?), so nothing more was written; run "
                f"`dsr-deploy {self.command} --run DIR` with DIR where it is now"
            )

    def _same(self) -> bool:
        try:
            return os.path.samestat(os.stat(self.run.path), os.fstat(self.directory))
        except OSError:
            return False

    def write_bytes(self, path: Path, data: bytes) -> None:
        """Write a file of the run completely or not at all; UserError if it cannot be written."""
        self.check()
        files.write_bytes(path, data)

    def write_stage(
        self, place: str, content: Mapping[str, bytes], record: Mapping[str, Any]
    ) -> None:
        """Write a stage as :func:`dsr_deploy.run.stage.write` does."""
        self.check()
        stage.write(self.run.path, place, content, record)


@contextmanager
def hold(run: RunDirectory, command: str, *places: str) -> Iterator[Held]:
    """Hold ``run`` while the block runs.

    The lock ends with the process, even one that is killed, on file systems with ``flock``.

    Parameters
    ----------
    command : the command that works, as a user types it after ``dsr-deploy``
    places : folders in the run that it will write

    Raises
    ------
    UserError
        If another process works here, a folder cannot be written, or the run is moved meanwhile.
    """
    from filelock import FileLock, Timeout  # every command would wait for it

    try:
        directory = os.open(run.path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise UserError(f"{run.path}: cannot be read ({error.strerror})") from None
    held = Held(run, directory, command)
    lock = FileLock(run.path / LOCK)
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, directory)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                f"{run.path}: another process is working here; wait for it, or name another "
                "directory with --run DIR"
            ) from None
        except OSError as error:
            raise _read_only(run.path, error) from None
        stack.callback(lock.release)
        stack.callback(_forget, run)
        _make_ready(run, places)
        try:
            yield held
        except (UserError, HardwareError, OSError):
            held.check()  # what went wrong is the consequence
            raise


def _make_ready(run: RunDirectory, places: tuple[str, ...]) -> None:
    """Clear what an interrupted process left, and check that ``places`` can be written."""
    place = run.path
    try:
        for name in FOLDERS:
            place = run.path / name
            stage.put_in_order(place)
        stage.try_to_write(place := run.path)
        for name in places:
            place = run.path / name
            target = place.resolve()  # it may be a link to another disk
            stage.put_in_order(target.parent, target.name)
            stage.try_to_write(target)
            stage.try_to_write(target.parent)
    except OSError as error:
        raise _read_only(place, error) from None


def _read_only(path: Path, error: OSError) -> UserError:
    return UserError(
        f"{path}: cannot be written ({error.strerror}); make it writable, or copy the run and name "
        "the copy with --run DIR"
    )


def _forget(run: RunDirectory) -> None:
    """Remove the lock's file if no run has begun, so that nothing of the attempt stays."""
    if not run.config.exists():
        with contextlib.suppress(OSError):
            (run.path / LOCK).unlink()
