"""The library as on other processors, `make test-targets`: plans and choices, every kernel compiled, and values where they run.

A processor is played by LLVM compiling for it, and the plans following its registers. What only plans needs neither its
instructions nor a compiler, so it is tested anywhere; values are where this machine has the instructions.
"""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from eagerconv.kernels_cpu.targets import register_bytes

ROOT = Path(__file__).resolve().parents[1]
X86 = platform.machine() in ("x86_64", "AMD64")
TARGETS = {"nehalem": 16, "haswell": 32, "skylake-avx512": 64}
"""Processors with SSE, AVX2 and AVX-512, and the bytes of their registers."""
DTYPES = ("float16", "float32")
"""Of the kernels that are compiled: all there are, with those that widen. Other dtypes' are when values need them."""
PROCESSORS = os.cpu_count() or 1

COMPILE = """
import sys
from eagerconv.algorithms import warming
from eagerconv.kernels_cpu import jit, targets
share, shares, register, *dtypes = sys.argv[1:]
assert targets.register_bytes() == int(register), targets.register_bytes()
for function, dtype in warming.kernels((), dtypes)[int(share) :: int(shares)]:
    jit.kernel(function, dtype)
"""
RUN = "import eagerconv as ec; ec.conv2d([[[[1.0] * 99] * 99]], [[[[1.0]]]], algorithm='gemm')"


def shorter() -> str | None:
    """A processor with shorter registers than those that kernels are compiled for here, if there is one."""
    return max((name for name in TARGETS if TARGETS[name] < register_bytes()), key=TARGETS.__getitem__, default=None)


def environment(target: str, **others: str) -> dict[str, str]:
    """That of a process that plans and compiles for another processor."""
    return {**os.environ, "NUMBA_CPU_NAME": target, "NUMBA_CPU_FEATURES": "", "EAGERCONV_QUIET": "1", **others}


def succeeds(target: str, *command: str, **others: str) -> bool:
    """Whether Python ends well with this command line, as on the target."""
    run = subprocess.run([sys.executable, *command], env=environment(target, **others), cwd=ROOT, check=False)
    return run.returncode == 0


def plans(target: str) -> bool:
    """Test plans and choices, as on a machine with many processors."""
    return succeeds(
        target, "-m", "pytest", "-q", "--full", "--plan-only", "-m", "plans", "tests", NUMBA_NUM_THREADS="64"
    )


def kernels(target: str) -> bool:
    """Compile all kernels, on all processors; they stay in the cache."""
    with ThreadPoolExecutor(PROCESSORS) as team:
        rest = [str(PROCESSORS), str(TARGETS[target]), *DTYPES]
        return all(team.map(lambda share: succeeds(target, "-c", COMPILE, str(share), *rest), range(PROCESSORS)))


def values(target: str) -> bool:
    """Test values."""
    return succeeds(target, "-m", "pytest", "-q", "--full", "-n", str(PROCESSORS), "-m", "lanes", "tests")


def runs(target: str) -> bool:
    """Whether this machine has the target's instructions: tried, as no list of them can be complete."""
    command = [sys.executable, "-c", RUN]
    status = subprocess.run(command, env=environment(target), cwd=ROOT, check=False).returncode
    if status not in (0, -signal.SIGILL):
        raise RuntimeError(f"a convolution compiled for {target} ended with exit status {status}")
    return status == 0


def main(names: list[str]) -> int:
    """Do all that can be done for each target; the exit status is how many things failed."""
    if not X86:
        print(f"the targets are x86 processors, and this machine is {platform.machine()}")
        return 0
    if unknown := set(names) - set(TARGETS):
        sys.exit(f"there is no target {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    told, failures = [], 0
    for target in names or TARGETS:
        for step in (plans, kernels, values):
            if step is values and not runs(target):
                told.append(f"{target:15} {step.__name__:7} not here: the processor lacks instructions")
                continue
            start = time.perf_counter()
            right = step(target)
            failures += not right
            told.append(
                f"{target:15} {step.__name__:7} {'passed' if right else 'FAILED'} in {time.perf_counter() - start:.0f} s"
            )
    print(*told, sep="\n")
    return failures


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
