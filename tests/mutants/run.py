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

import os
import random
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import tomllib
from cosmic_ray.commands.init import init
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import TestOutcome, WorkerOutcome, WorkItem, WorkResult

from mutants.forks import judge_all
from mutants.source import ROOT, SESSIONS, Judged

HERE = Path(__file__).parent


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

    @property
    def share(self) -> float:
        return (self.killed + len(self.endless)) / max(1, self.made)

    def add(self, other: Tally) -> None:
        self.killed += other.killed
        self.endless += other.endless
        self.explained += other.explained
        self.survived += other.survived

    def row(self) -> str:
        cells = (self.made, self.killed + len(self.endless), f"{self.share:.1%}",
                 len(self.explained), len(self.survived))  # fmt: skip
        return "".join(f"| {cell} " for cell in cells) + "|"

    def __str__(self) -> str:
        return (
            f"{self.made} mutants, {self.killed + len(self.endless)} killed ({self.share:.1%}), "
            f"{len(self.endless)} of them endless; {len(self.explained)} change nothing, "
            f"{len(self.survived)} unexplained"
        )


@click.command()
@click.argument("paths", nargs=-1)
@click.option("--jobs", default=os.cpu_count() or 1, help="Mutants at a time.")
@click.option("--sample", type=int, help="A part of each module's mutants, at random but the same.")
@click.option("--again", is_flag=True, help="Only what survived the last time.")
@click.option("--go-on", is_flag=True, help="Only what an interrupted run left.")
@click.option("--table", is_flag=True, help="None: tabulate the last outcomes for docs/testing.md.")
def main(
    paths: tuple[str, ...], jobs: int, sample: int | None, again: bool, go_on: bool, table: bool
) -> None:
    """Make mutants of the modules PATHS (all in settings.toml) and let their tests judge them."""
    os.chdir(ROOT)
    os.environ.setdefault("NUMBA_THREADING_LAYER", "workqueue")  # a process with OpenMP cannot fork
    SESSIONS.mkdir(parents=True, exist_ok=True)
    modules, operators, explained = _settings()
    unknown = set(paths) - {module.path for module in modules}
    if unknown:
        raise click.ClickException(f"{', '.join(sorted(unknown))}: no judges in settings.toml")
    whole = Tally()
    for module in modules:
        if paths and module.path not in paths:
            continue
        with use_db(str(module.session)) as database:
            if not (again or go_on or table):
                _begin(module, database, operators)
            todo = _survivors(database) if again else list(database.pending_work_items)
        todo.sort(key=_place)
        if sample:
            todo = random.Random(0).sample(todo, min(sample, len(todo)))
        if todo and not table:
            judge_all(module, todo, jobs)
        with use_db(str(module.session)) as database:
            tally = _tally(database, explained.get(module.path, set()))
        if table:
            click.echo(f"| `{module.path}` {tally.row()}")
        else:
            _report(module, tally)
        whole.add(tally)
    click.echo(f"| all {whole.row()}" if table else f"in all: {whole}")
    sys.exit(bool(whole.survived) or whole.share < 0.95)


def _settings() -> tuple[list[Judged], re.Pattern[str], dict[str, set[tuple[str, str]]]]:
    chosen = tomllib.loads((HERE / "settings.toml").read_text(encoding="utf-8"))
    modules = [
        Judged(path, tuple(judges), frozenset(chosen["left_out"].get(path, ())))
        for path, judges in chosen["judges"].items()
    ]
    found = tomllib.loads((HERE / "equivalent.toml").read_text(encoding="utf-8"))
    explained = {
        path: {_bare(*mutant) for group in groups for mutant in group["mutants"]}
        for path, groups in found.items()
    }
    return modules, re.compile("|".join(chosen["operators"])), explained


def _begin(module: Judged, database: WorkDB, operators: re.Pattern[str]) -> None:
    """Write every mutant of the operators in use to the session."""
    init([ROOT / module.path], database, {})
    skipped = [
        item.job_id
        for item in database.work_items
        if not operators.fullmatch(item.mutations[0].operator_name)
        or item.mutations[0].definition_name in module.left_out
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
            known = _bare(*pair) in explained
            (tally.explained if known else tally.survived).append(pair)
    return tally


def _bare(before: str, after: str) -> tuple[str, str]:
    """Return both without blanks, which cosmic-ray strews."""
    return "".join(before.split()), "".join(after.split())


def _report(module: Judged, tally: Tally) -> None:
    for word, pairs in (("survived", tally.survived), ("endless", tally.endless)):
        for before, after in sorted(set(pairs)):
            click.echo(f"  {word}: {before}\n        as: {after}")
    click.echo(f"{module.path}: {tally}")


if __name__ == "__main__":
    main()
