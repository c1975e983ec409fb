"""Reductions over the last axes of large arrays: NumPy's values, NaN, and errors as small as those of sums by pairs."""

from __future__ import annotations

import numpy as np
import pytest

import eagerconv as ec
from eagerconv.kernels_cpu import reduce, threads

every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])
every_case = pytest.mark.parametrize(
    ("shape", "axis"),
    [((64, 600), -1), ((64, 600), 1), ((3, 70, 33, 35), (2, 3)), ((3, 70, 33, 35), (-1, 1, 2)), ((300_001,), None),
     ((2, 3 * reduce.PIECE + 5), (1,)), ((5, 200, 40), None), ((40_000,), 0), ((1000, 33), 1)],
)  # fmt: skip


@every_dtype
@every_case
def test_values(shape, axis, dtype):
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    for keepdims in (False, True):
        true = x.sum(axis, dtype=np.longdouble, keepdims=keepdims)
        found = reduce.sum(x, axis, keepdims=keepdims)
        assert found.shape == true.shape
        count = x.size // true.size
        # Each of at least 32 partial sums of a piece has few roundings, and pieces are added by pairs.
        room = np.finfo(dtype).eps * (8 + min(count, reduce.PIECE) / 32) * count**0.5
        np.testing.assert_allclose(found, true, rtol=0, atol=float(room))
        mean = reduce.mean(x, axis, keepdims=keepdims)
        np.testing.assert_allclose(mean, true / count, rtol=0, atol=float(room) / count)
        for name in ("max", "min"):
            best = getattr(reduce, name)(x, axis, keepdims=keepdims)
            np.testing.assert_array_equal(best, getattr(np, name)(x, axis=axis, keepdims=keepdims))


@every_dtype
def test_nan_and_infinities_win_as_in_numpy(dtype):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((500, 101)).astype(dtype)
    for row in range(400):
        for value in rng.permutation([np.nan, np.inf, -np.inf])[: 1 + row % 3]:
            x[row, rng.integers(101)] = value
    for name in ("max", "min"):
        np.testing.assert_array_equal(getattr(reduce, name)(x, 1), getattr(np, name)(x, axis=1))
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(np.isnan(reduce.sum(x, 1)), np.isnan(x.sum(1)))


def test_sums_of_many_equal_numbers_do_not_drift():
    x = np.full(5_000_000, 0.1, np.float32)
    true = 5_000_000 * float(np.float32(0.1))
    assert abs(float(reduce.sum(x)) / true - 1) < 2e-6  # one after the other: 1e-1


@every_case
def test_bits_do_not_depend_on_threads_or_on_other_rows(shape, axis):
    x = np.random.default_rng(0).standard_normal(shape).astype("f")
    whole = reduce.sum(x, axis)
    before = threads.get_num_threads()
    threads.set_num_threads(1)
    try:
        assert reduce.sum(x, axis).tobytes() == whole.tobytes()
    finally:
        threads.set_num_threads(before)
    twice = reduce.sum(np.concatenate([x, x]), axis) if np.ndim(whole) else None
    assert twice is None or twice[: len(whole)].tobytes() == whole.tobytes()


def test_numpy_is_asked_where_it_is_as_good_or_all_there_is():
    a = np.ones((40, 30, 40), np.float32)
    for x, axis in (
        (a[:10], 2),
        (a, 0),
        (a[:, :, :30].copy(), (0, 2)),
        (a, ()),
        (a.astype(int), 2),
        (a[:, :, ::2], 2),
        (a.T, None),
        (a, (1, 1)),
    ):
        assert reduce.sum(x, axis) is None
    assert reduce.sum(a, 2, np.float64) is None
    with pytest.raises(ValueError, match="duplicate"):
        ec.sum(ec.asarray(a), axis=(2, 2))


def test_gradients_are_those_of_small_arrays():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((90, 500)).astype("f")
    for function in (ec.mean, ec.max, ec.min, ec.sum):
        t = ec.tensor(x, requires_grad=True)
        function(t, axis=1).backward(x[:, 0])
        small = ec.tensor(x[:5], requires_grad=True)
        function(small, axis=1).backward(x[:5, 0])
        np.testing.assert_allclose(t.grad.data[:5], small.grad.data, rtol=1e-6)
