"""Arguments of the public functions -> ConvSpec: every rule of border modes and sizes, and every message about them."""

from __future__ import annotations

import difflib
import math
import operator
from functools import lru_cache
from typing import Any, NoReturn

from eagerconv import layouts
from eagerconv.mistakes import refuse_missing
from eagerconv.spec import ConvSpec, Shape

Pair = tuple[int, int]

AXES = {1: ("length",), 2: ("rows", "columns"), 3: ("depth", "rows", "columns")}
"""Names of the spatial axes, for messages."""

BORDER_MODES = ("valid", "full", "half", "same", "same_lower", "causal")

PAD_MODES = {
    "wrap": "wrap", "circular": "wrap", "reflect": "reflect", "symm": "symmetric", "symmetric": "symmetric",
    "replicate": "edge", "nearest": "edge", "edge": "edge",
}  # fmt: skip
"""Padding with other things than zeros, as other libraries call it -> as `pad` does."""

_LARGEST = 2**31 - 1  # of one stride, dilation or padding: keeps every index well inside int64
_MOST = 2**59  # of elements in an array: of the widest dtype, 16 bytes, they have addresses in int64


# ------------------------------------------------------------------------------------------------ arguments, frozen


def frozen(function: str, name: str, value: Any, depth: int = 2) -> Any:
    """`value` as nested tuples of plain ints, strings and None, so that it can be part of a cache key.

    True, 1 and 1.0 are equal as keys but not as arguments: only real integers (NumPy's too) become ints here.
    """
    kind = type(value)
    if kind is int or kind is str or value is None:
        return value
    if (kind is tuple or kind is list) and depth:  # an entry per axis, a pair in an entry; nothing lies deeper
        return tuple([frozen(function, name, item, depth - 1) for item in value])
    if isinstance(value, str):
        return str(value)
    refuse_missing(function, name, value)
    if hasattr(value, "tolist") and 1 <= getattr(value, "ndim", 0) <= depth and not _inexact(value):
        return frozen(function, name, value.tolist(), depth)
    if kind is not bool and kind.__name__ != "bool":
        try:
            return operator.index(value)
        except TypeError:
            pass
    what = (
        f"an array of {value.dtype}, shape {value.shape}" if hasattr(value, "dtype") else f"{value!r} ({kind.__name__})"
    )
    raise ValueError(f"{function}: {name} must be made of ints, got {what}{_in_another_order(name, value)}")


def _inexact(value: Any) -> bool:
    return getattr(getattr(value, "dtype", None), "kind", None) in ("f", "c")


def _in_another_order(name: str, value: Any, stride: str = "subsample") -> str:
    """Where a shape stands, PyTorch has the bias or the stride, and SciPy the mode: what to write for these."""
    if not name.endswith("_shape"):
        return ""
    if _inexact(value):
        return (
            "; a bias is given by its keyword, bias=..., and what comes behind it by theirs: subsample=, border_mode="
        )
    if isinstance(value, str):
        return f"; padding is given by its keyword, border_mode={value!r}"
    if isinstance(value, int):
        return f"; a stride is given by its keyword, {stride}={value}"
    return ""


def flag(function: str, name: str, value: Any) -> bool:
    """`value` as bool, if it is one."""
    if value is True or value is False:
        return value
    if type(value).__name__ == "bool" or (type(value) is int and value in (0, 1)):  # NumPy's bool
        return bool(value)
    raise ValueError(f"{function}: {name} must be True or False, got {value!r}")


# ------------------------------------------------------------------------------------------------ checks of one argument


