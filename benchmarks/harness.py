"""What the benchmarks share: fair timing of several libraries in one process, tables, and facts about the machine."""

from __future__ import annotations

import datetime
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import eagerconv as ec

HAVE_TORCH = importlib.util.find_spec("torch") is not None
RESULTS = Path(__file__).parent / "results"
AVX2 = {
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "",
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}
"""What holds us and PyTorch to 256-bit registers."""

ALONE = "PyTorch is not installed: our figures alone."


def hold_to_avx2(module: str) -> None:
    """Start the program again so that all find AVX2 in the environment, which they read before they start."""
    if any(os.environ.get(name) != value for name, value in AVX2.items()):
        os.execve(sys.executable, [sys.executable, "-m", module, *sys.argv[1:]], {**os.environ, **AVX2})


def torch() -> Any:
    """PyTorch, on as many threads as we use."""
    import torch

    torch.set_num_threads(ec.get_num_threads())
    return torch


def interleaved(
    functions: dict[str, Callable[[], object]],
    rounds: int = 7,
    seconds: float = 0.05,
    pause: float = 0.02,
    most: float = 6.0,
) -> dict[str, float]:
    """Median seconds per call of each function.

    Blocks of calls take turns, so that a slow moment of the machine hits all alike. Before each block comes a pause, in
    which the threads of the previous library stop waiting busily for more work, and a call that is not timed. There are fewer
    rounds, at least three, where all of them would take longer than `most` seconds.
    """
    durations = {name: _duration(function) for name, function in functions.items()}
    calls = {name: max(1, round(seconds / duration)) for name, duration in durations.items()}
    one_round = sum((calls[name] + 1) * duration + pause for name, duration in durations.items())
    rounds = min(rounds, max(3, int(most / one_round)))
    samples: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            time.sleep(pause)
            function()
            start = time.perf_counter()
            for _ in range(calls[name]):
                function()
            samples[name].append((time.perf_counter() - start) / calls[name])
    return {name: statistics.median(values) for name, values in samples.items()}


def _duration(function: Callable[[], object]) -> float:
    """Roughly, after the first calls, which compile and allocate."""
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - start)
        if best > 0.3:
            break
    return max(best, 1e-7)


def relative_error(name: str, value: Any, truth: Any, least: float = 0.0) -> float:
    """The largest error, relative to the largest true value or, if that is less, to `least`; NaN where there is one."""
    value, truth = np.asarray(value), np.asarray(truth)
    if value.shape != truth.shape:
        raise SystemExit(f"{name}: wrong shape {value.shape}, should be {truth.shape}; nothing was timed")
    return float(np.abs(value - truth).max() / max(np.abs(truth).max(), least))


def check(name: str, value: Any, truth: Any, tolerance: float = 1e-4) -> None:
    """Stop the benchmark unless the largest error is below `tolerance`, relative to the largest true value."""
    error = relative_error(name, value, truth)
    if not error < tolerance:
        raise SystemExit(f"{name}: wrong values, relative error {error:.1e}; nothing was timed")


def progress(items: Iterable[Any], label: str) -> Iterable[Any]:
    """Items behind a progress bar, where tqdm is installed."""
    try:
        from tqdm import tqdm
    except ImportError:
        return items
    return tqdm(items, desc=label, leave=False)


@dataclass
class Table:
    """A benchmark's result: rows of text and numbers, printed as Markdown and saved as they are."""

    title: str
    columns: list[str]
    rows: list[list[Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        cells = [self.columns, *([_text(value) for value in row] for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        numeric = [
            all(isinstance(row[i], (int, float, type(None))) for row in self.rows) for i in range(len(self.columns))
        ]
        lines = [
            "| "
            + " | ".join(c.rjust(w) if n else c.ljust(w) for c, w, n in zip(row, widths, numeric, strict=True))
            + " |"
            for row in cells
        ]
        rule = "|" + "|".join("-" * (w + 1) + (":" if n else "-") for w, n in zip(widths, numeric, strict=True)) + "|"
        return "\n".join(
            [f"## {self.title}", "", lines[0], rule, *lines[1:], "", *(note + "\n" for note in self.notes)]
        )


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return (
        f"{value:.3g}"
        if isinstance(value, float) and abs(value) < 100
        else f"{value:.0f}"
        if isinstance(value, float)
        else str(value)
    )


def geometric_mean(values: Iterable[float]) -> float:
    return statistics.geometric_mean(values)


def machine() -> dict[str, Any]:
    """When and on what the figures were taken."""
    versions = {"python": platform.python_version()}
    for name in ("eagerconv", "numpy", "numba", "torch", "onnxruntime", "openvino"):
        if importlib.util.find_spec(name) is not None:
            versions[name] = ec.__version__ if name == "eagerconv" else importlib.metadata.version(name)
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": ec.get_num_threads(),
        "malloc": {k: v for k, v in os.environ.items() if k.startswith("MALLOC_")},
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions,
    }


def headline(facts: dict[str, Any]) -> str:
    """The facts in one line."""
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return f"{facts['date']}, {facts['cpu']}, {facts['threads']} threads, {facts['system']}; {versions}\n"


def save(name: str, facts: dict[str, Any], text: str, values: dict[str, Any]) -> Path:
    """Write the text and the values into `RESULTS`, under the time and the benchmark's name; the path less its suffix."""
    RESULTS.mkdir(exist_ok=True)
    stem = RESULTS / f"{facts['date'][:19].replace(':', '')}-{name}"
    stem.with_suffix(".md").write_text(text)
    stem.with_suffix(".json").write_text(json.dumps({"machine": facts, **values}, indent=1) + "\n")
    print(f"Written to {stem}.md and .json")
    return stem


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
