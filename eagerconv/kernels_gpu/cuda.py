"""CUDA as the algorithms see it: memory, kernels, matrix products, transforms. The only file that imports CuPy."""

from __future__ import annotations

import ctypes
import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from functools import cached_property, lru_cache
from importlib import resources
from typing import Any, Protocol

import numpy as np

from eagerconv.interrupts import imported
from eagerconv.kernels_cpu import table
from eagerconv.record import SLOT_NAMES, Algorithm, FinishingPlan, Plan, Request
from eagerconv.spec import Shape

BLOCK = 256  # threads of a block
MOST_BLOCKS = 1 << 16  # of a launch: kernels loop over what is left

# dtype -> (ELEMENT, SUM) of the CUDA source.
TYPES = {
    "float16": ("float16", "float"),
    "bfloat16": ("bfloat16", "float"),
    "float32": ("float", "float"),
    "float64": ("double", "double"),
    "complex64": ("complex_of<float>", "complex_of<float>"),
    "complex128": ("complex_of<double>", "complex_of<double>"),
    "bool": ("bool", "int"),
    **{f"int{n}": (c, "i64") for n, c in ((8, "signed char"), (16, "short"), (32, "int"), (64, "i64"))},
    **{f"uint{n}": (f"unsigned {c}", "unsigned long long") for n, c in ((8, "char"), (16, "short"), (32, "int"))},
    "uint64": ("unsigned long long", "unsigned long long"),
}  # fmt: skip

# Names of entries of the table of geometry that the source reads.
ENTRIES = (
    "BATCH", "GROUPS", "CIN", "COUT", "SIZE", "KERNEL", "OUT", "STRIDE", "STEP", "ORIGIN",
    "X_N", "X_C", "X_I", "W_F", "W_O", "W_C", "W_K", "Y_N", "Y_F", "Y_O",
)  # fmt: skip


class DeviceError(RuntimeError):
    """There is no usable GPU; the message tells what is missing and what to do."""


class Runtime(Protocol):
    """What the algorithms ask of CUDA. `CupyRuntime` is the real one; the tests have one that runs on the CPU."""

    xp: Any
    """The array module."""

    def device(self) -> int:
        """Return the number of the current device."""

    def stream(self) -> int:
        """Return the address of the current stream."""

    def on(self, *arrays: Any) -> AbstractContextManager[Any] | None:
        """Return a context in which the device of the arrays is the current one; they must share it. None: it is already."""

    def synchronize(self) -> None:
        """Wait for the current stream."""

    def record(self, function: Callable[[], Any], warmup: int) -> tuple[Callable[[], None], Any]:
        """Return what does again all that a function enqueues, and the function's result; it runs `warmup` times before."""

    def put(self, array: Any) -> Any:
        """Return a copy of an array of the CPU on the current device."""

    def get(self, array: Any) -> Any:
        """Return a copy of an array on the CPU."""

    def address(self, array: Any) -> int:
        """Return the device address of the first element of an array."""

    def empty(self, shape: Shape, dtype: Any) -> Any:
        """Return an uninitialised, contiguous array on the current device."""

    def scratch(self, size: int) -> tuple[Any, int]:
        """Return memory of so many bytes for what is enqueued next, and its address; keep the first until it is."""

    def upload(self, entries: Sequence[int]) -> Any:
        """Return a table of geometry on the current device."""

    def function(self, dtype: str, name: str) -> Callable[..., None]:
        """Return a kernel of the source for a dtype, called with (blocks, threads, arguments)."""

    def compiled(self, text: str, name: str) -> Callable[..., None]:
        """Return a kernel of another source, called likewise."""

    def gemm(self, a: Any, b: Any, out: Any, tf32: bool, add: bool = False) -> None:
        """Write, or add, a @ b to out; all (batch, rows, columns), of any batch stride, contiguous along one other axis."""

    def rfftn(self, a: Any, lengths: Shape) -> Any:
        """Return the spectrum of the last axes of `a`, padded with zeros to `lengths`."""

    def irfftn(self, a: Any, lengths: Shape) -> Any:
        """Return the signal of a spectrum, of `lengths` along the last axes."""


