"""Folders of real PNG and JPEG files, written here."""

import errno
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dsr_deploy.data import folders
from dsr_deploy.data.augmentation import Augmentation
from dsr_deploy.data.batches import batches
from dsr_deploy.data.dataset import Dataset
from dsr_deploy.data.decoding import read
from dsr_deploy.data.loading import load
from dsr_deploy.data.samples import DataError, FolderSplit, TensorSplit
from dsr_deploy.hardware.encoding import payload_table
from dsr_deploy.hardware.network import Input

CLASSES = ("ant", "bee", "cow")


def write_image(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def random_pixels(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size=shape, dtype=np.uint8)


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes four training images and two test images per class."""

    def make(*shape: int, test: str = "test", suffix: str = "png") -> Path:
        seed = 0
        for split, count in (("train", 4), (test, 2)):
            for name in CLASSES:
                for i in range(count):
                    path = tmp_path / split / name / f"{i}.{suffix}"
                    write_image(path, random_pixels(seed, *shape))
                    seed += 1
        return tmp_path

    return make


def fails(directory: Path, message: str, name: str = "imagefolder") -> None:
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        load(name, directory, timesteps=4)


@pytest.mark.parametrize("test", ["test", "val"])
def test_small_images_are_read_as_they_are(make_folder: Callable[..., Path], test: str) -> None:
    data = load("imagefolder", make_folder(16, 12, 3, test=test), timesteps=4)
    assert data.name == "imagefolder"
    assert data.classes == CLASSES
    assert isinstance(data.train, TensorSplit)
    assert isinstance(data.test, TensorSplit)
    assert (data.train.padding, data.train.flip) == (2, False)
    assert (data.test.padding, data.test.flip) == (0, False)
    pixels = torch.cat([data.train.pixels, data.test.pixels]).numpy()
    assert np.array_equal(
        pixels, np.stack([random_pixels(s, 16, 12, 3).transpose(2, 0, 1) for s in range(18)])
    )
    assert data.train.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert data.test.labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_mean_and_deviation_are_those_of_the_training_images(
    make_folder: Callable[..., Path],
) -> None:
    data = load("imagefolder", make_folder(16, 12, 3), timesteps=4)
    assert isinstance(data.train, TensorSplit)
    pixels = data.train.pixels.numpy() / 255.0
    assert data.input.mean == pytest.approx(pixels.mean(axis=(0, 2, 3)).tolist(), rel=1e-12)
    assert data.input.std == pytest.approx(pixels.std(axis=(0, 2, 3)).tolist(), rel=1e-12)
    assert data.input.shape == (3, 16, 12)


def test_gray_jpegs_have_one_channel_and_pils_pixels(make_folder: Callable[..., Path]) -> None:
    directory = make_folder(16, 16, suffix="jpg")
    data = load("imagefolder", directory, timesteps=4)
    assert data.input.shape == (1, 16, 16)
    assert isinstance(data.train, TensorSplit)
    expected = np.array(Image.open(directory / "train" / "bee" / "1.jpg"))
    assert np.array_equal(data.train.pixels[5, 0].numpy(), expected)


def test_colour_jpegs_have_pils_pixels(make_folder: Callable[..., Path]) -> None:
    directory = make_folder(16, 16, 3, suffix="jpg")
    data = load("imagefolder", directory, timesteps=4)
    assert isinstance(data.test, TensorSplit)
    expected = np.array(Image.open(directory / "test" / "cow" / "0.jpg")).transpose(2, 0, 1)
    assert np.array_equal(data.test.pixels[4].numpy(), expected)


def test_images_of_one_colour_are_possible(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name in ("black", "dark"):
            write_image(tmp_path / split / name / "0.png", np.zeros((8, 8), np.uint8))
    assert load("imagefolder", tmp_path, timesteps=4).input.std == (0.5,)


def load_pixels(directory: Path, pixels: np.ndarray) -> Dataset:
    """Load training images of these pixels, two test images beside them."""
    for i, image in enumerate(pixels):
        write_image(directory / "train" / ("first" if i == 0 else "rest") / f"{i}.png", image)
    for name in ("first", "rest"):
        write_image(directory / "test" / name / "0.png", pixels[0])
    return load("imagefolder", directory, timesteps=4)


def payload_counts(data: Dataset) -> list[int]:
    """Return how many payloads the training pixels have, per channel."""
    assert isinstance(data.train, TensorSplit)
    rows = zip(payload_table(data.input), data.train.pixels.transpose(0, 1).numpy(), strict=True)
    return [len(np.unique(row[pixels])) for row, pixels in rows]


def test_one_blue_pixel_leaves_the_other_channels_their_payloads(tmp_path: Path) -> None:
    pixels = random_pixels(0, 8, 32, 32, 3)
    pixels[..., 2] = 0
    pixels[3, 4, 5, 2] = 255
    data = load_pixels(tmp_path, pixels)
    assert payload_counts(data) == [65, 64, 2]


@pytest.mark.parametrize("blue", [0, 128, 255])
def test_a_channel_of_one_colour_takes_no_payloads_from_the_others(
    tmp_path: Path, blue: int
) -> None:
    pixels = 64 + random_pixels(0, 8, 32, 32, 3) // 2
    before = load_pixels(tmp_path / "before", pixels).input
    pixels[..., 2] = blue
    data = load_pixels(tmp_path / "after", pixels)
    assert data.input.std == (*before.std[:2], 0.5)
    assert data.input.step == max(farthest / 127 for farthest in reach(before)[:2])
    assert payload_counts(data)[2] == 1


def reach(input: Input) -> list[float]:
    return [max(m, 1 - m) / s for m, s in zip(input.mean, input.std, strict=True)]


@pytest.mark.parametrize("lowest", [0, 25, 127, 252])
def test_a_few_gray_levels_have_a_payload_each(tmp_path: Path, lowest: int) -> None:
    pixels = lowest + random_pixels(0, 8, 32, 32) % 4
    assert payload_counts(load_pixels(tmp_path, pixels)) == [4]


def test_two_equally_frequent_gray_levels_have_a_payload_each(tmp_path: Path) -> None:
    pixels = np.tile(np.array([[100, 101]], np.uint8), (2, 8, 4))
    assert payload_counts(load_pixels(tmp_path, pixels)) == [2]


def test_too_many_images_for_memory_give_the_same_batches(
    make_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = make_folder(16, 16, 3)
    memory = load("imagefolder", directory, timesteps=4)
    monkeypatch.setattr(folders, "IN_MEMORY_BYTES", 1000)
    disk = load("imagefolder", directory, timesteps=4)
    assert isinstance(disk.train, FolderSplit)
    assert disk.input == memory.input
    for split in ("train", "test"):
        epochs = [
            list(
                batches(
                    getattr(data, split), data.input, 5,
                    augment=split == "train", seed=0, epoch=0, shuffle=True,
                )
            )
            for data in (disk, memory)
        ]  # fmt: skip
        assert len(epochs[0]) == len(epochs[1]) > 0
        for (payload, labels), (expected, targets) in zip(*epochs, strict=True):
            assert torch.equal(payload, expected)
            assert torch.equal(labels, targets)


def test_progress_counts_both_splits(make_folder: Callable[..., Path]) -> None:
    seen: list[tuple[int, int]] = []
    load(
        "imagefolder",
        make_folder(8, 8),
        timesteps=4,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(12, 18), (18, 18)]


def test_large_images_are_cut_to_size(make_folder: Callable[..., Path]) -> None:
    directory = make_folder(70, 90, 3)
    data = load("imagefolder", directory, timesteps=4, image_size=20)
    assert data.input.shape == (3, 20, 20)
    for augment in (True, False):
        epoch = batches(data.train, data.input, 12, augment=augment, seed=0, epoch=0, shuffle=False)
        ((payload, _),) = epoch
        assert payload.shape == (12, 3, 20, 20)
    assert load("imagefolder", directory, timesteps=4).input.shape == (3, 70, 90)


def decode(file: Path, side: int) -> np.ndarray:
    """Return the centre of an image, (side, side, 3)."""
    split = FolderSplit((str(file),), torch.zeros(1).long(), (3, side, side), resize=True)
    return read(split, [0])[0].numpy().transpose(1, 2, 0)


@pytest.mark.parametrize("size", [(40, 30), (31, 57), (4, 64), (4, 300), (300, 4)])
def test_the_centre_is_that_of_the_scaled_image(tmp_path: Path, size: tuple[int, int]) -> None:
    file = tmp_path / "0.png"
    write_image(file, random_pixels(0, *size, 3))
    height, width = (round(side * 32 / min(size)) for side in size)
    scaled = Image.open(file).resize((width, height), Image.Resampling.BILINEAR)
    top, left = (round((side - 28) / 2) for side in (height, width))
    expected = np.array(scaled)[top : top + 28, left : left + 28]
    assert np.array_equal(decode(file, 28), expected)


@pytest.mark.parametrize("shape", [(1, 1_000_000, 3), (1_000_000, 1, 3)])
def test_a_very_long_image_is_not_scaled_as_a_whole(
    tmp_path: Path, shape: tuple[int, int, int]
) -> None:
    # scaled as a whole, it would have rows longer than Pillow allows, or take terabytes
    file = tmp_path / "0.png"
    write_image(file, np.full(shape, 7, np.uint8))
    assert (decode(file, 600) == 7).all()


def test_small_images_of_another_size_are_cut_when_a_size_is_given(
    make_folder: Callable[..., Path],
) -> None:
    directory = make_folder(16, 16, 3)
    data = load("imagefolder", directory, timesteps=4, image_size=12)
    assert data.input.shape == (3, 12, 12)
    assert isinstance(data.train, FolderSplit)
    assert data.train.resize
    same = load("imagefolder", directory, timesteps=4, image_size=16)
    assert isinstance(same.train, TensorSplit)


def test_imagenet_takes_gray_and_cmyk_images_too(make_folder: Callable[..., Path]) -> None:
    directory = make_folder(40, 30, 3, test="val", suffix="jpg")
    write_image(directory / "train" / "ant" / "gray.jpg", random_pixels(0, 30, 40))
    Image.new("CMYK", (30, 30)).save(directory / "train" / "bee" / "cmyk.jpg")
    (directory / "test").mkdir()  # ImageNet's unlabelled test images
    data = load("imagenet", directory, timesteps=4)
    assert data.input.shape == (3, 224, 224)
    assert data.input.mean == (0.485, 0.456, 0.406)
    assert (len(data.train), len(data.test)) == (14, 6)
    epoch = batches(data.train, data.input, 14, augment=True, seed=0, epoch=0, shuffle=True)
    ((payload, labels),) = epoch
    assert payload.shape == (14, 3, 224, 224)
    assert torch.bincount(labels).tolist() == [5, 5, 4]


def test_hidden_files_do_not_count(make_folder: Callable[..., Path]) -> None:
    directory = make_folder(8, 8)
    (directory / "train" / "ant" / ".DS_Store").write_bytes(b"\0")
    assert len(load("imagefolder", directory, timesteps=4).train) == 12


def test_hidden_folders_do_not_count(make_folder: Callable[..., Path]) -> None:
    directory = make_folder(8, 8)
    expected = load("imagefolder", directory, timesteps=4)
    (directory / "train" / ".empty").mkdir()
    for place in ("train/ant", "train", "test", "test/cow"):
        write_image(directory / place / ".ipynb_checkpoints" / "0.png", random_pixels(0, 8, 8))
    data = load("imagefolder", directory, timesteps=4)
    assert data.classes == CLASSES
    assert (len(data.train), len(data.test)) == (12, 6)
    assert torch.equal(data.train.labels, expected.train.labels)


def test_a_data_set_within_a_hidden_folder_counts(
    make_folder: Callable[..., Path], tmp_path: Path
) -> None:
    directory = make_folder(8, 8)
    hidden = tmp_path / ".cache"
    hidden.mkdir()
    for name in ("train", "test"):
        (directory / name).rename(hidden / name)
    assert len(load("imagefolder", hidden, timesteps=4).train) == 12


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    none = tmp_path / "none"
    for name in ("imagefolder", "imagenet"):
        fails(none, f"{none}: there is no such directory; name the data set's with data_dir", name)


def test_a_directory_without_train_is_named_with_what_it_holds(tmp_path: Path) -> None:
    missing = f"{tmp_path}: there is no folder train/ with a folder per class in it"
    fails(tmp_path, missing)
    (tmp_path / "pictures" / "train").mkdir(parents=True)
    fails(tmp_path, f"{missing}; name {tmp_path / 'pictures'}, which has one, with data_dir")
    (tmp_path / "more").mkdir()
    fails(tmp_path, f"{missing}; it holds 'more', 'pictures'")


def test_a_missing_test_folder_is_named(make_folder: Callable[..., Path]) -> None:
    directory = make_folder(8, 8)
    (directory / "test").rename(directory / "evaluation")
    fails(directory, f"{directory}: there is neither test/ nor val/ beside train/")


@pytest.mark.parametrize("name", ["train", "test"])
def test_a_folder_without_classes_is_named(make_folder: Callable[..., Path], name: str) -> None:
    directory = make_folder(8, 8)
    folder = directory / name
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / ".ipynb_checkpoints").mkdir()
    fails(directory, f"{folder}: it is empty; a folder per class belongs here")
    for i in range(3):
        write_image(folder / f"{i}.png", random_pixels(0, 8, 8))
    fails(
        directory,
        f"{folder}: files: 3, but no folder per class; move each into a folder that is named after "
        "its class",
    )


def test_val_is_taken_where_test_has_no_classes(make_folder: Callable[..., Path]) -> None:
    directory = make_folder(8, 8, test="val")
    for i in range(3):  # unlabelled, as contests ship it
        write_image(directory / "test" / f"{i}.png", random_pixels(0, 8, 8))
    data = load("imagefolder", directory, timesteps=1)
    assert (len(data.test), data.classes) == (6, CLASSES)
    assert data.notes == (f"{directory}: val/ is the test set, as test/ has no folder per class",)
    # the usual layout of ImageNet, nothing to be told about it
    assert load("imagenet", directory, timesteps=1, image_size=8).notes == ()


def test_of_two_test_folders_the_one_that_is_not_read_is_named(
    make_folder: Callable[..., Path],
) -> None:
    directory = make_folder(8, 8)
    shutil.copytree(directory / "test", directory / "val")
    write_image(directory / "val" / "ant" / "2.png", random_pixels(0, 8, 8))
    data = load("imagefolder", directory, timesteps=1)
    assert (len(data.test), data.notes) == (
        6,
        (f"{directory}: test/ is the test set, val/ is not read",),
    )
    data = load("imagenet", directory, timesteps=1, image_size=8)
    assert (len(data.test), data.notes) == (
        7,
        (f"{directory}: val/ is the test set, test/ is not read",),
    )


def test_files_beside_the_classes_are_told(make_folder: Callable[..., Path]) -> None:
    directory = make_folder(8, 8)
    (directory / "train" / ".DS_Store").touch()
    for name in ("0.png", "labels.csv"):
        (directory / "train" / name).touch()
    note = f"{directory / 'train'}: files beside the folders of classes, not read: 2"
    assert load("imagefolder", directory, timesteps=1).notes == (note,)


@pytest.mark.parametrize("dataset", ["imagefolder", "imagenet"])
def test_one_class_alone_is_refused(tmp_path: Path, dataset: str) -> None:
    for split in ("train", "val"):
        write_image(tmp_path / split / "dog" / "0.png", random_pixels(0, 8, 8))
    message = f"{tmp_path / 'train'}: one class alone, 'dog', from which nothing can be told apart"
    fails(tmp_path, f"{message}; add a folder for each other class", dataset)


def test_an_extra_level_of_folders_is_guessed(make_folder: Callable[..., Path]) -> None:
    directory = make_folder(8, 8)
    for split in ("test", "train"):
        (directory / split).rename(directory / "images")
        (directory / split).mkdir()
        (directory / "images").rename(directory / split / "images")
        guess = "; images/ holds 'ant', 'bee', 'cow': if these are the classes, move them up"
        if split == "test":
            fails(
                directory,
                f"{directory}: train/ and test/ have different classes; only one has 'ant', 'bee', "
                f"'cow', 'images'{guess}",
            )
    fails(
        directory,
        f"{directory / 'train'}: one class alone, 'images', from which nothing can be told apart"
        + guess,
    )


def test_an_extra_level_in_every_class_is_told(make_folder: Callable[..., Path]) -> None:
    directory = make_folder(8, 8)
    for split in ("test", "train"):
        (directory / split).rename(directory / "inner")
        for name in ("first", "second"):
            shutil.copytree(directory / "inner", directory / split / name)
        shutil.rmtree(directory / "inner")
    data = load("imagefolder", directory, timesteps=1)
    assert data.classes == ("first", "second")
    assert data.notes == (
        f"{directory / 'train'}: every class holds the same folders, 'ant', 'bee', 'cow'; if these "
        "are the classes, move them up",
    )


@pytest.mark.parametrize("part", ["train", "val"])
@pytest.mark.parametrize("dataset", ["imagenet", "imagefolder"])
def test_files_that_are_no_images_are_named_before_training(
    make_folder: Callable[..., Path], dataset: str, part: str
) -> None:
    directory = make_folder(80, 80, test="val")
    for path in (directory / part).glob("*/*"):
        path.write_bytes(b"no image")
    file = directory / part / "ant" / "0.png"
    fails(directory, f"{file}: this is not an image; remove it or replace it", dataset)


def test_differing_classes_are_named(make_folder: Callable[..., Path]) -> None:
    directory = make_folder(8, 8)
    write_image(directory / "train" / "dog" / "0.png", random_pixels(0, 8, 8))
    (directory / "test" / "cow").rename(directory / "test" / "elk")
    fails(
        directory,
        f"{directory}: train/ and test/ have different classes; only one has 'cow', 'dog', 'elk'",
    )


@pytest.mark.parametrize("place", [".", "train", "train/bee"])
def test_a_folder_that_may_not_be_entered_is_named(
    make_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    directory = make_folder(8, 8)
    forbidden = str(directory / place)

    def scandir(path: str, own: Callable[..., object] = os.scandir) -> object:
        if str(path) == forbidden:
            raise PermissionError(errno.EACCES, "Permission denied", forbidden)
        return own(path)

    monkeypatch.setattr(os, "scandir", scandir)  # root may enter everywhere
    monkeypatch.setattr(os, "listdir", lambda path: [entry.name for entry in scandir(path)])
    if place == ".":
        (directory / "train").rename(directory / "other")
    fails(directory, f"{forbidden}: it cannot be read (Permission denied)")


def test_a_class_name_that_no_network_file_holds_is_named(
    make_folder: Callable[..., Path],
) -> None:
    directory = make_folder(8, 8)
    (directory / "train" / "a\u200bb").mkdir()
    fails(
        directory,
        f"{directory / 'train'}: a folder named 'a\\u200bb'; a class is named with at most 200 "
        "printable characters: rename it",
    )


@pytest.mark.parametrize("target", [".", "..", "../bee"])
def test_images_that_a_link_doubles_are_named(
    make_folder: Callable[..., Path], target: str
) -> None:
    directory = make_folder(8, 8)
    link = directory / "train" / CLASSES[0] / "link"
    link.symlink_to(target)
    with pytest.raises(DataError, match=r": the same folder as .*; remove one of the two$"):
        load("imagefolder", directory, timesteps=4)
    link.unlink()
    elsewhere = directory / "elsewhere"
    (directory / "train" / CLASSES[0]).rename(elsewhere)
    (directory / "train" / CLASSES[0]).symlink_to(elsewhere)
    assert len(load("imagefolder", directory, timesteps=4).train) == 4 * len(CLASSES)


def test_a_class_without_images_is_named(make_folder: Callable[..., Path]) -> None:
    directory = make_folder(8, 8)
    for name in "abcdefg":
        (directory / "test" / name).mkdir()
        write_image(directory / "train" / name / "0.png", random_pixels(0, 8, 8))
    message = "there is no image of 'a', 'b', 'c', 'd', 'e' and 2 more"
    fails(directory, f"{directory / 'test'}: {message}")


def test_a_file_that_is_no_image_is_named(make_folder: Callable[..., Path]) -> None:
    directory = make_folder(8, 8)
    file = directory / "train" / "bee" / "notes.txt"
    file.write_text("bees are insects")
    fails(directory, f"{file}: this is not an image; remove it or replace it")


def test_a_pipe_among_the_images_is_not_waited_for(make_folder: Callable[..., Path]) -> None:
    directory = make_folder(8, 8)
    file = directory / "train" / "bee" / "9.png"
    os.mkfifo(file)
    fails(directory, f"{file}: it cannot be read (it is a FIFO, not a regular file)")


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_truncated_image_is_named(make_folder: Callable[..., Path], suffix: str) -> None:
    directory = make_folder(64, 64, 3, suffix=suffix)
    file = directory / "test" / "cow" / f"1.{suffix}"
    file.write_bytes(file.read_bytes()[:-2000])
    with pytest.raises(DataError, match=rf"^{re.escape(str(file))}: the image is damaged \(.+\)"):
        load("imagefolder", directory, timesteps=4)


def test_a_corrupted_image_is_named(make_folder: Callable[..., Path]) -> None:
    directory = make_folder(64, 64, 3)
    file = directory / "test" / "cow" / "1.png"
    content = bytearray(file.read_bytes())
    content[200:5000] = bytes(4800)
    file.write_bytes(content)
    with pytest.raises(DataError, match=rf"^{re.escape(str(file))}: the image is damaged \(.+\)"):
        load("imagefolder", directory, timesteps=4)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_an_image_of_another_size_is_named(make_folder: Callable[..., Path], suffix: str) -> None:
    directory = make_folder(16, 12, 3, suffix=suffix)
    file = directory / "train" / "cow" / f"2.{suffix}"
    write_image(file, random_pixels(0, 20, 10, 3))
    fails(
        directory,
        f"{file}: an image of 10x20 pixels, the first one has 12x16; "
        "bring all to one size with image_size",
    )


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_an_image_of_another_mode_is_named(make_folder: Callable[..., Path], suffix: str) -> None:
    directory = make_folder(16, 16, 3, suffix=suffix)
    file = directory / "train" / "cow" / f"2.{suffix}"
    write_image(file, random_pixels(0, 16, 16))
    fails(
        directory,
        f"{file}: an image of mode L, the first one has mode RGB; convert it to RGB",
    )


def test_a_first_image_of_another_mode_is_named(make_folder: Callable[..., Path]) -> None:
    directory = make_folder(8, 8, 4)
    file = directory / "train" / "ant" / "0.png"
    fails(
        directory,
        f"{file}: an image of mode RGBA; convert all to gray (L) or colour (RGB)",
    )


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_an_image_that_disappears_while_training_is_named(
    make_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr(folders, "IN_MEMORY_BYTES", 1000)
    directory = make_folder(16, 16, 3, suffix=suffix)
    data = load("imagefolder", directory, timesteps=4)
    file = directory / "train" / "bee" / f"1.{suffix}"
    file.unlink()
    epoch = batches(data.train, data.input, 4, augment=True, seed=0, epoch=0, shuffle=True)
    message = f"{file}: it cannot be read (No such file or directory)"
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        list(epoch)


ORIENTATION = 0x0112


def write_photo(path: Path, pixels: np.ndarray, orientation: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(pixels).save(
        path, exif=exif, **({"quality": 100} if path.suffix == ".jpg" else {})
    )


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Return an image as it is to be shown; from the table of the EXIF standard."""
    shown = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.swapaxes(0, 1),
        6: pixels.swapaxes(0, 1)[:, ::-1],
        7: pixels.swapaxes(0, 1)[::-1, ::-1],
        8: pixels.swapaxes(0, 1)[::-1],
    }
    return shown[orientation]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("shape", [(16, 24), (16, 24, 3)])
