"""Lets an algorithm serve 16-bit floats and bool: some images at a time, through a wider dtype in which it sums.

float16 and bfloat16 are summed in float32 and rounded once, at the end. bool is counted in int32, and is whether the count
is not zero, as in NumPy's sums of products. The images of a block are converted, never the whole batch; the filters, which
every block needs, are converted whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from eagerconv.kernels_cpu.convert import SECONDS_PER_ELEMENT, convert
from eagerconv.kernels_cpu.direct import contiguous
from eagerconv.memory import empty
from eagerconv.record import OPERANDS, Algorithm, Plan, Range, Request

WIDER = {"float16": "float32", "bfloat16": "float32", "bool": "int32"}

BLOCK = 1 << 20  # elements of the operand and result images converted at once: 4 MiB, and one image at least


def widened(algorithm: Algorithm) -> Algorithm:
    """The algorithm, serving also the dtypes that become one of its own."""
    served = frozenset(narrow for narrow, wide in WIDER.items() if wide in algorithm.dtypes)
    error, safe = algorithm.error, algorithm.safe
    return replace(
        algorithm,
        dtypes=algorithm.dtypes | served,
        error=None if error is None else lambda request: error(_wide(request)),
        safe=None if safe is None else lambda request: _range(safe, request),
        refuses=lambda request: algorithm.refuses(_wide(request)),
        workspace=lambda request: algorithm.workspace(_wide(request)) + _converted_bytes(request),
        cost=lambda request: algorithm.cost(_wide(request)) + _conversion_cost(request),
        plan=lambda request: _plan(algorithm, request) if request.dtype.name in WIDER else algorithm.plan(request),
    )


def _images(request: Request) -> int:
    """How many images make a block, all about equally many: by the shapes alone, so that sums over the batch are cut alike."""
    spec = request.spec
    per_image = sum(math.prod(spec.shape(slot)[1:]) for slot in ("x", "y"))
    most = max(1, min(spec.batch, BLOCK // max(1, per_image)))
    return -(-spec.batch // -(-spec.batch // most)) if spec.batch else 1


def _wide(request: Request, images: int | None = None) -> Request:
    """The request for a converted block, whose arrays are contiguous; any other request as it is."""
    wide = WIDER.get(request.dtype.name)
    if wide is None:
        return request
    spec = replace(request.spec, batch=_images(request) if images is None else images)
    a, b = (contiguous(spec.shape(slot)) for slot in OPERANDS[request.slot])
    return replace(request, spec=spec, dtype=np.dtype(wide), strides=(a, b))


def _range(safe: Callable[[Request], Range], request: Request) -> Range:
    """The range of a block; sums over the batch lose something in each of them."""
    block = _wide(request)
    least, most = safe(block)
    return Range(least * (-(-request.spec.batch // block.spec.batch) if request.slot == "w" else 1), most)


def _converted_bytes(request: Request) -> int:
    if request.dtype.name not in WIDER:
        return 0
    wide = _wide(request)
    return sum(math.prod(wide.spec.shape(slot)) for slot in ("x", "w", "y")) * wide.dtype.itemsize


def _conversion_cost(request: Request) -> float:
    if request.dtype.name not in WIDER:
        return 0.0
    return sum(math.prod(request.spec.shape(slot)) for slot in ("x", "w", "y")) * SECONDS_PER_ELEMENT


def _plan(algorithm: Algorithm, request: Request) -> Plan:
    shape, narrow = request.spec.shape(request.slot), request.dtype
    step, wide = _images(request), np.dtype(WIDER[request.dtype.name])

    @lru_cache(maxsize=2)  # whole blocks, and the last one
    def of(images: int) -> Plan:
        return algorithm.plan(_wide(request, images))

    def block(array: Any, first: int) -> Any:
        return convert(np.ascontiguousarray(array[first : first + step]), wide)

    def images(a: Any, w: Any) -> Any:
        """Forward and gradient wrt inputs: blocks of the result do not depend on each other."""
        result, w = empty(shape, narrow), convert(np.ascontiguousarray(w), wide)
        for first in range(0, shape[0], step):
            some = block(a, first)
            convert(of(len(some))(some, w), narrow, result[first : first + step])
        return result

    def filters(x: Any, y: Any) -> Any:
        """Gradient wrt weights: blocks are added in the wide dtype."""
        total = None
        for first in range(0, len(x), step):
            some = block(x, first)
            part = of(len(some))(some, block(y, first))
            total = part if total is None else np.add(total, part, out=total)
        return convert(total, narrow)

    return filters if request.slot == "w" else images
