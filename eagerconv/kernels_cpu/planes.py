"""Plans of `rows` for small images, read in place under masks instead of copied with padding."""

from __future__ import annotations

import itertools
import math
from operator import mul
from typing import Any

import numpy as np
import numpy.typing as npt

from eagerconv.kernels_cpu.blocks import PLANE_TAPS
from eagerconv.kernels_cpu.jit import kernel
from eagerconv.kernels_cpu.table import PLANES, as_table
from eagerconv.kernels_cpu.targets import lanes
from eagerconv.kernels_cpu.threads import Launch
from eagerconv.record import Plan, Request
from eagerconv.spec import ConvSpec, Slot, contiguous

MASKS = 1 << 13  # vectors of masks, at most

# Measured on one AVX-512 core at 4 GHz: per vector, loaded under a mask and multiplied; per tap of some vectors; per plane.
SECONDS_PER_VECTOR, SECONDS_PER_TAP, SECONDS_PER_PLANE = 0.45e-9, 0.5e-9, 10e-9
SECONDS_PER_READ = 0.8e-9  # of a vector of the source for the first time, or again if they do not fit the cache
SECONDS_PER_MOVED = 1e-9  # of a vector of source and result, from memory and to it
CACHE = 1 << 20  # bytes


def suits(request: Request) -> bool:
    """Whether source and result can be counted through as one row of pixels, with few enough masks."""
    spec = request.spec
    if any(s != 1 for s in spec.stride) or spec.size[1:] != spec.out[1:]:
        return False
    given = request.strides if request.slot == "w" else request.strides[:1]
    shapes = (spec.size, spec.out) if request.slot == "w" else (spec.out if request.slot == "x" else spec.size,)
    dense = all(strides[2:] == contiguous((1, 1, *shape))[2:] for strides, shape in zip(given, shapes, strict=True))
    return dense and math.prod(spec.kernel) * _vectors(request) <= MASKS


def _pixels(spec: ConvSpec, slot: Slot) -> int:
    return math.prod(spec.size if slot == "x" else spec.out)


def _vectors(request: Request) -> int:
    return -(-_pixels(request.spec, request.slot) // lanes(request.dtype))


def _taps_at_once(taps: int) -> int:
    """How many taps to sum at once, so that little is summed twice."""
    return min((t for t in PLANE_TAPS if t <= taps), key=lambda t: (-(-taps // t) * (t + 1), t))


def seconds(request: Request) -> float:
    """Of one thread."""
    spec, taps = request.spec, math.prod(request.spec.kernel)
    pairs = spec.batch * spec.groups * spec.cin * spec.cout
    vectors = _vectors(request)
    channels = {"y": spec.cin, "x": spec.cout, "w": spec.cin + spec.cout}[request.slot]  # of the source of one group
    again = channels * _pixels(spec, request.slot) * request.dtype.itemsize > CACHE
    read = pairs * vectors * SECONDS_PER_READ
    moved = sum(math.prod(spec.shape(slot)) for slot in ("x", "y")) / lanes(request.dtype) * SECONDS_PER_MOVED
    moved += again * read
    if request.slot == "w":
        vectors *= -(-taps // _taps_at_once(taps)) * (1 + _taps_at_once(taps))
        return (
            moved
            + read
            + pairs * (vectors * SECONDS_PER_VECTOR + SECONDS_PER_PLANE)
            + pairs // spec.batch * taps * 5e-9
        )
    planes = spec.batch * spec.groups * (spec.cin if request.slot == "x" else spec.cout)
    products = pairs * taps * (vectors * SECONDS_PER_VECTOR + -(-vectors // 8) * SECONDS_PER_TAP)
    return moved + products + planes * SECONDS_PER_PLANE


def tasks(request: Request) -> int:
    """What threads share."""
    spec, slot = request.spec, request.slot
    if slot == "w":
        return spec.groups * spec.cout * spec.cin
    return spec.batch * spec.groups * (spec.cin if slot == "x" else spec.cout)


def _masks(
    offsets: list[tuple[int, ...]], grid: tuple[int, ...], size: tuple[int, ...], n_lanes: int
) -> npt.NDArray[Any]:
    """masks[tap, vector]: a bit for each lane, set where the result pixel's source pixel is inside the image."""
    places = np.indices(grid).reshape(len(grid), 1, -1)  # (axis, 1, pixel)
    source = places + np.array(offsets).T[:, :, None]  # (axis, tap, pixel)
    inside = np.all((source >= 0) & (source < np.reshape(size, (-1, 1, 1))), axis=0)  # (tap, pixel)
    inside = np.pad(inside, ((0, 0), (0, -inside.shape[1] % n_lanes)))
    bits = np.left_shift(np.int64(1), np.arange(n_lanes))
    masks: npt.NDArray[Any] = (inside.reshape(len(offsets), -1, n_lanes) * bits).sum(-1)
    return masks


def plan(request: Request, threads: int) -> Plan:
    """The plan of a request that `suits`."""
    spec, slot, dtype = request.spec, request.slot, request.dtype
    inputs, shape = slot == "x", spec.shape(slot)
    grid, size = (spec.size, spec.out) if inputs else (spec.out, spec.size)
    w = contiguous(shape) if slot == "w" else request.strides[1]
    ks = list(itertools.product(*map(range, spec.kernel)))
    sign = -1 if inputs else 1  # forward i = o + k*step + origin, for the inputs o = i - k*step - origin
    offsets = [
        tuple(sign * (i * step + origin) for i, step, origin in zip(k, spec.step, spec.origin, strict=True)) for k in ks
    ]
    masks = _masks(offsets, grid, size, lanes(dtype))  # (tap, vector)
    along = contiguous((1, 1, *size))[2:]
    rows, channels = (spec.cin, spec.cout) if inputs else (spec.cout, spec.cin)
    row, channel = (w[1], w[0]) if inputs else (w[0], w[1])
    table = PLANES.pack(
        BATCH=spec.batch, GROUPS=spec.groups, ROWS=rows, CHANNELS=channels, A_GROUP=spec.cout * w[0], A_ROW=row,
        A_CHANNEL=channel, SOURCE=request.strides[0][:2], Y=request.strides[1][:2], PIXELS=math.prod(grid),
        LANES=lanes(dtype), VECTORS=masks.shape[1], TAPS=len(ks),
    )  # fmt: skip
    for k, offset in zip(ks, offsets, strict=True):
        table += [sum(map(mul, offset, along)), sum(map(mul, k, w[2:]))]
    bits = masks.T if slot == "w" else masks
    function = f"planes:weights_{_taps_at_once(len(ks))}" if slot == "w" else "planes:images"
    launch = Launch(
        [(kernel(function, dtype), range(tasks(request)))], threads, 0, as_table([*table, *bits.ravel().tolist()])
    )

    return launch.plan(shape, dtype, slot if slot == "w" else "y")
