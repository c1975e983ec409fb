"""Parallel regions on threads of their own, started for each: for forked children, where no team of a library survived.

GNU OpenMP would wait for the parent's threads for ever, and says so nowhere. Starting threads costs some ten microseconds for
each; those that the system refuses to start are done without.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from eagerconv.interrupts import once
from eagerconv.kernels_cpu.jit import Kernel
from eagerconv.kernels_cpu.region import COUNTERS, described, native

_TEAM = """
define internal ptr @helper(ptr %region) {{
  %threads.at = getelementptr i64, ptr %region, i64 {threads}
  %threads = load i64, ptr %threads.at
  %thread.at = getelementptr i64, ptr %region, i64 {thread}
  %thread = atomicrmw add ptr %thread.at, i64 1 monotonic
  call void @share(ptr %region, i64 %threads, i64 %thread)
  ret ptr null
}}
define void @pthreads(ptr %region) {{
  %create = inttoptr i64 {create} to ptr
  %join = inttoptr i64 {join} to ptr
  %threads.at = getelementptr i64, ptr %region, i64 {threads}
  %threads = load i64, ptr %threads.at
  %ids = alloca i64, i64 %threads
  br label %more
more:
  %i = phi i64 [1, %0], [%i.next, %start]
  %wanted = icmp slt i64 %i, %threads
  br i1 %wanted, label %start, label %work
start:
  %new.at = getelementptr i64, ptr %ids, i64 %i
  %error = call i32 %create(ptr %new.at, ptr null, ptr @helper, ptr %region)
  %started = icmp eq i32 %error, 0
  %i.next = add i64 %i, 1
  br i1 %started, label %more, label %work
work:
  call void @share(ptr %region, i64 %threads, i64 0)
  br label %wait
wait:
  %j = phi i64 [1, %work], [%j.next, %one]
  %running = icmp slt i64 %j, %i
  br i1 %running, label %one, label %done
one:
  %id.at = getelementptr i64, ptr %ids, i64 %j
  %id = load i64, ptr %id.at
  call i32 %join(i64 %id, ptr null)
  %j.next = add i64 %j, 1
  br label %wait
done:
  ret void
}}
"""


@once
def region() -> Callable[..., None]:
    """run(kernel, threads, tasks, x, w, y, work, g) for arrays x, w and y."""
    system = ctypes.CDLL(None)
    create, join = (ctypes.cast(f, ctypes.c_void_p).value for f in (system.pthread_create, system.pthread_join))
    team = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(
        native("pthreads", _TEAM.format(create=create, join=join, **COUNTERS))
    )

    def run(kernel: Kernel, threads: int, tasks: range, x: Any, w: Any, y: Any, work: int, g: int) -> None:
        team(described(kernel, threads, tasks, x, w, y, work, g))

    return run
