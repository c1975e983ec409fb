"""Finds the native object of a kernel on disk, or has it compiled and kept there, and makes it callable.

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
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from eagerconv.interrupts import once, uninterrupted
from eagerconv.kernels_cpu.cache import file_name, read_object, turn, write_object
from eagerconv.kernels_cpu.compiler import DATA, compiled
from eagerconv.kernels_cpu.notices import quiet, say
from eagerconv.kernels_cpu.targets import target_machine

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
    file = file_name(function, dtype)
    if cached := read_object(file):
        return Kernel(name, cached)
    with _notice(function, dtype), turn(file):
        if cached := read_object(file):  # of the process that was waited for
            return Kernel(name, cached)
        native_object = compiled(name, function, dtype)
        write_object(file, native_object)
    compiled_here.append(name)
    return Kernel(name, native_object)


@contextmanager
def _notice(function: str, dtype: np.dtype[Any]) -> Iterator[None]:
    """Say once, on stderr, why the user waits, if it takes long; EAGERCONV_QUIET=1 keeps it silent."""

    def tell() -> None:
        global noticed
        noticed = True
        module, _, name = function.partition(":")
        say(f"compiling {module} ({name}, {dtype.name}) and perhaps more for this processor, once; "
            "ec.warmup() does all at once")  # fmt: skip

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
