"""Hooks of mkdocs: the pages of the API reference, and those that stand outside of docs/.

The reference is read from the source, without importing it. ``models/`` and ``hardware/`` install
as ``dsr_deploy.models`` and ``dsr_deploy.hardware``, so the source is first copied as it installs.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from mkdocs.plugins import event_priority
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = {
    "index.md": "README.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "CHANGELOG.md": "CHANGELOG.md",
}
"""Pages of the site, and their files at the top of the repository."""
CODE_LINK = re.compile(r"\[([^\]]+)\]\((?!https?:)[^)]+\.(?:py|toml|yaml|yml|ipynb)\)")
"""A link to a file that is no page of the site."""
ROLE = re.compile(r":(?:class|data|func|meth|mod):<code>~?([\w.]+)</code>")
PLAIN_ROLE = re.compile(r":(?:class|data|func|meth|mod):`~?([\w.]+)`")

_source = tempfile.TemporaryDirectory(prefix="dsr-deploy-docs-")


@event_priority(100)  # mkdocstrings reads its paths in the same event
def on_config(config: Any) -> None:
    """Lay out the source as it installs, and add a page per package to the navigation."""
    package = Path(_source.name) / "dsr_deploy"
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "dsr_deploy", package, dirs_exist_ok=True, ignore=ignore)
    for name in ("models", "hardware"):
        shutil.copytree(ROOT / name, package / name, dirs_exist_ok=True, ignore=ignore)
    config.plugins["mkdocstrings"].config.handlers["python"]["paths"] = [_source.name]
    config.nav.append({"API reference": [{name: f"api/{name}.md"} for name in _packages()]})


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are no files of docs/."""
    for name, path in OUTSIDE.items():
        files.append(File.generated(config, name, content=(ROOT / path).read_text()))
    for name, modules in _packages().items():
        text = f"# {name}\n\n" + "\n\n".join(f"::: {module}" for module in modules)
        files.append(File.generated(config, f"api/{name}.md", content=text + "\n"))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links lead to pages of the site, wherever their files stand."""
    if page.file.src_uri in OUTSIDE:
        markdown = markdown.replace("](docs/", "](")
        markdown = markdown.replace("](README.md", "](index.md")
    else:
        markdown = markdown.replace("](../README.md", "](index.md").replace("](../", "](")
    return CODE_LINK.sub(r"\1", markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Turn the roles of docstrings, such as ``:class:`X```, into links or plain names."""
    html = html.replace("<p>::</p>", "").replace("::</p>", ":</p>")
    html = PLAIN_ROLE.sub(r"\1", html)
    return ROLE.sub(r'<autoref optional identifier="\1"><code>\1</code></autoref>', html)


def _packages() -> dict[str, list[str]]:
    """Return the modules of each package, by its name, as they are imported."""
    root = Path(_source.name)
    packages: dict[str, list[str]] = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if any(part.startswith("__") for part in parts):
            if path.name == "__init__.py":
                packages.setdefault(".".join(parts[:-1]), []).insert(0, ".".join(parts[:-1]))
            continue
        packages.setdefault(".".join(parts[:-1]), []).append(".".join(parts))
    return packages
