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
        d, share, o = self.dilation[axis], self.share[axis], np.arange(self.out[axis])
        first = o * self.stride[axis] // share - self.pad[axis]
        last = -(-(o * self.stride[axis] + self.extent[axis]) // share) - self.pad[axis]
        low, high = (-self.pad[axis], self.size[axis] + self.after[axis]) if padding else (0, self.size[axis])
        first = first - np.minimum(first - low, 0) // d * d
        return first, np.maximum(-(-(np.minimum(last, high) - first) // d), 0)

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


def _walk(x: Any, w: Windows) -> Iterator[tuple[int, int, str]]:
    """The axes that are pooled, the last one first: their numbers in w and in x, and where x is."""
    place = devices.of(x) or "cpu"
    for axis in range(len(w.size) - 1, -1, -1):
        yield axis, x.ndim - len(w.size) + axis, place


def _resized(shape: Shape, axis: int, n: int) -> Shape:
    return (*shape[:axis], n, *shape[axis + 1 :])


# ----- Primitives. Arrays have shape (..., *size) or (..., *out), w is a Windows -----


def _max(x: Any, w: Windows) -> Any:
    if (found := planes.max_planes(x, w.axes)) is not None:
        return found
    for of_w, axis, place in _walk(x, w):
        out = np.full_like(x, _lowest(x.dtype), shape=_resized(x.shape, axis, w.out[of_w]))
        for o, i in w.pairs(of_w, place):
            best = _at(out, axis, o)
            if isinstance(o, slice):
                np.maximum(best, _at(x, axis, i), out=best)
            else:
                out[along(axis, o)] = np.maximum(best, _at(x, axis, i))
        x = out
    return x


def _lowest(dtype: np.dtype[Any]) -> Any:
    if dtype.kind == "b":
        return False
    return np.iinfo(dtype).min if dtype.kind in "iu" else -np.inf


def _sum(x: Any, w: Windows) -> Any:
    if (found := planes.sum_planes(x, w.axes)) is not None:
        return found
    for of_w, axis, place in reversed(list(_walk(x, w))):  # rows are added faster, and fewer are left for the last axis
        out = np.zeros_like(x, shape=_resized(x.shape, axis, w.out[of_w]))
        for o, i in w.pairs(of_w, place):
            out[along(axis, o)] += _at(x, axis, i)
        x = out
    return x


def _spread(g: Any, w: Windows) -> Any:
    """The transpose of `_sum`."""
    if (found := planes.spread_planes(g, w.axes)) is not None:
        return found
    for of_w, axis, place in _walk(g, w):
        x = np.zeros_like(g, shape=_resized(g.shape, axis, w.size[of_w]))
        for o, i in w.pairs(of_w, place):
            x[along(axis, i)] += _at(g, axis, o)
        g = x
    return g


def winners(x: Any, w: Windows) -> Any:
    """Where in its plane, which is flattened, each window has its first largest element, row by row; NaN is largest."""
    many = np.min_scalar_type(math.prod(w.size))
    numbers = np.arange(math.prod(w.size), dtype=many).reshape(w.size)
    index = np.broadcast_to(_on(numbers, devices.of(x) or "cpu"), x.shape)
    for of_w, axis, place in _walk(x, w):
        begin = _on(w.inside(of_w)[0], place)
        best, where = x.take(begin, axis), index.take(begin, axis)
        for o, i in w.pairs(of_w, place):
            value, least = _at(x, axis, i), _at(best, axis, o)
            larger = (value > least) | ((value != value) & (least == least))
            best[along(axis, o)] = np.where(larger, value, least)
            where[along(axis, o)] = np.where(larger, _at(index, axis, i), _at(where, axis, o))
        x, index = best, where
    return index.astype(np.intp)


def numbered(index: Any, planes: int, size: int) -> Any:
    """Places in flattened planes, of so many elements each, as places in all planes one after another, in one axis."""
    first = _on(np.arange(planes)[:, None] * size, devices.of(index) or "cpu")
    return (index.reshape(planes, -1) + first).ravel() if planes else index.ravel()


def _flat_winners(x: Any, w: Windows) -> Any:
    """Of the flattened output, in the flattened input."""
    return numbered(winners(x, w), math.prod(x.shape[: x.ndim - len(w.size)]), math.prod(w.size))


def _place(g: Any, x: Any, w: Windows) -> Any:
    if not tape.is_grad_enabled() and (found := planes.max_gradients(g.data, x.data, w.axes)) is not None:
        return type(g)._wrap(found)
    flat = rules.put(widened(g).reshape(-1), index=_flat_winners(x.data, w), shape=(x.size,))
    return flat.reshape(x.shape)


def _pick(t: Any, x: Any, w: Windows) -> Any:
    return t.reshape(-1)[_flat_winners(x.data, w)].reshape(x.shape[: x.ndim - len(w.size)] + w.out)


max_windows = defvjp("max_windows", _max, _place, jvp=_pick)
sum_windows = linear("sum_windows", _sum, lambda g, w: spread_windows(g, w=w))
spread_windows: Op = linear("spread_windows", _spread, lambda g, w: sum_windows(g, w=w))
