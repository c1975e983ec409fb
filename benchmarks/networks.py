"""Whole networks beside PyTorch: `python -m benchmarks.networks [--only MobileNet --quick --save --avx2 --compile]`.

A training step (loss, gradients, gradient descent with momentum) and inference (running statistics, nothing recorded) of the
networks of `models.py` in float32, beside PyTorch in both layouts of images, with `--compile` through torch.compile, and beside
ONNX Runtime where it is installed. Before anything is timed, the loss, all gradients and, after the step, what is inferred must
agree in float64 at a small size. The peak of memory of a step is taken in a process for each library.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import eagerconv as ec
from benchmarks.harness import (
    ALONE,
    HAVE_TORCH,
    RESULTS,
    Table,
    geometric_mean,
    headline,
    hold_to_avx2,
    interleaved,
    machine,
    progress,
    relative_error,
    save,
)
from benchmarks.libraries import MOMENTUM, ChannelsLast, Compiled, Ours, Theirs
from benchmarks.models import NETWORKS, Layers, Network

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES: dict[str, Callable[[], Any]] = {lib.name: lib for lib in (Ours, Theirs, ChannelsLast, Compiled)}
MODES = [Theirs.name, ChannelsLast.name, Compiled.name]
ONNX = "ONNX Runtime"
STEP, INFERENCE = "step", "inference"

Record = dict[str, Any]  # one network: JSON as it stands


class Model:
    """A network in one library, with its parameters and data: the same numbers in each."""

    def __init__(self, lib: Any, network: Network, shape: tuple[int, ...], dtype: Any) -> None:
        self.lib, self.network = lib, network
        self.leaves: list[Any] = []
        self.running: list[dict[str, Any]] = []
        rng = np.random.default_rng(0)
        self.inputs = lib.data(rng.standard_normal(shape).astype(dtype))
        layers = self.layers(training=False)
        layers.rng, layers.dtype = rng, dtype
        with lib.no_grad():
            outputs = network.forward(layers, self.inputs)
        self.target = lib.data(network.target(rng, tuple(outputs.shape), dtype))
        self.optimizer = lib.sgd(self.leaves, MOMENTUM)
        self._loss = lib.prepared(lambda x, target: network.loss(self.layers(True), x, target))
        self._forward = lib.prepared(lambda x: network.forward(self.layers(False), x))

    def layers(self, training: bool) -> Layers:
        return Layers(self.lib, self.leaves, self.running, training)

    def step(self) -> float:
        self.optimizer.zero_grad()
        loss = self._loss(self.inputs, self.target)
        loss.backward()
        self.optimizer.step()
        return float(self.lib.numpy(loss))

    def infer(self) -> Any:
        with self.lib.inference():
            return self._forward(self.inputs)


# ----------------------------------------------------------------------------------------------------------------- checks


def agree(network: Network, libraries: list[str]) -> float:
    """The largest relative difference of anything in float64 at a small size; stops the program if it is not rounding."""
    found: dict[str, list[np.ndarray]] = {}
    for name in libraries:
        model = Model(LIBRARIES[name](), network, network.small, np.float64)
        loss, lib = model.step(), model.lib
        found[name] = [np.asarray(loss), *(lib.numpy(leaf.grad) for leaf in model.leaves), lib.numpy(model.infer())]
    mine = found.pop(Ours.name)
    worst = 0.0
    # A shift in front of a normalisation changes nothing: its gradient is rounding, and compared with the others' size.
    least = 1e-4 * max(float(np.abs(value).max()) for value in mine[1:-1])
    for name, values in found.items():
        where = f"{network.name}, {name}"
        for i, (value, truth) in enumerate(zip(values, mine, strict=True)):
            what = {0: "loss", len(mine) - 1: "inference"}.get(i, f"gradient of parameter {i - 1}, {truth.shape}")
            error = relative_error(f"{where}, {what}", value, truth, least)
            if not error < 1e-8:
                raise SystemExit(f"{where}: {what} differs by {error:.1e}; nothing was timed")
            worst = max(worst, error)
    return worst


def compiles(network: Network) -> bool:
    """Whether torch.compile takes it; what it can't it says in many ways."""
    try:
        agree(network, [Ours.name, Compiled.name])
    except Exception as error:
        print(f"{network.name}: torch.compile fails: {str(error).strip().splitlines()[0]}", file=sys.stderr)
        return False
    return True


