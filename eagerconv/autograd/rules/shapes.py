"""Shapes: reshaping, permuting, joining, splitting, repeating, padding, triangles and diagonals, copies and casts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from eagerconv.autograd import tape
from eagerconv.autograd.rules.indexing import along, getitem, put, sliding_windows
from eagerconv.autograd.rules.operands import Table, operand, operands
from eagerconv.autograd.tape import Op, defvjp, linear

reshape: Op = linear(
    "reshape", lambda x, shape: np.reshape(x, shape), lambda g, like: reshape(g, shape=like.shape), view=True
)
transpose: Op = linear(
    "transpose",
    lambda a, axes=None: np.transpose(a, axes),
    lambda g, axes: transpose(g, axes=_inverse(axes)),
    view=True,
)
expand_dims = linear(
    "expand_dims", lambda a, axis: np.expand_dims(a, axis), lambda g, like: reshape(g, shape=like.shape), view=True
)
squeeze = linear(
    "squeeze", lambda a, axis=None: np.squeeze(a, axis), lambda g, like: reshape(g, shape=like.shape), view=True
)
broadcast_to = linear("broadcast_to", lambda array, shape: np.broadcast_to(array, shape), lambda g: g, view=True)
concatenate = defvjp(  # bounds[i]:bounds[i + 1] is the place of operand i along the axis
    "concatenate",
    lambda *operands, axis, bounds: np.concatenate(operands, axis),
    lambda g, position, axis, bounds: getitem(g, index=along(axis, slice(bounds[position], bounds[position + 1]))),
)
stack = tape.stack  # its row is there, as operands may be sequences
pad: Op = defvjp(  # widths: one (before, after) per axis
    "pad",
    lambda x, widths, value=0: np.pad(x, widths, constant_values=value),
    lambda g, widths, like: getitem(
        g, index=tuple(slice(b, b + n) for (b, _), n in zip(widths, like.shape, strict=True))
    ),
    jvp=lambda t, widths: pad(t, widths=widths),
)
roll: Op = linear("roll", np.roll, lambda g, shift, axis: roll(g, shift=_negated(shift), axis=axis))
rot90: Op = linear("rot90", np.rot90, lambda g, k, axes: rot90(g, k=-k, axes=axes), view=True)
repeat = linear("repeat", np.repeat, lambda g, like, repeats, axis: _unrepeat(g, like, repeats, axis))
tile = linear("tile", np.tile, lambda g, like, reps: _untile(g, like, reps))
tril: Op = linear("tril", np.tril, lambda g, k: tril(g, k=k))
triu: Op = linear("triu", np.triu, lambda g, k: triu(g, k=k))
astype = linear("astype", lambda x, dtype, copy=True: x.astype(dtype, copy=copy), lambda g: g, view=True)
alias = linear("alias", lambda x: x, lambda g: g, view=True)
copy = linear("copy", lambda a: a.copy(), lambda g: g)

# ----- Permutations of axes, as transpose -----


def moveaxis(a: Any, source: Any, destination: Any) -> Any:
    """Move axes to other places; the others keep their order."""
    places = zip(normalize_axis_tuple(destination, a.ndim), normalize_axis_tuple(source, a.ndim), strict=True)
    moved = sorted(places)
    order = [axis for axis in range(a.ndim) if axis not in {s for _, s in moved}]
    for d, s in moved:
        order.insert(d, s)
    return transpose(a, axes=tuple(order))


def swapaxes(a: Any, axis1: int, axis2: int) -> Any:
    """Exchange two axes."""
    order = list(range(a.ndim))
    order[axis1], order[axis2] = order[axis2], order[axis1]
    return transpose(a, axes=tuple(order))


def rollaxis(a: Any, axis: int, start: int = 0) -> Any:
    """Move one axis to before another."""
    axis, start = normalize_axis_index(axis, a.ndim), start + a.ndim if start < 0 else start
    return moveaxis(a, axis, start - (axis < start))


def matrix_transpose(x: Any) -> Any:
    """Exchange the last two axes."""
    return swapaxes(x, -1, -2)


def flip(m: Any, axis: Any = None) -> Any:
    """Reverse the order along some axes."""
    axes = range(m.ndim) if axis is None else normalize_axis_tuple(axis, m.ndim)
    back = slice(None, None, -1)
    return getitem(m, index=tuple(back if a in axes else slice(None) for a in range(m.ndim)))


def fliplr(m: Any) -> Any:
    """Reverse the order along the second axis."""
    return flip(m, 1)


def flipud(m: Any) -> Any:
    """Reverse the order along the first axis."""
    return flip(m, 0)


# ----- Lengths of axes, as reshape -----


def _reshape(a: Any, /, shape: Any = None, order: str = "C", *, newshape: Any = None, copy: bool | None = None) -> Any:
    shape = newshape if shape is None else shape
    if order == "F":
        shape = tuple(shape) if isinstance(shape, Sequence) else (shape,)
        return transpose(reshape(transpose(a), shape=shape[::-1]))
    return reshape(a.copy() if copy else a, shape=shape)


def ravel(a: Any, order: str = "C") -> Any:
    """All elements along one axis."""
    return _reshape(a, (-1,), order)


def at_least(x: Any, ndim: int) -> Any:
    """Append axes of length one where NumPy's `atleast_1d`, `atleast_2d` and `atleast_3d` do."""
    x = operand(x)
    if x.ndim >= ndim:
        return x
    return reshape(x, shape={1: (1,), 2: (1, x.size), 3: (1, x.size, 1) if x.ndim < 2 else (*x.shape, 1)}[ndim])


