"""What the user asks of the choice of algorithms, and for how long: `using`, `check`, the environment."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from eagerconv.algorithms.registry import known
from eagerconv.algorithms.tuning import Tuner
from eagerconv.arguments import number, whole
from eagerconv.record import Algorithm, Request
from eagerconv.scopes import Block, Setting

TOLERANCE = {
    "float16": 1e-3,
    "bfloat16": 1e-2,
    "float32": 3e-5,
    "complex64": 3e-5,
    "float64": 1e-12,
    "complex128": 1e-12,
}
"""Error, relative to the largest result there can be, that `auto` allows by default."""

SMALL = 1_000_000
"""Typical problems of fewer products are always summed directly: exactness costs nothing there."""


class Observer:
    """Collects the explanation of each different contraction made under a policy."""

    def __init__(self) -> None:
        self.rows: list[Any] = []


@dataclass(frozen=True, slots=True)
class Policy:
    """What the user asked of the choice: see `using`."""

    require: str | None = None
    exclude: frozenset[str] = frozenset()
    exact: bool = False
    tolerance: float | None = None
    workspace: int | None = None
    tf32: bool = False
    observer: Observer | None = None
    tuner: Tuner | None = None
    check: bool = False
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        wishes = (self.require, self.exclude, self.exact, self.tolerance, self.workspace, self.tf32, self.check)
        object.__setattr__(self, "_hash", hash((*wishes, self.observer, self.tuner)))

    def __hash__(self) -> int:
        return self._hash  # looked up on every call: computed once

    def reason_against(self, algorithm: Algorithm, request: Request) -> str | None:
        """Why the user's wishes rule this algorithm out, or None. All but the limit of workspace see the typical request."""
        typical = request.typical
        if self.require is not None and algorithm.name != self.require:
            return f"{self.require!r} is required"
        if algorithm.name in self.exclude:
            return "is excluded"
        if algorithm.error is not None and self.require is None:
            if self.exact:
                return "does not sum directly, and exact=True was asked for"
            if typical.spec.macs < SMALL:
                return "is not for small problems, which are summed directly"
            tolerance = TOLERANCE.get(request.dtype.name, 0.0) if self.tolerance is None else self.tolerance
            if (error := algorithm.error(typical)) > tolerance:
                return f"may be wrong by {error:.1e} of the largest result, more than the {tolerance:.1e} allowed"
        if self.workspace is not None and (needed := algorithm.workspace(request)) > self.workspace:
            return f"needs {needed:,} bytes of workspace, more than the {self.workspace:,} allowed"
        return None


def _from_environment(text: str) -> Policy:
    """EAGERCONV_ALGORITHMS: "gemm" or "+gemm" requires, "-gemm" excludes, separated by commas."""
    required: set[str] = set()
    excluded: set[str] = set()
    try:
        for entry in filter(None, (part.strip() for part in text.split(","))):
            (excluded if entry[0] == "-" else required).add(known(entry.lstrip("+-")))
        return Policy(require=_only(required, excluded), exclude=frozenset(excluded))
    except ValueError as error:
        raise ValueError(
            f'EAGERCONV_ALGORITHMS={text!r}: {error}; set it to the one to use, as in "gemm", or to those not to use, as in '
            '"-gemm,-fft", or unset it'
        ) from None


def _only(required: Collection[str], excluded: Collection[str]) -> str | None:
    """The one algorithm that is required, or None."""
    if len(required) > 1:
        raise ValueError(f"one algorithm alone can be required, not {' and '.join(sorted(map(repr, required)))}")
    for name in required:
        if name in excluded:
            raise ValueError(f"{name!r} cannot be both required and excluded")
    return next(iter(required), None)


POLICY = Setting("policy", _from_environment(os.environ.get("EAGERCONV_ALGORITHMS", "")))
"""The policy in force in each thread and asyncio task."""


def current() -> Policy:
    """The policy in force here."""
    return POLICY.get()


