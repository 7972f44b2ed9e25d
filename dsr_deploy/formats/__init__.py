"""The files in which a network leaves for a chip or another tool, a module per target."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from dsr_deploy.formats.target import Target

TARGETS: Final = ("loihi", "onnx", "nir")
"""Each is a module here with a ``TARGET``; none is imported before it is needed."""


def load_target(name: str) -> Target:
    """Return the target called ``name``, one of :data:`TARGETS`."""
    found: Target = import_module(f"{__name__}.{name}").TARGET
    return found
