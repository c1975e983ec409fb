"""Matrix products with channels in the lanes: the image is read one element at a time, where it lies, so im2col never exists.

All three slots are one product with the same two lists, of pixels p of the tiled grid and of taps (channel r, kernel index k):

    forward, inputs    result[m, p] = sum over taps t    of image[at(p) + at(t)] * w[t, m]
    weights            w[t, m]      = sum over pixels p  of image[at(t) + at(p)] * y[p, m]

with m in the lanes, so the second operand is packed in panels: rows of one to three vectors of m. The first is read through
two lists of offsets. Where a tap can leave the image, the part of it that a tile of pixels sees is copied to a strip with
the padding in it; else the array itself is read, whatever its strides.

For the gradient with respect to inputs the image is y and i = o*stride + k*step + origin is solved for o: the inputs of one
residue class modulo the stride (one *phase*) see only the taps whose i - k*step - origin the stride divides. A tile holds all
phases, so no zeros are inserted and nothing is added into memory that another task writes.
"""

from __future__ import annotations

from eagerconv.kernels_cpu.blocks import GEMM_DEPTH, GEMM_ROWS, GEMM_VECTORS
from eagerconv.kernels_cpu.native.emit import emits, switch
from eagerconv.kernels_cpu.native.loops import P, ceil_div, helper, window
from eagerconv.kernels_cpu.native.products import gathered_product
from eagerconv.kernels_cpu.native.transforms import rows_to_lanes, store_pixels
from eagerconv.kernels_cpu.native.vector import as_integers, copy_rows, offset, zero
from eagerconv.kernels_cpu.table import GEMM as at
from eagerconv.kernels_cpu.table import GEMM_IMAGES, GEMM_WEIGHTS, PHASE, VIEW

FEW_ROWS = GEMM_ROWS // 2
WIDTHS = dict.fromkeys((GEMM_VECTORS, 1, 2))  # vectors of a panel
FULL, FEW = (emits(switch({n: gathered_product(rows, n) for n in WIDTHS})) for rows in (GEMM_ROWS, FEW_ROWS))


@helper
def multiply(a: P, places: P, n_places: int, steps: P, n_steps: int, b: P, c: P, vectors: int, add: int) -> None:
    """c[m(i), j] (+)= sum over t of a[p(i) + s(t)] * b[q(t), j]: cut the places into the microkernels there are."""
    i = 0
    while i < n_places:
        some, present = offset(places, 2 * i), n_places - i
        if present > FEW_ROWS:
            FULL(vectors, a, some, present, steps, n_steps, b, c, add)
            i += GEMM_ROWS
        else:
            FEW(vectors, a, some, present, steps, n_steps, b, c, add)
            i += FEW_ROWS


@helper
def pack(to: P, width: int, source: P, along: int, valid: int, across: int, columns: int, lanes: int) -> None:
    """to[q*width + i] = source[i*along + q*across] for i < valid, zero for valid <= i < width; q < columns.

    Transposes write whole squares: there must be room for one vector of rows behind the last.
    """
    if along == 1:
        copy_rows(to, width, source, across, columns, 0, min(valid, width), width)
    elif across == 1:
        for q0 in range(0, columns, lanes):
            for l0 in range(
                (width - 1) // lanes * lanes, -1, -lanes
            ):  # squares reach into rows that are written after them
                square, count = offset(source, l0 * along + q0), min(lanes, columns - q0)
                rows_to_lanes(square, along, valid - l0, count, offset(to, q0 * width + l0), width)
    else:
        for q in range(columns):
            for i in range(width):
                to[q * width + i] = source[i * along + q * across] if i < valid else zero(to)


@helper
def unpack(
    source: P, width: int, to: P, along: int, valid: int, across: int, columns: int, lanes: int, stream: int
) -> None:
    """The reverse of `pack`: to[i*along + q*across] = source[q*width + i] for i < valid and q < columns."""
    valid = min(valid, width)
    if along == 1:
        copy_rows(to, across, source, width, columns, 0, valid, valid)
    elif across == 1:
        for i in range(0, valid, lanes):
            store_pixels(offset(source, i), width, offset(to, i * along), along, valid - i, columns, lanes, stream)
    else:
        for q in range(columns):
            for i in range(valid):
                to[i * along + q * across] = source[q * width + i]


