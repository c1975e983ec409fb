"""The first run on a card, rehearsed without one: its stages on the stand-in, and faults planted into them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import card_rehearsal
import fake_cuda
import pytest

from benchmarks import card, card_child, card_stages

ROOT = Path(__file__).resolve().parents[1]
NEEDS_COMPILER = pytest.mark.skipif(fake_cuda.NO_COMPILER is not None, reason=str(fake_cuda.NO_COMPILER))

PLANTED = """
import os, signal, sys, time
from types import SimpleNamespace
from benchmarks.card_child import Case, Skip, Stage, cases, pytest_run

def prepare():
    if sys.argv[1] == "unprepared":
        raise OSError("no such library")

def ok():
    return {"headline": "all is well", "ratios": [2.0, 8.0]}

def fails():
    error = ValueError("wrong numbers\\nin two lines")
    error.add_note("by the second algorithm")
    raise error

def skips():
    raise Skip("there is none here")

def crashes():
    os.kill(os.getpid(), signal.SIGSEGV)

def hangs():
    time.sleep(60)

def deaf():
    import faulthandler
    faulthandler.cancel_dump_traceback_later()
    print("I can't hear you", flush=True)
    time.sleep(60)

def talks():
    for _ in range(100):
        print("blah " * 20000)
    return {"said": "blah " * 10**6, "more": ["blah" * 2000] * 100}

def breaks():
    def dead(*arguments):
        raise RuntimeError("an illegal memory access was encountered")
    cuda = SimpleNamespace(_runtime=True, runtime=lambda: SimpleNamespace(synchronize=dead))
    sys.modules["eagerconv.kernels_gpu.cuda"] = cuda
    fails()

def stage(name, *functions, seconds=20):
    made = [Case(f.__name__, f, seconds) for f in functions] + [Case("afterwards", ok)]
    return Stage(name, 1, cases(lambda: made))

