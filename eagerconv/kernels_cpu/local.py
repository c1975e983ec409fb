"""The algorithm `local`: unshared filters, each read or written once, as fast as memory and as long as the batch is small."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from eagerconv.kernels_cpu.jit import kernel
from eagerconv.kernels_cpu.table import LOCAL as TABLE
from eagerconv.kernels_cpu.table import as_table, middle
from eagerconv.kernels_cpu.targets import lanes
from eagerconv.kernels_cpu.threads import Launch, worthwhile
from eagerconv.record import FEATURES, OPERANDS, Algorithm, Plan, Request, arrange
from eagerconv.spec import ConvSpec, Shape, contiguous

PIECE = 512  # elements of a filter that are multiplied at once, where a filter is longer
BUFFER = 128 * 1024  # bytes of patches, and as many of image rows: together they stay in the second-level cache
POSITIONS = 8  # for which the buffer has room at least, as far as there are: neighbours share most of their image rows
SHORT = 32  # elements of a filter below which it is not divided among tasks

# Measured on one AVX-512 core at 4 GHz; filters in part from the third-level cache.
SECONDS_PER_BYTE = 0.03e-9  # of filters
SECONDS_PER_FMA = 0.19e-9  # one vector of products
SECONDS_PER_BLOCK = 26e-9  # four filters and four images at one position
SECONDS_PER_ROW = 9.5e-9  # copying the part of an image's row that a block of positions sees


@dataclass(frozen=True, slots=True)
class Blocks:
    """How the work is cut. `channels`, `runs` and `taps` depend on the filter alone: they tell the order of additions.

    Attributes
    ----------
    channels, runs, taps : int
        A piece of a filter: channels, kernel rows (kz, ky), columns kx; some of one axis, all of those behind it.
    images, positions : int
        Whose patches are in the buffer at once.
    common, classes, length : int
        A row of the image as windows see it: `classes` residue classes of `length` elements, see native/local.py.
    patch : int
        Elements between patches, whole vectors.
    """

    channels: int
    runs: int
    taps: int
    images: int
    positions: int
    common: int
    classes: int
    length: int
    patch: int

    @property
    def row_elements(self) -> int:
        """Of the image rows of a block."""
        return self.images * self.channels * self.runs * self.classes * self.length

    @property
    def patch_elements(self) -> int:
        """Of the patches of a block."""
        return self.images * self.positions * self.patch


@lru_cache(maxsize=1024)
def blocks(spec: ConvSpec, itemsize: int, n_lanes: int, most: int) -> Blocks:
    """The division for at most `most` positions at once."""
    all_runs, all_taps = math.prod(spec.kernel[:-1]), spec.kernel[-1]
    taps = min(all_taps, PIECE)
    runs = max(1, min(all_runs, PIECE // all_taps))
    channels = max(1, min(spec.cin, PIECE // (all_runs * all_taps)))
    patch = -(-channels * runs * taps // n_lanes) * n_lanes
    images = max(1, min(spec.batch, max(4, BUFFER // (min(POSITIONS, most) * patch * itemsize) // 4 * 4)))
    positions = max(1, min(most, spec.out[-1], BUFFER // (images * patch * itemsize)))
    common = math.gcd(spec.stride[-1], spec.step[-1])
    stride, step = spec.stride[-1] // common, abs(spec.step[-1]) // common
    while True:
        length = -(-((positions - 1) * stride + (taps - 1) * step + 1) // step)
        cut = Blocks(channels, runs, taps, images, positions, common, step, length, patch)
        if (
            positions == 1 or step * length > 2 * positions * taps
        ):  # windows have little in common: fetch each by itself
            return Blocks(channels, runs, taps, images, 1, common, 1, taps, patch)
        if cut.row_elements * itemsize <= BUFFER:
            return cut
        positions //= 2


def _blocks(request: Request) -> Blocks:
    """The division of a request: blocks of positions small enough to give every thread some."""
    spec = request.spec
    lines = spec.groups * math.prod(spec.out[:-1])
    most = spec.out[-1]
    if request.slot != "x" and request.threads > 1:
        most = max(-(-most // -(-4 * request.threads // max(lines, 1))), POSITIONS)
    return blocks(spec, request.dtype.itemsize, lanes(request.dtype), max(most, 1))


def _elements(request: Request) -> tuple[int, int]:
    """(where the patches start, how much there is) in a thread's workspace; vectors may reach a little too far."""
    cut, n_lanes = _blocks(request), lanes(request.dtype)
    patches_at = -(-(cut.row_elements + n_lanes) // n_lanes) * n_lanes
    return patches_at, patches_at + cut.patch_elements + n_lanes


def _reason_against(request: Request) -> str | None:
    if not request.spec.unshared:
        return "is for unshared filters"
    if request.slot != "w":
        strides = request.strides[OPERANDS[request.slot].index("w")][1 + request.spec.ndim :]
        sizes = (request.spec.cin, *request.spec.kernel)
        if any(n > 1 and a != b for n, a, b in zip(sizes, strides, contiguous(sizes), strict=True)):
            return f"needs the last {len(sizes)} axes of the filters contiguous, and their strides are {strides}"
    return None


def _inputs_tasks(request: Request) -> tuple[int, int, int]:
    """(channels, rows along z, tasks): as many tasks for each group as give every thread the same number.

    Slabs of rows, if there are several axes: they read filters in order, and only those at their borders twice, so they are
    at least as thick as two windows. Then blocks of channels, which leave out parts of each filter.
    """
    spec = request.spec
    wanted = request.threads // math.gcd(request.threads, spec.groups)
    size, window = (spec.size[0], (spec.kernel[0] - 1) * abs(spec.step[0]) + 1) if spec.ndim > 1 else (1, 1)
    slab = -(-size // max(1, min(wanted, size // (2 * window))))
    slabs = -(-size // slab)
    divisible = max(1, min(spec.cin, spec.cin * math.prod(spec.kernel) // SHORT))
    channels = -(-spec.cin // min(max(1, wanted // slabs), divisible))
    return channels, slab, spec.groups * slabs * -(-spec.cin // channels)


def _forward_tasks(request: Request) -> tuple[int, int]:
    """(filters, tasks): blocks of filters only where there are too few rows of positions for the threads."""
    spec = request.spec
    rows = spec.groups * math.prod(spec.out[:-1]) * -(-spec.out[-1] // _blocks(request).positions)
    wanted = -(-request.threads // rows)
    filters = -(-spec.cout // min(wanted, -(-spec.cout // 4)) // 4) * 4
    return filters, rows * -(-spec.cout // filters)


def _table(request: Request) -> list[int]:
    spec, cut = request.spec, _blocks(request)
    a, b = request.strides
    fields = middle(spec, *arrange(request.slot, a, b, contiguous(spec.shape(request.slot))))
    patches_at, work = _elements(request)
    filters = _forward_tasks(request)[0] if request.slot != "x" else spec.cout
    channels, slab = _inputs_tasks(request)[:2] if request.slot == "x" else (spec.cin, 1)
    return TABLE.pack(
        **fields, POSITIONS=cut.positions, IMAGES=cut.images, FILTERS=filters, CHANNELS=cut.channels, RUNS=cut.runs,
        TAPS=cut.taps, CLASSES=cut.classes, LENGTH_OF_CLASS=cut.length, ROW=cut.classes * cut.length, COMMON=cut.common,
        STRIDE_OF_RUNS=spec.stride[-1] // cut.common, PATCH=cut.patch, PATCHES_AT=patches_at, WORK=work,
        BLOCK=channels, SLAB=slab,
    )  # fmt: skip


def _cost(request: Request) -> float:
    """Filters read, products, calls of microkernels and image rows copied, shared among the threads that have a task."""
    spec, cut = request.spec, _blocks(request)
    places, filter_length = spec.groups * math.prod(spec.out), spec.cin * math.prod(spec.kernel)
    vectors = -(-filter_length // lanes(request.dtype))
    rows = places * spec.batch * filter_length / (spec.kernel[-1] * cut.positions)
    seconds = places * spec.cout * filter_length * request.dtype.itemsize * SECONDS_PER_BYTE
    seconds += places * spec.cout * spec.batch * vectors * SECONDS_PER_FMA
    seconds += places * -(-spec.cout // 4) * -(-spec.batch // 4) * SECONDS_PER_BLOCK + rows * SECONDS_PER_ROW
    tasks = _inputs_tasks(request)[2] if request.slot == "x" else _forward_tasks(request)[1]
    return seconds / max(1, min(request.threads, tasks))


def _plan(request: Request) -> Plan:
    spec, slot, dtype = request.spec, request.slot, request.dtype
    name = {"y": "forward", "x": "inputs", "w": "weights"}[slot]
    native = kernel(f"local:{name}", dtype)
    tasks = _inputs_tasks(request)[2] if slot == "x" else _forward_tasks(request)[1]
    threads = worthwhile(request.threads, _cost(request) * request.threads)
    launch = Launch(
        [(native, range(tasks))], threads, _elements(request)[1] * dtype.itemsize, as_table(_table(request))
    )
    shape: Shape = spec.shape(slot)

    return launch.plan(shape, dtype, slot)


LOCAL = Algorithm(
    name="local",
    features=FEATURES,
    dtypes=frozenset({"float32", "float64"}),
    error=None,
    refuses=_reason_against,
    workspace=lambda request: _elements(request)[1] * request.dtype.itemsize * request.threads,
    cost=_cost,
    plan=_plan,
)
