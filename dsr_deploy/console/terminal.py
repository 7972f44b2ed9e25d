"""Progress for people: a bar on a terminal, plain lines where output goes to a file."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars

from dsr_deploy.progress import Task
from dsr_deploy.text import escaped

PLAIN_EVERY: Final = 30.0
"""Seconds between two plain lines about the same piece of work."""


class Terminal:
    """A :class:`dsr_deploy.progress.Progress` on standard error.

    Results go to standard output, so that they can be piped while progress is visible. If standard
    error cannot be written, the work continues.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or _console()
        self._bars = Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[text]}", markup=False),
            console=self._console,
            transient=True,
        )

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Task]:
        """Show a piece of work of ``total`` parts while the block runs."""
        if not self._console.is_terminal or self._console.is_dumb_terminal:
            yield _Lines(self, description, total)
            return
        bar = self._bars.add_task(escaped(description, keep=""), total=total, text="")
        self._bars.start()
        try:
            yield _Bar(self._bars, bar)
        finally:
            self._bars.remove_task(bar)
            if not self._bars.tasks:
                self._bars.stop()

    def note(self, text: str) -> None:
        """Print a permanent line above the bars."""
        self._console.print(escaped(text, keep=""), markup=False, highlight=False, soft_wrap=True)


class _Stream:
    """Standard error that ignores write errors."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.encoding = stream.encoding

    def write(self, text: str) -> int:
        """Write, if that is possible."""
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, if that is possible."""
        with contextlib.suppress(OSError):
            self._stream.flush()

    def isatty(self) -> bool:
        """Whether standard error is a terminal."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """Return the descriptor, from which rich reads the width."""
        return self._stream.fileno()


def _console() -> Console:
    # Bars are for terminals: FORCE_COLOR, which build servers set, would fill their logs with them.
    if sys.stderr is None:
        return Console(quiet=True)
    return Console(file=_Stream(sys.stderr), force_terminal=sys.stderr.isatty())  # type: ignore[arg-type]


class _Bar:
    def __init__(self, bars: Bars, bar: TaskID) -> None:
        self._bars, self._bar = bars, bar

    def advance(self, amount: int = 1, text: str = "") -> None:
        """Move the bar."""
        self._bars.update(self._bar, advance=amount, text=escaped(text, keep=""))


class _Lines:
    """Plain lines, one every :data:`PLAIN_EVERY` seconds; short work prints none."""

    def __init__(self, terminal: Terminal, description: str, total: int) -> None:
        self._terminal, self._description, self._total = terminal, description, total
        self._done = 0
        self._started = self._printed = time.monotonic()

    def advance(self, amount: int = 1, text: str = "") -> None:
        """Print a line if the last one is old enough."""
        self._done += amount
        now = time.monotonic()
        if now - self._printed < PLAIN_EVERY or not 0 < self._done < self._total:
            return
        self._printed = now
        left = (now - self._started) / self._done * (self._total - self._done)
        self._terminal.note(
            f"{self._description}: {self._done} of {self._total}, {left:.0f} s left  {text}"
        )
