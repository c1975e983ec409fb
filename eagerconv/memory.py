"""A small pool for large results: memory that a network gives back and asks for again, already touched and aligned.

Fresh memory costs more than it seems: the system hands it out page by page, zeroed, at the first touch, which for a large
layer takes longer than the convolution. So blocks of freed results are kept, up to a limit, and handed out again. Where the
limit is reached, those that lay unused for the longest go, so that the pool follows what the program does now.
"""

from __future__ import annotations

import ctypes
import itertools
import math
import os
import threading
import weakref
from collections import OrderedDict, defaultdict, deque
from typing import Any, NamedTuple

import numpy as np

from eagerconv.spec import Shape

SMALLEST = 1 << 17
"""Results of fewer bytes come from NumPy, whose allocator is quick for them."""

ALIGNMENT = 64

# A block may come back while another is taken, in the same thread: the collector runs anywhere. An interrupt, too, may end
# any of these functions between two statements. So `_blocks` alone says what is free; the numbers in `_places` may be of
# blocks that are gone, and a block whose number is lost is not found again, but goes in its turn. `_held` errs upwards.
_lock = threading.RLock()
_numbers = itertools.count()
_blocks: OrderedDict[int, tuple[int, Any]] = OrderedDict()  # number -> size and memory, in the order in which they came
_places: dict[int, deque[int]] = defaultdict(deque)  # size -> numbers, in the same order; there are few sizes
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
    # Every view of the array leads to this handle, which holds the address alone: when it dies, no array shows the block.
    handle = (ctypes.c_char * nbytes).from_address(address)
    weakref.finalize(handle, _give_back, size, owner).atexit = False
    return np.frombuffer(handle, dtype).reshape(shape)  # type: ignore[call-overload]  # a ctypes array is a buffer


def _rounded(nbytes: int) -> int:
    """A size at most an eighth larger, so that layers of nearly the same size share blocks."""
    step = 1 << max(nbytes.bit_length() - 4, 12)
    return -(-nbytes // step) * step


def _take(size: int) -> Any:
    """The block of this size that came last, which may be in the cache, or None."""
    global _held
    with _lock:
        numbers = _places[size]
        while numbers:
            found = _blocks.pop(numbers.pop(), None)
            if found is not None:
                _held -= size
                return found[1]
    return None


def _give_back(size: int, owner: Any) -> None:
    global _held
    if size > _limit:
        return
    with _lock:
        gone = _shrink(_limit - size)
        number = next(_numbers)
        _held += size
        _blocks[number] = size, owner
        _places[size].append(number)
    del gone  # the system takes its time


def _shrink(most: int) -> list[Any]:
    """Take blocks out until so many bytes are left at most, those first that came first; the caller drops them."""
    global _held
    gone: list[Any] = []
    while _held > most and _blocks:
        number, (size, owner) = _blocks.popitem(last=False)
        _held -= size
        gone.append(owner)
        numbers = _places[size]
        while numbers and numbers[0] <= number:
            numbers.popleft()
    if not _blocks:
        _places.clear()
        if _held > most:
            _held = 0  # an interrupt came between a block and its count
    return gone


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
        gone = list(_blocks.values())
        _blocks.clear()
        _places.clear()
        _held = 0
    del gone


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
    with _lock:
        _limit = nbytes
        gone = _shrink(nbytes)
    del gone
