"""Activations, losses, dropout and pooling: values against plain loops and PyTorch, gradients, errors."""

from __future__ import annotations

import itertools
import math
import warnings
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import eagerconv as ec
from eagerconv.func.gradcheck import check_grads
from eagerconv.func.transforms import grad
from eagerconv.functional import nn, pooling
from eagerconv.tensor import asarray, tensor

rng = np.random.default_rng(0)
X = rng.standard_normal((4, 3))

# ----- Layers and losses -----


@pytest.mark.parametrize("name", ["relu", "sigmoid", "softmax", "log_softmax"])
def test_activations_against_pytorch(name: str) -> None:
    torch = pytest.importorskip("torch")
    x, ref = tensor(X, requires_grad=True), torch.tensor(X, requires_grad=True)
    axis = (0,) if "softmax" in name else ()
    out, expected = getattr(ec, name)(x, *axis), getattr(torch, name)(ref, *axis)
    np.testing.assert_allclose(out.numpy(), expected.detach().numpy(), rtol=1e-12)
    (out * out).sum().backward()
    (expected * expected).sum().backward()
    np.testing.assert_allclose(x.grad.data, ref.grad.numpy(), rtol=1e-10, atol=1e-15)


ACTIVATIONS: dict[str, tuple[Any, ...]] = {
    "relu": (), "leaky_relu": (0.2,), "elu": (1.5,), "selu": (), "gelu": (), "silu": (), "mish": (), "softplus": (2.0,),
    "softsign": (), "hardtanh": (-1.5, 0.5), "hardsigmoid": (), "hardswish": (), "log_sigmoid": (), "sigmoid": (),
    "prelu": (np.array([0.25]),),
}  # fmt: skip
THEIRS: dict[str, Any] = {  # another name; and where PyTorch takes a short cut in float64, the long way
    "log_sigmoid": lambda x: -(-x).logaddexp(0 * x.detach()),
    "softplus": lambda x, beta: (beta * x).logaddexp(0 * x.detach()) / beta,
    "hardsigmoid": lambda x: (x / 6 + 0.5).clip(0, 1),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_against_pytorch_on_a_wide_range(name: str, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    grid = np.linspace(-40.03, 40.01, 4001).astype(dtype)
    arguments = [a.astype(dtype) if isinstance(a, np.ndarray) else a for a in ACTIVATIONS[name]]
    x, ref = tensor(grid, requires_grad=True), torch.tensor(grid, requires_grad=True)
    out = getattr(ec, name)(x, *arguments)
    there = [torch.tensor(a) if isinstance(a, np.ndarray) else a for a in arguments]
    function = THEIRS.get(name) or getattr(torch.nn.functional, name)
    expected = function(ref, *there)
    assert out.dtype == dtype
    rtol, atol = (1e-12, 1e-14) if dtype == "float64" else (2e-5, 2e-6)
    np.testing.assert_allclose(out.numpy(), expected.detach().numpy(), rtol=rtol, atol=atol)
    out.backward(np.ones_like(grid))
    expected.backward(torch.ones_like(ref))
    assert x.grad.dtype == dtype
    np.testing.assert_allclose(x.grad.data, ref.grad.numpy(), rtol=rtol, atol=atol)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_differentiate_twice(name: str) -> None:
    check_grads(lambda x: getattr(ec, name)(x, *ACTIVATIONS[name]), [2.7 * X + 0.1])


@pytest.mark.parametrize("slope", [-0.5, 0.0, 1.0, 1.5])
def test_leaky_relu_of_any_slope(slope: float) -> None:
    torch = pytest.importorskip("torch")
    x, ref = tensor(X, requires_grad=True), torch.tensor(X, requires_grad=True)
    out, expected = ec.leaky_relu(x, slope), torch.nn.functional.leaky_relu(ref, slope)
    np.testing.assert_array_equal(out.numpy(), expected.detach().numpy())
    out.sum().backward()
    expected.sum().backward()
    np.testing.assert_array_equal(x.grad.data, ref.grad.numpy())


def test_gelu_by_tanh() -> None:
    torch = pytest.importorskip("torch")
    expected = torch.nn.functional.gelu(torch.tensor(X), approximate="tanh").numpy()
    np.testing.assert_allclose(ec.gelu(X, "tanh").data, expected, rtol=1e-12)
    with pytest.raises(ValueError, match="approximate must be 'none' or 'tanh', not 'erf'"):
        ec.gelu(X, "erf")


LABELS = np.array([[2, 0, -7, 1], [1, 1, -7, 0]])


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_cross_entropy_of_images_against_pytorch(smoothing: float, reduction: str) -> None:
    torch = pytest.importorskip("torch")
    logits = rng.standard_normal((2, 3, 4))
    x, ref = tensor(logits, requires_grad=True), torch.tensor(logits, requires_grad=True)
    options = {"label_smoothing": smoothing, "ignore_index": -7, "reduction": reduction}
    out = ec.cross_entropy(x, LABELS, **options)
    expected = torch.nn.functional.cross_entropy(ref, torch.tensor(LABELS), **options)
    np.testing.assert_allclose(out.numpy(), expected.detach().numpy(), rtol=1e-12)
    (out * out).sum().backward()
    (expected * expected).sum().backward()
    np.testing.assert_allclose(x.grad.data, ref.grad.numpy(), rtol=1e-10, atol=1e-15)
    check_grads(lambda x: ec.cross_entropy(x, LABELS, **options), [logits])
    ours = ec.nll_loss(ec.log_softmax(logits, axis=1), LABELS, ignore_index=-7, reduction=reduction)
    np.testing.assert_allclose(ours.data, ec.cross_entropy(logits, LABELS, 0.0, -7, reduction).data, rtol=1e-12)


LOSSES: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "mse_loss": ((X, X[::-1]), {}), "l1_loss": ((X, X[::-1]), {}), "huber_loss": ((2 * X, X[::-1]), {"delta": 0.7}),
    "binary_cross_entropy_with_logits": ((9 * X, (X[::-1] > 0).astype(float)), {}),
    "kl_div": ((np.log(np.abs(X)), np.abs(X[::-1]) * (X > 0)), {}),
}  # fmt: skip


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", LOSSES)
def test_losses_against_pytorch(name: str, reduction: str) -> None:
    torch = pytest.importorskip("torch")
    (a, b), options = LOSSES[name]
    x, ref = tensor(a, requires_grad=True), torch.tensor(a, requires_grad=True)
    out = getattr(ec, name)(x, b, **options, reduction=reduction)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # PyTorch doubts its own default for kl_div
        expected = getattr(torch.nn.functional, name)(ref, torch.tensor(b.copy()), **options, reduction=reduction)
    np.testing.assert_allclose(out.numpy(), expected.detach().numpy(), rtol=1e-12, atol=1e-14)
    (out * out).sum().backward()
    (expected * expected).sum().backward()
    np.testing.assert_allclose(x.grad.data, ref.grad.numpy(), rtol=1e-10, atol=1e-14)
    check_grads(lambda x: getattr(ec, name)(x, b, **options, reduction=reduction), [a])


def test_losses_have_their_options() -> None:
    torch = pytest.importorskip("torch")
    weight = np.array([0.5, 1.0, 4.0])
    yes = (X > 0).astype(float)
    ours = ec.binary_cross_entropy_with_logits(X, yes, pos_weight=weight)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        torch.tensor(X), torch.tensor(yes), pos_weight=torch.tensor(weight)
    )
    assert ours.item() == pytest.approx(expected.item())
    log_p, log_q = ec.log_softmax(X).data, ec.log_softmax(X * X).data
    by_log = ec.kl_div(log_p, log_q, log_target=True).item()
    assert by_log == pytest.approx(ec.kl_div(log_p, np.exp(log_q)).item())
    assert by_log == pytest.approx((np.exp(log_q) * (log_q - log_p)).sum() / 4)
    for bad, message in (
        ({"reduction": "average"}, "reduction must be one of"), ({"label_smoothing": 2.0}, "label_smoothing must be a number"),
        ({"labels": [7, 7, 7, 7], "ignore_index": 7}, "the mean over no examples is not defined"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            ec.cross_entropy(X, **{"labels": [0, 1, 2, 0], **bad})
    with pytest.raises(ValueError, match="delta must be a number"):
        ec.huber_loss(X, X, delta=0)


# ----- Normalisation -----

IMAGES = rng.standard_normal((4, 6, 3, 5)) * 3 + 1
HALVES = (np.float16, ml_dtypes.bfloat16)
SCALE, SHIFT = rng.standard_normal(6), rng.standard_normal(6)


def normalisations(F: Any) -> dict[str, Any]:
    """The same calls, of our functions or PyTorch's, as functions of images, scale and shift."""
    return {
        "batch": (lambda x, w, b: F.batch_norm(x, None, None, w, b, True))
        if F is not ec
        else (lambda x, w, b: ec.batch_norm(x, None, w, b)[0]),
        "group": lambda x, w, b: F.group_norm(x, 2, w, b),
        "instance": (lambda x, w, b: F.instance_norm(x, weight=w, bias=b)),
        "layer": lambda x, w, b: F.layer_norm(x, (3, 5), w[:5] + 0 * x[0, 0], b[:5] + 0 * x[0, 0]),
    }


@pytest.mark.parametrize("name", ["batch", "group", "instance", "layer"])
def test_normalisation_against_pytorch(name: str) -> None:
    torch = pytest.importorskip("torch")
    ours = [tensor(a, requires_grad=True) for a in (IMAGES, SCALE, SHIFT)]
    theirs = [torch.tensor(a, requires_grad=True) for a in (IMAGES, SCALE, SHIFT)]
    out = normalisations(ec)[name](*ours)
    expected = normalisations(torch.nn.functional)[name](*theirs)
    np.testing.assert_allclose(out.numpy(), expected.detach().numpy(), rtol=1e-10, atol=1e-12)
    (out * out * out).sum().backward()
    (expected**3).sum().backward()
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine.grad.data, other.grad.numpy(), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", ["batch", "group", "instance", "layer"])
def test_normalisation_differentiates_twice(name: str) -> None:
    f = normalisations(ec)[name]
    check_grads(lambda x: f(x, SCALE, SHIFT) ** 2, [IMAGES[:2]], rtol=1e-4)
    assert f(*(a.astype("float32") for a in (IMAGES, SCALE, SHIFT))).dtype == np.float32


@pytest.mark.parametrize("size", [45, 300])
def test_normalisation_is_accurate_in_float32(size: int) -> None:
    """Long sums lose no digits: a few units in the last place, on images of both ways of summing."""
    x, v = rng.standard_normal((2, 4, 2, size, size)) * 2 + 5

    def results(dtype: str) -> list[Any]:
        a = [tensor(b, dtype, requires_grad=True) for b in (x, np.ones(2), np.zeros(2))]
        out, _ = ec.batch_norm(a[0], None, *a[1:])
        out.backward(v.astype(dtype))
        return [out.detach(), *(b.grad for b in a)]

    for single, double in zip(results("float32"), results("float64"), strict=True):
        terms = abs(double.data).max() if double.ndim > 1 else np.abs(v).sum()  # what is summed for weight and bias
        assert abs(single.data - double.data).max() < 1e-6 * terms


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("name", ["batch", "group", "instance", "layer"])
def test_normalisation_of_16_bits_squares_in_float32(name: str, dtype: Any) -> None:
    x, scale, shift = (
        tensor((a * s).astype(dtype), requires_grad=True) for a, s in ((IMAGES, 3e3), (SCALE, 1), (SHIFT, 1))
    )
    wide = [tensor(a.numpy().astype("float64"), requires_grad=True) for a in (x, scale, shift)]
    results = [normalisations(ec)[name](*operands) for operands in ((x, scale, shift), wide)]
    assert results[0].dtype == np.dtype(dtype)
    np.testing.assert_allclose(results[0].numpy().astype(float), results[1].numpy(), rtol=2e-2, atol=2e-2)
    for out in results:
        out.backward(np.ones(out.shape, out.dtype))
    for few, many in zip((scale, shift), wide[1:], strict=True):
        assert few.grad.dtype == few.dtype
        np.testing.assert_allclose(few.grad.numpy().astype(float), many.grad.numpy(), rtol=2e-2, atol=0.5)


def test_running_statistics_of_16_bits_may_be_beyond_float16() -> None:
    x = (IMAGES * 3e3).astype("float16")
    mean, var = x.astype(float).mean((0, 2, 3)), x.astype(float).var((0, 2, 3), ddof=1)
    _, running = ec.batch_norm(x, {"mean": np.zeros(6, "f"), "var": np.ones(6, "f")}, momentum=1)
    np.testing.assert_allclose(running["var"], var, rtol=1e-3)
    out, _ = ec.batch_norm(x, {"mean": mean, "var": var}, training=False)
    expected, _ = ec.batch_norm(x.astype(float), {"mean": mean, "var": var}, training=False)
    np.testing.assert_allclose(out.numpy(), expected.numpy(), atol=1e-2)


def test_running_statistics_against_pytorch() -> None:
    torch = pytest.importorskip("torch")
    running: Any = {"mean": np.zeros(6), "var": np.ones(6)}
    mean, var = torch.zeros(6, dtype=torch.float64), torch.ones(6, dtype=torch.float64)
    for step in range(3):
        _, new = ec.batch_norm(IMAGES + step, running, momentum=0.3)
        torch.nn.functional.batch_norm(torch.tensor(IMAGES + step), mean, var, training=True, momentum=0.3)
        assert new is not running
        running = new
    np.testing.assert_allclose(running["mean"], mean.numpy(), rtol=1e-12)
    np.testing.assert_allclose(running["var"], var.numpy(), rtol=1e-12)
    out, same = ec.batch_norm(IMAGES, running, SCALE, SHIFT, training=False)
    expected = torch.nn.functional.batch_norm(
        torch.tensor(IMAGES), mean, var, torch.tensor(SCALE), torch.tensor(SHIFT), training=False
    )
    np.testing.assert_allclose(out, expected.numpy(), rtol=1e-12)
    assert same is running
    check_grads(lambda x: ec.batch_norm(x, running, SCALE, SHIFT, training=False)[0] ** 2, [IMAGES])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ec.batch_norm(X, None, SCALE), ValueError, r"weight must have shape \(C,\) = \(3,\), got \(6,\)"),
        (lambda: ec.batch_norm(X, training=False), ValueError, "none were given"),
        (lambda: ec.batch_norm(X[:1]), ValueError, "one value per channel"),
        (lambda: ec.batch_norm(X, {"mean": SCALE, "var": SCALE}), ValueError, r"running\['mean'\] must have shape"),
        (lambda: ec.batch_norm(X[0]), ValueError, "2 axes or more"),
        (lambda: ec.batch_norm(X + 1j), TypeError, "must be real"),
        (lambda: ec.group_norm(X, 2), ValueError, "num_groups=2 must divide the 3 channels"),
        (
            lambda: ec.layer_norm(X, 4),
            ValueError,
            r"the last axes of the input \(4, 3\) must be normalized_shape=\(4,\)",
        ),
        (lambda: ec.layer_norm(X, 3, SCALE), ValueError, r"weight must have shape normalized_shape=\(3,\)"),
    ],
)
def test_normalisation_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cross_entropy(dtype: str) -> None:
    labels = np.array([2, 0, 0, 1])
    x = tensor(X, dtype, requires_grad=True)
    loss = ec.cross_entropy(x, labels)
    p = np.exp(X) / np.exp(X).sum(1, keepdims=True)
    assert loss.dtype == dtype
    np.testing.assert_allclose(loss.item(), -np.log(p[np.arange(4), labels]).mean(), rtol=1e-6)
    loss.backward()
    np.testing.assert_allclose(x.grad.data, (p - np.eye(3)[labels]) / 4, rtol=1e-5, atol=1e-7)
    check_grads(ec.cross_entropy, [X, labels])


