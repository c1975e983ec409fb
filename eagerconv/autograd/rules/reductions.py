"""Reductions and running sums and products."""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from eagerconv.autograd.rules.operands import Table, kept_shape, narrow, reduced_axes, reduced_size, top, value, wide
from eagerconv.autograd.rules.shapes import _concatenate, _stack, flip, moveaxis, reshape, swapaxes
from eagerconv.autograd.rules.ufuncs import (
    _share,
    add,
    conj,
    equal,
    exp,
    isnan,
    maximum,
    minimum,
    multiply,
    real,
    sqrt,
    where,
)  # fmt: skip
from eagerconv.autograd.tape import Op, defvjp, inexact, linear

sum = linear(
    "sum",
    lambda a, axis=None, dtype=None, keepdims=False: _reduced(a.sum, a, axis, dtype, keepdims=keepdims),
    lambda g, like, axis: keep(g, like, axis),
)
mean = linear(
    "mean",
    lambda a, axis=None, dtype=None, keepdims=False: _reduced(a.mean, a, axis, dtype, keepdims=keepdims),
    lambda g, like, axis: keep(wide(g), like, axis) / reduced_size(like, axis),
)
prod = defvjp(
    "prod",
    lambda a, axis=None, dtype=None, keepdims=False: _reduced(a.prod, a, axis, dtype, keepdims=keepdims),
    lambda g, x, ans, like, axis: keep(g, like, axis) * conj(_prod_others(x, ans, axis)),
    jvp=lambda t, x, ans, axis, keepdims: sum(t * _prod_others(x, ans, axis), axis=axis, keepdims=keepdims),
)
var = defvjp(
    "var",
    lambda a, axis=None, dtype=None, ddof=0, keepdims=False: _reduced(
        a.var, a, axis, dtype, ddof=ddof, keepdims=keepdims
    ),
    lambda g, x, like, axis, ddof: keep(g, like, axis) * _var_slope(x, axis, ddof),
    jvp=lambda t, x, axis, ddof, keepdims: _along(t, _var_slope(x, axis, ddof), axis, keepdims),
)
std = defvjp(
    "std",
    lambda a, axis=None, dtype=None, ddof=0, keepdims=False: _reduced(
        a.std, a, axis, dtype, ddof=ddof, keepdims=keepdims
    ),
    lambda g, x, ans, like, axis, ddof: keep(g, like, axis) * _std_slope(x, ans, axis, ddof),
    jvp=lambda t, x, ans, axis, ddof, keepdims: _along(t, _std_slope(x, ans, axis, ddof), axis, keepdims),
)
max = defvjp(
    "max",
    lambda a, axis=None, keepdims=False: a.max(axis, keepdims=keepdims),
    lambda g, x, ans, axis, like: keep(g, like, axis) * _winners(x, ans, axis),
    jvp=lambda t, x, ans, axis, keepdims: sum(t * _winners(x, ans, axis), axis=axis, keepdims=keepdims),
)
min = defvjp(
    "min",
    lambda a, axis=None, keepdims=False: a.min(axis, keepdims=keepdims),
    lambda g, x, ans, axis, like: keep(g, like, axis) * _winners(x, ans, axis),
    jvp=lambda t, x, ans, axis, keepdims: sum(t * _winners(x, ans, axis), axis=axis, keepdims=keepdims),
)
cumsum: Op = linear(
    "cumsum",
    lambda a, axis=None, dtype=None: _reduced(a.cumsum, a, axis, dtype),
    lambda g, like, axis: _suffix_sums(g, like, axis),
)
cumprod: Op = defvjp(
    "cumprod",
    lambda a, axis=None, dtype=None: _reduced(a.cumprod, a, axis, dtype),
    lambda g, x, ans, like, axis: _cumprod_pull(wide(g), wide(x), wide(ans), like, axis),
)
logsumexp: Op = defvjp(
    "logsumexp",
    lambda x, axis=None, keepdims=False: _logsumexp(wide(x), axis, keepdims).astype(x.dtype, copy=False),
    lambda g, x, ans, axis, like: keep(g, like, axis) * _shares(x, ans, axis).conjugate(),
    jvp=lambda t, x, ans, axis, keepdims, like: sum(t * _shares(x, ans, axis), axis=axis, keepdims=keepdims),
)
softmax = defvjp(
    "softmax",
    lambda x, axis=-1: _softmax(x, axis),
    lambda g, ans, axis: ans * (g - sum(g * ans, axis=axis, keepdims=True)),
    jvp=lambda t, ans, axis: ans * (t - sum(t * ans, axis=axis, keepdims=True)),
)
log_softmax = defvjp(
    "log_softmax",
    lambda x, axis=-1: _log_softmax(x, axis),
    lambda g, ans, axis: g - exp(ans) * sum(g, axis=axis, keepdims=True),
    jvp=lambda t, ans, axis: t - sum(t * exp(ans), axis=axis, keepdims=True),
)

