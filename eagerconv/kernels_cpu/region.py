"""What every thread of a parallel region does, whoever started it: take runs of tasks, and call the kernel with them.

It is a few instructions of LLVM IR. The threads take runs from a common counter until none are left. A run is half a
thread's share of what is left, one task at least: long ones first, whose tasks are neighbours in memory, and short ones in
the end, so that threads finish together although tasks differ or a core is disturbed.
"""

from __future__ import annotations

import ctypes
from typing import Any

import llvmlite.binding as llvm

from eagerconv.kernels_cpu.jit import Kernel, engine

# What is left when a thread looks may be less when it takes: the run is too long then, and cut where the tasks end.
_SHARE = """
define internal void @share(ptr %region, i64 %threads, i64 %thread) {{
  {loads}
  %next.at = getelementptr i64, ptr %region, i64 {next}
  %shares = mul i64 %threads, 2
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
  call void %kernel.ptr(i64 %start, i64 %end, i64 %thread, i64 %x, i64 %w, i64 %y, i64 %work, i64 %g)
  br label %ask
done:
  ret void
}}
"""
_FIELDS = ("kernel", "first", "tasks", "x", "w", "y", "work", "g")
COUNTERS = {name: len(_FIELDS) + i for i, name in enumerate(("next", "threads", "thread"))}
"""Where else in a region: the first task that nobody has taken, the size of the team, and the number of its next thread."""
_Region = ctypes.c_ssize_t * (len(_FIELDS) + len(COUNTERS))


def described(kernel: Kernel, threads: int, tasks: range, x: Any, w: Any, y: Any, work: int, g: int) -> Any:
    """A region as its threads find it in memory; the caller keeps it, and the arrays, alive."""
    address, operands = kernel.entry(x, w, y)
    return _Region(address, tasks.start, len(tasks), *operands, work, g, 0, threads, 1)


def native(name: str, ir: str) -> int:
    """The address of function `name` of this IR, which may call `@share(region, threads, thread)`."""
    loads = "\n  ".join(
        f"%{field}.at = getelementptr i64, ptr %region, i64 {i}\n  %{field} = load i64, ptr %{field}.at"
        for i, field in enumerate(_FIELDS)
    )
    engine().add_module(llvm.parse_assembly(_SHARE.format(loads=loads, **COUNTERS) + ir))
    engine().finalize_object()
    address: int = engine().get_function_address(name)
    return address
