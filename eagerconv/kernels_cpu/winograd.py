"""The algorithms `winograd` and `winograd_f2`: 3x3 filters at stride 1 with fewer multiplications, all three slots."""

from __future__ import annotations

from functools import partial
from math import prod

import numpy as np

from eagerconv.kernels_cpu import table as at
from eagerconv.kernels_cpu.direct import contiguous
from eagerconv.kernels_cpu.gemm import lanes
from eagerconv.kernels_cpu.jit import kernel, register_bytes
from eagerconv.kernels_cpu.table import as_table, view
from eagerconv.kernels_cpu.threads import Launch
from eagerconv.record import Algorithm, Plan, Request

# Tiles of one block of sums, with two vectors of channels: as many as the registers (AVX2 has 16, others 32) can hold, and
# fewer where that divides the tiles better.
BLOCK_ROWS = (6, 5, 4, 2) if register_bytes() == 32 else (14, 13, 12, 11, 8, 4)
SUM_ROWS = 8  # input channels of one block of sums in the gradient with respect to weights
TILES = 28  # tiles of one task: V, M and a filter block stay in the second-level cache
CHUNK = 64  # channels whose filters are transformed at once where the filters are cut into blocks
PART_CHANNELS = 64  # and filters whose sums are held at once where tiles are taken in parts
PART_TILES = 256  # of a part, at least
WEIGHT_TILES = 28  # transformed at a time then
SHARED_BYTES = 24 << 20  # of transformed tiles held at once for the gradient with respect to weights

FILTERS_BYTES = 1 << 20  # transformed filters of more than this are cut into blocks if there are at most
FEW_TILES = 160

ERROR = {2: 8.0, 4: 120.0}
"""Units in the last place of max|a| * sum|b| by which F(m, 3) may be wrong beyond what summing directly costs.

Found by search over random, sparse, one-signed, alternating and widely scaled operands (tests/test_winograd.py repeats it);
the products of the row sums of |A^T|, |G| and |B^T|, which no such operand attains, are far larger.
"""


