"""Matrix products over gathered tiles: im2col happens in a small buffer per thread, never for the whole image.

`gather` computes both the forward pass and the gradient with respect to inputs, which differ only in who is gathered:

    result[n, m, start + j*result_step] = sum over channels r, taps t of  A[m, r, t] * source[n, r, j*stride + tap[t]]

For the forward pass the source is x, the taps are k*step + origin and the result is dense. For the gradient with respect to
inputs the source is y, and i = o*stride + k*step + origin is solved for o: the inputs of one residue class modulo the stride
(one *phase*) see only the taps whose i - k*step - origin the stride divides, and see them at stride 1. No zeros are inserted
and nothing is added into memory that another task writes.

`weights` is a product of rows: w[f, (c, k)] = sum over pixels (n, o) of y[f, pixel] * gathered x[(c, k), pixel].
"""

from __future__ import annotations

from typing import Any

from eagerconv.kernels_cpu import table as at
from eagerconv.kernels_cpu.native.direct import ceil_div, helper, window
from eagerconv.kernels_cpu.native.vector import (
    REGISTERS,
    copy_every_second,
    copy_rows,
    offset,
    outer_product,
    zero,
)

P = Any  # a pointer

ROWS, FEW_ROWS = (8, 4) if REGISTERS == 32 else (4, 2)

outer_wide, outer_few_wide, outer_one_wide = outer_product(ROWS, 3), outer_product(FEW_ROWS, 3), outer_product(1, 3)
outer_thin, outer_few_thin, outer_one_thin = outer_product(ROWS, 1), outer_product(FEW_ROWS, 1), outer_product(1, 1)


@helper
def gather_rows(
    to: P,
    to_row: int,
    source: P,
    g: P,
    view: int,
    grid_z: int,
    grid_y: int,
    grid_x: int,
    first: int,
    last: int,
    channel: int,
    channels: int,
    taps: P,
    n_taps: int,
) -> None:
    """to[(r, t), p - first] = source[n, channel + r, j*stride + tap[t]], 0 outside, for the pixels first <= p < last.

    p counts (n, jz, jy, jx). A run of pixels along jx is one masked vector copy for all channels at once.
    """
    stride = g[view + at.V_STRIDE + 2]
    along_x = stride * g[view + at.V_I + 2]
    p = first
    while p < last:
        x0, row = p % grid_x, p // grid_x
        y0, z0, n = row % grid_y, row // grid_y % grid_z, row // (grid_y * grid_z)
        run = min(grid_x - x0, last - p)
        for t in range(n_taps):
            iz = z0 * g[view + at.V_STRIDE] + taps[4 * t + 1]
            iy = y0 * g[view + at.V_STRIDE + 1] + taps[4 * t + 2]
            ix = x0 * stride + taps[4 * t + 3]
            start, end = 0, 0
            if iz >= 0 and iz < g[view + at.V_SIZE] and iy >= 0 and iy < g[view + at.V_SIZE + 1]:
                start, end = window(ix, stride, 0, g[view + at.V_SIZE + 2], run)
            pixel = n * g[view + at.V_N] + channel * g[view + at.V_C]
            pixel += iz * g[view + at.V_I] + iy * g[view + at.V_I + 1] + ix * g[view + at.V_I + 2]
            target = t * to_row + p - first
            if along_x == 1 or along_x == 2:
                to_t, a, step = offset(to, target), offset(source, pixel), g[view + at.V_C]
                if along_x == 1:
                    copy_rows(to_t, n_taps * to_row, a, step, channels, start, end, run)
                else:
                    copy_every_second(to_t, n_taps * to_row, a, step, channels, start, end, run)
            else:
                for r in range(channels):
                    for j in range(run):
                        to[target + r * n_taps * to_row + j] = zero(to)
                    for j in range(start, end):
                        to[target + r * n_taps * to_row + j] = source[pixel + r * g[view + at.V_C] + j * along_x]
        p += run


@helper
def multiply_panel(
    a: P,
    a_row: int,
    a_channel: int,
    taps: P,
    channels: int,
    n_taps: int,
    b: P,
    width: int,
    c: P,
    c_row: int,
    rows: int,
    valid: int,
    lanes: int,
    add: int,
) -> None:
    """c[i, j] (+)= sum of a[i, (r, t)] * b[(r, t), j]: cut the rows into the microkernels there are."""
    wide = valid > lanes
    i = 0
    while i < rows:
        ai, ci = offset(a, i * a_row), offset(c, i * c_row)
        if rows - i >= ROWS:
            if wide:
                outer_wide(ai, a_row, a_channel, taps, channels, n_taps, b, width, ci, c_row, valid, add)
            else:
                outer_thin(ai, a_row, a_channel, taps, channels, n_taps, b, width, ci, c_row, valid, add)
            i += ROWS
        elif rows - i >= FEW_ROWS:
            if wide:
                outer_few_wide(ai, a_row, a_channel, taps, channels, n_taps, b, width, ci, c_row, valid, add)
            else:
                outer_few_thin(ai, a_row, a_channel, taps, channels, n_taps, b, width, ci, c_row, valid, add)
            i += FEW_ROWS
        else:
            if wide:
                outer_one_wide(ai, a_row, a_channel, taps, channels, n_taps, b, width, ci, c_row, valid, add)
            else:
                outer_one_thin(ai, a_row, a_channel, taps, channels, n_taps, b, width, ci, c_row, valid, add)
            i += 1


