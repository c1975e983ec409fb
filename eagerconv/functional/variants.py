"""Convolutions that are one or two others with some arguments fixed: causal, depthwise, pointwise, separable."""

from typing import Any

from eagerconv import geometry
from eagerconv.functional.conv import BorderMode, Function, Ints, ShapeHint, array, forward, refuse_keywords, solve
from eagerconv.functional.conv_docs import described
from eagerconv.layouts import written
from eagerconv.spec import Shape
from eagerconv.tensor import Tensor

# ----- Causal -----

_CAUSAL = Function("causal_conv1d", 1, "y")


@described(
    1,
    "input filters filter_hint input_hint subsample flip dilation groups unshared bias algorithm",
    """\
    Tensor
        Shape (batch, output channels, (length - 1) // subsample + 1).""",
    """\
The same as `conv1d` with ``border_mode="causal"``. Source: ``theano.tensor.nnet.abstract_conv.causal_conv1d`` of Theano
1.0, where filter_shape is mandatory and unshared filters fail; A. van den Oord et al., "WaveNet: a generative model for
raw audio", arXiv:1609.03499, section 2.1.""",
)
def causal_conv1d(
    input: Any,
    filters: Any,
    filter_shape: ShapeHint = None,
    input_shape: ShapeHint = None,
    subsample: Ints = 1,
    filter_flip: bool = True,
    filter_dilation: Ints = 1,
    num_groups: int = 1,
    unshared: bool = False,
    *,
    bias: Any = None,
    algorithm: str = "auto",
    **unknown: Any,
) -> Tensor:
    """Convolve signals so that the output at time t depends on the inputs up to and including t.

    There are dilation * (k-1) zeros before the signal and none after. With the flip, the first tap multiplies the sample
    at t and the last tap the oldest one.

    Examples
    --------
    >>> import eagerconv as ec
    >>> ec.causal_conv1d([[[1.0, 2.0, 3.0, 4.0]]], [[[1.0, 10.0]]]).numpy()
    array([[[ 1., 12., 23., 34.]]])
    """
    options = (input_shape, filter_shape, "causal", subsample, filter_flip, filter_dilation, num_groups, unshared)
    return solve(_CAUSAL, input, filters, options, algorithm, unknown, bias)


# ----- Depthwise: every channel has filters of its own -----


def _depthwise(
    function: str, ndim: int, input: Any, filters: Any, input_shape: Any, filter_shape: Any, border_mode: Any,
    subsample: Any, filter_flip: Any, filter_dilation: Any, algorithm: str, unknown: dict[str, Any], bias: Any,
    names: tuple[str, str, str, str] = ("input", "filters", "input_shape", "filter_shape"),
) -> Tensor:  # fmt: skip
    """As many groups as channels."""
    if unknown:
        refuse_keywords(function, unknown)
    x, w = array(function, names[0], input), array(function, names[1], filters)
    groups = max(x.shape[1], 1) if x.ndim > 1 else 1
    if x.ndim == w.ndim == ndim + 2 and (w.shape[1] != 1 or w.shape[0] % groups):
        raise ValueError(
            f"{function}: {names[1]} must have shape (channels * multiplier, 1, {', '.join(geometry.AXES[ndim])}), where "
            f"{names[0]} has {x.shape[1]} channels; got {w.shape}{_of_tensorflow(ndim, names[1], x.shape, w.shape)}"
        )
    options = (input_shape, filter_shape, border_mode, subsample, filter_flip, filter_dilation, groups, False)
    return solve(forward(function, ndim, names[:2], names[2:]), x, w, options, algorithm, unknown, bias)


def _of_tensorflow(ndim: int, name: str, x: Shape, w: Shape) -> str:
    """What to write for filters (*space, channels, multiplier)."""
    if w[ndim] != x[1]:
        return ""
    axes = (ndim, ndim + 1, *range(ndim))
    return f"; from the order of TensorFlow, write {written(name, axes)}.reshape({(-1, 1, *w[:ndim])})"


_DEPTHWISE = "depthwise_input depthwise hints border_mode subsample flip dilation bias algorithm"
_DEPTHWISE_RETURNS = """\
    Tensor
        Shape (batch, channels * multiplier, {axes})."""
