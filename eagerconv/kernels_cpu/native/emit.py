"""What makes an intrinsic of Numba of a plain function that emits LLVM code."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from numba import types
from numba.core.typing import Signature
from numba.extending import intrinsic

from eagerconv.kernels_cpu.native.simd import I64, Vectors

Emit = Callable[..., Any]
"""A function of Vectors and of LLVM values, one for each argument of the intrinsic that is made of it."""


def emits(emit: Emit, returns: Callable[..., Any] = lambda *types_: types.void) -> Any:
    """The intrinsic whose code `emit` writes, given Vectors of the element type of the first pointer among the arguments.

    `returns` tells from the arguments' types that of the result, or the whole signature where arguments are to be converted.
    """
    names = list(inspect.signature(emit).parameters)[1:]

    def typed(typingctx: Any, *arguments: Any) -> Any:
        signature = returns(*arguments)
        if not isinstance(signature, Signature):
            signature = signature(*arguments)
        element = next((a.dtype for a in arguments if isinstance(a, types.CPointer)), arguments[-1])

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            result = emit(Vectors(builder, element.bitwidth), *args)
            return context.get_dummy_value() if result is None else result

        return signature, codegen

    # Numba counts arguments by the signature.
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    typed.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(name, kind) for name in ("typingctx", *names)]
    )
    typed.__name__, typed.__doc__ = emit.__name__, emit.__doc__
    return intrinsic(typed)


def returning(returns: Callable[..., Any]) -> Callable[[Emit], Any]:
    """`emits` as a decorator of functions with a result."""
    return lambda emit: emits(emit, returns)


def switch(cases: dict[int, Emit]) -> Emit:
    """A function with one more argument in front, which tells the case; what is none of the others is the last one."""

    def emit(v: Vectors, case: Any, *arguments: Any) -> None:
        (number, chosen), *others = cases.items()
        if not others:
            chosen(v, *arguments)
            return
        with v.builder.if_else(v.builder.icmp_signed("==", case, I64(number))) as (this, other):
            with this:
                chosen(v, *arguments)
            with other:
                switch(dict(others))(v, case, *arguments)

    of = inspect.signature(next(iter(cases.values())))
    vectors, *arguments = of.parameters.values()
    case = vectors.replace(name=f"case{sum(name.startswith('case') for name in of.parameters)}")
    emit.__signature__ = of.replace(parameters=[vectors, case, *arguments])  # type: ignore[attr-defined]
    return emit
