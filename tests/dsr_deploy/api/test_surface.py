"""What ``import dsr_deploy`` offers, and what it costs."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys

import pytest

import dsr_deploy as dd


def test_the_import_takes_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "import dsr_deploy as dd\n"
        "names = dir(dd), dd.__version__\n"
        "heavy = {'torch', 'numpy', 'numba', 'matplotlib', 'rich'} & set(sys.modules)\n"
        "own = {n for n in sys.modules if n.startswith('dsr_deploy.')} - {'dsr_deploy.version'}\n"
        "sys.exit(str((heavy, own)) if heavy or own else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", dd.__all__)
def test_every_name_is_there_and_says_what_it_is(name: str) -> None:
    value = getattr(dd, name)
    assert value.__doc__
    assert not value.__doc__.startswith(f"{name}(")
    assert inspect.isfunction(value) or inspect.isclass(value)
    assert name in dir(dd)


def test_a_module_of_the_name_of_a_function_does_not_hide_it() -> None:
    for name in ("train", "quantize", "export", "simulate", "verify", "report"):
        module = importlib.import_module(f"dsr_deploy.stages.{name}")
        assert inspect.ismodule(module)
        assert inspect.isfunction(getattr(dd, name))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"^module 'dsr_deploy' has no attribute 'trane'$"):
        dd.trane  # type: ignore[attr-defined]  # noqa: B018
