"""Softmax, its logarithm and cross-entropy: values and gradients beside long doubles, however the axis lies."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from strategies import rooms

import eagerconv as ec
from eagerconv.kernels_cpu import softmax, threads

every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])
every_shape = pytest.mark.parametrize(
    ("shape", "axis"),
    [((5, 1000), -1), ((64, 10), 1), ((3, 1), 1), ((2, 21, 7, 9), 1), ((2, 5, 200), 1), ((4, 3, 33), 0), ((1, 128, 3), 2),
     ((300, 70), 0), ((7, 129), 1)],
)  # fmt: skip


def truth(x, axis):
    """Softmax and its logarithm in long doubles."""
    below = x.astype(np.longdouble) - x.max(axis, keepdims=True)
    logs = below - np.log(np.exp(below).sum(axis, keepdims=True))
    return np.exp(logs), logs


@every_dtype
@every_shape
def test_values_and_gradients(shape, axis, dtype):
    rng = np.random.default_rng(0)
    x, g = (4 * rng.standard_normal(shape).astype(dtype) for _ in range(2))
    p, logs = truth(x, axis)
    eps = np.finfo(dtype).eps
    found, found_logs = softmax.forward("softmax", x, axis), softmax.forward("log_softmax", x, axis)
    np.testing.assert_allclose(found, p, rtol=30 * eps)  # the exponential of a difference of numbers around ten
    added = shape[axis] / 16  # the sum, of numbers one after the other where the axis lies across the lanes
    np.testing.assert_allclose(found_logs, logs, rtol=4 * eps, atol=(4 + added) * eps)
    room = 8 * eps * np.abs(g).sum(axis).max()
    pulled = softmax.backward("softmax", g, found, axis)
    np.testing.assert_allclose(pulled, p * (g - (g * p).sum(axis, keepdims=True)), rtol=0, atol=room)
    pulled = softmax.backward("log_softmax", g, found_logs, axis)
    np.testing.assert_allclose(pulled, g - p * g.sum(axis, keepdims=True), rtol=0, atol=room)
    row = g.take(0, axis)
    pulled = softmax.weighted(x, *softmax.logarithms(x, axis % x.ndim), row, axis % x.ndim)
    np.testing.assert_allclose(pulled, p * np.expand_dims(row, axis), rtol=30 * eps)


@every_dtype
def test_rows_have_the_same_bits_in_any_company_and_on_any_number_of_threads(dtype):
    x = np.random.default_rng(0).standard_normal((40, 37, 29)).astype(dtype)
    for axis in (1, 2):
        whole = softmax.forward("softmax", x, axis)
        parts = np.concatenate([softmax.forward("softmax", x[i : i + 8], axis) for i in range(0, 40, 8)])
        assert whole.tobytes() == parts.tobytes()
        before = threads.get_num_threads()
        threads.set_num_threads(1)
        try:
            assert softmax.forward("softmax", x, axis).tobytes() == whole.tobytes()
        finally:
            threads.set_num_threads(before)


@every_dtype
def test_numbers_that_are_no_numbers(dtype):
    nan, inf = np.nan, np.inf
    x = np.array([[0, nan, 1], [inf, 0, 0], [-inf, 0, 0], [-inf, -inf, -inf], [-1e30, 0, -1e30]], dtype)
    expected = [[nan] * 3, [nan] * 3, [0, 0.5, 0.5], [nan] * 3, [0, 1, 0]]
    for along in (x, np.ascontiguousarray(x.T)):
        axis = 1 if along is x else 0
        found = ec.softmax(along, axis).data
        np.testing.assert_array_equal(found if axis else found.T, np.array(expected, dtype))


def test_nothing_is_written_behind_an_array(monkeypatch):
    made = rooms(monkeypatch, softmax)
    for shape, axis in (((3, 37), 1), ((3, 5, 37), 1), ((2, 130), 0)):
        x = np.ones(shape, "f")
        y = softmax.forward("softmax", x, axis)
        softmax.backward("softmax", x, y, axis)
    assert all((room[:32] == 7).all() and (room[-32:] == 7).all() for room in made)


@every_dtype
def test_large_scores_cancel_no_digits(dtype):
    x = np.array([[0, 1, 2, 3]], dtype)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(ec.log_softmax(x + 10_000), truth(x, 1)[1], rtol=4 * eps)
    np.testing.assert_allclose(ec.cross_entropy(x + 10_000, [1]).item(), -truth(x, 1)[1][0, 1], rtol=4 * eps)
    t = ec.tensor(x + 10_000, requires_grad=True)
    ec.cross_entropy(t, [2]).backward()
    assert abs(t.grad.data.sum()) <= 2 * eps
    smooth = ec.cross_entropy(x + 10_000, [1], label_smoothing=0.5).item()
    np.testing.assert_allclose(smooth, -(0.5 * truth(x, 1)[1][0, 1] + 0.125 * truth(x, 1)[1].sum()), rtol=4 * eps)


@pytest.mark.parametrize("shape", [(5, 4), (2, 3, 2, 3)])
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.3}, {"ignore_index": 1}, {"reduction": "none"}])
def test_derivatives_of_cross_entropy_in_both_modes_to_second_order(shape, options):
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape)
    labels = rng.integers(0, shape[1], shape[:1] + shape[2:])
    ec.check_grads(lambda t: ec.cross_entropy(t, labels, **options), (ec.tensor(x),), order=2)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_sums_of_sixteen_bit_numbers_are_those_of_single_precision(name):
    dtype = np.dtype(getattr(ml_dtypes, name, name))
    x = np.zeros((2, 1000), dtype)
    for found, expected in (
        (ec.softmax(x).data.astype(float).sum(1), [1, 1]),
        (ec.log_softmax(x).data[:, 0].astype(float), [-np.log(1000)] * 2),
        (ec.cross_entropy(x, [0, 1], reduction="none").data.astype(float), [np.log(1000)] * 2),
        (ec.cross_entropy(x, [0, 1], reduction="mean").data.astype(float), np.log(1000)),
    ):
        np.testing.assert_allclose(found, expected, rtol=0.004)
    t = ec.tensor(x, requires_grad=True)
    loss = ec.cross_entropy(t, [0, 1])
    assert loss.dtype == dtype
    loss.backward()
    assert t.grad.dtype == dtype
