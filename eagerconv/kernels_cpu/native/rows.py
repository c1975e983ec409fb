"""The algorithm `rows`: for depthwise layers and few channels per group, where a matrix product would have nothing to share.

Lanes are neighbouring pixels. A task copies a strip of its source images, padded, into a buffer that stays in the
second-level cache. With a stride M the source is cut into its M residue classes (*phases*) on the way, so that all
arithmetic runs at stride 1: on each axis, source pixel i = m*M + t = (m + t//M)*M + t%M lies at m + t//M of phase t%M.
The gradient with respect to inputs solves i = o*stride + k*step + origin for o, so there the phases are those of the result.

The result is summed in one of two ways.

- *Rows*: LINES result rows at a time share their loads: source row m + t meets `height` taps, each for another result row.
- *Flat* (height 1): all rows of the strip are one long signal, whose period is the padded row. Its last few results of each
  period mean nothing and are dropped. So narrow images, of 7 or 14 columns, fill the vectors as well as wide ones.

The gradient with respect to weights multiplies the same padded strips with strips of y, zeros between the rows: a block of
`height` times `columns` taps is summed in registers, lane by lane, and across lanes at the very end.
"""

from __future__ import annotations

from typing import Any

from eagerconv.kernels_cpu.blocks import HEIGHTS, LINES, VECTORS, tap_blocks
from eagerconv.kernels_cpu.native.emit import Emit, emits, returning, switch
from eagerconv.kernels_cpu.native.loops import P, ceil_div, clear, helper
from eagerconv.kernels_cpu.native.products import add_outer
from eagerconv.kernels_cpu.native.simd import I64, Loop, Vectors
from eagerconv.kernels_cpu.native.vector import (
    as_integers,
    copy_every_second,
    copy_non_temporal,
    copy_rows,
    offset,
    prefetch,
    zero,
)
from eagerconv.kernels_cpu.table import ROWS, ROWS_IMAGES, ROWS_WEIGHTS, VIEW


@returning(lambda pointer: pointer.dtype)
def lane_sum(v: Vectors, pointer: Any) -> Any:
    """Sum of one vector in memory."""
    return v.sum(v.load(pointer))


def sum_block(height: int, vectors: int) -> Emit:
    """Microkernel out[r, j] = sum over entries e, columns k, h < height of w[e][k][h] * source[e][r + h, j + columns[k]].

    `entries` holds the places of source[e] and w[e]; source rows are `pitch` elements apart. LINES rows (one, if height is 1)
    times `vectors` vectors stay in registers; the first n_rows rows and n columns of them are stored.
    """
    rows = LINES if height > 1 else 1

    def block(v: Vectors, out: Any, out_row: Any, n_rows: Any, n: Any, source: Any, pitch: Any, w: Any,
              entries: Any, n_entries: Any, columns: Any, n_columns: Any) -> None:  # fmt: skip
        b = v.builder
        with Loop(b, n_entries, [v.zeros] * (rows * vectors)) as entry:
            place = v.at(entries, b.mul(entry.index, I64(2)))
            image, filters = v.at(source, b.load(place)), v.at(w, b.load(v.at(place, 1)))
            with Loop(b, n_columns, [filters, *entry.values]) as column:
                taps, *sums = column.values
                line = v.at(image, b.load(v.at(columns, b.mul(column.index, I64(2)))))
                factors = [v.broadcast(v.at(taps, h)) for h in range(height)]
                for t in range(rows + height - 1):
                    pixels = [v.load(v.at(line, q * v.lanes)) for q in range(vectors)]
                    first, last = max(0, t - height + 1), min(rows, t + 1)  # the result rows that this one meets
                    met = slice(first * vectors, last * vectors)
                    sums[met] = add_outer(v, sums[met], [factors[t - r] for r in range(first, last)], pixels)
                    line = v.at(line, pitch)
                column.next = [v.at(taps, height), *sums]
            entry.next = column.results[1:]
        for r in range(rows):
            with b.if_then(b.icmp_signed("<", I64(r), n_rows)):
                line = v.at(out, b.mul(out_row, I64(r)))
                for q in range(vectors):
                    limit = b.sub(n, I64(q * v.lanes))
                    v.store_below([(entry.results[r * vectors + q], v.at(line, q * v.lanes))], limit)

    return block


