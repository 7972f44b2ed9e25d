"""Ctrl-C at moments that a library would make something else of."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from dsr_deploy.console.interrupt import interruptible


@pytest.fixture(autouse=True)
def default_handler() -> Iterator[None]:
    """Ctrl-C as in a terminal, however the tests were started."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def _in_package(name: str, function: Callable[[], None]) -> None:
    """Call a function from code of a package."""
    exec("call()", {"__name__": name, "call": function})


def test_an_interrupt_is_raised_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), interruptible():
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("package", ["llvmlite.binding.ffi", "numba", "importlib._bootstrap"])
def test_an_interrupt_waits_for_the_end_of_a_compilation_or_an_import(package: str) -> None:
    done: list[str] = []
    too_late = threading.Event()
    timer = threading.Timer(10, too_late.set)
    timer.start()

    def compile_something() -> None:
        signal.raise_signal(signal.SIGINT)
        time.sleep(0.1)  # in which it is tried again
        done.append("compiled")

    def compile_and_go_on() -> None:
        _in_package(package, compile_something)
        too_late.wait()  # a call that blocks, as many of torch's do

    with pytest.raises(KeyboardInterrupt), interruptible():
        compile_and_go_on()
    timer.cancel()
    assert done == ["compiled"]
    assert not too_late.is_set()


def test_what_a_library_makes_of_an_interrupt_is_one() -> None:
    def convert() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise TypeError("incompatible arguments") from None

    with pytest.raises(KeyboardInterrupt), interruptible(), interruptible():
        convert()
    with pytest.raises(TypeError), interruptible():
        raise TypeError


def test_what_python_did_before_is_done_again_after() -> None:
    with interruptible():
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_ignored_signal_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with interruptible():
        signal.raise_signal(signal.SIGINT)
