"""The algorithm `winograd_dwm`: strides and large filters with fewer multiplications, as sums of small filters.

Source: D. Huang et al., "DWM: a decomposable Winograd method for convolution acceleration", arXiv 2002.00552.
"""

from __future__ import annotations

import itertools
import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from eagerconv.kernels_cpu import table as at
from eagerconv.kernels_cpu.blocks import DWM_FEW_ROWS, DWM_FORMS, DWM_ROWS
from eagerconv.kernels_cpu.cooktoom import Matrix, form
from eagerconv.kernels_cpu.direct import contiguous
from eagerconv.kernels_cpu.gemm import lanes
from eagerconv.kernels_cpu.jit import kernel
from eagerconv.kernels_cpu.table import as_table, streams, view
from eagerconv.kernels_cpu.threads import Launch
from eagerconv.record import Algorithm, Plan, Request
from eagerconv.spec import ConvSpec, Shape

PIECES = (4, 4)
"""The F(m, r) in use: r taps for the longest phase of the filter, and F(4, 4) for the pieces of longer ones."""

ERROR = {2: 60.0, 3: 120.0, 4: 200.0, 5: 220.0}
"""Units in the last place of max|a| * sum|b|, by r, by which a result may be wrong beyond what summing directly costs.

Found by search over random, sparse, one-signed, alternating and widely scaled operands (tests/test_dwm.py repeats it).
"""

WINDOWS = 28  # windows of one task where filters have one piece
LINES = 8  # of windows of one task, where there are several pieces
FEW_WINDOWS = 160
FILTERS_BYTES = (
    2 << 20
)  # transformed filters of more than this meet few windows in parts, of this many vectors of channels
PART = 4
SHARED_BYTES = 6 << 20  # of transformed windows held at once for the gradient with respect to weights
LEAST_WINDOWS = 128  # but at least so many, over which the sums of a filter stay in registers
FEW_BLOCKS = 4  # of two vectors of filters that one task sums
PARTS, PART_BYTES = 16, 512 << 10  # of the lines, where the sums of all filters fit the second-level cache


class Axis(NamedTuple):
    """One axis: pieces, strides of source and result, tiles, and where everything begins.

    Window j begins at source[start + j*m*source_stride], tile j at result[shift + j*m*result_stride]; filter tap k stands
    at first + k*direction of `places` places, of which every stride-th belongs to the same phase.
    """

    pieces: int
    places: int
    source_stride: int
    result_stride: int
    tiles: int
    start: int
    shift: int
    first: int
    direction: int


class Scheme(NamedTuple):
    """How one contraction is decomposed: by F(m, r) along both axes."""

    m: int
    r: int
    axes: tuple[Axis, Axis]


