"""A run whose data were moved, or changed, since it was begun."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dsr_deploy.console import cli
from dsr_deploy.data import digest
from dsr_deploy.data.loading import load
from dsr_deploy.run import config, seal
from dsr_deploy.run.directory import RunDirectory
from dsr_deploy.run.trained import describe

TRAIN = (
    "train", "--dataset", "imagefolder", "--data-dir", "pics", "--arch", "resnet-tiny", "-T", "1",
    "--epochs", "1", "--batch-size", "4", "--run", "run",
)  # fmt: skip

RESTORE = (
    "restore the data that the network was trained on, name their place with --data-dir, or train "
    "again"
)


def _write_images(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for part, count in (("train", 4), ("test", 2)):
        for name in ("apple", "pear"):
            (folder / part / name).mkdir(parents=True, exist_ok=True)
            for index in range(count):
                pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / part / name / f"{index}.bmp")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a run that was trained, quantized and exported, and its images."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        _write_images(Path("pics"))
        for line in (
            TRAIN,
            ("quantize", "--run", "run", "--epochs", "0"),
            ("export", "--run", "run"),
        ):
            assert cli.run(line) == 0
    return folder


@pytest.fixture
def moved(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the run, in another place, its images in a third."""
    shutil.copytree(whole / "run", tmp_path / "run")
    (tmp_path / "disk2").mkdir()
    shutil.copytree(whole / "pics", tmp_path / "disk2" / "pics")
    about = json.loads((tmp_path / "run" / "config.json").read_text())
    about["config"]["data_dir"] = str(tmp_path / "pics")
    (tmp_path / "run" / "config.json").write_text(json.dumps(about))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _place(folder: Path) -> str | None:
    return config.read(folder / "run" / "config.json").data_dir


COMMANDS = (
    ("train", "--resume"),
    ("quantize", "--epochs", "0"),
    ("simulate", "--samples", "2"),
    ("verify", "--samples", "2", "--engines", "event"),
)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_data_that_were_moved_are_asked_for_and_taken(
    moved: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    line = (*command, "--run", "run")
    assert cli.run(line) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"error: {moved / 'pics'}: there is no such directory; name the data set's with data_dir"
    )
    assert cli.run((*line, "--data-dir", "disk2/pics")) == 0
    # written by all but verify, which writes nothing
    kept = moved / ("pics" if command[0] == "verify" else "disk2/pics")
    assert _place(moved) == str(kept)
    if command[0] != "verify":
        assert cli.run(line) == 0


def _repaint(folder: Path) -> None:
    """Change pixels of a test image; all that was compared before stays."""
    file = folder / "test" / "pear" / "1.bmp"
    content = bytearray(file.read_bytes())
    content[-40:] = bytes(40)
    file.write_bytes(content)


def _exchange(folder: Path) -> None:
    """Exchange two training images of a class."""
    one, two = folder / "train" / "pear" / "1.bmp", folder / "train" / "pear" / "2.bmp"
    content = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(content)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
@pytest.mark.parametrize(("change", "what"), [(_repaint, "test"), (_exchange, "training")])
def test_other_images_with_the_same_labels_are_refused(
    moved: Path,
    capsys: pytest.CaptureFixture[str],
    command: tuple[str, ...],
    change: Callable[[Path], None],
    what: str,
) -> None:
    change(moved / "disk2" / "pics")
    assert cli.run((*command, "--run", "run", "--data-dir", "disk2/pics")) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"error: data set 'imagefolder': its {what} samples changed since the run began; " + RESTORE
    )
    assert _place(moved) == str(moved / "pics")


def test_a_run_of_before_is_taken_without_a_digest(moved: Path) -> None:
    path = moved / "run" / "config.json"
    about = json.loads(path.read_text())
    del about["contents"], about[seal.KEY]
    path.write_text(json.dumps(about))
    assert describe(RunDirectory(moved / "run")).contents == ("", "")
    assert cli.run(("quantize", "--epochs", "0", "--run", "run", "--data-dir", "disk2/pics")) == 0


def test_a_place_that_is_kept_changes_nothing_else(moved: Path) -> None:
    path = moved / "run" / "config.json"
    before = json.loads(path.read_text())
    assert cli.run(("quantize", "--epochs", "0", "--run", "run", "--data-dir", "disk2/pics")) == 0
    before["config"]["data_dir"] = str(moved / "disk2" / "pics")
    assert json.loads(path.read_text()) == before


def test_what_is_missing_later_is_not_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], moved: Path
) -> None:
    path = moved / "run" / "config.json"
    about = json.loads(path.read_text())
    about["config"] |= {"dataset": "cifar10", "crop": 1.0}
    about[seal.KEY] = config.checksum_of(about)
    path.write_text(json.dumps(about))
    monkeypatch.setattr("torchvision.datasets.CIFAR10.download", pytest.fail)
    assert cli.run(("train", "--resume", "--run", "run")) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"error: {tmp_path / 'pics' / 'cifar-10-batches-py'}: files are missing or damaged; unpack "
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz into "
        f"{tmp_path / 'pics'}, or name its place with data_dir"
    )
    assert not (tmp_path / "pics").exists()


def test_digests_of_files_hold_names_sizes_and_up_to_a_limit_contents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_bytes(b"123")

    def of(folder: str, *names: str) -> str:
        place = tmp_path / folder
        return digest.of_files(place, [str(place / name) for name in names])

    assert of("one", "a") == of("two", "a")
    (tmp_path / "two" / "b").write_bytes(b"123")
    assert of("two", "b") != of("two", "a") != of("two", "a", "b")
    (tmp_path / "two" / "a").write_bytes(b"124")
    assert of("one", "a") != of("two", "a")
    monkeypatch.setattr(digest, "MOST_BYTES", 2)
    assert of("one", "a") == of("two", "a")
    (tmp_path / "two" / "a").write_bytes(b"1234")
    assert of("one", "a") != of("two", "a")


def test_digests_of_pixels_hold_shape_order_and_values() -> None:
    pixels = torch.arange(24, dtype=torch.uint8).reshape(2, 1, 3, 4)
    changed = pixels.clone()
    changed[1, 0, 2, 3] = 0
    others = (changed, pixels.flip(0), pixels.reshape(2, 1, 4, 3))
    found = {digest.of_pixels(other) for other in others}
    assert len(found) == 3
    assert digest.of_pixels(pixels) not in found
    assert digest.of_pixels(pixels) == digest.of_pixels(pixels.transpose(2, 3).transpose(2, 3))


def test_the_digits_have_a_digest_of_each_split() -> None:
    train, test = load("digits", timesteps=1).contents
    assert train != test
    assert {len(train), len(test)} == {64}
