"""Opening an engine on the files that were exported for it.

Nothing is converted on the way: what runs is what another tool would read. A file of another
network than the exported one is refused before anything runs.
"""

from __future__ import annotations

from pathlib import Path

from dsr_deploy import files, formats
from dsr_deploy.engines import load_engine
from dsr_deploy.engines.engine import Engine, OtherNetworkError, Runner
from dsr_deploy.errors import UserError
from dsr_deploy.hardware.errors import HardwareError
from dsr_deploy.hardware.format import network_file
from dsr_deploy.hardware.network import IntegerNetwork
from dsr_deploy.run.exported import Exported


def open_on_network(name: str, network: IntegerNetwork) -> Runner:
    """Write the files of an engine in memory, and return what runs them.

    Raises
    ------
    UserError
        If the engine cannot run here.
    HardwareError
        If its file format cannot hold the network.
    """
    engine = load_engine(name)
    if obstacle := engine.obstacle():
        raise UserError(f"{name}: {obstacle}")
    return engine.open(network, formats.load_target(engine.target or "loihi").write(network), name)


def open_exported(name: str, exported: Exported) -> Runner:
    """Open the files of an engine in a run directory, and return what runs them.

    Raises
    ------
    UserError
        If a file is missing, damaged or of another network, or the engine cannot run here.
    """
    engine = load_engine(name)
    if obstacle := engine.obstacle():
        raise UserError(f"{name}: {obstacle}")
    if missing := missing_file(name, exported):
        raise UserError(missing)
    try:
        return engine.open(exported.network, *_read(engine, exported))
    except OtherNetworkError as error:
        # The newest quantized network stays: it is the export that lags behind.
        command = _writes(engine.target or "loihi", exported)
        raise UserError(f"{error}; run `{command}`") from None
    except HardwareError as error:
        what = str(error).removesuffix("; export it again").removesuffix("; export again")
        raise UserError(f"{what}; run `{_writes(engine.target, exported)}`") from None


def missing_file(name: str, exported: Exported) -> str | None:
    """Return a line about the missing file of an engine, and None if the file is there."""
    engine = load_engine(name)
    path = _path(engine, exported)
    command = _writes(engine.target, exported)
    return None if path.exists() else f"{path}: not there; run `{command}`"


def _path(engine: Engine, exported: Exported) -> Path:
    run = exported.run
    place = run.quantized(exported.bits) if engine.target is None else run.export(engine.target)
    return place / engine.file


def _writes(target: str | None, exported: Exported) -> str:
    """Return the command that writes a target's files, or the quantized network's."""
    command = "quantize" if target is None else f"export --target {target}"
    return exported.run.command(f"{command} --bits {exported.bits}")


def _read(engine: Engine, exported: Exported) -> tuple[dict[str, bytes], str]:
    """Return the files of an engine, as their stage wrote them, and the path of the main one."""
    path = _path(engine, exported)
    place = path.parent.relative_to(exported.run.path).as_posix()
    names = {path.name, exported.path.name} if engine.target == "loihi" else {path.name}
    try:
        return exported.run.read(place, *names).content, str(path)
    except UserError:
        # A file that was put there is another network's or damaged: the first says more.
        content = {
            name: files.read_bytes(path.with_name(name), network_file.MAX_FILE) for name in names
        }
        (engine.identify or engine.open)(exported.network, content, str(path))
        raise
