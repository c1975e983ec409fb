"""The one inner loop of matrix products, and the walks through memory that bring its operands.

A microkernel keeps a block of sums in registers, c[i, j] (+)= sum over steps t of a[i, t] * b[t, j], and every step is one
outer product of a few factors with a few vectors. What differs is only where step t finds them: its *walk*.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from eagerconv.kernels_cpu.native.emit import Emit
from eagerconv.kernels_cpu.native.simd import I64, Loop, Vectors

Step = Callable[[list[Any], Callable[[int], Any], Any], list[Any]]
"""(sums, row i -> pointer of a[i, t], pointer of b[t]) -> sums."""
Walk = Callable[[Step, list[Any]], list[Any]]
"""(step, sums) -> the sums after all steps."""


def add_outer(v: Vectors, sums: list[Any], passing: Iterable[Any], held: list[Any]) -> list[Any]:
    """sums[p, h] + passing[p] * held[h]: what is held stays in registers, what passes may be loaded as it is asked for."""
    old = iter(sums)
    return [v.fma(factor, other, next(old)) for factor in passing for other in held]


def summed(v: Vectors, cells: list[Any], add: Any, walk: Callable[[list[Any]], list[Any]]) -> None:
    """Sums that begin with what the cells hold, or with zeros where `add` is 0, and are stored there after the walk."""
    mask = v.all_if(add)
    for cell, total in zip(cells, walk([v.masked_load(cell, mask) for cell in cells]), strict=True):
        v.store(total, cell)


def packed_product(v: Vectors, rows: int, vectors: int, cells: list[Any], add: Any, walk: Walk) -> None:
    """`summed`, lanes along j, where b[t] is `vectors` vectors one after the other and a is read one element at a time."""

    def step(sums: list[Any], a: Callable[[int], Any], b: Any) -> list[Any]:
        columns = [v.load(v.at(b, j * v.lanes)) for j in range(vectors)]
        return add_outer(v, sums, (v.broadcast(a(i)) for i in range(rows)), columns)

    summed(v, cells, add, lambda sums: walk(step, sums))


def packed_cells(v: Vectors, c: Any, rows: int, vectors: int) -> list[Any]:
    """The places of the sums, packed in rows of `vectors` vectors."""
    return [v.at(c, k * v.lanes) for k in range(rows * vectors)]


def over_lanes(v: Vectors, step: Step, a: Any, b: Any, row: int, sums: list[Any]) -> list[Any]:
    """One step for each lane t of the vectors a[i], with b in rows of `row` elements."""
    unroll = min(4, v.lanes)  # more makes LLVM hoist broadcasts until registers spill
    with Loop(v.builder, I64(v.lanes // unroll), [a, b, *sums]) as loop:
        a_at, b_at, *new = loop.values
        for t in range(unroll):
            new = step(new, lambda i, t=t: v.at(a_at, i * v.lanes + t), v.at(b_at, t * row))  # type: ignore[misc]
        loop.next = [v.at(a_at, unroll), v.at(b_at, unroll * row), *new]
    return loop.results


def gathered_product(rows: int, vectors: int) -> Emit:
    """Microkernel c[m(i), j] (+)= sum over t < count of a[p(i) + s(t)] * b[q(t), j], lanes along j.

    `places` holds the pairs p(i), m(i), and `steps` the pairs s(t), q(t), so a is read wherever it lies: one element at a
    time, in every lane. b and c are packed in rows of `vectors` vectors. Of the rows, `present` exist; the last of them is
    computed again in place of the missing ones.
    """

    def product(
        v: Vectors, a: Any, places: Any, present: Any, steps: Any, count: Any, b: Any, c: Any, add: Any
    ) -> None:
        builder, row = v.builder, I64(vectors * v.lanes)
        last = builder.sub(present, I64(1))
        a_rows, cells = [], []
        for i in range(rows):
            place, number = _pair(v, places, v.least(I64(i), last))
            a_rows.append(v.at(a, place))
            c_row = v.at(c, builder.mul(number, row))
            cells += [v.at(c_row, j * v.lanes) for j in range(vectors)]

        def walk(step: Step, sums: list[Any]) -> list[Any]:
            done = I64(0)
            for unroll in (4, 1):  # as many steps at once as there are, then the rest
                turns = builder.sdiv(builder.sub(count, done), I64(unroll))
                with Loop(builder, turns, sums) as loop:
                    t, new = builder.add(done, builder.mul(loop.index, I64(unroll))), loop.values
                    for u in range(unroll):
                        shift, q = _pair(v, steps, builder.add(t, I64(u)))
                        new = step(new, lambda i: v.at(a_rows[i], shift), v.at(b, builder.mul(q, row)))  # noqa: B023
                    loop.next = new
                sums, done = loop.results, builder.mul(turns, I64(unroll))
            return sums

        packed_product(v, rows, vectors, cells, add, walk)

    return product


def panel_product(rows: int, vectors: int, packs: bool = False) -> Emit:
    """Microkernel c[i, j] (+)= sum over t < count of a[t, i] * b[t, j], lanes along j, for operands packed in panels.

    Rows of a are a_step elements apart, b is packed in rows of `vectors` vectors, and rows of c are c_row elements apart, of
    which `present` are stored: past the caches with `stream`, for which they must be whole lines. Meanwhile `asks` lines of
    memory are asked for, one before every `every` steps: from `ahead` on one vector after the other, `left` of them, then
    `lines` and so on, each time after a jump of `wrap` elements.

    One that packs finds rows of b b_step elements apart, and leaves them packed in `to`.
    """

    def core(
        v: Vectors, a: Any, a_step: Any, count: Any, b: Any, c: Any, c_row: Any, present: Any, add: Any, stream: Any,
        ahead: Any, left: Any, lines: Any, wrap: Any, asks: Any, every: Any, to: Any, b_step: Any,
    ) -> None:  # fmt: skip
        builder = v.builder
        places = [v.at(c, builder.mul(c_row, I64(i))) for i in range(rows)]
        cells = [v.at(place, j * v.lanes) for place in places for j in range(vectors)]
        with Loop(builder, v.all_or_none(add), [v.zeros] * len(cells)) as before:
            before.next = [v.load(cell) for cell in cells]

        def step(a_at: Any, b_at: Any, to_at: Any, *sums: Any) -> list[Any]:
            held = [v.load(v.at(b_at, j * v.lanes)) for j in range(vectors)]
            if packs:
                for j, vector in enumerate(held):
                    v.store(vector, v.at(to_at, j * v.lanes))
                to_at = v.at(to_at, vectors * v.lanes)
            new = add_outer(v, list(sums), (v.broadcast(v.at(a_at, i)) for i in range(rows)), held)
            return [v.at(a_at, a_step), v.at(b_at, b_step), to_at, *new]

        rest = builder.sub(count, builder.mul(asks, every))
        with Loop(builder, builder.add(asks, I64(1)), [ahead, left, a, b, to, *before.results]) as turn:
            line, more, *state = turn.values
            v.prefetch(line)
            asking = builder.icmp_signed("<", turn.index, asks)
            with Loop(builder, builder.select(asking, every, rest), state) as loop:
                loop.next = step(*loop.values)
            more = builder.sub(more, I64(1))
            ends = builder.icmp_signed("<=", more, I64(0))
            line = v.at(line, builder.select(ends, builder.add(wrap, I64(v.lanes)), I64(v.lanes)))
            turn.next = [line, builder.select(ends, lines, more), *loop.results]
        totals = turn.results[5:]

        def store(i: int, how: Callable[[Any, Any], None]) -> None:
            for j in range(vectors):
                how(totals[i * vectors + j], cells[i * vectors + j])

        for i in range(rows):
            with (
                builder.if_then(builder.icmp_signed("<", I64(i), present)),
                builder.if_else(builder.icmp_signed("!=", stream, I64(0))) as (past, plain),
            ):
                with past:
                    store(i, v.store_non_temporal)
                with plain:
                    store(i, v.store)

    def product(
        v: Vectors, a: Any, a_step: Any, count: Any, b: Any, c: Any, c_row: Any, present: Any, add: Any, stream: Any,
        ahead: Any, left: Any, lines: Any, wrap: Any, asks: Any, every: Any,
    ) -> None:  # fmt: skip
        asked = ahead, left, lines, wrap, asks, every
        core(v, a, a_step, count, b, c, c_row, present, add, stream, *asked, b, vectors * v.lanes)

    return core if packs else product


def strided_product(most_rows: int, vectors: int) -> Emit:
    """Microkernel c[i, j] (+)= sum over t < count of a[i + t*a_step] * b[t, j], lanes along j; b and c are packed.

    At most as many rows as lanes, so that they divide a block of whole vectors.
    """

    def product(v: Vectors, a: Any, a_step: Any, count: Any, b: Any, c: Any, add: Any) -> None:
        rows = min(most_rows, v.lanes)

        def walk(step: Step, sums: list[Any]) -> list[Any]:
            with Loop(v.builder, count, [a, b, *sums]) as loop:
                a_at, b_at, *new = loop.values
                new = step(new, lambda i: v.at(a_at, i), b_at)
                loop.next = [v.at(a_at, a_step), v.at(b_at, vectors * v.lanes), *new]
            return loop.results[2:]

        packed_product(v, rows, vectors, packed_cells(v, c, rows, vectors), add, walk)

    return product


def blocked_product(rows: int, vectors: int) -> Emit:
    """Microkernel c[i, j] (+)= sum over blocks r and lanes t of a[i, r, t] * b[r, t, j], lanes along j.

    a[i, r, t] lies at i*lanes + r*a_block + t: one vector per row, as the transforms leave it. b and c are packed in rows
    of `vectors` vectors.
    """

    def product(v: Vectors, a: Any, a_block: Any, blocks: Any, b: Any, c: Any, add: Any) -> None:
        def walk(step: Step, sums: list[Any]) -> list[Any]:
            with Loop(v.builder, blocks, [a, b, *sums]) as loop:
                a_at, b_at, *new = loop.values
                _, b_at, *new = over_lanes(v, step, a_at, b_at, vectors * v.lanes, new)
                loop.next = [v.at(a_at, a_block), b_at, *new]
            return loop.results[2:]

        packed_product(v, rows, vectors, packed_cells(v, c, rows, vectors), add, walk)

    return product


def listed_product(rows: int, vectors: int) -> Emit:
    """Microkernel c[i, j] (+)= sum over terms e and lanes t of a[i*lanes + A(e) + t] * b[B(e) + t, j], lanes along j.

    (A, B) of a term are two elements of `terms`; b and c are packed in rows of `vectors` vectors.
    """

    def product(v: Vectors, a: Any, terms: Any, count: Any, b: Any, c: Any, add: Any) -> None:
        def walk(step: Step, sums: list[Any]) -> list[Any]:
            with Loop(v.builder, count, sums) as loop:
                a_at, b_at = _pair(v, terms, loop.index)
                loop.next = over_lanes(v, step, v.at(a, a_at), v.at(b, b_at), vectors * v.lanes, loop.values)[2:]
            return loop.results

        packed_product(v, rows, vectors, packed_cells(v, c, rows, vectors), add, walk)

    return product


def shifted_product(rows: int, vectors: int) -> Emit:
    """Microkernel c[i, m(j)] (+)= sum over t < count of a[i, q(t)] * b[p(j) + s(t)], j < vectors, lanes along b.

    The mirror image of `gathered_product`: `places` holds the pairs p(j), m(j) of vectors that are read wherever they lie,
    and `steps` the pairs s(t), q(t). Rows of a and c are a_row and c_row elements apart.
    """

    def product(
        v: Vectors, b: Any, places: Any, present: Any, steps: Any, count: Any, a: Any, a_row: Any, c: Any, c_row: Any,
        add: Any,
    ) -> None:  # fmt: skip
        builder = v.builder
        last = builder.sub(present, I64(1))
        sources, cells = [], []
        for j in range(vectors):
            place, number = _pair(v, places, v.least(I64(j), last))
            sources.append(v.at(b, place))
            column = v.at(c, builder.mul(number, I64(v.lanes)))
            cells += [v.at(column, builder.mul(c_row, I64(i))) for i in range(rows)]
        a_rows = [v.at(a, builder.mul(a_row, I64(i))) for i in range(rows)]

        def walk(sums: list[Any]) -> list[Any]:
            with Loop(builder, count, sums) as loop:
                shift, q = _pair(v, steps, loop.index)
                factors = [v.broadcast(v.at(row, q)) for row in a_rows]
                loop.next = add_outer(v, loop.values, (v.load(v.at(source, shift)) for source in sources), factors)
            return loop.results

        summed(v, cells, add, walk)

    return product


def _pair(v: Vectors, pairs: Any, number: Any) -> tuple[Any, Any]:
    """Both integers of a pair in a list."""
    pair = v.at(pairs, v.builder.mul(number, I64(2)))
    return v.builder.load(pair), v.builder.load(v.at(pair, 1))
