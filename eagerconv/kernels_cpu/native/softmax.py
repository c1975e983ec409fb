"""Softmax and its relatives over one axis of arrays (outer, length, inner), each with its gradient, in the fewest passes.

Where the axis is the last one (inner = 1) its numbers lie in the lanes, and a task is one row. Elsewhere neighbours along inner
do, and a task is some vectors of them: a tile that is read again from the first cache. The algorithm is written once, of
`reduce` and `map`, which know how the axis lies. The largest number is taken away before exponentials, so nothing overflows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from eagerconv.formulas import Value
from eagerconv.kernels_cpu.blocks import SOFTMAX_VECTORS
from eagerconv.kernels_cpu.native.elementary import Lanes, exp_negative, log
from eagerconv.kernels_cpu.native.rowwise import each, reduced
from eagerconv.kernels_cpu.native.simd import I32, I64, Emitted, Loop, Vectors
from eagerconv.kernels_cpu.table import SOFTMAX as at

Body = Callable[..., Value]
UNROLLED = 4  # vectors of partial results of a row

_JOIN: dict[str, tuple[float, Callable[[Lanes, Value, Value], Value]]] = {
    "max": (-math.inf, lambda m, a, b: m.where(a > b, a, b)),
    "sum": (0.0, lambda m, a, b: a + b),
}


class Along:
    """The axis lies in the lanes: one row of `n` neighbours. What is reduced is in every lane."""

    parts = 1

    def __init__(self, v: Vectors, n: Any) -> None:
        self.v, self.m, self.n = v, Lanes(v), n

    def reduce(self, join: str, body: Body, sources: list[Any], to: Any = None, fill: float = 0.0) -> list[Value]:
        """The largest, or the sum, of what `body` makes of the sources' numbers, which is also written `to` somewhere.

        Behind the row's end stands `fill`, which must change nothing.
        """
        v, (start, joined) = self.v, _JOIN[join]

        def join_held(held: Any, more: Any) -> Any:
            return joined(self.m, Value(self.m, more), Value(self.m, held)).held

        def one(i: Any, mask: Any) -> list[Any]:
            return [self._one(body, sources, to, i, mask, fill).held]

        (held,) = reduced(v, self.n, UNROLLED, [self.m.constant(start).held], join_held, one)
        return [Value(self.m, v.splat(v.maximum(held) if join == "max" else v.sum(held)))]

    def map(self, body: Body, sources: list[Any], to: Any) -> None:
        """Write what `body` makes of the sources' numbers."""
        each(self.v, self.n, lambda i, mask: self._one(body, sources, to, i, mask))

    def _one(self, body: Body, sources: list[Any], to: Any, i: Any, mask: Any, fill: float = 0.0) -> Value:
        v = self.v
        values = [Value(self.m, v.load(v.at(p, i), mask)) for p in sources]
        if mask is not None and fill:
            values = [self.m.where(Value(self.m, mask), value, fill) for value in values]
        out = body(0, *values)
        if to is not None:
            v.store(out.held, v.at(to, i), mask)
        return out

    def number(self, pointer: Any) -> list[Value]:
        """The number of this row, of an array (outer, inner)."""
        return [Value(self.m, self.v.broadcast(pointer))]

    def keep(self, values: list[Value], pointer: Any) -> None:
        """Write the number of this row to such an array."""
        b = self.v.builder
        b.store(b.extract_element(values[0].held, I32(0)), pointer)


class Across:
    """The axis lies across the lanes, `stride` apart: some vectors of neighbours, each with reductions of its own."""

    parts = SOFTMAX_VECTORS

    def __init__(self, v: Vectors, n: Any, stride: Any, masks: list[Any]) -> None:
        self.v, self.m, self.n, self.stride, self.masks = v, Lanes(v), n, stride, masks

    def reduce(self, join: str, body: Body, sources: list[Any], to: Any = None, fill: float = 0.0) -> list[Value]:
        """As for `Along`, in every lane."""
        start, joined = _JOIN[join]
        with Loop(self.v.builder, self.n, [self.m.constant(start).held] * self.parts) as loop:
            found = self._row(body, sources, to, loop.index)
            loop.next = [joined(self.m, one, Value(self.m, h)).held for one, h in zip(found, loop.values, strict=True)]
        return [Value(self.m, held) for held in loop.results]

    def map(self, body: Body, sources: list[Any], to: Any) -> None:
        """Likewise."""
        with Loop(self.v.builder, self.n, []) as loop:
            self._row(body, sources, to, loop.index)

    def _row(self, body: Body, sources: list[Any], to: Any, i: Any) -> list[Value]:
        v, at_row = self.v, self.v.builder.mul(i, self.stride)
        places = [v.builder.add(at_row, I64(part * v.lanes)) for part in range(self.parts)]
        found = []
        for part, (place, mask) in enumerate(zip(places, self.masks, strict=True)):
            found.append(body(part, *(Value(self.m, v.load(v.at(p, place), mask)) for p in sources)))
        if to is not None:
            for value, place, mask in zip(found, places, self.masks, strict=True):
                v.store(value.held, v.at(to, place), mask)
        return found

    def number(self, pointer: Any) -> list[Value]:
        """The numbers of these neighbours, of an array (outer, inner)."""
        v = self.v
        return [
            Value(self.m, v.load(v.at(pointer, part * v.lanes), mask)) for part, mask in enumerate(self.masks)
        ]  # fmt: skip

    def keep(self, values: list[Value], pointer: Any) -> None:
        """Write them."""
        for part, (value, mask) in enumerate(zip(values, self.masks, strict=True)):
            self.v.store(value.held, self.v.at(pointer, part * self.v.lanes), mask)


