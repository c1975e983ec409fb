"""Every algorithm, slot and dtype of the table gives the oracle's numbers: exactly on integers, in any layout."""

from __future__ import annotations

import itertools
import os
import re
from typing import Any

import numpy as np
import numpy.typing as npt
import oracle
import pytest
import torch_bridge
from hypothesis import assume, given
from strategies import (
    LAYOUTS,
    LETTERS,
    SLOTS,
    Problem,
    arranged,
    examples,
    fenced,
    integers,
    layouts,
    operands,
    problems,
    reals,
    seeds,
    surrounded,
    tier,
)

import eagerconv as ec

Array = npt.NDArray[Any]

# An algorithm is tested from the moment it is in the table, in every dtype that it claims.
CASES = [
    pytest.param(algorithm.name, slot, dtype, id=f"{algorithm.name}-{slot}-{dtype}", marks=tier(algorithm.name, dtype))
    for algorithm in ec.algorithms.TABLE["cpu"]
    for slot in SLOTS
    if LETTERS[slot] in algorithm.slots
    for dtype in sorted(algorithm.dtypes)
]
EXACT = [algorithm.name for algorithm in ec.algorithms.TABLE["cpu"] if algorithm.exact]
every_dtype = pytest.mark.parametrize(("algorithm", "slot", "dtype"), CASES)
every_case = pytest.mark.parametrize(
    ("algorithm", "slot", "dtype"), [case for case in CASES if case.values[2] in ("float32", "float64")]
)


def solve(p: Problem, algorithm: str, slot: str, x: Any, w: Any, y: Any) -> Array:
    """Ask one algorithm; where it refuses a feature there is nothing to test. `direct` may refuse nothing."""
    try:
        result = p.call(ec, slot, x, w, y, algorithm=algorithm)
    except ec.algorithms.AlgorithmError:
        if algorithm == "direct":
            raise
        assume(False)
    assert isinstance(result, ec.Tensor)
    return result.numpy()


def forced(p: Problem, algorithm: str, slot: str, *arrays: Array) -> Array:
    """Ask one algorithm for one fixed problem; where it refuses the test is skipped, with its reason."""
    try:
        result: Array = p.call(ec, slot, *arrays, algorithm=algorithm).numpy()
    except ec.algorithms.AlgorithmError as refusal:
        if algorithm == "direct":
            raise
        pytest.skip(str(refusal).rpartition(": ")[2])
    return result


def assert_same(result: Array, truth: Array, dtype: str) -> None:
    """Demand exact equality, in the dtype and shape that were asked for; narrow integers wrap around."""
    assert result.dtype == np.dtype(dtype)
    assert result.shape == truth.shape
    np.testing.assert_array_equal(result, truth.astype(dtype))


# SPEC's two, the same for complex numbers, and the rounding of the 16-bit types.
TOLERANCE = {
    "float16": 1e-3,
    "bfloat16": 8e-3,
    "float32": 3e-5,
    "complex64": 3e-5,
    "float64": 1e-12,
    "complex128": 1e-12,
}


def assert_right(p: Problem, algorithm: str, slot: str, result: Array, dtype: str, *arrays: Array) -> None:
    """Demand exact equality of exact algorithms, and of others the tolerance that the contract promises.

    Errors are relative to max|a| * sum|b|, the largest result there can be.
    """
    truth = p.solve(slot, *arrays)
    if algorithm in EXACT:
        assert_same(result, truth, dtype)
        return
    assert (result.dtype, result.shape) == (np.dtype(dtype), truth.shape)
    x, w, y = (np.abs(a.astype(truth.dtype)) for a in arrays)
    second, kept = (y, 1) if slot == "grad_weights" else (w, 0 if slot == "forward" else w.ndim - p.ndim - 1)
    sums = second.sum(axis=tuple(axis for axis in range(second.ndim) if axis != kept))  # per channel of the result
    largest = (y if slot == "grad_inputs" else x).max(initial=0) * sums.max(initial=0)
    np.testing.assert_allclose(result.astype(truth.dtype), truth, rtol=0, atol=TOLERANCE[dtype] * largest)


# ----- whole problems -----


@every_dtype
@given(p=problems(), seed=seeds)
@examples(100)
def test_integers_are_exact(algorithm: str, slot: str, dtype: str, p: Problem, seed: int) -> None:
    p = p.suited(algorithm)
    x, w, y = operands(p, seed, dtype)
    assert_right(p, algorithm, slot, solve(p, algorithm, slot, x, w, y), dtype, x, w, y)


