"""What the tables ask of an operand before any row sees it: its value, its shape, its axes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from eagerconv.autograd.tape import Traced, inexact, sequence

# From functions of NumPy to rows, or to functions made of rows.
Table: TypeAlias = dict[Callable[..., Any], Any]


def operand(x: Any) -> Any:
    """The operand itself if it has a shape, else an array of the number or the nested lists."""
    return x if hasattr(x, "shape") else sequence(x)


def operands(*xs: Any) -> list[Any]:
    """Operands that meet: arrays of numbers and nested lists are made where the first array is."""
    for x in xs:
        if not hasattr(x, "shape"):
            break
    else:
        return list(xs)
    like = next((value(x) for x in xs if hasattr(value(x), "__array_function__")), None)
    return [x if hasattr(x, "shape") else sequence(x, like) for x in xs]


def value(x: Any) -> Any:
    """The array behind an operand: for decisions that leave no trace on the tape."""
    return x.data if isinstance(x, Traced) else x


def narrow(dtype: Any) -> bool:
    """Whether sums of floats of this dtype need more digits than it has: those of 16 bits and less."""
    return dtype.itemsize <= 2 and inexact(dtype)


def wide(x: Any) -> Any:
    """The operand in float32, if it is narrow."""
    return x.astype(np.float32) if narrow(x.dtype) else x


def widely(function: Callable[..., Any], *xs: Any, **params: Any) -> Any:
    """A product of arrays, or another sum; of narrow floats of one dtype in float32, and rounded once."""
    for x in xs:
        if (
            type(x) is not np.ndarray or x.itemsize > 2
        ):  # a GPU's products do so by themselves; lists are of wide numbers
            return function(*xs, **params)
    kind = xs[0].dtype
    if not narrow(kind) or any(x.dtype != kind for x in xs):
        return function(*xs, **params)
    return function(*(x.astype(np.float32) for x in xs), **params).astype(kind)


def reduced_axes(like: Any, axis: Any) -> tuple[int, ...]:
    """The axes that a reduction over `axis` takes away from the shape of `like`, counted from the front."""
    n = len(like.shape)
    if axis is None or (
        n == 0 and axis in (0, -1)
    ):  # NumPy's reductions give a number without axes a first and last one
        return tuple(range(n))
    return normalize_axis_tuple(axis, n)


def kept_shape(like: Any, axis: Any) -> tuple[int, ...]:
    """The shape of `like` with the axes reduced over `axis` of length one."""
    axes = reduced_axes(like, axis)
    return tuple(1 if a in axes else n for a, n in enumerate(like.shape))


def reduced_size(like: Any, axis: Any) -> int:
    """How many elements go into each result of a reduction."""
    return math.prod(like.shape[a] for a in reduced_axes(like, axis))


def top(x: Any, axis: Any, keepdims: bool = True) -> Any:
    """The largest numbers of an array, minus infinity where there are none: `max` with `initial`, which CuPy does not know."""
    axes = reduced_axes(x, axis)
    if all(x.shape[a] for a in axes):
        return np.max(x, axis=axis, keepdims=keepdims)
    none = np.full_like(x, -np.inf, shape=kept_shape(x, axis))
    return none if keepdims else np.squeeze(none, axis=axes)
