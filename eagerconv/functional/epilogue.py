"""Bias and activation of a convolution, in the memory of its result: one pass over it, and no more memory.

What is computed at once is recorded as the operations it stands for: the contraction, an addition, a rectification. None of
their derivatives asks for a value that no longer exists: that of a contraction takes its operands, that of an addition
nothing, that of `relu` its result.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from eagerconv import algorithms
from eagerconv.algorithms.policy import Policy
from eagerconv.autograd import rules, tape
from eagerconv.contract import contract, recorded
from eagerconv.kernels_cpu import pointwise
from eagerconv.spec import ConvSpec, Slot
from eagerconv.tensor import Tensor


def convolved(
    spec: ConvSpec, slot: Slot, a: Tensor, b: Tensor, policy: Policy | None, bias: Tensor | None, activation: str | None
) -> Tensor:
    """The contraction, with a bias of shape (channels, 1, ...) added, and rectified if `activation` is "relu"."""
    rectify = activation is not None
    if tape.watched():  # somebody wants to see each result
        y = contract(spec, slot, a, b, policy)
        y = y if bias is None else y + bias
        return cast(Tensor, rules.relu(y) if rectify else y)
    fused = None if bias is None else algorithms.fused(spec, slot, a.data, b.data, bias.data, rectify, policy)
    out = algorithms.run(spec, slot, a.data, b.data, policy) if fused is None else fused
    if fused is None:
        _in_place(out, None if bias is None else bias.data, rectify)
    y = recorded(spec, slot, a, b, policy, out)
    if bias is not None:
        y = tape.done(rules.add, (y, bias), out)
    return cast(Tensor, tape.done(rules.relu, (y,), out) if rectify else y)


def _in_place(out: Any, numbers: Any, rectify: bool) -> None:
    if pointwise.finish(out, numbers, rectify):
        return
    if numbers is not None:
        out += numbers
    if rectify:
        np.maximum(out, out.dtype.type(0), out=out)
