"""Who checks the checker: the oracle against the definition, hand-worked values, SciPy and PyTorch."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import oracle
import pytest
import torch_bridge
from hypothesis import given
from strategies import SLOTS, Problem, examples, integers, operands, problems, seeds

Array = npt.NDArray[Any]


def row(*values: float) -> Array:
    """One image (or filter) with one channel of one axis: (1, 1, L)."""
    return np.array([[values]])


# ----- the definition -----


def by_definition(p: Problem, slot: str, x: Array, w: Array, y: Array) -> Array:
    """Sum x[n,g,c,i] w[g,f,(o),c,k] y[n,g,f,o] over all scalars, with i = o*s + k*d - before, solved for `slot`."""
    padding = oracle.pads(p.border_mode, p.size, p.kernel, p.subsample, p.dilation)
    result = np.zeros(dict(zip(SLOTS, (p.output_shape, p.input_shape, p.filter_shape), strict=True))[slot], np.int64)
    channels = itertools.product(range(p.batch), range(p.groups), range(p.cout), range(p.cin))
    for (n, g, f, c), o, k in itertools.product(channels, np.ndindex(*p.out), np.ndindex(*p.kernel)):
        axes = range(p.ndim)
        i = tuple(o[a] * p.subsample[a] + k[a] * p.dilation[a] - padding[a][0] for a in axes)
        if not all(0 <= i[a] < p.size[a] for a in axes):
            continue
        stored = tuple(p.kernel[a] - 1 - k[a] for a in axes) if p.flip else k
        at_x = (n, g * p.cin + c, *i)
        at_w = (g * p.cout + f, *(o if p.unshared else ()), c, *stored)
        at_y = (n, g * p.cout + f, *o)
        if slot == "forward":
            result[at_y] += x[at_x] * w[at_w]
        elif slot == "grad_inputs":
            result[at_x] += y[at_y] * w[at_w]
        else:
            result[at_w] += x[at_x] * y[at_y]
    return result


@pytest.mark.parametrize("slot", SLOTS)
@given(p=problems(ndims=(1, 2)), seed=seeds)
@examples(100)
def test_oracle_equals_the_definition(slot: str, p: Problem, seed: int) -> None:
    x, w, y = operands(p, seed)
    np.testing.assert_array_equal(p.solve(slot, x, w, y), by_definition(p, slot, x, w, y))


# ----- values worked by hand -----


def test_flip() -> None:
    x, w = row(1, 2, 3, 4, 5), row(1, 10, 100)
    np.testing.assert_array_equal(oracle.forward(x, w), row(123, 234, 345))
    np.testing.assert_array_equal(oracle.forward(x, w, filter_flip=False), row(321, 432, 543))


def test_transposed() -> None:
    y, w = row(1, 2), row(1, 10, 100)
    np.testing.assert_array_equal(oracle.grad_inputs(y, w, (1, 1, 4)), row(100, 210, 21, 2))
    np.testing.assert_array_equal(oracle.grad_inputs(y, w, (1, 1, 4), filter_flip=False), row(1, 12, 120, 200))


def test_weights_are_those_stored() -> None:
    # Output gradient at the first place only: the kernel lies over x[0:3], reversed for a convolution.
    x, y = row(1, 2, 3, 4, 5), row(1, 0, 0)
    np.testing.assert_array_equal(oracle.grad_weights(x, y, (1, 1, 3)), row(3, 2, 1))
    np.testing.assert_array_equal(oracle.grad_weights(x, y, (1, 1, 3), filter_flip=False), row(1, 2, 3))


def test_padding_is_in_image_order_whatever_the_flip() -> None:
    x, w = row(1, 2, 3), row(1, 10)
    np.testing.assert_array_equal(oracle.forward(x, w, border_mode=((2, 0),)), row(0, 1, 12, 23))
    np.testing.assert_array_equal(oracle.forward(x, w, border_mode=((2, 0),), filter_flip=False), row(0, 10, 21, 32))


def test_left_over_rows_get_zero_gradient() -> None:
    np.testing.assert_array_equal(oracle.grad_inputs(row(1), row(5, 7), (1, 1, 4), subsample=3), row(7, 5, 0, 0))


@pytest.mark.parametrize(
    ("border_mode", "size", "kernel", "subsample", "dilation", "pair", "out"),
    [
        ("valid", 7, 3, 1, 1, (0, 0), 5),
        ("valid", 7, 3, 2, 1, (0, 0), 3),
        ("valid", 7, 3, 2, 2, (0, 0), 2),
        ("full", 7, 3, 1, 2, (4, 4), 11),
        ("half", 7, 3, 1, 1, (1, 1), 7),
        ("half", 7, 4, 1, 1, (2, 2), 8),  # even: one more
        ("half", 7, 2, 1, 2, (1, 1), 7),  # of the dilated size, 3
        ("half", 7, 3, 1, 2, (2, 2), 7),
        ("same", 7, 4, 1, 1, (1, 2), 7),  # extra after
        ("same_lower", 7, 4, 1, 1, (2, 1), 7),  # extra before
        ("same", 7, 3, 2, 1, (1, 1), 4),
        ("same", 8, 3, 2, 1, (0, 1), 4),
        ("same", 10, 1, 4, 1, (0, 0), 3),  # nothing is missing
        (2, 7, 3, 1, 1, (2, 2), 9),
        ((2,), 7, 3, 3, 1, (2, 2), 3),
        (((1, 4),), 7, 3, 1, 3, (1, 4), 6),
    ],
)
def test_geometry(
    border_mode: Any, size: int, kernel: int, subsample: int, dilation: int, pair: tuple[int, int], out: int
) -> None:
    padding = oracle.pads(border_mode, (size,), (kernel,), (subsample,), (dilation,))
    assert padding == (pair,)
    assert oracle.out_size((size,), (kernel,), padding, (subsample,), (dilation,)) == (out,)


def test_fitting_sizes_are_as_many_as_the_stride() -> None:
    assert oracle.fitting_sizes(3, 3, "valid", 2, 1) == [7, 8]
    assert oracle.fitting_sizes(4, 3, "same", 3, 1) == [10, 11, 12]
    assert oracle.fitting_sizes(5, 3, 1, 1, 2) == [7]


# ----- second opinions -----


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize(("ours", "theirs"), [("valid", "valid"), ("full", "full")])
def test_scipy_convolve_and_correlate(ndim: int, ours: str, theirs: str) -> None:
    signal = pytest.importorskip("scipy.signal")
    image, kernel = integers((7, 6, 5)[:ndim], seed=1), integers((3, 2, 4)[:ndim], seed=2)
    x, w = image[None, None], kernel[None, None]
    convolved = oracle.forward(x, w, border_mode=ours)[0, 0]
    np.testing.assert_array_equal(convolved, signal.convolve(image, kernel, theirs, method="direct"))
    correlated = oracle.forward(x, w, border_mode=ours, filter_flip=False)[0, 0]
    np.testing.assert_array_equal(correlated, signal.correlate(image, kernel, theirs, method="direct"))


def test_scipy_same() -> None:
    signal = pytest.importorskip("scipy.signal")
    image, kernel = integers((7, 6), seed=1), integers((3, 4), seed=2)
    # SciPy centres an even kernel with the extra row before the image.
    ours = oracle.forward(image[None, None], kernel[None, None], border_mode="same_lower")[0, 0]
    np.testing.assert_array_equal(ours, signal.convolve2d(image, kernel, "same"))


@given(p=problems(unshared=False, empty=False), seed=seeds)
@examples(60)
def test_torch_agrees(p: Problem, seed: int) -> None:
    pytest.importorskip("torch")
    keywords = p.keywords()
    del keywords["unshared"]
    x, w, y = operands(p, seed, np.float64)
    np.testing.assert_array_equal(oracle.forward(x, w, **keywords), torch_bridge.forward(x, w, **keywords))
    gx, gw = torch_bridge.gradients(x, w, y, **keywords)
    np.testing.assert_array_equal(oracle.grad_inputs(y, w, x.shape, **keywords), gx)
    np.testing.assert_array_equal(oracle.grad_weights(x, y, w.shape, **keywords), gw)


def test_torch_transposed_is_not_flipped() -> None:
    pytest.importorskip("torch")
    y, w = integers((2, 4, 3, 2), 1, np.float64), integers((4, 3, 3, 2), 2, np.float64)
    theirs = torch_bridge.transposed(y, w, stride=(2, 3), padding=(1, 0), output_padding=(1, 0), groups=2)
    shape = (2, 6, *theirs.shape[2:])
    options: dict[str, Any] = {"border_mode": (1, 0), "subsample": (2, 3), "num_groups": 2, "filter_flip": False}
    np.testing.assert_array_equal(oracle.grad_inputs(y, w, shape, **options), theirs)


# ----- the oracle is a trilinear form -----


@given(p=problems(), seed=seeds)
@examples(60)
def test_the_three_are_adjoint(p: Problem, seed: int) -> None:
    x, w, y = operands(p, seed)
    products = {(p.solve(slot, x, w, y) * operand).sum() for slot, operand in zip(SLOTS, (y, x, w), strict=True)}
    assert len(products) == 1


def test_complex_numbers_and_integers_keep_their_kind() -> None:
    p = Problem(1, 1, 2, 3, (5, 4), (2, 2))
    x, w, _ = operands(p, 0)
    assert oracle.forward(x.astype(np.int8), w.astype(bool)).dtype == np.int64
    assert oracle.forward(x.astype(np.float32), w).dtype == np.float64
    np.testing.assert_array_equal(oracle.forward(x * 1j, w), 1j * oracle.forward(x, w))
