"""The convolution functions: check arguments once, then one contraction. 1, 2 and 3 dimensions are the same code."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np

from eagerconv import geometry, mistakes
from eagerconv.algorithms.policy import with_algorithm
from eagerconv.algorithms.registry import TABLE
from eagerconv.contract import contract
from eagerconv.functional import spreading
from eagerconv.functional.conv_docs import documented
from eagerconv.functional.epilogue import convolved
from eagerconv.spec import ConvSpec, Slot
from eagerconv.tensor import Tensor, asarray

Ints: TypeAlias = int | Sequence[int]
BorderMode: TypeAlias = str | int | Sequence[int | tuple[int, int]]
ShapeHint: TypeAlias = Sequence[int | None] | None

# ----- The common body -----

HINTS = frozenset({"openmp", "unroll_batch", "unroll_kern", "unroll_patch", "verbose", "version"})
"""Keywords of Theano's old ConvOp, by which it chose among its loops; functions that took them still do."""


def refuse_keywords(function: str, unknown: dict[str, Any], hints: frozenset[str] = frozenset()) -> None:
    """Raise for keywords nobody knows, and tell ours where those of other libraries are meant; `hints` have no effect."""
    for name in unknown:
        if name in ("imshp_logical", "kshp_logical"):
            raise ValueError(f"{function}: {name} was an experiment of early Theano and is not supported; leave it out")
        if name not in hints:
            raise mistakes.unexpected(function, name)
    text = f"{function}: {', '.join(unknown)} has no effect; leave it out"
    warnings.warn(text, DeprecationWarning, stacklevel=mistakes.outside())


_NAMES = {name for table in TABLE.values() for algorithm in table for name in algorithm.dtypes}
_DTYPES = {np.dtype(name) for name in _NAMES if hasattr(np, name)}  # to look up fast; bfloat16 is not NumPy's own


def array(function: str, name: str, value: Any) -> Tensor:
    """The array argument `name` as a Tensor of numbers that can be convolved."""
    result = value if isinstance(value, Tensor) else asarray(value)
    if result.dtype not in _DTYPES and result.dtype.name not in _NAMES:
        raise TypeError(
            f"{function}: {name} has dtype {result.dtype}, which can't be convolved; convert it, e.g. to float32 "
            f"(there are {', '.join(sorted(_NAMES))})"
        )
    return result


@dataclass(frozen=True, eq=False, slots=True)
class Function:
    """What is fixed of a public function: its name, the slot that it solves for, and what its arguments are called.

    `names` are those by which `geometry` tells of them, where they are not its own.
    """

    name: str
    ndim: int
    slot: Slot
    arrays: tuple[str, str] = ("input", "filters")
    shapes: tuple[str, str] = ("input_shape", "filter_shape")
    stride: str = "subsample"
    names: tuple[str, ...] | None = None
    hints: frozenset[str] = frozenset()  # keywords that are taken and have no effect


@lru_cache(maxsize=64)
def forward(name: str, ndim: int, arrays: tuple[str, str], shapes: tuple[str, str]) -> Function:
    """A variant of the forward convolution, whose arguments have other names."""
    return Function(name, ndim, "y", arrays, shapes, names=(*arrays, *shapes))


Options: TypeAlias = tuple[Any, Any, Any, Any, Any, Any, Any, Any]
"""Two shapes, border_mode, stride, filter_flip, filter_dilation, num_groups and unshared, as the user gave them."""


def _arrays(of: Function, a: Any, b: Any, bias: Any) -> list[Tensor]:
    """The array arguments (two, and perhaps a bias) as Tensors of their common dtype."""
    given = zip((*of.arrays, "bias"), (a, b) if bias is None else (a, b, bias), strict=False)
    tensors = [array(of.name, name, value) for name, value in given]
    first = tensors[0].dtype
    if first != tensors[1].dtype or first != tensors[-1].dtype:
        common = np.result_type(*[t.dtype for t in tensors])
        tensors = [t if t.dtype == common else t.astype(common) for t in tensors]
    return tensors


_RULES = {"y": geometry.forward, "x": geometry.gradient_wrt_inputs, "w": geometry.gradient_wrt_weights}
_PLAIN = {int, str, bool, type(None)}
_MOST_SEEN = 1024
_seen: dict[tuple[Any, ...], tuple[Options, ConvSpec]] = {}
"""The specs of earlier calls, by function, shapes and the identities of the options. These are kept beside the spec, so that
no other object gets an identity that is a key: the same identity is the same value, which for 1, 1.0 and True equality is not.
"""


