"""Samples as a network sees them: payloads, batch by batch, and labels where they are known."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dsr_deploy.data.batches import batches
from dsr_deploy.data.dataset import Dataset
from dsr_deploy.data.samples import Split
from dsr_deploy.data.subset import evenly, take
from dsr_deploy.errors import UserError
from dsr_deploy.hardware.encoding import largest_pixel
from dsr_deploy.hardware.network import IntegerNetwork
from dsr_deploy.progress import Progress
from dsr_deploy.run.directory import RunDirectory
from dsr_deploy.run.trained import (
    RESTORE,
    check_fits,
    check_same_data,
    describe,
    load_same_data,
)

BATCH: Final = 32
"""Samples between two movements of a progress bar; no result depends on it."""

Payloads = NDArray[np.int8]
Int64 = NDArray[np.int64]
Batch = tuple[Payloads, Int64 | None]
"""Payloads (n, C, H, W), or (n, T, C, H, W) if framed, and labels (n,) if they are known."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Some samples of a whole, read when they are needed.

    Attributes
    ----------
    numbers : int64 (N,), which of the whole they are, in ascending order
    labels : int64 (N,), if they are known
    read : yields the payloads of the samples of given numbers, at least one, in batches
    source : what they are, for people
    identify : returns a text that other samples, or a whole of other samples, do not have
    """

    numbers: Int64
    labels: Int64 | None
    read: Callable[[Int64], Iterator[Payloads]]
    source: str
    identify: Callable[[], str]

    def __len__(self) -> int:
        return len(self.numbers)

    def part(self, places: Int64) -> Samples:
        """Return the samples at ``places`` among these."""
        labels = None if self.labels is None else self.labels[places]
        return replace(self, numbers=self.numbers[places], labels=labels)

    def batches(self) -> Iterator[Batch]:
        """Yield payloads and labels; nothing if there are no samples."""
        start = 0
        for payloads in self.read(self.numbers) if len(self) else ():
            stop = start + len(payloads)
            yield payloads, None if self.labels is None else self.labels[start:stop]
            start = stop

    def payloads(self) -> Payloads:
        """Return the payloads of all, of which there is at least one."""
        return np.concatenate([payloads for payloads, _ in self.batches()])

    @property
    def digest(self) -> str:
        """SHA-256 of what these samples are, in hexadecimal."""
        whole = hashlib.sha256(self.identify().encode())
        whole.update(self.numbers.astype("<i8").tobytes())
        return whole.hexdigest()


def check_data(network: IntegerNetwork, dataset: Dataset, *, own: bool = True) -> None:
    """Make sure that ``network`` can be tested with ``dataset``.

    Parameters
    ----------
    own : whether the data must be those that the network was trained on; else only the size of
        a sample and the classes must fit

    Raises
    ------
    UserError
        If they do not.
    """
    outputs = network.output.shape[0]
    way = RESTORE if own else "name the data set that the network is for"
    if len(dataset.classes) > outputs:
        raise UserError(
            f"data set '{dataset.name}': it has {len(dataset.classes)} classes, the network "
            f"{outputs}; {way}"
        )
    if own:
        check_same_data(dataset, network.input, network.classes)
        return
    check_fits(dataset, network.input, network.classes, way)
    found, wanted = largest_pixel(dataset.input), largest_pixel(network.input)
    if found != wanted:
        raise UserError(
            f"data set '{dataset.name}': pixels of 0 to {found}, the network takes 0 to {wanted}; "
            f"{way}"
        )


def of_test_set(
    network: IntegerNetwork, dataset: Dataset, samples: int | None, most: int | None = None
) -> Samples:
    """Return ``samples`` test samples of a data set that was checked, evenly spread.

    Parameters
    ----------
    samples : None for all, but no more than ``most``

    Raises
    ------
    UserError
        If there are not so many.
    """
    test = dataset.test
    labels = test.labels.numpy()

    def identify() -> str:
        digest = hashlib.sha256(labels.astype("<i8").tobytes()).hexdigest()
        return json.dumps([dataset.contents[1], digest])

    numbers = evenly(len(test), samples, most)
    return Samples(
        numbers=numbers,
        labels=labels[numbers],
        read=lambda chosen: _of_split(network, test, chosen),
        source=f"test samples of {dataset.name}",
        identify=identify,
    )


def _of_split(network: IntegerNetwork, test: Split, chosen: Int64) -> Iterator[Payloads]:
    part = test if len(chosen) == len(test) else take(test, chosen)
    for payloads, _ in batches(
        part, network.input, BATCH, augment=False, seed=0, epoch=0, shuffle=False
    ):
        yield payloads.numpy()


def test_payloads(
    run: RunDirectory,
    network: IntegerNetwork,
    samples: int | None,
    most: int,
    progress: Progress,
    data_dir: Path | None,
) -> Payloads:
    """Return what ``network`` sees of ``samples`` test samples of its run.

    Parameters
    ----------
    samples : how many; None for ``most``, or all if there are fewer

    Raises
    ------
    UserError
        If there are not so many, or they are not those of the network.
    """
    dataset = load_same_data(describe(run), progress, data_dir)
    check_data(network, dataset)
    return of_test_set(network, dataset, samples, most).payloads()
