"""The algorithm `fft`: products of spectra of overlapping tiles (overlap-save), for large kernels, in bounded memory.

On every axis the index map i = o*stride + k*step + origin is first brought to stride 1 and dilation 1. With the period
L = lcm(stride, |step|), A = L/stride and B = L/|step|, writing o = A*o' + ro and k = B*k' + rk gives, for a positive step,

    i = L*(o' + k') + ro*stride + rk*step + origin                  (0 <= ro < A, 0 <= rk < B)

so that each pair of phases (ro, rk) is a correlation at stride 1 of phase rk of the filter with one residue class of i
modulo L, and no two pairs meet the same class. Phases rk join the input channels, phases ro join the tiles. A negative step
reads the phases of the filter backwards. What is left, x[o + k] * w[k] * y[o] per axis, is a linear convolution whichever
slot is solved, once the shorter operand is read in the right direction:

    y[o] = sum_k x[o + k] w[k]      tile of x from o,           w backwards,  results at the points K-1 <= t < T
    x[m] = sum_k y[m - k] w[k]      tile of y from m - (K-1),   w forwards,   results at the points K-1 <= t < T
    w[k] = sum_o x[o + k] y[o]      tile of x from o,           V of y backwards, results at V-1 <= t < T, summed over tiles

where a tile of T points yields V = T - (K-1) results free of wrap-around. The sums over channels (and, for w, over images
and tiles) are matrix products, one per frequency.

A NaN or Inf in an operand, or a value so large that T times it overflows, spoils the results of the whole tile in which it
lies, of all channels that meet there; the other algorithms spoil only the results whose sums contain it.
"""

from __future__ import annotations

import itertools
import math
import operator
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from eagerconv.record import FEATURES, TYPICAL_BATCH, Algorithm, Plan, Range, Request, arrange, range_of
from eagerconv.spec import ConvSpec, Shape, Slot

Array = npt.NDArray[Any]
Column = tuple[Shape, Shape]
"""The phase ro and the first result of a tile."""

FILTER_BYTES = 40 * 2**20  # spectra of filters that are kept while tiles pass by
TILE_BYTES = 24 * 2**20  # everything else, at most; more is refused
BLOCK_BYTES = 6 * 2**20  # of tiles that are transformed together, where one tile needs no more: they stay in the cache
LIMIT = FILTER_BYTES + TILE_BYTES
TILE_SIZES = {
    1: (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768),
    2: (8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256),
    3: (6, 8, 12, 16, 24, 32, 48),
}  # points along each axis that are tried, as long as tiles stay in the cache; larger kernels have tiles of twice their size
POINTWISE = 8  # (result, summed) channel pairs up to which spectra are multiplied where they lie

# OpenBLAS starts threads of its own for larger products (of matrix and vector: 16 times smaller), and splits them differently
# then. Smaller ones run in the calling thread, and their bits depend on their shape alone.
PRODUCT = 2**15

ERROR = 3.0  # three times the worst that was seen, see `_error`


class Work(NamedTuple):
    """What a contraction costs, counted; `PRICES` has the seconds of each."""

    points: float  # of all tiles, once per axis that they are transformed along
    levels: float  # the same, times log2 of the transform's length
    lines: float  # one-dimensional transforms
    products: float  # of complex numbers
    added: float  # complex numbers, to the sums of filters
    copies: float  # of tiles, in and out


# Measured on one AVX-512 core at 4 GHz (benchmarks/fft_crossover.py --fit), and half as much again, by which fft was slower
# beside the other algorithms on a second machine. Other threads do not help.
PRICES = {
    "float32": Work(0, 0.22e-9, 30e-9, 0.30e-9, 2.0e-9, 6.6e-6),
    "float64": Work(0.36e-9, 0.33e-9, 39e-9, 0.46e-9, 2.2e-9, 6.3e-6),
    "complex64": Work(0.55e-9, 0.39e-9, 36e-9, 0.30e-9, 1.6e-9, 6.0e-6),
    "complex128": Work(1.6e-9, 0.52e-9, 38e-9, 0.51e-9, 2.1e-9, 5.7e-6),
}


