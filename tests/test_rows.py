"""The algorithm `rows`: every way of summing, tails, borders, strides, and memory that must not be touched."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from strategies import SLOTS, Problem, fenced, operands, tier

import eagerconv as ec
from eagerconv.kernels_cpu.rows import HEIGHTS

# (batch, groups, input and output channels of each, size, kernel, ...): small numbers that reach every branch.
PROBLEMS = {
    "whole planes": Problem(3, 5, 1, 1, (7, 7), (3, 3), 1),
    "whole planes, several vectors": Problem(2, 3, 2, 3, (14, 15), (5, 3), "half"),
    "whole planes, dilated": Problem(2, 3, 1, 2, (9, 8), (3, 2), ((3, 3), (1, 1)), dilation=(3, 2), flip=False),
    "whole signals": Problem(2, 4, 1, 1, (50,), (3,), ((8, 0),), dilation=(4,)),
    "whole volumes": Problem(2, 2, 1, 2, (3, 5, 6), (3, 3, 3), 1),
    "rows of one vector": Problem(2, 3, 1, 1, (23, 13), (3, 3)),
    "rows of many vectors": Problem(1, 2, 2, 2, (19, 150), (3, 3), "same"),
    "rows, 7 taps, padding wider than the image": Problem(1, 2, 1, 1, (4, 40), (7, 7), ((9, 8), (5, 2))),
    "rows, many taps": Problem(2, 2, 1, 1, (33, 40), (19, 17), "half"),
    "rows in strips": Problem(1, 1, 1, 2, (150, 210), (4, 5), ((3, 0), (2, 5)), flip=False),
    "rows of few images": Problem(1, 1, 2, 5, (90, 34), (3, 3), "half"),
    "rows, stride along x": Problem(1, 2, 1, 1, (11, 70), (3, 3), 1, (1, 2)),
    "rows, stride above the kernel along x": Problem(1, 1, 1, 1, (2, 1), (2, 1), 0, (1, 2), flip=False),
    "flat, stride": Problem(2, 3, 1, 2, (15, 16), (3, 3), 1, (2, 2)),
    "flat, stride above the kernel": Problem(2, 3, 2, 1, (17, 18), (2, 1), 0, (4, 3)),
    "flat, long strides": Problem(2, 3, 1, 2, (31, 47), (7, 9), 3, (5, 8)),
    "flat, stride and dilation": Problem(1, 3, 1, 1, (20, 21), (3, 4), 2, (3, 2), (2, 3)),
    "flat, dilation": Problem(1, 3, 1, 1, (30, 41), (3, 3), 0, (1, 1), (4, 5)),
    "flat, one row in strips": Problem(1, 2, 1, 1, (9001,), (5,), "valid", dilation=(3,)),
    "flat, one row with a stride": Problem(2, 2, 2, 2, (301,), (4,), 3, (2,)),
    "volumes": Problem(1, 2, 2, 2, (5, 9, 21), (3, 2, 3), ((1, 1), (0, 2), (1, 1)), (2, 1, 1)),
    "volumes with strides": Problem(2, 2, 1, 1, (6, 7, 9), (3, 3, 3), 1, (2, 2, 2)),
}
PROBLEMS |= {f"rows, {height} taps": Problem(1, 2, 1, 1, (11, 35), (height, 3), "half") for height in HEIGHTS}
PROBLEMS |= {f"flat, {taps} taps": Problem(2, 2, 1, 1, (6, 9), (1, taps), "half", (2, 1)) for taps in range(1, 7)}


@pytest.mark.lanes
@pytest.mark.parametrize("dtype", [pytest.param(d, marks=tier("rows", d)) for d in ("float32", "float64")])
@pytest.mark.parametrize("name", PROBLEMS)
def test_values(name: str, dtype: str) -> None:
    problem = PROBLEMS[name]
    x, w, y = operands(problem, 0)
    for slot in SLOTS:
        found = problem.call(ec, slot, *(a.astype(dtype) for a in (x, w, y)), algorithm="rows").numpy()
        assert np.array_equal(found, problem.solve(slot, x, w, y)), slot


@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize("name", PROBLEMS)
def test_nothing_outside_the_operands_is_read(name: str, at_end: bool) -> None:
    problem = PROBLEMS[name]
    x, w, y = operands(problem, 0, np.float32)
    inside = [fenced(a, at_end) for a in (x, w, y)]
    for slot in SLOTS:
        found = problem.call(ec, slot, *inside, algorithm="rows").numpy()
        assert np.array_equal(found, problem.solve(slot, x, w, y)), slot


@pytest.mark.parametrize("name", PROBLEMS)
def test_an_image_is_the_same_bits_alone_and_in_a_batch_and_padding_hides_infinity(name: str) -> None:
    problem = PROBLEMS[name]
    rng = np.random.default_rng(0)
    x, w, y = (rng.standard_normal(shape).astype(np.float32) for shape in problem.shapes())
    two = Problem(**{**{f: getattr(problem, f) for f in Problem.__dataclass_fields__}, "batch": 2})
    one = Problem(**{**{f: getattr(problem, f) for f in Problem.__dataclass_fields__}, "batch": 1})
    alone = one.call(ec, "forward", x[:1], w, y[:1], algorithm="rows").numpy()
    both = two.call(ec, "forward", np.stack([np.full_like(x[0], np.inf), x[0]]), w, None, algorithm="rows").numpy()
    assert np.array_equal(both[1], alone[0])


def test_an_infinite_pixel_reaches_its_window_and_no_more() -> None:
    for size, kernel in (((7, 7), (3, 3)), ((30, 40), (3, 3)), ((30, 40), (11, 3))):
        x, w = np.ones((1, 1, *size), np.float32), np.ones((1, 1, *kernel), np.float32)
        x[0, 0, 3, 5] = np.inf
        finite = np.isfinite(ec.conv2d(x, w, border_mode="half", algorithm="rows").numpy())
        expected = np.isfinite(ec.conv2d(x, w, border_mode="half", algorithm="direct").numpy())
        assert np.array_equal(finite, expected)


@pytest.mark.plans
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"subsample": 9}, "does not know strides above 8"),
        ({"filter_dilation": 700}, "would need too much workspace"),
    ],
)
def test_refusals_tell_why(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        ec.conv2d(np.ones((1, 1, 1500, 1500)), np.ones((1, 1, 3, 3)), algorithm="rows", **options)


@pytest.mark.plans
def test_auto_chooses_rows_for_depthwise_layers() -> None:
    for kernel in (3, 7, 31):
        x, w = np.ones((2, 32, 56, 56), np.float32), np.ones((32, 1, kernel, kernel), np.float32)
        with ec.using(exclude=["fft"]):  # which is the faster where kernels are large and registers short
            assert ec.explain(ec.conv2d, x, w, border_mode="half", num_groups=32)[0].chosen == "rows"
