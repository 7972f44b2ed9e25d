"""Progress in a notebook: bars that disappear when the work is done, and lines that stay."""

from __future__ import annotations

import html
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from dsr_deploy.progress import Progress, Silent, Task
from dsr_deploy.text import escaped

KERNEL: Final = "ZMQInteractiveShell"
"""IPython's shell where its output goes to a page, in Jupyter and what is like it."""


def usual_progress() -> Progress:
    """Return what shows progress unless told otherwise: bars in a notebook, else nothing."""
    ipython = sys.modules.get("IPython")  # not imported: no notebook
    shell = None if ipython is None else ipython.get_ipython()
    return Notebook() if type(shell).__name__ == KERNEL else Silent()


class Notebook:
    """A :class:`dsr_deploy.progress.Progress` below a notebook's cell."""

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Task]:
        """Show a piece of work of ``total`` parts until it is left."""
        bar = _Bar(description, total)
        try:
            yield bar
        finally:
            bar.remove()

    def note(self, text: str) -> None:
        """Show a line that stays."""
        _display(f"<pre style='margin:0'>{html.escape(escaped(text, keep=''))}</pre>")


class _Bar:
    def __init__(self, description: str, total: int) -> None:
        self._description, self._total, self._done = description, total, 0
        self._handle = _display(self._html(""), updates=True)

    def advance(self, amount: int = 1, text: str = "") -> None:
        """Move the bar."""
        self._done += amount
        self._handle.update(_html(self._html(text)))

    def remove(self) -> None:
        """Leave nothing."""
        self._handle.update(_html(""))

    def _html(self, text: str) -> str:
        words = html.escape(escaped(self._description, keep=""))
        beside = html.escape(escaped(text, keep=""))
        return (
            f"<div>{words} <progress value='{self._done}' max='{self._total}'></progress> "
            f"{self._done}/{self._total} {beside}</div>"
        )


def _html(text: str) -> Any:
    from IPython.display import HTML

    return HTML(text)


def _display(text: str, *, updates: bool = False) -> Any:
    from IPython.display import display

    return display(_html(text), display_id=True if updates else None)