@every_case
@given(p=problems(), seed=seeds)
@examples(40)
def test_reals_are_within_the_rounding_of_their_sums(
    algorithm: str, slot: str, dtype: str, p: Problem, seed: int
) -> None:
    p = p.suited(algorithm)
    # n products added in any order, with or without FMA, are off by at most n*u/(1 - n*u) * sum |x||w|, with the unit
    # roundoff u = eps/2 (Higham 2002, section 3.1). eps in place of u leaves room for the oracle's own rounding.
    x, w, y = reals(p, seed, dtype)
    result = solve(p, algorithm, slot, x, w, y)
    if algorithm not in EXACT:
        assert_right(p, algorithm, slot, result, dtype, x, w, y)
        return
    bound = p.terms(slot) * np.finfo(dtype).eps * p.solve(slot, abs(x), abs(w), abs(y))
    error = abs(result - p.solve(slot, x, w, y))
    assert (error <= bound).all(), f"error {error.max():.3g} above the bound at {np.argmax(error - bound)}"


@every_case
@given(p=problems(), seed=seeds, arrangement=layouts.flatmap(lambda a: layouts.map(lambda b: (a, b))))
@examples(60)
def test_any_two_layouts(
    algorithm: str, slot: str, dtype: str, p: Problem, seed: int, arrangement: tuple[str, str]
) -> None:
    p = p.suited(algorithm)
    first, second = arrangement
    x, w, y = operands(p, seed, dtype)
    x, w, y = arranged(x, first), arranged(w, second if slot == "forward" else first), arranged(y, second)
    assert_right(p, algorithm, slot, solve(p, algorithm, slot, x, w, y), dtype, x, w, y)


# ----- edges of blocks: vector kernels have tails -----

EDGES = (1, 7, 8, 9, 15, 16, 17, 47, 48, 49)
BLOCKS = {
    **{f"{n} input channels": Problem(2, 1, n, 3, (5, 6), (3, 3)) for n in EDGES},
    **{f"{n} output channels": Problem(2, 1, 3, n, (5, 6), (3, 3)) for n in EDGES},
    **{f"{n} columns": Problem(2, 1, 2, 5, (3, n), (2, 3), "same") for n in (*EDGES, 511, 513, 1030)},
    **{f"{n} columns, strided": Problem(1, 1, 2, 3, (2, n), (1, 3), "full", (1, 2)) for n in (17, 513, 1030)},
    **{f"{n} columns, unshared": Problem(2, 1, 2, 2, (n,), (2,), "half", unshared=True) for n in (17, 513, 1030)},
    **{f"{n} rows": Problem(1, 1, 2, 5, (n, 4), (3, 2), "full", (2, 1)) for n in EDGES},
    **{f"{n} long": Problem(2, 1, 3, 4, (n,), (5,), 2, (2,), (2,)) for n in EDGES if n >= 5},
    **{f"{n} deep": Problem(1, 2, 2, 3, (n, 3, 4), (2, 3, 2), "half") for n in EDGES[:7]},
    **{f"{n} images": Problem(n, 1, 2, 3, (4, 4), (3, 3)) for n in EDGES},
    **{f"{n} groups": Problem(2, n, 1, 2, (5, 5), (3, 3), "half") for n in EDGES},
    **{f"kernel {n}x{n}": Problem(1, 1, 2, 3, (34, 33), (n, n), "half") for n in (5, 7, 11, 16, 31)},
    "48 x 48 channels, 49 columns": Problem(1, 1, 48, 48, (4, 49), (3, 3), 1),
    "130 x 65 channels": Problem(1, 1, 130, 65, (5, 4), (3, 3), "half"),
    "65 x 130 channels, 1x1": Problem(3, 1, 65, 130, (3, 5), (1, 1)),
    "400 channels, 1x1": Problem(1, 1, 400, 5, (4, 5), (1, 1)),
    "5 x 400 channels, strided": Problem(1, 1, 5, 400, (4, 5), (2, 2), 0, (2, 1)),
    "100 small images": Problem(100, 1, 3, 4, (5, 4), (3, 3), "half"),
    "3-D, strides above the kernel": Problem(1, 1, 2, 3, (9, 8, 7), (2, 2, 2), 1, (3, 4, 3)),
    "17 x 49 channels, 1x1": Problem(2, 1, 17, 49, (7, 7), (1, 1)),
    "9 x 17 channels in 3 groups": Problem(2, 3, 9, 17, (9, 16), (3, 2), ((1, 2), (0, 1)), (1, 2), (2, 1), False),
    "unshared, 9 x 17 channels": Problem(2, 1, 9, 17, (5, 7), (2, 3), 1, (1, 2), unshared=True),
}


