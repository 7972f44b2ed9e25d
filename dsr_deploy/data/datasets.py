"""The data sets by name, without their samples: nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from dsr_deploy.data.sets.cifar import CIFAR10, CIFAR100
from dsr_deploy.data.sets.cifar10_dvs import CIFAR10_DVS
from dsr_deploy.data.sets.digits import DIGITS
from dsr_deploy.data.sets.imagefolder import IMAGEFOLDER
from dsr_deploy.data.sets.imagenet import IMAGENET
from dsr_deploy.data.sets.tensors import TENSORS
from dsr_deploy.data.source import Source

DATASETS: Final[Mapping[str, Source]] = {
    source.name: source
    for source in (DIGITS, CIFAR10, CIFAR100, IMAGENET, IMAGEFOLDER, CIFAR10_DVS, TENSORS)
}
