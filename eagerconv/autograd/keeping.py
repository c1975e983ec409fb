"""Arrays that the tape saves and somebody else may write to: small ones are copied, of large ones a sample is remembered.

An operand that no operation made shows memory that others know: NumPy's arrays, what `asarray` wraps, `.data` of a parameter.
A copy of every one would cost a large network much memory; so those of more than `SMALL` bytes stay where they are, and a
backward pass looks at some hundred lines of cache, spread over the array, for whether they are still the same.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

__all__ = ["SMALL", "Kept", "changed", "keep", "keep_parts", "sample"]

SMALL = 1 << 14
"""Bytes; a sample of so many would be no smaller."""

_LINE = 64  # bytes that cost one look into memory
_LEAST, _MOST, _SHARE = 256, 512, 16  # lines of a sample, and the share of all lines between these bounds


def keep(x: Any) -> tuple[Any, bytes | None]:
    """An array for the tape to save, and what to compare with `sample` of it later (None: nothing, it is a copy).

    Numbers, and the arrays of other devices, are kept as they are.
    """
    if type(x) is not np.ndarray:
        return x, None
    if x.nbytes <= SMALL:
        return x.copy("K"), None
    return x, sample(x)


class Kept:
    """An array that is kept beside the operands of an operation: a parameter, an argument of the user's own rule."""

    __slots__ = ("_array", "_seen")

    def __init__(self, array: Any) -> None:
        self._array, self._seen = keep(array)

    def get(self, where: str) -> Any:
        """The array as it was, or an error that tells where it was kept."""
        if self._seen is not None and sample(self._array) != self._seen:
            raise changed(f"{where} was kept", self._array)
        return self._array


def keep_parts(index: Any) -> Any:
    """An index, or what else may hold arrays, with copies of them: fewer bytes than what is found by them, most often."""
    if isinstance(index, np.ndarray):
        return index.copy()
    if isinstance(index, (tuple, list)):
        return type(index)([keep_parts(part) for part in index])
    return index


def changed(what: str, array: Any) -> RuntimeError:
    """The error of an array that was written to."""
    return RuntimeError(
        f"{what} (shape {array.shape}) for the backward pass, and its memory was written to afterwards, through NumPy or "
        ".data; call backward() before the change, or give the operation a copy, as in asarray(a, copy=True)"
    )


def sample(x: np.ndarray[Any, Any]) -> bytes:
    """Lines of an array's memory, spread over all of it."""
    flat = _flat(x)
    if flat is None:
        return bytes(x[_places(x.shape)].tobytes())
    items = max(1, _LINE // x.itemsize)
    count, step = _spread(x.size // items)
    return bytes(flat[: count * step * items].reshape(count, step * items)[:, :items].tobytes())


def _flat(x: Any) -> Any:
    """The elements one after another as they lie in memory, or None where there are gaps between them."""
    if x.flags.c_contiguous:
        return x.reshape(-1)
    x = x.transpose(sorted(range(x.ndim), key=lambda axis: -x.strides[axis]))
    return x.reshape(-1) if x.flags.c_contiguous else None


@functools.lru_cache(maxsize=256)
def _spread(lines: int) -> tuple[int, int]:
    """How many of so many lines to look at, and how far from one to the next: a prime.

    A step that images of the batch have for their size would meet their margins alone.
    """
    step = max(1, lines // min(max(lines // _SHARE, _LEAST), _MOST))
    while any(step % d == 0 for d in range(2, int(step**0.5) + 1)):
        step -= 1
    return lines // step, step


@functools.lru_cache(maxsize=64)
def _places(shape: tuple[int, ...]) -> tuple[Any, ...]:
    """An index of elements spread over an array with gaps, which has no lines."""
    size = int(np.prod(shape))
    _, step = _spread(size)
    return np.unravel_index(np.arange(0, size, step), shape)