# ----------------------------------------------------------------------------------------------------------------- memory


def peak(network: Network, library: str, quick: bool) -> float:
    """MB of a process that trains, at most, above those it has when it has imported the library.

    So of parameters, gradients, velocities, what is kept for the gradients, and of code that is loaded late.
    """
    command = [sys.executable, "-m", "benchmarks.networks", "--peak", network.name, library]
    command += ["--quick"] if quick else []
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[2:])} failed:\n{done.stderr}")
    return float(done.stdout.splitlines()[-1])


def print_peak(name: str, library: str, quick: bool) -> None:
    """What `peak` starts in a process of its own."""
    [network] = [network for network in NETWORKS if network.name == name]
    lib = LIBRARIES[library]()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _status("VmRSS")
    model = Model(lib, network, network.small if quick else network.shape, np.float32)
    for _ in range(3):
        model.step()
    print((_status("VmHWM") - before) * 1024 / 1e6)


def _status(name: str) -> int:
    """A number of KiB that Linux knows of this process."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name)]
    return int(line.split()[1])


def tells_peaks() -> bool:
    return Path("/proc/self/clear_refs").exists()


# ---------------------------------------------------------------------------------------------------------------- measure


def onnx_runtime(model: Model) -> Callable[[], Any]:
    """The network with its parameters as constants, exported by PyTorch."""
    import onnxruntime

    pt, leaves = model.lib.torch, [w.detach() for w in model.leaves]

    class Module(pt.nn.Module):  # type: ignore[misc,name-defined]  # PyTorch may be absent
        def forward(self, x: Any) -> Any:
            return model.network.forward(Layers(model.lib, leaves, model.running, False), x)

    written = io.BytesIO()
    pt.onnx.export(Module(), (model.inputs,), written, input_names=["x"], opset_version=17, dynamo=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = ec.get_num_threads()
    session = onnxruntime.InferenceSession(written.getvalue(), options, providers=["CPUExecutionProvider"])
    feed = {"x": model.lib.numpy(model.inputs)}
    return lambda: session.run(None, feed)[0]


def measure_network(network: Network, libraries: list[str], onnx: bool, quick: bool, memory: bool) -> Record:
    """The record of a network; stops the program where a value is wrong."""
    mode_of_images = [name for name in libraries if name != ChannelsLast.name or len(network.shape) > 3]
    names = [name for name in mode_of_images if name != Compiled.name or compiles(network)]
    record: Record = {
        "network": network.name,
        "shape": network.small if quick else network.shape,
        "difference": agree(network, names),
    }
    models = {
        name: Model(LIBRARIES[name](), network, network.small if quick else network.shape, np.float32) for name in names
    }
    record["parameters"] = sum(int(np.prod(leaf.shape)) for leaf in models[Ours.name].leaves)
    losses = {name: model.step() for name, model in models.items()}
    if not np.allclose(list(losses.values()), losses[Ours.name], rtol=1e-3):
        raise SystemExit(f"{network.name}: the losses in float32 differ: {losses}; nothing was timed")
    steps: dict[str, Callable[[], Any]] = {name: model.step for name, model in models.items()}
    calls: dict[str, Callable[[], Any]] = {name: model.infer for name, model in models.items()}
    if onnx:
        calls[ONNX] = onnx_runtime(models[Theirs.name])
        error = relative_error(f"{network.name}, {ONNX}", calls[ONNX](), models[Theirs.name].infer())
        if not error < 1e-3:
            raise SystemExit(f"{network.name}, {ONNX}: inference differs by {error:.1e}; nothing was timed")
    effort: dict[str, Any] = (
        {"rounds": 3, "seconds": 0.001, "most": 1.0} if quick else {"rounds": 7, "seconds": 0.4, "most": 30.0}
    )
    record[STEP] = interleaved(steps, **effort, pause=0.05)
    record[INFERENCE] = interleaved(calls, **effort, pause=0.05)
    if memory:
        models.clear()
        steps.clear()
        calls.clear()
        record["peak"] = {name: peak(network, name, quick) for name in names}
    return record


def measure(
    quick: bool = False, only: str = "", compiled: bool = False, memory: bool = True, peers: bool = True
) -> list[Record]:
    """The records of every network whose name contains `only`; of ours alone where there is no peer."""
    chosen = [network for network in NETWORKS if only.lower() in network.name.lower()]
    if not chosen:
        raise SystemExit(f"no network's name contains {only!r}; there are {', '.join(n.name for n in NETWORKS)}")
    peers = peers and HAVE_TORCH
    libraries = [Ours.name, *(MODES if compiled else MODES[:2])] if peers else [Ours.name]
    onnx = peers and all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime"))
    records = []
    bar = progress(chosen, "networks")
    for network in bar:
        if hasattr(bar, "set_postfix_str"):
            bar.set_postfix_str(network.name)
        records.append(measure_network(network, libraries, onnx, quick, memory and tells_peaks()))
    return records


# ----------------------------------------------------------------------------------------------------------------- report


def ratio(record: Record, what: str) -> float | None:
    """The time of PyTorch's best mode divided by ours."""
    theirs = [record[what][name] for name in MODES if name in record[what]]
    return min(theirs) / record[what][Ours.name] if theirs else None


