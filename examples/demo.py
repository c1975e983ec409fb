"""Train both example networks on real images, print how well they do, and draw what they learned into one picture.

Run it with `make demo`, or `python examples/demo.py [--output demo.png]`. It fails if a network misses its goal.
"""

from __future__ import annotations

import argparse
import sys

import matplotlib

matplotlib.use("Agg")  # draws into files, needs no screen

import denoise
import digits
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from matplotlib.ticker import LogLocator, NullFormatter

import eagerconv as ec

ACCURACY, GAIN = 0.98, 4.0  # what a run must reach: share of held-out digits, dB on the held-out crop
BLUE, RED = "tab:blue", "tab:red"


# ----- Figures in words -----


def report(classifier: digits.Result, denoiser: denoise.Result) -> bool:
    """Print the figures as a table; whether both goals are reached."""
    noisy, clean = (denoise.psnr(image, denoiser.truth) for image in (denoiser.noisy, denoiser.denoised))
    rows = [
        ("network", "measured on", "result", "goal", "seconds"),
        ("digits", f"{len(classifier.labels)} held-out scans", f"{classifier.accuracy:.2%} recognised",
         f"{ACCURACY:.0%}", f"{classifier.seconds:.1f}"),
        ("denoise", "held-out crop", f"{noisy:.2f} -> {clean:.2f} dB, {denoiser.gain:+.2f} dB",
         f"{GAIN:+.0f} dB", f"{denoiser.seconds:.1f}"),
    ]  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return classifier.accuracy >= ACCURACY and denoiser.gain >= GAIN


# ----- Figures in pictures -----


def draw(classifier: digits.Result, denoiser: denoise.Result, path: str) -> None:
    """Write the picture: the classifier above, the denoiser below."""
    figure = plt.figure(figsize=(13, 10.2), layout="constrained")
    upper, middle, lower = figure.subfigures(3, 1, height_ratios=[2.9, 2.4, 4.3], hspace=0.02)
    upper.suptitle(f"Classifier: {classifier.accuracy:.2%} of {len(classifier.labels)} held-out digits", fontsize=15)
    lower.suptitle(f"Denoiser: {denoiser.gain:+.2f} dB on a crop it has never seen", fontsize=15)
    draw_classifier(upper, classifier)
    draw_digits(middle, classifier)
    draw_denoiser(lower, denoiser)
    figure.savefig(path, dpi=110, facecolor="white")
    plt.close(figure)


def draw_classifier(figure: SubFigure, result: digits.Result) -> None:
    """Loss, first-layer filters, and what those make of one digit."""
    loss, filters, digit, maps = figure.subplots(1, 4, width_ratios=[3, 3.7, 1.6, 3.7])
    draw_loss(loss, np.arange(1, len(result.losses) + 1), result.losses, "epoch", "cross-entropy")

    learned = result.params["conv1"].numpy()[:, 0]  # (32, 3, 3)
    most = np.abs(learned).max()
    picture(filters, mosaic(learned, 8), "Filters of the first layer", cmap="RdBu", vmin=-most, vmax=most)
    filters.set_facecolor("0.7")  # white is zero
    filters.set_xlabel("blue: positive, red: negative")

    example = result.images[:1]  # (1, 1, 8, 8)
    with ec.no_grad():
        features = digits.feature_maps(result.params, example).numpy()[0]  # (32, 8, 8)
    picture(digit, example[0, 0], f"A digit ({result.labels[0]})", cmap="gray_r")
    picture(maps, mosaic(features, 8), "Its feature maps", cmap="viridis")
    maps.set_xlabel("one per filter, bright where it answers")


def draw_digits(figure: SubFigure, result: digits.Result, count: int = 28) -> None:
    """Held-out digits, the mistakes first."""
    wrong = np.flatnonzero(result.predictions != result.labels)
    right = np.flatnonzero(result.predictions == result.labels)
    shown = np.concatenate([wrong, right])[:count]
    figure.suptitle(f"Held-out digits and what the network says; {len(wrong)} mistakes in all, in red", fontsize=12)
    for axes, i in zip(figure.subplots(2, count // 2).flat, shown, strict=True):
        mistaken = result.predictions[i] != result.labels[i]
        picture(axes, result.images[i, 0], "", cmap="gray_r", vmin=0, vmax=1)
        text = f"{result.predictions[i]}, is {result.labels[i]}" if mistaken else f"{result.predictions[i]}"
        axes.set_title(text, color=RED if mistaken else "black", fontsize=11, pad=3)
        if mistaken:
            axes.spines[:].set(color=RED, linewidth=2.5)


def draw_denoiser(figure: SubFigure, result: denoise.Result) -> None:
    """Loss and filters on the left; the crop noisy, denoised, and as it is."""
    left, right = figure.subfigures(1, 2, width_ratios=[1, 3])
    loss, filters = left.subplots(2, 1, height_ratios=[1, 1.1])
    window = max(1, len(result.losses) // 60)
    means = [np.mean(result.losses[i : i + window]) for i in range(0, len(result.losses), window)]
    draw_loss(loss, window * np.arange(1, len(means) + 1), means, "step", "mean squared error")

    learned = result.params["encode1"].numpy().transpose(0, 2, 3, 1)  # (48, 4, 4, 3)
    scale = np.abs(learned).max(axis=(1, 2, 3), keepdims=True)
    picture(filters, mosaic(0.5 + 0.5 * learned / scale, 8), "Filters of the first layer")

    crops = {"Noisy": result.noisy, "Denoised": result.denoised, "True": result.truth}
    for axes, (name, crop) in zip(right.subplots(1, 3), crops.items(), strict=True):
        quality = "" if crop is result.truth else f", {denoise.psnr(crop, result.truth):.2f} dB"
        picture(axes, crop.transpose(1, 2, 0).clip(0, 1), name + quality, fontsize=13)


def draw_loss(axes: Axes, x: np.ndarray, losses: list[float], unit: str, name: str) -> None:
    axes.plot(x, losses, color=BLUE, linewidth=2)
    axes.set(yscale="log", xlabel=unit, ylabel=name, title="Training loss")
    axes.yaxis.set_major_locator(LogLocator(subs=[1, 2, 5]))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3, which="both")


def picture(axes: Axes, image: np.ndarray, title: str, fontsize: int = 12, **options: object) -> None:
    axes.imshow(image, interpolation="nearest", **options)
    axes.set_title(title, fontsize=fontsize)
    axes.set(xticks=[], yticks=[])


def mosaic(images: np.ndarray, columns: int) -> np.ndarray:
    """Small images, (n, r, c) or (n, r, c, 3), as one: in rows, with white gaps of one pixel between them."""
    if images.ndim == 4:
        images = np.pad(images, [(0, 0), (0, 1), (0, 1), (0, 0)], constant_values=1)
    else:  # not a number: left blank, whatever the colour map
        images = np.pad(images, [(0, 0), (0, 1), (0, 1)], constant_values=np.nan)
    _, r, c, *channels = images.shape
    rows = images.reshape(-1, columns, r, c, *channels).swapaxes(1, 2)  # (rows, r, columns, c, ...)
    return rows.reshape(-1, columns * c, *channels)[:-1, :-1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default="demo.png", help="where to write the picture (default: %(default)s)")
    path = parser.parse_args().output

    classifier, denoiser = digits.train(), denoise.train()
    print()
    reached = report(classifier, denoiser)
    draw(classifier, denoiser, path)
    print(f"\nSee {path}")
    if not reached:
        print("A goal is missed.", file=sys.stderr)
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