@helper
def run_length(g: P, strides: int, nz: int, ny: int, nx: int) -> int:
    """How many pixels of a box (nz, ny, nx) lie one stride along x apart, in order: a row, a plane, or the whole box."""
    if ny > 1 and nx * g[strides + 2] != g[strides + 1]:
        return nx
    return nx * ny if nz > 1 and ny * nx * g[strides + 2] != g[strides] else nx * ny * nz


@helper
def fill_strip(strip: P, source: P, g: P, n0: int, z0: int, y0: int, x0: int, nn: int, nz: int, ny: int, nx: int,
               channel: int, channels: int) -> None:  # fmt: skip
    """The part of the images that begins at pixel (n0, z0, y0, x0) and has nn*nz*ny*nx pixels, with zeros for padding."""
    view, to = at.SOURCE, at.STRIP
    along = g[view + VIEW.I + 2]
    start, end = window(x0, 1, 0, g[view + VIEW.SIZE + 2], nx)
    for n in range(nn):
        for z in range(nz):
            for y in range(ny):
                iz, iy = z0 + z, y0 + y
                inside = iz >= 0 and iz < g[view + VIEW.SIZE] and iy >= 0 and iy < g[view + VIEW.SIZE + 1]
                first, last = (start, end) if inside else (0, 0)
                row = offset(strip, n * g[to] + z * g[to + 2] + y * g[to + 3])
                pixel = (n0 + n) * g[view + VIEW.N] + channel * g[view + VIEW.C]
                pixel += iz * g[view + VIEW.I] + iy * g[view + VIEW.I + 1] + x0 * along
                if along == 1:
                    copy_rows(row, g[to + 1], offset(source, pixel), g[view + VIEW.C], channels, first, last, nx)
                else:
                    for r in range(channels):
                        for j in range(nx):
                            row[r * g[to + 1] + j] = zero(row)
                        for j in range(first, last):
                            row[r * g[to + 1] + j] = source[pixel + r * g[view + VIEW.C] + j * along]


@helper
def list_pixels(to: P, g: P, phase: int, nn: int, nz: int, ny: int, nx: int) -> int:
    """Append (offset in the image, number in the box) of the pixels of one phase of a box, and tell how many there are."""
    s = at.STRIP
    along_n, along_z = g[s], g[s + 2] * g[at.SOURCE + VIEW.STRIDE]
    along_y, along_x = g[s + 3] * g[at.SOURCE + VIEW.STRIDE + 1], g[s + 4] * g[at.SOURCE + VIEW.STRIDE + 2]
    count = 0
    for n in range(nn):
        for jz, z in enumerate(range(g[phase + PHASE.START], nz, g[at.STEP])):
            for jy, y in enumerate(range(g[phase + PHASE.START + 1], ny, g[at.STEP + 1])):
                place, number = n * along_n + jz * along_z + jy * along_y, ((n * nz + z) * ny + y) * nx
                for jx, x in enumerate(range(g[phase + PHASE.START + 2], nx, g[at.STEP + 2])):
                    to[2 * count], to[2 * count + 1] = place + jx * along_x, number + x
                    count += 1
    return count


@helper
def box(g: P, tile: int) -> tuple[int, int, int, int, int, int, int, int]:
    """Where tile begins on the axes n, z, y, x of the tiled grid, and how long it is."""
    x0 = tile % g[at.TILES + 3] * g[at.BOX + 3]
    tile = tile // g[at.TILES + 3]
    y0 = tile % g[at.TILES + 2] * g[at.BOX + 2]
    tile = tile // g[at.TILES + 2]
    z0, n0 = tile % g[at.TILES + 1] * g[at.BOX + 1], tile // g[at.TILES + 1] * g[at.BOX]
    nn, nz = min(g[at.BOX], g[at.GRID] - n0), min(g[at.BOX + 1], g[at.GRID + 1] - z0)
    ny, nx = min(g[at.BOX + 2], g[at.GRID + 2] - y0), min(g[at.BOX + 3], g[at.GRID + 3] - x0)
    return n0, z0, y0, x0, nn, nz, ny, nx


