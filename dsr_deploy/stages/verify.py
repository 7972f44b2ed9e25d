"""Run every engine on the same samples, and compare them spike for spike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from dsr_deploy.engines import ENGINES, load_engine
from dsr_deploy.engines.compare import BASELINE, MAX_SECONDS, Verification, compare_all
from dsr_deploy.engines.engine import Payloads
from dsr_deploy.engines.opening import missing_file, open_exported, open_on_network
from dsr_deploy.errors import UserError
from dsr_deploy.hardware.errors import HardwareError
from dsr_deploy.hardware.network import IntegerNetwork
from dsr_deploy.progress import Progress, Silent
from dsr_deploy.run import provenance
from dsr_deploy.run.directory import RunDirectory
from dsr_deploy.run.exported import Exported, read_exported
from dsr_deploy.run.samples import test_payloads

SAMPLES: Final = 20
"""How many are compared unless told otherwise, or all if there are fewer."""


def verify(
    run: RunDirectory,
    engines: tuple[str, ...] | None = None,
    samples: int | None = None,
    *,
    data_dir: Path | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Compare ``engines`` on samples of the test set, each on the file that was exported for it.

    Parameters
    ----------
    engines : None for all whose files are there and that can run here, Lava if it takes no more
        than two minutes; a single one is compared with the reference
    samples : None for 20, or all if there are fewer
    data_dir : where the data lie now, if they were moved

    Raises
    ------
    UserError
        If there is no exported network, a file is damaged or of another network, an engine is
        unknown or cannot run here, or the data do not fit.
    """
    _check(engines)
    progress = progress or Silent()
    exported = read_exported(run)
    provenance.tell(run, "export/loihi", progress)
    left_out = {} if engines is not None else _left_out(exported, samples or SAMPLES)
    runners = {name: open_exported(name, exported) for name in _names(engines, left_out)}
    payloads = test_payloads(run, exported.network, samples, SAMPLES, progress, data_dir)
    verification = compare_all(exported.network, payloads, runners, progress)
    return replace(verification, left_out=left_out)


def verify_network(
    network: IntegerNetwork,
    payloads: Payloads,
    engines: tuple[str, ...] | None = None,
    *,
    progress: Progress | None = None,
) -> Verification:
    """Compare ``engines`` on ``payloads``, each on the file of its format, written in memory.

    Parameters
    ----------
    engines : None for all that can run here and whose formats can hold the network; else as for
        :func:`verify`

    Raises
    ------
    UserError
        If an engine is unknown or cannot run here, or the payloads do not fit.
    """
    _check(engines)
    left_out = {} if engines is not None else _slow_or_absent(network, len(payloads))
    runners = {}
    for name in _names(engines, left_out):
        try:
            runners[name] = open_on_network(name, network)
        except HardwareError as error:  # noqa: PERF203
            if engines is not None:
                raise UserError(f"engine '{name}': {error}") from None
            left_out[name] = str(error)
    if engines is None and BASELINE not in runners:
        raise UserError(f"engine '{BASELINE}': {left_out[BASELINE]}")
    verification = compare_all(network, payloads, runners, progress or Silent())
    return replace(verification, left_out=left_out)


def _check(engines: tuple[str, ...] | None) -> None:
    for name in engines or ():
        if name not in ENGINES:
            raise UserError(f"engine {name!r}: choose one of {', '.join(ENGINES)}")
    if engines is not None and set(engines) <= {BASELINE}:
        raise UserError(f"engine '{BASELINE}' alone; name one to compare with it")


def _names(engines: tuple[str, ...] | None, left_out: Mapping[str, str]) -> tuple[str, ...]:
    """Return the engines to open; a single one has the reference beside it."""
    names = engines or tuple(name for name in ENGINES if name not in left_out)
    return (BASELINE, *names) if len(set(names)) == 1 else names


def _left_out(exported: Exported, samples: int) -> dict[str, str]:
    """Return the engines that do not run unless named, each with the reason and what to do."""
    line = exported.run.command(f"verify --engines {BASELINE},{{}} --samples 1")
    reasons = {name: missing for name in ENGINES if (missing := missing_file(name, exported))}
    return reasons | _slow_or_absent(exported.network, samples, f"`{line}` runs it")


def _slow_or_absent(
    network: IntegerNetwork, samples: int, way: str = "name it in engines to run it"
) -> dict[str, str]:
    """Return the engines that cannot run here, or take long; ``{}`` in ``way`` is the engine."""
    reasons = {}
    for name in ENGINES:
        engine = load_engine(name)
        if obstacle := engine.obstacle():
            reasons[name] = obstacle
        elif (seconds := engine.seconds(network, samples)) > MAX_SECONDS:
            out = way.replace("{}", name)
            reasons[name] = f"it would take about {seconds / 60:,.0f} minutes; {out}"
    return reasons
