"""Arrays in files: what is read, and what is refused in one line."""

from __future__ import annotations

import os
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest

from dsr_deploy.data import arrays
from dsr_deploy.data.arrays import one_of, read_arrays
from dsr_deploy.data.samples import DataError

WRITE = "write it with numpy.save or numpy.savez"


def test_an_npy_is_its_only_array_and_stays_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.arange(6, dtype=np.uint8).reshape(2, 3))
    found = read_arrays(path)
    assert list(found) == [""]
    assert isinstance(found[""], np.memmap)
    assert one_of(found, path, "inputs").tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_npz_is_known_by_its_content(tmp_path: Path, save: object) -> None:
    path = tmp_path / "x.dat"
    with path.open("wb") as file:
        save(file, inputs=np.arange(3), labels=np.arange(2))  # type: ignore[operator]
    found = read_arrays(path)
    assert one_of(found, path, "labels").tolist() == [0, 1]
    with pytest.raises(
        DataError,
        match=re.escape(f"{path}: no array 'x' among its arrays (inputs, labels); name one so"),
    ):
        one_of(found, path, "x")


def test_damaged_files_are_named_whatever_is_damaged(tmp_path: Path) -> None:
    whole = tmp_path / "x.npy"
    np.save(whole, np.zeros((4, 5), np.int8))
    packed = tmp_path / "x.npz"
    np.savez_compressed(packed, a=np.arange(400), b=np.arange(7))
    rng = np.random.default_rng(0)
    messages = []
    for source in (whole, packed):
        data = source.read_bytes()
        path = tmp_path / "damaged"
        variants = [data[:cut] for cut in range(0, len(data), 7)]
        for _ in range(150):
            changed = bytearray(data)
            changed[rng.integers(len(data))] ^= 1 << rng.integers(8)
            variants.append(bytes(changed))
        for variant in variants:
            path.write_bytes(variant)
            try:
                read_arrays(path)
            except DataError as error:
                messages.append(str(error))
    assert len(messages) > 100
    for message in messages:
        assert message.startswith(f"{path}: no array of numpy, or damaged (")
        assert message.endswith(WRITE)
        assert "\n" not in message


def test_objects_are_not_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.array([{}, None]), allow_pickle=True)
    with pytest.raises(DataError, match=r"no array of numpy, or damaged \(.*[Oo]bject"):
        read_arrays(path)


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x\.npy: cannot be read \(No such file or directory\)$"):
        read_arrays(tmp_path / "x.npy")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(DataError, match=r"it is a FIFO, not a regular file"):
        read_arrays(tmp_path / "fifo")


def test_a_small_file_that_unpacks_to_a_large_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, a=np.zeros(100_000, np.int8))
    monkeypatch.setattr(arrays, "MOST_UNPACKED", 100_000)
    with pytest.raises(DataError, match=r"bytes unpacked, at most 100,000 are allowed; save its"):
        read_arrays(path)


def test_an_archive_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(DataError, match=r"damaged \('readme\.txt' is no array\)"):
        read_arrays(path)
