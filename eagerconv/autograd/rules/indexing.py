"""Indexing and windows: getitem and put are each other's transposes, as are sliding_windows and overlap_add."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from eagerconv import devices
from eagerconv.autograd.rules.operands import Table, operand, operands, value
from eagerconv.autograd.rules.ufuncs import where
from eagerconv.autograd.tape import Op, defvjp, linear

getitem: Op = linear(
    "getitem", lambda x, index: x[index], lambda g, index, like: put(g, index=index, shape=like.shape), view=True
)
put: Op = linear("put", lambda v, index, shape: _put(v, index, shape), lambda g, index: getitem(g, index=index))
puts: Op = defvjp(  # the sum of several, in one array
    "puts",
    lambda *operands, indices, shape: _puts(operands, indices, shape),
    lambda g, position, indices: getitem(g, index=indices[position]),
)
getitem.parts = puts
setitem: Op = defvjp(
    "setitem",
    lambda x, v, index: _setitem(x, v, index),
    lambda g, index: setitem(g, 0, index=index),
    lambda g, index: getitem(g, index=index) * _last_writers(g, index),
)
write: Op = defvjp(  # as `views` asks: steps are operations that lead from x to a view of it, with their parameters
    "write",
    lambda x, v, steps, order: _write(x, v, steps, order),
    lambda g, steps, order: write(g, 0, steps=steps, order=order),
    lambda g, steps: _through(g, steps, Op.__call__),
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

# ----- Functions of NumPy that are an index -----


def along(axis: int, *index: Any) -> tuple[Any, ...]:
    """The index that applies `index` at one axis, counted from the front, and takes all of those before it."""
    return (*(slice(None),) * axis, *index)


def take(a: Any, indices: Any, axis: int | None = None, out: None = None, mode: str = "raise") -> Any:
    """Elements of a flat array, or slices along one axis, by their numbers."""
    if axis is None:
        a, axis = a.reshape(-1), 0
    axis = normalize_axis_index(axis, a.ndim)
    index, n = value(operand(indices)), a.shape[axis]
    if mode == "wrap":
        index = index % n
    elif mode == "clip":
        index = np.clip(index, 0, n - 1)
    return getitem(a, index=along(axis, index))


def take_along_axis(arr: Any, indices: Any, axis: int | None = -1) -> Any:
    """Elements by their number along one axis, which may differ from place to place."""
    if axis is None:
        arr, axis = arr.reshape(-1), 0
    axis, index = normalize_axis_index(axis, arr.ndim), value(indices)
    shape = [n if a != axis else index.shape[axis] for a, n in enumerate(arr.shape)]
    grid = [  # np.ogrid, with lines of one element where the other operand broadcasts
        np.arange(n).reshape([-1 if b == a else 1 for b in range(arr.ndim)]) for a, n in enumerate(shape)
    ]
    return getitem(arr, index=(*grid[:axis], index, *grid[axis + 1 :]))


def compress(condition: Any, a: Any, axis: int | None = None, out: None = None) -> Any:
    """Slices along one axis where the condition holds."""
    return take(a, np.flatnonzero(value(condition)), axis)


def extract(condition: Any, arr: Any) -> Any:
    """Elements where the condition holds."""
    return take(arr, np.flatnonzero(value(condition)))


def delete(arr: Any, obj: Any, axis: int | None = None) -> Any:
    """All slices along one axis but some."""
    n = arr.size if axis is None else arr.shape[axis]
    return take(arr, np.delete(np.arange(n), value(obj)), axis)


def resize(a: Any, new_shape: Any) -> Any:
    """Elements one after another, from the start again when they are used up; zeros where there are none."""
    where_from = np.resize(np.arange(a.size), new_shape)
    if not a.size:
        return put(a.reshape(-1), index=(np.empty(0, np.intp),) * where_from.ndim, shape=where_from.shape)
    return getitem(a.reshape(-1), index=where_from)


def select(condlist: Sequence[Any], choicelist: Sequence[Any], default: Any = 0) -> Any:
    """From the first of several choices whose condition holds."""
    out = default
    if isinstance(default, (int, float, complex)):  # weakly typed among the choices, and of their dtype from here on
        among = np.result_type(*(value(choice) for choice in choicelist))
        out = (np.result_type(default, among) if among.kind in "biufc" else among).type(default)
    for condition, choice in zip(reversed(condlist), reversed(choicelist), strict=True):
        out = where(condition, choice, out)
    return out


def choose(a: Any, choices: Sequence[Any], out: None = None) -> Any:
    """At each place, of the choice with the number that stands there."""
    numbers = value(operands(*choices, a)[-1])
    if ((numbers < 0) | (numbers >= len(choices))).any():
        raise ValueError(f"choose: a must hold numbers from 0 to {len(choices) - 1}, of the choices that there are")
    return select([numbers == i for i in range(len(choices))], choices)


FUNCTIONS: Table = {
    np.choose: choose, np.compress: compress, np.delete: delete, np.extract: extract, np.resize: resize,
    np.select: select, np.take: take, np.take_along_axis: take_along_axis,
}  # fmt: skip

# ----- What the rows are made of -----


def _each_once(index: Any) -> bool:
    """Whether no element can be met twice: a mask, an index that NumPy would answer with a view, or numbers that differ."""
    parts = index if isinstance(index, tuple) else (index,)
    # To look at the numbers of an index on a GPU would wait for it.
    arrays = [np.asarray(part) for part in parts if isinstance(part, (np.ndarray, list)) and devices.of(part) != "cuda"]
    plain = (int, np.integer, slice, type(None), type(Ellipsis))
    if len(arrays) + sum(isinstance(part, plain) for part in parts) < len(parts):
        return False
    if len(arrays) < 2:
        return not arrays or _all_differ(arrays[0])
    if any(array.dtype == bool for array in arrays):  # these stand for as many numbers as they hold
        return False
    return any(_all_differ(array) for array in np.broadcast_arrays(*arrays))


def _all_differ(index: Any) -> bool:
    """Whether the numbers of an index (those of a mask are) meet an element once, as those of a permutation."""
    if index.dtype == bool or not index.size:
        return True
    low, high = index.min(), index.max()
    if low < 0 <= high:  # counted from both ends
        return False
    if int(high) - int(low) >= 64 * index.size:
        return False  # counting would take longer than adding
    return bool(np.bincount((index - low).astype(np.intp).ravel()).max() == 1)


def _put(v: Any, index: Any, shape: tuple[int, ...]) -> Any:
    out = np.zeros_like(v, shape=shape)
    if _each_once(index):
        out[index] = v
    else:
        for of_out, of_v in _parts(out, v):
            np.add.at(of_out, index, of_v)
    return out


def _puts(vs: Any, indices: Any, shape: tuple[int, ...]) -> Any:
    out = vs[0].copy() if indices[0] is Ellipsis else np.zeros_like(vs[0], shape=shape)
    for v, index in list(zip(vs, indices, strict=True))[indices[0] is Ellipsis :]:
        if _each_once(index):
            out[index] += v
        else:
            for of_out, of_v in _parts(out, v):
                np.add.at(of_out, index, of_v)
    return out


def _parts(out: Any, v: Any) -> list[tuple[Any, Any]]:
    """The arrays themselves, or what of them CuPy can add up: the parts of complex numbers."""
    if type(out) is np.ndarray or out.dtype.kind != "c":
        return [(out, v)]
    return [(out.real, v.real), (out.imag, v.imag)]


def _setitem(x: Any, v: Any, index: Any) -> Any:
    out = x.copy()
    out[index] = v
    return out


def _write(x: Any, v: Any, steps: Any, order: tuple[int, ...]) -> Any:
    """A copy with its axes in memory in this order, whose view at the end of the steps is v."""
    out = np.empty_like(x, shape=tuple([x.shape[a] for a in order]), order="C").transpose(np.argsort(order).tolist())
    out[...] = x
    view = _through(out, steps, lambda op, array, **params: op.fn(array, **params))
    if view.size and not np.may_share_memory(view, out):
        raise RuntimeError("an in-place change cannot be recorded of this view; change a copy, x = x.clone()")
    view[...] = v
    return out


def _through(x: Any, steps: Any, take: Callable[..., Any]) -> Any:
    """The view at the end of the steps."""
    for op, params in steps:
        x = take(op, x, **params)
    return x


def _last_writers(g: Any, index: Any) -> Any:
    """1 where an assigned value is still there at the end: of several values for one element the last one stays."""
    if _each_once(index):
        return 1
    order = np.zeros_like(value(g), np.intp)
    count = np.cumsum(np.ones_like(order[index]).ravel()).reshape(order[index].shape)
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
