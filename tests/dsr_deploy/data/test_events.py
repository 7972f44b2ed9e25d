"""CIFAR10-DVS in recordings of its own format (AEDAT), written here."""

import errno
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import spikingjelly_dvs
import torch

from dsr_deploy.data.archives import CLASSES
from dsr_deploy.data.batches import batches
from dsr_deploy.data.dataset import Dataset
from dsr_deploy.data.events import count_events, split
from dsr_deploy.data.loading import load
from dsr_deploy.data.recordings import read
from dsr_deploy.data.samples import DataError, TensorSplit

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
    for label, name in enumerate(CLASSES):
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
    assert data.classes == CLASSES
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
    seen: list[tuple[int, int]] = []
    first = load_dvs(converted)
    second = load("cifar10-dvs", converted, timesteps=T, progress=lambda *count: seen.append(count))
    assert not seen
    assert isinstance(first.train, TensorSplit)
    assert isinstance(second.train, TensorSplit)
    assert torch.equal(first.train.pixels, second.train.pixels)
    assert torch.equal(first.test.labels, second.test.labels)
    assert first.contents == second.contents
    assert {path.name for path in converted.iterdir()} == {
        "extract", "counts_4_48x48.npy", "counts_4_48x48.json", "counts_4_48x48.lock",
    }  # fmt: skip


def _replace(directory: Path) -> None:
    """Put a recording of the same size in the place of another."""
    events = draw_events(3, 2)[::-1]
    write_aedat(directory / "extract" / "cat" / "cifar10_cat_2.aedat", events)


def _add(directory: Path) -> None:
    for number in range(PER_CLASS, PER_CLASS + 10):
        path = directory / "extract" / "cat" / f"cifar10_cat_{number}.aedat"
        write_aedat(path, draw_events(3, number))


def _rename(directory: Path) -> None:
    folder = directory / "extract" / "cat"
    (folder / "cifar10_cat_2.aedat").rename(folder / "cifar10_cat_20.aedat")


def _truncate_counts(directory: Path) -> None:
    file = directory / "counts_4_48x48.npy"
    file.write_bytes(file.read_bytes()[:-1])


def _flip_a_bit(directory: Path) -> None:
    file = directory / "counts_4_48x48.npy"
    content = bytearray(file.read_bytes())
    content[-1000] ^= 1
    file.write_bytes(content)


def _other_counts(directory: Path) -> None:
    np.save(directory / "counts_4_48x48.npy", np.zeros(7, np.uint8))


def _remove_note(directory: Path) -> None:
    (directory / "counts_4_48x48.json").unlink()


def _damage_note(directory: Path) -> None:
    (directory / "counts_4_48x48.json").write_text("{")


def _empty_counts(directory: Path) -> None:
    (directory / "counts_4_48x48.npy").write_bytes(b"")


