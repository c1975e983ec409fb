"""Matrix products of some size on our own threads: filters of one tap, with an image's channels for what is summed over.

BLAS is as fast, but keeps threads of its own, which wait busily for some tens of milliseconds after a product and meanwhile
take the cores from ours. None where NumPy is asked: small products, products with a vector, other dtypes. The bits of a
result depend neither on the number of threads nor on other matrices of a stack.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from eagerconv.kernels_cpu.formulas import DTYPES
from eagerconv.kernels_cpu.gemm import GEMM
from eagerconv.kernels_cpu.threads import get_num_threads
from eagerconv.record import Plan, Request
from eagerconv.spec import ConvSpec, Shape

LARGE = 1 << 18
"""Multiplications of one matrix below which BLAS stays on the calling thread."""

NARROW = 8  # rows or columns, below which a product only reads its operands, as one with a vector does


def matmul(a: Any, b: Any, **others: Any) -> Any:
    """Products (..., m, k) @ (k, n), or (s, m, k) @ (s, k, n)."""
    if others or not (type(a) is type(b) is np.ndarray) or a.dtype != b.dtype or a.dtype not in DTYPES:
        return None
    if min(a.ndim, b.ndim) < 2 or a.shape[-1] != b.shape[-2]:
        return None
    (m, k), n = a.shape[-2:], b.shape[-1]
    if a.ndim > b.ndim == 2:
        m = a.size // max(k, 1)  # matrices below one another are one
    if min(m, n) < NARROW or m * k * n < LARGE or not (a.flags.aligned and b.flags.aligned):
        return None
    if b.ndim > 2 and a.shape[:-2] != b.shape[:-2]:
        return None
    stack = math.prod(b.shape[:-2])
    filters, image = a.reshape(stack * m, k), b.reshape(stack * k, n)
    strides = tuple(s // a.itemsize for s in image.strides), tuple(s // a.itemsize for s in filters.strides)
    plan = _plan(stack, m, k, n, a.dtype, *strides, get_num_threads())
    return plan(image[None], filters[:, :, None]).reshape(*a.shape[:-1], n)


@lru_cache(maxsize=1024)
def _plan(stack: int, m: int, k: int, n: int, dtype: np.dtype[Any], image: Shape, filters: Shape, threads: int) -> Plan:
    """y[g, f, p] = sum of w[g, f, c] * x[g, c, p] over c: groups g are matrices, f rows, c summed over, pixels p columns."""
    spec = ConvSpec(1, stack, k, m, size=(n,), kernel=(1,), out=(n,), stride=(1,), step=(1,), origin=(0,))
    return GEMM.plan(Request(spec, "y", dtype, ((0, *image), (*filters, 0)), threads))
