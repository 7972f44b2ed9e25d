"""Which run and which stage a command takes when none is named."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import sample_run

from dsr_deploy.errors import UserError
from dsr_deploy.hardware.format import network_file
from dsr_deploy.run import config
from dsr_deploy.run import directory as run_directory
from dsr_deploy.run.directory import RunDirectory
from dsr_deploy.stages.export import export

OUT = "name a run with --run DIR, or train again"


def _refused(message: str) -> pytest.RaisesExc[UserError]:
    return pytest.raises(UserError, match=f"^{re.escape(message)}$")


def _no_link(runs: Path) -> None:
    pass


def _dangling(runs: Path) -> None:
    runs.mkdir()
    (runs / "latest").symlink_to("one")


def _a_loop(runs: Path) -> None:
    runs.mkdir()
    (runs / "latest").symlink_to("latest")


def _no_run(runs: Path) -> None:
    (runs / "one").mkdir(parents=True)
    (runs / "latest").symlink_to("one")


def _a_folder(runs: Path) -> None:
    (runs / "latest").mkdir(parents=True)


def _a_file(runs: Path) -> None:
    runs.mkdir()
    (runs / "latest").touch()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            _no_link,
            "no run in this directory yet; run `dsr-deploy train` first, or name a run with --run "
            "DIR",
        ),
        (
            _dangling,
            f"runs/latest: leads to 'one', which is not there (moved or removed?); {OUT}",
        ),
        (
            _a_loop,
            f"runs/latest: leads to 'latest', which is not there (moved or removed?); {OUT}",
        ),
        (_no_run, f"runs/latest: leads to 'one', which holds no run; {OUT}"),
        (_a_folder, f"runs/latest: not the link that `dsr-deploy train` creates; {OUT}"),
        (_a_file, f"runs/latest: not the link that `dsr-deploy train` creates; {OUT}"),
    ],
)
def test_a_link_that_leads_to_no_run_says_so(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[Path], None],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    damage(Path("runs"))
    with _refused(message):
        run_directory.find(None)


def test_the_link_is_replaced_and_nothing_else_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / ".latest.0123456789abcdef").symlink_to("x")
    for name in ("one", "two"):
        run = sample_run.write(tmp_path / "runs" / name)
        run_directory.point_latest(run)
        assert run_directory.find(None).path == run.path
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"one", "two", "latest"}


def _quantized(run: RunDirectory, bits: int) -> None:
    """Do what ``quantize`` does last."""
    made = {"network.safetensors": network_file.to_bytes(sample_run.network(seed=bits))}
    sample_run.put(run, f"quantized-{bits}", made, sequence=run.next_sequence())


def test_the_newest_width_is_the_one_written_last_whatever_the_clock_says(tmp_path: Path) -> None:
    run = sample_run.write(tmp_path / "run")
    for newest, others in ((8, (4,)), (3, (4, 8)), (4, (3, 8))):
        _quantized(run, newest)
        for seconds, bits in enumerate((newest, *others)):
            for path in (run.quantized(bits), *run.quantized(bits).iterdir()):
                os.utime(path, (seconds, seconds))
        assert run.quantized_bits(None) == newest
        assert export(run, "nir").bits == newest
        # As a clone does.
        copy = tmp_path / f"copy-{newest}"
        shutil.copytree(run.path, copy, copy_function=shutil.copyfile)
        assert RunDirectory(copy).quantized_bits(None) == newest


def test_a_damaged_width_is_named_where_the_newest_is_asked_for(tmp_path: Path) -> None:
    run = sample_run.write(tmp_path / "run")
    _quantized(run, 8)
    manifest = run.quantized(4) / "manifest.json"
    manifest.write_text("{}")
    message = (
        f"{manifest}: it has no checksum; run `dsr-deploy quantize --bits 4 --run {run.path}` again"
    )
    with _refused(message):
        run.quantized_bits(None)
    assert run.quantized_bits(8) == 8
    assert run.next_sequence() == 3


def test_a_configuration_is_read_only_as_it_was_written(tmp_path: Path) -> None:
    run = sample_run.write(tmp_path / "run")
    stored = run.config.read_text()
    for before, after in (
        ('"timesteps": 3', '"timesteps": 4'),
        ('"test": 360', '"test": 361'),
        ('"lr": 0.1', '"lr": 0.5'),
        ('"framed": false', '"framed": true'),
    ):
        assert before in stored
        run.config.write_text(stored.replace(before, after))
        with _refused(
            f"{run.config}: changed since training wrote it (its checksum does not match); restore "
            "it: only data_dir, device, epochs, precision may be changed"
        ):
            config.read(run.config)


def test_what_may_change_in_a_configuration_is_not_under_its_checksum(tmp_path: Path) -> None:
    run = sample_run.write(tmp_path / "run")
    stored = run.config.read_text()
    for before, after in (
        ('"data_dir": null', '"data_dir": "elsewhere"'),
        ('"device": "auto"', '"device": "cpu"'),
        ('"epochs": 30', '"epochs": 40'),
        ('"precision": "auto"', '"precision": "fp32"'),
        ('"command": "', '"command": "/bin/'),
    ):
        assert before in stored
        stored = stored.replace(before, after)
    run.config.write_text(stored)
    assert config.read(run.config).epochs == 40


@pytest.mark.parametrize("path", [None, Path("a/b")])
def test_nothing_is_left_of_a_run_that_did_not_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: Path | None
) -> None:
    monkeypatch.chdir(tmp_path)
    with run_directory.beginning(path, "mine") as run:
        assert run.path == (path or Path("runs/mine"))
        assert run.path.is_dir()
    assert list(tmp_path.iterdir()) == []
    with run_directory.beginning(path, "mine") as run:
        run.config.touch()
    assert run.config.exists()


@pytest.mark.parametrize("rank", [0, 1])
def test_the_first_of_several_processes_creates_the_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: int
) -> None:
    told = {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    with run_directory.beginning(tmp_path / "run", "mine") as run:
        assert run == RunDirectory(tmp_path / "run")
        assert run.path.exists() == (rank == 0)
    with (
        _refused("several processes need the same directory; name it with --run DIR"),
        run_directory.beginning(None, "mine"),
    ):
        pass
