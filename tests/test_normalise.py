"""Normalisation's kernels beside long doubles, for every way in which groups, segments and channels lie in an array."""

from __future__ import annotations

import numpy as np
import pytest
from strategies import rooms

import eagerconv as ec
from eagerconv.functional import normalisation
from eagerconv.kernels_cpu import normalise, threads
from eagerconv.kernels_cpu.normalise import Layout

every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])
every_layout = pytest.mark.parametrize(
    "layout",
    [Layout(4, 6, 1, 50, 6), Layout(1, 12, 2, 35, 6), Layout(1, 40, 37, 1, 37), Layout(1, 6, 1, 300, 3),
     Layout(8, 16, 1, 784, 16), Layout(1, 100, 64, 1, 64), Layout(2, 3, 1, 8, 3)],
)  # fmt: skip
EPS = 1e-5


def operands(layout, dtype, offset=5.0):
    rng = np.random.default_rng(0)
    x = (3 * rng.standard_normal(layout[:4]) + offset).astype(dtype)
    g = rng.standard_normal(x.shape).astype(dtype)
    return x, g, *(rng.standard_normal(layout.channels).astype(dtype) for _ in range(2))


def truth(x, g, weight, bias, layout):
    """The result, statistics and gradients in long doubles, channel by channel."""
    over = {"axis": (0, 2, 3), "keepdims": True}
    channel = np.arange(layout.groups * layout.segments).reshape(layout.groups, layout.segments, 1) % layout.channels
    x, g, weight, bias = (v.astype(np.longdouble) for v in (x, g, weight, bias))
    mean, variance = x.mean(**over), x.var(**over)
    rstd = 1 / np.sqrt(variance + EPS)
    u, gw = (x - mean) * rstd, g * weight[channel]
    gx = rstd * (gw - gw.mean(**over) - u * (gw * u).mean(**over))
    sums, dots = np.zeros((2, layout.channels), np.longdouble)
    np.add.at(sums, channel[..., 0], g.sum((0, 3)))
    np.add.at(dots, channel[..., 0], (g * u).sum((0, 3)))
    return u * weight[channel] + bias[channel], mean.ravel(), variance.ravel(), gx, dots, sums


@every_dtype
@every_layout
def test_values_and_gradients(layout, dtype):
    x, g, weight, bias = operands(layout, dtype)
    out, mean, variance, *gradients = truth(x, g, weight, bias, layout)
    found, seen = normalise.forward(x, weight, bias, EPS, layout)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(found, out, rtol=8 * eps, atol=16 * eps)
    np.testing.assert_allclose(seen.mean, mean, rtol=4 * eps)
    np.testing.assert_allclose(seen.variance, variance, rtol=4 * eps)
    for value, true in zip(normalise.backward(g, x, weight, bias, seen, layout), gradients, strict=True):
        np.testing.assert_allclose(value, true, rtol=8 * eps, atol=8 * eps * np.abs(true).max())
    plain, _ = normalise.forward(x, None, None, EPS, layout)
    ones = truth(x, g, np.ones_like(weight), np.zeros_like(bias), layout)
    np.testing.assert_allclose(plain, ones[0], rtol=8 * eps, atol=16 * eps)
    gx, *_ = normalise.backward(g, x, None, None, seen, layout)
    np.testing.assert_allclose(gx, ones[3], rtol=8 * eps, atol=8 * eps * np.abs(ones[3]).max())


def test_a_far_mean_costs_the_variance_few_digits():
    layout = Layout(4, 3, 1, 500, 3)
    x, g, weight, bias = operands(layout, np.float32, offset=1000.0)
    _, seen = normalise.forward(x, weight, bias, EPS, layout)
    np.testing.assert_allclose(seen.variance, truth(x, g, weight, bias, layout)[2], rtol=1e-5)


@every_layout
def test_bits_do_not_depend_on_the_number_of_threads(layout):
    x, g, weight, bias = operands(layout, np.float32)
    found = []
    before = threads.get_num_threads()
    try:
        for count in (1, before):
            threads.set_num_threads(count)
            out, seen = normalise.forward(x, weight, bias, EPS, layout)
            arrays = out, *seen, *normalise.backward(g, x, weight, bias, seen, layout)
            found.append(b"".join(v.tobytes() for v in arrays))
    finally:
        threads.set_num_threads(before)
    assert found[0] == found[1]


