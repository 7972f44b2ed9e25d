"""What every record (dataclass) of the packages keeps to."""

from __future__ import annotations

import dataclasses
import importlib
import re

ARRAYS = re.compile(
    r"NDArray|Int8|Int32|Int64|Float64|Tensor|Network\b"
    # records that hold arrays
    r"|Affine\b|Convolution\b|str, Node\]"
    r"|MembraneRange|Population\b|Connection\b|Link\b|Wiring\b|PopulationCounts|\bRun\b|\bSplit\b|\bPart\b|\bWork\b"
)


def assert_records_are_sound(module: str) -> None:
    """Every record is frozen, and compared by identity if it holds arrays: their == is no bool."""
    for name, record in vars(importlib.import_module(module)).items():
        ours = isinstance(record, type) and record.__module__ == module
        if not (ours and dataclasses.is_dataclass(record)):
            continue
        assert record.__dataclass_params__.frozen, name
        types = [str(field.type) for field in dataclasses.fields(record)]
        held = [kind for kind in types if not kind.startswith(("Callable", "Opener"))]
        arrays = any(ARRAYS.search(kind) for kind in held)
        assert (record.__eq__ is object.__eq__) == arrays, name