# ----- NumPy's signatures: `initial` and `where` -----


def _totals(row: Op, unit: int, join: Op) -> Callable[..., Any]:
    """Sum and prod: what `where` leaves out is the unit, and `initial` is one operand more."""

    def function(
        a: Any,
        axis: Any = None,
        dtype: Any = None,
        out: None = None,
        keepdims: Any = False,
        initial: Any = None,
        where: Any = True,
    ) -> Any:
        a = a if where is True else _where(where, a, _weak(unit, a))
        out = row(a, axis=axis, dtype=dtype, keepdims=keepdims)
        return out if initial is None else join(out, initial)

    return function


def _extrema(row: Op, join: Op) -> Callable[..., Any]:
    """Max and min: what `where` leaves out is `initial`."""

    def function(
        a: Any, axis: Any = None, out: None = None, keepdims: Any = False, initial: Any = None, where: Any = True
    ) -> Any:
        if initial is None:
            if where is not True:
                raise ValueError(f"{row.name}: where= needs initial=, the value where nothing is left")
            return row(a, axis=axis, keepdims=keepdims)
        initial = _weak(initial, a)
        a = a if where is True else _where(where, a, initial)
        if a.size == 0:  # a reduction of nothing is the initial value
            return sum(a, axis=axis, keepdims=keepdims) + initial
        return join(row(a, axis=axis, keepdims=keepdims), initial)

    return function


_where = where
_sum, _prod = _totals(sum, 0, add), _totals(prod, 1, multiply)
_max, _min = _extrema(max, maximum), _extrema(min, minimum)


def _mean(
    a: Any, axis: Any = None, dtype: Any = None, out: None = None, keepdims: Any = False, *, where: Any = True
) -> Any:
    if where is True:
        return mean(a, axis=axis, dtype=dtype, keepdims=keepdims)
    if narrow(a.dtype):  # which can't even count the elements
        return _mean(wide(a), axis, dtype, keepdims=keepdims, where=where).astype(a.dtype if dtype is None else dtype)
    total = _sum(a, axis, dtype, keepdims=keepdims, where=where)
    return total / _counted(a, axis, keepdims, where, total.dtype)


def _var(
    a: Any, axis: Any = None, dtype: Any = None, out: None = None, ddof: float = 0, keepdims: Any = False,
    *, where: Any = True, mean: Any = None, correction: float | None = None,
) -> Any:  # fmt: skip
    ddof = ddof if correction is None else correction
    if where is True and mean is None:
        return var(a, axis=axis, dtype=dtype, ddof=ddof, keepdims=keepdims)
    if narrow(a.dtype):
        spread = _var(wide(a), axis, dtype, ddof=ddof, keepdims=keepdims, where=where, mean=mean)
        return spread.astype(a.dtype if dtype is None else dtype)
    a = a if where is True else _where(where, a, _weak(0, a))  # what is left out has no slope, NaN or not
    d = a - (_mean(a, axis, dtype, keepdims=True, where=where) if mean is None else mean)
    total = _sum(real(conj(d) * d), axis, dtype, keepdims=keepdims, where=where)
    counted = reduced_size(a, axis) if where is True else _counted(a, axis, keepdims, where, total.dtype)
    return total / (builtins.max(counted - ddof, 0) if where is True else np.maximum(counted - ddof, 0))


def _std(
    a: Any, axis: Any = None, dtype: Any = None, out: None = None, ddof: float = 0, keepdims: Any = False,
    *, where: Any = True, mean: Any = None, correction: float | None = None,
) -> Any:  # fmt: skip
    if where is True and mean is None:
        ddof = ddof if correction is None else correction
        return std(a, axis=axis, dtype=dtype, ddof=ddof, keepdims=keepdims)
    v = _var(a, axis, dtype, ddof=ddof, keepdims=keepdims, where=where, mean=mean, correction=correction)
    return _where(equal(v, 0), 0 * v, sqrt(_where(equal(v, 0), 1, v)))  # slope 0 where all elements are equal


def _counted(a: Any, axis: Any, keepdims: Any, where: Any, dtype: Any) -> Any:
    """How many elements a mask leaves, as real numbers beside sums of `dtype`."""
    count = np.sum(np.broadcast_to(value(where), a.shape), axis=axis, keepdims=keepdims)
    return count.astype(np.empty(0, dtype).real.dtype) if inexact(dtype) else count