def test_photos_are_read_as_they_are_shown(
    tmp_path: Path, suffix: str, orientation: int, shape: tuple[int, ...]
) -> None:
    for split in ("train", "test"):
        for seed, name in enumerate("ab"):
            path = tmp_path / split / name / f"0.{suffix}"
            write_photo(path, random_pixels(seed, *shape), orientation)
    data = load("imagefolder", tmp_path, timesteps=1)
    assert isinstance(data.train, TensorSplit)
    first = Image.open(tmp_path / "train" / "a" / f"0.{suffix}")  # PIL does not turn it
    stored = np.asarray(first)
    first.close()
    expected = turned(stored, orientation).reshape(*turned(stored, orientation).shape[:2], -1)
    # its size is that of the turned image, too
    assert data.input.shape == (expected.shape[2], *expected.shape[:2])
    assert np.array_equal(data.train.pixels[0].numpy(), expected.transpose(2, 0, 1))


@pytest.mark.parametrize("dataset", ["imagenet", "imagefolder"])
def test_photos_that_are_cut_are_turned_first(tmp_path: Path, dataset: str) -> None:
    pixels = np.zeros((96, 64, 3), np.uint8)
    pixels[:48] = 255
    for split in ("train", "val"):
        for name, orientation in (("up", 1), ("down", 3)):
            write_photo(tmp_path / split / name / "0.jpg", pixels, orientation)
    augmentation = Augmentation(crop=1.0)
    data = load(dataset, tmp_path, timesteps=1, image_size=40, augmentation=augmentation)
    for split in (data.train, data.test):
        epoch = batches(split, data.input, 2, augment=True, seed=0, epoch=0, shuffle=False)
        ((payloads, labels),) = epoch
        assert [data.classes[label] for label in labels] == ["down", "up"]
        brighter_half = payloads.float().unflatten(2, (2, -1)).mean(dim=(1, 3, 4)).argmax(1)
        assert brighter_half.tolist() == [1, 0]


def odd_note(value: int) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = value
    return exif.tobytes()


@pytest.mark.parametrize("note", [b"Exif\0\0" + b"\xff" * 20, odd_note(0), odd_note(9)])
def test_a_damaged_note_of_the_orientation_is_left_aside(tmp_path: Path, note: bytes) -> None:
    for size, resize in ((16, False), (8, True)):
        file = tmp_path / "0.jpg"
        Image.fromarray(random_pixels(0, 16, 16)).save(file, exif=note)
        damaged = FolderSplit((str(file),), torch.zeros(1).long(), (1, size, size), resize=resize)
        found = read(damaged, [0])
        Image.fromarray(random_pixels(0, 16, 16)).save(file)
        assert torch.equal(found, read(damaged, [0]))
