"""Does as a whole what an interrupt must not cut in two: in a thread of its own, where signals raise nothing.

Ctrl-C and other signals raise their exceptions in the main thread, wherever it is: an import would stay half done, and an
object of LLVM with two owners, or none. So such work is done elsewhere. The main thread waits for it and can be interrupted
there; the work goes on, and leaves what it made where the next call finds it. One piece of work is done at a time. A fork
waits until it is done, as the child would not have the thread that ends it, and so does the end of the process.
"""

from __future__ import annotations

import _thread
import atexit
import functools
import importlib
import logging  # noqa: F401  # for the order of its lock, see below
import os
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import ParamSpec, TypeAlias, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
_Answers: TypeAlias = SimpleQueue[tuple[list[T], BaseException | None]]
"""Of one element: a list of the result, or the error."""

STACK = 1 << 20
"""Bytes of stack that compiling may take: four times as many as sufficed for large kernels."""

_turn = threading.RLock()
_inside = threading.local()

# A fork takes the newest lock first. That of `logging`, which Numba uses, must come after ours: so it is imported above.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_turn.acquire, after_in_parent=_turn.release, after_in_child=_turn.release)


@atexit.register
def _finish() -> None:
    with _turn:
        pass


def uninterrupted(function: Callable[P, T]) -> Callable[P, T]:
    """Decorate what is to be done as a whole.

    Its caller can be interrupted, and then misses the result: what is to last, `function` has to keep.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        if getattr(_inside, "work", False):
            return function(*args, **kwargs)
        answers: _Answers[T] = SimpleQueue()

        def work() -> None:
            with _turn:
                try:
                    _inside.work = True
                    answers.put(([function(*args, **kwargs)], None))
                except BaseException as error:
                    answers.put(([], error))
                finally:
                    _inside.work = False

        _start(work)
        results, error = _awaited(answers)
        if error is not None:
            try:
                raise error
            finally:
                del error  # whose traceback leads here
        return results[0]

    return call


def once(function: Callable[[], T]) -> Callable[[], T]:
    """Decorate what is to be done as a whole, and at its first call alone."""
    results: list[T] = []

    @uninterrupted
    def first() -> None:
        if not results:
            results.append(function())

    @functools.wraps(function)
    def call() -> T:
        if not results:
            first()
        return results[0]

    return call


imported = uninterrupted(importlib.import_module)
"""Import a library of many parts: half of it could not be imported again."""


def _awaited(answers: _Answers[T]) -> tuple[list[T], BaseException | None]:
    """Wait, and look for signals now and then: one that came just before a wait, or from another thread, does not end it."""
    while True:
        try:
            return answers.get(timeout=0.1)
        except Empty:
            pass


def _start(work: Callable[[], None]) -> None:
    """Start a thread. Where the system, or a small stack, allows none, work here: better so than not at all.

    Not a `threading.Thread`: the one who starts it holds a lock for a moment, and interrupted then, lets it wait for ever.
    """
    if not 0 < threading.stack_size() < STACK:  # 0: as the system has it
        try:
            _thread.start_new_thread(work, ())
        except RuntimeError:
            pass
        else:
            return
    work()
