"""One stage of `benchmarks.card` in a process of its own: its cases one by one, and what each came to, written at once.

A case that fails tells where, what was launched last, the card's memory and whether the card still answers; where it does not,
which an error of CUDA's leaves for good, this process ends and the next one goes on behind the case. One that hangs is ended
by a watchdog that prints where. Whatever happens, the records are on disk.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

RECORDS, FIGURES = "records.jsonl", "figures.md"
MOST_BYTES = 3_900_000  # of a file
MOST_TEXT = 6000  # characters of one text in a record
LOST = 75  # exit status: the card no longer answers this process
ENDS = ("ok", "failed", "skipped", "died")


class Skip(Exception):
    """A case can't be tried here; the message tells why."""


class Case(NamedTuple):
    """One thing to try; it gives out what is worth keeping, and fails by raising."""

    name: str
    run: Callable[[], Mapping[str, Any] | None]
    seconds: float = 20.0


class Stage(NamedTuple):
    """Part of a run: its share of the time that is left, what it does in its process, and that process's environment."""

    name: str
    weight: float
    run: Callable[[Report], None]
    environment: Mapping[str, str] = {}


def append(path: Path, text: str, most: int = MOST_BYTES) -> None:
    """Add to a file, by one write that survives this process; what would make it too large is left out."""
    data = text.encode(errors="replace")
    with path.open("ab") as file:
        if file.tell() + len(data) <= most:
            file.write(data)


def clipped(value: Any, most: int = MOST_TEXT) -> Any:
    """The value with its long texts shortened: both ends stay."""
    if isinstance(value, str) and len(value) > most:
        return f"{value[: most // 3]}\n... {len(value) - most} characters ...\n{value[-2 * most // 3 :]}"
    if isinstance(value, dict):
        return {str(name): clipped(v, most) for name, v in value.items()}
    return [clipped(v, most) for v in value] if isinstance(value, (list, tuple)) else value


def read(folder: Path) -> list[dict[str, Any]]:
    """All records so far; a line that a killed process left half written is passed over."""
    found = []
    path = folder / RECORDS
    for line in path.read_text(errors="replace").splitlines() if path.exists() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


class Report:
    """Where a stage writes, and how long it may."""

    def __init__(self, folder: Path, stage: str, seconds: float, errors: int = 2) -> None:
        """`errors` is the file descriptor for what a watchdog prints."""
        self.folder, self.stage, self.until, self.errors = folder, stage, time.monotonic() + seconds, errors
        self.begun = {r["case"] for r in read(folder) if r["stage"] == stage}

    @property
    def left(self) -> float:
        """Seconds."""
        return self.until - time.monotonic()

    def write(self, case: str, state: str, **values: Any) -> None:
        """Add a record, of which texts are cut short: the more so when many have been written, so that all find room."""
        record, path = {"stage": self.stage, "case": case, "state": state}, self.folder / RECORDS
        full = path.exists() and path.stat().st_size > MOST_BYTES / 2
        line = json.dumps({**record, **clipped(values, MOST_TEXT // 8 if full else MOST_TEXT)}, default=str)
        if len(line) > 8 * MOST_TEXT:
            line = json.dumps({**record, "error": f"the record had {len(line):,} characters"})
        append(path, line + "\n")

    def figures(self, text: str) -> None:
        """Add a table to the figures."""
        append(self.folder / FIGURES, text + "\n")

    def watch(self, seconds: float) -> None:
        """End this process, and print where it was, unless told otherwise within so long."""
        faulthandler.dump_traceback_later(max(0.1, min(seconds, self.left)), exit=True, file=self.errors)

    def attempt(self, case: Case) -> None:
        """Try one case, unless a process before this one has."""
        if case.name in self.begun:
            return
        self.begun.add(case.name)
        self.write(case.name, "begin")
        self.watch(case.seconds)
        start = time.monotonic()
        values: Mapping[str, Any] | None
        try:
            state, values = "ok", case.run()
        except Skip as skip:
            state, values = "skipped", {"why": str(skip)}
        except (Exception, SystemExit) as error:
            state, values = (
                "failed",
                {"error": f"{type(error).__name__}: {error}", "traceback": told(error), **condition()},
            )
        self.write(case.name, state, seconds=round(time.monotonic() - start, 3), **(values or {}))
        self.watch(self.left)
        if values and values.get("alive") is False:
            self.leave()

    def leave(self) -> None:
        """End this process without tidying up, which a broken card may hang in."""
        os._exit(LOST)


def cases(make: Callable[[], Sequence[Case]]) -> Callable[[Report], None]:
    """A stage that tries cases in their order, as long as there is time."""

    def run(report: Report) -> None:
        todo = [case for case in make() if case.name not in report.begun]
        for i, case in enumerate(todo):
            if report.left < min(1.0, case.seconds):
                report.write(f"{len(todo) - i} more", "skipped", why="no time left")
                return
            report.attempt(case)

    return run


# ----- What a failure leaves to be told -----

launched = "nothing"
"""What the card was last asked to do, where somebody writes it down."""


def told(error: BaseException) -> str:
    """The traceback, notes included."""
    return "".join(traceback.format_exception(error))


def condition() -> dict[str, Any]:
    """What was launched last, the card's memory, and whether the card still answers."""
    cuda = sys.modules.get("eagerconv.kernels_gpu.cuda")
    found: dict[str, Any] = {"launched": launched}
    if cuda is None or cuda._runtime is None:  # the card was not used
        return found
    try:
        import numpy as np

        runtime = cuda.runtime()
        runtime.synchronize()
        found["alive"] = runtime.get(runtime.put(np.ones(2)) + 1).tolist() == [2.0, 2.0]
    except Exception as error:
        found |= {"alive": False, "answer": f"{type(error).__name__}: {error}"}
    found["memory"] = memory(cuda.runtime())
    return found


def memory(runtime: Any) -> str:
    """How much of the card's memory is free, and how much of it CuPy's pool holds."""
    try:
        cupy = runtime.xp
        free, total = cupy.cuda.Device().mem_info
        pool = cupy.get_default_memory_pool()
        return f"{free:,} of {total:,} bytes free; the pool uses {pool.used_bytes():,} of its {pool.total_bytes():,}"
    except Exception as error:
        return f"unknown: {type(error).__name__}: {error}"


# ----- Tests -----


def pytest_run(*arguments: str, seconds: float = 60) -> Callable[[Report], None]:
    """A stage that runs tests, each for so long at most."""

    def run(report: Report) -> None:
        from benchmarks.card_tests import run_tests  # pytest, which only such a stage needs

        run_tests(report, arguments, seconds)

    return run


# ----- The process -----


def plan(name: str) -> ModuleType:
    """The module that lists the stages: `STAGES`, and `prepare()`, which is called in the process of each."""
    return importlib.import_module(name)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage")
    parser.add_argument("--plan", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    options = parser.parse_args()
    report = Report(options.out, options.stage, options.seconds, os.dup(2))  # pytest takes the other
    faulthandler.enable(report.errors)
    for number in (signal.SIGTERM, signal.SIGUSR1):
        faulthandler.register(number, report.errors, chain=True)
    report.watch(report.left)
    module = plan(options.plan)
    (stage,) = (stage for stage in module.STAGES if stage.name == options.stage)
    try:
        module.prepare()
        stage.run(report)
    except (Exception, SystemExit) as error:
        report.write("the stage itself", "failed", error=f"{type(error).__name__}: {error}", traceback=told(error))
    faulthandler.cancel_dump_traceback_later()
    sys.stdout.flush()
    # All is written. What ends in the destructors of a broken context must not hide it.
    os._exit(0)
