"""CPU kernels in Numba: each algorithm file exports the records that `algorithms/registry.py` lists."""

from eagerconv.interrupts import uninterrupted
from eagerconv.kernels_cpu.targets import registers

uninterrupted(registers)()  # asks LLVM, as no other code of the main thread does: its lock would stay taken
