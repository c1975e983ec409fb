"""Products of vectors, matrices and tensors."""

from __future__ import annotations

import functools
import math
import string
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from eagerconv.autograd.rules.indexing import put
from eagerconv.autograd.rules.operands import Table, operand, operands, widely
from eagerconv.autograd.rules.reductions import sum
from eagerconv.autograd.rules.shapes import (
    diagonal,
    expand_dims,
    linalg_diagonal,
    moveaxis,
    ravel,
    reshape,
    squeeze,
    transpose,
)  # fmt: skip
from eagerconv.autograd.tape import Op, multilinear

matmul: Op = multilinear(
    "matmul",
    lambda x, y: widely(np.matmul, x, y),
    lambda g, y, like: _matmul_left(g, y, like),
    lambda g, x, like: _matmul_right(g, x, like),
)
vecdot: Op = multilinear(  # conjugates x, so that the cotangent of x is conj(g) y
    "vecdot",
    lambda x, y: widely(_vecdot_of, x, y),
    lambda g, y: g[..., None].conjugate() * y,
    lambda g, x: g[..., None] * x,
)
tensordot: Op = multilinear(
    "tensordot",
    lambda a, b, axes=2: widely(np.tensordot, a, b, axes=axes),
    lambda g, y, like, axes: _tensordot_left(g, y, like, axes),
    lambda g, x, like, axes: _tensordot_right(g, x, like, axes),
)
einsum: Op = multilinear(  # subscripts are explicit: an arrow, and letters instead of the ellipsis
    "einsum",
    lambda *operands, subscripts, optimize=False: widely(
        functools.partial(np.einsum, subscripts), *operands, optimize=optimize
    ),
    lambda g, others, position, like, subscripts, optimize: _einsum_pull(
        g, others, position, like, subscripts, optimize
    ),
)
cross: Op = multilinear(  # the triple product <g, x cross y> is cyclic
    "cross",
    lambda a, b: np.cross(a, b),
    lambda g, y: cross(y.conjugate(), g),
    lambda g, x: cross(g, x.conjugate()),
)

# ----- NumPy's signatures -----


def dot(a: Any, b: Any, out: None = None) -> Any:
    """The sum over the last axis of a and the last but one of b."""
    a, b = operands(a, b)
    if a.ndim == 0 or b.ndim == 0:
        return a * b
    return matmul(a, b) if b.ndim == 1 or a.ndim <= 2 == b.ndim else tensordot(a, b, axes=(-1, -2))


def inner(a: Any, b: Any, /) -> Any:
    """The sum over the last axes."""
    a, b = operands(a, b)
    return a * b if a.ndim == 0 or b.ndim == 0 else tensordot(a, b, axes=(-1, -1))


def outer(a: Any, b: Any, out: None = None) -> Any:
    """All products of an element of a with one of b."""
    a, b = operands(a, b)
    return ravel(a)[:, None] * ravel(b)


def vdot(a: Any, b: Any, /) -> Any:
    """The inner product of all elements, those of a conjugated."""
    a, b = operands(a, b)
    return vecdot(ravel(a), ravel(b))


def _vecdot_of(x: Any, y: Any) -> Any:
    """NumPy's, or the same by products of matrices for a library that has none."""
    if type(x) is type(y) is np.ndarray:
        return np.vecdot(x, y)
    return np.matmul(np.conj(x)[..., None, :], y[..., None])[..., 0, 0]


def _vecdot(x1: Any, x2: Any, /, *, axis: int = -1) -> Any:
    x1, x2 = operands(x1, x2)
    return vecdot(x1, x2) if axis == -1 else vecdot(moveaxis(x1, axis, -1), moveaxis(x2, axis, -1))


def matvec(x1: Any, x2: Any, /) -> Any:
    """Matrices times vectors."""
    return matmul(x1, operand(x2)[..., None])[..., 0]


def vecmat(x1: Any, x2: Any, /) -> Any:
    """Conjugated vectors times matrices."""
    return matmul(operand(x1)[..., None, :].conjugate(), x2)[..., 0, :]


def _tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    return tensordot(*operands(a, b), axes=axes)


def _cross(a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None) -> Any:
    if axis is not None:
        axisa = axisb = axisc = axis
    a, b = operands(a, b)
    return moveaxis(cross(moveaxis(a, axisa, -1), moveaxis(b, axisb, -1)), -1, axisc)


def _linalg_cross(x1: Any, x2: Any, /, *, axis: int = -1) -> Any:
    return _cross(x1, x2, axis=axis)


def kron(a: Any, b: Any) -> Any:
    """Every element of a times all of b, as blocks: (i p) (j q) -> (i p, j q)."""
    a, b = operands(a, b)
    n = max(a.ndim, b.ndim)
    rows, columns = (1,) * (n - a.ndim) + tuple(a.shape), (1,) * (n - b.ndim) + tuple(b.shape)
    a = reshape(a, shape=tuple(size for i in rows for size in (i, 1)))
    b = reshape(b, shape=tuple(size for p in columns for size in (1, p)))
    return reshape(a * b, shape=tuple(i * p for i, p in zip(rows, columns, strict=True)))


def trace(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None, out: None = None) -> Any:
    """The sum of a diagonal."""
    return sum(diagonal(a, offset, axis1, axis2), axis=-1, dtype=dtype)


def _linalg_trace(x: Any, /, *, offset: int = 0, dtype: Any = None) -> Any:
    return sum(linalg_diagonal(x, offset=offset), axis=-1, dtype=dtype)


