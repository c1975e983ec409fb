"""What kernels in plain Numba have in common: how helpers are compiled, and the arithmetic of index ranges."""

from __future__ import annotations

from typing import Any

import numba

from eagerconv.kernels_cpu.native.vector import zero
from eagerconv.kernels_cpu.targets import OPTIONS

helper = numba.njit(**OPTIONS)
P = Any  # a pointer


@helper
def ceil_div(a: int, b: int) -> int:
    """Quotient, rounded up."""
    return -((-a) // b)


@helper
def window(base: int, stride: int, first: int, last: int, limit: int) -> tuple[int, int]:
    """The indices j, 0 <= j < limit, with first <= j*stride + base < last, as a half-open range (empty: end <= start)."""
    return max(0, ceil_div(first - base, stride)), min(limit, (last - 1 - base) // stride + 1)


@helper
def clear(r: P, n: int) -> None:
    """r[:n] = 0."""
    for j in range(n):
        r[j] = zero(r)