@helper
def seen(g: P, axis: int, start: int, n: int) -> tuple[int, int]:
    """The first image pixel, and how many, that n pixels of the tiled grid see along an axis."""
    first = start * g[at.SOURCE + VIEW.STRIDE + axis] // g[at.STEP + axis] + g[at.BASE + axis]
    return first, (ceil_div(n, g[at.STEP + axis]) - 1) * g[at.SOURCE + VIEW.STRIDE + axis] + g[at.REACH + axis]


@helper
def image_of(source: P, strip: P, g: P, channel: int, channels: int, n0: int, z0: int, y0: int, x0: int,
             nn: int, nz: int, ny: int, nx: int) -> P:  # fmt: skip
    """Where the first pixel that a box sees lies: in the array, or in the strip, filled with some channels."""
    (z, depth), (y, height), (x, width) = seen(g, 0, z0, nz), seen(g, 1, y0, ny), seen(g, 2, x0, nx)
    if g[at.IN_PLACE]:
        view = at.SOURCE
        pixel = z * g[view + VIEW.I] + y * g[view + VIEW.I + 1] + x * g[view + VIEW.I + 2]
        return offset(source, n0 * g[view + VIEW.N] + channel * g[view + VIEW.C] + pixel)
    fill_strip(strip, source, g, n0, z, y, x, nn, depth, height, width, channel, channels)
    return strip


@helper
def panel(g: P, p: int) -> tuple[int, int]:
    """The first vector of panel p and how many it has: as many as the others, or one less."""
    first = g[at.VECTORS] * p // g[at.PANELS]
    return first, g[at.VECTORS] * (p + 1) // g[at.PANELS] - first


# ------------------------------------------------------------------------------------------------- forward and inputs


def filters(first: int, last: int, thread: int, source: P, w: P, result: P, work: P, g: P) -> None:
    """Pack the filters; a task is one panel of result channels of one group, and rows are (channel r, kernel index k)."""
    lanes, taps, channels = g[at.LANES], g[at.N_TAPS], g[at.CHANNELS]
    for task in range(first, last):
        group, p = task // g[at.PANELS], task % g[at.PANELS]
        v0, vectors = panel(g, p)
        width, valid = vectors * lanes, g[at.ROWS] - v0 * lanes
        to = offset(work, group * g[at.GROUP] + v0 * g[at.VECTOR])
        a = offset(w, group * g[at.A_GROUP] + v0 * lanes * g[at.A_ROW])
        run = run_length(g, GEMM_IMAGES.TAP_STEP, g[at.KERNEL], g[at.KERNEL + 1], g[at.KERNEL + 2])
        if run == taps and g[at.A_CHANNEL] == run * g[GEMM_IMAGES.TAP_STEP + 2]:
            pack(to, width, a, g[at.A_ROW], valid, g[GEMM_IMAGES.TAP_STEP + 2], channels * run, lanes)
            continue
        for r in range(channels):
            for k in range(0, taps, run):
                y, z = k // g[at.KERNEL + 2] % g[at.KERNEL + 1], k // (g[at.KERNEL + 1] * g[at.KERNEL + 2])
                tap = offset(a, r * g[at.A_CHANNEL] + z * g[GEMM_IMAGES.TAP_STEP] + y * g[GEMM_IMAGES.TAP_STEP + 1])
                some = offset(to, (r * taps + k) * width)
                pack(some, width, tap, g[at.A_ROW], valid, g[GEMM_IMAGES.TAP_STEP + 2], run, lanes)


