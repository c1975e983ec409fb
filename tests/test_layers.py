"""Gates and normalisations without a mean, and running statistics of instances: against PyTorch, plain loops, errors."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import eagerconv as ec
from eagerconv.func.gradcheck import check_grads

rng = np.random.default_rng(0)
X = rng.standard_normal((2, 6, 3, 4)) * 2
HALVES = (np.float16, ml_dtypes.bfloat16)
WEIGHT = rng.standard_normal((3, 4))


def calls(F: Any) -> dict[str, tuple[Any, list[Any]]]:
    """The same calls of our functions, or PyTorch's: functions of operands."""
    return {
        "celu": (lambda x: F.celu(x, 0.7), [X]),
        "glu": (lambda x: F.glu(x, 1), [X]),
        "glu, last": (F.glu, [X]),
        "rms": (lambda x: F.rms_norm(x, (3, 4), eps=1e-3), [X]),
        "rms, weight": (lambda x, w: F.rms_norm(x, (3, 4), w, 1e-5), [X, WEIGHT]),
        "response": (lambda x: F.local_response_norm(x, 3, 0.5, 0.6, 2.0), [X]),
        "response, even": (lambda x: F.local_response_norm(x, 4, 0.5), [X]),
        "response, no space": (lambda x: F.local_response_norm(x, 9), [X]),
    }


@pytest.mark.parametrize("name", calls(ec))
def test_values_and_gradients_are_pytorchs(name: str) -> None:
    torch = pytest.importorskip("torch")
    ours, operands = calls(ec)[name]
    mine = [ec.tensor(a, requires_grad=True) for a in operands]
    other = [torch.tensor(a, requires_grad=True) for a in operands]
    out, expected = ours(*mine), calls(torch.nn.functional)[name][0](*other)
    np.testing.assert_allclose(out.numpy(), expected.detach().numpy(), rtol=1e-12, atol=1e-15)
    out.backward(np.arange(out.size).reshape(out.shape) / 7)
    expected.backward(torch.arange(out.size).reshape(out.shape) / 7.0)
    for a, b in zip(mine, other, strict=True):
        np.testing.assert_allclose(
            a.grad.numpy(), b.grad.numpy(), rtol=1e-6, atol=1e-6
        )  # their cotangent is of float32


@pytest.mark.parametrize("name", calls(ec))
def test_derivatives_to_second_order(name: str) -> None:
    call, operands = calls(ec)[name]
    check_grads(lambda *a: call(*a) ** 2, [a[:1] if a.ndim == 4 else a for a in operands], rtol=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, *HALVES])
@pytest.mark.parametrize("name", calls(ec))
def test_dtypes_are_kept_and_squares_are_of_float32(name: str, dtype: Any) -> None:
    call, operands = calls(ec)[name]
    few = [ec.tensor((a * 300).astype(dtype) if a.ndim == 4 else a.astype(dtype), requires_grad=True) for a in operands]
    out = call(*few)
    assert out.dtype == dtype
    expected = call(*(a.numpy().astype(float) for a in few)).numpy()
    eps = float(ml_dtypes.finfo(dtype).eps)
    np.testing.assert_allclose(out.numpy().astype(float), expected, rtol=3 * eps, atol=eps)
    out.backward(np.ones(out.shape, dtype))
    assert all(a.grad.dtype == dtype for a in few)


def test_celu_is_elu_for_alpha_one_and_saturates() -> None:
    np.testing.assert_allclose(ec.celu(X), ec.elu(X), rtol=1e-15)
    assert ec.celu([-1e9, 1e9], 2.0).tolist() == [-2, 1e9]


def test_responses_are_those_of_loops() -> None:
    for size in (1, 2, 5):
        expected = np.empty_like(X)
        for c in range(6):
            near = X[:, max(0, c - size // 2) : c + (size - 1) // 2 + 1]
            expected[:, c] = X[:, c] / (1 + 0.3 * (near**2).sum(1) / size) ** 0.75
        np.testing.assert_allclose(ec.local_response_norm(X, size, 0.3), expected, rtol=1e-13)


@pytest.mark.parametrize("shape", [(3, 6), (3, 6, 5)])
def test_running_statistics_of_instances_are_pytorchs(shape: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch")
    running: Any = {"mean": np.zeros(6), "var": np.ones(6)}
    mean, var = torch.zeros(6, dtype=torch.float64), torch.ones(6, dtype=torch.float64)
    scale, shift = rng.standard_normal((2, 6))
    if len(shape) == 3:
        for step in range(3):
            x = rng.standard_normal(shape) + step
            out, new = ec.instance_norm(x, scale, shift, running=running, momentum=0.3)
            there = torch.nn.functional.instance_norm(
                torch.tensor(x), mean, var, torch.tensor(scale), torch.tensor(shift), True, 0.3
            )
            np.testing.assert_allclose(out.numpy(), there.numpy(), rtol=1e-10)
            np.testing.assert_array_equal(out.numpy(), ec.instance_norm(x, scale, shift).numpy())
            assert new is not running
            running = new
        np.testing.assert_allclose(running["mean"], mean.numpy(), rtol=1e-12)
        np.testing.assert_allclose(running["var"], var.numpy(), rtol=1e-12)
    x = rng.standard_normal(shape)
    out, same = ec.instance_norm(x, scale, shift, running=running, training=False)
    expected, _ = ec.batch_norm(x, running, scale, shift, training=False)
    assert same is running
    np.testing.assert_array_equal(out.numpy(), expected.numpy())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ec.glu(X, 2), ValueError, r"axis 2 must have an even length to be halved, got 3"),
        (lambda: ec.glu(X, 4), ValueError, "glu: axis 4 is out of bounds for array of dimension 4"),
        (lambda: ec.celu(X, 0), ValueError, r"alpha must be a number in \(0, inf\)"),
        (
            lambda: ec.rms_norm(X, 3),
            ValueError,
            r"the last axes of the input \(2, 6, 3, 4\) must be normalized_shape=\(3,\)",
        ),
        (
            lambda: ec.rms_norm(X, 4, WEIGHT),
            ValueError,
            r"weight must have shape normalized_shape=\(4,\), got \(3, 4\)",
        ),
        (lambda: ec.rms_norm(X, 4, eps=-1), ValueError, r"eps must be a number in \[0, inf\)"),
        (lambda: ec.rms_norm(X + 1j, 4), TypeError, "the input must be real, not complex128"),
        (lambda: ec.local_response_norm(X, 0), ValueError, "size must be an int of at least 1"),
        (lambda: ec.local_response_norm(X[0, 0, 0], 3), ValueError, r"must have shape \(N, C, ...\), got \(4,\)"),
        (lambda: ec.local_response_norm(X, 3, beta="b"), TypeError, "beta must be a number"),
        (lambda: ec.instance_norm(X, training=False), ValueError, "none were given: running="),
        (
            lambda: ec.instance_norm(X, running={"mean": [0], "var": [1]}),
            ValueError,
            r"running\['mean'\] must have shape",
        ),
        (
            lambda: ec.instance_norm(X[:, :, 0, 0], running={"mean": np.zeros(6), "var": np.ones(6)}),
            ValueError,
            "one value per",
        ),
        (lambda: ec.instance_norm(X, momentum=2), ValueError, r"momentum must be a number in \[0, 1\]"),
    ],
)
def test_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
