"""Cliffs: kinds of calls that some library was reported to do many times slower than it could, beside PyTorch on one thread.

Each kind is shown by a shape: filters and strides far larger than networks have, few channels, taps that only meet padding,
arrays that lie in memory otherwise than usual, dtypes beside float32, and sizes that never come back. Processor time, as in
unshared.py; `first call` is the first one in the process, with its planning, and with compiling where kernels are not on disk.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

import eagerconv as ec
from benchmarks.harness import ALONE, HAVE_TORCH, Table, check, progress, torch
from benchmarks.layers import Layer
from benchmarks.peers import Arrays, ours, pytorch
from benchmarks.unshared import processor_seconds

Call = Callable[[], Any]
ALL = ("forward", "grad inputs", "grad weights")
WIDE = {"i": "int64", "u": "int64", "f": "float64", "c": "complex128"}


class Cliff(NamedTuple):
    """One operation of a layer, in a dtype, with arrays that lie in memory as usual or not."""

    layer: Layer
    operation: str = "forward"
    dtype: str = "float32"
    layout: str = ""

    def __str__(self) -> str:
        words = [self.layer.name, self.operation, self.dtype if self.dtype != "float32" else "", self.layout]
        return ", ".join(filter(None, words))

    def arrays(self) -> Arrays:
        """x, w and y."""
        found: Arrays = {}
        rng, dtype = np.random.default_rng(0), np.dtype(self.dtype)
        for slot, normal in self.layer.arrays().items():
            a = normal
            if dtype.kind in "iu":
                a = rng.integers(0 if dtype.kind == "u" else -7, 8, a.shape)
            elif dtype.kind == "c":
                a = a + 1j * a[::-1]
            a = a.astype(dtype)
            if self.layout == "channels-last" and slot != "w":
                a = np.moveaxis(np.moveaxis(a, 1, -1).copy(), -1, 1)
            elif self.layout == "one number" and slot == "y":
                a = np.broadcast_to(a[:1, :1, :1, :1], a.shape)
            found[slot] = a
        return found


def cliffs(layer: Layer, *operations: str, **options: str) -> list[Cliff]:
    """Some operations of a layer."""
    return [Cliff(layer, operation, **options) for operation in operations]


LONG = Layer("2,048 taps, stride 600", 1, 1, (120_000,), 1, (2048,), stride=600, pad=1024, transposed=True)
PATCHES = Layer("patches of 32x32", 8, 3, (224, 224), 768, (32, 32), stride=32)
UPSAMPLING = Layer("FCN upsampling", 1, 21, (544, 544), 21, (64, 64), stride=32, pad=16, groups=21, transposed=True)
FLAT = Layer("7x7 on height 1", 8, 64, (1, 256), 64, (7, 7), pad=3)
DEPTHWISE = Layer("depthwise 3x3", 4, 64, (56, 56), 64, (3, 3), pad=1, groups=64)
PLAIN = Layer("3x3, 64 channels", 1, 64, (56, 56), 64, (3, 3), pad=1)

CLIFFS = [
    *cliffs(LONG, "forward"),
    *cliffs(Layer("500,001 taps", 1, 1, (500_100,), 1, (500_001,)), "forward"),
    *cliffs(PATCHES, *ALL),
    *cliffs(UPSAMPLING, "forward"),
    *cliffs(Layer("1x1x1, 32 to 4", 1, 32, (32, 64, 64), 4, (1, 1, 1)), "forward", "grad inputs"),
    *cliffs(Layer("1x1, 64 to 3", 8, 64, (56, 56), 3, (1, 1)), "forward", "grad weights"),
    *cliffs(FLAT, *ALL),
    *cliffs(DEPTHWISE, *ALL, layout="channels-last"),
    *cliffs(DEPTHWISE, "grad weights", layout="one number"),
    *(Cliff(PLAIN, dtype=dtype) for dtype in ("int8", "uint8", "int32", "int64", "complex64")),
    *cliffs(Layer("speech encoder, 16 taps", 4, 1, (16_000,), 256, (16,), stride=8), *ALL),
    *cliffs(Layer("5x5, dilation 2", 8, 64, (56, 56), 64, (5, 5), pad=4, dilation=2), *ALL),
    *cliffs(Layer("1x1, stride 2", 8, 64, (56, 56), 128, (1, 1), stride=2), *ALL),
    *cliffs(Layer("depthwise 7x7, stride 5", 4, 64, (112, 112), 64, (7, 7), stride=5, pad=3, groups=64), *ALL),
]


def measure(quick: bool = False) -> Table:
    table = Table(
        "Cliffs: milliseconds of one thread",
        ["call", "eagerconv", *(["PyTorch", "PyTorch / eagerconv"] if HAVE_TORCH else []), "first call"],
        notes=["A ratio above 1 says that we are faster." if HAVE_TORCH else ALONE],
    )
    before, rounds = ec.get_num_threads(), 2 if quick else 9
    ec.set_num_threads(1)
    try:
        for cliff in progress(CLIFFS[::6] if quick else CLIFFS, "cliffs"):
            table.rows.append(row(cliff, rounds))
        table.rows.append(new_sizes(rounds))
    finally:
        ec.set_num_threads(before)
    return table


def row(cliff: Cliff, rounds: int) -> list[Any]:
    """The figures of one call, its values checked first: against direct sums in the widest dtype of the kind."""
    arrays = cliff.arrays()
    wide: Arrays = {slot: a.astype(WIDE[a.dtype.kind]) for slot, a in arrays.items()}
    calls = {"eagerconv": ours(cliff.layer, arrays)[cliff.operation]}
    start = time.perf_counter()
    values = {"eagerconv": calls["eagerconv"]()}
    first = time.perf_counter() - start
    truth = ours(cliff.layer, wide, algorithm="direct")[cliff.operation]()
    if np.dtype(cliff.dtype).kind in "iu":
        truth = truth.astype(cliff.dtype)  # sums wrap around
    if HAVE_TORCH:
        calls["PyTorch"] = theirs(cliff, arrays)
        values["PyTorch"] = calls["PyTorch"]().numpy()
    for name, value in values.items():
        check(f"{name}, {cliff}", value, truth)
    return figures(str(cliff), calls, rounds, first)


def figures(name: str, calls: dict[str, Call], rounds: int, first: float | None) -> list[Any]:
    times = [1e3 * seconds for seconds in processor_seconds(calls, rounds).values()]
    return [name, *times, *([times[1] / times[0]] if HAVE_TORCH else []), None if first is None else 1e3 * first]


def theirs(cliff: Cliff, arrays: Arrays) -> Call:
    """PyTorch's; of complex numbers by the function that users call, as the operator under it knows none."""
    if np.dtype(cliff.dtype).kind != "c":
        return pytorch(cliff.layer, arrays)[cliff.operation]
    pt = torch()
    x, w = pt.from_numpy(arrays["x"]), pt.from_numpy(arrays["w"])
    return lambda: pt.nn.functional.conv2d(x, w, padding=cliff.layer.pad)


def new_sizes(rounds: int) -> list[Any]:
    """Images of another size at every call, each planned anew."""
    rng = np.random.default_rng(0)
    w, pixels = rng.standard_normal((32, 16, 3, 3), dtype=np.float32), rng.standard_normal(1 << 20, dtype=np.float32)

    def images() -> Iterator[np.ndarray]:
        for rows, columns in itertools.product(range(16, 64), range(20, 60)):
            yield pixels[: 16 * rows * columns].reshape(1, 16, rows, columns)

    def over(function: Callable[[Any], Any], sizes: Iterator[np.ndarray]) -> Call:
        return lambda: function(next(sizes))

    calls = {"eagerconv": over(lambda x: ec.conv2d(x, w, border_mode=1, filter_flip=False).data, images())}
    if HAVE_TORCH:
        pt = torch()
        filters = pt.from_numpy(w)
        calls["PyTorch"] = over(lambda x: pt.conv2d(pt.from_numpy(x), filters, padding=1), images())
        check("a new size at every call", calls["eagerconv"](), calls["PyTorch"]().numpy())
    return figures("3x3 with images of a new size at every call", calls, min(rounds, 5), None)


if __name__ == "__main__":
    print(measure().markdown())
