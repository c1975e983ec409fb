"""The table of algorithms per device, and the choice among them: `select`, `using`, `explain`, `autotune`, `check`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from eagerconv import tuning
from eagerconv.kernels_cpu.direct import DIRECT
from eagerconv.kernels_cpu.fft import FFT
from eagerconv.kernels_cpu.gemm import GEMM
from eagerconv.kernels_cpu.local import LOCAL
from eagerconv.kernels_cpu.threads import get_num_threads
from eagerconv.kernels_cpu.widen import widened
from eagerconv.kernels_cpu.winograd import WINOGRAD, WINOGRAD_F2
from eagerconv.record import OPERANDS, SLOT_NAMES, Algorithm, Plan, Request
from eagerconv.spec import ConvSpec, Shape, Slot
from eagerconv.verify import verify

TABLE: dict[str, tuple[Algorithm, ...]] = {
    "cpu": tuple(map(widened, (GEMM, WINOGRAD, WINOGRAD_F2, FFT, LOCAL, DIRECT))),
}
"""Algorithms of each device; on equal cost the earlier one runs."""

DEVICES: dict[type, str] = {np.ndarray: "cpu"}
"""The device of each array type."""


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
"""Problems of fewer products are always summed directly: exactness costs nothing there."""


class AlgorithmError(ValueError):
    """A required algorithm can't compute what was asked; the message tells why."""


def names(device: str = "cpu") -> tuple[str, ...]:
    """Names of the algorithms of a device."""
    return tuple(algorithm.name for algorithm in TABLE[device])


# --------------------------------------------------------------------------------------------------------------- policy


class Observer:
    """Collects the explanation of each different contraction made under a policy."""

    def __init__(self) -> None:
        self.rows: list[Explanation] = []


@dataclass(frozen=True, slots=True)
class Policy:
    """What the user asked of the choice: see `using`."""

    require: str | None = None
    exclude: frozenset[str] = frozenset()
    exact: bool = False
    tolerance: float | None = None
    workspace: int | None = None
    observer: Observer | None = None
    tuner: tuning.Tuner | None = None
    check: bool = False

    def reason_against(self, algorithm: Algorithm, request: Request) -> str | None:
        """Why the user's wishes rule this algorithm out, or None."""
        if self.require is not None and algorithm.name != self.require:
            return f"{self.require!r} is required"
        if algorithm.name in self.exclude:
            return "is excluded"
        if algorithm.error is not None and self.require is None:
            if self.exact:
                return "does not sum directly, and exact=True was asked for"
            if request.spec.macs < SMALL:
                return "is not for small problems, which are summed directly"
            tolerance = TOLERANCE.get(request.dtype.name, 0.0) if self.tolerance is None else self.tolerance
            if (error := algorithm.error(request)) > tolerance:
                return f"may be wrong by {error:.1e} of the largest result, more than the {tolerance:.1e} allowed"
        if self.workspace is not None and (needed := algorithm.workspace(request)) > self.workspace:
            return f"needs {needed:,} bytes of workspace, more than the {self.workspace:,} allowed"
        return None


def _known(name: str) -> str:
    if not any(name == algorithm.name for table in TABLE.values() for algorithm in table):
        raise ValueError(f"there is no algorithm {name!r}; there are {', '.join(map(repr, names()))}")
    return name


def _from_environment(text: str) -> Policy:
    """EAGERCONV_ALGORITHMS: "gemm" or "+gemm" requires, "-gemm" excludes, separated by commas."""
    policy = Policy()
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name = _known(entry.lstrip("+-"))
        policy = replace(policy, exclude=policy.exclude | {name}) if entry[0] == "-" else replace(policy, require=name)
    return policy


_everywhere = _from_environment(os.environ.get("EAGERCONV_ALGORITHMS", ""))
_policy: ContextVar[Policy] = ContextVar("policy", default=_everywhere)