def test_cross_entropy_errors() -> None:
    with pytest.raises(TypeError, match=r"labels must be integers.*not float64"):
        ec.cross_entropy(X, [0.0, 1.0, 2.0, 0.0])
    for logits, labels in ((X, [0, 1]), (X[0], 1), (X, np.zeros((4, 1), int))):
        with pytest.raises(ValueError, match=r"expected logits \(N, K, ...\) and labels \(N, ...\)"):
            ec.cross_entropy(logits, labels)
    for labels in ([0, 1, 2, 3], [-1, 0, 0, 0]):
        with pytest.raises(ValueError, match="labels must lie from 0 to K - 1 = 2"):
            ec.cross_entropy(X, labels)
    with pytest.raises(ValueError, match="no examples"):
        ec.cross_entropy(X[:0], np.zeros(0, int))


def test_mse_loss() -> None:
    assert ec.mse_loss(X, X + 2).item() == pytest.approx(4)
    assert ec.mse_loss([1j], [1.0 + 0j]).item() == 2
    check_grads(ec.mse_loss, [X, X * X])
    with pytest.raises(ValueError, match=r"same shape, got \(4, 3\) and \(4, 1\)"):
        ec.mse_loss(X, X[:, :1])


def test_linear() -> None:
    w, b = rng.standard_normal((2, 3)), rng.standard_normal(2)
    np.testing.assert_allclose(nn.linear(X[None], w, b).data, X[None] @ w.T + b)
    check_grads(nn.linear, [X, w, b])
    with pytest.raises(ValueError, match=r"do not fit: got \(4, 3\) and \(3, 2\)"):
        nn.linear(X, w.T)
    with pytest.raises(ValueError, match=r"bias must have shape \(O,\) = \(2,\), got \(3,\)"):
        nn.linear(X, w, np.ones(3))


