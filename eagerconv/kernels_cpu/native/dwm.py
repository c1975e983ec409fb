"""Decomposed Winograd convolution: strides as phases, large filters as pieces, all of them one sum per frequency.

A stride s turns an image into s*s images of its phases, on which the filter's taps t = q + s*u are s*s filters at stride 1;
and a filter of more than r taps u = r*a + b is a sum of pieces a of r taps. Each axis has an F(m, r) of its own, F(1, 1) where
there is one tap: no transform. With m = r where there is more than one piece, every piece meets windows of the same grid of
tiles, a windows further on. So all phases q and pieces a are terms of one sum over the frequencies' products, beside the
channels:

    result[j] = sum over c, q, a, b of g[c, q, a, b] * source[c, q][j + start + r*a + b]    on each axis
    M[xi][tile] = sum over the terms (a, q, c) of U[xi][term] * V[xi][q, c][tile + a]

Forward the phases are those of the source: source[c, q][i] = x[c, i*s + q + origin]. In the gradient with respect to inputs
they are the result's: x[c, j*s + shift + p], and each phase p has its own filters and shares V with the others.

Lanes are channels, as in winograd.py: a chunk of `lanes` channels (or what is left of them) fills one vector per phase, and
channels that fill no vector share one with those of the next phases. Images of three axes are planes whose taps along z are
summed like channels: each tap has source vectors of its own, which read the plane that it sees.

    V[xi][source vector][window][lane]   U[xi][block][term][lane][width]   M[xi][block][window][width]

where a block is one or two vectors of the result. Frequencies at which a filter with missing taps is zero (the last tap
alone counts at infinity, the first at 0) are left out of the sums: the lists of terms in the table say what is needed.
"""

from __future__ import annotations

import re
from typing import Any

from eagerconv.kernels_cpu.blocks import DWM_FEW_ROWS, DWM_ROWS, SUM_ROWS
from eagerconv.kernels_cpu.cooktoom import form, transposed
from eagerconv.kernels_cpu.native.emit import emits
from eagerconv.kernels_cpu.native.loops import P, ceil_div, helper
from eagerconv.kernels_cpu.native.products import listed_product, strided_product
from eagerconv.kernels_cpu.native.simd import Vectors
from eagerconv.kernels_cpu.native.transforms import (
    add_vectors,
    clear_vectors,
    lanes_to_rows,
    rows_to_lanes,
    sandwich,
    store_pixels,
)
from eagerconv.kernels_cpu.native.vector import copy_every_second, copy_rows, offset
from eagerconv.kernels_cpu.table import DWM, DWM_IMAGES, DWM_WEIGHTS, VIEW

Pair = tuple[int, int]  # down, across


@emits
def move_vector(v: Vectors, to: Any, source: Any) -> None:
    """Copy one vector."""
    v.store(v.load(source), to)


ONE, TWO, TWO_FEW = (emits(listed_product(*block)) for block in ((DWM_ROWS, 1), (DWM_ROWS, 2), (DWM_FEW_ROWS, 2)))
SUM = emits(strided_product(SUM_ROWS, 2))


@helper
def copy_strided(to: P, to_row: int, source: P, source_row: int, stride: int, rows: int, first: int, last: int,
                 n: int) -> None:  # fmt: skip
    """to[r, j] = source[r, j*stride] if first <= j < last else 0, for r < rows, j < n."""
    if stride == 1:
        copy_rows(to, to_row, source, source_row, rows, first, last, n)
    elif stride == 2:
        copy_every_second(to, to_row, source, source_row, rows, first, last, n)
    else:
        copy_rows(to, to_row, source, source_row, rows, 0, 0, n)
        for r in range(rows):
            a, b = offset(to, r * to_row), offset(source, r * source_row)
            for j in range(max(first, 0), min(last, n)):
                a[j] = b[j * stride]