def table(records: list[Record], suffix: str = "") -> Table:
    """One row for each network; a ratio above 1 says that we are faster."""
    columns = ["network", "inputs"]
    measured = {what: _columns(records, what) for what in (STEP, INFERENCE)}
    compared = any(ratio(record, STEP) for record in records)
    for what, names in measured.items():
        columns += [f"{what}, ms: {name}" if name == Ours.name else name for name in names]
        columns += ["ratio"] if compared else []
    with_peaks = _columns(records, "peak")
    columns += [f"peak of a step, MB: {name}" if name == Ours.name else name for name in with_peaks]
    result = Table(f"Networks{suffix}, float32", columns)
    for record in records:
        row: list[Any] = [record["network"], "x".join(map(str, record["shape"]))]
        for what, names in measured.items():
            row += [1e3 * record[what][name] if name in record[what] else None for name in names]
            row += [ratio(record, what)] if compared else []
        result.rows.append(row + [record["peak"].get(name) for name in with_peaks])
    if not compared:
        result.notes.append(ALONE)
        return result
    result.notes.append("Ratios: PyTorch's best mode / eagerconv. " + " ".join(means(records)))
    result.notes.append(f"In float64 all agrees within {max(record['difference'] for record in records):.0e}.")
    return result


def _columns(records: list[Record], what: str) -> list[str]:
    """Who was measured, in the order of the first who were."""
    return list(dict.fromkeys(name for record in records for name in record.get(what, ())))


def means(records: list[Record]) -> list[str]:
    """Geometric means of the ratios, and the least."""
    told = []
    for what in (STEP, INFERENCE):
        ratios = {record["network"]: ratio(record, what) or 0.0 for record in records}
        least = min(ratios, key=lambda name: ratios[name])
        told.append(
            f"Geometric mean, {what}: {geometric_mean(ratios.values()):.2f}, least {ratios[least]:.2f} ({least})."
        )
        onnx = [record[what][ONNX] / record[what][Ours.name] for record in records if ONNX in record[what]]
        told += [f"{ONNX} / eagerconv: {geometric_mean(onnx):.2f}."] if onnx else []
    return told


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="networks whose name contains this text")
    parser.add_argument("--quick", action="store_true", help="small images, few rounds: to see that all works")
    parser.add_argument("--alone", action="store_true", help="without other libraries")
    parser.add_argument("--compile", action="store_true", help="torch.compile as well, which takes minutes")
    parser.add_argument("--no-peak", action="store_true", help="leave out the peaks of memory")
    parser.add_argument("--avx2", action="store_true", help="hold us and PyTorch to AVX2")
    parser.add_argument("--save", action="store_true", help=f"write Markdown and JSON into {RESULTS.name}/")
    parser.add_argument("--peak", nargs=2, metavar=("NETWORK", "LIBRARY"), help="print this peak in MB, and no more")
    args = parser.parse_args(arguments)
    if args.avx2:
        hold_to_avx2("benchmarks.networks")
    if args.peak:
        print_peak(*args.peak, args.quick)
        return
    facts = machine()
    records = measure(args.quick, args.only, args.compile, not args.no_peak, not args.alone)
    text = "\n".join([headline(facts), table(records, " held to AVX2" if args.avx2 else "").markdown()])
    print(text)
    if args.save:
        save(f"networks{'-avx2' if args.avx2 else ''}", facts, text, {"networks": records})


if __name__ == "__main__":
    main()