def test_dropout() -> None:
    x = tensor(np.ones((200, 100)), "float32", requires_grad=True)
    out = nn.dropout(x, 0.25, np.random.default_rng(0))
    assert out.dtype == np.float32
    assert set(np.unique(out.numpy())) == {0, np.float32(1 / 0.75)}
    assert abs(out.mean().item() - 1) < 0.02
    out.sum().backward()
    np.testing.assert_array_equal(x.grad.data, out.numpy())
    again = nn.dropout(x, 0.25, np.random.default_rng(0))
    np.testing.assert_array_equal(again.numpy(), out.numpy())
    assert nn.dropout(x, 0.5, np.random.default_rng(0), training=False) is x
    assert not nn.dropout(x, 1, np.random.default_rng(0)).numpy().any()
    with pytest.raises(ValueError, match=r"p must be a number in \[0, 1\]"):
        nn.dropout(x, 1.5, np.random.default_rng(0))
    with pytest.raises(TypeError, match=r"rng must be a numpy\.random\.Generator.*not int"):
        nn.dropout(x, 0.5, 0)  # type: ignore[arg-type]


# ----- Pooling -----

POOL = {1: pooling.pool_1d, 2: pooling.pool_2d, 3: pooling.pool_3d}


def out_size(n: int, k: int, s: int, p: int, ignore_border: bool) -> int:
    """Theano's `Pool.out_shape`, branch by branch."""
    if ignore_border:
        return (n + 2 * p - k) // s + 1
    return (n - 1) // s + 1 if s >= k else max(0, (n - 1 - k + s) // s) + 1


