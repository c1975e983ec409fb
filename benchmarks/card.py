"""First light on a card: `python3 -m benchmarks.card --out FOLDER --minutes 8`, all that only a GPU can show, by importance.

It installs nothing and asks no network: a checkout and a Python with NumPy, Numba, CuPy and pytest are enough (PyTorch is
compared with where it is there). Each stage (card_stages.py) is a process of its own with a share of the time that is left;
a stage that hangs, crashes or talks too much costs its own share and nothing else. In FOLDER, whenever the run ends:

    summary.txt    one screen: the card, each stage, the first failures; written anew after each stage
    records.jsonl  every case as it began and as it ended
    failures.txt   the failures with their tracebacks, the last launch, memory, and whether the card still answered
    figures.md     tables of times
    log.txt        the beginning and the end of what each process printed
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter, deque
from contextlib import suppress
from pathlib import Path
from statistics import geometric_mean
from typing import Any, NamedTuple

from benchmarks.card_child import ENDS, LOST, MOST_BYTES, Report, Stage, append, plan, read

ROOT = Path(__file__).resolve().parents[1]
GRACE = 2.0  # seconds that a process has to end by itself, and again after each way of ending it
HEAD, TAIL = 16 << 10, 48 << 10  # bytes kept of what a process prints
LINES, WIDTH = 48, 118  # of a screen
MOST_STARTS = 12  # of one stage's processes


class End(NamedTuple):
    """How a process ended, in words, and what it printed."""

    how: str
    finished: bool
    printed: str


class Printed:
    """The beginning and the end of what comes out of a pipe, read as it comes so that nobody waits."""

    def __init__(self, pipe: Any) -> None:
        self.head, self.tail, self.size = b"", deque[bytes](), 0
        self._pipe, self._held = pipe, 0
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        while chunk := os.read(self._pipe.fileno(), 1 << 16):
            self.size += len(chunk)
            room = HEAD - len(self.head)
            self.head += chunk[:room]
            if rest := chunk[room:]:
                self.tail.append(rest)
                self._held += len(rest)
            while self.tail and self._held - len(self.tail[0]) >= TAIL:
                self._held -= len(self.tail.popleft())

    def text(self) -> str:
        """Both, and how much is not there."""
        self.thread.join(timeout=GRACE)
        if not self.thread.is_alive():
            self._pipe.close()
        tail = b"".join(self.tail)[-TAIL:]
        left_out = self.size - len(self.head) - len(tail)
        between = f"\n... {left_out:,} bytes ...\n".encode() if left_out > 0 else b""
        return (self.head + between + tail).decode(errors="replace")


def child(stage: Stage, name: str, folder: Path, seconds: float) -> End:
    """Run a stage, or what is left of it, in a process that gets no more than so many seconds."""
    # Not `-m`: what is told would be of classes of `__main__`, which stages know by another name.
    program = "from benchmarks.card_child import main; main()"
    command = [sys.executable, "-u", "-c", program, stage.name, "--plan", name, "--out", str(folder)]
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": paths, "EAGERCONV_QUIET": "1", **stage.environment}
    process = subprocess.Popen(
        [*command, "--seconds", str(seconds)], cwd=ROOT, env=environment, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    printed = Printed(process.stdout)
    try:
        late = not ends(process, seconds + GRACE)
        if late:
            send(process, signal.SIGABRT)  # it prints where it is
            ends(process, GRACE)
    finally:
        send(process, signal.SIGKILL)  # and all that it has started
    try:
        status: int | None = process.wait(GRACE)
    except subprocess.TimeoutExpired:  # it hangs in the driver: leave it there
        status = None
    text = printed.text()
    return End("ran past its time and was killed" if late else ending(status, text), status == 0 and not late, text)


def ends(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether a process ends within so many seconds."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def send(process: subprocess.Popen[bytes], number: int) -> None:
    """Send a signal to a process's group, if there is still one."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def ending(status: int | None, printed: str) -> str:
    """What an exit status means."""
    if status is None:
        return "does not end, not even when killed"
    if status < 0:
        return f"ended by {signal.Signals(-status).name}"
    if status == LOST:
        return "the card no longer answered"
    if status == 1 and "Timeout (" in printed:
        return "hung, and was ended by the watchdog"
    return f"exit status {status}"


