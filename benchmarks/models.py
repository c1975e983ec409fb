"""The networks that are measured, each written once, in layers of which two libraries have the operations (`libraries.py`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


class Layers:
    """What a network calls. Its layers take their parameters in turn; those that are not there yet are made, given `rng`."""

    def __init__(self, lib: Any, leaves: list[Any], running: list[dict[str, Any]], training: bool = True) -> None:
        self.lib, self.leaves, self.running, self.training = lib, leaves, running, training
        self.rng: np.random.Generator | None = None
        self.dtype: Any = None
        self.frozen = False
        self.rewind((0, 0))

    def mark(self) -> tuple[int, int]:
        """Where we are: what `rewind` takes, to use the same layers again."""
        return self.place, self.norms

    def rewind(self, mark: tuple[int, int]) -> None:
        self.place, self.norms = mark

    def parameter(self, *shape: int, deviation: float = 0.1, mean: float = 0.0) -> Any:
        if self.rng is not None and self.place == len(self.leaves):
            self.leaves.append(self.lib.leaf((mean + deviation * self.rng.standard_normal(shape)).astype(self.dtype)))
        leaf = self.leaves[self.place]
        self.place += 1
        return leaf.detach() if self.frozen else leaf

    def conv(self, x: Any, channels: int, kernel: int = 1, stride: int = 1, pad: int | None = None, groups: int = 1,
             bias: bool = True, rectified: bool = False) -> Any:  # fmt: skip
        """By default with zeros around the image that keep its size, if the kernel is odd."""
        shape = (channels, x.shape[1] // groups, *[kernel] * (x.ndim - 2))
        w = self.parameter(*shape, deviation=_keeping(shape))
        b = self.parameter(channels) if bias else None
        pad = kernel // 2 if pad is None else pad
        return self.lib.conv(x, w, b, stride, pad, groups=groups, rectified=rectified)

    def conv_bn(self, x: Any, channels: int, kernel: int = 1, stride: int = 1, groups: int = 1,
                then: str | None = None) -> Any:  # fmt: skip
        """`then` is the name of an activation."""
        return self.batch_norm(self.conv(x, channels, kernel, stride, groups=groups, bias=False), then)

    def upconv(self, x: Any, channels: int, kernel: int, stride: int = 1, pad: int = 0, bias: bool = True) -> Any:
        shape = (x.shape[1], channels, kernel, kernel)
        w = self.parameter(*shape, deviation=(2 / x.shape[1]) ** 0.5 * stride / kernel)
        return self.lib.upconv(x, w, self.parameter(channels) if bias else None, stride, pad)

    def causal(self, x: Any, channels: int, kernel: int, dilation: int) -> Any:
        shape = (channels, x.shape[1], kernel)
        return self.lib.causal(x, self.parameter(*shape, deviation=_keeping(shape)), self.parameter(channels), dilation)

    def linear(self, x: Any, features: int) -> Any:
        shape = (features, x.shape[-1])
        return self.lib.linear(x, self.parameter(*shape, deviation=_keeping(shape)), self.parameter(features))

    def batch_norm(self, x: Any, then: str | None = None) -> Any:
        channels = x.shape[1]
        if self.rng is not None and self.norms == len(self.running):
            values = {"mean": np.zeros(channels, self.dtype), "var": np.ones(channels, self.dtype)}
            self.running.append({name: self.lib.data(value) for name, value in values.items()})
        running = self.running[self.norms]
        self.norms += 1
        weight, bias = self.parameter(channels, mean=1.0), self.parameter(channels)
        return self.lib.batch_norm(x, running, weight, bias, self.training, then)

    def group_norm(self, x: Any, groups: int, then: str | None = None) -> Any:
        return self.lib.group_norm(x, groups, self.parameter(x.shape[1], mean=1.0), self.parameter(x.shape[1]), then)

    def layer_norm(self, x: Any) -> Any:
        """Over the last axis."""
        size = x.shape[-1]
        return self.lib.layer_norm(x, size, self.parameter(size, mean=1.0), self.parameter(size))

    def classes(self, x: Any, count: int) -> Any:
        """Scores of the whole image."""
        return self.linear(self.lib.mean(x), count)


def _keeping(shape: tuple[int, ...]) -> float:
    """The deviation of weights that keeps the variance through rectifiers (He et al., 2015)."""
    return float((2 / np.prod(shape[1:])) ** 0.5)


# ----------------------------------------------------------------------------------------------------------- the networks


def resnet50(f: Layers, x: Any) -> Any:
    """He et al., "Deep residual learning for image recognition", CVPR 2016, with strides in the 3x3."""
    relu = f.lib.relu
    x = f.lib.max_pool(f.conv_bn(x, 64, 7, 2, then="relu"), 3, 2, 1)
    for stage, (blocks, inner) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512))):
        for block in range(blocks):
            stride = 2 if block == 0 and stage > 0 else 1
            shortcut = f.conv_bn(x, 4 * inner, 1, stride) if block == 0 else x
            y = f.conv_bn(x, inner, then="relu")
            y = f.conv_bn(y, inner, 3, stride, then="relu")
            x = relu(f.conv_bn(y, 4 * inner) + shortcut)
    return f.classes(x, 1000)


def resnet20(f: Layers, x: Any) -> Any:
    relu = f.lib.relu
    x = f.conv_bn(x, 16, 3, then="relu")
    for channels in (16, 32, 64):
        for block in range(3):
            stride = 2 if block == 0 and channels > 16 else 1
            shortcut = f.conv_bn(x, channels, 1, stride) if stride > 1 else x
            y = f.conv_bn(x, channels, 3, stride, then="relu")
            x = relu(f.conv_bn(y, channels, 3) + shortcut)
    return f.classes(x, 10)


def group_resnet(f: Layers, x: Any) -> Any:
    """ResNet-18 with group normalisation (Wu and He, ECCV 2018)."""
    relu = f.lib.relu

    def normal(x: Any, channels: int, kernel: int, stride: int = 1, then: str | None = None) -> Any:
        return f.group_norm(f.conv(x, channels, kernel, stride, bias=False), 32, then)

    x = f.lib.max_pool(normal(x, 64, 7, 2, "relu"), 3, 2, 1)
    for channels in (64, 128, 256, 512):
        for block in range(2):
            stride = 2 if block == 0 and channels > 64 else 1
            shortcut = normal(x, channels, 1, stride) if stride > 1 else x
            y = normal(x, channels, 3, stride, "relu")
            x = relu(normal(y, channels, 3) + shortcut)
    return f.classes(x, 1000)


def mobilenet(f: Layers, x: Any) -> Any:
    """Sandler et al., "MobileNetV2: inverted residuals and linear bottlenecks", CVPR 2018."""
    x = f.conv_bn(x, 32, 3, 2, then="relu6")
    stages = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for factor, channels, blocks, first in stages:
        for block in range(blocks):
            stride, inner = (first if block == 0 else 1), factor * x.shape[1]
            y = x if factor == 1 else f.conv_bn(x, inner, then="relu6")
            y = f.conv_bn(y, inner, 3, stride, groups=inner, then="relu6")
            y = f.conv_bn(y, channels)
            x = x + y if block > 0 else y
    return f.classes(f.conv_bn(x, 1280, then="relu6"), 1000)


def efficientnet(f: Layers, x: Any) -> Any:
    """B0 of Tan and Le, "EfficientNet", ICML 2019, without dropout and stochastic depth."""
    silu = f.lib.silu
    x = f.conv_bn(x, 32, 3, 2, then="silu")
    stages = ((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5),
              (6, 192, 4, 2, 5), (6, 320, 1, 1, 3))  # fmt: skip
    for factor, channels, blocks, first, kernel in stages:
        for block in range(blocks):
            stride, narrow = (first if block == 0 else 1), x.shape[1]
            inner = factor * narrow
            y = x if factor == 1 else f.conv_bn(x, inner, then="silu")
            y = f.conv_bn(y, inner, kernel, stride, groups=inner, then="silu")
            gate = f.linear(silu(f.linear(f.lib.mean(y), narrow // 4)), inner)  # squeeze and excitation
            y = f.conv_bn(y * f.lib.sigmoid(gate).reshape((-1, inner, 1, 1)), channels)
            x = x + y if block > 0 else y
    return f.classes(f.conv_bn(x, 1280, then="silu"), 1000)


def convnext(f: Layers, x: Any) -> Any:
    """The first two stages of ConvNeXt-T (Liu et al., CVPR 2022): 1x1 convolutions as products over channels that are last."""
    permute = f.lib.permute
    x = f.conv(x, 96, 4, 4, pad=0)
    x = permute(f.layer_norm(permute(x, (0, 2, 3, 1))), (0, 3, 1, 2))
    for channels in (96, 192):
        if channels > 96:
            x = permute(f.layer_norm(permute(x, (0, 2, 3, 1))), (0, 3, 1, 2))
            x = f.conv(x, channels, 2, 2, pad=0)
        for _ in range(3):
            y = permute(f.conv(x, channels, 7, groups=channels), (0, 2, 3, 1))
            y = f.linear(f.lib.gelu(f.linear(f.layer_norm(y), 4 * channels)), channels)
            x = x + permute(y * f.parameter(channels), (0, 3, 1, 2))
    return f.classes(x, 1000)


def densenet(f: Layers, x: Any) -> Any:
    """DenseNet-121 (Huang et al., CVPR 2017)."""
    x = f.lib.max_pool(f.conv_bn(x, 64, 7, 2, then="relu"), 3, 2, 1)
    for block, layers in enumerate((6, 12, 24, 16)):
        if block:
            x = f.lib.avg_pool(f.conv(f.batch_norm(x, then="relu"), x.shape[1] // 2, bias=False), 2)
        for _ in range(layers):
            y = f.conv(f.batch_norm(x, then="relu"), 128, bias=False)
            x = f.lib.concat([x, f.conv(f.batch_norm(y, then="relu"), 32, 3, bias=False)])
    return f.classes(f.batch_norm(x, then="relu"), 1000)


def vgg(f: Layers, x: Any) -> Any:
    for channels, layers in ((64, 2), (128, 2), (256, 3), (512, 3)):
        for _ in range(layers):
            x = f.conv(x, channels, 3, rectified=True)
        x = f.lib.max_pool(x, 2, 2)
    return f.linear(f.lib.relu(f.linear(f.lib.mean(x), 512)), 10)


def unet(f: Layers, x: Any) -> Any:
    """Ronneberger et al., "U-Net", MICCAI 2015, with borders of zeros."""

    def twice(x: Any, channels: int) -> Any:
        return f.conv(f.conv(x, channels, 3, rectified=True), channels, 3, rectified=True)

    skipped = []
    for channels in (64, 128, 256, 512):
        skipped.append(twice(x, channels))
        x = f.lib.max_pool(skipped[-1], 2, 2)
    x = twice(x, 1024)
    for skip in reversed(skipped):
        channels = skip.shape[1]
        x = twice(f.lib.concat([skip, f.upconv(x, channels, 2, 2)]), channels)
    return f.conv(x, 2)


def mnist(f: Layers, x: Any) -> Any:
    for channels in (32, 64):
        x = f.lib.max_pool(f.conv(x, channels, 5, rectified=True), 2, 2)
    x = f.lib.relu(f.linear(x.reshape((x.shape[0], -1)), 512))
    return f.linear(x, 10)


def volumes(f: Layers, x: Any) -> Any:
    for channels in (16, 32, 64):
        x = f.conv(f.conv(x, channels, 3, rectified=True), channels, 3, rectified=True)
        x = f.lib.max_pool(x, 2, 2)
    return f.classes(x, 10)


def wavenet(f: Layers, x: Any) -> Any:
    """Van den Oord et al., 2016: dilations 1, 2, ..., 512 twice; each sample's successor is one of 256 classes."""
    x, skipped = f.causal(x, 32, 2, 1), None
    dilations = [2**i for i in range(10)] * 2
    for layer, dilation in enumerate(dilations, 1):
        gated = f.lib.tanh(f.causal(x, 32, 2, dilation)) * f.lib.sigmoid(f.causal(x, 32, 2, dilation))
        skip = f.conv(gated, 128)
        skipped = skip if skipped is None else skipped + skip
        if layer < len(dilations):
            x = x + f.conv(gated, 32)
    return f.conv(f.lib.relu(f.conv(f.lib.relu(skipped), 256)), 256)