@helper
def place_taps(w: P, g: P, row: int, rows: int, work: P) -> None:
    """Taps of `rows` filters that lie `row` apart as vectors of lanes, each at its place of the square behind `work`."""
    lanes, width = g[DWM.LANES], g[DWM.KERNEL + 1]
    taps, grid = g[DWM.KERNEL] * width, offset(work, g[DWM.TAPS])
    for k in range(0, taps, lanes):
        rows_to_lanes(offset(w, k), row, rows, min(lanes, taps - k), offset(work, k * lanes), lanes)
    for k in range(taps):
        move_vector(offset(grid, place(g, k // width, k % width)), offset(work, k * lanes))


@helper
def return_taps(work: P, g: P, w: P, row: int, rows: int) -> None:
    """The reverse of `place_taps`."""
    lanes, width = g[DWM.LANES], g[DWM.KERNEL + 1]
    taps, grid = g[DWM.KERNEL] * width, offset(work, g[DWM.TAPS])
    for k in range(taps):
        move_vector(offset(work, k * lanes), offset(grid, place(g, k // width, k % width)))
    for k in range(0, taps, lanes):
        lanes_to_rows(offset(work, k * lanes), lanes, offset(w, k), row, rows, min(lanes, taps - k))


@helper
def place(g: P, ky: int, kx: int) -> Any:
    """Where filter tap (ky, kx) stands in the square of all phases and pieces."""
    y = g[DWM.FIRST] + ky * g[DWM.DIRECTION]
    x = g[DWM.FIRST + 1] + kx * g[DWM.DIRECTION + 1]
    return (y * g[DWM.WIDE] + x) * g[DWM.LANES]


def gathering(transform: Any, m: Pair, window: Pair, n: Pair) -> Any:
    """A helper that transforms windows, m apart, of one line of one vector of channels and phases."""
    mx, (high, long) = m[1], window

    @helper
    def gather(a: P, g: P, view: int, sy: int, sx: int, group: int, channels: int, vector: int, image: int, z: int, y0: int,
               x0: int, windows: int, strip: P, v: P, step: int, xi_step: int) -> None:  # fmt: skip
        """V at v + i*step + xi*xi_step. Window i begins at (y0, x0 + i*mx*sx) of plane z, its pixels are sy, sx apart."""
        lanes, height, width = g[DWM.LANES], g[view + VIEW.SIZE + 1], g[view + VIEW.SIZE + 2]
        phases = sy * sx
        chunk = vector // phases
        per_phase = min(lanes, channels - chunk * lanes)
        end = min((vector % phases + 1) * lanes, per_phase * phases)
        start = image * g[view + VIEW.N] + (group * channels + chunk * lanes) * g[view + VIEW.C]
        a = offset(a, start + z * g[view + VIEW.I])
        there = 0 <= z < g[view + VIEW.SIZE]
        across = (windows - 1) * mx + long
        row = ceil_div(across, lanes) * lanes
        rows = offset(strip, high * row * lanes)  # (lanes, row): pixels of the same row, before they are transposed
        for i in range(high):
            lane, filled = vector % phases * lanes, 0
            while lane < end:
                q, c = lane // per_phase, lane % per_phase
                run = min(per_phase - c, end - lane)
                y, x = y0 + i * sy + q // sx, x0 + q % sx
                first, last = 0, 0
                if there and 0 <= y < height:
                    first, last = ceil_div(max(-x, 0), sx), ceil_div(max(width - x, 0), sx)
                pixels = offset(a, c * g[view + VIEW.C] + y * g[view + VIEW.I + 1] + x)
                copy_strided(offset(rows, filled * row), row, pixels, g[view + VIEW.C], sx, run, first, last, across)
                lane, filled = lane + run, filled + run
            for j in range(0, across, lanes):
                to = offset(strip, (i * row + j) * lanes)
                rows_to_lanes(offset(rows, j), row, filled, min(lanes, across - j), to, lanes)
        for i in range(windows):
            transform(offset(strip, i * mx * lanes), row * lanes, lanes, offset(v, i * step), n[1] * xi_step, xi_step)

    return gather


@helper
def seen(g: P, plane: int, tap: int) -> Any:
    """(image, plane of the source in it) that a tap along z sees from a plane of the result, counted over all images."""
    image, z = plane // g[DWM.PLANES], plane % g[DWM.PLANES]
    return image, z * g[DWM.Z_STRIDE] + tap * g[DWM.Z_STEP] + g[DWM.Z_BASE]


@helper
def line_of(g: P, first: int, i: int) -> Any:
    """(plane, line of tiles in it) of line i of a block that begins at line `first`, counted over all planes."""
    pitch = g[DWM.PITCH]
    plane, line = first // pitch, first % pitch + i
    return (plane + line // pitch, line % pitch) if g[DWM.RUN_ON] else (plane, line)


def kernels(m: Pair, r: Pair) -> dict[str, Any]:
    """The four kernels of F(m, r) on each axis, forward and gradient with respect to inputs."""
    at = DWM_IMAGES
    n = (m[0] + r[0] - 1, m[1] + r[1] - 1)
    data, filter_, output = (sandwich(*pair) for pair in zip(form(m[0], r[0]), form(m[1], r[1]), strict=True))
    gather = gathering(data, m, n, n)
    (my, mx), nx, (ry, rx), frequencies = m, n[1], r, n[0] * n[1]

    @helper
    def transform_filters(w: P, g: P, group: int, row: int, tap: int, first: int, last: int, taps: P, u: P) -> None:
        """U of a chunk of result channels, from channel `row`, and of a tap's source vectors first <= vector < last."""
        lanes, pieces, width = g[at.LANES], g[at.PIECES] * g[at.PIECES + 1], g[at.WIDTH]
        phases = g[at.IN] * g[at.IN + 1]
        for chunk in range(first // phases, ceil_div(last, phases)):
            per_phase = min(lanes, g[at.CHANNELS] - chunk * lanes)
            used = per_phase * phases
            for c in range(per_phase):
                a = offset(w, group * g[at.A_GROUP] + row * g[at.A_ROW] + (chunk * lanes + c) * g[at.A_CHANNEL])
                a = offset(a, tap * g[at.W_Z])
                place_taps(a, g, g[at.A_ROW], g[at.ROWS] - row, taps)
                for lane in range(c, used, per_phase):
                    term = (chunk * phases + lane // lanes - first) * pieces
                    to = offset(u, term * g[at.TERM] + lane % lanes * width)
                    transform_pieces(taps, g, lane // per_phase, to)
            for lane in range(used, ceil_div(used, lanes) * lanes):  # these must meet zeros, not leftovers
                term = (chunk * phases + lane // lanes - first) * pieces
                for phase in range(g[at.OUT] * g[at.OUT + 1]):
                    for i in range(pieces):
                        to = offset(u, phase * g[at.U_BLOCK] + (term + i) * g[at.TERM] + lane % lanes * width)
                        for xi in range(frequencies):
                            clear_vectors(offset(to, xi * g[at.U_XI]), 1)

    @helper
    def transform_pieces(taps: P, g: P, phase: int, u: P) -> None:
        """U of all phases of the result and all pieces of one phase of the source, from the square of taps."""
        lanes, wide, ay, ax = g[at.LANES], g[at.WIDE], g[at.PIECES], g[at.PIECES + 1]
        in_x, out_y, out_x = g[at.IN + 1], g[at.OUT], g[at.OUT + 1]
        sy, sx = g[at.IN] * out_y, in_x * out_x
        for q in range(out_y * out_x):
            y, x = phase // in_x + out_y - 1 - q // out_x, phase % in_x + out_x - 1 - q % out_x
            for i in range(ay * ax):
                first = (y + i // ax * ry * sy) * wide + x + i % ax * rx * sx
                to = offset(u, q * g[at.U_BLOCK] + i * g[at.TERM])
                from_ = offset(taps, g[at.TAPS] + first * lanes)
                filter_(from_, sy * wide * lanes, sx * lanes, to, nx * g[at.U_XI], g[at.U_XI])

    @helper
    def transform_line(source: P, g: P, group: int, vector: int, first: int, i: int, tx: int, windows: int, strip: P,
                       v: P) -> None:  # fmt: skip
        """V of the windows from column tx of line i of a block, for one vector of the source."""
        plane, line = line_of(g, first, i)
        if plane < g[at.BATCH]:
            tap, vector = vector // g[at.EACH], vector % g[at.EACH]
            image, z = seen(g, plane, tap)
            sy, sx, lanes, channels = g[at.IN], g[at.IN + 1], g[at.LANES], g[at.CHANNELS]
            y0, x0 = line * my * sy + g[at.START], tx * mx * sx + g[at.START + 1]
            gather(source, g, at.SOURCE, sy, sx, group, channels, vector, image, z, y0, x0, windows, strip, v, lanes,
                   g[at.V_XI])  # fmt: skip

    @helper
    def multiply(g: P, v: P, u: P, first: int, count: int, p: P, windows: int, part: int) -> None:
        """M (+)= U V of the blocks from `first`: all frequencies, `windows` windows, the terms of one part of U."""
        lanes, width = g[at.LANES], g[at.WIDTH]
        for xi in range(frequencies):
            for block in range(count):
                entry = at.LENGTH + ((part * g[at.BLOCKS] + first + block) * frequencies + xi) * 2
                terms, b = offset(g, g[entry]), offset(u, xi * g[at.U_XI] + block * g[at.U_BLOCK])
                to = offset(p, xi * g[at.P_XI] + block * g[at.P_BLOCK])
                i = 0
                while i < windows:
                    a, c = offset(v, xi * g[at.V_XI] + i * lanes), offset(to, i * width)
                    few = windows - i <= DWM_FEW_ROWS
                    if width == lanes:
                        ONE(a, terms, g[entry + 1], b, c, part)
                    elif few:
                        TWO_FEW(a, terms, g[entry + 1], b, c, part)
                    else:
                        TWO(a, terms, g[entry + 1], b, c, part)
                    i += DWM_FEW_ROWS if few else DWM_ROWS

    @helper
    def store_line(result: P, g: P, group: int, chunk: int, first: int, i: int, tx: int, columns: int, strip: P,
                   p: P) -> None:  # fmt: skip
        """The results of `columns` tiles of line i of a block, for one chunk of channels, from the products of its phases."""
        plane, line = line_of(g, first, i)
        if line >= g[at.TILES]:
            return
        image, z = plane // g[at.PLANES], plane % g[at.PLANES]
        lanes, sy, sx = g[at.LANES], g[at.OUT], g[at.OUT + 1]
        channel, count = group * g[at.ROWS] + chunk * lanes, g[at.ROWS] - chunk * lanes
        across = columns * mx * sx
        for phase in range(sy * sx):
            to = offset(strip, (phase // sx * across + phase % sx) * lanes)
            for tile in range(columns):
                products = offset(p, phase * g[at.P_BLOCK] + tile * g[at.WIDTH])
                pixels = offset(to, tile * mx * sx * lanes)
                output(products, nx * g[at.P_XI], g[at.P_XI], pixels, sy * across * lanes, sx * lanes)
        y0, x0 = line * my * sy + g[at.SHIFT], tx * mx * sx + g[at.SHIFT + 1]
        height, width = g[at.SIZE], g[at.SIZE + 1]
        left, right = max(0, -x0), min(across, width - x0)
        for k in range(max(0, -y0), min(my * sy, height - y0)):
            row = (z * height + y0 + k) * width
            to = offset(result, image * g[at.RESULT_N] + channel * g[at.RESULT_C] + row + x0 + left)
            vectors = offset(strip, (k * across + left) * lanes)
            store_pixels(vectors, lanes, to, g[at.RESULT_C], count, right - left, lanes, g[at.NON_TEMPORAL])

    def filters(first: int, last: int, thread: int, source: P, w: P, result: P, work: P, g: P) -> None:
        """A task is one chunk of result channels of one group: all its filters, into the shared U."""
        lanes = g[at.LANES]
        chunks, halves = ceil_div(g[at.ROWS], lanes), g[at.WIDTH] // lanes
        taps = offset(work, g[at.SHARED] + thread * g[at.WORK])
        clear_vectors(taps, g[at.GRID])
        for task in range(first, last):
            group, chunk = task // chunks, task % chunks
            block = chunk // halves * g[at.OUT] * g[at.OUT + 1]
            u = offset(work, group * g[at.U_GROUP] + block * g[at.U_BLOCK] + chunk % halves * lanes)
            for tap in range(g[at.DEPTH]):
                transform_filters(w, g, group, chunk * lanes, tap, 0, g[at.EACH], taps, u)
                u = offset(u, g[at.EACH] * g[at.PIECES] * g[at.PIECES + 1] * g[at.TERM])

    def tiles(first: int, last: int, thread: int, source: P, w: P, result: P, work: P, g: P) -> None:
        """A task is a rectangle of tiles of one group: everything but the filters' transform."""
        lanes, halo, side = g[at.LANES], g[at.PIECES] - 1, g[at.PIECES + 1] - 1
        v = offset(work, g[at.SHARED] + thread * g[at.WORK])
        p = offset(v, frequencies * g[at.V_XI])
        strip = offset(p, frequencies * g[at.P_XI])
        per_group, wide = g[at.LINE_BLOCKS] * g[at.COLUMN_BLOCKS], g[at.COLUMNS] + side
        halves, phases = g[at.WIDTH] // lanes, g[at.OUT] * g[at.OUT + 1]
        for task in range(first, last):
            group, rest = task // per_group, task % per_group
            l0, tx = rest // g[at.COLUMN_BLOCKS] * g[at.LINES], rest % g[at.COLUMN_BLOCKS] * g[at.COLUMNS]
            lines = min(g[at.LINES], g[at.BATCH] * g[at.PITCH] - l0)
            columns = min(g[at.COLUMNS], g[at.TILES + 1] - tx)
            for vector in range(g[at.VECTORS]):
                for i in range(lines + halo):
                    to = offset(v, vector * g[at.V_BLOCK] + i * wide * lanes)
                    transform_line(source, g, group, vector, l0, i, tx, columns + side, strip, to)
            u = offset(work, group * g[at.U_GROUP])
            multiply(g, v, u, 0, g[at.BLOCKS], p, lines * wide - side, 0)
            for chunk in range(ceil_div(g[at.ROWS], lanes)):
                products = offset(p, chunk // halves * phases * g[at.P_BLOCK] + chunk % halves * lanes)
                for i in range(lines):
                    line = offset(products, i * wide * g[at.WIDTH])
                    store_line(result, g, group, chunk, l0, i, tx, columns, strip, line)

    def inputs(first: int, last: int, thread: int, source: P, w: P, result: P, work: P, g: P) -> None:
        """A task is one line of windows of one image and one vector of the source, into the shared V."""
        lanes, vectors, wide = g[at.LANES], g[at.VECTORS], g[at.COLUMNS] + g[at.PIECES + 1] - 1
        strip = offset(work, g[at.SHARED] + thread * g[at.WORK])
        for task in range(first, last):
            i, group, vector = task // (g[at.GROUPS] * vectors), task // vectors % g[at.GROUPS], task % vectors
            v = offset(work, group * g[at.V_GROUP] + vector * g[at.V_BLOCK] + i * wide * lanes)
            transform_line(source, g, group, vector, 0, i, 0, wide, strip, v)

    def products(first: int, last: int, thread: int, source: P, w: P, result: P, work: P, g: P) -> None:
        """A task is one or two chunks of result channels of one group: their filters, part by part, and all tiles."""
        lanes, halves, phases = g[at.LANES], g[at.WIDTH] // g[at.LANES], g[at.OUT] * g[at.OUT + 1]
        u = offset(work, g[at.SHARED] + thread * g[at.WORK])
        p = offset(u, frequencies * g[at.U_XI])
        taps = offset(p, frequencies * g[at.P_XI])
        chunks, wide = ceil_div(g[at.ROWS], lanes), g[at.COLUMNS] + g[at.PIECES + 1] - 1
        each, part = g[at.EACH], g[at.RANGE]
        per_tap = ceil_div(each, part)
        per_group = ceil_div(chunks, halves)
        lines = g[at.BATCH] * g[at.PITCH] - g[at.PIECES] + 1
        for task in range(first, last):
            group, c0 = task // per_group, task % per_group * halves
            c1 = min(c0 + halves, chunks)
            clear_vectors(taps, g[at.GRID])
            for i in range(g[at.DEPTH] * per_tap):
                tap, begin = i // per_tap, i % per_tap * part
                for c in range(c0, c1):
                    to = offset(u, (c - c0) * lanes)
                    transform_filters(w, g, group, c * lanes, tap, begin, min(begin + part, each), taps, to)
                v = offset(work, group * g[at.V_GROUP])
                multiply(g, v, u, c0 // halves * phases, phases, p, lines * wide - g[at.PIECES + 1] + 1, i)
            for c in range(c0, c1):
                for i in range(lines):
                    line = offset(p, (c - c0) * lanes + i * wide * g[at.WIDTH])
                    store_line(result, g, group, c, 0, i, 0, g[at.COLUMNS], taps, line)

    return {"filters": filters, "tiles": tiles, "inputs": inputs, "products": products}


def weight_kernels(m: Pair, r: Pair) -> dict[str, Any]:
    """The kernels of the gradient with respect to weights: the transposition of F(m, r), for every phase and piece.

    dw[q, a] = G^T [sum over tiles of (B^T d[q, tile + a] B) * (A dy[tile] A^T)] G.

        V[xi][source vector][window][lane]   Z[xi][filter block][window][2 lanes]
        U[input chunk][filter block][source vector of the chunk][piece][xi][lane][2 lanes]

    Z is as wide as V, with zeros beyond the last tile, so that a piece only moves the beginning of V. Few channels, many
    lines of tiles: a task of `parts` owns a part of the lines and does everything for a few lines at a time in the thread's
    own memory; `join` adds up the parts. Else `transforms` fills V and Z for a block of lines, then a task of `sums` owns one
    chunk of input channels and a few blocks of filters. The order of the sums never depends on the number of threads.
    """
    at = DWM_WEIGHTS
    n = (m[0] + r[0] - 1, m[1] + r[1] - 1)
    down, right = form(m[0], r[0]), form(m[1], r[1])
    gather_x = gathering(sandwich(down.data, right.data), m, n, n)
    gather_y = gathering(sandwich(transposed(down.output), transposed(right.output)), m, m, n)
    back = sandwich(transposed(down.filter), transposed(right.filter))
    my, nx, (ry, rx), frequencies = m[0], n[1], r, n[0] * n[1]

    @helper
    def transform_x(x: P, g: P, group: int, c: int, first: int, i: int, strip: P, v: P) -> None:
        """V of line i of the block that begins at line `first`, of source vector c."""
        plane, line = line_of(g, first, i)
        if plane < g[at.BATCH]:
            image, z = seen(g, plane, c // g[at.EACH])
            lanes, sy, sx = g[at.LANES], g[at.IN], g[at.IN + 1]
            wide = g[at.COLUMNS] + g[at.PIECES + 1] - 1
            y0, x0 = line * my * sy + g[at.START], g[at.START + 1]
            to = offset(v, c * g[at.V_BLOCK] + i * wide * lanes)
            c, cin = c % g[at.EACH], g[at.CIN]
            gather_x(x, g, at.X_VIEW, sy, sx, group, cin, c, image, z, y0, x0, wide, strip, to, lanes, g[at.V_XI])

    @helper
    def transform_y(y: P, g: P, group: int, f: int, first: int, i: int, strip: P, z: P) -> None:
        """Z of line i of the block that begins at line `first`, of the f-th vector of output channels."""
        plane, line = line_of(g, first, i)
        if plane < g[at.BATCH]:
            image, own = plane // g[at.PLANES], plane % g[at.PLANES]
            lanes, wide = g[at.LANES], g[at.COLUMNS] + g[at.PIECES + 1] - 1
            to, step = offset(z, f // 2 * g[at.P_BLOCK] + (i * wide * 2 + f % 2) * lanes), 2 * lanes
            gather_y(
                y, g, at.Y_VIEW, 1, 1, group, g[at.COUT], f, image, own, line * my, 0, wide, strip, to, step, g[at.P_XI]
            )

    @helper
    def add_products(v: P, z: P, g: P, chunk: int, k0: int, k1: int, lines: int, u: P, add: int) -> None:
        """U (+)= V Z^T of `lines` lines, one chunk of input channels and the blocks k0 <= k < k1 of output channels."""
        lanes, side = g[at.LANES], g[at.PIECES + 1] - 1
        windows = lines * (g[at.COLUMNS] + side) - side
        channels = g[at.CIN] - chunk % ceil_div(g[at.CIN], lanes) * lanes
        used = min(lanes, min(lanes, channels) * g[at.IN] * g[at.IN + 1])
        rows = min(SUM_ROWS, lanes)
        for xi in range(frequencies):
            entry = at.LENGTH + (chunk * frequencies + xi) * 2
            for k in range(k0, k1):
                b = offset(z, xi * g[at.P_XI] + k * g[at.P_BLOCK])
                c = offset(u, (k - k0) * g[at.U_BLOCK] + xi * g[at.U_XI])
                for e in range(g[entry], g[entry] + 2 * g[entry + 1], 2):
                    for i in range(0, used, rows):
                        a, to = offset(v, xi * g[at.V_XI] + g[e] + i), offset(c, g[e + 1] + i * 2 * lanes)
                        SUM(a, lanes, windows, b, to, add)

    @helper
    def store_filters(w: P, g: P, group: int, chunk: int, k: int, u: P, taps: P) -> None:
        """The filters of one chunk of input channels and two vectors of output channels, from their sums."""
        lanes, wide, ay, ax = g[at.LANES], g[at.WIDE], g[at.PIECES], g[at.PIECES + 1]
        sy, sx, cin, cout = g[at.IN], g[at.IN + 1], g[at.CIN], g[at.COUT]
        tap, chunk = chunk // ceil_div(cin, lanes), chunk % ceil_div(cin, lanes)
        w = offset(w, tap * g[at.KERNEL] * g[at.KERNEL + 1])
        per_phase, step = min(lanes, cin - chunk * lanes), g[at.U_XI]
        for f in range(k * 2 * lanes, min(cout, (k + 1) * 2 * lanes), lanes):
            for c in range(per_phase):
                for q in range(sy * sx):
                    lane = q * per_phase + c
                    for i in range(ay * ax):
                        from_ = offset(u, (lane // lanes * ay * ax + i) * frequencies * step)
                        from_ = offset(from_, lane % lanes * 2 * lanes + f % (2 * lanes))
                        place = (q // sx + i // ax * ry * sy) * wide + q % sx + i % ax * rx * sx
                        to = offset(taps, g[at.TAPS] + place * lanes)
                        back(from_, nx * step, step, to, sy * wide * lanes, sx * lanes)
                to = offset(w, ((group * cout + f) * cin + chunk * lanes + c) * g[at.FILTER])
                return_taps(taps, g, to, cin * g[at.FILTER], cout - f)

    def transforms(first: int, last: int, thread: int, x: P, w: P, y: P, work: P, g: P) -> None:
        """A task is one line of windows and one vector of lanes of x, or of y, of one group."""
        lines, lanes = g[at.LINES], g[at.LANES]
        x_vectors, y_vectors = g[at.VECTORS], ceil_div(g[at.COUT], lanes)
        x_tasks, y_tasks = (lines + g[at.PIECES] - 1) * x_vectors, lines * y_vectors
        strip = offset(work, g[at.SHARED] + thread * g[at.WORK])
        for task in range(first, last):
            part, rest = task // (x_tasks + y_tasks), task % (x_tasks + y_tasks)
            block, group = part // g[at.GROUPS] * lines, part % g[at.GROUPS]
            v = offset(work, group * g[at.V_GROUP])
            if rest < x_tasks:
                transform_x(x, g, group, rest % x_vectors, block, rest // x_vectors, strip, v)
            else:
                rest -= x_tasks
                transform_y(y, g, group, rest % y_vectors, block, rest // y_vectors, strip, offset(v, g[at.Z_START]))

    def sums(first: int, last: int, thread: int, x: P, w: P, y: P, work: P, g: P) -> None:
        """A task is one block of lines, one group, one chunk of input channels and a few pairs of vectors of filters."""
        lanes, few = g[at.LANES], g[at.RANGE]
        chunks, y_blocks = g[at.DEPTH] * ceil_div(g[at.CIN], lanes), ceil_div(g[at.COUT], 2 * lanes)
        ranges, total = ceil_div(y_blocks, few), g[at.BATCH] * g[at.PITCH]
        per_block, last_block = g[at.GROUPS] * chunks * ranges, (total - 1) // g[at.LINES]
        own = offset(work, g[at.SHARED] + thread * g[at.WORK])
        for task in range(first, last):
            block, owned = task // per_block, task % per_block
            group, chunk, k0 = owned // (chunks * ranges), owned // ranges % chunks, owned % ranges * few
            lines, k1 = min(g[at.LINES], total - block * g[at.LINES]), min(k0 + few, y_blocks)
            v = offset(work, group * g[at.V_GROUP])
            # With one block the sums stay with the thread, else they wait for the next block.
            u = offset(work, g[at.U_START] + owned * few * g[at.U_BLOCK])
            if last_block == 0:
                u = offset(own, g[at.GRID] * lanes)
            add_products(v, offset(v, g[at.Z_START]), g, chunk, k0, k1, lines, u, block)
            if block == last_block:
                for k in range(k0, k1):
                    store_filters(w, g, group, chunk, k, offset(u, (k - k0) * g[at.U_BLOCK]), own)

    def parts(first: int, last: int, thread: int, x: P, w: P, y: P, work: P, g: P) -> None:
        """A task is one part of the lines of one group, into the shared U."""
        lanes, total = g[at.LANES], g[at.BATCH] * g[at.PITCH]
        chunks, y_blocks = g[at.DEPTH] * ceil_div(g[at.CIN], lanes), ceil_div(g[at.COUT], 2 * lanes)
        v = offset(work, g[at.SHARED] + thread * g[at.WORK])
        z = offset(v, g[at.Z_START])
        strip = offset(v, g[at.V_GROUP])
        for task in range(first, last):
            part, group = task // g[at.GROUPS], task % g[at.GROUPS]
            begin, end = part * g[at.RANGE], min((part + 1) * g[at.RANGE], total)
            u = offset(work, task * g[at.U_GROUP])
            for first_line in range(begin, end, g[at.LINES]):
                lines = min(g[at.LINES], end - first_line)
                for i in range(lines):
                    for c in range(g[at.VECTORS]):
                        transform_x(x, g, group, c, first_line, i, strip, v)
                    for f in range(ceil_div(g[at.COUT], lanes)):
                        transform_y(y, g, group, f, first_line, i, strip, z)
                for chunk in range(chunks):
                    to = offset(u, chunk * y_blocks * g[at.U_BLOCK])
                    add_products(v, z, g, chunk, 0, y_blocks, lines, to, first_line - begin)

    def join(first: int, last: int, thread: int, x: P, w: P, y: P, work: P, g: P) -> None:
        """A task is one group, one chunk of input channels and a pair of vectors of filters: adds up their parts, in order."""
        lanes, y_blocks = g[at.LANES], ceil_div(g[at.COUT], 2 * g[at.LANES])
        chunks = g[at.DEPTH] * ceil_div(g[at.CIN], lanes)
        taps = offset(work, g[at.SHARED] + thread * g[at.WORK])
        for task in range(first, last):
            group, owned = task // (chunks * y_blocks), task % (chunks * y_blocks)
            u = offset(work, group * g[at.U_GROUP] + owned * g[at.U_BLOCK])
            for part in range(1, ceil_div(g[at.BATCH] * g[at.PITCH], g[at.RANGE])):
                add_vectors(u, offset(u, part * g[at.GROUPS] * g[at.U_GROUP]), lanes, g[at.U_BLOCK] // lanes)
            store_filters(w, g, group, owned // y_blocks, owned % y_blocks, u, taps)

    return {"transforms": transforms, "sums": sums, "parts": parts, "join": join}


def __getattr__(name: str) -> Any:
    """The kernel of that name, say `tiles_4x2_1x1`, for F(4, 2) down and no transform across."""
    found = re.fullmatch(r"(\w+?)_(\d+)x(\d+)_(\d+)x(\d+)", name)
    if not found:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    stage, my, ry, mx, rx = found[1], *map(int, found.groups()[1:])
    make = kernels if stage in ("filters", "tiles", "inputs", "products") else weight_kernels
    globals().update({f"{other}_{name.partition('_')[2]}": made for other, made in make((my, mx), (ry, rx)).items()})
    return globals()[name]
