"""Train epoch by epoch; each can be resumed."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from dsr_deploy import files
from dsr_deploy.data.batches import Batches, batches
from dsr_deploy.data.dataset import Dataset
from dsr_deploy.data.samples import Split
from dsr_deploy.data.sets.tensors import TENSORS
from dsr_deploy.data.validation import hold_out
from dsr_deploy.errors import UserError
from dsr_deploy.models.network import Activity
from dsr_deploy.models.topology import Topology
from dsr_deploy.parallel import distributed
from dsr_deploy.parallel.rank import Rank
from dsr_deploy.progress import Progress
from dsr_deploy.run import checkpoint, history
from dsr_deploy.run.config import Config
from dsr_deploy.run.directory import RunDirectory
from dsr_deploy.run.history import Epoch, Result, chosen
from dsr_deploy.run.hold import Held
from dsr_deploy.run.seal import seal
from dsr_deploy.run.trained import (
    build,
    keep_place,
    write_config,
)
from dsr_deploy.training.curves import Curves, tensorboard_installed, write_curves
from dsr_deploy.training.device import resolve_precision
from dsr_deploy.training.evaluate import Evaluation, evaluate
from dsr_deploy.training.optimizer import learning_rate, make_optimizer
from dsr_deploy.training.thresholds import choose_thresholds

THRESHOLD_SAMPLES = 64
"""Most samples that thresholds are chosen from; each process takes them all."""
SILENT_AFTER = 20
"""Training steps after which a layer that has not fired is reported."""


class Training:
    """The state of one training run."""

    def __init__(
        self,
        settings: Config,
        run: RunDirectory,
        dataset: Dataset,
        topology: Topology,
        device: torch.device,
        rank: Rank,
        progress: Progress,
        held: Held | None,
    ) -> None:
        self.settings, self.run, self.dataset = settings, run, dataset
        self.samples, self.validation = hold_out(dataset.train, settings.validation, settings.seed)
        self.device, self.rank, self.progress = device, rank, progress
        self.held = held  # of the process that writes
        torch.manual_seed(settings.seed)
        self.network = build(settings, topology).to(device)
        self.network.precision = resolve_precision(settings.precision, device)
        self.optimizer = make_optimizer(settings, self.network)
        self.epochs: list[Epoch] = []

    def execute(self, resume: bool, on_begin: Callable[[], None] | None) -> Result:
        self._stream(0)  # refuses a batch size that the data cannot meet
        if self.held is not None:
            self.held.check()
            if not resume:
                self.run.refuse_another()  # one may have begun before this one held the run
            else:
                keep_place(self.run, self.settings.data_dir)
        if resume and self.run.latest_checkpoint.exists():  # else it was killed in the first epoch
            self._resume()
        elif self.rank.first:
            if self.settings.dataset == TENSORS.name and self.settings.data_dir is None:
                self.dataset.save(self.run.path)
            write_config(self.run, self.settings, self.dataset, self.network.topology)
        if on_begin is not None and self.rank.first:
            on_begin()
        if not self.epochs and self.settings.v_threshold is None:
            self._choose_thresholds()
        distributed.copy_from_first(self.network)
        if len(self.epochs) < self.settings.epochs:
            with self._curves() as curves:
                for epoch in range(len(self.epochs), self.settings.epochs):
                    self._epoch(epoch, curves)
        return self._test()

    def _stream(self, epoch: int) -> Batches:
        """Return an epoch's batches for this process."""
        return batches(
            self.samples,
            self.dataset.input,
            self.settings.batch_size,
            augment=True,
            seed=self.settings.seed,
            epoch=epoch,
            shuffle=True,
            rank=self.rank.rank,
            world=self.rank.world,
        )

    def _choose_thresholds(self) -> None:
        """Choose them from the first samples that training will see, of all processes."""
        settings, dataset = self.settings, self.dataset
        size = min(settings.batch_size, THRESHOLD_SAMPLES, len(self.samples))
        stream = batches(
            self.samples,
            dataset.input,
            size,
            augment=False,
            seed=settings.seed,
            epoch=0,
            shuffle=True,
        )
        payloads, _ = next(iter(stream))
        choose_thresholds(self.network, payloads.to(self.device).float() * dataset.input.step)

    def _epoch(self, epoch: int, curves: Curves | None) -> None:
        started = time.monotonic()
        # Dropout's randomness follows from seed, epoch and rank, so a resume needs no random state.
        torch.manual_seed(hash((self.settings.seed, epoch, self.rank.rank)) & (2**63 - 1))
        loss, accuracy, rates = self._train_epoch(epoch)
        # A current that is not a number makes no spike, so the loss alone would not show it.
        if not all(bool(p.isfinite().all()) for p in self.network.parameters()):
            raise self._diverged(f"weights are not finite after epoch {epoch + 1}")
        held_out = None if self.validation is None else self._evaluate(self.validation)
        if held_out is not None:
            rates = held_out.firing_rates
        self.epochs.append(
            Epoch(
                epoch=epoch + 1,
                lr=learning_rate(self.settings, epoch + 1.0),
                train_loss=loss,
                train_accuracy=accuracy,
                validation_loss=None if held_out is None else held_out.loss,
                validation_accuracy=None if held_out is None else held_out.accuracy,
                firing_rate=self._mean_rate(rates),
                firing_rates=rates,
                seconds=time.monotonic() - started,
            )
        )
        if self.held is not None:
            self.held.check()
            self._save(curves)

    def _evaluate(self, split: Split) -> Evaluation:
        settings, input = self.settings, self.dataset.input
        return evaluate(self.network, split, input, self.device, settings.batch_size, self.rank)

    def _mean_rate(self, rates: dict[str, float]) -> float:
        """Return the firing rate of all neurons, from that of each population."""
        sizes = {name: math.prod(shape) for name, shape in self.network.shapes.items()}
        neurons = sum(sizes[name] for name in rates)
        return sum(sizes[name] * rate for name, rate in rates.items()) / neurons

    def _test(self) -> Result:
        """Read the test set, once, with the network that was chosen."""
        path, epoch = self.run.best_checkpoint, chosen(self.epochs)
        if self.rank.first:
            checkpoint.load(path, self.network, self.settings)
        distributed.copy_from_first(self.network)
        tested = self._evaluate(self.dataset.test)
        result = Result(
            epoch=epoch.epoch,
            epochs=len(self.epochs),
            chosen_by="last epoch" if self.validation is None else "validation accuracy",
            validation_accuracy=epoch.validation_accuracy,
            validation_samples=0 if self.validation is None else len(self.validation),
            test_loss=tested.loss,
            test_accuracy=tested.accuracy,
            test_samples=len(self.dataset.test),
            firing_rate=self._mean_rate(tested.firing_rates),
            firing_rates=tested.firing_rates,
            made_from=files.digest(path) if self.rank.first else "",
        )
        if self.held is not None:
            self.held.check()
            files.write_json(self.run.result, seal(dataclasses.asdict(result)))
        return result

    def _train_epoch(self, epoch: int) -> tuple[float, float, dict[str, float]]:
        """Return mean loss and accuracy over the epoch's training samples, and the firing rate of
        each population in every twentieth batch.
        """
        settings = self.settings
        stream = self._stream(epoch)
        self.network.train()
        sums = torch.zeros(3, dtype=torch.float64)
        rates: list[dict[str, float]] = []
        silent: set[str] | None = None
        with self.progress.task(f"epoch {epoch + 1}/{settings.epochs}", len(stream)) as task:
            for index, (payloads, labels) in enumerate(stream):
                for group in self.optimizer.param_groups:
                    group["lr"] = learning_rate(settings, epoch + index / len(stream))
                watched = epoch == 0 and index < SILENT_AFTER
                activity = Activity() if watched or index % 20 == 0 else None
                seen = self._step(payloads, labels, activity)
                sums += seen
                if watched and activity is not None:
                    quiet = {name for name, rate in activity.rates.items() if rate == 0}
                    silent = quiet if silent is None else silent & quiet
                    if index == min(SILENT_AFTER, len(stream)) - 1:
                        self._report_silent(silent, index + 1)
                if activity is not None and index % 20 == 0:
                    rates.append(activity.rates)
                if activity is not None:
                    rate = sum(activity.rates.values()) / len(activity.rates)
                task.advance(
                    text=f"loss {seen[0] / seen[2]:.3f}  accuracy {sums[1] / sums[2]:.1%}"
                    f"  firing {rate:.1%}"
                )
        means = torch.tensor(
            [[each[name] for each in rates] for name in rates[0]], dtype=torch.float64
        ).mean(1)
        loss, correct, count, *totals = distributed.sum_over_ranks(
            torch.cat((sums, means))
        ).tolist()
        by_name = dict(zip(rates[0], (t / self.rank.world for t in totals), strict=True))
        return loss / count, correct / count, by_name

    def _step(self, payloads: Tensor, labels: Tensor, activity: Activity | None) -> Tensor:
        """Train on a batch; return summed loss, correct predictions and samples, (3,)."""
        pixels = payloads.to(self.device).float() * self.dataset.input.step
        labels = labels.to(self.device)
        outputs = self.network(pixels, activity)
        loss = F.cross_entropy(outputs, labels, reduction="sum")
        count = torch.full_like(loss, len(labels))
        total, samples = distributed.sum_over_ranks(torch.stack((loss.detach(), count)))
        self.optimizer.zero_grad(set_to_none=True)
        (loss / samples).backward()
        distributed.sum_gradients(self.network.parameters())
        self.optimizer.step()
        self.network.clamp_thresholds()
        if not math.isfinite(total.item()):
            raise self._diverged(f"the training loss is {total.item()}")
        correct = (outputs.argmax(1) == labels).sum()
        return torch.tensor([loss.item(), correct.item(), len(labels)], dtype=torch.float64)

    def _diverged(self, found: str) -> UserError:
        lr = self.settings.lr
        return UserError(
            f"{found}; train again in another directory, with a lower lr (it is {lr}) or more "
            "warmup_epochs: resumed, this run would end the same"
        )

    def _report_silent(self, silent: set[str], steps: int) -> None:
        names = sorted(set.intersection(*distributed.gather(silent)))
        if not names:
            return
        settings = self.settings
        way = "raise timesteps, or lower v_threshold_min"
        if settings.v_threshold is not None:
            way = "leave out v_threshold, which is then chosen from the data, or raise timesteps"
        self.progress.note(
            f"no neuron has fired in the first {steps} steps of {', '.join(names)}; nothing behind "
            f"can learn: {way}"
        )

    def _save(self, curves: Curves | None) -> None:
        last = self.epochs[-1]
        about = {"epoch": last.epoch, "validation_accuracy": last.validation_accuracy}
        self._write_metrics()
        history = [dataclasses.asdict(epoch) for epoch in self.epochs]
        checkpoint.save(
            self.run.latest_checkpoint,
            self.network,
            self.settings,
            self.optimizer,
            about | {"history": history},
        )
        # After the latest, from which a resume writes it where a kill came between the two.
        if chosen(self.epochs) is last:
            self._save_chosen()
        if curves is not None:
            _add(curves, last)
        held_out = last.validation_accuracy
        self.progress.note(
            f"epoch {last.epoch:3}/{self.settings.epochs}  loss {last.train_loss:.4f}  train "
            f"{last.train_accuracy:7.2%}  "
            + ("" if held_out is None else f"validation {held_out:7.2%}  ")
            + f"firing {last.firing_rate:6.2%}  {last.seconds:.1f} s"
        )

    def _save_chosen(self) -> None:
        """Write the network of the last epoch as the one that later stages take."""
        last = self.epochs[-1]
        about = {"epoch": last.epoch, "validation_accuracy": last.validation_accuracy}
        checkpoint.save(self.run.best_checkpoint, self.network, self.settings, None, about)

    def _write_metrics(self) -> None:
        lines = [json.dumps(dataclasses.asdict(epoch)) + "\n" for epoch in self.epochs]
        files.write_text(self.run.metrics, "".join(lines))

    def _resume(self) -> None:
        path = self.run.latest_checkpoint
        about = checkpoint.load(path, self.network, self.settings, self.optimizer)
        if (doubt := checkpoint.doubt(about)) is not None:
            self.progress.note(doubt)
        self.epochs = history.of_checkpoint(path, about)
        if (planned := about["config"]["epochs"]) != self.settings.epochs:
            self.progress.note(
                f"config.json says {self.settings.epochs} epochs, the training was begun with "
                f"{planned}; the learning rate follows config.json from here on"
            )
        if self.rank.first:  # a kill or a user may have left others
            self._write_metrics()
            if chosen(self.epochs) is self.epochs[-1]:
                self._save_chosen()

    def _curves(self) -> contextlib.AbstractContextManager[Curves | None]:
        if self.held is None or not tensorboard_installed():
            return contextlib.nullcontext()
        return write_curves(self.run.tensorboard, len(self.epochs) + 1)


def _add(curves: Curves, epoch: Epoch) -> None:
    names = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
    values = {name: getattr(epoch, name) for name in (*names, "firing_rate")}
    rates = {f"firing_rate/{name}": rate for name, rate in epoch.firing_rates.items()}
    known = {name: value for name, value in values.items() if value is not None}
    curves.add(epoch.epoch, known | rates)