def atleast_1d(*arys: Any) -> Any:
    """One axis at least."""
    return _one_or_all([at_least(x, 1) for x in arys])


def atleast_2d(*arys: Any) -> Any:
    """Two axes at least."""
    return _one_or_all([at_least(x, 2) for x in arys])


def atleast_3d(*arys: Any) -> Any:
    """Three axes at least."""
    return _one_or_all([at_least(x, 3) for x in arys])


def _one_or_all(results: list[Any]) -> Any:
    return results[0] if len(results) == 1 else tuple(results)


def broadcast_arrays(*args: Any, subok: bool = False) -> tuple[Any, ...]:
    """All arrays in their common shape."""
    arrays = operands(*args)
    shape = np.broadcast_shapes(*(x.shape for x in arrays))
    return tuple(broadcast_to(x, shape=shape) for x in arrays)


def meshgrid(*xi: Any, copy: bool = True, sparse: bool = False, indexing: str = "xy") -> tuple[Any, ...]:
    """The coordinates of a grid, one array for each axis."""
    if indexing not in ("xy", "ij"):
        raise ValueError(f"meshgrid: indexing must be 'xy' or 'ij', not {indexing!r}")
    n = len(xi)
    places = [1, 0, *range(2, n)] if indexing == "xy" and n > 1 else list(range(n))
    grid = [
        reshape(operand(x), shape=tuple(-1 if a == place else 1 for a in range(n)))
        for x, place in zip(xi, places, strict=True)
    ]
    if not sparse:
        grid = list(broadcast_arrays(*grid))
    return tuple(x.copy() for x in grid) if copy else tuple(grid)


# ----- Joining -----


def _concatenate(arrays: Any, axis: int | None = 0, out: None = None, *, dtype: Any = None, casting: Any = None) -> Any:
    parts = operands(*arrays)
    if axis is None:
        parts, axis = [ravel(x) for x in parts], 0
    if dtype is not None:
        parts = [astype(x, dtype=np.dtype(dtype)) for x in parts]
    if not parts or any(not 0 <= (axis + x.ndim if axis < 0 else axis) < x.ndim for x in parts):
        np.concatenate([np.empty(x.shape) for x in parts], axis)  # raises, in NumPy's words
    axis %= parts[0].ndim
    bounds = [0]
    for x in parts:
        bounds.append(bounds[-1] + x.shape[axis])
    return concatenate(*parts, axis=axis, bounds=tuple(bounds))


def _stack(arrays: Any, axis: int = 0, out: None = None, *, dtype: Any = None, casting: Any = None) -> Any:
    parts = operands(*arrays)
    if dtype is not None:
        parts = [astype(x, dtype=np.dtype(dtype)) for x in parts]
    ndim = parts[0].ndim + 1 if parts else 1
    return stack(*parts, axis=axis + ndim if -ndim <= axis < 0 else axis)


def hstack(tup: Any, *, dtype: Any = None, casting: Any = None) -> Any:
    """Join along the second axis, vectors along their only one."""
    parts = [at_least(x, 1) for x in operands(*tup)]
    return _concatenate(parts, 0 if parts and parts[0].ndim == 1 else 1, dtype=dtype)


def vstack(tup: Any, *, dtype: Any = None, casting: Any = None) -> Any:
    """Join along the first axis, vectors as rows."""
    return _concatenate([at_least(x, 2) for x in operands(*tup)], 0, dtype=dtype)


def dstack(tup: Any) -> Any:
    """Join along the third axis."""
    return _concatenate([at_least(x, 3) for x in operands(*tup)], 2)


def column_stack(tup: Any) -> Any:
    """Join along the second axis, vectors as columns."""
    parts = operands(*tup)
    return _concatenate([x if x.ndim > 1 else reshape(x, shape=(x.size, 1)) for x in parts], 1)


def append(arr: Any, values: Any, axis: int | None = None) -> Any:
    """Join two."""
    return _concatenate((arr, values), axis)


