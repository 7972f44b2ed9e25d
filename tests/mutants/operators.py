"""Mutations that cosmic-ray lacks: a statement left out, a function taken for its opposite.

Both are faults that arithmetic suffers from: a gain that is never multiplied in, the lower bound
where the upper one belongs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import parso
from cosmic_ray.operators.operator import Example, Operator
from parso.python.tree import Name

OPPOSITES = {
    "all": "any",
    "any": "all",
    "amax": "amin",
    "amin": "amax",
    "argmax": "argmin",
    "argmin": "argmax",
    "ceil": "floor",
    "floor": "ceil",
    "max": "min",
    "maximum": "minimum",
    "min": "max",
    "minimum": "maximum",
    "ones": "zeros",
    "rint": "trunc",
    "round": "int",  # the builtin
    "zeros": "ones",
}


class ReplaceFunctionWithOpposite(Operator):  # type: ignore[misc, unused-ignore]
    """Calls another function of the same arguments: ``min`` for ``max`` and so on."""

    def mutation_positions(self, node: Any) -> Iterator[tuple[Any, Any]]:
        if isinstance(node, Name) and node.value in OPPOSITES and _is_called(node):
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        attribute = getattr(node.get_previous_leaf(), "value", "") == "."
        node.value = "trunc" if node.value == "round" and attribute else OPPOSITES[node.value]
        return node

    @classmethod
    def examples(cls) -> Sequence[Example]:
        return (Example("x = min(a, b)", "x = max(a, b)"),)


class DeleteStatement(Operator):  # type: ignore[misc, unused-ignore]
    """Leaves out a call whose value nobody takes, ``a += b``, ``a[i] = b`` and ``a.b = c``."""

    def mutation_positions(self, node: Any) -> Iterator[tuple[Any, Any]]:
        if node.type == "simple_stmt" and _has_effect(node.children[0]):
            yield node.children[0].start_pos, node.children[0].end_pos

    def mutate(self, node: Any, index: int) -> Any:
        prefix = node.get_first_leaf().prefix
        node.children[0] = parso.parse(f"{prefix}pass").children[0]
        return node

    @classmethod
    def examples(cls) -> Sequence[Example]:
        return (Example("f(x)\n", "pass\n"), Example("a += 1\n", "pass\n"))


OWN: dict[str, type[Operator]] = {
    operator.__name__: operator for operator in (ReplaceFunctionWithOpposite, DeleteStatement)
}


def _is_called(name: Any) -> bool:
    """Whether an argument list follows."""
    following = name.get_next_leaf()
    return following is not None and following.value == "(" and name.parent.type != "funcdef"


def _has_effect(statement: Any) -> bool:
    if statement.type in ("atom_expr", "power"):
        return bool(statement.children[-1].type == "trailer")
    if statement.type != "expr_stmt":
        return False
    target, then = statement.children[:2]
    return bool(then.type in ("operator", "augassign")) and (
        then.get_code().strip() != "=" or target.type in ("atom_expr", "power")
    )
