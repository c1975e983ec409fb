"""Layers of well-known networks on a GPU beside PyTorch: `python -m benchmarks.gpu_layers [--only res2] [--types float16]`.

Every type (float32 as it is and as TF32, float16, bfloat16) in both layouts, forward and both gradients, by the card's own
clock. Values are compared with float64 on the card before anything is timed. PyTorch runs with and without its own search
for the fastest engine (`cudnn.benchmark`); percentages are of the fastest large matrix product seen in the same run.
`--quick` times fewer calls, and `benchmarks.card` as many of the layers as it has time for.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import eagerconv as ec
from benchmarks.harness import RESULTS, Table, geometric_mean, headline, machine, progress
from benchmarks.layers import CORE, Layer
from eagerconv.kernels_gpu import cuda
from eagerconv.record import OPERANDS
from eagerconv.spec import Slot

SLOTS: dict[str, Slot] = {"forward": "y", "grad inputs": "x", "grad weights": "w"}
LAYOUTS = ("NCHW", "NHWC")
PEERS = ("PyTorch", "PyTorch, benchmark")
ALLOWED = {"float32": 1e-4, "TF32": 5e-3, "float16": 5e-3, "bfloat16": 4e-2}
"""By type: the largest error, relative to the largest true value."""


class Effort(NamedTuple):
    """How often a call is made: before it is timed, in a block that is timed, and how many blocks."""

    warm: int = 5
    calls: int = 20
    rounds: int = 15


FULL, QUICK = Effort(), Effort(2, 10, 5)


class Setting(NamedTuple):
    """How one layer is computed."""

    type: str
    layout: str

    @property
    def dtype(self) -> str:
        return "float32" if self.type == "TF32" else self.type


def on_card(array: np.ndarray, setting: Setting) -> Any:
    """A PyTorch tensor on the card, in the setting's type and layout."""
    import torch

    tensor = torch.from_numpy(array).cuda().to(getattr(torch, setting.dtype))
    nd = array.ndim - 2
    if setting.layout == "NCHW" or nd not in (2, 3):
        return tensor.contiguous()
    return tensor.contiguous(memory_format=torch.channels_last if nd == 2 else torch.channels_last_3d)


def shared(tensors: dict[Slot, Any]) -> dict[Slot, ec.Tensor]:
    """PyTorch's tensors as ours, in the same memory."""
    import cupy

    return {slot: ec.asarray(cupy.from_dlpack(tensor)) for slot, tensor in tensors.items()}


def ours(layer: Layer, tensors: dict[Slot, ec.Tensor], setting: Setting) -> dict[str, Callable[[], Any]]:
    """The public functions."""
    x, w, y = (tensors[slot] for slot in ("x", "w", "y"))
    n = len(layer.size)
    options: dict[str, Any] = {
        "border_mode": tuple((p, p) for p in layer.per_axis(layer.pad)),
        "subsample": layer.per_axis(layer.stride),
        "filter_dilation": layer.per_axis(layer.dilation),
        "num_groups": layer.groups,
        "filter_flip": False,
    }
    convolve, inputs, weights = (
        getattr(ec, f"conv{n}d{tail}") for tail in ("", "_grad_wrt_inputs", "_grad_wrt_weights")
    )
    calls: dict[str, Callable[[], Any]] = {
        "forward": lambda: convolve(x, w, **options),
        "grad inputs": lambda: inputs(y, w, x.shape, **options),
        "grad weights": lambda: weights(x, y, w.shape, **options),
    }

    def within(call: Callable[[], Any]) -> Callable[[], Any]:
        def run() -> Any:
            with ec.using(tf32=setting.type == "TF32"):
                return call()

        return run

    return {name: within(call) for name, call in calls.items()} if setting.type == "TF32" else calls


def pytorch(layer: Layer, tensors: dict[Slot, Any]) -> dict[str, Callable[[], Any]]:
    """PyTorch's convolution and its two gradients."""
    import torch

    x, w, y = (tensors[slot] for slot in ("x", "w", "y"))
    stride, pad, dilation = (list(layer.per_axis(v)) for v in (layer.stride, layer.pad, layer.dilation))
    options = (stride, pad, dilation, False, [0] * len(stride), layer.groups)

    def gradient(which: int) -> Any:
        mask = [which == 0, which == 1, False]
        return torch.ops.aten.convolution_backward(y, x, w, None, *options, mask)[which]

    return {
        "forward": lambda: torch.convolution(x, w, None, *options),
        "grad inputs": lambda: gradient(0),
        "grad weights": lambda: gradient(1),
    }


