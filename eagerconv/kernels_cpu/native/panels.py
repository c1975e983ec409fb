"""Products of filters of one tap with pixels in the lanes: both packed in panels, the sums stored where they belong.

    result[f, q] = sum over channels r of w[f, r] * image[r, q]

A task packs a block of pixels, of all channels or of a chunk of them, into panels [panel][channel][up to three vectors], which
stay in the second-level cache while all filters meet them, and asks for the pixels of the next block meanwhile. Filters are
packed before, in panels [panel][channel][rows of a microkernel]. Pixels are counted through all images, so that small images
leave no tails. Where a panel lies within one image its sums go from registers to the result; else through a small buffer.

For the gradient with respect to inputs of strided filters the pixels are those of y, and the result is spread: every pixel
writes the zeros up to the next one too.
"""

from __future__ import annotations

from eagerconv.kernels_cpu.blocks import GEMM_ROWS, GEMM_VECTORS
from eagerconv.kernels_cpu.native.emit import emits, switch
from eagerconv.kernels_cpu.native.gemm import pack
from eagerconv.kernels_cpu.native.loops import P, ceil_div, clear, helper
from eagerconv.kernels_cpu.native.products import panel_product
from eagerconv.kernels_cpu.native.transforms import rows_to_columns, rows_to_lanes
from eagerconv.kernels_cpu.native.vector import (
    copy_apart,
    copy_every_second,
    copy_rows,
    lanes_before_line,
    offset,
    zero,
)
from eagerconv.kernels_cpu.table import PANELS as at

FEW_ROWS = GEMM_ROWS // 2
WIDTHS = dict.fromkeys((GEMM_VECTORS, 1, 2))  # vectors of a panel of pixels
PRODUCT = emits(switch({rows: switch({n: panel_product(rows, n) for n in WIDTHS}) for rows in (GEMM_ROWS, FEW_ROWS)}))
INTERLEAVES = GEMM_ROWS.bit_count() == 1
INTERLEAVE = emits(rows_to_columns(GEMM_ROWS if INTERLEAVES else 1))
PACKING = emits(panel_product(GEMM_ROWS, GEMM_VECTORS, packs=True))


# ------------------------------------------------------------------------------------------------------------- packing


@helper
def pack_rows(to: P, w: P, row: int, step: int, valid: int, channels: int, lanes: int) -> None:
    """to[r*GEMM_ROWS + i] = w[i*row + r*step] for i < valid, else zero, i < GEMM_ROWS; r < channels: see `pack`."""
    if INTERLEAVES and step == 1 and row != 1 and lanes >= GEMM_ROWS:
        for r in range(0, channels, lanes):
            INTERLEAVE(offset(w, r), row, valid, min(lanes, channels - r), offset(to, r * GEMM_ROWS))
    else:
        pack(to, GEMM_ROWS, w, row, valid, step, channels, lanes)


@helper
def pixel(a: P, g: P, q: int) -> P:
    """Where pixel q of all images lies; `a` is the first one."""
    x, rest = q % g[at.GRID + 3], q // g[at.GRID + 3]
    y, rest = rest % g[at.GRID + 2], rest // g[at.GRID + 2]
    z, n, view = rest % g[at.GRID + 1], rest // g[at.GRID + 1], at.SOURCE
    return offset(a, n * g[view] + z * g[view + 1] + y * g[view + 2] + x * g[view + 3])


@helper
def pack_pixels(to: P, width: int, source: P, channel: int, along: int, count: int, channels: int, rest: int,
                lane: int, lanes: int) -> None:  # fmt: skip
    """to[r*width + lane + j] = source[r*channel + j*along] for j < count, zero for count <= j < rest; r < channels."""
    to = offset(to, lane)
    if along == 1:
        copy_rows(to, width, source, channel, channels, 0, count, rest)
    elif along == 2:
        copy_every_second(to, width, source, channel, channels, 0, count, rest)
    elif channel == 1 and lane % lanes == 0 and rest % lanes == 0:
        for j in range(0, rest, lanes):
            for r in range(0, channels, lanes):
                square, columns = offset(source, j * along + r), min(lanes, channels - r)
                rows_to_lanes(square, along, count - j, columns, offset(to, r * width + j), width)
    else:
        for r in range(channels):
            for j in range(count):
                to[r * width + j] = source[r * channel + j * along]
            for j in range(count, rest):
                to[r * width + j] = zero(to)


@helper
def pack_panel(to: P, width: int, source: P, g: P, q0: int, n: int, channels: int) -> None:
    """Pack n pixels from q0 on in rows of `width`; `source` is the first channel of the first pixel."""
    i = 0
    while i < n:
        q = q0 + i
        count = min(g[at.SOURCE_RUN] - q % g[at.SOURCE_RUN], n - i)
        rest = count if i + count < n else width - i
        pack_pixels(
            to, width, pixel(source, g, q), g[at.SOURCE_C], g[at.SOURCE + 3], count, channels, rest, i, g[at.LANES]
        )
        i += count


