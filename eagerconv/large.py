"""Large arrays: which operations the CPU's kernels do faster. Neither the tape nor the kernels know of each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from eagerconv.autograd import rules, tape
from eagerconv.autograd.tape import Node, Op
from eagerconv.formulas import FORMULAS
from eagerconv.kernels_cpu import formulas, matmul, pointwise, reduce, softmax


def _first(functions: tuple[Callable[..., Any], ...], *arrays: Any, **others: Any) -> Any:
    """What the first function gives that gives anything."""
    return next((found for function in functions if (found := function(*arrays, **others)) is not None), None)


LARGE: dict[Op, Callable[..., Any]] = {
    rules.add: pointwise.add,
    rules.multiply: pointwise.multiply,
    rules.relu: pointwise.relu,
    rules.gate: pointwise.gate,
    rules.sum: lambda *arrays, **others: _first((pointwise.sum, reduce.sum), *arrays, **others),
    rules.mean: reduce.mean,
    rules.max: reduce.max,
    rules.min: reduce.min,
    rules.matmul: matmul.matmul,
}
"""For each operation a function that gives the same, or None where NumPy is as good."""

for op, function in LARGE.items():
    op.large = function


# ----- Formulas of one array -----

FORMULA_LARGE = 1 << 13
"""Elements from which on a formula's kernel is faster than NumPy's function, whose results may differ in the last place."""


def _evaluated(name: str) -> Callable[..., Any]:
    def large(x: Any, **others: Any) -> Any:
        if others or not isinstance(x, np.ndarray) or x.size < FORMULA_LARGE:
            return None
        return formulas.evaluate(name, [x])

    return large


def _pulled(row: Op, name: str) -> Callable[..., Any]:
    """The pullback in one pass, where nobody will differentiate it: of cotangent and result, or cotangent and operand."""
    usual, back = row.pull, f"{name}_back" in FORMULAS
    formula, slot = (f"{name}_back", "ans") if back else (f"{name}_d0", "x")

    def pull(op: Op, node: Node, position: int, g: Any) -> Any:
        if not tape.is_grad_enabled() and isinstance(g.data, np.ndarray) and g.data.size >= FORMULA_LARGE:
            found = formulas.evaluate(formula, [g.data, node.unpack(tape.SLOTS[slot], None)])
            if found is not None:
                return type(g)._wrap(found)
        return usual(op, node, position, g)

    return pull


for name in ("exp", "expm1", "log", "log1p", "sqrt", "tanh"):
    row = getattr(rules, name)
    row.large = _evaluated(name)
    if name != "exp":  # whose rule is one product
        row.pull = _pulled(row, name)


# ----- Softmax -----


def _softmax_of(name: str) -> Callable[..., Any]:
    return lambda x, axis=-1: softmax.forward(name, x, axis)


def _softmax_pulled(row: Op, name: str) -> Callable[..., Any]:
    usual = row.pull

    def pull(op: Op, node: Node, position: int, g: Any) -> Any:
        if not tape.is_grad_enabled():
            y = node.unpack(tape.SLOTS["ans"], None)
            found = softmax.backward(name, g.data, y, node.params.get("axis", -1))
            if found is not None:
                return type(g)._wrap(found)
        return usual(op, node, position, g)

    return pull


for name in ("softmax", "log_softmax"):
    row = getattr(rules, name)
    row.large, row.pull = _softmax_of(name), _softmax_pulled(row, name)
