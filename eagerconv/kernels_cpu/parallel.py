"""Parallel regions on Numba's threads, for systems without GNU OpenMP: every thread gets an equal, contiguous share of tasks.

It is the only `prange`: Numba fuses adjacent parallel loops and drops the barrier between them, so there are none.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import llvmlite.ir as ir
import numba
from numba import types
from numba.extending import intrinsic

from eagerconv.kernels_cpu import cache
from eagerconv.kernels_cpu.jit import Kernel

_INDEX = ir.IntType(64)


@intrinsic
def _call(
    typingctx: Any, address: Any, first: Any, last: Any, thread: Any, x: Any, w: Any, y: Any, work: Any, g: Any
) -> Any:
    """Call the kernel at `address`."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = ir.IntType(8).as_pointer()
        kernel_type = ir.FunctionType(ir.VoidType(), [_INDEX] * 3 + [pointer] * 5)
        kernel = builder.inttoptr(args[0], kernel_type.as_pointer())
        builder.call(kernel, [*args[1:4], *(builder.inttoptr(address, pointer) for address in args[4:])])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 9), codegen


def _run(address: int, threads: int, first: int, tasks: int, x: int, w: int, y: int, work: int, g: int) -> None:
    for thread in numba.prange(threads):
        start, end = first + tasks * thread // threads, first + tasks * (thread + 1) // threads
        _call(address, start, end, thread, x, w, y, work, g)


def _compiled() -> Callable[..., None]:
    """The loop, from Numba's cache, which lies in our folder: the places that Numba would choose nobody has looked at."""
    compile_with = partial(numba.njit, types.void(*[types.int64] * 9), parallel=True, nogil=True)
    folder, chosen = cache.directory(), numba.config.CACHE_DIR
    if folder is not None:
        numba.config.CACHE_DIR = str(folder)
        try:
            return compile_with(cache=True)(_run)  # type: ignore[no-any-return]
        except Exception:  # whatever is wrong on disk costs a compilation, no more
            pass
        finally:
            numba.config.CACHE_DIR = chosen
    return compile_with()(_run)  # type: ignore[no-any-return]


_loop = _compiled()


def run(kernel: Kernel, threads: int, tasks: range, x: Any, w: Any, y: Any, work: int, g: int) -> None:
    """Do the tasks of one kernel on the three arrays."""
    address, operands = kernel.entry(x, w, y)
    _loop(address, threads, tasks.start, len(tasks), *operands, work, g)
