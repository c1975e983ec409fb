"""CUDA without a GPU: the kernels' own source compiled by g++, NumPy in CuPy's place, and a libcudnn of our own.

`CudaArray` stands for `cupy.ndarray`: an array on a device that the library must not confuse with one of NumPy's.
"""

from __future__ import annotations

import ctypes
import gc
import hashlib
import math
import os
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from eagerconv import algorithms, devices
from eagerconv.kernels_cpu import cache
from eagerconv.kernels_cpu.table import as_table
from eagerconv.kernels_gpu import cuda, cudnn, cudnn_backend

HERE = Path(__file__).parent / "cuda"
NO_COMPILER = None if shutil.which("g++") else "needs g++, to compile CUDA sources for the CPU"
ORDERS = {"forward": 0, "reversed": 1, "shuffled": 2}


traffic: Counter[str] = Counter()
"""What made the host and the card wait for each other: copies in either direction, and values that the host looked at."""

LOOKED_AT = {"argwhere", "array_equal", "bincount", "compress", "extract", "flatnonzero", "nonzero", "unique"}
"""Functions of CuPy's that read a value on the host, for the size of their result if not for the result."""


ADDED_AT = ("int32", "int64", "float16", "float32", "float64", "uint32", "uint64")
"""The types for which CuPy 14.2 has `add.at`."""
_REDUCTIONS = ("all", "any", "max", "mean", "min", "prod", "sum")
UNKNOWN = {"vecdot": None, "eye": {"device"}, **{name: {"initial", "where"} for name in _REDUCTIONS}}
"""What CuPy 14.2 does not have of what NumPy asks it for: functions, and keywords of some."""


class CudaArray(np.ndarray):
    """NumPy's memory in the role of a GPU's; like CuPy's arrays it refuses to meet arrays of the CPU."""

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        if ufunc.__name__ in UNKNOWN:
            return NotImplemented
        if method == "at":  # an index may come from the CPU
            if inputs[0].dtype.name not in ADDED_AT:
                raise TypeError(f"cupy.add.at only supports {', '.join(ADDED_AT)} as data type")
            inputs = (inputs[0], on_device_within(inputs[1]), *inputs[2:])
        return _returned(getattr(ufunc, method)(*_plain(inputs), **_plain(kwargs)))

    def __array_function__(self, function, types, args, kwargs):
        if unknown := (UNKNOWN.get(function.__name__) or set()) & set(kwargs):
            raise TypeError(f"{function.__name__}() got an unexpected keyword argument {unknown.pop()!r}")
        if function.__name__ in LOOKED_AT:
            traffic[f"looked at by {function.__name__}"] += 1
        return _returned(function(*_plain(args), **_plain(kwargs)))

    def __getitem__(self, index):  # of NumPy's, which would look at the values of arrays without axes
        return _returned(self.view(np.ndarray)[_seen(index)])

    def __setitem__(self, index, value):
        self.view(np.ndarray)[_seen(index)] = _plain(value)


def _looks(name: str) -> Any:
    """A method that gives the host a value, and is counted."""

    def method(self: CudaArray, *arguments: Any) -> Any:
        traffic[f"looked at by {name}"] += 1
        return getattr(np.ndarray, name)(self.view(np.ndarray), *arguments)

    return method


for _name in ("__bool__", "__int__", "__float__", "__complex__", "__index__", "item", "tolist", "tobytes", "nonzero"):
    setattr(CudaArray, _name, _looks(_name))


def _reduces(name: str) -> Any:
    """A method that reduces, with the keywords that CuPy's has."""

    def method(self: CudaArray, *arguments: Any, **options: Any) -> Any:
        if unknown := UNKNOWN[name] & set(options):
            raise TypeError(f"{name}() got an unexpected keyword argument {unknown.pop()!r}")
        return _returned(getattr(np.ndarray, name)(self.view(np.ndarray), *arguments, **_plain(options)))

    return method


for _name in _REDUCTIONS:
    setattr(CudaArray, _name, _reduces(_name))


def on_device_within(index):
    """An index with its arrays on the device."""
    if isinstance(index, tuple):
        return tuple(map(on_device_within, index))
    return on_device(index) if type(index) is np.ndarray else index


def _seen(index):
    """An index for NumPy. Its arrays go to the device, and how many elements a mask takes is looked at."""
    if isinstance(index, tuple):
        return tuple(map(_seen, index))
    if isinstance(index, np.ndarray) and index.ndim and index.dtype == bool:
        traffic["looked at by a mask"] += 1
    return _plain(on_device_within(index))


def _plain(value):
    """The same arguments as NumPy's arrays; those that were so before do not belong here."""
    if isinstance(value, CudaArray):
        return value.view(np.ndarray)
    if type(value) is np.ndarray and value.ndim:
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    if isinstance(value, dict):
        return {name: _plain(v) for name, v in value.items()}
    return type(value)(map(_plain, value)) if type(value) in (list, tuple) else value


asarray = np.asarray


