"""Everyday array functions on tensors: creation, elementwise, reductions, shapes, joining and padding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from eagerconv.autograd import rules
from eagerconv.autograd.tape import Op
from eagerconv.tensor import Axis, Tensor, asarray

__all__ = [
    "abs", "arange", "broadcast_to", "ceil", "clip", "concatenate", "conj", "cos", "exp", "expand_dims", "floor", "full",
    "imag", "log", "logsumexp", "matmul", "max", "maximum", "mean", "min", "minimum", "ones", "ones_like", "pad", "real",
    "reshape", "round", "sign", "sin", "sqrt", "squeeze", "stack", "std", "sum", "tanh", "transpose", "var", "where",
    "zeros", "zeros_like",
]  # fmt: skip

Shape = int | Sequence[int]

# ----- Elementwise: one row each, the documentation is filled in -----

_UNARY = """{summary}, element by element.

Parameters
----------
x : array_like
    Numbers, in any shape.

Returns
-------
Tensor
    Of the same shape.

Examples
--------
>>> {name}({argument})
{result}
"""

_BINARY = """{summary}, element by element.

Parameters
----------
x, y : array_like
    Numbers, in shapes that broadcast.

Returns
-------
Tensor
    Of the broadcast shape. Where both are equal, each has half of the gradient.

Examples
--------
>>> {name}({argument})
{result}
"""

_REDUCTION = """{summary}, over the given axes.

Parameters
----------
x : array_like
    Numbers, in any shape.
axis : int or tuple of ints, optional
    The axes to reduce; default: all.
keepdims : bool
    Keep reduced axes, of length one.

Returns
-------
Tensor
    Without the reduced axes.{note}

