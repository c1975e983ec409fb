"""cuDNN 9's backend API through ctypes: descriptors, and from them execution plans of single convolutions.

The numbers below are the binary interface of cuDNN 9 (cudnn_graph.h of the release notes' "Backend API"), which does not
change within the major version. The API knows only descriptors: made of a kind, given attributes, finalized. A convolution's
operation graph goes to a heuristic, which answers with engine configurations, best first; one of them becomes a plan. Nothing
here needs a GPU before `Plan.execute`.
"""

from __future__ import annotations

import ctypes
import os
import site
import sys
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from eagerconv.record import Unavailable

Address = ctypes.c_void_p
Int64 = ctypes.c_int64

OLDEST = 90800  # graphs without a handle
OLDEST_3D_HALF = 91500  # three-dimensional float16 and bfloat16 gave wrong results in 9.8 to 9.10

# ----- The binary interface -----

# Types of attributes.
HANDLE, DATA_TYPE, BOOLEAN, INT64, FLOAT, DOUBLE, POINTER, CONVOLUTION_MODE, HEURISTIC = range(9)
NOTE, POINTWISE_MODE, DESCRIPTOR = 11, 14, 15

# Kinds of descriptors.
POINTWISE, OPERATION_POINTWISE = 0, 13
CONVOLUTION, ENGINE, ENGINE_CONFIG, ENGINE_HEURISTIC, EXECUTION_PLAN = 1, 2, 3, 4, 5
OPERATION = {"y": 10, "w": 11, "x": 12}
GRAPH, VARIANT_PACK, TENSOR = 15, 16, 17

# Attributes of an operation, by the slot that it solves for: its convolution, its operands, alpha and beta.
ROLES = {
    "y": {"alpha": 700, "beta": 701, "convolution": 702, "w": 703, "x": 704, "y": 705},
    "x": {"alpha": 706, "beta": 707, "convolution": 708, "w": 709, "x": 710, "y": 711},
    "w": {"alpha": 712, "beta": 713, "convolution": 714, "w": 715, "x": 716, "y": 717},
}
UNIQUE_IDS = {"x": 1, "w": 2, "y": 3, "bias": 4}
SLOTS = ("x", "w", "y")
VIRTUAL_IDS = (5, 6)  # of what lies between the operations of a graph, and never in memory
ADD, RELU = 0, 100  # modes of pointwise operations
DATA_TYPES = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 9}
FLIPPED, UNFLIPPED = 0, 1
MODE_A, FALLBACK = 3, 2

TENSOR_CORE, DOWN_CONVERT_INPUTS, NONDETERMINISTIC = 0, 1, 4
INDIRECT = (3, 5, 6, 7, 8)
"""Notes of an engine about its numbers; the indirect ones are FFT and Winograd, whose errors cuDNN does not publish."""
NOTES = 10


class CudnnError(Unavailable):
    """cuDNN reported an error; the message holds what it said."""


class NotSupported(CudnnError):
    """cuDNN has no engine for what was asked."""


# ----- The library -----


def _folders() -> list[Path]:
    """Where pip may have put NVIDIA's packages."""
    paths = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), site.getusersitepackages(), *sys.path]
    return [Path(path) / "nvidia" for path in dict.fromkeys(paths) if path]


def _candidates() -> Iterator[str]:
    """Places of cuDNN, best first.

    The copy that is already in the process (PyTorch's, say) must be taken: cuDNN finds its parts by name, so those of two
    copies would mix.
    """
    if chosen := os.environ.get("EAGERCONV_CUDNN"):
        yield chosen
        return
    name = "cudnn64_9.dll" if os.name == "nt" else "libcudnn.so.9"
    if hasattr(os, "RTLD_NOLOAD"):
        try:
            ctypes.CDLL(name, mode=os.RTLD_NOLOAD | os.RTLD_NOW)
            yield name
        except OSError:
            pass
    for folder in _folders():
        for part in ("lib", "bin"):
            if (path := folder / "cudnn" / part / name).exists():
                yield str(path)
    yield name


