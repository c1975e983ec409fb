"""Draw the arithmetic of a convolution: input, padding, filter taps, stride and output, as a picture or an animation.

    python examples/arithmetic.py --size 5 --kernel 3 --stride 2 --padding 1 --output strided.png
    python examples/arithmetic.py --size 3 --kernel 3 --stride 2 --padding 1 --transposed --output transposed.gif

It needs Matplotlib. In a notebook, `draw(...)` makes a figure and `animate(...)` an animation of any call of `conv2d` or
`conv2d_transpose`. The geometry comes from the library's ConvSpec and the values from its results.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, TypeAlias

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.animation import FuncAnimation
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import eagerconv as ec
from eagerconv import geometry
from eagerconv.spec import ConvSpec

Array: TypeAlias = np.ndarray[Any, Any]
Index: TypeAlias = tuple[int, int]  # (row, column)

LARGEST = 40  # rows or columns of a picture: nobody can read the numbers of more
UNIT = 0.3  # inches per cell; everything below is in cells
TOP, BOTTOM, MARGIN, GAP = 3.6, 1.6, 0.7, 1.2  # header, legend, around everything, between neighbours
READABLE = 43  # beside each other, on a page as wide as a README


# ------------------------------------------------------------------------------------------ what there is to be seen


@dataclass(frozen=True)
class Axis:
    """The rows of a picture, or its columns: the coordinates of everything along one axis."""

    places: range  # of the input's values: side by side, or input_dilation apart
    first: int  # of the cells that the picture shows around them
    stop: int
    taps: list[list[int]]  # taps[o][k]: where tap k of the filters stands in the window of output o
    cropped: geometry.Pair  # outputs (before, after) that the padding of the forward convolution takes away
    formula: str  # of the output's size, as a comparison in Python


def forward_axis(spec: ConvSpec, a: int, pad: geometry.Pair, dilation: int) -> Axis:
    """Axis `a` of `conv2d`: the windows of the index map i = o*stride + k*step + origin."""
    size, kernel, out, stride = spec.size[a], spec.kernel[a], spec.out[a], spec.stride[a]
    taps = [[o * stride + k * spec.step[a] + spec.origin[a] for k in range(kernel)] for o in range(out)]
    formula = f"({size} + {pad[0]} + {pad[1]} - {_extent(kernel, dilation)}) // {stride} + 1 == {out}"
    return Axis(range(size), -pad[0], size + pad[1], taps, (0, 0), formula)


def transposed_axis(spec: ConvSpec, a: int, pad: geometry.Pair, dilation: int) -> Axis:
    """Axis `a` of `conv2d_transpose`: the same index map, read from input index i of the forward convolution to o.

    Spread out, value o stands at o*stride, and tap k meets it for i with o*stride = i - k*step - origin: from one i to
    the next, the window moves by one cell.
    """
    size, kernel, out, stride = spec.size[a], spec.kernel[a], spec.out[a], spec.stride[a]
    taps = [[i - k * spec.step[a] - spec.origin[a] for k in range(kernel)] for i in range(size)]
    places = range(0, (out - 1) * stride + 1, stride)
    seen = {*places, *(tap for window in taps for tap in window)}
    more = (size + sum(pad) - geometry.dilated(kernel, dilation)) % stride  # which of the sizes that fit was asked for
    formula = f"{stride} * ({out} - 1) + {more} + {_extent(kernel, dilation)} - {pad[0]} - {pad[1]} == {size}"
    return Axis(places, min(seen), max(seen) + 1, taps, pad, formula)


def _extent(kernel: int, dilation: int) -> str:
    return str(kernel) if dilation == 1 else f"(({kernel} - 1) * {dilation} + 1)"


@dataclass(frozen=True)
class Picture:
    """One call of the library, laid out in cells; nothing is drawn yet."""

    call: str
    rows: Axis
    columns: Axis
    canvas: Array  # the input among its zeros
    kinds: Array  # of the canvas's cells: "input", "padding" or "spread"
    weights: Array  # (kr, kc) as stored; unshared (rows of conv2d's output, its columns, kr, kc)
    result: Array  # with what is cropped
    transposed: bool

    @property
    def windows(self) -> list[Index]:
        """The outputs in reading order."""
        return list(product(range(len(self.rows.taps)), range(len(self.columns.taps))))

    @property
    def output(self) -> Array:
        """What the library returned."""
        (top, bottom), (left, right) = self.rows.cropped, self.columns.cropped
        return self.result[top : self.result.shape[0] - bottom, left : self.result.shape[1] - right]

    def taps(self, window: Index) -> Iterable[tuple[Index, Any]]:
        """Each cell of the canvas under the filters with the weight there (None: a zero no filter was made for)."""
        for (kr, r), (kc, c) in product(*map(enumerate, (self.rows.taps[window[0]], self.columns.taps[window[1]]))):
            yield (r - self.rows.first, c - self.columns.first), self._weight(window, (r, c), (kr, kc))

    def _weight(self, window: Index, cell: Index, tap: Index) -> Any:
        if self.weights.ndim == 2:
            return self.weights[tap]
        if not self.transposed:
            return self.weights[(*window, *tap)]
        rows, columns = self.rows.places, self.columns.places
        if cell[0] not in rows or cell[1] not in columns:
            return None
        return self.weights[(rows.index(cell[0]), columns.index(cell[1]), *tap)]


def picture(input: Any, filters: Any, *, transposed: bool = False, **options: Any) -> Picture:
    """Call `conv2d` or `conv2d_transpose` on one image and one filter, and lay out what it did.

    Parameters
    ----------
    input : array_like, shape (rows, columns)
    filters : array_like, shape (rows, columns)
        With unshared=True, (rows of conv2d's output, its columns, rows, columns).
    transposed : bool
        Lay out `conv2d_transpose` instead of `conv2d`.
    **options
        Any arguments of that function. There is one channel, as the sizes do not depend on channels.

    Returns
    -------
    Picture

    Raises
    ------
    ValueError, TypeError
        What the library raises; ValueError too if there is nothing to be seen, or too much.
    """
    function = ec.conv2d_transpose if transposed else ec.conv2d
    x, weights = (ec.asarray(array).detach().numpy() for array in (input, filters))
    x4 = x[None, None]  # (1, 1, rows, columns)
    w4 = weights[None, :, :, None] if weights.ndim == 4 else weights[None, None]  # (1, [*out,] 1, kr, kc)
    result = function(x4, w4, **options)
    if not x.size:
        raise ValueError(f"there is nothing to be seen in an input of shape {x.shape}")

    spec = ec.explain(function, x4, w4, **options)[0].spec
    dilation = tuple(map(abs, spec.step))
    pads = _padding(spec, dilation, options.get("border_mode", "valid"))
    rows, columns = ((transposed_axis if transposed else forward_axis)(spec, a, pads[a], dilation[a]) for a in (0, 1))
    if transposed:  # the same sums on every cell that they reach, before `border_mode` crops
        whole = tuple(size + sum(pad) for size, pad in zip(spec.size, pads, strict=True))
        result = function(x4, w4, **{**options, "border_mode": "valid", "output_shape": (1, 1, *whole)})
    shape = (rows.stop - rows.first, columns.stop - columns.first)
    if max(*shape, *result.shape) > LARGEST:
        raise ValueError(f"a picture shows at most {LARGEST} rows and columns, not {shape} -> {result.shape[2:]}")

    text = "".join(f", {name}={value!r}" for name, value in options.items())
    call = f"ec.{function.__name__}(input, filters{text})"
    canvas, kinds = _spread(x, rows, columns)
    return Picture(call, rows, columns, canvas, kinds, weights, result.numpy()[0, 0], transposed)


def _padding(spec: ConvSpec, dilation: tuple[int, ...], border_mode: Any) -> list[geometry.Pair]:
    """Zeros (before, after) of each axis; the spec knows of those after only what the windows reach."""
    options = geometry.Options(
        "conv2d", 2, geometry.frozen("conv2d", "border_mode", border_mode), spec.stride, False, dilation, 1, False
    )
    axes = zip(options.modes, spec.size, options.extents(spec.kernel), spec.stride, strict=True)
    return [geometry.padding(*axis) for axis in axes]


def _spread(x: Array, rows: Axis, columns: Axis) -> tuple[Array, Array]:
    """The canvas and the kind of each of its cells."""
    shape = (rows.stop - rows.first, columns.stop - columns.first)
    canvas, kinds = np.zeros(shape, x.dtype), np.full(shape, "padding", object)
    r, c = ([p - axis.first for p in axis.places] for axis in (rows, columns))
    kinds[r[0] : r[-1] + 1, c[0] : c[-1] + 1] = "spread"
    kinds[np.ix_(r, c)] = "input"
    canvas[np.ix_(r, c)] = x
    return canvas, kinds


# ----------------------------------------------------------------------------------------------------------- drawing

# Okabe and Ito's colours, which colour-blind readers tell apart; dashes and frames say the same once more.
BLUE, DEEP_BLUE, GREEN, DEEP_GREEN = "#CFE8F7", "#7CC4EC", "#C4E8DC", "#4FB896"
GREY, PALE, ORANGE, DARK, INK, FAINT = "#B5B5B5", "#EEEEEE", "#D55E00", "#7A3300", "#1A1A1A", "#7F7F7F"

STYLES: dict[str, dict[str, Any]] = {
    "input": {"facecolor": BLUE, "edgecolor": "none"},
    "spread": {"facecolor": PALE, "edgecolor": GREY, "linestyle": (0, (1, 1.5))},
    "padding": {"facecolor": "white", "edgecolor": GREY, "linestyle": (0, (3, 2))},
    "filters": {"facecolor": "white", "edgecolor": ORANGE},
    "output": {"facecolor": GREEN, "edgecolor": "none"},
    "later": {"facecolor": "white", "edgecolor": GREEN},
    "cropped": {"facecolor": "white", "edgecolor": GREY, "linestyle": (0, (1, 1.5))},
}
LABELS = {
    "input": "input",
    "spread": "zeros between (input_dilation)",
    "padding": "zero padding",
    "filters": "window and its weights",
    "output": "output",
    "cropped": "cropped by border_mode",
}


def draw(
    input: Any, filters: Any, *, transposed: bool = False, windows: Iterable[Index] | None = None, **options: Any
) -> Figure:
    """Draw windows of `conv2d`, or of `conv2d_transpose`, side by side.

    Parameters
    ----------
    input, filters, transposed, **options
        As in `picture`.
    windows : iterable of (row, column), optional
        The outputs to show the sums of. By default the first, its neighbour to the right, that below if the picture
        does not become too wide to be read, and the last.

    Returns
    -------
    matplotlib.figure.Figure
        Save it with `savefig`, or make it the last line of a notebook's cell.
    """
    p = picture(input, filters, transposed=transposed, **options)
    (rows, columns), (out_rows, out_columns) = p.canvas.shape, p.result.shape
    side, width, height = _filters_width(p), max(columns, out_columns) + GAP, rows + out_rows + 2.6
    chosen = _telling(p, 4 if side + 4 * width < READABLE else 3) if windows is None else list(windows)
    if not chosen or not set(chosen) <= set(p.windows):
        raise ValueError(f"windows must be (row, column) of outputs, (0, 0) to {p.windows[-1]}, got {chosen}")
    per_row = min(4, len(chosen))
    figure, axes, left = _sheet(p, side + per_row * width - GAP, height * -(-len(chosen) // per_row) - 1)
    for n, window in enumerate(chosen):
        middle, y = left + side + n % per_row * width + (width - GAP) / 2, TOP + n // per_row * height
        _panel(axes, p, window, (middle - columns / 2, y), (middle - out_columns / 2, y + rows + 0.7))
        name, below = f"output[{window[0]}, {window[1]}]", y + rows + out_rows + 1.3
        axes.text(middle, below, name, ha="center", va="center", fontsize=7, color=FAINT)
    _filters(axes, p, (left, TOP))
    return figure


def animate(
    input: Any, filters: Any, *, transposed: bool = False, milliseconds: int = 700, **options: Any
) -> FuncAnimation:
    """Let the window of `conv2d`, or of `conv2d_transpose`, move over the input and fill the output.

    Parameters
    ----------
    input, filters, transposed, **options
        As in `picture`.
    milliseconds : int
        How long each window is shown.

    Returns
    -------
    matplotlib.animation.FuncAnimation
        Save it with `save("name.gif", writer="pillow")`; in a notebook show `IPython.display.HTML(a.to_jshtml())`.
    """
    p = picture(input, filters, transposed=transposed, **options)
    (rows, columns), (out_rows, out_columns) = p.canvas.shape, p.result.shape
    side, height = _filters_width(p), max(rows, out_rows, p.weights.shape[-2] + 1)
    figure, axes, left = _sheet(p, side + columns + GAP + out_columns, height)

    def show(window: Index) -> None:
        for artist in [*axes.patches, *axes.texts]:
            artist.remove()
        x, middle = left + side, TOP + height / 2
        _panel(axes, p, window, (x, middle - rows / 2), (x + columns + GAP, middle - out_rows / 2))
        _filters(axes, p, (left, middle - p.weights.shape[-2] / 2))

    frames = [*p.windows, *p.windows[-1:] * 2]  # the last one stays for a while
    return FuncAnimation(figure, show, frames, init_func=lambda: None, interval=milliseconds)


def _telling(p: Picture, count: int) -> list[Index]:
    """Three or four different windows, if there are as many: both ends, and how far it moves between them."""
    last_row, last_column = p.windows[-1]
    below = [(min(1, last_row), 0)] if count > 3 or not last_column else []
    return list(dict.fromkeys([(0, 0), (0, min(1, last_column)), *below, p.windows[-1]]))


def _filters_width(p: Picture) -> float:
    return max(p.weights.shape[1], 2.2) + GAP if p.weights.ndim == 2 else 0


def _sheet(p: Picture, width: float, height: float) -> tuple[Figure, Axes, float]:
    """A figure for `width` x `height` cells under a header and above a legend, its axes, and where the cells begin."""
    formula = _formula(p)
    wide = max(width, 0.27 * len(p.call), 0.215 * len(formula), 14) + 2 * MARGIN  # of a letter of each line
    tall = TOP + height + BOTTOM
    figure = plt.figure(figsize=(wide * UNIT, tall * UNIT), dpi=100, facecolor="white")
    plt.close(figure)  # a notebook shows what is returned; nothing else should
    for text, y, size, weight in ((p.call, 0.9, 9, "bold"), (formula, 2.0, 7.5, "normal")):
        at = (MARGIN / wide, 1 - y / tall)
        figure.text(*at, text, family="monospace", fontsize=size, weight=weight, color=INK, va="center")
    shown = [kind for kind in LABELS if kind in {*p.kinds.flat, "filters", "output"}]
    shown += ["cropped"] if p.result.shape != p.output.shape else []
    handles = [Patch(label=LABELS[kind], **STYLES[kind]) for kind in shown]
    figure.legend(handles=handles, loc="lower center", ncols=len(handles), frameon=False, fontsize=7, handlelength=1.2,
                  handleheight=1.2, columnspacing=1.4)  # fmt: skip
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, wide), ylim=(tall, 0))
    axes.axis("off")
    return figure, axes, (wide - width) / 2


def _formula(p: Picture) -> str:
    if p.rows.formula == p.columns.formula:
        return f"rows and columns: {p.rows.formula}"
    return f"rows: {p.rows.formula}    columns: {p.columns.formula}"


def _panel(axes: Axes, p: Picture, window: Index, at: tuple[float, float], out_at: tuple[float, float]) -> None:
    """One window on the canvas at `at`, and at `out_at` the output as far as it is known then."""
    taps = dict(p.taps(window))
    for index in np.ndindex(p.canvas.shape):
        deep = {"facecolor": DEEP_BLUE} if index in taps and p.kinds[index] == "input" else {}
        _cell(axes, at, index, str(p.kinds[index]), p.canvas[index], f"canvas {window} {index}", deep)
    for index, weight in taps.items():
        if weight is not None:
            _text(axes, at, index, weight, f"weight {window} {index}", 0.78, 6.5, DARK)
    low, high = min(taps), max(taps)
    _frame(axes, at, low, (high[0] - low[0] + 1, high[1] - low[1] + 1))

    top, left = p.rows.cropped[0], p.columns.cropped[0]
    for index in np.ndindex(p.result.shape):
        o = (index[0] - top, index[1] - left)
        if not (0 <= o[0] < p.output.shape[0] and 0 <= o[1] < p.output.shape[1]):
            _cell(axes, out_at, index, "cropped", p.result[index], "cropped")
        elif o > window:
            _cell(axes, out_at, index, "later", None, "")
        else:
            deep = {"facecolor": DEEP_GREEN} if o == window else {}
            _cell(axes, out_at, index, "output", p.result[index], f"output {window} {o}", deep)
    _frame(axes, out_at, (window[0] + top, window[1] + left), (1, 1))


def _filters(axes: Axes, p: Picture, at: tuple[float, float]) -> None:
    """The filters as they are stored, if there is one set for all windows."""
    if p.weights.ndim == 4:
        return
    axes.text(at[0], at[1] - 0.45, "filters", fontsize=7, color=DARK, va="center")
    for index, weight in np.ndenumerate(p.weights):
        _cell(axes, at, index, "filters", weight, f"filters {index}", ink=DARK)
    if any(window[0] > window[-1] for axis in (p.rows, p.columns) for window in axis.taps):
        note, y = "reversed in\nthe window", at[1] + p.weights.shape[0] + 0.25
        axes.text(at[0], y, note, fontsize=6.5, color=DARK, va="top", linespacing=1.3)


def _cell(axes: Axes, at: tuple[float, float], index: Index, kind: str, value: Any, gid: str,
          over: dict[str, Any] | None = None, ink: str | None = None) -> None:  # fmt: skip
    style = {"linewidth": 0.8, **STYLES[kind], **(over or {})}
    axes.add_patch(Rectangle((at[0] + index[1] + 0.04, at[1] + index[0] + 0.04), 0.92, 0.92, **style))
    if value is not None:
        _text(axes, at, index, value, gid, 0.5, 8, ink or (FAINT if kind in ("padding", "spread", "cropped") else INK))


def _text(axes: Axes, at: tuple[float, float], index: Index, value: Any, gid: str, where: float, size: float,
          ink: str) -> None:  # fmt: skip
    text = f"{value:.3g}" if value.dtype.kind in "fc" else str(value)
    x, y = at[0] + index[1] + where, at[1] + index[0] + where
    size *= min(1, 3 / len(text))
    axes.text(x, y, text, fontsize=size, color=ink, ha="center", va="center_baseline", gid=gid)


def _frame(axes: Axes, at: tuple[float, float], index: Index, shape: Index) -> None:
    corner = (at[0] + index[1], at[1] + index[0])
    axes.add_patch(Rectangle(corner, shape[1], shape[0], fill=False, edgecolor=ORANGE, linewidth=1.8))


# ------------------------------------------------------------------------------------------------------ command line


def parser() -> argparse.ArgumentParser:
    """What the command line takes; everything about convolutions is checked by the library."""
    p = argparse.ArgumentParser(description="Draw the arithmetic of a convolution.")
    p.add_argument("--size", type=int, nargs="+", default=[5], metavar="N", help="of the input: N, or ROWS COLUMNS")
    p.add_argument("--kernel", type=int, nargs="+", default=[3], metavar="N", help="of the filters, likewise")
    p.add_argument("--stride", type=int, nargs="+", default=[1], metavar="N", help="subsample, or input_dilation")
    p.add_argument("--dilation", type=int, nargs="+", default=[1], metavar="N", help="filter_dilation")
    border = p.add_mutually_exclusive_group()
    border.add_argument("--padding", type=padding, nargs="+", default=[0], metavar="P",
                        help="P for both axes, or ROWS COLUMNS; each a number, or BEFORE,AFTER")  # fmt: skip
    border.add_argument("--border-mode", metavar="MODE", help="valid, half, full, same or same_lower")
    p.add_argument("--transposed", action="store_true", help="draw conv2d_transpose")
    p.add_argument("--output-size", type=int, nargs="+", default=[], metavar="N",
                   help="of conv2d_transpose; the smallest that fits is the default")  # fmt: skip
    p.add_argument("--no-flip", action="store_true", help="cross-correlate: filter_flip=False")
    p.add_argument("--unshared", action="store_true", help="filters of its own for every output of conv2d")
    p.add_argument("--all-windows", action="store_true", help="a still picture of every window instead of four")
    p.add_argument("--output", type=Path, default=Path("arithmetic.png"), metavar="FILE",
                   help="still: .png, .svg, .pdf; animation: .gif, .html (arithmetic.png)")  # fmt: skip
    return p


def padding(text: str) -> Any:
    """`P` or `BEFORE,AFTER`; argparse names this function in its message."""
    numbers = tuple(map(int, text.split(",")))
    return numbers if "," in text else numbers[0]


def sample_input(size: tuple[int, ...]) -> Array:
    """Numbers to calculate with in one's head, the same at every run, and none that could be taken for padding."""
    return np.random.default_rng(7).integers(1, 5, size)


def sample_filters(shape: tuple[int, ...]) -> Array:
    """Likewise, with zeros."""
    return np.random.default_rng(31).integers(0, 4, shape)


def call_of(a: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `draw` and `animate` that the command line asks for."""
    size, kernel, output_size = (tuple(v) * (2 if len(v) == 1 else 1) for v in (a.size, a.kernel, a.output_size))
    if min(*size, *kernel) < 1:
        raise ValueError(f"--size and --kernel must be numbers >= 1, got {size} and {kernel}")
    stride, dilation, pads = map(_one_or_both, (a.stride, a.dilation, a.padding))
    mode = pads if a.border_mode is None else a.border_mode
    stride_name = "input_dilation" if a.transposed else "subsample"
    asked = {"border_mode": (mode, 0), stride_name: (stride, 1), "filter_dilation": (dilation, 1)}
    options: dict[str, Any] = {name: value for name, (value, default) in asked.items() if value != default}
    options |= {"filter_flip": False} if a.no_flip else {}
    if a.transposed:
        shape = (1, 1, *output_size) if output_size else _smallest(size, kernel, mode, stride, dilation)
        options = {"output_shape": shape, **options}
    elif output_size:
        raise ValueError("--output-size goes with --transposed: the sizes of a convolution follow from the others")
    x, filters = sample_input(size), sample_filters(kernel)
    if a.unshared:
        out = size if a.transposed else picture(x, filters, **options).output.shape
        filters = sample_filters((*out, *kernel))
        options["unshared"] = True
    return {"input": x, "filters": filters, "transposed": a.transposed, **options}


def _one_or_both(values: list[Any]) -> Any:
    """One number serves both axes; so does a lone pair (before, after), but it would be taken for (rows, columns)."""
    first = values[0]
    return tuple(values) if len(values) > 1 else (first, first) if isinstance(first, tuple) else first


def _smallest(size: tuple[int, ...], kernel: tuple[int, ...], mode: Any, stride: Any, dilation: Any) -> tuple[Any, ...]:
    """The smallest output_shape of `conv2d_transpose`; None where none fits, for the library to explain."""
    options = geometry.Options("conv2d_transpose", 2, mode, stride, True, dilation, 1, False, "input_dilation")
    extents = map(geometry.dilated, kernel, options.dilation)
    fitting = map(geometry.sizes_that_fit, options.modes, size, extents, options.stride)
    return (1, 1, *(max(fits[0], 1) if fits else None for fits in fitting))


def _fewer_colours(png: Path) -> None:
    """A third of the bytes, and nobody sees a difference."""
    with Image.open(png) as image:
        info = PngInfo()
        info.add_text("Title", image.info["Title"])
        small = image.convert("RGB").quantize(128, dither=Image.Dither.NONE)
    small.save(png, optimize=True, pnginfo=info, dpi=(150, 150))


def main() -> None:
    p = parser()
    a = p.parse_args()
    animated, still = (".gif", ".html"), (".png", ".svg", ".pdf")
    if a.output.suffix not in animated + still:
        p.error(f"--output must end in {', '.join(still + animated)}, got {str(a.output)!r}")
    try:
        call = call_of(a)
        shown = picture(**call)
        if a.output.suffix in still:
            figure = draw(**call, windows=shown.windows if a.all_windows else None)
            figure.savefig(a.output, dpi=150, metadata={"Title": shown.call})
            if a.output.suffix == ".png":
                _fewer_colours(a.output)
        elif a.output.suffix == ".gif":
            animate(**call).save(a.output, writer="pillow", dpi=120)
        else:
            a.output.write_text(animate(**call).to_jshtml(), encoding="utf-8")
    except (ValueError, TypeError, OSError) as error:
        p.error(str(error))
    print(f"{shown.call}\n{_formula(shown)}\nwrote {a.output}")


if __name__ == "__main__":
    main()