Examples
--------
>>> {name}({argument})
{result}
"""


def _named(function: Any, name: str, doc: str) -> Any:
    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function


def _unary(name: str, op: Op, summary: str, argument: str, result: str) -> Callable[[Any], Tensor]:
    def function(x: Any) -> Tensor:
        return cast(Tensor, op(asarray(x)))

    doc = _UNARY.format(name=name, summary=summary, argument=argument, result=result)
    return cast(Callable[[Any], Tensor], _named(function, name, doc))


def _binary(name: str, op: Op, summary: str, argument: str, result: str) -> Callable[[Any, Any], Tensor]:
    def function(x: Any, y: Any) -> Tensor:
        return cast(Tensor, op(*_operands(x, y)))

    doc = _BINARY.format(name=name, summary=summary, argument=argument, result=result)
    return cast(Callable[[Any, Any], Tensor], _named(function, name, doc))


def _reduction(name: str, op: Op, summary: str, argument: str, result: str, note: str = "") -> Callable[..., Tensor]:
    def function(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return cast(Tensor, op(asarray(x), axis=axis, keepdims=keepdims))

    doc = _REDUCTION.format(name=name, summary=summary, argument=argument, result=result, note=note)
    return cast(Callable[..., Tensor], _named(function, name, doc))


def _operands(*values: Any) -> list[Any]:
    """Convert what is not a plain number: those stay weakly typed, so that float32 stays float32; but one at least."""
    operands = [v if isinstance(v, (bool, int, float, complex)) else asarray(v) for v in values]
    if not any(isinstance(x, Tensor) for x in operands):
        operands[0] = asarray(operands[0])
    return operands


exp = _unary(
    "exp", rules.exp, "The exponential function", "[0.0, 1.0]", "tensor([1.        , 2.71828183], dtype=float64)"
)
log = _unary(
    "log", rules.log, "The natural logarithm", "[1.0, 10.0]", "tensor([0.        , 2.30258509], dtype=float64)"
)
sqrt = _unary("sqrt", rules.sqrt, "The square root", "[4.0, 9.0]", "tensor([2., 3.], dtype=float64)")
sin = _unary(
    "sin", rules.sin, "The sine of an angle in radians", "[0.0, 1.0]", "tensor([0.        , 0.84147098], dtype=float64)"
)
cos = _unary(
    "cos",
    rules.cos,
    "The cosine of an angle in radians",
    "[0.0, 1.0]",
    "tensor([1.        , 0.54030231], dtype=float64)",
)
tanh = _unary(
    "tanh", rules.tanh, "The hyperbolic tangent", "[0.0, 1.0]", "tensor([0.        , 0.76159416], dtype=float64)"
)
abs = _unary("abs", rules.absolute, "The absolute value", "[-3.0, 3 + 4j]", "tensor([3., 5.], dtype=float64)")
sign = _unary(
    "sign", rules.sign, "The sign: -1, 0 or 1; its gradient is zero", "[-2.0, 0.0]", "tensor([-1.,  0.], dtype=float64)"
)
floor = _unary(
    "floor",
    rules.floor,
    "The next integer below; its gradient is zero",
    "[-0.5, 0.5]",
    "tensor([-1.,  0.], dtype=float64)",
)
ceil = _unary(
    "ceil", rules.ceil, "The next integer above; its gradient is zero", "[0.5, 1.0]", "tensor([1., 1.], dtype=float64)"
)
round = _unary(
    "round",
    rules.round,
    "The nearest integer, halves to even; its gradient is zero",
    "[0.5, 1.5]",
    "tensor([0., 2.], dtype=float64)",
)
conj = _unary("conj", rules.conj, "The complex conjugate", "[1 + 2j]", "tensor([1.-2.j], dtype=complex128)")
real = _unary("real", rules.real, "The real part", "[1 + 2j]", "tensor([1.], dtype=float64)")
imag = _unary("imag", rules.imag, "The imaginary part", "[1 + 2j]", "tensor([2.], dtype=float64)")

maximum = _binary("maximum", rules.maximum, "The larger of two", "[1.0, 5.0], 3.0", "tensor([3., 5.], dtype=float64)")
minimum = _binary("minimum", rules.minimum, "The smaller of two", "[1.0, 5.0], 3.0", "tensor([1., 3.], dtype=float64)")

sum = _reduction("sum", rules.sum, "The sum", "[[1.0, 2.0], [3.0, 4.0]], axis=0", "tensor([4., 6.], dtype=float64)")
mean = _reduction(
    "mean", rules.mean, "The arithmetic mean", "[[1.0, 2.0], [3.0, 4.0]], axis=0", "tensor([2., 3.], dtype=float64)"
)
max = _reduction(
    "max",
    rules.max,
    "The largest element",
    "[[1.0, 2.0], [3.0, 4.0]], axis=0",
    "tensor([3., 4.], dtype=float64)",
    " Equal elements share the gradient.",
)
min = _reduction(
    "min",
    rules.min,
    "The smallest element",
    "[[1.0, 2.0], [3.0, 4.0]], axis=0",
    "tensor([1., 2.], dtype=float64)",
    " Equal elements share the gradient.",
)
logsumexp = _reduction(
    "logsumexp",
    rules.logsumexp,
    "The logarithm of the sum of exponentials, without overflow",
    "[1000.0, 1000.0]",
    "tensor(1000.69314718, dtype=float64)",
)


def var(x: Any, axis: Axis = None, ddof: int = 0, keepdims: bool = False) -> Tensor:
    """Variance over the given axes: the mean squared distance from the mean.

    Parameters
    ----------
    x : array_like
        Numbers, in any shape.
    axis : int or tuple of ints, optional
        The axes to reduce; default: all.
    ddof : int
        Taken from the number of elements to give the divisor.
    keepdims : bool
        Keep reduced axes, of length one.

    Returns
    -------
    Tensor
        Without the reduced axes.

    Examples
    --------
    >>> var([1.0, 2.0, 3.0, 4.0])
    tensor(1.25, dtype=float64)
    """
    return asarray(x).var(axis=axis, ddof=ddof, keepdims=keepdims)


def std(x: Any, axis: Axis = None, ddof: int = 0, keepdims: bool = False) -> Tensor:
    """Standard deviation over the given axes: the square root of `var`, with the same parameters.

    Examples
    --------
    >>> std([1.0, 5.0])
    tensor(2., dtype=float64)
    """
    return asarray(x).std(axis=axis, ddof=ddof, keepdims=keepdims)


def where(condition: Any, x: Any, y: Any) -> Tensor:
    """Choose elements of x where the condition holds, of y elsewhere.

    Parameters
    ----------
    condition : array_like of bool
        What to choose by.
    x, y : array_like
        What to choose from; all three broadcast.

    Returns
    -------
    Tensor
        Of the broadcast shape.

    Examples
    --------
    >>> where([True, False], [1.0, 2.0], 0.0)
    tensor([1., 0.], dtype=float64)
    """
    return cast(Tensor, rules.where(asarray(condition), *_operands(x, y)))


def clip(x: Any, low: Any = None, high: Any = None) -> Tensor:
    """Limit elements to the interval from low to high; on its edges the gradient is that of x.

    Parameters
    ----------
    x : array_like
        Numbers, in any shape.
    low, high : array_like, optional
        The limits, in shapes that broadcast; None: no limit.

    Returns
    -------
    Tensor
        Of the broadcast shape.

    Examples
    --------
    >>> clip([-2.0, 0.5, 2.0], 0.0, 1.0)
    tensor([0. , 0.5, 1. ], dtype=float64)
    """
    x, low, high = _operands(asarray(x), -np.inf if low is None else low, np.inf if high is None else high)
    return cast(Tensor, rules.clip(x, low, high))


def matmul(x: Any, y: Any) -> Tensor:
    """Matrix product over the last two axes, as `x @ y`; axes before them broadcast.

    Parameters
    ----------
    x : array_like, shape (..., m, k) or (k,)
        Left factor.
    y : array_like, shape (..., k, n) or (k,)
        Right factor.

    Returns
    -------
    Tensor, shape (..., m, n)
        Without m or n where that factor has a single axis.

    Examples
    --------
    >>> matmul([[1.0, 2.0], [3.0, 4.0]], [1.0, 1.0])
    tensor([3., 7.], dtype=float64)
    """
    return cast(Tensor, rules.matmul(asarray(x), asarray(y)))


# ----- Shapes -----


def reshape(x: Any, shape: Shape) -> Tensor:
    """Give the elements another shape; a view where NumPy can give one.

    Parameters
    ----------
    x : array_like
        Numbers, in any shape.
    shape : int or sequence of ints
        The new shape; one entry may be -1, and is then worked out.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> reshape([1, 2, 3, 4], (2, -1))
    tensor([[1, 2],
            [3, 4]], dtype=int64)
    """
    return asarray(x).reshape(shape)


def transpose(x: Any, axes: Sequence[int] | None = None) -> Tensor:
    """Permute the axes: axis i of the result is axis `axes[i]` of x; a view.

    Parameters
    ----------
    x : array_like
        Numbers, in any shape.
    axes : sequence of ints, optional
        A permutation of the axes; default: reversed.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> transpose([[1, 2], [3, 4]])
    tensor([[1, 3],
            [2, 4]], dtype=int64)
    """
    return asarray(x).transpose(axes)


def expand_dims(x: Any, axis: int | tuple[int, ...]) -> Tensor:
    """Insert axes of length one at the given places of the result; a view.

    Examples
    --------
    >>> expand_dims([1, 2], 0).shape
    (1, 2)
    """
    return asarray(x).expand_dims(axis)


def squeeze(x: Any, axis: Axis = None) -> Tensor:
    """Drop axes of length one, those given or all; a view.

    Examples
    --------
    >>> squeeze([[1, 2]]).shape
    (2,)
    """
    return asarray(x).squeeze(axis)


def broadcast_to(x: Any, shape: Sequence[int]) -> Tensor:
    """Repeat along axes of length one, and new first axes, without copying; the memory is read-only.

    Examples
    --------
    >>> broadcast_to([1, 2], (3, 2)).shape
    (3, 2)
    """
    return asarray(x).broadcast_to(shape)


def concatenate(arrays: Sequence[Any], axis: int = 0) -> Tensor:
    """Join along an axis that is there already.

    Parameters
    ----------
    arrays : sequence of array_like
        At least one; the same shape but for that axis.
    axis : int
        The axis to join along.

    Returns
    -------
    Tensor

    Raises
    ------
    ValueError
        If there is nothing to join, or the shapes do not fit.

    Examples
    --------
    >>> concatenate([[1.0], [2.0, 3.0]])
    tensor([1., 2., 3.], dtype=float64)
    """
    parts = [asarray(a) for a in arrays]
    axis = _normal_axis("concatenate", parts, axis, 0)
    bounds = [0]
    for part in parts:
        bounds.append(bounds[-1] + part.shape[axis])
    return cast(Tensor, rules.concatenate(*parts, axis=axis, bounds=tuple(bounds)))


def stack(arrays: Sequence[Any], axis: int = 0) -> Tensor:
    """Join along a new axis.

    Parameters
    ----------
    arrays : sequence of array_like
        At least one; the same shape.
    axis : int
        Where the result has the new axis.

    Returns
    -------
    Tensor

    Raises
    ------
    ValueError
        If there is nothing to join, or the shapes differ.

    Examples
    --------
    >>> stack([[1, 2], [3, 4]], axis=1)
    tensor([[1, 3],
            [2, 4]], dtype=int64)
    """
    parts = [asarray(a) for a in arrays]
    axis = _normal_axis("stack", parts, axis, 1)
    if len({part.shape for part in parts}) > 1:
        raise ValueError(f"stack: arrays must have the same shape, got {[part.shape for part in parts]}")
    return cast(Tensor, rules.stack(*parts, axis=axis))


def _normal_axis(caller: str, parts: list[Tensor], axis: int, extra: int) -> int:
    """Axis counted from the front, once all parts are known to have the same number of axes."""
    if not parts:
        raise ValueError(f"{caller}: arrays: expected at least one array, got none")
    dims = {part.ndim for part in parts}
    if len(dims) > 1:
        raise ValueError(f"{caller}: arrays must have the same number of axes, got shapes {[p.shape for p in parts]}")
    ndim = parts[0].ndim + extra
    if not -ndim <= axis < ndim:
        raise ValueError(f"{caller}: axis={axis} is out of range for {ndim} axes")
    return axis % ndim


# Modes in which every padded element repeats one that is there: padding is then an index, and its gradient follows.
_INDEX_MODES = ("edge", "reflect", "symmetric", "wrap")


def pad(x: Any, pad_width: Any, mode: str = "constant", constant_values: float = 0) -> Tensor:
    """Add elements before and after along each axis.

    Parameters
    ----------
    x : array_like
        Numbers, in any shape.
    pad_width : int, pair of ints, or one pair per axis
        Number of elements (before, after); an int is for both sides, a single pair for all axes.
    mode : {"constant", "edge", "reflect", "symmetric", "wrap"}
        What to add, as in `numpy.pad`.
    constant_values : float
        The value of mode "constant".

    Returns
    -------
    Tensor

    Raises
    ------
    ValueError
        For another mode, negative or ill-shaped widths, or repeating elements of an empty axis.

    Examples
    --------
    >>> pad([1.0, 2.0, 3.0], (2, 1), mode="reflect")
    tensor([3., 2., 1., 2., 3., 2.], dtype=float64)
    """
    out = asarray(x)
    widths = _pad_widths(pad_width, out.ndim)
    if mode == "constant":
        return cast(Tensor, rules.pad(out, widths=widths, value=constant_values))
    if mode not in _INDEX_MODES:
        raise ValueError(f"pad: mode must be 'constant' or one of {_INDEX_MODES}, not {mode!r}")
    for axis, (n, width) in enumerate(zip(out.shape, widths, strict=True)):
        if width != (0, 0):
            index = np.pad(np.arange(n), width, mode=cast(Any, mode))
            out = out[(slice(None),) * axis + (index,)]
    return out


def _pad_widths(pad_width: Any, ndim: int) -> tuple[tuple[int, int], ...]:
    widths = np.asarray(pad_width)
    if widths.dtype.kind not in "iu" or widths.shape not in {(), (1,), (2,), (1, 2), (ndim, 1), (ndim, 2)}:
        raise ValueError(
            f"pad: pad_width must be an int, a pair of ints, or a pair for each of the {ndim} axes, not {pad_width!r}"
        )
    if (widths < 0).any():
        raise ValueError(f"pad: pad_width must not be negative, got {pad_width!r}; slice the array to crop it")
    return tuple((int(before), int(after)) for before, after in np.broadcast_to(widths, (ndim, 2)))


# ----- Creation -----


def zeros(shape: Shape, dtype: npt.DTypeLike = np.float64, requires_grad: bool = False) -> Tensor:
    """Make a tensor of zeros.

    Examples
    --------
    >>> zeros(2, "float32")
    tensor([0., 0.], dtype=float32)
    """
    return full(shape, 0, dtype, requires_grad)


def ones(shape: Shape, dtype: npt.DTypeLike = np.float64, requires_grad: bool = False) -> Tensor:
    """Make a tensor of ones.

    Examples
    --------
    >>> ones((1, 2))
    tensor([[1., 1.]], dtype=float64)
    """
    return full(shape, 1, dtype, requires_grad)


def full(shape: Shape, value: complex, dtype: npt.DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """Make a tensor filled with one value.

    Parameters
    ----------
    shape : int or sequence of ints
        Its shape.
    value : number
        The value of every element.
    dtype : dtype, optional
        Element type; default: that of the value.
    requires_grad : bool
        Record operations on it, for gradients.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> full(2, 7)
    tensor([7, 7], dtype=int64)
    """
    result = asarray(np.full(shape, value, dtype))
    result.requires_grad = requires_grad
    return result


def zeros_like(x: Any) -> Tensor:
    """Zeros in the shape and dtype of x.

    Examples
    --------
    >>> zeros_like([1, 2])
    tensor([0, 0], dtype=int64)
    """
    return asarray(np.zeros_like(asarray(x).data))


def ones_like(x: Any) -> Tensor:
    """Ones in the shape and dtype of x.

    Examples
    --------
    >>> ones_like([1.0, 2.0])
    tensor([1., 1.], dtype=float64)
    """
    return asarray(np.ones_like(asarray(x).data))


def arange(start: float, stop: float | None = None, step: float = 1, dtype: npt.DTypeLike | None = None) -> Tensor:
    """Evenly spaced numbers from start (0 if only one bound is given) up to, and without, stop.

    Examples
    --------
    >>> arange(3)
    tensor([0, 1, 2], dtype=int64)
    """
    first, last = (0, start) if stop is None else (start, stop)
    return asarray(np.arange(first, last, step), dtype)
