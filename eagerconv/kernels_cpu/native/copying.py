"""Images with their channels side by side, copied so that pixels are: a transposition by squares of registers.

A task is a block of pixels of one image. What is left of pixels and channels beside whole squares is copied one by one, so that
nothing is read outside of the images.
"""

from __future__ import annotations

from eagerconv.kernels_cpu.native.loops import P, helper
from eagerconv.kernels_cpu.native.transforms import lanes_to_rows
from eagerconv.kernels_cpu.native.vector import offset
from eagerconv.kernels_cpu.table import COPYING as at


@helper
def one_by_one(to: P, row: int, source: P, step: int, channels: range, pixels: range) -> None:
    """to[c*row + p] = source[p*step + c]."""
    for c in channels:
        for p in pixels:
            to[c * row + p] = source[p * step + c]


def pixels_together(first: int, last: int, thread: int, x: P, w: P, y: P, work: P, g: P) -> None:
    """y[n, c, p] = x[n*IMAGE + p*STEP + c]."""
    lanes, channels, pixels, step = g[at.LANES], g[at.CHANNELS], g[at.PIXELS], g[at.STEP]
    for task in range(first, last):
        image, start = task // g[at.BLOCKS], task % g[at.BLOCKS] * g[at.BLOCK]
        n = min(g[at.BLOCK], pixels - start)
        source = offset(x, image * g[at.IMAGE] + start * step)
        to = offset(y, image * channels * pixels + start)
        whole, full = n // lanes * lanes, channels // lanes * lanes
        for c in range(0, full, lanes):
            for p in range(0, whole, lanes):
                lanes_to_rows(offset(source, p * step + c), step, offset(to, c * pixels + p), pixels, lanes, lanes)
        one_by_one(to, pixels, source, step, range(full), range(whole, n))
        one_by_one(to, pixels, source, step, range(full, channels), range(n))