def microseconds(call: Callable[[], Any], effort: Effort = FULL) -> float:
    """Median time of a call on the card, by its events around blocks of calls."""
    import torch

    for _ in range(effort.warm):
        call()
    samples = []
    for _ in range(effort.rounds):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(effort.calls):
            call()
        stop.record()
        stop.synchronize()
        samples.append(start.elapsed_time(stop) * 1e3 / effort.calls)
    return statistics.median(samples)


def waited_microseconds(call: Callable[[], Any], effort: Effort = FULL) -> float:
    """The same by the host's clock, each block from an idle card to an idle card: where PyTorch's events are not to be had."""
    runtime = cuda.runtime()
    for _ in range(effort.warm):
        call()
    samples = []
    for _ in range(effort.rounds):
        runtime.synchronize()
        start = time.perf_counter()
        for _ in range(effort.calls):
            call()
        runtime.synchronize()
        samples.append((time.perf_counter() - start) * 1e6 / effort.calls)
    return statistics.median(samples)


def host_microseconds(call: Callable[[], Any], calls: int = 1000) -> float:
    """Time of a call on the host: many in a row on a tiny problem, without waiting for the card."""
    runtime = cuda.runtime()
    for _ in range(50):
        call()
    runtime.synchronize()
    start = time.perf_counter()
    for _ in range(calls):
        call()
    seconds = time.perf_counter() - start
    runtime.synchronize()
    return seconds / calls * 1e6


def peaks(types: list[str]) -> dict[str, float]:
    """GFLOP/s of a large matrix product of random numbers in each type."""
    import torch

    found, n = {}, 8192
    for kind in types:
        allow_tf32(kind == "TF32")
        dtype = getattr(torch, "float32" if kind == "TF32" else kind)
        a, b = (torch.randn(n, n, device="cuda").to(dtype) for _ in range(2))
        found[kind] = 2 * n**3 / microseconds(partial(torch.matmul, a, b)) / 1e3
    return found


def allow_tf32(allowed: bool) -> None:
    """Tell PyTorch whether it may round float32 to TF32."""
    import torch

    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed


def measure(layer: Layer, setting: Setting, effort: Effort = FULL) -> list[dict[str, Any]]:
    """One record for each operation."""
    import torch

    allow_tf32(setting.type == "TF32")
    arrays = layer.arrays()
    tensors: dict[Slot, Any] = {slot: on_card(array, setting) for slot, array in arrays.items()}
    double = {slot: tensor.double().contiguous() for slot, tensor in tensors.items()}
    mine, theirs, true = ours(layer, shared(tensors), setting), pytorch(layer, tensors), pytorch(layer, double)
    records = []
    for operation, slot in SLOTS.items():
        truth, own = true[operation](), torch.from_dlpack(mine[operation]().data).double()
        record = checked(layer, setting, operation, float((own - truth).abs().max() / truth.abs().max()))
        record["algorithm"] = ec.explain(mine[operation])[0].chosen
        record["eagerconv"] = microseconds(mine[operation], effort)
        for name, search in zip(PEERS, (False, True), strict=True):
            torch.backends.cudnn.benchmark = search
            record[name] = microseconds(theirs[operation], effort)
        record["gflops"] = layer.operations / record["eagerconv"] / 1e3
        record["bytes"] = sum(tensors[s].nbytes for s in (*OPERANDS[slot], slot))
        records.append(record)
    return records


def checked(layer: Layer, setting: Setting, operation: str, error: float) -> dict[str, Any]:
    """The beginning of a record; a relative error that is no rounding stops the program."""
    if not error < ALLOWED[setting.type]:
        raise SystemExit(f"{layer.name}, {operation}, {setting}: relative error {error:.1e}; nothing was timed")
    return {"layer": layer.name, "operation": operation, **setting._asdict(), "error": error}


def measure_alone(layer: Layer, setting: Setting, effort: Effort = FULL) -> list[dict[str, Any]]:
    """The same without PyTorch: true values are those of the CPU in float64, and nobody is compared with."""
    arrays = {slot: array.astype(setting.dtype) for slot, array in layer.arrays().items()}
    true = ours(layer, {slot: ec.asarray(array.astype(float)) for slot, array in arrays.items()}, setting)
    tensors = {slot: ec.asarray(array).to("cuda") for slot, array in arrays.items()}
    if setting.layout == "NHWC":
        tensors = {slot: ec.asarray(channels_last(tensor.data)) for slot, tensor in tensors.items()}
    mine, records = ours(layer, tensors, setting), []
    for operation in SLOTS:
        truth, own = (calls[operation]().to("cpu").numpy().astype(float) for calls in (true, mine))
        record = checked(layer, setting, operation, float(abs(own - truth).max() / abs(truth).max()))
        record["algorithm"] = ec.explain(mine[operation])[0].chosen
        record["eagerconv"] = waited_microseconds(mine[operation], effort)
        record["gflops"] = layer.operations / record["eagerconv"] / 1e3
        records.append(record)
    return records


