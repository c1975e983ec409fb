"""The algorithm `gemm`: products of filters with tiles gathered into small per-thread buffers, on vector microkernels."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from eagerconv.kernels_cpu import table as at
from eagerconv.kernels_cpu.direct import contiguous
from eagerconv.kernels_cpu.jit import kernel, register_bytes, registers
from eagerconv.kernels_cpu.table import as_table, flat, three, view
from eagerconv.kernels_cpu.threads import Launch, worthwhile
from eagerconv.record import FEATURES, Algorithm, Plan, Request
from eagerconv.spec import ConvSpec, Shape

VECTORS = 3  # per row of the outer product's block: a panel is this many vectors wide
DEPTH = 384  # rows (channel, tap) of a panel: with three vectors it stays in the second-level cache
PHASES = 512  # of the stride, at most

BLOCK_ROWS, BLOCK_VECTORS = (
    (8, 3) if registers() == 32 else (6, 2)
)  # sums in registers, with a row of vectors and a factor
PIXELS, WEIGHT_PIXELS = 256, 384  # of a tile
TAPS = 576  # (channel, tap) rows of one task of the gradient with respect to weights
SUMS = 80_000  # elements of sums that one task holds, at most if there are enough other tasks
STRIP = 64_000  # elements of an image's part with its padding
SEGMENTS = 64  # tasks of the gradient with respect to weights, if not more are needed
SEGMENT_SUMS = 2_000_000  # elements of their sums together

# Measured on one AVX-512 core at 4 GHz: seconds per vector of products, per gathered vector, and the rest.
SECONDS_PER_FMA = 0.14e-9
SECONDS_PER_GATHER = 0.9e-9
SECONDS_PER_RUN = 7e-9  # finding where one tap's run of pixels along a row starts and ends
SECONDS_PER_TASK = 0.4e-6


def chunks(channels: int, taps: int, depth: int) -> tuple[int, int]:
    """(channels, taps) of a block of at most about `depth` (channel, tap) pairs: all taps of some channels, or some of one."""
    return (max(1, min(channels, depth // taps)), taps) if taps <= depth else (1, depth)


def lanes(dtype: np.dtype[Any]) -> int:
    """Elements of one vector register."""
    return register_bytes() // dtype.itemsize


# --------------------------------------------------------------------------------------------- forward and inputs: gather


def phases(spec: ConvSpec, forward: bool) -> list[tuple[Shape, Shape, list[tuple[int, ...]]]]:
    """The parts of the result that see the same taps: (grid, start, taps), a tap being (kernel index, offset) per axis.

    Forward there is one: all outputs, tap k at k*step + origin. For the inputs, one per residue class r of i modulo the
    stride: with i = r + j*stride, output o = j + (r - k*step - origin)/stride for the k where that is whole.
    """
    if forward:
        per_axis = [
            [(o, 0, [(k, k * d + p) for k in range(n)])]
            for o, n, d, p in zip(spec.out, spec.kernel, spec.step, spec.origin, strict=True)
        ]
    else:
        per_axis = [
            [
                (-(-(i - r) // s), r, [(k, (r - k * d - p) // s) for k in range(n) if (r - k * d - p) % s == 0])
                for r in range(min(s, i))
            ]
            for i, n, s, d, p in zip(spec.size, spec.kernel, spec.stride, spec.step, spec.origin, strict=True)
        ]
    result = []
    for axes in itertools.product(*per_axis):
        grid, start = tuple(a[0] for a in axes), tuple(a[1] for a in axes)
        taps = [tuple(itertools.chain(*zip(*tap, strict=True))) for tap in itertools.product(*(a[2] for a in axes))]
        result.append((grid, start, taps))
    return result


def _gather_plan(request: Request) -> Plan:
    spec, dtype = request.spec, request.dtype
    forward = request.slot == "y"
    source, w = request.strides
    result_shape = spec.shape(request.slot)
    result = contiguous(result_shape)
    rows, channels = (spec.cout, spec.cin) if forward else (spec.cin, spec.cout)
    w_f, w_c, w_k = w[0], w[1], w[2:]
    nd = spec.ndim
    step = (1,) * nd if forward else spec.stride
    parts = phases(spec, forward)
    width = VECTORS * lanes(dtype)
    channel_chunk, tap_chunk = chunks(channels, max(1, max(len(taps) for _, _, taps in parts)), DEPTH)
    panels = spec.batch * spec.groups * sum(-(-math.prod(grid) // width) for grid, _, _ in parts)
    block = _row_block(rows, panels, request.threads)
    work = channel_chunk * tap_chunk * width + block * width

    table = [spec.batch, spec.groups, rows, channels]
    table += [spec.cout * w_f, *((w_f, w_c) if forward else (w_c, w_f))]
    size, stride = (spec.size, spec.stride) if forward else (spec.out, (1,) * nd)
    if len(parts) == 1:  # then the result is dense, too, and pixels may be counted along one axis
        ((grid, start, taps),) = parts
        grid, source, size, stride = flat(grid, source, size, stride, (tap[nd:] for tap in taps))
        parts = [(grid, start, taps)]
    table += view(source, size, stride)
    table += [*result[:2], *three(result[2:], 0), *three(step, 1)]
    table += [width, lanes(dtype), channel_chunk, tap_chunk, block, work, int(len(parts) == 1)]
    tail: list[int] = []
    taps_at, tasks = at.PHASES + len(parts) * at.P_LENGTH, 0
    for grid, start, taps in parts:
        first, tasks = tasks, tasks + spec.batch * spec.groups * -(-math.prod(grid) // width) * -(-rows // block)
        table += [first, tasks, *three(grid, 1), *three(start, 0), taps_at + len(tail), len(taps)]
        for tap in taps:
            tail += [sum(k * stride for k, stride in zip(tap[:nd], w_k, strict=True)), *three(tap[nd:], 0)]
    geometry = as_table(table + tail)
    native = kernel("gather:gather", dtype)
    threads = worthwhile(request.threads, _cost(request) * request.threads)
    launch = Launch([(native, range(tasks))], threads, work * dtype.itemsize, geometry)

    return launch.plan(result_shape, dtype)


def _row_block(rows: int, panels: int, threads: int) -> int:
    """Result channels of one task: all, unless there are too few panels of pixels to keep every thread busy."""
    blocks = min(-(-4 * threads // max(panels, 1)), -(-rows // 16))
    return -(-rows // (blocks * 8)) * 8


# -------------------------------------------------------------------------------------------------- channels in the lanes


def _part(n: int, most: int, multiple: int = 1) -> int:
    """The length of the parts of n, all about equal, if each is a multiple of `multiple` and about `most` at most."""
    length = -(-n // -(-n // max(most, multiple)))
    return -(-length // multiple) * multiple


def _box(grid: Shape, step: Shape, pixels: int) -> Shape:
    """The tile of a grid (n, z, y, x): rows, planes and images as whole as about `pixels` allow."""
    sizes: list[int] = []
    for n, multiple in zip(reversed(grid), reversed(step), strict=True):
        sizes.insert(0, _part(n, max(1, pixels // math.prod(sizes)), multiple))
    return tuple(sizes)


@dataclass(frozen=True)
class Cut:
    """How a product with channels in the lanes is cut into tasks; entries as in table.py, workspaces in elements."""

    panels: int  # of all groups
    tasks: int
    shared: int
    work: int
    entries: dict[int, Sequence[int]]
    parts: list[tuple[Shape, Shape, list[Shape]]]
    tap: tuple[int, ...]  # from one channel to the next and along z, y, x in the image that is read


@lru_cache(maxsize=256)
def cut(request: Request) -> Cut:
    """Cut a product; see native/gemm.py."""
    spec, slot, n_lanes = request.spec, request.slot, lanes(request.dtype)
    forward, nd = slot != "x", spec.ndim
    rows, channels = (spec.cout, spec.cin) if forward else (spec.cin, spec.cout)
    one = (1,) * nd
    size, stride, step = (spec.size, spec.stride, one) if forward else (spec.out, one, spec.stride)
    grid = (spec.batch, *three(spec.out if forward else spec.size, 1))
    parts = phases(spec, forward)
    n_taps = math.prod(spec.kernel)
    seen = list(zip(*(tap[nd:] for _, _, taps in parts for tap in taps), strict=True)) or [(0,)] * nd
    base, most = tuple(map(min, seen)), tuple(map(max, seen))

    # The image is read where it lies, unless taps leave it or its channels lie a page apart, in the same lines of caches.
    source = request.strides[0]
    ends = [(n - 1) * s + m for part in parts for n, s, m in zip(part[0], stride, most, strict=True)]
    inside = min(base) >= 0 and all(end < n for end, n in zip(ends, size * len(parts), strict=True))
    in_place = inside and (source[1] * request.dtype.itemsize % 2048 != 0 or channels < n_lanes)

    weights = slot == "w"
    box = _box(grid, (1, *three(step, 1)), WEIGHT_PIXELS if weights else PIXELS)
    reach = three([hi - lo + 1 for lo, hi in zip(base, most, strict=True)], 1)
    extent = [
        (-(-n // d) - 1) * s + r for n, d, s, r in zip(box[1:], three(step, 1), three(stride, 1), reach, strict=True)
    ]
    plane = -(-math.prod(extent) // 32) * 32 + 16  # an odd number of half lines: channels in different lines of caches
    chunk = max(1, (TAPS if weights else DEPTH) // n_taps)
    if not in_place:
        chunk = min(chunk, max(1, STRIP // (plane * box[0])))
    chunk = _part(channels, chunk)
    strip = (chunk * plane, plane, math.prod(extent[1:]), extent[2], 1)
    if in_place:
        strip = (*source[:2], *three(source[2:], 0))  # type: ignore[assignment]

    vectors = -(-rows // n_lanes)
    panels = -(-vectors // BLOCK_VECTORS)
    tiles = [-(-n // m) for n, m in zip(grid, box, strict=True)]
    held = chunk * n_taps if weights else math.prod(box)  # rows of sums
    block = _part(panels, max(1, SUMS // (held * BLOCK_VECTORS * n_lanes)))
    segments, width = 1, BLOCK_VECTORS * n_lanes
    vector = ((channels * n_taps) // n_lanes + 2) * n_lanes * n_lanes
    group = vectors * vector
    if weights:
        units = spec.groups * -(-panels // block) * -(-channels // chunk)
        most_segments = min(math.prod(tiles), SEGMENTS // units, SEGMENT_SUMS // (spec.groups * group))
        segments = 1 << max(0, most_segments.bit_length() - 1)
        tasks = units * segments
        sums = (math.prod(box) + n_lanes) * width
    else:
        wanted = spec.groups * math.prod(tiles) * panels // (4 * request.threads)
        block = _part(panels, max(1, min(block, wanted)))
        tasks = spec.groups * math.prod(tiles) * -(-panels // block)
        sums = block * width * math.prod(box) + n_lanes * width
    strip_at = -(-2 * 8 * math.prod(box) // request.dtype.itemsize // 16) * 16
    sums_at = strip_at + (0 if in_place else strip[0] * box[0])
    sums_at = -(-sums_at // 16) * 16
    work = -(-(sums_at + sums) // 16) * 16 + 16
    shared = segments * spec.groups * group
    entries: dict[int, Sequence[int]] = {
        at.BATCH: [spec.batch, spec.groups, rows, channels],
        at.SOURCE: view(source, size, stride),
        at.SHARED: [shared], at.LANES: [n_lanes, chunk], at.WORK: [work],
        at.G_GRID: grid, at.G_BOX: box, at.G_TILES: tiles,
        at.G_STEP: three(step, 1), at.G_BASE: three(base, 0), at.G_REACH: reach,
        at.G_STRIP: strip, at.G_IN_PLACE: [int(in_place), vectors, panels, block, group, vector, spec.groups * group],
        at.G_SEGMENTS: [segments, strip_at, sums_at, n_taps, *three(spec.kernel, 1)],
        at.G_N_PHASES: [len(parts)],
    }  # fmt: skip
    return Cut(spec.groups * panels, tasks, shared, work, entries, parts, strip[1:])


def _table(cut: Cut, n_taps: int, kernel: Shape, more: dict[int, Sequence[int]]) -> npt.NDArray[np.int64]:
    """The kernels' table: the entries, and for each phase the (image offset, row of the panel) of each (channel, tap)."""
    base, chunk = cut.entries[at.G_BASE], cut.entries[at.LANES][1]
    table = [0] * (at.G_PHASES + len(cut.parts) * at.G_LENGTH)
    for entry, values in (cut.entries | more).items():
        table[entry : entry + len(values)] = values
    nd = len(kernel)
    for i, (_, start, taps) in enumerate(cut.parts):
        phase = at.G_PHASES + i * at.G_LENGTH
        table[phase : phase + at.G_LENGTH] = [*three(start, 0), len(table), len(taps)]
        places = []
        for tap in taps:
            away = zip(cut.tap[1:], three(tap[nd:], 0), base, strict=True)
            places.append((sum(s * (t - b) for s, t, b in away), int(np.ravel_multi_index(tap[:nd], kernel))))
        for r in range(chunk):
            for place, k in places:
                table += [r * cut.tap[0] + place, r * n_taps + k]
    return as_table(table)


