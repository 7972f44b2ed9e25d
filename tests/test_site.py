"""The site of pages and API reference."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocstrings", reason="the extra `docs` is not installed: `make docs`")
    build = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert build.returncode == 0, build.stderr
    # modules of the two mapped folders are on it under their import names
    for package, name in (
        ("hardware.event", "simulator.Simulator"),
        ("models", "topology.Topology"),
    ):
        page = (tmp_path / f"api/dsr_deploy.{package}/index.html").read_text()
        assert f'id="dsr_deploy.{package}.{name}"' in page
