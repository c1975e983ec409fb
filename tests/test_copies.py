"""Padding and joining of large arrays: NumPy's values, in memory of the pool."""

from __future__ import annotations

import numpy as np
import pytest

import eagerconv as ec
from eagerconv.kernels_cpu import copies, copying


@pytest.mark.parametrize("widths", [((1, 2), (0, 0), (3, 0)), ((0, 0), (0, 5), (1, 1)), ((0, 0),) * 3])
@pytest.mark.parametrize("dtype", [np.float32, np.complex128, np.int16])
def test_padding_is_numpys(widths, dtype):
    x = np.random.default_rng(0).integers(-9, 9, (7, 90, 110)).astype(dtype)
    for value in (0, 3):
        found = copies.pad(x, widths, value)
        np.testing.assert_array_equal(found, np.pad(x, widths, constant_values=value))
        assert found.dtype == dtype
    t = ec.tensor(x.real.astype(float), requires_grad=True)
    y = np.pad(t, widths)
    y.backward(np.arange(y.size, dtype=float).reshape(y.shape))
    inside = tuple(slice(b, b + n) for (b, _), n in zip(widths, x.shape, strict=True))
    np.testing.assert_array_equal(t.grad, np.arange(y.size, dtype=float).reshape(y.shape)[inside])


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_arrays_behind_one_another_are_numpys(axis):
    rng = np.random.default_rng(0)
    parts = [np.moveaxis(rng.standard_normal((n, 60, 70)), 0, axis) for n in (3, 20, 30)]
    np.testing.assert_array_equal(copies.concatenate(*parts, axis=axis, bounds=None), np.concatenate(parts, axis))
    leaves = [ec.tensor(part, requires_grad=True) for part in parts]
    y = ec.concat(leaves, axis=axis)
    y.backward(y.data)
    for leaf, part in zip(leaves, parts, strict=True):
        np.testing.assert_array_equal(leaf.grad, part)


def test_numpy_is_asked_for_all_else():
    x = np.ones((300, 300))
    assert copies.pad(x[:5, :5], ((1, 1), (1, 1))) is None
    assert copies.pad(x, ((1, 1), (1, 1)), np.array([1, 2])) is None
    assert copies.concatenate(x, x.astype(int), axis=0, bounds=None) is None
    assert copies.concatenate(x[:5, :5], x[:5, :5], axis=0, bounds=None) is None
    with pytest.raises(ValueError, match="dimension"):
        ec.concat([x, x[:, :5]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
def test_arrays_whose_axes_are_exchanged_are_copied_right(dtype):
    x = np.random.default_rng(0).integers(-99, 99, (3, 40, 33, 37)).astype(dtype)
    flat = x.reshape(3, 40, -1)
    for view in (
        x.transpose(0, 2, 3, 1), x.transpose(0, 3, 1, 2), x.transpose(2, 3, 0, 1), x.transpose(1, 0, 2, 3), x.T,
        flat.transpose(0, 2, 1), flat[1].T, x[:, ::2].transpose(0, 2, 3, 1), x[..., 1:].transpose(0, 2, 3, 1), x[:, :, 0],
        x[:1].transpose(0, 2, 3, 1), np.broadcast_to(x[:, :, :1], x.shape), x[::-1].transpose(0, 2, 3, 1),
        x.transpose(0, 2, 3, 1)[:, ::-1],
    ):  # fmt: skip
        copy = copying.in_one_piece(view)
        assert copy.flags.c_contiguous
        np.testing.assert_array_equal(copy, view)
    assert copying.in_one_piece(x) is x