def _checked(of: Function, key: tuple[Any, ...], options: Options) -> ConvSpec:
    """Check everything against everything, and remember what came out if nobody can change the options meanwhile."""
    name, frozen, flag = of.name, geometry.frozen, geometry.flag
    first, second, border_mode, stride, flip, dilation, groups, unshared = options
    more = {} if of.names is None else {"names": of.names}
    spec = _RULES[of.slot](
        name, of.ndim, key[1], key[2], frozen(name, of.shapes[0], first), frozen(name, of.shapes[1], second),
        frozen(name, "border_mode", border_mode), frozen(name, of.stride, stride), flag(name, "filter_flip", flip),
        frozen(name, "filter_dilation", dilation), frozen(name, "num_groups", groups), flag(name, "unshared", unshared),
        **more,
    )  # fmt: skip
    if all(map(_lasting, options)):
        if len(_seen) >= _MOST_SEEN:
            _seen.clear()
        _seen[key] = options, spec
    return spec


def _lasting(value: Any) -> bool:
    return type(value) in _PLAIN or (type(value) is tuple and all(map(_lasting, value)))


def solve(of: Function, a: Any, b: Any, options: Options, algorithm: str = "auto", unknown: dict[str, Any] | None = None,
          bias: Any = None, activation: str | None = None) -> Tensor:  # fmt: skip
    """Contract two arrays as the options say, which are checked once; bias and activation come on top."""
    spec: ConvSpec | None = None
    try:
        if unknown:
            refuse_keywords(of.name, unknown, of.hints)
        rest: list[Tensor] = []
        if not (
            type(a) is type(b) is Tensor and a.data.dtype is b.data.dtype and a.data.dtype in _DTYPES and bias is None
        ):
            a, b, *rest = _arrays(of, a, b, bias)
        key = (of, a.data.shape, b.data.shape, *map(id, options))
        found = _seen.get(key)
        spec = _checked(of, key, options) if found is None else found[1]
        policy = None if algorithm == "auto" else with_algorithm(algorithm)
        if bias is None and activation is None:
            return contract(spec, of.slot, a, b, policy)  # type: ignore[no-any-return]
        if activation not in (None, "relu"):
            raise ValueError(
                f"{of.name}: activation must be None or 'relu', got {activation!r}; apply another one to the result"
            )
        if activation is not None and a.dtype.kind == "c":
            raise TypeError(f"{of.name}: activation='relu' needs real numbers, not {a.dtype}")
        column = None if bias is None else per_channel(of.name, "bias", rest[0], spec.shape(of.slot)[1], of.ndim)
        return convolved(spec, of.slot, a, b, policy, column, activation)
    except MemoryError as error:
        if spec is None:
            raise
        raise MemoryError(_no_memory(of, spec, a.dtype, options[2], error)) from None
    except Exception as error:
        mistakes.shorten(error)
        raise


def _no_memory(of: Function, spec: ConvSpec, dtype: np.dtype[Any], border_mode: Any, error: MemoryError) -> str:
    shape = spec.shape(of.slot)
    size = math.prod(shape) * dtype.itemsize / 2**30
    return (
        f"{of.name}: there is not enough memory for a result of shape {shape} and {dtype}, {size:,.1f} GiB, and the work on "
        f"it; border_mode={border_mode!r} is the number of zeros at each side of an axis, or a mode ({error})"
    )


def per_channel(function: str, name: str, bias: Tensor, channels: int, ndim: int) -> Tensor:
    """A bias (F,) in the shape (F, 1, ...), which broadcasts over (batch, F, *spatial)."""
    if bias.shape != (channels,):
        raise ValueError(
            f"{function}: {name} must have shape ({channels},), one number per output channel, got {bias.shape}"
        )
    return bias.reshape((channels, *(1,) * ndim))


_CONV = {n: Function(f"conv{n}d", n, "y", hints=HINTS if n == 2 else frozenset()) for n in (1, 2, 3)}
_TRANSPOSE = {
    n: Function(
        f"conv{n}d_transpose",
        n,
        "x",
        shapes=("output_shape", "filter_shape"),
        stride="input_dilation",
        names=("input", "output_shape", "input_dilation"),
    )
    for n in (1, 2, 3)
}
_INPUTS = {n: Function(f"conv{n}d_grad_wrt_inputs", n, "x", ("output_grad", "filters")) for n in (1, 2, 3)}
_WEIGHTS = {
    n: Function(f"conv{n}d_grad_wrt_weights", n, "w", ("input", "output_grad"), ("filter_shape", "input_shape"))
    for n in (1, 2, 3)
}


def _image_shape(input_shape: ShapeHint, image_shape: ShapeHint) -> ShapeHint:
    if input_shape is not None:
        raise ValueError("conv2d: image_shape is the old name of input_shape; give only input_shape")
    warnings.warn(
        "conv2d: image_shape is deprecated; use input_shape=", DeprecationWarning, stacklevel=mistakes.outside()
    )
    return image_shape


