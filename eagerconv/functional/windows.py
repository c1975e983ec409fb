"""The windows of poolings: where they lie, and their largest elements and sums as operations of the tape.

Windows are boxes, so what is computed of them is computed axis by axis.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from eagerconv import devices
from eagerconv.autograd import rules, tape
from eagerconv.autograd.rules.indexing import along
from eagerconv.autograd.tape import Op, defvjp, linear
from eagerconv.dtypes import widened
from eagerconv.kernels_cpu import pooling as planes
from eagerconv.spec import Shape

Part = Any  # of an axis: a slice, or an array of numbers


@dataclass(frozen=True, slots=True)
class Windows:
    """Where the windows of a pooling lie, per axis.

    Window o sees every dilation-th element from first(o) on and in front of last(o), as far as they lie in 0 <= i < size:

        first(o) = floor(o * stride / share) - pad        last(o) = ceil((o * stride + extent) / share) - pad

    Windows that share out an axis have `share` > 1, and neither padding nor dilation.
    """

    size: Shape
    extent: Shape
    stride: Shape
    dilation: Shape
    share: Shape
    pad: Shape
    after: Shape
    out: Shape

    @property
    def axes(self) -> planes.Windows:
        """As kernels take them."""
        return self.size, self.out, self.extent, self.stride, self.dilation, self.share, self.pad

    def inside(self, axis: int, padding: bool = False) -> tuple[Any, Any]:
        """Of each window its first element that lies inside (of the padding, if it counts), and how many do; arrays (out,)."""
        return _inside(self, axis, padding)

    def counts(self, padding: bool) -> Any:
        """How many elements each window has, padding included or not; an array of shape `out`."""
        total = np.ones((), np.intp)
        for axis in range(len(self.size)):
            total = total[..., None] * self.inside(axis, padding)[1]
        return total

    def pairs(self, axis: int, place: str) -> Iterator[tuple[Part, Part]]:
        """Windows, and one element of each of them, until all elements of all windows were met.

        No pair has a window or an element twice. A window meets its elements in order, and an element its windows from the
        last to the first.
        """
        for windows, elements in _pairs(self, axis):
            yield _on(windows, place), _on(elements, place)


@lru_cache(maxsize=256)
def _inside(w: Windows, axis: int, padding: bool) -> tuple[Any, Any]:
    s, d, share, p, o = w.stride[axis], w.dilation[axis], w.share[axis], w.pad[axis], np.arange(w.out[axis])
    first, last = o * s // share - p, -(-(o * s + w.extent[axis]) // share) - p
    low, high = (-p, w.size[axis] + w.after[axis]) if padding else (0, w.size[axis])
    first = first - np.minimum(first - low, 0) // d * d
    return first, np.maximum(-(-(np.minimum(last, high) - first) // d), 0)


@lru_cache(maxsize=256)
def _pairs(w: Windows, axis: int) -> list[tuple[Part, Part]]:
    n, m, s, d, p = w.size[axis], w.out[axis], w.stride[axis], w.dilation[axis], w.pad[axis]
    found: list[tuple[Part, Part]] = []
    if w.share[axis] == 1:
        for k in range(0, w.extent[axis], d):
            begin = max(0, -((k - p) // s))  # the first o with o * s + k - p >= 0
            count = max(0, min(m - 1, (n - 1 + p - k) // s) + 1 - begin)  # up to o * s + k - p <= n - 1
            start = begin * s + k - p
            if count:
                found.append((slice(begin, begin + count), slice(start, start + count * s, s)))
        return found
    first, counts = w.inside(axis)
    number = np.arange(m) - np.searchsorted(first, first)  # of those that begin at the same element
    for k in range(int(counts.max(initial=0))):
        for same in range(int(number.max()), -1, -1):
            (o,) = np.nonzero((counts > k) & (number == same))
            found.append((slice(None) if len(o) == m else o, first[o] + k))
    return found


def _on(part: Part, place: str) -> Part:
    return part if isinstance(part, slice) or place == "cpu" else devices.constant(part, place)


def _at(x: Any, axis: int, part: Part) -> Any:
    return x[along(axis, part)] if isinstance(part, slice) else x.take(part, axis)


def _walk(x: Any, w: Windows, last_first: bool = False) -> Iterator[tuple[int, int, str]]:
    """The axes that are pooled: their numbers in w and in x, and where x is.

    From the first on, rows are reduced at once, and fewer numbers are left for the last axis, where each is alone.
    """
    place = devices.of(x) or "cpu"
    for axis in reversed(range(len(w.size))) if last_first else range(len(w.size)):
        yield axis, x.ndim - len(w.size) + axis, place


def _resized(shape: Shape, axis: int, n: int) -> Shape:
    return (*shape[:axis], n, *shape[axis + 1 :])


# ----- Primitives. Arrays have shape (..., *size) or (..., *out), w is a Windows -----


def _wide(array: Any) -> Any:
    """16-bit floats as float32, in which they compare and add faster, for a while; anything else as it is."""
    return array.astype(np.float32) if array.dtype.name in ("float16", "bfloat16") else array


def _max(x: Any, w: Windows) -> Any:
    if (wide := _wide(x)) is not x:
        return _max(wide, w).astype(x.dtype)
    if (found := planes.max_planes(x, w.axes)) is not None:
        return found
    for of_w, axis, place in _walk(x, w):
        x = _max_along(x, w, of_w, axis, place)
    return x


def _max_along(x: Any, w: Windows, of_w: int, axis: int, place: str) -> Any:
    out = np.full_like(x, _lowest(x.dtype), shape=_resized(x.shape, axis, w.out[of_w]))
    for o, i in w.pairs(of_w, place):
        best = _at(out, axis, o)
        if isinstance(o, slice):
            np.maximum(best, _at(x, axis, i), out=best)
        else:
            out[along(axis, o)] = np.maximum(best, _at(x, axis, i))
    return out


def _lowest(dtype: np.dtype[Any]) -> Any:
    if dtype.kind == "b":
        return False
    return np.iinfo(dtype).min if dtype.kind in "iu" else -np.inf


def _sum(x: Any, w: Windows) -> Any:
    if (found := planes.sum_planes(x, w.axes)) is not None:
        return found
    for of_w, axis, place in _walk(x, w):
        out = np.zeros_like(x, shape=_resized(x.shape, axis, w.out[of_w]))
        for o, i in w.pairs(of_w, place):
            out[along(axis, o)] += _at(x, axis, i)
        x = out
    return x


def _spread(g: Any, w: Windows) -> Any:
    """The transpose of `_sum`."""
    if (found := planes.spread_planes(g, w.axes)) is not None:
        return found
    for of_w, axis, place in _walk(g, w, last_first=True):
        x = np.zeros_like(g, shape=_resized(g.shape, axis, w.size[of_w]))
        for o, i in w.pairs(of_w, place):
            x[along(axis, i)] += _at(g, axis, o)
        g = x
    return g


def winners(x: Any, w: Windows) -> Any:
    """Where in its plane, which is flattened, each window has its first largest element, row by row; NaN is largest.

    The first row that has a window's largest element comes before all others: so the axes are found one after the other,
    among what is largest along those behind it.
    """
    lead, nd = x.shape[: x.ndim - len(w.size)], len(w.size)
    largest = [_wide(x)]
    for of_w, axis, place in _walk(x, w, last_first=True):
        largest.append(_max_along(largest[-1], w, of_w, axis, place))
    best = largest.pop()  # (..., *out)
    place = devices.of(x) or "cpu"
    nan = place != "cpu" or bool((best != best).any())  # a GPU is not waited for
    shapes = [(-1, *(1,) * (nd - 1 - axis)) for axis in range(nd)]
    # Per axis the numbers of the windows, in whose place come those of their elements, where they were found.
    found = [_on(np.arange(m).reshape(shape), place) for m, shape in zip(w.out, shapes, strict=True)]
    plane = _on(np.arange(math.prod(lead)).reshape(*lead, *(1,) * nd), place)
    for axis in range(nd):
        level = largest.pop()  # (..., *size up to the axis, *out behind it)
        begin, count = w.inside(axis)
        most, step = int(count.max(initial=0)), math.prod(w.out[axis + 1 :])
        begin, count = (_on(numbers, place).reshape(shapes[axis]) for numbers in (begin, count))
        at = _numbers(plane, [*found[:axis], begin, *found[axis + 1 :]], level.shape[x.ndim - nd :])
        seen, number = np.zeros_like(best, bool), np.zeros_like(best, np.min_scalar_type(most))
        for k in range(most):
            value = level.reshape(-1).take(at + np.where(k < count, k * w.dilation[axis] * step, 0))
            seen |= (value == best) | ((value != value) & (best != best)) if nan else value == best
            number += ~seen
        found[axis] = begin + number * w.dilation[axis]
    return _numbers(0, found, w.size) + np.zeros_like(best, np.intp)


def _numbers(first: Any, places: list[Any], sizes: Shape) -> Any:
    """Places along several axes as numbers of elements one after another."""
    for place, size in zip(places, sizes, strict=True):
        first = first * size + place
    return first


def numbered(index: Any, planes: int, size: int) -> Any:
    """Places in flattened planes, of so many elements each, as places in all planes one after another, in one axis."""
    first = _on(np.arange(planes)[:, None] * size, devices.of(index) or "cpu")
    return (index.reshape(planes, -1) + first).ravel() if planes else index.ravel()


def _flat_winners(x: Any, w: Windows) -> Any:
    """Of the flattened output, in the flattened input."""
    return numbered(winners(x, w), math.prod(x.shape[: x.ndim - len(w.size)]), math.prod(w.size))


def _place(g: Any, x: Any, w: Windows) -> Any:
    if not tape.is_grad_enabled():
        found = planes.max_gradients(_wide(g.data), _wide(x.data), w.axes)
        if found is not None:
            return type(g)._wrap(found)
    flat = rules.put(widened(g).reshape(-1), index=_flat_winners(x.data, w), shape=(x.size,))
    return flat.reshape(x.shape)


def _pick(t: Any, x: Any, w: Windows) -> Any:
    return t.reshape(-1)[_flat_winners(x.data, w)].reshape(x.shape[: x.ndim - len(w.size)] + w.out)


max_windows = defvjp("max_windows", _max, _place, jvp=_pick)
sum_windows = linear("sum_windows", _sum, lambda g, w: spread_windows(g, w=w))
spread_windows: Op = linear("spread_windows", _spread, lambda g, w: sum_windows(g, w=w))
