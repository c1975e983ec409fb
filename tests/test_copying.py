"""Copies of images whose channels lie side by side: the same values for every size of planes, blocks and registers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from strategies import fenced

import eagerconv as ec
from eagerconv.kernels_cpu import copying
from eagerconv.kernels_cpu.targets import lanes

SHAPES = [
    (2, 16, 16), (1, 16, 1), (3, 17, 15), (2, 33, 5, 7), (1, 64, 28, 28), (2, 100, 9, 11), (5, 40, 2, 3, 5), (1, 16, 1, 1),
    (2, 16, 1, 40), (1, 130, 70, 3),
]  # fmt: skip


def channels_last(a: Any, room: int = 0) -> Any:
    """The same numbers in memory as (n, *pixels, c), with `room` elements behind the channels of each pixel."""
    wide = np.full((a.shape[0], *a.shape[2:], a.shape[1] + room), np.nan, a.dtype)
    wide[..., : a.shape[1]] = np.moveaxis(a, 1, -1)
    return np.moveaxis(wide[..., : a.shape[1]], -1, 1)


@pytest.mark.lanes
@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values(shape: tuple[int, ...], dtype: str) -> None:
    a = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    for view in (channels_last(a), channels_last(a, 3), channels_last(np.concatenate([a, a]))[::2][: len(a)]):
        assert copying._channels_together(view) == (shape[1] >= lanes(a.dtype))
        copy = copying.copied(view)
        assert copy.flags.c_contiguous
        np.testing.assert_array_equal(copy, view)


@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_nothing_outside_is_read(shape: tuple[int, ...], at_end: bool) -> None:
    a = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    view = np.moveaxis(fenced(np.ascontiguousarray(np.moveaxis(a, 1, -1)), at_end), -1, 1)
    np.testing.assert_array_equal(copying.copied(view), a)


def test_what_lies_otherwise_is_numpys() -> None:
    a = np.random.default_rng(0).standard_normal((2, 32, 6, 8)).astype(np.float32)
    last = channels_last(a)
    others = [a, a[:, ::-1], last[:, :, ::2], last[:, :, :, ::-1], last[:, ::2], last.transpose(0, 1, 3, 2), last[:, :4],
              np.broadcast_to(a[:, :1], a.shape), last.astype(">f4"), last[:0]]  # fmt: skip
    for view in others:
        assert not copying._channels_together(view)
        np.testing.assert_array_equal(copying.copied(view), view)


def test_channels_last_layers_take_that_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    launch = copying._launch
    monkeypatch.setattr(copying, "_launch", lambda shape, *others: (seen.append(shape), launch(shape, *others))[1])
    x = np.random.default_rng(0).standard_normal((2, 32, 30, 31)).astype(np.float32)
    w = np.ones((32, 1, 3, 3), np.float32)
    y = ec.conv2d(channels_last(x), w, border_mode=1, num_groups=32).numpy()
    np.testing.assert_array_equal(y, ec.conv2d(x, w, border_mode=1, num_groups=32).numpy())
    ec.conv2d_grad_wrt_weights(channels_last(x), channels_last(y), w.shape, border_mode=1, num_groups=32)
    assert seen == [x.shape] * 3