def dot_block(height: int, columns: int) -> Any:
    """Microkernel sums[h, k] += sum over rows t and vectors of y[t - h] * x[t, offsets[k]:], a vector of sums each."""

    def block(v: Vectors, sums: Any, y: Any, x: Any, row: Any, offsets: Any, n_rows: Any, n_vectors: Any) -> None:
        b = v.builder
        places = [v.at(sums, (h * columns + k) * v.lanes) for k in range(columns) for h in range(height)]
        starts = [b.load(v.at(offsets, k)) for k in range(columns)]
        with Loop(b, n_rows, [x, y, *map(v.load, places)]) as line:
            with Loop(b, n_vectors, list(line.values)) as piece:
                x_at, y_at, *new = piece.values
                above = [v.load(v.at(y_at, b.mul(row, I64(-h)))) for h in range(height)]
                new = add_outer(v, new, (v.load(v.at(x_at, start)) for start in starts), above)
                piece.next = [v.at(x_at, v.lanes), v.at(y_at, v.lanes), *new]
            x_at, y_at = (v.at(pointer, row) for pointer in line.values[:2])
            line.next = [x_at, y_at, *piece.results[2:]]
        for place, total in zip(places, line.results[2:], strict=True):
            v.store(total, place)

    return emits(block)


@helper
def divided(a: int, b: int) -> int:
    """The quotient, or -1 where it is not whole."""
    if b == 1:
        return a
    return a // b if a % b == 0 else -1


@helper
def depth(jz: int, kz: int, g: P) -> int:
    """Which source slab result slab jz meets under tap kz, or -1: i*divide = jz*multiply + kz*step + origin."""
    iz = divided(jz * g[ROWS.Z] + kz * g[ROWS.Z + 1] + g[ROWS.Z + 2], g[ROWS.Z + 3])
    return iz if iz < g[ROWS.SOURCE + VIEW.SIZE] else -1


@helper
def copy_stepped(to: P, to_row: int, source: P, source_row: int, step: int, rows: int, first: int, last: int,
                 n: int) -> None:  # fmt: skip
    """to[r, j] = source[r, j*step] if first <= j < last else 0, for r < rows, j < n."""
    if step == 1:
        copy_rows(to, to_row, source, source_row, rows, first, last, n)
    elif step == 2:
        copy_every_second(to, to_row, source, source_row, rows, first, last, n)
    else:
        for r in range(rows):
            clear(offset(to, r * to_row), n)
            for j in range(first, last):
                to[r * to_row + j] = source[r * source_row + j * step]


@helper
def fill(to: P, source: P, y0: int, x0: int, g: P) -> None:
    """One padded slab: to[phase, y - y0, x - x0] = source[y*M + phase_y, x*M + phase_x], zero outside the image."""
    my, mx = g[ROWS.SOURCE + VIEW.STRIDE + 1], g[ROWS.SOURCE + VIEW.STRIDE + 2]
    row, pitch, rows = g[ROWS.SOURCE + VIEW.I + 1], g[ROWS.PITCH], g[ROWS.FILL]
    for px in range(mx):
        x_last = min(pitch, ceil_div(g[ROWS.SOURCE + VIEW.SIZE + 2] - px, mx) - x0)
        x_first = max(0, -x0)
        for py in range(my):
            y_last = max(0, min(rows, ceil_div(g[ROWS.SOURCE + VIEW.SIZE + 1] - py, my) - y0))
            y_first = min(max(0, -y0), y_last)
            pixels = offset(source, ((y0 + y_first) * my + py) * row + x0 * mx + px)
            clear(to, y_first * pitch)
            if x_first < x_last:
                copy_stepped(offset(to, y_first * pitch), pitch, pixels, my * row, mx, y_last - y_first, x_first, x_last,
                             pitch)  # fmt: skip
            else:
                clear(offset(to, y_first * pitch), (y_last - y_first) * pitch)
            clear(offset(to, y_last * pitch), (rows - y_last) * pitch)
            to = offset(to, g[ROWS.PLANE])


@helper
def pack(to: P, w: P, chunks: P, n_chunks: int, columns: P, n_columns: int, height: int, g: P) -> None:
    """to[r, kz, chunk, column, h]: the filters of one result channel in the order in which sum_block reads them."""
    place = 0
    for r in range(g[ROWS.CHANNELS]):
        for kz in range(g[ROWS.DEPTH]):
            for c in range(n_chunks):
                taps = offset(w, r * g[ROWS.A_CHANNEL] + kz * g[ROWS.TAP] + chunks[5 * c + 2] * g[ROWS.TAP + 1])
                step, skipped = chunks[5 * c + 3] * g[ROWS.TAP + 1], chunks[5 * c + 4]
                for k in range(n_columns):
                    column = columns[2 * k + 1] * g[ROWS.TAP + 2]
                    for h in range(height):
                        to[place] = taps[column + h * step] if h >= skipped else zero(w)
                        place += 1


