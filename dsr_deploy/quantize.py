"""Quantize a trained network, and fine-tune it in the integer arithmetic it will run in."""

from __future__ import annotations

import copy
import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dsr_deploy import files
from dsr_deploy.data import Dataset, batches
from dsr_deploy.errors import UserError
from dsr_deploy.fold import fold
from dsr_deploy.hardware import bounds, network_file
from dsr_deploy.hardware.network import IntegerNetwork, NetworkError
from dsr_deploy.progress import Progress, Silent
from dsr_deploy.quantized_network import QuantizedNetwork
from dsr_deploy.run_directory import RunDirectory
from dsr_deploy.scale import Granularity
from dsr_deploy.torch_engine import TorchEngine
from dsr_deploy.train import EVALUATION_BATCH, evaluate, resolve_device, resolve_precision
from dsr_deploy.trained import Trained, load_same_data, load_trained


@dataclass(frozen=True)
class QuantizeConfig:
    """How to quantize.

    Attributes
    ----------
    bits : of the weights, 2 to 8, sign included
    epochs : of fine-tuning; 0 rounds the trained network as it is; None is a tenth of the
        training's epochs, at least 5
    lr : Adam's, relative to the largest weight; falls as a cosine to 0
    batch_size : None is the training's
    granularity : scales per channel or per layer
    wide_ends : 8 bits in the first and last layer (the paper quantizes all)
    """

    bits: int = 4
    epochs: int | None = None
    lr: float = 1e-3
    batch_size: int | None = None
    granularity: Granularity = "channel"
    wide_ends: bool = False
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 8:
            raise UserError(f"bits {self.bits}; 2 to 8 are possible")
        if self.epochs is not None and not 0 <= self.epochs <= 100_000:
            raise UserError(f"epochs {self.epochs}; 0 to 100000 are possible")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise UserError(f"lr {self.lr}; it must be positive and finite")
        if self.batch_size is not None and self.batch_size < 2:
            raise UserError(f"batch_size {self.batch_size}; at least 2")
        if self.granularity not in ("channel", "layer"):
            raise UserError(f"granularity {self.granularity!r}; known are channel, layer")


@dataclass(frozen=True)
class Row:
    """A row of Table S4: accuracies on the test set, between 0 and 1.

    ``dead`` and ``always_on`` count, by layer and where there are any, the neurons that
    spiked at no timestep of any test sample, and at every one. ``made_from`` is the SHA-256 of
    the checkpoint that was quantized.
    """

    neuron: str
    timesteps: int
    bits: int
    float_accuracy: float
    post_training_accuracy: float
    accuracy: float
    samples: int
    dead: dict[str, int]
    always_on: dict[str, int]
    made_from: str


def quantize(
    run: RunDirectory, settings: QuantizeConfig, *, progress: Progress | None = None
) -> Row:
    """Quantize the best network of ``run`` and keep the result beside it.

    Returns
    -------
    The row of Table S4; the accuracy is that of the very integers that are written.

    Raises
    ------
    UserError
        If there is no trained network, the data do not fit it, or no 24-bit register holds it.
    """
    said = progress or Silent()
    device = resolve_device(settings.device)
    trained = load_trained(run)
    dataset = load_same_data(trained.description, said)
    try:
        network, row, predictions = _quantize(trained, dataset, settings, device, said)
    except NetworkError as error:
        raise UserError(str(error)) from None
    folder = run.quantized(settings.bits)
    files.write_bytes(folder / "network.safetensors", network_file.to_bytes(network))
    files.write_json(folder / "config.json", dataclasses.asdict(settings))
    files.write_json(folder / "predictions.json", predictions.tolist())
    files.write_json(folder / "row.json", dataclasses.asdict(row))
    return row


