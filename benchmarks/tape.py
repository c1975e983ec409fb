"""What the tape costs: small array functions beside NumPy, and forward and backward of small graphs beside others."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np

import eagerconv as ec
from benchmarks.harness import Table, check, interleaved, progress, torch

Call = Callable[[], Any]
PEERS = {"PyTorch": "torch", "MyGrad": "mygrad", "autograd": "autograd"}


def measure(quick: bool = False) -> Table:
    """Microseconds per call: each row the same work of every library that is installed, its values checked first."""
    names = [name for name, module in PEERS.items() if importlib.util.find_spec(module) is not None]
    table = Table(
        "Tape overhead: float32 arrays of 10 elements, microseconds per call",
        ["work", "NumPy", "eagerconv", "eagerconv, taped", *names],
        notes=[
            "The other libraries record as well, but for autograd, which does so inside of its `grad` alone.",
            "A chain is tanh(x * w) + w, 20 times over, and a sum; with `backward`, its gradient too.",
        ],
    )
    rng = np.random.default_rng(0)
    x, w = (rng.uniform(0.5, 1.5, 10).astype(np.float32) for _ in range(2))
    for work, calls in progress(rows(x, w, names).items(), "tape"):
        truth = calls["NumPy"]()
        for name, call in calls.items():
            value = call()
            check(f"{work}, {name}", value.detach() if hasattr(value, "detach") else value, truth)
        times = interleaved(calls, rounds=3 if quick else 15, seconds=0.02)
        table.rows.append([work, *(1e6 * times[name] if name in times else None for name in table.columns[1:])])
    return table


def rows(x: np.ndarray, w: np.ndarray, peers: list[str]) -> dict[str, dict[str, Call]]:
    plain, taped = (ec.asarray(x), ec.asarray(w)), (ec.tensor(x, requires_grad=True), ec.asarray(w))
    sides: dict[str, tuple[Any, Any, Any]] = {
        "NumPy": (np, x, w), "eagerconv": (ec, *plain), "eagerconv, taped": (ec, *taped)
    }  # fmt: skip
    for name in peers:
        sides[name] = operands(name, x, w)
    table: dict[str, dict[str, Call]] = {work: {} for work in ("x + w", "x * w", "exp", "tanh", "sum", "max", "chain")}
    for name, (xp, a, b) in sides.items():
        table["x + w"][name] = lambda a=a, b=b: a + b
        table["x * w"][name] = lambda a=a, b=b: a * b
        for function in ("exp", "tanh", "sum", "max"):
            called = getattr(xp, function)
            table[function][name] = lambda f=called, a=a: f(a)
        table["chain"][name] = lambda xp=xp, a=a, b=b: chain(xp, a, b)
    table["chain, backward"] = {"NumPy": lambda: gradient(x, w), "eagerconv, taped": lambda: ours(*taped)}
    for name in peers:
        table["chain, backward"][name] = backward(name, *sides[name])
    return table


def chain(xp: Any, x: Any, w: Any) -> Any:
    for _ in range(20):
        x = xp.tanh(x * w) + w
    return xp.sum(x)


def gradient(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """The derivative of the chain by hand: dh/dx is the product of w (1 - tanh(h w)**2) over the steps."""
    slope = np.ones_like(x)
    for _ in range(20):
        t = np.tanh(x * w)
        slope *= w * (1 - t * t)
        x = t + w
    return slope


def ours(x: Any, w: Any) -> Any:
    return ec.grad(chain(ec, x, w), x)[0].data


def operands(name: str, x: np.ndarray, w: np.ndarray) -> tuple[Any, Any, Any]:
    """The library's functions, x as a tensor with a gradient, and w as one without."""
    if name == "PyTorch":
        pt = torch()
        return pt, pt.from_numpy(x.copy()).requires_grad_(), pt.from_numpy(w.copy())
    if name == "MyGrad":
        mg = importlib.import_module("mygrad")
        return mg, mg.tensor(x), mg.tensor(w, constant=True)
    xp = importlib.import_module("autograd.numpy")  # which records only inside of its `grad`
    return xp, x, w


def backward(name: str, xp: Any, x: Any, w: Any) -> Call:
    if name == "PyTorch":
        return lambda: xp.autograd.grad(chain(xp, x, w), x)[0]
    if name == "autograd":
        slope = importlib.import_module("autograd").grad(lambda a: chain(xp, a, w))
        return lambda: slope(x)

    def run() -> Any:
        chain(xp, x, w).backward()
        return x.grad

    return run


if __name__ == "__main__":
    print(measure().markdown())
