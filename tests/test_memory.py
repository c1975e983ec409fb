"""The pool of large results: handed out again only when nobody can see it, aligned, bounded, safe from threads."""

from __future__ import annotations

import gc
import linecache
import sys
import threading

import numpy as np
import pytest

import eagerconv as ec
from eagerconv import memory

FLOAT = np.dtype(np.float32)
LARGE = (4, 64, 56, 56)


@pytest.fixture(autouse=True)
def empty_pool():
    limit = memory.usage().limit
    memory.clear()
    yield
    memory.set_limit(limit)
    memory.clear()


def test_a_block_comes_back_and_is_handed_out_again():
    a = memory.empty(LARGE, FLOAT)
    address = a.ctypes.data
    assert address % 64 == 0
    assert (a.shape, a.dtype, a.flags.c_contiguous, a.flags.writeable) == (LARGE, FLOAT, True, True)
    assert memory.usage().free == 0
    del a
    assert memory.usage().free >= 4 * np.prod(LARGE)
    b = memory.empty(LARGE, FLOAT)
    assert b.ctypes.data == address
    assert memory.usage().free == 0


def test_a_view_that_outlives_its_owner_keeps_the_block():
    a = memory.empty(LARGE, FLOAT)
    a[...] = 7
    views = [a[1, 2:5, ::3], a.reshape(-1)[5:], a.T, a.view(np.int32), np.asarray(memoryview(a))]
    del a
    gc.collect()
    others = []
    while views:
        others.append(memory.empty(LARGE, FLOAT))
        others[-1][...] = 1
        assert not np.shares_memory(others[-1], views[-1])
        assert (views.pop().view(FLOAT) == 7).all()
    assert memory.usage().free > 0  # the last view has died


def test_small_results_and_a_limit_of_zero_leave_the_pool_empty():
    small = memory.empty((4, 5), FLOAT)
    del small
    memory.set_limit(0)
    large = memory.empty(LARGE, FLOAT)
    del large
    assert memory.usage() == (0, 0)
    with pytest.raises(ValueError, match="nbytes must be an int >= 0"):
        memory.set_limit(-1)


def test_the_pool_never_holds_more_than_its_limit():
    memory.set_limit(10_000_000)
    blocks = [memory.empty(LARGE, FLOAT) for _ in range(6)]  # 3.2 MB each
    del blocks
    assert 0 < memory.usage().free <= 10_000_000
    memory.clear()
    assert memory.usage().free == 0


def test_the_pool_follows_what_the_program_does_now():
    memory.set_limit(3_500_000)
    first = [
        memory.empty((250_000 + 20_000 * i,), FLOAT) for i in range(4)
    ]  # all that fits, of sizes nobody asks for again
    del first
    for attempt in range(3):
        now, hits = [], 0
        for i in range(3):
            before = memory.usage().free
            now.append(memory.empty((150_000 + 10_000 * i,), FLOAT))
            hits += memory.usage().free < before
        del now
        assert hits == (3 if attempt else 0)
        assert memory.usage().free <= 3_500_000


def test_blocks_unused_for_the_longest_go_first():
    memory.set_limit(3_000_000)
    a, b, c = (memory.empty((n,), FLOAT) for n in (200_000, 220_000, 240_000))
    del a, b, c
    again = memory.empty((200_000,), FLOAT)  # the oldest, which is used now
    del again
    one, two, three = (memory.empty((n,), FLOAT) for n in (180_000, 260_000, 300_000))
    sizes = [size for size, _ in memory._blocks.values()]
    del one, two
    assert [size for size, _ in memory._blocks.values()][-2:] == [memory._rounded(4 * n) for n in (180_000, 260_000)]
    assert sizes[0] == memory._rounded(4 * 220_000)
    assert sizes[0] not in [size for size, _ in memory._blocks.values()]
    memory.set_limit(memory._rounded(4 * 260_000))
    assert [size for size, _ in memory._blocks.values()] == [memory._rounded(4 * 260_000)]  # the newest stay
    del three
    assert memory.usage().free == 0 or len(memory._blocks) == 1


