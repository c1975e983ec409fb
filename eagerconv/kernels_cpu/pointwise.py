"""Elementwise operations on large arrays: one pass over memory, on all threads, results from the pool.

NumPy does them on one thread and in fresh memory, which for the results of large layers takes longer than the arithmetic.
Every function here gives None where NumPy is as good: small arrays, other dtypes, arrays that are not contiguous. Values are
NumPy's, whatever the number of threads.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from eagerconv.kernels_cpu import formulas
from eagerconv.kernels_cpu.formulas import evaluate, of_channels, of_rows, update
from eagerconv.memory import empty
from eagerconv.spec import Shape

LARGE = 1 << 18
"""Elements below which NumPy is left alone."""

SHORTEST = 64  # numbers of a row, for which looking up a channel's number pays


def add(a: Any, b: Any, **others: Any) -> Any:
    """The sum of two arrays of the same shape, or with one number for each channel."""
    return None if others else _binary("add", a, b)


def multiply(a: Any, b: Any, **others: Any) -> Any:
    """The product likewise."""
    return None if others else _binary("multiply", a, b)


def relu(x: Any) -> Any:
    """max(x, 0), and NaN where x is NaN."""
    return evaluate("relu", [x]) if suits(x) else None


def gate(g: Any, y: Any) -> Any:
    """Numbers of g where y > 0, else 0."""
    return evaluate("gate", [g, y]) if suits(g) and suits(y) else None


def finish(y: Any, bias: Any, rectify: bool) -> bool:
    """Add c numbers, or None, to y (n, c, *pixels) in its memory, and perhaps rectify it; whether it was done."""
    if not suits(y):
        return False
    if bias is None:
        return update("relu", [y], [y])
    if not bias.flags.c_contiguous:
        return False
    of_channels("add_relu" if rectify else "add", y, bias, math.prod(y.shape[2:]), y)
    return True


def add_row(y: Any, row: Any) -> bool:
    """Add one row to every row of y in its memory; whether it was done."""
    if not suits(y) or type(row) is not np.ndarray or row.dtype != y.dtype or not row.flags.c_contiguous:
        return False
    of_rows("add", y, row, y)
    return True


def suits(x: Any) -> bool:
    """Whether an array is large, of numbers that the kernels know, and in one piece."""
    return formulas.suits(x, LARGE)


def _binary(name: str, a: Any, b: Any) -> Any:
    if not (type(a) is type(b) is np.ndarray) or (a.size < LARGE > b.size) or a.dtype != b.dtype:
        return None
    if a.shape == b.shape:
        return evaluate(name, [a, b]) if suits(a) or suits(b) else None
    if a.size < b.size:
        a, b = b, a  # the operations commute
    return broadcast(name, a, b)


def broadcast(name: str, a: Any, b: Any) -> Any:
    """A formula of a large array and of one row of it, or a number for each of its rows, or for each channel of them."""
    if not suits(a) or type(b) is not np.ndarray or a.dtype != b.dtype or not b.flags.c_contiguous:
        return None
    if b.size >= SHORTEST and a.shape[-b.ndim :] == b.shape:
        return of_rows(name, a, b, empty(a.shape, a.dtype))
    row = row_length(a.shape, b.shape)
    return None if row is None else of_channels(name, a, b, row, empty(a.shape, a.dtype))


def row_length(shape: Shape, small: Shape) -> int | None:
    """How many neighbours share a number of an array that is broadcast to `shape`: all axes behind those along which it varies.

    These must be axes beside one another, in full length. None where they are not, or share too few.
    """
    ahead = len(shape) - len(small)
    varies = [ahead + i for i, n in enumerate(small) if n > 1]
    if ahead < 0 or not varies:
        return None
    first, behind = varies[0], varies[-1] + 1
    row = math.prod(shape[behind:])
    full = small[first - ahead : behind - ahead] == shape[first:behind]
    return row if full and row >= SHORTEST else None
