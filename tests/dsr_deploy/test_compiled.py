"""numba's cache where it cannot be written, is damaged, or is full."""

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from numba.core.caching import IndexDataCacheFile

from dsr_deploy.compiled import is_compiled

SOURCE = """
from dsr_deploy.compiled import compiled

@compiled()
def twice(x):
    return 2 * x
"""


@pytest.fixture(name="load")
def fixture_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], ModuleType]:
    """Return what imports a module with a compiled function anew, beside a cache of its own."""
    path = tmp_path / "module_with_twice.py"
    path.write_text(SOURCE)

    def load() -> ModuleType:
        spec = importlib.util.spec_from_file_location("module_with_twice", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def _cached(folder: Path, suffix: str) -> list[Path]:
    return sorted((folder / "__pycache__").glob(f"*.{suffix}"))


def _hits(module: ModuleType) -> int:
    return sum(module.twice.stats.cache_hits.values())


def test_what_was_compiled_is_found_again(tmp_path: Path, load: Callable[[], ModuleType]) -> None:
    first = load()
    assert (first.twice(21), _hits(first)) == (42, 0)
    second = load()
    assert (second.twice(21), _hits(second)) == (42, 1)


def test_it_is_known_whether_anything_was_compiled(
    tmp_path: Path, load: Callable[[], ModuleType]
) -> None:
    first = load()
    assert not is_compiled(first.twice)
    first.twice(1)
    assert is_compiled(first.twice)
    assert is_compiled(load().twice)  # by another process
    (index,) = _cached(tmp_path, "nbi")
    index.write_bytes(b"damaged")
    assert not is_compiled(load().twice)


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "other"])
def test_a_damaged_cache_is_made_anew(
    tmp_path: Path, load: Callable[[], ModuleType], suffix: str, damage: str
) -> None:
    load().twice(1)
    (path,) = _cached(tmp_path, suffix)
    whole = path.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    others = {"empty": b"", "cut": whole[:-40], "flipped": flipped, "other": b"no pickle"}
    path.write_bytes(others[damage])
    again = load()
    assert (again.twice(21), _hits(again)) == (42, 0)
    healed = load()
    assert (healed.twice(21), _hits(healed)) == (42, 1)


def test_a_full_disk_behind_the_cache_is_no_error(
    load: Callable[[], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(IndexDataCacheFile, "save", full)
    assert load().twice(21) == 42


def test_without_a_place_for_the_cache_functions_are_compiled_anew(tmp_path: Path) -> None:
    path = tmp_path / "module_with_twice.py"
    path.write_text(SOURCE)
    (tmp_path / "__pycache__").touch()  # no folder can be made in its place, nor below the others
    done = subprocess.run(
        [sys.executable, "-B", "-c", "import module_with_twice as m; print(m.twice(21))"],
        cwd=tmp_path,
        env={"HOME": "/dev/null", "NUMBA_CACHE_DIR": "/dev/null", "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "42\n", "")


def test_without_numba_functions_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "module_with_twice.py").write_text(SOURCE)
    done = subprocess.run(
        [sys.executable, "-c", "import module_with_twice as m; print(m.twice(21), type(m.twice))"],
        cwd=tmp_path,
        env={"NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("42 <class 'function'>\n", "")
