"""Formulas: errors of the elementary functions in units of the last place, edges, derivatives, and arrays of every kind."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest
from processes import script

import eagerconv as ec
from eagerconv import formulas, fused
from eagerconv.autograd import rules
from eagerconv.kernels_cpu import formulas as cpu
from eagerconv.kernels_cpu import threads

every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])

_erfc = np.vectorize(math.erfc, otypes=[float])
WIDE = np.longdouble
TRUTH = {
    "exp": np.exp, "expm1": np.expm1, "log": np.log, "log1p": np.log1p, "sqrt": np.sqrt, "tanh": np.tanh,
    "sigmoid": lambda x: np.exp(np.minimum(x, 0)) / (1 + np.exp(-abs(x))),
    "softplus": lambda x: np.maximum(x, 0) + np.log1p(np.exp(-abs(x))),
    "normal_cdf": lambda x: 0.5 * _erfc(-x.astype(float) / math.sqrt(2)),
}  # fmt: skip
ULP = {"exp": 1.1, "expm1": 1.9, "log": 1.0, "log1p": 1.6, "sqrt": 0.51, "tanh": 1.6, "sigmoid": 1.6, "softplus": 1.8,
       "normal_cdf": 6.0}  # fmt: skip
ULP_DOUBLE = ULP | {"tanh": 2.6}


@pytest.fixture(autouse=True)
def _normal_cdf_alone(monkeypatch):
    """It is part of gelu only, and measured alone."""
    monkeypatch.setitem(formulas.FORMULAS, "normal_cdf", formulas.Formula(lambda m, x: m.normal_cdf(x)))


def ulps(found, true, dtype):
    """Distances from the truth in spacings of the result, where that is a number; elsewhere both must be the same."""
    rounded = true.astype(dtype)
    number = np.isfinite(rounded)
    np.testing.assert_array_equal(found[~number], rounded[~number])
    return np.abs(found[number] - true[number]) / np.spacing(np.abs(rounded[number]))


@pytest.mark.filterwarnings("ignore:.*encountered in")
@pytest.mark.parametrize("name", TRUTH)
def test_errors_of_all_kinds_of_single_precision_numbers(name, request):
    stride = 1009 if request.config.getoption("--full") else 20_011  # of the 2**32
    stride *= 50 if name == "normal_cdf" else 1
    x = np.arange(0, 1 << 32, stride, dtype=np.uint32).view(np.float32)
    found, true = cpu.evaluate(name, [x]), TRUTH[name](x.astype(np.float64))
    if name == "normal_cdf":  # what is below is zero
        assert (found[true < 1e-38] < 1e-37).all()
        found, true = (v[~(true < 1e-37)] for v in (found, true))
    assert ulps(found, true, np.float32).max() <= ULP[name]


@pytest.mark.filterwarnings("ignore:.*encountered in")
@pytest.mark.skipif(np.finfo(WIDE).nmant < 60, reason="needs long doubles that are wider than doubles")
@pytest.mark.parametrize("name", [name for name in TRUTH if name != "normal_cdf"])
def test_errors_of_double_precision_numbers(name):
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.standard_normal(20_000) * scale for scale in (1e-300, 1e-9, 1e-3, 0.3, 1, 5, 50, 400)])
    x = np.concatenate([x, [0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324, 1.7e308, -1.7e308]])
    found = cpu.evaluate(name, [x])
    assert ulps(found, TRUTH[name](x.astype(WIDE)), np.float64).max() <= ULP_DOUBLE[name]


def test_the_normal_distribution_in_double_precision():
    x = np.linspace(-37, 9, 4001)
    true = TRUTH["normal_cdf"](x)
    found = cpu.evaluate("normal_cdf", [x])
    np.testing.assert_allclose(found, true, rtol=3e-13)  # erfc of a rounded x / sqrt(2) errs by x**2 times that much
    near = abs(x) < 5
    assert ulps(found[near], true[near], np.float64).max() < 30


@every_dtype
@pytest.mark.parametrize("size", [0, 1, 7, 64, 1000, cpu.PIECE - 1, cpu.PIECE, cpu.PIECE + 3, 5 * cpu.PIECE + 1])
def test_arrays_of_any_size_and_nothing_written_beside_them(size, dtype):
    x = np.random.default_rng(size).standard_normal(size).astype(dtype)
    room = np.full(size + 64, 7, dtype)
    out = room[32 : 32 + size]
    assert cpu.update("silu", [x], [out])
    np.testing.assert_allclose(out, x / (1 + np.exp(-x)), rtol=20 * np.finfo(dtype).eps)
    assert (np.delete(room, np.s_[32 : 32 + size]) == 7).all()


@every_dtype
def test_a_number_has_the_same_bits_wherever_it_stands(dtype, monkeypatch):
    x = np.random.default_rng(0).standard_normal(3 * cpu.PIECE + 77).astype(dtype)
    for name in ("gelu", "tanh", "softplus", "silu_d0"):
        operands = [x] * formulas.formula(name).operands
        whole = cpu.evaluate(name, operands)
        monkeypatch.setattr(cpu, "STREAM_BYTES", 0)
        cpu._launch.cache_clear()
        assert cpu.evaluate(name, operands).tobytes() == whole.tobytes()
        monkeypatch.undo()
        cpu._launch.cache_clear()
        for start in (0, 1, 5, 4099):
            part = cpu.evaluate(name, [v[start : start + 61] for v in operands])
            assert part.tobytes() == whole[start : start + 61].tobytes()
        scattered = np.empty((2, x.size), dtype).T[:, 0]
        scattered[:] = x
        assert cpu.evaluate(name, [scattered] * len(operands)).tobytes() == whole.tobytes()
        before = threads.get_num_threads()
        threads.set_num_threads(1)
        try:
            assert cpu.evaluate(name, operands).tobytes() == whole.tobytes()
        finally:
            threads.set_num_threads(before)


def test_a_cotangent_that_is_one_number_is_not_written_out():
    x = np.random.default_rng(0).standard_normal((3, cpu.PIECE)).astype("f")
    g = np.broadcast_to(np.float32(3), x.shape)
    np.testing.assert_array_equal(cpu.evaluate("silu_d0", [g, x]), cpu.evaluate("silu_d0", [g.copy(), x]))


NUMBERS = {"leaky_relu": (0.2,), "hardtanh": (-1.05, 1.45), "scaled_softplus": (2.5,)}
FIRST = [name for name, f in formulas.FORMULAS.items() if f.operands == 1 and name != "normal_cdf"]
POSITIVE = {"log", "log1p", "sqrt"}


def given(name):
    """Numbers for a formula that takes some."""
    return NUMBERS.get(name, (1.3,) * formulas.formula(name).numbers)


@pytest.mark.parametrize("name", FIRST)
def test_derivatives_in_both_modes_to_third_order(name):
    x = np.random.default_rng(1).uniform(0.3, 2, 6) if name in POSITIVE else np.linspace(-2.1, 2.2, 9)
    ec.check_grads(lambda t: fused.operation(name)(t, numbers=given(name)), (ec.tensor(x),), order=3)


@pytest.mark.parametrize("name", FIRST)
def test_the_plain_form_and_the_kernels_agree_to_second_order(name):
    """NumPy's functions in long doubles, where no kernel knows the numbers."""
    x = np.abs(np.linspace(-6, 6.5, 41)) if name in POSITIVE else np.linspace(-6, 6.5, 41)
    numbers = given(name)
    for suffix in ("", "_d0", "_d0_d1"):
        operands = [x] * formulas.formula(name + suffix).operands
        plain = fused.computed(name + suffix, [v.astype(WIDE) for v in operands], numbers)
        assert plain.dtype == WIDE
        for dtype in (np.float32, np.float64):
            found = fused.computed(name + suffix, [v.astype(dtype) for v in operands], numbers)
            # Derivatives are sums whose terms cancel: errors are of the size of the terms, the second's more.
            room = {"": 4, "_d0": 40}.get(suffix, 200) * np.finfo(dtype).eps
            np.testing.assert_allclose(found, plain, rtol=room, atol=room * float(np.abs(plain).max()))


