"""Records of the way from training to the chip."""

from __future__ import annotations

from pathlib import Path

import pytest
from dataclass_rules import assert_records_are_sound

PACKAGE = Path(__file__).resolve().parents[2] / "dsr_deploy"

MODULES = sorted(
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in PACKAGE.rglob("[a-z]*.py")
)


@pytest.mark.parametrize("name", MODULES)
def test_records_are_frozen_and_compared_by_identity_where_they_hold_arrays(name: str) -> None:
    assert_records_are_sound(f"dsr_deploy.{name}")
