"""Products of matrices and tensors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from eagerconv.autograd.rules.operands import Table
from eagerconv.autograd.rules.shapes import expand_dims, reshape, squeeze, transpose
from eagerconv.autograd.tape import multilinear

matmul = multilinear(
    "matmul", np.matmul, lambda g, y, like: _matmul_left(g, y, like), lambda g, x, like: _matmul_right(g, x, like)
)

FUNCTIONS: Table = {}

# ----- Parts of rules -----


def _transposed(a: Any) -> Any:
    """Conjugate transpose of the last two axes."""
    return transpose(a, axes=(*range(a.ndim - 2), a.ndim - 1, a.ndim - 2)).conjugate()


def _matmul_left(g: Any, y: Any, like: Any) -> Any:
    """The cotangent of x is g y^H, where x y = ans, (..., m, k) (..., k, n) -> (..., m, n).

    A 1-D operand is one row or one column, as in NumPy.
    """
    if y.ndim == 1:
        g, y = expand_dims(g, axis=-1), expand_dims(y, axis=-1)  # (..., m, 1), (k, 1)
    if len(like.shape) == 1:
        g = expand_dims(g, axis=-2)  # (..., 1, n)
    out = matmul(g, _transposed(y))  # (..., m, k)
    return squeeze(out, axis=-2) if len(like.shape) == 1 else out


def _matmul_right(g: Any, x: Any, like: Any) -> Any:
    """The cotangent of y is x^H g."""
    if x.ndim == 1:
        g, x = expand_dims(g, axis=-2 if len(like.shape) > 1 else -1), expand_dims(x, axis=0)  # (..., 1, n), (1, k)
    if len(like.shape) == 1:
        g = g if g.ndim == x.ndim else expand_dims(g, axis=-1)  # (..., m, 1)
    if len(like.shape) <= 2 < x.ndim:  # one matrix for a whole batch: sum over it inside the product
        rows = math.prod(x.shape[:-1])
        x, g = reshape(x, shape=(rows, x.shape[-1])), reshape(g, shape=(rows, g.shape[-1]))
    out = matmul(_transposed(x), g)  # (..., k, n)
    return squeeze(out, axis=-1) if len(like.shape) == 1 else out
