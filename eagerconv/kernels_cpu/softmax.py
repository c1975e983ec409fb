"""Softmax, its logarithm and cross-entropy over one axis of arrays in one piece; None where the kernels cannot."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from eagerconv.kernels_cpu.blocks import SOFTMAX_VECTORS
from eagerconv.kernels_cpu.copying import in_one_piece
from eagerconv.kernels_cpu.formulas import DTYPES
from eagerconv.kernels_cpu.jit import kernel
from eagerconv.kernels_cpu.table import SOFTMAX, as_table
from eagerconv.kernels_cpu.targets import lanes
from eagerconv.kernels_cpu.threads import Launch, get_num_threads
from eagerconv.memory import empty
from eagerconv.spec import Shape

FEW = 1 << 13  # elements for which one thread is enough


def forward(name: str, x: Any, axis: Any) -> Any:
    """The function `name`, softmax or log_softmax, of x."""
    if (lay := _layout(axis, x)) is None:
        return None
    x = in_one_piece(x)
    out = empty(x.shape, x.dtype)
    _launched(name, lay, x.dtype, (), x, x, out)
    return out


def backward(name: str, g: Any, y: Any, axis: Any) -> Any:
    """The gradient with respect to x, given that of the result y, and y."""
    if (lay := _layout(axis, y, g)) is None:
        return None
    g, y = in_one_piece(g), in_one_piece(y)
    out = empty(y.shape, y.dtype)
    _launched(f"{name}_back", lay, y.dtype, (), g, y, out)
    return out


def logarithms(x: Any, axis: int) -> Any:
    """What log_softmax takes from each row: its largest number, and the logarithm of the sum of exponentials below it."""
    if (lay := _layout(axis, x)) is None:
        return None
    x = in_one_piece(x)
    rows = x.shape[:axis] + x.shape[axis + 1 :]
    top, logs = np.empty(rows, x.dtype), np.empty(rows, x.dtype)
    _launched("logarithms", lay, x.dtype, (logs,), x, x, top)
    return top, logs


def weighted(x: Any, top: Any, logs: Any, g: Any, axis: int) -> Any:
    """The probabilities of each row, times its number of g."""
    if (lay := _layout(axis, x)) is None:
        return None
    x = in_one_piece(x)
    out = empty(x.shape, x.dtype)
    others = tuple(np.ascontiguousarray(v, x.dtype) for v in (top, logs, g))
    _launched("weighted", lay, x.dtype, others, x, x, out)
    return out


def _layout(axis: Any, x: Any, g: Any = None) -> Shape | None:
    """(outer, length, inner) of arrays the kernels know, which have no empty axis."""
    if type(x) is not np.ndarray or x.dtype not in DTYPES or type(axis) is not int or x.size == 0:
        return None
    if g is not None and (type(g) is not np.ndarray or g.dtype != x.dtype or g.shape != x.shape):
        return None
    if not -x.ndim <= axis < x.ndim:
        return None
    axis %= x.ndim
    return math.prod(x.shape[:axis]), x.shape[axis], math.prod(x.shape[axis + 1 :])


def _launched(name: str, layout: Shape, dtype: np.dtype[Any], others: tuple[Any, ...], x: Any, w: Any, y: Any) -> None:
    make = _launch.__wrapped__ if others else _launch  # addresses are never the same
    make(name, layout, dtype, tuple(v.ctypes.data for v in others), get_num_threads())(x, w, y)


@lru_cache(maxsize=256)
def _launch(name: str, layout: Shape, dtype: np.dtype[Any], others: tuple[int, ...], threads: int) -> Launch:
    outer, length, inner = layout
    tile = SOFTMAX_VECTORS * lanes(dtype)
    way, tasks = ("along", outer) if inner == 1 else ("across", outer * -(-inner // tile))
    addresses = [*others, 0, 0, 0][:3]
    table = as_table([*SOFTMAX.pack(LENGTH_OF_AXIS=length, INNER=inner), *addresses])
    threads = threads if math.prod(layout) >= FEW else 1
    return Launch([(kernel(f"softmax:{name}_{way}", dtype), range(tasks))], threads, 0, table)
