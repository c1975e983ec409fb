"""Classify handwritten digits: two convolutions, pooling and a linear layer, trained on real scans of 8x8 pixels.

Run it with `python examples/digits.py`. Besides eagerconv it needs scikit-learn, for the scans, and tqdm.
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


def load() -> list[np.ndarray]:
    """Images to learn from, 450 held-out images, and the labels of both; the same split on every run."""
    scans, labels = load_digits(return_X_y=True)  # (1797, 64), from 0 to 16
    images = (scans / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    return train_test_split(images, labels, test_size=450, stratify=labels, random_state=0)


def init(rng: np.random.Generator) -> Params:
    """Fresh parameters. Filters have shape (output channels, input channels, rows, columns)."""
    return {
        "conv1": ec.init.he_normal((32, 1, 3, 3), rng), "bias1": ec.init.zeros((32, 1, 1)),
        "conv2": ec.init.he_normal((64, 32, 3, 3), rng), "bias2": ec.init.zeros((64, 1, 1)),
        "linear": ec.init.he_normal((10, 64 * 4 * 4), rng), "bias3": ec.init.zeros(10),
    }  # fmt: skip


def feature_maps(p: Params, x: ec.Tensor | np.ndarray) -> ec.Tensor:
    """What the first layer makes of images: (N, 1, 8, 8) -> (N, 32, 8, 8)."""
    return ec.relu(ec.conv2d(x, p["conv1"], border_mode="same") + p["bias1"])


def model(p: Params, x: ec.Tensor | np.ndarray, rng: np.random.Generator | None = None) -> ec.Tensor:
    """Scores of the ten digits: (N, 1, 8, 8) -> (N, 10). With `rng`, half of the features are dropped, for training."""
    h = feature_maps(p, x)  # (N, 32, 8, 8)
    h = ec.relu(ec.conv2d(h, p["conv2"], border_mode="same") + p["bias2"])  # (N, 64, 8, 8)
    h = ec.max_pool2d(h, 2)  # (N, 64, 4, 4)
    h = h.reshape(len(h), -1)  # (N, 1024)
    if rng is not None:
        h = ec.dropout(h, 0.5, rng)
    return ec.linear(h, p["linear"], p["bias3"])


@dataclass
class Result:
    """A trained network and what it says about digits it has never seen."""

    params: Params
    losses: list[float]  # mean cross-entropy of each epoch
    images: np.ndarray  # (450, 1, 8, 8), held out
    labels: np.ndarray  # (450,)
    predictions: np.ndarray  # (450,)
    seconds: float

    @property
    def accuracy(self) -> float:
        """The share of the held-out digits that are recognised."""
        return float(np.mean(self.predictions == self.labels))


def train(seed: int = 0, epochs: int = 30, batch: int = 64, progress: bool = True) -> Result:
    """Train from scratch, then look at the held-out digits once."""
    start = time.perf_counter()
    rng = np.random.default_rng(seed)
    images, test_images, labels, test_labels = load()
    # Each image at nine places, at most a pixel off: (1347, 1, 3, 3, 8, 8), a view of the padded images.
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    moved = np.lib.stride_tricks.sliding_window_view(padded, (8, 8), axis=(2, 3))

    params, losses = init(rng), []
    rate = ec.schedule.cosine(0.002, epochs)
    optimizer = ec.optim.Adam(params)
    bar = tqdm(range(epochs), desc="digits ", unit="epoch", disable=not progress)
    for epoch in bar:
        optimizer.lr = rate(epoch)
        order, total = rng.permutation(len(images)), 0.0
        for chosen in np.split(order, range(batch, len(order), batch)):
            down, right = rng.integers(3, size=(2, len(chosen)))
            loss = ec.cross_entropy(model(params, moved[chosen, :, down, right], rng), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(chosen)
        losses.append(total / len(images))
        bar.set_postfix(loss=f"{losses[-1]:.4f}")

    with ec.no_grad():
        predictions = model(params, test_images).argmax(axis=1).to("cpu").numpy()
    return Result(params, losses, test_images, test_labels, predictions, time.perf_counter() - start)


if __name__ == "__main__":
    result = train()
    print(f"{result.accuracy:.2%} of {len(result.labels)} held-out digits recognised, after {result.seconds:.1f} s")
