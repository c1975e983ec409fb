"""The same elements elsewhere: shapes, order of axes, joining, splitting, repeating, padding, taking."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from eagerconv.autograd import rules
from eagerconv.tensor import Axis, Tensor, asarray
from eagerconv.wrapping import apply, documented

__all__ = [
    "broadcast_arrays", "broadcast_shapes", "broadcast_to", "concat", "concatenate", "expand_dims", "flip", "moveaxis",
    "pad", "permute_dims", "repeat", "reshape", "roll", "squeeze", "stack", "take", "take_along_axis", "tile", "transpose",
    "unstack",
]  # fmt: skip

Shape = int | Sequence[int]


@documented(shape="int or sequence of ints\n    The new shape; one entry may be -1, and is then worked out.")
def reshape(x: Any, /, shape: Shape, *, copy: bool | None = None) -> Tensor:
    """Give the elements another shape; a view where NumPy can give one.

    >>> reshape([1, 2, 3, 4], (2, -1))
    tensor([[1, 2],
            [3, 4]], dtype=int64)
    """
    before = asarray(x)
    out = before.reshape(shape)
    if copy is None or np.shares_memory(out.data, before.data) != copy:
        return out
    if copy:
        return out.clone()
    raise ValueError(f"reshape: the shape {out.shape} needs a copy of this tensor, which copy=False forbids")


@documented(axes="sequence of ints\n    A permutation of the axes: axis i of the result is axis `axes[i]` of x.")
def permute_dims(x: Any, /, axes: Sequence[int]) -> Tensor:
    """Permute the axes; a view.

    >>> permute_dims(np.zeros((2, 3, 4)), (2, 0, 1)).shape
    (4, 2, 3)
    """
    return asarray(x).transpose(axes)


@documented(axes="sequence of ints, optional\n    A permutation of the axes; default: reversed.")
def transpose(x: Any, /, axes: Sequence[int] | None = None) -> Tensor:
    """Permute the axes, or reverse them; a view, NumPy's name for `permute_dims`.

    >>> transpose([[1, 2], [3, 4]])
    tensor([[1, 3],
            [2, 4]], dtype=int64)
    """
    return asarray(x).transpose(axes)


@documented(
    source="int or sequence of ints\n    The axes to move.",
    destination="int or sequence of ints\n    Where they are in the result.",
)
def moveaxis(x: Any, source: int | Sequence[int], destination: int | Sequence[int], /) -> Tensor:
    """Move axes, the others stay in order; a view.

    >>> moveaxis(np.zeros((2, 3, 4)), 0, -1).shape
    (3, 4, 2)
    """
    return cast(Tensor, apply(np.moveaxis, asarray(x), source, destination))


@documented(axis="int or tuple of ints\n    Their places in the result.")
def expand_dims(x: Any, /, axis: int | tuple[int, ...] = 0) -> Tensor:
    """Insert axes of length one; a view.

    >>> expand_dims([1, 2], 0).shape
    (1, 2)
    """
    return asarray(x).expand_dims(axis)


@documented()
def squeeze(x: Any, /, axis: Axis = None) -> Tensor:
    """Drop axes of length one; a view.

    >>> squeeze([[1, 2]]).shape
    (2,)
    """
    return asarray(x).squeeze(axis)


@documented()
def broadcast_to(x: Any, /, shape: Sequence[int]) -> Tensor:
    """Repeat along axes of length one, and new first axes, without copying; the memory is read-only.

    >>> broadcast_to([1, 2], (3, 2)).shape
    (3, 2)
    """
    return asarray(x).broadcast_to(shape)


@documented(returns="tuple of Tensor")
def broadcast_arrays(*arrays: Any) -> tuple[Tensor, ...]:
    """Broadcast all to their common shape, without copying.

    >>> broadcast_arrays([1, 2], [[3]])[1]
    tensor([[3, 3]], dtype=int64)
    """
    tensors = [asarray(a) for a in arrays]
    shape = np.broadcast_shapes(*(t.shape for t in tensors))
    return tuple(t.broadcast_to(shape) for t in tensors)


@documented(shapes="tuple of ints\n    None or more.", returns="tuple of ints")
def broadcast_shapes(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The common shape to which arrays of these shapes broadcast.

    >>> broadcast_shapes((3, 1), (4,))
    (3, 4)
    """
    return np.broadcast_shapes(*shapes)


@documented(axis="int or tuple of ints, optional\n    The axes to reverse; default: all.")
def flip(x: Any, /, *, axis: Axis = None) -> Tensor:
    """Reverse the order of elements along axes; a view.

    >>> flip([1, 2, 3])
    tensor([3, 2, 1], dtype=int64)
    """
    return cast(Tensor, apply(np.flip, asarray(x), axis=axis))


@documented(
    shift="int or tuple of ints\n    By how many places, for each axis.",
    axis="int or tuple of ints, optional\n    The axes to roll along; default: the flattened tensor.",
)
def roll(x: Any, /, shift: int | tuple[int, ...], *, axis: Axis = None) -> Tensor:
    """Move elements along axes; those pushed over the end come back at the front.

    >>> roll([1, 2, 3], 1)
    tensor([3, 1, 2], dtype=int64)
    """
    return cast(Tensor, apply(np.roll, asarray(x), shift, axis=axis))


