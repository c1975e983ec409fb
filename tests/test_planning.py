"""Planning takes about as many steps for any filter, stride and number of channels as for those that networks have."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from eagerconv import algorithms, geometry
from eagerconv.algorithms.policy import Policy
from eagerconv.kernels_cpu import dwm, gemm, planes, rows, winograd
from eagerconv.kernels_cpu.cooktoom import form
from eagerconv.record import OPERANDS, Request
from eagerconv.spec import ConvSpec, contiguous

STEPS = 20_000  # calls of functions, of Python and of NumPy: about five milliseconds


def layer(x: tuple[int, ...], w: tuple[int, ...], pad: int = 0, stride: int = 1, dilation: int = 1) -> ConvSpec:
    options = (pad, stride, False, dilation, x[1] // w[1], False)
    return geometry.forward("conv", len(x) - 2, x, w, None, None, *options)


LAYERS = {
    "3x3": layer((2, 64, 57, 58), (64, 64, 3, 3), 1),
    "3x3, stride 2, 512 channels": layer((2, 512, 15, 14), (512, 512, 3, 3), 1, 2),
    "5x5, 2,048 channels": layer((1, 2048, 15, 14), (512, 2048, 5, 5), 2),
    "15x15": layer((1, 512, 29, 28), (512, 512, 15, 15), 7),
    "31x31 depthwise": layer((1, 64, 57, 56), (64, 1, 31, 31), 15),
    "63x63": layer((2, 64, 129, 128), (64, 64, 63, 63), 31),
    "11x11x11": layer((2, 64, 17, 28, 28), (64, 64, 11, 11, 11), 5),
    "2,048 taps, stride 600": layer((1, 1, 120_001), (1, 1, 2048), 1024, 600),
    "500,001 taps": layer((1, 1, 500_101), (1, 1, 500_001)),
    "50,001 taps, 16 channels": layer((1, 16, 60_101), (16, 16, 50_001)),
    "patches of 16x16": layer((8, 3, 225, 224), (768, 3, 16, 16), 0, 16),
    "patches of 32x32": layer((8, 3, 225, 224), (768, 3, 32, 32), 0, 32),
    "64x64 depthwise, stride 32": layer((1, 21, 545, 544), (21, 1, 64, 64), 16, 32),
    "44x44, stride 22, dilation 3": layer((2, 8, 325, 224), (8, 8, 44, 44), 0, 22, 3),
}


@pytest.fixture(autouse=True)
def no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans are made, not run: so nothing is compiled. What is computed once for all layers is there."""
    for m, r in dwm.FORMS:
        form(m, r)
    algorithms.select(request_of(layer((1, 8, 9, 9), (8, 8, 3, 3)), "y"), Policy())
    for module in (dwm, gemm, planes, rows, winograd):
        monkeypatch.setattr(module, "kernel", lambda function, dtype: None)


def request_of(spec: ConvSpec, slot: Any) -> Request:
    a, b = (contiguous(spec.shape(operand)) for operand in OPERANDS[slot])
    return Request(spec, slot, np.dtype("float32"), (a, b))


def steps(function: Callable[[], Any]) -> int:
    """How many functions are called."""
    count = 0

    def seen(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(seen)
    try:
        function()
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("slot", ["y", "x", "w"])
@pytest.mark.parametrize("name", LAYERS)
def test_the_choice_and_the_plan_take_few_steps(name: str, slot: str) -> None:
    request = request_of(LAYERS[name], slot)
    assert steps(lambda: algorithms.select(request, Policy()).plan(request)) < STEPS


@pytest.mark.parametrize("algorithm", ["winograd_dwm", "gemm"])
@pytest.mark.parametrize("name", LAYERS)
def test_a_forced_plan_takes_few_steps_or_is_refused(name: str, algorithm: str) -> None:
    for slot in OPERANDS:
        request = request_of(LAYERS[name], slot)
        forced = next(a for a in algorithms.TABLE["cpu"] if a.name == algorithm)

        def plan(forced: Any = forced, request: Request = request) -> None:
            if forced.reason_against(request) is None:
                forced.plan(request)

        assert (taken := steps(plan)) < STEPS, f"{slot}: {taken} steps"


@pytest.mark.parametrize("slot", ["y", "x", "w"])
def test_a_new_size_of_a_common_layer_is_planned_in_few_steps(slot: str) -> None:
    """Images of a new size at every call: what is chosen and planned for each costs as much as small convolutions."""
    request = request_of(layer((2, 32, 28, 71), (64, 32, 3, 3), 1), slot)
    assert steps(lambda: algorithms.select(request, Policy()).plan(request)) < 5_000
