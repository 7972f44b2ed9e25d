"""The stages after training as functions: quantize → export → simulate → verify → report.

Each takes what the one before returned, or the path of a run directory, or nothing for the newest
run; the command line calls the same stages. ``export``, ``simulate`` and ``verify`` also take an
integer network that has no run, or its file. In a notebook they show bars while they work.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsr_deploy import files
from dsr_deploy.api.given import network_for_data, network_of, samples_of
from dsr_deploy.api.notebook import usual_progress
from dsr_deploy.api.results import (
    ExportedFiles,
    QuantizedRun,
    SimulationResult,
    TrainedRun,
    VerificationResult,
)
from dsr_deploy.api.where import NetworkOrWhere, Where, full_path, run_of
from dsr_deploy.errors import UserError
from dsr_deploy.hardware.network import IntegerNetwork
from dsr_deploy.progress import Progress
from dsr_deploy.run import history, provenance, stage
from dsr_deploy.stages import compare as comparing
from dsr_deploy.stages import export as exporting
from dsr_deploy.stages import quantize as quantizing
from dsr_deploy.stages import report as reporting
from dsr_deploy.stages import simulate as simulating
from dsr_deploy.stages import verify as verifying
from dsr_deploy.stages.counting import Method
from dsr_deploy.stages.quantize import QuantizeConfig
from dsr_deploy.stages.recording import Recording
from dsr_deploy.stages.simulate_network import simulate_network

if TYPE_CHECKING:
    from dsr_deploy.lowering.scale import Granularity

Data = Any
"""A ``Dataset``, an array or a tensor, or None."""


def load(path: str | Path | None = None) -> TrainedRun | Any:
    """Open a run whose training is done, or the file of an integer network.

    Parameters
    ----------
    path : a run directory, or a ``network.safetensors``; None for the newest run

    Returns
    -------
    A ``TrainedRun``, or the ``IntegerNetwork`` of a file.

    Raises
    ------
    UserError
        If there is none, or a file is missing or damaged.
    """
    if (network := network_of(path)) is not None:
        return network
    place = run_of(path)
    return TrainedRun(place, history.read_result(place))


def quantize(
    net: Where = None,
    bits: int = 4,
    *,
    epochs: int | None = None,
    lr: float = 1e-2,
    batch_size: int | None = None,
    granularity: Granularity = "channel",
    wide_ends: bool = False,
    seed: int = 0,
    device: str = "auto",
    data_dir: str | Path | None = None,
    progress: Progress | None = None,
) -> QuantizedRun:
    """Turn the network's numbers into small whole numbers.

    The run keeps the result: fine-tuning goes on with the settings and the held-out samples of the
    training, so a float network is always that of a run.

    Parameters
    ----------
    net : what ``train`` returned, or a run
    bits, epochs, lr, batch_size, granularity, wide_ends, seed, device : see
        :class:`dsr_deploy.stages.quantize.QuantizeConfig`
    data_dir : where the data lie now, if they were moved

    Raises
    ------
    UserError
        If there is no trained network, the data do not fit it, or no 24-bit register holds it.
    """
    settings = QuantizeConfig(bits, epochs, lr, batch_size, granularity, wide_ends, seed, device)
    place = run_of(net)
    row = quantizing.quantize(
        place, settings, data_dir=full_path(data_dir), progress=progress or usual_progress()
    )
    return QuantizedRun(place, row)


def export(
    net: NetworkOrWhere = None,
    target: str = "loihi",
    *,
    bits: int | None = None,
    chip: str | Path | None = None,
    path: str | Path | None = None,
    progress: Progress | None = None,
) -> ExportedFiles:
    """Write the quantized network for a chip or another tool.

    Parameters
    ----------
    net : what ``quantize`` returned, a run, or an ``IntegerNetwork`` or its file
    target : "loihi", "onnx" or "nir"
    bits : which quantized network of a run; None is the newest
    chip : for target loihi, the name of a profile or the path of a YAML file; None is loihi2
    path : a folder that gets the files, a copy of those in the run; None leaves them there alone

    Raises
    ------
    UserError
        If nothing was quantized, or the target cannot express the network.
    """
    folder = None if path is None else Path(files.at_home(path))
    profile = None if chip is None else str(files.at_home(chip))
    if (network := network_of(net)) is not None:
        if folder is None or bits is not None:
            raise UserError("a network without a run needs a path for its files, and no bits")
        exported = exporting.export_network(network, target, profile)
        _write(folder, exported.content)
        return ExportedFiles(exported.about, folder, _paths(folder, exported.content))
    place = run_of(net)
    width = net.bits if bits is None and isinstance(net, QuantizedRun) else bits
    about = exporting.export(place, target, width, profile, progress=progress or usual_progress())
    names = place.read(f"export/{target}").record["files"]
    if folder is None:
        return ExportedFiles(
            about, place.export(target), _paths(place.export(target), names), place
        )
    _write(folder, place.read(f"export/{target}", *names).content)
    return ExportedFiles(about, folder, _paths(folder, names), place)


def simulate(
    net: NetworkOrWhere = None,
    data: Data = None,
    labels: Any = None,
    *,
    samples: int | None = None,
    engine: str = "event",
    threads: int | None = None,
    device: str | None = None,
    chip: str | Path | None = None,
    record: Recording | None = None,
    data_dir: str | Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> SimulationResult:
    """Run the network event by event, on integers alone: over its run's test set, or other data.

    Without ``data`` the run keeps the reports, and every prediction is compared with the quantized
    network's. With ``data`` nothing is written but a recording that has a path.

    Parameters
    ----------
    net : what ``export`` or ``quantize`` returned, or a run; a quantized network is exported for
        loihi first, unless it was. With ``data``: an ``IntegerNetwork``, its file, or what
        ``quantize`` returned
    data : None for the run's test set; else a ``Dataset``, of which the test samples are taken, or
        an array or tensor of samples, uint8, or of payloads, int8, (N, C, H, W) or, framed,
        (N, T, C, H, W)
    labels : of an array, whole numbers (N,); None if they are not known
    samples : how many, evenly spread; None for all, with Lava for at most 20 of a test set
    engine : "lava" compares every spike with Lava's runtime
    threads : None for as many as there are cores
    device : "cpu", "cuda", "cuda:N" or "auto": torch counts the same there; None for the simulator
    chip : with ``data``, the name of a profile or the path of a YAML file; None is loihi2
    record : traces of spikes and membrane potentials to keep, ``dd.Recording()`` or one with
        choices of its own
    data_dir : where the data of the run lie now, if they were moved
    resume : of a run: go on with the simulation that Ctrl-C stopped, with the same ``samples``

    Raises
    ------
    UserError
        If nothing was exported, a prediction or spike differs, or the data do not fit the network.
    """
    progress = progress or usual_progress()
    if data is not None:
        if resume:
            raise UserError("resume is for a run, which keeps what was done; leave it out")
        network = _for_data(net, data_dir)
        method = Method(engine, threads, device)
        given = samples_of(network, data, labels, samples, method.most)
        profile = None if chip is None else str(files.at_home(chip))
        simulated = simulate_network(
            network, given, method, chip=profile, recording=record, progress=progress
        )
        return SimulationResult(simulated.report, simulated.predictions, recorded=simulated.traces)
    if chip is not None:
        raise UserError("chip is for data of one's own; a run has that of its export")
    if labels is not None:
        raise UserError("labels without data; give both")
    place = run_of(net)
    _export_if_stale(net, ("loihi",), progress)
    report = simulating.simulate(
        place,
        samples,
        engine=engine,
        threads=threads,
        device=device,
        data_dir=full_path(data_dir),
        recording=record,
        resume=resume,
        progress=progress,
    )
    return SimulationResult(report, run=place)


def verify(
    net: NetworkOrWhere = None,
    data: Data = None,
    *,
    engines: Sequence[str] | str | None = None,
    samples: int | None = None,
    data_dir: str | Path | None = None,
    progress: Progress | None = None,
) -> VerificationResult:
    """Run all engines on the same samples, and compare them spike for spike.

    Parameters
    ----------
    net : what ``export`` or ``quantize`` returned, or a run; a quantized network is exported to
        every format first, unless it was. With ``data``: as for :func:`simulate`, and the files
        are written in memory
    data : None for the run's test set; else as for :func:`simulate`
    engines : their names; None for all whose files are there and that can run here
    samples : how many, evenly spread; None for 20 of a test set, or all of an array
    data_dir : where the data of the run lie now, if they were moved

    Raises
    ------
    UserError
        If nothing was exported, an engine cannot run, or the data do not fit the network. A
        difference is no error: see the result.
    """
    progress = progress or usual_progress()
    names = None
    if engines is not None:
        names = (engines,) if isinstance(engines, str) else tuple(engines)
    if data is not None:
        network = _for_data(net, data_dir)
        payloads = samples_of(network, data, None, samples, verifying.SAMPLES).payloads()
        return VerificationResult(
            verifying.verify_network(network, payloads, names, progress=progress)
        )
    place = run_of(net)
    _export_if_stale(net, ("loihi", "onnx", "nir"), progress)
    verification = verifying.verify(
        place, names, samples, data_dir=full_path(data_dir), progress=progress
    )
    return VerificationResult(verification, place)


def report(net: Where | Sequence[Where] = None, *, output: str | Path | None = None) -> Path:
    """Put all that a run knows on one page, or compare several; return the page's path.

    Parameters
    ----------
    net : what a stage returned, or a run; several of them in a list
    output : the page about several runs, ``comparison.html`` in the current directory if it is
        None; its plots and numbers are written beside it

    Raises
    ------
    UserError
        If a file of a run is damaged, or the page cannot be written.
    """
    if isinstance(net, Sequence) and not isinstance(net, str):
        if not net:
            raise UserError("an empty list; name the runs to compare")
        if len(net) > 1:
            page = comparing.OUTPUT if output is None else files.at_home(output)
            return comparing.compare([run_of(one) for one in net], page).report
        (net,) = net
    if output is not None:
        raise UserError("output is for several runs; the page of one is in its run")
    return reporting.report(run_of(net))


def _for_data(net: NetworkOrWhere, data_dir: str | Path | None) -> IntegerNetwork:
    if data_dir is not None:
        raise UserError("data_dir is for the data of a run; leave it out where data are given")
    return network_for_data(net)


def _write(folder: Path, content: Mapping[str, bytes]) -> None:
    files.make_folder(folder)
    for name, data in content.items():
        files.write_bytes(folder / name, data)


def _paths(folder: Path, names: Iterable[str]) -> tuple[Path, ...]:
    return tuple(folder / name for name in sorted(names))


def _export_if_stale(net: NetworkOrWhere, targets: Sequence[str], progress: Progress) -> None:
    """Export a quantized network to what is not of it yet, for the chip of before.

    Not all formats express all networks.
    """
    if not isinstance(net, QuantizedRun):
        return
    source = f"{net.run.quantized(net.bits).name}/{exporting.NETWORK}"
    digest = net.run.read(net.run.quantized(net.bits).name).digest(exporting.NETWORK)
    for target in targets:
        place, chip = f"export/{target}", None
        if stage.is_there(net.run.path, place):
            record = net.run.read(place).record
            if (record.get("source"), record.get(provenance.KEY)) == (source, digest):
                continue
            chip = provenance.chip_of(record)
        try:
            exporting.export(net.run, target, net.bits, chip, progress=progress)
        except UserError as error:
            if target == targets[0]:
                raise
            progress.note(f"{target}: {error}")