@documented(
    repeats="int or array_like of ints\n    How many of each.",
    axis="int, optional\n    The axis to repeat along; default: the flattened tensor.",
)
def repeat(x: Any, repeats: Any, /, *, axis: int | None = None) -> Tensor:
    """Repeat each element.

    >>> repeat([1, 2], 2)
    tensor([1, 1, 2, 2], dtype=int64)
    """
    return cast(Tensor, apply(np.repeat, asarray(x), repeats, axis=axis))


@documented(repetitions="sequence of ints\n    How many times along each of the last axes.")
def tile(x: Any, repetitions: Sequence[int], /) -> Tensor:
    """Repeat the whole.

    >>> tile([1, 2], (2,))
    tensor([1, 2, 1, 2], dtype=int64)
    """
    return cast(Tensor, apply(np.tile, asarray(x), repetitions))


# ----- Joining and taking apart -----


@documented(axis="int or None\n    The axis to join along; None: all flattened first.")
def concat(arrays: Sequence[Any], /, *, axis: int | None = 0) -> Tensor:
    """Join along an axis that is there already; shapes agree but for that axis.

    >>> concat([[1.0], [2.0, 3.0]])
    tensor([1., 2., 3.], dtype=float64)
    """
    return concatenate(arrays, axis)


@documented(axis="int or None\n    The axis to join along; None: all flattened first.")
def concatenate(arrays: Sequence[Any], /, axis: int | None = 0) -> Tensor:
    """Join along an axis that is there already; NumPy's name for `concat`.

    >>> concatenate([[1.0], [2.0, 3.0]])
    tensor([1., 2., 3.], dtype=float64)
    """
    parts = [asarray(a) for a in arrays]
    if axis is not None:
        _check_joined("concatenate", parts, axis, 0)
    elif not parts:
        raise ValueError("concatenate: arrays: expected at least one array, got none")
    return cast(Tensor, apply(np.concatenate, parts, axis=axis))


@documented(axis="int\n    Where the result has the new axis.")
def stack(arrays: Sequence[Any], /, *, axis: int = 0) -> Tensor:
    """Join along a new axis; all have the same shape.

    >>> stack([[1, 2], [3, 4]], axis=1)
    tensor([[1, 3],
            [2, 4]], dtype=int64)
    """
    parts = [asarray(a) for a in arrays]
    _check_joined("stack", parts, axis, 1)
    if len({part.shape for part in parts}) > 1:
        raise ValueError(f"stack: arrays must have the same shape, got {[part.shape for part in parts]}")
    return cast(Tensor, apply(np.stack, parts, axis=axis))


def _check_joined(caller: str, parts: list[Tensor], axis: int, extra: int) -> None:
    if not parts:
        raise ValueError(f"{caller}: arrays: expected at least one array, got none")
    if len({part.ndim for part in parts}) > 1:
        raise ValueError(f"{caller}: arrays must have the same number of axes, got shapes {[p.shape for p in parts]}")
    ndim = parts[0].ndim + extra
    if not -ndim <= axis < ndim:
        raise ValueError(f"{caller}: axis={axis} is out of range for {ndim} axes")


@documented(axis="int\n    The axis to take apart.", returns="tuple of Tensor")
def unstack(x: Any, /, *, axis: int = 0) -> tuple[Tensor, ...]:
    """Take apart along an axis, which the parts do not have; views.

    >>> unstack([[1, 2], [3, 4]], axis=1)[0]
    tensor([1, 3], dtype=int64)
    """
    out = asarray(x)
    return tuple(moveaxis(out, axis, 0))


# ----- Taking -----


@documented(
    indices="array_like of ints\n    Which.",
    axis="int, optional\n    The axis to take along; default: the flattened tensor.",
)
def take(x: Any, indices: Any, /, *, axis: int | None = None) -> Tensor:
    """Elements, or slices, at the indices along an axis.

    >>> take([10, 20, 30], [2, 0])
    tensor([30, 10], dtype=int64)
    """
    return cast(Tensor, apply(np.take, asarray(x), asarray(indices), axis=axis))


@documented(
    indices="array_like of ints\n    For each element which of its line.", axis="int\n    The axis to take along."
)
def take_along_axis(x: Any, indices: Any, /, *, axis: int = -1) -> Tensor:
    """Of each line along an axis the elements at indices of its own, as `argsort` gives them.

    >>> take_along_axis([[10, 20], [40, 30]], [[1], [0]])
    tensor([[20],
            [40]], dtype=int64)
    """
    return cast(Tensor, apply(np.take_along_axis, asarray(x), asarray(indices), axis=axis))


# ----- Padding -----

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
    return cast(Tensor, apply(np.pad, out, widths, mode))


def _pad_widths(pad_width: Any, ndim: int) -> tuple[tuple[int, int], ...]:
    widths = np.asarray(pad_width)
    if widths.dtype.kind not in "iu" or widths.shape not in {(), (1,), (2,), (1, 2), (ndim, 1), (ndim, 2)}:
        raise ValueError(
            f"pad: pad_width must be an int, a pair of ints, or a pair for each of the {ndim} axes, not {pad_width!r}"
        )
    if (widths < 0).any():
        raise ValueError(f"pad: pad_width must not be negative, got {pad_width!r}; slice the array to crop it")
    return tuple((int(before), int(after)) for before, after in np.broadcast_to(widths, (ndim, 2)))