def pool_by_loops(x: Any, ws: Any, ignore_border: bool, stride: Any, pad: Any, mode: str) -> Any:
    nd = len(ws)
    size = x.shape[-nd:]
    out = tuple(out_size(*a, ignore_border) for a in zip(size, ws, stride, pad, strict=True))
    y = np.zeros(x.shape[:-nd] + out)
    for o in itertools.product(*map(range, out)):
        low = [o_ * s - p for o_, s, p in zip(o, stride, pad, strict=True)]
        high = [min(a + k, n + p) for a, k, n, p in zip(low, ws, size, pad, strict=True)]
        inside = x[(..., *(slice(max(a, 0), min(b, n)) for a, b, n in zip(low, high, size, strict=True)))]
        axes = tuple(range(-nd, 0))
        if mode == "max":
            y[(..., *o)] = inside.max(axes)
        else:
            with_padding = math.prod(b - a for a, b in zip(low, high, strict=True))
            count = {"sum": 1, "average_inc_pad": with_padding, "average_exc_pad": math.prod(inside.shape[-nd:])}[mode]
            y[(..., *o)] = inside.sum(axes) / count
    return y


@st.composite
def pools(draw: st.DrawFn, ignore_borders: st.SearchStrategy[bool] = st.booleans()) -> tuple[Any, ...]:  # noqa: B008
    nd = draw(st.integers(1, 3))
    ignore_border = draw(ignore_borders)
    ws = draw(st.tuples(*[st.sampled_from([2, 3, 1])] * nd))
    stride = draw(st.tuples(*[st.integers(1, 4)] * nd))
    pad = tuple(draw(st.integers(0, k - 1)) if ignore_border else 0 for k in ws)
    least = [max(1, k - 2 * p) if ignore_border else 1 for k, p in zip(ws, pad, strict=True)]
    size = tuple(draw(st.integers(n, n + 4)) for n in least)
    lead = draw(st.sampled_from([(), (2,), (1, 2), (0, 2)]))
    x = np.random.default_rng(draw(st.integers(0, 99))).permutation(math.prod(lead + size)).reshape(lead + size)
    return x.astype(float), ws, ignore_border, stride, pad


