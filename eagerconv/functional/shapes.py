"""Shapes of convolutions as tuples, without arrays: sizes that are not known are None, and stay None in the result."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from eagerconv import geometry

Size: TypeAlias = int | None
Sizes: TypeAlias = Sequence[int | None]
Mode: TypeAlias = str | int | tuple[int, int]

# ----- One axis -----


def get_conv_shape_1axis(
    image_shape: Size, kernel_shape: Size, border_mode: Mode | None, subsample: Size, dilation: Size = 1
) -> Size:
    """Output size of a convolution along one axis: floor((i + before + after - (k-1)*dilation - 1) / subsample) + 1.

    Parameters
    ----------
    image_shape, kernel_shape : int or None
        Sizes of the input and of the kernel.
    border_mode : str, int, pair of ints or None
        A border mode of `conv1d`, or the zeros on both sides, or (before, after).
    subsample, dilation : int or None
        Stride and dilation.

    Returns
    -------
    int or None
        None if any argument is None. Sizes <= 0 are not refused: see `assert_conv_shape`.

    Raises
    ------
    ValueError
        For negative padding, strides and dilations below 1, and what is no int.

    Notes
    -----
    Source: ``theano.tensor.nnet.abstract_conv.get_conv_shape_1axis`` of Theano 1.0.

    Examples
    --------
    >>> get_conv_shape_1axis(7, 3, "half", 2)
    4
    """

    def size(mode: Mode, image_shape: int, kernel_shape: int, subsample: int, dilation: int) -> int:
        extent = geometry.dilated(kernel_shape, dilation)
        pad = geometry.padding(mode, image_shape, extent, subsample)
        return geometry.output_size(image_shape, extent, pad, subsample)

    steps = {"subsample": subsample, "dilation": dilation}
    return _if_known(
        "get_conv_shape_1axis", size, border_mode, steps, image_shape=image_shape, kernel_shape=kernel_shape
    )


def get_conv_gradinputs_shape_1axis(
    kernel_shape: Size, top_shape: Size, border_mode: Mode | None, subsample: Size, dilation: Size
) -> Size:
    """Input size of a convolution along one axis, if its output's size tells it: at stride 1.

    Parameters
    ----------
    kernel_shape, top_shape : int or None
        Sizes of the kernel and of the output.
    border_mode, subsample, dilation
        As of `get_conv_shape_1axis`.

    Returns
    -------
    int or None
        None if any argument is None, and with a stride: then several sizes fit.

    Raises
    ------
    ValueError
        As `get_conv_shape_1axis` does.

    Notes
    -----
    Source: ``theano.tensor.nnet.abstract_conv.get_conv_gradinputs_shape_1axis`` of Theano 1.0.

    Examples
    --------
    >>> get_conv_gradinputs_shape_1axis(3, 5, "valid", 1, 1)
    7
    """

    def size(mode: Mode, kernel_shape: int, top_shape: int, subsample: int, dilation: int) -> Size:
        extent = geometry.dilated(kernel_shape, dilation)
        return geometry.smallest_input(mode, top_shape, extent, 1) if subsample == 1 else None

    steps = {"subsample": subsample, "dilation": dilation}
    return _if_known(
        "get_conv_gradinputs_shape_1axis", size, border_mode, steps, kernel_shape=kernel_shape, top_shape=top_shape
    )


def get_conv_gradweights_shape_1axis(
    image_shape: Size, top_shape: Size, border_mode: Mode | None, subsample: Size, dilation: Size
) -> Size:
    """Kernel size of a convolution along one axis, if the sizes of input and output tell it.

    Parameters
    ----------
    image_shape, top_shape : int or None
        Sizes of the input and of the output.
    border_mode, subsample, dilation
        As of `get_conv_shape_1axis`.

    Returns
    -------
    int or None
        None if any argument is None, with a stride, with border modes that keep the size whatever the kernel ('half',
        'same', 'same_lower', 'causal'), and if no kernel of that dilation fits.

    Raises
    ------
    ValueError
        As `get_conv_shape_1axis` does.

    Notes
    -----
    Source: ``theano.tensor.nnet.abstract_conv.get_conv_gradweights_shape_1axis`` of Theano 1.0, which gives fractions
    where no kernel fits.

    Examples
    --------
    >>> get_conv_gradweights_shape_1axis(7, 5, "valid", 1, 1)
    3
    """

    def size(mode: Mode, image_shape: int, top_shape: int, subsample: int, dilation: int) -> Size:
        return geometry.kernel_that_fits(mode, image_shape, top_shape, dilation) if subsample == 1 else None

    steps = {"subsample": subsample, "dilation": dilation}
    return _if_known(
        "get_conv_gradweights_shape_1axis", size, border_mode, steps, image_shape=image_shape, top_shape=top_shape
    )


def _if_known(function: str, size: Callable[..., Size], border_mode: Any, steps: dict[str, Any], **sizes: Any) -> Size:
    """`size` of the checked arguments, or None if one of them is None."""
    mode = geometry.frozen(function, "border_mode", border_mode)
    ints = {name: geometry.frozen(function, name, value) for name, value in {**sizes, **steps}.items()}
    if mode is None or None in ints.values():
        return None
    if mode not in geometry.BORDER_MODES and not geometry.is_padding(mode):
        raise ValueError(
            f"{function}: border_mode must be one of {', '.join(map(repr, geometry.BORDER_MODES))}, an int >= 0 or a pair "
            f"(before, after), got {border_mode!r}"
        )
    for name, value in ints.items():
        if type(value) is not int or (name in steps and value < 1):
            raise ValueError(
                f"{function}: {name} must be an int{' >= 1' if name in steps else ''} or None, got {value!r}"
            )
    return size(mode=mode, **ints)


# ----- Whole shapes -----


def get_conv_output_shape(
    image_shape: Sizes, kernel_shape: Sizes, border_mode: Any, subsample: Any, filter_dilation: Any = None
) -> tuple[Size, ...]:
    """Shape of a convolution's output.

    Parameters
    ----------
    image_shape : sequence of int or None
        (batch, input channels, spatial sizes).
    kernel_shape : sequence of int or None
        (output channels, input channels / groups, spatial sizes), or that of unshared filters: the last entries count.
    border_mode : str, int or tuple
        As of `conv2d`.
    subsample : int or tuple of int or None
        Stride, for all axes or one per axis.
    filter_dilation : int or tuple of int or None, optional
        Dilation, for all axes or one per axis; default: 1.

    Returns
    -------
    tuple of int or None
        (batch, output channels, spatial sizes), None where something needed for it is None.

    Raises
    ------
    ValueError
        For negative padding, strides and dilations below 1, and arguments for another number of axes.

    Notes
    -----
    Source: ``theano.tensor.nnet.abstract_conv.get_conv_output_shape`` of Theano 1.0.

    Examples
    --------
    >>> get_conv_output_shape((16, 3, 32, None), (8, 3, 5, 5), "valid", (2, 2))
    (16, 8, 14, None)
    """
    function = "get_conv_output_shape"
    image, kernel = _shape(function, "image_shape", image_shape), _shape(function, "kernel_shape", kernel_shape)
    options = _per_axis(function, len(image) - 2, border_mode, subsample, filter_dilation)
    spatial = _spatial(function, "kernel_shape", kernel, len(image) - 2)
    axes = zip(image[2:], spatial, *options, strict=True)
    return (image[0], kernel[0], *(get_conv_shape_1axis(*axis) for axis in axes))


def get_conv_gradinputs_shape(
    kernel_shape: Sizes,
    top_shape: Sizes,
    border_mode: Any,
    subsample: Any,
    filter_dilation: Any = None,
    num_groups: int = 1,
) -> tuple[Size, ...]:
    """Shape of a convolution's input, as far as the shapes of kernel and output tell it.

    Parameters
    ----------
    kernel_shape : sequence of int or None
        (output channels, input channels / num_groups, spatial sizes), or that of unshared filters.
    top_shape : sequence of int or None
        (batch, output channels, spatial sizes) of the output.
    border_mode, subsample, filter_dilation
        As of `get_conv_output_shape`.
    num_groups : int
        Number of groups.

    Returns
    -------
    tuple of int or None
        (batch, input channels, spatial sizes); None for axes with a stride, where several sizes fit.

    Raises
    ------
    ValueError
        As `get_conv_output_shape` does.

    Notes
    -----
    Source: ``theano.tensor.nnet.abstract_conv.get_conv_gradinputs_shape`` of Theano 1.0, which takes the second entry
    of an unshared kernel's shape, an output size, for its channels.

    Examples
    --------
    >>> get_conv_gradinputs_shape((8, 3, 5, 5), (16, 8, 28, 14), "valid", (1, 2))
    (16, 3, 32, None)
    """
    function = "get_conv_gradinputs_shape"
    kernel, top = _shape(function, "kernel_shape", kernel_shape), _shape(function, "top_shape", top_shape)
    ndim = len(top) - 2
    options = _per_axis(function, ndim, border_mode, subsample, filter_dilation)
    axes = zip(_spatial(function, "kernel_shape", kernel, ndim), top[2:], *options, strict=True)
    channels = kernel[-ndim - 1]
    channels = None if channels is None else channels * _groups(function, num_groups)
    return (top[0], channels, *(get_conv_gradinputs_shape_1axis(*axis) for axis in axes))


def get_conv_gradweights_shape(
    image_shape: Sizes,
    top_shape: Sizes,
    border_mode: Any,
    subsample: Any,
    filter_dilation: Any = None,
    num_groups: int = 1,
    unshared: bool = False,
) -> tuple[Size, ...]:
    """Shape of a convolution's filters, as far as the shapes of input and output tell it.

    Parameters
    ----------
    image_shape : sequence of int or None
        (batch, input channels, spatial sizes).
    top_shape : sequence of int or None
        (batch, output channels, spatial sizes) of the output.
    border_mode, subsample, filter_dilation, num_groups
        As of `get_conv_gradinputs_shape`.
    unshared : bool
        Whether every output position has filters of its own.

    Returns
    -------
    tuple of int or None
        (output channels, [output sizes if unshared,] input channels / num_groups, kernel sizes); None for axes with a
        stride or a border mode such as 'half', where several kernels fit.

    Raises
    ------
    ValueError
        As `get_conv_output_shape` does.

    Notes
    -----
    Source: ``theano.tensor.nnet.abstract_conv.get_conv_gradweights_shape`` of Theano 1.0, which divides the wrong
    channels by the number of groups.

    Examples
    --------
    >>> get_conv_gradweights_shape((16, 4, 32, 32), (16, 8, 28, 28), "valid", (1, 1), num_groups=2)
    (8, 2, 5, 5)
    """
    function = "get_conv_gradweights_shape"
    image, top = _shape(function, "image_shape", image_shape), _shape(function, "top_shape", top_shape)
    options = _per_axis(function, len(image) - 2, border_mode, subsample, filter_dilation)
    axes = zip(image[2:], _spatial(function, "top_shape", top, len(image) - 2, exactly=True), *options, strict=True)
    groups = _groups(function, num_groups)
    channels = None if image[1] is None else image[1] // groups
    positions = top[2:] if geometry.flag(function, "unshared", unshared) else ()
    return (top[1], *positions, channels, *(get_conv_gradweights_shape_1axis(*axis) for axis in axes))


def check_conv_gradinputs_shape(
    image_shape: Sizes,
    kernel_shape: Sizes,
    output_shape: Sizes,
    border_mode: Any,
    subsample: Any,
    filter_dilation: Any = None,
) -> bool:
    """Whether a convolution of these shapes can have an output of that shape; input channels are not compared.

    Parameters
    ----------
    image_shape, kernel_shape, output_shape : sequence of int or None
        (batch, channels, spatial sizes) of the input and the output, (output channels, input channels, spatial sizes) of
        the kernel. None matches anything.
    border_mode, subsample, filter_dilation
        As of `get_conv_output_shape`.

    Returns
    -------
    bool
        False also if the arguments are for different numbers of axes.

    Raises
    ------
    ValueError
        For negative padding, and strides and dilations below 1.

    Notes
    -----
    Source: ``theano.tensor.nnet.abstract_conv.check_conv_gradinputs_shape`` of Theano 1.0.

    Examples
    --------
    >>> check_conv_gradinputs_shape((16, 3, 32, 32), (8, 3, 5, 5), (16, 8, 28, None), "valid", (1, 1))
    True
    >>> check_conv_gradinputs_shape((16, 3, 32, 32), (8, 3, 5, 5), (16, 8, 27, None), "valid", (1, 1))
    False
    """
    function = "check_conv_gradinputs_shape"
    shapes = {"image_shape": image_shape, "kernel_shape": kernel_shape, "output_shape": output_shape}
    image, kernel, output = (_shape(function, name, shape) for name, shape in shapes.items())
    given = {"border_mode": border_mode, "subsample": subsample, "filter_dilation": filter_dilation}
    options = [geometry.frozen(function, name, value) for name, value in given.items()]
    if {len(kernel), len(output), *(len(v) + 2 for v in options if type(v) is tuple)} != {len(image)}:
        return False
    computed = get_conv_output_shape(image, kernel, *options)
    return all(a is None or b is None or a == b for a, b in zip(output, computed, strict=True))


def _shape(function: str, name: str, shape: Any, least: int = 3) -> tuple[Size, ...]:
    """A shape of `least` entries or more as a tuple."""
    frozen = geometry.frozen(function, name, shape)
    if type(frozen) is not tuple or len(frozen) < least or not all(s is None or type(s) is int for s in frozen):
        raise ValueError(f"{function}: {name} must have {least} or more entries, ints or None, got {shape!r}")
    return frozen


def _spatial(function: str, name: str, shape: tuple[Size, ...], ndim: int, exactly: bool = False) -> tuple[Size, ...]:
    """The last `ndim` entries, behind two others at least."""
    if len(shape) < ndim + 2 or (exactly and len(shape) > ndim + 2):
        raise ValueError(f"{function}: {name} must have {ndim + 2} entries for {ndim} spatial axes, got {shape}")
    return shape[-ndim:]


def _per_axis(function: str, ndim: int, border_mode: Any, subsample: Any, dilation: Any) -> list[tuple[Any, ...]]:
    """border_mode, subsample and filter_dilation, one entry per axis each."""
    options = {
        "border_mode": border_mode,
        "subsample": subsample,
        "filter_dilation": 1 if dilation is None else dilation,
    }
    spread = []
    for name, value in options.items():
        frozen = geometry.frozen(function, name, value)
        entries = frozen if type(frozen) is tuple else (frozen,) * ndim
        if len(entries) != ndim:
            raise ValueError(f"{function}: {name} must have one entry per spatial axis, {ndim}, got {value!r}")
        spread.append(entries)
    return spread


def _groups(function: str, num_groups: Any) -> int:
    groups = geometry.frozen(function, "num_groups", num_groups)
    if type(groups) is not int or groups < 1:
        raise ValueError(f"{function}: num_groups must be an int >= 1, got {num_groups!r}")
    return groups


# ----- Padding, and checks -----


def border_mode_to_pad(mode: Any, convdim: int, kshp: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """The zeros (before, after) on each axis that a border mode stands for.

    Parameters
    ----------
    mode : str, int or tuple
        'valid', 'full', 'half', in one dimension 'causal', an int, or a tuple with an int or a pair per axis.
    convdim : int
        Number of spatial axes.
    kshp : sequence of int
        Spatial sizes of the kernel, **dilation included**; needed for the strings.

    Returns
    -------
    tuple of (int, int)
        One pair per axis.

    Raises
    ------
    ValueError
        For anything else; also for 'same' and 'same_lower', whose padding depends on the input's size and the stride.

    Notes
    -----
    Source: ``theano.tensor.nnet.abstract_conv.border_mode_to_pad`` of Theano 1.0.

    Examples
    --------
    >>> border_mode_to_pad("half", 2, (3, 5))
    ((1, 1), (2, 2))
    >>> border_mode_to_pad((1, (0, 2)), 2, (3, 5))
    ((1, 1), (0, 2))
    """
    function = "border_mode_to_pad"
    if convdim not in geometry.AXES:
        raise ValueError(f"{function}: convdim must be 1, 2 or 3, got {convdim!r}")
    options = geometry.Options(function, convdim, geometry.frozen(function, "mode", mode), 1, True, 1, 1, False)
    if options.modes[0] in ("same", "same_lower"):
        raise ValueError(
            f"{function}: the padding of {mode!r} depends on the input's size; pass the border mode itself on"
        )
    kernel = geometry.frozen(function, "kshp", kshp) if isinstance(options.modes[0], str) else (1,) * convdim
    if type(kernel) is not tuple or len(kernel) != convdim or not all(type(k) is int for k in kernel):
        raise ValueError(f"{function}: kshp must have one int per spatial axis, {convdim}, got {kshp!r}")
    return tuple(geometry.padding(m, 0, k, 1) for m, k in zip(options.modes, kernel, strict=True))


def assert_conv_shape(shape: Sizes) -> tuple[Size, ...]:
    """Refuse shapes no convolution has: the first two entries must not be negative, the others must be positive.

    Parameters
    ----------
    shape : sequence of int or None
        Of an input, an output or filters. None entries are not checked.

    Returns
    -------
    tuple of int or None
        The shape.

    Raises
    ------
    ValueError
        If an entry is too small; the message tells which.

    Notes
    -----
    Source: ``theano.tensor.nnet.abstract_conv.assert_conv_shape`` of Theano 1.0.

    Examples
    --------
    >>> assert_conv_shape((0, 3, 5, None))
    (0, 3, 5, None)
    """
    sizes: tuple[Size, ...] = _shape("assert_conv_shape", "shape", shape, 0)
    for axis, size in enumerate(sizes):
        least = 0 if axis < 2 else 1
        if size is not None and size < least:
            raise ValueError(f"assert_conv_shape: shape[{axis}] must be at least {least}, got {size!r} in {sizes}")
    return sizes


def assert_shape(x: Any, expected_shape: Sizes | None, msg: str = "Unexpected shape.") -> Any:
    """Give an array back if it has the expected shape.

    Parameters
    ----------
    x : array_like
        A Tensor or anything NumPy understands.
    expected_shape : sequence of int or None, optional
        None entries match anything; None: everything matches.
    msg : str
        How the error's message begins.

    Returns
    -------
    array_like
        `x` itself.

    Raises
    ------
    AssertionError
        If the shape is another one.

    Notes
    -----
    Source: ``theano.tensor.nnet.abstract_conv.assert_shape`` of Theano 1.0.

    Examples
    --------
    >>> assert_shape([[1.0, 2.0]], (1, None))
    [[1.0, 2.0]]
    """
    if expected_shape is not None:
        shape = tuple(x.shape) if hasattr(x, "shape") else np.shape(x)
        known = geometry.frozen("assert_shape", "expected_shape", tuple(expected_shape))
        if len(known) != len(shape) or any(k is not None and k != s for k, s in zip(known, shape, strict=True)):
            raise AssertionError(f"{msg} Expected {known}, got {shape}.")
    return x
