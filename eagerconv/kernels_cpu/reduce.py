"""Sums, means and extrema of large arrays in one piece, over the last axes or all but one; None where NumPy is as good.

Pieces of a row are added by pairs, so that errors grow as slowly as NumPy's. The order depends on the length of a row alone.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from eagerconv.kernels_cpu.formulas import suits
from eagerconv.kernels_cpu.jit import kernel
from eagerconv.kernels_cpu.table import REDUCE, as_table
from eagerconv.kernels_cpu.threads import Launch, get_num_threads
from eagerconv.spec import Shape

LARGE = 1 << 15
"""Elements below which NumPy is left alone."""

PIECE = 1 << 14  # numbers reduced by one task
SHORTEST = 32  # numbers of a row, for which vectors pay


def sum(a: Any, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Any:
    """The sums over the last axes, or over all axes but one."""
    if dtype is not None:
        return None
    total = _reduced("sum", a, axis, keepdims)
    return _of_channels(a, axis, keepdims) if total is None else total


def mean(a: Any, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Any:
    """The means likewise."""
    total = sum(a, axis, dtype, keepdims)
    if total is not None:
        total /= a.size // total.size
    return total


def max(a: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The largest numbers, NaN where there is one."""
    return _reduced("max", a, axis, keepdims)


def min(a: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The smallest numbers, NaN where there is one."""
    return _reduced("min", a, axis, keepdims)


def _of_channels(a: Any, axis: Any, keepdims: bool) -> Any:
    """The sums over all axes but one, whose rows are not too short."""
    if not suits(a, LARGE) or type(axis) is not tuple or not all(-a.ndim <= i < a.ndim for i in axis):
        return None
    left = [i for i in range(a.ndim) if i not in axis and i - a.ndim not in axis]
    if len(left) != 1 or len(axis) != a.ndim - 1:
        return None
    kept = left[0]
    row = math.prod(a.shape[kept + 1 :])
    if row < SHORTEST:
        return None
    out = np.empty(a.shape[kept], a.dtype)
    _launch("sum_of_channels", a.dtype, a.size // row, row, a.shape[kept], get_num_threads())(a, a, out)
    return out.reshape([n if i == kept else 1 for i, n in enumerate(a.shape)]) if keepdims else out


def _reduced(name: str, a: Any, axis: Any, keepdims: bool) -> Any:
    if not suits(a, LARGE) or (kept := _kept(a.shape, axis)) is None:
        return None
    row = math.prod(a.shape[len(kept) :])
    if row < SHORTEST:
        return None
    rows, pieces = a.size // row, -(-row // PIECE)
    parts = np.empty((rows, pieces), a.dtype)
    _launch(name, a.dtype, rows, row, 0, get_num_threads())(a, a, parts)
    whole = getattr(np, name)(parts, axis=1) if pieces > 1 else parts
    return whole.reshape(kept + (1,) * (a.ndim - len(kept)) if keepdims else kept)


def _kept(shape: Shape, axis: Any) -> Shape | None:
    """The leading axes that are left by a reduction over all others, or None where it is over others than the last ones."""
    if axis is None:
        return ()
    axes = (axis,) if type(axis) is int else axis
    if type(axes) is not tuple or not axes or not all(type(i) is int and -len(shape) <= i < len(shape) for i in axes):
        return None
    over = {i % len(shape) for i in axes}
    first = len(shape) - len(axes)
    return shape[:first] if over == set(range(first, len(shape))) else None


@lru_cache(maxsize=256)
def _launch(name: str, dtype: np.dtype[Any], rows: int, row: int, channels: int, threads: int) -> Launch:
    pieces = -(-row // PIECE)
    table = as_table(REDUCE.pack(ROW=row, PIECE=PIECE, PIECES=pieces, ROWS=rows, CHANNELS=channels))
    return Launch([(kernel(f"reduce:{name}", dtype), range(channels or rows * pieces))], threads, 0, table)
