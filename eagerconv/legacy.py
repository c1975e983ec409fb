"""Theano's and Pylearn2's older convolution functions, for programs to be ported: views over the contraction of today.

Every function here is deprecated: its notes tell the call to write instead. All of them are differentiable to any order.
"""

from collections.abc import Sequence
from typing import Any

from eagerconv import algorithms, geometry
from eagerconv.functional.conv import HINTS, BorderMode, Ints, ShapeHint, array, per_channel, refuse_keywords, solve
from eagerconv.functional.conv import forward as of_forward
from eagerconv.functional.conv_docs import described
from eagerconv.functional.shapes import border_mode_to_pad
from eagerconv.tensor import Tensor

__all__ = ["conv2d_c01b", "conv2d_fft", "conv3D", "conv3d2d", "conv3d_fft", "corr3d_mm", "corr_mm", "dnn_conv",
           "nnet_conv2d", "signal_conv2d"]  # fmt: skip

# ----- What they share -----

_TEXTS = {
    "shared_filters": """\
    filters : array_like, shape (output channels, input channels, {axes})
        The filters.""",
    "grouped_filters": """\
    filters : array_like, shape (output channels, input channels / num_groups, {axes})
        The filters.""",
    "image_hints": """\
    image_shape, filter_shape : tuple of int or None, optional
        Expected shapes; they change nothing, but a mismatch raises. None entries match anything.""",
    "two_modes": """\
    border_mode : {'valid', 'full'}
        No zeros around the input, or kernel - 1 on every side.""",
    "pad_last_dim": """\
    pad_last_dim : bool
        Accepted and not needed: any size will do.""",
    "old_hints": """\
    **kargs
        The hints of old, such as `unroll_batch` and `openmp`: accepted and not needed.""",
    "movies": """\
    signals : array_like, shape (batch, time, channels, rows, columns)
        The movies.
    filters : array_like, shape (output channels, time, channels, rows, columns)
        The filters, which are flipped along time, rows and columns.
    signals_shape, filters_shape : tuple of int or None, optional
        Expected shapes; they change nothing, but a mismatch raises. None entries match anything.
    border_mode : {'valid', 'full', 'half'} or three of them
        For all axes, or for (time, rows, columns).""",
    "volumes": """\
    V : array_like, shape (batch, rows, columns, time, channels)
        The volumes.
    W : array_like, shape (output channels, rows, columns, time, channels)
        The filters.
    b : array_like, shape (output channels,)
        The bias.
    d : sequence of three ints
        Strides along (rows, columns, time).""",
    "c01b": """\
    input : array_like, shape (channels, {axes}, batch)
        The images. cuda-convnet's limits on sizes do not hold here.
    filters : array_like, shape (channels, {axes}, output channels)
        The filters.""",
    "single_images": """\
    input : array_like, shape ({axes}) or (images, {axes})
        One image or several.
    filters : array_like, shape ({axes}) or (filters, {axes})
        One filter or several; they are flipped.""",
    "cudnn": """\
    img : array_like, shape (batch, input channels, [depth,] {axes})
        Images or volumes.
    kerns : array_like, shape (output channels, input channels / num_groups, [depth,] {axes})
        The filters.""",
    "cudnn_options": """\
    dilation : int or tuple of int
        The `filter_dilation` of `conv2d`.
    conv_mode : {'cross', 'conv'}
        Use the filters as they are, or flip them.
    direction_hint, workmem, algo, precision
        Accepted and not needed: cuDNN's own algorithm is chosen for each problem.""",
}

_OLD_HINTS = HINTS | {"direction_hint"}

_RETURNS = """\
    Tensor
        Shape (batch, output channels, {axes})."""

_HINTS = {"image_shape": None, "filter_shape": None}


def _forward(
    function: str, ndim: int, arrays: dict[str, Any], border_mode: Any, subsample: Any, *, flip: bool,
    hints: dict[str, Any] = _HINTS, dilation: Any = 1, groups: Any = 1, unshared: Any = False, algorithm: str = "auto",
) -> Tensor:  # fmt: skip
    """The forward contraction of two named arrays in today's order of axes."""
    (x_name, x), (w_name, w) = arrays.items()
    (x_hint, x_shape), (w_hint, w_shape) = hints.items()
    options = (x_shape, w_shape, border_mode, subsample, flip, dilation, groups, unshared)
    return solve(of_forward(function, ndim, (x_name, w_name), (x_hint, w_hint)), x, w, options, algorithm)


