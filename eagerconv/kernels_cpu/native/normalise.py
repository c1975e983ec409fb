"""Normalisation of groups of numbers, forward and backward, while a group is in the second-level cache.

Arrays are (A, B, S, L): each of B groups has A rows apart in memory, of S segments, each of which belongs to one channel, that
of number (b*S + s) % CHANNELS, with a scale and a shift. A task is one group. Variances are taken about the mean of the first
row, near enough to that of all for the squares to keep their digits; sums of rows are added in double precision. Where
segments are single numbers (L = 1), as in layer normalisation, scales and shifts are vectors.

A kernel's name may end in "_then_" and the name of a formula, which is applied to what is scaled and shifted. Its derivative
is taken there again: the gradient needs no array of what came before it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.ir as ir

from eagerconv.formulas import Value, formula
from eagerconv.kernels_cpu.native.elementary import Lanes
from eagerconv.kernels_cpu.native.rowwise import each, reduced
from eagerconv.kernels_cpu.native.simd import I64, Emitted, Loop, Vectors
from eagerconv.kernels_cpu.table import NORMALISE as at

DOUBLE = ir.DoubleType()
UNROLLED = 4  # vectors of partial sums

Then = Callable[..., Value]
"""A formula of what is scaled and shifted, or of a cotangent and that."""


class Pass:
    """The table of a kernel, and loops over rows of numbers."""

    def __init__(self, v: Vectors, g: Any) -> None:
        self.v, self.m, self.g = v, Lanes(v), g

    def entry(self, place: int) -> Any:
        """A whole number of the table."""
        return self.v.builder.load(self.v.builder.gep(self.g, [I64(place)]))

    def pointer(self, place: int) -> Any:
        """An address of the table."""
        return self.v.builder.inttoptr(self.entry(place), self.v.element.as_pointer())

    def double(self, place: int) -> Any:
        """A float64 of the table."""
        return self.v.builder.bitcast(self.entry(place), DOUBLE)

    def widened(self, element: Any) -> Any:
        """An element in double precision."""
        return self.v.builder.fpext(element, DOUBLE) if self.v.bits == 32 else element

    def narrowed(self, number: Any) -> Any:
        """A double as an element."""
        return self.v.builder.fptrunc(number, self.v.element) if self.v.bits == 32 else number

    def everywhere(self, number: Any) -> Value:
        """A double in every lane."""
        return Value(self.m, self.v.splat(self.narrowed(number)))

    def sums(self, n: Any, sources: list[Any], body: Callable[..., list[Value]], count: int) -> list[Any]:
        """The sums, in double precision, of the `count` values that `body` makes of n numbers of each source."""
        v = self.v

        def one(i: Any, mask: Any) -> list[Any]:
            found = body(*(Value(self.m, v.load(v.at(p, i), mask)) for p in sources))
            if mask is not None:
                found = [self.m.where(Value(self.m, mask), value, 0.0) for value in found]
            return [value.held for value in found]

        totals = reduced(v, n, UNROLLED, [v.zeros] * count, v.builder.fadd, one)
        return [self.widened(v.sum(total)) for total in totals]

    def map(self, n: Any, sources: list[Any], to: list[Any], body: Callable[..., list[Value]]) -> None:
        """Write what `body` makes of n numbers of each source."""
        v = self.v

        def one(i: Any, mask: Any) -> None:
            for value, p in zip(body(*(Value(self.m, v.load(v.at(s, i), mask)) for s in sources)), to, strict=True):
                v.store(value.held, v.at(p, i), mask)

        each(v, n, one)


class Group(Pass):
    """One group: its rows, and the segments of a row with their channels."""

    def __init__(self, v: Vectors, g: Any, group: Any) -> None:
        super().__init__(v, g)
        b = v.builder
        self.group, self.rows, self.groups = group, self.entry(at.ROWS), self.entry(at.GROUPS)
        self.segments, self.size, self.channels = self.entry(at.SEGMENTS), self.entry(at.SIZE), self.entry(at.CHANNELS)
        self.length = b.mul(self.segments, self.size)
        self.count = b.sitofp(b.mul(self.rows, self.length), DOUBLE)

    def row(self, r: Any) -> Any:
        """Where row r begins."""
        b = self.v.builder
        return b.mul(b.add(b.mul(r, self.groups), self.group), self.length)

    def channel(self, segment: Any) -> Any:
        """The channel of a segment."""
        b = self.v.builder
        return b.srem(b.add(b.mul(self.group, self.segments), segment), self.channels)


def _statistics(g: Group, x: Any, eps: Any) -> tuple[Any, Any, Any]:
    """Mean, variance and 1 / sqrt(variance + eps) of a group, as doubles."""
    v, b = g.v, g.v.builder
    (first,) = g.sums(g.length, [v.at(x, g.row(I64(0)))], lambda value: [value], 1)
    shift = g.narrowed(b.fdiv(first, b.sitofp(g.length, DOUBLE)))
    k = Value(g.m, v.splat(shift))

    def moments(value: Value) -> list[Value]:
        d = value - k
        return [d, d * d]

    with Loop(b, g.rows, [DOUBLE(0.0), DOUBLE(0.0)]) as rows:
        found = g.sums(g.length, [v.at(x, g.row(rows.index))], moments, 2)
        rows.next = [b.fadd(total, more) for total, more in zip(rows.values, found, strict=True)]
    d, square = (b.fdiv(total, g.count) for total in rows.results)
    variance = b.fsub(square, b.fmul(d, d))
    variance = b.select(b.fcmp_ordered("<", variance, DOUBLE(0.0)), DOUBLE(0.0), variance)
    root = b.call(v.declared("llvm.sqrt.f64", DOUBLE, [DOUBLE]), [b.fadd(variance, eps)])
    return b.fadd(g.widened(shift), d), variance, b.fdiv(DOUBLE(1.0), root)


def _forward(g: Group, x: Any, y: Any, apart: bool, then: Then) -> None:
    """The numbers less the mean, over the deviation, scaled and shifted; mean, variance and 1 / deviation are kept."""
    v, b = g.v, g.v.builder
    mean, variance, rstd = _statistics(g, x, g.double(at.EPS))
    for place, number in ((at.MEAN, mean), (at.VARIANCE, variance), (at.RSTD, rstd)):
        b.store(g.narrowed(number), v.at(g.pointer(place), g.group))
    weight, bias, middle, r = g.pointer(at.WEIGHT), g.pointer(at.BIAS), g.everywhere(mean), g.everywhere(rstd)
    if apart:
        with Loop(b, g.rows, []) as rows:
            here = g.row(rows.index)
            sources = [v.at(x, here), weight, bias]
            g.map(g.length, sources, [v.at(y, here)], lambda a, w, c: [then(g.m, g.m.fma((a - middle) * r, w, c))])
        return
    with Loop(b, g.rows, []) as rows, Loop(b, g.segments, []) as segments:
        here = b.add(g.row(rows.index), b.mul(segments.index, g.size))
        channel = g.channel(segments.index)
        scale = r * Value(g.m, v.broadcast(v.at(weight, channel)))
        shift = Value(g.m, v.broadcast(v.at(bias, channel)))
        g.map(g.size, [v.at(x, here)], [v.at(y, here)], lambda a: [then(g.m, g.m.fma(a - middle, scale, shift))])


def _affine(p: Pass, task: Any, x: Any, y: Any, then: Then) -> None:
    """One row of a group: (x - mean) times a number, and another one added."""
    v, b = p.v, p.v.builder
    size, group = p.entry(at.SIZE), b.srem(task, p.entry(at.GROUPS))
    places = (at.MEAN, at.RSTD, at.BIAS)
    mean, scale, shift = (Value(p.m, v.broadcast(v.at(p.pointer(place), group))) for place in places)
    here = b.mul(task, size)
    p.map(size, [v.at(x, here)], [v.at(y, here)], lambda a: [then(p.m, p.m.fma(a - mean, scale, shift))])


def _backward(g: Group, gy: Any, x: Any, gx: Any, back: Then) -> None:
    """With u = (x - mean) rstd and M numbers: gx = rstd (g w - sum(g w) / M - u sum(g w u) / M); sums of g and g u are kept."""
    v, b = g.v, g.v.builder
    weight, bias = g.pointer(at.WEIGHT), g.pointer(at.BIAS)
    middle, r = (Value(g.m, v.broadcast(v.at(g.pointer(place), g.group))) for place in (at.MEAN, at.RSTD))

    def of_channel(segment: Any) -> tuple[Value, Callable[[Value, Value], Value]]:
        """The scale, and the cotangent of what was scaled and shifted, given that of the result."""
        channel = g.channel(segment)
        w, shift = (Value(g.m, v.broadcast(v.at(p, channel))) for p in (weight, bias))
        return w, lambda a, c: back(g.m, a, g.m.fma(c - middle, r * w, shift))

    with Loop(b, g.rows, [DOUBLE(0.0), DOUBLE(0.0)]) as rows:
        begin = g.row(rows.index)
        number = b.mul(b.add(b.mul(rows.index, g.groups), g.group), g.segments)
        with Loop(b, g.segments, rows.values) as segments:
            here = b.add(begin, b.mul(segments.index, g.size))
            _, pulled = of_channel(segments.index)

            def both(a: Value, c: Value, pulled: Any = pulled) -> list[Value]:
                a = pulled(a, c)
                return [a, a * ((c - middle) * r)]

            found = g.sums(g.size, [v.at(gy, here), v.at(x, here)], both, 2)
            for place, total in zip((at.SUMS, at.DOTS), found, strict=True):
                b.store(g.narrowed(total), v.at(g.pointer(place), b.add(number, segments.index)))
            factor = g.widened(b.load(v.at(weight, g.channel(segments.index))))
            segments.next = [b.fadd(t, b.fmul(factor, s)) for t, s in zip(segments.values, found, strict=True)]
        rows.next = segments.results
    total, dot = (g.everywhere(b.fdiv(s, g.count)) for s in rows.results)
    with Loop(b, g.rows, []) as rows, Loop(b, g.segments, []) as segments:
        here = b.add(g.row(rows.index), b.mul(segments.index, g.size))
        w, pulled = of_channel(segments.index)
        g.map(
            g.size, [v.at(gy, here), v.at(x, here)], [v.at(gx, here)],
            lambda a, c: [((pulled(a, c) * w - total) - (c - middle) * r * dot) * r],
        )  # fmt: skip


def _backward_each(p: Pass, task: Any, gy: Any, x: Any, gx: Any) -> None:
    """Likewise for a run of groups of one row each; sums over the run of g and g u are kept, for each number of a row."""
    v, b = p.v, p.v.builder
    length, groups, run = p.entry(at.SEGMENTS), p.entry(at.GROUPS), p.entry(at.RUN)
    weight = p.pointer(at.WEIGHT)
    sums, dots = (v.at(p.pointer(place), b.mul(task, length)) for place in (at.SUMS, at.DOTS))
    zero = Value(p.m, v.zeros)
    p.map(length, [], [sums, dots], lambda: [zero, zero])
    first = b.mul(task, run)
    count = b.sitofp(length, DOUBLE)
    with Loop(b, v.least(run, b.sub(groups, first)), []) as rows:
        group = b.add(first, rows.index)
        here = b.mul(group, length)
        middle, r = (Value(p.m, v.broadcast(v.at(p.pointer(place), group))) for place in (at.MEAN, at.RSTD))
        sources = [v.at(gy, here), v.at(x, here), weight]

        def both(a: Value, c: Value, w: Value, middle: Value = middle, r: Value = r) -> list[Value]:
            return [a * w, a * w * ((c - middle) * r)]

        total, dot = (p.everywhere(b.fdiv(s, count)) for s in p.sums(length, sources, both, 2))

        def last(
            a: Value, c: Value, w: Value, s: Value, d: Value, middle: Value = middle, r: Value = r,
            total: Value = total, dot: Value = dot,
        ) -> list[Value]:  # fmt: skip
            u = (c - middle) * r
            return [((a * w - total) - u * dot) * r, s + a, p.m.fma(a, u, d)]

        p.map(length, [*sources, sums, dots], [v.at(gx, here), sums, dots], last)


def _tasks(body: Callable[..., None]) -> Emitted:
    """A kernel of independent tasks: body(v, table, task, x, w, y)."""

    def emit(v: Vectors, first: Any, last: Any, thread: Any, x: Any, w: Any, y: Any, work: Any, g: Any) -> None:
        b = v.builder
        with Loop(b, b.sub(last, first), []) as tasks:
            body(v, g, b.add(first, tasks.index), x, w, y)

    return Emitted(emit)


def __getattr__(name: str) -> Emitted:
    """The kernel of that name, perhaps with a formula."""
    kind, _, formula_name = name.partition("_then_")
    if kind not in ("forward", "forward_each", "affine", "backward", "backward_each"):
        raise AttributeError(name)
    if not formula_name:
        then, back = (lambda m, y: y), (lambda m, a, y: a)
    else:
        then, back = formula(formula_name).function, formula(f"{formula_name}_d0").function
    return {
        "forward": _tasks(lambda v, g, task, x, w, y: _forward(Group(v, g, task), x, y, False, then)),
        "forward_each": _tasks(lambda v, g, task, x, w, y: _forward(Group(v, g, task), x, y, True, then)),
        "affine": _tasks(lambda v, g, task, x, w, y: _affine(Pass(v, g), task, x, y, then)),
        "backward": _tasks(lambda v, g, task, x, w, y: _backward(Group(v, g, task), x, w, y, back)),
        "backward_each": _tasks(lambda v, g, task, x, w, y: _backward_each(Pass(v, g), task, x, w, y)),
    }[kind]
