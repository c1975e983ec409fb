"""One training step of ResNet-50 here and in PyTorch: `python -m benchmarks.resnet [--batch 8 --size 224 --device cuda]`.

Bottlenecks of convolutions with a gain and a bias per channel in place of batch normalisation (Brock et al.,
"Characterizing signal propagation to close the performance gap in unnormalized ResNets", 2021), rectifiers and residuals;
cross-entropy; plain gradient descent. Both libraries do the same operations. Before the float32 network is timed, the loss
and all gradients must agree in float64 at a small size, and the losses of the first steps in float32.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.harness import ALONE, HAVE_TORCH, RESULTS, Table, headline, interleaved, machine, relative_error, save
from benchmarks.libraries import Ours, Theirs

STAGES = ((3, 64), (4, 128), (6, 256), (3, 512))
"""(blocks, inner channels); a block gives out four times as many."""
CLASSES = 1000
RESIDUAL_GAIN = 0.2


def parameters(dtype: Any) -> list[np.ndarray]:
    """Filters, gains and biases in the order in which `logits` takes them; variance is kept (He et al., 2015)."""
    rng = np.random.default_rng(0)
    values: list[np.ndarray] = []

    def conv(cout: int, cin: int, kernel: int, gain: float = 1.0) -> None:
        deviation = (2 / (cin * kernel**2)) ** 0.5
        values.append((deviation * rng.standard_normal((cout, cin, kernel, kernel))).astype(dtype))
        values.append(np.full((cout, 1, 1, 1), gain, dtype))
        values.append(np.zeros(cout, dtype))

    conv(64, 3, 7)
    cin = 64
    for blocks, inner in STAGES:
        for block in range(blocks):
            if block == 0:
                conv(4 * inner, cin, 1)
            conv(inner, cin, 1)
            conv(inner, inner, 3)
            conv(4 * inner, inner, 1, RESIDUAL_GAIN)
            cin = 4 * inner
    values.append((rng.standard_normal((CLASSES, cin)) / cin**0.5).astype(dtype))
    values.append(np.zeros(CLASSES, dtype))
    return values


def logits(lib: Any, images: Any, leaves: Iterator[Any]) -> Any:
    """The network; it takes its parameters in turn."""

    def conv(x: Any, stride: int = 1, pad: int = 0, rectified: bool = False) -> Any:
        filters, gain, bias = next(leaves), next(leaves), next(leaves)
        return lib.conv(x, filters * gain, bias, stride, pad, rectified=rectified)

    x = conv(images, 2, 3, rectified=True)
    x = lib.max_pool(x, 3, 2, 1)
    for stage, (blocks, _) in enumerate(STAGES):
        for block in range(blocks):
            stride = 2 if block == 0 and stage > 0 else 1
            shortcut = conv(x, stride) if block == 0 else x
            inner = conv(x, rectified=True)
            inner = conv(inner, stride, 1, rectified=True)
            x = lib.relu(conv(inner) + shortcut)
    return lib.linear(lib.mean(x), next(leaves), next(leaves))


def training(lib: Any, batch: int, size: int, dtype: Any) -> tuple[Callable[[], float], list[Any]]:
    """A function that does one step and gives out the loss before it, and the parameters."""
    rng = np.random.default_rng(1)
    images = lib.data(rng.standard_normal((batch, 3, size, size)).astype(dtype))
    labels = lib.data(rng.integers(0, CLASSES, batch))
    leaves = [lib.leaf(value) for value in parameters(dtype)]
    optimizer = lib.sgd(leaves)

    def step() -> float:
        optimizer.zero_grad()
        loss = lib.cross_entropy(logits(lib, images, iter(leaves)), labels)
        loss.backward()
        optimizer.step()
        return float(lib.numpy(loss))

    return step, leaves


def agree(device: str) -> float:
    """The largest relative difference of any gradient in float64 at a small size; stops the program if it is not rounding."""
    gradients, losses = [], []
    for lib in (Ours(device), Theirs(device)):
        step, leaves = training(lib, 2, 64, np.float64)
        losses.append(step())
        gradients.append([lib.numpy(leaf.grad) for leaf in leaves])
    worst = max(relative_error("gradient", a, b) for a, b in zip(*gradients, strict=True))
    if not (worst < 1e-8 and abs(losses[0] / losses[1] - 1) < 1e-10):
        raise SystemExit(f"losses {losses}, gradients differ by {worst:.1e} of the largest; nothing was timed")
    return worst


def measure(batch: int, size: int, quick: bool = False, device: str = "cpu") -> Table:
    """A step ends when its loss is on the host, so the card has done all of it."""
    libraries = [Ours(device), *([Theirs(device)] if HAVE_TORCH else [])]
    where = "" if device == "cpu" else ", on the GPU"
    table = Table(
        f"A training step of ResNet-50, {batch} images of {size} x {size}, float32{where}",
        ["library", "ms", "images/s"],
    )
    if HAVE_TORCH:
        table.notes.append(
            f"In float64 the gradients agree within {agree(device):.0e} of the largest of each parameter."
        )
    steps = {lib.name: training(lib, batch, size, np.float32)[0] for lib in libraries}
    losses = {name: [step() for _ in range(3)] for name, step in steps.items()}
    for name, values in losses.items():
        if not np.allclose(values, losses["eagerconv"], rtol=1e-3):
            raise SystemExit(f"the losses differ: {losses}; nothing was timed ({name})")
    seconds = interleaved(steps, rounds=3 if quick else 5, seconds=0.01 if quick else 3, pause=0.05, most=90)
    for name, taken in seconds.items():
        table.rows.append([name, 1e3 * taken, batch / taken])
    if HAVE_TORCH:
        table.notes.append(f"PyTorch / eagerconv: {seconds['PyTorch'] / seconds['eagerconv']:.2f}")
    else:
        table.notes.append(ALONE)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--quick", action="store_true", help="few rounds")
    parser.add_argument("--save", action="store_true", help=f"write Markdown and JSON into {RESULTS.name}/")
    args = parser.parse_args()
    facts = machine()
    if args.device == "cuda":
        from benchmarks.gpu_layers import card

        facts |= card()
    table = measure(args.batch, args.size, args.quick, args.device)
    text = "\n".join([headline(facts), table.markdown()])
    print(text)
    if args.save:
        values = {"columns": table.columns, "rows": table.rows, "notes": table.notes}
        save(f"resnet{'' if args.device == 'cpu' else '-cuda'}", facts, text, {"resnet": values})


if __name__ == "__main__":
    main()
