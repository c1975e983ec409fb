"""Function transforms against worked derivatives and PyTorch's; checkpoints, custom rules, anomalies, trees."""

from __future__ import annotations

import tracemalloc
from collections import namedtuple
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import eagerconv as ec
from eagerconv import func, tree

rng = np.random.default_rng(0)
A = rng.standard_normal((3, 3))
X = rng.standard_normal(3)


def quartic(x: Any) -> Any:
    return ((ec.asarray(A) @ x) ** 4).sum()


GRADIENT = 4 * A.T @ (A @ X) ** 3
HESSIAN = 12 * A.T @ np.diag((A @ X) ** 2) @ A

# ----- Gradients -----


def test_gradient_hessian_and_product() -> None:
    value, gradient = func.value_and_grad(quartic)(X)
    np.testing.assert_allclose(value.item(), ((A @ X) ** 4).sum())
    np.testing.assert_allclose(gradient, GRADIENT, rtol=1e-12)
    np.testing.assert_allclose(func.hessian(quartic)(X), HESSIAN, rtol=1e-12)
    np.testing.assert_allclose(func.hvp(quartic, [X], [A[0]])[0], HESSIAN @ A[0], rtol=1e-12)
    third = func.jacobian(func.hessian(quartic))(X)
    np.testing.assert_allclose(third, 24 * np.einsum("ai,aj,ak,a->ijk", A, A, A, A @ X), rtol=1e-11)


