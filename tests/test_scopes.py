"""Every `with` block of the library, entered and left in any order by tasks, generators and threads that overlap."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import numpy as np
import pytest

import eagerconv as ec
from eagerconv.algorithms import policy
from eagerconv.autograd import tape
from eagerconv.scopes import Setting


def state() -> tuple[Any, ...]:
    """All that a block of the library can change."""
    return ec.is_grad_enabled(), policy.current(), ec.devices.default(), tape.watched(), np.geterr()


OUTSIDE = state()

BLOCKS: dict[str, Any] = {
    "no_grad": ec.no_grad,
    "enable_grad": ec.enable_grad,
    "using": lambda: ec.using("direct"),
    "exclude": lambda: ec.using(exclude=["gemm"], exact=True),
    "check": ec.check,
    "autotune": ec.autotune,
    "device": lambda: ec.device("cpu"),
    "detect_anomaly": ec.detect_anomaly,  # of the whole process, what it asks of NumPy excepted
}
pairs = pytest.mark.parametrize(("one", "two"), [(a, b) for a in BLOCKS for b in BLOCKS])
each = pytest.mark.parametrize("name", BLOCKS)


def alone(name: str) -> tuple[Any, ...]:
    """What a block makes of the state, without others."""
    with BLOCKS[name]():
        return now()


def now() -> tuple[Any, ...]:
    """The state here, to be compared with that in another block of the same kind."""
    return tuple(plain(part) for part in state())


def plain(part: Any) -> Any:
    """A part of the state without what is each block's own."""
    return "tuned" if getattr(part, "tuner", None) is not None else part


def of_the_task(state: tuple[Any, ...]) -> tuple[Any, ...]:
    """The parts of a state that are not the whole process's."""
    return *state[:3], state[4]


@pytest.fixture(autouse=True)
def nothing_stays():
    assert state() == OUTSIDE
    yield
    assert state() == OUTSIDE


@pairs
def test_blocks_of_tasks_that_overlap_end_in_any_order(one: str, two: str) -> None:
    seen: dict[str, Any] = {}

    async def task(name: str, entered: asyncio.Event, leave: asyncio.Event, left: asyncio.Event) -> None:
        with BLOCKS[name]():
            entered.set()
            await leave.wait()
            seen[name] = now()
        left.set()
        seen[f"{name} ended"] = state()

    async def both() -> None:
        a, b = ([asyncio.Event() for _ in range(3)] for _ in range(2))
        tasks = [asyncio.create_task(task(one, *a))]
        await a[0].wait()
        tasks.append(asyncio.create_task(task(two, *b)))
        await b[0].wait()  # both are inside now, and neither sees the other
        a[1].set()  # the first ends first
        await a[2].wait()
        b[1].set()
        await asyncio.gather(*tasks)

    asyncio.run(both())
    for name in (one, two):
        assert of_the_task(seen[name]) == of_the_task(alone(name))
        assert of_the_task(seen[f"{name} ended"]) == of_the_task(OUTSIDE)


@pairs
def test_blocks_of_generators_that_overlap_end_in_any_order(one: str, two: str) -> None:
    def inside(name: str) -> Any:
        with BLOCKS[name]():
            yield
            yield

    a, b = inside(one), inside(two)
    next(a)
    next(b)
    a.close()
    assert now() == alone(two)
    b.close()
    assert state() == OUTSIDE


@each
def test_one_block_may_be_entered_again_inside_itself_and_by_tasks(name: str) -> None:
    block = BLOCKS[name]()
    with block, block:
        assert now() == alone(name)

    async def task(first: asyncio.Event, second: asyncio.Event) -> None:
        with block:
            first.set()
            await second.wait()
        assert (ec.is_grad_enabled(), policy.current()) == OUTSIDE[:2]

    async def both() -> None:
        a, b = asyncio.Event(), asyncio.Event()
        await asyncio.gather(task(a, b), task(b, a))

    asyncio.run(both())


@each
def test_a_block_left_in_another_task_changes_nothing_there(name: str) -> None:
    async def entered() -> Any:
        block = BLOCKS[name]()
        block.__enter__()
        return block

    async def both() -> None:
        block = await asyncio.create_task(entered())
        block.__exit__(None, None, None)
        assert state() == OUTSIDE

    asyncio.run(both())


