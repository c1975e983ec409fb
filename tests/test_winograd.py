"""Winograd's promises: its error bound, its choice by tolerance, its bits, and what it refuses."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from strategies import tier, tiers

import eagerconv as ec
from eagerconv.kernels_cpu import winograd
from eagerconv.kernels_cpu.cooktoom import POINTS, form

FORMS = {"winograd": winograd.F4, "winograd_f2": winograd.F2}
every_form = pytest.mark.parametrize("name", tiers(FORMS))
every_dtype = pytest.mark.parametrize(
    "dtype", [pytest.param(d, marks=tier("winograd", d)) for d in (np.float32, np.float64)]
)


def contraction(slot, x, w, y, **options):
    ends = {"y": "", "x": "_grad_wrt_inputs", "w": "_grad_wrt_weights"}
    function = getattr(ec, f"conv{x.ndim - 2}d{ends[slot]}")
    operands = {"y": (x, w), "x": (y, w, x.shape), "w": (x, y, w.shape)}[slot]
    return function(*operands, **options)


@pytest.mark.parametrize(("m", "r"), POINTS)
def test_the_matrices_compute_correlations(m, r):
    data, filters, output = (np.array(part) for part in form(m, r))
    for i, k in itertools.product(
        range(m + r - 1), range(r)
    ):  # for unit vectors d = e_i and g = e_k: whether i = j + k
        y = output @ (filters[:, k] * data[:, i])
        np.testing.assert_allclose(y, [i == j + k for j in range(m)], atol=1e-13)


DRAWS = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "signs": lambda rng, shape: rng.choice([-1.0, 1.0], shape),
    "ones": lambda rng, shape: np.full(shape, rng.uniform(0.5, 2)),
    "positive": lambda rng, shape: rng.random(shape),
    "scales": lambda rng, shape: rng.standard_normal(shape) * 10.0 ** rng.uniform(-6, 6, shape),
    "sparse": lambda rng, shape: rng.standard_normal(shape) * (rng.random(shape) < 0.02),
    "checkers": lambda rng, shape: np.broadcast_to(np.indices(shape[-2:]).sum(0) % 2 * 2.0 - 1, shape) * 0.7,
}


def truth(slot, x, w, y):
    """Cross-correlation with k // 2 zeros on every side, summed tap by tap in long double (float64 for float32 operands)."""
    x, w, y = (v.astype(np.float64 if v.dtype == np.float32 else np.longdouble) for v in (x, w, y))
    pad = [k // 2 for k in w.shape[2:]]
    padded = np.pad(x, ((0, 0), (0, 0), *((p, p) for p in pad)))
    result = np.zeros_like({"y": y, "x": padded, "w": w}[slot])
    for k in np.ndindex(*w.shape[2:]):
        window = (..., *(slice(first, first + n) for first, n in zip(k, y.shape[2:], strict=True)))
        if slot == "y":
            result += np.einsum("nchw,fc->nfhw", padded[window], w[(..., *k)], optimize=True)
        elif slot == "x":
            result[window] += np.einsum("nfhw,fc->nchw", y, w[(..., *k)], optimize=True)
        else:
            result[(..., *k)] = np.einsum("nchw,nfhw->fc", padded[window], y, optimize=True)
    return result[(..., *(slice(p, p + n) for p, n in zip(pad, x.shape[2:], strict=True)))] if slot == "x" else result


def errors_in_units(algorithm, taps, dtype, slot, channels, size, seed=0):
    """The errors over all pairs of draws, in units in the last place of max|a| * sum|b|, less what summing directly costs."""
    rng = np.random.default_rng(seed)
    eps = float(np.finfo(dtype).eps)
    out = tuple(n + 2 * (k // 2) - k + 1 for n, k in zip(size, taps, strict=True))
    for first, second in itertools.product(DRAWS, DRAWS):
        image, other = DRAWS[first], DRAWS[second]
        x = image(rng, (2, channels, *size)).astype(dtype)
        w = other(rng, (channels, channels, *taps)).astype(dtype)
        y = (other if slot == "w" else image)(rng, (2, channels, *out)).astype(dtype)
        options = {"border_mode": tuple(k // 2 for k in taps), "filter_flip": False}
        got = contraction(slot, x, w, y, algorithm=algorithm, **options).numpy()
        largest = np.abs(y if slot == "x" else x).max(initial=0)
        axes = {"y": (1, 2, 3), "x": (0, 2, 3), "w": (0, 2, 3)}[slot]
        total = np.abs((y if slot == "w" else w).astype(np.float64)).sum(axis=axes).max(initial=0)
        terms = 2 * np.prod(out) if slot == "w" else np.prod(taps) * channels
        scale = eps * float(largest) * float(total)
        yield np.abs(got - truth(slot, x, w, y)).max() / scale - terms / 16 if scale else 0


@every_form
@every_dtype
@pytest.mark.parametrize("slot", ["y", "x", "w"])
def test_errors_stay_within_the_published_bound(name, dtype, slot):
    published = FORMS[name][3, 3].error
    for channels, size in ((1, 9), (16, 13), (40, 14))[: 3 if dtype == np.float32 else 2]:
        assert max(errors_in_units(name, (3, 3), dtype, slot, channels, (size, size), int(published))) <= published


LINES = [
    pytest.param(name, taps, marks=tier(name) if taps == (1, 3) else pytest.mark.slow)
    for name, forms in FORMS.items()
    for taps in forms
    if 1 in taps
]


@pytest.mark.parametrize("slot", ["y", "x", "w"])
@pytest.mark.parametrize(("name", "taps"), LINES)
def test_errors_of_filters_of_one_axis_stay_within_the_published_bound(name, taps, slot):
    for channels, size in ((1, (11, 13)), (24, (9, 12))):
        assert max(errors_in_units(name, taps, np.float32, slot, channels, size)) <= FORMS[name][taps].error


@pytest.mark.slow
@pytest.mark.lanes
@every_form
@pytest.mark.parametrize("slot", ["y", "x", "w"])
@pytest.mark.parametrize("flip", [True, False])
def test_tails_borders_groups_and_both_ways_of_cutting(name, slot, flip, monkeypatch):
    rng = np.random.default_rng(0)
    for filters_bytes in (0, 1 << 30):  # filters cut into blocks, and not
        monkeypatch.setattr(winograd, "FILTERS_BYTES", filters_bytes)
        ec.algorithms._planned.cache_clear()
        for case in range(12):
            n, c, f, g = (int(v) for v in rng.integers(1, [4, 50, 50, 3]))
            size = tuple(int(v) for v in rng.integers(3, 24, 2))
            options = {
                "border_mode": ("valid", "same", "full", ((0, 2), (1, 0)))[case % 4],
                "filter_flip": flip,
                "num_groups": g,
            }
            x = rng.integers(-4, 5, (n, c * g, *size)).astype(np.float64)
            w = rng.integers(-4, 5, (f * g, c, 3, 3)).astype(np.float64)
            y = rng.integers(-4, 5, ec.conv2d(x, w, **options).shape).astype(np.float64)
            got = contraction(slot, x, w, y, algorithm=name, **options).numpy()
            assert np.array_equal(np.rint(got), contraction(slot, x, w, y, algorithm="direct", **options).numpy())
            np.testing.assert_allclose(got, np.rint(got), atol=1e-7)
    ec.algorithms._planned.cache_clear()


DILATED = [
    # size, taps, dilation: groups of tiles in whole lines, in parts, larger than a task's, and larger than the image
    ((13, 17), (3, 3), (2, 3)),
    ((33, 20), (3, 3), (6, 6)),
    ((7, 95), (3, 3), (1, 40)),
    ((9, 11), (3, 3), (4, 5)),
    ((40, 6), (3, 1), (7, 1)),
    ((300,), (2,), (64,)),
    ((150,), (3,), (9,)),
    ((9, 5, 7), (3, 1, 1), (1, 1, 1)),
    ((12, 6, 5), (3, 1, 1), (3, 1, 1)),
    ((8, 9, 7), (3, 3, 3), (2, 1, 2)),
]


@pytest.mark.slow
@every_form
@pytest.mark.parametrize("slot", ["y", "x", "w"])
@pytest.mark.parametrize(("size", "taps", "dilation"), DILATED)
def test_taps_that_lie_apart_and_taps_along_the_first_of_three_axes(name, slot, size, taps, dilation, monkeypatch):
    rng = np.random.default_rng(0)
    for filters_bytes, flip, channels, filters in ((0, False, 18, 35), (1 << 30, True, 18, 35), (1 << 30, False, 1, 3)):
        monkeypatch.setattr(winograd, "FILTERS_BYTES", filters_bytes)
        ec.algorithms._planned.cache_clear()
        pad = tuple((k // 2 * d, k // 2 * d - (k > 1) * flip) for k, d in zip(taps, dilation, strict=True))
        options = {"border_mode": pad, "filter_flip": flip, "filter_dilation": dilation}
        x = rng.integers(-4, 5, (2, channels, *size)).astype(np.float64)
        w = rng.integers(-4, 5, (filters, channels, *taps)).astype(np.float64)
        exact = contraction("y", x, w, None, algorithm="direct", **options)
        y = rng.integers(-4, 5, exact.shape).astype(np.float64)
        got = contraction(slot, x, w, y, algorithm=name, **options).numpy()
        assert np.array_equal(np.rint(got), contraction(slot, x, w, y, algorithm="direct", **options).numpy())
        np.testing.assert_allclose(got, np.rint(got), atol=1e-7)
    ec.algorithms._planned.cache_clear()


@pytest.mark.parametrize("slot", ["y", "x", "w"])
def test_dilated_layers_have_the_bits_of_their_interleaved_signals(slot):
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((1, 20, 24, 36)).astype("f"), rng.standard_normal((40, 20, 3, 3)).astype("f")
    y = rng.standard_normal((1, 40, 20, 30)).astype("f")
    options = {"algorithm": "winograd", "filter_flip": False}
    whole = contraction(slot, x, w, y, filter_dilation=(2, 3), **options).numpy()
    parts = {
        (i, j): contraction(
            slot, np.ascontiguousarray(x[..., i::2, j::3]), w, np.ascontiguousarray(y[..., i::2, j::3]), **options
        ).numpy()
        for i in range(2)
        for j in range(3)
    }
    if slot == "w":
        np.testing.assert_allclose(whole, sum(parts.values()), rtol=1e-4, atol=1e-3)
    else:
        for (i, j), part in parts.items():
            assert np.array_equal(whole[..., i::2, j::3], part)


@every_form
@pytest.mark.parametrize("in_parts", [True, False])
@pytest.mark.parametrize(
    ("groups", "flip", "dtype"),
    [(1, False, "f"), (2, True, "f"), pytest.param(1, True, "d", marks=tier("winograd", "d"))],
)
def test_the_gradient_wrt_weights_in_parts_rounds_and_blocks(name, groups, flip, dtype, in_parts, monkeypatch):
    small = {"SHARED_BYTES": 100_000, "PART_CHANNELS": 32, "PART_TILES": 20, "WEIGHT_TILES": 11}
    for limit, value in small.items():
        monkeypatch.setattr(winograd, limit, value)
    monkeypatch.setattr(winograd, "_in_parts", lambda request, form: in_parts)
    ec.algorithms._planned.cache_clear()
    rng = np.random.default_rng(3)
    shapes = ((3, 52 * groups, 21, 17), (41 * groups, 52, 3, 3), (3, 41 * groups, 21, 17))
    x, w, y = (rng.integers(-3, 4, s).astype(dtype) for s in shapes)
    options = {"border_mode": 1, "num_groups": groups, "filter_flip": flip}
    got = contraction("w", x, w, y, algorithm=name, **options).numpy()
    assert np.array_equal(np.rint(got), contraction("w", x, w, y, algorithm="direct", **options).numpy())
    ec.algorithms._planned.cache_clear()


OTHERS = {  # shapes of x and w: filters of one axis, signals, volumes
    "1x7": ((2, 20, 13, 19), (35, 20, 1, 7)),
    "5x1": ((2, 33, 11, 9), (17, 33, 5, 1)),
    "1d": ((3, 20, 50), (35, 20, 4)),
    "3x3x3": ((2, 20, 5, 13, 9), (35, 20, 3, 3, 3)),
    "2x1x6": ((1, 40, 4, 9, 20), (34, 20, 2, 1, 6)),
}


@pytest.mark.slow
@pytest.mark.parametrize("shapes", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("slot", ["y", "x", "w"])
@pytest.mark.parametrize("several", [True, False])
def test_one_axis_signals_and_volumes(shapes, slot, several, monkeypatch):
    monkeypatch.setattr(winograd, "FILTERS_BYTES", 0 if several else 1 << 30)
    monkeypatch.setattr(winograd, "_in_parts", lambda request, form: several)
    monkeypatch.setattr(winograd, "SHARED_BYTES", 100_000)
    ec.algorithms._planned.cache_clear()
    rng = np.random.default_rng(5)
    for flip, mode in itertools.product((True, False), ("same", "full")):
        x, w = (rng.integers(-3, 4, shape).astype(float) for shape in shapes)
        options = {"border_mode": mode, "filter_flip": flip, "num_groups": x.shape[1] // w.shape[1]}
        y = rng.integers(-3, 4, contraction("y", x, w, None, **options).shape).astype(float)
        got, right = (contraction(slot, x, w, y, algorithm=a, **options).numpy() for a in ("winograd", "direct"))
        np.testing.assert_allclose(got, right, atol=1e-7)
    ec.algorithms._planned.cache_clear()


LAID_OUT = {
    "zero strides": lambda a: np.broadcast_to(a[:1, :1, :1, :1], a.shape),
    "zero columns": lambda a: np.broadcast_to(a[..., :1], a.shape),
    "channels last": lambda a: np.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
    "reversed": lambda a: a[::-1, ::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1, ::-1],
    "transposed": lambda a: a.swapaxes(2, 3).copy().swapaxes(2, 3),
}


@every_form
@pytest.mark.parametrize("layout", LAID_OUT.values(), ids=LAID_OUT)
@pytest.mark.parametrize("slot", ["y", "x", "w"])
def test_operands_may_lie_in_memory_as_they_like(name, layout, slot):
    rng = np.random.default_rng(6)
    x, w, y = (rng.integers(-3, 4, s).astype("f") for s in ((2, 20, 9, 21), (35, 20, 3, 3), (2, 35, 9, 21)))
    x, w, y = layout(x), layout(w), layout(y)
    got = contraction(slot, x, w, y, border_mode=1, algorithm=name).numpy()
    assert np.array_equal(np.rint(got), contraction(slot, x, w, y, border_mode=1, algorithm="direct").numpy())


@every_form
@pytest.mark.parametrize("slot", ["y", "x"])
def test_an_image_alone_has_the_same_bits_as_in_a_batch(name, slot):
    rng = np.random.default_rng(4)
    x, w, y = (rng.standard_normal(s).astype("f") for s in ((5, 33, 19, 19), (33, 33, 3, 3), (5, 33, 19, 19)))
    whole = contraction(slot, x, w, y, border_mode=1, algorithm=name).numpy()
    for i in range(5):
        alone = contraction(slot, x[i : i + 1], w, y[i : i + 1], border_mode=1, algorithm=name).numpy()
        assert np.array_equal(alone[0], whole[i])


def chosen(**policy):
    x, w = np.ones((4, 64, 32, 32), "f"), np.ones((64, 64, 3, 3), "f")
    with ec.using(**policy):
        return ec.explain(ec.conv2d, x, w, border_mode=1)[0].chosen


@pytest.mark.plans
def test_auto_keeps_to_the_tolerance_in_force():
    assert chosen() == "winograd"
    assert chosen(tolerance=1e-6) == "winograd_f2"
    assert chosen(tolerance=1e-7) == "gemm"
    assert chosen(exact=True) == "gemm"
    assert not chosen(exclude=("winograd", "winograd_f2", "winograd_dwm")).startswith("winograd")
    small = np.ones((1, 8, 12, 12), "f"), np.ones((8, 8, 3, 3), "f")
    told = ec.explain(ec.conv2d, *small)[0]
    assert not told.chosen.startswith("winograd")
    assert "small problems" in next(c.refused for c in told.candidates if c.name == "winograd")


@pytest.mark.plans
def test_what_it_refuses_it_refuses_with_the_reason():
    x, w = np.ones((2, 4, 12, 12)), np.ones((4, 4, 3, 3))
    cases = {
        "3x3 taps, or 2 to 7 on one axis alone, not 5x5": lambda: ec.conv2d(
            x, np.ones((4, 4, 5, 5)), algorithm="winograd"
        ),
        "3x3 taps, or 2 to 3 on one axis alone, not 4": lambda: ec.conv1d(
            x[:, :, 0], w[..., 0, :1].repeat(4, 2), algorithm="winograd_f2"
        ),
        "does not know strided": lambda: ec.conv2d(x, w, subsample=2, algorithm="winograd"),
    }
    for reason, call in cases.items():
        with pytest.raises(ec.AlgorithmError, match=reason):
            call()
