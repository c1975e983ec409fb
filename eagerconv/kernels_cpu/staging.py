"""Lets an algorithm serve operands that it can't read as they are: 16-bit floats, bool, and pixels scattered in memory.

float16 and bfloat16 are summed in float32 and rounded once, at the end. bool is counted in int32, and is whether the count
is not zero, as in NumPy's sums of products. Operands that lie in memory otherwise than the algorithm reads them are copied:
which algorithm serves must not depend on strides, as it decides about the last bits.

The images of a block are converted or copied, never the whole batch; the filters, which every block needs, are whole. So
are copies for the gradient with respect to weights, whose sums over the batch are those of operands read in place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from eagerconv.kernels_cpu.convert import SECONDS_PER_ELEMENT, convert
from eagerconv.memory import empty
from eagerconv.record import OPERANDS, Algorithm, Plan, Range, Request
from eagerconv.spec import contiguous

WIDER = {"float16": "float32", "bfloat16": "float32", "bool": "int32"}

BLOCK = 1 << 20  # elements of the operand and result images staged at once: 4 MiB of float32, and one image at least


class Stage(NamedTuple):
    """What an algorithm is asked to compute at once, and which of the two operands are converted or copied before."""

    request: Request
    staged: tuple[bool, bool]
    widened: bool


def staged(algorithm: Algorithm) -> Algorithm:
    """The algorithm, serving also operands that become such as it reads."""
    served = frozenset(narrow for narrow, wide in WIDER.items() if wide in algorithm.dtypes)
    error, safe = algorithm.error, algorithm.safe

    @lru_cache(maxsize=256)
    def stage(request: Request) -> Stage:
        if request.dtype.name in WIDER:
            return _stage(request, (True, True))
        ways = (_stage(request, some) for some in ((False, False), (False, True), (True, False), (True, True)))
        return next((way for way in ways if algorithm.refuses(way.request) is None), _stage(request, (True, True)))

    return replace(
        algorithm,
        dtypes=algorithm.dtypes | served,
        error=None if error is None else lambda request: error(stage(request).request),
        safe=None if safe is None else lambda request: _range(safe, request, stage(request).request),
        refuses=lambda request: algorithm.refuses(stage(request).request),
        workspace=lambda request: algorithm.workspace(stage(request).request) + _staged_bytes(stage(request)),
        cost=lambda request: algorithm.cost(stage(request).request) + _seconds(stage(request), request),
        plan=lambda request: _plan(algorithm, request, stage(request)),
    )


def _stage(request: Request, staged: tuple[bool, bool]) -> Stage:
    """A block of the images as the algorithm sees it; all of them where none need staging, or they are summed over."""
    wide = WIDER.get(request.dtype.name)
    whole = wide is None and (request.slot == "w" or not staged[0])
    spec = request.spec if whole else replace(request.spec, batch=_images(request))
    strides = [
        contiguous(spec.shape(slot)) if moved else given
        for slot, moved, given in zip(OPERANDS[request.slot], staged, request.strides, strict=True)
    ]
    dtype = np.dtype(wide) if wide else request.dtype
    return Stage(replace(request, spec=spec, dtype=dtype, strides=(strides[0], strides[1])), staged, wide is not None)


def _images(request: Request) -> int:
    """How many images make a block, all about equally many: by the shapes alone, so that sums over the batch are cut alike."""
    spec = request.spec
    per_image = sum(math.prod(spec.shape(slot)[1:]) for slot in ("x", "y"))
    most = max(1, min(spec.batch, BLOCK // max(1, per_image)))
    return -(-spec.batch // -(-spec.batch // most)) if spec.batch else 1


def _range(safe: Callable[[Request], Range], request: Request, block: Request) -> Range:
    """The range of a block; sums over the batch lose something in each of them."""
    least, most = safe(block)
    return Range(least * (-(-request.spec.batch // block.spec.batch) if request.slot == "w" else 1), most)


def _staged_bytes(stage: Stage) -> int:
    """Of the converted or copied operands, and of a result that is yet to be rounded."""
    spec, slot = stage.request.spec, stage.request.slot
    moved = [operand for operand, staged in zip(OPERANDS[slot], stage.staged, strict=True) if staged]
    return sum(math.prod(spec.shape(s)) for s in (*moved, *([slot] * stage.widened))) * stage.request.dtype.itemsize


def _seconds(stage: Stage, request: Request) -> float:
    """Of conversions; copies take about as long, and the choice never sees any."""
    if not any(stage.staged):
        return 0.0
    return sum(math.prod(request.spec.shape(slot)) for slot in ("x", "w", "y")) * SECONDS_PER_ELEMENT


def _plan(algorithm: Algorithm, request: Request, stage: Stage) -> Plan:
    if not any(stage.staged):
        return algorithm.plan(request)
    shape, narrow, step = request.spec.shape(request.slot), request.dtype, stage.request.spec.batch

    @lru_cache(maxsize=2)  # whole blocks, and the last one
    def of(images: int) -> Plan:
        return algorithm.plan(_block(request, stage, images))

    def ready(array: Any, operand: int) -> Any:
        if stage.widened:
            return convert(np.ascontiguousarray(array), stage.request.dtype)
        return _copied(array) if stage.staged[operand] else array

    def images(a: Any, w: Any, out: Any = None) -> Any:
        """Forward and gradient wrt inputs: blocks of the result do not depend on each other."""
        result, w = empty(shape, narrow) if out is None else out, ready(w, 1)
        for first in range(0, shape[0], step):
            some, part = ready(a[first : first + step], 0), result[first : first + step]
            if stage.widened:
                convert(of(len(some))(some, w), narrow, part)
            else:
                of(len(some))(some, w, part)
        return result

    def filters(x: Any, y: Any) -> Any:
        """Gradient wrt weights: blocks are added in the wide dtype."""
        total = None
        for first in range(0, len(x), step):
            some = ready(x[first : first + step], 0)
            part = of(len(some))(some, ready(y[first : first + step], 1))
            total = part if total is None else np.add(total, part, out=total)
        return convert(total, narrow) if stage.widened else total

    return filters if request.slot == "w" else images


def _block(request: Request, stage: Stage, images: int) -> Request:
    """The request of a block of so many images, as `stage` prepares them."""
    if images == stage.request.spec.batch:
        return stage.request
    block = stage.request.contiguous(images, request.threads)
    return block if stage.staged[1] else replace(block, strides=(block.strides[0], stage.request.strides[1]))


def _copied(array: Any) -> Any:
    copy = empty(array.shape, array.dtype)
    copy[...] = array
    return copy