@lru_cache(maxsize=1)
def library() -> Any:
    """The cuDNN of this machine.

    Raises
    ------
    CudnnError
        If there is none, or it is too old.
    """
    for candidate in _candidates():
        try:
            cudnn = ctypes.CDLL(candidate, mode=ctypes.RTLD_GLOBAL)
        except OSError:
            continue
        break
    else:
        raise CudnnError(
            "cuDNN 9 was not found; `pip install nvidia-cudnn-cu13` (or cu12), or set EAGERCONV_CUDNN to its path"
        )
    cudnn.cudnnGetVersion.restype = ctypes.c_size_t
    if (version := cudnn.cudnnGetVersion()) < OLDEST:
        raise CudnnError(f"cuDNN {version} is older than {OLDEST}, the first that is supported; upgrade it")
    _prototypes(cudnn)
    return cudnn


def _prototypes(cudnn: Any) -> None:
    integer, sizes = ctypes.c_int, ctypes.POINTER(Int64)
    cudnn.cudnnGetLastErrorString.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    cudnn.cudnnGetLastErrorString.restype = None
    cudnn.cudnnBackendCreateDescriptor.argtypes = [integer, ctypes.POINTER(Address)]
    cudnn.cudnnBackendDestroyDescriptor.argtypes = [Address]
    cudnn.cudnnBackendFinalize.argtypes = [Address]
    cudnn.cudnnBackendSetAttribute.argtypes = [Address, integer, integer, Int64, Address]
    cudnn.cudnnBackendGetAttribute.argtypes = [Address, integer, integer, Int64, sizes, Address]
    cudnn.cudnnBackendExecute.argtypes = [Address, Address, Address]
    cudnn.cudnnCreate.argtypes = [ctypes.POINTER(Address)]
    cudnn.cudnnSetStream.argtypes = [Address, Address]


@lru_cache(maxsize=1)
def _load_cublaslt() -> None:
    """Load cuBLASLt, without which cuDNN's heuristics abort the process."""
    names = (
        ["cublasLt64_13.dll", "cublasLt64_12.dll"] if os.name == "nt" else ["libcublasLt.so.13", "libcublasLt.so.12"]
    )
    places = [str(p) for n in names for folder in _folders() for p in folder.glob(f"*/*/{n}")]
    for place in [*names, *places]:
        try:
            ctypes.CDLL(place)
        except OSError:
            continue
        return
    raise CudnnError("cuDNN needs cuBLASLt, which was not found; `pip install nvidia-cublas`")


def _check(status: int, doing: str) -> None:
    if status:
        text = ctypes.create_string_buffer(1024)
        library().cudnnGetLastErrorString(text, 1024)
        said = text.value.decode(errors="replace").split("\n")[0]
        error = NotSupported if 3000 <= status < 4000 else CudnnError
        raise error(f"cuDNN could not {doing}: {said or 'no reason given'} (status {status})")


# ----- Descriptors -----


class Descriptor:
    """One of cuDNN's opaque objects; it keeps those that it points at alive."""

    __slots__ = ("address", "kept")

    def __init__(self, kind: int) -> None:
        self.address = Address()
        self.kept: list[Descriptor] = []
        _check(library().cudnnBackendCreateDescriptor(kind, ctypes.byref(self.address)), f"create descriptor {kind}")

    def __del__(self, ending: Callable[[], bool] = sys.is_finalizing) -> None:
        if self.address.value and not ending():  # by then cuDNN, and CUDA below it, may be gone
            library().cudnnBackendDestroyDescriptor(self.address)

    def set(self, attribute: int, kind: int, ctype: Any, *values: Any) -> Descriptor:
        """Give an attribute its values."""
        array = (ctype * len(values))(*values)
        status = library().cudnnBackendSetAttribute(self.address, attribute, kind, len(values), array)
        _check(status, f"set attribute {attribute}")
        return self

    def point(self, attribute: int, *others: Descriptor) -> Descriptor:
        """Let an attribute point at finalized descriptors."""
        self.kept += others
        return self.set(attribute, DESCRIPTOR, Address, *(other.address for other in others))

    def finalize(self) -> Descriptor:
        """Have cuDNN check the whole; nothing can be set afterwards."""
        _check(library().cudnnBackendFinalize(self.address), "finalize a descriptor")
        return self

    def get(self, attribute: int, kind: int, ctype: Any, most: int) -> list[Any]:
        """At most so many values of an attribute."""
        array, found = (ctype * most)(), Int64()
        place = ctypes.byref(found)
        _check(
            library().cudnnBackendGetAttribute(self.address, attribute, kind, most, place, array), f"get {attribute}"
        )
        return list(array[: min(found.value, most)])

    def count(self, attribute: int, kind: int) -> int:
        """How many values an attribute has: asked without a place for them."""
        found = Int64()
        status = library().cudnnBackendGetAttribute(self.address, attribute, kind, 0, ctypes.byref(found), None)
        _check(status, f"count {attribute}")
        return found.value

    def fill(self, attribute: int, *places: Descriptor) -> int:
        """Have cuDNN write descriptors into those given; returns how many."""
        array, found = (Address * len(places))(*(p.address for p in places)), Int64()
        status = library().cudnnBackendGetAttribute(
            self.address, attribute, DESCRIPTOR, len(places), ctypes.byref(found), array
        )
        _check(status, f"get descriptors {attribute}")
        return found.value


