"""Every file that a command reads, damaged in every way: one line, and nothing wrong is accepted.

The commands run in this process. ``FUZZ`` in the environment multiplies the number of examples.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from damage import Damage, changed_values, damages, flips, sealed_again
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from dsr_deploy.console import cli
from dsr_deploy.run import checkpoint

pytestmark = pytest.mark.slow

SECONDS = 60
"""More than any command takes here, on a busy machine; a hang is longer."""
TIMES = float(os.environ.get("FUZZ", "1"))

TRAIN = (
    "train --dataset imagefolder --data-dir pics --arch resnet-tiny -T 1 --epochs 1 "
    "--batch-size 4 --run run"
)
MAKE = (
    TRAIN,
    "quantize --bits 8 --epochs 0 --run run",
    "quantize --bits 4 --epochs 0 --run run",
    "export --target onnx --run run",
    "export --target nir --run run",
    "export --target loihi --run run",
    "simulate --run run",
    "report --run run",
)
COMMANDS = {
    "train": "train --resume --run run",
    "quantize": "quantize --bits 4 --epochs 0 --run run",
    "export": "export --bits 4 --run run",
    "simulate": "simulate --samples 2 --run run",
    "verify": "verify --samples 2 --engines event,onnx --run run",
    "report": "report --run run",
}
NEEDED = {
    "config.json": tuple(COMMANDS),
    "result.json": ("report",),
    "checkpoint/latest.safetensors": ("train", "report"),
    "checkpoint/best.safetensors": ("quantize",),
    "quantized-4/network.safetensors": ("export",),
    "quantized-4/predictions.json": ("simulate",),
    "quantized-4/row.json": ("report",),
    "quantized-4/manifest.json": ("export", "simulate", "report"),
    "quantized-8/row.json": ("report",),
    "quantized-8/manifest.json": ("report",),
    "export/loihi/network.safetensors": ("simulate", "verify"),
    "export/loihi/manifest.json": ("simulate", "verify", "report"),
    "export/onnx/network.onnx": ("verify",),
    "reports/simulate.json": ("report",),
    "reports/sparsity.svg": ("report",),
    "reports/manifest.json": ("report",),
}
"""The commands that cannot do without a file, and must refuse it with a single flipped bit."""


class _HangError(BaseException):
    """A command takes too long."""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a run in which every stage was done, and its images."""
    folder = tmp_path_factory.mktemp("template")
    rng = np.random.default_rng(0)
    with contextlib.chdir(folder):
        for part, count in (("train", 8), ("test", 3)):
            for name in ("apple", "pear"):
                place = Path("pics", part, name)
                place.mkdir(parents=True)
                for index in range(count):
                    pixels = rng.integers(0, 256, (8, 8), dtype=np.uint8)
                    Image.fromarray(pixels).save(place / f"{index}.png")
        for line in MAKE:
            assert cli.run(line.split()) == 0, line
        shutil.rmtree("run/tensorboard")
    return folder


@pytest.fixture(scope="module")
def files(template: Path) -> list[str]:
    """Return every file of the run, by its path in it."""
    run = template / "run"
    return sorted(str(p.relative_to(run)) for p in run.rglob("*") if p.is_file())


@contextlib.contextmanager
def _copy(template: Path) -> Iterator[Path]:
    """Copy what a command may change, and go there; the images stay where the run knows them."""
    folder = template.parent / f"{template.name}-copy"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(template / "run", folder / "run")
    with contextlib.chdir(folder):
        yield folder


def _run(line: str, capsys: pytest.CaptureFixture[str]) -> int:
    """Run a command; it must end in time, in a word, and with nothing but that word."""

    def hang(number: int, frame: FrameType | None) -> None:
        raise _HangError(line)

    before = signal.signal(signal.SIGALRM, hang)
    signal.alarm(SECONDS)
    try:
        code = cli.run(line.split())
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    said = capsys.readouterr()
    errors = [text for text in said.err.splitlines() if text.startswith("error")]
    assert code in (0, 1), said.err
    assert len(errors) == code, said.err
    assert all(text.isprintable() and len(text) < 1100 for text in said.err.splitlines()), said.err
    assert "Traceback" not in said.err + said.out
    assert "\x1b" not in said.out
    return code


