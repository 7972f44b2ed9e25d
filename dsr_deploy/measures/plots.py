"""Pictures that look the same for everyone, and need no screen."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Iterator
from typing import Any, Final, Literal

import matplotlib
from matplotlib.figure import Figure

INK: Final = "#222222"
"""Of text, axes and lines that belong to no series. On a page it becomes the page's own colour."""
SERIES: Final = (
    "#3b82c4", "#e0663d", "#2a9d6f", "#a06cd5", "#b8901f", "#d6568f", "#4f93a3", "#8a7a5a",
)  # fmt: skip
"""One per series; each has a contrast of about 3 to 1 with white and with the dark page."""
WIDTH: Final = 5.2
"""Inches. Its text is readable on a phone's width, on paper, and at its own size."""


@contextlib.contextmanager
def own_style() -> Iterator[None]:
    """Let figures that are made and drawn here ignore the styles that a user has set."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        for name in ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color",
                     "ytick.color", "legend.labelcolor"):  # fmt: skip
            matplotlib.rcParams[name] = INK
        matplotlib.rcParams |= {
            "svg.hashsalt": "dsr-deploy",
            "text.parse_math": False,  # a dollar in the name of a layer is a dollar
            "font.size": 9.0,
            "axes.titlesize": 10.0,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "legend.frameon": False,
        }
        yield


def draw(figure: Figure, kind: Literal["png", "svg"]) -> bytes:
    """Return the image file of ``figure``; the same figure gives the same bytes."""
    # Both would otherwise carry a date, and the SVG random identifiers.
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    with own_style():
        return _saved(figure, format=kind, dpi=150, metadata=metadata)


def inline(figure: Figure, name: str) -> str:
    """Return ``figure`` as an SVG element for a page: transparent, in the page's text colour.

    Parameters
    ----------
    name : of letters and hyphens, unique on the page; the element's identifiers begin with it
    """
    with own_style():
        matplotlib.rcParams["svg.fonttype"] = "none"  # text that can be selected and searched
        text = _saved(figure, format="svg", dpi=150, transparent=True).decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    width = figure.get_figwidth() * 96 * 1.2  # CSS pixels; a screen has room
    text = re.sub(
        r' width="[^"]*" height="[^"]*"| height="[^"]*" width="[^"]*"',
        f' style="width: {width:.0f}px"',
        text,
        count=1,
    )
    return text.replace(INK, "currentColor")


def _saved(figure: Figure, **options: Any) -> bytes:
    image = io.BytesIO()
    with warnings.catch_warnings():
        # The name of a run may be in a script that the font lacks; it stands in the tables too.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(image, **options)
    return image.getvalue()
