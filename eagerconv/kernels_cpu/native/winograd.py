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
    block_product,
    clear_vectors,
    lanes_to_rows,
    rows_to_lanes,
    sandwich,
    tile_product,
)
from eagerconv.kernels_cpu.native.vector import offset
from eagerconv.kernels_cpu.winograd import BLOCK_ROWS, SUM_ROWS

P = Any  # a pointer

BLOCK = block_product(BLOCK_ROWS, 2)
SUM, SUM_PAIR = tile_product(SUM_ROWS, 2), tile_product(2, 2)


@helper
def load_taps(w: P, g: P, row: int, rows: int, taps: P) -> None:
    """Nine taps as vectors of channels that lie `row` apart, in the order of their offsets.

    A transpose writes whole squares, so there must be room for a square before the taps and behind them.
    """
    lanes = g[at.LANES]
    for k in range(0, 9, lanes):
        place, step = (8 - k, -lanes) if g[at.BACKWARDS] else (k, lanes)
        rows_to_lanes(offset(w, k), row, rows, min(lanes, 9 - k), offset(taps, place * lanes), step)


@helper
def store_taps(taps: P, g: P, w: P, row: int, rows: int) -> None:
    """The reverse of `load_taps`."""
    lanes = g[at.LANES]
    for k in range(0, 9, lanes):
        place, step = (8 - k, -lanes) if g[at.BACKWARDS] else (k, lanes)
        lanes_to_rows(offset(taps, place * lanes), step, offset(w, k), row, rows, min(lanes, 9 - k))


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
        for r in range(first, last):
            to = offset(u, (r - first) * 2 * lanes)
            if r < g[at.CHANNELS]:
                a = offset(w, group * g[at.A_GROUP] + m0 * g[at.A_ROW] + r * g[at.A_CHANNEL])
                load_taps(a, g, g[at.A_ROW], g[at.ROWS] - m0, taps)
                filter_(taps, 3 * lanes, lanes, to, n * g[at.U_XI], g[at.U_XI])
            else:  # lanes without a channel must meet zeros, not leftovers
                for xi in range(n * n):
                    clear_vectors(offset(to, xi * g[at.U_XI]), 1)

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
        lanes = g[at.LANES]
        for xi in range(n * n):
            for i in range(0, tiles, BLOCK_ROWS):
                a, c = offset(v, xi * g[at.V_XI] + i * lanes), offset(p, xi * g[at.P_XI] + i * 2 * lanes)
                BLOCK(a, g[at.V_BLOCK], vectors, offset(u, xi * g[at.U_XI]), c, add)

    def filters(first: int, last: int, thread: int, source: P, w: P, result: P, work: P, g: P) -> None:
        """A task is one vector of result channels of one group: all its filters, into the shared U."""
        lanes = g[at.LANES]
        vectors, padded = ceil_div(g[at.ROWS], lanes), ceil_div(g[at.CHANNELS], lanes) * lanes
        taps = offset(work, g[at.SHARED] + thread * g[at.WORK] + 16 * lanes)
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
        """A task is one row of tiles of one image and one vector of channels of one group, into the shared V."""
        lanes, across = g[at.LANES], ceil_div(g[at.GRID_X], m)
        strip = offset(work, g[at.SHARED] + thread * g[at.WORK])
        vectors = ceil_div(g[at.CHANNELS], lanes)
        for task in range(first, last):
            line, vector = task // (g[at.GROUPS] * vectors), task % (g[at.GROUPS] * vectors)
            group, c, t0 = vector // vectors, vector % vectors, line * across
            v = offset(work, group * g[at.V_GROUP] + c * g[at.V_BLOCK] + t0 * lanes)
            transform_tiles(source, g, group, c, t0, t0 + across, strip, v)

    def products(first: int, last: int, thread: int, source: P, w: P, result: P, work: P, g: P) -> None:
        """A task is two vectors of result channels of one group: their filters' transform, and all tiles."""
        lanes, chunk = g[at.LANES], g[at.CHANNEL_CHUNK]  # vectors of channels whose filters are transformed at once
        u = offset(work, g[at.SHARED] + thread * g[at.WORK])
        p = offset(u, n * n * g[at.U_XI])
        taps = offset(p, n * n * g[at.P_XI] + 16 * lanes)
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


