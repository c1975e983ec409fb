"""Bilinear interpolation as a transposed convolution: a fixed kernel spreads every pixel over its neighbourhood."""

import math
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from eagerconv import geometry
from eagerconv.functional.array import concatenate
from eagerconv.functional.conv import array, conv2d_transpose
from eagerconv.tensor import Tensor

Fractions: TypeAlias = tuple[tuple[int, int], tuple[int, int]]  # (p, q) of rows and of columns

# ----- Kernels -----


def bilinear_kernel_1D(ratio: int, normalize: bool = True) -> npt.NDArray[np.float64]:
    """The triangle 1, 2, ..., ratio, ..., 2, 1 with which a transposed convolution interpolates linearly.

    Parameters
    ----------
    ratio : int
        The stride of the transposed convolution: by how much it upsamples.
    normalize : bool
        Divide by ratio: then the peak is 1, the sum is ratio, and the kernel keeps the values it meets.

    Returns
    -------
    numpy.ndarray, shape (2 * ratio - 1,)
        float64.

    Raises
    ------
    ValueError
        If ratio is no int >= 1.

    Notes
    -----
    Source: ``theano.tensor.nnet.abstract_conv.bilinear_kernel_1D`` of Theano 1.0.

    Examples
    --------
    >>> bilinear_kernel_1D(2)
    array([0.5, 1. , 0.5])
    """
    ratio = _positive("bilinear_kernel_1D", "ratio", ratio)
    kernel = ratio - np.abs(np.arange(1 - ratio, ratio, dtype=np.float64))
    return kernel / ratio if normalize else kernel


def bilinear_kernel_2D(ratio: int | tuple[int, int], normalize: bool = True) -> npt.NDArray[np.float64]:
    """The pyramid with which a transposed convolution interpolates bilinearly: an outer product of two triangles.

    Parameters
    ----------
    ratio : int or (int, int)
        The stride of the transposed convolution, for both axes or (vertical, horizontal).
    normalize : bool
        Divide by both ratios: then the peak is 1.

    Returns
    -------
    numpy.ndarray, shape (2 * vertical - 1, 2 * horizontal - 1)
        float64.

    Raises
    ------
    ValueError
        If ratio is neither an int >= 1 nor a pair of them.

    Notes
    -----
    Source: ``theano.tensor.nnet.abstract_conv.bilinear_kernel_2D`` of Theano 1.0.

    Examples
    --------
    >>> bilinear_kernel_2D((1, 2))
    array([[0.5, 1. , 0.5]])
    """
    pair = geometry.frozen("bilinear_kernel_2D", "ratio", ratio)
    pair = pair if type(pair) is tuple else (pair, pair)
    if len(pair) != 2:
        raise ValueError(f"bilinear_kernel_2D: ratio must be an int or a pair (vertical, horizontal), got {ratio!r}")
    vertical, horizontal = (_positive("bilinear_kernel_2D", "ratio", r) for r in pair)
    return np.outer(bilinear_kernel_1D(vertical, normalize), bilinear_kernel_1D(horizontal, normalize))


def _positive(function: str, name: str, value: Any) -> int:
    number = geometry.frozen(function, name, value)
    if type(number) is not int or number < 1:
        raise ValueError(f"{function}: {name} must be made of ints >= 1, got {value!r}")
    return number


# ----- Upsampling -----