# ----- A convolution -----


class TensorSpec(NamedTuple):
    """Sizes, distances in elements and alignment in bytes of one array; axes are batch, channels, spatial."""

    sizes: Sequence[int]
    strides: Sequence[int]
    alignment: int


class ConvolutionSpec(NamedTuple):
    """What cuDNN is told of a convolution; `slot` is the one that it solves for."""

    slot: str
    dtype: str
    x: TensorSpec
    w: TensorSpec
    y: TensorSpec
    before: Sequence[int]
    after: Sequence[int]
    stride: Sequence[int]
    dilation: Sequence[int]
    flipped: bool
    bias: TensorSpec | None = None
    rectify: bool = False

    @property
    def arrays(self) -> tuple[str, ...]:
        """The names of the arrays, in the order in which a plan takes their addresses."""
        return SLOTS if self.bias is None else (*SLOTS, "bias")


def _tensor(number: int, spec: TensorSpec, dtype: int) -> Descriptor:
    tensor = Descriptor(TENSOR).set(901, DATA_TYPE, ctypes.c_int, dtype)
    tensor.set(902, INT64, Int64, *spec.sizes).set(903, INT64, Int64, *spec.strides)
    tensor.set(906, INT64, Int64, number).set(900, INT64, Int64, spec.alignment)
    if number in VIRTUAL_IDS:
        tensor.set(907, BOOLEAN, ctypes.c_bool, True)
    return tensor.finalize()


def _pointwise(mode: int, compute: int, x: Descriptor, y: Descriptor, b: Descriptor | None = None) -> Descriptor:
    """Y = x + b, or max(x, 0)."""
    kind = Descriptor(POINTWISE).set(0, POINTWISE_MODE, ctypes.c_int, mode).set(1, DATA_TYPE, ctypes.c_int, compute)
    operation = Descriptor(OPERATION_POINTWISE).point(750, kind.finalize()).point(751, x).point(753, y)
    return (operation if b is None else operation.point(752, b)).finalize()


def graph(spec: ConvolutionSpec) -> Descriptor:
    """The operation graph of one convolution, and of what follows it; float16 and bfloat16 are summed in float32."""
    dtype = DATA_TYPES[spec.dtype]
    double = spec.dtype == "float64"
    compute = DATA_TYPES["float64" if double else "float32"]
    geometry = (
        Descriptor(CONVOLUTION).set(106, INT64, Int64, len(spec.stride)).set(100, DATA_TYPE, ctypes.c_int, compute)
    )
    geometry.set(101, CONVOLUTION_MODE, ctypes.c_int, FLIPPED if spec.flipped else UNFLIPPED)
    for attribute, values in ((105, spec.before), (104, spec.after), (103, spec.stride), (102, spec.dilation)):
        geometry.set(attribute, INT64, Int64, *values)
    geometry.finalize()
    roles = ROLES[spec.slot]
    operation = Descriptor(OPERATION[spec.slot]).point(roles["convolution"], geometry)
    tensors = {name: _tensor(UNIQUE_IDS[name], getattr(spec, name), dtype) for name in spec.arrays}
    # What is between two operations has the type of the sums, and no place in memory.
    between = [
        _tensor(number, spec.y, compute) for number in VIRTUAL_IDS[: (spec.bias is not None) * (1 + spec.rectify)]
    ]
    chain = [*between, tensors["y"]]
    for slot in SLOTS:
        operation.point(roles[slot], chain[0] if slot == "y" else tensors[slot])
    scale = (DOUBLE, ctypes.c_double) if double else (FLOAT, ctypes.c_float)
    operation.set(roles["alpha"], *scale, 1.0).set(roles["beta"], *scale, 0.0).finalize()
    operations = [operation]
    if spec.bias is not None:
        operations.append(_pointwise(ADD, compute, chain[0], chain[1], tensors["bias"]))
        if spec.rectify:
            operations.append(_pointwise(RELU, compute, chain[1], chain[2]))
    return Descriptor(GRAPH).point(801, *operations).finalize()


