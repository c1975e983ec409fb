"""The dtypes that are summed in a wider one: float16, bfloat16, bool; promotion; and what complex gradients mean."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import oracle
import pytest

import eagerconv as ec
from eagerconv.kernels_cpu import convert, staging

HALVES = [np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)]
OPTIONS = {"border_mode": 1, "subsample": 2, "num_groups": 2}


def operands(dtype, batch=5):
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((batch, 6, 11, 12)), rng.standard_normal((8, 3, 3, 3))
    y = rng.standard_normal((batch, 8, 6, 6))
    return [a.astype(dtype) for a in (x, w, y)]


def three_slots(x, w, y, **more):
    return (
        ec.conv2d(x, w, **OPTIONS, **more),
        ec.conv2d_grad_wrt_inputs(y, w, x.shape, **OPTIONS, **more),
        ec.conv2d_grad_wrt_weights(x, y, w.shape, **OPTIONS, **more),
    )


@pytest.mark.parametrize("algorithm", ["direct", "gemm"])
@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("block", [1, 2000, 1 << 20])
def test_halves_are_summed_in_float32_and_rounded_once(dtype, algorithm, block, monkeypatch):
    monkeypatch.setattr(staging, "BLOCK", block)  # one image at a time, some, all
    ec.algorithms._planned.cache_clear()
    x, w, y = operands(dtype)
    exact = three_slots(*(a.astype(np.float64) for a in (x, w, y)), algorithm="direct")
    eps = float(ml_dtypes.finfo(dtype).eps)
    for got, expected in zip(three_slots(x, w, y, algorithm=algorithm), exact, strict=True):
        assert got.dtype == dtype
        # Half a unit of the half type for the one rounding, and float32's error in a sum of at most 5*6*6*3*9 products.
        bound = eps / 2 * np.abs(expected.numpy()) * 1.0001 + 1e-4
        assert (np.abs(got.numpy().astype(np.float64) - expected.numpy()) <= bound).all()
    ec.algorithms._planned.cache_clear()


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_halves_train(dtype):
    x, w, _ = operands(dtype, 2)
    xt, wt = ec.tensor(x, requires_grad=True), ec.tensor(w, requires_grad=True)
    y = ec.conv2d(xt, wt, **OPTIONS)
    gx, gw = ec.grad(y, [xt, wt], y.detach(), create_graph=True)
    assert gx.dtype == gw.dtype == dtype
    (second,) = ec.grad(gx.sum(), [wt])
    assert second.dtype == dtype
    assert second.shape == w.shape
    assert np.isfinite(second.numpy().astype(np.float32)).all()


def test_bool_is_whether_any_pair_is_true():
    rng = np.random.default_rng(1)
    x, w = rng.random((2, 40, 9, 9)) < 0.1, rng.random((3, 40, 3, 3)) < 0.1
    got = ec.conv2d(x, w)
    counts = oracle.forward(x.astype(int), w.astype(int))
    assert got.dtype == bool
    assert np.array_equal(got.numpy(), counts != 0)
    many = ec.conv1d(np.ones((1, 1, 256), bool), np.ones((1, 1, 256), bool))  # 256 would be zero in eight bits
    assert many.numpy().all()


def test_integers_and_bool_are_not_differentiable():
    for dtype in (bool, np.int32):
        with pytest.raises(TypeError, match="only floating and complex"):
            ec.tensor(np.ones((1, 1, 4), dtype), requires_grad=True)


@pytest.mark.parametrize(
    ("a", "b", "common"),
    [
        (np.float16, np.float32, np.float32),
        (ml_dtypes.bfloat16, np.float32, np.float32),
        (np.float32, np.float64, np.float64),
        (np.float32, np.complex64, np.complex64),
        (np.float64, np.complex64, np.complex128),
        (np.int8, np.int32, np.int32),
        (np.int64, np.float32, np.float64),
        (bool, np.int16, np.int16),
    ],
)
def test_promotion_is_numpys(a, b, common):
    for first, second in ((a, b), (b, a)):
        assert ec.conv1d(np.ones((1, 1, 5), first), np.ones((1, 1, 2), second)).dtype == common


def test_complex_gradients_are_conjugate_adjoints():
    rng = np.random.default_rng(2)

    def draw(*shape):
        return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)

    x, w = draw(2, 4, 7, 7), draw(4, 2, 3, 3)
    for call in (
        lambda x, w: ec.conv2d(x, w, num_groups=2, border_mode="same"),
        lambda y, w: ec.conv2d_transpose(y, w, num_groups=2),
    ):
        ec.check_grads(call, (x, w), order=2, modes=("fwd", "rev"))
        out, pull = ec.vjp(call, x, w)
        v = draw(*out.shape)
        assert np.vdot(v, out.numpy()).real == pytest.approx(np.vdot(pull(v)[0].numpy(), x).real)
    # A real operand of a complex convolution has a real gradient.
    real = ec.tensor(rng.standard_normal(w.shape), requires_grad=True)
    y = ec.conv2d(x, real, num_groups=2)
    (g,) = ec.grad(y, real, y.detach())
    assert g.dtype == np.float64


@pytest.mark.parametrize("dtype", HALVES, ids=lambda dtype: dtype.name)
def test_all_numbers_of_16_bits_are_widened_and_those_between_them_rounded(dtype):
    every = np.arange(2**16, dtype=np.uint16).view(dtype)
    wide = convert.convert(every, np.dtype(np.float32))
    assert np.array_equal(wide, every.astype(np.float32), equal_nan=True)
    finite = np.sort(wide[np.isfinite(wide)].astype(np.float64))
    between = ((finite[:-1] + finite[1:]) / 2).astype(np.float32)  # ties, which go to the even neighbour
    for number in (between, np.nextafter(between, np.float32(9e9)), np.nextafter(between, np.float32(-9e9)), wide):
        with np.errstate(over="ignore", invalid="ignore"):
            expected = number.astype(dtype)
        found = convert.convert(np.ascontiguousarray(number), dtype)
        nan = np.isnan(number)
        assert np.array_equal(found.view(np.uint16)[~nan], expected.view(np.uint16)[~nan])
        assert np.isnan(convert.convert(found, np.dtype(np.float32))[nan]).all()