_DEPTHWISE_NOTES = "The same as `conv{ndim}d` with `num_groups` equal to the number of channels."


@described(1, _DEPTHWISE, _DEPTHWISE_RETURNS, _DEPTHWISE_NOTES)
def depthwise_conv1d(
    input: Any,
    filters: Any,
    input_shape: ShapeHint = None,
    filter_shape: ShapeHint = None,
    border_mode: BorderMode = "valid",
    subsample: Ints = 1,
    filter_flip: bool = True,
    filter_dilation: Ints = 1,
    *,
    bias: Any = None,
    algorithm: str = "auto",
    **unknown: Any,
) -> Tensor:
    """Convolve every channel of signals with filters of its own.

    Examples
    --------
    >>> import eagerconv as ec
    >>> ec.depthwise_conv1d([[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]], [[[1.0, 10.0]], [[1.0, 0.0]]]).numpy()
    array([[[12., 23.],
            [ 5.,  6.]]])
    """
    return _depthwise(
        "depthwise_conv1d", 1, input, filters, input_shape, filter_shape, border_mode, subsample, filter_flip,
        filter_dilation, algorithm, unknown, bias,
    )  # fmt: skip


@described(2, _DEPTHWISE, _DEPTHWISE_RETURNS, _DEPTHWISE_NOTES)
def depthwise_conv2d(
    input: Any,
    filters: Any,
    input_shape: ShapeHint = None,
    filter_shape: ShapeHint = None,
    border_mode: BorderMode = "valid",
    subsample: Ints = (1, 1),
    filter_flip: bool = True,
    filter_dilation: Ints = (1, 1),
    *,
    bias: Any = None,
    algorithm: str = "auto",
    **unknown: Any,
) -> Tensor:
    """Convolve every channel of images with filters of its own.

    Examples
    --------
    >>> import numpy as np, eagerconv as ec
    >>> x, w = np.ones((2, 8, 32, 32)), np.ones((16, 1, 3, 3))  # two filters for each channel
    >>> ec.depthwise_conv2d(x, w, border_mode="same").shape
    (2, 16, 32, 32)
    """
    return _depthwise(
        "depthwise_conv2d", 2, input, filters, input_shape, filter_shape, border_mode, subsample, filter_flip,
        filter_dilation, algorithm, unknown, bias,
    )  # fmt: skip


@described(3, _DEPTHWISE, _DEPTHWISE_RETURNS, _DEPTHWISE_NOTES)
def depthwise_conv3d(
    input: Any,
    filters: Any,
    input_shape: ShapeHint = None,
    filter_shape: ShapeHint = None,
    border_mode: BorderMode = "valid",
    subsample: Ints = (1, 1, 1),
    filter_flip: bool = True,
    filter_dilation: Ints = (1, 1, 1),
    *,
    bias: Any = None,
    algorithm: str = "auto",
    **unknown: Any,
) -> Tensor:
    """Convolve every channel of volumes with filters of its own.

    Examples
    --------
    >>> import numpy as np, eagerconv as ec
    >>> ec.depthwise_conv3d(np.ones((1, 4, 6, 6, 6)), np.ones((4, 1, 2, 3, 3))).shape
    (1, 4, 5, 4, 4)
    """
    return _depthwise(
        "depthwise_conv3d", 3, input, filters, input_shape, filter_shape, border_mode, subsample, filter_flip,
        filter_dilation, algorithm, unknown, bias,
    )  # fmt: skip


# ----- Pointwise: channels are mixed, positions are not -----


