"""What a user has in memory: an integer network, and samples for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from dsr_deploy import files
from dsr_deploy.api.results import QuantizedRun
from dsr_deploy.data.dataset import Dataset
from dsr_deploy.data.tensors import as_tensor
from dsr_deploy.errors import UserError
from dsr_deploy.hardware.errors import HardwareError
from dsr_deploy.hardware.format import network_file
from dsr_deploy.hardware.network import IntegerNetwork
from dsr_deploy.run.own_samples import of_array
from dsr_deploy.run.samples import Samples, check_data, of_test_set


def network_of(given: object) -> IntegerNetwork | None:
    """Return the network that ``given`` is, or that its file holds; None if it is none.

    Raises
    ------
    UserError
        If its file is damaged.
    """
    if isinstance(given, str | Path) and (path := files.at_home(given)).is_file():
        try:
            return network_file.read(path)
        except HardwareError as error:
            raise UserError(str(error)) from None
    return given if isinstance(given, IntegerNetwork) else None


def network_for_data(given: object) -> IntegerNetwork:
    """Return the network that is to see a user's own data.

    Raises
    ------
    UserError
        If ``given`` is none, and not what ``quantize`` returned.
    """
    network = given.network if isinstance(given, QuantizedRun) else network_of(given)
    if network is None:
        raise UserError(
            "data are for an IntegerNetwork, its file or what quantize returned, not "
            f"{type(given).__name__}; a run has its own"
        )
    return network


def samples_of(
    network: IntegerNetwork, data: Any, labels: Any, samples: int | None, most: int | None = None
) -> Samples:
    """Return what ``network`` sees of a user's data.

    Parameters
    ----------
    data : a ``Dataset``, of which the test samples are taken; payloads, int8; or samples, uint8,
        which the input of the network turns into payloads
    labels : whole numbers (N,), or None; a ``Dataset`` has its own
    samples : how many, evenly spread; None for all, of a ``Dataset`` no more than ``most``

    Raises
    ------
    UserError
        If they do not fit the network, or there are not so many.
    """
    if isinstance(data, Dataset):
        if labels is not None:
            raise UserError("labels: the Dataset has its own; leave them out")
        check_data(network, data)
        return of_test_set(network, data, samples, most)
    values = as_tensor("data", data)
    if values.dtype not in (torch.int8, torch.uint8):
        raise UserError(
            "data must be a Dataset, or an array of payloads (int8) or samples (uint8), not "
            f"{type(data).__name__} of {values.dtype}"
        )
    return of_array(network, values.numpy(), labels, samples, "data")
