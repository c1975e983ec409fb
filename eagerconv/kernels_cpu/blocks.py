"""Sizes of what kernels hold in registers, which sources and plans must agree on: one record for each instruction set.

Kernel sources take nothing else from the modules that plan for them: so a plan can change without a compilation.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from eagerconv.kernels_cpu.targets import registers

DIRECT_ROW = 512  # elements of a kernel's row buffer; each thread has two
CONVERT_PIECE = 1 << 13  # elements of one task
SOFTMAX_VECTORS = 4  # neighbours of a task, where the axis lies across the lanes


class Blocks(NamedTuple):
    """Blocks of sums, with the vectors and the factor that one step needs.

    Attributes
    ----------
    gemm_rows, gemm_vectors : int
        Of one block.
    gemm_depth : int
        Rows (channel, tap) of a panel of filters, of which three vectors stay in the second-level cache. With few registers
        panels are narrow and pixels are read again for each: shallow enough for a panel and the lines of its pixels to share
        the first-level cache (measured: a tenth faster than 384 on deep layers).
    panel_bytes : int
        Of the pixels that all filters of one tap meet: at most a quarter of the second-level cache; the next ones come too.
    panel_streams : bool
        Whether large results of filters of one tap go past the caches (measured: up to a tenth faster on a Zen 3 with AVX2,
        an eighth slower on a Xeon with AVX-512).
    winograd_rows : tuple of int
        Tiles, with two vectors of channels: as many as the registers can hold, and fewer where that divides the tiles better.
    sum_rows : int
        Input channels in the gradient with respect to weights.
    dwm_rows, dwm_few_rows : int
        Windows, of two vectors each: 28 of 32 registers, 12 of 16; and of one block for the rest.
    rows_vectors : int
        Of the result of `rows`, summed at once.
    """

    gemm_rows: int
    gemm_vectors: int
    gemm_depth: int
    panel_bytes: int
    panel_streams: bool
    winograd_rows: tuple[int, ...]
    sum_rows: int
    dwm_rows: int
    dwm_few_rows: int
    rows_vectors: int


BLOCKS = {
    16: Blocks(  # AVX2 and SSE
        gemm_rows=6, gemm_vectors=2, gemm_depth=128, panel_bytes=128 << 10, panel_streams=True, winograd_rows=(6, 5, 4, 2),
        sum_rows=4, dwm_rows=6, dwm_few_rows=2, rows_vectors=2,
    ),
    32: Blocks(  # AVX-512 and ARM
        gemm_rows=8, gemm_vectors=3, gemm_depth=384, panel_bytes=256 << 10, panel_streams=False,
        winograd_rows=(14, 13, 12, 11, 8, 4), sum_rows=8, dwm_rows=14, dwm_few_rows=4, rows_vectors=4,
    ),
}[registers()]  # fmt: skip
"""Of the processor that kernels are compiled for, by its vector registers; how long they are tells no block."""

(
    GEMM_ROWS, GEMM_VECTORS, GEMM_DEPTH, PANEL_BYTES, PANEL_STREAMS, WINOGRAD_ROWS, SUM_ROWS, DWM_ROWS, DWM_FEW_ROWS, VECTORS,
) = BLOCKS  # fmt: skip

LINES = 4  # of the result of `rows`, summed at once
HEIGHTS = range(1, 9)  # taps along y that share a row of the source
PLANE_TAPS = range(1, 10)  # whose gradients are summed at once


def tap_blocks() -> Iterator[tuple[int, int]]:
    """The (height, columns) of taps whose gradients fit into registers."""
    return ((h, k) for h in HEIGHTS for k in range(1, 6) if h * k + h + 1 <= registers())
