"""Large arrays: which operations the CPU's kernels do faster. Neither the tape nor the kernels know of each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eagerconv.autograd import rules
from eagerconv.autograd.tape import Op
from eagerconv.kernels_cpu import matmul, pointwise

LARGE: dict[Op, Callable[..., Any]] = {
    rules.add: pointwise.add,
    rules.multiply: pointwise.multiply,
    rules.relu: pointwise.relu,
    rules.gate: pointwise.gate,
    rules.sum: pointwise.sum,
    rules.matmul: matmul.matmul,
}
"""For each operation a function that gives the same, or None where NumPy is as good."""

for op, function in LARGE.items():
    op.large = function
