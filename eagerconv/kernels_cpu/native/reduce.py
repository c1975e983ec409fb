"""Sums and extrema of rows of numbers, each cut into pieces that are reduced alone; a task is one piece of one row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.ir as ir

from eagerconv.kernels_cpu.native.rowwise import reduced
from eagerconv.kernels_cpu.native.simd import I64, Emitted, Loop, Vectors
from eagerconv.kernels_cpu.table import REDUCE as at

UNROLLED = 8  # vectors of partial results: rounding errors grow with a piece's length / (UNROLLED * lanes)

Join = Callable[[Vectors, Any, Any], Any]


def _extremum(order: str) -> Join:
    """The larger of two, or the smaller; NaN wins over numbers, as in NumPy."""

    def join(v: Vectors, a: Any, b: Any) -> Any:
        kept = v.builder.select(v.builder.fcmp_ordered(order, a, b), a, b)
        return v.builder.select(v.builder.fcmp_unordered("uno", a, a), a, kept)

    return join


def _kernel(join: Join, across: Callable[[Vectors, Any], Any], unit: float) -> Emitted:
    def emit(v: Vectors, first: Any, last: Any, thread: Any, x: Any, w: Any, y: Any, work: Any, g: Any) -> None:
        b = v.builder
        length, piece, pieces = (b.load(b.gep(g, [I64(place)])) for place in (at.ROW, at.PIECE, at.PIECES))
        with Loop(b, b.sub(last, first), []) as tasks:
            task = b.add(first, tasks.index)
            start = b.mul(b.srem(task, pieces), piece)
            here = v.at(x, b.add(b.mul(b.sdiv(task, pieces), length), start))
            n = v.least(piece, b.sub(length, start))
            b.store(across(v, _reduced(v, here, n, join, v.constant(unit))), v.at(y, task))

    return Emitted(emit)


def _reduced(v: Vectors, here: Any, n: Any, join: Join, unit: Any) -> Any:
    """One vector of partial results of n numbers."""

    def body(i: Any, mask: Any) -> list[Any]:
        loaded = v.load(v.at(here, i), mask)
        return [loaded if mask is None else v.builder.select(mask, loaded, unit)]

    return reduced(v, n, UNROLLED, [unit], lambda a, b: join(v, a, b), body)[0]


def _across(join: Join) -> Callable[[Vectors, Any], Any]:
    """Halves of a vector joined until one number is left."""

    def halved(v: Vectors, vector: Any) -> Any:
        lanes = v.lanes
        while lanes > 1:
            lanes //= 2
            vector = join(v, vector, v.moved(vector, lanes))
        return v.builder.extract_element(vector, I64(0))

    return halved


_INFINITY = float("inf")


def _add(v: Vectors, a: Any, b: Any) -> Any:
    return v.builder.fadd(a, b)


sum = _kernel(_add, Vectors.sum, 0.0)
max = _kernel(_extremum(">"), _across(_extremum(">")), -_INFINITY)
min = _kernel(_extremum("<"), _across(_extremum("<")), _INFINITY)


def _sums_of_channels(
    v: Vectors, first: Any, last: Any, thread: Any, x: Any, w: Any, y: Any, work: Any, g: Any
) -> None:
    """A task is one channel, whose rows' sums are added in double precision, in order."""
    b, double = v.builder, ir.DoubleType()
    length, rows, channels = (b.load(b.gep(g, [I64(place)])) for place in (at.ROW, at.ROWS, at.CHANNELS))
    with Loop(b, b.sub(last, first), []) as tasks:
        channel = b.add(first, tasks.index)
        with Loop(b, b.sdiv(rows, channels), [double(0.0)]) as turns:
            row = b.add(b.mul(turns.index, channels), channel)
            part = _reduced(v, v.at(x, b.mul(row, length)), length, _add, v.zeros)
            total = v.sum(part)
            turns.next = [b.fadd(turns.values[0], b.fpext(total, double) if v.bits == 32 else total)]
        total = turns.results[0]
        b.store(b.fptrunc(total, v.element) if v.bits == 32 else total, v.at(y, channel))


sum_of_channels = Emitted(_sums_of_channels)
