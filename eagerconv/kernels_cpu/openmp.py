"""Parallel regions straight from GNU OpenMP, where the system has it: a process with parallel work need not import Numba.

Numba's own threading layer on Linux is the same library, reached through half a second of imports.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Callable
from typing import Any

from eagerconv.interrupts import once, uninterrupted
from eagerconv.kernels_cpu.jit import Kernel
from eagerconv.kernels_cpu.region import described, native

_LIBRARY = "libgomp.so.1"

# The team may be smaller than asked for (OMP_THREAD_LIMIT), so the shares come from the number of threads there are.
_BODY = """
define void @openmp(ptr %region) {{
  %num_threads = inttoptr i64 {num_threads} to ptr
  %thread_num = inttoptr i64 {thread_num} to ptr
  %threads.32 = call i32 %num_threads()
  %thread.32 = call i32 %thread_num()
  %threads = sext i32 %threads.32 to i64
  %thread = sext i32 %thread.32 to i64
  call void @share(ptr %region, i64 %threads, i64 %thread)
  ret void
}}
"""


@once
def region() -> Callable[..., None] | None:
    """run(kernel, threads, tasks, x, w, y, work, g) for arrays x, w and y; None where there is no GNU OpenMP.

    NUMBA_THREADING_LAYER asks for Numba's layers if it names another one.
    """
    if not sys.platform.startswith("linux") or os.environ.get("NUMBA_THREADING_LAYER", "omp") not in ("omp", "default"):
        return None
    # GNU OpenMP reads this when it is loaded. Its threads spin for milliseconds at a barrier; where another process holds a
    # core, that made two threads ten times slower than one. So many turns, some tens of microseconds, bridge the gap to the
    # next region and no more.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    try:
        library = ctypes.CDLL(_LIBRARY)
        parallel, most = library.GOMP_parallel, library.omp_get_max_threads
        numbers = {
            field: ctypes.cast(getattr(library, f"omp_get_{field}"), ctypes.c_void_p).value
            for field in ("num_threads", "thread_num")
        }
    except (OSError, AttributeError):
        return None
    body = ctypes.c_void_p(native("openmp", _BODY.format(**numbers)))
    parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    parallel.restype = None

    def run(kernel: Kernel, threads: int, tasks: range, x: Any, w: Any, y: Any, work: int, g: int) -> None:
        parallel(body, described(kernel, threads, tasks, x, w, y, work, g), min(threads, most()), 0)

    return run


def loaded() -> bool:
    """Whether anyone in this process has loaded GNU OpenMP, and so may have started a team: it does not tell."""
    try:
        ctypes.CDLL(_LIBRARY, mode=os.RTLD_NOLOAD)
    except OSError:
        return False
    return True


@uninterrupted
def startable(threads: int) -> bool:
    """Whether the system can start a team now, tried with threads that do nothing; GNU OpenMP ends the process if it cannot.

    The thread that tries is one more than the team needs: the system may count a thread for a moment after its end.
    """
    if not sys.platform.startswith("linux"):
        return True
    system = ctypes.CDLL(None)
    attributes, gate, thread = ((ctypes.c_long * 16)() for _ in range(3))  # opaque, and smaller than that
    system.pthread_attr_init(attributes)
    if stack := _stack():
        system.pthread_attr_setstacksize(attributes, ctypes.c_size_t(stack))
    system.sem_init(gate, 0, 0)
    started: list[int] = []
    while len(started) < threads - 1 and not system.pthread_create(thread, attributes, system.sem_wait, gate):
        started.append(thread[0])
    for _ in started:
        system.sem_post(gate)
    for ended in started:
        system.pthread_join(ctypes.c_ulong(ended), None)
    return len(started) == threads - 1


def _stack() -> int:
    """Bytes of stack that GNU OpenMP gives to a thread; 0 if that is the system's business."""
    said = os.environ.get("OMP_STACKSIZE") or os.environ.get("GOMP_STACKSIZE") or ""
    if not (found := re.fullmatch(r"\s*(\d+)\s*([BKMG]?)\s*", said, re.IGNORECASE)):
        return 0
    return int(found[1]) << {"B": 0, "M": 20, "G": 30}.get(found[2].upper(), 10)
