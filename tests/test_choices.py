"""What is chosen for shapes on which estimates were wrong, and bounds that no estimate may leave."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from eagerconv import algorithms, geometry
from eagerconv.algorithms.policy import Policy
from eagerconv.record import OPERANDS, Request
from eagerconv.spec import ConvSpec, contiguous


def layer(x: tuple[int, ...], w: tuple[int, ...], pad: int = 0, stride: int = 1, dilation: int = 1) -> ConvSpec:
    options = (pad, stride, False, dilation, x[1] // w[1], False)
    return geometry.forward("conv", len(x) - 2, x, w, None, None, *options)


def typical(spec: ConvSpec, slot: Any) -> Request:
    a, b = (contiguous(spec.shape(operand)) for operand in OPERANDS[slot])
    return Request(spec, slot, np.dtype("float32"), (a, b)).typical


PATCHES_16 = layer((8, 3, 224, 224), (768, 3, 16, 16), 0, 16)
PATCHES_32 = layer((8, 3, 224, 224), (768, 3, 32, 32), 0, 32)
LONG_STRIDE = layer((1, 1, 120_000), (1, 1, 2048), 1024, 600)
UPSAMPLING = layer((1, 21, 544, 544), (21, 1, 64, 64), 16, 32)
FEW_CHANNELS = layer((1, 32, 32, 64, 64), (4, 32, 1, 1, 1))
SPEECH = layer((4, 1, 16_000), (256, 1, 16), 0, 8)
DILATED = layer((8, 64, 56, 56), (64, 64, 5, 5), 4, 1, 2)
STRIDE_5 = layer((4, 64, 112, 112), (64, 1, 7, 7), 3, 5)

CHOICES: list[tuple[ConvSpec, str, tuple[str, ...]]] = [
    (PATCHES_16, "x", ("columns",)),
    (PATCHES_32, "x", ("columns",)),
    (LONG_STRIDE, "x", ("columns",)),
    (UPSAMPLING, "x", ("columns", "direct")),
    (FEW_CHANNELS, "y", ("gemm",)),
    (FEW_CHANNELS, "x", ("gemm",)),
    (FEW_CHANNELS, "w", ("gemm",)),
    (SPEECH, "w", ("gemm",)),
    (DILATED, "y", ("gemm",)),
    (DILATED, "x", ("gemm",)),
    (DILATED, "w", ("gemm",)),
    (STRIDE_5, "y", ("rows",)),
]


@pytest.mark.plans
@pytest.mark.parametrize(("spec", "slot", "good"), CHOICES, ids=lambda value: str(value)[:60])
def test_the_choice(spec: ConvSpec, slot: str, good: tuple[str, ...]) -> None:
    assert algorithms.select(typical(spec, slot), Policy()).name in good


@pytest.mark.plans
@pytest.mark.parametrize("slot", ["y", "x", "w"])
@pytest.mark.parametrize(
    "spec",
    [FEW_CHANNELS, layer((8, 16, 112, 112), (1, 16, 1, 1)), layer((8, 64, 56, 56), (3, 64, 1, 1)), SPEECH, STRIDE_5],
    ids=str,
)
def test_no_estimate_is_faster_than_memory(spec: ConvSpec, slot: str) -> None:
    """Images and results pass by once, at 100 GB/s at most for each of the two threads."""
    request = typical(spec, slot)
    nbytes = 4 * sum(math.prod(request.spec.shape(s)) for s in ("x", "y"))
    for algorithm in algorithms.TABLE["cpu"]:
        if algorithm.reason_against(request) is None:
            assert algorithm.cost(request) >= nbytes / 200e9, algorithm.name


@pytest.mark.plans
@pytest.mark.parametrize("spec", [PATCHES_16, LONG_STRIDE, UPSAMPLING, SPEECH], ids=str)
def test_direct_counts_the_taps_that_a_row_meets(spec: ConvSpec) -> None:
    """A row of the gradient with respect to inputs meets the taps of its phase, for pieces of 512 pixels, at 8 ns each."""
    request = typical(spec, "x")
    s = request.spec
    taps = s.cout * s.kernel[-1] * math.prod(k / d for k, d in zip(s.kernel[:-1], s.stride[:-1], strict=True))
    passes = s.batch * s.groups * s.cin * math.prod(s.size[:-1]) * taps * math.ceil(s.size[-1] / 512)
    direct = next(a for a in algorithms.TABLE["cpu"] if a.name == "direct")
    seconds = request.threads * direct.cost(request)
    assert 0.5 < seconds / (passes * 8e-9 + s.macs * 0.6e-9) < 2