def block(arrays: Any) -> Any:
    """Join nested lists of blocks: the innermost along the last axis, those around them along the one before."""

    def depth(x: Any) -> int:
        return 1 + depth(x[0]) if isinstance(x, list) else 0

    def leaves(x: Any) -> list[Any]:
        return [leaf for part in x for leaf in leaves(part)] if isinstance(x, list) else [x]

    levels = depth(arrays)
    parts = operands(*leaves(arrays))
    ndim = max(levels, *(x.ndim for x in parts))
    blocks = iter(reshape(x, shape=(1,) * (ndim - x.ndim) + tuple(x.shape)) for x in parts)

    def join(x: Any, level: int) -> Any:
        return _concatenate([join(part, level - 1) for part in x], -level) if isinstance(x, list) else next(blocks)

    return join(arrays, levels)


# ----- Splitting -----


def array_split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    """Parts along one axis: so many, the first ones longer by one where needed, or cut at the given places."""
    axis = normalize_axis_index(axis, ary.ndim)
    n = ary.shape[axis]
    if isinstance(indices_or_sections, (int, np.integer)):
        if indices_or_sections <= 0:
            raise ValueError(f"array_split: number of sections must be larger than 0, got {indices_or_sections}")
        each, longer = divmod(n, int(indices_or_sections))
        cuts = [i * each + min(i, longer) for i in range(1, int(indices_or_sections))]
    else:
        cuts = [int(i) for i in indices_or_sections]
    return [getitem(ary, index=along(axis, slice(a, b))) for a, b in itertools.pairwise([None, *cuts, None])]


def split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    """Equal parts along one axis, or cut at the given places."""
    if isinstance(indices_or_sections, (int, np.integer)) and ary.shape[axis] % indices_or_sections:
        raise ValueError(
            f"split: axis {axis} of length {ary.shape[axis]} cannot be cut into {indices_or_sections} equal parts; "
            "use array_split for unequal ones"
        )
    return array_split(ary, indices_or_sections, axis)


def hsplit(ary: Any, indices_or_sections: Any) -> list[Any]:
    """Parts along the second axis, of a vector along its only one."""
    return split(ary, indices_or_sections, 1 if ary.ndim > 1 else 0)


def vsplit(ary: Any, indices_or_sections: Any) -> list[Any]:
    """Parts along the first axis."""
    return split(ary, indices_or_sections, 0)


def dsplit(ary: Any, indices_or_sections: Any) -> list[Any]:
    """Parts along the third axis."""
    return split(ary, indices_or_sections, 2)


def unstack(x: Any, /, *, axis: int = 0) -> tuple[Any, ...]:
    """The slices along one axis."""
    axis = normalize_axis_index(axis, x.ndim)
    return tuple(getitem(x, index=along(axis, i)) for i in range(x.shape[axis]))


# ----- Diagonals -----


def _diagonal_index(rows: int, columns: int, offset: int) -> tuple[Any, Any]:
    i = np.arange(max(0, min(rows + min(offset, 0), columns - max(offset, 0))))
    return i - min(offset, 0), i + max(offset, 0)


_diagonal = linear(  # a view; NumPy's is read-only
    "diagonal",
    lambda a, offset: np.diagonal(a, offset, -2, -1),
    lambda g, offset, like: put(
        g, index=(..., *_diagonal_index(like.shape[-2], like.shape[-1], offset)), shape=like.shape
    ),
    view=True,
)


