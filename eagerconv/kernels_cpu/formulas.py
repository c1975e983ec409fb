"""Formulas on arrays: one pass over memory on all threads, whose kernels are emitted without Numba.

Operands are float32 or float64 in one piece, all of one dtype; what is broadcast, as cotangents of a sum are, is not written
out. The same numbers give the same bits in arrays of any size, on any number of threads.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from eagerconv.formulas import formula
from eagerconv.kernels_cpu.copying import in_one_piece
from eagerconv.kernels_cpu.jit import kernel
from eagerconv.kernels_cpu.table import FORMULA, STREAM_BYTES, as_table
from eagerconv.kernels_cpu.threads import Launch, get_num_threads
from eagerconv.memory import empty

PIECE = 1 << 13  # elements of one task

DTYPES = frozenset({np.dtype(np.float32), np.dtype(np.float64)})
"""What the kernels know, in native byte order."""

OF_CHANNELS = "_of_channels"
"""The end of a kernel's name whose last operand has one number for each channel."""

Numbers = tuple[float, ...]


def suits(x: Any, least: int = 0) -> bool:
    """Whether an array has so many elements, of a dtype that the kernels know, and lies in one piece."""
    known = type(x) is np.ndarray and x.size >= least and x.dtype in DTYPES
    return known and x.flags.c_contiguous and x.flags.aligned


def evaluate(name: str, operands: Sequence[Any], numbers: Numbers = ()) -> Any:
    """The formula of arrays of the same shape, in new memory; None where the kernels do not know the arrays."""
    first = operands[0]
    dtype, shape = first.dtype, first.shape
    if dtype not in DTYPES:
        return None
    sources, steps = [], []
    for x in operands:
        if type(x) is not np.ndarray or x.dtype != dtype or x.shape != shape:
            return None
        if x.flags.c_contiguous and x.flags.aligned:
            step = 1
        elif x.size > PIECE and not any(x.strides):
            x, step = np.full(PIECE, x.item(0), dtype), 0
        else:
            x, step = in_one_piece(x), 1
        sources.append(x)
        steps.append(step)
    out = empty(shape, dtype)
    _launch_on(name, sources, [out], tuple(steps), numbers)
    return out


def update(name: str, operands: Sequence[Any], results: Sequence[Any], numbers: Numbers = ()) -> bool:
    """Write the results of a formula into arrays, which operands may be too; whether the kernels know all of them."""
    first = operands[0]
    if not all(suits(x) and x.dtype == first.dtype and x.shape == first.shape for x in (*operands, *results)):
        return False
    _launch_on(name, operands, results, (1,) * len(operands), numbers)
    return True


def of_channels(name: str, x: Any, numbers: Any, row: int, out: Any) -> Any:
    """A formula of an array in one piece and of one number for each channel, to which its rows belong in turn, into `out`."""
    _launch_on(name, [x, numbers], [out], (1, 0), (), row, numbers.size)
    return out


def of_rows(name: str, x: Any, row: Any, out: Any) -> Any:
    """A formula of an array in one piece and of one row, which every row of it meets, into `out`."""
    _launch_on(name, [x, row], [out], (1, 0), (), row.size)
    return out


def _launch_on(
    name: str, sources: Sequence[Any], targets: Sequence[Any], steps: tuple[int, ...], numbers: Numbers,
    piece: int = PIECE, channels: int = 0,
) -> None:  # fmt: skip
    first, to = sources[0], targets[0]
    others = tuple(array.ctypes.data for array in (*sources[2:], *targets[1:]))
    stream = to.nbytes >= STREAM_BYTES and to is not first and len(targets) == 1
    make = _launch.__wrapped__ if others else _launch  # addresses are never the same
    launch = make(name, to.dtype, to.size, others, steps, numbers, piece, channels, stream, get_num_threads())
    launch(first, sources[-1 if len(sources) < 2 else 1], to)


@lru_cache(maxsize=1024)
def _launch(
    name: str, dtype: np.dtype[Any], size: int, others: tuple[int, ...], steps: tuple[int, ...], numbers: Numbers, piece: int,
    channels: int, stream: bool, threads: int,
) -> Launch:  # fmt: skip
    found, given = formula(name), (len(steps), len(numbers))
    if given != (found.operands, found.numbers):
        raise TypeError(f"the formula {name} takes {found.operands} arrays and {found.numbers} numbers, not {given}")
    entries = FORMULA.pack(SIZE=size, PIECE=piece, CHANNELS=channels, NON_TEMPORAL=int(stream))
    bits = struct.unpack(f"{len(numbers)}q", struct.pack(f"{len(numbers)}d", *numbers))
    table = as_table([*entries, *others, *steps, *bits])
    run = kernel(f"formulas:{name}{OF_CHANNELS if channels else ''}", dtype)
    return Launch([(run, range(-(-size // piece)))], threads, 0, table)