def _images_plan(request: Request) -> Plan:
    """The forward pass or the gradient with respect to inputs."""
    spec, dtype = request.spec, request.dtype
    w, parts = request.strides[1], cut(request)
    shape = spec.shape(request.slot)
    result = contiguous(shape)
    table = _table(parts, math.prod(spec.kernel), spec.kernel, {
        at.A_GROUP: [spec.cout * w[0], *(w[:2] if request.slot == "y" else (w[1], w[0]))],
        at.RESULT_N: [*result[:2], *three(result[2:], 0)],
        at.G_TAP_STEP: three(w[2:], 0),
    })  # fmt: skip
    stages = [(kernel("gemm:filters", dtype), range(parts.panels)), (kernel("gemm:images", dtype), range(parts.tasks))]
    threads = worthwhile(request.threads, _cost(request) * request.threads)
    launch = Launch(stages, threads, parts.work * dtype.itemsize, table, parts.shared * dtype.itemsize)

    return launch.plan(shape, dtype)


def _weights_plan(request: Request) -> Plan:
    spec, dtype = request.spec, request.dtype
    y, parts = request.strides[1], cut(request)
    table = _table(parts, math.prod(spec.kernel), spec.kernel, {at.G_PANEL_VIEW: [*y[:2], *three(y[2:], 0)]})
    stages = [(kernel("gemm:weights", dtype), range(parts.tasks)), (kernel("gemm:finish", dtype), range(parts.panels))]
    threads = worthwhile(request.threads, _cost(request) * request.threads)
    launch = Launch(stages, threads, parts.work * dtype.itemsize, table, parts.shared * dtype.itemsize)

    return launch.plan(spec.shape("w"), dtype, "w")


