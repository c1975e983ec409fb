"""Sorting: what is sorted moves, and its gradient moves back."""

from __future__ import annotations

from typing import Any

import numpy as np

from eagerconv.autograd.rules.indexing import take_along_axis
from eagerconv.autograd.rules.operands import Table, value
from eagerconv.autograd.tape import defvjp

sort = defvjp(
    "sort",
    lambda a, axis=-1: np.sort(a, axis),
    lambda g, x, axis: take_along_axis(g, np.argsort(np.argsort(value(x), axis), axis), axis),
    jvp=lambda t, x, axis: take_along_axis(t, np.argsort(value(x), axis), axis),
)


def _sort(a: Any, axis: int | None = -1, kind: Any = None, order: None = None, *, stable: Any = None) -> Any:
    if axis is None:
        a, axis = a.reshape(-1), 0
    return sort(a, axis=axis)


def partition(a: Any, kth: Any, axis: int | None = -1, kind: str = "introselect", order: None = None) -> Any:
    """Smaller elements before the k-th smallest, larger ones after it."""
    if axis is None:
        a, axis = a.reshape(-1), 0
    return take_along_axis(a, np.argpartition(value(a), kth, axis), axis)


FUNCTIONS: Table = {np.sort: _sort, np.partition: partition}
