"""Elementary functions of vectors, as polynomials without branches, and the machine on which formulas are made of them.

Errors are counted in ulp, units in the last place of the result; tests/test_elementary.py measures them. The reduction of
exp and log and the bits they move are those of W. J. Cody and W. Waite, "Software manual for the elementary functions",
1980; the coefficients are minimax, found by Remez exchange in high precision. Results depend on the lane's number alone, so
that those of AVX2 and AVX-512 have the same bits.
"""

from __future__ import annotations

import math
from typing import Any

import llvmlite.ir as ir
import numpy as np

from eagerconv.formulas import TAIL, TAIL_SCALE, Machine, Value
from eagerconv.kernels_cpu.native.simd import I32, Vectors

LN2 = {32: (0.693145751953125, 1.4286068203094173e-06), 64: (0.6931471805592082, 7.371002565167799e-13)}
"""The logarithm of 2 in two parts, the first of so few bits that its products with whole numbers are exact."""

EXP = {
    32: (0.0013926183587713494, 0.008363179052722578, 0.041666554617204574, 0.16666576989698775, 0.5),
    64: (
        2.0914686968086876e-09, 2.5105217004720745e-08, 2.75572736431103e-07, 2.7557255400206422e-06, 2.4801587325547743e-05,
        0.00019841269874820627, 0.0013888888888883748, 0.008333333333326136, 0.04166666666666667, 0.1666666666666667, 0.5,
    ),
}  # fmt: skip
"""exp(r) = 1 + r + r**2 P(r) for |r| <= ln(2) / 2."""

LOG = {
    32: (
        -0.12422200575409693, 0.13748309139532636, -0.12288721609296725, 0.14055812653133343, -0.1667331625320225,
        0.20007233984917233, -0.24999944186243983, 0.33333272619719945, -0.5,
    ),
    64: (
        0.13604015707124079, 0.1321036048513262, 0.15388834677801916, 0.18181738454723026, 0.22222223037807243,
        0.2857142856733919, 0.400000000000078, 0.6666666666666666,
    ),
}  # fmt: skip
"""log(1 + f) = f + f**2 P(f) in single, f - f**2 / 2 + s (f**2 / 2 + s**2 P(s**2)), s = f / (2 + f), in double precision."""

TANH = (-0.00632696977579579, 0.02114708497111314, -0.053880867626047324, 0.1333295671338971, -0.3333333070531768)
"""tanh(x) = x + x**3 P(x**2) for x**2 <= 0.35."""


class Lanes(Machine):
    """Formulas on the lanes of vectors: `held` is an LLVM value."""

    def __init__(self, v: Vectors) -> None:
        self.v, self.bits = v, v.bits
        self.mantissa = 23 if v.bits == 32 else 52
        self.magic = 1.5 * 2.0**self.mantissa  # added and taken away again, it rounds to whole numbers
        self.integer = ir.IntType(v.bits)
        self.integers = ir.VectorType(self.integer, v.lanes)

    def constant(self, number: float) -> Value:
        """The number in every lane."""
        return Value(self, self.v.constant(float(np.float32(number)) if self.bits == 32 else float(number)))

    def apply(self, name: str, *values: Value) -> Value:
        """The instruction of that name, or the function of this file."""
        if name in FUNCTIONS:
            return FUNCTIONS[name](self, *values)
        v, held = self.v, [value.held for value in values]
        b = v.builder
        if name in _INSTRUCTIONS:
            return Value(self, getattr(b, _INSTRUCTIONS[name])(*held))
        if name in _COMPARISONS:
            return Value(self, b.fcmp_ordered(_COMPARISONS[name], *held))
        if name == "where":
            return Value(self, b.select(*held))
        function = v.declared(f"llvm.{_CALLS[name]}.{v.suffix}", v.type, [v.type] * len(held))
        return Value(self, b.call(function, held))

    # What only this machine has.

    def fma(self, a: Any, b: Any, c: Any) -> Value:
        """a*b + c with one rounding."""
        return self.op("fma", a, b, c)

    def polynomial(self, x: Value, coefficients: tuple[float, ...]) -> Value:
        """The polynomial with these coefficients, the highest power's first."""
        p = self.constant(coefficients[0])
        for c in coefficients[1:]:
            p = self.fma(p, x, c)
        return p

    def with_sign(self, x: Value, of: Value) -> Value:
        """The absolute value of x with the sign of another."""
        return self.op("copysign", x, of)

    def whole(self, x: Value, factor: float) -> Value:
        """The whole number nearest to x * factor."""
        return self.fma(x, factor, self.magic) - self.magic

    def _integers(self, number: int) -> Any:
        return ir.Constant(self.integers, [number & (2**self.bits - 1)] * self.v.lanes)

    def bits_of(self, x: Value) -> Any:
        """The bits of numbers, as integers."""
        return self.v.builder.bitcast(x.held, self.integers)

    def with_bits(self, bits: Any) -> Value:
        """The numbers of these bits."""
        return Value(self, self.v.builder.bitcast(bits, self.v.type))

    def power_of_two(self, n: Value) -> Value:
        """2**n for whole n in the range of normal numbers: the low bits of n + magic, moved to the exponent."""
        b = self.v.builder
        one = 0x3F800000 if self.bits == 32 else 0x3FF0000000000000
        low = b.shl(self.bits_of(n + self.magic), self._integers(self.mantissa))
        return self.with_bits(b.add(low, self._integers(one)))

    def scaled(self, x: Value, n: Value) -> Value:
        """The product x * 2**n, rounded once; AVX-512 has an instruction for it, with the same bits."""
        v = self.v
        if v.lanes * v.bytes == 64:
            kind = "ps" if self.bits == 32 else "pd"
            mask = ir.IntType(v.lanes)
            function = v.declared(f"llvm.x86.avx512.mask.scalef.{kind}.512", v.type, [v.type] * 3 + [mask, I32])
            return Value(self, v.builder.call(function, [x.held, n.held, x.held, mask(-1), I32(4)]))
        half = self.whole(n, 0.5)  # 2**n itself need not be a normal number
        return x * self.power_of_two(half) * self.power_of_two(n - half)

    def exponent(self, bits: Any) -> tuple[Any, Value]:
        """For the bits of positive numbers: of the power of two that leaves 2/3 to 4/3, less those of 1, and its exponent."""
        b = self.v.builder
        two_thirds = 0x3F2AAAAB if self.bits == 32 else 0x3FE5555555555555
        k = b.and_(b.sub(bits, self._integers(two_thirds)), self._integers(-(1 << self.mantissa)))
        if self.bits == 32:
            return k, Value(self, b.sitofp(b.ashr(k, self._integers(self.mantissa)), self.v.type))
        # AVX2 converts no int64: shifted without sign, put into the mantissa of 2**52, from which the offset is taken.
        biased = b.lshr(b.add(k, self._integers(1024 << 52)), self._integers(52))
        return k, self.with_bits(b.or_(biased, self._integers(0x4330000000000000))) - (2.0**52 + 1024)


