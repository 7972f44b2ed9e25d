"""The stages as functions: train → quantize → export → simulate → verify → report.

Each takes what the one before returned, or the path of a run directory, or nothing for the newest
run; the command line calls the same stages. In a notebook they show bars while they work.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsr_deploy import files
from dsr_deploy.api.notebook import usual_progress
from dsr_deploy.api.results import (
    ExportedRun,
    QuantizedRun,
    SimulatedRun,
    Stage,
    TrainedRun,
    VerifiedRun,
)
from dsr_deploy.api.settings import Settings
from dsr_deploy.data.dataset import Dataset
from dsr_deploy.data.samples import TensorSplit
from dsr_deploy.data.sets.tensors import TENSORS
from dsr_deploy.errors import UserError
from dsr_deploy.models.architectures import Build
from dsr_deploy.models.topology import Topology
from dsr_deploy.progress import Progress
from dsr_deploy.run import config, history, provenance, stage, topologies
from dsr_deploy.run.directory import RunDirectory, beginning, default_name, find, link_latest
from dsr_deploy.stages import export as exporting
from dsr_deploy.stages import quantize as quantizing
from dsr_deploy.stages import report as reporting
from dsr_deploy.stages import simulate as simulating
from dsr_deploy.stages import train as training
from dsr_deploy.stages import verify as verifying
from dsr_deploy.stages.quantize import QuantizeConfig

if TYPE_CHECKING:
    from typing import Unpack

    from dsr_deploy.lowering.scale import Granularity

Network = str | Topology | Build
Where = Stage | str | Path | None
"""What a stage begins with: the result of one before, a run directory, or None for the newest."""


def train(
    arch: Network | None = None,
    dataset: str | Dataset | None = None,
    *,
    preset: str | None = None,
    run: str | Path | None = None,
    progress: Progress | None = None,
    **settings: Unpack[Settings],
) -> TrainedRun:
    """Train a spiking network, and keep everything in a run directory.

    Parameters
    ----------
    arch : name of an architecture, ``"FILE.py:FUNCTION"``, a ``Topology``, or a function that
        returns one for an input shape (C, H, W) and a number of classes; None is the data set's
    dataset : name of a data set, or samples in memory, of which the run keeps a copy; None is
        digits
    preset : a setting of the paper, such as ``"cifar10-if-t20"``
    run : directory of the run; None is a new one in ``runs/``
    settings : see :class:`dsr_deploy.run.config.Config`, for example ``timesteps=8, epochs=5``

    Raises
    ------
    UserError
        If a value cannot be, a file is missing, or the network does not fit the data.
    """
    chosen = _known(dict(settings))
    build = None
    if isinstance(arch, str):
        chosen["arch"] = arch
    elif arch is not None:
        name = arch.name if isinstance(arch, Topology) else getattr(arch, "__name__", "network")
        chosen["arch"] = topologies.GIVEN + name
        build = _builder(arch)
    samples = None
    if isinstance(dataset, Dataset):
        chosen |= _of_samples(dataset, chosen)
        samples = dataset
    elif dataset is not None:
        chosen["dataset"] = dataset
    if chosen.get("data_dir") is not None:
        chosen["data_dir"] = str(Path(files.at_home(chosen["data_dir"])).absolute())
    resolved = config.resolve(preset, **chosen)
    if samples is not None:
        samples = samples.augmented(resolved.augmentation)
    said = progress or usual_progress()
    place = None if run is None else Path(files.at_home(run))
    of = resolved.dataset if samples is None else topologies.short_name(samples.name)

    with beginning(place, default_name(resolved, of)) as begun:
        result = training.train(
            resolved,
            begun,
            progress=said,
            on_begin=lambda: link_latest(begun, said),
            dataset=samples,
            build=build,
        )
    return TrainedRun(begun, result)


def resume(run: Where = None, *, progress: Progress | None = None) -> TrainedRun:
    """Continue a training that was stopped, with its own settings.

    Raises
    ------
    UserError
        If there is no such run, or its data are not the same any more.
    """
    place = _run(run)
    settings = config.read(place.config)
    said = progress or usual_progress()
    return TrainedRun(place, training.train(settings, place, resume=True, progress=said))


def load(run: Where = None) -> TrainedRun:
    """Open a run whose training is done.

    Raises
    ------
    UserError
        If there is none, or a file is missing or damaged.
    """
    place = _run(run)
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
    place = _run(net)
    row = quantizing.quantize(
        place, settings, data_dir=_path(data_dir), progress=progress or usual_progress()
    )
    return QuantizedRun(place, row)


def export(
    net: Where = None,
    target: str = "loihi",
    *,
    bits: int | None = None,
    chip: str | None = None,
    path: str | Path | None = None,
    progress: Progress | None = None,
) -> ExportedRun:
    """Write the quantized network for a chip or another tool.

    Parameters
    ----------
    net : what ``quantize`` returned, or a run
    target : "loihi", "onnx" or "nir"
    bits : which quantized network of a run; None is the newest
    chip : for target loihi; None is loihi2
    path : a folder that gets a copy of the files; None leaves them in the run alone

    Raises
    ------
    UserError
        If nothing was quantized, or the target cannot express the network.
    """
    place = _run(net)
    width = net.bits if bits is None and isinstance(net, QuantizedRun) else bits
    said = progress or usual_progress()
    made = exporting.export(place, target, width, chip, progress=said)
    folder = place.export(target)
    names = sorted(place.read(f"export/{target}").record["files"])
    if path is not None:
        content = place.read(f"export/{target}", *names).content
        folder = Path(files.at_home(path))
        files.make_folder(folder)
        for name, data in content.items():
            files.write_bytes(folder / name, data)
    return ExportedRun(place, made, folder, tuple(folder / name for name in names))


def simulate(
    net: Where = None,
    samples: int | None = None,
    *,
    engine: str = "event",
    threads: int | None = None,
    data_dir: str | Path | None = None,
    progress: Progress | None = None,
) -> SimulatedRun:
    """Run the network event by event over the test set, on integers alone.

    Parameters
    ----------
    net : what ``export`` or ``quantize`` returned, or a run; a quantized network is exported for
        loihi first, unless it was
    samples : how many, spread over the test set; None for all
    engine : "lava" compares every spike with Lava's runtime
    threads : None for as many as there are cores
    data_dir : where the data lie now, if they were moved

    Raises
    ------
    UserError
        If nothing was exported, or a prediction differs from the quantized network's.
    """
    place, said = _run(net), progress or usual_progress()
    _export_if_stale(net, ("loihi",), said)
    report = simulating.simulate(
        place, samples, engine=engine, threads=threads, data_dir=_path(data_dir), progress=said
    )
    return SimulatedRun(place, report)


def verify(
    net: Where = None,
    engines: Sequence[str] | None = None,
    samples: int | None = None,
    *,
    data_dir: str | Path | None = None,
    progress: Progress | None = None,
) -> VerifiedRun:
    """Run all engines on the same samples, and compare them spike for spike.

    Parameters
    ----------
    net : what ``export`` or ``quantize`` returned, or a run; a quantized network is exported to
        every format first, unless it was
    engines : their names; None for all whose files are there and that can run here
    samples : None for 20, or all if there are fewer
    data_dir : where the data lie now, if they were moved

    Raises
    ------
    UserError
        If nothing was exported, or an engine cannot run. A difference is no error: see the result.
    """
    place, said = _run(net), progress or usual_progress()
    _export_if_stale(net, ("loihi", "onnx", "nir"), said)
    names = None if engines is None else tuple(engines)
    found = verifying.verify(place, names, samples, data_dir=_path(data_dir), progress=said)
    return VerifiedRun(place, found)


def report(net: Where = None) -> Path:
    """Put all that a run knows on one page, and return the page's path.

    Raises
    ------
    UserError
        If a file of the run is damaged.
    """
    return reporting.report(_run(net))


def _run(net: Where) -> RunDirectory:
    if isinstance(net, Stage):
        return net.run
    return find(None if net is None else Path(files.at_home(net)))


def _path(value: str | Path | None) -> Path | None:
    return None if value is None else Path(files.at_home(value)).absolute()


def _known(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings whose names are all known."""
    for name in settings:
        if name not in Settings.__annotations__:
            near = difflib.get_close_matches(name, Settings.__annotations__, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UserError(f"train has no setting {name!r}{hint}")
    return settings


def _builder(network: Topology | Build) -> Build:
    if isinstance(network, Topology):
        return lambda input_shape, classes: network
    if not callable(network):
        raise UserError(
            "arch must be a name, a Topology or a function that returns one, not "
            f"{type(network).__name__}"
        )
    return network


def _of_samples(dataset: Dataset, chosen: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that samples in memory decide."""
    for name in ("data_dir", "image_size"):
        if chosen.get(name) is not None:
            raise UserError(f"{name} {chosen[name]!r}: the samples are in memory; leave it out")
    if not isinstance(dataset.train, TensorSplit):
        raise UserError(f"data set '{dataset.name}': give its name and data_dir instead")
    found: dict[str, Any] = {"dataset": TENSORS.name}
    if dataset.input.framed:
        frames = dataset.train.frames
        if chosen.get("timesteps") not in (None, frames):
            raise UserError(
                f"timesteps must be {frames}, a frame for each, not {chosen['timesteps']}"
            )
        found["timesteps"] = frames
    return found


def _export_if_stale(net: Where, targets: Sequence[str], progress: Progress) -> None:
    """Export a quantized network to what is not of it yet; not all formats express all networks."""
    if not isinstance(net, QuantizedRun):
        return
    source = f"{net.run.quantized(net.bits).name}/{exporting.NETWORK}"
    digest = net.run.read(net.run.quantized(net.bits).name).digest(exporting.NETWORK)
    for target in targets:
        place = f"export/{target}"
        if stage.is_there(net.run.path, place):
            record = net.run.read(place).record
            if (record.get("source"), record.get(provenance.KEY)) == (source, digest):
                continue
        try:
            exporting.export(net.run, target, net.bits, progress=progress)
        except UserError as error:
            if target == targets[0]:
                raise
            progress.note(f"{target}: {error}")
