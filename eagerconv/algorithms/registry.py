"""The table: which algorithms each device has."""

from __future__ import annotations

from eagerconv.kernels_cpu.columns import COLUMNS
from eagerconv.kernels_cpu.direct import DIRECT
from eagerconv.kernels_cpu.dwm import DWM
from eagerconv.kernels_cpu.fft import FFT
from eagerconv.kernels_cpu.gemm import GEMM
from eagerconv.kernels_cpu.local import LOCAL
from eagerconv.kernels_cpu.pairs import paired
from eagerconv.kernels_cpu.rows import ROWS
from eagerconv.kernels_cpu.staging import staged
from eagerconv.kernels_cpu.winograd import WINOGRAD, WINOGRAD_F2
from eagerconv.record import Algorithm

NATIVE = (GEMM, WINOGRAD, WINOGRAD_F2, DWM, FFT, COLUMNS, ROWS, LOCAL, DIRECT)
"""The CPU's algorithms, without the dtypes and strides that they serve by conversions and copies."""

TABLE: dict[str, tuple[Algorithm, ...]] = {"cpu": tuple(staged(paired(a) if a.exact else a) for a in NATIVE)}
"""Algorithms of each device; on equal cost the earlier one runs. `table` enters the GPU's when they are first asked for."""

ELSEWHERE = frozenset({"cudnn"})
"""Algorithms that only some machines have: they can be excluded anywhere, and required where they are."""


def table(device: str) -> tuple[Algorithm, ...]:
    """The algorithms of a device."""
    if device == "cuda" and device not in TABLE:
        from eagerconv.kernels_gpu import cuda, cudnn, direct, fft, gemm

        TABLE[device] = tuple(map(cuda.guarded, (cudnn.CUDNN, gemm.GEMM, fft.FFT, direct.DIRECT)))
    return TABLE[device]


def names(device: str = "cpu") -> tuple[str, ...]:
    """Names of the algorithms of a device."""
    return tuple(algorithm.name for algorithm in table(device))


def known(name: str) -> str:
    """The name, if it is that of an algorithm, whether this machine has it or not."""
    if name not in ELSEWHERE and not any(name == algorithm.name for table in TABLE.values() for algorithm in table):
        raise ValueError(f"there is no algorithm {name!r}; there are {', '.join(map(repr, names()))}")
    return name
