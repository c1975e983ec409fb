"""Activations, losses, dropout and pooling: values against plain loops and PyTorch, gradients, errors."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from eagerconv.functional import nn, pooling
from eagerconv.gradcheck import check_grads
from eagerconv.tensor import asarray, tensor
from eagerconv.transforms import grad

rng = np.random.default_rng(0)
X = rng.standard_normal((4, 3))

# ----- Layers and losses -----


@pytest.mark.parametrize("name", ["relu", "sigmoid", "softmax", "log_softmax"])
def test_activations_against_pytorch(name: str) -> None:
    torch = pytest.importorskip("torch")
    x, ref = tensor(X, requires_grad=True), torch.tensor(X, requires_grad=True)
    axis = (0,) if "softmax" in name else ()
    out, expected = getattr(nn, name)(x, *axis), getattr(torch, name)(ref, *axis)
    np.testing.assert_allclose(out.numpy(), expected.detach().numpy(), rtol=1e-12)
    (out * out).sum().backward()
    (expected * expected).sum().backward()
    np.testing.assert_allclose(x.grad.data, ref.grad.numpy(), rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cross_entropy(dtype: str) -> None:
    labels = np.array([2, 0, 0, 1])
    x = tensor(X, dtype, requires_grad=True)
    loss = nn.cross_entropy(x, labels)
    p = np.exp(X) / np.exp(X).sum(1, keepdims=True)
    assert loss.dtype == dtype
    np.testing.assert_allclose(loss.item(), -np.log(p[np.arange(4), labels]).mean(), rtol=1e-6)
    loss.backward()
    np.testing.assert_allclose(x.grad.data, (p - np.eye(3)[labels]) / 4, rtol=1e-5, atol=1e-7)
    check_grads(nn.cross_entropy, [X, labels])


def test_cross_entropy_errors() -> None:
    with pytest.raises(TypeError, match=r"labels must be integers.*not float64"):
        nn.cross_entropy(X, [0.0, 1.0, 2.0, 0.0])
    for logits, labels in ((X, [0, 1]), (X[0], 1), (X, np.zeros((4, 1), int))):
        with pytest.raises(ValueError, match=r"expected logits \(N, K\) and labels \(N,\)"):
            nn.cross_entropy(logits, labels)
    for labels in ([0, 1, 2, 3], [-1, 0, 0, 0]):
        with pytest.raises(ValueError, match="labels must lie from 0 to K - 1 = 2"):
            nn.cross_entropy(X, labels)
    with pytest.raises(ValueError, match="no examples"):
        nn.cross_entropy(X[:0], np.zeros(0, int))


def test_mse_loss() -> None:
    assert nn.mse_loss(X, X + 2).item() == pytest.approx(4)
    assert nn.mse_loss([1j], [1.0 + 0j]).item() == 2
    check_grads(nn.mse_loss, [X, X * X])
    with pytest.raises(ValueError, match=r"same shape, got \(4, 3\) and \(4, 1\)"):
        nn.mse_loss(X, X[:, :1])


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
    with pytest.raises(ValueError, match="p must be a probability"):
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
        ({"ws": 3, "pad": 1, "ignore_border": False}, ValueError, "only with ignore_border=True"),
        ({"ws": 9}, ValueError, r"no window fits: the input has size \(4, 5\).*give \(0, 0\)"),
        ({"ws": 2, "mode": "mean"}, ValueError, "mode must be one of"),
        ({"ws": 2, "input": np.ones(3)}, ValueError, r"at least the 2 pooled axes, got shape \(3,\)"),
        ({"ws": 2, "input": np.ones((4, 4)) * 1j}, TypeError, "complex"),
        ({"ws": 2, "input": np.ones((0, 4)), "ignore_border": False}, ValueError, "no window fits"),
    ],
)
def test_pool_errors(args: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        pooling.pool_2d(**{"input": np.ones((4, 5)), **args})


def test_pool_records_nothing_large() -> None:
    """Max pooling keeps its input and its result, nothing else; sum pooling nothing."""
    x = asarray(np.ones((2, 8, 8)))
    x.requires_grad = True
    y = pooling.max_pool2d(x, 2)
    assert {entry[0].shape for entry in y._node.saved.values()} == {(2, 8, 8), (2, 4, 4)}
    assert pooling.pool_2d(x, 2, mode="sum")._node.saved == {}
