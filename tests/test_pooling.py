"""Windows of every kind: indices and unpooling, dilation, padding of every form, shares, kernels, dtypes, errors."""

from __future__ import annotations

import itertools
import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import eagerconv as ec
from eagerconv.func.gradcheck import check_grads
from eagerconv.functional import pooling
from eagerconv.functional.windows import Windows, max_windows, spread_windows, sum_windows
from eagerconv.kernels_cpu import pooling as kernels

rng = np.random.default_rng(0)
POOL = {1: ec.pool_1d, 2: ec.pool_2d, 3: ec.pool_3d}
MAX = {1: ec.max_pool1d, 2: ec.max_pool2d, 3: ec.max_pool3d}
AVG = {1: ec.avg_pool1d, 2: ec.avg_pool2d, 3: ec.avg_pool3d}
UNPOOL = {1: ec.max_unpool1d, 2: ec.max_unpool2d, 3: ec.max_unpool3d}

# ----- Against loops -----


def pads_of(pad: Any, n: int, extent: int, stride: int) -> tuple[int, int]:
    """(before, after) of one axis, from ONNX's definition of SAME_UPPER and SAME_LOWER."""
    if pad not in ("same", "same_lower"):
        return pad
    total = max((-(-n // stride) - 1) * stride + extent - n, 0)
    return (total // 2, total - total // 2)[:: 1 if pad == "same" else -1]  # type: ignore[return-value]


def loops(x: Any, ws: Any, whole: bool, stride: Any, pads: Any, dilation: Any, mode: str) -> tuple[Any, Any]:
    """Values and, of the largest, places in the plane, window by window; windows are listed until one would not count."""
    nd = len(ws)
    size = x.shape[-nd:]
    seen: list[list[tuple[list[int], int]]] = []  # per axis, per window: elements inside, and how many with padding
    for n, k, s, (before, after), d in zip(size, ws, stride, pads, dilation, strict=True):
        windows = []
        for o in itertools.count():
            first = o * s - before
            elements = [first + i * d for i in range(k)]
            if elements[-1] >= n + after:  # it sticks out
                ended = first >= n or (o > 0 and elements[-1] - s >= n + after - 1)  # what is to be seen was seen
                if whole or ended:
                    break
            padded = [i for i in elements if i < n + after]
            windows.append(([i for i in elements if 0 <= i < n], len(padded)))
        seen.append(windows)
    out = x.shape[:-nd] + tuple(map(len, seen))
    values, places = np.zeros(out), np.zeros(out, int)
    for o in itertools.product(*(range(len(windows)) for windows in seen)):
        axes = [seen[a][i] for a, i in enumerate(o)]
        box = x[(..., *np.ix_(*(inside for inside, _ in axes)))]
        flat = box.reshape(*x.shape[:-nd], math.prod(box.shape[-nd:]))
        if mode == "max":
            values[(..., *o)] = flat.max(-1)
            first = np.stack(np.unravel_index(flat.argmax(-1), box.shape[-nd:]), -1)
            numbers = [np.array(inside)[first[..., a]] for a, (inside, _) in enumerate(axes)]
            places[(..., *o)] = np.ravel_multi_index(numbers, size)
        else:
            padded = math.prod(count for _, count in axes)
            count = {"sum": 1, "average_inc_pad": padded, "average_exc_pad": flat.shape[-1]}[mode]
            values[(..., *o)] = flat.sum(-1) / count
    return values, places


@st.composite
def problems(draw: st.DrawFn) -> dict[str, Any]:
    nd = draw(st.integers(1, 3))
    per_axis = [st.integers(1, 3)] * nd
    ws, dilation = draw(st.tuples(*per_axis)), draw(st.tuples(*per_axis))
    stride = draw(st.tuples(*[st.integers(1, 4)] * nd))
    size = tuple(draw(st.integers(d, d + 5)) for d in dilation)  # so long that no window jumps over them
    extent = [(k - 1) * d + 1 for k, d in zip(ws, dilation, strict=True)]
    pad: Any = draw(st.sampled_from(["same", "same_lower", "pairs", "pairs"]))
    if pad == "pairs":
        pad = tuple((draw(st.integers(0, e - 1)), draw(st.integers(0, e - 1))) for e in extent)
    lead = draw(st.sampled_from([(), (2,), (0, 2)]))
    x = np.random.default_rng(draw(st.integers(0, 99))).integers(-4, 5, lead + size)  # with ties
    whole = draw(st.booleans())
    return {"x": x.astype(float), "ws": ws, "whole": whole, "stride": stride, "pad": pad, "dilation": dilation}


@pytest.mark.parametrize("mode", pooling.MODES)
@given(problem=problems())
def test_values_and_indices_are_those_of_loops(mode: str, problem: dict[str, Any]) -> None:
    x, ws, whole, stride, pad, dilation = problem.values()
    nd, size = len(ws), x.shape[x.ndim - len(ws) :]
    extent = [(k - 1) * d + 1 for k, d in zip(ws, dilation, strict=True)]
    pads = [pads_of(pad if isinstance(pad, str) else pad[a], size[a], extent[a], stride[a]) for a in range(nd)]
    values, places = loops(x, ws, whole or isinstance(pad, str), stride, pads, dilation, mode)
    out = POOL[nd](x, ws, whole, stride, pad, mode, dilation=dilation)
    np.testing.assert_allclose(out.numpy(), values, rtol=1e-13)
    if mode == "max":
        options = {"ignore_border": whole, "dilation": dilation, "return_indices": True}
        found, indices = MAX[nd](x, ws, stride, pad, **options)
        np.testing.assert_array_equal(found.numpy(), values)
        np.testing.assert_array_equal(indices.numpy(), places)
    elif mode != "sum":
        options = {"ignore_border": whole, "dilation": dilation, "include_pad": mode == "average_inc_pad"}
        np.testing.assert_array_equal(AVG[nd](x, ws, stride, pad, **options).numpy(), out.numpy())


CASES: list[tuple[Any, ...]] = [  # shape, ws, whole, stride, pad, dilation
    ((2, 9), (3,), False, (2,), (2,), (2,)), ((2, 7, 6), (2, 3), True, (2, 1), "same", (2, 1)),
    ((1, 6, 7), (3, 2), False, (2, 3), ((1, 0), (0, 1)), (1, 2)),
    ((4, 3, 5), (2, 2, 2), True, (1, 2, 1), ((1, 0), (0, 1), (1, 1)), (2, 1, 2)),
]  # fmt: skip


@pytest.mark.parametrize("mode", pooling.MODES)
@pytest.mark.parametrize("case", CASES)
def test_derivatives_to_second_order_in_both_modes(mode: str, case: tuple[Any, ...]) -> None:
    shape, ws, whole, stride, pad, dilation = case
    x = rng.permutation(math.prod(shape)).reshape(shape) / 7.0  # no ties near
    check_grads(lambda x: POOL[len(ws)](x, ws, whole, stride, pad, mode, dilation=dilation) ** 2, [x])


# ----- Against PyTorch -----


@pytest.mark.parametrize("case", [c for c in CASES if not isinstance(c[4], str)])
def test_max_indices_and_unpooling_are_pytorchs(case: tuple[Any, ...]) -> None:
    torch = pytest.importorskip("torch")
    shape, ws, whole, stride, _, dilation = case
    nd, lead = len(ws), (2, 3)
    pad = tuple((k - 1) * d // 2 and 1 for k, d in zip(ws, dilation, strict=True))
    x = rng.permutation(math.prod(shape[-nd:]) * 6).reshape(lead + shape[-nd:]) / 3.0
    ours, ref = ec.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    pool = getattr(torch.nn.functional, f"max_pool{nd}d")
    expected, places = pool(ref, ws, stride, pad, dilation, not whole, return_indices=True)
    values, indices = MAX[nd](ours, ws, stride, pad, ignore_border=whole, dilation=dilation, return_indices=True)
    np.testing.assert_array_equal(values.numpy(), expected.detach().numpy())
    np.testing.assert_array_equal(indices.numpy(), places.numpy())
    v = rng.integers(1, 9, x.shape).astype(float)
    values.backward(np.ones(values.shape), retain_graph=True)
    expected.backward(torch.ones_like(expected), retain_graph=True)
    np.testing.assert_array_equal(ours.grad.data, ref.grad.numpy())
    once = MAX[nd](ours, ws, return_indices=True)  # no element twice: there PyTorch's gradient of unpooling is one
    there = pool(ref, ws, return_indices=True)
    ours.grad = ref.grad = None
    undone = UNPOOL[nd](*once, ws, output_size=x.shape[2:])
    back = getattr(torch.nn.functional, f"max_unpool{nd}d")(*there, ws, output_size=x.shape)
    np.testing.assert_array_equal(undone.numpy(), back.detach().numpy())
    (undone * v).sum().backward()
    (back * torch.tensor(v)).sum().backward()
    np.testing.assert_array_equal(ours.grad.data, ref.grad.numpy())


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize("nd", [1, 2, 3])
def test_averages_with_padding_and_ceil_mode_are_pytorchs(nd: int, include: bool, whole: bool) -> None:
    torch = pytest.importorskip("torch")
    for n, k, s, p in itertools.product((4, 5, 8), (2, 3), (1, 2, 3), (0, 1)):
        x = rng.standard_normal((2, 1, *(n + a for a in range(nd))))
        expected = getattr(torch.nn.functional, f"avg_pool{nd}d")(torch.tensor(x), k, s, p, not whole, include)
        out = AVG[nd](x, k, s, p, ignore_border=whole, include_pad=include)
        np.testing.assert_allclose(out.numpy(), expected.numpy(), rtol=1e-12, atol=1e-14)


# ----- Unpooling -----


def test_unpooling_is_differentiable_and_the_last_of_equal_places_stays() -> None:
    x = rng.standard_normal((2, 3, 2))
    places = np.array([0, 5, 5, 3, 2, 5]).reshape(3, 2) + np.zeros((2, 1, 1), int)
    check_grads(lambda x: ec.max_unpool2d(x, places, 2, output_size=(3, 4)) ** 2, [x])
    out = ec.max_unpool2d(x, places, 2, output_size=(3, 4)).numpy().reshape(2, 12)
    assert (out[:, 5] == x[:, 2, 1]).all()
    assert (out[:, [0, 2, 3]] == x[:, [0, 2, 1], [0, 0, 1]]).all()
    assert np.count_nonzero(out) == 8
    assert ec.max_unpool1d([1.0, 2.0], [0, 3], 2).shape == (4,)
    assert ec.max_unpool2d(np.ones((3, 3)), np.arange(9).reshape(3, 3), 3, 2, ((1, 0), 1)).shape == (6, 5)
    assert ec.max_unpool3d(np.ones((0, 1, 1, 1)), np.ones((0, 1, 1, 1), int), 2).shape == (0, 2, 2, 2)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.int64, np.complex64])
def test_unpooling_keeps_the_dtype(dtype: Any) -> None:
    x = np.array([1, 2, 3]).astype(dtype)
    out = ec.max_unpool1d(x, [1, 2, 5], 2)
    assert out.dtype == x.dtype
    assert out.numpy().astype(complex).tolist() == [0, 1, 2, 0, 0, 3]


# ----- Special numbers and dtypes -----


def test_no_whole_window_gives_an_empty_result() -> None:
    x = ec.tensor(np.ones((2, 4, 5)), requires_grad=True)
    for mode in pooling.MODES:
        out = ec.pool_2d(x, (5, 2), mode=mode)
        assert out.shape == (2, 0, 2)
        assert not ec.grad(out.sum(), x)[0].numpy().any()
    values, indices = ec.max_pool1d(x, 9, return_indices=True)
    assert values.shape == indices.shape == (2, 4, 0)
    assert ec.pool_1d(np.ones((2, 0)), 2, ignore_border=False).shape == (2, 0)


@pytest.mark.parametrize(
    "pool", [lambda x: ec.max_pool1d(x, 3, 1, 2, dilation=2), lambda x: ec.adaptive_max_pool(x, (3,))]
)
def test_a_nan_is_largest_and_the_first_of_them_gets_the_gradient(pool: Any) -> None:
    x = ec.tensor([1.0, np.nan, 5.0, np.nan, -np.inf, 2.0, 3.0], requires_grad=True)
    out = pool(x)
    seen = {7: [[0, 2], [1, 3], [0, 2, 4], [1, 3, 5], [2, 4, 6], [3, 5], [4, 6]], 3: [[0, 1, 2], [2, 3, 4], [4, 5, 6]]}
    expected = np.zeros(7)
    for window, value in zip(seen[len(out)], out.numpy(), strict=True):
        numbers = x.numpy()[window]
        np.testing.assert_array_equal(value, numbers.max())
        expected[window[int(numbers.argmax())]] += 1  # NumPy's argmax finds the first NaN
    assert ec.grad(out, x, np.ones(len(out)))[0].tolist() == expected.tolist()


def test_adaptive_pools_of_infinities() -> None:
    x = np.array([np.inf, 1.0, 2.0, 3.0, -np.inf, 0.0, 7.0])
    assert ec.adaptive_avg_pool(x, (3,)).tolist() == [np.inf, -np.inf, -np.inf]
    assert ec.adaptive_avg_pool(x[:5], (4,)).tolist() == [np.inf, 1.5, 2.5, -np.inf]
    assert ec.adaptive_max_pool(np.full(7, -np.inf), (3,), return_indices=True)[1].tolist() == [0, 2, 4]


@pytest.mark.parametrize("size", [(7, 5), (4, 9), (10, 3)])
def test_adaptive_indices_are_pytorchs(size: tuple[int, int]) -> None:
    torch = pytest.importorskip("torch")
    x = np.floor(rng.standard_normal((2, 3, *size)) * 2)
    _, expected = torch.nn.functional.adaptive_max_pool2d(torch.tensor(x), (3, 5), return_indices=True)
    _, indices = ec.adaptive_max_pool(x, (3, 5), return_indices=True)
    np.testing.assert_array_equal(indices.numpy(), expected.numpy())


def test_sums_of_integers_have_the_dtype_of_sum_and_do_not_wrap() -> None:
    for dtype in ("bool", "uint8", "int8", "int64"):
        x = np.full((4, 4), 100).astype(dtype)
        out = ec.pool_2d(x, 4, mode="sum")
        assert out.dtype == x.sum().dtype
        assert out.item() == x.sum()


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_16_bits_are_added_in_float32(dtype: Any) -> None:
    x = ec.tensor(np.ones((40, 40)).astype(dtype), requires_grad=True)
    out = ec.pool_2d(x, 40, mode="sum")
    assert out.dtype == x.dtype
    assert out.item() == np.float32(1600).astype(dtype)
    for pool in (ec.pool_2d, ec.max_pool2d):
        y = pool(x, 20, 1) if pool is ec.max_pool2d else pool(x, 20, stride=1, mode="sum")
        (g,) = ec.grad(y, x, np.ones(y.shape, dtype))
        assert g.dtype == x.dtype
        assert g.numpy().max() == (1 if pool is ec.max_pool2d else 400)
    ramp = ec.tensor(np.zeros(2000).astype(dtype), requires_grad=True)
    y = ec.max_pool1d(
        ec.concatenate([ramp[:1] + 1, ramp[1:]]), 1900, 1
    )  # its first element is in the first window alone
    assert y.numpy().astype(float).tolist() == [1, *[0] * 100]
    peak = ec.concatenate([ramp[:1000], ramp[1000:1001] + 1, ramp[1001:]])
    y = ec.max_pool1d(peak, 1000, 1)  # and this one in a thousand
    assert float(ec.grad(y, ramp, np.ones(y.shape, dtype))[0].numpy()[1000]) == 1000


# ----- Kernels -----


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", range(5))
def test_kernels_give_the_bits_of_numpy(dtype: Any, case: int, monkeypatch: pytest.MonkeyPatch) -> None:
    zeros, ones = (0, 0), (1, 1)
    size, out = (61, 43), (7, 9)
    w = [
        Windows(size, (3, 2), (2, 1), ones, ones, (1, 0), (1, 1), (30, 43)),
        Windows(size, (5, 3), (1, 2), (2, 2), ones, (3, 1), zeros, (60, 21)),
        Windows(size, size, size, ones, out, zeros, zeros, out),
        Windows((7, 9), (7, 9), (7, 9), ones, (20, 31), zeros, zeros, (20, 31)),
        Windows((43,), (9,), (4,), (4,), (1,), (7,), (6,), (12,)),
    ][case]
    lead = (3, 37)
    x = np.random.default_rng(0).integers(-9, 9, lead + w.size).astype(dtype) / 7  # with ties, and roundings
    g = np.random.default_rng(1).standard_normal(lead + w.out).astype(dtype)
    found = []
    for limit in (1, 1 << 40):
        monkeypatch.setattr(kernels, "LEAST", limit)
        t = ec.tensor(x, requires_grad=True)
        y = max_windows(t, w=w)
        results = [y, ec.grad(y, t, g)[0], sum_windows(ec.tensor(x), w=w), spread_windows(ec.tensor(g), w=w)]
        found.append([result.numpy() for result in results])
    for kernel, numpy in zip(*found, strict=True):
        assert kernel.tobytes() == (numpy + 0.0).tobytes()


# ----- Errors -----


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda x: ec.max_pool2d(x, 2, pad="full"),
            ValueError,
            "pad must be an int of at least 0, one of .*'same'.*'full'",
        ),
        (lambda x: ec.max_pool2d(x, 2, pad=((1, 1), -1)), ValueError, r"pad must be .*per pooled axis \(2\); got"),
        (lambda x: ec.max_pool2d(x, 2, pad=(1,)), ValueError, "pad must be"),
        (
            lambda x: ec.max_pool2d(x, 2, pad=((0, 2), 0)),
            ValueError,
            r"pad=\(\(0, 2\), 0\) must be smaller than ws=\(2, 2\)",
        ),
        (lambda x: ec.max_pool2d(x, 2, dilation=0), ValueError, "dilation must be one int per pooled axis"),
        (lambda x: ec.max_pool1d(x[:, :1], 2, pad=1, dilation=2), ValueError, "between the elements that they skip"),
        (lambda x: ec.max_pool2d(x, 2, ignore_border="no"), ValueError, "ignore_border must be True or False"),
        (lambda x: ec.avg_pool2d(x, 2, dilation=1.5), TypeError, "dilation must be an int or 2 ints, not 1.5"),
        (lambda x: ec.max_unpool2d(x, x, 2), TypeError, r"indices must be ints, as max_pool2d.*not float64"),
        (lambda x: ec.max_unpool2d(x, [[1]], 2), ValueError, r"the same shape.*got \(4, 5\) and \(1, 1\)"),
        (
            lambda x: ec.max_unpool1d([1.0], [7], 2),
            ValueError,
            r"must lie in the plane of \(2,\), from 0 to 1; got some from 7 to 7: give .* output_size=",
        ),
        (lambda x: ec.max_unpool1d([1.0], [1], 2, output_size=(2.5,)), TypeError, "output_size must be"),
    ],
)
def test_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(np.ones((4, 5)))
