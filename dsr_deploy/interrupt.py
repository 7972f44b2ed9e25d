"""Ctrl-C that is neither lost nor turned into another error while numba compiles."""

from __future__ import annotations

import _thread
import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

COMPILERS = ("numba", "llvmlite")
"""Packages in whose callbacks from C a KeyboardInterrupt is printed and ignored, or leaves as an
AttributeError (llvmlite/binding/executionengine.py, ``_raw_object_cache_notify``, and ffi.py,
``ObjectRef.detach``)."""
AGAIN = 0.02
"""Seconds after which an interrupt that came in the middle of a compilation is tried again."""


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C raise KeyboardInterrupt in the block, though never inside a compilation.

    Where the signal is ignored, as a shell does for what it starts in the background, it stays so.
    """
    handle = signal.getsignal(signal.SIGINT)
    if not callable(handle):
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        if _compiles(frame):
            timer = threading.Timer(AGAIN, _thread.interrupt_main)
            timer.daemon = True
            timer.start()
        else:
            handle(number, frame)

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handle)


def _compiles(frame: FrameType | None) -> bool:
    """Whether a frame, or one that called it, is a compiler's."""
    while frame is not None:
        if frame.f_globals.get("__name__", "").partition(".")[0] in COMPILERS:
            return True
        frame = frame.f_back
    return False
