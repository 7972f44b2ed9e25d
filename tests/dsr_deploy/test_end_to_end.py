"""All stages on image folders and on event recordings, as a user calls them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dsr_deploy.console import cli
from dsr_deploy.data.archives import CLASSES


def write_recording(path: Path, label: int, number: int) -> None:
    """Write 2,000 events around a place that tells the class, in the data set's AEDAT format."""
    rng = np.random.default_rng((label, number))
    x, y = np.clip(rng.normal((12 + 11 * label, 110 - 10 * label), 9, (2000, 2)), 0, 127).T
    polarity = rng.integers(0, 2, 2000)
    address = (x.astype(np.int64) << 8) | (y.astype(np.int64) << 1) | polarity
    pairs = np.stack([address, 1000 + 10 * np.arange(2000)], axis=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    header = b"#!AER-DAT2.0\r\n# This is a raw AE data file\r\n"
    path.write_bytes(header + pairs.astype(">u4").tobytes())


def write_images(folder: Path, per_class: int) -> None:
    """Write JPEG files of 32x32 pixels, three classes of one colour each."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(("blue", "green", "red")):
        for number in range(per_class):
            pixels = rng.integers(0, 100, (32, 32, 3), dtype=np.uint8)
            pixels[..., 2 - label] += 120
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / name / f"{number}.jpg")


def run_all(training: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    """Train, quantize, export, simulate and verify; return simulate.json."""
    for line in (
        ["train", *training],
        ["quantize", "--bits", "4", "--epochs", "1"],
        ["export"],
        ["export", "--target", "onnx"],
        ["export", "--target", "nir"],
        ["simulate"],
        ["verify", "--samples", "3", "--engines", "torch,event,reference,onnx,nir"],
        ["report"],
    ):
        assert cli.run(line) == 0, capsys.readouterr().err
    report = json.loads(Path("runs/latest/reports/simulate.json").read_text())
    row = json.loads(Path("runs/latest/quantized-4/row.json").read_text())
    assert report["accuracy"] == row["accuracy"]
    assert isinstance(report, dict)
    return report


@pytest.mark.slow
def test_vgg11_on_event_recordings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for label, name in enumerate(CLASSES):
        for number in range(10):
            path = tmp_path / "dvs" / "extract" / name / f"cifar10_{name}_{number}.aedat"
            write_recording(path, label, number)
    monkeypatch.chdir(tmp_path)
    options = ["--dataset", "cifar10-dvs", "--data-dir", "dvs", "-T", "4", "--epochs", "1"]
    report = run_all([*options, "--batch-size", "16"], capsys)
    assert report["samples"] == 10
    assert report["timesteps"] == 4


@pytest.mark.slow
def test_resnet20_on_image_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "pictures" / "train", 40)
    write_images(tmp_path / "pictures" / "val", 4)
    monkeypatch.chdir(tmp_path)
    options = ["--dataset", "imagefolder", "--data-dir", "pictures", "--arch", "resnet20"]
    report = run_all([*options, "-T", "4", "--epochs", "2", "--batch-size", "8"], capsys)
    assert report["samples"] == 12
