"""Max pooling of large planes on all threads; None where NumPy is asked to do it."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from eagerconv.kernels_cpu import pointwise
from eagerconv.kernels_cpu.jit import kernel
from eagerconv.kernels_cpu.table import POOLING, as_table
from eagerconv.kernels_cpu.threads import Launch, get_num_threads
from eagerconv.memory import empty
from eagerconv.spec import Shape

Windows = tuple[Shape, Shape, Shape, Shape, Shape]
"""Of one or two axes: size of the plane, number of windows, their length, stride, and padding in front."""


def max_planes(x: Any, windows: Windows) -> Any:
    """The largest element of each window over the last axes of x."""
    size, out = windows[:2]
    if not _suits(x, windows):
        return None
    result = empty((*x.shape[: x.ndim - len(size)], *out), x.dtype)
    _launch("max_planes", x.dtype, windows, x.size // math.prod(size), get_num_threads())(x, x, result)
    return result


def max_gradients(g: Any, x: Any, windows: Windows) -> Any:
    """The cotangents g of the windows, each at the place of its window's first largest element of x, zeros elsewhere."""
    if not _suits(x, windows) or type(g) is not np.ndarray or g.dtype != x.dtype or not g.flags.c_contiguous:
        return None
    result = empty(x.shape, x.dtype)
    _launch("max_gradients", x.dtype, windows, x.size // math.prod(windows[0]), get_num_threads())(x, g, result)
    return result


def _suits(x: Any, windows: Windows) -> bool:
    """Whether x is large and lies in one piece, and every window meets it."""
    if not pointwise.suits(x) or len(windows[0]) > 2:
        return False
    return all(p < k and (m - 1) * s - p < n for n, m, k, s, p in zip(*windows, strict=True))


@lru_cache(maxsize=256)
def _launch(name: str, dtype: np.dtype[Any], windows: Windows, planes: int, threads: int) -> Launch:
    fillers = (1, 1, 1, 1, 0)  # one axis is the only row of a plane
    size, out, window, stride, pad = (
        (*(filler,) * (2 - len(values)), *values) for values, filler in zip(windows, fillers, strict=True)
    )
    work = 2 * (-(-windows[0][-1] // 16) * 16 + 16)
    table = as_table(POOLING.pack(SIZE=size, OUT=out, WINDOW=window, STRIDE=stride, PAD=pad, WORK=work))
    return Launch([(kernel(f"pooling:{name}", dtype), range(planes))], threads, work * dtype.itemsize, table)
