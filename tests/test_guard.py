"""No kernel reads or writes outside its arrays: operands, results and workspaces between unreadable pages and red zones.

A stray access to such a page kills the process, so the problems run in a child, which tells first what it is about to do.
"""

from __future__ import annotations

import ctypes
import faulthandler
import math
import mmap
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import targets
from strategies import Problem, tiers

import eagerconv as ec
from eagerconv import algorithms, geometry, memory
from eagerconv.algorithms import warming
from eagerconv.kernels_cpu import jit, table, threads
from eagerconv.record import OPERANDS, Request
from eagerconv.spec import contiguous

RED = 0xFF  # as bytes of a float of any width: NaN


class Zone:
    """`nbytes` between two forbidden pages, at the very start or as near to the end as `alignment` allows, amid red bytes."""

    def __init__(self, nbytes: int, at_end: bool, alignment: int = 1) -> None:
        page, libc = mmap.PAGESIZE, ctypes.CDLL(None, use_errno=True)
        pages = -(-max(nbytes, 1) // page)
        self._map = mmap.mmap(-1, (pages + 2) * page)
        base = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        self.bytes = np.frombuffer(self._map, np.uint8, pages * page, page)
        self.bytes[:] = RED
        self.start = (pages * page - nbytes) // alignment * alignment if at_end else 0
        self.end = self.start + nbytes
        self.address = base + page + self.start
        for fence in (base, base + (pages + 1) * page):
            if libc.mprotect(ctypes.c_void_p(fence), ctypes.c_size_t(page), 0):
                raise OSError(ctypes.get_errno(), "mprotect")

    def array(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        return self.bytes[self.start : self.end].view(dtype).reshape(shape)

    def intact(self) -> bool:
        """Whether nobody wrote beside the memory."""
        return bool((self.bytes[: self.start] == RED).all() and (self.bytes[self.end :] == RED).all())


class Guard:
    """Hands out zones in place of the library's own memory while a `with` block lasts."""

    def __init__(self, at_end: bool) -> None:
        self.at_end = at_end
        self.zones: list[Zone] = []

    def zone(self, nbytes: int, alignment: int = 1) -> Zone:
        self.zones.append(Zone(nbytes, self.at_end, alignment))
        return self.zones[-1]

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """In place of `memory.empty`, whose large results are aligned, and NumPy's small ones to 16 bytes."""
        nbytes = math.prod(shape) * dtype.itemsize
        return self.zone(nbytes, memory.ALIGNMENT if nbytes >= memory.SMALLEST else 16).array(shape, dtype)

    def operand(self, a: np.ndarray) -> np.ndarray:
        copy = self.zone(a.nbytes).array(a.shape, a.dtype)
        copy[...] = a
        return copy

    def __enter__(self) -> Guard:
        self._users = [
            m for m in list(sys.modules.values()) if vars(m).get("empty") is memory.empty and m is not memory
        ]
        assert threads in self._users
        self._workspace, self._empty = threads._workspace, memory.empty
        for module in self._users:
            module.empty = self.empty
        threads._workspace = lambda nbytes: self.zone(nbytes, 64).address
        return self

    def __exit__(self, *error: object) -> None:
        for module in self._users:
            module.empty = self._empty
        threads._workspace = self._workspace


# ----- problems -----

CHANNELS = (1, 2, 3, 7, 8, 9, 15, 16, 17, 20, 31, 33, 48, 65)  # about the lengths of registers and blocks
MOST = 3_000_000  # products


def draw(rng: np.random.Generator) -> Problem | None:
    """A problem of any kind whose channels and rows leave tails of all lengths, or None where nothing fits."""
    ndim = int(rng.choice([1, 2, 2, 2, 3]))

    def per_axis(values: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(int(v) for v in rng.choice(values, ndim))

    kernel = (3,) * ndim if rng.random() < 0.4 else per_axis((1, 1, 2, 3, 4, 5, 7))
    strides = (1,) * ndim if rng.random() < 0.5 else (2,) * ndim if rng.random() < 0.5 else per_axis((1, 2, 3, 4))
    dilation = (1,) * ndim if rng.random() < 0.7 else per_axis((1, 2, 3))
    groups = int(rng.choice([1, 1, 1, 2, 5, 32]))
    depthwise = groups > 2 and rng.random() < 0.5
    cin, cout = (1, 1) if depthwise else (int(c) for c in rng.choice(CHANNELS, 2))
    size = tuple(int(v) for v in rng.integers(1, {1: 300, 2: 40, 3: 14}[ndim], ndim))
    pad = tuple((int(a), int(b)) for a, b in rng.integers(0, 3, (ndim, 2))) if rng.random() < 0.7 else (0,) * ndim
    unshared = bool(rng.random() < 0.12)
    problem = Problem(int(rng.integers(1, 4)), groups, cin, cout, size, kernel, pad, strides, dilation,
                      bool(rng.random() < 0.5), unshared)  # fmt: skip
    if min(problem.out) < 1:
        return None
    macs = math.prod((problem.batch, groups, cin, cout, *problem.out, *kernel))
    filters = math.prod(problem.filter_shape)
    return problem if macs <= MOST and filters <= MOST // 4 else None


def spec_of(problem: Problem):
    keywords = problem.keywords()
    order = ("border_mode", "subsample", "filter_flip", "filter_dilation", "num_groups", "unshared")
    shapes = (problem.input_shape, problem.filter_shape, None, None)
    return geometry.forward(f"conv{problem.ndim}d", problem.ndim, *shapes, *(keywords[name] for name in order))


# ----- the child -----


def examine(name: str, dtype_names: list[str], problems: int, seed: int) -> None:
    """Run accepted problems of every slot and dtype of an algorithm under guard, each printed beforehand.

    `problems` of them, a third for float64, whose kernels differ in lanes only, a tenth for dtypes without vector code.
    """
    faulthandler.enable()
    (algorithm,) = (a for a in algorithms.TABLE["cpu"] if a.name == name)
    for dtype_name in dtype_names:
        dtype = np.dtype(dtype_name)
        for slot in sorted(algorithm.slots):
            rng, found = np.random.default_rng(seed), 0
            share = {"float32": 1, "float64": 3}.get(dtype_name, 10)
            wanted = -(-problems // share)
            for _ in range(500 * wanted):
                problem = draw(rng)
                if problem is None:
                    continue
                spec = spec_of(problem)
                a, b = (spec.shape(s) for s in OPERANDS[slot])
                count = 1 + found % min(2, threads.available_threads())
                request = Request(spec, slot, dtype, (contiguous(a), contiguous(b)), count)
                if algorithm.reason_against(request) is not None:
                    continue
                operands = [numbers(shape, dtype, rng) for shape in (a, b)]
                print(f"{name}, {slot}, {dtype}, {count} threads: {problem}", flush=True)
                guarded(algorithm, request, operands)
                found += 1
                if found == wanted:
                    break
            assert found, f"no problem that was drawn suits {name}, {slot}, {dtype}"
            streamed(algorithm, slot, dtype, rng)
    known = {function for function, _ in warming.kernels({name}, dtype_names)}
    unknown = {function for function, _ in jit._loaded} - known
    unknown = {function for function in unknown if not function.startswith("dwm:")}  # of rare pairs of forms
    assert not unknown, f"warmup({name!r}) does not compile {unknown}; see warming.SOURCES"
    print("done")


STREAMED = [
    Problem(2, 1, 20, 37, (16, 18), (3, 3)),
    Problem(2, 1, 20, 37, (14, 16), (3, 3), 1),
    Problem(2, 1, 37, 50, (12, 8), (1, 1)),
    Problem(2, 40, 1, 1, (12, 20), (3, 3), 1),
    Problem(2, 1, 18, 33, (17, 17), (3, 3), (0, 0), (2, 2)),
    Problem(1, 1, 18, 33, (70,), (7,), (0,)),
]
"""Problems whose results, or gradients, have planes of whole lines."""


def streamed(algorithm, slot, dtype, rng) -> None:
    """Results that go past the caches, as large ones do, have the same bits, and are written nowhere else."""
    for problem in STREAMED:
        spec = spec_of(problem)
        a, b = (spec.shape(s) for s in OPERANDS[slot])
        request = Request(spec, slot, dtype, (contiguous(a), contiguous(b)), 1)
        if algorithm.reason_against(request) is None:
            operands = [numbers(shape, dtype, rng) for shape in (a, b)]
            print(f"{algorithm.name}, {slot}, {dtype}, streamed: {problem}", flush=True)
            expected = algorithm.plan(request)(*operands)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(table, "STREAM_BYTES", 0)
                guarded(algorithm, request, operands)
                assert algorithm.plan(request)(*operands).tobytes() == expected.tobytes()


def numbers(shape, dtype, rng):
    whole = rng.integers(-4, 5, shape)
    return (whole != 0 if dtype.kind == "b" else whole).astype(dtype)


def guarded(algorithm, request, operands) -> None:
    """The same bits as without guards, whatever lies around and in the workspace; and nothing written beside."""
    threads.set_num_threads(request.threads)
    results = []
    for at_end in (True, False):
        with Guard(at_end) as guard:
            results.append(algorithm.plan(request)(*map(guard.operand, operands)))
        assert all(zone.intact() for zone in guard.zones), "written outside"
    expected = algorithm.plan(request)(*operands)
    same = [result.tobytes() == expected.tobytes() for result in results]
    assert all(same), "what lies outside or in the workspace changes the result"


# ----- the parent -----


def child(name, dtypes, problems, seed=0, **environment):
    code = f"import test_guard; test_guard.examine({name!r}, {dtypes!r}, {problems}, {seed})"
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1])])
    environment = {**os.environ, **environment, "PYTHONPATH": paths}
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    lines = run.stdout.splitlines()
    last = lines[-1] if lines else "nothing"
    assert run.returncode == 0, f"exit status {run.returncode} after: {last}\n{run.stderr[-3000:]}"
    assert last == "done"


