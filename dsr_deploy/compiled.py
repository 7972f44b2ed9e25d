"""Functions compiled by numba, whose machine code is kept on disk where there is a place for it.

The one module that ``models`` and ``hardware`` share. It imports nothing of the package.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from numba import njit
from numba.core.caching import FunctionCache, IndexDataCacheFile

Function = TypeVar("Function", bound=Callable[..., Any])

_DIGEST_BYTES: Final = 32


def compiled(**options: Any) -> Callable[[Function], Function]:
    """Compile a function as ``njit(**options, cache=True)`` does, wherever it may run.

    numba itself refuses where neither the installation nor the user's cache can be written, and
    fails on a damaged file of its cache or a full disk. Here the function is then compiled anew.
    """

    def decorate(function: Function) -> Function:
        kernel: Any = njit(**options)(function)
        if hasattr(kernel, "enable_caching"):  # else numba is switched off
            with contextlib.suppress(RuntimeError):  # no folder for the cache can be written
                kernel._cache = _Cache(function)
        made: Function = kernel
        return made

    return decorate


def is_compiled(function: Callable[..., Any]) -> bool:
    """Return whether ``function``, made by :func:`compiled`, was compiled before.

    That is for any types of its arguments; where there is no cache, only in this process counts.
    """
    kernel: Any = function
    if getattr(kernel, "signatures", None) or not hasattr(kernel, "enable_caching"):
        return True
    return isinstance(kernel._cache, _Cache) and kernel._cache.has_content()


class _Cache(FunctionCache):
    """numba's cache, without which it goes on."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        own = self._cache_file
        stamps = (own._source_stamp, *_stamps(Path(function.__code__.co_filename)))
        self._cache_file = _CheckedFiles(own._cache_path, self._impl.filename_base, stamps)

    def has_content(self) -> bool:
        """Return whether anything is kept of the function as it is now."""
        try:
            return bool(self._cache_file._load_index())
        except Exception:  # see load_overload
            return False

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return what was compiled before, or None."""
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # pickle raises almost anything on damaged files
            with contextlib.suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep what was compiled, if that is possible."""
        with contextlib.suppress(OSError):
            super().save_overload(sig, data)


def _stamps(file: Path) -> list[tuple[str, float, int]]:
    """Return names, times and sizes of the modules beside ``file``.

    numba compiles a function anew when its own module has changed. Those that it calls may stand in
    a neighbour.
    """
    modules = sorted(file.parent.glob("*.py"))
    return [(module.name, module.stat().st_mtime, module.stat().st_size) for module in modules]


class _CheckedFiles(IndexDataCacheFile):
    """Files with their SHA-256 at their end: changed machine code may do anything."""

    def _dump(self, obj: Any) -> bytes:
        data: bytes = super()._dump(obj)
        return data + hashlib.sha256(data).digest()

    def _load_data(self, name: str) -> Any:
        data = Path(self._data_path(name)).read_bytes()
        whole, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
        if hashlib.sha256(whole).digest() != digest:
            raise ValueError(f"{name}: damaged")
        return super()._load_data(name)  # pickle stops before the digest