@contextmanager
def using(
    algorithm: str | None = None,
    *,
    require: str | None = None,
    exclude: Iterable[str] = (),
    exact: bool | None = None,
    tolerance: float | None = None,
    workspace: int | None = None,
) -> Iterator[None]:
    """Steer the choice of algorithms inside a `with` block, in this thread; inner blocks add to outer ones.

    Parameters
    ----------
    algorithm, require : str, optional
        The one algorithm to use: "direct" or "gemm". A convolution it can't compute raises.
    exclude : iterable of str, optional
        Algorithms not to use.
    exact : bool, optional
        Only algorithms that sum products of the operands themselves: small integers then give exact results.
    tolerance : float, optional
        The largest error allowed, relative to max|input| * sum|filter|: by default 3e-5 for float32, 1e-12 for float64.
        A required algorithm is used whatever its error.
    workspace : int, optional
        The most scratch memory a convolution may use, in bytes, all threads together.

    Raises
    ------
    ValueError
        If there is no algorithm of that name.

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
    policy = _policy.get()
    if (chosen := algorithm or require) is not None:
        policy = replace(policy, require=_known(chosen))
    policy = replace(policy, exclude=policy.exclude | {_known(name) for name in exclude})
    if exact is not None:
        policy = replace(policy, exact=bool(exact))
    if tolerance is not None:
        policy = replace(policy, tolerance=float(tolerance))
    if workspace is not None:
        policy = replace(policy, workspace=int(workspace))
    token = _policy.set(policy)
    try:
        yield
    finally:
        _policy.reset(token)


class autotune:
    """Measure instead of estimating: inside a `with` block, time the candidates of every new contraction once.

    The winners are remembered, and `auto` uses them from then on, in every thread, also behind the block. A choice
    never changes what a forced algorithm or an error tolerance asks for: only accepted candidates are timed.

    Parameters
    ----------
    verbose : bool
        Print the timings of each contraction, and show a progress bar where tqdm is installed.
    seconds : float
        The most time to spend on each candidate; one that is estimated to need more for a single call is left out.

    Examples
    --------
    >>> import numpy as np, eagerconv as ec
    >>> x, w = np.ones((2, 8, 16, 16)), np.ones((8, 8, 3, 3))
    >>> with ec.autotune(seconds=0.01) as tuner:
    ...     y = ec.conv2d(x, w)
    >>> for request, timings in tuner.timings.items():
    ...     print(sorted(timings))  # doctest: +ELLIPSIS
    ['direct', ...'gemm'...]
    >>> ec.autotune.clear()
    """

    def __init__(self, verbose: bool = False, seconds: float = 0.5) -> None:
        self._tuner = tuning.Tuner(float(seconds), bool(verbose))
        self._tokens: list[Token[Policy]] = []

    def __enter__(self) -> tuning.Tuner:
        self._tokens.append(_policy.set(replace(_policy.get(), tuner=self._tuner)))
        return self._tuner

    def __exit__(self, *error: object) -> None:
        _policy.reset(self._tokens.pop())
        self._tuner.close()
        _planned.cache_clear()  # plans made by estimate give way to the winners

    @staticmethod
    def save(path: str | Path) -> None:
        """Write the measured choices to a JSON file."""
        tuning.save(path)

    @staticmethod
    def load(path: str | Path) -> int:
        """Add the choices of a saved file, if it comes from a processor like this one, and tell how many there were.

        Raises
        ------
        ValueError
            If the file is not one that `save` wrote.
        """
        found = tuning.load(path, names())
        _planned.cache_clear()
        return found

    @staticmethod
    def clear() -> None:
        """Forget the measured choices."""
        tuning.winners.clear()
        _planned.cache_clear()


@contextmanager
def check() -> Iterator[None]:
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
    token = _policy.set(replace(_policy.get(), check=True))
    try:
        yield
    finally:
        _policy.reset(token)


# --------------------------------------------------------------------------------------------------------------- choice


@dataclass(frozen=True, slots=True)
class Candidate:
    """One row of `explain`: an algorithm, why it was refused (None: accepted), its workspace in bytes and estimated time.

    The last two are None where the algorithm can't compute what was asked.
    """

    name: str
    refused: str | None
    workspace: int | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Who computes a contraction and why the others don't; `print` it."""

    spec: ConvSpec
    slot: Slot
    dtype: str
    chosen: str | None
    candidates: tuple[Candidate, ...]

    def __str__(self) -> str:
        lines = [f"{SLOT_NAMES[self.slot]} of {self.spec}, {self.dtype}"]
        for c in self.candidates:
            facts = [f"{'->' if c.name == self.chosen else '  '} {c.name:11}"]
            if c.workspace is not None and c.seconds is not None:
                facts.append(f"{c.workspace / 1024:10.1f} KiB workspace {c.seconds * 1e6:12.1f} us estimated")
            if c.refused:
                facts.append(f"no: {c.refused}")
            lines.append("  ".join(facts))
        return "\n".join(lines)

    __repr__ = __str__


class Explanations(tuple[Explanation, ...]):
    """The explanations of all contractions of a call, in order; `print` it."""

    def __str__(self) -> str:
        return "\n".join(map(str, self)) or "no convolution was computed"

    __repr__ = __str__


