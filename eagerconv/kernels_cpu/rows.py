"""The algorithm `rows`: padded strips of pixels times broadcast taps, for depthwise layers and few channels per group."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from eagerconv.kernels_cpu import planes
from eagerconv.kernels_cpu.blocks import HEIGHTS, LINES, VECTORS, tap_blocks
from eagerconv.kernels_cpu.jit import kernel
from eagerconv.kernels_cpu.table import ROWS_IMAGES, ROWS_WEIGHTS, Fields, as_table, non_temporal, three, view
from eagerconv.kernels_cpu.targets import lanes
from eagerconv.kernels_cpu.threads import Launch, worthwhile
from eagerconv.record import FEATURES, TYPICAL_BATCH, Algorithm, Plan, Request
from eagerconv.spec import ConvSpec, Shape, Slot, contiguous

STRIP = 1 << 15  # bytes of one task's padded source, at least some rows of it
COLUMNS = 4096  # of a strip, at most
TASKS = 16  # of one launch, at least, where there are rows enough
MOST_PHASES = 8  # of the stride along y and x
MOST_TAPS = 1024  # along y or x
MOST_WORK = 1 << 22  # bytes of one thread's workspace
FILTERS, FILTER_TASKS = 4, 8  # whose gradients one task computes, at most; and tasks, at least, where there are so many

# Measured on one AVX-512 core at 4 GHz: vectors loaded across cache lines, multiplied and broadcast; vectors copied; calls
# of a block; rows of a strip; tasks.
SECONDS_PER_LOAD, SECONDS_PER_FMA, SECONDS_PER_BROADCAST, SECONDS_PER_COPY = 0.4e-9, 0.14e-9, 0.12e-9, 0.8e-9
SECONDS_PER_BLOCK, SECONDS_PER_ROW, SECONDS_PER_TASK, SECONDS_PER_TAP = 6e-9, 1.5e-9, 60e-9, 0.4e-9
SECONDS_PER_CALL, SECONDS_PER_MOVED = 3e-6, 0.7e-9  # of a vector of images or results from memory or to it


@dataclass(frozen=True)
class Axis:
    """One axis, whose source pixel i = m*sources + t for the m-th result pixel of a phase and a tap (k, t) of its.

    Attributes
    ----------
    size, grid : int
        Pixels of the source and of the result.
    taps : tuple, for each phase of the result, of (k, t) in ascending order of t
    sources : int
        Phases of the source: the stride, or 1 for the gradient with respect to inputs.
    low, reach : int
        Of t // sources: the lowest, and how much higher the highest is.
    """

    size: int
    grid: int
    taps: tuple[tuple[tuple[int, int], ...], ...]
    sources: int
    low: int
    reach: int

    @property
    def phases(self) -> int:
        """Of the result."""
        return len(self.taps)

    @property
    def steps(self) -> int:
        """Result pixels of the first phase, which has the most."""
        return -(-self.grid // self.phases)

    @property
    def dense(self) -> bool:
        """Whether neighbouring taps read neighbouring pixels for neighbouring results."""
        (taps, *others) = self.taps
        return self.sources == 1 and not others and all(b[1] - a[1] == 1 for a, b in pairwise(taps))


def _axis(spec: ConvSpec, slot: Slot, axis: int) -> Axis:
    if axis < -spec.ndim:
        return Axis(1, 1, (((0, 0),),), 1, 0, 0)
    size, grid, stride, step, origin, kernel = (
        values[axis] for values in (spec.size, spec.out, spec.stride, spec.step, spec.origin, spec.kernel)
    )
    if slot == "x":  # o = m + (phase - k*step - origin) / stride, where that is whole
        size, grid = grid, size
        offsets = [[(k, phase - k * step - origin) for k in range(kernel)] for phase in range(stride)]
        taps = [[(k, t // stride) for k, t in some if t % stride == 0] for some in offsets]
        sources = 1
    else:
        taps, sources = [[(k, k * step + origin) for k in range(kernel)]], stride
    places = [t // sources for some in taps for _, t in some] or [0]
    ordered = tuple(tuple(sorted(some, key=lambda tap: tap[1])) for some in taps)
    return Axis(size, grid, ordered, sources, min(places), max(places) - min(places))


def _pieces(count: int, length: int) -> list[int]:
    """Where pieces of `length` of `count` things start; the last one overlaps the one before it rather than the end."""
    return [min(n, count - length) for n in range(0, count, max(1, length))]


@dataclass(frozen=True)
class Layout:
    """How strips are cut and laid out. Heights above 1 sum row by row, height 1 all rows of a strip as one."""

    y: Axis
    x: Axis
    height: int
    columns: int  # of a block of taps; for the gradient with respect to weights
    strip: tuple[int, int]
    strips: tuple[int, int]
    pitch: int
    fill: int  # rows of a phase
    plane: int  # elements of a phase
    slab: int  # elements of all phases
    parts: tuple[int, int, int, int]  # where the parts of a thread's workspace end


def _round(n: int, step: int) -> int:
    return -(-n // step) * step


@lru_cache(maxsize=1024)
def _layout(spec: ConvSpec, slot: Slot, dtype: np.dtype[Any], height: int, columns: int) -> Layout:
    y, x, n_lanes = _axis(spec, slot, -2), _axis(spec, slot, -1), lanes(dtype)
    depth = spec.kernel[-3] if spec.ndim == 3 else 1
    channels = spec.cout if slot == "x" else spec.cin
    slabs = 1 if slot == "w" else channels * depth
    blocks_of = n_lanes if height > 1 else 1
    budget = max(256, STRIP // dtype.itemsize // (slabs * y.sources * x.sources))  # elements of a phase
    across = -(-x.steps // max(min(COLUMNS, budget), 64))
    wide = -(-x.steps // across)
    pitch = _round(wide + x.reach, blocks_of)
    tasks = math.prod((spec.batch, spec.groups, *_axis_grid(spec, slot)[:-2], across))
    rows_fit = max(LINES, budget // pitch - y.reach)
    down = max(-(-y.steps // rows_fit), min(-(-y.steps // 8), -(-TASKS // tasks)))
    high = _round(-(-y.steps // down), LINES if height > 1 else 1)
    down = -(-y.steps // high)

    spare = (VECTORS + 1) * n_lanes
    fill = high + y.reach
    plane = fill * pitch
    slab = plane * y.sources * x.sources
    first = _round(slabs * slab + spare, 16)
    if slot == "w":
        filters = _filters(spec)
        second = first + filters * _round((high + 2 * (height - 1)) * pitch + spare, 16)
        tiles = _tiles(y, x, height, columns)
        third = second + filters * channels * depth * tiles * height * columns * n_lanes
        fourth = third
    else:
        chunks = -(-max(map(len, y.taps)) // height)
        second = first + _round(slabs * chunks * max(map(len, x.taps)) * height, 16)
        third = second + _round(x.phases * high * pitch + spare, 16)
        fourth = third + _round(2 * slabs * chunks * 8 // dtype.itemsize, 16)
    parts = (first, second, third, fourth)
    return Layout(y, x, height, columns, (high, wide), (down, across), pitch, fill, plane, slab, parts)


def _filters(spec: ConvSpec) -> int:
    """How many filters one task of the gradient with respect to weights computes: they share the padded images."""
    fits = (n for n in range(min(FILTERS, spec.cout), 1, -1) if spec.groups * -(-spec.cout // n) >= FILTER_TASKS)
    return next(fits, 1)


def _tiles(y: Axis, x: Axis, height: int, columns: int) -> int:
    """Blocks of taps."""
    if height == 1:
        return -(-len(y.taps[0]) * len(x.taps[0]) // columns)
    return -(-len(y.taps[0]) // height) * -(-len(x.taps[0]) // columns)


def _axis_grid(spec: ConvSpec, slot: Slot) -> Shape:
    return three(spec.size if slot == "x" else spec.out, 1)


def _common(request: Request, layout: Layout, w: Shape) -> Fields:
    """The fields that all kernels read, given the strides of w; forward and for the weights the source is x."""
    spec, slot, nd = request.spec, request.slot, request.spec.ndim
    inputs = slot == "x"
    rows, channels = (spec.cin, spec.cout) if inputs else (spec.cout, spec.cin)
    size = spec.out if inputs else spec.size
    row, channel = (w[1], w[0]) if inputs else (w[0], w[1])
    y, x = layout.y, layout.x
    z = (1, 0, 0, 1)  # multiply, step, origin, divide: forward iz = oz*stride + kz*step + origin
    if nd == 3:
        stride, step, origin = spec.stride[0], spec.step[0], spec.origin[0]
        z = (1, -step, -origin, stride) if inputs else (stride, step, origin, 1)
    (high, wide), (down, across) = layout.strip, layout.strips
    second, third, fourth, work = layout.parts
    return {
        "BATCH": spec.batch, "GROUPS": spec.groups, "ROWS": rows, "CHANNELS": channels,
        "A_GROUP": spec.cout * w[0], "A_ROW": row, "A_CHANNEL": channel, "TAP": three(w[2:], 0),
        "SOURCE": view(request.strides[0], size, (1, y.sources, x.sources)),
        "GRID": _axis_grid(spec, slot), "PHASES": (1, y.phases, x.phases), "Z": z,
        "STRIP_Y": high, "STRIP_X": wide, "STRIPS_Y": down, "STRIPS_X": across, "PITCH": layout.pitch,
        "PLANE": layout.plane, "SLAB": layout.slab, "FILL": layout.fill, "LOW_Y": y.low, "LOW_X": x.low,
        "SECOND_AT": second, "THIRD_AT": third, "FOURTH_AT": fourth, "WORK": work,
        "KERNEL": three(spec.kernel, 1), "DEPTH": three(spec.kernel, 1)[0], "LANES": lanes(request.dtype),
    }  # fmt: skip


def _place(layout: Layout, y: int, x: int) -> int:
    """Of source pixel (y, x), relative to the first result pixel, in the padded strip."""
    (u_y, phase_y), (u_x, phase_x) = divmod(y, layout.y.sources), divmod(x, layout.x.sources)
    phase = phase_x * layout.y.sources + phase_y
    return phase * layout.plane + (u_y - layout.y.low) * layout.pitch + u_x - layout.x.low


def _chunks(layout: Layout, taps: tuple[tuple[int, int], ...]) -> list[int]:
    """(place, row, first tap, step of the tap, taps that the chunk before it has already) of each chunk of taps along y."""
    entries = []
    x0 = layout.x.low * layout.x.sources
    for n, start in zip(range(0, len(taps), layout.height), _pieces(len(taps), layout.height), strict=True):
        k, t = taps[start]
        step = taps[start + 1][0] - k if layout.height > 1 else 0
        entries += [_place(layout, t, x0), t // layout.y.sources, k, step, n - start]
    return entries


def _images_plan(request: Request, threads: int) -> Plan:
    spec, slot, dtype = request.spec, request.slot, request.dtype
    layout = _layout(spec, slot, dtype, *_block(request))
    w = request.strides[1]
    y0 = layout.y.low * layout.y.sources
    columns = [[(_place(layout, y0, t), k) for k, t in taps] for taps in layout.x.taps]
    lists = [(5, _chunks(layout, taps)) for taps in layout.y.taps]
    lists += [(2, [entry for column in some for entry in column]) for some in columns]
    chunks = ROWS_IMAGES.LENGTH
    table = ROWS_IMAGES.pack(
        **_common(request, layout, w), CHUNKS=chunks, COLUMNS=chunks + 2 * layout.y.phases,
        NON_TEMPORAL=non_temporal(spec.shape(slot), dtype),
    )  # fmt: skip
    start = len(table) + 2 * len(lists)
    for length, entries in lists:
        table += [start, len(entries) // length]
        start += len(entries)
    for _, entries in lists:
        table += entries
    tasks = math.prod((spec.batch, spec.groups, _axis_grid(spec, slot)[0], *layout.strips))
    stage = (kernel(f"rows:images_{layout.height}", dtype), range(tasks))
    work = layout.parts[-1] * dtype.itemsize

    return Launch([stage], threads, work, as_table(table)).plan(spec.shape(slot), dtype)


def _weights_plan(request: Request, threads: int) -> Plan:
    spec, dtype = request.spec, request.dtype
    height, columns = _block(request)
    layout = _layout(spec, "w", dtype, height, columns)
    shape = spec.shape("w")
    y_taps, x_taps = layout.y.taps[0], layout.x.taps[0]
    y, filters = request.strides[1], _filters(spec)
    entries: list[int] = []
    tiles: list[tuple[tuple[int, ...], list[tuple[tuple[int, int], tuple[int, int]]]]]
    place = {}  # of the sums of each tap
    if height == 1:
        taps = [(ty, tx) for ty in y_taps for tx in x_taps]
        tiles = [((0,), taps[start : start + columns]) for start in _pieces(len(taps), columns)]
    else:
        low = layout.y.low
        tiles = [
            (tuple(range(s, s + height)), [((0, low), tx) for tx in x_taps[start : start + columns]])
            for s in _pieces(len(y_taps), height)
            for start in _pieces(len(x_taps), columns)
        ]
    for n, (rows, some) in enumerate(tiles):
        t = y_taps[rows[0]][1] if height > 1 else 0
        entries += [(t - layout.y.low) * layout.pitch if height > 1 else 0, t]
        entries += [_place(layout, ty[1], tx[1]) for ty, tx in some]
        for h, row in enumerate(rows):
            for k, (ty, tx) in enumerate(some):
                ky = y_taps[row][0] if height > 1 else ty[0]
                place[ky, tx[0]] = n * height * columns + h * columns + k
    behind = ROWS_WEIGHTS.LENGTH
    table = ROWS_WEIGHTS.pack(
        **_common(request, layout, contiguous(shape)), COLUMNS=behind, TILES=len(tiles), PLACES=behind + len(entries),
        Y_N=y[0], Y_F=y[1], Y_O=three(y[2:], 0), Y_SLAB=(layout.parts[1] - layout.parts[0]) // filters, BLOCK=filters,
    )  # fmt: skip
    table += [*entries, *(place[tap] for tap in sorted(place))]
    tasks = spec.groups * -(-spec.cout // filters)
    stage = (kernel(f"rows:weights_{height}_{columns}", dtype), range(tasks))

    return Launch([stage], threads, layout.parts[-1] * dtype.itemsize, as_table(table)).plan(shape, dtype, "w")


# ------------------------------------------------------------------------------------------------------ choices and cost


def _copies(layout: Layout, dtype: np.dtype[Any]) -> float:
    """Seconds to fill one slab of a strip."""
    rows = layout.fill * layout.y.sources * layout.x.sources
    return rows * (SECONDS_PER_ROW + -(-layout.pitch // lanes(dtype)) * SECONDS_PER_COPY)


def _images_seconds(spec: ConvSpec, slot: Slot, dtype: np.dtype[Any], height: int) -> float:
    """Of one thread, with blocks of this height."""
    layout = _layout(spec, slot, dtype, height, 1)
    depth = spec.kernel[-3] if spec.ndim == 3 else 1
    rows, channels = (spec.cin, spec.cout) if slot == "x" else (spec.cout, spec.cin)
    (high, wide), x, y = layout.strip, layout.x, layout.y
    taps = channels * depth * sum(map(len, x.taps))
    n_lanes = lanes(dtype)
    if height > 1:
        vectors, calls = -(-wide // n_lanes), -(-min(high, y.grid) // LINES)
        taps *= -(-len(y.taps[0]) // height)
        loads, products = (LINES + height - 1) * vectors, LINES * height * vectors
        per_tap = max(loads * SECONDS_PER_LOAD + height * SECONDS_PER_BROADCAST, products * SECONDS_PER_FMA)
        per_channel = calls * (taps * (per_tap + SECONDS_PER_TAP) + -(-vectors // VECTORS) * SECONDS_PER_BLOCK)
    else:
        vectors = -(-((high - 1) * layout.pitch + wide) // n_lanes)
        taps *= sum(map(len, y.taps))
        per_channel = taps * (vectors * SECONDS_PER_LOAD + -(-vectors // VECTORS) * SECONDS_PER_TAP)
        per_channel += -(-vectors // VECTORS) * SECONDS_PER_BLOCK
        out = y.phases * high * (SECONDS_PER_ROW + -(-wide * x.phases // n_lanes) * SECONDS_PER_COPY)
        per_channel += out * (1 if x.phases == 1 else 14) if high > 1 or x.phases > 1 else 0
    per_strip = rows * per_channel + channels * depth * _copies(layout, dtype) + SECONDS_PER_TASK
    return per_strip * math.prod((spec.batch, spec.groups, _axis_grid(spec, slot)[0], *layout.strips))


def _weights_seconds(spec: ConvSpec, dtype: np.dtype[Any], height: int, columns: int) -> float:
    layout = _layout(spec, "w", dtype, height, columns)
    depth = spec.kernel[-3] if spec.ndim == 3 else 1
    (high, wide), n_lanes = layout.strip, lanes(dtype)
    if height > 1:
        steps = (min(high, layout.y.grid) + height - 1) * -(-wide // n_lanes)
    else:
        steps = -(-((high - 1) * layout.pitch + wide) // n_lanes)
    per_step = max(columns * SECONDS_PER_LOAD + height * SECONDS_PER_LOAD / 2, height * columns * SECONDS_PER_FMA)
    per_tile = steps * per_step + height * columns * 2 * SECONDS_PER_FMA + SECONDS_PER_BLOCK
    pairs = spec.groups * spec.cin * spec.cout * depth
    strips = math.prod((spec.batch, _axis_grid(spec, "w")[0], *layout.strips))
    tiles = _tiles(layout.y, layout.x, height, columns)
    copies = _copies(layout, dtype) * (1 / _filters(spec) + 1 / (spec.cin * depth))
    return pairs * strips * (tiles * per_tile + copies) + pairs * math.prod(spec.kernel[-2:]) * 8e-9


def _block(request: Request) -> tuple[int, int]:
    """(height, columns) of the block of taps."""
    return _choice(replace(request.spec, batch=TYPICAL_BATCH), request.slot, request.dtype)[1:]


@lru_cache(maxsize=1024)
def _choice(spec: ConvSpec, slot: Slot, dtype: np.dtype[Any]) -> tuple[float, int, int]:
    """(seconds of one thread, height, columns) of the best block."""
    y, x = _axis(spec, slot, -2), _axis(spec, slot, -1)
    taps_y = len(y.taps[0])
    heights = [h for h in HEIGHTS if h == 1 or (y.dense and h <= taps_y)]
    if slot != "w":
        return min((_images_seconds(spec, slot, dtype, h), h, 1) for h in heights)
    most = {h: len(x.taps[0]) * (taps_y if h == 1 else 1) for h in heights}
    return min((_weights_seconds(spec, dtype, h, k), h, k) for h, k in tap_blocks() if k <= most.get(h, 0))


def _strips_refuse(request: Request) -> str | None:
    """Why strips can't serve, or None: by one image alone, as to how it is computed."""
    spec = request.spec
    if max(spec.stride[-2:]) > MOST_PHASES:
        return f"does not know strides above {MOST_PHASES} along the last two axes"
    if max(spec.kernel[-2:]) > MOST_TAPS:
        return f"does not know filters of more than {MOST_TAPS} rows or columns"
    given = request.strides if request.slot == "w" else request.strides[:1]
    if any(strides[-1] != 1 for strides in given):
        return "needs the pixels of a row next to each other"
    if _strips_work(request.contiguous(TYPICAL_BATCH, 1)) > MOST_WORK:
        return "would need too much workspace for that many channels, or so wide a window"
    return None