@pytest.mark.parametrize("mode", pooling.MODES)
@given(pools())
def test_pool_values(mode: str, problem: tuple[Any, ...]) -> None:
    x, ws, ignore_border, stride, pad = problem
    out = POOL[len(ws)](x, ws, ignore_border, stride, pad, mode)
    np.testing.assert_allclose(out.data, pool_by_loops(x, ws, ignore_border, stride, pad, mode), rtol=1e-12)
    assert POOL[len(ws)](x.astype("float32"), ws, ignore_border, stride, pad, mode).dtype == np.float32


@pytest.mark.parametrize("mode", pooling.MODES)
@pytest.mark.parametrize(
    ("shape", "ws", "ignore_border", "stride", "pad"),
    [
        ((7,), (3,), True, (2,), (1,)), ((2, 5, 6), (2, 2), True, (2, 2), (0, 0)),
        ((1, 5, 6), (2, 3), False, (3, 2), (0, 0)),
        ((4, 5), (3, 2), True, (1, 1), (1, 1)), ((3, 4, 3), (2, 2, 2), True, (1, 2, 1), (0, 1, 0)),
    ],
)  # fmt: skip
def test_pool_gradients(mode: str, shape: Any, ws: Any, ignore_border: bool, stride: Any, pad: Any) -> None:
    x = np.random.default_rng(0).permutation(math.prod(shape)).reshape(shape) / 7.0  # no ties near
    check_grads(lambda x: POOL[len(ws)](x, ws, ignore_border, stride, pad, mode) ** 2, [x])