def with_algorithm(algorithm: str) -> Policy:
    """The policy in force, with one call's `algorithm=` argument on top ("auto" adds nothing)."""
    return current() if algorithm == "auto" else replace(current(), require=known(algorithm))


def using(
    algorithm: str | None = None,
    *,
    require: str | None = None,
    exclude: Iterable[str] = (),
    exact: bool | None = None,
    tolerance: float | None = None,
    workspace: int | None = None,
    tf32: bool | None = None,
) -> Block:
    """Steer the choice of algorithms inside a `with` block, in this thread or asyncio task; inner blocks add to outer ones.

    Parameters
    ----------
    algorithm, require : str, optional
        The one algorithm to use, one of those that `explain` lists. A convolution it can't compute raises.
    exclude : iterable of str, optional
        Algorithms not to use.
    exact : bool, optional
        Only algorithms that sum products of the operands themselves: small integers then give exact results, and values
        of any size give what their sums are (see Notes).
    tolerance : float, optional
        The largest error allowed, relative to max|input| * sum|filter|: by default 3e-5 for float32, 1e-12 for float64.
        A required algorithm is used whatever its error.
    workspace : int, optional
        The most scratch memory a convolution may use, in bytes, all threads together. As it grows with threads and images,
        such a limit may let them change the choice, and so the last bits, which otherwise they never do.
    tf32 : bool, optional
        Let GPUs round float32 factors to TF32, 10 bits of mantissa, for speed. Default: float32 is float32.

    Raises
    ------
    TypeError
        If a tolerance is no number, or a workspace no int.
    ValueError
        If there is no algorithm of that name, two different ones are required, or one is both required and excluded; if a
        tolerance or workspace is negative or NaN.

    Notes
    -----
    The algorithms that `exact` leaves out compute through values larger than operands and results. Nothing overflows and
    their errors hold as long as max|input|, sum|filter| and their product are zero or in a range that depends on the layer:
    for 3x3 filters at least from 1e-26 to 7e34 in float32 and from 1e-296 to 3e304 in float64, for any layer that fits a
    CPU's memory from 1e-18 to 1e31 and from 1e-288 to 1e301. In the gradient with respect to inputs the incoming gradient
    takes the input's place, in that with respect to filters the filter's. `check` finds wrong results, and tells the range.

    Examples
    --------
    >>> import eagerconv as ec
    >>> with ec.using("direct"):
    ...     y = ec.conv1d([[[1.0, 2.0, 3.0]]], [[[1.0, 10.0]]])
    >>> y.numpy()
    array([[[12., 23.]]])
    """
    if isinstance(exclude, str):
        exclude = (exclude,)
    excluded = frozenset(map(known, exclude))
    changes: dict[str, Any] = {
        "require": _only({known(name) for name in (algorithm, require) if name is not None}, excluded),
        "exact": None if exact is None else bool(exact),
        "tolerance": None if tolerance is None else number("using: tolerance", tolerance, "[0, inf]"),
        "workspace": None if workspace is None else whole("using: workspace", workspace, 0),
        "tf32": None if tf32 is None else bool(tf32),
    }
    changes = {name: value for name, value in changes.items() if value is not None}
    return POLICY.inside(lambda outer: replace(outer, exclude=outer.exclude | excluded, **changes))


def check() -> Block:
    """Compare every convolution inside a `with` block, gradients included, with the plain float64 reference.

    Slow, for finding out whether a kernel is wrong; Theano's DebugMode.

    Raises
    ------
    CheckError
        From the convolution, if its result is farther from the reference than its algorithm's error bound allows;
        the message names the spec, the algorithm, the place and both values.

    Examples
    --------
    >>> import numpy as np, eagerconv as ec
    >>> with ec.check():
    ...     y = ec.conv1d(np.ones((1, 1, 5)), np.ones((1, 1, 3)))
    """
    return POLICY.inside(lambda outer: replace(outer, check=True))
