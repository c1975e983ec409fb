"""detect_anomaly: name the first operation that makes a NaN or an Inf, and the user's line that called it."""

from __future__ import annotations

import linecache
import os
import sys
import threading
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any, Self

import numpy as np

from eagerconv.autograd import tape
from eagerconv.autograd.tape import Node, Op, Traced
from eagerconv.scopes import Setting

__all__ = ["detect_anomaly"]

_blocks = Setting("anomalies", 0)  # how many hold in this task
_errors: ContextVar[Any] = ContextVar("errors")  # what NumPy did about errors outside of them

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


class _Sweep(threading.local):
    depth = 0


class detect_anomaly:
    """Raise at the first operation, forward or backward, that makes a NaN or an Inf from finite numbers.

    Every result is looked at, so programs run slower inside the block. What was infinite before, such as a mask of
    -inf, may pass through operations; changes in place that are not recorded are not looked at.

    Raises
    ------
    FloatingPointError
        Names the operation, what it made, and the line of the program that called it; for a gradient, the line that
        called the operation forward.

    Notes
    -----
    The blocks may be nested, or overlap; all threads of the process are watched, by the block that began last. NumPy's own
    warnings are silent inside.

    Examples
    --------
    >>> from eagerconv.tensor import tensor
    >>> x = tensor([0.0, 1.0], requires_grad=True)
    >>> with detect_anomaly():
    ...     (x**0.5).sum().backward()
    Traceback (most recent call last):
    FloatingPointError: the gradient of power with respect to its 1st operand (shape (2,)) has 1 Inf...
    """

    def __init__(self) -> None:
        self._entered = 0
        self._places: dict[int, str] = {}  # node number -> where its operation was called
        self._sweep = _Sweep()

    def __enter__(self) -> Self:
        if not _blocks.get():
            _errors.set(np.geterr())
        _blocks.enter(self, lambda outer: outer + 1)
        np.seterr(all="ignore")  # we say more than NumPy's warnings do
        self._entered += 1
        tape.watch(self)
        return self

    def __exit__(self, *exc: Any) -> None:
        tape.unwatch(self)
        self._entered -= 1
        before = _blocks.get()
        _blocks.leave(self)
        if before and not _blocks.get():
            np.seterr(**_errors.get())
        if not self._entered:
            self._places.clear()

    def computed(self, op: Op, operands: Sequence[Any], result: Traced) -> None:
        """Look at a result; those of a sweep are judged when the contribution they are parts of is complete."""
        if result._node is not None:
            self._places[result._node.seq] = _place()
        if self._sweep.depth:
            return
        found = _anomaly(result.data)
        if found and not any(_anomaly(x.data if isinstance(x, Traced) else x) for x in operands):
            raise FloatingPointError(f"{op.name} made {found} in its result of shape {result.data.shape}, {_place()}")

    def pulled(self, op: Op, node: Node, position: int, g: Any) -> Any:
        """Look at a contribution to a gradient."""
        self._sweep.depth += 1
        try:
            value = op.pull(op, node, position, g)
        finally:
            self._sweep.depth -= 1
        found = _anomaly(value.data)
        if found and not _anomaly(g.data):
            where = self._places.get(node.seq, "called before detect_anomaly() was entered")
            raise FloatingPointError(
                f"the gradient of {op.name} with respect to its {tape.ordinal(position)} operand "
                f"(shape {value.data.shape}) has {found}, {where}"
            )
        return value


def _anomaly(x: Any) -> str:
    """How many elements of an array or number are not finite, in words; empty if all are."""
    if isinstance(x, (list, tuple)):
        x = np.asarray(x)
    if (hasattr(x, "dtype") and not tape.inexact(x.dtype)) or np.all(np.isfinite(x)):
        return ""
    nan, inf = int(np.sum(np.isnan(x))), int(np.sum(np.isinf(x)))
    return " and ".join(f"{count} {name}" for count, name in ((nan, "NaN"), (inf, "Inf")) if count)


def _place() -> str:
    """The innermost line that is not of this package: the user's."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
        frame = frame.f_back
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
    return f"called in {frame.f_code.co_filename}, line {frame.f_lineno}" + (f": {line}" if line else "")
