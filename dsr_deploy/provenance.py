"""What each stage was made from, so that a result of an earlier network does not pass for new.

Each stage notes the SHA-256 of the file that it read. A run that is trained on, quantized or
exported again leaves the later stages behind; they are then named, with the command that renews
them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dsr_deploy import files
from dsr_deploy.errors import UserError
from dsr_deploy.progress import Progress
from dsr_deploy.run_directory import RunDirectory

KEY: Final = "made_from"
SIMULATION: Final = "reports/simulate.json"


@dataclass(frozen=True)
class Stale:
    """A stage that is not of the network that stands before it now.

    Attributes
    ----------
    stage : its place in the run directory
    source : the stage that it was made from, or checkpoint
    command : what renews it
    """

    stage: str
    source: str
    command: str

    def __str__(self) -> str:
        return f"{self.stage} is of an earlier network; `{self.command}` renews it"


def stale(run: RunDirectory) -> dict[str, Stale]:
    """Return the stages that were made from what is no longer there, by stage, in their order.

    A stage made from a stale one is stale as well, and so is one whose record is damaged. A source
    that was deleted says nothing.

    Raises
    ------
    UserError
        If a source cannot be read.
    """
    found: dict[str, Stale] = {}
    for stage, record, source, command in _stages(run):
        changed = source.exists() and record.get(KEY) != files.digest(source)
        before = source.parent.relative_to(run.path).as_posix()
        if changed or before in found:
            found[stage] = Stale(stage, before, run.command(command))
    return found


def tell(run: RunDirectory, stage: str, progress: Progress) -> None:
    """Note that ``stage`` is stale, if it is, and what it was made from before."""
    found, chain = stale(run), list[Stale]()
    while stage in found:
        chain.append(found[stage])
        stage = chain[-1].source
    for line in reversed(chain):
        progress.note(str(line))


def _stages(run: RunDirectory) -> Iterator[tuple[str, dict[str, Any], Path, str]]:
    """Yield place, record, source and command of each stage that was run."""
    for width in run.widths():
        place = f"quantized-{width}"
        yield place, _record(run, place), run.best_checkpoint, f"quantize --bits {width}"
    for path in sorted(run.path.glob("export/[!.]*/manifest.json")):
        target = path.parent.name
        record, command = _record(run, f"export/{target}"), f"export --target {target}"
        source = run.best_checkpoint
        if isinstance(bits := record.get("bits"), int):
            source = run.quantized(bits) / "network.safetensors"
            command += f" --bits {bits}"
        if isinstance(chip := record.get("chip"), dict) and "chip" in chip:
            command += f" --chip {chip['chip']}"
        yield f"export/{target}", record, source, command
    if (run.path / SIMULATION).exists():
        source = run.export("loihi") / "network.safetensors"
        yield SIMULATION, _record(run, "reports"), source, "simulate"


def _record(run: RunDirectory, place: str) -> dict[str, Any]:
    """Return a stage's record; nothing if it is damaged, so that running it again is advised."""
    try:
        return run.read(place).record
    except UserError:
        return {}