def _spread(ndim: int, input: Any, filters: Any, options: Options, input_dilation: Any, num_batch_groups: Any,
            algorithm: str, unknown: dict[str, Any], bias: Any, activation: str | None) -> Tensor:  # fmt: skip
    """The convolution of images that are spread out, or of a batch in groups: composed of others that know neither."""
    of = _CONV[ndim]
    hint, filter_hint, border_mode, stride, flip, dilation, groups, unshared = options
    x, w = array(of.name, "input", input), array(of.name, "filters", filters)
    steps = spreading.checked(of.name, ndim, x.shape, hint, input_dilation)
    if num_batch_groups != 1:
        x, groups = spreading.by_groups(of.name, x, w.shape, num_batch_groups, groups), num_batch_groups
    options = (None, filter_hint, border_mode, stride, flip, dilation, groups, unshared)
    if all(step == 1 for step in steps):
        return solve(of, x, w, options, algorithm, unknown, bias, activation)
    shape = spreading.spread_shape(x.shape, steps)
    spec = _checked(of, (of, shape, w.shape, *map(id, options)), options)
    crop = spreading.crop(spec)
    if crop is None or 0 in x.shape:
        return solve(of, spreading.spread(x, shape, steps), w, options, algorithm, unknown, bias, activation)
    options = (spec.shape("y"), None, crop, steps, not flip, dilation, groups, False)
    return solve(_TRANSPOSE[ndim], x, spreading.swapped(w, spec), options, algorithm, unknown, bias, activation)


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
    input_dilation: Ints = 1,
    num_batch_groups: int = 1,
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
    options = (input_shape, filter_shape, border_mode, subsample, filter_flip, filter_dilation, num_groups, unshared)
    if input_dilation != 1 or num_batch_groups != 1:
        more = (input_dilation, num_batch_groups)
        return _spread(1, input, filters, options, *more, algorithm, unknown, bias, activation)
    return solve(_CONV[1], input, filters, options, algorithm, unknown, bias, activation)


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
    options = (
        output_shape,
        filter_shape,
        border_mode,
        input_dilation,
        filter_flip,
        filter_dilation,
        num_groups,
        unshared,
    )
    return solve(_TRANSPOSE[1], input, filters, options, algorithm, unknown, bias, activation)


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
    options = (input_shape, filter_shape, border_mode, subsample, filter_flip, filter_dilation, num_groups, unshared)
    return solve(_INPUTS[1], output_grad, filters, options, algorithm, unknown)


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
    options = (filter_shape, input_shape, border_mode, subsample, filter_flip, filter_dilation, num_groups, unshared)
    return solve(_WEIGHTS[1], input, output_grad, options, algorithm, unknown)


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
    input_dilation: Ints = 1,
    num_batch_groups: int = 1,
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
    options = (input_shape, filter_shape, border_mode, subsample, filter_flip, filter_dilation, num_groups, unshared)
    if input_dilation != 1 or num_batch_groups != 1:
        more = (input_dilation, num_batch_groups)
        return _spread(2, input, filters, options, *more, algorithm, unknown, bias, activation)
    return solve(_CONV[2], input, filters, options, algorithm, unknown, bias, activation)


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
    options = (
        output_shape,
        filter_shape,
        border_mode,
        input_dilation,
        filter_flip,
        filter_dilation,
        num_groups,
        unshared,
    )
    return solve(_TRANSPOSE[2], input, filters, options, algorithm, unknown, bias, activation)


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
    options = (input_shape, filter_shape, border_mode, subsample, filter_flip, filter_dilation, num_groups, unshared)
    return solve(_INPUTS[2], output_grad, filters, options, algorithm, unknown)


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
    options = (filter_shape, input_shape, border_mode, subsample, filter_flip, filter_dilation, num_groups, unshared)
    return solve(_WEIGHTS[2], input, output_grad, options, algorithm, unknown)


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
    input_dilation: Ints = 1,
    num_batch_groups: int = 1,
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
    options = (input_shape, filter_shape, border_mode, subsample, filter_flip, filter_dilation, num_groups, unshared)
    if input_dilation != 1 or num_batch_groups != 1:
        more = (input_dilation, num_batch_groups)
        return _spread(3, input, filters, options, *more, algorithm, unknown, bias, activation)
    return solve(_CONV[3], input, filters, options, algorithm, unknown, bias, activation)


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
    options = (
        output_shape,
        filter_shape,
        border_mode,
        input_dilation,
        filter_flip,
        filter_dilation,
        num_groups,
        unshared,
    )
    return solve(_TRANSPOSE[3], input, filters, options, algorithm, unknown, bias, activation)


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
    options = (input_shape, filter_shape, border_mode, subsample, filter_flip, filter_dilation, num_groups, unshared)
    return solve(_INPUTS[3], output_grad, filters, options, algorithm, unknown)


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
    options = (filter_shape, input_shape, border_mode, subsample, filter_flip, filter_dilation, num_groups, unshared)
    return solve(_WEIGHTS[3], input, output_grad, options, algorithm, unknown)
