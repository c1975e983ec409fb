"""Compares one contraction with the plain float64 reference: what `check()` does to every one of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from eagerconv import reference
from eagerconv.record import OPERANDS, SLOT_NAMES, Algorithm, Request

EPSILON = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "complex64": 2.0**-23}
"""Unit in the last place of each dtype; float64's for all others, and integers must agree exactly."""


class CheckError(ArithmeticError):
    """An algorithm's result is farther from the reference than its error bound allows."""


def verify(algorithm: Algorithm, request: Request, a: Any, b: Any, result: Any) -> None:
    """Raise CheckError if `result` is wrong.

    A sum of n products may be wrong by n * epsilon * sum |a||b|, and then be rounded to its dtype. An algorithm with an
    error bound of its own may be wrong by that times max|a| * sum|b|, for which the largest sum |a||b| stands here.
    """
    spec, slot = request.spec, request.slot
    kind = result.dtype.kind
    exact = kind in "biu"
    wide = result.dtype if kind in "iu" else np.dtype(np.int64 if kind == "b" else complex if kind == "c" else float)
    first, second = OPERANDS[slot]
    with np.errstate(all="ignore"):
        truth = reference.solve(spec, slot, **{first: a.astype(wide), second: b.astype(wide)})
        if exact:
            wrong = result != (truth != 0 if kind == "b" else truth)
            allowed = np.zeros(())
        else:
            size = reference.solve(spec, slot, **{first: np.abs(a.astype(wide)), second: np.abs(b.astype(wide))})
            epsilon = EPSILON.get(request.dtype.name, 2.0**-52)
            summed = min(epsilon, 2.0**-23) * _terms(request) * size
            own = 0.0 if algorithm.error is None else algorithm.error(request) * np.max(size, initial=0.0)
            allowed = summed + own + epsilon * size + float(np.finfo(np.float32).tiny)
            wrong = ~(np.abs(result.astype(wide) - truth) <= allowed) & np.isfinite(truth)
    if wrong.any():
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise CheckError(
            f"{algorithm.name} is wrong in the {SLOT_NAMES[slot]} of {spec}, {request.dtype.name}: at {at} it gave "
            f"{result[at]}, the reference {truth[at]}, allowed error {np.broadcast_to(allowed, wrong.shape)[at]:.3g}; "
            f"{int(wrong.sum())} of {wrong.size} elements are wrong{_safe(algorithm, request)}"
        )


def _safe(algorithm: Algorithm, request: Request) -> str:
    """The range of operands for which the algorithm promises its error, as the end of a message."""
    if algorithm.safe is None:
        return ""
    (a, b), limits = OPERANDS[request.slot], algorithm.safe(request)
    return (
        f"; its error is promised for max|{a}|, sum|{b}| and their product from {limits.least:.0e} to {limits.most:.0e}, "
        "using(exact=True) takes algorithms without such limits"
    )


def _terms(request: Request) -> float:
    """Products in one sum."""
    spec = request.spec
    return spec.macs / max(1, int(np.prod(spec.shape(request.slot))))