LINUX = pytest.mark.skipif(sys.platform == "win32", reason="needs mmap and mprotect")
NAMES = algorithms.names("cpu")


@LINUX
@pytest.mark.parametrize("name", tiers(NAMES))
def test_no_kernel_steps_outside_its_arrays(name):
    child(name, ["float32"], 15, 2)


@LINUX
@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_no_kernel_of_any_dtype_does(name):
    (algorithm,) = (a for a in algorithms.TABLE["cpu"] if a.name == name)
    dtypes = sorted(d for d in algorithm.dtypes if hasattr(np, d))
    child(name, dtypes, 45)


@LINUX
@pytest.mark.slow
@pytest.mark.skipif(not (targets.X86 and targets.shorter()), reason="names x86 processors with shorter registers")
@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("direct", "fft")])
def test_no_kernel_for_shorter_registers_does(name):
    child(name, ["float32"], 50, 1, **targets.environment(targets.shorter()))


def test_the_guard_sees_what_it_should():
    guard = Guard(at_end=True)
    zone = guard.zone(100, 64)
    assert zone.intact()
    zone.array((25,), np.dtype(np.float32))[:] = 0
    assert zone.intact()
    assert zone.bytes.size - zone.end == 28
    zone.bytes[zone.end] = 0
    assert not zone.intact()
    before = ec.get_num_threads()
    with guard:
        ec.conv1d(np.ones((1, 1, 5)), np.ones((1, 1, 2)), algorithm="direct")
    assert ec.get_num_threads() == before
    assert len(guard.zones) == 3  # with a result and a workspace
