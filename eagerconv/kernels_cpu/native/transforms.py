"""Vector code for transforms: transposes between rows of pixels and lanes of channels, and products with constant matrices.

With channels in the lanes, a transform of a tile is the same arithmetic on whole vectors, whatever the tile's place. So
rows of an image enter through a register transpose (lanes = channels), and results leave through another.
"""

from __future__ import annotations

from typing import Any

import llvmlite.ir as ir
from numba.extending import intrinsic

from eagerconv.kernels_cpu.cooktoom import Matrix
from eagerconv.kernels_cpu.native.direct import helper
from eagerconv.kernels_cpu.native.vector import I32, I64, Loop, Vectors, _void, lanes_before_line, offset

P = Any  # a pointer


def _transposed(v: Vectors, rows: list[Any]) -> list[Any]:
    """Transpose a square of vectors in log2(lanes) stages: stage d exchanges the blocks off the diagonal of all 2d squares."""
    n = v.lanes
    distance = n // 2
    while distance:
        low = [k if not k & distance else (k ^ distance) + n for k in range(n)]
        high = [k | distance if not k & distance else k + n for k in range(n)]
        masks = [ir.Constant(ir.VectorType(I32, n), indices) for indices in (low, high)]
        new = list(rows)
        for i in range(n):
            if not i & distance:
                pair = rows[i], rows[i | distance]
                new[i], new[i | distance] = (v.builder.shuffle_vector(*pair, mask) for mask in masks)
        rows, distance = new, distance // 2
    return rows


@intrinsic
def rows_to_lanes(typingctx: Any, source: Any, source_row: Any, rows: Any, columns: Any, to: Any, to_step: Any) -> Any:
    """to[j*to_step : +lanes] = column j of `rows` rows of `columns` elements (at most `lanes` each), zeros in other lanes."""

    def codegen(builder: Any, source: Any, source_row: Any, rows: Any, columns: Any, to: Any, to_step: Any) -> None:
        v = Vectors(builder, element)
        pointers = [source]
        for _ in range(1, v.lanes):
            pointers.append(v.at(pointers[-1], source_row))
        mask = v.lanes_below(columns)
        with builder.if_else(builder.icmp_signed(">=", rows, I64(v.lanes))) as (all_rows, some_rows):
            with all_rows:  # the common case: one mask serves all
                whole = [v.masked_load(pointer, mask) for pointer in pointers]
                whole_block = builder.block
            with some_rows:
                part = []
                for i, pointer in enumerate(pointers):
                    present = builder.select(builder.icmp_signed("<", I64(i), rows), columns, I64(0))
                    part.append(v.masked_load(pointer, v.lanes_below(present)))
                part_block = builder.block
        loaded = []
        for pair in zip(whole, part, strict=True):
            loaded.append(builder.phi(v.type))
            for value, block in zip(pair, (whole_block, part_block), strict=True):
                loaded[-1].add_incoming(value, block)
        for vector in _transposed(v, loaded):
            v.store(vector, to)
            to = v.at(to, to_step)

    element = to.dtype
    return _void(codegen, source, source_row, rows, columns, to, to_step)


@intrinsic
def lanes_to_rows(typingctx: Any, source: Any, source_step: Any, to: Any, to_row: Any, rows: Any, columns: Any) -> Any:
    """to[i*to_row + j] = lane i of the vector at source + j*source_step, for i < rows and j < columns (at most `lanes`)."""

    def codegen(builder: Any, source: Any, source_step: Any, to: Any, to_row: Any, rows: Any, columns: Any) -> None:
        v = Vectors(builder, element)
        lanes, targets = _square(v, source, source_step, to, to_row)
        with builder.if_else(builder.icmp_signed(">=", rows, I64(v.lanes))) as (all_rows, some_rows):
            with all_rows:
                v.store_below(list(zip(lanes, targets, strict=True)), columns)
            with some_rows:
                for i, pair in enumerate(zip(lanes, targets, strict=True)):
                    with builder.if_then(builder.icmp_signed("<", I64(i), rows)):
                        v.store_below([pair], columns)

    element = to.dtype
    return _void(codegen, source, source_step, to, to_row, rows, columns)


@intrinsic
def stream_square(typingctx: Any, source: Any, source_step: Any, to: Any, to_row: Any) -> Any:
    """`lanes_to_rows` of a whole square whose rows begin at whole lines of memory, past the caches."""

    def codegen(builder: Any, source: Any, source_step: Any, to: Any, to_row: Any) -> None:
        v = Vectors(builder, element)
        for vector, target in zip(*_square(v, source, source_step, to, to_row), strict=True):
            v.stream(vector, target)

    element = to.dtype
    return _void(codegen, source, source_step, to, to_row)


def _square(v: Vectors, source: Any, source_step: Any, to: Any, to_row: Any) -> tuple[list[Any], list[Any]]:
    """The rows of a square whose columns are vectors at `source`, and where they are to be stored."""
    columns, targets = [], []
    for i in range(v.lanes):
        columns.append(v.load(source))
        source = v.at(source, source_step)
        targets.append(v.at(to, v.builder.mul(to_row, I64(i))))
    return _transposed(v, columns), targets