def diagonal(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """The diagonals of matrices, along the last axis; read-only."""
    return _diagonal(moveaxis(a, (axis1, axis2), (-2, -1)), offset=offset)


def linalg_diagonal(x: Any, /, *, offset: int = 0) -> Any:
    """The diagonals of matrices in the last two axes."""
    return diagonal(x, offset, -2, -1)


def diag(v: Any, k: int = 0) -> Any:
    """The diagonal of a matrix, or a matrix with this diagonal."""
    if v.ndim == 2:
        return diagonal(v, k)
    if v.ndim != 1:
        raise ValueError(f"diag: v must have one axis or two, got shape {v.shape}")
    n = v.size + abs(k)
    return put(v, index=_diagonal_index(n, n, k), shape=(n, n))


def diagflat(v: Any, k: int = 0) -> Any:
    """A matrix with these elements on its diagonal."""
    return diag(ravel(operand(v)), k)


def _pad(array: Any, pad_width: Any, mode: str = "constant", **kwargs: Any) -> Any:
    """Pad with a constant, or with elements of the array: the others compute, and have no derivative yet."""
    if isinstance(pad_width, dict):
        pad_width = [pad_width.get(a, pad_width.get(a - array.ndim, (0, 0))) for a in range(array.ndim)]
    widths = tuple((int(b), int(a)) for b, a in np.broadcast_to(pad_width, (array.ndim, 2)))
    if mode == "constant":
        return pad(array, widths=widths, value=kwargs.get("constant_values", 0))
    if mode not in ("edge", "reflect", "symmetric", "wrap") or kwargs.get("reflect_type") == "odd":
        raise NotImplementedError(f"pad has no derivative in mode {mode!r} with {kwargs}")
    out = array
    for axis, (n, width) in enumerate(zip(array.shape, widths, strict=True)):
        if width != (0, 0):
            out = getitem(out, index=along(axis, np.pad(np.arange(n), width, mode=mode)))  # type: ignore[call-overload]
    return copy(array) if out is array else out


def sliding_window_view(x: Any, window_shape: Any, axis: Any = None, *, subok: bool = False) -> Any:
    """All windows of a size along some axes, their elements along new last axes; read-only."""
    window = tuple(window_shape) if isinstance(window_shape, Sequence) else (window_shape,)
    axes = normalize_axis_tuple(range(x.ndim) if axis is None else axis, x.ndim)
    if len(axes) != len(window):
        raise ValueError(f"sliding_window_view: window_shape {window} must have one entry for each of the axes {axes}")
    ends = tuple(range(x.ndim - len(axes), x.ndim))
    windows = sliding_windows(moveaxis(x, axes, ends), window=window, stride=(1,) * len(axes))
    return moveaxis(windows, ends, axes)


def _copy(a: Any, order: str = "K", subok: bool = False) -> Any:
    return copy(a)


def _astype(x: Any, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Any:
    return astype(x, dtype=np.dtype(dtype), copy=copy)


FUNCTIONS: Table = {
    np.append: append, np.array_split: array_split, np.astype: _astype, np.atleast_1d: atleast_1d,
    np.atleast_2d: atleast_2d, np.atleast_3d: atleast_3d, np.block: block, np.broadcast_arrays: broadcast_arrays,
    np.broadcast_to: broadcast_to, np.column_stack: column_stack, np.concatenate: _concatenate, np.copy: _copy,
    np.diag: diag, np.diagflat: diagflat, np.diagonal: diagonal, np.dsplit: dsplit, np.dstack: dstack,
    np.expand_dims: expand_dims, np.flip: flip, np.fliplr: fliplr, np.flipud: flipud, np.hsplit: hsplit,
    np.hstack: hstack, np.linalg.diagonal: linalg_diagonal, np.lib.stride_tricks.sliding_window_view: sliding_window_view,
    np.linalg.matrix_transpose: matrix_transpose,
    np.matrix_transpose: matrix_transpose, np.meshgrid: meshgrid, np.moveaxis: moveaxis, np.pad: _pad, np.ravel: ravel,
    np.repeat: repeat, np.reshape: _reshape, np.roll: roll, np.rollaxis: rollaxis, np.rot90: rot90, np.split: split,
    np.squeeze: squeeze, np.stack: _stack, np.swapaxes: swapaxes, np.tile: tile, np.transpose: transpose,
    np.tril: tril, np.triu: triu, np.unstack: unstack, np.vsplit: vsplit, np.vstack: vstack,
}  # fmt: skip

# ----- Parts of rules -----


def _inverse(axes: Any) -> Any:
    if axes is None:
        return None
    back = [0] * len(axes)
    for i, a in enumerate(axes):
        back[a] = i
    return tuple(back)


def _negated(shift: Any) -> Any:
    return tuple(-s for s in shift) if isinstance(shift, Sequence) else -shift


def _unrepeat(g: Any, like: Any, repeats: Any, axis: int | None) -> Any:
    """Sum the copies: n groups of equally many, or as many as `repeats` says for each."""
    shape = (math.prod(like.shape),) if axis is None else like.shape
    axis = 0 if axis is None else normalize_axis_index(axis, len(shape))
    if np.size(repeats) == 1:
        groups = reshape(g, shape=(*shape[: axis + 1], int(np.reshape(repeats, ())), *shape[axis + 1 :]))
        out = groups.sum(axis=axis + 1)
    else:
        out = put(g, index=along(axis, np.repeat(np.arange(shape[axis]), repeats)), shape=shape)
    return reshape(out, shape=like.shape)


def _untile(g: Any, like: Any, reps: Any) -> Any:
    """Sum the copies: axis a of the result is (reps[a], n[a])."""
    reps = tuple(reps) if isinstance(reps, Sequence) else (reps,)
    n = max(len(reps), len(like.shape))
    reps, shape = (1,) * (n - len(reps)) + reps, (1,) * (n - len(like.shape)) + tuple(like.shape)
    pairs = reshape(g, shape=tuple(size for pair in zip(reps, shape, strict=True) for size in pair))
    return reshape(pairs.sum(axis=tuple(range(0, 2 * n, 2))), shape=like.shape)
