"""Records of the integer network and of what is computed of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from dataclass_rules import assert_records_are_sound

HARDWARE = Path(__file__).resolve().parents[2] / "hardware"


@pytest.mark.parametrize("name", sorted(path.stem for path in HARDWARE.glob("[a-z]*.py")))
def test_records_are_frozen_and_compared_by_identity_where_they_hold_arrays(name: str) -> None:
    assert_records_are_sound(f"dsr_deploy.hardware.{name}")
