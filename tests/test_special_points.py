"""Every function of the tables where derivatives may be missing: at 0, at ties, where limits cross, of one element or none."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from test_rules_numpy import SAMPLES, Sample, filled, leaves, varied

from eagerconv.autograd import rules
from eagerconv.autograd.tape import no_grad
from eagerconv.func.transforms import grad
from eagerconv.tensor import Tensor, tensor

# What stands for each number of a sample: all zeros or ones (every tie there is), and few different values (some ties).
POINTS: dict[str, Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]] = {
    "zeros": np.zeros_like,
    "ones": np.ones_like,
    "steps": lambda x: np.asarray(np.arange(x.size).reshape(x.shape) % 3 - 1, x.dtype),
}
STEP = 1e-6


def numbers(out: Any) -> Iterator[Any]:
    return (part for part in leaves(out) if part.dtype.kind in "fc")


def weighed(out: Any) -> Any:
    """One real number out of all results, with positive weights that differ."""
    total: Any = 0.0
    for part in numbers(out):
        data = part.data if isinstance(part, Tensor) else part
        weights = 1 + np.arange(data.size, dtype=float).reshape(data.shape) / 7
        if data.dtype.kind == "c":
            real, imag = (rules.real(part), rules.imag(part)) if isinstance(part, Tensor) else (part.real, part.imag)
            total = total + (real * weights).sum() + (imag * weights).sum() * 0.5
        else:
            total = total + (part * weights).sum()
    return total


def slope(f: Callable[[float], float], at: float) -> float:
    """The one-sided derivative at 0 in the direction of `at`; NaN where there is none, or two step sizes disagree."""
    first, second = ((f(k * at) - f(0.0)) / (k * at) for k in (1.0, 0.25))
    return second if math.isclose(first, second, rel_tol=1e-2, abs_tol=1e-3) else math.nan


def called(function: Any, sample: Sample, xs: list[Any]) -> Any:
    args = filled(sample.args, iter(xs))
    return sample.after(function(sample.before(args[0]), *args[1:], **sample.kwargs))


REFUSED = (np.linalg.LinAlgError, ValueError, IndexError, ZeroDivisionError)
# Among equals these take one by its rank, or factors that jump, and no number alone moves them; interp needs steps between,
# and real_if_close another dtype there.
RANKED = {np.median, np.quantile, np.percentile, np.partition, np.interp, np.linalg.svdvals, np.linalg.eigvalsh}
RANKED |= {
    np.linalg.qr,
    np.linalg.svd,
    np.linalg.eigh,
    np.linalg.eig,
    np.linalg.eigvals,
    np.linalg.lstsq,
    np.linalg.pinv,
}
RANKED |= {np.real_if_close}
every_function = pytest.mark.parametrize("function", SAMPLES, ids=lambda function: function.__name__)


def ranked(function: Any, sample: Sample) -> bool:
    return function in RANKED or (
        function is np.linalg.norm and sample.args[1:] == (-2,)
    )  # the smallest singular value


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize("point", POINTS)
@every_function
def test_gradient_lies_between_the_one_sided_derivatives(function: Any, point: str) -> None:
    """Equal to both where the function has a derivative, a subgradient or a share of it at a kink."""
    for n, sample in enumerate(SAMPLES[function]):
        xs = [POINTS[point](x) for x in leaves(sample.args) if varied(x)]
        try:
            value = weighed(called(function, sample, xs))
        except REFUSED:
            continue
        if not xs or not np.isfinite(value) or ranked(function, sample):
            continue
        ts = [tensor(x, requires_grad=True) for x in xs]
        found = grad(weighed(called(rules.BY_FUNCTION[function], sample, ts)), ts, allow_unused=True)
        for k, (x, g) in enumerate(zip(xs, found, strict=True)):
            for i in np.ndindex(x.shape):
                for unit in (1, 1j)[: 1 + (x.dtype.kind == "c")]:
                    sides = [one_sided(function, sample, xs, k, i, unit, sign) for sign in (1, -1)]
                    if not np.isfinite(sides).all():
                        continue
                    ours = 0.0 if g is None else (g.data[i] * np.conj(unit)).real
                    margin = 1e-2 * max(1.0, *map(abs, sides))  # of differences, which tell a slope from its half
                    assert min(sides) - margin <= ours <= max(sides) + margin, (n, k, i, sides, ours)


def one_sided(function: Any, sample: Sample, xs: list[Any], k: int, i: Any, unit: complex, sign: int) -> float:
    def f(step: float) -> float:
        moved = [x.copy() for x in xs]
        moved[k][i] += step * unit if moved[k].dtype.kind == "c" else step
        try:
            return float(weighed(called(function, sample, moved)))
        except REFUSED:
            return math.nan

    return slope(f, sign * STEP)


SIZES: dict[str, Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]] = {
    "empty": lambda x: x[(slice(0),) * (1 + (len(set(x.shape)) == 1 < x.ndim))] if x.ndim else x,  # square stays square
    "one": lambda x: x.ravel()[:1],
    "number": lambda x: x.ravel()[:1].reshape(()) if x.size else x,
    "row": lambda x: x[:1] if x.ndim else x,
}


@pytest.mark.parametrize("size", SIZES)
@every_function
def test_arrays_of_few_numbers_have_a_gradient_where_they_have_a_value(function: Any, size: str) -> None:
    for sample in SAMPLES[function]:
        whole = sample._replace(after=lambda out: out)
        xs = [SIZES[size](x) for x in leaves(sample.args) if varied(x)]
        try:
            expected = called(function, whole, xs)
        except (*REFUSED, TypeError):
            continue
        ts = [tensor(x, requires_grad=True) for x in xs]
        out = called(function, whole, ts)
        for ours, theirs in zip(leaves(out), leaves(expected), strict=True):
            assert ours.shape == theirs.shape
            assert ours.dtype == theirs.dtype or not ours.size
            with no_grad():  # NumPy's own value of an empty axis is sometimes memory that nothing was written to
                np.testing.assert_allclose(np.asarray(ours), theirs if size != "empty" else ours)
        if not xs or not any(isinstance(part, Tensor) and part.requires_grad for part in leaves(out)):
            continue
        try:
            found = grad(weighed(out), ts, allow_unused=True)
        except NotImplementedError:  # as the message says
            continue
        for x, g in zip(xs, found, strict=True):
            assert g is None or (g.shape, g.dtype) == (x.shape, x.dtype)
