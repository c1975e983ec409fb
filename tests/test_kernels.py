"""The native kernels as machinery: threads, forks, compilation, workspaces, bits."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import shutil
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
import targets
from processes import script
from strategies import tiers

import eagerconv as ec
from eagerconv import algorithms
from eagerconv.algorithms import warming
from eagerconv.kernels_cpu import compiler, jit, openmp, threads


def problem(dtype=np.float32, batch=8):
    rng = np.random.default_rng(0)
    x = rng.integers(-3, 4, (batch, 32, 28, 28)).astype(dtype)
    return x, rng.integers(-3, 4, (32, 32, 3, 3)).astype(dtype)


# Algorithms for shared filters; test_local.py has the same for the other.
SHARED = [a.name for a in algorithms.TABLE["cpu"] if a.name != "local" and len(a.slots) == 3]
every_shared = pytest.mark.parametrize("algorithm", tiers(SHARED))

ALL_SLOTS = """
import numpy as np, eagerconv as ec
from eagerconv.kernels_cpu import jit, targets
rng = np.random.default_rng(0)
x = ec.tensor(rng.standard_normal((4, 16, 20, 20)).astype(np.float32), requires_grad=True)
w = ec.tensor(rng.standard_normal((16, 16, 3, 3)).astype(np.float32), requires_grad=True)
def digest(*tensors):
    import hashlib
    return hashlib.sha256(b"".join(t.numpy().tobytes() for t in tensors)).hexdigest()
def work():
    y = ec.conv2d(x, w, border_mode="same")
    return digest(y.detach(), *ec.grad(y, [x, w], y.detach()))
"""


# ----- Threads -----


@pytest.fixture
def all_threads():
    before = ec.get_num_threads()
    yield
    ec.set_num_threads(before)


@pytest.mark.parametrize("slot", ["y", "x", "w"])
@every_shared
def test_bits_do_not_depend_on_the_number_of_threads(algorithm, slot, all_threads):
    rng = np.random.default_rng(1)
    stride = (1, 1) if algorithm in ("winograd", "winograd_f2") else (2, 1) if algorithm == "rows" else (2, 2)
    x, w = rng.standard_normal((3, 10, 21, 21)), rng.standard_normal((13, 10, 3, 3))
    y = rng.standard_normal((3, 13, *(20 // s + 1 for s in stride)))
    options = {"border_mode": 1, "subsample": stride, "algorithm": algorithm}
    call = {
        "y": lambda: ec.conv2d(x, w, **options),
        "x": lambda: ec.conv2d_grad_wrt_inputs(y, w, x.shape, **options),
        "w": lambda: ec.conv2d_grad_wrt_weights(x, y, w.shape, **options),
    }[slot]
    results = []
    for n in range(1, threads.available_threads() + 1):
        ec.set_num_threads(n)
        results += [call().numpy(), call().numpy()]
    assert all(np.array_equal(results[0], r) for r in results)


def test_eight_python_threads_at_once_get_right_results():
    x, w = problem()
    expected = ec.conv2d(x, w).numpy()
    wrong = []

    def work():
        wrong.extend(i for i in range(10) if not np.array_equal(ec.conv2d(x, w).numpy(), expected))

    team = [threading.Thread(target=work) for _ in range(8)]
    for thread in team:
        thread.start()
    for thread in team:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("layer", ["workqueue", "omp", "default"])
def test_threads_and_a_forked_child_under_every_threading_layer(layer):
    code = ALL_SLOTS + textwrap.dedent("""
        import os, threading, sys
        expected = work()                     # starts the parent's team
        results = []
        team = [threading.Thread(target=lambda: results.append(work())) for _ in range(8)]
        [t.start() for t in team]; [t.join() for t in team]
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            os._exit(0 if work() == expected else 3)
        _, status = os.waitpid(child, 0)
        print(set(results) == {expected}, len(results), os.waitstatus_to_exitcode(status), work() == expected)
    """)
    assert script(code, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS="2") == ["True", "8", "0", "True"]


def test_a_child_forked_while_another_thread_holds_the_lock_of_memory_does_not_wait_for_it():
    code = ALL_SLOTS + textwrap.dedent("""
        import os, threading
        from eagerconv import memory
        from eagerconv.kernels_cpu import threads
        held, done = threading.Event(), threading.Event()
        def hold():
            with memory._lock:
                held.set()
                done.wait(60)
        keeper = threading.Thread(target=hold)
        keeper.start()
        held.wait()
        child = os.fork()
        if child == 0:
            big = ec.conv2d(np.ones((4, 16, 64, 64), np.float32), np.ones((16, 16, 3, 3), np.float32))
            os._exit(0 if big.numpy().max() == 144 else 3)
        _, status = os.waitpid(child, 0)
        done.set()
        keeper.join()
        print(os.waitstatus_to_exitcode(status))
    """)
    assert script(code) == ["0"]


FORKED = (
    ALL_SLOTS
    + """
