"""Hypothesis strategies shared by the tests: whole convolution problems, integer data, memory layouts.

A `Problem` is a frozen record of plain numbers, so a failure prints as code that can be pasted into a test. Data come
from a seed (also printed), never element by element: small integers, whose sums are exact in float32 too.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import ml_dtypes  # noqa: F401  (from now on NumPy knows "bfloat16" by name)
import numpy as np
import numpy.typing as npt
import oracle
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from eagerconv.kernels_cpu.staging import WIDER

Array = npt.NDArray[Any]
Ints = tuple[int, ...]

SLOTS = ("forward", "grad_inputs", "grad_weights")
LETTERS = dict(zip(SLOTS, "yxw", strict=True))
"""Their names in the trilinear form."""

HANDFUL = 5
"""Examples that a property is tested with at least."""


def examples(count: int) -> Callable[[Any], Any]:
    """Set how many examples a property test runs, of which quick tests run a share; a narrow algorithm may refuse most."""
    share = settings().max_examples / 100
    return settings(
        max_examples=max(round(count * share), min(count, HANDFUL)),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )


# Compiling takes longer than all the rest. Kernels of other dtypes, and Winograd's other forms, are made by the same sources:
# they are left to the full tests.
QUICK = {
    "direct": ("bool", "int8", "int64", "float32", "float64", "complex64"),
    "gemm": ("float32", "float64"),
    "winograd": ("float32",),
    "rows": ("float32",),
    "local": ("float32", "float64"),
}


def tier(algorithm: str, dtype: Any = "float32") -> Any:
    """Mark a test as slow, for `marks` of its parameters, if quick tests do not compile the kernels that it needs."""
    name = WIDER.get(str(dtype), np.dtype(dtype).name)
    return [] if algorithm == "fft" or name in QUICK.get(algorithm, ()) else [pytest.mark.slow]


def tiers(algorithms: Iterable[str]) -> list[Any]:
    """Parametrise with algorithms in float32, each in its tier."""
    return [pytest.param(name, marks=tier(name)) for name in algorithms]


# ----- problems -----


@dataclass(frozen=True)
class Problem:
    """One convolution: channels are per group; every tuple has one entry per spatial axis."""

    batch: int
    groups: int
    cin: int
    cout: int
    size: Ints
    kernel: Ints
    border_mode: Any = "valid"
    subsample: Ints = ()
    dilation: Ints = ()
    flip: bool = True
    unshared: bool = False

    def __post_init__(self) -> None:
        for field in ("subsample", "dilation"):
            object.__setattr__(self, field, getattr(self, field) or (1,) * self.ndim)

    def suited(self, algorithm: str) -> Problem:
        """Return the nearest problem that a specialised algorithm knows, or this one for all others."""
        if algorithm == "local":
            return replace(self, unshared=True)
        if not algorithm.startswith("winograd"):
            return self
        pair = (0, 1)
        mode = (
            tuple(self.border_mode[i % self.ndim] for i in pair)
            if type(self.border_mode) is tuple
            else self.border_mode
        )
        ones = (1, 1)
        if algorithm == "winograd_dwm":  # any stride, and filters with two taps of the same phase
            stride = tuple(self.subsample[i % self.ndim] for i in pair)
            kernel = (max(stride[0] + 1, self.kernel[0]), self.kernel[-1])
            size = tuple(max(kernel[i], self.size[i % self.ndim]) for i in pair)
            return replace(
                self, size=size, kernel=kernel, border_mode=mode, subsample=stride, dilation=ones, unshared=False
            )
        dilation = self.dilation
        if self.kernel[-1] == 1 or self.ndim == 2:  # squares, and on other numbers of axes filters along the last two
            kernel, dilation = (3, 3), tuple(self.dilation[i % self.ndim] for i in pair)
            size = tuple(self.size[i % self.ndim] for i in pair)
        else:
            plane, size, mode = (1, 3) if self.kernel[-1] < 3 else (3, 3), self.size, self.border_mode
            kernel = (*self.kernel[:-2], *plane)[-self.ndim :]
        size = tuple(max(n, (k - 1) * d + 1) for n, k, d in zip(size, kernel, dilation, strict=True))
        ones = (1,) * len(size)
        return replace(
            self, size=size, kernel=kernel, border_mode=mode, subsample=ones, dilation=dilation, unshared=False
        )

    @property
    def ndim(self) -> int:
        return len(self.size)

    @property
    def out(self) -> Ints:
        padding = oracle.pads(self.border_mode, self.size, self.kernel, self.subsample, self.dilation)
        return oracle.out_size(self.size, self.kernel, padding, self.subsample, self.dilation)

    @property
    def input_shape(self) -> Ints:
        return (self.batch, self.groups * self.cin, *self.size)

    @property
    def filter_shape(self) -> Ints:
        places = self.out if self.unshared else ()
        return (self.groups * self.cout, *places, self.cin, *self.kernel)

    @property
    def output_shape(self) -> Ints:
        return (self.batch, self.groups * self.cout, *self.out)

    def shapes(self) -> tuple[Ints, Ints, Ints]:
        """Return the shapes of x, w and y."""
        return self.input_shape, self.filter_shape, self.output_shape

    def terms(self, slot: str) -> int:
        """Count the products that are added up, at most, in one number of the result."""
        places = 1 if self.unshared else math.prod(self.out)
        return {
            "forward": self.cin * math.prod(self.kernel),
            "grad_inputs": self.cout * math.prod(self.kernel),
            "grad_weights": self.batch * places,
        }[slot]

    def keywords(self) -> dict[str, Any]:
        """Return the arguments that all public functions (and the oracle) share."""
        return {
            "border_mode": self.border_mode,
            "subsample": self.subsample,
            "filter_flip": self.flip,
            "filter_dilation": self.dilation,
            "num_groups": self.groups,
            "unshared": self.unshared,
        }

    def solve(self, slot: str, x: Any, w: Any, y: Any) -> Array:
        """Ask the oracle for `slot`; the operand of that slot is ignored."""
        if slot == "forward":
            return oracle.forward(x, w, **self.keywords())
        if slot == "grad_inputs":
            return oracle.grad_inputs(y, w, self.input_shape, **self.keywords())
        return oracle.grad_weights(x, y, self.filter_shape, **self.keywords())

    def call(self, library: ModuleType, slot: str, x: Any, w: Any, y: Any, **options: Any) -> Any:
        """Ask the public function of `slot`; the operand of that slot is ignored."""
        conv = f"conv{self.ndim}d"
        if slot == "forward":
            return getattr(library, conv)(x, w, **self.keywords(), **options)
        if slot == "grad_inputs":
            function = getattr(library, f"{conv}_grad_wrt_inputs")
            return function(y, w, self.input_shape, **self.keywords(), **options)
        function = getattr(library, f"{conv}_grad_wrt_weights")
        return function(x, y, self.filter_shape, **self.keywords(), **options)


def border_modes(ndim: int, most: int = 3) -> st.SearchStrategy[Any]:
    """Draw a name, an int, or a tuple that mixes ints and (before, after) pairs."""
    rows = st.integers(0, most)
    mixed = st.tuples(*[rows | st.tuples(rows, rows)] * ndim)
    return st.sampled_from(["valid", "full", "half", "same", "same_lower"]) | rows | mixed


@st.composite
def problems(
    draw: st.DrawFn,
    ndims: tuple[int, ...] = (1, 2, 3),
    *,
    groups: int = 3,
    unshared: bool | None = None,
    empty: bool = True,
) -> Problem:
    """Draw a whole problem whose dilated kernel fits its padded image; `empty` allows no images and no channels."""
    ndim = draw(st.sampled_from(ndims))
    most = {1: 5, 2: 4, 3: 3}[ndim]

    def per_axis(low: int, high: int) -> Ints:
        return draw(st.tuples(*[st.integers(low, high)] * ndim))

    kernel, subsample, dilation = per_axis(1, most), per_axis(1, 3), per_axis(1, 3 if ndim < 3 else 2)
    border_mode = draw(border_modes(ndim, most=3 if ndim < 3 else 2))
    padding = oracle.pads(border_mode, (1,) * ndim, kernel, subsample, dilation)
    named = border_mode in ("same", "same_lower")  # their padding grows with the need: an image of one row will do
    least = [
        1 if named else max(1, (k - 1) * d + 1 - before - after)
        for k, d, (before, after) in zip(kernel, dilation, padding, strict=True)
    ]
    extra = per_axis(0, {1: 9, 2: 5, 3: 3}[ndim])  # more than a stride, so that rows are left over
    counts = st.sampled_from([1, 2, 3] * 4 + [0] * empty)  # nothing at all: once in a while
    return Problem(
        batch=draw(counts),
        groups=draw(st.integers(1, groups)),
        cin=draw(counts),
        cout=draw(counts),
        size=tuple(a + b for a, b in zip(least, extra, strict=True)),
        kernel=kernel,
        border_mode=border_mode,
        subsample=subsample,
        dilation=dilation,
        flip=draw(st.booleans()),
        unshared=draw(st.booleans()) if unshared is None else unshared,
    )


# ----- arrays -----

seeds = st.integers(0, 2**32 - 1)


def integers(shape: Ints, seed: int, dtype: Any = np.int64, most: int = 4) -> Array:
    """Draw whole numbers from -most to most, exact in every dtype; complex ones have two."""
    rng = np.random.default_rng(seed)
    numbers = rng.integers(-most, most + 1, shape)
    imaginary = rng.integers(-most, most + 1, shape) * 1j if np.dtype(dtype).kind == "c" else 0
    return (numbers + imaginary).astype(dtype)


def operands(problem: Problem, seed: int, dtype: Any = np.int64) -> tuple[Array, Array, Array]:
    """Fill x, w and y of a problem with whole numbers."""
    x, w, y = (integers(shape, seed + n, dtype) for n, shape in enumerate(problem.shapes()))
    return x, w, y


def reals(problem: Problem, seed: int, dtype: Any) -> tuple[Array, Array, Array]:
    """Fill x, w and y of a problem with normal numbers, rounded to dtype."""
    rng = np.random.default_rng(seed)
    x, w, y = (rng.standard_normal(shape).astype(dtype) for shape in problem.shapes())
    return x, w, y


# ----- memory layouts -----


def surrounded(a: Array) -> tuple[Array, Array]:
    """Return (a view equal to `a`, the larger array it lies in): NaN before, after and between its rows.

    Only the first and the last axis are widened: unshared filters have up to eight.
    """
    wide = [n + 6 * (axis in (0, a.ndim - 1)) for axis, n in enumerate(a.shape)]
    around = np.full(wide, np.nan if a.dtype.kind in "fc" else 99, a.dtype)
    inside = around[3:-3, ..., 3:-3]
    inside[...] = a
    return inside, around


def fenced(a: Array, at_end: bool) -> Array:
    """Copy `a` to the very start or end of memory pages between two forbidden ones: a step outside is a crash."""
    if os.name != "posix":
        pytest.skip("needs mprotect")
    page, libc = mmap.PAGESIZE, ctypes.CDLL(None, use_errno=True)
    pages = -(-max(a.nbytes, 1) // page)
    memory = mmap.mmap(-1, (pages + 2) * page)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for fence in (base, base + (pages + 1) * page):
        if libc.mprotect(ctypes.c_void_p(fence), ctypes.c_size_t(page), 0):
            raise OSError(ctypes.get_errno(), "mprotect")
    start = (pages + 1) * page - a.nbytes if at_end else page
    copy = np.frombuffer(memory, a.dtype, a.size, start).reshape(a.shape)
    copy[...] = a
    return copy


def _stepped(a: Array) -> Array:
    """Return a view of every second element of the first and the last axis, NaN between."""
    wide = [2 * n + 1 if axis in (0, a.ndim - 1) else n for axis, n in enumerate(a.shape)]
    view = np.full(wide, np.nan if a.dtype.kind in "fc" else 99, a.dtype)[1::2, ..., 1::2]
    view[...] = a
    return view


def _reversed(a: Array) -> Array:
    """Give every axis a negative stride."""
    back = (slice(None, None, -1),) * a.ndim
    return a[back].copy()[back]


def _channels_last(a: Array) -> Array:
    """Make axis 1 the fastest in memory: an image stored (N, *size, C)."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1)