def filters(first: int, last: int, thread: int, source: P, w: P, result: P, work: P, g: P) -> None:
    """Pack the filters; a task is some channels of some panels of one group."""
    blocks, parts = ceil_div(g[at.DEPTH], g[at.FILTER_CHANNELS]), ceil_div(g[at.PANELS], g[at.FILTER_PANELS])
    for task in range(first, last):
        r0, p0 = task % blocks * g[at.FILTER_CHANNELS], task // blocks % parts * g[at.FILTER_PANELS]
        group, channels = task // (blocks * parts), min(g[at.FILTER_CHANNELS], g[at.DEPTH] - r0)
        for p in range(p0, min(p0 + g[at.FILTER_PANELS], g[at.PANELS])):
            to = offset(work, group * g[at.GROUP] + p * g[at.PANEL] + r0 * GEMM_ROWS)
            a = offset(w, group * g[at.A_GROUP] + p * GEMM_ROWS * g[at.A_ROW] + r0 * g[at.A_CHANNEL])
            valid = g[at.ROWS] - p * GEMM_ROWS
            pack_rows(to, a, g[at.A_ROW], g[at.A_CHANNEL], valid, channels, g[at.LANES])


# ------------------------------------------------------------------------------------------------- forward and inputs


@helper
def next_block(image: P, g: P, q0: int, channels: int) -> tuple[P, int, int, int]:
    """What the block of pixels from q0 on takes from memory: where that begins, rows, lines of a row, from row to row."""
    channel, along, run = g[at.SOURCE_C], g[at.SOURCE + 3], g[at.SOURCE_RUN]
    pixels = min(g[at.BLOCK], g[at.PIXELS] - q0, run - q0 % run)
    if channel == 1:
        return pixel(image, g, q0), pixels, ceil_div(channels, g[at.LANES]), along
    return pixel(image, g, q0), channels, min(ceil_div(pixels * along, g[at.LANES]), channels), channel


