"""Shows that kernels are still the same machine code: `python -m tests.replay save FOLDER`, edit, `... compare FOLDER`.

Every kernel of the library is compiled for three processors, whichever this one is, and its assembly is kept with symbols
named in the order in which they appear (Numba's own names count the functions of a process). `compare` tells which kernels are
the same; the same but for numbers and labels, as when the fields of a table move; the same instructions in another order; and
different, whose new assembly is kept beside.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

PROCESSORS = ("skylake-avx512", "haswell", "nehalem")
PROCESSES = 2
DTYPES = ("float32", "float64")
DIRECT_DTYPES = (*DTYPES, "int32", "complex64")
SAME, NUMBERS, MOVED = "same bytes", "same but for numbers", "same instructions in another order"
DIFFERENT, NEW, ABSENT = "different", "new", "not for this one"

# Symbols, those of Numba among them; what the assembler needs no longer: comments, names of files.
_SYMBOL = re.compile(r'"[^"\n]+"|\b_Z\w[\w.$]*|\.const\.[\w.$]*')
_NOISE = re.compile(r"[ \t]*#.*|^\t\.(file|ident)\b.*\n", re.MULTILINE)
_LABEL = re.compile(r"\.L[A-Z]*\d+_\d+")
_NUMBER = re.compile(r"(?<![\w.%])-?\d+")


def kernels(all_forms: bool) -> list[tuple[str, str]]:
    """("module:function", dtype) of all kernels, those that `warmup` leaves to the layer that needs them on request."""
    from eagerconv.algorithms.registry import TABLE
    from eagerconv.algorithms.warming import BETWEEN, STAGES, kernels_of
    from eagerconv.kernels_cpu import dwm

    names = [name for part in (*(a.name for a in TABLE["cpu"]), *BETWEEN) for name in kernels_of(part)]
    if all_forms:
        pairs = [(a, b) for a in dwm.FORMS for b in dwm.FORMS if (a, b) != (dwm.FORMS[0],) * 2]
        names += [f"dwm:{stage}_{m[0]}x{m[1]}_{r[0]}x{r[1]}" for m, r in pairs for stage in STAGES]
    found = [(name, dtype) for name in names for dtype in (DIRECT_DTYPES if name.startswith("direct:") else DTYPES)]
    return list(dict.fromkeys((*found, *((name, "float32") for name in kernels_of("convert")))))


def assembly(function: str, dtype: str) -> str:
    """The kernel as the assembler would read it, without what changes from process to process."""
    from llvmlite.binding.targets import TargetMachine

    from eagerconv.kernels_cpu.compiler import compiled

    TargetMachine.emit_object = lambda self, module: self.emit_assembly(module).encode()
    text = _NOISE.sub("", compiled(f"{function}:{dtype}", function, np.dtype(dtype)).decode())
    numbers: dict[str, str] = {}
    return _SYMBOL.sub(lambda found: numbers.setdefault(found[0], f"symbol{len(numbers)}"), text)


def verdict(old: str, new: str) -> str:
    """How two assemblies of a kernel differ."""
    if old == new:
        return SAME
    old, new = (_NUMBER.sub("", _LABEL.sub("label", text)) for text in (old, new))
    if old == new:
        return NUMBERS
    return MOVED if sorted(old.splitlines()) == sorted(new.splitlines()) else DIFFERENT


def work(folder: Path, save: bool) -> None:
    """Emit the kernels named on stdin, one line of stdout for each."""
    from eagerconv.kernels_cpu.convert import _has_instructions

    for function, dtype in json.load(sys.stdin):
        if function.startswith("convert:") and not _has_instructions(function.rpartition("_")[2]):
            print(ABSENT, function, dtype, sep="\t", flush=True)
            continue
        file = folder / f"{function.replace(':', '-')}-{dtype}.s.gz"
        if save and file.exists():  # an interrupted run goes on
            print(SAME, function, dtype, sep="\t", flush=True)
            continue
        text = assembly(function, dtype)
        result = verdict(gzip.decompress(file.read_bytes()).decode(), text) if file.exists() else NEW
        if save or result == DIFFERENT:
            unfinished = file.with_suffix(".tmp")
            unfinished.write_bytes(gzip.compress(text.encode()))
            unfinished.replace(file if save else file.with_suffix(".new.gz"))
        print(result, function, dtype, sep="\t", flush=True)


def run(folder: Path, save: bool, wanted: list[tuple[str, str]], processors: list[str]) -> dict[str, Counter[str]]:
    """Emit the kernels for each processor, in processes of their own, as the processor is chosen once in each."""
    from tqdm.auto import tqdm

    counts: dict[str, Counter[str]] = {processor: Counter() for processor in processors}
    bar = tqdm(total=len(wanted) * len(processors), unit=" kernels")

    def child(processor: str, part: list[tuple[str, str]]) -> None:
        (folder / processor).mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable,
            "-m",
            "tests.replay",
            "save" if save else "compare",
            str(folder / processor),
            "--child",
        ]
        environment = os.environ | {"NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": ""}
        with subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            process.stdin.write(json.dumps(part))
            process.stdin.close()
            for line in process.stdout:
                result, function, dtype = line.rstrip("\n").split("\t")
                counts[processor][result] += 1
                if not save and result not in (SAME, ABSENT):
                    bar.write(f"{result}: {function} {dtype} for {processor}")
                bar.update()
        if process.returncode:
            raise SystemExit(f"the kernels for {processor} could not be emitted")

    jobs = [(processor, wanted[i::PROCESSES]) for processor in processors for i in range(PROCESSES)]
    with bar, ThreadPoolExecutor(PROCESSES) as pool:
        list(pool.map(child, *zip(*jobs, strict=True)))
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.replay", description=__doc__)
    parser.add_argument("action", choices=("save", "compare"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="", help="a pattern of module:function dtype, say 'winograd|gemm:images'")
    parser.add_argument("--processor", choices=PROCESSORS, help="for this one alone")
    parser.add_argument("--all-forms", action="store_true", help="also the pairs of forms that warmup leaves out")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        work(given.folder, given.action == "save")
        return
    wanted = [pair for pair in kernels(given.all_forms) if re.search(given.only, " ".join(pair))]
    processors = [given.processor] if given.processor else list(PROCESSORS)
    counts = run(given.folder, given.action == "save", wanted, processors)
    for processor, results in counts.items():
        print(f"{processor}:", ", ".join(f"{n} {result}" for result, n in sorted(results.items())))
    if given.action == "compare" and any(set(results) - {SAME, ABSENT} for results in counts.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