def speech(f: Layers, x: Any) -> Any:
    """The encoder of wav2vec 2.0 (Baevski et al., 2020): a vector every 20 ms of 16 kHz, here classified."""
    for layer, (kernel, stride) in enumerate(((10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2))):
        x = f.conv(x, 512, kernel, stride, pad=0, bias=False)
        x = f.group_norm(x, 512, then="gelu") if layer == 0 else f.lib.gelu(x)
    x = f.linear(f.layer_norm(f.lib.permute(x, (0, 2, 1))), 32)
    return f.lib.permute(x, (0, 2, 1))


def generator(f: Layers, z: Any) -> Any:
    """DCGAN (Radford et al., ICLR 2016): from a code to an image of 64 x 64."""
    x = f.batch_norm(f.upconv(z, 512, 4, bias=False), then="relu")
    for channels in (256, 128, 64):
        x = f.batch_norm(f.upconv(x, channels, 4, 2, 1, bias=False), then="relu")
    return f.lib.tanh(f.upconv(x, 3, 4, 2, 1))


def discriminator(f: Layers, x: Any) -> Any:
    x = f.conv(x, 64, 4, 2, 1, rectified=True)
    for channels in (128, 256, 512):
        x = f.batch_norm(f.conv(x, channels, 4, 2, 1, bias=False), then="relu")
    return f.conv(x, 1, 4, pad=0).reshape((-1, 1))


