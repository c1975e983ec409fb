"""Parallel regions straight from GNU OpenMP, where the system has it: a process with parallel work need not import Numba.

Numba's own threading layer on Linux is the same library, reached through half a second of imports. The region's body is a
few instructions of LLVM IR: every thread of the team takes runs of tasks from a common counter and calls the kernel with
them, until none are left. A run is half a thread's share of what is left, one task at least: long ones first, whose tasks are
neighbours in memory, and short ones in the end, so that threads finish together although tasks differ or a core is disturbed.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import llvmlite.binding as llvm

from eagerconv.kernels_cpu.jit import Kernel
from eagerconv.kernels_cpu.targets import target_machine

# GNU OpenMP reads this when it is loaded. Its threads spin for milliseconds at a barrier; where another process holds a core,
# that made two threads ten times slower than one. So many turns, some tens of microseconds, bridge the gap to the next region
# and no more.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")

# The team may be smaller than asked for (OMP_THREAD_LIMIT), so the shares come from the number of threads there are. What is
# left when a thread looks may be less when it takes: the run is too long then, and cut where the tasks end.
_BODY = """
define void @body(ptr %region) {{
  %num_threads = inttoptr i64 {num_threads} to ptr
  %thread_num = inttoptr i64 {thread_num} to ptr
  %n.32 = call i32 %num_threads()
  %t.32 = call i32 %thread_num()
  %n = sext i32 %n.32 to i64
  %t = sext i32 %t.32 to i64
  {loads}
  %next.at = getelementptr i64, ptr %region, i64 {next}
  %shares = mul i64 %n, 2
  br label %ask
ask:
  %taken = load atomic i64, ptr %next.at monotonic, align 8
  %left = sub i64 %tasks, %taken
  %some = sdiv i64 %left, %shares
  %few = icmp slt i64 %some, 1
  %count = select i1 %few, i64 1, i64 %some
  %begin = atomicrmw add ptr %next.at, i64 %count monotonic
  %over = icmp sge i64 %begin, %tasks
  br i1 %over, label %done, label %work_on
work_on:
  %begin.next = add i64 %begin, %count
  %short = icmp slt i64 %begin.next, %tasks
  %stop = select i1 %short, i64 %begin.next, i64 %tasks
  %start = add i64 %first, %begin
  %end = add i64 %first, %stop
  %kernel.ptr = inttoptr i64 %kernel to ptr
  call void %kernel.ptr(i64 %start, i64 %end, i64 %t, i64 %x, i64 %w, i64 %y, i64 %work, i64 %g)
  br label %ask
done:
  ret void
}}
"""
_FIELDS = ("kernel", "first", "tasks", "x", "w", "y", "work", "g")
_Region = ctypes.c_ssize_t * (len(_FIELDS) + 1)


@cache
def region() -> Callable[..., None] | None:
    """run(kernel, threads, tasks, x, w, y, work, g) for arrays x, w and y; None where there is no GNU OpenMP.

    NUMBA_THREADING_LAYER asks for Numba's layers if it names another one.
    """
    if not sys.platform.startswith("linux") or os.environ.get("NUMBA_THREADING_LAYER", "omp") not in ("omp", "default"):
        return None
    try:
        library = ctypes.CDLL("libgomp.so.1")
        parallel, most = library.GOMP_parallel, library.omp_get_max_threads
        numbers = {
            field: ctypes.cast(getattr(library, f"omp_get_{field}"), ctypes.c_void_p).value
            for field in ("num_threads", "thread_num")
        }
    except (OSError, AttributeError):
        return None
    loads = "\n  ".join(
        f"%{field}.at = getelementptr i64, ptr %region, i64 {i}\n  %{field} = load i64, ptr %{field}.at"
        for i, field in enumerate(_FIELDS)
    )
    engine = llvm.create_mcjit_compiler(
        llvm.parse_assembly(_BODY.format(loads=loads, next=len(_FIELDS), **numbers)), target_machine()
    )
    engine.finalize_object()
    body = ctypes.c_void_p(engine.get_function_address("body"))
    parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    parallel.restype = None

    def run(
        kernel: Kernel, threads: int, tasks: range, x: Any, w: Any, y: Any, work: int, g: int, *, engine: Any = engine
    ) -> None:
        address, operands = kernel.entry(x, w, y)
        fields = _Region(address, tasks.start, len(tasks), *operands, work, g, 0)
        parallel(body, fields, min(threads, most()), 0)

    return run
