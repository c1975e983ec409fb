"""Vector code for unshared filters: patches gathered, multiplied and added back in runs shorter than a register."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.ir as ir
from numba.extending import intrinsic

from eagerconv.kernels_cpu.native.vector import I1, I32, I64, Loop, Vectors, _void


class ShortVectors(Vectors):
    """Vectors of a number of bytes of our choice, up to a register: short runs waste less of them."""

    def __init__(self, builder: Any, element: Any, nbytes: int) -> None:
        super().__init__(builder, element)
        self.lanes = nbytes // self.bytes
        self.suffix = f"v{self.lanes}f{element.bitwidth}"
        self.type = ir.VectorType(self.element, self.lanes)
        self.mask_type = ir.VectorType(I1, self.lanes)
        self.zeros = ir.Constant(self.type, [0.0] * self.lanes)


def _store(v: Vectors, vector: Any, pointer: Any, mask: Any = None) -> None:
    """A vector, or its lanes of the mask, to memory of any alignment."""
    if mask is None:
        v.builder.store(vector, v.builder.bitcast(pointer, v.type.as_pointer())).align = v.bytes
    else:
        v.masked_store(vector, pointer, mask)


def _load(v: Vectors, pointer: Any, mask: Any = None) -> Any:
    """A vector from memory of any alignment, zero where there is a mask and it is unset."""
    return v.load(pointer) if mask is None else v.masked_load(pointer, mask)


def copy_runs(nbytes: int) -> Any:
    """to[r*n + j] = source[r*source_row + j] for r < rows, j < n, in vectors of `nbytes`.

    Whole vectors are read, up to one vector less one element behind each run. Only the run is written: stores that overlap
    would wait for each other.
    """

    @intrinsic
    def copy(typingctx: Any, to: Any, source: Any, source_row: Any, rows: Any, n: Any) -> Any:
        def codegen(builder: Any, to: Any, source: Any, source_row: Any, rows: Any, n: Any) -> None:
            v = ShortVectors(builder, element, nbytes)
            lanes = I64(v.lanes)
            chunks = builder.sdiv(builder.add(n, I64(v.lanes - 1)), lanes)
            with Loop(builder, chunks, []) as chunk:
                start = builder.mul(chunk.index, lanes)
                mask = v.lanes_below(builder.sub(n, start))
                with Loop(builder, rows, [v.at(to, start), v.at(source, start)]) as row:
                    v.masked_store(v.load(row.values[1]), row.values[0], mask)
                    row.next = [v.at(row.values[0], n), v.at(row.values[1], source_row)]

        element = to.dtype
        return _void(codegen, to, source, source_row, rows, n)

    return copy


def add_runs(nbytes: int) -> Any:
    """to[r*to_row + j] += source[r*n + j] for r < rows, j < n, in vectors of `nbytes`; nothing else is touched."""

    @intrinsic
    def add(typingctx: Any, to: Any, to_row: Any, source: Any, rows: Any, n: Any) -> Any:
        def codegen(builder: Any, to: Any, to_row: Any, source: Any, rows: Any, n: Any) -> None:
            v = ShortVectors(builder, element, nbytes)
            lanes = I64(v.lanes)
            chunks = builder.sdiv(builder.add(n, I64(v.lanes - 1)), lanes)
            with Loop(builder, chunks, []) as chunk:
                start = builder.mul(chunk.index, lanes)
                mask = v.lanes_below(builder.sub(n, start))
                with Loop(builder, rows, [v.at(to, start), v.at(source, start)]) as row:
                    old, new = (v.masked_load(pointer, mask) for pointer in row.values)
                    v.masked_store(builder.fadd(old, new), row.values[0], mask)
                    row.next = [v.at(row.values[0], to_row), v.at(row.values[1], n)]

        element = to.dtype
        return _void(codegen, to, to_row, source, rows, n)

    return add


@intrinsic
def copy_rows_reversed(
    typingctx: Any, to: Any, to_row: Any, source: Any, source_row: Any, rows: Any, first: Any, last: Any, n: Any
) -> Any:
    """to[r, j] = source[r, -j] if first <= j < last else 0, for r < rows and j < n; only what is copied is read."""

    def codegen(
        builder: Any, to: Any, to_row: Any, source: Any, source_row: Any, rows: Any, first: Any, last: Any, n: Any
    ) -> None:
        v = Vectors(builder, element)
        lanes = I64(v.lanes)
        backward = ir.Constant(ir.VectorType(I32, v.lanes), list(range(v.lanes - 1, -1, -1)))
        chunks = builder.sdiv(builder.add(n, I64(v.lanes - 1)), lanes)
        with Loop(builder, chunks, []) as chunk:
            start = builder.mul(chunk.index, lanes)
            end = builder.add(start, lanes)  # lane l of what is read holds j = end - 1 - l
            copied = builder.and_(
                v.lanes_below(builder.sub(end, first)), builder.not_(v.lanes_below(builder.sub(end, last)))
            )
            written = v.lanes_below(builder.sub(n, start))
            lowest = v.at(source, builder.sub(I64(1), end))
            with Loop(builder, rows, [v.at(to, start), lowest]) as row:
                vector = builder.shuffle_vector(v.masked_load(row.values[1], copied), v.zeros, backward)
                v.masked_store(vector, row.values[0], written)
                row.next = [v.at(row.values[0], to_row), v.at(row.values[1], source_row)]

    element = to.dtype
    return _void(codegen, to, to_row, source, source_row, rows, first, last, n)


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


def dot_products(filters: int, images: int) -> Any:
    """Microkernel y[i, f] (+)= sum over q < n of p[i, q] * w[f, q], lanes along q; both counts are powers of two.

    Rows of w are w_row elements apart and so on; elements behind q = n are not touched. Each w is loaded once.
    """

    @intrinsic
    def product(
        typingctx: Any, w: Any, w_row: Any, p: Any, p_row: Any, n: Any, y: Any, y_f: Any, y_n: Any, add: Any
    ) -> Any:
        def codegen(
            builder: Any, w: Any, w_row: Any, p: Any, p_row: Any, n: Any, y: Any, y_f: Any, y_n: Any, add: Any
        ) -> None:
            v = Vectors(builder, element)
            w_rows = [v.at(w, builder.mul(w_row, I64(f))) for f in range(filters)]
            p_rows = [v.at(p, builder.mul(p_row, I64(i))) for i in range(images)]

            def step(at: Any, sums: list[Any], mask: Any = None) -> list[Any]:
                left = [_load(v, v.at(row, at), mask) for row in p_rows]
                new = []
                for f in range(filters):
                    right = _load(v, v.at(w_rows[f], at), mask)
                    new += [v.fma(left[i], right, sums[f * images + i]) for i in range(images)]
                return new

            whole, rest = _quotients(builder, n, v.lanes)
            with Loop(builder, whole, [v.zeros] * (filters * images)) as loop:
                loop.next = step(builder.mul(loop.index, I64(v.lanes)), loop.values)
            some = builder.zext(builder.icmp_signed(">", rest, I64(0)), I64)
            with Loop(builder, some, loop.results) as tail:
                tail.next = step(builder.sub(n, rest), tail.values, v.lanes_below(rest))

            sums = _sums(v, tail.results)
            keep = builder.icmp_signed("!=", add, I64(0))
            for number in range(filters * images):
                f, i = divmod(number, images)
                cell = v.at(y, builder.add(builder.mul(y_f, I64(f)), builder.mul(y_n, I64(i))))
                old = builder.select(keep, builder.load(cell), ir.Constant(v.element, 0.0))
                new = builder.extract_element(sums[number // v.lanes], I32(number % v.lanes))
                builder.store(builder.fadd(old, new), cell)

        element = w.dtype
        return _void(codegen, w, w_row, p, p_row, n, y, y_f, y_n, add)

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


def outer_sums(filters: int, vectors: int) -> Any:
    """Microkernel w[f, q] (+)= sum over i < images of y[i, f] * p[i, q], lanes along q < n; each w is written once."""

    @intrinsic
    def product(
        typingctx: Any,
        y: Any,
        y_f: Any,
        y_n: Any,
        p: Any,
        p_row: Any,
        images: Any,
        n: Any,
        w: Any,
        w_row: Any,
        add: Any,
    ) -> Any:
        def codegen(
            builder: Any,
            y: Any,
            y_f: Any,
            y_n: Any,
            p: Any,
            p_row: Any,
            images: Any,
            n: Any,
            w: Any,
            w_row: Any,
            add: Any,
        ) -> None:
            v = Vectors(builder, element)
            every, none = (ir.Constant(v.mask_type, [bit] * v.lanes) for bit in (1, 0))
            keep = builder.icmp_signed("!=", add, I64(0))
            w_rows = [v.at(w, builder.mul(w_row, I64(f))) for f in range(filters)]
            y_offsets = [builder.mul(y_f, I64(f)) for f in range(filters)]

            def step(at: Any, masks: list[Any]) -> None:
                cells = [[v.at(row, builder.add(at, I64(j * v.lanes))) for j in range(len(masks))] for row in w_rows]
                # Masks switched off by `add` make the old contents zero without reading them.
                old = [builder.select(keep, every if mask is None else mask, none) for mask in masks]
                sums = [v.masked_load(cell, old[j]) for row in cells for j, cell in enumerate(row)]
                with Loop(builder, images, [y, v.at(p, at), *sums]) as loop:
                    y_at, p_at, *values = loop.values
                    rows = [_load(v, v.at(p_at, j * v.lanes), mask) for j, mask in enumerate(masks)]
                    new = []
                    for f in range(filters):
                        factor = v.broadcast(v.at(y_at, y_offsets[f]))
                        new += [v.fma(factor, row, values[f * len(masks) + j]) for j, row in enumerate(rows)]
                    loop.next = [v.at(y_at, y_n), v.at(p_at, p_row), *new]
                results = iter(loop.results[2:])
                for row in cells:
                    for j, cell in enumerate(row):
                        _store(v, next(results), cell, masks[j])

            _by_vectors(v, n, vectors, step)

        element = w.dtype
        return _void(codegen, y, y_f, y_n, p, p_row, images, n, w, w_row, add)

    return product


def scaled_sums(filters: int, images: int, vectors: int) -> Any:
    """Microkernel p[i, q] (+)= sum over f of y[i, f] * w[f, q], lanes along q < n; each w is loaded once.

    Rows of p have room for whole vectors; of w nothing is touched behind q = n.
    """

    @intrinsic
    def product(
        typingctx: Any, y: Any, y_f: Any, y_n: Any, w: Any, w_row: Any, n: Any, p: Any, p_row: Any, add: Any
    ) -> Any:
        def codegen(
            builder: Any, y: Any, y_f: Any, y_n: Any, w: Any, w_row: Any, n: Any, p: Any, p_row: Any, add: Any
        ) -> None:
            v = Vectors(builder, element)
            every, none = (ir.Constant(v.mask_type, [bit] * v.lanes) for bit in (1, 0))
            old = builder.select(builder.icmp_signed("!=", add, I64(0)), every, none)
            w_rows = [v.at(w, builder.mul(w_row, I64(f))) for f in range(filters)]
            p_rows = [v.at(p, builder.mul(p_row, I64(i))) for i in range(images)]
            factors = [
                [
                    v.broadcast(v.at(y, builder.add(builder.mul(y_n, I64(i)), builder.mul(y_f, I64(f)))))
                    for i in range(images)
                ]
                for f in range(filters)
            ]

            def step(at: Any, masks: list[Any]) -> None:
                places = [builder.add(at, I64(j * v.lanes)) for j in range(len(masks))]
                sums = [[v.masked_load(v.at(row, place), old) for place in places] for row in p_rows]
                for f in range(filters):
                    for j, place in enumerate(places):
                        right = _load(v, v.at(w_rows[f], place), masks[j])
                        for i in range(images):
                            sums[i][j] = v.fma(factors[f][i], right, sums[i][j])
                for row, new in zip(p_rows, sums, strict=True):
                    for place, vector in zip(places, new, strict=True):
                        _store(v, vector, v.at(row, place))

            _by_vectors(v, n, vectors, step)

        element = w.dtype
        return _void(codegen, y, y_f, y_n, w, w_row, n, p, p_row, add)

    return product