def judged(f: Layers, z: Any) -> Any:
    return discriminator(f, generator(f, z))


# --------------------------------------------------------------------------------------------------------------- the list


def classification(network: Callable[[Layers, Any], Any], f: Layers, x: Any, labels: Any) -> Any:
    return f.lib.cross_entropy(network(f, x), labels)


def adversaries(network: Callable[[Layers, Any], Any], f: Layers, z: Any, real: Any) -> Any:
    """Both losses at once: each player's has gradients for that player alone."""
    images = generator(f, z)
    start = f.mark()
    of_real = discriminator(f, real)
    f.rewind(start)
    of_false = discriminator(f, images.detach())
    f.rewind(start)
    f.frozen = True
    deceived = discriminator(f, images)
    f.frozen = False
    yes, no = of_real.detach() * 0 + 1, of_real.detach() * 0
    return f.lib.binary(of_real, yes) + f.lib.binary(of_false, no) + f.lib.binary(deceived, yes)


def labels(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """A class for each place of scores (N, K, ...)."""
    return rng.integers(0, shape[1], (shape[0], *shape[2:]))


def photographs(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    return rng.uniform(-1, 1, (shape[0], 3, 64, 64)).astype(dtype)


@dataclass(frozen=True)
class Network:
    """`shape` of the inputs when it is timed, `small` when its gradients are checked."""

    name: str
    forward: Callable[[Layers, Any], Any]
    shape: tuple[int, ...]
    small: tuple[int, ...]
    objective: Callable[..., Any] = classification
    target: Callable[[np.random.Generator, tuple[int, ...], Any], np.ndarray] = labels

    def loss(self, f: Layers, x: Any, target: Any) -> Any:
        return self.objective(self.forward, f, x, target)


NETWORKS = (
    Network("ResNet-50", resnet50, (8, 3, 224, 224), (2, 3, 64, 64)),
    Network("ResNet-20", resnet20, (64, 3, 32, 32), (4, 3, 16, 16)),
    Network("MobileNetV2", mobilenet, (8, 3, 160, 160), (2, 3, 64, 64)),
    Network("U-Net", unet, (2, 3, 128, 128), (1, 3, 16, 32)),
    Network("VGG", vgg, (32, 3, 32, 32), (2, 3, 16, 16)),
    Network("ConvNeXt", convnext, (4, 3, 224, 224), (2, 3, 32, 32)),
    Network("EfficientNet", efficientnet, (8, 3, 128, 128), (2, 3, 64, 64)),
    Network("WaveNet", wavenet, (4, 1, 4000), (1, 1, 1100)),
    Network("DCGAN", judged, (16, 100, 1, 1), (2, 100, 1, 1), adversaries, photographs),
    Network("3-D net", volumes, (4, 1, 32, 32, 32), (2, 1, 8, 8, 8)),
    Network("MNIST net", mnist, (64, 1, 28, 28), (2, 1, 28, 28)),
    Network("DenseNet", densenet, (4, 3, 128, 128), (2, 3, 64, 64)),
    Network("GroupNorm ResNet", group_resnet, (8, 3, 128, 128), (2, 3, 64, 64)),
    Network("speech encoder", speech, (2, 1, 16000), (2, 1, 1600)),
)
