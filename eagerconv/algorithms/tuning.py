"""Measured choices: times the candidates of a contraction once, and remembers who won."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from eagerconv.record import SLOT_NAMES, Algorithm, Plan, Request

winners: dict[str, str] = {}
"""The name of the fastest algorithm by request (`key`)."""


def key(request: Request) -> str:
    """A request as text: everything that the choice may depend on, and that a saved choice must agree with."""
    request = request.typical
    text = f"{request.slot} of {request.spec}, {request.dtype.name}, strides {request.strides}"
    return text if request.device == "cpu" else f"{text}, {request.device}{', tf32' if request.tf32 else ''}"


def save(path: str | Path) -> None:
    """Write all measured choices to a JSON file."""
    from eagerconv.kernels_cpu.targets import host

    Path(path).write_text(json.dumps({"host": list(host()), "winners": winners}, indent=1) + "\n")


def load(path: str | Path, known: Sequence[str]) -> int:
    """Add the choices of a file made by `save`, if it was made on a processor like this one; how many there are."""
    from eagerconv.kernels_cpu.targets import host

    try:
        stored = json.loads(Path(path).read_text())
        found = {str(k): str(v) for k, v in stored["winners"].items()}
        measured_on = tuple(stored["host"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is not a file that autotune.save wrote: {error!r}") from None
    if unknown := sorted(set(found.values()) - set(known)):
        raise ValueError(
            f"{path} names algorithms that do not exist: {', '.join(unknown)}; there are {', '.join(known)}"
        )
    if measured_on != host():
        return 0
    winners.update(found)
    return len(found)


class Tuner:
    """Times the accepted candidates of each new contraction, within `seconds` for each of them."""

    def __init__(self, seconds: float, verbose: bool) -> None:
        self.seconds, self.verbose = seconds, verbose
        self.timings: dict[str, dict[str, float | None]] = {}
        self._bar: Any = None

    def plan(self, request: Request, candidates: Sequence[Algorithm]) -> Plan:
        """A plan that measures when it first sees operands, and is the winner's from then on."""
        chosen: list[Plan] = []

        def run(a: Any, b: Any) -> Any:
            if not chosen:
                chosen.append(self._fastest(request, candidates, a, b))
            return chosen[0](a, b)

        return run

    def _fastest(self, request: Request, candidates: Sequence[Algorithm], a: Any, b: Any) -> Plan:
        """Cheapest first, so that those expected to take more than the time allowed can be left out."""
        best: tuple[float, str, Plan] | None = None
        timings: dict[str, float | None] = {}
        finish = finisher(request.device)
        for algorithm in sorted(candidates, key=lambda candidate: candidate.cost(request)):
            if best is not None and algorithm.cost(request) > self.seconds:
                timings[algorithm.name] = None
                continue
            self._progress(request, algorithm)
            plan = algorithm.plan(request)
            plan(a, b)  # compiles, and fills the caches
            finish()
            timings[algorithm.name] = seconds = _measure(lambda plan=plan: (plan(a, b), finish()), self.seconds)  # type: ignore[misc]
            if best is None or seconds < best[0]:
                best = (seconds, algorithm.name, plan)
        assert best is not None
        self.timings[key(request)] = timings
        winners[key(request)] = best[1]
        self._tell(request, timings, best[1])
        return best[2]

    def _progress(self, request: Request, algorithm: Algorithm) -> None:
        """Move the progress bar, if tqdm is there to draw one."""
        if not self.verbose:
            return
        if self._bar is None:
            try:
                from tqdm.auto import tqdm
            except ImportError:
                return
            self._bar = tqdm(desc="timing", unit=" candidates", leave=False, file=sys.stderr)
        self._bar.set_postfix_str(f"{algorithm.name}, {SLOT_NAMES[request.slot]}")
        self._bar.update()

    def _tell(self, request: Request, timings: dict[str, float | None], winner: str) -> None:
        if self.verbose:
            rows = [f"{SLOT_NAMES[request.slot]} of {request.spec}, {request.dtype.name}"]
            for name, seconds in timings.items():
                figure = "left out: too slow by estimate" if seconds is None else f"{seconds * 1e6:12.1f} us"
                rows.append(f"{'->' if name == winner else '  '} {name:11} {figure}")
            print("\n".join(rows))

    def close(self) -> None:
        """Take the progress bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def finisher(device: str) -> Callable[[], object]:
    """What waits until a device has done all that it was asked."""
    if device == "cpu":
        return lambda: None
    from eagerconv.kernels_gpu.cuda import runtime

    return runtime().synchronize


def _measure(call: Callable[[], Any], budget: float) -> float:
    """Least time of up to seven calls within the budget: noise only ever adds."""
    best, end = float("inf"), time.perf_counter() + budget
    for _ in range(7):
        start = time.perf_counter()
        call()
        now = time.perf_counter()
        best = min(best, now - start)
        if now > end:
            break
    return best
