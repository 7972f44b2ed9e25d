"""Fine-tune a quantized network in its own integer arithmetic.

The result is the best of the rounded network and the networks after each epoch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from dsr_deploy.data.batches import batches
from dsr_deploy.data.samples import Split
from dsr_deploy.hardware.network import IntegerNetwork
from dsr_deploy.lowering.quantized_network import QuantizedNetwork
from dsr_deploy.lowering.scale import largest_weight
from dsr_deploy.progress import Progress
from dsr_deploy.training.evaluate import EVALUATION_BATCH


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to fine-tune.

    Attributes
    ----------
    epochs : 0 only rounds
    lr : Adam's, in units of a weight's last bit, whatever its width; falls as a cosine to 0
    batch_size, seed : of the training batches
    """

    epochs: int
    lr: float
    batch_size: int
    seed: int


@dataclass(frozen=True, eq=False)
class Candidate:
    """A quantized network that may be chosen.

    Attributes
    ----------
    epoch : of fine-tuning; 0 is the rounded network
    network : its integers
    accuracy, loss : on the held-out samples; None without them
    """

    epoch: int
    network: IntegerNetwork
    accuracy: float | None
    loss: float | None

    @property
    def merit(self) -> tuple[float, float]:
        """The order of candidates, where samples are held out: accuracy, then loss."""
        assert self.accuracy is not None
        assert self.loss is not None
        return self.accuracy, -self.loss


def fine_tune(
    model: QuantizedNetwork,
    freeze: Callable[[], IntegerNetwork],
    samples: Split,
    validation: Split | None,
    schedule: Schedule,
    device: torch.device,
    progress: Progress,
) -> tuple[Candidate, Candidate]:
    """Train the latent parameters through the integer network, straight through its roundings.

    Parameters
    ----------
    freeze : returns the current integers of ``model``, after their range proof
    samples : to train on
    validation : to choose the best network by; None takes the last epoch

    Returns
    -------
    The rounded network and the chosen one, which is the best on ``validation`` among the rounded
    network and those after each epoch. So it is never worse there than the rounded one.

    Raises
    ------
    RegisterError
        If the integers do not fit the chip's registers.
    """
    rounded = _candidate(0, model, freeze, validation, device)
    taken = rounded
    optimizer = make_optimizer(model, schedule.lr)
    for epoch in range(schedule.epochs):
        loss, accuracy = _epoch(model, optimizer, samples, schedule, epoch, device, progress)
        candidate = _candidate(epoch + 1, model, freeze, validation, device)
        if validation is None or candidate.merit >= taken.merit:
            taken = candidate
        held_out = candidate.accuracy
        progress.note(
            f"fine-tuning {epoch + 1}/{schedule.epochs}  loss {loss:.4f}  train {accuracy:.2%}"
            + ("" if held_out is None else f"  validation {held_out:.2%}")
        )
    return rounded, taken


def make_optimizer(model: QuantizedNetwork, lr: float) -> torch.optim.Adam:
    """Return Adam with a rate for each parameter that moves it by ``lr`` of a weight's last bit.

    Latent weights are relative to the largest weight of their width, biases and thresholds to the
    threshold; those move with the narrowest weights of their population. A rate relative to the
    largest weight alone leaves weights of 2 bits where they were rounded to, and shakes those of 8.
    """
    groups = []
    for population in model.members():
        rates = [lr / largest_weight(width) for width in population.bits]
        groups += [
            {"params": [weight], "initial_lr": rate}
            for weight, rate in zip(population.weights, rates, strict=True)
        ]
        groups.append({"params": [population.bias, population.threshold], "initial_lr": max(rates)})
    return torch.optim.Adam(groups, lr=lr)


def _epoch(
    model: QuantizedNetwork,
    optimizer: torch.optim.Optimizer,
    samples: Split,
    schedule: Schedule,
    epoch: int,
    device: torch.device,
    progress: Progress,
) -> tuple[float, float]:
    """Train for an epoch; return mean loss and accuracy over its samples."""
    stream = batches(
        samples,
        model.input,
        schedule.batch_size,
        augment=True,
        seed=schedule.seed,
        epoch=epoch,
        shuffle=True,
    )
    with progress.task(f"fine-tuning, epoch {epoch + 1}/{schedule.epochs}", len(stream)) as task:
        seen: Any = np.zeros(3)
        for index, (payloads, labels) in enumerate(stream):
            done = (epoch + index / len(stream)) / schedule.epochs
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * 0.5 * (1 + math.cos(math.pi * done))
            outputs, targets = model(payloads.to(device)), labels.to(device)
            loss = F.cross_entropy(outputs, targets)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            correct = (outputs.argmax(1) == targets).sum().item()
            seen += (loss.item() * len(labels), correct, len(labels))
            task.advance(text=f"loss {seen[0] / seen[2]:.4f}  accuracy {seen[1] / seen[2]:.1%}")
    return seen[0] / seen[2], seen[1] / seen[2]


@torch.no_grad()
def _candidate(
    epoch: int,
    model: QuantizedNetwork,
    freeze: Callable[[], IntegerNetwork],
    validation: Split | None,
    device: torch.device,
) -> Candidate:
    """Return the current network of ``model``, with its result on the held-out samples."""
    network = freeze()
    if validation is None:
        return Candidate(epoch, network, None, None)
    stream = batches(
        validation,
        model.input,
        EVALUATION_BATCH,
        augment=False,
        seed=0,
        epoch=0,
        shuffle=False,
    )
    loss, correct = 0.0, 0
    for payloads, labels in stream:
        outputs = model(payloads.to(device)).cpu()
        loss += F.cross_entropy(outputs, labels, reduction="sum").item()
        correct += int((outputs.argmax(1) == labels).sum())
    return Candidate(epoch, network, correct / len(validation), loss / len(validation))
