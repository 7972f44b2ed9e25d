"""CIFAR10-DVS: recordings of an event camera, as frames of event counts."""

from __future__ import annotations

import json
import math
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from dsr_deploy import files
from dsr_deploy.data import digest, recordings
from dsr_deploy.data.augmentation import Augmentation
from dsr_deploy.data.dataset import Dataset
from dsr_deploy.data.encoding import event_input
from dsr_deploy.data.recordings import SENSOR, Events, Recordings
from dsr_deploy.data.samples import DataError, Progress, TensorSplit
from dsr_deploy.errors import UserError

SIDE: Final = 48
TRAIN_RATIO: Final = 0.9

Counts = NDArray[np.uint8]


def load_cifar10_dvs(
    directory: Path,
    timesteps: int,
    augmentation: Augmentation,
    download: bool,
    progress: Progress | None = None,
) -> Dataset:
    """Return CIFAR10-DVS as ``timesteps`` frames of 48x48 counts per sample and polarity.

    Each recording becomes frames of equally many events. The first 90% of each class, by name, are
    for training, as in the paper. The frames are kept in ``directory`` for the next time, and made
    again when the recordings are others or the file is damaged.

    Raises
    ------
    DataError
        If recordings are missing or damaged, or the frames cannot be written.
    """
    if timesteps < 1:
        raise DataError(f"data set 'cifar10-dvs': timesteps {timesteps}; it is at least 1")
    found = recordings.find(directory, timesteps, download)
    train, test = split(found.labels)
    # the training samples first, so that both splits are slices of one file
    counts, contents = _Store(directory, found, train, test, timesteps).get(progress)
    pixels = torch.from_numpy(counts)
    labels = torch.tensor(found.labels, dtype=torch.int64)
    return Dataset(
        name="cifar10-dvs",
        classes=found.classes,
        input=event_input((2, SIDE, SIDE)),
        train=TensorSplit(
            pixels[: len(train)],
            labels[train],
            augmentation.padding(SIDE, SIDE),
            augmentation.flip,
        ),
        test=TensorSplit(pixels[len(train) :], labels[test]),
        contents=contents,
    )


def split(labels: tuple[int, ...]) -> tuple[list[int], list[int]]:
    """Return the indices for training, the first nine tenths of each class, and for testing."""
    train: list[int] = []
    test: list[int] = []
    for label in range(max(labels) + 1):
        own = [index for index, other in enumerate(labels) if other == label]
        first = math.ceil(len(own) * TRAIN_RATIO)
        train += own[:first]
        test += own[first:]
    return train, test


def count_events(events: Events, timesteps: int) -> NDArray[np.int64]:
    """Return how many events each pixel had, int64 (T, 2, 128, 128), polarity before y and x.

    The frames have equally many events; the last one also has the remainder. There are no fewer
    events than frames.
    """
    total = len(events["t"])
    frame = np.minimum(np.arange(total) // (total // timesteps), timesteps - 1)
    shape = (timesteps, 2, SENSOR, SENSOR)
    place = np.ravel_multi_index((frame, events["p"], events["y"], events["x"]), shape)
    return np.bincount(place, minlength=math.prod(shape)).reshape(shape)


def reduce_counts(frames: NDArray[np.int64]) -> Counts:
    """Return frames of 128x128 counts as frames of 48x48 counts.

    The event at (x, y) goes to (x * 48 // 128, y * 48 // 128); counts that meet are summed, and
    saturate at 255. The paper resizes frames by interpolation instead, which gives fractions
    that no event camera sends.

    Parameters
    ----------
    frames : int64 (T, 2, 128, 128)
    """
    first = -(-np.arange(SIDE) * SENSOR // SIDE)
    sums = np.add.reduceat(np.add.reduceat(frames, first, axis=-1), first, axis=-2)
    return np.minimum(sums, 255).astype(np.uint8)


class _Store:
    """The file that keeps the frames, and one beside it that says of which recordings they are."""

    def __init__(
        self, directory: Path, found: Recordings, train: list[int], test: list[int], timesteps: int
    ) -> None:
        self.file = directory / f"counts_{timesteps}_{SIDE}x{SIDE}.npy"
        self.note = self.file.with_suffix(".json")
        self.found, self.order, self.training = found, train + test, len(train)
        self.shape = (len(self.order), timesteps, 2, SIDE, SIDE)

    def get(self, progress: Progress | None) -> tuple[Counts, tuple[str, str]]:
        """Return the counts, uint8 (N, T, 2, 48, 48), and the digests of both splits."""
        from filelock import FileLock

        kept = self._read()
        if kept is not None:
            return kept
        try:
            with FileLock(self.file.with_suffix(".lock")):  # another process may make them now
                kept = self._read()
                if kept is None:
                    self._write(progress)
                    kept = self._read()
        except DataError:
            raise  # of a recording
        except (OSError, UserError) as error:
            reason = getattr(error, "strerror", None) or error
            raise DataError(
                f"{self.file}: cannot be written ({reason}); the frames are kept beside the "
                "recordings: make room for them there, or name a copy with data_dir"
            ) from None
        if kept is None:
            raise DataError(f"{self.file}: another program changes it; let it end")
        return kept

    def _read(self) -> tuple[Counts, tuple[str, str]] | None:
        """Return what is there; None if it is damaged or of other recordings."""
        try:
            note = json.loads(self.note.read_bytes())
            # copy on write: a tensor needs memory that it could write to
            counts: Counts = np.load(self.file, mmap_mode="c")
        except (OSError, ValueError, EOFError):
            return None
        if counts.shape != self.shape or counts.dtype != np.uint8:
            return None
        about = self._about(counts)
        return (counts, (about["train"], about["test"])) if note == about else None

    def _about(self, counts: Counts) -> dict[str, str]:
        pixels = torch.from_numpy(counts)
        return {
            "recordings": self.found.identity,
            "train": digest.of_pixels(pixels[: self.training]),
            "test": digest.of_pixels(pixels[self.training :]),
        }

    def _write(self, progress: Progress | None) -> None:
        partial = self.file.with_suffix(".partial")
        try:
            counts = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=self.shape)
            _reserve(partial)
            self._fill(counts, progress)
            counts.flush()
            self.note.unlink(missing_ok=True)  # until both are there, there are none
            partial.replace(self.file)
            files.write_json(self.note, self._about(counts))
        except BaseException:
            partial.unlink(missing_ok=True)
            raise

    def _fill(self, counts: Counts, progress: Progress | None) -> None:
        def convert(position: int) -> None:
            events = recordings.read(self.found.files[self.order[position]], self.shape[1])
            counts[position] = reduce_counts(count_events(events, self.shape[1]))

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for done, _ in enumerate(pool.map(convert, range(len(self.order))), start=1):
                if progress is not None:
                    progress(done, len(self.order))


def _reserve(file: Path) -> None:
    """Take the room that a file needs: a disk that is full later ends the process."""
    if not hasattr(os, "posix_fallocate"):
        return
    descriptor = os.open(file, os.O_RDWR)
    try:
        os.posix_fallocate(descriptor, 0, os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)
