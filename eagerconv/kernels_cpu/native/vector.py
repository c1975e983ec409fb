"""Numba intrinsics that emit LLVM vector code: the few inner loops whose registers we choose ourselves.

Pointers count in elements. Vectors are as long as the host's registers, and kernels are written for any number of
lanes, so the same source serves AVX-512, AVX2 and NEON, float32 and float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.ir as ir
from numba import types
from numba.extending import intrinsic

from eagerconv.kernels_cpu.targets import register_bytes, registers

I1, I8, I32, I64 = ir.IntType(1), ir.IntType(8), ir.IntType(32), ir.IntType(64)

REGISTER_BYTES = register_bytes()
REGISTERS = registers()


@intrinsic
def zero(typingctx: Any, pointer: Any) -> Any:
    """The zero of the pointer's element type."""
    element = pointer.dtype

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.get_constant_null(element)

    return element(pointer), codegen


@intrinsic
def offset(typingctx: Any, pointer: Any, elements: Any) -> Any:
    """The pointer moved by a number of elements."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.gep(args[0], [args[1]])

    return pointer(pointer, elements), codegen


@intrinsic
def choose(typingctx: Any, condition: Any, one: Any, other: Any) -> Any:
    """`one if condition else other`, without a branch."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(*args)

    return one(types.boolean, one, one), codegen


@intrinsic
def prefetch(typingctx: Any, pointer: Any, elements: Any) -> Any:
    """Ask for that much memory to be brought near; cache lines of 64 bytes."""
    element = pointer.dtype

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        per_line = 64 * 8 // element.bitwidth
        argument_types = [args[0].type, I32, I32, I32]
        name = "llvm.prefetch.p0"
        known = builder.module.globals.get(name)
        function = known or ir.Function(builder.module, ir.FunctionType(ir.VoidType(), argument_types), name)
        lines = builder.sdiv(builder.add(args[1], I64(per_line - 1)), I64(per_line))
        with Loop(builder, lines, []) as loop:
            address = builder.gep(args[0], [builder.mul(loop.index, I64(per_line))])
            builder.call(function, [address, I32(0), I32(3), I32(1)])  # for reading, into all caches, data
        return context.get_dummy_value()

    return types.void(pointer, elements), codegen


@intrinsic
def lanes_before_line(typingctx: Any, pointer: Any) -> Any:
    """Elements from the pointer to the next address that is a whole number of vectors: 0 where it is one itself."""
    size = pointer.dtype.bitwidth // 8
    return types.int64(pointer), lambda context, builder, signature, args: _before_line(builder, args[0], size)


def _before_line(builder: Any, pointer: Any, size: int) -> Any:
    away = builder.and_(builder.neg(builder.ptrtoint(pointer, I64)), I64(REGISTER_BYTES - 1))
    return builder.sdiv(away, I64(size))


