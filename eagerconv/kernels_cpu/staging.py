"""Lets an algorithm serve operands that it can't read as they are: 16-bit floats, integers, and pixels scattered in memory.

float16 and bfloat16 are summed in float32 and rounded once, at the end. bool is counted, and is whether the count is not
zero, as in NumPy's sums of products. Operands that lie in memory otherwise than the algorithm reads them are copied: which
algorithm serves must not depend on strides, as it decides about the last bits.

Algorithms of floats that sum products of the operands themselves sum integers too, in float32 or float64, which have all
integers up to 2**24 or 2**53: as long as no sum can be larger, because of the dtype, or of the largest values in a block.
Otherwise `direct` computes that block in the integers. Either way a sum too large for the dtype wraps around.

The images of a block are converted or copied, never the whole batch; the filters, which every block needs, are whole. So
are copies for the gradient with respect to weights, whose sums over the batch are those of operands read in place.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from eagerconv.kernels_cpu.convert import SECONDS_PER_ELEMENT, convert
from eagerconv.kernels_cpu.copying import copied
from eagerconv.kernels_cpu.direct import DIRECT
from eagerconv.kernels_cpu.pairs import REAL
from eagerconv.memory import empty
from eagerconv.record import OPERANDS, Algorithm, Plan, Range, Request
from eagerconv.spec import contiguous

WIDER = {"float16": "float32", "bfloat16": "float32", "bool": "int32"}
INTEGERS = frozenset({"bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))})
EXACT = {"float32": 1 << 24, "float64": 1 << 53}  # up to which floats have all integers

SECONDS_PER_BLOCK, SECONDS_PER_INTEGER = 20e-6, 1e-9  # of integers to floats and back

BLOCK = 1 << 20  # elements of the operand and result images staged at once: 4 MiB of float32, and one image at least


class Stage(NamedTuple):
    """What an algorithm is asked to compute at once, and which of the two operands are converted or copied before."""

    request: Request
    staged: tuple[bool, bool]
    widened: bool

    def counted(self, request: Request) -> bool:
        """Whether integers are summed as floats."""
        return request.dtype.name in INTEGERS and self.request.dtype.kind == "f"


def staged(algorithm: Algorithm) -> Algorithm:
    """The algorithm, serving also operands that become such as it reads."""
    served = frozenset(name for name in (*WIDER, *INTEGERS) if computed_in(algorithm, name))
    error, safe = algorithm.error, algorithm.safe

    @lru_cache(maxsize=256)
    def stage(request: Request) -> Stage:
        if (wide := _wide(algorithm, request)) is not None:
            return _stage(request, (True, True), wide)
        as_it_is = Stage(request, (False, False), False)
        if algorithm.refuses(request) is None or request == request.contiguous(_images(request), request.threads):
            return as_it_is  # where a copy would change nothing, the reason stays
        ways = [_stage(request, some) for some in ((False, True), (True, False), (True, True))]
        return next((way for way in ways if algorithm.refuses(way.request) is None), ways[-1])

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


def computed_in(algorithm: Algorithm, name: str) -> tuple[str, ...]:
    """The dtypes in which an algorithm computes operands of the dtype `name`: none if it can't."""
    if name in algorithm.dtypes:
        return (name,)
    if WIDER.get(name) in algorithm.dtypes:
        return (WIDER[name],)
    if algorithm.exact and REAL.get(name) in algorithm.dtypes:
        return (REAL[name],)
    return tuple(EXACT) if name in INTEGERS and algorithm.exact and algorithm.dtypes.issuperset(EXACT) else ()


def _wide(algorithm: Algorithm, request: Request) -> str | None:
    """The dtype in which a block is computed, if it is not the operands' own."""
    name = request.dtype.name
    ways = computed_in(algorithm, name)
    if len(ways) == 1:
        return ways[0] if ways[0] != name else None
    return "float32" if _largest(request.dtype) ** 2 * request.products <= EXACT["float32"] else "float64"


def _largest(dtype: np.dtype[Any]) -> int:
    """The largest absolute value of an integer dtype."""
    return 1 if dtype.kind == "b" else -int(np.iinfo(dtype).min) or int(np.iinfo(dtype).max)


def _stage(request: Request, staged: tuple[bool, bool], wide: str | None = None) -> Stage:
    """A block of the images as the algorithm sees it; all of them where none need staging, or they are summed over."""
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
    elements = sum(math.prod(request.spec.shape(slot)) for slot in ("x", "w", "y"))
    if stage.counted(request):
        return SECONDS_PER_BLOCK + elements * SECONDS_PER_INTEGER
    return elements * SECONDS_PER_ELEMENT


def _plan(algorithm: Algorithm, request: Request, stage: Stage) -> Plan:
    if not any(stage.staged):
        return algorithm.plan(request)
    if stage.counted(request):
        return _counting(algorithm, request, stage)
    shape, narrow, step = request.spec.shape(request.slot), request.dtype, stage.request.spec.batch

    @lru_cache(maxsize=2)  # whole blocks, and the last one
    def of(images: int) -> Plan:
        return algorithm.plan(_block(request, stage, images))

    def ready(array: Any, operand: int) -> Any:
        if stage.widened:
            return convert(np.ascontiguousarray(array), stage.request.dtype)
        return copied(array) if stage.staged[operand] else array

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


def _counting(algorithm: Algorithm, request: Request, stage: Stage) -> Plan:
    """The plan of integers whose sums are exact in the stage's floats, or else computed directly, block by block."""
    shape, step, narrow, wide = (
        request.spec.shape(request.slot),
        stage.request.spec.batch,
        request.dtype,
        stage.request.dtype,
    )

    @lru_cache(maxsize=4)  # whole blocks and the last one, either way
    def of(images: int, dtype: np.dtype[Any]) -> tuple[int, Plan]:
        block = replace(_block(request, stage, images), dtype=dtype)
        return block.products, (algorithm if dtype == wide else DIRECT).plan(block)

    def block(a: Any, b: Any) -> Any:
        terms, plan = of(len(a), wide)
        if terms * _largest(narrow) ** 2 > EXACT[wide.name] and terms * _peak(a) * _peak(b) > EXACT[wide.name]:
            return of(len(a), narrow)[1](np.ascontiguousarray(a), np.ascontiguousarray(b))
        sums = plan(a.astype(wide, order="C"), b.astype(wide, order="C"))
        return sums != 0 if narrow.kind == "b" else sums.astype(np.int64).astype(narrow)

    def images(a: Any, w: Any) -> Any:
        result = empty(shape, narrow)
        for first in range(0, shape[0], step):
            result[first : first + step] = block(a[first : first + step], w)
        return result

    def filters(x: Any, y: Any) -> Any:
        parts = (block(x[first : first + step], y[first : first + step]) for first in range(0, len(x), step))
        return functools.reduce(np.add, parts)  # which wraps around as integers do, and of bool is `or`

    return filters if request.slot == "w" else images


def _peak(array: Any) -> int:
    """The largest absolute value of some integers."""
    return max(-int(array.min()), int(array.max()))


def _block(request: Request, stage: Stage, images: int) -> Request:
    """The request of a block of so many images, as `stage` prepares them."""
    if images == stage.request.spec.batch:
        return stage.request
    block = stage.request.contiguous(images, request.threads)
    return block if stage.staged[1] else replace(block, strides=(block.strides[0], stage.request.strides[1]))
