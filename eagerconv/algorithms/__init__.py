"""The choice among algorithms, estimated or measured, and the one way to run a contraction: `run`, `explain`, `autotune`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from eagerconv import devices
from eagerconv.algorithms import tuning
from eagerconv.algorithms.policy import POLICY, Observer, Policy, current
from eagerconv.algorithms.registry import TABLE, names, table
from eagerconv.algorithms.verify import verify
from eagerconv.arguments import number
from eagerconv.kernels_cpu.threads import get_num_threads
from eagerconv.record import OPERANDS, SLOT_NAMES, Algorithm, FinishingPlan, Plan, Request, Unavailable
from eagerconv.spec import ConvSpec, Shape, Slot

__all__ = ["TABLE", "AlgorithmError", "Explanation", "Explanations", "autotune", "explain", "names", "run", "select"]


class AlgorithmError(ValueError):
    """A required algorithm can't compute what was asked; the message tells why."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One row of `explain`: an algorithm, why it was refused (None: accepted), its workspace in bytes and estimated time.

    The last two are None where the algorithm can't compute what was asked. The time is the one by which is chosen: of 8
    images, contiguous in memory, on two threads, whatever the call's (the gradient with respect to weights sums over the
    batch, and is estimated for it). So the choice, and with it the last bits, depends on the filter and one image alone.
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
    with POLICY.inside(lambda outer: replace(outer, observer=observer)):
        try:
            function(*args, **kwargs)
        except AlgorithmError:
            if not observer.rows:
                raise
    return Explanations(observer.rows)


def reasons_against(request: Request, policy: Policy) -> dict[Algorithm, str | None]:
    """Every algorithm of the request's device with the reason against it, or None."""
    typical = request.typical
    return {a: a.reason_against(typical) or policy.reason_against(a, request) for a in table(request.device)}


def accepted(request: Request, policy: Policy) -> list[Algorithm]:
    """The algorithms without a reason against them."""
    return [a for a, reason in reasons_against(request, policy).items() if reason is None]


def select(request: Request, policy: Policy) -> Algorithm:
    """The algorithm that was measured to be fastest, or else the cheapest, of those that have no reason against them.

    The choice is made for the typical request, so that the bits of a result depend on nothing that should not matter.
    """
    reasons, typical = reasons_against(request, policy), request.typical
    willing = [a for a, reason in reasons.items() if reason is None]
    measured = tuning.winners.get(tuning.key(request)) if tuning.winners else None
    chosen = min(willing, key=lambda a: (a.name != measured, a.cost(typical))) if willing else None
    if policy.observer is not None:
        rows = []
        for a, reason in reasons.items():
            able = a.reason_against(typical) is None
            rows.append(Candidate(a.name, reason, *((a.workspace(request), a.cost(typical)) if able else (None, None))))
        name = chosen.name if chosen else None
        policy.observer.rows.append(Explanation(request.spec, request.slot, request.dtype.name, name, tuple(rows)))
    if chosen is None:
        told = "; ".join(f"{a.name} {reason}" for a, reason in reasons.items() if policy.require in (None, a.name))
        told = told or f"this machine has no {policy.require}, only {', '.join(names(request.device))}"
        raise AlgorithmError(f"no algorithm for the {SLOT_NAMES[request.slot]} of {request.spec}: {told}")
    return chosen


