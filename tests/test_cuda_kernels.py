"""The GPU's algorithms, on a GPU where there is one, and without: the kernels compiled for the CPU, a cuDNN of our own."""

from __future__ import annotations

import ctypes
import math
import os
import re
import subprocess
import sys
import textwrap
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import fake_cuda
import numpy as np
import pytest
import strategies
from fake_cuda import Card, CudaArray, Fake, FakeRuntime, forget, on_device
from hypothesis import assume, given
from strategies import SLOTS, Problem, examples, integers, operands, problems, reals, seeds

import eagerconv as ec
from eagerconv import formulas, fused
from eagerconv.algorithms import registry
from eagerconv.kernels_gpu import cuda, cudnn, cudnn_backend, gemm

NAMES = ("cudnn", "gemm", "fft", "direct")


@pytest.fixture
def fake(place):
    """The fake device, for tests of what only it can show; its runtime is new."""
    if isinstance(place, Card):
        pytest.skip("is about the fake device")
    cuda._runtime = FakeRuntime()
    yield cuda._runtime
    cuda._runtime = FakeRuntime()


def solve(place, problem: Problem, slot: str, x, w, y, **options):
    """Ask the public function, with the operands on the device; the result comes back from it."""
    result = problem.call(ec, slot, place.put(x), place.put(w), place.put(y), **options)
    assert result.device == "cuda"
    return place.get(result.data)


# ----- Values -----


@pytest.mark.parametrize("slot", SLOTS)
@pytest.mark.parametrize("name", NAMES)
@given(problem=problems(), seed=seeds)
@examples(40)
def test_small_integers_give_exact_results(place, name, slot, problem, seed):
    if name != "direct":
        problem = replace(problem, unshared=False)
    x, w, y = operands(problem, seed, np.float64)
    result = solve(place, problem, slot, x, w, y, algorithm=name)
    truth = problem.solve(slot, x, w, y)
    if name == "fft":
        np.testing.assert_allclose(result, truth, atol=1e-10)
    else:
        np.testing.assert_array_equal(result, truth)


@pytest.mark.parametrize("slot", SLOTS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "layout", ["channels-last", "reversed", "stepped", "transposed", "zero stride, batch", "zero stride, columns"]
)
@pytest.mark.parametrize("problem", [
    Problem(2, 1, 3, 4, (7, 6), (3, 2), (1, (0, 2)), (2, 1), (1, 2)),
    Problem(3, 2, 2, 3, (5, 5), (1, 1)),
])  # fmt: skip
def test_arrays_of_any_layout(place, name, slot, layout, problem):
    x, w, y = (strategies.arranged(a, layout) for a in operands(problem, 5, np.float64))
    views = [place.keep(a) for a in (x, w, y)]
    result = place.get(problem.call(ec, slot, *views, algorithm=name).data)
    np.testing.assert_allclose(result, problem.solve(slot, x, w, y), atol=1e-10 if name == "fft" else 0)


@pytest.mark.parametrize("slot", SLOTS)
@pytest.mark.parametrize("dtype", [d for d in cuda.TYPES if d not in ("float32", "float64")])
@pytest.mark.parametrize("unshared", [False, True])
def test_direct_knows_every_dtype(place, slot, dtype, unshared):
    problem = Problem(2, 2, 2, 1, (5, 4), (3, 2), (1, 0), (2, 1), unshared=unshared)
    x, w, y = operands(problem, 3, dtype)
    if dtype.startswith("uint"):
        x, w, y = (abs(integers(a.shape, 4 + i)).astype(dtype) for i, a in enumerate((x, w, y)))
    wide = [a.astype(complex if a.dtype.kind == "c" else float) for a in (x, w, y)]
    expected = problem.solve(slot, *wide)
    result = solve(place, problem, slot, x, w, y, algorithm="direct")
    assert result.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(result, expected != 0 if dtype == "bool" else expected.astype(dtype))