@pytest.mark.parametrize("mode", ["max", "average_inc_pad", "average_exc_pad"])
@given(problem=pools(st.just(True)), ties=st.booleans())
def test_pool_against_pytorch(mode: str, problem: tuple[Any, ...], ties: bool) -> None:
    torch = pytest.importorskip("torch")
    x, ws, _, stride, pad = problem
    nd = len(ws)
    # PyTorch wants input, and whole windows without padding.
    assume(x.size and all(2 * p <= k <= n for p, k, n in zip(pad, ws, x.shape[-nd:], strict=True)))
    x = np.floor(x / 4) if ties else x  # many equal elements: the first one of a window wins
    ours, ref = tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    batch = ref.reshape((1,) * (nd + 2 - x.ndim) + x.shape)
    function = getattr(torch.nn.functional, f"{'max' if mode == 'max' else 'avg'}_pool{nd}d")
    extra = {} if mode == "max" else {"count_include_pad": mode == "average_inc_pad"}
    expected = function(batch, ws, stride, pad, **extra)
    out = POOL[nd](ours, ws, True, stride, pad, mode)
    np.testing.assert_allclose(out.numpy(), expected.detach().numpy().reshape(out.shape), rtol=1e-12)
    v = np.random.default_rng(0).integers(1, 9, out.shape).astype(float)
    out.backward(v)
    expected.backward(torch.tensor(v.reshape(expected.shape)))
    np.testing.assert_allclose(ours.grad.data, ref.grad.numpy(), rtol=1e-12)


