"""Loops over a row of numbers by vectors: one that writes, and one that reduces, in an order which depends on the row alone.

Both call `body(i, mask)` for the vector at element i, with a mask for the last one if that is not full, else None.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from eagerconv.kernels_cpu.native.simd import I64, Loop, Vectors

Body = Callable[..., Any]


def each(v: Vectors, n: Any, body: Body) -> None:
    """The body for every vector of n elements."""
    b = v.builder
    with Loop(b, b.sdiv(n, I64(v.lanes)), []) as loop:
        body(b.mul(loop.index, I64(v.lanes)), None)
    i = b.and_(n, I64(-v.lanes))
    with b.if_then(b.icmp_signed("<", i, n)):
        body(i, v.lanes_below(b.sub(n, i)))


def reduced(
    v: Vectors, n: Any, unrolled: int, units: Sequence[Any], join: Callable[[Any, Any], Any], body: Body
) -> list[Any]:
    """Vectors of partial results, one for each of those that the body gives for a vector of n elements.

    They begin with `units`; `unrolled` of each are joined side by side, and in the end with one another. What the body gives
    under a mask must change nothing in the lanes that are unset.
    """
    b, block, count = v.builder, unrolled * v.lanes, len(units)

    def joined(held: Sequence[Any], more: Sequence[Any]) -> list[Any]:
        return [join(one, other) for one, other in zip(held, more, strict=True)]

    with Loop(b, b.sdiv(n, I64(block)), list(units) * unrolled) as loop:
        first = b.mul(loop.index, I64(block))
        for k in range(unrolled):
            loop.next += joined(loop.values[k * count : (k + 1) * count], body(b.add(first, I64(k * v.lanes)), None))
    parts = [loop.results[k * count : (k + 1) * count] for k in range(unrolled)]
    while len(parts) > 1:
        parts = [joined(one, other) for one, other in zip(parts[::2], parts[1::2], strict=True)]
    begin = b.mul(b.sdiv(n, I64(block)), I64(block))
    with Loop(b, b.sdiv(b.sub(n, begin), I64(v.lanes)), parts[0]) as rest:
        rest.next = joined(rest.values, body(b.add(begin, b.mul(rest.index, I64(v.lanes))), None))
    i = b.and_(n, I64(-v.lanes))
    with Loop(b, b.zext(b.icmp_signed("<", i, n), I64(0).type), rest.results) as tail:
        tail.next = joined(tail.values, body(i, v.lanes_below(b.sub(n, i))))
    return list(tail.results)
