"""Progress of long work: the library reports it, the caller decides how to show it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """A piece of work in progress."""

    def advance(self, amount: int = 1, text: str = "") -> None:
        """Report that ``amount`` more parts are done, with a short text to show beside the bar."""


class Progress(Protocol):
    """Receives reports of long work."""

    def task(self, description: str, total: int) -> AbstractContextManager[Task]:
        """Start a piece of work of ``total`` parts."""

    def note(self, text: str) -> None:
        """Receive a line to show permanently."""


class _NoTask:
    def advance(self, amount: int = 1, text: str = "") -> None:
        """Show nothing."""


class Silent:
    """Progress that shows nothing."""

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Task]:
        """Start a piece of work."""
        yield _NoTask()

    def note(self, text: str) -> None:
        """Show nothing."""