def _pointwise(
    function: str, ndim: int, input: Any, filters: Any, input_shape: Any, filter_shape: Any, algorithm: str,
    unknown: dict[str, Any], bias: Any,
    names: tuple[str, str, str, str] = ("input", "filters", "input_shape", "filter_shape"),
) -> Tensor:  # fmt: skip
    """A valid convolution of stride 1 by one tap, which no flip can change."""
    if unknown:
        refuse_keywords(function, unknown)
    w = array(function, names[1], filters)
    if w.ndim == 2:
        raise ValueError(
            f"{function}: {names[1]} must have {ndim + 2} axes (output channels, input channels{', 1' * ndim}), got 2: shape "
            f"{w.shape}. Add what is missing: {names[1]}[:, :{', None' * ndim}]."
        )
    if w.ndim == ndim + 2 and any(k != 1 for k in w.shape[2:]):
        raise ValueError(
            f"{function}: {names[1]} must have one tap, shape (output channels, input channels{', 1' * ndim}), got {w.shape}"
        )
    options = (input_shape, filter_shape, "valid", 1, False, 1, 1, False)
    return solve(forward(function, ndim, names[:2], names[2:]), input, w, options, algorithm, unknown, bias)


_POINTWISE = "input pointwise hints bias algorithm"
_POINTWISE_RETURNS = """\
    Tensor
        Shape (batch, output channels, {axes}), the sizes those of the input."""
_POINTWISE_NOTES = "The same as `conv{ndim}d` with filters of one tap."


@described(1, _POINTWISE, _POINTWISE_RETURNS, _POINTWISE_NOTES)
def pointwise_conv1d(
    input: Any,
    filters: Any,
    input_shape: ShapeHint = None,
    filter_shape: ShapeHint = None,
    *,
    bias: Any = None,
    algorithm: str = "auto",
    **unknown: Any,
) -> Tensor:
    """Mix the channels of signals, at every position in the same way.

    Examples
    --------
    >>> import eagerconv as ec
    >>> ec.pointwise_conv1d([[[1.0, 2.0], [3.0, 4.0]]], [[[1.0], [10.0]]]).numpy()
    array([[[31., 42.]]])
    """
    return _pointwise("pointwise_conv1d", 1, input, filters, input_shape, filter_shape, algorithm, unknown, bias)


@described(2, _POINTWISE, _POINTWISE_RETURNS, _POINTWISE_NOTES)
def pointwise_conv2d(
    input: Any,
    filters: Any,
    input_shape: ShapeHint = None,
    filter_shape: ShapeHint = None,
    *,
    bias: Any = None,
    algorithm: str = "auto",
    **unknown: Any,
) -> Tensor:
    """Mix the channels of images, at every position in the same way.

    Examples
    --------
    >>> import numpy as np, eagerconv as ec
    >>> ec.pointwise_conv2d(np.ones((1, 3, 8, 8)), np.ones((16, 3, 1, 1)), bias=np.zeros(16)).shape
    (1, 16, 8, 8)
    """
    return _pointwise("pointwise_conv2d", 2, input, filters, input_shape, filter_shape, algorithm, unknown, bias)


@described(3, _POINTWISE, _POINTWISE_RETURNS, _POINTWISE_NOTES)
def pointwise_conv3d(
    input: Any,
    filters: Any,
    input_shape: ShapeHint = None,
    filter_shape: ShapeHint = None,
    *,
    bias: Any = None,
    algorithm: str = "auto",
    **unknown: Any,
) -> Tensor:
    """Mix the channels of volumes, at every position in the same way.

    Examples
    --------
    >>> import numpy as np, eagerconv as ec
    >>> ec.pointwise_conv3d(np.ones((1, 3, 4, 4, 4)), np.ones((2, 3, 1, 1, 1))).shape
    (1, 2, 4, 4, 4)
    """
    return _pointwise("pointwise_conv3d", 3, input, filters, input_shape, filter_shape, algorithm, unknown, bias)


# ----- Separable: depthwise, then pointwise -----


