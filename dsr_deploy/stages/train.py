"""Train a spiking network with DSR, and keep everything in a run directory."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import torch

from dsr_deploy.data.dataset import Dataset
from dsr_deploy.models.architectures import Build
from dsr_deploy.parallel import distributed
from dsr_deploy.progress import Progress, Silent
from dsr_deploy.run import topologies
from dsr_deploy.run.config import Config
from dsr_deploy.run.directory import RunDirectory
from dsr_deploy.run.history import Result
from dsr_deploy.run.hold import hold
from dsr_deploy.run.trained import (
    describe,
    load_data,
    load_same_data,
    tell,
)
from dsr_deploy.training.device import resolve_device
from dsr_deploy.training.loop import Training

RESUME = "train --resume"


def train(
    settings: Config,
    run: RunDirectory,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    on_begin: Callable[[], None] | None = None,
    dataset: Dataset | None = None,
    build: Build | None = None,
) -> Result:
    """Train as ``settings`` say, keep everything in ``run``, and test the network that is chosen.

    Killed at any moment and resumed, a run on CPUs ends with the weights of one that was not (same
    machine, same number of threads and processes); on GPUs cuDNN may add in another order.

    Parameters
    ----------
    on_begin : called once ``run`` holds all that a resume needs, by the process that writes
    dataset : of ``settings.dataset``, if it is in memory already; the run keeps a copy
    build : describes the network ``settings.arch``, if that is no name and no file

    Raises
    ------
    UserError
        If a setting cannot be met: no such device, data or network; or a run to be resumed has
        lost its data.
    """
    device = resolve_device(settings.device)
    with distributed.process_group(device) as rank:
        if device.type == "cuda" and rank.world > 1:
            device = torch.device("cuda", rank.local)
        progress = (progress or Silent()) if rank.first else Silent()
        alone = hold(run, RESUME, "checkpoint") if rank.first else contextlib.nullcontext()
        with alone as held:
            if build is None and not resume:
                build = topologies.builder(settings.arch)
            with distributed.leader_first(rank):
                if resume:
                    about = describe(run)
                    dataset = load_same_data(about, progress, settings.data_dir)
                elif dataset is None:
                    dataset = load_data(settings, progress)
                else:
                    tell(dataset, progress)
            if build is None:
                topology = about.topology
            else:
                topology = topologies.describe(build, dataset.input.shape, len(dataset.classes))
            training = Training(settings, run, dataset, topology, device, rank, progress, held)
            return training.execute(resume, on_begin)