def bilinear_upsampling(
    input: Any,
    ratio: int | None = None,
    frac_ratio: Any = None,
    batch_size: int | None = None,
    num_input_channels: int | None = None,
    use_1D_kernel: bool = True,
) -> Tensor:
    """Resize images by a whole or fractional factor, interpolating linearly between rows and between columns.

    With the factor p/q in lowest terms, n rows become ceil(n*p/q), and row j is the input at (j*q - (p-1)//2) / p,
    between two rows or beyond the first or last one, where it repeats that one.

    Parameters
    ----------
    input : array_like, shape (batch, channels, rows, columns)
        Integers are resized in float64; other dtypes are kept.
    ratio : int, optional
        The factor of both axes; 0 and None: not given.
    frac_ratio : (int, int) or ((int, int), (int, int)), optional
        A fraction (p, q), for both axes or (rows, columns). Either `ratio` or `frac_ratio` must be given.
    batch_size, num_input_channels : int, optional
        Expected sizes of `input`; they change nothing, but a mismatch raises.
    use_1D_kernel : bool
        Resize rows and columns one after the other, which is less work and less memory, or both at once.
        The result is the same but for rounding.

    Returns
    -------
    Tensor
        Shape (batch, channels, ceil(rows * p/q), ceil(columns * p/q)).

    Raises
    ------
    ValueError
        If both ratios are given, or none, or one is malformed; if the shape of `input` is not the one expected.
    TypeError
        For arrays that can't be convolved (objects, strings).

    Notes
    -----
    Source: ``theano.tensor.nnet.abstract_conv.bilinear_upsampling`` of Theano 1.0, which can use the 1-D kernel for whole
    factors only.

    Examples
    --------
    >>> import eagerconv as ec
    >>> ec.bilinear_upsampling([[[[1.0, 2.0, 4.0]]]], 2).numpy()
    array([[[[1. , 1.5, 2. , 3. , 4. , 4. ],
             [1. , 1.5, 2. , 3. , 4. , 4. ]]]])
    >>> ec.bilinear_upsampling([[[[1.0, 2.0, 4.0]]]], frac_ratio=((1, 1), (3, 2))).numpy().round(2)
    array([[[[1.  , 1.33, 2.  , 3.33, 4.  ]]]])
    """
    function = "bilinear_upsampling"
    given = [name for name, r in (("ratio", ratio), ("frac_ratio", frac_ratio)) if r is not None and not _is_zero(r)]
    if len(given) != 1:
        raise ValueError(f"{function}: give either ratio or frac_ratio, got {' and '.join(given) or 'none of them'}")
    if given == ["ratio"]:
        if isinstance(ratio, (tuple, list)):
            raise ValueError(f"{function}: ratio must be an int, got {ratio!r}; use frac_ratio=((p, q), (p, q))")
        fractions = ((_positive(function, "ratio", ratio), 1),) * 2
    else:
        fractions = _fractions(function, frac_ratio)
    x = _images(function, input)
    for name, hint, size in zip(
        ("batch_size", "num_input_channels"), (batch_size, num_input_channels), x.shape[:2], strict=True
    ):
        if hint is not None and hint != size:
            raise ValueError(f"{function}: {name} is {hint!r}, but input has shape {x.shape}")
    return _upsample(x, fractions, geometry.flag(function, "use_1D_kernel", use_1D_kernel))


def frac_bilinear_upsampling(input: Any, frac_ratio: Any) -> Tensor:
    """Resize images by a fraction: `bilinear_upsampling` with only `frac_ratio`.

    Parameters
    ----------
    input : array_like, shape (batch, channels, rows, columns)
        Integers are resized in float64; other dtypes are kept.
    frac_ratio : (int, int) or ((int, int), (int, int))
        A fraction (p, q), for both axes or (rows, columns).

    Returns
    -------
    Tensor
        Shape (batch, channels, ceil(rows * p/q), ceil(columns * p/q)).

    Raises
    ------
    ValueError
        If frac_ratio is no tuple, or malformed, or `input` has no rows or no columns.
    TypeError
        For arrays that can't be convolved (objects, strings).

    Notes
    -----
    Source: ``theano.tensor.nnet.abstract_conv.frac_bilinear_upsampling`` of Theano 1.0.

    Examples
    --------
    >>> import eagerconv as ec
    >>> ec.frac_bilinear_upsampling([[[[1.0, 2.0, 3.0, 4.0]]]], (1, 2)).numpy()
    array([[[[1., 3.]]]])
    """
    function = "frac_bilinear_upsampling"
    return _upsample(_images(function, input), _fractions(function, frac_ratio), True)


