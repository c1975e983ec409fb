"""The algorithm `winograd_dwm`: strides and large filters with fewer multiplications, as sums of small filters.

Source: D. Huang et al., "DWM: a decomposable Winograd method for convolution acceleration", arXiv 2002.00552.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from eagerconv.kernels_cpu.blocks import DWM_FEW_ROWS, DWM_ROWS
from eagerconv.kernels_cpu.cooktoom import form
from eagerconv.kernels_cpu.jit import kernel
from eagerconv.kernels_cpu.ranges import range_of_forms
from eagerconv.kernels_cpu.table import DWM_IMAGES, DWM_WEIGHTS, Fields, non_temporal, three, view
from eagerconv.kernels_cpu.targets import lanes
from eagerconv.kernels_cpu.threads import Launch
from eagerconv.record import Algorithm, Plan, Range, Request
from eagerconv.spec import ConvSpec, Shape, contiguous

FORMS = ((1, 1), (4, 2), (4, 3), (4, 4), (4, 5))
PIECES = (4, 4)
"""The F(m, r) in use: on each axis r taps for the longest phase of the filter, and F(4, 4) for the pieces of longer ones."""

ERROR = {2: 60.0, 3: 120.0, 4: 200.0, 5: 220.0}
"""Units in the last place of max|a| * sum|b|, by the longer r: what a result may be wrong by beyond what direct sums cost.

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
MOST_PHASES, MOST_TAPS, MOST_TERMS = 64, 4096, 1 << 15  # of what plans list: of the stride; of a plane; of one sum


Array = npt.NDArray[Any]
Pair = tuple[int, int]  # down, across


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
    """How one contraction is decomposed: by F(m, r) along each axis."""

    m: Pair
    r: Pair
    axes: tuple[Axis, Axis]

    @property
    def n(self) -> Pair:
        """Frequencies."""
        return self.m[0] + self.r[0] - 1, self.m[1] + self.r[1] - 1

    @property
    def name(self) -> str:
        """As the kernels' names end."""
        return "_".join(f"{m}x{r}" for m, r in zip(self.m, self.r, strict=True))


class Planes(NamedTuple):
    """The first of three axes: plane z of the result sums over taps t, which see plane z*stride + t*step + base."""

    taps: int
    planes: int
    stride: int
    step: int
    base: int


def _planes(request: Request) -> Planes:
    spec = request.spec
    if request.slot == "x":  # of stride 1
        return Planes(spec.kernel[0], spec.size[0], 1, -spec.step[0], -spec.origin[0])
    return Planes(spec.kernel[0], spec.out[0], spec.stride[0], spec.step[0], spec.origin[0])


