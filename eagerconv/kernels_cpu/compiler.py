"""Turns a kernel's Python function into a native object: Numba makes LLVM IR of it, llvmlite alone an object file."""

from __future__ import annotations

import importlib
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from eagerconv.kernels_cpu.targets import OPTIONS, target_machine

# NumPy's C interface fixes that an array object begins with the object header and the address of its data. Reading it there
# costs nothing, where asking each of three arrays from Python takes a fifth of a small convolution's time.
DATA = object.__basicsize__
_RUNTIME = {"memcpy", "memmove", "memset", "fma", "fmaf", "bcmp"}  # what LLVM itself may call; in every C library

_ENTRY_IR = """
declare i32 @"{native}"(ptr, ptr, i64, i64, i64, ptr, ptr, ptr, ptr, ptr)
define void @"{entry}"(i64 %first, i64 %last, i64 %thread, ptr %x, ptr %w, ptr %y, ptr %work, ptr %g) {{
  %result = alloca ptr
  %exception = alloca ptr
  %status = call i32 @"{native}"(ptr %result, ptr %exception, i64 %first, i64 %last, i64 %thread,
                                 ptr %x, ptr %w, ptr %y, ptr %work, ptr %g)
  ret void
}}
"""
_ARRAYS_IR = """
declare void @"{entry}"(i64, i64, i64, ptr, ptr, ptr, ptr, ptr)
define void @"{entry}.arrays"(i64 %first, i64 %last, i64 %thread, ptr %x, ptr %w, ptr %y, ptr %work, ptr %g) {{
  %x.place = getelementptr i8, ptr %x, i64 {data}
  %w.place = getelementptr i8, ptr %w, i64 {data}
  %y.place = getelementptr i8, ptr %y, i64 {data}
  %x.data = load ptr, ptr %x.place
  %w.data = load ptr, ptr %w.place
  %y.data = load ptr, ptr %y.place
  call void @"{entry}"(i64 %first, i64 %last, i64 %thread, ptr %x.data, ptr %w.data, ptr %y.data, ptr %work, ptr %g)
  ret void
}}
"""


def compiled(name: str, function: str, dtype: np.dtype[Any]) -> bytes:
    """Python function -> Numba -> LLVM IR -> object file with the single entry point `name`.

    What is emitted altogether is LLVM IR at once, and does without Numba.
    """
    module, _, attribute = function.partition(":")
    body = getattr(importlib.import_module(f"{__package__}.native.{module}"), attribute)
    if hasattr(body, "ir"):
        return native_object(name, body.ir(name, dtype.itemsize * 8))
    import numba  # only here: a warm process does without
    from numba import types

    if numba.config.DISABLE_JIT:
        raise RuntimeError(
            f"the kernel {name} is not compiled yet, and NUMBA_DISABLE_JIT keeps Numba from compiling; unset it, or call "
            "ec.warmup() once without it: what is compiled runs in spite of it"
        )
    element = types.CPointer(numba.from_dtype(dtype))
    index = types.int64
    signature = types.void(index, index, index, element, element, element, element, types.CPointer(index))
    callback = numba.cfunc(signature, **OPTIONS)(body)
    native = callback.native_name.removeprefix("cfunc.")
    # A plain C entry takes the place of Numba's Python-aware wrapper.
    return native_object(name, callback.inspect_llvm(), _ENTRY_IR.format(native=native, entry=name))


def native_object(name: str, ir: str, entry: str = "") -> bytes:
    """Machine code of a module with the kernel `name`, which perhaps `entry` defines, and of its entry that takes arrays."""
    module = llvm.parse_assembly(ir)
    for more in (entry, _ARRAYS_IR.format(entry=name, data=DATA)):
        if more:
            module.link_in(llvm.parse_assembly(more))
    for function in module.functions:
        if not function.is_declaration and function.name not in (name, f"{name}.arrays"):
            function.linkage = llvm.Linkage.internal
    machine = target_machine()
    passes = llvm.create_new_module_pass_manager()
    passes.add_global_dead_code_eliminate_pass()
    passes.add_strip_dead_prototype_pass()
    passes.run(module, llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3)))
    outside = {f.name for f in module.functions if f.is_declaration and not f.name.startswith("llvm.")} - _RUNTIME
    if outside:
        raise RuntimeError(f"kernel {name} must be self-contained, but it would call {', '.join(sorted(outside))}")
    code: bytes = machine.emit_object(module)
    return code