def images(first: int, last: int, thread: int, source: P, w: P, result: P, work: P, g: P) -> None:
    """The forward pass or the gradient with respect to inputs; a task is one box of pixels and some panels of channels."""
    lanes, taps = g[at.LANES], g[at.N_TAPS]
    mine = offset(work, g[at.SHARED] + thread * g[at.WORK])
    pixels, strip, sums = as_integers(mine), offset(mine, g[at.STRIP_AT]), offset(mine, g[at.SUMS_AT])
    tiles = g[at.TILES] * g[at.TILES + 1] * g[at.TILES + 2] * g[at.TILES + 3]
    blocks = ceil_div(g[at.PANELS], g[at.BLOCK])
    for task in range(first, last):
        p0, tile, group = task // tiles % blocks * g[at.BLOCK], task % tiles, task // (tiles * blocks)
        p1 = min(p0 + g[at.BLOCK], g[at.PANELS])
        n0, z0, y0, x0, nn, nz, ny, nx = box(g, tile)
        size, start = nn * nz * ny * nx, panel(g, p0)[0]
        for r0 in range(0, g[at.CHANNELS], g[at.CHANNEL_CHUNK]):
            channels = min(g[at.CHANNEL_CHUNK], g[at.CHANNELS] - r0)
            a = image_of(source, strip, g, group * g[at.CHANNELS] + r0, channels, n0, z0, y0, x0, nn, nz, ny, nx)
            for phase in range(GEMM_IMAGES.LENGTH, GEMM_IMAGES.LENGTH + g[at.N_PHASES] * PHASE.LENGTH, PHASE.LENGTH):
                n_pixels = list_pixels(pixels, g, phase, nn, nz, ny, nx)
                n_steps = channels * g[phase + PHASE.TAPS]
                for p in range(p0, p1):
                    v0, vectors = panel(g, p)
                    b = offset(work, group * g[at.GROUP] + v0 * g[at.VECTOR] + r0 * taps * vectors * lanes)
                    c = offset(sums, (v0 - start) * lanes * size)
                    for t0 in range(0, max(n_steps, 1), GEMM_DEPTH):
                        steps = offset(g, g[phase + PHASE.TAPS_AT] + 2 * t0)
                        multiply(a, pixels, n_pixels, steps, min(GEMM_DEPTH, n_steps - t0), b, c, vectors, r0 + t0)
        run = run_length(g, GEMM_IMAGES.RESULT_I, nz, ny, nx)
        for p in range(p0, p1):
            v0, vectors = panel(g, p)
            to = (group * g[at.ROWS] + v0 * lanes) * g[GEMM_IMAGES.RESULT_C]
            for q in range(0, size, run):
                n, z, y, x = q // (nz * ny * nx), q // (ny * nx) % nz, q // nx % ny, 0
                pixel = (n0 + n) * g[GEMM_IMAGES.RESULT_N] + (z0 + z) * g[GEMM_IMAGES.RESULT_I]
                pixel += (y0 + y) * g[GEMM_IMAGES.RESULT_I + 1] + (x0 + x) * g[GEMM_IMAGES.RESULT_I + 2]
                c = offset(sums, (v0 - start) * lanes * size + q * vectors * lanes)
                unpack(c, vectors * lanes, offset(result, to + pixel), g[GEMM_IMAGES.RESULT_C], g[at.ROWS] - v0 * lanes,
                       g[GEMM_IMAGES.RESULT_I + 2], run, lanes, g[GEMM_IMAGES.NON_TEMPORAL])  # fmt: skip


# ------------------------------------------------------------------------------------------- gradient with respect to w


@helper
def pack_pixels(to: P, width: int, y: P, g: P, channel: int, valid: int, n0: int, z0: int, y0: int, x0: int,
                nn: int, nz: int, ny: int, nx: int) -> None:  # fmt: skip
    """The pixels of a box of y as rows of `width` channels."""
    view = GEMM_WEIGHTS.PANEL_VIEW
    run = run_length(g, view + VIEW.I, nz, ny, nx)
    for q in range(0, nn * nz * ny * nx, run):
        n, z, j = q // (nz * ny * nx), q // (ny * nx) % nz, q // nx % ny
        pixel = (n0 + n) * g[view + VIEW.N] + channel * g[view + VIEW.C] + (z0 + z) * g[view + VIEW.I]
        pixel += (y0 + j) * g[view + VIEW.I + 1] + x0 * g[view + VIEW.I + 2]
        along, across = g[view + VIEW.C], g[view + VIEW.I + 2]
        pack(offset(to, q * width), width, offset(y, pixel), along, valid, across, run, g[at.LANES])