def configurations(operations: Descriptor, mode: int) -> list[Descriptor]:
    """Engine configurations for a graph, best first, by a heuristic."""
    _load_cublaslt()
    heuristic = Descriptor(ENGINE_HEURISTIC).point(201, operations).set(200, HEURISTIC, ctypes.c_int, mode).finalize()
    found = [Descriptor(ENGINE_CONFIG) for _ in range(heuristic.count(202, DESCRIPTOR))]
    found = found[: heuristic.fill(202, *found)] if found else []
    for configuration in found:
        configuration.kept.append(operations)
    return found


def notes(configuration: Descriptor) -> set[int]:
    """What the engine of a configuration says of its numbers."""
    engine = Descriptor(ENGINE)
    configuration.fill(300, engine)
    return set(engine.get(1303, NOTE, ctypes.c_int, NOTES))


MOST_PACKS = 16
"""Places of operands that a plan remembers: a training step meets the same ones again, as the pool gives them out in turn."""


class Plan:
    """One engine, ready to run one convolution on arrays of one layout and alignment. Not for two threads at once."""

    def __init__(self, configuration: Descriptor, arrays: Sequence[str] = SLOTS) -> None:
        self._plan = Descriptor(EXECUTION_PLAN).point(401, configuration).finalize()
        self.workspace = int(self._plan.get(402, INT64, Int64, 1)[0])
        self._ids = [UNIQUE_IDS[name] for name in arrays]
        self._address = self._plan.address.value
        self._run = library().cudnnBackendExecute
        self._packs: dict[tuple[int, ...], Descriptor] = {}

    def execute(self, handle: Address, places: tuple[int, ...]) -> None:
        """Enqueue the convolution on the handle's stream, given the addresses of its arrays, and last of its workspace.

        A finalized pack of addresses can't be changed, but run again: those of the last places are kept.
        """
        pack = self._packs.get(places)
        if pack is None:
            pack = self._pack(places)
        status = self._run(handle, self._address, pack.address)
        if status:
            self._packs.clear()
            _check(status, "run a convolution")

    def _pack(self, places: tuple[int, ...]) -> Descriptor:
        if len(self._packs) >= MOST_PACKS:
            self._packs.clear()
        pack = Descriptor(VARIANT_PACK).set(1001, POINTER, Address, *places[:-1]).set(1000, INT64, Int64, *self._ids)
        self._packs[places] = pack.set(1003, POINTER, Address, places[-1]).finalize()
        return pack


def plans(spec: ConvolutionSpec, unwanted: set[int], limit: int | None = None) -> Iterator[Plan]:
    """Plans for a convolution, the one expected to be fastest first.

    Parameters
    ----------
    spec : ConvolutionSpec
    unwanted : set of int
        Notes that no engine may have.
    limit : int, optional
        The most workspace, in bytes.

    Raises
    ------
    NotSupported
        When the plans are asked for and there is none.
    """
    operations = graph(spec)
    reason: Exception = NotSupported("cuDNN has no engine that meets the wishes about its numbers and workspace")
    found = False
    for mode in (MODE_A, FALLBACK):  # the second takes milliseconds: only when the first left nothing
        try:
            candidates = configurations(operations, mode)
        except NotSupported as error:
            reason = error
            continue
        for candidate in candidates:
            try:
                if notes(candidate) & unwanted:
                    continue
                plan = Plan(candidate, spec.arrays)
            except NotSupported as error:
                reason = error
                continue
            if limit is None or plan.workspace <= limit:
                found = True
                yield plan
        if found:
            return
    raise reason


def new_handle() -> Address:
    """A handle for the current device; not to be shared between threads."""
    handle = Address()
    _check(library().cudnnCreate(ctypes.byref(handle)), "start on this device")
    return handle


def set_stream(handle: Address, stream: int) -> None:
    """Let a handle's work go to a stream."""
    _check(library().cudnnSetStream(handle, stream), "change the stream")
