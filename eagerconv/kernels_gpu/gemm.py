"""The algorithm `gemm` on the GPU: columns gathered by a raw kernel, multiplied by cuBLAS. It needs no cuDNN."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from eagerconv.kernels_gpu.cuda import Runtime, launch, runtime
from eagerconv.kernels_gpu.direct import Geometry
from eagerconv.record import FEATURES, Algorithm, Plan, Request
from eagerconv.spec import ConvSpec, contiguous

COLUMN_BYTES = 256 << 20  # of columns held at once, where one image needs no more
COUNT = 2**31 - 1  # what cuBLAS can count of rows, columns and distances

SECONDS_PER_PRODUCT = 1e-13  # estimates for a card of an H200's kind, not measurements
SECONDS_PER_BYTE = 1e-12
SECONDS_PER_CALL = 30e-6


def _wide(request: Request) -> str:
    """The dtype in which products are added."""
    return "float64" if request.dtype == "float64" else "float32"


def _rows(spec: ConvSpec) -> int:
    """(channel, tap) pairs of one group."""
    return spec.cin * math.prod(spec.kernel)


def _images(request: Request) -> int:
    """How many images' columns are held at once."""
    spec = request.spec
    per_image = spec.groups * _rows(spec) * math.prod(spec.out) * 4
    return max(1, min(spec.batch, COLUMN_BYTES // max(1, per_image)))


def _blocks(cuda: Runtime, request: Request, dtype: Any) -> Iterator[tuple[int, int, Any]]:
    """(first image, number of images, memory for their columns) of each block; smaller ones when memory is short."""
    spec, images = request.spec, _images(request)
    per_image = spec.groups * _rows(spec) * math.prod(spec.out)
    while True:
        try:
            held = cuda.empty((images * per_image,), dtype)
            break
        except MemoryError:
            if images == 1:
                raise
            images = -(-images // 2)
    for first in range(0, spec.batch, images):
        count = min(images, spec.batch - first)
        yield first, count, held[: count * per_image]


def _pointwise(request: Request) -> bool:
    """Whether the image is its own columns: 1x1, stride 1, no padding, and laid out as columns are."""
    spec = request.spec
    same = spec.size == spec.out and set(spec.kernel) == {1} and set(spec.stride) == {1} and not any(spec.origin)
    return same and (request.slot == "x" or request.strides[0] == contiguous(spec.shape("x")))


def _multiply(cuda: Runtime, a: Any, b: Any, out: Any, tf32: bool, add: bool = False) -> None:
    """out[n, g] = a[n, g] @ b[n, g], one call of cuBLAS for each entry of the shorter of both axes."""
    along = 0 if out.shape[0] < out.shape[1] else 1
    for i in range(out.shape[along]):
        part = (i,) if along == 0 else (slice(None), i)
        cuda.gemm(a[part], b[part], out[part], tf32, add)


def _forward(request: Request) -> Plan:
    """y[n, g] (F, O) = w[g] (F, R) columns[n, g] (R, O)."""
    spec, dtype, geometry = request.spec, request.dtype, Geometry(request, contiguous(request.spec.shape("y")))
    n, g, f, r, places = spec.batch, spec.groups, spec.cout, _rows(spec), math.prod(spec.out)

    def run(x: Any, w: Any) -> Any:
        cuda = runtime()
        y = cuda.empty((n, g, f, places), dtype)
        filters = cuda.xp.broadcast_to(cuda.xp.ascontiguousarray(w).reshape(1, g, f, r), (n, g, f, r))
        if _pointwise(request):
            _multiply(cuda, filters, x.reshape(n, g, r, places), y, request.tf32)
            return y.reshape(spec.shape("y"))
        for first, count, held in _blocks(cuda, request, dtype):
            steps = (first, count, g * r * places, places)
            launch(cuda, dtype.name, "im2col", held.size, x, held, geometry.on(cuda), *steps)
            columns = held.reshape(count, g, r, places)
            _multiply(cuda, filters[:count], columns, y[first : first + count], request.tf32)
        return y.reshape(spec.shape("y"))

    return run


def _inputs(request: Request) -> Plan:
    """columns[n, g] (R, O) = w[g]^T (R, F) y[n, g] (F, O), and every input adds up the columns it went to."""
    spec, dtype, wide = request.spec, request.dtype, _wide(request)
    geometry = Geometry(request, contiguous(spec.shape("x")))
    n, g, f, r, places = spec.batch, spec.groups, spec.cout, _rows(spec), math.prod(spec.out)
    pixels = g * spec.cin * math.prod(spec.size)

    def run(y: Any, w: Any) -> Any:
        cuda = runtime()
        x = cuda.empty(spec.shape("x"), dtype)
        y = cuda.xp.ascontiguousarray(y).reshape(n, g, f, places)
        filters = cuda.xp.ascontiguousarray(w).reshape(1, g, f, r).swapaxes(2, 3)
        filters = cuda.xp.broadcast_to(filters, (n, g, r, f))
        if _pointwise(request):
            _multiply(cuda, filters, y, x.reshape(n, g, r, places), request.tf32)
            return x
        for first, count, held in _blocks(cuda, request, wide):
            columns = held.reshape(count, g, r, places)
            _multiply(cuda, filters[:count], y[first : first + count], columns, request.tf32)
            steps = (first, count, g * r * places, places)
            launch(cuda, dtype.name, "col2im", count * pixels, held, x, geometry.on(cuda), *steps)
        return x

    return run


def _weights(request: Request) -> Plan:
    """w[g] (F, R) = sum over blocks of images of y[g] (F, nO) columns[g]^T (nO, R)."""
    spec, dtype, geometry = request.spec, request.dtype, Geometry(request, contiguous(request.spec.shape("w")))
    g, f, r, places = spec.groups, spec.cout, _rows(spec), math.prod(spec.out)

    def run(x: Any, y: Any) -> Any:
        cuda = runtime()
        total = cuda.empty((1, g, f, r), _wide(request))
        for first, count, held in _blocks(cuda, request, dtype):
            steps = (first, count, places, count * places)
            launch(cuda, dtype.name, "im2col", held.size, x, held, geometry.on(cuda), *steps)
            columns = held.reshape(1, g, r, count * places).swapaxes(2, 3)
            maps = y[first : first + count].reshape(count, g * f, places).swapaxes(0, 1)
            maps = cuda.xp.ascontiguousarray(maps).reshape(1, g, f, count * places)
            _multiply(cuda, maps, columns, total, request.tf32, add=first > 0)
        return total.reshape(spec.shape("w")).astype(dtype, copy=False)

    return run


def _refuses(request: Request) -> str | None:
    spec = request.spec
    longest = max(_rows(spec), spec.cout, _images(request) * math.prod(spec.out))
    return f"multiplies matrices of at most {COUNT:,} rows, not {longest:,}" if longest > COUNT else None


def _workspace(request: Request) -> int:
    if request.slot != "w" and _pointwise(request):
        return 0
    spec = request.spec
    itemsize = max(request.dtype.itemsize, 4 if request.slot == "x" else 0)
    return _images(request) * spec.groups * _rows(spec) * math.prod(spec.out) * itemsize


def _cost(request: Request) -> float:
    moved = 3 * request.spec.batch * _workspace(request) // _images(request)
    return SECONDS_PER_CALL + request.spec.macs * SECONDS_PER_PRODUCT + moved * SECONDS_PER_BYTE


GEMM = Algorithm(
    name="gemm",
    features=FEATURES - {"unshared"},
    dtypes=frozenset({"float16", "bfloat16", "float32", "float64"}),
    error=None,
    refuses=_refuses,
    workspace=_workspace,
    cost=_cost,
    plan=lambda request: {"y": _forward, "x": _inputs, "w": _weights}[request.slot](request),
)