import multiprocessing, os, signal, sys
from eagerconv.kernels_cpu import threads
def forked(work):
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        os._exit(0 if work() else 3)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
def on_two_threads(_=None):
    ec.set_num_threads(2)
    return work() == expected and ec.get_num_threads() == 2 and threads.team().__module__.split(".")[-1]
ec.set_num_threads(1)
expected = work()
"""
)
PARENTS = {
    "ours": "on_two_threads()\n",
    "of numba": """
import numba
@numba.njit(parallel=True)
def loop(a):
    for i in numba.prange(a.size):
        a[i] = i
loop(np.zeros(4))
""",
}
needs_two = pytest.mark.skipif(threads.available_threads() < 2, reason="needs two processors")


@needs_two
@pytest.mark.parametrize("layer", ["omp", "workqueue"])
@pytest.mark.parametrize("team", PARENTS)
def test_a_forked_child_may_use_threads_whoever_used_them_before(team, layer):
    code = (
        FORKED
        + PARENTS[team]
        + textwrap.dedent("""
        print(forked(lambda: work() == expected))
        print(forked(lambda: on_two_threads() == "pthreads" and forked(lambda: on_two_threads() == "pthreads") == 0))
        signal.alarm(30)
        with multiprocessing.get_context("fork").Pool(2) as pool:
            print(set(pool.map(on_two_threads, range(4))))
    """)
    )
    assert script(code, NUMBA_THREADING_LAYER=layer, OMP_NUM_THREADS="2") == ["0", "0", "{'pthreads'}"]


@needs_two
def test_a_child_forked_before_anyone_used_threads_has_a_team_that_lasts():
    code = FORKED + "print(forked(lambda: on_two_threads() == 'openmp'), forked(lambda: on_two_threads() == 'openmp'))"
    if openmp.region() is None:
        pytest.skip("needs GNU OpenMP")
    assert script(code, OMP_NUM_THREADS="2") == ["0", "0"]


LIMITED = (
    FORKED
    + """
import resource
if os.environ["LIMIT"] == "memory":  # for the stacks of threads
    used = resource.getpagesize() * int(open("/proc/self/statm").read().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 29), used + (1 << 29)))
else:
    if os.getuid() == 0:  # whom no limit binds
        os.setuid(65534)
    resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
ec.set_num_threads(2)
print(work() == expected, ec.get_num_threads(), work() == expected)
"""
)


@needs_two
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs the limits of Linux")
@pytest.mark.parametrize("limit", ["memory", "processes"])
def test_threads_that_the_system_does_not_start_are_done_without(limit):
    def run(quiet):
        environment = {"LIMIT": limit, "OMP_STACKSIZE": "1G", "OMP_NUM_THREADS": "2", "EAGERCONV_QUIET": quiet}
        command = [sys.executable, "-W", "ignore", "-c", LIMITED]
        done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout.split(), done.stderr

    code, said, notice = run("0")
    assert (code, said) == (0, ["True", "1", "True"])
    assert re.fullmatch(r"eagerconv: the system starts no 2 threads, .*\n", notice)
    assert run("1") == (0, ["True", "1", "True"], "")


def test_the_number_of_threads_is_checked():
    for bad in (0, -1, 1.5, True, threads.available_threads() + 1):
        with pytest.raises(ValueError, match="threads must be an int from 1 to"):
            ec.set_num_threads(bad)


STAGES = """
import ctypes, time, numpy as np
from eagerconv.kernels_cpu import threads
done, seen = [], []
def meet(thread, here):  # tasks go to whoever is free: wait for the other, so that both take some
    here.add(thread)
    end = time.time() + 2
    while len(here) < 2 and time.time() < end:
        time.sleep(0.001)
def first(start, end, thread, x, w, y, work, g, here=set()):
    meet(thread, here)
    for task in range(start, end):
        time.sleep(0.1 * (task == 3))  # one share takes long
        done.append(task)
def second(start, end, thread, x, w, y, work, g, here=set()):
    meet(thread, here)
    seen.extend((task, thread, len(done)) for task in range(start, end))
