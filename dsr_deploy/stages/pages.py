"""Pages in HTML that need no network: the templates, and how text gets into them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import jinja2
from markupsafe import Markup
from matplotlib.figure import Figure

from dsr_deploy.measures.plots import inline
from dsr_deploy.text import escaped

TEMPLATES: Final = Path(__file__).parents[1] / "templates"


def render(template: str, values: Mapping[str, Any]) -> bytes:
    """Return a page; every text in ``values`` appears as text, control characters as escapes."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        finalize=lambda value: escaped(value) if type(value) is str else value,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(values).encode()


def picture(figure: Figure, name: str) -> Markup:
    """Return a figure as part of a page; ``name`` is unique on it."""
    return Markup(inline(figure, name))  # drawn here; its texts are escaped
