"""The convolution functions: check arguments once, then one contraction. 1, 2 and 3 dimensions are the same code."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from eagerconv import geometry
from eagerconv.contract import contract
from eagerconv.functional.conv_docs import documented
from eagerconv.functional.epilogue import finish, wished
from eagerconv.policy import with_algorithm
from eagerconv.registry import TABLE
from eagerconv.spec import Slot
from eagerconv.tensor import Tensor, asarray

Ints: TypeAlias = int | Sequence[int]
BorderMode: TypeAlias = str | int | Sequence[int | tuple[int, int]]
ShapeHint: TypeAlias = Sequence[int | None] | None

# ----- The common body -----

_OURS = {"stride": "subsample", "strides": "subsample", "padding": "border_mode", "pad": "border_mode", "groups": "num_groups",
         "dilation": "filter_dilation", "rate": "filter_dilation", "weight": "filters", "output_padding": "output_shape",
         "output_size": "output_shape"}  # fmt: skip


def refuse_keywords(function: str, unknown: dict[str, Any]) -> None:
    """Raise for keywords nobody knows, and tell ours where those of other libraries are meant."""
    for name in unknown:
        if name in ("imshp_logical", "kshp_logical"):
            raise ValueError(f"{function}: {name} was an experiment of early Theano and is not supported; leave it out")
        ours = _OURS.get(name)
        if ours == "subsample" and function.endswith("transpose"):
            ours = "input_dilation"
        fix = f"; use {ours}= instead" if ours else ""
        raise TypeError(f"{function}() got an unexpected keyword argument {name!r}{fix}")


_NAMES = {name for table in TABLE.values() for algorithm in table for name in algorithm.dtypes}
_DTYPES = {np.dtype(name) for name in _NAMES if hasattr(np, name)}  # to look up fast; bfloat16 is not NumPy's own


def array(function: str, name: str, value: Any) -> Tensor:
    """The array argument `name` as a Tensor of numbers that can be convolved."""
    try:
        result = value if isinstance(value, Tensor) else asarray(value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{function}: {name} is not an array of numbers: {error}") from None
    if result.dtype not in _DTYPES and result.dtype.name not in _NAMES:
        raise TypeError(
            f"{function}: {name} has dtype {result.dtype}, which can't be convolved; convert it, e.g. to float32 "
            f"(there are {', '.join(sorted(_NAMES))})"
        )
    return result


def _arrays(function: str, arrays: dict[str, Any]) -> list[Tensor]:
    """The array arguments (two, and perhaps a bias) as Tensors of their common dtype."""
    tensors = [array(function, name, value) for name, value in arrays.items()]
    first = tensors[0].dtype
    if first != tensors[1].dtype or first != tensors[-1].dtype:
        common = np.result_type(*[t.dtype for t in tensors])
        tensors = [t if t.dtype == common else t.astype(common) for t in tensors]
    return tensors


_RULES = {"y": geometry.forward, "x": geometry.gradient_wrt_inputs, "w": geometry.gradient_wrt_weights}


def solve(function: str, ndim: int, slot: Slot, arrays: dict[str, Any], shapes: dict[str, Any], border_mode: Any,
          stride: dict[str, Any], filter_flip: Any, filter_dilation: Any, num_groups: Any, unshared: Any, algorithm: str,
          unknown: dict[str, Any], bias: Any = None, activation: str | None = None, **more: Any) -> Tensor:  # fmt: skip
    """Check everything against everything, once per set of arguments, and contract; bias and activation come on top.

    Named arguments come as dicts, for the messages; `more` are other names of a variant, see `geometry`.
    """
    if unknown:
        refuse_keywords(function, unknown)
    a, b, *rest = _arrays(function, arrays if bias is None else {**arrays, "bias": bias})
    frozen = geometry.frozen
    ((stride_name, stride_value),) = stride.items()
    spec = _RULES[slot](
        function, ndim, a.shape, b.shape,
        *[frozen(function, name, value) for name, value in shapes.items()],
        frozen(function, "border_mode", border_mode), frozen(function, stride_name, stride_value),
        geometry.flag(function, "filter_flip", filter_flip), frozen(function, "filter_dilation", filter_dilation),
        frozen(function, "num_groups", num_groups), geometry.flag(function, "unshared", unshared), **more,
    )  # fmt: skip
    policy = None if algorithm == "auto" else with_algorithm(algorithm)
    if bias is None and activation is None:
        return contract(spec, slot, a, b, policy)  # type: ignore[no-any-return]
    if activation not in (None, "relu"):
        raise ValueError(
            f"{function}: activation must be None or 'relu', got {activation!r}; apply another one to the result"
        )
    if activation is not None and a.dtype.kind == "c":
        raise TypeError(f"{function}: activation='relu' needs real numbers, not {a.dtype}")
    column = None if bias is None else per_channel(function, "bias", rest[0], spec.shape(slot)[1], ndim)
    wish = wished(a, column, activation)
    return finish(contract(spec, slot, a, b, policy, wish), column, activation, wish is not None and wish.met)


def per_channel(function: str, name: str, bias: Tensor, channels: int, ndim: int) -> Tensor:
    """A bias (F,) in the shape (F, 1, ...), which broadcasts over (batch, F, *spatial)."""
    if bias.shape != (channels,):
        raise ValueError(
            f"{function}: {name} must have shape ({channels},), one number per output channel, got {bias.shape}"
        )
    return bias.reshape((channels, *(1,) * ndim))


_TRANSPOSED = ("input", "output_shape", "input_dilation")  # public names where the gradient wrt inputs has others


def _image_shape(input_shape: ShapeHint, image_shape: ShapeHint) -> ShapeHint:
    if input_shape is not None:
        raise ValueError("conv2d: image_shape is the old name of input_shape; give only input_shape")
    warnings.warn("conv2d: image_shape is deprecated; use input_shape=", DeprecationWarning, stacklevel=3)
    return image_shape


# ----- 1-D -----


@documented
def conv1d(
    input: Any,
    filters: Any,
    input_shape: ShapeHint = None,
    filter_shape: ShapeHint = None,
    border_mode: BorderMode = "valid",
    subsample: Ints = 1,
    filter_flip: bool = True,
    filter_dilation: Ints = 1,
    num_groups: int = 1,
    unshared: bool = False,
    *,
    bias: Any = None,
    activation: str | None = None,
    algorithm: str = "auto",
    **unknown: Any,
) -> Tensor:
    """Convolve a batch of signals with a set of filters, over 1 spatial axis.

    Examples
    --------
    >>> import eagerconv as ec
    >>> ec.conv1d([[[1.0, 2.0, 3.0, 4.0, 5.0]]], [[[1.0, 10.0, 100.0]]]).numpy()
    array([[[123., 234., 345.]]])
    """
    return solve(
        "conv1d", 1, "y", {"input": input, "filters": filters}, {"input_shape": input_shape, "filter_shape": filter_shape},
        border_mode, {"subsample": subsample}, filter_flip, filter_dilation, num_groups, unshared, algorithm, unknown, bias,
        activation,
    )  # fmt: skip


@documented
def conv1d_transpose(
    input: Any,
    filters: Any,
    output_shape: ShapeHint = None,
    filter_shape: ShapeHint = None,
    border_mode: BorderMode = "valid",
    input_dilation: Ints = 1,
    filter_flip: bool = True,
    filter_dilation: Ints = 1,
    num_groups: int = 1,
    unshared: bool = False,
    *,
    bias: Any = None,
    activation: str | None = None,
    algorithm: str = "auto",
    **unknown: Any,
) -> Tensor:
    """Transposed convolution: the exact adjoint of `conv1d` with the same arguments.

    Examples
    --------
    >>> import eagerconv as ec
    >>> ec.conv1d_transpose([[[1.0, 2.0]]], [[[1.0, 10.0, 100.0]]]).numpy()
    array([[[100., 210.,  21.,   2.]]])
    """
    return solve(
        "conv1d_transpose", 1, "x", {"input": input, "filters": filters},
        {"output_shape": output_shape, "filter_shape": filter_shape}, border_mode, {"input_dilation": input_dilation},
        filter_flip, filter_dilation, num_groups, unshared, algorithm, unknown, bias, activation,
        names=_TRANSPOSED,
    )  # fmt: skip


@documented
def conv1d_grad_wrt_inputs(
    output_grad: Any,
    filters: Any,
    input_shape: ShapeHint,
    filter_shape: ShapeHint = None,
    border_mode: BorderMode = "valid",
    subsample: Ints = 1,
    filter_flip: bool = True,
    filter_dilation: Ints = 1,
    num_groups: int = 1,
    unshared: bool = False,
    *,
    algorithm: str = "auto",
    **unknown: Any,
) -> Tensor:
    """Gradient of `conv1d` with respect to its input; differentiable itself.

    Examples
    --------
    >>> import eagerconv as ec
    >>> ec.conv1d_grad_wrt_inputs([[[1.0, 1.0]]], [[[1.0, 10.0]]], (1, 1, 3)).numpy()
    array([[[10., 11.,  1.]]])
    """
    return solve(
        "conv1d_grad_wrt_inputs", 1, "x", {"output_grad": output_grad, "filters": filters},
        {"input_shape": input_shape, "filter_shape": filter_shape}, border_mode, {"subsample": subsample}, filter_flip,
        filter_dilation, num_groups, unshared, algorithm, unknown,
    )  # fmt: skip


@documented
def conv1d_grad_wrt_weights(
    input: Any,
    output_grad: Any,
    filter_shape: Sequence[int | None],
    input_shape: ShapeHint = None,
    border_mode: BorderMode = "valid",
    subsample: Ints = 1,
    filter_flip: bool = True,
    filter_dilation: Ints = 1,
    num_groups: int = 1,
    unshared: bool = False,
    *,
    algorithm: str = "auto",
    **unknown: Any,
) -> Tensor:
    """Gradient of `conv1d` with respect to its filters as they are stored; differentiable itself.

    Examples
    --------
    >>> import eagerconv as ec
    >>> ec.conv1d_grad_wrt_weights([[[1.0, 2.0, 3.0]]], [[[1.0, 1.0]]], (1, 1, 2)).numpy()
    array([[[5., 3.]]])
    """
    return solve(
        "conv1d_grad_wrt_weights", 1, "w", {"input": input, "output_grad": output_grad},
        {"filter_shape": filter_shape, "input_shape": input_shape}, border_mode, {"subsample": subsample}, filter_flip,
        filter_dilation, num_groups, unshared, algorithm, unknown,
    )  # fmt: skip


# ----- 2-D -----


@documented
def conv2d(
    input: Any,
    filters: Any,
    input_shape: ShapeHint = None,
    filter_shape: ShapeHint = None,
    border_mode: BorderMode = "valid",
    subsample: Ints = (1, 1),
    filter_flip: bool = True,
    image_shape: ShapeHint = None,
    filter_dilation: Ints = (1, 1),
    num_groups: int = 1,
    unshared: bool = False,
    *,
    bias: Any = None,
    activation: str | None = None,
    algorithm: str = "auto",
    **unknown: Any,
) -> Tensor:
    """Convolve a batch of images with a set of filters, over 2 spatial axes.

    Examples
    --------
    >>> import numpy as np, eagerconv as ec
    >>> image, blur = np.ones((1, 1, 4, 4)), np.full((1, 1, 3, 3), 1 / 9)
    >>> ec.conv2d(image, blur, border_mode="same").numpy().round(2)
    array([[[[0.44, 0.67, 0.67, 0.44],
             [0.67, 1.  , 1.  , 0.67],
             [0.67, 1.  , 1.  , 0.67],
             [0.44, 0.67, 0.67, 0.44]]]])
    """
    if image_shape is not None:
        input_shape = _image_shape(input_shape, image_shape)
    return solve(
        "conv2d", 2, "y", {"input": input, "filters": filters}, {"input_shape": input_shape, "filter_shape": filter_shape},
        border_mode, {"subsample": subsample}, filter_flip, filter_dilation, num_groups, unshared, algorithm, unknown, bias,
        activation,
    )  # fmt: skip


@documented
def conv2d_transpose(
    input: Any,
    filters: Any,
    output_shape: ShapeHint = None,
    filter_shape: ShapeHint = None,
    border_mode: BorderMode = "valid",
    input_dilation: Ints = (1, 1),
    filter_flip: bool = True,
    filter_dilation: Ints = (1, 1),
    num_groups: int = 1,
    unshared: bool = False,
    *,
    bias: Any = None,
    activation: str | None = None,
    algorithm: str = "auto",
    **unknown: Any,
) -> Tensor:
    """Transposed convolution: the exact adjoint of `conv2d` with the same arguments.

    Examples
    --------
    >>> import numpy as np, eagerconv as ec
    >>> code, filters = np.ones((1, 8, 5, 5)), np.ones((8, 3, 4, 4))
    >>> ec.conv2d_transpose(code, filters, (1, 3, 10, 10), border_mode=1, input_dilation=2).shape
    (1, 3, 10, 10)
    """
    return solve(
        "conv2d_transpose", 2, "x", {"input": input, "filters": filters},
        {"output_shape": output_shape, "filter_shape": filter_shape}, border_mode, {"input_dilation": input_dilation},
        filter_flip, filter_dilation, num_groups, unshared, algorithm, unknown, bias, activation,
        names=_TRANSPOSED,
    )  # fmt: skip


@documented
def conv2d_grad_wrt_inputs(
    output_grad: Any,
    filters: Any,
    input_shape: ShapeHint,
    filter_shape: ShapeHint = None,
    border_mode: BorderMode = "valid",
    subsample: Ints = (1, 1),
    filter_flip: bool = True,
    filter_dilation: Ints = (1, 1),
    num_groups: int = 1,
    unshared: bool = False,
    *,
    algorithm: str = "auto",
    **unknown: Any,
) -> Tensor:
    """Gradient of `conv2d` with respect to its input; differentiable itself.

    Examples
    --------
    >>> import numpy as np, eagerconv as ec
    >>> y_grad, w = np.ones((2, 4, 3, 3)), np.ones((4, 3, 2, 2))
    >>> ec.conv2d_grad_wrt_inputs(y_grad, w, (2, 3, 6, 6), subsample=2).shape
    (2, 3, 6, 6)
    """
    return solve(
        "conv2d_grad_wrt_inputs", 2, "x", {"output_grad": output_grad, "filters": filters},
        {"input_shape": input_shape, "filter_shape": filter_shape}, border_mode, {"subsample": subsample}, filter_flip,
        filter_dilation, num_groups, unshared, algorithm, unknown,
    )  # fmt: skip


@documented
def conv2d_grad_wrt_weights(
    input: Any,
    output_grad: Any,
    filter_shape: Sequence[int | None],
    input_shape: ShapeHint = None,
    border_mode: BorderMode = "valid",
    subsample: Ints = (1, 1),
    filter_flip: bool = True,
    filter_dilation: Ints = (1, 1),
    num_groups: int = 1,
    unshared: bool = False,
    *,
    algorithm: str = "auto",
    **unknown: Any,
) -> Tensor:
    """Gradient of `conv2d` with respect to its filters as they are stored; differentiable itself.

    Examples
    --------
    >>> import numpy as np, eagerconv as ec
    >>> x, y_grad = np.ones((2, 3, 8, 8)), np.ones((2, 4, 6, 6))
    >>> ec.conv2d_grad_wrt_weights(x, y_grad, (4, 3, 3, 3)).shape
    (4, 3, 3, 3)
    """
    return solve(
        "conv2d_grad_wrt_weights", 2, "w", {"input": input, "output_grad": output_grad},
        {"filter_shape": filter_shape, "input_shape": input_shape}, border_mode, {"subsample": subsample}, filter_flip,
        filter_dilation, num_groups, unshared, algorithm, unknown,
    )  # fmt: skip


# ----- 3-D -----


@documented
def conv3d(
    input: Any,
    filters: Any,
    input_shape: ShapeHint = None,
    filter_shape: ShapeHint = None,
    border_mode: BorderMode = "valid",
    subsample: Ints = (1, 1, 1),
    filter_flip: bool = True,
    filter_dilation: Ints = (1, 1, 1),
    num_groups: int = 1,
    unshared: bool = False,
    *,
    bias: Any = None,
    activation: str | None = None,
    algorithm: str = "auto",
    **unknown: Any,
) -> Tensor:
    """Convolve a batch of volumes with a set of filters, over 3 spatial axes.

    Examples
    --------
    >>> import numpy as np, eagerconv as ec
    >>> video = np.ones((2, 3, 8, 16, 16), np.float32)
    >>> ec.conv3d(video, np.ones((5, 3, 3, 3, 3), np.float32), subsample=(1, 2, 2)).shape
    (2, 5, 6, 7, 7)
    """
    return solve(
        "conv3d", 3, "y", {"input": input, "filters": filters}, {"input_shape": input_shape, "filter_shape": filter_shape},
        border_mode, {"subsample": subsample}, filter_flip, filter_dilation, num_groups, unshared, algorithm, unknown, bias,
        activation,
    )  # fmt: skip


@documented
def conv3d_transpose(
    input: Any,
    filters: Any,
    output_shape: ShapeHint = None,
    filter_shape: ShapeHint = None,
    border_mode: BorderMode = "valid",
    input_dilation: Ints = (1, 1, 1),
    filter_flip: bool = True,
    filter_dilation: Ints = (1, 1, 1),
    num_groups: int = 1,
    unshared: bool = False,
    *,
    bias: Any = None,
    activation: str | None = None,
    algorithm: str = "auto",
    **unknown: Any,
) -> Tensor:
    """Transposed convolution: the exact adjoint of `conv3d` with the same arguments.

    Examples
    --------
    >>> import numpy as np, eagerconv as ec
    >>> code, filters = np.ones((1, 8, 2, 5, 5)), np.ones((8, 3, 2, 2, 2))
    >>> ec.conv3d_transpose(code, filters, (None, None, 4, 10, 10), input_dilation=2).shape
    (1, 3, 4, 10, 10)
    """
    return solve(
        "conv3d_transpose", 3, "x", {"input": input, "filters": filters},
        {"output_shape": output_shape, "filter_shape": filter_shape}, border_mode, {"input_dilation": input_dilation},
        filter_flip, filter_dilation, num_groups, unshared, algorithm, unknown, bias, activation,
        names=_TRANSPOSED,
    )  # fmt: skip


@documented
def conv3d_grad_wrt_inputs(
    output_grad: Any,
    filters: Any,
    input_shape: ShapeHint,
    filter_shape: ShapeHint = None,
    border_mode: BorderMode = "valid",
    subsample: Ints = (1, 1, 1),
    filter_flip: bool = True,
    filter_dilation: Ints = (1, 1, 1),
    num_groups: int = 1,
    unshared: bool = False,
    *,
    algorithm: str = "auto",
    **unknown: Any,
) -> Tensor:
    """Gradient of `conv3d` with respect to its input; differentiable itself.

    Examples
    --------
    >>> import numpy as np, eagerconv as ec
    >>> y_grad, w = np.ones((2, 4, 3, 3, 3)), np.ones((4, 3, 2, 2, 2))
    >>> ec.conv3d_grad_wrt_inputs(y_grad, w, (2, 3, 4, 4, 4)).shape
    (2, 3, 4, 4, 4)
    """
    return solve(
        "conv3d_grad_wrt_inputs", 3, "x", {"output_grad": output_grad, "filters": filters},
        {"input_shape": input_shape, "filter_shape": filter_shape}, border_mode, {"subsample": subsample}, filter_flip,
        filter_dilation, num_groups, unshared, algorithm, unknown,
    )  # fmt: skip


@documented
def conv3d_grad_wrt_weights(
    input: Any,
    output_grad: Any,
    filter_shape: Sequence[int | None],
    input_shape: ShapeHint = None,
    border_mode: BorderMode = "valid",
    subsample: Ints = (1, 1, 1),
    filter_flip: bool = True,
    filter_dilation: Ints = (1, 1, 1),
    num_groups: int = 1,
    unshared: bool = False,
    *,
    algorithm: str = "auto",
    **unknown: Any,
) -> Tensor:
    """Gradient of `conv3d` with respect to its filters as they are stored; differentiable itself.

    Examples
    --------
    >>> import numpy as np, eagerconv as ec
    >>> x, y_grad = np.ones((2, 3, 8, 8, 8)), np.ones((2, 4, 6, 6, 6))
    >>> ec.conv3d_grad_wrt_weights(x, y_grad, (4, 3, 3, 3, 3)).shape
    (4, 3, 3, 3, 3)
    """
    return solve(
        "conv3d_grad_wrt_weights", 3, "w", {"input": input, "output_grad": output_grad},
        {"filter_shape": filter_shape, "input_shape": input_shape}, border_mode, {"subsample": subsample}, filter_flip,
        filter_dilation, num_groups, unshared, algorithm, unknown,
    )  # fmt: skip
