"""Checks of single arguments: the error names the argument, what was expected and what came."""

from __future__ import annotations

import functools
import math
import numbers
from typing import Any

import numpy as np

__all__ = ["generator", "number", "whole"]


def number(name: str, value: Any, interval: str = "(-inf, inf)") -> float:
    """The argument as a float, if it is a real number in an interval, which is given as it is to be told: "[0, inf)".

    Raises
    ------
    TypeError
        For what is no number, booleans included.
    ValueError
        For one outside of the interval; NaN is in none.

    Examples
    --------
    >>> number("cosine: lr", 0.1, "[0, inf)")
    0.1
    >>> number("cosine: lr", float("nan"), "[0, inf)")
    Traceback (most recent call last):
    ValueError: cosine: lr must be a number in [0, inf), not nan
    """
    plain = value
    if type(value) not in (int, float):
        plain = value.item() if getattr(value, "ndim", None) == 0 else value  # of NumPy, or a tensor
        if isinstance(plain, bool) or not isinstance(plain, numbers.Real):
            raise TypeError(f"{name} must be a number in {interval}, not {value!r}")
    low, high, low_too, high_too = _parsed(interval)
    try:
        found = float(plain)
    except OverflowError:
        found = math.nan
    if not ((low <= found if low_too else low < found) and (found <= high if high_too else found < high)):
        raise ValueError(f"{name} must be a number in {interval}, not {value!r}")
    return found


@functools.lru_cache(maxsize=256)
def _parsed(interval: str) -> tuple[float, float, bool, bool]:
    low, high = interval[1:-1].split(",")
    return float(low), float(high), interval[0] == "[", interval[-1] == "]"


def whole(name: str, value: Any, least: int) -> int:
    """The argument as an int, if it is one of at least so much.

    Raises
    ------
    TypeError
        For what is no int, booleans included.
    ValueError
        For one that is smaller.

    Examples
    --------
    >>> whole("minibatches: size", 0, 1)
    Traceback (most recent call last):
    ValueError: minibatches: size must be an int of at least 1, not 0
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an int of at least {least}, not {value!r}")
    if value < least:
        raise ValueError(f"{name} must be an int of at least {least}, not {value!r}")
    return int(value)


def generator(name: str, value: Any) -> np.random.Generator:
    """The argument, if it is a random generator.

    Raises
    ------
    TypeError
        For anything else, seeds and NumPy's older generators included.

    Examples
    --------
    >>> rng = generator("dropout: rng", np.random.default_rng(0))
    """
    if not isinstance(value, np.random.Generator):
        raise TypeError(f"{name} must be a numpy.random.Generator, as default_rng() makes, not {type(value).__name__}")
    return value
