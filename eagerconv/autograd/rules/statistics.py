"""Statistics that are made of several reductions, of sorted elements, or of products."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np

from eagerconv.autograd.rules.indexing import getitem, put
from eagerconv.autograd.rules.operands import (
    Table,
    kept_shape,
    narrow,
    operand,
    reduced_axes,
    reduced_size,
    top,
    value,
    wide,
)
from eagerconv.autograd.rules.products import adjoint, matmul
from eagerconv.autograd.rules.reductions import max, mean, min, sum
from eagerconv.autograd.rules.shapes import _concatenate, astype, at_least, diagonal, moveaxis, reshape, squeeze
from eagerconv.autograd.rules.sorting import sort
from eagerconv.autograd.rules.ufuncs import real, sqrt, where


def ptp(a: Any, axis: Any = None, out: None = None, keepdims: Any = False) -> Any:
    """The range: the largest element less the smallest."""
    return max(a, axis=axis, keepdims=keepdims) - min(a, axis=axis, keepdims=keepdims)


def average(a: Any, axis: Any = None, weights: Any = None, returned: bool = False, *, keepdims: Any = False) -> Any:
    """The mean with weights."""
    if narrow(a.dtype):
        kind = a.dtype if weights is None else np.result_type(value(a), value(weights))
        out, total = average(wide(a), axis, weights, True, keepdims=keepdims)
        return (out.astype(kind), total.astype(kind)) if returned else out.astype(kind)
    if weights is None:
        weights = np.ones((), value(a).dtype)
    elif np.shape(value(weights)) != a.shape:  # one weight for each place along the reduced axes
        axes = reduced_axes(a, axis)
        weights = reshape(weights, shape=tuple(n if i in axes else 1 for i, n in enumerate(a.shape)))
    total = sum(weights * (a * 0 + 1), axis=axis, keepdims=keepdims)
    out = sum(a * weights, axis=axis, keepdims=keepdims) / total
    return (out, total) if returned else out


def _sorted_rows(a: Any, axis: Any) -> Any:
    """The elements that a reduction over `axis` reduces, sorted along one last axis."""
    axes = reduced_axes(a, axis)
    kept = a.ndim - len(axes)
    rows = moveaxis(a, axes, tuple(range(kept, a.ndim)))
    return sort(reshape(rows, shape=(*rows.shape[:kept], reduced_size(a, axis))), axis=-1)  # (..., n), NaN last


def median(a: Any, axis: Any = None, out: None = None, overwrite_input: bool = False, keepdims: bool = False) -> Any:
    """The element in the middle, or the mean of two."""
    rows = _sorted_rows(a, axis)
    n = rows.shape[-1]
    return _finished(mean(rows[..., (n - 1) // 2 : n // 2 + 1], axis=-1), rows, a, axis, keepdims)


def quantile(
    a: Any, q: Any, axis: Any = None, out: None = None, overwrite_input: bool = False, method: str = "linear",
    keepdims: bool = False,
) -> Any:  # fmt: skip
    """The elements below which a share q of all lies; "linear" between two, or one of them, or their middle."""
    rows = _sorted_rows(a, axis)
    dtype = a.dtype if isinstance(q, (int, float)) and a.dtype.kind == "f" else None
    q = np.asarray(value(q), dtype, like=value(a))
    place = q * q.dtype.type(rows.shape[-1] - 1)
    below, above = np.floor(place), np.ceil(place)
    share = {"linear": place - below, "lower": 0 * place, "higher": above - below}
    share |= {"midpoint": q.dtype.type(0.5) * (above - below), "nearest": np.rint(place) - below}
    if method not in share:
        raise NotImplementedError(f"quantile has a derivative for the methods {tuple(share)}, not for {method!r}")
    rows = moveaxis(rows, -1, 0)  # (n, ...)
    low, high = (getitem(rows, index=(i.astype(np.intp), ...)) for i in (below, above))  # (*q, ...)
    t = share[method].reshape(q.shape + (1,) * (rows.ndim - 1))
    step = high - low
    out_ = where(t >= 0.5, high - step * (1 - t), low + step * t)  # from the nearer end
    if np.isnan(value(rows)).any():
        out_ = where(np.isnan(value(rows)[-1]), np.nan, out_)
    return reshape(out_, shape=q.shape + kept_shape(a, axis)) if keepdims else out_


def percentile(a: Any, q: Any, *args: Any, **kwargs: Any) -> Any:
    """Quantiles of shares in percent."""
    return quantile(a, np.asarray(value(q), like=value(a)) / 100, *args, **kwargs)


def cov(
    m: Any, y: Any = None, rowvar: bool = True, bias: bool = False, ddof: float | None = None
) -> Any:  # fmt: skip
    """The covariances of the rows, each a variable; in double precision."""
    x = _variables(m, rowvar)
    x = x if y is None else _concatenate([x, _variables(y, rowvar)], 0)
    x = x - mean(x, axis=1, keepdims=True)
    ddof = (0 if bias else 1) if ddof is None else ddof
    return squeeze(matmul(x, adjoint(x)) / builtins.max(x.shape[1] - ddof, 0))


def _variables(m: Any, rowvar: bool) -> Any:
    m = operand(m)
    m = astype(m, dtype=np.result_type(m.dtype, float))
    return at_least(m, 2) if rowvar or m.ndim < 2 else moveaxis(m, 0, 1)


def corrcoef(x: Any, y: Any = None, rowvar: bool = True) -> Any:
    """The correlation coefficients of the rows, each a variable."""
    c = cov(x, y, rowvar)
    if c.ndim == 0:
        return c / c
    spread = sqrt(real(diagonal(c)))
    return c / spread[:, None] / spread[None, :]


def bincount(x: Any, /, weights: Any = None, minlength: int = 0) -> Any:
    """The sums of the weights that belong to each number."""
    numbers = operand(value(x))
    if weights is None:
        return np.bincount(numbers, minlength=minlength)
    n = int(numbers.max()) + 1 if numbers.size else 0
    return put(
        astype(operand(weights), dtype=np.dtype(float)), index=numbers, shape=(n if n > minlength else minlength,)
    )


FUNCTIONS: Table = {
    np.average: average, np.bincount: bincount, np.corrcoef: corrcoef, np.cov: cov, np.median: median,
    np.percentile: percentile, np.ptp: ptp, np.quantile: quantile,
}  # fmt: skip

# ----- Parts -----


def _finished(out: Any, rows: Any, a: Any, axis: Any, keepdims: bool) -> Any:
    """NaN where there was one, and the reduced axes if they are to stay."""
    last = top(value(rows)[..., -1:], -1, keepdims=False)
    if np.isnan(last).any():
        out = where(np.isnan(last), np.nan, out)
    return reshape(out, shape=kept_shape(a, axis)) if keepdims else out
