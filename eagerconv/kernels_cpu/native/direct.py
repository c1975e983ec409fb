"""Direct summation: plain loops that know every feature, need no memory but one row, and serve as the reference.

A task is one row of the result along the last axis. The row is built in a short buffer, piece by piece, from multiples of
rows of the operands, so the innermost loop runs along memory and vectorises; every index that would fall outside an array
is cut off by loop bounds before the loop starts.
"""

from __future__ import annotations

from typing import Any

from eagerconv.kernels_cpu.blocks import DIRECT_ROW
from eagerconv.kernels_cpu.native.loops import P, clear, helper, window
from eagerconv.kernels_cpu.native.vector import offset, zero
from eagerconv.kernels_cpu.table import DIRECT as at


@helper
def add_products(r: P, ri: int, rs: int, a: P, ai: int, as_: int, b: P, bi: int, bs: int, n: int) -> None:
    """r[ri + j*rs] += a[ai + j*as_] * b[bi + j*bs] for j < n."""
    if as_ == 0 and rs == 1 and bs == 1:  # one filter tap times a contiguous row: the case that must vectorise
        factor = a[ai]
        for j in range(n):
            r[ri + j] += factor * b[bi + j]
    else:
        for j in range(n):
            r[ri + j * rs] += a[ai + j * as_] * b[bi + j * bs]


@helper
def dot(a: P, ai: int, as_: int, b: P, bi: int, bs: int, n: int, r: P) -> Any:
    """Sum of a[ai + j*as_] * b[bi + j*bs] for j < n, in the same order whatever the strides; r has room for two rows."""
    total = zero(a)
    for j0 in range(0, n, DIRECT_ROW):
        m = min(DIRECT_ROW, n - j0)
        left, right = offset(a, ai + j0 * as_), offset(b, bi + j0 * bs)
        if as_ != 1:
            store(r, 0, 1, left, as_, m)
            left = r
        if bs != 1:
            store(r, DIRECT_ROW, 1, right, bs, m)
            right = offset(r, DIRECT_ROW)
        for j in range(m):
            total += left[j] * right[j]
    return total


@helper
def store(out: P, start: int, step: int, r: P, r_step: int, n: int) -> None:
    """out[start + j*step] = r[j*r_step] for j < n."""
    for j in range(n):
        out[start + j * step] = r[j * r_step]


def forward(first: int, last: int, thread: int, x: P, w: P, y: P, work: P, g: P) -> None:
    """y[n, f, oz, oy, :] = sum over c, kz, ky, kx of w * x[n, c, iz, iy, :], one task per (n, f, oz, oy)."""
    rows = g[at.OUT] * g[at.OUT + 1]
    stride, step = g[at.STRIDE + 2], g[at.STEP + 2]
    r = offset(work, thread * 2 * DIRECT_ROW)
    for task in range(first, last):
        image, o = task // rows, task % rows
        n, f = image // (g[at.GROUPS] * g[at.COUT]), image % (g[at.GROUPS] * g[at.COUT])
        group, oz, oy = f // g[at.COUT], o // g[at.OUT + 1], o % g[at.OUT + 1]
        for o0 in range(0, g[at.OUT + 2], DIRECT_ROW):
            o1 = min(o0 + DIRECT_ROW, g[at.OUT + 2])
            clear(r, o1 - o0)
            for c in range(g[at.CIN]):
                for kz in range(g[at.KERNEL]):
                    iz = oz * g[at.STRIDE] + kz * g[at.STEP] + g[at.ORIGIN]
                    if iz < 0 or iz >= g[at.SIZE]:
                        continue
                    for ky in range(g[at.KERNEL + 1]):
                        iy = oy * g[at.STRIDE + 1] + ky * g[at.STEP + 1] + g[at.ORIGIN + 1]
                        if iy < 0 or iy >= g[at.SIZE + 1]:
                            continue
                        xi = n * g[at.X_N] + (group * g[at.CIN] + c) * g[at.X_C] + iz * g[at.X_I] + iy * g[at.X_I + 1]
                        wo = f * g[at.W_F] + oz * g[at.W_O] + oy * g[at.W_O + 1]
                        wi = wo + c * g[at.W_C] + kz * g[at.W_K] + ky * g[at.W_K + 1]
                        for kx in range(g[at.KERNEL + 2]):
                            base = kx * step + g[at.ORIGIN + 2]
                            a, b = window(base, stride, 0, g[at.SIZE + 2], g[at.OUT + 2])
                            a, b = max(a, o0), min(b, o1)
                            if a < b:
                                add_products(r, a - o0, 1, w, wi + a * g[at.W_O + 2] + kx * g[at.W_K + 2], g[at.W_O + 2], x,
                                             xi + (a * stride + base) * g[at.X_I + 2], stride * g[at.X_I + 2],
                                             b - a)  # fmt: skip
            start = n * g[at.Y_N] + f * g[at.Y_F] + oz * g[at.Y_O] + oy * g[at.Y_O + 1] + o0 * g[at.Y_O + 2]
            store(y, start, g[at.Y_O + 2], r, 1, o1 - o0)


