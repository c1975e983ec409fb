"""Unshared (locally connected) filters: every output position has its own, so time goes into reading them, once each.

A filter w[f, o] is one piece of memory, w[f, o, q] with q = (c, kz, ky, kx). With p[n, q] the window of image n that output
position o sees, the three contractions are

    y[n, f, o] = sum over q of p[n, q] * w[f, o, q]        w[f, o, q] = sum over n of y[n, f, o] * p[n, q]
    p[n, q] = sum over f of y[n, f, o] * w[f, o, q]        then every p[n, q] is added to its place in the image

all with vector lanes along q and w streamed through the registers. The patches p of a block of positions along x, and of a
block of images, are gathered into (or added up in) the thread's buffer in two steps. First every row of the image that the
windows touch is copied once, with zeros outside, in the order in which windows see it:

    x-index of output o0 + j, tap k:    i = i0 + j*stride + k*step = i0 + sign(step)*common * t,    t = j'*s + k*d

with s, d = stride/common, |step|/common; j' counts the positions from the other end if step < 0. All t of one residue modulo
d lie together (a *class*), so that a window's taps are neighbours: run j' starts at element j'*s // d of class j'*s % d.
Second, patches are made of these runs.
"""

from __future__ import annotations

from eagerconv.kernels_cpu.native.emit import emits, switch
from eagerconv.kernels_cpu.native.loops import P, ceil_div, clear, helper, window
from eagerconv.kernels_cpu.native.patches import (
    add_runs,
    copy_rows_reversed,
    copy_runs,
    dot_products,
    outer_sums,
    scaled_sums,
)
from eagerconv.kernels_cpu.native.simd import REGISTER_BYTES
from eagerconv.kernels_cpu.native.vector import copy_rows, element_bytes, offset, zero
from eagerconv.kernels_cpu.table import LOCAL as at

FILTERS, IMAGES = 4, 4  # of one microkernel; what remains is done one by one

HALF_BYTES = min(32, REGISTER_BYTES)
copy_short, copy_half, copy_long = copy_runs(16), copy_runs(HALF_BYTES), copy_runs(REGISTER_BYTES)
add_short, add_half, add_long = add_runs(16), add_runs(HALF_BYTES), add_runs(REGISTER_BYTES)
DOTS = emits(switch({f: switch({i: dot_products(f, i) for i in (IMAGES, 1)}) for f in (FILTERS, 1)}))
OUTER = emits(switch({FILTERS: outer_sums(FILTERS, 3), 1: outer_sums(1, 4)}))
SCALED = emits(switch({f: switch({IMAGES: scaled_sums(f, IMAGES, 2), 1: scaled_sums(f, 1, 4)}) for f in (FILTERS, 1)}))


# ------------------------------------------------------------------------------------------------------- rows of an image


@helper
def inside(base: int, step: int, first: int, last: int, limit: int) -> tuple[int, int]:
    """The indices k, 0 <= k < limit, with first <= base + k*step < last, step of either sign, as a half-open range."""
    start, end = (
        window(base, step, first, last, limit) if step > 0 else window(-base, -step, 1 - last, 1 - first, limit)
    )
    return start, end


@helper
def first_index(g: P, o0: int, positions: int, k0: int) -> int:
    """The x-index at which t = 0: that of the block's first position, or of its last if the filter is flipped."""
    step = g[at.STEP + 2]
    index: int = (o0 if step > 0 else o0 + positions - 1) * g[at.STRIDE + 2] + k0 * step + g[at.ORIGIN + 2]
    return index


