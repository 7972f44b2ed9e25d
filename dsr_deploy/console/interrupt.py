"""Make Ctrl-C reliable: neither lost nor turned into another error."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

UNSAFE = ("numba", "llvmlite", "importlib", "_frozen_importlib", "_frozen_importlib_external")
"""Packages below whose frames no KeyboardInterrupt is raised.

A compiler's callbacks from C print and ignore it, or leave with an AttributeError
(llvmlite/binding/executionengine.py, ``_raw_object_cache_notify``, and ffi.py,
``ObjectRef.detach``). Imports of extension modules abort the process.
"""
AGAIN = 0.02
"""Seconds after which an interrupt that came at such a moment is tried again."""


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C raise KeyboardInterrupt in the block, even if a library raises another error.

    A signal that is ignored stays ignored, as in processes that a shell starts in the background.
    """
    handle = signal.getsignal(signal.SIGINT)
    if not callable(handle):
        yield
        return
    pressed = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed = True
        if _unsafe(frame):
            # a signal also wakes a call that blocks; _thread.interrupt_main would wait for its end
            main = threading.main_thread().ident
            timer = threading.Timer(AGAIN, signal.pthread_kill, (main, number))
            timer.daemon = True
            timer.start()
        else:
            handle(number, frame)

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    except Exception:
        if pressed:
            raise KeyboardInterrupt from None
        raise
    finally:
        signal.signal(signal.SIGINT, handle)


def _unsafe(frame: FrameType | None) -> bool:
    """Whether a frame, or one of its callers, is in code that must not be interrupted."""
    while frame is not None:
        if str(frame.f_globals.get("__name__")).partition(".")[0] in UNSAFE:
            return True
        frame = frame.f_back
    return False
