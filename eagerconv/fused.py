"""Formulas as operations of the tape: one pass over memory, and one for each derivative, which is a formula again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from eagerconv import devices
from eagerconv.autograd import rules
from eagerconv.autograd.tape import Op, defvjp
from eagerconv.formulas import FORMULAS, TAIL, TAIL_SCALE, Arrays, Value, formula
from eagerconv.kernels_cpu import formulas as cpu

__all__ = ["computed", "operation", "update"]


@lru_cache(maxsize=1024)
def operation(name: str) -> Op:
    """The formula of that name, of traced objects of the same shape and `numbers`, a tuple of its other arguments."""

    def value(*arrays: Any, numbers: tuple[float, ...] = ()) -> Any:
        return computed(name, arrays, numbers)

    if (back := f"{name}_back") in FORMULAS:  # of the result, which is there
        return defvjp(
            name,
            value,
            lambda g, ans, numbers: operation(back)(g, ans, numbers=numbers),
            jvp=lambda t, ans, numbers: operation(back)(t, ans, numbers=numbers),
        )

    def pulled(g: Any, operands: Any, numbers: tuple[float, ...], position: int) -> Any:
        return operation(f"{name}_d{position}")(g, *operands, numbers=numbers)

    pulls = [lambda g, operands, numbers, position: pulled(g, operands, numbers, position)] * formula(name).operands
    return defvjp(
        name, value, *pulls, jvp=lambda t, operands, numbers, position: pulled(t, operands, numbers, position)
    )


def computed(name: str, arrays: Any, numbers: tuple[float, ...] = ()) -> Any:
    """The formula of arrays: by the CPU's kernels where they know the dtype, 16-bit floats in single precision, else by NumPy's
    functions.
    """
    arrays = np.broadcast_arrays(*arrays) if any(x.shape != arrays[0].shape for x in arrays) else arrays
    dtype = arrays[0].dtype if len(arrays) == 1 else np.result_type(*arrays)
    if dtype.itemsize == 2:
        wide = [x.astype(np.float32) for x in arrays]
        return computed(name, wide, numbers).astype(dtype)
    arrays = [x if x.dtype == dtype else x.astype(dtype) for x in arrays]
    out = _kernels(arrays[0]).evaluate(name, arrays, numbers)
    return _plain(name, arrays, numbers)[0] if out is None else out


def update(name: str, results: Sequence[Any], operands: Sequence[Any], numbers: tuple[float, ...]) -> None:
    """Write the results of a formula into arrays, of those arrays first and of others, all of one shape and dtype."""
    given = [*results[:1], *(np.ascontiguousarray(x) if type(x) is np.ndarray else x for x in operands), *results[1:]]
    if not _kernels(results[0]).update(name, given, results, numbers):
        for to, value in zip(results, _plain(name, given, numbers), strict=True):
            to[...] = value


def _kernels(x: Any) -> Any:
    """Whose kernels know an array's device."""
    if devices.of(x) == "cuda":
        from eagerconv.kernels_gpu import formulas as gpu  # only where there is one

        return gpu
    return cpu


def _plain(name: str, arrays: Sequence[Any], numbers: tuple[float, ...]) -> list[Any]:
    machine = Arrays(arrays[0].dtype, _NOT_NUMPYS)
    values = [Value(machine, x) for x in arrays] + [machine.constant(number) for number in numbers]
    out = formula(name).function(machine, *values)
    return [value.held for value in (out if isinstance(out, tuple) else (out,))]


# ----- What formulas ask of NumPy, and it has not -----


def _softplus(x: Any) -> Any:
    return np.logaddexp(x, x.dtype.type(0))


def _normal_cdf(x: Any) -> Any:
    """The tail, exp(-x**2 / 2) t P(t - 1/2), and for positive x what it leaves of 1."""
    t = 1 / (1 + TAIL_SCALE * abs(x))
    u, p = t - 0.5, x.dtype.type(0)
    for coefficient in TAIL[64]:
        p = p * u + coefficient
    tail = np.exp(x * x * -0.5) * (p * t)
    return np.where(x < 0, tail, 1 - tail)


def _normal_pdf(x: Any) -> Any:
    return np.exp(x * x * -0.5) * x.dtype.type(1 / math.sqrt(2 * math.pi))


_NOT_NUMPYS = {"sigmoid": rules.sigmoid.fn, "softplus": _softplus, "normal_cdf": _normal_cdf, "normal_pdf": _normal_pdf}
