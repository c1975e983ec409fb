"""Remove noise from photographs: a strided convolutional encoder, and a decoder of transposed convolutions.

Run it with `python examples/denoise.py`. Besides eagerconv it needs scikit-learn, for its two photographs, and tqdm.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from sklearn.datasets import load_sample_images
from tqdm import tqdm

import eagerconv as ec

Params = dict[str, ec.Tensor]

NOISE = 0.1  # standard deviation; the photographs go from 0 to 1
SIZE = 32  # rows and columns of the patches
CROP = (slice(128, 256), slice(128, 256))  # rows and columns of the first photograph that no patch may touch


def load() -> list[np.ndarray]:
    """The two photographs, each of shape (3, 427, 640)."""
    return [(photo / 255).astype(np.float32).transpose(2, 0, 1) for photo in load_sample_images().images]


def allowed(photos: list[np.ndarray]) -> np.ndarray:
    """Where patches may begin, as rows (photo, row, column): everywhere but where they would touch the held-out crop."""
    free = np.ones((len(photos), *(n - SIZE + 1 for n in photos[0].shape[1:])), bool)
    rows, columns = CROP
    free[0, rows.start - SIZE + 1 : rows.stop, columns.start - SIZE + 1 : columns.stop] = False
    return np.argwhere(free)


def init(rng: np.random.Generator) -> Params:
    """Fresh parameters. Filters have shape (output channels, input channels, rows, columns) of the *encoder*.

    The decoder's are those of the convolution it mirrors, so their first axis has the channels that it reads.
    """

    def weights(*shape: int, inputs: int) -> ec.Tensor:  # inputs: how many numbers each output is a sum of
        return ec.tensor(rng.normal(0, np.sqrt(2 / inputs), shape), dtype="float32", requires_grad=True)

    def zeros(*shape: int) -> ec.Tensor:
        return ec.zeros(shape, dtype="float32", requires_grad=True)

    return {
        "encode1": weights(32, 3, 6, 6, inputs=3 * 36), "bias1": zeros(32, 1, 1),
        "encode2": weights(64, 32, 4, 4, inputs=32 * 16), "bias2": zeros(64, 1, 1),
        "decode2": weights(64, 32, 4, 4, inputs=64 * 4), "bias3": zeros(32, 1, 1),
        "decode1": weights(32, 3, 6, 6, inputs=32 * 9 * 100), "bias4": zeros(3, 1, 1),
    }  # fmt: skip


def model(p: Params, x: ec.Tensor | np.ndarray) -> ec.Tensor:
    """Images without their noise: (N, 3, R, C) -> (N, 3, R, C), R and C being multiples of 4."""
    half = (None, None, x.shape[2] // 2, x.shape[3] // 2)
    h1 = ec.relu(ec.conv2d(x, p["encode1"], border_mode=2, subsample=2) + p["bias1"])  # (N, 32, R/2, C/2)
    h2 = ec.relu(ec.conv2d(h1, p["encode2"], border_mode=1, subsample=2) + p["bias2"])  # (N, 64, R/4, C/4)
    # Each decoder has the arguments of the encoder that it mirrors, and gives back the shape which that one was given.
    h3 = ec.conv2d_transpose(h2, p["decode2"], h1.shape, border_mode=1, input_dilation=2)  # (N, 32, R/2, C/2)
    h3 = ec.relu(h3 + p["bias3"] + h1)
    noise = ec.conv2d_transpose(h3, p["decode1"], x.shape, border_mode=2, input_dilation=2)  # (N, 3, R, C)
    return x - (noise + p["bias4"])


def psnr(image: np.ndarray, truth: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB, of images from 0 to 1."""
    return float(-10 * np.log10(np.mean((image - truth) ** 2)))
