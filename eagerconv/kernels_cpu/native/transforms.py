"""Vector code for transforms: transposes between rows of pixels and lanes of channels, and products with constant matrices.

With channels in the lanes, a transform of a tile is the same arithmetic on whole vectors, whatever the tile's place. So
rows of an image enter through a register transpose (lanes = channels), and results leave through another.
"""

from __future__ import annotations

from typing import Any

import llvmlite.ir as ir

from eagerconv.kernels_cpu.cooktoom import Matrix
from eagerconv.kernels_cpu.native.emit import Emit, emits
from eagerconv.kernels_cpu.native.loops import P, helper
from eagerconv.kernels_cpu.native.simd import I32, I64, Loop, Vectors
from eagerconv.kernels_cpu.native.vector import lanes_before_line, offset


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


@emits
def rows_to_lanes(v: Vectors, source: Any, source_row: Any, rows: Any, columns: Any, to: Any, to_step: Any) -> None:
    """to[j*to_step : +lanes] = column j of `rows` rows of `columns` elements (at most `lanes` each), zeros in other lanes."""
    b = v.builder
    pointers = [source]
    for _ in range(1, v.lanes):
        pointers.append(v.at(pointers[-1], source_row))
    mask = v.lanes_below(columns)
    with b.if_else(b.icmp_signed(">=", rows, I64(v.lanes))) as (all_rows, some_rows):
        with all_rows:  # the common case: one mask serves all
            whole = [v.masked_load(pointer, mask) for pointer in pointers]
            whole_block = b.block
        with some_rows:
            part = []
            for i, pointer in enumerate(pointers):
                present = b.select(b.icmp_signed("<", I64(i), rows), columns, I64(0))
                part.append(v.masked_load(pointer, v.lanes_below(present)))
            part_block = b.block
    loaded = []
    for pair in zip(whole, part, strict=True):
        loaded.append(b.phi(v.type))
        for value, block in zip(pair, (whole_block, part_block), strict=True):
            loaded[-1].add_incoming(value, block)
    for vector in _transposed(v, loaded):
        v.store(vector, to)
        to = v.at(to, to_step)


def rows_to_columns(rows: int) -> Emit:
    """to[j*rows + i] = column j of row i for j < lanes, zeros where there is no column, or no row i < present.

    For a power of two of rows, as many as lanes at most: in log2(rows) stages vector k is interleaved with vector k + rows/2,
    which turns the number (i, j) of every element by one bit.
    """

    def transpose(v: Vectors, source: Any, source_row: Any, present: Any, columns: Any, to: Any) -> None:
        b, n = v.builder, v.lanes
        vectors = []
        for i in range(rows):
            count = b.select(b.icmp_signed("<", I64(i), present), columns, I64(0))
            vectors.append(v.masked_load(source, v.lanes_below(count)))
            source = v.at(source, source_row)
        halves = [[k // 2 + start + n * (k % 2) for k in range(n)] for start in (0, n // 2)]
        masks = [ir.Constant(ir.VectorType(I32, n), indices) for indices in halves]
        for _ in range(rows.bit_length() - 1):
            pairs = zip(vectors[: rows // 2], vectors[rows // 2 :], strict=True)
            vectors = [b.shuffle_vector(*pair, mask) for pair in pairs for mask in masks]
        for k, vector in enumerate(vectors):
            v.store(vector, v.at(to, k * n))

    return transpose


@emits
def lanes_to_rows(v: Vectors, source: Any, source_step: Any, to: Any, to_row: Any, rows: Any, columns: Any) -> None:
    """to[i*to_row + j] = lane i of the vector at source + j*source_step, for i < rows and j < columns (at most `lanes`)."""
    b = v.builder
    pairs = _square(v, source, source_step, to, to_row)
    with b.if_else(b.icmp_signed(">=", rows, I64(v.lanes))) as (all_rows, some_rows):
        with all_rows:
            v.store_below(pairs, columns)
        with some_rows:
            for i, pair in enumerate(pairs):
                with b.if_then(b.icmp_signed("<", I64(i), rows)):
                    v.store_below([pair], columns)


@emits
def store_square_non_temporal(v: Vectors, source: Any, source_step: Any, to: Any, to_row: Any) -> None:
    """`lanes_to_rows` of a whole square whose rows begin at whole lines of memory, past the caches."""
    for vector, target in _square(v, source, source_step, to, to_row):
        v.store_non_temporal(vector, target)


def _square(v: Vectors, source: Any, source_step: Any, to: Any, to_row: Any) -> list[tuple[Any, Any]]:
    """(row, where it is to be stored) of a square whose columns are vectors at `source`."""
    columns, targets = [], []
    for i in range(v.lanes):
        columns.append(v.load(source))
        source = v.at(source, source_step)
        targets.append(v.at(to, v.builder.mul(to_row, I64(i))))
    return list(zip(_transposed(v, columns), targets, strict=True))


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
            store_square_non_temporal(offset(source, j * step), step, offset(to, j), row)
            j += lanes
    while j < n:
        lanes_to_rows(offset(source, j * step), step, offset(to, j), row, rows, min(lanes, n - j))
        j += lanes


@emits
def clear_vectors(v: Vectors, to: Any, count: Any) -> None:
    """Zero `count` vectors."""
    with Loop(v.builder, count, []) as loop:
        v.store(v.zeros, v.at(to, v.builder.mul(loop.index, I64(v.lanes))))


@emits
def add_vectors(v: Vectors, to: Any, source: Any, step: Any, count: Any) -> None:
    """to[i*step : +lanes] += source[i*step : +lanes] for i < count."""
    with Loop(v.builder, count, []) as loop:
        shift = v.builder.mul(loop.index, step)
        cell = v.at(to, shift)
        v.store(v.builder.fadd(v.load(cell), v.load(v.at(source, shift))), cell)


def sandwich(matrix: Matrix, across: Matrix | None = None) -> Any:
    """Y = M X N^T of vectors: x[i, j] at source + i*source_row + j*source_step, y[i, j] at to + i*to_row + j*to_step.

    `across` is N, by default M again.
    """
    second = matrix if across is None else across

    def product(v: Vectors, source: Any, source_row: Any, source_step: Any, to: Any, to_row: Any, to_step: Any) -> None:
        rows = [v.at(source, v.builder.mul(source_row, I64(i))) for i in range(len(matrix[0]))]
        columns = []
        for j in range(len(second[0])):  # M X, column by column
            shift = v.builder.mul(source_step, I64(j))
            columns.append(_combinations(v, matrix, [v.load(v.at(row, shift)) for row in rows]))
        for i in range(len(matrix)):  # (M X) N^T, row by row
            row = v.at(to, v.builder.mul(to_row, I64(i)))
            for j, vector in enumerate(_combinations(v, second, [column[i] for column in columns])):
                v.store(vector, v.at(row, v.builder.mul(to_step, I64(j))))

    return emits(product)


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