@pytest.mark.parametrize("line", range(1, 121, 3))
def test_an_interrupt_anywhere_in_the_pool_leaves_it_whole(line):
    class Stop(BaseException):
        pass

    memory.set_limit(2_000_000)
    left = line

    def trace(frame, event, arg):
        nonlocal left
        if frame.f_globals is not vars(memory):
            return None
        # Python looks for signals at calls and jumps, so that none comes between a lock and the block that gives it back.
        if event == "line" and "with _lock" not in linecache.getline(frame.f_code.co_filename, frame.f_lineno):
            left -= 1
            if left == 0:
                raise Stop
        return trace

    sizes = [memory._rounded(800_000 + 100_000 * i) for i in range(4)]
    sys.settrace(trace)
    try:
        for size in sizes:
            memory._give_back(size, np.empty(size, np.uint8))
            memory._take(size)
            memory._give_back(size, np.empty(size, np.uint8))
    except Stop:
        pass
    finally:
        sys.settrace(None)
    held = sum(size for size, _ in memory._blocks.values())
    assert held <= memory.usage().free <= 2_000_000 + max(sizes)
    for size in sizes * 2:
        memory._give_back(size, np.empty(size, np.uint8))
        assert memory._take(size) is not None
    memory.clear()
    assert memory.usage().free == 0
    assert not any(memory._places.values())


def test_a_block_that_comes_back_while_another_is_taken_or_given_back():
    class Cycle:
        pass

    memory.set_limit(2_000_000)
    for _ in range(200):
        cycle = Cycle()
        cycle.itself, cycle.block = cycle, memory.empty((150_000,), FLOAT)
        del cycle
        assert memory.empty((160_000,), FLOAT) is not None
        gc.collect(0)
    gc.collect()
    assert sum(size for size, _ in memory._blocks.values()) == memory.usage().free <= 2_000_000


def test_convolutions_do_not_share_results_and_give_them_back():
    x, w = np.ones((2, 16, 64, 64), "f"), np.ones((16, 16, 3, 3), "f")
    first = ec.conv2d(x, w)
    kept = first.numpy().copy()
    second = ec.conv2d(x + 1, w)
    assert not np.shares_memory(first.numpy(), second.numpy())
    assert np.array_equal(first.numpy(), kept)
    del first, second
    assert memory.usage().free > 0


def test_eight_threads_take_and_give_back():
    wrong = []

    def work(number):
        for i in range(30):
            a = memory.empty((50_000 + 1000 * (i % 3),), FLOAT)
            a[...] = number
            b = memory.empty((50_000 + 1000 * (i % 3),), FLOAT)
            b[...] = -1
            if not (a == number).all():
                wrong.append(i)

    team = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in team:
        thread.start()
    for thread in team:
        thread.join()
    assert not wrong


def test_gradients_from_the_pool_are_not_copied_but_shared_ones_are():
    x = ec.tensor(np.ones((1, 8, 96, 96), np.float32), requires_grad=True)
    w = np.ones((8, 8, 1, 1), np.float32)
    seen = []
    x.register_hook(lambda g: seen.append(g) and None)
    (g,) = ec.grad(ec.conv2d(x, w), x, np.ones(x.shape, np.float32))
    assert g.numpy().ctypes.data == seen[0].numpy().ctypes.data  # large enough for the pool, and nobody else's

    cotangent = ec.conv2d(x.detach(), w)  # from the pool
    a, b = (ec.tensor(np.ones(x.shape, np.float32), requires_grad=True) for _ in range(2))
    views = {"itself": lambda: a + b, "reshaped": lambda: (a.reshape(-1) + b.reshape(-1)).reshape(x.shape)}
    for name, function in views.items():
        found = ec.grad(function(), [a, b], cotangent)
        places = {t.numpy().ctypes.data for t in (cotangent, *found)}
        assert len(places) == 3, name
        assert all(t.numpy().flags.writeable for t in found)
    (part,) = ec.grad(ec.sum(a), a, np.float32(1))
    assert part.numpy().flags.writeable
    assert part.numpy().strides == a.numpy().strides
