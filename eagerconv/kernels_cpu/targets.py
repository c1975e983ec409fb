"""What kernels are compiled for: the processor, its vector registers, and the freedom that the compiler has."""

from __future__ import annotations

import os
import platform
from functools import cache
from typing import Any

import llvmlite.binding as llvm
import numpy as np

# `contract` lets LLVM fuse a*b+c into one rounding, `reassoc` lets it keep several partial sums in a dot product. Neither
# assumes anything about NaN, Inf or signed zeros, and the order they choose depends on the compiled code alone.
OPTIONS: dict[str, Any] = {"fastmath": {"contract", "reassoc"}, "error_model": "numpy"}

_PROBE = """
define void @probe(ptr %a, ptr %b) {
  %x = load <16 x float>, ptr %a
  %y = load <16 x float>, ptr %b
  %sum = fadd <16 x float> %x, %y
  store <16 x float> %sum, ptr %a
  ret void
}
"""


@cache
def host() -> tuple[str, str]:
    """(processor name, feature list) that kernels are compiled for; NUMBA_CPU_NAME and NUMBA_CPU_FEATURES override."""
    name = os.environ.get("NUMBA_CPU_NAME") or "host"
    if name == "host":
        name, features = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
    else:
        features = ""
    return name, os.environ.get("NUMBA_CPU_FEATURES", features)


@cache
def register_bytes() -> int:
    """Bytes of the vector registers that LLVM takes for a sum of 16 floats: 64 with AVX-512, 32 with AVX, else 16.

    No list of names can tell: LLVM knows processors that it does not describe to anybody.
    """
    assembly: str = target_machine().emit_assembly(llvm.parse_assembly(_PROBE))
    return 64 if "%zmm" in assembly else 32 if "%ymm" in assembly else 16


def lanes(dtype: np.dtype[Any]) -> int:
    """Elements of one vector register."""
    return register_bytes() // dtype.itemsize


@cache
def registers() -> int:
    """How many vector registers there are: 32 with AVX-512 and on ARM, else 16."""
    return 32 if register_bytes() == 64 or platform.machine().lower() in ("aarch64", "arm64") else 16


@cache
def target_machine() -> Any:
    """What LLVM emits code for."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    name, features = host()
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(cpu=name, features=features, opt=3, codemodel="jitdefault", jit=True)
