"""Sizes of what kernels hold in registers, which their sources and the plans must agree on.

Kernel sources take nothing else from the modules that plan for them: so a plan can change without a compilation.
"""

from __future__ import annotations

from collections.abc import Iterator

from eagerconv.kernels_cpu.targets import registers

FEW = registers() == 16  # AVX2 and SSE; others have 32

DIRECT_ROW = 512  # elements of a kernel's row buffer; each thread has two
CONVERT_PIECE = 1 << 13  # elements of one task

# Sums in registers, with a row of vectors and a factor; rows (channel, tap) of a panel of filters, of which three vectors
# stay in the second-level cache. With few registers panels are narrow and pixels are read again for each: shallow enough for
# a panel and the lines of its pixels to share the first-level cache (measured: a tenth faster than 384 on deep layers).
GEMM_ROWS, GEMM_VECTORS = (6, 2) if FEW else (8, 3)
GEMM_DEPTH = 128 if FEW else 384

# Tiles of one block of sums, with two vectors of channels: as many as the registers can hold, and fewer where that divides
# the tiles better. Input channels of one block of sums in the gradient with respect to weights.
WINOGRAD_ROWS = (6, 5, 4, 2) if FEW else (14, 13, 12, 11, 8, 4)
SUM_ROWS = 4 if FEW else 8

# Windows of one block of sums, of two vectors each: 28 of 32 registers, 12 of 16; and of one for the rest.
DWM_ROWS, DWM_FEW_ROWS = (6, 2) if FEW else (14, 4)

LINES, VECTORS = 4, 2 if FEW else 4  # of the result of `rows`, summed at once
HEIGHTS = range(1, 9)  # taps along y that share a row of the source
PLANE_TAPS = range(1, 10)  # whose gradients are summed at once


def tap_blocks() -> Iterator[tuple[int, int]]:
    """The (height, columns) of taps whose gradients fit into registers."""
    return ((h, k) for h in HEIGHTS for k in range(1, 6) if h * k + h + 1 <= registers())
