"""Kernels of formulas on arrays: results[i] = formula(operands[i], ..., numbers) for any number of operands and results.

Module attributes are kernels by the names of formulas. A task is one piece. The first two operands and the first result come
as x, w and y; addresses of the others stand behind the table, then how far each operand moves on from piece to piece (1, or 0
where it is the same piece every time), then the numbers, as float64. For a name that ends in "_of_channels" a piece is a row,
and the last operand has one number for each channel, to which rows belong in turn.
"""

from __future__ import annotations

from typing import Any

import llvmlite.ir as ir

from eagerconv.formulas import Formula, Value, formula
from eagerconv.kernels_cpu.native.elementary import Lanes
from eagerconv.kernels_cpu.native.rowwise import each
from eagerconv.kernels_cpu.native.simd import I64, Emitted, Loop, Vectors
from eagerconv.kernels_cpu.table import FORMULA as at

OF_CHANNELS = "_of_channels"


def __getattr__(name: str) -> Emitted:
    try:
        found = formula(name.removesuffix(OF_CHANNELS))
    except (KeyError, ValueError):
        raise AttributeError(f"there is no formula {name!r}") from None
    return Emitted(lambda v, *arguments: _kernel(found, name.endswith(OF_CHANNELS), v, *arguments))


def _kernel(
    found: Formula,
    of_channels: bool,
    v: Vectors,
    first: Any,
    last: Any,
    thread: Any,
    x: Any,
    w: Any,
    y: Any,
    work: Any,
    g: Any,
) -> None:
    b, m = v.builder, Lanes(v)

    def entry(place: int) -> Any:
        return b.load(b.gep(g, [I64(place)]))

    operands, place = found.operands, at.LENGTH
    count = max(operands - 2, 0) + found.results - 1
    others = [b.inttoptr(entry(place + i), v.element.as_pointer()) for i in range(count)]
    sources = [x, w, *others][:operands]
    targets = [y, *others[max(operands - 2, 0) :]]
    steps = [entry(place + count + i) for i in range(operands)]
    numbers = [_number(m, entry(place + count + operands + i)) for i in range(found.numbers)]
    piece, size = entry(at.PIECE), entry(at.SIZE)
    streams = b.icmp_signed("!=", entry(at.NON_TEMPORAL), I64(0))

    with Loop(b, b.sub(last, first), []) as tasks:
        task = b.add(first, tasks.index)
        begin = b.mul(task, piece)
        n = v.least(piece, b.sub(size, begin))
        here = [v.at(p, b.mul(begin, step)) for p, step in zip(sources, steps, strict=True)]
        there = [v.at(p, begin) for p in targets]
        known = []
        if of_channels:
            here.pop()
            known.append(Value(m, v.broadcast(v.at(sources[-1], b.srem(task, entry(at.CHANNELS))))))

        def compute(values: list[Value], known: list[Value] = known) -> list[Any]:
            out = found.function(m, *values, *known, *numbers)
            return [value.held for value in (out if isinstance(out, tuple) else (out,))]

        aligned = b.icmp_signed("==", v.lanes_before_line(there[0]), I64(0))
        with b.if_else(b.and_(streams, aligned)) as (past, through):
            with past:
                _sweep(v, m, compute, here, there, n, v.store_non_temporal)
            with through:
                _sweep(v, m, compute, here, there, n, v.store)


def _sweep(v: Vectors, m: Lanes, compute: Any, here: list[Any], there: list[Any], n: Any, store: Any) -> None:
    """Whole vectors, the first result by `store`, then the rest."""

    def one(i: Any, mask: Any) -> None:
        found = compute([Value(m, v.load(v.at(p, i), mask)) for p in here])
        for k, (out, to) in enumerate(zip(found, there, strict=True)):
            if mask is None and k == 0:
                store(out, v.at(to, i))
            else:
                v.store(out, v.at(to, i), mask)

    each(v, n, one)


def _number(m: Lanes, bits: Any) -> Value:
    """A number of the table in every lane."""
    b = m.v.builder
    number = b.bitcast(bits, ir.DoubleType())
    return Value(m, m.v.splat(b.fptrunc(number, m.v.element) if m.bits == 32 else number))
