"""The choice among algorithms, estimated or measured, and the one way to run a contraction: `run`, `explain`, `autotune`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from eagerconv import devices, tuning
from eagerconv.arguments import number
from eagerconv.kernels_cpu.threads import get_num_threads
from eagerconv.policy import POLICY, Observer, Policy, current
from eagerconv.record import OPERANDS, SLOT_NAMES, Algorithm, Epilogue, FinishingPlan, Plan, Request
from eagerconv.registry import TABLE, names, table
from eagerconv.spec import ConvSpec, Shape, Slot
from eagerconv.verify import verify

__all__ = ["TABLE", "AlgorithmError", "Explanation", "Explanations", "autotune", "explain", "names", "run", "select"]


class AlgorithmError(ValueError):
    """A required algorithm can't compute what was asked; the message tells why."""


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
    with POLICY.inside(lambda outer: replace(outer, observer=observer)):
        try:
            function(*args, **kwargs)
        except AlgorithmError:
            if not observer.rows:
                raise
    return Explanations(observer.rows)


def reasons_against(request: Request, policy: Policy) -> dict[Algorithm, str | None]:
    """Every algorithm of the request's device with the reason against it, or None."""
    return {a: a.reason_against(request) or policy.reason_against(a, request) for a in table(request.device)}


def accepted(request: Request, policy: Policy) -> list[Algorithm]:
    """The algorithms without a reason against them."""
    return [a for a, reason in reasons_against(request, policy).items() if reason is None]


def select(request: Request, policy: Policy) -> Algorithm:
    """The algorithm that was measured to be fastest, or else the cheapest, of those that have no reason against them."""
    reasons = reasons_against(request, policy)
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
        told = told or f"this machine has no {policy.require}, only {', '.join(names(request.device))}"
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
    request = Request(
        spec, slot, dtype, strides, threads, device, policy.tf32, policy.workspace, policy.tuner is not None
    )
    algorithm = select(request, policy)
    if policy.tuner is not None and tuning.key(request) not in tuning.winners:
        return policy.tuner.plan(request, accepted(request, policy))
    plan = algorithm.plan(request)
    if not policy.check:
        return plan

    def checked(a: Any, b: Any) -> Any:
        result = plan(a, b)
        verify(algorithm, request, a, b, result)
        return result

    return checked


@lru_cache(maxsize=1024)
def _finishing(
    spec: ConvSpec, dtype: np.dtype[Any], a: Shape, b: Shape, policy: Policy, device: str, rectify: bool
) -> FinishingPlan | None:
    """The plan of a forward pass with its epilogue, of the algorithm that would be chosen without, if it has one."""
    strides = (tuple(s // dtype.itemsize for s in a), tuple(s // dtype.itemsize for s in b))
    request = Request(spec, "y", dtype, strides, 1, device, policy.tf32, policy.workspace)
    algorithm = select(request, policy)
    return None if algorithm.finishing is None else algorithm.finishing(request, rectify)


def forget_plans() -> None:
    """Plan and choose anew from now on."""
    _planned.cache_clear()
    _finishing.cache_clear()


def run(
    spec: ConvSpec, slot: Slot, a: Any, b: Any, policy: Policy | None = None, epilogue: Epilogue | None = None
) -> Any:
    """Solve the trilinear form of `spec` for `slot`, given the arrays of the other two slots (see `record.OPERANDS`).

    An `epilogue` is a wish: if it was met, the result holds it.
    """
    expected = tuple(map(spec.shape, OPERANDS[slot]))
    if (a.shape, b.shape) != expected or a.dtype != b.dtype:
        raise ValueError(
            f"operands {a.shape} {a.dtype} and {b.shape} {b.dtype} do not fit {spec}, which needs {expected}"
        )
    device = devices.of(a)
    if device is None or devices.of(b) != device:
        raise TypeError(
            f"operands on different devices: {devices.of(a)} and {devices.of(b)}; move one, as in x.to(device)"
        )
    if device == "cpu":
        if not (a.flags.aligned and a.dtype.isnative):
            a = a.astype(a.dtype.newbyteorder("="))
        if not (b.flags.aligned and b.dtype.isnative):
            b = b.astype(b.dtype.newbyteorder("="))
    if not a.size or not b.size:
        return np.zeros_like(a, shape=spec.shape(slot), order="C")  # sums of nothing
    policy = policy or current()
    if epilogue is not None and device != "cpu" and slot == "y" and not policy.check and policy.tuner is None:
        silent = replace(policy, observer=None)
        finishing = _finishing(spec, a.dtype, a.strides, b.strides, silent, device, epilogue.rectify)
        if finishing is not None:
            if policy.observer is not None:
                _planned(spec, slot, a.dtype, a.strides, b.strides, policy, get_num_threads(), device)
            epilogue.met = True
            return finishing(a, b, epilogue.bias)
    return _planned(spec, slot, a.dtype, a.strides, b.strides, policy, get_num_threads(), device)(a, b)


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
