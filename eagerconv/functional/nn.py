"""Layers without state: linear and dropout."""

import math
from typing import Any, cast

import numpy as np

from eagerconv.arguments import generator, number
from eagerconv.autograd import rules, tape
from eagerconv.autograd.rules.operands import widely
from eagerconv.autograd.tape import Op, multilinear
from eagerconv.kernels_cpu import pointwise
from eagerconv.tensor import Tensor, asarray
from eagerconv.wrapping import floating

__all__ = ["dropout", "linear"]


def _filters_pulled(g: Any, x: Any) -> Any:
    """The gradient g^T conj(x) as it lies in memory: that of w^T would have to be copied."""
    (n, m), examples = (g.shape[-1], x.shape[-1]), math.prod(x.shape[:-1])
    return rules.matmul(g.reshape((examples, n)).T, x.reshape((examples, m)).conjugate())


product: Op = multilinear(  # of features (..., I) and weights (O, I)
    "linear",
    lambda x, w: widely(np.matmul, x, w.T),
    lambda g, y: rules.matmul(g, y.conjugate()),
    lambda g, x: _filters_pulled(g, x),
)


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
    out = cast(Tensor, product(x, w))
    if bias is None:
        return out
    b = asarray(bias)
    if b.shape != w.shape[:1]:
        raise ValueError(f"linear: bias must have shape (O,) = {w.shape[:1]}, got {b.shape}")
    if tape.watched() or not pointwise.add_row(out.data, b.data):
        return out + b
    return cast(
        Tensor, tape.done(rules.add, (out, b), out.data)
    )  # in the memory of the product, which nothing asks for


def dropout(x: Any, p: float, rng: np.random.Generator, training: bool = True) -> Tensor:
    """Set elements to zero with probability p and scale the others by 1 / (1 - p), so that the mean stays.

    Parameters
    ----------
    x : array_like
        Numbers, in any shape; integers and booleans count as float64.
    p : float
        Probability of zero, from 0 to 1.
    rng : numpy.random.Generator
        Where the randomness comes from.
    training : bool
        If False, x is returned as it is.

    Returns
    -------
    Tensor
        Of the same shape and, but for integers, dtype.

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
    out = floating(x)
    p = number("dropout: p", p, "[0, 1]")
    generator("dropout: rng", rng)
    if not training or p == 0:
        return out
    keep = rng.random(out.shape, dtype=np.float32) >= p
    factors = keep * np.asarray(1 / (1 - p) if p < 1 else 0, out.dtype)
    return out * asarray(factors, device=out.device)
