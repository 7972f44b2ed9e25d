"""The archives that CIFAR10-DVS is published in: one per class, downloaded and unpacked."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Final

from dsr_deploy.data.samples import DataError

# Name, number at figshare and MD5, as in spikingjelly.datasets.cifar10_dvs.
ARCHIVES: Final = (
    ("airplane", 7712788, "0afd5c4bf9ae06af762a77b180354fdd"),
    ("automobile", 7712791, "8438dfeba3bc970c94962d995b1b9bdd"),
    ("bird", 7712794, "a9c207c91c55b9dc2002dc21c684d785"),
    ("cat", 7712812, "52c63c677c2b15fa5146a8daf4d56687"),
    ("deer", 7712815, "b6bf21f6c04d21ba4e23fc3e36c8a4a3"),
    ("dog", 7712818, "f379ebdf6703d16e0a690782e62639c3"),
    ("frog", 7712842, "cad6ed91214b1c7388a5f6ee56d08803"),
    ("horse", 7712851, "e7cbbf77bec584ffbf913f00e682782a"),
    ("ship", 7712836, "41c7bd7d6b251be82557c6cce9a7d5c9"),
    ("truck", 7712839, "89f3922fd147d9aeff89e76a2b0b70a7"),
)
CLASSES: Final = tuple(name for name, _, _ in ARCHIVES)


def url(number: int) -> str:
    """Return where figshare keeps a file."""
    return f"https://ndownloader.figshare.com/files/{number}"


def download(directory: Path) -> None:
    """Fill ``extract/`` of a directory with the recordings, completely or not at all.

    Archives in ``download/`` whose checksums are right are not downloaded again.

    Raises
    ------
    DataError
        If an archive cannot be downloaded or unpacked.
    """
    from torchvision.datasets.utils import download_and_extract_archive

    missing = [folder for folder in (directory, *directory.parents) if not folder.exists()]
    archives, partial = directory / "download", directory / "extract.partial"
    try:
        shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
        partial.mkdir(parents=True)
        for name, number, md5 in ARCHIVES:
            download_and_extract_archive(url(number), archives, partial, f"{name}.zip", md5)
        partial.rename(directory / "extract")
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        for folder in (archives, *missing):
            with contextlib.suppress(OSError):  # it is not there or not empty
                folder.rmdir()
        if not isinstance(error, Exception):
            raise
        # urllib and zipfile raise almost anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{directory}: the download failed ({reason}); try again, or unpack the ten archives "
            f"of CIFAR10-DVS into {directory / 'extract'}"
        ) from None
