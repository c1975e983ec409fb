"""Bias and activation of a convolution, in the memory of its result: one pass over it, and no more memory.

What is computed at once is recorded as the operations it stands for: the contraction, an addition, a rectification. None of
their derivatives asks for a value that no longer exists: that of a contraction takes its operands, that of an addition
nothing, that of `relu` its result.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from eagerconv import devices
from eagerconv.autograd import rules, tape
from eagerconv.kernels_cpu import pointwise
from eagerconv.record import Epilogue
from eagerconv.tensor import Tensor


def wished(x: Tensor, bias: Tensor | None, activation: str | None) -> Epilogue | None:
    """What an algorithm of the device of x may do in one go with the contraction; None where none can."""
    if bias is None or devices.of(x.data) == "cpu" or tape.watched():
        return None
    return Epilogue(bias.data, activation is not None)


def finish(y: Tensor, bias: Tensor | None, activation: str | None, met: bool = False) -> Tensor:
    """Bias added to y, rectified if `activation` is "relu". Nobody else may have seen y, whose memory is taken.

    `bias` has the shape (channels, 1, ...). If the wish was `met`, y holds the values already.
    """
    if tape.watched():  # somebody wants to see each result
        y = y if bias is None else y + bias
        return y if activation is None else cast(Tensor, rules.relu(y))
    out = y.data
    if not met:
        _in_place(out, None if bias is None else bias.data, activation is not None)
    if bias is not None:
        y = tape.done(rules.add, (y, bias), out)
    return y if activation is None else cast(Tensor, tape.done(rules.relu, (y,), out))


def _in_place(out: Any, numbers: Any, rectify: bool) -> None:
    if pointwise.finish(out, numbers, rectify):
        return
    if numbers is not None:
        out += numbers
    if rectify:
        np.maximum(out, out.dtype.type(0), out=out)
