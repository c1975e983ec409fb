"""Order: searching, sorting, sets."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import numpy as np

from eagerconv.tensor import Tensor, asarray
from eagerconv.wrapping import apply, documented

__all__ = [
    "argmax", "argmin", "argsort", "isin", "nonzero", "searchsorted", "sort", "unique_all", "unique_counts",
    "unique_inverse", "unique_values",
]  # fmt: skip

_ALONG = "int, optional\n    Along which axis; default: the flattened tensor."
_INDEX = "Tensor of ints"


@documented(axis=_ALONG, returns=_INDEX)
def argmax(x: Any, /, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Index of the first largest element.

    >>> argmax([1.0, 3.0, 2.0])
    tensor(1, dtype=int64)
    """
    return cast(Tensor, apply(np.argmax, asarray(x), axis=axis, keepdims=keepdims))


@documented(axis=_ALONG, returns=_INDEX)
def argmin(x: Any, /, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Index of the first smallest element.

    >>> argmin([1.0, 3.0, 2.0])
    tensor(0, dtype=int64)
    """
    return cast(Tensor, apply(np.argmin, asarray(x), axis=axis, keepdims=keepdims))


@documented(
    x1="array_like\n    What is looked for, each element by itself.",
    x2="array_like\n    Where.",
    invert="bool\n    Tell which are not there.",
    returns="Tensor of bools, of the shape of x1",
)
def isin(x1: Any, x2: Any, /, *, invert: bool = False) -> Tensor:
    """Whether each element of x1 is among those of x2.

    >>> isin([1, 2, 3], [3, 1])
    tensor([ True, False,  True], dtype=bool)
    """
    return cast(Tensor, apply(np.isin, asarray(x1), asarray(x2), invert=invert))


@documented(returns="tuple of Tensor of ints\n    One for each axis.")
def nonzero(x: Any, /) -> tuple[Tensor, ...]:
    """Indices of the elements that are not zero.

    >>> nonzero([0.0, 2.0, 3.0])[0]
    tensor([1, 2], dtype=int64)
    """
    return cast(tuple[Tensor, ...], apply(np.nonzero, asarray(x)))


@documented(
    x1="array_like, shape (n,)\n    Sorted, or with `sorter` that would sort it.",
    x2="array_like\n    What to find places for.",
    side='{"left", "right"}\n    Before or behind elements that are equal.',
    sorter="array_like of ints, optional\n    The indices that sort x1.",
    returns=_INDEX,
)
def searchsorted(x1: Any, x2: Any, /, *, side: str = "left", sorter: Any = None) -> Tensor:
    """Where elements would have to be put into a sorted tensor, so that it stays sorted.

    >>> searchsorted([1.0, 3.0, 5.0], [2.0, 3.0])
    tensor([1, 1], dtype=int64)
    """
    order = None if sorter is None else asarray(sorter)
    return cast(Tensor, apply(np.searchsorted, asarray(x1), asarray(x2), side=side, sorter=order))


# ----- Sorting -----


@documented(axis="int\n    Along which axis.")
def sort(x: Any, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """Sort along an axis.

    >>> sort([2.0, 1.0, 3.0], descending=True)
    tensor([3., 2., 1.], dtype=float64)
    """
    out: Tensor = apply(np.sort, asarray(x), axis=axis, stable=stable or None)
    return cast(Tensor, apply(np.flip, out, axis=axis)) if descending and out.ndim else out


@documented(axis="int\n    Along which axis.", returns=_INDEX)
def argsort(x: Any, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """Indices that sort along an axis.

    >>> argsort([2.0, 1.0, 2.0], descending=True)
    tensor([0, 2, 1], dtype=int64)
    """
    before = asarray(x)
    if not descending or not before.ndim:
        return cast(Tensor, apply(np.argsort, before, axis=axis, stable=stable or None))
    # Sorted upwards from behind and turned round, equal elements are in their order: index i is n - 1 - i from behind.
    behind: Tensor = apply(np.argsort, apply(np.flip, before, axis=axis), axis=axis, stable=stable or None)
    return cast(Tensor, before.shape[axis] - 1 - apply(np.flip, behind, axis=axis))


# ----- Sets: each value once; NaNs are different from each other -----


class UniqueAll(NamedTuple):
    """What `unique_all` gives."""

    values: Tensor
    indices: Tensor
    inverse_indices: Tensor
    counts: Tensor


class UniqueCounts(NamedTuple):
    """What `unique_counts` gives."""

    values: Tensor
    counts: Tensor


class UniqueInverse(NamedTuple):
    """What `unique_inverse` gives."""

    values: Tensor
    inverse_indices: Tensor


@documented(returns="(values, indices, inverse_indices, counts), each a Tensor")
def unique_all(x: Any, /) -> UniqueAll:
    """Every value once, where it is first, which one each element is, and how many there are.

    >>> unique_all([2, 1, 2]).counts
    tensor([1, 2], dtype=int64)
    """
    return UniqueAll(*apply(np.unique_all, asarray(x)))


@documented(returns="(values, counts), each a Tensor")
def unique_counts(x: Any, /) -> UniqueCounts:
    """Every value once, and how many there are.

    >>> unique_counts([2, 1, 2]).values
    tensor([1, 2], dtype=int64)
    """
    return UniqueCounts(*apply(np.unique_counts, asarray(x)))


@documented(returns="(values, inverse_indices), each a Tensor")
def unique_inverse(x: Any, /) -> UniqueInverse:
    """Every value once, and which one each element is.

    >>> unique_inverse([2, 1, 2]).inverse_indices
    tensor([1, 0, 1], dtype=int64)
    """
    return UniqueInverse(*apply(np.unique_inverse, asarray(x)))


@documented()
def unique_values(x: Any, /) -> Tensor:
    """Every value once.

    >>> unique_values([2, 1, 2])
    tensor([1, 2], dtype=int64)
    """
    return cast(Tensor, apply(np.unique_values, asarray(x)))