def weights(first: int, last: int, thread: int, x: P, w: P, y: P, work: P, g: P) -> None:
    """Sums for the gradient with respect to weights; a task is some taps, some panels of filters and a segment of pixels."""
    lanes, taps = g[at.LANES], g[at.N_TAPS]
    mine = offset(work, g[at.SHARED] + thread * g[at.WORK])
    pixels, strip, b = as_integers(mine), offset(mine, g[at.STRIP_AT]), offset(mine, g[at.SUMS_AT])
    tiles = g[at.TILES] * g[at.TILES + 1] * g[at.TILES + 2] * g[at.TILES + 3]
    p_blocks, c_blocks = ceil_div(g[at.PANELS], g[at.BLOCK]), ceil_div(g[at.CHANNELS], g[at.CHANNEL_CHUNK])
    for task in range(first, last):
        p0, c0 = task % p_blocks * g[at.BLOCK], task // p_blocks % c_blocks * g[at.CHANNEL_CHUNK]
        group, segment = task // (p_blocks * c_blocks) % g[at.GROUPS], task // (p_blocks * c_blocks * g[at.GROUPS])
        channels, p1 = min(g[at.CHANNEL_CHUNK], g[at.CHANNELS] - c0), min(p0 + g[at.BLOCK], g[at.PANELS])
        rows = offset(g, g[GEMM_WEIGHTS.LENGTH + PHASE.TAPS_AT])
        sums = offset(work, segment * g[at.SEGMENT] + group * g[at.GROUP])
        t0, t1 = tiles * segment // g[at.SEGMENTS], tiles * (segment + 1) // g[at.SEGMENTS]
        for tile in range(t0, t1):
            n0, z0, y0, x0, nn, nz, ny, nx = box(g, tile)
            a = image_of(x, strip, g, group * g[at.CHANNELS] + c0, channels, n0, z0, y0, x0, nn, nz, ny, nx)
            n_pixels = list_pixels(pixels, g, GEMM_WEIGHTS.LENGTH, nn, nz, ny, nx)
            for p in range(p0, p1):
                v0, vectors = panel(g, p)
                f, valid = group * g[at.ROWS] + v0 * lanes, g[at.ROWS] - v0 * lanes
                pack_pixels(b, vectors * lanes, y, g, f, valid, n0, z0, y0, x0, nn, nz, ny, nx)
                c = offset(sums, v0 * g[at.VECTOR] + c0 * taps * vectors * lanes)
                multiply(a, rows, channels * taps, pixels, n_pixels, b, c, vectors, tile - t0)


def finish(first: int, last: int, thread: int, x: P, w: P, y: P, work: P, g: P) -> None:
    """Add the segments' sums in order and store the weights; a task is one panel of filters of one group."""
    lanes, rows = g[at.LANES], g[at.CHANNELS] * g[at.N_TAPS]
    for task in range(first, last):
        group, p = task // g[at.PANELS], task % g[at.PANELS]
        v0, vectors = panel(g, p)
        width = vectors * lanes
        sums = offset(work, group * g[at.GROUP] + v0 * g[at.VECTOR])
        for segment in range(1, g[at.SEGMENTS]):
            more = offset(sums, segment * g[at.SEGMENT])
            for i in range(rows * width):
                sums[i] += more[i]
        to, valid = offset(w, group * g[at.A_GROUP] + v0 * lanes * g[at.A_ROW]), g[at.ROWS] - v0 * lanes
        unpack(sums, width, to, g[at.A_ROW], valid, g[at.A_CHANNEL], rows, lanes, 0)
