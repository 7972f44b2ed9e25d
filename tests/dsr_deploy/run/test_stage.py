"""A stage appears whole or not at all, and what is read of it is what was written."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dsr_deploy.errors import UserError
from dsr_deploy.run import stage
from dsr_deploy.run.seal import seal

PLACE = "export/loihi"
AGAIN = "dsr-deploy export"
NAMES = ("a.bin", "b.json")
OLD = {"a.bin": b"old", "b.json": b"[1]"}
NEW = {"a.bin": b"new and longer", "b.json": b"[2]"}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return a run whose stage was written once."""
    run = tmp_path / "run"
    run.mkdir()
    stage.write(run, PLACE, OLD, {"bits": 4})
    return run


def _read(run: Path) -> stage.Stage:
    return stage.read(run, PLACE, *NAMES, again=AGAIN)


def _refused(message: str) -> pytest.RaisesExc[UserError]:
    return pytest.raises(UserError, match=f"^{re.escape(message)}$")


def _names(run: Path) -> set[str]:
    return {str(path.relative_to(run)) for path in run.rglob("*")}


WHOLE = {"export", PLACE, f"{PLACE}/a.bin", f"{PLACE}/b.json", f"{PLACE}/manifest.json"}


def test_a_stage_is_read_as_it_was_written(run: Path) -> None:
    found = _read(run)
    assert found.content == OLD
    assert found.json("b.json") == [1]
    assert found.record["bits"] == 4
    assert found.digest("a.bin") == found.record["files"]["a.bin"]
    assert _names(run) == WHOLE


def test_files_of_other_names_stay_and_earlier_ones_of_the_stage_go(run: Path) -> None:
    (run / PLACE / "notes.txt").write_text("mine")
    (run / PLACE / "more").mkdir()
    (run / PLACE / "more" / "x").write_text("mine, too")
    (run / PLACE / "link").symlink_to("nowhere")
    stage.write(run, PLACE, {"a.bin": b"1"}, {})
    assert {path.name for path in (run / PLACE).iterdir()} == {
        "a.bin", "manifest.json", "notes.txt", "more", "link",
    }  # fmt: skip
    assert (run / PLACE / "notes.txt").read_text() == "mine"
    assert (run / PLACE / "more" / "x").read_text() == "mine, too"


def test_a_stage_that_is_a_link_is_written_where_it_leads(run: Path, tmp_path: Path) -> None:
    shutil.move(run / PLACE, tmp_path / "elsewhere")
    (run / PLACE).symlink_to(tmp_path / "elsewhere")
    stage.write(run, PLACE, NEW, {})
    assert (run / PLACE).is_symlink()
    assert _read(run).content == NEW


class Killed(BaseException):
    """Stands for the end of the process: nothing of it does anything afterwards."""