def last_words(printed: str, most: int = 5000) -> str:
    """The end of what was printed, or what comes before and after the place where a watchdog or a signal found the process."""
    found = max(printed.rfind(mark) for mark in ("Timeout (", "Fatal Python error"))
    return printed[-most:] if found < 0 else printed[max(0, found - most // 4) :][:most]


def perform(stage: Stage, name: str, folder: Path, seconds: float) -> None:
    """Run a stage to its end: where a process ends early, another goes on behind the case that ended it."""
    until = time.monotonic() + seconds
    report = Report(folder, stage.name, seconds)
    for start in range(1, MOST_STARTS + 1):
        left = until - time.monotonic()
        if start > 1 and left < 1:
            report.write("what was left", "skipped", why="no time left")
            return
        before = open_cases(folder, stage.name)[0]
        end = child(stage, name, folder, left)
        append(folder / "log.txt", f"===== {stage.name}, process {start}: {end.how}\n{end.printed}\n")
        begun, unfinished = open_cases(folder, stage.name)
        for case in unfinished:
            report.write(case, "died", error=end.how, printed=last_words(end.printed))
        if end.finished:
            return
        if begun == before:  # it does not get as far as its cases
            report.write("the process", "died", error=end.how, printed=last_words(end.printed))
            return
    report.write("what was left", "skipped", why=f"{MOST_STARTS} processes ended early")


def open_cases(folder: Path, stage: str) -> tuple[int, list[str]]:
    """(how many cases of a stage were begun, those that have not ended)."""
    mine = [r for r in read(folder) if r["stage"] == stage]
    ended = {r["case"] for r in mine if r["state"] in ENDS}
    begun = dict.fromkeys(r["case"] for r in mine if r["state"] == "begin")
    return len(begun), [case for case in begun if case not in ended]


# ----- What is told of it -----


def summary(folder: Path, stages: list[Stage], spent: dict[str, float]) -> str:
    """One screen: facts, a line for each stage, the first failures."""
    records = read(folder)
    lines = [f"eagerconv, first light: {sum(spent.values()):.0f} s"]
    for r in records:
        if r["stage"] == "facts" and "headline" in r:
            lines += textwrap.wrap(f"  {r['case']}: {r['headline']}", WIDTH, subsequent_indent="    ", max_lines=2)
    for stage in stages:
        mine = [r for r in records if r["stage"] == stage.name]
        count = Counter(r["state"] for r in mine)
        states = ", ".join(f"{count[state]} {state}" for state in ENDS if count[state]) or "nothing was tried"
        if stage.name not in spent:
            states = "to come"
        told = [r["headline"] for r in mine if "headline" in r and stage.name != "facts"]
        if ratios := {r["case"]: min(r["ratios"]) for r in mine if r.get("ratios")}:
            every = [value for r in mine for value in r.get("ratios", ())]
            below, worst = sum(value < 1 for value in every), min(ratios, key=ratios.__getitem__)
            told.insert(0, f"PyTorch / eagerconv {geometric_mean(every):.2f} of {len(every)}, {below} below 1, "
                           f"least {ratios[worst]:.2f} ({worst})")  # fmt: skip
        line = f"{stage.name:10}{spent.get(stage.name, 0):5.0f} s  {'; '.join([states, *told])}"
        lines += textwrap.wrap(line, WIDTH, subsequent_indent=" " * 19, max_lines=2)
    wrong = [r for r in records if r["state"] in ("failed", "died")]
    lines += ["", f"{len(wrong)} failures" + (", see failures.txt" if wrong else "")]
    lines += [f"  {r['stage']}: {r['case']}: {first_line(r.get('error'))}" for r in wrong]
    if len(lines) > LINES:
        lines[LINES - 1 :] = [f"  and {len(lines) - LINES + 1} more"]
    return "\n".join(line if len(line) <= WIDTH else line[: WIDTH - 3] + "..." for line in lines) + "\n"


def first_line(text: Any) -> str:
    return str(text).strip().partition("\n")[0]


def failures(folder: Path) -> str:
    """All failures, each with what it left to be told."""
    parts = []
    for r in read(folder):
        if r["state"] in ("failed", "died"):
            facts = [f"{name}: {r[name]}" for name in ("error", "launched", "memory", "alive", "answer") if name in r]
            parts.append(
                "\n".join([f"===== {r['stage']}: {r['case']}", *facts, r.get("traceback") or r.get("printed", ""), ""])
            )
    return "\n".join(parts)


def write(folder: Path, stages: list[Stage], spent: dict[str, float]) -> str:
    """Write the summary and the failures anew, each whole or not at all."""
    screen = summary(folder, stages, spent)
    for name, text in (("summary.txt", screen), ("failures.txt", failures(folder))):
        made = folder / f".{name}"
        made.write_bytes(text.encode(errors="replace")[:MOST_BYTES])
        made.replace(folder / name)
    return screen


def conduct(folder: Path, seconds: float, name: str, only: list[str]) -> int:
    """Run the stages of a plan within so many seconds; how many failures there were."""
    until = time.monotonic() + seconds - 3 * GRACE  # the last stage may have to be killed
    stages = [stage for stage in plan(name).STAGES if not only or stage.name in only]
    folder.mkdir(parents=True, exist_ok=True)
    spent: dict[str, float] = {}
    try:
        for i, stage in enumerate(stages):
            start = time.monotonic()
            share = (until - start) * stage.weight / sum(later.weight for later in stages[i:])
            if share < 1:
                break
            perform(stage, name, folder, share)
            spent[stage.name] = time.monotonic() - start
            print(write(folder, stages, spent), flush=True)
    finally:
        write(folder, stages, spent)
    return sum(r["state"] in ("failed", "died") for r in read(folder))


def stop(number: int, frame: Any) -> None:
    """Let whoever ends the run end it as Ctrl-C does: with the summary written."""
    raise KeyboardInterrupt


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--minutes", type=float, default=8, help="for everything (default: %(default)s)")
    parser.add_argument("--only", nargs="+", default=[], metavar="STAGE", help="some of the stages")
    parser.add_argument("--plan", default="benchmarks.card_stages", help="the module that lists the stages")
    options = parser.parse_args()
    if unknown := set(options.only) - {stage.name for stage in plan(options.plan).STAGES}:
        known = ", ".join(stage.name for stage in plan(options.plan).STAGES)
        parser.error(f"no stage is called {', '.join(sorted(unknown))}; there are {known}")
    if options.out.exists() and any(options.out.iterdir()):
        parser.error(f"--out {options.out} is not empty; results of two runs would mix: name a new folder")
    signal.signal(signal.SIGTERM, stop)
    return min(1, conduct(options.out, 60 * options.minutes, options.plan, options.only))


if __name__ == "__main__":
    sys.exit(main())
