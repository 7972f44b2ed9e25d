"""The one line that ends a failed command: a mistake, a shortage of the machine, or a bug."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import traceback
from collections.abc import Collection, Iterator
from types import TracebackType
from typing import Final

from dsr_deploy.text import one_line

DEBUG: Final = "DSR_DEPLOY_DEBUG"

OUT_OF_MEMORY: Final = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "cannot allocate memory",
    "failed to allocate memory",
    "unable to allocate",
    "bad_alloc",
    "bad allocation",
    "alloc_failed",
)
"""Messages of allocators of torch, CUDA, onnxruntime and C++, which raise plain RuntimeErrors."""

LESS_MEMORY: Final = {
    "batch_size": "--batch-size",
    "timesteps": "--timesteps",
    "image_size": "--image-size",
    "samples": "--samples",
    "threads": "--threads",
}
"""Options that lower the memory a command needs, by their parameters."""

VARIABLES: Final = {
    "matplotlib": ("MPL", "MATPLOTLIB"),
    "numba": ("NUMBA_",),
    "numpy": ("NPY_", "NUMPY_"),
    "onnxruntime": ("ORT_",),
    "torch": ("TORCH_", "TORCHINDUCTOR_", "PYTORCH_", "CUDA_"),
    "triton": ("TRITON_",),
}
"""Prefixes of the environment variables that a library reads, by its package."""

STARTS: Final = ("importlib._bootstrap", "numba.np.ufunc.parallel")
"""Modules in whose frames a library reads its variables: at import, or when threads start."""

OURS: Final = (
    ("dsr_deploy.errors", "UserError"),
    ("dsr_deploy.data.samples", "DataError"),
    ("dsr_deploy.hardware.errors", "HardwareError"),
    ("dsr_deploy.models.topology", "TopologyError"),
)


def is_ours(error: Exception) -> bool:
    """Whether the error is one of our own, whose message tells the user what to do."""
    # Not by importing the classes: an import may be what failed.
    return any((c.__module__, c.__name__) in OURS for c in type(error).__mro__)


def explain(error: Exception, options: Collection[str] = ()) -> str | None:
    """Return a line for a failure of the machine or of a library's settings; None for any other.

    Parameters
    ----------
    options : parameters of the command that failed
    """
    if is_ours(error):
        return None
    if is_out_of_memory(error):
        return out_of_memory(options)
    if isinstance(error, OSError):
        return _system(error)
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return "no more threads can be started; end other programs, or raise the limit (ulimit -u)"
    return _variables(error)


def is_out_of_memory(error: Exception) -> bool:
    """Whether the machine or a GPU ran out of memory, and no error of our own reports it."""
    if is_ours(error):
        return False
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    text = str(error).lower()
    return any(message in text for message in OUT_OF_MEMORY)


def out_of_memory(options: Collection[str], resume: str | None = None) -> str:
    """Return the line for a lack of memory, with a way out.

    Parameters
    ----------
    options : parameters of the command that failed
    resume : the command that continues the work
    """
    *fewer, last = [option for name, option in LESS_MEMORY.items() if name in options] or [""]
    lower = f"lower {', '.join(fewer)}{' or ' * bool(fewer)}{last}, or " if last else ""
    more = f"continue with `{resume}` on a larger machine" if resume else "use a larger machine"
    return f"out of memory; {lower}{more}"


def _system(error: OSError) -> str | None:
    """Return the path and the reason of an error of the operating system."""
    reason = error.strerror or str(error).partition("\n")[0] or type(error).__name__
    place = error.filename
    if place is None:
        return f"the operating system failed: {reason}"
    return f"{os.fsdecode(place) if isinstance(place, bytes) else place}: cannot be used ({reason})"


def _variables(error: Exception) -> str | None:
    """Return the line for a library that fails where it reads its environment variables."""
    names = list(_modules(error.__traceback__))
    if not any(name.startswith(STARTS) for name in names):
        return None
    for name in reversed(names):  # from where it was raised to who called
        package = name.partition(".")[0]
        if package == "dsr_deploy":
            return None
        variables = sorted(v for v in os.environ if v.startswith(VARIABLES.get(package, ("\0",))))
        if variables:
            reason = str(error).partition("\n")[0]
            return (
                f"{package} cannot start ({reason}); it reads these environment variables: "
                f"{', '.join(variables)}; correct or unset them"
            )
    return None


def _modules(frames: TracebackType | None) -> Iterator[str]:
    while frames is not None:
        # The name that a frozen module has in tracebacks differs from one Python to the next.
        name = str(frames.tb_frame.f_globals.get("__name__"))
        yield name.replace("_frozen_importlib", "importlib._bootstrap")
        frames = frames.tb_next


def with_notes(error: Exception) -> str:
    """Return the line of an error of our own; its notes are kept in a file."""
    notes = getattr(error, "__notes__", None)
    kept = _keep("\n".join(notes)) if notes else None
    return str(error) if kept is None else f"{error}; more is in {kept}"


def report_bug(error: Exception) -> str:
    """Return the line for a bug; its traceback is kept in a file.

    With ``DSR_DEPLOY_DEBUG`` set the traceback is printed as well.
    """
    text = "".join(traceback.format_exception(error))
    if os.environ.get(DEBUG):
        sys.stderr.write(text)
    what = one_line(f"{type(error).__name__}: {error}".partition("\n")[0])
    kept = _keep(text)
    where = f"what {DEBUG}=1 prints" if kept is None else f"the traceback in {kept}"
    return f"a bug of dsr-deploy ({what}); please report it, with {where}"


def _keep(text: str) -> str | None:
    """Write ``text`` to a file of its own; return its path, or None where there is no room."""
    try:
        descriptor, name = tempfile.mkstemp(prefix="dsr-deploy-", suffix=".txt", text=True)
        with open(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError:
        return None
    return name
