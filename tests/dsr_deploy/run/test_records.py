"""Records that were written, and what else a file may hold in their place."""

import dataclasses
import json
import sys
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from dsr_deploy.errors import UserError
from dsr_deploy.run import records


@dataclass(frozen=True)
class Part:
    name: str
    fits: bool
    available: int = 7

    def __post_init__(self) -> None:
        if self.name == "bad":
            raise ValueError("name 'bad'; another one")


@dataclass(frozen=True)
class Whole:
    kind: Literal["if", "lif"]
    parts: tuple[Part, ...]
    shape: tuple[int, int]
    proven_low: int
    test_accuracy: float | None
    total: float
    firing_rates: dict[str, float]


WHOLE = Whole(
    kind="if",
    parts=(Part("a", True, 1), Part("b", False)),
    shape=(2, 3),
    proven_low=-5,
    test_accuracy=0.5,
    total=1e300,
    firing_rates={"a": 0.25},
)


def _written() -> dict[str, Any]:
    value: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(WHOLE)))
    return value


def test_a_record_comes_back_as_it_was_written() -> None:
    value = _written()
    assert records.read(Whole, value, "file") == WHOLE
    del value["parts"][1]["available"]  # has a default
    assert records.read(Whole, value | {"later": 1}, "file") == WHOLE
    assert records.read(Whole, value | {"test_accuracy": None, "total": 3}, "file") == (
        dataclasses.replace(WHOLE, test_accuracy=None, total=3)
    )


WRONG = [
    ({"kind": "x"}, "field 'kind' is 'x', not one of if, lif"),
    ({"kind": []}, "field 'kind' is a list, not one of if, lif"),
    ({"parts": {}}, "field 'parts' is an object, not a list"),
    ({"parts": [1]}, "field 'parts[0]' is 1, not an object"),
    ({"parts": [{"name": "a"}]}, "field 'parts[0].fits' is missing"),
    ({"parts": [{"name": "a", "fits": 0}]}, "field 'parts[0].fits' is 0, not true or false"),
    ({"parts": [{"name": None, "fits": True}]}, "field 'parts[0].name' is None, not text"),
    ({"parts": [{"name": "bad", "fits": True}]}, "name 'bad'; another one in 'parts[0]'"),
    (
        {"parts": [{"name": "a", "fits": True, "available": 0}]},
        "field 'parts[0].available' is 0, not a whole number, 1 to 9007199254740991",
    ),
    ({"shape": [1]}, "field 'shape' is a list, not a list of 2"),
    ({"shape": [1, True]}, "field 'shape[1]' is True, not a whole number"),
    ({"shape": [1, 2.0]}, "field 'shape[1]' is 2.0, not a whole number"),
    ({"shape": [1, -1]}, "field 'shape[1]' is -1, not a whole number, 0 to 9007199254740991"),
    ({"proven_low": None}, "field 'proven_low' is None, not a whole number"),
    ({"test_accuracy": 1.5}, "field 'test_accuracy' is 1.5, not a number, 0 to 1"),
    ({"test_accuracy": "x"}, "field 'test_accuracy' is 'x', not a number"),
    ({"total": -1}, "field 'total' is -1, not a number, 0 to 1.7976931348623157e+308"),
    ({"total": float("nan")}, "field 'total' is nan, not a number, 0 to 1.7976931348623157e+308"),
    ({"total": float("inf")}, "field 'total' is inf, not a number, 0 to 1.7976931348623157e+308"),
    ({"firing_rates": {"a": 2}}, "field 'firing_rates[a]' is 2, not a number, 0 to 1"),
    ({"firing_rates": 1}, "field 'firing_rates' is 1, not an object"),
    (
        {"total": 10**400},
        f"field 'total' is 1{'0' * 59}..., not a number, 0 to {sys.float_info.max}",
    ),
    ({"total": "y" * 100_000}, f"field 'total' is '{'y' * 59}..., not a number"),
]


@pytest.mark.parametrize(("change", "message"), WRONG, ids=range(len(WRONG)))
def test_anything_else_is_refused_by_its_field(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as refused:
        records.read(Whole, _written() | change, "file")
    assert str(refused.value) == f"file: {message}; run its stage again"


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Whole)])
def test_a_missing_field_is_named(field: str) -> None:
    value = _written()
    del value[field]
    with pytest.raises(UserError) as refused:
        records.read(Whole, value, "file")
    assert str(refused.value) == f"file: field '{field}' is missing; run its stage again"


def test_what_is_no_object_is_refused() -> None:
    with pytest.raises(UserError) as refused:
        records.read(Whole, [], "file")
    assert str(refused.value) == "file: it is a list, not an object; run its stage again"
