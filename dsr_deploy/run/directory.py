"""The directory that holds all stages of a network; each stage reads the one before.

::

    runs/<name>/
      config.json                 the resolved configuration, the data, versions, the command line
      checkpoint/                 latest.safetensors (everything that a resume needs),
                                  best.safetensors (the network that later stages read)
      metrics.jsonl, tensorboard/ one line, and one event, per epoch
      result.json                 how the network was chosen, and its accuracy on the test set
      quantized-<bits>/           network.safetensors, row.json: the float -> bits accuracy row
      export/<target>/            files for a chip or another tool
      reports/                    the results of simulate and report
    runs/latest                   link to the newest run

The last three are stages (:mod:`dsr_deploy.run.stage`): each has a sealed ``manifest.json``.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import secrets
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dsr_deploy import files
from dsr_deploy.errors import UserError
from dsr_deploy.parallel.rank import this_rank
from dsr_deploy.progress import Progress
from dsr_deploy.run import config, records, stage
from dsr_deploy.run.records import Record
from dsr_deploy.run.stage import Stage

RUNS = Path("runs")
LATEST = RUNS / "latest"
FIRST: Final = "run `dsr-deploy train` first, or name a run with --run DIR"
NAME_IT: Final = "name a run with --run DIR, or train again"


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
        """Return the command that runs ``stage``, with --run unless this is the newest run."""
        newest = LATEST.exists() and LATEST.samefile(self.path)
        return f"dsr-deploy {stage}" + ("" if newest else f" --run {shlex.quote(str(self.path))}")

    def refuse_another(self) -> None:
        """Make sure that no run has begun here.

        Raises
        ------
        UserError
            If one has, intact or damaged.
        """
        if self.config.exists():
            config.read(self.config)  # raises if it is damaged and cannot be continued
            raise UserError(
                f"{self.path}: already holds a run; continue it with --resume, or name another "
                "directory"
            )

    def read(self, place: str, *names: str) -> Stage:
        """Read files of a stage, such as ``export/loihi``, as they were written together.

        Raises
        ------
        UserError
            If one is missing, or not the one that the stage wrote; names the command to run again.
        """
        kind, _, what = place.replace("-", "/").partition("/")
        stages = {"quantized": f"quantize --bits {what}", "export": f"export --target {what}"}
        command = stages.get(kind, "simulate")
        return stage.read(self.path, place, *names, again=self.command(command))

    def read_record(self, kind: type[Record], place: str, name: str) -> Record:
        """Read a JSON file of a stage as the dataclass ``kind``.

        Raises
        ------
        UserError
            As :meth:`read` and :func:`dsr_deploy.run.records.read` do.
        """
        written = self.read(place, name)
        return records.read(kind, written.json(name), str(written.folder / name))

    def quantized_bits(self, bits: int | None) -> int:
        """Return ``bits`` if that width was quantized; with None, the width quantized last.

        Raises
        ------
        UserError
            If there is no such quantized network.
        """
        widths = self.widths()
        if bits is None and widths:
            return max(widths, key=self._sequence)
        if bits is None or bits not in widths:
            asked = "no quantized network" if bits is None else f"no network of {bits} bits"
            have = f" (found: {', '.join(map(str, widths))})" if widths else ""
            command = self.command(f"quantize --bits {bits or 4}")
            raise UserError(f"{self.path}: {asked}{have}; run `{command}` first")
        return bits

    def widths(self) -> list[int]:
        """Return the widths that were quantized, in ascending order."""
        return [bits for bits in range(2, 9) if stage.is_there(self.path, f"quantized-{bits}")]

    def next_sequence(self) -> int:
        """Return the sequence number for the next width.

        File times do not give the order after a copy, or after the clock was set back.
        """
        numbers = [0]
        for bits in self.widths():
            with contextlib.suppress(UserError):  # damaged: reported when it is read
                numbers.append(self._sequence(bits))
        return max(numbers) + 1

    def _sequence(self, bits: int) -> int:
        return int(self.read(f"quantized-{bits}").record.get("sequence", 0))


def create(path: Path | None, name: str) -> RunDirectory:
    """Create the directory of a new run, ``runs/<name>`` unless ``path`` is given.

    Raises
    ------
    UserError
        If ``path`` already holds a run, intact or damaged, or cannot be written.
    """
    if path is None:
        return RunDirectory(_create_first(_numbered(RUNS / name)))
    RunDirectory(path).refuse_another()
    files.make_folder(path)
    if not os.access(path, os.W_OK):
        raise UserError(f"{path}: cannot be written (Permission denied)")
    return RunDirectory(_without_links(path))


@contextlib.contextmanager
def beginning(path: Path | None, name: str) -> Iterator[RunDirectory]:
    """Create the directory of a new run, and remove it again if its training could not begin.

    The first of several processes does both; the others yield the same directory.

    Raises
    ------
    UserError
        As :func:`create`, or if several processes have no ``path`` to agree on.
    """
    rank = this_rank()
    if rank.world > 1 and path is None:
        raise UserError("several processes need the same directory; name it with --run DIR")
    if path is not None and not rank.first:
        yield RunDirectory(path)
        return
    place = path or RUNS
    new = [folder for folder in (place, *place.parents) if not folder.exists()]
    run = create(path, name)
    try:
        yield run
    finally:
        if not run.config.exists():
            for empty in [run.path] * (path is None) + new:
                with contextlib.suppress(OSError):
                    empty.rmdir()


def default_name(settings: config.Config, dataset: str | None = None) -> str:
    """Return the name of a new run, such as ``digits-resnet-tiny-if-t8``.

    Parameters
    ----------
    dataset : the name of the data set, if it is not that of ``settings``
    """
    return (
        f"{dataset or settings.dataset}-{settings.network}-{settings.neuron}-t{settings.timesteps}"
    )


def link_latest(run: RunDirectory, progress: Progress) -> None:
    """Let ``runs/latest`` point to ``run``, or note that the link could not be created.

    The link is a convenience, so a training goes on without it. It is created when a training
    begins, so that one that is killed is found again.
    """
    try:
        point_latest(run)
    except UserError as error:
        progress.note(f"{error}; later commands need --run {run.path}")


def point_latest(run: RunDirectory) -> None:
    """Let ``runs/latest`` point to ``run``, so that later commands find it without a path.

    Raises
    ------
    UserError
        If the link cannot be created, or something else has its name.
    """
    temporary = RUNS / f".latest.{secrets.token_hex(8)}"
    try:
        if LATEST.exists() and not LATEST.is_symlink():
            raise FileExistsError(errno.EEXIST, "it is not a link")
        RUNS.mkdir(exist_ok=True)
        temporary.symlink_to(os.path.relpath(run.path.resolve(), RUNS.resolve()))
        with contextlib.suppress(FileNotFoundError):  # a training that began just now removed it
            os.replace(temporary, LATEST)
        for leftover in RUNS.glob(".latest.*"):  # of a process that was killed here
            leftover.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{LATEST}: cannot be written ({error.strerror})") from None


def find(path: Path | None) -> RunDirectory:
    """Return the run at ``path``, or the newest one.

    Raises
    ------
    UserError
        If there is none.
    """
    if path is None:
        return RunDirectory(_latest().resolve())
    if not RunDirectory(path).config.exists():
        raise UserError(f"{path}: no run here; {FIRST}")
    return RunDirectory(_without_links(path))


def _latest() -> Path:
    """Return the link to the newest run, after checking where it leads."""
    if LATEST.is_symlink():
        where = f"{LATEST}: leads to {os.readlink(LATEST)!r}, "
        if not LATEST.exists():
            raise UserError(f"{where}which is not there (moved or removed?); {NAME_IT}")
        if not RunDirectory(LATEST).config.exists():
            raise UserError(f"{where}which holds no run; {NAME_IT}")
    elif LATEST.exists():
        raise UserError(f"{LATEST}: not the link that `dsr-deploy train` creates; {NAME_IT}")
    else:
        raise UserError(f"no run in this directory yet; {FIRST}")
    return LATEST


def _without_links(path: Path) -> Path:
    """Return a path that leads to the same directory even if a link in it is changed."""
    real = path.resolve()
    return path if real == Path(os.path.abspath(path)) else real


def _create_first(paths: Iterable[Path]) -> Path:
    """Create and return the first folder of ``paths`` that does not exist."""
    for path in paths:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _not_created(path.parent, error) from None
        try:
            path.mkdir()
        except FileExistsError:
            continue
        except OSError as error:
            raise _not_created(path, error) from None
        return path
    raise AssertionError("no path is free")


def _not_created(path: Path, error: OSError) -> UserError:
    return UserError(
        f"{path}: cannot be created ({error.strerror}); name a directory with --run DIR"
    )


def _numbered(path: Path) -> itertools.chain[Path]:
    later = (path.with_name(f"{path.name}-{number}") for number in itertools.count(2))
    return itertools.chain([path], later)
