"""How close unshared convolution comes to memory: bytes of filters per second beside a plain read or copy of as many bytes.

Processor time of one thread. The plain read is `np.sum` over the filters, the plain copy `filters.copy()`: like the gradient
with respect to weights it fills new memory.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import eagerconv as ec
from benchmarks.harness import Table, check, progress


class Layer(NamedTuple):
    """(batch, input channels, *size), output channels, kernel; neither padding nor strides."""

    x: tuple[int, ...]
    filters: int
    kernel: tuple[int, ...]

    def __str__(self) -> str:
        return f"{'x'.join(map(str, self.x))} -> {self.filters}, {'x'.join(map(str, self.kernel))}"

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """x, w and y."""
        rng = np.random.default_rng(0)
        out = tuple(i - k + 1 for i, k in zip(self.x[2:], self.kernel, strict=True))
        shapes = (self.x, (self.filters, *out, self.x[1], *self.kernel), (self.x[0], self.filters, *out))
        x, w, y = (rng.standard_normal(shape, dtype=np.float32) for shape in shapes)
        return x, w, y


LAYERS = [
    Layer((8, 16, 28, 28), 16, (3, 3)),
    Layer((1, 3, 64, 64), 8, (5, 5)),
    Layer((32, 8, 100), 8, (9,)),
    Layer((1, 16, 28, 28), 16, (3, 3)),
    Layer((64, 16, 14, 14), 16, (3, 3)),
    Layer((2, 32, 400), 16, (7,)),
    Layer((2, 8, 12, 12, 12), 8, (3, 3, 3)),
    Layer((1, 32, 64, 64), 32, (3, 3)),  # 142 MB: larger than caches
    Layer((8, 32, 64, 64), 32, (3, 3)),
]


def measure(quick: bool = False) -> Table:
    columns = ["layer", "operation", "filters, MB", "us", "GB/s", "plain read or copy, GB/s", "direct / local"]
    table = Table("Unshared convolution, float32, one thread", columns)
    before = ec.get_num_threads()
    ec.set_num_threads(1)
    try:
        for layer in progress(LAYERS[:2] if quick else LAYERS, "unshared"):
            table.rows += rows(layer, 3 if quick else 9)
    finally:
        ec.set_num_threads(before)
    return table


def rows(layer: Layer, rounds: int) -> list[list[Any]]:
    """One row for each of the three operations."""
    x, w, y = layer.arrays()
    name = f"conv{len(layer.kernel)}d"
    forward, inputs, weights = (getattr(ec, name + tail) for tail in ("", "_grad_wrt_inputs", "_grad_wrt_weights"))
    operations: dict[str, tuple[Callable[[str], Any], Callable[[], Any]]] = {
        "forward": (lambda how: forward(x, w, unshared=True, algorithm=how).data, w.sum),
        "grad inputs": (lambda how: inputs(y, w, x.shape, unshared=True, algorithm=how).data, w.sum),
        "grad weights": (lambda how: weights(x, y, w.shape, unshared=True, algorithm=how).data, w.copy),
    }
    result = []
    for operation, (call, plain) in operations.items():
        check(f"{layer}, {operation}", call("local"), call("direct"))
        calls = {"local": lambda c=call: c("local"), "plain": plain, "direct": lambda c=call: c("direct")}
        local, moved, direct = processor_seconds(calls, rounds).values()
        speeds = [w.nbytes / local / 1e9, w.nbytes / moved / 1e9, direct / local]
        result.append([str(layer), operation, w.nbytes / 1e6, 1e6 * local, *speeds])
    return result


def processor_seconds(functions: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """The least processor time per call of each, in turns: on a busy machine it says more than the clock on the wall."""
    best = dict.fromkeys(functions, math.inf)
    for _ in range(rounds):
        for name, function in functions.items():
            calls, start = 0, time.process_time()
            while (elapsed := time.process_time() - start) < 0.02:  # the system may count in steps of milliseconds
                function()
                calls += 1
            best[name] = min(best[name], elapsed / calls)
    return best


if __name__ == "__main__":
    print(measure().markdown())