def inputs(first: int, last: int, thread: int, x: P, w: P, y: P, work: P, g: P) -> None:
    """x[n, c, iz, iy, :] = sum over f, kz, ky, kx of w * y[n, f, oz, oy, :], one task per (n, c, iz, iy).

    Along the row, y[o] lands on i = o*stride + base; across rows, oz and oy exist only where the stride divides.
    """
    rows = g[at.SIZE] * g[at.SIZE + 1]
    stride, step = g[at.STRIDE + 2], g[at.STEP + 2]
    r = offset(work, thread * 2 * DIRECT_ROW)
    for task in range(first, last):
        image, i = task // rows, task % rows
        n, channel = image // (g[at.GROUPS] * g[at.CIN]), image % (g[at.GROUPS] * g[at.CIN])
        group, c, iz, iy = channel // g[at.CIN], channel % g[at.CIN], i // g[at.SIZE + 1], i % g[at.SIZE + 1]
        for i0 in range(0, g[at.SIZE + 2], DIRECT_ROW):
            i1 = min(i0 + DIRECT_ROW, g[at.SIZE + 2])
            clear(r, i1 - i0)
            for f in range(group * g[at.COUT], (group + 1) * g[at.COUT]):
                for kz in range(g[at.KERNEL]):
                    z = iz - kz * g[at.STEP] - g[at.ORIGIN]
                    oz = z // g[at.STRIDE]
                    if z % g[at.STRIDE] != 0 or oz < 0 or oz >= g[at.OUT]:
                        continue
                    for ky in range(g[at.KERNEL + 1]):
                        t = iy - ky * g[at.STEP + 1] - g[at.ORIGIN + 1]
                        oy = t // g[at.STRIDE + 1]
                        if t % g[at.STRIDE + 1] != 0 or oy < 0 or oy >= g[at.OUT + 1]:
                            continue
                        yi = n * g[at.Y_N] + f * g[at.Y_F] + oz * g[at.Y_O] + oy * g[at.Y_O + 1]
                        wo = f * g[at.W_F] + oz * g[at.W_O] + oy * g[at.W_O + 1]
                        wi = wo + c * g[at.W_C] + kz * g[at.W_K] + ky * g[at.W_K + 1]
                        for kx in range(g[at.KERNEL + 2]):
                            base = kx * step + g[at.ORIGIN + 2]
                            a, b = window(base, stride, i0, i1, g[at.OUT + 2])
                            if a < b:
                                add_products(r, a * stride + base - i0, stride, w,
                                             wi + a * g[at.W_O + 2] + kx * g[at.W_K + 2], g[at.W_O + 2], y,
                                             yi + a * g[at.Y_O + 2], g[at.Y_O + 2], b - a)  # fmt: skip
            start = n * g[at.X_N] + channel * g[at.X_C] + iz * g[at.X_I] + iy * g[at.X_I + 1] + i0 * g[at.X_I + 2]
            store(x, start, g[at.X_I + 2], r, 1, i1 - i0)