@helper
def store_runs(result: P, sums: P, row: int, g: P, q0: int, n: int, rows: int) -> None:
    """Store n sums of some rows, of pixels from q0 on, where they belong."""
    i, run = 0, g[at.PLANE]
    while i < n:
        q = q0 + i
        count = min(run - q % run, n - i)
        to = offset(result, q // run * g[at.RESULT_N] + q % run)
        copy_rows(to, g[at.RESULT_C], offset(sums, i), row, rows, 0, count, count)
        i += count


@helper
def territory(g: P, axis: int, j: int, last: int) -> tuple[int, int]:
    """The places of the result that belong to pixels j to `last` along an axis: theirs and those up to the next one."""
    first, stride, size = g[at.FIRST + axis], g[at.STRIDE + axis], g[at.SIZE + axis]
    return first + j * stride if j else 0, first + (last + 1) * stride if last + 1 < g[at.GRID + 1 + axis] else size


@helper
def spread_runs(result: P, sums: P, row: int, g: P, q0: int, n: int, rows: int) -> None:
    """`store_runs` with zeros between the pixels, and up to the borders."""
    size, columns = g[at.SIZE + 2], g[at.GRID + 3]
    i = 0
    while i < n:
        q = q0 + i
        x, y, z = q % columns, q // columns % g[at.GRID + 2], q // (columns * g[at.GRID + 2]) % g[at.GRID + 1]
        count = min(columns - x, n - i)
        (z0, z1), (y0, y1), (x0, x1) = territory(g, 0, z, z), territory(g, 1, y, y), territory(g, 2, x, x + count - 1)
        begin, stride = g[at.FIRST + 2] + x * g[at.STRIDE + 2], g[at.STRIDE + 2]
        own_z, own_y = g[at.FIRST] + z * g[at.STRIDE], g[at.FIRST + 1] + y * g[at.STRIDE + 1]
        image = offset(result, q // g[at.PLANE] * g[at.RESULT_N])
        for f in range(rows):
            some, plane = offset(sums, f * row + i), offset(image, f * g[at.RESULT_C])
            for iz in range(z0, z1):
                for iy in range(y0, y1):
                    to = offset(plane, (iz * g[at.SIZE + 1] + iy) * size)
                    if iz != own_z or iy != own_y:
                        clear(offset(to, x0), x1 - x0)
                    elif stride == 2:
                        clear(offset(to, x0), begin - x0)
                        written = min(begin + 2 * count, x1)
                        copy_apart(offset(to, begin), some, written - begin)
                        clear(offset(to, written), x1 - written)
                    else:
                        clear(offset(to, x0), x1 - x0)
                        for j in range(count):
                            to[begin + j * stride] = some[j]
        i += count


@helper
def block(result: P, w: P, image: P, packed: P, sums: P, g: P, q0: int, f0: int, f1: int, r0: int, channels: int,
          more: bool) -> None:  # fmt: skip
    """A block of pixels with the panels f0 <= f < f1 of filters, and channels from r0 on; `more`: another comes."""
    lanes, plane, rows_of = g[at.LANES], g[at.PLANE], g[at.RESULT_C]
    end, chunked = min(q0 + g[at.BLOCK], g[at.PIXELS]), g[at.DEPTH] > g[at.CHUNK]
    vectors = ceil_div(end - q0, lanes)
    panels = ceil_div(vectors, GEMM_VECTORS)
    begin, asked, lines, step, asks, every, turn = packed, 0, 1, 0, 0, 1, 0
    if more and end < g[at.PIXELS]:
        begin, asked, lines, step = next_block(image, g, end, channels)
        asked *= lines  # lines of memory, about equally many with each panel
        asks = min(ceil_div(asked, (f1 - f0) * panels), channels)
        every = channels // asks
    for f in range(f0, f1):
        a, rows = offset(w, f * g[at.PANEL] + r0 * GEMM_ROWS), min(GEMM_ROWS, g[at.ROWS] - f * GEMM_ROWS)
        mine = offset(sums, (f - f0) * GEMM_ROWS * g[at.SUMS_ROW] if chunked else 0)
        to = offset(result, f * GEMM_ROWS * rows_of)
        for p in range(panels):
            v0, v1 = vectors * p // panels, vectors * (p + 1) // panels
            b, q, width = offset(packed, v0 * lanes * channels), q0 + v0 * lanes, (v1 - v0) * lanes
            count = min(width, end - q)
            direct = not chunked and not g[at.SPREAD] and q % plane + width <= plane and count == width
            c, row, stored, stream = offset(mine, v0 * lanes), g[at.SUMS_ROW], GEMM_ROWS, 0
            if direct:
                c, row, stored = offset(to, q // plane * g[at.RESULT_N] + q % plane), rows_of, rows
                stream = g[at.NON_TEMPORAL] if lanes_before_line(c) == 0 else 0
            line, some = turn % lines, min(asks, max(0, asked - turn))
            ahead, wrap = offset(begin, turn // lines * step + line * lanes + lanes - 1), step - lines * lanes
            turn += asks
            in_place = g[at.SOURCE + 3] == 1 and q % g[at.SOURCE_RUN] + width <= g[at.SOURCE_RUN]
            if f == f0 and in_place and count == GEMM_VECTORS * lanes and rows > FEW_ROWS:
                PACKING(a, GEMM_ROWS, channels, pixel(image, g, q), c, row, stored, r0, stream, ahead, lines - line, lines,
                        wrap, some, every, b, g[at.SOURCE_C])  # fmt: skip
            else:
                if f == f0:
                    pack_panel(b, width, image, g, q, count, channels)
                kind = GEMM_ROWS if rows > FEW_ROWS else FEW_ROWS
                PRODUCT(kind, v1 - v0, a, GEMM_ROWS, channels, b, c, row, stored, r0, stream, ahead, lines - line, lines,
                        wrap, some, every)  # fmt: skip
            if not direct and r0 + channels == g[at.DEPTH]:
                if g[at.SPREAD]:
                    spread_runs(to, c, row, g, q, count, rows)
                else:
                    store_runs(to, c, row, g, q, count, rows)


def images(first: int, last: int, thread: int, source: P, w: P, result: P, work: P, g: P) -> None:
    """The forward pass or the gradient with respect to inputs; a task is one block of pixels and some panels of filters."""
    depth, sums = g[at.DEPTH], offset(work, g[at.SHARED] + thread * g[at.WORK])
    packed = offset(sums, g[at.PACKED_AT])
    blocks, parts = ceil_div(g[at.PIXELS], g[at.BLOCK]), ceil_div(g[at.PANELS], g[at.PART])
    for task in range(first, last):
        q0, f0, group = task % blocks * g[at.BLOCK], task // blocks % parts * g[at.PART], task // (blocks * parts)
        f1 = min(f0 + g[at.PART], g[at.PANELS])
        to = offset(result, group * g[at.ROWS] * g[at.RESULT_C])
        filters_ = offset(work, group * g[at.GROUP])
        image = offset(source, g[at.SOURCE_AT] + group * depth * g[at.SOURCE_C])
        for r0 in range(0, depth, g[at.CHUNK]):
            some, channels = offset(image, r0 * g[at.SOURCE_C]), min(g[at.CHUNK], depth - r0)
            more = r0 == 0 and task + 1 < last
            block(to, filters_, some, packed, sums, g, q0, f0, f1, r0, channels, more)
