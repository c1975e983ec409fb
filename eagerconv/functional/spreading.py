"""Convolutions of images that are spread out, and of batches in groups, in terms of those that know neither.

An image spread out by e has e - 1 zeros between its elements: i*e = o + k*step + origin, at stride 1. Read the other way,
o = i*e - k*step - origin, this is the map of a transposed convolution with stride e, filters reversed, and channels of the
filters exchanged; so nobody multiplies the zeros. With other strides they are put in.
"""

from __future__ import annotations

from typing import Any, cast

from eagerconv import geometry
from eagerconv.arguments import whole
from eagerconv.autograd import rules
from eagerconv.spec import ConvSpec, Shape
from eagerconv.tensor import Tensor


def checked(function: str, ndim: int, shape: Shape, hint: Any, input_dilation: Any) -> Shape:
    """The dilation of each axis, of an image of the right number of axes that its hint does not contradict."""
    steps = geometry.frozen(function, "input_dilation", input_dilation)
    found = geometry.Options(function, ndim, "valid", steps, True, 1, 1, False, "input_dilation").stride
    geometry.check_axes(function, "input", shape, ("batch", "input channels", *geometry.AXES[ndim]))
    geometry.check_hint(function, "input_shape", geometry.frozen(function, "input_shape", hint), shape)
    return found


def by_groups(function: str, x: Tensor, filters: Shape, batch_groups: Any, groups: Any) -> Tensor:
    """The blocks of a batch as groups of channels: (G*N, I, *size) -> (N, G*I, *size)."""
    count = whole(f"{function}: num_batch_groups", batch_groups, 1)
    if groups != 1:
        raise ValueError(f"{function}: num_batch_groups={count} does not go with num_groups={groups}; leave one out")
    for what, n in (("images of the batch", x.shape[0]), ("output channels of the filters", filters[0])):
        if n % count:
            raise ValueError(f"{function}: num_batch_groups={count} does not divide the {n} {what}")
    n, channels, *size = x.shape
    blocks = x.reshape(count, n // count, channels, *size).swapaxes(0, 1)
    return cast(Tensor, blocks.reshape(n // count, count * channels, *size))


def spread_shape(shape: Shape, steps: Shape) -> Shape:
    """The shape of images (N, I, *size) that are spread out."""
    return (*shape[:2], *(max((n - 1) * e + 1, 0) for n, e in zip(shape[2:], steps, strict=True)))


def spread(x: Tensor, shape: Shape, steps: Shape) -> Tensor:
    """The images with zeros between their elements."""
    return cast(Tensor, rules.put(x, index=(..., *(slice(None, None, e) for e in steps)), shape=shape))


def crop(spec: ConvSpec) -> tuple[tuple[int, int], ...] | None:
    """What the transposed convolution takes away, (before, after) per axis, which leaves the padding; None if it can't be one.

    Unflipped the padding before is -origin, flipped origin is (K-1)*d - before. Without padding the transposed convolution has
    (K-1)*d more on both sides.
    """
    pairs = []
    for n, k, o, s, step, origin in zip(
        spec.size, spec.kernel, spec.out, spec.stride, spec.step, spec.origin, strict=True
    ):
        reach = (k - 1) * abs(step)
        before = -origin if step > 0 else reach - origin
        after = o + reach - before - n  # at stride 1
        if s != 1 or min(reach - before, reach - after) < 0:
            return None
        pairs.append((reach - before, reach - after))
    return None if spec.unshared else tuple(pairs)


def swapped(w: Tensor, spec: ConvSpec) -> Tensor:
    """The filters with the channels of each group exchanged: (G*F, C, *kernel) -> (G*C, F, *kernel)."""
    g, f, c = spec.groups, spec.cout, spec.cin
    return cast(Tensor, w.reshape(g, f, c, *spec.kernel).swapaxes(1, 2).reshape(g * c, f, *spec.kernel))
