"""A stage of an earlier network is named, and how to renew it."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
import sample_run

from dsr_deploy.errors import UserError
from dsr_deploy.progress import Silent
from dsr_deploy.run import provenance
from dsr_deploy.run.directory import RunDirectory
from dsr_deploy.stages.export import export
from dsr_deploy.stages.simulate import simulate
from dsr_deploy.stages.verify import verify


class _Notes(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """Return a run whose stages belong together, simulated."""
    run = sample_run.write(tmp_path / "run")
    run.best_checkpoint.parent.mkdir()
    run.best_checkpoint.write_bytes(b"weights")
    sample_run.put(run, "quantized-4", {}, made_from=hashlib.sha256(b"weights").hexdigest())
    export(run, "onnx")
    simulate(run, 5)
    return run


def quantized(run: RunDirectory) -> str:
    return (
        f"quantized-4 is from an earlier network; `dsr-deploy quantize --bits 4 --run {run.path}` "
        "renews it"
    )


def exported(run: RunDirectory) -> str:
    return (
        "export/loihi is from an earlier network; "
        "`dsr-deploy export --target loihi --bits 4 --chip "
        f"loihi2 --run {run.path}` renews it"
    )


def test_stages_that_belong_together_are_not_named(run: RunDirectory) -> None:
    said = _Notes()
    simulate(run, 5, progress=said)
    verify(run, ("event",), 2, progress=said)
    export(run, "loihi", progress=said)
    assert provenance.stale(run) == {}
    assert said.notes == []


def test_training_on_leaves_all_stages_behind(run: RunDirectory) -> None:
    run.best_checkpoint.write_bytes(b"better weights")
    stages = list(provenance.stale(run))
    assert stages == ["quantized-4", "export/loihi", "export/onnx", "reports/simulate.json"]
    for use in (
        lambda said: simulate(run, 5, progress=said),
        lambda said: verify(run, ("event",), 2, progress=said),
    ):
        said = _Notes()
        use(said)
        assert said.notes == [quantized(run), exported(run)]
    said = _Notes()
    export(run, "loihi", progress=said)
    assert said.notes == [quantized(run)]


def test_quantizing_again_leaves_the_export_behind(run: RunDirectory) -> None:
    sample_run.put_quantized(run, sample_run.network(seed=1))
    assert list(provenance.stale(run)) == ["export/loihi", "export/onnx", "reports/simulate.json"]
    export(run, "loihi")
    assert list(provenance.stale(run)) == ["export/onnx", "reports/simulate.json"]


def test_a_source_that_was_deleted_says_nothing(run: RunDirectory) -> None:
    run.best_checkpoint.unlink()
    assert provenance.stale(run) == {}


def test_a_source_that_cannot_be_read_is_refused(run: RunDirectory) -> None:
    run.best_checkpoint.unlink()
    run.best_checkpoint.mkdir()
    message = r"best\.safetensors: cannot be read \(it is a folder, not a regular file\)$"
    with pytest.raises(UserError, match=message):
        provenance.stale(run)


@pytest.mark.parametrize("content", ['{"made_', "[]", '{"bits": "4"}'])
def test_a_damaged_record_does_not_stop_what_renews_it(run: RunDirectory, content: str) -> None:
    (run.path / "reports" / "manifest.json").write_text(content)
    (run.export("onnx") / "manifest.json").write_text(content)
    assert list(provenance.stale(run)) == ["export/onnx", "reports/simulate.json"]
    export(run, "onnx")
    simulate(run, 5)
    assert provenance.stale(run) == {}


def test_a_copy_that_a_user_made_is_no_stage(run: RunDirectory) -> None:
    shutil.copytree(run.quantized(4), run.path / "quantized-4-old")
    run.best_checkpoint.write_bytes(b"better weights")
    assert "quantized-4-old" not in provenance.stale(run)