def weights(first: int, last: int, thread: int, x: P, w: P, y: P, work: P, g: P) -> None:
    """w[f, c, kz, ky, :] = sum over n, o of x * y, one task per (f, c, kz, ky)."""
    taps = g[at.KERNEL] * g[at.KERNEL + 1]
    r = offset(work, thread * 2 * DIRECT_ROW)
    for task in range(first, last):
        fc, k = task // taps, task % taps
        f, c, kz, ky = fc // g[at.CIN], fc % g[at.CIN], k // g[at.KERNEL + 1], k % g[at.KERNEL + 1]
        channel = f // g[at.COUT] * g[at.CIN] + c
        base_z, base_y = kz * g[at.STEP] + g[at.ORIGIN], ky * g[at.STEP + 1] + g[at.ORIGIN + 1]
        z0, z1 = window(base_z, g[at.STRIDE], 0, g[at.SIZE], g[at.OUT])
        y0, y1 = window(base_y, g[at.STRIDE + 1], 0, g[at.SIZE + 1], g[at.OUT + 1])
        for kx in range(g[at.KERNEL + 2]):
            base = kx * g[at.STEP + 2] + g[at.ORIGIN + 2]
            a, b = window(base, g[at.STRIDE + 2], 0, g[at.SIZE + 2], g[at.OUT + 2])
            total = zero(w)
            for n in range(g[at.BATCH]):
                for oz in range(z0, z1):
                    for oy in range(y0, y1):
                        xi = n * g[at.X_N] + channel * g[at.X_C] + (oz * g[at.STRIDE] + base_z) * g[at.X_I]
                        xi += (oy * g[at.STRIDE + 1] + base_y) * g[at.X_I + 1]
                        xi += (a * g[at.STRIDE + 2] + base) * g[at.X_I + 2]
                        yi = n * g[at.Y_N] + f * g[at.Y_F] + oz * g[at.Y_O] + oy * g[at.Y_O + 1] + a * g[at.Y_O + 2]
                        total += dot(x, xi, g[at.STRIDE + 2] * g[at.X_I + 2], y, yi, g[at.Y_O + 2], b - a, r)
            w[f * g[at.W_F] + c * g[at.W_C] + kz * g[at.W_K] + ky * g[at.W_K + 1] + kx * g[at.W_K + 2]] = total


def weights_unshared(first: int, last: int, thread: int, x: P, w: P, y: P, work: P, g: P) -> None:
    """w[f, oz, oy, :, c, kz, ky, kx] = sum over n of x * y, one task per (f, oz, oy); taps beyond the image get zero."""
    stride = g[at.STRIDE + 2]
    r = offset(work, thread * 2 * DIRECT_ROW)
    for task in range(first, last):
        f, oz, oy = task // (g[at.OUT] * g[at.OUT + 1]), task // g[at.OUT + 1] % g[at.OUT], task % g[at.OUT + 1]
        for c in range(g[at.CIN]):
            channel = f // g[at.COUT] * g[at.CIN] + c
            for kz in range(g[at.KERNEL]):
                for ky in range(g[at.KERNEL + 1]):
                    iz = oz * g[at.STRIDE] + kz * g[at.STEP] + g[at.ORIGIN]
                    iy = oy * g[at.STRIDE + 1] + ky * g[at.STEP + 1] + g[at.ORIGIN + 1]
                    inside = iz >= 0 and iz < g[at.SIZE] and iy >= 0 and iy < g[at.SIZE + 1]
                    for kx in range(g[at.KERNEL + 2]):
                        base = kx * g[at.STEP + 2] + g[at.ORIGIN + 2]
                        wo = f * g[at.W_F] + oz * g[at.W_O] + oy * g[at.W_O + 1]
                        wi = wo + c * g[at.W_C] + kz * g[at.W_K] + ky * g[at.W_K + 1]
                        for o0 in range(0, g[at.OUT + 2], DIRECT_ROW):
                            o1 = min(o0 + DIRECT_ROW, g[at.OUT + 2])
                            clear(r, o1 - o0)
                            a, b = window(base, stride, 0, g[at.SIZE + 2], g[at.OUT + 2])
                            a, b = max(a, o0), min(b, o1)
                            if inside and a < b:
                                xi = channel * g[at.X_C] + iz * g[at.X_I] + iy * g[at.X_I + 1]
                                xi += (a * stride + base) * g[at.X_I + 2]
                                yi = f * g[at.Y_F] + oz * g[at.Y_O] + oy * g[at.Y_O + 1] + a * g[at.Y_O + 2]
                                for n in range(g[at.BATCH]):
                                    add_products(r, a - o0, 1, x, xi + n * g[at.X_N], stride * g[at.X_I + 2], y,
                                                 yi + n * g[at.Y_N], g[at.Y_O + 2], b - a)  # fmt: skip
                            store(w, wi + kx * g[at.W_K + 2] + o0 * g[at.W_O + 2], g[at.W_O + 2], r, 1, o1 - o0)