def check_axes(
    function: str,
    name: str,
    shape: Shape,
    axes: tuple[str, ...],
    channels: int | None = None,
    *,
    filters: bool = False,
) -> None:
    """Refuse the array argument `name` if it has another number of axes; it should have so many `channels`, if known."""
    if len(shape) != len(axes):
        ndim = len(axes) - 2
        mended = layouts.without_axes(name, shape, len(axes), channels, filters=filters)
        hint = f" Add what is missing: {mended}." if mended else ""
        if filters and not mended and len(shape) == len(axes) - 2:
            copies = f"({channels}, 1{', 1' * len(shape)})"
            hint = (
                f" For one kernel on every channel: depthwise_conv{len(shape)}d(input, numpy.tile({name}, {copies}))."
            )
        if not filters and len(shape) == len(axes) + 1 and ndim < 3 and f"{ndim}d" in function:
            hint = f" For {ndim + 1} spatial axes there is {function.replace(f'{ndim}d', f'{ndim + 1}d')}."
        raise ValueError(
            f"{function}: {name} must have {len(axes)} axes ({', '.join(axes)}), got {len(shape)}: shape {shape}.{hint}"
        )


def check_hint(function: str, name: str, hint: Any, shape: Shape) -> None:
    """A shape hint never changes a result, but one that contradicts the array is a mistake worth telling."""
    if hint is None:
        return
    if type(hint) is not tuple or len(hint) != len(shape):
        raise ValueError(
            f"{function}: {name} must have {len(shape)} entries like the array's shape {shape}, got {hint!r}"
            f"{_in_another_order(name, hint)}"
        )
    if any(h is not None and h != s for h, s in zip(hint, shape, strict=True)):
        raise ValueError(
            f"{function}: {name} {hint} does not match the array, whose shape is {shape}; None entries match anything"
        )


def is_padding(value: Any) -> bool:
    """Whether `value` is the padding of one axis, in numbers: an int >= 0 or a pair (before, after) of them."""
    if type(value) is tuple:
        return len(value) == 2 and all(type(v) is int and v >= 0 for v in value)
    return type(value) is int and value >= 0


# ------------------------------------------------------------------------------------------------- one axis at a time


def dilated(kernel: int, dilation: int) -> int:
    """Extent of a dilated kernel, (k-1)*dilation + 1."""
    return (kernel - 1) * dilation + 1


def output_size(size: int, extent: int, pad: Pair, stride: int) -> int:
    """Number of windows of `extent` that fit: floor((i + before + after - extent) / stride) + 1."""
    return (size + pad[0] + pad[1] - extent) // stride + 1