def _is_zero(ratio: Any) -> bool:
    return isinstance(ratio, (int, np.integer)) and ratio == 0


def _fractions(function: str, frac_ratio: Any) -> Fractions:
    """(p, q) in lowest terms for rows and for columns."""
    pairs = frac_ratio
    if type(pairs) is tuple and not any(type(pair) is tuple for pair in pairs):
        pairs = (pairs, pairs)
    if type(pairs) is not tuple or len(pairs) != 2 or not all(type(pair) is tuple and len(pair) == 2 for pair in pairs):
        raise ValueError(
            f"{function}: frac_ratio must be a tuple (p, q), or ((p, q), (p, q)) for rows and columns, got {frac_ratio!r}"
        )
    rows, columns = (_lowest_terms(*(_positive(function, "frac_ratio", number) for number in pair)) for pair in pairs)
    return rows, columns


def _lowest_terms(p: int, q: int) -> tuple[int, int]:
    divisor = math.gcd(p, q)
    return p // divisor, q // divisor


def _images(function: str, input: Any) -> Tensor:
    x = array(function, "input", input)
    geometry.check_axes(function, "input", x.shape, ("batch", "channels", *geometry.AXES[2]))
    if 0 in x.shape[2:]:
        raise ValueError(f"{function}: input must have at least one row and one column, got shape {x.shape}")
    return x if x.dtype.kind not in "biu" else x.astype(np.float64)


def _upsample(x: Tensor, fractions: Fractions, one_axis_at_a_time: bool) -> Tensor:
    """Resize both axes by p/q: transposed convolutions of stride p, of whose results every q-th row is kept."""
    batch, channels, rows, columns = x.shape
    images = x.reshape((batch * channels, 1, rows, columns))  # all with the same kernel
    if one_axis_at_a_time:
        images = _interpolate(_interpolate(images, (fractions[0], (1, 1))), ((1, 1), fractions[1]))
    else:
        images = _interpolate(images, fractions)
    return images.reshape((batch, channels, *images.shape[2:]))


def _interpolate(x: Tensor, ratios: Fractions) -> Tensor:
    """Bilinear interpolation of (N, 1, rows, columns) by a 2-D kernel; an axis of ratio 1 has the kernel [1].

    Along one axis, let e be the input with its first and last entry repeated once, e[i+1] = x[i]. The transposed
    convolution of stride p with the triangle of 2p-1 taps, peak 1 at k = p-1, puts e[i+1] at its full output's
    u = (i+1)*p + p-1 and interpolates linearly between. Row j of the result, the input at t = (j*q - (p-1)//2)/p, is
    therefore u = (t+1)*p + p-1 = j*q + 2p-1 - (p-1)//2: crop that many, keep n*p, and of those every q-th. -1/2 < t < n:
    one repeated entry on each side is enough.
    """
    (p, q), (pp, qq) = ratios
    sizes = (x.shape[2] * p, x.shape[3] * pp)
    for axis, ratio in ((2, p), (3, pp)):
        if ratio > 1:
            first, last = ((slice(None),) * axis + (end,) for end in (slice(0, 1), slice(-1, None)))
            x = concatenate([x[first], x, x[last]], axis)
    if p * pp > 1:
        kernel = bilinear_kernel_2D((p, pp)).astype(x.dtype)[None, None]  # (1, 1, 2p-1, 2p-1)
        crops = tuple(2 * r - 1 - (r - 1) // 2 if r > 1 else 0 for r in (p, pp))
        x = conv2d_transpose(x, kernel, (None, None, *sizes), border_mode=crops, input_dilation=(p, pp))
    return x[:, :, ::q, ::qq] if q * qq > 1 else x
