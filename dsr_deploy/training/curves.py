"""A training's curves as an event file for TensorBoard, where that is installed.

Written without TensorBoard's own writer, whose thread opens the file by its name for each event and
prints a traceback where that fails.
"""

from __future__ import annotations

import importlib.util
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsr_deploy.errors import UserError


@dataclass(frozen=True)
class Curves:
    """An open event file."""

    path: Path
    records: Any  # a RecordWriter of TensorBoard

    def add(self, epoch: int, values: Mapping[str, float]) -> None:
        """Write the values of an epoch, by name.

        Raises
        ------
        UserError
            If the file cannot be written.
        """
        from tensorboard.compat.proto.summary_pb2 import Summary

        entries = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        with _errors_of(self.path):
            self._write(step=epoch, summary=Summary(value=entries))

    def _write(self, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self.records.write(Event(wall_time=time.time(), **content).SerializeToString())
        self.records.flush()


def tensorboard_installed() -> bool:
    """Return whether TensorBoard, which an extra brings, is here."""
    return importlib.util.find_spec("tensorboard") is not None


@contextmanager
def write_curves(folder: Path, first: int) -> Iterator[Curves]:
    """Begin an event file in ``folder``.

    Parameters
    ----------
    first : epoch that is written first; TensorBoard forgets it and later ones of earlier files

    Raises
    ------
    UserError
        If it cannot be written.
    """
    from tensorboard.compat.proto.event_pb2 import SessionLog
    from tensorboard.summary.writer.record_writer import RecordWriter

    with _errors_of(folder):
        folder.mkdir(exist_ok=True)
        file = (folder / _next_name(folder)).open("xb")
    curves = Curves(folder, RecordWriter(file))
    try:
        with _errors_of(folder):
            curves._write(file_version="brain.Event:2")
            curves._write(step=first, session_log=SessionLog(status=SessionLog.START))
        yield curves
    finally:
        with _errors_of(folder):
            file.close()


def _next_name(folder: Path) -> str:
    """Return a name behind all others, in whose order TensorBoard reads; clocks may go back."""
    numbers = [path.name.split(".")[3] for path in folder.glob("events.out.tfevents.*.*")]
    number = 1 + max((int(text) for text in numbers if text.isdecimal()), default=0)
    return f"events.out.tfevents.{number:010}.{socket.gethostname()}.{os.getpid()}"


@contextmanager
def _errors_of(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written ({error.strerror}); make room for it, then continue with "
            "--resume"
        ) from None
