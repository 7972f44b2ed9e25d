"""The digits for real; CIFAR in files of its own format, written here."""

import hashlib
import io
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from dsr_deploy.data.batches import batches
from dsr_deploy.data.loading import load
from dsr_deploy.data.samples import DataError, Split, TensorSplit
from dsr_deploy.hardware.encoding import payload_table


def pixels_of(split: Split) -> torch.Tensor:
    assert isinstance(split, TensorSplit)
    return split.pixels


def test_digits_are_split_evenly_and_always_alike() -> None:
    first, second = load("digits", timesteps=4), load("digits", timesteps=4)
    assert (len(first.train), len(first.test)) == (1437, 360)
    assert first.classes == tuple("0123456789")
    for split, again in ((first.train, second.train), (first.test, second.test)):
        assert torch.equal(pixels_of(split), pixels_of(again))
        assert torch.equal(split.labels, again.labels)
    assert set(torch.bincount(first.test.labels).tolist()) <= {35, 36, 37}


def test_the_page_lists_the_360_digits_of_the_test_set_in_their_order() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "data.md").read_text()
    listed = [
        int(word) for word in page.partition("## The 360 digits")[2].split("\n\n")[-1].split()
    ]
    images, targets = load_digits(return_X_y=True)
    test = load("digits", timesteps=4).test
    assert len(set(listed)) == 360
    assert np.array_equal(pixels_of(test).reshape(360, 64).numpy(), images[listed])
    assert test.labels.tolist() == targets[listed].tolist()


def test_digits_are_all_there_with_their_labels() -> None:
    data = load("digits", timesteps=4)
    pixels = torch.cat([pixels_of(data.train), pixels_of(data.test)]).reshape(-1, 64).tolist()
    labels = torch.cat([data.train.labels, data.test.labels]).tolist()
    images, targets = load_digits(return_X_y=True)
    made = sorted((label, *image) for label, image in zip(labels, pixels, strict=True))
    assert made == sorted((t, *i) for t, i in zip(targets.tolist(), images.tolist(), strict=True))


def test_a_digit_has_payloads_from_minus_8_to_8() -> None:
    data = load("digits", timesteps=4)
    assert payload_table(data.input)[0, :17].tolist() == list(range(-8, 9))
    assert data.input.step == 1 / 8
    epoch = batches(data.train, data.input, 2000, augment=True, seed=0, epoch=0, shuffle=True)
    ((payload, labels),) = epoch
    assert payload.shape == (1437, 1, 8, 8)
    assert (int(payload.min()), int(payload.max())) == (-8, 8)
    drawn = epoch.draws
    assert drawn is not None
    assert not drawn.flip.any()
    # shifted by a whole pixel, the row that moves in is background
    up = drawn.shift[:, 0] == 2
    assert (payload[up][:, 0, -1] == -8).all()
    assert torch.equal(torch.bincount(labels), torch.bincount(data.train.labels))


class OldPickler(pickle.Pickler):
    """Writes arrays as the numpy of CIFAR's time did, about which numpy 2.4 warns."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, np.dtype):
            return (np.dtype, ("u1", 0, 1), obj.__reduce__()[2])
        return NotImplemented


def write(path: Path, content: dict[str, Any]) -> str:
    """Write a batch file and return its checksum."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stream = io.BytesIO()
    OldPickler(stream, protocol=2).dump(content)
    path.write_bytes(stream.getvalue())
    return hashlib.md5(stream.getvalue()).hexdigest()


@pytest.fixture
def cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, np.ndarray]:
    """CIFAR-10 of six images per file, and all its rows."""
    reader = pytest.importorskip("torchvision.datasets").CIFAR10
    rows = np.random.default_rng(0).integers(0, 256, size=(36, 3072), dtype=np.uint8)
    folder = tmp_path / "cifar-10-batches-py"
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    sums = []
    for i, name in enumerate(names):
        labels = [(i + j) % 10 for j in range(6)]
        sums.append([name, write(folder / name, {"data": rows[6 * i :][:6], "labels": labels})])
    meta = write(folder / "batches.meta", {"label_names": [f"class {i}" for i in range(10)]})
    monkeypatch.setattr(reader, "train_list", sums[:5])
    monkeypatch.setattr(reader, "test_list", sums[5:])
    monkeypatch.setattr(reader, "meta", reader.meta | {"md5": meta})
    monkeypatch.setattr(reader, "url", "file:///nowhere/cifar-10-python.tar.gz")
    return tmp_path, rows


