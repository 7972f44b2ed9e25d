"""Which network a run trains: one of the package's, or a user's own.

A user's file is read once, when a training begins; the run keeps the topology itself.
"""

from __future__ import annotations

import re
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from dsr_deploy import files
from dsr_deploy.errors import UserError
from dsr_deploy.models.architectures import ARCHITECTURES, Build
from dsr_deploy.models.topology import Shape, Topology, TopologyError

FILE: Final = re.compile(r"(?P<path>.+\.py):(?P<name>[^\W\d]\w*)")
"""A function in a file of the user's, ``my_net.py:build``."""

GIVEN: Final = "python:"
"""Begins the ``arch`` of a run whose topology was given in Python; the topology's name follows."""


def is_arch(arch: str) -> bool:
    """Whether ``arch`` can be the name of a run's architecture."""
    return arch in ARCHITECTURES or bool(FILE.fullmatch(arch)) or arch.startswith(GIVEN)


def short_name(arch: str) -> str:
    """Return the architecture's name, such as ``my_net`` of ``nets/my_net.py:build``."""
    if found := FILE.fullmatch(arch):
        return Path(found["path"]).stem
    return re.sub(r"[^\w.-]", "-", arch.removeprefix(GIVEN))


def builder(arch: str) -> Build:
    """Return the function that describes the network ``arch``; a user's file is executed.

    Raises
    ------
    UserError
        If the name is unknown, or the file is not there, fails or has no such function.
    """
    if arch in ARCHITECTURES:
        return ARCHITECTURES[arch]
    found = FILE.fullmatch(arch)
    if found is None:
        raise UserError(f"arch {arch!r}: its topology was given in Python; give it there again")
    path, name = files.at_home(found["path"]), found["name"]
    function = vars(_execute(path)).get(name)
    if not callable(function):
        raise UserError(f"{path}: it has no function '{name}'; name one that it has, FILE.py:NAME")

    def build(input_shape: Shape, classes: int) -> Topology:
        try:
            made = function(input_shape, classes)
        except (Exception, SystemExit) as error:
            raise _failure(error, path, f"{name}(input_shape, classes)") from None
        if not isinstance(made, Topology):
            raise UserError(f"{path}: {name} must return a Topology, not {type(made).__name__}")
        return made

    return build


def describe(build: Build, input_shape: Shape, classes: int) -> Topology:
    """Return what ``build`` describes, after it was checked.

    Raises
    ------
    UserError
        If the network does not take the input or tell the classes apart.
    """
    try:
        made: Any = build(input_shape, classes)  # of a user
        if not isinstance(made, Topology):
            name = getattr(build, "__name__", "the function")
            raise UserError(f"arch: {name} must return a Topology, not {type(made).__name__}")
        made.check_fits(input_shape, classes)
    except TopologyError as error:
        raise UserError(str(error)) from None
    return made


def _execute(path: Path) -> ModuleType:
    """Execute a user's file as a module; what lies beside it can be imported, as from a script."""
    if not path.is_file():
        raise UserError(f"{path}: not there; name the file of your network, FILE.py:NAME")
    module = ModuleType(f"_dsr_deploy_user_{path.stem}")
    module.__file__ = str(path)
    sys.path.insert(0, str(path.parent.resolve()))
    sys.modules[module.__name__] = module  # a dataclass in the file looks itself up
    try:
        # not by import, which would take a file of before from its cache
        exec(compile(path.read_bytes(), str(path), "exec"), vars(module))
    except (Exception, SystemExit) as error:
        raise _failure(error, path, "its import") from None
    finally:
        sys.path.pop(0)
    return module


def _failure(error: BaseException, path: Path, what: str) -> UserError:
    """Return the line for an error in a user's file; its own traceback is noted with it."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == str(path) or path.parent.resolve() in Path(frame.filename).parents
    ]
    line: Any = frames[-1].lineno if frames else None
    file: Any = frames[-1].filename if frames else path
    if isinstance(error, SyntaxError) and error.lineno is not None:
        line, file = error.lineno, error.filename or path
    place = f"{file}, line {line}" if line is not None else f"{file}"
    words = str(error.msg if isinstance(error, SyntaxError) else error).partition("\n")[0]
    kind = "" if isinstance(error, TopologyError) else f"{type(error).__name__}: "
    failed = UserError(f"{place}: {what} failed ({kind}{words or 'no message'})")
    failed.add_note("".join(traceback.format_list(frames)) + f"{type(error).__name__}: {error}")
    return failed
