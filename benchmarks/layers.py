"""Which layers are measured: those of well-known networks, each as the convolution that ties its three arrays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from eagerconv import geometry
from eagerconv.spec import ConvSpec, Slot

Ints = tuple[int, ...]


class Layer(NamedTuple):
    """A convolution of images (batch, cin, *size); one with `transposed` computes those images from its outputs.

    `stride`, `pad` and `dilation` are the same on every axis, or have one number per axis.
    """

    name: str
    batch: int
    cin: int
    size: Ints
    cout: int
    kernel: Ints
    stride: int | Ints = 1
    pad: int | Ints = 0
    dilation: int | Ints = 1
    groups: int = 1
    transposed: bool = False

    def per_axis(self, value: int | Ints) -> Ints:
        return (value,) * len(self.size) if isinstance(value, int) else value

    @property
    def spec(self) -> ConvSpec:
        n = len(self.size)
        x, w = (self.batch, self.cin, *self.size), (self.cout, self.cin // self.groups, *self.kernel)
        pad = self.pad if isinstance(self.pad, int) else tuple((p, p) for p in self.pad)
        options = (pad, self.stride, False, self.dilation, self.groups, False)
        return geometry.forward(f"conv{n}d", n, x, w, None, None, *options)

    @property
    def slots(self) -> dict[str, Slot]:
        """Which of the trilinear form's arrays each operation computes: a transposed layer swaps images and outputs."""
        y, x = ("x", "y") if self.transposed else ("y", "x")
        return {"forward": y, "grad inputs": x, "grad weights": "w"}

    @property
    def operations(self) -> int:
        """Multiplications and additions of any of the three, computed directly."""
        return 2 * self.spec.macs

    def arrays(self) -> dict[Slot, np.ndarray]:
        """Normal values for x, w and y."""
        rng = np.random.default_rng(0)
        return {slot: rng.standard_normal(self.spec.shape(slot), dtype=np.float32) for slot in ("x", "w", "y")}


def transposed(name: str, batch: int, cin: int, size: int, cout: int, kernel: int, stride: int, pad: int) -> Layer:
    """A transposed 2-D layer, told as its network tells it: from `cin` channels at `size` to `cout` larger ones."""
    larger = (size - 1) * stride - 2 * pad + kernel
    return Layer(name, batch, cout, (larger,) * 2, cin, (kernel,) * 2, stride, pad, transposed=True)


CORE = [
    Layer("stem 7x7 s2", 8, 3, (224, 224), 64, (7, 7), 2, 3),
    Layer("res2 3x3", 8, 64, (56, 56), 64, (3, 3), 1, 1),
    Layer("res2 1x1", 8, 64, (56, 56), 256, (1, 1)),
    Layer("res3 3x3", 8, 128, (28, 28), 128, (3, 3), 1, 1),
    Layer("res3 3x3 s2", 8, 128, (56, 56), 128, (3, 3), 2, 1),
    Layer("res4 3x3", 8, 256, (14, 14), 256, (3, 3), 1, 1),
    Layer("res5 3x3", 8, 512, (7, 7), 512, (3, 3), 1, 1),
    Layer("res5 1x1", 8, 2048, (7, 7), 512, (1, 1)),
    Layer("vgg 3x3 224", 2, 64, (224, 224), 64, (3, 3), 1, 1),
    Layer("dw 3x3", 8, 144, (56, 56), 144, (3, 3), 1, 1, groups=144),
    Layer("grouped 32", 8, 128, (56, 56), 128, (3, 3), 1, 1, groups=32),
    Layer("lenet 5x5", 64, 1, (28, 28), 20, (5, 5)),
    Layer("dw 31x31", 4, 128, (56, 56), 128, (31, 31), 1, 15, groups=128),
    Layer("15x15", 4, 32, (64, 64), 32, (15, 15), 1, 7),
]
"""ResNet-50's, and one of each other kind."""

