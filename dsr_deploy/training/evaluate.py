"""What a trained network makes of samples that it does not learn from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from dsr_deploy.data.batches import batches
from dsr_deploy.data.samples import Split
from dsr_deploy.hardware.network import Input
from dsr_deploy.models.network import Activity, SpikingNetwork
from dsr_deploy.parallel import distributed
from dsr_deploy.parallel.rank import Rank

EVALUATION_BATCH = 128
"""Most samples of a batch, as the paper trains; never more than a training batch has, so that
testing takes no more memory."""


@dataclass(frozen=True)
class Evaluation:
    """Mean loss, accuracy (0 to 1), and firing rate (0 to 1) of each population by name."""

    loss: float
    accuracy: float
    firing_rates: dict[str, float]


@torch.no_grad()
def evaluate(
    network: SpikingNetwork,
    split: Split,
    input: Input,
    device: torch.device,
    batch_size: int,
    rank: Rank | None = None,
) -> Evaluation:
    """Evaluate a network on all samples of ``split``.

    Parameters
    ----------
    batch_size : of all processes together, 128 at most is used
    """
    rank = rank or Rank()
    network.eval()
    names = [spec.name for spec in network.topology.populations]
    sums = torch.zeros(3 + len(names), dtype=torch.float64)
    stream = batches(
        split,
        input,
        min(EVALUATION_BATCH, batch_size),
        augment=False,
        seed=0,
        epoch=0,
        shuffle=False,
        rank=rank.rank,
        world=rank.world,
    )
    for payloads, labels in stream:
        if not len(labels):
            continue
        activity = Activity()
        outputs = network(payloads.to(device).float() * input.step, activity).cpu()
        loss = F.cross_entropy(outputs, labels, reduction="sum").item()
        rates = [activity.rates[name] * len(labels) for name in names]
        correct = (outputs.argmax(1) == labels).sum().item()
        sums += torch.tensor([loss, correct, len(labels), *rates], dtype=torch.float64)
    network.release_workspace()
    loss, correct, count, *rates = distributed.sum_over_ranks(sums).tolist()
    by_name = dict(zip(names, [rate / count for rate in rates], strict=True))
    return Evaluation(loss / count, correct / count, by_name)
