"""Normalisations that divide by a size and take away no mean: the root mean square, and the response of near channels."""

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from eagerconv.arguments import number, whole
from eagerconv.autograd import rules
from eagerconv.dtypes import widened
from eagerconv.functional.windows import Windows, sum_windows
from eagerconv.tensor import Tensor, asarray
from eagerconv.wrapping import floating

__all__ = ["local_response_norm", "rms_norm"]


def rms_norm(input: Any, normalized_shape: int | Sequence[int], weight: Any = None, eps: float = 1e-5) -> Tensor:
    """Give the last axes of every example the root mean square one, then a scale that is learned.

    Parameters
    ----------
    input : array_like, shape (..., *normalized_shape)
        Real numbers; integers and booleans count as float64.
    normalized_shape : int or ints
        The lengths of the last axes, over which the mean is taken.
    weight : array_like, shape normalized_shape, optional
        Scale.
    eps : float
        Added to the mean square; at least 0. PyTorch's default is the distance from 1 to the next number.

    Returns
    -------
    Tensor
        Of the same shape.

    Raises
    ------
    TypeError
        If the input is complex.
    ValueError
        If a shape does not fit.

    Notes
    -----
    Zhang and Sennrich, "Root mean square layer normalization", NeurIPS 2019.

    Examples
    --------
    >>> rms_norm([[3.0, 4.0, 5.0, 0.0]], 4, eps=0).round(3)
    tensor([[0.849, 1.131, 1.414, 0.   ]], dtype=float64)
    """
    tail = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    eps = number("rms_norm: eps", eps, "[0, inf)")
    x = _real("rms_norm", input)
    if not tail or x.shape[x.ndim - len(tail) :] != tail:
        raise ValueError(f"rms_norm: the last axes of the input {x.shape} must be normalized_shape={tail}")
    axes, wide = tuple(range(x.ndim - len(tail), x.ndim)), widened(x)
    out = wide / rules.sqrt((wide * wide).mean(axis=axes, keepdims=True) + eps)
    dtype = x.dtype
    if weight is not None:
        w = asarray(weight)
        if w.shape != tail:
            raise ValueError(f"rms_norm: weight must have shape normalized_shape={tail}, got {w.shape}")
        out, dtype = out * widened(w), np.result_type(x.dtype, w.dtype)
    return cast(Tensor, out if out.dtype == dtype else out.astype(dtype))


def local_response_norm(input: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """Divide by a power of the mean square over near channels: strong responses inhibit their neighbours.

    Parameters
    ----------
    input : array_like, shape (N, C, ...)
        Real numbers; integers and booleans count as float64.
    size : int
        How many channels, from size // 2 before to (size - 1) // 2 behind; those that are not there count as zeros.
    alpha, beta, k : float
        The input is divided by (k + alpha * mean)**beta. (Caffe, ONNX and PyTorch take the mean, the paper the sum.)

    Returns
    -------
    Tensor
        Of the same shape.

    Raises
    ------
    TypeError
        If the input is complex, or size is no int.
    ValueError
        If the input has fewer than two axes, or an option is out of range.

    Notes
    -----
    Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional neural networks", NeurIPS 2012.

    Examples
    --------
    >>> local_response_norm([[1.0, 2.0, 3.0]], 3, alpha=3, beta=1)
    tensor([[0.16666667, 0.13333333, 0.21428571]], dtype=float64)
    """
    name = "local_response_norm"
    size = whole(f"{name}: size", size, 1)
    alpha, beta, k = (number(f"{name}: {what}", v) for what, v in (("alpha", alpha), ("beta", beta), ("k", k)))
    x = _real(name, input)
    if x.ndim < 2:
        raise ValueError(f"{name}: the input must have shape (N, C, ...), got {x.shape}")
    n, c = x.shape[:2]
    wide = widened(x)
    squares = (wide * wide).reshape(n, c, math.prod(x.shape[2:]))  # (N, C, P), with windows along C
    plane, ones = squares.shape[1:], (1, 1)
    w = Windows(plane, (size, 1), ones, ones, ones, (size // 2, 0), ((size - 1) // 2, 0), plane)
    mean = sum_windows(squares, w=w).reshape(x.shape) / size
    out = wide / (k + alpha * mean) ** beta
    return cast(Tensor, out if out.dtype == x.dtype else out.astype(x.dtype))


def _real(name: str, input: Any) -> Tensor:
    x = floating(input)
    if x.dtype.kind == "c":
        raise TypeError(f"{name}: the input must be real, not {x.dtype}")
    return x