@helper
def store_pixels(source: P, step: int, to: P, row: int, rows: int, n: int, lanes: int, stream: int) -> None:
    """to[i*row + j] = lane i of the vector at source + j*step, for i < rows (at most `lanes`) and j < n.

    With `stream` whole lines go past the caches; `row` must be a whole number of lines then.
    """
    j = 0
    if stream and rows >= lanes:
        ahead = lanes_before_line(to)
        if ahead:
            lanes_to_rows(source, step, to, row, rows, min(ahead, n))
        j = ahead
        while j + lanes <= n:
            stream_square(offset(source, j * step), step, offset(to, j), row)
            j += lanes
    while j < n:
        lanes_to_rows(offset(source, j * step), step, offset(to, j), row, rows, min(lanes, n - j))
        j += lanes


@intrinsic
def clear_vectors(typingctx: Any, to: Any, count: Any) -> Any:
    """Zero `count` vectors."""

    def codegen(builder: Any, to: Any, count: Any) -> None:
        v = Vectors(builder, element)
        with Loop(builder, count, []) as loop:
            v.store(v.zeros, v.at(to, builder.mul(loop.index, I64(v.lanes))))

    element = to.dtype
    return _void(codegen, to, count)


@intrinsic
def add_vectors(typingctx: Any, to: Any, source: Any, step: Any, count: Any) -> Any:
    """to[i*step : +lanes] += source[i*step : +lanes] for i < count."""

    def codegen(builder: Any, to: Any, source: Any, step: Any, count: Any) -> None:
        v = Vectors(builder, element)
        with Loop(builder, count, []) as loop:
            shift = builder.mul(loop.index, step)
            cell = v.at(to, shift)
            v.store(builder.fadd(v.load(cell), v.load(v.at(source, shift))), cell)

    element = to.dtype
    return _void(codegen, to, source, step, count)


def sandwich(matrix: Matrix, across: Matrix | None = None) -> Any:
    """Y = M X N^T of vectors: x[i, j] at source + i*source_row + j*source_step, y[i, j] at to + i*to_row + j*to_step.

    `across` is N, by default M again.
    """
    second = matrix if across is None else across

    @intrinsic
    def product(
        typingctx: Any, source: Any, source_row: Any, source_step: Any, to: Any, to_row: Any, to_step: Any
    ) -> Any:
        def codegen(
            builder: Any, source: Any, source_row: Any, source_step: Any, to: Any, to_row: Any, to_step: Any
        ) -> None:
            v = Vectors(builder, element)
            rows = [v.at(source, builder.mul(source_row, I64(i))) for i in range(len(matrix[0]))]
            columns = []
            for j in range(len(second[0])):  # M X, column by column
                shift = builder.mul(source_step, I64(j))
                columns.append(_combinations(v, matrix, [v.load(v.at(row, shift)) for row in rows]))
            for i in range(len(matrix)):  # (M X) N^T, row by row
                row = v.at(to, builder.mul(to_row, I64(i)))
                for j, vector in enumerate(_combinations(v, second, [column[i] for column in columns])):
                    v.store(vector, v.at(row, builder.mul(to_step, I64(j))))

        element = to.dtype
        return _void(codegen, source, source_row, source_step, to, to_row, to_step)

    return product


def _combinations(v: Vectors, matrix: Matrix, x: list[Any]) -> list[Any]:
    """M x for a constant matrix. Two rows that differ only in signs, as Cook-Toom's points +p and -p give, share their sums."""
    result: list[Any] = [None] * len(matrix)
    for i, row in enumerate(matrix):
        if result[i] is not None:
            continue
        mate = next((k for k in range(i + 1, len(matrix)) if result[k] is None and _signs_differ(row, matrix[k])), None)
        if mate is None:
            result[i] = _combination(v, list(zip(row, x, strict=True)))
            continue
        terms = list(zip(row, matrix[mate], x, strict=True))
        same = _combination(v, [(a, vector) for a, b, vector in terms if a == b])
        opposite = _combination(v, [(a, vector) for a, b, vector in terms if a != b])
        result[i], result[mate] = v.builder.fadd(same, opposite), v.builder.fsub(same, opposite)
    return result


