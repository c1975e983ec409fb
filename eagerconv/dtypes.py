"""Element types, constants, and what the namespace says about itself, as the array API standard names them."""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from eagerconv import devices
from eagerconv.tensor import Tensor, asarray

__all__ = [
    "__array_api_version__", "__array_namespace_info__",
    "astype", "bool", "can_cast", "complex128", "complex64", "e", "finfo", "float16",
    "float32", "float64", "iinfo", "inf", "int16", "int32", "int64", "int8", "isdtype", "nan", "newaxis", "pi",
    "result_type", "uint16", "uint32", "uint64", "uint8",
]  # fmt: skip

DType = np.dtype[Any]

__array_api_version__ = "2025.12"

bool: DType = np.dtype("bool")
int8: DType = np.dtype("int8")
int16: DType = np.dtype("int16")
int32: DType = np.dtype("int32")
int64: DType = np.dtype("int64")
uint8: DType = np.dtype("uint8")
uint16: DType = np.dtype("uint16")
uint32: DType = np.dtype("uint32")
uint64: DType = np.dtype("uint64")
float16: DType = np.dtype("float16")
float32: DType = np.dtype("float32")
float64: DType = np.dtype("float64")
complex64: DType = np.dtype("complex64")
complex128: DType = np.dtype("complex128")

e = np.e
inf = np.inf
nan = np.nan
newaxis = None
pi = np.pi

# The kinds of the standard, each with the kinds of NumPy in it.
_KINDS = {
    "bool": "b",
    "signed integer": "i",
    "unsigned integer": "u",
    "integral": "iu",
    "real floating": "f",
    "complex floating": "c",
    "numeric": "iufc",
}
_STANDARD = (
    bool, int8, int16, int32, int64, uint8, uint16, uint32, uint64, float32, float64, complex64, complex128
)  # fmt: skip


def _dtype(x: Any) -> DType:
    found: DType = x.dtype if hasattr(x, "dtype") and hasattr(x, "shape") else np.dtype(x)
    return found


def widened(x: Tensor) -> Tensor:
    """16-bit floats as float32, where their sums and squares neither overflow nor lose digits; anything else as it is."""
    dtype = x.dtype
    return x.astype("float32") if dtype.itemsize == 2 and dtype.kind not in "iu" else x  # a name takes long to ask for


def astype(x: Any, dtype: npt.DTypeLike, /, *, copy: builtins.bool = True, device: str | None = None) -> Tensor:
    """Convert to another dtype; gradients come back in the old one.

    Parameters
    ----------
    x : array_like
        Numbers, in any shape.
    dtype : dtype
        The new one.
    copy : bool
        With False x itself is returned where it has the dtype already.
    device : str, optional
        Where the result is: "cpu".

    Returns
    -------
    Tensor

    Examples
    --------
    >>> astype([1, 2], float32)
    tensor([1., 2.], dtype=float32)
    """
    return asarray(x, device=device).astype(dtype, copy=copy)


def can_cast(from_: Any, to: npt.DTypeLike, /) -> builtins.bool:
    """Whether one dtype, or that of a tensor, holds all values of another: no conversion between kinds loses any.

    Examples
    --------
    >>> can_cast(int8, int16), can_cast(float64, float32)
    (True, False)
    """
    return np.can_cast(_dtype(from_), np.dtype(to))


def isdtype(dtype: npt.DTypeLike, kind: Any) -> builtins.bool:
    """Whether a dtype is of a kind, another dtype, or one of several.

    Parameters
    ----------
    dtype : dtype
        What is asked about.
    kind : dtype, str or tuple of them
        "bool", "signed integer", "unsigned integer", "integral", "real floating", "complex floating" or "numeric".

    Returns
    -------
    bool

    Raises
    ------
    ValueError
        For an unknown kind.

    Examples
    --------
    >>> isdtype(float32, ("integral", "real floating"))
    True
    """
    if isinstance(kind, tuple):
        return any(isdtype(dtype, k) for k in kind)
    if not isinstance(kind, str):
        return builtins.bool(np.dtype(dtype) == np.dtype(kind))
    if kind not in _KINDS:
        raise ValueError(f"isdtype: kind must be a dtype or one of {', '.join(_KINDS)}, not {kind!r}")
    return np.dtype(dtype).kind in _KINDS[kind]


def result_type(*arrays_and_dtypes: Any) -> DType:
    """The dtype of an operation on all of these; Python numbers take part as weak ones.

    Examples
    --------
    >>> result_type(int8, float32), result_type(asarray([1.0], "float32"), 2.0)
    (dtype('float32'), dtype('float32'))
    """
    return np.result_type(*[x.data if isinstance(x, Tensor) else x for x in arrays_and_dtypes])


@dataclass(frozen=True)
class finfo:
    """Limits of a floating dtype, or of the parts of a complex one; also of that of a tensor.

    Examples
    --------
    >>> finfo(float32).bits
    32
    """

    bits: int
    eps: float
    max: float
    min: float
    smallest_normal: float
    dtype: DType

    def __init__(self, type: Any, /) -> None:
        info = np.finfo(_dtype(type))
        numbers = {name: float(getattr(info, name)) for name in ("eps", "max", "min", "smallest_normal")}
        self.__dict__.update(numbers, bits=int(info.bits), dtype=info.dtype)


@dataclass(frozen=True)
class iinfo:
    """Limits of an integer dtype; also of that of a tensor.

    Examples
    --------
    >>> iinfo(int8).max
    127
    """

    bits: int
    max: int
    min: int
    dtype: DType

    def __init__(self, type: Any, /) -> None:
        info = np.iinfo(_dtype(type))
        self.__dict__.update(bits=int(info.bits), max=int(info.max), min=int(info.min), dtype=info.dtype)


# ----- What the namespace says about itself -----


class NamespaceInfo:
    """Capabilities, devices and dtypes of this namespace."""

    def capabilities(self) -> dict[str, Any]:
        """What may be relied on: index by masks, results whose shape depends on values; arrays of up to 64 axes."""
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64}

    def default_device(self) -> str:
        """Where new tensors are."""
        return devices.default()

    def devices(self) -> tuple[str, ...]:
        """Where tensors may be."""
        return tuple(devices.present())

    def default_dtypes(self, *, device: str | None = None) -> dict[str, DType]:
        """What tensors have when no dtype is given: NumPy's."""
        integral = np.dtype(np.intp)
        return {"real floating": float64, "complex floating": complex128, "integral": integral, "indexing": integral}

    def dtypes(self, *, device: str | None = None, kind: Any = None) -> dict[str, DType]:
        """The dtypes of the standard, all or those of a kind."""
        return {dtype.name: dtype for dtype in _STANDARD if kind is None or isdtype(dtype, kind)}


def __array_namespace_info__() -> NamespaceInfo:
    """What this namespace can do.

    Examples
    --------
    >>> __array_namespace_info__().default_device()
    'cpu'
    """
    return NamespaceInfo()