def _weak(number: Any, a: Any) -> Any:
    """A Python number in the dtype of a: NumPy does not take it for weakly typed beside bfloat16."""
    return a.dtype.type(number) if isinstance(number, (int, float)) and inexact(a.dtype) else number


def _ignoring_nan(function: Callable[..., Any]) -> Callable[..., Any]:
    def nan_function(a: Any, axis: Any = None, *args: Any, where: Any = True, **kwargs: Any) -> Any:
        return function(a, axis, *args, where=~isnan(a) & value(where), **kwargs)

    return nan_function


def _nan_extrema(function: Callable[..., Any], other_end: float) -> Callable[..., Any]:
    def nan_function(a: Any, axis: Any = None, out: None = None, keepdims: Any = False) -> Any:
        best = function(where(isnan(a), other_end, a), axis, keepdims=keepdims)
        nothing = np.all(np.isnan(value(a)), axis=axis, keepdims=keepdims)
        return where(nothing, np.nan, best) if nothing.any() else best

    return nan_function


# ----- Running sums and products -----


def _cumulative(row: Op, unit: int) -> Callable[..., Any]:
    """cumulative_sum and cumulative_prod of the array API standard."""

    def function(
        x: Any, /, *, axis: int | None = None, dtype: Any = None, out: None = None, include_initial: bool = False
    ) -> Any:
        if axis is None:
            if x.ndim > 1:
                raise ValueError(f"{row.name}: axis must be given for more than one axis, got shape {x.shape}")
            axis = 0
        total = row(x, axis=axis, dtype=dtype)
        if not include_initial:
            return total
        edge = [1 if a == axis % total.ndim else n for a, n in enumerate(total.shape)]
        return _concatenate([np.full_like(value(total), unit, shape=edge), total], axis)

    return function


def _nan_cumulative(row: Op, unit: int) -> Callable[..., Any]:
    def function(a: Any, axis: int | None = None, dtype: Any = None, out: None = None) -> Any:
        return row(where(isnan(a), unit, a), axis=axis, dtype=dtype)

    return function


FUNCTIONS: Table = {
    np.amax: _max, np.amin: _min, np.cumprod: cumprod, np.cumsum: cumsum, np.max: _max,
    np.mean: _mean, np.min: _min, np.nancumprod: _nan_cumulative(cumprod, 1), np.nancumsum: _nan_cumulative(cumsum, 0),
    np.nanmax: _nan_extrema(_max, -np.inf), np.nanmean: _ignoring_nan(_mean), np.nanmin: _nan_extrema(_min, np.inf),
    np.nanprod: _ignoring_nan(_prod), np.nanstd: _ignoring_nan(_std), np.nansum: _ignoring_nan(_sum),
    np.nanvar: _ignoring_nan(_var), np.prod: _prod, np.std: _std, np.sum: _sum, np.var: _var,
    np.cumulative_sum: _cumulative(cumsum, 0), np.cumulative_prod: _cumulative(cumprod, 1),
}  # fmt: skip

# ----- What the rows are made of -----


def _reduced(method: Any, a: Any, axis: Any, dtype: Any, **kwargs: Any) -> Any:
    """What an array's method gives; for narrow floats it works in float32, and the result is rounded once."""
    kind = a.dtype if dtype is None else np.dtype(dtype)
    if not narrow(kind):
        return method(axis, dtype, **kwargs)
    return method(axis, np.float32, **kwargs).astype(kind)


def _shares(x: Any, ans: Any, axis: Any) -> Any:
    """What each element adds to a sum of exponentials whose logarithm is `ans`; that must be no rounded one."""
    if narrow(x.dtype):
        x = wide(x)
        ans = logsumexp(x, axis=axis)
    return exp(x - keep(ans, x, axis))


def keep(g: Any, like: Any, axis: Any) -> Any:
    """Give a reduced array its summed axes back, of length one."""
    return reshape(g, shape=kept_shape(like, axis))


def _along(t: Any, slope: Any, axis: Any, keepdims: Any) -> Any:
    """The change of a real result whose gradient is `slope`."""
    return real(sum(conj(slope) * t, axis=axis, keepdims=keepdims))


def _var_slope(x: Any, axis: Any, ddof: float) -> Any:
    divisor = reduced_size(x, axis) - ddof
    x = wide(x)
    return (x - mean(x, axis=axis, keepdims=True)) * (2 / divisor if divisor > 0 else math.nan)


def _std_slope(x: Any, ans: Any, axis: Any, ddof: float) -> Any:
    """D std = d var / (2 std), and 0 where all elements are equal."""
    ans = keep(wide(ans), x, axis)
    return _share(_var_slope(x, axis, ddof), 2 * ans)


