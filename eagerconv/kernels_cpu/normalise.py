"""Normalisation of groups of arrays in one piece, on all threads; None where the kernels do not know the arrays."""

from __future__ import annotations

import math
import struct
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from eagerconv.kernels_cpu.copying import in_one_piece
from eagerconv.kernels_cpu.formulas import DTYPES
from eagerconv.kernels_cpu.jit import Kernel, kernel
from eagerconv.kernels_cpu.table import NORMALISE, as_table
from eagerconv.kernels_cpu.threads import Launch, get_num_threads
from eagerconv.memory import empty

FEW = 1 << 12  # elements for which one thread is enough
SHORTEST = 8  # numbers beside one another, for which vectors pay
RUNS = 32  # tasks, at most, of the gradient where scales are vectors: what each sums is added up in their order


class Layout(NamedTuple):
    """An array as (rows, groups, segments, size): segment s of group b is of channel (b * segments + s) % channels."""

    rows: int
    groups: int
    segments: int
    size: int
    channels: int

    @property
    def each(self) -> bool:
        """Whether every number of a group has a channel of its own."""
        return self.size == 1 and self.rows == 1 and self.channels == self.segments

    def suits(self, *arrays: Any) -> bool:
        """Whether the kernels know the arrays, and their rows are not too short."""
        first = arrays[0]
        return (
            all(type(x) is np.ndarray and x.dtype == first.dtype for x in arrays)
            and first.dtype in DTYPES
            and first.size > 0
            and (self.size >= SHORTEST or (self.each and self.segments >= SHORTEST))
        )


class Statistics(NamedTuple):
    """Mean, variance and 1 / sqrt(variance + eps) of each group."""

    mean: Any
    variance: Any
    rstd: Any


def forward(
    x: Any, weight: Any, bias: Any, eps: float, layout: Layout, activation: str | None = None
) -> tuple[Any, Statistics] | None:
    """(x - mean) / deviation * weight + bias, in x's shape; weight and bias are None or have a number for each channel.

    The activation is the name of a formula, which is applied to that.
    """
    given = [v for v in (weight, bias) if v is not None]
    if not layout.suits(x, *given):
        return None
    x, dtype = in_one_piece(x), x.dtype
    out = empty(x.shape, dtype)
    seen = Statistics(*(np.empty(layout.groups, dtype) for _ in range(3)))
    scale, shift = _each_channel(layout, dtype, weight, bias)
    addresses = _addresses(MEAN=seen.mean, VARIANCE=seen.variance, RSTD=seen.rstd, WEIGHT=scale, BIAS=shift)
    name = "forward_each" if layout.each else "forward"
    _launch(_then(name, activation), dtype, layout, layout.groups, EPS=_bits(eps), **addresses)(x, x, out)
    return out, seen


def affine(x: Any, mean: Any, scale: Any, shift: Any, layout: Layout, activation: str | None = None) -> Any:
    """(x - mean) * scale + shift with numbers of each group."""
    if not layout.suits(x, mean, scale, shift):
        return None
    x, numbers = in_one_piece(x), [np.ascontiguousarray(v) for v in (mean, scale, shift)]
    out = empty(x.shape, x.dtype)
    addresses = _addresses(**dict(zip(("MEAN", "RSTD", "BIAS"), numbers, strict=True)))
    _launch(_then("affine", activation), x.dtype, layout, layout.rows * layout.groups, **addresses)(x, x, out)
    return out


def backward(
    g: Any, x: Any, weight: Any, bias: Any, seen: Statistics, layout: Layout, activation: str | None = None
) -> tuple[Any, Any, Any] | None:
    """The gradients of x, and of weight and bias, one number for each channel."""
    given = [v for v in (weight, bias) if v is not None]
    if not layout.suits(g, x, *given) or (layout.each and activation is not None):
        return None
    g, x, dtype = in_one_piece(g), in_one_piece(x), x.dtype
    gx = empty(x.shape, dtype)
    scale, shift = _each_channel(layout, dtype, weight, bias)
    run = -(-layout.groups // RUNS)
    if layout.each:
        name, tasks = "backward_each", -(-layout.groups // run)
        parts = (tasks, layout.segments)
    else:
        name, tasks = "backward", layout.groups
        parts = (layout.rows * layout.groups * layout.segments // layout.channels, layout.channels)
    sums, dots = np.empty(parts, dtype), np.empty(parts, dtype)
    addresses = _addresses(MEAN=seen.mean, RSTD=seen.rstd, WEIGHT=scale, BIAS=shift, SUMS=sums, DOTS=dots)
    _launch(_then(name, activation), dtype, layout, tasks, RUN=run, **addresses)(g, x, gx)
    return gx, dots.sum(axis=0), sums.sum(axis=0)


def _each_channel(layout: Layout, dtype: np.dtype[Any], weight: Any, bias: Any) -> tuple[Any, Any]:
    """Scale and shift of every channel, which are 1 and 0 where there is none."""
    scale = np.ones(layout.channels, dtype) if weight is None else np.ascontiguousarray(weight)
    shift = np.zeros(layout.channels, dtype) if bias is None else np.ascontiguousarray(bias)
    return scale, shift


def _then(name: str, activation: str | None) -> str:
    return name if activation is None else f"{name}_then_{activation}"


def _bits(number: float) -> int:
    return int(struct.unpack("q", struct.pack("d", number))[0])


def _addresses(**arrays: Any) -> dict[str, int]:
    return {name: array.__array_interface__["data"][0] for name, array in arrays.items()}


def _launch(name: str, dtype: np.dtype[Any], layout: Layout, tasks: int, **fields: int) -> Launch:
    run, threads, table = _sizes(name, dtype, layout, tasks, get_num_threads())
    table = table.copy()
    for field, value in fields.items():
        table[getattr(NORMALISE, field)] = value
    return Launch([(run, range(tasks))], threads, 0, table)


@lru_cache(maxsize=1024)
def _sizes(name: str, dtype: np.dtype[Any], layout: Layout, tasks: int, threads: int) -> tuple[Kernel, int, Any]:
    """The kernel, its threads, and its table without addresses."""
    sizes = {field.upper(): value for field, value in layout._asdict().items()}
    table = as_table(NORMALISE.pack(**dict.fromkeys(NORMALISE.names, 0) | sizes))
    return kernel(f"normalise:{name}", dtype), threads if math.prod(layout[:4]) >= FEW else 1, table