class Fake:
    def __init__(self, function):
        self.function = ctypes.CFUNCTYPE(None, *[ctypes.c_ssize_t] * 8)(function)
        self.address = ctypes.cast(self.function, ctypes.c_void_p).value
    def entry(self, x, w, y):
        return self.address, (0, 0, 0)
launch = threads.Launch([(Fake(first), range(4)), (Fake(second), range(4))], 2, 0, np.zeros(1, np.int64))
launch(None, None, None)
print(sorted(done) == [0, 1, 2, 3], {n for _, _, n in seen} == {4}, sorted(t for t, _, _ in seen) == [0, 1, 2, 3],
      len({thread for _, thread, _ in seen}), threads.team().__module__.split(".")[-1])
"""


IN_A_CHILD = """
import os, eagerconv
from eagerconv.kernels_cpu import openmp
openmp.region()
child = os.fork()
if child:
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@needs_two
@pytest.mark.parametrize("layer", ["default", "workqueue", "forked"])
def test_a_stage_begins_when_all_tasks_of_the_one_before_are_done(layer):
    if layer == "forked":
        *right, team, module = script(IN_A_CHILD + STAGES, OMP_NUM_THREADS="2")
    else:
        *right, team, module = script(STAGES, NUMBA_THREADING_LAYER=layer, OMP_NUM_THREADS="2")
    assert (right, team) == (["True"] * 3, "2")
    assert module == {"default": "openmp" if openmp.region() else "parallel", "forked": "pthreads"}.get(
        layer, "parallel"
    )


def test_threadpoolctl_and_the_environment_of_openmp_limit_us():
    assert script("import eagerconv as ec; print(ec.get_num_threads())", OMP_NUM_THREADS="1,4") == ["1"]
    pytest.importorskip("threadpoolctl")
    if openmp.region() is None or threads.available_threads() < 2:
        pytest.skip("needs GNU OpenMP and two processors")
    code = STAGES + textwrap.dedent("""
        import threadpoolctl
        print([pool["user_api"] for pool in threadpoolctl.threadpool_info()].count("openmp"))
        with threadpoolctl.threadpool_limits(1):
            del done[:], seen[:]
            launch(None, None, None)
        print(len({thread for _, thread, _ in seen}), len(done), len(seen))
    """)
    assert script(code, OMP_NUM_THREADS="2")[5:] == ["1", "1", "4", "4"]


# ----- Compilation -----


def test_no_two_kernels_share_an_object():
    dtypes = ["float32", "float64", "complex64", "int32"]
    functions = ["direct:forward", "direct:inputs", "direct:weights", "direct:weights_unshared"]
    kernels = [jit.kernel(f, np.dtype(d)) for f, d in itertools.product(functions, dtypes)]
    assert len({k.address for k in kernels}) == len({k.name for k in kernels}) == len(functions) * len(dtypes)


TINY = """
import os, numpy as np, eagerconv as ec
from eagerconv.kernels_cpu import jit, targets
jit.PATIENCE = float(os.environ.get("PATIENCE", "60"))
y = ec.conv1d(np.ones((1, 1, 5), np.float32), np.ones((1, 1, 2), np.float32), algorithm="direct")
assert y.numpy().sum() == 8
print(len(jit.compiled_here))
"""


