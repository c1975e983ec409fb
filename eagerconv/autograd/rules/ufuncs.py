"""Elementwise operations: arithmetic, special functions, rounding, comparisons, complex numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from eagerconv.autograd import tape
from eagerconv.autograd.rules.operands import Table, value
from eagerconv.autograd.tape import Op, defvjp, elementwise, linear

# ----- Comparisons and logic: the results are not differentiable -----

equal = defvjp("equal", np.equal)
not_equal = defvjp("not_equal", np.not_equal)
less = defvjp("less", np.less)
less_equal = defvjp("less_equal", np.less_equal)
greater = defvjp("greater", np.greater)
greater_equal = defvjp("greater_equal", np.greater_equal)
bitwise_and = defvjp("bitwise_and", np.bitwise_and)
bitwise_or = defvjp("bitwise_or", np.bitwise_or)
invert = defvjp("invert", np.invert)
isnan = defvjp("isnan", np.isnan)
isfinite = defvjp("isfinite", np.isfinite)

# ----- Arithmetic -----

add = elementwise("add", np.add, 1, 1)
subtract = elementwise("subtract", np.subtract, 1, -1)
multiply = tape.multiply  # its row is there, as chain rules multiply
divide = elementwise("divide", np.true_divide, lambda y: _inverse(y), lambda y, ans: -ans / y)
negative = elementwise("negative", np.negative, -1)
positive = elementwise("positive", np.positive, 1)
reciprocal = elementwise("reciprocal", np.reciprocal, lambda ans: -ans * ans)
square = elementwise("square", np.square, lambda x: 2 * x)
sqrt = elementwise("sqrt", np.sqrt, lambda ans: 0.5 / ans)
cbrt = elementwise("cbrt", np.cbrt, lambda ans: 1 / (3 * ans * ans))
power = elementwise("power", np.power, lambda x, y: _power_base(x, y), lambda x, ans: ans * _log_base(x))
float_power = elementwise(
    "float_power", np.float_power, lambda x, y: _power_base(x, y), lambda x, ans: ans * _log_base(x)
)
hypot = elementwise("hypot", np.hypot, lambda x, ans: _share(x, ans), lambda y, ans: _share(y, ans))
remainder = elementwise("remainder", np.remainder, 1, lambda x, y: -floor_divide(x, y))
fmod = elementwise("fmod", np.fmod, 1, lambda x, y: -trunc(divide(x, y)))
floor_divide: Op = elementwise("floor_divide", np.floor_divide, 0, 0)

# ----- Exponentials and logarithms -----

exp = elementwise("exp", np.exp, lambda ans: ans)
exp2 = elementwise("exp2", np.exp2, lambda ans: math.log(2) * ans)
expm1 = elementwise("expm1", np.expm1, lambda ans: ans + 1)
log: Op = elementwise("log", np.log, lambda x: 1 / x)
log2 = elementwise("log2", np.log2, lambda x: (1 / math.log(2)) / x)
log10 = elementwise("log10", np.log10, lambda x: (1 / math.log(10)) / x)
log1p = elementwise("log1p", np.log1p, lambda x: 1 / (x + 1))
logaddexp = elementwise("logaddexp", np.logaddexp, lambda x, ans: exp(x - ans), lambda y, ans: exp(y - ans))
logaddexp2 = elementwise("logaddexp2", np.logaddexp2, lambda x, ans: exp2(x - ans), lambda y, ans: exp2(y - ans))
sigmoid = elementwise("sigmoid", lambda x: _sigmoid(x), lambda ans: ans * (1 - ans))

# ----- Circular and hyperbolic functions, on the principal branches -----

sin = elementwise("sin", np.sin, lambda x: cos(x))
cos: Op = elementwise("cos", np.cos, lambda x: -sin(x))
tan = elementwise("tan", np.tan, lambda ans: 1 + ans * ans)
arcsin = elementwise("arcsin", np.arcsin, lambda x: 1 / (sqrt(1 - x) * sqrt(1 + x)))
arccos = elementwise("arccos", np.arccos, lambda x: -1 / (sqrt(1 - x) * sqrt(1 + x)))
arctan = elementwise("arctan", np.arctan, lambda x: 1 / (1 + x * x))
arctan2 = elementwise(  # of (y, x) in the books: here x is the ordinate
    "arctan2", np.arctan2, lambda x, y: _turning(y, x), lambda x, y: -_turning(x, y)
)
sinh = elementwise("sinh", np.sinh, lambda x: cosh(x))
cosh: Op = elementwise("cosh", np.cosh, lambda x: sinh(x))
tanh = elementwise("tanh", np.tanh, lambda ans: 1 - ans * ans)
arcsinh = elementwise("arcsinh", np.arcsinh, lambda x: 1 / sqrt(x * x + 1))
arccosh = elementwise("arccosh", np.arccosh, lambda x: 1 / (sqrt(x - 1) * sqrt(x + 1)))
arctanh = elementwise("arctanh", np.arctanh, lambda x: 1 / (1 - x * x))
sinc = elementwise("sinc", lambda x: _keeping(x, np.sinc(x)), lambda x, ans: _sinc_slope(x, ans))
deg2rad = elementwise("deg2rad", np.deg2rad, math.pi / 180)
radians = elementwise("radians", np.radians, math.pi / 180)
rad2deg = elementwise("rad2deg", np.rad2deg, 180 / math.pi)
degrees = elementwise("degrees", np.degrees, 180 / math.pi)
unwrap = elementwise(
    "unwrap",
    lambda x, discont=None, axis=-1, *, period=2 * math.pi: _keeping(x, np.unwrap(x, discont, axis, period=period)),
    1,
)

# ----- Choices: what is not chosen has no gradient, what is equal, or NaN, shares it -----

maximum = elementwise(
    "maximum",
    np.maximum,
    lambda x, y, like: _halve_ties((x > y) | isnan(x), _ties(x, y), like),
    lambda x, y, like: _halve_ties((y > x) | isnan(y), _ties(x, y), like),
)
minimum = elementwise(
    "minimum",
    np.minimum,
    lambda x, y, like: _halve_ties((x < y) | isnan(x), _ties(x, y), like),
    lambda x, y, like: _halve_ties((y < x) | isnan(y), _ties(x, y), like),
)
fmax = elementwise(  # a number wins over NaN
    "fmax",
    np.fmax,
    lambda x, y, like: _halve_ties((x > y) | isnan(y), _ties(x, y), like),
    lambda x, y, like: _halve_ties((y > x) | isnan(x), _ties(x, y), like),
)
fmin = elementwise(
    "fmin",
    np.fmin,
    lambda x, y, like: _halve_ties((x < y) | isnan(y), _ties(x, y), like),
    lambda x, y, like: _halve_ties((y < x) | isnan(x), _ties(x, y), like),
)
where: Op = elementwise("where", np.where, None, lambda x: not_equal(x, 0), lambda x: equal(x, 0))
clip = elementwise(  # a limit may be None; where they cross, the upper one holds
    "clip",
    lambda x, y, z: _keeping(x, np.clip(x, y, z)),
    lambda x, y, z: _inside(x, y, z),
    lambda x, y, z: (x < y) if z is None else (x < y) & (y <= z),
    lambda x, y, z: (x > z) if y is None else (x > z) | (y > z),
)
relu: Op = defvjp(
    "relu",
    lambda x: np.maximum(x, 0),
    lambda g, ans: gate(g, ans),
    jvp=lambda t, ans: gate(t, ans),
)
gate: Op = defvjp(  # x where y is positive
    "gate",
    lambda x, y: np.where(y > 0, x, x.dtype.type(0)),
    lambda g, y: gate(g, y),
    lambda g: g * 0,
    jvp=lambda t, y, position: gate(t, y) if position == 0 else t * 0,
)
nan_to_num = elementwise("nan_to_num", np.nan_to_num, lambda x: isfinite(x))

# ----- Absolute values and signs -----

absolute = elementwise("absolute", np.absolute, lambda x, ans: _direction(x, ans))
fabs = elementwise("fabs", np.fabs, lambda x: sign(x))
copysign: Op = elementwise("copysign", np.copysign, lambda x, y: sign(x) * copysign(1, y), 0)
sign: Op = defvjp("sign", np.sign, lambda g, x, ans: _turn(g, x, ans), jvp=lambda t, x, ans: _turn(t, x, ans))

# ----- Rounding and steps: the derivative is zero wherever there is one -----

floor = elementwise("floor", np.floor, 0)
ceil = elementwise("ceil", np.ceil, 0)
trunc: Op = elementwise("trunc", np.trunc, 0)
fix = elementwise("fix", np.fix, 0)
round = elementwise("round", np.rint, 0)
around = elementwise("around", np.around, 0)
fraction = elementwise("fraction", lambda x: np.modf(x)[0], 1)
heaviside = elementwise("heaviside", np.heaviside, 0, lambda x: equal(x, 0))
ldexp = elementwise("ldexp", np.ldexp, lambda y: exp2(y), None)

# ----- Complex numbers -----

conj: Op = linear("conj", np.conj, lambda g: conj(g))
real = linear("real", np.real, lambda g: g, view=True)
imag = linear("imag", np.imag, lambda g: 1j * g, view=True)  # <v, Im u> = Re(conj(iv) u)


def angle(z: Any, deg: bool = False) -> Any:
    """The argument of complex numbers."""
    out = arctan2(imag(z), real(z))
    return out * (180 / math.pi) if deg else out


def real_if_close(a: Any, tol: float = 100) -> Any:
    """The real part where all imaginary parts are negligible, else the array itself."""
    return a if np.real_if_close(value(a), tol).dtype.kind == "c" else real(a)


def _nan_to_num(x: Any, copy: bool = True, nan: float = 0.0, posinf: Any = None, neginf: Any = None) -> Any:
    if not copy:
        raise RuntimeError(
            "nan_to_num: copy=False would change a tensor unseen by the tape; take the result of copy=True"
        )
    return nan_to_num(x, nan=nan, posinf=posinf, neginf=neginf)


def modf(x: Any) -> tuple[Any, Any]:
    """Fractional and integral parts."""
    return fraction(x), trunc(x)


def divmod(x1: Any, x2: Any) -> tuple[Any, Any]:
    """Quotient and remainder."""
    return floor_divide(x1, x2), remainder(x1, x2)


def _clip(a: Any, a_min: Any = None, a_max: Any = None, out: None = None, *, min: Any = None, max: Any = None) -> Any:
    return clip(a, a_min if min is None else min, a_max if max is None else max)


FUNCTIONS: Table = {
    np.angle: angle, np.around: around, np.clip: _clip, np.divmod: divmod, np.fix: fix, np.imag: imag, np.modf: modf,
    np.nan_to_num: _nan_to_num, np.real: real, np.real_if_close: real_if_close, np.round: around, np.sinc: sinc,
    np.unwrap: unwrap, np.where: where,
}  # fmt: skip

# ----- Parts of rules -----


def _keeping(x: Any, out: Any) -> Any:
    """A result in the dtype of its operand, where NumPy knows no other way than through a wider one: for extension types."""
    kind = getattr(x, "dtype", out.dtype)
    return out if kind.kind in "biufc" else out.astype(kind)


def _sigmoid(x: Any) -> Any:
    with np.errstate(over="ignore"):  # to infinity, whose reciprocal is the right answer
        return 1 / (1 + np.exp(-x))


def _inverse(y: Any) -> Any:
    try:
        return 1 / y
    except ZeroDivisionError:  # a plain number, of which Python does not say what arrays do
        return math.nan if isinstance(y, complex) else math.copysign(math.inf, y)


def _or_one(x: Any) -> Any:
    """A divisor: 1 instead of 0, for a numerator that is 0 there as well."""
    return where(equal(x, 0), 1, x)


def _log_base(x: Any) -> Any:
    return log(_or_one(x))


def _power_base(x: Any, y: Any) -> Any:
    """d(x**y)/dx = y x**(y - 1), and 0 where y = 0, whatever x is."""
    if isinstance(y, (int, float, complex)):
        return y * power(x, y - 1) if y != 0 else 0
    return y * power(x, _or_one(y) - 1)


def _sinc_slope(x: Any, ans: Any) -> Any:
    """(cos(pi x) - sinc(x)) / x; within |pi x| < 1, where that cancels, its series.

    sinc(x) = sum (-1)^n (pi x)^2n / (2n + 1)!, and ten terms leave less than the last bit, in the next derivatives too.
    """
    near = less(absolute(x), 1 / math.pi)
    u, far = where(near, x, 0), where(near, 1, x)
    series: Any = 0.0
    for n in range(10, 0, -1):
        series = series * (u * u) + (-1) ** n * 2 * n * math.pi ** (2 * n) / math.factorial(2 * n + 1)
    return where(near, series * u, (cos(math.pi * far) - ans) / far)


def _share(x: Any, size: Any) -> Any:
    """Of a size that is 0 at a kink a part x, over it: 0 there, with all derivatives."""
    none = equal(size, 0)
    return where(none, 0, x) / where(none, 1, size)


def _turning(x: Any, y: Any) -> Any:
    """X / (x^2 + y^2), in the range of x."""
    size = hypot(x, y)
    return _share(_share(x, size), size)


def _ties(x: Any, y: Any) -> Any:
    return (x == y) | (isnan(x) & isnan(y))


def _halve_ties(wins: Any, ties: Any, like: Any) -> Any:
    return where(ties, like.dtype.type(0.5), wins)


def _inside(x: Any, low: Any, high: Any) -> Any:
    if low is None or high is None:
        return 1 if low is high else x <= high if low is None else x >= low
    return (x >= low) & (x <= high) & (low < high)


def _direction(x: Any, ans: Any) -> Any:
    """The partial derivative of |x|: the sign, and for complex x its conjugate direction (0 at 0)."""
    return _share(conj(x), ans) if x.dtype.kind == "c" else sign(x)


def _turn(g: Any, x: Any, ans: Any) -> Any:
    """Complex x/|x| turns, and its length stays: the part of g across x, over |x|. A real sign never changes."""
    return _share(g - ans * real(conj(ans) * g), absolute(x)) if x.dtype.kind == "c" else 0 * g