def test_averages_of_16_bits_are_summed_in_float32() -> None:
    for dtype in HALVES:
        x = tensor(np.full((1, 1, 32, 32), 60000).astype(dtype), requires_grad=True)
        out = ec.avg_pool2d(x, 16)
        assert out.dtype == x.dtype
        assert (out.numpy() == x.numpy()[0, 0, 0, 0]).all()
        out.backward(np.ones(out.shape, dtype))
        assert x.grad.dtype == x.dtype
        assert (x.grad.numpy() == 1 / 256).all()


def test_pool_keeps_integers_and_nan() -> None:
    assert pooling.pool_1d([-5, -3, -7, -9], 2).tolist() == [-3, -7]
    assert pooling.pool_1d(np.array([1, 2, 3, 4], "uint8"), 2).dtype == np.uint8
    assert pooling.pool_1d([True, False], 2).tolist() == [True]
    assert pooling.pool_1d([1, 2], 2, mode="average_inc_pad").tolist() == [1.5]
    x = tensor([1.0, np.nan, np.nan, 3.0], requires_grad=True)
    out = pooling.pool_1d(x, 4)
    assert np.isnan(out.item())
    assert grad(out, x)[0].tolist() == [0, 1, 0, 0]
    assert pooling.pool_1d([-np.inf, -np.inf], 2).item() == -np.inf


def test_pool_of_views_and_read_only_arrays() -> None:
    a = np.arange(24.0).reshape(4, 6)
    locked = np.broadcast_to(a[::-1, ::2], (2, 4, 3))
    np.testing.assert_array_equal(
        pooling.max_pool2d(locked, 2).data, pool_by_loops(locked, (2, 2), True, (2, 2), (0, 0), "max")
    )
    np.testing.assert_array_equal(
        pooling.avg_pool2d(a, 2, pad=1).data, pool_by_loops(a, (2, 2), True, (2, 2), (1, 1), "average_inc_pad")
    )