@pytest.mark.parametrize("slot", SLOTS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["gemm", "direct"])
def test_half_types_are_summed_in_float32_and_rounded_once(place, name, slot, dtype):
    problem = Problem(2, 1, 40, 6, (9, 8), (3, 3), "half")
    x, w, y = reals(problem, 1, dtype)
    wide = [a.astype(float) for a in (x, w, y)]
    truth = problem.solve(slot, *wide)
    result = solve(place, problem, slot, x, w, y, algorithm=name).astype(float)
    unit = {"float16": 2.0**-11, "bfloat16": 2.0**-8}[dtype]
    assert np.all(np.abs(result - truth) <= unit * np.abs(truth) * 1.01 + 1e-5 * np.abs(truth).max())


def test_half_types_round_to_even_and_keep_nan_and_infinity(place):
    problem = Problem(1, 1, 1, 1, (9,), (1,))
    for dtype, unit in (("float16", 2.0**-10), ("bfloat16", 2.0**-7)):
        x = np.array([1, 1 + unit, 1 + 2 * unit, np.inf, -np.inf, np.nan, 3e-8, -1 - unit, 0], dtype)
        for scale in (1.0, 0.5, 1 + unit, 1 + 3 * unit, 1e-3):
            w = np.array([scale], dtype)
            result = solve(
                place,
                problem,
                "forward",
                x.reshape(1, 1, 9),
                w.reshape(1, 1, 1),
                x.reshape(1, 1, 9),
                algorithm="direct",
            )
            with np.errstate(all="ignore"):
                expected = (x.astype(np.float32) * w.astype(np.float32)).astype(dtype)
            np.testing.assert_array_equal(result[0, 0].astype(float), expected.astype(float))


@pytest.mark.parametrize("order", ["reversed", "shuffled"])
@given(problem=problems(), seed=seeds)
@examples(10)
def test_the_order_of_threads_does_not_matter(place, order, problem, seed):
    assume(isinstance(place, Fake))
    cuda._runtime = FakeRuntime(order)
    x, w, y = operands(problem, seed, np.float64)
    for slot in SLOTS:
        np.testing.assert_array_equal(
            solve(place, problem, slot, x, w, y, algorithm="direct"), problem.solve(slot, x, w, y)
        )


def test_columns_of_a_few_images_at_a_time_give_the_same(place, monkeypatch):
    problem = Problem(5, 2, 3, 2, (6, 7), (3, 2), 1, (2, 1))
    x, w, y = operands(problem, 7, np.float64)
    monkeypatch.setattr(gemm, "COLUMN_BYTES", 2 * 4 * problem.cin * 6 * 24 * 2)
    for slot in SLOTS:
        np.testing.assert_array_equal(
            solve(place, problem, slot, x, w, y, algorithm="gemm"), problem.solve(slot, x, w, y)
        )


@given(problem=problems(ndims=(1, 2), empty=False), seed=seeds)
@examples(25)
def test_gradients_on_the_device_are_those_of_the_cpu(place, problem, seed):
    x, w, y = operands(problem, seed, np.float64)
    assume(min(x.size, w.size, y.size))
    results = []
    for put, get in ((np.array, np.array), (place.put, place.get)):
        tx, tw = (ec.asarray(put(a)) for a in (x, w))
        tx.requires_grad = tw.requires_grad = True
        out = problem.call(ec, "forward", tx, tw, None)
        (out * ec.asarray(put(y)) * out).sum().backward()
        results.append([get(t.grad.data) for t in (tx, tw)])
    for cpu, gpu in zip(*results, strict=True):
        np.testing.assert_array_equal(cpu, gpu)


# ----- Choice -----