@helper
def scatter_tile(tile: P, width: int, result: P, g: P, phase: int, first: int, last: int, base: int, rows: int) -> None:
    """result[base + m*channel stride + (start + j*result_step)] = tile[m, p - first] for the phase's pixels p."""
    grid_y, grid_x = g[phase + at.P_GRID + 1], g[phase + at.P_GRID + 2]
    p = first
    while p < last:
        x0, y0, z0 = p % grid_x, p // grid_x % grid_y, p // (grid_x * grid_y)
        run = min(grid_x - x0, last - p)
        start = base + (g[phase + at.P_START] + z0 * g[at.RESULT_STEP]) * g[at.RESULT_I]
        start += (g[phase + at.P_START + 1] + y0 * g[at.RESULT_STEP + 1]) * g[at.RESULT_I + 1]
        start += (g[phase + at.P_START + 2] + x0 * g[at.RESULT_STEP + 2]) * g[at.RESULT_I + 2]
        for m in range(rows):
            for j in range(run):
                result[start + m * g[at.RESULT_C] + j * g[at.RESULT_STEP + 2] * g[at.RESULT_I + 2]] = tile[
                    m * width + p - first + j
                ]
        p += run


def gather(first: int, last: int, thread: int, source: P, w: P, result: P, work: P, g: P) -> None:
    """The forward pass or the gradient with respect to inputs; a task is one panel of pixels for one block of channels."""
    width, lanes, in_place = g[at.WIDTH], g[at.LANES], g[at.IN_PLACE]
    panel = offset(work, thread * g[at.WORK])
    tile = offset(panel, g[at.CHANNEL_CHUNK] * g[at.TAP_CHUNK] * width)
    phase = at.PHASES
    for task in range(first, last):
        while task >= g[phase + at.P_TASKS]:
            phase += at.P_LENGTH
        grid_z, grid_y, grid_x = g[phase + at.P_GRID], g[phase + at.P_GRID + 1], g[phase + at.P_GRID + 2]
        pixels = grid_z * grid_y * grid_x
        n_taps = g[phase + at.P_TAPS]
        blocks, tiles = ceil_div(g[at.ROWS], g[at.ROW_BLOCK]), ceil_div(pixels, width)
        job = task - g[phase + at.P_FIRST_TASK]
        m0, p0 = job % blocks * g[at.ROW_BLOCK], job // blocks % tiles * width
        image = job // (blocks * tiles)
        n, group = image // g[at.GROUPS], image % g[at.GROUPS]
        rows, valid = min(g[at.ROW_BLOCK], g[at.ROWS] - m0), min(width, pixels - p0)
        base = n * g[at.RESULT_N] + (group * g[at.ROWS] + m0) * g[at.RESULT_C]
        c, c_row = (offset(result, base + p0), g[at.RESULT_C]) if in_place else (tile, width)
        add = 0
        for r0 in range(0, g[at.CHANNELS] if n_taps else 1, g[at.CHANNEL_CHUNK]):
            channels = min(g[at.CHANNEL_CHUNK], g[at.CHANNELS] - r0)
            for t0 in range(0, max(n_taps, 1), g[at.TAP_CHUNK]):
                some_taps = min(g[at.TAP_CHUNK], n_taps - t0)
                taps = offset(g, g[phase + at.P_TAPS_AT] + 4 * t0)
                gather_rows(
                    panel,
                    width,
                    source,
                    g,
                    at.SOURCE,
                    grid_z,
                    grid_y,
                    grid_x,
                    n * pixels + p0,
                    n * pixels + p0 + valid,
                    group * g[at.CHANNELS] + r0,
                    channels,
                    taps,
                    some_taps,
                )
                a = offset(w, group * g[at.A_GROUP] + m0 * g[at.A_ROW] + r0 * g[at.A_CHANNEL])
                multiply_panel(
                    a,
                    g[at.A_ROW],
                    g[at.A_CHANNEL],
                    taps,
                    channels,
                    some_taps,
                    panel,
                    width,
                    c,
                    c_row,
                    rows,
                    valid,
                    lanes,
                    add,
                )
                add = 1
        if not in_place:
            scatter_tile(tile, width, result, g, phase, p0, p0 + valid, base, rows)