def taps_of(spec: ConvSpec) -> Pair:
    """Taps of the longest phase of the filter, down and across."""
    (ky, kx), (sy, sx) = spec.kernel[1:], spec.stride[1:]
    return -(-ky // sy), -(-kx // sx)


def _forward_axis(spec: ConvSpec, axis: int, m: int, r: int) -> Axis:
    """The axis of the forward pass and of the gradient with respect to weights.

    The taps in the order of their offsets, t = 0, 1..., lie at i = o*s + t + base: t = q + s*u is tap u of phase q.
    """
    k, s, step = spec.kernel[axis], spec.stride[axis], spec.step[axis]
    pieces = -(-k // (s * r))
    base, tiles = spec.origin[axis] + min(0, (k - 1) * step), -(-spec.out[axis] // m)
    return Axis(pieces, s * r * pieces, s, 1, tiles, base, 0, 0 if step > 0 else k - 1, 1 if step > 0 else -1)


def _inputs_axes(spec: ConvSpec, axis: int, m: int, r: int) -> list[Axis]:
    """The axis of the gradient with respect to inputs, in all ways of choosing where the filter begins.

    The filter is read backwards: tap t, at i = o*s + t + base, stands at place e - t = s*b + s - 1 - p, for any e that leaves
    all taps a place. With o = j + start + b that gives i = j*s + p + shift, shift = base + e - s + 1 + s*start: tap b of phase
    p of the result. `start` brings the first tile to the edge of the image.
    """
    k, s, step = spec.kernel[axis], spec.stride[axis], spec.step[axis]
    base, pieces = spec.origin[axis] + min(0, (k - 1) * step), -(-k // (s * r))
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
    """The decomposition with the fewest products, by one form for both axes, or for the one that has more than one tap.

    Where the windows of the phases of a result do not agree, one tap more may save a tile.
    """
    taps = taps_of(spec)
    longest = max(taps)
    schemes = []
    for form_ in [f for f in FORMS if longest <= f[1] <= longest + (not forward)] or [PIECES]:
        pair, total, axes = [FORMS[0] if n == 1 else form_ for n in taps], 1, []
        for i, (m, r) in enumerate(pair, start=1):
            ways = [_forward_axis(spec, i, m, r)] if forward else _inputs_axes(spec, i, m, r)
            products, axis = min(zip(_products(m, r, ways, spec.kernel[i]), ways, strict=True))
            total *= products
            axes.append(axis)
        (my, ry), (mx, rx) = pair
        schemes.append((total, Scheme((my, mx), (ry, rx), (axes[0], axes[1]))))
    return min(schemes)[1]


def _products(m: int, r: int, ways: list[Axis], kernel: int) -> list[int]:
    """Products of all tiles of an axis, for one channel, in each of the ways to place the same number of taps."""
    taken = _taken(r, kernel, ways)  # (way, piece, tap, phase)
    seen = _met_by(r, m)[(taken * (1 << np.arange(r))[:, None]).sum(axis=2)]  # (way, piece, phase, frequency)
    each: list[int] = seen.sum(axis=(1, 2, 3)).tolist()
    return [way.tiles * count for way, count in zip(ways, each, strict=True)]


def _taken(r: int, kernel: int, ways: list[Axis]) -> Array:
    """(way, piece, tap, phase): whether a tap of the filter stands at that of `places`, which all ways have as many of."""
    stride = ways[0].source_stride * ways[0].result_stride
    begins = np.array([min(way.first, way.first + (kernel - 1) * way.direction) for way in ways])[:, None]
    places = np.arange(ways[0].places) - begins  # (way, place)
    taken: Array = ((places >= 0) & (places < kernel)).reshape(len(ways), ways[0].pieces, r, stride)
    return taken


@lru_cache(maxsize=16)
def _met_by(r: int, m: int) -> Array:
    """(pattern, frequency): whether a piece can be anything but zero there if it has the taps whose bits the pattern has."""
    patterns = np.arange(1 << r)[:, None, None] >> np.arange(r) & 1  # (pattern, 1, tap)
    met: Array = (patterns.astype(bool) & (np.array(form(m, r).filter) != 0)).any(axis=-1)
    return met


def _scheme(request: Request) -> Scheme:
    return scheme_of(request.spec, request.slot != "x")


def _three_axes(request: Request) -> Request:
    """The same of three axes: a signal is an image of one row, an image a stack of one plane."""
    spec = request.spec
    names = ("size", "kernel", "out", "stride", "step")
    longer: dict[str, Any] = {name: three(getattr(spec, name), 1) for name in names}
    a, b = ((*some[:2], *three(some[2:], 0)) for some in request.strides)
    return replace(request, spec=replace(spec, **longer, origin=three(spec.origin, 0)), strides=(a, b))


def _roles(request: Request) -> tuple[int, int]:
    """(rows, channels): the channels of the result and of the source, per group."""
    spec = request.spec
    return (spec.cin, spec.cout) if request.slot == "x" else (spec.cout, spec.cin)


class Layout(NamedTuple):
    """Sizes and distances of one plan."""

    first: bool  # of the two ways to divide the work, the one that the kernels' names begin with
    fields: dict[str, int]
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
    scheme, (rows, channels) = _scheme(request), _roles(request)
    (my, mx), (ny, nx), (ay, ax) = scheme.m, scheme.n, scheme.axes
    frequencies = ny * nx
    in_phases, out_phases = ay.source_stride * ax.source_stride, ay.result_stride * ax.result_stride
    depth, planes = _planes(request)[:2]
    each, chunks, planes = source_vectors(channels, in_phases, n_lanes), -(-rows // n_lanes), spec.batch * planes
    vectors = depth * each
    pieces, halves = ay.pieces * ax.pieces, min(2, chunks)
    pairs, width = -(-chunks // halves), halves * n_lanes
    halo, side, gap = ay.pieces - 1, ax.pieces - 1, n_lanes
    term = n_lanes * width
    grid = ay.places * ax.places
    taps_at = _round(math.prod(spec.kernel[1:]), n_lanes) * n_lanes
    taps = taps_at + grid * n_lanes

    u_bytes = frequencies * pairs * out_phases * vectors * pieces * term * request.dtype.itemsize
    cut = u_bytes > FILTERS_BYTES and planes * ay.tiles * ax.tiles <= FEW_WINDOWS
    if cut:
        lines, columns, pitch = planes * (ay.tiles + halo), ax.tiles, ay.tiles + halo
        part = _round(PART, in_phases)
    else:
        column_blocks = -(-ax.tiles // WINDOWS)
        columns = -(-ax.tiles // column_blocks)
        lines = max(1, WINDOWS // columns) if ay.pieces == 1 else LINES
        lines = min(lines, ay.tiles * (planes if ay.pieces == 1 else 1))
        pitch = ay.tiles if ay.pieces == 1 else _round(ay.tiles, lines)
        part = each
    wide = columns + side
    windows = _round(lines * wide, DWM_ROWS)
    v_block = (windows + halo * wide + side) * n_lanes
    v_xi, p_block = vectors * v_block + gap, windows * width
    pixels = _round((wide - 1) * mx + nx, n_lanes)
    strip = (ny + 1) * pixels * n_lanes + n_lanes * n_lanes
    strip = max(strip, (columns * mx * out_phases * my + n_lanes) * n_lanes, taps)
    if cut:
        u_block = part * pieces * term
        u_xi, p_xi = out_phases * u_block + gap, out_phases * p_block + gap
        shared, work = spec.groups * frequencies * v_xi, frequencies * (u_xi + p_xi) + strip
        tasks = (lines * spec.groups * vectors, spec.groups * pairs)
    else:
        u_block = vectors * pieces * term
        u_xi, p_xi = pairs * out_phases * u_block + gap, pairs * out_phases * p_block + gap
        shared, work = spec.groups * frequencies * u_xi, frequencies * (v_xi + p_xi) + strip
        line_blocks = -(-planes * pitch // lines)
        tasks = (spec.groups * chunks, spec.groups * line_blocks * column_blocks)
    fields = {
        "LANES": n_lanes, "SHARED": shared, "WORK": work,
        "U_GROUP": frequencies * u_xi, "U_BLOCK": u_block, "U_XI": u_xi,
        "V_GROUP": frequencies * v_xi, "V_BLOCK": v_block, "V_XI": v_xi, "P_BLOCK": p_block, "P_XI": p_xi,
        "LINES": lines, "COLUMNS": columns, "PITCH": pitch, "RUN_ON": int(cut or ay.pieces == 1),
        "LINE_BLOCKS": 1 if cut else line_blocks, "COLUMN_BLOCKS": 1 if cut else column_blocks,
        "BLOCKS": pairs * out_phases, "WIDTH": width, "VECTORS": vectors, "TERM": term, "RANGE": part,
        "EACH": each, "WIDE": ax.places, "GRID": taps // n_lanes, "TAPS": taps_at,
    }  # fmt: skip
    return Layout(cut, fields, depth * -(-each // part), tasks)


def _phases_of(vector: int, channels: int, phases: int, n_lanes: int) -> range:
    """The phases that have channels in a vector of the source."""
    chunk, place = divmod(vector, phases)
    per_phase = min(n_lanes, channels - chunk * n_lanes)
    end = min((place + 1) * n_lanes, per_phase * phases)
    return range(place * n_lanes // per_phase, -(-end // per_phase))


def _needed_of(spec: ConvSpec, scheme: Scheme) -> list[Array]:
    """(phase, piece, frequency) of both axes: whether a transformed piece of a phase can be anything but zero."""
    needed = []
    for m, r, taps, axis in zip(scheme.m, scheme.r, spec.kernel[1:], scheme.axes, strict=True):
        patterns = (_taken(r, taps, [axis])[0] * (1 << np.arange(r))[:, None]).sum(axis=1)  # (piece, phase)
        needed.append(_met_by(r, m)[patterns].swapaxes(0, 1))
    return needed


def _met(request: Request, each: int) -> Array:
    """(phase of the result, frequency, vector, piece): whether the piece meets the vector in the sum at that frequency.

    Vectors of the source are the `each` of one tap along z, which does not matter here.
    """
    spec, n_lanes = request.spec, lanes(request.dtype)
    scheme, (_, channels) = _scheme(request), _roles(request)
    (ay, ax), needed = scheme.axes, _needed_of(spec, scheme)
    # Phase (p, q) of a result of several is read backwards; a source and a result do not both have several.
    y, x = (need[::-1] if axis.result_stride > 1 else need for axis, need in zip(scheme.axes, needed, strict=True))
    both = y[:, None, :, None, :, None] & x[None, :, None, :, None, :]  # (qy, qx, piece y, piece x, xi, xj)
    phases = ay.source_stride * ax.source_stride * ay.result_stride * ax.result_stride
    both = both.reshape(phases, ay.pieces * ax.pieces, -1).swapaxes(1, 2)  # (phase, frequency, piece)
    if phases == 1 or ay.result_stride * ax.result_stride > 1:
        return np.repeat(both[:, :, None], each, axis=2)
    held = [_phases_of(v, channels, phases, n_lanes) for v in range(each)]
    unions = {some: both[some.start : some.stop].any(axis=0) for some in set(held)}
    return np.stack([unions[some] for some in held], axis=1)[None]


def _with_lists(
    table: list[int], rounds: list[tuple[Array, int]], repeats: int, ahead: Array, window: int, term: int
) -> Array:
    """The table with the (place, count) of each list of terms behind it, and then the lists, equal ones of a round once.

    A round is (list, vector, piece), which terms each list has, and the number of its first vector. Its lists come `repeats`
    times. The term of vector v and piece p is (v*window + ahead[p], place of (v, p) in the round's filters).
    """
    alike: dict[bytes, list[tuple[int, int]]] = {}  # number and first place of the rounds with the same terms
    for number, (met, first) in enumerate(rounds):
        alike.setdefault(met.tobytes(), []).append((number, first * window))
    index = np.empty((len(rounds), repeats, len(rounds[0][0]), 2), np.int64)
    parts, end = [np.array(table, np.int64), index.reshape(-1)], len(table) + index.size
    for some in alike.values():
        (numbers, firsts), met = np.array(some).T, rounds[some[0][0]][0]
        sources = np.arange(met.shape[1])[:, None] * window + ahead  # (vector, piece)
        places = np.stack([sources, np.arange(sources.size).reshape(sources.shape) * term], axis=-1)
        found: dict[bytes, tuple[Array, int]] = {}
        for i, one in enumerate(met):
            key = one.tobytes()
            if key not in found:
                terms = places[one]
                part = (terms + firsts[:, None, None] * (1, 0)).reshape(len(firsts), -1)  # (round, 2 * term)
                found[key] = end + np.arange(len(firsts)) * terms.size, len(terms)
                parts.append(part.reshape(-1))
                end += part.size
            index[numbers, :, i, 0], index[numbers, :, i, 1] = found[key][0][:, None], found[key][1]
    return np.concatenate(parts)


def _images_plan(request: Request, shape: Shape) -> Plan:
    """The forward pass or the gradient with respect to inputs."""
    spec, dtype = request.spec, request.dtype
    scheme, (rows, channels) = _scheme(request), _roles(request)
    axes = scheme.axes
    forward = request.slot == "y"
    source, w = request.strides
    layout = _layout(request)
    row, channel = (w[0], w[1]) if forward else (w[1], w[0])
    result_shape, fields = spec.shape(request.slot), layout.fields
    image, channel_of_result = contiguous(result_shape)[:2]
    table = DWM_IMAGES.pack(
        **fields, **_axes(request, axes, result_shape[3:]), GROUPS=spec.groups, ROWS=rows, CHANNELS=channels,
        SOURCE=view(source, spec.size if forward else spec.out, (1, 1)), RESULT_N=image, RESULT_C=channel_of_result,
        A_GROUP=spec.cout * w[0], A_ROW=row, A_CHANNEL=channel, W_Z=w[2], NON_TEMPORAL=non_temporal(result_shape, dtype),
    )  # fmt: skip

    v_block, term, n_lanes, part, each = (fields[name] for name in ("V_BLOCK", "TERM", "LANES", "RANGE", "EACH"))
    depth = _planes(request).taps
    met, ahead = (
        _met(request, each),
        _ahead(axes, fields["COLUMNS"]) * n_lanes,
    )  # (phase, frequency, vector, piece), (piece)
    rounds = [
        (np.tile(met.reshape(-1, each, len(ahead)), (1, depth, 1)), 0)
    ]  # (phase and frequency, tap and vector, piece)
    if layout.first:
        firsts = range(0, each, part)
        some = [met[:, :, i : i + part].reshape(met.shape[0] * met.shape[1], -1, len(ahead)) for i in firsts]
        rounds = [(one, z * each + i) for z in range(depth) for i, one in zip(firsts, some, strict=True)]
    entries = _with_lists(table, rounds, fields["BLOCKS"] // len(met), ahead, v_block, term)
    stages = zip(("inputs", "products") if layout.first else ("filters", "tiles"), layout.tasks, strict=True)
    kernels = [(kernel(f"dwm:{name}_{scheme.name}", dtype), range(tasks)) for name, tasks in stages]
    work, shared = fields["WORK"] * dtype.itemsize, fields["SHARED"] * dtype.itemsize
    launch = Launch(kernels, request.threads, work, entries, shared)

    return launch.plan(shape, dtype)


@lru_cache(maxsize=256)
def _weights_layout(request: Request) -> Layout:
    spec, n_lanes, itemsize = request.spec, lanes(request.dtype), request.dtype.itemsize
    scheme = _scheme(request)
    mx, (ny, nx), (ay, ax) = scheme.m[1], scheme.n, scheme.axes
    frequencies = ny * nx
    phases, pieces = ay.source_stride * ax.source_stride, ay.pieces * ax.pieces
    depth, planes = _planes(request)[:2]
    each, chunks, planes = (
        source_vectors(spec.cin, phases, n_lanes),
        depth * -(-spec.cin // n_lanes),
        spec.batch * planes,
    )
    vectors = depth * each
    y_vectors, y_blocks = -(-spec.cout // n_lanes), -(-spec.cout // (2 * n_lanes))
    halo, wide = ay.pieces - 1, ax.tiles + ax.pieces - 1
    u_xi = n_lanes * 2 * n_lanes + 2 * n_lanes  # a row more: frequencies must not share their cache sets
    sums = min(phases, each) * pieces * frequencies * u_xi
    owned, total = chunks * y_blocks, ay.tiles * (planes if ay.pieces == 1 else 1)
    by_parts = pieces == 1 and owned * sums * itemsize <= PART_BYTES and total >= 4 * PARTS
    per_line = frequencies * (vectors + 2 * y_blocks) * n_lanes * wide * itemsize
    if by_parts:
        lines, few = -(-WINDOWS // wide), -(-total // PARTS)
    else:
        lines = max(SHARED_BYTES // (spec.groups * per_line), -(-LEAST_WINDOWS // wide))
        lines, few = min(lines, total), min(FEW_BLOCKS, y_blocks)
        while few > 1 and spec.groups * chunks * -(-y_blocks // few) < 4:
            few -= 1
    pitch = ay.tiles if ay.pieces == 1 else _round(ay.tiles, lines)
    blocks = 1 if by_parts else -(-planes * pitch // lines)
    v_block, p_block = (lines + halo) * wide * n_lanes, lines * wide * 2 * n_lanes
    v_xi, p_xi = vectors * v_block + n_lanes, y_blocks * p_block + n_lanes
    taps_at = _round(math.prod(spec.kernel[1:]), n_lanes) * n_lanes
    taps = taps_at + ay.places * ax.places * n_lanes
    pixels = _round((wide - 1) * mx + nx, n_lanes)
    strip = (ny + 1) * pixels * n_lanes + n_lanes * n_lanes
    held, ranges = frequencies * (v_xi + p_xi), -(-y_blocks // few)
    if by_parts:
        tasks = spec.groups * -(-total // few), spec.groups * owned
        shared, work = tasks[0] * owned * sums, held + max(strip, taps)
    else:
        tasks = spec.groups * ((lines + halo) * vectors + lines * y_vectors), spec.groups * chunks * ranges
        shared = spec.groups * held + (tasks[1] * few * sums if blocks > 1 else 0)
        work = max(strip, taps + (few * sums if blocks == 1 else 0))
    fields = {
        "LANES": n_lanes, "FILTER": math.prod(spec.kernel), "SHARED": shared, "WORK": work,
        "V_GROUP": held, "V_BLOCK": v_block, "V_XI": v_xi,
        "Z_START": frequencies * v_xi, "P_BLOCK": p_block, "P_XI": p_xi,
        "U_START": spec.groups * held, "U_GROUP": owned * sums, "U_BLOCK": sums, "U_XI": u_xi,
        "LINES": lines, "COLUMNS": ax.tiles, "PITCH": pitch, "RUN_ON": int(ay.pieces == 1),
        "VECTORS": vectors, "RANGE": few, "WIDE": ax.places, "GRID": taps // n_lanes, "TAPS": taps_at,
        "EACH": each,
    }  # fmt: skip
    return Layout(by_parts, fields, blocks, tasks)


def _weights_plan(request: Request, shape: Shape) -> Plan:
    spec, dtype = request.spec, request.dtype
    x, y = request.strides
    scheme = _scheme(request)
    axes = scheme.axes
    layout = _weights_layout(request)
    fields = layout.fields
    table = DWM_WEIGHTS.pack(
        **fields, **_axes(request, axes, spec.kernel[1:]), GROUPS=spec.groups, CIN=spec.cin, COUT=spec.cout,
        X_VIEW=view(x, spec.size, (1, 1)), Y_VIEW=view(y, spec.out, (1, 1)),
    )  # fmt: skip

    n_lanes, v_block, each = fields["LANES"], fields["V_BLOCK"], fields["EACH"]
    phases, step = axes[0].source_stride * axes[1].source_stride, math.prod(scheme.n) * fields["U_XI"]
    met, ahead = (
        _met(request, each)[0],
        _ahead(axes, fields["COLUMNS"]) * n_lanes,
    )  # (frequency, vector, piece), (piece)
    rounds = [  # a chunk of channels
        (met[:, first : first + phases], tap * each + first)
        for tap in range(_planes(request).taps)
        for first in range(0, each, phases)
    ]
    entries = _with_lists(table, rounds, 1, ahead, v_block, step)
    names = ("parts", "join") if layout.first else ("transforms", "sums")
    kernels = [kernel(f"dwm:{name}_{scheme.name}", dtype) for name in names]
    stages = [
        (native, range(i * tasks, (i + 1) * tasks))
        for i in range(layout.rounds)
        for native, tasks in zip(kernels, layout.tasks, strict=True)
    ]
    work, shared = fields["WORK"] * dtype.itemsize, fields["SHARED"] * dtype.itemsize
    launch = Launch(stages, request.threads, work, entries, shared)

    return launch.plan(shape, dtype, "w")


def _ahead(axes: tuple[Axis, Axis], columns: int) -> Array:
    """How many windows those of each piece lie ahead of the tiles, in lines of so many tiles and what pieces need beyond."""
    ay, ax = axes
    ahead: Array = np.arange(ay.pieces)[:, None] * (columns + ax.pieces - 1) + np.arange(ax.pieces)
    return ahead.ravel()


def _axes(request: Request, axes: tuple[Axis, Axis], size: Shape) -> Fields:
    """The fields of the axis of planes and of the two of tiles."""
    z, (ay, ax), (_, ky, kx) = _planes(request), axes, request.spec.kernel
    return {
        "BATCH": request.spec.batch * z.planes, "DEPTH": z.taps, "PLANES": z.planes,
        "Z_STRIDE": z.stride, "Z_STEP": z.step, "Z_BASE": z.base,
        "SIZE": size, "SHIFT": (ay.shift, ax.shift), "START": (ay.start, ax.start), "TILES": (ay.tiles, ax.tiles),
        "PIECES": (ay.pieces, ax.pieces), "IN": (ay.source_stride, ax.source_stride),
        "OUT": (ay.result_stride, ax.result_stride), "KERNEL": (ky, kx), "FIRST": (ay.first, ax.first),
        "DIRECTION": (ay.direction, ax.direction),
    }  # fmt: skip


# --------------------------------------------------------------------------------------------------------- the algorithm


# Measured on one AVX-512 core at 4 GHz: seconds per vector of one window in and of one tile out, for each of its frequencies
# and of its pixels; per frequency and vector of one piece of a filter; per vector of products, and how much slower the sums of
# the gradient with respect to weights are.
SECONDS_IN, SECONDS_OUT, SECONDS_FILTER = (2.5e-9, 1.1e-9), (1.8e-9, 0.6e-9), 1.8e-9
SECONDS_PER_BYTE = 0.01e-9  # of filters beyond the second-level cache, for each task that reads them
SECONDS_PER_FMA, SUMS = 0.16e-9, 1.3
WEIGHTS = 1.5  # times all that: the gradient with respect to weights, whose parts go through memory


def _refuses(request: Request) -> str | None:
    request = _three_axes(request)
    spec = request.spec
    if max(taps_of(spec)) < 2:
        return "has nothing to save where no two taps of a filter meet the same phase of the stride"
    if (phases := math.prod(spec.stride[1:])) > MOST_PHASES:
        return f"would have to plan {phases} phases of the stride, more than {MOST_PHASES}"
    if (taps := math.prod(spec.kernel[1:])) > MOST_TAPS:
        return f"would have to plan {taps} taps, more than {MOST_TAPS}"
    if request.slot == "x" and spec.stride[0] != 1:
        return "takes no steps along the first of three axes in the gradient with respect to inputs"
    a, b = request.strides
    if a[-1] != 1 or (request.slot == "w" and b[-1] != 1):
        return "needs the pixels of a row next to each other"
    if request.slot != "w" and (b[4] != 1 or (spec.kernel[1] > 1 and b[3] != spec.kernel[2])):
        return "needs the taps of a filter next to each other"
    source = source_vectors(_roles(request)[1], 1 if request.slot == "x" else phases, lanes(request.dtype))
    pieces = math.prod(-(-taps // PIECES[1]) for taps in taps_of(spec))
    if (terms := spec.kernel[0] * source * pieces) > MOST_TERMS:
        return f"would have to plan sums of {terms} terms, more than {MOST_TERMS}"
    return None


def _cost(request: Request) -> float:
    """Windows in, tiles out, filters and products, each at its measured price, shared among the threads."""
    request = _three_axes(request)
    spec, n_lanes = request.spec, lanes(request.dtype)
    scheme, (rows, channels) = _scheme(request), _roles(request)
    (ay, ax), frequencies = scheme.axes, math.prod(scheme.n)
    weights = request.slot == "w"
    layout = _weights_layout(request) if weights else _layout(request)
    in_phases, out_phases = ay.source_stride * ax.source_stride, ay.result_stride * ax.result_stride
    depth, planes = _planes(request)[:2]
    vectors, chunks = depth * source_vectors(channels, in_phases, n_lanes), -(-rows // n_lanes)
    planes *= spec.batch
    needed = 1  # of the pairs of terms and frequencies, for one chunk of channels
    for need in _needed_of(spec, scheme):
        needed *= int(need.sum())
    columns, side = layout.fields["COLUMNS"], ax.pieces - 1
    lines = planes * (ay.tiles if weights else layout.fields["PITCH"])
    tiles = planes * ay.tiles * ax.tiles
    windows = lines * (columns + side) * layout.fields.get("COLUMN_BLOCKS", 1)
    if not weights:
        windows = _round(windows, DWM_FEW_ROWS)
    halo = 1 + (ay.pieces - 1) / layout.fields["LINES"]
    paired = _round(chunks, 2) if chunks > 1 or weights else 1
    products = needed * windows * (vectors / in_phases) * n_lanes * paired
    seconds = products * SECONDS_PER_FMA * (SUMS if weights else 1)
    window, tile = (frequencies * each + math.prod(scheme.m) * pixel for each, pixel in (SECONDS_IN, SECONDS_OUT))
    seconds += windows * halo * vectors * window + tiles * chunks * out_phases * (window if weights else tile)
    pieces = depth * ay.pieces * ax.pieces * in_phases * out_phases + 2
    seconds += channels * chunks * pieces * frequencies * SECONDS_FILTER
    filters = needed * (vectors / in_phases) * n_lanes * paired * n_lanes * request.dtype.itemsize
    if filters > FILTERS_BYTES and not weights and not layout.first:
        seconds += layout.tasks[1] * filters * SECONDS_PER_BYTE
    seconds *= WEIGHTS if weights else 1
    return 20e-6 + spec.groups * seconds / max(1, min(request.threads, spec.groups * layout.tasks[1]))


def _workspace(request: Request) -> int:
    request = _three_axes(request)
    layout = _weights_layout(request) if request.slot == "w" else _layout(request)
    return (layout.fields["SHARED"] + layout.fields["WORK"] * request.threads) * request.dtype.itemsize


def _plan(request: Request) -> Plan:
    shape = request.spec.shape(request.slot)
    return (_weights_plan if request.slot == "w" else _images_plan)(_three_axes(request), shape)


def _error(request: Request) -> float:
    return ERROR[max(_scheme(_three_axes(request)).r)] * float(np.finfo(request.dtype).eps)


def _safe(request: Request) -> Range:
    scheme = _scheme(_three_axes(request))
    return range_of_forms(request, zip(scheme.m, scheme.r, strict=True))


DWM = Algorithm(
    name="winograd_dwm",
    features=frozenset({"1d", "2d", "3d", "strided", "flipped", "padded", "asymmetric", "grouped", "depthwise"}),
    dtypes=frozenset({"float32", "float64"}),
    error=_error,
    safe=_safe,
    refuses=_refuses,
    workspace=_workspace,
    cost=_cost,
    plan=_plan,
)
