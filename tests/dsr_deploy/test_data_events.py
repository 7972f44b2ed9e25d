"""CIFAR10-DVS in recordings of its own format (AEDAT), written here."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from spikingjelly.datasets.cifar10_dvs import CIFAR10DVS_CLASS_NAMES

from dsr_deploy.data import DataError, Dataset, TensorSplit, batches, load

PER_CLASS = 10
EVENTS = 203
T = 4


def draw_events(label: int, number: int) -> np.ndarray:
    """Return columns x, y (0 to 127) and polarity (0 or 1) of one recording."""
    rng = np.random.default_rng((label, number))
    events = rng.integers(0, 128, size=(EVENTS, 3))
    events[:, 2] %= 2
    if (label, number) == (0, 0):
        events[:] = (127, 64, 1)  # one pixel that saturates nothing in a frame of 50 events
    if (label, number) == (0, 1):
        events = np.repeat([[5, 6, 0]], 1600, axis=0)  # 400 per frame: saturates
    return events


def write_aedat(path: Path, events: np.ndarray) -> None:
    """Write big-endian pairs of address and microseconds behind a header.

    The camera counts from the other end, swaps the axes and inverts the polarity.
    """
    x, y, polarity = events.T
    address = ((127 - x) << 8) | ((127 - y) << 1) | (1 - polarity)
    pairs = np.stack([address, 1000 + 10 * np.arange(len(events))], axis=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    header = b"#!AER-DAT2.0\r\n# This is a raw AE data file\r\n"
    path.write_bytes(header + pairs.astype(">u4").tobytes())


def histogram(events: np.ndarray) -> np.ndarray:
    """Return the counts of 48x48 pixels in T frames of equally many events, by hand."""
    counts = np.zeros((T, 2, 48, 48), dtype=np.int64)
    for index, (x, y, polarity) in enumerate(events):
        frame = min(index // (len(events) // T), T - 1)
        counts[frame, polarity, y * 48 // 128, x * 48 // 128] += 1
    return counts


def write_recordings(directory: Path) -> Path:
    for label, name in enumerate(CIFAR10DVS_CLASS_NAMES):
        for number in range(PER_CLASS):
            path = directory / "extract" / name / f"cifar10_{name}_{number}.aedat"
            write_aedat(path, draw_events(label, number))
    return directory


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Recordings as they are unpacked."""
    return write_recordings(tmp_path)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = write_recordings(tmp_path_factory.mktemp("dvs"))
    load_dvs(directory)
    return directory


@pytest.fixture
def converted(original: Path, tmp_path: Path) -> Path:
    """Recordings that were loaded once."""
    return shutil.copytree(original, tmp_path, dirs_exist_ok=True)


def load_dvs(directory: Path) -> Dataset:
    return load("cifar10-dvs", directory, timesteps=T, download=False)


def fails(directory: Path, message: str) -> None:
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        load_dvs(directory)


def check_counts(split: TensorSplit, numbers: range) -> None:
    expected = [histogram(draw_events(label, number)) for label in range(10) for number in numbers]
    assert split.labels.tolist() == [label for label in range(10) for _ in numbers]
    assert np.array_equal(split.pixels.numpy(), np.minimum(expected, 255))


def test_counts_are_the_histogram_of_the_events(recordings: Path) -> None:
    data = load_dvs(recordings)
    assert data.classes == CIFAR10DVS_CLASS_NAMES
    assert data.input.framed
    assert data.input.shape == (2, 48, 48)
    # nine tenths of each class, in the order of their names
    assert isinstance(data.train, TensorSplit)
    assert isinstance(data.test, TensorSplit)
    check_counts(data.train, range(9))
    check_counts(data.test, range(9, 10))
    assert (data.train.padding, data.train.flip) == (4, False)


def test_payloads_are_counts_and_saturate_at_127(converted: Path) -> None:
    data = load_dvs(converted)
    epoch = batches(data.train, data.input, 90, augment=False, seed=0, epoch=0, shuffle=False)
    ((payload, _),) = epoch
    assert payload.shape == (90, T, 2, 48, 48)
    assert payload[0, 0, 1, 24, 47] == EVENTS // T
    assert payload[1, 0, 0, 2, 1] == 127
    assert isinstance(data.train, TensorSplit)
    assert torch.equal(payload, data.train.pixels.clamp(max=127).to(torch.int8))


def test_the_second_time_everything_comes_from_one_file(converted: Path) -> None:
    first = load_dvs(converted)
    for folder in ("extract", "frames_number_4_split_by_number"):
        for file in (converted / folder).rglob("*.*"):
            file.write_bytes(b"")
    seen: list[tuple[int, int]] = []
    second = load("cifar10-dvs", converted, timesteps=T, progress=lambda *count: seen.append(count))
    assert not seen
    assert isinstance(first.train, TensorSplit)
    assert isinstance(second.train, TensorSplit)
    assert torch.equal(first.train.pixels, second.train.pixels)
    assert torch.equal(first.test.labels, second.test.labels)


