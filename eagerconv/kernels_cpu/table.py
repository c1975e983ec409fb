"""Layouts of the int64 tables that kernels read: always three spatial axes (z, y, x), strides in elements."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import prod
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from eagerconv.spec import ConvSpec, Shape

STREAM_BYTES = 8 << 20
LINE = 64  # bytes


Fields = dict[str, int | Sequence[int]]


class Table(ModuleType):
    """The fields of one kind of table, in order, as "NAME" or "NAME:numbers": each is an attribute, its first place.

    "_" are places that this kind does not use. Behind the fields, from LENGTH on, may stand lists. The fields of
    `shared` are at the same places: what reads those alone serves this kind too. (A module, as Numba takes its attributes for
    constants.)
    """

    LENGTH: int

    def __init__(self, name: str, *fields: str, shared: Table | None = None) -> None:
        super().__init__(f"{name} table")
        self.fields: list[tuple[str, int]] = []
        self.names: set[str] = set()
        self.LENGTH = 0
        for field in " ".join(fields).split():
            name, _, size = field.partition(":")
            if name in self.names:
                raise ValueError(f"{self.__name__} has two fields {name}")
            self.fields.append((name, int(size or 1)))
            if name != "_":
                self.names.add(name)
                setattr(self, name, self.LENGTH)
            self.LENGTH += int(size or 1)
        if shared is None:
            return
        for name in shared.names:
            if getattr(self, name, None) != getattr(shared, name):
                raise ValueError(f"{self.__name__} has {name} not where {shared.__name__} has it")

    def pack(self, **values: int | Sequence[int]) -> list[int]:
        """A table of these values, one for each field."""
        if values.keys() != self.names:
            missing, unknown = self.names - values.keys(), values.keys() - self.names
            raise TypeError(f"{self.__name__}: no values for {sorted(missing)}, no fields for {sorted(unknown)}")
        table: list[int] = []
        for name, size in self.fields:
            value: Any = values[name] if name != "_" else (0,) * size if size > 1 else 0
            if size == 1:
                table.append(value)
            elif len(value) == size:
                table += value
            else:
                raise TypeError(f"{self.__name__}: {name} has {size} numbers, not {value}")
        return table


# A view of one array, read at j*STRIDE + tap.
VIEW = Table("view", "N C I:3 SIZE:3 STRIDE:3")

# -- direct: x[n, c, i], w[f, o, c, k], y[n, f, o]; W_O is 0 for shared filters, the same for every output position
DIRECT = Table(
    "direct",
    "BATCH GROUPS CIN COUT SIZE:3 KERNEL:3 OUT:3 STRIDE:3 STEP:3 ORIGIN:3",
    "X_N X_C X_I:3 W_F W_O:3 W_C W_K:3 Y_N Y_F Y_O:3",
)

# -- local: the table of direct as `middle` writes it, and behind it
LOCAL = Table(
    "local",
    " ".join(f"{name}:{size}" for name, size in DIRECT.fields),
    "POSITIONS IMAGES FILTERS",  # of one block of work: outputs along x, images, filters
    "CHANNELS RUNS TAPS",  # of one piece of a filter: channels, rows (kz, ky), columns kx
    "CLASSES LENGTH_OF_CLASS ROW",  # a row of an image, cut for the windows: residue classes, length of each, both
    "COMMON STRIDE_OF_RUNS PATCH PATCHES_AT WORK",
    "BLOCK SLAB",  # of one task of the gradient with respect to inputs: channels, rows along z
    shared=DIRECT,
)

# -- a product of filters with an image, SOURCE, seen from the result: ROWS of the result and CHANNELS of the sum, per group.
# Kinds that share kernels' helpers have what those read at the same places; between them stand the fields of their own.
PRODUCT = f"BATCH GROUPS ROWS CHANNELS A_GROUP A_ROW A_CHANNEL SOURCE:{VIEW.LENGTH}"
WEIGHTS = f"BATCH GROUPS CIN COUT _:3 X_VIEW:{VIEW.LENGTH}"  # as long as PRODUCT
NEITHER = f"BATCH GROUPS _:{5 + VIEW.LENGTH}"
# SHARED: elements of workspace in front of the threads' parts. NON_TEMPORAL: whether the result goes past the caches.

# -- gemm. For weights ROWS are the filters, CHANNELS those of x, which is SOURCE. Behind the table: phases, then their lists.
BOXES = (
    "GRID:4 BOX:4 TILES:4 "  # n, z, y, x: the tiled grid, a tile, how many tiles there are
    "STEP:3 BASE:3 REACH:3 "  # z, y, x: grid of a phase; first image pixel seen by the first of it, and how many
    "STRIP:5 IN_PLACE "  # n, c, z, y, x: from pixel to pixel of the strip, or of the image itself
    "VECTORS PANELS BLOCK "  # of the lanes' channels; panels of one task
    "GROUP VECTOR SEGMENT SEGMENTS "  # packed filters or sums: from group to group and so on
    "STRIP_AT SUMS_AT "  # in a thread's own workspace, whose beginning lists pixels
    "N_TAPS KERNEL:3"
)
GEMM = Table("gemm", PRODUCT, "_:7 SHARED _ LANES CHANNEL_CHUNK _:2 WORK _:2", BOXES, "_:8 N_PHASES")
GEMM_IMAGES = Table(
    "gemm of images",
    PRODUCT,
    "RESULT_N RESULT_C RESULT_I:3 _:2 SHARED _ LANES CHANNEL_CHUNK NON_TEMPORAL _ WORK _:2",
    BOXES,
    "TAP_STEP:3 _:5 N_PHASES",
    shared=GEMM,
)
GEMM_WEIGHTS = Table(
    "gemm of weights",
    PRODUCT,
    "_:7 SHARED _ LANES CHANNEL_CHUNK _:2 WORK _:2",
    BOXES,
    "_:3 PANEL_VIEW:5 N_PHASES",  # of y: a view without sizes and strides, which are not used
    shared=GEMM,
)
PHASE = Table("phase", "START:3 TAPS_AT TAPS")  # first grid pixel, its taps, how many for one channel

# -- panels. BLOCK pixels and PART panels of filters make a task; CHUNK channels are packed at once
PANELS = Table(
    "panels",
    "GROUPS ROWS DEPTH A_GROUP A_ROW A_CHANNEL",  # of filters: DEPTH channels are summed over
    "GRID:4 PIXELS PLANE SOURCE:4 SOURCE_C SOURCE_AT SOURCE_RUN",  # n, z, y, x; pixels in all images, in one, of one stride
    "RESULT_N RESULT_C NON_TEMPORAL",
    "SPREAD SIZE:3 STRIDE:3 FIRST:3",  # whether there are zeros between pixels of the result: pixel j is at FIRST + j*STRIDE
    "LANES BLOCK PART CHUNK FILTER_CHANNELS FILTER_PANELS PANELS PANEL GROUP SHARED WORK PACKED_AT SUMS_ROW",
)

# -- winograd: U filters, V sources, P products or transformed y, from group to group, block to block, frequency to frequency;
# V_BLOCK from one vector of channels, or tile, to the next
TRANSFORMED = "U_BLOCK U_XI V_GROUP V_BLOCK V_XI P_BLOCK P_XI"
GRID = "GRID_Y GRID_X BASE_Y BASE_X BACKWARDS SHARED TILES LANES"  # TILES: or rows of tiles, of one task
DEPTH = "DEPTH GRID_Z STEP_Z BASE_Z"  # taps along z; places of the result; source = place + tap*step + base
APART = "APART_Y APART_X"  # pixels between the taps of a filter: the dilation
WINOGRAD = Table("winograd", NEITHER, "_:2", GRID, "_:3 WORK _:13", TRANSFORMED, "_:6", DEPTH, "_:3", APART)
WINOGRAD_IMAGES = Table(
    "winograd of images",
    PRODUCT,
    "RESULT_N RESULT_C",
    GRID,
    "CHANNEL_CHUNK NON_TEMPORAL ROW_BLOCK WORK _:12 U_GROUP",
    TRANSFORMED,
    "_:6",
    DEPTH,
    "W_Z W_Y W_X",  # from tap to tap of a filter
    APART,
    shared=WINOGRAD,
)
WINOGRAD_WEIGHTS = Table(
    "winograd of weights",
    WEIGHTS,
    "FILTER _",
    GRID,
    f"_:3 WORK _ Y_VIEW:{VIEW.LENGTH} _",
    TRANSFORMED,
    "Z_START U_START CHANNEL_BLOCK FILTER_BLOCK PART PARTS",  # of one block of sums; tiles of one part, number of parts
    DEPTH,
    "_:3",
    APART,
    shared=WINOGRAD,
)

# -- dwm: fields of two numbers are of the axes (y, x). Behind the table: (place, count) of the terms of each range, block and
# frequency, then the terms.
AXES = (
    "SIZE:2 SHIFT:2 START:2 TILES:2 PIECES:2 "  # of the result; of its tiles; of the windows
    "IN:2 OUT:2 KERNEL:2 FIRST:2 DIRECTION:2 "  # strides of source and result; where taps are placed
    "LINES COLUMNS"  # of a task's tiles
)
SQUARE = (
    "WIDE GRID TAPS "  # the square of taps: its width, its vectors with all in front, where it begins
    "RUN_ON "  # whether the lines of a block go on in the next image
    "DEPTH EACH PLANES "  # taps along z; vectors of the source for each; planes of the result
    "Z_STRIDE Z_STEP Z_BASE"  # source = place*stride + tap*step + base
)
DWM = Table(
    "dwm", NEITHER, "_:7 SHARED _ LANES _:3 WORK _:12 U_GROUP", TRANSFORMED, "_:8", AXES,
    "_:2 PITCH _:2 VECTORS _ RANGE", SQUARE, "_",
)  # fmt: skip
DWM_IMAGES = Table(
    "dwm of images", PRODUCT, "RESULT_N RESULT_C _:5 SHARED _ LANES _ NON_TEMPORAL _ WORK _:12 U_GROUP", TRANSFORMED, "_:8",
    AXES, "LINE_BLOCKS COLUMN_BLOCKS PITCH BLOCKS WIDTH VECTORS TERM RANGE", SQUARE, "W_Z",  # from tap to tap of w along z
    shared=DWM,
)  # fmt: skip
DWM_WEIGHTS = Table(
    "dwm of weights", WEIGHTS, f"FILTER _:6 SHARED _ LANES _:3 WORK _ Y_VIEW:{VIEW.LENGTH} U_GROUP", TRANSFORMED,
    "Z_START U_START _:6", AXES, "_:2 PITCH _:2 VECTORS _ RANGE", SQUARE, "_",
    shared=DWM,
)  # fmt: skip

# -- rows. Behind the table: lists.
STRIPS = (
    "GRID:3 PHASES:3 TAP:3 Z:4 WORK "  # Z: multiply, step, origin, divide along z (native/rows.py)
    "STRIP_Y STRIP_X STRIPS_Y STRIPS_X "  # rows and columns of one strip; how many there are
    "PITCH PLANE SLAB FILL LOW_Y LOW_X "  # the padded source of a strip
    "SECOND_AT THIRD_AT FOURTH_AT DEPTH"  # parts of a thread's workspace behind the source
)
ROWS = Table("rows", PRODUCT, STRIPS, "_ COLUMNS LANES _:8 KERNEL:3 _")
ROWS_IMAGES = Table("rows of images", PRODUCT, STRIPS, "CHUNKS COLUMNS LANES _:8 KERNEL:3 NON_TEMPORAL", shared=ROWS)
ROWS_WEIGHTS = Table(
    "rows of weights",
    PRODUCT,
    STRIPS,
    "Y_SLAB COLUMNS LANES Y_N Y_F Y_O:3 TILES PLACES BLOCK KERNEL:3 _",
    shared=ROWS,
)

# -- rows, whole planes. Behind the table: taps, then masks. SOURCE, Y: strides of images, channels
PLANES = Table("planes", "BATCH GROUPS ROWS CHANNELS A_GROUP A_ROW A_CHANNEL", "SOURCE:2 Y:2 PIXELS LANES VECTORS TAPS")

# -- formulas: elements, and those of a piece; channels that pieces belong to in turn
FORMULA = Table("formula", "SIZE PIECE CHANNELS NON_TEMPORAL")

# -- softmax of (outer, length, inner); behind it the addresses of up to three arrays with one number for each row
SOFTMAX = Table("softmax", "LENGTH_OF_AXIS INNER")

# -- normalisation of (rows, groups, segments, size): addresses of arrays for each group, channel, or row and segment; eps as
# the bits of a double; groups of one task
NORMALISE = Table(
    "normalisation", "ROWS GROUPS SEGMENTS SIZE CHANNELS", "MEAN VARIANCE RSTD WEIGHT BIAS SUMS DOTS", "EPS RUN"
)

# -- reductions: numbers of a row, and of a piece; pieces of a row; rows, and channels that they belong to in turn
REDUCE = Table("reduction", "ROW PIECE PIECES ROWS CHANNELS")

# -- pooling: of two axes, as `functional.windows` names them; elements of a thread's workspace
POOLING = Table("pooling", "SIZE:2 OUT:2 EXTENT:2 STRIDE:2 DILATION:2 SHARE:2 PAD:2 WORK")

# -- copying: from pixel to pixel and image to image of the source; pixels of a task, and tasks of an image
COPYING = Table("copying", "CHANNELS PIXELS STEP IMAGE BLOCK BLOCKS LANES")

# -- conversion of 16-bit floats
CONVERT = Table("convert", "SIZE")


def three(values: Sequence[int], filler: int) -> tuple[int, ...]:
    """One or two axes as three, by leading axes of size 1 for which every stride and offset is harmless."""
    return (*(filler,) * (3 - len(values)), *values)


def direct_table(spec: ConvSpec, x: Shape, w: Shape, y: Shape) -> list[int]:
    """Geometry for `spec` and arrays with strides `x`, `w`, `y`."""
    return DIRECT.pack(**_geometry(spec, x, w, y))


def _geometry(spec: ConvSpec, x: Shape, w: Shape, y: Shape) -> Fields:
    w_out = w[1 : 1 + spec.ndim] if spec.unshared else (0,) * spec.ndim
    return {
        "BATCH": spec.batch, "GROUPS": spec.groups, "CIN": spec.cin, "COUT": spec.cout,
        "SIZE": three(spec.size, 1), "KERNEL": three(spec.kernel, 1), "OUT": three(spec.out, 1),
        "STRIDE": three(spec.stride, 1), "STEP": three(spec.step, 1), "ORIGIN": three(spec.origin, 0),
        "X_N": x[0], "X_C": x[1], "X_I": three(x[2:], 0),
        "W_F": w[0], "W_O": three(w_out, 0), "W_C": w[-spec.ndim - 1], "W_K": three(w[-spec.ndim :], 0),
        "Y_N": y[0], "Y_F": y[1], "Y_O": three(y[2:], 0),
    }  # fmt: skip


def middle(spec: ConvSpec, x: Shape, w: Shape, y: Shape) -> Fields:
    """The fields of direct with two axes seen as z and x, and one as x: so the first of several axes is always z."""
    if spec.ndim != 2:
        return _geometry(spec, x, w, y)

    def wider(values: Shape, filler: int) -> Shape:
        return (*values[:-1], filler, values[-1])

    sizes: dict[str, Any] = {
        name: wider(getattr(spec, name), 1) for name in ("size", "kernel", "out", "stride", "step")
    }
    w_out = wider(w[1:3], 0) if spec.unshared else ()
    w = (w[0], *w_out, w[-3], *wider(w[-2:], 0))
    return _geometry(replace(spec, **sizes, origin=wider(spec.origin, 0)), wider(x, 0), w, wider(y, 0))


def view(strides: Shape, size: Shape, stride: Shape) -> list[int]:
    """The fields of VIEW of an array with axes (n, c, *size) that is read at every stride-th position."""
    return VIEW.pack(N=strides[0], C=strides[1], I=three(strides[2:], 0), SIZE=three(size, 1), STRIDE=three(stride, 1))


def non_temporal(shape: Shape, dtype: np.dtype[Any]) -> int:
    """Whether a result (n, c, *pixels) goes past the caches, which it would fill: large ones whose planes are whole lines.

    The bits are the same. Without it every line is read before it is written, and takes the place of another one.
    """
    nbytes, line = prod(shape) * dtype.itemsize, LINE // dtype.itemsize
    return int(nbytes >= STREAM_BYTES and prod(shape[2:]) % line == 0)


def as_table(entries: Iterable[int]) -> npt.NDArray[np.int64]:
    """The entries as kernels read them."""
    return np.array(list(entries), dtype=np.int64)
