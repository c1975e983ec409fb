"""Initialisers: random parameters whose scale keeps signals and gradients from growing or vanishing from layer to layer.

Shapes are those of `linear` weights, (O, I), and of filters, (O, I / groups, *kernel). Every output is a sum of fan_in
products, fan_in = I / groups * prod(kernel), and every input is part of fan_out sums, fan_out = O / groups *
prod(kernel). Transposed convolutions exchange the two: their filters are (C_in, C_out / groups, *kernel), and strides
divide the number of products further.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from eagerconv.arguments import generator, number, whole
from eagerconv.tensor import Tensor, tensor

__all__ = [
    "fans", "glorot_normal", "glorot_uniform", "he_normal", "he_uniform", "ones", "orthogonal", "zeros",
]  # fmt: skip

GAINS = {"linear": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2), "selu": 0.75}


def fans(shape: Sequence[int], num_groups: int = 1) -> tuple[int, int]:
    """How many products are summed for an output, and how many sums an input is part of.

    PyTorch's fan_out is num_groups times larger in grouped layers, where it does not know of the groups.

    Raises
    ------
    ValueError
        If the shape has fewer than two axes, or the groups do not divide the outputs.

    Examples
    --------
    >>> fans((64, 32, 3, 3))
    (288, 576)
    >>> fans((32, 1, 3, 3), num_groups=32)
    (9, 9)
    """
    if len(shape) < 2 or shape[0] % whole("fans: num_groups", num_groups, 1):
        raise ValueError(
            f"fans: expected a shape (O, I / num_groups, *kernel) with O a multiple of num_groups={num_groups}, "
            f"got {tuple(shape)}"
        )
    kernel = math.prod(shape[2:])
    return shape[1] * kernel, shape[0] // num_groups * kernel


def he_normal(
    shape: Sequence[int],
    rng: np.random.Generator,
    num_groups: int = 1,
    gain: float | str = "relu",
    fan: str = "in",
    dtype: npt.DTypeLike = "float32",
) -> Tensor:
    """Draw normal numbers of variance gain**2 / fan_in: what keeps the variance of signals through layers with `relu`.

    Parameters
    ----------
    shape : sequence of ints
        (O, I / num_groups, *kernel).
    rng : numpy.random.Generator
        Where the randomness comes from.
    num_groups : int
        Of the convolution.
    gain : float or {"linear", "sigmoid", "tanh", "relu", "selu"}
        How much the activation takes from the standard deviation.
    fan : {"in", "out"}
        Keep the variance of signals, or of gradients.
    dtype : dtype
        Of the parameters.

    Returns
    -------
    Tensor
        A leaf that requires a gradient.

    Raises
    ------
    TypeError
        If `rng` is not a Generator.
    ValueError
        For a shape without fans, an unknown or negative gain, or an unknown fan.

    Notes
    -----
    He et al., "Delving deep into rectifiers", ICCV 2015; PyTorch's kaiming_normal_.

    Examples
    --------
    >>> w = he_normal((64, 32, 3, 3), np.random.default_rng(0))
    >>> round(float(w.data.std() ** 2 * 32 * 9), 1)
    2.0
    """
    return _drawn(generator("rng", rng).standard_normal(shape) * _he(shape, num_groups, gain, fan), dtype)


def he_uniform(
    shape: Sequence[int],
    rng: np.random.Generator,
    num_groups: int = 1,
    gain: float | str = "relu",
    fan: str = "in",
    dtype: npt.DTypeLike = "float32",
) -> Tensor:
    """Draw uniform numbers of the same variance as `he_normal` does, with the same parameters.

    Examples
    --------
    >>> w = he_uniform((8, 3), np.random.default_rng(0))
    >>> bool(abs(w.data).max() <= np.sqrt(3 * 2 / 3))
    True
    """
    return _drawn(
        generator("rng", rng).uniform(-1, 1, shape) * (math.sqrt(3) * _he(shape, num_groups, gain, fan)), dtype
    )


def glorot_normal(
    shape: Sequence[int],
    rng: np.random.Generator,
    num_groups: int = 1,
    gain: float | str = "linear",
    dtype: npt.DTypeLike = "float32",
) -> Tensor:
    """Draw normal numbers of variance 2 gain**2 / (fan_in + fan_out), between keeping that of signals and of gradients.

    Parameters, result and errors as for `he_normal`.

    Notes
    -----
    Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks", AISTATS 2010;
    PyTorch's xavier_normal_.

    Examples
    --------
    >>> glorot_normal((64, 32, 3, 3), np.random.default_rng(0)).shape
    (64, 32, 3, 3)
    """
    return _drawn(generator("rng", rng).standard_normal(shape) * _glorot(shape, num_groups, gain), dtype)


def glorot_uniform(
    shape: Sequence[int],
    rng: np.random.Generator,
    num_groups: int = 1,
    gain: float | str = "linear",
    dtype: npt.DTypeLike = "float32",
) -> Tensor:
    """Draw uniform numbers of the same variance as `glorot_normal` does, with the same parameters.

    Examples
    --------
    >>> w = glorot_uniform((3, 3), np.random.default_rng(0))
    >>> bool(abs(w.data).max() <= 1)
    True
    """
    return _drawn(
        generator("rng", rng).uniform(-1, 1, shape) * (math.sqrt(3) * _glorot(shape, num_groups, gain)), dtype
    )


def orthogonal(
    shape: Sequence[int], rng: np.random.Generator, gain: float | str = "linear", dtype: npt.DTypeLike = "float32"
) -> Tensor:
    """Draw filters that are orthogonal to each other and of length `gain`; if there are too many, their transposes are.

    Parameters
    ----------
    shape : sequence of ints
        (O, ...), seen as a matrix of O rows.
    rng : numpy.random.Generator
        Where the randomness comes from: the matrix is drawn uniformly.
    gain : float or {"linear", "sigmoid", "tanh", "relu", "selu"}
        Length of the rows, or columns.
    dtype : dtype
        Of the parameters.

    Returns
    -------
    Tensor
        A leaf that requires a gradient.

    Raises
    ------
    ValueError
        If the shape has fewer than two axes, or for an unknown gain.

    Notes
    -----
    Saxe, McClelland and Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear neural networks",
    ICLR 2014.

    Examples
    --------
    >>> w = orthogonal((2, 3), np.random.default_rng(0), dtype="float64").data
    >>> np.allclose(w @ w.T, np.eye(2))
    True
    """
    fans(shape)
    rows, columns = shape[0], math.prod(shape[1:])
    q, r = np.linalg.qr(generator("rng", rng).standard_normal((max(rows, columns), min(rows, columns))))
    q *= np.sign(np.diagonal(r))  # uniform: Mezzadri, Notices of the AMS 54 (2007)
    return _drawn((q if rows >= columns else q.T).reshape(shape) * _gain(gain), dtype)


def zeros(shape: int | Sequence[int], dtype: npt.DTypeLike = "float32") -> Tensor:
    """Zeros that require a gradient: biases.

    Examples
    --------
    >>> zeros(2)
    tensor([0., 0.], dtype=float32, requires_grad=True)
    """
    return _drawn(np.zeros(shape), dtype)


def ones(shape: int | Sequence[int], dtype: npt.DTypeLike = "float32") -> Tensor:
    """Ones that require a gradient: scales of normalisations.

    Examples
    --------
    >>> ones(2)
    tensor([1., 1.], dtype=float32, requires_grad=True)
    """
    return _drawn(np.ones(shape), dtype)


def _he(shape: Sequence[int], num_groups: int, gain: float | str, fan: str) -> float:
    if fan not in ("in", "out"):
        raise ValueError(f"fan must be 'in' or 'out', not {fan!r}")
    return _gain(gain) / math.sqrt(max(1, fans(shape, num_groups)[fan == "out"]))


def _glorot(shape: Sequence[int], num_groups: int, gain: float | str) -> float:
    return _gain(gain) * math.sqrt(2 / max(1, sum(fans(shape, num_groups))))


def _gain(gain: float | str) -> float:
    if isinstance(gain, str):
        if gain not in GAINS:
            raise ValueError(f"gain must be a number or one of {', '.join(GAINS)}, not {gain!r}")
        return GAINS[gain]
    return number("gain", gain, "[0, inf)")


def _drawn(values: npt.NDArray[np.float64], dtype: npt.DTypeLike) -> Tensor:
    return tensor(values, dtype, requires_grad=True)  # where new tensors go