@helper
def load_rows(rows: P, x: P, g: P, n0: int, images: int, c0: int, channels: int, r0: int, runs: int, oz: int, oy: int,
              i0: int, z0: int, z1: int) -> None:  # fmt: skip
    """rows[n, c, r, class, m] = x[n0 + n, c0 + c, iz, iy, i0 + class*.. + m*step], r0 + r = (kz, ky).

    Zero outside of the image and of z0 <= iz < z1.
    """
    length, row, step = g[at.LENGTH_OF_CLASS], g[at.ROW], g[at.STEP + 2]
    along = step * g[at.X_I + 2]
    between = g[at.COMMON] if step > 0 else -g[at.COMMON]
    # The longer of the two axes (images, channels) goes inside.
    swap = images > channels
    outer_n, inner_n = (channels, images) if swap else (images, channels)
    outer_to, inner_to = (runs * row, channels * runs * row) if swap else (channels * runs * row, runs * row)
    outer_x, inner_x = (g[at.X_C], g[at.X_N]) if swap else (g[at.X_N], g[at.X_C])
    for r in range(runs):
        kz, ky = (r0 + r) // g[at.KERNEL + 1], (r0 + r) % g[at.KERNEL + 1]
        iz = oz * g[at.STRIDE] + kz * g[at.STEP] + g[at.ORIGIN]
        iy = oy * g[at.STRIDE + 1] + ky * g[at.STEP + 1] + g[at.ORIGIN + 1]
        within = iz >= z0 and iz < z1 and iy >= 0 and iy < g[at.SIZE + 1]
        for part in range(g[at.CLASSES]):
            i = i0 + part * between
            start, end = inside(i, step, 0, g[at.SIZE + 2], length) if within else (0, 0)
            source = n0 * g[at.X_N] + c0 * g[at.X_C] + iz * g[at.X_I] + iy * g[at.X_I + 1] + i * g[at.X_I + 2]
            target = r * row + part * length
            for a in range(outer_n):
                to, pixel = offset(rows, target + a * outer_to), offset(x, source + a * outer_x)
                if along == 1:
                    copy_rows(to, inner_to, pixel, inner_x, inner_n, start, end, length)
                elif along == -1:
                    copy_rows_reversed(to, inner_to, pixel, inner_x, inner_n, start, end, length)
                else:
                    for b in range(inner_n):
                        for m in range(length):
                            to[b * inner_to + m] = zero(to)
                        for m in range(start, end):
                            to[b * inner_to + m] = pixel[b * inner_x + m * along]


@helper
def store_rows(rows: P, x: P, g: P, n0: int, images: int, c0: int, channels: int, r0: int, runs: int, oz: int,
               oy: int, i0: int, z0: int, z1: int) -> None:  # fmt: skip
    """The inverse of load_rows: what lies outside is dropped."""
    length, row, step = g[at.LENGTH_OF_CLASS], g[at.ROW], g[at.STEP + 2]
    along = step * g[at.X_I + 2]
    between = g[at.COMMON] if step > 0 else -g[at.COMMON]
    for r in range(runs):
        kz, ky = (r0 + r) // g[at.KERNEL + 1], (r0 + r) % g[at.KERNEL + 1]
        iz = oz * g[at.STRIDE] + kz * g[at.STEP] + g[at.ORIGIN]
        iy = oy * g[at.STRIDE + 1] + ky * g[at.STEP + 1] + g[at.ORIGIN + 1]
        if iz < z0 or iz >= z1 or iy < 0 or iy >= g[at.SIZE + 1]:
            continue
        for part in range(g[at.CLASSES]):
            i = i0 + part * between
            start, end = inside(i, step, 0, g[at.SIZE + 2], length)
            target = n0 * g[at.X_N] + c0 * g[at.X_C] + iz * g[at.X_I] + iy * g[at.X_I + 1] + i * g[at.X_I + 2]
            for n in range(images):
                to = offset(x, target + n * g[at.X_N])
                of = offset(rows, (n * channels * runs + r) * row + part * length)
                if along == 1:
                    copy_rows(offset(to, start), g[at.X_C], offset(of, start), runs * row, channels, 0, end - start,
                              end - start)  # fmt: skip
                elif along == -1:
                    copy_rows_reversed(offset(to, 1 - end), g[at.X_C], offset(of, end - 1), runs * row, channels, 0,
                                       end - start, end - start)  # fmt: skip
                else:
                    for c in range(channels):
                        for m in range(start, end):
                            to[c * g[at.X_C] + m * along] = of[c * runs * row + m]


@helper
def run_start(g: P, p: int, positions: int) -> int:
    """Where in a row of `rows` the run of the block's position p starts."""
    j: int = (p if g[at.STEP + 2] > 0 else positions - 1 - p) * g[at.STRIDE_OF_RUNS]
    classes = g[at.CLASSES]
    return j if classes == 1 else j % classes * g[at.LENGTH_OF_CLASS] + j // classes


