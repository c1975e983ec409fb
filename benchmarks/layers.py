"""Layers of well-known networks: forward, gradient with respect to inputs, and with respect to weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from harness import ALONE, HAVE_TORCH, Table, check, geometric_mean, interleaved, progress, torch

import eagerconv as ec

OPERATIONS = ("forward", "grad inputs", "grad weights")


class Layer(NamedTuple):
    """Square images and filters."""

    name: str
    batch: int
    cin: int
    size: int
    cout: int
    kernel: int
    stride: int = 1
    pad: int = 0
    groups: int = 1

    @property
    def out(self) -> int:
        return (self.size + 2 * self.pad - self.kernel) // self.stride + 1

    @property
    def operations(self) -> int:
        """Multiplications and additions of any of the three, computed directly."""
        return 2 * self.batch * self.cout * self.out**2 * (self.cin // self.groups) * self.kernel**2

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Input, filters, and the cotangent of the output."""
        rng = np.random.default_rng(0)
        shapes = (
            (self.batch, self.cin, self.size, self.size),
            (self.cout, self.cin // self.groups, self.kernel, self.kernel),
            (self.batch, self.cout, self.out, self.out),
        )
        x, w, g = (rng.standard_normal(shape, dtype=np.float32) for shape in shapes)
        return x, w, g


LAYERS = [
    Layer("ResNet stem 7x7 s2", 8, 3, 224, 64, 7, stride=2, pad=3),
    Layer("ResNet 3x3 at 56", 8, 64, 56, 64, 3, pad=1),
    Layer("ResNet 1x1 at 56", 8, 64, 56, 256, 1),
    Layer("ResNet 3x3 at 28", 8, 128, 28, 128, 3, pad=1),
    Layer("ResNet 3x3 s2 at 56", 8, 128, 56, 128, 3, stride=2, pad=1),
    Layer("ResNet 3x3 at 14", 8, 256, 14, 256, 3, pad=1),
    Layer("ResNet 3x3 at 7", 8, 512, 7, 512, 3, pad=1),
    Layer("ResNet 1x1 at 7", 8, 2048, 7, 512, 1),
    Layer("MobileNet depthwise 3x3", 8, 144, 56, 144, 3, pad=1, groups=144),
    Layer("ResNeXt 3x3, 32 groups", 8, 128, 56, 128, 3, pad=1, groups=32),
    Layer("LeNet 5x5", 64, 1, 28, 20, 5),
]


def measure(quick: bool = False) -> Table:
    peer = ["PyTorch, ms", "PyTorch GFLOP/s", "PyTorch / eagerconv"] if HAVE_TORCH else []
    table = Table("Layers, float32", ["layer", "operation", "algorithm", "ms", "GFLOP/s", *peer])
    ratios: dict[str, list[float]] = {operation: [] for operation in OPERATIONS}
    for layer in progress(LAYERS[1::7] if quick else LAYERS, "layers"):
        x, w, g = layer.arrays()
        libraries = {"eagerconv": ours(layer, x, w, g)} | ({"PyTorch": theirs(layer, x, w, g)} if HAVE_TORCH else {})
        truth = reference(layer, x, w, g)
        for operation in OPERATIONS:
            for name, calls in libraries.items():
                value = np.asarray(calls[operation]())
                check(f"{layer.name}, {operation}, {name}", value[: len(truth[operation])], truth[operation])
            times = interleaved({name: c[operation] for name, c in libraries.items()}, rounds=3 if quick else 7)
            row: list[Any] = [layer.name, operation, algorithm(libraries["eagerconv"][operation])]
            for seconds in times.values():
                row += [1e3 * seconds, layer.operations / seconds / 1e9]
            if HAVE_TORCH:
                ratios[operation].append(times["PyTorch"] / times["eagerconv"])
                row.append(ratios[operation][-1])
            table.rows.append(row)
    if HAVE_TORCH:
        means = ", ".join(f"{operation} {geometric_mean(values):.2f}" for operation, values in ratios.items())
        everything = [value for values in ratios.values() for value in values]
        table.notes.append(f"PyTorch / eagerconv, geometric means: {means}, all {geometric_mean(everything):.2f}.")
        table.notes.append("A ratio above 1 says that we are faster.")
    else:
        table.notes.append(ALONE)
    return table


def reference(layer: Layer, x: np.ndarray, w: np.ndarray, g: np.ndarray) -> dict[str, np.ndarray]:
    """What is right, by plain loops in float64: of one image, but of the gradient of the weights, a sum over all."""
    x64, w64, g64 = (array.astype(np.float64) for array in (x, w, g))
    images = {"forward": 1, "grad inputs": 1, "grad weights": layer.batch}
    return {
        operation: ours(layer._replace(batch=n), x64[:n], w64, g64[:n], algorithm="direct")[operation]()
        for operation, n in images.items()
    }


def ours(layer: Layer, x: np.ndarray, w: np.ndarray, g: np.ndarray, **options: Any) -> dict[str, Callable[[], Any]]:
    tx, tw, tg = ec.asarray(x), ec.asarray(w), ec.asarray(g)
    options |= {"border_mode": layer.pad, "subsample": layer.stride, "num_groups": layer.groups, "filter_flip": False}
    return {
        "forward": lambda: ec.conv2d(tx, tw, **options).data,
        "grad inputs": lambda: ec.conv2d_grad_wrt_inputs(tg, tw, tx.shape, **options).data,
        "grad weights": lambda: ec.conv2d_grad_wrt_weights(tx, tg, tw.shape, **options).data,
    }


def theirs(layer: Layer, x: np.ndarray, w: np.ndarray, g: np.ndarray) -> dict[str, Callable[[], Any]]:
    pt = torch()
    tx, tw, tg = (pt.from_numpy(array) for array in (x, w, g))
    stride, pad, groups = [layer.stride] * 2, [layer.pad] * 2, layer.groups

    def gradient(which: int) -> Any:
        mask = [which == 0, which == 1, False]
        return pt.ops.aten.convolution_backward(tg, tx, tw, None, stride, pad, [1, 1], False, [0, 0], groups, mask)[
            which
        ]

    return {
        "forward": lambda: pt.conv2d(tx, tw, None, stride, pad, [1, 1], groups),
        "grad inputs": lambda: gradient(0),
        "grad weights": lambda: gradient(1),
    }


def algorithm(call: Callable[[], Any]) -> str:
    """Which of our algorithms is chosen."""
    return str(ec.explain(call)[0].chosen)


if __name__ == "__main__":
    print(measure().markdown())