@pytest.mark.lanes
@pytest.mark.parametrize(
    ("algorithm", "slot", "dtype", "block"),
    # float32 and float64 take turns: a kernel's blocks differ in lanes only.
    [
        pytest.param(*case.values, block, id=f"{case.id}-{block}", marks=case.marks)
        for i, block in enumerate(BLOCKS)
        for case in CASES
        if case.values[2] == ("float32", "float64")[i % 2]
    ],
)
def test_block_edges(algorithm: str, slot: str, dtype: str, block: str) -> None:
    p = BLOCKS[block]
    arrays = operands(p, seed=1, dtype=dtype)
    assert_right(p, algorithm, slot, forced(p, algorithm, slot, *arrays), dtype, *arrays)


# ----- nothing is read or written outside the arrays -----


@every_case
@given(p=problems(empty=False), seed=seeds)
@examples(30)
def test_what_surrounds_the_operands_is_neither_read_nor_written(
    algorithm: str, slot: str, dtype: str, p: Problem, seed: int
) -> None:
    p = p.suited(algorithm)
    values = operands(p, seed, dtype)
    inside, around = map(list, zip(*(surrounded(a) for a in values), strict=True))
    if algorithm == "winograd_dwm":  # refuses filters whose taps lie apart
        inside[1], around[1] = values[1], values[1]
    before = [a.copy() for a in around]
    assert_right(p, algorithm, slot, solve(p, algorithm, slot, *inside), dtype, *values)
    for a, b in zip(around, before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.skipif(os.name != "posix", reason="needs mprotect")
@every_case
@pytest.mark.parametrize("at_end", [False, True], ids=["at the start", "at the end"])
@given(p=problems(empty=False), seed=seeds)
@examples(30)
def test_no_step_outside_the_operands(
    algorithm: str, slot: str, dtype: str, at_end: bool, p: Problem, seed: int
) -> None:
    p = p.suited(algorithm)
    values = operands(p, seed, dtype)
    inside = [fenced(a, at_end) for a in values]
    assert_right(p, algorithm, slot, solve(p, algorithm, slot, *inside), dtype, *values)


@every_case
def test_results_do_not_share_memory(algorithm: str, slot: str, dtype: str) -> None:
    p = Problem(2, 1, 3, 4, (6, 7), (1, 1))
    x, w, y = operands(p, 1, dtype)
    first = forced(p, algorithm, slot, x, w, y)
    kept = first.copy()
    second = forced(p, algorithm, slot, x + 1, w + 1, y + 1)
    assert not any(np.shares_memory(first, a) for a in (x, w, y, second))
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("slot", SLOTS)
def test_every_layout(slot: str, layout: str) -> None:
    p = Problem(3, 2, 3, 2, (7, 6), (3, 2), ((1, 2), 0), (2, 1), (1, 2))
    x, w, y = (arranged(a, layout) for a in operands(p, 5, np.float32))
    assert_same(p.call(ec, slot, x, w, y).numpy(), p.solve(slot, x, w, y), "float32")


def test_same_address_twice() -> None:
    # The image is its own filter: two operands in the same memory.
    a = integers((1, 1, 4, 4), 3, np.float64)
    assert_same(ec.conv2d(a, a, border_mode="full").numpy(), oracle.forward(a, a, border_mode="full"), "float64")


def test_nan_and_infinity_stay_where_they_are() -> None:
    x = np.ones((1, 1, 9), np.float32)
    x[0, 0, 4] = np.nan
    result = ec.conv1d(x, np.ones((1, 1, 3), np.float32)).numpy()[0, 0]
    np.testing.assert_array_equal(np.isnan(result), [False, False, True, True, True, False, False])


@every_case
@pytest.mark.parametrize("shape", [(0, 2, 3), (2, 0, 3), (2, 2, 0), (0, 0, 0)], ids=str)
def test_empty_batch_and_channels(algorithm: str, slot: str, dtype: str, shape: tuple[int, int, int]) -> None:
    batch, cin, cout = shape
    p = Problem(batch, 1, cin, cout, (6, 5), (3, 2), "half", (2, 1))
    x, w, y = operands(p, 0, dtype)
    assert_right(p, algorithm, slot, forced(p, algorithm, slot, x, w, y), dtype, x, w, y)


@every_case
@pytest.mark.parametrize("size", [(0, 5), (6, 0), (0, 0)], ids=str)
def test_empty_images(algorithm: str, slot: str, dtype: str, size: tuple[int, int]) -> None:
    """With padding there are outputs, all zero, and in the gradient of such an image there is nothing."""
    p = Problem(2, 1, 2, 3, size, (3, 2), ((2, 2), (2, 2)), (2, 1))
    x, w, y = operands(p, 0, dtype)
    assert_right(p, algorithm, slot, forced(p, algorithm, slot, x, w, y), dtype, x, w, y)


# ----- what callers may pass -----


def test_nested_sequences_and_tensors() -> None:
    result = ec.conv1d([[[1.0, 2.0, 3.0, 4.0, 5.0]]], ec.tensor([[[1.0, 10.0, 100.0]]]))
    np.testing.assert_array_equal(result.numpy(), [[[123, 234, 345]]])


def test_dtypes_promote_like_numpy() -> None:
    x, w = integers((1, 1, 4), 1, np.float32), integers((1, 1, 2), 2, np.float64)
    assert ec.conv1d(x, w).dtype == np.float64
    assert ec.conv1d(x, w.astype(np.float32)).dtype == np.float32


def test_one_int_stands_for_all_axes() -> None:
    x, w = integers((1, 2, 9, 9), 1, np.float64), integers((3, 2, 2, 2), 2, np.float64)
    one = ec.conv2d(x, w, subsample=2, filter_dilation=3, border_mode=1)
    each = ec.conv2d(x, w, subsample=(2, 2), filter_dilation=(3, 3), border_mode=((1, 1), 1))
    np.testing.assert_array_equal(one.numpy(), each.numpy())


def test_numpy_integers_are_integers() -> None:
    x, w = integers((1, 2, 9, 9), 1, np.float64), integers((3, 2, 2, 2), 2, np.float64)
    n = np.int64
    result = ec.conv2d(x, w, (n(1), n(2), n(9), n(9)), border_mode=(n(1), (n(0), n(2))), subsample=(n(2), n(1)))
    truth = oracle.forward(x, w, border_mode=(1, (0, 2)), subsample=(2, 1))
    np.testing.assert_array_equal(result.numpy(), truth)


def test_shape_hints_never_change_a_result() -> None:
    p = Problem(2, 2, 3, 2, (6, 5), (3, 2))
    x, w, y = operands(p, 1, np.float64)
    plain = ec.conv2d(x, w, **p.keywords()).numpy()
    hinted = ec.conv2d(x, w, (2, None, 6, None), (None, 3, None, 2), **p.keywords()).numpy()
    np.testing.assert_array_equal(plain, hinted)
    for shape in [(4, 3, 3, 2), (None, None, 3, 2)]:  # only the spatial entries of filter_shape matter here
        weights = ec.conv2d_grad_wrt_weights(x, y, shape, (2, 6, None, 5), **p.keywords())
        np.testing.assert_array_equal(weights.numpy(), p.solve("grad_weights", x, w, y))
    for shape in [(2, 6, 6, 5), (None, None, 6, 5)]:
        inputs = ec.conv2d_grad_wrt_inputs(y, w, shape, (4, None, 3, 2), **p.keywords())
        np.testing.assert_array_equal(inputs.numpy(), p.solve("grad_inputs", x, w, y))


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_positional_order(ndim: int) -> None:
    kernel, size = (2, 1, 2)[:ndim], (5, 6, 4)[:ndim]
    p = Problem(2, 2, 1, 2, size, kernel, 1, (2, 1, 1)[:ndim], (1, 2, 1)[:ndim], flip=False)
    x, w, y = operands(p, 1, np.float64)
    after = (None, None, p.border_mode, p.subsample, p.flip)
    last = (p.dilation, p.groups, p.unshared)
    conv = getattr(ec, f"conv{ndim}d")
    middle = (None,) if ndim == 2 else ()  # image_shape
    np.testing.assert_array_equal(conv(x, w, *after, *middle, *last).numpy(), p.solve("forward", x, w, y))
    back = getattr(ec, f"conv{ndim}d_grad_wrt_inputs")(y, w, p.input_shape, *after[1:], *last)
    np.testing.assert_array_equal(back.numpy(), p.solve("grad_inputs", x, w, y))
    weights = getattr(ec, f"conv{ndim}d_grad_wrt_weights")(x, y, p.filter_shape, *after[1:], *last)
    np.testing.assert_array_equal(weights.numpy(), p.solve("grad_weights", x, w, y))
    transposed = getattr(ec, f"conv{ndim}d_transpose")(y, w, p.input_shape, *after[1:], *last)
    np.testing.assert_array_equal(transposed.numpy(), p.solve("grad_inputs", x, w, y))


# ----- hand-worked examples of the contract -----


def test_flip_by_hand() -> None:
    x, w = [[[1.0, 2.0, 3.0, 4.0, 5.0]]], [[[1.0, 10.0, 100.0]]]
    assert ec.conv1d(x, w).numpy().tolist() == [[[123, 234, 345]]]
    assert ec.conv1d(x, w, filter_flip=False).numpy().tolist() == [[[321, 432, 543]]]


def test_transposed_by_hand() -> None:
    y, w = [[[1.0, 2.0]]], [[[1.0, 10.0, 100.0]]]
    assert ec.conv1d_transpose(y, w).numpy().tolist() == [[[100, 210, 21, 2]]]
    assert ec.conv1d_transpose(y, w, filter_flip=False).numpy().tolist() == [[[1, 12, 120, 200]]]


@pytest.mark.parametrize(("kernel", "dilation", "out"), [(3, 1, 7), (2, 1, 8), (2, 2, 7), (3, 2, 7), (4, 1, 8)])
def test_half_pads_half_of_the_dilated_kernel(kernel: int, dilation: int, out: int) -> None:
    x, w = np.ones((1, 1, 7)), np.ones((1, 1, kernel))
    assert ec.conv1d(x, w, border_mode="half", filter_dilation=dilation).shape == (1, 1, out)


def test_same_keeps_the_size_and_pads_the_extra_row_after() -> None:
    x, w = np.array([[[1.0, 2.0, 3.0]]]), np.array([[[1.0, 10.0]]])
    same = ec.conv1d(x, w, border_mode="same", filter_flip=False)
    assert same.numpy().tolist() == [[[21, 32, 3]]]
    lower = ec.conv1d(x, w, border_mode="same_lower", filter_flip=False)
    assert lower.numpy().tolist() == [[[10, 21, 32]]]


def test_causal_outputs_know_the_past_and_the_present() -> None:
    x, w = np.array([[[1.0, 2.0, 3.0, 4.0]]]), np.array([[[1.0, 10.0]]])
    assert ec.conv1d(x, w, border_mode="causal").numpy().tolist() == [[[1, 12, 23, 34]]]
    dilated = ec.conv1d(x, w, border_mode="causal", filter_dilation=2, subsample=2).numpy()
    np.testing.assert_array_equal(dilated, oracle.forward(x, w, border_mode=((2, 0),), filter_dilation=2, subsample=2))
    with pytest.raises(ValueError, match="border_mode"):
        ec.conv2d(x[None], w[None], border_mode="causal")


# ----- transposed convolution -----


@given(p=problems(), seed=seeds)
@examples(60)
def test_transposed_is_the_gradient_in_the_inputs(p: Problem, seed: int) -> None:
    x, w, y = operands(p, seed, np.float64)
    keywords = p.keywords()
    keywords["input_dilation"] = keywords.pop("subsample")
    result = getattr(ec, f"conv{p.ndim}d_transpose")(y, w, p.input_shape, **keywords)
    assert_same(result.numpy(), p.solve("grad_inputs", x, w, y), "float64")


@pytest.mark.parametrize("border_mode", ["valid", "half", "same", 1, ((0, 1),)])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2])
def test_every_size_that_fits_is_accepted_and_no_other(border_mode: Any, stride: int, dilation: int) -> None:
    y, w = integers((2, 3, 4), 1, np.float64), integers((3, 2, 3), 2, np.float64)
    fits = oracle.fitting_sizes(4, 3, border_mode, stride, dilation)
    assert len(fits) == stride
    options = {"border_mode": border_mode, "filter_dilation": dilation}
    for size in range(1, fits[-1] + 4):
        shape = (None, None, size)
        if size in fits:
            result = ec.conv1d_transpose(y, w, shape, input_dilation=stride, **options)
            assert_same(result.numpy(), oracle.grad_inputs(y, w, (2, 2, size), subsample=stride, **options), "float64")
        else:
            with pytest.raises(ValueError, match="output_shape"):
                ec.conv1d_transpose(y, w, shape, input_dilation=stride, **options)