def _operands(function: str, arrays: dict[str, Any], first: tuple[str, str], axes: Sequence[str]) -> list[Tensor]:
    """Two arrays of axes `axes`, where the empty name stands for `first`: batch and output channels, say."""
    tensors = []
    for (name, value), own in zip(arrays.items(), first, strict=True):
        tensors.append(array(function, name, value))
        geometry.check_axes(function, name, tensors[-1].shape, tuple(axis or own for axis in axes))
    (x_name, w_name), (x, w) = arrays, tensors
    at = axes.index("channels")
    if x.shape[at] != w.shape[at]:
        raise ValueError(
            f"{function}: {x_name} has {x.shape[at]} channels but {w_name} has {w.shape[at]}: "
            f"shapes {x.shape} and {w.shape}; they must be equal on axis {at}"
        )
    return tensors


def _one_of(function: str, name: str, value: Any, choices: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{function}: {name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


# ----- Other orders of axes -----


@described(
    3,
    "movies",
    """\
    Tensor
        Shape (batch, time, output channels, rows, columns).""",
    """\
Deprecated: put the channels before the time and write ``conv3d(signals, filters, border_mode=...)``.
Source: ``theano.tensor.nnet.conv3d2d.conv3d`` of Theano 1.0.""",
    _TEXTS,
)
def conv3d2d(
    signals: Any,
    filters: Any,
    signals_shape: ShapeHint = None,
    filters_shape: ShapeHint = None,
    border_mode: str | Sequence[str] = "valid",
) -> Tensor:
    """Convolve movies with spatio-temporal filters; the time comes before the channels.

    Examples
    --------
    >>> import numpy as np, eagerconv as ec
    >>> x, w = np.ones((1, 9, 3, 8, 8)), np.ones((4, 2, 3, 5, 5))
    >>> ec.legacy.conv3d2d(x, w, border_mode=("full", "valid", "half")).shape
    (1, 10, 4, 4, 8)
    """
    function = "conv3d2d"
    arrays = {"signals": signals, "filters": filters}
    x, w = _operands(function, arrays, ("batch", "output channels"), ("", "time", "channels", "rows", "columns"))
    for name, hint, shape in (("signals_shape", signals_shape, x.shape), ("filters_shape", filters_shape, w.shape)):
        geometry.check_hint(function, name, geometry.frozen(function, name, hint), shape)
    modes = (border_mode,) * 3 if isinstance(border_mode, str) else border_mode
    if not isinstance(modes, (tuple, list)) or len(modes) != 3:
        raise ValueError(
            f"{function}: border_mode must be a string or three (time, rows, columns), got {border_mode!r}"
        )
    for mode in modes:
        _one_of(function, "border_mode", mode, ("valid", "full", "half"))
    x, w = x.transpose((0, 2, 1, 3, 4)), w.transpose((0, 2, 1, 3, 4))  # (N, C, T, H, W), (F, C, Tf, Hf, Wf)
    pads = tuple(border_mode_to_pad(mode, 1, (k,))[0] for mode, k in zip(modes, w.shape[2:], strict=True))
    return _forward(function, 3, {"signals": x, "filters": w}, pads, 1, flip=True).transpose((0, 2, 1, 3, 4))


@described(
    3,
    "volumes",
    """\
    Tensor
        Shape (batch, rows, columns, time, output channels).""",
    """\
Deprecated: put the channels before the sizes and write ``conv3d(V, W, subsample=d, filter_flip=False, bias=b)``.
Source: ``theano.tensor.nnet.Conv3D.conv3D`` of Theano 1.0.""",
    _TEXTS,
)
def conv3D(V: Any, W: Any, b: Any, d: Sequence[int]) -> Tensor:
    """Correlate volumes with filters, which are not flipped, and add a bias; the channels come last.

    Examples
    --------
    >>> import numpy as np, eagerconv as ec
    >>> ec.legacy.conv3D(np.ones((2, 9, 9, 5, 3)), np.ones((4, 3, 3, 2, 3)), np.zeros(4), (2, 2, 1)).shape
    (2, 4, 4, 4, 4)
    """
    function = "conv3D"
    axes = ("", "rows", "columns", "time", "channels")
    v, w = _operands(function, {"V": V, "W": W}, ("batch", "output channels"), axes)
    steps = geometry.frozen(function, "d", d)
    if type(steps) is not tuple or len(steps) != 3 or not all(type(s) is int and s >= 1 for s in steps):
        raise ValueError(f"{function}: d must be three strides >= 1 (rows, columns, time), got {d!r}")
    bias = per_channel(function, "b", array(function, "b", b), w.shape[0], 3)  # (O, 1, 1, 1)
    v, w = v.transpose((0, 4, 3, 1, 2)), w.transpose((0, 4, 3, 1, 2))  # (B, C, T, R, S), (O, C, T, R, S)
    y = _forward(function, 3, {"V": v, "W": w}, "valid", (steps[2], *steps[:2]), flip=False)  # (B, O, T', R', S')
    return (y + bias).transpose((0, 3, 4, 2, 1))


@described(
    2,
    "c01b border_mode subsample",
    """\
    Tensor
        Shape (output channels, {axes}, batch).""",
    """\
Deprecated: put the batch first and write ``conv2d(input, filters, filter_flip=False)``.
Source: ``pylearn2.sandbox.cuda_convnet.filter_acts.FilterActs``, after A. Krizhevsky's cuda-convnet.""",
    _TEXTS,
)
def conv2d_c01b(input: Any, filters: Any, border_mode: BorderMode = "valid", subsample: Ints = (1, 1)) -> Tensor:
    """Correlate images with filters, which are not flipped, in the layout of cuda-convnet: the batch comes last.

    Examples
    --------
    >>> import numpy as np, eagerconv as ec
    >>> ec.legacy.conv2d_c01b(np.ones((3, 8, 8, 128)), np.ones((3, 5, 5, 16))).shape
    (16, 4, 4, 128)
    """
    function = "conv2d_c01b"
    arrays = {"input": input, "filters": filters}
    x, w = _operands(function, arrays, ("batch", "output channels"), ("channels", "rows", "columns", ""))
    x, w = x.transpose((3, 0, 1, 2)), w.transpose((3, 0, 1, 2))  # (B, C, R, S), (F, C, r, s)
    return _forward(function, 2, {"input": x, "filters": w}, border_mode, subsample, flip=False).transpose((1, 2, 3, 0))


# ----- conv2d with fewer options -----


@described(
    2,
    "single_images image_hints border_mode subsample old_hints",
    """\
    Tensor
        Shape (images, filters, {axes}); an axis is there only if the argument it comes from has it.""",
    """\
Deprecated: write ``conv2d(input[:, None], filters[:, None], border_mode=...)``.
Source: ``theano.tensor.signal.conv.conv2d`` of Theano 1.0.""",
    _TEXTS,
)
def signal_conv2d(
    input: Any,
    filters: Any,
    image_shape: ShapeHint = None,
    filter_shape: ShapeHint = None,
    border_mode: BorderMode = "valid",
    subsample: Ints = (1, 1),
    **kargs: Any,
) -> Tensor:
    """Convolve every image with every filter, as in signal processing: nothing is summed over images.

    Examples
    --------
    >>> import numpy as np, eagerconv as ec
    >>> ec.legacy.signal_conv2d(np.ones((9, 9)), np.ones((5, 3, 3))).shape
    (5, 7, 7)
    """
    function = "signal_conv2d"
    if kargs:
        refuse_keywords(function, kargs, _OLD_HINTS)
    x, w = array(function, "input", input), array(function, "filters", filters)
    for name, a, hint_name, hint in (
        ("input", x, "image_shape", image_shape),
        ("filters", w, "filter_shape", filter_shape),
    ):
        if a.ndim not in (2, 3):
            raise ValueError(f"{function}: {name} must have 2 or 3 axes ([{name},] rows, columns), got shape {a.shape}")
        geometry.check_hint(function, hint_name, geometry.frozen(function, hint_name, hint), a.shape)
    leading = (*x.shape[:-2], *w.shape[:-2])  # ([B,] [F,])
    x, w = (a.expand_dims(-3 if a.ndim == 3 else (0, 1)) for a in (x, w))  # (B, 1, R, S), (F, 1, r, s)
    y = _forward(function, 2, {"input": x, "filters": w}, border_mode, subsample, flip=True)  # (B, F, R', S')
    return y.reshape((*leading, *y.shape[2:]))


@described(
    2,
    "input shared_filters image_hints two_modes subsample old_hints",
    _RETURNS,
    """\
Deprecated: write ``conv2d(input, filters, border_mode=..., subsample=...)``.
Source: ``theano.tensor.nnet.conv.conv2d`` of Theano 1.0, where it is deprecated, too.""",
    _TEXTS,
)
def nnet_conv2d(
    input: Any,
    filters: Any,
    image_shape: ShapeHint = None,
    filter_shape: ShapeHint = None,
    border_mode: str = "valid",
    subsample: Ints = (1, 1),
    **kargs: Any,
) -> Tensor:
    """Convolve a batch of images with a set of filters, which are flipped.

    Examples
    --------
    >>> import numpy as np, eagerconv as ec
    >>> ec.legacy.nnet_conv2d(np.ones((2, 3, 9, 9)), np.ones((4, 3, 3, 3)), border_mode="full").shape
    (2, 4, 11, 11)
    """
    function = "nnet_conv2d"
    if kargs:
        refuse_keywords(function, kargs, _OLD_HINTS)
    _one_of(function, "border_mode", border_mode, ("valid", "full"))
    hints = {"image_shape": image_shape, "filter_shape": filter_shape}
    return _forward(function, 2, {"input": input, "filters": filters}, border_mode, subsample, flip=True, hints=hints)


# ----- Forced onto one algorithm -----

_FFT = "input shared_filters image_hints two_modes pad_last_dim"
_FFT_NOTES = """\
Deprecated: write ``conv{ndim}d(input, filters, border_mode=..., algorithm="fft")``, or leave `algorithm` out to have the
fastest one chosen. Source: ``theano.sandbox.cuda.fftconv.conv{ndim}d_fft`` of Theano 0.9, which ran on GPUs only, had no
gradient, and demanded an even last axis."""


@described(2, _FFT, _RETURNS, _FFT_NOTES, _TEXTS)
def conv2d_fft(
    input: Any,
    filters: Any,
    image_shape: ShapeHint = None,
    filter_shape: ShapeHint = None,
    border_mode: str = "valid",
    pad_last_dim: bool = False,
) -> Tensor:
    """Convolve images with filters, which are flipped, by fast Fourier transforms.

    Examples
    --------
    >>> import numpy as np, eagerconv as ec
    >>> ec.legacy.conv2d_fft(np.ones((2, 3, 9, 9)), np.ones((4, 3, 3, 3))).shape
    (2, 4, 7, 7)
    """
    return _by_fft("conv2d_fft", 2, input, filters, image_shape, filter_shape, border_mode, pad_last_dim)


@described(3, _FFT, _RETURNS, _FFT_NOTES, _TEXTS)
def conv3d_fft(
    input: Any,
    filters: Any,
    image_shape: ShapeHint = None,
    filter_shape: ShapeHint = None,
    border_mode: str = "valid",
    pad_last_dim: bool = False,
) -> Tensor:
    """Convolve volumes with filters, which are flipped, by fast Fourier transforms.

    Examples
    --------
    >>> import numpy as np, eagerconv as ec
    >>> ec.legacy.conv3d_fft(np.ones((1, 2, 5, 5, 5)), np.ones((3, 2, 2, 2, 2)), border_mode="full").shape
    (1, 3, 6, 6, 6)
    """
    return _by_fft("conv3d_fft", 3, input, filters, image_shape, filter_shape, border_mode, pad_last_dim)


def _by_fft(
    function: str, ndim: int, input: Any, filters: Any, image_shape: Any, filter_shape: Any, mode: Any, pad: Any
) -> Tensor:
    geometry.flag(function, "pad_last_dim", pad)
    _one_of(function, "border_mode", mode, ("valid", "full"))
    arrays, hints = {"input": input, "filters": filters}, {"image_shape": image_shape, "filter_shape": filter_shape}
    return _forward(function, ndim, arrays, mode, 1, flip=True, hints=hints, algorithm="fft")


@described(
    2,
    "input filters border_mode subsample dilation groups unshared",
    _RETURNS,
    """\
Deprecated: write ``conv2d(input, filters, ..., filter_flip=False, algorithm="gemm")``, or leave `algorithm` out to have
the fastest one chosen, as it is here with `unshared`. Source: ``theano.tensor.nnet.corr.CorrMM`` and
``theano.gpuarray.blas.GpuCorrMM`` of Theano 1.0, after Caffe.""",
)
def corr_mm(
    input: Any,
    filters: Any,
    border_mode: BorderMode = "valid",
    subsample: Ints = (1, 1),
    filter_dilation: Ints = (1, 1),
    num_groups: int = 1,
    unshared: bool = False,
) -> Tensor:
    """Correlate images with filters, which are not flipped, by matrix products.

    Examples
    --------
    >>> import numpy as np, eagerconv as ec
    >>> ec.legacy.corr_mm(np.ones((2, 3, 9, 9)), np.ones((4, 3, 3, 3)), border_mode="half").shape
    (2, 4, 9, 9)
    """
    local = geometry.flag("corr_mm", "unshared", unshared)
    return _forward(
        "corr_mm", 2, {"input": input, "filters": filters}, border_mode, subsample, flip=False, dilation=filter_dilation,
        groups=num_groups, unshared=local, algorithm="auto" if local else "gemm",
    )  # fmt: skip


@described(
    3,
    "input grouped_filters border_mode subsample dilation groups",
    _RETURNS,
    """\
Deprecated: write ``conv3d(input, filters, ..., filter_flip=False, algorithm="gemm")``, or leave `algorithm` out to have
the fastest one chosen. Source: ``theano.tensor.nnet.corr3d.Corr3dMM`` and ``theano.gpuarray.blas.GpuCorr3dMM`` of Theano
1.0.""",
    _TEXTS,
)
def corr3d_mm(
    input: Any,
    filters: Any,
    border_mode: BorderMode = "valid",
    subsample: Ints = (1, 1, 1),
    filter_dilation: Ints = (1, 1, 1),
    num_groups: int = 1,
) -> Tensor:
    """Correlate volumes with filters, which are not flipped, by matrix products.

    Examples
    --------
    >>> import numpy as np, eagerconv as ec
    >>> ec.legacy.corr3d_mm(np.ones((1, 2, 5, 5, 5)), np.ones((3, 2, 3, 3, 3))).shape
    (1, 3, 3, 3, 3)
    """
    return _forward(
        "corr3d_mm", 3, {"input": input, "filters": filters}, border_mode, subsample, flip=False,
        dilation=filter_dilation, groups=num_groups, algorithm="gemm",
    )  # fmt: skip


@described(
    2,
    "cudnn border_mode subsample cudnn_options groups",
    """\
    Tensor
        Shape (batch, output channels, [depth,] {axes}).""",
    """\
Deprecated: write ``conv2d(img, kerns, ..., filter_flip=False)``, which uses cuDNN where it is the fastest, or force it by
``algorithm="cudnn"``. Where there is no cuDNN, an `AlgorithmError` (a ValueError) says so. Source:
``theano.gpuarray.dnn.dnn_conv`` of Theano 1.0, where `conv_mode` is 'conv' unless given.""",
    _TEXTS,
)
def dnn_conv(
    img: Any,
    kerns: Any,
    border_mode: BorderMode = "valid",
    subsample: Ints = 1,
    dilation: Ints = 1,
    conv_mode: str = "cross",
    direction_hint: Any = None,
    workmem: Any = None,
    algo: Any = None,
    precision: Any = None,
    num_groups: int = 1,
) -> Tensor:
    """Correlate or convolve images or volumes by NVIDIA's cuDNN.

    Examples
    --------
    >>> import eagerconv as ec
    >>> y = ec.legacy.dnn_conv(images, filters)  # doctest: +SKIP
    """
    function = "dnn_conv"
    _one_of(function, "conv_mode", conv_mode, ("cross", "conv"))
    x = array(function, "img", img)
    if "cudnn" not in algorithms.names(x.device):
        raise algorithms.AlgorithmError(
            f"{function}: there is no cuDNN on {x.device!r}; conv2d(img, kerns, filter_flip={conv_mode == 'conv'}) gives the "
            "same there, and img.to('cuda') moves to a GPU"
        )
    return _forward(
        function, 3 if x.ndim == 5 else 2, {"img": x, "kerns": kerns}, border_mode, subsample, flip=conv_mode == "conv",
        dilation=dilation, groups=num_groups, algorithm="cudnn",
    )  # fmt: skip
