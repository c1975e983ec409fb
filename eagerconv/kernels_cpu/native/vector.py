"""The small intrinsics of all kernels: places in memory, and rows copied vector by vector."""

from __future__ import annotations

from typing import Any

import llvmlite.ir as ir
from numba import types

from eagerconv.kernels_cpu.native.emit import Emit, emits, returning
from eagerconv.kernels_cpu.native.simd import I32, I64, VOID, Loop, Vectors


@returning(lambda pointer: pointer.dtype)
def zero(v: Vectors, pointer: Any) -> Any:
    """The zero of the pointer's element type."""
    return pointer.type.pointee(None)


@returning(lambda pointer, elements: pointer)
def offset(v: Vectors, pointer: Any, elements: Any) -> Any:
    """The pointer moved by a number of elements."""
    return v.at(pointer, elements)


@returning(lambda condition, one, other: one(types.boolean, one, one))
def choose(v: Vectors, condition: Any, one: Any, other: Any) -> Any:
    """`one if condition else other`, without a branch."""
    return v.builder.select(condition, one, other)


@returning(lambda one, other: one)
def plus(v: Vectors, one: Any, other: Any) -> Any:
    """Their sum, where the order of several matters: additions with a flag of their own are not given `reassoc`."""
    return v.builder.fadd(one, other, flags=("contract",))


@returning(lambda pointer: types.CPointer(types.int64))
def as_integers(v: Vectors, pointer: Any) -> Any:
    """The same memory as int64."""
    return v.builder.bitcast(pointer, I64.as_pointer())


@returning(lambda pointer: types.int64)
def element_bytes(v: Vectors, pointer: Any) -> Any:
    """Bytes of the pointer's element type."""
    return I64(v.bytes)


@emits
def prefetch(v: Vectors, pointer: Any, elements: Any) -> None:
    """Ask for that much memory to be brought near; cache lines of 64 bytes."""
    b, per_line = v.builder, 64 // v.bytes
    function = v.declared("llvm.prefetch.p0", VOID, [pointer.type, I32, I32, I32])
    with Loop(b, b.sdiv(b.add(elements, I64(per_line - 1)), I64(per_line)), []) as loop:
        address = v.at(pointer, b.mul(loop.index, I64(per_line)))
        b.call(function, [address, I32(0), I32(3), I32(1)])  # for reading, into all caches, data


@returning(lambda pointer: types.int64)
def lanes_before_line(v: Vectors, pointer: Any) -> Any:
    """Elements from the pointer to the next address that is a whole number of vectors: 0 where it is one itself."""
    return v.lanes_before_line(pointer)


def copying(stride: int) -> Emit:
    """to[r, j] = source[r, j*stride] if first <= j < last else 0, for r < rows, j < n; reads nothing before or behind that."""

    def copy(
        v: Vectors, to: Any, to_row: Any, source: Any, source_row: Any, rows: Any, first: Any, last: Any, n: Any
    ) -> None:
        b = v.builder
        with Loop(b, v.chunks(n), []) as chunk:
            start = b.mul(chunk.index, I64(v.lanes))
            base = b.mul(start, I64(stride))
            masks = []
            for q in range(stride):  # the elements stride*first <= e <= stride*(last - 1) of vector q
                here = b.add(base, I64(q * v.lanes))
                end = b.sub(b.mul(last, I64(stride)), I64(stride - 1))
                before = v.lanes_below(b.sub(b.mul(first, I64(stride)), here))
                masks.append(b.and_(v.lanes_below(b.sub(end, here)), b.not_(before)))
            with Loop(b, rows, [v.at(to, start), v.at(source, base)]) as row:
                parts = [v.masked_load(v.at(row.values[1], q * v.lanes), mask) for q, mask in enumerate(masks)]
                vector = parts[0] if stride == 1 else v.every_second(*parts)
                v.store_below([(vector, row.values[0])], b.sub(n, start))
                row.next = [v.at(row.values[0], to_row), v.at(row.values[1], source_row)]

    return copy


copy_rows, copy_every_second = emits(copying(1)), emits(copying(2))


@emits
def copy_apart(v: Vectors, to: Any, source: Any, n: Any) -> None:
    """to[2*j] = source[j], and zeros between them; n elements of `to`."""
    b, lanes = v.builder, v.lanes
    masks = [
        ir.Constant(ir.VectorType(I32, lanes), [k // 2 + start + lanes * (k % 2) for k in range(lanes)])
        for start in (0, lanes // 2)
    ]
    with Loop(b, b.sdiv(b.add(n, I64(2 * lanes - 1)), I64(2 * lanes)), []) as loop:
        done = b.mul(loop.index, I64(2 * lanes))
        left, there = b.sub(n, done), v.at(to, done)
        some = v.lanes_below(b.sdiv(b.add(left, I64(1)), I64(2)))
        vector = v.masked_load(v.at(source, b.mul(loop.index, I64(lanes))), some)
        low, high = (b.shuffle_vector(vector, v.zeros, mask) for mask in masks)
        v.store_below([(low, there)], left)
        v.store_below([(high, v.at(there, lanes))], b.sub(left, I64(lanes)))


@emits
def copy_non_temporal(v: Vectors, to: Any, source: Any, n: Any) -> None:
    """to[:n] = source[:n], whole lines of `to` past the caches."""
    b = v.builder
    head = v.least(v.lanes_before_line(to), n)
    v.masked_store(v.masked_load(source, v.lanes_below(head)), to, v.lanes_below(head))
    to, source, n = v.at(to, head), v.at(source, head), b.sub(n, head)
    with Loop(b, b.sdiv(n, I64(v.lanes)), []) as loop:
        shift = b.mul(loop.index, I64(v.lanes))
        v.store_non_temporal(v.load(v.at(source, shift)), v.at(to, shift))
    done = b.and_(n, I64(-v.lanes))
    mask = v.lanes_below(b.sub(n, done))
    v.masked_store(v.masked_load(v.at(source, done), mask), v.at(to, done), mask)
