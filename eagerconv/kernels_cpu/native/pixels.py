"""Matrix products with pixels in the lanes: for so few result channels that channels would leave most lanes empty.

The forward pass and the gradient with respect to inputs as in gemm.py, with the two lists of offsets, of places and of taps,
but a place is a vector of neighbouring pixels of a row, and the filters are read one element at a time, where they lie. The
image is always read from a strip, which has room for whole vectors behind every row.
"""

from __future__ import annotations

from eagerconv.kernels_cpu.native.emit import emits, switch
from eagerconv.kernels_cpu.native.gemm import box, image_of
from eagerconv.kernels_cpu.native.loops import P, ceil_div, helper
from eagerconv.kernels_cpu.native.products import shifted_product
from eagerconv.kernels_cpu.native.simd import REGISTERS
from eagerconv.kernels_cpu.native.vector import as_integers, copy_rows, offset
from eagerconv.kernels_cpu.table import GEMM_IMAGES as at
from eagerconv.kernels_cpu.table import PHASE, VIEW

ROWS = 4
# Registers hold the sums, and for each row a factor; one is for the pixels. Eight vectors hide the latency of sums.
SPAN, SPAN_2, SPAN_3, SPAN_4 = SPANS = [min(8, (REGISTERS - 1 - rows) // rows) for rows in range(1, ROWS + 1)]
PRODUCT = emits(switch({rows: shifted_product(rows, span) for rows, span in enumerate(SPANS, 1)}))


@helper
def span(rows: int) -> int:
    """How many vectors one call multiplies with so many rows."""
    return SPAN if rows == 1 else SPAN_2 if rows == 2 else SPAN_3 if rows == 3 else SPAN_4


@helper
def multiply_rows(b: P, places: P, n_places: int, steps: P, n_steps: int, a: P, a_row: int, rows: int, c: P, c_row: int,
                  add: int) -> None:  # fmt: skip
    """c[i, m(j)] (+)= sum over t of a[i, q(t)] * b[p(j) + s(t)]: up to four rows at a time."""
    for i in range(0, rows, ROWS):
        ai, ci, count = offset(a, i * a_row), offset(c, i * c_row), min(ROWS, rows - i)
        j = 0
        while j < n_places:
            PRODUCT(count, b, offset(places, 2 * j), n_places - j, steps, n_steps, ai, a_row, ci, c_row, add)
            j += span(count)


@helper
def phase_size(g: P, phase: int, nz: int, ny: int, nx: int) -> tuple[int, int, int]:
    """How many pixels of a box belong to a phase along z, y and x."""
    return (
        max(0, ceil_div(nz - g[phase + PHASE.START], g[at.STEP])),
        max(0, ceil_div(ny - g[phase + PHASE.START + 1], g[at.STEP + 1])),
        max(0, ceil_div(nx - g[phase + PHASE.START + 2], g[at.STEP + 2])),
    )


@helper
def list_vectors(to: P, g: P, nn: int, cz: int, cy: int, cx: int) -> int:
    """List (offset in the strip, number) of the vectors of pixels of one phase, and tell how many there are."""
    count = 0
    for n in range(nn):
        for z in range(cz):
            for y in range(cy):
                row = n * g[at.STRIP] + z * g[at.SOURCE + VIEW.STRIDE] * g[at.STRIP + 2]
                row += y * g[at.SOURCE + VIEW.STRIDE + 1] * g[at.STRIP + 3]
                for x in range(0, cx, g[at.LANES]):
                    to[2 * count], to[2 * count + 1] = row + x, count
                    count += 1
    return count


@helper
def store_phase(sums: P, vectors: int, result: P, g: P, phase: int, nn: int, cz: int, cy: int, cx: int) -> None:
    """Store the sums of a phase of a box whose first pixel is `result`."""
    lanes, along = g[at.LANES], g[at.STEP + 2] * g[at.RESULT_I + 2]
    length = ceil_div(cx, lanes) * lanes
    for row in range(nn * cz * cy):
        n, z, y = row // (cz * cy), row // cy % cz, row % cy
        pixel = n * g[at.RESULT_N] + (g[phase + PHASE.START] + z * g[at.STEP]) * g[at.RESULT_I]
        pixel += (g[phase + PHASE.START + 1] + y * g[at.STEP + 1]) * g[at.RESULT_I + 1]
        to, a = offset(result, pixel + g[phase + PHASE.START + 2] * g[at.RESULT_I + 2]), offset(sums, row * length)
        if along == 1:
            copy_rows(to, g[at.RESULT_C], a, vectors * lanes, g[at.ROWS], 0, cx, cx)
        else:
            for m in range(g[at.ROWS]):
                for x in range(cx):
                    to[m * g[at.RESULT_C] + x * along] = a[m * vectors * lanes + x]


def images(first: int, last: int, thread: int, source: P, w: P, result: P, work: P, g: P) -> None:
    """A task is one box of pixels with all result channels of one group."""
    lanes, rows = g[at.LANES], g[at.ROWS]
    mine = offset(work, g[at.SHARED] + thread * g[at.WORK])
    places, strip, all_sums = as_integers(mine), offset(mine, g[at.STRIP_AT]), offset(mine, g[at.SUMS_AT])
    tiles = g[at.TILES] * g[at.TILES + 1] * g[at.TILES + 2] * g[at.TILES + 3]
    phases = range(at.LENGTH, at.LENGTH + g[at.N_PHASES] * PHASE.LENGTH, PHASE.LENGTH)
    for task in range(first, last):
        group, tile = task // tiles, task % tiles
        n0, z0, y0, x0, nn, nz, ny, nx = box(g, tile)
        to = n0 * g[at.RESULT_N] + group * rows * g[at.RESULT_C] + z0 * g[at.RESULT_I]
        to += y0 * g[at.RESULT_I + 1] + x0 * g[at.RESULT_I + 2]
        for r0 in range(0, g[at.CHANNELS], g[at.CHANNEL_CHUNK]):
            channels = min(g[at.CHANNEL_CHUNK], g[at.CHANNELS] - r0)
            b = image_of(source, strip, g, group * g[at.CHANNELS] + r0, channels, n0, z0, y0, x0, nn, nz, ny, nx)
            a = offset(w, group * g[at.A_GROUP] + r0 * g[at.A_CHANNEL])
            sums = all_sums
            for phase in phases:
                cz, cy, cx = phase_size(g, phase, nz, ny, nx)
                vectors = list_vectors(places, g, nn, cz, cy, cx)
                steps, n_steps = offset(g, g[phase + PHASE.TAPS_AT]), channels * g[phase + PHASE.TAPS]
                multiply_rows(b, places, vectors, steps, n_steps, a, g[at.A_ROW], rows, sums, vectors * lanes, r0)
                if r0 + channels == g[at.CHANNELS]:
                    store_phase(sums, vectors, offset(result, to), g, phase, nn, cz, cy, cx)
                sums = offset(sums, rows * vectors * lanes)
