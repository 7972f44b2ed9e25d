"""How long work tells of itself: the library reports, the caller decides what is shown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """One piece of work under way."""

    def advance(self, amount: int = 1, text: str = "") -> None:
        """Say that ``amount`` more is done, with a short text beside the bar."""


class Progress(Protocol):
    """Receives what long work says."""

    def task(self, description: str, total: int) -> AbstractContextManager[Task]:
        """Begin a piece of work of ``total`` parts."""

    def note(self, text: str) -> None:
        """Receive a line that stays."""


class _NoTask:
    def advance(self, amount: int = 1, text: str = "") -> None:
        """Say nothing."""


class Silent:
    """Shows nothing."""

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Task]:
        """Begin a piece of work that nobody watches."""
        yield _NoTask()

    def note(self, text: str) -> None:
        """Say nothing."""
