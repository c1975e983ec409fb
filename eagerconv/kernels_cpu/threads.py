"""Runs the tasks of a native kernel on one or several threads, safely from any thread and after a fork.

One rule keeps this safe under every threading layer that Numba may have: a process runs one parallel region at a time, and
a caller that finds it taken runs its tasks serially. So eight Python threads never enter a layer at once (some abort the
process then) and never start eight teams on the same cores. A forked child, where the parent's team did not survive, runs
serially as well, unless it asks for threads: then they are started for each region. Results do not change: tasks are
independent, and each is computed the same way wherever it runs.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from eagerconv.interrupts import imported
from eagerconv.kernels_cpu import openmp, pthreads
from eagerconv.kernels_cpu.jit import Kernel
from eagerconv.kernels_cpu.notices import say
from eagerconv.memory import empty
from eagerconv.record import Plan
from eagerconv.spec import Shape, Slot

_launches: list[object] = []
"""Those that want to run on several threads at this moment: the first of them does."""

_team_started = False
_forked = False
_limit = 0
_proven = 1
"""Threads that the system was seen to start."""

HUGE_PAGE = 1 << 21


class _Local(threading.local):
    def __init__(self) -> None:
        self.workspace = np.empty(0, np.uint8)
        self.address = 0


_local = _Local()


def _after_fork_in_child() -> None:
    global _forked, _limit
    _forked = True
    _launches.clear()  # their threads may not exist here
    team.cache_clear()
    if _team_started:
        _limit = 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def get_num_threads() -> int:
    """How many threads a convolution may use: by default NUMBA_NUM_THREADS, or OMP_NUM_THREADS, or all processors.

    Returns
    -------
    int

    Notes
    -----
    One convolution at a time uses them: one that another Python thread starts meanwhile runs on that thread alone, so that
    processors are not oversubscribed. For a pool of processes set OMP_NUM_THREADS=1, or call `set_num_threads` in each: one
    that was forked after its parent had used them begins with 1. On Linux the threads are those of GNU OpenMP, and
    `threadpoolctl.threadpool_limits` limits them further. Where the system cannot start them, a notice says so, and it is 1.

    Examples
    --------
    >>> import eagerconv as ec
    >>> ec.get_num_threads() >= 1
    True
    """
    global _limit
    if not _limit:
        _limit = available_threads()
    return _limit


def set_num_threads(threads: int) -> None:
    """Set how many threads convolutions of this process may use. Results are the same bits for any number.

    Parameters
    ----------
    threads : int
        At least 1, at most what NUMBA_NUM_THREADS, or else OMP_NUM_THREADS and the processors of this process allow.

    Raises
    ------
    ValueError
        If `threads` is out of range.

    Examples
    --------
    >>> import eagerconv as ec
    >>> before = ec.get_num_threads()
    >>> ec.set_num_threads(1)
    >>> ec.get_num_threads()
    1
    >>> ec.set_num_threads(before)
    """
    global _limit
    most = available_threads()
    if type(threads) is not int or not 1 <= threads <= most:
        raise ValueError(f"threads must be an int from 1 to {most}, got {threads!r}; NUMBA_NUM_THREADS sets the most")
    _limit = threads


def available_threads() -> int:
    """The most threads there can be: NUMBA_NUM_THREADS, or the processors, of which OMP_NUM_THREADS may allow fewer.

    Raises
    ------
    ValueError
        If NUMBA_NUM_THREADS is no number of threads. What OpenMP does not understand it ignores, and so does this.
    """
    if chosen := os.environ.get("NUMBA_NUM_THREADS", "").strip():
        if (threads := _positive(chosen)) is None:
            raise ValueError(
                f"NUMBA_NUM_THREADS must be an int of at least 1, not {chosen!r}; set it to one, or unset it"
            )
        return threads
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    allowed = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]  # "4,2": of the outer regions, the inner ones
    return min(processors, _positive(allowed) or processors)


def _positive(text: str) -> int | None:
    """The number of threads that a variable says, or None if it says none."""
    digits = text.strip().removeprefix("+")
    return int(digits) or None if digits.isascii() and digits.isdigit() and len(digits) < 10 else None


@cache
def team() -> Callable[..., None]:
    """What runs a kernel's tasks on several threads: run(kernel, threads, tasks, x, w, y, work, g).

    It returns when all tasks are done, so that the next stage finds their results.
    """
    if _forked:
        return (None if openmp.loaded() else openmp.region()) or pthreads.region()
    if (run := openmp.region()) is not None:
        return run
    # It imports Numba: only processes that need it pay for it.
    return imported("eagerconv.kernels_cpu.parallel").run  # type: ignore[no-any-return]


def _startable(threads: int) -> int:
    """So many threads, or 1 if the system cannot start them, which is tried before a process first asks for so many."""
    global _proven, _limit
    if threads > _proven:
        if not openmp.startable(threads):
            _limit = 1
            say(f"the system starts no {threads} threads, so convolutions run on one; ask for fewer with OMP_NUM_THREADS, or "
                "raise its limits (ulimit -a)")  # fmt: skip
            return 1
        _proven = threads
    return threads


def worthwhile(threads: int, seconds: float) -> int:
    """How many of `threads` to use for work that takes one of them `seconds`: waking the others must pay."""
    return threads if seconds > 30e-6 else 1


class Launch:
    """Kernels with their table and division of work, ready to run on arrays, one after the other."""

    def __init__(
        self,
        stages: Sequence[tuple[Kernel, range]],
        threads: int,
        work: int,
        table: npt.NDArray[np.int64],
        shared: int = 0,
    ) -> None:
        """`stages` are kernels with the numbers of their tasks; `work` bytes of scratch memory for each of at most `threads`
        threads, and `shared` bytes in front of them, which stages leave to the next ones.
        """
        self.stages = stages
        self.threads = min(threads, max(len(tasks) for _, tasks in stages))
        self.work, self.shared = work, shared
        self._table = table  # owns the memory that the address leads to
        self._table_address: int = table.ctypes.data

    def __call__(self, x: Any, w: Any, y: Any) -> None:
        """Run on the arrays of the three slots; the result must be contiguous."""
        global _team_started
        threads = self.threads
        if threads > 1:
            threads = _startable(min(threads, get_num_threads()))
        work = _workspace(self.shared + self.work * threads)
        if threads == 1:
            for kernel, tasks in self.stages:
                kernel.call_arrays(tasks.start, tasks.stop, 0, x, w, y, work, self._table_address)
            return
        turn = object()
        try:  # an interrupt finds the launch in the list or not, and takes it out: a lock could stay taken
            _launches.append(turn)
            if _launches[0] is turn:
                _team_started = True
                run = team()
                for kernel, tasks in self.stages:
                    run(kernel, min(threads, len(tasks)), tasks, x, w, y, work, self._table_address)
            else:
                for kernel, tasks in self.stages:
                    kernel.call_arrays(tasks.start, tasks.stop, 0, x, w, y, work, self._table_address)
        finally:
            _launches.remove(turn)

    def plan(self, shape: Shape, dtype: np.dtype[Any], slot: Slot = "y") -> Plan:
        """A function of two operands that makes the result, or fills `out`; the kernel expects it in `slot`."""

        def run(a: Any, b: Any, out: Any = None) -> Any:
            result = empty(shape, dtype) if out is None else out
            if slot == "y":  # as `arrange` does, which costs a small convolution too much
                self(a, b, result)
            elif slot == "x":
                self(result, b, a)
            else:
                self(a, result, b)
            return result

        return run


def _workspace(nbytes: int) -> int:
    """Address of this Python thread's scratch memory, aligned to cache lines; it grows to what was needed at most.

    A large one fills huge pages, where the system has them and NumPy asks for them (from 4 MiB on). With small pages it is
    chance which parts of a workspace share the sets of the second-level cache: the same kernel took 2.9 ms in one block of
    memory and 6.8 in another.
    """
    local = _local
    if local.workspace.size < nbytes + 64:
        page = HUGE_PAGE if nbytes >= HUGE_PAGE // 8 else 64
        block = np.empty(-(-(nbytes + 64) // page) * page + page, np.uint8)
        start = -block.ctypes.data % page
        address = block.ctypes.data + start
        # Both at once: interrupted between them, the address would lead into the block before, which is gone.
        local.workspace, local.address = block[start : start + nbytes + 64], address
    return local.address