def test_infinite_and_undefined_numbers_are_those_of_the_limits():
    x = np.array([-np.inf, -1000, -0.0, 0.0, 1000, np.inf, np.nan], np.float32)
    nan, inf = np.nan, np.inf
    for function, expected in (
        (ec.softplus, [0, 0, math.log(2), math.log(2), 1000, inf, nan]),
        (ec.sigmoid, [0, 0, 0.5, 0.5, 1, 1, nan]),
        (ec.elu, [-1, -1, -0.0, 0, 1000, inf, nan]),
        (ec.log_sigmoid, [-inf, -1000, -math.log(2), -math.log(2), 0, 0, nan]),
        (ec.hardsigmoid, [0, 0, 0.5, 0.5, 1, 1, nan]),
        (ec.leaky_relu, [-inf, -10, -0.0, 0, 1000, inf, nan]),
        (lambda t: ec.gelu(t)[1:], [-0.0, -0.0, 0, 1000, inf, nan]),
    ):
        np.testing.assert_allclose(function(x).data, np.float32(expected), rtol=1e-6)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_sixteen_bit_numbers_are_computed_in_single_precision(name):
    dtype = np.dtype(getattr(ml_dtypes, name, name))
    x = np.linspace(-4, 4, 65).astype(dtype)
    for function in (ec.gelu, ec.silu, ec.softplus, ec.elu, ec.leaky_relu, ec.mish, ec.sigmoid):
        found = function(x)
        assert found.dtype == dtype
        assert found.data.tobytes() == function(x.astype(np.float32)).data.astype(dtype).tobytes()


