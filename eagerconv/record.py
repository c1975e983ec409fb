"""What an algorithm is asked (Request) and how it describes itself (Algorithm): the vocabulary of tables and kernels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple, TypeVar

import numpy as np

from eagerconv.spec import ConvSpec, Shape, Slot, contiguous

OPERANDS: dict[Slot, tuple[Slot, Slot]] = {"y": ("x", "w"), "x": ("y", "w"), "w": ("x", "y")}
"""The two given slots of each contraction, in the order in which they are passed."""

SLOT_NAMES: dict[Slot, str] = {"y": "forward", "x": "gradient wrt inputs", "w": "gradient wrt weights"}

FEATURES = frozenset(
    {"1d", "2d", "3d", "strided", "dilated", "flipped", "padded", "asymmetric", "grouped", "depthwise", "unshared"}
)
"""Every flag that `ConvSpec.features` can hold."""

TYPICAL_BATCH, TYPICAL_THREADS = 8, 2
"""For which algorithms are chosen on the CPU, whatever the batch and the threads: least regret over many of both."""

T = TypeVar("T")
Plan = Callable[..., Any]
"""plan(a, b) makes the result of two operands; those of the CPU's algorithms fill a third argument, if there is one."""
FinishingPlan = Callable[[Any, Any, Any], Any]


def arrange(slot: Slot, a: T, b: T, result: T) -> tuple[T, T, T]:
    """The operands and the result of a contraction in the order of the trilinear form: x, w, y."""
    return (a, b, result) if slot == "y" else (result, b, a) if slot == "x" else (a, result, b)


class Unavailable(RuntimeError):
    """An algorithm's library failed at what it had said it could do; another algorithm may do it."""


@dataclass(frozen=True, slots=True)
class Request:
    """One contraction to be planned.

    Attributes
    ----------
    spec : ConvSpec
    slot : {"x", "w", "y"}
        The slot that is solved for.
    dtype : numpy.dtype
        Of both operands and the result.
    strides : tuple of two tuples of int
        Of the two operands (see `OPERANDS`), in elements.
    threads : int
        How many threads may be used. Results never depend on it.
    device : str
    tf32 : bool
        Whether products of float32 may be rounded to TF32 first, on a GPU.
    workspace : int or None
        The most scratch memory that may be used, in bytes, where an algorithm has a choice.
    tuned : bool
        Whether an algorithm that has several engines is to time them, and to take the fastest from then on.
    """

    spec: ConvSpec
    slot: Slot
    dtype: np.dtype[Any]
    strides: tuple[Shape, Shape]
    threads: int = 1
    device: str = "cpu"
    tf32: bool = False
    workspace: int | None = None
    tuned: bool = False

    @property
    def typical(self) -> Request:
        """The request that stands for all that differ from it only in what must not change the bits of a result.

        Algorithms add in different orders, so their choice may depend on the filter and the geometry of one image alone: not
        on threads, on the way operands lie in memory, nor on how many images there are, except where the sum goes over them.
        """
        return _typical(self)

    @property
    def products(self) -> int:
        """The most products that are added up in one number of the result."""
        spec = self.spec
        terms = {
            "y": spec.cin * prod(spec.kernel),
            "x": spec.cout * prod(spec.kernel),
            "w": spec.batch * prod(spec.out),
        }
        return terms[self.slot]

    def contiguous(self, images: int, threads: int) -> Request:
        """The same of so many images and threads, for operands that are contiguous in memory."""
        spec = replace(self.spec, batch=images)
        a, b = (contiguous(spec.shape(slot)) for slot in OPERANDS[self.slot])
        return replace(self, spec=spec, strides=(a, b), threads=threads)


@lru_cache(maxsize=1024)
def _typical(request: Request) -> Request:
    if request.device != "cpu":
        return request
    return request.contiguous(request.spec.batch if request.slot == "w" else TYPICAL_BATCH, TYPICAL_THREADS)


class Range(NamedTuple):
    """The least and the most that each of max|a|, sum|b| and max|a| * sum|b| may be, unless it is zero.

    b is the second operand, and sum|b| the largest sum of what meets in one number of the result.
    """

    least: float
    most: float


def range_of(request: Request, growth: float, loss: float) -> Range:
    """The range of an algorithm whose intermediate values are at most `growth` times the largest of the three.

    Roundings, up to n in a sum of n products, may all enlarge them: twice as much is allowed for.

    Below the normal numbers a rounding is wrong not by a share of the value but by up to half the smallest number there is,
    tiny * eps. If for each product of a sum `loss` such roundings at most reach the result, multiplied by max|a|, sum|b| or
    one, they are less than one unit in the last place of max|a| * sum|b| from 4 * loss * tiny per product on.
    """
    limits = np.finfo(request.dtype)
    return Range(4 * loss * request.products * float(limits.tiny), float(limits.max) / (2 * growth))


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithm:
    """One way to compute contractions, and all that selection, `explain` and the tests need to know of it.

    Attributes
    ----------
    name : str
    features : frozenset of str
        Allow-list: a spec with a feature that is not in it is refused, so new variants are refused until learnt.
    dtypes : frozenset of str
    error : callable or None
        None: results are sums of products of the operands themselves, so that small integers give exact results.
        Otherwise Request -> a bound on the error relative to max|a| * sum|b|, the largest result there can be.
    safe : callable or None
        None with `error`: what sums products of the operands overflows and underflows only where their sums do.
        Otherwise Request -> the `Range` of operands within which no intermediate value overflows and `error` holds.
    refuses : callable
        Request -> a reason, or None for requests that pass the allow-lists and can be computed.
    workspace : callable
        Request -> bytes of scratch memory, all threads together.
    cost : callable
        Request -> estimated seconds.
    plan : callable
        Request -> a function of the two operand arrays that returns the result array.
    finishing : callable or None
        (Request, rectify) -> the same with a bias as the third array, and max(., 0) if `rectify`; or None if it can't.
    """

    name: str
    features: frozenset[str]
    slots: frozenset[Slot] = frozenset({"x", "w", "y"})
    dtypes: frozenset[str]
    error: Callable[[Request], float] | None
    safe: Callable[[Request], Range] | None = None
    refuses: Callable[[Request], str | None]
    workspace: Callable[[Request], int]
    cost: Callable[[Request], float]
    plan: Callable[[Request], Plan]
    finishing: Callable[[Request, bool], FinishingPlan | None] | None = None

    @property
    def exact(self) -> bool:
        """Whether small integers give exact results."""
        return self.error is None

    def reason_against(self, request: Request) -> str | None:
        """Why this algorithm can't serve the request, or None."""
        if request.slot not in self.slots:
            return f"does not compute the {SLOT_NAMES[request.slot]}"
        if request.dtype.name not in self.dtypes:
            return f"does not compute in {request.dtype.name}"
        if unknown := request.spec.features - self.features:
            return f"does not know {', '.join(sorted(unknown))} convolutions"
        return self.refuses(request)
