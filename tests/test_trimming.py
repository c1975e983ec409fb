"""Taps that see nothing but padding are left out of a convolution, and their gradient is zero."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import oracle
import pytest
from hypothesis import given
from strategies import SLOTS, Problem, examples, integers, operands, problems, seeds

import eagerconv as ec
from eagerconv import geometry


@examples(200)
@given(p=problems(empty=False, unshared=False))
def test_the_taps_that_meet_the_image_are_those_of_a_window_somewhere(p: Problem) -> None:
    options = (p.border_mode, p.subsample, p.flip, p.dilation, p.groups, False)
    spec = geometry.forward(f"conv{p.ndim}d", p.ndim, p.input_shape, p.filter_shape, None, None, *options)
    for some, size, kernel, out, s, d, at in zip(
        spec.met, spec.size, spec.kernel, spec.out, spec.stride, spec.step, spec.origin, strict=True
    ):
        seen = [k for k in range(kernel) if any(0 <= o * s + k * d + at < size for o in range(out))]
        assert set(seen) <= set(some)
        if s == 1:
            assert list(some) == (seen or [0])


@pytest.mark.parametrize("unshared", [False, True])
@pytest.mark.parametrize("slot", SLOTS)
@pytest.mark.parametrize(
    "p",
    [
        Problem(2, 2, 3, 4, (1, 9), (7, 7), 3),
        Problem(2, 1, 3, 4, (1, 1), (3, 3), 1, flip=False),
        Problem(1, 1, 2, 2, (2,), (9,), ((7, 3),), (2,)),
        Problem(1, 1, 2, 2, (3, 2), (5, 4), ((8, 1), (2, 6)), (2, 3), (2, 1)),
        Problem(1, 1, 2, 2, (1, 2, 6), (3, 3, 3), 1),
        Problem(1, 1, 2, 2, (1,), (2,), ((5, 0),), (9,), (4,)),
    ],
    ids=str,
)
def test_values(p: Problem, slot: str, unshared: bool) -> None:
    p = replace(p, unshared=unshared)
    numbers = operands(p, 0, np.float32)
    got = p.call(ec, slot, *numbers).numpy()
    np.testing.assert_array_equal(got, p.solve(slot, *(a.astype(np.float64) for a in numbers)))
    assert got.flags.c_contiguous


def test_a_flat_image_is_convolved_with_the_row_that_it_meets() -> None:
    x, w = np.ones((2, 8, 1, 40), np.float32), np.ones((8, 8, 7, 7), np.float32)
    (told,) = ec.explain(ec.conv2d, x, w, border_mode=3)
    assert told.spec.kernel == (1, 7)
    (told,) = ec.explain(ec.conv2d_grad_wrt_weights, x, x, w.shape, border_mode=3)
    assert told.spec.kernel == (1, 7)
    (told,) = ec.explain(ec.conv2d, x, w, border_mode=3, algorithm="direct")
    assert told.spec.kernel == (7, 7)  # an algorithm that is required computes what was asked


@given(seed=seeds)
@examples(20)
def test_gradients_of_all_orders_see_the_taps_that_count(seed: int) -> None:
    x, w = (ec.tensor(integers(shape, seed, np.float64), requires_grad=True) for shape in ((1, 1, 1, 4), (1, 1, 3, 3)))
    ec.check_grads(lambda x, w: ec.conv2d(x, w, border_mode=1), (x, w), order=2)


def test_an_infinite_tap_that_meets_no_pixel_changes_nothing() -> None:
    x: Any = np.ones((1, 2, 1, 8), np.float32)
    w = np.ones((2, 2, 3, 3), np.float32)
    w[:, :, 0] = np.inf
    truth = oracle.forward(x, np.ones_like(w), border_mode=1)
    np.testing.assert_array_equal(ec.conv2d(x, w, border_mode=1).numpy(), truth)