CHANGES = [
    _replace, _add, _rename, _truncate_counts, _flip_a_bit, _other_counts, _remove_note,
    _damage_note, _empty_counts,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_frames_that_are_damaged_or_of_other_recordings_are_made_again(
    converted: Path, tmp_path_factory: pytest.TempPathFactory, change: Callable[[Path], None]
) -> None:
    change(converted)
    found = load_dvs(converted)
    fresh = tmp_path_factory.mktemp("fresh")
    shutil.copytree(converted / "extract", fresh / "extract")
    expected = load_dvs(fresh)
    for part in ("train", "test"):
        assert torch.equal(getattr(found, part).pixels, getattr(expected, part).pixels)
    assert found.contents == expected.contents
    assert not list(converted.glob("*.partial"))


def test_other_recordings_have_other_contents(converted: Path) -> None:
    before = load_dvs(converted).contents
    _replace(converted)
    after = load_dvs(converted).contents
    assert (after[0] != before[0], after[1]) == (True, before[1])


@pytest.mark.parametrize("numbers", [(10,) * 3, (10, 11, 19, 20, 29, 31, 100, 1000)])
def test_the_split_is_that_of_spikingjelly(numbers: tuple[int, ...]) -> None:
    labels = [label for label, number in enumerate(numbers) for _ in range(number)]
    expected = spikingjelly_dvs.split_to_train_test_set(
        0.9, [(None, label) for label in labels], len(numbers)
    )
    assert split(tuple(labels)) == tuple(part.indices for part in expected)


def test_events_are_read_as_spikingjelly_reads_them(recordings: Path) -> None:
    for file in (recordings / "extract").rglob("*_[03].aedat"):
        expected = spikingjelly_dvs.load_events(file)
        found = read(file, T)
        assert found.keys() == expected.keys()
        assert all(np.array_equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("timesteps", [1, 4, 7, EVENTS])
def test_events_are_counted_as_spikingjelly_counts_them(recordings: Path, timesteps: int) -> None:
    for file in (recordings / "extract").rglob("*_[03].aedat"):
        events = read(file, timesteps)
        expected = spikingjelly_dvs.integrate_events_by_fixed_frames_number(
            events, "number", timesteps, 128, 128
        )
        assert np.array_equal(count_events(events, timesteps), expected)


@pytest.fixture
def arrays(original: Path, tmp_path: Path) -> Path:
    """What spikingjelly makes of the recordings, without them."""
    (tmp_path / "events_np").mkdir()
    spikingjelly_dvs.CIFAR10DVS.create_raw_from_extracted(
        original / "extract", tmp_path / "events_np"
    )
    return tmp_path


def test_spikingjellys_arrays_take_the_place_of_deleted_recordings(
    arrays: Path, converted: Path, original: Path
) -> None:
    shutil.rmtree(converted / "extract")
    found, expected = load_dvs(arrays), load_dvs(original)
    assert found.contents == expected.contents


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"x": np.array([128])}, "x beyond 0 to 127"),
        ({"y": np.array([-1])}, "y beyond 0 to 127"),
        ({"p": np.array([2])}, "p beyond 0 to 1"),
        ({"t": np.array([1, 2])}, "no events, or columns of different lengths"),
        (dict.fromkeys("txyp", np.array([], int)), "no events, or columns of different lengths"),
    ],
)
def test_damaged_arrays_are_named(
    arrays: Path, columns: dict[str, np.ndarray], reason: str
) -> None:
    file = arrays / "events_np" / "cat" / "cifar10_cat_2.npz"
    np.savez(file, **dict.fromkeys("txyp", np.array([1])) | columns)
    fails(arrays, f"{file}: it is damaged ({reason}); replace it")
    np.savez(file, **dict.fromkeys("txyp", np.array([1, 1, 1])))
    fails(arrays, f"{file}: 3 events for 4 timesteps; replace it, or lower the timesteps")
    file.write_bytes(b"")
    fails(arrays, f"{file}: it is empty; delete events_np/")
    assert not list(arrays.glob("*.partial"))


def test_too_few_recordings_are_refused(recordings: Path) -> None:
    (recordings / "extract" / "cat" / "cifar10_cat_9.aedat").unlink()
    fails(
        recordings,
        f"{recordings / 'extract' / 'cat'}: recordings: 9; the last tenth of each class is for "
        "testing, so 10 or more are needed",
    )


