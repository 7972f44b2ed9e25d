"""The forward convolutions against float64, and 16-bit weights against exact sums."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from dsr_deploy.models import dynamics, int8_convolution
from dsr_deploy.models.currents import Precision, add_currents, fixed16_planes, product_dtype
from dsr_deploy.models.neuron import Neuron
from dsr_deploy.models.signals import Pixels, Spikes
from dsr_deploy.models.topology import ConnectionSpec

TIMESTEPS = 11
CONNECTIONS = {
    "conv": ConnectionSpec("s", "conv", 6, 3, 1, 1),
    "strided conv": ConnectionSpec("s", "conv", 5, 3, 2, 1),
    "grouped conv": ConnectionSpec("s", "conv", 6, 3, 1, 1, 3),
    "oblong conv": ConnectionSpec("s", "conv", 6, (1, 4), (2, 1), (0, 3)),
    "depthwise oblong conv": ConnectionSpec("s", "conv", 18, (3, 2), (1, 3), (2, 0), 9),
    "oblong pool": ConnectionSpec("s", "pool", 0, (2, 3), (2, 1), (0, 1)),
    "shortcut": ConnectionSpec("s", "conv", 7, 1, 2),
    "linear": ConnectionSpec("s", "linear", 4),
    "pool": ConnectionSpec("s", "pool", kernel=2, stride=2),
    "identity": ConnectionSpec("s", "identity"),
}
# Largest error beside a float64 convolution, relative to the largest current.
ERRORS: dict[Precision, float] = {"fp32": 1e-6, "fixed16": 1e-4, "bf16": 2e-2}

needs_bytes = pytest.mark.skipif(
    not int8_convolution.is_exact(), reason="this processor's torch has no convolution of bytes"
)


def spikes(shape: tuple[int, int, int, int]) -> Spikes:
    """Return a random train of (N, H, W, C) neurons."""
    neuron = Neuron("if", TIMESTEPS, 0.5, 0.01)
    channels = shape[-1]
    packed, rate = dynamics.fire(
        torch.randn(TIMESTEPS, *shape), torch.ones(channels), torch.zeros(channels),
        torch.tensor(1.0), neuron,
    )  # fmt: skip
    mean = rate.permute(0, 3, 1, 2)
    return Spikes(packed, torch.tensor(0.7), mean, mean)


def expected(spec: ConnectionSpec, sent: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
    """Return the currents in float64 of sent, (N, C, H, W)."""
    sent = sent.double()
    if spec.kind == "pool":
        return F.avg_pool2d(sent, spec.kernel, spec.stride, spec.padding)
    if weight is None:
        return sent
    if spec.kind == "linear":
        return F.linear(sent.flatten(1), weight.double())[:, :, None, None]
    return F.conv2d(sent, weight.double(), None, spec.stride, spec.padding, 1, spec.groups)


@pytest.mark.parametrize("precision", ["fp32", "bf16", pytest.param("fixed16", marks=needs_bytes)])
@pytest.mark.parametrize("name", CONNECTIONS)
def test_currents_are_those_of_a_convolution_per_timestep(name: str, precision: Precision) -> None:
    torch.manual_seed(0)
    spec, train = CONNECTIONS[name], spikes((3, 8, 8, 9))
    shape = spec.weight_shape((9, 8, 8))
    weight = None if shape is None else torch.randn(shape)
    channels, height, width = spec.output_shape((9, 8, 8))
    before = torch.randn(TIMESTEPS, 3, height, width, channels)
    total, fresh = before.clone(), torch.full_like(before, torch.nan)
    add_currents(total, spec, train, weight, precision)
    add_currents(fresh, spec, train, weight, precision, fresh=True)
    unpacked = dynamics.unpack(train.packed, TIMESTEPS)
    for t in range(TIMESTEPS):
        sent = 0.7 * unpacked[t].permute(0, 3, 1, 2)
        wanted = expected(spec, sent, weight).permute(0, 2, 3, 1)
        error = (total[t] - before[t] - wanted).abs().max() / wanted.abs().max()
        assert error < ERRORS[precision]
        error = (fresh[t] - wanted).abs().max() / wanted.abs().max()
        assert error < ERRORS[precision]


def test_weights_in_bfloat16_are_only_rounded_where_its_products_are_slow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    torch.manual_seed(0)
    spec, train = CONNECTIONS["conv"], spikes((3, 8, 8, 9))
    train = replace(train, height=torch.tensor(1.0))
    weight = torch.randn(6, 9, 3, 3)
    rounded, plain = torch.zeros(2, TIMESTEPS, 3, 8, 8, 6)
    add_currents(rounded, spec, train, weight, "bf16")
    add_currents(plain, spec, train, weight.bfloat16().float(), "fp32")
    assert torch.equal(rounded, plain)


@pytest.mark.parametrize(
    ("device", "able", "dtype"),
    [
        ("cpu", {"avx512_bf16": True}, torch.float32),
        ("cpu", {"avx512_bf16": True, "amx_bf16": True}, torch.bfloat16),
        ("cuda", {}, torch.bfloat16),
    ],
)
def test_bfloat16_is_multiplied_where_that_is_faster(
    monkeypatch: pytest.MonkeyPatch, device: str, able: dict[str, bool], dtype: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert product_dtype("bf16", torch.device(device)) == dtype
    assert product_dtype("fp32", torch.device(device)) == torch.float32


def test_a_constant_image_beside_spikes_is_added_at_every_timestep() -> None:
    pixels = torch.randn(2, 3, 5, 5)
    total = torch.zeros(4, 2, 5, 5, 3)
    add_currents(total, CONNECTIONS["identity"], Pixels(pixels[None], pixels, pixels), None, "fp32")
    assert torch.equal(total, pixels.permute(0, 2, 3, 1).expand(4, 2, 5, 5, 3))


def test_two_bytes_hold_a_weight_to_16_bits_of_its_channels_largest() -> None:
    torch.manual_seed(0)
    weight = torch.randn(5, 4, 3, 3)
    weight[2] = 0
    weight[3, 0, 0, 0] = -weight[3].abs().max() * 2  # the largest is negative
    high, low, unit = fixed16_planes(weight)
    whole = 256 * high.double() + low.double()
    error = (whole * unit.double()[:, None, None, None] - weight).abs().flatten(1).amax(1)
    assert (error <= 0.5001 * unit).all()
    largest = weight.abs().flatten(1).amax(1)
    assert torch.allclose(unit[[0, 1, 3, 4]] * 127 * 256, largest[[0, 1, 3, 4]])
    assert not high[2].any()
    assert not low[2].any()


@needs_bytes
def test_sums_of_16_bit_weights_do_not_depend_on_the_order() -> None:
    torch.manual_seed(0)
    spec, train = CONNECTIONS["conv"], spikes((3, 8, 8, 9))
    weight, order = torch.randn(6, 9, 3, 3), torch.randperm(9)
    mean = train.representation
    shuffled = Spikes(train.packed[..., order], train.height, mean, mean)
    totals = torch.zeros(2, TIMESTEPS, 3, 8, 8, 6)
    add_currents(totals[0], spec, train, weight, "fixed16")
    add_currents(totals[1], spec, shuffled, weight[:, order], "fixed16")
    assert torch.equal(totals[0], totals[1])
