"""Recording traces of some samples: what ``simulate --record`` writes."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dsr_deploy import files
from dsr_deploy.data.subset import evenly
from dsr_deploy.errors import UserError
from dsr_deploy.formats.traces import Traces, of_npz, to_npz
from dsr_deploy.hardware import reference
from dsr_deploy.hardware.event.simulator import Simulator
from dsr_deploy.hardware.network import IntegerNetwork, Population
from dsr_deploy.progress import Progress
from dsr_deploy.run import stage
from dsr_deploy.run.directory import RunDirectory
from dsr_deploy.run.samples import Samples

TRACES: Final = "traces.npz"
"""The file in a run's reports."""

SAMPLES: Final = 10
MOST_BYTES: Final = 1 << 30
"""Of traces in memory; a file of a run may be no larger."""

AT_ONCE: Final = 4
"""Samples that are simulated at a time."""

FORMATS: Final = ("npz", "nir", "nir-events")
SUFFIXES: Final = {".npz": "npz", ".nir": "nir", ".h5": "nir", ".hdf5": "nir"}


@dataclass(frozen=True)
class Recording:
    """What is recorded, and where it goes beside a run's reports.

    Attributes
    ----------
    potentials : membrane potentials as well, which takes long: the reference computes them
    layers : names of populations; None for all
    samples : how many, evenly spread over those that are simulated, or the numbers that they have
        in the data; None for 10, or all if there are fewer
    path : a file for the traces, or None
    format : one of :data:`FORMATS`; None is by the ending of ``path``
    """

    potentials: bool = False
    layers: Sequence[str] | None = None
    samples: int | Sequence[int] | None = None
    path: Path | None = None
    format: str | None = None

    def __post_init__(self) -> None:
        if self.format not in (None, *FORMATS):
            raise UserError(f"format {self.format!r}: choose one of {', '.join(FORMATS)}")
        if self.path is None:
            return
        if self.format is None and self.path.suffix.lower() not in SUFFIXES:
            raise UserError(
                f"{self.path}: let its name end in .npz or .nir, or choose --record-format"
            )
        if self.path.is_dir():
            raise UserError(f"{self.path}: it is a folder; name a file")
        stage.check_writable(self.path.parent)

    def populations(self, network: IntegerNetwork) -> list[Population]:
        """Return the chosen populations, in order of evaluation.

        Raises
        ------
        UserError
            If one is not there.
        """
        names = [population.name for population in network.populations]
        chosen = names if self.layers is None else list(self.layers)
        for name in chosen:
            if name not in names:
                raise UserError(f"layer {name!r}: choose among {', '.join(names)}")
        if not chosen:
            raise UserError("layers must be at least 1, not 0")
        return [population for population in network.populations if population.name in chosen]

    def places(self, samples: Samples) -> NDArray[np.int64]:
        """Return the places of the chosen samples among ``samples``, in ascending order.

        Raises
        ------
        UserError
            If one is not among them, or there are not so many.
        """
        if self.samples is None:
            return evenly(len(samples), None, SAMPLES)
        if isinstance(self.samples, int):
            if not 1 <= self.samples <= len(samples):
                raise UserError(
                    f"samples to record must be 1 to {len(samples)}, not {self.samples}"
                )
            return evenly(len(samples), self.samples)
        place_of = {int(number): place for place, number in enumerate(samples.numbers)}
        for number in self.samples:
            if number not in place_of:
                raise UserError(
                    f"sample {number} to record: not among the {len(samples)} that are simulated, "
                    f"of numbers {samples.numbers[0]} to {samples.numbers[-1]}"
                )
        return np.array(sorted({place_of[number] for number in self.samples}), np.int64)

    def check(self, network: IntegerNetwork, samples: Samples) -> None:
        """Make sure, before the work, that all this can be recorded.

        Raises
        ------
        UserError
            If a layer or a sample is not there, or the traces are too large.
        """
        neurons = sum(population.size for population in self.populations(network))
        each = neurons * network.timesteps * (5 if self.potentials else 1)
        whole = each * len(self.places(samples))
        if whole > MOST_BYTES:
            raise UserError(
                f"traces of {whole / 1e9:.1f} GB, at most {MOST_BYTES / 1e9:.1f} GB are recorded; "
                "choose fewer layers or samples"
            )

    def write(self, traces: Traces, network: IntegerNetwork) -> None:
        """Write the traces to the path, if there is one, whole or not at all."""
        if self.path is None:
            return
        kind = self.format or SUFFIXES[self.path.suffix.lower()]
        if kind == "npz":
            data = to_npz(traces)
        else:
            from dsr_deploy.formats import traces_nir  # takes long to import

            data = traces_nir.to_bytes(traces, network, events=kind == "nir-events")
        files.make_folder(self.path.parent)
        files.write_bytes(self.path, data)


def read_traces(run: RunDirectory) -> Traces | None:
    """Read what ``simulate --record`` kept in a run; None if it kept nothing.

    Raises
    ------
    UserError
        If a file is damaged.
    """
    if TRACES not in run.read("reports").record["files"]:
        return None
    source = run.read("reports", TRACES)
    try:
        return of_npz(source.content[TRACES])
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        where = source.folder / TRACES
        again = run.command(f"simulate --record {TRACES}")
        raise UserError(f"{where}: no traces ({error}); run `{again}` again") from None


def record(
    network: IntegerNetwork,
    samples: Samples,
    recording: Recording,
    threads: int | None,
    progress: Progress,
) -> Traces:
    """Return the traces of the chosen samples and layers; nothing is written.

    Raises
    ------
    UserError
        As :meth:`Recording.check`.
    RegisterError
        If a membrane potential leaves its register.
    """
    recording.check(network, samples)
    some = samples.part(recording.places(samples))
    layers = recording.populations(network)
    names = [layer.name for layer in layers] if recording.potentials else []
    shape = (len(some), network.timesteps)
    spikes = {layer.name: np.zeros((*shape, *layer.shape), np.bool_) for layer in layers}
    potentials = {name: np.zeros(spikes[name].shape, np.int32) for name in names}
    predictions = np.zeros(len(some), np.int64)
    simulator = Simulator(network)
    with progress.task("recording", len(some)) as task:
        for start in range(0, len(some), AT_ONCE):
            part = np.arange(start, min(start + AT_ONCE, len(some)))
            payloads = some.part(part).payloads()
            run = simulator.run(payloads, record=True, threads=threads).run
            assert run.spikes is not None
            predictions[part] = run.predictions
            for name, kept in spikes.items():
                kept[part] = run.spikes[name]
            if names:
                run = reference.run(network, payloads, potentials=names)
            for name in names:
                potentials[name][part] = run.potentials[name]
            task.advance(len(part))
    return Traces(spikes, potentials, some.numbers, predictions, some.labels)
