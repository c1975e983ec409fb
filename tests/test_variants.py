"""Causal, depthwise, pointwise and separable convolution, and biases: values, derivatives, signatures, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from signatures import assert_follows, both_ways
from strategies import Problem, examples, integers, operands, problems, seeds

import eagerconv as ec

Array = npt.NDArray[Any]

# ----- signatures of the seeds -----

SEPARABLE = (
    "input, depthwise_filters, pointwise_filters, num_channels, input_shape=None, depthwise_filter_shape=None, "
    "pointwise_filter_shape=None, border_mode='valid', subsample={ones}, filter_flip=True, filter_dilation={ones}"
)
SEEDS = {
    "causal_conv1d": "input, filters, filter_shape, input_shape=None, subsample=1, filter_flip=True, filter_dilation=1, "
    "num_groups=1, unshared=False",
    "separable_conv2d": SEPARABLE.format(ones=(1, 1)),
    "separable_conv3d": SEPARABLE.format(ones=(1, 1, 1)),
}


@pytest.mark.parametrize("name", SEEDS)
def test_signature_of_the_seeds(name: str) -> None:
    assert_follows(getattr(ec, name), SEEDS[name], optional=("filter_shape",))


def test_causal_by_position_and_by_keyword() -> None:
    x, w = integers((2, 4, 9), 1, np.float64), integers((6, 2, 3), 2, np.float64)
    values = {"input": x, "filters": w, "filter_shape": (6, None, 3), "input_shape": (2, 4, None), "subsample": 2,
              "filter_flip": False, "filter_dilation": 3, "num_groups": 2, "unshared": False}  # fmt: skip
    result = both_ways(ec.causal_conv1d, SEEDS["causal_conv1d"], values)
    options = {"subsample": 2, "filter_flip": False, "filter_dilation": 3, "num_groups": 2}
    np.testing.assert_array_equal(result.numpy(), oracle.forward(x, w, border_mode=((6, 0),), **options))


@pytest.mark.parametrize("ndim", [2, 3])
def test_separable_by_position_and_by_keyword(ndim: int) -> None:
    x, dw, pw, options = separable_case(ndim)
    name = f"separable_conv{ndim}d"
    hints = {"input_shape": x.shape, "depthwise_filter_shape": dw.shape, "pointwise_filter_shape": pw.shape}
    arrays = {"input": x, "depthwise_filters": dw, "pointwise_filters": pw}
    result = both_ways(getattr(ec, name), SEEDS[name], {**arrays, "num_channels": 3, **hints, **options})
    np.testing.assert_array_equal(result.numpy(), separable_truth(x, dw, pw, options))


# ----- causal -----


def test_causal_by_hand() -> None:
    x, w = [[[1.0, 2.0, 3.0, 4.0]]], [[[1.0, 10.0, 100.0]]]
    # Flipped, the first tap meets the newest sample; unflipped, the last one does.
    assert ec.causal_conv1d(x, w).numpy().tolist() == [[[1, 12, 123, 234]]]
    assert ec.causal_conv1d(x, w, filter_flip=False).numpy().tolist() == [[[100, 210, 321, 432]]]
    assert ec.causal_conv1d(x, w, filter_dilation=2).numpy().tolist() == [[[1, 2, 13, 24]]]
    assert ec.causal_conv1d(x, w, subsample=2).numpy().tolist() == [[[1, 123]]]
    assert ec.causal_conv1d(x, w, subsample=3).shape == (1, 1, 2)


@given(p=problems((1,)), seed=seeds, unshared=st.booleans())
@examples(100)
def test_causal_is_padding_on_the_left(p: Problem, seed: int, unshared: bool) -> None:
    pad = (p.kernel[0] - 1) * p.dilation[0]
    p = Problem(
        p.batch, p.groups, p.cin, p.cout, p.size, p.kernel, ((pad, 0),), p.subsample, p.dilation, p.flip, unshared
    )
    x, w, _ = operands(p, seed, np.float64)
    keywords = p.keywords()
    del keywords["border_mode"]
    result = ec.causal_conv1d(x, w, w.shape, x.shape, **keywords)
    assert result.shape == (p.batch, p.groups * p.cout, (p.size[0] - 1) // p.subsample[0] + 1)
    np.testing.assert_array_equal(result.numpy(), p.solve("forward", x, w, None))
    np.testing.assert_array_equal(ec.conv1d(x, w, **{**keywords, "border_mode": "causal"}).numpy(), result.numpy())


@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("dilation", [1, 3])
def test_causal_looks_at_now_and_never_ahead(flip: bool, dilation: int) -> None:
    x, w = integers((1, 2, 12), 1, np.float64), np.ones((3, 2, 4))
    before = ec.causal_conv1d(x, w, filter_flip=flip, filter_dilation=dilation).numpy()
    for t in range(12):
        changed = x.copy()
        changed[..., t] += 1
        after = ec.causal_conv1d(changed, w, filter_flip=flip, filter_dilation=dilation).numpy()
        np.testing.assert_array_equal(after[..., :t], before[..., :t])
        assert (after[..., t] != before[..., t]).all()


def test_scipy_filters_causally() -> None:
    signal = pytest.importorskip("scipy.signal")
    x, w = integers((20,), 1, np.float64), integers((5,), 2, np.float64)
    np.testing.assert_array_equal(ec.causal_conv1d(x[None, None], w[None, None]).numpy()[0, 0], signal.lfilter(w, 1, x))


# ----- depthwise, pointwise, separable -----


@given(p=problems(empty=False, unshared=False), seed=seeds)
@examples(60)
def test_depthwise_has_a_group_per_channel(p: Problem, seed: int) -> None:
    p = Problem(p.batch, p.groups, 1, p.cout, p.size, p.kernel, p.border_mode, p.subsample, p.dilation, p.flip)
    x, w, _ = operands(p, seed, np.float64)
    keywords = p.keywords()
    del keywords["num_groups"], keywords["unshared"]
    result = getattr(ec, f"depthwise_conv{p.ndim}d")(x, w, x.shape, w.shape, **keywords)
    np.testing.assert_array_equal(result.numpy(), p.solve("forward", x, w, None))


def test_depthwise_is_channel_major() -> None:
    # Two filters per channel: outputs 0 and 1 are of channel 0.
    result = ec.depthwise_conv1d([[[1.0], [2.0]]], [[[1.0]], [[10.0]], [[100.0]], [[1000.0]]])
    assert result.numpy().ravel().tolist() == [1, 10, 200, 2000]


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_pointwise_mixes_channels(ndim: int) -> None:
    sizes = (3, 4, 2)[:ndim]
    x, w = integers((2, 5, *sizes), 1, np.float64), integers((3, 5), 2, np.float64)
    filters = w.reshape(3, 5, *(1,) * ndim)
    pointwise = getattr(ec, f"pointwise_conv{ndim}d")
    result = pointwise(x, filters, x.shape, filters.shape, bias=[1.0, 2.0, 3.0]).numpy()
    bias = np.array([1.0, 2.0, 3.0]).reshape(3, *(1,) * ndim)
    np.testing.assert_array_equal(result, np.einsum("fc,nc...->nf...", w, x) + bias)


def separable_case(ndim: int) -> tuple[Array, Array, Array, dict[str, Any]]:
    """Draw 3 channels with 2 filters each, mixed to 4, under options that differ from axis to axis."""
    x, dw = integers((2, 3, *(7, 8, 6)[:ndim]), 1, np.float64), integers((6, 1, *(3, 2, 2)[:ndim]), 2, np.float64)
    options = {"border_mode": ((1, 2), 0, 1)[:ndim], "subsample": (2, 1, 2)[:ndim], "filter_flip": False,
               "filter_dilation": (1, 2, 1)[:ndim]}  # fmt: skip
    return x, dw, integers((4, 6, *(1,) * ndim), 3, np.float64), options


def separable_truth(x: Array, dw: Array, pw: Array, options: dict[str, Any]) -> Array:
    return oracle.forward(oracle.forward(x, dw, num_groups=x.shape[1], **options), pw)


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("border_mode", ["valid", "half", "full", "same", 1])
@pytest.mark.parametrize("flip", [True, False])
def test_separable_is_depthwise_then_pointwise(ndim: int, border_mode: Any, flip: bool) -> None:
    x, dw, pw, options = separable_case(ndim)
    options = {**options, "border_mode": border_mode, "filter_flip": flip}
    result = getattr(ec, f"separable_conv{ndim}d")(x, dw, pw, 3, **options)
    np.testing.assert_array_equal(result.numpy(), separable_truth(x, dw, pw, options))


def test_torch_agrees_on_separable() -> None:
    torch = pytest.importorskip("torch")
    x, dw, pw, _ = separable_case(2)
    ours = ec.separable_conv2d(x, dw, pw, 3, border_mode=1, subsample=2, filter_flip=False)
    conv = torch.nn.functional.conv2d
    theirs = conv(conv(torch.tensor(x), torch.tensor(dw), padding=1, stride=2, groups=3), torch.tensor(pw))
    np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


# ----- biases -----

BIASED = {
    **{f"conv{n}d": ((2, 4, *(5,) * n), (6, 2, *(2,) * n), {"num_groups": 2}, 6) for n in (1, 2, 3)},
    **{f"conv{n}d_transpose": ((2, 6, *(4,) * n), (6, 2, *(2,) * n), {"num_groups": 2}, 4) for n in (1, 2, 3)},
    "causal_conv1d": ((2, 4, 5), (6, 4, 2), {}, 6),
    "depthwise_conv1d": ((2, 4, 5), (8, 1, 2), {}, 8),
    "depthwise_conv2d": ((2, 4, 5, 5), (8, 1, 2, 2), {}, 8),
    "depthwise_conv3d": ((2, 4, 3, 3, 3), (4, 1, 2, 2, 2), {}, 4),
    "pointwise_conv2d": ((2, 4, 5, 5), (6, 4, 1, 1), {}, 6),
}
every_biased = pytest.mark.parametrize("name", BIASED)


@every_biased
def test_bias_is_added_to_every_position_of_its_channel(name: str) -> None:
    x, w, options, channels = BIASED[name]
    x, w = integers(x, 1, np.float64), integers(w, 2, np.float64)
    bias = np.arange(1.0, channels + 1)
    plain, result = (getattr(ec, name)(x, w, bias=b, **options).numpy() for b in (None, bias))
    assert plain.shape[1] == channels
    np.testing.assert_array_equal(result, plain + bias.reshape(-1, *(1,) * (x.ndim - 2)))


@every_biased
@pytest.mark.parametrize("shape", [(), (1,), (5,), (1, 6), (6, 1, 1)], ids=str)
def test_bias_of_another_shape(name: str, shape: tuple[int, ...]) -> None:
    x, w, options, channels = BIASED[name]
    with pytest.raises(ValueError, match=rf"{name}: bias must have shape \({channels},\).*got \({str(shape)[1:-1]}\)"):
        getattr(ec, name)(np.ones(x), np.ones(w), bias=np.ones(shape), **options)


def test_bias_that_is_no_array_of_numbers() -> None:
    with pytest.raises(TypeError, match="conv1d: bias"):
        ec.conv1d(np.ones((1, 1, 3)), np.ones((1, 1, 2)), bias=np.array(["a"]))


def test_bias_takes_part_in_the_dtype() -> None:
    x, w = np.ones((1, 1, 3), np.float32), np.ones((2, 1, 2), np.float32)
    assert ec.conv1d(x, w, bias=np.ones(2, np.float32)).dtype == np.float32
    assert ec.conv1d(x, w, bias=np.ones(2)).dtype == np.float64
    assert ec.conv1d(x, w, bias=np.ones(2, np.int8)).dtype == np.float32
    # 2**24 + 1 is no float32: the sum itself must be in the common dtype.
    large = np.array([[[2**24, 1.0]]], np.float32)
    assert ec.conv1d(large, w, bias=np.zeros(2)).numpy().ravel().tolist() == [2**24 + 1] * 2


def test_separable_bias() -> None:
    x, dw, pw, options = separable_case(2)
    bias = np.arange(4.0)
    result = ec.separable_conv2d(x, dw, pw, 3, bias=bias, **options).numpy()
    np.testing.assert_array_equal(result, separable_truth(x, dw, pw, options) + bias[:, None, None])


# ----- derivatives -----


@every_biased
def test_derivatives(name: str) -> None:
    # Linear in each argument: central differences are exact with any step.
    x, w, options, channels = BIASED[name]
    arrays = (integers(x, 1, np.float64), integers(w, 2, np.float64), integers((channels,), 3, np.float64))
    f = getattr(ec, name)
    ec.check_grads(lambda x, w, b: f(x, w, bias=b, **options), arrays, 2, ("fwd", "rev"), eps=1.0)


@pytest.mark.parametrize("ndim", [2, 3])
def test_derivatives_of_separable(ndim: int) -> None:
    *arrays, options = separable_case(ndim)
    f = getattr(ec, f"separable_conv{ndim}d")
    arrays.append(integers((4,), 4, np.float64))
    ec.check_grads(lambda x, d, p, b: f(x, d, p, 3, bias=b, **options), arrays, 2, ("fwd", "rev"), eps=1.0)


@pytest.mark.parametrize("ndim", [1, 3])
def test_derivatives_of_pointwise(ndim: int) -> None:
    arrays = integers((2, 3, *(2,) * ndim), 1, np.float64), integers((4, 3, *(1,) * ndim), 2, np.float64)
    f = getattr(ec, f"pointwise_conv{ndim}d")
    ec.check_grads(f, arrays, 2, ("fwd", "rev"), eps=1.0)


@pytest.mark.parametrize("options", [{"unshared": True}, {"subsample": 2, "filter_dilation": 2, "filter_flip": False}])
def test_derivatives_of_causal(options: dict[str, Any]) -> None:
    w = (3, 6, 2, 3) if "unshared" in options else (3, 2, 3)
    arrays = integers((2, 2, 6), 1, np.float64), integers(w, 2, np.float64)
    ec.check_grads(lambda x, w: ec.causal_conv1d(x, w, **options), arrays, 2, ("fwd", "rev"), eps=1.0)


def test_complex_derivatives() -> None:
    arrays = [integers(shape, 1, np.complex128) for shape in ((1, 2, 4, 3), (4, 1, 2, 2), (3, 4, 1, 1), (3,))]
    ec.check_grads(lambda x, d, p, b: ec.separable_conv2d(x, d, p, 2, bias=b), arrays, 2, ("fwd", "rev"), eps=1.0)


# ----- errors -----

X, DW, PW = np.ones((2, 3, 7, 7)), np.ones((6, 1, 3, 3)), np.ones((4, 6, 1, 1))
SPOILT: list[tuple[str, tuple[Any, ...], dict[str, Any], type[Exception], str]] = [
    ("causal_conv1d", (np.ones((1, 2, 5)), np.ones((3, 2, 2)), (3, 2, 4)), {}, ValueError, "filter_shape"),
    ("causal_conv1d", (np.ones((1, 2, 5)), np.ones((3, 2, 2)), None, (1, 2, 6)), {}, ValueError, "input_shape"),
    ("causal_conv1d", (np.ones((1, 2, 5, 1)), np.ones((3, 2, 2))), {}, ValueError, "causal_conv1d: input must have 3 axes"),
    ("causal_conv1d", (np.ones((1, 2, 5)), np.ones((3, 2, 2, 1))), {}, ValueError, "filters must have 3 axes"),
    ("causal_conv1d", (np.ones((1, 2, 5)), np.ones((3, 1, 2))), {}, ValueError, r"filters .*\b1 input channels"),
    ("causal_conv1d", (np.ones((1, 2, 5)), np.ones((3, 2, 2))), {"subsample": 0}, ValueError, "subsample"),
    ("causal_conv1d", (np.ones((1, 2, 5)), np.ones((3, 2, 2))), {"filter_dilation": (1, 1)}, ValueError, "filter_dilation"),
    ("causal_conv1d", (np.ones((1, 2, 0)), np.ones((3, 2, 2))), {}, ValueError, "output would have 0"),
    ("causal_conv1d", (np.ones((1, 2, 5)), np.ones((3, 2, 2))), {"num_groups": 3}, ValueError, "num_groups"),
    ("causal_conv1d", (np.ones((1, 2, 5)), np.ones((3, 2, 2))), {"border_mode": 1}, TypeError, "border_mode"),
    ("causal_conv1d", (np.ones((1, 2, 5)), np.ones((3, 2, 2))), {"stride": 1}, TypeError, "use subsample="),
    ("causal_conv1d", (np.ones((1, 2, 5)), np.ones((3, 4, 2, 2))), {"unshared": True}, ValueError, "output position"),
    ("depthwise_conv2d", (X, np.ones((6, 3, 3, 3))), {}, ValueError, r"filters must .* 3 channels; got \(6, 3, 3, 3\)"),
    ("depthwise_conv2d", (X, np.ones((7, 1, 3, 3))), {}, ValueError, r"multiplier, 1, .* got \(7, 1, 3, 3\)"),
    ("depthwise_conv2d", (X[0], DW), {}, ValueError, "depthwise_conv2d: input must have 4 axes"),
    ("depthwise_conv2d", (X, DW), {"num_groups": 3}, TypeError, "num_groups"),
    ("depthwise_conv1d", (1.0, np.ones((1, 1, 1))), {}, ValueError, "input must have 3 axes"),
    ("depthwise_conv3d", ("text", DW), {}, TypeError, "input"),
    ("pointwise_conv2d", (X, np.ones((4, 3, 1, 3))), {}, ValueError, r"one tap, shape .*, 1, 1\), got \(4, 3, 1, 3\)"),
    ("pointwise_conv2d", (X, np.ones((4, 3))), {}, ValueError, "filters must have 4 axes"),
    ("pointwise_conv2d", (X, np.ones((4, 2, 1, 1))), {}, ValueError, r"filters .*\b2 input channels"),
    ("pointwise_conv2d", (X, np.ones((4, 3, 1, 1))), {"subsample": 2}, TypeError, "subsample"),
    ("separable_conv2d", (X, DW, PW, 4), {}, ValueError, "num_channels must be .* 3, got 4"),
    ("separable_conv2d", (X, DW, PW, 3.0), {}, ValueError, "num_channels"),
    ("separable_conv2d", (X, DW, PW, None), {}, ValueError, "num_channels"),
    ("separable_conv2d", (X, DW, PW), {}, TypeError, "num_channels"),
    ("separable_conv2d", (X, DW[:5], PW, 3), {}, ValueError, "depthwise_filters must .* 3 channels"),
    ("separable_conv2d", (X, DW[0], PW, 3), {}, ValueError, "depthwise_filters must have 4 axes"),
    ("separable_conv2d", (X, PW, PW, 3), {}, ValueError, "depthwise_filters must have shape"),
    ("separable_conv2d", (X, DW, DW, 3), {}, ValueError, "pointwise_filters must have one tap"),
    ("separable_conv2d", (X, DW, PW[:, :5], 3), {}, ValueError, "pointwise_filters .* 5 input .* the depthwise output .* 6"),
    ("separable_conv2d", (X, DW, PW, 3, (2, 3, 7, 8)), {}, ValueError, "input_shape"),
    ("separable_conv2d", (X, DW, PW, 3, None, (6, 1, 3, 4)), {}, ValueError, "depthwise_filter_shape"),
    ("separable_conv2d", (X, DW, PW, 3, None, None, (4, 5, 1, 1)), {}, ValueError, "pointwise_filter_shape"),
    ("separable_conv2d", (X, DW, PW, 3), {"bias": np.ones(6)}, ValueError, r"bias must have shape \(4,\)"),
    ("separable_conv2d", (X, DW, PW, 3), {"border_mode": "causal"}, ValueError, "border_mode"),
    ("separable_conv2d", (X, DW, PW, 3), {"padding": 1}, TypeError, "use border_mode="),
    ("separable_conv3d", (X, DW, PW, 3), {}, ValueError, "separable_conv3d: input must have 5 axes"),
    ("separable_conv3d", (X, DW, PW, 3), {"algorithm": "fastest"}, ValueError, "separable_conv3d|fastest"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "arguments", "options", "error", "told"), SPOILT, ids=[f"{case[0]} {case[4]}" for case in SPOILT]
)
def test_bad_arguments(name: str, arguments: Any, options: Any, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        getattr(ec, name)(*arguments, **options)


# ----- choosing -----


@pytest.mark.parametrize("algorithm", ["direct", "gemm"])
def test_algorithm_is_passed_on(algorithm: str) -> None:
    x, dw, pw, options = separable_case(2)
    explained = ec.explain(ec.separable_conv2d, x, dw, pw, 3, algorithm=algorithm, **options)
    assert [row.chosen for row in explained] == [algorithm] * 2
    x, w = np.ones((1, 2, 5)), np.ones((2, 2, 3))
    assert [row.chosen for row in ec.explain(ec.causal_conv1d, x, w, algorithm=algorithm)] == [algorithm]