def _request(
    spec: ConvSpec, slot: Slot, dtype: np.dtype[Any], a: Shape, b: Shape, policy: Policy, threads: int, device: str
) -> Request:
    """What is asked of algorithms, for operands with strides `a` and `b` in bytes."""
    strides = (tuple(s // dtype.itemsize for s in a), tuple(s // dtype.itemsize for s in b))
    return Request(spec, slot, dtype, strides, threads, device, policy.tf32, policy.workspace, policy.tuner is not None)


@lru_cache(maxsize=1024)
def _planned(
    spec: ConvSpec, slot: Slot, dtype: np.dtype[Any], other: np.dtype[Any], a_shape: Shape, a: Shape, b_shape: Shape, b: Shape,
    policy: Policy, threads: int, device: str,
) -> Plan:  # fmt: skip
    """The plan for operands of these dtypes, shapes and strides (in bytes), which are checked here, once."""
    expected = tuple(map(spec.shape, OPERANDS[slot]))
    if (a_shape, b_shape) != expected or dtype != other:
        raise ValueError(f"operands {a_shape} {dtype} and {b_shape} {other} do not fit {spec}, which needs {expected}")
    native, size = dtype.newbyteorder("="), dtype.itemsize
    result = spec.shape(slot)
    if 0 in (*a_shape, *b_shape, *result):  # sums of nothing, or no sums
        return lambda a, b: np.zeros_like(a, native, shape=result, order="C")
    met = spec.met
    if policy.require is None and met != tuple(map(range, spec.kernel)):  # who is required gets what was asked
        return _trimmed(spec, met, slot, dtype, a_shape, a, b_shape, b, policy, threads, device)
    if device == "cpu" and not dtype.isnative:
        return lambda a, b: run(spec, slot, a.astype(native), b.astype(native), policy)
    if any(stride % size for stride in (*a, *b)):  # fields of a structured array: elements do not count whole steps
        return lambda a, b: run(spec, slot, np.ascontiguousarray(a), np.ascontiguousarray(b), policy)
    request = _request(spec, slot, dtype, a, b, policy, threads, device)
    algorithm = select(request, policy)
    if policy.tuner is not None and tuning.key(request) not in tuning.winners:
        return policy.tuner.plan(request, accepted(request, policy))
    plan = algorithm.plan(request)
    if device != "cpu" and policy.require is None:
        plan = _or_another(plan, [a for a in accepted(request, policy) if a is not algorithm], request)
    if not policy.check:
        return plan

    def checked(a: Any, b: Any) -> Any:
        result = plan(a, b)
        verify(algorithm, request, a, b, result)
        return result

    return checked


def _trimmed(
    spec: ConvSpec, met: tuple[range, ...], slot: Slot, dtype: np.dtype[Any], a_shape: Shape, a: Shape, b_shape: Shape,
    b: Shape, policy: Policy, threads: int, device: str,
) -> Plan:  # fmt: skip
    """The plan without the taps that see padding alone: no sum has a term of theirs, and their gradient is zero."""
    small, shape = spec.taps(met), spec.shape(slot)
    taps: Any = (..., *(slice(some.start, some.stop) for some in met))
    if slot != "w":
        b_shape = small.shape("w")
    plan = _planned(small, slot, dtype, dtype, a_shape, a, b_shape, b, policy, threads, device)
    if slot != "w":
        return lambda a, b: plan(a, b[taps])

    def filters(a: Any, b: Any) -> Any:
        gradient = plan(a, b)
        result = np.zeros_like(gradient, shape=shape, order="C")
        result[taps] = gradient
        return result

    return filters


def _or_another(plan: Plan, others: list[Algorithm], request: Request) -> Plan:
    """A plan that turns to the next algorithms in cost where a GPU has no room for this one's memory, or its library fails."""
    others.sort(key=lambda a: a.cost(request.typical))
    made: dict[Algorithm, Plan] = {}

    def run(a: Any, b: Any) -> Any:
        try:
            return plan(a, b)
        except (MemoryError, Unavailable) as error:
            first = error
        for other in others:
            try:
                if other not in made:
                    made[other] = other.plan(request)
                return made[other](a, b)
            except (MemoryError, Unavailable):
                continue
        raise first

    return run


@lru_cache(maxsize=1024)
def _finishing(
    spec: ConvSpec, dtype: np.dtype[Any], a: Shape, b: Shape, policy: Policy, device: str, rectify: bool
) -> FinishingPlan | None:
    """The plan of a forward pass with its epilogue, of the algorithm that would be chosen without, if it has one."""
    request = _request(spec, "y", dtype, a, b, policy, 1, device)
    algorithm = select(request, policy)
    return None if algorithm.finishing is None else algorithm.finishing(request, rectify)


def forget_plans() -> None:
    """Plan and choose anew from now on."""
    _planned.cache_clear()
    _finishing.cache_clear()


def run(spec: ConvSpec, slot: Slot, a: Any, b: Any, policy: Policy | None = None) -> Any:
    """Solve the trilinear form of `spec` for `slot`, given the arrays of the other two slots (see `record.OPERANDS`)."""
    device = "cpu"
    if not (type(a) is type(b) is np.ndarray):
        device = _device(a, b)
    elif not (a.flags.aligned and b.flags.aligned):
        a, b = (x if x.flags.aligned else x.copy() for x in (a, b))
    return _planned(
        spec, slot, a.dtype, b.dtype, a.shape, a.strides, b.shape, b.strides, policy or current(), get_num_threads(), device
    )(a, b)  # fmt: skip


def _device(a: Any, b: Any) -> str:
    """Where two arrays are."""
    device, other = devices.of(a), devices.of(b)
    if device is None or other != device:
        names = " and ".join(sorted(map(str, (device, other))))
        raise TypeError(f"convolution: operands on {names}; move one, as in x.to('cpu')")
    return device


def fused(
    spec: ConvSpec, slot: Slot, a: Any, b: Any, bias: Any, rectify: bool, policy: Policy | None = None
) -> Any | None:
    """The same with a bias of one number per channel added, and perhaps rectified, in one go: None where nobody does that."""
    device, policy = _device(a, b), policy or current()
    if device == "cpu" or slot != "y" or not (a.size and b.size) or policy.check or policy.tuner is not None:
        return None
    silent = policy if policy.observer is None else replace(policy, observer=None)
    plan = _finishing(spec, a.dtype, a.strides, b.strides, silent, device, rectify)
    if plan is not None and silent is not policy:
        select(_request(spec, slot, a.dtype, a.strides, b.strides, policy, 1, device), policy)  # to be seen
    try:
        return None if plan is None else plan(a, b, bias)
    except (MemoryError, Unavailable):  # an engine for the convolution alone, or another algorithm, may need less
        return None


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
        self._tuner = tuning.Tuner(number("autotune: seconds", seconds, "[0, inf]"), bool(verbose))

    def __enter__(self) -> tuning.Tuner:
        POLICY.enter(self, lambda outer: replace(outer, tuner=self._tuner))
        return self._tuner

    def __exit__(self, *error: object) -> None:
        POLICY.leave(self)
        self._tuner.close()
        forget_plans()  # those made by estimate give way to the winners

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
        forget_plans()
        return found

    @staticmethod
    def clear() -> None:
        """Forget the measured choices."""
        tuning.winners.clear()
        forget_plans()
