"""Mutation testing: change one thing in a module, and see whether its tests notice.

cosmic-ray makes the mutants and keeps the results; ``settings.toml`` says which modules, which
operators, and which tests judge a module. What survives must stand in ``equivalent.toml`` with
the reason why it changes nothing.

cosmic-ray starts a test command per mutant, which for tests that import torch is seconds. Here
pytest collects the judges once and is forked for each mutant; the child swaps the code of the
function in question and runs the tests. What is no function's code (a constant, a decorator) is
imported anew, by a child in which nothing of dsr_deploy was. No file of the tree is touched.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import functools
import gc
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import random
import re
import resource
import signal
import sys
import time
import traceback
import types
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import cosmic_ray.plugins
import pytest
import tomllib
from cosmic_ray.ast import get_ast
from cosmic_ray.commands.init import init
from cosmic_ray.mutating import MutationVisitor
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import TestOutcome, WorkerOutcome, WorkItem, WorkResult

from hypothesis import settings
from mutants.operators import OWN

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
SESSIONS = ROOT / "build" / "mutants"

cosmic_ray.plugins.OPERATOR_PROVIDERS["own"] = OWN

SEARCH = "_hypothesis_internal_use_settings"
"""Where hypothesis keeps the settings that a test names itself; they come before the profile's."""

NO_MUTANT, BROKEN = 70, 71
"""Exit codes of a child: the source is the same or no Python; the judges could not be run."""


@dataclass(frozen=True)
class Judged:
    """A module and what judges it.

    Attributes
    ----------
    judges : arguments of pytest, the quickest tests first
    """

    path: str
    judges: tuple[str, ...]

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


@dataclass
class Tally:
    """What became of a module's mutants; each a pair of line and mutated line."""

    killed: int = 0
    endless: list[tuple[str, str]] = field(default_factory=list)
    explained: list[tuple[str, str]] = field(default_factory=list)
    survived: list[tuple[str, str]] = field(default_factory=list)

    @property
    def made(self) -> int:
        return self.killed + len(self.endless) + len(self.explained) + len(self.survived)


class _Mutated(importlib.machinery.SourceFileLoader):
    """Loads a module from a text instead of its file."""

    def __init__(self, name: str, path: str, source: str) -> None:
        super().__init__(name, path)
        self.text = source

    def get_code(self, fullname: str) -> types.CodeType:
        return compile(self.text, self.path, "exec", dont_inherit=True)


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, module: Judged, source: str) -> None:
        path = str(ROOT / module.path)
        self.name, self.loader = module.name, _Mutated(module.name, path, source)

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if fullname != self.name:
            return None
        return importlib.util.spec_from_file_location(
            fullname, self.loader.path, loader=self.loader
        )


class _Source:
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


def _changed(before: str, after: str) -> tuple[str, str]:
    """Return the lines that differ, before and after."""
    lines = [
        line
        for line in difflib.ndiff(before.splitlines(), after.splitlines())
        if line[:2] in ("- ", "+ ")
    ]
    old, new = ([line[2:].strip() for line in lines if line[0] == sign] for sign in "-+")
    return " ".join(old).strip(), re.sub(r"(?<=[(\[=-]) (?=\d)", "", " ".join(new))


def _in_child(work: Callable[[], int], seconds: int) -> int:
    """Fork; end with what ``work`` returns, or by a signal after ``seconds`` of processor time."""
    child = os.fork()
    if child:
        return child
    status = BROKEN
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
        signal.alarm(60 * seconds)  # a deadlock uses no processor time
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        status = work()
    except BaseException:
        (SESSIONS / "broken.txt").write_text(traceback.format_exc(), encoding="utf-8")
    finally:
        os._exit(status)


class _Judges:
    """A pytest plugin: puts tests of a single example before those that search for one.

    Once the tests are collected, ``instead`` takes the place of running them, if it is given.
    """

    def __init__(self, instead: Callable[[pytest.Session], None] | None = None) -> None:
        self.instead = instead

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items.sort(key=lambda item: item.get_closest_marker("hypothesis") is not None)
        for item in items:
            own = getattr(item.obj, SEARCH, None)
            if own is not None:
                setattr(item.obj, SEARCH, settings(own, max_examples=min(25, own.max_examples)))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        if self.instead is None:
            return None
        instead, self.instead = self.instead, None
        instead(session)
        return True


def _pytest(judges: Sequence[str], plugin: _Judges) -> int:
    options = ["-x", "-q", "--tb=no", "--hypothesis-profile=mutants"]
    # pytest cannot rewrite what this process has imported; the others write or collect garbage.
    options += ["--assert=plain", "-p", "no:cacheprovider", "-p", "no:unraisableexception"]
    return int(pytest.main([*options, *judges], plugins=[plugin]))


