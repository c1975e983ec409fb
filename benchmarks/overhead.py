"""What a call costs besides arithmetic: a 3x3 convolution of one 5x5 image, plain, recorded, and with its gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import eagerconv as ec
from benchmarks.harness import ALONE, HAVE_TORCH, Table, check, interleaved, progress, torch

Calls = dict[str, Callable[[], Any]]  # by what they do; each gives out what can be checked


def measure(quick: bool = False) -> Table:
    rng = np.random.default_rng(0)
    x, w, g = (rng.standard_normal((1, 1, n, n), dtype=np.float32) for n in (5, 3, 3))
    # Without flip: y[o] = sum x[o + k] * w[k], so the gradient of the filters is dw[k] = sum x[o + k] * g[o].
    windows = np.lib.stride_tricks.sliding_window_view(x[0, 0].astype(np.float64), (3, 3))  # (3, 3, 3, 3): o, k
    y = np.einsum("opkl,kl->op", windows, w[0, 0])[None, None]
    dw = np.einsum("opkl,op->kl", windows, g[0, 0])[None, None]

    libraries = {"eagerconv": ours(x, w, g)} | ({"PyTorch": theirs(x, w, g)} if HAVE_TORCH else {})
    truth = {"plain": y, "recorded": y, "forward + backward": dw}
    table = Table(
        "Per-call overhead: conv2d of 1x1x5x5 with 1x1x3x3, float32",
        ["call", *(f"{name}, us" for name in libraries), *(["PyTorch / eagerconv"] if HAVE_TORCH else [])],
        notes=["A ratio above 1 says that we are faster." if HAVE_TORCH else ALONE],
    )
    for call, value in progress(truth.items(), "overhead"):
        for name, calls in libraries.items():
            check(f"{name}, {call}", calls[call](), value)
        times = interleaved({name: calls[call] for name, calls in libraries.items()}, rounds=3 if quick else 15)
        micro = [1e6 * seconds for seconds in times.values()]
        table.rows.append([call, *micro, *([micro[1] / micro[0]] if HAVE_TORCH else [])])
    return table


def ours(x: np.ndarray, w: np.ndarray, g: np.ndarray) -> Calls:
    image, plain, recorded = ec.asarray(x), ec.asarray(w), ec.tensor(w, requires_grad=True)
    cotangent = ec.asarray(g)

    def backward() -> Any:
        recorded.grad = None
        ec.conv2d(image, recorded, filter_flip=False).backward(cotangent)
        return recorded.grad.data

    return {
        "plain": lambda: ec.conv2d(image, plain, filter_flip=False).data,
        "recorded": lambda: ec.conv2d(image, recorded, filter_flip=False).data,
        "forward + backward": backward,
    }


def theirs(x: np.ndarray, w: np.ndarray, g: np.ndarray) -> Calls:
    pt = torch()
    conv2d = pt.nn.functional.conv2d
    image, plain, cotangent = (pt.from_numpy(array.copy()) for array in (x, w, g))
    recorded = plain.clone().requires_grad_()

    def backward() -> Any:
        recorded.grad = None
        conv2d(image, recorded).backward(cotangent)
        return recorded.grad

    return {
        "plain": lambda: conv2d(image, plain),
        "recorded": lambda: conv2d(image, recorded).detach(),
        "forward + backward": backward,
    }


if __name__ == "__main__":
    print(measure().markdown())