OTHERS = [
    Layer("AlexNet 11x11 s4", 8, 3, (224, 224), 64, (11, 11), 4, 2),
    Layer("AlexNet 5x5", 8, 64, (27, 27), 192, (5, 5), 1, 2),
    Layer("DenseNet 3x3, 87 to 12", 16, 87, (32, 32), 12, (3, 3), 1, 1),
    Layer("DenseNet 1x1, 201 to 99", 8, 201, (28, 28), 99, (1, 1)),
    Layer("ConvNeXt 4x4 s4", 8, 3, (224, 224), 96, (4, 4), 4),
    Layer("ConvNeXt dw 7x7", 8, 96, (56, 56), 96, (7, 7), 1, 3, groups=96),
    Layer("ConvNeXt 1x1", 8, 96, (56, 56), 384, (1, 1)),
    Layer("MobileNet dw 3x3 s2", 8, 96, (112, 112), 96, (3, 3), 2, 1, groups=96),
    Layer("EfficientNet dw 5x5", 8, 240, (28, 28), 240, (5, 5), 1, 2, groups=240),
    Layer("DeepLab 3x3, dilation 6", 2, 256, (33, 33), 256, (3, 3), 1, 6, 6),
    Layer("DeepLab 3x3, dilation 2", 4, 256, (28, 28), 256, (3, 3), 1, 2, 2),
    Layer("U-Net 3x3 valid", 1, 64, (284, 284), 128, (3, 3)),
    Layer("U-Net 3x3, 256 to 128", 2, 256, (104, 104), 128, (3, 3)),
    Layer("Inception 1x7", 8, 128, (17, 17), 128, (1, 7), 1, (0, 3)),
    Layer("Inception 7x1", 8, 160, (17, 17), 192, (7, 1), 1, (3, 0)),
    Layer("Inception 3x3 s2", 8, 288, (35, 35), 384, (3, 3), 2),
    Layer("WaveNet 2, dilation 64", 4, 64, (16000,), 128, (2,), 1, 0, 64),
    Layer("speech 11", 8, 80, (1500,), 256, (11,), 1, 5),
    Layer("speech 3 s2", 8, 256, (1600,), 256, (3,), 2, 1),
    Layer("speech 10 s5", 4, 1, (32000,), 256, (10,), 5),
    Layer("video 3x3x3", 1, 64, (8, 56, 56), 64, (3, 3, 3), 1, 1),
    Layer("video stem 3x7x7 s122", 1, 3, (8, 112, 112), 64, (3, 7, 7), (1, 2, 2), (1, 3, 3)),
    Layer("video 3x1x1", 2, 128, (8, 28, 28), 128, (3, 1, 1), 1, (1, 0, 0)),
    transposed("DCGAN 4x4 s2 at 4", 16, 512, 4, 256, 4, 2, 1),
    transposed("DCGAN 4x4 s2 at 16", 16, 128, 16, 64, 4, 2, 1),
    transposed("U-Net up 2x2 s2", 2, 128, 56, 64, 2, 2, 0),
    Layer("batch 1, 3x3 at 56", 1, 64, (56, 56), 64, (3, 3), 1, 1),
    Layer("batch 1, 3x3 at 14", 1, 256, (14, 14), 256, (3, 3), 1, 1),
    Layer("batch 1, 1x1 at 14", 1, 1024, (14, 14), 256, (1, 1)),
    Layer("batch 1, dw 3x3", 1, 144, (56, 56), 144, (3, 3), 1, 1, groups=144),
    Layer("batch 128, 3x3 at 32", 128, 16, (32, 32), 16, (3, 3), 1, 1),
    Layer("batch 128, 3x3 at 8", 128, 64, (8, 8), 64, (3, 3), 1, 1),
    Layer("batch 128, 5x5", 128, 20, (12, 12), 50, (5, 5)),
]
"""Others of their kind."""

GROUPS = {"core": CORE, "others": OTHERS}
LAYERS = [*CORE, *OTHERS]
assert len({layer.name for layer in LAYERS}) == len(LAYERS)
