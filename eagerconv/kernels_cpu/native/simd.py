"""Vectors and loops of LLVM code, which kernel sources emit; llvmlite alone is enough for it.

Pointers count in elements. Vectors are as long as the host's registers, and kernels are written for any number of lanes, so
the same source serves AVX-512, AVX2 and NEON, float32 and float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.ir as ir

from eagerconv.kernels_cpu.targets import register_bytes, registers

I1, I8, I16, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
VOID = ir.VoidType()

REGISTER_BYTES = register_bytes()
REGISTERS = registers()


class Emitted:
    """A kernel all of whose code is emitted: `emit` gets Vectors and the kernel's eight arguments (see jit.py)."""

    def __init__(self, emit: Callable[..., None]) -> None:
        self.emit = emit

    def ir(self, name: str, bits: int) -> str:
        """The kernel as a function of LLVM code, for elements of so many bits."""
        module = ir.Module(name)
        element = (ir.FloatType() if bits == 32 else ir.DoubleType()).as_pointer()
        kinds = [I64] * 3 + [element] * 4 + [I64.as_pointer()]
        function = ir.Function(module, ir.FunctionType(VOID, kinds), name)
        builder = ir.IRBuilder(function.append_basic_block())
        self.emit(Vectors(builder, bits), *function.args)
        builder.ret_void()
        return str(module)


