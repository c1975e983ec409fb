"""Hessian-vector products: how curved a loss is, and so how long a step of gradient descent may be.

Run it with `python examples/hessian_vector.py`. Besides eagerconv it needs scikit-learn, for images of digits.

A network with a convolution of many parameters has a Hessian too large to write down; but its product with a vector costs
as much as a few gradients (`ec.func.hvp`: forward mode over reverse mode). From products alone, Lanczos' method finds the
largest curvature L. Gradient descent along that direction multiplies the distance to the minimum by 1 - lr * L at each
step: it converges for lr < 2 / L and diverges beyond. The program finds L, then tries both sides of the bound.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

import eagerconv as ec

Params = dict[str, Any]


def problem(examples: int = 300, seed: int = 0) -> tuple[Callable[[Params], ec.Tensor], Params]:
    """A loss, the mean cross-entropy of a small network with weight decay, and parameters to begin with (float64)."""
    scans, labels = load_digits(return_X_y=True)
    x, y = (scans[:examples] / 16).reshape(-1, 1, 8, 8), labels[:examples]
    rng = np.random.default_rng(seed)
    p = {
        "conv": ec.init.he_normal((8, 1, 3, 3), rng, dtype="float64").detach(),
        "out": ec.init.glorot_normal((10, 8 * 16), rng, dtype="float64").detach(),
    }

    def loss(p: Params) -> ec.Tensor:
        h = ec.avg_pool2d(ec.silu(ec.conv2d(x, p["conv"], border_mode="same")), 2)  # (N, 8, 4, 4)
        scores = ec.linear(h.reshape(len(h), -1), p["out"])
        decay = sum((q * q).sum() for q in p.values())
        return ec.cross_entropy(scores, y) + 0.005 * decay

    return loss, p


def descend(
    loss: Callable[[Params], ec.Tensor], p: Params, lr: float, steps: int, momentum: float = 0.0
) -> tuple[Params, list[float]]:
    """Gradient descent; the parameters where it ends, and the losses on the way."""
    step, losses = ec.func.value_and_grad(loss), []
    velocity = ec.tree.map(ec.zeros_like, p)
    for _ in range(steps):
        value, gradient = step(p)
        velocity = ec.tree.zip_map(lambda v, g: momentum * v + g, velocity, gradient)
        p = ec.tree.zip_map(lambda q, v: q - lr * v, p, velocity)
        losses.append(value.item())
    return p, losses


def largest_curvature(loss: Callable[[Params], ec.Tensor], p: Params, products: int = 20, seed: int = 0) -> float:
    """The largest eigenvalue of the Hessian, by Lanczos' method from a few products with it."""
    leaves, structure = ec.tree.flatten(p)
    cuts = np.cumsum([q.size for q in leaves])[:-1]

    def product(v: np.ndarray) -> np.ndarray:
        parts = [part.reshape(q.shape) for part, q in zip(np.split(v, cuts), leaves, strict=True)]
        (found,) = ec.func.hvp(loss, [p], [ec.tree.unflatten(structure, parts)])
        return np.concatenate([np.ravel(q.data) for q in ec.tree.leaves(found)])

    v = np.random.default_rng(seed).standard_normal(sum(q.size for q in leaves))
    basis = [v / np.linalg.norm(v)]
    projected = np.zeros((products, products))
    for k in range(products):
        w = product(basis[k])
        for j, q in enumerate(basis):  # orthogonal to all before, so that nothing is found twice
            projected[j, k] = w @ q
            w = w - projected[j, k] * q
        basis.append(w / np.linalg.norm(w))
        if k + 1 < products:
            projected[k + 1, k] = np.linalg.norm(w)
    return float(np.linalg.eigvalsh((projected + projected.T) / 2)[-1])


def experiment(settle: int = 400, steps: int = 60, examples: int = 300) -> dict[str, Any]:
    """Go to a minimum, measure the curvature there, and try steps on both sides of 2 / L from nearby."""
    loss, p = problem(examples)
    p, losses = descend(loss, p, 0.1, settle, momentum=0.9)
    curvature = largest_curvature(loss, p)
    rng = np.random.default_rng(1)
    nearby = ec.tree.map(lambda q: q + 1e-4 * rng.standard_normal(q.shape), p)
    found = {}
    for share in (0.9, 1.1):
        _, values = descend(loss, nearby, share * 2 / curvature, steps)
        found[share] = values
    return {"loss": losses[-1], "size": sum(q.size for q in p.values()), "curvature": curvature, "tries": found}


def main() -> None:
    result = experiment()
    print(f"loss {result['loss']:.4f} near a minimum, {result['size']} parameters")
    print(
        f"largest curvature {result['curvature']:.3f} from 20 products: steps up to {2 / result['curvature']:.3f} are stable"
    )
    for share, values in result["tries"].items():
        gain = "falls" if values[-1] < values[0] else "rises"
        print(
            f"lr = {share:.1f} * 2 / L: the loss {gain} from {values[0]:.6f} to {values[-1]:.6f} in {len(values)} steps"
        )


if __name__ == "__main__":
    main()
