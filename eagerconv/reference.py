"""The slow plain form of convolution, for teaching and checking: the index map written out in Python."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from eagerconv import geometry
from eagerconv.record import OPERANDS
from eagerconv.spec import ConvSpec, Slot


def conv(
    input: npt.ArrayLike,
    filters: npt.ArrayLike,
    border_mode: Any = "valid",
    subsample: Any = 1,
    filter_flip: bool = True,
    filter_dilation: Any = 1,
    num_groups: int = 1,
    unshared: bool = False,
) -> npt.NDArray[Any]:
    """Convolve in 1, 2 or 3 dimensions, in the widest dtype of the operands' kind, one output position at a time.

    The arguments are those of `conv2d`; the number of spatial axes follows from the input (batch, channels, axes...).
    Source: the method ``AbstractConv.conv`` of Theano 1.0.

    Returns
    -------
    numpy.ndarray
        float64, complex128 or int64 (exact), of shape (batch, output channels, axes...).

    Raises
    ------
    ValueError
        As `conv2d` does.

    Examples
    --------
    >>> import numpy as np, eagerconv as ec
    >>> ec.reference.conv(np.array([[[1, 2, 3, 4, 5]]]), np.array([[[1, 10, 100]]]))
    array([[[123, 234, 345]]])
    """
    x, w = (np.asarray(array) for array in (input, filters))
    widest = np.result_type(x, w, {"f": np.float64, "c": np.complex128}.get(np.result_type(x, w).kind, np.int64))
    ndim = max(1, min(3, x.ndim - 2))
    name = "reference.conv"
    spec = geometry.forward(
        name, ndim, x.shape, w.shape, None, None, geometry.frozen(name, "border_mode", border_mode),
        geometry.frozen(name, "subsample", subsample), geometry.flag(name, "filter_flip", filter_flip),
        geometry.frozen(name, "filter_dilation", filter_dilation), geometry.frozen(name, "num_groups", num_groups),
        geometry.flag(name, "unshared", unshared),
    )  # fmt: skip
    return solve(spec, "y", x=x.astype(widest), w=w.astype(widest))


def solve(spec: ConvSpec, slot: Slot, **given: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Solve T = sum x[n, g, c, i] * w[(o), g, f, c, k] * y[n, g, f, o], i = o*stride + k*step + origin, for `slot`."""
    result = np.zeros(spec.shape(slot), np.result_type(*given.values()))
    split = {s: _by_group(spec, s, array) for s, array in {**given, slot: result}.items()}  # type: ignore[arg-type]
    x, w, y = split["x"], split["w"], split["y"]
    einsum = {"y": "gnc,gfc->gnf", "x": "gnf,gfc->gnc", "w": "gnc,gnf->gfc"}[slot]
    for o in np.ndindex(*spec.out):
        for k in np.ndindex(*spec.kernel):
            i = tuple(
                a * s + b * d + p for a, s, b, d, p in zip(o, spec.stride, k, spec.step, spec.origin, strict=True)
            )
            if all(0 <= a < n for a, n in zip(i, spec.size, strict=True)):
                at = {"x": x[i], "w": w[(*o, *k) if spec.unshared else k], "y": y[o]}  # (G, N, C), (G, F, C), (G, N, F)
                operands = (at[s] for s in OPERANDS[slot])
                at[slot] += np.einsum(einsum, *operands)
    return result


def _by_group(spec: ConvSpec, slot: Slot, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A view with the spatial axes first: x (*size, G, N, C), w ([*out,] *kernel, G, F, C), y (*out, G, N, F)."""
    g, nd = spec.groups, spec.ndim
    if slot == "w":
        w = array.reshape(g, spec.cout, *array.shape[1:])
        return np.moveaxis(w, (0, 1, -nd - 1), (-3, -2, -1))
    split = array.reshape(array.shape[0], g, array.shape[1] // g, *array.shape[2:])
    return np.moveaxis(split, (1, 0, 2), (-3, -2, -1))
