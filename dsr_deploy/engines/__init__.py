"""What runs an integer network on payloads, a module per engine, and how they are compared."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from dsr_deploy.engines.engine import Engine

ENGINES: Final = ("torch", "event", "reference", "onnx", "nir", "lava")
"""Each is a module here with an ``ENGINE``; none is imported before it is needed."""


def load_engine(name: str) -> Engine:
    """Return the engine called ``name``, one of :data:`ENGINES`."""
    found: Engine = import_module(f"{__name__}.{name}").ENGINE
    return found
