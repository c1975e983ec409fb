"""The ranges that algorithms publish: within them nothing overflows and nothing of weight is lost, and they are not too small.

Multiplying by powers of two is exact: as long as nothing overflows or falls below the normal numbers, results of scaled
operands are the scaled results, bit for bit.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from strategies import Problem, tier

import eagerconv as ec
from eagerconv import geometry
from eagerconv.algorithms import registry
from eagerconv.algorithms.registry import TABLE
from eagerconv.record import OPERANDS, Algorithm, Request
from eagerconv.spec import contiguous

PROBLEMS = {
    "winograd": [Problem(2, 1, 3, 2, (9, 10), (3, 3), "half"), Problem(2, 1, 3, 2, (20,), (7,), "half")],
    "winograd_f2": [Problem(2, 1, 3, 2, (9, 10), (3, 3), "half")],
    "winograd_dwm": [
        Problem(2, 1, 3, 2, (13, 14), (5, 5), "half"),
        Problem(2, 1, 3, 2, (13, 14), (7, 7), "half", (2, 2)),
        Problem(2, 1, 3, 2, (13, 14), (3, 3), "half", (2, 2)),
    ],
    "fft": [
        Problem(2, 1, 2, 2, (70,), (16,), "half"),
        Problem(2, 1, 3, 2, (12, 13), (5, 5), "half"),
        Problem(1, 1, 2, 2, (7, 6, 5), (3, 3, 3), "half"),
    ],
}
NOT_DIRECT = [algorithm for algorithm in TABLE["cpu"] if not algorithm.exact]
CASES = [
    pytest.param(a, d, slot, marks=tier(a.name, d))
    for a in NOT_DIRECT
    for d in ("float32", "float64", "complex64")
    if d in a.dtypes
    for slot in "yxw"
]
every_case = pytest.mark.parametrize(("algorithm", "dtype", "slot"), CASES, ids=lambda v: getattr(v, "name", v))


def waves(shape, length):
    """Signs that change every `length` places along each of the last axes: what transforms with few signs amplify most."""
    return (-1.0) ** sum(place // length for place in np.indices(shape)[2:])


DRAWS = {
    "ones": lambda rng, shape: np.ones(shape),
    "signs": lambda rng, shape: rng.choice([-1.0, 1.0], shape),
    "waves": lambda rng, shape: waves(shape, 1),
    "longer waves": lambda rng, shape: waves(shape, 2),
    "one number": lambda rng, shape: (np.arange(math.prod(shape)) == math.prod(shape) // 2).reshape(shape) * 1.0,
    "scales": lambda rng, shape: rng.standard_normal(shape) * 10.0 ** rng.uniform(-4, 4, shape),
}


def request_of(p: Problem, slot: Any, dtype: Any, device: str = "cpu") -> Request:
    options = (p.border_mode, p.subsample, p.flip, p.dilation, p.groups, p.unshared)
    spec = geometry.forward(f"conv{p.ndim}d", p.ndim, p.input_shape, p.filter_shape, None, None, *options)
    a, b = (contiguous(spec.shape(operand)) for operand in OPERANDS[slot])
    return Request(spec, slot, np.dtype(dtype), (a, b), device=device)


def drawn(request: Request):
    """Pairs of operands with max|a| = 1 and sum|b| = 1, but for rounding to their dtype."""
    rng = np.random.default_rng(0)
    turn = np.exp(0.7j) if request.dtype.kind == "c" else 1
    for pair in itertools.product(DRAWS.values(), repeat=2):
        a, b = (draw(rng, request.spec.shape(o)) for draw, o in zip(pair, OPERANDS[request.slot], strict=True))
        result_channel = 0 if request.slot == "y" else 1
        sums = abs(b).sum(tuple(axis for axis in range(b.ndim) if axis != result_channel))
        yield (a * turn / abs(a).max()).astype(request.dtype), (b * turn / sums.max()).astype(request.dtype)


def scaled(a, exponent: int):
    """Times 2**exponent, exactly where that is in range."""
    if np.iscomplexobj(a):
        return scaled(a.view(a.real.dtype), exponent).view(a.dtype)
    with np.errstate(over="ignore"):
        return np.ldexp(a.astype(float), exponent).astype(a.dtype)


def run_at(plan, a, b, limit: float):
    """Bring max|a|, sum|b|, or their product alone to a limit: (result as it is of size one, exponent, result) of each."""
    part, exponent = math.frexp(limit)
    for first, second, shifts in (
        (a * a.dtype.type(part), b, (exponent, 0)),
        (a, b * b.dtype.type(part), (0, exponent)),
        (a * a.dtype.type(part), b, (exponent // 2, exponent - exponent // 2)),
    ):
        yield plan(first, second), exponent, plan(scaled(first, shifts[0]), scaled(second, shifts[1]))


@every_case
def test_up_to_the_most_results_are_those_of_size_one_bit_for_bit(algorithm: Algorithm, dtype, slot):
    for p in PROBLEMS[algorithm.name]:
        request = request_of(p, slot, dtype)
        plan, most = algorithm.plan(request), algorithm.safe(request).most
        for a, b in drawn(request):
            for base, exponent, result in run_at(plan, a, b, most):
                np.testing.assert_array_equal(result, scaled(base, exponent))


@every_case
def test_down_to_the_least_the_published_error_holds(algorithm: Algorithm, dtype, slot):
    for p in PROBLEMS[algorithm.name]:
        request = request_of(p, slot, dtype)
        plan, least = algorithm.plan(request), algorithm.safe(request).least
        # What is lost, less than a unit in the last place, and the roundings that then fall otherwise.
        allowed = algorithm.error(request) / 8
        for a, b in drawn(request):
            for base, exponent, result in run_at(plan, a, b, least):
                assert abs(scaled(result, -exponent) - base).max() <= allowed


@every_case
def test_at_32_times_the_most_something_overflows(algorithm: Algorithm, dtype, slot):
    for p in PROBLEMS[algorithm.name]:
        request = request_of(p, slot, dtype)
        plan, most = algorithm.plan(request), min(32 * algorithm.safe(request).most, float(np.finfo(dtype).max) / 2)
        results = (result for a, b in drawn(request) for _, _, result in run_at(plan, a, b, most))
        assert not all(np.isfinite(result).all() for result in results)


def test_far_below_the_least_winograd_loses_what_direct_sums_keep():
    request = request_of(PROBLEMS["winograd"][0], "y", "float32")
    winograd, gemm = (next(a for a in TABLE["cpu"] if a.name == name) for name in ("winograd", "gemm"))
    a, b = np.ones(request.spec.shape("x"), "f"), np.full(request.spec.shape("w"), 1 / 32, "f")
    exponent = -133  # far below the normal numbers, and yet no filter is rounded
    for algorithm, holds in ((gemm, True), (winograd, False)):
        plan = algorithm.plan(request)
        lost = abs(scaled(plan(a, scaled(b, exponent)), -exponent) - plan(a, b)).max()
        assert (lost <= winograd.error(request)) == holds


LARGE = [
    ("winograd", Problem(32, 1, 64, 64, (224, 224), (3, 3), "half")),
    ("winograd", Problem(8, 1, 1000, 1000, (56, 56), (3, 3), "half")),
    ("winograd_dwm", Problem(128, 1, 2048, 2048, (512, 512), (5, 5), "half")),
    ("fft", Problem(1, 1, 1, 1, (2**24,), (2**19,))),
    ("fft", Problem(64, 1, 64, 64, (512, 512), (255, 255), "half")),
    ("fft", Problem(8, 1, 64, 64, (64, 64, 64), (31, 31, 31), "half")),
]


@pytest.mark.parametrize("slot", "yxw")
def test_large_layers_have_the_range_that_using_tells_of(slot):
    three_by_three = {"float32": (1e-26, 7e34), "float64": (1e-296, 3e304)}
    any_layer = {"float32": (1e-18, 1e31), "float64": (1e-288, 1e301)}
    for (name, p), dtype in itertools.product(LARGE, any_layer):
        request = request_of(p, slot, dtype)
        (algorithm,) = (a for a in NOT_DIRECT if a.name == name)
        for least, most in [any_layer[dtype]] + [three_by_three[dtype]] * (p.kernel == (3, 3)):
            assert algorithm.safe(request).least <= least
            assert algorithm.safe(request).most >= most
    for figure in (
        f"{v:.0e}".replace("e+", "e") for some in (three_by_three, any_layer) for v in sum(some.values(), ())
    ):
        assert figure in ec.using.__doc__


def test_every_algorithm_with_an_error_has_a_range_and_no_other():
    for device in ("cpu", "cuda"):
        for algorithm in registry.table(device):
            assert (algorithm.safe is None) == (algorithm.error is None)


@pytest.mark.parametrize("algorithm", [pytest.param(a, marks=tier(a.name)) for a in NOT_DIRECT], ids=lambda a: a.name)
def test_bfloat16_has_the_range_of_float32_through_which_it_goes(algorithm: Algorithm):
    request = request_of(PROBLEMS[algorithm.name][0], "y", "bfloat16")
    plan, limits = algorithm.plan(request), algorithm.safe(request)
    assert limits == algorithm.safe(replace(request, dtype=np.dtype("float32")))
    for a, b in drawn(request):
        for base, exponent, result in run_at(plan, a, b, limits.most):
            np.testing.assert_array_equal(result, scaled(base, exponent))


def test_sums_over_blocks_of_the_batch_lose_something_in_each():
    for algorithm in NOT_DIRECT:
        p = replace(PROBLEMS[algorithm.name][0], batch=100_000)
        narrow, wide = (algorithm.safe(request_of(p, "w", dtype)) for dtype in ("bfloat16", "float32"))
        assert narrow.most == wide.most
        assert narrow.least >= wide.least


@pytest.mark.parametrize("slot", "yxw")
def test_the_transforms_of_a_gpu(place, slot):
    (algorithm,) = (a for a in registry.table("cuda") if a.name == "fft")
    for p in PROBLEMS["fft"]:
        request = request_of(p, slot, "float64", "cuda")
        plan, limits = algorithm.plan(request), algorithm.safe(request)

        def on_card(a, b, plan=plan):
            return place.get(plan(place.put(a), place.put(b)))

        for a, b in drawn(request):
            for base, exponent, result in run_at(on_card, a, b, limits.most):
                np.testing.assert_array_equal(result, scaled(base, exponent))
            for base, exponent, result in run_at(on_card, a, b, limits.least):
                assert abs(scaled(result, -exponent) - base).max() <= algorithm.error(request)


def test_values_beyond_the_range_are_summed_directly_on_request_and_check_tells():
    x = np.full((1, 16, 34, 34), 1e37, np.float32)
    x[..., ::2] *= -1
    w = np.full((64, 16, 3, 3), 1 / 144, np.float32)
    with ec.using(exact=True):
        y = ec.conv2d(x, w).numpy()
    np.testing.assert_allclose(abs(y), np.float32(1e37 / 3), rtol=1e-5)
    with ec.check(), pytest.raises(ec.CheckError, match=r"it gave \S*(inf|nan), .*from \S+ to 2e\+35"):
        ec.conv2d(x, w)
