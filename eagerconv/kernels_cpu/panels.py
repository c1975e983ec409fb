"""The part of `gemm` for filters of one tap: both operands packed, pixels in the lanes (native/panels.py)."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

from eagerconv.kernels_cpu.blocks import GEMM_ROWS, GEMM_VECTORS, PANEL_BYTES, PANEL_STREAMS
from eagerconv.kernels_cpu.jit import kernel
from eagerconv.kernels_cpu.table import PANELS, as_table, non_temporal, three
from eagerconv.kernels_cpu.targets import lanes
from eagerconv.kernels_cpu.threads import Launch
from eagerconv.record import Plan, Request
from eagerconv.spec import Shape, contiguous

FILTER_CHANNELS = 32  # of one task, where filters lie side by side
SUMS_BYTES = 1 << 20  # of one task, where channels come in chunks

# In the unit of gemm.py's, fitted with one thread to 24 layers of all kinds, forward and backward, on AVX2 and AVX-512: per
# vector of products, of pixels, of the result, of filters; and per panel of filters in a task. Launches apart they give
# 0.7 to 1.4 times what was measured, 0.5 for few filters with AVX-512.
SECONDS_PER_FMA, SECONDS_IN, SECONDS_OUT, SECONDS_FILTERS, SECONDS_PER_PANEL = 0.127e-9, 1.4e-9, 1.4e-9, 4e-9, 0.1e-6


class Cut(NamedTuple):
    """How a product is cut into tasks; fields as in table.py, workspaces in elements."""

    fields: dict[str, Any]
    filter_tasks: int
    tasks: int
    shared: int
    work: int


def suits(request: Request) -> bool:
    """Whether the filters have one tap that never leaves the image."""
    spec = request.spec
    if request.slot == "w" or math.prod(spec.kernel) > 1 or min(spec.origin) < 0:
        return False
    axes = zip(spec.out, spec.stride, spec.origin, spec.size, strict=True)
    return all((o - 1) * s + first < n for o, s, first, n in axes)


def _run(sizes: Shape, strides: Shape) -> int:
    """How many pixels of a grid (n, z, y, x) follow each other at the stride of x."""
    run = sizes[-1]
    for n, stride in zip(reversed(sizes[:-1]), reversed(strides[:-1]), strict=True):
        if n > 1 and stride != run * strides[-1]:
            break
        run *= n
    return run


def _part(n: int, most: int, multiple: int = 1) -> int:
    """The length of the parts of n, all about equal and about `most` at most, each a multiple of `multiple`."""
    length = -(-n // -(-n // max(most, multiple)))
    return -(-length // multiple) * multiple


@lru_cache(maxsize=256)
def cut(request: Request) -> Cut:
    """Cut a product."""
    spec, n_lanes, itemsize = request.spec, lanes(request.dtype), request.dtype.itemsize
    source, w = request.strides
    grid, plane = (spec.batch, *three(spec.out, 1)), math.prod(spec.out)
    pixels = spec.batch * plane
    zeros, ones = (0,) * spec.ndim, (1,) * spec.ndim
    forward, spread = request.slot == "y", request.slot == "x" and spec.size != spec.out
    rows, depth = (spec.cout, spec.cin) if forward else (spec.cin, spec.cout)
    stride, origin = (spec.stride, spec.origin) if forward else (ones, zeros)
    strides = (source[0], *three([a * s for a, s in zip(source[2:], stride, strict=True)], 0))
    shape = spec.shape(request.slot)
    result = contiguous(shape)

    panel_bytes = GEMM_VECTORS * n_lanes * itemsize
    chunk = _part(depth, 2 * PANEL_BYTES // panel_bytes)
    wide = GEMM_VECTORS * n_lanes
    block = _part(pixels, max(2, PANEL_BYTES // (chunk * panel_bytes)) * wide, n_lanes)
    panels = -(-rows // GEMM_ROWS)
    part = panels
    if request.threads > 1:
        blocks = spec.groups * -(-pixels // block)
        part = _part(panels, max(1, panels * blocks // (4 * request.threads)))
    if chunk < depth:
        part = _part(panels, min(part, max(1, SUMS_BYTES // (GEMM_ROWS * block * itemsize))))
    row, channel = (w[0], w[1]) if forward else (w[1], w[0])
    filter_channels, filter_panels = (FILTER_CHANNELS, panels) if row == 1 else (depth, 1)
    panel = -(-(depth + n_lanes) * GEMM_ROWS // 16) * 16  # transposes write whole squares
    sums_row = -(-block // n_lanes) * n_lanes + 16
    packed_at = GEMM_ROWS * sums_row * (part if chunk < depth else 1)
    work = packed_at + (-(-block // n_lanes) * chunk + GEMM_VECTORS * n_lanes) * n_lanes
    fields: dict[str, Any] = {
        "GROUPS": spec.groups, "ROWS": rows, "DEPTH": depth, "A_GROUP": spec.cout * w[0], "A_ROW": row, "A_CHANNEL": channel,
        "GRID": grid, "PIXELS": pixels, "PLANE": plane, "SOURCE": strides, "SOURCE_C": source[1],
        "SOURCE_AT": sum(o * s for o, s in zip(origin, source[2:], strict=True)), "SOURCE_RUN": _run(grid, strides),
        "RESULT_N": result[0], "RESULT_C": result[1], "NON_TEMPORAL": PANEL_STREAMS and non_temporal(shape, request.dtype),
        "SPREAD": int(spread), "SIZE": three(spec.size, 1), "STRIDE": three(spec.stride, 1), "FIRST": three(spec.origin, 0),
        "LANES": n_lanes, "BLOCK": block, "PART": part, "CHUNK": chunk, "FILTER_CHANNELS": filter_channels,
        "FILTER_PANELS": filter_panels, "PANELS": panels, "PANEL": panel, "GROUP": panel * panels,
        "PACKED_AT": packed_at, "SUMS_ROW": sums_row,
    }  # fmt: skip
    filter_tasks = spec.groups * -(-depth // filter_channels) * -(-panels // filter_panels)
    tasks = spec.groups * -(-pixels // block) * -(-panels // part)
    return Cut(fields, filter_tasks, tasks, spec.groups * panels * panel, -(-work // 16) * 16)


def seconds(request: Request) -> float:
    """What a product takes on one thread."""
    parts, n_lanes = cut(request), lanes(request.dtype)
    rows, depth, panels, groups = (parts.fields[name] for name in ("ROWS", "DEPTH", "PANELS", "GROUPS"))
    vectors, half = -(-parts.fields["PIXELS"] // n_lanes), GEMM_ROWS // 2
    products = vectors * -(-rows // half) * half * depth
    written = vectors if not parts.fields["SPREAD"] else request.spec.batch * math.prod(request.spec.size) / n_lanes
    moved = vectors * depth * SECONDS_IN + written * rows * SECONDS_OUT + rows * depth / n_lanes * SECONDS_FILTERS
    total: float = groups * (products * SECONDS_PER_FMA + moved) + parts.tasks * panels * SECONDS_PER_PANEL
    return total


def plan(request: Request, threads: int) -> Plan:
    """The forward pass or the gradient with respect to inputs."""
    parts, dtype = cut(request), request.dtype
    stages = [
        (kernel("panels:filters", dtype), range(parts.filter_tasks)),
        (kernel("panels:images", dtype), range(parts.tasks)),
    ]
    table = as_table(PANELS.pack(**parts.fields, SHARED=parts.shared, WORK=parts.work))
    launch = Launch(stages, threads, parts.work * dtype.itemsize, table, parts.shared * dtype.itemsize)
    return launch.plan(request.spec.shape(request.slot), dtype)
