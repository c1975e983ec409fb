"""Remove noise from photographs: an autoencoder of strided convolutions and, mirroring them, transposed ones.

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
PATCH = 32  # rows and columns
CROP = slice(128, 256), slice(128, 256)  # rows and columns of the first photograph which no patch may touch


def load() -> np.ndarray:
    """The photographs of a tower and of a flower, (2, 3, 427, 640)."""
    return (np.stack(load_sample_images().images) / 255).astype(np.float32).transpose(0, 3, 1, 2)


def corners(photos: np.ndarray) -> np.ndarray:
    """Where a patch may begin without touching the held-out crop, as rows (photograph, row, column)."""
    free = np.ones((len(photos), *(size - PATCH + 1 for size in photos.shape[2:])), bool)
    rows, columns = CROP
    free[0, rows.start - PATCH + 1 : rows.stop, columns.start - PATCH + 1 : columns.stop] = False
    return np.argwhere(free)


def add_noise(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return images + rng.normal(0, NOISE, images.shape).astype(np.float32)


def init(rng: np.random.Generator) -> Params:
    """Fresh parameters. A decoder's filters have the shape of those they mirror: what it reads comes first."""

    def weights(*shape: int, inputs: int) -> ec.Tensor:  # inputs: how many numbers are summed for one output
        return ec.tensor(rng.normal(0, np.sqrt(2 / inputs), shape), dtype="float32", requires_grad=True)

    def zeros(*shape: int) -> ec.Tensor:
        return ec.zeros(shape, dtype="float32", requires_grad=True)

    return {
        "encode1": weights(48, 3, 4, 4, inputs=3 * 16), "bias1": zeros(48, 1, 1),
        "encode2": weights(64, 48, 4, 4, inputs=48 * 16), "bias2": zeros(64, 1, 1),
        "decode2": weights(64, 48, 4, 4, inputs=64 * 4), "bias3": zeros(48, 1, 1),
        "decode1": weights(48, 3, 4, 4, inputs=30 * 48 * 4), "bias4": zeros(3, 1, 1),  # 30: begin with little change
    }  # fmt: skip


def model(p: Params, x: ec.Tensor | np.ndarray) -> ec.Tensor:
    """Images without their noise: (N, 3, R, C) -> (N, 3, R, C), where R and C are multiples of 4."""
    x = ec.asarray(x)
    h1 = ec.leaky_relu(
        ec.conv2d(x - 0.5, p["encode1"], border_mode=1, subsample=2) + p["bias1"], 0.2
    )  # (N, 48, R/2, C/2)
    h2 = ec.leaky_relu(ec.conv2d(h1, p["encode2"], border_mode=1, subsample=2) + p["bias2"], 0.2)  # (N, 64, R/4, C/4)
    # A decoder takes the arguments of the convolution it mirrors, and gives out the shape which that one was given.
    d2 = ec.conv2d_transpose(h2, p["decode2"], h1.shape, border_mode=1, input_dilation=2)  # (N, 48, R/2, C/2)
    d2 = ec.leaky_relu(d2 + p["bias3"], 0.2) + h1
    noise = ec.conv2d_transpose(d2, p["decode1"], x.shape, border_mode=1, input_dilation=2) + p["bias4"]  # (N, 3, R, C)
    return x - noise


def psnr(image: np.ndarray, truth: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB, for images from 0 to 1."""
    return float(-10 * np.log10(np.mean((image - truth) ** 2)))


@dataclass
class Result:
    """A trained network and what it makes of a crop it has never seen."""

    params: Params
    losses: list[float]  # mean squared error of each step
    truth: np.ndarray  # the held-out crop, (3, 128, 128)
    noisy: np.ndarray
    denoised: np.ndarray
    seconds: float

    @property
    def gain(self) -> float:
        """How much less noise there is, in dB."""
        return psnr(self.denoised, self.truth) - psnr(self.noisy, self.truth)


def train(seed: int = 0, steps: int = 3000, batch: int = 8, progress: bool = True) -> Result:
    """Train from scratch on patches outside the crop, then take the noise from the crop."""
    start = time.perf_counter()
    rng = np.random.default_rng(seed)
    photos = load()
    windows = np.lib.stride_tricks.sliding_window_view(photos, (PATCH, PATCH), axis=(2, 3))  # a view: all the patches
    places = corners(photos)

    params, losses = init(rng), []
    optimizer = ec.optim.Adam(params, lr=ec.schedule.cosine(0.005, steps))
    bar = tqdm(range(steps), desc="denoise", unit="step", disable=not progress)
    for step in bar:
        photo, row, column = rng.choice(places, batch).T
        clean = windows[photo, :, row, column]  # (N, 3, 32, 32)
        loss = ec.mse_loss(model(params, add_noise(clean, rng)), clean)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if step % 20 == 19:
            bar.set_postfix(dB=f"{-10 * np.log10(np.mean(losses[-20:])):.1f}", refresh=False)

    truth = photos[0][:, *CROP]
    noisy = add_noise(truth, rng)
    with ec.no_grad():
        denoised = model(params, noisy[None]).to("cpu").numpy()[0]
    return Result(params, losses, truth, noisy, denoised, time.perf_counter() - start)


if __name__ == "__main__":
    result = train()
    before, after = psnr(result.noisy, result.truth), psnr(result.denoised, result.truth)
    print(f"Held-out crop: {before:.2f} dB noisy, {after:.2f} dB denoised, after {result.seconds:.1f} s")
