"""Formulas of single numbers, each written once: activations, their derivatives, and the steps of optimisers.

A formula is a function f(m, x, ...) of a machine and of values, which are combined by operators and by what the machine
offers: `m.exp(x)`, `m.where(x > 0, x, 0.0)`. On `Arrays` it computes with NumPy's functions, on the lanes of
kernels_cpu/native/elementary.py it emits vector instructions, and on `Dual` it carries a slope along: so one line gives the
plain form, the kernel of large arrays, and the derivatives of any order of both. There are no branches: both sides of a
`where` are computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Arrays", "Dual", "Formula", "Machine", "Value", "formula"]


class Value:
    """A number, or many, on a machine, which `held` means something to; plain numbers beside it become constants."""

    __slots__ = ("held", "machine")

    def __init__(self, machine: Machine, held: Any) -> None:
        self.machine, self.held = machine, held

    def __add__(self, other: Any) -> Value:
        return self.machine.op("add", self, other)

    def __sub__(self, other: Any) -> Value:
        return self.machine.op("subtract", self, other)

    def __rsub__(self, other: Any) -> Value:
        return self.machine.op("subtract", other, self)

    def __mul__(self, other: Any) -> Value:
        return self.machine.op("multiply", self, other)

    def __truediv__(self, other: Any) -> Value:
        return self.machine.op("divide", self, other)

    def __rtruediv__(self, other: Any) -> Value:
        return self.machine.op("divide", other, self)

    def __neg__(self) -> Value:
        return self.machine.op("negative", self)

    def __abs__(self) -> Value:
        return self.machine.op("absolute", self)

    def __gt__(self, other: Any) -> Value:
        return self.machine.op("greater", self, other)

    def __lt__(self, other: Any) -> Value:
        return self.machine.op("less", self, other)

    def __ge__(self, other: Any) -> Value:
        return self.machine.op("greater_equal", self, other)

    def __le__(self, other: Any) -> Value:
        return self.machine.op("less_equal", self, other)

    __radd__, __rmul__ = __add__, __mul__


class Machine:
    """What formulas may ask for; a machine gives `op` of values of its own, and `constant`, the value of a number."""

    def op(self, name: str, *values: Any) -> Value:
        """The operation of that name."""
        return self.apply(name, *(value if isinstance(value, Value) else self.constant(value) for value in values))

    def apply(self, name: str, *values: Value) -> Value:
        """The operation, of values only."""
        raise NotImplementedError

    def constant(self, number: float) -> Value:
        """A plain number as a value."""
        raise NotImplementedError

    def where(self, condition: Value, one: Any, other: Any) -> Value:
        """One where the condition holds, else the other."""
        return self.op("where", condition, one, other)

    def above(self, x: Value, low: Any) -> Value:
        """X where it is not below the limit; NaN stays."""
        return self.where(x < low, low, x)

    def below(self, x: Value, high: Any) -> Value:
        """X where it is not above the limit; NaN stays."""
        return self.where(x > high, high, x)

    def sqrt(self, x: Value) -> Value:
        """The square root."""
        return self.op("sqrt", x)

    def exp(self, x: Value) -> Value:
        """The exponential."""
        return self.op("exp", x)

    def expm1(self, x: Value) -> Value:
        """exp(x) - 1, exact near zero."""
        return self.op("expm1", x)

    def log(self, x: Value) -> Value:
        """The natural logarithm."""
        return self.op("log", x)

    def log1p(self, x: Value) -> Value:
        """log(1 + x), exact near zero."""
        return self.op("log1p", x)

    def tanh(self, x: Value) -> Value:
        """The hyperbolic tangent."""
        return self.op("tanh", x)

    def sigmoid(self, x: Value) -> Value:
        """1 / (1 + exp(-x)), without overflow."""
        return self.op("sigmoid", x)

    def softplus(self, x: Value) -> Value:
        """log(1 + exp(x)), without overflow."""
        return self.op("softplus", x)

    def normal_cdf(self, x: Value) -> Value:
        """The probability that a standard normal number is below x."""
        return self.op("normal_cdf", x)

    def normal_pdf(self, x: Value) -> Value:
        """The density of such numbers."""
        return self.op("normal_pdf", x)


ELEMENTARY: dict[str, Callable[[Machine, Value, Value], Value]] = {
    "sqrt": lambda m, x, y: 0.5 / y,
    "exp": lambda m, x, y: y,
    "expm1": lambda m, x, y: m.exp(x),
    "log": lambda m, x, y: 1.0 / x,
    "log1p": lambda m, x, y: 1.0 / (x + 1.0),
    "tanh": lambda m, x, y: 1.0 - y * y,
    "sigmoid": lambda m, x, y: y * m.sigmoid(-x),  # 1 - y without cancellation
    "softplus": lambda m, x, y: m.sigmoid(x),
    "normal_cdf": lambda m, x, y: m.normal_pdf(x),
    "normal_pdf": lambda m, x, y: -x * y,
}
"""The elementary functions y = f(x) with f'(x)."""

