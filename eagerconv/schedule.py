"""Schedules of the learning rate: functions from the number of steps done to the rate of the next, which can be pickled."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from eagerconv.arguments import number, whole

__all__ = ["Schedule", "cosine", "exponential", "one_cycle", "step", "warm_up"]

Schedule = Callable[[int], float]


def step(lr: float, at: int | Sequence[int], factor: float = 0.1) -> Schedule:
    """Multiply the rate by `factor` every `at` steps, or at each of the given steps.

    Examples
    --------
    >>> rate = step(0.8, at=10, factor=0.5)
    >>> [rate(n) for n in (0, 9, 10, 25)]
    [0.8, 0.8, 0.4, 0.2]
    >>> rate = step(0.8, at=(5, 20), factor=0.5)
    >>> [rate(n) for n in (4, 5, 20)]
    [0.8, 0.4, 0.2]
    """
    lr, factor = number("step: lr", lr, "[0, inf)"), number("step: factor", factor, "[0, inf)")
    given: Any = at
    if isinstance(given, str) or not isinstance(given, Iterable):
        return partial(_every, lr, factor, whole("step: at", given, 1))
    return partial(_at, lr, factor, sorted(whole("step: at", place, 0) for place in given))


def _every(lr: float, factor: float, every: int, n: int) -> float:
    return float(lr * factor ** (n // every))


def _at(lr: float, factor: float, places: list[int], n: int) -> float:
    return float(lr * factor ** bisect.bisect_right(places, n))


def exponential(lr: float, steps: int, end: float) -> Schedule:
    """Fall by the same factor at every step, to `end` after `steps`, and go on.

    Examples
    --------
    >>> rate = exponential(1.0, 2, end=0.25)
    >>> [rate(n) for n in range(4)]
    [1.0, 0.5, 0.25, 0.125]
    """
    lr, end = number("exponential: lr", lr, "(0, inf)"), number("exponential: end", end, "(0, inf)")
    return partial(_exponential, lr, whole("exponential: steps", steps, 1), end)


def _exponential(lr: float, steps: int, end: float, n: int) -> float:
    return float(lr * (end / lr) ** (n / steps))


def cosine(lr: float, steps: int, end: float = 0.0) -> Schedule:
    """Fall along half a wave of the cosine to `end` after `steps`, and stay there.

    Notes
    -----
    Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017.

    Examples
    --------
    >>> rate = cosine(1.0, 10)
    >>> [round(rate(n), 6) for n in (0, 5, 10, 11)]
    [1.0, 0.5, 0.0, 0.0]
    """
    lr, end = number("cosine: lr", lr, "[0, inf)"), number("cosine: end", end, "[0, inf)")
    return partial(_cosine, lr, whole("cosine: steps", steps, 1), end)


def _cosine(lr: float, steps: int, end: float, n: int) -> float:
    return _wave(lr, end, min(n, steps) / steps)


def warm_up(schedule: float | Schedule, steps: int) -> Schedule:
    """Begin with `steps` steps on a straight line up from zero, then follow a schedule, or stay at a rate.

    Notes
    -----
    Goyal et al., "Accurate, large minibatch SGD", 2017. The schedule begins when the line has ended.

    Examples
    --------
    >>> rate = warm_up(cosine(1.0, 10), 4)
    >>> [round(rate(n), 6) for n in (0, 1, 3, 4, 9, 14)]
    [0.25, 0.5, 1.0, 1.0, 0.5, 0.0]
    """
    rate = schedule if callable(schedule) else number("warm_up: schedule", schedule, "[0, inf)")
    return partial(_warm_up, rate if callable(rate) else partial(_constant, rate), whole("warm_up: steps", steps, 1))


def _constant(lr: float, n: int) -> float:
    return lr


def _warm_up(follow: Schedule, steps: int, n: int) -> float:
    return follow(0) * (n + 1) / steps if n < steps else follow(n - steps)


def one_cycle(lr: float, steps: int, rise: float = 0.3, start: float = 1 / 25, end: float = 1e-4) -> Schedule:
    """Rise from `start * lr` to `lr`, then fall to `start * end * lr`, both along half a wave of the cosine, and stay there.

    Parameters
    ----------
    lr : float
        The highest rate.
    steps : int
        How many steps there are.
    rise : float
        The share of the steps before the highest rate.
    start, end : float
        The first rate as a share of the highest, and the last as a share of the first.

    Returns
    -------
    callable

    Notes
    -----
    Smith and Topin, "Super-convergence", 2018; PyTorch's OneCycleLR in two phases.

    Examples
    --------
    >>> rate = one_cycle(1.0, 10, rise=0.4)
    >>> [round(rate(n), 6) for n in (0, 3, 9)]
    [0.04, 1.0, 4e-06]
    """
    lr, rise = number("one_cycle: lr", lr, "[0, inf)"), number("one_cycle: rise", rise, "[0, 1]")
    start, end = number("one_cycle: start", start, "[0, inf)"), number("one_cycle: end", end, "[0, inf)")
    return partial(_one_cycle, lr, whole("one_cycle: steps", steps, 1), rise, start, end)


def _one_cycle(lr: float, steps: int, rise: float, start: float, end: float, n: int) -> float:
    n, top = min(n, steps - 1), rise * steps - 1
    if n <= top:
        return _wave(start * lr, lr, n / top if top else 1)  # a rise of one step is at the top
    return _wave(lr, start * end * lr, (n - top) / (steps - 1 - top))


def _wave(a: float, b: float, share: float) -> float:
    """From a to b along half a wave of the cosine."""
    return b + (a - b) * 0.5 * (1 + math.cos(math.pi * share))