def _judge_anew(module: Judged, source: _Source, item: WorkItem) -> int:
    """Run the judges on a mutant that this process imports; 0 if they notice nothing."""
    text = source.mutate(item)
    if not text:
        return NO_MUTANT
    sys.meta_path.insert(0, _Finder(module, text))
    return _pytest(module.judges, _Judges())


def _judge_swapped(
    module: Judged,
    source: _Source,
    item: WorkItem,
    function: Sequence[str],
    session: pytest.Session,
) -> int:
    """Run the collected judges on a mutant whose code takes the place of the imported one."""
    text = source.mutate(item)
    if not text:
        return NO_MUTANT
    _swap(module, function, text)
    with contextlib.suppress(session.Failed, session.Interrupted):
        session.config.hook.pytest_runtestloop(session=session)
    return int(session.testsfailed > 0)


def _swap(module: Judged, function: Sequence[str], text: str) -> None:
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


def _prepare(module: Judged) -> int:
    """Import what the judges need and what is not ours; return the processor time of one run, s.

    Raises
    ------
    click.ClickException
        If the judges fail without a mutant.
    """
    needed = SESSIONS / "needed.txt"

    def run() -> int:
        status = _pytest(module.judges, _Judges())
        needed.write_text("\n".join(_foreign()), encoding="utf-8")
        return status

    _, status, usage = os.wait4(_in_child(run, 600), 0)
    if status:
        raise click.ClickException(
            f"{module.path}: its judges fail without a mutant (exit status {status >> 8}); "
            f"run pytest --hypothesis-profile=mutants {' '.join(module.judges)}"
        )
    for name in needed.read_text(encoding="utf-8").split():
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    return int(usage.ru_utime + usage.ru_stime)


