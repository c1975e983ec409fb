"""Winograd convolution with 3x3 filters at stride 1: m*m outputs per tile with (m+2)^2 products per pair of channels.

Inputs and filters are transformed, V = B^T d B and U = G g G^T, multiplied per frequency xi over the channels, M = U V, and
transformed back, y = A^T M A. Lanes are channels everywhere in between:

    V[xi][channel vector][tile][lane]    U[xi][result block][channel][2 lanes]    M[xi][result block][tile][2 lanes]

The forward pass and the gradient with respect to inputs are the same computation with source and result exchanged:

    result[m, j] = sum over r, k of A[m, r, k] * source[r, j + base + k]        k = 0, 1, 2 on each axis

where the taps are counted from the least offset (`base`), so filters may have to be read backwards.

Large images and few channels: `filters` fills all of U, then each task of `tiles` does everything for a block of tiles in
the thread's own memory. Small images and many channels, where U would be large: `inputs` fills all of V, then each task of
`products` transforms the filters of two vectors of result channels, a few channels at a time, and meets all tiles.
"""

from __future__ import annotations

from typing import Any

from eagerconv.kernels_cpu import table as at
from eagerconv.kernels_cpu.cooktoom import form, transposed
from eagerconv.kernels_cpu.native.direct import ceil_div, helper
from eagerconv.kernels_cpu.native.transforms import (
    add_vectors,
    block_products,
    clear_vectors,
    lanes_to_rows,
    rows_to_lanes,
    sandwich,
    tile_product,
)
from eagerconv.kernels_cpu.native.vector import offset, prefetch
from eagerconv.kernels_cpu.winograd import BLOCK_ROWS, SUM_ROWS

P = Any  # a pointer

BLOCK = block_products(BLOCK_ROWS, 2)
AHEAD = 8  # filters asked for before they are needed
SUM, SUM_PAIR = tile_product(SUM_ROWS, 2), tile_product(2, 2)


def gathering(transform: Any, m: int, window: int) -> Any:
    """A helper that transforms windows of `window` pixels, m apart, of one row of tiles and one vector of channels."""

    @helper
    def gather(a: P, g: P, view: int, image: int, channel: int, count: int, y0: int, x0: int, tiles: int, strip: P,
               v: P, tile_step: int, xi_step: int) -> None:  # fmt: skip
        """V at v + tile*tile_step + xi*xi_step, of windows that begin at (y0, x0 + tile*m); zeros outside the image."""
        lanes, height, width = g[at.LANES], g[view + at.V_SIZE + 1], g[view + at.V_SIZE + 2]
        a = offset(a, image * g[view + at.V_N] + channel * g[view + at.V_C] + x0)
        across = tiles * m + window - m  # pixels of the strip
        left = min(max(-x0, 0), across)
        right = max(left, min(width - x0, across))
        for i in range(window):
            y, row = y0 + i, offset(strip, i * across * lanes)
            if y < 0 or y >= height:
                clear_vectors(row, across)
            else:
                clear_vectors(row, left)
                for j in range(left, right, lanes):
                    pixels = offset(a, y * g[view + at.V_I + 1] + j)
                    rows_to_lanes(pixels, g[view + at.V_C], count, min(lanes, right - j), offset(row, j * lanes), lanes)
                clear_vectors(offset(row, right * lanes), across - right)
        for tile in range(tiles):
            d = offset(strip, tile * m * lanes)
            transform(d, across * lanes, lanes, offset(v, tile * tile_step), frequencies * xi_step, xi_step)

    frequencies = m + 2  # per axis, of either transform of F(m, 3)
    return gather


