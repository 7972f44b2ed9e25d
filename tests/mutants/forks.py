"""A process per mutant, forked from one that has imported and collected what it needs."""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import click
import pytest
from cosmic_ray.work_db import use_db
from cosmic_ray.work_item import TestOutcome, WorkerOutcome, WorkItem, WorkResult
from hypothesis import settings

from mutants.source import (
    ROOT,
    SESSIONS,
    Finder,
    Judged,
    Source,
    changed_lines,
    function_lines,
    swap,
)

SEARCH = "_hypothesis_internal_use_settings"
"""Where hypothesis keeps the settings that a test names itself; they come before the profile's."""

NO_MUTANT, BROKEN = 70, 71
"""Exit codes of a child: the source is the same or no Python; the judges could not be run."""


def judge_all(module: Judged, items: Sequence[WorkItem], jobs: int) -> None:
    """Judge ``items``, ``jobs`` at a time, and write the outcomes to the session."""
    source = Source(module.source)
    seconds = 20 + 8 * _prepare(module)
    functions = function_lines(source.text)
    found = {item.job_id: functions.get(item.mutations[0].start_pos[0]) for item in items}

    def fork(session: pytest.Session | None) -> None:
        if session is not None:
            _warm_up(module, session, seconds)
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

    fork(None)
    child = _in_child(lambda: _pytest(module.judges, _Judges(fork)), 1_000_000)
    if os.waitpid(child, 0)[1]:
        raise click.ClickException(f"{module.path}: {SESSIONS / 'broken.txt'} says what failed")


def _warm_up(module: Judged, session: pytest.Session, seconds: int) -> None:
    """Run the judges here, so that no child must load compiled code, and in a child as it is."""

    def run() -> int:
        session.config.hook.pytest_runtestloop(session=session)
        return session.testsfailed

    run()
    _, status = os.waitpid(_in_child(run, seconds), 0)
    if status:
        raise RuntimeError(f"{module.path}: its judges fail in a child without a mutant")


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


def _fork_all(
    module: Judged,
    source: Source,
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
                changed = "\n".join(changed_lines(source.text, Source(source.text).mutate(item)))
            worker = WorkerOutcome.SKIPPED if code == NO_MUTANT else WorkerOutcome.NORMAL
            outcome = TestOutcome.KILLED if code else TestOutcome.SURVIVED
            result = WorkResult(worker, "endless" if endless else "", outcome, changed)
            database.set_result(item.job_id, result)


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


def _judge_anew(module: Judged, source: Source, item: WorkItem) -> int:
    """Run the judges on a mutant that this process imports; 0 if they notice nothing."""
    text = source.mutate(item)
    if not text:
        return NO_MUTANT
    sys.meta_path.insert(0, Finder(module, text))
    return _pytest(module.judges, _Judges())


def _judge_swapped(
    module: Judged,
    source: Source,
    item: WorkItem,
    function: Sequence[str],
    session: pytest.Session,
) -> int:
    """Run the collected judges on a mutant whose code takes the place of the imported one."""
    text = source.mutate(item)
    if not text:
        return NO_MUTANT
    try:
        swap(module, function, text)
    except Exception:
        return 1  # it cannot be imported
    with contextlib.suppress(session.Failed, session.Interrupted):
        session.config.hook.pytest_runtestloop(session=session)
    return int(session.testsfailed > 0)


def _pytest(judges: Sequence[str], plugin: _Judges) -> int:
    options = ["-x", "-q", "--tb=no", "--hypothesis-profile=mutants"]
    # pytest cannot rewrite what this process has imported; the others write or collect garbage.
    options += ["--assert=plain", "-p", "no:cacheprovider", "-p", "no:unraisableexception"]
    return int(pytest.main([*options, *judges], plugins=[plugin]))


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
