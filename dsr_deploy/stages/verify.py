"""Run every engine on the same samples, and compare them spike for spike."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

from dsr_deploy.engines import ENGINES, load_engine
from dsr_deploy.engines.compare import BASELINE, MAX_SECONDS, Verification, compare_all
from dsr_deploy.engines.opening import missing_file, open_exported
from dsr_deploy.errors import UserError
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
    for name in engines or ():
        if name not in ENGINES:
            raise UserError(f"engine {name!r}: choose one of {', '.join(ENGINES)}")
    if engines is not None and set(engines) == {BASELINE}:
        raise UserError(f"engine '{BASELINE}' alone; name one to compare with it")
    progress = progress or Silent()
    exported = read_exported(run)
    provenance.tell(run, "export/loihi", progress)
    left_out = {} if engines is not None else _left_out(exported, samples or SAMPLES)
    names = engines or tuple(name for name in ENGINES if name not in left_out)
    if len(set(names)) == 1:
        names = (BASELINE, *names)
    runners = {name: open_exported(name, exported) for name in names}
    payloads = test_payloads(run, exported.network, samples, SAMPLES, progress, data_dir)
    verification = compare_all(exported.network, payloads, runners, progress)
    return replace(verification, left_out=left_out)


def _left_out(exported: Exported, samples: int) -> dict[str, str]:
    """Return the engines that do not run unless named, each with the reason and what to do."""
    reasons = {name: missing for name in ENGINES if (missing := missing_file(name, exported))}
    for name in ENGINES:
        engine = load_engine(name)
        if obstacle := engine.obstacle():
            reasons[name] = obstacle
        elif (seconds := engine.seconds(exported.network, samples)) > MAX_SECONDS:
            line = exported.run.command(f"verify --engines {BASELINE},{name} --samples 1")
            reasons[name] = f"it would take about {seconds / 60:,.0f} minutes; `{line}` runs it"
    return reasons
