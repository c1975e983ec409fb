"""The algorithms `winograd` and `winograd_f2`: stride 1 with fewer multiplications, all three slots, 1 to 3 axes."""

from __future__ import annotations

from functools import lru_cache, partial
from math import prod
from typing import NamedTuple

import numpy as np

from eagerconv.kernels_cpu.blocks import WINOGRAD_ROWS
from eagerconv.kernels_cpu.jit import kernel
from eagerconv.kernels_cpu.ranges import range_of_forms
from eagerconv.kernels_cpu.table import WINOGRAD_IMAGES, WINOGRAD_WEIGHTS, as_table, non_temporal, three, view
from eagerconv.kernels_cpu.targets import lanes
from eagerconv.kernels_cpu.threads import Launch
from eagerconv.record import Algorithm, Plan, Range, Request
from eagerconv.spec import ConvSpec, Shape, contiguous

TILES = 28  # tiles of one task: V, M and a filter block stay in the second-level cache
CHUNK = 64  # channels whose filters are transformed at once where the filters are cut into blocks
PART_CHANNELS = 64  # and filters whose sums are held at once where tiles are taken in parts
PART_TILES = 256  # of a part, at least
FEW_WEIGHT_TILES = 96  # are not cut into parts
WEIGHT_TILES = 28  # transformed at a time then
SHARED_BYTES = 24 << 20  # of transformed tiles held at once for the gradient with respect to weights

FILTERS_BYTES = 1 << 20  # transformed filters of more than this are cut into blocks if there are at most
FEW_TILES = 160


class Form(NamedTuple):
    """Outputs m of a tile, taps r, each (down, across), and the bound on the error.

    `error` is in units in the last place of max|a| * sum|b|, beyond what summing directly costs. Found by search over random,
    sparse, one-signed, alternating and widely scaled operands (tests/test_winograd.py repeats it); the products of the row
    sums of |A^T|, |G| and |B^T|, which no such operand attains, are far larger.
    """

    m: Shape
    r: Shape
    error: float

    @property
    def n(self) -> Shape:
        """Frequencies (down, across)."""
        return self.m[0] + self.r[0] - 1, self.m[1] + self.r[1] - 1

    @property
    def name(self) -> str:
        """As the kernels' names end."""
        return "_".join(f"{m}x{r}" for m, r in zip(self.m, self.r, strict=True))


Forms = dict[Shape, Form]


def _forms(square: Form, line: dict[int, tuple[int, float]]) -> Forms:
    """Forms by their taps: `square`, and for filters of one axis those of `line`: taps -> (outputs, error)."""
    found = {square.r: square}
    for r, (m, error) in line.items():
        found |= {(1, r): Form((1, m), (1, r), error), (r, 1): Form((m, 1), (r, 1), error)}
    return found


F4 = _forms(
    Form((4, 4), (3, 3), 120.0),
    {2: (4, 12.0), 3: (4, 16.0), 4: (4, 40.0), 5: (4, 40.0), 6: (3, 60.0), 7: (4, 200.0)},
)
F2 = _forms(Form((2, 2), (3, 3), 8.0), {2: (2, 8.0), 3: (2, 8.0)})


class Axes(NamedTuple):
    """A contraction on three axes (z, y, x), those in front of one or two of size 1."""

    size: Shape
    kernel: Shape
    out: Shape
    step: Shape
    origin: Shape

    @property
    def apart(self) -> Shape:
        """Pixels between taps, on the axes of tiles (y, x)."""
        return tuple(abs(d) if k > 1 else 1 for k, d in zip(self.kernel[1:], self.step[1:], strict=True))


def _flat(spec: ConvSpec) -> bool:
    """Whether taps lie along the first of three axes alone, so that planes can be seen as the rows of one image."""
    same = spec.size[1:] == spec.out[1:] and not any(spec.origin[1:])
    return spec.ndim == 3 and spec.kernel[0] > 1 and spec.kernel[1:] == (1, 1) and same


