"""Interrupts: Ctrl-C, or any signal whose handler raises, at any time, leaves nothing half done."""

from __future__ import annotations

import functools
import itertools
import signal
import sys
import threading

import numpy as np
import processes
import pytest

from eagerconv import interrupts, memory
from eagerconv.kernels_cpu import threads

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers on this system")

AGAIN = """
import os, signal, sys, threading, time
import numpy as np, eagerconv as ec
from eagerconv.kernels_cpu import jit
interrupts = 0
signal.signal(signal.SIGALRM, signal.default_int_handler)

def again(work, first, step=0):
    '''Do it until it is done, interrupted `first` seconds after its start, and each time a step later.'''
    global interrupts
    delay = first
    while True:
        try:
            signal.setitimer(signal.ITIMER_REAL, delay)
            try:
                return work()
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except KeyboardInterrupt:
            interrupts += 1
            delay += step

def tiny(dtype):
    y = ec.conv1d(np.ones((1, 1, 5), dtype), np.ones((1, 1, 2), dtype), algorithm="direct").numpy()
    assert y.tolist() == [[[2] * 4]]
"""


script = functools.partial(processes.script, ahead=AGAIN, seconds=60)


def test_kernels_load_whole_however_often_that_is_interrupted():
    code = """
    names = [f"direct:{slot}" for slot in ("forward", "inputs", "weights")]
    for dtype in ("float32", "float64", "complex64", "int32"):
        for name in names:
            again(lambda: jit.kernel(name, np.dtype(dtype)), 20e-6, 20e-6)
        tiny(dtype)
    print(interrupts > 12, len(jit._loaded))
    """
    assert script(code) == ["True", "12"]


def test_a_first_compilation_is_done_once_however_often_that_is_interrupted(tmp_path):
    # While Numba is imported, above all: half of it could not be imported again.
    code = """
    again(lambda: tiny("float64"), 0.01, 0.001)
    print(interrupts > 20, jit.compiled_here)
    """
    assert script(code, EAGERCONV_CACHE_DIR=str(tmp_path)) == ["True", "['direct:forward:float64']"]


def test_a_process_forked_or_ended_while_it_compiles_waits_for_that(tmp_path):
    code = """
    def interrupted(dtype):
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        try:
            tiny(dtype)
        except KeyboardInterrupt:
            return
        raise AssertionError("compiled in no time")
    interrupted("float64")
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        tiny("float64")
        os._exit(jit.compiled_here != ["direct:forward:float64"])  # by the parent
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    interrupted("float32")
    """
    assert script(code, EAGERCONV_CACHE_DIR=str(tmp_path)) == ["0"]
    assert sorted(path.name.split("-")[2] for path in tmp_path.glob("*.o")) == ["float32", "float64"]


def test_a_library_is_imported_whole_however_often_that_is_interrupted(tmp_path):
    package = tmp_path / "slow"
    package.mkdir()
    (package / "__init__.py").write_text("import time, slow.part\ntime.sleep(0.2)\nhere = slow.part.here\n")
    (package / "part.py").write_text("here = True\n")
    code = f"""
    from eagerconv.interrupts import imported
    sys.path.insert(0, {str(tmp_path)!r})
    print(again(lambda: imported("slow"), 0.05, 0.01).here, interrupts > 1)
    """
    assert script(code) == ["True", "True"]


def test_a_fork_that_waits_for_work_holds_no_lock_that_the_work_may_need():
    code = """
    from eagerconv.interrupts import uninterrupted
    begun = threading.Event()
    @uninterrupted
    def work():
        import logging
        begun.set()
        time.sleep(0.2)
        logging.getLogger("of work").isEnabledFor(10)
    threading.Thread(target=work).start()
    begun.wait()
    child = os.fork()
    if child == 0:
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    assert script(code) == ["0"]


@pytest.mark.parametrize("without", ["", "threads", "stack"])
def test_work_in_a_thread_of_its_own_gives_its_result_and_its_error_and_may_be_nested(without, monkeypatch):
    def no_thread(*_):
        raise RuntimeError("can't start new thread")

    if without == "threads":
        monkeypatch.setattr(interrupts._thread, "start_new_thread", no_thread)
    elif without == "stack":
        monkeypatch.setattr(threading, "stack_size", lambda: 1 << 16)
    seen = set()

    @interrupts.uninterrupted
    def divided(a, b=1):
        seen.add(threading.get_ident())
        return a // b if a < 10 else divided(a // 10, b)

    assert divided(700, b=2) == 3
    assert len(seen) == 1
    assert (threading.get_ident() in seen) == bool(without)
    with pytest.raises(ZeroDivisionError) as caught:
        divided(7, 0)
    assert caught.traceback[-1].name == "divided"
    made = []
    first = interrupts.once(lambda: made.append(1) or len(made))
    assert (first(), first(), made) == (1, 1, [1])


# ----- At each place where Python looks for signals: as a function of Python begins, and after a call of one in C -----


class Interrupt:
    """Raises KeyboardInterrupt at the n-th place where a signal's handler may do so."""

    def __init__(self, place):
        self.left = place

    def __enter__(self):
        self.before = sys.getprofile()
        sys.setprofile(self.look)

    def __exit__(self, kind, error, traceback):
        sys.setprofile(self.before)
        return kind is KeyboardInterrupt

    def look(self, frame, event, _):
        if event in ("call", "c_return") and frame.f_globals is not globals():
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt


def everywhere(work):
    """Do it, interrupted at the first place, at the second, ..., and at last not at all."""
    for place in itertools.count(1):
        interrupt = Interrupt(place)
        with interrupt:
            work()
        yield place
        if interrupt.left > 0:
            return


def test_an_interrupt_leaves_threads_to_the_next_launch(monkeypatch):
    def region(kernel, threads, tasks, *_):
        ran.append(threads)

    monkeypatch.setattr(threads, "team", lambda: region)
    monkeypatch.setattr(threads, "_limit", 2)
    monkeypatch.setattr(threads, "_proven", 2)
    launch, ran = threads.Launch([(None, range(4))] * 2, 2, 1000, np.zeros(1, np.int64)), []
    launch(None, None, None)  # whatever is made once is made
    for place in everywhere(lambda: launch(None, None, None)):
        del ran[:]
        launch(None, None, None)
        assert ran == [2, 2], place


def test_an_interrupt_leaves_no_address_of_a_workspace_that_is_gone():
    local = threads._local
    before = local.workspace, local.address
    try:
        for place in everywhere(lambda: threads._workspace(local.workspace.size + 1)):
            assert local.address == local.workspace.ctypes.data, place
            assert local.address % 64 == 0 or not local.address
    finally:
        local.workspace, local.address = before


def test_an_interrupt_leaves_the_pool_of_memory_whole_and_unlocked():
    block = np.empty(1 << 20, np.uint8)
    memory.clear()

    def pass_through():
        memory._give_back(1 << 20, block)
        memory._give_back(1 << 20, block)
        memory._take(1 << 20)
        memory.clear()

    for place in everywhere(pass_through):
        assert memory.usage().free >= sum(size for size, _ in memory._blocks.values()), place
        assert not memory._lock._is_owned(), place