class Fails:
    """Lets the n-th step of a write fail; if it is a kill, every later one as well."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step: int, error: BaseException) -> None:
        self.left, self.error, self.failed = step, error, False
        steps: list[tuple[Any, str]] = [(os, name) for name in ("fsync", "rename", "mkdir")]
        if isinstance(error, Killed):  # of an error it takes no notice
            steps.append((shutil, "rmtree"))
        for module, name in steps:
            monkeypatch.setattr(module, name, self._failing(getattr(module, name)))

    def _failing(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **options: Any) -> Any:
            if self.failed and isinstance(self.error, Killed):
                raise self.error
            self.left -= 1
            if self.left == 0:
                self.failed = True
                raise self.error
            return real(*arguments, **options)

        return step


def _steps(run: Path, error: BaseException) -> Iterator[bool]:
    """Write again and again, with an error one step later each time; yield after each one."""
    step = 0
    while True:
        step += 1
        ended = False
        with pytest.MonkeyPatch.context() as monkeypatch:
            fails = Fails(monkeypatch, step, error)
            with contextlib.suppress(UserError, Killed):
                stage.write(run, PLACE, NEW, {})
                ended = True
        yield not ended
        if not fails.failed:
            return


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EIO])
def test_a_write_that_fails_at_any_step_leaves_the_stage_whole(run: Path, fault: int) -> None:
    seen = []
    for failed in _steps(run, OSError(fault, os.strerror(fault))):
        assert _read(run).content == (OLD if failed else NEW)
        assert _names(run) == WHOLE
        seen.append(failed)
        if not failed:  # of what only tidies up
            stage.write(run, PLACE, OLD, {})
    assert seen.count(True) >= 6  # three files, the folder, and two renames


def test_a_write_that_is_killed_at_any_step_leaves_the_stage_whole(run: Path) -> None:
    seen = set()
    for _ in _steps(run, Killed()):
        first = _read(run).content
        assert first in (OLD, NEW)
        seen.add(("read", first["a.bin"]))
        seen.add(("there", (run / PLACE).exists()))
        assert stage.is_there(run, PLACE)
        stage.put_in_order(run / "export")
        assert _read(run).content == first
        assert _names(run) == WHOLE
        stage.write(run, PLACE, OLD, {})
    # Both ends were seen, and the moment in which neither folder is in its place.
    assert seen == {("read", b"old"), ("read", NEW["a.bin"]), ("there", True), ("there", False)}


def test_a_full_disk_is_one_line(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Fails(monkeypatch, 3, OSError(errno.ENOSPC, "No space left on device"))
    with _refused(
        f"{run / PLACE}: cannot be written (No space left on device); the earlier files are kept"
    ):
        stage.write(run, PLACE, NEW, {})


def test_a_file_in_the_way_is_one_line(run: Path) -> None:
    (run / "reports").write_text("mine")
    message = f"{run / 'reports'}: cannot be written (Not a directory); the earlier files are kept"
    with _refused(message):
        stage.write(run, "reports", NEW, {})
    assert (run / "reports").read_text() == "mine"
    assert _names(run) == WHOLE | {"reports"}


def test_a_run_that_is_gone_does_not_grow_again(run: Path, tmp_path: Path) -> None:
    run.rename(tmp_path / "moved")
    with _refused(
        f"{run / PLACE}: cannot be written (No such file or directory); the earlier files are kept"
    ):
        stage.write(run, PLACE, NEW, {})
    assert not run.exists()


def test_only_leftovers_are_put_in_order(run: Path) -> None:
    own = ("not.a.leftover", ".hidden", ".x.0123456789abcde", ".x.0123456789ABCDEF", ".x.old")
    for name in (*own, ".metrics.jsonl.0123456789abcdef"):
        (run / name).write_bytes(b"")
    (run / ".reports.0123456789abcdef").mkdir()
    (run / ".quantized-4.0123456789abcdef.old").mkdir()
    (run / ".export.0123456789abcdef.old").mkdir()
    stage.put_in_order(run)
    assert {path.name for path in run.iterdir()} == {*own, "export", "quantized-4"}


def test_no_flipped_bit_is_read(run: Path) -> None:
    for name in (*NAMES, stage.MANIFEST):
        path = run / PLACE / name
        whole = path.read_bytes()
        for place in range(len(whole)):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << (place % 8)
            path.write_bytes(damaged)
            with pytest.raises(UserError, match=rf"^{re.escape(str(path))}: [^\n]*; run `{AGAIN}`"):
                _read(run)
        path.write_bytes(whole)
    assert _read(run).content == OLD


def test_damage_is_named_with_the_command_that_renews_the_stage(run: Path) -> None:
    path = run / PLACE / "a.bin"
    path.write_bytes(b"other")
    again = f"run `{AGAIN}` again"
    with _refused(f"{path}: damaged, or not written together with manifest.json; {again}"):
        _read(run)
    path.unlink()
    with _refused(f"{path}: not there; {again}"):
        _read(run)
    path.mkdir()
    with _refused(f"{path}: cannot be read (it is a folder, not a regular file); {again}"):
        _read(run)
    manifest = run / PLACE / stage.MANIFEST
    whole = manifest.read_text()
    for text, what in (
        ("", "not valid JSON (Expecting value: line 1 column 1 (char 0))"),
        ("[" * 10_000 + "]" * 10_000, "not valid JSON (nested too deeply)"),
        ("[]", "it has no checksum"),
        ("{}", "it has no checksum"),
        (whole.replace('"bits": 4', '"bits": 8'), "its checksum does not match"),
    ):
        manifest.write_text(text)
        with _refused(f"{manifest}: {what}; {again}"):
            _read(run)
    manifest.write_text(json.dumps(seal(json.loads(whole) | {"files": None})))
    with _refused(f"{manifest}: it names no files; {again}"):
        _read(run)


def test_a_stage_in_the_place_of_another_is_refused(run: Path) -> None:
    shutil.copytree(run / PLACE, run / "quantized-4")
    manifest = run / "quantized-4" / stage.MANIFEST
    with _refused(f"{manifest}: it belongs to export/loihi, not to quantized-4; run `x` again"):
        stage.read(run, "quantized-4", "a.bin", again="x")


def test_a_reader_never_sees_halves_of_two_stages(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stage is written anew after the reader's first file."""
    real, pending = stage.read_regular, [NEW]

    def read(path: Path, most: int) -> bytes:
        data = real(path, most)
        if pending and path.name == stage.MANIFEST:
            stage.write(run, PLACE, pending.pop(), {})
        return data

    monkeypatch.setattr(stage, "read_regular", read)
    assert _read(run).content == NEW
