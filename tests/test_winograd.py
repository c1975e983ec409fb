"""Winograd's promises: its error bound, its choice by tolerance, its bits, and what it refuses."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest

import eagerconv as ec
from eagerconv.kernels_cpu import winograd
from eagerconv.kernels_cpu.cooktoom import form

FORMS = {"winograd": 4, "winograd_f2": 2}
every_form = pytest.mark.parametrize("name", FORMS)
every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def contraction(slot, x, w, y, **options):
    if slot == "y":
        return ec.conv2d(x, w, **options)
    if slot == "x":
        return ec.conv2d_grad_wrt_inputs(y, w, x.shape, **options)
    return ec.conv2d_grad_wrt_weights(x, y, w.shape, **options)


@pytest.mark.parametrize("m", [2, 4])
def test_the_matrices_compute_correlations(m):
    data, filters, output = (
        [[Fraction(v).limit_denominator(1000) for v in row] for row in part] for part in form(m, 3)
    )
    for i in range(m + 2):  # for unit vectors d = e_i and g = e_k, y[j] is whether i = j + k
        for k in range(3):
            product = [filters[xi][k] * data[xi][i] for xi in range(m + 2)]
            y = [sum(a * p for a, p in zip(row, product, strict=True)) for row in output]
            assert y == [int(i == j + k) for j in range(m)]


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
    """Cross-correlation with one zero on every side, summed tap by tap in long double (float64 for float32 operands)."""
    x, w, y = (v.astype(np.float64 if v.dtype == np.float32 else np.longdouble) for v in (x, w, y))
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    result = np.zeros_like({"y": y, "x": padded, "w": w}[slot])
    for k in np.ndindex(3, 3):
        window = (..., slice(k[0], k[0] + x.shape[2]), slice(k[1], k[1] + x.shape[3]))
        if slot == "y":
            result += np.einsum("nchw,fc->nfhw", padded[window], w[(..., *k)], optimize=True)
        elif slot == "x":
            result[window] += np.einsum("nfhw,fc->nchw", y, w[(..., *k)], optimize=True)
        else:
            result[(..., *k)] = np.einsum("nchw,nfhw->fc", padded[window], y, optimize=True)
    return result[..., 1:-1, 1:-1] if slot == "x" else result


@every_form
@every_dtype
@pytest.mark.parametrize("slot", ["y", "x", "w"])
def test_errors_stay_within_the_published_bound(name, dtype, slot):
    rng = np.random.default_rng(FORMS[name])
    eps = float(np.finfo(dtype).eps)
    for channels, size in ((1, 9), (16, 13), (40, 14))[: 3 if dtype == np.float32 else 2]:
        for first, second in itertools.product(DRAWS, DRAWS):
            image, other = DRAWS[first], DRAWS[second]
            x = image(rng, (2, channels, size, size)).astype(dtype)
            w = other(rng, (channels, channels, 3, 3)).astype(dtype)
            y = (other if slot == "w" else image)(rng, (2, channels, size, size)).astype(dtype)
            got = contraction(slot, x, w, y, border_mode=1, filter_flip=False, algorithm=name).numpy()
            largest = np.abs(y if slot == "x" else x).max(initial=0)
            axes = {"y": (1, 2, 3), "x": (0, 2, 3), "w": (0, 2, 3)}[slot]
            total = np.abs((y if slot == "w" else w).astype(np.float64)).sum(axis=axes).max(initial=0)
            terms = 2 * size * size if slot == "w" else 9 * channels
            bound = (winograd.ERROR[FORMS[name]] + terms / 16) * eps * largest * total
            assert np.abs(got - truth(slot, x, w, y)).max() <= bound, (first, second, channels)


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


@every_form
@pytest.mark.parametrize("in_parts", [True, False])
def test_the_gradient_wrt_weights_in_parts_rounds_and_blocks(name, in_parts, monkeypatch):
    small = {"SHARED_BYTES": 100_000, "PART_CHANNELS": 32, "PART_TILES": 20, "WEIGHT_TILES": 11}
    for limit, value in small.items():
        monkeypatch.setattr(winograd, limit, value)
    monkeypatch.setattr(winograd, "_in_parts", lambda request, m: in_parts)
    ec.algorithms._planned.cache_clear()
    rng = np.random.default_rng(3)
    for groups, flip, dtype in ((1, True, "d"), (1, False, "f"), (2, True, "f")):
        shapes = ((3, 52 * groups, 21, 17), (41 * groups, 52, 3, 3), (3, 41 * groups, 21, 17))
        x, w, y = (rng.integers(-3, 4, s).astype(dtype) for s in shapes)
        options = {"border_mode": 1, "num_groups": groups, "filter_flip": flip}
        got = contraction("w", x, w, y, algorithm=name, **options).numpy()
        assert np.array_equal(np.rint(got), contraction("w", x, w, y, algorithm="direct", **options).numpy())
    ec.algorithms._planned.cache_clear()


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


def test_auto_keeps_to_the_tolerance_in_force():
    assert chosen() == "winograd"
    assert chosen(tolerance=1e-6) == "winograd_f2"
    assert chosen(tolerance=1e-7) == "gemm"
    assert chosen(exact=True) == "gemm"
    assert chosen(exclude=("winograd", "winograd_f2")) in ("gemm", "fft")
    small = np.ones((1, 8, 12, 12), "f"), np.ones((8, 8, 3, 3), "f")
    told = ec.explain(ec.conv2d, *small)[0]
    assert told.chosen in ("gemm", "direct")
    assert "small problems" in next(c.refused for c in told.candidates if c.name == "winograd")


def test_what_it_refuses_it_refuses_with_the_reason():
    x, w = np.ones((2, 4, 12, 12)), np.ones((4, 4, 3, 3))
    cases = {
        "is for 3x3 filters, not 5x5": lambda: ec.conv2d(x, np.ones((4, 4, 5, 5)), algorithm="winograd"),
        "does not know strided": lambda: ec.conv2d(x, w, subsample=2, algorithm="winograd"),
        "does not know dilated": lambda: ec.conv2d(x, w, filter_dilation=2, algorithm="winograd"),
        "needs the pixels of a row": lambda: ec.conv2d(x.transpose(0, 1, 3, 2), w, algorithm="winograd"),
        "needs the nine taps": lambda: ec.conv2d(x, w.transpose(0, 1, 3, 2), algorithm="winograd"),
        "does not know 1d": lambda: ec.conv1d(x[:, :, 0], w[..., 0], algorithm="winograd"),
    }
    for reason, call in cases.items():
        with pytest.raises(ec.AlgorithmError, match=reason):
            call()
