"""Functions element by element, under the names of the array API standard: one row each, documentation filled in."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from eagerconv import dispatch
from eagerconv.tensor import Tensor, asarray
from eagerconv.wrapping import apply, documented, operands

__all__ = [
    "abs", "acos", "acosh", "add", "asin", "asinh", "atan", "atan2", "atanh", "bitwise_and", "bitwise_invert",
    "bitwise_left_shift", "bitwise_or", "bitwise_right_shift", "bitwise_xor", "ceil", "clip", "conj", "copysign",
    "cos", "cosh", "divide", "equal", "exp", "expm1", "floor", "floor_divide", "greater", "greater_equal", "hypot",
    "imag", "isfinite", "isinf", "isnan", "less", "less_equal", "log", "log10", "log1p", "log2", "logaddexp",
    "logical_and", "logical_not", "logical_or", "logical_xor", "maximum", "minimum", "multiply", "negative",
    "nextafter", "not_equal", "positive", "pow", "real", "reciprocal", "remainder", "round", "sign", "signbit",
    "sin", "sinh", "sqrt", "square", "subtract", "tan", "tanh", "trunc", "where",
]  # fmt: skip


class Unary(Protocol):
    """A function of one operand."""

    def __call__(self, x: Any, /) -> Tensor:
        """Of each element."""
        ...


class Binary(Protocol):
    """A function of two operands, whose shapes broadcast."""

    def __call__(self, x1: Any, x2: Any, /) -> Tensor:
        """Of each pair of elements."""
        ...


_UNARY = """{summary}, element by element.

Parameters
----------
x : array_like
    Numbers, in any shape.

Returns
-------
Tensor
    Of the same shape.

Examples
--------
>>> {name}({argument})
{result}
"""

_BINARY = """{summary}, element by element.

Parameters
----------
x1, x2 : array_like
    Numbers, in shapes that broadcast. A Python number takes the dtype of the other operand.

Returns
-------
Tensor
    Of the broadcast shape.

