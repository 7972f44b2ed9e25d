"""Where the targets of a source neuron lie: how many each core holds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsr_deploy.hardware.geometry import Shape, heard
from dsr_deploy.hardware.mapping import PopulationMapping, part_of
from dsr_deploy.hardware.network import Connection

Int64 = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class CoreFan:
    """How many targets of a connection each source neuron has on each core.

    A core is a group g of channels and a band b of rows of the target population. The source
    neuron (c, y, x) has ``channels[c, g] * rows[y, b] * columns[x]`` targets on it.

    Attributes
    ----------
    channels : int64 (C, G)
    rows : int64 (H, B)
    columns : int64 (W,)
    """

    channels: Int64
    rows: Int64
    columns: Int64


def core_fan(connection: Connection, source: Shape, target: PopulationMapping) -> CoreFan:
    """Return the fan of ``connection``, whose target lies on cores as ``target`` says.

    Parameters
    ----------
    source : (C, H, W) of the connection's source
    """
    conv = connection.geometry.as_convolution(source)
    target_channels, height, width = conv.output_shape(source)
    group = part_of(target_channels, target.channel_groups)
    block = np.arange(target_channels) // (target_channels // conv.groups)
    by_block = np.zeros((conv.groups, target.channel_groups), np.int64)
    np.add.at(by_block, (block, group), 1)
    rows, columns = (
        heard(*axis)
        for axis in zip(
            source[1:], (height, width), conv.window, conv.stride, conv.padding, strict=True
        )
    )
    band = part_of(height, target.row_bands)
    return CoreFan(
        channels=by_block[np.arange(source[0]) // conv.weight_shape[1]],
        rows=rows.astype(np.int64) @ (band[:, None] == np.arange(target.row_bands)),
        columns=columns.sum(axis=1),
    )