def padding(mode: str | int | Pair, size: int, extent: int, stride: int) -> Pair:
    """(before, after) zeros of one axis whose dilated kernel has `extent`."""
    if isinstance(mode, tuple):
        return mode
    if isinstance(mode, int):
        return mode, mode
    if mode in ("same", "same_lower"):  # output ceil(i/s): TensorFlow's convention, any stride
        total = max((-(-size // stride) - 1) * stride + extent - size, 0)
        less, more = total // 2, total - total // 2
        return (less, more) if mode == "same" else (more, less)
    return {
        "valid": (0, 0),
        "full": (extent - 1, extent - 1),
        "half": (extent // 2, extent // 2),
        "causal": (extent - 1, 0),
    }[mode]


def smallest_input(mode: str | int | Pair, out: int, extent: int, stride: int) -> int:
    """The input size for which `out` windows leave no row over."""
    if mode in ("same", "same_lower"):
        return (out - 1) * stride + 1
    before, after = padding(mode, 0, extent, stride)
    return (out - 1) * stride + extent - before - after


def sizes_that_fit(mode: str | int | Pair, out: int, extent: int, stride: int) -> range:
    """The input sizes from which the forward convolution makes exactly `out` windows: `stride` of them, or fewer near 0."""
    first = smallest_input(mode, out, extent, stride)
    return range(max(first, 1 if mode in ("same", "same_lower") else 0), first + stride)


def kernel_that_fits(mode: str | int | Pair, size: int, out: int, dilation: int) -> int | None:
    """The one kernel size that takes `size` to `out` at stride 1; None if several do, or none does.

    out = size + before + after - (k-1)*dilation. With 'full' the padding itself is 2*(k-1)*dilation; with 'half', 'same'
    and 'causal' it grows with the kernel so that the output does not, and tells nothing about it.
    """
    if mode in ("half", "same", "same_lower", "causal"):
        return None
    reach = out - size if mode == "full" else size + sum(padding(mode, size, 1, 1)) - out  # (k-1)*dilation
    return reach // dilation + 1 if reach % dilation == 0 else None


# --------------------------------------------------------------------------------------- the options all functions share


class Options:
    """border_mode, subsample, filter_dilation, filter_flip, num_groups, unshared: checked and spread over the axes."""

    def __init__(
        self,
        function: str,
        ndim: int,
        border_mode: Any,
        subsample: Any,
        flip: bool,
        dilation: Any,
        groups: Any,
        unshared: bool,
        subsample_name: str = "subsample",
    ) -> None:
        self.function, self.ndim, self.axes = function, ndim, AXES[ndim]
        self.stride = self._one_per_axis(subsample_name, subsample)
        self.dilation = self._one_per_axis("filter_dilation", dilation)
        self.modes, self.given = self._border_modes(border_mode), border_mode
        self.flip, self.unshared = flip, unshared
        if type(groups) is not int or groups < 1:
            self.fail(f"num_groups must be an int >= 1, got {groups!r}")
        self.groups: int = groups

    def fail(self, message: str) -> NoReturn:
        """Raise what every check raises."""
        raise ValueError(f"{self.function}: {message}")

    def _one_per_axis(self, name: str, value: Any) -> Shape:
        values = (value,) * self.ndim if type(value) is int else value
        per_axis = f"one int >= 1, or one per axis ({', '.join(self.axes)})"
        if type(values) is not tuple or len(values) != self.ndim or not all(type(v) is int and v >= 1 for v in values):
            self.fail(f"{name} must be {per_axis}, got {value!r}")
        if max(values) > _LARGEST:
            self.fail(f"{name} is too large: {value!r}")
        return values

    def _border_modes(self, mode: Any) -> tuple[str | int | Pair, ...]:
        allowed = BORDER_MODES if self.ndim == 1 else BORDER_MODES[:-1]
        if type(mode) is str and mode in allowed:
            return (mode,) * self.ndim
        modes = (mode,) * self.ndim if type(mode) is int else mode
        if type(modes) is tuple and len(modes) == self.ndim and all(map(is_padding, modes)):
            return modes
        self.fail(
            f"border_mode must be one of {', '.join(map(repr, allowed))}, an int >= 0, or a tuple with an int >= 0 or a "
            f"pair (before, after) per axis ({', '.join(self.axes)}); got {mode!r}{self._other_mode(mode, allowed)}"
        )

    def _other_mode(self, mode: Any, allowed: tuple[str, ...]) -> str:
        """What to write for the name of a mode that another library has, or one that is misspelled."""
        if type(mode) is not str:
            return ""
        if mode.lower() in ("constant", "zero", "zeros"):
            return "; give the number of zeros, border_mode=1"
        if mode.lower() in PAD_MODES:
            widths = f"((0, 0), (0, 0){', (1, 1)' * self.ndim})"
            return f"; pad the input before, eagerconv.pad(input, {widths}, mode={PAD_MODES[mode.lower()]!r})"
        close = difflib.get_close_matches(mode.lower(), allowed, 1)
        return f"; write border_mode={close[0]!r}" if close else ""

    def divisible(self, what: str, channels: int) -> int:
        """Channels per group."""
        if channels % self.groups:
            self.fail(f"num_groups={self.groups} does not divide the {channels} {what}")
        return channels // self.groups

    def extents(self, kernel: Shape) -> Shape:
        """Extents of the dilated kernel."""
        return tuple(dilated(k, d) for k, d in zip(kernel, self.dilation, strict=True))

    def outputs(self, size: Shape, kernel: Shape) -> Shape:
        """Output sizes of the forward convolution; each must be positive."""
        out = []
        larger = min(map(int.__sub__, kernel, size)) > 0
        swapped = ", unless the filters stand where the input should" if larger else ""
        for axis, mode, i, k, d, s in zip(self.axes, self.modes, size, kernel, self.dilation, self.stride, strict=True):
            extent = dilated(k, d)
            before, after = padding(mode, i, extent, s)
            o = output_size(i, extent, (before, after), s)
            if k < 1:
                self.fail(f"the filters have no {axis}: their spatial sizes are {kernel}")
            if o < 1:
                self.fail(
                    f"the output would have {o} {axis}: input {i} + padding ({before}, {after}) < kernel {k} with "
                    f"filter_dilation {d} (extent {extent}). Use a smaller kernel or more padding, e.g. border_mode='same'"
                    f"{swapped}"
                )
            if max(before, after) > _LARGEST or extent > _LARGEST:
                self.fail(f"padding ({before}, {after}) or kernel extent {extent} of {axis} is too large")
            out.append(o)
        return tuple(out)

    def spec(self, batch: int, cin: int, cout: int, size: Shape, kernel: Shape, out: Shape) -> ConvSpec:
        """Lay the checked options into the index map i = o*stride + k*step + origin.

        Unflipped, i = o*s + k*d - before. Flipped, the stored index k meets the sample of k' = K-1-k:
        i = o*s + (K-1-k)*d - before, so step = -d and origin = (K-1)*d - before. Padding belongs to the image either way.
        """
        self._addressable(batch, cin, cout, size, kernel, out)
        step, origin = [], []
        for mode, i, k, d, s in zip(self.modes, size, kernel, self.dilation, self.stride, strict=True):
            before, _ = padding(mode, i, dilated(k, d), s)
            turned = self.flip and k > 1
            step.append(-d if turned else d if k > 1 else 1)
            origin.append((k - 1) * d - before if turned else -before)
        return ConvSpec(
            batch, self.groups, cin, cout, size, kernel, out, self.stride, tuple(step), tuple(origin), self.unshared
        )

    def _addressable(self, batch: int, cin: int, cout: int, size: Shape, kernel: Shape, out: Shape) -> None:
        """Refuse what no array can hold: the other argument that is an array, or the result."""
        shapes = {
            "images": (batch, cin * self.groups, *size),
            "filters": (cout * self.groups, *(out if self.unshared else ()), cin, *kernel),
            "outputs": (batch, cout * self.groups, *out),
        }
        for what, shape in shapes.items():
            if math.prod(shape) > _MOST:
                self.fail(
                    f"{what} of shape {shape} are too large, {math.prod(shape):.1e} numbers: no array can hold them; "
                    f"border_mode={self.given!r} is the number of zeros at each side of an axis, or a mode"
                )

    def filter_axes(self, out_name: str = "output channels", in_name: str = "input channels") -> tuple[str, ...]:
        """Names of the axes of the filters, for messages."""
        positions = tuple(f"output {axis}" for axis in self.axes) if self.unshared else ()
        return (out_name, *positions, f"{in_name} / num_groups", *self.axes)


# ------------------------------------------------------------------------------------------ one function per free slot


@lru_cache(maxsize=1024)
def forward(
    function: str,
    ndim: int,
    x: Shape,
    w: Shape,
    input_shape: Any,
    filter_shape: Any,
    border_mode: Any,
    subsample: Any,
    flip: bool,
    dilation: Any,
    groups: Any,
    unshared: bool,
    names: tuple[str, str, str, str] = ("input", "filters", "input_shape", "filter_shape"),
    stride_name: str = "subsample",
) -> ConvSpec:
    """Spec of y = conv(x, w); variants whose arguments have other `names` pass them for the messages."""
    input, filters, input_hint, filter_hint = names
    o = Options(function, ndim, border_mode, subsample, flip, dilation, groups, unshared, stride_name)
    wanted = w[-ndim - 1] * o.groups if len(w) == len(o.filter_axes()) else None
    check_axes(function, input, x, ("batch", "input channels", *o.axes), wanted)
    check_axes(function, filters, w, o.filter_axes(), x[1] // o.groups, filters=True)
    check_hint(function, input_hint, input_shape, x)
    check_hint(function, filter_hint, filter_shape, w)
    cin, cout = o.divisible("input channels", x[1]), o.divisible("output channels", w[0])
    size, kernel = x[2:], w[-ndim:]
    _same_channels(o, filters, w, input, x, cin)
    out = o.outputs(size, kernel)
    _same_positions(o, w, out)
    return o.spec(x[0], cin, cout, size, kernel, out)


@lru_cache(maxsize=1024)
def gradient_wrt_inputs(
    function: str,
    ndim: int,
    y: Shape,
    w: Shape,
    input_shape: Any,
    filter_shape: Any,
    border_mode: Any,
    subsample: Any,
    flip: bool,
    dilation: Any,
    groups: Any,
    unshared: bool,
    names: tuple[str, str, str] = ("output_grad", "input_shape", "subsample"),
) -> ConvSpec:
    """Spec whose x slot is wanted, for y and w given: the gradient, and the transposed convolution by other `names`."""
    argument, wanted, stride_name = names
    o = Options(function, ndim, border_mode, subsample, flip, dilation, groups, unshared, stride_name)
    transposed = stride_name != "subsample"
    check_axes(function, argument, y, ("batch", "input channels" if transposed else "output channels", *o.axes))
    check_axes(function, "filters", w, o.filter_axes(*(("input channels", "output channels") if transposed else ())))
    check_hint(function, "filter_shape", filter_shape, w)
    if y[1] != w[0]:
        o.fail(
            f"{argument} has {y[1]} channels but filters.shape[0] is {w[0]} (filters have shape {w}); they must be equal"
            f"{_mended(o, argument, y, 'filters', w, 0)}"
        )
    cout, cin, kernel = o.divisible("channels of filters.shape[0]", w[0]), w[-ndim - 1], w[-ndim:]
    if min(kernel) < 1:
        o.fail(f"the filters are empty: their spatial sizes are {kernel}")
    size = _wanted_size(o, wanted, input_shape, (y[0], cin * o.groups), y[2:], kernel, argument)
    out = o.outputs(size, kernel)
    _same_positions(o, w, out)
    return o.spec(y[0], cin, cout, size, kernel, out)


@lru_cache(maxsize=1024)
def gradient_wrt_weights(
    function: str,
    ndim: int,
    x: Shape,
    y: Shape,
    filter_shape: Any,
    input_shape: Any,
    border_mode: Any,
    subsample: Any,
    flip: bool,
    dilation: Any,
    groups: Any,
    unshared: bool,
) -> ConvSpec:
    """Spec whose w slot is wanted, for x and y given; only the spatial entries of filter_shape matter."""
    o = Options(function, ndim, border_mode, subsample, flip, dilation, groups, unshared)
    check_axes(function, "input", x, ("batch", "input channels", *o.axes))
    check_axes(function, "output_grad", y, ("batch", "output channels", *o.axes))
    check_hint(function, "input_shape", input_shape, x)
    if x[0] != y[0]:
        o.fail(f"input and output_grad must have the same batch size, got {x[0]} and {y[0]}")
    axes = o.filter_axes()
    if type(filter_shape) is not tuple or len(filter_shape) != len(axes):
        o.fail(f"filter_shape must have {len(axes)} entries ({', '.join(axes)}), got {filter_shape!r}")
    kernel = filter_shape[-ndim:]
    if not all(type(k) is int and k >= 1 for k in kernel):
        o.fail(f"the last {ndim} entries of filter_shape ({', '.join(o.axes)}) must be ints >= 1, got {kernel}")
    cin, cout = o.divisible("input channels", x[1]), o.divisible("output channels", y[1])
    out = o.outputs(x[2:], kernel)
    if out != y[2:]:
        o.fail(
            f"filter_shape {kernel} ({', '.join(o.axes)}) on input {x[2:]} gives outputs {out}, but output_grad has {y[2:]}"
        )
    return o.spec(x[0], cin, cout, x[2:], kernel, out)


def _mended(o: Options, x_name: str, x: Shape, w_name: str, w: Shape, axis: int) -> str:
    """The call to write where images or filters, whose channels are on `axis`, have their axes in another order."""
    groups = 1 if axis == 0 else o.groups
    found = layouts.transposes(o.ndim, x, w, lambda x, w: x[1] == w[axis] * groups and w[0] % o.groups == 0)
    if found is None or o.unshared:
        return ""
    call = f"{o.function}({layouts.written(x_name, found[0])}, {layouts.written(w_name, found[1])}, ...)"
    space = ", ".join(o.axes)
    orders = [f"(batch, {space}, channels)"] if found[0] else []
    if found[1]:
        orders.append(f"({space}, in, out)" if found[1][0] else f"(out, {space}, in)")
    return f". In the order {' and '.join(orders)} of other libraries they would fit: write {call}"


def _same_channels(o: Options, filters: str, w: Shape, other: str, x: Shape, per_group: int) -> None:
    got = w[-o.ndim - 1]
    if got != per_group:
        needed = (*w[: -o.ndim - 1], per_group, *w[-o.ndim :])
        if mended := _mended(o, other, x, filters, w, 1):
            o.fail(
                f"{filters} {w} ({', '.join(o.filter_axes())}) take {got * o.groups} input channels, but {other} {x} "
                f"(batch, input channels, {', '.join(o.axes)}) has {x[1]}{mended}; or give {filters} of shape {needed}"
            )
        o.fail(
            f"{filters} {w} ({', '.join(o.filter_axes())}) take {got} input channels per group, but {other} {x} has {x[1]} "
            f"channels / num_groups={o.groups} = {per_group}; give {filters} of shape {needed}, or change num_groups"
        )


def _same_positions(o: Options, w: Shape, out: Shape) -> None:
    if o.unshared and w[1 : 1 + o.ndim] != out:
        o.fail(
            f"unshared filters need one set per output position: filters.shape[1:{1 + o.ndim}] must be the output sizes "
            f"{out} ({', '.join(o.axes)}), got {w[1 : 1 + o.ndim]}"
        )


def _wanted_size(
    o: Options, name: str, shape: Any, leading: Pair, y_size: Shape, kernel: Shape, argument: str
) -> Shape:
    """Spatial input sizes from the shape argument `name`; at stride 1 only one fits, so None or no shape at all will do."""
    fitting = [sizes_that_fit(*axis) for axis in zip(o.modes, y_size, o.extents(kernel), o.stride, strict=True)]
    sizes = ", ".join(
        f"{axis} {f[0]}" if len(f) == 1 else f"{axis} {f[0]} to {f[-1]}"
        for axis, f in zip(o.axes, fitting, strict=True)
        if len(f)
    )
    if shape is None:
        shape = (None,) * (o.ndim + 2)
    if type(shape) is not tuple or len(shape) != o.ndim + 2:
        o.fail(
            f"{name} must have {o.ndim + 2} entries (batch, channels, {', '.join(o.axes)}), got {shape!r}"
            f"{_in_another_order(name, shape, 'input_dilation' if name == 'output_shape' else 'subsample')}"
        )
    for label, given, actual in zip(("batch", "channels"), shape, leading, strict=False):
        if given is not None and given != actual:
            o.fail(f"{name} {shape} asks for {given} {label}, but {argument} and filters give {actual}")
    size = []
    for axis, given, fits, stride in zip(o.axes, shape[2:], fitting, o.stride, strict=True):
        if given is None and stride > 1:
            o.fail(f"{name} must tell the {axis}: with a stride of {stride} several sizes fit ({sizes})")
        value = fits[0] if given is None and len(fits) else given
        if type(value) is not int or value not in fits:
            o.fail(
                f"{name} {shape} does not fit {argument} with spatial sizes {y_size}: {axis} must be "
                f"{_choices(fits)}, got {given!r}. Sizes that fit: {sizes}"
            )
        size.append(value)
    return tuple(size)


def _choices(fits: range) -> str:
    return (
        "impossible with this padding"
        if not len(fits)
        else str(fits[0])
        if len(fits) == 1
        else f"{fits[0]} to {fits[-1]}"
    )
