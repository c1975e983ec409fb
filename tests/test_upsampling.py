"""Bilinear kernels and upsampling against the formula, numbers worked by hand, and other libraries."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from signatures import assert_follows, both_ways
from strategies import integers

import eagerconv as ec

Array = npt.NDArray[Any]

SEEDS = {
    "bilinear_kernel_1D": "ratio, normalize=True",
    "bilinear_kernel_2D": "ratio, normalize=True",
    "bilinear_upsampling": "input, ratio=None, frac_ratio=None, batch_size=None, num_input_channels=None, "
    "use_1D_kernel=True",
    "frac_bilinear_upsampling": "input, frac_ratio",
}
both_kernels = pytest.mark.parametrize("use_1D_kernel", [True, False], ids=["1-D kernels", "2-D kernel"])


@pytest.mark.parametrize("name", SEEDS)
def test_signature_of_the_seeds(name: str) -> None:
    assert_follows(getattr(ec, name), SEEDS[name])


def test_by_position_and_by_keyword() -> None:
    x = integers((2, 3, 4, 5), 1, np.float64)
    calls: dict[str, list[dict[str, Any]]] = {
        "bilinear_kernel_1D": [{"ratio": 3, "normalize": False}],
        "bilinear_kernel_2D": [{"ratio": (3, 2), "normalize": False}],
        "frac_bilinear_upsampling": [{"input": x, "frac_ratio": ((3, 2), (1, 2))}],
        "bilinear_upsampling": [
            {"input": x, "ratio": ratio, "frac_ratio": fraction, "batch_size": 2, "num_input_channels": 3, "use_1D_kernel": k}
            for (ratio, fraction), k in itertools.product([(2, None), (None, (3, 2))], [True, False])
        ],
    }  # fmt: skip
    for name, all_values in calls.items():
        for values in all_values:
            both_ways(getattr(ec, name), SEEDS[name], values)


# ----- kernels -----


def test_kernels_by_hand() -> None:
    assert ec.bilinear_kernel_1D(3, normalize=False).tolist() == [1, 2, 3, 2, 1]
    assert ec.bilinear_kernel_1D(4).tolist() == [0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25]
    assert ec.bilinear_kernel_1D(1).tolist() == [1]
    assert ec.bilinear_kernel_2D(2).tolist() == [[0.25, 0.5, 0.25], [0.5, 1, 0.5], [0.25, 0.5, 0.25]]
    assert ec.bilinear_kernel_2D((1, 2), False).tolist() == [[1, 2, 1]]  # (vertical, horizontal)


@pytest.mark.parametrize("ratio", range(1, 9))
def test_kernels_peak_at_one_and_sum_to_the_ratio(ratio: int) -> None:
    kernel = ec.bilinear_kernel_1D(ratio)
    assert isinstance(kernel, np.ndarray)
    assert kernel.shape == (2 * ratio - 1,)
    assert kernel[ratio - 1] == kernel.max() == 1
    assert math.isclose(kernel.sum(), ratio)
    np.testing.assert_allclose(
        ec.bilinear_kernel_2D((ratio, 3)), np.outer(kernel, ec.bilinear_kernel_1D(3)), rtol=1e-15
    )


# ----- the formula -----


def resized(image: Array, p: int, q: int) -> Array:
    """Interpolate along the last axis as the contract says: output j is at (j*q - (p-1)//2)/p, clamped."""
    p, q = Fraction(p, q).numerator, Fraction(p, q).denominator
    n = image.shape[-1]
    at = (np.arange(math.ceil(Fraction(n * p, q))) * q - (p - 1) // 2) / p
    return np.apply_along_axis(lambda row: np.interp(np.clip(at, 0, n - 1), np.arange(n), row), -1, image)


def resized_2d(images: Array, rows: tuple[int, int], columns: tuple[int, int]) -> Array:
    return resized(resized(images, *columns).swapaxes(-1, -2), *rows).swapaxes(-1, -2)


@both_kernels
@pytest.mark.parametrize(("p", "q"), list(itertools.product(range(1, 9), range(1, 8))))
def test_fractions_for_both_axes(p: int, q: int, use_1D_kernel: bool) -> None:
    for rows in range(1, 10):
        x = integers((1, 2, rows, 10 - rows), rows, np.float64)
        result = ec.bilinear_upsampling(x, frac_ratio=(p, q), use_1D_kernel=use_1D_kernel)
        np.testing.assert_allclose(result.numpy(), resized_2d(x, (p, q), (p, q)), rtol=0, atol=1e-13)


@both_kernels
@pytest.mark.parametrize("rows", [(1, 1), (3, 2), (2, 3), (4, 6), (5, 1), (1, 4)])
@pytest.mark.parametrize("columns", [(1, 1), (7, 4), (1, 2), (6, 2)])
def test_another_fraction_for_each_axis(rows: tuple[int, int], columns: tuple[int, int], use_1D_kernel: bool) -> None:
    x = integers((2, 2, 5, 7), 1, np.float64)
    result = ec.bilinear_upsampling(x, frac_ratio=(rows, columns), use_1D_kernel=use_1D_kernel)
    truth = resized_2d(x, rows, columns)
    np.testing.assert_allclose(result.numpy(), truth, rtol=0, atol=1e-13)
    np.testing.assert_allclose(ec.frac_bilinear_upsampling(x, (rows, columns)).numpy(), truth, rtol=0, atol=1e-13)


@both_kernels
@pytest.mark.parametrize("ratio", range(1, 10))
def test_whole_ratios(ratio: int, use_1D_kernel: bool) -> None:
    for rows in range(1, 10):
        x = integers((2, 1, rows, 10 - rows), rows, np.float64)
        result = ec.bilinear_upsampling(x, ratio, use_1D_kernel=use_1D_kernel)
        assert result.shape == (2, 1, rows * ratio, (10 - rows) * ratio)
        np.testing.assert_allclose(result.numpy(), resized_2d(x, (ratio, 1), (ratio, 1)), rtol=0, atol=1e-13)


# ----- worked by hand -----


@both_kernels
@pytest.mark.parametrize(
    ("row", "ratio", "expected"),
    [
        ([1, 2, 4], (2, 1), [1, 1.5, 2, 3, 4, 4]),
        ([1, 2, 4], (3, 1), [1, 1, 4 / 3, 5 / 3, 2, 8 / 3, 10 / 3, 4, 4]),
        ([1, 2], (4, 1), [1, 1, 1.25, 1.5, 1.75, 2, 2, 2]),
        ([0, 6], (3, 2), [0, 2, 6]),  # at -1/3, 1/3, 1
        ([0, 3, 6], (2, 3), [0, 4.5]),  # at 0, 3/2
        ([1, 2, 3, 4, 5], (1, 2), [1, 3, 5]),
        ([1, 2, 3, 4, 5], (2, 4), [1, 3, 5]),  # in lowest terms
        ([5], (7, 3), [5, 5, 5]),
    ],
)
def test_by_hand(row: list[float], ratio: tuple[int, int], expected: list[float], use_1D_kernel: bool) -> None:
    one = (1, 1)
    across = ec.bilinear_upsampling([[[row]]], frac_ratio=(one, ratio), use_1D_kernel=use_1D_kernel).numpy()
    np.testing.assert_allclose(across, [[[expected]]], rtol=1e-15)
    column = np.array(row, np.float64)[None, None, :, None]
    down = ec.bilinear_upsampling(column, frac_ratio=(ratio, one), use_1D_kernel=use_1D_kernel).numpy()
    np.testing.assert_allclose(down[0, 0, :, 0], expected, rtol=1e-15)


def test_halves_are_exact() -> None:
    assert ec.bilinear_upsampling([[[[1.0, 2.0, 4.0]]]], 2).numpy()[0, 0, 0].tolist() == [1, 1.5, 2, 3, 4, 4]


# ----- second opinions -----


@pytest.mark.parametrize("ratio", [3, 5])
def test_torch_agrees_on_odd_ratios(ratio: int) -> None:
    # Its half-pixel centres (j + 1/2)/r - 1/2 are (j - (r-1)/2)/r: the same for odd ratios.
    torch = pytest.importorskip("torch")
    x = integers((2, 3, 4, 5), 1, np.float64)
    theirs = torch.nn.functional.interpolate(torch.tensor(x), scale_factor=ratio, mode="bilinear", align_corners=False)
    np.testing.assert_allclose(ec.bilinear_upsampling(x, ratio).numpy(), theirs.numpy(), rtol=0, atol=1e-13)


def test_scipy_agrees() -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    image, p, q = integers((6, 7), 1, np.float64), 5, 3
    rows, columns = ((np.arange(math.ceil(n * p / q)) * q - (p - 1) // 2) / p for n in image.shape)
    grid = np.meshgrid(rows, columns, indexing="ij")
    theirs = ndimage.map_coordinates(image, grid, order=1, mode="nearest")
    ours = ec.frac_bilinear_upsampling(image[None, None], (p, q)).numpy()[0, 0]
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-13)


# ----- dtypes, sizes, derivatives -----


@pytest.mark.parametrize(
    ("given", "expected"),
    [("f4", "f4"), ("f8", "f8"), ("c8", "c8"), ("c16", "c16"), ("i4", "f8"), ("u1", "f8"), (">f4", "f4"), ("f2", "f2")],
)
@both_kernels
def test_dtypes(given: str, expected: str, use_1D_kernel: bool) -> None:
    x = np.array([[[[1, 2, 4]]]], given)
    result = ec.bilinear_upsampling(x, 2, use_1D_kernel=use_1D_kernel)
    assert result.dtype.newbyteorder("=") == np.dtype(expected)
    assert result.numpy()[0, 0, 0].tolist() == [1, 1.5, 2, 3, 4, 4]


@pytest.mark.parametrize("shape", [(0, 2, 3, 4), (2, 0, 3, 4)], ids=str)
def test_no_images_and_no_channels(shape: tuple[int, ...]) -> None:
    assert ec.bilinear_upsampling(np.ones(shape), 2).shape == (*shape[:2], 6, 8)


def test_any_strides() -> None:
    x = integers((2, 3, 4, 5), 1, np.float64)
    view = np.ascontiguousarray(x[..., ::-1, :].transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)[..., ::-1, :]
    np.testing.assert_array_equal(ec.bilinear_upsampling(view, 3).numpy(), ec.bilinear_upsampling(x, 3).numpy())


@both_kernels
@pytest.mark.parametrize("ratio", [{"ratio": 2}, {"frac_ratio": (3, 2)}, {"frac_ratio": ((1, 2), (2, 3))}], ids=str)
@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
def test_derivatives(ratio: dict[str, Any], use_1D_kernel: bool, dtype: Any) -> None:
    x = integers((2, 2, 3, 4), 1, dtype)
    # Squared, so that there is a second derivative: still exact by central differences.
    ec.check_grads(
        lambda x: ec.bilinear_upsampling(x, use_1D_kernel=use_1D_kernel, **ratio) ** 2, [x], 2, ("fwd", "rev"), eps=1.0
    )
    ec.check_grads(lambda x: ec.bilinear_upsampling(x, use_1D_kernel=use_1D_kernel, **ratio), [x], eps=1.0)


def test_derivatives_of_frac_bilinear_upsampling() -> None:
    x = integers((1, 2, 3, 4), 1, np.float64)
    ec.check_grads(lambda x: ec.frac_bilinear_upsampling(x, (5, 3)) ** 2, [x], 2, ("fwd", "rev"), eps=1.0)


# ----- errors -----

X = np.ones((2, 3, 4, 5))


@pytest.mark.parametrize("ratio", [0, -1, 1.5, "2", None, (), (1, 2, 3), True])
def test_kernel_ratios(ratio: Any) -> None:
    with pytest.raises(ValueError, match="bilinear_kernel_1D: ratio"):
        ec.bilinear_kernel_1D(ratio)
    with pytest.raises(ValueError, match="bilinear_kernel_2D: ratio"):
        ec.bilinear_kernel_2D(ratio)
    with pytest.raises(ValueError, match="bilinear_kernel_2D: ratio"):
        ec.bilinear_kernel_2D((2, ratio))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "either ratio or frac_ratio, got none"),
        ({"ratio": 0}, "got none"),
        ({"ratio": 0, "frac_ratio": 0}, "got none"),
        ({"ratio": 2, "frac_ratio": (2, 1)}, "got ratio and frac_ratio"),
        ({"ratio": -2}, "ratio must be made of ints >= 1"),
        ({"ratio": 2.0}, "ratio must be made of ints"),
        ({"ratio": "2"}, "ratio must be made of ints"),
        ({"ratio": (2, 3)}, r"use frac_ratio=\(\(p, q\), \(p, q\)\)"),
        ({"ratio": 2, "batch_size": 3}, "batch_size is 3"),
        ({"ratio": 2, "num_input_channels": 2}, "num_input_channels is 2"),
        ({"ratio": 2, "use_1D_kernel": None}, "use_1D_kernel"),
    ],
)
def test_ratios(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=f"bilinear_upsampling: .*{told}"):
        ec.bilinear_upsampling(X, **options)