class Vectors:
    """Emits vector instructions for one element type into a builder: of whole registers, or of some bytes less."""

    def __init__(self, builder: Any, bits: int, nbytes: int = REGISTER_BYTES) -> None:
        """`bits` of each element: 32 or 64."""
        self.builder, self.bits = builder, bits
        self.element = ir.FloatType() if bits == 32 else ir.DoubleType()
        self.bytes = bits // 8
        self.lanes = nbytes // self.bytes
        self.suffix = f"v{self.lanes}f{bits}"
        self.type = ir.VectorType(self.element, self.lanes)
        self.mask_type = ir.VectorType(I1, self.lanes)
        self.zeros = ir.Constant(self.type, [0.0] * self.lanes)

    def declared(self, name: str, result: Any, arguments: list[Any]) -> Any:
        """LLVM's own function of that name."""
        known = self.builder.module.globals.get(name)
        return known or ir.Function(self.builder.module, ir.FunctionType(result, arguments), name)

    def at(self, pointer: Any, elements: Any) -> Any:
        """The pointer moved by a number of elements."""
        return self.builder.gep(pointer, [elements if not isinstance(elements, int) else I64(elements)])

    def load(self, pointer: Any, mask: Any = None) -> Any:
        """A vector from memory of any alignment, zero where there is a mask and it is unset."""
        if mask is not None:
            return self.masked_load(pointer, mask)
        loaded = self.builder.load(self.builder.bitcast(pointer, self.type.as_pointer()))
        loaded.align = self.bytes
        return loaded

    def store(self, vector: Any, pointer: Any, mask: Any = None) -> None:
        """A vector, or its lanes of the mask, to memory of any alignment."""
        if mask is not None:
            self.masked_store(vector, pointer, mask)
            return
        self.builder.store(vector, self.builder.bitcast(pointer, self.type.as_pointer())).align = self.bytes

    def store_non_temporal(self, vector: Any, pointer: Any) -> None:
        """A vector to aligned memory past the caches, which so need not read the line first, nor give up another for it."""
        stored = self.builder.store(vector, self.builder.bitcast(pointer, self.type.as_pointer()))
        stored.align = REGISTER_BYTES
        stored.set_metadata("nontemporal", self.builder.module.add_metadata([I32(1)]))

    def prefetch(self, pointer: Any) -> None:
        """Ask for a line of memory to be brought into the second-level cache; it may lie anywhere."""
        function = self.declared("llvm.prefetch.p0", VOID, [pointer.type, I32, I32, I32])
        self.builder.call(function, [pointer, I32(0), I32(2), I32(1)])  # for reading, all caches but the first, data

    def constant(self, value: float) -> Any:
        """The same number in every lane."""
        return ir.Constant(self.type, [value] * self.lanes)

    def least(self, a: Any, b: Any) -> Any:
        """The smaller of two integers."""
        return self.builder.select(self.builder.icmp_signed("<", a, b), a, b)

    def lanes_before_line(self, pointer: Any) -> Any:
        """Elements from the pointer to the next address that is a whole number of vectors: 0 where it is one itself."""
        b = self.builder
        away = b.and_(b.neg(b.ptrtoint(pointer, I64)), I64(REGISTER_BYTES - 1))
        return b.sdiv(away, I64(self.bytes))

    def chunks(self, n: Any) -> Any:
        """How many vectors n elements fill, the last one perhaps in part."""
        return self.builder.sdiv(self.builder.add(n, I64(self.lanes - 1)), I64(self.lanes))

    def broadcast(self, pointer: Any) -> Any:
        """One element of memory in every lane."""
        return self.splat(self.builder.load(pointer))

    def splat(self, element: Any) -> Any:
        """One element in every lane."""
        undefined = ir.Constant(self.type, ir.Undefined)
        vector = self.builder.insert_element(undefined, element, I32(0))
        return self.builder.shuffle_vector(
            vector, undefined, ir.Constant(ir.VectorType(I32, self.lanes), [0] * self.lanes)
        )

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        """a*b + c with one rounding."""
        return self.builder.call(self.declared(f"llvm.fma.{self.suffix}", self.type, [self.type] * 3), [a, b, c])

    def every_second(self, low: Any, high: Any) -> Any:
        """The lanes of even number of two vectors."""
        even = ir.Constant(ir.VectorType(I32, self.lanes), list(range(0, 2 * self.lanes, 2)))
        return self.builder.shuffle_vector(low, high, even)

    def moved(self, vector: Any, lanes: int) -> Any:
        """The vector with each lane's number that of the lane so many further on; those of the last lanes are of no meaning."""
        places = [(lane + lanes) % self.lanes for lane in range(self.lanes)]
        return self.builder.shuffle_vector(vector, vector, ir.Constant(ir.VectorType(I32, self.lanes), places))

    def sum(self, vector: Any) -> Any:
        """Horizontal sum as a tree, whose shape depends on the number of lanes alone."""
        function = self.declared(f"llvm.vector.reduce.fadd.{self.suffix}", self.element, [self.element, self.type])
        return self.builder.call(function, [ir.Constant(self.element, 0.0), vector], fastmath=("reassoc",))

    def maximum(self, vector: Any) -> Any:
        """The largest lane, of which none may be NaN."""
        function = self.declared(f"llvm.vector.reduce.fmax.{self.suffix}", self.element, [self.type])
        return self.builder.call(function, [vector], fastmath=("nnan",))

    def lanes_below(self, limit: Any) -> Any:
        """Mask of the lanes whose number is < limit (int64): 2^limit - 1 as bits, which AVX-512 takes from a scalar."""
        b = self.builder
        limit = b.select(b.icmp_signed("<", limit, I64(0)), I64(0), limit)
        limit = b.select(b.icmp_signed(">", limit, I64(self.lanes)), I64(self.lanes), limit)
        return self.mask(b.sub(b.shl(I64(1), limit), I64(1)))

    def all_or_none(self, condition: Any) -> Any:
        """1 where an int64 is not 0, else 0: how often a loop runs whose body is the work to do."""
        return self.builder.zext(self.builder.icmp_signed("!=", condition, I64(0)), I64)

    def all_if(self, condition: Any) -> Any:
        """Mask of all lanes where an int64 is not 0, else of none: a load under it reads nothing."""
        b = self.builder
        return self.lanes_below(b.select(b.icmp_signed("!=", condition, I64(0)), I64(self.lanes), I64(0)))

    def mask(self, bits: Any) -> Any:
        """Mask of the lanes whose bits are set in an int64."""
        return self.builder.bitcast(self.builder.trunc(bits, ir.IntType(self.lanes)), self.mask_type)

    def masked_load(self, pointer: Any, mask: Any) -> Any:
        """The lanes of the mask from memory, zero elsewhere; memory under unset lanes is not touched."""
        vector_pointer = self.type.as_pointer()
        function = self.declared(
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
        function = self.declared(
            f"llvm.masked.store.{self.suffix}.p0", VOID, [self.type, vector_pointer, I32, self.mask_type]
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