class Vectors:
    """Emits vector instructions for one element type into a builder."""

    def __init__(self, builder: Any, element: Any) -> None:
        self.builder = builder
        self.element = ir.FloatType() if element == types.float32 else ir.DoubleType()
        self.bytes = element.bitwidth // 8
        self.lanes = REGISTER_BYTES // self.bytes
        self.suffix = f"v{self.lanes}f{element.bitwidth}"
        self.type = ir.VectorType(self.element, self.lanes)
        self.mask_type = ir.VectorType(I1, self.lanes)
        self.zeros = ir.Constant(self.type, [0.0] * self.lanes)

    def _intrinsic(self, name: str, result: Any, arguments: list[Any]) -> Any:
        known = self.builder.module.globals.get(name)
        return known or ir.Function(self.builder.module, ir.FunctionType(result, arguments), name)

    def at(self, pointer: Any, elements: Any) -> Any:
        """The pointer moved by a number of elements."""
        return self.builder.gep(pointer, [elements if not isinstance(elements, int) else I64(elements)])

    def load(self, pointer: Any) -> Any:
        """A vector from memory of any alignment."""
        loaded = self.builder.load(self.builder.bitcast(pointer, self.type.as_pointer()))
        loaded.align = self.bytes
        return loaded

    def store(self, vector: Any, pointer: Any) -> None:
        """A vector to memory of any alignment."""
        self.builder.store(vector, self.builder.bitcast(pointer, self.type.as_pointer())).align = self.bytes

    def stream(self, vector: Any, pointer: Any) -> None:
        """A vector to aligned memory past the caches, which so need not read the line first, nor give up another for it."""
        stored = self.builder.store(vector, self.builder.bitcast(pointer, self.type.as_pointer()))
        stored.align = REGISTER_BYTES
        stored.set_metadata("nontemporal", self.builder.module.add_metadata([I32(1)]))

    def constant(self, value: float) -> Any:
        """The same number in every lane."""
        return ir.Constant(self.type, [value] * self.lanes)

    def broadcast(self, pointer: Any) -> Any:
        """One element in every lane."""
        undefined = ir.Constant(self.type, ir.Undefined)
        vector = self.builder.insert_element(undefined, self.builder.load(pointer), I32(0))
        return self.builder.shuffle_vector(
            vector, undefined, ir.Constant(ir.VectorType(I32, self.lanes), [0] * self.lanes)
        )

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        """a*b + c with one rounding."""
        return self.builder.call(self._intrinsic(f"llvm.fma.{self.suffix}", self.type, [self.type] * 3), [a, b, c])

    def every_second(self, low: Any, high: Any) -> Any:
        """The lanes of even number of two vectors."""
        even = ir.Constant(ir.VectorType(I32, self.lanes), list(range(0, 2 * self.lanes, 2)))
        return self.builder.shuffle_vector(low, high, even)

    def sum(self, vector: Any) -> Any:
        """Horizontal sum as a tree, whose shape depends on the number of lanes alone."""
        function = self._intrinsic(f"llvm.vector.reduce.fadd.{self.suffix}", self.element, [self.element, self.type])
        return self.builder.call(function, [ir.Constant(self.element, 0.0), vector], fastmath=("reassoc",))

    def lanes_below(self, limit: Any) -> Any:
        """Mask of the lanes whose number is < limit (int64): 2^limit - 1 as bits, which AVX-512 takes from a scalar."""
        b = self.builder
        limit = b.select(b.icmp_signed("<", limit, I64(0)), I64(0), limit)
        limit = b.select(b.icmp_signed(">", limit, I64(self.lanes)), I64(self.lanes), limit)
        return self.mask(b.sub(b.shl(I64(1), limit), I64(1)))

    def mask(self, bits: Any) -> Any:
        """Mask of the lanes whose bits are set in an int64."""
        return self.builder.bitcast(self.builder.trunc(bits, ir.IntType(self.lanes)), self.mask_type)

    def masked_load(self, pointer: Any, mask: Any) -> Any:
        """The lanes of the mask from memory, zero elsewhere; memory under unset lanes is not touched."""
        vector_pointer = self.type.as_pointer()
        function = self._intrinsic(
            f"llvm.masked.load.{self.suffix}.p0", self.type, [vector_pointer, I32, self.mask_type, self.type]
        )
        return self.builder.call(
            function, [self.builder.bitcast(pointer, vector_pointer), I32(self.bytes), mask, self.zeros]
        )

    def store_below(self, stores: list[tuple[Any, Any]], limit: Any) -> None:
        """Store the lanes < limit (int64) of (vector, pointer) pairs: whole vectors plainly, as masked stores are slow."""
        whole = self.builder.icmp_signed(">=", limit, I64(self.lanes))
        with self.builder.if_else(whole) as (plain, masked):
            with plain:
                for vector, pointer in stores:
                    self.store(vector, pointer)
            with masked:
                mask = self.lanes_below(limit)
                for vector, pointer in stores:
                    self.masked_store(vector, pointer, mask)

    def masked_store(self, vector: Any, pointer: Any, mask: Any) -> None:
        """The lanes of the mask to memory; the rest of it is not touched."""
        vector_pointer = self.type.as_pointer()
        function = self._intrinsic(
            f"llvm.masked.store.{self.suffix}.p0", ir.VoidType(), [self.type, vector_pointer, I32, self.mask_type]
        )
        self.builder.call(function, [vector, self.builder.bitcast(pointer, vector_pointer), I32(self.bytes), mask])


class Loop:
    """`with Loop(builder, count, carried) as loop`: counts loop.index from 0; `loop.values` are carried from turn to turn.

    The body sets `loop.next` to the values of the next turn; after the loop `loop.results` holds the last ones. A loop with
    count 0 does not run, and its results are the initial values.
    """

    def __init__(self, builder: Any, count: Any, carried: list[Any]) -> None:
        self.builder, self.count, self.initial = builder, count, carried
        self.next: list[Any] = []

    def __enter__(self) -> Loop:
        b = self.builder
        before = b.block
        self._head, self._body, self._end = (b.append_basic_block(name) for name in ("head", "body", "end"))
        b.branch(self._head)
        b.position_at_end(self._head)
        self.index = b.phi(I64)
        self.index.add_incoming(I64(0), before)
        self.values = []
        for value in self.initial:
            phi = b.phi(value.type)
            phi.add_incoming(value, before)
            self.values.append(phi)
        b.cbranch(b.icmp_signed("<", self.index, self.count), self._body, self._end)
        b.position_at_end(self._body)
        return self

    def __exit__(self, *error: object) -> None:
        b = self.builder
        self.index.add_incoming(b.add(self.index, I64(1)), b.block)
        for phi, value in zip(self.values, self.next, strict=True):
            phi.add_incoming(value, b.block)
        b.branch(self._head)
        b.position_at_end(self._end)
        self.results = self.values