def source(dtype: str) -> str:
    """The CUDA source of all kernels for one dtype."""
    element, total = TYPES[dtype]
    lines = [f"#define {name} {getattr(table.DIRECT, name)}" for name in ENTRIES]
    lines += [f"#define ELEMENT_TYPE {element}", f"#define SUM_TYPE {total}"]
    text = resources.files("eagerconv.kernels_gpu").joinpath("conv.cu").read_text(encoding="utf-8")
    return "\n".join([*lines, text])


def launch(runtime: Runtime, dtype: str, name: str, count: int, *arguments: Any, threads: int = BLOCK) -> None:
    """Run a kernel on `count` elements. Python ints become 64-bit, as all scalars of the source are."""
    if count > 0:  # a grid of no blocks is an error of CUDA's
        blocks = min(-(-count // threads), MOST_BLOCKS)
        runtime.function(dtype, name)((blocks,), (threads,), arguments)


def guarded(algorithm: Algorithm) -> Algorithm:
    """The algorithm, run on the device of its operands; what goes wrong there tells in which convolution."""

    def on_its_device(request: Request, inner: Callable[..., Any]) -> Callable[..., Any]:
        def run(*operands: Any) -> Any:
            try:
                elsewhere = runtime().on(*operands)
                if elsewhere is None:
                    return inner(*operands)
                with elsewhere:
                    return inner(*operands)
            except Exception as error:
                error.add_note(
                    f"in the {SLOT_NAMES[request.slot]} of {request.spec}, {request.dtype}, by {algorithm.name}"
                )
                raise

        return run

    def finishing(request: Request, rectify: bool) -> FinishingPlan | None:
        inner = None if algorithm.finishing is None else algorithm.finishing(request, rectify)
        return None if inner is None else on_its_device(request, inner)

    def plan(request: Request) -> Plan:
        return on_its_device(request, algorithm.plan(request))

    return replace(algorithm, plan=plan, finishing=finishing if algorithm.finishing else None)


# ----- What can't be recorded -----


class _Recording(threading.local):
    """Whether this thread records a computation."""

    now = False


_recording = _Recording()


@contextmanager
def recording() -> Iterator[None]:
    """What is done inside is recorded: copies between the host and the card are refused."""
    _recording.now = True
    try:
        yield
    finally:
        _recording.now = False


def refuse_copies(what: str) -> None:
    """Refuse a copy while this thread records: a repetition would copy what is at the same place of the host by then."""
    if _recording.now:
        raise RuntimeError(
            f"cuda_graph: {what} while a computation is recorded, which a repetition can't do again; copy before, and write "
            "new numbers into the place of the old ones (x.data[...] = batch)"
        )


# ----- The runtime in force -----

_runtime: Runtime | None = None


def runtime() -> Runtime:
    """CuPy's runtime, made when it is first asked for.

    Raises
    ------
    DeviceError
        If there is no driver, no GPU or no CuPy that works.
    """
    global _runtime
    if _runtime is None:
        _runtime = CupyRuntime()
    return _runtime


@lru_cache(maxsize=1)
def gpus() -> int:
    """How many CUDA devices the driver reports; asked of the driver itself, silently, without CuPy."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
        count = ctypes.c_int()
        found = driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
    except (OSError, AttributeError):
        return 0
    return count.value if found else 0


def _cupy() -> Any:
    if not gpus():
        raise DeviceError(
            "no CUDA device: the NVIDIA driver is missing, too old or reports no GPU (see `nvidia-smi`); use the CPU"
        )
    try:
        cupy = imported("cupy")
    except Exception as error:  # CuPy's import fails in many ways: not installed, home not writable, broken libraries
        raise DeviceError(
            f"a GPU is there, but CuPy cannot be imported ({type(error).__name__}: {error}); install it with "
            "`pip install eagerconv[cuda13]` (or cuda12), and set CUPY_CACHE_DIR if the home directory is not writable"
        ) from error
    if not cupy.cuda.is_available():
        raise DeviceError("CuPy cannot use the GPU: driver and CUDA version do not fit; compare `cupy.show_config()`")
    return cupy


class CupyRuntime:
    """CUDA through CuPy: its memory pool and current stream, NVRTC, cuBLAS and cuFFT."""

    def __init__(self) -> None:
        self.xp = _cupy()
        self._alone = self.xp.cuda.runtime.getDeviceCount() == 1  # nothing to ask, and nothing to change
        self._functions: dict[tuple[int, str, str], Any] = {}
        self._modules: dict[str, Any] = {}
        self._plans = threading.local()

    def device(self) -> int:
        """Return the number of the current device."""
        return 0 if self._alone else int(self.xp.cuda.runtime.getDevice())

    def stream(self) -> int:
        """Return the address of the current stream."""
        return int(self.xp.cuda.get_current_stream().ptr)

    def on(self, *arrays: Any) -> AbstractContextManager[Any] | None:
        """Return a context in which the device of the arrays is the current one, or None where it is already."""
        if self._alone:
            return None
        first = arrays[0].device
        for array in arrays:
            if array.device != first:
                raise TypeError(
                    f"operands on different devices: cuda:{first.id} and cuda:{array.device.id}; move one of them"
                )
        return first  # type: ignore[no-any-return]  # CuPy's devices are contexts

    def synchronize(self) -> None:
        """Wait for the current stream."""
        self.xp.cuda.get_current_stream().synchronize()

    def record(self, function: Callable[[], Any], warmup: int) -> tuple[Callable[[], None], Any]:
        """Return what does again all that a function enqueues, and the function's result; it runs `warmup` times before.

        All its memory comes from a pool of its own, which nobody else takes from as long as the graph lives.
        """
        cuda = self.xp.cuda
        stream, pool, caller = cuda.Stream(non_blocking=True), cuda.MemoryPool(), cuda.get_current_stream()
        stream.wait_event(caller.record())
        with stream, cuda.using_allocator(pool.malloc):
            for _ in range(warmup):
                function()
            stream.synchronize()
            stream.begin_capture()
            try:
                with recording():
                    result = function()
            except BaseException:
                with suppress(Exception):  # the capture is invalid by now; what made it so is to be told
                    stream.end_capture()
                raise
            graph = stream.end_capture()

        def replay(kept: Any = pool) -> None:
            now = cuda.get_current_stream()
            stream.wait_event(now.record())
            graph.launch(stream)
            now.wait_event(stream.record())

        return replay, result

    def put(self, array: Any) -> Any:
        """Return a copy on the current device."""
        refuse_copies("an array of the CPU goes to the GPU")
        return self.xp.asarray(array)

    def get(self, array: Any) -> Any:
        """Return a copy on the CPU."""
        refuse_copies("an array of the GPU is read on the CPU")
        return self.xp.asnumpy(array)

    def address(self, array: Any) -> int:
        """Return the device address of the first element."""
        return int(array.data.ptr)

    def empty(self, shape: Shape, dtype: Any) -> Any:
        """Return an uninitialised array."""
        try:
            return self.xp.empty(shape, dtype)
        except self.xp.cuda.memory.OutOfMemoryError:
            size = math.prod(shape) * np.dtype(dtype).itemsize
            return self._with_room(lambda: self.xp.empty(shape, dtype), size, f"an array of shape {tuple(shape)}")

    def scratch(self, size: int) -> tuple[Any, int]:
        """Return memory, and its address; CuPy's pool gives it to nobody who could write before what is enqueued now."""
        try:
            memory = self.xp.cuda.alloc(size)
        except self.xp.cuda.memory.OutOfMemoryError:
            memory = self._with_room(lambda: self.xp.cuda.alloc(size), size, "workspace")
        return memory, memory.ptr

    def _with_room(self, allocate: Callable[[], Any], size: int, what: str) -> Any:
        """Try again when what the pool holds unused has gone back, and tell what there was no room for."""
        self.xp.get_default_memory_pool().free_all_blocks()
        try:
            return allocate()
        except self.xp.cuda.memory.OutOfMemoryError as error:
            raise MemoryError(f"{size:,} bytes for {what} on the GPU: {error}") from error

    def upload(self, entries: Sequence[int]) -> Any:
        """Return a table of geometry on the current device."""
        refuse_copies("a table of geometry goes to the GPU")
        return self.xp.asarray(table.as_table(entries))

    def function(self, dtype: str, name: str) -> Callable[..., None]:
        """Return a kernel, compiled by NVRTC when first used on a device and kept on disk by CuPy."""
        key = (self.device(), dtype, name)
        if key not in self._functions:
            if dtype not in self._modules:
                self._modules[dtype] = self.xp.RawModule(code=source(dtype), options=("-std=c++17",))
            self._functions[key] = self._modules[dtype].get_function(name)
        return self._functions[key]  # type: ignore[no-any-return]

    def compiled(self, text: str, name: str) -> Callable[..., None]:
        """Return a kernel of another source, likewise."""
        key = (self.device(), text, name)
        if key not in self._functions:
            self._functions[key] = self.xp.RawModule(code=text, options=("-std=c++17",)).get_function(name)
        return self._functions[key]  # type: ignore[no-any-return]

    # ----- cuBLAS -----

    @cached_property
    def _cublas(self) -> Any:
        from cupy_backends.cuda.libs import cublas

        return cublas

    def gemm(self, a: Any, b: Any, out: Any, tf32: bool, add: bool = False) -> None:
        """Write, or add, a @ b to out, by gemmStridedBatchedEx: `cupy.matmul` copies views and widens float16.

        cuBLAS counts columns first, in which out^T = b^T a^T: so b comes first, and a row-major matrix is one that is
        not transposed.
        """
        cublas, runtime = self._cublas, self.xp.cuda.runtime
        batch, rows, columns = out.shape
        types = {"e": runtime.CUDA_R_16F, "f": runtime.CUDA_R_32F, "d": runtime.CUDA_R_64F}
        kinds = [types.get(x.dtype.char, runtime.CUDA_R_16BF) for x in (a, b, out)]
        double = out.dtype == np.float64
        compute = (
            cublas.CUBLAS_COMPUTE_64F if double else cublas.CUBLAS_COMPUTE_32F_FAST_TF32 if tf32 else cublas.CUBLAS_COMPUTE_32F
        )  # fmt: skip
        one, beta = (np.array(v, np.float64 if double else np.float32) for v in (1, add))
        (b_trans, b_lead), (a_trans, a_lead) = leading(b), leading(a)
        cublas.gemmStridedBatchedEx(
            self.xp.cuda.device.get_cublas_handle(), b_trans, a_trans, columns, rows, a.shape[2],
            one.ctypes.data, b.data.ptr, kinds[1], b_lead, b.strides[0] // b.itemsize,
            a.data.ptr, kinds[0], a_lead, a.strides[0] // a.itemsize,
            beta.ctypes.data, out.data.ptr, kinds[2], leading(out)[1], out.strides[0] // out.itemsize,
            batch, compute, -1,
        )  # fmt: skip

    # ----- cuFFT: plans of our own, because CuPy keeps only sixteen -----

    def _fft_plan(self, shape: Shape, dtype: Any, lengths: Shape, kind: str) -> Any:
        plans = self._plans.__dict__.setdefault("plans", {})
        key = (self.device(), shape, str(dtype), lengths, kind)
        if key not in plans:
            from cupyx.scipy.fft import get_fft_plan

            axes = tuple(range(-len(lengths), 0))
            plans[key] = get_fft_plan(self.xp.empty(shape, dtype), lengths, axes, kind)
        return plans[key]

    def rfftn(self, a: Any, lengths: Shape) -> Any:
        """Return the spectrum of the last axes, padded with zeros to `lengths`."""
        import cupyx.scipy.fft

        padded = self.xp.zeros((*a.shape[: -len(lengths)], *lengths), a.dtype)
        padded[(..., *(slice(n) for n in a.shape[-len(lengths) :]))] = a
        plan = self._fft_plan(padded.shape, padded.dtype, lengths, "R2C")
        return cupyx.scipy.fft.rfftn(padded, lengths, tuple(range(-len(lengths), 0)), plan=plan)

    def irfftn(self, a: Any, lengths: Shape) -> Any:
        """Return the signal of a spectrum; the spectrum is lost."""
        import cupyx.scipy.fft

        a = self.xp.ascontiguousarray(a)
        plan = self._fft_plan(a.shape, a.dtype, lengths, "C2R")
        return cupyx.scipy.fft.irfftn(a, lengths, tuple(range(-len(lengths), 0)), overwrite_x=True, plan=plan)


def leading(a: Any) -> tuple[int, int]:
    """(whether cuBLAS must transpose it, distance between its rows or columns) of a stack of matrices.

    Raises
    ------
    ValueError
        If no axis of the matrices is contiguous.
    """
    _, rows, columns = a.shape
    row, column = (s // a.itemsize for s in a.strides[1:])
    if column == 1 or columns == 1:
        return 0, max(row if rows > 1 else columns, columns, 1)
    if row == 1 or rows == 1:
        return 1, max(column, rows, 1)
    raise ValueError(f"neither rows nor columns of matrices with strides {a.strides} are contiguous")