def taps_of(spec: ConvSpec) -> tuple[int, ...]:
    """Taps of the longest phase of the filter, per axis."""
    return tuple(-(-k // s) for k, s in zip(spec.kernel, spec.stride, strict=True))


def _forward_axis(spec: ConvSpec, axis: int, m: int, r: int) -> Axis:
    """The axis of the forward pass and of the gradient with respect to weights.

    The taps in the order of their offsets, t = 0, 1..., lie at i = o*s + t + base: t = q + s*u is tap u of phase q.
    """
    k, s, step = spec.kernel[axis], spec.stride[axis], spec.step[axis]
    pieces = -(-taps_of(spec)[axis] // r)
    base, tiles = spec.origin[axis] + min(0, (k - 1) * step), -(-spec.out[axis] // m)
    return Axis(pieces, s * r * pieces, s, 1, tiles, base, 0, 0 if step > 0 else k - 1, 1 if step > 0 else -1)


def _inputs_axes(spec: ConvSpec, axis: int, m: int, r: int) -> list[Axis]:
    """The axis of the gradient with respect to inputs, in all ways of choosing where the filter begins.

    The filter is read backwards: tap t, at i = o*s + t + base, stands at place e - t = s*b + s - 1 - p, for any e that leaves
    all taps a place. With o = j + start + b that gives i = j*s + p + shift, shift = base + e - s + 1 + s*start: tap b of phase
    p of the result. `start` brings the first tile to the edge of the image.
    """
    k, s, step = spec.kernel[axis], spec.stride[axis], spec.step[axis]
    base, pieces = spec.origin[axis] + min(0, (k - 1) * step), -(-taps_of(spec)[axis] // r)
    places = s * r * pieces
    axes = []
    for end in range(k - 1, places):
        start, shift = divmod(-(base + end - s + 1), s)
        tiles = -(-(spec.size[axis] + shift) // (s * m))
        first = end if step > 0 else end - k + 1
        axes.append(Axis(pieces, places, 1, s, tiles, start, -shift, first, -1 if step > 0 else 1))
    return axes


@lru_cache(maxsize=1024)
def scheme_of(spec: ConvSpec, forward: bool) -> Scheme:
    """The decomposition with the fewest products.

    Where the windows of the phases of a result do not agree, one tap more may save a tile.
    """
    longest = max(taps_of(spec))
    forms = [f for f in DWM_FORMS if longest <= f[1] <= longest + (not forward)] or [PIECES]
    if forward:
        m, r = forms[0]
        return Scheme(m, r, (_forward_axis(spec, 0, m, r), _forward_axis(spec, 1, m, r)))
    schemes = []
    for m, r in forms:
        filters = form(m, r).filter

        def products(axis: Axis, k: int, filters: Matrix = filters) -> int:
            return axis.tiles * sum(sum(some) for phase in _needed(filters, k, axis) for some in phase)

        best = [min((products(axis, spec.kernel[i]), axis) for axis in _inputs_axes(spec, i, m, r)) for i in range(2)]
        schemes.append((best[0][0] * best[1][0], Scheme(m, r, (best[0][1], best[1][1]))))
    return min(schemes)[1]


def _scheme(request: Request) -> Scheme:
    return scheme_of(request.spec, request.slot != "x")


def _roles(request: Request) -> tuple[int, int]:
    """(rows, channels): the channels of the result and of the source, per group."""
    spec = request.spec
    return (spec.cin, spec.cout) if request.slot == "x" else (spec.cout, spec.cin)


class Layout(NamedTuple):
    """Sizes and distances of one plan."""

    first: bool  # of the two ways to divide the work, the one that the kernels' names begin with
    entries: dict[int, int]
    rounds: int  # of the terms, or of the lines
    tasks: tuple[int, int]  # of the two kernels


def source_vectors(channels: int, phases: int, n_lanes: int) -> int:
    """Vectors that channels and phases fill: one per phase for `lanes` channels, the rest one after the other."""
    return channels // n_lanes * phases + -(-(channels % n_lanes) * phases // n_lanes)


def _round(value: int, unit: int) -> int:
    return -(-value // unit) * unit


@lru_cache(maxsize=256)
def _layout(request: Request) -> Layout:
    spec, n_lanes = request.spec, lanes(request.dtype)
    (m, r, (ay, ax)), (rows, channels) = _scheme(request), _roles(request)
    n = m + r - 1
    in_phases, out_phases = ay.source_stride * ax.source_stride, ay.result_stride * ax.result_stride
    vectors, chunks = source_vectors(channels, in_phases, n_lanes), -(-rows // n_lanes)
    pieces, halves = ay.pieces * ax.pieces, min(2, chunks)
    pairs, width = -(-chunks // halves), halves * n_lanes
    halo, side, gap = ay.pieces - 1, ax.pieces - 1, n_lanes
    term = n_lanes * width
    grid = ay.places * ax.places
    taps_at = _round(math.prod(spec.kernel), n_lanes) * n_lanes
    taps = taps_at + grid * n_lanes

    u_bytes = n * n * pairs * out_phases * vectors * pieces * term * request.dtype.itemsize
    cut = u_bytes > FILTERS_BYTES and spec.batch * ay.tiles * ax.tiles <= FEW_WINDOWS
    if cut:
        lines, columns, pitch = spec.batch * (ay.tiles + halo), ax.tiles, ay.tiles + halo
        part = _round(PART, in_phases)
    else:
        column_blocks = -(-ax.tiles // WINDOWS)
        columns = -(-ax.tiles // column_blocks)
        lines = max(1, WINDOWS // columns) if ay.pieces == 1 else LINES
        lines = min(lines, ay.tiles * (spec.batch if ay.pieces == 1 else 1))
        pitch = ay.tiles if ay.pieces == 1 else _round(ay.tiles, lines)
        part = vectors
    wide = columns + side
    windows = _round(lines * wide, DWM_ROWS)
    v_block = (windows + halo * wide + side) * n_lanes
    v_xi, p_block = vectors * v_block + gap, windows * width
    pixels = _round((wide - 1) * m + n, n_lanes)
    strip = (n + 1) * pixels * n_lanes + n_lanes * n_lanes
    strip = max(strip, (columns * m * out_phases * m + n_lanes) * n_lanes, taps)
    if cut:
        u_block = part * pieces * term
        u_xi, p_xi = out_phases * u_block + gap, out_phases * p_block + gap
        shared, work = spec.groups * n * n * v_xi, n * n * (u_xi + p_xi) + strip
        tasks = (lines * spec.groups * vectors, spec.groups * pairs)
    else:
        u_block = vectors * pieces * term
        u_xi, p_xi = pairs * out_phases * u_block + gap, pairs * out_phases * p_block + gap
        shared, work = spec.groups * n * n * u_xi, n * n * (v_xi + p_xi) + strip
        line_blocks = -(-spec.batch * pitch // lines)
        tasks = (spec.groups * chunks, spec.groups * line_blocks * column_blocks)
    entries = {
        at.LANES: n_lanes, at.SHARED: shared, at.WORK: work,
        at.U_GROUP: n * n * u_xi, at.U_BLOCK: u_block, at.U_XI: u_xi,
        at.V_GROUP: n * n * v_xi, at.V_BLOCK: v_block, at.V_XI: v_xi, at.P_BLOCK: p_block, at.P_XI: p_xi,
        at.D_LINES: lines, at.D_COLUMNS: columns, at.D_PITCH: pitch, at.D_RUN_ON: int(cut or ay.pieces == 1),
        at.D_LINE_BLOCKS: 1 if cut else line_blocks, at.D_COLUMN_BLOCKS: 1 if cut else column_blocks,
        at.D_BLOCKS: pairs * out_phases, at.D_WIDTH: width, at.D_VECTORS: vectors, at.D_TERM: term, at.D_RANGE: part,
        at.D_WIDE: ax.places, at.D_GRID: taps // n_lanes, at.D_TAPS: taps_at,
    }  # fmt: skip
    return Layout(cut, entries, -(-vectors // part), tasks)


def _phases_of(vector: int, channels: int, phases: int, n_lanes: int) -> range:
    """The phases that have channels in a vector of the source."""
    chunk, place = divmod(vector, phases)
    per_phase = min(n_lanes, channels - chunk * n_lanes)
    end = min((place + 1) * n_lanes, per_phase * phases)
    return range(place * n_lanes // per_phase, -(-end // per_phase))


def _needed(filters: Matrix, kernel_size: int, axis: Axis) -> list[list[list[bool]]]:
    """[phase][piece][frequency]: whether the transformed piece of a phase of the filter can be anything but zero there."""
    r, stride = len(filters[0]), axis.source_stride * axis.result_stride
    taken = {axis.first + k * axis.direction for k in range(kernel_size)}
    taps = [
        [[b for b in range(r) if phase + stride * (r * piece + b) in taken] for piece in range(axis.pieces)]
        for phase in range(stride)
    ]
    return [[[any(row[b] for b in some) for row in filters] for some in piece] for piece in taps]


class Term(NamedTuple):
    """One term of the sums over products: a vector of the source and a piece, whose windows lie `ahead` of the tiles."""

    vector: int
    piece: int
    ahead: int


def _terms(request: Request, vectors: range, result_phase: int, wide: int) -> list[list[Term]]:
    """The terms of the sum at each frequency, for one phase of the result; lines of windows are `wide` windows long."""
    spec, n_lanes = request.spec, lanes(request.dtype)
    (m, r, axes), (_, channels) = _scheme(request), _roles(request)
    ay, ax = axes
    filters = form(m, r).filter
    need_y, need_x = (_needed(filters, k, axis) for k, axis in zip(spec.kernel, axes, strict=True))
    place = divmod(result_phase, ax.result_stride)
    py, px = (a.result_stride - 1 - p for a, p in zip(axes, place, strict=True))  # read backwards
    in_phases = ay.source_stride * ax.source_stride
    phases = [[divmod(q, ax.source_stride) for q in _phases_of(v, channels, in_phases, n_lanes)] for v in vectors]
    pieces = list(itertools.product(range(ay.pieces), range(ax.pieces)))
    return [
        [
            Term(vector, i * ax.pieces + j, i * wide + j)
            for vector, some in zip(vectors, phases, strict=True)
            for i, j in pieces
            if any(need_y[qy + py][i][xi] and need_x[qx + px][j][xj] for qy, qx in some)
        ]
        for xi, xj in itertools.product(range(len(filters)), repeat=2)
    ]


def _with_lists(table: list[int], lists: list[list[tuple[int, int]]]) -> list[int]:
    """The table with the (place, count) of each list behind it, and then the lists, equal ones once."""
    index: list[int] = []
    tail: list[int] = []
    places: dict[tuple[tuple[int, int], ...], int] = {}
    begin = len(table) + 2 * len(lists)
    for terms in map(tuple, lists):
        if terms not in places:
            places[terms] = begin + len(tail)
            tail += [value for term in terms for value in term]
        index += [places[terms], len(terms)]
    return table + index + tail


def _images_plan(request: Request) -> Plan:
    """The forward pass or the gradient with respect to inputs."""
    spec, dtype = request.spec, request.dtype
    (m, r, axes), (rows, channels) = _scheme(request), _roles(request)
    forward = request.slot == "y"
    source, w = request.strides
    layout = _layout(request)
    row, channel = (w[0], w[1]) if forward else (w[1], w[0])
    table = [0] * at.D_LISTS
    table[: at.A_CHANNEL + 1] = [spec.batch, spec.groups, rows, channels, spec.cout * w[0], row, channel]
    table[at.SOURCE : at.SOURCE + at.V_LENGTH] = view(source, spec.size if forward else spec.out, (1, 1))
    result_shape = spec.shape(request.slot)
    table[at.RESULT_N : at.RESULT_C + 1] = contiguous(result_shape)[:2]
    _set_axes(table, spec, axes, result_shape[2:])
    for entry, value in (layout.entries | {at.STREAM: streams(result_shape, dtype)}).items():
        table[entry] = value

    v_block, term, n_lanes, part = (table[i] for i in (at.V_BLOCK, at.D_TERM, at.LANES, at.D_RANGE))
    wide, pieces = table[at.D_COLUMNS] + axes[1].pieces - 1, axes[0].pieces * axes[1].pieces
    lists = [
        [(t.vector * v_block + t.ahead * n_lanes, ((t.vector - first) * pieces + t.piece) * term) for t in terms]
        for first in range(0, table[at.D_VECTORS], part)
        for by_phase in [
            [
                _terms(request, range(first, min(first + part, table[at.D_VECTORS])), phase, wide)
                for phase in range(axes[0].result_stride * axes[1].result_stride)
            ]
        ]
        for block in range(table[at.D_BLOCKS])
        for terms in by_phase[block % len(by_phase)]
    ]
    stages = zip(("inputs", "products") if layout.first else ("filters", "tiles"), layout.tasks, strict=True)
    kernels = [(kernel(f"dwm:{name}_{m}_{r}", dtype), range(tasks)) for name, tasks in stages]
    work, shared = table[at.WORK] * dtype.itemsize, table[at.SHARED] * dtype.itemsize
    launch = Launch(kernels, request.threads, work, as_table(_with_lists(table, lists)), shared)

    return launch.plan(result_shape, dtype)


@lru_cache(maxsize=256)
def _weights_layout(request: Request) -> Layout:
    spec, n_lanes, itemsize = request.spec, lanes(request.dtype), request.dtype.itemsize
    m, r, (ay, ax) = _scheme(request)
    n = m + r - 1
    phases, pieces = ay.source_stride * ax.source_stride, ay.pieces * ax.pieces
    vectors, chunks = source_vectors(spec.cin, phases, n_lanes), -(-spec.cin // n_lanes)
    y_vectors, y_blocks = -(-spec.cout // n_lanes), -(-spec.cout // (2 * n_lanes))
    halo, wide = ay.pieces - 1, ax.tiles + ax.pieces - 1
    u_xi = n_lanes * 2 * n_lanes + 2 * n_lanes  # a row more: frequencies must not share their cache sets
    sums = min(phases, vectors) * pieces * n * n * u_xi
    owned, total = chunks * y_blocks, ay.tiles * (spec.batch if ay.pieces == 1 else 1)
    by_parts = pieces == 1 and owned * sums * itemsize <= PART_BYTES and total >= 4 * PARTS
    per_line = n * n * (vectors + 2 * y_blocks) * n_lanes * wide * itemsize
    if by_parts:
        lines, few = -(-WINDOWS // wide), -(-total // PARTS)
    else:
        lines = max(SHARED_BYTES // (spec.groups * per_line), -(-LEAST_WINDOWS // wide))
        lines, few = min(lines, total), min(FEW_BLOCKS, y_blocks)
        while few > 1 and spec.groups * chunks * -(-y_blocks // few) < 4:
            few -= 1
    pitch = ay.tiles if ay.pieces == 1 else _round(ay.tiles, lines)
    blocks = 1 if by_parts else -(-spec.batch * pitch // lines)
    v_block, p_block = (lines + halo) * wide * n_lanes, lines * wide * 2 * n_lanes
    v_xi, p_xi = vectors * v_block + n_lanes, y_blocks * p_block + n_lanes
    taps_at = _round(math.prod(spec.kernel), n_lanes) * n_lanes
    taps = taps_at + ay.places * ax.places * n_lanes
    pixels = _round((wide - 1) * m + n, n_lanes)
    strip = (n + 1) * pixels * n_lanes + n_lanes * n_lanes
    held, ranges = n * n * (v_xi + p_xi), -(-y_blocks // few)
    if by_parts:
        tasks = spec.groups * -(-total // few), spec.groups * owned
        shared, work = tasks[0] * owned * sums, held + max(strip, taps)
    else:
        tasks = spec.groups * ((lines + halo) * vectors + lines * y_vectors), spec.groups * chunks * ranges
        shared = spec.groups * held + (tasks[1] * few * sums if blocks > 1 else 0)
        work = max(strip, taps + (few * sums if blocks == 1 else 0))
    entries = {
        at.LANES: n_lanes, at.FILTER: math.prod(spec.kernel), at.SHARED: shared, at.WORK: work,
        at.V_GROUP: held, at.V_BLOCK: v_block, at.V_XI: v_xi, at.Z_START: n * n * v_xi, at.P_BLOCK: p_block, at.P_XI: p_xi,
        at.U_START: spec.groups * held, at.U_GROUP: owned * sums, at.U_BLOCK: sums, at.U_XI: u_xi,
        at.D_LINES: lines, at.D_COLUMNS: ax.tiles, at.D_PITCH: pitch, at.D_RUN_ON: int(ay.pieces == 1),
        at.D_VECTORS: vectors, at.D_RANGE: few, at.D_WIDE: ax.places, at.D_GRID: taps // n_lanes, at.D_TAPS: taps_at,
    }  # fmt: skip
    return Layout(by_parts, entries, blocks, tasks)


def _weights_plan(request: Request) -> Plan:
    spec, dtype = request.spec, request.dtype
    x, y = request.strides
    m, r, axes = _scheme(request)
    layout = _weights_layout(request)
    table = [0] * at.D_LISTS
    table[: at.COUT + 1] = [spec.batch, spec.groups, spec.cin, spec.cout]
    table[at.X_VIEW : at.X_VIEW + at.V_LENGTH] = view(x, spec.size, (1, 1))
    table[at.Y_VIEW : at.Y_VIEW + at.V_LENGTH] = view(y, spec.out, (1, 1))
    _set_axes(table, spec, axes, spec.kernel)
    for entry, value in layout.entries.items():
        table[entry] = value

    n_lanes, v_block, squared = table[at.LANES], table[at.V_BLOCK], (m + r - 1) ** 2
    pieces, phases = axes[0].pieces * axes[1].pieces, axes[0].source_stride * axes[1].source_stride
    step = squared * table[at.U_XI]
    wide = table[at.D_COLUMNS] + axes[1].pieces - 1
    lists = [
        [(t.vector * v_block + t.ahead * n_lanes, ((t.vector - first) * pieces + t.piece) * step) for t in terms]
        for first in range(0, table[at.D_VECTORS], phases)  # a chunk of channels
        for terms in _terms(request, range(first, min(first + phases, table[at.D_VECTORS])), 0, wide)
    ]
    names = ("parts", "join") if layout.first else ("transforms", "sums")
    kernels = [kernel(f"dwm:{name}_{m}_{r}", dtype) for name in names]
    stages = [
        (native, range(i * tasks, (i + 1) * tasks))
        for i in range(layout.rounds)
        for native, tasks in zip(kernels, layout.tasks, strict=True)
    ]
    work, shared = table[at.WORK] * dtype.itemsize, table[at.SHARED] * dtype.itemsize
    launch = Launch(stages, request.threads, work, as_table(_with_lists(table, lists)), shared)

    return launch.plan(spec.shape("w"), dtype, "w")


def _set_axes(table: list[int], spec: ConvSpec, axes: tuple[Axis, ...], size: Shape) -> None:
    """The entries of two axes."""
    for i, a in enumerate(axes):
        for entry, value in (
            (at.D_SIZE, size[i]), (at.D_SHIFT, a.shift), (at.D_START, a.start), (at.D_TILES, a.tiles),
            (at.D_PIECES, a.pieces), (at.D_IN, a.source_stride), (at.D_OUT, a.result_stride),
            (at.D_KERNEL, spec.kernel[i]), (at.D_FIRST, a.first), (at.D_DIRECTION, a.direction),
        ):  # fmt: skip
            table[entry + i] = value


# --------------------------------------------------------------------------------------------------------- the algorithm


# Measured on one AVX-512 core at 4 GHz, by r: seconds per vector of one window in and of one tile out, per vector of one
# piece of a filter, per vector of products, and how much slower the sums of the gradient with respect to weights are.
SECONDS_IN, SECONDS_OUT = {2: 80e-9, 3: 100e-9, 4: 140e-9, 5: 180e-9}, {2: 55e-9, 3: 70e-9, 4: 100e-9, 5: 110e-9}
SECONDS_FILTER = {2: 45e-9, 3: 60e-9, 4: 75e-9, 5: 100e-9}
SECONDS_PER_FMA, SUMS = 0.16e-9, 1.3


def _refuses(request: Request) -> str | None:
    spec = request.spec
    if max(taps_of(spec)) < 2:
        return "has nothing to save where no two taps of a filter meet the same phase of the stride"
    a, b = request.strides
    if a[-1] != 1 or (request.slot == "w" and b[-1] != 1):
        return "needs the pixels of a row next to each other"
    if request.slot != "w" and b[2:] != (spec.kernel[1], 1):
        return "needs the taps of a filter next to each other"
    return None


def _cost(request: Request) -> float:
    """Windows in, tiles out, filters and products, each at its measured price, shared among the threads."""
    spec, n_lanes = request.spec, lanes(request.dtype)
    (m, r, (ay, ax)), (rows, channels) = _scheme(request), _roles(request)
    weights = request.slot == "w"
    layout = _weights_layout(request) if weights else _layout(request)
    in_phases, out_phases = ay.source_stride * ax.source_stride, ay.result_stride * ax.result_stride
    vectors, chunks = source_vectors(channels, in_phases, n_lanes), -(-rows // n_lanes)
    filters = form(m, r).filter
    needed = 1  # of the pairs of terms and frequencies, for one chunk of channels
    for k, axis in zip(spec.kernel, (ay, ax), strict=True):
        needed *= sum(sum(some) for phase in _needed(filters, k, axis) for some in phase)
    columns, side = layout.entries[at.D_COLUMNS], ax.pieces - 1
    lines = spec.batch * (layout.entries[at.D_PITCH] if request.slot != "w" else ay.tiles)
    tiles = spec.batch * ay.tiles * ax.tiles
    windows = lines * (columns + side) * layout.entries.get(at.D_COLUMN_BLOCKS, 1)
    if not weights:
        windows = _round(windows, DWM_FEW_ROWS)
    halo = 1 + (ay.pieces - 1) / layout.entries[at.D_LINES]
    paired = _round(chunks, 2) if chunks > 1 or weights else 1
    products = needed * windows * (vectors / in_phases) * n_lanes * paired
    seconds = products * SECONDS_PER_FMA * (SUMS if weights else 1)
    seconds += windows * halo * vectors * SECONDS_IN[r] + tiles * chunks * out_phases * SECONDS_OUT[r]
    seconds += channels * chunks * (ay.pieces * ax.pieces * in_phases * out_phases + 2) * SECONDS_FILTER[r]
    return 20e-6 + spec.groups * seconds / max(1, min(request.threads, spec.groups * layout.tasks[1]))


def _workspace(request: Request) -> int:
    layout = _weights_layout(request) if request.slot == "w" else _layout(request)
    return (layout.entries[at.SHARED] + layout.entries[at.WORK] * request.threads) * request.dtype.itemsize


DWM = Algorithm(
    name="winograd_dwm",
    features=frozenset({"2d", "strided", "flipped", "padded", "asymmetric", "grouped", "depthwise"}),
    dtypes=frozenset({"float32", "float64"}),
    error=lambda request: ERROR[_scheme(request).r] * float(np.finfo(request.dtype).eps),
    refuses=_refuses,
    workspace=_workspace,
    cost=_cost,
    plan=lambda request: _weights_plan(request) if request.slot == "w" else _images_plan(request),
)