@pytest.mark.parametrize("download", [True, False])
def test_cifar10_is_read_from_torchvisions_files(
    cifar10: tuple[Path, np.ndarray], download: bool
) -> None:
    directory, rows = cifar10
    data = load("cifar10", directory, timesteps=4, download=download)
    assert data.classes == tuple(f"class {i}" for i in range(10))
    assert pixels_of(data.train).numpy().tobytes() == rows[:30].tobytes()
    assert pixels_of(data.test).numpy().tobytes() == rows[30:].tobytes()
    assert data.train.labels.tolist() == [(i + j) % 10 for i in range(5) for j in range(6)]
    assert data.test.labels.tolist() == [5, 6, 7, 8, 9, 0]
    assert (data.train.padding, data.train.flip) == (4, True)
    assert data.input.mean == (0.4914, 0.4822, 0.4465)


def test_cifar100_has_its_fine_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = pytest.importorskip("torchvision.datasets").CIFAR100
    rows = np.random.default_rng(0).integers(0, 256, size=(5, 3072), dtype=np.uint8)
    folder = tmp_path / "cifar-100-python"
    content = {"data": rows, "fine_labels": [99, 0, 50, 1, 2], "coarse_labels": [0] * 5}
    monkeypatch.setattr(reader, "train_list", [["train", write(folder / "train", content)]])
    monkeypatch.setattr(reader, "test_list", [["test", write(folder / "test", content)]])
    names = [f"class {i}" for i in range(100)]
    meta = write(folder / "meta", {"fine_label_names": names})
    monkeypatch.setattr(reader, "meta", reader.meta | {"md5": meta})
    data = load("cifar100", str(tmp_path), timesteps=4, download=False)
    assert data.classes == tuple(names)
    assert data.train.labels.tolist() == [99, 0, 50, 1, 2]
    assert pixels_of(data.train).shape == (5, 3, 32, 32)
    assert data.input.std == (0.2673, 0.2564, 0.2762)


def test_damaged_cifar_is_refused_before_it_is_unpickled(
    cifar10: tuple[Path, np.ndarray],
) -> None:
    directory, _ = cifar10
    file = directory / "cifar-10-batches-py" / "data_batch_2"
    file.write_bytes(file.read_bytes()[:-1])
    message = (
        f"{file.parent}: files are missing or damaged; "
        f"unpack file:///nowhere/cifar-10-python.tar.gz into {directory}, or name its place with "
        "data_dir"
    )
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        load("cifar10", directory, timesteps=4, download=False)


def test_a_failed_download_says_so(cifar10: tuple[Path, np.ndarray]) -> None:
    directory, _ = cifar10
    file = directory / "cifar-10-batches-py" / "test_batch"
    file.unlink()
    message = (
        f"{file.parent}: the download failed (<urlopen error [Errno 2] No such file or directory: "
        "'/nowhere/cifar-10-python.tar.gz'>); "
        f"unpack file:///nowhere/cifar-10-python.tar.gz into {directory}, or name its place with "
        "data_dir"
    )
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        load("cifar10", directory, timesteps=4)


def test_a_failed_download_leaves_no_empty_folder(
    cifar10: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    for above in (tmp_path / "mine", tmp_path / "new"):
        (tmp_path / "mine").mkdir(exist_ok=True)
        with pytest.raises(DataError, match="the download failed"):
            load("cifar10", above / "data" / "cifar", timesteps=4)
    assert list((tmp_path / "mine").iterdir()) == []
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "mnist",
            {},
            "data set 'mnist': choose one of digits, cifar10, cifar100, imagenet, "
            "imagefolder, cifar10-dvs, tensors",
        ),
        (
            "cifar10",
            {},
            "data set 'cifar10': its files are needed; give their directory with data_dir",
        ),
        ("digits", {"image_size": 8}, "data set 'digits': its image size is fixed; leave "
         "image_size out"),
        ("imagefolder", {"image_size": 0}, "data set 'imagefolder': image_size must be "
         "at least 1, not 0"),
    ],
)  # fmt: skip
def test_load_names_what_is_wrong(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        load(name, timesteps=4, **options)
