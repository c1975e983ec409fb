"""Lets an algorithm of real numbers serve complex ones: all products of real and imaginary parts in one convolution.

    (a + ib) * (c + id) = (a*c - b*d) + i(a*d + b*c)

The parts of the images are twice as many images, those of the filters twice as many filters. Of the gradient with respect to
inputs the filters have twice as many input channels, of that with respect to weights the images have, and the outputs. So the
four sums are exact where the algorithm's are.
"""

from __future__ import annotations

import functools
import math
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from eagerconv.memory import empty
from eagerconv.record import Algorithm, Plan, Request

REAL = {"complex64": "float32", "complex128": "float64"}
BLOCK = 1 << 20  # numbers of images and results that are computed at once, and one image at least
SECONDS_PER_NUMBER, SECONDS_PER_CALL = 4e-9, 30e-6  # parts taken and put together


def paired(algorithm: Algorithm) -> Algorithm:
    """The algorithm, serving also complex numbers; it must sum products of the operands themselves."""
    served = frozenset(name for name, real in REAL.items() if real in algorithm.dtypes) - algorithm.dtypes

    def seconds(request: Request) -> float:
        blocks = request.spec.batch / max(1, _images(request))
        numbers = sum(math.prod(request.spec.shape(slot)) for slot in ("x", "w", "y"))
        cost = algorithm.cost(_real(request, _images(request)))
        return blocks * (cost + SECONDS_PER_CALL) + numbers * SECONDS_PER_NUMBER

    def workspace(request: Request) -> int:
        real = _real(request, _images(request))
        parts = sum(math.prod(real.spec.shape(slot)) for slot in ("x", "w", "y")) * real.dtype.itemsize
        return algorithm.workspace(real) + parts

    def either(of_real: Any, of_complex: Any) -> Any:
        return lambda request: (of_complex if request.dtype.name in served else of_real)(request)

    return replace(
        algorithm,
        dtypes=algorithm.dtypes | served,
        refuses=either(algorithm.refuses, lambda request: algorithm.refuses(_real(request, _images(request)))),
        workspace=either(algorithm.workspace, workspace),
        cost=either(algorithm.cost, seconds),
        plan=either(algorithm.plan, lambda request: _plan(algorithm, request)),
    )


def _images(request: Request) -> int:
    """How many images make a block, all about equally many: by the shapes alone."""
    spec = request.spec
    most = max(1, BLOCK // sum(math.prod(spec.shape(slot)[1:]) for slot in ("x", "y")))
    return -(-spec.batch // -(-spec.batch // most))


@lru_cache(maxsize=256)
def _real(request: Request, images: int) -> Request:
    """The convolution of the parts of so many images."""
    spec, slot = request.spec, request.slot
    if slot == "w":
        spec = replace(spec, batch=images, cin=2 * spec.cin, cout=2 * spec.cout)
    elif slot == "y":
        spec = replace(spec, batch=2 * images, cout=2 * spec.cout)
    else:
        spec = replace(spec, batch=2 * images, cin=2 * spec.cin)
    real = replace(request, spec=spec, dtype=np.dtype(REAL[request.dtype.name]))
    return real.contiguous(spec.batch, request.threads)


def _parts(array: Any, at: int) -> Any:
    """Real and imaginary part along a new axis, contiguous."""
    parts = empty((*array.shape[:at], 2, *array.shape[at:]), array.real.dtype)
    before = (slice(None),) * at
    parts[(*before, 0)], parts[(*before, 1)] = array.real, array.imag
    return parts


def _joined(first: Any, second: Any, other: Any, another: Any, out: Any) -> None:
    """Fill `out` with (first - second) + i(other + another)."""
    np.subtract(first, second, out=out.real)
    np.add(other, another, out=out.imag)


def _plan(algorithm: Algorithm, request: Request) -> Plan:
    spec, slot, step = request.spec, request.slot, _images(request)
    shape, groups = spec.shape(slot), spec.groups

    @lru_cache(maxsize=2)  # whole blocks, and the last one
    def of(images: int) -> tuple[Request, Plan]:
        real = _real(request, images)
        return real, algorithm.plan(real)

    def grouped(array: Any) -> Any:
        return array.reshape(array.shape[0], groups, -1, *array.shape[2:])

    def images(a: Any, w: Any, out: Any = None) -> Any:
        """Forward: (2, n, ...) * (g, 2, f, ...) -> (2, n, g, 2, f, ...), and with c for f with respect to inputs."""
        result = empty(shape, request.dtype) if out is None else out
        if slot == "y":
            filters = _parts(w.reshape(groups, -1, *w.shape[1:]), 1)
        else:
            filters = _parts(w, w.ndim - spec.ndim - 1)
        for first in range(0, shape[0], step):
            some = a[first : first + step]
            real, plan = of(len(some))
            parts = _parts(some, 0).reshape(real.spec.shape("x" if slot == "y" else "y"))
            both = plan(parts, filters.reshape(real.spec.shape("w"))).reshape(2, len(some), groups, 2, -1, *shape[2:])
            into = grouped(result[first : first + step])
            _joined(both[0, :, :, 0], both[1, :, :, 1], both[0, :, :, 1], both[1, :, :, 0], into)
        return result

    def block(x: Any, y: Any) -> Any:
        """(n, g, 2, c, ...), (n, g, 2, f, ...) -> (g, 2, f, 2, c, ...), with output positions behind f where unshared."""
        real, plan = of(len(x))
        parts = [
            _parts(grouped(x), 2).reshape(real.spec.shape("x")), _parts(grouped(y), 2).reshape(real.spec.shape("y"))
        ]  # fmt: skip
        positions = spec.out if spec.unshared else ()
        both = plan(*parts).reshape(groups, 2, spec.cout, *positions, 2, spec.cin, *spec.kernel)
        both = np.moveaxis(both, 3 + len(positions), 2)  # (g, part of y, part of x, f, ...)
        result = empty(shape, request.dtype)
        into = result.reshape(groups, -1, *shape[1:])
        _joined(both[:, 0, 0], both[:, 1, 1], both[:, 0, 1], both[:, 1, 0], into)
        return result

    def weights(x: Any, y: Any) -> Any:
        blocks = (block(x[first : first + step], y[first : first + step]) for first in range(0, len(x), step))
        return functools.reduce(np.add, blocks)

    return weights if slot == "w" else images
