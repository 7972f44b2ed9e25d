"""The network that ``export --target loihi`` wrote, which later stages run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dsr_deploy.errors import UserError
from dsr_deploy.formats.loihi import NETWORK_FILE
from dsr_deploy.hardware.chip import Chip, parse_chip
from dsr_deploy.hardware.errors import HardwareError, ProfileError
from dsr_deploy.hardware.format import network_file
from dsr_deploy.hardware.network import IntegerNetwork
from dsr_deploy.run import stage
from dsr_deploy.run.directory import RunDirectory
from dsr_deploy.run.provenance import PROFILE

PLACE: Final = "export/loihi"


@dataclass(frozen=True, eq=False)
class Exported:
    """An exported network and where it comes from.

    Attributes
    ----------
    bits : width of the quantized network that it was exported from
    chip : the chip that it was exported for
    digest : SHA-256 of its file
    """

    run: RunDirectory
    network: IntegerNetwork
    bits: int
    chip: Chip
    digest: str

    @property
    def path(self) -> Path:
        return self.run.path / PLACE / NETWORK_FILE


def read_exported(run: RunDirectory) -> Exported:
    """Read the exported integer network of a run.

    Raises
    ------
    UserError
        If nothing was exported yet, or a file is damaged.
    """
    again = run.command("export --target loihi")
    if not stage.is_there(run.path, PLACE):
        raise UserError(f"{run.path}: no exported network; run `{again}` first")
    source = run.read(PLACE, NETWORK_FILE)
    manifest = f"{source.folder / stage.MANIFEST}"
    bits = source.record.get("bits")
    if not isinstance(bits, int):
        raise UserError(f"{manifest}: it names no bits; run `{again}` again")
    try:
        chip = parse_chip(f"{manifest}: profile", source.record.get(PROFILE))
    except ProfileError as error:
        raise UserError(f"{error}; run `{again}` again") from None
    try:
        network = network_file.from_bytes(
            source.content[NETWORK_FILE], str(source.folder / NETWORK_FILE)
        )
    except HardwareError as error:
        raise UserError(str(error)) from None
    return Exported(run, network, bits, chip, source.digest(NETWORK_FILE))
