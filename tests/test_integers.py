"""Integers through floats: the bits of sums that wrap around, whatever their size, and who computes them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import SLOTS, Problem, examples, problems, seeds

import eagerconv as ec
from eagerconv import algorithms, geometry
from eagerconv.algorithms.registry import NATIVE
from eagerconv.kernels_cpu import staging
from eagerconv.record import OPERANDS, Request
from eagerconv.spec import contiguous

DTYPES = ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")

P = Problem(3, 1, 16, 16, (12, 13), (3, 3), 1)


def drawn(p: Problem, dtype: str, largest: int, seed: int = 0) -> list[Any]:
    """Operands up to `largest`, as far as the dtype goes; each has the largest value and the least."""
    rng = np.random.default_rng(seed)
    low, high = (0, 1) if dtype == "bool" else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
    low, high = max(low, -largest), min(high, largest)
    wide: Any = np.uint64 if low == 0 else np.int64
    arrays = [rng.integers(low, high, shape, wide, endpoint=True) for shape in p.shapes()]
    for a in arrays:
        a.flat[:1], a.flat[-1:] = high, low
    return [a.astype(dtype) for a in arrays]


def truth(p: Problem, slot: str, arrays: list[Any], dtype: str) -> Any:
    """In integers modulo 2**64, cut to the dtype."""
    sums = p.solve(slot, *(a.astype(np.int64) for a in arrays))
    assert sums.dtype == np.int64
    return sums != 0 if dtype == "bool" else sums.astype(dtype)


@pytest.mark.parametrize("slot", SLOTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("largest", [1, 100, 2**11, 2**20, 2**24, 2**27, 2**31, 2**64])
def test_sums_are_the_same_bits_as_in_whole_numbers(dtype: str, slot: str, largest: int) -> None:
    p = Problem(2, 1, 4, 5, (6, 7), (3, 3), 1)
    arrays = drawn(p, dtype, largest)
    expected = truth(p, slot, arrays, dtype)
    for algorithm in ("auto", "gemm", "direct"):
        got = p.call(ec, slot, *arrays, algorithm=algorithm).numpy()
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, expected, err_msg=algorithm)


@given(p=problems(), seed=seeds, dtype=st.sampled_from(DTYPES), largest=st.sampled_from([1, 3, 2**26, 2**64]))
@examples(60)
def test_every_shape_wraps_as_direct_does(p: Problem, seed: int, dtype: str, largest: int) -> None:
    arrays = drawn(p, dtype, largest, seed)
    for slot in SLOTS:
        expected = p.call(ec, slot, *arrays, algorithm="direct").numpy()
        for algorithm in ("auto", *(["gemm"] if not p.unshared else [])):
            got = p.call(ec, slot, *arrays, algorithm=algorithm).numpy()
            np.testing.assert_array_equal(got, expected, err_msg=f"{algorithm}, {slot}")


@pytest.mark.parametrize("slot", SLOTS)
@pytest.mark.parametrize("dtype", ["int8", "int64"])
def test_blocks_of_images_are_computed_each_in_its_way(dtype: str, slot: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = drawn(P, dtype, 2**40)
    arrays[0][0], arrays[2][0] = 1, 2  # small enough for floats, unlike the others
    monkeypatch.setattr(staging, "BLOCK", 1)
    algorithms.forget_plans()
    got = P.call(ec, slot, *arrays, algorithm="gemm").numpy()
    algorithms.forget_plans()
    np.testing.assert_array_equal(got, P.call(ec, slot, *arrays, algorithm="direct").numpy())


def test_float32_sums_what_it_has_room_for_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """1,024 products of int8, of 2**14 at most, make 2**24 at most, which float32 has: one more may make 2**24 + 2**14."""
    (gemm,) = (a for a in NATIVE if a.name == "gemm")
    seen: list[str] = []
    spied = staging.staged(replace(gemm, plan=lambda request: (seen.append(request.dtype.name), gemm.plan(request))[1]))
    for taps, name in ((1024, "float32"), (1025, "float64")):
        x = np.full((1, 1, taps + 3), -128, np.int8)
        w = np.full((1, 1, taps), -128, np.int8)
        spec = geometry.forward("conv1d", 1, x.shape, w.shape, None, None, 0, 1, False, 1, 1, False)
        a, b = (contiguous(spec.shape(slot)) for slot in OPERANDS["y"])
        got = spied.plan(Request(spec, "y", np.dtype(np.int8), (a, b)))(x, w)
        assert seen.pop() == name
        assert (got == np.array(taps * 2**14).astype(np.int8)).all()


@pytest.mark.plans
@pytest.mark.parametrize("dtype", DTYPES)
def test_layers_of_integers_take_what_floats_take(dtype: str) -> None:
    x, w = np.ones((1, 64, 28, 28), dtype), np.ones((64, 64, 3, 3), dtype)
    assert ec.explain(ec.conv2d, x, w, border_mode=1)[0].chosen == "gemm"
    assert (
        ec.explain(ec.conv2d, x[:, :1, :5, :5], w[:1, :1])[0].chosen == "direct"
    )  # small ones are not worth conversions
