"""Order and augmentation of an epoch, against a loop over samples."""

import os
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import RandomResizedCrop

from dsr_deploy.data import decoding
from dsr_deploy.data.batches import Batches, _shift_and_flip, batches
from dsr_deploy.data.decoding import draw_box
from dsr_deploy.data.encoding import event_input
from dsr_deploy.data.samples import DataError, FolderSplit, TensorSplit
from dsr_deploy.hardware.network import Input

# the payload is the pixel: batches can be compared with pixels
PLAIN = Input((3, 6, 8), (0.0,) * 3, (1.0,) * 3, pixel_scale=1.0, step=1.0)


def make_split(n: int, seed: int = 0, padding: int = 2, flip: bool = True) -> TensorSplit:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(1, 128, size=(n, 3, 6, 8), dtype=np.uint8)
    return TensorSplit(torch.from_numpy(pixels), torch.arange(n), padding, flip)


def train(split: TensorSplit | FolderSplit, size: int, **options: int) -> Batches:
    numbers = {"seed": 1, "epoch": 2} | options
    return batches(split, PLAIN, size, augment=True, shuffle=True, **numbers)


def contents(epoch: Batches) -> tuple[torch.Tensor, torch.Tensor]:
    payloads, labels = zip(*epoch, strict=True)
    return torch.cat(payloads), torch.cat(labels)


def test_an_unshuffled_epoch_is_the_split_itself() -> None:
    split = make_split(10)
    epoch = batches(split, PLAIN, 4, augment=False, seed=0, epoch=0, shuffle=False)
    assert [len(labels) for _, labels in epoch] == [4, 4, 2]
    assert len(epoch) == 3
    payload, labels = contents(epoch)
    assert payload.dtype == torch.int8
    assert torch.equal(payload, split.pixels.to(torch.int8))
    assert torch.equal(labels, split.labels)


def test_a_shuffled_epoch_has_every_sample_once_with_its_label() -> None:
    split = make_split(10)
    epoch = batches(split, PLAIN, 4, augment=False, seed=0, epoch=0, shuffle=True)
    payload, labels = contents(epoch)
    assert labels.tolist() != list(range(10))
    assert sorted(labels.tolist()) == list(range(10))
    assert torch.equal(payload, split.pixels[labels].to(torch.int8))


def test_augmentation_shifts_and_mirrors_each_sample_on_its_own() -> None:
    split = make_split(60)
    epoch = train(split, 16)
    drawn = epoch.draws
    assert drawn is not None
    assert {tuple(s) for s in drawn.shift.tolist()} <= {(y, x) for y in range(5) for x in range(5)}
    assert set(drawn.shift.flatten().tolist()) == set(range(5))
    assert set(drawn.flip.tolist()) == {False, True}
    payload, labels = contents(epoch)
    for position, (sample, label) in enumerate(zip(payload, labels, strict=True)):
        top, left = drawn.shift[position].tolist()
        padded = np.pad(split.pixels[label].numpy(), ((0, 0), (2, 2), (2, 2)))
        expected = padded[:, top : top + 6, left : left + 8]
        if drawn.flip[position]:
            expected = expected[:, :, ::-1]
        assert np.array_equal(sample.numpy(), expected.astype(np.int8))


def test_all_frames_of_a_sample_are_shifted_alike() -> None:
    rng = np.random.default_rng(0)
    frame = torch.from_numpy(rng.integers(1, 100, size=(20, 1, 2, 9, 9), dtype=np.uint8))
    split = TensorSplit(frame.expand(20, 5, 2, 9, 9).contiguous(), torch.arange(20), padding=4)
    epoch = batches(split, event_input((2, 9, 9)), 8, augment=True, seed=0, epoch=0, shuffle=True)
    payload, labels = contents(epoch)
    assert payload.shape == (20, 5, 2, 9, 9)
    assert torch.equal(payload, payload[:, :1].expand_as(payload))
    assert not torch.equal(payload, split.pixels[labels].to(torch.int8))


@given(
    n=st.integers(1, 5),
    channels=st.integers(1, 2),
    padding=st.integers(0, 3),
    seed=st.integers(0, 1000),
)
def test_shift_and_flip_equals_a_loop(n: int, channels: int, padding: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, size=(n, channels, 4, 5), dtype=np.uint8)
    shift = rng.integers(0, 2 * padding + 1, size=(n, 2))
    flip = rng.integers(0, 2, size=n).astype(bool)
    made = _shift_and_flip(
        torch.from_numpy(pixels), padding, torch.from_numpy(shift), torch.from_numpy(flip)
    )
    for i in range(n):
        for y in range(4):
            for x in range(5):
                row = y + shift[i, 0] - padding
                column = (4 - x if flip[i] else x) + shift[i, 1] - padding
                inside = 0 <= row < 4 and 0 <= column < 5
                expected = pixels[i, :, row, column] if inside else np.zeros(channels)
                assert np.array_equal(made[i, :, y, x], expected)


