"""Orders of axes known from other libraries, recognised in shapes that do not fit, and the calls that mend them."""

from __future__ import annotations

import math
from collections.abc import Callable

Shape = tuple[int, ...]
Axes = tuple[int, ...] | None
"""The axes of a transpose; None for an array that is right as it is."""


def transposes(ndim: int, x: Shape, w: Shape, fit: Callable[[Shape, Shape], bool]) -> tuple[Axes, Axes] | None:
    """The transposes of images and filters after which their channels fit, or None where no known order is behind it.

    Images may have their channels last; filters may be (*space, in, out), as in TensorFlow and JAX, or (out, *space, in).
    Of several possible ones those win that make the kernel most nearly a cube, and then a small one: 3 x 3 rather than
    3 x 64. Filters whose kernel would be less of a cube than it is are taken for what they are.

    Examples
    --------
    >>> transposes(2, (8, 32, 32, 3), (5, 5, 3, 64), lambda x, w: x[1] == w[1])
    ((0, 3, 1, 2), (3, 2, 0, 1))
    """
    if not len(x) == len(w) == ndim + 2:
        return None
    space = tuple(range(1, ndim + 1))
    images: list[Axes] = [None, (0, ndim + 1, *space)]
    filters: list[Axes] = [None, (ndim + 1, ndim, *range(ndim)), (0, ndim + 1, *space)]
    found = []
    for of_x in images:
        for of_w in filters:
            image, kernel = _permuted(x, of_x), _permuted(w, of_w)
            if not fit(image, kernel) or not all((*w, *kernel)):
                continue
            uneven = _uneven(kernel)
            if (of_x or of_w) and uneven <= _uneven(w):
                found.append(((uneven, math.prod(kernel[2:]), (of_x is not None) + (of_w is not None)), (of_x, of_w)))
    return min(found)[1] if found else None


def written(name: str, axes: Axes) -> str:
    """An argument as it is to be written."""
    return name if axes is None else f"{name}.transpose({', '.join(map(str, axes))})"


def without_axes(name: str, shape: Shape, count: int, channels: int | None, *, filters: bool = False) -> str:
    """What to write for an array that has fewer axes than the `count` it should: `input[None]`, say; "" for nothing.

    Examples
    --------
    >>> without_axes("input", (3, 32, 32), 4, 3), without_axes("input", (8, 28, 28), 4, 1)
    ('input[None]', 'input[:, None]')
    >>> without_axes("input", (32, 32, 3), 4, 3), without_axes("input", (28, 28), 4, 1)
    ('input.transpose(2, 0, 1)[None]', 'input[None, None]')
    """
    missing = count - len(shape)
    if missing == 2:
        return f"{name}[None, None]" if channels in (None, 1) or not filters else ""
    if missing != 1 or not shape:
        return ""
    if channels == 1 != shape[0]:
        return f"{name}[:, None]"
    if not filters and channels == shape[-1] != shape[0]:
        last = len(shape) - 1
        return f"{written(name, (last, *range(last)))}[None]"
    return f"{name}[None]"


def _uneven(w: Shape) -> float:
    return max(w[2:]) / min(w[2:])


def _permuted(shape: Shape, axes: Axes) -> Shape:
    return shape if axes is None else tuple(shape[axis] for axis in axes)
