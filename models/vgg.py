"""VGG-11 with one fully connected layer and dropout, for DVS-CIFAR10 (supplement, C.3)."""

from __future__ import annotations

from typing import Final

from dsr_deploy.models.topology import (
    INPUT,
    PopulationSpec,
    Shape,
    Topology,
    conv,
    linear,
    pool,
)

STAGES: Final = ((64,), (128,), (256, 256), (512, 512), (512, 512))
"""Channels of the convolutions before each pooling (Simonyan & Zisserman 2014, table 1, A)."""


def vgg11(input_shape: Shape, classes: int, *, dropout: float = 0.1) -> Topology:
    """Describe VGG-11: average pooling, a spiking layer after every pooling, dropout after neurons.

    The last pooling spans what is left of the image, so that one fully connected layer of
    512 inputs follows whatever the size of the image.
    """
    populations: list[PopulationSpec] = []
    source = INPUT
    for stage, widths in enumerate(STAGES, start=1):
        for index, width in enumerate(widths, start=1):
            name = f"conv{stage}.{index}"
            populations.append(PopulationSpec(name, (conv(source, width),), dropout=dropout))
            source = name
        last = stage == len(STAGES)
        _, height, width = Topology("vgg11", input_shape, tuple(populations)).shapes()[source]
        pooled = pool(source, (height, width) if last else 2)
        source = f"pool{stage}"
        populations.append(PopulationSpec(source, (pooled,), norm=False, dropout=dropout))
    populations.append(PopulationSpec("output", (linear(source, classes),)))
    return Topology("vgg11", input_shape, tuple(populations))