Examples
--------
>>> {name}({argument})
{result}
"""


def _unary(name: str, function: Any, summary: str, argument: str, result: str) -> Unary:
    row = dispatch.row(function)

    def elementwise(x: Any, /) -> Tensor:
        out: Tensor = row(x if type(x) is Tensor else asarray(x))
        return out

    elementwise.__name__ = elementwise.__qualname__ = name
    elementwise.__doc__ = _UNARY.format(name=name, summary=summary, argument=argument, result=result)
    return elementwise


def _binary(name: str, function: Any, summary: str, argument: str, result: str) -> Binary:
    row = dispatch.row(function)

    def elementwise(x1: Any, x2: Any, /) -> Tensor:
        out: Tensor = row(x1, x2) if type(x1) is type(x2) is Tensor else row(*operands(x1, x2))
        return out

    elementwise.__name__ = elementwise.__qualname__ = name
    elementwise.__doc__ = _BINARY.format(name=name, summary=summary, argument=argument, result=result)
    return elementwise


# ----- Roots, powers, exponentials, logarithms -----

abs = _unary("abs", np.abs, "The absolute value", "[-3.0, 3 + 4j]", "tensor([3., 5.], dtype=float64)")
exp = _unary("exp", np.exp, "The exponential function", "[0.0, 1.0]", "tensor([1.        , 2.71828183], dtype=float64)")
expm1 = _unary(
    "expm1",
    np.expm1,
    "The exponential less one, exact near zero",
    "[0.0, 1e-20]",
    "tensor([0.e+00, 1.e-20], dtype=float64)",
)
log = _unary("log", np.log, "The natural logarithm", "[1.0, 10.0]", "tensor([0.        , 2.30258509], dtype=float64)")
log1p = _unary(
    "log1p",
    np.log1p,
    "The natural logarithm of 1 + x, exact near zero",
    "[0.0, 1e-20]",
    "tensor([0.e+00, 1.e-20], dtype=float64)",
)
log2 = _unary("log2", np.log2, "The logarithm to base 2", "[1.0, 8.0]", "tensor([0., 3.], dtype=float64)")
log10 = _unary("log10", np.log10, "The logarithm to base 10", "[1.0, 1000.0]", "tensor([0., 3.], dtype=float64)")
sqrt = _unary("sqrt", np.sqrt, "The square root", "[4.0, 9.0]", "tensor([2., 3.], dtype=float64)")
square = _unary("square", np.square, "The square", "[-3.0, 1j]", "tensor([ 9.-0.j, -1.+0.j], dtype=complex128)")
reciprocal = _unary(
    "reciprocal", np.reciprocal, "One divided by x", "[2.0, -4.0]", "tensor([ 0.5 , -0.25], dtype=float64)"
)
negative = _unary("negative", np.negative, "Minus x", "[2, -4]", "tensor([-2,  4], dtype=int64)")
positive = _unary("positive", np.positive, "A copy of x", "[2, -4]", "tensor([ 2, -4], dtype=int64)")

# ----- Circular and hyperbolic functions, angles in radians -----

sin = _unary("sin", np.sin, "The sine", "[0.0, 1.0]", "tensor([0.        , 0.84147098], dtype=float64)")
cos = _unary("cos", np.cos, "The cosine", "[0.0, 1.0]", "tensor([1.        , 0.54030231], dtype=float64)")
tan = _unary("tan", np.tan, "The tangent", "[0.0, 1.0]", "tensor([0.        , 1.55740772], dtype=float64)")
asin = _unary("asin", np.asin, "The inverse sine", "[0.0, 1.0]", "tensor([0.        , 1.57079633], dtype=float64)")
acos = _unary("acos", np.acos, "The inverse cosine", "[0.0, 1.0]", "tensor([1.57079633, 0.        ], dtype=float64)")
atan = _unary("atan", np.atan, "The inverse tangent", "[0.0, 1.0]", "tensor([0.        , 0.78539816], dtype=float64)")
sinh = _unary("sinh", np.sinh, "The hyperbolic sine", "[0.0, 1.0]", "tensor([0.        , 1.17520119], dtype=float64)")
cosh = _unary("cosh", np.cosh, "The hyperbolic cosine", "[0.0, 1.0]", "tensor([1.        , 1.54308063], dtype=float64)")
tanh = _unary(
    "tanh", np.tanh, "The hyperbolic tangent", "[0.0, 1.0]", "tensor([0.        , 0.76159416], dtype=float64)"
)
asinh = _unary(
    "asinh", np.asinh, "The inverse hyperbolic sine", "[0.0, 1.0]", "tensor([0.        , 0.88137359], dtype=float64)"
)
acosh = _unary(
    "acosh", np.acosh, "The inverse hyperbolic cosine", "[1.0, 2.0]", "tensor([0.       , 1.3169579], dtype=float64)"
)
atanh = _unary(
    "atanh", np.atanh, "The inverse hyperbolic tangent", "[0.0, 0.5]", "tensor([0.        , 0.54930614], dtype=float64)"
)

# ----- Rounding; gradients are zero -----

ceil = _unary("ceil", np.ceil, "The next integer above", "[0.5, 1.0]", "tensor([1., 1.], dtype=float64)")
floor = _unary("floor", np.floor, "The next integer below", "[-0.5, 0.5]", "tensor([-1.,  0.], dtype=float64)")
trunc = _unary("trunc", np.trunc, "The next integer towards zero", "[-0.5, 1.5]", "tensor([-0.,  1.], dtype=float64)")
round = _unary(
    "round", np.round, "The nearest integer, halves to even", "[0.5, 1.5]", "tensor([0., 2.], dtype=float64)"
)
sign = _unary(
    "sign",
    np.sign,
    "The sign, -1, 0 or 1; of a complex number its direction",
    "[-2.0, 0.0]",
    "tensor([-1.,  0.], dtype=float64)",
)

# ----- Complex numbers -----

conj = _unary("conj", np.conj, "The complex conjugate", "[1 + 2j]", "tensor([1.-2.j], dtype=complex128)")
real = _unary("real", np.real, "The real part", "[1 + 2j]", "tensor([1.], dtype=float64)")
imag = _unary("imag", np.imag, "The imaginary part", "[1 + 2j]", "tensor([2.], dtype=float64)")

# ----- Logic and bits; not differentiable -----

isfinite = _unary(
    "isfinite",
    np.isfinite,
    "Whether x is neither infinite nor NaN",
    "[1.0, float('inf')]",
    "tensor([ True, False], dtype=bool)",
)
isinf = _unary("isinf", np.isinf, "Whether x is infinite", "[1.0, float('inf')]", "tensor([False,  True], dtype=bool)")
isnan = _unary("isnan", np.isnan, "Whether x is NaN", "[1.0, float('nan')]", "tensor([False,  True], dtype=bool)")
signbit = _unary(
    "signbit", np.signbit, "Whether the sign bit is set", "[-0.0, 1.0]", "tensor([ True, False], dtype=bool)"
)
logical_not = _unary(
    "logical_not", np.logical_not, "Whether x is false", "[True, False]", "tensor([False,  True], dtype=bool)"
)
bitwise_invert = _unary(
    "bitwise_invert", np.bitwise_invert, "All bits turned over", "[0, 5]", "tensor([-1, -6], dtype=int64)"
)

# ----- Arithmetic -----

add = _binary("add", np.add, "The sum", "[1.0, 2.0], 3.0", "tensor([4., 5.], dtype=float64)")
subtract = _binary(
    "subtract", np.subtract, "The difference x1 - x2", "[1.0, 2.0], 3.0", "tensor([-2., -1.], dtype=float64)"
)
multiply = _binary("multiply", np.multiply, "The product", "[1.0, 2.0], 3.0", "tensor([3., 6.], dtype=float64)")
divide = _binary("divide", np.divide, "The quotient x1 / x2", "[1.0, 2.0], 4.0", "tensor([0.25, 0.5 ], dtype=float64)")
floor_divide = _binary(
    "floor_divide",
    np.floor_divide,
    "The quotient rounded down",
    "[7.0, -7.0], 2.0",
    "tensor([ 3., -4.], dtype=float64)",
)
remainder = _binary(
    "remainder",
    np.remainder,
    "What floor division leaves, with the sign of x2",
    "[7.0, -7.0], 4.0",
    "tensor([3., 1.], dtype=float64)",
)
pow = _binary("pow", np.pow, "The power x1**x2", "[2.0, 3.0], 2.0", "tensor([4., 9.], dtype=float64)")
atan2 = _binary(
    "atan2",
    np.atan2,
    "The angle of the point with ordinate x1 and abscissa x2",
    "[1.0, 0.0], [0.0, -1.0]",
    "tensor([1.57079633, 3.14159265], dtype=float64)",
)
hypot = _binary(
    "hypot",
    np.hypot,
    "The root of the sum of squares, without overflow",
    "[3.0, 5.0], [4.0, 12.0]",
    "tensor([ 5., 13.], dtype=float64)",
)
logaddexp = _binary(
    "logaddexp",
    np.logaddexp,
    "The logarithm of exp(x1) + exp(x2), without overflow",
    "[1000.0], [1000.0]",
    "tensor([1000.69314718], dtype=float64)",
)
copysign = _binary(
    "copysign", np.copysign, "x1 with the sign of x2", "[1.0, 2.0], -1.0", "tensor([-1., -2.], dtype=float64)"
)
nextafter = _binary(
    "nextafter",
    np.nextafter,
    "The next number of the dtype after x1 in the direction of x2",
    "[0.0], 1.0",
    "tensor([5.e-324], dtype=float64)",
)

# ----- Extrema: where both are equal, each has half of the gradient -----

maximum = _binary("maximum", np.maximum, "The larger of two", "[1.0, 5.0], 3.0", "tensor([3., 5.], dtype=float64)")
minimum = _binary("minimum", np.minimum, "The smaller of two", "[1.0, 5.0], 3.0", "tensor([1., 3.], dtype=float64)")

# ----- Comparisons, logic and bits; not differentiable -----

equal = _binary("equal", np.equal, "Whether x1 == x2", "[1.0, 2.0], 2.0", "tensor([False,  True], dtype=bool)")
not_equal = _binary(
    "not_equal", np.not_equal, "Whether x1 != x2", "[1.0, 2.0], 2.0", "tensor([ True, False], dtype=bool)"
)
less = _binary("less", np.less, "Whether x1 < x2", "[1.0, 2.0], 2.0", "tensor([ True, False], dtype=bool)")
less_equal = _binary(
    "less_equal", np.less_equal, "Whether x1 <= x2", "[1.0, 2.0], 2.0", "tensor([ True,  True], dtype=bool)"
)
greater = _binary("greater", np.greater, "Whether x1 > x2", "[1.0, 3.0], 2.0", "tensor([False,  True], dtype=bool)")
greater_equal = _binary(
    "greater_equal", np.greater_equal, "Whether x1 >= x2", "[1.0, 2.0], 2.0", "tensor([False,  True], dtype=bool)"
)
logical_and = _binary(
    "logical_and", np.logical_and, "Whether both are true", "[True, False], True", "tensor([ True, False], dtype=bool)"
)
logical_or = _binary(
    "logical_or",
    np.logical_or,
    "Whether one at least is true",
    "[True, False], False",
    "tensor([ True, False], dtype=bool)",
)
logical_xor = _binary(
    "logical_xor",
    np.logical_xor,
    "Whether one is true and the other not",
    "[True, False], True",
    "tensor([False,  True], dtype=bool)",
)
bitwise_and = _binary(
    "bitwise_and", np.bitwise_and, "The bits that both have", "[6, 5], 3", "tensor([2, 1], dtype=int64)"
)
bitwise_or = _binary(
    "bitwise_or", np.bitwise_or, "The bits that one at least has", "[6, 5], 3", "tensor([7, 7], dtype=int64)"
)
bitwise_xor = _binary(
    "bitwise_xor", np.bitwise_xor, "The bits that one has and the other not", "[6, 5], 3", "tensor([5, 6], dtype=int64)"
)
bitwise_left_shift = _binary(
    "bitwise_left_shift",
    np.bitwise_left_shift,
    "The bits of x1 moved up by x2",
    "[1, 5], 2",
    "tensor([ 4, 20], dtype=int64)",
)
bitwise_right_shift = _binary(
    "bitwise_right_shift",
    np.bitwise_right_shift,
    "The bits of x1 moved down by x2",
    "[4, 20], 2",
    "tensor([1, 5], dtype=int64)",
)


# ----- Three operands -----


@documented(
    condition="array_like of bool\n    What to choose by.",
    x1="array_like\n    What to choose from; all three broadcast.",
    x2="array_like\n    What to choose from; all three broadcast.",
)
def where(condition: Any, x1: Any, x2: Any, /) -> Tensor:
    """Choose elements of x1 where the condition holds, of x2 elsewhere.

    >>> where([True, False], [1.0, 2.0], 0.0)
    tensor([1., 0.], dtype=float64)
    """
    out: Tensor = apply(np.where, asarray(condition), *operands(x1, x2))
    return out


@documented(min="array_like, optional\n    Lower limit.", max="array_like, optional\n    Upper limit.")
def clip(x: Any, /, min: Any = None, max: Any = None) -> Tensor:
    """Limit elements to the interval from min to max; on its edges the gradient is that of x.

    >>> clip([-2.0, 0.5, 2.0], 0.0, 1.0)
    tensor([0. , 0.5, 1. ], dtype=float64)
    """
    out: Tensor = apply(np.clip, asarray(x), min, max)
    return out
