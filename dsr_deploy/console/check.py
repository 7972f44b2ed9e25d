"""The command ``check``, of the file of a network, without a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dsr_deploy import files
from dsr_deploy.console import printing
from dsr_deploy.console.command import Stage
from dsr_deploy.console.options import File
from dsr_deploy.errors import UserError

if TYPE_CHECKING:
    from dsr_deploy.stages.check import Checked


@click.command(
    cls=Stage,
    epilog="\b\n"
    "Examples, a network of another framework, and one that was exported:\n"
    "  dsr-deploy check cnn.nir\n"
    "  dsr-deploy check network.safetensors --chip loihi1",
)
@click.argument("file", type=File())
@click.option("--chip", metavar="NAME",
              help="Chip whose limits count too: loihi1, loihi2, or a YAML file of your own.",
)  # fmt: skip
@click.option("--from", "framework", metavar="NAME",
              help="Framework that wrote a NIR file: snntorch, norse, sinabs, rockpool, "
              "spikingjelly, or nir for NIR's own equations.  [default: told from its numbers]",
)  # fmt: skip
@click.option("--reset", type=click.Choice(["subtract", "zero"]),
              help="What a spike does to v in a NIR file.  [default: as in its framework]",
)  # fmt: skip
@click.option("--dt", type=float, metavar="SECONDS",
              help="Length of a timestep of a NIR file.  [default: as in its framework]",
)  # fmt: skip
@click.option("--spikes", type=click.Choice(["one", "many"]),
              help="How often a neuron of a NIR file may fire in a timestep.  [default: as in its "
              "framework]",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON and nothing else.")
def check(
    file: Path,
    chip: str | None,
    framework: str | None,
    reset: str | None,
    dt: float | None,
    spikes: str | None,
    as_json: bool,
) -> None:
    """List everything that stands between a network's FILE and a chip.

    Reads a NIR file of snnTorch, Norse, Sinabs, Rockpool or spikingjelly, or the integer network
    that `export` wrote. Prints a line per obstacle: the place, what is there, what would do. Exits
    with 0 if nothing stands in the way, and else with 1. Writes no file.
    """
    from dsr_deploy.stages.check import TakenFor
    from dsr_deploy.stages.check import check as check_file

    many = None if spikes is None else spikes == "many"
    checked = check_file(
        file,
        None if chip is None else str(files.at_home(chip)),
        TakenFor(framework, reset, dt, many),  # type: ignore[arg-type]
    )
    printing.result(as_json, checked, _text(checked))
    if count := len(checked.obstacles):
        stand = "obstacle stands" if count == 1 else "obstacles stand"
        raise UserError(f"{file}: {count} {stand} in the way")


def _text(checked: Checked) -> str:
    lines = [f"{checked.file}: {checked.content}", *checked.assumptions]
    lines += map(str, checked.obstacles)
    if not checked.obstacles:
        on = "" if checked.chip is None else f" on {checked.chip}"
        lines.append(f"nothing stands in the way of an integer network{on}")
    return "\n".join(lines)