Axis = Along | Across


# ----- The algorithms. `first` and `second` are arrays like y; the others have a number for each row -----


def _tops(axis: Axis, x: Any, to: Any = None) -> tuple[list[Value], list[Value]]:
    """The largest number, and the sum of the exponentials of what lies below it, which are written `to` somewhere."""
    tops = axis.reduce("max", lambda part, value: value, [x], None, -math.inf)
    sums = axis.reduce("sum", lambda part, value: exp_negative(axis.m, value - tops[part]), [x], to, -math.inf)
    return tops, sums


def softmax(axis: Axis, y: Any, x: Any, second: Any, *numbers: Any) -> None:
    """Exponentials over their sum."""
    _, sums = _tops(axis, x, y)
    inverse = [1.0 / total for total in sums]
    axis.map(lambda part, value: value * inverse[part], [y], y)


def softmax_back(axis: Axis, gx: Any, g: Any, y: Any, *numbers: Any) -> None:
    """The gradient y (g - sum g y)."""
    dots = axis.reduce("sum", lambda part, a, b: a * b, [g, y])
    axis.map(lambda part, a, b: b * (a - dots[part]), [g, y], gx)


def log_softmax(axis: Axis, y: Any, x: Any, second: Any, *numbers: Any) -> None:
    """What is left of x without the largest number and the logarithm of the sum, in this order: it cancels nothing."""
    tops, sums = _tops(axis, x)
    logs = [log(axis.m, total) for total in sums]
    axis.map(lambda part, value: (value - tops[part]) - logs[part], [x], y)


def log_softmax_back(axis: Axis, gx: Any, g: Any, y: Any, *numbers: Any) -> None:
    """The gradient g - exp(y) sum g."""
    sums = axis.reduce("sum", lambda part, value: value, [g])
    axis.map(lambda part, a, b: a - exp_negative(axis.m, b) * sums[part], [g, y], gx)


def logarithms(axis: Axis, top: Any, x: Any, second: Any, logs: Any, *numbers: Any) -> None:
    """Top and logarithm of the sum: what log_softmax takes away, for each row."""
    tops, sums = _tops(axis, x)
    axis.keep(tops, top)
    axis.keep([log(axis.m, total) for total in sums], logs)


def weighted(axis: Axis, gx: Any, x: Any, second: Any, top: Any, logs: Any, g: Any) -> None:
    """The probabilities exp((x - top) - log), times a number for each row: the gradient of cross-entropy, but for the class."""
    tops, logarithms_, factors = (axis.number(p) for p in (top, logs, g))
    axis.map(
        lambda part, value: exp_negative(axis.m, (value - tops[part]) - logarithms_[part]) * factors[part], [x], gx
    )


# ----- Kernels -----


def _kernel(algorithm: Callable[..., None], across: bool) -> Emitted:
    def emit(v: Vectors, first: Any, last: Any, thread: Any, x: Any, w: Any, y: Any, work: Any, g: Any) -> None:
        b = v.builder

        def entry(place: int) -> Any:
            return b.load(b.gep(g, [I64(place)]))

        length, inner = entry(at.LENGTH_OF_AXIS), entry(at.INNER)
        numbers = [b.inttoptr(entry(at.LENGTH + i), v.element.as_pointer()) for i in range(3)]
        with Loop(b, b.sub(last, first), []) as tasks:
            task = b.add(first, tasks.index)
            (_tile if across else _row)(algorithm, v, task, length, inner, x, w, y, numbers)

    return Emitted(emit)


def _row(
    algorithm: Callable[..., None], v: Vectors, task: Any, length: Any, inner: Any, x: Any, w: Any, y: Any, numbers: Any
) -> None:
    begin = v.builder.mul(task, length)
    there = v.at(y, task if algorithm is logarithms else begin)
    algorithm(Along(v, length), there, v.at(x, begin), v.at(w, begin), *(v.at(p, task) for p in numbers))


def _tile(
    algorithm: Callable[..., None], v: Vectors, task: Any, length: Any, inner: Any, x: Any, w: Any, y: Any, numbers: Any
) -> None:
    b, tile = v.builder, v.lanes * SOFTMAX_VECTORS
    tiles = b.sdiv(b.add(inner, I64(tile - 1)), I64(tile))
    outer, start = b.sdiv(task, tiles), b.mul(b.srem(task, tiles), I64(tile))
    begin, row = b.add(b.mul(b.mul(outer, length), inner), start), b.add(b.mul(outer, inner), start)
    there = v.at(y, row if algorithm is logarithms else begin)
    arguments = there, v.at(x, begin), v.at(w, begin), *(v.at(p, row) for p in numbers)
    left = b.sub(inner, start)
    with b.if_else(b.icmp_signed(">=", left, I64(tile))) as (whole, part):
        with whole:
            algorithm(Across(v, length, inner, [None] * SOFTMAX_VECTORS), *arguments)
        with part:
            limits = [b.sub(left, I64(k * v.lanes)) for k in range(SOFTMAX_VECTORS)]
            algorithm(Across(v, length, inner, [v.lanes_below(limit) for limit in limits]), *arguments)


for _algorithm in (softmax, softmax_back, log_softmax, log_softmax_back, logarithms, weighted):
    globals()[f"{_algorithm.__name__}_along"] = _kernel(_algorithm, False)
    globals()[f"{_algorithm.__name__}_across"] = _kernel(_algorithm, True)
