"""The algorithm `cudnn`: engines of NVIDIA's library, in any layout; float32 is float32 unless TF32 is allowed."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any, TypeAlias

from eagerconv.kernels_gpu import cudnn_backend as backend
from eagerconv.kernels_gpu.cuda import Runtime, runtime
from eagerconv.record import FEATURES, OPERANDS, Algorithm, FinishingPlan, Request, arrange
from eagerconv.spec import ConvSpec, Shape, contiguous

MOST_ALIGNMENT = 16  # bytes; more tells cuDNN nothing
MOST_ENGINES = 20  # that are timed
WORKSPACE = 1 << 30  # bytes that an engine may have where the user sets no limit

Alignments: TypeAlias = tuple[int, ...]

SECONDS_PER_PRODUCT = 0.5e-13  # an estimate for a card of an H200's kind, not a measurement
SECONDS_PER_CALL = 12e-6


class _Engines:
    """The plans for one request, device and alignment: the one in use, and those to turn to when it fails."""

    def __init__(self, request: Request, device: int, alignments: Alignments, rectify: bool | None = None) -> None:
        """With `rectify` not None a bias is added, whose alignment comes last, and perhaps rectified."""
        limit = WORKSPACE if request.workspace is None else request.workspace
        self._key = (replace(request, tuned=False), device, rectify)
        self._rest = backend.plans(_description(request, alignments, rectify), _unwanted(request), limit)
        self.plan = next(self._rest)
        for _ in range(_fastest.get(self._key, 0)):
            self.plan = next(self._rest, self.plan)

    def turn(self, error: Exception) -> None:
        """Take the next plan: one with less workspace if that was what failed. Without one, the error stands."""
        limit = self.plan.workspace if isinstance(error, MemoryError) else math.inf
        for plan in self._rest:
            if plan.workspace < limit:
                self.plan = plan
                return
        raise error

    def tune(self, seconds: Callable[[backend.Plan], float]) -> None:
        """Time all plans, and keep the fastest, for later plans of the same request too."""
        candidates = [self.plan, *itertools.islice(self._rest, MOST_ENGINES - 1)]
        times = [seconds(plan) for plan in candidates]
        best = min(range(len(times)), key=times.__getitem__)
        _fastest[self._key] = best
        self.plan = candidates[best]


_fastest: dict[Any, int] = {}
"""Place of the measured best among the plans of a request, in the heuristic's order."""


class _Handles(threading.local):
    """Handles may not be shared between threads: each has its own, with its stream, for each device."""

    def __init__(self) -> None:
        self.of: dict[int, tuple[Any, int]] = {}


class _Plans(threading.local):
    """Nor may plans: each thread has its own, for each device and alignment that a request meets."""

    def __init__(self) -> None:
        self.of: dict[tuple[int, Alignments], _Engines] = {}


_handles = _Handles()


def _handle(cuda: Runtime) -> Any:
    """The handle of this thread for the current device, on the current stream."""
    device, stream = cuda.device(), cuda.stream()
    handle, last = _handles.of.get(device, (None, None))
    if handle is None:
        handle = backend.new_handle()
    if last != stream:  # setting it takes microseconds, even to what it was
        backend.set_stream(handle, stream)
        _handles.of[device] = (handle, stream)
    return handle


def _alignments(places: tuple[int, ...]) -> Alignments:
    """How many bytes each address is a multiple of, as far as cuDNN asks."""
    union = MOST_ALIGNMENT
    for place in places:
        union |= place
    if union & -union == MOST_ALIGNMENT:
        return (MOST_ALIGNMENT,) * len(places)
    return tuple(min(MOST_ALIGNMENT, place & -place) for place in places)


def _padding(spec: ConvSpec) -> tuple[Shape, Shape]:
    """(before, after) on each axis: where the first window starts, and what the last one needs beyond the image."""
    before, after = [], []
    for i, k, o, s, d, p in zip(spec.size, spec.kernel, spec.out, spec.stride, spec.step, spec.origin, strict=True):
        first = p + min(0, (k - 1) * d)
        before.append(-first)
        after.append(max(0, first + (o - 1) * s + (k - 1) * abs(d) + 1 - i))
    return tuple(before), tuple(after)


def _layout(shape: Shape, like: Shape) -> Shape:
    """Strides of a new array: channels last if those of `like` are, else C order."""
    if len(like) > 2 and like[1] == 1 and shape[1] > 1 and like[-1] > 1:
        batch, *spatial, channel = contiguous((shape[0], *shape[2:], shape[1]))
        return (batch, channel, *spatial)
    return contiguous(shape)


def _orders(request: Request) -> tuple[Shape, Shape, Shape]:
    """Strides of (operand, operand, result) as cuDNN sees them: zero and negative ones are copied away before."""
    shapes = [request.spec.shape(slot) for slot in OPERANDS[request.slot]]
    a, b = (
        strides if all(s > 0 for s in strides) else contiguous(shape)
        for shape, strides in zip(shapes, request.strides, strict=True)
    )
    return a, b, _layout(request.spec.shape(request.slot), a)


def _unwanted(request: Request) -> set[int]:
    """Notes of engines that change what the user asked for."""
    notes = {backend.DOWN_CONVERT_INPUTS, backend.NONDETERMINISTIC, *backend.INDIRECT}
    if request.dtype == "float32" and not request.tf32:
        notes.add(backend.TENSOR_CORE)
    return notes


