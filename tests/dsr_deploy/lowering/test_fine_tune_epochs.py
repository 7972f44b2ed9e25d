"""What fine-tuning learns from, epoch by epoch, and what it takes: all told by scripted parts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsr_deploy.data.batches import batches
from dsr_deploy.data.samples import TensorSplit
from dsr_deploy.hardware.network import Input
from dsr_deploy.lowering import fine_tune
from dsr_deploy.lowering.fine_tune import Candidate, Schedule
from dsr_deploy.progress import Silent, Task

CPU = torch.device("cpu")
SHOWN = Input((1, 3, 3), (0.0,), (1.0,), 1.0, 1.0)
SCHEDULE = Schedule(epochs=2, lr=0.5, batch_size=4, seed=3)


def split(samples: int) -> TensorSplit:
    """Return random images of three classes, which augmentation shifts and mirrors."""
    drawn = torch.Generator().manual_seed(2)
    pixels = torch.randint(0, 100, (samples, 1, 3, 3), generator=drawn).to(torch.uint8)
    labels = torch.randint(0, 3, (samples,), generator=drawn)
    return TensorSplit(pixels, labels, padding=1, flip=True)


class Linear(nn.Module):
    """Stands for the quantized network; notes what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.input = SHOWN
        self.weight = nn.Parameter(torch.linspace(-0.05, 0.05, 27).reshape(3, 9))
        self.shown: list[Tensor] = []
        self.learns = True

    def forward(self, payloads: Tensor) -> Tensor:
        self.shown.append(payloads)
        self.learns = torch.is_grad_enabled()
        return payloads.float().flatten(1) @ self.weight.T