# ------------------------------------------------------------------------------------------------------ geometry, per axis


class Line(NamedTuple):
    """The sequence v[j] = axis[start + step*j], j < length, along one axis of an array; zero outside the array."""

    start: int
    step: int
    length: int

    def part(self, first: int, length: int) -> Line:
        """`length` numbers from v[first], which may lie outside this line."""
        return Line(self.start + first * self.step, self.step, length)

    def backwards(self) -> Line:
        """The same numbers from the last to the first."""
        return Line(self.start + (self.length - 1) * self.step, -self.step, self.length)

    def inside(self, size: int) -> tuple[slice, slice]:
        """The j for which 0 <= start + step*j < size, and these indices of the axis."""
        start, step, length = self
        if step > 0:
            first, last = max(0, -(start // step)), min(length, -((start - size) // step))
        else:
            first, last = max(0, -((size - 1 - start) // -step)), min(length, start // -step + 1)
        if first >= last:
            return slice(0), slice(0)
        end = start + step * last
        return slice(first, last), slice(start + step * first, end if end >= 0 else None, step)


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis in normal form: i = period*(o' + k') + offset(ro, rk), with o = outs*o' + ro and k = taps*k' + rk."""

    period: int
    outs: int  # phases of o
    taps: int  # phases of k
    out: int  # range of o'
    kernel: int  # range of k'
    stride: int
    step: int
    origin: int

    def x(self, ro: int, rk: int) -> Line:
        """The numbers that phases ro of y and rk of w meet."""
        turned = self.period * (self.kernel - 1) if self.step < 0 else 0  # o' - k' = o' + (K'-1 - k') - (K'-1)
        start = ro * self.stride + rk * self.step + self.origin - turned
        return Line(start, self.period, self.out + self.kernel - 1)

    def reached(self, size: int) -> range:
        """The m = o' + k' at which some phase of x lies inside the image."""
        starts = [self.x(ro, rk).start for ro in (0, self.outs - 1) for rk in (0, self.taps - 1)]
        first = max(0, -(max(starts) // self.period))
        return range(first, max(first + 1, min(self.out + self.kernel - 1, -((min(starts) - size) // self.period))))

    def w(self, rk: int) -> Line:
        """Phase rk of the filter, in the order in which it meets x."""
        line = Line(rk, self.taps, self.kernel)
        return line.backwards() if self.step < 0 else line

    def y(self, ro: int) -> Line:
        """Phase ro of the output."""
        return Line(ro, self.outs, self.out)


def normal(spec: ConvSpec) -> tuple[Axis, ...]:
    """The axes of a spec in normal form."""
    axes = []
    for k, o, s, d, p in zip(spec.kernel, spec.out, spec.stride, spec.step, spec.origin, strict=True):
        period = math.lcm(s, d)
        outs, taps = period // s, period // abs(d)
        axes.append(Axis(period, outs, taps, -(-o // outs), -(-k // taps), s, d, p))
    return tuple(axes)


# -------------------------------------------------------------------------------------------------------- tiles and blocks


@lru_cache(maxsize=1)
def _fast_sizes() -> tuple[int, ...]:
    """Lengths without prime factors above 7, for which the library's transforms are fast; even from 4 on."""
    limit = 2**26
    sizes = [1]
    for prime in (2, 3, 5, 7):
        sizes = [n * prime**e for n in sizes for e in range(27) if n * prime**e <= limit]
    return tuple(sorted(n for n in sizes if n % 2 == 0 or n < 4))


@lru_cache(maxsize=4096)
def _tile(kernel: int, total: int, most: int) -> int:
    """The length of the tiles of one axis: cheapest for `total` results, and not much above `most`."""
    whole, twice = total + kernel - 1, min(2 * kernel, total + kernel - 1)
    sizes = _fast_sizes()
    least = bisect_left(sizes, kernel)
    at_most = max(bisect_left(sizes, twice), min(bisect_left(sizes, whole), bisect_right(sizes, most) - 1))
    return min(sizes[least : at_most + 1], key=lambda n: (-(-total // (n - kernel + 1)) * n, n))


@dataclass(frozen=True, slots=True)
class Layout:
    """How one contraction is cut into tiles and blocks. Nothing of an image's blocks depends on the other images."""

    axes: tuple[Axis, ...]
    points: Shape  # T, per axis
    valid: Shape  # V, per axis
    results: tuple[range, ...]  # per axis, of the tiles: their first results are these numbers
    columns: int  # phases ro times tiles: what an image is cut into
    taps: int  # phases rk: rows per input channel
    frequencies: int
    pointwise: bool
    groups: int  # per block, as all below
    images: int
    tiles: int  # columns
    cin: int
    cout: int
    workspace: int
    work: Work
    seconds: float


@lru_cache(maxsize=1024)
def layout(spec: ConvSpec, slot: Slot, dtype: np.dtype[Any]) -> Layout:
    """The cheapest of some tile sizes: small ones save transforms of filters, large ones overlap less.

    The results of an image must not depend on how many others there are: their tiles are chosen for a typical batch.
    """
    typical = spec if slot == "w" else replace(spec, batch=TYPICAL_BATCH)
    axes = list(zip(*_ranges(spec, slot), strict=True))
    sizes = {tuple(_tile(a.kernel, len(r), most) for a, r in axes): most for most in reversed(TILE_SIZES[spec.ndim])}

    def price(most: int) -> tuple[bool, float]:
        plan = candidate(typical, slot, dtype, most)
        return plan.workspace > LIMIT, plan.seconds

    return candidate(spec, slot, dtype, min(reversed(sizes.values()), key=price))  # each tile once, small ones first


def _ranges(spec: ConvSpec, slot: Slot) -> tuple[tuple[Axis, ...], list[range]]:
    """The axes, and what is computed along each."""
    axes = normal(spec)
    return axes, [a.reached(n) if slot == "x" else range(a.out) for a, n in zip(axes, spec.size, strict=True)]


def candidate(spec: ConvSpec, slot: Slot, dtype: np.dtype[Any], most: int) -> Layout:
    """Tiles of `most` points along each axis, and as many channels, columns, images and groups at once as there is room for."""
    axes, ranges = _ranges(spec, slot)
    points = tuple(_tile(a.kernel, len(r), most) for a, r in zip(axes, ranges, strict=True))
    valid = tuple(t - a.kernel + 1 for t, a in zip(points, axes, strict=True))
    results = tuple(range(r.start, r.stop, v) for r, v in zip(ranges, valid, strict=True))
    columns = math.prod(min(a.outs, o) * len(r) for a, o, r in zip(axes, spec.out, results, strict=True))
    taps = math.prod(min(a.taps, k) for a, k in zip(axes, spec.kernel, strict=True))

    real = dtype.kind == "f"
    n = math.prod(points)
    frequencies = n // points[-1] * (points[-1] // 2 + 1) if real else n
    spectrum = frequencies * dtype.itemsize * (2 if real else 1)
    line = (
        n * dtype.itemsize + 3 * spectrum
    )  # a tile, its spectrum, the same rearranged, one more inside the transforms
    pointwise = spec.cout * spec.cin * taps <= POINTWISE
    copies = 1 if slot != "w" else 3 if pointwise else 2  # of the filters' spectra: sums, and what is being added
    kept, passing = FILTER_BYTES // (spectrum * copies), TILE_BYTES // line

    cin = min(spec.cin, max(1, min(kept // min(spec.cout, 8), passing // 2) // taps))
    cout = min(spec.cout, max(1, min(kept // (cin * taps), passing - cin * taps)))
    rows = cin * taps + cout
    sums = copies * cin * taps * cout * spectrum
    block = max(1, min(TILE_BYTES, max(BLOCK_BYTES, 2 * sums if slot == "w" else 0)) // (rows * line))
    together = -(-columns // -(-columns // block))  # equal blocks
    groups = max(1, min(spec.groups, block // together, kept // (cin * taps * cout)))
    images = max(1, min(spec.batch, block // (together * groups)))
    workspace = groups * (sums + images * together * rows * line) + 64 * 16  # every array begins on a cache line

    all_images, f_blocks, c_blocks = spec.groups * spec.batch, -(-spec.cout // cout), -(-spec.cin // cin)
    filters = spec.groups * spec.cout * spec.cin * taps
    tiles = filters + all_images * columns * (spec.cin * taps * f_blocks + spec.cout * c_blocks)
    passes = -(-spec.groups // groups) * f_blocks * c_blocks
    blocks = -(-spec.batch // images) * -(-columns // together)
    work = Work(
        points=tiles * n * len(axes),
        levels=tiles * n * math.log2(n),
        lines=tiles * sum(n / t for t in points),
        products=spec.batch * columns * filters * frequencies,
        added=filters * frequencies * blocks if slot == "w" else 0,
        copies=passes * (1 + taps) * (blocks * together + 1),
    )
    return Layout(
        axes, points, valid, results, columns, taps, frequencies, pointwise,
        groups, images, together, cin, cout, workspace, work, sum(map(operator.mul, work, PRICES[dtype.name])),
    )  # fmt: skip


# --------------------------------------------------------------------------------------------------------------- spectra


def _blocks(total: int, size: int) -> Iterator[slice]:
    """Slices of at most `size` that cover range(total)."""
    return (slice(start, min(start + size, total)) for start in range(0, total, size))


class _Scratch(threading.local):
    """Memory of one thread, which keeps it: fresh pages for every block would take as long as the transforms."""

    def __init__(self) -> None:
        self.memory = np.empty(0, np.uint8)
        self.used = 0

    def start(self, nbytes: int) -> None:
        """Have `nbytes` free."""
        if self.memory.size < nbytes:
            self.memory = np.empty(nbytes, np.uint8)

    def take(self, shape: Shape, dtype: np.dtype[Any]) -> Array:
        """An uninitialised array in the next free part; assign an older value of `used` to free it."""
        nbytes = math.prod(shape) * dtype.itemsize
        start, self.used = self.used, self.used + -(-nbytes // 64) * 64
        return self.memory[start : start + nbytes].view(dtype).reshape(shape)


_scratch = _Scratch()


def _spectra(tiles: Array, pointwise: bool) -> Array:
    """Unitary transforms of tiles (g, n, r, s, *T): (g, n, r, s, Q) for pointwise products, else (Q, g, n, r, s).

    Unitary, since NumPy computes a float32 transform natively only when its scale factor is a float32 other than one.
    """
    real = tiles.dtype.kind == "f"
    shape = (*tiles.shape[:-1], tiles.shape[-1] // 2 + 1) if real else tiles.shape
    dtype = np.result_type(tiles.dtype, np.complex64)
    spectra, spare = _scratch.take(shape, dtype), _scratch.take(shape, dtype)
    transform = np.fft.rfft if real else np.fft.fft
    transform(tiles, axis=-1, norm="ortho", out=spectra)
    for axis in range(tiles.ndim - 2, 3, -1):
        np.fft.fft(spectra, axis=axis, norm="ortho", out=spare)
        spectra, spare = spare, spectra
    spectra = spectra.reshape(*shape[:4], -1)
    return spectra if pointwise else _turned(spectra, 4, spare)


def _tiles(spectra: Array, points: Shape, dtype: np.dtype[Any], pointwise: bool) -> Array:
    """The inverse of `_spectra`, which overwrites them."""
    if not pointwise:
        spectra = _turned(spectra, 1, _scratch.take(spectra.shape, spectra.dtype))
    last = points[-1]
    spectra = spectra.reshape(*spectra.shape[:4], *points[:-1], last // 2 + 1 if dtype.kind == "f" else last)
    spare = _scratch.take(spectra.shape, spectra.dtype)
    for axis in range(4, spectra.ndim - 1):
        np.fft.ifft(spectra, axis=axis, norm="ortho", out=spare)
        spectra, spare = spare, spectra
    tiles = _scratch.take((*spectra.shape[:-1], last), dtype)
    inverse = np.fft.irfft if dtype.kind == "f" else np.fft.ifft
    inverse(spectra, last, axis=-1, norm="ortho", out=tiles)
    return tiles


def _turned(a: Array, split: int, memory: Array) -> Array:
    """A copy of `a`, in the memory of another array, with its first `split` axes behind the others."""
    turned = memory.reshape(*a.shape[split:], *a.shape[:split])
    turned[...] = a.transpose(*range(split, a.ndim), *range(split))
    return turned


def _product(a: Array, b: Array, pointwise: bool, out: Array | None = None) -> Array:
    """Products (g, 1, r, s) @ (g, n, s, j) -> (g, n, r, j) of the matrices at each frequency, each image by itself."""
    at = 0 if pointwise else 1  # the frequency is the last axis, or the first
    g, n, sums, columns = b.shape[at : at + 4]
    rows = a.shape[at + 2]
    shape = (g, n, rows, columns)
    result = out if out is not None else _scratch.take((*shape, b.shape[4]) if pointwise else (len(b), *shape), b.dtype)
    if pointwise:
        np.multiply(a[:, :, :, 0, None], b[:, :, None, 0], out=result)  # (g, n, r, j, Q)
        added = _scratch.take(result.shape, result.dtype)
        for s in range(1, sums):
            result += np.multiply(a[:, :, :, s, None], b[:, :, None, s], out=added)
        return result
    wide = max(16, PRODUCT // (16 * sums))
    for j in _blocks(columns, wide):
        for r in _blocks(rows, max(1, PRODUCT // (sums * max(16, min(wide, columns))))):
            np.matmul(a[..., r, :], b[..., j], out=result[..., r, j])
    return result


# ----------------------------------------------------------------------------------------------------- copies in and out


def _inside(array: Array, lines: Sequence[Line]) -> tuple[Any, Any]:
    """The indices of a tile (..., *T) and of array (..., *size) at which they meet, given a line of each axis."""
    pairs = [line.inside(n) for line, n in zip(lines, array.shape[-len(lines) :], strict=True)]
    return (..., *(j for j, _ in pairs)), (..., *(i for _, i in pairs))


def _gather(tile: Array, array: Array, lines: Sequence[Line]) -> None:
    """Copy what the lines name into the first points of a tile."""
    j, i = _inside(array, lines)
    tile[j] = array[i]


def _scatter(array: Array, tile: Array, lines: Sequence[Line]) -> None:
    """Add the first points of a tile to what the lines name."""
    j, i = _inside(array, lines)
    array[i] += tile[j]


class _Phases:
    """The lines of one contraction: which numbers of x, w and y belong to which phase and tile."""

    def __init__(self, spec: ConvSpec, slot: Slot, plan: Layout) -> None:
        self.axes, self.points, self.valid = plan.axes, plan.points, plan.valid
        self.slot = slot
        axes = list(zip(plan.axes, spec.kernel, spec.out, strict=True))
        self.taps = list(itertools.product(*(range(min(a.taps, k)) for a, k, _ in axes)))
        outs = itertools.product(*(range(min(a.outs, o)) for a, _, o in axes))
        self.columns = list(itertools.product(outs, itertools.product(*plan.results)))

    def x(self, column: Column, rk: Shape) -> list[Line]:
        """What a tile reads of x (slots y, w), or the results that it yields (slot x)."""
        counts = self.valid if self.slot == "x" else self.points
        lines = []
        for a, ro, k, first, count in zip(self.axes, column[0], rk, column[1], counts, strict=True):
            line = a.x(ro, k)
            lines.append(line.part(first, min(count, line.length - first)))
        return lines

    def y(self, column: Column) -> list[Line]:
        """What a tile reads of y (slots x, w), or the results that it yields (slot y)."""
        lines = []
        for a, ro, first, points, valid in zip(self.axes, *column, self.points, self.valid, strict=True):
            line = a.y(ro)
            lines.append(line.part(first - (a.kernel - 1), points) if self.slot == "x" else line.part(first, valid))
        return [line.backwards() for line in lines] if self.slot == "w" else lines

    def w(self, rk: Shape) -> list[Line]:
        """Phase rk of the filter, read backwards for slot y."""
        lines = [a.w(k) for a, k in zip(self.axes, rk, strict=True)]
        return [line.backwards() for line in lines] if self.slot == "y" else lines


# ----------------------------------------------------------------------------------------------------------- contraction


class _Contraction:
    """One contraction as planned, its arrays seen by group: x (g, n, c, *size), w (g, f, c, *kernel), y (g, n, f, *out)."""

    def __init__(self, request: Request, plan: Layout, phases: _Phases, x: Array, w: Array, y: Array) -> None:
        spec = request.spec
        self.slot, self.dtype, self.plan, self.phases = request.slot, request.dtype, plan, phases
        self.x = x.reshape(spec.batch, spec.groups, spec.cin, *spec.size).swapaxes(0, 1)
        self.w = w.reshape(spec.groups, spec.cout, spec.cin, *spec.kernel)
        self.y = y.reshape(spec.batch, spec.groups, spec.cout, *spec.out).swapaxes(0, 1)

    def solve(self) -> None:
        """Add the solution to the array of the slot that is solved for."""
        plan = self.plan
        groups, cout, cin = self.w.shape[:3]
        for g in _blocks(groups, plan.groups):
            for f in _blocks(cout, plan.cout):
                for c in _blocks(cin, plan.cin):
                    _scratch.used = 0
                    x, w, y = self.x[g, :, c], self.w[g, f, c], self.y[g, :, f]
                    if self.slot == "w":
                        self._filters(x, w, y)
                    else:
                        self._images(x, w, y)

    def _passing(self, images: int) -> Iterator[tuple[slice, list[Column]]]:
        """The blocks of images and columns."""
        for n in _blocks(images, self.plan.images):
            for j in _blocks(len(self.phases.columns), self.plan.tiles):
                yield n, self.phases.columns[j]

    def _images(self, x: Array, w: Array, y: Array) -> None:
        """Add to y, or to x, what these channels contribute."""
        plan, backward = self.plan, self.slot == "x"
        filters = self._filter_spectra(w)  # (g, 1, f, c*b), its frequencies first or last
        if backward:
            filters = self._transposed(filters)  # (g, 1, c*b, f)
        kept: Any = (..., *(slice(a.kernel - 1, None) for a in plan.axes))
        mark = _scratch.used
        for n, columns in self._passing(x.shape[1]):
            _scratch.used = mark
            tiles = self._y_tiles(y[:, n], columns) if backward else self._x_tiles(x[:, n], columns)
            spectra = _product(filters, _spectra(tiles, plan.pointwise), plan.pointwise)
            tiles = _tiles(spectra, plan.points, self.dtype, plan.pointwise)[kept]  # (g, n, f or c*b, j, *V)
            for j, column in enumerate(columns):
                if not backward:
                    _scatter(y[:, n], tiles[:, :, :, j], self.phases.y(column))
                    continue
                for b, rk in enumerate(self.phases.taps):
                    _scatter(x[:, n], tiles[:, :, b :: plan.taps, j], self.phases.x(column, rk))

    def _filters(self, x: Array, w: Array, y: Array) -> None:
        """Add to w the sums over all images and columns."""
        plan = self.plan
        sums = self._empty_filters(w)  # (g, 1, f, c*b), their frequencies first or last
        mark = _scratch.used
        for first, (n, columns) in enumerate(self._passing(x.shape[1])):
            _scratch.used = mark
            x_spectra = _spectra(self._x_tiles(x[:, n], columns), plan.pointwise)  # (g, 1, c*b, n*j)
            y_spectra = _spectra(self._y_tiles(y[:, n], columns), plan.pointwise)  # (g, 1, f, n*j)
            added = _product(y_spectra, self._transposed(x_spectra), plan.pointwise, None if first else sums)
            if first:
                sums += added
        _scratch.used = mark
        self._filter_tiles(sums, w)

    # -- tiles in and out

    def _transposed(self, matrices: Array) -> Array:
        return matrices.swapaxes(2, 3) if self.plan.pointwise else matrices.swapaxes(-1, -2)

    def _empty(self, g: int, n: int, rows: Shape, columns: int) -> tuple[Array, Array]:
        """A block of zeros as products need it, (g, n, rows, j) or for filters (g, 1, rows, n*j), and as (g, n, *rows, j)."""
        if self.slot != "w":
            block = self._zeros(g, n, *rows, columns)
            return block.reshape(g, n, -1, columns, *self.plan.points), block
        block = self._zeros(g, *rows, n, columns)
        return block.reshape(g, 1, -1, n * columns, *self.plan.points), np.moveaxis(block, 1 + len(rows), 1)

    def _zeros(self, *shape: int) -> Array:
        tiles = _scratch.take((*shape, *self.plan.points), self.dtype)
        tiles.fill(0)
        return tiles

    def _x_tiles(self, x: Array, columns: Sequence[Column]) -> Array:
        g, n, c = x.shape[:3]
        tiles, view = self._empty(g, n, (c, self.plan.taps), len(columns))
        for j, column in enumerate(columns):
            for b, rk in enumerate(self.phases.taps):
                _gather(view[:, :, :, b, j], x, self.phases.x(column, rk))
        return tiles

    def _y_tiles(self, y: Array, columns: Sequence[Column]) -> Array:
        g, n, f = y.shape[:3]
        tiles, view = self._empty(g, n, (f,), len(columns))
        for j, column in enumerate(columns):
            _gather(view[:, :, :, j], y, self.phases.y(column))
        return tiles

    def _filter_blocks(self, shape: Shape) -> Iterator[tuple[slice, Any]]:
        """Filters that are transformed together, and their place in the spectra."""
        plan = self.plan
        lines = plan.images * plan.tiles * (plan.cin * plan.taps + plan.cout)
        for f in _blocks(shape[1], max(1, lines // (plan.cin * plan.taps))):
            yield f, (slice(None), slice(None), f) if plan.pointwise else (..., f, slice(None))

    def _empty_filters(self, w: Array) -> Array:
        shape = (w.shape[0], 1, w.shape[1], w.shape[2] * self.plan.taps)
        dtype = np.result_type(self.dtype, np.complex64)
        q = self.plan.frequencies
        return _scratch.take((*shape, q) if self.plan.pointwise else (q, *shape), dtype)

    def _filter_spectra(self, w: Array) -> Array:
        plan = self.plan
        g, _, c = w.shape[:3]
        scale = self.dtype.type(math.sqrt(math.prod(plan.points)))  # three unitary transforms and this: a convolution
        spectra = self._empty_filters(w)
        mark = _scratch.used
        for rows, at in self._filter_blocks(w.shape):
            _scratch.used = mark
            tiles = self._zeros(g, 1, rows.stop - rows.start, c, plan.taps)
            for b, rk in enumerate(self.phases.taps):
                _gather(tiles[:, 0, :, :, b], w[:, rows], self.phases.w(rk))
            tiles *= scale
            spectra[at] = _spectra(tiles.reshape(g, 1, -1, c * plan.taps, *plan.points), plan.pointwise)
        _scratch.used = mark
        return spectra

    def _filter_tiles(self, spectra: Array, w: Array) -> None:
        plan = self.plan
        scale = self.dtype.type(math.sqrt(math.prod(plan.points)))
        kept: Any = (..., *(slice(valid - 1, None) for valid in plan.valid))
        mark = _scratch.used
        for rows, at in self._filter_blocks(w.shape):
            _scratch.used = mark
            tiles = _tiles(spectra[at], plan.points, self.dtype, plan.pointwise)[kept]  # (g, 1, f, c*b, *K)
            tiles *= scale
            for b, rk in enumerate(self.phases.taps):
                _scatter(w[:, rows], tiles[:, 0, :, b :: plan.taps], self.phases.w(rk))


# --------------------------------------------------------------------------------------------------------- the algorithm


def planned(request: Request, plan: Layout) -> Plan:
    """The request, computed as laid out."""
    spec, slot = request.spec, request.slot
    phases = _Phases(spec, slot, plan)

    def run(a: Array, b: Array, out: Array | None = None) -> Array:
        result = np.empty(spec.shape(slot), request.dtype) if out is None else out
        result[...] = 0
        _scratch.start(plan.workspace)
        with np.errstate(all="ignore"):  # NaN and Inf spread through a tile silently, as they do through sums
            _Contraction(request, plan, phases, *arrange(slot, a, b, result)).solve()
        return result

    return run


def _refuses(request: Request) -> str | None:
    plan = layout(request.spec, request.slot, request.dtype)
    if plan.workspace <= LIMIT:
        return None
    tile = " x ".join(map(str, plan.points))
    return f"needs tiles of {tile} points for this kernel, which do not fit its {LIMIT:,} bytes of workspace"


def _error(request: Request) -> float:
    """What roundings do to a convolution by FFT, relative to max|a| * sum|b|.

    The relative error of a transform of T points in the 2-norm is at most proportional to u*log2(T) (Higham 2002, theorem
    24.2), and that of a sum of n products to u*n. Worst cases need all roundings to conspire. For independent ones the
    factors are sqrt(log2 T) and sqrt(n) with a small constant (Higham and Mary 2019), and the error, spread evenly over the
    points of a tile, is relative to the root mean square of a times the 2-norm of b, which max|a| * sum|b| bounds.
    """
    spec = request.spec
    plan = layout(spec, request.slot, request.dtype)
    added = {
        "y": spec.cin * plan.taps,
        "x": spec.cout,
        "w": spec.batch * plan.columns,
    }[request.slot]
    return ERROR * float(np.finfo(request.dtype).eps) * (math.log2(math.prod(plan.points) + 1) + math.sqrt(added))


def _safe(request: Request) -> Range:
    """The range, for N points of a tile, T of them along the longest axis.

    The largest number of a tile is at most its 2-norm: sqrt(N)*max|a| for a, as for spectra times those of the filters, each at
    most sum|b|, and their sums. Transforms are unitary, but scaled after their sums, which are sqrt(T) times larger; and a
    butterfly of several points may add up some of them first. Filters are scaled by sqrt(N) before.

    What is lost in a transform is largest where it is scaled by sqrt(N) again, and meets sqrt(N)*max|a| at N frequencies.
    """
    points = layout(request.spec, request.slot, request.dtype).points
    total = math.prod(points)
    return range_of(request, 2 * math.sqrt(total * max(points)), total**1.5)


FFT = Algorithm(
    name="fft",
    features=FEATURES - {"unshared"},
    dtypes=frozenset({"float32", "float64", "complex64", "complex128"}),
    error=_error,
    safe=_safe,
    refuses=_refuses,
    workspace=lambda request: layout(request.spec, request.slot, request.dtype).workspace,
    cost=lambda request: layout(request.spec, request.slot, request.dtype).seconds,
    plan=lambda request: planned(request, layout(request.spec, request.slot, request.dtype)),
)
