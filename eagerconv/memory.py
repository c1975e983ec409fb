"""A small pool for large results: memory that a network gives back and asks for again, already touched and aligned.

Fresh memory costs more than it seems: the system hands it out page by page, zeroed, at the first touch, which for a large
layer takes longer than the convolution. So blocks of freed results are kept, up to a limit, and handed out again.
"""

from __future__ import annotations

import ctypes
import math
import os
import threading
import weakref
from collections import defaultdict
from typing import Any, NamedTuple

import numpy as np

from eagerconv.spec import Shape

SMALLEST = 1 << 17
"""Results of fewer bytes come from NumPy, whose allocator is quick for them."""

ALIGNMENT = 64

_lock = threading.RLock()  # a block may come back while another is taken: the collector runs anywhere
_free: dict[int, list[Any]] = defaultdict(list)
_limit = 1 << 29
_held = 0


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.RLock()  # its owner may not exist here


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


class Usage(NamedTuple):
    """Bytes in the pool's free blocks, and how many it keeps at most."""

    free: int
    limit: int


def empty(shape: Shape, dtype: np.dtype[Any]) -> Any:
    """An uninitialised, contiguous array, from the pool if it is large; it goes back when its last view has died."""
    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes < SMALLEST:
        return np.empty(shape, dtype)
    size = _rounded(nbytes)
    owner = _take(size)
    if owner is None:
        owner = np.empty(size + ALIGNMENT, np.uint8)
    address = -(-owner.ctypes.data // ALIGNMENT) * ALIGNMENT
    # Every view of the array leads to this handle, which owns nothing but its place: when it dies, nobody sees the block.
    handle = (ctypes.c_char * nbytes).from_address(address)
    weakref.finalize(handle, _give_back, size, owner).atexit = False
    return np.frombuffer(handle, dtype).reshape(shape)  # type: ignore[call-overload]  # a ctypes array is a buffer


def _rounded(nbytes: int) -> int:
    """A size at most an eighth larger, so that layers of nearly the same size share blocks."""
    step = 1 << max(nbytes.bit_length() - 4, 12)
    return -(-nbytes // step) * step


def _take(size: int) -> Any:
    global _held
    with _lock:
        blocks = _free.get(size)
        if not blocks:
            return None
        _held -= size  # first: an interrupt may come after a call, and must find blocks counted
        return blocks.pop()


def _give_back(size: int, owner: Any) -> None:
    global _held
    with _lock:
        if _held + size <= _limit:
            _held += size
            _free[size].append(owner)


def usage() -> Usage:
    """How much memory the pool holds for later.

    Examples
    --------
    >>> import eagerconv as ec
    >>> ec.memory.clear()
    >>> ec.memory.usage().free
    0
    """
    return Usage(_held, _limit)


def clear() -> None:
    """Give all free blocks back to the system."""
    global _held
    with _lock:
        _held = 0
        _free.clear()


def set_limit(nbytes: int) -> None:
    """Keep at most so many bytes in free blocks; 0 switches the pool off. 512 MiB at first.

    Parameters
    ----------
    nbytes : int
        At least 0.

    Raises
    ------
    ValueError
        If it is not such an int.
    """
    global _limit
    if type(nbytes) is not int or nbytes < 0:
        raise ValueError(f"nbytes must be an int >= 0, got {nbytes!r}")
    _limit = nbytes
    if _held > nbytes:
        clear()
