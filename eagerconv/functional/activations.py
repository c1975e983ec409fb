"""Activations: functions of single numbers between the layers of a network, and softmax."""

import functools
import math
from typing import Any, cast

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from eagerconv.arguments import number
from eagerconv.autograd import rules
from eagerconv.autograd.tape import elementwise
from eagerconv.tensor import Tensor, asarray
from eagerconv.wrapping import documented, floating

__all__ = [
    "celu", "elu", "gelu", "glu", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "log_sigmoid", "log_softmax", "mish",
    "prelu", "relu", "selu", "sigmoid", "silu", "softmax", "softplus", "softsign",
]  # fmt: skip

# ----- Rows: what would be several operations, in one -----


def _as(x: Any, value: float) -> Any:
    """A number in the precision of x, which choosing between it and others then keeps."""
    return np.asarray(value, x.dtype)


_leaky = elementwise(
    "leaky_relu",
    lambda x, slope: (np.maximum if slope <= 1 else np.minimum)(x, x * slope),
    lambda x, slope: _sides(x, slope),
)
_elu = elementwise(
    "elu",
    lambda x, alpha: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))),
    lambda x, ans, alpha: rules.where(x > 0, _as(x, 1), ans + alpha),
)
_silu = elementwise("silu", lambda x: x * rules.sigmoid.fn(x), lambda x: _silu_slope(x))
_softplus = elementwise("softplus", lambda x: np.logaddexp(x, _as(x, 0)), lambda x: rules.sigmoid(x))
_normal_cdf = elementwise(
    "normal_cdf", lambda x: _cdf(x), lambda x: rules.exp(x * x * -0.5) * (1 / math.sqrt(2 * math.pi))
)


def _sides(x: Any, slope: float) -> Any:
    """1 where x is positive, `slope` elsewhere; for ordinary slopes without `where`, which is slow."""
    if 0 <= slope <= 1:
        return rules.maximum((x > 0).astype(x.dtype), slope)
    return rules.where(x > 0, _as(x, 1), _as(x, slope))


def _silu_slope(x: Any) -> Any:
    s = rules.sigmoid(x)
    return s * (1 + x * (1 - s))


def _cdf(x: Any) -> Any:
    """The standard normal distribution function, to the last digit but one: erfc(-x / sqrt 2) / 2.

    erfc(z) = t exp(P(t) - z**2) with t = 2 / (2 + z), where P is smooth enough for a polynomial (the form of Press et
    al., Numerical Recipes, section 6.2); it interpolates math.erfc. Done in pieces that stay in the cache.
    """
    flat = x.reshape(-1)
    out = np.empty_like(flat)
    double = flat.dtype == np.float64
    first, *others, last = _polynomial(20 if double else 8)
    for begin in range(0, flat.size, 8192):
        part = flat[begin : begin + 8192].astype(np.float64 if double else np.float32, copy=False)
        z = np.abs(part)
        z *= math.sqrt(0.5)
        np.minimum(z, 6, out=z)  # beyond, the tail is below 1e-17
        t = 2 / (2 + z)
        u = t / 0.375
        u -= 0.625 / 0.375  # t in [0.25, 1] as u in [-1, 1], where powers lose no digits
        power = first * u
        for coefficient in others:
            power += coefficient
            power *= u
        z *= z
        power += last - math.log(2)
        power -= z
        tail = np.exp(power, out=power)
        tail *= t
        half = np.copysign(np.subtract(0.5, tail, out=tail), part, out=tail)
        np.add(half, 0.5, out=out[begin : begin + 8192], casting="same_kind")
    return out.reshape(x.shape)


@functools.cache
def _polynomial(degree: int) -> list[float]:
    """The coefficients of P in powers of u, the highest first."""

    def smooth(t: Any) -> Any:
        z = 2 / t - 2
        return np.log([math.erfc(value) for value in z]) - np.log(t) + z * z

    by_chebyshev = np.polynomial.Chebyshev.interpolate(smooth, degree, domain=(0.25, 1))
    coefficients: list[float] = np.polynomial.chebyshev.cheb2poly(by_chebyshev.coef).tolist()
    return coefficients[::-1]


# ----- What users call -----

_REAL = "array_like\n    Real numbers, in any shape; integers and booleans count as float64."
_ANY = "array_like\n    Real numbers, in any shape."
_SAME = "Tensor\n    Of the same shape."


@documented(x=_ANY, returns=_SAME)
def relu(x: Any) -> Tensor:
    """Rectified linear unit, max(x, 0); its gradient at zero is zero.

    >>> relu([-1.0, 2.0])
    tensor([0., 2.], dtype=float64)
    """
    return cast(Tensor, rules.relu(asarray(x)))