def test_explain_tells_of_the_devices_algorithms(fake):
    problem = Problem(2, 1, 64, 64, (24, 24), (3, 3))
    x, w, _ = map(on_device, reals(problem, 0, "float32"))
    (told,) = ec.explain(ec.conv2d, x, w)
    assert told.chosen == "cudnn"
    assert [c.name for c in told.candidates] == list(NAMES)
    assert {c.name: c.workspace for c in told.candidates}["cudnn"] == 64
    with ec.using(exclude=["cudnn"]):
        assert ec.explain(ec.conv2d, x, w)[0].chosen == "gemm"
    (told,) = ec.explain(ec.conv2d, on_device(np.ones((1, 1, 4, 4), int)), on_device(np.ones((1, 1, 2, 2), int)))
    assert told.chosen == "direct"


def test_unknown_to_cudnn_goes_to_another(place):
    x, w = place.put(np.ones((1, 1, 4, 4))), place.put(np.ones((1, 3, 3, 1, 2, 2)))
    assert ec.explain(ec.conv2d, x, w, unshared=True)[0].chosen == "direct"
    with pytest.raises(ec.AlgorithmError, match="cudnn does not know unshared"):
        ec.conv2d(x, w, unshared=True, algorithm="cudnn")


def test_operands_on_different_devices_raise_and_name_both(place):
    with pytest.raises(TypeError, match="cpu and cuda"):
        ec.conv2d(place.put(np.ones((1, 1, 4, 4))), np.ones((1, 1, 2, 2)))


# ----- Our half of cuDNN -----


def counter(name):
    return ctypes.c_long.in_dll(cudnn_backend.library(), name).value


def variable(name):
    kind = ctypes.c_int64 if name == "workspace_bytes" else ctypes.c_int
    return kind.in_dll(cudnn_backend.library(), name)


@contextmanager
def engines(**values):
    """Give our libcudnn other engines, and drop the plans made of them."""
    forget()
    try:
        with engines_as_they_are(**values):
            yield
    finally:
        forget()