def _fuzzed(examples: int) -> Callable[[Any], Any]:
    return settings(
        max_examples=round(examples * TIMES),
        deadline=None,
        phases=(
            Phase.explicit,
            Phase.reuse,
            Phase.generate,
        ),  # every step of a shrink takes seconds
        suppress_health_check=list(HealthCheck),
    )


@_fuzzed(500)
@given(data=st.data())
def test_a_damaged_file_ends_no_command_in_a_traceback(
    template: Path, files: list[str], capsys: pytest.CaptureFixture[str], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(files), "file")
    original = template / "run" / name
    others = [template / "run" / other for other in files if other != name]
    damage = data.draw(damages(original.stat().st_size, others), "damage")
    command = data.draw(st.sampled_from(list(COMMANDS.values())), "command")
    with _copy(template):
        damage.apply(Path("run", name))
        _run(command, capsys)


@_fuzzed(400)
@given(data=st.data())
def test_json_of_other_values_ends_no_command_in_a_traceback(
    template: Path, files: list[str], capsys: pytest.CaptureFixture[str], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from([f for f in files if f.endswith("json")]), "file")
    damage = data.draw(changed_values(template / "run" / name), "damage")
    command = data.draw(st.sampled_from(list(COMMANDS.values())), "command")
    with _copy(template):
        path = Path("run", name)
        damage.apply(path)
        if data.draw(st.sampled_from([True, True, False]), "sealed"):
            sealed_again(Path("run"), path)
        _run(command, capsys)


@_fuzzed(300)
@given(data=st.data())
def test_no_flipped_bit_is_accepted_where_the_file_is_needed(
    template: Path, capsys: pytest.CaptureFixture[str], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(list(NEEDED)), "file")
    damage = data.draw(flips((template / "run" / name).stat().st_size), "damage")
    command = data.draw(st.sampled_from(NEEDED[name]), "command")
    with _copy(template):
        damage.apply(Path("run", name))
        harmless = name.endswith("json") and _same_json(template / "run" / name, Path("run", name))
        code = _run(COMMANDS[command], capsys)
    assert code == 1 or harmless, f"{command} accepts {name} with {damage}"


def _same_json(before: Path, after: Path) -> bool:
    """Whether a flipped bit changed nothing that counts: ``1e-05`` may become ``1E-05``.

    Nor do the entries count that a user may change (epochs, the place of the data), nor the name of
    the checksum, without which a file is one of an earlier version.
    """
    try:
        values = [json.loads(path.read_bytes()) for path in (before, after)]
    except ValueError:
        return False
    if not all(isinstance(value, dict) for value in values):
        return False
    for value in values:
        for key in list(value):
            if key not in values[0] or key not in values[1]:
                del value[key]
        if isinstance(value.get("config"), dict):
            value["config"] = {k: v for k, v in value["config"].items() if k not in checkpoint.FREE}
    return bool(values[0] == values[1])


@pytest.fixture(scope="module")
def images(template: Path) -> list[str]:
    return sorted(str(p.relative_to(template)) for p in (template / "pics").rglob("*.png"))


@_fuzzed(200)
@given(data=st.data())
def test_a_damaged_image_is_refused_or_shows_the_same(
    template: Path, images: list[str], capsys: pytest.CaptureFixture[str], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(images), "file")
    original = template / name
    others = [template / other for other in images if other != name]
    damage: Damage = data.draw(damages(original.stat().st_size, others), "damage")
    command = data.draw(st.sampled_from(["new", "quantize", "simulate", "verify"]), "command")
    line = COMMANDS[command] if command != "new" else TRAIN.replace("--run run", "--run new")
    with _copy(template) as folder:
        shutil.copytree(template / "pics", "pics")
        damage.apply(Path(name))
        if command != "new":
            line += f" --data-dir {folder}/pics"
        same = _pixels(Path(name)) == _pixels(original)
        code = _run(line, capsys)
    assert code == 1 or same or command == "new", f"{command} accepts {name}, {damage}"


def _pixels(path: Path) -> bytes | None:
    try:
        if path.stat().st_size > 1 << 20 or not path.is_file():
            return None
        with Image.open(path) as image:
            return image.tobytes() + str((image.mode, image.size)).encode()
    except Exception:
        return None
