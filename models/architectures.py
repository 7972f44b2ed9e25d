"""The networks by name."""

from __future__ import annotations

from typing import Final

from dsr_deploy.models.preact_resnet import preact_resnet
from dsr_deploy.models.topology import Shape, Topology, TopologyError
from dsr_deploy.models.vgg import vgg11

# Table S1: three stages of (depth - 2) / 6 blocks.
RESNET_BLOCKS: Final = {f"resnet{depth}": (depth - 2) // 6 for depth in (20, 32, 44, 56, 110)}
ARCHITECTURES: Final = ("resnet-tiny", "resnet18", *RESNET_BLOCKS, "vgg11")
LARGE_IMAGE: Final = 96
"""From this size on ResNet-18 begins with the stem of ImageNet."""


def topology(arch: str, input_shape: Shape, classes: int) -> Topology:
    """Describe the network ``arch`` for images of ``input_shape`` (C, H, W).

    ``resnet-tiny`` is the embedded default: 16, 32 and 64 channels, one block each.

    Raises
    ------
    TopologyError
        If the name is unknown, or the images are too small or not square.
    """
    if arch not in ARCHITECTURES:
        raise TopologyError(f"architecture {arch!r}; known are {', '.join(ARCHITECTURES)}")
    _, height, width = input_shape
    if height != width:
        raise TopologyError(
            f"images of {height}x{width} pixels; {arch} needs square ones; "
            "give their side with --image-size"
        )
    if arch == "vgg11":
        return vgg11(input_shape, classes)
    if arch == "resnet18":
        widths, blocks = (64, 128, 256, 512), (2, 2, 2, 2)
        large = height >= LARGE_IMAGE
        return preact_resnet(
            arch, input_shape, classes, widths=widths, blocks=blocks, large_images=large
        )
    count = RESNET_BLOCKS.get(arch, 1)
    return preact_resnet(arch, input_shape, classes, widths=(16, 32, 64), blocks=(count,) * 3)
