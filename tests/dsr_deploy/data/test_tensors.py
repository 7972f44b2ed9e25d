"""Data sets of samples that a user has in memory."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dsr_deploy.data.augmentation import Augmentation
from dsr_deploy.data.batches import batches
from dsr_deploy.data.dataset import Dataset
from dsr_deploy.data.encoding import encode
from dsr_deploy.data.loading import load
from dsr_deploy.data.samples import DataError, FolderSplit
from dsr_deploy.data.tensors import FILE

LABELS = torch.tensor([0, 1, 2, 0])
PIXELS = torch.arange(4 * 2 * 3 * 5, dtype=torch.uint8).reshape(4, 2, 3, 5)


def made(pixels: Any = PIXELS, labels: Any = LABELS, **options: Any) -> Dataset:
    return Dataset.from_tensors((pixels, labels), (pixels, labels), **options)


def refused(message: str) -> Any:
    return pytest.raises(DataError, match=f"^{re.escape(message)}$")


def test_bytes_stay_bytes_and_are_normalised_by_their_own_statistics() -> None:
    data = made(classes=("a", "b", "c"), name="mine")
    assert torch.equal(data.train.pixels, PIXELS)
    assert data.train.labels.dtype == torch.int64
    values = PIXELS.double() / 255
    assert data.input.mean == pytest.approx(values.mean((0, 2, 3)).tolist())
    assert data.input.std == pytest.approx(values.std((0, 2, 3), unbiased=False).tolist())
    assert (data.classes, data.notes) == (("a", "b", "c"), ())
    assert repr(data) == "Dataset('mine', 4 + 4 images of 2x3x5, 3 classes)"


def test_floats_become_the_nearest_bytes_and_this_is_said() -> None:
    exact = made(PIXELS.float() / 255)
    assert torch.equal(exact.train.pixels, PIXELS)
    values = torch.tensor([-1.0, -0.5, 0.0, 1.0]).reshape(1, 1, 2, 2).expand(4, 1, 2, 2)
    data = made(values, value_range=(-1, 1))
    assert data.train.pixels[0].flatten().tolist() == [0, 64, 128, 255]
    assert data.notes == (
        "samples of floats, -1 to 1, became bytes in 255 steps of 0.007843: training, quantization "
        "and the chip see the bytes",
    )


def test_gray_images_need_no_channel_and_arrays_no_torch() -> None:
    data = made(PIXELS[:, 0].numpy(), LABELS.numpy().astype(np.int32))
    assert torch.equal(data.test.pixels, PIXELS[:, :1])
    assert data.classes == ("0", "1", "2")


def test_frames_of_whole_numbers_are_event_counts() -> None:
    frames = torch.randint(0, 140, (4, 6, 2, 3, 3))
    frames[0, 0, 0, 0, 0] = 139
    data = made(frames)
    assert data.input.framed
    assert torch.equal(encode(data.input, data.train.pixels), frames.clamp(max=127).to(torch.int8))
    assert data.notes == ("event counts of up to 139: those above 127 count as 127",)
    assert repr(data) == "Dataset('tensors', 4 + 4 frames of 2x3x3, 3 classes)"


@pytest.mark.parametrize("whole", [True, False])
def test_other_frames_are_pictures(whole: bool) -> None:
    frames = torch.randint(0, 256, (4, 6, 2, 3, 3))
    data = made(frames, value_range=(0, 255)) if whole else made(frames / 255)
    assert data.input.framed
    assert torch.equal(data.train.pixels, frames.to(torch.uint8))
    assert min(data.input.mean) > 0.3


class Listed(torch.utils.data.Dataset[Any]):
    classes = ("cat", "dog")

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


def test_a_torch_data_set_is_read_item_by_item() -> None:
    items = [(PIXELS[i].float() / 255, i % 2) for i in range(4)]
    data = Dataset.from_tensors(Listed(items), Listed(items[:2]))
    assert torch.equal(data.train.pixels, PIXELS)
    assert torch.equal(data.test.pixels, PIXELS[:2])
    assert data.classes == ("cat", "dog")
    assert data.train.labels.tolist() == [0, 1, 0, 1]


def test_images_of_pil_have_their_channels_first() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (3, 5, 3), dtype=np.uint8)
    items = [(Image.fromarray(rgb), 0), (Image.fromarray(255 - rgb), 1)]
    data = Dataset.from_tensors(Listed(items), Listed(items))
    assert np.array_equal(data.train.pixels[0].numpy(), rgb.transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("train", "options", "message"),
    [
        (
            (PIXELS.float(), LABELS),
            {},
            "train: samples must lie within 0 to 1, not 0 to 119; give their own value_range",
        ),
        (
            (PIXELS.long() - 1, LABELS),
            {},
            "train: samples must lie within 0 to 255, not -1 to 118; give their own value_range",
        ),
        (
            (torch.full((4, 2, 2), torch.nan), LABELS),
            {},
            "train: samples must be numbers; 16 values are NaN",
        ),
        (
            (PIXELS, LABELS),
            {"value_range": (0, 300)},
            "value_range of whole numbers must lie within 0 to 255, not (0, 300); convert the "
            "samples to floats for another",
        ),
        (
            (PIXELS.float(), LABELS),
            {"value_range": (1, 1)},
            "value_range must be two numbers, the lower first, not (1, 1)",
        ),
        (
            (PIXELS.float(), LABELS),
            {"value_range": 1},
            "value_range must be two numbers, the lower first, not 1",
        ),
        (
            (PIXELS[:0], LABELS[:0]),
            {},
            f"train: there are no samples, the shape is {(0, *PIXELS.shape[1:])}",
        ),
        (
            (PIXELS.flatten(1), LABELS),
            {},
            "train: samples must be of shape (N, H, W), (N, C, H, W) or (N, T, C, H, W), not "
            "(4, 30)",
        ),
        ((PIXELS, LABELS[:3]), {}, "train: 4 samples need as many labels, not 3"),
        (
            (PIXELS, LABELS.float()),
            {},
            "train: labels must be whole numbers of shape (N,), not torch.float32 of (4,)",
        ),
        ((PIXELS, LABELS - 1), {}, "train: labels must be at least 0, not -1"),
        (
            (PIXELS, LABELS),
            {"classes": ("a", "b")},
            "labels must be 0 to 1, as there are 2 classes, not 2",
        ),
        ((PIXELS, LABELS), {"classes": ("a",)}, "classes must be at least 2, not 1"),
        (
            (["a"], LABELS),
            {},
            "train: samples: must be a tensor or an array of numbers, not list",
        ),
        (
            iter(()),
            {},
            "train: give a pair (samples, labels), or a torch Dataset that has a length, not "
            "tuple_iterator",
        ),
        (Listed([]), {}, "train: it has no samples"),
        (
            Listed([PIXELS[0]]),
            {},
            "train: its item 0 must be a sample and its label, not Tensor",
        ),
        (
            Listed([(PIXELS[0], 0), (PIXELS[0, :, 1:], 0)]),
            {},
            "train: its item 1 has the shape (2, 2, 5), the first (2, 3, 5); bring all to one size",
        ),
    ],
)
def test_what_does_not_belong_together_is_refused(
    train: Any, options: dict[str, Any], message: str
) -> None:
    with refused(message):
        Dataset.from_tensors(train, train, **options)


def test_test_samples_are_of_the_same_kind_and_shape() -> None:
    with refused("train and test: one has whole numbers, the other floats; give one kind"):
        Dataset.from_tensors((PIXELS, LABELS), (PIXELS / 255, LABELS))
    with refused("test: samples of shape (2, 3, 4), those of train have (2, 3, 5)"):
        Dataset.from_tensors((PIXELS, LABELS), (PIXELS[..., 1:], LABELS))


@pytest.mark.parametrize("framed", [False, True])
def test_a_saved_data_set_is_read_by_name(tmp_path: Path, framed: bool) -> None:
    pixels = torch.randint(0, 100, (4, 5, 2, 3, 3)) if framed else PIXELS
    data = made(pixels, classes=("x", "y", "z"), name="mine")
    data.save(tmp_path / "new")
    again = load("tensors", tmp_path / "new", timesteps=5, augmentation=Augmentation(True, 0.4))
    assert torch.equal(again.train.pixels, data.train.pixels)
    assert torch.equal(again.test.labels, LABELS)
    assert (again.input, again.classes, again.contents, again.name) == (
        data.input, data.classes, data.contents, "mine"
    )  # fmt: skip
    assert (again.train.padding, again.test.padding) == (1 if framed else 2, 0)
    assert (again.train.flip, again.test.flip) == (True, False)
    stream = batches(again.train, again.input, 4, augment=True, seed=0, epoch=0, shuffle=True)
    payloads, _ = next(iter(stream))
    assert payloads.shape == data.train.pixels.shape


def test_frames_are_as_many_as_timesteps(tmp_path: Path) -> None:
    made(torch.zeros(4, 5, 2, 3, 3, dtype=torch.uint8)).save(tmp_path)
    with refused("data set 'tensors': timesteps must be 5, a frame for each, not 4"):
        load("tensors", tmp_path, timesteps=4)


def test_samples_in_files_are_not_saved_again() -> None:
    folder = FolderSplit(("a.png",), torch.tensor([0]), (3, 2, 2))
    data = Dataset("mine", ("a", "b"), made().input, folder, folder)
    with refused("data set 'mine': its samples are in image files already; name its folder"):
        data.save(Path("unused"))


def test_samples_are_a_copy() -> None:
    pixels, labels = PIXELS.clone(), LABELS.clone()
    data = made(pixels, labels)
    pixels[:] = 0
    labels[:] = 0
    assert torch.equal(data.train.pixels, PIXELS)
    assert torch.equal(data.train.labels, LABELS)


@pytest.mark.parametrize("cut", [0, 7, 100, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, cut: int) -> None:
    path = tmp_path / FILE
    made().save(tmp_path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match=rf"^{re.escape(str(path))}: no data set, or damaged \("):
        Dataset.read(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with refused(f"{tmp_path / FILE}: not there; Dataset.save writes it"):
        Dataset.read(tmp_path)


@pytest.mark.parametrize("change", [b'"classes\\"', b'\\"mean\\"', b'\\"shape\\"'])
def test_a_file_without_an_entry_is_refused(tmp_path: Path, change: bytes) -> None:
    path = tmp_path / FILE
    made().save(tmp_path)
    held = path.read_bytes()
    word = change.strip(b'"\\')
    path.write_bytes(held.replace(word, word[::-1], 1))
    with pytest.raises(DataError, match="no data set, or damaged"):
        Dataset.read(tmp_path)
