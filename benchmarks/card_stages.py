"""What `benchmarks.card` tries on a card, by importance.

Nothing is imported before the stage that needs it, so that what is missing or broken costs no other.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import card_child, card_smoke
from benchmarks.card_child import Case, Report, Skip, Stage, cases, pytest_run

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("numpy", "numba", "cupy-cuda13x", "cupy-cuda12x", "nvidia-cudnn-cu13", "torch", "ml_dtypes", "pytest", "hypothesis",
            "scipy", "scikit-learn", "matplotlib", "safetensors", "tqdm")  # fmt: skip


def prepare() -> None:
    """Called in the process of each stage: tests and examples can be imported, and PyTorch comes first where it is there.

    cuDNN finds its parts by name, so there must be one copy of it in a process: PyTorch's.
    """
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "examples")]
    home = Path.home()
    if not os.access(home if home.exists() else home.parent, os.W_OK):
        os.environ.setdefault("CUPY_CACHE_DIR", str(Path(tempfile.gettempdir(), "cupy")))


def torch_first() -> Any:
    """PyTorch with the card in use, or None where it is not installed."""
    if importlib.util.find_spec("torch") is None:
        return None
    import torch

    torch.zeros(1, device="cuda")
    return torch


def chain(*parts: Callable[[Report], None]) -> Callable[[Report], None]:
    """A stage of several parts, one after the other."""

    def run(report: Report) -> None:
        for part in parts:
            part(report)

    return run


# ----- Facts -----


def facts() -> list[Case]:
    """The machine, the card, what is installed and where it was found."""
    return [Case(f.__name__, f, 30) for f in (system, packages, driver, card, tools, cudnn, properties, peer)]


def system() -> dict[str, Any]:
    name = f"Python {platform.python_version()}, {platform.platform()}, {os.cpu_count()} CPUs"
    return {"headline": name, "executable": sys.executable, "home": str(Path.home())}


def packages() -> dict[str, Any]:
    found, missing = {}, []
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    start = time.perf_counter()
    import eagerconv

    seconds = time.perf_counter() - start
    told = ", ".join(f"{name} {version}" for name, version in found.items())
    return {
        "headline": f"eagerconv {eagerconv.__version__}, {told}",
        "missing": missing,
        "import of eagerconv, s": seconds,
    }


def driver() -> dict[str, Any]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        raise Skip("there is no nvidia-smi")
    query = (
        "name,driver_version,memory.total,memory.free,compute_cap,clocks.sm,clocks.max.sm,power.limit,mig.mode.current"
    )
    done = subprocess.run(
        [tool, f"--query-gpu={query}", "--format=csv,noheader"], capture_output=True, text=True, timeout=20, check=True
    )
    return {"headline": done.stdout.strip(), "query": query}


def card() -> dict[str, Any]:
    from eagerconv.kernels_gpu import cuda

    start = time.perf_counter()
    cupy = cuda.runtime().xp
    told = {"import of CuPy, s": time.perf_counter() - start}
    runtime = cupy.cuda.runtime
    properties = runtime.getDeviceProperties(0)
    versions = {"driver": runtime.driverGetVersion(), "runtime": runtime.runtimeGetVersion(), "cupy": cupy.__version__}
    told |= {
        **versions,
        "memory": card_child.memory(cuda.runtime()),
        "properties": {k: str(v) for k, v in properties.items()},
    }
    return {"headline": f"{properties['name'].decode()}, {versions}", **told}


def cudnn() -> dict[str, Any]:
    from eagerconv.kernels_gpu import cudnn_backend

    library = cudnn_backend.library()
    return {
        "headline": f"cuDNN {library.cudnnGetVersion()} from {library._name}",
        "candidates": list(cudnn_backend._candidates()),
    }


def properties() -> dict[str, Any]:
    """What cuDNN knows of the card, as it takes it where there is none: for plans made elsewhere."""
    from eagerconv.kernels_gpu import cudnn_backend as backend

    kind, device, text = 38, 2700, 2702  # the descriptor, and its attributes
    integer, characters = 23, 24  # the types of those
    described = backend.Descriptor(kind).set(device, integer, backend.ctypes.c_int, 0).finalize()
    size = described.count(text, characters)
    said = bytes(described.get(text, characters, backend.ctypes.c_char, size))
    return {"json": json.loads(said.rstrip(b"\0"))}


def peer() -> dict[str, Any]:
    torch = torch_first()
    if torch is None:
        raise Skip("PyTorch is not installed")
    settings = {
        "cudnn.allow_tf32": torch.backends.cudnn.allow_tf32,
        "matmul.allow_tf32": torch.backends.cuda.matmul.allow_tf32,
    }
    return {"headline": f"PyTorch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}", **settings}


def tools() -> dict[str, Any]:
    return {name: shutil.which(name) for name in ("compute-sanitizer", "nsys", "ncu", "nvcc", "g++", "git")}


# ----- compute-sanitizer on the kernels of our own -----


PREPARED = __name__
"""The module whose `prepare` the process of the tool calls."""


def sanitizer() -> list[Case]:
    return [Case(check, partial(sanitize, check), 60) for check in ("memcheck", "racecheck", "synccheck", "initcheck")]


def sanitize(check: str) -> dict[str, Any]:
    places = [
        shutil.which("compute-sanitizer"),
        *sorted(map(str, Path("/usr/local").glob("cuda*/bin/compute-sanitizer"))),
    ]
    tool = next(filter(None, places), None)
    if tool is None:
        raise Skip("there is no compute-sanitizer")
    # CuPy asks CUDA questions whose answer may be an error: those are not ours.
    command = [tool, "--tool", check, "--error-exitcode", "9", "--print-limit", "20"]
    command += ["--report-api-errors", "no"] if check == "memcheck" else []
    program = f"import {PREPARED} as plan; plan.prepare(); from benchmarks import card_smoke; card_smoke.own_kernels()"
    done = subprocess.run(
        [*command, sys.executable, "-c", program],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=55,
        check=False,
    )
    if done.returncode:
        raise AssertionError(f"exit status {done.returncode}: {done.stdout[-2500:]}\n{done.stderr[-1500:]}")
    return {"printed": done.stdout[-500:]}


# ----- Times -----


def host() -> list[Case]:
    """What a tiny call costs the host, and what its parts do."""
    torch = torch_first()
    from benchmarks import gpu_layers

    return [Case("a call", partial(calls, gpu_layers, torch)), Case("its parts", parts)]


def calls(gpu_layers: Any, torch: Any) -> dict[str, Any]:
    import eagerconv as ec

    setting = gpu_layers.Setting("float32", "NCHW")
    tensors = {slot: ec.asarray(array).to("cuda") for slot, array in gpu_layers.TINY.arrays().items()}
    mine = gpu_layers.ours(gpu_layers.TINY, tensors, setting)
    own = {name: gpu_layers.host_microseconds(call) for name, call in mine.items()}
    told: dict[str, Any] = {"us": own}
    if torch is not None:
        table = gpu_layers.overhead()
        told |= {"PyTorch, us": {row[0]: row[2] for row in table.rows}, "ratios": [row[3] for row in table.rows]}
    return {**told, "headline": ", ".join(f"{name} {us:.1f} us" for name, us in own.items())}


def parts() -> dict[str, Any]:
    from benchmarks.gpu_layers import host_microseconds
    from eagerconv.kernels_gpu import cuda

    runtime = cuda.runtime()
    a = runtime.put(np_zeros(64))
    table = runtime.upload([0] * 64)
    kernel = runtime.function("float32", "im2col")  # of nothing: it returns at once
    tried: dict[str, Callable[[], Any]] = {
        "empty": lambda: runtime.empty((1, 8, 8, 8), "float32"),
        "address": lambda: runtime.address(a),
        "device": runtime.device,
        "stream": runtime.stream,
        "scratch": lambda: runtime.scratch(1024),
        "on": lambda: runtime.on(a),
        "a kernel": lambda: kernel((1,), (32,), (a, a, table, 0, 0, 0, 0)),
    }
    return {"us": {name: host_microseconds(call) for name, call in tried.items()}}


def np_zeros(count: int) -> Any:
    import numpy as np

    return np.zeros(count, "f")


def layers(report: Report) -> None:
    """Layers of networks: first all of them in the two types and layouts that are used most."""
    torch = torch_first()
    from benchmarks import gpu_layers
    from benchmarks.layers import CORE

    order = [("float32", "NCHW"), ("float16", "NHWC"), ("TF32", "NCHW"), ("bfloat16", "NHWC"),
             ("float16", "NCHW"), ("TF32", "NHWC"), ("bfloat16", "NCHW"), ("float32", "NHWC")]  # fmt: skip
    settings = [gpu_layers.Setting(*pair) for pair in order]
    peaks: dict[str, float] = {}

    def case(layer: Any, setting: Any) -> Case:
        return Case(
            f"{layer.name}, {setting.type}, {setting.layout}", partial(layer_records, layer, setting, torch), 30
        )

    def limits() -> dict[str, Any]:
        if torch is None:
            raise Skip("PyTorch measures the peaks")
        peaks.update(gpu_layers.peaks(list(gpu_layers.ALLOWED)))
        return {
            "GFLOP/s": peaks,
            "headline": ", ".join(f"{k} {v / 1e3:.0f}" for k, v in peaks.items()) + " TFLOP/s of a product",
        }

    some = [case(layer, setting) for setting in settings for layer in CORE]
    cases(lambda: [Case("peaks", limits, 30), *some])(report)
    mine = [r for r in card_child.read(report.folder) if r["stage"] == report.stage]
    records = [record for r in mine for record in r.get("records", ())]
    for r in mine:
        peaks.update(r.get("GFLOP/s", {}))
    if records and torch is not None and peaks:
        for table in gpu_layers.report(records, peaks):
            report.figures(table.markdown())


def layer_records(layer: Any, setting: Any, torch: Any) -> dict[str, Any]:
    from benchmarks import gpu_layers

    card_smoke.dtype_of(setting.type)  # bfloat16 may be unknown here
    measure = gpu_layers.measure_alone if torch is None else gpu_layers.measure
    records = measure(layer, setting, gpu_layers.QUICK)
    ratios = [r[name] / r["eagerconv"] for r in records for name in gpu_layers.PEERS if name in r]
    return {"records": records, "ratios": ratios}


def resnet(*sizes: tuple[int, int]) -> Callable[[Report], None]:
    """A training step of ResNet-50, for (batch, size) each."""

    def step(batch: int, size: int) -> dict[str, Any]:
        torch_first()
        from benchmarks import resnet

        table = resnet.measure(batch, size, quick=True, device="cuda")
        times = {row[0]: row[1] for row in table.rows}
        told = ", ".join(f"{name} {ms:.1f} ms" for name, ms in times.items())
        ratios = [times["PyTorch"] / times["eagerconv"]] if "PyTorch" in times else []
        return {"headline": f"batch {batch}: {told}", "ms": times, "ratios": ratios, "notes": table.notes}

    return cases(
        lambda: [Case(f"batch {batch}, {size} x {size}", partial(step, batch, size), 60) for batch, size in sizes]
    )


# ----- Networks, graphs, memory -----


def demo(epochs: int, steps: int) -> Callable[[Report], None]:
    """The example networks, trained on the card by one line."""

    def digits() -> dict[str, Any]:
        import digits

        import eagerconv as ec

        with ec.device("cuda"):
            result = digits.train(epochs=epochs, progress=False)
        return trained("digits", result.losses, result.seconds, f"{result.accuracy:.1%} recognised")

    def denoise() -> dict[str, Any]:
        import denoise

        import eagerconv as ec

        with ec.device("cuda"):
            result = denoise.train(steps=steps, progress=False)
        return trained("denoise", result.losses, result.seconds, f"{result.gain:+.1f} dB")

    return cases(lambda: [Case("digits", digits, 60), Case("denoise", denoise, 60)])


def trained(name: str, losses: Sequence[float], seconds: float, reached: str) -> dict[str, Any]:
    if not losses[-1] < losses[0]:
        raise AssertionError(f"the loss went from {losses[0]} to {losses[-1]}")
    return {"headline": f"{name} {reached} in {seconds:.1f} s", "losses": [losses[0], losses[-1]]}


def graph(repeats: int, batch: int = 8, channels: int = 16, size: int = 16) -> Callable[[Report], None]:
    """A training step recorded and repeated: the losses of the same steps one by one, and the time of both."""

    def step(name: str) -> dict[str, Any]:
        import numpy as np

        import eagerconv as ec
        from eagerconv.kernels_gpu import cuda

        warmup, count = 3, 4

        def training() -> Callable[[], Any]:
            rng = np.random.default_rng(0)
            shapes = ((channels, 8, 3, 3), (channels, channels, 3, 3), (4, channels, 1, 1))
            leaves = [
                ec.tensor(rng.standard_normal(s, dtype="f") / 12, device="cuda", requires_grad=True) for s in shapes
            ]
            x = ec.asarray(rng.standard_normal((batch, 8, size, size), dtype="f")).to("cuda")
            target = ec.asarray(rng.standard_normal((batch, 4, size, size), dtype="f")).to("cuda")
            optimizer = getattr(ec.optim, name)(leaves, lr=1e-2)

            def once() -> Any:
                optimizer.zero_grad()
                h = ec.relu(ec.conv2d(x, leaves[0], border_mode="same"))
                h = ec.relu(ec.conv2d(h, leaves[1], border_mode="same"))
                loss = ec.mean((ec.conv2d(h, leaves[2]) - target) ** 2)
                loss.backward()
                optimizer.step()
                return loss

            return once

        once = training()
        plain = [once().item() for _ in range(warmup + 1 + count)]
        graph = ec.cuda_graph(training(), warmup=warmup)
        found = [graph().item() for _ in range(count)]
        # On a card recording does nothing: the first repetition is the step after the warm-up. A stand-in has done that.
        errors = [float(np.max(np.abs(np.subtract(found, plain[k : k + count])))) for k in (warmup, warmup + 1)]
        if (
            name == "SGD" and not min(errors) < 1e-4 * plain[0]
        ):  # Adam's correction of its first steps stays as recorded
            raise AssertionError(f"losses one by one {plain}, repeated {found}")
        times = {}
        for what, call in (("one by one", once), ("as a graph", graph)):
            cuda.runtime().synchronize()
            start = time.perf_counter()
            for _ in range(repeats):
                call()
            cuda.runtime().synchronize()
            times[what] = (time.perf_counter() - start) / repeats * 1e6
        told = ", ".join(f"{us:.0f} us {what}" for what, us in times.items())
        return {"headline": f"{name}: {told}", "us": times, "losses": found}

    return cases(lambda: [Case(name, partial(step, name), 30) for name in ("SGD", "Adam")])


def memory_runs_out() -> list[Case]:
    """More than the card has: told by name, and everything goes on afterwards."""

    def too_much() -> dict[str, Any]:
        import numpy as np

        import eagerconv as ec
        from eagerconv.kernels_gpu import cuda

        runtime = cuda.runtime()
        try:
            runtime.empty((1 << 42,), np.float32)
        except MemoryError as error:
            said = str(error)
        else:
            raise AssertionError("16 TB were given out")
        card_smoke.there_and_back()
        x = ec.ones((1, 1, 4, 4), device="cuda")
        ec.conv2d(x, ec.ones((1, 1, 3, 3), device="cuda"))
        return {"said": said}

    return [Case("16 TB", too_much)]


# ----- The plan -----

LIMITS = "tests/test_gpu_limits.py"
LARGE = f"{LIMITS}::test_more_elements_than_32_bits_can_count"
ROOM = f"{LIMITS}::test_a_card_without_room_says_so_and_goes_on"
RACES = f"{LIMITS}::test_no_block_of_threads_races_or_steps_outside"  # has a stage of its own
FIRST = (
    "tests/test_cuda_kernels.py",
    "tests/test_devices.py",
    LIMITS,
    "tests/test_cuda_graphs.py",
    "tests/test_range.py",
)
REST = [f"--ignore={name}" for name in FIRST]
BLOCKING = {"CUDA_LAUNCH_BLOCKING": "1"}  # what fails is what is told

STAGES = (
    Stage("facts", 8, cases(facts)),
    Stage("smoke", 16, cases(card_smoke.smoke), BLOCKING),
    Stage("tests", 24, pytest_run("-m", "gpu", "--deselect", ROOM, "--deselect", RACES, *FIRST)),
    Stage("sanitizer", 10, cases(sanitizer)),
    Stage("host", 4, cases(host)),
    Stage("layers", 20, layers),
    Stage("resnet", 8, resnet((8, 224), (32, 224))),
    Stage("demo", 5, demo(3, 200)),
    Stage("graph", 3, graph(100)),
    Stage("large", 4, pytest_run("-m", "gpu", LARGE)),
    Stage("memory", 2, chain(cases(memory_runs_out), pytest_run("-m", "gpu", ROOM))),
    Stage("others", 12, pytest_run("-m", "gpu", "tests", *REST)),
)
