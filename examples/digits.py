"""Classify handwritten digits: two convolutions, pooling and a linear layer, trained on real scans of 8x8 pixels.

Run it with `python examples/digits.py`. It needs scikit-learn, for the scans, and tqdm.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tqdm import tqdm

import eagerconv as ec

Params = dict[str, ec.Tensor]


def load():
    """Scans to learn from, their labels, 450 held-out scans, their labels; the same split on every run."""
    scans, labels = load_digits(return_X_y=True)
    images = (scans / 16).astype(np.float32).reshape(-1, 1, 8, 8)  # (1797, 1, 8, 8), from 0 to 1
    train, test, train_labels, test_labels = train_test_split(
        images, labels, test_size=450, stratify=labels, random_state=0
    )
    return train, train_labels, test, test_labels


def init(rng: np.random.Generator) -> Params:
    """Fresh parameters. Filters have shape (output channels, input channels, rows, columns)."""

    def weights(*shape: int) -> ec.Tensor:
        scale = np.sqrt(2 / np.prod(shape[1:]))  # keeps the variance through a ReLU (He et al., 2015)
        return ec.tensor(rng.normal(0, scale, shape), dtype="float32", requires_grad=True)

    def zeros(*shape: int) -> ec.Tensor:
        return ec.zeros(shape, dtype="float32", requires_grad=True)

    return {
        "conv1": weights(16, 1, 3, 3), "bias1": zeros(16, 1, 1),
        "conv2": weights(32, 16, 3, 3), "bias2": zeros(32, 1, 1),
        "linear": weights(10, 32 * 4 * 4), "bias3": zeros(10),
    }  # fmt: skip


def features(p: Params, x: ec.Tensor) -> ec.Tensor:
    """What the first layer makes of the images: (N, 1, 8, 8) -> (N, 16, 8, 8)."""
    return ec.relu(ec.conv2d(x, p["conv1"], border_mode="same") + p["bias1"])


def model(p: Params, x: ec.Tensor) -> ec.Tensor:
    """Scores of the ten digits: (N, 1, 8, 8) -> (N, 10)."""
    h = features(p, x)  # (N, 16, 8, 8)
    h = ec.relu(ec.conv2d(h, p["conv2"], border_mode="same") + p["bias2"])  # (N, 32, 8, 8)
    h = ec.max_pool2d(h, 2)  # (N, 32, 4, 4)
    return ec.linear(h.reshape(len(h), -1), p["linear"], p["bias3"])  # (N, 10)


@dataclass
class Result:
    params: Params
    losses: list[float]  # mean cross-entropy of each epoch
    images: np.ndarray  # (450, 1, 8, 8), held out
    labels: np.ndarray  # (450,)
    predictions: np.ndarray  # (450,)
    seconds: float

    @property
    def accuracy(self) -> float:
        """The share of held-out digits that are told right."""
        return float(np.mean(self.predictions == self.labels))


def train(seed: int = 0, epochs: int = 30, batch: int = 64, progress: bool = True) -> Result:
    """Train from scratch, then look at the held-out digits once."""
    start = time.perf_counter()
    rng = np.random.default_rng(seed)
    images, labels, test_images, test_labels = load()
    params = init(rng)
    optimizer = ec.optim.Adam(params.values(), lr=2e-3)

    losses = []
    bar = tqdm(range(epochs), desc="digits ", unit="epoch", disable=not progress)
    for epoch in bar:
        optimizer.lr = 1e-3 * (1 + np.cos(np.pi * epoch / epochs))  # from 2e-3 down to 0, half a cosine
        order = rng.permutation(len(images))
        total = 0.0
        for chosen in np.split(order, range(batch, len(order), batch)):
            loss = ec.cross_entropy(model(params, images[chosen]), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(chosen)
        losses.append(total / len(images))
        bar.set_postfix(loss=f"{losses[-1]:.4f}")

    with ec.no_grad():
        predictions = model(params, test_images).argmax(axis=1).numpy()
    return Result(params, losses, test_images, test_labels, predictions, time.perf_counter() - start)


if __name__ == "__main__":
    result = train()
    print(f"{result.accuracy:.2%} of {len(result.labels)} held-out digits right, after {result.seconds:.1f} s")
