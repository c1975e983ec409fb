"""The rule tables: every everyday operation on one row, with its derivative beside it.

How to read and write a row is told by `tape.Op`: the parameter names of a rule say what it is given, and whatever
broadcasts or changes dtype needs no mention. Rules use the operations of this file only, so every row can be
differentiated again. tests/test_rules.py checks each row, in both modes and to second order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from eagerconv.autograd.tape import Op, defvjp, elementwise, linear, multilinear

# ----- Arithmetic -----

add = elementwise("add", np.add, 1, 1)
subtract = elementwise("subtract", np.subtract, 1, -1)
multiply = elementwise("multiply", np.multiply, lambda y: y, lambda x: x)
divide = elementwise("divide", np.true_divide, lambda y: 1 / y, lambda y, ans: -ans / y)
negative = elementwise("negative", np.negative, -1)
power = elementwise("power", np.power, lambda x, y: _power_base(x, y), lambda x, ans: ans * log(where(x == 0, 1, x)))
exp = elementwise("exp", np.exp, lambda ans: ans)
log: Op = elementwise("log", np.log, lambda x: 1 / x)
sqrt = elementwise("sqrt", np.sqrt, lambda ans: 0.5 / ans)
sin = elementwise("sin", np.sin, lambda x: cos(x))
cos: Op = elementwise("cos", np.cos, lambda x: -sin(x))
tanh = elementwise("tanh", np.tanh, lambda ans: 1 - ans * ans)
sigmoid = elementwise("sigmoid", lambda x: _sigmoid(x), lambda ans: ans * (1 - ans))
relu = elementwise("relu", lambda x: np.maximum(x, 0), lambda ans: ans > 0)
maximum = elementwise(
    "maximum",
    np.maximum,
    lambda x, y, like: _halve_ties(x > y, x == y, like),
    lambda x, y, like: _halve_ties(y > x, x == y, like),
)
minimum = elementwise(
    "minimum",
    np.minimum,
    lambda x, y, like: _halve_ties(x < y, x == y, like),
    lambda x, y, like: _halve_ties(y < x, x == y, like),
)
where: Op = elementwise("where", np.where, None, lambda x: not_equal(x, 0), lambda x: equal(x, 0))
clip = elementwise("clip", np.clip, lambda x, y, z: (x >= y) & (x <= z), lambda x, y: x < y, lambda x, z: x > z)
sign = elementwise("sign", np.sign, 0)  # and its kin: the derivative is zero wherever there is one
floor = elementwise("floor", np.floor, 0)
ceil = elementwise("ceil", np.ceil, 0)
round = elementwise("round", np.rint, 0)

# ----- Complex numbers, dtypes, copies -----

conj: Op = linear("conj", np.conj, lambda g: conj(g))
real = linear("real", np.real, lambda g: g, view=True)
imag = linear("imag", np.imag, lambda g: 1j * g, view=True)  # <v, Im u> = Re(conj(iv) u)
absolute = elementwise("absolute", np.absolute, lambda x, ans: _direction(x, ans))
astype = linear("astype", lambda x, dtype: x.astype(dtype), lambda g: g)
alias = linear("alias", lambda x: x, lambda g: g, view=True)
copy = linear("copy", lambda x: x.copy(), lambda g: g)

# ----- Comparisons and logic: the results are not differentiable -----

equal: Op = defvjp("equal", np.equal)
not_equal: Op = defvjp("not_equal", np.not_equal)
less = defvjp("less", np.less)
less_equal = defvjp("less_equal", np.less_equal)
greater = defvjp("greater", np.greater)
greater_equal = defvjp("greater_equal", np.greater_equal)
logical_and = defvjp("logical_and", np.bitwise_and)
logical_or = defvjp("logical_or", np.bitwise_or)
logical_not = defvjp("logical_not", np.invert)

# ----- Reductions -----

sum = linear(
    "sum",
    lambda x, axis=None, keepdims=False: np.sum(x, axis=axis, keepdims=keepdims),
    lambda g, like, axis: _keep(g, like, axis),
)
mean = linear(
    "mean",
    lambda x, axis=None, keepdims=False: np.mean(x, axis=axis, keepdims=keepdims),
    lambda g, like, axis: _keep(g, like, axis) / _count(like, axis),
)
max = defvjp(
    "max",
    lambda x, axis=None, keepdims=False: np.max(x, axis=axis, keepdims=keepdims),
    lambda g, x, ans, axis, like: _keep(g, like, axis) * _winners(x, ans, axis),
    jvp=lambda t, x, ans, axis, keepdims: sum(t * _winners(x, ans, axis), axis=axis, keepdims=keepdims),
)
min = defvjp(
    "min",
    lambda x, axis=None, keepdims=False: np.min(x, axis=axis, keepdims=keepdims),
    lambda g, x, ans, axis, like: _keep(g, like, axis) * _winners(x, ans, axis),
    jvp=lambda t, x, ans, axis, keepdims: sum(t * _winners(x, ans, axis), axis=axis, keepdims=keepdims),
)
logsumexp = defvjp(
    "logsumexp",
    lambda x, axis=None, keepdims=False: _logsumexp(x, axis, keepdims),
    lambda g, x, ans, axis, like: _keep(g, like, axis) * exp(x - _keep(ans, like, axis)),
    jvp=lambda t, x, ans, axis, keepdims, like: sum(t * exp(x - _keep(ans, like, axis)), axis=axis, keepdims=keepdims),
)
softmax = defvjp(
    "softmax",
    lambda x, axis=-1: _softmax(x, axis),
    lambda g, ans, axis: ans * (g - sum(g * ans, axis=axis, keepdims=True)),
    jvp=lambda t, ans, axis: ans * (t - sum(t * ans, axis=axis, keepdims=True)),
)
log_softmax = defvjp(
    "log_softmax",
    lambda x, axis=-1: x - _logsumexp(x, axis, True),
    lambda g, ans, axis: g - exp(ans) * sum(g, axis=axis, keepdims=True),
    jvp=lambda t, ans, axis: t - sum(t * exp(ans), axis=axis, keepdims=True),
)

# ----- Products -----

matmul = multilinear(
    "matmul", np.matmul, lambda g, y, like: _matmul_left(g, y, like), lambda g, x, like: _matmul_right(g, x, like)
)

# ----- Shapes -----

reshape: Op = linear(
    "reshape", lambda x, shape: np.reshape(x, shape), lambda g, like: reshape(g, shape=like.shape), view=True
)
transpose: Op = linear(
    "transpose",
    lambda x, axes=None: np.transpose(x, axes),
    lambda g, axes: transpose(g, axes=_inverse(axes)),
    view=True,
)
expand_dims = linear(
    "expand_dims", lambda x, axis: np.expand_dims(x, axis), lambda g, like: reshape(g, shape=like.shape), view=True
)
squeeze = linear(
    "squeeze", lambda x, axis=None: np.squeeze(x, axis), lambda g, like: reshape(g, shape=like.shape), view=True
)
broadcast_to = linear("broadcast_to", lambda x, shape: np.broadcast_to(x, shape), lambda g: g, view=True)
concatenate = defvjp(  # bounds[i]:bounds[i + 1] is the place of operand i along the axis
    "concatenate",
    lambda *operands, axis, bounds: np.concatenate(operands, axis),
    lambda g, position, axis, bounds: getitem(
        g, index=(slice(None),) * axis + (slice(bounds[position], bounds[position + 1]),)
    ),
)
stack = defvjp(
    "stack",
    lambda *operands, axis: np.stack(operands, axis),
    lambda g, position, axis: getitem(g, index=(slice(None),) * axis + (position,)),
)
pad: Op = defvjp(  # widths: one (before, after) per axis
    "pad",
    lambda x, widths, value=0: np.pad(x, widths, constant_values=value),
    lambda g, widths, like: getitem(
        g, index=tuple(slice(b, b + n) for (b, _), n in zip(widths, like.shape, strict=True))
    ),
    jvp=lambda t, widths: pad(t, widths=widths),
)

# ----- Indexing: getitem and put are each other's transposes, as are sliding_windows and overlap_add -----

getitem: Op = linear(
    "getitem", lambda x, index: x[index], lambda g, index, like: put(g, index=index, shape=like.shape), view=True
)
put: Op = linear("put", lambda v, index, shape: _put(v, index, shape), lambda g, index: getitem(g, index=index))
setitem: Op = defvjp(
    "setitem",
    lambda x, v, index: _setitem(x, v, index),
    lambda g, index: setitem(g, 0, index=index),
    lambda g, index: getitem(g, index=index) * _last_writers(g, index),
)
sliding_windows = linear(
    "sliding_windows",
    lambda x, window, stride: _sliding_windows(x, window, stride),
    lambda g, window, stride, like: overlap_add(g, window=window, stride=stride, shape=like.shape),
    view=True,
)
overlap_add: Op = linear(
    "overlap_add",
    lambda w, window, stride, shape: _overlap_add(w, window, stride, shape),
    lambda g, window, stride: sliding_windows(g, window=window, stride=stride),
)


def var(x: Any, axis: Any = None, ddof: int = 0, keepdims: bool = False) -> Any:
    """Mean squared distance from the mean: no row of its own, the rows it is made of suffice."""
    d = x - mean(x, axis=axis, keepdims=True)
    return sum(real(d * d.conjugate()), axis=axis, keepdims=keepdims) / (_count(x, axis) - ddof)


# ----- What the rows are made of: array functions first, then parts of rules -----


def _sigmoid(x: Any) -> Any:
    e = np.exp(-np.abs(x))  # never overflows
    return np.where(x >= 0, 1, e) / (1 + e)


def _logsumexp(x: Any, axis: Any, keepdims: bool) -> Any:
    top = np.max(x, axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, np.zeros_like(top))  # all -inf: log(0) below is the answer
    with np.errstate(divide="ignore"):
        out = np.log(np.sum(np.exp(x - top), axis=axis, keepdims=True)) + top
    return out if keepdims else np.squeeze(out, axis=axis)


def _softmax(x: Any, axis: Any) -> Any:
    e = np.exp(x - np.max(x, axis=axis, keepdims=True))
    e /= np.sum(e, axis=axis, keepdims=True)
    return e


def _basic(index: Any) -> bool:
    """Whether NumPy would answer this index with a view: then no element is met twice."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(part is None or part is Ellipsis or isinstance(part, (int, np.integer, slice)) for part in parts)


