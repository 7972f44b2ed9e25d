"""The networks by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from dsr_deploy.models.preact_resnet import preact_resnet
from dsr_deploy.models.topology import Shape, Topology, TopologyError
from dsr_deploy.models.vgg import vgg11

Build = Callable[[Shape, int], Topology]
"""Describes a network for an input (C, H, W) and a number of classes."""

LARGE_IMAGE: Final = 96
"""From this size on ResNet-18 begins with the stem of ImageNet."""


def _resnet18(input_shape: Shape, classes: int) -> Topology:
    widths, blocks = (64, 128, 256, 512), (2, 2, 2, 2)
    large = min(input_shape[1:]) >= LARGE_IMAGE
    return preact_resnet(
        "resnet18", input_shape, classes, widths=widths, blocks=blocks, large_images=large
    )


def _thin_resnet(name: str, blocks: int, input_shape: Shape, classes: int) -> Topology:
    """Describe three stages of 16, 32 and 64 channels (Table S1)."""
    return preact_resnet(name, input_shape, classes, widths=(16, 32, 64), blocks=(blocks,) * 3)


ARCHITECTURES: Final[Mapping[str, Build]] = {
    "resnet-tiny": partial(_thin_resnet, "resnet-tiny", 1),  # the embedded default
    "resnet18": _resnet18,
    **{  # (depth - 2) / 6 blocks a stage
        f"resnet{depth}": partial(_thin_resnet, f"resnet{depth}", (depth - 2) // 6)
        for depth in (20, 32, 44, 56, 110)
    },
    "vgg11": vgg11,
}


def topology(arch: str, input_shape: Shape, classes: int) -> Topology:
    """Describe the network ``arch`` for images of ``input_shape`` (C, H, W).

    Raises
    ------
    TopologyError
        If the name is unknown, or the images are too small.
    """
    if arch not in ARCHITECTURES:
        raise TopologyError(
            f"choose an architecture out of {', '.join(ARCHITECTURES)}, not {arch!r}"
        )
    return ARCHITECTURES[arch](input_shape, classes)
