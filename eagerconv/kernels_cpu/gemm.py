"""The algorithm `gemm`: products of filters with tiles gathered into small per-thread buffers, on vector microkernels."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from eagerconv.kernels_cpu import table as at
from eagerconv.kernels_cpu.direct import contiguous
from eagerconv.kernels_cpu.jit import kernel, register_bytes
from eagerconv.kernels_cpu.table import as_table, flat, three, view
from eagerconv.kernels_cpu.threads import Launch, worthwhile
from eagerconv.record import FEATURES, Algorithm, Plan, Request
from eagerconv.spec import ConvSpec, Shape

VECTORS = 3  # per row of the outer product's block: a panel is this many vectors wide
DEPTH = 384  # rows (channel, tap) of a panel: with three vectors it stays in the second-level cache
COLUMNS = 144  # (channel, tap) columns of one task of the gradient with respect to weights
FILTERS = 64  # filters whose rows of y are gathered at once
PHASES = 512  # of the stride, at most
TILE = 768  # pixels gathered at once for the gradient with respect to weights

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
    native = kernel("gemm:gather", dtype)
    threads = worthwhile(request.threads, _cost(request) * request.threads)
    launch = Launch([(native, range(tasks))], threads, work * dtype.itemsize, geometry)

    return launch.plan(result_shape, dtype)


def _row_block(rows: int, panels: int, threads: int) -> int:
    """Result channels of one task: all, unless there are too few panels of pixels to keep every thread busy."""
    blocks = min(-(-4 * threads // max(panels, 1)), -(-rows // 16))
    return -(-rows // (blocks * 8)) * 8


# -------------------------------------------------------------------------------------------- gradient with respect to w


def _weights_plan(request: Request) -> Plan:
    spec, dtype = request.spec, request.dtype
    x, y = request.strides
    taps = [
        tuple(k * d + p for k, d, p in zip(index, spec.step, spec.origin, strict=True))
        for index in np.ndindex(*spec.kernel)
    ]
    channel_chunk, tap_chunk = chunks(spec.cin, len(taps), COLUMNS)
    filter_chunk = min(FILTERS, spec.cout)
    pixels = spec.batch * math.prod(spec.out)
    tile = min(TILE, -(-pixels // lanes(dtype)) * lanes(dtype))
    work = (channel_chunk * tap_chunk + filter_chunk) * tile

    table = [0] * at.TAPS
    x_grid, *x_view = flat(spec.out, x, spec.size, spec.stride, taps)
    y_grid, *y_view = flat(spec.out, y, spec.out, (1,) * spec.ndim, ())
    table[: at.GRID + 3] = [spec.batch, spec.groups, spec.cin, spec.cout, *three(x_grid, 1)]
    table[at.X_VIEW : at.X_VIEW + at.V_LENGTH] = view(*x_view)
    table[at.Y_VIEW : at.Y_VIEW + at.V_LENGTH] = view(*y_view)
    table[at.Y_GRID : at.Y_GRID + 3] = three(y_grid, 1)
    table[at.FILTER : at.N_TAPS + 1] = [spec.cin * len(taps), tile, filter_chunk, len(taps)]
    for entry, value in (
        (at.LANES, lanes(dtype)),
        (at.CHANNEL_CHUNK, channel_chunk),
        (at.TAP_CHUNK, tap_chunk),
        (at.WORK, work),
    ):
        table[entry] = value
    for tap in taps:
        table += [0, *three(tap, 0)]
    geometry = as_table(table)
    tasks = spec.groups * -(-spec.cin // channel_chunk) * -(-len(taps) // tap_chunk)
    native = kernel("gemm:weights", dtype)
    threads = worthwhile(request.threads, _cost(request) * request.threads)
    launch = Launch([(native, range(tasks))], threads, work * dtype.itemsize, geometry)
    shape = spec.shape("w")

    return launch.plan(shape, dtype, "w")


# --------------------------------------------------------------------------------------------------------- the algorithm


def _refuses(request: Request) -> str | None:
    """The gradient with respect to inputs is planned phase by phase, which takes time if there are thousands of them."""
    if request.slot != "x":
        return None
    count = math.prod(min(s, i) for s, i in zip(request.spec.stride, request.spec.size, strict=True))
    return f"would have to plan {count} phases of the stride, more than {PHASES}" if count > PHASES else None


def _cost(request: Request) -> float:
    """Products, gathered vectors and runs, each at its measured price, shared among the threads that have a task."""
    spec, n_lanes = request.spec, lanes(request.dtype)
    taps, pixels, lines = math.prod(spec.kernel), math.prod(spec.out), math.prod(spec.out[:-1])
    images = spec.batch * spec.groups
    along = 1 if request.slot == "x" else spec.stride[-1]
    scalar = along if along <= 2 else 12  # pixels further apart than two are gathered one by one
    if request.slot == "w":
        vectors = -(-spec.batch * pixels // n_lanes)
        channel_chunk, tap_chunk = chunks(spec.cin, taps, COLUMNS)
        blocks = -(-spec.cin // channel_chunk) * -(-taps // tap_chunk)
        tasks = spec.groups * blocks
        products = spec.groups * spec.cout * spec.cin * taps * vectors
        gathered = spec.groups * spec.cin * taps * vectors * scalar + tasks * spec.cout * vectors
        runs = images * lines * taps * -(-spec.cin // channel_chunk)
    else:
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
    spec, n_lanes = request.spec, lanes(request.dtype)
    if request.slot == "w":
        elements = (COLUMNS + min(FILTERS, spec.cout)) * TILE
    else:
        rows = spec.cout if request.slot == "y" else spec.cin
        elements = (DEPTH + rows) * VECTORS * n_lanes
    return elements * request.dtype.itemsize * request.threads


GEMM = Algorithm(
    name="gemm",
    features=FEATURES - {"unshared"},
    dtypes=frozenset({"float32", "float64"}),
    error=None,
    refuses=_refuses,
    workspace=_workspace,
    cost=_cost,
    plan=lambda request: _weights_plan(request) if request.slot == "w" else _gather_plan(request),
)
