"""The test samples of a run, as its exported network sees them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dsr_deploy.data.batches import Batches, batches
from dsr_deploy.data.dataset import Dataset
from dsr_deploy.data.samples import Split
from dsr_deploy.data.subset import spread
from dsr_deploy.errors import UserError
from dsr_deploy.hardware.network import IntegerNetwork
from dsr_deploy.progress import Progress
from dsr_deploy.run.directory import RunDirectory
from dsr_deploy.run.trained import RESTORE, check_same_data, describe, load_same_data

BATCH: Final = 32
"""Samples between two movements of a progress bar; no result depends on it."""


def check_data(network: IntegerNetwork, dataset: Dataset) -> None:
    """Make sure that ``network`` can be tested with ``dataset``.

    Raises
    ------
    UserError
        If the data are not those that the network was trained on.
    """
    outputs = network.output.shape[0]
    if len(dataset.classes) > outputs:
        raise UserError(
            f"data set '{dataset.name}': it has {len(dataset.classes)} classes, the network "
            f"{outputs}; {RESTORE}"
        )
    check_same_data(dataset, network.input, network.classes)


def test_payloads(
    run: RunDirectory,
    network: IntegerNetwork,
    samples: int | None,
    most: int,
    progress: Progress,
    data_dir: Path | None,
) -> NDArray[np.int8]:
    """Return what ``network`` sees of ``samples`` test samples, int8 (N, C, H, W), or framed.

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
    test, _ = spread(dataset.test, samples, most)
    return np.concatenate([payloads.numpy() for payloads, _ in payload_batches(network, test)])


def payload_batches(network: IntegerNetwork, test: Split) -> Batches:
    """Return the payloads of ``test`` in batches, in its order."""
    return batches(test, network.input, BATCH, augment=False, seed=0, epoch=0, shuffle=False)
