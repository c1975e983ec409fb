"""Bias and activation of a convolution, in the memory of its result: one pass over it, and no more memory.

What is computed at once is recorded as the operations it stands for: the contraction, an addition, a rectification. None of
their derivatives asks for a value that no longer exists: that of a contraction takes its operands, that of an addition
nothing, that of `relu` its result.
"""

from __future__ import annotations

from typing import cast

import numpy as np

from eagerconv.autograd import rules, tape
from eagerconv.kernels_cpu import pointwise
from eagerconv.tensor import Tensor


def finish(y: Tensor, bias: Tensor | None, activation: str | None) -> Tensor:
    """Bias added to y, rectified if `activation` is "relu". Nobody else may have seen y, whose memory is taken.

    `bias` has the shape (channels, 1, ...).
    """
    if tape.watched():  # somebody wants to see each result
        y = y if bias is None else y + bias
        return y if activation is None else cast(Tensor, rules.relu(y))
    out = y.data
    numbers = None if bias is None else bias.data
    if not pointwise.finish(out, numbers, activation == "relu"):
        if numbers is not None:
            out += numbers
        if activation is not None:
            np.maximum(out, 0, out=out)
    if bias is not None:
        y = tape.done(rules.add, (y, bias), out)
    return y if activation is None else cast(Tensor, tape.done(rules.relu, (y,), out))