# ---------------------------------------------------------------------------------------------------------------- patches


@helper
def gather_patches(patches: P, rows: P, x: P, g: P, n0: int, images: int, c0: int, channels: int, r0: int, runs: int,
                   k0: int, taps: int, oz: int, oy: int, o0: int, positions: int) -> None:  # fmt: skip
    """patches[p, n, q] = x[n0 + n] where position (oz, oy, o0 + p) sees it through piece q = (c, r, k) of its filter."""
    load_rows(rows, x, g, n0, images, c0, channels, r0, runs, oz, oy, first_index(g, o0, positions, k0), 0, g[at.SIZE])
    patch, row = g[at.PATCH], g[at.ROW]
    for n in range(images):  # outside: the rows of one image stay in the first-level cache
        for p in range(positions):
            to = offset(patches, (p * images + n) * patch)
            of = offset(rows, n * channels * runs * row + run_start(g, p, positions))
            if taps * element_bytes(to) <= 16:
                copy_short(to, of, row, channels * runs, taps)
            elif taps * element_bytes(to) <= HALF_BYTES:
                copy_half(to, of, row, channels * runs, taps)
            else:
                copy_long(to, of, row, channels * runs, taps)


@helper
def add_patches(patches: P, rows: P, x: P, g: P, n0: int, images: int, c0: int, channels: int, r0: int, runs: int,
                k0: int, taps: int, oz: int, oy: int, o0: int, positions: int, z0: int, z1: int) -> None:  # fmt: skip
    """The adjoint of gather_patches: x += patches for z0 <= iz < z1, position after position, whatever the blocks."""
    i0 = first_index(g, o0, positions, k0)
    load_rows(rows, x, g, n0, images, c0, channels, r0, runs, oz, oy, i0, z0, z1)
    patch, row = g[at.PATCH], g[at.ROW]
    for n in range(images):
        for p in range(positions):
            of = offset(patches, (p * images + n) * patch)
            to = offset(rows, n * channels * runs * row + run_start(g, p, positions))
            if taps * element_bytes(to) <= 16:
                add_short(to, row, of, channels * runs, taps)
            elif taps * element_bytes(to) <= HALF_BYTES:
                add_half(to, row, of, channels * runs, taps)
            else:
                add_long(to, row, of, channels * runs, taps)
    store_rows(rows, x, g, n0, images, c0, channels, r0, runs, oz, oy, i0, z0, z1)


# ---------------------------------------------------------------------------------------------------- blocks of products


@helper
def multiply_forward(y: P, w: P, patches: P, g: P, filters: int, images: int, positions: int, n: int, add: int) -> None:
    """y[i, f, p] (+)= sum over q < n of patches[p, i, q] * w[f, p, q]."""
    y_n, y_f, y_o, w_f, w_o = g[at.Y_N], g[at.Y_F], g[at.Y_O + 2], g[at.W_F], g[at.W_O + 2]
    patch = g[at.PATCH]
    f = 0
    while f < filters:
        some = FILTERS if filters - f >= FILTERS else 1
        for p in range(positions):
            filter_ = offset(w, f * w_f + p * w_o)
            i = 0
            while i < images:
                few = IMAGES if images - i >= IMAGES else 1
                seen = offset(patches, (p * images + i) * patch)
                to = offset(y, i * y_n + f * y_f + p * y_o)
                DOTS(some, few, filter_, w_f, seen, patch, n, to, y_f, y_n, add)
                i += few
        f += some


@helper
def multiply_weights(w: P, y: P, patches: P, g: P, filters: int, images: int, positions: int, n: int, add: int) -> None:
    """w[f, p, q] (+)= sum over i of y[i, f, p] * patches[p, i, q], q < n."""
    y_n, y_f, y_o, w_f, w_o = g[at.Y_N], g[at.Y_F], g[at.Y_O + 2], g[at.W_F], g[at.W_O + 2]
    patch = g[at.PATCH]
    f = 0
    while f < filters:
        some = FILTERS if filters - f >= FILTERS else 1
        for p in range(positions):
            of, seen = offset(y, f * y_f + p * y_o), offset(patches, p * images * patch)
            OUTER(some, of, y_f, y_n, seen, patch, images, n, offset(w, f * w_f + p * w_o), w_f, add)
        f += some


