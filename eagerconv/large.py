"""Large arrays: which operations the CPU's kernels do faster. Neither the tape nor the kernels know of each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from eagerconv.autograd import rules, tape
from eagerconv.autograd.tape import Node, Op
from eagerconv.formulas import FORMULAS
from eagerconv.functional import nn
from eagerconv.kernels_cpu import copies, formulas, matmul, pointwise, reduce, softmax

Large = Callable[..., Any]


def _first(*functions: Large) -> Large:
    """What the first function gives that gives anything."""

    def large(*arrays: Any, **others: Any) -> Any:
        return next((found for function in functions if (found := function(*arrays, **others)) is not None), None)

    return large


def _arithmetic(same: str | None, behind: str | None, ahead: str | None, sign: int = 1) -> Large:
    """Formulas of two arrays of the same shape, and of one with a number behind or ahead of it."""

    def large(a: Any, b: Any, **others: Any) -> Any:
        array, number = (b, a) if type(a) in _NUMBERS else (a, b)
        if others or type(array) is not np.ndarray or array.size < pointwise.LARGE:
            return None
        if type(number) in _NUMBERS:
            name = ahead if array is b else behind
            if name is None or not abs(number) < 1 << 53:  # of which every whole one is a float64
                return None
            return formulas.evaluate(name, [array], (sign * float(number),))
        if same is None or type(number) is not np.ndarray:
            return None
        return formulas.evaluate(same, [a, b]) if a.shape == b.shape else pointwise.broadcast(same, a, b)

    return large


_NUMBERS = (int, float)
LARGE: dict[Op, Large] = {
    rules.add: _first(pointwise.add, _arithmetic(None, "plus_number", "plus_number")),
    rules.subtract: _first(_arithmetic("subtract", None, "number_less"), _arithmetic(None, "plus_number", None, -1)),
    rules.multiply: _first(pointwise.multiply, _arithmetic(None, "times_number", "times_number")),
    rules.divide: _arithmetic("divide", "over_number", None),
    rules.relu: pointwise.relu,
    rules.gate: pointwise.gate,
    rules.sum: reduce.sum,
    rules.mean: reduce.mean,
    rules.max: reduce.max,
    rules.min: reduce.min,
    rules.matmul: matmul.matmul,
    nn.product: lambda x, w: matmul.matmul(x, w.T),
    rules.pad: copies.pad,
    rules.concatenate: copies.concatenate,
}
"""For each operation a function that gives the same, or None where NumPy is as good."""

for op, function in LARGE.items():
    op.large = function


# ----- Formulas of one array -----

FORMULA_LARGE = 1 << 13
"""Elements from which on a formula's kernel is faster than NumPy's function, whose results may differ in the last place."""


def _evaluated(name: str) -> Large:
    def large(x: Any, **others: Any) -> Any:
        if others or not isinstance(x, np.ndarray) or x.size < FORMULA_LARGE:
            return None
        return formulas.evaluate(name, [x])

    return large


def _pulled(row: Op, at_once: Callable[[Any, Node], Any]) -> Callable[..., Any]:
    """The pullback by `at_once`, of the cotangent's array and the node, where that gives something and nothing is recorded."""
    usual = row.pull

    def pull(op: Op, node: Node, position: int, g: Any) -> Any:
        if not tape.is_grad_enabled() and (found := at_once(g.data, node)) is not None:
            return type(g)._wrap(found)
        return usual(op, node, position, g)

    return pull


def _formula_pulled(name: str) -> Callable[[Any, Node], Any]:
    """In one pass: of cotangent and result, or cotangent and operand."""
    back = f"{name}_back" in FORMULAS
    formula, slot = (f"{name}_back", "ans") if back else (f"{name}_d0", "x")

    def at_once(g: Any, node: Node) -> Any:
        if not isinstance(g, np.ndarray) or g.size < FORMULA_LARGE:
            return None
        return formulas.evaluate(formula, [g, node.unpack(tape.SLOTS[slot], None)])

    return at_once


for name in ("exp", "expm1", "log", "log1p", "sqrt", "tanh", "square", "absolute", "negative"):
    row = getattr(rules, name)
    row.large = _evaluated(name)
    if name not in ("exp", "negative"):  # whose rules are one product
        row.pull = _pulled(row, _formula_pulled(name))


# ----- Softmax -----


def _softmax_of(name: str) -> Large:
    return lambda x, axis=-1: softmax.forward(name, x, axis)


def _softmax_pulled(name: str) -> Callable[[Any, Node], Any]:
    return lambda g, node: softmax.backward(
        name, g, node.unpack(tape.SLOTS["ans"], None), node.params.get("axis", -1)
    )  # fmt: skip


for name in ("softmax", "log_softmax"):
    row = getattr(rules, name)
    row.large, row.pull = _softmax_of(name), _pulled(row, _softmax_pulled(name))
