"""The same bits through `auto`, whatever must not matter: threads, processes, neighbours in the batch, strides."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from processes import script
from strategies import LAYOUTS, SLOTS, Problem, arranged, examples, problems, reals, tiers

import eagerconv as ec
from eagerconv import algorithms, geometry
from eagerconv.algorithms.policy import Policy
from eagerconv.kernels_cpu import staging
from eagerconv.kernels_cpu.threads import available_threads
from eagerconv.record import OPERANDS, Request
from eagerconv.spec import ConvSpec, Slot, contiguous

NAMES = {"forward": "y", "grad_inputs": "x", "grad_weights": "w"}

KINDS = [
    Problem(3, 1, 8, 8, (12, 12), (3, 3)),
    Problem(3, 1, 16, 32, (28, 28), (3, 3), "half"),
    Problem(3, 1, 64, 64, (7, 7), (3, 3), 1),
    Problem(3, 1, 3, 32, (56, 56), (7, 7), 3, (2, 2)),
    Problem(3, 1, 32, 32, (28, 28), (3, 3), 1, (2, 2)),
    Problem(3, 1, 32, 48, (14, 14), (1, 1)),
    Problem(3, 1, 3, 4, (30, 30), (1, 1)),
    Problem(3, 1, 8, 6, (20, 20), (15, 15), "half"),
    Problem(3, 24, 1, 1, (28, 28), (3, 3), "half"),
    Problem(3, 24, 1, 1, (9, 9), (3, 3), "half"),
    Problem(3, 16, 1, 1, (40, 40), (31, 31), "half"),
    Problem(3, 4, 8, 8, (28, 28), (3, 3), "half"),
    Problem(3, 1, 16, 16, (20, 20), (3, 3), 2, (1, 1), (2, 2)),
    Problem(3, 1, 8, 16, (600,), (11,), "half"),
    Problem(3, 1, 16, 16, (500,), (3,), "same", (2,)),
    Problem(3, 1, 1, 64, (4000,), (10,), "valid", (5,)),
    Problem(3, 1, 16, 16, (6, 12, 12), (3, 3, 3), "half"),
    Problem(3, 1, 16, 16, (6, 12, 12), (3, 1, 1), (1, 0, 0)),
    Problem(3, 1, 3, 16, (4, 24, 24), (3, 5, 5), "half", (1, 2, 2)),
    Problem(3, 1, 4, 5, (9, 9), (3, 3), "valid", unshared=True),
]
"""Layers of every kind, for which `auto` takes every algorithm, large enough for two threads."""


@pytest.fixture(autouse=True)
def all_threads():
    before = ec.get_num_threads()
    yield
    ec.set_num_threads(before)


def solve(p: Problem, slot: str, numbers: Any, algorithm: str = "auto") -> Any:
    return p.call(ec, slot, *numbers, algorithm=algorithm).numpy()


@pytest.mark.parametrize(
    "dtype", ["float32", *(pytest.param(d, marks=pytest.mark.slow) for d in ("float64", "bfloat16"))]
)
@pytest.mark.parametrize("slot", SLOTS)
@pytest.mark.parametrize("p", KINDS, ids=str)
def test_threads_neighbours_and_strides_change_no_bit(p: Problem, slot: str, dtype: str) -> None:
    x, w, y = reals(p, 1, np.dtype(dtype))
    expected = solve(p, slot, (x, w, y))
    for threads in range(1, available_threads()):
        ec.set_num_threads(threads)
        np.testing.assert_array_equal(solve(p, slot, (x, w, y)), expected)
    if slot != "grad_weights":
        alone = solve(replace(p, batch=1), slot, (x[1:2], w, y[1:2]))
        np.testing.assert_array_equal(alone, expected[1:2])
        many = [np.concatenate([a[1:2]] * 20) for a in (x, y)]
        np.testing.assert_array_equal(solve(replace(p, batch=20), slot, (many[0], w, many[1]))[7:8], expected[1:2])
    for layout in LAYOUTS:
        views = [arranged(a, layout) for a in (x, w, y)]
        plain = [np.ascontiguousarray(a).astype(a.dtype.newbyteorder("=")) for a in views]
        np.testing.assert_array_equal(solve(p, slot, views), solve(p, slot, plain), err_msg=layout)


@pytest.mark.parametrize("algorithm", tiers(algorithms.names("cpu")))
@pytest.mark.parametrize("slot", SLOTS)
@given(p=problems())
@examples(15)
def test_strides_change_no_bit_of_a_forced_algorithm_nor_whether_it_serves(
    algorithm: str, slot: str, p: Problem
) -> None:
    p = p.suited(algorithm)
    numbers = reals(p, 2, np.float32)
    try:
        solve(p, slot, numbers, algorithm)
    except ec.AlgorithmError:
        return
    for layout in LAYOUTS:
        views = [arranged(a, layout) for a in numbers]
        plain = [np.ascontiguousarray(a).astype(np.float32) for a in views]
        np.testing.assert_array_equal(solve(p, slot, views, algorithm), solve(p, slot, plain, algorithm), layout)


@pytest.mark.parametrize("slot", ["forward", "grad_inputs"])
def test_scattered_images_are_copied_a_block_at_a_time(slot: str, monkeypatch: pytest.MonkeyPatch) -> None:
    p = Problem(7, 4, 1, 1, (40, 30), (3, 3), "half")
    x, w, y = reals(p, 0, np.float32)
    monkeypatch.setattr(staging, "BLOCK", 2 * (x[0].size + y[0].size))
    copied: list[Any] = []
    monkeypatch.setattr(staging, "copied", lambda a: (copied.append(a.shape), a.copy())[1])
    views = [arranged(a, "channels-last") for a in (x, w, y)]
    algorithms.forget_plans()
    np.testing.assert_array_equal(solve(p, slot, views, "rows"), solve(p, slot, (x, w, y), "rows"))
    assert [shape[0] for shape in copied] == [2, 2, 2, 1]


def drawn(rng: random.Random) -> ConvSpec:
    """Any layer of a few billion products at most."""
    while True:
        n, k, s = rng.choice([1, 2, 2, 2, 3]), rng.choice([1, 1, 2, 3, 3, 3, 5, 7]), rng.choice([1, 1, 1, 2])
        size = rng.choice({1: [64, 256, 4000], 2: [5, 7, 8, 14, 28, 56, 112], 3: [4, 8, 16]}[n])
        cin, cout = rng.choice([1, 3, 8, 16, 64, 256]), rng.choice([1, 8, 16, 64, 256])
        groups = cin if rng.random() < 0.15 else 1
        if size >= k and cin * cout // groups * (k * size // s) ** n < 3e9:
            x, w = (1, cin, *(size,) * n), (groups if groups > 1 else cout, cin // groups, *(k,) * n)
            return geometry.forward(f"conv{n}d", n, x, w, None, None, k // 2, s, False, 1, groups, False)


def test_the_choice_sees_the_filter_and_one_image_alone() -> None:
    rng, seen = random.Random(0), set()
    for _ in range(120):
        image = drawn(rng)
        for slot in ("y", "x", "w"):
            names = {
                algorithms.select(request_of(image, slot, batch, threads, scattered), Policy()).name
                for batch in ((1, 2, 8, 300) if slot != "w" else (8,))
                for threads in (1, 2, 16)
                for scattered in (False, True)
            }
            assert len(names) == 1, f"{slot} of {image}: {names}"
            seen |= names
    assert len(seen) >= 6  # or the layers drawn prove little


def request_of(image: ConvSpec, slot: Slot, batch: int, threads: int, scattered: bool) -> Request:
    spec = replace(image, batch=batch)
    a, b = (contiguous(spec.shape(s)) for s in OPERANDS[slot])
    if scattered:
        a, b = a[::-1], b[::-1]
    return Request(spec, slot, np.dtype(np.float32), (a, b), threads)


def test_a_measured_choice_holds_for_all_threads_batches_and_strides() -> None:
    x, w = np.ones((2, 8, 12, 12), np.float32), np.ones((8, 8, 3, 3), np.float32)
    try:
        with ec.autotune(seconds=0.001) as tuner:
            ec.conv2d(x, w)
            ec.set_num_threads(1)
            ec.conv2d(np.ones((5, 12, 12, 8), np.float32).transpose(0, 3, 1, 2), w)
        assert len(tuner.timings) == 1
    finally:
        ec.autotune.clear()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_computes_the_same_bits() -> None:
    code = """
    import hashlib, os, numpy as np, eagerconv as ec
    rng = np.random.default_rng(0)
    layers = [(8, 8, 12, 3), (16, 32, 28, 3), (3, 32, 56, 7), (32, 48, 14, 1)]
    def digest():
        rng, found = np.random.default_rng(0), hashlib.sha256()
        for cin, cout, size, kernel in layers:
            x = ec.tensor(rng.standard_normal((2, cin, size, size), np.float32), requires_grad=True)
            w = ec.tensor(rng.standard_normal((cout, cin, kernel, kernel), np.float32), requires_grad=True)
            y = ec.conv2d(x, w)
            for t in (y.detach(), *ec.grad(y, [x, w], y.detach())):
                found.update(t.numpy().tobytes())
        return found.hexdigest()
    expected = digest()
    child = os.fork()
    if child == 0:
        os._exit(0 if digest() == expected else 3)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    assert script(code) == ["0"]
