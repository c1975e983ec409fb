"""Winograd convolution at stride 1: tiles of my*mx outputs with ny*nx products per pair of channels, n = m + r - 1.

Inputs and filters are transformed, V = B^T d B and U = G g G^T, multiplied per frequency xi over the channels, M = U V, and
transformed back, y = A^T M A. Lanes are channels everywhere in between:

    V[xi][channel vector][tile][lane]    U[xi][result block][channel][2 lanes]    M[xi][result block][tile][2 lanes]

The forward pass and the gradient with respect to inputs are the same computation with source and result exchanged:

    result[m, j] = sum over r, k of A[m, r, k] * source[r, j + base + k*apart]        k = 0 .. r - 1 on each axis

where the taps are counted from the least offset (`base`), so filters may have to be read backwards. An axis with one tap has
m = n = 1 and no transform. Taps that lie `apart` see as many interleaved signals, and each has tiles of its own: pixels are
loaded and stored as they lie, and transforms step over them. Images of three axes are planes whose taps along z are summed
like channels: a vector of channels is one of depth * ceil(channels / lanes), each reading a plane of its own. Where all taps
lie along z, the planes are the rows of one image.

Large images and few channels: `filters` fills all of U, then each task of `tiles` does everything for a block of tiles in
the thread's own memory. Small images and many channels, where U would be large: `inputs` fills all of V, then each task of
`products` transforms the filters of two vectors of result channels, a few channels at a time, and meets all tiles.

The kernels of a form are made when they are asked for, by name: `tiles_4x3_4x3` is for F(4, 3) down and across.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from eagerconv.kernels_cpu.blocks import SUM_ROWS, WINOGRAD_ROWS
from eagerconv.kernels_cpu.cooktoom import form, transposed
from eagerconv.kernels_cpu.native.emit import emits, switch
from eagerconv.kernels_cpu.native.loops import P, ceil_div, helper
from eagerconv.kernels_cpu.native.products import blocked_product, strided_product
from eagerconv.kernels_cpu.native.transforms import (
    add_vectors,
    clear_vectors,
    lanes_to_rows,
    rows_to_lanes,
    sandwich,
    store_pixels,
)
from eagerconv.kernels_cpu.native.vector import offset, prefetch
from eagerconv.kernels_cpu.table import VIEW, WINOGRAD, WINOGRAD_IMAGES, WINOGRAD_WEIGHTS

Pair = tuple[int, int]  # down, across

BLOCK = emits(switch({rows: blocked_product(rows, 2) for rows in WINOGRAD_ROWS}))
SUM = emits(strided_product(SUM_ROWS, 2))


@helper
def load_pixels(pixels: P, channel: int, pixel: int, count: int, columns: int, to: P, lanes: int) -> None:
    """to[j*lanes + i] = channel i < count of pixel j < columns (at most `lanes` each), zeros in other lanes."""
    if pixel == 1:
        rows_to_lanes(pixels, channel, count, columns, to, lanes)
        return
    clear_vectors(to, columns)
    for j in range(columns):
        for i in range(min(count, lanes)):
            to[j * lanes + i] = pixels[i * channel + j * pixel]


@helper
def load_run(a: P, channel: int, pixel: int, count: int, x0: int, length: int, width: int, to: P, lanes: int) -> None:
    """Pixels x0 <= x < x0 + length of the row `a` of `width` pixels as vectors, with zeros outside of it."""
    left = min(max(-x0, 0), length)
    right = max(left, min(width - x0, length))
    clear_vectors(to, left)
    for j in range(left, right, lanes):
        some, columns = offset(a, (x0 + j) * pixel), min(lanes, right - j)
        load_pixels(some, channel, pixel, count, columns, offset(to, j * lanes), lanes)
    clear_vectors(offset(to, right * lanes), length - right)


class Tiling(NamedTuple):
    """Helpers that know in which order the tiles of m outputs come."""

    total: Any  # of all images
    across: Any  # of one line of tiles
    run: Any


def tiling(m: Pair) -> Tiling:
    """The order of tiles: images, planes, lines, and in a line groups of as many tiles as taps lie apart.

    Taps d apart see d interleaved signals. Group X holds one tile of each: tile p the outputs X*m*d + j*d + p, j < m. Lines
    Y*d + q likewise. So with d = 1 tiles come as they lie.
    """
    my, mx = m

    @helper
    def down(g: P) -> Any:
        return ceil_div(g[WINOGRAD.GRID_Y], my * g[WINOGRAD.APART_Y]) * g[WINOGRAD.APART_Y]

    @helper
    def across(g: P) -> Any:
        return ceil_div(g[WINOGRAD.GRID_X], mx * g[WINOGRAD.APART_X]) * g[WINOGRAD.APART_X]

    @helper
    def total(g: P) -> Any:
        return g[WINOGRAD.BATCH] * g[WINOGRAD.GRID_Z] * down(g) * across(g)

    @helper
    def run(g: P, t: int, last: int) -> tuple[int, int, int, int, int, int]:
        """Of the tiles from t on that one strip serves: image, plane, first output (y, x), whole groups, phases of each.

        A run is some whole groups of a line, or some phases of one of them.
        """
        dy, dx = g[WINOGRAD.APART_Y], g[WINOGRAD.APART_X]
        line, tx = t // across(g), t % across(g)
        plane, line = line // down(g), line % down(g)
        left, phase = min(across(g) - tx, last - t), tx % dx
        groups, phases = left // dx, dx
        if phase > 0 or groups == 0:
            groups, phases = 1, min(dx - phase, left)
        y, x = line // dy * my * dy + line % dy, tx // dx * mx * dx + phase
        return plane // g[WINOGRAD.GRID_Z], plane % g[WINOGRAD.GRID_Z], y, x, groups, phases

    return Tiling(total, across, run)


def gathering(transform: Any, step: Pair, window: Pair, n: Pair) -> Any:
    """A helper that transforms windows of pixels, `step` apart, of one run of tiles and one vector of channels.

    The strip holds, for each row, the pixels of `phases` neighbouring phases: pixel j of phase p at j*phases + p.
    """
    m, (high, wide) = step[1], window

    @helper
    def gather(a: P, g: P, view: int, image: int, z: int, channel: int, count: int, y0: int, x0: int, groups: int,
               phases: int, strip: P, v: P, tile_step: int, xi_step: int) -> None:  # fmt: skip
        """V at v + tile*tile_step + xi*xi_step, of windows from (z, y0, x0 + X*m*d + p); zeros outside the image."""
        lanes, height, width = g[WINOGRAD.LANES], g[view + VIEW.SIZE + 1], g[view + VIEW.SIZE + 2]
        dy, dx = g[WINOGRAD.APART_Y], g[WINOGRAD.APART_X]
        row_step, pixel_step, channel_step = g[view + VIEW.I + 1], g[view + VIEW.I + 2], g[view + VIEW.C]
        a = offset(a, image * g[view + VIEW.N] + channel * channel_step + z * g[view + VIEW.I])
        long = (groups - 1) * m + wide  # pixels of one phase
        pieces, length = (1, long * phases) if phases == dx else (long, phases)  # all phases are neighbours
        for i in range(high):
            y, row = y0 + i * dy, offset(strip, i * long * phases * lanes)
            if y < 0 or y >= height or z < 0 or z >= g[view + VIEW.SIZE]:
                clear_vectors(row, long * phases)
            else:
                line = offset(a, y * row_step)
                for k in range(pieces):
                    to = offset(row, k * length * lanes)
                    load_run(line, channel_step, pixel_step, count, x0 + k * dx, length, width, to, lanes)
        for tile in range(groups * phases):
            d, to = offset(strip, (tile // phases * m * phases + tile % phases) * lanes), offset(v, tile * tile_step)
            transform(d, long * phases * lanes, phases * lanes, to, n[1] * xi_step, xi_step)

    return gather


def kernels(m: Pair, r: Pair) -> dict[str, Any]:
    """The four kernels of F(m, r) on each axis, forward and gradient with respect to inputs."""
    at = WINOGRAD_IMAGES
    n = (m[0] + r[0] - 1, m[1] + r[1] - 1)
    data, filter_, output = (sandwich(*pair) for pair in zip(form(m[0], r[0]), form(m[1], r[1]), strict=True))
    gather, (total_of, across_of, run_of) = gathering(data, m, n, n), tiling(m)
    (my, mx), (ny, nx), (ry, rx) = m, n, r
    frequencies, n_taps = ny * nx, ry * rx

    @helper
    def load_taps(w: P, g: P, rows: int, count: int, taps: P) -> None:
        """The taps of `count` channels as vectors of at most `rows` result channels, those of a filter one after the other.

        A transpose writes whole squares, so there must be room for a square behind the last.
        """
        lanes, channel = g[at.LANES], g[at.A_CHANNEL]
        if g[at.W_X] == 1 and g[at.W_Y] == rx:
            # Taps of neighbouring filters may be neighbours: then they are transposed together.
            runs, length = (1, count * n_taps) if channel == n_taps else (count, n_taps)
            for i in range(runs):
                a, to = offset(w, i * channel), offset(taps, i * n_taps * lanes)
                for k in range(0, length, lanes):
                    rows_to_lanes(offset(a, k), g[at.A_ROW], rows, min(lanes, length - k), offset(to, k * lanes), lanes)
            return
        clear_vectors(taps, count * n_taps)
        for i in range(count):
            for k in range(n_taps):
                for row in range(min(rows, lanes)):
                    place = row * g[at.A_ROW] + i * channel + k // rx * g[at.W_Y] + k % rx * g[at.W_X]
                    taps[(i * n_taps + k) * lanes + row] = w[place]

    @helper
    def transform_filters(w: P, g: P, group: int, m0: int, c: int, taps: P, u: P) -> None:
        """U of one vector of result channels, from m0, and of the channels of vector c: u + channel*2*lanes."""
        lanes = g[at.LANES]
        vectors = ceil_div(g[at.CHANNELS], lanes)
        begin, step = ((n_taps - 1) * lanes, -lanes) if g[at.BACKWARDS] else (0, lanes)
        channel, rows = c % vectors * lanes, g[at.ROWS] - m0
        count = min(lanes, g[at.CHANNELS] - channel)
        a = offset(w, group * g[at.A_GROUP] + m0 * g[at.A_ROW] + channel * g[at.A_CHANNEL] + c // vectors * g[at.W_Z])
        if g[at.A_CHANNEL] > g[at.A_ROW] and channel + lanes < g[at.CHANNELS]:
            for i in range(lanes, lanes + count):  # no processor guesses steps of many pages
                prefetch(offset(a, i * g[at.A_CHANNEL]), n_taps * min(lanes, rows))
        load_taps(a, g, rows, count, taps)
        for i in range(count):
            from_, to = offset(taps, n_taps * i * lanes + begin), offset(u, i * 2 * lanes)
            filter_(from_, rx * step, step, to, nx * g[at.U_XI], g[at.U_XI])
        for i in range(count, lanes):  # lanes without a channel must meet zeros, not leftovers
            for xi in range(frequencies):
                clear_vectors(offset(u, i * 2 * lanes + xi * g[at.U_XI]), 1)

    @helper
    def transform_tiles(source: P, g: P, group: int, c: int, first: int, last: int, strip: P, v: P) -> None:
        """V of the tiles first <= t < last, counted over all images, for the channels of vector c: v + (t - first)*lanes."""
        lanes = g[at.LANES]
        vectors = ceil_div(g[at.CHANNELS], lanes)
        tap_z, within = c // vectors, c % vectors * lanes
        channel, count = group * g[at.CHANNELS] + within, g[at.CHANNELS] - within
        t = first
        while t < last:
            image, z, y, x, groups, phases = run_of(g, t, last)
            z += tap_z * g[at.STEP_Z] + g[at.BASE_Z]
            y0, x0, to = y + g[at.BASE_Y], x + g[at.BASE_X], offset(v, (t - first) * lanes)
            gather(source, g, at.SOURCE, image, z, channel, count, y0, x0, groups, phases, strip, to, lanes, g[at.V_XI])
            t += groups * phases

    @helper
    def store_tiles(result: P, g: P, group: int, c: int, first: int, last: int, strip: P, p: P) -> None:
        """The outputs of the tiles first <= t < last for the result channels of vector c, from p + (t - first)*2*lanes."""
        lanes, dy, dx = g[at.LANES], g[at.APART_Y], g[at.APART_X]
        channel, count = group * g[at.ROWS] + c * lanes, g[at.ROWS] - c * lanes
        t = first
        while t < last:
            image, z, y, x, groups, phases = run_of(g, t, last)
            width = groups * mx * phases * lanes
            for tile in range(groups * phases):
                products = offset(p, (t - first + tile) * 2 * lanes)
                to = offset(strip, (tile // phases * mx * phases + tile % phases) * lanes)
                output(products, nx * g[at.P_XI], g[at.P_XI], to, width, phases * lanes)
            pieces, length = (1, groups * mx * phases) if phases == dx else (mx, phases)
            to = offset(result, image * g[at.RESULT_N] + channel * g[at.RESULT_C] + z * g[at.GRID_Y] * g[at.GRID_X])
            for i in range(min(my, ceil_div(g[at.GRID_Y] - y, dy))):
                for k in range(pieces):
                    x0, vectors = x + k * dx, offset(strip, i * width + k * length * lanes)
                    pixels = offset(to, (y + i * dy) * g[at.GRID_X] + x0)
                    n_pixels = min(length, g[at.GRID_X] - x0)
                    store_pixels(vectors, lanes, pixels, g[at.RESULT_C], count, n_pixels, lanes, g[at.NON_TEMPORAL])
            t += groups * phases

    @helper
    def multiply(g: P, v: P, vectors: int, u: P, p: P, tiles: int, add: int) -> None:
        """M (+)= U V for one result block: all frequencies, `tiles` tiles, `vectors` vectors of channels."""
        lanes, rows = g[at.LANES], g[at.ROW_BLOCK]
        for xi in range(frequencies):
            a, b, c = offset(v, xi * g[at.V_XI]), offset(u, xi * g[at.U_XI]), offset(p, xi * g[at.P_XI])
            if xi + 1 < frequencies:
                prefetch(offset(a, g[at.V_XI]), vectors * g[at.V_BLOCK])
            for i in range(0, tiles, rows):
                BLOCK(rows, offset(a, i * lanes), g[at.V_BLOCK], vectors, b, offset(c, i * 2 * lanes), add)

    def filters(first: int, last: int, thread: int, source: P, w: P, result: P, work: P, g: P) -> None:
        """A task is one vector of result channels of one group: all its filters, into the shared U."""
        lanes = g[at.LANES]
        vectors, in_vectors = ceil_div(g[at.ROWS], lanes), g[at.DEPTH] * ceil_div(g[at.CHANNELS], lanes)
        taps = offset(work, g[at.SHARED] + thread * g[at.WORK])
        for task in range(first, last):
            group, c = task // vectors, task % vectors
            u = offset(work, group * g[at.U_GROUP] + c // 2 * g[at.U_BLOCK] + c % 2 * lanes)
            for r in range(in_vectors):
                transform_filters(w, g, group, c * lanes, r, taps, offset(u, r * lanes * 2 * lanes))

    def tiles(first: int, last: int, thread: int, source: P, w: P, result: P, work: P, g: P) -> None:
        """A task is a block of tiles of one group: everything but the filters' transform."""
        lanes, block = g[at.LANES], g[at.TILES]
        v = offset(work, g[at.SHARED] + thread * g[at.WORK])
        p = offset(v, frequencies * g[at.V_XI])
        strip = offset(p, frequencies * g[at.P_XI])
        total = total_of(g)
        blocks = ceil_div(total, block)
        in_vectors, out_vectors = g[at.DEPTH] * ceil_div(g[at.CHANNELS], lanes), ceil_div(g[at.ROWS], lanes)
        for task in range(first, last):
            group, t0 = task // blocks, task % blocks * block
            t1 = min(t0 + block, total)
            for c in range(in_vectors):
                transform_tiles(source, g, group, c, t0, t1, strip, offset(v, c * g[at.V_BLOCK]))
            for k in range(ceil_div(out_vectors, 2)):
                u = offset(work, group * g[at.U_GROUP] + k * g[at.U_BLOCK])
                multiply(g, v, in_vectors, u, offset(p, k * g[at.P_BLOCK]), t1 - t0, 0)
            for c in range(out_vectors):
                products = offset(p, c // 2 * g[at.P_BLOCK] + c % 2 * lanes)
                store_tiles(result, g, group, c, t0, t1, strip, products)

    def inputs(first: int, last: int, thread: int, source: P, w: P, result: P, work: P, g: P) -> None:
        """A task is one group, one vector of channels and one row of tiles of one image, into the shared V."""
        lanes, across = g[at.LANES], across_of(g)
        strip = offset(work, g[at.SHARED] + thread * g[at.WORK])
        vectors = g[at.DEPTH] * ceil_div(g[at.CHANNELS], lanes)
        lines = total_of(g) // across
        for task in range(first, last):
            vector, t0 = task // lines, task % lines * across
            group, c = vector // vectors, vector % vectors
            v = offset(work, group * g[at.V_GROUP] + c * g[at.V_BLOCK] + t0 * lanes)
            transform_tiles(source, g, group, c, t0, t0 + across, strip, v)

    def products(first: int, last: int, thread: int, source: P, w: P, result: P, work: P, g: P) -> None:
        """A task is two vectors of result channels of one group: their filters' transform, and all tiles."""
        lanes, chunk = g[at.LANES], g[at.CHANNEL_CHUNK]  # vectors of channels whose filters are transformed at once
        u = offset(work, g[at.SHARED] + thread * g[at.WORK])
        p = offset(u, frequencies * g[at.U_XI])
        taps = offset(p, frequencies * g[at.P_XI])
        tiles = total_of(g)
        in_vectors, out_vectors = g[at.DEPTH] * ceil_div(g[at.CHANNELS], lanes), ceil_div(g[at.ROWS], lanes)
        blocks = ceil_div(out_vectors, 2)
        for task in range(first, last):
            group, k = task // blocks, task % blocks
            halves = min(2, out_vectors - 2 * k)
            for c0 in range(0, in_vectors, chunk):
                c1 = min(c0 + chunk, in_vectors)
                for half in range(halves):
                    for c in range(c0, c1):
                        to = offset(u, half * lanes + (c - c0) * lanes * 2 * lanes)
                        transform_filters(w, g, group, (2 * k + half) * lanes, c, taps, to)
                v = offset(work, group * g[at.V_GROUP] + c0 * g[at.V_BLOCK])
                multiply(g, v, c1 - c0, u, p, tiles, c0)
            for half in range(halves):
                store_tiles(result, g, group, 2 * k + half, 0, tiles, taps, offset(p, half * lanes))

    return {"filters": filters, "tiles": tiles, "inputs": inputs, "products": products}


def weight_kernels(m: Pair, r: Pair) -> dict[str, Any]:
    """The kernels of the gradient with respect to weights, from my*mx outputs at a time.

    The transposition of F(m, r): dw = G^T [sum over tiles of (B^T d B) * (A dy A^T)] G. Channels and filters are cut into
    blocks whose sums U fit the second-level cache:

        V[channel block][xi][tile][channel]    Z[filter block][xi][pair of filter vectors][tile][2 lanes]
        U[channel block][filter block][xi][pair of filter vectors][channel][2 lanes]

    Few channels, many tiles: a task of `parts` owns one pair of blocks and one part of the tiles, and does everything for
    a few tiles at a time in the thread's own memory; `join` adds up the parts. Many channels, few tiles: `transforms`
    fills V and Z for all tiles (or for as many as memory should hold, in several rounds), then a task of `sums` owns a
    pair of blocks. Parts, rounds and the order of the sums never depend on the number of threads.
    """
    at = WINOGRAD_WEIGHTS
    n = (m[0] + r[0] - 1, m[1] + r[1] - 1)
    down, right = form(m[0], r[0]), form(m[1], r[1])
    gather_x = gathering(sandwich(down.data, right.data), m, n, n)
    gather_y = gathering(sandwich(transposed(down.output), transposed(right.output)), m, m, n)
    back = sandwich(transposed(down.filter), transposed(right.filter))
    total_of, across_of, run_of = tiling(m)
    (ny, nx), (ry, rx) = n, r
    frequencies, n_taps = ny * nx, ry * rx

    @helper
    def transform_x(x: P, g: P, group: int, c: int, first: int, last: int, strip: P, v: P) -> None:
        """V of the tiles first <= t < last, counted over all images, for the channels of vector c."""
        vectors = ceil_div(g[at.CIN], g[at.LANES])
        tap_z, within, step = c // vectors, c % vectors * g[at.LANES], g[at.CHANNEL_BLOCK]
        channel, count = group * g[at.CIN] + within, g[at.CIN] - within
        t = first
        while t < last:
            image, z, y0, x0, groups, phases = run_of(g, t, last)
            z += tap_z * g[at.STEP_Z] + g[at.BASE_Z]
            y0, x0, to = y0 + g[at.BASE_Y], x0 + g[at.BASE_X], offset(v, (t - first) * step)
            gather_x(x, g, at.X_VIEW, image, z, channel, count, y0, x0, groups, phases, strip, to, step, g[at.V_XI])
            t += groups * phases

    @helper
    def transform_y(y: P, g: P, group: int, f: int, first: int, last: int, strip: P, z: P) -> None:
        """Z of the tiles first <= t < last, counted over all images, for the filters f <= . < f + lanes."""
        channel, count, step = group * g[at.COUT] + f, g[at.COUT] - f, 2 * g[at.LANES]
        t = first
        while t < last:
            image, depth, y0, x0, groups, phases = run_of(g, t, last)
            to = offset(z, (t - first) * step)
            gather_y(y, g, at.Y_VIEW, image, depth, channel, count, y0, x0, groups, phases, strip, to, step, g[at.P_XI])
            t += groups * phases

    @helper
    def multiply(g: P, v: P, z: P, channels: int, filters: int, tiles: int, u: P, add: int) -> None:
        """U (+)= V^T Z for all frequencies of one pair of blocks."""
        lanes = g[at.LANES]
        pair = g[at.CHANNEL_BLOCK] * 2 * lanes
        rows = min(SUM_ROWS, lanes)
        for xi in range(frequencies):
            for k in range(ceil_div(filters, 2 * lanes)):
                b, c = offset(z, xi * g[at.P_XI] + k * g[at.TILES] * 2 * lanes), offset(u, xi * g[at.U_XI] + k * pair)
                for i in range(0, channels, rows):
                    a, to = offset(v, xi * g[at.V_XI] + i), offset(c, i * 2 * lanes)
                    SUM(a, g[at.CHANNEL_BLOCK], tiles, b, to, add)

    @helper
    def store_filters(w: P, g: P, group: int, c: int, f: int, u: P, strip: P) -> None:
        """G^T U G for channel vector c and the filters from f, whose sums begin at u."""
        lanes, depth = g[at.LANES], g[at.DEPTH]
        vectors = ceil_div(g[at.CIN], lanes)
        channel = c % vectors * lanes
        count = min(lanes, g[at.CIN] - channel)
        first, step = ((n_taps - 1) * lanes, -lanes) if g[at.BACKWARDS] else (0, lanes)
        for i in range(count):
            taps = offset(strip, n_taps * i * lanes + first)
            back(offset(u, i * 2 * lanes), nx * g[at.U_XI], g[at.U_XI], taps, rx * step, step)
        to = offset(w, (group * g[at.COUT] + f) * g[at.FILTER] + (channel * depth + c // vectors) * n_taps)
        # The taps of neighbouring channels are neighbours, but for depth.
        runs, length = (1, n_taps * count) if depth == 1 else (count, n_taps)
        for i in range(runs):
            for k in range(0, length, lanes):
                columns, vectors_at = min(lanes, length - k), offset(strip, (i * n_taps + k) * lanes)
                place = offset(to, i * depth * n_taps + k)
                lanes_to_rows(vectors_at, lanes, place, g[at.FILTER], g[at.COUT] - f, columns)

    @helper
    def store_block(w: P, g: P, group: int, c0: int, channels: int, f0: int, filters: int, u: P, strip: P) -> None:
        """`store_filters` for a pair of blocks."""
        lanes = g[at.LANES]
        for f in range(0, filters, lanes):
            sums = offset(u, f // (2 * lanes) * g[at.CHANNEL_BLOCK] * 2 * lanes + f % (2 * lanes))
            for c in range(0, channels, lanes):
                store_filters(w, g, group, (c0 + c) // lanes, f0 + f, offset(sums, c * 2 * lanes), strip)

    def parts(first: int, last: int, thread: int, x: P, w: P, y: P, work: P, g: P) -> None:
        """A task is one part of the tiles, one group, one block of channels and one of filters, into the shared U."""
        lanes, cout, block = g[at.LANES], g[at.COUT], g[at.TILES]
        cin = g[at.DEPTH] * ceil_div(g[at.CIN], lanes) * lanes  # lanes of all vectors of channels
        c_blocks, f_blocks = ceil_div(cin, g[at.CHANNEL_BLOCK]), ceil_div(cout, g[at.FILTER_BLOCK])
        v = offset(work, g[at.SHARED] + thread * g[at.WORK])
        z = offset(v, frequencies * g[at.V_XI])
        strip = offset(z, frequencies * g[at.P_XI])
        total = total_of(g)
        for task in range(first, last):
            part, owned = task // (g[at.GROUPS] * c_blocks * f_blocks), task % (g[at.GROUPS] * c_blocks * f_blocks)
            group = owned // (c_blocks * f_blocks)
            c0, f0 = owned // f_blocks % c_blocks * g[at.CHANNEL_BLOCK], owned % f_blocks * g[at.FILTER_BLOCK]
            channels, filters = min(g[at.CHANNEL_BLOCK], cin - c0), min(g[at.FILTER_BLOCK], cout - f0)
            u = offset(work, g[at.U_START] + task * g[at.U_BLOCK])
            begin, end = part * g[at.PART], min((part + 1) * g[at.PART], total)
            for t0 in range(begin, end, block):
                t1 = min(t0 + block, end)
                for c in range(0, channels, lanes):
                    transform_x(x, g, group, (c0 + c) // lanes, t0, t1, strip, offset(v, c))
                for f in range(0, filters, lanes):
                    z_at = f // (2 * lanes) * block * 2 * lanes + f % (2 * lanes)
                    transform_y(y, g, group, f0 + f, t0, t1, strip, offset(z, z_at))
                multiply(g, v, z, channels, filters, t1 - t0, u, t0 - begin)

    def join(first: int, last: int, thread: int, x: P, w: P, y: P, work: P, g: P) -> None:
        """A task is one group, one vector of channels and one of filters: adds up its parts, in order, in the first one."""
        lanes = g[at.LANES]
        c_vectors, f_vectors = g[at.DEPTH] * ceil_div(g[at.CIN], lanes), ceil_div(g[at.COUT], lanes)
        c_blocks, f_blocks = ceil_div(c_vectors * lanes, g[at.CHANNEL_BLOCK]), ceil_div(g[at.COUT], g[at.FILTER_BLOCK])
        strip = offset(work, g[at.SHARED] + thread * g[at.WORK])
        for task in range(first, last):
            group = task // (c_vectors * f_vectors)
            c, f = task // f_vectors % c_vectors * lanes, task % f_vectors * lanes
            blocks = (group * c_blocks + c // g[at.CHANNEL_BLOCK]) * f_blocks + f // g[at.FILTER_BLOCK]
            c_in, f_in = c % g[at.CHANNEL_BLOCK], f % g[at.FILTER_BLOCK]
            within = (f_in // (2 * lanes) * g[at.CHANNEL_BLOCK] + c_in) * 2 * lanes + f_in % (2 * lanes)
            u = offset(work, g[at.U_START] + blocks * g[at.U_BLOCK] + within)
            for part in range(1, g[at.PARTS]):
                more = offset(u, part * g[at.GROUPS] * c_blocks * f_blocks * g[at.U_BLOCK])
                for xi in range(frequencies):
                    add_vectors(offset(u, xi * g[at.U_XI]), offset(more, xi * g[at.U_XI]), 2 * lanes, lanes)
            store_filters(w, g, group, c // lanes, f, u, strip)

    def transforms(first: int, last: int, thread: int, x: P, w: P, y: P, work: P, g: P) -> None:
        """A task is one row of tiles of one image and one vector of channels, of x or of y, of one group."""
        lanes, across = g[at.LANES], across_of(g)
        strip = offset(work, g[at.SHARED] + thread * g[at.WORK])
        x_vectors = g[at.DEPTH] * ceil_div(g[at.CIN], lanes)
        vectors = x_vectors + ceil_div(g[at.COUT], lanes)
        per_round = g[at.TILES] // across
        for task in range(first, last):
            # Neighbouring rows of tiles one after the other, as they lie in V and Z.
            begin = task // (per_round * g[at.GROUPS] * vectors) * per_round
            lines = min(per_round, total_of(g) // across - begin)
            rest = task - begin * g[at.GROUPS] * vectors
            line, group, c = rest % lines, rest // lines // vectors, rest // lines % vectors * lanes
            to, t0 = offset(work, group * g[at.V_GROUP]), (begin + line) * across
            if c < x_vectors * lanes:
                to = offset(to, c // g[at.CHANNEL_BLOCK] * g[at.V_BLOCK] + c % g[at.CHANNEL_BLOCK])
                to = offset(to, line * across * g[at.CHANNEL_BLOCK])
                transform_x(x, g, group, c // lanes, t0, t0 + across, strip, to)
            else:
                f = c - x_vectors * lanes
                to = offset(to, g[at.Z_START] + f // g[at.FILTER_BLOCK] * g[at.P_BLOCK] + f % g[at.FILTER_BLOCK])
                to = offset(to, line * across * 2 * lanes)
                transform_y(y, g, group, f, t0, t0 + across, strip, to)

    def sums(first: int, last: int, thread: int, x: P, w: P, y: P, work: P, g: P) -> None:
        """A task is one round of tiles, one group, one block of filters and one of channels."""
        cin, cout = g[at.DEPTH] * ceil_div(g[at.CIN], g[at.LANES]) * g[at.LANES], g[at.COUT]
        c_blocks, f_blocks = ceil_div(cin, g[at.CHANNEL_BLOCK]), ceil_div(cout, g[at.FILTER_BLOCK])
        total = total_of(g)
        rounds = ceil_div(total, g[at.TILES])
        mine = offset(work, g[at.SHARED] + thread * g[at.WORK])
        strip = offset(mine, g[at.U_BLOCK])
        for task in range(first, last):
            turn, owned = task // (g[at.GROUPS] * c_blocks * f_blocks), task % (g[at.GROUPS] * c_blocks * f_blocks)
            group = owned // (c_blocks * f_blocks)
            c, f = owned % c_blocks, owned // c_blocks % f_blocks
            c0, f0 = c * g[at.CHANNEL_BLOCK], f * g[at.FILTER_BLOCK]
            channels, filters = min(g[at.CHANNEL_BLOCK], cin - c0), min(g[at.FILTER_BLOCK], cout - f0)
            v = offset(work, group * g[at.V_GROUP] + c * g[at.V_BLOCK])
            z = offset(work, group * g[at.V_GROUP] + g[at.Z_START] + f * g[at.P_BLOCK])
            # With one round the sums stay with the thread, else they wait for the next round.
            u = mine if rounds == 1 else offset(work, g[at.U_START] + owned * g[at.U_BLOCK])
            multiply(g, v, z, channels, filters, min(g[at.TILES], total - turn * g[at.TILES]), u, turn)
            if turn == rounds - 1:
                store_block(w, g, group, c0, channels, f0, filters, u, strip)

    return {"parts": parts, "join": join, "transforms": transforms, "sums": sums}


def __getattr__(name: str) -> Any:
    """The kernel of that name, say `tiles_4x3_1x1`."""
    found = re.fullmatch(r"(\w+?)_(\d+)x(\d+)_(\d+)x(\d+)", name)
    if not found:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    stage, my, ry, mx, rx = found[1], *map(int, found.groups()[1:])
    make = kernels if stage in ("filters", "tiles", "inputs", "products") else weight_kernels
    globals().update({f"{other}_{name.partition('_')[2]}": made for other, made in make((my, mx), (ry, rx)).items()})
    return globals()[name]
