"""Simulate an integer network without a run: one in memory, or in a file."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dsr_deploy import files
from dsr_deploy.engines.opening import open_on_network
from dsr_deploy.errors import UserError
from dsr_deploy.hardware.chip import Chip, check_chip, load_chip
from dsr_deploy.hardware.errors import HardwareError
from dsr_deploy.hardware.format import network_file
from dsr_deploy.hardware.network import IntegerNetwork
from dsr_deploy.hardware.schedule import schedule
from dsr_deploy.parallel.rank import Rank
from dsr_deploy.progress import Progress, Silent
from dsr_deploy.run import own_samples, provenance, stage
from dsr_deploy.run.directory import RunDirectory
from dsr_deploy.run.samples import Samples
from dsr_deploy.run.tally import PARTIAL
from dsr_deploy.stages.counting import Method
from dsr_deploy.stages.export import DEFAULT_CHIP, narrowest
from dsr_deploy.stages.procedure import Procedure, Unfinished
from dsr_deploy.stages.recording import Recording
from dsr_deploy.stages.simulation import Simulated, Work


@dataclass(frozen=True)
class Given:
    """The samples for a network's file: a data set by its name, or an array in a file.

    Attributes
    ----------
    dataset, data_dir : of which the test samples are taken; see :func:`dsr_deploy.data.load`
    inputs : a ``.npy`` or ``.npz`` of pixels (uint8) or payloads (int8)
    labels : likewise, of whole numbers; None if they are not known
    samples : how many, evenly spread; None for all
    """

    dataset: str | None = None
    data_dir: Path | None = None
    inputs: Path | None = None
    labels: Path | None = None
    samples: int | None = None

    def __post_init__(self) -> None:
        if self.dataset is None and self.inputs is None:
            raise UserError("no samples; name them with --dataset NAME or --inputs FILE")
        if self.dataset is not None and self.inputs is not None:
            raise UserError("--dataset and --inputs exclude each other; name the samples with one")
        if self.dataset is not None and self.labels is not None:
            raise UserError("--labels: a data set has its own; leave it out")
        if self.inputs is not None and self.data_dir is not None:
            raise UserError("--data-dir is for --dataset; leave it out")

    def open(self, network: IntegerNetwork, most: int | None, progress: Progress) -> Samples:
        """Return the samples for ``network``, of a data set no more than ``most``.

        Raises
        ------
        UserError
            If they are not there, or do not fit.
        """
        if self.inputs is not None:
            return own_samples.of_files(network, self.inputs, self.labels, self.samples)
        assert self.dataset is not None
        return own_samples.of_dataset(
            network, self.dataset, self.data_dir, self.samples, most, progress
        )


@dataclass(frozen=True)
class Places:
    """Where the results of a file go.

    Attributes
    ----------
    folder : gets the files that the reports of a run have; None for none
    predictions : a ``.npy`` that gets the predicted classes, int64 (N,); None for none
    """

    folder: Path | None = None
    predictions: Path | None = None

    def check(self) -> None:
        """Make sure, before the work, that they can be written.

        Raises
        ------
        UserError
            If one cannot be written, or the folder is a run's or holds the current directory.
        """
        if self.folder is not None:
            self._check_folder(self.folder)
        if self.predictions is not None:
            if self.predictions.is_dir():
                raise UserError(f"{self.predictions}: it is a folder; name a file")
            stage.check_writable(self.predictions.parent)

    def _check_folder(self, folder: Path) -> None:
        if Path.cwd().is_relative_to(folder.resolve()):
            raise UserError(
                f"{folder}: the folder is written anew as a whole, so it cannot hold the current "
                "directory; name another, such as ./reports"
            )
        if RunDirectory(folder.parent).config.exists():
            raise UserError(f"{folder}: it belongs to a run; name another folder with --out")
        stage.check_writable(folder)
        stage.check_writable(folder.parent)

    def write_predictions(self, simulated: Simulated) -> None:
        """Write the predictions, whole or not at all."""
        if self.predictions is not None:
            data = io.BytesIO()
            np.save(data, simulated.predictions)
            _write(self.predictions, data.getvalue())

    def publish(self, simulated: Simulated) -> None:
        """Write the report's files, all of them or none."""
        if self.folder is not None:
            files.make_folder(self.folder.parent)
            record = {provenance.KEY: simulated.report.made_from}
            stage.write(self.folder.parent, self.folder.name, simulated.content, record)

    @property
    def unfinished(self) -> Unfinished | None:
        """Where a simulation that is stopped is kept."""
        return None if self.folder is None else Unfinished(self.folder / PARTIAL, _write)


def _write(path: Path, data: bytes) -> None:
    files.make_folder(path.parent)
    files.write_bytes(path, data)


def simulate_network(
    network: IntegerNetwork,
    samples: Samples,
    method: Method,
    *,
    chip: str | None = None,
    recording: Recording | None = None,
    progress: Progress | None = None,
) -> Simulated:
    """Return what ``network`` does with ``samples``; nothing but a recording is written.

    Parameters
    ----------
    chip : for the cores, name of a profile or path of a YAML file; None is loihi2
    recording : traces to return as well, and to write if it has a path

    Raises
    ------
    UserError
        If a membrane potential leaves its register, a spike differs, or the chip cannot run the
        network.
    Interrupted
        At Ctrl-C.
    """
    try:
        digest = hashlib.sha256(network_file.to_bytes(network)).hexdigest()
        procedure = _procedure(network, digest, samples, method, chip)
        procedure = replace(procedure, recording=recording)
        return procedure.carry_out(Rank(), progress or Silent())
    except HardwareError as error:
        raise UserError(str(error)) from None


def simulate_file(
    path: Path,
    given: Given,
    method: Method,
    *,
    chip: str | None = None,
    places: Places | None = None,
    recording: Recording | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Simulated:
    """Simulate the integer network in ``path`` on a user's samples.

    Parameters
    ----------
    path : such as the ``network.safetensors`` of an export
    chip : see :func:`simulate_network`
    places : None to write nothing
    recording : traces to write as well
    resume : go on with the simulation that was stopped with this folder

    Raises
    ------
    UserError
        If a file is missing or damaged, the samples do not fit the network, something cannot be
        written, or there is nothing to resume.
    Interrupted
        At Ctrl-C; the report in the folder is then of the samples that were done.
    """
    progress, places = progress or Silent(), places or Places()
    if resume and places.folder is None:
        raise UserError("--resume goes on in the folder of --out DIR; name it")
    places.check()
    try:
        network = network_file.read(path)
        samples = given.open(network, method.most, progress)
        procedure = replace(
            _procedure(network, files.digest(path), samples, method, chip),
            recording=recording,
            publish=places.publish,
            unfinished=places.unfinished,
            resume=resume,
        )
        simulated = procedure.carry_out(Rank(), progress)
    except HardwareError as error:
        raise UserError(str(error)) from None
    places.write_predictions(simulated)
    return simulated


def _procedure(
    network: IntegerNetwork, digest: str, samples: Samples, method: Method, chip: str | None
) -> Procedure:
    work = Work(network, narrowest(network), _chip_for(network, chip), digest, samples)
    return Procedure(work, method, lambda name: open_on_network(name, network))


def _chip_for(network: IntegerNetwork, name: str | None) -> Chip:
    """Return a chip; one that was chosen must be able to run the network."""
    chip = load_chip(name or DEFAULT_CHIP)
    if name is not None:
        check_chip(schedule(network), chip)
    return chip
