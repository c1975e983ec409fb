"""Where `fft` overtakes `gemm` and `direct`: median times over kernel sizes, and what the cost model picks.

Times are processor times of one thread, so that a busy machine matters less. With --fit the program measures and prints the
constants of kernels_cpu/fft.py instead (that needs SciPy).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import eagerconv as ec
from eagerconv import geometry
from eagerconv.algorithms import TABLE
from eagerconv.algorithms.policy import Policy
from eagerconv.kernels_cpu import fft
from eagerconv.record import OPERANDS, Request
from eagerconv.spec import ConvSpec, Slot

ALGORITHMS = {a.name: a for a in TABLE["cpu"] if a.name in ("gemm", "fft", "direct")}
SECONDS = 0.2  # per measurement; what is estimated to take longer than LONGEST is not run at all
LONGEST = 2.0


class Case(NamedTuple):
    """A convolution with 'half' padding; channels are per group."""

    name: str
    batch: int
    groups: int
    cin: int
    cout: int
    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: int = 1
    dilation: int = 1

    @property
    def spec(self) -> ConvSpec:
        x = (self.batch, self.groups * self.cin, *self.size)
        w = (self.groups * self.cout, self.cin, *self.kernel)
        n = len(self.size)
        options = ("half", self.stride, True, self.dilation, self.groups, False)
        return geometry.forward(f"conv{n}d", n, x, w, None, None, *options)


CASES = [
    *(Case(f"2-D {k}x{k}, 16 channels", 2, 1, 16, 16, (64, 64), (k, k)) for k in (3, 5, 7, 9, 11, 15, 23, 31, 47)),
    *(Case(f"2-D {k}x{k}, 64 channels", 1, 1, 64, 64, (32, 32), (k, k)) for k in (3, 5, 7, 9, 11, 15, 31)),
    *(Case(f"2-D {k}x{k}, one channel", 1, 1, 1, 1, (256, 256), (k, k)) for k in (3, 7, 15, 31, 63, 127)),
    *(Case(f"2-D depthwise {k}x{k}", 1, 32, 1, 1, (56, 56), (k, k)) for k in (3, 5, 7, 13, 31)),
    *(Case(f"1-D {k}, 16 channels", 2, 1, 16, 16, (4096,), (k,)) for k in (3, 7, 15, 31, 63, 127)),
    *(Case(f"1-D {k} taps, long", 1, 1, 1, 1, (2**18,), (k,)) for k in (16, 64, 256, 1024)),
    Case("2-D 15x15, stride 2", 1, 1, 16, 16, (64, 64), (15, 15), 2),
    Case("2-D 11x11, dilation 2", 1, 1, 16, 16, (64, 64), (11, 11), 1, 2),
    Case("3-D 5x5x5", 1, 1, 8, 8, (24, 24, 24), (5, 5, 5)),
    Case("3-D 9x9x9", 1, 1, 4, 4, (32, 32, 32), (9, 9, 9)),
]


def prepared(spec: ConvSpec, slot: Slot, dtype: str) -> tuple[Request, list[np.ndarray]]:
    """The request and normal operands."""
    rng = np.random.default_rng(0)
    operands = []
    for operand in OPERANDS[slot]:
        a = rng.standard_normal(spec.shape(operand))
        operands.append((a + 1j * a[::-1] if dtype.startswith("c") else a).astype(dtype))
    strides = [tuple(s // a.itemsize for s in a.strides) for a in operands]
    return Request(spec, slot, np.dtype(dtype), (strides[0], strides[1]), 1), operands


def median(function: Callable[[], Any], seconds: float = SECONDS) -> float:
    """Median processor time of a call."""
    samples: list[float] = []
    while len(samples) < 3 or (sum(samples) < seconds and len(samples) < 25):
        start = time.process_time()
        function()
        samples.append(time.process_time() - start)
    return statistics.median(samples)


def times(request: Request, operands: list[np.ndarray]) -> dict[str, float]:
    """Median seconds of every algorithm that is worth running, after its values were checked."""
    found, truth = {}, None
    biggest = abs(operands[0]).max() * abs(operands[1]).sum()
    for name, algorithm in ALGORITHMS.items():
        if algorithm.reason_against(request) or algorithm.cost(request) > LONGEST:
            continue
        plan = algorithm.plan(request)
        result = plan(*operands)
        truth = result if truth is None else truth
        error = abs(result - truth).max() / biggest
        assert error < 1e-5, f"{name} differs by {error} in {request}"
        found[name] = median(lambda plan=plan: plan(*operands))
    return found


def crossover(dtype: str) -> None:
    """Print the table."""
    good, all_ = 0, 0
    print(f"{dtype}, one thread: milliseconds, in brackets the estimate; * fastest, > chosen\n")
    print(f"{'':28} {'slot':4}" + "".join(f"{name:>24}" for name in ALGORITHMS))
    for case in CASES:
        for slot in ("y", "x", "w"):
            request, operands = prepared(case.spec, slot, dtype)
            measured = times(request, operands)
            chosen = ec.algorithms.select(
                request, Policy(exclude=frozenset(set(ec.algorithms.names()) - set(ALGORITHMS)))
            ).name
            best = min(measured, key=lambda name: measured[name])
            all_ += 1
            good += chosen in measured and measured[chosen] <= 1.1 * measured[best]
            row = f"{case.name:28} {slot:4}"
            for name, algorithm in ALGORITHMS.items():
                mark = (">" if name == chosen else " ") + ("*" if name == best else " ")
                taken = f"{measured[name] * 1e3:9.2f}" if name in measured else f"{'':9}"
                row += f" {mark} {taken} ({algorithm.cost(request) * 1e3:8.2f})"
            print(row, flush=True)
    print(f"\nchosen within 10 % of the fastest: {good} of {all_}")


def fit() -> None:
    """Print PRICES: nonnegative least squares of the relative errors over all tile sizes that are not absurd."""
    from scipy.optimize import nnls

    for dtype in fft.PRICES:
        counts, seconds = [], []
        for case in CASES:
            for slot in ("y", "x", "w"):
                request, operands = prepared(case.spec, slot, dtype)
                cheapest = fft.layout(case.spec, slot, request.dtype).seconds
                layouts = {
                    layout.points: layout
                    for most in fft.TILE_SIZES[len(case.size)]
                    if (layout := fft.candidate(case.spec, slot, request.dtype, most)).workspace <= fft.LIMIT
                    and layout.seconds < min(0.3, 6 * cheapest)
                }
                for layout in layouts.values():
                    run = fft.planned(request, layout)
                    run(*operands)
                    counts.append(layout.work)
                    seconds.append(median(lambda run=run, operands=operands: run(*operands), 0.05))
        matrix, measured = np.array(counts), np.array(seconds)
        prices, _ = nnls(matrix / measured[:, None], np.ones(len(measured)))
        ratios = np.percentile(matrix @ prices / measured, [5, 50, 95])
        print(f'    "{dtype}": Work({", ".join(f"{price:.2g}" for price in prices)}),', end="  ")
        print(f"# estimate / time: {ratios[0]:.2f} to {ratios[2]:.2f} in nine of ten", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fit", action="store_true", help="print the constants of the cost model")
    parser.add_argument("--dtype", default="float32", choices=tuple(fft.PRICES))
    arguments = parser.parse_args()
    ec.set_num_threads(1)
    fit() if arguments.fit else crossover(arguments.dtype)
