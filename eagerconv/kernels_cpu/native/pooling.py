"""The largest element of each window of a plane, and where gradients go: to the first that is as large; NaN is largest.

A task is one plane. Windows begin at o*stride - pad on each axis, what lies outside of the plane does not count, and every
window meets the plane.
"""

from __future__ import annotations

from eagerconv.kernels_cpu.native.loops import P, helper
from eagerconv.kernels_cpu.native.vector import choose, offset, zero
from eagerconv.kernels_cpu.table import POOLING as at


@helper
def inside(o: int, stride: int, pad: int, window: int, size: int) -> tuple[int, int]:
    """The part of window o that lies on an axis."""
    start = o * stride - pad
    return max(start, 0), min(start + window, size)


def max_planes(first: int, last: int, thread: int, x: P, w: P, y: P, work: P, g: P) -> None:
    """The largest elements: first over the rows of all windows of a line, then along the line."""
    height, width, out_y, out_x = g[at.SIZE], g[at.SIZE + 1], g[at.OUT], g[at.OUT + 1]
    line = offset(work, thread * g[at.WORK])
    for task in range(first, last):
        plane, to = offset(x, task * height * width), offset(y, task * out_y * out_x)
        for oy in range(out_y):
            y0, y1 = inside(oy, g[at.STRIDE], g[at.PAD], g[at.WINDOW], height)
            for j in range(width):
                line[j] = plane[y0 * width + j]
            for i in range(y0 + 1, y1):
                for j in range(width):
                    value = plane[i * width + j]
                    line[j] = line[j] if line[j] >= value or line[j] != line[j] else value
            for ox in range(out_x):
                x0, x1 = inside(ox, g[at.STRIDE + 1], g[at.PAD + 1], g[at.WINDOW + 1], width)
                best = line[x0]
                for j in range(x0 + 1, x1):
                    best = best if best >= line[j] or best != best else line[j]
                to[oy * out_x + ox] = best


def max_gradients(first: int, last: int, thread: int, x: P, w: P, y: P, work: P, g: P) -> None:
    """Y = the cotangents w of the windows, each added to the place of its window's first largest element of x.

    The first row of each column's largest element is found for a whole line of windows. Which is larger is as good as
    random: conditions are combined without branches.
    """
    height, width, out_y, out_x = g[at.SIZE], g[at.SIZE + 1], g[at.OUT], g[at.OUT + 1]
    line = offset(work, thread * g[at.WORK])
    rows = offset(line, g[at.WORK] // 2)  # numbers of rows, as elements
    for task in range(first, last):
        plane, to = offset(x, task * height * width), offset(y, task * height * width)
        cotangent = offset(w, task * out_y * out_x)
        for i in range(height * width):
            to[i] = zero(to)
        for oy in range(out_y):
            y0, y1 = inside(oy, g[at.STRIDE], g[at.PAD], g[at.WINDOW], height)
            for j in range(width):
                line[j], rows[j] = plane[y0 * width + j], zero(work)
            for i in range(y0 + 1, y1):
                line[width] = i - y0
                row = line[width]  # of the element type
                for j in range(width):
                    value, best = plane[i * width + j], line[j]
                    kept = (best >= value) | (best != best)
                    line[j], rows[j] = choose(kept, best, value), choose(kept, rows[j], row)
            for ox in range(out_x):
                x0, x1 = inside(ox, g[at.STRIDE + 1], g[at.PAD + 1], g[at.WINDOW + 1], width)
                best, above, column = line[x0], rows[x0], x0
                for j in range(x0 + 1, x1):
                    value, nan = line[j], best != best
                    same = (value == best) | (nan & (value != value))
                    taken = (same & (rows[j] < above)) | ((value != value) & ~nan) | (value > best)
                    best, above = choose(taken, value, best), choose(taken, rows[j], above)
                    column = choose(taken, j, column)
                to[(y0 + int(above)) * width + column] += cotangent[oy * out_x + ox]
