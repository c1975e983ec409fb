"""16-bit floats: what is summed is summed in float32 and rounded once, and plain numbers keep the dtype."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import eagerconv as ec
from eagerconv.func.transforms import grad
from eagerconv.tensor import tensor

DTYPES = [np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)]
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
rng = np.random.default_rng(0)

# Sums of a thousand numbers and more: added up in 16 bits they stop growing, or lose most of their digits.
SUMS: dict[str, Callable[[Any], Any]] = {
    "sum": lambda x: x.sum(),
    "sum of columns": lambda x: np.sum(x, axis=0),
    "sum of a mask": lambda x: np.sum(x, where=np.arange(3) != 1),
    "mean": lambda x: x.mean(axis=0),
    "var": lambda x: np.var(x, axis=0),
    "std": lambda x: x.std(ddof=1),
    "spread about a number": lambda x: np.std(x, mean=np.zeros((1, 1), x.dtype)),
    "prod": lambda x: np.prod(x[:12], axis=0),
    "cumsum": lambda x: np.cumsum(x[:200], axis=0),
    "cumprod": lambda x: np.cumprod(x[:12], axis=0),
    "cumulative_sum": lambda x: ec.cumulative_sum(x[:200], axis=0, include_initial=True),
    "nansum": lambda x: np.nansum(x),
    "nanmean": lambda x: np.nanmean(x, 0),
    "average": lambda x: np.average(x, axis=0),
    "logsumexp": lambda x: ec.logsumexp(x, axis=0),
    "trace": lambda x: np.trace(np.tile(x, (1, 700))),
    "trapezoid": lambda x: np.trapezoid(x, axis=0),
    "norm": lambda x: np.linalg.norm(x),
    "norm of columns": lambda x: np.linalg.norm(x, 3, axis=0),
    "matmul": lambda x: x.T @ x,
    "dot": lambda x: np.dot(x[:, 0], x[:, 1]),
    "vecdot": lambda x: np.vecdot(x[:, 0], x[:, 1]),
    "tensordot": lambda x: np.tensordot(x, x, axes=((0,), (0,))),
    "einsum": lambda x: np.einsum("ij,ik->k", x, x),
    "convolve": lambda x: np.convolve(x[:, 0], x[:, 1], mode="valid"),
    "broadcast": lambda x: x + x[:1],
}


@every_dtype
@pytest.mark.parametrize("name", SUMS)
def test_sums_are_rounded_once(name: str, dtype: np.dtype[Any]) -> None:
    """Values and gradients against float64, from the same numbers."""
    x = rng.uniform(0.25, 1.25, (2000, 3)).astype(dtype)
    narrow, exact = tensor(x, requires_grad=True), tensor(x.astype(np.float64), requires_grad=True)
    ours, theirs = SUMS[name](narrow), SUMS[name](exact)
    assert ours.dtype == dtype
    eps = float(ml_dtypes.finfo(dtype).eps)
    np.testing.assert_allclose(ours.data.astype(np.float64), theirs.data, rtol=2 * eps)
    (g,), (exact_g,) = grad(ours.sum(), [narrow]), grad(theirs.sum(), [exact])
    assert g.dtype == dtype
    # Three roundings at most are on the way of a cotangent, and one that cancels loses them of the largest.
    np.testing.assert_allclose(
        g.data.astype(np.float64), exact_g.data, rtol=4 * eps, atol=4 * eps * abs(exact_g.data).max()
    )


@every_dtype
def test_means_over_more_elements_than_the_dtype_can_count(dtype: np.dtype[Any]) -> None:
    x = tensor(np.ones(70000), dtype, requires_grad=True)
    every = np.ones(70000, bool)
    for function in (np.mean, np.max, np.nanmean, np.average, lambda x: np.mean(x, where=every)):
        assert function(x).item() == 1
        np.testing.assert_allclose(grad(function(x), x)[0].data.astype(float), 1 / 70000, rtol=0.005)
    assert np.std(x * 300).item() == np.nanvar(x * 300).item() == np.std(x * 300, where=every).item() == 0


@every_dtype
def test_gradients_of_biases_count_every_pixel(dtype: np.dtype[Any]) -> None:
    x, w, b = (tensor(np.ones(shape), dtype, requires_grad=True) for shape in ((2, 1, 60, 60), (1, 1, 1, 1), (1,)))
    assert grad(ec.conv2d(x, w, bias=b).sum(), b)[0].item() == 7200


NUMBERS: list[Callable[[Any], Any]] = [
    lambda t: t * 2.0, lambda t: 2.0 / t, lambda t: t**2, lambda t: t**0.5, lambda t: 2.0**t, lambda t: t - 1,
    lambda t: t // 2.0, lambda t: t % 2.0, lambda t: np.maximum(t, 0.5), lambda t: ec.minimum(0.5, t),
    lambda t: np.where(t > 0, t, 0.0), lambda t: np.where(t > 0, 1.0, t), lambda t: ec.clip(t, 0, 0.5),
    lambda t: t.clip(0.0, None), lambda t: np.hypot(t, 1.0), lambda t: np.logaddexp(t, 0.0),
    lambda t: np.arctan2(1.0, t), lambda t: np.sum(t, initial=1.0), lambda t: np.max(t, initial=0.5),
    lambda t: np.select([t > 2], [t], 2.0), lambda t: np.heaviside(t, 0.5), lambda t: np.copysign(t, -1.0),
    lambda t: np.sinc(t), lambda t: np.gradient(t), lambda t: np.linspace(t[0], 2.0, 3), lambda t: np.nanmax(t),
    lambda t: np.unwrap(t), lambda t: np.trapezoid(t, dx=0.5), lambda t: np.fmod(t, 2.0), lambda t: np.nan_to_num(t),
    lambda t: np.pad(t, 1, constant_values=2.0), lambda t: np.mean(t, where=np.array([True, False, True])),
]  # fmt: skip


@pytest.mark.parametrize("dtype", [*DTYPES, np.dtype(np.float32)], ids=str)
@pytest.mark.parametrize("n", range(len(NUMBERS)))
def test_plain_numbers_keep_the_dtype(n: int, dtype: np.dtype[Any]) -> None:
    t = tensor([1.0, 2.0, 3.0], dtype, requires_grad=True)
    out, exact = NUMBERS[n](t), NUMBERS[n](tensor([1.0, 2.0, 3.0]))
    assert out.dtype == dtype
    np.testing.assert_allclose(
        out.data.astype(float), exact.data, rtol=2 * float(ml_dtypes.finfo(dtype).eps), atol=1e-3
    )
    if out.requires_grad:
        assert grad(out.sum(), t)[0].dtype == dtype
