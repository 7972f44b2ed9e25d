"""The source of each stage, so that results of an earlier network are recognised.

Each stage stores the SHA-256 of the file that it read. After a run is trained further, quantized
or exported again, the later stages are stale: they are named, with the command that renews them.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dsr_deploy import files
from dsr_deploy.errors import UserError
from dsr_deploy.formats import TARGETS
from dsr_deploy.hardware.chip import known_chips
from dsr_deploy.progress import Progress
from dsr_deploy.run import stage
from dsr_deploy.run.directory import RunDirectory

KEY: Final = "made_from"
PROFILE: Final = "profile"
"""Of an export's manifest: the profile of its chip."""
PROFILE_FILE: Final = "profile_file"
"""Where that profile was read, if it is a user's own."""
SIMULATION: Final = "reports/simulate.json"


@dataclass(frozen=True)
class Stale:
    """A stage whose source has changed.

    Attributes
    ----------
    stage : its folder or file in the run directory
    source : the stage it was made from, or ``checkpoint``
    command : the command that renews it
    """

    stage: str
    source: str
    command: str

    def __str__(self) -> str:
        return f"{self.stage} is from an earlier network; `{self.command}` renews it"


def stale(run: RunDirectory) -> dict[str, Stale]:
    """Return the stages whose source has changed, by stage, in their order.

    A stage made from a stale one is stale too, and so is one with a damaged record. A source
    that was deleted does not count.

    Raises
    ------
    UserError
        If a source cannot be read.
    """
    stages: dict[str, Stale] = {}
    for place, record, source, command in _stages(run):
        changed = source.exists() and record.get(KEY) != files.digest(source)
        before = source.parent.relative_to(run.path).as_posix()
        if changed or before in stages:
            stages[place] = Stale(place, before, run.command(command))
    return stages


def tell(run: RunDirectory, place: str, progress: Progress) -> None:
    """Note if the stage at ``place`` is stale, and which of its sources are."""
    stages, chain = stale(run), list[Stale]()
    while place in stages:
        chain.append(stages[place])
        place = chain[-1].source
    for line in reversed(chain):
        progress.note(str(line))


def _stages(run: RunDirectory) -> Iterator[tuple[str, dict[str, Any], Path, str]]:
    """Yield place, record, source and command of each stage that was run."""
    for width in run.widths():
        place = f"quantized-{width}"
        yield place, _record(run, place), run.best_checkpoint, f"quantize --bits {width}"
    for target in TARGETS:
        if not stage.is_there(run.path, f"export/{target}"):
            continue
        record, command = _record(run, f"export/{target}"), f"export --target {target}"
        source = run.best_checkpoint
        # Only values that the command accepts are put into the advised command.
        bits = record.get("bits")
        if type(bits) is int and bits in range(2, 9):
            source = run.quantized(bits) / "network.safetensors"
            command += f" --bits {bits}"
        if (chip := chip_of(record)) is not None:
            command += f" --chip {shlex.quote(chip)}"
        yield f"export/{target}", record, source, command
    if (run.path / SIMULATION).exists():
        source = run.export("loihi") / "network.safetensors"
        yield SIMULATION, _record(run, "reports"), source, "simulate"


def chip_of(record: Mapping[str, Any]) -> str | None:
    """Return the chip of an export, a file or a known name; None if its record names neither."""
    if isinstance(file := record.get(PROFILE_FILE), str) and file.isprintable():
        return file
    use = record.get("chip")
    name = use.get("chip") if isinstance(use, dict) else None
    return name if name in known_chips() else None


def _record(run: RunDirectory, place: str) -> dict[str, Any]:
    """Return a stage's record; an empty one if it is damaged, which makes the stage stale."""
    try:
        return run.read(place).record
    except UserError:
        return {}