STAGES = [
    stage("good", ok, skips), stage("bad", fails), stage("unprepared", ok), stage("signal", crashes),
    stage("hanging", hangs, seconds=0.3), stage("talking", talks), stage("lost", breaks),
    Stage("tests", 1, pytest_run(os.environ["PLANTED_TESTS"], seconds=0.5)), stage("deaf", deaf),
]
"""
TESTS = """
import os, signal, time, warnings
def test_a(): warnings.warn("of a newer version", DeprecationWarning)
def test_b(): assert 1 == 2, "these differ"
def test_c(): os.kill(os.getpid(), signal.SIGSEGV)
def test_d(): time.sleep(60)
def test_e(): pass
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A plan with faults, and an empty folder for what comes of it."""
    (tmp_path / "planted.py").write_text(PLANTED)
    (tmp_path / "test_planted.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # they take seconds
    monkeypatch.setenv("PLANTED_TESTS", str(tmp_path / "test_planted.py"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "planted", raising=False)
    monkeypatch.setattr(card, "GRACE", 0.3)
    return tmp_path / "out"


def states(folder: Path, stage: str) -> dict[str, str]:
    """How each case of a stage ended."""
    return {r["case"]: r["state"] for r in card_child.read(folder) if r["stage"] == stage}


def record(folder: Path, stage: str, case: str) -> dict[str, object]:
    return [r for r in card_child.read(folder) if (r["stage"], r["case"]) == (stage, case)][-1]


def test_a_fault_costs_its_case_and_nothing_else(folder, capsys):
    assert card.conduct(folder, 60, "planted", [s for s in NAMES if s not in ("tests", "deaf")]) == 5
    assert states(folder, "good") == {"ok": "ok", "skips": "skipped", "afterwards": "ok"}
    for stage, case, end in [("bad", "fails", "failed"), ("signal", "crashes", "died"), ("hanging", "hangs", "died"),
                             ("talking", "talks", "ok"), ("lost", "breaks", "failed")]:  # fmt: skip
        assert states(folder, stage) == {case: end, "afterwards": "ok"}
    assert states(folder, "unprepared") == {"the stage itself": "failed"}
    assert record(folder, "signal", "crashes")["error"] == "ended by SIGSEGV"
    assert "in crashes" in record(folder, "signal", "crashes")["printed"]  # where
    assert record(folder, "hanging", "hangs")["error"] == "hung, and was ended by the watchdog"
    assert "in hangs" in record(folder, "hanging", "hangs")["printed"]
    assert record(folder, "lost", "breaks")["answer"] == "RuntimeError: an illegal memory access was encountered"


NAMES = ("good", "bad", "unprepared", "signal", "hanging", "talking", "lost", "tests", "deaf")


def test_what_is_left_is_short_and_tells_enough(folder, capsys):
    card.conduct(folder, 60, "planted", ["good", "bad", "talking", "lost"])
    files = {path.name: path.read_text() for path in folder.iterdir()}
    assert len(files) <= 8
    assert max(map(len, files.values())) < 1 << 20  # of ten megabytes that were printed, and five returned
    assert "bytes ..." in files["log.txt"]
    screen = files["summary.txt"].splitlines()
    assert len(screen) <= card.LINES
    assert max(map(len, screen)) <= card.WIDTH
    told = "2 ok, 1 skipped; PyTorch / eagerconv 4.00 of 4, 0 below 1, least 2.00 (ok); all is well"
    assert any(line.startswith("good ") and told in line for line in screen)
    assert "  bad: fails: ValueError: wrong numbers" in screen
    told = files["failures.txt"]
    assert "in fails" in told
    assert "by the second algorithm" in told
    assert "alive: False" in told
    assert "launched: nothing" in told
    assert capsys.readouterr().out.count("first light") == 4  # after each stage


def test_tests_go_on_behind_one_that_crashes_or_hangs(folder, capsys):
    card.conduct(folder, 60, "planted", ["tests"])
    told = {case.rpartition("::")[2]: state for case, state in states(folder, "tests").items()}
    assert told == {"test_a": "ok", "test_b": "failed", "test_c": "died", "test_d": "died", "test_e": "ok"}
    text = (folder / "failures.txt").read_text()
    assert "these differ" in text
    assert "line 6 in test_d" in text


def test_a_stage_that_hears_nothing_is_killed(folder, capsys):
    start = time.monotonic()
    card.conduct(folder, 2.5, "planted", ["deaf"])
    assert time.monotonic() - start < 10
    assert states(folder, "deaf")["deaf"] == "died"
    assert record(folder, "deaf", "deaf")["error"] == "ran past its time and was killed"
    assert "I can't hear you" in (folder / "log.txt").read_text()


def test_a_run_that_is_killed_leaves_what_it_had(folder, tmp_path):
    command = [sys.executable, "-m", "benchmarks.card", "--out", str(folder), "--minutes", "1", "--plan", "planted"]
    process = subprocess.Popen([*command, "--only", "good", "deaf"], cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        while "deaf" not in states(folder, "deaf"):
            time.sleep(0.05)
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) != 0
    finally:
        process.kill()
    assert states(folder, "good")["afterwards"] == "ok"
    assert "all is well" in (folder / "summary.txt").read_text()


def test_the_time_of_stages_that_end_early_goes_to_the_next(folder, monkeypatch, capsys):
    given = []
    monkeypatch.setattr(card, "perform", lambda stage, name, where, seconds: given.append(seconds))
    card.conduct(folder, 100, "planted", ["good", "bad", "lost", "deaf"])
    whole = 100 - 3 * card.GRACE
    for seconds, part in zip(given, (1 / 4, 1 / 3, 1 / 2, 1), strict=True):
        assert seconds == pytest.approx(whole * part, rel=0.02)


def test_results_of_two_runs_do_not_mix(folder):
    folder.mkdir()
    (folder / "records.jsonl").write_text("{}\n")
    command = [sys.executable, "-m", "benchmarks.card", "--out", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "is not empty; results of two runs would mix: name a new folder" in done.stderr


# ----- The stages, on a card played by the CPU -----


class Here(card_child.Report):
    """A stage in this process, which no watchdog may end."""

    def watch(self, seconds: float) -> None:
        pass

    def leave(self) -> None:
        raise AssertionError("the card no longer answers")


@NEEDS_COMPILER
@pytest.mark.parametrize("name", ["facts", "host", "layers", "graph", "memory"])
def test_a_stage_does_what_it_is_for(name, tmp_path, monkeypatch):
    (stage,) = (stage for stage in card_rehearsal.STAGES if stage.name == name)
    with fake_cuda.played(), monkeypatch.context() as patch:
        card_rehearsal.shrink(patch.setattr)
        report = Here(tmp_path, name, 60)
        stage.run(report)
    ends = {r["case"]: r for r in card_child.read(tmp_path)}
    assert ends
    assert {case: r.get("error") for case, r in ends.items() if r["state"] not in ("ok", "skipped")} == {}
    if name != "facts":
        assert {r["state"] for r in ends.values()} >= {"ok"}


@NEEDS_COMPILER
def test_every_algorithm_and_slot_is_tried_and_the_last_launch_known(tmp_path, monkeypatch):
    from benchmarks import card_smoke
    from eagerconv.kernels_gpu import cudnn_backend

    with fake_cuda.played(), monkeypatch.context() as patch:
        patch.setattr(cudnn_backend.Plan, "execute", cudnn_backend.Plan.execute)  # `smoke` puts another in its place
        patch.setattr(card_child, "launched", "nothing")
        told = card_smoke.smoke()
        report = Here(tmp_path, "smoke", 60)
        for name in ("cudnn", "gemm", "direct", "fft"):
            for slot in card_smoke.SLOTS:
                (case,) = (case for case in told if case.name == f"{name}, {slot}, float32, NCHW, plain, 2-D")
                report.attempt(case)
                words = {"cudnn": "engine of cuDNN", "gemm": "gemm(", "direct": "kernel", "fft": "irfftn("}
                assert words[name] in card_child.launched or (name, slot) == ("gemm", card_smoke.SLOTS[1])
        report.attempt(next(case for case in told if case.name == "formulas"))
        assert card_child.launched.startswith("kernel formula_")
    assert {r["state"] for r in card_child.read(tmp_path)} == {"begin", "ok"}


@NEEDS_COMPILER
def test_wrong_numbers_fail_the_smoke(tmp_path, monkeypatch):
    from benchmarks import card_smoke

    with fake_cuda.played(), monkeypatch.context() as patch:
        gemm = fake_cuda.FakeRuntime.gemm
        patch.setattr(
            fake_cuda.FakeRuntime, "gemm", lambda self, a, b, out, *rest: gemm(self, a * 1.001, b, out, *rest)
        )
        with pytest.raises(AssertionError, match=r"relative error \d.*; the first, and the true ones"):
            card_smoke.solve("gemm", "forward", "float32", "NCHW", card_smoke.PLAIN, 2)


TOOL = """#!/bin/sh
case "$2" in racecheck) echo "========= Race reported"; exit 9;; esac
while [ "${1#--}" != "$1" ]; do shift 2; done
exec "$@"
"""


@NEEDS_COMPILER
@pytest.mark.slow  # two processes and more for each stage, half a minute
def test_the_whole_run_is_rehearsed(tmp_path, monkeypatch, capfd):
    tool = tmp_path / "bin" / "compute-sanitizer"
    tool.parent.mkdir()
    tool.write_text(TOOL)
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}{os.pathsep}{os.environ['PATH']}")
    folder = tmp_path / "out"
    assert card.conduct(folder, 400, "tests.card_rehearsal", []) == 1
    assert "Race reported" in record(folder, "sanitizer", "racecheck")["error"]
    for stage in card_stages.STAGES:
        ends = [r["state"] for r in card_child.read(folder) if r["stage"] == stage.name and r["state"] != "begin"]
        assert "ok" in ends, stage.name
    assert len(list(folder.iterdir())) <= 8


def test_records_survive_a_line_that_was_cut(tmp_path):
    card_child.append(
        tmp_path / card_child.RECORDS, json.dumps({"stage": "a", "case": "b", "state": "ok"}) + '\n{"stage": "a", "ca'
    )
    assert [r["case"] for r in card_child.read(tmp_path)] == ["b"]
    card_child.append(tmp_path / "small", "x" * 8, most=10)
    card_child.append(tmp_path / "small", "y" * 8, most=10)
    assert (tmp_path / "small").read_text() == "x" * 8


def test_a_thousand_failures_leave_room_for_what_comes_after_them(tmp_path):
    report = card_child.Report(tmp_path, "tests", 60)
    for number in range(1500):
        report.write(f"test_{number}", "failed", error="wrong " * 20, traceback="line\n" * 2000)
    path = tmp_path / card_child.RECORDS
    assert path.stat().st_size < card_child.MOST_BYTES - (1 << 18)
    assert len(card_child.read(tmp_path)) == 1500
