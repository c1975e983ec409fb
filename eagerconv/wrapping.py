"""How an array function is made: NumPy's function applied to tensors, and the text about its arguments, written once."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from eagerconv import dispatch
from eagerconv.autograd import tape
from eagerconv.tensor import Tensor, asarray

__all__ = ["apply", "documented", "floating", "operands"]

F = TypeVar("F", bound=Callable[..., Any])

_PARAMETERS = {
    "x": "array_like\n    Numbers, in any shape.",
    "x1": "array_like\n    Numbers; shapes broadcast.",
    "x2": "array_like\n    Numbers; shapes broadcast.",
    "arrays": "sequence of array_like\n    At least one.",
    "*arrays": "array_like\n    One or more.",
    "axis": "int or tuple of ints, optional\n    Along which axes; default: all.",
    "axes": "sequence of ints, optional\n    Along which axes.",
    "keepdims": "bool\n    Keep reduced axes, of length one.",
    "correction": "float\n    Taken from the number of elements to give the divisor.",
    "ddof": "float, optional\n    NumPy's name of `correction`.",
    "include_initial": "bool\n    Begin with the value of no elements at all.",
    "shape": "int or sequence of ints\n    The shape of the result.",
    "dtype": "dtype, optional\n    Element type of the result; default: as NumPy decides.",
    "device": '{"cpu", "cuda"}, optional\n    Where the result is; default: with x, or on the default device.',
    "copy": "bool, optional\n    True: always copy; False: raise where a copy is needed; default: where needed.",
    "requires_grad": "bool\n    Record operations on it, for gradients.",
    "fill_value": "number\n    The value of every element.",
    "k": "int\n    The diagonal: 0 is the main one, above it are positive, below it negative numbers.",
    "offset": "int\n    The diagonal: 0 is the main one, above it are positive, below it negative numbers.",
    "indexing": '{"xy", "ij"}\n    Whether the first two axes are swapped, as in pictures, or not.',
    "descending": "bool\n    Largest first.",
    "stable": "bool\n    Keep equal elements in their order.",
    "n": "int, optional\n    Length of the transformed axis: longer pads with zeros, shorter crops.",
    "s": "sequence of ints, optional\n    Lengths of the transformed axes: longer pads with zeros, shorter crops.",
    "norm": '{"backward", "ortho", "forward"}\n    Which direction is divided by the length, "ortho": both by its root.',
    "rtol": "float or array_like, optional\n    Singular values below it, relative to the largest, count as zero.",
}


def apply(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call NumPy's function on tensors, arrays and numbers; arrays come back as tensors."""
    return dispatch.call(function, args, kwargs, Tensor)


def operands(*values: Any) -> list[Any]:
    """Convert what is not a plain number: those stay weakly typed, so that float32 stays float32; but one at least."""
    usual = [v if isinstance(v, (Tensor, bool, int, float, complex)) else tape.usual(v) for v in values]
    converted = [v if isinstance(v, (Tensor, bool, int, float, complex)) else asarray(v) for v in usual]
    if not any(isinstance(x, Tensor) for x in converted):
        converted[0] = asarray(converted[0])
    return converted


def floating(x: Any) -> Tensor:
    """A tensor of inexact numbers: integers and booleans become float64, as where NumPy takes means, and no other dtype."""
    out = asarray(x)
    return out.astype(np.float64) if out.dtype.kind in "biu" else out


def documented(**texts: str) -> Callable[[F], F]:
    """Put a section about the parameters between the summary and the example of a docstring.

    A text given here replaces the common one of that parameter, `returns` the plain "Tensor" of the result.
    """

    def document(function: F) -> F:
        summary, _, example = inspect.cleandoc(function.__doc__ or "").partition("\n\n>>>")
        lines = [summary, "", "Parameters", "----------"]
        for name, parameter in inspect.signature(function).parameters.items():
            name = f"*{name}" if parameter.kind is parameter.VAR_POSITIONAL else name
            lines.append(f"{name} : {texts.get(name.lstrip('*')) or _PARAMETERS[name]}")
        lines += ["", "Returns", "-------", texts.get("returns", "Tensor")]
        if example:
            lines += ["", "Examples", "--------", f">>>{example}"]
        function.__doc__ = "\n".join(lines)
        return function

    return document
