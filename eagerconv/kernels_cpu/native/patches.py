"""Vector code for unshared filters: patches gathered, multiplied and added back in runs shorter than a register."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.ir as ir

from eagerconv.kernels_cpu.native.emit import Emit, emits
from eagerconv.kernels_cpu.native.products import add_outer
from eagerconv.kernels_cpu.native.simd import I32, I64, Loop, Vectors


def _runs(v: Vectors, to: Any, to_row: Any, source: Any, source_row: Any, rows: Any, n: Any,
          store: Callable[[Any, Any, Any], None]) -> None:  # fmt: skip
    """store(to, source, mask) for each vector of rows of n elements."""
    b = v.builder
    with Loop(b, v.chunks(n), []) as chunk:
        start = b.mul(chunk.index, I64(v.lanes))
        mask = v.lanes_below(b.sub(n, start))
        with Loop(b, rows, [v.at(to, start), v.at(source, start)]) as row:
            to_at, source_at = row.values
            store(to_at, source_at, mask)
            row.next = [v.at(to_at, to_row), v.at(source_at, source_row)]


def copy_runs(nbytes: int) -> Any:
    """to[r*n + j] = source[r*source_row + j] for r < rows, j < n, in vectors of `nbytes`.

    Whole vectors are read, up to one vector less one element behind each run. Only the run is written: stores that overlap
    would wait for each other.
    """

    def copy(v: Vectors, to: Any, source: Any, source_row: Any, rows: Any, n: Any) -> None:
        v = Vectors(v.builder, v.bits, nbytes)
        _runs(v, to, n, source, source_row, rows, n, lambda to, source, mask: v.masked_store(v.load(source), to, mask))

    return emits(copy)


def add_runs(nbytes: int) -> Any:
    """to[r*to_row + j] += source[r*n + j] for r < rows, j < n, in vectors of `nbytes`; nothing else is touched."""

    def add(v: Vectors, to: Any, to_row: Any, source: Any, rows: Any, n: Any) -> None:
        v = Vectors(v.builder, v.bits, nbytes)

        def add_to(to: Any, source: Any, mask: Any) -> None:
            old, new = (v.masked_load(pointer, mask) for pointer in (to, source))
            v.masked_store(v.builder.fadd(old, new), to, mask)

        _runs(v, to, to_row, source, n, rows, n, add_to)

    return emits(add)


@emits
def copy_rows_reversed(v: Vectors, to: Any, to_row: Any, source: Any, source_row: Any, rows: Any, first: Any, last: Any,
                       n: Any) -> None:  # fmt: skip
    """to[r, j] = source[r, -j] if first <= j < last else 0, for r < rows and j < n; only what is copied is read."""
    b, lanes = v.builder, I64(v.lanes)
    backward = ir.Constant(ir.VectorType(I32, v.lanes), list(range(v.lanes - 1, -1, -1)))
    with Loop(b, v.chunks(n), []) as chunk:
        start = b.mul(chunk.index, lanes)
        end = b.add(start, lanes)  # lane l of what is read holds j = end - 1 - l
        copied = b.and_(v.lanes_below(b.sub(end, first)), b.not_(v.lanes_below(b.sub(end, last))))
        written = v.lanes_below(b.sub(n, start))
        lowest = v.at(source, b.sub(I64(1), end))
        with Loop(b, rows, [v.at(to, start), lowest]) as row:
            vector = b.shuffle_vector(v.masked_load(row.values[1], copied), v.zeros, backward)
            v.masked_store(vector, row.values[0], written)
            row.next = [v.at(row.values[0], to_row), v.at(row.values[1], source_row)]


def _sums(v: Vectors, vectors: list[Any]) -> list[Any]:
    """The sums of the lanes of each vector, in order, in as few vectors as hold them.

    Neighbouring lanes are added until one is left, for every vector alike: the order does not depend on the company.
    """
    b = v.builder
    even, odd = (ir.Constant(ir.VectorType(I32, v.lanes), list(range(i, 2 * v.lanes, 2))) for i in (0, 1))
    for _ in range(v.lanes.bit_length() - 1):
        pairs = [(vectors[i], vectors[min(i + 1, len(vectors) - 1)]) for i in range(0, len(vectors), 2)]
        vectors = [b.fadd(b.shuffle_vector(x, y, even), b.shuffle_vector(x, y, odd)) for x, y in pairs]
    return vectors


def _quotients(builder: Any, n: Any, divisor: int) -> tuple[Any, Any]:
    """The quotient n // divisor and the remainder n % divisor."""
    return builder.sdiv(n, I64(divisor)), builder.srem(n, I64(divisor))


