"""What a stage begins with, as a user names it."""

from __future__ import annotations

from pathlib import Path

from dsr_deploy import files
from dsr_deploy.api.given import network_of
from dsr_deploy.api.results import RunResult, StageResult
from dsr_deploy.errors import UserError
from dsr_deploy.hardware.network import IntegerNetwork
from dsr_deploy.run.directory import RunDirectory, find

Where = StageResult | str | Path | None
"""What a stage begins with: the result of one before, a run directory, or None for the newest."""
NetworkOrWhere = IntegerNetwork | Where
"""As :data:`Where`, or an integer network without a run, or the path of its file."""


def run_of(net: NetworkOrWhere) -> RunDirectory:
    """Return the run that ``net`` names or belongs to.

    Raises
    ------
    UserError
        If there is none.
    """
    place = net.run if isinstance(net, RunResult) else getattr(net, "run", None)
    if isinstance(place, RunDirectory):
        return place
    if network_of(net) is not None:
        raise UserError("a network without a run has no data of its own; give data, or a run")
    if net is None or isinstance(net, str | Path):
        return find(None if net is None else Path(files.at_home(net)))
    raise UserError(
        f"name a run directory, or give what a stage returned for one, not {type(net).__name__}"
    )


def full_path(value: str | Path | None) -> Path | None:
    """Return an absolute path, in which a leading ``~/`` is the user's home."""
    return None if value is None else Path(files.at_home(value)).absolute()