@each
def test_threads_begin_outside_of_all_blocks(name: str) -> None:
    seen: list[Any] = []
    with BLOCKS[name]():
        thread = threading.Thread(target=lambda: seen.append(state()))
        thread.start()
        thread.join()
    assert seen[0][:3] == OUTSIDE[:3]


@pytest.mark.parametrize("name", ["no_grad", "using", "exclude", "check"])
def test_decorated_functions_generators_and_coroutines_run_inside(name: str) -> None:
    decorate = BLOCKS[name]()
    inner = alone(name)

    @decorate
    def function(n: int) -> Any:
        return state() if n == 0 else function(n - 1)

    @decorate
    def generator() -> Any:
        got = []
        try:
            got.append((yield state()))
            got.append((yield state()))
        except KeyError:
            got.append(state())
        return got

    @decorate
    async def coroutine() -> Any:
        before = state()
        await asyncio.sleep(0)
        return before, state()

    assert function(2) == inner
    steps = generator()
    assert next(steps) == inner
    assert state() == OUTSIDE  # while the generator waits
    assert steps.send("sent") == inner
    with pytest.raises(StopIteration) as end:
        steps.throw(KeyError)
    assert end.value.value == ["sent", inner]
    abandoned = generator()
    next(abandoned)
    abandoned.close()
    assert asyncio.run(coroutine()) == (inner, inner)
    assert function.__name__ == "function"
    with pytest.raises(TypeError, match="numbers is an asynchronous generator, which cannot be decorated"):

        @decorate
        async def numbers() -> Any:
            yield 1


def test_gradients_of_a_task_are_recorded_while_another_does_without() -> None:
    w = ec.tensor([1.0], requires_grad=True)

    async def evaluating() -> bool:
        with ec.no_grad():
            await asyncio.sleep(0)
            y = w * 2
            await asyncio.sleep(0)
        return y.requires_grad

    async def training() -> bool:
        await asyncio.sleep(0)
        return (w * 2).requires_grad

    async def both() -> list[bool]:
        return await asyncio.gather(evaluating(), training(), evaluating(), training())

    assert asyncio.run(both()) == [False, True, False, True]
    assert (w * 2).requires_grad


def test_who_watches_is_the_block_that_began_last_of_those_that_hold() -> None:
    first, second = ec.detect_anomaly(), ec.detect_anomaly()
    first.__enter__()
    second.__enter__()
    first.__exit__()
    with pytest.raises(FloatingPointError, match="log made 1 Inf"):
        ec.log(0.0)
    second.__exit__()
    assert not tape.watched()
    with np.errstate(all="ignore"):
        ec.log(0.0)


def test_a_sweep_of_one_thread_does_not_hide_the_anomalies_of_another() -> None:
    meeting = threading.Barrier(2, timeout=10)
    found: list[str] = []

    def pullback(g: Any, ans: Any, x: Any) -> Any:
        meeting.wait()
        meeting.wait()
        return g

    def other() -> None:
        meeting.wait()  # the sweep is in the middle of a rule
        try:
            with np.errstate(all="ignore"):
                ec.log(0.0)
        except FloatingPointError as error:
            found.append(str(error))
        meeting.wait()

    x = ec.tensor(1.0, requires_grad=True)
    with ec.detect_anomaly():
        y = ec.func.custom_vjp(pullback)(lambda x: x * 2)(x)
        thread = threading.Thread(target=other)
        thread.start()
        y.backward()
        thread.join()
    assert [text[:14] for text in found] == ["log made 1 Inf"]


def test_a_block_that_ends_takes_its_own_change_out_and_no_other() -> None:
    setting = Setting("numbers", 1)
    a, b, c = setting.inside(lambda n: n + 10), setting.inside(lambda n: n * 2), setting.inside(lambda n: n + 100)
    a.__enter__()
    b.__enter__()
    c.__enter__()
    assert setting.get() == 122
    a.__exit__()
    assert setting.get() == 102
    c.__exit__()
    assert setting.get() == 2
    c.__exit__()  # not there any more
    b.__exit__()
    assert setting.get() == 1
