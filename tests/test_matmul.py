"""Large matrix products: sums of exact products, NumPy's shapes, gradients, and bits that depend on the operands alone."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import eagerconv as ec
from eagerconv.autograd import rules
from eagerconv.functional import nn
from eagerconv.kernels_cpu import threads
from eagerconv.kernels_cpu.matmul import matmul

every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])
SHAPES = [
    ((80, 70), (70, 90)), ((8, 2048), (2048, 100)), ((1000, 8), (8, 301)), ((65, 1000), (1000, 9)), ((3, 40, 70), (70, 90)),
    ((2, 3, 40, 70), (70, 90)), ((5, 80, 70), (5, 70, 90)), ((2, 2, 80, 70), (2, 2, 70, 90)),
]  # fmt: skip


def integers(shape, dtype, seed=0):
    return np.random.default_rng(seed).integers(-8, 9, shape).astype(dtype)


def layouts(x):
    """The same numbers: in rows, in columns, in every second place, from the end."""
    yield x
    yield np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2)
    yield np.repeat(x, 2, axis=-1)[..., ::2]
    yield np.ascontiguousarray(x[..., ::-1, :])[..., ::-1, :]


@every_dtype
@pytest.mark.parametrize(("a", "b"), SHAPES)
def test_small_integers_are_exact_in_every_layout(a, b, dtype):
    a, b = integers(a, dtype), integers(b, dtype, 1)
    expected = np.matmul(a.astype(np.int64), b.astype(np.int64))
    for x, y in itertools.product(layouts(a), layouts(b)):
        found = matmul(x, y)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("a", "b"),
    [((2048,), (2048, 200)), ((1, 2048), (2048, 200)), ((20, 30), (30, 40)), ((5, 80, 70), (1, 70, 90)),
     ((80, 71), (70, 90)), ((0, 70), (70, 90))],
)  # fmt: skip
def test_others_are_numpys(a, b):
    assert matmul(np.ones(a), np.ones(b)) is None
    assert matmul(np.ones((80, 70), np.float32), np.ones((70, 90))) is None
    assert matmul(np.ones((80, 70), int), np.ones((70, 90), int)) is None


@every_dtype
def test_the_same_bits_for_any_threads_and_in_any_stack(dtype):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((4, 80, 700)).astype(dtype), rng.standard_normal((4, 700, 90)).astype(dtype)
    before, found = threads.get_num_threads(), []
    try:
        for count in (1, 2):
            ec.set_num_threads(count)
            found += [matmul(a, b), np.stack([matmul(x, y) for x, y in zip(a, b, strict=True)])]
    finally:
        ec.set_num_threads(before)
    for other in found[1:]:
        np.testing.assert_array_equal(found[0], other)
    bound = 700 * np.finfo(dtype).eps * (np.abs(a) @ np.abs(b))  # of any order of summation
    assert (np.abs(found[0] - a.astype(np.longdouble) @ b.astype(np.longdouble)) <= bound).all()


def test_operators_and_gradients_take_them(monkeypatch):
    taken = []
    monkeypatch.setattr(rules.matmul, "large", lambda a, b: taken.append(matmul(a, b)) or taken[-1])
    monkeypatch.setattr(nn.product, "large", lambda x, w: taken.append(matmul(x, w.T)) or taken[-1])
    rng = np.random.default_rng(0)
    x, w, g = rng.standard_normal((100, 300)), rng.standard_normal((120, 300)), rng.standard_normal((100, 120))
    a, b = ec.tensor(x, requires_grad=True), ec.tensor(w, requires_grad=True)
    ec.linear(a, b).backward(g)  # the gradient of b comes as b lies
    assert [found.shape for found in taken] == [(100, 120), (100, 300), (120, 300)]
    np.testing.assert_allclose(a.grad.numpy(), g @ w, rtol=1e-10)
    np.testing.assert_allclose(b.grad.numpy(), g.T @ x, rtol=1e-10)


def test_nan_and_inf_stay_in_their_rows_and_columns():
    a, b = np.ones((80, 70), np.float32), np.ones((70, 90), np.float32)
    a[3, 4], b[5, 6] = np.nan, np.inf
    found = matmul(a, b)
    assert np.isnan(found[3]).all()
    assert np.isinf(np.delete(found[:, 6], 3)).all()
    assert (np.delete(np.delete(found, 3, 0), 6, 1) == 70).all()