@contextmanager
def engines_as_they_are(**values):
    """Give our libcudnn other engines, also those of plans that are there."""
    old = {name: variable(name).value for name in values}
    for name, value in values.items():
        variable(name).value = value
    try:
        yield
    finally:
        for name, value in old.items():
            variable(name).value = value


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize(("problem", "layout"), [
    (Problem(2, 1, 3, 4, (7, 6), (3, 2), 1, (2, 1)), None),
    (Problem(2, 2, 2, 3, (6, 5), (3, 3), ((0, 2), (1, 1))), "channels-last"),
    (Problem(2, 1, 3, 5, (11,), (4,)), None),
    (Problem(1, 1, 2, 3, (4, 5, 4), (2, 3, 2)), None),
])  # fmt: skip
def test_bias_and_activation_are_done_in_one_go(place, dtype, activation, problem, layout):
    x, w, _ = operands(problem, 3, dtype)
    bias = integers((problem.output_shape[1],), 4).astype(dtype)
    given = x if layout is None else strategies.arranged(x, layout)
    column = bias.reshape(-1, *(1,) * problem.ndim)
    expected = problem.solve("forward", x, w, None) + column
    if activation:
        expected = np.maximum(expected, 0)
    convolve, keywords = getattr(ec, f"conv{problem.ndim}d"), problem.keywords()

    def call(fusing):
        with engines(fusing=fusing) if isinstance(place, Fake) else nullcontext():
            runs = counter("executions") if isinstance(place, Fake) else 0
            leaves = [ec.asarray(a) for a in (place.keep(given), place.put(w), place.put(bias))]
            for leaf in leaves:
                leaf.requires_grad = True
            y = convolve(leaves[0], leaves[1], bias=leaves[2], activation=activation, algorithm="cudnn", **keywords)
            runs = counter("executions") - runs if isinstance(place, Fake) else 1
            gradients = ec.grad((y * y).sum(), leaves)
            return place.get(y.data), [place.get(g.data) for g in gradients], runs

    fused, apart = call(1), call(0)
    np.testing.assert_array_equal(fused[0], expected)
    np.testing.assert_array_equal(apart[0], expected)
    assert fused[2] == apart[2] == 1  # of cuDNN's: without such an engine the rest is done in place
    for a, b in zip(fused[1], apart[1], strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(fused[1][2], (2 * expected).sum(axis=(0, *range(2, expected.ndim))))


def test_plans_are_made_once_and_descriptors_given_back(fake):
    problem = Problem(2, 1, 3, 4, (7, 6), (3, 2))
    x, w, _ = map(on_device, reals(problem, 0, "float32"))
    ec.conv2d(x, w, algorithm="cudnn")
    live, runs = counter("live_descriptors"), counter("executions")
    for _ in range(50):
        ec.conv2d(x, w, algorithm="cudnn")
    assert counter("live_descriptors") <= live + cudnn_backend.MOST_PACKS  # of places
    assert counter("executions") == runs + 50
    forget()
    assert counter("live_descriptors") == 0


def test_the_same_places_are_described_to_cudnn_once(fake):
    x, w, y = (on_device(a) for a in operands(Problem(1, 1, 2, 2, (4, 4), (1, 1)), 0, np.float64))
    told = [cudnn_backend.TensorSpec(a.shape, [s // 8 for s in a.strides], 8) for a in (x, w, y)]
    spec = cudnn_backend.ConvolutionSpec("y", "float64", *told, (0, 0), (0, 0), (1, 1), (1, 1), False)
    plan, handle = next(cudnn_backend.plans(spec, set())), cudnn_backend.new_handle()
    workspace = fake.empty((plan.workspace,), "uint8")
    places = tuple(map(fake.address, (x, w, y, workspace)))
    plan.execute(handle, places)
    live = counter("live_descriptors")
    for _ in range(3):
        x += 1
        plan.execute(handle, places)
        np.testing.assert_array_equal(np.array(y), np.einsum("ncij,fcab->nfij", np.array(x), np.array(w)))
    assert counter("live_descriptors") == live
    results = [fake.empty(y.shape, y.dtype) for _ in range(3 * cudnn_backend.MOST_PACKS)]
    for result in results:
        plan.execute(handle, (*places[:2], fake.address(result), places[3]))
        np.testing.assert_array_equal(np.array(result), np.array(y))
    assert counter("live_descriptors") <= live + cudnn_backend.MOST_PACKS
    with engines_as_they_are(failing=0), pytest.raises(cudnn_backend.CudnnError, match="it failed"):
        plan.execute(handle, places)
    plan.execute(handle, places)  # described anew


def test_a_program_ends_without_a_word(fake):
    code = """
    import numpy as np, fake_cuda, eagerconv as ec
    from eagerconv.kernels_gpu import cuda, cudnn_backend
    cudnn_backend._load_cublaslt = lambda: None  # not `played`, which forgets its plans in time
    ec.devices.DEVICES[fake_cuda.CudaArray], cuda._runtime = "cuda", fake_cuda.FakeRuntime()
    x, w = (fake_cuda.on_device(np.ones((1, 1, n, n))) for n in (4, 2))
    print(ec.conv2d(x, w, algorithm="cudnn").sum().item())
    """
    folders = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": folders}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "36.0", "")


class Scripted:
    """CuPy as far as devices and memory go: so many devices, and room for so many bytes."""

    def __init__(self, devices, room):
        self.room, self.freed, self.compiled = room, 0, []
        self.cuda = SimpleNamespace(
            runtime=SimpleNamespace(getDeviceCount=lambda: devices, getDevice=lambda: 1), alloc=self.alloc,
            memory=SimpleNamespace(OutOfMemoryError=OutOfRoom),
        )  # fmt: skip

    def alloc(self, size):
        if size > self.room:
            raise OutOfRoom(f"out of memory allocating {size}")
        return SimpleNamespace(ptr=4096)

    def empty(self, shape, dtype):
        return self.alloc(math.prod(shape) * np.dtype(dtype).itemsize)

    def get_default_memory_pool(self):
        return SimpleNamespace(free_all_blocks=self.free)

    def free(self):
        self.freed += 1
        self.room += 100

    def RawModule(self, code, options):
        return SimpleNamespace(get_function=lambda name: self.compiled.append(name) or name)


class OutOfRoom(MemoryError):
    pass


@pytest.fixture
def scripted(monkeypatch):
    def make(devices=1, room=1000):
        cupy = Scripted(devices, room)
        monkeypatch.setattr(cuda, "_cupy", lambda: cupy)
        return cuda.CupyRuntime(), cupy

    return make


def test_unused_memory_goes_back_before_there_is_too_little(scripted):
    runtime, cupy = scripted(room=1000)
    assert runtime.scratch(1000)[1] == 4096
    assert runtime.scratch(1050)[1] == runtime.empty((300,), "float32").ptr == 4096
    assert cupy.freed == 2
    with pytest.raises(MemoryError, match=r"2,000 bytes for workspace on the GPU: out of memory allocating 2000"):
        runtime.scratch(2000)
    with pytest.raises(MemoryError, match=r"4,000 bytes for an array of shape \(5, 200\) on the GPU"):
        runtime.empty((5, 200), "float32")


def test_one_device_is_not_asked_for_and_several_are(scripted):
    runtime, _ = scripted(devices=1)
    first, second = (SimpleNamespace(device=SimpleNamespace(id=number)) for number in (0, 1))
    assert runtime.device() == 0
    assert runtime.on(first) is None
    runtime, _ = scripted(devices=2)
    assert runtime.device() == 1
    assert runtime.on(first, first) is first.device
    with pytest.raises(TypeError, match="cuda:0 and cuda:1; move one"):
        runtime.on(first, second)


def test_a_kernel_is_looked_up_once(scripted):
    runtime, cupy = scripted()
    assert [runtime.function("float32", name) for name in ("forward", "inputs", "forward")] == [
        "forward",
        "inputs",
        "forward",
    ]
    assert cupy.compiled == ["forward", "inputs"]


def test_the_stream_is_set_when_it_changes_and_only_then(fake):
    x, w = on_device(np.ones((1, 1, 4, 4))), on_device(np.ones((1, 1, 2, 2)))
    ec.conv2d(x, w, algorithm="cudnn")
    before = counter("stream_changes")
    ec.conv2d(x, w, algorithm="cudnn")
    assert counter("stream_changes") == before
    fake.current_stream = 2
    ec.conv2d(x, w, algorithm="cudnn")
    assert counter("stream_changes") == before + 1


def test_another_alignment_has_a_plan_of_its_own(fake):
    raw = np.arange(65.0, dtype="float32")
    w = on_device(np.ones((1, 1, 2, 2), "float32"))
    for first in (0, 1):  # the fake checks that an array is aligned as its plan was promised
        x = raw[first : first + 64].reshape(1, 1, 8, 8)
        y = ec.conv2d(x.view(CudaArray), w, algorithm="cudnn")
        np.testing.assert_array_equal(np.array(y.data), ec.conv2d(x, np.ones((1, 1, 2, 2), "float32")).data)


@pytest.mark.parametrize(("note", "dtype", "tf32", "refused"), [
    (cudnn_backend.TENSOR_CORE, "float32", False, True),
    (cudnn_backend.TENSOR_CORE, "float32", True, False),
    (cudnn_backend.TENSOR_CORE, "float64", False, False),
    (cudnn_backend.DOWN_CONVERT_INPUTS, "float32", True, True),
    (cudnn_backend.NONDETERMINISTIC, "float32", True, True),
])  # fmt: skip
def test_engines_that_change_the_numbers_are_refused(fake, note, dtype, tf32, refused):
    x, w = on_device(np.ones((1, 1, 4, 4), dtype)), on_device(np.ones((1, 1, 2, 2), dtype))
    with engines(engine_note=note), ec.using(tf32=tf32):
        (told,) = ec.explain(ec.conv2d, x, w)
    reason = {c.name: c.refused for c in told.candidates}["cudnn"]
    assert (reason is not None) == refused, reason


def test_a_workspace_limit_reaches_cudnn(fake):
    x, w = on_device(np.ones((1, 1, 4, 4))), on_device(np.ones((1, 1, 2, 2)))
    with engines(workspace_bytes=5000):
        with ec.using(workspace=4999):
            assert {c.name: c.refused for c in ec.explain(ec.conv2d, x, w)[0].candidates}["cudnn"] is not None
        with ec.using(workspace=5000):
            assert {c.name: c.refused for c in ec.explain(ec.conv2d, x, w)[0].candidates}["cudnn"] is None
    with engines(workspace_bytes=5000, engines=2), ec.using(workspace=4999):  # the second needs half
        ec.conv2d(x, w, algorithm="cudnn")
        assert variable("last_engine").value == 1


def test_an_engine_that_fails_gives_way_to_the_next(fake):
    x, w = on_device(np.ones((1, 1, 4, 4))), on_device(np.ones((1, 1, 2, 2)))
    with engines(engines=3, failing=0):
        np.testing.assert_array_equal(np.array(ec.conv2d(x, w, algorithm="cudnn").data), np.full((1, 1, 3, 3), 4.0))
        assert variable("last_engine").value == 1
    with engines(failing=0), pytest.raises(cudnn_backend.CudnnError, match="it failed") as caught:
        ec.conv2d(x, w, algorithm="cudnn")
    assert "in the forward of (1 x 1 x 4 x 4)" in caught.value.__notes__[0]


def test_short_memory_is_met_with_less_workspace(fake):
    problem = Problem(8, 1, 3, 2, (6, 7), (3, 2))
    x, w, y = operands(problem, 7, np.float64)
    with engines(workspace_bytes=12000, engines=4):
        fake.memory = 4096  # enough for the third
        ec.conv2d(on_device(x), on_device(w), algorithm="cudnn")
        assert variable("last_engine").value == 2
    fake.memory = 6 * 3 * 24 * 3 * 8  # columns of three images
    for slot in SLOTS:
        np.testing.assert_array_equal(
            solve(Fake, problem, slot, x, w, y, algorithm="gemm"), problem.solve(slot, x, w, y)
        )
    fake.memory = 100
    with pytest.raises(MemoryError):
        ec.conv2d(on_device(x), on_device(w), algorithm="gemm")


@pytest.mark.parametrize("bias", [False, True])
def test_what_no_engine_can_do_goes_to_our_own_algorithms(fake, bias):
    """Where cuDNN has an engine, but not the memory for it or an error in it; who asks for cuDNN is told."""
    problem = Problem(2, 1, 3, 2, (6, 7), (3, 2))
    x, w, y = operands(problem, 7, np.float64)
    column = np.arange(2.0)
    options = {"bias": on_device(column), "activation": "relu"} if bias else {}
    for trouble in ({"failing": 0}, {"workspace_bytes": 1 << 20}):
        fake.memory = 1 << 16
        with (
            engines(engines=1, **trouble),
            ec.using(exclude=["direct"]),
        ):  # which is the first choice for so few products
            for slot in SLOTS[: 1 if bias else 3]:
                result = solve(Fake, problem, slot, x, w, y, **options)
                truth = problem.solve(slot, x, w, y)
                np.testing.assert_array_equal(result, np.maximum(truth + column[:, None, None], 0) if bias else truth)
                with pytest.raises((cudnn_backend.CudnnError, MemoryError)):
                    solve(Fake, problem, slot, x, w, y, algorithm="cudnn", **options)
        fake.memory = 10
        with engines(engines=1, **trouble), pytest.raises((cudnn_backend.CudnnError, MemoryError)):
            solve(Fake, problem, "forward", x, w, y, **options)  # nobody can


def test_autotune_times_cudnns_engines_and_remembers(fake, monkeypatch):
    x, w = on_device(np.ones((1, 1, 4, 4))), on_device(np.ones((1, 1, 2, 2)))
    monkeypatch.setattr(cudnn, "_seconds", lambda cuda, call: next(times))
    times = iter([3.0, 1.0, 2.0])
    with engines(engines=3):
        with ec.autotune(), ec.using("cudnn"):
            ec.conv2d(x, w)
        assert variable("last_engine").value == 1
        ec.conv2d(x, w, algorithm="cudnn")
        assert variable("last_engine").value == 1
    ec.autotune.clear()


def test_errors_of_cudnn_say_what_it_said(place):
    bad = cudnn_backend.TensorSpec((0, 1, 4), (4, 4, 1), 16)
    with pytest.raises(cudnn_backend.CudnnError, match=r"could not finalize .*not positive \(status 2000\)"):
        cudnn_backend._tensor(1, bad, 0)


def test_without_cudnn_the_reason_is_told(fake, monkeypatch):
    forget()
    monkeypatch.setenv("EAGERCONV_CUDNN", "/nowhere/libcudnn.so.9")
    x, w = on_device(np.ones((1, 1, 4, 4))), on_device(np.ones((1, 1, 2, 2)))
    (told,) = ec.explain(ec.conv2d, x, w)
    forget()
    assert "cuDNN 9 was not found" in {c.name: c.refused for c in told.candidates}["cudnn"]
    assert told.chosen != "cudnn"


# ----- The fakes can fail, and the sources compile -----


@pytest.mark.parametrize(("good", "bad", "slot"), [
    ("__syncthreads();\n            if (threadIdx.x < half)", "if (threadIdx.x < half)", "grad_weights"),
    ("i < g[SIZE + axis] ? i : -1", "i <= g[SIZE + axis] ? i : -1", "forward"),
    ("t += (i64)gridDim.x * blockDim.x", "t += total", "forward"),
    ("t % g[STRIDE + axis]) return -1", "false) return -1", "grad_inputs"),
    ("f / g[COUT] * g[CIN] * g[X_C]", "0", "forward"),
])  # fmt: skip
def test_planted_faults_are_seen(fake, place, monkeypatch, good, bad, slot):
    text = cuda.source("float64")
    assert good in text
    monkeypatch.setattr(cuda, "source", lambda dtype: text.replace(good, bad))
    problem = Problem(3, 2, 2, 2, (6, 5), (3, 2), 1, (2, 1))
    x, w, y = reals(problem, 2, "float64")
    with pytest.raises((AssertionError, RuntimeError)):
        np.testing.assert_allclose(
            solve(place, problem, slot, x, w, y, algorithm="direct"), problem.solve(slot, x, w, y)
        )


def test_a_narrow_argument_is_seen(fake):
    kernel = fake.function("float32", "im2col")
    with pytest.raises(TypeError, match="argument 3 has 4 bytes"):
        kernel((1,), (8,), (*[on_device(np.ones(3))] * 3, np.int32(1), 1, 1, 1))


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90", "sm_100"])
@pytest.mark.parametrize("dtype", list(cuda.TYPES))
def test_sources_compile_for_real_cards_without_spills(architecture, dtype):
    nvrtc = pytest.importorskip("cupy_backends.cuda.libs.nvrtc", reason="needs CuPy and NVRTC", exc_type=ImportError)
    program = nvrtc.createProgram(cuda.source(dtype), "conv.cu", (), ())
    options = (
        "-std=c++17",
        "-ftz=true",
        "--device-as-default-execution-space",
        f"-arch={architecture}",
        "--ptxas-options=-v",
    )
    try:
        nvrtc.compileProgram(program, options)
    except nvrtc.NVRTCError:
        pytest.fail(nvrtc.getProgramLog(program))
    log = nvrtc.getProgramLog(program)
    registers = [int(n) for n in re.findall(r"Used (\d+) registers", log)]
    assert len(registers) == len(fake_cuda.kernel_names(cuda.source(dtype)))
    assert max(registers) <= 128
    assert not any(int(n) for n in re.findall(r"(\d+) bytes spill", log))


def test_the_real_library_accepts_our_graphs():
    """What cuDNN itself checks of what we tell it, in a process of its own: they need no GPU, only a part of cuDNN."""
    folders = [Path(p) / "nvidia" / "cudnn_jit" / "lib" for p in sys.path]
    folder = next((f for f in folders if (f / "libcudnn.so.9").exists()), None)
    if folder is None:
        pytest.skip("needs the wheel nvidia-cudnn-jit-cu13")
    program = """
from eagerconv.kernels_gpu.cudnn_backend import *
from eagerconv.spec import contiguous
def tensor(*shape):
    return TensorSpec(shape, contiguous(shape), 16)
for slot in "yxw":
    for dtype in DATA_TYPES:
        for n in (1, 2, 3):
            x, w, y = tensor(2, 4, *(7,) * n), tensor(6, 2, *(3,) * n), tensor(2, 6, *(4,) * n)
            good = ConvolutionSpec(slot, dtype, x, w, y, (1,) * n, (2,) * n, (2,) * n, (1,) * n, slot == "x")
            graph(good)
            if slot == "y":
                for rectify in (False, True):
                    graph(good._replace(bias=tensor(1, 6, *(1,) * n), rectify=rectify))
            try:
                graph(good._replace(y=tensor(2, 6, *(5,) * n)))
            except CudnnError:
                continue
            raise SystemExit("a wrong size was accepted")
print("accepted")
"""
    paths = os.pathsep.join([str(folder), *(str(Path(p) / "nvidia" / "cu13" / "lib") for p in sys.path)])
    environment = {**os.environ, "EAGERCONV_CUDNN": str(folder / "libcudnn.so.9"), "LD_LIBRARY_PATH": paths}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    if "status 1008" in done.stderr:
        pytest.skip("this cuDNN loads only beside a driver")
    assert done.stdout.strip() == "accepted", done.stderr


def test_the_table_has_what_is_tested():
    assert tuple(a.name for a in registry.table("cuda")) == NAMES


# ----- Formulas -----


FORMULAS = ["gelu", "silu_d0", "softplus", "tanh", "elu", "huber_error", "adam", "rmsprop_centered_moving"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FORMULAS)
def test_formulas_are_those_of_the_cpu(place, name, dtype):
    found = formulas.formula(name)
    rng = np.random.default_rng(0)
    arrays = [rng.uniform(0.2, 2, (3, 50)).astype(dtype) for _ in range(found.operands)]
    numbers = tuple(rng.uniform(0.2, 0.9, found.numbers).tolist())
    plain = fused._plain(name, arrays, numbers)
    there = [place.put(x) for x in arrays]
    if found.results == 1:
        results = [fused.computed(name, there, numbers)]
    else:
        results = [there[0], *there[2:]]
        fused.update(name, results, [there[1]], numbers)
    for value, true in zip(results, plain, strict=True):
        np.testing.assert_allclose(place.get(value), true, rtol=50 * np.finfo(dtype).eps)


def test_an_activation_and_its_gradient_are_one_kernel_each(fake, place, monkeypatch):
    names = []
    compiled = FakeRuntime.compiled
    monkeypatch.setattr(
        FakeRuntime, "compiled", lambda self, text, name: names.append(name) or compiled(self, text, name)
    )
    t = ec.tensor(np.linspace(-2, 2, 30).astype("f"), requires_grad=True, device="cuda")
    ec.gelu(t).backward(np.ones_like(t.data))
    assert names == ["formula_gelu", "formula_gelu_d0"]
