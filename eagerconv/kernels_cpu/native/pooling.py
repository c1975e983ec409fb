"""The largest element and the sum of each window of a plane, and where gradients go: to the first that is as large (NaN is
largest), or to all.

A task is one plane. Windows lie as `functional.windows` says, what is outside of the plane does not count, and every window
meets the plane.
"""

from __future__ import annotations

from eagerconv.kernels_cpu.native.loops import P, ceil_div, clear, helper
from eagerconv.kernels_cpu.native.vector import choose, offset, plus, zero
from eagerconv.kernels_cpu.table import POOLING as at

Axis = tuple[int, int, int, int, int, int]


@helper
def axis(g: P, number: int) -> Axis:
    """What is told of an axis, out of memory that might change."""
    size, extent, stride = g[at.SIZE + number], g[at.EXTENT + number], g[at.STRIDE + number]
    return size, extent, stride, g[at.DILATION + number], g[at.SHARE + number], g[at.PAD + number]


@helper
def inside(of: Axis, o: int) -> tuple[int, int]:
    """Where window o begins on an axis, inside of the plane, and ends."""
    size, extent, stride, dilation, share, pad = of
    first, last = o * stride, o * stride + extent
    if share > 1:
        first, last = first // share, ceil_div(last, share)
    first -= pad
    if first < 0:
        first = 0 if dilation == 1 else first - first // dilation * dilation
    return first, min(last - pad, size)


def max_planes(first: int, last: int, thread: int, x: P, w: P, y: P, work: P, g: P) -> None:
    """The largest elements: first over the rows of all windows of a line, then along the line."""
    height, width, out_y, out_x = g[at.SIZE], g[at.SIZE + 1], g[at.OUT], g[at.OUT + 1]
    rows, columns, down, along = axis(g, 0), axis(g, 1), g[at.DILATION], g[at.DILATION + 1]
    line = offset(work, thread * g[at.WORK])
    for task in range(first, last):
        plane, to = offset(x, task * height * width), offset(y, task * out_y * out_x)
        for oy in range(out_y):
            y0, y1 = inside(rows, oy)
            for j in range(width):
                line[j] = plane[y0 * width + j]
            for i in range(y0 + down, y1, down):
                for j in range(width):
                    value = plane[i * width + j]
                    line[j] = line[j] if line[j] >= value or line[j] != line[j] else value
            for ox in range(out_x):
                x0, x1 = inside(columns, ox)
                best = line[x0]
                j = x0 + along  # a range with a step would divide
                while j < x1:
                    best = best if best >= line[j] or best != best else line[j]
                    j += along
                to[oy * out_x + ox] = best


def max_gradients(first: int, last: int, thread: int, x: P, w: P, y: P, work: P, g: P) -> None:
    """Y = the cotangents w of the windows, each added to the place of its window's first largest element of x.

    The first row of each column's largest element is found for a whole line of windows. Which is larger is as good as
    random: conditions are combined without branches.
    """
    height, width, out_y, out_x = g[at.SIZE], g[at.SIZE + 1], g[at.OUT], g[at.OUT + 1]
    rows, columns, down, along = axis(g, 0), axis(g, 1), g[at.DILATION], g[at.DILATION + 1]
    line = offset(work, thread * g[at.WORK])
    above = offset(line, g[at.WORK] // 2)  # numbers of rows, as elements
    for task in range(first, last):
        plane, to = offset(x, task * height * width), offset(y, task * height * width)
        cotangent = offset(w, task * out_y * out_x)
        for i in range(height * width):
            to[i] = zero(to)
        for oy in range(out_y):
            y0, y1 = inside(rows, oy)
            for j in range(width):
                line[j], above[j] = plane[y0 * width + j], zero(work)
            for i in range(y0 + down, y1, down):
                line[width] = i - y0
                row = line[width]  # of the element type
                for j in range(width):
                    value, best = plane[i * width + j], line[j]
                    kept = (best >= value) | (best != best)
                    line[j], above[j] = choose(kept, best, value), choose(kept, above[j], row)
            for ox in range(out_x):
                x0, x1 = inside(columns, ox)
                best, row, column = line[x0], above[x0], x0
                j = x0 + along
                while j < x1:
                    value, nan = line[j], best != best
                    same = (value == best) | (nan & (value != value))
                    taken = (same & (above[j] < row)) | ((value != value) & ~nan) | (value > best)
                    best, row = choose(taken, value, best), choose(taken, above[j], row)
                    column = choose(taken, j, column)
                    j += along
                to[(y0 + int(row)) * width + column] += cotangent[oy * out_x + ox]


def sum_planes(first: int, last: int, thread: int, x: P, w: P, y: P, work: P, g: P) -> None:
    """The sums: over the rows of all windows of a line, then along the line."""
    height, width, out_y, out_x = g[at.SIZE], g[at.SIZE + 1], g[at.OUT], g[at.OUT + 1]
    rows, columns, down, along = axis(g, 0), axis(g, 1), g[at.DILATION], g[at.DILATION + 1]
    line = offset(work, thread * g[at.WORK])
    for task in range(first, last):
        plane, to = offset(x, task * height * width), offset(y, task * out_y * out_x)
        for oy in range(out_y):
            y0, y1 = inside(rows, oy)
            clear(line, width)
            for i in range(y0, y1, down):
                for j in range(width):
                    line[j] = plus(line[j], plane[i * width + j])
            for ox in range(out_x):
                x0, x1 = inside(columns, ox)
                total, j = zero(to), x0
                while j < x1:
                    total = plus(total, line[j])
                    j += along
                to[oy * out_x + ox] = total


def spread_planes(first: int, last: int, thread: int, x: P, w: P, y: P, work: P, g: P) -> None:
    """Y = the numbers x of the windows, each added to all elements of its window: from the last window to the first."""
    height, width, out_y, out_x = g[at.SIZE], g[at.SIZE + 1], g[at.OUT], g[at.OUT + 1]
    rows, columns, down, along = axis(g, 0), axis(g, 1), g[at.DILATION], g[at.DILATION + 1]
    line = offset(work, thread * g[at.WORK])
    for task in range(first, last):
        given, to = offset(x, task * out_y * out_x), offset(y, task * height * width)
        clear(to, height * width)
        for oy in range(out_y - 1, -1, -1):
            clear(line, width)
            for ox in range(out_x - 1, -1, -1):
                j, x1 = inside(columns, ox)
                while j < x1:
                    line[j] = plus(line[j], given[oy * out_x + ox])
                    j += along
            y0, y1 = inside(rows, oy)
            for i in range(y0, y1, down):
                for j in range(width):
                    to[i * width + j] = plus(to[i * width + j], line[j])
