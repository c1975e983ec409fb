"""The algorithm `fft` on the GPU: products of whole spectra by cuFFT, for large kernels.

On every axis the index map i = o*stride + k*step + origin is brought to stride and step 1 by zeros between the outputs and
between the taps (a negative step reads the taps backwards). What is left, x[o + k + origin] * w[k] * y[o], is a correlation
or a convolution of two of the three, read at a range of positions t, whichever slot is solved:

    y[o] = sum_k x[t + k] w[k]     t = o + origin       x[i] = sum_k y[t - k] w[k]     t = i - origin
    w[k] = sum_o x[t + o] y[o]     t = k + origin

The circular sum of length L equals it where no position t + mL (m not 0) lies within the support of the linear one.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from eagerconv.kernels_gpu.cuda import Runtime, runtime
from eagerconv.record import FEATURES, Algorithm, Plan, Range, Request, range_of
from eagerconv.spec import ConvSpec, Shape

SECONDS_PER_POINT = (
    3e-11  # of a spectrum, with its products: an estimate for a card of an H200's kind, not a measurement
)
SECONDS_PER_CALL = 150e-6


def _dense(spec: ConvSpec) -> tuple[Shape, Shape, Shape]:
    """(outputs, taps, origin) once zeros are between them and no step is negative."""
    outs = tuple((o - 1) * s + 1 for o, s in zip(spec.out, spec.stride, strict=True))
    taps = tuple((k - 1) * abs(d) + 1 for k, d in zip(spec.kernel, spec.step, strict=True))
    # Tap k reads o + k*d + origin: for d < 0 the last one reads first.
    origin = tuple(p + min(0, (k - 1) * d) for k, d, p in zip(spec.kernel, spec.step, spec.origin, strict=True))
    return outs, taps, origin


def _length(first: int, count: int, low: int, high: int, least: int) -> int:
    """A quick length without wrap-around for positions first ... first + count - 1 of a sum on low ... high."""
    n = max(high - first + 1, first + count - low, least)
    while _largest_factor(n) > 7:
        n += 1
    return n


def _largest_factor(n: int) -> int:
    for p in (2, 3, 5, 7):
        while n % p == 0 and n > 1:
            n //= p
    return max(n, 1)


def _lengths(request: Request) -> Shape:
    spec = request.spec
    lengths = []
    for i, o, k, p in zip(spec.size, *_dense(spec), strict=True):
        if request.slot == "y":
            lengths.append(_length(p, o, 1 - k, i - 1, max(i, k)))
        elif request.slot == "w":
            lengths.append(_length(p, k, 1 - o, i - 1, max(i, o)))
        else:
            lengths.append(_length(-p, i, 0, o + k - 2, max(o, k)))
    return tuple(lengths)


def _spread(cuda: Runtime, a: Any, step: Shape) -> Any:
    """Put zeros between the elements of the last axes; a negative step reads them backwards."""
    flipped = a[(..., *(slice(None, None, -1 if d < 0 else 1) for d in step))]
    if all(abs(d) == 1 for d in step):
        return flipped
    axes = a.shape[-len(step) :]
    sizes = tuple((n - 1) * abs(d) + 1 for n, d in zip(axes, step, strict=True))
    out = cuda.xp.zeros((*a.shape[: -len(step)], *sizes), a.dtype)
    out[(..., *(slice(None, None, abs(d)) for d in step))] = flipped
    return out


def _read(cuda: Runtime, a: Any, first: Shape, count: Shape) -> Any:
    """Positions first ... first + count - 1 of the last axes, counted around."""
    nd = len(first)
    for axis, (t, n) in enumerate(zip(first, count, strict=True), start=a.ndim - nd):
        index = (np.arange(n) + t) % a.shape[axis]
        a = cuda.xp.take(a, cuda.xp.asarray(index), axis=axis)
    return a


def _plan(request: Request) -> Plan:
    spec, slot = request.spec, request.slot
    n, g, c, f, nd = spec.batch, spec.groups, spec.cin, spec.cout, spec.ndim
    outs, taps, origin = _dense(spec)
    lengths = _lengths(request)

    def spectra(cuda: Runtime, a: Any, lead: Shape, step: Shape) -> Any:
        """Frequencies first: (P, *lead)."""
        dense = _spread(cuda, a.reshape(*lead, *a.shape[-nd:]), step)
        spectrum = cuda.rfftn(dense, lengths).reshape(*lead, -1)
        return spectrum.transpose(len(lead), *range(len(lead)))

    def back(cuda: Runtime, spectrum: Any, first: Shape, count: Shape) -> Any:
        """(P, ...) -> (..., *count)."""
        lead = spectrum.shape[1:]
        folded = (*lengths[:-1], lengths[-1] // 2 + 1)
        moved = spectrum.transpose(*range(1, len(lead) + 1), 0).reshape(*lead, *folded)
        return _read(cuda, cuda.irfftn(moved, lengths), first, count)

    one = (1,) * nd

    def forward(x: Any, w: Any) -> Any:
        cuda = runtime()
        xs = spectra(cuda, x, (n, g, c), one).transpose(0, 2, 1, 3)  # (P, G, N, C)
        ws = spectra(cuda, w, (g, f, c), spec.step).conj().transpose(0, 1, 3, 2)  # (P, G, C, F)
        y = back(cuda, cuda.xp.matmul(xs, ws).transpose(0, 2, 1, 3), origin, outs)
        return y[(..., *(slice(None, None, s) for s in spec.stride))].reshape(spec.shape("y"))

    def inputs(y: Any, w: Any) -> Any:
        cuda = runtime()
        ys = spectra(cuda, y, (n, g, f), spec.stride).transpose(0, 2, 1, 3)  # (P, G, N, F)
        ws = spectra(cuda, w, (g, f, c), spec.step)  # (P, G, F, C)
        x = back(cuda, cuda.xp.matmul(ys, ws).transpose(0, 2, 1, 3), tuple(-p for p in origin), spec.size)
        return x.reshape(spec.shape("x"))

    def weights(x: Any, y: Any) -> Any:
        cuda = runtime()
        xs = spectra(cuda, x, (n, g, c), one).transpose(0, 2, 1, 3)  # (P, G, N, C)
        ys = spectra(cuda, y, (n, g, f), spec.stride).conj().transpose(0, 2, 3, 1)  # (P, G, F, N)
        w = back(cuda, cuda.xp.matmul(ys, xs), origin, taps)
        return w[(..., *(slice(None, None, d) for d in spec.step))].reshape(spec.shape("w"))

    plan = {"y": forward, "x": inputs, "w": weights}[slot]
    return lambda a, b: runtime().xp.ascontiguousarray(plan(a, b))


def _points(request: Request) -> int:
    """Complex numbers of all three spectra."""
    spec = request.spec
    maps = spec.groups * (spec.batch * (spec.cin + spec.cout) + spec.cin * spec.cout)
    return maps * (math.prod(_lengths(request)) // 2 + 1)


def _cost(request: Request) -> float:
    return SECONDS_PER_CALL + _points(request) * SECONDS_PER_POINT


def _safe(request: Request) -> Range:
    """The range, for transforms of N points: in 2-norms, as on the CPU, but not scaled before the last of all.

    The spectra of a, times those of b, are at most N * max|a| * sum|b|, and their sums of N numbers sqrt(N) times that. Each of
    the numbers may lose tiny instead of tiny * eps / 2, as far as the library may take what is below tiny for zero.
    """
    largest = math.prod(_lengths(request)) ** 1.5
    return range_of(request, 2 * largest, 2 * largest / float(np.finfo(request.dtype).eps))


FFT = Algorithm(
    name="fft",
    features=FEATURES - {"unshared"},
    dtypes=frozenset({"float32", "float64"}),
    # As on the CPU: the error of a transform grows with the logarithm of its length, that of a sum with its root.
    error=lambda request: (
        3
        * float(np.finfo(request.dtype).eps)
        * (math.log2(math.prod(_lengths(request)) + 1) + math.sqrt(_terms(request)))
    ),
    safe=_safe,
    refuses=lambda request: None,
    workspace=lambda request: 4 * _points(request) * request.dtype.itemsize,
    cost=_cost,
    plan=_plan,
)


def _terms(request: Request) -> int:
    """Spectra that are added up."""
    spec = request.spec
    return {"y": spec.cin, "x": spec.cout, "w": spec.batch}[request.slot]