@pytest.mark.parametrize("output_shape", [None, (None, None, None, None), (2, None, None, 7)])
@pytest.mark.parametrize("border_mode", ["valid", "half", 1, "same"])
def test_at_stride_one_the_output_shape_may_be_missing(output_shape: Any, border_mode: Any) -> None:
    y, w = integers((2, 4, 5, 5), 1, np.float64), integers((4, 1, 3, 3), 2, np.float64)
    size = oracle.fitting_sizes(5, 3, border_mode, 1, 1)[0]
    if output_shape is not None and output_shape[3] is not None:
        output_shape = (2, None, None, size)
    result = ec.conv2d_transpose(y, w, output_shape, border_mode=border_mode, num_groups=2)
    truth = oracle.grad_inputs(y, w, (2, 2, size, size), border_mode=border_mode, num_groups=2)
    assert_same(result.numpy(), truth, "float64")


# ----- second opinions on a fixed grid -----

GRID = [
    Problem(2, 1, 3, 4, (9,), (3,), "full", (2,), (1,)),
    Problem(2, 2, 3, 2, (11,), (4,), ((1, 2),), (3,), (2,), False),
    Problem(2, 1, 3, 4, (8, 9), (3, 3), "half", (1, 1), (1, 1)),
    Problem(1, 4, 1, 2, (8, 7), (3, 2), "valid", (2, 1), (1, 2)),
    Problem(2, 2, 2, 3, (9, 9), (5, 3), ((2, 1), (0, 3)), (2, 3), (1, 2), False),
    Problem(1, 1, 2, 3, (6, 5, 4), (3, 2, 3), "full", (2, 1, 1), (1, 1, 1)),
    Problem(2, 3, 1, 1, (5, 6, 7), (2, 3, 2), (0, 1, (1, 0)), (1, 2, 2), (2, 1, 2), False),
]


