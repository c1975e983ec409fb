"""The algorithm `gemm`: products of filters with tiles gathered into small per-thread buffers, on vector microkernels."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from eagerconv.kernels_cpu import panels
from eagerconv.kernels_cpu.blocks import GEMM_DEPTH, GEMM_VECTORS
from eagerconv.kernels_cpu.jit import kernel
from eagerconv.kernels_cpu.table import (
    GEMM_IMAGES,
    GEMM_WEIGHTS,
    PHASE,
    Fields,
    Table,
    non_temporal,
    three,
    view,
)
from eagerconv.kernels_cpu.targets import lanes
from eagerconv.kernels_cpu.threads import Launch, worthwhile
from eagerconv.record import FEATURES, Algorithm, Plan, Request
from eagerconv.spec import ConvSpec, Shape, contiguous

MOST_WORKSPACE = 1 << 32  # bytes, for one thread
PHASES = 512  # of the stride, at most

PIXELS, FEW_PIXELS, WEIGHT_PIXELS = 256, 4096, 384  # of a tile
TAPS = 576  # (channel, tap) rows of one task of the gradient with respect to weights
SUMS = 80_000  # elements of sums that one task holds, at most if there are enough other tasks
STRIP = 64_000  # elements of an image's part with its padding
SEGMENTS = 64  # tasks of the gradient with respect to weights, if not more are needed
SEGMENT_TILES = 4  # of a segment at least: its sums are written, read and added once more
SEGMENT_SUMS = 2_000_000  # elements of their sums together

# Measured on one AVX-512 core at 4 GHz: per vector of products; of the result, transposed and stored; of the image; of the
# operand that is packed, or of weights that are unpacked; and a task with its share of finding pixels and taps.
SECONDS_PER_FMA, SECONDS_OUT, SECONDS_IN, SECONDS_PACK, SECONDS_PER_TASK = 0.14e-9, 4e-9, 2e-9, 6e-9, 0.4e-6
SECONDS_PER_STEP, SECONDS_APART = 1.2e-9, 0.6e-9  # from tap to tap, with pixels in the lanes; a pixel stored by itself


Array = npt.NDArray[np.int64]


class Along(NamedTuple):
    """The pixels of the result along one axis that see the same taps: how many, the first, and their taps."""

    grid: int
    start: int
    kernel: range  # indices of the taps in the filter
    offset: range  # what they add to a pixel's number


def phases(spec: ConvSpec, forward: bool) -> list[list[Along]]:
    """The parts of each axis whose pixels see the same taps; each combination of them is a phase of the result.

    Forward there is one: all outputs, tap k at k*step + origin. For the inputs, one per residue class r of i modulo the
    stride: with i = r + j*stride, output o = j + (r - k*step - origin)/stride for the k where that is whole: with the greatest
    common divisor g of stride and step, from the first such k on every stride/g-th, each step/g outputs before the last.
    """
    result = []
    for i, n, o, s, d, p in zip(spec.size, spec.kernel, spec.out, spec.stride, spec.step, spec.origin, strict=True):
        if forward:
            result.append([Along(o, 0, range(n), range(p, p + n * d, d))])
            continue
        common = math.gcd(s, d)
        every, inverse = s // common, pow(d // common, -1, s // common)
        axis = []
        for r in range(min(s, i)):
            first = (r - p) // common * inverse % every if (r - p) % common == 0 else n
            kernel, offset = range(first, n, every), (r - first * d - p) // s
            axis.append(
                Along(-(-(i - r) // s), r, kernel, range(offset, offset - len(kernel) * d // common, -d // common))
            )
        result.append(axis)
    return result


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
    """How a product with channels in the lanes is cut into tasks; fields as in table.py, workspaces in elements."""

    panels: int  # of all groups
    tasks: int
    shared: int
    work: int
    fields: Fields
    chunk: int  # of channels
    base: Shape  # the first image pixel that the first of a phase sees
    parts: list[list[Along]]
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
    n_taps, n_phases = math.prod(spec.kernel), math.prod(map(len, parts))
    seen = [[end for part in axis for end in (*part.offset[:1], *part.offset[-1:])] for axis in parts]
    if not all(seen):  # strides longer than the image, whose taps all miss it
        seen = [[0]] * nd
    base, most = tuple(map(min, seen)), tuple(map(max, seen))
    met = math.prod(max(len(part.kernel) for part in axis) for axis in parts)  # taps of the phase that has the most

    # The image is read where it lies, unless taps leave it or its channels lie a page apart, in the same lines of caches.
    source = request.strides[0]
    ends = [(max(part.grid for part in axis) - 1) * s + m for axis, s, m in zip(parts, stride, most, strict=True)]
    inside = min(base) >= 0 and all(end < n for end, n in zip(ends, size, strict=True))
    in_place = inside and broadcasts(request) and (source[1] * request.dtype.itemsize % 2048 != 0 or channels < n_lanes)

    weights, few = slot == "w", not broadcasts(request)
    pixels = min(FEW_PIXELS, math.prod(grid) // (4 * request.threads)) if few else WEIGHT_PIXELS if weights else PIXELS
    box = _box(grid, (1, *three(step, 1)), pixels)
    reach = three([hi - lo + 1 for lo, hi in zip(base, most, strict=True)], 1)
    extent = [
        (-(-n // d) - 1) * s + r for n, d, s, r in zip(box[1:], three(step, 1), three(stride, 1), reach, strict=True)
    ]
    plane = -(-math.prod(extent) // 32) * 32 + 16  # an odd number of half lines: channels in different lines of caches
    chunk = max(1, (TAPS if weights else GEMM_DEPTH) // max(1, met))
    if not in_place:
        chunk = min(chunk, max(1, STRIP // (plane * box[0])))
    chunk = _part(channels, chunk)
    strip = (chunk * plane, plane, math.prod(extent[1:]), extent[2], 1)
    if in_place:
        strip = (*source[:2], *three(source[2:], 0))  # type: ignore[assignment]

    vectors = -(-rows // n_lanes)
    panels = -(-vectors // GEMM_VECTORS)
    tiles = [-(-n // m) for n, m in zip(grid, box, strict=True)]
    held = chunk * n_taps if weights else math.prod(box)  # rows of sums
    block = _part(panels, max(1, SUMS // (held * GEMM_VECTORS * n_lanes)))
    vector = ((channels * n_taps) // n_lanes + 2) * n_lanes * n_lanes
    group = vectors * vector
    shared, segments, width = spec.groups * group, 1, GEMM_VECTORS * n_lanes
    if weights:
        units = spec.groups * -(-panels // block) * -(-channels // chunk)
        most_segments = min(math.prod(tiles) // SEGMENT_TILES, SEGMENTS // units, SEGMENT_SUMS // (spec.groups * group))
        segments = 1 << max(0, most_segments.bit_length() - 1)
        shared, tasks = shared * segments, units * segments
        sums = (math.prod(box) + n_lanes) * width
    elif few:
        shared, tasks = 0, spec.groups * math.prod(tiles)
        per_phase = [-(-n // d) for n, d in zip(box[1:], three(step, 1), strict=True)]
        sums = rows * box[0] * math.prod(per_phase[:2]) * -(-per_phase[2] // n_lanes) * n_lanes * n_phases
    else:
        wanted = spec.groups * math.prod(tiles) * panels // (4 * request.threads)
        block = _part(panels, max(1, min(block, wanted)))
        tasks = spec.groups * math.prod(tiles) * -(-panels // block)
        sums = block * width * math.prod(box) + n_lanes * width
    strip_at = -(-2 * 8 * math.prod(box) // request.dtype.itemsize // 16) * 16
    sums_at = strip_at + (0 if in_place else strip[0] * box[0])
    sums_at = -(-sums_at // 16) * 16
    work = -(-(sums_at + sums) // 16) * 16 + 16
    fields: Fields = {
        "BATCH": spec.batch, "GROUPS": spec.groups, "ROWS": rows, "CHANNELS": channels, "CHANNEL_CHUNK": chunk,
        "SOURCE": view(source, size, stride), "SHARED": shared, "LANES": n_lanes, "WORK": work,
        "GRID": grid, "BOX": box, "TILES": tiles, "STEP": three(step, 1), "BASE": three(base, 0), "REACH": reach,
        "STRIP": strip, "IN_PLACE": int(in_place), "VECTORS": vectors, "PANELS": panels, "BLOCK": block,
        "GROUP": group, "VECTOR": vector, "SEGMENT": spec.groups * group, "SEGMENTS": segments,
        "STRIP_AT": strip_at, "SUMS_AT": sums_at, "N_TAPS": n_taps, "KERNEL": three(spec.kernel, 1), "N_PHASES": n_phases,
    }  # fmt: skip
    return Cut(spec.groups * panels, tasks, shared, work, fields, chunk, three(base, 0), parts, strip[1:])


def _array(numbers: range) -> Array:
    return np.arange(numbers.start, numbers.stop, numbers.step)


def _table(kind: Table, cut: Cut, filter_: Shape, **more: int | Sequence[int]) -> npt.NDArray[np.int64]:
    """The kernels' table: the fields, and for each phase a pair of offsets for each (channel, tap).

    The first is that in the image, the second that in what `filter_` has the strides of: channel, then the kernel's axes.
    """
    nd = len(filter_) - 1
    placed = [  # along each axis, of each part: the first pixel, and what its taps add to either offset
        [
            (part.start, np.stack([stride * (_array(part.offset) - base), step * _array(part.kernel)], axis=1))
            for part in axis
        ]
        for axis, stride, base, step in zip(cut.parts, cut.tap[-nd:], cut.base[-nd:], filter_[1:], strict=True)
    ]
    channels = np.arange(cut.chunk)[:, None, None] * (cut.tap[0], filter_[0])  # (channel, 1, 2)
    head, lists = kind.pack(**cut.fields, **more), []
    end = len(head) + math.prod(map(len, placed)) * PHASE.LENGTH
    for phase in itertools.product(*placed):
        taps = phase[0][1]  # (tap, 2)
        for _, more_taps in phase[1:]:
            taps = (taps[:, None] + more_taps).reshape(-1, 2)
        head += PHASE.pack(START=three([start for start, _ in phase], 0), TAPS_AT=end, TAPS=len(taps))
        lists.append((channels + taps).reshape(-1))
        end += lists[-1].size
    return np.concatenate([np.array(head, np.int64), *lists])


def _images_plan(request: Request) -> Plan:
    """The forward pass or the gradient with respect to inputs."""
    if panels.suits(request):
        return panels.plan(request, worthwhile(request.threads, _seconds(request)))
    spec, dtype = request.spec, request.dtype
    w, parts = request.strides[1], cut(request)
    shape = spec.shape(request.slot)
    result = contiguous(shape)
    row, channel = w[:2] if request.slot == "y" else (w[1], w[0])
    packed = contiguous((1, 1, *spec.kernel))[1:]  # channels in the lanes
    table = _table(
        GEMM_IMAGES, parts, packed if broadcasts(request) else (channel, *w[2:]),
        A_GROUP=spec.cout * w[0], A_ROW=row, A_CHANNEL=channel, TAP_STEP=three(w[2:], 0),
        RESULT_N=result[0], RESULT_C=result[1], RESULT_I=three(result[2:], 0), NON_TEMPORAL=non_temporal(shape, dtype),
    )  # fmt: skip
    stages = [(kernel("pixels:images", dtype), range(parts.tasks))]
    if broadcasts(request):
        filters = (kernel("gemm:filters", dtype), range(parts.panels))
        stages = [filters, (kernel("gemm:images", dtype), range(parts.tasks))]
    threads = worthwhile(request.threads, _seconds(request))
    launch = Launch(stages, threads, parts.work * dtype.itemsize, table, parts.shared * dtype.itemsize)

    return launch.plan(shape, dtype)


def mirrored(request: Request) -> Request:
    """The same gradient of weights with x and y exchanged, where that leaves fewer channels to transpose into the lanes.

    Filters of one tap at stride 1 on unpadded images are a matrix: x[c, p] and y[f, p] play the same part.
    """
    spec = request.spec
    plain = spec.size == spec.out and all(s == 1 for s in spec.stride) and not any(spec.origin)
    if math.prod(spec.kernel) > 1 or not plain or spec.cout <= spec.cin:
        return request
    exchanged = replace(spec, cin=spec.cout, cout=spec.cin, step=(1,) * spec.ndim)
    return replace(request, spec=exchanged, strides=request.strides[::-1])


def _weights_plan(request: Request) -> Plan:
    spec, dtype, image = request.spec, request.dtype, mirrored(request)
    y, parts = image.strides[1], cut(image)
    group, rows = spec.cout * spec.cin * math.prod(spec.kernel), spec.cin * math.prod(spec.kernel)
    row, channel = (rows, 1) if image is request else (1, rows)
    table = _table(
        GEMM_WEIGHTS, parts, contiguous((1, 1, *spec.kernel))[1:],
        A_GROUP=group, A_ROW=row, A_CHANNEL=channel, PANEL_VIEW=(*y[:2], *three(y[2:], 0)),
    )  # fmt: skip
    stages = [(kernel("gemm:weights", dtype), range(parts.tasks)), (kernel("gemm:finish", dtype), range(parts.panels))]
    threads = worthwhile(request.threads, _seconds(request))
    launch = Launch(stages, threads, parts.work * dtype.itemsize, table, parts.shared * dtype.itemsize)
    plan = launch.plan(spec.shape("w"), dtype, "w")

    return plan if image is request else lambda x, y, out=None: plan(y, x, out)


# --------------------------------------------------------------------------------------------------------- the algorithm


def _refuses(request: Request) -> str | None:
    """Rows are padded in workspace, however far; gradients wrt inputs are planned phase by phase, which takes time."""
    count = math.prod(min(s, i) for s, i in zip(request.spec.stride, request.spec.size, strict=True))
    if request.slot == "x" and count > PHASES and not panels.suits(request):
        return f"would have to plan {count} phases of the stride, more than {PHASES}"
    if (needed := _workspace(replace(request, threads=1))) > MOST_WORKSPACE:
        return f"would pad rows until they take {needed:,} bytes"
    return None


def broadcasts(request: Request) -> bool:
    """Whether channels are in the lanes: there are enough of them, or pixels of a row are not neighbours."""
    spec = request.spec
    if request.slot == "w" or (request.slot == "y" and spec.stride[-1] != 1):
        return True
    return (spec.cin if request.slot == "x" else spec.cout) * 2 >= lanes(request.dtype)


def _seconds(request: Request) -> float:
    """Products and vectors that are moved, each at its measured price, on one thread."""
    if panels.suits(request):
        return panels.seconds(request)
    request = mirrored(request) if request.slot == "w" else request
    spec, n_lanes, tasks = request.spec, lanes(request.dtype), cut(request).tasks
    images, taps = spec.batch * spec.groups, math.prod(spec.kernel)
    size, out = math.prod(spec.size), math.prod(spec.out)
    rows, channels = (spec.cin, spec.cout) if request.slot == "x" else (spec.cout, spec.cin)
    source, grid = (out, size) if request.slot == "x" else (size, out)
    met = taps if request.slot != "x" else taps / math.prod(spec.stride)  # taps of one pixel of the tiled grid
    filters = spec.groups * channels * taps * -(-rows // n_lanes)  # vectors
    if broadcasts(request):
        moved, per_pixel = float(grid * -(-rows // n_lanes)), float(-(-rows // n_lanes))
        packed = SECONDS_PACK * (filters + (images * moved if request.slot == "w" else 0))
    else:  # loads that cross lines of caches take as long as two products
        moved, per_pixel = grid * rows / n_lanes, max(rows, 2) / n_lanes
        packed = _few_seconds(request)
    seconds = images * channels * (grid * met * per_pixel * SECONDS_PER_FMA + source / n_lanes * SECONDS_IN)
    if request.slot == "x" and spec.stride[-1] > 1:  # neighbours along a row of the result are of different phases
        seconds += math.prod(spec.shape("x")) * SECONDS_APART
    seconds += packed + tasks * SECONDS_PER_TASK + (images * moved * SECONDS_OUT if request.slot != "w" else 0)
    return seconds


def _few_seconds(request: Request) -> float:
    """What pixels in the lanes take besides: steps from tap to tap, of few vectors each."""
    spec, n_lanes, few = request.spec, lanes(request.dtype), cut(request)
    rows, channels = (spec.cin, spec.cout) if request.slot == "x" else (spec.cout, spec.cin)
    box, step = few.fields["BOX"], few.fields["STEP"]
    assert not isinstance(box, int)
    assert not isinstance(step, int)
    per_phase = [-(-n // d) for n, d in zip(box[1:], step, strict=True)]  # pixels of a box
    vectors = box[0] * math.prod(per_phase[:2]) * -(-per_phase[2] // n_lanes)
    calls = -(-vectors // 8) * -(-rows // 4)
    taps = math.prod(spec.kernel)  # of all phases
    return few.tasks * channels * taps * calls * SECONDS_PER_STEP


def _cut(request: Request) -> Cut | panels.Cut:
    if panels.suits(request):
        return panels.cut(request)
    return cut(mirrored(request) if request.slot == "w" else request)


def _cost(request: Request) -> float:
    """The work, shared among the threads that have a task, and two launches."""
    seconds = _seconds(request)
    tasks = _cut(request).tasks
    threads = max(1, min(worthwhile(request.threads, seconds), tasks))
    return seconds / threads + (3e-6 if threads == 1 else 8e-6)


def _workspace(request: Request) -> int:
    parts = _cut(request)
    return (parts.shared + parts.work * request.threads) * request.dtype.itemsize


GEMM = Algorithm(
    name="gemm",
    features=FEATURES - {"unshared"},
    dtypes=frozenset({"float32", "float64"}),
    error=None,
    refuses=_refuses,
    workspace=_workspace,
    cost=_cost,
    plan=lambda request: _weights_plan(request) if request.slot == "w" else _images_plan(request),
)