def _void(codegen: Callable[..., None], *arguments: Any) -> Any:
    """An intrinsic's (signature, codegen) for a body that returns nothing."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        codegen(builder, *args)
        return context.get_dummy_value()

    return types.void(*arguments), emit


def broadcast_product(rows: int, vectors: int) -> Any:
    """Microkernel c[m(i), j] (+)= sum over t < count of a[p(i) + s(t)] * b[q(t), j], lanes along j.

    `places` holds the pairs p(i), m(i), and `steps` the pairs s(t), q(t), so a is read wherever it lies: one element at a
    time, in every lane. b and c are packed in rows of `vectors` vectors. Of the rows, `present` exist; the last of them is
    computed again in place of the missing ones.
    """

    @intrinsic
    def product(
        typingctx: Any, a: Any, places: Any, present: Any, steps: Any, count: Any, b: Any, c: Any, add: Any
    ) -> Any:
        def codegen(
            builder: Any, a: Any, places: Any, present: Any, steps: Any, count: Any, b: Any, c: Any, add: Any
        ) -> None:
            v = Vectors(builder, element)
            row = I64(vectors * v.lanes)
            all_or_none = v.lanes_below(builder.select(builder.icmp_signed("!=", add, I64(0)), I64(v.lanes), I64(0)))
            last = builder.sub(present, I64(1))
            a_rows, cells = [], []
            for i in range(rows):
                place = v.at(places, builder.mul(_least(builder, I64(i), last), I64(2)))
                a_rows.append(v.at(a, builder.load(place)))
                c_row = v.at(c, builder.mul(builder.load(v.at(place, 1)), row))
                cells += [v.at(c_row, j * v.lanes) for j in range(vectors)]
            with Loop(builder, count, [v.masked_load(cell, all_or_none) for cell in cells]) as loop:
                step = v.at(steps, builder.mul(loop.index, I64(2)))
                shift, b_row = builder.load(step), v.at(b, builder.mul(builder.load(v.at(step, 1)), row))
                columns = [v.load(v.at(b_row, j * v.lanes)) for j in range(vectors)]
                sums = list(loop.values)
                for i in range(rows):
                    factor = v.broadcast(v.at(a_rows[i], shift))
                    for j in range(vectors):
                        k = i * vectors + j
                        sums[k] = v.fma(factor, columns[j], sums[k])
                loop.next = sums
            for cell, total in zip(cells, loop.results, strict=True):
                v.store(total, cell)

        element = a.dtype
        return _void(codegen, a, places, present, steps, count, b, c, add)

    return product


def shifted_product(rows: int, vectors: int) -> Any:
    """Microkernel c[i, m(j)] (+)= sum over t < count of a[i, q(t)] * b[p(j) + s(t)], j < vectors, lanes along b.

    The mirror image of `broadcast_product`: `places` holds the pairs p(j), m(j) of vectors that are read wherever they lie,
    and `steps` the pairs s(t), q(t). Rows of a and c are a_row and c_row elements apart.
    """

    @intrinsic
    def product(
        typingctx: Any, b: Any, places: Any, present: Any, steps: Any, count: Any, a: Any, a_row: Any, c: Any, c_row: Any,
        add: Any,
    ) -> Any:  # fmt: skip
        def codegen(
            builder: Any, b: Any, places: Any, present: Any, steps: Any, count: Any, a: Any, a_row: Any, c: Any, c_row: Any,
            add: Any,
        ) -> None:  # fmt: skip
            v = Vectors(builder, element)
            all_or_none = v.lanes_below(builder.select(builder.icmp_signed("!=", add, I64(0)), I64(v.lanes), I64(0)))
            last = builder.sub(present, I64(1))
            sources, columns = [], []
            for j in range(vectors):
                place = v.at(places, builder.mul(_least(builder, I64(j), last), I64(2)))
                sources.append(v.at(b, builder.load(place)))
                columns.append(v.at(c, builder.mul(builder.load(v.at(place, 1)), I64(v.lanes))))
            cells = [v.at(column, builder.mul(c_row, I64(i))) for i in range(rows) for column in columns]
            a_rows = [v.at(a, builder.mul(a_row, I64(i))) for i in range(rows)]
            with Loop(builder, count, [v.masked_load(cell, all_or_none) for cell in cells]) as loop:
                step = v.at(steps, builder.mul(loop.index, I64(2)))
                shift, q = builder.load(step), builder.load(v.at(step, 1))
                factors = [v.broadcast(v.at(row, q)) for row in a_rows]
                sums = list(loop.values)
                for j in range(vectors):
                    pixels = v.load(v.at(sources[j], shift))
                    for i in range(rows):
                        sums[i * vectors + j] = v.fma(factors[i], pixels, sums[i * vectors + j])
                loop.next = sums
            for cell, total in zip(cells, loop.results, strict=True):
                v.store(total, cell)

        element = a.dtype
        return _void(codegen, b, places, present, steps, count, a, a_row, c, c_row, add)

    return product


def _least(builder: Any, a: Any, b: Any) -> Any:
    """The smaller of two integers."""
    return builder.select(builder.icmp_signed("<", a, b), a, b)


@intrinsic
def as_integers(typingctx: Any, pointer: Any) -> Any:
    """The same memory as int64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], I64.as_pointer())

    return types.CPointer(types.int64)(pointer), codegen