TAIL = {
    32: (
        0.019379472279726848, 0.006742509492228791, -0.05428311013395641, -0.05091746960695991, 0.07323487579513124,
        0.2547386833072877, 0.38038859204334474, 0.3884487348397383, 0.30235718866633426, 0.1871063778642038,
    ),
    64: (
        -0.00037535317053472467, 0.002386403315969788, -0.0020163614340236273, -0.003629397330070989, 0.005487713883596084,
        0.0026425837677318356, -0.008610614926841384, -0.0005109383184968933, 0.012032018665144474, -0.0018339347709261178,
        -0.01774549088058775, 0.003013779263768627, 0.029944950961528268, 0.0034599842611400264, -0.05579019558074461,
        -0.05040442425105664, 0.07332185862337684, 0.2547115797077334, 0.3803863610121246, 0.388449194850413,
        0.30235720773585, 0.18710637671147068,
    ),
}  # fmt: skip
"""The tail of the normal distribution is exp(-x**2 / 2) t P(t - 1/2), t = 1 / (1 + TAIL_SCALE x)."""

TAIL_SCALE = 0.35 * math.sqrt(0.5)


# ----- Machines -----


class Arrays(Machine):
    """Computes with NumPy's functions on arrays of one dtype, of any library that takes them."""

    def __init__(self, dtype: Any, others: dict[str, Callable[..., Any]]) -> None:
        """`others` are the functions that NumPy has not."""
        self.dtype, self.others = dtype, others

    def constant(self, number: float) -> Value:
        """A number of the dtype, as NumPy does not take Python's for weakly typed everywhere."""
        return Value(self, self.dtype.type(number))

    def apply(self, name: str, *values: Value) -> Value:
        """The function of that name."""
        function = self.others.get(name) or getattr(np, name)
        return Value(self, function(*[value.held for value in values]))


