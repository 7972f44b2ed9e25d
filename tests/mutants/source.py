"""A module's source and its mutants: the text, what it means, and how it gets into a process."""

from __future__ import annotations

import ast
import difflib
import importlib.abc
import importlib.machinery
import importlib.util
import re
import sys
import types
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cosmic_ray.plugins
from cosmic_ray.ast import get_ast
from cosmic_ray.mutating import MutationVisitor
from cosmic_ray.work_item import WorkItem

from mutants.operators import OWN

ROOT = Path(__file__).resolve().parents[2]
SESSIONS = ROOT / "build" / "mutants"

cosmic_ray.plugins.OPERATOR_PROVIDERS["own"] = OWN


@dataclass(frozen=True)
class Judged:
    """A module and what judges it.

    Attributes
    ----------
    judges : arguments of pytest, the quickest tests first
    left_out : functions without mutants
    """

    path: str
    judges: tuple[str, ...]
    left_out: frozenset[str]

    @property
    def name(self) -> str:
        """The name under which the module is imported."""
        dotted = self.path.removesuffix(".py").replace("/", ".")
        return dotted if dotted.startswith("dsr_deploy.") else f"dsr_deploy.{dotted}"

    @property
    def source(self) -> str:
        return (ROOT / self.path).read_text(encoding="utf-8")

    @property
    def session(self) -> Path:
        return SESSIONS / f"{self.name.removeprefix('dsr_deploy.')}.sqlite"


class Source:
    """A module's source, parsed once: each child changes its own copy of the tree."""

    def __init__(self, text: str) -> None:
        self.text, self.tree, self.meaning = text, get_ast(text), _meaning(text)

    def mutate(self, item: WorkItem) -> str:
        """Return the mutated text, and spoil the tree; empty if it means nothing or the same."""
        mutation = item.mutations[0]
        operator = cosmic_ray.plugins.get_operator(mutation.operator_name)()
        visitor = MutationVisitor(mutation.occurrence, operator)
        text: str = visitor.walk(self.tree).get_code()
        try:
            return "" if _meaning(text) == self.meaning else text
        except (SyntaxError, ValueError):
            return ""


def _meaning(source: str) -> str:
    """Return the syntax tree without what decides nothing.

    These are annotations, which nothing evaluates; whether arguments are named; and ``strict`` of
    a zip, which is there against our own mistakes.
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.arguments):
            node.args = [*node.posonlyargs, *node.args, *node.kwonlyargs]
            node.defaults += [value for value in node.kw_defaults if value is not None]
            node.posonlyargs, node.kwonlyargs, node.kw_defaults = [], [], []
        elif isinstance(node, ast.Call):
            node.keywords = [keyword for keyword in node.keywords if keyword.arg != "strict"]
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.FunctionDef):
            node.returns = None
    return ast.dump(tree)


def changed_lines(before: str, after: str) -> tuple[str, str]:
    """Return the lines that differ, before and after."""
    lines = [
        line
        for line in difflib.ndiff(before.splitlines(), after.splitlines())
        if line[:2] in ("- ", "+ ")
    ]
    old, new = ([line[2:].strip() for line in lines if line[0] == sign] for sign in "-+")
    return " ".join(old).strip(), re.sub(r"(?<=[(\[=-]) (?=\d)", "", " ".join(new))


def function_lines(source: str) -> dict[int, tuple[str, ...]]:
    """Map the lines of functions and methods, decorators left out, to their names."""
    lines: dict[int, tuple[str, ...]] = {}

    def add(nodes: list[ast.stmt], above: tuple[str, ...]) -> None:
        for node in nodes:
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno is not None
                names = (*above, node.name)
                lines.update(dict.fromkeys(range(node.lineno, node.end_lineno + 1), names))
            elif isinstance(node, ast.ClassDef):
                add(node.body, (*above, node.name))

    add(ast.parse(source).body, ())
    return lines


def swap(module: Judged, function: Sequence[str], text: str) -> None:
    """Give a function of the imported module the code that it has in ``text``."""
    old: Any = sys.modules[module.name]
    new: Any = types.ModuleType(module.name)
    new.__file__ = old.__file__
    exec(compile(text, old.__file__, "exec", dont_inherit=True), new.__dict__)
    for name in function:
        old, new = vars(old)[name], vars(new)[name]
    for attribute in ("fget", "func", "__func__", "py_func", "__wrapped__"):
        old, new = getattr(old, attribute, old), getattr(new, attribute, new)
    old.__code__, old.__defaults__ = new.__code__, new.__defaults__
    old.__kwdefaults__ = new.__kwdefaults__


class _Mutated(importlib.machinery.SourceFileLoader):
    """Loads a module from a text instead of its file."""

    def __init__(self, name: str, path: str, source: str) -> None:
        super().__init__(name, path)
        self.text = source

    def get_code(self, fullname: str) -> types.CodeType:
        return compile(self.text, self.path, "exec", dont_inherit=True)


class Finder(importlib.abc.MetaPathFinder):
    def __init__(self, module: Judged, source: str) -> None:
        path = str(ROOT / module.path)
        self.name, self.loader = module.name, _Mutated(module.name, path, source)

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if fullname != self.name:
            return None
        return importlib.util.spec_from_file_location(
            fullname, self.loader.path, loader=self.loader
        )
