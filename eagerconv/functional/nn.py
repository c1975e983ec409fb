"""Layers and losses without state: activations, linear, dropout, cross-entropy, mean squared error."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from eagerconv.autograd import rules
from eagerconv.tensor import Tensor, asarray

__all__ = ["cross_entropy", "dropout", "linear", "log_softmax", "mse_loss", "relu", "sigmoid", "softmax"]


def relu(x: Any) -> Tensor:
    """Rectified linear unit, max(x, 0); its gradient at zero is zero.

    Parameters
    ----------
    x : array_like
        Real numbers, in any shape.

    Returns
    -------
    Tensor
        Of the same shape.

    Examples
    --------
    >>> relu([-1.0, 2.0])
    tensor([0., 2.], dtype=float64)
    """
    return cast(Tensor, rules.relu(asarray(x)))


def sigmoid(x: Any) -> Tensor:
    """Logistic function, 1 / (1 + exp(-x)), without overflow.

    Parameters
    ----------
    x : array_like
        Real numbers, in any shape.

    Returns
    -------
    Tensor
        Of the same shape.

    Examples
    --------
    >>> sigmoid([-1000.0, 0.0])
    tensor([0. , 0.5], dtype=float64)
    """
    return cast(Tensor, rules.sigmoid(asarray(x)))


def softmax(x: Any, axis: int | tuple[int, ...] = -1) -> Tensor:
    """Exponentials divided by their sum along an axis, without overflow.

    Parameters
    ----------
    x : array_like
        Real numbers.
    axis : int or tuple of ints
        Where the result sums to one.

    Returns
    -------
    Tensor
        Of the same shape.

    Examples
    --------
    >>> softmax([1000.0, 1000.0])
    tensor([0.5, 0.5], dtype=float64)
    """
    return cast(Tensor, rules.softmax(asarray(x), axis=axis))


def log_softmax(x: Any, axis: int | tuple[int, ...] = -1) -> Tensor:
    """Logarithm of `softmax`, exact also where that is nearly zero.

    Parameters
    ----------
    x : array_like
        Real numbers.
    axis : int or tuple of ints
        Where the exponentials of the result sum to one.

    Returns
    -------
    Tensor
        Of the same shape.

    Examples
    --------
    >>> log_softmax([0.0, 1000.0])
    tensor([-1000.,     0.], dtype=float64)
    """
    return cast(Tensor, rules.log_softmax(asarray(x), axis=axis))


def linear(input: Any, weight: Any, bias: Any = None) -> Tensor:
    """Weighted sums of the last axis, input @ weight.T + bias: a convolution without space.

    Parameters
    ----------
    input : array_like, shape (..., I)
        I features.
    weight : array_like, shape (O, I)
        As filters are: outputs first.
    bias : array_like, shape (O,), optional
        Added to every output.

    Returns
    -------
    Tensor, shape (..., O)

    Raises
    ------
    ValueError
        If the shapes do not fit.

    Examples
    --------
    >>> linear([[1.0, 2.0]], [[1.0, 1.0], [0.0, 1.0], [2.0, 0.0]], [0.0, 0.5, 0.0])
    tensor([[3. , 2.5, 2. ]], dtype=float64)
    """
    x, w = asarray(input), asarray(weight)
    if w.ndim != 2 or x.ndim < 1 or x.shape[-1] != w.shape[1]:
        raise ValueError(f"linear: input (..., I) and weight (O, I) do not fit: got {x.shape} and {w.shape}")
    out = x @ w.T
    if bias is None:
        return out
    b = asarray(bias)
    if b.shape != w.shape[:1]:
        raise ValueError(f"linear: bias must have shape (O,) = {w.shape[:1]}, got {b.shape}")
    return out + b


def dropout(x: Any, p: float, rng: np.random.Generator, training: bool = True) -> Tensor:
    """Set elements to zero with probability p and scale the others by 1 / (1 - p), so that the mean stays.

    Parameters
    ----------
    x : array_like
        Numbers, in any shape.
    p : float
        Probability of zero, from 0 to 1.
    rng : numpy.random.Generator
        Where the randomness comes from.
    training : bool
        If False, x is returned as it is.

    Returns
    -------
    Tensor
        Of the same shape and dtype.

    Raises
    ------
    TypeError
        If `rng` is not a Generator.
    ValueError
        If p is outside of [0, 1].

    Notes
    -----
    Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", JMLR 15 (2014).

    Examples
    --------
    >>> dropout([1.0, 1.0, 1.0, 1.0], 0.5, np.random.default_rng(0))
    tensor([2., 2., 2., 0.], dtype=float64)
    """
    out = asarray(x)
    if not 0 <= p <= 1:
        raise ValueError(f"dropout: p must be a probability, from 0 to 1, not {p}")
    if not isinstance(rng, np.random.Generator):
        raise TypeError(
            f"dropout: rng must be a numpy.random.Generator, as default_rng() makes, not {type(rng).__name__}"
        )
    if not training or p == 0:
        return out
    keep = rng.random(out.shape, dtype=np.float32) >= p
    factors = keep * np.asarray(1 / (1 - p) if p < 1 else 0, out.dtype)
    return cast(Tensor, out * factors)


def cross_entropy(logits: Any, labels: Any) -> Tensor:
    """Mean negative log-probability of the true class, when softmax turns logits into probabilities.

    Parameters
    ----------
    logits : array_like, shape (N, K)
        One row of K scores per example.
    labels : array_like of ints, shape (N,)
        The true class of each example, from 0 to K - 1.

    Returns
    -------
    Tensor
        A single number.

    Raises
    ------
    TypeError
        If the labels are not integers.
    ValueError
        If the shapes do not fit, there is no example, or a label is out of range.

    Examples
    --------
    >>> cross_entropy([[0.0, 0.0], [1000.0, 0.0]], [1, 0])
    tensor(0.34657359, dtype=float64)
    """
    x, classes = asarray(logits), asarray(labels)
    if classes.dtype.kind not in "iu":
        raise TypeError(f"cross_entropy: labels must be integers, the index of the class, not {classes.dtype}")
    if x.ndim != 2 or classes.shape != x.shape[:1]:
        raise ValueError(f"cross_entropy: expected logits (N, K) and labels (N,), got {x.shape} and {classes.shape}")
    n, k = x.shape
    if not n:
        raise ValueError("cross_entropy: the mean over a batch of no examples is not defined")
    if classes.data.min() < 0 or classes.data.max() >= k:
        raise ValueError(
            f"cross_entropy: labels must lie from 0 to K - 1 = {k - 1}, got some from {classes.data.min()} to "
            f"{classes.data.max()}"
        )
    return -log_softmax(x)[np.arange(n), classes.data].mean()


def mse_loss(input: Any, target: Any) -> Tensor:
    """Mean squared error: the mean of |input - target|**2 over all elements.

    Parameters
    ----------
    input, target : array_like
        Of the same shape: here broadcasting is a mistake more often than a wish.

    Returns
    -------
    Tensor
        A single number.

    Raises
    ------
    ValueError
        If the shapes differ.

    Examples
    --------
    >>> mse_loss([1.0, 2.0], [1.0, 4.0])
    tensor(2., dtype=float64)
    """
    x, y = asarray(input), asarray(target)
    if x.shape != y.shape:
        raise ValueError(f"mse_loss: input and target must have the same shape, got {x.shape} and {y.shape}")
    d = x - y
    return (d * d.conjugate()).real.mean()
