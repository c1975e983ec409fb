"""The algorithm `rows`: result rows summed in vector registers, for depthwise layers and few channels per group."""

from __future__ import annotations

import math

from eagerconv.kernels_cpu import table as at
from eagerconv.kernels_cpu.direct import contiguous
from eagerconv.kernels_cpu.gemm import lanes
from eagerconv.kernels_cpu.jit import kernel
from eagerconv.kernels_cpu.table import as_table, direct_table, three, view
from eagerconv.kernels_cpu.threads import Launch, worthwhile
from eagerconv.record import FEATURES, Algorithm, Plan, Request

VECTORS = 4  # of a row summed at once
LINES = 8  # rows of one task

# Measured on one AVX-512 core at 4 GHz: per row of the result, per tap of a row, per vector of products, and per row of y
# that meets a tap of the gradient with respect to weights.
SECONDS_PER_ROW, SECONDS_PER_TAP, SECONDS_PER_PRODUCT, SECONDS_PER_LINE = 40e-9, 1.5e-9, 0.45e-9, 4e-9


def _images_plan(request: Request) -> Plan:
    spec, dtype = request.spec, request.dtype
    forward, nd = request.slot == "y", spec.ndim
    source, w = request.strides
    rows, channels = (spec.cout, spec.cin) if forward else (spec.cin, spec.cout)
    row, channel = (w[0], w[1]) if forward else (w[1], w[0])
    size, grid = (spec.size, spec.out) if forward else (spec.out, spec.size)
    shape = spec.shape(request.slot)
    # Forward i = o*stride + k*step + origin. For the inputs o*stride = i - k*step - origin.
    sign, one = (1, (1,) * nd) if forward else (-1, (1,) * nd)
    multiply, divide = (spec.stride, one) if forward else (one, spec.stride)

    count = channels * math.prod(spec.kernel[:-1])  # source rows of one result row
    work = -(-2 * count * 8 // dtype.itemsize)
    table = [0] * at.ROWS_LENGTH
    table[: at.A_CHANNEL + 1] = [spec.batch, spec.groups, rows, channels, spec.cout * w[0], row, channel]
    table[at.SOURCE : at.SOURCE + at.V_LENGTH] = view(source, size, one)
    table[at.WORK] = work
    for entry, values, filler in (
        (at.R_GRID, grid, 1), (at.R_KERNEL, spec.kernel, 1), (at.R_MULTIPLY, multiply, 1), (at.R_DIVIDE, divide, 1),
        (at.R_STEP, tuple(sign * d for d in spec.step), 1), (at.R_ORIGIN, tuple(sign * p for p in spec.origin), 0),
        (at.R_TAP, w[2:], 0),
    ):  # fmt: skip
        table[entry : entry + 3] = three(values, filler)
    tasks = spec.batch * spec.groups * rows * (math.prod(grid[:-2]) * -(-grid[-2] // LINES) if nd > 1 else 1)
    threads = worthwhile(request.threads, _cost(request) * request.threads)
    launch = Launch([(kernel("rows:images", dtype), range(tasks))], threads, work * dtype.itemsize, as_table(table))

    return launch.plan(shape, dtype)


def _weights_plan(request: Request) -> Plan:
    spec, dtype = request.spec, request.dtype
    x, y = request.strides
    shape = spec.shape("w")
    table = as_table(direct_table(spec, x, contiguous(shape), y))
    threads = worthwhile(request.threads, _cost(request) * request.threads)
    launch = Launch([(kernel("rows:weights", dtype), range(spec.groups * spec.cout * spec.cin))], threads, 0, table)

    return launch.plan(shape, dtype, "w")


# --------------------------------------------------------------------------------------------------------- the algorithm


def _refuses(request: Request) -> str | None:
    if request.spec.stride[-1] != 1:
        return "does not know a stride along the last axis"
    given = request.strides if request.slot == "w" else request.strides[:1]
    return None if all(strides[-1] == 1 for strides in given) else "needs the pixels of a row next to each other"


def _cost(request: Request) -> float:
    spec, n_lanes = request.spec, lanes(request.dtype)
    rows, taps = math.prod(spec.kernel[:-1]), math.prod(spec.kernel)
    pairs = spec.batch * spec.groups * spec.cin * spec.cout
    if request.slot == "w":
        tasks = spec.groups * spec.cin * spec.cout
        met = pairs * taps * math.prod(spec.out[:-1])
        seconds = met * (SECONDS_PER_LINE + -(-spec.out[-1] // n_lanes) * SECONDS_PER_PRODUCT)
    else:
        grid = spec.out if request.slot == "y" else spec.size
        channels = spec.cout if request.slot == "y" else spec.cin
        tasks = spec.batch * spec.groups * channels * -(-math.prod(grid[:-1]) // LINES)
        lines = math.prod(spec.out[:-1])
        pieces = -(-grid[-1] // (VECTORS * n_lanes))
        seconds = spec.batch * spec.groups * channels * math.prod(grid[:-1]) * SECONDS_PER_ROW
        seconds += pairs * lines * (rows * 4e-9 + taps * pieces * (SECONDS_PER_TAP + VECTORS * SECONDS_PER_PRODUCT))
    return seconds / max(1, min(request.threads, tasks))


def _workspace(request: Request) -> int:
    spec = request.spec
    channels = spec.cin if request.slot == "y" else spec.cout
    return 0 if request.slot == "w" else (16 * channels * math.prod(spec.kernel[:-1]) + 8) * request.threads


ROWS = Algorithm(
    name="rows",
    features=FEATURES - {"unshared"},
    dtypes=frozenset({"float32", "float64"}),
    error=None,
    refuses=_refuses,
    workspace=_workspace,
    cost=_cost,
    plan=lambda request: _weights_plan(request) if request.slot == "w" else _images_plan(request),
)