@pytest.mark.parametrize("p", GRID, ids=str)
def test_torch_agrees(p: Problem) -> None:
    pytest.importorskip("torch")
    x, w, y = operands(p, 7, np.float64)
    keywords = p.keywords()
    del keywords["unshared"]
    truths = (torch_bridge.forward(x, w, **keywords), *torch_bridge.gradients(x, w, y, **keywords))
    for slot, truth in zip(SLOTS, truths, strict=True):
        assert_same(p.call(ec, slot, x, w, y).numpy(), truth, "float64")


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("mode", ["valid", "full"])
def test_scipy_agrees(ndim: int, mode: str) -> None:
    signal = pytest.importorskip("scipy.signal")
    image, kernel = integers((9, 8, 7)[:ndim], 1, np.float64), integers((3, 2, 4)[:ndim], 2, np.float64)
    conv = getattr(ec, f"conv{ndim}d")
    ours = conv(image[None, None], kernel[None, None], border_mode=mode).numpy()[0, 0]
    np.testing.assert_array_equal(ours, signal.convolve(image, kernel, mode, method="direct"))
    ours = conv(image[None, None], kernel[None, None], border_mode=mode, filter_flip=False).numpy()[0, 0]
    np.testing.assert_array_equal(ours, signal.correlate(image, kernel, mode, method="direct"))


@given(p=problems(), seed=seeds)
@examples(60)
def test_reference_agrees_with_the_oracle(p: Problem, seed: int) -> None:
    x, w, y = operands(p, seed, np.float64)
    np.testing.assert_array_equal(ec.reference.conv(x, w, **p.keywords()), p.solve("forward", x, w, y))


# ----- the table -----


def test_a_forced_algorithm_computes_or_says_why() -> None:
    assert issubclass(ec.algorithms.AlgorithmError, ValueError)
    p = Problem(1, 1, 2, 2, (4, 5), (2, 2), unshared=True)
    for algorithm, slot in itertools.product(ec.algorithms.TABLE["cpu"], SLOTS):
        why = "unshared" if LETTERS[slot] in algorithm.slots else "does not compute"
        try:
            p.call(ec, slot, *operands(p, 1, np.float32), algorithm=algorithm.name)
        except ec.algorithms.AlgorithmError as refusal:
            assert re.search(rf"{algorithm.name}.*{why}", str(refusal))  # noqa: PT017


def test_direct_is_in_the_table() -> None:
    assert "direct" in ec.algorithms.names("cpu")
