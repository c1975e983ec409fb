"""Conversion of whole arrays between 16-bit floats and float32, by vectors and on several threads."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from eagerconv.kernels_cpu.blocks import CONVERT_PIECE
from eagerconv.kernels_cpu.jit import kernel
from eagerconv.kernels_cpu.table import CONVERT, as_table
from eagerconv.kernels_cpu.targets import host, register_bytes
from eagerconv.kernels_cpu.threads import Launch, get_num_threads, worthwhile
from eagerconv.memory import empty

SECONDS_PER_ELEMENT = 0.1e-9


def convert(source: Any, dtype: np.dtype[Any], to: Any = None) -> Any:
    """The contiguous array `source` in another dtype, written to the contiguous array `to` where one is given."""
    if to is None:
        to = empty(source.shape, dtype)
    wide, narrow = (to, source) if to.itemsize > source.itemsize else (source, to)
    if wide.dtype != np.float32 or not _has_instructions(narrow.dtype.name) or not source.flags.c_contiguous:
        to[...] = source
    elif source.size:
        _launch("widen" if wide is to else "narrow", narrow.dtype.name, source.size, get_num_threads())(source, to, to)
    return to


@lru_cache(maxsize=256)
def _launch(direction: str, name: str, count: int, threads: int) -> Launch:
    native = kernel(f"convert:{direction}_{name}", np.dtype(np.float32))
    threads = worthwhile(threads, count * SECONDS_PER_ELEMENT)
    return Launch([(native, range(-(-count // CONVERT_PIECE)))], threads, 0, as_table(CONVERT.pack(SIZE=count)))


@lru_cache(maxsize=8)
def _has_instructions(name: str) -> bool:
    """Whether the host converts these itself; bfloat16 needs only shifts."""
    if name != "float16":
        return name == "bfloat16"
    _, features = host()
    return "+f16c" in features.split(",") if features else register_bytes() >= 32