def copying(stride: int) -> Any:
    """to[r, j] = source[r, j*stride] if first <= j < last else 0, for r < rows, j < n; reads nothing before or behind that."""

    @intrinsic
    def copy(
        typingctx: Any, to: Any, to_row: Any, source: Any, source_row: Any, rows: Any, first: Any, last: Any, n: Any
    ) -> Any:
        def codegen(
            builder: Any, to: Any, to_row: Any, source: Any, source_row: Any, rows: Any, first: Any, last: Any, n: Any
        ) -> None:
            v = Vectors(builder, element)
            lanes = I64(v.lanes)
            chunks = builder.sdiv(builder.add(n, I64(v.lanes - 1)), lanes)
            with Loop(builder, chunks, []) as chunk:
                start = builder.mul(chunk.index, lanes)
                base = builder.mul(start, I64(stride))
                masks = []
                for q in range(stride):  # the elements stride*first <= e <= stride*(last - 1) of vector q
                    here = builder.add(base, I64(q * v.lanes))
                    end = builder.sub(builder.mul(last, I64(stride)), I64(stride - 1))
                    before = v.lanes_below(builder.sub(builder.mul(first, I64(stride)), here))
                    masks.append(builder.and_(v.lanes_below(builder.sub(end, here)), builder.not_(before)))
                with Loop(builder, rows, [v.at(to, start), v.at(source, base)]) as row:
                    parts = [v.masked_load(v.at(row.values[1], q * v.lanes), mask) for q, mask in enumerate(masks)]
                    vector = parts[0] if stride == 1 else v.every_second(*parts)
                    v.store_below([(vector, row.values[0])], builder.sub(n, start))
                    row.next = [v.at(row.values[0], to_row), v.at(row.values[1], source_row)]

        element = to.dtype
        return _void(codegen, to, to_row, source, source_row, rows, first, last, n)

    return copy


copy_rows, copy_every_second = copying(1), copying(2)


@intrinsic
def stream_row(typingctx: Any, to: Any, source: Any, n: Any) -> Any:
    """to[:n] = source[:n], whole lines of `to` past the caches."""

    def codegen(builder: Any, to: Any, source: Any, n: Any) -> None:
        v = Vectors(builder, element)
        head = _least(builder, _before_line(builder, to, v.bytes), n)
        v.masked_store(v.masked_load(source, v.lanes_below(head)), to, v.lanes_below(head))
        to, source, n = v.at(to, head), v.at(source, head), builder.sub(n, head)
        with Loop(builder, builder.sdiv(n, I64(v.lanes)), []) as loop:
            shift = builder.mul(loop.index, I64(v.lanes))
            v.stream(v.load(v.at(source, shift)), v.at(to, shift))
        done = builder.and_(n, I64(-v.lanes))
        mask = v.lanes_below(builder.sub(n, done))
        v.masked_store(v.masked_load(v.at(source, done), mask), v.at(to, done), mask)

    element = to.dtype
    return _void(codegen, to, source, n)


# ------------------------------------------------------------------------------------------- runs and filters in one piece


@intrinsic
def element_bytes(typingctx: Any, pointer: Any) -> Any:
    """Bytes of the pointer's element type."""
    nbytes = pointer.dtype.bitwidth // 8
    return types.int64(pointer), lambda context, builder, signature, args: I64(nbytes)