@helper
def list_entries(entries: P, jz: int, y: int, reach: int, chunks: P, n_chunks: int, stride: int, g: P) -> int:
    """The entries of sum_block, and how many: those chunks whose rows, `reach` from y on, meet the image."""
    count, weights = 0, 0
    for r in range(g[ROWS.CHANNELS]):
        for kz in range(g[ROWS.DEPTH]):
            here = depth(jz, kz, g) >= 0
            for c in range(n_chunks):
                top = y + chunks[5 * c + 1]
                if here and top + reach > 0 and top < g[ROWS.SOURCE + VIEW.SIZE + 1]:
                    entries[2 * count] = (r * g[ROWS.DEPTH] + kz) * g[ROWS.SLAB] + chunks[5 * c]
                    entries[2 * count + 1] = weights
                    count += 1
                weights += stride
    return count


@helper
def interleave(to: P, to_row: int, source: P, phase: int, phases: int, rows: int, n: int, pitch: int) -> None:
    """to[r, j] = source[j % phases][r, j // phases] for j < n."""
    for r in range(rows):
        for px in range(phases):
            for j in range(px, n, phases):
                to[r * to_row + j] = source[px * phase + r * pitch + j // phases]


@helper
def strip(task: int, g: P) -> tuple[int, int, int, int, int]:
    """Image, group, slab of the result and first row and column of a task's strip."""
    sx, rest = task % g[ROWS.STRIPS_X], task // g[ROWS.STRIPS_X]
    sy, rest = rest % g[ROWS.STRIPS_Y], rest // g[ROWS.STRIPS_Y]
    jz, rest = rest % g[ROWS.GRID], rest // g[ROWS.GRID]
    return rest // g[ROWS.GROUPS], rest % g[ROWS.GROUPS], jz, sy * g[ROWS.STRIP_Y], sx * g[ROWS.STRIP_X]


@helper
def pixels_of(source: P, task: int, g: P) -> P:
    """Where the source of a task's strip begins, its first channel; of two axes at stride 1."""
    n, group, _, y0, x0 = strip(task, g)
    place = n * g[ROWS.SOURCE + VIEW.N] + group * g[ROWS.CHANNELS] * g[ROWS.SOURCE + VIEW.C]
    return offset(source, place + y0 * g[ROWS.SOURCE + VIEW.I + 1] + x0)


def images(height: int) -> Any:
    """The forward pass or the gradient with respect to inputs: a task is a strip of all result channels of one group."""
    at = ROWS_IMAGES
    block = emits(switch({q: sum_block(height, q) for q in range(VECTORS, 0, -1)}))
    rows_at_once = LINES if height > 1 else 1

    @helper
    def line_of_blocks(out: P, out_row: int, n_rows: int, n: int, source: P, w: P, entries: P, n_entries: int,
                       columns: P, n_columns: int, g: P) -> None:  # fmt: skip
        pitch, lanes = g[at.PITCH], g[at.LANES]
        x = 0
        while x < n:
            q = min(VECTORS, ceil_div(n - x, lanes))
            block(q, offset(out, x), out_row, n_rows, n - x, offset(source, x), pitch, w, entries, n_entries, columns,
                  n_columns)  # fmt: skip
            x += q * lanes

    def kernel(first: int, last: int, thread: int, source: P, w: P, result: P, work: P, g: P) -> None:
        slabs = offset(work, thread * g[at.WORK])
        packed, flat = offset(slabs, g[at.SECOND_AT]), offset(slabs, g[at.THIRD_AT])
        entries = as_integers(offset(slabs, g[at.FOURTH_AT]))
        pitch, phases_y, phases_x = g[at.PITCH], g[at.PHASES + 1], g[at.PHASES + 2]
        phase = g[at.STRIP_Y] * pitch
        for task in range(first, last):
            n, group, jz, y0, x0 = strip(task, g)
            rest = n * g[at.GROUPS] + group
            ahead = pixels_of(source, min(task + 1, last - 1), g)
            for r in range(g[at.CHANNELS]):
                for kz in range(g[at.DEPTH]):
                    iz = depth(jz, kz, g)
                    if iz >= 0:
                        channel = (group * g[at.CHANNELS] + r) * g[at.SOURCE + VIEW.C] + iz * g[at.SOURCE + VIEW.I]
                        fill(offset(slabs, (r * g[at.DEPTH] + kz) * g[at.SLAB]),
                             offset(source, n * g[at.SOURCE + VIEW.N] + channel),
                             y0 + g[at.LOW_Y], x0 + g[at.LOW_X], g)  # fmt: skip
            for m in range(g[at.ROWS]):
                a = offset(w, group * g[at.A_GROUP] + m * g[at.A_ROW])
                out = offset(result, (rest * g[at.ROWS] + m) * g[at.GRID] * g[at.GRID + 1] * g[at.GRID + 2])
                out = offset(out, jz * g[at.GRID + 1] * g[at.GRID + 2])
                for py in range(phases_y):
                    n_rows = min(g[at.STRIP_Y], ceil_div(g[at.GRID + 1] - py, phases_y) - y0)
                    if n_rows <= 0:
                        continue
                    chunks, n_chunks = offset(g, g[g[at.CHUNKS] + 2 * py]), g[g[at.CHUNKS] + 2 * py + 1]
                    to = offset(out, (y0 * phases_y + py) * g[at.GRID + 2] + x0 * phases_x)
                    to_row = phases_y * g[at.GRID + 2]
                    # Rows of whole strips are neighbours: together they can go past the caches.
                    non_temporal = (
                        g[at.NON_TEMPORAL] and height > 1 and phases_y == 1 and phases_x == 1 and g[at.STRIPS_X] == 1
                    )
                    direct = phases_x == 1 and (height > 1 or n_rows == 1) and not non_temporal
                    for px in range(phases_x):
                        n_columns = min(g[at.STRIP_X], ceil_div(g[at.GRID + 2] - px, phases_x) - x0)
                        if n_columns <= 0:
                            continue
                        columns, n_taps = offset(g, g[g[at.COLUMNS] + 2 * px]), g[g[at.COLUMNS] + 2 * px + 1]
                        pack(packed, a, chunks, n_chunks, columns, n_taps, height, g)
                        sums = to if direct else offset(flat, px * phase)
                        if height > 1:
                            row = to_row if direct or non_temporal else pitch
                            for y in range(0, n_rows, rows_at_once):
                                count = list_entries(entries, jz, y0 + y, rows_at_once + height - 1, chunks, n_chunks,
                                                     n_taps * height, g)  # fmt: skip
                                for r in range(m, g[at.CHANNELS], g[at.ROWS]):
                                    lines = offset(ahead, r * g[at.SOURCE + VIEW.C] + y * g[at.SOURCE + VIEW.I + 1])
                                    prefetch(lines, rows_at_once * g[at.SOURCE + VIEW.I + 1])
                                line_of_blocks(offset(sums, y * row), row, n_rows - y, n_columns, offset(slabs, y * pitch),
                                               packed, entries, count, columns, n_taps, g)  # fmt: skip
                        else:
                            count = list_entries(entries, jz, y0, n_rows, chunks, n_chunks, n_taps, g)
                            line_of_blocks(sums, 0, 1, (n_rows - 1) * pitch + n_columns, slabs, packed, entries, count,
                                           columns, n_taps, g)  # fmt: skip
                    n_columns = min(g[at.STRIP_X] * phases_x, g[at.GRID + 2] - x0 * phases_x)
                    if phases_x > 1:
                        interleave(to, to_row, flat, phase, phases_x, n_rows, n_columns, pitch)
                    elif non_temporal:
                        copy_non_temporal(to, flat, n_rows * n_columns)
                    elif not direct:
                        copy_rows(to, to_row, flat, pitch, n_rows, 0, n_columns, n_columns)

    return kernel


def weights(height: int, columns: int) -> Any:
    """The gradient with respect to weights: a task is some filters of one group, with all their input channels."""
    at, block = ROWS_WEIGHTS, dot_block(height, columns)

    def kernel(first: int, last: int, thread: int, x: P, w: P, y: P, work: P, g: P) -> None:
        slab = offset(work, thread * g[at.WORK])
        ys, sums = offset(slab, g[at.SECOND_AT]), offset(slab, g[at.THIRD_AT])
        pitch, lanes, tiles = g[at.PITCH], g[at.LANES], g[at.TILES]
        size_y = g[at.SOURCE + VIEW.SIZE + 1]
        tile_sums = height * columns * lanes
        pair_sums = g[at.DEPTH] * tiles * tile_sums
        y_slab, above = g[at.Y_SLAB], (height - 1) * pitch  # zero rows around a strip of y
        per_group = ceil_div(g[at.ROWS], g[at.BLOCK])
        clear(offset(slab, g[at.SLAB]), g[at.SECOND_AT] - g[at.SLAB])  # lanes behind the end meet zeros of y
        for task in range(first, last):
            group, f0 = task // per_group, task % per_group * g[at.BLOCK]
            filters = min(g[at.BLOCK], g[at.ROWS] - f0)
            clear(sums, filters * g[at.CHANNELS] * pair_sums)
            for step in range(g[at.BATCH] * g[at.GRID] * g[at.STRIPS_Y] * g[at.STRIPS_X]):
                sx, rest = step % g[at.STRIPS_X], step // g[at.STRIPS_X]
                sy, rest = rest % g[at.STRIPS_Y], rest // g[at.STRIPS_Y]
                oz, n = rest % g[at.GRID], rest // g[at.GRID]
                y0, x0 = sy * g[at.STRIP_Y], sx * g[at.STRIP_X]
                n_rows = min(g[at.STRIP_Y], g[at.GRID + 1] - y0)
                n_columns = min(g[at.STRIP_X], g[at.GRID + 2] - x0)
                for f in range(filters):
                    from_ = n * g[at.Y_N] + (group * g[at.ROWS] + f0 + f) * g[at.Y_F] + oz * g[at.Y_O]
                    from_ += y0 * g[at.Y_O + 1] + x0
                    to = offset(ys, f * y_slab)
                    clear(to, above)
                    copy_rows(offset(to, above), pitch, offset(y, from_), g[at.Y_O + 1], n_rows, 0, n_columns, pitch)
                    clear(offset(to, above + n_rows * pitch), y_slab - above - n_rows * pitch)
                n_vectors = ceil_div(n_columns if height > 1 else (n_rows - 1) * pitch + n_columns, lanes)
                for c in range(g[at.CHANNELS]):
                    for kz in range(g[at.DEPTH]):
                        iz = depth(oz, kz, g)
                        if iz < 0:
                            continue
                        channel = (group * g[at.CHANNELS] + c) * g[at.SOURCE + VIEW.C] + iz * g[at.SOURCE + VIEW.I]
                        image = offset(x, n * g[at.SOURCE + VIEW.N] + channel)
                        fill(slab, image, y0 + g[at.LOW_Y], x0 + g[at.LOW_X], g)
                        for f in range(filters):
                            here = offset(sums, (f * g[at.CHANNELS] + c) * pair_sums + kz * tiles * tile_sums)
                            for tile in range(tiles):
                                entry = offset(g, g[at.COLUMNS] + tile * (2 + columns))
                                t0, t1 = 0, 1
                                if height > 1:  # rows of x outside the image are left out
                                    t0 = max(0, -(y0 + entry[1]))
                                    t1 = min(n_rows + height - 1, size_y - y0 - entry[1])
                                y_at = offset(ys, f * y_slab + above + t0 * pitch)
                                x_at = offset(slab, entry[0] + t0 * pitch)
                                tile_at = offset(here, tile * tile_sums)
                                block(tile_at, y_at, x_at, pitch, offset(entry, 2), t1 - t0, n_vectors)
            for f in range(filters):
                for c in range(g[at.CHANNELS]):
                    for kz in range(g[at.DEPTH]):
                        here = offset(sums, (f * g[at.CHANNELS] + c) * pair_sums + kz * tiles * tile_sums)
                        to = (group * g[at.ROWS] + f0 + f) * g[at.A_ROW] + c * g[at.A_CHANNEL] + kz * g[at.TAP]
                        for k in range(g[at.KERNEL + 1] * g[at.KERNEL + 2]):
                            w[to + k] = lane_sum(offset(here, g[g[at.PLACES] + k] * lanes))

    return kernel


# One native kernel for each shape of block, compiled when a layer first needs it.
globals().update({f"images_{height}": images(height) for height in HEIGHTS})
globals().update({f"weights_{height}_{columns}": weights(height, columns) for height, columns in tap_blocks()})