def channels_last(array: Any) -> Any:
    """A copy with the channels beside each other, seen with the axes as they are."""
    xp = cuda.runtime().xp
    return xp.moveaxis(xp.ascontiguousarray(xp.moveaxis(array, 1, -1)), -1, 1)


def report(records: list[dict[str, Any]], limits: dict[str, float]) -> list[Table]:
    """A table for each type and layout."""
    tables = []
    for setting in dict.fromkeys(Setting(r["type"], r["layout"]) for r in records):
        part = [r for r in records if (r["type"], r["layout"]) == setting]
        columns = [
            "layer",
            "operation",
            "algorithm",
            "us",
            "% of peak",
            "error",
            "PyTorch, us",
            "ratio",
            "benchmark, us",
            "ratio",
        ]
        table = Table(f"{setting.type}, {setting.layout}", columns)
        for r in part:
            ratios = [r[name] / r["eagerconv"] for name in PEERS]
            percent = 100 * r["gflops"] / limits[setting.type]
            row = [r["layer"], r["operation"], r["algorithm"], r["eagerconv"], percent, f"{r['error']:.0e}"]
            table.rows.append([*row, r["PyTorch"], ratios[0], r["PyTorch, benchmark"], ratios[1]])
        for place, name in ((7, "PyTorch"), (9, "PyTorch with cudnn.benchmark")):
            table.notes.append(
                f"{name} / eagerconv, geometric mean: {geometric_mean(row[place] for row in table.rows):.2f}"
            )
        tables.append(table)
    return tables


TINY = Layer("tiny", 1, 8, (8, 8), 8, (3, 3), 1, 1)


def overhead() -> Table:
    """What a call costs on the host."""
    import torch

    setting = Setting("float32", "NCHW")
    allow_tf32(False)
    tensors: dict[Slot, Any] = {slot: on_card(array, setting) for slot, array in TINY.arrays().items()}
    torch.backends.cudnn.benchmark = False
    table = Table("Host time of a call on 1 x 8 x 8 x 8", ["operation", "us", "PyTorch, us", "ratio"])
    mine, theirs = ours(TINY, shared(tensors), setting), pytorch(TINY, tensors)
    for operation in SLOTS:
        a, b = host_microseconds(mine[operation]), host_microseconds(theirs[operation])
        table.rows.append([operation, a, b, b / a])
    return table


def card() -> dict[str, Any]:
    """The card, its driver and the libraries."""
    import cupy
    import torch

    from eagerconv.kernels_gpu.cudnn_backend import library

    properties = cupy.cuda.runtime.getDeviceProperties(0)
    return {
        "card": properties["name"].decode(),
        "driver": cupy.cuda.runtime.driverGetVersion(),
        "runtime": cupy.cuda.runtime.runtimeGetVersion(),
        "cudnn": library().cudnnGetVersion(),
        "cupy": cupy.__version__,
        "torch": torch.__version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="part of the names of the layers to measure")
    parser.add_argument("--types", nargs="+", default=list(ALLOWED), choices=list(ALLOWED))
    parser.add_argument("--quick", action="store_true", help="time fewer calls")
    parser.add_argument("--save", action="store_true", help="write the figures to benchmarks/results")
    options = parser.parse_args()

    import torch  # first, so that there is one cuDNN in the process: its

    torch.zeros(1, device="cuda")
    layers = [layer for layer in CORE if options.only in layer.name]
    jobs = [(layer, Setting(kind, layout)) for kind in options.types for layout in LAYOUTS for layer in layers]
    limits = peaks(options.types)
    records = [
        r
        for layer, setting in progress(jobs, "layers")
        for r in measure(layer, setting, QUICK if options.quick else FULL)
    ]
    tables = [overhead(), *report(records, limits)]
    facts = {**machine(), **card(), "peaks, GFLOP/s": limits}
    on = ", ".join(f"{name} {facts[name]}" for name in ("card", "driver", "cudnn", "cupy"))
    text = "\n".join(["# Layers on a GPU\n", headline(facts), f"{on}\n", *(table.markdown() for table in tables)])
    print(text)
    if options.save:
        stem = RESULTS / f"{facts['date'][:19].replace(':', '')}-gpu-layers"
        stem.with_suffix(".md").write_text(text)
        stem.with_suffix(".json").write_text(json.dumps({"machine": facts, "records": records}, indent=1, default=str))


if __name__ == "__main__":
    main()
