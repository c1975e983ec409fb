"""A gradient penalty: training through a gradient, so that a network measures a distance instead of just growing.

Run it with `python examples/gradient_penalty.py`; it writes gradient_penalty.png. Besides eagerconv it needs matplotlib.

The Wasserstein distance of two distributions is the largest difference of means, E f(real) - E f(fake), that a function
with slopes of at most one can make. A network f is trained to make it; the penalty (|grad f(x)| - 1)**2 on the way between
the two keeps its slopes at one (Gulrajani et al., "Improved training of Wasserstein GANs", NeurIPS 2017). The gradient of
the penalty is a derivative of a derivative, of convolutions like of everything else. Here the distributions are noise and
noise plus a fixed bump: their distance is the length of the bump, so one can see whether the network is right.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

import eagerconv as ec

LENGTH = 32
BUMP = np.exp(-0.5 * ((np.arange(LENGTH) - 15.5) / 3) ** 2)
BUMP *= 2 / np.linalg.norm(BUMP)  # of length 2: the true distance

Params = dict[str, ec.Tensor]


def sample(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Signals with the bump and signals without, (n, 1, LENGTH) each."""
    noise = rng.standard_normal((2, n, 1, LENGTH)) * 0.5
    return (noise[0] + BUMP).astype("f4"), noise[1].astype("f4")


def init(rng: np.random.Generator) -> Params:
    return {
        "conv1": ec.init.he_normal((16, 1, 7), rng), "bias1": ec.init.zeros(16),
        "conv2": ec.init.he_normal((16, 16, 7), rng), "bias2": ec.init.zeros(16),
        "out": ec.init.glorot_normal((1, 16 * LENGTH // 4), rng),
    }  # fmt: skip


def critic(p: Params, x: Any) -> ec.Tensor:
    """A number for each signal: (N, 1, LENGTH) -> (N,)."""
    h = ec.silu(ec.conv1d(x, p["conv1"], border_mode="half", subsample=2, bias=p["bias1"]))
    h = ec.silu(ec.conv1d(h, p["conv2"], border_mode="half", subsample=2, bias=p["bias2"]))
    return ec.linear(h.reshape(len(h), -1), p["out"])[:, 0]


def slopes(p: Params, x: Any) -> ec.Tensor:
    """The length of the critic's gradient at each signal; recorded, so that it can be differentiated in p."""
    gradient = ec.func.grad(lambda x: critic(p, x).sum())(x)  # (N, 1, LENGTH)
    return ((gradient * gradient).sum(axis=(1, 2)) + 1e-12) ** 0.5


def train(penalty: float, steps: int = 300, seed: int = 0) -> tuple[Params, list[float], list[float]]:
    """The parameters; and, step by step, the difference of means on new signals and the mean slope between them."""
    rng = np.random.default_rng(seed)
    p = init(rng)
    optimizer = ec.optim.Adam(p, lr=0.002, betas=(0.5, 0.9))
    distances, steepness = [], []
    for _ in range(steps):
        real, fake = sample(rng, 64)
        share = rng.random((64, 1, 1), dtype=np.float32)
        distance = critic(p, real).mean() - critic(p, fake).mean()
        steep = slopes(p, share * real + (1 - share) * fake)
        loss = penalty * ((steep - 1) ** 2).mean() - distance
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        distances.append(distance.item())
        steepness.append(steep.mean().item())
    return p, distances, steepness


def draw(runs: dict[str, tuple[list[float], list[float]]], path: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.subplots(1, 2)
    titles = ("What the network takes for the distance (it is 2)", "Mean slope of the network")
    for k, (axis, title, truth) in enumerate(zip(axes, titles, (2, 1), strict=True)):
        for name, curves in runs.items():
            axis.plot(curves[k], label=name)
        axis.axhline(truth, color="0.5", linestyle=":")
        axis.set(title=title, xlabel="step", yscale="symlog", ylim=(0, None))
        axis.grid(alpha=0.3)
    axes[0].legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--output", default="gradient_penalty.png")
    options = parser.parse_args()
    runs = {}
    print("true distance 2.00, slope that a measure of distance may have: 1.00")
    for name, penalty in (("without penalty", 0.0), ("with penalty", 10.0)):
        _, distances, steepness = train(penalty, options.steps)
        runs[name] = distances, steepness
        distance, slope = np.mean(distances[-20:]), np.mean(steepness[-20:])
        print(f"{name:16s} distance {distance:8.2f}, slope {slope:7.2f}, distance per slope {distance / slope:.2f}")
    draw(runs, options.output)
    print(f"See {options.output}")


if __name__ == "__main__":
    main()
