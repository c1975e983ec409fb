"""Elementwise operations on large arrays: one pass over memory, on all threads, results from the pool.

NumPy does them on one thread and in fresh memory, which for the results of large layers takes longer than the arithmetic.
Every function here gives None where NumPy is as good: small arrays, other dtypes, arrays that are not contiguous. Values are
NumPy's, whatever the number of threads; sums are added in an order of their own, which depends on the shape alone.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from eagerconv.kernels_cpu.jit import kernel
from eagerconv.kernels_cpu.table import POINTWISE, STREAM_BYTES, as_table
from eagerconv.kernels_cpu.threads import Launch, get_num_threads
from eagerconv.memory import empty
from eagerconv.spec import Shape

LARGE = 1 << 18
"""Elements below which NumPy is left alone."""

PIECE = 1 << 14  # elements of one task
SHORTEST = 64  # numbers of a row, for which looking up a channel's number pays

DTYPES = frozenset({np.dtype(np.float32), np.dtype(np.float64)})
"""What the kernels know, in native byte order."""


def add(a: Any, b: Any, **others: Any) -> Any:
    """The sum of two arrays of the same shape, or with one number for each channel."""
    return None if others else _binary("add", a, b)


def multiply(a: Any, b: Any, **others: Any) -> Any:
    """The product likewise."""
    return None if others else _binary("multiply", a, b)


def relu(x: Any) -> Any:
    """max(x, 0), and NaN where x is NaN."""
    return _run("relu", x, x, empty(x.shape, x.dtype), 1) if suits(x) else None


def gate(g: Any, y: Any) -> Any:
    """Numbers of g where y > 0, else 0."""
    if not (suits(g) and suits(y) and g.shape == y.shape and g.dtype == y.dtype):
        return None
    return _run("gate", g, y, empty(g.shape, g.dtype), 1)


def finish(y: Any, bias: Any, rectify: bool) -> bool:
    """Add c numbers, or None, to y (n, c, *pixels) in its memory, and perhaps rectify it; whether it was done."""
    if not suits(y):
        return False
    if bias is None:
        _run("relu", y, y, y, 1)
        return True
    if not bias.flags.c_contiguous:
        return False
    _rows("add_relu" if rectify else "add", y, bias, y, y.shape[1], math.prod(y.shape[2:]))
    return True


def sum(a: Any, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Any:
    """The sums over all axes but one."""
    if not suits(a) or dtype is not None or type(axis) is not tuple or len(axis) != a.ndim - 1:
        return None
    left = set(range(a.ndim)).difference(i % a.ndim for i in axis)
    if len(left) != 1 or (inner := math.prod(a.shape[min(left) + 1 :])) < SHORTEST:
        return None
    kept = min(left)
    channels = a.shape[kept]
    out = np.empty(channels, a.dtype)
    _launch("channel_sums", a.dtype, channels, a.size // inner, inner, channels, False, get_num_threads())(a, a, out)
    return out.reshape([n if i == kept else 1 for i, n in enumerate(a.shape)]) if keepdims else out


def suits(x: Any) -> bool:
    """Whether an array is large, of numbers that the kernels know, and in one piece."""
    return type(x) is np.ndarray and x.size >= LARGE and x.dtype in DTYPES and x.flags.c_contiguous and x.flags.aligned


def _binary(name: str, a: Any, b: Any) -> Any:
    if not (type(a) is type(b) is np.ndarray) or (a.size < LARGE > b.size) or a.dtype != b.dtype:
        return None
    if a.size < b.size:
        a, b = b, a  # the operations commute
    if not suits(a) or not b.flags.c_contiguous:
        return None
    if a.shape == b.shape:
        return _run(name, a, b, empty(a.shape, a.dtype), 1)
    axis = channel_axis(a.shape, b.shape)
    if axis is None or (inner := math.prod(a.shape[axis + 1 :])) < SHORTEST:
        return None
    return _rows(name, a, b, empty(a.shape, a.dtype), a.shape[axis], inner)


def channel_axis(shape: Shape, small: Shape) -> int | None:
    """The only axis along which an array of shape `small` varies when it is broadcast to `shape`; None where it is not one."""
    ahead = len(shape) - len(small)
    axes = [ahead + i for i, n in enumerate(small) if n > 1]
    return axes[0] if len(axes) == 1 and ahead >= 0 and small[axes[0] - ahead] == shape[axes[0]] else None


def _run(name: str, a: Any, b: Any, out: Any, channels: int) -> Any:
    stream = out.nbytes >= STREAM_BYTES and out is not a
    tasks = -(-out.size // PIECE)
    _launch(name, out.dtype, tasks, out.size, PIECE, channels, stream, get_num_threads())(a, b, out)
    return out


def _rows(name: str, a: Any, numbers: Any, out: Any, channels: int, inner: int) -> Any:
    stream = out.nbytes >= STREAM_BYTES and out is not a
    rows = out.size // inner
    _launch(f"{name}_channel", out.dtype, rows, rows, inner, channels, stream, get_num_threads())(a, numbers, out)
    return out


@lru_cache(maxsize=1024)
def _launch(
    name: str, dtype: np.dtype[Any], tasks: int, size: int, piece: int, channels: int, stream: bool, threads: int
) -> Launch:
    table = as_table(POINTWISE.pack(SIZE=size, PIECE=piece, CHANNELS=channels, NON_TEMPORAL=int(stream)))
    return Launch([(kernel(f"pointwise:{name}", dtype), range(tasks))], threads, 0, table)