def _put(v: Any, index: Any, shape: tuple[int, ...]) -> Any:
    out = np.zeros_like(v, shape=shape)
    if _basic(index):
        out[index] = v
    else:
        np.add.at(out, index, v)
    return out


def _setitem(x: Any, v: Any, index: Any) -> Any:
    out = x.copy()
    out[index] = v
    return out


def _last_writers(g: Any, index: Any) -> Any:
    """1 where an assigned value is still there at the end: of several values for one element the last one stays."""
    if _basic(index):
        return 1
    order = np.zeros(g.shape, np.intp)
    count = np.arange(order[index].size).reshape(order[index].shape)
    order[index] = count
    return order[index] == count


def _sliding_windows(x: Any, window: tuple[int, ...], stride: tuple[int, ...]) -> Any:
    d = len(window)
    view = np.lib.stride_tricks.sliding_window_view(x, window, axis=tuple(range(x.ndim - d, x.ndim)))
    index: Any = (..., *(slice(None, None, s) for s in stride), *(slice(None),) * d)
    return view[index]


def _overlap_add(w: Any, window: tuple[int, ...], stride: tuple[int, ...], shape: tuple[int, ...]) -> Any:
    out = np.zeros_like(w, shape=shape)
    sizes = w.shape[w.ndim - 2 * len(window) : w.ndim - len(window)]
    for k in np.ndindex(*window):  # i = o * stride + k on every axis
        place: Any = (..., *(slice(k_, k_ + (o - 1) * s + 1, s) for k_, o, s in zip(k, sizes, stride, strict=True)))
        out[place] += w[(..., *k)]
    return out