def _einsum(*args: Any, out: None = None, optimize: Any = False) -> Any:
    if isinstance(args[0], str):
        subscripts, arrays = args[0], operands(*args[1:])
    else:  # operand, its axes, operand, its axes, ..., perhaps the axes of the result
        arrays = operands(*args[: len(args) // 2 * 2 : 2])
        terms = ["".join("..." if i is Ellipsis else string.ascii_letters[i] for i in axes) for axes in args[1::2]]
        subscripts = ",".join(terms)
        if len(args) % 2:
            subscripts += "->" + "".join("..." if i is Ellipsis else string.ascii_letters[i] for i in args[-1])
    subscripts = _explicit(subscripts.replace(" ", ""), tuple(x.ndim for x in arrays))
    return einsum(*arrays, subscripts=subscripts, optimize=optimize)


@functools.lru_cache(maxsize=1024)
def _explicit(subscripts: str, ndims: tuple[int, ...]) -> str:
    """Write the ellipsis as letters that are not in use, and the result of a form without an arrow.

    Axes under an ellipsis are aligned at their ends. What NumPy would refuse is passed on, for NumPy to refuse.
    """
    inputs, arrow, output = subscripts.partition("->")
    terms = inputs.split(",")
    if len(terms) != len(ndims) or (arrow and "..." in inputs and "..." not in output):
        return subscripts
    unused = "".join(c for c in string.ascii_letters if c not in subscripts)
    widths = [ndim - len(term) + 3 if "..." in term else 0 for term, ndim in zip(terms, ndims, strict=True)]
    if min(widths, default=0) < 0:
        return subscripts
    shared = unused[: max(widths, default=0)]
    letters = [t.replace("...", shared[len(shared) - w :]) for t, w in zip(terms, widths, strict=True)]
    if not arrow:
        named = inputs.replace(",", "").replace(".", "")
        output = "..." + "".join(sorted(c for c in set(named) if named.count(c) == 1))
    return ",".join(letters) + "->" + output.replace("...", shared)


FUNCTIONS: Table = {
    np.cross: _cross, np.dot: dot, np.einsum: _einsum, np.inner: inner, np.kron: kron, np.linalg.cross: _linalg_cross,
    np.linalg.matmul: matmul, np.linalg.outer: outer, np.linalg.tensordot: _tensordot, np.linalg.trace: _linalg_trace,
    np.linalg.vecdot: _vecdot, np.matmul: matmul, np.outer: outer, np.tensordot: _tensordot, np.trace: trace, np.vdot: vdot,
    np.vecdot: _vecdot,
}  # fmt: skip
if hasattr(np, "matvec"):  # since NumPy 2.2
    FUNCTIONS |= {np.matvec: matvec, np.vecmat: vecmat}

# ----- Parts of rules -----


def adjoint(a: Any) -> Any:
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
    out = matmul(g, adjoint(y))  # (..., m, k)
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
    out = matmul(adjoint(x), g)  # (..., k, n)
    return squeeze(out, axis=-1) if len(like.shape) == 1 else out


def _contracted(axes: Any, x_ndim: int, y_ndim: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The axes of tensordot, in pairs, counted from the front."""
    if isinstance(axes, (int, np.integer)):
        return tuple(range(x_ndim - int(axes), x_ndim)), tuple(range(int(axes)))
    return normalize_axis_tuple(axes[0], x_ndim), normalize_axis_tuple(axes[1], y_ndim)


def _sorted_axes(out: Any, order: list[int]) -> Any:
    """Bring an array whose axis i is axis order[i] of the operand into the order of the operand."""
    return transpose(out, axes=tuple(order.index(a) for a in range(len(order))))


def _tensordot_left(g: Any, y: Any, like: Any, axes: Any) -> Any:
    """G has the free axes of x, then those of y: the latter go, and the contracted axes of y stand for those of x."""
    cx, cy = _contracted(axes, len(like.shape), y.ndim)
    free = [a for a in range(y.ndim) if a not in cy]
    out = tensordot(g, y.conjugate(), axes=(range(g.ndim - len(free), g.ndim), free))
    order = [a for a in range(len(like.shape)) if a not in cx] + [cx[cy.index(a)] for a in sorted(cy)]
    return _sorted_axes(out, order)


def _tensordot_right(g: Any, x: Any, like: Any, axes: Any) -> Any:
    cx, cy = _contracted(axes, x.ndim, len(like.shape))
    free = [a for a in range(x.ndim) if a not in cx]
    out = tensordot(x.conjugate(), g, axes=(free, range(len(free))))
    order = [cy[cx.index(a)] for a in sorted(cx)] + [a for a in range(len(like.shape)) if a not in cy]
    return _sorted_axes(out, order)


def _einsum_pull(g: Any, others: Any, position: int, like: Any, subscripts: str, optimize: Any) -> Any:
    """Exchange the operand for g in the product, and its letters for those of the result.

    A letter that only the operand has was summed: its cotangent is the same everywhere. A letter that the operand has
    twice took its diagonal: the cotangent goes there.
    """
    inputs, _, output = subscripts.partition("->")
    terms = inputs.split(",")
    term = terms[position]
    letters = "".join(dict.fromkeys(term))
    rest = [(t, x.conjugate()) for i, (t, x) in enumerate(zip(terms, others, strict=True)) if i != position]
    known = "".join(c for c in letters if c in output or any(c in t for t, _ in rest))
    form = ",".join([output, *(t for t, _ in rest)]) + "->" + known
    out = einsum(g, *(x for _, x in rest), subscripts=form, optimize=optimize)
    if known != letters:
        out = reshape(out, shape=tuple(out.shape[known.index(c)] if c in known else 1 for c in letters))
    if letters == term:
        return out
    sizes = dict(zip(term, like.shape, strict=True))
    out = out.broadcast_to(tuple(sizes[c] for c in letters))
    index = tuple(np.arange(sizes[c]).reshape([-1 if c == d else 1 for d in letters]) for c in term)
    return put(out, index=index, shape=like.shape)
