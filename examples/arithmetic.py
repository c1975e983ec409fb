"""Draw the arithmetic of a convolution: input, padding, filter taps, stride and output, as a picture or an animation.

    python examples/arithmetic.py --size 5 --kernel 3 --stride 2 --padding 1 --output strided.png
    python examples/arithmetic.py --size 3 --kernel 3 --stride 2 --padding 1 --transposed --output transposed.gif

It needs Matplotlib. In a notebook, `draw(...)` makes a figure and `animate(...)` an animation of any call of `conv2d` or
`conv2d_transpose`. All geometry comes from the library's ConvSpec and all values from its results.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

import eagerconv as ec
from eagerconv import geometry
from eagerconv.spec import ConvSpec

Array: TypeAlias = np.ndarray[Any, Any]
Index: TypeAlias = tuple[int, int]  # (row, column)

LARGEST = 40  # rows or columns of a picture; beyond it nobody can read the numbers
UNIT = 0.3  # inches per cell


# ------------------------------------------------------------------------------------- what there is to see, no drawing


@dataclass(frozen=True)
class Axis:
    """Rows, or columns: the coordinates of everything along one axis of a picture."""

    places: range  # of the input's values: side by side, or input_dilation apart
    first: int  # of the cells around them that the picture shows
    stop: int
    taps: list[list[int]]  # taps[o][k]: where tap k of the filters stands in the window of output o
    cropped: geometry.Pair  # outputs (before, after) that the padding of the forward convolution takes away
    formula: str  # the output's size, as a comparison in Python


def forward_axis(spec: ConvSpec, a: int, pad: geometry.Pair, extent: str) -> Axis:
    """Axis `a` of `conv2d`: the windows of the index map i = o*stride + k*step + origin."""
    size, kernel, out, stride = spec.size[a], spec.kernel[a], spec.out[a], spec.stride[a]
    taps = [[o * stride + k * spec.step[a] + spec.origin[a] for k in range(kernel)] for o in range(out)]
    formula = f"({size} + {pad[0]} + {pad[1]} - {extent}) // {stride} + 1 == {out}"
    return Axis(range(size), -pad[0], size + pad[1], taps, (0, 0), formula)


def transposed_axis(spec: ConvSpec, a: int, pad: geometry.Pair, extent: str) -> Axis:
    """Axis `a` of `conv2d_transpose`: the same index map, read from i to o.

    Spread out, input o stands at o*stride. It meets tap k in output i where o*stride = i - k*step - origin: the window
    moves by one. Of the s sizes that fit, `more` tells the one that was asked for (the tutorial's a).
    """
    size, kernel, out, stride = spec.size[a], spec.kernel[a], spec.out[a], spec.stride[a]
    taps = [[i - k * spec.step[a] - spec.origin[a] for k in range(kernel)] for i in range(size)]
    places = range(0, (out - 1) * stride + 1, stride)
    seen = [*places, *sum(taps, [])]
    more = size - geometry.sizes_that_fit(pad, out, int(eval_extent(extent)), stride)[0]
    formula = f"{stride} * ({out} - 1) + {more} + {extent} - {pad[0]} - {pad[1]} == {size}"
    return Axis(places, min(seen), max(seen) + 1, taps, pad, formula)
