"""Discrete Fourier transforms.

All are linear. The adjoint of the transform F without a factor is n times the inverse transform, and a norm only says
which of the two has the factor 1/n: so the adjoint of one is the other with the opposite norm.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from eagerconv.autograd.rules.indexing import getitem
from eagerconv.autograd.rules.operands import Table, value
from eagerconv.autograd.rules.shapes import pad, roll
from eagerconv.autograd.tape import Op, linear

_OPPOSITE = {None: "forward", "backward": "forward", "ortho": "ortho", "forward": "backward"}

fftn: Op = linear(
    "fftn", np.fft.fftn, lambda g, like, axes, norm: resized(ifftn(g, axes=axes, norm=_OPPOSITE[norm]), like.shape)
)
ifftn: Op = linear(
    "ifftn", np.fft.ifftn, lambda g, like, axes, norm: resized(fftn(g, axes=axes, norm=_OPPOSITE[norm]), like.shape)
)
rfftn: Op = linear(  # half of the transform of a real array: irfftn counts the other half, which is not there
    "rfftn",
    np.fft.rfftn,
    lambda g, like, s, axes, norm: resized(
        irfftn(g * _weights(g, s, axes, 0.5), s=s, axes=axes, norm=_OPPOSITE[norm]), like.shape
    ),
)
irfftn: Op = linear(
    "irfftn",
    np.fft.irfftn,
    lambda g, like, s, axes, norm: resized(_irfftn_adjoint(g, s, axes, _OPPOSITE[norm]), like.shape),
)


def _sizes(a: Any, s: Any, axes: Any, half: bool = False) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Length and number of each transformed axis; `half`: the last axis holds half a transform."""
    if axes is None:
        axes = range(a.ndim) if s is None else range(a.ndim - len(s), a.ndim)
    axes = normalize_axis_tuple(axes, a.ndim, allow_duplicate=True)
    sizes = [a.shape[axis] for axis in axes]
    if half and sizes:
        sizes[-1] = 2 * (sizes[-1] - 1)
    given = [None] * len(axes) if s is None else s
    return tuple(n if m in (None, -1) else int(m) for n, m in zip(sizes, given, strict=True)), axes


def _several(row: Op, axes: Any = None, half: bool = False) -> Callable[..., Any]:
    default = axes

    def transform(a: Any, s: Any = None, axes: Any = default, norm: str | None = None, out: None = None) -> Any:
        s, axes = _sizes(a, s, axes, half)
        return row(a, s=s, axes=axes, norm=norm)

    return transform


def _one(row: Op, half: bool = False) -> Callable[..., Any]:
    def transform(a: Any, n: int | None = None, axis: int = -1, norm: str | None = None, out: None = None) -> Any:
        s, axes = _sizes(a, None if n is None else (n,), (axis,), half)
        return row(a, s=s, axes=axes, norm=norm)

    return transform


rfft, irfft = _one(rfftn), _one(irfftn, half=True)


def hfft(a: Any, n: int | None = None, axis: int = -1, norm: str | None = None, out: None = None) -> Any:
    """The real transform of half a Hermitian signal."""
    return irfft(a.conjugate(), n, axis, _OPPOSITE[norm])


def ihfft(a: Any, n: int | None = None, axis: int = -1, norm: str | None = None, out: None = None) -> Any:
    """Half of the Hermitian inverse transform of a real spectrum."""
    return rfft(a, n, axis, _OPPOSITE[norm]).conjugate()


def fftshift(x: Any, axes: Any = None) -> Any:
    """Move frequency zero to the middle."""
    axes = normalize_axis_tuple(range(x.ndim) if axes is None else axes, x.ndim)
    return roll(x, shift=tuple(x.shape[a] // 2 for a in axes), axis=axes)


def ifftshift(x: Any, axes: Any = None) -> Any:
    """Move frequency zero back to the front."""
    axes = normalize_axis_tuple(range(x.ndim) if axes is None else axes, x.ndim)
    return roll(x, shift=tuple(-(x.shape[a] // 2) for a in axes), axis=axes)


FUNCTIONS: Table = {
    np.fft.fft: _one(fftn), np.fft.ifft: _one(ifftn), np.fft.rfft: rfft, np.fft.irfft: irfft,
    np.fft.fft2: _several(fftn, (-2, -1)), np.fft.ifft2: _several(ifftn, (-2, -1)),
    np.fft.rfft2: _several(rfftn, (-2, -1)), np.fft.irfft2: _several(irfftn, (-2, -1), half=True),
    np.fft.fftn: _several(fftn), np.fft.ifftn: _several(ifftn), np.fft.rfftn: _several(rfftn),
    np.fft.irfftn: _several(irfftn, half=True), np.fft.hfft: hfft, np.fft.ihfft: ihfft,
    np.fft.fftshift: fftshift, np.fft.ifftshift: ifftshift,
}  # fmt: skip

# ----- Parts of rules -----


def resized(x: Any, shape: tuple[int, ...]) -> Any:
    """Crop or pad with zeros at the end of each axis: the adjoint of what a transform with n or s does first."""
    if any(n > m for n, m in zip(x.shape, shape, strict=True)):
        x = getitem(x, index=tuple(slice(m) for m in shape))
    if x.shape != tuple(shape):
        x = pad(x, widths=tuple((0, m - n) for n, m in zip(x.shape, shape, strict=True)))
    return x


def _weights(g: Any, s: tuple[int, ...], axes: tuple[int, ...], twin: float) -> Any:
    """`twin` for every frequency that has a conjugate twin, 1 for zero and, of an even length, for n/2."""
    n, axis = s[-1], axes[-1]
    w = np.full_like(value(g).real, twin, shape=n // 2 + 1)
    w[0] = 1
    if n % 2 == 0:
        w[-1] = 1
    return w.reshape([-1 if a == axis else 1 for a in range(len(g.shape))])


def _irfftn_adjoint(g: Any, s: tuple[int, ...], axes: tuple[int, ...], norm: str) -> Any:
    out = rfftn(g, s=s, axes=axes, norm=norm)
    return out * _weights(out, s, axes, 2.0)
