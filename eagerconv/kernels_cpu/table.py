"""Layouts of the int64 tables that kernels read: always three spatial axes (z, y, x), strides in elements."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from eagerconv.spec import ConvSpec, Shape

STREAM_BYTES = 8 << 20
LINE = 64  # bytes

# Every table begins so. An entry of three axes is at NAME + 0, 1, 2.
BATCH, GROUPS, CIN, COUT = 0, 1, 2, 3

# -- direct
SIZE, KERNEL, OUT, STRIDE, STEP, ORIGIN = 4, 7, 10, 13, 16, 19
X_N, X_C, X_I = 22, 23, 24  # x[n, c, i]
W_F, W_O, W_C, W_K = 27, 28, 31, 32  # w[f, o, c, k]; W_O is 0 for shared filters: the same for every output position
Y_N, Y_F, Y_O = 35, 36, 37  # y[n, f, o]

# -- local: the table of direct as `middle` writes it, and behind it
L_POSITIONS, L_IMAGES, L_FILTERS = 40, 41, 42  # of one block of work: outputs along x, images, filters
L_CHANNELS, L_RUNS, L_TAPS = 43, 44, 45  # of one piece of a filter: channels, rows (kz, ky), columns kx
L_CLASSES, L_LENGTH, L_ROW = 46, 47, 48  # a row of an image, cut for the windows: residue classes, length of each, both
L_COMMON, L_STRIDE, L_PATCH, L_PATCHES_AT, L_WORK = 49, 50, 51, 52, 53
L_BLOCK, L_SLAB = 54, 55  # of one task of the gradient with respect to inputs: channels, rows along z

# -- a view of one array, read at j*V_STRIDE + tap
V_N, V_C, V_I, V_SIZE, V_STRIDE = 0, 1, 2, 5, 8
V_LENGTH = 11

# -- gemm and others: a product of filters with an image, SOURCE, seen from the result
ROWS, CHANNELS = 2, 3  # of the result and of the sum, per group
A_GROUP, A_ROW, A_CHANNEL = 4, 5, 6
SOURCE = 7
RESULT_N, RESULT_C, RESULT_I = 18, 19, 20
LANES, CHANNEL_CHUNK, STREAM, ROW_BLOCK, WORK = 27, 28, 29, 30, 31  # STREAM: whether the result goes past the caches

# -- gemm itself. For weights ROWS are the filters, CHANNELS those of x, which is SOURCE.
G_GRID, G_BOX, G_TILES = 34, 38, 42  # n, z, y, x: the tiled grid, a tile, how many tiles there are
G_STEP, G_BASE, G_REACH = (
    46,
    49,
    52,
)  # z, y, x: grid of a phase; first image pixel seen by the first of it, and how many
G_STRIP, G_IN_PLACE = 55, 60  # n, c, z, y, x: from pixel to pixel of the strip, or of the image itself
G_VECTORS, G_PANELS, G_BLOCK = 61, 62, 63  # of the lanes' channels; panels of one task
G_GROUP, G_VECTOR, G_SEGMENT, G_SEGMENTS = 64, 65, 66, 67  # packed filters or sums: from group to group and so on
G_STRIP_AT, G_SUMS_AT = 68, 69  # in a thread's own workspace, whose beginning lists pixels
G_N_TAPS, G_KERNEL, G_TAP_STEP = 70, 71, 74  # taps; of w: kernel, strides of its axes
G_PANEL_VIEW = 77  # of y, for the gradient with respect to weights; its sizes and strides are not used
G_N_PHASES, G_PHASES = 82, 83
G_START, G_TAPS_AT, G_TAPS, G_LENGTH = 0, 3, 4, 5  # of a phase: first grid pixel, its taps, how many for one channel

# -- winograd: BATCH, GROUPS, LANES and WORK as above; ROWS, CHANNELS, A_*, SOURCE, RESULT_N and RESULT_C as in gemm; for
# weights CIN, COUT
X_VIEW, FILTER, Y_VIEW = 7, 18, 33
GRID_Y, GRID_X, BASE_Y, BASE_X, BACKWARDS = 20, 21, 22, 23, 24
SHARED, TILES = 25, 26  # elements of workspace in front of the threads' parts; tiles, or rows of tiles, of one task
U_GROUP, U_BLOCK, U_XI = 44, 45, 46  # filters: from group to group, result block to block, frequency to frequency
V_GROUP, V_BLOCK, V_XI = 47, 48, 49  # sources, likewise; V_BLOCK from one vector of channels, or tile, to the next
P_BLOCK, P_XI = 50, 51  # products, or transformed y
Z_START, U_START = 52, 53
CHANNEL_BLOCK, FILTER_BLOCK = 54, 55  # of one block of sums of the gradient with respect to weights
PART, PARTS = 56, 57  # tiles of one part, number of parts
DEPTH, GRID_Z, STEP_Z, BASE_Z = 58, 59, 60, 61  # taps along z; places of the result; source = place + tap*step + base
W_Z, W_Y, W_X = 62, 63, 64  # from tap to tap of a filter
APART_Y, APART_X = 65, 66  # pixels between the taps of a filter: the dilation
WINOGRAD_LENGTH = 67

# -- rows (BATCH, GROUPS, ROWS, CHANNELS, A_*, SOURCE and WORK as in gemm)
R_GRID, R_PHASES, R_TAP, R_Z = 18, 21, 24, 27  # R_Z: multiply, step, origin, divide along z (native/rows.py)
R_STRIP_Y, R_STRIP_X, R_STRIPS_Y, R_STRIPS_X = 32, 33, 34, 35  # rows and columns of one strip; how many there are
R_PITCH, R_PLANE, R_SLAB, R_FILL, R_LOW_Y, R_LOW_X = 36, 37, 38, 39, 40, 41  # the padded source of a strip
R_SECOND_AT, R_THIRD_AT, R_FOURTH_AT = 42, 43, 44  # parts of a thread's workspace behind the source
R_DEPTH, R_CHUNKS, R_COLUMNS, R_LANES = 45, 46, 47, 48
R_Y_N, R_Y_F, R_Y_O, R_TILES, R_PLACES, R_BLOCK, R_KERNEL = 49, 50, 51, 54, 55, 56, 57  # weights alone
R_STREAM = 60
ROWS_LENGTH = 61

# -- rows, whole planes (BATCH, GROUPS, ROWS, CHANNELS and A_* as above); behind the table: taps, then masks
N_SOURCE, N_Y, N_PIXELS, N_LANES, N_VECTORS, N_TAPS = 7, 9, 11, 12, 13, 14  # N_SOURCE, N_Y: strides of images, channels
PLANES_LENGTH = 15

# -- dwm (BATCH, GROUPS, ROWS, CHANNELS, A_*, SOURCE, RESULT_N, RESULT_C, SHARED, WORK, U_*, V_*, P_* and Z_START as in
# winograd; of CIN and COUT for weights). Entries of two axes (y, x) are at NAME + 0, 1.
D_SIZE, D_SHIFT, D_START, D_TILES, D_PIECES = 60, 62, 64, 66, 68  # of the result; of its tiles; of the windows
D_IN, D_OUT, D_KERNEL, D_FIRST, D_DIRECTION = 70, 72, 74, 76, 78  # strides of source and result; where taps are placed
D_LINES, D_COLUMNS, D_LINE_BLOCKS, D_COLUMN_BLOCKS, D_PITCH = 80, 81, 82, 83, 84  # of a task's tiles; lines of an image
D_BLOCKS, D_WIDTH, D_VECTORS, D_TERM, D_RANGE = 85, 86, 87, 88, 89
D_WIDE, D_GRID, D_TAPS = 90, 91, 92  # the square of taps: its width, its vectors with all in front, where it begins
D_RUN_ON = 93  # whether the lines of a block go on in the next image
D_DEPTH, D_EACH, D_PLANES = 94, 95, 96  # taps along z; vectors of the source for each; planes of the result
D_Z_STRIDE, D_Z_STEP, D_Z_BASE, D_W_Z = 97, 98, 99, 100  # source = place*stride + tap*step + base; from tap to tap of w
D_LISTS = 101  # (place, count) of the terms of each range, block and frequency, then the terms

# -- pointwise: elements, or rows; elements of a piece, or of a row; channels that rows belong to in turn
E_SIZE, E_PIECE, E_CHANNELS, E_STREAM = 0, 1, 2, 3

# -- pooling: of two axes; elements of a thread's workspace
M_SIZE, M_OUT, M_WINDOW, M_STRIDE, M_PAD, M_WORK = 0, 2, 4, 6, 8, 10


def three(values: Sequence[int], filler: int) -> tuple[int, ...]:
    """One or two axes as three, by leading axes of size 1 for which every stride and offset is harmless."""
    return (*(filler,) * (3 - len(values)), *values)


def direct_table(spec: ConvSpec, x: Shape, w: Shape, y: Shape) -> list[int]:
    """Geometry for `spec` and arrays with strides `x`, `w`, `y`."""
    entries = [spec.batch, spec.groups, spec.cin, spec.cout]
    for values in (spec.size, spec.kernel, spec.out, spec.stride, spec.step):
        entries += three(values, 1)
    entries += three(spec.origin, 0)
    w_out = w[1 : 1 + spec.ndim] if spec.unshared else (0,) * spec.ndim
    entries += [*x[:2], *three(x[2:], 0), w[0], *three(w_out, 0), w[-spec.ndim - 1], *three(w[-spec.ndim :], 0)]
    return [*entries, *y[:2], *three(y[2:], 0)]


def middle(spec: ConvSpec, x: Shape, w: Shape, y: Shape) -> list[int]:
    """The table of direct with two axes seen as z and x, and one as x: so the first of several axes is always z."""
    if spec.ndim != 2:
        return direct_table(spec, x, w, y)

    def wider(values: Shape, filler: int) -> Shape:
        return (*values[:-1], filler, values[-1])

    sizes: dict[str, Any] = {
        name: wider(getattr(spec, name), 1) for name in ("size", "kernel", "out", "stride", "step")
    }
    w_out = wider(w[1:3], 0) if spec.unshared else ()
    w = (w[0], *w_out, w[-3], *wider(w[-2:], 0))
    return direct_table(replace(spec, **sizes, origin=wider(spec.origin, 0)), wider(x, 0), w, wider(y, 0))


def view(strides: Shape, size: Shape, stride: Shape) -> list[int]:
    """A view entry of an array with axes (n, c, *size) that is read at every stride-th position."""
    return [*strides[:2], *three(strides[2:], 0), *three(size, 1), *three(stride, 1)]


def streams(shape: Shape, dtype: np.dtype[Any]) -> int:
    """Whether a result (n, c, *pixels) goes past the caches, which it would fill: large ones whose planes are whole lines.

    The bits are the same. Without it every line is read before it is written, and takes the place of another one.
    """
    nbytes, line = prod(shape) * dtype.itemsize, LINE // dtype.itemsize
    return int(nbytes >= STREAM_BYTES and prod(shape[2:]) % line == 0)


def as_table(entries: Iterable[int]) -> npt.NDArray[np.int64]:
    """The entries as kernels read them."""
    return np.array(list(entries), dtype=np.int64)
