"""The file of a plan, ``lava.json``; docs/lava.md specifies it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Final, cast

from dsr_deploy.hardware.errors import HardwareError, PlanError
from dsr_deploy.hardware.format.regular_file import read_regular
from dsr_deploy.hardware.format.strict_json import JsonObject, load_object
from dsr_deploy.hardware.geometry import Kind
from dsr_deploy.hardware.lava.plan import (
    SYNAPTIC_TYPES,
    Delay,
    Plan,
    Process,
    Source,
    Spiking,
    Synapses,
    SynapticType,
    Wire,
)

FORMAT: Final = "dsr-deploy lava processes"
VERSION: Final = 1
MAX_FILE: Final = 64 << 20
"""Most bytes of a file; Python's objects of its JSON take up to twenty times as much memory."""

_LONGEST_NAME: Final = 500
"""Names are made of those of two populations, of at most 200 characters each."""


def to_bytes(plan: Plan) -> bytes:
    """Return the file of ``plan``, a line per process and wire; equal plans give equal bytes."""
    head = {"format": FORMAT, "version": VERSION, "network": plan.network}
    lists = {
        "processes": [_describe(process) for process in plan.processes],
        "wires": [{"from": wire.source, "to": wire.target} for wire in plan.wires],
    }
    fields = [f' "{name}": {json.dumps(value)}' for name, value in head.items()]
    for name, items in lists.items():
        lines = ",\n".join(f"  {json.dumps(item)}" for item in items)
        fields.append(f' "{name}": [\n{lines}\n ]')
    return ("{\n" + ",\n".join(fields) + "\n}\n").encode()


def read(path: Path) -> Plan:
    """Read the plan in ``path``.

    Raises
    ------
    PlanError
        If the file cannot be read or is no plan; one line that names it.
    """
    try:
        data = read_regular(path, MAX_FILE)
    except OSError as error:
        raise PlanError(f"{path}: cannot be read ({error.strerror})") from None
    return from_bytes(data, str(path))


def from_bytes(data: bytes, where: str) -> Plan:
    """Read a plan from the bytes of its file; ``where`` names it in errors.

    Raises
    ------
    PlanError
        If the bytes are no plan. Whether it fits a network says
        :func:`dsr_deploy.hardware.lava.plan_check.check_plan`.
    """
    try:
        return _parse(data)
    except HardwareError as error:
        raise PlanError(f"{where}: {error}; export again") from error


def _describe(process: Process) -> dict[str, Any]:
    """Return the fields of a process, and of which Lava class it is."""
    fields = dataclasses.asdict(process)
    kind = fields.pop("process", type(process).__name__)
    return {"name": fields.pop("name"), "process": kind, **fields}


def _parse(data: bytes) -> Plan:
    whole = load_object("plan", data)
    if (name := whole.text("format")) != FORMAT:
        raise PlanError(f"format must be '{FORMAT}', not '{name}'")
    if (version := whole.whole("version")) != VERSION:
        raise PlanError(f"format version must be {VERSION}, not {version}")
    plan = Plan(
        network=whole.text("network"),
        processes=tuple(_process(entry) for entry in whole.nested_list("processes", "process")),
        wires=tuple(_wire(entry) for entry in whole.nested_list("wires", "wire")),
    )
    whole.finish()
    return plan


def _process(entry: JsonObject) -> Process:
    kind = entry.text("process")
    process: Process
    if kind == "Source":
        process = Source(_name(entry), entry.triple("shape"), entry.whole("repeat"))
    elif kind == "Spiking":
        process = Spiking(
            name=_name(entry),
            shape=entry.triple("shape"),
            bias=_name(entry, "bias"),
            v_fire=_name(entry, "v_fire"),
            v_threshold=_name(entry, "v_threshold"),
            decay=entry.whole("decay"),
            start=entry.whole("start"),
            timesteps=entry.whole("timesteps"),
        )
    elif kind == "Delay":
        process = Delay(_name(entry), entry.triple("shape"), entry.whole("steps"))
    elif kind in SYNAPTIC_TYPES:
        process = _synapses(entry, kind)
    else:
        choices = ", ".join(("Source", "Spiking", "Delay", *SYNAPTIC_TYPES))
        raise PlanError(f"{entry.where}: process '{kind}': choose one of {choices}")
    entry.finish()
    return process


def _synapses(entry: JsonObject, process: SynapticType) -> Synapses:
    return Synapses(
        name=_name(entry),
        process=process,
        kind=cast(Kind, entry.text("kind")),  # the check of the plan checks it
        weight=_name(entry, "weight"),
        exponent=entry.whole("exponent"),
        shape=entry.triple("shape"),
        kernel=entry.pair("kernel"),
        stride=entry.pair("stride"),
        padding=entry.pair("padding"),
        groups=entry.whole("groups"),
        message_bits=entry.whole("message_bits"),
    )


def _wire(entry: JsonObject) -> Wire:
    wire = Wire(_name(entry, "from"), _name(entry, "to"))
    entry.finish()
    return wire


def _name(entry: JsonObject, key: str = "name") -> str:
    return entry.text(key, _LONGEST_NAME)