class Told(Silent):
    """Keeps all that is said."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.tasks: list[tuple[str, int]] = []
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Task]:
        self.tasks.append((description, total))
        yield self

    def advance(self, amount: int = 1, text: str = "") -> None:
        self.texts.append(text)


def mean_loss(outputs: list[Tensor], labels: list[Tensor]) -> tuple[float, float]:
    """Return mean loss and accuracy, sample by sample."""
    right, losses = [], []
    for row, label in zip(torch.cat(outputs).detach(), torch.cat(labels), strict=True):
        losses.append(float(torch.logsumexp(row, 0) - row[label]))
        right.append(int(row.argmax()) == int(label))
    return float(np.mean(losses)), float(np.mean(right))


def test_an_epoch_steps_at_rates_of_a_cosine_and_tells_its_means() -> None:
    model, samples, told = Linear(), split(11), Told()
    optimizer = torch.optim.SGD([{"params": [model.weight], "initial_lr": 8.0}], lr=1.0)
    rates: list[float] = []

    def held(optimizer: torch.optim.Optimizer, *_: object) -> None:
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.param_groups[0]["lr"] = 0.0  # so that the network stays as it is

    optimizer.register_step_pre_hook(held)
    found = fine_tune._epoch(model, optimizer, samples, SCHEDULE, 1, CPU, told)  # type: ignore[arg-type]
    # Three batches of 4, 4 and 3; the second of two epochs.
    done = [(1 + step / 3) / 2 for step in range(3)]
    assert rates == pytest.approx([8.0 * (1 + math.cos(math.pi * d)) / 2 for d in done])
    expected = list(batches(samples, SHOWN, 4, augment=True, seed=3, epoch=1, shuffle=True))
    for shown, (payloads, _) in zip(model.shown, expected, strict=True):
        assert torch.equal(shown, payloads)
    outputs = [payloads.float().flatten(1) @ model.weight.T for payloads, _ in expected]
    loss, accuracy = mean_loss(outputs, [labels for _, labels in expected])
    assert found == pytest.approx((loss, accuracy))
    assert 0 < accuracy < 1
    _, opposite = mean_loss([-output for output in outputs], [labels for _, labels in expected])
    assert accuracy != opposite  # else the smallest output would do as well
    assert told.tasks == [("fine-tuning, epoch 2/2", 3)]
    assert told.texts[-1] == f"loss {loss:.4f}  accuracy {accuracy:.1%}"


def test_each_batch_moves_by_its_own_gradient() -> None:
    model, samples = Linear(), split(8)
    optimizer = torch.optim.SGD([{"params": [model.weight], "initial_lr": 0.001}], lr=1.0)
    fine_tune._epoch(model, optimizer, samples, SCHEDULE, 0, CPU, Silent())  # type: ignore[arg-type]
    weight = Linear().weight.detach()
    stream = batches(samples, SHOWN, 4, augment=True, seed=3, epoch=0, shuffle=True)
    for rate, (payloads, labels) in zip((1.0, (1 + 0.5**0.5) / 2), stream, strict=True):
        weight.requires_grad_()
        loss = F.cross_entropy(payloads.float().flatten(1) @ weight.T, labels)
        (gradient,) = torch.autograd.grad(loss, weight)
        weight = (weight - 0.001 * rate * gradient).detach()
    torch.testing.assert_close(model.weight.detach(), weight)


def test_a_candidate_is_judged_on_each_validation_sample_once_as_it_is() -> None:
    model, validation = Linear(), split(130)  # more than a batch of 128
    network: Any = object()
    found = fine_tune._candidate(7, model, lambda: network, validation, CPU)  # type: ignore[arg-type]
    payloads = validation.pixels.to(torch.int8)
    assert torch.equal(torch.cat(model.shown), payloads)
    assert [len(shown) for shown in model.shown] == [128, 2]
    assert not model.learns
    outputs = payloads.float().flatten(1) @ model.weight.T
    loss, accuracy = mean_loss([outputs], [validation.labels])
    assert (found.epoch, found.network) == (7, network)
    assert (found.accuracy, found.loss) == (accuracy, pytest.approx(loss))


def test_without_a_validation_part_a_candidate_has_no_merit() -> None:
    model, network = Linear(), object()
    found = fine_tune._candidate(2, model, lambda: network, None, CPU)  # type: ignore[arg-type, return-value]
    assert dataclasses.astuple(dataclasses.replace(found, network=None)) == (2, None, None, None)  # type: ignore[arg-type]
    assert found.network is network
    assert model.shown == []


def test_accuracy_counts_before_loss() -> None:
    assert candidate(0, 0.5, 2.0).merit == (0.5, -2.0)
    assert candidate(0, 0.5, 2.0).merit < candidate(1, 0.5, 1.0).merit
    assert candidate(0, 0.5, 1.0).merit < candidate(1, 0.6, 9.0).merit


def candidate(epoch: int, accuracy: float | None, loss: float | None) -> Candidate:
    return Candidate(epoch, object(), accuracy, loss)  # type: ignore[arg-type]


def tune(
    monkeypatch: pytest.MonkeyPatch, merits: list[tuple[float | None, float | None]]
) -> tuple[Candidate, Candidate, Told, list[Any]]:
    """Fine-tune with scripted candidates; return both, what was said and who trained."""
    trained: list[Any] = []

    def made(epoch: int, *_: object) -> Candidate:
        return candidate(epoch, *merits[epoch])

    def epoch(model: Any, optimizer: Any, samples: Any, schedule: Any, epoch: int,
              *_: object) -> tuple[float, float]:  # fmt: skip
        trained.append(epoch)
        return 1.5 + epoch, 0.25

    monkeypatch.setattr(fine_tune, "_candidate", made)
    monkeypatch.setattr(fine_tune, "_epoch", epoch)
    monkeypatch.setattr(fine_tune, "make_optimizer", lambda model, lr: trained.append(lr))
    schedule = dataclasses.replace(SCHEDULE, epochs=len(merits) - 1)
    validation = None if merits[0][0] is None else split(2)
    told: Any = Told()
    pair = fine_tune.fine_tune(None, None, split(2), validation, schedule, CPU, told)  # type: ignore[arg-type]
    return *pair, told, trained


@pytest.mark.parametrize(
    ("merits", "taken"),
    [
        ([(0.5, 1.0)], 0),
        ([(0.5, 1.0), (0.4, 0.1), (0.3, 0.1)], 0),
        ([(0.5, 1.0), (0.7, 9.0), (0.6, 0.1)], 1),
        ([(0.5, 1.0), (0.5, 0.9), (0.5, 1.1)], 1),
        ([(0.5, 1.0), (0.5, 1.0), (0.5, 1.0)], 2),  # of equals the one that learned longest
        ([(0.5, 1.0), (0.5, 1.0), (0.4, 1.0)], 1),
        ([(None, None), (None, None), (None, None)], 2),
    ],
)
def test_the_best_candidate_is_taken(
    monkeypatch: pytest.MonkeyPatch, merits: list[Any], taken: int
) -> None:
    rounded, found, _, trained = tune(monkeypatch, merits)
    assert (rounded.epoch, found.epoch) == (0, taken)
    assert (found.accuracy, found.loss) == merits[taken]
    assert trained == [0.5, *range(len(merits) - 1)]


def test_each_epoch_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tune(monkeypatch, [(0.5, 1.0), (0.7, 9.0), (0.6, 0.1)])[2].notes == [
        "fine-tuning 1/2  loss 1.5000  train 25.00%  validation 70.00%",
        "fine-tuning 2/2  loss 2.5000  train 25.00%  validation 60.00%",
    ]
    assert tune(monkeypatch, [(None, None), (None, None)])[2].notes == [
        "fine-tuning 1/1  loss 1.5000  train 25.00%"
    ]
