"""Fourier transforms, under the names of the array API standard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from eagerconv.tensor import Tensor, asarray
from eagerconv.wrapping import apply, documented

__all__ = [
    "fft", "fftfreq", "fftn", "fftshift", "hfft", "ifft", "ifftn", "ifftshift", "ihfft", "irfft", "irfftn", "rfft",
    "rfftfreq", "rfftn",
]  # fmt: skip

_AXIS = "int\n    Along which axis."
_AXES = "sequence of ints, optional\n    Along which axes; default: all, or the last ones for which `s` gives lengths."

# ----- Transforms -----


@documented(axis=_AXIS)
def fft(x: Any, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Tensor:
    """The discrete Fourier transform along an axis.

    >>> fft([1.0, 0.0, 0.0])
    tensor([1.+0.j, 1.+0.j, 1.+0.j], dtype=complex128)
    """
    return cast(Tensor, apply(np.fft.fft, asarray(x), n=n, axis=axis, norm=norm))


@documented(axis=_AXIS)
def ifft(x: Any, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Tensor:
    """The inverse of `fft`.

    >>> ifft([1.0, 1.0])
    tensor([1.+0.j, 0.+0.j], dtype=complex128)
    """
    return cast(Tensor, apply(np.fft.ifft, asarray(x), n=n, axis=axis, norm=norm))


@documented(axis=_AXIS)
def rfft(x: Any, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Tensor:
    """The Fourier transform of real numbers along an axis: the half that is not redundant.

    >>> rfft([1.0, 0.0, 0.0])
    tensor([1.+0.j, 1.+0.j], dtype=complex128)
    """
    return cast(Tensor, apply(np.fft.rfft, asarray(x), n=n, axis=axis, norm=norm))


@documented(axis=_AXIS)
def irfft(x: Any, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Tensor:
    """The inverse of `rfft`; an odd length has to be told by `n`.

    >>> irfft([1.0, 1.0])
    tensor([1., 0.], dtype=float64)
    """
    return cast(Tensor, apply(np.fft.irfft, asarray(x), n=n, axis=axis, norm=norm))


@documented(axis=_AXIS)
def hfft(x: Any, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Tensor:
    """The Fourier transform of a Hermitian signal, of which the first half is given: real.

    >>> hfft([1.0, 1.0])
    tensor([2., 0.], dtype=float64)
    """
    return cast(Tensor, apply(np.fft.hfft, asarray(x), n=n, axis=axis, norm=norm))


@documented(axis=_AXIS)
def ihfft(x: Any, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Tensor:
    """The inverse of `hfft`.

    >>> ihfft([1.0, 1.0])
    tensor([1.-0.j, 0.-0.j], dtype=complex128)
    """
    return cast(Tensor, apply(np.fft.ihfft, asarray(x), n=n, axis=axis, norm=norm))


@documented(axes=_AXES)
def fftn(
    x: Any, /, *, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: str = "backward"
) -> Tensor:
    """The discrete Fourier transform over several axes.

    >>> fftn([[1.0, 0.0]])
    tensor([[1.+0.j, 1.+0.j]], dtype=complex128)
    """
    return cast(Tensor, apply(np.fft.fftn, asarray(x), s=s, axes=_last(s, axes), norm=norm))


@documented(axes=_AXES)
def ifftn(
    x: Any, /, *, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: str = "backward"
) -> Tensor:
    """The inverse of `fftn`.

    >>> ifftn([[1.0, 1.0]])
    tensor([[1.+0.j, 0.+0.j]], dtype=complex128)
    """
    return cast(Tensor, apply(np.fft.ifftn, asarray(x), s=s, axes=_last(s, axes), norm=norm))


@documented(axes=_AXES)
def rfftn(
    x: Any, /, *, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: str = "backward"
) -> Tensor:
    """The Fourier transform of real numbers over several axes: half of the last one, the rest is redundant.

    >>> rfftn([[1.0, 0.0]])
    tensor([[1.+0.j, 1.+0.j]], dtype=complex128)
    """
    return cast(Tensor, apply(np.fft.rfftn, asarray(x), s=s, axes=_last(s, axes), norm=norm))


@documented(axes=_AXES)
def irfftn(
    x: Any, /, *, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: str = "backward"
) -> Tensor:
    """The inverse of `rfftn`; an odd last length has to be told by `s`.

    >>> irfftn([[1.0, 1.0]])
    tensor([[1., 0.]], dtype=float64)
    """
    return cast(Tensor, apply(np.fft.irfftn, asarray(x), s=s, axes=_last(s, axes), norm=norm))


def _last(s: Sequence[int] | None, axes: Sequence[int] | None) -> Sequence[int] | None:
    """The last axes, as many as there are lengths."""
    return tuple(range(-len(s), 0)) if axes is None and s is not None else axes


# ----- Frequencies -----

_COUNT = "int\n    Length of the transformed axis."
_SPACING = "float\n    Distance of the samples."


@documented(n=_COUNT, d=_SPACING)
def fftfreq(n: int, /, *, d: float = 1.0, dtype: npt.DTypeLike | None = None, device: str | None = None) -> Tensor:
    """The frequencies of what `fft` gives, in cycles per unit of the distance.

    >>> fftfreq(4)
    tensor([ 0.  ,  0.25, -0.5 , -0.25], dtype=float64)
    """
    return asarray(np.fft.fftfreq(n, d), dtype, device)


@documented(n=_COUNT, d=_SPACING)
def rfftfreq(n: int, /, *, d: float = 1.0, dtype: npt.DTypeLike | None = None, device: str | None = None) -> Tensor:
    """The frequencies of what `rfft` gives, in cycles per unit of the distance.

    >>> rfftfreq(4)
    tensor([0.  , 0.25, 0.5 ], dtype=float64)
    """
    return asarray(np.fft.rfftfreq(n, d), dtype, device)


@documented(axes=_AXES)
def fftshift(x: Any, /, *, axes: int | Sequence[int] | None = None) -> Tensor:
    """Move the frequency zero to the middle.

    >>> fftshift([0, 1, -2, -1])
    tensor([-2, -1,  0,  1], dtype=int64)
    """
    return cast(Tensor, apply(np.fft.fftshift, asarray(x), axes=axes))


@documented(axes=_AXES)
def ifftshift(x: Any, /, *, axes: int | Sequence[int] | None = None) -> Tensor:
    """Move the frequency zero back to the front.

    >>> ifftshift([-2, -1, 0, 1])
    tensor([ 0,  1, -2, -1], dtype=int64)
    """
    return cast(Tensor, apply(np.fft.ifftshift, asarray(x), axes=axes))
