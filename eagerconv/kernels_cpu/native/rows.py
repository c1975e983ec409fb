"""Rows of the result in vector registers: for few channels per group, where a matrix product would have nothing to share.

Lanes are neighbouring pixels of a row. A piece of a result row is summed over all its taps before it is stored once; the
rows of the source are read where they lie, masked at the borders. As in gemm.py, the forward pass and the gradient with
respect to inputs are one kernel with source and result exchanged; along x there is no stride.
"""

from __future__ import annotations

from typing import Any

import llvmlite.ir as ir
from numba import types
from numba.extending import intrinsic

from eagerconv.kernels_cpu import table as at
from eagerconv.kernels_cpu.native.direct import ceil_div, helper, window
from eagerconv.kernels_cpu.native.vector import I64, Loop, Vectors, _void, offset
from eagerconv.kernels_cpu.rows import LINES, VECTORS

P = Any  # a pointer


@intrinsic
def as_integers(typingctx: Any, pointer: Any) -> Any:
    """The same memory as int64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.IntType(64).as_pointer())

    return types.CPointer(types.int64)(pointer), codegen


@intrinsic
def sum_row(typingctx: Any, out: Any, n: Any, source: Any, width: Any, x0: Any, step: Any, w: Any, w_step: Any, taps: Any,
            rows: Any, count: Any) -> Any:  # fmt: skip
    """out[j] = sum over rows e and taps k of w[rows[2e+1] + k*w_step] * source[rows[2e] + i], i = j + x0 + k*step.

    For j < n; terms with i outside 0 <= i < width are left out, and not read. `count` rows, `taps` taps each.
    """

    def codegen(builder: Any, out: Any, n: Any, source: Any, width: Any, x0: Any, step: Any, w: Any, w_step: Any, taps: Any,
                rows: Any, count: Any) -> None:  # fmt: skip
        v = Vectors(builder, element)
        span = VECTORS * v.lanes
        pieces = builder.sdiv(builder.add(n, I64(span - 1)), I64(span))
        with Loop(builder, pieces, []) as piece:
            start = builder.mul(piece.index, I64(span))
            with Loop(builder, count, [v.zeros] * VECTORS) as row:
                entry = v.at(rows, builder.mul(row.index, I64(2)))
                image, filters = v.at(source, builder.load(entry)), v.at(w, builder.load(v.at(entry, 1)))
                with Loop(builder, taps, list(row.values)) as tap:
                    factor = v.broadcast(v.at(filters, builder.mul(tap.index, w_step)))
                    i = builder.add(builder.add(start, x0), builder.mul(tap.index, step))
                    for q in range(VECTORS):
                        first = builder.add(i, I64(q * v.lanes))  # of the vector's lanes, as a place in the row
                        inside = builder.and_(
                            v.lanes_below(builder.sub(width, first)), builder.not_(v.lanes_below(builder.neg(first)))
                        )
                        pixels = v.masked_load(v.at(image, first), inside)
                        tap.next.append(v.fma(factor, pixels, tap.values[q]))
                row.next = tap.results
            for q in range(VECTORS):
                at_ = builder.add(start, I64(q * v.lanes))
                v.store_below([(row.results[q], v.at(out, at_))], builder.sub(n, at_))

    element = out.dtype
    return _void(codegen, out, n, source, width, x0, step, w, w_step, taps, rows, count)


@intrinsic
def dot_planes(typingctx: Any, a: Any, a_row: Any, b: Any, b_row: Any, rows: Any, n: Any) -> Any:
    """Sum over r < rows and j < n of a[r*a_row + j] * b[r*b_row + j], lanes along j."""
    element = a.dtype

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        a, a_row, b, b_row, rows, n = args
        v = Vectors(builder, element)
        whole = builder.sdiv(n, I64(v.lanes))
        tail = v.lanes_below(builder.sub(n, builder.mul(whole, I64(v.lanes))))
        with Loop(builder, rows, [a, b, v.zeros, v.zeros]) as row:
            a_at, b_at, even, odd = row.values
            with Loop(
                builder, builder.sdiv(whole, I64(2)), [a_at, b_at, even, odd]
            ) as pair:  # two sums hide the latency
                left, right, *sums = pair.values
                for q in range(2):
                    sums[q] = v.fma(v.load(v.at(left, q * v.lanes)), v.load(v.at(right, q * v.lanes)), sums[q])
                pair.next = [v.at(left, 2 * v.lanes), v.at(right, 2 * v.lanes), *sums]
            with Loop(builder, builder.srem(whole, I64(2)), pair.results[:3]) as last:
                left, right, total = last.values
                last.next = [v.at(left, v.lanes), v.at(right, v.lanes), v.fma(v.load(left), v.load(right), total)]
            left, right, total = last.results
            total = v.fma(v.masked_load(left, tail), v.masked_load(right, tail), total)
            row.next = [v.at(a_at, a_row), v.at(b_at, b_row), total, pair.results[3]]
        return v.sum(builder.fadd(row.results[2], row.results[3]))

    return element(a, a_row, b, b_row, rows, n), codegen


@helper
def divided(a: int, b: int) -> int:
    """The quotient, or -1 where it is not whole."""
    if b == 1:
        return a
    return a // b if a % b == 0 else -1


def images(first: int, last: int, thread: int, source: P, w: P, result: P, work: P, g: P) -> None:
    """The forward pass or the gradient with respect to inputs; a task is some rows of one channel of one image.

    Across rows, result row j and tap k meet in source row i with i*DIVIDE = j*MULTIPLY + k*STEP + ORIGIN on each axis:
    forward DIVIDE is 1, for the inputs MULTIPLY is, and the tap counts only where the stride divides.
    """
    rows = as_integers(offset(work, thread * g[at.WORK]))
    down = g[at.R_GRID + 1]
    blocks = ceil_div(down, LINES)
    for task in range(first, last):
        block, plane = task % blocks, task // blocks
        jz, image = plane % g[at.R_GRID], plane // g[at.R_GRID]
        n, channel = image // (g[at.GROUPS] * g[at.ROWS]), image % (g[at.GROUPS] * g[at.ROWS])
        group, m = channel // g[at.ROWS], channel % g[at.ROWS]
        a = offset(w, group * g[at.A_GROUP] + m * g[at.A_ROW])
        start = offset(source, n * g[at.SOURCE + at.V_N] + group * g[at.CHANNELS] * g[at.SOURCE + at.V_C])
        for jy in range(block * LINES, min(down, (block + 1) * LINES)):
            count = 0
            for r in range(g[at.CHANNELS]):
                for kz in range(g[at.R_KERNEL]):
                    iz = divided(jz * g[at.R_MULTIPLY] + kz * g[at.R_STEP] + g[at.R_ORIGIN], g[at.R_DIVIDE])
                    if iz < 0 or iz >= g[at.SOURCE + at.V_SIZE]:
                        continue
                    for ky in range(g[at.R_KERNEL + 1]):
                        y = jy * g[at.R_MULTIPLY + 1] + ky * g[at.R_STEP + 1] + g[at.R_ORIGIN + 1]
                        iy = divided(y, g[at.R_DIVIDE + 1])
                        if iy < 0 or iy >= g[at.SOURCE + at.V_SIZE + 1]:
                            continue
                        place = r * g[at.SOURCE + at.V_C] + iz * g[at.SOURCE + at.V_I] + iy * g[at.SOURCE + at.V_I + 1]
                        rows[2 * count] = place
                        rows[2 * count + 1] = r * g[at.A_CHANNEL] + kz * g[at.R_TAP] + ky * g[at.R_TAP + 1]
                        count += 1
            out = offset(result, (image * g[at.R_GRID] + jz) * down * g[at.R_GRID + 2] + jy * g[at.R_GRID + 2])
            sum_row(out, g[at.R_GRID + 2], start, g[at.SOURCE + at.V_SIZE + 2], g[at.R_ORIGIN + 2], g[at.R_STEP + 2],
                    a, g[at.R_TAP + 2], g[at.R_KERNEL + 2], rows, count)  # fmt: skip


def weights(first: int, last: int, thread: int, x: P, w: P, y: P, work: P, g: P) -> None:
    """w[f, c, k] = sum over images and rows of y row times x row; a task is one pair (f, c), x and y row by row."""
    for task in range(first, last):
        f, c = task // g[at.CIN], task % g[at.CIN]
        channel = f // g[at.COUT] * g[at.CIN] + c
        for kz in range(g[at.KERNEL]):
            base_z = kz * g[at.STEP] + g[at.ORIGIN]
            z0, z1 = window(base_z, g[at.STRIDE], 0, g[at.SIZE], g[at.OUT])
            for ky in range(g[at.KERNEL + 1]):
                base_y = ky * g[at.STEP + 1] + g[at.ORIGIN + 1]
                y0, y1 = window(base_y, g[at.STRIDE + 1], 0, g[at.SIZE + 1], g[at.OUT + 1])
                for kx in range(g[at.KERNEL + 2]):
                    base = kx * g[at.STEP + 2] + g[at.ORIGIN + 2]
                    j0, j1 = window(base, 1, 0, g[at.SIZE + 2], g[at.OUT + 2])
                    to = f * g[at.W_F] + c * g[at.W_C] + kz * g[at.W_K] + ky * g[at.W_K + 1] + kx * g[at.W_K + 2]
                    w[to] = 0
                    if j0 >= j1 or y0 >= y1:
                        continue
                    for n in range(g[at.BATCH]):
                        for oz in range(z0, z1):
                            i = (oz * g[at.STRIDE] + base_z) * g[at.X_I] + (y0 * g[at.STRIDE + 1] + base_y) * g[
                                at.X_I + 1
                            ]
                            xs = offset(x, n * g[at.X_N] + channel * g[at.X_C] + i + j0 + base)
                            ys = offset(y, n * g[at.Y_N] + f * g[at.Y_F] + oz * g[at.Y_O] + y0 * g[at.Y_O + 1] + j0)
                            w[to] += dot_planes(
                                ys, g[at.Y_O + 1], xs, g[at.STRIDE + 1] * g[at.X_I + 1], y1 - y0, j1 - j0
                            )
