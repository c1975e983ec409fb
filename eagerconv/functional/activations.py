"""Activations: functions of single numbers between the layers of a network, and softmax."""

from typing import Any, cast

from numpy.lib.array_utils import normalize_axis_index

from eagerconv.arguments import number
from eagerconv.autograd import rules
from eagerconv.dtypes import widened
from eagerconv.fused import operation
from eagerconv.tensor import Tensor, asarray
from eagerconv.wrapping import documented, floating

__all__ = [
    "celu", "elu", "gelu", "glu", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "log_sigmoid", "log_softmax", "mish",
    "prelu", "relu", "relu6", "selu", "sigmoid", "silu", "softmax", "softplus", "softsign",
]  # fmt: skip


def _applied(name: str, x: Any, *numbers: float) -> Tensor:
    """A formula of real numbers."""
    return cast(Tensor, operation(name)(floating(x), numbers=numbers))


def _normalised(row: Any, x: Any, axis: Any) -> Tensor:
    """Softmax or its logarithm, whose sums of 16-bit floats are those of float32."""
    x = floating(x)
    return cast(Tensor, row(widened(x), axis=axis).astype(x.dtype, copy=False))


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


@documented(x=_REAL, returns=_SAME)
def relu6(x: Any) -> Tensor:
    """Rectified linear unit that is cut off at 6.

    Krizhevsky, "Convolutional deep belief networks on CIFAR-10", 2010; used by MobileNets.

    >>> relu6([-1.0, 2.0, 8.0])
    tensor([0., 2., 6.], dtype=float64)
    """
    return _applied("relu6", x)


@documented(x=_REAL, slope="float\n    Of the negative side, and at zero.", returns=_SAME)
def leaky_relu(x: Any, slope: float = 0.01) -> Tensor:
    """Itself where x is positive, slope * x elsewhere.

    >>> leaky_relu([-1.0, 2.0], 0.2)
    tensor([-0.2,  2. ], dtype=float64)
    """
    return _applied("leaky_relu", x, number("leaky_relu: slope", slope))


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
    y, slope = floating(x), slope if isinstance(slope, (int, float)) else asarray(slope)  # numbers are weakly typed
    return cast(Tensor, rules.where(y > 0, y, y * slope))


@documented(x=_REAL, alpha="float\n    Where it saturates.", returns=_SAME)
def elu(x: Any, alpha: float = 1.0) -> Tensor:
    """Exponential linear unit: x where it is positive, alpha * (exp(x) - 1) elsewhere.

    Clevert et al., "Fast and accurate deep network learning by exponential linear units", ICLR 2016.

    >>> elu([-1000.0, 2.0])
    tensor([-1.,  2.], dtype=float64)
    """
    return _applied("elu", x, number("elu: alpha", alpha))


@documented(x=_REAL, returns=_SAME)
def selu(x: Any) -> Tensor:
    """Self-normalising `elu`: keeps activations of mean zero and variance one.

    Klambauer et al., "Self-normalizing neural networks", NeurIPS 2017.

    >>> selu([-1000.0, 1.0])
    tensor([-1.75809934,  1.05070099], dtype=float64)
    """
    return _applied("selu", x)


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
    if approximate not in ("none", "tanh"):
        raise ValueError(f"gelu: approximate must be 'none' or 'tanh', not {approximate!r}")
    return _applied("gelu" if approximate == "none" else "gelu_tanh", x)


@documented(x=_REAL, returns=_SAME)
def silu(x: Any) -> Tensor:
    """Sigmoid linear unit, x * sigmoid(x), also called swish.

    Elfwing et al., "Sigmoid-weighted linear units", Neural Networks 107 (2018).

    >>> silu([-1000.0, 0.0, 1.0])
    tensor([-0.        ,  0.        ,  0.73105858], dtype=float64)
    """
    return _applied("silu", x)


@documented(x=_REAL, returns=_SAME)
def mish(x: Any) -> Tensor:
    """The product x * tanh(softplus(x)).

    Misra, "Mish: a self regularized non-monotonic activation function", BMVC 2020.

    >>> mish([0.0, 1.0])
    tensor([0.        , 0.86509839], dtype=float64)
    """
    return _applied("mish", x)