def _geometry(request: Request, m: int) -> tuple[int, int, int, int]:
    """(rows, channels, tiles across, tiles down) of the forward pass or the gradient with respect to inputs."""
    spec = request.spec
    forward = request.slot == "y"
    rows, channels = (spec.cout, spec.cin) if forward else (spec.cin, spec.cout)
    down, across = (-(-g // m) for g in (spec.out if forward else spec.size))
    return rows, channels, across, down


def _cut(request: Request, m: int) -> bool:
    """Whether filters are transformed block by block, each meeting all tiles, instead of all at once."""
    rows, channels, across, down = _geometry(request, m)
    return (m + 2) ** 2 * rows * channels * request.dtype.itemsize > FILTERS_BYTES and (
        request.spec.batch * across * down <= FEW_TILES
    )


def _block_rows(tiles: int) -> int:
    """The number of rows of a block of sums with which `tiles` tiles take the least time."""
    # Each block loads its two vectors of filters once for all rows: that costs about as much as one row.
    return min(BLOCK_ROWS, key=lambda rows: -(-tiles // rows) * (rows + 1))


def _layout(request: Request, m: int) -> dict[int, int]:
    """Sizes and distances in the workspace, as entries of the table."""
    spec, n_lanes, n = request.spec, lanes(request.dtype), m + 2
    rows, channels, across, down = _geometry(request, m)
    padded, out_blocks = -(-channels // n_lanes) * n_lanes, -(-rows // (2 * n_lanes))
    strip = max(n * (across * m + 2 + n_lanes), 10 * n_lanes) * n_lanes + 16 * n_lanes
    total = spec.batch * across * down
    gap = n_lanes  # a vector more from frequency to frequency: they must not share their cache sets
    if _cut(request, m):
        block = _block_rows(total)
        tiles = -(-total // block) * block
        chunk = min(CHUNK, padded)
        u_xi, v_xi, p_xi = chunk * 2 * n_lanes + gap, padded * tiles + gap, tiles * 2 * n_lanes + gap
        shared, work = spec.groups * n * n * v_xi, n * n * (u_xi + p_xi) + strip
    else:
        # Fewer tiles at a time where there would be too few tasks.
        block = _block_rows(total if spec.groups * total < 2 * TILES * request.threads else TILES)
        tiles, chunk = (
            block if spec.groups * total < 2 * TILES * request.threads else -(-TILES // block) * block,
            padded,
        )
        u_xi = out_blocks * padded * 2 * n_lanes + gap
        v_xi, p_xi = padded * tiles + gap, out_blocks * tiles * 2 * n_lanes + gap
        shared, work = spec.groups * n * n * u_xi, n * n * (v_xi + p_xi) + strip
    return {
        at.TILES: tiles, at.ROW_BLOCK: block, at.CHANNEL_CHUNK: chunk // n_lanes, at.LANES: n_lanes,
        at.SHARED: shared, at.WORK: work,
        at.U_GROUP: n * n * u_xi, at.U_BLOCK: padded * 2 * n_lanes, at.U_XI: u_xi,
        at.V_GROUP: n * n * v_xi, at.V_BLOCK: tiles * n_lanes, at.V_XI: v_xi,
        at.P_BLOCK: tiles * 2 * n_lanes, at.P_XI: p_xi,
    }  # fmt: skip


def _images_plan(request: Request, m: int) -> Plan:
    """The forward pass or the gradient with respect to inputs."""
    spec, dtype = request.spec, request.dtype
    forward = request.slot == "y"
    source, w = request.strides
    rows, channels, across, down = _geometry(request, m)
    grid, size = (spec.out, spec.size) if forward else (spec.size, spec.out)
    result_shape = spec.shape(request.slot)
    # Forward, source = j + k*step + origin; for the inputs, source = j - k*step - origin.
    sign = 1 if forward else -1
    base = tuple(sign * p + min(0, 2 * sign * d) for p, d in zip(spec.origin, spec.step, strict=True))

    layout = _layout(request, m)
    table = [0] * at.WINOGRAD_LENGTH
    row, channel = (w[0], w[1]) if forward else (w[1], w[0])
    table[: at.A_CHANNEL + 1] = [spec.batch, spec.groups, rows, channels, spec.cout * w[0], row, channel]
    table[at.SOURCE : at.SOURCE + at.V_LENGTH] = view(source, size, (1, 1))
    table[at.RESULT_N : at.RESULT_C + 1] = contiguous(result_shape)[:2]
    table[at.GRID_Y : at.BACKWARDS + 1] = [*grid, *base, int(sign * spec.step[0] < 0)]
    for entry, value in layout.items():
        table[entry] = value

    n_lanes = layout[at.LANES]
    if _cut(request, m):
        stages = [
            ("inputs", spec.groups * -(-channels // n_lanes) * spec.batch * down),
            ("products", spec.groups * -(-rows // (2 * n_lanes))),
        ]
    else:
        stages = [
            ("filters", spec.groups * -(-rows // n_lanes)),
            ("tiles", spec.groups * -(-spec.batch * across * down // layout[at.TILES])),
        ]
    kernels = [(kernel(f"winograd:{name}_{m}", dtype), range(tasks)) for name, tasks in stages]
    work, shared = layout[at.WORK] * dtype.itemsize, layout[at.SHARED] * dtype.itemsize
    launch = Launch(kernels, request.threads, work, as_table(table), shared)

    return launch.plan(result_shape, dtype)


def _in_parts(request: Request, m: int) -> bool:
    """Whether the gradient with respect to weights does everything for some tiles at a time, for blocks of channels."""
    spec = request.spec
    tiles = spec.batch * prod(-(-g // m) for g in spec.out)
    return tiles >= 96 and max(spec.cin, spec.cout) <= 2 * PART_CHANNELS


def _weights_layout(request: Request, m: int) -> dict[int, int]:
    spec, n_lanes, n = request.spec, lanes(request.dtype), m + 2
    down, across = (-(-g // m) for g in spec.out)
    total = spec.batch * down * across
    in_parts = _in_parts(request, m)
    largest = PART_CHANNELS if in_parts else 2 * n_lanes
    c_block, f_block = (
        min(-(-c // v) * v, largest // v * v) for c, v in ((spec.cin, n_lanes), (spec.cout, 2 * n_lanes))
    )
    c_blocks, f_blocks = -(-spec.cin // c_block), -(-spec.cout // f_block)
    owned = spec.groups * c_blocks * f_blocks
    u_xi = c_block * f_block + n_lanes
    strip = max(n * (across * m + 2 + n_lanes) * n_lanes, 10 * n_lanes * n_lanes) + 16 * n_lanes
    if in_parts:
        parts = 1
        while parts < 16 and (parts * 2 * PART_TILES <= total or parts * owned < 2):
            parts *= 2
        tiles, part = WEIGHT_TILES, -(-total // parts)
        parts = -(-total // part)
    else:
        per_line = spec.groups * n * n * (c_blocks * c_block + f_blocks * f_block) * across * request.dtype.itemsize
        tiles, part, parts = max(1, min(spec.batch * down, SHARED_BYTES // per_line)) * across, total, 1
    v_xi, p_xi = tiles * c_block + n_lanes, tiles * f_block + n_lanes
    v_block, p_block = n * n * v_xi, n * n * p_xi
    if in_parts:
        held, waiting, work = 0, parts * owned * n * n * u_xi, v_block + p_block
    else:
        held = spec.groups * (c_blocks * v_block + f_blocks * p_block)
        waiting, work = owned * n * n * u_xi if tiles < total else 0, n * n * u_xi
    return {
        at.TILES: tiles, at.LANES: n_lanes, at.SHARED: held + waiting, at.WORK: work + strip, at.FILTER: spec.cin * 9,
        at.U_BLOCK: n * n * u_xi, at.U_XI: u_xi, at.U_START: held,
        at.V_GROUP: c_blocks * v_block + f_blocks * p_block, at.V_BLOCK: v_block, at.V_XI: v_xi,
        at.Z_START: c_blocks * v_block, at.P_BLOCK: p_block, at.P_XI: p_xi,
        at.CHANNEL_BLOCK: c_block, at.FILTER_BLOCK: f_block, at.PART: part, at.PARTS: parts,
    }  # fmt: skip


def _weights_plan(request: Request, m: int) -> Plan:
    spec, dtype = request.spec, request.dtype
    x, y = request.strides
    base = tuple(p + min(0, 2 * d) for p, d in zip(spec.origin, spec.step, strict=True))
    layout = _weights_layout(request, m)
    table = [0] * at.WINOGRAD_LENGTH
    table[: at.COUT + 1] = [spec.batch, spec.groups, spec.cin, spec.cout]
    table[at.X_VIEW : at.X_VIEW + at.V_LENGTH] = view(x, spec.size, (1, 1))
    table[at.Y_VIEW : at.Y_VIEW + at.V_LENGTH] = view(y, spec.out, (1, 1))
    table[at.GRID_Y : at.BACKWARDS + 1] = [*spec.out, *base, int(spec.step[0] < 0)]
    for entry, value in layout.items():
        table[entry] = value

    n_lanes = layout[at.LANES]
    c_vectors, f_vectors = -(-spec.cin // n_lanes), -(-spec.cout // n_lanes)
    owned = spec.groups * -(-spec.cin // layout[at.CHANNEL_BLOCK]) * -(-spec.cout // layout[at.FILTER_BLOCK])
    stages: list[tuple[str, range]]
    if _in_parts(request, m):
        stages = [("parts", range(layout[at.PARTS] * owned)), ("join", range(spec.groups * c_vectors * f_vectors))]
    else:
        down, across = (-(-g // m) for g in spec.out)
        lines, block, vectors = spec.batch * down, layout[at.TILES] // across, spec.groups * (c_vectors + f_vectors)
        stages = []
        for i, first in enumerate(range(0, lines, block)):
            stages.append(("transforms", range(first * vectors, min(first + block, lines) * vectors)))
            stages.append(("sums", range(i * owned, (i + 1) * owned)))
    kernels = [(kernel(f"winograd:{name}_{m}", dtype), tasks) for name, tasks in stages]
    work, shared = layout[at.WORK] * dtype.itemsize, layout[at.SHARED] * dtype.itemsize
    launch = Launch(kernels, request.threads, work, as_table(table), shared)

    return launch.plan(spec.shape("w"), dtype, "w")


# --------------------------------------------------------------------------------------------------------- the algorithm

# Measured on one AVX-512 core at 4 GHz, by m: seconds per vector of channels of one tile, and per pair of channel and vector.
SECONDS_IN, SECONDS_OUT, SECONDS_FILTER = {2: 24e-9, 4: 64e-9}, {2: 16e-9, 4: 44e-9}, {2: 14e-9, 4: 26e-9}
SECONDS_PER_FMA = 0.14e-9
SECONDS_PER_BYTE = (
    0.03e-9  # of transformed filters that do not fit the second-level cache, for each task that reads them
)


def _refuses(request: Request) -> str | None:
    spec = request.spec
    if spec.kernel != (3, 3):
        return f"is for 3x3 filters, not {'x'.join(map(str, spec.kernel))}"
    a, b = request.strides
    if a[-1] != 1 or (request.slot == "w" and b[-1] != 1):
        return "needs the pixels of a row next to each other"
    if request.slot != "w" and b[2:] != (3, 1):
        return "needs the nine taps of a filter next to each other"
    return None


def _cost(request: Request, m: int) -> float:
    spec, n_lanes, n = request.spec, lanes(request.dtype), m + 2
    down, across = (-(-g // m) for g in (spec.size if request.slot == "x" else spec.out))
    tiles = spec.batch * across * down
    c, f2 = -(-spec.cin // n_lanes), -(-spec.cout // (2 * n_lanes))
    f = -(-spec.cout // n_lanes)
    if request.slot == "w":
        tasks = c * f2
        seconds = tiles * (c + f) * SECONDS_IN[m] + tiles * n * n * c * n_lanes * 2 * f2 * SECONDS_PER_FMA * 1.6
        seconds += spec.cin * f * SECONDS_FILTER[m] * 2
    else:
        rows, channels = (f, c) if request.slot == "y" else (c, f)
        blocks = -(-rows // 2)
        filters = n * n * channels * n_lanes * blocks * 2 * n_lanes * request.dtype.itemsize
        tasks = blocks if _cut(request, m) else -(-tiles // TILES)
        block = _block_rows(tiles)
        seconds = tiles * (channels * SECONDS_IN[m] + rows * SECONDS_OUT[m])
        seconds += -(-tiles // block) * block * n * n * channels * n_lanes * 2 * blocks * SECONDS_PER_FMA
        seconds += channels * n_lanes * rows * SECONDS_FILTER[m]
        if filters > FILTERS_BYTES and not _cut(request, m):
            seconds += tasks * filters * SECONDS_PER_BYTE
    return 5e-6 + spec.groups * seconds / max(1, min(request.threads, spec.groups * tasks))


def _workspace(request: Request, m: int) -> int:
    layout = _weights_layout(request, m) if request.slot == "w" else _layout(request, m)
    return (layout[at.SHARED] + layout[at.WORK] * request.threads) * request.dtype.itemsize


def _plan(request: Request, m: int) -> Plan:
    return _weights_plan(request, m) if request.slot == "w" else _images_plan(request, m)


def _algorithm(name: str, m: int) -> Algorithm:
    return Algorithm(
        name=name,
        features=frozenset({"2d", "flipped", "padded", "asymmetric", "grouped"}),
        dtypes=frozenset({"float32", "float64"}),
        error=lambda request: ERROR[m] * float(np.finfo(request.dtype).eps),
        refuses=_refuses,
        workspace=partial(_workspace, m=m),
        cost=partial(_cost, m=m),
        plan=partial(_plan, m=m),
    )


WINOGRAD, WINOGRAD_F2 = _algorithm("winograd", 4), _algorithm("winograd_f2", 2)
