"""ConvSpec: the whole geometry of one convolution, after which nobody asks for border modes or flips again.

Per spatial axis, output index o, kernel index k and input index i of the trilinear form are tied by

    i = o*stride + k*step + origin          (terms with i outside 0 <= i < size are left out: padding is zeros)

`step` is the dilation, negative when the filter is flipped; `origin` holds the padding before the image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Literal

Slot = Literal["x", "w", "y"]
Shape = tuple[int, ...]


def contiguous(shape: Shape) -> Shape:
    """Strides in elements of a new array."""
    strides = [1]
    for n in reversed(shape[1:]):
        strides.append(strides[-1] * max(n, 1))
    return tuple(reversed(strides))


@dataclass(frozen=True, slots=True)
class ConvSpec:
    """The geometry of one convolution: ints and tuples only, so it serves as cache key, plan key and log line.

    Attributes
    ----------
    batch, groups : int
    cin, cout : int
        Input and output channels **per group**.
    size, kernel, out : tuple of int
        Spatial sizes of x, w and y, one per axis.
    stride, step, origin : tuple of int
        The index map ``i = o*stride + k*step + origin``, one of each per axis.
    unshared : bool
        Every output position has filters of its own: w has the axes of `out` before its input channels.
    """

    batch: int
    groups: int
    cin: int
    cout: int
    size: Shape
    kernel: Shape
    out: Shape
    stride: Shape
    step: Shape
    origin: Shape
    unshared: bool = False
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        fields = (self.batch, self.groups, self.cin, self.cout, self.size, self.kernel, self.out)
        object.__setattr__(self, "_hash", hash((*fields, self.stride, self.step, self.origin, self.unshared)))

    def __hash__(self) -> int:
        return self._hash  # looked up on every call: computed once

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return len(self.size)

    def shape(self, slot: Slot) -> Shape:
        """Shape of the array in `slot`: x (N, G*C, *size), w (G*F, [*out,] C, *kernel), y (N, G*F, *out)."""
        if slot == "x":
            return (self.batch, self.groups * self.cin, *self.size)
        if slot == "w":
            return (self.groups * self.cout, *(self.out if self.unshared else ()), self.cin, *self.kernel)
        return (self.batch, self.groups * self.cout, *self.out)

    @property
    def macs(self) -> int:
        """Multiplications of the trilinear form, those with padding counted."""
        return math.prod((self.batch, self.groups, self.cin, self.cout, *self.kernel, *self.out))

    @property
    def met(self) -> tuple[range, ...]:
        """The taps of each axis from the first to the last that can meet the image; the others see padding alone.

        Tap k is at k*step + origin in the first window and (out-1)*stride farther in the last: they must not both lie before
        the image, nor both behind it.
        """
        found = []
        for size, kernel, out, s, d, p in zip(
            self.size, self.kernel, self.out, self.stride, self.step, self.origin, strict=True
        ):
            low, high = -p - (out - 1) * s, size - 1 - p  # of k*step
            first, last = (-(-low // d), high // d) if d > 0 else (-(high // -d), low // d)
            met = range(max(first, 0), min(last + 1, kernel))
            found.append(met or range(1))  # none at all: one tap, as there must be one, whose sums are empty
        return tuple(found)

    def taps(self, some: tuple[range, ...]) -> ConvSpec:
        """The same convolution with these taps of each axis alone."""
        axes = list(zip(some, self.step, self.origin, strict=True))
        return replace(
            self,
            kernel=tuple(map(len, some)),
            step=tuple(d if len(k) > 1 else 1 for k, d, _ in axes),
            origin=tuple(p + k.start * d for k, d, p in axes),
        )

    @property
    def features(self) -> frozenset[str]:
        """What an algorithm must know about to compute this; a new variant adds a flag that old algorithms refuse."""
        return _features(self)

    def __str__(self) -> str:
        x, w, y = (" x ".join(map(str, self.shape(slot))) for slot in ("x", "w", "y"))
        return f"({x}) * ({w}) -> ({y}), stride {self.stride}, step {self.step}, origin {self.origin}, {self.groups} groups"


@lru_cache(maxsize=1024)
def _features(spec: ConvSpec) -> frozenset[str]:
    axes = list(zip(spec.size, spec.kernel, spec.out, spec.stride, spec.step, spec.origin, strict=True))
    before = [-p if d > 0 else -p - (k - 1) * d for _, k, _, _, d, p in axes]
    reach = [
        (o - 1) * s + (k - 1) * abs(d) + 1 for _, k, o, s, d, _ in axes
    ]  # of the windows, from the first to the last
    after = [r - b - i for r, b, (i, *_) in zip(reach, before, axes, strict=True)]
    flags = {
        f"{spec.ndim}d": True,
        "strided": any(s != 1 for s in spec.stride),
        "dilated": any(abs(d) != 1 for d in spec.step),
        "flipped": any(d < 0 for d in spec.step),
        "padded": any(b > 0 or a > 0 for b, a in zip(before, after, strict=True)),
        "asymmetric": any(b > 0 or a > 0 for b, a in zip(before, after, strict=True)) and before != after,
        "grouped": spec.groups != 1,
        "depthwise": spec.groups != 1 and spec.cin == 1,
        "unshared": spec.unshared,
    }
    return frozenset(name for name, on in flags.items() if on)
