"""The algorithm `direct` on the GPU: plain summation by raw kernels. It knows every feature and dtype: the reference there."""

from __future__ import annotations

import math
from typing import Any

from eagerconv.kernels_cpu.table import direct_table
from eagerconv.kernels_gpu.cuda import BLOCK, TYPES, Runtime, launch, runtime
from eagerconv.record import FEATURES, Algorithm, Plan, Request, arrange
from eagerconv.spec import Shape, contiguous

KERNELS = {"y": "forward", "x": "inputs", "w": "weights"}
SUMMING = 128  # threads that share the sum of one weight

SECONDS_PER_PRODUCT = 2e-12  # an estimate for a card of an H200's kind, not a measurement
SECONDS_PER_CALL = 8e-6


class Geometry:
    """The table of geometry of a request on each device that asks for it."""

    def __init__(self, request: Request, result: Shape) -> None:
        self._entries = direct_table(request.spec, *arrange(request.slot, *request.strides, result))
        self._tables: dict[int, Any] = {}

    def on(self, cuda: Runtime) -> Any:
        """The table on the current device."""
        device = cuda.device()
        if device not in self._tables:
            self._tables[device] = cuda.upload(self._entries)
        return self._tables[device]


def _plan(request: Request) -> Plan:
    spec, slot, dtype = request.spec, request.slot, request.dtype
    shape = spec.shape(slot)
    count, threads, flags = math.prod(shape), BLOCK, ()
    if slot == "w":
        count, threads, flags = count * SUMMING, SUMMING, (int(spec.unshared),)  # type: ignore[assignment]
    geometry = Geometry(request, contiguous(shape))

    def run(a: Any, b: Any) -> Any:
        cuda = runtime()
        result = cuda.empty(shape, dtype)
        operands = arrange(slot, a, b, result)
        launch(cuda, dtype.name, KERNELS[slot], count, *operands, geometry.on(cuda), *flags, threads=threads)
        return result

    return run


DIRECT = Algorithm(
    name="direct",
    features=FEATURES,
    dtypes=frozenset(TYPES),
    error=None,
    refuses=lambda request: None,
    workspace=lambda request: 0,
    cost=lambda request: SECONDS_PER_CALL + request.spec.macs * SECONDS_PER_PRODUCT,
    plan=_plan,
)
