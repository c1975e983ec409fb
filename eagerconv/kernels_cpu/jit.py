"""Compiles kernels with Numba to native objects, and keeps the objects on disk so that the next process compiles nothing.

A kernel is a plain Python function with the fixed signature

    kernel(first, last, thread, x, w, y, work, g)

that does the independent tasks `first <= task < last` of one contraction. `x`, `w`, `y` point to the first elements of the
three arrays of the trilinear form, `work` to the launch's workspace, of which `thread` tells whose part to use (all four
count in elements of the compiled dtype), and `g` to an int64 table of geometry (table.py).

Numba turns the function into LLVM IR; llvmlite alone turns the IR into an object file and loads it. So a warm process never
imports Numba for its serial calls, and nothing depends on Numba's own cache (whose key misses changes in other files and
which fails where the sources lie in a read-only folder).
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm
import numpy as np

from eagerconv.interrupts import once, uninterrupted
from eagerconv.kernels_cpu.compiler import DATA, compiled
from eagerconv.kernels_cpu.targets import host, target_machine

_ENTRY = ctypes.CFUNCTYPE(None, *[ctypes.c_ssize_t] * 8)
_ARRAY_ENTRY = ctypes.CFUNCTYPE(None, *[ctypes.c_ssize_t] * 3, *[ctypes.py_object] * 3, *[ctypes.c_ssize_t] * 2)
_loaded: dict[tuple[str, str], Kernel] = {}
noticed = False
"""Whether the user knows that kernels are being compiled."""

PATIENCE = 0.8
"""Seconds of compilation before a notice tells why."""

compiled_here: list[str] = []
"""Names of the kernels that this process compiled because no cached object fitted (tests and notices read it)."""


@once
def engine() -> Any:
    """What owns all machine code of this process. It lives as long: no kernel can outlive its code, and to make one engine for
    each takes five times longer than to load a kernel.
    """
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), target_machine())


class Kernel:
    """One kernel compiled for one dtype: its native address, and direct calls that release the GIL.

    `call` takes the addresses of x, w and y, `call_arrays` the NumPy arrays themselves.
    """

    __slots__ = ("address", "array_address", "call", "call_arrays", "name")

    def __init__(self, name: str, native_object: bytes) -> None:
        self.name = name
        engine().add_object_file(llvm.ObjectFileRef.from_data(native_object))
        engine().finalize_object()
        self.address: int = engine().get_function_address(name)
        self.array_address: int = 0
        self.call: Callable[..., None] = _ENTRY(self.address)
        self.call_arrays: Callable[..., None] = self._call_by_address
        if _arrays_hold_their_address_first():
            self.array_address = engine().get_function_address(f"{name}.arrays")
            self.call_arrays = _ARRAY_ENTRY(self.array_address)

    def _call_by_address(self, first: int, last: int, thread: int, x: Any, w: Any, y: Any, work: int, g: int) -> None:
        self.call(first, last, thread, x.ctypes.data, w.ctypes.data, y.ctypes.data, work, g)

    def entry(self, x: Any, w: Any, y: Any) -> tuple[int, tuple[int, int, int]]:
        """The address of native code, and what it takes for these arrays, which the caller must keep alive."""
        if self.array_address:
            return self.array_address, (id(x), id(w), id(y))
        return self.address, (x.ctypes.data, w.ctypes.data, y.ctypes.data)


@cache
def _arrays_hold_their_address_first() -> bool:
    """Whether `call_arrays` may read addresses itself, tried on an array."""
    probe = np.zeros(3)
    if sys.implementation.name != "cpython":
        return False
    return ctypes.c_void_p.from_address(id(probe) + DATA).value == probe.ctypes.data


def kernel(function: str, dtype: np.dtype[Any]) -> Kernel:
    """The compiled kernel `"module:function"` of this package for elements of `dtype`: from memory, disk, or Numba."""
    return _loaded.get((function, dtype.name)) or _load(function, dtype)


@uninterrupted
def _load(function: str, dtype: np.dtype[Any]) -> Kernel:
    key = (function, dtype.name)
    if key not in _loaded:  # or another thread was first
        _loaded[key] = _found(":".join(key), function, dtype)
    return _loaded[key]


def _found(name: str, function: str, dtype: np.dtype[Any]) -> Kernel:
    folder = cache_directory()
    path = folder / _file_name(function, dtype) if folder else None
    if path is not None and (cached := _read_verified(path)):
        return Kernel(name, cached)
    with _notice(function, dtype):
        native_object = compiled(name, function, dtype)
    compiled_here.append(name)
    if path is not None:
        _write_atomically(path, native_object)
    return Kernel(name, native_object)


def _file_name(function: str, dtype: np.dtype[Any]) -> str:
    """One name for each kernel: identifiers hold neither of the separators, so no two can collide."""
    module, _, attribute = function.partition(":")
    if not (module.isidentifier() and attribute.isidentifier()):
        raise ValueError(f"a kernel is named 'module:function', both identifiers, not {function!r}")
    return f"{module}-{attribute}-{dtype.name}-{_stamp(module)[:32]}.o"


def quiet() -> bool:
    """Whether notices are silenced."""
    return os.environ.get("EAGERCONV_QUIET", "0") not in ("", "0")


@contextmanager
def _notice(function: str, dtype: np.dtype[Any]) -> Iterator[None]:
    """Say once, on stderr, why the user waits, if it takes long; EAGERCONV_QUIET=1 keeps it silent."""

    def tell() -> None:
        global noticed
        noticed = True
        module, _, name = function.partition(":")
        print(f"eagerconv: compiling {module} ({name}, {dtype.name}) and perhaps more for this processor, once; "
              "ec.warmup() does all at once, EAGERCONV_QUIET=1 silences this", file=sys.stderr, flush=True)  # fmt: skip

    if noticed or quiet():
        yield
        return
    timer = threading.Timer(PATIENCE, tell)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


# ---------------------------------------------------------------------------------------------------------------- cache


@cache
def _stamp(module: str) -> str:
    """Hash of all that shapes a module's machine code: its sources, the compilers' versions, the host's features."""
    digest = hashlib.sha256()
    for name, text in sorted((_sources(f"native.{module}") | _sources("compiler")).items()):
        digest.update(name.encode() + b"\0" + text)
    versions = (sys.version, np.__version__, llvmlite.__version__, _numba_version(), platform.machine(), *host())
    digest.update(repr(versions).encode())
    return digest.hexdigest()