def _description(request: Request, alignments: Alignments, rectify: bool | None = None) -> backend.ConvolutionSpec:
    spec = request.spec
    before, after = _padding(spec)
    a, b, result = _orders(request)
    strides = arrange(request.slot, a, b, result)
    slots = ("x", "w", "y")
    x, w, y = (
        backend.TensorSpec(spec.shape(slot), stride, alignment)  # type: ignore[arg-type]
        for slot, stride, alignment in zip(slots, strides, alignments[:3], strict=True)
    )
    bias = None
    if rectify is not None:
        shape = (1, spec.shape("y")[1], *(1,) * spec.ndim)
        bias = backend.TensorSpec(shape, _layout(shape, result), alignments[3])
    flipped = any(d < 0 for d in spec.step)
    dilation = tuple(map(abs, spec.step))
    return backend.ConvolutionSpec(
        request.slot, request.dtype.name, x, w, y, before, after, spec.stride, dilation, flipped, bias, bool(rectify)
    )


@lru_cache(maxsize=1024)
def _trial(request: Request, device: int, rectify: bool | None = None) -> tuple[str | None, int]:
    """(why there is no plan, or None; bytes of workspace), asked of cuDNN once."""
    try:
        return None, _Engines(request, device, (MOST_ALIGNMENT,) * 4, rectify).plan.workspace
    except backend.CudnnError as error:
        return str(error), 0


def _refuses(request: Request) -> str | None:
    spec = request.spec
    before, _ = _padding(spec)
    if min(before) < 0:
        return "does not crop images"
    if len({d < 0 for d, k in zip(spec.step, spec.kernel, strict=True) if k > 1}) > 1:
        return "flips filters on all axes or on none"
    if request.dtype.name in ("float16", "bfloat16") and spec.ndim == 3:
        try:
            version = backend.library().cudnnGetVersion()
        except backend.CudnnError as error:
            return str(error)
        if version < backend.OLDEST_3D_HALF:
            return f"is wrong in three dimensions for {request.dtype} before cuDNN {backend.OLDEST_3D_HALF}, this is {version}"
    return _trial(request, runtime().device())[0]


def _seconds(cuda: Runtime, call: Callable[[], None]) -> float:
    """The time of an engine's second run, or infinity for one that fails."""
    try:
        call()
        cuda.synchronize()
        start = time.perf_counter()
        call()
        cuda.synchronize()
    except (backend.CudnnError, MemoryError):
        return math.inf
    return time.perf_counter() - start


def _finishing(request: Request, rectify: bool) -> FinishingPlan | None:
    """The plan that adds a bias too, and rectifies, where cuDNN has an engine for all in one."""
    return None if _trial(request, runtime().device(), rectify)[0] else _plan(request, rectify)


def _plan(request: Request, rectify: bool | None = None) -> Any:
    """A function of two arrays; with `rectify` not None of three, the last a bias of one number per channel."""
    slot, dtype = request.slot, request.dtype
    shape = request.spec.shape(slot)
    a_order, b_order, order = _orders(request)
    copies = tuple(ordered != given for ordered, given in zip((a_order, b_order), request.strides, strict=True))
    x, w, y = arrange(slot, 0, 1, 2)  # where the operands of the trilinear form are among (a, b, result)
    plans, plain = _Plans(), order == contiguous(shape)

    def new(cuda: Runtime) -> Any:
        if plain:
            return cuda.empty(shape, dtype)
        last = cuda.empty((shape[0], *shape[2:], shape[1]), dtype)
        return cuda.xp.moveaxis(last, -1, 1)

    def run(a: Any, b: Any, *bias: Any) -> Any:
        cuda = runtime()
        if True in copies:
            a, b = (cuda.xp.ascontiguousarray(v) if copy else v for v, copy in zip((a, b), copies, strict=True))
        result, address = new(cuda), cuda.address
        given = (address(a), address(b), address(result))
        places: tuple[int, ...] = (given[x], given[w], given[y])
        if bias:
            (column,) = bias
            column = column if column.flags.c_contiguous else cuda.xp.ascontiguousarray(column)
            places = (*places, address(column))
        alignments, device, handle = _alignments(places), cuda.device(), _handle(cuda)

        def execute(plan: backend.Plan) -> None:
            kept, workspace = cuda.scratch(plan.workspace) if plan.workspace else (None, places[0])  # one there must be
            plan.execute(handle, (*places, workspace))
            del kept  # what is enqueued has its place

        engines = plans.of.get((device, alignments))
        if engines is None:
            engines = plans.of[device, alignments] = _Engines(request, device, alignments, rectify)
            if request.tuned:
                engines.tune(lambda plan: _seconds(cuda, lambda: execute(plan)))
        while True:
            try:
                execute(engines.plan)
                return result
            except (backend.CudnnError, MemoryError) as error:
                engines.turn(error)

    return run


CUDNN = Algorithm(
    name="cudnn",
    features=FEATURES - {"unshared"},
    dtypes=frozenset(backend.DATA_TYPES),
    error=None,  # engines that do not sum products of the operands are left out
    refuses=_refuses,
    workspace=lambda request: _trial(request, runtime().device())[1],
    cost=lambda request: SECONDS_PER_CALL + request.spec.macs * SECONDS_PER_PRODUCT,
    plan=_plan,
    finishing=_finishing,
)