def test_an_epoch_does_not_depend_on_what_ran_before() -> None:
    split = make_split(30)
    whole_run = [contents(train(split, 8, epoch=epoch)) for epoch in range(4)]
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002  # a caller's own use of the global generator
    resumed = contents(train(split, 8, epoch=3))
    assert torch.equal(resumed[0], whole_run[3][0])
    assert torch.equal(resumed[1], whole_run[3][1])
    assert not torch.equal(whole_run[2][1], whole_run[3][1])
    assert not torch.equal(contents(train(split, 8, epoch=3, seed=5))[1], resumed[1])


@given(n=st.integers(6, 40), size=st.integers(6, 20), world=st.integers(1, 3))
def test_ranks_together_see_what_one_sees(n: int, size: int, world: int) -> None:
    split = make_split(n)
    alone = list(train(split, size))
    ranks = [list(train(split, size, rank=rank, world=world)) for rank in range(world)]
    rest = n % size
    assert {len(rank) for rank in ranks} == {n // size + (rest >= 2 * world)}
    for shares, (payload, labels) in zip(zip(*ranks, strict=True), alone, strict=False):
        assert torch.equal(torch.cat([share[0] for share in shares]), payload)
        assert torch.equal(torch.cat([share[1] for share in shares]), labels)
        sizes = [len(share[1]) for share in shares]
        assert max(sizes) - min(sizes) <= 1
        assert min(sizes) >= 2


def test_only_a_training_epoch_drops_a_last_single_sample() -> None:
    split = make_split(9)
    assert len(train(split, 4)) == 2
    assert len(train(split, 7)) == 2
    assert len(train(split, 5, world=2)) == 2
    assert len(train(split, 6, world=2)) == 1
    test = batches(split, PLAIN, 4, augment=False, seed=0, epoch=0, shuffle=False)
    assert len(test) == 3


@pytest.mark.parametrize(
    ("n", "size", "options", "message"),
    [
        (9, 4, {"rank": 2, "world": 2}, "process 2 of 2; they are 0 to 1"),
        (9, 4, {"seed": -1}, "seed -1, epoch 2; both are at least 0"),
        (
            9, 1, {},
            "batch size 1, processes: 1; each process needs at least 2 samples; "
            "raise the batch size",
        ),
        (
            9, 3, {"world": 2},
            "batch size 3, processes: 2; each process needs at least 2 samples; "
            "raise the batch size or start fewer processes",
        ),
        (
            1, 1, {},
            "a split of size 1, processes: 1; each process needs at least 2 samples; "
            "add some to the data set",
        ),
        (
            3, 3, {"world": 2},
            "a split of size 3, processes: 2; each process needs at least 2 samples; "
            "add some to the data set or start fewer processes",
        ),
    ],
)  # fmt: skip
def test_numbers_out_of_range_are_named(
    n: int, size: int, options: dict[str, int], message: str
) -> None:
    with pytest.raises(DataError, match=f"^batches: {re.escape(message)}$"):
        train(make_split(n), size, **options)


def test_a_split_needs_bytes_and_as_many_labels() -> None:
    with pytest.raises(DataError, match=r"^3 samples with 2 labels$"):
        TensorSplit(torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64))
    message = (
        "samples of torch.float32 with labels of torch.int64; they are torch.uint8 and torch.int64"
    )
    with pytest.raises(DataError, match=f"^{message}$"):
        TensorSplit(torch.zeros(2, 1, 2, 2), torch.zeros(2, dtype=torch.int64))


