"""ec.legacy: every old function against the oracle in the old order of axes, by hand, in derivatives, and in errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import oracle
import pytest
from signatures import assert_follows, both_ways
from strategies import integers

import eagerconv as ec
from eagerconv import legacy

Array = npt.NDArray[Any]

FFT = "input, filters, image_shape=None, filter_shape=None, border_mode='valid', pad_last_dim=False"
OLD = "input, filters, image_shape=None, filter_shape=None, border_mode='valid', subsample=(1, 1), **kargs"
SEEDS = {
    "conv3d2d": "signals, filters, signals_shape=None, filters_shape=None, border_mode='valid'",
    "signal_conv2d": OLD,
    "nnet_conv2d": OLD,
    "conv3D": "V, W, b, d",
    "conv2d_fft": FFT,
    "conv3d_fft": FFT,
}


@pytest.mark.parametrize("name", SEEDS)
def test_signature_of_the_seeds(name: str) -> None:
    assert_follows(getattr(legacy, name), SEEDS[name])


def test_every_function_is_tested_here() -> None:
    assert set(legacy.__all__) == {*TRUTHS, "dnn_conv"}


def test_every_docstring_tells_the_call_of_today() -> None:
    for name in legacy.__all__:
        assert "Deprecated: " in getattr(legacy, name).__doc__


# ----- truths: the same sums by the oracle, whatever the order of axes -----

MOVIE = (0, 2, 1, 3, 4)  # (N, T, C, H, W) <-> (N, C, T, H, W)
LAST_TO_FIRST, FIRST_TO_LAST = (0, 4, 1, 2, 3), (0, 2, 3, 4, 1)
TO_BC01, TO_C01B = (3, 0, 1, 2), (1, 2, 3, 0)


def movie(signals: Array, filters: Array, **options: Any) -> Array:
    return oracle.forward(signals.transpose(MOVIE), filters.transpose(MOVIE), **options).transpose(MOVIE)


def volume(v: Array, w: Array, b: Array, d: Any) -> Array:
    y = oracle.forward(v.transpose(LAST_TO_FIRST), w.transpose(LAST_TO_FIRST), subsample=d, filter_flip=False)
    return y.transpose(FIRST_TO_LAST) + b


def every_image_with_every_filter(input: Array, filters: Array, **options: Any) -> Array:
    return np.array([[oracle.forward(x[None, None], w[None, None], **options)[0, 0] for w in filters] for x in input])


def correlation(input: Array, filters: Array, **options: Any) -> Array:
    return oracle.forward(input, filters, filter_flip=False, **options)


def c01b(input: Array, filters: Array, **options: Any) -> Array:
    return correlation(input.transpose(TO_BC01), filters.transpose(TO_BC01), **options).transpose(TO_C01B)


TRUTHS: dict[str, tuple[Callable[..., Array], list[tuple[int, ...]], list[dict[str, Any]]]] = {
    "conv3d2d": (movie, [(2, 5, 3, 6, 7), (4, 2, 3, 3, 2)], [{}, {"border_mode": "full"}, {"border_mode": "half"}]),
    "signal_conv2d": (every_image_with_every_filter, [(3, 6, 7), (2, 3, 2)],
                      [{}, {"border_mode": "full"}, {"border_mode": "full", "subsample": (2, 3)}]),
    "nnet_conv2d": (oracle.forward, [(2, 3, 6, 7), (4, 3, 3, 2)],
                    [{}, {"border_mode": "full"}, {"border_mode": "full", "subsample": (2, 3)}]),
    "conv3D": (volume, [(2, 6, 5, 7, 3), (4, 3, 2, 3, 3), (4,)], [{"d": (1, 1, 1)}, {"d": (3, 1, 2)}]),
    "conv2d_fft": (oracle.forward, [(2, 3, 6, 7), (4, 3, 3, 2)], [{}, {"border_mode": "full"}]),
    "conv3d_fft": (oracle.forward, [(2, 3, 4, 6, 5), (4, 3, 2, 3, 2)], [{}, {"border_mode": "full"}]),
    "corr_mm": (correlation, [(2, 6, 6, 7), (4, 3, 3, 2)],
                [{"num_groups": 2}, {"num_groups": 2, "border_mode": "half"},
                 {"num_groups": 2, "border_mode": ((1, 0), 2), "subsample": (2, 1), "filter_dilation": (1, 2)}]),
    "corr3d_mm": (correlation, [(2, 6, 4, 6, 5), (4, 3, 2, 3, 2)],
                  [{"num_groups": 2},
                   {"num_groups": 2, "border_mode": 1, "subsample": (2, 1, 1), "filter_dilation": (1, 2, 1)}]),
    "conv2d_c01b": (c01b, [(3, 6, 7, 2), (3, 3, 2, 4)],
                    [{}, {"border_mode": "half"}, {"border_mode": (1, 0), "subsample": (2, 1)}]),
}  # fmt: skip
CASES = [pytest.param(name, options, id=f"{name} {options}") for name in TRUTHS for options in TRUTHS[name][2]]


def operands(name: str, dtype: Any = np.float64) -> list[Array]:
    return [integers(shape, n, dtype) for n, shape in enumerate(TRUTHS[name][1])]


@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values(name: str, options: dict[str, Any], dtype: Any) -> None:
    arrays = operands(name, dtype)
    result = getattr(legacy, name)(*arrays, **options)
    assert isinstance(result, ec.Tensor)
    assert result.dtype == dtype
    values = np.rint(result.numpy()) if "fft" in name else result.numpy()
    np.testing.assert_array_equal(values, TRUTHS[name][0](*arrays, **options))


@pytest.mark.parametrize(("name", "options"), CASES)
def test_derivatives(name: str, options: dict[str, Any]) -> None:
    # Linear in each argument: central differences are exact with any step.
    f = getattr(legacy, name)
    ec.check_grads(lambda *arrays: f(*arrays, **options), operands(name), 2, ("fwd", "rev"), eps=1.0)


@pytest.mark.parametrize("name", [name for name in TRUTHS if not name.startswith("corr")])  # gemm has none
def test_complex_derivatives(name: str) -> None:
    f, options = getattr(legacy, name), TRUTHS[name][2][0]
    arrays = operands(name, np.complex128)
    ec.check_grads(lambda *arrays: f(*arrays, **options), arrays, 2, ("fwd", "rev"), eps=1.0)


def test_by_position_and_by_keyword() -> None:
    hints = {"image_shape": (2, 3, 6, None), "filter_shape": (4, None, 3, 2)}
    x, w = operands("nnet_conv2d")
    both_ways(legacy.nnet_conv2d, SEEDS["nnet_conv2d"],
              {"input": x, "filters": w, **hints, "border_mode": "full", "subsample": (2, 1)})  # fmt: skip
    both_ways(legacy.conv2d_fft, FFT, {"input": x, "filters": w, **hints, "border_mode": "full", "pad_last_dim": True})
    x, w = operands("conv3d_fft")
    both_ways(legacy.conv3d_fft, FFT, {"input": x, "filters": w, "image_shape": x.shape, "filter_shape": w.shape,
                                       "border_mode": "full", "pad_last_dim": True})  # fmt: skip
    x, w = operands("signal_conv2d")
    both_ways(legacy.signal_conv2d, OLD, {"input": x, "filters": w, "image_shape": (None, 6, 7), "filter_shape": w.shape,
                                          "border_mode": (1, 0), "subsample": (2, 1)})  # fmt: skip
    x, w = operands("conv3d2d")
    both_ways(legacy.conv3d2d, SEEDS["conv3d2d"],
              {"signals": x, "filters": w, "signals_shape": x.shape, "filters_shape": (None, *w.shape[1:]),
               "border_mode": ("valid", "full", "half")})  # fmt: skip
    v, w, b = operands("conv3D")
    both_ways(legacy.conv3D, SEEDS["conv3D"], {"V": v, "W": w, "b": b, "d": [1, 2, 3]})


# ----- one by one -----


def test_conv3d2d_by_hand() -> None:
    signals, filters = np.array([1.0, 2.0, 3.0]).reshape(1, 3, 1, 1, 1), np.array([1.0, 10.0]).reshape(1, 2, 1, 1, 1)
    assert legacy.conv3d2d(signals, filters).numpy().ravel().tolist() == [12, 23]
    assert legacy.conv3d2d(signals, filters, border_mode="full").numpy().ravel().tolist() == [1, 12, 23, 30]


def test_conv3d2d_takes_a_border_mode_for_each_axis() -> None:
    x, w = operands("conv3d2d")  # kernel (2, 3, 2)
    result = legacy.conv3d2d(x, w, border_mode=("full", "half", "valid"))
    np.testing.assert_array_equal(result.numpy(), movie(x, w, border_mode=(1, 1, 0)))
    assert legacy.conv3d2d(x, w, border_mode=["valid", "valid", "full"]).shape == (2, 4, 4, 4, 8)


def test_conv3d_of_torch() -> None:
    torch = pytest.importorskip("torch")
    x, w = operands("conv3d2d")
    flipped = torch.tensor(np.flip(w.transpose(MOVIE), (2, 3, 4)).copy())
    theirs = torch.nn.functional.conv3d(torch.tensor(x.transpose(MOVIE)), flipped).numpy().transpose(MOVIE)
    np.testing.assert_array_equal(legacy.conv3d2d(x, w).numpy(), theirs)
    v, w, b = operands("conv3D")
    first = (torch.tensor(a.transpose(LAST_TO_FIRST)) for a in (v, w))
    theirs = torch.nn.functional.conv3d(*first, torch.tensor(b), stride=(2, 1, 3)).numpy().transpose(FIRST_TO_LAST)
    np.testing.assert_array_equal(legacy.conv3D(v, w, b, (2, 1, 3)).numpy(), theirs)


@pytest.mark.parametrize("mode", ["valid", "full"])
def test_signal_conv2d_of_scipy(mode: str) -> None:
    signal = pytest.importorskip("scipy.signal")
    image, kernel = integers((6, 7), 1, np.float64), integers((3, 2), 2, np.float64)
    theirs = signal.convolve2d(image, kernel, mode)
    np.testing.assert_array_equal(legacy.signal_conv2d(image, kernel, border_mode=mode).numpy(), theirs)


def test_signal_conv2d_has_the_axes_of_its_arguments() -> None:
    images, filters = operands("signal_conv2d")  # (3, 6, 7), (2, 3, 2)
    whole = legacy.signal_conv2d(images, filters).numpy()
    assert whole.shape == (3, 2, 4, 6)
    np.testing.assert_array_equal(legacy.signal_conv2d(images[0], filters).numpy(), whole[0])
    np.testing.assert_array_equal(legacy.signal_conv2d(images, filters[1]).numpy(), whole[:, 1])
    np.testing.assert_array_equal(legacy.signal_conv2d(images[0], filters[1]).numpy(), whole[0, 1])
    assert legacy.signal_conv2d(images[:1], filters[:1]).shape == (1, 1, 4, 6)


@pytest.mark.parametrize(("images", "filters"), [((6, 7), (3, 2)), ((6, 7), (2, 3, 2)), ((3, 6, 7), (3, 2))])
def test_derivatives_of_signal_conv2d(images: tuple[int, ...], filters: tuple[int, ...]) -> None:
    arrays = integers(images, 1, np.float64), integers(filters, 2, np.float64)
    ec.check_grads(legacy.signal_conv2d, arrays, 2, ("fwd", "rev"), eps=1.0)


def test_corr_mm_may_be_unshared() -> None:
    x, w = integers((2, 2, 5, 4), 1, np.float64), integers((3, 4, 3, 2, 2, 2), 2, np.float64)
    truth = correlation(x, w, unshared=True)
    np.testing.assert_array_equal(legacy.corr_mm(x, w, unshared=True).numpy(), truth)
    ec.check_grads(lambda x, w: legacy.corr_mm(x, w, unshared=True), (x, w), 2, ("fwd", "rev"), eps=1.0)


@pytest.mark.parametrize(
    ("name", "algorithm"), [("corr_mm", "gemm"), ("corr3d_mm", "gemm"), ("conv2d_fft", "fft"), ("conv3d_fft", "fft")]
)
def test_forced_algorithms(name: str, algorithm: str) -> None:
    options = TRUTHS[name][2][0]
    assert [row.chosen for row in ec.explain(getattr(legacy, name), *operands(name), **options)] == [algorithm]


@pytest.mark.parametrize("name", ["signal_conv2d", "nnet_conv2d"])
def test_hints_of_speed_are_ignored(name: str) -> None:
    arrays, f = operands(name), getattr(legacy, name)
    with pytest.warns(DeprecationWarning, match=f"{name}: unroll_batch, .*, openmp, version, verbose has no effect"):
        hinted = f(*arrays, unroll_batch=4, unroll_kern=2, unroll_patch=False, openmp=True, version="no_fft", verbose=1)
    np.testing.assert_array_equal(hinted.numpy(), f(*arrays).numpy())


no_cudnn = pytest.mark.skipif("cudnn" in {a.name for t in ec.algorithms.TABLE.values() for a in t}, reason="has cuDNN")


@no_cudnn
@pytest.mark.parametrize(("mode", "flip"), [("cross", "False"), ("conv", "True")])
def test_dnn_conv_without_cudnn_tells_what_to_write(mode: str, flip: str) -> None:
    with pytest.raises(ec.AlgorithmError, match=rf"dnn_conv: .*no cuDNN.*conv2d\(img, kerns, filter_flip={flip}\)"):
        legacy.dnn_conv(np.ones((1, 2, 5, 5)), np.ones((3, 2, 3, 3)), conv_mode=mode)


def test_dnn_conv_where_there_is_cudnn(monkeypatch: pytest.MonkeyPatch) -> None:
    # Whether there is one or not: `direct` under its name.
    (direct,) = (a for a in ec.algorithms.TABLE["cpu"] if a.name == "direct")
    monkeypatch.setitem(ec.algorithms.TABLE, "cpu", (replace(direct, name="cudnn"),))
    monkeypatch.setattr(ec.algorithms, "_planned", ec.algorithms._planned.__wrapped__)
    for shape, filters in [((2, 4, 6, 5), (4, 2, 3, 2)), ((2, 4, 4, 6, 5), (4, 2, 2, 3, 2))]:
        x, w = integers(shape, 1, np.float64), integers(filters, 2, np.float64)
        options = {"border_mode": 1, "subsample": 2, "num_groups": 2}
        result = legacy.dnn_conv(x, w, dilation=2, algo="time_once", **options).numpy()
        np.testing.assert_array_equal(result, correlation(x, w, filter_dilation=2, **options))
        result = legacy.dnn_conv(x, w, conv_mode="conv", **options).numpy()
        np.testing.assert_array_equal(result, oracle.forward(x, w, **options))
        ec.check_grads(partial(legacy.dnn_conv, **options), (x, w), 2, ("fwd", "rev"), eps=1.0)


# ----- errors -----

ERRORS: list[tuple[str, dict[int, Any], dict[str, Any], type[Exception], str]] = [
    # function, arrays to replace by their position, options, error, what the message tells
    ("conv3d2d", {}, {"border_mode": 1}, ValueError, "border_mode must be a string or three"),
    ("conv3d2d", {}, {"border_mode": (1, 1, 1)}, ValueError, "border_mode must be one of"),
    ("conv3d2d", {}, {"border_mode": ("valid", "full")}, ValueError, "border_mode must be a string or three"),
    ("conv3d2d", {}, {"border_mode": "same"}, ValueError, "border_mode must be one of"),
    ("conv3d2d", {}, {"border_mode": ("valid", "VALID", "full")}, ValueError, "border_mode must be one of .*'VALID'"),
    ("conv3d2d", {}, {"border_mode": None}, ValueError, "border_mode"),
    ("conv3d2d", {}, {"signals_shape": (2, 5, 3, 6, 8)}, ValueError, "signals_shape"),
    ("conv3d2d", {}, {"filters_shape": (4, 2, 3, 3)}, ValueError, "filters_shape"),
    ("conv3d2d", {0: np.ones((2, 5, 3, 6))}, {}, ValueError, r"signals must have 5 axes \(batch, time, channels"),
    ("conv3d2d", {1: np.ones((2, 3, 3, 2))}, {}, ValueError, r"filters must have 5 axes \(output channels, time"),
    ("conv3d2d", {1: np.ones((4, 2, 2, 3, 2))}, {}, ValueError, "signals has 3 channels but filters has 2"),
    ("conv3d2d", {1: np.ones((4, 6, 3, 3, 2))}, {}, ValueError, "output would have 0"),
    ("conv3d2d", {0: None}, {}, TypeError, "signals"),
    ("signal_conv2d", {0: np.ones(5)}, {}, ValueError, "input must have 2 or 3 axes"),
    ("signal_conv2d", {0: np.ones((1, 1, 5, 5))}, {}, ValueError, "input must have 2 or 3 axes"),
    ("signal_conv2d", {1: np.ones((1, 1, 5, 5))}, {}, ValueError, "filters must have 2 or 3 axes"),
    ("signal_conv2d", {}, {"image_shape": (6, 7)}, ValueError, "image_shape must have 3 entries"),
    ("signal_conv2d", {}, {"filter_shape": (2, 3, 3)}, ValueError, "filter_shape"),
    ("signal_conv2d", {}, {"subsample": 0}, ValueError, "subsample"),
    ("signal_conv2d", {}, {"stride": 2}, TypeError, "use subsample="),
    ("nnet_conv2d", {}, {"border_mode": "half"}, ValueError, "border_mode must be one of 'valid', 'full', got 'half'"),
    ("nnet_conv2d", {}, {"border_mode": 1}, ValueError, "border_mode must be one of"),
    ("nnet_conv2d", {}, {"image_shape": (2, 3, 6, 8)}, ValueError, "image_shape"),
    ("nnet_conv2d", {}, {"filter_shape": (4, 3, 3, 3)}, ValueError, "filter_shape"),
    ("nnet_conv2d", {}, {"imshp_logical": (6, 7)}, ValueError, "imshp_logical"),
    ("nnet_conv2d", {}, {"wibble": 1}, TypeError, "wibble"),
    ("nnet_conv2d", {1: np.ones((4, 2, 3, 2))}, {}, ValueError, r"filters .*\b2 input channels"),
    ("conv3D", {}, {"d": 1}, ValueError, "d must be three strides"),
    ("conv3D", {}, {"d": (1, 1)}, ValueError, "d must be three strides"),
    ("conv3D", {}, {"d": (1, 0, 1)}, ValueError, "d must be three strides >= 1"),
    ("conv3D", {}, {"d": (1, 1.5, 1)}, ValueError, "d must be made of ints"),
    ("conv3D", {0: np.ones((6, 5, 7, 3))}, {"d": (1, 1, 1)}, ValueError, r"V must have 5 axes \(batch, rows, columns, time"),
    ("conv3D", {1: np.ones((3, 2, 3, 3))}, {"d": (1, 1, 1)}, ValueError, "W must have 5 axes"),
    ("conv3D", {1: np.ones((4, 3, 2, 3, 2))}, {"d": (1, 1, 1)}, ValueError, "V has 3 channels but W has 2"),
    ("conv3D", {2: np.ones(3)}, {"d": (1, 1, 1)}, ValueError, r"b must have shape \(4,\)"),
    ("conv3D", {2: np.ones((4, 1))}, {"d": (1, 1, 1)}, ValueError, r"b must have shape \(4,\)"),
    ("conv3D", {2: None}, {"d": (1, 1, 1)}, TypeError, "b is not|b has"),
    ("conv2d_fft", {}, {"border_mode": "half"}, ValueError, "border_mode must be one of"),
    ("conv2d_fft", {}, {"pad_last_dim": 2}, ValueError, "pad_last_dim"),
    ("conv2d_fft", {}, {"image_shape": (2, 3, 6, 8)}, ValueError, "image_shape"),
    ("conv3d_fft", {}, {"border_mode": 1}, ValueError, "border_mode must be one of"),
    ("conv3d_fft", {}, {"filter_shape": (1,)}, ValueError, "filter_shape"),
    ("corr_mm", {}, {"num_groups": 4}, ValueError, "num_groups"),
    ("corr_mm", {}, {"unshared": 3}, ValueError, "unshared"),
    ("corr_mm", {}, {"border_mode": -1}, ValueError, "border_mode"),
    ("corr3d_mm", {}, {"subsample": (1, 1)}, ValueError, "subsample"),
    ("conv2d_c01b", {0: np.ones((3, 6, 7))}, {}, ValueError, r"input must have 4 axes \(channels, rows, columns, batch\)"),
    ("conv2d_c01b", {1: np.ones((2, 3, 2, 4))}, {}, ValueError, "input has 3 channels but filters has 2"),
    ("conv2d_c01b", {}, {"subsample": (0, 1)}, ValueError, "subsample"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "changes", "options", "error", "told"), ERRORS, ids=[f"{case[0]} {case[4]}" for case in ERRORS]
)
def test_bad_arguments(name: str, changes: Any, options: Any, error: type[Exception], told: str) -> None:
    arrays = [changes.get(n, a) for n, a in enumerate(operands(name))]
    with pytest.raises(error, match=f"{name}.*({told})"):
        getattr(legacy, name)(*arrays, **options)


@pytest.mark.parametrize("mode", ["half", "", None, True])
def test_conv_mode_of_dnn_conv(mode: Any) -> None:
    with pytest.raises(ValueError, match="dnn_conv: conv_mode must be one of"):
        legacy.dnn_conv(np.ones((1, 2, 5, 5)), np.ones((3, 2, 3, 3)), conv_mode=mode)