def _signs_differ(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    same = [p for p, q in zip(a, b, strict=True) if p == q != 0]
    opposite = [p for p, q in zip(a, b, strict=True) if p == -q != 0]
    return bool(same and opposite) and all(abs(p) == abs(q) for p, q in zip(a, b, strict=True))


def _combination(v: Vectors, terms: list[tuple[float, Any]]) -> Any:
    """Sum of coefficient * vector: ones by additions, the rest by fused multiplications."""
    total = None
    for coefficient, vector in sorted(terms, key=lambda term: (abs(term[0]) != 1, term[0] < 0)):
        if coefficient == 0:
            continue
        if total is None:
            total = vector if coefficient == 1 else v.builder.fmul(v.constant(coefficient), vector)
        elif abs(coefficient) == 1:
            total = (v.builder.fadd if coefficient == 1 else v.builder.fsub)(total, vector)
        else:
            total = v.fma(v.constant(coefficient), vector, total)
    return v.zeros if total is None else total


def tile_product(most_rows: int, vectors: int) -> Any:
    """Microkernel c[i, j] (+)= sum over t < count of a[i + t*a_step] * b[t, j], lanes along j; b and c are packed.

    At most as many rows as lanes, so that they divide a block of whole vectors.
    """

    @intrinsic
    def product(typingctx: Any, a: Any, a_step: Any, count: Any, b: Any, c: Any, add: Any) -> Any:
        def codegen(builder: Any, a: Any, a_step: Any, count: Any, b: Any, c: Any, add: Any) -> None:
            v = Vectors(builder, element)
            all_or_none = v.lanes_below(builder.select(builder.icmp_signed("!=", add, I64(0)), I64(v.lanes), I64(0)))
            rows = min(most_rows, v.lanes)
            cells = [v.at(c, k * v.lanes) for k in range(rows * vectors)]
            with Loop(builder, count, [a, b, *(v.masked_load(cell, all_or_none) for cell in cells)]) as loop:
                a_at, b_at, *sums = loop.values
                columns = [v.load(v.at(b_at, j * v.lanes)) for j in range(vectors)]
                for i in range(rows):
                    factor = v.broadcast(v.at(a_at, i))
                    for j in range(vectors):
                        sums[i * vectors + j] = v.fma(factor, columns[j], sums[i * vectors + j])
                loop.next = [v.at(a_at, a_step), v.at(b_at, vectors * v.lanes), *sums]
            for cell, total in zip(cells, loop.results[2:], strict=True):
                v.store(total, cell)

        element = a.dtype
        return _void(codegen, a, a_step, count, b, c, add)

    return product


def block_product(rows: int, vectors: int) -> Any:
    """Microkernel c[i, j] (+)= sum over blocks r and lanes t of a[i, r, t] * b[r, t, j], lanes along j.

    a[i, r, t] lies at i*lanes + r*a_block + t: one vector per row, as the transforms leave it. b and c are packed in rows
    of `vectors` vectors.
    """

    @intrinsic
    def product(typingctx: Any, a: Any, a_block: Any, blocks: Any, b: Any, c: Any, add: Any) -> Any:
        def codegen(builder: Any, a: Any, a_block: Any, blocks: Any, b: Any, c: Any, add: Any) -> None:
            _block(Vectors(builder, element), rows, vectors, a, a_block, blocks, b, c, add)

        element = a.dtype
        return _void(codegen, a, a_block, blocks, b, c, add)

    return product


def block_products(choices: tuple[int, ...], vectors: int) -> Any:
    """`block_product` with its number of rows, one of `choices`, as the first argument."""

    @intrinsic
    def product(typingctx: Any, rows: Any, a: Any, a_block: Any, blocks: Any, b: Any, c: Any, add: Any) -> Any:
        def codegen(builder: Any, rows: Any, *args: Any) -> None:
            for choice in choices:
                with builder.if_then(builder.icmp_signed("==", rows, I64(choice))):
                    _block(Vectors(builder, element), choice, vectors, *args)

        element = a.dtype
        return _void(codegen, rows, a, a_block, blocks, b, c, add)

    return product


def _block(v: Vectors, rows: int, vectors: int, a: Any, a_block: Any, blocks: Any, b: Any, c: Any, add: Any) -> None:
    builder = v.builder
    all_or_none = v.lanes_below(builder.select(builder.icmp_signed("!=", add, I64(0)), I64(v.lanes), I64(0)))
    cells = [v.at(c, k * v.lanes) for k in range(rows * vectors)]
    sums = [v.masked_load(cell, all_or_none) for cell in cells]
    unroll = min(4, v.lanes)  # more makes LLVM hoist broadcasts until registers spill
    with Loop(builder, blocks, [a, b, *sums]) as outer:
        a_start, b_start, *outer_sums = outer.values
        with Loop(builder, I64(v.lanes // unroll), [a_start, b_start, *outer_sums]) as inner:
            a_at, b_at, *inner_sums = inner.values
            for t in range(unroll):
                columns = [v.load(v.at(b_at, (t * vectors + j) * v.lanes)) for j in range(vectors)]
                for i in range(rows):
                    factor = v.broadcast(v.at(a_at, i * v.lanes + t))
                    for j in range(vectors):
                        k = i * vectors + j
                        inner_sums[k] = v.fma(factor, columns[j], inner_sums[k])
            inner.next = [v.at(a_at, unroll), v.at(b_at, unroll * vectors * v.lanes), *inner_sums]
        outer.next = [v.at(a_start, a_block), *inner.results[1:]]
    for cell, total in zip(cells, outer.results[2:], strict=True):
        v.store(total, cell)
