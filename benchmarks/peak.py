"""The limit of the machine: products per second of a loop that does nothing but multiply and add vectors in registers."""

from __future__ import annotations

import time
from functools import cache
from typing import Any

import numba
from numba import types
from numba.extending import intrinsic

import eagerconv as ec
from eagerconv.kernels_cpu.native.simd import REGISTER_BYTES, REGISTERS, Loop, Vectors

SUMS = REGISTERS - 6  # as many independent sums as registers leave: two units times four cycles need eight
TURNS = 100_000


@intrinsic
def _multiply_and_add(typingctx: Any, turns: Any) -> Any:
    """`turns` times SUMS fused products of vectors of float32, and their sum, lest they be left out."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        v = Vectors(builder, 32)
        # A factor that the compiler does not know: sitofp(turns) * 0 + 1e-3.
        known = builder.fadd(builder.fmul(builder.sitofp(args[0], v.element), v.element(0.0)), v.element(1e-3))
        factor = v.splat(known)
        with Loop(builder, args[0], [v.constant(float(i)) for i in range(SUMS)]) as loop:
            loop.next = [v.fma(factor, value, factor) for value in loop.values]
        total = loop.results[0]
        for value in loop.results[1:]:
            total = builder.fadd(total, value)
        return v.sum(total)

    return types.float32(types.int64), codegen


@cache
def _compiled() -> Any:
    @numba.njit("float32(int64, int64)", parallel=True, nogil=True)
    def run(threads: int, turns: int) -> Any:
        total = numba.float32(0)
        for _ in numba.prange(threads):
            total += _multiply_and_add(turns)
        return total

    return run


def peak(calls: int = 50) -> float:
    """GFLOP/s of all threads that we use, the best of calls of a third of a millisecond: what is in the way only slows down."""
    threads, run, best = ec.get_num_threads(), _compiled(), float("inf")
    for _ in range(calls):
        start = time.perf_counter()
        run(threads, TURNS)
        best = min(best, time.perf_counter() - start)
    return 2 * SUMS * (REGISTER_BYTES // 4) * TURNS * threads / best / 1e9