def test_recordings_that_came_later_are_not_left_out(converted: Path) -> None:
    folders = [converted / "events_np", converted / "frames_number_4_split_by_number"]
    for number in range(PER_CLASS, PER_CLASS + 10):
        path = converted / "extract" / "cat" / f"cifar10_cat_{number}.aedat"
        write_aedat(path, draw_events(3, number))
    for made, source in zip(folders, ["extract", "events_np"], strict=True):
        fails(
            converted,
            f"{made}: made from other recordings ('cat/cifar10_cat_10' is in {source}/, not in "
            f"{made.name}/); delete events_np/, frames_number_*/ and counts_* beside it, they are "
            "made again",
        )
        shutil.rmtree(folders[0])
    shutil.rmtree(folders[1])
    (converted / "counts_4_48x48.npy").unlink()
    dataset = load_dvs(converted)
    assert (len(dataset.train), len(dataset.test)) == (99, 11)


def test_too_few_recordings_are_refused(recordings: Path) -> None:
    for file in (recordings / "extract").rglob("*_9.aedat"):
        file.unlink()
    fails(
        recordings,
        f"{recordings}: 90 recordings; the last tenth of each class is for testing, so at least "
        "one class needs 10 or more",
    )


def test_progress_is_counted_and_nothing_is_printed(
    recordings: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    seen: list[tuple[int, int]] = []
    load("cifar10-dvs", recordings, timesteps=T, progress=lambda *count: seen.append(count))
    assert seen == [(done, 100) for done in range(1, 101)]
    assert capfd.readouterr() == ("", "")


def test_missing_recordings_are_named(tmp_path: Path) -> None:
    message = "there is no folder extract/ with the recordings; allow the download"
    fails(tmp_path, f"{tmp_path}: {message}")
    with pytest.raises(DataError, match=r"^data set 'cifar10-dvs': timesteps 0; it is at least 1$"):
        load("cifar10-dvs", tmp_path, timesteps=0)


def test_a_missing_class_is_named(recordings: Path) -> None:
    (recordings / "extract" / "dog").rename(recordings / "moved")
    names = ", ".join(CIFAR10DVS_CLASS_NAMES)
    place = recordings / "extract"
    fails(recordings, f"{place}: 'dog' is missing; it holds the folders {names}")


def test_an_empty_class_is_named(recordings: Path) -> None:
    folder = recordings / "extract" / "dog"
    for file in folder.iterdir():
        file.unlink()
    fails(recordings, f"{folder}: there is no recording of 'dog'")


def test_a_foreign_file_is_named(recordings: Path) -> None:
    names = ", ".join(CIFAR10DVS_CLASS_NAMES)
    file = recordings / "extract" / "dog" / "notes.txt"
    file.write_text("dogs bark")
    fails(recordings, f"{file}: this is not a recording (.aedat); remove it")
    file.rename(recordings / "extract" / "notes.txt")
    place = recordings / "extract"
    fails(recordings, f"{place}: 'notes.txt' does not belong here; it holds the folders {names}")


@pytest.mark.parametrize(
    ("cut", "reason"),
    [
        (3, "buffer size must be a multiple of element size"),
        (4, "odd number of data elements"),
    ],
)
def test_a_truncated_recording_is_named_and_leaves_nothing_behind(
    recordings: Path, cut: int, reason: str
) -> None:
    file = recordings / "extract" / "frog" / "cifar10_frog_3.aedat"
    file.write_bytes(file.read_bytes()[:-cut])
    fails(recordings, f"{file}: the recording is damaged ({reason}); replace it")
    assert [entry.name for entry in recordings.iterdir()] == ["extract"]
    write_aedat(file, draw_events(6, 3))
    assert len(load_dvs(recordings).train) == 90


def test_a_corrupted_recording_is_named(recordings: Path) -> None:
    file = recordings / "extract" / "ship" / "cifar10_ship_0.aedat"
    file.write_bytes(b"\xff" * 100)
    with pytest.raises(DataError, match=rf"^{re.escape(str(file))}: the recording is damaged \("):
        load_dvs(recordings)


def test_damaged_frames_are_named(converted: Path) -> None:
    (converted / "counts_4_48x48.npy").unlink()
    file = converted / "frames_number_4_split_by_number" / "cat" / "cifar10_cat_2.npz"
    content = bytearray(file.read_bytes())
    content[100:150] = bytes(50)
    file.write_bytes(content)
    with pytest.raises(
        DataError, match=rf"^{re.escape(str(file))}: it is damaged \(.+\); delete its folder$"
    ):
        load_dvs(converted)


def test_damaged_counts_are_named(converted: Path) -> None:
    file = converted / "counts_4_48x48.npy"
    content = file.read_bytes()
    file.write_bytes(content[:-1])
    with pytest.raises(DataError, match=rf"^{re.escape(str(file))}: it is damaged \(.+\); delete"):
        load_dvs(converted)
    np.save(file, np.zeros(7, np.uint8))
    fails(converted, f"{file}: uint8 of shape (7,) for 100 recordings; delete it")


def test_an_interrupted_integration_is_named(converted: Path) -> None:
    marker = converted / "frames_number_4_split_by_number.building"
    marker.touch()
    with pytest.raises(
        DataError,
        match=rf"^{re.escape(str(converted))}: spikingjelly cannot make frames: "
        r"Found unfinished dataset preprocessing marker .+\.building\]\. Remove .+ before retrying",
    ):
        load_dvs(converted)