@every_layout
def test_nothing_is_written_beside_the_results(layout, monkeypatch):
    made = rooms(monkeypatch, normalise)
    x, g, weight, bias = operands(layout, np.float32)
    _, seen = normalise.forward(x, weight, bias, EPS, layout)
    normalise.backward(g, x, weight, bias, seen, layout)
    assert len(made) == 2
    assert all((room[:32] == 7).all() and (room[-32:] == 7).all() for room in made)


@pytest.mark.parametrize("size", [3, 20])
def test_derivatives_in_both_modes_to_second_order(size):
    rng = np.random.default_rng(0)
    x, weight, bias = rng.standard_normal((2, 4, size)), rng.standard_normal(4), rng.standard_normal(4)
    row, shift = rng.standard_normal((2, size))
    given = [ec.tensor(v) for v in (x, weight, bias)]
    ec.check_grads(lambda a, w, b: ec.batch_norm(a, None, w, b)[0], given, order=2)
    ec.check_grads(lambda a, w, b: ec.group_norm(a, 2, w, b), given, order=2)
    ec.check_grads(lambda a, w, b: ec.layer_norm(a, size, w, b), [given[0], ec.tensor(row), ec.tensor(shift)], order=2)
    for name in ("relu", "silu", "gelu"):
        ec.check_grads(lambda a, w, b, name=name: ec.batch_norm(a, None, w, b, activation=name)[0], given, order=2)
        ec.check_grads(lambda a, w, b, name=name: ec.group_norm(a, 2, w, b, activation=name), given, order=2)
    ec.check_grads(lambda a, w: ec.instance_norm(a, w), given[:2], order=2)
    running = {"mean": rng.standard_normal(4), "var": rng.uniform(1, 2, 4)}
    ec.check_grads(lambda a, w, b: ec.batch_norm(a, running, w, b, training=False)[0], given, order=2)


@every_dtype
def test_running_statistics_are_applied_in_one_pass_as_in_several(dtype):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 5, 7, 9)).astype(dtype)
    weight, bias, mean = rng.standard_normal((3, 5)).astype(dtype)
    running = {"mean": mean, "var": rng.uniform(1, 2, 5).astype(dtype)}
    once, kept = ec.batch_norm(x, running, weight, bias, training=False)
    tracked, _ = ec.batch_norm(ec.tensor(x, requires_grad=True), running, weight, bias, training=False)
    assert kept is running
    np.testing.assert_allclose(once, tracked.detach(), rtol=8 * np.finfo(dtype).eps, atol=8 * np.finfo(dtype).eps)


@every_dtype
@pytest.mark.parametrize("name", normalisation.ACTIVATIONS)
def test_an_activation_in_the_same_pass_is_the_activation(name, dtype):
    rng = np.random.default_rng(0)
    x, g = (2 * rng.standard_normal((3, 4, 5, 9)).astype(dtype) for _ in range(2))
    weight, bias, mean = rng.standard_normal((3, 4)).astype(dtype)
    running = {"mean": mean, "var": rng.uniform(1, 2, 4).astype(dtype)}
    function = getattr(ec, name)
    for options in ({}, {"running": running, "training": False}):
        found = []
        for once in (True, False):
            t = [ec.tensor(v, requires_grad=True) for v in (x, weight, bias)]
            y, _ = ec.batch_norm(t[0], weight=t[1], bias=t[2], activation=name if once else None, **options)
            y = y if once else function(y)
            y.backward(g)
            found.append((y.detach().data, *(leaf.grad.data for leaf in t)))
        for one, other in zip(*found, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=60 * np.finfo(dtype).eps * np.abs(other).max())
    with ec.no_grad():
        y, _ = ec.batch_norm(x, running, weight, bias, training=False, activation=name)
    np.testing.assert_allclose(y, found[1][0], rtol=0, atol=60 * np.finfo(dtype).eps * np.abs(found[1][0]).max())


def test_an_unknown_activation_is_named():
    with pytest.raises(ValueError, match=r"batch_norm: activation must be None or one of .*relu.*, not 'rellu'"):
        ec.batch_norm(np.ones((2, 2, 2)), activation="rellu")
