"""CIFAR10-DVS: recordings of an event camera, as frames of event counts."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from dsr_deploy.augmentation import Augmentation
from dsr_deploy.data.dataset import DataError, Dataset, Progress, TensorSplit
from dsr_deploy.data.encoding import event_input

SENSOR: Final = 128
SIDE: Final = 48
TRAIN_RATIO: Final = 0.9


def load_cifar10_dvs(
    directory: Path,
    timesteps: int,
    augmentation: Augmentation,
    download: bool,
    progress: Progress | None = None,
) -> Dataset:
    """Return CIFAR10-DVS as ``timesteps`` frames of 48x48 counts per sample and polarity.

    spikingjelly downloads the recordings, integrates each into frames of equally many events
    and splits them, the first 90% of each class for training, as in the paper. Each step is kept
    in ``directory`` for the next time.

    Raises
    ------
    DataError
        If recordings are missing, damaged, or an earlier conversion was interrupted.
    """
    if timesteps < 1:
        raise DataError(f"data set 'cifar10-dvs': timesteps {timesteps}; it is at least 1")
    frames = _open_frames(directory, timesteps, download)
    labels = torch.tensor(frames.targets, dtype=torch.int64)
    train, test = _split(frames.targets, len(frames.classes))
    if not test:
        raise DataError(
            f"{directory}: {len(train)} recordings; the last tenth of each class is for testing, "
            "so at least one class needs 10 or more"
        )
    # the training samples first, so that both splits are slices of one file
    pixels = torch.from_numpy(_counts(frames, train + test, timesteps, directory, progress))
    return Dataset(
        name="cifar10-dvs",
        classes=tuple(frames.classes),
        input=event_input((2, SIDE, SIDE)),
        train=TensorSplit(
            pixels[: len(train)],
            labels[train],
            augmentation.padding(SIDE, SIDE),
            augmentation.flip,
        ),
        test=TensorSplit(pixels[len(train) :], labels[test]),
    )


def reduce_counts(frames: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Return frames of 128x128 counts as frames of 48x48 counts.

    The event at (x, y) goes to (x * 48 // 128, y * 48 // 128); counts that meet are summed, and
    saturate at 255. The paper resizes frames by interpolation instead, which gives fractions
    that no event camera sends.

    Parameters
    ----------
    frames : whole numbers, (T, 2, 128, 128)
    """
    first = -(-np.arange(SIDE) * SENSOR // SIDE)
    sums = np.add.reduceat(np.add.reduceat(frames, first, axis=-1), first, axis=-2)
    return np.minimum(sums, 255).astype(np.uint8)


def _open_frames(directory: Path, timesteps: int, download: bool) -> Any:
    """Return spikingjelly's data set of frames, made from recordings if need be."""
    from spikingjelly.datasets.cifar10_dvs import CIFAR10DVS

    events, recordings = directory / "events_np", directory / "extract"
    if not events.is_dir() and recordings.is_dir():
        _convert(recordings, events, CIFAR10DVS.create_raw_from_extracted)
    elif not events.is_dir() and not download:
        raise DataError(
            f"{directory}: there is no folder extract/ with the recordings; allow the download"
        )
    elif recordings.is_dir():
        _check_same(events, _names(events, "npz"), recordings, _names(recordings, "aedat"))
    try:
        directory.mkdir(parents=True, exist_ok=True)
        frames = CIFAR10DVS(
            str(directory), data_type="frame", frames_number=timesteps, split_by="number"
        )
    except Exception as error:  # spikingjelly and its archives raise almost anything
        raise DataError(f"{directory}: spikingjelly cannot make frames: {_line(error)}") from None
    place = directory / f"frames_number_{timesteps}_split_by_number"
    _check_same(place, _names(place, "npz"), events, _names(events, "npz"))
    return frames


def _names(folder: Path, suffix: str) -> set[str]:
    """Return ``class/recording`` of all files in a folder of folders, without their suffix."""
    return {f"{path.parent.name}/{path.stem}" for path in folder.glob(f"*/*.{suffix}")}


def _check_same(made: Path, found: set[str], source: Path, wanted: set[str]) -> None:
    """Refuse what was made from other recordings than are there now."""
    for name in sorted(found ^ wanted):
        place, other = (source, made) if name in wanted else (made, source)
        raise DataError(
            f"{made}: made from other recordings ('{name}' is in {place.name}/, not in "
            f"{other.name}/); delete events_np/, frames_number_*/ and counts_* beside it, they are "
            "made again"
        )


def _convert(recordings: Path, events: Path, convert: Callable[[Path, Path], None]) -> None:
    """Convert the recordings into spikingjelly's arrays of events, completely or not at all."""
    files = _recordings(recordings)
    partial = events.with_name("events_np.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        convert(recordings, partial)
    except Exception as error:  # numpy and spikingjelly raise several types on damaged files
        # every recording is tried before the first error is raised
        made = {path.relative_to(partial).with_suffix(".aedat") for path in partial.rglob("*.npz")}
        damaged = next((f for f in files if f.relative_to(recordings) not in made), recordings)
        shutil.rmtree(partial)
        raise DataError(
            f"{damaged}: the recording is damaged ({_line(error)}); replace it"
        ) from None
    partial.rename(events)


def _recordings(folder: Path) -> list[Path]:
    """Return the ``.aedat`` files of all classes, checked to be nothing else."""
    from spikingjelly.datasets.cifar10_dvs import CIFAR10DVS_CLASS_NAMES

    found = {entry.name for entry in folder.iterdir()}
    differing = sorted(found ^ set(CIFAR10DVS_CLASS_NAMES))
    if differing:
        what = "does not belong here" if differing[0] in found else "is missing"
        raise DataError(
            f"{folder}: '{differing[0]}' {what}; it holds the folders "
            f"{', '.join(CIFAR10DVS_CLASS_NAMES)}"
        )
    files = []
    for name in CIFAR10DVS_CLASS_NAMES:
        entries = sorted((folder / name).iterdir())
        if not entries:
            raise DataError(f"{folder / name}: there is no recording of '{name}'")
        for entry in entries:
            if entry.suffix != ".aedat":
                raise DataError(f"{entry}: this is not a recording (.aedat); remove it")
        files += entries
    return files


def _split(targets: list[int], classes: int) -> tuple[list[int], list[int]]:
    """Return the indices for training and testing."""
    from spikingjelly.datasets.utils import split_to_train_test_set

    # It walks over all samples to see their labels: given the labels alone, it reads no frames.
    labelled = [(None, target) for target in targets]
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
        train, test = split_to_train_test_set(TRAIN_RATIO, labelled, classes)
    return list(train.indices), list(test.indices)


def _counts(
    frames: Any, order: list[int], timesteps: int, directory: Path, progress: Progress | None
) -> NDArray[np.uint8]:
    """Return the counts of the samples in this order, uint8 (N, T, 2, 48, 48), kept in a file.

    Decompressing spikingjelly's frames takes minutes, opening this file none.
    """
    file = directory / f"counts_{timesteps}_{SIDE}x{SIDE}.npy"
    shape = (len(order), timesteps, 2, SIDE, SIDE)
    if not file.exists():
        _write_counts(file, shape, frames, order, progress)
    try:
        # copy on write: a tensor needs memory that it could write to
        counts: NDArray[np.uint8] = np.load(file, mmap_mode="c")
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{file}: it is damaged ({_line(error)}); delete it") from None
    if counts.shape != shape or counts.dtype != np.uint8:
        raise DataError(
            f"{file}: {counts.dtype} of shape {counts.shape} for {len(order)} recordings; delete it"
        )
    return counts


def _write_counts(
    file: Path, shape: tuple[int, ...], frames: Any, order: list[int], progress: Progress | None
) -> None:
    partial = file.with_suffix(".partial")
    counts = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)

    def convert(position: int) -> None:
        path = frames.samples[order[position]][0]
        try:
            counts[position] = reduce_counts(frames.loader(path))
        except Exception as error:  # numpy raises several types on damaged archives
            raise DataError(f"{path}: it is damaged ({_line(error)}); delete its folder") from None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, _ in enumerate(pool.map(convert, range(len(order))), start=1):
            if progress is not None:
                progress(done, len(order))
    counts.flush()
    partial.replace(file)


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