def _asarray(a: Any, *arguments: Any, **options: Any) -> Any:
    """`numpy.asarray` where CuPy is: nothing comes from the card by itself."""
    if type(a) is CudaArray and options.get("like") is None:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct one.")
    return asarray(a, *arguments, **options)


def _returned(out):
    if isinstance(out, tuple):
        return tuple(map(_returned, out))
    return asarray(out).view(CudaArray) if isinstance(out, (np.ndarray, np.generic)) else out


def on_device(a: Any) -> CudaArray:
    """Copy an array "to the device", in the same layout."""
    traffic["copied to the card"] += 1
    copy = np.array(a, order="K", copy=True)
    return copy.view(CudaArray)


@lru_cache
def _folder() -> Path:
    """Where only this user can write: what lies here is loaded and runs."""
    kept = cache.directory()
    folder = kept / "tests" if kept else Path(tempfile.mkdtemp())
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def build(text: str, suffix: str, *flags: str) -> Path:
    """Compile a C++ source to a shared library, once for each content."""
    stamp = hashlib.sha256("\0".join([text, *flags, (HERE / "cuda_on_cpu.h").read_text()]).encode()).hexdigest()[:20]
    folder = _folder()
    library = folder / f"{stamp}{suffix}.so"
    with cache.turn(library.name):  # of all workers one
        if not library.exists():
            with tempfile.TemporaryDirectory(dir=folder) as place:
                code, made = Path(place, "code.cpp"), Path(place, "made.so")
                code.write_text(text)
                options = ["-std=c++17", "-O1", "-shared", "-fPIC", "-Wall", "-Wno-unused", f"-I{HERE}", *flags]
                subprocess.run(["g++", *options, code, "-o", made], check=True)
                made.replace(library)
    return library


def kernel_names(text: str) -> list[str]:
    """Every kernel of a CUDA source."""
    return re.findall(r"extern \"C\" __global__ void\s+(?:__launch_bounds__\(\d+\)\s+)?(\w+)\(", text)


@lru_cache(maxsize=64)
def compiled(text: str) -> Any:
    """A CUDA source as a library for the CPU."""
    exports = "\n".join(f"EXPORT({name})" for name in kernel_names(text))
    return ctypes.CDLL(str(build(f'#include "cuda_on_cpu.h"\n{text}\n{exports}\n', "-kernels")))


