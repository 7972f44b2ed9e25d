"""Records of the integer network and of what is computed of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from dataclass_rules import assert_records_are_sound

HARDWARE = Path(__file__).resolve().parents[2] / "hardware"


MODULES = sorted(
    ".".join(path.relative_to(HARDWARE).with_suffix("").parts)
    for path in HARDWARE.rglob("[a-z]*.py")
    if "processes" not in path.parts and path.stem not in ("assemble", "runner")  # need Lava
)


@pytest.mark.parametrize("name", MODULES)
def test_records_are_frozen_and_compared_by_identity_where_they_hold_arrays(name: str) -> None:
    assert_records_are_sound(f"dsr_deploy.hardware.{name}")
