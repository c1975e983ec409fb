"""Copies of large arrays into memory of the pool, where NumPy's would first have to ask the system for every page."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from eagerconv.memory import SMALLEST, empty


def pad(x: Any, widths: Any, value: Any = 0) -> Any:
    """The array with (before, after) of each axis around it filled with a value; None where NumPy is as good."""
    if type(x) is not np.ndarray or x.nbytes < SMALLEST or type(value) not in (int, float):
        return None
    shape = tuple(before + n + after for n, (before, after) in zip(x.shape, widths, strict=True))
    out = empty(shape, x.dtype)
    inside = tuple(slice(before, before + n) for n, (before, _) in zip(x.shape, widths, strict=True))
    for axis, (before, after) in enumerate(widths):  # each axis' ends, of what the axes in front have left
        for end in (slice(before), slice(shape[axis] - after, None)):
            out[(*inside[:axis], end)] = value
    out[inside] = x
    return out


def concatenate(*arrays: Any, axis: int, bounds: Any) -> Any:
    """Arrays of one dtype behind one another along an axis; None where NumPy is as good."""
    first = arrays[0]
    if any(type(x) is not np.ndarray or x.dtype != first.dtype or x.ndim != first.ndim for x in arrays):
        return None
    shape = list(first.shape)
    shape[axis] = sum(x.shape[axis] for x in arrays)
    if math.prod(shape) * first.itemsize < SMALLEST:
        return None
    return np.concatenate(arrays, axis, out=empty(tuple(shape), first.dtype))
