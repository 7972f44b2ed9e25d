"""Byte convolutions add whole numbers exactly."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from dsr_deploy.models.int8_convolution import Int8Convolution, is_exact

pytestmark = pytest.mark.skipif(not is_exact(), reason="torch has no convolution of bytes here")


@pytest.mark.parametrize("groups", [1, 2, 16])
@pytest.mark.parametrize(("channels", "size"), [(16, 1), (16, 7), (512, 4)])
def test_sums_are_exact_where_weights_and_spikes_are_largest(
    channels: int, size: int, groups: int
) -> None:
    torch.manual_seed(0)
    weight = torch.randint(-128, 128, (2 * channels, channels // groups, 3, 3), dtype=torch.int8)
    weight[0], weight[1] = -128, 127
    spikes = torch.randint(0, 2, (3, channels, size, size), dtype=torch.uint8)
    spikes[0] = 1
    spikes = spikes.contiguous(memory_format=torch.channels_last)
    total = torch.zeros(3, size, size, 2 * channels).permute(0, 3, 1, 2)
    scale = torch.ones(2 * channels)
    Int8Convolution(weight, scale, padding=(1, 1), groups=groups).add_to(total, spikes)
    wanted = F.conv2d(spikes.double(), weight.double(), padding=1, groups=groups)
    assert torch.equal(total.double(), wanted)
