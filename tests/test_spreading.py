"""Images that are spread out and batches in groups: JAX's lhs_dilation and batch_group_count, written out with the oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracle
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import eagerconv as ec
from eagerconv.func.gradcheck import check_grads

CONV = {1: ec.conv1d, 2: ec.conv2d, 3: ec.conv3d}


def spread(x: Any, steps: Any) -> Any:
    """With zeros between the elements, as XLA defines base dilation."""
    out = np.zeros((*x.shape[:2], *((n - 1) * e + 1 for n, e in zip(x.shape[2:], steps, strict=True))), x.dtype)
    out[(..., *(slice(None, None, e) for e in steps))] = x
    return out


@st.composite
def problems(draw: st.DrawFn) -> tuple[Any, Any, Any, dict[str, Any]]:
    ndim = draw(st.integers(1, 3))

    def ints(low: int, high: int) -> tuple[int, ...]:
        return draw(st.tuples(*[st.integers(low, high)] * ndim))

    steps, kernel, dilation = ints(1, 3), ints(1, 3), ints(1, 2)
    size, stride = ints(1, 4), draw(st.sampled_from([(1,) * ndim, ints(1, 3)]))
    groups, unshared = draw(st.integers(1, 2)), draw(st.integers(0, 3)) == 0
    border: Any = draw(st.sampled_from(["valid", "full", "half", "same", "same_lower", "pairs", "pairs"]))
    if border == "pairs":
        border = tuple(zip(ints(0, 4), ints(0, 4), strict=True))
    options = {"border_mode": border, "subsample": stride, "filter_flip": draw(st.booleans()),
               "filter_dilation": dilation, "num_groups": groups, "unshared": unshared}  # fmt: skip
    whole = tuple((n - 1) * e + 1 for n, e in zip(size, steps, strict=True))
    padding = oracle.pads(border, whole, kernel, stride, dilation)
    out = oracle.out_size(whole, kernel, padding, stride, dilation)
    assume(min(out) > 0)
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    cin, cout = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    x = rng.integers(-9, 9, (2, groups * cin, *size)).astype(float)
    w = rng.integers(-9, 9, (groups * cout, *(out if unshared else ()), cin, *kernel)).astype(float)
    return x, w, steps, options


@given(problems())
def test_values_and_gradients_are_those_of_zeros_put_in(problem: tuple[Any, Any, Any, dict[str, Any]]) -> None:
    x, w, steps, options = problem
    a, b = ec.tensor(x, requires_grad=True), ec.tensor(w, requires_grad=True)
    out = CONV[x.ndim - 2](a, b, input_dilation=steps, **options)
    wide = spread(x, steps)
    np.testing.assert_array_equal(out.numpy(), oracle.forward(wide, w, **options))
    v = np.arange(float(out.size)).reshape(out.shape) % 7 - 3
    out.backward(v)
    back = oracle.grad_inputs(v, w, wide.shape, **options)[(..., *(slice(None, None, e) for e in steps))]
    np.testing.assert_array_equal(a.grad.numpy(), back)
    np.testing.assert_array_equal(b.grad.numpy(), oracle.grad_weights(wide, v, w.shape, **options))


@given(problems(), st.integers(1, 3))
def test_batches_in_groups_are_the_convolutions_of_their_blocks(problem: Any, count: int) -> None:
    x, w, steps, options = problem
    assume(options["num_groups"] == 1)
    rng = np.random.default_rng(0)
    x = rng.integers(-9, 9, (2 * count, *x.shape[1:])).astype(float)
    w = rng.integers(-9, 9, (count * w.shape[0], *w.shape[1:])).astype(float)
    out = CONV[x.ndim - 2](x, w, input_dilation=steps, num_batch_groups=count, **options)
    pairs = zip(np.split(spread(x, steps), count), np.split(w, count), strict=True)
    expected = np.concatenate([oracle.forward(block, filters, **options) for block, filters in pairs], 1)
    np.testing.assert_array_equal(out.numpy(), expected)


@pytest.mark.parametrize(
    "options",
    [
        {"input_dilation": 2, "border_mode": 1}, {"input_dilation": (1, 3), "subsample": 2, "filter_dilation": (2, 1)},
        {"num_batch_groups": 2}, {"num_batch_groups": 2, "input_dilation": 2, "filter_flip": False},
    ],
)  # fmt: skip
def test_derivatives_to_second_order_in_both_modes(options: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    x, w, b = rng.standard_normal((2, 2, 3, 4)), rng.standard_normal((4, 2, 2, 2)), rng.standard_normal(4)
    check_grads(lambda x, w, b: ec.conv2d(x, w, bias=b, **options), [x, w, b])


def test_bias_activation_dtype_and_algorithm_come_along() -> None:
    rng = np.random.default_rng(0)
    x, w, b = rng.standard_normal((2, 3, 5)).astype("f"), rng.standard_normal((4, 3, 3)).astype("f"), np.ones(4, "f")
    for stride in (1, 2):
        for algorithm in ("auto", "direct"):
            out = ec.conv1d(
                x, w, None, (4, 3, 3), 1, stride, input_dilation=2, bias=b, activation="relu", algorithm=algorithm
            )
            expected = oracle.forward(spread(x, (2,)), w, border_mode=1, subsample=stride) + 1
            assert out.dtype == np.float32
            np.testing.assert_allclose(out.numpy(), np.maximum(expected, 0), rtol=1e-5, atol=1e-5)
    whole = ec.conv1d(x.astype(int), w.astype(int), input_dilation=(1,), num_batch_groups=1)
    np.testing.assert_array_equal(whole.numpy(), oracle.forward(x.astype(int), w.astype(int)))
    assert ec.conv1d(np.ones((0, 3, 5)), w, input_dilation=2).shape == (0, 4, 7)


def test_zeros_are_not_put_in_at_stride_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from eagerconv.functional import spreading

    monkeypatch.delattr(spreading, "spread")
    for border in ("valid", "same", "full", 1):
        assert ec.conv2d(np.ones((1, 1, 4, 4)), np.ones((1, 1, 3, 3)), border_mode=border, input_dilation=3).ndim == 4


X, W = np.ones((4, 2, 5)), np.ones((4, 2, 3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_dilation": 0}, r"conv1d: input_dilation must be one int >= 1, or one per axis \(length\), got 0"),
        ({"input_dilation": (1, 2)}, "input_dilation must be one int >= 1"),
        ({"input_dilation": 1.5}, "input_dilation must be made of ints"),
        ({"input_dilation": 2, "input_shape": (4, 2, 9)}, r"input_shape \(4, 2, 9\) does not match .* \(4, 2, 5\)"),
        ({"num_batch_groups": 3}, "num_batch_groups=3 does not divide the 4 images of the batch"),
        (
            {"num_batch_groups": 2, "filters": np.ones((3, 2, 3))},
            "does not divide the 3 output channels of the filters",
        ),
        ({"num_batch_groups": 2, "num_groups": 2}, "num_batch_groups=2 does not go with num_groups=2; leave one out"),
        ({"num_batch_groups": 0}, "num_batch_groups must be an int of at least 1, not 0"),
        ({"input_dilation": 2, "filters": np.ones((4, 3, 3))}, "take 3 input channels per group"),
        ({"input_dilation": 2, "input": np.ones((4, 2))}, "input must have 3 axes"),
    ],
)
def test_errors(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ec.conv1d(**{"input": X, "filters": W, **arguments})
    with pytest.raises(TypeError, match="unexpected keyword argument 'strides'"):
        ec.conv1d(X, W, input_dilation=2, strides=1)