@documented(x=_REAL, beta="float\n    Above 0; the larger, the closer to `relu`.", returns=_SAME)
def softplus(x: Any, beta: float = 1.0) -> Tensor:
    """A smooth `relu`, log(1 + exp(beta x)) / beta, without overflow.

    >>> softplus([-1000.0, 0.0, 2.0])
    tensor([0.        , 0.69314718, 2.12692801], dtype=float64)
    """
    beta = number("softplus: beta", beta, "(0, inf)")
    return _applied("softplus", x) if beta == 1 else _applied("scaled_softplus", x, beta)


@documented(x=_REAL, returns=_SAME)
def softsign(x: Any) -> Tensor:
    """The quotient x / (1 + abs(x)).

    >>> softsign([-1.0, 3.0])
    tensor([-0.5 ,  0.75], dtype=float64)
    """
    return _applied("softsign", x)


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
    return _applied("hardtanh", x, low, high)


@documented(x=_REAL, returns=_SAME)
def hardsigmoid(x: Any) -> Tensor:
    """A `sigmoid` of straight lines, clip(x / 6 + 1 / 2, 0, 1).

    >>> hardsigmoid([-3.0, 0.0, 1.5])
    tensor([0.  , 0.5 , 0.75], dtype=float64)
    """
    return _applied("hardsigmoid", x)


@documented(x=_REAL, returns=_SAME)
def hardswish(x: Any) -> Tensor:
    """The product x * hardsigmoid(x).

    Howard et al., "Searching for MobileNetV3", ICCV 2019.

    >>> hardswish([-3.0, 0.0, 3.0])
    tensor([-0.,  0.,  3.], dtype=float64)
    """
    return _applied("hardswish", x)


@documented(x=_REAL, returns=_SAME)
def sigmoid(x: Any) -> Tensor:
    """Logistic function, 1 / (1 + exp(-x)), without overflow.

    >>> sigmoid([-1000.0, 0.0])
    tensor([0. , 0.5], dtype=float64)
    """
    return _applied("sigmoid", x)


@documented(x=_REAL, returns=_SAME)
def log_sigmoid(x: Any) -> Tensor:
    """Logarithm of `sigmoid`, exact also where that is nearly zero.

    >>> log_sigmoid([-10.0, 0.0])
    tensor([-10.0000454 ,  -0.69314718], dtype=float64)
    """
    return _applied("log_sigmoid", x)


@documented(x=_REAL, axis="int or tuple of ints\n    Where the result sums to one.", returns=_SAME)
def softmax(x: Any, axis: int | tuple[int, ...] = -1) -> Tensor:
    """Exponentials divided by their sum along an axis, without overflow.

    >>> softmax([1000.0, 1000.0])
    tensor([0.5, 0.5], dtype=float64)
    """
    return _normalised(rules.softmax, x, axis)


@documented(x=_REAL, axis="int or tuple of ints\n    Where the exponentials of the result sum to one.", returns=_SAME)
def log_softmax(x: Any, axis: int | tuple[int, ...] = -1) -> Tensor:
    """Logarithm of `softmax`, exact also where that is nearly zero.

    >>> log_softmax([0.0, 1000.0])
    tensor([-1000.,     0.], dtype=float64)
    """
    return _normalised(rules.log_softmax, x, axis)


@documented(x=_REAL, alpha="float\n    Where it saturates, above 0.", returns=_SAME)
def celu(x: Any, alpha: float = 1.0) -> Tensor:
    """An `elu` without a bend for any alpha: x where it is positive, alpha * (exp(x / alpha) - 1) elsewhere.

    Barron, "Continuously differentiable exponential linear units", 2017.

    >>> celu([-1000.0, 2.0], 0.5)
    tensor([-0.5,  2. ], dtype=float64)
    """
    return _applied("celu", x, number("celu: alpha", alpha, "(0, inf)"))


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
    return y[(*before, slice(n // 2))] * sigmoid(y[(*before, slice(n // 2, None))])
