"""Files of every kind that a file system has."""

import os
import socket
from pathlib import Path

import pytest

from dsr_deploy.hardware.errors import HardwareError
from dsr_deploy.hardware.format import network_file
from dsr_deploy.hardware.format.regular_file import check_regular, open_regular, read_regular
from dsr_deploy.hardware.lava import plan_file

READERS = (network_file.read, plan_file.read)


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _random(path: Path) -> None:
    path.symlink_to("/dev/urandom")


def _folder(path: Path) -> None:
    path.mkdir()


ODD = [
    (_fifo, "it is a FIFO, not a regular file"),
    (_endless, "it is a device, not a regular file"),
    (_random, "it is a device, not a regular file"),
    (_folder, "it is a folder, not a regular file"),
]


@pytest.mark.parametrize(("make", "reason"), ODD)
def test_what_is_no_regular_file_is_refused_without_waiting(
    tmp_path: Path, make: object, reason: str
) -> None:
    path = tmp_path / "file"
    assert callable(make)
    make(path)
    for read in (open_regular, check_regular):
        with pytest.raises(OSError, match=reason) as refused:
            read(path)
        assert (refused.value.strerror, refused.value.filename) == (reason, str(path))
    for reader in READERS:
        with pytest.raises(HardwareError) as unread:
            reader(path)
        assert str(unread.value) == f"{path}: cannot be read ({reason})"


def test_a_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("file")
        with pytest.raises(OSError, match="No such device or address"):
            check_regular("file")


def test_nothing_stays_open_of_what_was_refused(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="folder"):
        open_regular(tmp_path)
    assert os.listdir("/proc/self/fd") == before


def test_a_link_to_a_regular_file_is_read_up_to_a_limit(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    assert read_regular(tmp_path / "link", 5) == b"12345"
    with pytest.raises(OSError, match="5 bytes, at most 4 are allowed"):
        read_regular(tmp_path / "link", 4)