class Dual(Machine):
    """Values with slopes: `held` is (value, slope) on another machine, the slope None where it is zero."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def constant(self, number: float) -> Value:
        """A number, whose slope is zero."""
        return Value(self, (self.machine.constant(number), None))

    def apply(self, name: str, *values: Value) -> Value:
        """The operation, and the chain rule."""
        numbers, slopes = zip(*(value.held for value in values), strict=True)
        out = self.machine.op(name, *numbers)
        if all(slope is None for slope in slopes) or name in ("greater", "less", "greater_equal", "less_equal"):
            return Value(self, (out, None))
        if name in ELEMENTARY:
            return Value(self, (out, slopes[0] * ELEMENTARY[name](self.machine, numbers[0], out)))
        return Value(self, (out, getattr(self, f"_{name}")(numbers, slopes, out)))

    def _add(self, x: Any, d: Any, y: Value) -> Value:
        return _sum(d[0], d[1])

    def _subtract(self, x: Any, d: Any, y: Value) -> Value:
        return _sum(d[0], None if d[1] is None else -d[1])

    def _multiply(self, x: Any, d: Any, y: Value) -> Value:
        return _sum(None if d[0] is None else d[0] * x[1], None if d[1] is None else d[1] * x[0])

    def _divide(self, x: Any, d: Any, y: Value) -> Value:
        return _sum(None if d[0] is None else d[0] / x[1], None if d[1] is None else -(d[1] * y / x[1]))

    def _negative(self, x: Any, d: Any, y: Value) -> Any:
        return -d[0]

    def _absolute(self, x: Any, d: Any, y: Value) -> Value:
        return self.machine.where(x[0] < 0.0, -d[0], self.machine.where(x[0] > 0.0, d[0], 0.0))

    def _where(self, x: Any, d: Any, y: Value) -> Value:
        return self.machine.where(x[0], 0.0 if d[1] is None else d[1], 0.0 if d[2] is None else d[2])


def _sum(a: Value | None, b: Value | None) -> Value:
    if a is None or b is None:
        both = b if a is None else a
        assert both is not None  # a slope that is not zero has led here
        return both
    return a + b


# ----- The formulas -----


class Formula(NamedTuple):
    """A function of the machine, of values of `operands` arrays, and of numbers that are the same for all elements.

    Where there is a formula name + "_back", of cotangent, result and numbers, it is what derivatives are made of.
    """

    function: Callable[..., Any]
    operands: int = 1
    numbers: int = 0
    results: int = 1


def _silu(m: Machine, x: Value) -> Value:
    return x * m.sigmoid(x)


def _gelu_tanh(m: Machine, x: Value) -> Value:
    return x * m.sigmoid((x + 0.044715 * x * x * x) * math.sqrt(8 / math.pi))


def _mish(m: Machine, x: Value) -> Value:
    """The product x tanh(log(1 + e)) with e = exp(x), which is x q / (q + 2) with q = e (e + 2)."""
    e = m.exp(m.below(x, 20.0))
    q = e * (e + 2.0)
    return x * (q / (q + 2.0))


def _mish_slope(m: Machine, g: Value, x: Value) -> Value:
    """The derivative is q u + x q' 2 u**2 with u = 1 / (q + 2) and q' = 2 e (e + 1)."""
    e = m.exp(m.below(x, 20.0))
    q = e * (e + 2.0)
    u = 1.0 / (q + 2.0)
    return g * (q * u + x * (4.0 * e * (e + 1.0) * u * u))


def _elu(m: Machine, x: Value, alpha: Value) -> Value:
    return m.where(x > 0.0, x, alpha * m.expm1(m.below(x, 0.0)))


def _softplus(m: Machine, x: Value, beta: Value) -> Value:
    return m.softplus(x * beta) / beta


def _hard_sigmoid(m: Machine, x: Value) -> Value:
    """The addition comes before the division: x / 6 + 1 / 2 would cancel near -3."""
    return m.below(m.above(x + 3.0, 0.0), 6.0) * (1 / 6)


def _huber(m: Machine, a: Value, b: Value, delta: Value) -> Value:
    """Half of d**2 where d = |a - b| is at most delta, beyond it delta (d - delta / 2)."""
    d = abs(a - b)
    near = m.below(d, delta)
    return near * (d - 0.5 * near)


# The steps of optimisers, of parameter, gradient and what is kept from step to step, which they give in the same order.


def _sgd(m: Machine, p: Value, g: Value, rate: Value, decay: Value) -> Value:
    return p - rate * (g + decay * p)


def _momentum(nesterov: bool) -> Callable[..., Any]:
    def step(m: Machine, p: Value, g: Value, v: Value, rate: Value, decay: Value, momentum: Value) -> Any:
        g = g + decay * p
        v = momentum * v + g
        return p - rate * (g + momentum * v if nesterov else v), v

    return step


def _adam(
    m: Machine, p: Value, g: Value, mean: Value, square: Value, rate: Value, decay: Value, keep: Value, share1: Value,
    beta2: Value, share2: Value, root: Value, eps: Value,
) -> Any:  # fmt: skip
    """`keep` is what decoupled decay leaves of p; `root` and `rate` hold the corrections of means that began at zero."""
    g = g + decay * p
    mean = mean + (g - mean) * share1
    square = square * beta2 + g * g * share2
    return p * keep - rate * (mean / (m.sqrt(square) / root + eps)), mean, square


def _rmsprop(centered: bool, moving: bool) -> Callable[..., Any]:
    def step(m: Machine, p: Value, g: Value, square: Value, *others: Value) -> Any:
        kept, (rate, decay, alpha, share, eps, momentum) = list(others[:-6]), others[-6:]
        g = g + decay * p
        scale = square = square * alpha + g * g * share
        if centered:
            kept[0] = kept[0] + (g - kept[0]) * share
            scale = m.above(square - kept[0] * kept[0], 0.0)  # below it only by rounding
        change = g / (m.sqrt(scale) + eps)
        if moving:
            change = kept[-1] = kept[-1] * momentum + change
        return p - rate * change, square, *kept

    return step


FORMULAS: dict[str, Formula] = {
    "exp": Formula(lambda m, x: m.exp(x)),
    "expm1": Formula(lambda m, x: m.expm1(x)),
    "expm1_back": Formula(lambda m, g, y: g * (y + 1.0), 2),
    "log": Formula(lambda m, x: m.log(x)),
    "log1p": Formula(lambda m, x: m.log1p(x)),
    "sqrt": Formula(lambda m, x: m.sqrt(x)),
    "sqrt_back": Formula(lambda m, g, y: g * (0.5 / y), 2),
    "tanh": Formula(lambda m, x: m.tanh(x)),
    "tanh_back": Formula(lambda m, g, y: g * (1.0 - y * y), 2),
    "sigmoid": Formula(lambda m, x: m.sigmoid(x)),
    "sigmoid_back": Formula(lambda m, g, y: g * (y * (1.0 - y)), 2),
    "relu": Formula(lambda m, x: m.where(x <= 0.0, 0.0, x)),
    "relu_d0": Formula(lambda m, g, x: m.where(x > 0.0, g, 0.0), 2),
    "relu6": Formula(lambda m, x: m.below(m.above(x, 0.0), 6.0)),
    "relu6_d0": Formula(lambda m, g, x: m.where(x > 0.0, m.where(x < 6.0, g, 0.0), 0.0), 2),
    "leaky_relu": Formula(lambda m, x, slope: m.where(x > 0.0, x, x * slope), 1, 1),
    "elu": Formula(_elu, 1, 1),
    "elu_d0": Formula(lambda m, g, x, alpha: g * m.where(x > 0.0, 1.0, alpha * m.exp(m.below(x, 0.0))), 2, 1),
    "celu": Formula(lambda m, x, alpha: m.where(x > 0.0, x, alpha * m.expm1(m.below(x, 0.0) / alpha)), 1, 1),
    "celu_d0": Formula(lambda m, g, x, alpha: g * m.where(x > 0.0, 1.0, m.exp(m.below(x, 0.0) / alpha)), 2, 1),
    "selu": Formula(lambda m, x: 1.0507009873554805 * _elu(m, x, m.constant(1.6732632423543772))),
    "selu_d0": Formula(
        lambda m, g, x: g * m.where(x > 0.0, 1.0507009873554805, 1.7580993408473766 * m.exp(m.below(x, 0.0))), 2
    ),
    "gelu": Formula(lambda m, x: x * m.normal_cdf(x)),
    "gelu_tanh": Formula(_gelu_tanh),
    "silu": Formula(_silu),
    "mish": Formula(_mish),
    "mish_d0": Formula(_mish_slope, 2),
    "softplus": Formula(lambda m, x: m.softplus(x)),
    "log_sigmoid": Formula(lambda m, x: -m.softplus(-x)),
    "scaled_softplus": Formula(_softplus, 1, 1),
    "softsign": Formula(lambda m, x: x / (1.0 + abs(x))),
    "softsign_d0": Formula(lambda m, g, x: g / ((1.0 + abs(x)) * (1.0 + abs(x))), 2),
    "hardtanh": Formula(lambda m, x, low, high: m.below(m.above(x, low), high), 1, 2),
    "hardsigmoid": Formula(_hard_sigmoid),
    "hardswish": Formula(lambda m, x: x * _hard_sigmoid(m, x)),
    "add": Formula(lambda m, a, b: a + b, 2),
    "multiply": Formula(lambda m, a, b: a * b, 2),
    "add_relu": Formula(lambda m, a, b: m.where(a + b <= 0.0, 0.0, a + b), 2),
    "gate": Formula(lambda m, g, y: m.where(y > 0.0, g, 0.0), 2),
    "subtract": Formula(lambda m, a, b: a - b, 2),
    "divide": Formula(lambda m, a, b: a / b, 2),
    "square": Formula(lambda m, x: x * x),
    "absolute": Formula(lambda m, x: abs(x)),
    "negative": Formula(lambda m, x: -x),
    "plus_number": Formula(lambda m, x, number: x + number, 1, 1),
    "times_number": Formula(lambda m, x, number: x * number, 1, 1),
    "over_number": Formula(lambda m, x, number: x / number, 1, 1),
    "number_less": Formula(lambda m, x, number: number - x, 1, 1),
    "squared_error": Formula(lambda m, a, b: (a - b) * (a - b), 2),
    "absolute_error": Formula(lambda m, a, b: abs(a - b), 2),
    "huber_error": Formula(_huber, 2, 1),
    "logit_error": Formula(lambda m, x, y: (1.0 - y) * x + m.softplus(-x), 2),
    "sgd": Formula(_sgd, 2, 2),
    "sgd_momentum": Formula(_momentum(False), 3, 3, 2),
    "sgd_nesterov": Formula(_momentum(True), 3, 3, 2),
    "adam": Formula(_adam, 4, 8, 3),
    "rmsprop": Formula(_rmsprop(False, False), 3, 6, 2),
    "rmsprop_centered": Formula(_rmsprop(True, False), 4, 6, 3),
    "rmsprop_moving": Formula(_rmsprop(False, True), 4, 6, 3),
    "rmsprop_centered_moving": Formula(_rmsprop(True, True), 5, 6, 4),
}
"""The formulas by name. Those of derivatives are found by `formula`; here are the ones that would cancel as it makes them."""


@lru_cache(maxsize=1024)
def formula(name: str) -> Formula:
    """The formula of that name; name + "_d0" is that of cotangent and operands for the cotangent of operand 0.

    Derivatives have derivatives again: "silu_d0_d1" is that of the product g * silu'(x) with respect to x, times a cotangent.
    """
    if name in FORMULAS:
        return FORMULAS[name]
    base, _, position = name.rpartition("_d")
    if not (base and position.isdigit()):
        raise KeyError(name)
    return _derivative(formula(base), int(position))


def _derivative(of: Formula, position: int) -> Formula:
    def pulled(m: Machine, g: Value, *values: Value) -> Value:
        dual = Dual(m)
        one = m.constant(1.0)
        given = [Value(dual, (value, one if i == position else None)) for i, value in enumerate(values)]  # numbers too
        slope = of.function(dual, *given).held[1]
        return g * 0.0 if slope is None else g * slope

    return Formula(pulled, of.operands + 1, of.numbers)