def weight_kernels(m: int) -> tuple[Any, Any]:
    """The two kernels of the gradient with respect to 3x3 weights, from m*m outputs at a time.

    The transposition of F(m, 3): dw = G^T [sum over tiles of (B^T d B) * (A dy A^T)] G. The tiles are taken in blocks of
    whole rows of tiles; `transforms` fills V and Z for a block, and a task of `sums` owns one vector of input channels and
    two of filters, adds up their products of the block, and after the last block transforms them back. So sums run over
    the tiles in the same order whatever the number of threads.

        V[xi][tile][channel]    Z[xi][filter block][tile][2 lanes]    U[xi][lane of channels][2 lanes]
    """
    n = m + 2
    data, filter_, output = form(m, 3)
    gather_x, gather_y = gathering(sandwich(data), m, n), gathering(sandwich(transposed(output)), m, m)
    back = sandwich(transposed(filter_))

    def transforms(first: int, last: int, thread: int, x: P, w: P, y: P, work: P, g: P) -> None:
        """A task is one row of tiles of one image and one vector of channels, of x or of y, of one group."""
        lanes, across, down = g[at.LANES], ceil_div(g[at.GRID_X], m), ceil_div(g[at.GRID_Y], m)
        strip = offset(work, g[at.SHARED] + thread * g[at.WORK])
        x_vectors = ceil_div(g[at.CIN], lanes)
        vectors = x_vectors + ceil_div(g[at.COUT], lanes)
        for task in range(first, last):
            line, rest = task // (g[at.GROUPS] * vectors), task % (g[at.GROUPS] * vectors)
            group, c = rest // vectors, rest % vectors
            image, y0, tile = line // down, line % down * m, line % g[at.TILES] * across
            to = offset(work, group * g[at.V_GROUP])
            if c < x_vectors:
                channel, count = group * g[at.CIN] + c * lanes, g[at.CIN] - c * lanes
                to = offset(to, tile * g[at.V_BLOCK] + c * lanes)
                y0, x0 = y0 + g[at.BASE_Y], g[at.BASE_X]
                gather_x(x, g, at.X_VIEW, image, channel, count, y0, x0, across, strip, to, g[at.V_BLOCK], g[at.V_XI])
            else:
                f = (c - x_vectors) * lanes
                channel, count = group * g[at.COUT] + f, g[at.COUT] - f
                to = offset(to, g[at.Z_START] + f // (2 * lanes) * g[at.P_BLOCK] + tile * 2 * lanes + f % (2 * lanes))
                gather_y(y, g, at.Y_VIEW, image, channel, count, y0, 0, across, strip, to, 2 * lanes, g[at.P_XI])

    def sums(first: int, last: int, thread: int, x: P, w: P, y: P, work: P, g: P) -> None:
        """A task is one block of tiles, one group, one vector of input channels and two vectors of filters."""
        lanes, cin, cout = g[at.LANES], g[at.CIN], g[at.COUT]
        lines, across = g[at.BATCH] * ceil_div(g[at.GRID_Y], m), ceil_div(g[at.GRID_X], m)
        x_vectors, y_blocks = ceil_div(cin, lanes), ceil_div(cout, 2 * lanes)
        per_block = g[at.GROUPS] * x_vectors * y_blocks
        taps = offset(work, g[at.SHARED] + thread * g[at.WORK] + 16 * lanes)
        for task in range(first, last):
            block, owned = task // per_block, task % per_block
            group, c0, k = owned // (x_vectors * y_blocks), owned // y_blocks % x_vectors * lanes, owned % y_blocks
            tiles = min(g[at.TILES], lines - block * g[at.TILES]) * across
            v = offset(work, group * g[at.V_GROUP] + c0)
            z = offset(work, group * g[at.V_GROUP] + g[at.Z_START] + k * g[at.P_BLOCK])
            # With one block of tiles the sums stay with the thread, else they wait for the next block.
            u = (
                offset(taps, 48 * lanes)
                if lines <= g[at.TILES]
                else offset(work, g[at.U_START] + owned * g[at.U_BLOCK])
            )
            for xi in range(n * n):
                rows = (
                    SUM_ROWS if lanes >= SUM_ROWS else 2
                )  # a short vector has fewer channels than a whole block of sums
                for i in range(0, lanes, rows):
                    a, to = offset(v, xi * g[at.V_XI] + i), offset(u, (xi * lanes + i) * 2 * lanes)
                    if rows == SUM_ROWS:
                        SUM(a, g[at.V_BLOCK], tiles, offset(z, xi * g[at.P_XI]), to, block)
                    else:
                        SUM_PAIR(a, g[at.V_BLOCK], tiles, offset(z, xi * g[at.P_XI]), to, block)
            if (block + 1) * g[at.TILES] < lines:
                continue
            for f0 in range(k * 2 * lanes, min(cout, (k + 1) * 2 * lanes), lanes):
                for c in range(min(lanes, cin - c0)):
                    step = lanes * 2 * lanes  # from one frequency to the next
                    back(offset(u, c * 2 * lanes + f0 % (2 * lanes)), n * step, step, taps, 3 * lanes, lanes)
                    to = offset(w, (group * cout + f0) * g[at.FILTER] + (c0 + c) * 9)
                    store_taps(taps, g, to, g[at.FILTER], cout - f0)

    return transforms, sums


filters_2, tiles_2, inputs_2, products_2 = kernels(2)
filters_4, tiles_4, inputs_4, products_4 = kernels(4)
transforms_2, sums_2 = weight_kernels(2)
transforms_4, sums_4 = weight_kernels(4)
