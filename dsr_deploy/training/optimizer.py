"""The optimizer and its learning rate."""

from __future__ import annotations

import math

import torch

from dsr_deploy.models.network import SpikingNetwork
from dsr_deploy.run.config import Config


def make_optimizer(settings: Config, network: SpikingNetwork) -> torch.optim.Optimizer:
    """Return the optimizer; weight decay acts on weights alone, not on norms or thresholds."""
    parameters = list(network.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if settings.optimizer == "adam":
        return torch.optim.Adam(groups, lr=settings.lr)
    return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum)


def learning_rate(settings: Config, epoch: float) -> float:
    """Return the learning rate at a moment: linear warm-up, then a cosine from lr to 0."""
    warmup = settings.warmup_epochs
    if epoch < warmup:
        return settings.lr * (epoch + 1 / 16) / (warmup + 1 / 16)
    done = (epoch - warmup) / (settings.epochs - warmup)
    return settings.lr * 0.5 * (1 + math.cos(math.pi * done))