@pytest.fixture
def files(tmp_path: Path) -> tuple[FolderSplit, TensorSplit]:
    """The same samples in files and in memory."""
    memory = make_split(20)
    paths = []
    for label, pixels in enumerate(memory.pixels.numpy()):
        path = tmp_path / f"{label}.png"
        Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(path)
        paths.append(str(path))
    return FolderSplit(tuple(paths), memory.labels, (3, 6, 8), padding=2, flip=True), memory


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_files_give_the_batches_of_memory(
    files: tuple[FolderSplit, TensorSplit], monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    monkeypatch.setattr(decoding, "_threads", lambda: threads)
    monkeypatch.setattr(decoding, "FILES_PER_TASK", 2)
    folder, memory = files
    for rank in range(2):
        read = contents(train(folder, 7, rank=rank, world=2))
        expected = contents(train(memory, 7, rank=rank, world=2))
        assert torch.equal(read[0], expected[0])
        assert torch.equal(read[1], expected[1])


def test_random_cuts_depend_on_the_position_alone(
    files: tuple[FolderSplit, TensorSplit], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = replace(files[0], shape=(3, 4, 4), resize=True, crop=0.08, padding=0)
    input = replace(PLAIN, shape=(3, 4, 4))

    def epoch(number: int, threads: int) -> tuple[torch.Tensor, torch.Tensor]:
        monkeypatch.setattr(decoding, "_threads", lambda: threads)
        monkeypatch.setattr(decoding, "FILES_PER_TASK", 1 + 2 * threads)
        made = batches(folder, input, 8, augment=True, seed=3, epoch=number, shuffle=True)
        return contents(made)

    state = torch.random.get_rng_state()
    alone, spread, later = epoch(0, threads=1), epoch(0, threads=4), epoch(1, threads=1)
    assert torch.equal(torch.random.get_rng_state(), state), "the caller's generator was used"
    assert torch.equal(alone[0], spread[0])
    assert torch.equal(alone[1], spread[1])
    same = [alone[0][alone[1] == label].equal(later[0][later[1] == label]) for label in range(20)]
    assert not any(same), "a sample was cut alike in two epochs"


def test_without_augmentation_the_centre_is_cut(files: tuple[FolderSplit, TensorSplit]) -> None:
    folder, memory = files
    path = Path(folder.files[0]).with_name("large.png")
    large = np.zeros((80, 80, 3), np.uint8)
    large[30:50, 30:50] = 100
    Image.fromarray(large).save(path)
    split = FolderSplit((str(path),), memory.labels[:1], (3, 7, 7), resize=True)
    input = replace(PLAIN, shape=(3, 7, 7))
    ((payload, _),) = batches(split, input, 1, augment=False, seed=0, epoch=0, shuffle=False)
    # 80 pixels become 8, of which 7 remain: the bright square is central in what is left
    assert payload[0, 0, 3, 3] > 50
    assert payload[0, 0, 0].max() == payload[0, 0, :, 0].max() == 0


def test_a_damaged_file_is_one_line_from_any_thread(
    files: tuple[FolderSplit, TensorSplit],
) -> None:
    folder = files[0]
    Path(folder.files[3]).write_bytes(b"no image at all")
    message = f"{folder.files[3]}: this is not an image; remove it or replace it"
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        contents(train(folder, 4))
    assert not _decoding_threads()


def _decoding_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("decoding")]


def test_decoding_takes_neither_processes_nor_shared_memory(
    files: tuple[FolderSplit, TensorSplit], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small /dev/shm, as containers have it, made worker processes wait for ever."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    for place, name in ((os, "fork"), (os, "posix_spawn"), (BaseProcess, "start")):
        monkeypatch.setattr(place, name, refuse)
    many = replace(files[0], files=files[0].files * 60, labels=files[0].labels.repeat(60))
    epoch = iter(train(many, 64))
    payload, labels = next(epoch)
    assert not payload.is_shared()
    assert not labels.is_shared()
    assert _decoding_threads()
    del epoch  # as one that needs a single batch does
    assert not _decoding_threads()


def test_batches_are_decoded_ahead_but_not_all_of_them(
    files: tuple[FolderSplit, TensorSplit],
) -> None:
    asked: list[int] = []

    def requests() -> Iterator[list[tuple[int, int | None]]]:
        for file in range(20):
            asked.append(file)
            yield [(file, None)]

    stream = decoding.stream(files[0], requests())
    next(stream)
    assert asked == [0, 1, 2]
    next(stream)
    assert asked == [0, 1, 2, 3]
    stream.close()  # type: ignore[attr-defined]


@given(
    width=st.integers(1, 3000),
    height=st.integers(1, 3000),
    smallest=st.floats(0.01, 0.99),
    seed=st.integers(0, 1000),
)
def test_a_random_part_lies_within_the_image(
    width: int, height: int, smallest: float, seed: int
) -> None:
    left, top, right, bottom = draw_box(np.random.default_rng(seed), width, height, smallest)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height


def test_random_parts_are_spread_as_torchvision_spreads_them() -> None:
    image = Image.new("L", (500, 375))
    crop = RandomResizedCrop(224)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = [crop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(4000)]
    expected = np.array([(x, y, x + w, y + h) for y, x, h, w in theirs], dtype=np.float64)
    found = np.array([draw_box(np.random.default_rng(i), 500, 375, 0.08) for i in range(4000)])
    # deciles of each side; the standard error of a mean of 4,000 is a hundredth of the deviation
    tenths = np.linspace(0.1, 0.9, 9)
    for own, other in zip(found.T, expected.T, strict=True):
        assert np.abs(np.quantile(own, tenths) - np.quantile(other, tenths)).max() < 20
        assert abs(own.mean() - other.mean()) < 0.06 * other.std()
    areas = (found[:, 2] - found[:, 0]) * (found[:, 3] - found[:, 1]) / (500 * 375)
    assert 0.079 < areas.min() < 0.1
    assert areas.max() > 0.95


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((1000, 10), (493, 0, 506, 10)),
        ((10, 1000), (0, 493, 10, 506)),
        ((90, 100), (0, 0, 90, 100)),
    ],
)
def test_where_no_part_fits_the_largest_centre_is_taken(
    size: tuple[int, int], box: tuple[int, int, int, int]
) -> None:
    class Full:
        """Draws the largest area every time, in a form that does not fit."""

        def uniform(self, low: float, high: float) -> float:
            return high

    assert draw_box(Full(), *size, 1.0) == box  # type: ignore[arg-type]