def _sources(module: str) -> dict[str, bytes]:
    """The text of a module of this package and of all modules of this package that it imports, or they do."""
    found: dict[str, bytes] = {}
    todo = {module}
    while todo:
        name = todo.pop()
        found[name] = text = _source(name)
        todo |= {part for part in _imports(text) if part not in found}
    return found


@cache
def _source(module: str) -> bytes:
    return Path(__file__).parent.joinpath(*module.split(".")).with_suffix(".py").read_bytes()


@cache
def _imports(text: bytes) -> frozenset[str]:
    """The modules of this package that a source imports, wherever in it: `from <package>.a import x`, or `import a`."""
    package = re.escape(__package__.encode())
    inside = re.findall(rb"^ *from " + package + rb"\.([\w.]+) import ", text, re.MULTILINE)
    itself = re.findall(rb"^ *from " + package + rb" import (\([^)]*\)|.*)", text, re.MULTILINE)
    named = [name for names in itself for name in re.findall(rb"(?<!as )\b(?!as\b)\w+", names)]
    return frozenset(name.decode() for name in (*inside, *named))


def _numba_version() -> str:
    from importlib.metadata import version  # not `import numba`, which takes longer than everything else together

    return version("numba")


@cache
def cache_directory() -> Path | None:
    """The folder of compiled kernels: EAGERCONV_CACHE_DIR, else the user's cache, else a private temporary one.

    None where no folder can be written, or where another user owns it (an object file is code): then every process
    compiles for itself.
    """
    base = os.environ.get("XDG_CACHE_HOME") or (os.environ.get("LOCALAPPDATA") if os.name == "nt" else None)
    chosen = os.environ.get("EAGERCONV_CACHE_DIR")
    user = os.getuid() if hasattr(os, "getuid") else 0
    candidates = [Path(chosen)] if chosen else []
    candidates += [
        Path(base or "~/.cache").expanduser() / "eagerconv",
        Path(tempfile.gettempdir()) / f"eagerconv-{user}",
    ]
    for folder in candidates:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
            if user in (0, folder.stat().st_uid):
                return folder
        except (OSError, RuntimeError):  # RuntimeError: there is no home folder to expand
            continue
    return None


def _read_verified(path: Path) -> bytes | None:
    """The cached object, or None if it is absent or not what was written (a damaged object could crash the process)."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    digest, native_object = data[:32], data[32:]
    return native_object if hashlib.sha256(native_object).digest() == digest else None


def _write_atomically(path: Path, native_object: bytes) -> None:
    """Never let another process see half an object; a full or vanished disk only costs a later compilation."""
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(hashlib.sha256(native_object).digest() + native_object)
        os.replace(temporary, path)
    except OSError:
        pass
