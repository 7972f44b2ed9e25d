"""The archives of CIFAR10-DVS, downloaded from a server of the test in place of figshare."""

import hashlib
import http.server
import re
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import spikingjelly_dvs
from torchvision.datasets import utils

from dsr_deploy.data import archives
from dsr_deploy.data.samples import DataError


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Ten archives, each of one recording, and their addresses and checksums."""
    folder = tmp_path / "published"
    folder.mkdir()
    entries = []
    for number, name in enumerate(archives.CLASSES):
        with zipfile.ZipFile(folder / str(number), "w") as archive:
            archive.writestr(f"{name}/cifar10_{name}_0.aedat", f"events of a {name}")
        md5 = hashlib.md5((folder / str(number)).read_bytes()).hexdigest()
        entries.append((name, number, md5))
    monkeypatch.setattr(archives, "ARCHIVES", tuple(entries))
    handler = partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        place = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(archives, "url", lambda number: f"{place}/{number}")
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        yield folder
        server.shutdown()


def fails(directory: Path, reason: str) -> None:
    message = (
        f"{directory}: the download failed ({reason}); try again, or unpack the ten archives of "
        f"CIFAR10-DVS into {directory / 'extract'}"
    )
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        archives.download(directory)


def test_addresses_and_checksums_are_spikingjellys() -> None:
    expected = spikingjelly_dvs.CIFAR10DVS.resource_url_md5()
    assert expected == [
        (f"{name}.zip", archives.url(number), md5) for name, number, md5 in archives.ARCHIVES
    ]
    assert archives.CLASSES == spikingjelly_dvs.CIFAR10DVS_CLASS_NAMES


def test_a_download_gives_a_folder_per_class(published: Path, tmp_path: Path) -> None:
    directory = tmp_path / "new" / "dvs"
    archives.download(directory)
    assert {path.name for path in directory.iterdir()} == {"download", "extract"}
    found = {path.parent.name: path.read_text() for path in directory.rglob("*.aedat")}
    assert found == {name: f"events of a {name}" for name in archives.CLASSES}


def test_whole_archives_are_not_downloaded_again(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "dvs"
    damaged = published / "7"
    content = damaged.read_bytes()
    damaged.write_bytes(content[:-1])
    fails(directory, "File not found or corrupted.")
    assert not (directory / "extract").exists()
    damaged.write_bytes(content)
    for number in range(7):
        (published / str(number)).unlink()
    archives.download(directory)
    assert len(list(directory.glob("extract/*/*.aedat"))) == 10


def test_what_a_killed_download_unpacked_is_unpacked_again(published: Path, tmp_path: Path) -> None:
    unpacked = tmp_path / "dvs" / "extract.partial" / "cat"
    unpacked.mkdir(parents=True)
    (unpacked / "cifar10_cat_9.aedat").touch()
    archives.download(tmp_path / "dvs")
    assert len(list((tmp_path / "dvs").rglob("*.aedat"))) == 10


@pytest.mark.parametrize("stop", [RuntimeError("no\nnetwork"), KeyboardInterrupt()])
def test_a_download_that_never_begins_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: BaseException
) -> None:
    def download(*_: object) -> None:
        raise stop

    monkeypatch.setattr(utils, "download_url", download)
    directory = tmp_path / "new" / "dvs"
    if isinstance(stop, RuntimeError):
        fails(directory, "no network")
    else:
        with pytest.raises(KeyboardInterrupt):
            archives.download(directory)
    assert not list(tmp_path.iterdir())
