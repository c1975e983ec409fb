"""Complex numbers through real convolutions of their parts: exact on whole numbers, the same bits in any company."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import SLOTS, Problem, arranged, examples, operands, problems, reals, seeds

import eagerconv as ec
from eagerconv import algorithms
from eagerconv.kernels_cpu import pairs

PROBLEMS = [
    Problem(3, 2, 5, 7, (9, 10), (3, 3), 1, (2, 1)),
    Problem(3, 4, 1, 2, (12, 11), (3, 3), "half"),
    Problem(3, 1, 3, 4, (16,), (5,), "full", dilation=(2,)),
    Problem(2, 2, 2, 3, (4, 5, 6), (2, 3, 2), 1),
    Problem(2, 1, 2, 3, (6, 5), (3, 2), 1, unshared=True),
]


@pytest.mark.parametrize("block", [1, 1 << 20])
@pytest.mark.parametrize("slot", SLOTS)
@pytest.mark.parametrize("p", PROBLEMS, ids=str)
def test_values(p: Problem, slot: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "BLOCK", block)
    algorithms.forget_plans()
    numbers = operands(p, 1, np.complex64)
    for layout in ("C", "channels-last", "reversed"):
        views = [arranged(a, layout) for a in numbers]
        got = p.call(ec, slot, *views, algorithm="local" if p.unshared else "gemm").numpy()
        assert got.dtype == np.complex64
        np.testing.assert_array_equal(got, p.solve(slot, *numbers))
    algorithms.forget_plans()


@given(p=problems(empty=False), seed=seeds, algorithm=st.sampled_from(["gemm", "rows", "columns"]))
@examples(60)
def test_any_problem(p: Problem, seed: int, algorithm: str) -> None:
    numbers = operands(p, seed, np.complex64)
    for slot in SLOTS:
        try:
            got = p.call(ec, slot, *numbers, algorithm=algorithm).numpy()
        except ec.AlgorithmError:
            continue
        np.testing.assert_array_equal(got, p.solve(slot, *numbers))


@pytest.mark.parametrize("slot", ["forward", "grad_inputs"])
def test_an_image_has_the_same_bits_alone(slot: str, monkeypatch: pytest.MonkeyPatch) -> None:
    p = Problem(5, 1, 8, 8, (14, 14), (3, 3), 1)
    x, w, y = (a + 1j * a[::-1] for a in reals(p, 0, np.float32))
    monkeypatch.setattr(pairs, "BLOCK", 2 * 2 * x[0].size)
    algorithms.forget_plans()
    together = p.call(ec, slot, x, w, y, algorithm="gemm").numpy()
    one = Problem(1, *(getattr(p, f) for f in ("groups", "cin", "cout", "size", "kernel", "border_mode")))
    alone = one.call(ec, slot, x[3:4], w, y[3:4], algorithm="gemm").numpy()
    algorithms.forget_plans()
    np.testing.assert_array_equal(together[3:4], alone)


@pytest.mark.plans
def test_layers_of_complex_numbers_take_gemm() -> None:
    x, w = np.ones((1, 64, 28, 28), np.complex64), np.ones((64, 64, 3, 3), np.complex64)
    assert ec.explain(ec.conv2d, x, w, border_mode=1)[0].chosen == "gemm"