_INSTRUCTIONS = {"add": "fadd", "subtract": "fsub", "multiply": "fmul", "divide": "fdiv", "negative": "fneg"}
_COMPARISONS = {"greater": ">", "less": "<", "greater_equal": ">=", "less_equal": "<=", "equal": "=="}
_CALLS = {"absolute": "fabs", "sqrt": "sqrt", "fma": "fma", "copysign": "copysign"}


# ----- Exponentials -----


def _reduced(m: Lanes, x: Value) -> tuple[Value, Value]:
    """N and exp(r) - 1, where x = n ln 2 + r and |r| <= ln(2) / 2."""
    high, low = LN2[m.bits]
    n = m.whole(x, 1 / math.log(2))
    r = m.fma(n, -low, m.fma(n, -high, x))
    return n, m.fma(m.polynomial(r, EXP[m.bits]) * r, r, r)


def exp(m: Lanes, x: Value) -> Value:
    """The product 2**n exp(r), beyond the largest and below the smallest numbers too."""
    low, high = (-104.0, 89.0) if m.bits == 32 else (-746.0, 710.0)
    n, p = _reduced(m, m.above(m.below(x, high), low))
    return m.scaled(p + 1.0, n)


def exp_negative(m: Lanes, x: Value) -> Value:
    """Exp for x <= 0, where what is below the normal numbers may become zero: in sums of exponentials."""
    limit = -87.0 if m.bits == 32 else -708.0
    n, p = _reduced(m, m.above(x, limit))
    return m.where(x < limit, 0.0, (p + 1.0) * m.power_of_two(n))


def expm1(m: Lanes, x: Value) -> Value:
    """2**n (exp(r) - 1) + 2**n - 1, of which half, as 2**n may be beyond the largest number."""
    low, high = (-20.0, 89.0) if m.bits == 32 else (-40.0, 710.0)
    n, p = _reduced(m, m.above(m.below(x, high), low))
    half = m.power_of_two(n - 1.0)
    y = m.fma(half, p, half - 0.5) * 2.0
    return m.with_sign(m.where(m.op("equal", n, 0.0), p, y), x)


# ----- Logarithms -----


def _log_of(m: Lanes, f: Value, e: Value) -> Value:
    """log(1 + f) + e ln 2 for 2/3 <= 1 + f <= 4/3."""
    high, low = LN2[m.bits]
    if m.bits == 32:
        return m.fma(e, high, m.fma(e, low, m.fma(m.polynomial(f, LOG[32]) * f, f, f)))
    s, h = f / (f + 2.0), f * f * 0.5
    z = s * s
    t = m.fma(s, m.fma(m.polynomial(z, LOG[64]), z, h), e * low)
    return m.fma(e, high, f - (h - t))