def _strips_work(request: Request) -> int:
    """Bytes of one thread."""
    layout = _layout(request.spec, request.slot, request.dtype, *_block(request))
    return layout.parts[-1] * request.dtype.itemsize


def _strips_seconds(request: Request) -> float:
    spec, slot, (height, columns) = request.spec, request.slot, _block(request)
    if slot == "w":
        tasks = spec.groups * -(-spec.cout // _filters(spec))
        seconds = _weights_seconds(spec, request.dtype, height, columns)
    else:
        layout = _layout(spec, slot, request.dtype, height, 1)
        tasks = math.prod((spec.batch, spec.groups, _axis_grid(spec, slot)[0], *layout.strips))
        seconds = _images_seconds(spec, slot, request.dtype, height)
    moved = sum(math.prod(spec.shape(s)) for s in ("x", "y")) / lanes(request.dtype) * SECONDS_PER_MOVED
    return (seconds + moved) / min(request.threads, tasks)


def _planes_seconds(request: Request) -> float:
    return planes.seconds(request) / min(request.threads, planes.tasks(request))


@lru_cache(maxsize=1024)
def _in_place(request: Request) -> bool:
    """Whether whole planes are read in place: by the image alone, so that nothing else changes its bits."""
    some = request.contiguous(TYPICAL_BATCH, 1)
    if not planes.suits(some):
        return False
    return _strips_refuse(some) is not None or _planes_seconds(some) < _strips_seconds(some)


def _refuses(request: Request) -> str | None:
    if not _in_place(request):
        return _strips_refuse(request)
    return None if planes.suits(request) else "needs the pixels of a plane next to each other"


def _workspace(request: Request) -> int:
    return 0 if _in_place(request) else _strips_work(request) * request.threads


@lru_cache(maxsize=1024)
def _cost(request: Request) -> float:
    return SECONDS_PER_CALL + (_planes_seconds(request) if _in_place(request) else _strips_seconds(request))


def _plan(request: Request) -> Plan:
    threads = worthwhile(request.threads, _cost(request) * request.threads)
    if _in_place(request):
        return planes.plan(request, threads)
    return _weights_plan(request, threads) if request.slot == "w" else _images_plan(request, threads)


ROWS = Algorithm(
    name="rows",
    features=FEATURES - {"unshared"},
    dtypes=frozenset({"float32", "float64"}),
    error=None,
    refuses=_refuses,
    workspace=_workspace,
    cost=_cost,
    plan=_plan,
)
