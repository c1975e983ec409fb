"""The gradient with respect to inputs, window by window: values at every edge, in any cut, and where it is chosen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from strategies import Problem, examples, operands, problems, reals, seeds

import eagerconv as ec
from eagerconv import algorithms
from eagerconv.kernels_cpu import columns

EDGES = {
    "patches": Problem(2, 1, 3, 9, (24, 24), (8, 8), "valid", (8, 8)),
    "patches and pixels left over": Problem(2, 1, 3, 9, (29, 26), (8, 8), "valid", (8, 8)),
    "padded patches": Problem(2, 1, 3, 9, (21, 26), (8, 8), ((3, 5), (1, 0)), (8, 8)),
    "strides beyond the filter": Problem(2, 2, 3, 4, (31, 28), (3, 5), 2, (9, 7)),
    "windows of three blocks": Problem(2, 1, 2, 3, (40, 33), (14, 7), "half", (5, 3)),
    "depthwise": Problem(2, 5, 1, 1, (40, 33), (8, 8), 2, (4, 4)),
    "two filters for each channel": Problem(1, 5, 1, 2, (20, 20), (8, 8), 2, (4, 4)),
    "a signal": Problem(2, 1, 2, 3, (700,), (130,), 65, (60,)),
    "three axes": Problem(1, 2, 2, 3, (9, 10, 11), (2, 4, 3), 1, (2, 3, 4)),
}


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("together", [1, 3000, 1 << 20])
@pytest.mark.parametrize("name", EDGES)
def test_values(name: str, together: int, flip: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    p = Problem(**{**EDGES[name].__dict__, "flip": flip})
    monkeypatch.setattr(columns, "TOGETHER", together)
    algorithms.forget_plans()
    numbers = operands(p, 1, np.float32)
    got = p.call(ec, "grad_inputs", *numbers, algorithm="columns").numpy()
    algorithms.forget_plans()
    np.testing.assert_array_equal(got, p.solve("grad_inputs", *(a.astype(float) for a in numbers)))


@given(p=problems(unshared=False, empty=False), seed=seeds)
@examples(100)
def test_any_problem(p: Problem, seed: int) -> None:
    numbers = operands(p, seed, np.float64)
    try:
        got = p.call(ec, "grad_inputs", *numbers, algorithm="columns").numpy()
    except ec.AlgorithmError:
        assume(False)
    np.testing.assert_array_equal(got, p.solve("grad_inputs", *numbers))


@pytest.mark.parametrize("name", EDGES)
def test_bits_do_not_depend_on_neighbours_and_threads(name: str) -> None:
    p = EDGES[name]
    _, w, y = reals(p, 0, np.float32)

    def solve(y: Any) -> Any:
        shape = (len(y), *p.input_shape[1:])
        function = getattr(ec, f"conv{p.ndim}d_grad_wrt_inputs")
        return function(y, w, shape, **p.keywords(), algorithm="columns").numpy()

    expected, before = solve(y), ec.get_num_threads()
    np.testing.assert_array_equal(solve(np.concatenate([y, y]))[: len(y)], expected)
    try:
        ec.set_num_threads(1)
        np.testing.assert_array_equal(solve(y), expected)
    finally:
        ec.set_num_threads(before)


def test_refusals_tell_why() -> None:
    y, w = np.ones((1, 1, 100)), np.ones((1, 1, 100))
    for options, reason in (
        ({"filter_dilation": 2}, "does not know dilated"),
        ({}, "would add windows in 100 pieces, more than 64"),
    ):
        with pytest.raises(ec.AlgorithmError, match=reason):
            ec.conv1d_transpose(y, w, algorithm="columns", **options)
    with pytest.raises(ec.AlgorithmError, match="columns does not compute the forward"):
        ec.conv1d(y, w, algorithm="columns")
