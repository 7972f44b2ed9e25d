"""Pictures that look the same for everyone, and need no screen."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import Literal

import matplotlib
from matplotlib.figure import Figure


@contextlib.contextmanager
def own_style() -> Iterator[None]:
    """Let figures that are made and drawn here ignore the styles that a user has set."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams["svg.hashsalt"] = "dsr-deploy"
        yield


def draw(figure: Figure, kind: Literal["png", "svg"]) -> bytes:
    """Return the image file of ``figure``; the same figure gives the same bytes."""
    image = io.BytesIO()
    # Both would otherwise carry a date, and the SVG random identifiers.
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    with own_style():
        figure.savefig(image, format=kind, dpi=150, metadata=metadata)
    return image.getvalue()
