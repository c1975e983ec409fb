"""What a new process waits for: the import, and the import with the first convolution, its kernels compiled before."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.harness import ALONE, HAVE_TORCH, Table, progress

ROOT = Path(__file__).resolve().parents[1]

# Each program is timed whole, as its user waits for it, and from its first to its last line, as an import is.
TINY = "1, 1, 5, 5), np.float32), np.ones((1, 1, 3, 3"
LAYER = "8, 32, 32, 32), np.float32), np.ones((32, 32, 3, 3"
OURS = "import numpy as np, eagerconv as ec; ec.conv2d(np.ones(({}), np.float32))"
THEIRS = "import numpy as np, torch as t; t.conv2d(*map(t.from_numpy, (np.ones(({}), np.float32))))"
PROGRAMS = {
    "nothing": "pass",
    "import numpy": "import numpy",
    "import numba": "import numba",
    "import eagerconv": "import eagerconv",
    "import eagerconv, one tiny conv2d": OURS.format(TINY),
    "import eagerconv, conv2d of a real layer": OURS.format(LAYER),
}
PEERS = {
    "import torch": "import torch",
    "import torch, one tiny conv2d": THEIRS.format(TINY),
    "import torch, conv2d of a real layer": THEIRS.format(LAYER),
}


def measure(quick: bool = False) -> Table:
    programs = PROGRAMS | (PEERS if HAVE_TORCH else {})
    for program in programs.values():  # fills the caches of kernels, bytecode and files
        run(program)
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
    for _ in progress(range(3 if quick else 11), "start-up"):
        for name, program in programs.items():
            samples[name].append(run(program))
    table = Table("Start-up of a new process, caches warm", ["program", "inside, ms", "whole process, ms"])
    for name, times in samples.items():
        inside, whole = (1e3 * statistics.median(values) for values in zip(*times, strict=True))
        table.rows.append([name, inside, whole])
    table.notes.append("Tiny: 1x1x5x5 with 1x1x3x3. Real: 8x32x32x32 with 32x32x3x3, on all threads. Medians.")
    if not HAVE_TORCH:
        table.notes.append(ALONE)
    return table


def run(program: str) -> tuple[float, float]:
    """Seconds from the program's first to its last line, and of its process."""
    timed = f"import time; start = time.perf_counter()\n{program}\nprint(time.perf_counter() - start)"
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", timed], cwd=ROOT, capture_output=True, text=True, check=False)
    whole = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"{program!r} failed:\n{done.stderr}")
    return float(done.stdout), whole


if __name__ == "__main__":
    print(measure().markdown())
