"""Decomposed Winograd's promises: every stride and size of filter, its error bound, its bits, and what it refuses."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest

import eagerconv as ec
from eagerconv.kernels_cpu import dwm
from eagerconv.kernels_cpu.cooktoom import form

every_slot = pytest.mark.parametrize("slot", ["y", "x", "w"])


def contraction(slot, x, w, y, **options):
    ends = {"y": "", "x": "_grad_wrt_inputs", "w": "_grad_wrt_weights"}
    function = getattr(ec, f"conv{x.ndim - 2}d{ends[slot]}")
    operands = {"y": (x, w), "x": (y, w, x.shape), "w": (x, y, w.shape)}[slot]
    return function(*operands, **options)


@pytest.fixture
def limits(monkeypatch):
    """Set limits of the module, for plans made from then on."""

    def forget():
        for cached in (dwm._layout, dwm._weights_layout, ec.algorithms._planned):
            cached.cache_clear()

    def set_limits(**values):
        for name, value in values.items():
            monkeypatch.setattr(dwm, name, value)
        forget()

    yield set_limits
    monkeypatch.undo()
    forget()


def drawn(rng, counts, kernel, stride, most):
    """Shapes of x and w for (images, channels, filters, groups), with fewer than `most` pixels beyond the kernel; options."""
    n, c, f, g = counts
    size = tuple(int(v) + k for v, k in zip(rng.integers(0, most, len(kernel)), kernel, strict=True))
    options = {
        "border_mode": ("valid", "same", "full", ((2, 0), (0, 2), (1, 0))[-len(kernel) :])[rng.integers(4)],
        "filter_flip": bool(rng.integers(2)),
        "subsample": stride,
        "num_groups": g,
    }
    return (n, c * g, *size), (f * g, c, *kernel), options


def compare(slot, rng, x_shape, w_shape, options, dtype=np.float64):
    """Of small integers results are those of direct summation, but for what rounding takes away."""
    x, w = (rng.integers(-4, 5, shape).astype(dtype) for shape in (x_shape, w_shape))
    exact = contraction("y", x, w, None, algorithm="direct", **options)
    y = rng.integers(-4, 5, exact.shape).astype(dtype)
    got = contraction(slot, x, w, y, algorithm="winograd_dwm", **options).numpy()
    right = contraction(slot, x, w, y, algorithm="direct", **options).numpy()
    assert np.array_equal(np.rint(got), right), (x_shape, w_shape, options)
    np.testing.assert_allclose(got, right, atol=1e-6 if dtype == np.float64 else 0.1)


@pytest.mark.parametrize(("m", "r"), dwm.FORMS[1:])
def test_the_matrices_compute_correlations(m, r):
    data, filters, output = (
        [[Fraction(v).limit_denominator(10000) for v in row] for row in part] for part in form(m, r)
    )
    for i in range(m + r - 1):  # for unit vectors d = e_i and g = e_k, y[j] is whether i = j + k
        for k in range(r):
            product = [filters[xi][k] * data[xi][i] for xi in range(m + r - 1)]
            y = [sum(a * p for a, p in zip(row, product, strict=True)) for row in output]
            assert y == [int(i == j + k) for j in range(m)]


@every_slot
@pytest.mark.parametrize("several", [True, False])
def test_a_layer_with_a_stride(slot, several, limits):
    cut = (
        {"FILTERS_BYTES": 0, "FEW_WINDOWS": 1 << 30}
        if several
        else {"FILTERS_BYTES": 1 << 40, "WINDOWS": 3, "LINES": 2}
    )
    limits(
        **cut,
        SHARED_BYTES=50_000 if several else 6 << 20,
        LEAST_WINDOWS=1,
        PARTS=3 if several else 100,
        PART_BYTES=1 << 30,
    )
    rng = np.random.default_rng(0)
    for groups, flip, padding in ((1, True, ((1, 0), (0, 2))), (2, False, 1)):
        options = {"border_mode": padding, "filter_flip": flip, "subsample": 2, "num_groups": groups}
        shapes = (6, 19 * groups, 17, 22), (35 * groups, 19, 3, 3)  # images enough for sums in parts
        compare(slot, rng, *shapes, options, np.float32)


@pytest.mark.slow
@pytest.mark.lanes
@every_slot
def test_strides_sizes_borders_groups_and_both_ways_of_cutting(slot, limits):
    rng = np.random.default_rng(0)
    for case in range(24):
        cut, blocks = {"FILTERS_BYTES": 0, "FEW_WINDOWS": 1 << 30}, {"FILTERS_BYTES": 1 << 40, "WINDOWS": 3, "LINES": 2}
        limits(
            **(blocks if case % 2 else cut),
            SHARED_BYTES=6 << 20 if case % 3 else 50_000,
            LEAST_WINDOWS=1,
            PARTS=2 if case % 4 < 2 else 100,
        )
        n, c, f, g = (int(v) for v in rng.integers(1, [4, 40, 50, 3]))
        stride = tuple(int(v) for v in rng.integers(1, 4, 2))
        kernel = int(rng.integers(stride[0] + 1, 11)), int(rng.integers(1, 11))
        compare(slot, rng, *drawn(rng, (n, c, f, g), kernel, stride, most=20))


@pytest.mark.slow
@every_slot
@pytest.mark.parametrize(("kernel", "stride"), [
    ((11,), (1,)), ((3,), (2,)), ((10,), (5,)), ((4,), (2,)), ((5,), (1,)), ((25,), (3,)), ((1, 7), (1, 2)), ((3, 1), (2, 2)),
])  # fmt: skip
def test_filters_of_one_axis(slot, kernel, stride, limits):
    rng = np.random.default_rng(0)
    for case, (channels, filters, groups, flip) in enumerate([(18, 35, 1, False), (1, 20, 1, True), (3, 5, 3, False)]):
        limits(**({"FILTERS_BYTES": 0, "FEW_WINDOWS": 1 << 30} if case else {}), LEAST_WINDOWS=1)
        size = tuple(int(v) for v in rng.integers(30, 120, len(kernel)))
        pad = tuple((k // 2, (k - 1) // 2) for k in kernel)
        options = {"border_mode": pad, "filter_flip": flip, "subsample": stride, "num_groups": groups}
        compare(slot, rng, (2, channels * groups, *size), (filters * groups, channels, *kernel), options)


@pytest.mark.slow
@every_slot
def test_planes_of_three_axes(slot, limits):
    rng = np.random.default_rng(0)
    kernels = [(3, 3, 3), (2, 7, 7), (3, 4, 4), (1, 5, 5), (3, 11, 3)]
    for case, (kernel, stride) in enumerate(itertools.product(kernels, [(1, 2, 2), (2, 2, 2), (1, 1, 1), (1, 1, 2)])):
        limits(
            **({"FILTERS_BYTES": 0, "FEW_WINDOWS": 1 << 30} if case % 2 else {"WINDOWS": 3, "LINES": 2}),
            SHARED_BYTES=6 << 20 if case % 3 else 50_000,
            LEAST_WINDOWS=1,
            PARTS=2 if case % 4 < 2 else 100,
        )
        n, c, f, g = (int(v) for v in rng.integers(1, [3, 21, 20, 3]))
        case_of = drawn(rng, (n, c, f, g), kernel, stride, most=12)
        if slot == "x" and stride[0] > 1:
            with pytest.raises(ec.AlgorithmError, match="takes no steps along the first of three axes"):
                compare(slot, rng, *case_of)
        else:
            compare(slot, rng, *case_of)


DRAWS = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "signs": lambda rng, shape: rng.choice([-1.0, 1.0], shape),
    "ones": lambda rng, shape: np.full(shape, rng.uniform(0.5, 2)),
    "positive": lambda rng, shape: rng.random(shape),
    "scales": lambda rng, shape: rng.standard_normal(shape) * 10.0 ** rng.uniform(-6, 6, shape),
    "sparse": lambda rng, shape: rng.standard_normal(shape) * (rng.random(shape) < 0.02),
    "checkers": lambda rng, shape: np.broadcast_to(np.indices(shape[-2:]).sum(0) % 2 * 2.0 - 1, shape) * 0.7,
}
SHAPES = {  # (kernel, stride, pad) that use F(4, r)
    2: [(3, 2, 1), (4, 2, 1), (2, 1, 0)],
    3: [(3, 1, 1), (5, 2, 2), (11, 4, 2)],
    4: [(7, 2, 3), (7, 1, 3), (15, 1, 7)],
    5: [(5, 1, 2), (9, 2, 4)],
}


def truth(slot, x, w, y, stride, pad):
    """Cross-correlation with `pad` zeros on every side, summed tap by tap in float64 (long double for float64 operands)."""
    x, w, y = (v.astype(np.float64 if v.dtype == np.float32 else np.longdouble) for v in (x, w, y))
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    result = np.zeros_like({"y": y, "x": padded, "w": w}[slot])
    for k in np.ndindex(*w.shape[2:]):
        window = (..., *(slice(i, i + stride * (n - 1) + 1, stride) for i, n in zip(k, y.shape[2:], strict=True)))
        if slot == "y":
            result += np.einsum("nchw,fc->nfhw", padded[window], w[(..., *k)], optimize=True)
        elif slot == "x":
            result[window] += np.einsum("nfhw,fc->nchw", y, w[(..., *k)], optimize=True)
        else:
            result[(..., *k)] = np.einsum("nchw,nfhw->fc", padded[window], y, optimize=True)
    return result[..., pad : pad + x.shape[2], pad : pad + x.shape[3]] if slot == "x" else result


@pytest.mark.slow
@every_slot
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("r", SHAPES)
def test_errors_stay_within_the_published_bound(r, dtype, slot):
    rng = np.random.default_rng(r)
    eps = float(np.finfo(dtype).eps)
    for (k, stride, pad), channels in itertools.product(SHAPES[r], (1, 20) if dtype == np.float32 else (3,)):
        size = 13 + stride * 4
        out = (size + 2 * pad - k) // stride + 1
        for first, second in itertools.product(DRAWS, DRAWS):
            image, other = DRAWS[first], DRAWS[second]
            x = image(rng, (2, channels, size, size)).astype(dtype)
            w = other(rng, (channels, channels, k, k)).astype(dtype)
            y = (other if slot == "w" else image)(rng, (2, channels, out, out)).astype(dtype)
            options = {"border_mode": pad, "subsample": stride, "filter_flip": False, "algorithm": "winograd_dwm"}
            got = contraction(slot, x, w, y, **options).numpy()
            largest = np.abs(y if slot == "x" else x).max(initial=0)
            axes = {"y": (1, 2, 3), "x": (0, 2, 3), "w": (0, 2, 3)}[slot]
            total = np.abs((y if slot == "w" else w).astype(np.float64)).sum(axis=axes).max(initial=0)
            terms = 2 * out**2 if slot == "w" else k**2 * channels
            bound = (dwm.ERROR[r] + terms / 16) * eps * largest * total
            wrong = np.abs(got - truth(slot, x, w, y, stride, pad)).max()
            assert wrong <= bound, (first, second, channels, k, wrong / (eps * largest * total))


@pytest.mark.slow
@every_slot
@pytest.mark.parametrize(("k", "stride", "pad"), [(3, 2, 1), (7, 2, 3), (5, 1, 2), (15, 1, 7), (11, 4, 2), (4, 2, 1)])
def test_well_known_layers_agree_with_pytorch(slot, k, stride, pad):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(5)
    x, w = rng.standard_normal((2, 19, 37, 30)), rng.standard_normal((33, 19, k, k))
    tx, tw = (torch.tensor(v, requires_grad=True) for v in (x, w))
    ty = torch.conv2d(tx, tw, None, stride, pad)
    y = rng.standard_normal(ty.shape)
    dx, dw = torch.autograd.grad(ty, (tx, tw), torch.tensor(y))
    options = {"border_mode": pad, "subsample": stride, "filter_flip": False, "algorithm": "winograd_dwm"}
    expected = {"y": ty.detach(), "x": dx, "w": dw}[slot].numpy()
    np.testing.assert_allclose(contraction(slot, x, w, y, **options).numpy(), expected, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("slot", ["y", "x"])
@pytest.mark.parametrize(("k", "stride"), [(3, 2), (7, 1), (7, 2)])
def test_an_image_alone_has_the_same_bits_as_in_a_batch(k, stride, slot):
    rng = np.random.default_rng(4)
    x, w = rng.standard_normal((5, 33, 19, 19)).astype("f"), rng.standard_normal((33, 33, k, k)).astype("f")
    options = {"border_mode": k // 2, "subsample": stride, "algorithm": "winograd_dwm"}
    y = ec.conv2d(x, w, **options).numpy()
    whole = contraction(slot, x, w, y, **options).numpy()
    for i in range(5):
        alone = contraction(slot, x[i : i + 1], w, y[i : i + 1], **options).numpy()
        assert np.array_equal(alone[0], whole[i])


@pytest.mark.plans
def test_auto_keeps_to_the_tolerance_in_force():
    x, w = np.ones((4, 32, 64, 64), "f"), np.ones((32, 32, 15, 15), "f")

    def chosen(**policy):
        with ec.using(**policy):
            return ec.explain(ec.conv2d, x, w, border_mode=7)[0].chosen

    assert chosen(exclude=["fft"]) == "winograd_dwm"  # which is the faster where registers are short
    assert chosen(tolerance=1e-6) != "winograd_dwm"
    assert chosen(exact=True) == "gemm"


@pytest.mark.plans
def test_what_it_refuses_it_refuses_with_the_reason():
    x, w = np.ones((2, 4, 12, 12)), np.ones((4, 4, 3, 3))
    cases = {
        "has nothing to save": lambda: ec.conv2d(x, w, subsample=3, algorithm="winograd_dwm"),
        "does not know dilated": lambda: ec.conv2d(x, w, filter_dilation=2, algorithm="winograd_dwm"),
        "takes no steps along the first of three axes": lambda: ec.conv3d_grad_wrt_inputs(
            x[:, :, None], w[:, :, None], (2, 4, 2, 14, 14), subsample=(2, 1, 1), algorithm="winograd_dwm"
        ),
    }
    for reason, call in cases.items():
        with pytest.raises(ec.AlgorithmError, match=reason):
            call()
