"""Reductions and running totals: sums, products, statistics, extrema, logic over axes."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import numpy.typing as npt

from eagerconv.autograd import rules
from eagerconv.tensor import Axis, Tensor, asarray
from eagerconv.wrapping import apply, documented

__all__ = [
    "all", "any", "count_nonzero", "cumulative_prod", "cumulative_sum", "diff", "logsumexp", "max", "mean", "min",
    "prod", "std", "sum", "var",
]  # fmt: skip


@documented()
def sum(x: Any, /, axis: Axis = None, *, dtype: npt.DTypeLike | None = None, keepdims: bool = False) -> Tensor:
    """Sum over the given axes.

    >>> sum([[1.0, 2.0], [3.0, 4.0]], axis=0)
    tensor([4., 6.], dtype=float64)
    """
    return asarray(x).sum(axis, dtype=dtype, keepdims=keepdims)


@documented()
def prod(x: Any, /, axis: Axis = None, *, dtype: npt.DTypeLike | None = None, keepdims: bool = False) -> Tensor:
    """Multiply over the given axes.

    >>> prod([[1.0, 2.0], [3.0, 4.0]], axis=0)
    tensor([3., 8.], dtype=float64)
    """
    return asarray(x).prod(axis, dtype=dtype, keepdims=keepdims)


@documented()
def mean(x: Any, /, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    """Arithmetic mean over the given axes.

    >>> mean([[1.0, 2.0], [3.0, 4.0]], axis=0)
    tensor([2., 3.], dtype=float64)
    """
    return asarray(x).mean(axis, keepdims=keepdims)


@documented()
def var(
    x: Any, /, axis: Axis = None, *, correction: float = 0, keepdims: bool = False, ddof: float | None = None
) -> Tensor:
    """Variance over the given axes: the mean squared distance from the mean.

    >>> var([1.0, 2.0, 3.0, 4.0])
    tensor(1.25, dtype=float64)
    """
    return asarray(x).var(axis, ddof=correction if ddof is None else ddof, keepdims=keepdims)


@documented()
def std(
    x: Any, /, axis: Axis = None, *, correction: float = 0, keepdims: bool = False, ddof: float | None = None
) -> Tensor:
    """Standard deviation over the given axes: the square root of `var`.

    >>> std([1.0, 5.0])
    tensor(2., dtype=float64)
    """
    return asarray(x).std(axis, ddof=correction if ddof is None else ddof, keepdims=keepdims)


@documented()
def max(x: Any, /, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    """Largest element over the given axes; equal elements share the gradient.

    >>> max([[1.0, 2.0], [3.0, 4.0]], axis=0)
    tensor([3., 4.], dtype=float64)
    """
    return asarray(x).max(axis, keepdims=keepdims)


@documented()
def min(x: Any, /, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    """Smallest element over the given axes; equal elements share the gradient.

    >>> min([[1.0, 2.0], [3.0, 4.0]], axis=0)
    tensor([1., 2.], dtype=float64)
    """
    return asarray(x).min(axis, keepdims=keepdims)


@documented()
def all(x: Any, /, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    """Whether all elements over the given axes are true.

    >>> all([[True, False], [True, True]], axis=0)
    tensor([ True, False], dtype=bool)
    """
    return cast(Tensor, asarray(x).all(axis, keepdims=keepdims))


@documented()
def any(x: Any, /, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    """Whether an element at least over the given axes is true.

    >>> any([[True, False], [False, False]], axis=0)
    tensor([ True, False], dtype=bool)
    """
    return cast(Tensor, asarray(x).any(axis, keepdims=keepdims))


@documented()
def count_nonzero(x: Any, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """How many elements over the given axes are not zero.

    >>> count_nonzero([0.0, 2.0, 3.0])
    tensor(2, dtype=int64)
    """
    return asarray(apply(np.count_nonzero, asarray(x), axis=axis, keepdims=keepdims))


@documented()
def logsumexp(x: Any, /, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    """Logarithm of the sum of exponentials over the given axes, without overflow.

    >>> logsumexp([1000.0, 1000.0])
    tensor(1000.69314718, dtype=float64)
    """
    out: Tensor = rules.logsumexp(asarray(x), axis=axis, keepdims=keepdims)
    return out


_ALONG = "int, optional\n    The axis to run along; may be left out for one axis."


@documented(axis=_ALONG)
def cumulative_sum(
    x: Any, /, *, axis: int | None = None, dtype: npt.DTypeLike | None = None, include_initial: bool = False
) -> Tensor:
    """Running sum along an axis.

    >>> cumulative_sum([1.0, 2.0, 3.0], include_initial=True)
    tensor([0., 1., 3., 6.], dtype=float64)
    """
    out: Tensor = apply(np.cumulative_sum, asarray(x), axis=axis, dtype=dtype, include_initial=include_initial)
    return out


@documented(axis=_ALONG)
def cumulative_prod(
    x: Any, /, *, axis: int | None = None, dtype: npt.DTypeLike | None = None, include_initial: bool = False
) -> Tensor:
    """Running product along an axis.

    >>> cumulative_prod([1.0, 2.0, 3.0])
    tensor([1., 2., 6.], dtype=float64)
    """
    out: Tensor = apply(np.cumulative_prod, asarray(x), axis=axis, dtype=dtype, include_initial=include_initial)
    return out


@documented(
    axis="int\n    The axis to run along.",
    n="int\n    How many times.",
    prepend="array_like, optional\n    Put before x along the axis first.",
    append="array_like, optional\n    Put behind x along the axis first.",
)
def diff(x: Any, /, *, axis: int = -1, n: int = 1, prepend: Any = None, append: Any = None) -> Tensor:
    """Differences of neighbours along an axis.

    >>> diff([1.0, 4.0, 9.0])
    tensor([3., 5.], dtype=float64)
    """
    ends = {name: asarray(end) for name, end in (("prepend", prepend), ("append", append)) if end is not None}
    out: Tensor = apply(np.diff, asarray(x), axis=axis, n=n, **ends)
    return out
