"""Differences, integrals, interpolation, and sums of shifted products on one axis."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from eagerconv.autograd.rules.indexing import along, getitem
from eagerconv.autograd.rules.operands import Table, operand, operands, value, widely
from eagerconv.autograd.rules.reductions import sum
from eagerconv.autograd.rules.shapes import (
    _concatenate,
    astype,
    at_least,
    broadcast_to,
    flip,
    moveaxis,
    pad,
    ravel,
    reshape,
)
from eagerconv.autograd.rules.ufuncs import power, remainder, where
from eagerconv.autograd.tape import Op, multilinear

convolve: Op = multilinear(  # full[n] = sum_k x[k] y[n - k], of which a mode is a part: g, put there, meets the other
    "convolve",
    lambda a, v, mode="full": widely(np.convolve, a, v, mode=mode),
    lambda g, y, like, mode: _meet(g, y, like.shape[0], mode),
    lambda g, x, like, mode: _meet(g, x, like.shape[0], mode),
)


def _convolve(a: Any, v: Any, mode: str = "full") -> Any:
    """The sums of shifted products; a number is an array of one."""
    return convolve(*(at_least(x, 1) for x in operands(a, v)), mode=mode)


def correlate(a: Any, v: Any, mode: str = "valid") -> Any:
    """Correlation: sum_n a[n + k] conj(v[n])."""
    a, v = (at_least(x, 1) for x in operands(a, v))
    if v.size > a.size:  # NumPy exchanges them, and turns the result around
        return flip(convolve(v.conjugate(), flip(a), mode=mode))
    return convolve(a, flip(v.conjugate()), mode=mode)


def diff(a: Any, n: int = 1, axis: int = -1, prepend: Any = None, append: Any = None) -> Any:
    """Differences of neighbours, n times."""
    a = operand(a)
    axis = normalize_axis_index(axis, a.ndim)
    edge = tuple(1 if i == axis else m for i, m in enumerate(a.shape))
    ends = [None if x is None else operands(a, x)[1] for x in (prepend, append)]
    ends = [broadcast_to(x, shape=edge) if x is not None and x.ndim == 0 else x for x in ends]
    parts = [x for x in (ends[0], a, ends[1]) if x is not None]
    a = a if len(parts) == 1 else _concatenate(parts, axis)
    for _ in range(n):
        a = getitem(a, index=along(axis, slice(1, None))) - getitem(a, index=along(axis, slice(-1)))
    return a


def ediff1d(ary: Any, to_end: Any = None, to_begin: Any = None) -> Any:
    """Differences of neighbours of the flat array, with something before and after."""
    steps = diff(ravel(operand(ary)))
    ends = [None if x is None else astype(operands(steps, x)[1], dtype=steps.dtype) for x in (to_begin, to_end)]
    return _concatenate([x for x in (ends[0], steps, ends[1]) if x is not None], None)


def trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Any:
    """The integral by the trapezoidal rule."""
    y = operand(y)
    axis = normalize_axis_index(axis, y.ndim)
    if x is not None:
        dx = diff(x, axis=-1 if operand(x).ndim == 1 else axis)
        if dx.ndim == 1:
            dx = reshape(dx, shape=tuple(-1 if a == axis else 1 for a in range(y.ndim)))
    right, left = getitem(y, index=along(axis, slice(1, None))), getitem(y, index=along(axis, slice(-1)))
    return sum(dx * (right + left) / 2.0, axis=axis)


def gradient(f: Any, *varargs: Any, axis: Any = None, edge_order: int = 1) -> Any:
    """Central differences along some axes, on even or uneven spacings, one-sided at the ends."""
    axes = tuple(range(f.ndim)) if axis is None else normalize_axis_tuple(axis, f.ndim)
    if len(varargs) not in (0, 1, len(axes)) or (len(varargs) == 1 < len(axes) and np.ndim(value(varargs[0]))):
        raise TypeError(f"gradient: expected no spacing, one number, or one for each of {len(axes)} axes")
    spacings = varargs * (len(axes) // len(varargs)) if varargs else (1.0,) * len(axes)
    out = tuple(_slopes(f, dx, a, edge_order) for a, dx in zip(axes, spacings, strict=True))
    return out[0] if len(out) == 1 else out


def _slopes(f: Any, spacing: Any, axis: int, edge_order: int) -> Any:
    """Derivatives of the parabola through three neighbours: a f[i - 1] + b f[i] + c f[i + 1], h1 before and h2 after."""
    n = f.shape[axis]
    if n < edge_order + 1:
        raise ValueError(f"gradient: axis {axis} of length {n} is too short for edge_order={edge_order}")

    def at(*slices: Any) -> list[Any]:
        return [getitem(f, index=along(axis, s)) for s in slices]

    first, second, last, before = at(slice(0, 1), slice(1, 2), slice(-1, None), slice(-2, -1))
    left, middle, right = at(slice(None, -2), slice(1, -1), slice(2, None))
    if np.ndim(value(spacing)) == 0:
        h1 = h2 = start = end = spacing
        inside = (right - left) / (2.0 * spacing)
    else:
        h = reshape(diff(spacing), shape=tuple(-1 if a == axis else 1 for a in range(f.ndim)))
        h1, h2 = (getitem(h, index=along(axis, s)) for s in (slice(None, -1), slice(1, None)))
        start, end = (getitem(h, index=along(axis, s)) for s in (slice(0, 1), slice(-1, None)))
        a, b, c = -h2 / (h1 * (h1 + h2)), (h2 - h1) / (h1 * h2), h1 / (h2 * (h1 + h2))
        inside = a * left + b * middle + c * right
    if edge_order == 1:
        return _concatenate([(second - first) / start, inside, (last - before) / end], axis)
    # The same parabola, at its ends.
    third, earlier = at(slice(2, 3), slice(-3, -2))
    if start is not spacing:
        h1, h2 = (getitem(h, index=along(axis, s)) for s in (slice(0, 1), slice(1, 2)))
    a, b, c = -(2 * h1 + h2) / (h1 * (h1 + h2)), (h1 + h2) / (h1 * h2), -h1 / (h2 * (h1 + h2))
    head = a * first + b * second + c * third
    if start is not spacing:
        h1, h2 = (getitem(h, index=along(axis, s)) for s in (slice(-2, -1), slice(-1, None)))
    a, b, c = h2 / (h1 * (h1 + h2)), -(h2 + h1) / (h1 * h2), (2 * h2 + h1) / (h2 * (h1 + h2))
    return _concatenate([head, inside, a * earlier + b * before + c * last], axis)


def interp(x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: float | None = None) -> Any:
    """The line through the points next to x, and the values at the ends outside of them; in double precision."""
    x, xp, fp = (astype(v, dtype=np.result_type(v.dtype, float)) for v in operands(x, xp, fp))
    if period is not None:
        x, xp = remainder(x, abs(period)), remainder(xp, abs(period))
        order = np.argsort(value(xp))
        xp, fp = getitem(xp, index=order), getitem(fp, index=order)
        xp = _concatenate([xp[-1:] - abs(period), xp, xp[:1] + abs(period)])
        fp = _concatenate([fp[-1:], fp, fp[:1]])
    if xp.size == 1:
        inside = fp[0] + 0 * x
    else:
        i = np.clip(np.searchsorted(value(xp), value(x), side="right") - 1, 0, xp.size - 2)
        x0, x1, f0, f1 = (getitem(v, index=k) for v in (xp, fp) for k in (i, i + 1))
        inside = (f1 - f0) / (x1 - x0) * (x - x0) + f0
    inside = where(x < xp[0], fp[0] if left is None else left, inside)
    inside = where(x == xp[-1], fp[-1], inside)
    return where(x > xp[-1], fp[-1] if right is None else right, inside)


def linspace(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, retstep: bool = False, dtype: None = None,
    axis: int = 0, *, device: Any = None,
) -> Any:  # fmt: skip
    """Evenly spaced numbers from start to stop."""
    if dtype is not None:
        raise NotImplementedError("linspace has no derivative in a dtype of its own")
    start, stop = (v * 1.0 if isinstance(v, (int, float, complex)) else operand(v) * 1.0 for v in (start, stop))
    count = num - 1 if endpoint else num
    step = (stop - start) / (count if count > 0 else np.nan)
    k = np.arange(num, dtype=value(step).real.dtype, like=value(step)).reshape(-1, *(1,) * step.ndim)
    out = moveaxis((step if count > 0 else 0 * (stop - start)) * k + start, 0, axis)
    return (out, step) if retstep else out


def logspace(start: Any, stop: Any, num: int = 50, endpoint: bool = True, base: Any = 10.0) -> Any:
    """Numbers whose logarithms are evenly spaced from start to stop."""
    return power(base, linspace(start, stop, num, endpoint))


def polyval(p: Any, x: Any) -> Any:
    """A polynomial, from its coefficients, the highest first."""
    p, x = operands(p, x)
    y = 0 * x
    for i in range(p.shape[0]):
        y = y * x + p[i]
    return y


FUNCTIONS: Table = {
    np.convolve: _convolve, np.correlate: correlate, np.diff: diff, np.ediff1d: ediff1d, np.gradient: gradient,
    np.interp: interp, np.linspace: linspace, np.logspace: logspace, np.polyval: polyval, np.trapezoid: trapezoid,
}  # fmt: skip


def _meet(g: Any, other: Any, n: int, mode: Any) -> Any:
    """The cotangent of an operand of length n: gx[k] = sum_m full_g[m] conj(other[m - k])."""
    m = other.shape[0]
    if mode != "full":
        cut = n + m - 1 - g.shape[0]
        before = min(n, m) - 1 if mode == "valid" else cut // 2
        g = pad(g, widths=((before, cut - before),))
    return convolve(g, flip(other.conjugate()), mode="valid")
