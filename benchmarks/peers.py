"""The paper's PreAct-ResNet-18 built from spikingjelly's layers, as its users build networks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from spikingjelly.activation_based import layer
from torch import Tensor, nn

WIDTHS = (64, 128, 256, 512)


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Module:
    """Return a convolution over (T, N, C, H, W), padded so that stride 1 keeps the size."""
    return layer.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False, step_mode="m")


class Block(nn.Module):
    """A pre-activation basic block whose shortcut carries spikes."""

    def __init__(
        self, inputs: int, outputs: int, stride: int, neuron: Callable[[], nn.Module]
    ) -> None:
        super().__init__()
        self.norm1 = layer.BatchNorm2d(inputs, step_mode="m")
        self.norm2 = layer.BatchNorm2d(outputs, step_mode="m")
        self.spike1, self.spike2 = neuron(), neuron()
        self.conv1 = conv(inputs, outputs, 3, stride)
        self.conv2 = conv(outputs, outputs, 3)
        changes = stride != 1 or inputs != outputs
        self.shortcut = conv(inputs, outputs, 1, stride) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return the currents of the next block, (T, N, C, H, W)."""
        spikes = self.spike1(self.norm1(x))
        body = self.conv2(self.spike2(self.norm2(self.conv1(spikes))))
        shortcut: Tensor = body + self.shortcut(spikes)
        return shortcut


class PreActResNet18(nn.Module):
    """The network of the paper's supplement, C.3, for 32x32 images."""

    def __init__(self, timesteps: int, neuron: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.timesteps = timesteps
        layers: list[nn.Module] = [conv(3, WIDTHS[0], 3)]
        channels = WIDTHS[0]
        for stage, width in enumerate(WIDTHS):
            for index in range(2):
                stride = 2 if stage and not index else 1
                layers.append(Block(channels, width, stride, neuron))
                channels = width
        layers += [
            layer.BatchNorm2d(channels, step_mode="m"), neuron(),
            layer.AvgPool2d(4, step_mode="m"), neuron(), layer.Flatten(step_mode="m"),
            layer.Linear(channels, 10, bias=False, step_mode="m"),
        ]  # fmt: skip
        self.body = nn.Sequential(*layers)
        self.norm, self.output = layer.BatchNorm1d(10, step_mode="m"), neuron()

    def forward(self, images: Tensor) -> Tensor:
        """Return the mean over time of the output, (N, 10)."""
        x = images.expand(self.timesteps, *images.shape)
        spikes: Tensor = self.output(self.norm(self.body(x)))
        return torch.mean(spikes, 0)
