"""Operations on the numbers of whole arrays, one after the other: what stands between the convolutions of a network.

A task is one piece of y, contiguous like x and w, or one row of an array (rows, inner), whose channel is row % channels. Where
w has one number for each channel, the row's number meets all of the row. y may be x itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eagerconv.kernels_cpu.native.emit import emits, returning
from eagerconv.kernels_cpu.native.loops import P
from eagerconv.kernels_cpu.native.simd import I64, Loop, Vectors
from eagerconv.kernels_cpu.native.vector import lanes_before_line, offset
from eagerconv.kernels_cpu.table import POINTWISE as at

Combine = Callable[[Vectors, Any, Any], Any]


def _relu(v: Vectors, x: Any) -> Any:
    """max(x, 0), and NaN where x is NaN."""
    return v.builder.select(v.builder.fcmp_unordered(">", x, v.zeros), x, v.zeros)


COMBINE: dict[str, Combine] = {
    "add": lambda v, a, b: v.builder.fadd(a, b),
    "multiply": lambda v, a, b: v.builder.fmul(a, b),
    "relu": lambda v, a, b: _relu(v, a),
    "add_relu": lambda v, a, b: _relu(v, v.builder.fadd(a, b)),
    "gate": lambda v, a, b: v.builder.select(v.builder.fcmp_ordered(">", b, v.zeros), a, v.zeros),
}
"""gate: a where b > 0, else 0: the gradient of relu, given its result."""


def sweep(combine: Combine, one_number: bool, non_temporal: bool) -> Any:
    """to[i] = combine(a[i], b[i]), or with b[0] for all i; `non_temporal` stores whole vectors past the caches."""

    def run(v: Vectors, to: Any, a: Any, b: Any, n: Any) -> None:
        builder = v.builder
        number = v.broadcast(b) if one_number else None
        with Loop(builder, builder.sdiv(n, I64(v.lanes)), []) as loop:
            i = builder.mul(loop.index, I64(v.lanes))
            second = v.load(v.at(b, i)) if number is None else number
            (v.store_non_temporal if non_temporal else v.store)(combine(v, v.load(v.at(a, i)), second), v.at(to, i))
        i = builder.and_(n, I64(-v.lanes))
        mask = v.lanes_below(builder.sub(n, i))
        second = v.masked_load(v.at(b, i), mask) if number is None else number
        v.masked_store(combine(v, v.masked_load(v.at(a, i), mask), second), v.at(to, i), mask)

    return emits(run)


def same_shape(combine: Combine) -> Any:
    """A task is one piece of arrays of the same shape."""
    plain, non_temporal = sweep(combine, False, False), sweep(combine, False, True)

    def kernel(first: int, last: int, thread: int, x: P, w: P, y: P, work: P, g: P) -> None:
        for task in range(first, last):
            begin = task * g[at.PIECE]
            n = min(g[at.PIECE], g[at.SIZE] - begin)
            to = offset(y, begin)
            if g[at.NON_TEMPORAL] and lanes_before_line(to) == 0:
                non_temporal(to, offset(x, begin), offset(w, begin), n)
            else:
                plain(to, offset(x, begin), offset(w, begin), n)

    return kernel


def per_channel(combine: Combine) -> Any:
    """A task is one row, whose channel's number is the second operand of all."""
    plain, non_temporal = sweep(combine, True, False), sweep(combine, True, True)

    def kernel(first: int, last: int, thread: int, x: P, w: P, y: P, work: P, g: P) -> None:
        for task in range(first, last):
            begin, number = task * g[at.PIECE], offset(w, task % g[at.CHANNELS])
            to = offset(y, begin)
            if g[at.NON_TEMPORAL] and lanes_before_line(to) == 0:
                non_temporal(to, offset(x, begin), number, g[at.PIECE])
            else:
                plain(to, offset(x, begin), number, g[at.PIECE])

    return kernel


SUMS = 8  # vectors of partial sums of a row: rounding errors grow with the row's length / (SUMS * lanes)


@returning(lambda a, n: a.dtype)
def row_sum(v: Vectors, a: Any, n: Any) -> Any:
    """The sum of n numbers, in an order that depends on n alone."""
    b, block = v.builder, SUMS * v.lanes
    with Loop(b, b.sdiv(n, I64(block)), [v.zeros] * SUMS) as loop:
        i = b.mul(loop.index, I64(block))
        loop.next = [b.fadd(s, v.load(v.at(a, b.add(i, I64(k * v.lanes))))) for k, s in enumerate(loop.values)]
    start = b.mul(b.sdiv(n, I64(block)), I64(block))
    sums = list(loop.results)
    for k in range(SUMS):
        i = b.add(start, I64(k * v.lanes))
        sums[k] = b.fadd(sums[k], v.masked_load(v.at(a, i), v.lanes_below(b.sub(n, i))))
    while len(sums) > 1:
        sums = [b.fadd(p, q) for p, q in zip(sums[::2], sums[1::2], strict=True)]
    return v.sum(sums[0])


def channel_sums(first: int, last: int, thread: int, x: P, w: P, y: P, work: P, g: P) -> None:
    """A task is one channel, whose rows are summed, in order."""
    for task in range(first, last):
        total = row_sum(offset(x, task * g[at.PIECE]), g[at.PIECE])
        for row in range(task + g[at.CHANNELS], g[at.SIZE], g[at.CHANNELS]):
            total += row_sum(offset(x, row * g[at.PIECE]), g[at.PIECE])
        y[task] = total


for _name, _combine in COMBINE.items():
    globals()[_name], globals()[f"{_name}_channel"] = same_shape(_combine), per_channel(_combine)