def dot_products(filters: int, images: int) -> Emit:
    """Microkernel y[i, f] (+)= sum over q < n of p[i, q] * w[f, q], lanes along q; both counts are powers of two.

    Rows of w are w_row elements apart and so on; elements behind q = n are not touched. Each w is loaded once.
    """

    def product(
        v: Vectors, w: Any, w_row: Any, p: Any, p_row: Any, n: Any, y: Any, y_f: Any, y_n: Any, add: Any
    ) -> None:
        b = v.builder
        w_rows = [v.at(w, b.mul(w_row, I64(f))) for f in range(filters)]
        p_rows = [v.at(p, b.mul(p_row, I64(i))) for i in range(images)]

        def step(at: Any, sums: list[Any], mask: Any = None) -> list[Any]:
            held = [v.load(v.at(row, at), mask) for row in p_rows]
            return add_outer(v, sums, (v.load(v.at(row, at), mask) for row in w_rows), held)

        whole, rest = _quotients(b, n, v.lanes)
        with Loop(b, whole, [v.zeros] * (filters * images)) as loop:
            loop.next = step(b.mul(loop.index, I64(v.lanes)), loop.values)
        some = b.zext(b.icmp_signed(">", rest, I64(0)), I64)
        with Loop(b, some, loop.results) as tail:
            tail.next = step(b.sub(n, rest), tail.values, v.lanes_below(rest))

        sums = _sums(v, tail.results)
        keep = b.icmp_signed("!=", add, I64(0))
        for number in range(filters * images):
            f, i = divmod(number, images)
            cell = v.at(y, b.add(b.mul(y_f, I64(f)), b.mul(y_n, I64(i))))
            old = b.select(keep, b.load(cell), ir.Constant(v.element, 0.0))
            new = b.extract_element(sums[number // v.lanes], I32(number % v.lanes))
            b.store(b.fadd(old, new), cell)

    return product


def _by_vectors(v: Vectors, n: Any, vectors: int, step: Callable[[Any, list[Any]], None]) -> None:
    """step(start, masks) over all q < n: groups of whole vectors (masks None), then single ones, the last one masked."""
    b = v.builder
    groups, rest = _quotients(b, n, vectors * v.lanes)
    with Loop(b, groups, []) as group:
        step(b.mul(group.index, I64(vectors * v.lanes)), [None] * vectors)
    with Loop(b, b.sdiv(b.add(rest, I64(v.lanes - 1)), I64(v.lanes)), []) as single:
        done = b.mul(single.index, I64(v.lanes))
        step(b.add(b.sub(n, rest), done), [v.lanes_below(b.sub(rest, done))])


def outer_sums(filters: int, vectors: int) -> Emit:
    """Microkernel w[f, q] (+)= sum over i < images of y[i, f] * p[i, q], lanes along q < n; each w is written once."""

    def product(
        v: Vectors, y: Any, y_f: Any, y_n: Any, p: Any, p_row: Any, images: Any, n: Any, w: Any, w_row: Any, add: Any
    ) -> None:
        b = v.builder
        every, none = (ir.Constant(v.mask_type, [bit] * v.lanes) for bit in (1, 0))
        keep = b.icmp_signed("!=", add, I64(0))
        w_rows = [v.at(w, b.mul(w_row, I64(f))) for f in range(filters)]
        y_offsets = [b.mul(y_f, I64(f)) for f in range(filters)]

        def step(at: Any, masks: list[Any]) -> None:
            cells = [(v.at(row, b.add(at, I64(j * v.lanes))), mask) for row in w_rows for j, mask in enumerate(masks)]
            # Masks switched off by `add` make the old contents zero without reading them.
            old = [b.select(keep, every if mask is None else mask, none) for mask in masks] * filters
            sums = [v.masked_load(cell, mask) for (cell, _), mask in zip(cells, old, strict=True)]
            with Loop(b, images, [y, v.at(p, at), *sums]) as loop:
                y_at, p_at, *sums = loop.values
                held = [v.load(v.at(p_at, j * v.lanes), mask) for j, mask in enumerate(masks)]
                new = add_outer(v, sums, (v.broadcast(v.at(y_at, shift)) for shift in y_offsets), held)
                loop.next = [v.at(y_at, y_n), v.at(p_at, p_row), *new]
            for total, (cell, mask) in zip(loop.results[2:], cells, strict=True):
                v.store(total, cell, mask)

        _by_vectors(v, n, vectors, step)

    return product


def scaled_sums(filters: int, images: int, vectors: int) -> Emit:
    """Microkernel p[i, q] (+)= sum over f of y[i, f] * w[f, q], lanes along q < n; each w is loaded once.

    Rows of p have room for whole vectors; of w nothing is touched behind q = n.
    """

    def product(
        v: Vectors, y: Any, y_f: Any, y_n: Any, w: Any, w_row: Any, n: Any, p: Any, p_row: Any, add: Any
    ) -> None:
        b = v.builder
        every, none = (ir.Constant(v.mask_type, [bit] * v.lanes) for bit in (1, 0))
        old = b.select(b.icmp_signed("!=", add, I64(0)), every, none)
        w_rows = [v.at(w, b.mul(w_row, I64(f))) for f in range(filters)]
        p_rows = [v.at(p, b.mul(p_row, I64(i))) for i in range(images)]
        factors = [
            [v.broadcast(v.at(y, b.add(b.mul(y_n, I64(i)), b.mul(y_f, I64(f))))) for i in range(images)]
            for f in range(filters)
        ]

        def step(at: Any, masks: list[Any]) -> None:
            places = [b.add(at, I64(j * v.lanes)) for j in range(len(masks))]
            cells = [v.at(row, place) for place in places for row in p_rows]
            sums = [v.masked_load(cell, old) for cell in cells]
            for row, held in zip(w_rows, factors, strict=True):
                passing = (v.load(v.at(row, place), mask) for place, mask in zip(places, masks, strict=True))
                sums = add_outer(v, sums, passing, held)
            for cell, total in zip(cells, sums, strict=True):
                v.store(total, cell)

        _by_vectors(v, n, vectors, step)

    return product