def log(m: Lanes, x: Value) -> Value:
    """Of x = 2**e (1 + f); what is not normal is first made larger."""
    tiny, scale = (2.0**-126, 2.0**23) if m.bits == 32 else (2.0**-1022, 2.0**52)
    small = x < tiny
    bits = m.bits_of(m.where(small, x * scale, x))
    k, e = m.exponent(bits)
    f = m.with_bits(m.v.builder.sub(bits, k)) - 1.0
    return _with_edges(m, x, _log_of(m, f, e - m.where(small, float(m.mantissa), 0.0)))


def log1p(m: Lanes, x: Value) -> Value:
    """1 + x = 2**e (1 + f) with f = x 2**-e + (2**-e - 1), in which nothing of x is lost."""
    b, u = m.v.builder, x + 1.0
    k, e = m.exponent(m.bits_of(u))
    k = b.select((u < math.inf).held, k, m._integers(0))  # what is no number must not become the bits of NaN
    four = 0x40800000 if m.bits == 32 else 0x4010000000000000
    inverse = m.with_bits(b.sub(m._integers(four), k))  # 4 * 2**-e
    f = m.fma(x, inverse * 0.25, m.fma(inverse, 0.25, -1.0))
    y = _with_edges(m, u, _log_of(m, f, e))
    return m.where(m.op("equal", x, 0.0), x, y)


def _with_edges(m: Lanes, x: Value, y: Value) -> Value:
    """The logarithm y of x where x is a positive number, and what it is elsewhere."""
    y = m.where(x < math.inf, y, x)
    return m.where(x > 0.0, y, m.where(m.op("equal", x, 0.0), -math.inf, x - x + math.nan))


# ----- Made of exponentials and logarithms -----


def tanh(m: Lanes, x: Value) -> Value:
    """Single precision: a polynomial, and 1 - 2 / (exp(2|x|) + 1) beyond. Double: expm1(-2|x|) over itself plus 2."""
    if m.bits == 32:
        z = x * x
        near = m.fma(m.polynomial(z, TANH) * z, x, x)
        n, p = _reduced(m, m.below(abs(x) * 2.0, 20.0))
        far = 1.0 - 2.0 / ((p + 1.0) * m.power_of_two(n) + 1.0)
        return m.where(z < 0.35, near, m.with_sign(far, x))
    n, p = _reduced(m, m.above(abs(x) * -2.0, -40.0))
    s = m.power_of_two(n)
    t = m.fma(s, p, s - 1.0)
    return m.with_sign(t / (t + 2.0), x)


def sigmoid(m: Lanes, x: Value) -> Value:
    """exp(-|x|), or 1, over 1 + exp(-|x|); the quotient is corrected by what the sum and it were rounded by."""
    e = exp(m, -abs(x))
    above = m.where(x < 0.0, e, 1.0)
    below = e + 1.0
    lost = e - (below - 1.0)
    inverse = 1.0 / below
    y = above * inverse
    return m.fma(m.fma(-y, below, above) - y * lost, inverse, y)


def softplus(m: Lanes, x: Value) -> Value:
    """max(x, 0) + log1p(exp(-|x|))."""
    e = exp(m, -abs(x))
    if m.bits == 64:
        return m.above(x, 0.0) + log1p(m, e)
    # log1p for 0 <= e <= 1: from the middle on that of (1 + e) / 2, and ln 2
    large = e > 1 / 3
    f = m.where(large, e * 0.5 - 0.5, e)
    y = m.fma(m.polynomial(f, LOG[32]) * f, f, f)
    return m.above(x, 0.0) + (y + m.where(large, math.log(2), 0.0))


def _bell(m: Lanes, square: Value) -> Value:
    """exp(-square / 2), zero where what is made of it would leave the normal numbers, which processors are slow with."""
    limit = 168.0 if m.bits == 32 else 1400.0
    n, p = _reduced(m, m.below(square, limit) * -0.5)
    return m.where(square > limit, 0.0, (p + 1.0) * m.power_of_two(n))


def normal_cdf(m: Lanes, x: Value) -> Value:
    """By its tail, whose exponential gets the digits back that the square of x has lost; below 1e-37 it is zero."""
    t = 1.0 / m.fma(abs(x), TAIL_SCALE, 1.0)
    square = x * x
    lost = m.fma(x, x, -square)
    e = _bell(m, square)
    tail = m.fma(e, lost * -0.5, e) * (m.polynomial(t - 0.5, TAIL[m.bits]) * t)
    tail = m.where(square > 1e4, 0.0, tail)  # where `lost` need not be a number
    return m.where(x < 0.0, tail, 1.0 - tail)


def normal_pdf(m: Lanes, x: Value) -> Value:
    """The density, likewise."""
    return _bell(m, x * x) * (1 / math.sqrt(2 * math.pi))


FUNCTIONS = {
    "exp": exp, "exp_negative": exp_negative, "expm1": expm1, "log": log, "log1p": log1p, "tanh": tanh, "sigmoid": sigmoid,
    "softplus": softplus, "normal_cdf": normal_cdf, "normal_pdf": normal_pdf,
}  # fmt: skip
