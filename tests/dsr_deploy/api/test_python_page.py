"""Every block of docs/python.md runs, and the notebook has the same blocks."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "python.md"
NOTEBOOK = ROOT / "examples" / "python.ipynb"

SMALLER = {"epochs=10": "epochs=1", "epochs=5": "epochs=1", "timesteps=8": "timesteps=2"}


def blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)


def cells(kind: str) -> list[str]:
    notebook = json.loads(NOTEBOOK.read_text())
    return ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == kind]


def test_every_block_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    found = blocks()
    assert len(found) == 8
    assert all(any(old in block for block in found) for old in SMALLER)
    for block in found:
        for old, new in SMALLER.items():
            block = block.replace(old, new)
        exec(block, names)
    assert names["v"].agreed
    assert len(names["v"].engines) >= 5
    assert names["page"].is_file()
    assert names["network"].timesteps == 2
    assert list(names["traces"].spikes) == [p.name for p in names["network"].populations]
    assert names["late"].config.timesteps == 6
    printed, errors = capsys.readouterr()
    lines = printed.splitlines()
    assert f"dsr-deploy simulate --run {names['net'].path}" in lines
    assert "True True" in lines
    assert (
        "Dataset('stripes', 256 + 64 images of 1x8x12, 2 classes) ('samples of floats, 0 to 1, "
        "became bytes in 255 steps of 0.003922: training, quantization and the chip see the "
        "bytes',)" in lines
    )
    assert errors == ""


def test_the_notebook_has_the_blocks_and_the_headings_of_the_page() -> None:
    assert [cell + "\n" for cell in cells("code")] == blocks()
    headings = re.findall(r"^#+ .*$", PAGE.read_text(), re.MULTILINE)
    assert re.findall(r"^#+ .*$", "\n".join(cells("markdown")), re.MULTILINE) == headings
    held = json.loads(NOTEBOOK.read_text())["cells"]
    assert not [cell for cell in held if cell.get("outputs") or cell.get("execution_count")]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # Jupyter's own
def test_the_notebook_runs_in_jupyter(tmp_path: Path) -> None:
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    outputs = [
        output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs
    ]
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    assert re.search(
        r"torch, event, .* agree spike for spike on 20|reference, torch, event", printed
    )
    shown = [output.data["text/html"] for output in outputs if output.output_type == "display_data"]
    assert any("epoch  10/10" in page for page in shown)  # lines stay
    assert not any("<progress" in page for page in shown)  # bars are gone