def _power_base(x: Any, y: Any) -> Any:
    """d(x**y)/dx = y x**(y - 1), and 0 where y = 0, whatever x is."""
    if isinstance(y, (int, float, complex)):
        return y * power(x, y - 1) if y != 0 else 0
    return y * power(x, where(equal(y, 0), 1, y) - 1)


def _halve_ties(wins: Any, ties: Any, like: Any) -> Any:
    return where(ties, np.asarray(0.5, like.dtype), wins)


def _direction(x: Any, ans: Any) -> Any:
    """The partial derivative of |x|: the sign, and for complex x its conjugate direction (0 at 0)."""
    return conj(x) / where(ans == 0, 1, ans) if x.dtype.kind == "c" else sign(x)


def _axes(like: Any, axis: Any) -> tuple[int, ...]:
    n = len(like.shape)
    return tuple(range(n)) if axis is None else tuple(a % n for a in (axis if isinstance(axis, Sequence) else (axis,)))


def _keep(g: Any, like: Any, axis: Any) -> Any:
    """Give a reduced array its summed axes back, of length one."""
    axes = _axes(like, axis)
    return reshape(g, shape=tuple(1 if a in axes else n for a, n in enumerate(like.shape)))


def _count(like: Any, axis: Any) -> int:
    return math.prod(like.shape[a] for a in _axes(like, axis))


def _winners(x: Any, ans: Any, axis: Any) -> Any:
    """Which elements are the extremum, as weights that share it equally among ties."""
    ties = (x == _keep(ans, x, axis)).astype(x.dtype)
    return ties / maximum(sum(ties, axis=axis, keepdims=True), 1)


def _inverse(axes: Any) -> Any:
    return None if axes is None else tuple(int(a) for a in np.argsort([a % len(axes) for a in axes]))


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


def table() -> dict[str, Op]:
    """Every row of this file by its variable name; the tests are generated from it."""
    return {name: row for name, row in globals().items() if isinstance(row, Op)}
