"""The algorithm `direct`: plain summation. It knows every feature and dtype, needs one row of memory, and is the reference."""

from __future__ import annotations

import math

from eagerconv.kernels_cpu.blocks import DIRECT_ROW
from eagerconv.kernels_cpu.jit import kernel
from eagerconv.kernels_cpu.table import as_table, direct_table
from eagerconv.kernels_cpu.threads import Launch, worthwhile
from eagerconv.record import FEATURES, Algorithm, Plan, Request, arrange
from eagerconv.spec import contiguous

# Measured on one AVX-512 core at 4 GHz, and what a task costs before its first product.
SECONDS_PER_TASK = 30e-9
SECONDS_PER_PASS = 8e-9  # one tap along one piece of a row
SECONDS_PER_PRODUCT, SECONDS_APART = 0.15e-9, 0.6e-9  # with neighbouring pixels, and with pixels a stride apart


def _work(request: Request) -> tuple[str, int, int]:
    """(kernel name, tasks, taps added into each task's row)."""
    spec = request.spec
    if request.slot == "y":
        return (
            "forward",
            spec.batch * spec.groups * spec.cout * math.prod(spec.out[:-1]),
            spec.cin * math.prod(spec.kernel),
        )
    if request.slot == "x":
        return (
            "inputs",
            spec.batch * spec.groups * spec.cin * math.prod(spec.size[:-1]),
            spec.cout * math.prod(spec.kernel),
        )
    filters = spec.groups * spec.cout
    rows = spec.batch * math.prod(spec.out[:-1])
    if spec.unshared:
        return "weights_unshared", filters * math.prod(spec.out[:-1]), spec.batch * spec.cin * math.prod(spec.kernel)
    return "weights", filters * spec.cin * math.prod(spec.kernel[:-1]), rows * spec.kernel[-1]


def _seconds(request: Request) -> float:
    """Tasks, passes and products, each at its measured price, on one thread."""
    spec, (_, tasks, taps) = request.spec, _work(request)
    passes: float = tasks * taps
    if request.slot != "w":  # rows are computed in pieces
        passes *= -(-(spec.out if request.slot == "y" else spec.size)[-1] // DIRECT_ROW)
    if request.slot == "x":  # a row of the result meets the taps of its phase
        passes /= math.prod(spec.stride[:-1])
    products = spec.macs * (SECONDS_APART if spec.stride[-1] > 1 else SECONDS_PER_PRODUCT)
    return tasks * SECONDS_PER_TASK + passes * SECONDS_PER_PASS + products


def _cost(request: Request) -> float:
    seconds, tasks = _seconds(request), _work(request)[1]
    return seconds / max(1, min(worthwhile(request.threads, seconds), tasks))


def _plan(request: Request) -> Plan:
    spec, slot, dtype = request.spec, request.slot, request.dtype
    name, tasks, _ = _work(request)
    native = kernel(f"direct:{name}", dtype)
    shape = spec.shape(slot)
    a, b = request.strides
    table = as_table(direct_table(spec, *arrange(slot, a, b, contiguous(shape))))
    threads = worthwhile(request.threads, _seconds(request))
    launch = Launch([(native, range(tasks))], threads, 2 * DIRECT_ROW * dtype.itemsize, table)

    return launch.plan(shape, dtype, slot)


DIRECT = Algorithm(
    name="direct",
    features=FEATURES,
    dtypes=frozenset(
        [
            "float32",
            "float64",
            "complex64",
            "complex128",
            "int8",
            "int16",
            "int32",
            "int64",
            "uint8",
            "uint16",
            "uint32",
            "uint64",
        ]
    ),
    error=None,
    refuses=lambda request: None,
    workspace=lambda request: 2 * DIRECT_ROW * request.dtype.itemsize * request.threads,
    cost=_cost,
    plan=_plan,
)