def explain(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Explanations:
    """Call a function and tell, for each different contraction it made, who computed it and why the others didn't.

    Parameters
    ----------
    function : callable
        A convolution function, or anything that calls some; include `backward` to see the gradients' contractions.
    *args, **kwargs
        Passed to the function. Its result is dropped.

    Returns
    -------
    Explanations
        A tuple with one `Explanation` per contraction: spec, slot, dtype, chosen, candidates. Its text is a table.

    Examples
    --------
    >>> import numpy as np, eagerconv as ec
    >>> print(ec.explain(ec.conv2d, np.ones((8, 64, 56, 56)), np.ones((64, 64, 3, 3))))  # doctest: +ELLIPSIS
    forward of (8 x 64 x 56 x 56) * (64 x 64 x 3 x 3) -> (8 x 64 x 54 x 54), ..., float64
       gemm     ... KiB workspace ... us estimated
    ...
       direct   ... KiB workspace ... us estimated
    """
    observer = Observer()
    token = _policy.set(replace(_policy.get(), observer=observer))
    try:
        function(*args, **kwargs)
    except AlgorithmError:
        if not observer.rows:
            raise
    finally:
        _policy.reset(token)
    return Explanations(observer.rows)


def reasons_against(request: Request, policy: Policy, device: str) -> dict[Algorithm, str | None]:
    """Every algorithm of the device with the reason against it, or None."""
    return {a: a.reason_against(request) or policy.reason_against(a, request) for a in TABLE[device]}


def accepted(request: Request, policy: Policy, device: str) -> list[Algorithm]:
    """The algorithms without a reason against them."""
    return [a for a, reason in reasons_against(request, policy, device).items() if reason is None]


def select(request: Request, policy: Policy, device: str = "cpu") -> Algorithm:
    """The algorithm that was measured to be fastest, or else the cheapest, of those that have no reason against them."""
    reasons = reasons_against(request, policy, device)
    willing = [a for a, reason in reasons.items() if reason is None]
    measured = tuning.winners.get(tuning.key(request)) if tuning.winners else None
    chosen = min(willing, key=lambda a: (a.name != measured, a.cost(request))) if willing else None
    if policy.observer is not None:
        rows = []
        for a, reason in reasons.items():
            able = a.reason_against(request) is None
            rows.append(Candidate(a.name, reason, *((a.workspace(request), a.cost(request)) if able else (None, None))))
        name = chosen.name if chosen else None
        policy.observer.rows.append(Explanation(request.spec, request.slot, request.dtype.name, name, tuple(rows)))
    if chosen is None:
        told = "; ".join(f"{a.name} {reason}" for a, reason in reasons.items() if policy.require in (None, a.name))
        raise AlgorithmError(f"no algorithm for the {SLOT_NAMES[request.slot]} of {request.spec}: {told}")
    return chosen


@lru_cache(maxsize=1024)
def _planned(
    spec: ConvSpec, slot: Slot, dtype: np.dtype[Any], a: Shape, b: Shape, policy: Policy, threads: int, device: str
) -> Plan:
    """The plan for operands with strides `a`, `b` in bytes."""
    size = dtype.itemsize
    if any(stride % size for stride in (*a, *b)):  # fields of a structured array: elements do not count whole steps
        return lambda a, b: run(spec, slot, np.ascontiguousarray(a), np.ascontiguousarray(b), policy)
    strides = (tuple(s // size for s in a), tuple(s // size for s in b))
    request = Request(spec, slot, dtype, strides, threads)
    algorithm = select(request, policy, device)
    if policy.tuner is not None and tuning.key(request) not in tuning.winners:
        return policy.tuner.plan(request, accepted(request, policy, device))
    plan = algorithm.plan(request)
    if not policy.check:
        return plan

    def checked(a: Any, b: Any) -> Any:
        result = plan(a, b)
        verify(algorithm, request, a, b, result)
        return result

    return checked


def run(spec: ConvSpec, slot: Slot, a: Any, b: Any, policy: Policy | None = None) -> Any:
    """Solve the trilinear form of `spec` for `slot`, given the arrays of the other two slots (see `record.OPERANDS`)."""
    expected = tuple(map(spec.shape, OPERANDS[slot]))
    if (a.shape, b.shape) != expected or a.dtype != b.dtype:
        raise ValueError(
            f"operands {a.shape} {a.dtype} and {b.shape} {b.dtype} do not fit {spec}, which needs {expected}"
        )
    if not (a.flags.aligned and a.dtype.isnative):
        a = a.astype(a.dtype.newbyteorder("="))
    if not (b.flags.aligned and b.dtype.isnative):
        b = b.astype(b.dtype.newbyteorder("="))
    if not a.size or not b.size:
        return np.zeros(spec.shape(slot), a.dtype)  # sums of nothing
    policy = policy or _policy.get()
    return _planned(spec, slot, a.dtype, a.strides, b.strides, policy, get_num_threads(), DEVICES[type(a)])(a, b)


def with_algorithm(algorithm: str) -> Policy:
    """The policy in force, with one call's `algorithm=` argument on top ("auto" adds nothing)."""
    return _policy.get() if algorithm == "auto" else replace(_policy.get(), require=_known(algorithm))