def test_progress_is_counted_and_nothing_is_printed(
    recordings: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    seen: list[tuple[int, int]] = []
    load("cifar10-dvs", recordings, timesteps=T, progress=lambda *count: seen.append(count))
    assert seen == [(done, 100) for done in range(1, 101)]
    assert capfd.readouterr() == ("", "")


def test_missing_recordings_are_named(tmp_path: Path) -> None:
    message = (
        "there is no folder extract/ with the recordings; put them there, or name their place with "
        "data_dir"
    )
    fails(tmp_path, f"{tmp_path}: {message}")
    with pytest.raises(DataError, match=r"^data set 'cifar10-dvs': timesteps 0; it is at least 1$"):
        load("cifar10-dvs", tmp_path, timesteps=0)


def test_a_missing_class_is_named(recordings: Path) -> None:
    (recordings / "extract" / "dog").rename(recordings / "moved")
    names = ", ".join(CLASSES)
    place = recordings / "extract"
    fails(recordings, f"{place}: 'dog' is missing; it holds the folders {names}")


def test_an_empty_class_is_named(recordings: Path) -> None:
    folder = recordings / "extract" / "dog"
    for file in folder.iterdir():
        file.unlink()
    fails(
        recordings,
        f"{folder}: recordings: 0; the last tenth of each class is for testing, so 10 or more are "
        "needed",
    )


def test_a_foreign_file_is_named(recordings: Path) -> None:
    names = ", ".join(CLASSES)
    file = recordings / "extract" / "dog" / "notes.txt"
    file.write_text("dogs bark")
    fails(recordings, f"{file}: this is not a recording (.aedat); remove it")
    file.rename(recordings / "extract" / "notes.txt")
    place = recordings / "extract"
    fails(recordings, f"{place}: 'notes.txt' does not belong here; it holds the folders {names}")


HEADER = b"#!AER-DAT2.0\r\n# This is a raw AE data file\r\n"

NO_RECORDINGS = [
    (b"", "it is empty, not a recording; replace it"),
    (
        b"#!AER-DAT3.1\r\n" + bytes(80),
        "it begins with '#!AER-DAT3.1', a recording with '#!AER-DAT2.0'; replace it",
    ),
    (
        b"\xff\x1b[2J" * 20,
        "it begins with '\\xff\\x1b[2J\\xff\\x1b[2J\\xff\\x1b', a recording with "
        "'#!AER-DAT2.0'; replace it",
    ),
    (HEADER, "it has no events; replace it"),
    (HEADER[:-1], "it is damaged (its header has no end); replace it"),
    (b"#!AER-DAT2.0" + b"#" * 100_000 + b"\n", "it is damaged (its header has no end); replace it"),
    (HEADER + bytes(83), "3 of the 8 bytes of its last event are there; replace it"),
    (HEADER + bytes(84), "4 of the 8 bytes of its last event are there; replace it"),
    (HEADER + bytes(24), "3 events for 4 timesteps; replace it, or lower the timesteps"),
]


@pytest.mark.parametrize(("content", "message"), NO_RECORDINGS)
def test_what_is_no_recording_is_named_and_leaves_nothing_behind(
    recordings: Path, content: bytes, message: str
) -> None:
    file = recordings / "extract" / "frog" / "cifar10_frog_3.aedat"
    file.write_bytes(content)
    fails(recordings, f"{file}: {message}")
    assert [entry.name for entry in recordings.iterdir()] == ["extract"]


@pytest.mark.parametrize(("content", "message"), NO_RECORDINGS[:2])
def test_recordings_are_checked_though_their_frames_are_there(
    converted: Path, content: bytes, message: str
) -> None:
    file = converted / "extract" / "frog" / "cifar10_frog_3.aedat"
    file.write_bytes(content)
    fails(converted, f"{file}: {message}")


def test_a_recording_that_is_a_pipe_is_not_waited_for(recordings: Path) -> None:
    file = recordings / "extract" / "frog" / "cifar10_frog_3.aedat"
    file.unlink()
    os.mkfifo(file)
    fails(recordings, f"{file}: it cannot be read (it is a FIFO, not a regular file)")


def test_hidden_files_are_no_recordings(recordings: Path) -> None:
    (recordings / "extract" / ".DS_Store").touch()
    (recordings / "extract" / "frog" / "._cifar10_frog_3.aedat").touch()
    assert len(load_dvs(recordings).train) == 90


def test_an_interrupted_download_is_named(recordings: Path) -> None:
    marker = recordings / "events_np.building"
    marker.touch()
    fails(
        recordings,
        f"{marker}: spikingjelly was interrupted while it unpacked the recordings; delete this "
        "file, extract/ and events_np/ beside it",
    )


def test_frames_that_cannot_be_written_are_named(
    recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    fails(
        recordings,
        f"{recordings / 'counts_4_48x48.npy'}: cannot be written (No space left on device); the "
        "frames are kept beside the recordings: make room for them there, or name a copy with "
        "data_dir",
    )
    assert {entry.name for entry in recordings.iterdir()} == {"extract", "counts_4_48x48.lock"}