def test_a_notice_tells_of_a_long_compilation_once_unless_it_is_silenced(tmp_path):
    def told(**environment):
        environment = {**os.environ, "EAGERCONV_CACHE_DIR": str(tmp_path), **environment}
        command = [sys.executable, "-c", textwrap.dedent(TINY)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stderr

    assert told(PATIENCE="0", EAGERCONV_QUIET="1") == ""
    shutil.rmtree(tmp_path)
    assert re.fullmatch(r"eagerconv: compiling direct \(forward, float32\) .* once; .*\n", told(PATIENCE="0"))
    assert told(PATIENCE="0") == ""  # compiled


def test_warmup_compiles_what_calls_need_and_knows_every_algorithm(tmp_path):
    code = """
    import numpy as np, eagerconv as ec
    from eagerconv.algorithms import warming
    from eagerconv.kernels_cpu import jit, targets
    first, second = ec.warmup("direct", verbose=False), ec.warmup("direct", verbose=False)
    x, w = np.ones((1, 4, 9, 9), np.float32), np.ones((4, 1, 3, 3), np.float32)
    with ec.using("direct"):
        a, b = ec.tensor(x, requires_grad=True), ec.tensor(w, requires_grad=True)
        ec.conv2d(a, b, num_groups=4).sum().backward()
    there_are = len(list(warming.kernels_of("direct")))
    print(first == there_are >= 4, second, len(jit.compiled_here) == there_are)
    """
    assert script(code, EAGERCONV_CACHE_DIR=str(tmp_path)) == ["True", "0", "True"]
    with pytest.raises(ValueError, match="there is no algorithm 'gem'"):
        ec.warmup("gem")
    assert all(list(warming.kernels_of(name)) for name in algorithms.names("cpu") if name != "fft")  # which is NumPy's


def test_a_kernel_that_would_call_python_is_refused():
    ir = """
    declare i32 @PyErr_Occurred()
    define i32 @"native"(ptr %a, ptr %b, i64 %c, i64 %d, i64 %e, ptr %x, ptr %w, ptr %y, ptr %s, ptr %g) {
      %r = call i32 @PyErr_Occurred()
      ret i32 %r
    }"""
    with pytest.raises(RuntimeError, match=r"self-contained.*PyErr_Occurred"):
        compiler.native_object("test", ir, compiler._ENTRY_IR.format(native="native", entry="test"))


# ----- Memory -----


@every_shared
def test_operands_are_never_written_and_may_be_read_only(algorithm):
    x, w = problem(batch=2)
    before = [hashlib.sha256(a.tobytes()).digest() for a in (x, w)]
    x.flags.writeable = w.flags.writeable = False
    y = ec.conv2d(x, w, border_mode="full", algorithm=algorithm)
    ec.conv2d_grad_wrt_inputs(y, w, x.shape, border_mode="full", algorithm=algorithm)
    ec.conv2d_grad_wrt_weights(x, y, w.shape, border_mode="full", algorithm=algorithm)
    assert [hashlib.sha256(a.tobytes()).digest() for a in (x, w)] == before


@every_shared
def test_misaligned_fields_and_foreign_byte_order(algorithm):
    x, w = problem(batch=1)
    expected = ec.conv2d(x, w, algorithm=algorithm).numpy()
    record = np.zeros(x.shape, np.dtype([("byte", "i1"), ("value", "f4")]))  # elements 5 bytes apart
    record["value"] = x
    assert np.array_equal(ec.conv2d(record["value"], w, algorithm=algorithm).numpy(), expected)
    swapped = ec.conv2d(x.astype(">f4"), w.astype(">f4"), algorithm=algorithm)
    assert np.array_equal(swapped.numpy(), expected)
    assert swapped.dtype == np.float32


@pytest.mark.plans
def test_workspaces_are_as_large_as_explained():
    x, w = problem()
    for algorithm in SHARED:
        threads._local.workspace = np.empty(0, np.uint8)
        told = ec.explain(ec.conv2d, x, w, algorithm=algorithm)[0].candidates
        said = next(c.workspace for c in told if c.name == algorithm)
        assert threads._local.workspace.size - 64 <= said
        assert said > 0


# ----- Other processors -----

OTHER_PROCESSOR = """
import numpy as np, eagerconv as ec
from eagerconv.kernels_cpu import targets
assert targets.register_bytes() == {register}, targets.register_bytes()
rng = np.random.default_rng(0)
def whole(*shape):
    return rng.integers(-3, 4, shape).astype(np.float32)
x, w, y = whole(2, 21, 13, 19), whole(35, 21, 3, 3), whole(2, 35, 13, 19)
def all_slots(w, algorithm, **options):
    options |= dict(border_mode=1, algorithm=algorithm)
    return [np.rint(r.numpy()) for r in (ec.conv2d(x, w, **options), ec.conv2d_grad_wrt_inputs(y, w, x.shape, **options),
                                         ec.conv2d_grad_wrt_weights(x, y, w.shape, **options))]
right = []
for algorithm in ("gemm", "rows", "winograd", "winograd_f2", "winograd_dwm"):
    right += [np.array_equal(a, b) for a, b in zip(all_slots(w, algorithm), all_slots(w, "direct"))]
w = whole(35, 13, 19, 21, 3, 3)
local, direct = all_slots(w, "local", unshared=True), all_slots(w, "direct", unshared=True)
right += [np.array_equal(a, b) for a, b in zip(local, direct)]
print(*right)
"""


@pytest.mark.slow
@pytest.mark.skipif(not (targets.X86 and targets.shorter()), reason="names x86 processors with shorter registers")
def test_kernels_are_right_for_shorter_registers():
    target = targets.shorter()
    code = OTHER_PROCESSOR.replace("{register}", str(targets.TARGETS[target]))
    assert script(code, **targets.environment(target, NUMBA_NUM_THREADS="1")) == ["True"] * 18
