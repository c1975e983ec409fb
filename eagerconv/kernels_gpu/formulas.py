"""Formulas on a GPU: each becomes the text of one kernel, so that an activation, its derivative or a step is one launch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from functools import lru_cache
from typing import Any

import numpy as np

from eagerconv.formulas import Machine, Value, formula
from eagerconv.kernels_gpu.cuda import BLOCK, MOST_BLOCKS, runtime

TYPES = {"float32": "float", "float64": "double"}

_INFIX = {
    "add": "+", "subtract": "-", "multiply": "*", "divide": "/", "greater": ">", "less": "<", "greater_equal": ">=",
    "less_equal": "<=",
}  # fmt: skip
_COMPARISONS = {"greater", "less", "greater_equal", "less_equal"}
_CALLS = {
    "absolute": "fabs",
    "sqrt": "sqrt",
    "exp": "exp",
    "expm1": "expm1",
    "log": "log",
    "log1p": "log1p",
    "tanh": "tanh",
}
_OTHERS = {
    "sigmoid": "{one} / ({one} + exp{s}(-{x}))",
    "softplus": "({x} > 0 ? {x} : 0) + log1p{s}(exp{s}(-fabs{s}({x})))",
    "normal_cdf": "{half} * erfc{s}(-{x} * {root})",
    "normal_pdf": "{height} * exp{s}(-{half} * {x} * {x})",
}


class Text(Machine):
    """Formulas as lines of CUDA: `held` is the name of a variable, or a constant."""

    def __init__(self, dtype: str) -> None:
        self.type, self.suffix = TYPES[dtype], "f" if dtype == "float32" else ""
        self.lines: list[str] = []

    def constant(self, number: float) -> Value:
        """The number as it is written in CUDA."""
        if not math.isfinite(number):
            raise ValueError(f"formulas for a GPU have finite constants, not {number}")
        return Value(self, f"{number!r}{self.suffix}")

    def apply(self, name: str, *values: Value) -> Value:
        """One more line."""
        held = [value.held for value in values]
        if name in _INFIX:
            return self._named(f"{held[0]} {_INFIX[name]} {held[1]}", "bool" if name in _COMPARISONS else self.type)
        if name == "negative":
            return self._named(f"-{held[0]}")
        if name == "where":
            return self._named(f"{held[0]} ? {held[1]} : {held[2]}")
        if name in _CALLS:
            return self._named(f"{_CALLS[name]}{self.suffix}({held[0]})")
        constants = {"one": 1.0, "half": 0.5, "root": math.sqrt(0.5), "height": 1 / math.sqrt(2 * math.pi)}
        given = {key: self.constant(number).held for key, number in constants.items()}
        return self._named(_OTHERS[name].format(x=held[0], s=self.suffix, **given))

    def _named(self, expression: str, kind: str | None = None) -> Value:
        name = f"v{len(self.lines)}"
        self.lines.append(f"const {kind or self.type} {name} = {expression};")
        return Value(self, name)


@lru_cache(maxsize=1024)
def source(name: str, dtype: str) -> str:
    """The kernel of a formula: results, operands, their number of elements, numbers."""
    found, m = formula(name), Text(dtype)
    operands = [Value(m, f"a{i}") for i in range(found.operands)]
    numbers = [Value(m, f"p{i}") for i in range(found.numbers)]
    out = found.function(m, *operands, *numbers)
    results = out if isinstance(out, tuple) else (out,)
    parameters = [
        *(f"{m.type}* y{i}_" for i in range(len(results))), *(f"const {m.type}* a{i}_" for i in range(found.operands)),
        "long long n", *(f"double p{i}_" for i in range(found.numbers)),
    ]  # fmt: skip
    before = [f"const {m.type} p{i} = ({m.type})p{i}_;" for i in range(found.numbers)]
    loads = [f"const {m.type} a{i} = a{i}_[t];" for i in range(found.operands)]
    stores = [f"y{i}_[t] = {value.held};" for i, value in enumerate(results)]
    body = "\n        ".join([*loads, *m.lines, *stores])
    return f"""extern "C" __global__ void formula_{name}({", ".join(parameters)}) {{
    {" ".join(before)}
    for (long long t = (long long)blockIdx.x * blockDim.x + threadIdx.x; t < n; t += (long long)gridDim.x * blockDim.x) {{
        {body}
    }}
}}
"""


def evaluate(name: str, operands: Sequence[Any], numbers: tuple[float, ...] = ()) -> Any:
    """The formula of arrays of the same shape and dtype on one GPU, in new memory; None for other dtypes."""
    first = operands[0]
    if first.dtype.name not in TYPES:
        return None
    cuda = runtime()
    with cuda.on(*operands) or nullcontext():
        out = cuda.empty(first.shape, first.dtype)
        _run(name, [out], [cuda.xp.ascontiguousarray(x) for x in operands], numbers)
    return out


def update(name: str, operands: Sequence[Any], results: Sequence[Any], numbers: tuple[float, ...] = ()) -> bool:
    """Write the results of a formula into arrays, which operands may be too; whether all could be."""
    first = operands[0]
    if first.dtype.name not in TYPES or not all(
        x.dtype == first.dtype and x.shape == first.shape and x.flags.c_contiguous for x in (*operands, *results)
    ):
        return False
    with runtime().on(*operands) or nullcontext():
        _run(name, results, operands, numbers)
    return True


def _run(name: str, results: Sequence[Any], operands: Sequence[Any], numbers: tuple[float, ...]) -> None:
    size = operands[0].size
    if not size:
        return
    dtype = operands[0].dtype.name
    kernel = runtime().compiled(source(name, dtype), f"formula_{name}")
    blocks = min(-(-size // BLOCK), MOST_BLOCKS)
    kernel((blocks,), (BLOCK,), (*results, *operands, size, *(np.float64(number) for number in numbers)))
