"""The loss curve of training, beside that of the same network unrolled in time with autograd.

For each seed the same initial weights, thresholds, data and order: the unrolled reference of the
tests in float32, and ours in our default precision. A spiking network is chaotic in
its rounding (see docs/training.md), so two curves of one seed part after some steps like two of
different seeds; what counts is whether their means over seeds differ by more than their errors.

    python benchmarks/loss_curve.py DIR [--neuron if] [--epochs 3] [--train 1500] [--seeds 3]

DIR holds images as ``--dataset imagefolder`` takes them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from unrolled import forward as unrolled_forward

from dsr_deploy.data.batches import batches
from dsr_deploy.data.dataset import Dataset
from dsr_deploy.data.loading import load
from dsr_deploy.data.samples import TensorSplit
from dsr_deploy.models.architectures import topology
from dsr_deploy.models.network import SpikingNetwork
from dsr_deploy.run import config
from dsr_deploy.run.trained import build
from dsr_deploy.training.device import resolve_precision
from dsr_deploy.training.optimizer import learning_rate, make_optimizer
from dsr_deploy.training.thresholds import choose_thresholds

Forward = Callable[[SpikingNetwork, Tensor], Tensor]


def train(
    settings: config.Config, dataset: Dataset, forward: Forward, name: str
) -> list[tuple[float, float]]:
    """Train; return mean loss and accuracy of each epoch."""
    torch.manual_seed(settings.seed)
    network = build(settings, topology(settings.arch, dataset.input.shape, len(dataset.classes)))
    if settings.precision != "auto":
        network.precision = settings.precision
    optimizer = make_optimizer(settings, network)
    curve = []
    for epoch in range(settings.epochs):
        started, sums = time.monotonic(), torch.zeros(3)
        stream = batches(
            dataset.train, dataset.input, settings.batch_size,
            augment=True, seed=settings.seed, epoch=epoch, shuffle=True,
        )  # fmt: skip
        for index, (payloads, labels) in enumerate(stream):
            pixels = payloads.float() * dataset.input.step
            if epoch == index == 0:
                choose_thresholds(network, pixels)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(settings, epoch + index / len(stream))
            outputs = forward(network, pixels)
            loss = F.cross_entropy(outputs, labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            network.clamp_thresholds()
            correct = (outputs.argmax(1) == labels).sum().item()
            sums += torch.tensor([loss.item() * len(labels), correct, len(labels)])
        loss_sum, correct, count = sums.tolist()
        curve.append((loss_sum / count, correct / count))
        print(
            f"{name}: epoch {epoch + 1}  loss {curve[-1][0]:.4f}  accuracy {curve[-1][1]:.2%}  "
            f"{time.monotonic() - started:.0f} s",
            file=sys.stderr,
        )
    return curve


def subset(dataset: Dataset, count: int) -> Dataset:
    """Return the data set with ``count`` training samples, evenly spread."""
    split = dataset.train
    assert isinstance(split, TensorSplit), "images of up to 64 pixels a side"
    chosen = torch.linspace(0, len(split) - 1, min(count, len(split))).long()
    fewer = dataclasses.replace(split, pixels=split.pixels[chosen], labels=split.labels[chosen])
    return dataclasses.replace(dataset, train=fewer)


def main() -> None:
    """Train with each seed, print the curves, and as the last line everything as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--arch", default="resnet20")
    parser.add_argument("--neuron", choices=["if", "lif"], default="if")
    parser.add_argument("--timesteps", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--train", type=int, default=1500, help="training samples")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    settings = config.resolve(
        dataset="imagefolder", data_dir=str(options.directory), arch=options.arch,
        neuron=options.neuron, timesteps=options.timesteps, epochs=options.epochs,
    )  # fmt: skip
    dataset = subset(
        load("imagefolder", options.directory, timesteps=options.timesteps), options.train
    )
    default = resolve_precision("auto", torch.device("cpu"))
    engines: dict[str, tuple[config.PrecisionName, Forward]] = {
        "unrolled fp32": ("fp32", lambda network, pixels: unrolled_forward(network, pixels)[0]),
        f"ours {default}": (default, lambda network, pixels: network(pixels)),
    }
    curves: dict[str, list[list[tuple[float, float]]]] = {name: [] for name in engines}
    for seed in range(options.seeds):
        for name, (precision, forward) in engines.items():
            chosen = dataclasses.replace(settings, precision=precision, seed=seed)
            curves[name].append(train(chosen, dataset, forward, f"{name}, seed {seed}"))
    # (seeds, epochs, loss and accuracy)
    points = {name: torch.tensor(found, dtype=torch.float64) for name, found in curves.items()}
    table = Table(
        title=f"{options.arch}, {options.neuron}, T = {options.timesteps}: loss, accuracy"
    )
    for title in ("epoch", *points):
        table.add_column(title, justify="right")
    for epoch in range(options.epochs):
        cells = []
        for found in points.values():
            mean, error = found[:, epoch].mean(0), found[:, epoch].std(0) / len(found) ** 0.5
            cells.append(f"{mean[0]:.3f} ± {error[0]:.3f}, {mean[1]:.1%} ± {error[1]:.1%}")
        table.add_row(str(epoch + 1), *cells)
    Console().print(table)
    last = [found[:, -1, 0] for found in points.values()]
    differences = last[1] - last[0]
    result = {
        "settings": dataclasses.asdict(settings) | {"data_dir": None},
        "curves": curves,
        "last_loss_ours_minus_unrolled": differences.tolist(),
        "mean_and_error": [
            differences.mean().item(),
            differences.std().item() / len(differences) ** 0.5,
        ],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