@helper
def multiply_inputs(patches: P, y: P, w: P, g: P, filters: int, images: int, positions: int, n: int) -> None:
    """patches[p, i, q] = sum over f of y[i, f, p] * w[f, p, q], q < n."""
    y_n, y_f, y_o, w_f, w_o = g[at.Y_N], g[at.Y_F], g[at.Y_O + 2], g[at.W_F], g[at.W_O + 2]
    patch = g[at.PATCH]
    f = 0
    while f < filters:
        some = FILTERS if filters - f >= FILTERS else 1
        for p in range(positions):
            filter_ = offset(w, f * w_f + p * w_o)
            i = 0
            while i < images:
                few = IMAGES if images - i >= IMAGES else 1
                of = offset(y, i * y_n + f * y_f + p * y_o)
                to = offset(patches, (p * images + i) * patch)
                SCALED(some, few, of, y_f, y_n, filter_, w_f, n, to, patch, f)
                i += few
        f += some


# ---------------------------------------------------------------------------------------------------------------- kernels


@helper
def forward_or_weights(first: int, last: int, thread: int, x: P, w: P, y: P, work: P, g: P, forward: bool) -> None:
    """A task is a block of positions along one row of the output, for a block of a group's filters.

    Pieces of a filter come outside, blocks of images inside: where images are many, the few filters of the task come from
    the cache for the later blocks. The length of a piece, which tells the order of additions, knows nothing of the batch.
    """
    rows = offset(work, thread * g[at.WORK])
    patches = offset(rows, g[at.PATCHES_AT])
    f_blocks, o_blocks = ceil_div(g[at.COUT], g[at.FILTERS]), ceil_div(g[at.OUT + 2], g[at.POSITIONS])
    all_runs, all_taps = g[at.KERNEL] * g[at.KERNEL + 1], g[at.KERNEL + 2]
    for task in range(first, last):
        f0, o0 = task % f_blocks * g[at.FILTERS], task // f_blocks % o_blocks * g[at.POSITIONS]
        line = task // (f_blocks * o_blocks)
        oy, oz, group = line % g[at.OUT + 1], line // g[at.OUT + 1] % g[at.OUT], line // (g[at.OUT + 1] * g[at.OUT])
        filters, positions = min(g[at.FILTERS], g[at.COUT] - f0), min(g[at.POSITIONS], g[at.OUT + 2] - o0)
        f0 += group * g[at.COUT]
        wo = f0 * g[at.W_F] + oz * g[at.W_O] + oy * g[at.W_O + 1] + o0 * g[at.W_O + 2]
        yo = f0 * g[at.Y_F] + oz * g[at.Y_O] + oy * g[at.Y_O + 1] + o0 * g[at.Y_O + 2]
        later_piece = 0
        for c0 in range(0, g[at.CIN], g[at.CHANNELS]):
            channels = min(g[at.CHANNELS], g[at.CIN] - c0)
            for r0 in range(0, all_runs, g[at.RUNS]):
                runs = min(g[at.RUNS], all_runs - r0)
                for k0 in range(0, all_taps, g[at.TAPS]):
                    taps = min(g[at.TAPS], all_taps - k0)
                    n, piece = channels * runs * taps, offset(w, wo + (c0 * all_runs + r0) * all_taps + k0)
                    for n0 in range(0, g[at.BATCH], g[at.IMAGES]):
                        images = min(g[at.IMAGES], g[at.BATCH] - n0)
                        gather_patches(patches, rows, x, g, n0, images, group * g[at.CIN] + c0, channels, r0, runs,
                                       k0, taps, oz, oy, o0, positions)  # fmt: skip
                        results = offset(y, yo + n0 * g[at.Y_N])
                        if forward:
                            multiply_forward(results, piece, patches, g, filters, images, positions, n, later_piece)
                        else:
                            multiply_weights(piece, results, patches, g, filters, images, positions, n, n0)
                    later_piece = 1


def forward(first: int, last: int, thread: int, x: P, w: P, y: P, work: P, g: P) -> None:
    """y[n, f, o] = sum over q of p[n, q] * w[f, o, q]."""
    forward_or_weights(first, last, thread, x, w, y, work, g, True)


