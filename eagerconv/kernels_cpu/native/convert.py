"""16-bit floats to float32 and back, a vector at a time, in pieces that threads share.

All kernels are compiled for float32; a pointer to 16-bit numbers comes as one to float32 and is seen as what it is.
"""

from __future__ import annotations

from typing import Any

import llvmlite.ir as ir

from eagerconv.kernels_cpu.blocks import CONVERT_PIECE
from eagerconv.kernels_cpu.native.emit import emits, returning
from eagerconv.kernels_cpu.native.loops import P
from eagerconv.kernels_cpu.native.simd import I8, I16, I32, I64, REGISTER_BYTES, Loop, Vectors
from eagerconv.kernels_cpu.table import CONVERT as at

LANES = REGISTER_BYTES // 4
HALF, FLOAT = ir.HalfType(), ir.FloatType()


def _many(scalar: Any, lanes: int) -> Any:
    return scalar if lanes == 1 else ir.VectorType(scalar, lanes)


def _number(value: int, lanes: int) -> Any:
    return I32(value) if lanes == 1 else ir.Constant(ir.VectorType(I32, lanes), [value] * lanes)


def _wide(b: Any, bits: Any, name: str, lanes: int) -> Any:
    if name == "float16":
        return b.fpext(b.bitcast(bits, _many(HALF, lanes)), _many(FLOAT, lanes))
    return b.bitcast(b.shl(b.zext(bits, _many(I32, lanes)), _number(16, lanes)), _many(FLOAT, lanes))


def _narrow(b: Any, value: Any, name: str, lanes: int) -> Any:
    """Rounded to the nearest, ties to even; a bfloat16 is the upper half of a float32."""
    if name == "float16":
        return b.bitcast(b.fptrunc(value, _many(HALF, lanes)), _many(I16, lanes))
    bits = b.bitcast(value, _many(I32, lanes))
    odd = b.and_(b.lshr(bits, _number(16, lanes)), _number(1, lanes))
    rounded = b.add(bits, b.add(odd, _number(0x7FFF, lanes)))  # a carry into the exponent is what rounding up means
    quiet = b.or_(bits, _number(0x400000, lanes))  # NaN stays NaN, also where only lower bits tell
    chosen = b.select(b.fcmp_unordered("uno", value, value), quiet, rounded)
    return b.trunc(b.lshr(chosen, _number(16, lanes)), _many(I16, lanes))


@returning(lambda pointer, elements, nbytes: pointer)
def moved(v: Vectors, pointer: Any, elements: Any, nbytes: Any) -> Any:
    """The pointer moved by a number of elements of so many bytes."""
    b = v.builder
    start = b.bitcast(pointer, I8.as_pointer())
    return b.bitcast(b.gep(start, [b.mul(elements, nbytes)]), pointer.type)


def _converting(name: str, widen: bool) -> Any:
    """to[i] = source[i] for i < n."""

    @emits
    def convert(v: Vectors, to: Any, source: Any, n: Any) -> None:
        b = v.builder
        read, write = (I16, FLOAT) if widen else (FLOAT, I16)
        to, source = b.bitcast(to, write.as_pointer()), b.bitcast(source, read.as_pointer())

        def step(at: Any, lanes: int) -> None:
            place = b.bitcast(b.gep(source, [at]), _many(read, lanes).as_pointer())
            loaded = b.load(place)
            loaded.align = 2 if widen else 4
            value = _wide(b, loaded, name, lanes) if widen else _narrow(b, loaded, name, lanes)
            b.store(value, b.bitcast(b.gep(to, [at]), value.type.as_pointer())).align = 4 if widen else 2

        whole = b.sdiv(n, I64(LANES))
        with Loop(b, whole, []) as vector:
            step(b.mul(vector.index, I64(LANES)), LANES)
        done = b.mul(whole, I64(LANES))
        with Loop(b, b.sub(n, done), []) as rest:
            step(b.add(done, rest.index), 1)

    from_bytes, to_bytes = (2, 4) if widen else (4, 2)

    def kernel(first: int, last: int, thread: int, x: P, w: P, y: P, work: P, g: P) -> None:
        for task in range(first, last):
            start = task * CONVERT_PIECE
            convert(moved(y, start, to_bytes), moved(x, start, from_bytes), min(CONVERT_PIECE, g[at.SIZE] - start))

    return kernel


widen_float16, narrow_float16 = _converting("float16", True), _converting("float16", False)
widen_bfloat16, narrow_bfloat16 = _converting("bfloat16", True), _converting("bfloat16", False)