@documented(x=_REAL, slope="float\n    Of the negative side, and at zero.", returns=_SAME)
def leaky_relu(x: Any, slope: float = 0.01) -> Tensor:
    """Itself where x is positive, slope * x elsewhere.

    >>> leaky_relu([-1.0, 2.0], 0.2)
    tensor([-0.2,  2. ], dtype=float64)
    """
    return cast(Tensor, _leaky(floating(x), slope=number("leaky_relu: slope", slope)))


@documented(
    x=_REAL,
    slope="array_like\n    Of the negative side; broadcasts against x: (C, 1, 1) for one per channel of an image.",
    returns=_SAME,
)
def prelu(x: Any, slope: Any) -> Tensor:
    """`leaky_relu` with a slope that is learned.

    >>> prelu([-1.0, 2.0], 0.2)
    tensor([-0.2,  2. ], dtype=float64)
    """
    y = floating(x)
    return cast(Tensor, rules.where(y > 0, y, asarray(slope) * y))


@documented(x=_REAL, alpha="float\n    Where it saturates.", returns=_SAME)
def elu(x: Any, alpha: float = 1.0) -> Tensor:
    """Exponential linear unit: x where it is positive, alpha * (exp(x) - 1) elsewhere.

    Clevert et al., "Fast and accurate deep network learning by exponential linear units", ICLR 2016.

    >>> elu([-1000.0, 2.0])
    tensor([-1.,  2.], dtype=float64)
    """
    return cast(Tensor, _elu(floating(x), alpha=number("elu: alpha", alpha)))


@documented(x=_REAL, returns=_SAME)
def selu(x: Any) -> Tensor:
    """Self-normalising `elu`: keeps activations of mean zero and variance one.

    Klambauer et al., "Self-normalizing neural networks", NeurIPS 2017.

    >>> selu([-1000.0, 1.0])
    tensor([-1.75809934,  1.05070099], dtype=float64)
    """
    return cast(Tensor, 1.0507009873554805 * _elu(floating(x), alpha=1.6732632423543772))


@documented(
    x=_REAL,
    approximate='{"none", "tanh"}\n    Whether to use 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x**3))), which is faster.',
    returns=_SAME,
)
def gelu(x: Any, approximate: str = "none") -> Tensor:
    """Gaussian error linear unit: x times the probability that a standard normal number is below it.

    Hendrycks and Gimpel, "Gaussian error linear units", 2016.

    >>> gelu([-1.0, 1.0])
    tensor([-0.15865525,  0.84134475], dtype=float64)
    """
    y = floating(x)
    if approximate == "none":
        return cast(Tensor, y * _normal_cdf(y))
    if approximate != "tanh":
        raise ValueError(f"gelu: approximate must be 'none' or 'tanh', not {approximate!r}")
    return cast(Tensor, y * rules.sigmoid((y + 0.044715 * y * y * y) * math.sqrt(8 / math.pi)))


@documented(x=_REAL, returns=_SAME)
def silu(x: Any) -> Tensor:
    """Sigmoid linear unit, x * sigmoid(x), also called swish.

    Elfwing et al., "Sigmoid-weighted linear units", Neural Networks 107 (2018).

    >>> silu([-1000.0, 0.0, 1.0])
    tensor([-0.        ,  0.        ,  0.73105858], dtype=float64)
    """
    return cast(Tensor, _silu(floating(x)))


@documented(x=_REAL, returns=_SAME)
def mish(x: Any) -> Tensor:
    """The product x * tanh(softplus(x)).

    Misra, "Mish: a self regularized non-monotonic activation function", BMVC 2020.

    >>> mish([0.0, 1.0])
    tensor([0.        , 0.86509839], dtype=float64)
    """
    y = floating(x)
    return cast(Tensor, y * rules.tanh(_softplus(y)))


@documented(x=_REAL, beta="float\n    Above 0; the larger, the closer to `relu`.", returns=_SAME)
def softplus(x: Any, beta: float = 1.0) -> Tensor:
    """A smooth `relu`, log(1 + exp(beta x)) / beta, without overflow.

    >>> softplus([-1000.0, 0.0, 2.0])
    tensor([0.        , 0.69314718, 2.12692801], dtype=float64)
    """
    y, beta = floating(x), number("softplus: beta", beta, "(0, inf)")
    return cast(Tensor, _softplus(y * beta) / beta if beta != 1 else _softplus(y))


@documented(x=_REAL, returns=_SAME)
def softsign(x: Any) -> Tensor:
    """The quotient x / (1 + abs(x)).

    >>> softsign([-1.0, 3.0])
    tensor([-0.5 ,  0.75], dtype=float64)
    """
    y = floating(x)
    return y / (1 + abs(y))


