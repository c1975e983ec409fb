"""Copies of images whose channels lie side by side, as other libraries keep them, by vectors and on several threads."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from eagerconv.kernels_cpu.jit import kernel
from eagerconv.kernels_cpu.table import COPYING, as_table
from eagerconv.kernels_cpu.targets import lanes
from eagerconv.kernels_cpu.threads import Launch, get_num_threads, worthwhile
from eagerconv.memory import empty
from eagerconv.spec import Shape, contiguous

LARGE = 1 << 15
"""Elements below which NumPy is left alone."""

BLOCK = 1 << 13  # elements of a task: they stay in the first-level cache
SECONDS_PER_ELEMENT = 0.4e-9


def copied(array: Any) -> Any:
    """A contiguous copy of an array (n, c, *pixels); NumPy takes several times as long where channels lie side by side."""
    copy = empty(array.shape, array.dtype)
    if _channels_together(array):
        image, pixel = (array.strides[axis] // array.itemsize for axis in (0, -1))
        _launch(array.shape, image, pixel, array.dtype, get_num_threads())(array, copy, copy)
    else:
        copy[...] = array
    return copy


def in_one_piece(array: Any) -> Any:
    """The array itself if it is contiguous, or a copy: by vectors where two of its axes, or runs of them, are exchanged."""
    if array.flags.c_contiguous and array.flags.aligned:
        return array
    axes = _merged(array) if array.size >= LARGE else []
    if len(axes) == 2:
        axes = [(1, 0), *axes]
    if len(axes) != 3 or axes[1][1] != array.itemsize:
        return np.array(array, order="C")
    shape, strides = zip(*axes, strict=True)
    seen = np.lib.stride_tricks.as_strided(array, shape, strides, writeable=False)
    return copied(seen).reshape(array.shape)


def _merged(array: Any) -> list[tuple[int, int]]:
    """Length and stride of each axis, those joined that lie in memory as one."""
    axes: list[tuple[int, int]] = []
    for n, stride in zip(array.shape, array.strides, strict=True):
        if n == 1:
            continue
        if axes and axes[-1][1] == n * stride:
            axes[-1] = (axes[-1][0] * n, stride)
        else:
            axes.append((n, stride))
    return axes


def _channels_together(array: Any) -> bool:
    """Whether the channels of a pixel are neighbours, and pixels as far apart from each other as those of a row."""
    if array.dtype.name not in ("float32", "float64") or array.ndim < 3 or not array.dtype.isnative:
        return False
    size, pixel, nbytes = array.strides[0], array.strides[-1], array.itemsize
    if array.strides[1] != nbytes or min(array.shape) == 0 or array.shape[1] < lanes(array.dtype):
        return False
    if pixel < array.shape[1] * nbytes or pixel % nbytes or size % nbytes or not array.flags.aligned:
        return False
    rows = contiguous((1, 1, *array.shape[2:]))[2:]  # in pixels
    return all(
        n == 1 or stride == pixel * row for n, stride, row in zip(array.shape[2:], array.strides[2:], rows, strict=True)
    )


@lru_cache(maxsize=256)
def _launch(shape: Shape, image: int, pixel: int, dtype: np.dtype[Any], threads: int) -> Launch:
    channels, pixels, n_lanes = shape[1], math.prod(shape[2:]), lanes(dtype)
    block = max(1, BLOCK // (channels * n_lanes)) * n_lanes
    blocks = -(-pixels // block)
    table = COPYING.pack(
        CHANNELS=channels, PIXELS=pixels, STEP=pixel, IMAGE=image, BLOCK=block, BLOCKS=blocks, LANES=n_lanes
    )
    threads = worthwhile(threads, math.prod(shape) * SECONDS_PER_ELEMENT)
    return Launch([(kernel("copying:pixels_together", dtype), range(shape[0] * blocks))], threads, 0, as_table(table))