def _foreign() -> Iterator[str]:
    """Yield the imported modules that stand outside the tree."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None) or ""
        outside = not file.startswith(str(ROOT)) or "site-packages" in file
        if outside and name.partition(".")[0] not in ("dsr_deploy", "__main__", "mutants"):
            yield name


def _run(module: Judged, items: Sequence[WorkItem], jobs: int) -> None:
    """Judge ``items``, ``jobs`` at a time, and write the outcomes to the session."""
    source = _Source(module.source)
    seconds = 20 + 8 * _prepare(module)
    functions = _functions(source.text)
    found = {item.job_id: functions.get(item.mutations[0].start_pos[0]) for item in items}

    def judge_all(session: pytest.Session | None) -> None:
        gc.collect()
        gc.freeze()  # or each child would go through all of it
        work: dict[str, Callable[[], int]] = {}
        for item in items:
            function = found[item.job_id]
            if session is None and function is None:
                work[item.job_id] = functools.partial(_judge_anew, module, source, item)
            elif session is not None and function is not None:
                work[item.job_id] = functools.partial(
                    _judge_swapped, module, source, item, function, session
                )
        _fork_all(
            module, source, [(i, work[i.job_id]) for i in items if i.job_id in work], seconds, jobs
        )

    judge_all(None)
    child = _in_child(lambda: _pytest(module.judges, _Judges(judge_all)), 1_000_000)
    if os.waitpid(child, 0)[1]:
        raise click.ClickException(f"{module.path}: {SESSIONS / 'broken.txt'} says what failed")


def _fork_all(
    module: Judged,
    source: _Source,
    work: Iterable[tuple[WorkItem, Callable[[], int]]],
    seconds: int,
    jobs: int,
) -> None:
    """Fork for each piece of work and write how it ended to the session."""
    waiting = list(work)
    running: dict[int, WorkItem] = {}
    with use_db(str(module.session)) as database:
        while waiting or running:
            while waiting and len(running) < jobs:
                item, judge = waiting.pop()
                running[_in_child(judge, seconds)] = item
            child, status = os.wait()
            item = running.pop(child)
            code = os.waitstatus_to_exitcode(status)
            if code == BROKEN:
                raise RuntimeError(f"{item} failed outside its tests")
            endless = code in (-signal.SIGXCPU, -signal.SIGKILL, -signal.SIGALRM)
            changed = ""
            if endless or not code:
                changed = "\n".join(_changed(source.text, _Source(source.text).mutate(item)))
            worker = WorkerOutcome.SKIPPED if code == NO_MUTANT else WorkerOutcome.NORMAL
            outcome = TestOutcome.KILLED if code else TestOutcome.SURVIVED
            result = WorkResult(worker, "endless" if endless else "", outcome, changed)
            database.set_result(item.job_id, result)


def _functions(source: str) -> dict[int, tuple[str, ...]]:
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


def _begin(module: Judged, database: WorkDB, operators: re.Pattern[str]) -> None:
    """Write every mutant of the operators in use to the session."""
    init([ROOT / module.path], database, {})
    skipped = [
        item.job_id
        for item in database.work_items
        if not operators.fullmatch(item.mutations[0].operator_name)
    ]
    database.set_multiple_results(skipped, WorkResult(WorkerOutcome.SKIPPED))


def _survivors(database: WorkDB) -> list[WorkItem]:
    return [
        item
        for item, result in database.completed_work_items
        if result.test_outcome == TestOutcome.SURVIVED
    ]


def _place(item: WorkItem) -> tuple[tuple[int, int], str, int]:
    mutation = item.mutations[0]
    return mutation.start_pos, mutation.operator_name, mutation.occurrence


def _tally(database: WorkDB, explained: set[tuple[str, str]]) -> Tally:
    tally = Tally()
    for _, result in sorted(database.completed_work_items, key=lambda pair: pair[0].job_id):
        if result.worker_outcome == WorkerOutcome.SKIPPED:
            continue
        pair: Any = tuple((result.diff or "\n").split("\n", 1))
        if result.output == "endless":
            tally.endless.append(pair)
        elif result.test_outcome != TestOutcome.SURVIVED:
            tally.killed += 1
        else:
            (tally.explained if pair in explained else tally.survived).append(pair)
    return tally


def _settings() -> tuple[list[Judged], re.Pattern[str], dict[str, set[tuple[str, str]]]]:
    chosen = tomllib.loads((HERE / "settings.toml").read_text(encoding="utf-8"))
    modules = [Judged(path, tuple(judges)) for path, judges in chosen["judges"].items()]
    found = tomllib.loads((HERE / "equivalent.toml").read_text(encoding="utf-8"))
    explained = {
        path: {(m, n) for group in groups for m, n in group["mutants"]}
        for path, groups in found.items()
    }
    return modules, re.compile("|".join(chosen["operators"])), explained


@click.command()
@click.argument("paths", nargs=-1)
@click.option("--jobs", default=os.cpu_count() or 1, help="Mutants at a time.")
@click.option("--sample", type=int, help="A random part of each module's mutants, always the same.")
@click.option("--again", is_flag=True, help="Only what survived the last time.")
@click.option("--go-on", is_flag=True, help="Only what an interrupted run left.")
def main(paths: tuple[str, ...], jobs: int, sample: int | None, again: bool, go_on: bool) -> None:
    """Make mutants of the modules PATHS (all in settings.toml) and let their tests judge them."""
    os.chdir(ROOT)
    SESSIONS.mkdir(parents=True, exist_ok=True)
    modules, operators, explained = _settings()
    unknown = set(paths) - {module.path for module in modules}
    if unknown:
        raise click.ClickException(f"{', '.join(sorted(unknown))}: no judges in settings.toml")
    total: Counter[str] = Counter()
    for module in modules:
        if paths and module.path not in paths:
            continue
        begun = time.process_time() + sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
        with use_db(str(module.session)) as database:
            if not (again or go_on):
                _begin(module, database, operators)
            todo = _survivors(database) if again else list(database.pending_work_items)
        todo.sort(key=_place)
        if sample:
            todo = random.Random(0).sample(todo, min(sample, len(todo)))
        _run(module, todo, jobs)
        with use_db(str(module.session)) as database:
            tally = _tally(database, explained.get(module.path, set()))
        spent = time.process_time() + sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - begun
        _report(module, tally, spent)
        total.update(
            made=tally.made,
            killed=tally.killed + len(tally.endless),
            survived=len(tally.survived),
            explained=len(tally.explained),
        )
    share = total["killed"] / max(1, total["made"])
    click.echo(
        f"in all: {total['made']} mutants, {total['killed']} killed ({share:.1%}), "
        f"{total['explained']} change nothing, {total['survived']} unexplained"
    )
    sys.exit(total["survived"] > 0 or share < 0.95)


def _report(module: Judged, tally: Tally, spent: float) -> None:
    for before, after in sorted(set(tally.survived)):
        click.echo(f"  survived: {before}\n         as: {after}")
    for before, after in sorted(set(tally.endless)):
        click.echo(f"  endless: {before}\n       as: {after}")
    made = max(1, tally.made)
    click.echo(
        f"{module.path}: {tally.made} mutants, {tally.killed + len(tally.endless)} killed "
        f"({1 - (len(tally.explained) + len(tally.survived)) / made:.1%}), "
        f"{len(tally.endless)} of them endless, {len(tally.explained)} change nothing, "
        f"{len(tally.survived)} unexplained; {spent:.0f} s of processor time"
    )


if __name__ == "__main__":
    main()