# --------------------------------------------------------------------------------------------------------- the algorithm


def _refuses(request: Request) -> str | None:
    """The gradient with respect to inputs is planned phase by phase, which takes time if there are thousands of them."""
    if request.slot != "x":
        return None
    count = math.prod(min(s, i) for s, i in zip(request.spec.stride, request.spec.size, strict=True))
    return f"would have to plan {count} phases of the stride, more than {PHASES}" if count > PHASES else None


def broadcasts(request: Request) -> bool:
    """Whether there are channels enough to fill the lanes."""
    return request.slot == "w" or (request.spec.cin if request.slot == "x" else request.spec.cout) * 2 >= lanes(
        request.dtype
    )


def _cost(request: Request) -> float:
    """Products, gathered vectors and runs, each at its measured price, shared among the threads that have a task."""
    spec, n_lanes = request.spec, lanes(request.dtype)
    taps, pixels, lines = math.prod(spec.kernel), math.prod(spec.out), math.prod(spec.out[:-1])
    images = spec.batch * spec.groups
    if broadcasts(request):
        rows = spec.cin if request.slot == "x" else spec.cout
        vectors = images * pixels * taps * (spec.cin * spec.cout // rows) * -(-rows // n_lanes)
        return 3e-6 + vectors * SECONDS_PER_FMA / max(1, min(request.threads, cut(request).tasks))
    along = 1 if request.slot == "x" else spec.stride[-1]
    scalar = along if along <= 2 else 12  # pixels further apart than two are gathered one by one
    rows, channels = (spec.cout, spec.cin) if request.slot == "y" else (spec.cin, spec.cout)
    panels = -(-pixels // (VECTORS * n_lanes))  # also for the inputs: every output meets every tap once
    tasks = images * panels
    effective_rows = rows // 4 * 4 + rows % 4 * 2  # single rows wait for their own sums
    products = images * effective_rows * channels * taps * panels * VECTORS
    gathered = images * channels * taps * panels * VECTORS * scalar
    runs = images * (lines + panels) * taps * -(-channels // chunks(channels, taps, DEPTH)[0])
    seconds = products * SECONDS_PER_FMA + gathered * SECONDS_PER_GATHER + runs * SECONDS_PER_RUN
    return (seconds + tasks * SECONDS_PER_TASK) / max(1, min(request.threads, tasks))


def _workspace(request: Request) -> int:
    if broadcasts(request):
        elements = cut(request).shared + cut(request).work * request.threads
    else:
        rows = request.spec.cout if request.slot == "y" else request.spec.cin
        elements = (DEPTH + rows) * VECTORS * lanes(request.dtype) * request.threads
    return elements * request.dtype.itemsize


def _plan(request: Request) -> Plan:
    if request.slot == "w":
        return _weights_plan(request)
    return _images_plan(request) if broadcasts(request) else _gather_plan(request)


GEMM = Algorithm(
    name="gemm",
    features=FEATURES - {"unshared"},
    dtypes=frozenset({"float32", "float64"}),
    error=None,
    refuses=_refuses,
    workspace=_workspace,
    cost=_cost,
    plan=_plan,
)