def weights(first: int, last: int, thread: int, x: P, w: P, y: P, work: P, g: P) -> None:
    """w[f, o, q] = sum over n of y[n, f, o] * p[n, q]."""
    forward_or_weights(first, last, thread, x, w, y, work, g, False)


@helper
def inputs_row(rows: P, patches: P, x: P, w: P, y: P, g: P, group: int, first_channel: int, end_channel: int, oz: int,
               oy: int, z0: int, z1: int) -> None:  # fmt: skip
    """Add what one row of output positions gives to the channels named, for z0 <= iz < z1.

    Pieces come outside of blocks of positions: within a piece x-indices meet in the order of positions, whatever the
    blocks; and different (kz, ky) of one output row never meet.
    """
    all_runs, all_taps = g[at.KERNEL] * g[at.KERNEL + 1], g[at.KERNEL + 2]
    f0 = group * g[at.COUT]
    for c0 in range(first_channel, end_channel, g[at.CHANNELS]):
        channels = min(g[at.CHANNELS], end_channel - c0)
        for r0 in range(0, all_runs, g[at.RUNS]):
            runs = min(g[at.RUNS], all_runs - r0)
            for k0 in range(0, all_taps, g[at.TAPS]):
                taps = min(g[at.TAPS], all_taps - k0)
                n, piece = channels * runs * taps, (c0 * all_runs + r0) * all_taps + k0
                for o0 in range(0, g[at.OUT + 2], g[at.POSITIONS]):
                    positions = min(g[at.POSITIONS], g[at.OUT + 2] - o0)
                    wo = f0 * g[at.W_F] + oz * g[at.W_O] + oy * g[at.W_O + 1] + o0 * g[at.W_O + 2] + piece
                    yo = f0 * g[at.Y_F] + oz * g[at.Y_O] + oy * g[at.Y_O + 1] + o0 * g[at.Y_O + 2]
                    for n0 in range(0, g[at.BATCH], g[at.IMAGES]):
                        images = min(g[at.IMAGES], g[at.BATCH] - n0)
                        multiply_inputs(
                            patches, offset(y, yo + n0 * g[at.Y_N]), offset(w, wo), g, g[at.COUT], images, positions, n
                        )
                        add_patches(patches, rows, x, g, n0, images, group * g[at.CIN] + c0, channels, r0, runs, k0,
                                    taps, oz, oy, o0, positions, z0, z1)  # fmt: skip


def inputs(first: int, last: int, thread: int, x: P, w: P, y: P, work: P, g: P) -> None:
    """x[n, c, i] = sum of the p[n, q] that lie there; a task owns some channels of a group and a slab of rows along z.

    Tasks of different channels read different parts of the filters. At the border of two slabs both read the filters whose
    windows lie across it, and each keeps its own rows.
    """
    rows = offset(work, thread * g[at.WORK])
    patches = offset(rows, g[at.PATCHES_AT])
    slabs, blocks = ceil_div(g[at.SIZE], g[at.SLAB]), ceil_div(g[at.CIN], g[at.BLOCK])
    for task in range(first, last):
        z0, c0, group = task % slabs * g[at.SLAB], task // slabs % blocks * g[at.BLOCK], task // (slabs * blocks)
        z1, c1 = min(z0 + g[at.SLAB], g[at.SIZE]), min(c0 + g[at.BLOCK], g[at.CIN])
        for n in range(g[at.BATCH]):
            for c in range(group * g[at.CIN] + c0, group * g[at.CIN] + c1):
                plane = g[at.SIZE + 1] * g[at.SIZE + 2]
                clear(offset(x, n * g[at.X_N] + c * g[at.X_C] + z0 * plane), (z1 - z0) * plane)
        for oz in range(g[at.OUT]):
            base = oz * g[at.STRIDE] + g[at.ORIGIN]
            k0, k1 = inside(base, g[at.STEP], z0, z1, g[at.KERNEL])
            if k0 < k1:
                for oy in range(g[at.OUT + 1]):
                    inputs_row(rows, patches, x, w, y, g, group, c0, c1, oz, oy, z0, z1)