def _readonly(a: Array) -> Array:
    copy = a.copy()
    copy.flags.writeable = False
    return copy


def _unaligned(a: Array) -> Array:
    """Put the elements at odd addresses."""
    raw = np.empty(a.nbytes + 1, np.uint8)
    view = raw[1 : 1 + a.nbytes].view(a.dtype).reshape(a.shape)
    view[...] = a
    return view


def _broadcast(axis: int) -> Callable[[Array], Array]:
    """Repeat along one axis with stride zero. The one layout that changes values: all become those of index 0."""

    def constant(a: Array) -> Array:
        first = a[(slice(None),) * axis + (slice(0, 1),)]
        return np.broadcast_to(first, a.shape) if a.shape[axis] else a

    return constant


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "channels-last": _channels_last,
    "reversed": _reversed,
    "stepped": _stepped,
    "surrounded": lambda a: surrounded(a)[0],
    "read-only": _readonly,
    "unaligned": _unaligned,
    "swapped bytes": lambda a: a.astype(a.dtype.newbyteorder()),
    "transposed": lambda a: np.ascontiguousarray(a.swapaxes(-1, -2)).swapaxes(-1, -2),
    "zero stride, batch": _broadcast(0),
    "zero stride, channels": _broadcast(1),
    "zero stride, columns": _broadcast(-1),
}

layouts = st.sampled_from(list(LAYOUTS))


def arranged(a: Array, layout: str) -> Array:
    """Lay `a` out in memory as named. Compute the truth from the *result*: zero strides repeat index 0."""
    return LAYOUTS[layout](a)


def rooms(monkeypatch: Any, module: Any) -> list[Any]:
    """Let a module's results be made within larger arrays of sevens, which are collected: nothing may be written beside."""
    made: list[Any] = []

    def roomy(shape: tuple[int, ...], dtype: Any) -> Any:
        size = math.prod(shape)
        made.append(np.full(size + 64, 7, dtype))
        return made[-1][32 : 32 + size].reshape(shape)

    monkeypatch.setattr(module, "empty", roomy)
    return made
