"""The algorithm `columns`: the gradient with respect to inputs for long strides, window by window instead of phase by phase.

    x[n, c, o*stride + k + origin] += sum_f y[n, f, o] * w[f, c, k]

For each image one matrix product makes all windows, (o, f) x (f, (c, k)) -> (o, c, k). Seen as blocks of `stride` pixels, tap
k = q*stride + j of window o lies at place j of block o + q: so the windows are added to an image of blocks in as many pieces q
as they overlap, each with neighbouring numbers side by side. The other algorithms plan or compute each phase of the stride by
itself, and there are as many as pixels in a block.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from eagerconv.kernels_cpu.gemm import GEMM
from eagerconv.memory import empty
from eagerconv.record import FEATURES, Algorithm, Plan, Request
from eagerconv.spec import ConvSpec, contiguous

LIMIT = 64 << 20  # bytes of a row of windows, at most
TOGETHER = 1 << 20  # of the rows of windows, and groups, that are made at once: they stay in the second-level cache
PIECES = 64  # in which windows are added, at most

# Measured on one AVX-512 core: a number added to its place, and a run of them side by side; a product with what surrounds it.
SECONDS_PER_NUMBER, SECONDS_PER_RUN, SECONDS_PER_PRODUCT = 0.4e-9, 8e-9, 30e-6


def _pieces(spec: ConvSpec) -> tuple[int, ...]:
    """Of each axis: how many blocks a window reaches into."""
    return tuple(-(-k // s) for k, s in zip(spec.kernel, spec.stride, strict=True))


class Cut(NamedTuple):
    """What one product makes: for so many groups, so many rows of windows along the first axis; and how many there are."""

    groups: int
    rows: int
    products: int


def _cut(spec: ConvSpec, itemsize: int) -> Cut:
    """Several groups together only where there is nothing to sum."""
    row = math.prod((*spec.out[1:], spec.cin, *spec.kernel)) * itemsize
    rows = max(1, min(spec.out[0], TOGETHER // row))
    rows = -(-spec.out[0] // -(-spec.out[0] // rows))
    groups = max(1, min(spec.groups, TOGETHER // (row * rows))) if spec.cout == 1 and rows == spec.out[0] else 1
    return Cut(groups, rows, spec.batch * -(-spec.groups // groups) * -(-spec.out[0] // rows))


@lru_cache(maxsize=256)
def _product(request: Request, groups: int, rows: int) -> Request:
    """Some rows of windows of some groups of an image: filters are its pixels, and the pixels are (channel, tap)."""
    spec = request.spec
    places, taps = rows * math.prod(spec.out[1:]), spec.cin * math.prod(spec.kernel)
    one = ConvSpec(
        1, groups, spec.cout, places, size=(taps,), kernel=(1,), out=(taps,), stride=(1,), step=(1,), origin=(0,)
    )
    filters = (1, math.prod(spec.out) if spec.cout > 1 else 1, 0)
    return replace(request, spec=one, slot="y", strides=(contiguous(one.shape("x")), filters))


def _windows(spec: ConvSpec) -> int:
    """Numbers in all windows of one group of an image."""
    return math.prod((*spec.out, spec.cin, *spec.kernel))


def _refuses(request: Request) -> str | None:
    spec = request.spec
    if request.strides[0][1:] != contiguous(spec.shape("y"))[1:]:
        return "needs the pixels and channels of an image next to each other"
    if (needed := _windows(spec) // spec.out[0] * request.dtype.itemsize) > LIMIT:
        return f"would make rows of windows of {needed:,} bytes, more than {LIMIT:,}"
    if (pieces := math.prod(_pieces(spec))) > PIECES:
        return f"would add windows in {pieces} pieces, more than {PIECES}"
    return GEMM.refuses(_product(request, 1, 1))


def _cost(request: Request) -> float:
    """Products, and their numbers added in runs as long as a piece of a row."""
    spec = request.spec
    groups, rows, products = _cut(spec, request.dtype.itemsize)
    numbers = spec.batch * spec.groups * _windows(spec)
    length = spec.kernel[-1] / _pieces(spec)[-1]  # of a run: taps side by side, or the pixels of a row
    runs = numbers / (length if length > 1 else spec.out[-1])
    seconds = products * (GEMM.cost(_product(request, groups, rows)) + SECONDS_PER_PRODUCT)
    return seconds + numbers * SECONDS_PER_NUMBER + runs * SECONDS_PER_RUN


def _workspace(request: Request) -> int:
    spec, itemsize = request.spec, request.dtype.itemsize
    groups, rows, _ = _cut(spec, itemsize)
    windows = _windows(spec) // spec.out[0] * rows
    return GEMM.workspace(_product(request, groups, rows)) + groups * (windows + _blocked(spec)) * itemsize


def _blocked(spec: ConvSpec) -> int:
    """Numbers in an image of blocks, of one group."""
    axes = zip(spec.out, _pieces(spec), spec.stride, strict=True)
    return spec.cin * math.prod((o + q - 1) * s for o, q, s in axes)


class Blocks:
    """The image of blocks of some channels: where windows are added, and what becomes of it."""

    def __init__(self, spec: ConvSpec) -> None:
        nd, self.pieces = spec.ndim, _pieces(spec)
        self.counts = [o + q - 1 for o, q in zip(spec.out, self.pieces, strict=True)]
        self.sizes = [n * s for n, s in zip(self.counts, spec.stride, strict=True)]  # pixels
        # Of the taps in the order of their offsets the first is at `origin`: the last one, where steps are negative.
        origin = [p + min(0, (k - 1) * d) for p, k, d in zip(spec.origin, spec.kernel, spec.step, strict=True)]
        axes = list(zip(origin, spec.size, self.sizes, strict=True))
        self.whole = all(p == 0 and n == m for p, n, m in axes)  # blocks are the image itself
        self.inside: Any = (..., *(slice(max(0, -p), max(0, n - p)) for p, n, _ in axes))
        self.reached: Any = (..., *(slice(max(0, p), max(0, min(n, p + m))) for p, n, m in axes))
        self.alone = max(self.pieces) == 1  # no two windows overlap
        self.full = self.alone and spec.kernel == spec.stride  # each number is of a window
        self.shape = tuple(itertools.chain(*zip(self.counts, spec.stride, strict=True)))
        # Windows (g, *o, c, *k) as (g, c, o, k, o, k, ...), and the places of their pieces in blocks (g, c, block, place, ...).
        self.order = (0, 1 + nd, *itertools.chain(*((1 + i, 2 + nd + i) for i in range(nd))))
        self.parts: list[tuple[Any, list[tuple[int, int, slice]]]] = []
        for some in itertools.product(*map(range, self.pieces)):
            taps = [slice(q * s, min(k, (q + 1) * s)) for q, s, k in zip(some, spec.stride, spec.kernel, strict=True)]
            lengths = [slice(0, t.stop - t.start) for t in taps]
            self.parts.append(((..., *taps), list(zip(some, spec.out, lengths, strict=True))))

    def add(self, windows: Any, first: int, blocks: Any) -> None:
        """Add rows of windows from the first one on."""
        rows = windows.shape[1]
        for taps, ((q, _, length), *others) in self.parts:
            behind = itertools.chain(*((slice(p, p + o), some) for p, o, some in others))
            places: Any = (..., slice(q + first, q + first + rows), length, *behind)
            part = windows[taps].transpose(self.order)
            if self.alone:
                blocks[places] = part
            else:
                blocks[places] += part


def _plan(request: Request) -> Plan:
    spec, dtype = request.spec, request.dtype
    shape, (step, rows, _), layout = spec.shape("x"), _cut(spec, request.dtype.itemsize), Blocks(spec)
    turned: Any = (..., *(slice(None, None, d) for d in spec.step))
    starts = list(itertools.product(range(spec.batch), range(0, spec.groups, step)))

    @lru_cache(maxsize=4)  # whole ones, and the last ones
    def plan(groups: int, rows: int) -> Plan:
        return GEMM.plan(_product(request, groups, rows))

    def run(y: Any, w: Any, out: Any = None) -> Any:
        result = empty(shape, dtype) if out is None else out
        filters = np.ascontiguousarray(w[turned]).reshape(1, spec.groups * spec.cout, -1)
        for n, g in starts:
            groups = min(step, spec.groups - g)
            channels = slice(g * spec.cout, (g + groups) * spec.cout)
            images = result[n, g * spec.cin : (g + groups) * spec.cin]
            blocks = images if layout.whole else empty((groups * spec.cin, *layout.sizes), dtype)
            apart = blocks.reshape(groups, spec.cin, *layout.shape)
            if not layout.full:
                apart[...] = 0
            for o in range(0, spec.out[0], rows):
                some = y[n, channels, o : o + rows]
                count = some.shape[1]
                pixels = some.reshape(spec.cout, -1).T if spec.cout > 1 else some.reshape(-1, 1)
                windows = plan(groups, count)(filters[:, channels], pixels[:, :, None])
                layout.add(windows.reshape(groups, count, *spec.out[1:], spec.cin, *spec.kernel), o, apart)
            if not layout.whole:
                images[...] = 0
                images[layout.reached] = blocks[layout.inside]
        return result

    return run


COLUMNS = Algorithm(
    name="columns",
    features=FEATURES - {"unshared", "dilated"},
    slots=frozenset({"x"}),
    dtypes=frozenset({"float32", "float64"}),
    error=None,
    refuses=_refuses,
    workspace=_workspace,
    cost=_cost,
    plan=_plan,
)