@lru_cache(maxsize=1024)
def _axes(spec: ConvSpec) -> Axes:
    size, taps, out, step = (three(values, 1) for values in (spec.size, spec.kernel, spec.out, spec.step))
    axes = Axes(size, taps, out, step, three(spec.origin, 0))
    if not _flat(spec):
        return axes
    pixels = prod(spec.size[1:])
    size, out = (1, spec.size[0], pixels), (1, spec.out[0], pixels)
    return Axes(size, (1, taps[0], 1), out, (1, step[0], 1), (0, spec.origin[0], 0))


def _strides(spec: ConvSpec, strides: Shape) -> Shape:
    """Of an array (n, c, *three axes), as `_axes` sees them."""
    if _flat(spec):
        return (*strides[:2], 0, strides[2], strides[4])
    return (*strides[:2], *three(strides[2:], 0))


def _tiles(axes: Axes, grid: Shape, form: Form) -> Shape:
    """Tiles (down, across) of a grid (z, y, x): one of each of the interleaved signals that taps `apart` see, or none."""
    return tuple(-(-g // (m * d)) * d for g, m, d in zip(grid[1:], form.m, axes.apart, strict=True))


class Geometry(NamedTuple):
    """The forward pass, or the gradient with respect to inputs, as tiles."""

    rows: int  # channels of the result, of the source, per group
    channels: int
    grid: Shape  # places of the result, of the source
    size: Shape
    down: int  # tiles
    across: int
    lines: int  # rows of tiles of all images
    vectors: int  # of channels, with those of each tap along z


def _geometry(request: Request, form: Form) -> Geometry:
    spec, axes = request.spec, _axes(request.spec)
    forward = request.slot == "y"
    rows, channels = (spec.cout, spec.cin) if forward else (spec.cin, spec.cout)
    grid, size = (axes.out, axes.size) if forward else (axes.size, axes.out)
    down, across = _tiles(axes, grid, form)
    vectors = axes.kernel[0] * -(-channels // lanes(request.dtype))
    return Geometry(rows, channels, grid, size, down, across, spec.batch * grid[0] * down, vectors)


def _cut(request: Request, form: Form) -> bool:
    """Whether filters are transformed block by block, each meeting all tiles, instead of all at once."""
    of = _geometry(request, form)
    size = prod(form.n) * of.rows * of.vectors * lanes(request.dtype) * request.dtype.itemsize
    return size > FILTERS_BYTES and of.lines * of.across <= FEW_TILES


def _block_rows(tiles: int) -> int:
    """The number of rows of a block of sums with which `tiles` tiles take the least time."""
    # Each block loads its two vectors of filters once for all rows: that costs about as much as one row.
    return min(WINOGRAD_ROWS, key=lambda rows: -(-tiles // rows) * (rows + 1))


def _strip(form: Form, tiles: int, apart: int, n_lanes: int) -> int:
    """Elements of a strip of pixels with room for `tiles` tiles of a row, or for the taps of a vector of channels.

    Groups of tiles of P phases, at most `apart`, take ((groups - 1)*m + n)*P pixels: with r - 1 = n - m more for each phase.
    """
    pixels = form.n[0] * (tiles * form.m[1] + form.r[1] * min(apart, tiles) + n_lanes)
    return (max(pixels, (n_lanes + 1) * prod(form.r)) + 2 * n_lanes) * n_lanes


def _layout(request: Request, form: Form) -> dict[str, int]:
    """Sizes and distances in the workspace, as fields of the table."""
    spec, n_lanes, n = request.spec, lanes(request.dtype), prod(form.n)
    of = _geometry(request, form)
    padded, out_blocks = of.vectors * n_lanes, -(-of.rows // (2 * n_lanes))
    total = of.lines * of.across
    gap = n_lanes  # a vector more from frequency to frequency: they must not share their cache sets
    apart = _axes(spec).apart[1]
    if _cut(request, form):
        block = _block_rows(total)
        tiles = held = -(-total // block) * block
        chunk = min(CHUNK, padded)
        u_xi, v_xi, p_xi = chunk * 2 * n_lanes + gap, padded * tiles + gap, tiles * 2 * n_lanes + gap
        shared, work = spec.groups * n * v_xi, n * (u_xi + p_xi) + _strip(form, of.across, apart, n_lanes)
    else:
        # Fewer tiles at a time where there would be too few tasks.
        few = spec.groups * total < 2 * TILES * request.threads
        most = TILES // apart * apart if apart <= TILES else TILES  # whole groups are loaded and stored in one piece
        block = _block_rows(total if few else most)
        tiles, chunk = block if few else most, padded
        u_xi = out_blocks * padded * 2 * n_lanes + gap
        held = -(-tiles // block) * block
        v_xi, p_xi = padded * held + gap, out_blocks * held * 2 * n_lanes + gap
        shared = spec.groups * n * u_xi
        work = n * (v_xi + p_xi) + _strip(form, min(of.across, tiles), apart, n_lanes)
    return {
        "TILES": tiles, "ROW_BLOCK": block, "CHANNEL_CHUNK": chunk // n_lanes, "LANES": n_lanes,
        "SHARED": shared, "WORK": work, "NON_TEMPORAL": non_temporal(spec.shape(request.slot), request.dtype),
        "U_GROUP": n * u_xi, "U_BLOCK": padded * 2 * n_lanes, "U_XI": u_xi,
        "V_GROUP": n * v_xi, "V_BLOCK": held * n_lanes, "V_XI": v_xi,
        "P_BLOCK": held * 2 * n_lanes, "P_XI": p_xi,
    }  # fmt: skip


def _places(spec: ConvSpec, grid: Shape, sign: int) -> dict[str, int]:
    """How a place of the grid and a tap make a place of the source: place + sign * (tap*step + origin)."""
    axes = _axes(spec)
    steps = [sign * d for d in axes.step]
    base = [sign * p for p in axes.origin]
    for axis in (1, 2):  # down and across, taps are counted from the least offset
        base[axis] += min(0, (axes.kernel[axis] - 1) * steps[axis])
    backwards = any(k > 1 and d < 0 for k, d in zip(axes.kernel[1:], steps[1:], strict=True))
    return {
        "GRID_Z": grid[0], "GRID_Y": grid[1], "GRID_X": grid[2], "BASE_Z": base[0], "BASE_Y": base[1],
        "BASE_X": base[2], "BACKWARDS": int(backwards), "DEPTH": axes.kernel[0], "STEP_Z": steps[0],
        "APART_Y": axes.apart[0], "APART_X": axes.apart[1],
    }  # fmt: skip


def _images_plan(request: Request, form: Form) -> Plan:
    """The forward pass or the gradient with respect to inputs."""
    spec, dtype = request.spec, request.dtype
    forward = request.slot == "y"
    source, w = (_strides(spec, strides) for strides in request.strides)
    of, layout = _geometry(request, form), _layout(request, form)
    shape = spec.shape(request.slot)

    row, channel = (w[0], w[1]) if forward else (w[1], w[0])
    image, channel_of_result = contiguous(shape)[:2]
    table = WINOGRAD_IMAGES.pack(
        **layout, **_places(spec, of.grid, 1 if forward else -1),
        BATCH=spec.batch, GROUPS=spec.groups, ROWS=of.rows, CHANNELS=of.channels, SOURCE=view(source, of.size, (1, 1)),
        A_GROUP=spec.cout * w[0], A_ROW=row, A_CHANNEL=channel, W_Z=w[2], W_Y=w[3], W_X=w[4],
        RESULT_N=image, RESULT_C=channel_of_result,
    )  # fmt: skip

    n_lanes = layout["LANES"]
    if _cut(request, form):
        stages = [
            ("inputs", spec.groups * of.vectors * of.lines),
            ("products", spec.groups * -(-of.rows // (2 * n_lanes))),
        ]
    else:
        stages = [
            ("filters", spec.groups * -(-of.rows // n_lanes)),
            ("tiles", spec.groups * -(-of.lines * of.across // layout["TILES"])),
        ]
    kernels = [(kernel(f"winograd:{name}_{form.name}", dtype), range(tasks)) for name, tasks in stages]
    work, shared = layout["WORK"] * dtype.itemsize, layout["SHARED"] * dtype.itemsize
    launch = Launch(kernels, request.threads, work, as_table(table), shared)

    return launch.plan(shape, dtype)


class WeightsGeometry(NamedTuple):
    """The gradient with respect to weights, as tiles."""

    channels: int  # lanes of all vectors of channels, with those of each tap along z
    across: int
    lines: int  # rows of tiles of all images


def _weights_geometry(request: Request, form: Form) -> WeightsGeometry:
    spec, axes = request.spec, _axes(request.spec)
    down, across = _tiles(axes, axes.out, form)
    n_lanes = lanes(request.dtype)
    return WeightsGeometry(axes.kernel[0] * -(-spec.cin // n_lanes) * n_lanes, across, spec.batch * axes.out[0] * down)


def _in_parts(request: Request, form: Form) -> bool:
    """Whether the gradient with respect to weights does everything for some tiles at a time, for blocks of channels."""
    of = _weights_geometry(request, form)
    return of.lines * of.across >= FEW_WEIGHT_TILES and max(of.channels, request.spec.cout) <= 2 * PART_CHANNELS


def _weights_layout(request: Request, form: Form) -> dict[str, int]:
    spec, n_lanes, n = request.spec, lanes(request.dtype), prod(form.n)
    of = _weights_geometry(request, form)
    total = of.lines * of.across
    in_parts = _in_parts(request, form)
    largest = PART_CHANNELS if in_parts else 2 * n_lanes
    c_block, f_block = (
        min(-(-c // v) * v, largest // v * v) for c, v in ((of.channels, n_lanes), (spec.cout, 2 * n_lanes))
    )
    c_blocks, f_blocks = -(-of.channels // c_block), -(-spec.cout // f_block)
    owned = spec.groups * c_blocks * f_blocks
    u_xi = c_block * f_block + n_lanes
    if in_parts:
        parts = 1
        while parts < 16 and (parts * 2 * PART_TILES <= total or parts * owned < 2):
            parts *= 2
        tiles, part = WEIGHT_TILES, -(-total // parts)
        parts = -(-total // part)
    else:
        per_line = spec.groups * n * (c_blocks * c_block + f_blocks * f_block) * of.across * request.dtype.itemsize
        tiles, part, parts = max(1, min(of.lines, SHARED_BYTES // per_line)) * of.across, total, 1
    v_xi, p_xi = tiles * c_block + n_lanes, tiles * f_block + n_lanes
    apart = _axes(spec).apart[1]
    v_block, p_block = n * v_xi, n * p_xi
    if in_parts:
        held, waiting, work = 0, parts * owned * n * u_xi, v_block + p_block
    else:
        held = spec.groups * (c_blocks * v_block + f_blocks * p_block)
        waiting, work = owned * n * u_xi if tiles < total else 0, n * u_xi
    return {
        "TILES": tiles, "LANES": n_lanes, "SHARED": held + waiting,
        "WORK": work + _strip(form, min(of.across, tiles), apart, n_lanes), "FILTER": spec.cin * prod(spec.kernel),
        "U_BLOCK": n * u_xi, "U_XI": u_xi, "U_START": held,
        "V_GROUP": c_blocks * v_block + f_blocks * p_block, "V_BLOCK": v_block, "V_XI": v_xi,
        "Z_START": c_blocks * v_block, "P_BLOCK": p_block, "P_XI": p_xi,
        "CHANNEL_BLOCK": c_block, "FILTER_BLOCK": f_block, "PART": part, "PARTS": parts,
    }  # fmt: skip


def _weights_plan(request: Request, form: Form) -> Plan:
    spec, dtype = request.spec, request.dtype
    axes, of, layout = _axes(spec), _weights_geometry(request, form), _weights_layout(request, form)
    x, y = (_strides(spec, strides) for strides in request.strides)
    table = WINOGRAD_WEIGHTS.pack(
        **layout, **_places(spec, axes.out, 1), BATCH=spec.batch, GROUPS=spec.groups, CIN=spec.cin, COUT=spec.cout,
        X_VIEW=view(x, axes.size, (1, 1)), Y_VIEW=view(y, axes.out, (1, 1)),
    )  # fmt: skip

    n_lanes = layout["LANES"]
    c_vectors, f_vectors = of.channels // n_lanes, -(-spec.cout // n_lanes)
    owned = spec.groups * -(-of.channels // layout["CHANNEL_BLOCK"]) * -(-spec.cout // layout["FILTER_BLOCK"])
    stages: list[tuple[str, range]]
    if _in_parts(request, form):
        stages = [("parts", range(layout["PARTS"] * owned)), ("join", range(spec.groups * c_vectors * f_vectors))]
    else:
        block, vectors = layout["TILES"] // of.across, spec.groups * (c_vectors + f_vectors)
        stages = []
        for i, first in enumerate(range(0, of.lines, block)):
            stages.append(("transforms", range(first * vectors, min(first + block, of.lines) * vectors)))
            stages.append(("sums", range(i * owned, (i + 1) * owned)))
    kernels = [(kernel(f"winograd:{name}_{form.name}", dtype), tasks) for name, tasks in stages]
    work, shared = layout["WORK"] * dtype.itemsize, layout["SHARED"] * dtype.itemsize
    launch = Launch(kernels, request.threads, work, as_table(table), shared)

    return launch.plan(spec.shape("w"), dtype, "w")


# --------------------------------------------------------------------------------------------------------- the algorithm

# Measured on one AVX-512 core at 4 GHz: seconds per frequency and vector of channels of a window, a tile, and a filter ...
SECONDS_IN, SECONDS_OUT, SECONDS_FILTER = 1.7e-9, 1.2e-9, 0.75e-9
SECONDS_PER_FMA = 0.14e-9  # ... per pair of channel and vector ...
SECONDS_PER_BYTE = 0.03e-9  # ... and per byte of filters beyond the second-level cache, for each task that reads them
SECONDS_PER_PIXEL = 1e-9  # for each pixel and channel of operands whose rows are scattered in memory
SUMS = 1.15  # times SECONDS_PER_FMA: the sums of the gradient with respect to weights, which are stored more often


def _form(spec: ConvSpec, forms: Forms) -> Form | None:
    return forms.get(_axes(spec).kernel[1:])


def _refuses(request: Request, forms: Forms) -> str | None:
    spec, axes = request.spec, _axes(request.spec)
    if _form(spec, forms) is None:
        lines = sorted({max(r) for r in forms if 1 in r})
        shape = "x".join(map(str, spec.kernel))
        return f"is for filters of 3x3 taps, or {lines[0]} to {lines[-1]} on one axis alone, not {shape}"
    if len({d < 0 for k, d in zip(axes.kernel[1:], axes.step[1:], strict=True) if k > 1}) > 1:
        return "flips both axes or none"
    images = request.strides if request.slot == "w" else request.strides[:1]
    if _flat(spec) and any(strides[3] != spec.size[2] * strides[4] for strides in images):
        return "needs the rows of a plane behind each other where the filter has taps along the first axis alone"
    return None


def _scattered(request: Request) -> float:
    """Seconds more where pixels of a row are not neighbours, so that no vector loads them."""
    operands = {"y": "x", "x": "y", "w": "xy"}[request.slot]
    pixels = {"x": prod(request.spec.shape("x")), "y": prod(request.spec.shape("y"))}
    pairs = zip(operands, request.strides, strict=False)  # of images; filters are few
    return sum(pixels[name] * SECONDS_PER_PIXEL for name, strides in pairs if strides[-1] != 1)


def _cost(request: Request, forms: Forms) -> float:
    form = _form(request.spec, forms)
    assert form is not None
    spec, n_lanes, n = request.spec, lanes(request.dtype), prod(form.n)
    seconds = _scattered(request)
    if request.slot == "w":
        layout, w_of = _weights_layout(request, form), _weights_geometry(request, form)
        tiles = w_of.lines * w_of.across
        c, f = w_of.channels // n_lanes, -(-spec.cout // n_lanes)
        c_blocks, f_blocks = (
            -(-a // layout[block]) for a, block in ((w_of.channels, "CHANNEL_BLOCK"), (spec.cout, "FILTER_BLOCK"))
        )
        tasks = c_blocks * f_blocks * layout["PARTS"]
        again_c, again_f = (f_blocks, c_blocks) if _in_parts(request, form) else (2, 2)  # through memory: as if twice
        seconds += tiles * (c * again_c + f * again_f) * n * SECONDS_IN
        seconds += tiles * n * c * n_lanes * -(-f // 2) * 2 * SECONDS_PER_FMA * SUMS
        seconds += w_of.channels * f * n * SECONDS_FILTER * (1 + layout["PARTS"])
    else:
        of, layout = _geometry(request, form), _layout(request, form)
        tiles, rows, blocks = of.lines * of.across, -(-of.rows // n_lanes), -(-of.rows // (2 * n_lanes))
        filters = n * of.vectors * n_lanes * blocks * 2 * n_lanes * request.dtype.itemsize
        tasks = blocks if _cut(request, form) else -(-tiles // layout["TILES"])
        block = layout["ROW_BLOCK"]
        seconds += tiles * n * (of.vectors * SECONDS_IN + rows * SECONDS_OUT)
        seconds += -(-tiles // block) * block * n * of.vectors * n_lanes * 2 * blocks * SECONDS_PER_FMA
        seconds += of.vectors * n_lanes * rows * n * SECONDS_FILTER
        if filters > FILTERS_BYTES and not _cut(request, form):
            seconds += tasks * filters * SECONDS_PER_BYTE
    return 5e-6 + spec.groups * seconds / max(1, min(request.threads, spec.groups * tasks))


def _workspace(request: Request, forms: Forms) -> int:
    form = _form(request.spec, forms)
    assert form is not None
    layout = _weights_layout(request, form) if request.slot == "w" else _layout(request, form)
    return (layout["SHARED"] + layout["WORK"] * request.threads) * request.dtype.itemsize


def _plan(request: Request, forms: Forms) -> Plan:
    form = _form(request.spec, forms)
    assert form is not None
    return _weights_plan(request, form) if request.slot == "w" else _images_plan(request, form)


def _error(request: Request, forms: Forms) -> float:
    form = _form(request.spec, forms)
    assert form is not None
    return form.error * float(np.finfo(request.dtype).eps)


def _safe(request: Request, forms: Forms) -> Range:
    form = _form(request.spec, forms)
    assert form is not None
    return range_of_forms(request, zip(form.m, form.r, strict=True))


def _algorithm(name: str, forms: Forms) -> Algorithm:
    return Algorithm(
        name=name,
        features=frozenset({"1d", "2d", "3d", "dilated", "flipped", "padded", "asymmetric", "grouped"}),
        dtypes=frozenset({"float32", "float64"}),
        error=partial(_error, forms=forms),
        safe=partial(_safe, forms=forms),
        refuses=partial(_refuses, forms=forms),
        workspace=partial(_workspace, forms=forms),
        cost=partial(_cost, forms=forms),
        plan=partial(_plan, forms=forms),
    )


WINOGRAD, WINOGRAD_F2 = _algorithm("winograd", F4), _algorithm("winograd_f2", F2)
