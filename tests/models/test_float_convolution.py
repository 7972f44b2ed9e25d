"""Convolutions that add to what is there, beside a float64 convolution."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from dsr_deploy.models.float_convolution import FloatConvolution


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("onednn", [False, True])
@pytest.mark.parametrize(
    ("channels", "size", "kernel", "stride", "groups"),
    [(3, 9, 3, 1, 1), (64, 8, 3, 2, 1), (130, 5, 1, 1, 1), (12, 6, 3, 1, 3), (24, 7, 3, 2, 24)],
)
def test_sums_are_added_to_the_total(
    channels: int,
    size: int,
    kernel: int,
    stride: int,
    groups: int,
    onednn: bool,
    fresh: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not onednn:
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    torch.manual_seed(0)
    weight = torch.randn(24, channels // groups, kernel, kernel)
    convolution = FloatConvolution(weight, (stride, stride), (kernel // 2, kernel // 2), groups)
    for count in (4, 1):  # one convolution, blocks of two sizes
        sent = (torch.rand(count, channels, size, size) < 0.3).float()
        sent = sent.contiguous(memory_format=torch.channels_last)
        wanted = F.conv2d(sent.double(), weight.double(), None, stride, kernel // 2, 1, groups)
        before = torch.full_like(wanted, torch.nan if fresh else 2.0, dtype=torch.float32)
        total = before.contiguous(memory_format=torch.channels_last)
        convolution.add_to(total, sent, fresh=fresh)
        error = (total - wanted - (0 if fresh else 2)).abs().max() / wanted.abs().max()
        assert error < 1e-6
