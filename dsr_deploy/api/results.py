"""What the functions of ``dsr_deploy`` return.

Each shows itself in one line, as a table in a notebook, and where there is something to draw, as a
picture. What belongs to a run directory can be given to the next stage.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dsr_deploy.formats.traces import Traces
from dsr_deploy.hardware.format import network_file
from dsr_deploy.hardware.network import IntegerNetwork
from dsr_deploy.measures import chip_use, tables
from dsr_deploy.measures.accuracy import Row
from dsr_deploy.measures.all import sections
from dsr_deploy.measures.tables import Table
from dsr_deploy.run import history
from dsr_deploy.run.config import Config
from dsr_deploy.run.directory import RunDirectory
from dsr_deploy.run.history import Epoch, Result
from dsr_deploy.run.trained import describe, load_trained
from dsr_deploy.stages.export import Export
from dsr_deploy.stages.recording import read_traces
from dsr_deploy.stages.simulation import SimulationReport

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dsr_deploy.engines.compare import Verification
    from dsr_deploy.models.network import SpikingNetwork
    from dsr_deploy.models.topology import Topology


class StageResult:
    """What a stage found."""

    def tables(self) -> Iterator[Table]:
        """Yield what was found, as tables."""
        return iter(())

    def _line(self) -> str:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._line()})"

    def __str__(self) -> str:
        return "\n\n".join([self._line(), *map(str, self.tables())])

    def _repr_html_(self) -> str:
        parts = [table._repr_html_() for table in self.tables()]
        return f"<p>{html.escape(self._line())}</p>" + "".join(parts)


@dataclass(frozen=True, repr=False)
class RunResult(StageResult):
    """What a stage found and keeps in a run directory."""

    run: RunDirectory

    @property
    def path(self) -> Path:
        """The run directory."""
        return self.run.path


@dataclass(frozen=True, repr=False)
class TrainedRun(RunResult):
    """A trained network in its run.

    Attributes
    ----------
    result : how the network was chosen, and what it does on the test set
    """

    result: Result

    @property
    def accuracy(self) -> float:
        """On the test set, 0 to 1."""
        return self.result.test_accuracy

    @cached_property
    def config(self) -> Config:
        """Every value that decided the training."""
        return describe(self.run).config

    @cached_property
    def topology(self) -> Topology:
        return describe(self.run).topology

    @cached_property
    def network(self) -> SpikingNetwork:
        """The network that later stages take, a torch module in its evaluation mode."""
        return load_trained(self.run).network

    @cached_property
    def history(self) -> list[Epoch]:
        """What was measured in each epoch."""
        return history.read_history(self.run)

    def plot(self) -> Figure:
        """Draw accuracies and the firing rate, epoch by epoch."""
        from dsr_deploy.measures.learning import curves

        return curves(self.history)

    def quantized(self, bits: int | None = None) -> QuantizedRun:
        """Return what was quantized before, the newest unless ``bits`` says which.

        Raises
        ------
        UserError
            If it is not there, or damaged.
        """
        place = self.run.quantized(self.run.quantized_bits(bits)).name
        return QuantizedRun(self.run, self.run.read_record(Row, place, "row.json"))

    def _line(self) -> str:
        settings, tested = self.config, self.result
        return (
            f"{settings.network} with {settings.neuron.upper()} neurons, T = {settings.timesteps}: "
            f"{tested.test_accuracy:.2%} on {tested.test_samples:,} test samples after epoch "
            f"{tested.epoch} of {tested.epochs}, in {self.path}"
        )


@dataclass(frozen=True, repr=False)
class QuantizedRun(RunResult):
    """A network of whole numbers in its run.

    Attributes
    ----------
    row : its accuracies, a row of Table S4
    """

    row: Row

    @property
    def accuracy(self) -> float:
        """Of the very integers, on the test set, 0 to 1."""
        return self.row.accuracy

    @property
    def bits(self) -> int:
        return self.row.bits

    @cached_property
    def network(self) -> IntegerNetwork:
        name = "network.safetensors"
        source = self.run.read(self.run.quantized(self.bits).name, name)
        return network_file.from_bytes(source.content[name], str(source.folder / name))

    def tables(self) -> Iterator[Table]:
        """Yield the row of Table S4."""
        yield tables.quantization([self.row])

    def _line(self) -> str:
        row = self.row
        return (
            f"{row.bits} bits: {row.accuracy:.2%} on {row.samples:,} test samples, "
            f"{row.float_accuracy:.2%} in 32 bits, in {self.path}"
        )


@dataclass(frozen=True, repr=False)
class ExportedFiles(StageResult):
    """A network in the files of a chip or of another tool.

    Attributes
    ----------
    about : its layers, and what they take of the chip
    folder : where the files are
    files : their paths
    run : that of the network, if it has one
    """

    about: Export
    folder: Path
    files: tuple[Path, ...]
    run: RunDirectory | None = None

    @property
    def target(self) -> str:
        return self.about.target

    def tables(self) -> Iterator[Table]:
        """Yield the layers, and the cores that they take."""
        yield tables.layers(self.about.layers)
        if self.about.chip is not None:
            yield chip_use.table(self.about.chip)

    def _line(self) -> str:
        layers = self.about.layers
        neurons = sum(layer.neurons for layer in layers)
        return (
            f"{self.target}: {len(layers)} layers, {neurons:,} neurons, {self.about.bits} bits, in "
            f"{self.folder}"
        )


@dataclass(frozen=True, repr=False, eq=False)
class SimulationResult(StageResult):
    """What a network does, event by event.

    Attributes
    ----------
    report : all that was counted and estimated
    predictions : the class of each sample, int64 (N,), where the network has no run; a run keeps
        those of the whole test set beside the quantized network
    run : that of the network, if it has one
    recorded : see :attr:`traces`
    """

    report: SimulationReport
    predictions: NDArray[np.int64] | None = None
    run: RunDirectory | None = None
    recorded: Traces | None = None

    @cached_property
    def traces(self) -> Traces | None:
        """What was recorded of some samples, if anything; a run keeps it in its reports.

        Raises
        ------
        UserError
            If a file of the run is damaged.
        """
        return self.recorded if self.run is None else read_traces(self.run)

    @property
    def accuracy(self) -> float:
        """On the samples that were simulated, 0 to 1; NaN without labels."""
        return math.nan if self.report.accuracy is None else self.report.accuracy

    @property
    def synops(self) -> float:
        """Synaptic operations per sample."""
        return self.report.synops

    @property
    def firing_rate(self) -> float:
        """Of all neurons at each timestep, 0 to 1."""
        return self.report.sparsity.total.firing_rate

    def tables(self) -> Iterator[Table]:
        """Yield the table of every measure."""
        yield from (section.table for section in sections(self.report).values())

    def plot(self) -> Figure:
        """Draw the sparsity of each layer."""
        from dsr_deploy.measures import sparsity

        report = self.report
        title = f"{report.network}, T = {report.timesteps}, {report.bits}-bit weights"
        return sparsity.plot(report.sparsity, title)

    def _line(self) -> str:
        report = self.report
        accuracy = "" if report.accuracy is None else f"{report.accuracy:.2%} on "
        return (
            f"{accuracy}{report.samples:,} samples, {self.firing_rate:.2%} of the neurons firing, "
            f"{report.synops:,.0f} synaptic operations each"
        )


@dataclass(frozen=True, repr=False)
class VerificationResult(StageResult):
    """Whether all engines give the same spikes; true if they do.

    Attributes
    ----------
    verification : spikes and differences by engine and layer
    run : that of the network, if it has one
    """

    verification: Verification
    run: RunDirectory | None = None

    @property
    def agreed(self) -> bool:
        return self.verification.agreed

    def __bool__(self) -> bool:
        return self.agreed

    @property
    def engines(self) -> tuple[str, ...]:
        return (self.verification.baseline, *self.verification.differing)

    @property
    def left_out(self) -> dict[str, str]:
        """Why an engine was not among them, by engine."""
        return self.verification.left_out

    def tables(self) -> Iterator[Table]:
        """Yield the spikes of the baseline, and how many of each other engine differ."""
        yield tables.engines(self.verification)

    def _line(self) -> str:
        names, samples = ", ".join(self.engines), self.verification.samples
        if self.agreed:
            return f"{names} agree spike for spike on {samples:,} samples"
        return self.verification.disagreement
