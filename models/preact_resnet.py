"""Pre-activation residual networks of spiking neurons.

He et al. 2016; the paper's supplement, C.3 and Table S1.

Every ReLU is a spiking layer. The shortcut leaves a block's first spiking layer, so that it
carries spikes. Average pooling and the classifier are followed by spiking layers, and a
BatchNorm stands between the classifier and its neurons.
"""

from __future__ import annotations

from collections.abc import Sequence

from dsr_deploy.models.topology import (
    INPUT,
    ConnectionSpec,
    PopulationSpec,
    Shape,
    Topology,
    conv,
    identity,
    linear,
    pool,
)


def preact_resnet(
    name: str,
    input_shape: Shape,
    classes: int,
    *,
    widths: Sequence[int],
    blocks: Sequence[int],
    large_images: bool = False,
) -> Topology:
    """Describe a pre-activation ResNet with basic blocks.

    Parameters
    ----------
    widths : channels of each stage; a stage after the first halves the image
    blocks : number of blocks of each stage
    large_images : begin with a 7x7 convolution of stride 2 and a 3x3 average pooling of
        stride 2, as for ImageNet, instead of a 3x3 convolution
    """
    if large_images:
        stem: tuple[PopulationSpec, ...] = (
            PopulationSpec("stem", (conv(INPUT, widths[0], kernel=7, stride=2),)),
        )
        incoming: tuple[ConnectionSpec, ...] = (pool("stem", 3, stride=2, padding=1),)
    else:
        stem = ()
        incoming = (conv(INPUT, widths[0]),)
    populations = list(stem)
    channels = widths[0]
    for stage, (width, count) in enumerate(zip(widths, blocks, strict=True), start=1):
        for index in range(1, count + 1):
            first, second = f"stage{stage}.block{index}.spike1", f"stage{stage}.block{index}.spike2"
            stride = 2 if stage > 1 and index == 1 else 1
            populations.append(PopulationSpec(first, incoming))
            populations.append(PopulationSpec(second, (conv(first, width, stride=stride),)))
            if stride != 1 or channels != width:
                shortcut = conv(first, width, kernel=1, stride=stride)
            else:
                shortcut = identity(first)
            incoming = (conv(second, width), shortcut)
            channels = width
    populations.append(PopulationSpec("features", incoming))
    body = Topology(name, input_shape, tuple(populations))
    _, height, width = body.shapes()["features"]
    populations.append(PopulationSpec("pool", (pool("features", (height, width)),), norm=False))
    populations.append(PopulationSpec("output", (linear("pool", classes),)))
    return Topology(name, input_shape, tuple(populations))