def test_large_arrays_of_numpys_functions_are_given_to_the_kernels(monkeypatch):
    rng = np.random.default_rng(0)
    taken = []
    evaluate = cpu.evaluate
    monkeypatch.setattr(cpu, "evaluate", lambda name, *rest: taken.append(name) or evaluate(name, *rest))
    for name in ("exp", "expm1", "log", "log1p", "tanh"):
        x = rng.uniform(0.1, 2, 40_000).astype("f")
        t = ec.tensor(x, requires_grad=True)
        row, g = getattr(rules, name), rng.standard_normal(x.size).astype("f")
        y = row(t)
        np.testing.assert_allclose(y.data, row.fn(x), rtol=4e-7)
        y.backward(g)
        small = ec.tensor(x[:50], requires_grad=True)
        row(small).backward(g[:50])
        np.testing.assert_allclose(t.grad.data[:50], small.grad.data, rtol=1e-5)
    assert {"exp", "expm1", "log", "log1p", "tanh", "tanh_back", "log_d0"} <= set(taken)


@every_dtype
@pytest.mark.parametrize("name", [name for name, f in formulas.FORMULAS.items() if f.results > 1 or name == "sgd"])
def test_steps_of_optimisers_are_those_of_numpys_functions(name, dtype):
    found = formulas.formula(name)
    numbers = {8: (1e-2, 0.1, 0.9, 0.1, 0.99, 0.01, 0.3, 1e-8)}.get(found.numbers, (0.1, 0.2, 0.9, 0.1, 1e-8, 0.5))
    numbers = numbers[: found.numbers]
    rng = np.random.default_rng(0)
    for size in (5, cpu.PIECE + 9):
        p, g, *kept = (rng.uniform(0.5, 1, size).astype(dtype) for _ in range(found.operands))
        kept = [v + 1 for v in kept]
        plain = fused._plain(name, [v.astype(WIDE) for v in (p, g, *kept)], numbers)
        before = g.copy()
        fused.update(name, [p, *kept], [g], numbers)
        assert (g == before).all()
        for value, true in zip((p, *kept), plain, strict=True):
            np.testing.assert_allclose(value, true, rtol=20 * np.finfo(dtype).eps)


def test_a_wrong_number_of_arguments_is_an_error():
    x = np.ones(4)
    for operands, numbers in (([x, x], ()), ([x], (1.0,))):
        with pytest.raises(TypeError, match="the formula silu takes 1 arrays and 0 numbers"):
            cpu.evaluate("silu", operands, numbers)


def test_the_first_use_of_a_formula_does_without_numba(tmp_path):
    code = """
        import sys
        import eagerconv as ec
        ec.gelu([1.0, 2.0])
        print("numba" in sys.modules)
    """
    assert script(code, EAGERCONV_CACHE_DIR=str(tmp_path)) == ["False"]