@documented(
    x=_REAL,
    low="float\n    The lower limit; on it the gradient is one, where PyTorch's is zero.",
    high="float\n    The upper limit, likewise.",
    returns=_SAME,
)
def hardtanh(x: Any, low: float = -1.0, high: float = 1.0) -> Tensor:
    """Cut off below and above.

    >>> hardtanh([-3.0, 0.5, 3.0])
    tensor([-1. ,  0.5,  1. ], dtype=float64)
    """
    low = number("hardtanh: low", low, "[-inf, inf]")
    high = number("hardtanh: high", high, f"[{low}, inf]")
    return cast(Tensor, rules.clip(floating(x), low, high))


@documented(x=_REAL, returns=_SAME)
def hardsigmoid(x: Any) -> Tensor:
    """A `sigmoid` of straight lines, clip(x / 6 + 1 / 2, 0, 1).

    >>> hardsigmoid([-3.0, 0.0, 1.5])
    tensor([0.  , 0.5 , 0.75], dtype=float64)
    """
    return cast(Tensor, rules.clip(floating(x) / 6 + 0.5, 0, 1))


@documented(x=_REAL, returns=_SAME)
def hardswish(x: Any) -> Tensor:
    """The product x * hardsigmoid(x).

    Howard et al., "Searching for MobileNetV3", ICCV 2019.

    >>> hardswish([-3.0, 0.0, 3.0])
    tensor([-0.,  0.,  3.], dtype=float64)
    """
    y = floating(x)
    return y * hardsigmoid(y)


@documented(x=_REAL, returns=_SAME)
def sigmoid(x: Any) -> Tensor:
    """Logistic function, 1 / (1 + exp(-x)), without overflow.

    >>> sigmoid([-1000.0, 0.0])
    tensor([0. , 0.5], dtype=float64)
    """
    return cast(Tensor, rules.sigmoid(floating(x)))


@documented(x=_REAL, returns=_SAME)
def log_sigmoid(x: Any) -> Tensor:
    """Logarithm of `sigmoid`, exact also where that is nearly zero.

    >>> log_sigmoid([-10.0, 0.0])
    tensor([-10.0000454 ,  -0.69314718], dtype=float64)
    """
    return cast(Tensor, -_softplus(-floating(x)))


@documented(x=_REAL, axis="int or tuple of ints\n    Where the result sums to one.", returns=_SAME)
def softmax(x: Any, axis: int | tuple[int, ...] = -1) -> Tensor:
    """Exponentials divided by their sum along an axis, without overflow.

    >>> softmax([1000.0, 1000.0])
    tensor([0.5, 0.5], dtype=float64)
    """
    return cast(Tensor, rules.softmax(floating(x), axis=axis))


@documented(x=_REAL, axis="int or tuple of ints\n    Where the exponentials of the result sum to one.", returns=_SAME)
def log_softmax(x: Any, axis: int | tuple[int, ...] = -1) -> Tensor:
    """Logarithm of `softmax`, exact also where that is nearly zero.

    >>> log_softmax([0.0, 1000.0])
    tensor([-1000.,     0.], dtype=float64)
    """
    return cast(Tensor, rules.log_softmax(floating(x), axis=axis))


_celu = elementwise(
    "celu",
    lambda x, alpha: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0) / alpha)).astype(x.dtype, copy=False),
    lambda x, ans, alpha: rules.where(x > 0, _as(x, 1), ans / alpha + 1),
)


@documented(x=_REAL, alpha="float\n    Where it saturates, above 0.", returns=_SAME)
def celu(x: Any, alpha: float = 1.0) -> Tensor:
    """An `elu` without a bend for any alpha: x where it is positive, alpha * (exp(x / alpha) - 1) elsewhere.

    Barron, "Continuously differentiable exponential linear units", 2017.

    >>> celu([-1000.0, 2.0], 0.5)
    tensor([-0.5,  2. ], dtype=float64)
    """
    return cast(Tensor, _celu(floating(x), alpha=number("celu: alpha", alpha, "(0, inf)")))


@documented(
    x="array_like\n    Real numbers; integers and booleans count as float64.",
    axis="int\n    Which is halved; its length must be even.",
    returns="Tensor\n    Of half the length.",
)
def glu(x: Any, axis: int = -1) -> Tensor:
    """Gated linear unit: the first half of an axis, times the `sigmoid` of the second.

    Dauphin et al., "Language modeling with gated convolutional networks", ICML 2017.

    >>> glu([1.0, 2.0, 0.0, 1000.0])
    tensor([0.5, 2. ], dtype=float64)
    """
    y = floating(x)
    before = (slice(None),) * normalize_axis_index(axis, y.ndim, "glu")
    n = y.shape[axis]
    if n % 2:
        raise ValueError(f"glu: axis {axis} must have an even length to be halved, got {n} in the shape {y.shape}")
    return cast(Tensor, y[(*before, slice(n // 2))] * rules.sigmoid(y[(*before, slice(n // 2, None))]))