def _separable(
    function: str, ndim: int, input: Any, depthwise_filters: Any, pointwise_filters: Any, num_channels: Any,
    input_shape: Any, depthwise_filter_shape: Any, pointwise_filter_shape: Any, border_mode: Any, subsample: Any,
    filter_flip: Any, filter_dilation: Any, algorithm: str, unknown: dict[str, Any], bias: Any,
) -> Tensor:  # fmt: skip
    if unknown:
        refuse_keywords(function, unknown)
    x = array(function, "input", input)
    if x.ndim == ndim + 2 and geometry.frozen(function, "num_channels", num_channels) != x.shape[1]:
        raise ValueError(
            f"{function}: num_channels must be the number of channels of input, which is {x.shape[1]}, got {num_channels!r}"
        )
    between = _depthwise(
        function, ndim, x, depthwise_filters, input_shape, depthwise_filter_shape, border_mode, subsample, filter_flip,
        filter_dilation, algorithm, unknown, None,
        ("input", "depthwise_filters", "input_shape", "depthwise_filter_shape"),
    )  # fmt: skip
    return _pointwise(
        function, ndim, between, pointwise_filters, None, pointwise_filter_shape, algorithm, {}, bias,
        ("the depthwise output", "pointwise_filters", "input_shape", "pointwise_filter_shape"),
    )  # fmt: skip


_SEPARABLE = "depthwise_input separable border_mode subsample flip dilation bias algorithm"
_SEPARABLE_RETURNS = """\
    Tensor
        Shape (batch, output channels, {axes})."""
_SEPARABLE_NOTES = """\
`border_mode`, `subsample` and `filter_dilation` act in the depthwise step only: the pointwise step keeps the sizes.
Source: ``theano.tensor.nnet.abstract_conv.separable_conv{ndim}d`` of Theano 1.0."""


@described(2, _SEPARABLE, _SEPARABLE_RETURNS, _SEPARABLE_NOTES)
def separable_conv2d(
    input: Any,
    depthwise_filters: Any,
    pointwise_filters: Any,
    num_channels: int,
    input_shape: ShapeHint = None,
    depthwise_filter_shape: ShapeHint = None,
    pointwise_filter_shape: ShapeHint = None,
    border_mode: BorderMode = "valid",
    subsample: Ints = (1, 1),
    filter_flip: bool = True,
    filter_dilation: Ints = (1, 1),
    *,
    bias: Any = None,
    algorithm: str = "auto",
    **unknown: Any,
) -> Tensor:
    """Convolve every channel of images with filters of its own, then mix the channels.

    Examples
    --------
    >>> import numpy as np, eagerconv as ec
    >>> x, depthwise, pointwise = np.ones((1, 3, 9, 9)), np.ones((6, 1, 3, 3)), np.ones((16, 6, 1, 1))
    >>> ec.separable_conv2d(x, depthwise, pointwise, 3, border_mode="half", subsample=(2, 2)).shape
    (1, 16, 5, 5)
    """
    return _separable(
        "separable_conv2d", 2, input, depthwise_filters, pointwise_filters, num_channels, input_shape,
        depthwise_filter_shape, pointwise_filter_shape, border_mode, subsample, filter_flip, filter_dilation, algorithm,
        unknown, bias,
    )  # fmt: skip


@described(3, _SEPARABLE, _SEPARABLE_RETURNS, _SEPARABLE_NOTES)
def separable_conv3d(
    input: Any,
    depthwise_filters: Any,
    pointwise_filters: Any,
    num_channels: int,
    input_shape: ShapeHint = None,
    depthwise_filter_shape: ShapeHint = None,
    pointwise_filter_shape: ShapeHint = None,
    border_mode: BorderMode = "valid",
    subsample: Ints = (1, 1, 1),
    filter_flip: bool = True,
    filter_dilation: Ints = (1, 1, 1),
    *,
    bias: Any = None,
    algorithm: str = "auto",
    **unknown: Any,
) -> Tensor:
    """Convolve every channel of volumes with filters of its own, then mix the channels.

    Examples
    --------
    >>> import numpy as np, eagerconv as ec
    >>> x, depthwise, pointwise = np.ones((1, 3, 5, 9, 9)), np.ones((3, 1, 2, 3, 3)), np.ones((8, 3, 1, 1, 1))
    >>> ec.separable_conv3d(x, depthwise, pointwise, 3).shape
    (1, 8, 4, 7, 7)
    """
    return _separable(
        "separable_conv3d", 3, input, depthwise_filters, pointwise_filters, num_channels, input_shape,
        depthwise_filter_shape, pointwise_filter_shape, border_mode, subsample, filter_flip, filter_dilation, algorithm,
        unknown, bias,
    )  # fmt: skip
