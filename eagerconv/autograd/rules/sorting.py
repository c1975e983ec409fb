"""Sorting, and the statistics that come from it: what is sorted moves, and its gradient moves back."""

from __future__ import annotations

from typing import Any

import numpy as np

from eagerconv.autograd.rules.indexing import getitem, take_along_axis
from eagerconv.autograd.rules.operands import Table, kept_shape, reduced_axes, value
from eagerconv.autograd.rules.reductions import mean
from eagerconv.autograd.rules.shapes import moveaxis, reshape
from eagerconv.autograd.rules.ufuncs import where
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


def _sorted_rows(a: Any, axis: Any) -> Any:
    """The elements that a reduction over `axis` reduces, sorted along one last axis."""
    axes = reduced_axes(a, axis)
    kept = a.ndim - len(axes)
    rows = moveaxis(a, axes, tuple(range(kept, a.ndim)))
    return sort(reshape(rows, shape=(*rows.shape[:kept], -1)), axis=-1)  # (..., n), NaN last


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
    q = np.asarray(value(q), a.dtype if isinstance(q, (int, float)) and a.dtype.kind == "f" else None)
    place = q * q.dtype.type(rows.shape[-1] - 1)
    below, above = np.floor(place), np.ceil(place)
    share = {"linear": place - below, "lower": 0 * place, "higher": above - below}
    share |= {"midpoint": q.dtype.type(0.5) * (above - below), "nearest": np.rint(place) - below}
    if method not in share:
        raise NotImplementedError(f"quantile has a derivative for the methods {tuple(share)}, not for {method!r}")
    rows = moveaxis(rows, -1, 0)  # (n, ...)
    low, high = (getitem(rows, index=i.astype(np.intp)) for i in (below, above))  # (*q, ...)
    t = share[method].reshape(q.shape + (1,) * (rows.ndim - 1))
    step = high - low
    out_ = where(t >= 0.5, high - step * (1 - t), low + step * t)  # from the nearer end
    if np.isnan(value(rows)).any():
        out_ = where(np.isnan(value(rows)[-1]), np.nan, out_)
    return reshape(out_, shape=q.shape + kept_shape(a, axis)) if keepdims else out_


def percentile(a: Any, q: Any, *args: Any, **kwargs: Any) -> Any:
    """Quantiles of shares in percent."""
    return quantile(a, np.asarray(value(q)) / 100, *args, **kwargs)


FUNCTIONS: Table = {
    np.sort: _sort, np.partition: partition, np.median: median, np.quantile: quantile, np.percentile: percentile,
}  # fmt: skip


def _finished(out: Any, rows: Any, a: Any, axis: Any, keepdims: bool) -> Any:
    """NaN where there was one, and the reduced axes if they are to stay."""
    last = value(rows)[..., -1]
    if np.isnan(last).any():
        out = where(np.isnan(last), np.nan, out)
    return reshape(out, shape=kept_shape(a, axis)) if keepdims else out
