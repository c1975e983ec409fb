"""The one differentiable convolution primitive: three slots, one gradient rule.

    T(x, w, y) = sum  x[n, g, c, o*stride + k*step + origin] * w[(o), g, f, c, k] * y[n, g, f, o]

`contract` solves T for one slot: "y" is the forward pass, "x" the gradient with respect to inputs (and the transposed
convolution), "w" the gradient with respect to weights. T is linear in each slot, so the derivative of any of the three with
respect to an operand is T again, solved for that operand's slot with the cotangent in the old result's slot and the same
spec. All orders, both modes and all variants follow; nothing about geometry is ever computed twice.
"""

from __future__ import annotations

from typing import Any

from eagerconv import algorithms
from eagerconv.algorithms.policy import Policy
from eagerconv.autograd import rules, tape
from eagerconv.record import OPERANDS
from eagerconv.spec import ConvSpec, Slot


def contract(spec: ConvSpec, slot: Slot, a: Any, b: Any, policy: Policy | None = None) -> Any:
    """Solve T for `slot`; `a` and `b` are the other two slots' tensors in the order of `record.OPERANDS`."""
    return recorded(spec, slot, a, b, policy, algorithms.run(spec, slot, a._data, b._data, policy))


def recorded(spec: ConvSpec, slot: Slot, a: Any, b: Any, policy: Policy | None, value: Any) -> Any:
    """The contraction on the tape, whose value is there: or was, as its derivatives ask for the operands alone."""
    return tape.done(_contraction, (a, b), value, {"spec": spec, "slot": slot, "policy": policy})


def _pull(g: Any, other: Any, spec: ConvSpec, slot: Slot, policy: Any, position: int) -> Any:
    """The cotangent of the operand at `position`: g takes the result's slot, the other operand (conjugate) keeps its own."""
    wanted = OPERANDS[slot][position]
    if other.dtype.kind == "c":
        other = rules.conj(other)
    a, b = (g, other) if OPERANDS[wanted][0] == slot else (other, g)
    return contract(spec, wanted, a, b, policy)


_contraction = tape.multilinear(
    "convolution",
    lambda a, b, spec, slot, policy: algorithms.run(spec, slot, a, b, policy),
    lambda g, y, spec, slot, policy: _pull(g, y, spec, slot, policy, 0),
    lambda g, x, spec, slot, policy: _pull(g, x, spec, slot, policy, 1),
)
