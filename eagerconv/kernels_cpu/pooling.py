"""Largest elements and sums of the windows of large planes, on all threads; None where NumPy is asked to do it."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from eagerconv.kernels_cpu.formulas import suits
from eagerconv.kernels_cpu.jit import kernel
from eagerconv.kernels_cpu.table import POOLING, as_table
from eagerconv.kernels_cpu.threads import Launch, get_num_threads, worthwhile
from eagerconv.memory import empty
from eagerconv.spec import Shape

Windows = tuple[Shape, Shape, Shape, Shape, Shape, Shape, Shape]
"""Of one or two axes, as `functional.windows` has them: size of the plane, number of windows, their extent, stride, dilation,
share, and padding in front. Every window meets the plane.
"""

LEAST = 1 << 12
"""Elements below which NumPy is left alone: it makes ten passes and more, where other operations are one."""

SECONDS = 1e-9  # per element, or less


def max_planes(x: Any, windows: Windows) -> Any:
    """The largest element of each window over the last axes of x."""
    return _windows("max_planes", x, x, windows, windows[1]) if _suits(x, windows[0]) else None


def sum_planes(x: Any, windows: Windows) -> Any:
    """The sum of each window."""
    return _windows("sum_planes", x, x, windows, windows[1]) if _suits(x, windows[0]) else None


def spread_planes(g: Any, windows: Windows) -> Any:
    """The numbers g of the windows, each added to all elements of its window."""
    return _windows("spread_planes", g, g, windows, windows[0]) if _suits(g, windows[1]) else None


def max_gradients(g: Any, x: Any, windows: Windows) -> Any:
    """The cotangents g of the windows, each at the place of its window's first largest element of x, zeros elsewhere."""
    if not _suits(x, windows[0]) or type(g) is not np.ndarray or g.dtype != x.dtype or not g.flags.c_contiguous:
        return None
    return _windows("max_gradients", x, g, windows, windows[0])


def _suits(x: Any, plane: Shape) -> bool:
    return len(plane) <= 2 and 0 not in plane and suits(x, LEAST)


def _windows(name: str, x: Any, g: Any, windows: Windows, plane: Shape) -> Any:
    """What a kernel makes of x and g: an array of these planes."""
    lead = x.shape[: x.ndim - len(plane)]
    result = empty((*lead, *plane), x.dtype)
    threads = worthwhile(get_num_threads(), max(x.size, result.size) * SECONDS)
    _launch(name, x.dtype, windows, math.prod(lead), threads)(x, g, result)
    return result


@lru_cache(maxsize=256)
def _launch(name: str, dtype: np.dtype[Any], windows: Windows, planes: int, threads: int) -> Launch:
    names = ("SIZE", "OUT", "EXTENT", "STRIDE", "DILATION", "SHARE", "PAD")
    fillers = (1, 1, 1, 1, 1, 1, 0)  # one axis is the only row of a plane
    two = {
        name: (*(filler,) * (2 - len(values)), *values)
        for name, values, filler in zip(names, windows, fillers, strict=True)
    }
    work = 2 * (-(-windows[0][-1] // 16) * 16 + 16)
    table = as_table(POOLING.pack(**two, WORK=work))
    return Launch([(kernel(f"pooling:{name}", dtype), range(planes))], threads, work * dtype.itemsize, table)