def kernels(m: int) -> tuple[Any, ...]:
    """The four kernels of F(m x m, 3 x 3), forward and gradient with respect to inputs."""
    n = m + 2
    _, filter_, output = (sandwich(matrix) for matrix in form(m, 3))
    gather = gathering(sandwich(form(m, 3).data), m, n)

    @helper
    def transform_filters(w: P, g: P, group: int, m0: int, first: int, last: int, taps: P, u: P) -> None:
        """U of one vector of result channels, from m0, and of the channels first <= r < last: u + (r - first)*2*lanes."""
        lanes = g[at.LANES]
        backwards = g[at.BACKWARDS]
        begin, step = (8 * lanes, -lanes) if backwards else (0, lanes)
        rows, stop = g[at.ROWS] - m0, min(last, g[at.CHANNELS])
        together = lanes if g[at.A_CHANNEL] == 9 else 1  # filters whose taps are neighbours
        for r0 in range(first, stop, together):
            count = min(together, stop - r0)
            a = offset(w, group * g[at.A_GROUP] + m0 * g[at.A_ROW] + r0 * g[at.A_CHANNEL])
            if together == 1 and g[at.A_ROW] == 9 and r0 + AHEAD < stop:  # no processor guesses steps of many pages
                prefetch(offset(a, AHEAD * g[at.A_CHANNEL]), 9 * min(lanes, rows))
            for k in range(0, 9 * count, lanes):
                rows_to_lanes(
                    offset(a, k), g[at.A_ROW], rows, min(lanes, 9 * count - k), offset(taps, k * lanes), lanes
                )
            for i in range(count):
                to = offset(u, (r0 + i - first) * 2 * lanes)
                filter_(offset(taps, 9 * i * lanes + begin), 3 * step, step, to, n * g[at.U_XI], g[at.U_XI])
        for r in range(stop, last):  # lanes without a channel must meet zeros, not leftovers
            for xi in range(n * n):
                clear_vectors(offset(u, (r - first) * 2 * lanes + xi * g[at.U_XI]), 1)

    @helper
    def transform_tiles(source: P, g: P, group: int, c: int, first: int, last: int, strip: P, v: P) -> None:
        """V of the tiles first <= t < last, counted over all images, for the channels of vector c: v + (t - first)*lanes."""
        lanes, across, down = g[at.LANES], ceil_div(g[at.GRID_X], m), ceil_div(g[at.GRID_Y], m)
        channel, count = group * g[at.CHANNELS] + c * lanes, g[at.CHANNELS] - c * lanes
        t = first
        while t < last:
            line, tx = t // across, t % across
            run = min(across - tx, last - t)
            y0, x0, to = line % down * m + g[at.BASE_Y], tx * m + g[at.BASE_X], offset(v, (t - first) * lanes)
            gather(source, g, at.SOURCE, line // down, channel, count, y0, x0, run, strip, to, lanes, g[at.V_XI])
            t += run

    @helper
    def store_tiles(result: P, g: P, group: int, c: int, first: int, last: int, strip: P, p: P) -> None:
        """The outputs of the tiles first <= t < last for the result channels of vector c, from p + (t - first)*2*lanes."""
        lanes, across, down = g[at.LANES], ceil_div(g[at.GRID_X], m), ceil_div(g[at.GRID_Y], m)
        channel, count = group * g[at.ROWS] + c * lanes, g[at.ROWS] - c * lanes
        t = first
        while t < last:
            line, tx = t // across, t % across
            run = min(across - tx, last - t)
            width = run * m * lanes
            for tile in range(run):
                products = offset(p, (t - first + tile) * 2 * lanes)
                output(products, n * g[at.P_XI], g[at.P_XI], offset(strip, tile * m * lanes), width, lanes)
            right, y0 = min(run * m, g[at.GRID_X] - tx * m), line % down * m
            image = offset(result, line // down * g[at.RESULT_N] + channel * g[at.RESULT_C] + tx * m)
            for i in range(min(m, g[at.GRID_Y] - y0)):
                for j in range(0, right, lanes):
                    vectors, pixels = offset(strip, i * width + j * lanes), offset(image, (y0 + i) * g[at.GRID_X] + j)
                    lanes_to_rows(vectors, lanes, pixels, g[at.RESULT_C], count, min(lanes, right - j))
            t += run

    @helper
    def multiply(g: P, v: P, vectors: int, u: P, p: P, tiles: int, add: int) -> None:
        """M (+)= U V for one result block: all frequencies, `tiles` tiles, `vectors` vectors of channels."""
        lanes, rows = g[at.LANES], g[at.ROW_BLOCK]
        for xi in range(n * n):
            a, b, c = offset(v, xi * g[at.V_XI]), offset(u, xi * g[at.U_XI]), offset(p, xi * g[at.P_XI])
            if xi + 1 < n * n:
                prefetch(offset(a, g[at.V_XI]), vectors * g[at.V_BLOCK])
            for i in range(0, tiles, rows):
                BLOCK(rows, offset(a, i * lanes), g[at.V_BLOCK], vectors, b, offset(c, i * 2 * lanes), add)

    def filters(first: int, last: int, thread: int, source: P, w: P, result: P, work: P, g: P) -> None:
        """A task is one vector of result channels of one group: all its filters, into the shared U."""
        lanes = g[at.LANES]
        vectors, padded = ceil_div(g[at.ROWS], lanes), ceil_div(g[at.CHANNELS], lanes) * lanes
        taps = offset(work, g[at.SHARED] + thread * g[at.WORK])
        for task in range(first, last):
            group, c = task // vectors, task % vectors
            u = offset(work, group * g[at.U_GROUP] + c // 2 * g[at.U_BLOCK] + c % 2 * lanes)
            transform_filters(w, g, group, c * lanes, 0, padded, taps, u)

    def tiles(first: int, last: int, thread: int, source: P, w: P, result: P, work: P, g: P) -> None:
        """A task is a block of tiles of one group: everything but the filters' transform."""
        lanes, block = g[at.LANES], g[at.TILES]
        v = offset(work, g[at.SHARED] + thread * g[at.WORK])
        p = offset(v, n * n * g[at.V_XI])
        strip = offset(p, n * n * g[at.P_XI])
        total = g[at.BATCH] * ceil_div(g[at.GRID_Y], m) * ceil_div(g[at.GRID_X], m)
        blocks = ceil_div(total, block)
        in_vectors, out_vectors = ceil_div(g[at.CHANNELS], lanes), ceil_div(g[at.ROWS], lanes)
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
        lanes, across = g[at.LANES], ceil_div(g[at.GRID_X], m)
        strip = offset(work, g[at.SHARED] + thread * g[at.WORK])
        vectors, lines = ceil_div(g[at.CHANNELS], lanes), g[at.BATCH] * ceil_div(g[at.GRID_Y], m)
        for task in range(first, last):
            vector, t0 = task // lines, task % lines * across
            group, c = vector // vectors, vector % vectors
            v = offset(work, group * g[at.V_GROUP] + c * g[at.V_BLOCK] + t0 * lanes)
            transform_tiles(source, g, group, c, t0, t0 + across, strip, v)

    def products(first: int, last: int, thread: int, source: P, w: P, result: P, work: P, g: P) -> None:
        """A task is two vectors of result channels of one group: their filters' transform, and all tiles."""
        lanes, chunk = g[at.LANES], g[at.CHANNEL_CHUNK]  # vectors of channels whose filters are transformed at once
        u = offset(work, g[at.SHARED] + thread * g[at.WORK])
        p = offset(u, n * n * g[at.U_XI])
        taps = offset(p, n * n * g[at.P_XI])
        tiles = g[at.BATCH] * ceil_div(g[at.GRID_Y], m) * ceil_div(g[at.GRID_X], m)
        in_vectors, out_vectors = ceil_div(g[at.CHANNELS], lanes), ceil_div(g[at.ROWS], lanes)
        blocks = ceil_div(out_vectors, 2)
        for task in range(first, last):
            group, k = task // blocks, task % blocks
            halves = min(2, out_vectors - 2 * k)
            for c0 in range(0, in_vectors, chunk):
                c1 = min(c0 + chunk, in_vectors)
                for half in range(halves):
                    m0, to = (2 * k + half) * lanes, offset(u, half * lanes)
                    transform_filters(w, g, group, m0, c0 * lanes, c1 * lanes, taps, to)
                v = offset(work, group * g[at.V_GROUP] + c0 * g[at.V_BLOCK])
                multiply(g, v, c1 - c0, u, p, tiles, c0)
            for half in range(halves):
                store_tiles(result, g, group, 2 * k + half, 0, tiles, taps, offset(p, half * lanes))

    return filters, tiles, inputs, products


def weight_kernels(m: int) -> tuple[Any, ...]:
    """The kernels of the gradient with respect to 3x3 weights, from m*m outputs at a time.

    The transposition of F(m, 3): dw = G^T [sum over tiles of (B^T d B) * (A dy A^T)] G. Channels and filters are cut into
    blocks whose sums U fit the second-level cache:

        V[channel block][xi][tile][channel]    Z[filter block][xi][pair of filter vectors][tile][2 lanes]
        U[channel block][filter block][xi][pair of filter vectors][channel][2 lanes]

    Few channels, many tiles: a task of `parts` owns one pair of blocks and one part of the tiles, and does everything for
    a few tiles at a time in the thread's own memory; `join` adds up the parts. Many channels, few tiles: `transforms`
    fills V and Z for all tiles (or for as many as memory should hold, in several rounds), then a task of `sums` owns a
    pair of blocks. Parts, rounds and the order of the sums never depend on the number of threads.
    """
    n = m + 2
    data, filter_, output = form(m, 3)
    gather_x, gather_y = gathering(sandwich(data), m, n), gathering(sandwich(transposed(output)), m, m)
    back = sandwich(transposed(filter_))

    @helper
    def transform_x(x: P, g: P, group: int, c: int, first: int, last: int, strip: P, v: P) -> None:
        """V of the tiles first <= t < last, counted over all images, for the channels c <= . < c + lanes."""
        across, down = ceil_div(g[at.GRID_X], m), ceil_div(g[at.GRID_Y], m)
        channel, count, step = group * g[at.CIN] + c, g[at.CIN] - c, g[at.CHANNEL_BLOCK]
        t = first
        while t < last:
            line, tx = t // across, t % across
            run = min(across - tx, last - t)
            y0, x0, to = line % down * m + g[at.BASE_Y], tx * m + g[at.BASE_X], offset(v, (t - first) * step)
            gather_x(x, g, at.X_VIEW, line // down, channel, count, y0, x0, run, strip, to, step, g[at.V_XI])
            t += run

    @helper
    def transform_y(y: P, g: P, group: int, f: int, first: int, last: int, strip: P, z: P) -> None:
        """Z of the tiles first <= t < last, counted over all images, for the filters f <= . < f + lanes."""
        across, down = ceil_div(g[at.GRID_X], m), ceil_div(g[at.GRID_Y], m)
        channel, count, step = group * g[at.COUT] + f, g[at.COUT] - f, 2 * g[at.LANES]
        t = first
        while t < last:
            line, tx = t // across, t % across
            run = min(across - tx, last - t)
            y0, x0, to = line % down * m, tx * m, offset(z, (t - first) * step)
            gather_y(y, g, at.Y_VIEW, line // down, channel, count, y0, x0, run, strip, to, step, g[at.P_XI])
            t += run

    @helper
    def multiply(g: P, v: P, z: P, channels: int, filters: int, tiles: int, u: P, add: int) -> None:
        """U (+)= V^T Z for all frequencies of one pair of blocks."""
        lanes = g[at.LANES]
        pair = g[at.CHANNEL_BLOCK] * 2 * lanes
        rows = SUM_ROWS if lanes >= SUM_ROWS else 2  # a short vector has fewer channels than a whole block of sums
        for xi in range(n * n):
            for k in range(ceil_div(filters, 2 * lanes)):
                b, c = offset(z, xi * g[at.P_XI] + k * g[at.TILES] * 2 * lanes), offset(u, xi * g[at.U_XI] + k * pair)
                for i in range(0, channels, rows):
                    a, to = offset(v, xi * g[at.V_XI] + i), offset(c, i * 2 * lanes)
                    if rows == SUM_ROWS:
                        SUM(a, g[at.CHANNEL_BLOCK], tiles, b, to, add)
                    else:
                        SUM_PAIR(a, g[at.CHANNEL_BLOCK], tiles, b, to, add)

    @helper
    def store_filters(w: P, g: P, group: int, c: int, f: int, u: P, strip: P) -> None:
        """G^T U G for a vector of channels from c and one of filters from f, whose sums begin at u."""
        lanes, count = g[at.LANES], min(g[at.LANES], g[at.CIN] - c)
        first, step = (8 * lanes, -lanes) if g[at.BACKWARDS] else (0, lanes)
        for i in range(count):
            back(
                offset(u, i * 2 * lanes),
                n * g[at.U_XI],
                g[at.U_XI],
                offset(strip, 9 * i * lanes + first),
                3 * step,
                step,
            )
        to = offset(w, (group * g[at.COUT] + f) * g[at.FILTER] + c * 9)
        for k in range(0, 9 * count, lanes):  # the taps of neighbouring channels are neighbours
            columns, vectors = min(lanes, 9 * count - k), offset(strip, k * lanes)
            lanes_to_rows(vectors, lanes, offset(to, k), g[at.FILTER], g[at.COUT] - f, columns)

    @helper
    def store_block(w: P, g: P, group: int, c0: int, channels: int, f0: int, filters: int, u: P, strip: P) -> None:
        """`store_filters` for a pair of blocks."""
        lanes = g[at.LANES]
        for f in range(0, filters, lanes):
            sums = offset(u, f // (2 * lanes) * g[at.CHANNEL_BLOCK] * 2 * lanes + f % (2 * lanes))
            for c in range(0, channels, lanes):
                store_filters(w, g, group, c0 + c, f0 + f, offset(sums, c * 2 * lanes), strip)

    def parts(first: int, last: int, thread: int, x: P, w: P, y: P, work: P, g: P) -> None:
        """A task is one part of the tiles, one group, one block of channels and one of filters, into the shared U."""
        lanes, cin, cout, block = g[at.LANES], g[at.CIN], g[at.COUT], g[at.TILES]
        c_blocks, f_blocks = ceil_div(cin, g[at.CHANNEL_BLOCK]), ceil_div(cout, g[at.FILTER_BLOCK])
        v = offset(work, g[at.SHARED] + thread * g[at.WORK])
        z = offset(v, n * n * g[at.V_XI])
        strip = offset(z, n * n * g[at.P_XI])
        total = g[at.BATCH] * ceil_div(g[at.GRID_Y], m) * ceil_div(g[at.GRID_X], m)
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
                    transform_x(x, g, group, c0 + c, t0, t1, strip, offset(v, c))
                for f in range(0, filters, lanes):
                    z_at = f // (2 * lanes) * block * 2 * lanes + f % (2 * lanes)
                    transform_y(y, g, group, f0 + f, t0, t1, strip, offset(z, z_at))
                multiply(g, v, z, channels, filters, t1 - t0, u, t0 - begin)

    def join(first: int, last: int, thread: int, x: P, w: P, y: P, work: P, g: P) -> None:
        """A task is one group, one vector of channels and one of filters: adds up its parts, in order, in the first one."""
        lanes = g[at.LANES]
        c_vectors, f_vectors = ceil_div(g[at.CIN], lanes), ceil_div(g[at.COUT], lanes)
        c_blocks, f_blocks = ceil_div(g[at.CIN], g[at.CHANNEL_BLOCK]), ceil_div(g[at.COUT], g[at.FILTER_BLOCK])
        strip = offset(work, g[at.SHARED] + thread * g[at.WORK])
        for task in range(first, last):
            group, c, f = (
                task // (c_vectors * f_vectors),
                task // f_vectors % c_vectors * lanes,
                task % f_vectors * lanes,
            )
            blocks = (group * c_blocks + c // g[at.CHANNEL_BLOCK]) * f_blocks + f // g[at.FILTER_BLOCK]
            c_in, f_in = c % g[at.CHANNEL_BLOCK], f % g[at.FILTER_BLOCK]
            within = (f_in // (2 * lanes) * g[at.CHANNEL_BLOCK] + c_in) * 2 * lanes + f_in % (2 * lanes)
            u = offset(work, g[at.U_START] + blocks * g[at.U_BLOCK] + within)
            for part in range(1, g[at.PARTS]):
                more = offset(u, part * g[at.GROUPS] * c_blocks * f_blocks * g[at.U_BLOCK])
                for xi in range(n * n):
                    add_vectors(offset(u, xi * g[at.U_XI]), offset(more, xi * g[at.U_XI]), 2 * lanes, lanes)
            store_filters(w, g, group, c, f, u, strip)

    def transforms(first: int, last: int, thread: int, x: P, w: P, y: P, work: P, g: P) -> None:
        """A task is one row of tiles of one image and one vector of channels, of x or of y, of one group."""
        lanes, across = g[at.LANES], ceil_div(g[at.GRID_X], m)
        strip = offset(work, g[at.SHARED] + thread * g[at.WORK])
        x_vectors = ceil_div(g[at.CIN], lanes)
        vectors = x_vectors + ceil_div(g[at.COUT], lanes)
        per_round = g[at.TILES] // across
        for task in range(first, last):
            # Neighbouring rows of tiles one after the other, as they lie in V and Z.
            begin = task // (per_round * g[at.GROUPS] * vectors) * per_round
            lines = min(per_round, g[at.BATCH] * ceil_div(g[at.GRID_Y], m) - begin)
            rest = task - begin * g[at.GROUPS] * vectors
            line, group, c = rest % lines, rest // lines // vectors, rest // lines % vectors * lanes
            to, t0 = offset(work, group * g[at.V_GROUP]), (begin + line) * across
            if c < x_vectors * lanes:
                to = offset(to, c // g[at.CHANNEL_BLOCK] * g[at.V_BLOCK] + c % g[at.CHANNEL_BLOCK])
                to = offset(to, line * across * g[at.CHANNEL_BLOCK])
                transform_x(x, g, group, c, t0, t0 + across, strip, to)
            else:
                f = c - x_vectors * lanes
                to = offset(to, g[at.Z_START] + f // g[at.FILTER_BLOCK] * g[at.P_BLOCK] + f % g[at.FILTER_BLOCK])
                to = offset(to, line * across * 2 * lanes)
                transform_y(y, g, group, f, t0, t0 + across, strip, to)

    def sums(first: int, last: int, thread: int, x: P, w: P, y: P, work: P, g: P) -> None:
        """A task is one round of tiles, one group, one block of filters and one of channels."""
        cin, cout = g[at.CIN], g[at.COUT]
        c_blocks, f_blocks = ceil_div(cin, g[at.CHANNEL_BLOCK]), ceil_div(cout, g[at.FILTER_BLOCK])
        total = g[at.BATCH] * ceil_div(g[at.GRID_Y], m) * ceil_div(g[at.GRID_X], m)
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

    return parts, join, transforms, sums


filters_2, tiles_2, inputs_2, products_2 = kernels(2)
filters_4, tiles_4, inputs_4, products_4 = kernels(4)
parts_2, join_2, transforms_2, sums_2 = weight_kernels(2)
parts_4, join_4, transforms_4, sums_4 = weight_kernels(4)