class Kernel:
    """A compiled kernel with the calling convention of `cupy.RawKernel`, but strict about the width of arguments."""

    def __init__(self, library: Any, name: str, order: str) -> None:
        self.name, self.order = name, ORDERS[order]
        self.function = getattr(library, f"launch_{name}")
        sizes = (ctypes.c_int * 64)()
        self.sizes = sizes[: getattr(library, f"sizes_{name}")(sizes)]

    def __call__(self, grid: tuple[int, ...], block: tuple[int, ...], arguments: tuple[Any, ...]) -> None:
        if len(arguments) != len(self.sizes):
            raise TypeError(f"{self.name} takes {len(self.sizes)} arguments, got {len(arguments)}")
        values = [np.uint64(a.ctypes.data) if isinstance(a, CudaArray) else self.scalar(a) for a in arguments]
        for i, (value, size) in enumerate(zip(values, self.sizes, strict=True)):
            if value.nbytes != size:
                raise TypeError(f"{self.name}: argument {i} has {value.nbytes} bytes, the kernel expects {size}")
        boxes = [np.array(value) for value in values]
        pointers = (ctypes.c_void_p * len(boxes))(*(box.ctypes.data for box in boxes))
        # Few blocks and threads: the kernels' loops must cover the problem whatever the grid.
        error = self.function(min(grid[0], 3), min(block[0], 8), pointers, self.order)
        if error:
            raise RuntimeError(f"{self.name}: some threads ended while others waited at a barrier")

    def scalar(self, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            raise TypeError(f"{self.name}: an array of the CPU was passed to the GPU")
        return np.int64(value) if isinstance(value, int) else value


class _ArrayModule:
    """NumPy, with results on "the device", and what is asked of CuPy about the card."""

    cuda = SimpleNamespace(
        Device=lambda: SimpleNamespace(mem_info=(1 << 30, 1 << 31)),
        runtime=SimpleNamespace(
            getDeviceProperties=lambda number: {"name": b"a card played by the CPU"},
            driverGetVersion=lambda: 13000,
            runtimeGetVersion=lambda: 13000,
        ),
    )

    @staticmethod
    def get_default_memory_pool() -> Any:
        return SimpleNamespace(used_bytes=lambda: 0, total_bytes=lambda: 0)

    def __getattr__(self, name: str) -> Any:
        function = getattr(np, name)
        if not callable(function):
            return function

        def on_the_device(*args: Any, **kwargs: Any) -> Any:
            if any(type(a) is np.ndarray or isinstance(a, list) for a in args):
                traffic["copied to the card"] += 1
            out = function(*args, **kwargs)
            return out.view(CudaArray) if isinstance(out, np.ndarray) else out

        return on_the_device


class FakeRuntime:
    """`cuda.Runtime` on the CPU."""

    def __init__(self, order: str = "forward") -> None:
        self.xp: Any = _ArrayModule()
        self.order = order
        self.current_stream = 1
        self.memory: int | None = None  # bytes of the largest array there is room for

    def device(self) -> int:
        return 0

    def stream(self) -> int:
        return self.current_stream

    def on(self, *arrays: Any) -> Any:
        return None

    def synchronize(self) -> None:
        traffic["waited for"] += 1

    def record(self, function: Callable[[], Any], warmup: int) -> tuple[Callable[[], None], Any]:
        """Kernels, products and transforms are not recorded: the function runs again. It must do what can be recorded."""
        for _ in range(warmup):
            function()
        before = traffic.copy()
        with cuda.recording():
            result = function()
        if met := traffic - before:
            raise RuntimeError(f"operation not permitted when stream is capturing: {dict(met)}")

        def replay() -> None:
            result.data[...] = function().data

        return replay, result

    def put(self, array: Any) -> Any:
        cuda.refuse_copies("an array of the CPU goes to the GPU")
        return on_device(array)

    def get(self, array: Any) -> Any:
        cuda.refuse_copies("an array of the GPU is read on the CPU")
        traffic["copied to the host"] += 1
        return np.array(array)

    def address(self, array: Any) -> int:
        assert type(array) is CudaArray, "an array of the CPU was passed to the GPU"
        return array.__array_interface__["data"][0]

    def scratch(self, size: int) -> tuple[Any, int]:
        memory = self.empty((size,), "uint8")
        return memory, self.address(memory)

    def empty(self, shape: Any, dtype: Any) -> Any:
        if self.memory is not None and math.prod(shape) * np.dtype(dtype).itemsize > self.memory:
            raise MemoryError(f"{shape} {dtype}")
        out = np.empty(shape, dtype).view(CudaArray)
        out.view(np.uint8)[...] = 255  # NaN, or -1: what is not written shows
        return out

    def upload(self, entries: Any) -> Any:
        traffic["copied to the card"] += 1
        return as_table(entries).view(CudaArray)

    def function(self, dtype: str, name: str) -> Callable[..., None]:
        return Kernel(compiled(cuda.source(dtype)), name, self.order)

    def compiled(self, text: str, name: str) -> Callable[..., None]:
        return Kernel(compiled(text), name, self.order)

    def gemm(self, a: Any, b: Any, out: Any, tf32: bool, add: bool = False) -> None:
        for x in (a, b, out):
            assert type(x) is CudaArray, "an array of the CPU was passed to the GPU"
            cuda.leading(x)  # cuBLAS takes no others
        assert cuda.leading(out)[0] == 0, "cuBLAS writes rows"
        product = np.matmul(asarray(a, out.dtype), asarray(b, out.dtype)).view(CudaArray)
        out[...] = product + out if add else product

    def rfftn(self, a: Any, lengths: Any) -> Any:
        return np.fft.rfftn(a, lengths, tuple(range(-len(lengths), 0))).view(CudaArray)

    def irfftn(self, a: Any, lengths: Any) -> Any:
        return np.fft.irfftn(a, lengths, tuple(range(-len(lengths), 0))).view(CudaArray)


def fake_cudnn() -> Path:
    """The path of our libcudnn."""
    return build((HERE / "fake_cudnn.cpp").read_text(), "-cudnn")


@contextmanager
def played() -> Iterator[None]:
    """Let the CPU play a GPU with CuPy and cuDNN."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "EAGERCONV_CUDNN", str(fake_cudnn()))
        patch.setattr(cudnn_backend, "_load_cublaslt", lambda: None)
        patch.setitem(devices.DEVICES, CudaArray, "cuda")
        patch.setattr(cuda, "_runtime", FakeRuntime())
        patch.setattr(np, "asarray", _asarray)
        forget()
        yield
        forget()


# ----- Where tests put their arrays -----


class Fake:
    """CUDA played by the CPU."""

    put = staticmethod(on_device)
    get = staticmethod(np.array)

    def keep(self, a):
        """The array itself, strides and all."""
        return a.view(CudaArray)


class Card:
    """A real GPU."""

    def __init__(self):
        self.cupy = pytest.importorskip("cupy", exc_type=ImportError)

    def put(self, a):
        return self.cupy.asarray(a)

    def get(self, a):
        return self.cupy.asnumpy(a)

    def keep(self, a):
        """A copy of all the memory that the array spans, read with the same strides."""
        low, high = np.lib.array_utils.byte_bounds(a)
        memory = self.cupy.asarray(np.frombuffer(ctypes.string_at(low, high - low), np.uint8))
        return self.cupy.ndarray(a.shape, a.dtype, memory.data + (a.ctypes.data - low), a.strides)


def forget():
    """Drop plans, so that none of a fake outlives it."""
    algorithms.forget_plans()
    cudnn._trial.cache_clear()
    cudnn._fastest.clear()
    cudnn._handles.of.clear()
    cudnn_backend.library.cache_clear()
    gc.collect()