@pytest.mark.parametrize(
    "fraction",
    [2, [3, 2], ["3", 2], (3,), (3, 2, 1), (3, 0), (0, 2), (3, -2), (1.5, 1), ((3, 2),), ((3, 2), 2), ((3, 2), [2, 1]),
     ((3, 2), (2,)), ((3, 2), (2, 0)), ((3, 2), (2, None)), ((3, 2), (2, 1), (1, 1)), "32", np.array([3, 2]), ()],
    ids=str,
)  # fmt: skip
def test_fractions(fraction: Any) -> None:
    with pytest.raises(ValueError, match="frac_ratio"):
        ec.bilinear_upsampling(X, frac_ratio=fraction)
    with pytest.raises(ValueError, match="frac_ratio"):
        ec.frac_bilinear_upsampling(X, fraction)


@pytest.mark.parametrize("name", ["bilinear_upsampling", "frac_bilinear_upsampling"])
@pytest.mark.parametrize(
    ("value", "error", "told"),
    [
        (X[0], ValueError, "input must have 4 axes"),
        (X[None], ValueError, "input must have 4 axes"),
        (X[:, :, :0], ValueError, "input must have at least one row and one column"),
        (X[..., :0], ValueError, "input must have at least one row and one column"),
        (None, TypeError, "input"),
        (X.astype(object), TypeError, "input"),
        ([[1.0], [1.0, 2.0]], ValueError, "input"),
    ],
)
def test_inputs(name: str, value: Any, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=f"{name}: {told}"):
        getattr(ec, name)(value, frac_ratio=(2, 1))
