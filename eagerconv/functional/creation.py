"""New tensors: filled, counted, spaced, on diagonals, from other libraries."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from eagerconv import devices
from eagerconv.tensor import Tensor, asarray
from eagerconv.wrapping import apply, documented

__all__ = [
    "arange", "empty", "empty_like", "eye", "from_dlpack", "full", "full_like", "linspace", "meshgrid", "ones",
    "ones_like", "tril", "triu", "zeros", "zeros_like",
]  # fmt: skip

Shape = int | Sequence[int]
DType = npt.DTypeLike | None

_LIKE = "dtype, optional\n    Element type; default: that of x."


def _made(array: Any, device: str | None, requires_grad: bool = False) -> Tensor:
    out = asarray(array, device=device or devices.default())
    out.requires_grad = requires_grad
    return out


@documented()
def zeros(shape: Shape, dtype: DType = None, device: str | None = None, requires_grad: bool = False) -> Tensor:
    """Make a tensor of zeros.

    >>> zeros(2, "float32")
    tensor([0., 0.], dtype=float32)
    """
    return _made(np.zeros(shape, dtype), device, requires_grad)


@documented()
def ones(shape: Shape, dtype: DType = None, device: str | None = None, requires_grad: bool = False) -> Tensor:
    """Make a tensor of ones.

    >>> ones((1, 2))
    tensor([[1., 1.]], dtype=float64)
    """
    return _made(np.ones(shape, dtype), device, requires_grad)


@documented()
def empty(shape: Shape, dtype: DType = None, device: str | None = None, requires_grad: bool = False) -> Tensor:
    """Make a tensor of whatever the memory holds.

    >>> empty((1, 2)).shape
    (1, 2)
    """
    return _made(np.empty(shape, dtype), device, requires_grad)


@documented(dtype="dtype, optional\n    Element type; default: that of the value.")
def full(
    shape: Shape, fill_value: complex, dtype: DType = None, device: str | None = None, requires_grad: bool = False
) -> Tensor:
    """Make a tensor filled with one value.

    >>> full(2, 7)
    tensor([7, 7], dtype=int64)
    """
    return _made(np.full(shape, fill_value, dtype), device, requires_grad)


@documented(dtype=_LIKE)
def zeros_like(x: Any, /, *, dtype: DType = None, device: str | None = None) -> Tensor:
    """Zeros in the shape and dtype of x.

    >>> zeros_like([1, 2])
    tensor([0, 0], dtype=int64)
    """
    return asarray(np.zeros_like(asarray(x).data, dtype), device=device)


@documented(dtype=_LIKE)
def ones_like(x: Any, /, *, dtype: DType = None, device: str | None = None) -> Tensor:
    """Ones in the shape and dtype of x.

    >>> ones_like([1.0, 2.0])
    tensor([1., 1.], dtype=float64)
    """
    return asarray(np.ones_like(asarray(x).data, dtype), device=device)


@documented(dtype=_LIKE)
def empty_like(x: Any, /, *, dtype: DType = None, device: str | None = None) -> Tensor:
    """Whatever the memory holds, in the shape and dtype of x.

    >>> empty_like([1.0, 2.0]).shape
    (2,)
    """
    return asarray(np.empty_like(asarray(x).data, dtype), device=device)


@documented(dtype=_LIKE)
def full_like(x: Any, /, fill_value: complex, *, dtype: DType = None, device: str | None = None) -> Tensor:
    """One value in the shape and dtype of x.

    >>> full_like([1.0, 2.0], 7)
    tensor([7., 7.], dtype=float64)
    """
    return asarray(np.full_like(asarray(x).data, fill_value, dtype), device=device)


@documented(
    start="number\n    The first, or, where there is no `stop`, the bound.",
    stop="number, optional\n    The bound, which is left out.",
    step="number\n    The distance.",
)
def arange(
    start: float, /, stop: float | None = None, step: float = 1, *, dtype: DType = None, device: str | None = None
) -> Tensor:
    """Evenly spaced numbers from start (0 if only one bound is given) up to, and without, stop.

    >>> arange(3)
    tensor([0, 1, 2], dtype=int64)
    """
    first, last = (0, start) if stop is None else (start, stop)
    count: Any = np.arange  # its overloads know of no number that may be either
    return _made(count(first, last, step, dtype), device)


@documented(
    start="number\n    The first.",
    stop="number\n    The last, or with `endpoint=False` the one after it.",
    num="int\n    How many.",
    endpoint="bool\n    Whether `stop` is among them.",
)
def linspace(
    start: complex,
    stop: complex,
    /,
    num: int = 50,
    *,
    dtype: DType = None,
    device: str | None = None,
    endpoint: bool = True,
) -> Tensor:
    """So many evenly spaced numbers from start to stop.

    >>> linspace(0, 1, 3)
    tensor([0. , 0.5, 1. ], dtype=float64)
    """
    return _made(np.linspace(start, stop, num, endpoint, dtype=dtype), device)


@documented(n_rows="int\n    Number of rows.", n_cols="int, optional\n    Number of columns; default: as many as rows.")
def eye(
    n_rows: int, n_cols: int | None = None, /, *, k: int = 0, dtype: DType = None, device: str | None = None
) -> Tensor:
    """Ones on a diagonal, zeros elsewhere.

    >>> eye(2)
    tensor([[1., 0.],
            [0., 1.]], dtype=float64)
    """
    return _made(np.eye(n_rows, n_cols, k, np.float64 if dtype is None else dtype), device)


@documented()
def tril(x: Any, /, *, k: int = 0) -> Tensor:
    """Keep the elements on and below a diagonal of the last two axes, the others become zero.

    >>> tril([[1, 2], [3, 4]])
    tensor([[1, 0],
            [3, 4]], dtype=int64)
    """
    out: Tensor = apply(np.tril, asarray(x), k=k)
    return out


@documented()
def triu(x: Any, /, *, k: int = 0) -> Tensor:
    """Keep the elements on and above a diagonal of the last two axes, the others become zero.

    >>> triu([[1, 2], [3, 4]])
    tensor([[1, 2],
            [0, 4]], dtype=int64)
    """
    out: Tensor = apply(np.triu, asarray(x), k=k)
    return out


@documented(arrays="array_like\n    Coordinates along each axis.", returns="tuple of Tensor")
def meshgrid(*arrays: Any, indexing: str = "xy") -> tuple[Tensor, ...]:
    """Coordinates of every point of a grid, from the coordinates along its axes.

    >>> meshgrid([1, 2], [3, 4])[0]
    tensor([[1, 2],
            [1, 2]], dtype=int64)
    """
    return tuple(apply(np.meshgrid, *[asarray(a) for a in arrays], indexing=indexing))


# Which library reads the memory of a DLPack device: by its type in the standard, 1 host, 2 CUDA.
_READERS = {1: "numpy", 2: "cupy"}


@documented(
    x="object\n    An array of any library that speaks DLPack.",
    copy="bool, optional\n    True: always copy; False: raise where a copy is needed; default: where needed. Before NumPy 2.3,"
    "\n    memory of others can only be read, as NumPy does not know better: copy it to write.",
)
def from_dlpack(x: Any, /, *, device: str | None = None, copy: bool | None = None) -> Tensor:
    """Make a tensor of the memory of another library's array, without a copy where there is no need of one.

    >>> from_dlpack(np.array([1.0, 2.0]))
    tensor([1., 2.], dtype=float64)
    """
    kind = 1 if device == "cpu" else int(x.__dlpack_device__()[0])
    if kind not in _READERS:
        raise BufferError(f"from_dlpack: x is on a device of DLPack type {kind}; known are {_READERS}")
    library = importlib.import_module(_READERS[kind])
    wanted = {name: value for name, value in (("device", device), ("copy", copy)) if value not in (None, True)}
    return asarray(library.from_dlpack(x, **wanted), copy=copy or None)  # NumPy's own copy can be one to read
