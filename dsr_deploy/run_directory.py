"""The directory that holds everything a network ever was; each stage reads the one before.

::

    runs/<name>/
      config.json                 the resolved configuration, the data, versions, the command line
      checkpoint/                 latest.safetensors (all that a resume needs), best.safetensors
                                  (the network that later stages take)
      metrics.jsonl, tensorboard/ one line, and one event, per epoch
      result.json                 how the network was chosen, and what it does on the test set
      quantized-<bits>/           network.safetensors, row.json: the float -> bits accuracy row
      export/<target>/            what a chip or another tool reads; manifest.json
      reports/                    what simulate and report found
    runs/latest                   link to the newest run
"""

from __future__ import annotations

import errno
import itertools
import os
import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dsr_deploy import config, files
from dsr_deploy.errors import UserError

RUNS = Path("runs")
LATEST = RUNS / "latest"


@dataclass(frozen=True)
class RunDirectory:
    """Paths of the parts of a run."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def result(self) -> Path:
        return self.path / "result.json"

    @property
    def latest_checkpoint(self) -> Path:
        return self.path / "checkpoint" / "latest.safetensors"

    @property
    def best_checkpoint(self) -> Path:
        return self.path / "checkpoint" / "best.safetensors"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def reports(self) -> Path:
        return self.path / "reports"

    def quantized(self, bits: int) -> Path:
        return self.path / f"quantized-{bits}"

    def export(self, target: str) -> Path:
        return self.path / "export" / target

    def command(self, stage: str) -> str:
        """Return the line that runs ``stage``, with --run unless this is the newest run."""
        newest = LATEST.exists() and LATEST.samefile(self.path)
        return f"dsr-deploy {stage}" + ("" if newest else f" --run {shlex.quote(str(self.path))}")

    def refuse_another(self) -> None:
        """Make sure that no run has begun here.

        Raises
        ------
        UserError
            If one has, whole or damaged.
        """
        if self.config.exists():
            config.read(self.config)  # a damaged one cannot be continued, and says so
            raise UserError(
                f"{self.path}: holds a run already; continue it with --resume, or name another "
                "directory"
            )

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Train as the only process that does.

        The lock ends with the process, however that ends, on file systems that have ``flock``.

        Raises
        ------
        UserError
            If another process trains here, or the directory cannot be written.
        """
        from filelock import FileLock, Timeout  # every command would wait for it

        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                f"{self.path}: another process trains here now; let it end, or name another "
                "directory with --run DIR"
            ) from None
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written ({error.strerror})") from None
        try:
            yield
        finally:
            lock.release()

    def quantized_bits(self, bits: int | None) -> int:
        """Return ``bits`` if that width was quantized, or the newest width if None.

        Raises
        ------
        UserError
            If there is no such quantized network.
        """
        found = sorted(
            (path.stat().st_mtime_ns, int(path.parent.name.removeprefix("quantized-")))
            for path in self.path.glob("quantized-*/network.safetensors")
            if path.parent.name.removeprefix("quantized-").isdecimal()
        )
        widths = [width for _, width in found]
        if bits is None and widths:
            return widths[-1]
        if bits is None or bits not in widths:
            asked = "no quantized network" if bits is None else f"no network of {bits} bits"
            have = f" (found: {', '.join(map(str, sorted(widths)))})" if widths else ""
            command = self.command(f"quantize --bits {bits or 4}")
            raise UserError(f"{self.path}: {asked}{have}; run `{command}` first")
        return bits


def create(path: Path | None, name: str) -> RunDirectory:
    """Make the directory of a new run, ``runs/<name>`` unless ``path`` is given.

    Raises
    ------
    UserError
        If ``path`` holds a run already, whole or damaged, or cannot be written.
    """
    if path is None:
        return RunDirectory(_make_first(_numbered(RUNS / name)))
    RunDirectory(path).refuse_another()
    files.make_folder(path)
    if not os.access(path, os.W_OK):
        raise UserError(f"{path}: cannot be written (Permission denied)")
    return RunDirectory(path)


def point_latest(run: RunDirectory) -> None:
    """Let ``runs/latest`` point to ``run``, so that later commands find it without a path.

    Raises
    ------
    UserError
        If the link cannot be made, or something else has its name.
    """
    temporary = RUNS / f".latest.{os.getpid()}"
    try:
        if LATEST.exists() and not LATEST.is_symlink():
            raise FileExistsError(errno.EEXIST, "it is not a link")
        RUNS.mkdir(exist_ok=True)
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(os.path.relpath(run.path.resolve(), RUNS.resolve()))
        os.replace(temporary, LATEST)
    except OSError as error:
        raise UserError(f"{LATEST}: cannot be written ({error.strerror})") from None


def find(path: Path | None) -> RunDirectory:
    """Return the run at ``path``, or the newest one.

    Raises
    ------
    UserError
        If there is none.
    """
    run = RunDirectory(path if path is not None else LATEST)
    if not run.config.exists():
        where = f"{run.path}: no run here" if path is not None else "no run in this directory yet"
        raise UserError(f"{where}; run `dsr-deploy train` first, or name a run with --run DIR")
    return RunDirectory(run.path.resolve()) if path is None else run


def _make_first(paths: Iterable[Path]) -> Path:
    """Make the first folder of ``paths`` that is not there, and nobody else makes meanwhile."""
    for path in paths:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _not_made(path.parent, error) from None
        try:
            path.mkdir()
        except FileExistsError:
            continue
        except OSError as error:
            raise _not_made(path, error) from None
        return path
    raise AssertionError("no path is free")


def _not_made(path: Path, error: OSError) -> UserError:
    return UserError(f"{path}: cannot be made ({error.strerror}); name a directory with --run DIR")


def _numbered(path: Path) -> itertools.chain[Path]:
    later = (path.with_name(f"{path.name}-{number}") for number in itertools.count(2))
    return itertools.chain([path], later)