def _winners(x: Any, ans: Any, axis: Any) -> Any:
    """Which elements are the extremum, as weights that share it equally among ties; NaN is the extremum where there is one."""
    top = keep(ans, x, axis)
    ties = (equal(x, top) | (isnan(x) & isnan(top))).astype(np.float32 if narrow(x.dtype) else x.dtype)
    return ties / maximum(sum(ties, axis=axis, keepdims=True), 1)


def _prod_others(x: Any, ans: Any, axis: Any) -> Any:
    """The product of all other elements: the whole over each, where that is a number of full precision other than 0."""
    whole = value(ans)
    if narrow(x.dtype) or not (np.isfinite(whole) & (whole != 0)).all():
        return prod_others(wide(x), axis)
    return keep(ans, x, axis) / x


def prod_others(x: Any, axis: Any) -> Any:
    """The product of all other elements, as those before times those after."""
    axes = reduced_axes(x, axis)
    ends = tuple(range(x.ndim - len(axes), x.ndim))
    rows = moveaxis(x, axes, ends)
    flat = reshape(rows, shape=(*rows.shape[: x.ndim - len(axes)], -1))  # (..., n)
    one = np.ones_like(value(flat)[..., :1])
    before = cumprod(_concatenate([one, flat[..., :-1]], -1), axis=-1)
    after = flip(cumprod(_concatenate([one, flip(flat[..., 1:], -1)], -1), axis=-1), -1)
    return moveaxis(reshape(before * after, shape=rows.shape), ends, axes)


def _suffix_sums(g: Any, like: Any, axis: Any) -> Any:
    a = 0 if axis is None else axis
    return reshape(flip(cumsum(flip(g, a), axis=a), a), shape=like.shape)


def _cumprod_pull(g: Any, x: Any, ans: Any, like: Any, axis: Any) -> Any:
    """The cotangent of x[i] is the sum over k >= i of g[k] y[k] / x[i]; where that is 0/0, or out of range, by the recurrence.

    y[i - 1] s[i]  with  s[i] = g[i] + x[i + 1] s[i + 1].
    """
    if narrow(like.dtype):
        ans = cumprod(x, axis=axis)  # which was rounded
    if (np.isfinite(value(ans)) & (value(ans) != 0)).all():
        return _suffix_sums(g * conj(ans), like, axis) / conj(x)
    a = 0 if axis is None else axis
    rows, g, ans = (swapaxes(reshape(v, shape=ans.shape), a, -1) for v in (conj(x), g, conj(ans)))  # (..., n)
    one = np.ones_like(value(ans)[..., :1])
    s = flip(_recurrence(flip(g, -1), _concatenate([one, flip(rows[..., 1:], -1)], -1)), -1)
    before = _concatenate([one, ans[..., :-1]], -1)
    return reshape(swapaxes(before * s, a, -1), shape=like.shape)


def _recurrence(h: Any, c: Any) -> Any:
    """Solve r[j] = h[j] + c[j] r[j - 1] along the last axis, in steps that double: each joins the d terms before.

    Products of c that overflow would make NaN of an r that is 0: then one after another.
    """
    n, terms, products, d = h.shape[-1], h, c, 1
    with np.errstate(over="ignore", invalid="ignore"):
        while d < n:
            terms = _concatenate([terms[..., :d], terms[..., d:] + products[..., d:] * terms[..., :-d]], -1)
            products = _concatenate([products[..., :d], products[..., d:] * products[..., :-d]], -1)
            d *= 2
    if np.isfinite(value(products)).all():
        return terms
    r = [h[..., 0]]
    for j in range(1, n):
        r.append(h[..., j] + c[..., j] * r[-1])
    return _stack(r, -1)


def _logsumexp(x: Any, axis: Any, keepdims: bool) -> Any:
    largest = top(x.real, axis)
    largest = np.where(np.isfinite(largest), largest, np.zeros_like(largest))  # all -inf: log(0) below is the answer
    with np.errstate(divide="ignore"):
        out = np.log(np.sum(np.exp(x - largest), axis=axis, keepdims=True)) + largest
    return out if keepdims else np.squeeze(out, axis=axis)


def _log_softmax(x: Any, axis: Any) -> Any:
    """The largest number goes first: that and the logarithm of the sum together cancel digits of large numbers."""
    below = x - top(x, axis)
    with np.errstate(divide="ignore"):  # of no numbers at all
        return below - np.log(np.sum(np.exp(below), axis=axis, keepdims=True))


def _softmax(x: Any, axis: Any) -> Any:
    e = np.exp(x - top(x, axis))
    e /= np.sum(e, axis=axis, keepdims=True)
    return e