def _quantize(
    trained: Trained,
    dataset: Dataset,
    settings: QuantizeConfig,
    device: torch.device,
    progress: Progress,
) -> tuple[IntegerNetwork, Row, NDArray[np.int64]]:
    network, about = trained.network, trained.description
    network.precision = resolve_precision("auto", device)
    labels = dataset.test.labels.numpy()
    batch_size = settings.batch_size or trained.config.batch_size
    _, float_accuracy, _ = evaluate(network.to(device), dataset, device, batch_size)
    network.cpu()
    model = QuantizedNetwork(
        fold(network, about.input.step),
        network.neuron,
        about.input,
        settings.bits,
        settings.granularity,
        wide_ends=settings.wide_ends,
    ).to(device)

    def freeze() -> IntegerNetwork:
        name = f"{trained.config.dataset}-{trained.config.arch}"
        frozen = copy.deepcopy(model).cpu().freeze(name, network.shapes, about.classes)
        bounds.check(frozen)
        return frozen

    def accuracy(predictions: NDArray[np.int64]) -> float:
        return float((predictions == labels).mean())

    before = freeze()
    predictions, counts = predict(
        before, dataset, device, batch_size, progress, "testing before fine-tuning"
    )
    post_training = accuracy(predictions)
    epochs = settings.epochs
    if epochs is None:
        epochs = max(5, trained.config.epochs // 10)
    frozen = before
    if epochs:
        _fine_tune(model, dataset, settings, epochs, trained, device, progress)
        frozen = freeze()
        predictions, counts = predict(frozen, dataset, device, batch_size, progress, "testing")
    moments = len(labels) * frozen.timesteps
    row = Row(
        neuron=trained.config.neuron,
        timesteps=trained.config.timesteps,
        bits=settings.bits,
        float_accuracy=float_accuracy,
        post_training_accuracy=post_training,
        accuracy=accuracy(predictions),
        samples=len(labels),
        dead=_count_where(counts, 0),
        always_on=_count_where(counts, moments),
        made_from=trained.digest,
    )
    return frozen, row, predictions


def _fine_tune(
    model: QuantizedNetwork,
    dataset: Dataset,
    settings: QuantizeConfig,
    epochs: int,
    trained: Trained,
    device: torch.device,
    progress: Progress,
) -> None:
    """Train the latent parameters through the integer network, straight through its roundings."""
    torch.manual_seed(settings.seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.lr)
    size = settings.batch_size or trained.config.batch_size
    for epoch in range(epochs):
        stream = batches(
            dataset.train,
            dataset.input,
            size,
            augment=True,
            seed=settings.seed,
            epoch=epoch,
            shuffle=True,
        )
        with progress.task(f"fine-tuning, epoch {epoch + 1}/{epochs}", len(stream)) as task:
            seen: Any = np.zeros(3)
            for index, (payloads, labels) in enumerate(stream):
                done = (epoch + index / len(stream)) / epochs
                for group in optimizer.param_groups:
                    group["lr"] = settings.lr * 0.5 * (1 + math.cos(math.pi * done))
                outputs = model(payloads.to(device))
                targets = labels.to(device)
                loss = F.cross_entropy(outputs, targets)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                correct = (outputs.argmax(1) == targets).sum().item()
                seen += (loss.item() * len(labels), correct, len(labels))
                task.advance(text=f"loss {seen[0] / seen[2]:.4f}  accuracy {seen[1] / seen[2]:.1%}")
        progress.note(
            f"fine-tuning {epoch + 1}/{epochs}  loss {seen[0] / seen[2]:.4f}  train "
            f"{seen[1] / seen[2]:.2%}"
        )


def _count_where(counts: dict[str, Tensor], spikes: int) -> dict[str, int]:
    """Return how many neurons of each layer spiked so often, without the layers that have none."""
    found = {name: int((count == spikes).sum()) for name, count in counts.items()}
    return {name: number for name, number in found.items() if number}


def predict(
    network: IntegerNetwork,
    dataset: Dataset,
    device: torch.device,
    batch_size: int,
    progress: Progress,
    text: str,
) -> tuple[NDArray[np.int64], dict[str, Tensor]]:
    """Return the predictions of the integer network over the test set, by the torch engine, (N,).

    And how often each neuron spiked, by population, int64 (H, W, C).
    """
    engine = TorchEngine(network, device)
    stream = batches(
        dataset.test,
        network.input,
        min(EVALUATION_BATCH, batch_size),
        augment=False,
        seed=0,
        epoch=0,
        shuffle=False,
    )
    predictions = []
    counts: dict[str, Tensor] = {}
    with progress.task(text, len(stream)) as task:
        for payloads, _ in stream:
            predictions.append(engine.run(payloads.numpy(), counts=counts).predictions)
            task.advance()
    return np.concatenate(predictions), counts
