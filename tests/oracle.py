"""The convolution written to be believed at sight: loops over kernel offsets on explicitly padded images.

Plain NumPy in float64, complex128 or exact int64, from the contract alone; nothing here imports the library, so that
a fault of the library cannot hide by being in both. Layouts: images (N, I, *size), filters (O, I/G, *kernel),
unshared filters (O, *out, I/G, *kernel), outputs (N, O, *out); group g owns the g-th block of I and of O.

One loop serves the three functions. A kernel offset k lies over the padded image at rows k*dilation + o*stride,
one for each output o; the *tap* that multiplies them is w[k] for a correlation and w[kernel-1-k] for a convolution:

    forward       y[o] += tap[k] * image[k*dilation + o*stride]
    grad inputs   image[k*dilation + o*stride] += tap[k] * y[o]       then the padding is cut off
    grad weights  tap[k] += image[k*dilation + o*stride] * y[o]
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Ints = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]


# ----- geometry, per axis -----


def per_axis(value: int | Sequence[int], ndim: int) -> Ints:
    """Let one int stand for every axis."""
    return (value,) * ndim if isinstance(value, int) else tuple(value)


def pads(border_mode: Any, size: Ints, kernel: Ints, subsample: Ints, dilation: Ints) -> Pads:
    """Count the rows of zeros (before, after) on each axis of the image."""
    found = []
    for axis, (i, k, s, d) in enumerate(zip(size, kernel, subsample, dilation, strict=True)):
        dk = (k - 1) * d + 1
        missing = max((math.ceil(i / s) - 1) * s + dk - i, 0)  # what 'same' needs for ceil(i/s) outputs
        if border_mode == "valid":
            pair = (0, 0)
        elif border_mode == "full":
            pair = (dk - 1, dk - 1)
        elif border_mode == "half":
            pair = (dk // 2, dk // 2)
        elif border_mode == "same":
            pair = (missing // 2, missing - missing // 2)
        elif border_mode == "same_lower":
            pair = (missing - missing // 2, missing // 2)
        else:
            entry = border_mode if isinstance(border_mode, int) else border_mode[axis]
            pair = (entry, entry) if isinstance(entry, int) else (entry[0], entry[1])
        found.append(pair)
    return tuple(found)


def out_size(size: Ints, kernel: Ints, padding: Pads, subsample: Ints, dilation: Ints) -> Ints:
    """Count the places that the dilated kernel can take on each axis of the padded image."""
    axes = zip(size, kernel, padding, subsample, dilation, strict=True)
    return tuple((i + before + after - ((k - 1) * d + 1)) // s + 1 for i, k, (before, after), s, d in axes)


def fitting_sizes(out: int, kernel: int, border_mode: Any, subsample: int, dilation: int) -> list[int]:
    """List the image sizes of one axis whose convolution has `out` places, by trying them all."""
    fits = []
    for size in range(1, (out + 1) * subsample + kernel * dilation + 1):
        padding = pads(border_mode, (size,), (kernel,), (subsample,), (dilation,))
        if out_size((size,), (kernel,), padding, (subsample,), (dilation,)) == (out,):
            fits.append(size)
    return fits


@dataclass(frozen=True)
class Geometry:
    """Sizes of one problem, and the walk over its kernel offsets."""

    size: Ints
    kernel: Ints
    padding: Pads
    out: Ints
    subsample: Ints
    dilation: Ints
    flip: bool

    @property
    def padded(self) -> Ints:
        return tuple(i + before + after for i, (before, after) in zip(self.size, self.padding, strict=True))

    def offsets(self) -> Iterator[tuple[Any, Any]]:
        """Yield (index of the image rows under the offset, index of the filter tap that multiplies them)."""
        for offset in np.ndindex(*self.kernel):
            rows = tuple(
                slice(k * d, k * d + (o - 1) * s + 1, s)
                for k, d, o, s in zip(offset, self.dilation, self.out, self.subsample, strict=True)
            )
            tap = tuple(n - 1 - k for n, k in zip(self.kernel, offset, strict=True)) if self.flip else offset
            yield (..., *rows), (..., *tap)


def geometry(size: Ints, kernel: Ints, border_mode: Any, subsample: Any, dilation: Any, flip: bool) -> Geometry:
    """Turn public arguments into sizes."""
    strides, dilations = per_axis(subsample, len(size)), per_axis(dilation, len(size))
    padding = pads(border_mode, size, kernel, strides, dilations)
    out = out_size(size, kernel, padding, strides, dilations)
    return Geometry(size, kernel, padding, out, strides, dilations, flip)


# ----- the three contractions -----


def exact(a: Any) -> Array:
    """Keep the numbers, in int64, float64 or complex128."""
    kinds: dict[str, Any] = {"b": np.int64, "i": np.int64, "u": np.int64, "c": np.complex128}
    numbers: Array = np.asarray(a)
    return numbers.astype(kinds.get(numbers.dtype.kind, np.float64))


def images_by_group(a: Array, groups: int) -> Array:
    """Reshape (N, G*C, *out) to (N, G, C, P): all places of the output in one axis P."""
    return a.reshape(a.shape[0], groups, a.shape[1] // groups, math.prod(a.shape[2:]))


def taps_by_group(tap: Array, groups: int, unshared: bool) -> Array:
    """Reshape (G*F, C) to (G, F, C), or unshared (G*F, *out, C) to (G, F, P, C)."""
    places = (math.prod(tap.shape[1:-1]),) if unshared else ()
    return tap.reshape(groups, tap.shape[0] // groups, *places, tap.shape[-1])


def forward(
    input: Any,
    filters: Any,
    *,
    border_mode: Any = "valid",
    subsample: Any = 1,
    filter_flip: bool = True,
    filter_dilation: Any = 1,
    num_groups: int = 1,
    unshared: bool = False,
) -> Array:
    """Convolve: (N, I, *size), filters -> (N, O, *out)."""
    x, w = exact(input), exact(filters)
    ndim = x.ndim - 2
    g = geometry(x.shape[2:], w.shape[-ndim:], border_mode, subsample, filter_dilation, filter_flip)
    image = np.pad(x, ((0, 0), (0, 0), *g.padding))  # (N, I, *padded)
    y = np.zeros((len(x), num_groups, len(w) // num_groups, math.prod(g.out)), np.result_type(x, w))  # (N, G, F, P)
    for rows, tap in g.offsets():
        patch = images_by_group(image[rows], num_groups)  # (N, G, C, P)
        taps = taps_by_group(w[tap], num_groups, unshared)  # (G, F, C) or (G, F, P, C)
        y += np.einsum("ngcp,gfpc->ngfp" if unshared else "ngcp,gfc->ngfp", patch, taps)
    return y.reshape(len(x), len(w), *g.out)


def grad_inputs(
    output_grad: Any,
    filters: Any,
    input_shape: Ints,
    *,
    border_mode: Any = "valid",
    subsample: Any = 1,
    filter_flip: bool = True,
    filter_dilation: Any = 1,
    num_groups: int = 1,
    unshared: bool = False,
) -> Array:
    """Solve for the image, the adjoint in it: (N, O, *out), filters -> (N, I, *size)."""
    y, w = exact(output_grad), exact(filters)
    ndim = y.ndim - 2
    g = geometry(input_shape[2:], w.shape[-ndim:], border_mode, subsample, filter_dilation, filter_flip)
    image = np.zeros((*input_shape[:2], *g.padded), np.result_type(y, w))  # (N, I, *padded)
    for rows, tap in g.offsets():
        taps = taps_by_group(w[tap], num_groups, unshared)  # (G, F, C) or (G, F, P, C)
        outs = images_by_group(y, num_groups)  # (N, G, F, P)
        patch = np.einsum("ngfp,gfpc->ngcp" if unshared else "ngfp,gfc->ngcp", outs, taps)
        image[rows] += patch.reshape(*input_shape[:2], *g.out)
    inside: Any = (slice(before, before + i) for i, (before, _) in zip(g.size, g.padding, strict=True))
    return image[(..., *inside)]


def grad_weights(
    input: Any,
    output_grad: Any,
    filter_shape: Ints,
    *,
    border_mode: Any = "valid",
    subsample: Any = 1,
    filter_flip: bool = True,
    filter_dilation: Any = 1,
    num_groups: int = 1,
    unshared: bool = False,
) -> Array:
    """Solve for the filters, the adjoint in them: (N, I, *size), (N, O, *out) -> filters of `filter_shape`."""
    x, y = exact(input), exact(output_grad)
    ndim = x.ndim - 2
    g = geometry(x.shape[2:], filter_shape[-ndim:], border_mode, subsample, filter_dilation, filter_flip)
    image = np.pad(x, ((0, 0), (0, 0), *g.padding))  # (N, I, *padded)
    w = np.zeros(filter_shape, np.result_type(x, y))
    for rows, tap in g.offsets():
        patch = images_by_group(image[rows], num_groups)  # (N, G, C, P)
        outs = images_by_group(y, num_groups)  # (N, G, F, P)
        taps = np.einsum("ngcp,ngfp->gfpc" if unshared else "ngcp,ngfp->gfc", patch, outs)
        w[tap] = taps.reshape(filter_shape[:-ndim])
    return w