def test_single_winner_per_window() -> None:
    x = tensor(np.zeros((4, 4)), requires_grad=True)
    (g,) = grad(pooling.max_pool2d(x, 2).sum(), x)
    assert g.tolist() == [[1, 0, 1, 0], [0, 0, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        ({"ws": 0}, ValueError, r"ws must be one int per pooled axis \(2\), each at least 1; got 0"),
        ({"ws": (2,)}, ValueError, "ws must be one int per pooled axis"),
        ({"ws": 2.0}, TypeError, "ws must be an int or 2 ints, not 2.0"),
        ({"ws": True}, TypeError, "ws must be an int"),
        ({"ws": 2, "stride": 0}, ValueError, "stride must be"),
        ({"ws": 2, "pad": -1}, ValueError, "pad must be"),
        ({"ws": 2, "pad": 2}, ValueError, r"pad=\(2, 2\) must be smaller than ws=\(2, 2\)"),
        ({"ws": 2, "mode": "mean"}, ValueError, "mode must be one of"),
        ({"ws": 2, "input": np.ones(3)}, ValueError, r"at least the 2 pooled axes, got shape \(3,\)"),
        ({"ws": 2, "input": np.ones((4, 4)) * 1j}, TypeError, "complex"),
    ],
)
def test_pool_errors(args: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        pooling.pool_2d(**{"input": np.ones((4, 5)), **args})


def test_pool_records_nothing_large() -> None:
    """Max pooling keeps its input, nothing else; sum pooling nothing."""
    x = asarray(np.ones((2, 8, 8)))
    x.requires_grad = True
    y = pooling.max_pool2d(x, 2)
    assert {entry[0].shape for entry in y._node.saved.values()} == {(2, 8, 8)}
    assert pooling.pool_2d(x, 2, mode="sum")._node.saved == {}


# ----- Adaptive and global pooling -----


@pytest.mark.parametrize("kind", ["avg", "max"])
@pytest.mark.parametrize(("size", "out"), [((7,), (3,)), ((7, 5), (3, 5)), ((8, 6), (4, 2)), ((3, 4, 5), (2, 6, 3))])
def test_adaptive_pool_against_pytorch(kind: str, size: tuple[int, ...], out: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch")
    x = np.floor(rng.standard_normal((2, 3, *size)) * 3)  # with ties
    ours, ref = tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    expected = getattr(torch.nn.functional, f"adaptive_{kind}_pool{len(size)}d")(ref, out)
    result = getattr(ec, f"adaptive_{kind}_pool")(ours, out)
    np.testing.assert_allclose(result.numpy(), expected.detach().numpy(), rtol=1e-12, atol=1e-14)
    (result * result).sum().backward()
    (expected * expected).sum().backward()
    np.testing.assert_allclose(ours.grad.data, ref.grad.numpy(), rtol=1e-12, atol=1e-14)
    check_grads(lambda x: getattr(ec, f"adaptive_{kind}_pool")(x, out) ** 2, [rng.standard_normal((2, *size))])


def test_global_and_other_pools() -> None:
    np.testing.assert_allclose(ec.global_avg_pool(IMAGES), IMAGES.mean((2, 3)))
    np.testing.assert_array_equal(ec.global_max_pool(IMAGES, keepdims=True), IMAGES.max((2, 3), keepdims=True))
    np.testing.assert_array_equal(
        ec.pool(IMAGES, (2, 3, 1, 2)), pool_by_loops(IMAGES, (2, 3, 1, 2), True, (2, 3, 1, 2), (0,) * 4, "max")
    )
    for nd in (1, 2, 3):
        for kind, mode in (("max", "max"), ("avg", "average_inc_pad")):
            np.testing.assert_array_equal(
                getattr(ec, f"{kind}_pool{nd}d")(IMAGES, 2, pad=1), POOL[nd](IMAGES, 2, pad=1, mode=mode)
            )
    with pytest.raises(TypeError, match="output_size must be a tuple with one int per pooled axis, not 3"):
        ec.adaptive_avg_pool(IMAGES, 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"must have 2 pooled axes that are not empty, got shape \(3, 0\)"):
        ec.adaptive_avg_pool(np.ones((3, 0)), (2, 2))
    with pytest.raises(ValueError, match="with spatial axes"):
        ec.global_avg_pool(X)


@pytest.mark.parametrize("shape", [(3,), (4, 3), (2, 5, 3), (0, 3)])
@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
def test_linear_has_derivatives_of_second_order_and_gradients_as_its_weights_lie(shape, dtype) -> None:
    rng = np.random.default_rng(0)
    x, w, b = (rng.standard_normal(n).astype(dtype) + (1j * rng.standard_normal(n) if dtype == np.complex128 else 0)
               for n in (shape, (6, 3), (6,)))  # fmt: skip
    ec.check_grads(ec.linear, (ec.tensor(x), ec.tensor(w), ec.tensor(b)), order=2)
    leaf = ec.tensor(w, requires_grad=True)
    y = ec.linear(x, leaf)
    np.testing.assert_allclose(y.detach(), x @ w.T)
    y.backward(np.ones(y.shape, dtype))
    assert leaf.grad.data.flags.c_contiguous


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32"])
def test_plain_numbers_do_not_widen(name) -> None:
    dtype = np.dtype(getattr(ml_dtypes, name, name))
    x, y = np.linspace(-2, 2, 6).astype(dtype), np.linspace(0, 1, 6).astype(dtype)
    results = [
        ec.prelu(x, 0.25), ec.prelu(x, 1), ec.elu(x, 0.5), ec.leaky_relu(x, 0.1), ec.celu(x, 0.5), ec.hardtanh(x, -0.5, 0.5),
        ec.softplus(x, 2.0), ec.binary_cross_entropy_with_logits(x, y, 2.0), ec.binary_cross_entropy_with_logits(x, y),
        ec.huber_loss(x, y, 0.5), ec.mse_loss(x, y), ec.l1_loss(x, y), ec.kl_div(x, y), ec.softmax(x), ec.log_softmax(x),
        ec.layer_norm(x, 6), ec.selu(x), ec.mish(x), ec.gelu(x, "tanh"),
    ]  # fmt: skip
    assert [result.dtype for result in results] == [dtype] * len(results)