@pytest.mark.parametrize("mode", ["rev", "fwd", None])
def test_jacobian_of_a_convolution(mode: str | None) -> None:
    torch = pytest.importorskip("torch")
    x, w = rng.standard_normal((1, 2, 5)), rng.standard_normal((3, 2, 2))
    jx, jw = func.jacobian(lambda x, w: ec.conv1d(x, w, filter_flip=False) ** 2, (0, 1), mode)(x, w)
    expected = torch.autograd.functional.jacobian(
        lambda x, w: torch.nn.functional.conv1d(x, w) ** 2, (torch.tensor(x), torch.tensor(w))
    )
    np.testing.assert_allclose(jx, expected[0].numpy(), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(jw, expected[1].numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("mode", ["rev", "fwd"])
def test_jacobian_of_trees(mode: str) -> None:
    def f(p: Any, y: Any) -> Any:
        return {"sum": p["a"] + 2 * p["b"], "product": (p["a"] * y, p["b"].sum())}

    j = func.jacobian(f, mode=mode)({"a": X, "b": np.ones(3)}, 5.0)
    np.testing.assert_array_equal(j["sum"]["b"], 2 * np.eye(3))
    np.testing.assert_array_equal(j["product"][0]["a"], 5 * np.eye(3))
    np.testing.assert_array_equal(j["product"][0]["b"], np.zeros((3, 3)))
    np.testing.assert_array_equal(j["product"][1]["b"], np.ones(3))
    assert func.jacobian(lambda x: x[:0])(X).shape == (0, 3)
    z = np.array([1 + 2j, 3 - 1j])
    np.testing.assert_allclose(func.jacobian(lambda z: z * z, mode=mode)(z), np.diag(2 * z))


def test_argnums_aux_and_keywords() -> None:
    def f(x: Any, n: int, *, scale: float) -> Any:
        assert isinstance(n, int)  # what is not differentiated is passed on as it is
        return scale * (x**n).sum(), {"x": x, "n": n}

    gradient, aux = func.grad(f, has_aux=True)(X, 2, scale=3.0)
    np.testing.assert_allclose(gradient, 6 * X)
    assert aux["n"] == 2
    assert not aux["x"].requires_grad
    (value, _), (gy, gx) = func.value_and_grad(lambda x, y: (x * y**2, None), (1, 0), has_aux=True)(2.0, 3.0)
    assert (value.item(), gx.item(), gy.item()) == (18, 9, 12)
    assert func.grad(lambda x, y: x * y**2, -1)(2.0, 3.0).item() == 12
    with pytest.raises(TypeError, match="called with 1 positional arguments: there is no argnums=1"):
        func.grad(quartic, 1)(X)
    with pytest.raises(ValueError, match=r"must return one number to have a gradient; it returned shapes \[\(3,\)\]"):
        func.grad(lambda x: x)(X)
    with pytest.raises(TypeError, match="must return a pair"):
        func.grad(quartic, has_aux=True)(X)


Pair = namedtuple("Pair", "first second")


def test_trees_of_arguments_and_results() -> None:
    p = {"w": [X, X + 1], "b": Pair(np.ones(3), None), "steps": 7}

    def f(p: Any) -> Any:
        return (p["w"][0] * p["w"][1] * p["b"].first).sum()

    out, pullback = ec.vjp(f, p)
    (g,) = pullback(2.0)
    assert tree.flatten(g)[1] == tree.flatten({**p, "steps": None})[1]
    np.testing.assert_allclose(g["w"][0], 2 * (X + 1))
    np.testing.assert_allclose(g["b"].first, 2 * X * (X + 1))
    direction = {"w": [np.ones(3), np.zeros(3)], "b": Pair(np.zeros(3), None), "steps": None}
    same, slope = ec.jvp(f, [p], [direction])
    np.testing.assert_allclose(same, out)
    np.testing.assert_allclose(slope.item(), (X + 1).sum())
    _, pull_two = ec.vjp(lambda x: {"a": x, "b": [2 * x]}, X)
    np.testing.assert_allclose(pull_two({"b": [np.ones(3)], "a": np.zeros(3)})[0], [2, 2, 2])
    with pytest.raises(ValueError, match=r"cotangents: expected the keys \['a', 'b'\], got \['a'\]"):
        pull_two({"a": np.zeros(3)})


def test_what_is_outside_stays_tracked() -> None:
    w = ec.tensor(2.0, requires_grad=True)
    g = func.grad(lambda x: w * x**3)(2.0)
    assert g.item() == 24
    assert ec.grad(g, w)[0].item() == 12  # d/dw 3 w x^2
    with ec.no_grad():
        assert not func.grad(lambda x: w * x**3)(2.0).requires_grad
    assert not func.grad(lambda x: x**3)(2.0).requires_grad
    inner = func.grad(lambda x: func.grad(lambda y: x * y**2)(x))(3.0)  # d/dx (2 x y at y = x) = 4 x
    assert inner.item() == 12


# ----- Checkpoints -----


def block(p: Any, x: Any) -> Any:
    for _ in range(8):
        x = ec.tanh(p["a"] * x + p["b"])
    return x


P = {"a": np.full(3, 0.9), "b": X / 10}


def test_checkpoint_changes_no_derivative() -> None:
    plain, remade = (lambda p, x, f=f: (f(p, x) ** 2).sum() for f in (block, ec.func.checkpoint(block)))
    for transform in (
        lambda f: func.value_and_grad(f, (0, 1)), lambda f: func.hessian(f, 0), lambda f: func.jacobian(f, 0, "fwd")
    ):  # fmt: skip
        for ours, expected in zip(*(tree.leaves(transform(f)(P, X)) for f in (remade, plain)), strict=True):
            np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-15)
    ec.check_grads(lambda a, x: func.checkpoint(block)({"a": a, "b": P["b"]}, x), [P["a"], X])


def test_checkpoint_of_several_results_and_random_numbers() -> None:
    def noisy(x: Any, rng: np.random.Generator) -> Any:
        kept = ec.dropout(x, 0.5, rng)
        return {"kept": kept, "square": kept * kept}

    x = ec.tensor(np.arange(1.0, 101), requires_grad=True)
    state, draws = np.random.default_rng(5), np.random.default_rng(5)
    out = func.checkpoint(noisy)(x, state)
    expected = noisy(x, draws)
    np.testing.assert_array_equal(out["kept"].numpy(), expected["kept"].numpy())
    assert state.random() == draws.random()  # the outer generator moved on just as without a checkpoint
    for name in out:
        (g,), (e,) = (ec.grad(o[name].sum(), x, retain_graph=True) for o in (out, expected))
        np.testing.assert_array_equal(g, e)


def test_checkpoint_refuses_what_it_would_forget() -> None:
    w = ec.tensor(2.0, requires_grad=True)
    with pytest.raises(RuntimeError, match="uses a Tensor that requires a gradient and is not among its arguments"):
        func.checkpoint(lambda x: w * x)(ec.tensor(1.0, requires_grad=True))
    with ec.no_grad():
        assert func.checkpoint(lambda x: w * x)(3.0).item() == 6


def peak_of(function: Callable[[], Any]) -> int:
    tracemalloc.start()
    function()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def test_checkpoint_saves_memory() -> None:
    """16 blocks of 16 layers keep 256 activations without checkpoints, about 16 + 16 with them."""
    x = ec.tensor(np.linspace(0, 1, 10_000), requires_grad=True)

    def layers(x: Any) -> Any:
        for _ in range(16):
            x = ec.sin(x)
        return x

    def run(f: Any) -> Any:
        y = x
        for _ in range(16):
            y = f(y)
        return ec.grad(y.sum(), x)[0]

    np.testing.assert_array_equal(run(layers), run(func.checkpoint(layers)))
    size = x.data.nbytes
    plain, remade = peak_of(lambda: run(layers)), peak_of(lambda: run(func.checkpoint(layers)))
    assert plain > 250 * size
    assert remade < 50 * size


# ----- A rule of one's own -----


def test_custom_rule_is_used_and_can_be_differentiated() -> None:
    calls = []

    @func.custom_vjp(lambda g, ans, p, k: (calls.append(1), ({"x": g * k * p["x"] ** (k - 1)}, None))[1])
    def power(p: Any, k: int) -> Any:
        return p["x"].data ** k

    gradient = func.grad(lambda p: power(p, 3).sum())({"x": X})["x"]
    np.testing.assert_allclose(gradient, 3 * X**2)
    assert len(calls) == 1
    ec.check_grads(lambda x: power({"x": x}, 3), [X])


def test_custom_rule_is_called_once_for_all_arguments() -> None:
    calls = []

    def pullback(g: Any, ans: Any, x: Any, y: Any) -> Any:
        calls.append(ans)
        return g * y, g * x

    product = func.custom_vjp(pullback)(lambda x, y: x * y)
    ec.check_grads(product, [X, X + 1])
    calls.clear()
    x, y = ec.tensor(X, requires_grad=True), ec.tensor(X + 1, requires_grad=True)
    product(x, y).sum().backward()
    np.testing.assert_allclose(x.grad, X + 1)
    np.testing.assert_allclose(y.grad, X)
    assert len(calls) == 1


def test_custom_rule_once() -> None:
    @func.custom_vjp(lambda g, ans, x: g.data * np.cos(x.data), once=True)
    def sine(x: Any) -> Any:
        return np.sin(x.data)

    np.testing.assert_allclose(func.grad(lambda x: sine(x).sum())(X), np.cos(X))
    with pytest.raises(NotImplementedError, match="the gradient of sine has no derivative"):
        func.hessian(lambda x: sine(x).sum())(X)
    with pytest.raises(NotImplementedError, match="the gradient of sine has no derivative"):
        ec.jvp(sine, [X], [X])


def test_custom_rule_errors_and_identity() -> None:
    with pytest.raises(TypeError, match="must return 2 gradients, one per argument"):
        func.grad(func.custom_vjp(lambda g, ans, x, y: g)(lambda x, y: x * y))(1.0, 2.0)
    with pytest.raises(TypeError, match="expected to return a Tensor or an array, got dict"):
        func.custom_vjp(lambda g, ans, x: g)(lambda x: {})(1.0)
    x = ec.tensor([1.0, 2.0])
    y = func.custom_vjp(lambda g, ans, x: 10 * g)(lambda x: x)(x)
    y[0] = 5  # a result has memory of its own
    assert x.tolist() == [1, 2]
    assert func.grad(func.custom_vjp(lambda g, ans, x: None)(lambda x: x * 2))(1.0).item() == 0


# ----- Anomalies -----


def test_anomaly_forward_names_operation_and_line() -> None:
    x = ec.tensor([0.0, 1.0], requires_grad=True)

    def loss() -> Any:
        y = x - 1
        z = ec.log(y + 1)  # the culprit
        return (z * 2).sum()

    with ec.detect_anomaly(), pytest.raises(FloatingPointError) as error:
        loss()
    assert "log made 1 Inf in its result of shape (2,)" in str(error.value)
    assert f"in {__file__}" in str(error.value)
    assert str(error.value).endswith("z = ec.log(y + 1)  # the culprit")


def test_anomaly_backward_names_the_forward_line() -> None:
    x = ec.tensor([0.0, 1.0], requires_grad=True)
    with ec.detect_anomaly():
        y = ec.sqrt(x)  # finite, but steep
        loss = (y * 2).sum()
        with pytest.raises(FloatingPointError, match="the gradient of sqrt with respect to its 1st operand") as error:
            loss.backward()
    assert str(error.value).endswith("y = ec.sqrt(x)  # finite, but steep")
    loss = ec.sqrt(x).sum()
    with ec.detect_anomaly(), pytest.raises(FloatingPointError, match="before detect_anomaly"):
        loss.backward()


def test_anomaly_lets_old_infinities_pass_and_is_gone_afterwards() -> None:
    mask = ec.tensor([-np.inf, 0.0])
    x = ec.tensor([1.0, 2.0], requires_grad=True)
    with ec.detect_anomaly():
        assert ec.softmax(x + mask).tolist() == [0, 1]
        func.hessian(lambda x: ec.softmax(x + mask).sum())(x)
        with ec.detect_anomaly():
            ec.conv1d(np.ones((1, 1, 3)), np.ones((1, 1, 2)))
        with pytest.raises(FloatingPointError):
            ec.tensor([1.0]) / 0
    with np.errstate(all="ignore"):
        assert (ec.tensor([1.0]) / 0).item() == np.inf


# ----- Trees -----


def test_tree_errors() -> None:
    with pytest.raises(ValueError, match=r"trees\[1\]\['b'\]: expected the keys \[0\], got \[0, 1\]"):
        tree.zip_map(lambda a, b: a, {"b": [1]}, {"b": [1, 2]})
    with pytest.raises(ValueError, match=r"trees\[1\]: expected \[\*, \*\], got int"):
        tree.zip_map(lambda a, b: a, [1, 2], 3)
    with pytest.raises(ValueError, match=r"the structure \{'a': \*, 'b': \(\*, None\)\} has 2 leaves, not 1"):
        tree.unflatten(tree.flatten({"a": 1, "b": (2, None)})[1], [1])
    with pytest.raises(ValueError, match=r"the key 'a.b' has the separator '\.' in it"):
        tree.paths({"a.b": 1})
    with pytest.raises(ValueError, match="two leaves have the same path"):
        tree.paths({"1": 1, 1: 2})


def test_tree_comes_back() -> None:
    one = {"b": Pair(1, [2, (3,)]), "a": None, "c": {}, "d": ()}
    leaves, structure = tree.flatten(one)
    assert leaves == tree.leaves(one) == [1, 2, 3]
    assert tree.unflatten(structure, leaves) == one
    assert tree.zip_map(lambda x, y: x + y, one, {**one, "b": (10, (20, [30]))})["b"] == Pair(11, [22, (33,)])
